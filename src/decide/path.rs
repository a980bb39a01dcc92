//! The path of a request, as routers read it: all spellings of one path are one path.
//!
//! The query and the fragment are cut, percent-encoded characters that divide nothing are decoded,
//! `;parameters` of a segment are cut, empty segments and dot segments are removed, and so is a
//! slash at the end (RFC 3986, section 6.2.2, and what servers do beyond it). `/` stays `/`.
//!
//! Servers disagree about an encoded slash, a backslash, a control character and a broken encoding.
//! A path that holds one of them has several [readings]: no open method is for it, and it meets
//! every limit that one of the readings meets. Where two servers stand behind one another the first
//! may decode what the second then reads as a divider: `%3B`, `%3F`, `%23` and what is encoded
//! twice. Such a path has the reading of the second as well, and is open where both are.
//!
//! [readings]: RequestPath::readings

use std::borrow::Cow;
use std::iter;

/// A path, and the other ways in which the server behind the gateway may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath<'a> {
    normal: Cow<'a, [u8]>,
    /// The same with its dot segments, where there were some: a server that does not remove them
    /// routes by this.
    dotted: Option<Vec<u8>>,
    doubt: Doubt,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Doubt {
    None,
    /// It is no path from the root: the gateway sent something else.
    Rootless,
    /// It holds what some servers read as `/`: the other readings.
    Separators(Vec<Vec<u8>>),
    /// It reads otherwise once it was decoded: the other readings.
    Decoded(Vec<Vec<u8>>),
    /// It holds what servers refuse, cut off or repair, each in its own way.
    Unreadable,
}

impl<'a> RequestPath<'a> {
    /// Reads a path as it came.
    pub fn new(raw: &'a [u8]) -> Self {
        let path = without_query(raw);
        // A gateway that tells no path asks for none: only `*` is for it.
        if path.is_empty() || is_normal(path) {
            return Self { normal: Cow::Borrowed(path), dotted: None, doubt: Doubt::None };
        }
        let (path, rootless) = from_root(path);
        let found = Found::of(path);
        let again = found.decodable.then(|| decoded_once(path));
        let found_again = again.as_deref().map(Found::of).unwrap_or_default();
        let normal = rewrite(path, Reading::default());
        let dotted = Some(rewrite(path, Reading { keep_dots: true, ..Reading::default() }))
            .filter(|dotted| *dotted != normal);
        let readings = || {
            let mut readings = Vec::new();
            found.readings(path, &normal, &mut readings);
            if let Some(again) = &again {
                found_again.readings(without_query(again), &normal, &mut readings);
            }
            readings
        };
        let doubt = if found.unreadable || found_again.unreadable {
            Doubt::Unreadable
        } else if found.encoded_slash || found.backslash {
            Doubt::Separators(readings())
        } else if rootless {
            Doubt::Rootless
        } else if again.is_some() {
            Doubt::Decoded(readings())
        } else {
            Doubt::None
        };
        Self { normal: Cow::Owned(normal), dotted, doubt }
    }

    /// The path as most servers read it.
    pub fn normal(&self) -> &[u8] {
        &self.normal
    }

    /// Every way in which the server behind may read it, the usual one first. More than one only
    /// where it holds what some read as a divider.
    pub fn readings(&self) -> impl Iterator<Item = &[u8]> {
        let others = match &self.doubt {
            Doubt::Separators(others) | Doubt::Decoded(others) => others.as_slice(),
            _ => &[],
        };
        iter::once(&*self.normal).chain(others.iter().map(Vec::as_slice))
    }

    /// Can nobody say what the server behind reads? Then it may be any path.
    pub fn is_unreadable(&self) -> bool {
        self.doubt == Doubt::Unreadable
    }

    /// Do servers disagree about it, so that it may be a path that no method limit is for?
    pub fn is_doubtful(&self) -> bool {
        self.doubt != Doubt::None
    }

