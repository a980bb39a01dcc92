//! What lies under `deploy/` names what the program has: metrics, labels, pages; and Envoy limits by
//! it. `.ci/deploy` checks the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::envoy::{Envoy, edit};
use crate::http;
use crate::server::Tollgate;

/// Labels that Prometheus gives, and that of a histogram.
const GIVEN: &[&str] = &["job", "instance", "le"];
/// Metrics that Prometheus makes itself.
const OF_PROMETHEUS: &[&str] = &["up"];
const BEFORE_LABELS: &[&str] = &["by", "without", "on", "ignoring"];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The labels of each metric, as `docs/metrics.md` has them, which is held to be what the program
/// has.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let names =
        |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    read("docs/metrics.md")
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
            let [name, kind, labels, _] = cells[..] else { return None };
            let name = name.trim_end_matches('`');
            let ends: &[&str] = match kind {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            Some(ends.iter().map(move |end| (format!("{name}{end}"), names(labels))))
        })
        .flatten()
        .collect()
}

/// The questions of a dashboard, wherever they stand in it.
fn questions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if ["expr", "definition"].contains(&&name[..]) => {
                        found.push(text.clone());
                    }
                    field => questions(field, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| questions(item, found)),
        _ => {}
    }
}

/// A word or a sign of PromQL. Texts and durations are left out.
fn words(expr: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = expr;
    while let Some(first) = rest.chars().next() {
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || "_:$".contains(letter);
        let end = match first {
            '"' => rest.get(1..).and_then(|text| text.find('"')).map_or(rest.len(), |at| at + 2),
            '[' => rest.find(']').map_or(rest.len(), |at| at + 1),
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (word, after) = rest.split_at(end);
        if !word.trim().is_empty() && !word.starts_with(['"', '[']) {
            words.push(word.to_owned());
        }
        rest = after;
    }
    words
}

/// What of a question the program has not.
fn unknown(expr: &str, metrics: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let words = words(expr);
    let (mut wrong, mut labels, mut of_all) = (Vec::new(), Vec::new(), BTreeSet::new());
    let is_name = |word: &String| word.starts_with(|c: char| c.is_ascii_alphabetic());
    let (mut metric, mut in_braces, mut in_grouping) = (None, false, false);
    for (at, word) in words.iter().enumerate() {
        match &word[..] {
            "{" => in_braces = true,
            "}" => in_braces = false,
            "(" => in_grouping = at > 0 && BEFORE_LABELS.contains(&&words[at - 1][..]),
            ")" => in_grouping = false,
            _ if in_braces && is_name(word) => labels.push((metric.clone(), word.clone())),
            _ if in_grouping && is_name(word) => labels.push((None, word.clone())),
            _ if word.contains('_')
                && is_name(word)
                && words.get(at + 1).is_none_or(|w| w != "(") =>
            {
                match metrics.get(word) {
                    Some(have) => of_all.extend(have.iter().cloned()),
                    None => wrong.push(format!("there is no metric {word}: {expr}")),
                }
                metric = Some(word.clone());
            }
            "up" => metric = None,
            _ => {}
        }
    }
    for (metric, label) in labels {
        let have = metric.and_then(|name| metrics.get(&name)).unwrap_or(&of_all);
        if !GIVEN.contains(&&label[..]) && !have.contains(&label) {
            wrong.push(format!("there is no label {label}: {expr}"));
        }
    }
    wrong
}

/// The questions of the alerts: what stands behind `expr:`, or below it.
fn alerts() -> Vec<String> {
    let text = read("deploy/prometheus/alerts.yaml");
    let parts = text.split("    expr: ").skip(1);
    parts
        .map(|part| {
            let end = ["\n    for:", "\n    labels:"].iter().filter_map(|end| part.find(end)).min();
            part[..end.unwrap()].trim_start_matches("|-").to_owned()
        })
        .collect()
}

#[test]
fn dashboards_and_alerts_name_metrics_that_there_are() {
    let metrics = metrics();
    assert!(metrics.len() > 50 && metrics["tollgate_checks"].contains("reason"), "{metrics:?}");
    let mut asked = alerts();
    assert!(asked.len() >= 20, "{asked:?}");
    for file in fs::read_dir(path("deploy/grafana")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        questions(&serde_json::from_str(&text).unwrap(), &mut asked);
    }
    assert!(asked.len() > 80, "only {} questions", asked.len());
    let wrong: Vec<String> = asked.iter().flat_map(|expr| unknown(expr, &metrics)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let used = |name: &str| asked.iter().any(|expr| words(expr).iter().any(|word| word == name));
    assert!(OF_PROMETHEUS.iter().all(|name| used(name)));

    // What the page says to alert on has an alert.
    let page = read("docs/metrics.md");
    let (table, _) = page.split_once("## All of them").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let wanted = rows.flat_map(|row| {
        let names = row.split(" | ").next().unwrap().split('`').skip(1).step_by(2);
        names.map(|name| name.split('{').next().unwrap().to_owned()).collect::<Vec<_>>()
    });
    let alerts = alerts().concat();
    let missing: Vec<String> = wanted.filter(|name| !alerts.contains(name)).collect();
    assert!(missing.is_empty(), "docs/metrics.md says to alert on {missing:?}");
}

#[test]
fn a_metric_or_a_label_that_there_is_not_is_noticed() {
    let metrics = metrics();
    for (expr, wrong) in [
        (r#"rate(tollgate_checks{verdict="DENY", job=~"$job"}[5m]) > 0"#, 0),
        (r#"sum by (reason) (rate(tollgate_checks[5m]))"#, 0),
        (
            "histogram_quantile(0.5, sum by (le) (rate(ratelimit_service_response_time_seconds_bucket[1m])))",
            0,
        ),
        (r#"up{job="tollgate"} == 0"#, 0),
        ("rate(tollgate_check[5m])", 1),
        (r#"tollgate_checks{outcome="DENY"}"#, 1),
        ("sum by (plan) (tollgate_checks)", 1),
        ("tollgate_lag_seconds_bucket", 1),
        (r#"tollgate_lag_seconds{reason="x"} / tollgate_checks"#, 1),
    ] {
        assert_eq!(unknown(expr, &metrics).len(), wrong, "{expr}: {:?}", unknown(expr, &metrics));
    }
}

#[test]
fn every_alert_has_its_place_in_the_page_for_troubles() {
    let (alerts, page) = (read("deploy/prometheus/alerts.yaml"), read("docs/troubleshooting.md"));
    let after =
        |text: &'static str| move |line: &str| Some(line.trim().strip_prefix(text)?.to_owned());
    let names: Vec<String> = alerts.lines().filter_map(after("- alert: ")).collect();
    let books: Vec<String> = alerts.lines().filter_map(after("runbook: ")).collect();
    let wanted: Vec<String> = names
        .iter()
        .map(|name| format!("docs/troubleshooting.md#{}", name.to_ascii_lowercase()))
        .collect();
    assert_eq!(books, wanted);
    let headings: Vec<String> = page.lines().filter_map(after("### ")).collect();
    assert_eq!(
        headings, names,
        "the headings of docs/troubleshooting.md, in the order of the alerts"
    );
}

#[test]
fn the_first_try_has_a_limit_of_five() {
    let rules = tempfile::TempDir::new().unwrap();
    // Nothing here counts past the end of a minute.
    let text =
        edit(&read("deploy/compose/rules/ratelimit.yaml"), &[("unit: minute", "unit: year")]);
    fs::write(rules.path().join("ratelimit.yaml"), text).unwrap();
    let tollgate = Tollgate::start(&["--rules", rules.path().to_str().unwrap()], &[]);
    let to = format!("address: 127.0.0.1, port_value: {}", tollgate.grpc_addr().port());
    let hello = format!("@hello-{}", std::process::id());
    let config = edit(
        &read("deploy/compose/envoy.yaml"),
        &[
            ("address: 0.0.0.0, port_value: 10000", "address: 127.0.0.1, port_value: 0"),
            ("address: tollgate, port_value: 8081", &to),
            ("@hello", &hello),
            ("timeout: 0.1s", "timeout: 20s"),
        ],
    );
    let admin = "admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }\n";
    let envoy = Envoy::start(&format!("{admin}{config}"));
    let ask =
        |key: &str| http::get("/").header("x-api-key", key).send(envoy.listener("api")).unwrap();
    let you: Vec<u16> = (0..6).map(|_| ask("you").status).collect();
    assert_eq!(you, [200, 200, 200, 200, 200, 429]);
    assert_eq!(ask("another").text(), "hello\n");
    let without = http::get("/").send(envoy.listener("api")).unwrap();
    assert_eq!(
        without.header("x-ratelimit-limit").map(|limit| limit.starts_with("100,")),
        Some(true)
    );
}
