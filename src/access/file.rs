//! The tokens file: who may call, in YAML.
//!
//! ```yaml
//! tokens:
//! - {id: gateway, hash: "blake3:…", scopes: [decide, report]}
//! certificates:
//! - {san: "spiffe://example.org/gateway", scopes: [decide, report]}
//! ```
//!
//! Mistakes name lines and never what stands there: it may be a token that somebody put into the
//! wrong place. That is why it is read node by node and not by `serde`, whose errors end at the
//! first mistake, know no line here, and quote what they met.

use super::token::TOKEN_PREFIX;
use super::{Caller, Callers, Scope, Scopes, TokenHash};
use crate::yaml::{self, Content, Meaning, Node};

/// Tokens and certificates that a file may name.
const MOST: usize = 10_000;

const LONGEST_ID: usize = 64;
const LONGEST_NAME: usize = 1024;

/// Reads a tokens file, or says all that is wrong with it.
pub(super) fn parse(text: &str) -> Result<Callers, Vec<String>> {
    let document = yaml::parse(text)
        .map_err(|error| vec![format!("line {}: this is not YAML", error.line)])?;
    let mut reader = Reader::default();
    for repeated in &document.repeated {
        reader.wrong(repeated.line, "this key stands here twice");
    }
    let callers = reader.callers(&document.root);
    if reader.mistakes.is_empty() { Ok(callers) } else { Err(reader.mistakes) }
}

/// Why a name in the file can be none that is looked at, which are the DNS names and URIs of a
/// certificate.
pub(super) fn never_matches(san: &str) -> Option<&'static str> {
    let address =
        san.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok();
    if san.contains("://") || san.starts_with("urn:") {
        None
    } else if san.contains('=') {
        Some(
            "matches no certificate: of those the DNS names and URIs are looked at, not the subject",
        )
    } else if address {
        Some("matches no certificate: of those the DNS names and URIs are looked at, not addresses")
    } else if san.contains('@') {
        Some(
            "matches no certificate: of those the DNS names and URIs are looked at, not mail addresses",
        )
    } else if san.contains('*') {
        Some(
            "is compared as it stands, so it lets in no client but one with that very wildcard in its certificate: name each client",
        )
    } else if san.contains([':', '/']) {
        Some(
            "matches no certificate: it is neither a DNS name, which has no port and no path, nor a URI, which begins like spiffe://",
        )
    } else if san.ends_with('.') || san.starts_with('.') || san.contains("..") {
        Some("matches no certificate: a DNS name there has no dot at its ends")
    } else {
        None
    }
}

#[derive(Default)]
struct Reader {
    mistakes: Vec<String>,
}

impl Reader {
    fn wrong(&mut self, line: u32, what: impl std::fmt::Display) {
        self.mistakes.push(format!("line {line}: {what}"));
    }

    fn callers(&mut self, root: &Node) -> Callers {
        let mut callers = Callers::default();
        if root.is_null() {
            self.wrong(1, "the file is empty: nobody could call");
            return callers;
        }
        if !self.has_only(root, &["tokens", "certificates"]) {
            return callers;
        }
        let mut ids = std::collections::HashSet::new();
        for node in self.list(root, "tokens") {
            let Some((hash, caller)) = self.token(node) else { continue };
            if !ids.insert(caller.name.clone()) {
                self.wrong(node.line, format_args!("the id `{}` is there already", caller.name));
            }
            if callers.tokens.insert(hash.first_bytes(), (hash, caller)).is_some() {
                self.wrong(
                    node.line,
                    "the hash is there already: every caller has a token of its own",
                );
            }
        }
        for node in self.list(root, "certificates") {
            let Some(caller) = self.certificate(node) else { continue };
            if callers.certificates.insert(caller.name.clone(), caller).is_some() {
                self.wrong(node.line, "the san is there already");
            }
        }
        if callers.tokens.len() + callers.certificates.len() > MOST {
            self.wrong(
                root.line,
                format_args!("there are more than {MOST} tokens and certificates"),
            );
        } else if callers == Callers::default() && self.mistakes.is_empty() {
            self.wrong(root.line, "neither a token nor a certificate is there: nobody could call");
        }
        callers
    }

