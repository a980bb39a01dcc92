use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

fn settings(path: &Path) -> config::Rules {
    config::Rules {
        paths: vec![path.to_owned()],
        merge_domains: false,
        ignore_dotfiles: true,
        any_extension: false,
        prefix: String::new(),
        poll_ms: 1000,
    }
}

fn open(path: &Path) -> Rulebook {
    Rulebook::open(settings(path), Arc::new(Metrics::new())).unwrap()
}

fn rules(domain: &str, requests: u32) -> String {
    format!(
        "domain: {domain}\ndescriptors:\n  - {{key: k, rate_limit: {{unit: minute, requests_per_unit: {requests}}}}}\n"
    )
}

/// `a:5 b:7`: the domains in force and what they allow.
fn in_force(book: &Rulebook) -> String {
    let current = book.current();
    let mut domains: Vec<String> = current
        .as_ref()
        .unwrap()
        .rules
        .rules()
        .map(|rule| match rule.limit {
            Limit::Window(per) => format!("{}:{}", rule.domain, per.requests),
            _ => "?".to_owned(),
        })
        .collect();
    domains.sort();
    domains.join(" ")
}

#[test]
fn an_edit_a_move_a_new_file_and_a_removed_file_come_into_force() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, rules("a", 1)).unwrap();
    let book = open(folder.path());
    assert_eq!(in_force(&book), "a:1");

    // In place, with the same length and, on a coarse clock, the same time.
    fs::write(&file, rules("a", 2)).unwrap();
    book.refresh();
    assert_eq!(in_force(&book), "a:2");

    let next = folder.path().join("a.next");
    fs::write(&next, rules("a", 3)).unwrap();
    fs::rename(&next, &file).unwrap();
    book.refresh();
    assert_eq!(in_force(&book), "a:3");

    fs::create_dir(folder.path().join("more")).unwrap();
    fs::write(folder.path().join("more/b.yml"), rules("b", 7)).unwrap();
    book.refresh();
    assert_eq!(in_force(&book), "a:3 b:7");

    fs::remove_file(&file).unwrap();
    book.refresh();
    assert_eq!(in_force(&book), "b:7");
}

#[test]
fn a_mounted_config_map_is_read_once_and_swapped_whole() {
    let mount = tempfile::tempdir().unwrap();
    let version = |name: &str, requests| {
        fs::create_dir(mount.path().join(name)).unwrap();
        fs::write(mount.path().join(name).join("rules.yaml"), rules("a", requests)).unwrap();
    };
    version("..2026_1", 1);
    symlink("..2026_1", mount.path().join("..data")).unwrap();
    symlink("..data/rules.yaml", mount.path().join("rules.yaml")).unwrap();
    let book = open(mount.path());
    assert_eq!(in_force(&book), "a:1");

    version("..2026_2", 2);
    symlink("..2026_2", mount.path().join("..data_tmp")).unwrap();
    fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
    fs::remove_dir_all(mount.path().join("..2026_1")).unwrap();
    book.refresh();
    assert_eq!(in_force(&book), "a:2");
}

#[test]
fn what_cannot_be_used_leaves_the_old_rules_and_says_so_until_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, rules("a", 1)).unwrap();
    let book = open(folder.path());
    let metric = |name: &str| {
        book.metrics
            .render()
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap()
            .to_owned()
    };
    for (index, bad) in
        ["domain: [", "domain: a\nratelimit: {}", "\u{0}", &"[".repeat(100_000), "- a\n- b"]
            .iter()
            .enumerate()
    {
        fs::write(&file, bad).unwrap();
        book.refresh();
        book.refresh();
        assert_eq!(in_force(&book), "a:1");
        assert!(
            book.describe().starts_with(&format!("# not in force: {}", file.display())),
            "{}",
            book.describe()
        );
        assert_eq!(
            metric("ratelimit_service_config_load_error"),
            format!("ratelimit_service_config_load_error {}", index + 1)
        );
    }
    fs::write(&file, [0xff, 0xfe]).unwrap();
    book.refresh();
    assert!(book.describe().contains("byte 0 is not UTF-8"), "{}", book.describe());
    // A file beside it that repeats the domain: nothing of either comes into force.
    fs::write(&file, rules("a", 5)).unwrap();
    fs::write(folder.path().join("b.yaml"), rules("a", 6)).unwrap();
    book.refresh();
    assert_eq!(in_force(&book), "a:1");
    assert!(book.describe().contains("duplicate domain 'a' in config file"));
    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    book.refresh();
    assert_eq!(in_force(&book), "a:5");
    assert!(!book.describe().contains("not in force"));
    assert_eq!(
        metric("ratelimit_service_config_load_success"),
        "ratelimit_service_config_load_success 2"
    );
}

