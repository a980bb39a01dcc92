use proptest::prelude::*;

use super::*;

fn normal(path: &str) -> String {
    String::from_utf8(RequestPath::new(path.as_bytes()).normal().to_vec()).unwrap()
}

fn readings(path: &str) -> Vec<String> {
    let path = RequestPath::new(path.as_bytes());
    path.readings().map(|reading| String::from_utf8(reading.to_vec()).unwrap()).collect()
}

#[test]
fn spellings_of_one_path_are_one_path() {
    for (path, is) in [
        ("/reports", "/reports"),
        ("/reports?from=1", "/reports"),
        ("/reports#top", "/reports"),
        ("/reports?/x#y", "/reports"),
        ("/reports/", "/reports"),
        ("/reports//", "/reports"),
        ("//reports", "/reports"),
        ("///a///b///", "/a/b"),
        ("/", "/"),
        ("//", "/"),
        ("/.", "/"),
        ("/..", "/"),
        ("/a/./b", "/a/b"),
        ("/a/b/.", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a"),
        ("/a/../../b", "/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E./b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/...", "/a/..."),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/.b/c.d", "/a/.b/c.d"),
        ("/a;v=1/b;c", "/a/b"),
        ("/a;/b", "/a/b"),
        ("/a/..;/b", "/b"),
        ("/a/..;x=1/b", "/b"),
        ("/a/;x/b", "/a/b"),
        ("/%72eports", "/reports"),
        ("/%7Euser/%2D%5F", "/~user/-_"),
        ("/a%40b/%24%26", "/a@b/$&"),
        ("/caf%C3%A9", "/café"),
        ("/caf%c3%a9", "/café"),
        ("/a%20b", "/a b"),
        ("/100%25", "/100%25"),
        ("/a%25zz", "/a%25zz"),
        // What a proxy is sent.
        ("http://host/reports/", "/reports"),
        ("https://host:443", "/"),
        ("https://host?x", "/"),
        ("", ""),
        ("?x", ""),
    ] {
        assert_eq!(normal(path), is, "{path}");
        assert!(!RequestPath::new(path.as_bytes()).is_doubtful(), "{path}");
    }
}

#[test]
fn a_path_that_servers_read_in_several_ways_has_them_all() {
    for (path, all) in [
        ("/a%2Fb", &["/a%2Fb", "/a/b"] as &[&str]),
        ("/a%2fb", &["/a%2Fb", "/a/b"]),
        ("/public/..%2Fadmin", &["/public/..%2Fadmin", "/admin"]),
        ("/public%2F..%2Fadmin", &["/public%2F..%2Fadmin", "/admin"]),
        ("/public/%2e%2e%2fadmin", &["/public/..%2Fadmin", "/admin"]),
        ("/a\\b", &["/a\\b", "/a/b"]),
        ("/a%5Cb", &["/a%5Cb", "/a/b"]),
        ("/public/..\\admin", &["/public/..\\admin", "/admin"]),
        ("/a%2Fb\\c", &["/a%2Fb\\c", "/a/b\\c", "/a%2Fb/c", "/a/b/c"]),
        ("/a;x%2Fb", &["/a", "/a/b"]),
        // What divides stays as it is, in one spelling; the server behind the one that decodes it
        // divides there.
        ("/a%3fb%23", &["/a%3Fb%23", "/a"]),
        ("/a%3bb", &["/a%3Bb", "/a"]),
        ("/public/..%3b/admin", &["/public/..%3B/admin", "/admin"]),
        ("/public/..%3Bx/%2e%2e%3b/admin", &["/public/..%3Bx/..%3B/admin", "/admin"]),
        // Encoded twice is encoded once after decoding.
        ("/a/%252e%252e/b", &["/a/%252e%252e/b", "/b"]),
        ("/a%252fb", &["/a%252fb", "/a%2Fb", "/a/b"]),
        ("/a/..%255cb", &["/a/..%255cb", "/a/..%5Cb", "/b"]),
        ("/%2572eports", &["/%2572eports", "/reports"]),
        ("/a%2F%3Bb", &["/a%2F%3Bb", "/a/%3Bb", "/a"]),
    ] {
        assert_eq!(readings(path), all, "{path}");
        assert!(RequestPath::new(path.as_bytes()).is_doubtful(), "{path}");
    }
}

#[test]
fn what_cannot_be_read_may_be_any_path() {
    for path in [
        &b"/a%00b"[..],
        b"/a\0b",
        b"/a%0a",
        b"/a\tb",
        b"/.\t./b",
        b"/a%7f",
        b"/a%2500",
        b"/a%250ab",
        b"/a%25c0%25ae",
        b"/a%",
        b"/a%2",
        b"/a%zz",
        b"/a%u002f",
        b"/%c0%ae%c0%ae/x",
        b"/a%c0%af",
        b"/\xc0\xaf",
        b"/%e0%80%af",
    ] {
        assert!(RequestPath::new(path).is_unreadable(), "{}", path.escape_ascii());
    }
    for path in [&b"/caf%e9"[..], b"/caf\xe9", b"/%e0%b8%81", b"/\xe0\xb8\x81", b"/a%25"] {
        assert!(!RequestPath::new(path).is_doubtful(), "{}", path.escape_ascii());
    }
    for path in ["reports", "*", "a/b"] {
        let read = RequestPath::new(path.as_bytes());
        assert!(read.is_doubtful() && read.normal().starts_with(b"/"), "{path}");
    }
}

#[test]
fn dot_segments_are_remembered() {
    let dotted = |path: &str| {
        RequestPath::new(path.as_bytes())
            .dotted()
            .map(|dotted| String::from_utf8(dotted.to_vec()).unwrap())
    };
    assert_eq!(dotted("/a/./b"), Some("/a/./b".to_owned()));
    assert_eq!(dotted("/admin/..;/public/x"), Some("/admin/../public/x".to_owned()));
    assert_eq!(dotted("/a//b/"), None);
    assert_eq!(dotted("/a/.b"), None);
}

/// The rules one after the other, as a person would apply them.
fn naive(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap();
    let mut stack: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment.split(';').next().unwrap() {
            "" | "." => {}
            ".." => drop(stack.pop()),
            name => stack.push(name),
        }
    }
    format!("/{}", stack.join("/"))
}

proptest! {
    #[test]
    fn it_is_what_the_rules_say(path in "/[ab./;?#]{0,24}") {
        prop_assert_eq!(normal(&path), naive(&path));
    }

    #[test]
    fn a_normal_path_is_its_own_spelling(path in proptest::collection::vec(any::<u8>(), 0..48)) {
        let once = RequestPath::new(&path).normal().to_vec();
        if !RequestPath::new(&path).is_doubtful() {
            let again = RequestPath::new(&once);
            prop_assert!(again.dotted().is_none() && again.normal() == once);
        }
    }

    #[test]
    fn encoding_an_unreserved_character_changes_nothing(path in "/[a-z.~_/-]{0,20}", place in any::<prop::sample::Index>()) {
        let place = place.index(path.len());
        let byte = path.as_bytes()[place];
        let spelled = if byte == b'/' { path.clone() } else { format!("{}%{byte:02x}{}", &path[..place], &path[place + 1..]) };
        prop_assert_eq!(normal(&spelled), normal(&path));
    }

    #[test]
    fn any_bytes_have_a_path(path in proptest::collection::vec(any::<u8>(), 0..64)) {
        let read = RequestPath::new(&path);
        prop_assert!(read.readings().count() <= 8);
        prop_assert!(read.readings().all(|reading| reading.is_empty() || reading[0] == b'/'));
    }
}
