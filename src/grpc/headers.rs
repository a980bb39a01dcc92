//! What the caller reads of a decision: response headers, and the body of a refusal.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::json;

use crate::config::HeaderSets;
use crate::decide::time::SECOND_NS;
use crate::decide::verdict::{Decision, LimitStatus, Reason, Verdict};

/// A header's name, in lower case, and its value.
pub(super) type Header = (&'static str, String);

/// The headers of an answer.
pub fn headers(decision: &Decision<'_>, sets: &HeaderSets) -> Vec<Header> {
    let mut headers = Vec::new();
    each(decision, sets, |name, value| headers.push((name, value.to_owned())));
    headers
}

/// Tells the headers of an answer, one after the other.
pub(super) fn each(
    decision: &Decision<'_>,
    sets: &HeaderSets,
    mut tell: impl FnMut(&'static str, &str),
) {
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
    if sets.ratelimit && own(decision).next().is_some() {
        tell("ratelimit-policy", &|list| {
            own(decision).for_each(|limit| {
                item(
                    list,
                    decision,
                    limit,
                    [(";q=", limit.limit), (";w=", seconds(limit.window_ns).max(1))],
                )
            });
        });
        tell("ratelimit", &|list| {
            let left = |limit: &LimitStatus<'_>| {
                [(";r=", limit.remaining), (";t=", seconds(limit.settles_after_ns()))]
            };
            own(decision).for_each(|limit| item(list, decision, limit, left(limit)));
        });
    }
    if let (true, Some(tightest)) = (sets.x_ratelimit, decision.tightest()) {
        tell("x-ratelimit-limit", &|value| push_number(value, tightest.limit));
        tell("x-ratelimit-remaining", &|value| push_number(value, tightest.remaining));
        // A refusal names one moment, and none where waiting does not help.
        let reset_s = match decision.verdict {
            Verdict::Deny { retry_after_ns, .. } if tightest.refuses() => {
                retry_after_ns.map(|ns| seconds(ns).max(1))
            }
            _ => Some(seconds(tightest.reset_after_ns)),
        };
        if let Some(reset_s) = reset_s {
            tell("x-ratelimit-reset", &|value| push_number(value, reset_s));
        }
    }
}

/// The limits that are the caller's own. Those of a target or of the account are everybody's, and
/// are not listed.
fn own<'d>(decision: &'d Decision<'_>) -> impl Iterator<Item = &'d LimitStatus<'d>> {
    decision.limits.iter().filter(|limit| limit.scope.is_own())
}

/// Whole seconds, rounded up: a caller that waits so long does not come early.
fn seconds(ns: u64) -> u64 {
    ns.div_ceil(SECOND_NS)
}

/// Room for the lists of most answers.
const LIST_BYTES: usize = 120;

/// The largest integer of structured fields: 15 digits (RFC 9651, section 3.3.1).
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// One more item of a list of structured fields (RFC 9651), with its parameters.
fn item(
    list: &mut String,
    decision: &Decision<'_>,
    limit: &LimitStatus<'_>,
    parameters: [(&str, u64); 2],
) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    quote(list, &policy_name(decision, limit));
    for (parameter, value) in parameters {
        list.push_str(parameter);
        push_number(list, value.min(MAX_INTEGER));
    }
}

/// The name of a limit among those of its answer: a list must not hold two policies of one name,
/// and a quota may be called `rate`.
fn policy_name<'l>(decision: &Decision<'_>, limit: &'l LimitStatus<'_>) -> Cow<'l, str> {
    let is_taken = |name: &str| own(decision).any(|other| other.name == name);
    let before = own(decision)
        .take_while(|other| !std::ptr::eq(*other, limit))
        .filter(|other| other.name == limit.name)
        .count();
    if before == 0 {
        return Cow::Borrowed(&limit.name);
    }
    // The second of a name takes its first number that is free, the third the next one.
    let mut free =
        (2_u32..).map(|number| format!("{}-{number}", limit.name)).filter(|name| !is_taken(name));
    free.nth(before - 1).map_or(Cow::Borrowed(&limit.name), Cow::Owned)
}

