//! Receipts: the state of one charge, in a short string that the gateway keeps for us.
//!
//! Strict base64url without padding, of: a version, then unsigned integers of 7 bits a byte (the
//! holder, its epoch, the ledger shard, the sequence number, the key, the target, the time of issue
//! in microseconds, the cost, and for each quota its counter, the start of its period in seconds,
//! and how it is counted), then the first 16 bytes of a keyed BLAKE3 over all that. There is one
//! string for one charge: integers have their shortest form, and unused bits are 0.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use constant_time_eq::constant_time_eq_16;
use smallvec::SmallVec;

use crate::decide::ledger::Holder;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 16;
/// The longest receipt, in characters.
pub const MAX_CHARS: usize = 400;
/// Bytes of the longest receipt.
const MAX_BYTES: usize = 300;
/// The most quotas in one receipt.
pub(super) const MAX_QUOTAS: usize = 16;
/// Strict: no padding, and no bits behind the last byte.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) holder: Holder,
    pub(super) shard: u8,
    pub(super) seq: u64,
    /// Number of the API key; 0 is not known.
    pub(super) key: u32,
    /// Number of the target; 0 is not known.
    pub(super) target: u32,
    /// Microseconds since the Unix epoch.
    pub(super) issued_us: u64,
    pub(super) cost: u64,
    pub(super) charges: SmallVec<[Charged; 4]>,
}

/// One quota in a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charged {
    /// Number of the counter, below 2^49.
    pub(super) counter: u64,
    /// Seconds since the Unix epoch.
    pub(super) period_start_s: u64,
    /// Number of the count rule that the request was admitted under, below 2^13.
    pub(super) rule: u32,
    /// Not charged yet.
    pub(super) at_report: bool,
}

impl Receipt {
    /// The string. `None`: more quotas than a receipt may carry.
    pub(super) fn seal(&self, key: &[u8; 32]) -> Option<String> {
        let mut bytes: SmallVec<[u8; 128]> = SmallVec::new();
        bytes.push(VERSION);
        let head = [
            self.holder.id.into(),
            self.holder.epoch.into(),
            self.shard.into(),
            self.seq,
            self.key.into(),
            self.target.into(),
        ];
        head.into_iter()
            .chain([self.issued_us, self.cost])
            .for_each(|value| put(&mut bytes, value));
        if self.charges.len() > MAX_QUOTAS {
            return None;
        }
        for charged in &self.charges {
            put(&mut bytes, charged.counter);
            put(&mut bytes, charged.period_start_s);
            put(&mut bytes, u64::from(charged.rule) << 1 | u64::from(charged.at_report));
        }
        let mac = blake3::keyed_hash(key, &bytes);
        bytes.extend(mac.as_bytes().iter().copied().take(MAC_BYTES));
        Some(BASE64.encode(&bytes))
    }

    /// Reads a string that [`Self::seal`] made with the same key. `None`: it is forged, altered or
    /// truncated.
    pub(super) fn open(sealed: &[u8], key: &[u8; 32]) -> Option<Self> {
        if sealed.len() > MAX_CHARS {
            return None;
        }
        let mut buffer = [0; MAX_BYTES + 3];
        let length = BASE64.decode_slice(sealed, &mut buffer).ok()?;
        let (body, mac) = buffer.get(..length)?.split_last_chunk::<MAC_BYTES>()?;
        let computed = blake3::keyed_hash(key, body);
        if !constant_time_eq_16(mac, computed.as_bytes().first_chunk()?) {
            return None;
        }
        let mut rest = body.strip_prefix(&[VERSION])?;
        let mut next = || take(&mut rest);
        let mut receipt = Self {
            holder: Holder { id: next()?.try_into().ok()?, epoch: next()?.try_into().ok()? },
            shard: next()?.try_into().ok()?,
            seq: next()?,
            key: next()?.try_into().ok()?,
            target: next()?.try_into().ok()?,
            issued_us: next()?,
            cost: next()?,
            charges: SmallVec::new(),
        };
        while !rest.is_empty() {
            let (counter, period_start_s, how) =
                (take(&mut rest)?, take(&mut rest)?, take(&mut rest)?);
            receipt.charges.push(Charged {
                counter,
                period_start_s,
                rule: (how >> 1).try_into().ok()?,
                at_report: how & 1 == 1,
            });
        }
        Some(receipt)
    }
}

fn put(bytes: &mut SmallVec<[u8; 128]>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    bytes.push(low_byte(value));
}

fn low_byte(value: u64) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or_default()
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value: u64 = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part.leading_zeros() < shift {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            return (byte != 0 || shift == 0).then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
