//! Who means a request: not a web page of somebody else, although a browser that can reach the port
//! sends for it.
//!
//! A page may send a request to any address, and mostly cannot read the answer. By a name of its
//! own that it lets lead here ("DNS rebinding") it can. So what it sends is told by three things
//! that it has no hand in: `Host`, `Origin`, and which content types a browser sends without asking
//! first.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

/// Names that lead to nobody's machine but one of this network: no one can register them.
const LOCAL_ENDINGS: [&str; 4] = ["localhost", "local", "internal", "svc"];
/// The longest that is repeated of what came.
const LONGEST_SHOWN: usize = 100;

/// Names under which the server may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hosts(Vec<String>);

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unmeant {
    /// The name under which the server was asked, or names.
    Host(String),
    Origin(String),
    ContentType(String),
}

impl Hosts {
    pub(super) fn new(allowed: &[String]) -> Self {
        Self(allowed.to_vec())
    }

    /// Whether the server may be asked under the names that the request gives it. A request without
    /// any is not from a browser.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Unmeant> {
        let mut given = headers.get_all(header::HOST).iter();
        let (first, second) = (given.next(), given.next());
        let by_uri = uri.authority().map(|authority| authority.as_str().as_bytes());
        for authority in
            [first.map(HeaderValue::as_bytes), second.map(HeaderValue::as_bytes), by_uri]
                .into_iter()
                .flatten()
        {
            if second.is_some() || !self.are_ours(authority) {
                return Err(Unmeant::Host(shown(authority)));
            }
        }
        Ok(())
    }

    /// Whether a page of this server, or nobody's page, sent it.
    pub(super) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Unmeant> {
        let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
        for origin in headers.get_all(header::ORIGIN) {
            let authority =
                origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
            let ours = |authority: &str| {
                host.is_some_and(|host| host.eq_ignore_ascii_case(authority.as_bytes()))
                    || self.names(host_of(authority.as_bytes()))
            };
            if !authority.is_some_and(ours) {
                return Err(Unmeant::Origin(shown(origin.as_bytes())));
            }
        }
        match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
            // `none`: typed, or a bookmark.
            None | Some(b"same-origin" | b"none") => Ok(()),
            // It is of a site that stands here, and was let in by its origin.
            Some(_) if headers.contains_key(header::ORIGIN) && !self.0.is_empty() => Ok(()),
            Some(site) => Err(Unmeant::Origin(shown(site))),
        }
    }

    fn are_ours(&self, authority: &[u8]) -> bool {
        let Some(host) = host_of(authority) else { return false };
        // Nobody leads an address somewhere else. A name without a dot is one of this network, such
        // as that of a container.
        let address = host.parse::<Ipv4Addr>().is_ok()
            || host.strip_prefix('[').is_some_and(|host| is_ipv6(host.trim_end_matches(']')));
        let local = host.rsplit('.').next().is_some_and(|ending| {
            LOCAL_ENDINGS.iter().any(|local| ending.eq_ignore_ascii_case(local))
        });
        host.is_empty() || address || !host.contains('.') || local || self.names(Some(host))
    }

    /// Whether the settings name it.
    fn names(&self, host: Option<&str>) -> bool {
        let Some(host) = host.map(str::to_ascii_lowercase) else { return false };
        self.0.iter().any(|allowed| match allowed.strip_prefix('*') {
            Some(ending) => host.len() > ending.len() && host.ends_with(ending),
            None => *allowed == host,
        })
    }
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

/// The host of `host:port`; of an IPv6 address with its brackets. `None` where it is none.
fn host_of(authority: &[u8]) -> Option<&str> {
    let authority = std::str::from_utf8(authority).ok()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            (authority.get(..end + 2)?, rest.get(end + 1..)?)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_ok = port
        .strip_prefix(':')
        .map_or(port.is_empty(), |port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let host_ok = host
        .strip_prefix('[')
        .map_or_else(|| host.bytes().all(plain), |host| is_ipv6(host.trim_end_matches(']')));
    (port_ok && host_ok).then(|| host.strip_suffix('.').unwrap_or(host))
}

/// Whether a body of this type is read as JSON. A browser sends `text/plain` and forms for any page
/// without asking first. `curl -d` calls everything a form, and so do users of the reference
/// service: what a form in a browser sends is no JSON, and scripts in one give their origin.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Unmeant> {
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(first) = given.next() else { return Ok(()) };
    let essence = first
        .as_bytes()
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii()
        .to_ascii_lowercase();
    let curl =
        essence == b"application/x-www-form-urlencoded" && !headers.contains_key(header::ORIGIN);
    let json = essence == b"application/json"
        || (essence.starts_with(b"application/") && essence.ends_with(b"+json"));
    if given.next().is_none() && (json || curl) {
        Ok(())
    } else {
        Err(Unmeant::ContentType(shown(first.as_bytes())))
    }
}

