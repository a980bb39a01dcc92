//! What has to happen now and then: dead counters swept, statistics written, a slow ledger noticed, rules files looked at, gauges set.

mod gauges;
mod stall;
mod upkeep;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use self::gauges::Gauges;
pub(super) use self::stall::Stalled;
use self::stall::Watch;
use self::upkeep::Upkeep;
use super::parts::Parts;
use super::stopped;

/// In this time every counter is visited once.
const SWEEP_ROUND: Duration = Duration::from_secs(10);
const SWEEP_STEP: Duration = Duration::from_millis(100);
/// What a crash may forget of the windows of rules, and of the statistics.
const WRITE_BEHIND_ROUND: Duration = Duration::from_secs(1);
/// How often callers who do not call any more are let go of.
const CALLERS_ROUND: Duration = Duration::from_secs(60);
/// How often the ledger lets go of what is old.
const UPKEEP_ROUND: Duration = Duration::from_secs(60);

/// Starts the tasks. They end when `stopping` says so.
pub(super) fn start(parts: &Parts, files_poll_ms: u64, stalled: &Stalled, stopping: &watch::Receiver<bool>) {
    if let Some(poll_ms) = parts.rulebook.poll_ms() {
        let rulebook = parts.rulebook.clone();
        every(Duration::from_millis(poll_ms), stopping.clone(), move || {
            let rulebook = rulebook.clone();
            // Reading files blocks.
            blocking(move || rulebook.refresh())
        });
    }
    if parts.access.is_some() || parts.tls.is_some() {
        let (access, tls) = (parts.access.clone(), parts.tls.clone());
        every(Duration::from_millis(files_poll_ms), stopping.clone(), move || {
            let (access, tls) = (access.clone(), tls.clone());
            blocking(move || {
                access.iter().for_each(|access| access.refresh());
                tls.iter().for_each(|tls| tls.refresh());
            })
        });
    }
    let (engine, clock) = (parts.rule_engine.clone(), parts.clock.clone());
    let steps = SWEEP_ROUND.div_duration_f64(SWEEP_STEP);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let sweeps = (engine.sweeps_per_round() as f64 / steps).ceil() as usize;
    every(SWEEP_STEP, stopping.clone(), move || {
        let (engine, clock) = (engine.clone(), clock.clone());
        async move {
            for _ in 0..sweeps {
                engine.sweep(clock.now());
                tokio::task::yield_now().await;
            }
        }
    });
    for desk in [parts.desk.clone(), parts.durable_desk.clone()] {
        every(SWEEP_ROUND, stopping.clone(), move || {
            let desk = desk.clone();
            blocking(move || {
                if let Err(error) = desk.sweep() {
                    tracing::debug!("periods that are over were not closed: {error}");
                }
            })
        });
    }
    let plans = parts.plans.clone();
    every(CALLERS_ROUND, stopping.clone(), move || {
        let plans = plans.clone();
        blocking(move || plans.forget_idle_callers())
    });
    for desk in [parts.desk.clone(), parts.durable_desk.clone()] {
        let stopping = stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = desk.gather() => {}
                () = stopped(stopping) => {}
            }
        });
    }
    let desk = parts.desk.clone();
    every(WRITE_BEHIND_ROUND, stopping.clone(), move || {
        let desk = desk.clone();
        blocking(move || {
            if let Err(error) = desk.write_behind() {
                tracing::debug!("statistics wait until the ledger takes them: {error}");
            }
        })
    });
    let windows = parts.windows.clone();
    every(WRITE_BEHIND_ROUND, stopping.clone(), move || {
        let windows = windows.clone();
        blocking(move || {
            if let Err(error) = windows.write() {
                tracing::debug!("windows of rules were not written, and will be tried again: {error}");
            }
        })
    });
    let mut upkeep = Upkeep::new(parts);
    every(UPKEEP_ROUND, stopping.clone(), move || upkeep.round());
    let gauges = Gauges::new(&parts.metrics);
    let (rules, plans, ledger) = (parts.rule_engine.clone(), parts.plan_engine.clone(), parts.ledger.clone());
    let (mut watch, stalled, clock) = (Watch::new(stalled.clone()), stalled.clone(), parts.clock.clone());
    let (durable, overload) = (parts.durable_engine.clone(), parts.overload.clone());
    let (metrics, callers) = (parts.metrics.clone(), parts.plans.clone());
    every(Duration::from_secs(1), stopping.clone(), move || {
        let status = ledger.status();
        watch.look(&status, clock.steady_ns());
        gauges.set(&rules, &plans, &durable, &status);
        gauges.set_callers(&callers);
        gauges.set_waits(&overload, &stalled);
        metrics.run_upkeep();
        std::future::ready(())
    });
}

/// Away from the threads that serve. A panic there is in the log already, and the next round comes.
async fn blocking(work: impl FnOnce() + Send + 'static) {
    let _ = tokio::task::spawn_blocking(work).await;
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
