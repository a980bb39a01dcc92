//! Instants as arguments. Nothing here asks what time it is.

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// One reading of both clocks, taken once per request at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since the Unix epoch, UTC. May step either way. Places a request in a calendar
    /// period or a window.
    pub unix_ns: u64,
    /// Nanoseconds since some start, at least 1. Never goes back. Refills token buckets.
    pub steady_ns: u64,
}

impl Now {
    /// Whole seconds since the Unix epoch.
    pub fn unix_s(&self) -> u64 {
        self.unix_ns / SECOND_NS
    }
}
