//! A Rust file as words: enough to see what it names, without what it only talks about.

use std::fs;
use std::path::Path;

/// A file with its comments and literals left out.
#[derive(Debug)]
pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    /// How many lines the file has.
    pub lines: usize,
    pub words: Vec<Word>,
    /// It is declared `#[cfg(test)]`, or in a module that is.
    pub tests_alone: bool,
}

/// An identifier, a number, `::`, or another mark by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub line: usize,
    /// Inside `mod tests { … }`.
    pub in_tests: bool,
}

/// A path that starts at a root: `crate::decide` is `("crate", "decide")`, and so is
/// `super::decide` where that means the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub root: String,
    pub child: String,
    pub line: usize,
    /// Inside `mod tests { … }`.
    pub in_tests: bool,
}

/// A path from the root of the crate, in full: `super::b::C` in `src/a/d.rs` is `a, b, C`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub path: Vec<String>,
    pub line: usize,
    /// Inside `mod tests { … }`.
    pub in_tests: bool,
}

/// Every Rust file of these folders of a repository, by its name from the root.
pub fn files(root: &Path, folders: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<_> =
        folders.iter().map(|folder| root.join(folder)).filter(|folder| folder.exists()).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

impl Source {
    pub fn read(path: &str, text: &str) -> Self {
        let mut words = words(text);
        mark_tests(&mut words);
        Self { path: path.to_owned(), lines: text.lines().count(), words, tests_alone: false }
    }

    /// The modules that this file declares for tests alone.
    pub fn test_modules(&self) -> Vec<Vec<String>> {
        const DECLARED: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
        let found = self.words.windows(DECLARED.len() + 2).filter(|window| {
            let mut words = window.iter().map(|word| word.text.as_str());
            words.next_back() == Some(";") && words.take(DECLARED.len()).eq(DECLARED)
        });
        let own = || self.module().into_iter().map(str::to_owned);
        found.map(|window| own().chain([window[DECLARED.len()].text.clone()]).collect()).collect()
    }

    /// The modules that this file is in: `src/decide/gcra.rs` is `["decide", "gcra"]`,
    /// `src/main.rs` is `[]`.
    pub fn module(&self) -> Vec<&str> {
        let inside = self.path.strip_prefix("src/").unwrap_or_default().trim_end_matches(".rs");
        inside.split('/').filter(|part| !matches!(*part, "" | "lib" | "main")).collect()
    }

    /// Is the whole file test code?
    pub fn is_test(&self) -> bool {
        self.tests_alone
            || !self.path.starts_with("src/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
    }

    /// Lines on which these words stand one after the other.
    pub fn lines_of(&self, sequence: &[&str]) -> Vec<&Word> {
        let starts = self.words.windows(sequence.len()).filter(|window| {
            window.iter().map(|word| word.text.as_str()).eq(sequence.iter().copied())
        });
        starts.map(|window| &window[0]).collect()
    }

    /// What is named below the roots `crate`, `std` and `core`, directly, by `super`, and in the
    /// groups of `use`.
    pub fn named(&self) -> Vec<Named> {
        let mut named = Vec::new();
        let mut inline: Vec<usize> = Vec::new();
        let mut depth = 0_usize;
        for (at, word) in self.words.iter().enumerate() {
            match word.text.as_str() {
                "{" => {
                    depth += 1;
                    if at >= 2 && self.words[at - 2].text == "mod" {
                        inline.push(depth);
                    }
                }
                "}" => {
                    if inline.last() == Some(&depth) {
                        inline.pop();
                    }
                    depth = depth.saturating_sub(1);
                }
                root @ ("crate" | "std" | "core") => self.children(at, root, &mut named),
                // The first of a chain.
                "super" if at < 2 || self.words[at - 2].text != "super" => {
                    let supers = self.words[at..]
                        .iter()
                        .step_by(2)
                        .take_while(|word| word.text == "super")
                        .count();
                    if supers == self.module().len() + inline.len() {
                        self.children(at + 2 * (supers - 1), "crate", &mut named);
                    }
                }
                _ => {}
            }
        }
        named
    }

    /// Every path below `crate`, `self` and `super`; each branch of a group on its own. Inside an
    /// inline module `super` is read as if it stood outside.
    pub fn references(&self) -> Vec<Reference> {
        let own: Vec<String> = self.module().into_iter().map(str::to_owned).collect();
        let mut found = Vec::new();
        for (at, word) in self.words.iter().enumerate() {
            let parent = own.len().saturating_sub(1);
            let base = match word.text.as_str() {
                "crate" => &[],
                "self" => &own[..],
                "super" => &own[..parent],
                _ => continue,
            };
            let begins = at == 0 || self.words[at - 1].text != "::";
            if begins && self.words.get(at + 1).is_some_and(|next| next.text == "::") {
                self.branches(at + 2, base, &mut found);
            }
        }
        found
    }

    /// The paths below `base` that stand at `at`. Where they end.
    fn branches(&self, at: usize, base: &[String], found: &mut Vec<Reference>) -> usize {
        let Some(word) = self.words.get(at) else { return at };
        if word.text == "{" {
            let mut at = at + 1;
            while self.words.get(at).is_some_and(|word| word.text != "}") {
                let end = self.branches(at, base, found);
                // Up to the next branch: a comma, or `as` and a name.
                let rest = self.words[end..].iter();
                at = end + rest.take_while(|word| !matches!(&*word.text, "," | "}")).count();
                at += usize::from(self.words.get(at).is_some_and(|word| word.text == ","));
            }
            return at + 1;
        }
        let mut path = base.to_vec();
        match word.text.as_str() {
            "self" => {}
            "super" => drop(path.pop()),
            name => path.push(name.to_owned()),
        }
        if self.words.get(at + 1).is_some_and(|next| next.text == "::") {
            return self.branches(at + 2, &path, found);
        }
        found.push(Reference { path, line: word.line, in_tests: word.in_tests });
        at + 1
    }

    /// What follows the root at `at`: one name, or the first name of each branch of a group.
    fn children(&self, at: usize, root: &str, named: &mut Vec<Named>) {
        if self.words.get(at + 1).is_none_or(|word| word.text != "::") {
            return;
        }
        let mut add = |word: &Word| {
            named.push(Named {
                root: root.to_owned(),
                child: word.text.clone(),
                line: word.line,
                in_tests: word.in_tests,
            })
        };
        let mut depth = 0;
        let mut first = true;
        for word in &self.words[at + 2..] {
            match word.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                "," if depth == 1 => first = true,
                _ if first => {
                    first = false;
                    add(word);
                }
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }
}

fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, keep) = next(rest, first);
        let (taken, left) = rest.split_at(length);
        if keep {
            words.push(Word { text: taken.to_owned(), line, in_tests: false });
        }
        line += taken.matches('\n').count();
        rest = left;
    }
    words
}

