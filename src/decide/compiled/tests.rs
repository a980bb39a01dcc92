use super::*;
use crate::decide::gcra::MicroRate;
use crate::decide::path::RequestPath;
use crate::decide::plan::OpenMethod;
use crate::testkit::declared::{self, entitlement, plan};

fn quota(zone: &str, unit: PeriodUnit, week_start: Weekday) -> Quota {
    Quota { time_zone: Id::from(zone), week_start, ..declared::quota("q", 1, unit) }
}

fn rate(micro: u64, burst: u64) -> Rate {
    Rate { rate: MicroRate(micro), burst: Some(burst) }
}

fn method(path: &str, rate: Rate) -> MethodRate {
    MethodRate {
        method: "GET".to_owned(),
        path: path.to_owned(),
        target: None,
        rate,
        replaces_general: true,
    }
}

fn refused(change: impl FnOnce(&mut Entitlement)) -> Invalid {
    let mut second = entitlement("second", &["b"]);
    change(&mut second);
    let plan = plan("p", vec![entitlement("first", &["a"]), second]);
    CompiledPlan::new(Arc::new(plan)).unwrap_err()
}

#[test]
fn what_cannot_be_prepared_is_named_by_field() {
    assert_eq!(
        refused(|second| second.rate_limit = Some(rate(0, 1))).field,
        "entitlements[1].rateLimit"
    );
    assert_eq!(
        refused(|second| second.rate_limit = Some(rate(1, 0))).field,
        "entitlements[1].rateLimit"
    );
    assert_eq!(
        refused(|second| second.rate_limit = Some(rate(1, u64::MAX))).field,
        "entitlements[1].rateLimit"
    );
    assert_eq!(
        refused(|second| second.method_rate_limits = vec![method("/a", rate(0, 1))]).field,
        "entitlements[1].methodRateLimits[0]"
    );
    assert_eq!(
        refused(|second| second.method_rate_limits = vec![method("a", rate(1, 1))]).field,
        "entitlements[1].methodRateLimits[0].path"
    );
    let zone = refused(|second| {
        second.quotas = vec![quota("Mars/Base", PeriodUnit::Day, Weekday::Monday)]
    });
    assert_eq!(zone.field, "entitlements[1].quotas[0].timeZone");
    let twice = refused(|second| second.targets.push(Id::from("a")));
    assert_eq!(twice.field, "entitlements[1].targets[1]");
    assert!(twice.reason.contains("`a`") && twice.reason.contains("`first`"), "{twice}");
    assert_eq!(
        refused(|second| second.targets.push(Id::from("b"))).field,
        "entitlements[1].targets[1]"
    );
}

#[test]
fn a_target_that_cannot_be_prepared_is_named_by_field() {
    let target = |change: fn(&mut Target)| {
        let mut target = declared::target("a");
        change(&mut target);
        CompiledTarget::new(Arc::new(target)).map(|_| ()).map_err(|invalid| invalid.field)
    };
    assert_eq!(target(|_| {}), Ok(()));
    assert_eq!(target(|target| target.rate_limit = Some(rate(0, 1))), Err("rateLimit".to_owned()));
    assert_eq!(
        target(|target| target.method_rate_limits = vec![method("x", rate(1, 1))]),
        Err("methodRateLimits[0].path".to_owned())
    );
    let open = |target: &mut Target| {
        target.open_methods = vec![OpenMethod { method: "GET".to_owned(), path: "x".to_owned() }]
    };
    assert_eq!(target(open), Err("openMethods[0].path".to_owned()));
}

#[test]
fn a_plan_finds_its_entitlement_by_target_and_by_name() {
    let plan = plan("p", vec![entitlement("one", &["a", "b"]), entitlement("two", &["c"])]);
    let plan = CompiledPlan::new(Arc::new(plan)).unwrap();
    let name =
        |target| plan.entitlement_for(target).map(|entitlement| entitlement.name.to_string());
    assert_eq!(name("b").as_deref(), Some("one"));
    assert_eq!(name("c").as_deref(), Some("two"));
    assert_eq!(name("d"), None);
    assert_eq!(plan.covering("c").map(|(target, _)| &**target), Some("c"));
    assert!(plan.entitlement("two").is_some() && plan.entitlement("three").is_none());
}

#[test]
fn the_identity_of_a_quota_is_what_its_periods_depend_on() {
    let identity = |zone, unit, week_start| {
        CompiledQuota::new(&quota(zone, unit, week_start)).unwrap().identity
    };
    let day = identity("UTC", PeriodUnit::Day, Weekday::Monday);
    assert_eq!(
        day,
        identity("UTC", PeriodUnit::Day, Weekday::Sunday),
        "no day depends on where weeks start"
    );
    assert_ne!(day, identity("Asia/Seoul", PeriodUnit::Day, Weekday::Monday));
    assert_ne!(day, identity("UTC", PeriodUnit::Week, Weekday::Monday));
    assert_ne!(
        identity("UTC", PeriodUnit::Week, Weekday::Sunday),
        identity("UTC", PeriodUnit::Week, Weekday::Monday)
    );
    assert_eq!(
        identity("asia/seoul", PeriodUnit::Day, Weekday::Monday),
        identity("Asia/Seoul", PeriodUnit::Day, Weekday::Monday)
    );
}

#[test]
fn a_method_limit_keeps_its_identity_wherever_it_stands_in_the_list() {
    let identity = |declared: &[MethodRate]| {
        let limits = MethodLimits::new("method", declared).unwrap();
        limits.for_call("a", b"GET", &RequestPath::new(b"/x")).first().map(|limit| limit.identity)
    };
    let one = identity(&[method("/x", rate(1, 1))]);
    assert!(one.is_some());
    assert_eq!(one, identity(&[method("/y", rate(1, 1)), method("/x", rate(9, 9))]));
    let elsewhere = MethodRate { target: Some(Id::from("a")), ..method("/x", rate(1, 1)) };
    assert_ne!(one, identity(&[elsewhere]));
}