/// A string of structured fields (RFC 9651). What it cannot hold is percent-encoded.
fn quote(text: &mut String, name: &str) {
    text.push('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            _ => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    // Writing to a text cannot fail.
                    let _ = write!(text, "%{byte:02X}");
                }
            }
        }
    }
    text.push('"');
}

/// Digits without the machinery of formatting, which would be half the price of an answer's
/// headers.
fn push_number(text: &mut String, number: u64) {
    let mut buffer = itoa::Buffer::new();
    text.push_str(buffer.format(number));
}

/// The media type of [`problem`].
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// The body of a refusal: a problem document (RFC 9457), its type and `violated-policies` those of
/// draft-ietf-httpapi-ratelimit-headers.
pub(super) fn problem(decision: &Decision<'_>) -> Option<String> {
    let Verdict::Deny { reason, retry_after_ns } = decision.verdict else { return None };
    let (kind, title) = match reason.http_status() {
        403 => ("about:blank", "Forbidden"),
        503 => (
            "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
            "Service Unavailable",
        ),
        400 => ("about:blank", "Bad Request"),
        _ => {
            ("https://iana.org/assignments/http-problem-types#quota-exceeded", "Too Many Requests")
        }
    };
    let mut body = json!({"type": kind, "title": title, "status": reason.http_status(), "reason": reason.name()});
    if reason.http_status() == 429
        && let Some(fields) = body.as_object_mut()
    {
        let violated: Vec<&str> = decision
            .limits
            .iter()
            .filter(|limit| limit.violated)
            .map(|limit| &*limit.name)
            .collect();
        fields.insert("violated-policies".to_owned(), json!(violated));
        if retry_after_ns.is_none() {
            fields.insert(
                "detail".to_owned(),
                json!(
                    "The request asks for more than the limit allows at all; waiting does not help."
                ),
            );
        }
    }
    Some(body.to_string())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::decide::verdict::{LimitKind, LimitScope};

    const ALL: HeaderSets = HeaderSets { retry_after: true, ratelimit: true, x_ratelimit: true };

    fn limit(
        name: &'static str,
        limit: u64,
        remaining: u64,
        reset_after_ns: u64,
        window_s: u64,
    ) -> LimitStatus<'static> {
        let scope = match name {
            "target" => LimitScope::Target,
            "account" => LimitScope::Account,
            _ => LimitScope::Entitlement,
        };
        LimitStatus {
            name: name.into(),
            scope,
            kind: LimitKind::Quota,
            limit,
            remaining,
            reset_after_ns,
            window_ns: window_s * SECOND_NS,
            violated: remaining == 0,
            enforced: true,
            wait_ns: Some(if remaining == 0 { reset_after_ns } else { 0 }),
        }
    }

    fn decision(verdict: Verdict, limits: &[LimitStatus<'static>]) -> Decision<'static> {
        let nothing = Cow::Borrowed("");
        let limits = limits.iter().cloned().collect();
        Decision {
            verdict,
            plan: nothing.clone(),
            entitlement: nothing.clone(),
            subscriber: nothing,
            limits,
            receipt: None,
            note: None,
        }
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
        assert_eq!(
            shown(
                &allowed,
                &HeaderSets { retry_after: true, ratelimit: false, x_ratelimit: false }
            ),
            ""
        );
    }

    #[test]
    fn retry_after_is_whole_seconds_up_and_absent_where_waiting_does_not_help() {
        let refused = |retry_after_ns| {
            decision(Verdict::Deny { reason: Reason::QuotaExceeded, retry_after_ns }, &[])
        };
        assert_eq!(shown(&refused(Some(0)), &ALL), "retry-after: 1\n");
        assert_eq!(shown(&refused(Some(SECOND_NS)), &ALL), "retry-after: 1\n");
        assert_eq!(shown(&refused(Some(SECOND_NS + 1)), &ALL), "retry-after: 2\n");
        assert_eq!(shown(&refused(None), &ALL), "");
    }

    fn refused(retry_after_ns: Option<u64>, limits: &[LimitStatus<'static>]) -> Decision<'static> {
        decision(Verdict::Deny { reason: Reason::QuotaExceeded, retry_after_ns }, limits)
    }

    const DAY_NS: u64 = 86_400 * SECOND_NS;

    #[test]
    fn a_refusal_shows_the_limit_that_keeps_the_caller_longest() {
        let limits = [
            limit("daily", 2, 0, DAY_NS / 2, 86_400),
            limit("yearly", 2, 0, 30 * DAY_NS, 31_536_000),
        ];
        let both = [limits[0].clone(), limits[1].clone()];
        for order in [both.clone(), [both[1].clone(), both[0].clone()]] {
            let shown = shown(&refused(Some(30 * DAY_NS), &order), &ALL);
            assert!(
                shown.contains("retry-after: 2592000\n")
                    && shown.contains("x-ratelimit-reset: 2592000\n"),
                "{shown}"
            );
        }
        // One that refuses nothing is not shown, however long it lasts.
        let soft = LimitStatus { enforced: false, wait_ns: Some(0), ..both[1].clone() };
        let shown = shown(&refused(Some(DAY_NS / 2), &[soft, both[0].clone()]), &ALL);
        assert!(
            shown.contains("retry-after: 43200\n") && shown.contains("x-ratelimit-reset: 43200\n"),
            "{shown}"
        );
    }

    #[test]
    fn an_admission_shows_the_limit_that_refuses_first() {
        let soft = LimitStatus { enforced: false, ..limit("soft", 5, 0, DAY_NS, 86_400) };
        let limits = [
            soft,
            limit("daily", 9, 3, DAY_NS, 86_400),
            limit("weekly", 9, 3, 7 * DAY_NS, 604_800),
        ];
        let shown = shown(&decision(Verdict::Allow { over_quota: true }, &limits), &ALL);
        assert!(shown.contains("x-ratelimit-remaining: 3\nx-ratelimit-reset: 604800\n"), "{shown}");
    }

    #[test]
    fn a_limit_is_told_by_where_it_comes_from_and_not_by_its_name() {
        let named = |name: &'static str| LimitStatus {
            scope: LimitScope::Entitlement,
            ..limit(name, 1, 0, DAY_NS, 86_400)
        };
        for name in ["account", "target", "rate"] {
            let shown = shown(
                &refused(Some(DAY_NS), &[limit("rate", 50, 49, SECOND_NS, 50), named(name)]),
                &ALL,
            );
            assert!(
                shown.contains("x-ratelimit-remaining: 0\n")
                    && shown.contains("x-ratelimit-reset: 86400\n"),
                "{name}: {shown}"
            );
            assert!(shown.contains("q=1;w=86400"), "{name}: {shown}");
        }
        // A limit that is everybody's is shown where it refuses.
        let shown = shown(
            &refused(
                Some(SECOND_NS),
                &[limit("rate", 50, 49, 1, 50), limit("account", 7, 0, SECOND_NS, 1)],
            ),
            &ALL,
        );
        assert!(shown.contains("x-ratelimit-limit: 7\n") && !shown.contains("account"), "{shown}");
    }

    #[test]
    fn a_bucket_that_refuses_shows_when_the_request_passes() {
        let bucket = LimitStatus {
            wait_ns: Some(1_000 * SECOND_NS),
            ..limit("rate", 3, 0, 3_000 * SECOND_NS, 3_000)
        };
        let shown = shown(&refused(Some(1_000 * SECOND_NS), &[bucket]), &ALL);
        assert!(
            shown.contains("retry-after: 1000\n") && shown.contains("x-ratelimit-reset: 1000\n"),
            "{shown}"
        );
        assert!(shown.contains(r#"ratelimit: "rate";r=0;t=1000"#), "{shown}");
    }

    #[test]
    fn what_never_passes_names_no_moment() {
        let never = LimitStatus { wait_ns: None, ..limit("daily", 3, 3, DAY_NS, 86_400) };
        let shown = shown(&refused(None, &[LimitStatus { violated: true, ..never }]), &ALL);
        assert!(
            !shown.contains("retry-after")
                && !shown.contains("x-ratelimit-reset")
                && shown.contains("x-ratelimit-limit: 3\n"),
            "{shown}"
        );
    }

    /// Reads a list of structured fields as RFC 9651 has it: strings with integer parameters. Gives
    /// the names.
    fn parse(list: &str) -> Option<Vec<String>> {
        let mut rest = list;
        let mut names = Vec::new();
        loop {
            let mut name = String::new();
            let mut characters = rest.strip_prefix('"')?.char_indices();
            let end = loop {
                match characters.next()? {
                    (at, '"') => break at,
                    (_, '\\') => {
                        name.push(characters.next().filter(|(_, c)| matches!(c, '"' | '\\'))?.1)
                    }
                    (_, c) => name.push(Some(c).filter(|c| matches!(c, ' '..='~'))?),
                }
            };
            names.push(name);
            rest = &rest[end + 2..];
            while let Some(parameter) = rest.strip_prefix(';') {
                let (key, value) = parameter.split_once('=')?;
                let digits = value.bytes().take_while(u8::is_ascii_digit).count();
                if key.is_empty()
                    || !key.bytes().all(|byte| byte.is_ascii_lowercase())
                    || !(1..=15).contains(&digits)
                {
                    return None;
                }
                rest = &value[digits..];
            }
            if rest.is_empty() {
                return Some(names);
            }
            rest = rest.strip_prefix(", ")?;
        }
    }

    proptest::proptest! {
        #[test]
        fn lists_are_structured_fields_and_name_each_limit_once(
            limits in proptest::collection::vec((".{0,12}|rate|rate-2", proptest::num::u64::ANY, proptest::num::u64::ANY), 1..6),
        ) {
            let limits: Vec<_> = limits
                .into_iter()
                .map(|(name, most, ns)| LimitStatus { name: name.into(), limit: most, ..limit("", 0, ns, ns, 1) })
                .map(|limit| LimitStatus { scope: LimitScope::Entitlement, window_ns: limit.reset_after_ns, ..limit })
                .collect();
            for (name, value) in headers(&decision(Verdict::Allow { over_quota: false }, &limits), &ALL) {
                if name.starts_with("ratelimit") {
                    let mut names = parse(&value).ok_or_else(|| proptest::test_runner::TestCaseError::fail(value.clone()))?;
                    names.sort();
                    names.dedup();
                    proptest::prop_assert_eq!(names.len(), limits.len(), "{}", value);
                }
            }
        }
    }

    #[test]
    fn a_stranger_is_told_nothing_about_limits() {
        let limits = [limit("rate", 40, 39, 1, 2)];
        let refused = decision(
            Verdict::Deny { reason: Reason::ApiKeyUnknown, retry_after_ns: None },
            &limits,
        );
        assert_eq!(shown(&refused, &ALL), "");
        assert_eq!(
            problem(&refused).unwrap(),
            r#"{"reason":"API_KEY_UNKNOWN","status":403,"title":"Forbidden","type":"about:blank"}"#
        );
    }

    #[test]
    fn a_problem_names_what_was_violated() {
        let limits = [limit("rate", 40, 39, 1, 2), limit("daily", 100, 0, 1, 86_400)];
        let refused = decision(
            Verdict::Deny { reason: Reason::QuotaExceeded, retry_after_ns: Some(1) },
            &limits,
        );
        let body = problem(&refused).unwrap();
        assert!(
            body.contains(r#""violated-policies":["daily"]"#)
                && body.contains("http-problem-types#quota-exceeded"),
            "{body}"
        );
        assert_eq!(problem(&decision(Verdict::Allow { over_quota: false }, &[])), None);
    }

    #[test]
    fn names_are_written_as_structured_fields_have_them() {
        let mut text = String::new();
        quote(&mut text, r#"a "b" \ é"#);
        assert_eq!(text, r#""a \"b\" \\ %C3%A9""#);
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
