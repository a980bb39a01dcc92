//! Tokens: made, shown once, and kept as a hash.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Begins every token that is made here, so that a leaked one is recognised.
pub const TOKEN_PREFIX: &str = "tgt_";

/// 192 bits: nobody finds a token by trying, not even one who has its hash. That is why a fast hash
/// will do, without salt.
const RANDOM_BYTES: usize = 24;

/// What is longer is no token, and is not hashed.
const LONGEST: usize = 256;

/// Begins a hash in the file.
const HASH_PREFIX: &str = "blake3:";

/// A new token.
pub struct Token(String);

impl Token {
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut random = [0_u8; RANDOM_BYTES];
        getrandom::fill(&mut random)?;
        Ok(Self(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random))))
    }

    /// The token itself, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash(blake3::hash(self.0.as_bytes()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The BLAKE3 hash of a token. Two of them are compared in constant time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash(blake3::Hash);

impl TokenHash {
    /// Of what a caller presented; `None` for what no token can be.
    pub(super) fn of(presented: &[u8]) -> Option<Self> {
        (1..=LONGEST).contains(&presented.len()).then(|| Self(blake3::hash(presented)))
    }

    /// `blake3:` and 64 hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text.strip_prefix(HASH_PREFIX)?).ok().map(Self)
    }

    pub(super) fn first_bytes(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = *self.0.as_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HASH_PREFIX}{}", self.0.to_hex())
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}
