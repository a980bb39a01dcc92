//! Checks, reports, usage and grants.

use super::Shell;

const KEY: &str = "an-imported-key-of-20-characters-or-more";

/// A subscriber with a plan of these flags over the target `a`.
fn shop(plan: &str) -> Shell {
    let shell = Shell::start();
    shell.ok(&format!("plan create gold --target a {plan}"));
    shell.ok("subscriber create acme --plan gold");
    shell.ok(&format!("key import k1 --subscriber acme --value {KEY}"));
    shell
}

fn receipt(shell: &Shell) -> String {
    shell.json(&format!("check --key {KEY} --target a"))["receipt"].as_str().unwrap().to_owned()
}

/// What is used and what remains of the quota.
fn books(shell: &Shell) -> (u64, u64) {
    let usage = shell.json("usage --subscriber acme");
    let quota = &usage["quotas"][0];
    (quota["used"].as_u64().unwrap_or(0), quota["remaining"].as_u64().unwrap_or(0))
}

#[test]
fn a_404_is_charged_a_503_is_not_and_the_usage_shows_it() {
    let shell = shop("--quota yearly=3/year");
    let (found, failed) = (receipt(&shell), receipt(&shell));
    assert_eq!(books(&shell), (2, 1));
    assert_eq!(shell.ok(&format!("report --receipt {found} --status 404")), "COUNTED\n");
    assert_eq!(books(&shell), (2, 1));
    assert_eq!(shell.ok(&format!("report --receipt {failed} --status 503")), "REFUNDED\n");
    assert_eq!(books(&shell), (1, 2));
    assert_eq!(shell.ok(&format!("report --receipt {failed} --status 503")), "DUPLICATE\n");

    for (ending, settled) in [
        ("--no-response", "REFUNDED\n"),
        ("--caller-gone", "COUNTED\n"),
        ("--grpc-status 14", "REFUNDED\n"),
        ("--grpc-status 5", "COUNTED\n"),
    ] {
        shell
            .ok("grant --subscriber acme --plan gold --entitlement default --quota yearly --reset");
        assert_eq!(
            shell.ok(&format!("report --receipt {} {ending}", receipt(&shell))),
            settled,
            "{ending}"
        );
    }
    let usage = shell.ok("usage --key k1");
    assert!(usage.contains("4xx=2, 5xx=2, caller_gone=1, no_response=1"), "{usage}");

    let forged = shell.run("report --receipt forged --status 503");
    assert_eq!((forged.code, forged.stdout.as_str()), (2, "INVALID\n"), "{forged:?}");
}

#[test]
fn a_denial_exits_with_3_and_a_grant_ends_it() {
    let shell = shop("--quota yearly=2/year");
    let check = format!("check --key {KEY} --target a");
    shell.ok(&check);
    shell.ok(&format!("{check} --cost 0"));
    shell.ok(&check);
    for cost in ["", " --cost 0"] {
        let denied = shell.run(&format!("{check}{cost}"));
        assert_eq!((denied.code, denied.stderr.as_str()), (3, ""), "{denied:?}");
        assert!(
            denied.stdout.contains("QUOTA_EXCEEDED") && denied.stdout.contains("429"),
            "{denied:?}"
        );
    }
    let grant = "grant --subscriber acme --plan gold --entitlement default --quota yearly";
    assert!(shell.ok(&format!("{grant} --add 1 --request-id g1")).contains("2, +1 granted"));
    assert!(
        shell.ok(&format!("{grant} --add 1 --request-id g1")).contains("2, +1 granted"),
        "a retry grants nothing"
    );
    shell.ok(&check);
    assert_eq!(shell.run(&check).code, 3);
    assert_eq!(shell.json(&format!("{grant} --set-remaining 5"))["remaining"], 5);
    assert_eq!(books(&shell), (3, 5));

    shell.refused(&format!("{grant}s --add 1"), 2, "quota");
    shell.refused(
        "grant --subscriber nobody --plan gold --entitlement default --quota yearly --add 1",
        4,
        "there is no subscriber `nobody`",
    );
    shell.refused("usage --plan silver", 4, "there is no plan `silver`");
    shell.refused("usage --from 2026-13-01", 2, "start_date must be a date");
}

#[test]
fn a_rate_is_refused_with_the_time_to_wait_and_what_can_never_pass_says_so() {
    let shell = shop("--rate 0.001 --burst 2 --quota yearly=100/year");
    let check = format!("check --key {KEY} --target a --method GET --path /x");
    shell.ok(&format!("{check} --cost 2"));
    let denied = shell.run(&check);
    assert!(
        denied.code == 3
            && denied.stdout.contains("RATE_EXCEEDED")
            && denied.stdout.contains("retry after  16 min"),
        "{denied:?}"
    );
    let never = shell.run(&format!("{check} --cost 3"));
    assert!(never.code == 3 && never.stdout.contains("never: waiting does not help"), "{never:?}");
    let elsewhere = shell.run(&format!("check --key {KEY} --target b"));
    assert!(elsewhere.code == 3 && elsewhere.stdout.contains("NOT_SUBSCRIBED"), "{elsewhere:?}");
    assert_eq!(elsewhere.stderr, "tollgate: there is no target `b`; near: a\n");
    assert!(!elsewhere.stdout.contains('\u{1b}'), "no colour where nobody looks");
    assert!(shell.run("check --target a").stdout.contains("API_KEY_MISSING"));
    assert_eq!(books(&shell), (2, 98), "refusals are not charged");
}

#[test]
fn what_was_never_used_is_0_of_so_many() {
    let shell = shop("--quota yearly=100/year --quota 7/minute");
    let usage = shell.json("usage --subscriber acme");
    let quotas = usage["quotas"].as_array().unwrap();
    let shown: Vec<_> = quotas
        .iter()
        .map(|quota| {
            (quota["quota"].as_str().unwrap(), &quota["used"], &quota["limit"], &quota["remaining"])
        })
        .collect();
    let numbers = [0, 100, 7].map(serde_json::Value::from);
    assert_eq!(
        shown,
        [
            ("minute", &numbers[0], &numbers[2], &numbers[2]),
            ("yearly", &numbers[0], &numbers[1], &numbers[1])
        ]
    );
    assert_eq!(usage["days"], serde_json::json!([]));
    assert!(shell.ok("usage --subscriber acme").contains("total: 2 periods"));
    shell.ok(&format!("check --key {KEY} --target a"));
    let usage = shell.json("usage --subscriber acme");
    assert_eq!(
        usage["quotas"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|quota| quota["quota"] == "yearly")
            .count(),
        1,
        "{usage}"
    );
    assert_eq!(
        shell.json("usage")["quotas"].as_array().unwrap().len(),
        usage["quotas"].as_array().unwrap().len()
    );
    assert_eq!(
        shell.json("usage --subscriber acme --from 2020-01-01 --to 2020-01-02")["quotas"],
        serde_json::json!([]),
        "those are over"
    );
}

#[test]
fn the_same_operation_gets_the_same_receipt() {
    let shell = shop("--quota yearly=3/year");
    let check = format!("check --key {KEY} --target a --operation-id once");
    let first = shell.json(&check)["receipt"].clone();
    assert_eq!(shell.json(&check)["receipt"], first);
    assert_eq!(books(&shell), (1, 2));
    shell.refused(&format!("{check} --cost 2"), 2, "operation_id");
    assert_eq!(
        shell.ok(&format!("report --receipt {} --status 200 --cost 3", first.as_str().unwrap())),
        "CORRECTED\n"
    );
    assert_eq!(books(&shell), (3, 0));
}
