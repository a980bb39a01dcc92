//! `tollgate usage`: what was used.

use super::Failure;
use super::client::connect::Client;
use super::client::output::note;
use super::client::quota::unit_word;
use super::client::table::Table;
use super::client::words;
use crate::grpc::pb::tollgate::get_usage_request::Scope;
use crate::grpc::pb::tollgate::{DailyUsage, GetUsageRequest, GetUsageResponse, QuotaUsage};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// The first day, of UTC, such as 2026-11-22 [default: today]
    #[arg(long, value_name = "DATE", default_value = "", hide_default_value = true)]
    from: String,
    /// The last day, included [default: today]
    #[arg(long, value_name = "DATE", default_value = "", hide_default_value = true)]
    to: String,
    /// Show every row, and not the first 20 of each table
    #[arg(long)]
    all: bool,
}

/// Rows that are fetched at once: the most that a page has.
const PAGE_SIZE: i32 = 10_000;

/// Rows of a table that are shown unless all are wanted.
const ROWS: usize = 20;

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct ScopeArgs {
    /// What this subscriber used [default: everything]
    #[arg(long, value_name = "ID")]
    subscriber: Option<String>,
    /// What this API key used
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// What was used of this plan
    #[arg(long, value_name = "ID")]
    plan: Option<String>,
}

pub(super) async fn run(args: Args, client: &Client) -> Result<(), Failure> {
    let ScopeArgs { subscriber, key, plan } = args.scope;
    let scope =
        subscriber.map(Scope::Subscriber).or(key.map(Scope::ApiKey)).or(plan.map(Scope::Plan));
    let mut request = GetUsageRequest {
        scope,
        start_date: args.from,
        end_date: args.to,
        page_size: PAGE_SIZE,
        page_token: String::new(),
    };
    let usage = all(async |page_token| {
        request.page_token = page_token;
        client.answer(client.usage_plans().get_usage(request.clone())).await
    });
    let usage = usage.await?;
    if !usage.damage.is_empty() {
        note(&format!("rows may be missing: {}", usage.damage));
    }
    let most = if args.all { usize::MAX } else { ROWS };
    client.show("tollgate.v1.GetUsageResponse", &usage, |usage| tables(usage, most))
}

/// All pages as one.
async fn all(
    mut page: impl AsyncFnMut(String) -> Result<GetUsageResponse, Failure>,
) -> Result<GetUsageResponse, Failure> {
    let mut all = page(String::new()).await?;
    while !all.next_page_token.is_empty() {
        let GetUsageResponse { quotas, days, next_page_token, damage } =
            page(all.next_page_token).await?;
        all.quotas.extend(quotas);
        all.days.extend(days);
        all.next_page_token = next_page_token;
        if !damage.is_empty() {
            all.damage = damage;
        }
    }
    Ok(all)
}

fn tables(usage: &GetUsageResponse, most: usize) -> String {
    let quotas = part("period", "no quota was used", &usage.quotas, most, quotas);
    let days = part("day", "no request was seen", &usage.days, most, days);
    format!("{quotas}\n{days}")
}

/// The first rows of a table, and how many there are.
fn part<T>(one: &str, none: &str, rows: &[T], most: usize, table: fn(&[T]) -> String) -> String {
    if rows.is_empty() {
        return format!("{none}\n");
    }
    let (shown, more) = rows.split_at_checked(most).unwrap_or((rows, &[]));
    let rest =
        if more.is_empty() { String::new() } else { format!(", {} more with --all", more.len()) };
    format!(
        "{}total: {} {one}{}{rest}\n",
        table(shown),
        rows.len(),
        if rows.len() == 1 { "" } else { "s" }
    )
}

/// A row for each period of a quota; `grant` shows one.
pub(super) fn quotas(quotas: &[QuotaUsage]) -> String {
    let mut table = Table::new([
        "SUBSCRIBER",
        "KEY",
        "PLAN",
        "ENTITLEMENT",
        "QUOTA",
        "PERIOD",
        "FROM",
        "UNTIL",
        "USED",
        "LIMIT",
        "REMAINING",
        "LOST",
    ]);
    for quota in quotas {
        let limit = match quota.granted {
            0 => quota.limit.to_string(),
            granted => format!("{}, {granted:+} granted", quota.limit),
        };
        table.row([
            &quota.subscriber,
            &words::or(&quota.api_key, "all keys"),
            &quota.plan,
            &quota.entitlement,
            &quota.quota,
            unit_word(quota.unit()),
            &words::short_instant(quota.period_start.as_ref(), "?"),
            &words::short_instant(quota.period_end.as_ref(), "?"),
            &quota.used.to_string(),
            &limit,
            &quota.remaining.to_string(),
            &quota.lost.to_string(),
        ]);
    }
    table.render()
}

