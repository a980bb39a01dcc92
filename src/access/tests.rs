use std::fs;

use super::*;

const GATEWAY: &str = "tgt_gatewaygatewaygatewaygatewaygate";
const OPERATOR: &str = "tgt_operatoroperatoroperatoroperator";

fn hash(token: &str) -> String {
    TokenHash::of(token.as_bytes()).unwrap().to_string()
}

fn file() -> String {
    format!(
        "tokens:\n- {{id: gateway, hash: \"{}\", scopes: [decide, report]}}\n- {{id: 7, hash: \"{}\", scopes: [admin]}}\n\
         certificates:\n- {{san: \"spiffe://example.org/gw\", scopes: [decide]}}\n- {{san: reports.example.org, scopes: [report]}}\n",
        hash(GATEWAY),
        hash(OPERATOR)
    )
}

fn with_bearer(token: &str) -> Vec<u8> {
    format!("Bearer {token}").into_bytes()
}

#[test]
fn a_token_opens_what_its_scopes_say_and_nothing_else() {
    let callers = file::parse(&file()).unwrap();
    let admit = |authorization: Option<&[u8]>, needs| callers.admit(authorization, &[], needs);
    let (gateway, operator) = (with_bearer(GATEWAY), with_bearer(OPERATOR));
    assert!(
        admit(Some(&gateway), Scopes::DECIDE)
            .is_ok_and(|scopes| scopes == Scopes::DECIDE_OR_REPORT)
    );
    assert!(admit(Some(&gateway), Scopes::REPORT).is_ok());
    let lacking =
        |caller: &str, needs| Err(Refusal::Lacking { caller: format!("`{caller}`"), needs });
    assert_eq!(admit(Some(&gateway), Scopes::ADMIN), lacking("gateway", Scopes::ADMIN));
    assert_eq!(
        admit(Some(&gateway), Scopes::READ_OR_ADMIN),
        lacking("gateway", Scopes::READ_OR_ADMIN)
    );
    assert!(admit(Some(&operator), Scopes::READ_OR_ADMIN).is_ok(), "who may edit may read");
    assert_eq!(
        admit(Some(&operator), Scopes::DECIDE_OR_REPORT),
        lacking("7", Scopes::DECIDE_OR_REPORT)
    );
}

#[test]
fn what_is_no_known_token_is_refused() {
    let callers = file::parse(&file()).unwrap();
    let (long, longer) = (with_bearer(&"x".repeat(256)), with_bearer(&"x".repeat(257)));
    let hash_itself = with_bearer(&hash(GATEWAY));
    type Case<'a> = (Option<&'a [u8]>, Result<(), Refusal>);
    let cases: [Case<'_>; 13] = [
        (None, Err(Refusal::Missing)),
        (Some(b""), Err(Refusal::Missing)),
        (Some(b"Bearer"), Err(Refusal::Missing)),
        (Some(b"Basic Z2F0ZXdheQ=="), Err(Refusal::Missing)),
        (Some(GATEWAY.as_bytes()), Err(Refusal::Missing)),
        (Some(b"Bearer "), Err(Refusal::Unknown)),
        (Some(b"Bearer tgt_gatewaygatewaygatewaygatewaygat"), Err(Refusal::Unknown)),
        (Some(b"Bearer tgt_gatewaygatewaygatewaygatewaygatE"), Err(Refusal::Unknown)),
        (Some(&long), Err(Refusal::Unknown)),
        (Some(&longer), Err(Refusal::Unknown)),
        (Some(&hash_itself), Err(Refusal::Unknown)),
        (Some(b"Bearer \xff\xfe"), Err(Refusal::Unknown)),
        (Some(b"bEARER  tgt_gatewaygatewaygatewaygatewaygate "), Ok(())),
    ];
    for (authorization, expected) in cases {
        let found = callers.admit(authorization, &[], Scopes::DECIDE).map(drop);
        assert_eq!(found, expected, "{:?}", authorization.map(String::from_utf8_lossy));
    }
}

#[test]
fn a_token_whose_hash_only_begins_like_a_known_one_is_unknown() {
    let mut callers = file::parse(&file()).unwrap();
    let place = TokenHash::of(OPERATOR.as_bytes()).unwrap().first_bytes();
    let other = callers
        .tokens
        .get(&TokenHash::of(GATEWAY.as_bytes()).unwrap().first_bytes())
        .unwrap()
        .clone();
    callers.tokens.insert(place, other);
    assert_eq!(
        callers.admit(Some(&with_bearer(OPERATOR)), &[], Scopes::DECIDE),
        Err(Refusal::Unknown)
    );
}

