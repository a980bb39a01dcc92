use pb::get_usage_request::Scope as WireScope;
use pb::grant_request::{Change, Subject};

use super::*;
use crate::ledger::LedgerError;
use crate::ledger::faults::{Fault, FaultyLedger};

fn usage(scope: Option<WireScope>, start: &str, end: &str) -> Request<pb::GetUsageRequest> {
    Request::new(pb::GetUsageRequest {
        scope,
        start_date: start.into(),
        end_date: end.into(),
        ..Default::default()
    })
}

fn of_acme() -> Option<WireScope> {
    Some(WireScope::Subscriber("acme".into()))
}

fn grant(change: Change) -> pb::GrantRequest {
    pb::GrantRequest {
        subject: Some(Subject::Subscriber("acme".into())),
        plan: "gold".into(),
        entitlement: "all".into(),
        quota: "daily".into(),
        change: Some(change),
        ..Default::default()
    }
}

#[tokio::test]
async fn usage_is_shown_by_period_and_by_day() {
    let world = World::furnished().await;
    let value = world.create_key("k").await.value;
    assert_eq!([(); 4].map(|()| world.admits(&value)), [true, true, true, false]);
    let shown = answer(world.service.get_usage(usage(of_acme(), "", "")).await).unwrap();
    let [quota] = shown.quotas.as_slice() else { panic!("{shown:?}") };
    assert_eq!(
        (quota.limit, quota.used, quota.remaining, quota.granted, quota.lost),
        (3, 3, 0, 0, 0)
    );
    assert_eq!(
        (quota.subscriber.as_str(), quota.plan.as_str(), quota.quota.as_str()),
        ("acme", "gold", "daily")
    );
    assert_eq!(quota.unit(), pb::quota::Unit::Day);
    assert_eq!(quota.period_end.unwrap().seconds - quota.period_start.unwrap().seconds, 86_400);
    let [day] = shown.days.as_slice() else { panic!("{shown:?}") };
    assert_eq!(
        (day.date.as_str(), day.api_key.as_str(), day.target.as_str(), day.admitted),
        ("2026-11-22", "k", "orders", 3)
    );
    assert_eq!(day.refused.iter().collect::<Vec<_>>(), [(&"QUOTA_EXCEEDED".to_owned(), &1)]);

    world.pass(86_400);
    assert!(world.admits(&value));
    let cases = [
        ("", "", 1),
        ("2026-11-22", "", 2),
        ("2026-11-22", "2026-11-22", 1),
        ("", "2026-11-21", 0),
        ("2026-11-24", "", 0),
    ];
    for (start, end, days) in cases {
        let shown = answer(world.service.get_usage(usage(None, start, end)).await).unwrap();
        assert_eq!((shown.days.len(), shown.quotas.len()), (days, days), "{start:?} to {end:?}");
    }
}

#[tokio::test]
async fn what_somebody_has_and_has_not_used_is_shown_as_0_of_so_many() {
    let world = World::furnished().await;
    let each = plan_of(json!({"id": "each", "entitlements": [
        {"name": "own", "targets": ["files"], "counterScope": "KEY", "quotas": [{"name": "q", "limit": 5, "unit": "YEAR"}]}
    ]}));
    world.create_plan(each).await.unwrap();
    let both = pb::Subscriber {
        id: "acme".into(),
        plans: vec!["gold".into(), "each".into()],
        ..Default::default()
    };
    let request = pb::UpdateSubscriberRequest { subscriber: Some(both), ..Default::default() };
    world.service.update_subscriber(Request::new(request)).await.unwrap();
    let value = world.create_key("k").await.value;
    world.create_key("l").await;
    let rows = async |scope: Option<WireScope>,
                      start: &str,
                      end: &str|
           -> Vec<(String, String, u64, u64, u64)> {
        let shown = answer(world.service.get_usage(usage(scope, start, end)).await).unwrap();
        shown
            .quotas
            .into_iter()
            .map(|one| (one.quota, one.api_key, one.used, one.limit, one.remaining))
            .collect()
    };
    let row = |quota: &str, key: &str, used, limit| {
        (quota.to_owned(), key.to_owned(), used, limit, limit - used)
    };
    assert_eq!(
        rows(of_acme(), "", "").await,
        [row("daily", "", 0, 3), row("q", "k", 0, 5), row("q", "l", 0, 5)]
    );
    assert_eq!(rows(Some(WireScope::ApiKey("k".into())), "", "").await, [row("q", "k", 0, 5)]);
    assert_eq!(rows(None, "", "").await, [], "of everybody there may be any number");
    assert_eq!(rows(of_acme(), "2026-11-20", "2026-11-21").await, [], "these days are over");

    assert!(world.admits(&value));
    assert_eq!(
        rows(of_acme(), "", "").await,
        [row("daily", "", 1, 3), row("q", "k", 0, 5), row("q", "l", 0, 5)],
        "each once"
    );
    world.pass(86_400);
    assert_eq!(
        rows(of_acme(), "2026-11-22", "").await[..2],
        [row("daily", "", 1, 3), row("daily", "", 0, 3)],
        "a new day"
    );
}

