//! Where rules come from a management server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};

use super::layers::Reader;
use crate::file_modes::Holds;

/// A management server that gives rules over xDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xds {
    pub server: XdsServer,
    /// As whom rules are asked for.
    pub node_id: String,
    /// What else is told about this node.
    pub node_metadata: Vec<(String, String)>,
    /// Sent with each stream.
    pub headers: Vec<(String, String)>,
    /// `None`: in the clear.
    pub tls: Option<XdsTls>,
    /// The largest answer that is read.
    pub max_message_bytes: usize,
    /// The longest wait before the server is tried again.
    pub max_backoff: Duration,
    /// Healthy also before the first rules have come.
    pub starts_without_rules: bool,
    /// How long health waits for them all the same.
    pub first_rules_wait: Duration,
}

/// Where the management server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XdsServer {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Certificates for the way to the management server. They are read again for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdsTls {
    /// Who vouches for the server. `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// What is shown to the server: certificate chain and key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must have. `None`: the host of its address.
    pub server_name: Option<String>,
}

impl XdsTls {
    /// Its files, by the settings that name them, and what others may do with them.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Path, Holds)> {
        let (cert, key) = self.identity.as_ref().map(|(cert, key)| (cert, key)).unzip();
        let all = [
            ("xds.tls_ca", self.ca.as_ref(), Holds::Decisions),
            ("xds.tls_cert", cert, Holds::Decisions),
            ("xds.tls_key", key, Holds::Secrets),
        ];
        all.into_iter().filter_map(|(setting, path, holds)| Some((setting, path?.as_path(), holds)))
    }
}

impl Xds {
    /// `None`: rules come from files.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let server = reader.checked("xds.server", |text| match text {
            "" => Ok(None),
            text => XdsServer::parse(text).map(Some),
        });
        let tls = tls(reader);
        let (node_id, node_metadata) = (reader.text("xds.node_id"), metadata(reader));
        let headers = headers(reader);
        let max_message_bytes = reader.number("xds.max_message_bytes", 1024..=1 << 30);
        let max_backoff =
            Duration::from_millis(reader.number("xds.max_backoff_ms", 1_000..=3_600_000));
        let starts_without_rules = reader.flag("xds.start_without_rules");
        let first_rules_wait =
            Duration::from_millis(reader.number("xds.first_rules_wait_ms", 0..=3_600_000));
        let server = server?;
        if !reader.list("rules").is_empty() {
            reader.mistake(
                "rules and xds.server cannot both be used: rules come from files or from a management server. Leave one of them out"
                    .to_owned(),
            );
        }
        Some(Self {
            server,
            node_id,
            node_metadata,
            headers,
            tls,
            max_message_bytes,
            max_backoff,
            starts_without_rules,
            first_rules_wait,
        })
    }
}

impl XdsServer {
    /// `HOST:PORT`, `dns:///HOST:PORT` or `unix:PATH`, as gRPC writes targets.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || "must be HOST:PORT, dns:///HOST:PORT or unix:/PATH, such as envoy-gateway:18001";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(wrong().to_owned())
            };
        }
        let target = ["dns:///", "passthrough:///", "dns:"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .unwrap_or(text);
        let (host, port) = target.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = |host: &str| {
            !host.is_empty() && !host.contains(['/', '[', ']', '@', ' ', '?', '#', '%'])
        };
        let host = match bare {
            Some(address) if address.contains(':') && is_host(address) => address,
            None if !host.contains(':') && is_host(host) => host,
            _ => return Err(wrong().to_owned()),
        };
        match port.parse() {
            Ok(port) if port > 0 => Ok(Self::Tcp { host: host.to_owned(), port }),
            _ => Err(wrong().to_owned()),
        }
    }
}

impl std::fmt::Display for XdsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn tls(reader: &mut Reader) -> Option<XdsTls> {
    let mut path = |key: &str| Some(reader.text(key)).filter(|path| !path.is_empty());
    let (ca, cert, key) = (path("xds.tls_ca"), path("xds.tls_cert"), path("xds.tls_key"));
    let server_name = path("xds.tls_server_name");
    let on = reader.flag("xds.tls");
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        _ => {
            reader.mistake("xds.tls_cert and xds.tls_key are needed together".to_owned());
            None
        }
    };
    if !on && (ca.is_some() || identity.is_some() || server_name.is_some()) {
        reader.mistake(
            "xds.tls_ca, xds.tls_cert, xds.tls_key and xds.tls_server_name need xds.tls: true"
                .to_owned(),
        );
    }
    on.then(|| XdsTls { ca: ca.map(PathBuf::from), identity, server_name })
}

fn metadata(reader: &mut Reader) -> Vec<(String, String)> {
    reader.checked("xds.node_metadata", |text| {
        pairs(text, '=').ok_or_else(|| "must be pairs such as `zone=a,rack=7`".to_owned())
    })
}

/// Their values may be secrets: a mistake does not show them.
fn headers(reader: &mut Reader) -> Vec<(String, String)> {
    let text = reader.text("xds.headers");
    let fits = |(name, value): &(String, String)| {
        name.parse::<HeaderName>().is_ok()
            && !name.starts_with("grpc-")
            && !name.ends_with("-bin")
            && value.parse::<HeaderValue>().is_ok()
    };
    match pairs(&text, ':') {
        Some(pairs) if pairs.iter().all(fits) => pairs,
        _ => {
            reader.mistake(
                "xds.headers must be headers such as `x-tenant:a,authorization:Bearer token`"
                    .to_owned(),
            );
            Vec::new()
        }
    }
}

/// `a=b,c=d`. The value ends at the comma, and may hold the mark.
fn pairs(text: &str, mark: char) -> Option<Vec<(String, String)>> {
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once(mark)?;
            let (name, value) = (name.trim(), value.trim());
            (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_as_grpc_names_targets() {
        let tcp = |host: &str, port| Ok(XdsServer::Tcp { host: host.to_owned(), port });
        let unix = || Ok(XdsServer::Unix("/run/xds.sock".into()));
        for (text, is) in [
            ("envoy-gateway:18001", tcp("envoy-gateway", 18001)),
            ("dns:///a.b.svc.cluster.local:18002", tcp("a.b.svc.cluster.local", 18002)),
            ("dns:a:1", tcp("a", 1)),
            ("passthrough:///10.0.0.1:1", tcp("10.0.0.1", 1)),
            ("[::1]:18000", tcp("::1", 18000)),
            ("unix:/run/xds.sock", unix()),
            ("unix:///run/xds.sock", unix()),
        ] {
            assert_eq!(XdsServer::parse(text), is, "{text}");
        }
        assert_eq!(XdsServer::parse("[::1]:7").unwrap().to_string(), "[::1]:7");
        for text in ["a", "a:", "a:0", "a:65536", ":1", "::1:1", "http://a:1", "unix:a", "a/b:1"] {
            assert!(XdsServer::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pairs_are_cut_at_the_first_mark() {
        let is = |all: &[(&str, &str)]| {
            Some(all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(pairs("", ':'), is(&[]));
        assert_eq!(pairs("a:b, c:d:e,", ':'), is(&[("a", "b"), ("c", "d:e")]));
        assert_eq!(pairs("a", ':'), None);
        assert_eq!(pairs(":b", ':'), None);
    }
}
