use prost_types::FieldMask;

use super::*;
use crate::grpc::convert::requests::DeleteRequest;

fn delete<R: From<DeleteRequest>>(id: &str, force: bool) -> Request<R> {
    Request::new(DeleteRequest { id: id.into(), force, ..Default::default() }.into())
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|&path| path.to_owned()).collect() })
}

#[tokio::test]
async fn a_plan_is_created_read_updated_and_deleted() {
    let world = World::new();
    let created = world.create_plan(gold()).await.unwrap();
    assert_eq!(
        (created.etag.as_str(), created.create_time.unwrap().seconds),
        ("r1", 1_795_305_600)
    );
    assert_eq!(
        answer(
            world
                .service
                .get_usage_plan(Request::new(pb::GetUsagePlanRequest { id: "gold".into() }))
                .await
        )
        .unwrap(),
        created
    );

    world.pass(5);
    let update = pb::UsagePlan {
        id: "gold".into(),
        display_name: "Pure gold".into(),
        etag: created.etag.clone(),
        ..Default::default()
    };
    let request = pb::UpdateUsagePlanRequest {
        usage_plan: Some(update),
        update_mask: mask(&["display_name"]),
        ..Default::default()
    };
    let updated =
        answer(world.service.update_usage_plan(Request::new(request.clone())).await).unwrap();
    assert_eq!(
        (updated.display_name.as_str(), &updated.entitlements),
        ("Pure gold", &created.entitlements)
    );
    assert_eq!(updated.update_time.unwrap().seconds - updated.create_time.unwrap().seconds, 5);
    let (code, message) = refusal(world.service.update_usage_plan(Request::new(request)).await);
    assert_eq!(code, Code::Aborted);
    assert!(message.contains("its etag is `r2`, not `r1`"), "{message}");

    let stale =
        pb::DeleteUsagePlanRequest { id: "gold".into(), etag: "r1".into(), ..Default::default() };
    assert_eq!(
        refusal(world.service.delete_usage_plan(Request::new(stale)).await).0,
        Code::Aborted
    );
    world.service.delete_usage_plan(delete("gold", false)).await.unwrap();
    assert_eq!(
        refusal(
            world
                .service
                .get_usage_plan(Request::new(pb::GetUsagePlanRequest { id: "gold".into() }))
                .await
        ),
        (Code::NotFound, "there is no plan `gold`".to_owned())
    );
}

#[tokio::test]
async fn errors_have_the_code_of_their_kind() {
    let world = World::furnished().await;
    world.create_key("k").await;
    assert_eq!(
        refusal(world.create_plan(gold()).await),
        (Code::AlreadyExists, "the plan `gold` exists already".to_owned())
    );
    let (code, message) = refusal(
        world
            .create_plan(plan_of(
                json!({"id": "x y", "entitlements": [{"quotas": [{"name": "q"}]}]}),
            ))
            .await,
    );
    assert_eq!(code, Code::InvalidArgument);
    for field in [
        "id must not hold ' '",
        "entitlements[0].name is needed",
        "entitlements[0].quotas[0].unit is needed",
        "quotas[0].limit",
    ] {
        assert!(message.contains(field), "{message:?} does not name {field:?}");
    }
    let (code, message) = refusal(
        world.service.create_usage_plan(Request::new(pb::CreateUsagePlanRequest::default())).await,
    );
    assert_eq!((code, message.as_str()), (Code::InvalidArgument, "usage_plan is needed"));
    let status = world.create_plan(plan_of(json!({"id": "x y"}))).await.unwrap_err();
    let (fields, more) = crate::grpc::details::violations(&status).unwrap();
    assert_eq!((fields[0].field.as_str(), fields.len(), more), ("id", 1, 0), "for programs too");
    let unknown =
        pb::Subscriber { id: "new".into(), plans: vec!["lead".into()], ..Default::default() };
    let (code, message) = refusal(world.create_subscriber(unknown).await);
    assert_eq!(
        (code, message.as_str()),
        (Code::InvalidArgument, "plans[0] names the plan `lead`, which does not exist")
    );
    let in_use = [
        refusal(world.service.delete_usage_plan(delete("gold", false)).await),
        refusal(world.service.delete_target(delete("orders", false)).await),
        refusal(world.service.delete_subscriber(delete("acme", false)).await),
    ];
    for ((code, message), named) in in_use.into_iter().zip(["acme", "gold", ": k"]) {
        assert_eq!(code, Code::FailedPrecondition);
        assert!(message.contains(named), "{message}");
    }
    for missing in [
        refusal(
            world.service.get_target(Request::new(pb::GetTargetRequest { id: "x".into() })).await,
        )
        .0,
        refusal(
            world
                .service
                .get_subscriber(Request::new(pb::GetSubscriberRequest { id: "x".into() }))
                .await,
        )
        .0,
        refusal(
            world.service.get_api_key(Request::new(pb::GetApiKeyRequest { id: "x".into() })).await,
        )
        .0,
        refusal(world.service.delete_target(delete("x", true)).await).0,
        refusal(world.service.delete_api_key(delete("x", true)).await).0,
    ] {
        assert_eq!(missing, Code::NotFound);
    }
    world.service.delete_usage_plan(delete("gold", true)).await.unwrap();
    world.service.delete_subscriber(delete("acme", true)).await.unwrap();
    assert_eq!(
        refusal(
            world.service.get_api_key(Request::new(pb::GetApiKeyRequest { id: "k".into() })).await
        )
        .0,
        Code::NotFound
    );
}

