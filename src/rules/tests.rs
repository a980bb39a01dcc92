mod naive;

use std::fmt::Write;

use super::*;

/// What files of rules make of requests. One entry is a line `@@ case <title>` and after it, in any
/// order and number: `@@ file <name>` and its YAML on the lines below; `@@ merge`;
/// `@@ error <text>` or `@@ error@<line> <text>`, of which there is at most one, and it is all
/// there is to a file that cannot be loaded; `@@ warning <text>`, all of them in order;
/// `@@ find <domain> <key>=<value>... => <rule>`, where bytes may be written `%41` and the rule as
/// [`shown`] writes it, or `none`.
const CASES: [(&str, &str, usize); 6] = [
    ("errors", include_str!("cases/errors.txt"), 50),
    ("fields", include_str!("cases/fields.txt"), 35),
    ("files", include_str!("cases/files.txt"), 12),
    ("matching", include_str!("cases/matching.txt"), 60),
    ("metrics", include_str!("cases/metrics.txt"), 25),
    ("own keys", include_str!("cases/own_keys.txt"), 30),
];

#[derive(Default)]
struct Case<'t> {
    title: &'t str,
    files: Vec<Source>,
    options: LoadOptions,
    error: Option<(Option<u32>, &'t str)>,
    warnings: Vec<&'t str>,
    finds: Vec<(&'t str, &'t str)>,
}

