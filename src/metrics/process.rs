//! What the process itself takes, under the names that dashboards of every Prometheus client read.

use std::fmt::Write;

/// Appends what a scrape reads. What the system does not tell is left out.
pub(super) fn render(text: &mut String) {
    #[cfg(target_os = "linux")]
    linux::render(text);
    #[cfg(not(target_os = "linux"))]
    let _ = text;
}

fn series(text: &mut String, name: &str, kind: &str, meaning: &str, value: Option<f64>) {
    if let Some(value) = value {
        let _ = write!(text, "# HELP {name} {meaning}\n# TYPE {name} {kind}\n{name} {value}\n\n");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use super::series;
    use crate::open_files;

    /// Numbers of `/proc/self/stat` after the name: `utime`, `stime`, `starttime`, `vsize`, `rss`.
    const USER: usize = 11;
    const SYSTEM: usize = 12;
    const START: usize = 19;
    const VIRTUAL: usize = 20;
    const RESIDENT: usize = 21;

    #[allow(clippy::cast_precision_loss)]
    pub(super) fn render(text: &mut String) {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let number = |place| stat_number(&stat, place).map(|number| number as f64);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let cpu = number(USER).zip(number(SYSTEM)).map(|(user, system)| (user + system) / ticks);
        series(
            text,
            "process_cpu_seconds_total",
            "counter",
            "Processor time that the process has taken",
            cpu,
        );
        let resident = number(RESIDENT).map(|pages| pages * rustix::param::page_size() as f64);
        series(
            text,
            "process_resident_memory_bytes",
            "gauge",
            "Memory that the process has",
            resident,
        );
        series(
            text,
            "process_virtual_memory_bytes",
            "gauge",
            "Addresses that the process has",
            number(VIRTUAL),
        );
        let open = open_files::open().map(|open| open as f64);
        series(text, "process_open_fds", "gauge", "Files that the process has open", open);
        series(
            text,
            "process_max_fds",
            "gauge",
            "Files that the process may open",
            open_files::limit().map(|limit| limit as f64),
        );
        let boot = fs::read_to_string("/proc/stat").ok().and_then(|stat| boot_unix_s(&stat));
        let start = number(START).zip(boot).map(|(start, boot)| boot as f64 + start / ticks);
        series(
            text,
            "process_start_time_seconds",
            "gauge",
            "When the process was started, in seconds since 1970",
            start,
        );
    }

    /// The name, in brackets, may hold anything.
    fn stat_number(stat: &str, place: usize) -> Option<u64> {
        stat.rsplit_once(") ")?.1.split(' ').nth(place)?.trim().parse().ok()
    }

    fn boot_unix_s(stat: &str) -> Option<u64> {
        stat.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn numbers_are_found_behind_any_name() {
            let stat =
                "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 111 222 13 14 15 16 17 18 19999 2020 2121 22";
            let found =
                [USER, SYSTEM, START, VIRTUAL, RESIDENT].map(|place| stat_number(stat, place));
            assert_eq!(found, [Some(111), Some(222), Some(19999), Some(2020), Some(2121)]);
            assert_eq!(stat_number("", USER), None);
            assert_eq!(
                boot_unix_s("cpu 1 2\nbtime 1700000000\nprocesses 3\n"),
                Some(1_700_000_000)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_shows_what_it_takes() {
        let mut text = String::new();
        super::render(&mut text);
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
        };
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(
            value("process_resident_memory_bytes") > 1e5
                && value("process_virtual_memory_bytes") > 1e5
        );
        assert!(
            value("process_open_fds") >= 3.0
                && value("process_max_fds") >= value("process_open_fds")
        );
        // After the boot of the machine and not in the future.
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..86_400.0 * 365.0).contains(&age), "{age} s old");
    }
}
