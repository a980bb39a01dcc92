//! `apply`, and plans out of files.

use std::fs;

use tempfile::TempDir;

use super::{Shell, ids};

const TIERS: &str = "examples/plans/aws-tiers.yaml";
const GOLD: &str = "examples/plans/gold-oci.json";

#[test]
fn the_tiers_are_applied_once_and_then_there_is_nothing_to_do() {
    let shell = Shell::start();
    let diff = "+ target orders/prod\n+ target users/prod\n+ plan free\n+ plan premium\n+ plan dev\n\
        + subscriber sam\n+ key sam-1\n+ subscriber acme\n+ key acme-1\n+ subscriber studio\n+ key studio-1\n";

    let dry = shell.run(&format!("apply -f {TIERS} --dry-run"));
    assert_eq!((dry.code, dry.stdout.as_str()), (0, diff));
    assert_eq!(dry.stderr, "tollgate: nothing was changed (--dry-run); it would be: 11 created, 0 updated, 0 deleted\n");
    assert!(shell.ok("plan list").ends_with("total: 0 plans\n"));

    let done = shell.run(&format!("apply -f {TIERS}"));
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), (diff, "tollgate: 11 created, 0 updated, 0 deleted\n"));
    let again = shell.run(&format!("apply -f {TIERS} --prune"));
    assert_eq!((again.code, again.stdout.as_str()), (0, ""));
    assert_eq!(again.stderr, "tollgate: nothing to change: all is as the files say\n");

    insta::assert_snapshot!(shell.ok("plan list"), @r"
    PLAN     NAME        ENTITLEMENT  TARGETS                  RATE LIMIT          QUOTAS
    dev      Developers  api          orders/prod, users/prod  1000/s, burst 2000  no quota
    free     Free tier   api          orders/prod, users/prod  no rate limit       daily=10/day
    premium  Premium     api          orders/prod, users/prod  20/s, burst 40      daily=100/day
    total: 3 plans
    ");
    insta::assert_snapshot!(shell.ok("target list"), @r"
    TARGET       NAME                RATE LIMIT OF ALL TRAFFIC  OPEN METHODS  DEFAULT PLAN
    orders/prod  Orders, production  5000/s, burst 5000         GET /health   no default plan
    users/prod   Users, production   no rate limit              none          no default plan
    total: 2 targets
    ");
    insta::assert_snapshot!(shell.ok("subscriber list"), @r"
    SUBSCRIBER  NAME                    PLANS
    acme        Acme Inc.               premium
    sam         Sam, trying things out  free
    studio      Studio                  dev
    total: 3 subscribers
    ");
    insta::assert_snapshot!(shell.ok("key list"), @r"
    KEY       SUBSCRIBER  NAME      VALUE    STATE    VALID FROM  VALID UNTIL
    acme-1    acme        acme-1    ...0001  enabled  always      no expiry
    sam-1     sam         sam-1     ...0001  enabled  always      no expiry
    studio-1  studio      studio-1  ...o-01  enabled  always      no expiry
    total: 3 keys
    ");
    // A target that needs no key, and each tier's own limits.
    shell.ok("check --target orders/prod --method GET --path /health");
    let limits = |key: &str| {
        let answer = shell.json(&format!("check --key {key} --target users/prod"));
        answer["limits"].as_array().map(|limits| limits.iter().map(|limit| limit["limit"].as_u64().unwrap()).collect::<Vec<_>>()).unwrap()
    };
    assert_eq!(limits("example-key-of-sam-00001"), [10]);
    assert_eq!(limits("example-key-of-acme-0001"), [40, 100]);
    assert_eq!(limits("example-key-of-studio-01"), [2000]);
}

#[test]
fn several_files_are_one_and_only_prune_deletes() {
    let shell = Shell::start();
    shell.ok(&format!("apply -f {TIERS}"));
    let folder = TempDir::new().unwrap();
    let (plans, others) = (folder.path().join("plans.json"), folder.path().join("others.yaml"));
    fs::write(&plans, r#"{"plans": [{"id": "gold", "displayName": "Gold"}]}"#).unwrap();
    fs::write(&others, "subscribers:\n  - {id: acme, displayName: Acme Inc., plans: [gold]}\n---\ntargets: [orders/prod]\n").unwrap();
    let files = format!("-f {} {}", plans.display(), others.display());

    let expected = "~ target orders/prod (display_name, rate_limit, open_methods)\n+ plan gold\n~ subscriber acme (plans)\n";
    assert_eq!(shell.ok(&format!("apply {files} --dry-run")), expected);
    assert_eq!(shell.ok(&format!("apply {files}")), expected);
    assert_eq!(shell.json("plan list")["totalSize"], 4);

    let pruned = shell.ok(&format!("apply {files} --prune"));
    assert!(pruned.lines().all(|line| line.starts_with("- ")), "{pruned}");
    assert!(
        pruned.contains("- key acme-1\n") && pruned.contains("- plan premium\n") && pruned.contains("- target users/prod\n"),
        "{pruned}"
    );
    assert_eq!(ids(&shell.json("plan list")["usagePlans"]), ["gold"]);
    assert_eq!(ids(&shell.json("key list")["apiKeys"]), Vec::<&str>::new());
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_says_where() {
    let shell = Shell::start();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("bad.yaml");
    let path = file.display().to_string();
    for (text, said) in [
        ("plans: [{id: gold}]\nplans: []\n", format!("{path}: line 2: `plans` is there already")),
        ("plans: [{id: gold, entitlments: []}]\n", format!("{path}: plans[0]: entitlments is not a field of UsagePlan")),
        ("subscribers: [{id: acme, keys: [{id: k, value: 7}]}]\n", format!("{path}: subscribers[0]: keys[0]: value must be a text")),
        ("plans: [\n", format!("{path}: line ")),
        // These only the server can know.
        ("plans: [{id: gold}]\nsubscribers: [{id: beta, plans: [silver]}]\n", "silver".to_owned()),
        (
            "plans: [{id: gold, entitlements: [{name: a, targets: [t]}, {name: b, targets: [t]}]}]\n",
            "entitlements[1].targets[0]".to_owned(),
        ),
    ] {
        fs::write(&file, text).unwrap();
        shell.refused(&format!("apply -f {TIERS} -f {path}"), 2, &said);
    }
    shell.refused("apply -f no/such/file.yaml", 2, "no/such/file.yaml: ");
    assert!(shell.ok("target list").ends_with("total: 0 targets\n"), "all or nothing");

    let ran = shell.run_with(&["apply", "-f", "-"], "plans: [{id: gold, quota: 1}]");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("standard input: plans[0]"), "{ran:?}");
}

#[test]
fn a_usage_plan_file_of_oci_is_read_as_it_is() {
    let shell = Shell::start();
    let plan = shell.json(&format!("plan create --from-json {GOLD}"));
    assert_eq!((&plan["id"], &plan["displayName"]), (&"gold".into(), &"Gold".into()));
    assert_eq!(plan["labels"], serde_json::json!({"compartmentId": "ocid1.compartment.oc1..example", "team": "api-products"}));
    insta::assert_snapshot!(shell.ok("plan list"), @r"
    PLAN  NAME  ENTITLEMENT  TARGETS                  RATE LIMIT      QUOTAS
    gold  Gold  shop         orders/prod, users/prod  20/s, burst 20  day=1000/day
    gold  Gold  reports      reports/prod             2/s, burst 2    month=500/month:allow
    total: 1 plan
    ");
    assert_eq!(shell.json("target list")["totalSize"], 3, "targets that nobody knew are registered");
}

#[test]
fn what_get_prints_update_reads_and_a_stale_copy_is_refused() {
    let shell = Shell::start();
    shell.ok(&format!("plan create --from-json {GOLD}"));
    let copy = shell.ok("plan get gold --output json");
    let edited = copy.replace("\"limit\": 1000", "\"limit\": 900");
    assert_ne!(copy, edited);

    let ran = shell.run_with(&["plan", "update", "--from-json", "-"], &edited);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("day=900/day"), "{ran:?}");
    let stale = shell.run_with(&["plan", "update", "--from-json", "-"], &edited);
    assert_eq!(stale.code, 5, "{stale:?}");
    assert!(stale.stderr.contains("was edited since"), "{stale:?}");
}