/// How long the next piece is, and whether it is a word.
fn next(rest: &str, first: char) -> (usize, bool) {
    if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), false)
    } else if rest.starts_with("/*") {
        (block_comment(rest), false)
    } else if let Some(length) = string(rest) {
        (length, false)
    } else if first == '\'' {
        (quote(rest), false)
    } else if first.is_alphanumeric() || first == '_' {
        (rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()), true)
    } else if rest.starts_with("::") {
        (2, true)
    } else {
        (first.len_utf8(), !first.is_whitespace())
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of a string literal of any kind that starts here.
fn string(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix);
        after.is_some_and(|after| {
            after.starts_with('"')
                || prefix.contains('r')
                    && after.trim_start_matches('#').starts_with('"')
                    && after.starts_with('#')
        })
    })?;
    let body = &rest[prefix.len()..];
    if prefix.contains('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let start = prefix.len() + hashes + 1;
        return Some(rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len()));
    }
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(prefix.len() + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// A character literal or a lifetime.
fn quote(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    let (Some((_, first)), second) = (chars.next(), chars.next()) else { return rest.len() };
    match second {
        _ if first == '\\' => rest[3..].find('\'').map_or(rest.len(), |at| at + 4),
        Some((at, '\'')) => at + 1,
        _ => rest[1..]
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(rest.len(), |at| at + 1),
    }
}

fn mark_tests(words: &mut [Word]) {
    let mut depth = 0_usize;
    let mut tests_at = None;
    for at in 0..words.len() {
        if words[at].text == "{" {
            depth += 1;
            if at >= 2
                && words[at - 1].text == "tests"
                && words[at - 2].text == "mod"
                && tests_at.is_none()
            {
                tests_at = Some(depth);
            }
        }
        words[at].in_tests = tests_at.is_some();
        if words[at].text == "}" {
            if tests_at == Some(depth) {
                tests_at = None;
            }
            depth = depth.saturating_sub(1);
        }
    }
}

#[test]
fn only_words_are_left_of_a_file() {
    let cases = [
        ("a // b \" c\nd", "a d"),
        ("a /* b /* c */ d */ e", "a e"),
        (r#"a "b \" // c" d"#, "a d"),
        (r##"a r#"b " c"# br"d" e"##, "a e"),
        ("r#type r1 b'x' c", "r # type r1 b c"),
        ("'a' '\\'' '\\u{1F}' fn f<'long>(x: &'long u8)", "fn f < > ( x : & u8 )"),
        ("std::fs::read(1_000.5)", "std :: fs :: read ( 1_000 . 5 )"),
        ("a \"unfinished", "a"),
    ];
    for (text, expected) in cases {
        let got: Vec<String> = words(text).into_iter().map(|word| word.text).collect();
        assert_eq!(got.join(" "), expected, "{text}");
    }
    assert_eq!(words("a\n\"b\nc\" d").last().unwrap().line, 3);
}

#[test]
fn paths_are_followed_to_their_root() {
    let cases = [
        ("src/a.rs", "use crate::decide::gcra::{RateLimit, Answer};", vec!["crate decide"]),
        (
            "src/a.rs",
            "use crate::{clock, decide::{time, gcra}, rules as r};",
            vec!["crate clock", "crate decide", "crate rules"],
        ),
        ("src/a.rs", "use std::{fs::{File, read}, net};", vec!["std fs", "std net"]),
        (
            "src/a.rs",
            "pub(crate) fn f() { crate::grpc::f(); ::core::mem::take(x) }",
            vec!["crate grpc", "core mem"],
        ),
        ("src/a.rs", "use super::grpc; use self::x; use super::super::y;", vec!["crate grpc"]),
        (
            "src/a/b.rs",
            "use super::c; use super::super::grpc::{d, e}; use super::super::{http, cli::f};",
            vec!["crate grpc", "crate http", "crate cli"],
        ),
        (
            "src/a.rs",
            "mod tests { use super::*; use super::super::grpc; } use super::http;",
            vec!["crate grpc", "crate http"],
        ),
        ("src/a.rs", "use crate::*;", vec!["crate *"]),
        ("src/main.rs", "fn main() { tollgate::cli::run() }", vec![]),
    ];
    for (path, text, expected) in cases {
        let got = Source::read(path, text).named();
        let got: Vec<String> =
            got.into_iter().map(|named| format!("{} {}", named.root, named.child)).collect();
        assert_eq!(got, expected, "{path}: {text}");
    }
}

#[test]
fn what_is_inside_a_test_module_is_known() {
    let source = Source::read("src/a.rs", "fn a() {} mod tests { fn b() { {} } } fn c() {}");
    let in_tests =
        |name: &str| source.words.iter().find(|word| word.text == name).unwrap().in_tests;
    assert_eq!(["a", "b", "c"].map(in_tests), [false, true, false]);
    assert_eq!(
        ["src/a.rs", "src/a/tests.rs", "tests/it/a.rs"]
            .map(|path| Source::read(path, "").is_test()),
        [false, true, true]
    );
    let source = Source::read("src/a.rs", "#[cfg(test)] mod b; #[cfg(test)] mod c {} mod d;");
    assert_eq!(source.test_modules(), [["a", "b"]]);
}
