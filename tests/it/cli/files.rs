//! `apply`, and plans out of files.

use std::fs;

use tempfile::TempDir;

use super::{Shell, ids};
use crate::server::{PATIENT, Tollgate};

const TIERS: &str = "examples/plans/aws-tiers.yaml";
const GOLD: &str = "examples/plans/gold-oci.json";

#[test]
fn the_tiers_are_applied_once_and_then_there_is_nothing_to_do() {
    let shell = Shell::start();
    let diff = "+ target orders/prod\n+ target users/prod\n+ plan free\n+ plan premium\n+ plan dev\n\
        + subscriber sam\n+ key sam-1\n+ subscriber acme\n+ key acme-1\n+ subscriber studio\n+ key studio-1\n";

    let dry = shell.run(&format!("apply -f {TIERS} --dry-run"));
    assert_eq!((dry.code, dry.stdout.as_str()), (0, diff));
    assert_eq!(
        dry.stderr,
        "tollgate: nothing was changed (--dry-run); it would be: 11 created, 0 updated, 0 deleted\n"
    );
    assert!(shell.ok("plan list").ends_with("total: 0 plans\n"));

    let done = shell.run(&format!("apply -f {TIERS}"));
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        (diff, "tollgate: 11 created, 0 updated, 0 deleted\n")
    );
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
        answer["limits"]
            .as_array()
            .map(|limits| {
                limits.iter().map(|limit| limit["limit"].as_u64().unwrap()).collect::<Vec<_>>()
            })
            .unwrap()
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
    let acme = "{id: acme, displayName: Acme Inc., plans: [gold], keys: []}";
    fs::write(
        &others,
        format!("subscribers:\n  - {acme}\n---\ntargets: [{{id: orders/prod, rateLimit: null}}]\n"),
    )
    .unwrap();
    let files = format!("-f {} {}", plans.display(), others.display());

    let expected = "~ target orders/prod (rate_limit)\n    rate_limit: 5000/s burst 5000 → none (removed)\n+ plan gold\n\
        ~ subscriber acme (plans)\n    plans: premium → gold\n";
    assert_eq!(shell.ok(&format!("apply {files} --dry-run")), expected);
    assert_eq!(shell.ok(&format!("apply {files}")), expected);
    assert_eq!(shell.json("plan list")["totalSize"], 4);

    shell.refused(
        &format!("apply {files} --prune"),
        5,
        "prune would delete 3 of 3 keys, more than half, and nothing was changed: acme-1, ",
    );
    let pruned = shell.ok(&format!("apply {files} --prune --prune-all"));
    assert!(pruned.lines().all(|line| line.starts_with("- ")), "{pruned}");
    assert!(
        pruned.contains("- key acme-1\n")
            && pruned.contains("- plan premium\n")
            && pruned.contains("- target users/prod\n"),
        "{pruned}"
    );
    assert_eq!(ids(&shell.json("plan list")["usagePlans"]), ["gold"]);
    assert_eq!(ids(&shell.json("key list")["apiKeys"]), Vec::<&str>::new());
}

