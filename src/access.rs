//! Who may call: bearer tokens and client certificates with their scopes, out of a file that is
//! read again when it changes.

mod file;
mod scope;
mod token;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use constant_time_eq::constant_time_eq;
use metrics::Counter;
use parking_lot::Mutex;

pub use self::scope::{Scope, Scopes};
pub use self::token::{TOKEN_PREFIX, Token, TokenHash};
use crate::file_modes::{Holds, Watch};
use crate::metrics::Metrics;

/// Why a call is refused. The texts go to the caller; none holds what was presented.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "a token is needed: send `authorization: Bearer TOKEN` (on the command line --token or TOLLGATE_TOKEN)"
    )]
    Missing,
    #[error(
        "the token is not known: make one with `tollgate token create`, and put its line into the server's auth.tokens_file"
    )]
    Unknown,
    #[error("{caller} may not do this: give it the scope {needs} in the server's auth.tokens_file")]
    Lacking { caller: String, needs: Scopes },
}

impl Refusal {
    /// As the metric counts it.
    fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Lacking { .. } => "scope",
        }
    }
}

/// A token or a certificate that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Caller {
    name: String,
    scopes: Scopes,
}

/// Everyone who may call, at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Callers {
    /// By the first bytes of the hash. They find the candidate; whether it is the one, a comparison
    /// in constant time says.
    tokens: HashMap<[u8; 8], (TokenHash, Caller)>,
    /// By a name of the certificate: a DNS name or a URI.
    certificates: HashMap<String, Caller>,
}

impl Callers {
    /// What the caller may do, if that meets one of `needs`. `names` are those of its certificate.
    fn admit(
        &self,
        authorization: Option<&[u8]>,
        names: &[String],
        needs: Scopes,
    ) -> Result<Scopes, Refusal> {
        let by_token = match authorization {
            Some(value) => Some(
                self.by_token(bearer(value).ok_or(Refusal::Missing)?).ok_or(Refusal::Unknown)?,
            ),
            None => None,
        };
        let by_certificate = names.iter().filter_map(|name| self.certificates.get(name));
        let (mut scopes, mut known) = (Scopes::NONE, None);
        for caller in by_token.into_iter().chain(by_certificate) {
            scopes = scopes.union(caller.scopes);
            known = known.or(Some(caller));
        }
        match known {
            None => Err(Refusal::Missing),
            Some(_) if scopes.meets(needs) => Ok(scopes),
            Some(caller) => Err(Refusal::Lacking { caller: format!("`{}`", caller.name), needs }),
        }
    }

    /// What the caller is called, for the log.
    fn name(&self, authorization: Option<&[u8]>, names: &[String]) -> Option<&str> {
        let by_token = authorization.and_then(bearer).and_then(|token| self.by_token(token));
        by_token
            .or_else(|| names.iter().find_map(|name| self.certificates.get(name)))
            .map(|caller| &*caller.name)
    }