#[tokio::test]
async fn a_message_with_many_mistakes_stays_short() {
    let world = World::new();
    let entitlements = (0..100)
        .map(|_| pb::Entitlement { name: "-".repeat(1_000), ..Default::default() })
        .collect();
    let (code, message) = refusal(
        world
            .create_plan(pb::UsagePlan { id: "x".into(), entitlements, ..Default::default() })
            .await,
    );
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.len() < 8_000 && message.contains("more"), "{} bytes", message.len());
}

#[tokio::test]
async fn targets_are_edited_and_get_their_default_plan() {
    let world = World::furnished().await;
    let set = |plan: &str| pb::UpdateTargetRequest {
        target: Some(pb::Target {
            id: "orders".into(),
            default_plan: plan.into(),
            ..Default::default()
        }),
        update_mask: mask(&["default_plan"]),
        ..Default::default()
    };
    assert_eq!(
        answer(world.service.update_target(Request::new(set("gold"))).await).unwrap().default_plan,
        "gold"
    );
    let (code, message) = refusal(world.service.update_target(Request::new(set("lead"))).await);
    assert_eq!(
        (code, message.as_str()),
        (Code::InvalidArgument, "default_plan names the plan `lead`, which does not exist")
    );
    assert_eq!(
        answer(world.service.update_target(Request::new(set(""))).await).unwrap().default_plan,
        ""
    );
    let created = pb::Target {
        id: "files/prod".into(),
        rate_limit: Some(pb::RateLimit { requests_per_second: 0.5, burst: None }),
        ..Default::default()
    };
    let request = pb::CreateTargetRequest { target: Some(created), ..Default::default() };
    let created = answer(world.service.create_target(Request::new(request)).await).unwrap();
    assert_eq!(
        answer(
            world
                .service
                .get_target(Request::new(pb::GetTargetRequest { id: "files/prod".into() }))
                .await
        )
        .unwrap(),
        created
    );
    world.service.delete_target(delete("files/prod", false)).await.unwrap();
}