#[test]
fn names_of_a_certificate_count_and_a_token_adds_to_them() {
    let callers = file::parse(&file()).unwrap();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let both = names(&["spiffe://example.org/gw", "reports.example.org", "other.example.org"]);
    assert_eq!(callers.admit(None, &both, Scopes::REPORT), Ok(Scopes::DECIDE_OR_REPORT));
    let one = names(&["spiffe://example.org/gw"]);
    assert_eq!(callers.admit(None, &one, Scopes::DECIDE), Ok(Scopes::DECIDE));
    assert_eq!(callers.admit(None, &one, Scopes::REPORT).unwrap_err().reason(), "scope");
    assert!(
        callers
            .admit(Some(&with_bearer(OPERATOR)), &one, Scopes::ADMIN)
            .is_ok_and(|scopes| scopes.holds(Scopes::DECIDE))
    );
    // A token that was taken out of the file does not go on because of the certificate.
    assert_eq!(callers.admit(Some(b"Bearer other"), &one, Scopes::DECIDE), Err(Refusal::Unknown));
    for stranger in
        [&["spiffe://example.org/gw2"][..], &["example.org"], &["SPIFFE://EXAMPLE.ORG/GW"], &[]]
    {
        assert_eq!(
            callers.admit(None, &names(stranger), Scopes::DECIDE),
            Err(Refusal::Missing),
            "{stranger:?}"
        );
    }
}

#[test]
fn mistakes_are_all_said_with_their_lines_and_without_what_stands_there() {
    let known = hash(GATEWAY);
    let cases = [
        ("", "line 1: the file is empty"),
        ("tokens: []\ncertificates:\n", "line 1: neither a token nor a certificate is there"),
        ("[a]", "line 1: here must be a mapping with the keys tokens, certificates"),
        ("tokens:\n- {id: [", "this is not YAML"),
        ("tokens: 3", "line 1: tokens must be a list"),
        ("tokens:\n- tgt_secret", "line 2: here must be a mapping with the keys id, hash, scopes"),
        ("tgt_secret: 1", "line 1: only the keys tokens, certificates may stand here"),
        ("tokens: [{id: a, hash: tgt_secret, scopes: [admin]}]", "line 1: hash must be `blake3:`"),
        (
            "tokens: [{id: a, hash: \"blake3:00\", scopes: [admin]}]",
            "line 1: hash must be `blake3:`",
        ),
        ("tokens: [{id: tgt_secret, hash: HASH, scopes: [admin]}]", "line 1: id must be"),
        ("tokens: [{id: a b, hash: HASH, scopes: [admin]}]", "line 1: id must be"),
        ("tokens:\n- id: a\n  hash: HASH\n  scopes: []", "line 2: scopes must be a list"),
        ("tokens:\n- id: a\n  hash: HASH\n  scopes: [root]", "line 4: scopes must be a list"),
        ("tokens:\n- id: a\n  hash: HASH\n  scopes: admin", "line 2: scopes must be a list"),
        (
            "tokens:\n- id: a\n  hash: HASH\n  scopes: [admin]\n  token: tgt_secret",
            "line 5: only the keys id, hash, scopes may stand here",
        ),
        (
            "tokens:\n- {id: a, hash: HASH, scopes: [admin]}\n- {id: b, hash: HASH, scopes: [admin]}",
            "line 3: the hash is there already",
        ),
        ("certificates:\n- {san: a b, scopes: [admin]}", "line 2: san must be a DNS name or a URI"),
        (
            "certificates:\n- {san: a, scopes: [admin]}\n- {san: a, scopes: [read]}",
            "line 3: the san is there already",
        ),
        ("tokens: []\ntokens: []\n", "line 2: this key stands here twice"),
    ];
    for (text, said) in cases {
        let mistakes =
            file::parse(&text.replace("HASH", &format!("\"{known}\""))).unwrap_err().join("\n");
        assert!(mistakes.contains(said), "{text}: {mistakes}");
        assert!(!mistakes.contains("tgt_secret"), "{mistakes}");
    }
    let all = file::parse(
        "tokens:\n- {id: a b, hash: x, scopes: [y]}\n- {hash: x, scopes: [admin], more: 1}",
    )
    .unwrap_err();
    assert_eq!(all.len(), 6, "{all:?}");
    let twice = file::parse(&format!(
        "tokens:\n- {{id: a, hash: \"{}\", scopes: [admin]}}\n- {{id: a, hash: \"{}\", scopes: [admin]}}",
        hash(GATEWAY),
        hash(OPERATOR)
    ));
    assert_eq!(twice.unwrap_err(), ["line 3: the id `a` is there already"]);
}

