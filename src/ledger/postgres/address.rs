//! Where the database is, and as whom it is asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::ledger::LedgerError;

/// How long a server may take to let a connection in.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection that moves nothing for so long is looked after: the other end may be gone.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Bytes that were sent and not received for so long end a connection.
const UNRECEIVED: Duration = Duration::from_secs(10);
const DEFAULT_PORT: u16 = 5432;
const LONGEST_PASSWORD: usize = 65_536;

/// Where the database is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresSettings {
    /// `postgres://user@host:port/database`, with several hosts and the parameters of libpq.
    pub url: String,
    /// A file with the password, read at each connection.
    pub password_file: Option<PathBuf>,
    /// A file with the certificates that vouch for the server's.
    pub ca: Option<PathBuf>,
    /// A database without our tables is not a new ledger.
    pub must_exist: bool,
}

/// An address that was understood.
#[derive(Clone)]
pub(super) struct Address {
    config: Config,
    password_file: Option<PathBuf>,
    tls: Option<MakeRustlsConnect>,
    shown: String,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl PostgresSettings {
    /// Why the address cannot be used. Nothing is asked for it.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check(&self) -> Result<(), String> {
        self.understood().map(drop)
    }

    /// The address as it may be shown: without the password.
    pub fn shown(&self) -> String {
        self.understood().map_or_else(|_| self.url_without_password(), |it| it.shown)
    }

    /// The address, understood or not, without what may be a password.
    pub(super) fn url_without_password(&self) -> String {
        let rest = self.url.split_once("://").map_or(&*self.url, |(_, rest)| rest);
        let place = rest.split(['?', '#']).next().unwrap_or_default();
        match place.rsplit_once('@') {
            Some((_, place)) => format!("postgres://{place}"),
            // What stands before it was cut in a password, maybe.
            None if rest.contains('@') => "postgres://…".to_owned(),
            None => format!("postgres://{place}"),
        }
    }

    /// Understands the address, and reads the certificates.
    pub(super) fn understood(&self) -> Result<Address, String> {
        let scheme =
            ["postgres://", "postgresql://"].into_iter().any(|scheme| self.url.starts_with(scheme));
        if !scheme {
            return Err("it must begin with postgres://, as in postgres://user@host:5432/database"
                .to_owned());
        }
        let (url, mode) = take_mode(&self.url)?;
        // Who gives certificates wants them used.
        let mode = mode.unwrap_or(if self.ca.is_some() { Mode::Require } else { Mode::Prefer });
        let mut config: Config =
            url.parse().map_err(|wrong: tokio_postgres::Error| super::failure::words(&wrong))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("it names no host".to_owned());
        }
        let is_cut = |host: &Host| match host {
            Host::Tcp(name) => name.contains('@'),
            #[cfg(unix)]
            Host::Unix(_) => false,
        };
        // The rest of the password would be shown as a host.
        if config.get_hosts().iter().any(is_cut) {
            return Err(
                "it holds an `@` that is not encoded: write %40 in a user or a password".to_owned()
            );
        }
        if self.password_file.is_some() && config.get_password().is_some() {
            return Err(
                "it holds a password, and ledger.password_file is set: one of both".to_owned()
            );
        }
        if config.get_dbname().is_none() {
            return Err("it names no database, as in postgres://user@host:5432/database".to_owned());
        }
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("tollgate");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        config.keepalives_idle(KEEPALIVE).keepalives_interval(KEEPALIVE);
        config.tcp_user_timeout(UNRECEIVED);
        config.ssl_mode(mode.wire());
        let tls = mode.connector(self.ca.as_deref())?;
        let shown = shown(&config);
        Ok(Address { config, password_file: self.password_file.clone(), tls, shown })
    }
}

impl Address {
    /// How to connect now: the password is read anew.
    pub(super) fn config(&self) -> Result<Config, LedgerError> {
        let mut config = self.config.clone();
        if let Some(file) = &self.password_file {
            let denied = |what: String| LedgerError::Denied { place: self.shown.clone(), what };
            let text = std::fs::read_to_string(file).map_err(|wrong| {
                denied(format!("ledger.password_file {} cannot be read: {wrong}", file.display()))
            })?;
            let password = text.trim_end_matches(['\r', '\n']);
            if password.is_empty() || password.len() > LONGEST_PASSWORD {
                return Err(denied(format!(
                    "ledger.password_file {} holds no password, or too much",
                    file.display()
                )));
            }
            config.password(password);
        }
        Ok(config)
    }

    pub(super) fn tls(&self) -> Option<&MakeRustlsConnect> {
        self.tls.as_ref()
    }

    /// Without the password.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }
}

