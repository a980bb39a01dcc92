//! What was used, page by page.

use prost::Message;

use super::*;
use pb::get_usage_request::Scope as WireScope;

/// Callers that come on three days: each has a counter by subscriber and one by key, and calls once
/// a day.
struct Callers {
    world: World,
    values: Vec<String>,
}

impl Callers {
    async fn new(count: usize) -> Self {
        let world = World::new();
        let plan = json!({"id": "gold", "entitlements": [
            {"name": "all", "targets": ["orders"], "quotas": [{"name": "daily", "limit": 3, "unit": "DAY"}, {"name": "monthly", "limit": 9, "unit": "MONTH"}]}
        ]});
        world.create_plan(plan_of(plan)).await.unwrap();
        let mut callers = Self { world, values: Vec::new() };
        for number in 0..count {
            callers.join(&format!("s{number:04}")).await;
        }
        for _ in 0..3 {
            callers.call();
            callers.world.pass(86_400);
        }
        callers
    }

    async fn join(&mut self, id: &str) {
        let subscriber =
            pb::Subscriber { id: id.into(), plans: vec!["gold".into()], ..Default::default() };
        self.world.create_subscriber(subscriber).await.unwrap();
        let key =
            pb::ApiKey { id: format!("{id}-key"), subscriber: id.into(), ..Default::default() };
        let request = pb::CreateApiKeyRequest { api_key: Some(key), ..Default::default() };
        self.values.push(
            answer(self.world.service.create_api_key(Request::new(request)).await).unwrap().value,
        );
    }

    fn call(&self) {
        self.values.iter().for_each(|value| assert!(self.world.admits(value)));
    }

    async fn page(&self, request: &pb::GetUsageRequest) -> pb::GetUsageResponse {
        answer(self.world.service.get_usage(Request::new(request.clone())).await).unwrap()
    }
}

fn since_sunday(page_size: i32) -> pb::GetUsageRequest {
    pb::GetUsageRequest { start_date: "2026-11-22".into(), page_size, ..Default::default() }
}

#[tokio::test]
async fn pages_of_any_size_are_the_whole() {
    let callers = Callers::new(7).await;
    let whole = callers.page(&since_sunday(10_000)).await;
    // A month and three days each, and a row for each day.
    assert_eq!(
        (whole.quotas.len(), whole.days.len(), whole.next_page_token.as_str()),
        (7 * 4, 7 * 3, "")
    );
    assert_eq!(
        callers.page(&since_sunday(0)).await,
        whole,
        "what is small is whole without a word about pages"
    );
    for size in [1, 2, 5, 27, 28, 29, 48, 49] {
        let (mut request, mut walked) = (since_sunday(size), pb::GetUsageResponse::default());
        for page in 1.. {
            let rows = callers.page(&request).await;
            let count = rows.quotas.len() + rows.days.len();
            assert!(
                i32::try_from(count).unwrap() == size || rows.next_page_token.is_empty(),
                "page {page} of {size} holds {count}"
            );
            walked.quotas.extend(rows.quotas);
            walked.days.extend(rows.days);
            if rows.next_page_token.is_empty() {
                break;
            }
            request.page_token = rows.next_page_token;
        }
        assert_eq!(walked, whole, "by {size}");
    }
}

#[tokio::test]
async fn who_comes_between_two_pages_neither_repeats_nor_hides_a_row() {
    let mut callers = Callers::new(6).await;
    let whole = callers.page(&since_sunday(0)).await;
    let mut request = since_sunday(10);
    let first = callers.page(&request).await;
    // One before and one behind the place, and a minute in which what was read is forgotten.
    for id in ["s0000a", "s0004a"] {
        callers.join(id).await;
        assert!(callers.world.admits(callers.values.last().unwrap()));
    }
    callers.world.pass(120);
    let (mut quotas, mut days) = (first.quotas, first.days);
    request.page_token = first.next_page_token;
    while !request.page_token.is_empty() {
        let page = callers.page(&request).await;
        quotas.extend(page.quotas);
        days.extend(page.days);
        request.page_token = page.next_page_token;
    }
    let names = |rows: &[pb::QuotaUsage]| {
        rows.iter()
            .map(|row| {
                (row.subscriber.clone(), row.quota.clone(), row.period_start.unwrap().seconds)
            })
            .collect::<Vec<_>>()
    };
    let mut walked = names(&quotas);
    assert!(walked.windows(2).all(|pair| pair[0] < pair[1]), "in order, each once: {walked:?}");
    assert!(
        walked.iter().any(|(subscriber, ..)| subscriber == "s0004a")
            && !walked.iter().any(|(subscriber, ..)| subscriber == "s0000a")
    );
    walked.retain(|name| names(&whole.quotas).contains(name));
    assert_eq!(walked, names(&whole.quotas));
    let dates = |rows: &[pb::DailyUsage]| {
        rows.iter().map(|row| (row.date.clone(), row.subscriber.clone())).collect::<Vec<_>>()
    };
    let mut walked = dates(&days);
    assert!(walked.windows(2).all(|pair| pair[0] < pair[1]));
    walked.retain(|name| dates(&whole.days).contains(name));
    assert_eq!(walked, dates(&whole.days));
}

