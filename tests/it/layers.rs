//! Keeps the house in order: arrows between layers point one way, pure layers stay pure, and one
//! file reads the clock.

pub mod source;

use std::collections::{BTreeMap, BTreeSet};

use std::path::Path;

use source::{Source, files};

/// The layers that have a name, lowest first. A module may use itself and what stands lower.
const RANKS: &[(u8, &[&str])] = &[
    (0, &["yaml", "near", "fingerprint"]),
    (1, PURE),
    (2, &["plain_file"]),
    (3, &["engine", "catalog", "ledger"]),
    (SERVICE, &["service"]),
    (6, &["grpc", "http", "console", "xds"]),
    (7, &["load"]),
    (8, &["cli"]),
    (9, &[TESTKIT]),
];

/// What tests share. The test code of every layer may use it, and nothing else does.
const TESTKIT: &str = "testkit";

/// Doors that the test code of a layer may use: the tests of `service` declare catalogs as files
/// do, and keep them as the program does.
const USED_BY_TESTS: &[(&str, &str)] = &[("service", "grpc")];

/// Every other module at the root (`config`, `clock`, …): the edge is wired with them, and the
/// layers below know nothing of them.
const ROOT_MODULES: u8 = 4;

const SERVICE: u8 = 5;

/// Ranks whose modules may use each other.
const OPEN_RANKS: &[u8] = &[1, ROOT_MODULES];

/// No clock, no I/O, no async, no lock, no protobuf, no log; `yaml` beside them.
const PURE: &[&str] = &["decide", "rules"];

const IMPURE_WORDS: &[&str] = &[
    "tokio",
    "tonic",
    "prost",
    "SystemTime",
    "Instant",
    "parking_lot",
    "dashmap",
    "tracing",
    "async",
    "await",
    "Mutex",
    "RwLock",
    "Condvar",
];
const IMPURE_STD: &[&str] = &["fs", "net", "io", "process", "thread", "env"];

/// Wire types stop at the doors.
const WIRE_WORDS: &[&str] =
    &["tonic", "prost", "prost_types", "prost_reflect", "envoy_types", "hyper", "axum"];

/// Nor do the generated messages reach the layer below.
const SERVICE_WORDS: &[&str] =
    &["tonic", "prost", "prost_types", "prost_reflect", "envoy_types", "hyper", "axum", "pb"];

const CLOCKS: &[&str] = &["SystemTime", "Instant", "Timestamp", "Zoned"];

const LONGEST_FILE: usize = 700;

/// Names that say nothing of what is inside.
const NO_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc"];

/// All that is wrong, a line for each.
fn check(sources: &[Source]) -> Vec<String> {
    let roots: BTreeSet<&str> = sources
        .iter()
        .filter_map(|source| source.module().first().copied())
        .chain(["pb"])
        .collect();
    let mut wrong = Vec::new();
    for source in sources {
        if source.path.starts_with("src/") {
            arrows(source, &roots, &mut wrong);
            purity(source, &mut wrong);
            clock(source, &mut wrong);
            shape(source, &mut wrong);
        }
        leftovers(source, &mut wrong);
    }
    circles(sources, &mut wrong);
    wrong
}

fn rank(module: &str) -> u8 {
    RANKS
        .iter()
        .find(|(_, modules)| modules.contains(&module))
        .map_or(ROOT_MODULES, |(rank, _)| *rank)
}

fn arrows(source: &Source, roots: &BTreeSet<&str>, wrong: &mut Vec<String>) {
    // lib.rs and main.rs are in no layer: the one declares, the other starts.
    let Some(&from) = source.module().first() else { return };
    for named in source.named().into_iter().filter(|named| named.root == "crate") {
        let to = named.child.as_str();
        let place = format!("{}:{}", source.path, named.line);
        if to != "self" && !roots.contains(to) {
            wrong.push(format!("{place}: crate::{to} does not name the module that it comes from"));
        } else if (source.is_test() || named.in_tests)
            && (to == TESTKIT || USED_BY_TESTS.contains(&(from, to)))
        {
            // Only the tests know it.
        } else if to != from
            && (rank(to) > rank(from)
                || rank(to) == rank(from) && !OPEN_RANKS.contains(&rank(from)))
        {
            wrong.push(format!("{place}: {from} must not use {to}"));
        }
    }
}

