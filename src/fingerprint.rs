//! 128-bit fingerprints of names, in the place of the names themselves as keys of maps.
//!
//! A fingerprint is a SipHash-1-3-128 under a secret key: two names that share one are not to be
//! expected in the life of the universe, and nobody without the key can look for them. The name
//! itself, of any length, is not kept.

use std::hash::{Hash, Hasher};

use siphasher::sip128::{Hash128, Hasher128, SipHasher13};

/// What a name is known by. Two words: a `u128` would make every entry of a map a multiple of 16
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint {
    high: u64,
    low: u64,
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash64());
    }
}

impl From<Hash128> for Fingerprint {
    fn from(hash: Hash128) -> Self {
        Self { high: hash.h1, low: hash.h2 }
    }
}

impl Fingerprint {
    /// What a map places an entry by.
    pub(crate) fn hash64(&self) -> u64 {
        self.high ^ self.low
    }

    /// What a table picks a shard by: not what it places the entry by within the shard.
    pub(crate) fn shard(&self) -> u64 {
        self.high
    }

    /// Bits for other uses, from the lowest on: tables take the highest of [`Self::shard`].
    pub(crate) fn spread(&self) -> u64 {
        self.high >> 8
    }

    /// As windows of rules are kept in the ledger.
    pub(crate) fn to_be_bytes(self) -> [u8; 16] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_be_bytes()
    }

    pub(crate) fn from_be_bytes(bytes: [u8; 16]) -> Self {
        let whole = u128::from_be_bytes(bytes);
        let low = u64::try_from(whole & u128::from(u64::MAX)).unwrap_or_default();
        Self { high: u64::try_from(whole >> 64).unwrap_or_default(), low }
    }

    /// As operations of plans are kept in the ledger.
    pub(crate) fn to_le_bytes(self) -> [u8; 16] {
        let mut bytes = self.to_be_bytes();
        bytes.reverse();
        bytes
    }

    pub(crate) fn from_le_bytes(mut bytes: [u8; 16]) -> Self {
        bytes.reverse();
        Self::from_be_bytes(bytes)
    }
}

/// Makes fingerprints: under one key the same name always has the same one.
#[derive(Clone, Debug)]
pub(crate) struct Fingerprinter([u8; 16]);

impl Fingerprinter {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// Under a key that is made of a secret, and of what it is for: others may use the same secret.
    pub(crate) fn keyed(secret: &[u8; 16], purpose: &[u8]) -> Self {
        Self(SipHasher13::new_with_key(secret).hash(purpose).as_bytes())
    }

    /// Of a text, which is hashed in one go. Whoever writes it keeps its parts apart.
    pub(crate) fn of(&self, text: &[u8]) -> Fingerprint {
        SipHasher13::new_with_key(&self.0).hash(text).into()
    }

    /// Of a list of parts; where one ends is part of it. `tag` keeps the kinds of lists apart.
    pub(crate) fn of_parts(&self, tag: u8, parts: &[&[u8]]) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u8(tag);
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish128().into()
    }
}

/// For keys of maps that are as good as hashes, because nobody without a secret can choose them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    /// Ledgers hold fingerprints: what an earlier version wrote must be found by a later one. The
    /// numbers are of another implementation of SipHash-1-3-128.
    #[test]
    fn what_is_kept_in_ledgers_stays_as_it_is() {
        let window = Fingerprinter::keyed(&KEY, b"of windows").of(b"name");
        let kept = 0x4eb2_ef3e_0340_6e6b_b450_ed11_97c8_b785_u128.to_be_bytes();
        assert_eq!((window.to_be_bytes(), Fingerprint::from_be_bytes(kept)), (kept, window));
        let operation = Fingerprinter::new(KEY).of_parts(b'b', &[b"ab", b""]);
        let kept = 0x7553_0091_b237_181d_769f_e4db_64f3_d179_u128.to_be_bytes();
        assert_eq!((operation.to_le_bytes(), Fingerprint::from_le_bytes(kept)), (kept, operation));
    }

    #[test]
    fn where_a_part_ends_is_part_of_a_name() {
        let of = |tag, parts: &[&[u8]]| Fingerprinter::new(KEY).of_parts(tag, parts);
        let all = [
            of(b'a', &[b"ab", b"c"]),
            of(b'a', &[b"a", b"bc"]),
            of(b'a', &[b"abc"]),
            of(b'b', &[b"abc"]),
        ];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "{place}");
        }
    }
}
