//! Certificates and keys of the ports that speak TLS, out of files that are read again when they
//! change.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use metrics::Counter;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use self::named::Named;
use crate::config;
use crate::file_modes::{Holds, Watch};
use crate::metrics::Metrics;

mod named;

/// Why certificates and keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error("{key} {path} cannot be read: {error}")]
    Unreadable { key: &'static str, path: String, error: String },
    #[error("{0} holds no certificate in PEM")]
    NoCertificate(&'static str),
    #[error("tls.key holds no private key in PEM")]
    NoKey,
    #[error("tls.client_ca cannot be used: {0}")]
    ClientCa(String),
    #[error("tls.cert and tls.key cannot be used: {0}")]
    Unusable(String),
}

/// What is spoken inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2.
    Grpc,
    /// HTTP/1.1.
    Pages,
}

/// The certificates and keys in force.
#[derive(Debug)]
pub struct Tls {
    files: config::Tls,
    current: ArcSwap<InForce>,
    /// The hash of what was read last, or why it could not be: contents are what decides, not
    /// times.
    seen: Mutex<Result<blake3::Hash, TlsError>>,
    loads: Counter,
    failures: Counter,
    /// Who else may write them, or read the key.
    watch: Watch,
}

#[derive(Debug)]
struct InForce {
    grpc: Arc<ServerConfig>,
    pages: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// What of them cannot be used.
    pub fn open(files: config::Tls, metrics: &Metrics) -> Result<Self, TlsError> {
        metrics.describe_counter("tollgate_tls_loads", "Loads of certificates and keys, by result");
        let loads = |result| metrics.counter("tollgate_tls_loads", &[("result", result)]);
        let pem = Pem::read(&files)?;
        let current = ArcSwap::from_pointee(pem.in_force(&files)?);
        let seen = Mutex::new(Ok(pem.hash()));
        let certificates =
            [("tls.cert", Some(&files.cert)), ("tls.client_ca", files.client_ca.as_ref())];
        let certificates = certificates
            .into_iter()
            .filter_map(|(key, path)| Some((key, path?.clone(), Holds::Decisions)));
        let watch = Watch::new(
            certificates.chain([("tls.key", files.key.clone(), Holds::Secrets)]).collect(),
        );
        let tls =
            Self { files, current, seen, loads: loads("ok"), failures: loads("failed"), watch };
        tls.loads.increment(1);
        tls.watch.look(true);
        Ok(tls)
    }

    /// Reads the files, and where they differ from what was read last, serves new connections with
    /// them. What cannot be used leaves the old in force; connections that are open go on in either
    /// case. Blocks on the file system.
    pub fn refresh(&self) {
        let pem = Pem::read(&self.files);
        let read = pem.as_ref().map(Pem::hash).map_err(Clone::clone);
        let mut seen = self.seen.lock();
        if *seen == read {
            self.watch.look(false);
            return;
        }
        match pem.and_then(|pem| pem.in_force(&self.files)) {
            Ok(current) => {
                self.current.store(Arc::new(current));
                tracing::info!("certificates loaded");
                self.loads.increment(1);
                self.watch.look(true);
            }
            Err(error) => {
                tracing::error!(
                    "the certificates were not loaded, the old ones stay in force: {error}"
                );
                self.failures.increment(1);
            }
        }
        *seen = read;
    }

    /// The handshake of a new connection.
    ///
    /// # Errors
    /// The client does not speak TLS, or not as it is asked to.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        protocol: Protocol,
    ) -> io::Result<TlsStream<S>> {
        let settings = {
            let current = self.current.load();
            match protocol {
                Protocol::Grpc => current.grpc.clone(),
                Protocol::Pages => current.pages.clone(),
            }
        };
        TlsAcceptor::from(settings).accept(stream).await
    }
}

/// The names in the certificate that the client has shown, which is verified: DNS names and URIs.
/// None where it showed none.
pub fn client_names<S>(stream: &TlsStream<S>) -> Arc<[String]> {
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    certificate.map(names_of).unwrap_or_default()
}

fn names_of(certificate: &CertificateDer<'_>) -> Arc<[String]> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return Arc::default();
    };
    certificate.valid_dns_names().chain(certificate.valid_uri_names()).map(str::to_owned).collect()
}

/// What the files hold.
struct Pem {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Pem {
    fn read(files: &config::Tls) -> Result<Self, TlsError> {
        Ok(Self {
            cert: read(&files.cert, "tls.cert")?,
            key: read(&files.key, "tls.key")?,
            client_ca: files
                .client_ca
                .as_ref()
                .map(|path| read(path, "tls.client_ca"))
                .transpose()?,
        })
    }

    fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for part in [&self.cert, &self.key, self.client_ca.as_ref().unwrap_or(&Vec::new())] {
            hasher.update(blake3::hash(part).as_bytes());
        }
        hasher.finalize()
    }

    fn in_force(&self, files: &config::Tls) -> Result<InForce, TlsError> {
        let unusable = |error: rustls::Error| TlsError::Unusable(error.to_string());
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(authority, "tls.client_ca")? {
                    roots
                        .add(certificate)
                        .map_err(|error| TlsError::ClientCa(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = if files.client_certificates_optional {
                    verifier.allow_unauthenticated()
                } else {
                    verifier
                };
                let verifier =
                    verifier.build().map_err(|error| TlsError::ClientCa(error.to_string()))?;
                match files.client_san.as_deref() {
                    None => builder.with_client_cert_verifier(verifier),
                    Some(san) => {
                        builder.with_client_cert_verifier(Arc::new(Named::new(verifier, san)?))
                    }
                }
            }
        };
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::NoKey)?;
        let mut grpc = builder
            .with_single_cert(certificates(&self.cert, "tls.cert")?, key)
            .map_err(unusable)?;
        let mut pages = grpc.clone();
        grpc.alpn_protocols.push(b"h2".to_vec());
        pages.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(InForce { grpc: Arc::new(grpc), pages: Arc::new(pages) })
    }
}

fn read(path: &Path, key: &'static str) -> Result<Vec<u8>, TlsError> {
    crate::plain_file::read(path, "file of certificates or keys").map_err(|error| {
        TlsError::Unreadable { key, path: path.display().to_string(), error: error.to_string() }
    })
}

fn certificates(pem: &[u8], key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::NoCertificate(key))?;
    if found.is_empty() { Err(TlsError::NoCertificate(key)) } else { Ok(found) }
}

#[cfg(test)]
mod tests;
