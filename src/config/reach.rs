//! Who can reach the ports, and who is asked who calls.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::layers::Reader;
use crate::metrics::ExtraLabels;

/// Certificates and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Of the clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// The DNS name that a client's certificate must have. `None`: any of the authority's is let
    /// in.
    pub client_san: Option<String>,
    /// Clients without a certificate are let in, to show a token.
    pub client_certificates_optional: bool,
    /// The pages speak TLS as well.
    pub http: bool,
}

/// Ports, and who is asked who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub grpc_addr: SocketAddr,
    /// A Unix socket beside it.
    pub grpc_uds: Option<PathBuf>,
    /// Where plans are edited. `None`: on the port of decisions.
    pub admin_grpc_addr: Option<SocketAddr>,
    pub http_addr: SocketAddr,
    pub metrics_addr: Option<SocketAddr>,
    /// Where the metrics are at `metrics_addr`.
    pub metrics_path: String,
    /// Of every series.
    pub metrics_labels: ExtraLabels,
    /// Where the rules in force are shown beside `http_addr`.
    pub debug_addr: Option<SocketAddr>,
    pub reflection: bool,
    /// `None`: nobody is asked for a token.
    pub tokens_file: Option<PathBuf>,
    pub tls: Option<Tls>,
    /// How often the tokens file and the certificates are looked at.
    pub files_poll_ms: u64,
    /// Whoever can reach the service of usage plans may edit them.
    pub insecure: bool,
}

impl Reach {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let tokens_file = path(reader, "auth.tokens_file");
        let reach = Self {
            tls: tls(reader, tokens_file.is_some()),
            grpc_addr: reader.address("grpc_addr").unwrap_or(super::UNBOUND),
            grpc_uds: path(reader, "grpc_uds"),
            admin_grpc_addr: reader.address("admin_grpc_addr"),
            http_addr: reader.address("http_addr").unwrap_or(super::UNBOUND),
            metrics_addr: reader.address("metrics_addr"),
            metrics_path: reader.checked("metrics_path", |path| {
                let plain = path.starts_with('/')
                    && path
                        .bytes()
                        .all(|byte| byte.is_ascii_graphic() && !b"?#{}*".contains(&byte));
                if plain {
                    Ok(path.to_owned())
                } else {
                    Err("must be a path such as /metrics".to_owned())
                }
            }),
            metrics_labels: reader.checked("metrics_labels", ExtraLabels::parse),
            debug_addr: reader.address("debug_addr"),
            reflection: reader.flag("grpc.reflection"),
            tokens_file,
            files_poll_ms: reader.number("files_poll_ms", 10..=3_600_000),
            insecure: reader.flag("insecure"),
        };
        let (key, address) = reach.admin();
        if is_exposed(address) && !reach.asks_who_calls() && !reach.insecure {
            reader.mistake(format!(
                "{key} {address} would let everyone who can reach it edit plans and API keys: set admin_grpc_addr to a loopback address such \
                 as 127.0.0.1:8082, or auth.tokens_file, or tls.client_ca; or say --insecure (insecure: true) if that is meant"
            ));
        }
        reach
    }

    /// Where plans are edited, and the setting that says so.
    fn admin(&self) -> (&'static str, SocketAddr) {
        self.admin_grpc_addr
            .map_or(("grpc_addr", self.grpc_addr), |address| ("admin_grpc_addr", address))
    }

    /// Whether callers of gRPC need a token or a certificate.
    fn asks_who_calls(&self) -> bool {
        self.tokens_file.is_some() || self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }

    /// What an operator should know of ports that other machines can reach.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let tls_of_pages = self.tls.as_ref().filter(|tls| tls.http);
        let pages_ask =
            self.tokens_file.is_some() || tls_of_pages.is_some_and(|tls| tls.client_ca.is_some());
        let (admin_key, admin_addr) = self.admin();
        if is_exposed(admin_addr) && !self.asks_who_calls() {
            warnings.push(format!("{admin_key} {admin_addr}: everyone who can reach it may edit plans and API keys (insecure is set)"));
        }
        for (key, address, asks, what) in [
            ("grpc_addr", self.grpc_addr, self.asks_who_calls(), "ask for decisions and report"),
            (
                "http_addr",
                self.http_addr,
                pages_ask,
                "ask for decisions on /json and read the rules",
            ),
        ] {
            if is_exposed(address) && !asks {
                warnings.push(format!("{key} {address}: everyone who can reach it may {what}; see auth.tokens_file and tls.client_ca"));
            }
        }
        for (key, address, tls) in [
            ("grpc_addr", Some(self.grpc_addr), self.tls.is_some()),
            ("admin_grpc_addr", self.admin_grpc_addr, self.tls.is_some()),
            ("http_addr", Some(self.http_addr), tls_of_pages.is_some()),
        ] {
            if let Some(address) =
                address.filter(|&address| self.tokens_file.is_some() && is_exposed(address) && !tls)
            {
                warnings.push(format!("{key} {address}: tokens cross the network in the clear; see tls.cert, and tls.http for the pages"));
            }
        }
        warnings
    }
}

fn path(reader: &mut Reader, key: &str) -> Option<PathBuf> {
    Some(reader.text(key)).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn tls(reader: &mut Reader, tokens: bool) -> Option<Tls> {
    let (cert, key, client_ca) =
        (path(reader, "tls.cert"), path(reader, "tls.key"), path(reader, "tls.client_ca"));
    let optional = reader
        .one_of("tls.client_certificates", &[("required", false), ("optional", true)])
        .unwrap_or_default();
    let http = reader.flag("tls.http");
    let client_san = Some(reader.text("tls.client_san")).filter(|san| !san.is_empty());
    if let Some(san) = &client_san {
        if client_ca.is_none() {
            reader.mistake(
                "tls.client_san needs tls.client_ca: nobody else vouches for the name".to_owned(),
            );
        }
        if tokio_rustls::rustls::pki_types::DnsName::try_from(san.as_str()).is_err() {
            reader.mistake(format!(
                "tls.client_san must be a DNS name, such as envoy.internal, not `{san}`"
            ));
        }
    }
    if optional && !(tokens && client_ca.is_some()) {
        reader.mistake("tls.client_certificates: optional needs tls.client_ca, and auth.tokens_file for those who show none".to_owned());
    }
    match (cert, key, client_ca) {
        (None, None, None) => {
            if http {
                reader.mistake("tls.http needs tls.cert and tls.key".to_owned());
            }
            None
        }
        (Some(cert), Some(key), client_ca) => Some(Tls {
            cert,
            key,
            client_ca,
            client_san,
            client_certificates_optional: optional,
            http,
        }),
        _ => {
            reader.mistake(
                "tls.cert and tls.key are needed together, also where tls.client_ca is set"
                    .to_owned(),
            );
            None
        }
    }
}

/// Whether other machines can reach it. An unspecified address is every address of the machine.
fn is_exposed(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_for_this_machine_alone() {
        for (address, exposed) in [
            ("127.0.0.1:1", false),
            ("127.8.9.10:1", false),
            ("127.255.255.255:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("[::ffff:0.0.0.0]:1", true),
            ("[::ffff:10.0.0.1]:1", true),
            ("[::2]:1", true),
            ("128.0.0.1:1", true),
            ("126.255.255.255:1", true),
            ("10.0.0.1:1", true),
            ("169.254.1.1:1", true),
            ("[fe80::1]:1", true),
            ("192.168.1.1:1", true),
        ] {
            assert_eq!(is_exposed(address.parse().unwrap()), exposed, "{address}");
        }
    }
}
