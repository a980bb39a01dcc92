//! The only place that asks what time it is.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::decide::time::Now;

/// Where `now` comes from. Cheap to clone; every clone reads the same clocks.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Now + Send + Sync>);

impl Clock {
    /// The clocks of the operating system. A wall clock before 1970 or after 2554 reads as that bound.
    pub fn system() -> Self {
        let start = Instant::now();
        Self::from_fn(move || Now {
            unix_ns: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos),
            steady_ns: nanos(start.elapsed()).saturating_add(1),
        })
    }

    /// A clock that a test moves.
    pub fn from_fn(read: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// One reading of both clocks.
    pub fn now(&self) -> Now {
        (self.0)()
    }
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}
