//! What lists of rows are read with: whose, names that are kept once, and damaged rows that are left
//! out and told of.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};

use super::checksum::BadRow;
use super::codes::is_unreadable;
use crate::decide::compiled::QuotaIdentity;
use crate::decide::plan::Id;
use crate::ledger::Scope;

/// Is told of each damaged row that a list leaves out. An error ends the list.
pub(super) type OnBad<'a> = &'a mut dyn FnMut(BadRow) -> Result<()>;

/// For lists that leave out nothing that is there.
pub(super) fn refuse(bad: BadRow) -> Result<()> {
    Err(bad.into())
}

/// The value of a row, unless the row is damaged.
pub(super) fn sound<T>(
    value: Result<T>,
    table: &'static str,
    key: impl FnOnce() -> String,
    on_bad: OnBad<'_>,
) -> Result<Option<T>> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(wrong) => match BadRow::of(&wrong) {
            Some(bad) => on_bad(bad.clone()).map(|()| None),
            None if is_unreadable(&wrong) => {
                on_bad(BadRow { table, key: key(), what: Some(wrong.to_string()) }).map(|()| None)
            }
            None => Err(wrong),
        },
    }
}

/// A condition on the third parameter, and the parameter. `key <> ''` lets SQLite use the index of
/// keys.
pub(super) fn column(scope: &Scope) -> Option<(&'static str, &str)> {
    match scope {
        Scope::All => None,
        Scope::Subscriber(id) => Some(("subscriber = ?3", id)),
        Scope::Key(id) => Some(("key = ?3 AND key <> ''", id)),
        Scope::Plan(id) => Some(("plan = ?3", id)),
    }
}

/// As many as a list has, at most.
const COLUMNS: usize = 16;

/// Names that many counters share are kept once.
#[derive(Default)]
pub(super) struct Names {
    ids: HashMap<Box<str>, Id>,
    quotas: HashMap<QuotaIdentity, Arc<QuotaIdentity>>,
    /// The name of the row before, by column: the rows of one subscriber lie together, and most of
    /// a plan's counters are alike.
    before: [Option<Id>; COLUMNS],
    quota_before: Option<Arc<QuotaIdentity>>,
}

impl Names {
    pub(super) fn id(&mut self, row: &Row<'_>, column: usize) -> Result<Id> {
        self.again(row, column, |names, name| {
            let known = names.ids.get(name).cloned();
            known.unwrap_or_else(|| {
                let id = Id::from(name);
                names.ids.insert(name.into(), Arc::clone(&id));
                id
            })
        })
    }

    /// A name that only neighbours share: there are as many as there are subscribers.
    pub(super) fn own(&mut self, row: &Row<'_>, column: usize) -> Result<Id> {
        self.again(row, column, |_, name| Id::from(name))
    }

    fn again(
        &mut self,
        row: &Row<'_>,
        column: usize,
        make: impl FnOnce(&mut Self, &str) -> Id,
    ) -> Result<Id> {
        let name = row.get_ref(column)?.as_str().map_err(|_| not_text(column))?;
        if let Some(Some(before)) = self.before.get(column)
            && **before == *name
        {
            return Ok(Arc::clone(before));
        }
        let id = make(self, name);
        if let Some(before) = self.before.get_mut(column) {
            *before = Some(Arc::clone(&id));
        }
        Ok(id)
    }

    pub(super) fn quota(&mut self, quota: QuotaIdentity) -> Arc<QuotaIdentity> {
        if let Some(before) = self.quota_before.as_ref().filter(|before| ***before == quota) {
            return Arc::clone(before);
        }
        let quota = self.quotas.entry(quota).or_insert_with_key(|quota| Arc::new(quota.clone()));
        self.quota_before = Some(Arc::clone(quota));
        Arc::clone(quota)
    }
}

pub(super) fn not_text(column: usize) -> Error {
    Error::InvalidColumnType(column, "a name".to_owned(), Type::Text)
}

/// What names a counter, for people, as far as it can be read.
pub(super) fn named_counter(row: &Row<'_>, id: u64, subscriber: usize, quota: usize) -> String {
    let text = |column| {
        row.get_ref(column)
            .ok()
            .and_then(|value| Some(value.as_str().ok()?.escape_debug().to_string()))
            .unwrap_or_default()
    };
    format!("(id {id}, subscriber `{}`, quota `{}`)", text(subscriber), text(quota))
}
