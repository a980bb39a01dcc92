//! Commands, paths, settings and metrics that a page names are there.

use std::collections::BTreeSet;
use std::fs;
use std::process;

use clap::{Command, CommandFactory};
use tollgate::cli::Cli;
use tollgate::config::SETTINGS;

use super::page::Page;
use super::{pages, root};

/// What looks like a setting and is a file.
const FILES: &[&str] = &["ledger.sqlite", "ledger.mark", "ledger.md", "envoy.bin"];

/// Pages that tell what was.
fn tells_what_was(page: &Page) -> bool {
    page.name == "CHANGELOG.md"
}

/// Each command of a text of the shell, as words: roughly as a shell reads it, quotes and all.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.replace("\\\n", " ").chars().collect::<Vec<_>>().into_iter().peekable();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            (letter, Some(_)) => word.push(letter),
            ('\'' | '"', None) => quote = Some(letter),
            ('#', None) if word.is_empty() => {
                while letters.peek().is_some_and(|&next| next != '\n') {
                    letters.next();
                }
            }
            ('\n' | ';' | '|' | '&' | '(' | ')' | '>' | '<', None) => {
                let ended = std::mem::take(&mut word);
                let last = found.last_mut().unwrap();
                // `2>` is no word.
                let redirects = letter == '>' && ended == "2";
                if !ended.is_empty() && !redirects {
                    last.push(ended);
                }
                found.push(Vec::new());
            }
            (letter, None) if letter.is_whitespace() => {
                if !word.is_empty() {
                    found.last_mut().unwrap().push(std::mem::take(&mut word));
                }
            }
            (letter, None) => word.push(letter),
        }
    }
    if !word.is_empty() {
        found.last_mut().unwrap().push(word);
    }
    found.retain(|words| !words.is_empty());
    found
}

/// The words after `tollgate`, where that is what the command runs.
fn of_tollgate(words: &[String]) -> Option<&[String]> {
    let before = |word: &String| {
        word.contains('=') || ["do", "then", "if", "!", "exec"].contains(&&word[..])
    };
    let at = words.iter().position(|word| !before(word))?;
    let (program, rest) = words[at..].split_first()?;
    let is_ours = program == "tollgate" || program.ends_with("/tollgate");
    let runs = program == "cargo" && rest.iter().take(2).eq(["run", "--release"]);
    match (is_ours, runs) {
        // `tollgate ready …` is what it prints.
        (true, _) => (rest.first().is_none_or(|word| word != "ready")).then_some(rest),
        (_, true) => Some(rest.get(3..).unwrap_or_default()),
        _ => None,
    }
}

/// What is wrong with a command of ours.
fn wrong_with(cli: &Command, words: &[String]) -> Option<String> {
    let mut command = cli;
    let mut flags: Vec<&clap::Arg> = cli.get_arguments().collect();
    let mut only_values = false;
    for word in words {
        if let Some(flag) = word.strip_prefix("--").map(|flag| flag.split('=').next().unwrap()) {
            let has = |argument: &&clap::Arg| {
                argument.get_long() == Some(flag)
                    || argument.get_all_aliases().is_some_and(|all| all.contains(&flag))
            };
            if !flag.is_empty() && !flags.iter().any(has) {
                return Some(format!("`{}` has no --{flag}", command.get_name()));
            }
            only_values = true;
        } else if word.starts_with('-') && word.len() == 2 {
            let letter = word.chars().nth(1);
            if !flags.iter().any(|argument| argument.get_short() == letter) {
                return Some(format!("`{}` has no {word}", command.get_name()));
            }
            only_values = true;
        } else if !only_values && command.has_subcommands() {
            // `plan create|get`, as prose has it, names two.
            for name in word.split('|') {
                match command.find_subcommand(name) {
                    Some(below) => command = below,
                    None => return Some(format!("`{}` has no `{name}`", command.get_name())),
                }
            }
            flags.extend(command.get_arguments());
        }
    }
    None
}

/// What a page shows to be typed, by line: its blocks for a shell, and code in its sentences.
fn shown(page: &Page) -> Vec<(usize, String)> {
    let blocks = page.blocks.iter().filter(|block| block.language == "sh");
    let mut texts: Vec<_> = blocks.map(|block| (block.line, block.text.clone())).collect();
    texts.extend(page.code());
    texts
}

