//! The form of a plan: from a plan, and to one. The names of its fields are the paths that
//! validation gives them.

use std::collections::{BTreeMap, BTreeSet};

use crate::console::form::{Form, THERE};
use crate::console::words;
use crate::decide::gcra::MicroRate;
use crate::decide::plan::validate::{self, Mistakes};
use crate::decide::plan::{
    Charge, CounterScope, Entitlement, Id, MethodRate, OnBreach, PeriodUnit, Plan, Quota, Rate,
    Said, Weekday,
};

/// A value of a field, the words for it, and what it means.
type Choice<T> = (&'static str, &'static str, T);

pub(super) const UNITS: [Choice<PeriodUnit>; 6] = [
    ("DAY", "day", PeriodUnit::Day),
    ("MINUTE", "minute", PeriodUnit::Minute),
    ("HOUR", "hour", PeriodUnit::Hour),
    ("WEEK", "week", PeriodUnit::Week),
    ("MONTH", "month", PeriodUnit::Month),
    ("YEAR", "year", PeriodUnit::Year),
];
pub(super) const BREACHES: [Choice<OnBreach>; 2] =
    [("REJECT", "refuse", OnBreach::Reject), ("ALLOW", "allow, and count on", OnBreach::Allow)];
pub(super) const CHARGES: [Choice<Charge>; 2] = [
    ("AT_CHECK", "when it is asked for", Charge::AtCheck),
    ("AT_REPORT", "when its answer is reported", Charge::AtReport),
];
pub(super) const WEEKDAYS: [Choice<Weekday>; 7] = [
    ("MONDAY", "Monday", Weekday::Monday),
    ("TUESDAY", "Tuesday", Weekday::Tuesday),
    ("WEDNESDAY", "Wednesday", Weekday::Wednesday),
    ("THURSDAY", "Thursday", Weekday::Thursday),
    ("FRIDAY", "Friday", Weekday::Friday),
    ("SATURDAY", "Saturday", Weekday::Saturday),
    ("SUNDAY", "Sunday", Weekday::Sunday),
];
pub(super) const SCOPES: [Choice<CounterScope>; 2] = [
    ("SUBSCRIBER", "all keys of a subscriber together", CounterScope::Subscriber),
    ("KEY", "each API key by itself", CounterScope::Key),
];
pub(super) const REPLACES: [Choice<bool>; 2] =
    [("yes", "in the place of the rate", true), ("no", "beside the rate", false)];

/// A row that the plan has already: its name stays.
pub(super) const KEPT: &str = "kept";

/// A form of this plan. `named`: it is of this very plan, and its names stay.
pub(super) fn of_plan(plan: &Plan, named: bool) -> Form {
    let mut form = Form::default();
    form.push("display_name", &*plan.about.display_name);
    form.push("id", if named { &*plan.id } else { "" });
    form.push("description", &*plan.about.description);
    form.push("labels", labels(&plan.about.labels));
    for (at, one) in plan.entitlements.iter().enumerate() {
        put_entitlement(&mut form, &format!("entitlements[{at}]"), one, named);
    }
    form
}

/// An empty form, with one row of what each plan has.
pub(super) fn empty() -> Form {
    let mut form = Form::default();
    form.push("entitlements[0]", THERE);
    form.push("entitlements[0].quotas[0]", THERE);
    form
}

fn put_entitlement(form: &mut Form, at: &str, one: &Entitlement, named: bool) {
    form.push(at, THERE);
    if named {
        form.push(format!("{at}.{KEPT}"), THERE);
    }
    form.push(format!("{at}.name"), &*one.name);
    form.push(format!("{at}.description"), &*one.description);
    form.push(format!("{at}.targets"), one.targets.join("\n"));
    put_rate(form, &format!("{at}.rate_limit"), one.rate_limit.as_ref());
    form.push(format!("{at}.counter_scope"), value(&SCOPES, one.counter_scope));
    for (place, quota) in one.quotas.iter().enumerate() {
        let at = format!("{at}.quotas[{place}]");
        form.push(at.clone(), THERE);
        if named {
            form.push(format!("{at}.{KEPT}"), THERE);
        }
        form.push(format!("{at}.name"), &*quota.name);
        form.push(format!("{at}.limit"), quota.limit.to_string());
        form.push(format!("{at}.unit"), value(&UNITS, quota.unit));
        form.push(format!("{at}.time_zone"), &*quota.time_zone);
        form.push(format!("{at}.on_breach"), value(&BREACHES, quota.on_breach));
        form.push(format!("{at}.week_start"), value(&WEEKDAYS, quota.week_start));
        form.push(format!("{at}.charge"), value(&CHARGES, quota.charge));
        let counts = validate::written_statuses(quota.count_statuses.as_ref());
        form.push(format!("{at}.count_statuses"), counts.join(" "));
    }
    put_methods(form, &format!("{at}.method_rate_limits"), &one.method_rate_limits);
}

