//! Operation ids over a restart: a clean stop leaves the admissions of the last minute to the next
//! start, with their answers. A gateway retries exactly when its server restarts.

use super::lease_broker::LeaseBroker;
use super::stored::StoredForms;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::plans::{KeptOperation, REMEMBERED_NS};
use crate::ledger::{LedgerError, Once, OnceKind, Remember};

/// How an admission is written. Another way gets another number, and is not read by this one.
const WRITTEN_AS: u8 = 1;
/// In one transaction.
const AT_ONCE: usize = 10_000;

impl LeaseBroker {
    /// Writes the newest admissions that are remembered by an operation id. Blocks until the ledger
    /// has them.
    ///
    /// # Errors
    /// The ledger did not take them: their retries are charged again.
    pub(super) fn keep_operations(&self) -> Result<(), LedgerError> {
        let Some(forms) = self.forms else { return Ok(()) };
        let now = self.clock.now();
        let most = usize::try_from(OnceKind::Check.max_kept()).unwrap_or(usize::MAX);
        let kept = self.engine.remembered_operations(most, now);
        for some in kept.chunks(AT_ONCE) {
            let operations = some.iter().map(|kept| once(forms, kept, now)).collect();
            self.ledger.call(Remember { operations })?;
        }
        Ok(())
    }

    /// Remembers what the last run has written, for what is left of its minute: the time in between
    /// counts, by the wall clock. What cannot be read is forgotten, as after a crash.
    pub(super) fn restore_operations(&self, now: Now) -> Result<(), LedgerError> {
        let Some(forms) = self.forms else { return Ok(()) };
        let after_s = (now.unix_ns.saturating_sub(REMEMBERED_NS) / SECOND_NS).saturating_sub(1);
        self.ledger.ledger().load_made(OnceKind::Check, after_s, &mut |id, made| {
            if let Some((until_unix_ns, written)) = read(&made.note)
                && let Some(decision) = forms.read_admission(written)
            {
                // A clock that was set back lets nothing live longer than it would have.
                let left_ns = until_unix_ns.saturating_sub(now.unix_ns).min(REMEMBERED_NS);
                let until_ns = now.steady_ns.saturating_add(left_ns);
                self.engine.restore_operation(
                    KeptOperation { id, fields: made.fields, decision, until_ns },
                    now,
                );
            }
        })
    }
}

fn once(forms: &dyn StoredForms, kept: &KeptOperation, now: Now) -> Once {
    let until_unix_ns = now.unix_ns.saturating_add(kept.until_ns.saturating_sub(now.steady_ns));
    Once {
        kind: OnceKind::Check,
        name: kept.id,
        fields: kept.fields,
        note: write(until_unix_ns, &forms.write_admission(&kept.decision)),
        now_s: now.unix_s(),
    }
}

fn write(until_unix_ns: u64, admission: &[u8]) -> Vec<u8> {
    [&[WRITTEN_AS], &until_unix_ns.to_le_bytes()[..], admission].concat()
}

/// Until when it is remembered, and the admission.
fn read(written: &[u8]) -> Option<(u64, &[u8])> {
    let (until_unix_ns, admission) = written.strip_prefix(&[WRITTEN_AS])?.split_first_chunk()?;
    Some((u64::from_le_bytes(*until_unix_ns), admission))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_comes_back_as_it_was_written_and_not_cut() {
        let written = write(99, b"admission");
        assert_eq!(read(&written), Some((99, b"admission".as_slice())));
        for cut in 0..9 {
            assert_eq!(read(&written[..cut]), None, "{cut}");
        }
        assert_eq!(read(&[2; 40]), None, "written in another way");
    }
}