    /// Is it a path that an open method can be for, where one is for all of its readings?
    pub fn can_be_open(&self) -> bool {
        matches!(self.doubt, Doubt::None | Doubt::Decoded(_))
    }

    /// The path with its dot segments, where it had some.
    pub fn dotted(&self) -> Option<&[u8]> {
        self.dotted.as_deref()
    }
}

/// A literal part of a pattern, spelled as [`RequestPath::normal`] spells paths.
pub(super) fn decoded(literal: &str) -> Vec<u8> {
    Bytes(literal.as_bytes()).flat_map(|byte| byte.spelled(Reading::default())).collect()
}

/// Does it hold what [`RequestPath`] calls doubtful, or percent signs that encode nothing?
pub(super) fn is_doubtful_literal(literal: &str) -> bool {
    let found = Found::of(literal.as_bytes());
    found.unreadable || found.encoded_slash || found.backslash
}

fn without_query(path: &[u8]) -> &[u8] {
    path.split(|&byte| byte == b'?' || byte == b'#').next().unwrap_or_default()
}

/// Is there nothing to rewrite? True of nearly all paths.
fn is_normal(path: &[u8]) -> bool {
    let Some((b'/', rest)) = path.split_first() else { return false };
    let mut before = b'/';
    for &byte in rest {
        match byte {
            b'%' | b';' | b'\\' | 0..b' ' | 0x7f | 0xc0 | 0xc1 | 0xe0 => return false,
            // An empty segment, or one that starts like a dot segment: seldom enough to look
            // closer.
            b'/' | b'.' if before == b'/' => return has_only_names(rest),
            _ => before = byte,
        }
    }
    before != b'/' || rest.is_empty()
}

/// Is every segment a name, spelled plainly?
fn has_only_names(rest: &[u8]) -> bool {
    let plain =
        |byte: &u8| !matches!(byte, b'%' | b';' | b'\\' | 0..b' ' | 0x7f | 0xc0 | 0xc1 | 0xe0);
    rest.iter().all(plain)
        && rest.split(|&byte| byte == b'/').all(|segment| !matches!(segment, b"" | b"." | b".."))
}

/// The path from its first slash, and whether it had none. `http://host/path` is what a proxy is
/// sent.
fn from_root(path: &[u8]) -> (&[u8], bool) {
    if path.starts_with(b"/") {
        return (path, false);
    }
    let Some(end) = path.windows(3).position(|three| three == b"://") else { return (path, true) };
    let host = path.get(end + 3..).unwrap_or_default();
    let root = host.iter().position(|&byte| byte == b'/');
    (root.and_then(|root| host.get(root..)).unwrap_or_default(), false)
}

/// One byte of a path, as it is meant.
#[derive(Clone, Copy)]
struct Spelled {
    byte: u8,
    /// It stood as `%XX`.
    encoded: bool,
}

/// How a server may read what is not said by RFC 3986.
#[derive(Clone, Copy, Default)]
struct Reading {
    /// `%2F` divides segments.
    slash: bool,
    /// `\` and `%5C` divide segments.
    backslash: bool,
    /// Dot segments stay.
    keep_dots: bool,
}

impl Spelled {
    /// As it is written. What divides or ends a path stays encoded: decoded it would mean something
    /// else.
    fn spelled(self, reading: Reading) -> impl Iterator<Item = u8> {
        let Self { byte, encoded } = self;
        let divides =
            encoded && byte == b'/' && reading.slash || byte == b'\\' && reading.backslash;
        let stays = encoded
            && (matches!(byte, b'/' | b'\\' | b'%' | b'?' | b'#' | b';' | 0x7f) || byte < b' ');
        let (first, hex) = match (divides, stays) {
            (true, _) => (b'/', None),
            (false, true) => (b'%', Some([digit(byte >> 4), digit(byte & 15)])),
            (false, false) => (byte, None),
        };
        iter::once(first).chain(hex.into_iter().flatten())
    }
}