#[test]
fn an_edit_comes_into_force_and_one_that_cannot_be_used_does_not() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("tokens.yaml");
    let metrics = Metrics::new();
    assert!(Access::open(&path, &metrics).unwrap_err().contains("cannot be read"));
    fs::write(&path, "tokens: 1").unwrap();
    assert!(
        Access::open(&path, &metrics)
            .unwrap_err()
            .ends_with("cannot be used:\n  line 1: tokens must be a list")
    );
    fs::write(&path, file()).unwrap();
    let access = Access::open(&path, &metrics).unwrap();
    // One connection, which remembers what was let in.
    let peer = Peer::default();
    let gateway = || access.admit(Some(&with_bearer(GATEWAY)), &peer, Scopes::DECIDE).map(drop);
    assert_eq!(gateway(), Ok(()));

    fs::write(&path, "").unwrap();
    access.refresh();
    access.refresh();
    assert_eq!(gateway(), Ok(()), "a file that is being written names nobody for a moment");
    fs::write(&path, file().replace("gateway", "gate-2").replace("decide, ", "")).unwrap();
    access.refresh();
    assert_eq!(
        gateway(),
        Err(Refusal::Lacking { caller: "`gate-2`".to_owned(), needs: Scopes::DECIDE })
    );
    fs::write(&path, file().replace(&hash(GATEWAY), &hash("another"))).unwrap();
    access.refresh();
    assert_eq!(gateway(), Err(Refusal::Unknown));
    fs::remove_file(&path).unwrap();
    access.refresh();
    assert_eq!(gateway(), Err(Refusal::Unknown));

    let text = metrics.render();
    for line in [
        "tollgate_tokens_loads{result=\"ok\"} 3",
        "tollgate_tokens_loads{result=\"failed\"} 2",
        "tollgate_refused_callers{reason=\"unknown\"} 2",
        "tollgate_refused_callers{reason=\"scope\"} 1",
        "tollgate_refused_callers{reason=\"missing\"} 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn what_a_connection_has_shown_before_opens_no_more_than_the_first_time() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("tokens.yaml");
    fs::write(&path, file()).unwrap();
    let access = Access::open(&path, &Metrics::new()).unwrap();
    let peer = Peer::new(["reports.example.org".to_owned()].into());
    let (gateway, operator) = (with_bearer(GATEWAY), with_bearer(OPERATOR));
    let other = with_bearer(&GATEWAY.replace("gate", "fate"));
    for _ in 0..3 {
        assert!(access.admit(Some(&gateway), &peer, Scopes::DECIDE).is_ok());
        assert!(access.admit(Some(&gateway), &peer, Scopes::ADMIN).is_err());
        assert_eq!(access.admit(Some(&other), &peer, Scopes::DECIDE), Err(Refusal::Unknown));
        assert_eq!(
            access.admit(Some(&gateway[..gateway.len() - 1]), &peer, Scopes::DECIDE),
            Err(Refusal::Unknown)
        );
        assert!(
            access
                .admit(Some(&operator), &peer, Scopes::ADMIN)
                .is_ok_and(|scopes| !scopes.meets(Scopes::DECIDE))
        );
        assert_eq!(
            access.admit(None, &peer, Scopes::REPORT),
            Ok(Scopes::REPORT),
            "the certificate alone"
        );
    }
    assert!(!format!("{peer:?}").contains("tgt_"));
}

#[test]
fn made_tokens_are_distinct_recognisable_and_never_shown_by_accident() {
    let (one, other) = (Token::new().unwrap(), Token::new().unwrap());
    assert_ne!(one.reveal(), other.reveal());
    assert_eq!(one.reveal().len(), 36);
    assert!(one.reveal().starts_with("tgt_"));
    assert_eq!(format!("{one:?} {:?}", one.hash()), "Token(..) TokenHash(..)");
    assert_eq!(TokenHash::parse(&one.hash().to_string()), TokenHash::of(one.reveal().as_bytes()));
    assert_eq!(
        hash("abc"),
        "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
        "as b3sum says it"
    );
    for bad in [
        "",
        "blake3:",
        "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
        "blake3:zz",
    ] {
        assert_eq!(TokenHash::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_name_that_no_certificate_can_have_is_told() {
    for (san, told) in [
        ("gateway.internal", false),
        ("GATEWAY.internal", false),
        ("spiffe://example.org/gateway", false),
        ("https://example.org:8443/x?y=z", false),
        ("urn:example:gateway", false),
        ("gateway", false),
        ("CN=gateway", true),
        ("10.0.0.7", true),
        ("[::1]", true),
        ("fd00::7", true),
        ("gateway@example.org", true),
        ("*.internal", true),
        ("gateway.internal:8443", true),
        ("example.org/gateway", true),
        ("gateway.internal.", true),
    ] {
        assert_eq!(super::file::never_matches(san).is_some(), told, "{san}");
    }
}
