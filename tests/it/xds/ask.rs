//! Asking a tollgate as Envoy asks it, over `/json`, and reading its metrics.

use std::net::SocketAddr;

use crate::http::{get, post};
use crate::server::Tollgate;

/// What the answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Ok,
    Over,
    /// The call failed: Envoy lets pass, or not, as it is told to.
    Failed,
}

pub type Entries<'e> = &'e [(&'e str, &'e str)];

/// One hit of one descriptor.
pub fn ask(tollgate: &Tollgate, domain: &str, entries: Entries<'_>) -> Asked {
    ask_all(tollgate, domain, &[entries], None).0
}

/// So many hits of each descriptor; the answer with its text.
pub fn ask_all(
    tollgate: &Tollgate,
    domain: &str,
    descriptors: &[Entries<'_>],
    hits: Option<usize>,
) -> (Asked, String) {
    ask_at(tollgate.http_addr(), domain, descriptors, hits)
}

pub fn ask_at(
    http: SocketAddr,
    domain: &str,
    descriptors: &[Entries<'_>],
    hits: Option<usize>,
) -> (Asked, String) {
    let descriptors: Vec<_> = descriptors
        .iter()
        .map(|entries| {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| serde_json::json!({"key": key, "value": value}))
                .collect();
            match hits {
                Some(hits) => {
                    serde_json::json!({"entries": entries, "hitsAddend": hits.to_string()})
                }
                None => serde_json::json!({"entries": entries}),
            }
        })
        .collect();
    let body = serde_json::json!({"domain": domain, "descriptors": descriptors}).to_string();
    let answer = post("/json", body).header("content-type", "application/json").send(http).unwrap();
    let asked = match answer.status {
        200 => Asked::Ok,
        429 => Asked::Over,
        _ => Asked::Failed,
    };
    (asked, answer.text())
}

/// The sum of a metric's series.
pub fn metric(tollgate: &Tollgate, name: &str) -> Option<f64> {
    metric_at(tollgate.http_addr(), name)
}

pub fn metric_at(http: SocketAddr, name: &str) -> Option<f64> {
    let page = get("/metrics").send(http).unwrap().text();
    let of_name =
        |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    let values = page
        .lines()
        .filter(of_name)
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.fold(None, |sum, value| Some(sum.unwrap_or_default() + value))
}
