//! The decision and the counting of the response, as tables of cases.

use super::world::World;
use crate::engine::plans::Settlement;

/// The cases of a file: title, script of the world and of the case.
fn cases(text: &str) -> Vec<(String, String)> {
    let mut worlds: Vec<(String, String)> = vec![];
    let mut cases: Vec<(String, String)> = vec![];
    let mut in_world = false;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        if let Some(name) = line.strip_prefix("world ") {
            worlds.push((name.trim().to_owned(), String::new()));
            in_world = true;
        } else if let Some(head) = line.strip_prefix("case ") {
            let (world, _) = head.split_once(" | ").expect("a case names its world");
            let script = worlds
                .iter()
                .find(|(name, _)| name == world)
                .expect("the world of a case comes first")
                .1
                .clone();
            assert!(!cases.iter().any(|(known, _)| known == head), "{head}: twice");
            cases.push((head.to_owned(), script));
            in_world = false;
        } else {
            let script = if in_world {
                &mut worlds.last_mut().unwrap().1
            } else {
                &mut cases.last_mut().unwrap().1
            };
            script.push_str(line);
            script.push('\n');
        }
    }
    cases
}

/// Runs all cases of a file; gives how many there were.
fn check(text: &str) -> usize {
    let cases = cases(text);
    let mut failed = vec![];
    for (title, script) in &cases {
        failed.extend(World::new().run(script).err().map(|wrong| format!("{title}: {wrong}")));
        failed.extend(
            World::new()
                .remembering()
                .run(script)
                .err()
                .map(|wrong| format!("{title}, of known callers: {wrong}")),
        );
    }
    assert!(
        failed.is_empty(),
        "{} of {} cases failed:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
    cases.len()
}

#[test]
fn the_decision_is_as_the_table_says() {
    assert!(check(include_str!("../cases/decision.txt")) >= 100);
}

#[test]
fn reports_settle_as_the_table_says() {
    assert!(check(include_str!("../cases/reports.txt")) >= 30);
}

#[test]
fn responses_count_as_the_table_says() {
    let rows: Vec<&str> = include_str!("../cases/counting.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert!(rows.len() >= 80);
    for row in rows {
        let [statuses, outcome, counted] = row.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{row}: not three columns")
        };
        let count = if statuses == "default" { String::new() } else { format!("count={statuses}") };
        let settled = if counted == "yes" { Settlement::Counted } else { Settlement::Refunded };
        let settled = format!("{settled:?}").to_uppercase();
        let left = if counted == "yes" { 8 } else { 9 };
        let script = format!(
            "plan gold\n ent all a rate=1/10\n quota q 10 day {count}\nsub acme gold\nkey k1 acme\n\
             check k1 a as=r -> ALLOW left:q=9\nreport r {outcome} -> {settled}\ncheck k1 a -> ALLOW left:rate=8 left:q={left}"
        );
        World::new().run(&script).unwrap_or_else(|wrong| panic!("{row}: {wrong}"));
    }
}

#[test]
fn a_case_can_fail() {
    let world = "plan gold\n ent all a\n quota q 1 day\nsub acme gold\nkey k1 acme\n";
    for (line, wrong) in [
        ("check k1 a -> QUOTA_EXCEEDED", "verdict"),
        ("check k1 a -> ALLOW left:q=1", "remaining"),
        ("check k1 a -> ALLOW limits=rate", "limits"),
        ("check k1 a -> ALLOW noreceipt", "receipt"),
        ("used acme gold/all/q 1", "used"),
        ("check k1 a", "nothing is expected"),
    ] {
        let error = World::new().run(&format!("{world}{line}")).unwrap_err();
        assert!(error.contains(wrong), "{line}: {error}");
    }
}