#[tokio::test]
async fn targets_are_attached_and_detached_and_retried() {
    let world = World::furnished().await;
    let attach = pb::AttachTargetRequest {
        plan: "gold".into(),
        target: "files".into(),
        request_id: "a".into(),
        ..Default::default()
    };
    let attached = answer(world.service.attach_target(Request::new(attach.clone())).await).unwrap();
    assert_eq!(attached.entitlements[0].targets, ["orders", "users", "files"]);
    let detach = pb::DetachTargetRequest {
        plan: "gold".into(),
        target: "files".into(),
        ..Default::default()
    };
    let only = pb::DetachTargetRequest { validate_only: true, ..detach.clone() };
    for _ in 0..2 {
        let detached =
            answer(world.service.detach_target(Request::new(only.clone())).await).unwrap();
        assert_eq!(detached.entitlements[0].targets, ["orders", "users"]);
    }
    world.service.detach_target(Request::new(detach.clone())).await.unwrap();
    assert_eq!(
        refusal(world.service.detach_target(Request::new(detach)).await).0,
        Code::InvalidArgument
    );
    let retried = answer(world.service.attach_target(Request::new(attach)).await).unwrap();
    assert_eq!(retried, attached, "the first answer");
    let now = answer(
        world
            .service
            .get_usage_plan(Request::new(pb::GetUsagePlanRequest { id: "gold".into() }))
            .await,
    )
    .unwrap();
    assert_eq!(now.entitlements[0].targets, ["orders", "users"], "the retry attached nothing");
}

