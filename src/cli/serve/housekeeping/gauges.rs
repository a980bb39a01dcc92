//! What the engines hold, and what did not fit.

use super::stall::Stalled;
use crate::engine::durable_rules::DurableRuleEngine;
use crate::engine::plans::PlanEngine;
use crate::engine::rules::RuleEngine;
use crate::grpc::overload::Overload;
use crate::ledger::{LedgerError, LedgerStatus, Promise};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::service::decisions::Decisions;

type Read<E> = fn(&E) -> u64;

/// Series with how they are read: what is held now, and what has happened since the start.
const RULE_GAUGES: [(&str, &str, Read<RuleEngine>); 5] = [
    ("tollgate_counters", "Counters of rules in memory, overflow counters apart", |engine| {
        count(engine.live_counters())
    }),
    ("tollgate_counters_max", "The bound on them (engine.max_counters)", |engine| {
        count(engine.max_counters())
    }),
    (
        "tollgate_overflow_counters",
        "Counters that fresh keys share because the bound is reached",
        |engine| count(engine.overflow_counters()),
    ),
    ("tollgate_windows", "Counters of rules that survive a restart", |engine| {
        count(engine.kept_windows())
    }),
    ("tollgate_windows_max", "The bound on them (ledger.max_windows)", |engine| {
        count(engine.max_kept_windows())
    }),
];
const RULE_COUNTERS: [(&str, &str, Read<RuleEngine>); 2] = [
    ("tollgate_overflow_asks", "Hits charged to a shared counter", RuleEngine::overflow_asks),
    (
        "tollgate_windows_unkept",
        "Changes of counters that do not survive a restart, because the bound is reached",
        RuleEngine::unkept_changes,
    ),
];
const PLAN_GAUGES: [(&str, &str, Read<PlanEngine>); 7] = [
    ("tollgate_plan_entries", "Subjects of entitlements with counters in memory", |engine| {
        count(engine.leases().live_entries())
    }),
    ("tollgate_operations", "Operation ids remembered", |engine| count(engine.live_operations())),
    ("tollgate_mark_rows", "Rows of marks of corrections, each of 65,536 receipts", |engine| {
        count(engine.mark_rows())
    }),
    ("tollgate_usage_rows", "Rows of daily statistics in memory", |engine| {
        count(engine.usage_rows())
    }),
    (
        "tollgate_usage_unwritten",
        "Rows of daily statistics that the ledger has not taken yet",
        |engine| count(engine.unwritten_usage()),
    ),
    (
        "tollgate_receipt_names",
        "API keys and targets that receipts of this start may name",
        |engine| count(engine.receipt_names()),
    ),
    (
        "tollgate_earlier_names",
        "API keys and targets that receipts of earlier starts may name",
        |engine| count(engine.earlier_names()),
    ),
];
const PLAN_COUNTERS: [(&str, &str, Read<PlanEngine>); 10] = [
    (
        "tollgate_plan_entries_refused",
        "Checks refused because no further subject fits in memory",
        |engine| engine.leases().entries_refused(),
    ),
    (
        "tollgate_operations_forgotten",
        "Operation ids forgotten before their 60 s were over",
        PlanEngine::operations_forgotten,
    ),
    (
        "tollgate_receipt_names_refused",
        "Receipts without the name of their API key or target, because there are too many: their responses are not in the statistics",
        PlanEngine::receipt_names_refused,
    ),
    (
        "tollgate_marks_refused",
        "Marks of corrections that found no room in memory: the ledger has them all",
        PlanEngine::marks_refused,
    ),
    (
        "tollgate_usage_dropped",
        "Events that found no room in the statistics",
        PlanEngine::usage_dropped,
    ),
    (
        "tollgate_expired_units",
        "Units in reports whose receipts had expired",
        PlanEngine::expired_units,
    ),
    (
        "tollgate_invalid_reports",
        "Reports that could not be used: forged, altered or truncated receipts among them",
        PlanEngine::invalid_reports,
    ),
    (
        "tollgate_without_receipt",
        "Admissions without a receipt, because the ledger had not numbered their counter yet",
        PlanEngine::without_receipt,
    ),
    (
        "tollgate_prefetches_dropped",
        "Units to lease ahead of use that found no room in the queue: a call waits for them instead",
        |engine| engine.leases().prefetches_dropped(),
    ),
    (
        "tollgate_dropped_settlements",
        "Corrections of periods whose books were dropped already",
        PlanEngine::dropped_settlements,
    ),
];
const DURABLE_GAUGES: [(&str, &str, Read<DurableRuleEngine>); 1] = [(
    "tollgate_durable_counters",
    "Counters of durable rules in memory, at most ledger.max_windows",
    |engine| count(engine.leases().live_entries()),
)];
const DURABLE_COUNTERS: [(&str, &str, Read<DurableRuleEngine>); 1] = [(
    "tollgate_durable_counters_refused",
    "Hits refused because no further counter of a durable rule fits",
    |engine| engine.leases().entries_refused(),
)];