#[test]
fn a_named_file_that_is_gone_keeps_its_rules_and_a_first_start_without_it_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    assert!(
        Rulebook::open(settings(&file), Arc::new(Metrics::new()))
            .unwrap_err()
            .contains("cannot be read")
    );
    fs::write(&file, rules("a", 1)).unwrap();
    let book = open(&file);
    fs::remove_file(&file).unwrap();
    book.refresh();
    assert_eq!(in_force(&book), "a:1");
    assert!(book.describe().contains("cannot be read"));
    fs::write(&file, rules("a", 2)).unwrap();
    book.refresh();
    assert_eq!(in_force(&book), "a:2");
}

#[test]
fn only_rules_files_of_a_directory_are_read_unless_all_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.yaml", "b.txt", ".c.yaml", "d.yaml~"] {
        fs::write(folder.path().join(name), rules(name, 1)).unwrap();
    }
    assert_eq!(in_force(&open(folder.path())), "a.yaml:1");
    let all =
        config::Rules { any_extension: true, ignore_dotfiles: false, ..settings(folder.path()) };
    let book = Rulebook::open(all, Arc::new(Metrics::new())).unwrap();
    assert_eq!(in_force(&book), ".c.yaml:1 a.yaml:1 b.txt:1 d.yaml~:1");
    symlink(folder.path(), folder.path().join("loop")).unwrap();
    assert!(
        Rulebook::open(settings(folder.path()), Arc::new(Metrics::new()))
            .unwrap_err()
            .contains("nest deeper")
    );
}

#[test]
fn what_goes_beyond_the_reference_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let limits = [
        (
            "{unit: month, requests_per_unit: 5, calendar: true, durable: true}",
            "unit=MONTH requests_per_unit=5 calendar=true",
            true,
        ),
        (
            "{unit: minute, unit_multiplier: 2, requests_per_unit: 5, durable: true}",
            "unit=MINUTE unit_multiplier=2 requests_per_unit=5",
            true,
        ),
        (
            "{unit: year, requests_per_unit: 5, calendar: true}",
            "unit=YEAR requests_per_unit=5 calendar=true",
            false,
        ),
    ];
    for (declared, shown, durable) in limits {
        fs::write(
            &file,
            format!("{{domain: a, descriptors: [{{key: k, rate_limit: {declared}}}]}}"),
        )
        .unwrap();
        let durable = if durable { ", durable: true" } else { "" };
        assert_eq!(
            open(&file).describe(),
            format!("a.k: {shown}, shadow_mode: false, quota_mode: false{durable}\n")
        );
    }
}

#[test]
fn warnings_name_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, "domain: a\ndescriptors:\n  - key: k\n    rate_limit: {unit: minute}\n")
        .unwrap();
    let text = open(&file).describe();
    assert!(text.contains(&format!("# warning: {}:4: ", file.display())), "{text}");
    assert!(
        text.contains(
            "a.k: unit=MINUTE requests_per_unit=0, shadow_mode: false, quota_mode: false\n"
        ),
        "{text}"
    );
}

