//! The only place that asks what time it is.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::decide::time::Now;

pub mod vouching;

/// Where `now` comes from. Cheap to clone; every clone reads the same clocks.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    /// The steady clock counts from here.
    System(Instant),
    Told(Arc<dyn Fn() -> Now + Send + Sync>),
}

impl Clock {
    /// The clocks of the operating system. A wall clock before 1970 or after 2554 reads as that
    /// bound.
    pub fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// A clock that a test moves.
    pub fn from_fn(read: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        Self(Source::Told(Arc::new(read)))
    }

    /// One reading of both clocks.
    pub fn now(&self) -> Now {
        match &self.0 {
            Source::System(start) => Now {
                unix_ns: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos),
                steady_ns: steady_ns(start),
            },
            Source::Told(read) => read(),
        }
    }

    /// The steady clock alone, for half the price.
    pub fn steady_ns(&self) -> u64 {
        match &self.0 {
            Source::System(start) => steady_ns(start),
            Source::Told(read) => read().steady_ns,
        }
    }
}

fn steady_ns(start: &Instant) -> u64 {
    nanos(start.elapsed()).saturating_add(1)
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}
