//! The ledger's small integers for count rules, so that a receipt can carry them. They outlive the
//! quotas that they are of.

use foldhash::quality::RandomState;

use crate::decide::outcome::CountRule;
use crate::engine::sync::DashMap;

/// Count rules by their integers, and the other way round.
#[derive(Debug, Default)]
pub(super) struct CountRules {
    by_rule: DashMap<CountRule, u16, RandomState>,
    by_number: DashMap<u16, CountRule, RandomState>,
}

impl CountRules {
    /// Takes over a number that the ledger has drawn.
    pub(super) fn learn(&self, number: u16, rule: CountRule) {
        if self.by_number.get(&number).is_none_or(|known| *known != rule) {
            self.by_number.insert(number, rule);
            self.by_rule.insert(rule, number);
        }
    }

    /// The number of a rule, if it has one.
    pub(super) fn number(&self, rule: &CountRule) -> Option<u16> {
        self.by_rule.get(rule).map(|number| *number)
    }

    /// The rule of a number, if it was learned.
    pub(super) fn rule(&self, number: u16) -> Option<CountRule> {
        self.by_number.get(&number).map(|rule| *rule)
    }
}
