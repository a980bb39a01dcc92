//! Whether the service is healthy for want of rules.

use std::sync::Arc;
use std::time::Duration;

use super::Rulebook;
use crate::clock::Clock;

/// Which rules must be there before the service is healthy.
#[derive(Clone, Debug)]
pub struct Wanted {
    rulebook: Arc<Rulebook>,
    domains: bool,
    first: First,
}

#[derive(Clone, Debug)]
enum First {
    /// They are there at the start, or need not come.
    NotAwaited,
    Awaited,
    /// No longer than until then.
    AwaitedUntil {
        clock: Clock,
        steady_ns: u64,
    },
}

impl Wanted {
    /// Nothing is wanted, but `domains`: at least one with rules.
    pub fn new(rulebook: Arc<Rulebook>, domains: bool) -> Self {
        Self { rulebook, domains, first: First::NotAwaited }
    }

    /// The first rules have to come over the network; they are waited for, and for `at_most` so
    /// long where there is such a bound.
    #[must_use]
    pub fn awaiting(self, clock: &Clock, at_most: Option<Duration>) -> Self {
        let first = match at_most {
            None => First::Awaited,
            Some(at_most) => {
                let wait_ns = u64::try_from(at_most.as_nanos()).unwrap_or(u64::MAX);
                let steady_ns = clock.steady_ns().saturating_add(wait_ns);
                First::AwaitedUntil { clock: clock.clone(), steady_ns }
            }
        };
        Self { first, ..self }
    }

    /// Whether it has to be asked again and again.
    pub fn may_be_missing(&self) -> bool {
        self.domains || !matches!(self.first, First::NotAwaited)
    }

    /// Why the service is not healthy.
    pub fn missing(&self) -> Option<&'static str> {
        let waits = match &self.first {
            First::NotAwaited => false,
            First::Awaited => true,
            First::AwaitedUntil { clock, steady_ns } => clock.steady_ns() < *steady_ns,
        };
        if waits && !self.rulebook.has_come() {
            return Some("the first rules have not come yet (xds.server)");
        }
        if self.domains && !self.rulebook.has_domains() {
            return Some("no rules are in force (health.needs_rules)");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::decide::time::Now;
    use crate::metrics::Metrics;
    use crate::rules::declared::{Descriptor, File, RateLimit};
    use crate::rules::resources::Resources;

    const SECOND: u64 = 1_000_000_000;

    fn set(names: &[&str]) -> Resources {
        let file = |name: &&str| File {
            name: (*name).to_owned(),
            domain: (*name).to_owned(),
            descriptors: vec![Descriptor {
                key: "k".to_owned(),
                rate_limit: Some(RateLimit { unit: "HOUR".to_owned(), ..RateLimit::default() }),
                ..Descriptor::default()
            }],
            ..File::default()
        };
        Resources { read: names.iter().map(file).collect(), unread: Vec::new() }
    }

    #[test]
    fn health_waits_for_what_is_wanted_and_not_a_nanosecond_longer() {
        let now = Arc::new(AtomicU64::new(SECOND));
        let read = now.clone();
        let clock = Clock::from_fn(move || {
            let steady_ns = read.load(Ordering::Relaxed);
            Now { unix_ns: steady_ns, steady_ns }
        });
        let book = || Arc::new(Rulebook::empty(Arc::new(Metrics::new())));
        let (force, plain, needy) = (book(), book(), book());
        let ten = Some(Duration::from_secs(10));
        let forced = Wanted::new(force.clone(), false).awaiting(&clock, ten);
        let waits = Wanted::new(plain.clone(), false).awaiting(&clock, None);
        let needs = Wanted::new(needy.clone(), true).awaiting(&clock, ten);
        let files = Wanted::new(plain.clone(), false);
        assert!(forced.may_be_missing() && waits.may_be_missing() && !files.may_be_missing());
        assert_eq!(files.missing(), None);

        now.store(11 * SECOND - 1, Ordering::Relaxed);
        let first = Some("the first rules have not come yet (xds.server)");
        assert_eq!((forced.missing(), waits.missing(), needs.missing()), (first, first, first));
        now.store(11 * SECOND, Ordering::Relaxed);
        let none = Some("no rules are in force (health.needs_rules)");
        assert_eq!((forced.missing(), waits.missing(), needs.missing()), (None, first, none));

        // An empty set is a set.
        plain.take(set(&[])).unwrap();
        needy.take(set(&[])).unwrap();
        assert_eq!((waits.missing(), needs.missing()), (None, none));
        needy.take(set(&["a"])).unwrap();
        assert_eq!(needs.missing(), None);
        needy.take(set(&[])).unwrap();
        assert_eq!(needs.missing(), none, "they are gone again");
    }

    #[test]
    fn a_server_of_which_nothing_was_ever_good_has_given_no_rules() {
        let book = Rulebook::empty(Arc::new(Metrics::new()));
        let mut bad = set(&["a"]);
        bad.read[0].descriptors[0].key.clear();
        assert_eq!(book.take(bad.clone()).unwrap_err(), "a: descriptor has empty key");
        assert!(!book.has_come());
        assert!(
            book.describe().starts_with("# not in force: a: descriptor has empty key\n# no rate")
        );
        book.take(set(&["b"])).unwrap();
        assert!(book.describe().starts_with("b.k: "));
        book.take(bad).unwrap_err();
        assert!(book.has_come() && !book.has_domains(), "b is gone, and a was never good");
    }
}
