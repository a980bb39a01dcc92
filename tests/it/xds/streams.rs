//! Streams that end, servers that say nothing, sets that are large or many.

use std::time::{Duration, Instant};

use super::ask::{Asked, ask, metric};
use super::management::{Came, End, Management, resource};
use super::{limit_of, rules, start};
use crate::http::get;
use crate::patience::until;
use crate::server::Tollgate;

/// When the streams were opened.
fn opened(came: &[(Instant, Came)]) -> Vec<Instant> {
    let opened = |(at, came): &(Instant, Came)| matches!(came, Came::Opened(_)).then_some(*at);
    came.iter().filter_map(opened).collect()
}

/// The stream is ended so, and there is a new one within a second, that begins afresh.
fn comes_back(server: &mut Management, end: impl FnOnce(&mut Management)) {
    let (before, asked) = (server.streams(), server.asked().len());
    let ended = Instant::now();
    end(server);
    let again = server.wait_for("a new stream", |came| opened(came).get(before).copied());
    let after = again.duration_since(ended);
    assert!(after < Duration::from_millis(1_000), "{after:?}");
    let first = server.wait_for("its first request", |came| {
        let asked_then = came.iter().filter_map(|(_, came)| match came {
            Came::Asked(request) => Some(request.clone()),
            Came::Opened(_) => None,
        });
        asked_then.skip(asked).find(|request| request.response_nonce.is_empty())
    });
    assert_eq!((first.version_info.as_str(), first.node.is_some()), ("", true), "it begins afresh");
}

#[test]
fn a_stream_that_ends_is_opened_again_within_a_second_and_decisions_go_on() {
    let mut server = Management::start();
    server.set("1", vec![rules("a", 1)]);
    let tollgate = start(&server, &[]);
    server.acked("1");
    comes_back(&mut server, |server| server.end_streams(End::Well));
    assert_eq!(limit_of(&tollgate, "a", "x"), 1);

    // Another server behind one name may give another set the same version.
    server.set("1", vec![rules("a", 3)]);
    let acks = |came: &[(Instant, Came)]| {
        let is_ack = |came: &Came| matches!(came, Came::Asked(request) if request.version_info == "1" && request.error_detail.is_none());
        came.iter().filter(|(_, came)| is_ack(came)).count()
    };
    let before = acks(&server.came());
    comes_back(&mut server, |server| server.end_streams(End::Unavailable));
    server.wait_for("the set of the other server", |came| (acks(came) > before).then_some(()));
    assert_eq!(limit_of(&tollgate, "a", "y"), 3);
}

