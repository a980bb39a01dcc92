use super::*;
use crate::service::edits::ListRequest;

fn list<R: From<ListRequest>>(page_size: i32, filter: &str) -> Request<R> {
    Request::new(ListRequest { page_size, filter: filter.into(), ..Default::default() }.into())
}

#[tokio::test]
async fn every_kind_is_listed_with_a_total() {
    let world = World::furnished().await;
    world.create_key("one").await;
    world.create_key("two").await;
    let plans = answer(world.service.list_usage_plans(list(0, "")).await).unwrap();
    assert_eq!((plans.usage_plans[0].id.as_str(), plans.total_size), ("gold", 1));
    let targets = answer(world.service.list_targets(list(1, "plan=gold")).await).unwrap();
    assert_eq!((targets.targets[0].id.as_str(), targets.total_size), ("orders", 2));
    let next = pb::ListTargetsRequest {
        page_token: targets.next_page_token,
        filter: "plan=gold".into(),
        ..Default::default()
    };
    let next = answer(world.service.list_targets(Request::new(next)).await).unwrap();
    assert_eq!(
        (next.targets[0].id.as_str(), next.next_page_token.as_str(), next.total_size),
        ("users", "", 2)
    );
    let subscribers =
        answer(world.service.list_subscribers(list(0, "target=users")).await).unwrap();
    assert_eq!((subscribers.subscribers[0].id.as_str(), subscribers.total_size), ("acme", 1));
    let keys = answer(world.service.list_api_keys(list(0, "subscriber=acme tw")).await).unwrap();
    assert_eq!((keys.api_keys[0].id.as_str(), keys.total_size), ("two", 1));
}

#[tokio::test]
async fn a_list_that_cannot_be_made_is_refused() {
    let world = World::furnished().await;
    let garbage = ListRequest {
        page_size: -1,
        page_token: "garbage".into(),
        filter: "a=b".into(),
        order_by: "x".into(),
    };
    for (code, message) in [
        refusal(world.service.list_usage_plans(Request::new(garbage.clone().into())).await),
        refusal(world.service.list_targets(Request::new(garbage.clone().into())).await),
        refusal(world.service.list_subscribers(Request::new(garbage.clone().into())).await),
        refusal(world.service.list_api_keys(Request::new(garbage.clone().into())).await),
    ] {
        assert_eq!(code, Code::InvalidArgument);
        assert!(
            ["page_size", "page_token", "filter", "order_by"]
                .iter()
                .all(|field| message.contains(field)),
            "{message}"
        );
    }
}