#[test]
fn readers_see_one_edition_or_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let write = |requests| {
        let text = rules("a", requests);
        fs::write(folder.path().join("next"), text).unwrap();
        fs::rename(folder.path().join("next"), folder.path().join("a.yaml")).unwrap();
        fs::write(folder.path().join("next"), rules("b", requests)).unwrap();
        fs::rename(folder.path().join("next"), folder.path().join("b.yaml")).unwrap();
    };
    write(0);
    let book = open(folder.path());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let seen = in_force(&book);
                let (a, b) = seen.split_once(' ').unwrap();
                assert_eq!(a[2..], b[2..], "half a reload: {seen}");
            }
        });
        for requests in 1..50 {
            write(requests);
            book.refresh();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(in_force(&book), "a:49 b:49");
}

#[test]
fn what_is_no_file_is_looked_at_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), rules("a", 1)).unwrap();
    let book = open(folder.path());
    let pipe = folder.path().join("b.yaml");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    fs::write(folder.path().join("a.yaml"), rules("a", 2)).unwrap();
    book.refresh();
    assert_eq!(in_force(&book), "a:1");
    assert!(
        book.describe().contains("b.yaml: cannot be read: it is a FIFO"),
        "{}",
        book.describe()
    );
    let refused = Rulebook::open(settings(folder.path()), Arc::new(Metrics::new())).unwrap_err();
    assert!(refused.contains("it is a FIFO"), "{refused}");
    fs::remove_file(&pipe).unwrap();
    book.refresh();
    assert_eq!(in_force(&book), "a:2");
}

#[test]
fn what_is_passed_over_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.yaml", "b.YAML", "c.json", "notes.txt"] {
        fs::write(folder.path().join(name), rules("a", 1)).unwrap();
    }
    let shown = open(folder.path()).describe();
    assert!(
        shown.contains("b.YAML: it was not read")
            && shown.contains("c.json: it was not read")
            && !shown.contains("notes"),
        "{shown}"
    );
}

#[test]
fn a_second_document_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), format!("{}---\n{}", rules("a", 1), rules("b", 1)))
        .unwrap();
    let book = open(folder.path());
    assert_eq!(in_force(&book), "a:1");
    assert!(
        book.describe().contains("a.yaml:4: a second document starts here, and is not read"),
        "{}",
        book.describe()
    );
}

#[test]
fn a_prefix_chooses_files_by_their_path_with_dots() {
    let folder = tempfile::tempdir().unwrap();
    for (name, domain) in [
        ("config/x.yaml", "a"),
        ("config.db", "b"),
        ("other/config.yaml", "c"),
        ("configuration.yaml", "d"),
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, rules(domain, 1)).unwrap();
    }
    let settings = config::Rules {
        prefix: "config.".to_owned(),
        any_extension: true,
        ..settings(folder.path())
    };
    let book = Rulebook::open(settings, Arc::new(Metrics::new())).unwrap();
    assert_eq!(in_force(&book), "a:1 b:1");
    assert_eq!(book.summary(), "2 rules in 2 domains, no warnings");
}

#[test]
fn errors_name_file_line_and_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let refused = |text: &str| {
        fs::write(&file, text).unwrap();
        Rulebook::open(settings(folder.path()), Arc::new(Metrics::new())).unwrap_err()
    };
    let unit = refused(
        "domain: d\ndescriptors:\n- key: a\n  rate_limit: {unit: minutes, requests_per_unit: 1}\n",
    );
    assert!(
        unit.contains("a.yaml:4: invalid rate limit unit 'minutes' (one of second, minute"),
        "{unit}"
    );
    let key = refused(
        "domain: d\ndescriptors:\n- key: a\n  rate_limit: {unit: minute, request_per_unit: 1}\n",
    );
    assert!(key.contains("a.yaml:4: config error, unknown key 'request_per_unit' (did you mean requests_per_unit?)"), "{key}");
    let envoy = refused("admin: {address: {}}\n");
    assert!(envoy.contains("looks like a configuration of Envoy"), "{envoy}");
}
