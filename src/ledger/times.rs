//! Which time it was, as far as a ledger knows: what the wall clock of a start is compared with.

/// What a ledger knows of time, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The newest time of a clock that was vouched for.
    pub vouched_s: Option<u64>,
    /// The newest time that was seen. Told only where no clock was ever vouched for.
    pub seen_s: Option<u64>,
    /// Periods that ended by then may have been dropped.
    pub periods_dropped_to_s: u64,
    /// Marks of receipts that were issued by then may have been dropped.
    pub marks_dropped_to_s: Option<u64>,
}

impl Times {
    /// Was something dropped that cannot be old by this time?
    pub fn dropped_after(&self, now_s: u64) -> bool {
        self.periods_dropped_to_s.max(self.marks_dropped_to_s.unwrap_or_default()) > now_s
    }
}

/// A time that is believed, to be kept for the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Believed {
    pub now_s: u64,
    /// The clock was vouched for. Else it agrees with what is known, which is little.
    pub vouched: bool,
}
