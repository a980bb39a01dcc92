use proptest::prelude::*;

use super::*;

fn set(patterns: &[(&str, &str)]) -> PatternSet {
    PatternSet::new("methods", patterns.iter().copied()).unwrap()
}

fn find(patterns: &[(&str, &str)], method: &str, path: &str) -> Option<usize> {
    set(patterns).find(method.as_bytes(), path.as_bytes(), |_| true)
}

#[test]
fn one_pattern_matches_what_it_says() {
    for (pattern, path, matches) in [
        ("/users", "/users", true),
        ("/users", "/users/", false),
        ("/users", "/Users", false),
        ("/users", "/users?id=1", true),
        ("/users", "/users#top", true),
        ("/users", "/users?/x", true),
        ("/users", "", false),
        ("/", "/", true),
        ("/", "//", false),
        ("/users/{id}", "/users/7", true),
        ("/users/{id}", "/users/7?x", true),
        ("/users/{id}", "/users/{id}", true),
        ("/users/{id}", "/users/", false),
        ("/users/{id}", "/users/?7", false),
        ("/users/{id}", "/users/7/", false),
        ("/users/{id}", "/users/7/orders", false),
        ("/users/{id}/orders", "/users/7/orders", true),
        ("/{a}/{b}", "/x/y", true),
        ("/{a}/{b}", "/x//y", false),
        ("/files/*", "/files/a/b/c", true),
        ("/files/*", "/files/", true),
        ("/files/*", "/files", false),
        ("/files/v*", "/files/v1/x", true),
        ("/files/v*", "/files/w1", false),
        ("/u/{id}/*", "/u/7/x/y", true),
        ("/u/{id}/*", "/u//x", false),
        ("/*", "/anything/at/all", true),
        ("*", "/anything", true),
        ("*", "", true),
    ] {
        assert_eq!(find(&[("*", pattern)], "GET", path).is_some(), matches, "{pattern} on {path}");
    }
}

#[test]
fn methods_are_exact_or_any() {
    assert_eq!(find(&[("GET", "/x")], "GET", "/x"), Some(0));
    assert_eq!(find(&[("GET", "/x")], "get", "/x"), None);
    assert_eq!(find(&[("GET", "/x")], "", "/x"), None);
    assert_eq!(find(&[("*", "/x")], "", "/x"), Some(0));
}

#[test]
fn the_most_exact_wins_then_the_first_declared() {
    let patterns = [("GET", "/a/*"), ("GET", "/a/{id}"), ("GET", "/a/me"), ("*", "/a/me"), ("*", "/{x}/{y}"), ("*", "*")];
    assert_eq!(find(&patterns, "GET", "/a/me"), Some(2));
    assert_eq!(find(&patterns, "PUT", "/a/me"), Some(3));
    assert_eq!(find(&patterns, "GET", "/a/7"), Some(1));
    assert_eq!(find(&patterns, "PUT", "/a/7"), Some(4));
    assert_eq!(find(&patterns, "GET", "/a/7/8"), Some(0));
    assert_eq!(find(&patterns, "PUT", "/a/7/8"), Some(5));
    assert_eq!(find(&[("*", "/{x}/b"), ("*", "/a/{y}")], "GET", "/a/b"), Some(0));
    assert_eq!(find(&[("*", "/a/{y}"), ("*", "/{x}/b")], "GET", "/a/b"), Some(0));
    assert_eq!(find(&[("*", "/a/*"), ("*", "/a/b/*")], "GET", "/a/b/c"), Some(0));
}

#[test]
fn what_is_not_accepted_leaves_the_next_best() {
    let patterns = set(&[("*", "/a/*"), ("*", "/a/{id}"), ("*", "/a/me")]);
    assert_eq!(patterns.find(b"GET", b"/a/me", |index| index != 2), Some(1));
    assert_eq!(patterns.find(b"GET", b"/a/me", |index| index == 0), Some(0));
    assert_eq!(patterns.find(b"GET", b"/a/me", |_| false), None);
}

#[test]
fn bytes_that_are_no_text_are_bytes() {
    assert_eq!(set(&[("*", "/u/{id}")]).find(b"\xff", b"/u/\xff\xfe", |_| true), Some(0));
}

#[test]
fn what_is_no_pattern_is_refused_by_field() {
    for path in ["", "users", "/a/*/b", "/a**", "/a/{id", "/a/id}", "/a/x{id}", "/a/{i{d}", "/a/{id}*", "/a?x", "/a#x", "**"] {
        let invalid = PatternSet::new("openMethods", [("GET", "/ok"), ("GET", path)].into_iter()).unwrap_err();
        assert_eq!(invalid.field, "openMethods[1].path", "{path}");
    }
    let invalid = PatternSet::new("openMethods", [("", "/ok")].into_iter()).unwrap_err();
    assert_eq!(invalid.field, "openMethods[0].method");
}

/// Does one pattern match, segment by segment? Class 0 is exact, 1 has `{…}`, 2 a trailing `*`.
fn naive(pattern: &str, path: &str) -> Option<u8> {
    let star = pattern.ends_with('*');
    let wanted: Vec<&str> = pattern.trim_end_matches('*').split('/').collect();
    let given: Vec<&str> = path.split('/').collect();
    for (place, want) in wanted.iter().enumerate() {
        if star && place == wanted.len() - 1 {
            return (given.len() > place && given[place..].join("/").starts_with(want)).then_some(2);
        }
        let segment = given.get(place)?;
        let fits = if want.starts_with('{') { !segment.is_empty() } else { segment == want };
        if !fits {
            return None;
        }
    }
    (wanted.len() == given.len()).then_some(u8::from(pattern.contains('{')))
}

fn pattern() -> impl Strategy<Value = String> {
    let segments = prop::collection::vec(prop::sample::select(vec!["a", "b", "{x}", ""]), 1..4);
    (segments, prop::option::of(prop::sample::select(vec!["/*", "/a*"])))
        .prop_map(|(segments, end)| format!("/{}{}", segments.join("/"), end.unwrap_or("")))
}

proptest! {
    #[test]
    fn the_tree_agrees_with_trying_each(
        patterns in prop::collection::vec(pattern(), 1..12), path in prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", ""]), 1..5),
    ) {
        let path = format!("/{}", path.join("/"));
        let all: Vec<(&str, &str)> = patterns.iter().map(|pattern| ("*", pattern.as_str())).collect();
        let best = patterns.iter().enumerate().filter_map(|(index, pattern)| Some((naive(pattern, &path)?, index))).min();
        prop_assert_eq!(find(&all, "GET", &path), best.map(|(_, index)| index));
    }
}
