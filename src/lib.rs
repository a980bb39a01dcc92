//! tollgate: may this caller make this call now?
//!
//! A gRPC decision service for API gateways. Two kinds of rule over one house: the rate-limit rules
//! of Envoy's global rate limit service, and usage plans.
//!
//! # Layers
//!
//! Arrows point one way, and a test (`tests/it/layers.rs`) reads every `use` to keep it so:
//!
//! ```text
//! main → cli → {load, grpc, http, console, xds} → service → {engine, catalog, ledger} → {decide, rules} → std
//! ```
//!
//! - [`decide`] and [`rules`] (with the leaves [`yaml`], [`near`] and `fingerprint`) are **pure**: no
//!   clock, no I/O, no async, no lock, no protobuf, no log. Time is an argument.
//! - [`engine`] is the keyed state in memory: sharded, synchronous, bounded. It takes `now`, and
//!   never waits.
//! - [`catalog`] is plans, subscribers, keys and targets: the immutable snapshot that decisions
//!   read, and its edits.
//! - [`ledger`] is who may spend what, durably: leases, corrections with their marks, the catalog,
//!   daily usage. One interface, SQLite and memory.
//! - [`service`] is what tollgate does, whoever asks, in types of its own and with no wire type:
//!   decisions and reports, rate-limit requests, edits and lists, usage and grants; and what keeps
//!   them in the ledger: the lease broker, write-behind, restore, catalog storage, windows. Engine,
//!   catalog and ledger meet here.
//! - [`grpc`], [`http`] and [`console`] are the doors: they translate, and decide nothing. Wire
//!   types stop there, and errors become a status in one place. [`xds`] is one that looks outwards:
//!   rules come in through it from a management server.
//! - [`load`] is the load generator, a client that the benches use too. The only one that uses it is
//!   [`cli`].
//! - [`cli`] is one file per command; `cli::serve` is the composition root, the only place where
//!   the parts know each other.
//! - Beside the layers: [`clock`] (the only place that asks what time it is), [`config`] (all
//!   settings, all mistakes at once), [`metrics`], [`rulebook`] (the rules in force, swapped
//!   whole), [`access`] and [`tls`] (who may call, and by which certificates), [`log`] (lines that
//!   are never waited for, and what panics), [`open_files`] (how many the process may open),
//!   [`file_modes`] (who else may touch those that decide) and [`plain_file`] (what is no file is
//!   not waited for).
//! - [`testkit`] is what tests, benches and fuzz targets share. Only they use it.
//!
//! # Invariants
//!
//! - Everything is checked before anything is charged. What is refused is charged nowhere, but
//!   where the reference's tables say otherwise.
//! - One reading of the clock a request, taken at the edge.
//! - No decision holds a lock across an await. Several counters are locked in one order, always.
//! - An RPC error is a bypass, because gateways fail open on it: bytes that a caller controls never
//!   cause one.
//! - Everything that grows has a bound, a metric, and a stated behaviour at the bound.
//!
//! # Reading order
//!
//! [`decide::gcra`] is the smallest whole thing. Then [`rules`], [`engine::rules`] and
//! [`engine::rules::decision`]: the way of a rate-limit request from YAML to verdict.
//! [`service::rate_limits`] asks it by the rules of the moment, [`grpc::ratelimit`] puts it on the
//! wire, `cli::serve` together. For usage plans: [`decide::plan`], [`decide::resolve`],
//! [`engine::leases`] and
//! [`engine::plans`], then [`ledger`], [`service::lease_broker`] between the two, and
//! [`service::decisions`], where all meet. An edit: [`service::edits`], [`catalog`],
//! [`service::catalog_storage`].

#![forbid(unsafe_code)]

pub mod access;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod decide;
pub mod engine;
pub mod file_modes;
mod fingerprint;
pub mod grpc;
pub mod http;
pub mod ledger;
pub mod load;
pub mod log;
pub mod metrics;
pub mod near;
pub mod open_files;
pub mod plain_file;
pub mod rulebook;
pub mod rules;
pub mod service;
pub mod testkit;
pub mod tls;
pub mod xds;
pub mod yaml;
