//! Bounds, compared with each other and with the system's.

use crate::config::{Config, GrpcServer, Pages};
use crate::open_files::Connections;

/// What a counter of rules takes at most.
const A_COUNTER: u64 = 128;
/// Of the memory, so much may be counters of rules.
const PERCENT: u64 = 80;
/// Of each body, so much is not counted.
const UNCOUNTED: usize = 64 * 1024;

/// The bounds of connections, so that they and all else fit into the files that the process may
/// open: of gRPC, of its admin port, of the pages.
pub(super) fn within_files(config: &Config) -> (GrpcServer, usize, Pages) {
    let admin = config.reach.admin_grpc_addr.is_some();
    let wanted = Connections {
        grpc: config.grpc_server.max_connections,
        admin_grpc: if admin { config.grpc_server.max_connections } else { 0 },
        pages: config.pages.max_connections,
        ports_of_pages: 1 + usize::from(config.reach.metrics_addr.is_some()),
    };
    // The admin port and the pages have one each.
    let (fit, warning) = wanted.fit_now(config.grpc_server.threads() + 2);
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    let grpc = GrpcServer { max_connections: fit.grpc, ..config.grpc_server };
    (grpc, fit.admin_grpc, Pages { max_connections: fit.pages, ..config.pages.clone() })
}

/// What an operator should know of bounds that do not fit each other, or the machine.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let (pages, grpc, message) =
        (&config.pages, &config.grpc_server, config.grpc.max_message_bytes);
    let mut warnings = Vec::new();
    if pages.max_body_bytes.saturating_add(UNCOUNTED) < message {
        warnings.push(format!(
            "http.max_body_bytes {} is less than one body may have (grpc.max_message_bytes {message}): larger ones are answered 503 on /json",
            pages.max_body_bytes
        ));
    }
    if grpc.stream_window_bytes > grpc.connection_window_bytes {
        warnings.push(format!(
            "grpc.stream_window_bytes {} is never reached: grpc.connection_window_bytes {} is less",
            grpc.stream_window_bytes, grpc.connection_window_bytes
        ));
    }
    warnings.extend(memory().and_then(|memory| too_many_counters(config.max_counters, memory)));
    warnings
}

fn too_many_counters(counters: usize, memory: u64) -> Option<String> {
    let room = memory / 100 * PERCENT;
    let takes = u64::try_from(counters).unwrap_or(u64::MAX).saturating_mul(A_COUNTER);
    (takes > room).then(|| {
        format!(
            "engine.max_counters {counters} may take {} MiB, and this process may have {} MiB of memory: a flood of fresh descriptor values \
             could end it. Set engine.max_counters to {} or less, or give it more memory",
            takes >> 20,
            memory >> 20,
            room / A_COUNTER
        )
    })
}

/// Memory that the process may have: the machine's, or less where a container has a bound.
fn memory() -> Option<u64> {
    let read = |path| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| mem_total(&text));
    let bounds = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    // `max`: none.
    let container =
        bounds.into_iter().filter_map(read).filter_map(|text| text.trim().parse::<u64>().ok());
    machine.into_iter().chain(container).min()
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    fn config(settings: &[(&'static str, &str)]) -> Config {
        let settings = settings.iter().map(|&(key, value)| (key, value.to_owned())).collect();
        Config::resolve(&Flags { settings, ..Flags::default() }, &|_| None).unwrap()
    }

    #[test]
    fn bounds_that_do_not_fit_each_other_are_told() {
        let said = |settings: &[(&'static str, &str)]| {
            let few = [("engine.max_counters", "1000")];
            let settings: Vec<_> = settings.iter().copied().chain(few).collect();
            warnings(&config(&settings)).concat()
        };
        assert_eq!(said(&[]), "");
        let body =
            |bytes| said(&[("http.max_body_bytes", "1000000"), ("grpc.max_message_bytes", bytes)]);
        assert_eq!(body("1065536"), "");
        assert!(body("1065537").starts_with("http.max_body_bytes 1000000 is less than one body may have (grpc.max_message_bytes 1065537)"));
        let windows = |stream| {
            said(&[
                ("grpc.stream_window_bytes", stream),
                ("grpc.connection_window_bytes", "100000"),
            ])
        };
        assert_eq!(windows("100000"), "");
        assert!(windows("100001").starts_with("grpc.stream_window_bytes 100001 is never reached"));
    }

    #[test]
    fn counters_that_do_not_fit_into_the_memory_are_told_with_the_number_that_does() {
        let memory = 512 << 20;
        let most = 3_355_443;
        assert_eq!(too_many_counters(most, memory), None);
        let said = too_many_counters(10_000_000, memory).unwrap();
        assert!(said.contains("may take 1220 MiB") && said.contains("512 MiB"), "{said}");
        assert!(
            said.contains("engine.max_counters to 33554")
                && too_many_counters(most + 1000, memory).is_some(),
            "{said}"
        );
        assert_eq!(
            mem_total("MemTotal:       24000000 kB\nMemFree: 1 kB\n"),
            Some(24_000_000 * 1024)
        );
        assert_eq!(mem_total(""), None);
    }
}
