use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_000_000_000_000;

fn limit(tokens: u64, period_s: u64, burst: u64) -> RateLimit {
    RateLimit::new(tokens, period_s * SECOND_NS, burst).unwrap()
}

/// Takes one token at a time until the bucket refuses; gives the number taken and when the next one
/// passes.
fn drain(limit: &RateLimit, tat: &mut u64, now: u64) -> (u64, u64) {
    for taken in 0.. {
        match limit.check(*tat, now, 1) {
            Passing::Pass { tat: charged } => *tat = charged,
            Passing::NotUntil { at_ns } => return (taken, at_ns),
            Passing::Never => unreachable!("one token is never more than a burst"),
        }
    }
    unreachable!()
}

#[test]
fn a_whole_burst_passes_at_once_even_where_the_period_does_not_divide() {
    for (tokens, burst) in [(3, 3), (7, 7), (3, 1), (3, 1000), (1_000_000_007, 1_000_000)] {
        let limit = limit(tokens, 1, burst);
        assert_eq!(drain(&limit, &mut 0, NOW).0, burst, "{tokens}/s burst {burst}");
    }
}

#[test]
fn a_cost_of_the_burst_passes_and_one_more_never_does() {
    let limit = limit(3, 1, 10);
    assert!(matches!(limit.check(0, NOW, 10), Passing::Pass { .. }));
    assert_eq!(limit.check(0, NOW, 11), Passing::Never);
    assert_eq!(limit.check(0, NOW, u64::MAX), Passing::Never);
}

#[test]
fn idling_never_saves_up_more_than_the_burst() {
    let limit = limit(1, 1, 10);
    let mut tat = 0;
    drain(&limit, &mut tat, NOW);
    for idle_s in [5, 10, 12, 15, 17, 1_000_000] {
        let mut later = tat;
        assert_eq!(
            drain(&limit, &mut later, NOW + idle_s * SECOND_NS).0,
            idle_s.min(10),
            "after {idle_s} s"
        );
    }
}

#[test]
fn a_peek_changes_nothing_and_a_refusal_names_the_instant() {
    let limit = limit(2, 1, 1);
    let Passing::Pass { tat } = limit.check(0, NOW, 1) else { panic!("an empty history passes") };
    assert_eq!(limit.check(tat, NOW, 0), Passing::Pass { tat });
    assert_eq!(limit.remaining(tat, NOW), 0);
    assert_eq!(limit.reset_after_ns(tat, NOW), SECOND_NS / 2);
    assert_eq!(limit.check(tat, NOW + 1, 1), Passing::NotUntil { at_ns: NOW + SECOND_NS / 2 });
    assert_eq!(
        limit.check(tat, NOW + SECOND_NS / 2 - 1, 1),
        Passing::NotUntil { at_ns: NOW + SECOND_NS / 2 }
    );
    assert!(matches!(limit.check(tat, NOW + SECOND_NS / 2, 1), Passing::Pass { .. }));
}

#[test]
fn an_edited_rate_costs_or_gives_at_most_one_burst() {
    let slow = limit(1, 3600, 1000);
    let mut tat = 0;
    drain(&slow, &mut tat, NOW);
    assert_eq!(slow.adopt(tat, NOW), tat);

    let fast = limit(10, 1, 5);
    let mut edited = fast.adopt(tat, NOW);
    assert_eq!(drain(&fast, &mut edited, NOW), (0, NOW + SECOND_NS / 10));
    assert_eq!(drain(&fast, &mut edited, NOW + SECOND_NS / 2).0, 5);

    let raised = limit(1, 3600, 2000);
    assert_eq!(raised.remaining(raised.adopt(tat, NOW), NOW), 1000);
}

#[test]
fn tokens_come_back_to_at_most_a_full_bucket() {
    let limit = limit(1, 1, 5);
    let mut tat = 0;
    drain(&limit, &mut tat, NOW);
    assert_eq!(limit.remaining(limit.give_back(tat, NOW, 2), NOW), 2);
    assert_eq!(limit.remaining(limit.give_back(tat, NOW, u64::MAX), NOW), 5);
}

#[test]
fn what_makes_no_bucket_is_refused() {
    assert_eq!(RateLimit::new(0, SECOND_NS, 1), Err(InvalidRate::NoRate));
    assert_eq!(RateLimit::new(1, 0, 1), Err(InvalidRate::NoRate));
    assert_eq!(RateLimit::new(1, SECOND_NS, 0), Err(InvalidRate::NoBurst));
    assert_eq!(RateLimit::new(1, SECOND_NS, u64::MAX), Err(InvalidRate::TooSlow));
    assert_eq!(MicroRate(1).limit(Some(5_000)), Err(InvalidRate::TooSlow));
    assert_eq!(MicroRate(10_000).limit(None).unwrap().burst(), 1);
    assert_eq!(MicroRate(1_500_000).limit(None).unwrap().burst(), 2);
}

/// The exact token bucket, in units of 1/`tokens` nanoseconds so that nothing is ever rounded.
struct Exact {
    tokens: u128,
    period: u128,
    burst: u128,
    /// Token-nanoseconds in the bucket, at most burst x period.
    level: u128,
    at: u64,
}

impl Exact {
    fn take(&mut self, now: u64, cost: u64) -> bool {
        self.level =
            (self.level + u128::from(now - self.at) * self.tokens).min(self.burst * self.period);
        self.at = now;
        let need = u128::from(cost) * self.period;
        let pass = need <= self.level;
        if pass {
            self.level -= need;
        }
        pass
    }
}

proptest! {
    /// Whatever GCRA admits, the exact bucket admits too: never more than asked for. And at the
    /// promised instant, and not before, the refused passes.
    #[test]
    fn never_more_than_the_exact_bucket_and_the_promise_is_exact(
        tokens in 1u64..2_000_000, period in prop::sample::select(vec![SECOND_NS, 60 * SECOND_NS, 3600 * SECOND_NS]), burst in 1u64..50,
        steps in prop::collection::vec((0u64..3_000_000_000, 1u64..8), 1..60),
    ) {
        let limit = RateLimit::new(tokens, period, burst).unwrap();
        let mut exact = Exact { tokens: tokens.into(), period: period.into(), burst: burst.into(), level: u128::from(burst) * u128::from(period), at: NOW };
        let (mut now, mut tat) = (NOW, 0);
        for (wait, cost) in steps {
            now += wait % (limit.tolerance_ns() + 2);
            match limit.check(tat, now, cost) {
                Passing::Pass { tat: charged } => {
                    prop_assert!(exact.take(now, cost), "admitted what the exact bucket refuses");
                    prop_assert_eq!(limit.remaining(charged, now), limit.remaining(tat, now) - cost);
                    tat = charged;
                }
                Passing::NotUntil { at_ns } => {
                    prop_assert!(at_ns > now);
                    let then = limit.check(tat, at_ns, cost);
                    prop_assert!(matches!(then, Passing::Pass { .. }), "refused at the promised instant");
                    let before = limit.check(tat, at_ns - 1, cost);
                    prop_assert!(matches!(before, Passing::NotUntil { .. }), "passed before the promised instant");
                    prop_assert!(limit.remaining(tat, now) < cost);
                }
                Passing::Never => prop_assert!(cost > burst),
            }
        }
    }
}