/// Refuses files that use each other, directly or around. A folder's own file and what is inside
/// the folder are one: they may.
fn circles(sources: &[Source], wrong: &mut Vec<String>) {
    let files: BTreeMap<Vec<&str>, &Source> = sources
        .iter()
        .filter(|source| source.path.starts_with("src/") && !source.is_test())
        .map(|source| (source.module(), source))
        .filter(|(module, _)| !module.is_empty())
        .collect();
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, source) in &files {
        for named in source.references().into_iter().filter(|named| !named.in_tests) {
            let path: Vec<&str> = named.path.iter().map(String::as_str).collect();
            let file =
                (1..=path.len()).rev().find_map(|length| files.get_key_value(&path[..length]));
            let Some((other, used)) = file else { continue };
            if !other.starts_with(module) && !module.starts_with(other) {
                uses.entry(&source.path).or_default().insert(&used.path);
            }
        }
    }
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        uses.keys().map(|file| (*file, reached(&uses, file))).collect();
    let circles: BTreeSet<Vec<&str>> = reach
        .iter()
        .filter(|(file, reached)| reached.contains(*file))
        .map(|(file, reached)| {
            let back = |other: &&str| reach.get(other).is_some_and(|back| back.contains(file));
            reached.iter().copied().filter(back).collect()
        })
        .collect();
    for circle in circles {
        wrong.push(format!("{}: they use each other in a circle", circle.join(", ")));
    }
}

/// All files that a file uses, also through others.
fn reached<'s>(uses: &BTreeMap<&'s str, BTreeSet<&'s str>>, from: &'s str) -> BTreeSet<&'s str> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        next.extend(uses.get(file).into_iter().flatten().filter(|used| reached.insert(**used)));
    }
    reached
}

fn purity(source: &Source, wrong: &mut Vec<String>) {
    let module = source.module();
    let Some(&layer) = module.first() else { return };
    let words = match rank(layer) {
        0 | 1 => IMPURE_WORDS,
        3 => WIRE_WORDS,
        SERVICE => SERVICE_WORDS,
        _ => return,
    };
    for word in source.words.iter().filter(|word| words.contains(&word.text.as_str())) {
        wrong.push(format!("{}:{}: {layer} must not know {}", source.path, word.line, word.text));
    }
    if rank(layer) <= 1 {
        for named in source
            .named()
            .into_iter()
            .filter(|named| named.root == "std" && IMPURE_STD.contains(&named.child.as_str()))
        {
            wrong.push(format!(
                "{}:{}: {layer} must not know std::{}",
                source.path, named.line, named.child
            ));
        }
    }
}

fn clock(source: &Source, wrong: &mut Vec<String>) {
    if source.path == "src/clock.rs" || source.is_test() {
        return;
    }
    let reads = CLOCKS
        .iter()
        .flat_map(|clock| source.lines_of(&[clock, "::", "now"]))
        .chain(source.lines_of(&[".", "elapsed", "("]));
    for word in reads.filter(|word| !word.in_tests) {
        wrong
            .push(format!("{}:{}: only src/clock.rs asks what time it is", source.path, word.line));
    }
}

fn shape(source: &Source, wrong: &mut Vec<String>) {
    if source.lines > LONGEST_FILE {
        wrong.push(format!("{}: {} lines, more than {LONGEST_FILE}", source.path, source.lines));
    }
    for part in source.module() {
        if NO_NAMES.contains(&part) {
            wrong.push(format!("{}: {part} says nothing of what is inside", source.path));
        }
    }
    if source.path.ends_with("/mod.rs") {
        wrong.push(format!("{}: a module foo is foo.rs and foo/, never mod.rs", source.path));
    }
}