/// Method limits, in rows of a list.
pub(in crate::console) fn put_methods(form: &mut Form, list: &str, limits: &[MethodRate]) {
    for (place, limit) in limits.iter().enumerate() {
        let at = format!("{list}[{place}]");
        form.push(at.clone(), THERE);
        form.push(format!("{at}.method"), &*limit.method);
        form.push(format!("{at}.path"), &*limit.path);
        put_rate(form, &at, Some(&limit.rate));
        form.push(format!("{at}.target"), limit.target.as_deref().unwrap_or_default());
        form.push(format!("{at}.replaces_general"), value(&REPLACES, limit.replaces_general));
    }
}

/// A rate, in two fields.
pub(in crate::console) fn put_rate(form: &mut Form, at: &str, rate: Option<&Rate>) {
    let (per_second, burst) = rate.map_or((String::new(), String::new()), |rate| {
        let burst = rate.burst.map(|burst| burst.to_string()).unwrap_or_default();
        (words::per_second(rate.rate).replace(',', ""), burst)
    });
    form.push(format!("{at}.requests_per_second"), per_second);
    form.push(format!("{at}.burst"), burst);
}

/// Takes rows out in which nothing was typed.
pub(super) fn drop_blank(form: &mut Form) {
    for row in 0..form.rows("entitlements") {
        let list = |name: &str| format!("entitlements[{row}].{name}");
        form.drop_blank(&list("quotas"), &["limit", "name", "time_zone", "count_statuses", KEPT]);
        let fields = ["method", "path", "requests_per_second", "burst", "target"];
        form.drop_blank(&list("method_rate_limits"), &fields);
    }
}

/// The plan that a form describes; and what is wrong with it, each mistake by its field.
pub(super) fn to_plan(form: &Form, found: &mut Mistakes) -> Plan {
    let display_name = form.get("display_name");
    let id = match form.get("id") {
        "" => slug(display_name),
        id => id.to_owned(),
    };
    let mut names = BTreeSet::new();
    let entitlements = (0..form.rows("entitlements"))
        .map(|row| entitlement(form, &format!("entitlements[{row}]"), &mut names, found))
        .collect();
    let about = Said {
        display_name: display_name.to_owned(),
        description: form.get("description").replace("\r\n", "\n"),
        labels: labels_of(form.get("labels"), found),
    };
    let plan = Plan { id: id.into(), about: about.into(), entitlements };
    let mut more = Mistakes::default();
    validate::plan(&plan, &mut more);
    // A field that could not be read is wrong already, and what stands in for it may be wrong too.
    let known = found.fields();
    for wrong in more.or_else(()).err().unwrap_or_default() {
        if !known.contains(&wrong.field) {
            found.add(wrong.field, wrong.reason);
        }
    }
    plan
}

fn entitlement(
    form: &Form,
    at: &str,
    names: &mut BTreeSet<String>,
    found: &mut Mistakes,
) -> Entitlement {
    let mut quota_names = BTreeSet::new();
    let quotas = (0..form.rows(&format!("{at}.quotas")))
        .map(|row| quota(form, &format!("{at}.quotas[{row}]"), &mut quota_names, found))
        .collect();
    Entitlement {
        name: named(form.get(&format!("{at}.name")), "default", names),
        description: form.get(&format!("{at}.description")).to_owned(),
        targets: lines(form.get(&format!("{at}.targets"))).map(Id::from).collect(),
        rate_limit: rate(form, &format!("{at}.rate_limit"), found),
        method_rate_limits: methods(form, &format!("{at}.method_rate_limits"), found),
        quotas,
        counter_scope: chosen(
            form,
            &format!("{at}.counter_scope"),
            &SCOPES,
            CounterScope::Subscriber,
            found,
        ),
    }
}

