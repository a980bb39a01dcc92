//! Load on a server, and what it took.

use std::thread::sleep;
use std::time::Duration;

use tollgate::clock::Clock;
use tollgate::load::{ApiKeys, Caller, DescriptorEntry, Job, Order, Run, Summary, Traffic};

use super::process::{Server, own_cpu_s};

/// What was seen in one interval.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Processor time of the server for each decision, in microseconds.
    pub server_us: f64,
    /// The same of the load generator.
    pub own_us: f64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
}

/// How many connections, and how many calls on each.
pub type Shape = (usize, usize);

/// A job for ever, as fast as it goes.
pub fn job(server: &Server, traffic: Traffic, (connections, in_flight): Shape, keys: u64) -> Job {
    Job {
        server: server.grpc.to_string(),
        token: None,
        traffic,
        connections,
        in_flight,
        threads: 1,
        rate: None,
        requests: None,
        duration_ns: u64::MAX,
        warm_up_ns: 0,
        timeout_ns: 10_000_000_000,
        deadline_ms: None,
        keys,
        order: Order::Skewed(0.0),
    }
}

/// One rate-limit request with so many descriptors, by the rules of `examples/load/rules`.
pub fn rules(descriptors: usize) -> Traffic {
    let entry = |key: &str, value: Option<String>| DescriptorEntry { key: key.to_owned(), value };
    let descriptors = match descriptors {
        1 => vec![vec![entry("api_key", None)]],
        many => (0..many)
            .map(|number| vec![entry("limit", Some(number.to_string())), entry("api_key", None)])
            .collect(),
    };
    Traffic::RateLimit { domain: "load".to_owned(), descriptors }
}

/// Who checks against a plan that [`super::plans`] has made.
pub fn caller(plan: &str) -> Caller {
    Caller {
        api_keys: ApiKeys::Numbered(super::plans::key_prefix(plan)),
        target: super::plans::TARGET.to_owned(),
    }
}

/// Measures an interval of a job, after it has run for a while. What is not admitted or not
/// answered would not be what is measured.
pub fn measure(server: &Server, job: Job, interval: Duration) -> Sample {
    let warm_up = (interval / 5).max(Duration::from_millis(200));
    let traffic = job.traffic.clone();
    let run = start(Job { warm_up_ns: nanos(warm_up), ..job });
    sleep(warm_up);
    let (cpu, own, before) = (server.cpu_s(), own_cpu_s(), run.progress());
    sleep(interval);
    let (cpu, own, after) = (server.cpu_s() - cpu, own_cpu_s() - own, run.progress());
    run.stop();
    let summary = run.finish().unwrap();
    let calls = &summary.tally.calls;
    assert_eq!(
        (calls.failed(), summary.tally.reports.failed()),
        (0, 0),
        "calls failed: {:?}",
        summary.tally.lost
    );
    assert_eq!(calls.decisions(), calls.admitted(&traffic), "not all were admitted");
    let decisions = (after.decisions - before.decisions) as f64;
    let seconds = (after.elapsed_ns - before.elapsed_ns) as f64 / 1e9;
    let at = |quantile| calls.latency.value_at_quantile(quantile) as f64 / 1e3;
    Sample {
        server_us: cpu / decisions * 1e6,
        own_us: own / decisions * 1e6,
        per_second: decisions / seconds,
        p50_us: at(0.5),
        p99_us: at(0.99),
        p99_9_us: at(0.999),
    }
}

/// Begins a job.
pub fn start(job: Job) -> Run {
    Run::start(job, Clock::system()).unwrap()
}

/// Does a job that has an end.
pub fn finish(job: Job) -> Summary {
    start(job).finish().unwrap()
}

pub fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap()
}
