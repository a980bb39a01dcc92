//! Which rows a list shows, and in which order.

use super::{LedgerError, Secrets, Whose};

/// Which part of a list.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Periods that overlap this second and later ones,
    pub from_s: u64,
    /// up to this, which is not included.
    pub until_s: u64,
    /// The first whose periods are wanted.
    pub first: Whose,
    /// After so many rows it ends before the next subscriber or key.
    pub most: usize,
}

impl Secrets {
    /// Fresh ones.
    pub(super) fn generate() -> Result<Self, LedgerError> {
        let mut secrets = Self { receipt_key: [0; 32], key_hash: [0; 32], fingerprint: [0; 16] };
        for bytes in
            [&mut secrets.receipt_key[..], &mut secrets.key_hash[..], &mut secrets.fingerprint[..]]
        {
            getrandom::fill(bytes).map_err(|wrong| {
                LedgerError::Fault(format!("the system gives no random bytes: {wrong}"))
            })?;
        }
        Ok(secrets)
    }
}
