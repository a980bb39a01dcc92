use proptest::prelude::*;

use super::*;

fn set(patterns: &[(&str, &str)]) -> PatternSet {
    PatternSet::new("methods", patterns.iter().copied()).unwrap()
}

fn met(patterns: &[(&str, &str)], method: &str, path: &str) -> Vec<usize> {
    set(patterns).met(method.as_bytes(), &RequestPath::new(path.as_bytes()), |_| true).to_vec()
}

fn find(patterns: &[(&str, &str)], method: &str, path: &str) -> Option<usize> {
    let met = met(patterns, method, path);
    assert!(met.len() <= 1, "{met:?}");
    met.first().copied()
}

fn is_open(pattern: &str, path: &str) -> bool {
    set(&[("*", pattern)]).surely_has(b"GET", &RequestPath::new(path.as_bytes()))
}

#[test]
fn one_pattern_matches_what_it_says() {
    for (pattern, path, matches) in [
        ("/users", "/users", true),
        ("/users", "/users/", true),
        ("/users/", "/users", true),
        ("/users", "//users", true),
        ("/users", "/%75sers", true),
        ("/users", "/a/../users", true),
        ("/users", "/Users", false),
        ("/users", "/users?id=1", true),
        ("/users", "/users#top", true),
        ("/users", "/users?/x", true),
        ("/users", "", false),
        ("/", "/", true),
        ("/", "//", true),
        ("/users/{id}", "/users/7", true),
        ("/users/{id}", "/users/7?x", true),
        ("/users/{id}", "/users/{id}", true),
        ("/users/{id}", "/users/", false),
        ("/users/{id}", "/users/?7", false),
        ("/users/{id}", "/users/7/", true),
        ("/users/{id}", "/users/7/orders", false),
        ("/users/{id}/orders", "/users/7/orders", true),
        ("/{a}/{b}", "/x/y", true),
        ("/{a}/{b}", "/x//y", true),
        ("/files/*", "/files/a/b/c", true),
        ("/files/*", "/files/", true),
        ("/files/*", "/files", true),
        ("/files/*", "/filesystem", false),
        ("/files/{proxy+}", "/files/a/b/c", true),
        ("/files/{proxy+}", "/files", true),
        ("/{proxy+}", "/a/b", true),
        ("/caf%c3%a9", "/café", true),
        ("/café", "/caf%C3%A9", true),
        ("/files/v*", "/files/v1/x", true),
        ("/files/v*", "/files/w1", false),
        ("/u/{id}/*", "/u/7/x/y", true),
        ("/u/{id}/*", "/u//x", true),
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
    assert_eq!(find(&[("GET", "/x")], "GETS", "/x"), None);
    assert_eq!(find(&[("GET", "/x")], "GET ", "/x"), None);
    assert_eq!(find(&[("GET", "/x")], "", "/x"), None);
    assert_eq!(find(&[("*", "/x")], "", "/x"), Some(0));
}

#[test]
fn a_method_in_small_letters_meets_the_limit_and_opens_nothing() {
    for method in ["get", "Get", "head"] {
        assert_eq!(met(&[("GET", "/x")], method, "/x"), [0], "{method}");
        assert_eq!(met(&[("GET", "/x")], method, "/%zz"), [0], "{method}");
        assert!(
            !set(&[("GET", "/x")]).surely_has(method.as_bytes(), &RequestPath::new(b"/x")),
            "{method}"
        );
    }
    let longest = "g".repeat(MAX_METHOD);
    assert_eq!(met(&[(&longest.to_uppercase(), "/x")], &longest, "/x"), [0]);
    assert_eq!(met(&[("*", "/x")], &"g".repeat(MAX_METHOD + 1), "/x"), [0]);
}

#[test]
fn any_is_all_methods() {
    assert_eq!(find(&[("ANY", "/x")], "GET", "/x"), Some(0));
    assert_eq!(find(&[("ANY", "/x")], "ANY", "/x"), Some(0));
}

#[test]
fn head_meets_what_get_is_declared_to_unless_head_is_declared() {
    assert_eq!(find(&[("GET", "/x")], "HEAD", "/x"), Some(0));
    assert_eq!(find(&[("POST", "/x")], "HEAD", "/x"), None);
    assert_eq!(find(&[("GET", "/x"), ("HEAD", "/x")], "HEAD", "/x"), Some(1));
    assert_eq!(find(&[("GET", "/x"), ("HEAD", "/*")], "HEAD", "/x"), Some(1));
    // HEAD is declared, but not for this path.
    assert_eq!(find(&[("GET", "/x"), ("HEAD", "/y")], "HEAD", "/x"), Some(0));
    assert_eq!(find(&[("*", "/*"), ("GET", "/x")], "HEAD", "/x"), Some(1));
}

#[test]
fn a_doubtful_path_meets_one_pattern_for_each_reading() {
    let patterns =
        [("GET", "/files/*"), ("GET", "/reports"), ("GET", "/login"), ("POST", "/reports")];
    assert_eq!(met(&patterns, "GET", "/files/..%2Freports"), [0, 1]);
    assert_eq!(met(&patterns, "GET", "/files\\..\\reports"), [1]);
    assert_eq!(met(&patterns, "GET", "/files/group%2Fproject"), [0]);
    // Nobody can say which path that is.
    assert_eq!(met(&patterns, "GET", "/%zz"), [0, 1, 2]);
    assert_eq!(met(&patterns, "HEAD", "/reports%00.png"), [0, 1, 2]);
    assert_eq!(met(&patterns, "GET", "reports"), [1]);
    // Decoded by one server, divided by the next.
    assert_eq!(met(&patterns, "GET", "/reports%3Fx"), [1]);
    assert_eq!(met(&patterns, "GET", "/files/..%3b/reports"), [0, 1]);
    assert_eq!(met(&patterns, "GET", "/reports%0a"), [0, 1, 2]);
}

#[test]
fn an_open_method_is_for_what_is_surely_its_path() {
    for (pattern, path, open) in [
        ("/public/*", "/public/logo.png", true),
        ("/public/*", "/public/logo.png?v=1", true),
        ("/public/*", "/public//logo.png", true),
        ("/public/*", "/public/./logo.png", true),
        ("/public/*", "/public/%6Cogo.png", true),
        ("/public/*", "/public/../admin/users", false),
        ("/public/*", "/public/%2e%2e/admin/users", false),
        ("/public/*", "/public/..;/admin/users", false),
        ("/public/*", "/public/..%2fadmin/users", false),
        ("/public/*", "/public/..%5cadmin/users", false),
        ("/public/*", "/public/..\\admin/users", false),
        ("/public/*", "/public/x%2Fy", false),
        ("/public/*", "/public/..%3b/admin/users", false),
        ("/public/*", "/public/%252e%252e/admin/users", false),
        ("/public/*", "/public/..%252fadmin/users", false),
        ("/public/*", "/public/x%0a", false),
        ("/public/*", "/public/c%23%3b%3f.png", true),
        ("/public/*", "/public/100%25", true),
        ("/public/*", "/public/x%00", false),
        ("/public/*", "/public/%", false),
        ("/public/*", "/public/%c0%ae%c0%ae/admin", false),
        // A server that leaves dot segments alone reads these as paths of /admin.
        ("/public/*", "/admin/../public/logo.png", false),
        ("/public/*", "/admin/..;/public/logo.png", false),
        ("/public/*", "public/logo.png", false),
        ("*", "/a%2Fb", false),
        ("*", "", true),
        ("/health", "/health/", true),
    ] {
        assert_eq!(is_open(pattern, path), open, "{pattern} for {path}");
    }
}

#[test]
fn the_most_exact_wins_then_the_first_declared() {
    let patterns = [
        ("GET", "/a/*"),
        ("GET", "/a/{id}"),
        ("GET", "/a/me"),
        ("*", "/a/me"),
        ("*", "/{x}/{y}"),
        ("*", "*"),
    ];
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
    let met = |accept: fn(usize) -> bool| {
        patterns.met(b"GET", &RequestPath::new(b"/a/me"), accept).to_vec()
    };
    assert_eq!(met(|index| index != 2), [1]);
    assert_eq!(met(|index| index == 0), [0]);
    assert!(met(|_| false).is_empty());
}

#[test]
fn bytes_that_are_no_text_are_bytes() {
    assert_eq!(
        set(&[("*", "/u/{id}")]).met(b"\xff", &RequestPath::new(b"/u/\xff\xfe"), |_| true).to_vec(),
        [0]
    );
}

#[test]
fn what_is_no_pattern_is_refused_by_field() {
    for path in [
        "", "users", "/a/*/b", "/a**", "/a/{id", "/a/id}", "/a/x{id}", "/a/{i{d}", "/a/{id}*",
        "/a?x", "/a#x", "**",
    ] {
        let invalid = PatternSet::new("openMethods", [("GET", "/ok"), ("GET", path)].into_iter())
            .unwrap_err();
        assert_eq!(invalid.field, "openMethods[1].path", "{path}");
    }
    let invalid = PatternSet::new("openMethods", [("", "/ok")].into_iter()).unwrap_err();
    assert_eq!(invalid.field, "openMethods[0].method");
}

#[test]
fn what_another_gateway_would_read_otherwise_is_refused() {
    for (path, why) in [
        ("/files/:id", "write `{name}`"),
        ("/a/{x+}/b", "at its end only"),
        ("/a/{x:[0-9]}", "plain name"),
        ("/a/{x*}", "at its end only"),
        ("/a/**", "at its end only"),
        ("/a/.*", "regular expression"),
        ("/a/(.+)", "regular expression"),
        ("/a/<id>", "regular expression"),
        ("^/a", "start with `/`"),
        ("/a//b", "empty segments"),
        ("/a/../b", "are removed"),
        ("/a/%2e%2e/b", "are removed"),
        ("/a/.", "are removed"),
        ("/a;v=1", "parameters"),
        ("/a%2Fb", "encoded slash"),
        ("/a\\b", "backslash"),
        ("/a%", "`%` that encodes nothing"),
        ("*/*", "start with `/`"),
    ] {
        let reason = check_path(path).expect_err(path);
        assert!(reason.contains(why), "{path}: {reason}");
    }
    for path in [
        "/a/.*".trim_end_matches(".*"),
        "/a/{id}",
        "/a/{user-id.x}",
        "/a/{proxy+}",
        "/{proxy+}",
        "/a/.x*",
        "/a/b:cancel",
        "/Users(1)",
        "/a/caf%C3%A9",
        "/*",
    ] {
        assert_eq!(check_path(path), Ok(()), "{path}");
    }
}

#[test]
fn patterns_that_match_the_same_have_one_shape() {
    for (one, other) in [
        ("/a", "/a/"),
        ("/{x}", "/{y}"),
        ("/a/*", "/a/{p+}"),
        ("/*", "/{p+}"),
        ("/%61", "/a"),
        ("/{x}/", "/{y}"),
    ] {
        assert_eq!(Shape::of(one), Shape::of(other), "{one} {other}");
    }
    for (one, other) in [
        ("/a", "/b"),
        ("/a", "/a/*"),
        ("/a/*", "/a*"),
        ("/{x}", "/{x}/{y}"),
        ("/", "/*"),
        ("*", "/*"),
    ] {
        assert_ne!(Shape::of(one), Shape::of(other), "{one} {other}");
    }
}

/// Does one pattern match, segment by segment? Class 0 is exact, 1 has `{…}`, 2 a trailing `*`.
fn naive(pattern: &str, path: &str) -> Option<u8> {
    let star = pattern.ends_with('*');
    let pattern =
        if pattern.len() > 1 { pattern.strip_suffix('/').unwrap_or(pattern) } else { pattern };
    let wanted: Vec<&str> = pattern.trim_end_matches('*').split('/').collect();
    let given: Vec<&str> = path.split('/').collect();
    for (place, want) in wanted.iter().enumerate() {
        if star && place == wanted.len() - 1 {
            if want.is_empty() && given.len() == place {
                return Some(2);
            }
            return (given.len() > place && given[place..].join("/").starts_with(want))
                .then_some(2);
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
    let segments = prop::collection::vec(prop::sample::select(vec!["a", "b", "{x}"]), 1..4);
    (segments, prop::option::of(prop::sample::select(vec!["/*", "/a*"])))
        .prop_map(|(segments, end)| format!("/{}{}", segments.join("/"), end.unwrap_or("")))
}

proptest! {
    #[test]
    fn the_tree_agrees_with_trying_each(
        patterns in prop::collection::vec(pattern(), 1..12), path in prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", ""]), 1..5),
    ) {
        let path = format!("/{}", path.join("/"));
        let path = String::from_utf8(RequestPath::new(path.as_bytes()).normal().to_vec()).unwrap();
        let all: Vec<(&str, &str)> = patterns.iter().map(|pattern| ("*", pattern.as_str())).collect();
        let best = patterns.iter().enumerate().filter_map(|(index, pattern)| Some((naive(pattern, &path)?, index))).min();
        prop_assert_eq!(find(&all, "GET", &path), best.map(|(_, index)| index));
    }
}