    fn token(&mut self, node: &Node) -> Option<(TokenHash, Caller)> {
        if !self.has_only(node, &["id", "hash", "scopes"]) {
            return None;
        }
        let id = self.text(
            node,
            "id",
            "must be 1 to 64 letters, digits, `.`, `-` and `_`, and not the token itself",
            |id| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
                ((1..=LONGEST_ID).contains(&id.len())
                    && id.bytes().all(plain)
                    && !id.starts_with(TOKEN_PREFIX))
                .then(|| id.to_owned())
            },
        );
        let hash = self.text(
            node,
            "hash",
            "must be `blake3:` and 64 hexadecimal digits, as `tollgate token create` prints it",
            TokenHash::parse,
        );
        let scopes = self.scopes(node);
        Some((hash?, Caller { name: id?, scopes: scopes? }))
    }

    fn certificate(&mut self, node: &Node) -> Option<Caller> {
        if !self.has_only(node, &["san", "scopes"]) {
            return None;
        }
        let san = self.text(
            node,
            "san",
            "must be a DNS name or a URI of the certificate, as it stands there",
            |san| {
                ((1..=LONGEST_NAME).contains(&san.len())
                    && san.bytes().all(|byte| byte.is_ascii_graphic()))
                .then(|| san.to_owned())
            },
        );
        let scopes = self.scopes(node);
        Some(Caller { name: san?, scopes: scopes? })
    }

    fn scopes(&mut self, node: &Node) -> Option<Scopes> {
        const RULE: &str = "scopes must be a list of one or more of decide, report, read and admin";
        let Some(Content::List(items)) = node.get("scopes").map(|scopes| &scopes.content) else {
            self.wrong(node.line, RULE);
            return None;
        };
        let mut scopes = Scopes::NONE;
        for item in items {
            let named = text(item)
                .and_then(|text| Scope::ALL.into_iter().find(|scope| scope.name() == text));
            match named {
                Some(scope) => scopes = scopes.with(scope),
                None => self.wrong(item.line, RULE),
            }
        }
        if items.is_empty() {
            self.wrong(node.line, RULE);
        }
        (scopes != Scopes::NONE).then_some(scopes)
    }

    fn text<T>(
        &mut self,
        node: &Node,
        key: &str,
        rule: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let found = node.get(key);
        let value = found.and_then(|found| text(found)).and_then(read);
        if value.is_none() {
            self.wrong(found.map_or(node.line, |found| found.line), format_args!("{key} {rule}"));
        }
        value
    }

    fn list<'n>(&mut self, root: &'n Node, key: &str) -> impl Iterator<Item = &'n Node> + use<'n> {
        let items: &[_] = match root.get(key).map(|node| (&node.content, node)) {
            None => &[],
            Some((Content::List(items), _)) => items,
            Some((_, node)) if node.is_null() => &[],
            Some((_, node)) => {
                self.wrong(node.line, format_args!("{key} must be a list"));
                &[]
            }
        };
        items.iter().map(|item| &**item)
    }

    /// Whether it is a mapping; its other keys are mistakes.
    fn has_only(&mut self, node: &Node, keys: &[&str]) -> bool {
        let known = keys.join(", ");
        let Content::Map(entries) = &node.content else {
            self.wrong(node.line, format_args!("here must be a mapping with the keys {known}"));
            return false;
        };
        for entry in entries.iter().filter(|entry| !keys.contains(&entry.key.text.as_str())) {
            self.wrong(entry.key_line, format_args!("only the keys {known} may stand here"));
        }
        true
    }
}

/// What a scalar says, where it is text or could be: an id may be a number.
fn text(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Scalar(scalar) if scalar.meaning != Meaning::Null => Some(&scalar.text),
        _ => None,
    }
}
