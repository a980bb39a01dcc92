//! What was made anew under a name that had counters before: they go on where they were.

use super::connect::Client;
use super::output::note;
use crate::grpc::pb::tollgate::get_usage_request::Scope;
use crate::grpc::pb::tollgate::{GetUsageRequest, QuotaUsage};

/// Counters that are looked at, and those that are named.
const LOOKED_AT: i32 = 100;
const NAMED: usize = 3;

/// Tells which quotas of something that was just made are used already.
pub(in crate::cli) async fn tell(what: &str, id: &str, scope: Scope, client: &Client) {
    let request =
        GetUsageRequest { scope: Some(scope), page_size: LOOKED_AT, ..GetUsageRequest::default() };
    // It is made all the same where its usage cannot be read.
    if let Ok(usage) = client.reply(client.usage_plans().get_usage(request)).await
        && let Some(told) = told(what, id, &usage.quotas)
    {
        note(&told);
    }
}

fn told(what: &str, id: &str, quotas: &[QuotaUsage]) -> Option<String> {
    let used: Vec<&QuotaUsage> =
        quotas.iter().filter(|quota| quota.used > 0 || quota.granted != 0).collect();
    let shown = |quota: &&QuotaUsage| {
        let QuotaUsage { plan, entitlement, quota: name, used, limit, granted, .. } = *quota;
        let whose = if what == "plan" { format!("{}: ", quota.subscriber) } else { String::new() };
        let granted = if *granted == 0 { String::new() } else { format!(", {granted:+} granted") };
        format!("{whose}{plan}/{entitlement}/{name} {used} of {limit}{granted}")
    };
    let named: Vec<String> = used.iter().take(NAMED).map(shown).collect();
    let more = match used.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!named.is_empty()).then(|| {
        format!(
            "the {what} `{id}` was there before, and its counters go on until their periods end: {}{more}. `tollgate grant` resets one",
            named.join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_already_is_told_and_what_is_not_is_not() {
        let quota = |name: &str, used: u64, granted: i64| QuotaUsage {
            plan: "pro".to_owned(),
            entitlement: "all".to_owned(),
            quota: name.to_owned(),
            used,
            limit: 50,
            granted,
            ..QuotaUsage::default()
        };
        let told = |quotas: &[QuotaUsage]| told("subscriber", "acme", quotas);
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[quota("daily", 0, 0)]), None);
        assert_eq!(
            told(&[quota("daily", 0, 0), quota("monthly", 50, -5)]).unwrap(),
            "the subscriber `acme` was there before, and its counters go on until their periods end: \
             pro/all/monthly 50 of 50, -5 granted. `tollgate grant` resets one"
        );
        let many: Vec<_> = (0..5).map(|number| quota(&format!("q{number}"), 1, 0)).collect();
        assert!(told(&many).unwrap().contains("pro/all/q2 1 of 50 and 2 more."));
    }
}
