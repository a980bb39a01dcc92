//! How it goes with the management server: for health, metrics and the log.

use std::time::Duration;

use metrics::{Counter, Gauge};
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::decide::time::SECOND_NS;
use crate::metrics::Metrics;

/// So long the server may be away before health says so: it is replaced now and then.
const AWAY_NS: u64 = 10 * SECOND_NS;

/// How it goes with the management server.
#[derive(Debug)]
pub struct State {
    server: String,
    clock: Clock,
    now: Mutex<Now>,
    connected: Gauge,
    connects: Counter,
    failures: Counter,
    responses: [Counter; 4],
}

#[derive(Debug, Default)]
struct Now {
    /// Since when there is no stream, and why.
    away: Option<(u64, String)>,
    /// What of the last answer is not in force.
    refused: Option<String>,
    /// It was told that no answer comes.
    told_silent: bool,
}

/// What an answer of the server came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Everything in it is in force.
    Accepted,
    /// Not everything.
    Refused,
    /// It was the same again, and nothing was done.
    Again,
    /// A newer one came before it was looked at.
    PassedOver,
}

impl State {
    pub(super) fn new(server: String, clock: Clock, metrics: &Metrics) -> Self {
        metrics.describe_gauge(
            "tollgate_xds_connected",
            "1 while there is a stream to the management server of the rules (xds.server), else 0",
        );
        metrics.describe_counter(
            "tollgate_xds_connects",
            "Streams to the management server that were tried, by result",
        );
        metrics.describe_counter(
            "tollgate_xds_responses",
            "Answers of the management server: accepted, refused in part or whole, the same again, passed over for a newer one",
        );
        let connects = |result| metrics.counter("tollgate_xds_connects", &[("result", result)]);
        let responses = |result| metrics.counter("tollgate_xds_responses", &[("result", result)]);
        let since = clock.steady_ns();
        Self {
            server,
            clock,
            now: Mutex::new(Now {
                away: Some((since, "it has not answered yet".to_owned())),
                ..Now::default()
            }),
            connected: metrics.gauge("tollgate_xds_connected", &[]),
            connects: connects("ok"),
            failures: connects("failed"),
            responses: ["accepted", "refused", "again", "passed_over"].map(responses),
        }
    }

    /// There is a connection.
    pub(super) fn opened(&self) {
        self.connected.set(1.0);
        self.connects.increment(1);
    }

    /// The server has answered, or keeps the stream open: it is there. One that lets in and sends
    /// away again is not.
    pub(super) fn is_there(&self) {
        if self.now.lock().away.take().is_some() {
            tracing::info!("the management server {} is there", self.server);
        }
    }

    /// There is none any more, or none came about.
    pub(super) fn closed(&self, why: &str, wait: Duration) {
        self.connected.set(0.0);
        let mut now = self.now.lock();
        let steady_ns = self.clock.steady_ns();
        let is_new = match &mut now.away {
            Some((_, said)) if said == why => false,
            Some((_, said)) => {
                why.clone_into(said);
                true
            }
            away => {
                *away = Some((steady_ns, why.to_owned()));
                true
            }
        };
        drop(now);
        let text = format!(
            "no rules come from the management server {}: {why}; those in force stay, the next try is in {} ms",
            self.server,
            wait.as_millis()
        );
        // One line for each reason, and not for each try.
        if is_new {
            tracing::warn!("{text}");
        } else {
            tracing::debug!("{text}");
        }
    }

    pub(super) fn failed(&self) {
        self.failures.increment(1);
    }

    pub(super) fn came(&self, came: Came) {
        let [accepted, refused, again, passed_over] = &self.responses;
        match came {
            Came::Accepted => accepted,
            Came::Refused => refused,
            Came::Again => again,
            Came::PassedOver => passed_over,
        }
        .increment(1);
    }

    /// What of the newest answer is not in force; `None`: everything is.
    pub(super) fn refused(&self, why: Option<&str>) {
        self.now.lock().refused = why.map(str::to_owned);
    }

    /// The server is there, and says nothing. Told once.
    pub(super) fn silent(&self, node_id: &str) {
        if !std::mem::replace(&mut self.now.lock().told_silent, true) {
            tracing::warn!(
                "connected to the management server {}, and it has sent no rules: does it know the node `{node_id}` (xds.node_id)?",
                self.server
            );
        }
    }

    /// What is wrong, in words for an operator.
    pub fn says(&self) -> Option<String> {
        let now = self.now.lock();
        let away = now
            .away
            .as_ref()
            .map(|(since, why)| (self.clock.steady_ns().saturating_sub(*since), why.as_str()));
        if let Some((away_ns, why)) = away.filter(|(away_ns, _)| *away_ns >= AWAY_NS) {
            return Some(format!(
                "no rules come from the management server {} for {} s, those in force stay: {why}",
                self.server,
                away_ns / SECOND_NS
            ));
        }
        now.refused.as_ref().map(|why| {
            format!("rules of the management server {} are not in force: {why}", self.server)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::decide::time;

    #[test]
    fn health_says_that_it_is_away_after_ten_seconds_and_what_is_refused_at_once() {
        let steady_ns = Arc::new(AtomicU64::new(1));
        let read = steady_ns.clone();
        let clock = Clock::from_fn(move || {
            let steady_ns = read.load(Ordering::Relaxed);
            time::Now { unix_ns: steady_ns, steady_ns }
        });
        let metrics = Metrics::new();
        let state = State::new("gateway:1".to_owned(), clock, &metrics);
        assert_eq!(state.says(), None);
        steady_ns.store(AWAY_NS, Ordering::Relaxed);
        assert_eq!(state.says(), None, "an instant before");
        steady_ns.store(AWAY_NS + 1, Ordering::Relaxed);
        assert!(state.says().unwrap().contains("gateway:1 for 10 s"), "{:?}", state.says());
        state.opened();
        assert!(state.says().is_some(), "it may send away again");
        state.is_there();
        assert_eq!(state.says(), None);
        assert!(metrics.render().contains("tollgate_xds_connected 1"));
        state.refused(Some("a: bad"));
        assert!(state.says().unwrap().ends_with("are not in force: a: bad"));
        state.refused(None);
        state.closed("it is gone", Duration::ZERO);
        assert_eq!(state.says(), None);
        steady_ns.store(2 * AWAY_NS + 1, Ordering::Relaxed);
        assert!(state.says().unwrap().ends_with("it is gone"));
        assert!(metrics.render().contains("tollgate_xds_connected 0"));
    }
}
