//! What came of a run: for people and for programs.

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tonic::Code;

use crate::cli::client::table::Table;
use crate::load::{Answer, ApiKeys, Calls, Job, Summary, Traffic};

/// Names of percentiles, and where they are.
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)];

/// The same for programs. Latencies are in microseconds.
pub(super) fn to_json(summary: &Summary) -> Value {
    let tally = &summary.tally;
    let (answer, unit) = answers(&summary.job.traffic);
    let mut value = json!({
        "server": summary.job.server,
        "connections": summary.job.connections,
        "in_flight": summary.job.in_flight,
        "threads": summary.job.threads,
        "seconds": seconds(summary),
        "asked": tally.asked,
        "unit": unit,
        "calls": calls(&tally.calls, answer, seconds(summary)),
        "rate": summary.job.rate,
        "reports": null,
        "late": tally.late,
        "unsent": tally.unsent,
        "reconnects": tally.reconnects,
        "lost": tally.lost,
    });
    if let (Some(fields), Traffic::Report(..)) = (value.as_object_mut(), &summary.job.traffic) {
        fields
            .insert("reports".to_owned(), calls(&tally.reports, Answer::Report, seconds(summary)));
    }
    value
}

fn calls(calls: &Calls, answer: Answer, seconds: f64) -> Value {
    let verdicts: serde_json::Map<_, _> =
        verdicts(calls, answer).map(|(name, count)| (name, count.into())).collect();
    let errors: serde_json::Map<_, _> =
        errors(calls).map(|(code, count, _)| (code, count.into())).collect();
    json!({
        "answered": calls.answered(),
        "failed": calls.failed(),
        "decisions": calls.decisions(),
        "decisions_per_second": per_second(calls.decisions(), seconds),
        "verdicts": verdicts,
        "errors": errors,
        "latency_us": latencies(&calls.latency),
        "failure_latency_us": latencies(&calls.failure_latency),
    })
}