#[tokio::test]
async fn usage_that_cannot_be_shown_is_refused() {
    let world = World::furnished().await;
    let cases = [
        ("2026-13-01", "", "start_date"),
        ("yesterday", "", "start_date"),
        ("2026-11-22T00:00", "", "start_date"),
        ("1969-12-31", "", "start_date"),
        ("", "2026-11-31", "end_date"),
        ("2026-11-22", "2026-11-21", "end_date must not be before `start_date`"),
    ];
    for (start, end, expected) in cases {
        let (code, message) = refusal(world.service.get_usage(usage(None, start, end)).await);
        assert_eq!(code, Code::InvalidArgument);
        assert!(message.starts_with(expected), "{start:?} to {end:?}: {message}");
    }
    for scope in [
        WireScope::Subscriber("x".into()),
        WireScope::ApiKey("x".into()),
        WireScope::Plan("x".into()),
    ] {
        assert_eq!(
            refusal(world.service.get_usage(usage(Some(scope), "", "")).await).0,
            Code::NotFound
        );
    }
    assert!(
        world.service.get_usage(usage(of_acme(), "", "")).await.is_ok(),
        "known, and has used nothing"
    );
}

#[tokio::test]
async fn what_was_deleted_still_has_its_books() {
    let world = World::furnished().await;
    let value = world.create_key("k").await.value;
    assert!(world.admits(&value));
    let delete =
        pb::DeleteSubscriberRequest { id: "acme".into(), force: true, ..Default::default() };
    world.service.delete_subscriber(Request::new(delete)).await.unwrap();
    let shown = answer(world.service.get_usage(usage(of_acme(), "", "")).await).unwrap();
    assert_eq!((shown.quotas[0].used, shown.days[0].admitted), (1, 1));
}

#[tokio::test]
async fn a_grant_admits_more_and_a_retry_grants_nothing() {
    let world = World::furnished().await;
    let value = world.create_key("k").await.value;
    assert_eq!([(); 4].map(|()| world.admits(&value)), [true, true, true, false]);
    let request = pb::GrantRequest { request_id: "g".into(), ..grant(Change::Add(2)) };
    let granted = answer(world.service.grant(Request::new(request.clone())).await).unwrap();
    assert_eq!((granted.granted, granted.used, granted.remaining), (2, 3, 2));
    assert!(world.admits(&value));
    assert_eq!(
        answer(world.service.grant(Request::new(request.clone())).await).unwrap(),
        granted,
        "the first answer"
    );
    assert_eq!([(); 2].map(|()| world.admits(&value)), [true, false]);
    let other = pb::GrantRequest { change: Some(Change::Add(3)), ..request };
    assert_eq!(refusal(world.service.grant(Request::new(other)).await).0, Code::InvalidArgument);

    let set =
        answer(world.service.grant(Request::new(grant(Change::SetRemaining(1)))).await).unwrap();
    assert_eq!((set.remaining, set.used), (1, 5));
    let reset =
        answer(world.service.grant(Request::new(grant(Change::Reset(true)))).await).unwrap();
    assert_eq!((reset.remaining, reset.used), (3, 5));
}

