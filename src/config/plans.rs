//! How usage plans are asked about and answered.

use std::time::Duration;

use super::layers::Reader;
use crate::decide::gcra;
use crate::decide::plan::validate::micro_rate;
use crate::engine::plans::{LeaseSettings, Shortage};

/// How usage plans are asked about and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plans {
    /// The limit of all their traffic.
    pub account: Option<gcra::RateLimit>,
    pub receipts_ttl_ns: u64,
    /// How many days the daily statistics are kept.
    pub usage_days: u64,
    pub lease: LeaseSettings,
    /// How long a decision waits for the ledger at most.
    pub max_wait: Duration,
    /// What becomes of it then.
    pub on_failure: Shortage,
    pub check_domain: String,
    pub report_domain: String,
    /// In lower case.
    pub key_headers: Vec<String>,
    pub headers: HeaderSets,
    /// For `check_domain`.
    pub envoy_headers: HeaderSets,
}

/// Which response headers are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderSets {
    pub retry_after: bool,
    /// Of draft-ietf-httpapi-ratelimit-headers-10.
    pub ratelimit: bool,
    pub x_ratelimit: bool,
}

impl Plans {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let headers = HeaderSets {
            retry_after: reader.flag("headers.retry_after"),
            ratelimit: reader.flag("headers.ratelimit"),
            x_ratelimit: reader.flag("headers.x_ratelimit"),
        };
        Self {
            account: account(reader),
            receipts_ttl_ns: reader.checked("receipts.ttl", ttl_ns),
            usage_days: reader.number("usage.retention_days", 1..=36_500),
            lease: LeaseSettings {
                chunk_ns: reader.number("ledger.chunk_ms", 1..=60_000_u64) * 1_000_000,
                waste_percent: reader.number("ledger.waste_percent", 0..=100),
                optimistic_units: reader
                    .one_of("ledger.cold_start", &[("wait", 0), ("optimistic", OPTIMISTIC_UNITS)])
                    .unwrap_or_default(),
                ..LeaseSettings::default()
            },
            max_wait: Duration::from_millis(reader.number("ledger.max_wait_ms", 0..=60_000)),
            on_failure: reader
                .one_of(
                    "ledger.on_failure",
                    &[("deny", Shortage::Deny), ("allow", Shortage::Allow)],
                )
                .unwrap_or(Shortage::Deny),
            check_domain: reader.text("envoy.check_domain"),
            report_domain: reader.text("envoy.report_domain"),
            key_headers: reader
                .list("ext_authz.key_headers")
                .iter()
                .map(|name| name.to_lowercase())
                .collect(),
            headers,
            envoy_headers: HeaderSets {
                x_ratelimit: reader.flag("envoy.x_ratelimit_headers"),
                ..headers
            },
        }
    }
}

/// As many as a crash may always cost.
const OPTIMISTIC_UNITS: u64 = 2;

fn account(reader: &mut Reader) -> Option<gcra::RateLimit> {
    let burst = reader.checked("account.burst", |text| match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| "must be a whole number, 1 or more".to_owned()),
    });
    reader.checked("account.rate_limit", |text| {
        if text.is_empty() {
            return Ok(None);
        }
        let rate = text.parse().map_err(|_| "must be a number of requests per second".to_owned());
        let rate = micro_rate(rate?)?;
        rate.limit(burst).map(Some).map_err(|error| error.to_string())
    })
}

const SEVEN_DAYS_S: f64 = 7.0 * 86_400.0;

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn ttl_ns(text: &str) -> Result<u64, String> {
    let seconds = text.parse::<jiff::Span>().and_then(|span| {
        span.total((jiff::Unit::Second, jiff::SpanRelativeTo::days_are_24_hours()))
    });
    match seconds {
        Ok(seconds) if (1.0..=SEVEN_DAYS_S).contains(&seconds) => Ok((seconds * 1e9) as u64),
        _ => Err("must be a time from `1s` to `7d`, such as `1h`".to_owned()),
    }
}