fn latencies(latency: &Histogram<u64>) -> Value {
    if latency.is_empty() {
        return Value::Null;
    }
    let at = PERCENTILES.iter().map(|(name, quantile)| {
        ((*name).to_owned(), micros(latency.value_at_quantile(*quantile)).into())
    });
    at.chain([("max".to_owned(), micros(latency.max()).into())])
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// What is going to be asked, and how.
pub(super) fn header(job: &Job) -> String {
    let what = match &job.traffic {
        Traffic::RateLimit { domain, descriptors } => {
            format!("ShouldRateLimit of the domain `{domain}`, {} descriptors", descriptors.len())
        }
        Traffic::Check(caller) => format!("Check of the target `{}`", caller.target),
        Traffic::Stream(caller, batch) => {
            format!("CheckStream of the target `{}`, batches of {batch}", caller.target)
        }
        Traffic::Report(caller, errors) => format!(
            "Check of the target `{}` and Report, {:.0} % as a 503",
            caller.target,
            errors * 100.0
        ),
    };
    let keys = match &job.traffic {
        Traffic::Check(caller) | Traffic::Stream(caller, _) | Traffic::Report(caller, _) => {
            match &caller.api_keys {
                ApiKeys::Listed(keys) => keys.len() as u64,
                ApiKeys::Numbered(_) => job.keys,
            }
        }
        Traffic::RateLimit { .. } => job.keys,
    };
    let pace = job
        .rate
        .map_or("as fast as it answers".to_owned(), |rate| format!("{rate} calls a second"));
    let warm_up = if job.warm_up_ns == 0 {
        String::new()
    } else {
        format!("{} of warm-up, then ", time(job.warm_up_ns))
    };
    let long = match job.requests {
        Some(requests) => format!("{requests} calls"),
        None => time(job.duration_ns),
    };
    format!(
        "asks {}: {what}; {} connections, up to {} in flight on each, {keys} keys, {pace}; {warm_up}{long} measured",
        job.server, job.connections, job.in_flight
    )
}

/// A table for people.
pub(super) fn table(summary: &Summary) -> String {
    let tally = &summary.tally;
    let (answer, unit) = answers(&summary.job.traffic);
    let mut sheet = Table::sheet();
    sheet.row(["asked", &format!("{} {unit} in {:.1} s", tally.asked, seconds(summary))]);
    sheet.row([
        "answered",
        &format!(
            "{} ({:.0} a second)",
            tally.calls.answered(),
            per_second(tally.calls.answered(), seconds(summary))
        ),
    ]);
    if tally.calls.decisions() != tally.calls.answered() {
        let rate = per_second(tally.calls.decisions(), seconds(summary));
        sheet.row(["decisions", &format!("{} ({rate:.0} a second)", tally.calls.decisions())]);
    }
    verdicts(&tally.calls, answer)
        .for_each(|(name, count)| sheet.row([&format!("  {name}"), &count.to_string()]));
    failures(&mut sheet, &tally.calls);
    if let Traffic::Report(..) = summary.job.traffic {
        sheet.row(["reported", &tally.reports.answered().to_string()]);
        verdicts(&tally.reports, Answer::Report)
            .for_each(|(name, count)| sheet.row([&format!("  {name}"), &count.to_string()]));
        failures(&mut sheet, &tally.reports);
    }
    for (name, count, meaning) in [
        ("late", tally.late, "began more than 1 ms after their time; their latency counts from it"),
        ("not begun", tally.unsent, "had no free place to the end"),
    ] {
        if summary.job.rate.is_some() && count > 0 {
            sheet.row([name, &format!("{count}: {meaning}")]);
        }
    }
    if tally.reconnects > 0 {
        let why = tally.lost.as_deref().unwrap_or("the server asked for it");
        sheet.row(["reconnects", &format!("{}: {why}", tally.reconnects)]);
    }
    format!("{}\n{}", sheet.render(), latency_table(summary))
}

fn failures(sheet: &mut Table, calls: &Calls) {
    if calls.failed() > 0 {
        sheet.row(["failed", &calls.failed().to_string()]);
        for (code, count, reason) in errors(calls) {
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            sheet.row([&format!("  {code}"), &format!("{count}{reason}")]);
        }
    }
}

fn latency_table(summary: &Summary) -> String {
    let mut table = Table::new(["LATENCY", "P50", "P90", "P99", "P99.9", "MAX"]);
    let tally = &summary.tally;
    for (name, latency) in [
        ("answers", &tally.calls.latency),
        ("failures", &tally.calls.failure_latency),
        ("reports", &tally.reports.latency),
        ("failed reports", &tally.reports.failure_latency),
    ] {
        if !latency.is_empty() {
            let [p50, p90, p99, p99_9] =
                PERCENTILES.map(|(_, quantile)| time(latency.value_at_quantile(quantile)));
            table.row([name, &p50, &p90, &p99, &p99_9, &time(latency.max())]);
        }
    }
    table.render()
}

/// How the traffic is answered, and what one call of it is called.
fn answers(traffic: &Traffic) -> (Answer, &'static str) {
    match traffic {
        Traffic::RateLimit { .. } => (Answer::RateLimit, "requests"),
        Traffic::Check(_) | Traffic::Report(..) => (Answer::Check, "checks"),
        Traffic::Stream(..) => (Answer::Batch, "batches"),
    }
}

fn verdicts(calls: &Calls, answer: Answer) -> impl Iterator<Item = (String, u64)> {
    calls
        .verdicts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .map(move |(verdict, count)| (answer.name(verdict), *count))
}

/// Codes, how often each came, and what was said with it.
fn errors(calls: &Calls) -> impl Iterator<Item = (String, u64, &str)> {
    calls.codes.iter().enumerate().filter(|(_, count)| **count > 0).map(|(code, count)| {
        let reason = calls.reasons.get(&code).map_or("", |reason| &**reason);
        (name(i32::try_from(code).unwrap_or(2).into()), *count, reason)
    })
}

/// `ResourceExhausted` as gRPC writes it.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[allow(clippy::cast_precision_loss)]
fn seconds(summary: &Summary) -> f64 {
    summary.elapsed_ns as f64 / 1e9
}

#[allow(clippy::cast_precision_loss)]
fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

#[allow(clippy::cast_precision_loss)]
fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// A length of time to three digits.
#[allow(clippy::cast_precision_loss)]
fn time(ns: u64) -> String {
    let (value, unit) = match ns as f64 {
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Order, Tally};

    fn summary() -> Summary {
        let job = Job {
            server: "h:1".to_owned(),
            token: None,
            traffic: Traffic::RateLimit { domain: "d".to_owned(), descriptors: vec![] },
            connections: 8,
            in_flight: 32,
            threads: 1,
            rate: Some(1000.0),
            requests: None,
            duration_ns: 1,
            warm_up_ns: 0,
            timeout_ns: 1,
            deadline_ms: None,
            keys: 1,
            order: Order::Skewed(0.0),
        };
        let mut tally = Tally::new().unwrap();
        (tally.asked, tally.late, tally.unsent) = (104, 3, 7);
        tally.calls.verdicts[1] = 90;
        tally.calls.verdicts[2] = 10;
        (1..=100).for_each(|ms| tally.calls.answer(ms * 100_000));
        (0..4).for_each(|_| tally.calls.failure(8, 2_000_000_000, Some(&"too much".into())));
        Summary { tally, elapsed_ns: 500_000_000, job }
    }

    #[test]
    fn people_get_a_table() {
        insta::assert_snapshot!(table(&summary()), @r"
        asked                 104 requests in 0.5 s
        answered              100 (200 a second)
          OK                  90
          OVER_LIMIT          10
        failed                4
          RESOURCE_EXHAUSTED  4: too much
        late                  3: began more than 1 ms after their time; their latency counts from it
        not begun             7: had no free place to the end

        LATENCY   P50      P90      P99      P99.9    MAX
        answers   5.00 ms  9.00 ms  9.90 ms  10.0 ms  10.0 ms
        failures  2.00 s   2.00 s   2.00 s   2.00 s   2.00 s
        ");
    }

    #[test]
    fn the_first_line_says_what_is_asked() {
        let mut job = summary().job;
        job.warm_up_ns = 1_000_000_000;
        job.duration_ns = 10_000_000_000;
        assert_eq!(
            header(&job),
            "asks h:1: ShouldRateLimit of the domain `d`, 0 descriptors; 8 connections, up to 32 in flight on each, 1 keys, \
             1000 calls a second; 1.00 s of warm-up, then 10.0 s measured"
        );
        (job.rate, job.requests, job.warm_up_ns) = (None, Some(5), 0);
        assert!(
            header(&job).ends_with("as fast as it answers; 5 calls measured"),
            "{}",
            header(&job)
        );
    }

    #[test]
    fn programs_get_numbers() {
        let value = to_json(&summary());
        assert_eq!(value["calls"]["verdicts"], json!({"OK": 90, "OVER_LIMIT": 10}));
        assert_eq!(value["calls"]["errors"], json!({"RESOURCE_EXHAUSTED": 4}));
        assert_eq!(value["calls"]["decisions_per_second"], 200.0);
        let p50 = value["calls"]["latency_us"]["p50"].as_f64().unwrap();
        assert!((5_000.0..5_010.0).contains(&p50), "{p50}");
        assert_eq!(value["calls"]["failed"], 4);
        assert_eq!(value.get("reports"), Some(&Value::Null));
        assert_eq!(value["rate"], 1000.0);
    }

    #[test]
    fn times_have_three_digits() {
        for (ns, said) in [
            (0, "0.00 us"),
            (1_234, "1.23 us"),
            (12_345, "12.3 us"),
            (999_000, "999 us"),
            (1_500_000, "1.50 ms"),
            (61_000_000_000, "61.0 s"),
        ] {
            assert_eq!(time(ns), said);
        }
    }
}
