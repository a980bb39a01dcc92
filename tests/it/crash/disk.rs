//! A disk that takes nothing for a while, under the traffic of the crash test.

use super::*;

fn health(tollgate: &Tollgate) -> String {
    crate::http::get("/healthcheck").send(tollgate.http_addr()).unwrap().text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_and_works_again_costs_nobody_a_count_and_needs_no_restart() {
    let mut tollgate = Tollgate::start(&[], &[]);
    apply(&tollgate, 0).await;
    let log = Arc::new(Log::default());
    for round in 0..5 {
        let stop = Arc::new(AtomicBool::new(false));
        let callers = callers(&tollgate, &log, &stop);
        let more = |count: u64| {
            let before = log.admitted[3].load(Ordering::SeqCst);
            until("admissions", || {
                (log.admitted[3].load(Ordering::SeqCst) >= before + count).then_some(())
            });
        };
        more(20 + 37 * round);
        tollgate.fail_disk(true);
        until("a report without an answer", || {
            (!log.unanswered.lock().unwrap().is_empty()).then_some(())
        });
        until("a health that says so", || {
            health(&tollgate).starts_with("DEGRADED\nthe ledger ").then_some(())
        });
        tollgate.fail_disk(false);
        more(20);
        stop.store(true, Ordering::SeqCst);
        callers.join_all().await;
        assert_eq!(health(&tollgate), "OK");

        let mut client = DecisionServiceClient::new(tollgate.lazy_channel(Duration::from_secs(20)));
        let unanswered = std::mem::take(&mut *log.unanswered.lock().unwrap());
        println!("round {round}: {} reports sent again", unanswered.len());
        for (place, receipt) in unanswered {
            log.refund(&mut client, place, receipt, true).await;
        }
        assert!(
            log.unanswered.lock().unwrap().is_empty(),
            "a report is not answered although the disk works"
        );
    }
    assert_eq!(log.errors.load(Ordering::SeqCst), 0, "a check is answered, whatever the disk does");

    // Nobody was killed, so every admission is known: the books agree to the unit.
    let agree = |rows: BTreeMap<String, QuotaUsage>| {
        for (place, (name, limit)) in TARGETS.iter().enumerate() {
            let net = log.admitted[place].load(Ordering::SeqCst)
                - log.refunded[place].load(Ordering::SeqCst);
            let row = &rows[*name];
            assert_eq!((row.used, row.lost, row.remaining), (net, 0, limit - net), "{name}");
        }
    };
    agree(usage(&tollgate).await);
    assert_eq!(tollgate.terminate().code(), Some(0));
    tollgate.restart();
    agree(usage(&tollgate).await);
}
