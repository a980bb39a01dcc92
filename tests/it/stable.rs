//! Names that others build on, as `docs/stability.md` says: what `tests/stable` lists never goes,
//! and what is new is listed there.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use prost_reflect::{Cardinality, DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use tollgate::cli::Cli;
use tollgate::config::SETTINGS;
use tollgate::grpc::TOLLGATE_DESCRIPTORS;
use tollgate::grpc::pb::tollgate::CheckRequest;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;

use crate::http::get;
use crate::layers::source::files;
use crate::server::Tollgate;

fn list(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stable").join(name)
}

/// The lines of a list. A list that is not there yet has none.
fn listed(name: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(list(name)).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// What went, and what is new and not listed.
fn differences(listed: &BTreeSet<String>, found: &BTreeSet<String>) -> (Vec<String>, Vec<String>) {
    (listed.difference(found).cloned().collect(), found.difference(listed).cloned().collect())
}

/// Holds that the program has all that a list names, and that the list names all that the program
/// has.
fn hold(name: &str, found: &BTreeSet<String>) {
    assert!(found.len() > 3, "{name}: the program was not read: {found:?}");
    let mut listed = listed(name);
    if std::env::var_os("ADD_STABLE").is_some() {
        listed.extend(found.iter().cloned());
        fs::create_dir_all(list("")).unwrap();
        fs::write(list(name), listed.iter().fold(String::new(), |text, line| text + line + "\n"))
            .unwrap();
    }
    let (gone, new) = differences(&listed, found);
    assert!(
        gone.is_empty(),
        "tests/stable/{name}: others build on these, and they are gone:\n{}",
        gone.join("\n")
    );
    assert!(
        new.is_empty(),
        "tests/stable/{name}: these are new; add them, as `ADD_STABLE=1 cargo test --test it stable` does:\n{}",
        new.join("\n")
    );
}

#[test]
fn what_goes_and_what_is_new_is_told() {
    let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(
        differences(&lines(&["a", "b"]), &lines(&["b", "c"])),
        (vec!["a".to_owned()], vec!["c".to_owned()])
    );
    assert_eq!(differences(&lines(&["a"]), &lines(&["a"])), (Vec::new(), Vec::new()));
}

#[test]
fn names_of_the_wire_contract_stay() {
    let pool = DescriptorPool::decode(TOLLGATE_DESCRIPTORS).unwrap();
    let mut found = BTreeSet::new();
    for message in pool
        .all_messages()
        .filter(|message| message.package_name() == "tollgate.v1" && !message.is_map_entry())
    {
        found.extend(message.fields().map(|field| field_line(&message, &field)));
    }
    for values in pool.all_enums().filter(|values| values.package_name() == "tollgate.v1") {
        found.extend(
            values.values().map(|value| {
                format!("{}.{} = {}", values.full_name(), value.name(), value.number())
            }),
        );
    }
    for service in pool.services() {
        found.extend(service.methods().map(|method| {
            let stream = |streams| if streams { "stream " } else { "" };
            let (asked, answered) = (method.input(), method.output());
            let (asks, answers) =
                (stream(method.is_client_streaming()), stream(method.is_server_streaming()));
            format!(
                "{}/{}: {asks}{} -> {answers}{}",
                service.full_name(),
                method.name(),
                asked.name(),
                answered.name()
            )
        }));
    }
    hold("proto.txt", &found);
}

fn field_line(message: &MessageDescriptor, field: &FieldDescriptor) -> String {
    let kind = |kind: Kind| match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(values) => values.full_name().to_owned(),
        scalar => format!("{scalar:?}"),
    };
    let mut line = format!("{}.{} = {}", message.full_name(), field.name(), field.number());
    if field.is_map() {
        let entry = field.kind().as_message().cloned().unwrap();
        write!(
            line,
            " map<{}, {}>",
            kind(entry.map_entry_key_field().kind()),
            kind(entry.map_entry_value_field().kind())
        )
        .unwrap();
        return line;
    }
    let presence = match (field.cardinality(), field.containing_oneof()) {
        (Cardinality::Repeated, _) => " repeated".to_owned(),
        (_, Some(parts)) if !parts.is_synthetic() => format!(" {}", parts.name()),
        (_, Some(_)) => " optional".to_owned(),
        _ => String::new(),
    };
    line + &presence + " " + &kind(field.kind())
}

#[test]
fn names_of_settings_stay() {
    hold("settings.txt", &SETTINGS.iter().map(|setting| setting.key.to_owned()).collect());
}

#[test]
fn commands_flags_and_exit_codes_stay() {
    let mut cli = Cli::command();
    cli.build();
    let mut found = BTreeSet::new();
    commands(&cli, "tollgate", &BTreeSet::new(), &mut found);
    let codes = cli.get_after_help().unwrap().to_string();
    found.extend(
        codes
            .lines()
            .filter_map(|line| line.trim().split_once("  "))
            .map(|(code, _)| format!("exit code {code}")),
    );
    assert!(
        found.contains("exit code 0") && found.contains("tollgate plan create --rate"),
        "{found:?}"
    );
    hold("cli.txt", &found);
}

