use super::*;
use crate::grpc::observe::served_paths;

const MS: u64 = 1_000_000;
/// With this, a call takes a millisecond together with what HTTP/2 takes.
const ANSWER_NS: u64 = MS - HTTP2_NS;

/// A core on which calls take a millisecond, and may wait so many of them.
fn core(max_lag_ms: u64) -> Backlog {
    let core = Backlog::new(max_lag_ms * MS);
    // Not step by step: smoothing comes close and never there.
    core.smoothed_ns.store(ANSWER_NS * SMOOTHED, Ordering::Relaxed);
    core
}

fn admits(core: &Backlog) -> bool {
    core.arrive(|| true) != Turn::Refused
}

#[test]
fn a_call_waits_as_long_as_it_may_and_not_a_nanosecond_longer() {
    let core = core(100);
    for behind in 0..=100 {
        assert_eq!(
            core.arrive(|| true),
            Turn::Waits { behind },
            "after {behind} ms its turn comes"
        );
    }
    assert_eq!(core.arrive(|| true), Turn::Refused, "101 ms are too many");
    core.leave();
    assert_eq!(core.arrive(|| true), Turn::Waits { behind: 100 }, "and 100 are not");

    for (answer_ns, admitted) in [(ANSWER_NS, true), (ANSWER_NS + 1, false)] {
        let core = self::core(100);
        (0..100).for_each(|_| assert!(admits(&core)));
        core.smoothed_ns.store(answer_ns * SMOOTHED, Ordering::Relaxed);
        assert_eq!(admits(&core), admitted, "100 calls of {answer_ns} ns");
    }
}

#[test]
fn the_next_call_is_let_in_when_nobody_waits_any_more() {
    let core = core(20);
    while admits(&core) {}
    (0..21).for_each(|_| core.leave());
    assert_eq!(core.arrive(|| true), Turn::Waits { behind: 0 });
}

#[test]
fn what_is_refused_keeps_nobody_else_waiting() {
    let core = core(20);
    while admits(&core) {}
    (0..1_000).for_each(|_| assert!(!admits(&core)));
    core.leave();
    assert!(admits(&core));
}

#[test]
fn what_may_not_be_refused_waits_and_a_core_without_a_bound_refuses_nothing() {
    let bounded = core(20);
    while admits(&bounded) {}
    assert_eq!(bounded.arrive(|| false), Turn::Waits { behind: 21 });
    let unbounded = Overload::new(None).core();
    unbounded.took(u64::MAX);
    (0..10_000).for_each(|_| assert!(admits(&unbounded)));
}

#[test]
fn however_long_calls_take_a_few_may_wait() {
    for max_lag_ms in [1, 100] {
        let core = Backlog::new(max_lag_ms * MS);
        (0..1_000).for_each(|_| core.took(u64::MAX));
        for behind in 0..=FEW {
            assert_eq!(core.arrive(|| true), Turn::Waits { behind });
        }
        assert_eq!(core.arrive(|| true), Turn::Refused);
    }
}

#[test]
fn what_calls_take_is_learned_and_dearer_ones_are_forgotten() {
    let core = Backlog::new(1_000 * MS);
    assert_eq!(core.call_ns(), HTTP2_NS);
    (0..500).for_each(|_| core.took(MS));
    assert!((MS..=MS + HTTP2_NS).contains(&core.call_ns()), "{}", core.call_ns());
    core.took_at_most(2 * MS);
    assert!((MS..=MS + HTTP2_NS).contains(&core.call_ns()), "it may have waited for most of that");
    (0..500).for_each(|_| core.took_at_most(1_000));
    assert!(core.call_ns() < HTTP2_NS + 2_000, "{}", core.call_ns());
}

#[test]
fn a_pause_of_the_machine_in_an_answer_sheds_nobody() {
    let core = Backlog::new(50 * MS);
    (0..500).for_each(|_| core.took(4_000));
    let before_ns = core.call_ns();
    core.took(60 * MS);
    assert!(core.call_ns() < before_ns + before_ns / 16, "{} after {before_ns}", core.call_ns());
    (0..4_000).for_each(|_| assert!(admits(&core)));
}

#[test]
fn how_late_turns_come_is_measured_on_all_cores_and_shown_once() {
    let overload = Overload::new(None);
    let cores = [overload.core(), overload.core(), overload.core()];
    assert_eq!(overload.take_lag_ns(99 * MS), 0, "nobody measures yet");
    for (core, late_ms) in cores.iter().zip([0, 30, 7]) {
        core.pulse.begin(100 * MS);
        core.pulse.end((112 + late_ms) * MS);
        core.pulse.begin((112 + late_ms) * MS);
    }
    assert_eq!(overload.take_lag_ns(115 * MS), 30 * MS);
    assert_eq!(overload.take_lag_ns(124 * MS), 0);
    // The first core's next turn was to come at 124 ms, and has not.
    assert_eq!(overload.take_lag_ns(124 * MS + 1), 1);
    assert_eq!(overload.take_lag_ns(300 * MS), 176 * MS, "also while it has not come");
}

#[test]
fn calls_that_are_shed_are_counted_and_told_why() {
    let overload = Overload::new(Some(Duration::from_millis(20)));
    let core = overload.core();
    for _ in 0..2 {
        Overloaded(core.clone()).shed();
    }
    let answer = Overloaded(overload.core()).shed();
    assert_eq!(overload.shed(), 3);
    assert_eq!(answer.headers().get("content-type").unwrap(), "application/grpc");
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(
        status.message().starts_with("overloaded: ")
            && status.message().contains("20 ms of grpc.max_lag_ms"),
        "{status}"
    );
}

#[test]
fn decisions_are_shed_and_nothing_else_that_is_served() {
    let shed: Vec<_> =
        served_paths().into_iter().filter(|path| sheds(path) != Sheds::Never).collect();
    let mut expected = [
        "/envoy.service.auth.v3.Authorization/Check",
        "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
        "/tollgate.v1.DecisionService/Check",
        "/tollgate.v1.DecisionService/CheckStream",
    ]
    .to_vec();
    let mut shed: Vec<&str> = shed.iter().map(String::as_str).collect();
    shed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(shed, expected);
    assert_eq!(sheds("/no/such"), Sheds::Never);
}

#[test]
fn streams_are_told_of_the_end_of_their_connection() {
    let streams: Vec<_> = served_paths().into_iter().filter(|path| is_stream(path)).collect();
    assert_eq!(
        streams,
        [
            "/tollgate.v1.DecisionService/CheckStream",
            "/tollgate.v1.DecisionService/ReportStream",
            "/grpc.health.v1.Health/Watch",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        ]
    );
}
