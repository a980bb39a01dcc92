//! Method and path patterns: which of many a call matches.
//!
//! A path pattern is `/users/me` (exact), `/users/{id}` (`{…}` stands for one segment), `/files/*`
//! or `/files/{rest+}` (the rest, which may be empty), or `*` alone (any path). Of the patterns
//! that match, an exact path is taken before one with `{…}`, that before a trailing `*`, then the
//! one declared first. A method is exact, or `*` or `ANY` for all, and does not rank; HEAD meets
//! what GET is declared to, unless HEAD is declared. Case matters in paths. Patterns and paths are
//! compared as [`RequestPath`] spells them.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::quality::RandomState;
use smallvec::SmallVec;

use super::invalid::Invalid;
use super::path::{RequestPath, decoded, is_doubtful_literal};

/// Patterns prepared for matching: exact paths by hash, the others by a tree of segments.
#[derive(Debug, Default)]
pub struct PatternSet {
    exact: HashMap<Box<[u8]>, SmallVec<[Entry; 1]>, RandomState>,
    tree: Node,
    /// Some pattern is for HEAD.
    declares_head: bool,
}

/// One declared pattern, under the path that it was filed by.
#[derive(Clone, Debug)]
struct Entry {
    /// `None` is any.
    method: Option<Box<[u8]>>,
    /// The place in the declaration.
    index: usize,
}

/// What may follow after some segments.
#[derive(Debug, Default)]
struct Node {
    literal: HashMap<Box<[u8]>, Node, RandomState>,
    any: Option<Box<Node>>,
    /// Patterns with `{…}` that end here.
    ends: SmallVec<[Entry; 1]>,
    /// Patterns with a trailing `*`, and how the rest must start.
    rest: Vec<(Box<[u8]>, Entry)>,
}

/// The best match so far of a walk through the tree, by declared place.
#[derive(Default)]
struct Best {
    segments: Option<usize>,
    rest: Option<usize>,
}

impl PatternSet {
    /// Prepares `(method, path)` pairs. Errors name `field[index].path` or `.method`. What
    /// [`check_path`] refuses beyond what cannot be prepared is taken here: it may have been
    /// declared before that was refused.
    pub fn new<'a>(
        field: &str,
        patterns: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Invalid> {
        let mut set = Self::default();
        for (index, (method, path)) in patterns.enumerate() {
            let wrong =
                |part: &str, reason: &str| Invalid::new(format!("{field}[{index}].{part}"), reason);
            if method.is_empty() {
                return Err(wrong("method", "must be an HTTP method, or `*` for all"));
            }
            check_form(path).map_err(|reason| wrong("path", reason))?;
            let method = (!is_any(method)).then(|| Box::from(method.as_bytes()));
            set.declares_head |= method.as_deref() == Some(HEAD);
            set.add(path, Entry { method, index });
        }
        Ok(set)
    }

    fn add(&mut self, path: &str, entry: Entry) {
        let Shape { segments, rest } = Shape::of(path);
        if rest.is_none() && segments.iter().all(Option::is_some) {
            self.exact.entry(exact(&segments)).or_default().push(entry);
            return;
        }
        let mut node = &mut self.tree;
        for segment in segments {
            node = match segment {
                None => node.any.get_or_insert_default(),
                Some(literal) => node.literal.entry(literal.into()).or_default(),
            };
        }
        match rest {
            Some(start) => node.rest.push((start.into(), entry)),
            None => node.ends.push(entry),
        }
    }

