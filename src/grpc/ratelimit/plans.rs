//! The two domains that belong to usage plans: one decides, one reports. That is how a stock Envoy
//! asks about plans, by two of its rate-limit filters.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use prost::bytes::Bytes;

use super::response::{duration, string_struct};
use crate::decide::outcome::{Ending, Outcome};
use crate::decide::time::SECOND_NS;
use crate::decide::verdict::{Decision, LimitKind, LimitStatus, Reason};
use crate::engine::plans::{CheckInput, Report, ReportSubject};
use crate::grpc::headers;
use crate::grpc::wire::{
    Code, CurrentLimit, Descriptor, DescriptorStatus, RateLimitRequest, RateLimitResponse,
};
use crate::service::decisions::Decisions;
use crate::service::rate_limits::{PlanDomain, RateLimitError};

/// Answers a request in one of the two domains.
pub(super) async fn answer(
    decisions: &Decisions,
    domain: PlanDomain,
    request: &RateLimitRequest,
    time_left: Option<Duration>,
) -> Result<RateLimitResponse, RateLimitError> {
    match domain {
        PlanDomain::Checks => check(decisions, request, time_left).await,
        PlanDomain::Reports => report(decisions, request).await,
    }
}

/// The entries of a request, over all its descriptors; the first of a key counts.
fn entry<'q>(descriptors: &'q [Descriptor], key: &str) -> Option<&'q [u8]> {
    let mut entries = descriptors.iter().flat_map(|descriptor| &descriptor.entries);
    entries.find(|entry| entry.key == key).map(|entry| &*entry.value)
}

async fn check(
    decisions: &Decisions,
    request: &RateLimitRequest,
    time_left: Option<Duration>,
) -> Result<RateLimitResponse, RateLimitError> {
    let value = |key| entry(&request.descriptors, key);
    let Ok(cost) = cost(request) else {
        // A caller may have a hand in the cost: a bad one is a refusal and not an error, on which
        // Envoy would let the request pass.
        decisions.reject_check();
        return Ok(respond(&Decision::refused(Reason::InvalidRequest, None), decisions));
    };
    // Not the caller's, and where it is no text it is no target that anyone has declared.
    let target = value("target").map(String::from_utf8_lossy).unwrap_or_default();
    let input = CheckInput {
        api_key: value("api_key").unwrap_or_default(),
        target: &target,
        method: value("method").unwrap_or_default(),
        path: value("path").unwrap_or_default(),
        cost,
        operation_id: &[],
    };
    decisions
        .check(&input, time_left, |decision| respond(decision, decisions))
        .await
        .map_err(RateLimitError::Check)
}

/// The entry `cost`, or the descriptor's `hits_addend`, or the request's.
fn cost(request: &RateLimitRequest) -> Result<Option<u64>, ()> {
    if let Some(text) = entry(&request.descriptors, "cost") {
        return std::str::from_utf8(text).map_err(drop)?.parse().map(Some).map_err(drop);
    }
    let of_descriptor = request.descriptors.iter().find_map(|descriptor| descriptor.hits_addend);
    Ok(of_descriptor.or_else(|| (request.hits_addend > 0).then(|| request.hits_addend.into())))
}

fn respond(decision: &Decision<'_>, decisions: &Decisions) -> RateLimitResponse {
    let sets = &decisions.settings().envoy_headers;
    let mut response_headers = headers::headers(decision, sets);
    let body = headers::problem(decision);
    if body.is_some() {
        response_headers.push(("content-type", headers::PROBLEM_JSON.to_owned()));
    }
    let overall = if decision.verdict.is_allowed() { Code::Ok } else { Code::OverLimit };
    // Envoy shows the first of those with the least left.
    let tightest = decision.tightest();
    let others = decision
        .limits
        .iter()
        .filter(|limit| !tightest.is_some_and(|tightest| std::ptr::eq(tightest, *limit)));
    let mut statuses: Vec<_> =
        tightest.into_iter().chain(others).map(|limit| status(limit, overall)).collect();
    if statuses.is_empty() {
        // Without a limit in it nothing is announced to a stranger.
        statuses.push(DescriptorStatus { code: overall.into(), ..DescriptorStatus::default() });
    }
    RateLimitResponse {
        overall_code: overall.into(),
        statuses,
        response_headers_to_add: response_headers
            .into_iter()
            .map(|(key, value)| HeaderValue {
                key: key.to_owned(),
                value,
                ..HeaderValue::default()
            })
            .collect(),
        request_headers_to_add: Vec::new(),
        raw_body: body.map(Bytes::from).unwrap_or_default(),
        dynamic_metadata: Some(string_struct(metadata(decision))),
    }
}

