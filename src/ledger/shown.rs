//! Operations as the log names them: what an operator can look for.

use super::{Counter, CounterIdentity, Mark, Operation};

impl Operation {
    /// What it is, and about what. No API key's value is in it: the ledger knows none.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Lease(request) => format!(
                "a lease of {}, period from {}",
                of(&request.counter),
                request.period.start_s()
            ),
            Self::GiveBack(back) => format!(
                "units given back to the counter {}, period from {}",
                back.counter.0, back.period_start_s
            ),
            Self::Settle(settle) => {
                let Mark { holder, shard, seq, .. } = settle.mark;
                format!(
                    "a correction of the receipt {seq} of shard {shard}, holder {}, epoch {}",
                    holder.id, holder.epoch
                )
            }
            Self::Charge(request) => format!(
                "a charge to {}, period from {}",
                of(&request.counter),
                request.period.start_s()
            ),
            Self::Grant(request) => format!(
                "a grant to {}, period from {}",
                of(&request.counter),
                request.period.start_s()
            ),
            Self::Edit(edit) => format!("an edit of the catalog, revision {}", edit.revision),
            Self::Daily(report) => format!("{} rows of daily statistics", report.rows.len()),
            Self::Names(report) => format!("{} names of receipts", report.names.len()),
            Self::Windows(report) => format!("{} windows of rules", report.rows.len()),
            Self::Remember(remember) => {
                format!("{} operation ids of a clean stop", remember.operations.len())
            }
            Self::Expire(_) => "dropping what is old".to_owned(),
        }
    }
}

fn of(counter: &Counter) -> String {
    match counter {
        Counter::Known(id) => format!("the counter {}", id.0),
        Counter::Named(CounterIdentity { subscriber, plan, entitlement, quota, .. }) => {
            format!(
                "the quota `{}` of `{subscriber}` (plan `{plan}`, entitlement `{entitlement}`)",
                quota.name
            )
        }
    }
}
