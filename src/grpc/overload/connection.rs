//! A connection: what its reader and its calls know together.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use super::Backlog;
use super::control::Control;
use crate::clock::Clock;
use crate::grpc::budget::{Budget, Holding};

/// What those who read a connection and those who answer its calls know together.
#[derive(Debug, Default)]
pub(in crate::grpc) struct ConnectionState {
    /// Calls that have begun and are not answered.
    begun: AtomicU64,
    /// Calls, and messages of streams, that have begun since the start.
    pub(super) begun_ever: AtomicU64,
    /// Bytes that came, and that went.
    received: AtomicU64,
    pub(super) written: AtomicU64,
    /// It sends too much that is no call, and is told so.
    calmed: AtomicBool,
    holding: Holding,
    stopping: OnceLock<watch::Receiver<bool>>,
}

impl ConnectionState {
    pub(in crate::grpc) fn holding_of(budget: Arc<Budget>) -> Self {
        Self { holding: Holding::new(budget), ..Self::default() }
    }

    /// What its calls hold.
    pub(in crate::grpc) fn holding(&self) -> &Holding {
        &self.holding
    }

    /// It is told there when the server stops.
    pub(in crate::grpc) fn stops_with(&self, stopping: watch::Receiver<bool>) {
        drop(self.stopping.set(stopping));
    }

    pub(in crate::grpc) fn stopping(&self) -> Option<&watch::Receiver<bool>> {
        self.stopping.get()
    }

    /// A call has begun.
    pub(in crate::grpc) fn began(&self) {
        self.begun.store(self.begun.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.begun_ever.store(self.begun_ever.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// A call that had begun is answered, or given up.
    pub(in crate::grpc) fn ended(&self) {
        self.begun.store(self.begun.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }

    /// Bytes went.
    pub(in crate::grpc) fn wrote(&self, bytes: usize) {
        add(&self.written, bytes);
    }

    /// How many bytes came and went. If it is the same twice, nothing has moved in between.
    pub(in crate::grpc) fn moved(&self) -> u64 {
        self.received.load(Ordering::Relaxed).wrapping_add(self.written.load(Ordering::Relaxed))
    }

    pub(in crate::grpc) fn is_calmed(&self) -> bool {
        self.calmed.load(Ordering::Relaxed)
    }

    /// Calls have begun and are not answered.
    pub(in crate::grpc) fn is_answering(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 0
    }

    /// Whoever asks for a stream of answers begins each of them by itself.
    pub(in crate::grpc) fn begin(self: &Arc<Self>) -> Begun {
        self.began();
        Begun(self.clone())
    }
}

/// Counts bytes, on the one thread that serves a connection.
fn add(count: &AtomicU64, bytes: usize) {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    count.store(count.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
}

/// An answer of a stream that has begun, for as long as it is not there.
#[derive(Debug)]
pub(in crate::grpc) struct Begun(Arc<ConnectionState>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// A connection, as the core sees it that has to read it.
#[derive(Debug)]
pub(in crate::grpc) struct ConnectionWatch {
    core: Arc<Backlog>,
    clock: Clock,
    control: Control,
    state: Arc<ConnectionState>,
}

impl ConnectionWatch {
    pub(in crate::grpc) fn new(core: Arc<Backlog>, clock: Clock) -> Self {
        let state = Arc::new(ConnectionState::holding_of(core.budget.clone()));
        let control = Control::new(core.control_per_second);
        Self { core, clock, control, state }
    }

    pub(in crate::grpc) fn state(&self) -> Arc<ConnectionState> {
        self.state.clone()
    }

    /// So many bytes were written.
    pub(in crate::grpc) fn wrote(&self, bytes: usize) {
        self.state.wrote(bytes);
    }

    /// All that had come was read.
    pub(in crate::grpc) fn dry(&mut self) {
        self.control.dry();
    }

    /// Whether so much was read that is no call that others should have their turn first.
    pub(in crate::grpc) fn has_had_its_turn(&mut self) -> bool {
        self.control.has_had_its_turn()
    }

    /// This was read. `Some`: it may be looked at up to there. Then the connection is to be closed,
    /// because it sends too much that is no call.
    pub(in crate::grpc) fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        add(&self.state.received, bytes.len());
        let until = self.control.came(bytes, &self.state, || self.clock.steady_ns());
        if until.is_some() {
            self.core.calmed.fetch_add(1, Ordering::Relaxed);
            self.state.calmed.store(true, Ordering::Relaxed);
        }
        until
    }
}

/// Why a connection is closed that sends too much that is no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the connection is closed, because it sends more pings, settings and the like than its calls explain, see grpc.max_control_frames"
)]
pub(in crate::grpc) struct Calmed;
