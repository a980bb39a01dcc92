//! How long a caller waits for its answer. Its time runs from when its call came, not from when its
//! turn comes.

use std::cell::Cell;
use std::time::Duration;

use axum::http::HeaderMap;

use crate::clock::Clock;

/// What the answer needs to get back to the caller.
const WAY_BACK: Duration = Duration::from_millis(2);

/// The call's deadline has passed. Nothing was decided, and nothing charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the deadline of the call passed before its turn came: it was not decided, and charged nowhere"
)]
pub struct Expired;

thread_local! {
    /// When the call came that is polled on this thread, on the steady clock.
    static ARRIVED_NS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// As long as it lives, what runs on this thread belongs to a call that came then.
pub(super) struct Arrived {
    before: Option<u64>,
}

impl Arrived {
    pub(super) fn at(steady_ns: u64) -> Self {
        Self { before: ARRIVED_NS.replace(Some(steady_ns)) }
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        ARRIVED_NS.set(self.before);
    }
}

/// A call's own deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    /// On the steady clock. `None`: it has none.
    at_ns: Option<u64>,
}

impl Deadline {
    /// Of the call that is polled. Where nobody says when it came, it comes now.
    pub(super) fn of(headers: &HeaderMap, clock: &Clock) -> Self {
        let timeout = headers.get("grpc-timeout").and_then(|text| timeout(text.to_str().ok()?));
        let came_ns = || ARRIVED_NS.get().unwrap_or_else(|| clock.steady_ns());
        Self {
            at_ns: timeout.map(|timeout| {
                came_ns().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX))
            }),
        }
    }

    /// The time that is left for a decision. `None`: there is no deadline.
    ///
    /// # Errors
    /// None is left for an answer: whoever asked is gone, or asks again elsewhere.
    pub(super) fn time_left(self, clock: &Clock) -> Result<Option<Duration>, Expired> {
        let Some(at_ns) = self.at_ns else { return Ok(None) };
        let left = Duration::from_nanos(at_ns.saturating_sub(clock.steady_ns()));
        if left.is_zero() { Err(Expired) } else { Ok(Some(left.saturating_sub(WAY_BACK))) }
    }
}

/// The header `grpc-timeout`: at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let plain =
        (1..=8).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
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
    use crate::decide::time::Now;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, ms) in [
            ("20m", 20),
            ("20000u", 20),
            ("1S", 1000),
            ("2M", 120_000),
            ("1H", 3_600_000),
            ("5000000n", 5),
            ("0S", 0),
        ] {
            assert_eq!(timeout(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "123456789S", "1 S", "+1S", "é"] {
            assert_eq!(timeout(text), None, "{text}");
        }
    }

    #[test]
    fn a_deadline_counts_from_when_its_call_came_and_is_over_at_its_instant() {
        let now = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let told = now.clone();
        let clock = Clock::from_fn(move || Now {
            unix_ns: 0,
            steady_ns: told.load(std::sync::atomic::Ordering::Relaxed),
        });
        let at = |steady_ns| now.store(steady_ns, std::sync::atomic::Ordering::Relaxed);
        let mut headers = HeaderMap::new();
        let left = |headers: &HeaderMap| Deadline::of(headers, &clock).time_left(&clock);
        assert_eq!(left(&headers), Ok(None));
        headers.insert("grpc-timeout", "20m".parse().unwrap());
        at(5_000_000);
        assert_eq!(
            left(&headers),
            Ok(Some(Duration::from_millis(18))),
            "nobody says that it has waited, and the way back is kept free"
        );
        let _arrived = Arrived::at(1_000_000);
        assert_eq!(left(&headers), Ok(Some(Duration::from_millis(14))));
        at(19_500_000);
        assert_eq!(
            left(&headers),
            Ok(Some(Duration::ZERO)),
            "too late to wait for anything, in time for an answer"
        );
        at(20_999_999);
        assert_eq!(left(&headers), Ok(Some(Duration::ZERO)));
        at(21_000_000);
        assert_eq!(left(&headers), Err(Expired));
        {
            let _inner = Arrived::at(21_000_000);
            assert!(left(&headers).is_ok());
        }
        assert_eq!(left(&headers), Err(Expired), "the call around it has its own");
        headers.insert("grpc-timeout", "0m".parse().unwrap());
        let _late = Arrived::at(21_000_000);
        assert_eq!(left(&headers), Err(Expired));
    }
}
