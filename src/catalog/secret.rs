//! The values of API keys: made, hashed, and never kept.

use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use super::error::EditError;
use super::kind::ID_PREFIX;
use crate::decide::plan::validate::KEY_VALUE_BYTES;
use crate::fingerprint::AlreadyHashed;

/// Begins every value that is made here, so that a leaked one is recognised.
pub const VALUE_PREFIX: &str = "tg_";

/// 160 bits.
const VALUE_RANDOM_BYTES: usize = 20;
/// 80 bits: ids are not secret, only distinct.
const ID_RANDOM_BYTES: usize = 10;
/// Digits of five bits, without those that people mix up.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The secret under which the values of API keys are hashed: who steals the hashes cannot try
/// values without it.
#[derive(Clone)]
pub struct HashKey(pub [u8; 32]);

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

impl HashKey {
    /// The hash of what a caller presented; `None` for what no API key can be, whatever its length.
    pub fn hash(&self, presented: &[u8]) -> Option<ValueHash> {
        let possible = KEY_VALUE_BYTES.contains(&presented.len());
        possible.then(|| ValueHash(*blake3::keyed_hash(&self.0, presented).as_bytes()))
    }

    /// Another secret, for a purpose whose name is shorter than any API key.
    pub(super) fn derive(&self, purpose: &[u8]) -> [u8; 16] {
        let mut derived = [0; 16];
        blake3::Hasher::new_keyed(&self.0).update(purpose).finalize_xof().fill(&mut derived);
        derived
    }
}

/// The keyed hash of the value of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueHash(pub [u8; 32]);

/// Its first bytes as they are: nobody without the secret can choose them.
impl Hash for ValueHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// A persistent map of what has a [`ValueHash`].
pub(super) type ByHash<K, V> = imbl::GenericHashMap<
    K,
    V,
    BuildHasherDefault<AlreadyHashed>,
    imbl::shared_ptr::DefaultSharedPtr,
>;

/// A new value of 160 random bits.
pub(super) fn new_value() -> Result<String, EditError> {
    Ok(format!("{VALUE_PREFIX}{}", random_digits::<VALUE_RANDOM_BYTES>()?))
}

/// A new id for an API key that was declared without one.
pub(super) fn new_id() -> Result<String, EditError> {
    Ok(format!("{ID_PREFIX}{}", random_digits::<ID_RANDOM_BYTES>()?))
}

fn random_digits<const BYTES: usize>() -> Result<String, EditError> {
    let mut random = [0_u8; BYTES];
    getrandom::fill(&mut random).map_err(|error| EditError::NoRandom(error.to_string()))?;
    Ok(digits(&random))
}

/// Five bits a digit. `bytes` is a multiple of five long, so that no bit is left over.
fn digits(bytes: &[u8]) -> String {
    let (groups, _) = bytes.as_chunks::<5>();
    let mut text = String::with_capacity(groups.len() * 8);
    for &[a, b, c, d, e] in groups {
        let bits = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        for place in (0..8).rev() {
            let digit = usize::try_from(bits >> (5 * place) & 31).unwrap_or_default();
            text.push(char::from(DIGITS.get(digit).copied().unwrap_or_default()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_carry_every_bit() {
        assert_eq!(digits(&[0; 5]), "00000000");
        assert_eq!(digits(&[0xff; 5]), "zzzzzzzz");
        assert_eq!(digits(&[0, 0, 0, 0, 1, 0x80, 0, 0, 0, 0]), "00000001g0000000");
    }

    #[test]
    fn made_values_are_distinct_and_recognisable() {
        let (one, other) = (new_value().unwrap(), new_value().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 35);
        assert!(one.starts_with("tg_"));
        assert_ne!(new_id().unwrap(), new_id().unwrap());
    }

    #[test]
    fn what_no_key_can_be_is_not_hashed() {
        let key = HashKey([7; 32]);
        for (length, possible) in
            [(0, false), (19, false), (20, true), (128, true), (129, false), (1 << 20, false)]
        {
            assert_eq!(key.hash(&vec![b'x'; length]).is_some(), possible, "{length} bytes");
        }
        assert_ne!(key.hash(&[b'x'; 20]), HashKey([8; 32]).hash(&[b'x'; 20]), "the secret matters");
        assert_eq!(format!("{key:?}"), "HashKey(..)");
    }
}
