//! Names of the table `numbers`.

pub(super) const CATALOG_REVISION: &str = "catalog_revision";
pub(super) const ACCOUNTS_DROPPED_TO_S: &str = "periods_dropped_to_s";
pub(super) const ACCOUNTS_DROPPED_FROM_S: &str = "periods_dropped_from_s";
pub(super) const MARKS_DROPPED_TO_S: &str = "marks_dropped_to_s";
pub(super) const VOUCHED_S: &str = "clock_vouched_s";
pub(super) const SEEN_S: &str = "clock_seen_s";
