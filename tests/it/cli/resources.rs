//! Plans, targets, subscribers and keys, one by one.

use std::fmt::Write;

use super::{Shell, ids};

#[test]
fn a_plan_is_made_changed_attached_and_deleted_by_flags() {
    let shell = Shell::start();
    shell.ok("plan create gold --display-name Gold --target orders/prod --rate 20 --burst 40 --quota daily=100/day --label team=api");
    shell.ok("plan attach gold users/prod");
    shell.ok("target attach reports/prod gold --entitlement default");
    shell.ok("plan detach gold orders/prod");
    shell.ok("plan update gold --quota monthly=2000/month@Asia/Seoul:allow --description Best");
    let shown = shell.ok("plan get gold");
    let lines: Vec<&str> = shown
        .lines()
        .filter(|line| !["etag", "created", "updated"].iter().any(|name| line.starts_with(name)))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    plan          gold
    display name  Gold
    description   Best
    labels        team=api
    entitlement   default
      targets     users/prod, reports/prod
      rate limit  20/s, burst 40
      quota       monthly=2000/month@Asia/Seoul:allow
    ");
    shell.ok("target detach reports/prod gold");
    let plan = shell.json("plan update gold --no-rate --no-quotas --no-labels");
    let left = serde_json::json!([{
        "name": "default", "description": "", "targets": ["users/prod"], "rateLimit": null, "methodRateLimits": [], "quotas": [],
        "counterScope": "SUBSCRIBER"
    }]);
    assert_eq!(plan["entitlements"], left, "every field is there");

    shell.ok("target set-default-plan users/prod gold");
    shell.refused("plan delete gold", 5, "users/prod");
    shell.ok("target set-default-plan users/prod --none");
    assert_eq!(shell.ok("plan delete gold"), "deleted plan gold\n");
    shell.refused("plan get gold", 4, "there is no plan `gold`");
}

#[test]
fn a_target_that_an_edit_makes_is_told_with_what_is_near() {
    let shell = Shell::start();
    shell.ok("target create orders/prod");
    let ran = shell.run("plan create gold --target orders/prod,orders/prd,users/prod");
    assert_eq!(
        ran.stderr,
        "tollgate: created target orders/prd; near: orders/prod\ntollgate: created target users/prod\n"
    );
    let ran = shell.run("plan update gold --rate 5");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let ran = shell.run("plan attach gold reports/prod");
    assert_eq!(ran.stderr, "tollgate: created target reports/prod\n");
    let ran = shell.run("plan create dry --target orders/pord --validate-only");
    assert!(!ran.stderr.contains("created"), "{ran:?}");
}

#[test]
fn a_plan_of_many_targets_makes_no_list_wide() {
    let shell = Shell::start();
    let targets: Vec<String> = (0..1_000).map(|i| format!("service-{i}/prod")).collect();
    let mut file = format!(
        "plans:\n- {{id: all, entitlements: [{{name: e, targets: [{}]}}]}}\n",
        targets.join(", ")
    );
    (0..100).for_each(|i| {
        writeln!(
            file,
            "- {{id: tenant-{i}, entitlements: [{{name: e, targets: [service-{i}/prod]}}]}}"
        )
        .unwrap()
    });
    assert_eq!(shell.run_with(&["apply", "-f", "-"], &file).code, 0);
    let list = shell.ok("plan list");
    assert!(list.contains("service-0/prod, service-1/prod and 998 more"), "{list}");
    assert!(list.lines().all(|line| line.len() < 160), "{list}");
    assert!(shell.ok("plan get all").contains("service-998/prod, service-999/prod"));
}

#[test]
fn flags_of_the_client_stand_before_the_command_too() {
    let shell = Shell::start();
    let elsewhere = Shell::at(([127, 0, 0, 1], 1).into());
    let ran = elsewhere.run(&format!("--server {} --output json plan list", shell.addr));
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "{\n  \"nextPageToken\": \"\",\n  \"totalSize\": 0,\n  \"usagePlans\": []\n}\n"),
        "{ran:?}"
    );
    let ran = elsewhere.run("--grpc-addr 127.0.0.1:0 plan list");
    assert!(ran.code == 2 && ran.stderr.contains("cannot be used with"), "{ran:?}");
}