#[test]
fn prune_deletes_nothing_of_what_the_files_do_not_speak_of() {
    let shell = Shell::start();
    shell.ok(&format!("apply -f {TIERS}"));
    shell.ok("key create --subscriber acme");
    let apply =
        |text: &str, flags: &[&str]| shell.run_with(&[&["apply", "-f", "-"], flags].concat(), text);

    // What a template may have rendered to.
    for nothing in
        ["", "# nothing\n", "---\n", "{}", "null", "plans: []\n", "subscribers: []\ntargets: []\n"]
    {
        for flags in [&[][..], &["--prune"]] {
            let ran = apply(nothing, flags);
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{nothing:?}: {ran:?}");
            assert!(
                ran.stderr.contains(
                    "standard input: holds no target, plan or subscriber: nothing was changed"
                ),
                "{nothing:?}: {ran:?}"
            );
        }
    }
    for blank in [
        "subscribers:\n",
        "plans: [{id: free}]\nsubscribers:\n",
        "plans: [{id: free}]\nsubscribers: null\n",
    ] {
        let ran = apply(blank, &["--prune", "--prune-all"]);
        assert!(ran.code == 2 && ran.stderr.contains(": subscribers "), "{blank:?}: {ran:?}");
    }
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("empty.yaml");
    fs::write(&empty, "").unwrap();
    shell.refused(
        &format!("apply -f {TIERS} {} --prune", empty.display()),
        2,
        "empty.yaml: holds no target, plan or subscriber",
    );

    // A file of plans alone says nothing of customers.
    let plans = "plans: [{id: free}, {id: dev}, {id: premium}]\n";
    let ran = apply(plans, &["--prune"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    let ran = apply("subscribers: [{id: acme, keys: [{id: acme-1}]}, {id: sam}]\n", &["--prune"]);
    assert_eq!(
        (ran.code, ran.stdout.lines().count()),
        (0, 3),
        "studio and its key, and acme's other key: {ran:?}"
    );
    assert_eq!(shell.json("plan list")["totalSize"], 3);
    assert_eq!(ids(&shell.json("key list")["apiKeys"]), ["acme-1", "sam-1"]);

    let ran = apply("plans: [{id: free}]\nsubscribers: []\n", &["--prune"]);
    assert!(ran.code == 5 && ran.stderr.contains("--prune-all"), "{ran:?}");
    assert_eq!(apply("plans: [{id: free}]\n", &["--prune-all"]).code, 2, "it is for --prune");
}

#[test]
fn what_a_file_does_not_say_stays_as_it_is() {
    let shell = Shell::start();
    shell.ok(&format!("apply -f {TIERS}"));
    shell.ok("key disable acme-1");
    shell.ok("key update acme-1 --expires 2100-01-01T00:00:00Z --label a=b");
    shell.ok("target update orders/prod --default-plan free --label team=orders");
    let before = (shell.json("key get acme-1"), shell.json("target get orders/prod"));
    let again = shell.run(&format!("apply -f {TIERS}"));
    assert_eq!(again.stderr, "tollgate: nothing to change: all is as the files say\n");
    let second = "subscribers: [{id: acme, keys: [{id: acme-2, value: another-key-of-acme-0002}]}]\ntargets: [orders/prod]\n";
    assert_eq!(shell.run_with(&["apply", "-f", "-"], second).stdout, "+ key acme-2\n");
    assert_eq!((shell.json("key get acme-1"), shell.json("target get orders/prod")), before);
    assert_eq!(shell.json("subscriber get acme")["plans"][0], "premium");

    let said = "subscribers: [{id: acme, keys: [{id: acme-1, enabled: true, expireTime: null}]}]\n";
    let ran = shell.run_with(&["apply", "-f", "-"], said);
    let expected = "~ key acme-1 (enabled, expire_time)\n    enabled: false → true\n    expire_time: 2100-01-01T00:00:00Z → none (removed)\n";
    assert_eq!(ran.stdout, expected, "{ran:?}");

    shell.ok("target update orders/prod --rate 50");
    assert_eq!(
        shell.json("target get orders/prod")["rateLimit"]["burst"],
        5000,
        "the burst was not given"
    );
    shell.ok("plan update premium --rate 50");
    assert_eq!(shell.json("plan get premium")["entitlements"][0]["rateLimit"]["burst"], 40);
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_says_where() {
    let shell = Shell::start();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("bad.yaml");
    let path = file.display().to_string();
    for (text, said) in [
        ("plans: [{id: gold}]\nplans: []\n", ":2: `plans` is there already"),
        (
            "\nplans: [{id: gold, entitlments: []}]\n",
            ":2: plans[0] (gold): entitlments is not a field of UsagePlan: did you mean `entitlements`?",
        ),
        (
            "subscribers:\n- id: acme\n  keys:\n  - {id: k, value: 7}\n",
            ":4: subscribers[0] (acme): keys[0] (k): value must be a text, not a number",
        ),
        ("plans: [\n", ":2: "),
        (
            "plans:\n- {id: bronze}\n- id: silver\n  entitlements:\n  - {name: e, targets: [t], rateLimit: {requestsPerSecond: 0}}\n",
            ":5: plans[1] (silver): entitlements[0].rateLimit.requestsPerSecond must be more than 0",
        ),
        (
            "plans: [{id: gold, entitlements: [{name: a, targets: [t]},\n {name: b, targets: [t]}]}]\n",
            ":2: plans[0] (gold): entitlements[1].targets[0] ",
        ),
        (
            "plans: [{id: gold}]\n---\nplans:\n- {id: gold}\n",
            ":4: plans[0] (gold): id names `gold` again",
        ),
        // These only the server can know.
        (
            "plans: [{id: gold}]\nsubscribers:\n- {id: beta, plans: [gold, silver]}\n",
            ":3: subscribers[0] (beta): plans[1] names the plan `silver`, which does not exist",
        ),
        (
            "subscribers: [{id: beta,\n keys: [{id: k}]}]\n",
            ":2: subscribers[0] (beta): keys[0] (k): value is needed: the key `k` does not exist yet",
        ),
        (
            "subscribers: [{id: beta, keys: [{id: k, value: example-key-of-acme-0001}]}]\n",
            ":1: subscribers[0] (beta): keys[0] (k): value is in use by the key `acme-1`",
        ),
        (
            "targets:\n- {id: t, default_plan: lead}\n",
            ":2: targets[0] (t): default_plan names the plan `lead`, which does not exist",
        ),
    ] {
        fs::write(&file, text).unwrap();
        shell.refused(&format!("apply -f {TIERS} -f {path}"), 2, &format!("{path}{said}"));
    }
    shell.refused("apply -f no/such/file.yaml", 2, "no/such/file.yaml: ");
    assert!(shell.ok("target list").ends_with("total: 0 targets\n"), "all or nothing");

    let ran = shell.run_with(&["apply", "-f", "-"], "plans: [{id: gold, quota: 1}]");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("standard input:1: plans[0]"), "{ran:?}");
}

#[test]
fn all_mistakes_of_all_files_are_told_at_once() {
    let shell = Shell::start();
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(
        path("a.yaml"),
        "plans:\n- {id: a, entitlements: [{name: e, quotas: [{name: q, limit: 1, unit: DAYS}]}]}\n- {id: b, colour: red}\n",
    )
    .unwrap();
    fs::write(
        path("b.yaml"),
        "subscribers:\n- {id: x, plan: a}\n- {id: z, displayName: }\n- {id: 'a b'}\n",
    )
    .unwrap();
    let ran = shell.run(&format!("apply -f {} {}", path("a.yaml"), path("b.yaml")));
    let said = ran.stderr.replace(&folder.path().display().to_string(), "F");
    assert_eq!(ran.code, 2);
    insta::assert_snapshot!(said, @r#"
    tollgate: 5 mistakes, and nothing was changed:
      F/a.yaml:2: plans[0] (a): entitlements[0].quotas[0].unit must be one of MINUTE, HOUR, DAY, WEEK, MONTH, YEAR, not "DAYS" (did you mean DAY?)
      F/a.yaml:3: plans[1] (b): colour is not a field of UsagePlan: it has id, displayName, description, labels, entitlements, etag, revision, createTime, updateTime
      F/b.yaml:2: subscribers[0] (x): plan is not a field of Subscriber: did you mean `plans`?
      F/b.yaml:3: subscribers[1] (z): displayName has nothing behind it: leave the line out to say nothing of it, or write what there is to be
      F/b.yaml:4: subscribers[2] (a b): id must not hold ' ': use A-Z a-z 0-9 . _ ~ : / -
    "#);

    // What only the server knows comes together, too.
    let many: String = (0..300).map(|i| format!("- {{id: s{i}, plans: [lead]}}\n")).collect();
    let ran = shell.run_with(
        &["apply", "-f", "-"],
        &format!("subscribers:\n{many}targets: [{{id: t, defaultPlan: lead}}]\n"),
    );
    let first: Vec<&str> = ran.stderr.lines().take(3).collect();
    assert_eq!(
        first,
        [
            "tollgate: 100 mistakes, and nothing was changed:",
            "  standard input:2: subscribers[0] (s0): plans[0] names the plan `lead`, which does not exist",
            "  standard input:3: subscribers[1] (s1): plans[0] names the plan `lead`, which does not exist",
        ]
    );
}

#[test]
fn a_set_that_fits_into_no_message_is_one_edit() {
    let shell = Shell::start();
    let about = "x".repeat(4_000);
    let file = |count: usize, plan: &str| {
        let one = |i: usize| {
            format!(
                "- {{id: c{i}, description: {about}, plans: [{plan}], keys: [{{id: c{i}-1, value: imported-{i:06}-0123456789}}]}}\n"
            )
        };
        format!("plans: [{{id: gold}}]\nsubscribers:\n{}", (0..count).map(one).collect::<String>())
    };
    let apply =
        |text: &str, flags: &[&str]| shell.run_with(&[&["apply", "-f", "-"], flags].concat(), text);
    let whole = file(1_500, "gold");
    assert!(whole.len() > 5 << 20);
    let ran = apply(&whole, &["--dry-run"]);
    assert!(ran.code == 0 && ran.stderr.contains("it would be: 3001 created"), "{}", ran.stderr);
    assert_eq!(shell.json("plan list")["totalSize"], 0);

    // A mistake in the last part, which only the server can know, leaves nothing of the first.
    let wrong = whole
        .replace(
            "id: c1499, description",
            "id: c1499, plans: [lead], displayName: Last, labels: {a: b}, \"description\"",
        )
        .replace(", plans: [gold], keys: [{id: c1499-1", ", keys: [{id: c1499-1");
    let ran = apply(&wrong, &[]);
    assert!(
        ran.code == 2
            && ran.stderr.contains(
                "standard input:1502: subscribers[1499] (c1499): plans[0] names the plan `lead`"
            ),
        "{}",
        ran.stderr
    );
    assert_eq!(shell.json("plan list")["totalSize"], 0, "all or nothing");

    assert_eq!(apply(&whole, &[]).code, 0);
    assert_eq!(shell.json("subscriber list --page-size 1")["totalSize"], 1_500);
    assert_eq!(
        apply(&whole, &["--prune"]).stderr,
        "tollgate: nothing to change: all is as the files say\n",
        "of no part is anything unnamed"
    );
    let ran = apply(&file(1_400, "gold"), &["--prune"]);
    assert!(
        ran.code == 0 && ran.stderr.contains("0 created, 0 updated, 200 deleted"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_set_beyond_the_bound_names_the_setting() {
    let server = Tollgate::start(&[], &[PATIENT, ("TOLLGATE_GRPC_MAX_APPLY_BYTES", "400000")]);
    let shell = Shell { addr: server.grpc_addr().to_string(), server: Some(server) };
    let one = |i: usize| format!("- {{id: t{i}, description: {}}}\n", "x".repeat(4_000));
    let ran = shell.run_with(
        &["apply", "-f", "-"],
        &format!("targets:\n{}", (0..200).map(one).collect::<String>()),
    );
    assert!(
        ran.code == 1 && ran.stderr.contains("more than the 400000 bytes of the setting grpc.max_apply_bytes, and nothing was changed"),
        "{ran:?}"
    );
    assert_eq!(shell.json("target list")["totalSize"], 0);
}

#[test]
fn a_usage_plan_file_of_oci_is_read_as_it_is() {
    let shell = Shell::start();
    let plan = shell.json(&format!("plan create --from-json {GOLD}"));
    assert_eq!((&plan["id"], &plan["displayName"]), (&"gold".into(), &"Gold".into()));
    assert_eq!(
        plan["labels"],
        serde_json::json!({"compartmentId": "ocid1.compartment.oc1..example", "team": "api-products"})
    );
    insta::assert_snapshot!(shell.ok("plan list"), @r"
    PLAN  NAME  ENTITLEMENT  TARGETS                  RATE LIMIT      QUOTAS
    gold  Gold  shop         orders/prod, users/prod  20/s, burst 20  day=1000/day
    gold  Gold  reports      reports/prod             2/s, burst 2    month=500/month:allow
    total: 1 plan
    ");
    assert_eq!(
        shell.json("target list")["totalSize"],
        3,
        "targets that nobody knew are registered"
    );
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