#[test]
fn a_server_that_is_killed_is_found_again_and_away_it_is_told_and_asked_ever_less() {
    let mut server = Management::start();
    server.set("1", vec![rules("a", 1)]);
    let tollgate = start(&server, &[]);
    server.acked("1");
    server.kill();
    until("that it is away", || {
        (metric(&tollgate, "tollgate_xds_connected") == Some(0.0)).then_some(())
    });
    assert_eq!(limit_of(&tollgate, "a", "x"), 1, "the last rules stay");
    until("health that says so", || {
        let text = get("/healthcheck").send(tollgate.http_addr()).unwrap().text();
        text.contains("no rules come from the management server").then_some(())
    });
    // It has been away for 10 s: tries come after about 0.3, 0.6, 1.2, 2.4 and 4.8 s.
    let page = get("/metrics").send(tollgate.http_addr()).unwrap().text();
    let failed = page
        .lines()
        .find_map(|line| line.strip_prefix(r#"tollgate_xds_connects{result="failed"} "#));
    let failed: u64 = failed.unwrap().parse().unwrap();
    assert!((2..=9).contains(&failed), "{failed}");
    server.set("2", vec![rules("a", 2)]);
    server.restart();
    server.acked("2");
    assert_eq!(limit_of(&tollgate, "a", "y"), 2);
    assert_eq!(get("/healthcheck").send(tollgate.http_addr()).unwrap().text(), "OK");
}

#[test]
fn health_waits_for_the_first_rules_or_not_as_it_is_told() {
    let env: [&[(&str, &str)]; 4] = [
        &[],
        &[("TOLLGATE_XDS_START_WITHOUT_RULES", "true")],
        &[("TOLLGATE_XDS_START_WITHOUT_RULES", "true"), ("TOLLGATE_XDS_FIRST_RULES_WAIT_MS", "0")],
        &[
            ("TOLLGATE_XDS_START_WITHOUT_RULES", "true"),
            ("TOLLGATE_XDS_FIRST_RULES_WAIT_MS", "0"),
            ("TOLLGATE_HEALTH_NEEDS_RULES", "true"),
        ],
    ];
    let server = Management::start();
    let all: Vec<Tollgate> = env.iter().map(|env| start(&server, env)).collect();
    let health = || -> Vec<u16> {
        all.iter().map(|tollgate| get("/healthcheck").status(tollgate.http_addr())).collect()
    };
    server.wait_for("all that ask", |came| (opened(came).len() == 4).then_some(()));
    // The server says nothing.
    assert_eq!(health(), [500, 500, 200, 500]);
    let text = get("/healthcheck").send(all[0].http_addr()).unwrap().text();
    assert_eq!(text, "the first rules have not come yet (xds.server)\n");
    assert_eq!(ask(&all[2], "a", &[("key", "x")]), Asked::Failed, "as the reference answers then");
    assert_eq!(server.streams(), 4, "nobody asks twice");
    until("a word about it", || {
        let told = |tollgate: &Tollgate| tollgate.log().matches("it has sent no rules").count();
        all.iter().all(|tollgate| told(tollgate) == 1).then_some(())
    });
    assert_eq!(server.streams(), 4, "nor later");
    assert_eq!(server.asked().len(), 4);

    server.set("1", vec![]);
    until("an empty set", || (health() == [200, 200, 200, 500]).then_some(()));
    server.set("2", vec![rules("a", 1)]);
    until("rules", || (health() == [200; 4]).then_some(()));
    server.set("3", vec![]);
    until("no rules", || (health() == [200, 200, 200, 500]).then_some(()));
}

#[test]
fn large_sets_come_into_force_up_to_the_bound() {
    // About 5 MiB; gRPC clients read 4 by default.
    let large = |value: u32| {
        let descriptors: Vec<String> = (0..40_000)
            .map(|number| {
                format!(
                    "{{\"key\": \"httproute/namespace/name/rule/{number}/match/0/www_example_com/with-a-long-name-behind-it-that-takes-some-room-on-the-wire\", \"rate_limit\": {{\"unit\": \"hour\", \"requests_per_unit\": {value}}}}}"
                )
            })
            .collect();
        resource(&format!(
            "{{\"domain\": \"large\", \"descriptors\": [{}]}}",
            descriptors.join(",")
        ))
    };
    let server = Management::start();
    let five = vec![large(1), rules("a", 1)];
    assert!(five[0].value.len() > 4 << 20, "{}", five[0].value.len());
    server.set("1", five);
    let small = start(&server, &[("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "1")]);
    server.acked("1");
    assert_eq!(limit_of(&small, "a", "x"), 1, "the name of the reference is for its own mode");
    let page = get("/rlconfig").send(small.http_addr()).unwrap().text();
    assert_eq!(page.lines().filter(|line| line.starts_with("large.")).count(), 40_000);

    let tight = start(&server, &[("TOLLGATE_XDS_MAX_MESSAGE_BYTES", "1048576")]);
    until("a refusal", || tight.log().contains("message length too large").then_some(()));
    assert_eq!(get("/healthcheck").status(tight.http_addr()), 500);
    server.set("2", vec![rules("a", 2)]);
    until("a set that fits", || {
        (get("/healthcheck").status(tight.http_addr()) == 200).then_some(())
    });
    assert_eq!(limit_of(&tight, "a", "y"), 2);
}

#[test]
fn of_many_sets_in_a_row_the_last_is_in_force_and_acknowledged() {
    let server = Management::start();
    let tollgate = start(&server, &[]);
    for version in 1..=200_u32 {
        server.set(&version.to_string(), vec![rules("a", version % 16)]);
    }
    server.acked("200");
    assert_eq!(limit_of(&tollgate, "a", "x"), 8);
}