#[test]
fn files_and_requests_of_the_tables() {
    let mut failures = String::new();
    for (table, text, at_least) in CASES {
        let cases = read(text);
        let expectations: usize = cases
            .iter()
            .map(|case| case.finds.len() + case.warnings.len() + usize::from(case.error.is_some()))
            .sum();
        assert!(
            expectations >= at_least,
            "the table of {table} has shrunk to {expectations} expectations"
        );
        for case in &cases {
            for failure in check(case) {
                writeln!(failures, "{table}: {}: {failure}", case.title).unwrap();
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

fn read(text: &str) -> Vec<Case<'_>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    let mut in_file = false;
    for line in text.lines() {
        let Some(said) = line.strip_prefix("@@ ") else {
            if in_file {
                let text = &mut cases.last_mut().unwrap().files.last_mut().unwrap().text;
                text.push_str(line);
                text.push('\n');
            } else {
                assert!(line.is_empty(), "stray line: {line}");
            }
            continue;
        };
        let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
        in_file = word == "file";
        if word == "case" {
            cases.push(Case { title: rest, ..Case::default() });
            continue;
        }
        let case = cases.last_mut().unwrap();
        match word.split_once('@').unwrap_or((word, "")) {
            ("file", _) => case.files.push(Source { name: rest.to_owned(), text: String::new() }),
            ("merge", _) => case.options.merge_domains = true,
            ("error", line) => case.error = Some((line.parse().ok(), rest)),
            ("warning", _) => case.warnings.push(rest),
            ("find", _) => case.finds.push(rest.split_once(" => ").unwrap()),
            _ => panic!("unknown word: {line}"),
        }
    }
    cases
}

/// What is not as the case says.
fn check(case: &Case<'_>) -> Vec<String> {
    let mut failures = Vec::new();
    let loaded = match (load(&case.files, &case.options), case.error) {
        (Ok(_), Some((_, expected))) => {
            return vec![format!("loads, but must fail with\n    {expected}")];
        }
        (Err(error), None) => return vec![format!("must load, but fails with\n    {error}")],
        (Err(error), Some((line, expected))) => {
            if error.to_string() != expected {
                failures.push(format!("fails with\n    {error}\n  but must with\n    {expected}"));
            }
            if line.is_some() && error.line != line {
                failures.push(format!("fails on line {:?}, but must on {line:?}", error.line));
            }
            return failures;
        }
        (Ok(loaded), None) => loaded,
    };
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    if warnings != case.warnings {
        failures.push(format!("warns {warnings:#?}\n  but must {:#?}", case.warnings));
    }
    for (request, expected) in &case.finds {
        let found = find(&loaded.rules, request, expected.contains(" counter="));
        if found != *expected {
            failures.push(format!("{request}\n  finds    {found}\n  but must {expected}"));
        }
    }
    failures
}

fn find(rules: &RuleSet, request: &str, with_counter: bool) -> String {
    let mut words = request.split(' ');
    let domain = bytes(words.next().unwrap());
    let entries: Vec<_> = words
        .map(|entry| entry.split_once('=').map(|(key, value)| (bytes(key), bytes(value))).unwrap())
        .collect();
    let entries: Vec<_> =
        entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
    let Some(domain) = rules.domain(&domain) else { return "no domain".to_owned() };
    domain.find(&entries).map_or("none".to_owned(), |found| shown(&found, with_counter))
}

fn bytes(text: &str) -> Vec<u8> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    bytes
}

/// `<path> <limit>`, and what is not as usual: `durable=` and the name of its quota, `shadow`,
/// `quota`, `name=`, `replaces=`, `metadata=`, `metric=` where it is not the path, and if asked for
/// `counter=`.
fn shown(found: &Match<'_, '_>, with_counter: bool) -> String {
    let rule = found.rule;
    let mut words = vec![rule.path.clone(), shown_limit(rule.limit)];
    words.extend(rule.durable.as_ref().map(|quota| format!("durable={}", quota.identity.name)));
    words.extend(rule.shadow_mode.then(|| "shadow".to_owned()));
    words.extend(rule.quota_mode.then(|| "quota".to_owned()));
    words.extend(
        Some(&rule.name).filter(|name| !name.is_empty()).map(|name| format!("name={name}")),
    );
    words.extend(
        Some(&rule.replaces)
            .filter(|names| !names.is_empty())
            .map(|names| format!("replaces={}", names.join(","))),
    );
    words.extend(
        rule.metadata
            .as_ref()
            .map(|metadata| format!("metadata={}", serde_json::to_string(metadata).unwrap())),
    );
    words.extend(found.metric_levels().map(|levels| format!("metric={}", levels.join("|"))));
    if with_counter {
        let mut levels = Vec::new();
        found.counter_levels(|pieces| {
            levels.push(String::from_utf8_lossy(&pieces.concat()).into_owned())
        });
        words.push(format!("counter={}", levels.join("|")));
    }
    words.join(" ")
}

fn shown_limit(limit: Limit) -> String {
    let per = |per: PerUnit| {
        let multiplier =
            if per.multiplier == 1 { String::new() } else { format!("{}*", per.multiplier) };
        format!("{}/{multiplier}{}", per.requests, per.unit.name().to_lowercase())
    };
    match limit {
        Limit::Unlimited => "unlimited".to_owned(),
        Limit::Window(window) => per(window),
        Limit::Calendar(window) => format!("calendar:{}", per(window)),
        Limit::Bucket { per: rate, burst } => format!("bucket:{}:burst={burst}", per(rate)),
    }
}

fn loaded(text: &str) -> Loaded {
    load(&[Source { name: "f".to_owned(), text: text.to_owned() }], &LoadOptions::default())
        .unwrap()
}

#[test]
fn units_have_fixed_lengths() {
    let seconds: Vec<_> = Unit::ALL.iter().map(|unit| unit.seconds()).collect();
    assert_eq!(seconds, [1, 60, 3600, 86_400, 604_800, 2_592_000, 31_536_000]);
    assert_eq!(PerUnit { requests: 1, unit: Unit::Minute, multiplier: 5 }.seconds(), 300);
}

#[test]
fn rules_and_domains_come_in_the_order_of_the_files() {
    let texts = [
        "domain: b\ndescriptors: [{key: z, rate_limit: {unit: day, requests_per_unit: 1}, descriptors: [{key: y, rate_limit: {unlimited: yes}}]}]",
        "domain: a\nall_or_nothing: true\ndescriptors: [{key: x, value: 1, rate_limit: {unit: day, requests_per_unit: 1}}]",
    ];
    let sources = texts.map(|text| Source { name: "f".to_owned(), text: text.to_owned() });
    let rules = load(&sources, &LoadOptions::default()).unwrap().rules;
    assert_eq!(rules.domains().map(Domain::name).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(rules.domains().map(Domain::all_or_nothing).collect::<Vec<_>>(), [false, true]);
    assert_eq!(
        rules.rules().map(|rule| rule.path.as_str()).collect::<Vec<_>>(),
        ["b.z", "b.z.y", "a.x_1"]
    );
    let nested = rules.rules().nth(1).unwrap();
    assert_eq!(
        (nested.domain.as_str(), &*nested.levels, nested.file.as_str(), nested.line),
        ("b", &["z".to_owned(), "y".to_owned()][..], "f", 2)
    );
}

#[test]
fn no_rules_are_an_empty_set() {
    let rules = load(&[], &LoadOptions::default()).unwrap().rules;
    assert!(
        rules.domains().next().is_none()
            && rules.rules().next().is_none()
            && rules.domain(b"d").is_none()
    );
    assert!(RuleSet::default().domain(b"").is_none());
}

#[test]
fn nothing_matches_a_request_without_entries() {
    let loaded = loaded(
        "domain: d\ndescriptors: [{key: '*', rate_limit: {unit: day, requests_per_unit: 1}}]",
    );
    assert!(loaded.rules.domain(b"d").unwrap().find(&[]).is_none());
}

#[test]
fn the_pieces_of_a_counter_are_the_request_itself() {
    let loaded =
        loaded("domain: d\ndescriptors: [{key: a, rate_limit: {unit: day, requests_per_unit: 1}}]");
    let value = vec![0xFF; 1 << 20];
    let entries = [(&b"a"[..], value.as_slice())];
    let found = loaded.rules.domain(b"d").unwrap().find(&entries).unwrap();
    let mut levels = 0;
    found.counter_levels(|pieces| {
        assert_eq!(pieces, [b"a", b"_", value.as_slice()]);
        levels += 1;
    });
    assert_eq!(levels, 1);
}

#[test]
fn hostile_files_are_refused_quickly() {
    let deep = format!("domain: d\ndescriptors: {}", "[".repeat(10_000));
    let nested = (0..60).fold("domain: d\n".to_owned(), |text, level| {
        text + &format!("{0}descriptors:\n{0}- key: a\n", "  ".repeat(level))
    });
    let leaf = "[{key: a, rate_limit: {unit: day, requests_per_unit: 1}}]";
    let long =
        format!("domain: d\ndescriptors:\n- key: {}\n  descriptors: {leaf}\n", "x".repeat(1 << 20));
    for (text, expected) in [
        (deep, "line 2: "),
        (nested, "nested more than 100 levels deep"),
        (
            long.replace(leaf, &many_leaves()),
            "the paths of all rules are longer than 268435456 bytes: use shorter keys",
        ),
    ] {
        let error = load(&[Source { name: "f".to_owned(), text }], &LoadOptions::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn many_leaves() -> String {
    let leaves: String = (0..300)
        .map(|n| format!("{{key: a{n}, rate_limit: {{unit: day, requests_per_unit: 1}}}}, "))
        .collect();
    format!("[{leaves}]")
}

#[test]
fn one_file_of_a_domain_can_say_all_or_nothing_for_all() {
    let texts = [
        "domain: d",
        "domain: d\nall_or_nothing: true",
        "domain: e\nall_or_nothing: false",
        "domain: d",
    ];
    let sources = texts.map(|text| Source { name: "f".to_owned(), text: text.to_owned() });
    let rules = load(&sources, &LoadOptions { merge_domains: true }).unwrap().rules;
    assert!(rules.domain(b"d").unwrap().all_or_nothing());
    assert!(!rules.domain(b"e").unwrap().all_or_nothing());
}