#[test]
fn an_update_by_flags_leaves_the_other_entitlements() {
    let shell = Shell::start();
    shell.ok("plan create --from-json examples/plans/gold-oci.json");
    shell.refused(
        "plan update gold --rate 5",
        2,
        "say which entitlement is meant with --entitlement: shop, reports",
    );
    let update = "plan update gold --entitlement reports --burst 9 --request-id twice";
    shell.ok(update);
    let plan = shell.json(update);
    assert_eq!(
        plan["entitlements"][1]["rateLimit"],
        serde_json::json!({"requestsPerSecond": 2.0, "burst": 9})
    );
    assert_eq!(plan["entitlements"][0]["quotas"][0]["limit"], 1000);
    assert_eq!(plan["displayName"], "Gold");
}

#[test]
fn targets_and_subscribers_are_kept_by_flags() {
    let shell = Shell::start();
    let args = [
        "target",
        "create",
        "orders/prod",
        "--rate",
        "50",
        "--open",
        "GET /health",
        "--method-rate",
        "GET /users/{id}=5,10",
    ];
    assert_eq!(shell.run_with(&args, "").code, 0);
    let target = shell.json("target update orders/prod --display-name Orders --no-rate");
    assert_eq!(
        (&target["displayName"], target.get("rateLimit")),
        (&"Orders".into(), Some(&serde_json::Value::Null))
    );
    assert_eq!(target["openMethods"], serde_json::json!([{"method": "GET", "path": "/health"}]));
    assert_eq!(target["methodRateLimits"][0]["burst"], 10);

    shell.ok("plan create free");
    shell.ok("plan create gold");
    assert_eq!(
        shell.json("subscriber create acme --plan gold --plan free")["plans"],
        serde_json::json!(["gold", "free"])
    );
    let from_file = shell
        .run_with(&["subscriber", "update", "acme", "--from-json", "-"], "plans: [free, gold]\n");
    assert_eq!(from_file.code, 0, "{from_file:?}");
    assert_eq!(
        shell.json("subscriber get acme")["plans"],
        serde_json::json!(["free", "gold"]),
        "their order counts"
    );
    shell.refused("subscriber create acme", 5, "the subscriber `acme` exists already");
    shell.refused("subscriber update acme --plan silver", 2, "silver");
    shell.refused("subscriber update acme", 2, "nothing to change");

    let etag = shell.json("subscriber get acme")["etag"].as_str().unwrap().to_owned();
    shell.ok(&format!("subscriber update acme --etag {etag} --no-plans"));
    shell.refused(
        &format!("subscriber update acme --etag {etag} --display-name A"),
        5,
        "was edited since",
    );
    shell.refused(&format!("subscriber delete acme --etag {etag}"), 5, "was edited since");
    assert_eq!(shell.ok("subscriber delete acme --validate-only"), "");
    assert_eq!(shell.ok("subscriber delete acme"), "deleted subscriber acme\n");
    shell.ok("target delete orders/prod");
    shell.refused("target get orders/prod", 4, "there is no target `orders/prod`");
}

