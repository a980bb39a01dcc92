//! How long a caller waits for its answer.

use std::time::Duration;

use axum::http::HeaderMap;

use crate::decide::time::Now;

/// What the answer needs to get back to the caller.
const WAY_BACK: Duration = Duration::from_millis(2);

/// The time that is left for a decision by the call's own deadline, which starts when the call does. `None`: it has none.
pub(super) fn time_left(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    Some(timeout(text)?.saturating_sub(WAY_BACK))
}

/// How long a request may wait for the ledger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    since_ns: u64,
    at_most: Duration,
}

impl Patience {
    /// From now on, for at most so long, and never past what is left by the call's own deadline.
    pub(super) fn new(now: Now, at_most: Duration, time_left: Option<Duration>) -> Self {
        Self { since_ns: now.steady_ns, at_most: time_left.map_or(at_most, |left| left.min(at_most)) }
    }

    /// What is left of it.
    pub(super) fn left(self, now: Now) -> Duration {
        self.at_most.saturating_sub(Duration::from_nanos(now.steady_ns.saturating_sub(self.since_ns)))
    }
}

/// The header `grpc-timeout`: at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| plain)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, ms) in [("20m", 20), ("20000u", 20), ("1S", 1000), ("2M", 120_000), ("1H", 3_600_000), ("5000000n", 5), ("0S", 0)] {
            assert_eq!(timeout(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "123456789S", "1 S", "+1S", "é"] {
            assert_eq!(timeout(text), None, "{text}");
        }
    }

    #[test]
    fn patience_is_over_at_its_instant() {
        let at = |steady_ns| Now { unix_ns: 0, steady_ns };
        let (short, long) = (Duration::from_nanos(100), Duration::from_nanos(101));
        for (at_most, time_left) in [(short, None), (short, Some(long)), (long, Some(short))] {
            let patience = Patience::new(at(5), at_most, time_left);
            assert_eq!([4, 5, 104, 105, 106].map(|ns| patience.left(at(ns)).as_nanos()), [100, 100, 1, 0, 0]);
        }
    }

    #[test]
    fn the_way_back_is_kept_free() {
        let mut headers = HeaderMap::new();
        assert_eq!(time_left(&headers), None);
        headers.insert("grpc-timeout", "20m".parse().unwrap());
        assert_eq!(time_left(&headers), Some(Duration::from_millis(18)));
        headers.insert("grpc-timeout", "1m".parse().unwrap());
        assert_eq!(time_left(&headers), Some(Duration::ZERO));
    }
}