#[tokio::test]
async fn a_grant_that_cannot_be_made_is_refused_by_field() {
    let world = World::furnished().await;
    world.create_key("k").await;
    let by_key = json!({"id": "by-key", "entitlements": [
        {"name": "all", "targets": ["orders"], "counterScope": "KEY", "quotas": [{"name": "daily", "limit": 3, "unit": "DAY"}]}
    ]});
    world.create_plan(plan_of(by_key)).await.unwrap();
    let key = Some(Subject::ApiKey("k".into()));
    let cases: [(pb::GrantRequest, Code, &str); 13] = [
        (
            pb::GrantRequest { subject: None, ..grant(Change::Add(1)) },
            Code::InvalidArgument,
            "subscriber or `api_key` is needed",
        ),
        (
            pb::GrantRequest { change: None, ..grant(Change::Add(1)) },
            Code::InvalidArgument,
            "add or `set_remaining` or `reset` is needed",
        ),
        (grant(Change::Add(0)), Code::InvalidArgument, "add must be 1 to 2^53"),
        (grant(Change::Add((1 << 53) + 1)), Code::InvalidArgument, "add must be 1 to 2^53"),
        (
            grant(Change::SetRemaining(u64::MAX)),
            Code::InvalidArgument,
            "set_remaining must be 0 to 2^53",
        ),
        (grant(Change::Reset(false)), Code::InvalidArgument, "reset must be true"),
        (
            pb::GrantRequest {
                subject: Some(Subject::Subscriber("x".into())),
                ..grant(Change::Add(1))
            },
            Code::NotFound,
            "there is no subscriber `x`",
        ),
        (
            pb::GrantRequest {
                subject: Some(Subject::ApiKey("x".into())),
                ..grant(Change::Add(1))
            },
            Code::NotFound,
            "there is no key `x`",
        ),
        (
            pb::GrantRequest { plan: "x".into(), ..grant(Change::Add(1)) },
            Code::NotFound,
            "there is no plan `x`",
        ),
        (
            pb::GrantRequest { entitlement: "x".into(), ..grant(Change::Add(1)) },
            Code::InvalidArgument,
            "entitlement `x` is not in the plan",
        ),
        (
            pb::GrantRequest { quota: "x".into(), ..grant(Change::Add(1)) },
            Code::InvalidArgument,
            "quota `x` is not in the plan",
        ),
        (
            pb::GrantRequest { subject: key.clone(), ..grant(Change::Add(1)) },
            Code::InvalidArgument,
            "api_key must be the `subscriber` here",
        ),
        (
            pb::GrantRequest { plan: "by-key".into(), ..grant(Change::Add(1)) },
            Code::InvalidArgument,
            "subscriber must be an `api_key` here",
        ),
    ];
    for (request, expected, text) in cases {
        let (code, message) = refusal(world.service.grant(Request::new(request)).await);
        assert_eq!(code, expected, "{message}");
        assert!(message.starts_with(text), "{message:?} does not start with {text:?}");
    }
    let by_key = pb::GrantRequest { plan: "by-key".into(), subject: key, ..grant(Change::Add(1)) };
    let (code, message) = refusal(world.service.grant(Request::new(by_key.clone())).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.starts_with("plan is neither a plan of the subscriber `acme`"), "{message}");
    let target =
        pb::Target { id: "orders".into(), default_plan: "by-key".into(), ..Default::default() };
    world
        .service
        .update_target(Request::new(pb::UpdateTargetRequest {
            target: Some(target),
            ..Default::default()
        }))
        .await
        .unwrap();
    let granted = answer(world.service.grant(Request::new(by_key)).await).unwrap();
    assert_eq!(
        (granted.api_key.as_str(), granted.subscriber.as_str(), granted.remaining),
        ("k", "acme", 4)
    );
}

#[tokio::test]
async fn books_that_fail_are_unavailable() {
    let memory = Arc::new(MemoryLedger::new().unwrap());
    let world = World::over(Arc::new(FaultyLedger::new(memory, |_| Fault::Die)));
    world.create_plan(gold()).await.unwrap();
    world
        .create_subscriber(pb::Subscriber {
            id: "acme".into(),
            plans: vec!["gold".into()],
            ..Default::default()
        })
        .await
        .unwrap();
    let closed = (Code::Unavailable, LedgerError::Stopped.to_string());
    let (code, text) = refusal(world.service.grant(Request::new(grant(Change::Add(1)))).await);
    assert_eq!(code, Code::Unavailable);
    assert!(text.starts_with(&closed.1) && text.contains("not known"), "{text}");
    assert_eq!(refusal(world.service.get_usage(usage(None, "", "")).await), closed);
    let named = pb::GrantRequest { request_id: "r".into(), ..grant(Change::Add(1)) };
    assert_eq!(refusal(world.service.grant(Request::new(named)).await), closed);
}