    fn by_token(&self, presented: &[u8]) -> Option<&Caller> {
        let hash = TokenHash::of(presented)?;
        let (kept, caller) = self.tokens.get(&hash.first_bytes())?;
        (*kept == hash).then_some(caller)
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = authorization.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

/// Who is at the other end of a connection.
#[derive(Debug, Default)]
pub struct Peer {
    /// Those of its certificate: DNS names and URIs.
    names: Arc<[String]>,
    /// Where it calls from, where that is known.
    address: Option<IpAddr>,
    /// Mostly the next call shows the same token, which then need not be hashed again.
    shown: Mutex<Option<Shown>>,
}

impl Peer {
    pub fn new(names: Arc<[String]>) -> Self {
        Self { names, address: None, shown: Mutex::new(None) }
    }

    /// The same, and where it calls from.
    #[must_use]
    pub fn at(self, address: Option<IpAddr>) -> Self {
        Self { address, ..self }
    }

    /// Where it calls from. `None`: it is not known.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

/// A person who has signed in with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Of the token, which itself is not kept.
    pub token: TokenHash,
    /// What the token is called in the file.
    pub name: Arc<str>,
    pub scopes: Scopes,
}

/// What was let in last.
struct Shown {
    authorization: Box<[u8]>,
    /// By whom it was known.
    callers: Arc<Callers>,
    scopes: Scopes,
}

impl Shown {
    /// What it was good for, if this is the same, and nobody has edited the file since.
    fn scopes(&self, authorization: &[u8], callers: &Arc<Callers>) -> Option<Scopes> {
        let same = Arc::ptr_eq(&self.callers, callers)
            && constant_time_eq(&self.authorization, authorization);
        same.then_some(self.scopes)
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown(..)")
    }
}

/// Everyone who may call, as the file says it now.
#[derive(Debug)]
pub struct Access {
    path: PathBuf,
    current: ArcSwap<Callers>,
    /// What was read last, or why it could not be: contents are what decides, not times.
    seen: Mutex<Result<String, String>>,
    refused: [(&'static str, Counter); 3],
    loads: Counter,
    failures: Counter,
    /// Who else may write the file.
    watch: Watch,
    certificates_are_asked: bool,
}

impl Access {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// All that is wrong with it, a line each.
    pub fn open(path: &Path, metrics: &Metrics) -> Result<Self, String> {
        metrics.describe_counter(
            "tollgate_refused_callers",
            "Calls refused for want of a token, of a known one, or of a scope",
        );
        metrics.describe_counter("tollgate_tokens_loads", "Loads of auth.tokens_file, by result");
        let text = read(path);
        let callers = text.clone().and_then(|text| parse(path, &text))?;
        let loads = |result| metrics.counter("tollgate_tokens_loads", &[("result", result)]);
        let access = Self {
            path: path.to_owned(),
            current: ArcSwap::from_pointee(callers),
            seen: Mutex::new(text),
            refused: ["missing", "unknown", "scope"].map(|reason| {
                (reason, metrics.counter("tollgate_refused_callers", &[("reason", reason)]))
            }),
            loads: loads("ok"),
            failures: loads("failed"),
            watch: Watch::new(vec![("auth.tokens_file", path.to_owned(), Holds::Decisions)]),
            certificates_are_asked: true,
        };
        access.loaded();
        Ok(access)
    }

    /// Reads the file, and where it differs from what was read last, brings it into force. What
    /// cannot be used leaves the old in force. Blocks on the file system.
    pub fn refresh(&self) {
        let text = read(&self.path);
        let mut seen = self.seen.lock();
        if *seen == text {
            self.watch.look(false);
            return;
        }
        match text.clone().and_then(|text| parse(&self.path, &text)) {
            Ok(callers) => {
                self.current.store(Arc::new(callers));
                self.loaded();
            }
            Err(error) => {
                tracing::error!(
                    "auth.tokens_file was not loaded, the old one stays in force: {error}"
                );
                self.failures.increment(1);
            }
        }
        *seen = text;
    }

    fn loaded(&self) {
        let callers = self.current.load();
        tracing::info!(
            tokens = callers.tokens.len(),
            certificates = callers.certificates.len(),
            "auth.tokens_file loaded"
        );
        self.loads.increment(1);
        self.watch.look(true);
        for name in callers.certificates.keys() {
            if let Some(why) = file::never_matches(name) {
                tracing::warn!("auth.tokens_file: the san `{name}` {why}");
            }
        }
        self.warn_of_certificates();
    }

    /// Says whether clients are asked for certificates at all; otherwise those in the file let
    /// nobody in.
    #[must_use]
    pub fn asking_for_certificates(self, asked: bool) -> Self {
        let access = Self { certificates_are_asked: asked, ..self };
        access.warn_of_certificates();
        access
    }

    fn warn_of_certificates(&self) {
        let named = self.current.load().certificates.len();
        if !self.certificates_are_asked && named > 0 {
            tracing::warn!(
                "auth.tokens_file names {named} certificates, and no client is asked for one: set tls.client_ca"
            );
        }
    }

    /// Says what a caller may do, if it may do one of `needs`: by the header `authorization`, and
    /// by the certificate of its connection.
    ///
    /// # Errors
    /// Why it is refused, which is counted.
    pub fn admit(
        &self,
        authorization: Option<&[u8]>,
        peer: &Peer,
        needs: Scopes,
    ) -> Result<Scopes, Refusal> {
        let callers = self.current.load();
        let Some(presented) = authorization else {
            return callers
                .admit(None, &peer.names, needs)
                .inspect_err(|refusal| self.count(refusal));
        };
        let mut shown = peer.shown.lock();
        if let Some(scopes) = shown
            .as_ref()
            .and_then(|shown| shown.scopes(presented, &callers))
            .filter(|scopes| scopes.meets(needs))
        {
            return Ok(scopes);
        }
        let scopes = callers
            .admit(authorization, &peer.names, needs)
            .inspect_err(|refusal| self.count(refusal))?;
        *shown = Some(Shown { authorization: presented.into(), callers: callers.clone(), scopes });
        Ok(scopes)
    }

    /// Says whose token a person shows who signs in, if it may do one of `needs`.
    ///
    /// # Errors
    /// Why it is refused, which is counted.
    pub fn sign_in(&self, token: &[u8], needs: Scopes) -> Result<Signed, Refusal> {
        let hash = TokenHash::of(token);
        let known = hash.and_then(|hash| self.signed(&hash)).ok_or(Refusal::Unknown);
        known
            .and_then(|signed| match signed.scopes.meets(needs) {
                true => Ok(signed),
                false => Err(Refusal::Lacking { caller: format!("`{}`", signed.name), needs }),
            })
            .inspect_err(|refusal| self.count(refusal))
    }

    /// What the token with this hash is good for now. `None`: it is not in the file any more.
    pub fn signed(&self, hash: &TokenHash) -> Option<Signed> {
        let callers = self.current.load();
        let (kept, caller) = callers.tokens.get(&hash.first_bytes())?;
        (kept == hash).then(|| Signed {
            token: *hash,
            name: caller.name.as_str().into(),
            scopes: caller.scopes,
        })
    }

    /// What a caller that was admitted is called in the file: the id of its token, or the name of
    /// its certificate.
    pub fn name(&self, authorization: Option<&[u8]>, peer: &Peer) -> Arc<str> {
        self.current.load().name(authorization, &peer.names).unwrap_or("unknown").into()
    }

    fn count(&self, refusal: &Refusal) {
        if let Some((_, counter)) =
            self.refused.iter().find(|(reason, _)| *reason == refusal.reason())
        {
            counter.increment(1);
        }
    }
}

/// What a caller may do, where only the message says what is needed.
#[derive(Clone, Debug)]
pub struct Granted {
    access: Arc<Access>,
    scopes: Scopes,
}

impl Granted {
    pub fn new(access: Arc<Access>, scopes: Scopes) -> Self {
        Self { access, scopes }
    }

    /// # Errors
    /// None of `needs` is granted; that is counted.
    pub fn permit(&self, needs: Scopes) -> Result<(), Refusal> {
        if self.scopes.meets(needs) {
            return Ok(());
        }
        let refusal = Refusal::Lacking { caller: "this caller".to_owned(), needs };
        self.access.count(&refusal);
        Err(refusal)
    }
}

fn read(path: &Path) -> Result<String, String> {
    crate::plain_file::read_text(path, "file of tokens")
        .map_err(|error| format!("auth.tokens_file {} cannot be read: {error}", path.display()))
}

fn parse(path: &Path, text: &str) -> Result<Callers, String> {
    file::parse(text).map_err(|mistakes| {
        format!("auth.tokens_file {} cannot be used:\n  {}", path.display(), mistakes.join("\n  "))
    })
}

/// Whether a tokens file of this text could be used.
///
/// # Errors
/// All that is wrong with it.
pub fn check(text: &str) -> Result<(), Vec<String>> {
    file::parse(text).map(drop)
}

#[cfg(test)]
mod tests;
