use proptest::prelude::*;
use serde_json::json;

use super::*;

fn json_of(text: &str) -> serde_json::Value {
    parse(text).unwrap().root.to_json().unwrap()
}

fn error_of(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

fn meaning_of(text: &str) -> Meaning {
    match &parse(&format!("k: {text}")).unwrap().root.get("k").unwrap().content {
        Content::Scalar(scalar) => scalar.meaning,
        other => panic!("{text} is {other:?}"),
    }
}

#[test]
fn scalars_mean_what_yaml_1_1_says() {
    use Meaning::{Bool, Float, Int, Null, Text, Uint};
    let cases = [
        ("", Null),
        ("~", Null),
        ("null", Null),
        ("nUll", Text),
        ("true", Bool(true)),
        ("yes", Bool(true)),
        ("On", Bool(true)),
        ("y", Bool(true)),
        ("off", Bool(false)),
        ("tRue", Text),
        ("0", Int(0)),
        ("404", Int(404)),
        ("-7", Int(-7)),
        ("+7", Int(7)),
        ("1_000", Int(1000)),
        ("0x1F", Int(31)),
        ("0o17", Int(15)),
        ("017", Int(15)),
        ("0b101", Int(5)),
        ("-0x10", Int(-16)),
        ("9223372036854775807", Int(i64::MAX)),
        ("-9223372036854775808", Int(i64::MIN)),
        ("9223372036854775808", Uint(1 << 63)),
        ("18446744073709551615", Uint(u64::MAX)),
        ("18446744073709551616", Float(18446744073709551616.0)),
        ("-9223372036854775809", Float(-9223372036854775809.0)),
        ("08", Float(8.0)),
        ("1.5", Float(1.5)),
        ("1.", Float(1.0)),
        (".5", Float(0.5)),
        ("1e3", Float(1000.0)),
        ("-1.5e-3", Float(-0.0015)),
        (".inf", Float(f64::INFINITY)),
        ("1e999", Text),
        (".", Text),
        ("1.2.3", Text),
        ("1:30", Text),
        ("2001-12-14", Text),
        ("0x", Text),
        ("0xfg", Text),
        ("+", Text),
        ("--5", Text),
        ("+-5", Text),
        ("e5", Text),
        ("1e", Text),
        ("_1", Text),
        ("'1'", Text),
        ("\"true\"", Text),
        ("!!str 1", Text),
        ("!!int 12", Int(12)),
        ("!!int '12'", Int(12)),
        ("!!float 12", Float(12.0)),
        ("!!bool yes", Bool(true)),
        ("!!null ~", Null),
        ("!mine 12", Text),
        ("! 12", Text),
    ];
    for (text, expected) in cases {
        assert_eq!(meaning_of(text), expected, "{text}");
    }
    assert!(matches!(meaning_of(".nan"), Float(value) if value.is_nan()));
}

#[test]
fn a_tag_must_not_contradict_its_text() {
    assert_eq!(error_of("a: 1\nb: !!int x"), "line 2: `x` is not what its tag !!int says");
    assert_eq!(error_of("!!bool 1"), "line 1: `1` is not what its tag !!bool says");
    assert_eq!(error_of("!!float x"), "line 1: `x` is not what its tag !!float says");
    assert_eq!(
        error_of("!!binary aGk="),
        "line 1: the tag !!binary is not supported: write the text itself"
    );
}

#[test]
fn a_scalar_keeps_its_text() {
    let document = parse("k: 0x_1F").unwrap();
    let Content::Scalar(scalar) = &document.root.get("k").unwrap().content else {
        panic!("a scalar")
    };
    assert_eq!((scalar.text.as_str(), scalar.meaning), ("0x_1F", Meaning::Int(31)));
}

#[test]
fn nodes_know_their_lines() {
    let document = parse("# first\na:\n  - b\n  -\n    c: d\n").unwrap();
    let Content::Map(entries) = &document.root.content else { panic!("a mapping") };
    let Content::List(items) = &entries[0].value.content else { panic!("a list") };
    assert_eq!((document.root.line, entries[0].key_line, entries[0].value.line), (2, 2, 3));
    assert_eq!((items[0].line, items[1].line, items[1].get("c").unwrap().line), (3, 5, 5));
}

#[test]
fn only_the_first_document_counts() {
    assert_eq!(json_of("a: 1\n---\nb: [\n"), json!({"a": 1}));
    assert_eq!(json_of("---\na: 1\n...\nrubbish: {"), json!({"a": 1}));
    assert_eq!(json_of("---\n---\na: 1\n"), json!(null));
    for empty in ["", "\n\n", "# a comment\n", "---\n", "\u{feff}", "...\n"] {
        assert_eq!(json_of(empty), json!(null), "{empty:?}");
    }
}

#[test]
fn what_follows_the_document_is_not_skipped_silently() {
    assert!(error_of("{a: 1}\nb: 2\n").starts_with("line 2: "), "{}", error_of("{a: 1}\nb: 2\n"));
}

#[test]
fn anchors_stand_for_what_they_name() {
    assert_eq!(
        json_of("a: &x {b: [1, 2]}\nc: *x\nd: [*x, *x]"),
        json_of("a: {b: [1, 2]}\nc: {b: [1, 2]}\nd: [{b: [1, 2]}, {b: [1, 2]}]")
    );
    assert_eq!(json_of("a: &x 1\nb: &x 2\nc: *x"), json!({"a": 1, "b": 2, "c": 2}));
    assert_eq!(json_of("&k key: 1\nother: *k"), json!({"key": 1, "other": "key"}));
    assert_eq!(json_of("a: &k b\n*k : 1"), json!({"a": "b", "b": 1}));
}

#[test]
fn an_alias_must_name_something_that_has_ended() {
    assert_eq!(error_of("a: &x [1, *x]"), "line 1: an anchor contains an alias of itself");
    assert_eq!(error_of("a: &x\n  <<: *x"), "line 2: an anchor contains an alias of itself");
    assert!(error_of("a: 1\nb: *nothing").starts_with("line 2: "));
}

#[test]
fn merge_keys_bring_what_the_mapping_does_not_have() {
    assert_eq!(
        json_of("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}"),
        json!({"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}})
    );
    assert_eq!(json_of("a: &x {p: 1, q: 2}\nb: {q: 3, <<: *x}")["b"], json!({"p": 1, "q": 3}));
    assert_eq!(
        json_of("a: &x {p: 1}\nb: &y {p: 2, q: 2}\nc: {<<: [*x, *y]}")["c"],
        json!({"p": 1, "q": 2})
    );
    assert_eq!(json_of("a: {<<: {p: 1}}"), json!({"a": {"p": 1}}));
    assert_eq!(json_of("a: {'<<': 1}"), json!({"a": {"<<": 1}}));
    assert_eq!(json_of("a: <<"), json!({"a": "<<"}));
    assert_eq!(error_of("a:\n  <<: 1"), "line 2: `<<` merges a mapping or a list of mappings");
    assert_eq!(
        error_of("a:\n  <<: [{}, x]"),
        "line 2: `<<` merges a mapping or a list of mappings"
    );
}

#[test]
fn the_last_of_equal_keys_counts_and_is_reported() {
    let document = parse("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n1: x\n0x1: y\n'1': z\n").unwrap();
    assert_eq!(document.root.get("a").unwrap().to_json().unwrap(), json!(3));
    assert_eq!(document.root.get("b").unwrap().to_json().unwrap(), json!({"c": 2}));
    let repeated: Vec<_> =
        document.repeated.iter().map(|repeated| (repeated.line, repeated.key.as_str())).collect();
    assert_eq!(repeated, [(4, "c"), (5, "a"), (7, "0x1")]);
    let Content::Map(entries) = &document.root.content else { panic!("a mapping") };
    assert_eq!(entries.len(), 4, "the number 1 and the text 1 are two keys");
}

#[test]
fn a_key_is_a_scalar() {
    assert_eq!(
        error_of("a: 1\n[b]: 2"),
        "line 2: the key of a mapping must not be a list or a mapping"
    );
    assert_eq!(
        error_of("? {a: 1}\n: 2"),
        "line 1: the key of a mapping must not be a list or a mapping"
    );
}

#[test]
fn json_keeps_numbers_and_makes_text_of_keys() {
    let text = "{a: 1, b: -1, c: 18446744073709551615, d: 1.5, e: yes, f: ~, g: '1', 7: h, ~: i, 2001-01-01: j}";
    let expected = json!({"a": 1, "b": -1, "c": u64::MAX, "d": 1.5, "e": true, "f": null, "g": "1", "7": "h", "~": "i", "2001-01-01": "j"});
    assert_eq!(json_of(text), expected);
    assert_eq!(
        parse("a: 1\nb: .nan").unwrap().root.to_json().unwrap_err().to_string(),
        "line 2: `.nan` is not a number that JSON has"
    );
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(error_of(&nested(MAX_DEPTH + 1)), "line 1: nested more than 100 levels deep");
    assert!(parse(&"[".repeat(10_000)).is_err());
    assert!(parse(&"{a: ".repeat(10_000)).is_err());
    assert!(parse(&"- ".repeat(10_000)).is_err());
    let indented = |depth: usize| {
        (0..depth).map(|level| format!("{}a:\n", " ".repeat(level))).collect::<String>()
    };
    assert!(parse(&indented(MAX_DEPTH)).is_ok());
    assert_eq!(error_of(&indented(MAX_DEPTH + 1)), "line 101: nested more than 100 levels deep");
}

#[test]
fn depth_counts_what_an_alias_names() {
    let chain = |links: usize| {
        (1..=links).fold("a0: &a0 []\n".to_owned(), |text, n| {
            text + &format!("a{n}: &a{n} [*a{}]\n", n - 1)
        })
    };
    assert!(parse(&chain(MAX_DEPTH - 2)).is_ok());
    assert_eq!(error_of(&chain(MAX_DEPTH - 1)), "line 100: nested more than 100 levels deep");
}

#[test]
fn what_is_written_is_not_bounded_and_what_aliases_repeat_is() {
    let written = format!("[{}]", "1,".repeat(MAX_REPEATED_NODES + 1));
    assert!(parse(&written).is_ok(), "a hundred thousand rules have more than a million nodes");
    // A list of 999 is a node itself.
    let repeated =
        |times: usize| format!("a: &a [{}]\nb: [{}]", "1,".repeat(999), "*a,".repeat(times));
    assert!(parse(&repeated(MAX_REPEATED_NODES / 1000)).is_ok());
    assert_eq!(
        error_of(&repeated(MAX_REPEATED_NODES / 1000 + 1)),
        "line 2: aliases repeat more than 1000000 nodes"
    );
}

#[test]
fn an_alias_bomb_is_refused() {
    let levels =
        (1..=9).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")));
    let bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned() + &levels.collect::<String>();
    assert_eq!(error_of(&bomb), "line 7: aliases repeat more than 1000000 nodes");
    let merges = (1..=30).map(|n| format!("a{n}: &a{n}\n  <<: [*a{}, *a{}]\n", n - 1, n - 1));
    let merge_bomb = "a0: &a0 {b: 1}\n".to_owned() + &merges.collect::<String>();
    assert!(error_of(&merge_bomb).ends_with("aliases repeat more than 1000000 nodes"));
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(1 << 20), vec!["*a"; 17].join(", "));
    assert_eq!(error_of(&long), "line 2: aliases repeat more than 16777216 bytes of text");
}

#[test]
fn broken_texts_are_errors_with_a_line() {
    let cases = [
        "a: [1,\nb",
        "a: {",
        "a: \"x\n\n",
        "a:\n  b: 1\n c: 2\n",
        "a: 1\n\tb: 2\n",
        "a: b: c",
        "%YAML 9\n%YAML 9\n---\n",
        "- a\nb: c",
        "}",
    ];
    for text in cases {
        let error = parse(text).expect_err(text);
        assert!(error.line >= 1 && !error.reason.is_empty(), "{text:?}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = parse(&text).map(|document| document.root.to_json());
    }

    #[test]
    fn no_yaml_like_text_makes_it_panic(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        let _ = parse(&pieces.concat()).map(|document| document.root.to_json());
    }
}

/// What YAML is made of.
const PIECES: &[&str] = &[
    "a",
    "b",
    "1",
    "\n",
    "\n",
    "\n  ",
    "\n    ",
    " ",
    ": ",
    ":",
    "- ",
    "-",
    "? ",
    "?",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&x ",
    "*x",
    "<<",
    "'",
    "\"",
    "\\",
    "|\n",
    ">\n",
    "|2-\n",
    "#",
    " # c\n",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "%TAG ! x\n",
    "!!str ",
    "!x ",
    "!<y> ",
    "!",
    "~",
    "\t",
    "\r\n",
    "\0",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "é",
    "\\x41",
    "\\u00",
    "@",
    "`",
    "%",
    "=",
];

#[test]
fn a_tab_after_a_colon_is_a_blank() {
    assert_eq!(
        json_of("a:\tb\nc:\n  d:\t\t1\n  e:\t\"x:\ty\"\n"),
        json!({"a": "b", "c": {"d": 1, "e": "x:\ty"}})
    );
    assert_eq!(json_of("{unit:\tminute, n:\t3}"), json!({"unit": "minute", "n": 3}));
    assert_eq!(json_of("it's:\tfine\nb:\tc"), json!({"it's": "fine", "b": "c"}));
    // What is wrong for another reason is told as it is.
    assert!(
        error_of("a:\tb\n  c: d: e\n").starts_with("line "),
        "{}",
        error_of("a:\tb\n  c: d: e\n")
    );
}
