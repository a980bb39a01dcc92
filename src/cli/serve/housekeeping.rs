//! What has to happen now and then: dead counters swept, statistics written, a ledger that is slow
//! or fails noticed, rules files looked at, gauges set.

mod gauges;
mod stall;
mod trouble;
mod turns;
mod upkeep;

use std::panic::resume_unwind;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use self::gauges::Gauges;
pub(super) use self::stall::Stalled;
use self::stall::Watch;
use self::trouble::Trouble;
use self::turns::Turns;
use self::upkeep::Upkeep;
use super::parts::Parts;
use super::stopped;
use crate::engine::leases::HoldsLeases;
use crate::http::Degraded;
use crate::log::{Log, caught};
use crate::service::lease_broker::LeaseBroker;

/// In this time every counter is visited once.
const SWEEP_ROUND: Duration = Duration::from_secs(10);
const SWEEP_STEP: Duration = Duration::from_millis(100);
/// What a crash may forget of the windows of rules, and of the statistics.
const WRITE_BEHIND_ROUND: Duration = Duration::from_secs(1);
/// How often callers who do not call any more are let go of.
const CALLERS_ROUND: Duration = Duration::from_secs(60);
/// How often it is looked whether the ledger's file is still there.
const LOOK_ROUND: Duration = Duration::from_secs(1);
/// How often the ledger lets go of what is old.
const UPKEEP_ROUND: Duration = Duration::from_secs(60);
/// After something panicked that goes on at once.
const PAUSE: Duration = Duration::from_secs(1);

/// What is looked at each second.
pub(super) struct Watched {
    pub(super) stalled: Stalled,
    pub(super) degraded: Degraded,
    pub(super) log: Log,
}

/// Starts the tasks. They end when `stopping` says so.
pub(super) fn start(
    parts: &Parts,
    files_poll_ms: u64,
    watched: Watched,
    stopping: &watch::Receiver<bool>,
) {
    let Watched { stalled, degraded, log } = watched;
    if let Some(poll_ms) = parts.rulebook.poll_ms() {
        let rulebook = parts.rulebook.clone();
        every("rules", Duration::from_millis(poll_ms), stopping.clone(), move || {
            let rulebook = rulebook.clone();
            // Reading files blocks.
            blocking(move || rulebook.refresh())
        });
    }
    if parts.access.is_some() || parts.tls.is_some() {
        let (access, tls) = (parts.access.clone(), parts.tls.clone());
        every(
            "tokens and certificates",
            Duration::from_millis(files_poll_ms),
            stopping.clone(),
            move || {
                let (access, tls) = (access.clone(), tls.clone());
                blocking(move || {
                    access.iter().for_each(|access| access.refresh());
                    tls.iter().for_each(|tls| tls.refresh());
                })
            },
        );
    }
    let (engine, clock) = (parts.rule_engine.clone(), parts.clock.clone());
    let steps = SWEEP_ROUND.div_duration_f64(SWEEP_STEP);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let sweeps = (engine.sweeps_per_round() as f64 / steps).ceil() as usize;
    every("sweep of rules", SWEEP_STEP, stopping.clone(), move || {
        let (engine, clock) = (engine.clone(), clock.clone());
        async move {
            for _ in 0..sweeps {
                engine.sweep(clock.now());
                tokio::task::yield_now().await;
            }
        }
    });
    keep_leases("sweep of plans", &parts.broker, stopping);
    keep_leases("sweep of durable rules", &parts.durable_broker, stopping);
    let catalog = parts.catalog.clone();
    every("late edits", LOOK_ROUND, stopping.clone(), move || {
        let catalog = catalog.clone();
        blocking(move || catalog.catch_up())
    });
    let decisions = parts.decisions.clone();
    every("callers", CALLERS_ROUND, stopping.clone(), move || {
        let decisions = decisions.clone();
        blocking(move || decisions.forget_idle_callers())
    });
    let broker = parts.broker.clone();
    every("statistics", WRITE_BEHIND_ROUND, stopping.clone(), move || {
        let broker = broker.clone();
        blocking(move || {
            if let Err(error) = broker.write_behind() {
                tracing::debug!("statistics wait until the ledger takes them: {error}");
            }
        })
    });
    let windows = parts.windows.clone();
    every("windows of rules", WRITE_BEHIND_ROUND, stopping.clone(), move || {
        let windows = windows.clone();
        blocking(move || {
            if let Err(error) = windows.write() {
                tracing::debug!(
                    "windows of rules were not written, and will be tried again: {error}"
                );
            }
        })
    });
    let ledger = parts.ledger.clone();
    every("place of the ledger", LOOK_ROUND, stopping.clone(), move || {
        let ledger = ledger.clone();
        blocking(move || ledger.ledger().look())
    });
    let mut upkeep = Upkeep::new(parts);
    every("upkeep", UPKEEP_ROUND, stopping.clone(), move || upkeep.round());
    let gauges = Gauges::new(&parts.metrics);
    let (rules, plans, ledger) =
        (parts.rule_engine.clone(), parts.plan_engine.clone(), parts.ledger.clone());
    let (mut watch, stalled, clock) =
        (Watch::new(stalled.clone()), stalled.clone(), parts.clock.clone());
    let (durable, overload) = (parts.durable_engine.clone(), parts.overload.clone());
    let (metrics, callers) = (parts.metrics.clone(), parts.decisions.clone());
    let (mut turns, mut told_lost, mut trouble) = (Turns::new(degraded), 0, Trouble::default());
    let time = parts.time.clone();
    every("gauges", Duration::from_secs(1), stopping.clone(), move || {
        // What is believed is kept by the upkeep; here it is seen, and told, at once.
        let _ = time.look(clock.now());
        let status = ledger.status();
        let steady_ns = clock.steady_ns();
        watch.look(&status, steady_ns);
        trouble.look(&status, steady_ns);
        gauges.set(&rules, &plans, &durable, &status);
        gauges.set_damaged_rows(ledger.ledger().damaged_rows());
        gauges.set_promise(ledger.ledger().promise());
        gauges.set_callers(&callers);
        gauges.set_waits(&overload, &stalled, clock.steady_ns());
        gauges.set_log(&log);
        tell_lost(&log, &mut told_lost);
        turns.look(clock.steady_ns(), callers.refused_without_ledger());
        metrics.run_upkeep();
        gauges.set_series(&metrics);
        std::future::ready(())
    });
}