fn leftovers(source: &Source, wrong: &mut Vec<String>) {
    for sequence in
        [&["#", "[", "ignore"][..], &["todo", "!"], &["unimplemented", "!"], &["dbg", "!"]]
    {
        for word in source.lines_of(sequence) {
            wrong.push(format!(
                "{}:{}: {} is for work that is not done",
                source.path,
                word.line,
                sequence.concat()
            ));
        }
    }
}

fn read(root: &Path, folders: &[&str]) -> Vec<Source> {
    let mut sources: Vec<Source> =
        files(root, folders).iter().map(|(name, text)| Source::read(name, text)).collect();
    let of_tests: Vec<_> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        source.tests_alone = of_tests.iter().any(|module| {
            source.path.starts_with("src/")
                && source.module().iter().zip(module).filter(|(own, name)| own == name).count()
                    == module.len()
        });
    }
    sources
}

#[test]
fn the_house_is_in_order() {
    let sources =
        read(Path::new(env!("CARGO_MANIFEST_DIR")), &["src", "tests", "benches", "examples"]);
    assert!(
        sources.iter().any(|source| source.path == "src/decide/gcra.rs"),
        "the sources were not found"
    );
    let mut wrong = check(&sources);
    wrong.sort();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_breaks_the_order_is_found() {
    // The file, what it holds, and the one thing that is wrong with it, if anything.
    let cases: &[(&str, &str, Option<&str>)] = &[
        ("src/decide/a.rs", "use crate::decide::time::Now; use std::num::NonZeroU64;", None),
        ("src/decide/a.rs", "use crate::engine::Table;", Some("decide must not use engine")),
        ("src/decide/a.rs", "use super::super::grpc;", Some("decide must not use grpc")),
        ("src/decide.rs", "fn f() { super::clock::now() }", Some("decide must not use clock")),
        ("src/rules/a.rs", "use crate::{yaml, decide::time};", None),
        ("src/yaml.rs", "use crate::rules::Rule;", Some("yaml must not use rules")),
        ("src/engine.rs", "use crate::rules::Rule; use crate::decide::time;", None),
        ("src/engine/a.rs", "use crate::catalog::Plan;", Some("engine must not use catalog")),
        ("src/ledger/a.rs", "use crate::engine::Table;", Some("ledger must not use engine")),
        ("src/catalog.rs", "use crate::config;", Some("catalog must not use config")),
        ("src/engine.rs", "use crate::clock;", Some("engine must not use clock")),
        (
            "src/config.rs",
            "use crate::clock; use crate::engine::Table; use crate::rules::Rule;",
            None,
        ),
        ("src/config.rs", "use crate::grpc::wire;", Some("config must not use grpc")),
        ("src/grpc/a.rs", "use crate::{clock, config, engine, pb};", None),
        ("src/grpc/a.rs", "use crate::http::metrics;", Some("grpc must not use http")),
        ("src/grpc/a.rs", "use crate::service::decisions;", None),
        ("src/service/a.rs", "use crate::{engine, ledger, catalog, clock, config, metrics};", None),
        ("src/service/a.rs", "use crate::grpc::wire;", Some("service must not use grpc")),
        ("src/service/a/tests.rs", "use crate::grpc::convert;", None),
        ("src/service/a.rs", "mod tests { use crate::grpc::json; }", None),
        ("src/service/a/tests.rs", "use crate::http;", Some("service must not use http")),
        ("src/engine/tests.rs", "use crate::grpc;", Some("engine must not use grpc")),
        ("src/decide/tests.rs", "use crate::testkit::declared;", None),
        ("src/cli/a.rs", "use crate::testkit::declared;", Some("cli must not use testkit")),
        ("src/testkit/a.rs", "use crate::{engine, service, grpc};", None),
        ("src/service/a.rs", "use crate::pb::tollgate;", Some("service must not know pb")),
        ("src/service/a.rs", "use tonic::Status;", Some("service must not know tonic")),
        ("src/service/a.rs", "use hyper::Request;", Some("service must not know hyper")),
        ("src/service/a.rs", "use axum::http::HeaderMap;", Some("service must not know axum")),
        ("src/service/a.rs", "use prost::Message;", Some("service must not know prost")),
        ("src/ledger/a.rs", "use crate::plain_file;", None),
        ("src/decide/a.rs", "use crate::plain_file;", Some("decide must not use plain_file")),
        ("src/engine/a.rs", "use crate::service;", Some("engine must not use service")),
        ("src/config.rs", "use crate::service;", Some("config must not use service")),
        ("src/http.rs", "use crate::grpc::wire;", Some("http must not use grpc")),
        ("src/http.rs", "use crate::cli;", Some("http must not use cli")),
        ("src/load/a.rs", "use crate::{clock, grpc::pb};", None),
        ("src/load/a.rs", "use crate::cli::client;", Some("load must not use cli")),
        ("src/cli/load.rs", "use crate::load::Job;", None),
        ("src/grpc/a.rs", "use crate::load::Job;", Some("grpc must not use load")),
        ("src/config.rs", "use crate::load::Job;", Some("config must not use load")),
        ("src/cli/serve.rs", "use crate::{grpc, http, engine, clock};", None),
        ("src/engine.rs", "use crate::pb::Check;", Some("engine must not use pb")),
        (
            "src/decide/a.rs",
            "use crate::Exported;",
            Some("crate::Exported does not name the module"),
        ),
        ("src/decide/a.rs", "use crate::*;", Some("crate::* does not name the module")),
        ("src/decide/a.rs", "// tokio\n/* std::fs */ fn f() { g(\"Instant\") }", None),
        ("src/decide/a.rs", "fn f() { tokio::spawn(g) }", Some("decide must not know tokio")),
        ("src/decide/a.rs", "use std::time::Instant;", Some("decide must not know Instant")),
        ("src/rules/a.rs", "use prost::Message;", Some("rules must not know prost")),
        ("src/rules/a.rs", "async fn f() {}", Some("rules must not know async")),
        ("src/rules/a.rs", "fn f() { g().await }", Some("rules must not know await")),
        (
            "src/rules/a.rs",
            "use std::{collections::HashMap, fs};",
            Some("rules must not know std::fs"),
        ),
        ("src/rules/a.rs", "fn f() { std::net::lookup() }", Some("rules must not know std::net")),
        ("src/yaml/a.rs", "use tracing::warn;", Some("yaml must not know tracing")),
        ("src/decide/tests.rs", "use parking_lot::Once;", Some("decide must not know parking_lot")),
        ("src/engine/a.rs", "use dashmap::DashMap; use parking_lot::Once;", None),
        ("src/engine/a.rs", "use tonic::Status;", Some("engine must not know tonic")),
        ("src/grpc/a.rs", "fn f() -> Instant { Instant::now() }", Some("only src/clock.rs asks")),
        ("src/cli/a.rs", "fn f() { std::time::SystemTime::now() }", Some("only src/clock.rs asks")),
        ("src/cli/a.rs", "fn f(t: Instant) { t.elapsed() }", Some("only src/clock.rs asks")),
        ("src/clock.rs", "fn f() { Instant::now() }", None),
        ("src/grpc/a.rs", "mod tests { fn f() { Instant::now() } }", None),
        ("src/grpc/tests.rs", "fn f() { Instant::now() }", None),
        ("src/http/utils/a.rs", "", Some("utils says nothing")),
        ("src/http/helpers.rs", "", Some("helpers says nothing")),
        ("src/http/mod.rs", "", Some("never mod.rs")),
        // In pieces: who searches for work that is not done finds none here.
        ("tests/it/a.rs", concat!("#[test] #", "[ignore] fn f() {}"), Some("[ignore is for work")),
        ("tests/it/a.rs", "fn f() { tokio::spawn(Instant::now()) }", None),
        ("src/cli/a.rs", concat!("fn f() { todo", "!() }"), Some(concat!("todo", "! is for work"))),
        ("benches/a.rs", concat!("fn f() { dbg", "!(1) }"), Some(concat!("dbg", "! is for work"))),
        ("src/main.rs", "fn main() { tollgate::cli::run() }", None),
    ];
    let modules = [
        "catalog",
        "cli",
        "clock",
        "config",
        "decide",
        "engine",
        "grpc",
        "http",
        "ledger",
        "load",
        "metrics",
        "plain_file",
        "rules",
        "service",
        TESTKIT,
        "yaml",
    ];
    for (path, text, expected) in cases {
        let mut sources: Vec<_> =
            modules.iter().map(|module| Source::read(&format!("src/{module}.rs"), "")).collect();
        sources.push(Source::read(path, text));
        let wrong = check(&sources);
        match expected {
            Some(expected) => {
                assert_eq!(wrong.len(), 1, "{path}: {text}: {wrong:?}");
                assert!(
                    wrong[0].starts_with(path) && wrong[0].contains(expected),
                    "{path}: {text}: {wrong:?}"
                );
            }
            None => assert!(wrong.is_empty(), "{path}: {text}: {wrong:?}"),
        }
    }
    for (lines, allowed) in [(LONGEST_FILE, true), (LONGEST_FILE + 1, false)] {
        assert_eq!(
            check(&[Source::read("src/cli.rs", &"\n".repeat(lines))]).is_empty(),
            allowed,
            "{lines} lines"
        );
    }
}

/// Paths and what the files hold.
type Files = &'static [(&'static str, &'static str)];

#[test]
fn files_that_use_each_other_are_found() {
    // The files, and what of them is a circle, if anything.
    let cases: &[(Files, Option<&str>)] = &[
        (
            &[("src/ledger/a.rs", "use super::b::B;"), ("src/ledger/b.rs", "use super::a::A;")],
            Some("src/ledger/a.rs, src/ledger/b.rs: they use"),
        ),
        (&[("src/ledger/a.rs", "use super::b::B;"), ("src/ledger/b.rs", "// super::a::A")], None),
        (
            &[
                ("src/ledger/a.rs", "use super::{c::{self, D as E}, b};"),
                ("src/ledger/b.rs", "fn f() { crate::ledger::a::g() }"),
            ],
            Some("src/ledger/a.rs, src/ledger/b.rs: they use"),
        ),
        (
            &[
                ("src/ledger/a.rs", "use crate::ledger::b::B;"),
                ("src/ledger/b.rs", "use super::c::{d::D};"),
                ("src/ledger/c/d.rs", "use super::super::a;"),
            ],
            Some("src/ledger/a.rs, src/ledger/b.rs, src/ledger/c/d.rs: they use"),
        ),
        // A folder's own file and its inside.
        (&[("src/ledger.rs", "use self::a::A;"), ("src/ledger/a.rs", "use super::Ledger;")], None),
        // What is exported by the folder's own file is the folder's.
        (
            &[("src/ledger/a.rs", "use super::b::B;"), ("src/ledger/b.rs", "use super::{A, B};")],
            None,
        ),
        (
            &[
                ("src/ledger/a.rs", "use super::b::B; mod tests { use super::super::b; }"),
                ("src/ledger/b.rs", "mod tests { use crate::ledger::a::A; }"),
            ],
            None,
        ),
        (
            &[
                ("src/ledger/a.rs", "use super::b::B;"),
                ("src/ledger/b/tests.rs", "use crate::ledger::a::A;"),
                ("src/ledger/b.rs", ""),
            ],
            None,
        ),
    ];
    for (files, expected) in cases {
        let mut sources = vec![Source::read("src/ledger.rs", "")];
        sources.extend(files.iter().map(|(path, text)| Source::read(path, text)));
        let wrong = check(&sources);
        match expected {
            Some(expected) => {
                assert!(wrong.len() == 1 && wrong[0].starts_with(expected), "{files:?}: {wrong:?}")
            }
            None => assert!(wrong.is_empty(), "{files:?}: {wrong:?}"),
        }
    }
}
