//! Rates, bursts, and the calls that they are for.

use std::collections::{HashMap, HashSet};

use super::super::{MethodRate, Rate};
use super::{MAX_METHODS, Mistakes, at_most, id};
use crate::decide::gcra::{InvalidRate, MicroRate};
use crate::decide::method::{MAX_METHOD, Shape, check_path, is_any};

/// The highest rate: a billion requests per second, in millionths.
const MAX_MICRO_RATE: u64 = 1_000_000_000_000_000;
/// Characters of a path pattern.
const MAX_PATH: usize = 1_024;

/// Requests per second as a person wrote them, in millionths: what the shortest decimal of the
/// number says, and more than six decimals are cut off. (The binary value itself is a hair beside
/// most decimals: cutting it would make 0.29 a rate of 0.289999.)
///
/// Errors complete "`requests_per_second` …".
pub fn micro_rate(requests_per_second: f64) -> Result<MicroRate, &'static str> {
    if !requests_per_second.is_finite() {
        return Err("must be a finite number");
    }
    if requests_per_second <= 0.0 {
        return Err("must be more than 0 (leave the rate limit out for an unlimited rate)");
    }
    if requests_per_second > 1e9 {
        return Err("must be at most 1,000,000,000");
    }
    let decimal = format!("{requests_per_second}");
    let (whole, fraction) = decimal.split_once('.').unwrap_or((&decimal, ""));
    let digits = whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(6));
    let micro = digits.fold(0_u64, |sum, digit| sum * 10 + u64::from(digit.saturating_sub(b'0')));
    if micro == 0 {
        Err("must be at least 0.000001 (one request in a million seconds)")
    } else {
        Ok(MicroRate(micro))
    }
}

/// A token bucket as declared, in `field`.
pub(super) fn rate(field: &str, limit: &Rate, found: &mut Mistakes) {
    if limit.rate.0 == 0 || limit.rate.0 > MAX_MICRO_RATE {
        found.add(format!("{field}.requests_per_second"), "must be 0.000001 to 1,000,000,000");
        return;
    }
    match limit.rate.limit(limit.burst) {
        Ok(_) => {}
        Err(InvalidRate::NoBurst) => found.add(format!("{field}.burst"), "must be at least 1"),
        Err(error @ (InvalidRate::NoRate | InvalidRate::TooSlow)) => {
            found.add(format!("{field}.burst"), format!("does not go with the rate: {error}"));
        }
    }
}

/// Method limits. `targets`: those of the entitlement; `None` on a target's own limits, which are
/// for that target alone.
pub(super) fn method_rates(
    field: &str,
    limits: &[MethodRate],
    targets: Option<&HashSet<&str>>,
    found: &mut Mistakes,
) {
    at_most(field, limits.len(), MAX_METHODS, found);
    let mut seen: HashMap<Shape, Vec<&MethodRate>> = HashMap::new();
    for (i, limit) in limits.iter().take(MAX_METHODS).enumerate() {
        let at = format!("{field}[{i}]");
        method(&format!("{at}.method"), &limit.method, found);
        path(&format!("{at}.path"), &limit.path, found);
        rate(&at, &limit.rate, found);
        if let Some(target) = &limit.target {
            match targets {
                None => found.add(
                    format!("{at}.target"),
                    "must be left out: these limits are for this target alone",
                ),
                Some(known) if known.contains(&**target) => {
                    id(&format!("{at}.target"), target, found)
                }
                Some(_) => found.add(
                    format!("{at}.target"),
                    format!("names `{target}`, which is not a target of this entitlement"),
                ),
            }
        }
        let same_paths = seen.entry(Shape::of(&limit.path)).or_default();
        if let Some(before) = same_paths.iter().find(|before| hides(before, limit)) {
            let reason = if is_same_method(&before.method, &limit.method)
                && before.target == limit.target
            {
                format!(
                    "limits `{} {}` again, after `{} {}`",
                    limit.method, limit.path, before.method, before.path
                )
            } else {
                format!(
                    "is never met, because `{} {}` stands before it and takes all its calls: declare it first",
                    before.method, before.path
                )
            };
            found.add(at, reason);
        }
        same_paths.push(limit);
    }
}

/// Does the first of two limits for the same paths take every call of the second?
fn hides(first: &MethodRate, second: &MethodRate) -> bool {
    let takes_method = is_any(&first.method) || is_same_method(&first.method, &second.method);
    takes_method && (first.target.is_none() || first.target == second.target)
}

fn is_same_method(one: &str, other: &str) -> bool {
    one == other || is_any(one) && is_any(other)
}

/// An HTTP method in capitals, or `*`.
pub(super) fn method(field: &str, method: &str, found: &mut Mistakes) {
    if method.is_empty() {
        found.add(field, "is needed: an HTTP method, or `*` for all");
    } else if method == "ALL" {
        found.add(field, "must be `*` for all methods, not `ALL`");
    } else if method != "*"
        && (method.len() > MAX_METHOD
            || !method.bytes().all(|byte| {
                byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
            }))
    {
        found.add(field, format!("must be an HTTP method in capitals, of at most {MAX_METHOD} letters, or `*` for all: not `{method}`"));
    }
}

/// A path pattern: literal segments, `{name}` for one segment, and `*` at the end for the rest.
pub(super) fn path(field: &str, path: &str, found: &mut Mistakes) {
    if path.is_empty() {
        found.add(field, "is needed, for example `/users/{id}`");
    } else if path.len() > MAX_PATH {
        found.add(field, format!("must be at most {MAX_PATH} bytes"));
    } else if let Some(wrong) = path.chars().find(|c| c.is_whitespace() || c.is_control()) {
        found.add(field, format!("must not hold {wrong:?}"));
    } else if let Err(reason) = check_path(path) {
        found.add(field, reason);
    }
}
