//! Who looks at a page: by the cookie of a session, and what the tokens file says of its token now.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use constant_time_eq::constant_time_eq;

use super::Console;
use super::form::{self, Form};
use super::sessions::SessionId;
use crate::access::{Peer, Scopes};

/// The cookie of a session.
pub(super) const COOKIE: &str = "tollgate-session";

/// The person may look, and not edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MayNotEdit;

/// Who looks at a page.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    name: Arc<str>,
    may_edit: bool,
    session: Option<SessionId>,
    csrf: String,
}

impl Visit {
    /// What the token is called that they signed in with.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn may_edit(&self) -> bool {
        self.may_edit
    }

    /// Forms that edit are only for those who may.
    ///
    /// # Errors
    /// They may not.
    pub(super) fn must_edit(&self) -> Result<(), MayNotEdit> {
        if self.may_edit { Ok(()) } else { Err(MayNotEdit) }
    }

    pub(super) fn is_signed_in(&self) -> bool {
        self.session.is_some()
    }

    pub(super) fn session(&self) -> Option<&SessionId> {
        self.session.as_ref()
    }

    /// Proves that a form is from a page that this session was shown.
    pub(super) fn csrf(&self) -> &str {
        &self.csrf
    }

    /// Whether a form is from such a page.
    pub(super) fn has_sent(&self, form: &Form) -> bool {
        constant_time_eq(form.get(form::CSRF).as_bytes(), self.csrf.as_bytes())
    }
}

impl Console {
    /// Who asks. `None`: nobody who is signed in.
    pub(super) fn visit(&self, headers: &HeaderMap) -> Option<Visit> {
        let Some(access) = &self.parts().access else {
            return Some(Visit {
                name: "anyone on this machine".into(),
                may_edit: true,
                session: None,
                csrf: self.form_token(&[]),
            });
        };
        let word = cookie(headers)?;
        let now_ns = self.parts().clock.steady_ns();
        let (session, token) = self.0.sessions.find(word, now_ns)?;
        // The file may have changed since: what counts is what it says now.
        let signed = access.signed(&token).filter(|now| now.scopes.meets(Scopes::READ_OR_ADMIN));
        let Some(signed) = signed else {
            self.0.sessions.close(&session);
            return None;
        };
        Some(Visit {
            may_edit: signed.scopes.meets(Scopes::ADMIN),
            name: signed.name,
            csrf: self.form_token(&session),
            session: Some(session),
        })
    }

    /// The token of the forms of a session; empty for those of nobody's.
    pub(super) fn form_token(&self, session: &[u8]) -> String {
        blake3::keyed_hash(&self.0.form_key, session).to_hex().to_string()
    }

    /// Whether the pages may be shown at all. Without a tokens file everyone who reaches them may
    /// edit: that has to be somebody on this machine, and a proxy here lets others in.
    pub(super) fn is_open(&self, headers: &HeaderMap) -> bool {
        let is_passed_on = || PASSED_ON.iter().any(|name| headers.contains_key(*name));
        self.parts().access.is_some() || (self.parts().on_loopback && !is_passed_on())
    }
}

/// What proxies add to what they pass on.
const PASSED_ON: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, word)| word)
}

/// Where a request comes from, where that is known.
pub(super) fn address(request: &axum::http::request::Parts) -> Option<IpAddr> {
    request.extensions.get::<Arc<Peer>>().and_then(|peer| peer.address())
}