/// What the filters behind, the access log and `local_reply_config` can read of a decision.
pub(crate) fn metadata<'d>(
    decision: &'d Decision<'_>,
) -> impl Iterator<Item = (&'static str, &'d str)> {
    let reason = decision.verdict.reason();
    let deny = reason.and_then(|reason| match reason.http_status() {
        403 => Some("forbidden"),
        503 => Some("unavailable"),
        400 => Some("invalid"),
        _ => None,
    });
    [
        ("receipt", decision.receipt.as_deref()),
        ("reason", reason.map(Reason::name)),
        ("deny", deny),
        ("plan", Some(&*decision.plan)),
        ("entitlement", Some(&*decision.entitlement)),
        ("subscriber", Some(&*decision.subscriber)),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)))
}

fn status(limit: &LimitStatus<'_>, overall: Code) -> DescriptorStatus {
    let over = limit.violated && overall == Code::OverLimit;
    let until_ns = if over { limit.settles_after_ns() } else { limit.reset_after_ns };
    DescriptorStatus {
        code: if over { Code::OverLimit } else { Code::Ok }.into(),
        current_limit: Some(current_limit(limit)),
        limit_remaining: u32::try_from(limit.remaining).unwrap_or(u32::MAX),
        duration_until_reset: Some(duration(until_ns)),
    }
}

const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;

/// A limit in Envoy's terms: requests per unit of time.
fn current_limit(limit: &LimitStatus<'_>) -> CurrentLimit {
    let (requests, unit) = match limit.kind {
        LimitKind::Rate => rate(limit.limit, limit.window_ns),
        LimitKind::Quota => (limit.limit, period_unit(limit.window_ns)),
    };
    let requests_per_unit = u32::try_from(requests).unwrap_or(u32::MAX);
    CurrentLimit {
        requests_per_unit,
        unit,
        name: limit.name.clone().into_owned(),
        unit_multiplier: None,
    }
}

/// The smallest unit in which a rate is at least 1: 0.01 a second is 36 per HOUR.
fn rate(burst: u64, window_ns: u64) -> (u64, i32) {
    const UNITS: [(u64, i32); 4] = [(1, 1), (60, 2), (HOUR_S, 3), (DAY_S, 4)];
    let window = u128::from(window_ns.max(1));
    // A token's interval is rounded up to a nanosecond, so a whole rate comes out a trace too
    // small: to the nearest.
    let per = |unit_s: u64| {
        let tokens = u128::from(burst) * u128::from(unit_s * SECOND_NS);
        let nearest = u64::try_from((tokens + window / 2) / window).unwrap_or(u64::MAX);
        (nearest, tokens + tokens / 1_000_000 >= window)
    };
    let found = UNITS.into_iter().find_map(|(unit_s, unit)| {
        let (requests, at_least_one) = per(unit_s);
        at_least_one.then_some((requests, unit))
    });
    // Slower than one a day.
    found.unwrap_or((per(365 * DAY_S).0.max(1), 6))
}

/// The unit of a calendar period by its length, which a change of the clock makes an hour shorter
/// or longer.
fn period_unit(window_ns: u64) -> i32 {
    match window_ns / SECOND_NS {
        0..=60 => 2,
        61..=7200 => 3,
        7201..=90_000 => 4,
        90_001..=608_400 => 7,
        608_401..=2_682_000 => 5,
        _ => 6,
    }
}

async fn report(
    decisions: &Decisions,
    request: &RateLimitRequest,
) -> Result<RateLimitResponse, RateLimitError> {
    for descriptor in &request.descriptors {
        settle(decisions, std::slice::from_ref(descriptor)).await?;
    }
    let status = || DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() };
    let statuses = request.descriptors.iter().map(|_| status()).collect();
    // Nobody reads it: Envoy has answered the caller already.
    Ok(RateLimitResponse {
        overall_code: Code::Ok.into(),
        statuses,
        ..RateLimitResponse::default()
    })
}

async fn settle(decisions: &Decisions, descriptor: &[Descriptor]) -> Result<(), RateLimitError> {
    let value = |key| entry(descriptor, key);
    let target = value("target").map(String::from_utf8_lossy).unwrap_or_default();
    // An open method, or a caller without a key: there is nothing to settle.
    let Some(subject) = subject(descriptor, &target) else { return Ok(()) };
    match outcome(descriptor).zip(real_cost(descriptor)) {
        Some((outcome, cost)) => decisions
            .settle(&Report { subject, outcome, cost })
            .await
            .map(drop)
            .map_err(RateLimitError::Report),
        None => {
            decisions.reject_report();
            Ok(())
        }
    }
}