    /// Is there no pattern?
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.tree.is_empty()
    }

    /// The place in the declaration of the best pattern that matches a normal path and that
    /// `accept` accepts.
    fn find(&self, method: &[u8], path: &[u8], accept: impl Fn(usize) -> bool) -> Option<usize> {
        if method == HEAD {
            let declared = self.declares_head
                && self
                    .best(path, |entry| {
                        entry.method.as_deref() == Some(HEAD) && accept(entry.index)
                    })
                    .is_some();
            if !declared {
                return self.find(b"GET", path, accept);
            }
        }
        self.best(path, |entry| {
            entry.method.as_deref().is_none_or(|only| only == method) && accept(entry.index)
        })
    }

    fn best(&self, path: &[u8], fits: impl Fn(&Entry) -> bool) -> Option<usize> {
        if let Some(entries) = self.exact.get(path)
            && let Some(entry) = entries.iter().find(|entry| fits(entry))
        {
            return Some(entry.index);
        }
        let mut best = Best::default();
        self.tree.walk(Some(path), &fits, &mut best);
        best.segments.or(best.rest)
    }

    /// Every pattern that the call meets, by its place in the declaration: the best one of each
    /// reading of the path. Of a path that nobody can read, every pattern for the method. Some
    /// servers take `get` for GET, so it meets what GET is declared to.
    pub fn met(
        &self,
        method: &[u8],
        path: &RequestPath<'_>,
        accept: impl Fn(usize) -> bool,
    ) -> Places {
        let mut met = Places::new();
        let method = &*in_capitals(method);
        if path.is_unreadable() {
            let mut entries = Vec::new();
            self.exact.values().for_each(|exact| entries.extend(exact.iter()));
            self.tree.entries(&mut entries);
            let for_method = |only: &[u8]| only == method || method == HEAD && only == b"GET";
            let fits = |entry: &&Entry| {
                entry.method.as_deref().is_none_or(for_method) && accept(entry.index)
            };
            met.extend(entries.into_iter().filter(fits).map(|entry| entry.index));
            met.sort_unstable();
            return met;
        }
        for reading in path.readings() {
            if let Some(place) = self.find(method, reading, &accept)
                && !met.contains(&place)
            {
                met.push(place);
            }
        }
        met
    }

    /// Is the call one of these, however the server behind reads its path?
    pub fn surely_has(&self, method: &[u8], path: &RequestPath<'_>) -> bool {
        let has = |path| self.find(method, path, |_| true).is_some();
        path.can_be_open() && path.readings().all(has) && path.dotted().is_none_or(has)
    }
}

/// The method as patterns have it. What is longer than theirs may be matches none.
fn in_capitals(method: &[u8]) -> Cow<'_, [u8]> {
    if method.len() <= MAX_METHOD && method.iter().any(u8::is_ascii_lowercase) {
        Cow::Owned(method.to_ascii_uppercase())
    } else {
        Cow::Borrowed(method)
    }
}

/// Places in a declaration.
pub type Places = SmallVec<[usize; 1]>;

const HEAD: &[u8] = b"HEAD";
/// Bytes of the longest method that a pattern may have.
pub const MAX_METHOD: usize = 32;

/// Does the method of a pattern stand for all? `ANY` is what AWS writes.
pub fn is_any(method: &str) -> bool {
    matches!(method, "*" | "ANY")
}

/// What a path pattern matches, however it is written: two patterns of one shape match the same
/// paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// `None` is any segment.
    segments: Vec<Option<Vec<u8>>>,
    /// How the rest starts, where there may be a rest.
    rest: Option<Vec<u8>>,
}

impl Shape {
    /// The shape of a pattern.
    pub fn of(path: &str) -> Self {
        let (body, has_rest) = match path.strip_suffix('*') {
            Some(body) => (body, true),
            None => path
                .rsplit_once('/')
                .filter(|(_, last)| is_rest(last))
                .map_or((path, false), |(body, _)| (body, true)),
        };
        // `/files/{rest+}` is `/files/*`: its last segment is the rest.
        let body =
            if has_rest && !path.ends_with('*') { format!("{body}/") } else { body.to_owned() };
        let mut segments: Vec<&str> = body.split('/').collect();
        let rest = if has_rest { segments.pop().map(decoded) } else { None };
        // A slash at the end is no other path; `/` alone is one.
        if !has_rest && segments.len() > 2 && segments.last() == Some(&"") {
            segments.pop();
        }
        let one = |segment: &str| (!segment.starts_with('{')).then(|| decoded(segment));
        Self { segments: segments.into_iter().map(one).collect(), rest }
    }
}

