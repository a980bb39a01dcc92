//! `docs/metrics.md` has every metric that others may build on, with what it means.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use super::{cell, hold_part, root};
use crate::http::get;
use crate::server::Tollgate;

/// Type and labels of each metric, by name, as `tests/stable/metrics.txt` lists them. The longest
/// list of labels is the one that counts.
fn listed() -> BTreeMap<String, (String, String)> {
    let text = fs::read_to_string(root().join("tests/stable/metrics.txt")).unwrap();
    let mut found: BTreeMap<String, (String, String)> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ').map(str::to_owned);
        let name = words.next().unwrap();
        let (kind, labels) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let entry = found.entry(name).or_default();
        if labels.len() >= entry.1.len() {
            *entry = (kind, labels);
        }
    }
    found
}

/// What the page says of each metric.
fn written() -> BTreeMap<String, [String; 3]> {
    let text = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let (_, made) = text.split_once("<!-- made: metrics -->").unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ").collect();
        let [name, kind, labels, meaning] = cells[..] else { return None };
        let name = name.trim_end_matches('`').to_owned();
        Some((name, [kind, labels, meaning].map(str::to_owned)))
    };
    made.lines().filter_map(row).collect()
}

/// What the program says of its metrics.
fn said() -> BTreeMap<String, String> {
    let rules = root().join("examples/envoy/rules");
    let tollgate = Tollgate::start(&["--rules", rules.to_str().unwrap()], &[]);
    let page = get("/metrics").send(tollgate.http_addr()).unwrap().text();
    page.lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
        .map(|(name, meaning)| (name.to_owned(), cell(meaning)))
        .collect()
}

#[test]
fn every_metric_stands_in_its_page() {
    let (written, said) = (written(), said());
    assert!(said.len() > 20, "the page of metrics was not read: {said:?}");
    let mut table = String::from("| name | type | labels | meaning |\n|---|---|---|---|\n");
    for (name, (kind, labels)) in listed() {
        let before = written.get(&name);
        // Of a series that never showed, the list has the name alone.
        let kept = |index: usize| before.map(|cells| cells[index].clone()).unwrap_or_default();
        let kind = if kind.is_empty() { kept(0) } else { kind };
        let labels = match &labels[..] {
            "" if kind == kept(0) && !kept(1).is_empty() => kept(1),
            "" => String::new(),
            labels => format!("`{}`", labels.replace(',', "`, `")),
        };
        let meaning = said.get(&name).cloned().unwrap_or_else(|| kept(2));
        assert!(
            !meaning.is_empty() || std::env::var_os("UPDATE_DOCS").is_some(),
            "docs/metrics.md does not say what {name} means: UPDATE_DOCS=1, and write it there"
        );
        writeln!(table, "| `{name}` | {kind} | {labels} | {meaning} |").unwrap();
    }
    hold_part("docs/metrics.md", "metrics", &table);
}