fn days(days: &[DailyUsage]) -> String {
    let mut table = Table::new([
        "DATE",
        "SUBSCRIBER",
        "KEY",
        "PLAN",
        "ENTITLEMENT",
        "TARGET",
        "ADMITTED",
        "REFUSED",
        "RESPONSES",
    ]);
    for day in days {
        table.row([
            &day.date,
            &day.subscriber,
            &day.api_key,
            &day.plan,
            &day.entitlement,
            &day.target,
            &day.admitted.to_string(),
            &words::pairs(&day.refused),
            &words::pairs(&day.responses),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::tables;
    use crate::grpc::json;

    #[test]
    fn usage_is_a_table_of_periods_and_one_of_days() {
        let usage = json::from_json(
            "tollgate.v1.GetUsageResponse",
            serde_json::json!({
                "quotas": [
                    {"subscriber": "acme", "plan": "gold", "entitlement": "all", "quota": "daily", "unit": "DAY", "limit": 100, "granted": -5,
                     "used": 12, "remaining": 83, "periodStart": "2026-11-22T00:00:00Z", "periodEnd": "2026-11-23T00:00:00Z"},
                    {"subscriber": "acme", "apiKey": "acme-1", "plan": "gold", "entitlement": "each", "quota": "m", "unit": "MONTH", "limit": 7,
                     "granted": 3, "used": 1, "remaining": 8, "lost": 1, "periodStart": "2026-10-31T15:00:00Z", "periodEnd": "2026-11-30T15:00:00Z"},
                ],
                "days": [{"date": "2026-11-22", "subscriber": "acme", "apiKey": "acme-1", "plan": "gold", "entitlement": "all",
                    "target": "orders/prod", "admitted": 13, "refused": {"QUOTA_EXCEEDED": 2, "RATE_EXCEEDED": 1}, "responses": {"2xx": 12}}],
            }),
        )
        .unwrap();
        insta::assert_snapshot!(tables(&usage, 20), @r"
        SUBSCRIBER  KEY       PLAN  ENTITLEMENT  QUOTA  PERIOD  FROM              UNTIL             USED  LIMIT            REMAINING  LOST
        acme        all keys  gold  all          daily  day     2026-11-22        2026-11-23        12    100, -5 granted  83         0
        acme        acme-1    gold  each         m      month   2026-10-31 15:00  2026-11-30 15:00  1     7, +3 granted    8          1
        total: 2 periods

        DATE        SUBSCRIBER  KEY     PLAN  ENTITLEMENT  TARGET       ADMITTED  REFUSED                            RESPONSES
        2026-11-22  acme        acme-1  gold  all          orders/prod  13        QUOTA_EXCEEDED=2, RATE_EXCEEDED=1  2xx=12
        total: 1 day
        ");
    }

    #[test]
    fn many_rows_are_cut_and_counted() {
        let usage = super::GetUsageResponse {
            quotas: vec![super::QuotaUsage::default(); 1_000],
            days: vec![super::DailyUsage::default(); 20],
            ..Default::default()
        };
        let text = tables(&usage, 20);
        assert!(
            text.contains("total: 1000 periods, 980 more with --all\n")
                && text.ends_with("total: 20 days\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 21 + 1 + 1 + 21 + 1);
        assert_eq!(tables(&usage, usize::MAX).lines().count(), 1_001 + 1 + 1 + 21 + 1);
    }

    #[test]
    fn all_pages_are_one_answer() {
        let mut asked = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let whole = runtime.block_on(super::all(async |token: String| {
            let next_page_token = ["", "a", "b"]
                .iter()
                .skip_while(|known| **known != token)
                .nth(1)
                .unwrap_or(&"")
                .to_string();
            asked.push(token);
            let (quotas, days) =
                (vec![super::QuotaUsage::default(); 2], vec![super::DailyUsage::default()]);
            let damage = if asked.len() == 2 { "a row" } else { "" }.to_owned();
            let page = super::GetUsageResponse { quotas, days, next_page_token, damage };
            Ok::<_, crate::cli::Failure>(page)
        }));
        let whole = whole.unwrap();
        assert_eq!(
            (whole.quotas.len(), whole.days.len(), whole.next_page_token.as_str()),
            (6, 3, "")
        );
        assert_eq!(whole.damage, "a row");
        assert_eq!(asked, ["", "a", "b"]);
    }

    #[test]
    fn nothing_is_said_in_words() {
        assert_eq!(tables(&Default::default(), 20), "no quota was used\n\nno request was seen\n");
    }
}