fn quota(form: &Form, at: &str, names: &mut BTreeSet<String>, found: &mut Mistakes) -> Quota {
    let field = |name: &str| format!("{at}.{name}");
    let unit = chosen(form, &field("unit"), &UNITS, PeriodUnit::Day, found);
    let limit = match whole(form.get(&field("limit"))) {
        Ok(Some(limit)) => limit,
        Ok(None) => {
            found.add(field("limit"), "is needed: how many units a period has (0 refuses all)");
            0
        }
        Err(reason) => {
            found.add(field("limit"), reason);
            0
        }
    };
    let zone = form.get(&field("time_zone"));
    let counts: Vec<String> = form
        .get(&field("count_statuses"))
        .split([' ', ',', ';', '\n'])
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect();
    let week_start = match unit {
        PeriodUnit::Week => chosen(form, &field("week_start"), &WEEKDAYS, Weekday::Monday, found),
        _ => Weekday::Monday,
    };
    Quota {
        name: named(form.get(&field("name")), words::unit(unit), names),
        limit,
        unit,
        time_zone: if zone.is_empty() { "UTC" } else { zone }.into(),
        week_start,
        on_breach: chosen(form, &field("on_breach"), &BREACHES, OnBreach::Reject, found),
        count_statuses: validate::count_statuses(&field("count_statuses"), &counts, found),
        charge: chosen(form, &field("charge"), &CHARGES, Charge::AtCheck, found),
    }
}

/// Method limits, of the rows of a list.
pub(in crate::console) fn methods(
    form: &Form,
    list: &str,
    found: &mut Mistakes,
) -> Vec<MethodRate> {
    let one = |row| {
        let at = format!("{list}[{row}]");
        let text = |name: &str| form.get(&format!("{at}.{name}"));
        let limit = MethodRate {
            method: text("method").to_ascii_uppercase(),
            path: text("path").to_owned(),
            target: Some(text("target")).filter(|target| !target.is_empty()).map(Id::from),
            rate: Rate { rate: MicroRate(1_000_000), burst: None },
            replaces_general: chosen(
                form,
                &format!("{at}.replaces_general"),
                &REPLACES,
                true,
                found,
            ),
        };
        match rate(form, &at, found) {
            Some(rate) => MethodRate { rate, ..limit },
            None => {
                found.add(format!("{at}.requests_per_second"), "is needed");
                limit
            }
        }
    };
    (0..form.rows(list)).map(one).collect()
}

/// A rate, of two fields. `None`: it is not set.
pub(in crate::console) fn rate(form: &Form, at: &str, found: &mut Mistakes) -> Option<Rate> {
    let (rate_field, burst_field) = (format!("{at}.requests_per_second"), format!("{at}.burst"));
    let burst = whole(form.get(&burst_field)).unwrap_or_else(|reason| {
        found.add(burst_field.clone(), reason);
        None
    });
    let text = form.get(&rate_field);
    if text.is_empty() {
        if burst.is_some() {
            found.add(burst_field, "is of no use without a rate: give a rate, or leave it empty");
        }
        return None;
    }
    let read = plain(text).and_then(|text| text.parse::<f64>().ok());
    let read = read.ok_or("must be a number such as 20 or 0.5").and_then(validate::micro_rate);
    match read {
        Ok(rate) => Some(Rate { rate, burst }),
        Err(reason) => {
            found.add(rate_field, reason);
            // It is set, and wrong: that is one mistake.
            Some(Rate { rate: MicroRate(1_000_000_000), burst: None })
        }
    }
}

/// A whole number, if there is one.
pub(in crate::console) fn whole(text: &str) -> Result<Option<u64>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = plain(text).and_then(|text| text.parse().ok());
    number.map(Some).ok_or("must be a whole number such as 10000")
}

/// A number without the commas that group it. Others are none that a person means: `0,5` is no 5.
fn plain(text: &str) -> Option<String> {
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b',' || byte == b'.') {
        return None;
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    let mut more = groups.peekable();
    let is_grouped = more.peek().is_some();
    let fits =
        more.all(|group| group.len() == 3) && (!is_grouped || (1..=3).contains(&first.len()));
    (fits && !fraction.contains(',')).then(|| text.replace(',', ""))
}

/// A name, or one that is made: `day`, then `day-2`.
fn named(given: &str, otherwise: &str, names: &mut BTreeSet<String>) -> Id {
    let mut name = given.to_owned();
    if given.is_empty() {
        let tries = std::iter::once(otherwise.to_owned())
            .chain((2_u32..).map(|number| format!("{otherwise}-{number}")));
        name = tries.into_iter().find(|name| !names.contains(name)).unwrap_or_default();
    }
    names.insert(name.clone());
    name.into()
}

