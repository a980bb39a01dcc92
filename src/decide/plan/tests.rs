use super::*;
use crate::testkit::declared;

fn quota(name: &str, limit: u64) -> Quota {
    declared::quota(name, limit, PeriodUnit::Day)
}

fn plan(name: &str, quotas: Vec<Quota>) -> Plan {
    declared::plan("gold", vec![Entitlement { quotas, ..declared::entitlement(name, &["t"]) }])
}

/// A change of a plan with a quota of 10 a day.
type Change = fn(&mut Plan);

#[test]
fn a_plan_lowers_where_a_quota_may_be_used_less_than_before() {
    let before = plan("all", vec![quota("daily", 10)]);
    let lowers: [(&str, Change); 9] = [
        ("a unit less", |plan| plan.entitlements[0].quotas[0].limit = 9),
        ("another name", |plan| plan.entitlements[0].quotas[0].name = "day".into()),
        ("another unit", |plan| plan.entitlements[0].quotas[0].unit = PeriodUnit::Year),
        ("another zone", |plan| plan.entitlements[0].quotas[0].time_zone = "Asia/Seoul".into()),
        ("another breach", |plan| plan.entitlements[0].quotas[0].on_breach = OnBreach::Allow),
        ("another moment", |plan| plan.entitlements[0].quotas[0].charge = Charge::AtReport),
        ("no quota", |plan| plan.entitlements[0].quotas.clear()),
        ("no entitlement", |plan| plan.entitlements.clear()),
        ("counted by key", |plan| plan.entitlements[0].counter_scope = CounterScope::Key),
    ];
    for (what, change) in lowers {
        let mut after = before.clone();
        change(&mut after);
        assert!(after.lowers(&before), "{what}");
    }
    let keeps: [(&str, Change); 6] = [
        ("nothing", |_| {}),
        ("a unit more", |plan| plan.entitlements[0].quotas[0].limit = 11),
        ("a quota more, before it", |plan| {
            plan.entitlements[0].quotas.insert(0, quota("other", 0))
        }),
        ("an entitlement more, before it", |plan_of_gold| {
            plan_of_gold.entitlements.insert(0, plan("other", Vec::new()).entitlements.remove(0));
        }),
        ("other targets", |plan| plan.entitlements[0].targets = vec!["u".into()]),
        ("a rate", |plan| {
            plan.entitlements[0].rate_limit = Some(Rate { rate: MicroRate(1_000_000), burst: None })
        }),
    ];
    for (what, change) in keeps {
        let mut after = before.clone();
        change(&mut after);
        assert!(!after.lowers(&before), "{what}");
    }
}