#[test]
fn the_value_of_a_key_is_printed_once_and_alone() {
    let shell = Shell::start();
    shell.ok("plan create gold --target a");
    shell.ok("subscriber create acme --plan gold");

    let valid = shell.run("key create k0 --subscriber acme --validate-only");
    assert!(valid.code == 0 && valid.stderr.contains("nothing was changed"), "{valid:?}");
    let made = shell.run("key create k1 --subscriber acme --request-id once");
    let value = made.stdout.strip_suffix('\n').unwrap();
    assert!(
        made.code == 0 && value.starts_with("tg_") && !value.contains(char::is_whitespace),
        "{made:?}"
    );
    assert!(made.stderr.contains("k1") && !made.stderr.contains(value), "{made:?}");
    shell.refused(
        "key create k1 --subscriber acme --request-id once",
        1,
        "its value was in that answer alone",
    );
    assert!(!shell.ok("key get k1 --output json").contains(value));
    shell.ok(&format!("check --key {value} --target a"));

    shell.ok("key disable k1");
    assert_eq!(denied(&shell, value), "API_KEY_DISABLED");
    shell.ok("key enable k1");
    shell.ok(&format!("check --key {value} --target a"));
    shell.ok("key update k1 --expires 2001-01-01T00:00:00Z");
    assert_eq!(denied(&shell, value), "API_KEY_EXPIRED");
    shell.ok("key update k1 --expires 24h");
    let (made, ends) = (shell.json("key get k1"), shell.json("key get k1"));
    let seconds = |time: &serde_json::Value| {
        time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second()
    };
    let left = seconds(&ends["expireTime"]) - seconds(&made["updateTime"]);
    assert!((86_390..=86_400).contains(&left), "{left} s");
    shell.ok(&format!("check --key {value} --target a"));
    shell.ok("key update k1 --no-expiry --not-before 2500-01-01T00:00:00+09:00");
    assert_eq!(denied(&shell, value), "API_KEY_NOT_YET_VALID");
    assert!(shell.ok("key list").contains("2499-12-31T15:00:00Z"));
    shell.ok("key delete k1");
    assert_eq!(denied(&shell, value), "API_KEY_UNKNOWN");

    let made = shell.json("key create --subscriber acme");
    assert_eq!(ids(&shell.json("key list")["apiKeys"]), [made["apiKey"]["id"].as_str().unwrap()]);
    shell.ok(&format!("check --key {} --target a", made["value"].as_str().unwrap()));
}

fn denied(shell: &Shell, value: &str) -> String {
    let ran = shell.run(&format!("check --key {value} --target a --output json"));
    assert_eq!((ran.code, ran.stderr.as_str()), (3, ""), "{ran:?}");
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    answer["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_key_is_imported_from_a_file_or_a_pipe() {
    let shell = Shell::start();
    shell.ok("plan create gold --target a");
    shell.ok("subscriber create acme --plan gold");
    let value = "an-imported-key-of-20-characters-or-more";
    let import = |id: &str, stdin: &str| {
        shell.run_with(&["key", "import", id, "--subscriber", "acme", "--value-file", "-"], stdin)
    };
    let imported = import("k1", &format!("{value}\n"));
    assert!(
        imported.code == 0
            && imported.stdout.contains("...more")
            && !imported.stdout.contains(value),
        "{imported:?}"
    );
    assert_eq!(shell.run_with(&["check", "--key-file", "-", "--target", "a"], value).code, 0);
    assert_eq!(import("k2", value).code, 5, "a value that is in use");
    assert_eq!(import("k2", "short").code, 2);
    assert_eq!(import("k2", "").code, 2);
    assert_eq!(import("k2", "two\nlines\n").code, 2);
    shell.refused("subscriber delete acme", 5, "k1");
    shell.ok("subscriber delete acme --force");
    shell.refused("key get k1", 4, "there is no key `k1`");
}

#[test]
fn lists_are_of_everything_unless_a_page_is_asked_for() {
    let shell = Shell::start();
    let mut file = String::from("targets:\n");
    (0..450)
        .for_each(|n| writeln!(file, "  - {{id: t{n:03}, displayName: Stage {}}}", n % 2).unwrap());
    assert_eq!(shell.run_with(&["apply", "-f", "-"], &file).code, 0);

    let all = shell.ok("target list");
    assert_eq!(all.lines().count(), 452);
    assert!(all.ends_with("total: 450 targets\n"));
    let list = shell.json("target list");
    assert_eq!((ids(&list["targets"]).len(), &list["totalSize"]), (450, &450.into()));

    let page = shell.json("target list --page-size 400");
    assert_eq!(ids(&page["targets"]).len(), 400);
    let token = page["nextPageToken"].as_str().unwrap();
    assert!(
        shell
            .ok(&format!("target list --page-size 400 --page-token {token}"))
            .ends_with("total: 450 targets, the last 50 of them here\n")
    );
    let few = shell.run_with(
        &[
            "target",
            "list",
            "--filter",
            "\"stage 1\"",
            "--order-by",
            "id desc",
            "--page-size",
            "2",
            "--output",
            "json",
        ],
        "",
    );
    let few: serde_json::Value = serde_json::from_str(&few.stdout).unwrap();
    assert_eq!((ids(&few["targets"]), &few["totalSize"]), (vec!["t449", "t447"], &225.into()));
    shell.refused("target list --order-by size", 2, "order_by");
}
