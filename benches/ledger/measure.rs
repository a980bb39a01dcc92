//! CPU time, sizes and times, and how they are written.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of this process, all threads, in nanoseconds.
pub fn cpu_ns() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 * 1e9 + spent.tv_nsec as f64
}

/// Bytes of all files of a folder.
pub fn size_of(folder: &std::path::Path) -> f64 {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len() as f64)
        .sum()
}

/// The part of `all` below which that part of them is, from 0 to 1.
pub fn percentile(all: &[Duration], part: f64) -> Duration {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    let place = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(place.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

pub fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

pub fn mib(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / 1_048_576.0)
}
