//! `tollgate load`: asks as fast as the server answers, or at a fixed rate, and says how it did.

mod prepare;
mod probe;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::prepare::Stage;
use super::Failure;
use super::client::connect::Client;
use super::client::file;
use super::client::output::{Output, note, print};
use crate::clock::Clock;
use crate::load::{ApiKeys, Caller, DescriptorEntry, Job, Order, Progress, Run, Summary, Traffic};

const SECOND_NS: u64 = 1_000_000_000;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// What is asked
    #[arg(value_enum)]
    mode: Mode,
    /// Connections, as from so many proxies
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Calls under way on each connection; batches, for `stream` [default: 32; 4 for `stream`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    in_flight: Option<u32>,
    /// Threads of this client
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Begin so many calls a second, whether those before are answered or not. Latency counts from
    /// when a call should have begun
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// How long, after the warm-up [default: 10s, or until `--requests` are done]
    #[arg(long, value_name = "TIME", value_parser = time_ns)]
    duration: Option<u64>,
    /// Measure exactly so many calls
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// How long to ask before measuring [default: 1s; none with `--requests`]
    #[arg(long, value_name = "TIME", value_parser = time_ns)]
    warm_up: Option<u64>,
    /// Tell the server that an answer is of no use after so long, and give up then
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    deadline_ms: Option<u64>,
    /// How many keys are asked about
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    keys: u64,
    /// 0: all keys alike; else the exponent of Zipf's law, such as 1.1
    #[arg(long, value_name = "EXPONENT", default_value_t = 0.0, value_parser = skew)]
    skew: f64,
    #[command(flatten)]
    rules: RulesArgs,
    #[command(flatten)]
    plans: PlansArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "For `rls`")]
struct RulesArgs {
    /// The domain of the rules
    #[arg(long, default_value = "load")]
    domain: String,
    /// A descriptor, repeatable: entries NAME=VALUE, separated by commas. An entry NAME alone has
    /// the key of the call as its value
    #[arg(long = "descriptor", value_name = "ENTRIES", default_value = "api_key", value_parser = descriptor)]
    descriptors: Vec<Descriptor>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "For `check`, `stream` and `report`")]
struct PlansArgs {
    /// Create a target, a plan that admits everything and a subscriber for each key first. The keys
    /// are no secret
    #[arg(long)]
    prepare: bool,
    /// Delete what --prepare creates: after the run, or, without --prepare, at once and without a
    /// run
    #[arg(long)]
    clean: bool,
    /// Quotas of that plan beside its rate limit, at most one of a day and one of a month; with 0
    /// there are no receipts
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=2))]
    quotas: u32,
    /// The target
    #[arg(long, value_name = "ID", default_value = "load")]
    target: String,
    /// Ask with this API key instead
    #[arg(long, value_name = "VALUE", conflicts_with_all = ["prepare", "keys_file"], allow_hyphen_values = true)]
    api_key: Option<String>,
    /// Ask with the API keys of a file, one a line
    #[arg(long, value_name = "FILE|-", conflicts_with = "prepare")]
    keys_file: Option<PathBuf>,
    /// Checks in a batch of `stream`
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// The part of what `report` reports that is a 503, from 0 to 1
    #[arg(long, value_name = "PART", default_value_t = 0.3, value_parser = part)]
    errors: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Rate-limit rules: ShouldRateLimit
    Rls,
    /// Usage plans: Check
    Check,
    /// Usage plans: CheckStream, many checks in a message
    Stream,
    /// Usage plans: Check, and a Report of what was admitted
    Report,
}

#[derive(Clone, Debug)]
struct Descriptor(Vec<DescriptorEntry>);

pub(super) async fn run(args: Args, client: &Client) -> Result<(), Failure> {
    let job = job(&args, client)?;
    let plans = args.mode != Mode::Rls;
    if plans && args.plans.clean && !args.plans.prepare {
        return stage(&args).clear(client).await;
    }
    if plans && args.plans.prepare {
        stage(&args).set(client).await?;
    }
    let ran = measure(job).await;
    // Also where it was stopped, or nothing was answered.
    if plans && args.plans.clean {
        stage(&args).clear(client).await?;
    }
    let summary = ran?;
    told(&args, &summary, client).await
}

async fn measure(job: Job) -> Result<Summary, Failure> {
    let (header, warm_up_ns) = (show::header(&job), job.warm_up_ns);
    let mut interrupts = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    let mut run = Run::start(job, Clock::system()).map_err(Failure::failed)?;
    note(&header);
    watch(&mut run, &mut interrupts, warm_up_ns).await;
    run.finish().map_err(Failure::failed)
}

async fn told(args: &Args, summary: &Summary, client: &Client) -> Result<(), Failure> {
    match client.output {
        Output::Json => print(&format!("{:#}\n", show::to_json(summary)))?,
        Output::Table => print(&show::table(summary))?,
    }
    hint(args, summary);
    if let Traffic::RateLimit { domain, descriptors } = &summary.job.traffic
        && probe::no_rule_matches(domain, descriptors, client).await
    {
        note(&format!(
            "no rule of the domain `{domain}` matched: what was measured is a server that has nothing to count (--domain, --descriptor)"
        ));
    }
    if summary.tally.calls.answered() == 0 {
        return Err(Failure::failed("nothing was answered"));
    }
    Ok(())
}

