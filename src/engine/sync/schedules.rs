//! Runs the same code in many orders, and says in how many.
// A test, although it is not one of those that tell so by their names.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};

/// Orders that are tried by each of the two ways of choosing them; `TOLLGATE_SCHEDULES` says how
/// many.
fn many() -> usize {
    std::env::var("TOLLGATE_SCHEDULES").map_or(2_000, |text| text.parse().unwrap())
}

/// So many changes of thread, at unlucky moments, are enough for nearly every mistake.
const UNLUCKY: usize = 3;

/// A scene, played by threads that it starts.
pub(crate) type Scene = fn();

/// Every order there is.
pub(crate) fn every_order(what: &str, scene: Scene) {
    let tried = run(DfsScheduler::new(None, false), scene);
    println!("{what}: all {tried} schedules");
}

/// Orders at random, and orders with few changes of thread.
pub(crate) fn many_orders(what: &str, scene: Scene) {
    let random = run(RandomScheduler::new_from_seed(1, many()), scene);
    let unlucky = run(PctScheduler::new_from_seed(2, UNLUCKY, many()), scene);
    println!("{what}: {} schedules", random + unlucky);
}

/// The scene is wrong: some order must show it, and none does in which each thread runs as far as
/// it can. Gives what it said.
pub(crate) fn found_out(what: &str, scene: Scene) -> String {
    run(PctScheduler::new_from_seed(5, 1, 20), scene);
    let tried = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&tried);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        run_counted(RandomScheduler::new_from_seed(3, many()), scene, &counted);
        run_counted(PctScheduler::new_from_seed(4, UNLUCKY, many()), scene, &counted);
    }));
    let tried = tried.load(Ordering::SeqCst);
    let Err(said) = ran else { panic!("{what}: {tried} schedules, and none shows the mistake") };
    println!("{what}: found out by schedule {tried}");
    let said = said
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| said.downcast_ref::<&str>().map(|&text| text.to_owned()));
    said.unwrap_or_default()
}

fn run(scheduler: impl Scheduler + 'static, scene: Scene) -> u64 {
    let tried = Arc::new(AtomicU64::new(0));
    run_counted(scheduler, scene, &tried);
    tried.load(Ordering::SeqCst)
}

fn run_counted(scheduler: impl Scheduler + 'static, scene: Scene, tried: &Arc<AtomicU64>) {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    let tried = Arc::clone(tried);
    Runner::new(scheduler, config).run(move || {
        tried.fetch_add(1, Ordering::SeqCst);
        scene();
    });
}
