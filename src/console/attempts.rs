//! Failed sign-ins: bounded for each address, so that nobody tries tokens at the speed of the
//! network.

use std::collections::HashMap;
use std::net::IpAddr;

use metrics::Counter;
use parking_lot::Mutex;

use crate::decide::time::SECOND_NS;
use crate::metrics::Metrics;

/// So many may fail from one address
pub(super) const MOST: u32 = 10;
/// within so long of the first; then its sign-ins wait until that has passed.
pub(super) const WINDOW_NS: u64 = 60 * SECOND_NS;
/// Addresses that are counted apart. Those beyond share one count.
const ADDRESSES: usize = 4_096;

#[derive(Debug)]
pub(super) struct Attempts {
    failed: Mutex<HashMap<Option<IpAddr>, Failed>>,
    results: [(&'static str, Counter); 3],
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    times: u32,
    since_ns: u64,
}

impl Failed {
    /// How long its window lasts yet.
    fn left_ns(self, now_ns: u64) -> u64 {
        WINDOW_NS.saturating_sub(now_ns.saturating_sub(self.since_ns))
    }
}

impl Attempts {
    pub(super) fn new(metrics: &Metrics) -> Self {
        metrics.describe_counter(
            "tollgate_console_sign_ins",
            "Sign-ins to the console, by result: ok, failed, or held back because 10 from that address have failed within a minute",
        );
        let results = ["ok", "failed", "held_back"]
            .map(|name| (name, metrics.counter("tollgate_console_sign_ins", &[("result", name)])));
        Self { failed: Mutex::default(), results }
    }

    fn count(&self, result: &str) {
        let counter = self.results.iter().find(|(name, _)| *name == result);
        counter.into_iter().for_each(|(_, counter)| counter.increment(1));
    }

    /// How many nanoseconds sign-ins from this address have to wait yet. `None`: they need not.
    pub(super) fn wait_ns(&self, from: Option<IpAddr>, now_ns: u64) -> Option<u64> {
        let failed = self.failed.lock();
        let from = network(from);
        let counted = failed.get(&from).or_else(|| failed.get(&None))?;
        let left_ns = counted.left_ns(now_ns);
        let waits = counted.times >= MOST && left_ns > 0;
        if waits {
            self.count("held_back");
        }
        waits.then_some(left_ns)
    }

    /// A sign-in has failed.
    pub(super) fn failed(&self, from: Option<IpAddr>, now_ns: u64) {
        self.count("failed");
        let mut all = self.failed.lock();
        let mut from = network(from);
        if !all.contains_key(&from) && all.len() >= ADDRESSES {
            all.retain(|_, failed| failed.left_ns(now_ns) > 0);
            from = from.filter(|_| all.len() < ADDRESSES);
        }
        let one = all.entry(from).or_insert(Failed { times: 0, since_ns: now_ns });
        if one.left_ns(now_ns) == 0 {
            *one = Failed { times: 0, since_ns: now_ns };
        }
        one.times = one.times.saturating_add(1);
    }

    pub(super) fn succeeded(&self) {
        self.count("ok");
    }
}

/// An address of IPv6 is one of very many that its owner has: all of them are one.
fn network(address: Option<IpAddr>) -> Option<IpAddr> {
    match address? {
        IpAddr::V6(address) => {
            let bits = u128::from(address) & (u128::MAX << 64);
            Some(IpAddr::V6(bits.into()))
        }
        address => Some(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts() -> Attempts {
        Attempts::new(&Metrics::new())
    }

    fn at(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn ten_may_fail_in_a_minute_and_the_next_waits_for_its_end() {
        let (attempts, one) = (attempts(), at("192.0.2.1"));
        for time in 0..u64::from(MOST) {
            assert_eq!(attempts.wait_ns(one, time), None);
            attempts.failed(one, time);
        }
        assert_eq!(attempts.wait_ns(one, WINDOW_NS - 1), Some(1));
        assert_eq!(attempts.wait_ns(at("192.0.2.2"), 9), None, "others need not wait");
        assert_eq!(attempts.wait_ns(one, WINDOW_NS), None);
        attempts.failed(one, WINDOW_NS);
        assert_eq!(attempts.wait_ns(one, WINDOW_NS), None, "the count began again");
    }

    #[test]
    fn all_addresses_of_one_network_of_ipv6_are_one() {
        let attempts = attempts();
        for number in 0..MOST {
            attempts.failed(at(&format!("2001:db8::{number:x}")), 0);
        }
        assert!(attempts.wait_ns(at("2001:db8::ffff"), 0).is_some());
        assert!(attempts.wait_ns(at("2001:db8:0:1::1"), 0).is_none());
    }

    #[test]
    fn beyond_so_many_addresses_all_others_share_a_count() {
        let attempts = attempts();
        let address = |number: u32| Some(IpAddr::from(number.to_be_bytes()));
        (0..4_096).for_each(|number| attempts.failed(address(number), 0));
        (0..MOST).for_each(|number| attempts.failed(address(10_000 + number), 0));
        assert_eq!(attempts.failed.lock().len(), ADDRESSES + 1);
        assert!(attempts.wait_ns(address(20_000), 0).is_some());
        assert!(attempts.wait_ns(address(5), 0).is_none(), "it has failed once");
        attempts.failed(address(30_000), WINDOW_NS);
        assert_eq!(attempts.failed.lock().len(), 1, "what is over is forgotten");
    }
}