/// What a descriptor reports on. `None`: nothing.
fn subject<'d>(descriptor: &'d [Descriptor], target: &'d str) -> Option<ReportSubject<'d>> {
    let value = |key| entry(descriptor, key);
    if let Some(receipt) = value("receipt") {
        return Some(ReportSubject::Receipt(receipt));
    }
    // Where the gateway gives it, it tells a report that Envoy sends again from another request's.
    let operation_id = value("operation_id").unwrap_or_default();
    Some(ReportSubject::Caller { api_key: value("api_key")?, target, operation_id })
}

/// How Envoy says a request ended. `None`: a status that is none.
fn outcome(descriptor: &[Descriptor]) -> Option<Outcome> {
    let number = |key| {
        entry(descriptor, key).map(|text| std::str::from_utf8(text).ok()?.parse::<u16>().ok())
    };
    let ending = match (number("status"), number("grpc_status")) {
        // There was no response to have a status: the caller had gone.
        (None, _) => Ending::CallerGone,
        (Some(status), None) => Ending::Http(status?),
        // The status of a gRPC call is in its trailers, and its HTTP status is 200 whatever
        // happened.
        (Some(Some(200)), Some(grpc)) => Ending::Grpc(u8::try_from(grpc?).ok()?),
        (Some(status), Some(_)) => Ending::Http(status?),
    };
    let details = entry(descriptor, "details");
    let made_by_gateway =
        details.is_some_and(|details| !details.is_empty() && details != b"via_upstream");
    let outcome = Outcome { ending, made_by_gateway };
    outcome.class().map(|_| outcome)
}

fn real_cost(descriptor: &[Descriptor]) -> Option<Option<u64>> {
    match entry(descriptor, "cost") {
        None => Some(None),
        Some(text) => std::str::from_utf8(text).ok()?.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::wire::Entry;

    #[test]
    fn a_report_is_on_a_receipt_or_else_on_a_caller_and_its_operation() {
        let of = |entries: &[(&str, &str)]| {
            let entries = entries.iter().map(|(key, value)| Entry {
                key: key.as_bytes().to_vec().into(),
                value: value.as_bytes().to_vec().into(),
            });
            let entries = entries.collect();
            let descriptor = [Descriptor { entries, ..Descriptor::default() }];
            subject(&descriptor, "t").map(|subject| match subject {
                ReportSubject::Receipt(receipt) => String::from_utf8_lossy(receipt).into_owned(),
                ReportSubject::Caller { api_key, target, operation_id } => {
                    let text = String::from_utf8_lossy;
                    format!("{} {target} {}", text(api_key), text(operation_id))
                }
            })
        };
        assert_eq!(of(&[("status", "200")]), None);
        assert_eq!(of(&[("operation_id", "o")]), None);
        assert_eq!(of(&[("api_key", "k")]).unwrap(), "k t ");
        assert_eq!(of(&[("api_key", "k"), ("operation_id", "o")]).unwrap(), "k t o");
        assert_eq!(of(&[("api_key", "k"), ("operation_id", "o"), ("receipt", "r")]).unwrap(), "r");
    }

    #[test]
    fn a_rate_is_said_in_the_smallest_unit_in_which_it_is_at_least_one() {
        let of = |micros: u64, burst| {
            let limit = crate::decide::gcra::MicroRate(micros).limit(Some(burst)).unwrap();
            rate(limit.burst(), limit.tolerance_ns())
        };
        for (micros, burst, said) in [
            (20_000_000, 40, (20, 1)),
            (3_000_000, 3, (3, 1)),
            (1_000_000, 1, (1, 1)),
            (500_000, 1, (30, 2)),
            (400_000, 5, (24, 2)),
            (10_000, 1, (36, 3)),
            (100, 1, (9, 4)),
            (1, 1, (32, 6)),
            (1_000_000_000_000_000, 1, (1_000_000_000, 1)),
        ] {
            assert_eq!(of(micros, burst), said, "{micros} millionths a second, burst {burst}");
        }
    }

    #[test]
    fn a_period_is_known_by_its_length_also_when_the_clock_changes() {
        for (hours, unit) in [
            (1, 3),
            (2, 3),
            (23, 4),
            (24, 4),
            (25, 4),
            (167, 7),
            (169, 7),
            (28 * 24 - 1, 5),
            (31 * 24 + 1, 5),
            (365 * 24, 6),
        ] {
            assert_eq!(period_unit(hours * HOUR_S * SECOND_NS), unit, "{hours} h");
        }
        assert_eq!(period_unit(60 * SECOND_NS), 2);
    }
}
