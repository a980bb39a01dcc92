//! Rows as columns: PostgreSQL takes many rows at once as one list for each column.

use super::texts::written;
use crate::ledger::CounterIdentity;
use crate::ledger::codes::{unit, weekday};

/// What names counters, by columns: subscriber, key, plan, entitlement, quota, unit, time zone and
/// week start.
#[derive(Debug, Default)]
pub(super) struct Identities {
    pub(super) columns: [Vec<String>; 8],
}

impl Identities {
    pub(super) fn of<'a>(identities: impl IntoIterator<Item = &'a CounterIdentity>) -> Self {
        let mut columns: [Vec<String>; 8] = Default::default();
        for CounterIdentity { subscriber, key, plan, entitlement, quota } in identities {
            let key = key.as_deref().unwrap_or_default();
            let names = [subscriber, key, plan, entitlement, &*quota.name];
            let [one, two, three, four, five] = names.map(|name| written(name).into_owned());
            let zone = written(&quota.time_zone).into_owned();
            let (unit, week_start) = (unit(quota.unit), weekday(quota.week_start));
            let row = [one, two, three, four, five, unit.into(), zone, week_start.into()];
            columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        Self { columns }
    }
}
