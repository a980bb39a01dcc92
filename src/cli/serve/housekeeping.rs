//! What has to happen now and then: dead counters swept, rules files looked at, gauges set.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::stopped;
use crate::clock::Clock;
use crate::engine::rules::RuleEngine;
use crate::metrics::Metrics;
use crate::rulebook::Rulebook;

/// In this time every counter is visited once.
const SWEEP_ROUND: Duration = Duration::from_secs(10);
const SWEEP_STEP: Duration = Duration::from_millis(100);

/// Starts the tasks. They end when `stopping` says so.
pub(super) fn start(
    engine: &Arc<RuleEngine>,
    rulebook: &Arc<Rulebook>,
    metrics: &Arc<Metrics>,
    clock: &Clock,
    stopping: watch::Receiver<bool>,
) {
    if let Some(poll_ms) = rulebook.poll_ms() {
        let rulebook = rulebook.clone();
        every(Duration::from_millis(poll_ms), stopping.clone(), move || {
            let rulebook = rulebook.clone();
            async move {
                // Reading files blocks; a panic there is already in the log, and the old rules stay.
                let _ = tokio::task::spawn_blocking(move || rulebook.refresh()).await;
            }
        });
    }
    let (swept, clock) = (engine.clone(), clock.clone());
    let steps = SWEEP_ROUND.div_duration_f64(SWEEP_STEP);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let sweeps = (swept.sweeps_per_round() as f64 / steps).ceil() as usize;
    every(SWEEP_STEP, stopping.clone(), move || {
        let (engine, clock) = (swept.clone(), clock.clone());
        async move {
            for _ in 0..sweeps {
                engine.sweep(clock.now());
                tokio::task::yield_now().await;
            }
        }
    });
    let gauges = Gauges::new(metrics);
    let (engine, metrics) = (engine.clone(), metrics.clone());
    every(Duration::from_secs(1), stopping, move || {
        gauges.set(&engine);
        metrics.run_upkeep();
        std::future::ready(())
    });
}

fn every<F: Future<Output = ()> + Send>(period: Duration, stopping: watch::Receiver<bool>, mut work: impl FnMut() -> F + Send + 'static) {
    tokio::spawn(async move {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stopped(stopping));
        loop {
            tokio::select! {
                _ = ticks.tick() => work().await,
                () = &mut stop => return,
            }
        }
    });
}

struct Gauges {
    live: metrics::Gauge,
    max: metrics::Gauge,
    overflow: metrics::Gauge,
    overflow_asks: metrics::Counter,
}

impl Gauges {
    fn new(metrics: &Metrics) -> Self {
        metrics.describe_gauge("tollgate_counters", "Counters of rules in memory, overflow counters apart");
        metrics.describe_gauge("tollgate_counters_max", "The bound on them (engine.max_counters)");
        metrics.describe_gauge("tollgate_overflow_counters", "Counters that fresh keys share because the bound is reached");
        metrics.describe_counter("tollgate_overflow_asks", "Hits charged to a shared counter");
        Self {
            live: metrics.gauge("tollgate_counters", &[]),
            max: metrics.gauge("tollgate_counters_max", &[]),
            overflow: metrics.gauge("tollgate_overflow_counters", &[]),
            overflow_asks: metrics.counter("tollgate_overflow_asks", &[]),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn set(&self, engine: &RuleEngine) {
        self.live.set(engine.live_counters() as f64);
        self.max.set(engine.max_counters() as f64);
        self.overflow.set(engine.overflow_counters() as f64);
        self.overflow_asks.absolute(engine.overflow_asks());
    }
}
