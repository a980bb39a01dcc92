//! `tollgate check`: one decision.

use std::path::PathBuf;

use super::client::connect::Client;
use super::client::table::Table;
use super::client::{colour, file, targets, words};
use super::{DENIED, Failure};
use crate::grpc::pb::tollgate::limit_status::Kind;
use crate::grpc::pb::tollgate::{CheckRequest, CheckResponse, LimitStatus, Reason, Verdict};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    credential: Credential,
    /// The target that is called
    #[arg(long, value_name = "ID")]
    target: String,
    /// The HTTP method
    #[arg(long, default_value = "", hide_default_value = true)]
    method: String,
    /// The path of the request
    #[arg(long, default_value = "", hide_default_value = true)]
    path: String,
    /// Units that the request takes; 0 asks without charging [default: 1]
    #[arg(long, value_name = "N")]
    cost: Option<u64>,
    /// The same check under the same id, within 60 s, gets the first answer
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    operation_id: String,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Credential {
    /// A file that holds the API key's value alone
    #[arg(long, value_name = "FILE|-")]
    key_file: Option<PathBuf>,
    /// The API key's value; others on this machine may see it while the command runs
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    key: Option<String>,
}

pub(super) async fn run(args: Args, client: &Client) -> Result<(), Failure> {
    let api_key = match (args.credential.key_file, args.credential.key) {
        (Some(path), _) => file::read_line(&path)?,
        (None, key) => key.unwrap_or_default(),
    };
    let request = CheckRequest {
        api_key: api_key.into(),
        target: args.target.clone(),
        method: args.method.into(),
        path: args.path.into(),
        cost: args.cost,
        operation_id: args.operation_id.into(),
    };
    let answer = client.answer(client.decisions().check(request)).await?;
    let coloured = colour::wanted();
    client.show("tollgate.v1.CheckResponse", &answer, |answer| {
        if coloured { painted(answer) } else { view(answer) }
    })?;
    if answer.reason() == Reason::NotSubscribed {
        targets::tell_unknown(&args.target, client).await;
    }
    match answer.verdict() {
        Verdict::Allow => Ok(()),
        Verdict::Deny => Err(Failure { code: DENIED, text: String::new() }),
        Verdict::Unspecified => Err(Failure::failed("the server's answer has no verdict")),
    }
}

/// The verdict in its colour.
fn painted(answer: &CheckResponse) -> String {
    let verdict = answer.verdict().as_str_name();
    let colour = if answer.verdict() == Verdict::Allow { colour::GREEN } else { colour::RED };
    view(answer).replacen(verdict, &format!("{colour}{verdict}{}", colour::RESET), 1)
}

fn view(answer: &CheckResponse) -> String {
    let mut sheet = Table::sheet();
    sheet.row(["verdict", answer.verdict().as_str_name()]);
    if answer.verdict() == Verdict::Deny {
        sheet.row(["reason", &reason(answer.reason)]);
        sheet.row(["http status", &answer.http_status.to_string()]);
        sheet.row(["retry after", &retry_after(answer)]);
    }
    for (name, value) in [
        ("plan", &answer.plan),
        ("entitlement", &answer.entitlement),
        ("subscriber", &answer.subscriber),
        ("receipt", &answer.receipt),
    ] {
        if !value.is_empty() {
            sheet.row([name, value]);
        }
    }
    if answer.over_quota {
        sheet.row(["over quota", "yes: admitted all the same"]);
    }
    if answer.limits.is_empty() {
        sheet.render()
    } else {
        format!("{}\n{}", sheet.render(), limits(&answer.limits))
    }
}

/// The name of a reason; the number of one that a later server gives.
fn reason(number: i32) -> String {
    Reason::try_from(number).map_or_else(
        |_| format!("{number}, which this version does not know"),
        |known| known.as_str_name().to_owned(),
    )
}

fn retry_after(answer: &CheckResponse) -> String {
    match &answer.retry_after {
        Some(time) if !answer.never => words::duration(time),
        _ if answer.never => "never: waiting does not help".to_owned(),
        _ => "not said".to_owned(),
    }
}

fn limits(limits: &[LimitStatus]) -> String {
    let mut table = Table::new(["LIMIT", "KIND", "OF", "REMAINING", "FULL IN", "VIOLATED"]);
    for limit in limits {
        let kind = match limit.kind() {
            Kind::Rate => "rate limit",
            Kind::Quota => "quota",
            Kind::Unspecified => "?",
        };
        table.row([
            &limit.name,
            kind,
            &limit.limit.to_string(),
            &limit.remaining.to_string(),
            &limit.reset_after.as_ref().map_or("?".to_owned(), words::duration),
            if limit.violated { "yes" } else { "no" },
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::view;
    use crate::grpc::json;

    fn answer(value: serde_json::Value) -> String {
        view(&json::from_json("tollgate.v1.CheckResponse", value).unwrap())
    }

    #[test]
    fn an_admission_shows_its_receipt_and_what_remains() {
        insta::assert_snapshot!(answer(serde_json::json!({
            "verdict": "ALLOW", "httpStatus": 200, "receipt": "abc", "plan": "gold", "entitlement": "all", "subscriber": "acme", "overQuota": true,
            "limits": [{"name": "rate", "kind": "RATE", "limit": 40, "remaining": 39, "resetAfter": "0.050s", "window": "2s"},
                {"name": "daily", "kind": "QUOTA", "limit": 100, "remaining": 0, "resetAfter": "3600s", "window": "86400s", "violated": true}],
        })), @r"
        verdict      ALLOW
        plan         gold
        entitlement  all
        subscriber   acme
        receipt      abc
        over quota   yes: admitted all the same

        LIMIT  KIND        OF   REMAINING  FULL IN  VIOLATED
        rate   rate limit  40   39         0.05 s   no
        daily  quota       100  0          1 h      yes
        ");
    }

    #[test]
    fn the_verdict_alone_has_a_colour() {
        let answer = json::from_json(
            "tollgate.v1.CheckResponse",
            serde_json::json!({"verdict": "DENY", "plan": "DENY"}),
        )
        .unwrap();
        let painted = super::painted(&answer);
        assert!(painted.starts_with("verdict      \u{1b}[31mDENY\u{1b}[0m\n"), "{painted:?}");
        assert_eq!(painted.replace("\u{1b}[31m", "").replace("\u{1b}[0m", ""), view(&answer));
    }

    #[test]
    fn a_denial_says_why_and_when_it_can_pass() {
        insta::assert_snapshot!(answer(serde_json::json!({"verdict": "DENY", "reason": "RATE_EXCEEDED", "httpStatus": 429, "retryAfter": "0.05s"})), @r"
        verdict      DENY
        reason       RATE_EXCEEDED
        http status  429
        retry after  0.05 s
        ");
        insta::assert_snapshot!(answer(serde_json::json!({"verdict": "DENY", "reason": "API_KEY_UNKNOWN", "httpStatus": 403, "never": true})), @r"
        verdict      DENY
        reason       API_KEY_UNKNOWN
        http status  403
        retry after  never: waiting does not help
        ");
    }

    #[test]
    fn a_reason_of_a_later_server_is_shown_by_its_number() {
        let shown = answer(serde_json::json!({"verdict": "DENY", "reason": 99, "httpStatus": 429}));
        assert!(
            shown.contains("reason       99, which this version does not know\nhttp status  429\n"),
            "{shown}"
        );
    }
}