/// What came, as far as it can be repeated.
fn shown(bytes: &[u8]) -> String {
    let cut = bytes.get(..LONGEST_SHOWN).unwrap_or(bytes);
    cut.iter()
        .map(|&byte| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' })
        .collect()
}

impl IntoResponse for Unmeant {
    fn into_response(self) -> Response {
        match self {
            Self::Host(host) => (
                StatusCode::MISDIRECTED_REQUEST,
                format!("this server is not known as `{host}`: ask it by its address, or add the name to the setting http.allowed_hosts\n"),
            ),
            Self::Origin(origin) => (
                StatusCode::FORBIDDEN,
                format!(
                    "a web page of `{origin}` sent this, and pages of others may not: if it is yours, add its name to the setting \
                     http.allowed_hosts\n"
                ),
            ),
            Self::ContentType(given) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("a body of the type `{given}` is not read here: send JSON, with content-type: application/json\n"),
            ),
        }
        .into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn asked_as(allowed: &[&str], host: &str) -> bool {
        let hosts = Hosts::new(&allowed.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        hosts.check(&Uri::from_static("/metrics"), &headers(&[("host", host)])).is_ok()
    }

    #[test]
    fn a_name_that_somebody_may_have_led_here_is_not_answered() {
        for (host, ours) in [
            ("127.0.0.1:8080", true),
            ("127.0.0.1", true),
            ("10.0.0.7:8080", true),
            ("[::1]:8080", true),
            ("[fd00::7]", true),
            ("localhost:8080", true),
            ("LOCALHOST", true),
            ("localhost.", true),
            ("tollgate:8080", true),
            ("tollgate.prod.svc:8080", true),
            ("tollgate.prod.svc.cluster.local:8080", true),
            ("vm.zone.c.project.internal", true),
            ("", true),
            ("rebound.evil.example", false),
            ("rebound.evil.example:8080", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("127.0.0.1.nip.io", false),
            ("evil.example.", false),
            ("evillocal.example", false),
            ("127.0.0.1@evil.example", false),
            ("evil.example#127.0.0.1", false),
            ("[::1].evil.example", false),
            ("[::1", false),
            ("[evil.example]:80", false),
            ("127.0.0.1:80:80", false),
            ("localhost:evil.example", false),
        ] {
            assert_eq!(asked_as(&[], host), ours, "{host}");
        }
        for (host, ours) in [
            ("limits.example.com", true),
            ("LIMITS.example.com:443", true),
            ("a.limits.example.com", false),
            ("a.example.org", true),
            ("a.b.example.org", true),
            ("example.org", false),
            ("evil-example.org", false),
        ] {
            assert_eq!(asked_as(&["limits.example.com", "*.example.org"], host), ours, "{host}");
        }
        assert!(asked_as(&["*"], "anything.example"));
    }

    #[test]
    fn all_names_of_a_request_are_looked_at() {
        let hosts = Hosts::default();
        let plain = Uri::from_static("/metrics");
        assert_eq!(hosts.check(&plain, &HeaderMap::new()), Ok(()), "no browser sends none");
        let twice: HeaderMap = [
            (header::HOST, "127.0.0.1".parse().unwrap()),
            (header::HOST, "127.0.0.1".parse().unwrap()),
        ]
        .into_iter()
        .fold(HeaderMap::new(), |mut headers, (name, value): (_, HeaderValue)| {
            headers.append(name, value);
            headers
        });
        assert!(hosts.check(&plain, &twice).is_err());
        let absolute = Uri::from_static("http://evil.example/metrics");
        assert_eq!(
            hosts.check(&absolute, &headers(&[("host", "127.0.0.1")])),
            Err(Unmeant::Host("evil.example".to_owned()))
        );
    }

    #[test]
    fn pages_of_others_are_told_by_their_origin() {
        let own = ("host", "127.0.0.1:8080");
        for (fields, allowed) in [
            (&[own][..], true),
            (&[own, ("origin", "http://127.0.0.1:8080")], true),
            (&[own, ("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "same-origin")], true),
            (&[own, ("sec-fetch-site", "none")], true),
            (&[own, ("origin", "https://evil.example")], false),
            (&[own, ("origin", "http://127.0.0.1:3000")], false),
            (&[own, ("origin", "http://127.0.0.1")], false),
            (&[own, ("origin", "null")], false),
            (&[own, ("origin", "")], false),
            (&[own, ("sec-fetch-site", "cross-site")], false),
            (&[own, ("sec-fetch-site", "same-site")], false),
            (&[own, ("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "cross-site")], false),
            (&[("origin", "http://127.0.0.1:8080")], false),
        ] {
            assert_eq!(
                Hosts::default().check_origin(&headers(fields)).is_ok(),
                allowed,
                "{fields:?}"
            );
        }
        let hosts = Hosts::new(&["console.example.com".to_owned()]);
        let from = |origin| {
            hosts
                .check_origin(&headers(&[
                    own,
                    ("origin", origin),
                    ("sec-fetch-site", "cross-site"),
                ]))
                .is_ok()
        };
        assert!(
            from("https://console.example.com") && !from("https://evil.example") && !from("null")
        );
    }

    #[test]
    fn what_a_browser_sends_for_any_page_is_no_json() {
        let form = ("content-type", "application/x-www-form-urlencoded");
        for (fields, read) in [
            (&[][..], true),
            (&[("content-type", "application/json")], true),
            (&[("content-type", "Application/JSON; charset=utf-8")], true),
            (&[("content-type", "application/problem+json")], true),
            (&[form], true),
            (&[form, ("origin", "http://127.0.0.1:8080")], false),
            (&[("content-type", "text/plain")], false),
            (&[("content-type", "text/plain;charset=UTF-8")], false),
            (&[("content-type", "text/plain; application/json")], false),
            (&[("content-type", "multipart/form-data; boundary=x")], false),
            (&[("content-type", "application/jsonp")], false),
            (&[("content-type", "")], false),
        ] {
            assert_eq!(check_content_type(&headers(fields)).is_ok(), read, "{fields:?}");
        }
    }
}
