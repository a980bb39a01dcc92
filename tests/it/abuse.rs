//! What overload, strangers and clients that misbehave cost those who behave: the real binary where
//! the network matters, the engine where not.
//!
//! Sizes are a part of the full ones, so that all of it takes seconds in a debug build:
//! `TOLLGATE_ABUSE_SCALE=1 cargo test --release --test it abuse -- --nocapture` takes the full
//! ones, and shows the figures.

// Sizes are far from where these lose anything.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

mod connections;
mod control;
mod files;
mod floods;
mod keys;
mod ledger;
mod neighbour;
mod overload;
mod pages;
mod raw;
mod replay;
mod stops;
mod strangers;

use tollgate::catalog::CatalogStore;
use tollgate::decide::time::{Now, SECOND_NS};

use tollgate::testkit::declared;

use crate::server::Tollgate;

const NOW: Now = Now { unix_ns: 1_795_341_607 * SECOND_NS, steady_ns: 1_000 * SECOND_NS };
const PART: f64 = 0.02;

/// Held by those that load the machine, so that it is one of them at a time: other tests run beside
/// them.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// This much of a full size, and at least one.
fn scaled(full: u64) -> u64 {
    let part = std::env::var("TOLLGATE_ABUSE_SCALE")
        .map_or(PART, |text| text.parse().expect("TOLLGATE_ABUSE_SCALE is a number"));
    ((full as f64 * part) as u64).max(1)
}

/// A catalog in memory with what a declarative file says.
fn catalog(text: &str) -> CatalogStore {
    declared::catalog(text, NOW)
}

fn metrics(tollgate: &Tollgate) -> String {
    crate::http::get("/metrics").send(tollgate.http_addr()).unwrap().text()
}

/// The sum over all series of a metric.
fn metric(tollgate: &Tollgate, name: &str) -> u64 {
    let page = metrics(tollgate);
    let series = page
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

fn mebibytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes >> 10) & 1023) * 10 / 1024)
}