/// A command, its flags and what is below it. `above`: the flags that it has because the command
/// above has them.
fn commands(command: &Command, path: &str, above: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    let mut own = above.clone();
    let shown = |argument: &&clap::Arg| {
        !argument.is_hide_set() && !above.contains(argument.get_id().as_str())
    };
    for argument in command.get_arguments().filter(shown) {
        if argument.is_positional() {
            found.insert(format!("{path} <{}>", argument.get_id().as_str().to_uppercase()));
        }
        let longs = argument.get_long_and_visible_aliases().unwrap_or_default();
        found.extend(longs.into_iter().map(|long| format!("{path} --{long}")));
        found.extend(argument.get_short().map(|short| format!("{path} -{short}")));
        found.extend(
            argument
                .get_env()
                .map(|name| format!("{path}: environment {}", name.to_str().unwrap())),
        );
        if argument.is_global_set() || argument.get_id() == "help" {
            own.insert(argument.get_id().to_string());
        }
    }
    for below in
        command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        commands(below, &format!("{path} {}", below.get_name()), &own, found);
    }
}

/// The series of a page: name, type and labels.
fn series(page: &str) -> BTreeSet<String> {
    let mut types: Vec<(&str, &str)> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    types.sort_unstable();
    let mut found = BTreeSet::new();
    for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let suffixes =
            ["_bucket", "_sum", "_count"].iter().filter_map(|suffix| name.strip_suffix(suffix));
        let known = |name: &str| types.iter().find(|(known, _)| *known == name).copied();
        let (name, kind) = suffixes
            .filter_map(known)
            .next()
            .or_else(|| known(name))
            .unwrap_or_else(|| panic!("{line} has no type"));
        let labels = rest
            .strip_prefix('{')
            .and_then(|rest| rest.rsplit_once('}'))
            .map_or("", |(labels, _)| labels);
        let mut labels: Vec<&str> = labels
            .split("\",")
            .filter_map(|label| Some(label.split_once('=')?.0))
            .filter(|name| *name != "le")
            .collect();
        labels.sort_unstable();
        found.insert(format!("{name} {kind} {}", labels.join(",")).trim_end().to_owned());
    }
    found
}

#[test]
fn a_page_of_series_is_read() {
    let page = "# HELP a b\n# TYPE a counter\na{x=\"1,y=\\\"\",z=\"2\"} 3\na 4\n\n# TYPE h histogram\nh_bucket{le=\"1\",m=\"x\"} 1\nh_sum{m=\"x\"} 1\nh_count{m=\"x\"} 1\n";
    let found: Vec<String> = series(page).into_iter().collect();
    assert_eq!(found, ["a counter", "a counter x,z", "h histogram m"]);
}

/// Names of series in the sources: those that only show when something has happened are there too.
fn names_in_sources() -> BTreeSet<String> {
    let is_name = |text: &&str| {
        ["tollgate_", "ratelimit_service_"].iter().any(|start| text.starts_with(start))
            && !text.ends_with('_')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let sources = files(Path::new(env!("CARGO_MANIFEST_DIR")), &["src"]);
    let texts = sources.iter().flat_map(|(_, text)| text.split('"'));
    texts.filter(is_name).map(str::to_owned).collect()
}

const RULES: &str = "domain: d\ndescriptors: [{key: k, rate_limit: {unit: hour, requests_per_unit: 1}, descriptors: [{key: l, rate_limit: {unit: hour, requests_per_unit: 1}}]}]\n";

#[tokio::test]
async fn names_and_labels_of_metrics_stay() {
    let folder = tempfile::TempDir::new().unwrap();
    let rules = folder.path().join("rules.yaml");
    fs::write(&rules, RULES).unwrap();
    let tollgate = Tollgate::start(&["--rules", rules.to_str().unwrap()], &[]);
    let mut decisions =
        DecisionServiceClient::connect(format!("http://{}", tollgate.grpc_addr())).await.unwrap();
    // Calls have series once there was one.
    decisions
        .check(CheckRequest { target: "t".to_owned(), ..CheckRequest::default() })
        .await
        .unwrap();
    let scraped = series(&get("/metrics").send(tollgate.http_addr()).unwrap().text());
    let listed = listed("metrics.txt");
    let name = |line: &str| line.split(' ').next().unwrap().to_owned();
    let shown: BTreeSet<String> = scraped.iter().map(|line| name(line)).collect();
    let in_sources = names_in_sources();
    assert!(in_sources.len() > 20, "{in_sources:?}");
    let mut found = scraped;
    // A line with the name alone was written where nothing had happened to the series, and says
    // nothing of its type and labels.
    found.extend(listed.intersection(&shown).cloned());
    // What did not happen shows no series, and keeps the line that it has.
    for hidden in in_sources.difference(&shown) {
        let lines: Vec<_> = listed.iter().filter(|line| name(line) == *hidden).cloned().collect();
        if lines.is_empty() {
            found.insert(hidden.clone());
        } else {
            found.extend(lines)
        }
    }
    hold("metrics.txt", &found);
}

#[test]
fn pages_stay() {
    let tollgate = Tollgate::start(&[], &[]);
    let index = get("/").send(tollgate.http_addr()).unwrap().text();
    let mut found: BTreeSet<String> = index
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(page, _)| page.to_owned())
        .collect();
    found.insert("/".to_owned());
    for page in &found {
        assert_ne!(get(page).status(tollgate.http_addr()), 404, "{page} is named and not there");
    }
    hold("pages.txt", &found);
}

#[test]
fn fields_of_log_lines_stay() {
    let tollgate = Tollgate::start(&[], &[("TOLLGATE_LOG_FORMAT", "json")]);
    let log = tollgate.log();
    let lines: Vec<serde_json::Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(!lines.is_empty(), "{log}");
    let in_all = |field: &String| lines.iter().all(|line| line.get(field).is_some());
    let found: BTreeSet<String> =
        lines[0].as_object().unwrap().keys().filter(|field| in_all(field)).cloned().collect();
    hold("log.txt", &found);
}
