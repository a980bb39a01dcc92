//! What a load generator is to do.

use prost::Message as _;

use super::answers::Answer;
use super::hpack::Fields;
use super::keys::Order;
use super::messages::{Body, Message, NUMBER};
use crate::grpc::pb::tollgate::{CheckBatch, CheckRequest};
use crate::grpc::wire::{Descriptor, Entry, RateLimitRequest};

/// What comes before the number of a key in descriptors: with it, as long as an API key of a
/// gateway commonly is.
const DESCRIPTOR_KEY: &str = "api-key-000000000000000000000";

/// A run of the load generator.
#[derive(Clone, Debug)]
pub struct Job {
    /// `HOST:PORT`, spoken to without TLS.
    pub server: String,
    /// Sent as `authorization: Bearer` with every call.
    pub token: Option<String>,
    pub traffic: Traffic,
    pub connections: usize,
    /// The most calls under way on a connection at a time; of a stream: batches.
    pub in_flight: usize,
    pub threads: usize,
    /// Calls a second, begun at even intervals whatever the server does. `None`: the next call
    /// begins when one was answered.
    pub rate: Option<f64>,
    /// So many calls are measured, then the run ends.
    pub requests: Option<u64>,
    /// No call begins later than this after the warm-up.
    pub duration_ns: u64,
    /// Calls that begin before this are not measured.
    pub warm_up_ns: u64,
    /// How long an answer is waited for.
    pub timeout_ns: u64,
    /// The server is told that an answer is of no use after so many milliseconds.
    pub deadline_ms: Option<u64>,
    /// The number of keys. Of no effect where they are listed.
    pub keys: u64,
    pub order: Order,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Traffic {
    /// `ShouldRateLimit`.
    RateLimit { domain: String, descriptors: Vec<Vec<DescriptorEntry>> },
    /// `Check`.
    Check(Caller),
    /// `CheckStream`, with so many checks a batch.
    Stream(Caller, u32),
    /// `Check`, and a `Report` of what was admitted, of which this part (0 to 1) is a 503 and the
    /// rest a 200.
    Report(Caller, f64),
}

/// An entry of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorEntry {
    pub key: String,
    /// `None`: the key of the call.
    pub value: Option<String>,
}

/// Who asks for what.
#[derive(Clone, Debug)]
pub struct Caller {
    pub api_keys: ApiKeys,
    pub target: String,
}

/// The API keys.
#[derive(Clone, Debug)]
pub enum ApiKeys {
    /// This, and the key's number in ten digits.
    Numbered(String),
    Listed(Vec<String>),
}

/// What is sent and how it is answered.
#[derive(Debug)]
pub(super) struct Script {
    /// The headers of the call, and of the report that follows it.
    pub(super) calls: Vec<Fields>,
    pub(super) body: Body,
    pub(super) answer: Answer,
    pub(super) streaming: bool,
    /// What is admitted is reported, this part as a failure.
    pub(super) report: Option<f64>,
    pub(super) keys: u64,
}

impl Job {
    pub(super) fn script(&self) -> Script {
        let (paths, body, answer): (&[&str], _, _) = match &self.traffic {
            Traffic::RateLimit { domain, descriptors } => (
                &["/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"],
                rate_limit(domain, descriptors),
                Answer::RateLimit,
            ),
            Traffic::Check(caller) => {
                (&["/tollgate.v1.DecisionService/Check"], check(caller), Answer::Check)
            }
            Traffic::Stream(caller, batch) => (
                &["/tollgate.v1.DecisionService/CheckStream"],
                batches(caller, *batch),
                Answer::Batch,
            ),
            Traffic::Report(caller, _) => (
                &["/tollgate.v1.DecisionService/Check", "/tollgate.v1.DecisionService/Report"],
                check(caller),
                Answer::Check,
            ),
        };
        Script {
            calls: paths.iter().map(|path| self.fields(path)).collect(),
            keys: match &body.each {
                Message::Listed { ends, .. } => ends.len() as u64,
                Message::Numbered { .. } => self.keys,
            },
            body,
            answer,
            streaming: matches!(self.traffic, Traffic::Stream(..)),
            report: if let Traffic::Report(_, failures) = self.traffic {
                Some(failures)
            } else {
                None
            },
        }
    }

    fn fields(&self, path: &str) -> Fields {
        let mut fields: Fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", &self.server),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", concat!("tollgate-load/", env!("CARGO_PKG_VERSION"))),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let token = self
            .token
            .as_ref()
            .map(|token| ("authorization".to_owned(), format!("Bearer {token}")));
        // At most eight digits are allowed.
        let deadline = self
            .deadline_ms
            .map(|ms| ("grpc-timeout".to_owned(), format!("{}m", ms.min(99_999_999))));
        fields.extend(token.into_iter().chain(deadline));
        fields
    }
}

fn rate_limit(domain: &str, descriptors: &[Vec<DescriptorEntry>]) -> Body {
    let entry = |entry: &DescriptorEntry| Entry {
        key: entry.key.clone().into(),
        value: entry.value.clone().unwrap_or_else(|| format!("{DESCRIPTOR_KEY}{NUMBER}")).into(),
    };
    let descriptors = descriptors
        .iter()
        .map(|entries| Descriptor {
            entries: entries.iter().map(entry).collect(),
            ..Descriptor::default()
        })
        .collect();
    let request = RateLimitRequest {
        domain: domain.to_owned().into(),
        descriptors,
        ..RateLimitRequest::default()
    };
    Body { each: Message::numbered(request.encode_to_vec()), repeat: 1, tail: Vec::new() }
}

fn check(caller: &Caller) -> Body {
    let request = |key: String| {
        CheckRequest { api_key: key.into(), ..CheckRequest::default() }.encode_to_vec()
    };
    let tail = CheckRequest { target: caller.target.clone(), ..CheckRequest::default() };
    Body { each: each(&caller.api_keys, request), repeat: 1, tail: tail.encode_to_vec() }
}

fn batches(caller: &Caller, batch: u32) -> Body {
    let item = |key: String| {
        CheckBatch { api_keys: vec![key.into()], ..CheckBatch::default() }.encode_to_vec()
    };
    let tail = CheckBatch { targets: vec![caller.target.clone()], ..CheckBatch::default() };
    Body { each: each(&caller.api_keys, item), repeat: batch, tail: tail.encode_to_vec() }
}

fn each(keys: &ApiKeys, message: impl Fn(String) -> Vec<u8>) -> Message {
    match keys {
        ApiKeys::Numbered(prefix) => Message::numbered(message(format!("{prefix}{NUMBER}"))),
        ApiKeys::Listed(keys) => Message::listed(keys.iter().cloned().map(message)),
    }
}
