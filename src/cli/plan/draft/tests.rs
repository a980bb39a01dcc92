use std::io::Write;

use clap::Parser;
use tempfile::NamedTempFile;

use super::{Draft, ENTITLEMENT};
use crate::cli::client::about::Given;
use crate::cli::{Failure, UNUSABLE};
use crate::grpc::pb::tollgate::{Entitlement, RateLimit, UsagePlan};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    draft: Draft,
}

fn read(args: &[&str], has: Vec<Entitlement>) -> Result<(UsagePlan, Vec<String>), Failure> {
    let line = Line::try_parse_from([&["plan"], args].concat()).unwrap();
    let (plan, given): (UsagePlan, Given) = line.draft.read()?.over(has)?;
    Ok((plan, given.mask().map(|mask| mask.paths).unwrap_or_default()))
}

fn file(text: &str) -> (NamedTempFile, String) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    (file, path)
}

fn limited(requests_per_second: f64, burst: Option<u64>) -> Option<RateLimit> {
    Some(RateLimit { requests_per_second, burst })
}

fn has(names: &[&str]) -> Vec<Entitlement> {
    let one = |name: &&str| Entitlement {
        name: (*name).to_owned(),
        rate_limit: limited(20.0, Some(40)),
        ..Entitlement::default()
    };
    names.iter().map(one).collect()
}

#[test]
fn flags_make_a_plan_of_one_entitlement() {
    let args = [
        "gold",
        "--target",
        "a,b",
        "--target",
        "c",
        "--rate",
        "20",
        "--burst",
        "40",
        "--quota",
        "daily=100/day",
        "--quota",
        "9/month",
    ];
    let (plan, given) = read(&args, Vec::new()).unwrap();
    assert_eq!(plan.id, "gold");
    assert_eq!(given, ["entitlements"]);
    let [entitlement] = plan.entitlements.as_slice() else { panic!("one") };
    assert_eq!(entitlement.name, ENTITLEMENT);
    assert_eq!(entitlement.targets, ["a", "b", "c"]);
    assert_eq!(entitlement.rate_limit, limited(20.0, Some(40)));
    assert_eq!(
        entitlement.quotas.iter().map(|quota| quota.name.as_str()).collect::<Vec<_>>(),
        ["daily", "month"]
    );
}

#[test]
fn a_plan_without_what_it_gives_is_without_entitlements() {
    let (plan, given) =
        read(&["later", "--display-name", "Later", "--label", "a=b=c"], Vec::new()).unwrap();
    assert_eq!((plan.entitlements.len(), plan.display_name.as_str()), (0, "Later"));
    assert_eq!(plan.labels.into_iter().collect::<Vec<_>>(), [("a".into(), "b=c".into())]);
    assert_eq!(given, ["display_name", "labels"]);
}

#[test]
fn an_update_changes_only_what_was_given_of_the_entitlement_that_is_meant() {
    let cases: [(&[&str], &[&str], Option<RateLimit>); 5] = [
        (&["--burst", "50"], &["only"], limited(20.0, Some(50))),
        (&["--rate", "5"], &["only"], limited(5.0, Some(40))),
        (&["--no-rate"], &["only"], None),
        (&["--quota", "1/day"], &["only"], limited(20.0, Some(40))),
        (&["--entitlement", "two", "--no-rate"], &["one", "two"], None),
    ];
    for (args, names, expected) in cases {
        let (plan, given) = read(&[&["gold"], args].concat(), has(names)).unwrap();
        assert_eq!(given, ["entitlements"], "{args:?}");
        assert_eq!(plan.entitlements.len(), names.len(), "{args:?}");
        assert_eq!(plan.entitlements.last().unwrap().rate_limit, expected, "{args:?}");
        if names.len() == 2 {
            assert_eq!(plan.entitlements[0], has(names)[0], "the other stays");
        }
    }
}

#[test]
fn what_cannot_be_meant_is_said() {
    let cases: [(&[&str], &[&str], &str); 4] = [
        (&["gold", "--rate", "5"], &["one", "two"], "with --entitlement: one, two"),
        (&["gold", "--burst", "5"], &[], "--burst needs a --rate"),
        (&["--rate", "5"], &[], "name the plan"),
        (&["gold", "--from-json", "/there/is/none"], &[], "/there/is/none: "),
    ];
    for (args, names, said) in cases {
        let failure = read(args, has(names)).unwrap_err();
        assert_eq!(failure.code, UNUSABLE);
        assert!(failure.text.contains(said), "{args:?}: {}", failure.text);
    }
}

#[test]
fn a_file_says_what_is_given_and_flags_replace_it() {
    let (_kept, path) = file(
        r#"{"displayName": "Gold plan", "freeformTags": {}, "entitlements": [{"name": "e", "targets": [{"deploymentId": "d"}]}]}"#,
    );
    let (plan, given) = read(&["--from-json", &path], Vec::new()).unwrap();
    assert_eq!((plan.id.as_str(), plan.entitlements[0].targets[0].as_str()), ("gold-plan", "d"));
    let mut sorted = given;
    sorted.sort();
    assert_eq!(sorted, ["display_name", "entitlements", "labels"]);

    let (plan, _) = read(
        &["au", "--from-json", &path, "--display-name", "Au", "--rate", "1"],
        has(&["not read"]),
    )
    .unwrap();
    assert_eq!((plan.id.as_str(), plan.display_name.as_str()), ("au", "Au"));
    assert_eq!(
        (plan.entitlements[0].name.as_str(), plan.entitlements[0].rate_limit),
        ("e", limited(1.0, None))
    );
}

#[test]
fn a_mask_names_what_a_file_empties() {
    let (_kept, path) = file("id: gold\ndescription:\n");
    let (plan, given) = read(&["--from-json", &path], Vec::new()).unwrap();
    assert_eq!((plan.id.as_str(), given), ("gold", vec!["description".to_owned()]));
}

#[test]
fn a_file_that_is_no_plan_is_refused_by_its_name() {
    let (_kept, path) = file(r#"{"displayName": "Gold", "entitlments": []}"#);
    let failure = read(&["--from-json", &path], Vec::new()).unwrap_err();
    assert_eq!(failure.code, UNUSABLE);
    assert!(
        failure.text.contains(&path) && failure.text.contains("entitlments"),
        "{}",
        failure.text
    );
}