/// An id made of a name: `Partner trial` is `partner-trial`.
pub(in crate::console) fn slug(name: &str) -> String {
    let mut slug = String::new();
    for letter in name.to_lowercase().chars() {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

pub(in crate::console) fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("\n")
}

pub(in crate::console) fn labels_of(text: &str, found: &mut Mistakes) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for line in lines(text) {
        match line.split_once('=') {
            Some((key, value)) => {
                labels.insert(key.trim().to_owned(), value.trim().to_owned());
            }
            None => found.add("labels", "must be lines such as `team=shop`"),
        }
    }
    labels
}

fn value<T: Copy + PartialEq>(all: &[Choice<T>], is: T) -> &'static str {
    all.iter().find(|(_, _, one)| *one == is).map(|(value, _, _)| *value).unwrap_or_default()
}

/// What was chosen, or what is meant where nothing was.
fn chosen<T: Copy>(
    form: &Form,
    field: &str,
    all: &[Choice<T>],
    otherwise: T,
    found: &mut Mistakes,
) -> T {
    let text = form.get(field);
    if text.is_empty() {
        return otherwise;
    }
    let known = all.iter().find(|(value, _, _)| *value == text).map(|(_, _, meant)| *meant);
    known.unwrap_or_else(|| {
        found.add(field, "is none of those that can be chosen");
        otherwise
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::plan::CountStatuses;

    fn read(text: &str) -> (Plan, Vec<(String, String)>) {
        let mut found = Mistakes::default();
        let plan = to_plan(&Form::decode(text), &mut found);
        let wrong = found.or_else(()).err().unwrap_or_default();
        (plan, wrong.into_iter().map(|wrong| (wrong.field, wrong.reason)).collect())
    }

    #[test]
    fn a_plan_comes_back_as_it_was_from_its_form() {
        let quota = |name: &str, unit, counts| Quota {
            name: name.into(),
            limit: 1 << 53,
            unit,
            time_zone: "Asia/Seoul".into(),
            week_start: if unit == PeriodUnit::Week { Weekday::Sunday } else { Weekday::Monday },
            on_breach: OnBreach::Allow,
            count_statuses: counts,
            charge: Charge::AtReport,
        };
        let counts = CountStatuses {
            classes: [false, true, true, false, false],
            codes: vec![404],
            others: false,
        };
        let rate = Rate { rate: MicroRate(1_234_500_000), burst: Some(7) };
        let plan = Plan {
            id: "a/b:c".into(),
            about: Said {
                display_name: "Gold & <Silver>".to_owned(),
                description: "one\ntwo".to_owned(),
                labels: [("team".to_owned(), "a=b".to_owned())].into(),
            }
            .into(),
            entitlements: vec![
                Entitlement {
                    name: "first".into(),
                    description: "what".to_owned(),
                    targets: vec!["orders/prod".into(), "users/prod".into()],
                    rate_limit: Some(rate),
                    method_rate_limits: vec![MethodRate {
                        method: "GET".to_owned(),
                        path: "/users/{id}".to_owned(),
                        target: Some("users/prod".into()),
                        rate: Rate { rate: MicroRate(1), burst: None },
                        replaces_general: false,
                    }],
                    quotas: vec![
                        quota("w", PeriodUnit::Week, Some(counts)),
                        quota("y", PeriodUnit::Year, None),
                    ],
                    counter_scope: CounterScope::Key,
                },
                Entitlement {
                    name: "second".into(),
                    description: String::new(),
                    targets: Vec::new(),
                    rate_limit: None,
                    method_rate_limits: Vec::new(),
                    quotas: Vec::new(),
                    counter_scope: CounterScope::Subscriber,
                },
            ],
        };
        let sent = Form::decode(&of_plan(&plan, true).encoded());
        let mut found = Mistakes::default();
        assert_eq!(to_plan(&sent, &mut found), plan);
        assert_eq!(found.or_else(()), Ok(()));
    }

    #[test]
    fn names_that_nobody_gives_are_made() {
        let (plan, wrong) = read(
            "display_name=Partner+Trial!&entitlements[0]=1&entitlements[0].quotas[0]=1&entitlements[0].quotas[0].limit=1,000\
             &entitlements[0].quotas[1]=1&entitlements[0].quotas[1].limit=5&entitlements[1]=1",
        );
        assert_eq!(wrong, []);
        let quotas = &plan.entitlements[0].quotas;
        assert_eq!((&*plan.id, &*plan.entitlements[1].name), ("partner-trial", "default-2"));
        assert_eq!((&*quotas[0].name, &*quotas[1].name, quotas[0].limit), ("day", "day-2", 1_000));
    }

    #[test]
    fn every_mistake_is_told_by_its_field_and_once() {
        for (text, field, reason) in [
            ("", "id", "is needed"),
            ("id=a+b", "id", "must not hold"),
            (
                "entitlements[0].rate_limit.requests_per_second=0",
                ".rate_limit.requests_per_second",
                "must be more than 0",
            ),
            (
                "entitlements[0].rate_limit.requests_per_second=0,5",
                ".rate_limit.requests_per_second",
                "must be a number",
            ),
            (
                "entitlements[0].rate_limit.requests_per_second=1e3",
                ".rate_limit.requests_per_second",
                "must be a number",
            ),
            (
                "entitlements[0].rate_limit.requests_per_second=NaN",
                ".rate_limit.requests_per_second",
                "must be a number",
            ),
            ("entitlements[0].rate_limit.burst=5", ".rate_limit.burst", "is of no use"),
            (
                "entitlements[0].rate_limit.requests_per_second=1&entitlements[0].rate_limit.burst=0",
                ".rate_limit.burst",
                "must be at least 1",
            ),
            (
                "entitlements[0].rate_limit.requests_per_second=1&entitlements[0].rate_limit.burst=-1",
                ".rate_limit.burst",
                "must be a whole",
            ),
            ("entitlements[0].quotas[0]=1", ".quotas[0].limit", "is needed"),
            (
                "entitlements[0].quotas[0]=1&entitlements[0].quotas[0].limit=1.5",
                ".quotas[0].limit",
                "must be a whole",
            ),
            (
                "entitlements[0].quotas[0]=1&entitlements[0].quotas[0].limit=99999999999999999999",
                ".quotas[0].limit",
                "must be a whole",
            ),
            (
                "entitlements[0].quotas[0]=1&entitlements[0].quotas[0].limit=9007199254740993",
                ".quotas[0].limit",
                "must be at most",
            ),
            (
                "entitlements[0].quotas[0]=1&entitlements[0].quotas[0].limit=1&entitlements[0].quotas[0].time_zone=Mars",
                ".quotas[0].time_zone",
                "must be an IANA",
            ),
            (
                "entitlements[0].quotas[0]=1&entitlements[0].quotas[0].limit=1&entitlements[0].quotas[0].unit=EON",
                ".quotas[0].unit",
                "is none of",
            ),
            (
                "entitlements[0].quotas[0]=1&entitlements[0].quotas[0].limit=1&entitlements[0].quotas[0].count_statuses=9xx",
                ".quotas[0].count_statuses[0]",
                "must be a class",
            ),
            ("entitlements[0].targets=a%0Ab+c", ".targets[1]", "must not hold"),
            (
                "entitlements[0].method_rate_limits[0]=1&entitlements[0].method_rate_limits[0].method=get&entitlements[0].method_rate_limits[0].path=/",
                ".method_rate_limits[0].requests_per_second",
                "is needed",
            ),
            ("labels=alone", "labels", "must be lines"),
        ] {
            let given = if text.starts_with("id=") || text.is_empty() { "" } else { "id=gold&" };
            let (_, wrong) = read(&format!("{given}entitlements[0]=1&{text}"));
            let field = if field.starts_with('.') {
                format!("entitlements[0]{field}")
            } else {
                field.to_owned()
            };
            assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
            assert_eq!(wrong[0].0, field, "{text}");
            assert!(wrong[0].1.starts_with(reason), "{text}: {}", wrong[0].1);
        }
    }

    #[test]
    fn numbers_may_be_grouped_and_nothing_else_is_read_into_them() {
        for (text, number) in
            [("1,000", Some(1_000)), ("12,345,678", Some(12_345_678)), ("7", Some(7))]
        {
            assert_eq!(whole(text), Ok(number));
        }
        assert_eq!(whole(""), Ok(None));
        for text in ["0,5", "1,00", "1,0000", "1000,000", ",100", "1 000", "+1", "0x10", "1_000"] {
            assert!(whole(text).is_err(), "{text}");
        }
    }
}
