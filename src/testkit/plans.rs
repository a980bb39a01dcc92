//! What tests ask of an engine of plans in one call, by what the program calls.

use crate::decide::ledger::GiveBack;
use crate::decide::lookup::Lookup;
use crate::decide::time::Now;
use crate::decide::verdict::{Decision, Reason};
use crate::engine::plans::{
    CheckInput, Checked, Committed, Correction, InvalidRequest, PlanEngine, Settlement, Shortage,
};

/// For engines of plans.
pub trait AsksPlans {
    /// A decision, or what it needs.
    ///
    /// # Errors
    /// The request cannot be decided, whoever the caller is.
    fn check_or_need<'a>(
        &self,
        lookup: &'a impl Lookup,
        request: &CheckInput<'_>,
        shortage: Shortage,
        now: Now,
    ) -> Result<Checked<'a>, InvalidRequest>;

    /// Applies all changes of a correction, and answers the report.
    fn apply_correction(
        &self,
        correction: &Correction,
        committed: &[Committed],
        now: Now,
    ) -> Settlement;

    /// Lets go of all unspent units under a plan at once.
    fn take_back(&self, plan: &str) -> Vec<GiveBack>;
}

impl AsksPlans for PlanEngine {
    fn check_or_need<'a>(
        &self,
        lookup: &'a impl Lookup,
        request: &CheckInput<'_>,
        shortage: Shortage,
        now: Now,
    ) -> Result<Checked<'a>, InvalidRequest> {
        let mut decision = Decision::refused(Reason::LedgerUnavailable, None);
        let needs = self.check_into(lookup, None, request, shortage, now, &mut decision)?;
        Ok(needs.map_or(Checked::Decided(decision), Checked::Needs))
    }

    fn apply_correction(
        &self,
        correction: &Correction,
        committed: &[Committed],
        now: Now,
    ) -> Settlement {
        for (change, committed) in correction.changes.iter().zip(committed) {
            self.apply_change(change, *committed, now);
        }
        self.conclude_correction(correction, committed, now)
    }

    fn take_back(&self, plan: &str) -> Vec<GiveBack> {
        let (holding, _) = self.leases().holding(plan, usize::MAX, usize::MAX);
        self.leases().take_back_from(&holding)
    }
}