const CALLER_GAUGES: [(&str, &str, Read<Decisions>); 1] = [(
    "tollgate_remembered_callers",
    "Callers whose key and plan are not looked up again, those of each thread apart",
    |decisions| count(decisions.remembered_callers()),
)];

const LEDGER_GAUGES: [(&str, &str, Read<LedgerStatus>); 3] = [
    ("tollgate_ledger_waiting", "Operations that wait for a transaction of the ledger", |status| {
        status.waiting
    }),
    (
        "tollgate_ledger_tidy_failing",
        "1 while the ledger's log is not written back, or what is old not dropped, because that fails",
        |status| status.tidying.is_some().into(),
    ),
    (
        "tollgate_ledger_log_bytes",
        "Bytes of the ledger's log that is written back when there is time",
        |status| status.untidy_bytes,
    ),
];
const LEDGER_COUNTERS: [(&str, &str, Read<LedgerStatus>); 5] = [
    ("tollgate_ledger_tidy_failures", "How often the ledger could not be tidied", |status| {
        status.tidy_failures
    }),
    (
        "tollgate_ledger_row_failures",
        "Operations of the ledger that failed because a row that they need cannot be read",
        |status| status.row_failures,
    ),
    ("tollgate_ledger_operations", "Operations that the ledger has committed", |status| {
        status.operations
    }),
    ("tollgate_ledger_commits", "Transactions that the ledger has committed", |status| {
        status.commits
    }),
    ("tollgate_ledger_failures", "Transactions of the ledger that failed", |status| {
        status.failures
    }),
];

const OVERLOAD_GAUGES: [(&str, &str, Read<Overload>); 1] = [(
    "tollgate_pending_bytes",
    "What calls hold that are open or wait for the rest of a message (grpc.max_pending_bytes)",
    Overload::held,
)];
const OVERLOAD_COUNTERS: [(&str, &str, Read<Overload>); 3] = [
    (
        "tollgate_calmed_connections",
        "Connections closed because of grpc.max_control_frames",
        Overload::calmed,
    ),
    (
        "tollgate_pending_refused",
        "Calls answered RESOURCE_EXHAUSTED because of grpc.max_pending_bytes",
        Overload::refused,
    ),
    (
        "tollgate_shed_calls",
        "Decisions answered UNAVAILABLE at once because of grpc.max_lag_ms",
        Overload::shed,
    ),
];

const LOG_COUNTERS: [(&str, &str, Read<Log>); 2] = [
    ("tollgate_lost_log_lines", "Lines of the log that could not be written", Log::lost),
    (
        "tollgate_panics",
        "Panics, of any thread. What panicked goes on, or health says that it does not",
        Log::panics,
    ),
];