fn digit(half: u8) -> u8 {
    if half < 10 { b'0' + half } else { b'A' + half - 10 }
}

/// The bytes of a path, with `%XX` as one. A `%` that encodes nothing is itself.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    /// After an encoded `%`: do two digits follow, so that the next decoding makes one byte of the
    /// three?
    fn encodes_another(&self) -> bool {
        matches!(self.0, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    }
}

impl Iterator for Bytes<'_> {
    type Item = Spelled;

    fn next(&mut self) -> Option<Spelled> {
        let (byte, rest) = match self.0 {
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let half = |hex: u8| {
                    char::from(hex)
                        .to_digit(16)
                        .and_then(|half| u8::try_from(half).ok())
                        .unwrap_or_default()
                };
                (Spelled { byte: half(*high) << 4 | half(*low), encoded: true }, rest)
            }
            [byte, rest @ ..] => (Spelled { byte: *byte, encoded: false }, rest),
            [] => return None,
        };
        self.0 = rest;
        Some(byte)
    }
}

/// The path as a server that decodes all of it passes it on to the next.
fn decoded_once(path: &[u8]) -> Vec<u8> {
    Bytes(path).map(|spelled| spelled.byte).collect()
}

/// What a path holds that servers disagree about.
#[derive(Default)]
struct Found {
    encoded_slash: bool,
    backslash: bool,
    /// Decoded, it holds a divider, or something encoded, that it does not hold as it stands.
    decodable: bool,
    unreadable: bool,
}

impl Found {
    fn of(path: &[u8]) -> Self {
        let mut found = Self::default();
        let mut before = 0;
        let mut bytes = Bytes(path);
        while let Some(Spelled { byte, encoded }) = bytes.next() {
            match byte {
                b'/' if encoded => found.encoded_slash = true,
                b'\\' => found.backslash = true,
                b';' | b'?' | b'#' if encoded => found.decodable = true,
                b'%' if encoded => found.decodable |= bytes.encodes_another(),
                b'%' => found.unreadable = true,
                // Clients and servers strip them, end at them, or match before them. 0xC0 and 0xC1
                // begin no character of UTF-8, nor does 0xE0 before less than 0xA0: old decoders
                // make `/` and `.` of them.
                0..b' ' | 0x7f | 0xc0 | 0xc1 => found.unreadable = true,
                0x80..0xa0 if before == 0xe0 => found.unreadable = true,
                _ => {}
            }
            before = byte;
        }
        found
    }

    /// Adds every other reading of what may be a slash, each once.
    fn readings(&self, path: &[u8], normal: &[u8], readings: &mut Vec<Vec<u8>>) {
        for (slash, backslash) in [(false, false), (true, false), (false, true), (true, true)] {
            if slash && !self.encoded_slash || backslash && !self.backslash {
                continue;
            }
            let read = rewrite(path, Reading { slash, backslash, keep_dots: false });
            if read != normal && !readings.contains(&read) {
                readings.push(read);
            }
        }
    }
}

/// The path in one reading.
fn rewrite(path: &[u8], reading: Reading) -> Vec<u8> {
    let divided: Vec<u8> = Bytes(path).flat_map(|byte| byte.spelled(reading)).collect();
    let mut normal = Vec::with_capacity(divided.len() + 1);
    for segment in divided.split(|&byte| byte == b'/') {
        let name = segment.split(|&byte| byte == b';').next().unwrap_or_default();
        match name {
            b"" => {}
            b"." if !reading.keep_dots => {}
            b".." if !reading.keep_dots => {
                let parent = normal.iter().rposition(|&byte| byte == b'/');
                normal.truncate(parent.unwrap_or_default());
            }
            name => {
                normal.push(b'/');
                normal.extend_from_slice(name);
            }
        }
    }
    if normal.is_empty() {
        normal.push(b'/');
    }
    normal
}

#[cfg(test)]
mod tests;