/// Closes periods that are over, and asks together for what is wanted ahead of use.
fn keep_leases<E: HoldsLeases>(
    sweep: &'static str,
    broker: &LeaseBroker<E>,
    stopping: &watch::Receiver<bool>,
) {
    let sweeping = broker.clone();
    every(sweep, SWEEP_ROUND, stopping.clone(), move || {
        let broker = sweeping.clone();
        blocking(move || {
            if let Err(error) = broker.sweep() {
                tracing::debug!("periods that are over were not closed: {error}");
            }
        })
    });
    let (broker, stopping) = (broker.clone(), stopping.clone());
    tokio::spawn(async move {
        let gather = async {
            while caught(broker.gather()).await.is_err() {
                tracing::error!("leasing ahead has panicked, and goes on");
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = gather => {}
            () = stopped(stopping) => {}
        }
    });
}

/// Says in the log what is missing in it, once it can be written again.
fn tell_lost(log: &Log, told: &mut u64) {
    let lost = log.lost();
    if lost > *told && log.works() {
        tracing::warn!(
            lines = lost - *told,
            "lines of this log are lost: they could not be written"
        );
        *told = lost;
    }
}

/// Reads rules, tokens and certificates again, now: as SIGHUP asks.
pub(super) async fn reload(parts: &Parts) {
    let (rulebook, access, tls) = (parts.rulebook.clone(), parts.access.clone(), parts.tls.clone());
    let read = blocking(move || {
        if rulebook.poll_ms().is_some() {
            rulebook.refresh();
        }
        access.iter().for_each(|access| access.refresh());
        tls.iter().for_each(|tls| tls.refresh());
    });
    match caught(read).await {
        Ok(()) => tracing::info!("SIGHUP: rules, tokens and certificates were read again"),
        Err(panicked) => tracing::error!(
            "SIGHUP: rules, tokens and certificates were not all read again: {panicked}"
        ),
    }
}

/// Away from the threads that serve. A panic there is one here.
async fn blocking(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(work).await
        && let Ok(panic) = error.try_into_panic()
    {
        resume_unwind(panic);
    }
}

/// Does something now and then. A round that panics is told, and the next one comes.
fn every<F: Future<Output = ()> + Send>(
    name: &'static str,
    period: Duration,
    stopping: watch::Receiver<bool>,
    mut work: impl FnMut() -> F + Send + 'static,
) {
    tokio::spawn(async move {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stopped(stopping));
        loop {
            tokio::select! {
                _ = ticks.tick() => if caught(async { work().await }).await.is_err() {
                    tracing::error!("a round of `{name}` has panicked; the next comes in {period:?}");
                },
                () = &mut stop => return,
            }
        }
    });
}

#[cfg(test)]
mod tests;