fn count(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

pub(super) struct Gauges {
    rule_gauges: Vec<(metrics::Gauge, Read<RuleEngine>)>,
    rule_counters: Vec<(metrics::Counter, Read<RuleEngine>)>,
    plan_gauges: Vec<(metrics::Gauge, Read<PlanEngine>)>,
    plan_counters: Vec<(metrics::Counter, Read<PlanEngine>)>,
    durable_gauges: Vec<(metrics::Gauge, Read<DurableRuleEngine>)>,
    durable_counters: Vec<(metrics::Counter, Read<DurableRuleEngine>)>,
    caller_gauges: Vec<(metrics::Gauge, Read<Decisions>)>,
    ledger_gauges: Vec<(metrics::Gauge, Read<LedgerStatus>)>,
    ledger_counters: Vec<(metrics::Counter, Read<LedgerStatus>)>,
    overload_gauges: Vec<(metrics::Gauge, Read<Overload>)>,
    overload_counters: Vec<(metrics::Counter, Read<Overload>)>,
    log_counters: Vec<(metrics::Counter, Read<Log>)>,
    lag: metrics::Gauge,
    rule_series: metrics::Gauge,
    stalled: metrics::Gauge,
    damaged_rows: metrics::Gauge,
    /// 1 for the reason for which the ledger fails.
    ledger_failing: Vec<(metrics::Gauge, &'static str)>,
    promises: Vec<(metrics::Gauge, Promise)>,
}

impl Gauges {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            rule_gauges: gauges(metrics, &RULE_GAUGES),
            rule_counters: counters(metrics, &RULE_COUNTERS),
            plan_gauges: gauges(metrics, &PLAN_GAUGES),
            plan_counters: counters(metrics, &PLAN_COUNTERS),
            durable_gauges: gauges(metrics, &DURABLE_GAUGES),
            durable_counters: counters(metrics, &DURABLE_COUNTERS),
            caller_gauges: gauges(metrics, &CALLER_GAUGES),
            ledger_gauges: gauges(metrics, &LEDGER_GAUGES),
            ledger_counters: counters(metrics, &LEDGER_COUNTERS),
            overload_gauges: gauges(metrics, &OVERLOAD_GAUGES),
            overload_counters: counters(metrics, &OVERLOAD_COUNTERS),
            log_counters: counters(metrics, &LOG_COUNTERS),
            lag: gauge(
                metrics,
                "tollgate_lag_seconds",
                "How late turns of a core came at most, in the last second, whatever it was that kept it",
            ),
            rule_series: gauge(
                metrics,
                "tollgate_rules_with_series",
                "Rules with series: those in force, and at most 10,000 that requests named",
            ),
            stalled: gauge(
                metrics,
                "tollgate_ledger_stalled_seconds",
                "How long the ledger has been at the transaction under way",
            ),
            damaged_rows: damaged_rows(metrics),
            ledger_failing: failing(metrics),
            promises: promises(metrics),
        }
    }

    /// What the ledger's answers are worth, where that depends on a database.
    pub(super) fn set_promise(&self, promise: Option<Promise>) {
        for (gauge, known) in &self.promises {
            gauge.set(if promise == Some(*known) { 1.0 } else { 0.0 });
        }
    }

    pub(super) fn set(
        &self,
        rules: &RuleEngine,
        plans: &PlanEngine,
        durable: &DurableRuleEngine,
        ledger: &LedgerStatus,
    ) {
        set(&self.rule_gauges, &self.rule_counters, rules);
        set(&self.plan_gauges, &self.plan_counters, plans);
        set(&self.durable_gauges, &self.durable_counters, durable);
        set(&self.ledger_gauges, &self.ledger_counters, ledger);
        let reason = ledger.failing.as_ref().map(LedgerError::reason);
        for (gauge, word) in &self.ledger_failing {
            gauge.set(if reason == Some(word) { 1.0 } else { 0.0 });
        }
    }

    pub(super) fn set_damaged_rows(&self, rows: usize) {
        #[allow(clippy::cast_precision_loss)]
        self.damaged_rows.set(rows as f64);
    }

    pub(super) fn set_callers(&self, decisions: &Decisions) {
        set(&self.caller_gauges, &[], decisions);
    }

    pub(super) fn set_log(&self, log: &Log) {
        set(&[], &self.log_counters, log);
    }

    #[allow(clippy::cast_precision_loss)]
    pub(super) fn set_series(&self, metrics: &Metrics) {
        self.rule_series.set(count(metrics.rules_with_series()) as f64);
    }

    #[allow(clippy::cast_precision_loss)]
    pub(super) fn set_waits(&self, overload: &Overload, stalled: &Stalled, now_ns: u64) {
        set(&self.overload_gauges, &self.overload_counters, overload);
        self.lag.set(overload.take_lag_ns(now_ns) as f64 / 1e9);
        self.stalled.set(stalled.ns() as f64 / 1e9);
    }
}

fn gauge(metrics: &Metrics, name: &'static str, meaning: &'static str) -> metrics::Gauge {
    metrics.describe_gauge(name, meaning);
    metrics.gauge(name, &[])
}

fn damaged_rows(metrics: &Metrics) -> metrics::Gauge {
    const NAME: &str = "tollgate_ledger_damaged_rows";
    metrics.describe_gauge(
        NAME,
        "Rows of the ledger that are not as they were written, as far as they were met",
    );
    metrics.gauge(NAME, &[])
}

fn promises(metrics: &Metrics) -> Vec<(metrics::Gauge, Promise)> {
    const NAME: &str = "tollgate_ledger_promise";
    metrics.describe_gauge(
        NAME,
        "1 for what an answer of a ledger in PostgreSQL is worth, by the database's settings: exact, exact-single or lossy",
    );
    let promises = Promise::ALL.into_iter();
    promises.map(|promise| (metrics.gauge(NAME, &[("promise", promise.word())]), promise)).collect()
}

fn failing(metrics: &Metrics) -> Vec<(metrics::Gauge, &'static str)> {
    const NAME: &str = "tollgate_ledger_failing";
    metrics
        .describe_gauge(NAME, "1 while the last transaction of the ledger failed for this reason");
    LedgerError::REASONS.map(|reason| (metrics.gauge(NAME, &[("reason", reason)]), reason)).into()
}

fn gauges<E>(
    metrics: &Metrics,
    series: &[(&'static str, &'static str, Read<E>)],
) -> Vec<(metrics::Gauge, Read<E>)> {
    let register = |(name, meaning, read): &(&'static str, &'static str, Read<E>)| {
        metrics.describe_gauge(name, meaning);
        (metrics.gauge(name, &[]), *read)
    };
    series.iter().map(register).collect()
}

fn counters<E>(
    metrics: &Metrics,
    series: &[(&'static str, &'static str, Read<E>)],
) -> Vec<(metrics::Counter, Read<E>)> {
    let register = |(name, meaning, read): &(&'static str, &'static str, Read<E>)| {
        metrics.describe_counter(name, meaning);
        (metrics.counter(name, &[]), *read)
    };
    series.iter().map(register).collect()
}

#[allow(clippy::cast_precision_loss)]
fn set<E>(
    gauges: &[(metrics::Gauge, Read<E>)],
    counters: &[(metrics::Counter, Read<E>)],
    engine: &E,
) {
    for (gauge, read) in gauges {
        gauge.set(read(engine) as f64);
    }
    for (counter, read) in counters {
        counter.absolute(read(engine));
    }
}
