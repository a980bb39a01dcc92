//! The real tollgate on a disk that is slow, and on one that hangs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tempfile::TempDir;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::grant_request::{Change, Subject};
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::grpc::pb::tollgate::{
    CheckRequest, CreateSubscriberRequest, GrantRequest, ListSubscribersRequest, Reason, Subscriber,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::made_files::preloaded;
use crate::server::Tollgate;

/// Whatever has to be on the disk takes as many milliseconds as a file says, and as long as a
/// second file is there.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static void wait_ms(long ms) {
    struct timespec time = { ms / 1000, (ms % 1000) * 1000000 };
    nanosleep(&time, NULL);
}
static void be_slow(void) {
    FILE *file = fopen(getenv("SYNC_MS"), "r");
    long ms = 0;
    if (file) { if (fscanf(file, "%ld", &ms) != 1) ms = 0; fclose(file); }
    if (ms > 0) wait_ms(ms);
    while (access(getenv("SYNC_HANGS"), F_OK) == 0) wait_ms(5);
}
int fsync(int fd) { be_slow(); return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { be_slow(); return syscall(SYS_fdatasync, fd); }
"#;

/// A tollgate, and how slow its disk is.
struct Machine {
    tollgate: Tollgate,
    folder: TempDir,
}

impl Machine {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let shim = preloaded(folder.path(), SHIM);
        std::fs::write(path("ms"), "0").unwrap();
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let tollgate = Tollgate::start(
            &[],
            &[
                ("LD_PRELOAD", &shim),
                ("SYNC_MS", &text(path("ms"))),
                ("SYNC_HANGS", &text(path("hangs"))),
            ],
        );
        Self { tollgate, folder }
    }

    fn slow_down(&self, ms: u32) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, ms.to_string()).unwrap();
        std::fs::rename(next, self.folder.path().join("ms")).unwrap();
    }

    fn hang(&self, hangs: bool) {
        let file = self.folder.path().join("hangs");
        if hangs {
            std::fs::write(file, "").unwrap();
        } else {
            std::fs::remove_file(file).unwrap();
        }
    }

    async fn channel(&self) -> Channel {
        self.tollgate.channel().await
    }

    async fn plans(&self) -> UsagePlanServiceClient<Channel> {
        UsagePlanServiceClient::new(self.channel().await)
    }

    /// A plan of 100 a day, and so many who have it.
    async fn declare(&self, callers: usize) {
        let subscribers: Vec<_> = (0..callers)
            .map(|caller| {
                let key = value(caller);
                format!("{{id: s{caller}, plans: [p], keys: [{{id: k{caller}, value: {key}}}]}}")
            })
            .collect();
        let file = format!(
            "{{plans: [{{id: p, entitlements: [{{name: all, targets: [t], quotas: [{{name: q, limit: 100, unit: DAY}}]}}]}}], subscribers: [{}]}}",
            subscribers.join(", ")
        );
        self.tollgate.apply(&file).await;
    }
}

fn value(caller: usize) -> String {
    format!("the-value-of-the-key-{caller}")
}

async fn check(channel: Channel, caller: usize) -> Reason {
    let request = CheckRequest {
        api_key: value(caller).into(),
        target: "t".to_owned(),
        ..CheckRequest::default()
    };
    DecisionServiceClient::new(channel).check(request).await.unwrap().into_inner().reason()
}

#[tokio::test]
async fn a_cold_start_of_2000_callers_on_a_slow_disk_refuses_nobody() {
    const CALLERS: usize = 2_000;
    let machine = Machine::start();
    machine.declare(CALLERS).await;
    // Longer than `ledger.max_wait_ms`: who waits for one transaction waits too long already.
    machine.slow_down(110);
    let channel = machine.channel().await;
    let reasons: Vec<Reason> = futures_util::stream::iter(0..CALLERS)
        .map(|caller| check(channel.clone(), caller))
        .buffer_unordered(200)
        .collect()
        .await;
    let refused = reasons.iter().filter(|reason| **reason != Reason::Unspecified).count();
    assert_eq!((reasons.len(), refused), (CALLERS, 0));
    machine.slow_down(0);
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_nobody_waiting_for_long_and_nobody_from_reading() {
    let machine = Machine::start();
    machine.declare(3).await;
    machine.hang(true);
    let (channel, mut plans) = (machine.channel().await, machine.plans().await);
    let create = |id: &str| CreateSubscriberRequest {
        subscriber: Some(Subscriber { id: id.to_owned(), ..Subscriber::default() }),
        request_id: format!("create-{id}"),
        ..CreateSubscriberRequest::default()
    };
    // The first waits until it is known that the disk hangs, and not much longer than 400 ms.
    let asked = Instant::now();
    assert_eq!(check(channel.clone(), 0).await, Reason::LedgerUnavailable);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    // From then on nobody does.
    let asked = Instant::now();
    for caller in [1, 2, 0] {
        assert_eq!(check(channel.clone(), caller).await, Reason::LedgerUnavailable);
    }
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    let first = plans.create_subscriber(create("first"));
    let mut others = machine.plans().await;
    let second = others.create_subscriber(create("second"));
    let mut reading = machine.plans().await;
    let reading = reading.list_subscribers(ListSubscribersRequest::default());
    let mut granting = machine.plans().await;
    let grant = granting.grant(GrantRequest {
        subject: Some(Subject::Subscriber("s0".to_owned())),
        plan: "p".to_owned(),
        entitlement: "all".to_owned(),
        quota: "q".to_owned(),
        change: Some(Change::Add(5)),
        ..GrantRequest::default()
    });
    let asked = Instant::now();
    let (first, second, grant, reading) = tokio::join!(first, second, grant, async {
        (reading.await.unwrap().into_inner().subscribers.len(), asked.elapsed())
    });
    for refused in [first.unwrap_err(), second.unwrap_err(), grant.unwrap_err()] {
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    }
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    assert!(reading.0 == 3 && reading.1 < Duration::from_secs(5), "{reading:?}");
    let asked = Instant::now();
    let third = plans.create_subscriber(create("third")).await.unwrap_err();
    assert_eq!(third.code(), Code::Unavailable);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    // When it works again, retries find what became of the first.
    machine.hang(false);
    for id in ["first", "second", "third"] {
        let deadline = Instant::now() + crate::patience::PATIENCE;
        while let Err(late) = plans.create_subscriber(create(id)).await {
            assert_eq!(late.code(), Code::Unavailable, "{late}");
            assert!(Instant::now() < deadline, "{late}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let all = plans.list_subscribers(ListSubscribersRequest::default()).await.unwrap();
    assert_eq!(all.into_inner().total_size, 6);
    let deadline = Instant::now() + crate::patience::PATIENCE;
    while check(channel.clone(), 1).await != Reason::Unspecified {
        assert!(Instant::now() < deadline, "it works again");
    }
}
