//! What the caller reads of a decision: response headers, and the body of a refusal.

use serde_json::json;

use crate::config::HeaderSets;
use crate::decide::time::SECOND_NS;
use crate::decide::verdict::{Decision, LimitStatus, Reason, Verdict};

/// A header's name, in lower case, and its value.
pub type Header = (&'static str, String);

/// The headers of an answer.
pub fn headers(decision: &Decision<'_>, sets: &HeaderSets) -> Vec<Header> {
    let mut headers = Vec::new();
    each(decision, sets, |name, value| headers.push((name, value.to_owned())));
    headers
}

/// Tells the headers of an answer, one after the other. Limits of a target or of the account are everybody's, and are not shown.
pub fn each(decision: &Decision<'_>, sets: &HeaderSets, mut tell: impl FnMut(&'static str, &str)) {
    let mut value = String::with_capacity(LIST_BYTES);
    let mut tell = |name, write: &dyn Fn(&mut String)| {
        value.clear();
        write(&mut value);
        tell(name, &value);
    };
    if let Verdict::Deny { reason, retry_after_ns } = decision.verdict {
        if reason.http_status() == 403 || reason == Reason::InvalidRequest {
            return;
        }
        if let (true, Some(retry_after_ns)) = (sets.retry_after, retry_after_ns) {
            tell("retry-after", &|value| push_number(value, seconds(retry_after_ns).max(1)));
        }
    }
    let own = || decision.limits.iter().filter(|limit| is_own(limit));
    if own().next().is_none() {
        return;
    }
    if sets.ratelimit {
        tell("ratelimit-policy", &|list| {
            own().for_each(|limit| item(list, &limit.name, [(";q=", limit.limit), (";w=", seconds(limit.window_ns).max(1))]));
        });
        tell("ratelimit", &|list| {
            own().for_each(|limit| item(list, &limit.name, [(";r=", limit.remaining), (";t=", seconds(limit.reset_after_ns))]));
        });
    }
    if let (true, Some(tightest)) = (sets.x_ratelimit, own().min_by_key(|limit| limit.remaining)) {
        tell("x-ratelimit-limit", &|value| push_number(value, tightest.limit));
        tell("x-ratelimit-remaining", &|value| push_number(value, tightest.remaining));
        tell("x-ratelimit-reset", &|value| push_number(value, seconds(tightest.reset_after_ns)));
    }
}

fn is_own(limit: &LimitStatus<'_>) -> bool {
    limit.name != "account" && limit.name != "target" && !limit.name.starts_with("target:")
}

/// Whole seconds, rounded up: a caller that waits so long does not come early.
fn seconds(ns: u64) -> u64 {
    ns.div_ceil(SECOND_NS)
}

/// Room for the lists of most answers.
const LIST_BYTES: usize = 120;

/// One more item of a list of structured fields (RFC 9651), with its parameters.
fn item(list: &mut String, name: &str, parameters: [(&str, u64); 2]) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    quote(list, name);
    for (parameter, value) in parameters {
        list.push_str(parameter);
        push_number(list, value);
    }
}

/// A string of structured fields (RFC 9651). What it cannot hold becomes `?`.
fn quote(text: &mut String, name: &str) {
    text.push('"');
    if name.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        text.push_str(name);
    } else {
        for character in name.chars() {
            match character {
                '"' | '\\' => text.extend(['\\', character]),
                ' '..='~' => text.push(character),
                _ => text.push('?'),
            }
        }
    }
    text.push('"');
}

/// Digits without the machinery of formatting, which would be half the price of an answer's headers.
fn push_number(text: &mut String, number: u64) {
    let mut buffer = itoa::Buffer::new();
    text.push_str(buffer.format(number));
}