fn shown(config: &Config) -> String {
    let ports = config.get_ports();
    let named = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let mut hosts: Vec<String> = named.collect();
    if hosts.is_empty() {
        hosts = config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    let place = |(index, host): (usize, &String)| {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
        format!("{host}:{port}")
    };
    let hosts: Vec<String> = hosts.iter().enumerate().map(place).collect();
    format!("postgres://{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
}

/// `sslmode`, as libpq has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyFull,
}

/// Takes `sslmode` out of a URL: the client knows fewer than there are.
fn take_mode(url: &str) -> Result<(String, Option<Mode>), String> {
    let Some((before, parameters)) = url.split_once('?') else {
        return Ok((url.to_owned(), None));
    };
    let mut mode = None;
    let mut others = Vec::new();
    for parameter in parameters.split('&') {
        match parameter.split_once('=') {
            Some(("sslmode", value)) => {
                mode = Some(match value {
                    "disable" => Mode::Disable,
                    "allow" | "prefer" => Mode::Prefer,
                    "require" => Mode::Require,
                    "verify-ca" | "verify-full" => Mode::VerifyFull,
                    _ => {
                        return Err(format!(
                            "its sslmode is `{}`, and must be disable, prefer, require or verify-full",
                            value.escape_debug()
                        ));
                    }
                });
            }
            Some(("target_session_attrs", "read-write" | "primary" | "any")) => {}
            Some(("target_session_attrs", _)) => {
                return Err(
                    "its target_session_attrs must be read-write: the ledger writes".to_owned()
                );
            }
            _ => others.push(parameter),
        }
    }
    let query = if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
    Ok((format!("{before}{query}"), mode))
}

impl Mode {
    fn wire(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyFull => SslMode::Require,
        }
    }

    /// As libpq does: who gives certificates has them used, and without any only `verify-full`
    /// cannot be.
    fn connector(self, ca: Option<&Path>) -> Result<Option<MakeRustlsConnect>, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|wrong| wrong.to_string())?;
        let config = match (self, ca) {
            (Self::Disable, None) => return Ok(None),
            (Self::Disable, Some(_)) => {
                return Err("its sslmode is disable, and ledger.ca is set: one of both".to_owned());
            }
            (Self::VerifyFull, None) => {
                return Err(
                    "its sslmode is verify-full, and ledger.ca names no certificates".to_owned()
                );
            }
            (_, Some(ca)) => builder.with_root_certificates(roots(ca)?).with_no_client_auth(),
            (Self::Prefer | Self::Require, None) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
                .with_no_client_auth(),
        };
        Ok(Some(MakeRustlsConnect::new(config)))
    }
}

fn roots(ca: &Path) -> Result<RootCertStore, String> {
    let unusable = |wrong: String| format!("ledger.ca {} cannot be used: {wrong}", ca.display());
    let bytes = std::fs::read(ca).map_err(|wrong| unusable(wrong.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|wrong| unusable(wrong.to_string()))?;
        roots.add(certificate).map_err(|wrong| unusable(wrong.to_string()))?;
    }
    if roots.is_empty() {
        Err(unusable("it holds no certificate in PEM".to_owned()))
    } else {
        Ok(roots)
    }
}

/// Believes any server: `sslmode=require` without certificates keeps out who listens, and not who
/// stands between.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> PostgresSettings {
        PostgresSettings { url: url.to_owned(), ..PostgresSettings::default() }
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://me:secret@db/books", "postgres://db:5432/books"),
            ("postgresql://me:secret@a:1,b:2/books?sslmode=require", "postgres://a:1,b:2/books"),
            ("postgres://me@a,b:7/books?password=secret", "postgres://a:5432,b:7/books"),
        ] {
            let address = settings(url).understood().unwrap();
            assert_eq!(address.shown(), shown, "{url}");
            assert!(!format!("{address:?}").contains("secret"));
        }
    }

    #[test]
    fn no_part_of_a_password_is_shown_of_an_address_that_cannot_be_used() {
        for url in [
            "postgres://me:p@se@cr@et@db/books",
            "postgres://me:secr?et@db/books",
            "postgres://me:s#ecret@db/books",
            "postgres://me@db/books?colour=red&password=s@ecret",
        ] {
            let settings = settings(url);
            let shown = format!("{} {}", settings.shown(), settings.url_without_password());
            for part in ["me", "secr", "ecret", "cr", "et@"] {
                assert!(!shown.contains(part), "{url}: {shown}");
            }
        }
        let told = settings("postgres://me:p@ss@db/books").check().unwrap_err();
        assert!(told.contains("%40") && !told.contains("ss@") && !told.contains("p@"), "{told}");
    }

    #[test]
    fn certificates_that_are_given_are_used() {
        let mode = |url: &str| take_mode(url).unwrap().1;
        assert_eq!(mode("postgres://me@db/books"), None);
        assert_eq!(mode("postgres://me@db/books?sslmode=prefer"), Some(Mode::Prefer));
        assert_eq!(Mode::Require.wire(), SslMode::Require);
    }

    #[test]
    fn what_cannot_be_used_is_told_in_words() {
        for (url, word) in [
            ("redis://db/1", "postgres://"),
            ("postgres://me@db", "names no database"),
            ("postgres://me@db/books?sslmode=maybe", "sslmode"),
            ("postgres://me@db/books?sslmode=verify-full", "ledger.ca"),
            ("postgres://me@db/books?target_session_attrs=standby", "read-write"),
            ("postgres://me@db:70000/books", "port"),
            ("postgres://me@db/books?colour=red", "colour"),
        ] {
            let told = settings(url).check().unwrap_err();
            assert!(told.contains(word), "{url}: {told}");
        }
        let both = PostgresSettings {
            password_file: Some("/nowhere".into()),
            ..settings("postgres://me:secret@db/books")
        };
        assert!(both.check().unwrap_err().contains("one of both"));
        let ca =
            PostgresSettings { ca: Some("/nowhere".into()), ..settings("postgres://me@db/books") };
        assert!(ca.check().unwrap_err().contains("ledger.ca /nowhere"));
    }
}
