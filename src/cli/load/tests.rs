//! What the command line says is read, and what goes on is said.

use super::*;

#[test]
fn flags_are_read() {
    let entries = |pairs: &[(&str, Option<&str>)]| -> Vec<DescriptorEntry> {
        pairs
            .iter()
            .map(|(key, value)| DescriptorEntry {
                key: (*key).to_owned(),
                value: value.map(str::to_owned),
            })
            .collect()
    };
    assert_eq!(descriptor("a=1,b").unwrap().0, entries(&[("a", Some("1")), ("b", None)]));
    assert_eq!(descriptor("a==").unwrap().0, entries(&[("a", Some("="))]));
    assert!(descriptor("").is_err() && descriptor("a,").is_err() && descriptor("=1").is_err());
    assert_eq!(
        (time_ns("10s"), time_ns("500ms"), time_ns("1m")),
        (Ok(10 * SECOND_NS), Ok(SECOND_NS / 2), Ok(60 * SECOND_NS))
    );
    assert!(time_ns("10").is_err() && time_ns("-1s").is_err());
    assert!(rate("0").is_err() && rate("NaN").is_err() && rate("0.5").is_ok());
    assert!(
        part("1").is_ok() && part("1.1").is_err() && skew("-1").is_err() && skew("1.1").is_ok()
    );
}

#[test]
fn progress_is_per_second() {
    let at = |decisions, failed, elapsed_ns| Progress { decisions, failed, elapsed_ns };
    assert_eq!(
        progress(&at(100, 0, SECOND_NS), &at(1_100, 0, 3 * SECOND_NS), SECOND_NS),
        "  3 s        500 a second"
    );
    assert_eq!(
        progress(&at(0, 1, 0), &at(5, 3, SECOND_NS), 0),
        "  1 s          5 a second, 2 failed"
    );
    assert_eq!(
        progress(&at(0, 0, 0), &at(5, 0, SECOND_NS), 1),
        "  1 s          5 a second  (warm-up)"
    );
}
