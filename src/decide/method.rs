//! Method and path patterns: which of many a call matches.
//!
//! A path pattern is `/users/me` (exact), `/users/{id}` (`{…}` stands for one segment that is not empty), `/files/*` (a trailing `*` stands for
//! the rest, which may be empty), or `*` alone (any path). Of the patterns that match, an exact path is taken before one with `{…}`, that
//! before a trailing `*`, then the one declared first. A method is exact or `*`, and does not rank. Case matters. The query is cut.

use std::collections::HashMap;

use foldhash::quality::RandomState;
use smallvec::SmallVec;

use super::invalid::Invalid;

/// Patterns prepared for matching: exact paths by hash, the others by a tree of segments.
#[derive(Debug, Default)]
pub struct PatternSet {
    exact: HashMap<Box<[u8]>, SmallVec<[Entry; 1]>, RandomState>,
    tree: Node,
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
    /// Prepares `(method, path)` pairs. Errors name `field[index].path` or `.method`.
    pub fn new<'a>(field: &str, patterns: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, Invalid> {
        let mut set = Self::default();
        for (index, (method, path)) in patterns.enumerate() {
            let wrong = |part: &str, reason: &str| Invalid::new(format!("{field}[{index}].{part}"), reason);
            if method.is_empty() {
                return Err(wrong("method", "must be an HTTP method, or `*` for all"));
            }
            check_path(path).map_err(|reason| wrong("path", reason))?;
            let method = (method != "*").then(|| Box::from(method.as_bytes()));
            set.add(path, Entry { method, index });
        }
        Ok(set)
    }

    fn add(&mut self, path: &str, entry: Entry) {
        if !path.contains('{') && !path.ends_with('*') {
            self.exact.entry(Box::from(path.as_bytes())).or_default().push(entry);
            return;
        }
        let mut node = &mut self.tree;
        let (body, star) = match path.strip_suffix('*') {
            Some(body) => (body, true),
            None => (path, false),
        };
        let mut segments: Vec<&str> = body.split('/').collect();
        let tail = if star { segments.pop().unwrap_or("") } else { "" };
        for segment in segments {
            node = if segment.starts_with('{') {
                node.any.get_or_insert_default()
            } else {
                node.literal.entry(Box::from(segment.as_bytes())).or_default()
            };
        }
        if star {
            node.rest.push((Box::from(tail.as_bytes()), entry));
        } else {
            node.ends.push(entry);
        }
    }

    /// The place in the declaration of the best pattern that matches and that `accept` accepts.
    pub fn find(&self, method: &[u8], path: &[u8], accept: impl Fn(usize) -> bool) -> Option<usize> {
        let path = without_query(path);
        let fits = |entry: &Entry| entry.method.as_deref().is_none_or(|only| only == method) && accept(entry.index);
        if let Some(entries) = self.exact.get(path)
            && let Some(entry) = entries.iter().find(|entry| fits(entry))
        {
            return Some(entry.index);
        }
        let mut best = Best::default();
        self.tree.walk(Some(path), &fits, &mut best);
        best.segments.or(best.rest)
    }
}

impl Node {
    /// `path` is what is left of it, `None` after its last segment.
    fn walk(&self, path: Option<&[u8]>, fits: &impl Fn(&Entry) -> bool, best: &mut Best) {
        let Some(path) = path else {
            for entry in self.ends.iter().filter(|entry| fits(entry)) {
                keep_first(&mut best.segments, entry.index);
            }
            return;
        };
        for (_, entry) in self.rest.iter().filter(|(start, entry)| path.starts_with(start) && fits(entry)) {
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

/// The path as patterns see it.
fn without_query(path: &[u8]) -> &[u8] {
    path.split(|&byte| byte == b'?' || byte == b'#').next().unwrap_or_default()
}

/// Is this a path pattern? Errors are phrases that complete "`path` …".
pub fn check_path(path: &str) -> Result<(), &'static str> {
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
        return Err("may hold `*` at its end only");
    }
    if body.split('/').any(|segment| segment.contains(['{', '}']) && !is_parameter(segment)) {
        return Err("must have `{name}` as a whole segment");
    }
    if path.ends_with("}*") {
        return Err("must have `{name}` as a whole segment: put `/` before the `*`");
    }
    Ok(())
}

fn is_parameter(segment: &str) -> bool {
    segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).is_some_and(|name| !name.contains(['{', '}']))
}

#[cfg(test)]
mod tests;