#[tokio::test]
async fn the_days_of_a_walk_stay_those_of_its_first_page() {
    let callers = Callers::new(2).await;
    callers.call();
    let mut request = pb::GetUsageRequest { page_size: 1, ..Default::default() };
    let mut days = Vec::new();
    loop {
        let page = callers.page(&request).await;
        days.extend(page.days);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        callers.world.pass(20_000);
    }
    assert_eq!(
        days.iter().map(|day| day.date.as_str()).collect::<Vec<_>>(),
        ["2026-11-25", "2026-11-25"]
    );
}

#[tokio::test]
async fn a_page_is_never_larger_than_an_ordinary_client_takes() {
    let world = World::new();
    let long = |name: &str| format!("{name}{}", "-".repeat(256 - name.len()));
    let (plan, target, subscriber) = (long("plan"), long("target"), long("subscriber"));
    world
        .create_plan(plan_of(
            json!({"id": plan, "entitlements": [{"name": long("all"), "targets": [target]}]}),
        ))
        .await
        .unwrap();
    world
        .create_subscriber(pb::Subscriber {
            id: subscriber.clone(),
            plans: vec![plan],
            ..Default::default()
        })
        .await
        .unwrap();
    let mut values = Vec::new();
    for number in 0..700 {
        let key = pb::ApiKey {
            id: long(&format!("key{number}")),
            subscriber: subscriber.clone(),
            ..Default::default()
        };
        let request = pb::CreateApiKeyRequest { api_key: Some(key), ..Default::default() };
        values
            .push(answer(world.service.create_api_key(Request::new(request)).await).unwrap().value);
    }
    for _ in 0..4 {
        values.iter().for_each(|value| assert!(world.admits_to(value, &target)));
        world.pass(86_400);
    }
    let (mut request, mut sizes, mut rows) = (since_sunday(10_000), Vec::new(), 0);
    loop {
        let page = answer(world.service.get_usage(Request::new(request.clone())).await).unwrap();
        sizes.push(page.encoded_len());
        rows += page.days.len();
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(rows, 2_800);
    assert!(
        sizes.len() == 2
            && sizes.iter().all(|size| *size < 4 << 20)
            && sizes.iter().sum::<usize>() > 7 << 19,
        "{sizes:?}"
    );
}

#[tokio::test]
async fn page_sizes_and_tokens_that_cannot_be_used_are_refused() {
    let callers = Callers::new(3).await;
    let token = callers.page(&since_sunday(1)).await.next_page_token;
    let of = |subscriber: &str| Some(WireScope::Subscriber(subscriber.into()));
    let mut altered = token.clone().into_bytes();
    altered[14] ^= 1;
    let good = pb::GetUsageRequest { page_token: token.clone(), ..since_sunday(2) };
    assert_eq!(callers.page(&good).await.quotas.len(), 2, "the size of a page may change");
    for (request, field) in [
        (since_sunday(-1), "page_size"),
        (pb::GetUsageRequest { page_token: "garbage!".into(), ..good.clone() }, "page_token"),
        (
            pb::GetUsageRequest { page_token: String::from_utf8(altered).unwrap(), ..good.clone() },
            "page_token",
        ),
        (
            pb::GetUsageRequest { page_token: token[..token.len() - 4].into(), ..good.clone() },
            "page_token",
        ),
        (pb::GetUsageRequest { scope: of("s0000"), ..good.clone() }, "page_token"),
        (pb::GetUsageRequest { start_date: "2026-11-23".into(), ..good.clone() }, "page_token"),
        (pb::GetUsageRequest { end_date: "2026-11-23".into(), ..good.clone() }, "page_token"),
    ] {
        let (code, message) = refusal(callers.world.service.get_usage(Request::new(request)).await);
        assert!(
            code == Code::InvalidArgument && message.contains(field),
            "{field}: {code:?} {message}"
        );
    }
}
