//! The damaged rows that were met: told once each, and shown for as long as they are there.

use std::collections::BTreeSet;
use std::path::Path;

use parking_lot::Mutex;

use super::checksum::{BadRow, resource_key};
use crate::ledger::Operation;

/// More are not told one by one.
pub(super) const MAX_TOLD: usize = 1_000;

/// What to do about damaged rows.
pub(super) const ADVICE: &str = "`tollgate ledger check` names all of them. Restore a backup, or declare a damaged plan, target, subscriber or API key again";

const MEND: &str = "Stop the service and restore a backup";

/// The first of many mistakes.
pub(super) fn summary(mistakes: &[String]) -> Option<String> {
    let first =
        mistakes.iter().flat_map(|text| text.lines()).find(|line| !line.starts_with("***"))?;
    let more = mistakes.len().saturating_sub(1);
    Some(if more > 0 { format!("{first} (and {more} more)") } else { first.to_owned() })
}

/// Damaged rows that were met.
#[derive(Debug, Default)]
pub(super) struct Damage {
    rows: Mutex<BTreeSet<BadRow>>,
    /// What is wrong with the structure of the file.
    structure: Mutex<Option<String>>,
}

impl Damage {
    pub(super) fn note(&self, bad: &BadRow) {
        let mut rows = self.rows.lock();
        if rows.len() >= MAX_TOLD || rows.contains(bad) {
            return;
        }
        tracing::error!(
            table = bad.table,
            row = bad.key,
            "{bad}: it is not used, and what needs it is refused. {ADVICE}"
        );
        rows.insert(bad.clone());
    }

    pub(super) fn note_structure(&self, path: &Path, mistakes: &[String]) {
        let Some(what) = summary(mistakes) else { return };
        let what = format!(
            "the structure of the ledger {} is damaged, and counts may be missing: {what}. {MEND}",
            path.display()
        );
        tracing::error!("{what}");
        *self.structure.lock() = Some(what);
    }

    /// A resource that is written whole again is damaged no more.
    pub(super) fn mended_by(&self, operations: &[Operation]) {
        let mut rows = self.rows.lock();
        if rows.is_empty() {
            return;
        }
        let edits = operations.iter().filter_map(|operation| {
            if let Operation::Edit(edit) = operation { Some(edit) } else { None }
        });
        for change in edits.flat_map(|edit| &edit.changes) {
            let name = resource_key(change.kind.into(), &change.id);
            rows.retain(|bad| bad.table != "catalog" || bad.key != name);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.rows.lock().len()
    }

    /// For health.
    pub(super) fn concern(&self) -> Option<String> {
        if let Some(what) = &*self.structure.lock() {
            return Some(what.clone());
        }
        let rows = self.rows.lock();
        let first = rows.first()?;
        let more =
            if rows.len() > 1 { format!(" (and {} more)", rows.len() - 1) } else { String::new() };
        Some(format!(
            "the ledger has damaged rows, and refuses what needs them: {first}{more}. {ADVICE}"
        ))
    }
}
