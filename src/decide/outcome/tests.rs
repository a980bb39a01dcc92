use super::*;

#[test]
fn classes_are_named_by_their_hundreds() {
    for (ending, class) in [
        (Ending::Http(99), None),
        (Ending::Http(100), Some("1xx")),
        (Ending::Http(199), Some("1xx")),
        (Ending::Http(200), Some("2xx")),
        (Ending::Http(399), Some("3xx")),
        (Ending::Http(499), Some("4xx")),
        (Ending::Http(599), Some("5xx")),
        (Ending::Http(600), None),
        (Ending::Grpc(0), Some("2xx")),
        (Ending::Grpc(16), Some("4xx")),
        (Ending::Grpc(17), None),
        (Ending::NoResponse, Some("no_response")),
        (Ending::CallerGone, Some("caller_gone")),
    ] {
        assert_eq!(Outcome::of(ending).class().map(Class::name), class, "{ending:?}");
    }
}

#[test]
fn these_grpc_statuses_are_the_targets_fault() {
    let fault: Vec<u8> = (0..=16)
        .filter(|&status| Outcome::of(Ending::Grpc(status)).class() == Some(Class::TargetError))
        .collect();
    assert_eq!(fault, [2, 4, 12, 13, 14, 15]);
}

#[test]
fn by_default_1xx_to_4xx_count_and_the_rule_said_in_words_is_the_same() {
    let said = CountRule::of(&CountStatuses {
        classes: [true, true, true, true, false],
        codes: vec![],
        others: false,
    });
    assert_eq!(said, CountRule::DEFAULT);
    for status in 0..=1000 {
        assert_eq!(
            CountRule::DEFAULT.counts(&Outcome::http(status)),
            (100..500).contains(&status),
            "{status}"
        );
    }
}

#[test]
fn others_are_the_classes_that_nothing_names() {
    let rule = CountRule::of(&CountStatuses {
        classes: [false, true, false, false, false],
        codes: vec![404, 503],
        others: true,
    });
    let counted = |status| rule.counts(&Outcome::http(status));
    assert!(counted(100) && counted(200) && counted(300) && counted(404) && counted(503));
    assert!(!counted(400) && !counted(500));
    let nothing = CountRule::of(&CountStatuses::default());
    assert!((100..600).all(|status| !nothing.counts(&Outcome::http(status))));
    assert!(nothing.counts(&Outcome::of(Ending::CallerGone)));
}
