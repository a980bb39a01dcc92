//! Plans as tables.

use crate::cli::client::table::Table;
use crate::cli::client::{quota, words};
use crate::grpc::pb::tollgate::entitlement::CounterScope;
use crate::grpc::pb::tollgate::quota::{Charge, Weekday};
use crate::grpc::pb::tollgate::{Entitlement, Quota, UsagePlan};

/// A row for each entitlement.
pub(super) fn many(plans: &[UsagePlan]) -> String {
    let mut table = Table::new(["PLAN", "NAME", "ENTITLEMENT", "TARGETS", "RATE LIMIT", "QUOTAS"]);
    for plan in plans {
        if plan.entitlements.is_empty() {
            table.row([
                &plan.id,
                &plan.display_name,
                "no entitlements: not usable yet",
                "",
                "",
                "",
            ]);
        }
        for entitlement in &plan.entitlements {
            table.row([
                &plan.id,
                &plan.display_name,
                &entitlement.name,
                &words::some_ids(&entitlement.targets, "no targets"),
                &words::rate(entitlement.rate_limit.as_ref()),
                &words::quotas(&entitlement.quotas),
            ]);
        }
    }
    table.render()
}

pub(super) fn one(plan: &UsagePlan) -> String {
    let mut sheet = Table::sheet();
    sheet.row(["plan", &plan.id]);
    sheet.row(["display name", &plan.display_name]);
    sheet.row(["description", &words::or(&plan.description, "none")]);
    sheet.row(["labels", &words::pairs(&plan.labels)]);
    sheet.row(["etag", &plan.etag]);
    sheet.row(["created", &words::instant(plan.create_time.as_ref(), "not yet")]);
    sheet.row(["updated", &words::instant(plan.update_time.as_ref(), "not yet")]);
    if plan.entitlements.is_empty() {
        sheet.row(["entitlements", "none: not usable yet"]);
    }
    plan.entitlements.iter().for_each(|entitlement| add_entitlement(&mut sheet, entitlement));
    sheet.render()
}

fn add_entitlement(sheet: &mut Table, entitlement: &Entitlement) {
    sheet.row(["entitlement", &entitlement.name]);
    if !entitlement.description.is_empty() {
        sheet.row(["  description", &entitlement.description]);
    }
    sheet.row(["  targets", &words::ids(&entitlement.targets, "no targets")]);
    sheet.row(["  rate limit", &words::rate(entitlement.rate_limit.as_ref())]);
    for limit in &entitlement.method_rate_limits {
        sheet.row(["  method rate limit", &words::method_rate(limit)]);
    }
    if entitlement.quotas.is_empty() {
        sheet.row(["  quota", "no quota"]);
    }
    for quota in &entitlement.quotas {
        sheet.row(["  quota", &(quota::write(quota) + &more(quota))]);
    }
    if entitlement.counter_scope() == CounterScope::Key {
        sheet.row(["  counted", "each API key on its own"]);
    }
}

/// What the short form of a quota does not say.
fn more(quota: &Quota) -> String {
    let mut more = String::new();
    if !matches!(quota.week_start(), Weekday::Unspecified | Weekday::Monday) {
        more += &format!(", weeks start on {}", quota.week_start().as_str_name());
    }
    if !quota.count_statuses.is_empty() {
        more += &format!(", counts {}", quota.count_statuses.join(" "));
    }
    if quota.charge() == Charge::AtReport {
        more += ", charged at the report";
    }
    more
}

#[cfg(test)]
mod tests {
    use super::{many, one};
    use crate::grpc::json;

    fn plan(text: &str) -> crate::grpc::pb::tollgate::UsagePlan {
        json::usage_plan(serde_json::from_str(text).unwrap()).unwrap().message
    }

    #[test]
    fn a_list_says_in_words_what_is_not_set() {
        let plans = [
            plan(
                r#"{"id": "dev", "displayName": "Developers", "entitlements": [
                {"name": "all", "targets": ["orders/prod"], "rateLimit": {"requestsPerSecond": 1000, "burst": 2000}}]}"#,
            ),
            plan(
                r#"{"id": "free", "displayName": "Free", "entitlements": [
                {"name": "read", "targets": ["a", "b"], "quotas": [{"name": "daily", "limit": 10, "unit": "DAY"}]},
                {"name": "write"}]}"#,
            ),
            plan(r#"{"id": "later", "displayName": "Later"}"#),
        ];
        insta::assert_snapshot!(many(&plans), @r"
        PLAN   NAME        ENTITLEMENT                      TARGETS      RATE LIMIT          QUOTAS
        dev    Developers  all                              orders/prod  1000/s, burst 2000  no quota
        free   Free        read                             a, b         no rate limit       daily=10/day
        free   Free        write                            no targets   no rate limit       no quota
        later  Later       no entitlements: not usable yet
        ");
    }

    #[test]
    fn a_plan_is_shown_with_all_that_it_gives() {
        let gold = plan(
            r#"{"id": "gold", "displayName": "Gold", "labels": {"team": "api"}, "entitlements": [{"name": "all", "targets": ["users/prod"],
                "rateLimit": {"requestsPerSecond": 20}, "methodRateLimits": [{"method": "GET", "path": "/users/{id}", "requestsPerSecond": 5}],
                "counterScope": "KEY", "quotas": [{"name": "weekly", "limit": 0, "unit": "WEEK", "weekStart": "SUNDAY", "charge": "AT_REPORT",
                "countStatuses": ["2xx", "404"]}]}]}"#,
        );
        insta::assert_snapshot!(one(&gold), @r"
        plan                 gold
        display name         Gold
        description          none
        labels               team=api
        etag
        created              not yet
        updated              not yet
        entitlement          all
          targets            users/prod
          rate limit         20/s, burst 20
          method rate limit  GET /users/{id}: 5/s, burst 5
          quota              weekly=0/week (blocked), weeks start on SUNDAY, counts 2xx 404, charged at the report
          counted            each API key on its own
        ");
    }
}