#[test]
fn every_command_that_a_page_names_exists() {
    let mut cli = Cli::command();
    cli.build();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages().iter().filter(|page| !tells_what_was(page)) {
        for (line, text) in shown(page) {
            for words in commands(&text) {
                let Some(words) = of_tollgate(&words) else { continue };
                seen += 1;
                if let Some(what) = wrong_with(&cli, words) {
                    wrong.push(format!("{}:{line}: {what}: {}", page.name, words.join(" ")));
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_command_that_is_not_there_is_told() {
    let mut cli = Cli::command();
    cli.build();
    for (text, said) in [
        ("tollgate plan create x --rate 5", None),
        ("A=$(tollgate check --key $K --target a/b 2>> x | sed p)", None),
        ("cargo run --release -- --rules x", None),
        ("for i in 1; do ./target/release/tollgate apply -f -; done", None),
        ("tollgate apply -f - <<'EOF'", None),
        ("tollgate plan crate x", Some("`plan` has no `crate`")),
        ("tollgate plan create x --rat 5", Some("`create` has no --rat")),
        ("cargo run --release -- --rule x", Some("`tollgate` has no --rule")),
        ("X=1 tollgate apply -g x", Some("`apply` has no -g")),
        ("tollgate | tollgat", None),
    ] {
        let all = commands(text);
        let found = all.iter().filter_map(|words| wrong_with(&cli, of_tollgate(words)?)).next();
        assert_eq!(found.as_deref(), said, "{text}");
    }
}

/// Names of the tests of this binary.
fn tests() -> String {
    let this = std::env::current_exe().unwrap();
    let output = process::Command::new(this).arg("--list").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tests_and_benches_that_a_page_names_exist() {
    let (tests, mut wrong) = (tests(), Vec::new());
    for page in pages().iter().filter(|page| !tells_what_was(page)) {
        for (line, text) in shown(page) {
            for words in commands(&text) {
                let after = |flag: &str| {
                    let at = words.iter().position(|word| word == flag)?;
                    words[at + 1..].iter().find(|word| !word.starts_with('-') && *word != "…")
                };
                let mut place = words.iter();
                if !place.any(|word| word == "cargo") {
                    continue;
                }
                if let (Some(name), Some(_)) = (after("--bench"), after("bench")) {
                    let bench = root().join("benches").join(name);
                    if !bench.with_extension("rs").exists() && !bench.join("main.rs").exists() {
                        wrong.push(format!("{}:{line}: there is no bench {name}", page.name));
                    }
                }
                let filter = words.iter().skip_while(|word| *word != "it").nth(1);
                let filter = match filter.map(|word| &word[..]) {
                    Some("--") => words.iter().skip_while(|word| *word != "--").nth(1),
                    _ => filter,
                };
                if let Some(filter) = filter.filter(|word| !word.starts_with('-') && *word != "…")
                    && !tests.lines().any(|test| test.contains(&filter[..]))
                {
                    wrong.push(format!("{}:{line}: there is no test {filter}", page.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_settings_and_metrics_that_a_page_names_exist() {
    let groups: BTreeSet<&str> =
        SETTINGS.iter().filter_map(|setting| Some(setting.key.split_once('.')?.0)).collect();
    let list = fs::read_to_string(root().join("tests/stable/metrics.txt")).unwrap();
    let metrics: BTreeSet<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    let (mut wrong, mut seen) = (Vec::new(), [0; 3]);
    for page in pages().iter().filter(|page| !tells_what_was(page)) {
        for (line, code) in page.code() {
            let mut miss = |what: &str| wrong.push(format!("{}:{line}: {what} {code}", page.name));
            let folder = code.split('/').next().unwrap();
            let is_path = code.contains('/')
                && !code.contains(['*', '<', ' ', '…'])
                && ["src", "tests", "benches", "examples", "docs", "fuzz", ".ci", "proto"]
                    .contains(&folder);
            let word = code.split([':', '{', ' ']).next().unwrap();
            let is_name =
                |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.');
            if is_path {
                seen[0] += 1;
                if !root().join(&code).exists() {
                    miss("there is no file");
                }
            } else if let Some((group, _)) = word.split_once('.').filter(|_| is_name(word)) {
                let is_setting = groups.contains(group) && !FILES.contains(&word);
                seen[1] += usize::from(is_setting);
                if is_setting && !SETTINGS.iter().any(|setting| setting.key == word) {
                    miss("there is no setting");
                }
            } else if word.starts_with("tollgate_") && is_name(word) {
                seen[2] += 1;
                if !metrics.contains(word) {
                    miss("there is no metric");
                }
            }
        }
    }
    assert!(seen.iter().all(|&seen| seen > 20), "{seen:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