/// The media type of [`problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The body of a refusal: a problem document (RFC 9457), its type and `violated-policies` those of draft-ietf-httpapi-ratelimit-headers.
pub fn problem(decision: &Decision<'_>) -> Option<String> {
    let Verdict::Deny { reason, retry_after_ns } = decision.verdict else { return None };
    let (kind, title) = match reason.http_status() {
        403 => ("about:blank", "Forbidden"),
        503 => ("https://iana.org/assignments/http-problem-types#temporary-reduced-capacity", "Service Unavailable"),
        400 => ("about:blank", "Bad Request"),
        _ => ("https://iana.org/assignments/http-problem-types#quota-exceeded", "Too Many Requests"),
    };
    let mut body = json!({"type": kind, "title": title, "status": reason.http_status(), "reason": reason.name()});
    if reason.http_status() == 429
        && let Some(fields) = body.as_object_mut()
    {
        let violated: Vec<&str> = decision.limits.iter().filter(|limit| limit.violated).map(|limit| &*limit.name).collect();
        fields.insert("violated-policies".to_owned(), json!(violated));
        if retry_after_ns.is_none() {
            fields.insert("detail".to_owned(), json!("The request asks for more than the limit allows at all; waiting does not help."));
        }
    }
    Some(body.to_string())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::decide::verdict::LimitKind;

    const ALL: HeaderSets = HeaderSets { retry_after: true, ratelimit: true, x_ratelimit: true };

    fn limit(name: &'static str, limit: u64, remaining: u64, reset_after_ns: u64, window_s: u64) -> LimitStatus<'static> {
        let kind = LimitKind::Quota;
        LimitStatus { name: name.into(), kind, limit, remaining, reset_after_ns, window_ns: window_s * SECOND_NS, violated: remaining == 0 }
    }

    fn decision(verdict: Verdict, limits: &[LimitStatus<'static>]) -> Decision<'static> {
        let nothing = Cow::Borrowed("");
        let limits = limits.iter().cloned().collect();
        Decision { verdict, plan: nothing.clone(), entitlement: nothing.clone(), subscriber: nothing, limits, receipt: None, note: None }
    }

    fn shown(decision: &Decision<'_>, sets: &HeaderSets) -> String {
        headers(decision, sets).iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }

    #[test]
    fn an_admission_shows_every_own_limit_and_the_tightest() {
        let limits = [
            limit("rate", 40, 39, 1, 2),
            limit("daily", 100, 7, 3600 * SECOND_NS + 1, 86_400),
            limit("target", 1, 0, 1, 1),
            limit("account", 1, 0, 1, 1),
        ];
        let allowed = decision(Verdict::Allow { over_quota: false }, &limits);
        insta::assert_snapshot!(shown(&allowed, &ALL), @r#"
        ratelimit-policy: "rate";q=40;w=2, "daily";q=100;w=86400
        ratelimit: "rate";r=39;t=1, "daily";r=7;t=3601
        x-ratelimit-limit: 100
        x-ratelimit-remaining: 7
        x-ratelimit-reset: 3601
        "#);
        assert_eq!(shown(&allowed, &HeaderSets { retry_after: true, ratelimit: false, x_ratelimit: false }), "");
    }

    #[test]
    fn retry_after_is_whole_seconds_up_and_absent_where_waiting_does_not_help() {
        let refused = |retry_after_ns| decision(Verdict::Deny { reason: Reason::QuotaExceeded, retry_after_ns }, &[]);
        assert_eq!(shown(&refused(Some(0)), &ALL), "retry-after: 1\n");
        assert_eq!(shown(&refused(Some(SECOND_NS)), &ALL), "retry-after: 1\n");
        assert_eq!(shown(&refused(Some(SECOND_NS + 1)), &ALL), "retry-after: 2\n");
        assert_eq!(shown(&refused(None), &ALL), "");
    }

    #[test]
    fn a_stranger_is_told_nothing_about_limits() {
        let limits = [limit("rate", 40, 39, 1, 2)];
        let refused = decision(Verdict::Deny { reason: Reason::ApiKeyUnknown, retry_after_ns: None }, &limits);
        assert_eq!(shown(&refused, &ALL), "");
        assert_eq!(problem(&refused).unwrap(), r#"{"reason":"API_KEY_UNKNOWN","status":403,"title":"Forbidden","type":"about:blank"}"#);
    }

    #[test]
    fn a_problem_names_what_was_violated() {
        let limits = [limit("rate", 40, 39, 1, 2), limit("daily", 100, 0, 1, 86_400)];
        let refused = decision(Verdict::Deny { reason: Reason::QuotaExceeded, retry_after_ns: Some(1) }, &limits);
        let body = problem(&refused).unwrap();
        assert!(body.contains(r#""violated-policies":["daily"]"#) && body.contains("http-problem-types#quota-exceeded"), "{body}");
        assert_eq!(problem(&decision(Verdict::Allow { over_quota: false }, &[])), None);
    }

    #[test]
    fn names_are_written_as_structured_fields_have_them() {
        let mut text = String::new();
        quote(&mut text, r#"a "b" \ é"#);
        assert_eq!(text, r#""a \"b\" \\ ?""#);
    }

    #[test]
    fn numbers_are_written_out() {
        for value in [0, 9, 10, 101, 1_000_000_007, u64::MAX] {
            let mut text = String::new();
            push_number(&mut text, value);
            assert_eq!(text, value.to_string());
        }
    }
}
