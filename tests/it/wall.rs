//! The real tollgate on a machine whose wall clock is wrong: at its start, while it runs, and set
//! right again.

use std::path::Path;

use tempfile::TempDir;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::grant_request::{Change, Subject};
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::grpc::pb::tollgate::{
    CheckRequest, GetUsageRequest, GrantRequest, QuotaUsage, Verdict,
};
use tonic::transport::Channel;

use crate::made_files::preloaded;
use crate::patience::until;
use crate::server::{PATIENT, Tollgate};

const DAY_S: i64 = 86_400;
const UNITS: [&str; 6] = ["minute", "hour", "day", "week", "month", "year"];
const LIMIT: u64 = 50;

/// Adds the seconds that a file holds to the wall clock, and to nothing else.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    long done = syscall(SYS_clock_gettime, id, at);
    if (done == 0 && id == CLOCK_REALTIME) {
        FILE *file = fopen(getenv("WALL_SECONDS"), "r");
        long seconds = 0;
        if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
        at->tv_sec += seconds;
    }
    return done;
}
"#;

/// A tollgate, and how wrong its clock is.
struct Machine {
    tollgate: Tollgate,
    folder: TempDir,
}

impl Machine {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let shim = preloaded(folder.path(), SHIM);
        let seconds = folder.path().join("seconds");
        std::fs::write(&seconds, "0").unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let tollgate = Tollgate::start(
            &[],
            &[("LD_PRELOAD", &shim), ("WALL_SECONDS", &text(&seconds)), PATIENT],
        );
        let machine = Self { tollgate, folder };
        let quotas = UNITS.map(|unit| {
            format!("{{name: {unit}, targets: [{unit}], quotas: [{{name: q, limit: {LIMIT}, unit: {}}}]}}", unit.to_uppercase())
        });
        let subscribers =
            ["acme", "fresh"].map(|id| format!("{{id: {id}, plans: [p], keys: [{{id: {id}-1, value: the-value-of-the-key-of-{id}}}]}}"));
        let file = format!(
            "{{plans: [{{id: p, entitlements: [{}]}}], subscribers: [{}]}}",
            quotas.join(", "),
            subscribers.join(", ")
        );
        machine.tollgate.apply(&file).await;
        machine
    }

    async fn channel(&self) -> Channel {
        self.tollgate.channel().await
    }

    async fn plans(&self) -> UsagePlanServiceClient<Channel> {
        UsagePlanServiceClient::new(self.channel().await)
    }

    /// The file is read at each look at the clock: it appears whole.
    fn set(&self, seconds: i64) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, seconds.to_string()).unwrap();
        std::fs::rename(next, self.folder.path().join("seconds")).unwrap();
    }

    fn restart(&mut self, crashes: bool) {
        if crashes {
            self.tollgate.kill_9();
        } else {
            self.tollgate.terminate();
        }
        self.tollgate.restart();
    }

    /// Is it admitted? A peek says the same before.
    async fn admits(&self, subscriber: &str, unit: &str) -> bool {
        let mut client = DecisionServiceClient::new(self.channel().await);
        let api_key = format!("the-value-of-the-key-of-{subscriber}").into();
        let check = CheckRequest { api_key, target: unit.to_owned(), ..CheckRequest::default() };
        let peeked = client
            .check(CheckRequest { cost: Some(0), ..check.clone() })
            .await
            .unwrap()
            .into_inner();
        let checked = client.check(check).await.unwrap().into_inner();
        assert_eq!(peeked.verdict(), checked.verdict(), "{subscriber}, {unit}");
        assert!(
            checked
                .limits
                .iter()
                .all(|limit| limit.remaining <= limit.limit && limit.limit <= 2 * LIMIT),
            "{:?}",
            checked.limits
        );
        checked.verdict() == Verdict::Allow
    }

    /// Units used of the period that goes on now, or of the last.
    async fn used(&self, subscriber: &str, unit: &str) -> Option<u64> {
        let request = GetUsageRequest::default();
        let found = self.plans().await.get_usage(request).await.unwrap().into_inner().quotas;
        found
            .iter()
            .filter(|quota| quota.subscriber == subscriber && quota.entitlement == unit)
            .map(|quota| quota.used)
            .max()
    }

    async fn grant(&self, unit: &str, change: Change) -> QuotaUsage {
        let request = GrantRequest {
            subject: Some(Subject::Subscriber("acme".into())),
            plan: "p".into(),
            entitlement: unit.into(),
            quota: "q".into(),
            change: Some(change),
            ..GrantRequest::default()
        };
        self.plans().await.grant(request).await.unwrap().into_inner()
    }

    fn page(&self, path: &str) -> String {
        crate::http::get(path).send(self.tollgate.http_addr()).unwrap().text()
    }

    /// Health, the metric and the log say so, and soon nothing does any more.
    fn says(&self, way: Option<&str>) {
        until("what health should say", || {
            let health = self.page("/healthcheck");
            way.map_or(health == "OK", |way| health.starts_with("DEGRADED") && health.contains(way))
                .then_some(())
        });
        let doubtful = u8::from(way.is_some());
        assert!(self.page("/metrics").contains(&format!("\ntollgate_clock_doubtful {doubtful}\n")));
        if let Some(way) = way {
            assert!(
                self.tollgate.log().lines().any(|line| line.contains("WARN") && line.contains(way)),
                "{}",
                self.tollgate.log()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_a_wrong_clock_costs_no_count_and_no_history() {
    let starts = [
        (450 * DAY_S, false, "ahead of"),
        (450 * DAY_S, true, "ahead of"),
        (38 * DAY_S, false, "ahead of"),
        (-20_000 * DAY_S, true, "behind"),
    ];
    for (seconds, crashes, way) in starts {
        let mut machine = Machine::start().await;
        for unit in UNITS {
            assert!(machine.admits("acme", unit).await);
        }
        // A clean stop writes the statistics.
        machine.restart(false);
        machine.set(seconds);
        machine.restart(crashes);
        machine.says(Some(way));
        assert!(machine.admits("acme", "day").await, "quotas of the time that it shows are served");
        machine.set(0);
        machine.says(None);
        for round in 0..2 {
            for unit in ["week", "month", "year"] {
                assert!(
                    machine.admits("acme", unit).await && machine.admits("fresh", unit).await,
                    "{unit}"
                );
                let used = machine.used("acme", unit).await.unwrap();
                assert!((2 + round..=2 + 2 * round).contains(&used), "{unit}: {used}");
            }
            let days = machine
                .plans()
                .await
                .get_usage(GetUsageRequest::default())
                .await
                .unwrap()
                .into_inner()
                .days;
            let admitted: u64 =
                days.iter().filter(|day| day.target == "month").map(|day| day.admitted).sum();
            assert_eq!(admitted, 3 + 2 * round, "history is whole");
            let granted = machine.grant("year", Change::SetRemaining(5)).await;
            assert_eq!(granted.remaining, 5);
            machine.restart(false);
            machine.says(None);
        }
        assert!(!machine.tollgate.log().contains("panicked"));
    }
}
