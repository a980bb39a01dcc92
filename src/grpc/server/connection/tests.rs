use super::*;
use crate::config::{Config, Flags};

const MS: u64 = 1_000_000;

#[test]
fn a_warning_comes_once_a_minute() {
    let warned = Warned::default();
    let all = warned.clone();
    let again =
        [5, 6, 5 + WARNED_NS - 1, 5 + WARNED_NS, 6 + WARNED_NS].map(|now_ns| all.again(now_ns));
    assert_eq!(again, [true, false, false, true, false]);
}

#[tokio::test]
async fn connections_grow_as_old_as_they_may_a_tenth_more_or_less() {
    let age = Age { most: Some(Duration::from_millis(100)), grace: Duration::ZERO };
    let clock = Clock::system();
    for _ in 0..5 {
        let begin_ns = clock.steady_ns();
        age.over().await;
        // A busy machine takes longer, and nothing is sooner.
        assert!(clock.steady_ns() - begin_ns >= 90 * MS);
    }
    assert!(timeout(Duration::from_millis(200), Age { most: None, ..age }.over()).await.is_err());
}

#[test]
fn a_connection_that_waits_takes_no_room_for_what_it_does_once() {
    let settings = Config::resolve(&Flags::default(), &|_| None).unwrap().grpc_server;
    let host = Host::new(&settings, None, Dispatch::new(), Warned::default());
    let (_stop, stopping) = watch::channel(false);
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let bytes = size_of_val(&host.serve(Socket::Unix(socket), stopping));
    assert!(bytes <= 1_024, "{bytes}");
}