/// An exact path, as a request would spell it.
fn exact(segments: &[Option<Vec<u8>>]) -> Box<[u8]> {
    segments
        .iter()
        .map(|segment| segment.as_deref().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(&b'/')
        .into()
}

impl Node {
    fn is_empty(&self) -> bool {
        self.literal.is_empty()
            && self.any.is_none()
            && self.ends.is_empty()
            && self.rest.is_empty()
    }

    fn entries<'n>(&'n self, all: &mut Vec<&'n Entry>) {
        all.extend(&self.ends);
        all.extend(self.rest.iter().map(|(_, entry)| entry));
        self.literal.values().chain(self.any.as_deref()).for_each(|node| node.entries(all));
    }

    /// `path` is what is left of it, `None` after its last segment.
    fn walk(&self, path: Option<&[u8]>, fits: &impl Fn(&Entry) -> bool, best: &mut Best) {
        let Some(path) = path else {
            for entry in self.ends.iter().filter(|entry| fits(entry)) {
                keep_first(&mut best.segments, entry.index);
            }
            // `/files/` and `/files` are one path, and the rest may be empty.
            for (_, entry) in
                self.rest.iter().filter(|(start, entry)| start.is_empty() && fits(entry))
            {
                keep_first(&mut best.rest, entry.index);
            }
            return;
        };
        for (_, entry) in
            self.rest.iter().filter(|(start, entry)| path.starts_with(start) && fits(entry))
        {
            keep_first(&mut best.rest, entry.index);
        }
        let mut parts = path.splitn(2, |&byte| byte == b'/');
        let segment = parts.next().unwrap_or_default();
        let left = parts.next();
        if let Some(node) = self.literal.get(segment) {
            node.walk(left, fits, best);
        }
        if let Some(node) = self.any.as_deref().filter(|_| !segment.is_empty()) {
            node.walk(left, fits, best);
        }
    }
}

fn keep_first(best: &mut Option<usize>, index: usize) {
    *best = Some(best.map_or(index, |first| first.min(index)));
}

/// Can this be prepared? Errors are phrases that complete "`path` …".
fn check_form(path: &str) -> Result<(), &'static str> {
    if path == "*" {
        return Ok(());
    }
    if !path.starts_with('/') {
        return Err("must start with `/`, or be `*` alone");
    }
    if path.contains(['?', '#']) {
        return Err("must not hold `?` or `#`: the query is cut before matching");
    }
    let body = path.strip_suffix('*').unwrap_or(path);
    if body.contains('*') {
        return Err(
            "may hold `*` at its end only, where it stands for the rest: write `{name}` for one segment",
        );
    }
    if body.split('/').any(|segment| segment.contains(['{', '}']) && !is_parameter(segment)) {
        return Err("must have `{name}` as a whole segment");
    }
    if path.ends_with("}*") {
        return Err("must have `{name}` as a whole segment: put `/` before the `*`");
    }
    Ok(())
}

/// Is this a path pattern that can match, and matches what its author means? Errors are phrases
/// that complete "`path` …".
///
/// What other gateways read otherwise is refused: a limit that is silently not there is worse than
/// none.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    check_form(path)?;
    if path == "*" {
        return Ok(());
    }
    if [".*", ".+", "[^"].iter().any(|regex| path.contains(regex))
        || path.contains(['^', '|', '<', '>'])
    {
        return Err(
            "must not hold a regular expression: write `{name}` for one segment, and `*` at the end for the rest",
        );
    }
    if is_doubtful_literal(path) {
        return Err(
            "must not hold an encoded slash, a backslash, a control character or a `%` that encodes nothing: no request is matched by them",
        );
    }
    if path.contains(';') {
        return Err("must not hold `;`: the parameters of a segment are cut before matching");
    }
    let (body, ends_in_rest) = match path.strip_suffix('*') {
        Some(body) => (body, true),
        None => (path, false),
    };
    let segments: Vec<&str> = body.split('/').skip(1).collect();
    for (place, segment) in segments.iter().enumerate() {
        let is_last = place + 1 == segments.len();
        if segment.is_empty() && !is_last {
            return Err("must not hold `//`: empty segments are removed before matching");
        }
        if matches!(&*decoded(segment), b"." | b"..") && !(is_last && ends_in_rest) {
            return Err("must not hold `.` or `..` as a segment: they are removed before matching");
        }
        if segment.starts_with(':') {
            return Err("must not hold `:name`: write `{name}` for one segment");
        }
        if is_rest(segment) && !is_last {
            return Err("may hold `{name+}` at its end only, where it stands for the rest");
        }
        if segment.starts_with('{') && !is_rest(segment) && !is_plain_parameter(segment) {
            return Err(
                "must have a plain name in `{name}`: letters, digits, `_`, `-` and `.` (`{name+}` at the end stands for the rest)",
            );
        }
    }
    Ok(())
}

fn is_parameter(segment: &str) -> bool {
    segment
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|name| !name.contains(['{', '}']))
}

fn is_plain_parameter(segment: &str) -> bool {
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| {
        name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
    })
}

/// Is it AWS's `{name+}`, which stands for the rest?
fn is_rest(segment: &str) -> bool {
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix("+}"));
    name.is_some_and(|name| {
        name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
    })
}

#[cfg(test)]
mod tests;