#[tokio::test]
async fn a_request_id_is_for_one_request() {
    let world = World::new();
    let create = |labels: &[(&str, &str)]| {
        let labels =
            labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        pb::CreateUsagePlanRequest {
            usage_plan: Some(pb::UsagePlan { labels, ..gold() }),
            request_id: "r".into(),
            validate_only: false,
        }
    };
    let many = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5"), ("f", "6")];
    let first = answer(world.service.create_usage_plan(Request::new(create(&many))).await).unwrap();
    let mut turned = many;
    turned.reverse();
    assert_eq!(
        answer(world.service.create_usage_plan(Request::new(create(&turned))).await).unwrap(),
        first,
        "labels have no order"
    );
    let (code, message) = refusal(world.service.create_usage_plan(Request::new(create(&[]))).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.starts_with("request_id was used for another request"), "{message}");
    let elsewhere = pb::DeleteUsagePlanRequest {
        id: "gold".into(),
        request_id: "r".into(),
        ..Default::default()
    };
    assert_eq!(
        refusal(world.service.delete_usage_plan(Request::new(elsewhere)).await).0,
        Code::InvalidArgument
    );
    world.pass(24 * 3_600);
    assert_eq!(
        refusal(world.service.create_usage_plan(Request::new(create(&many))).await).0,
        Code::AlreadyExists,
        "a day later it is new"
    );
    let long = pb::DeleteUsagePlanRequest {
        id: "gold".into(),
        request_id: "r".repeat(129),
        ..Default::default()
    };
    assert_eq!(
        refusal(world.service.delete_usage_plan(Request::new(long)).await).0,
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn the_value_of_a_key_is_shown_once() {
    let world = World::furnished().await;
    let key = pb::ApiKey { subscriber: "acme".into(), ..Default::default() };
    let only = pb::CreateApiKeyRequest {
        api_key: Some(key.clone()),
        validate_only: true,
        ..Default::default()
    };
    let checked = answer(world.service.create_api_key(Request::new(only)).await).unwrap();
    assert!(checked.value.is_empty() && world.store.load().keys().is_empty());

    let request = pb::CreateApiKeyRequest {
        api_key: Some(key),
        request_id: "r".into(),
        ..Default::default()
    };
    let created =
        answer(world.service.create_api_key(Request::new(request.clone())).await).unwrap();
    assert!(created.value.starts_with("tg_") && world.admits(&created.value));
    let retried = answer(world.service.create_api_key(Request::new(request)).await).unwrap();
    assert_eq!((retried.value.as_str(), retried.api_key), ("", created.api_key.clone()));
    let id = created.api_key.unwrap().id;
    let shown = answer(
        world.service.get_api_key(Request::new(pb::GetApiKeyRequest { id: id.clone() })).await,
    )
    .unwrap();
    assert!(
        !format!("{shown:?}").contains(&created.value) && created.value.ends_with(&shown.last_four)
    );
}

#[tokio::test]
async fn keys_are_imported_disabled_and_deleted() {
    let world = World::furnished().await;
    let value = "held-by-callers-already";
    let import = |id: &str, value: &str| pb::ImportApiKeyRequest {
        api_key: Some(pb::ApiKey {
            id: id.into(),
            subscriber: "acme".into(),
            ..Default::default()
        }),
        value: value.into(),
        ..Default::default()
    };
    let (code, message) =
        refusal(world.service.import_api_key(Request::new(import("k", "short"))).await);
    assert_eq!(
        (code, message.as_str()),
        (Code::InvalidArgument, "value must be 20 to 128 characters, not 5")
    );
    let imported =
        answer(world.service.import_api_key(Request::new(import("k", value))).await).unwrap();
    assert_eq!((imported.enabled, imported.last_four.as_str()), (Some(true), "eady"));
    let (code, message) =
        refusal(world.service.import_api_key(Request::new(import("l", value))).await);
    assert_eq!(code, Code::AlreadyExists);
    assert!(!message.contains(value), "{message}");
    assert!(world.admits(value));

    let disable = pb::ApiKey { id: "k".into(), enabled: Some(false), ..Default::default() };
    let request = pb::UpdateApiKeyRequest {
        api_key: Some(disable),
        update_mask: mask(&["enabled"]),
        ..Default::default()
    };
    assert_eq!(
        answer(world.service.update_api_key(Request::new(request)).await).unwrap().enabled,
        Some(false)
    );
    assert!(!world.admits(value), "an edit is in force for the next decision");
    world.service.delete_api_key(delete("k", false)).await.unwrap();
    world.service.import_api_key(Request::new(import("l", value))).await.unwrap();
    assert!(world.admits(value));
}

#[tokio::test]
async fn a_set_is_applied_once_and_then_differs_in_nothing() {
    let world = World::new();
    let key = pb::ApiKeyWithValue {
        api_key: Some(pb::ApiKey { id: "k".into(), ..Default::default() }),
        value: "held-by-callers-already".into(),
        mask: None,
    };
    let subscriber =
        pb::Subscriber { id: "acme".into(), plans: vec!["gold".into()], ..Default::default() };
    let request = pb::ApplyRequest {
        usage_plans: vec![gold()],
        subscribers: vec![pb::SubscriberWithKeys {
            subscriber: Some(subscriber),
            keys: vec![key],
            mask: None,
        }],
        ..Default::default()
    };
    let dry = pb::ApplyRequest { validate_only: true, ..request.clone() };
    let dry = answer(world.service.apply(Request::new(dry)).await).unwrap();
    assert_eq!(world.store.load().revision(), 0);
    let done = answer(world.service.apply(Request::new(request.clone())).await).unwrap();
    assert_eq!(done, dry);
    let lines: Vec<_> = done
        .changes
        .iter()
        .map(|one| (one.action().as_str_name(), one.kind.as_str(), one.id.as_str()))
        .collect();
    let expected = [
        ("CREATE", "target", "orders"),
        ("CREATE", "target", "users"),
        ("CREATE", "plan", "gold"),
        ("CREATE", "subscriber", "acme"),
        ("CREATE", "key", "k"),
    ];
    assert_eq!(lines, expected);
    assert!(world.admits("held-by-callers-already"));
    assert!(
        answer(world.service.apply(Request::new(request.clone())).await)
            .unwrap()
            .changes
            .is_empty()
    );
    let mut wrong = request;
    wrong.subscribers[0].subscriber.as_mut().unwrap().plans.push("lead".into());
    let (code, message) = refusal(world.service.apply(Request::new(wrong)).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(
        message.starts_with("subscribers[0].subscriber.plans[1] names the plan `lead`"),
        "{message}"
    );
    let most = pb::ApplyRequest {
        prune: true,
        prune_kinds: vec![pb::apply_request::Kind::Subscriber.into()],
        usage_plans: vec![gold()],
        ..Default::default()
    };
    let (code, message) = refusal(world.service.apply(Request::new(most)).await);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(
        message.starts_with(
            "prune would delete 1 of 1 keys, more than half, and nothing was changed: k."
        ),
        "{message}"
    );
}
