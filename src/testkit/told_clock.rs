//! A clock that stands still until a test moves it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::decide::time::{Now, SECOND_NS};

/// Every clone is the same clock.
#[derive(Clone, Debug)]
pub struct ToldClock(Arc<Mutex<Now>>);

impl ToldClock {
    pub fn at(now: Now) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// This second of the Unix epoch, and of the steady clock.
    pub fn at_s(second: u64) -> Self {
        Self::at(Now { unix_ns: second * SECOND_NS, steady_ns: second * SECOND_NS })
    }

    /// For whoever reads the time.
    pub fn clock(&self) -> Clock {
        let told = self.clone();
        Clock::from_fn(move || told.now())
    }

    pub fn now(&self) -> Now {
        *self.0.lock()
    }

    /// Time passes, on both clocks.
    pub fn pass_ns(&self, ns: u64) {
        let mut now = self.0.lock();
        now.unix_ns += ns;
        now.steady_ns += ns;
    }

    pub fn pass_s(&self, seconds: u64) {
        self.pass_ns(seconds * SECOND_NS);
    }

    /// The wall clock steps; no time passes.
    pub fn step_to_ns(&self, unix_ns: u64) {
        self.0.lock().unix_ns = unix_ns;
    }

    pub fn set(&self, now: Now) {
        *self.0.lock() = now;
    }
}
