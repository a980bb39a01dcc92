//! A start: what the ledger kept is taken over, one thread reading and one taking over.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::mpsc::{Receiver, sync_channel};

use super::lease_broker::LeaseBroker;
use crate::decide::lookup::Lookup;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::durable_rules::DurableRuleEngine;
use crate::engine::plans::{Need, PlanEngine};
use crate::ledger::{Ledger, LedgerError, PeriodRow};

/// Counters that get a lease at start.
const MAX_WARM: usize = 50_000;
/// Rows that are handed from the one thread to the other at once, and how many times so many may
/// wait.
const AT_ONCE: usize = 1_024;
const MAX_WAITING: usize = 8;

impl LeaseBroker {
    /// Takes over the running periods, at start: an exhausted counter then answers from memory.
    /// Those of durable rules are `durable`'s. Gives what should be leased before anyone asks, for
    /// the counters that were active last.
    ///
    /// # Errors
    /// The ledger cannot be read, or the system gives no thread.
    pub fn restore(
        &self,
        lookup: &impl Lookup,
        durable: &DurableRuleEngine,
    ) -> Result<Vec<Need>, LedgerError> {
        let now = self.clock.now();
        // Those that are over are not taken over, and of those that were dropped nobody knows.
        let dropped_to_ns =
            self.ledger.ledger().times()?.periods_dropped_to_s.saturating_mul(SECOND_NS);
        let over_to_ns = now.unix_ns.max(dropped_to_ns);
        self.engine.leases().ask_of_periods_to(over_to_ns);
        durable.leases().ask_of_periods_to(over_to_ns);
        let needs = restore(&self.engine, durable, &**self.ledger.ledger(), lookup, now)?;
        self.restore_receipts(now)?;
        self.restore_operations(now)?;
        Ok(needs)
    }
}

pub(super) fn restore(
    engine: &PlanEngine,
    durable: &DurableRuleEngine,
    ledger: &dyn Ledger,
    lookup: &impl Lookup,
    now: Now,
) -> Result<Vec<Need>, LedgerError> {
    for (number, rule) in ledger.load_count_rules()? {
        engine.leases().restore_rule(number, rule);
    }
    let (hand_over, handed) = sync_channel(MAX_WAITING);
    let active = std::thread::scope(|scope| {
        let taking = std::thread::Builder::new().name("restore".to_owned());
        let taking = taking.spawn_scoped(scope, || take_over(engine, durable, handed, now));
        let taking = taking
            .map_err(|wrong| LedgerError::Fault(format!("the system gives no thread: {wrong}")))?;
        let mut some = Vec::with_capacity(AT_ONCE);
        // An error means that the other thread has ended, which is told below.
        ledger.load_live(now.unix_s(), &mut |row| {
            some.push(row);
            if some.len() == AT_ONCE {
                let _ = hand_over.send(std::mem::replace(&mut some, Vec::with_capacity(AT_ONCE)));
            }
        })?;
        let _ = hand_over.send(some);
        drop(hand_over);
        taking.join().map_err(|_| LedgerError::Fault("what was kept was not taken over".to_owned()))
    })?;
    Ok(active
        .into_iter()
        .filter_map(|Reverse(Active(row))| engine.warm(lookup, &row, now))
        .collect())
}

/// A counter, ordered by when it was active.
struct Active(PeriodRow);

/// Gives those that were active last.
fn take_over(
    engine: &PlanEngine,
    durable: &DurableRuleEngine,
    handed: Receiver<Vec<PeriodRow>>,
    now: Now,
) -> BinaryHeap<Reverse<Active>> {
    let mut active: BinaryHeap<Reverse<Active>> = BinaryHeap::new();
    for row in handed.into_iter().flatten() {
        // No room: the counter is cold then, and asks the ledger when it is touched.
        if row.identity.is_of_rule() {
            let _ = durable.leases().restore(&row, now);
            continue;
        }
        if engine.leases().restore(&row, now).is_err() {
            continue;
        }
        if !row.period.contains(now.unix_ns) {
            // Of a time to come, by a clock that was wrong: nobody asks for it now.
            continue;
        }
        if active.len() < MAX_WARM {
            active.push(Reverse(Active(row)));
        } else if active.peek().is_some_and(|Reverse(Active(least))| least.active_s < row.active_s)
        {
            active.pop();
            active.push(Reverse(Active(row)));
        }
    }
    active
}

impl PartialEq for Active {
    fn eq(&self, other: &Self) -> bool {
        self.0.active_s == other.0.active_s
    }
}

impl Eq for Active {}

impl PartialOrd for Active {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Active {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.active_s.cmp(&other.0.active_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::calendar::Period;
    use crate::decide::compiled::QuotaIdentity;
    use crate::decide::plan::{Id, PeriodUnit, Weekday};
    use crate::engine::leases::BookSettings;
    use crate::engine::plans::Settings;
    use crate::ledger::{CounterId, CounterIdentity};
    use std::sync::Arc;

    #[test]
    fn those_that_were_active_last_are_leased_for_and_all_are_there() {
        let engine = PlanEngine::new(Settings { ..Settings::new([7; 32], [9; 16]) });
        let durable = DurableRuleEngine::new([9; 16], BookSettings::new(engine.leases().holder()));
        let name = Id::from("UTC");
        let quota = Arc::new(QuotaIdentity {
            name: name.clone(),
            unit: PeriodUnit::Day,
            time_zone: name.clone(),
            week_start: Weekday::Monday,
        });
        let many = MAX_WARM as u64 + 10;
        let row = |number: u64| PeriodRow {
            counter: CounterId(number + 1),
            identity: CounterIdentity {
                subscriber: number.to_string().into(),
                key: None,
                plan: name.clone(),
                entitlement: name.clone(),
                quota: quota.clone(),
            },
            period: Period::of_seconds(0, 86_400),
            charged: 5,
            granted: 0,
            lost: 0,
            held: 0,
            // In no order: 7 and the bound have no common divisor.
            active_s: number * 7 % many,
        };
        let (hand_over, handed) = sync_channel(1);
        let active = std::thread::scope(|scope| {
            let taking = scope.spawn(|| {
                take_over(&engine, &durable, handed, Now { unix_ns: SECOND_NS, steady_ns: 1 })
            });
            hand_over.send((0..many / 2).map(row).collect()).unwrap();
            hand_over.send((many / 2..many).map(row).collect()).unwrap();
            drop(hand_over);
            taking.join().unwrap()
        });
        assert_eq!(engine.leases().live_entries() as u64, many);
        let mut times: Vec<u64> = active.iter().map(|Reverse(Active(row))| row.active_s).collect();
        times.sort_unstable();
        assert_eq!(times, (10..many).collect::<Vec<_>>());
    }
}
