//! How the pages are served: the bounds of their ports, and who may ask.

use std::time::Duration;

use super::layers::Reader;

/// Connections of a port of pages, what they may take, and the names that the server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Of each port. One more takes the place of the one that has been idle longest.
    pub max_connections: usize,
    /// The head of one request.
    pub max_header_bytes: usize,
    /// Bodies that are being read or answered, all together.
    pub max_body_bytes: usize,
    /// From the first byte of a request to the last one of its head, and from there to the end of
    /// its body; a TLS handshake as well.
    pub request_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How long making an answer and taking it may last.
    pub answer_timeout: Duration,
    /// Names that people use for this server, in lower case.
    pub allowed_hosts: Vec<String>,
    /// The console is served.
    pub console: bool,
}

impl Pages {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut milliseconds = |key| Duration::from_millis(reader.number(key, 100..=3_600_000));
        let (request_timeout, idle_timeout) =
            (milliseconds("http.request_timeout_ms"), milliseconds("http.idle_timeout_ms"));
        let answer_timeout = milliseconds("http.answer_timeout_ms");
        let allowed_hosts: Vec<String> = reader
            .list("http.allowed_hosts")
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect();
        for name in &allowed_hosts {
            if !is_name(name) {
                reader.mistake(format!(
                    "http.allowed_hosts must be names without scheme and port, such as `tollgate.example.com`, `*.example.com`, or `*` for \
                     every name, not `{name}`"
                ));
            }
        }
        Self {
            max_connections: reader.number("http.max_connections", 4..=100_000),
            max_header_bytes: reader.number("http.max_header_bytes", 8192..=1 << 20),
            max_body_bytes: reader.number("http.max_body_bytes", 65_536..=1 << 32),
            request_timeout,
            idle_timeout,
            answer_timeout,
            allowed_hosts,
            console: reader.flag("console.enabled"),
        }
    }
}

/// `*`, `*.example.com`, `example.com`.
fn is_name(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let plain = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text == "*" || (name.len() <= 253 && name.split('.').all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts_have_neither_scheme_nor_port() {
        for (text, is) in [
            ("*", true),
            ("tollgate.example.com", true),
            ("*.example.com", true),
            ("tollgate", true),
            ("my_service.svc", true),
            ("http://tollgate.example.com", false),
            ("tollgate.example.com:8080", false),
            ("*example.com", false),
            ("a.*.com", false),
            (".example.com", false),
            ("example.com.", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(is_name(text), is, "{text}");
        }
    }
}