/// Says each second how it goes. Told to stop, by Ctrl-C, it shows what it has.
async fn watch(run: &mut Run, interrupts: &mut Signal, warm_up_ns: u64) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    let mut before = run.progress();
    loop {
        tokio::select! {
            () = run.ended() => return,
            // One for the whole run: made anew in each turn, it would miss what comes in between.
            Some(()) = interrupts.recv() => run.stop(),
            _ = ticks.tick() => {
                let now = run.progress();
                note(&progress(&before, &now, warm_up_ns));
                before = now;
            }
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn progress(before: &Progress, now: &Progress, warm_up_ns: u64) -> String {
    let elapsed_s = now.elapsed_ns.saturating_sub(before.elapsed_ns) as f64 / SECOND_NS as f64;
    let rate = now.decisions.saturating_sub(before.decisions) as f64 / elapsed_s.max(1e-9);
    let failed = now.failed.saturating_sub(before.failed);
    let failed = if failed == 0 { String::new() } else { format!(", {failed} failed") };
    let warm_up = if before.elapsed_ns < warm_up_ns { "  (warm-up)" } else { "" };
    format!("{:>3} s  {rate:>9.0} a second{failed}{warm_up}", now.elapsed_ns / SECOND_NS)
}

/// What to do where what was asked for is not there.
fn hint(args: &Args, summary: &Summary) {
    let calls = &summary.tally.calls;
    if args.mode == Mode::Rls
        && calls.failed_with(tonic::Code::Unavailable) > 0
        && calls.answered() == 0
    {
        note(
            "does the server have rules? `tollgate --rules examples/load/rules` has those that this command asks for",
        );
    }
    if args.mode != Mode::Rls && calls.decisions() > 0 && calls.admitted(&summary.job.traffic) == 0
    {
        note(
            "nothing was admitted: --prepare creates the plan and the keys that this command asks for",
        );
    }
}

fn job(args: &Args, client: &Client) -> Result<Job, Failure> {
    let (server, token) = client.plain("load")?;
    let timeout_ns =
        args.deadline_ms.map_or(client.timeout_ns(), |ms| ms.saturating_mul(1_000_000));
    let size = |number: u32| usize::try_from(number).map_err(Failure::unusable);
    Ok(Job {
        server,
        token,
        traffic: traffic(args)?,
        connections: size(args.connections)?,
        in_flight: size(args.in_flight.unwrap_or(if args.mode == Mode::Stream { 4 } else { 32 }))?,
        threads: size(args.threads)?,
        rate: args.rate,
        requests: args.requests,
        duration_ns: args.duration.unwrap_or(if args.requests.is_some() {
            u64::MAX
        } else {
            10 * SECOND_NS
        }),
        warm_up_ns: args.warm_up.unwrap_or(if args.requests.is_some() { 0 } else { SECOND_NS }),
        timeout_ns,
        deadline_ms: args.deadline_ms,
        keys: args.keys,
        order: Order::Skewed(args.skew),
    })
}

fn traffic(args: &Args) -> Result<Traffic, Failure> {
    let plans = &args.plans;
    Ok(match args.mode {
        Mode::Rls => Traffic::RateLimit {
            domain: args.rules.domain.clone(),
            descriptors: args
                .rules
                .descriptors
                .iter()
                .map(|descriptor| descriptor.0.clone())
                .collect(),
        },
        Mode::Check => Traffic::Check(caller(args)?),
        Mode::Stream => Traffic::Stream(caller(args)?, plans.batch),
        Mode::Report => Traffic::Report(caller(args)?, plans.errors),
    })
}

fn caller(args: &Args) -> Result<Caller, Failure> {
    let api_keys = match (&args.plans.api_key, &args.plans.keys_file) {
        (Some(value), _) => ApiKeys::Listed(vec![value.clone()]),
        (None, Some(path)) => {
            let text = file::read(path)?;
            let keys: Vec<String> = text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(str::to_owned)
                .collect();
            if keys.is_empty() {
                return Err(Failure::unusable(format!(
                    "{}: holds no API keys, one a line",
                    file::name(path)
                )));
            }
            ApiKeys::Listed(keys)
        }
        (None, None) => stage(args).api_keys(),
    };
    Ok(Caller { api_keys, target: args.plans.target.clone() })
}

fn stage(args: &Args) -> Stage {
    Stage { target: args.plans.target.clone(), keys: args.keys, quotas: args.plans.quotas }
}

fn descriptor(text: &str) -> Result<Descriptor, String> {
    let entry = |text: &str| {
        let (key, value) =
            text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value.to_owned())));
        if key.is_empty() {
            Err("an entry is NAME=VALUE or NAME")
        } else {
            Ok(DescriptorEntry { key: key.to_owned(), value })
        }
    };
    Ok(Descriptor(text.split(',').map(entry).collect::<Result<_, _>>()?))
}

fn time_ns(text: &str) -> Result<u64, String> {
    let time: Option<jiff::SignedDuration> = text.parse().ok();
    let ns = time.and_then(|time| u64::try_from(time.as_nanos()).ok());
    ns.ok_or_else(|| "a length of time, such as `10s`, `500ms` or `1m`".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1e-3..=1e9).contains(&rate) => Ok(rate),
        _ => Err("a number of calls a second, such as 4000".to_owned()),
    }
}

fn skew(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(exponent) if (0.0..=10.0).contains(&exponent) => Ok(exponent),
        _ => Err("a number from 0 to 10".to_owned()),
    }
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(part) if (0.0..=1.0).contains(&part) => Ok(part),
        _ => Err("a number from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests;
