//! TLS of the gRPC port.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

/// Certificates and a key, as their files hold them.
#[derive(Clone, Copy, Debug)]
pub struct Pem<'a> {
    /// The chain of certificates, the server's own first.
    pub cert: &'a [u8],
    pub key: &'a [u8],
    /// Set: clients must present a certificate of this authority.
    pub client_ca: Option<&'a [u8]>,
}

/// Why certificates and keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0} holds no certificate in PEM")]
    NoCertificate(&'static str),
    #[error("tls.key holds no private key in PEM")]
    NoKey,
    #[error("tls.client_ca cannot be used: {0}")]
    ClientCa(String),
    #[error("tls.cert and tls.key cannot be used: {0}")]
    Unusable(String),
}

/// The TLS settings in force.
#[derive(Debug)]
pub struct Tls(ArcSwap<ServerConfig>);

impl Tls {
    /// # Errors
    /// What of `pem` cannot be used.
    pub fn new(pem: &Pem<'_>) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::from_pointee(settings(pem)?)))
    }

    /// What new connections are served with from now on.
    ///
    /// # Errors
    /// What of `pem` cannot be used. What was in force stays so.
    pub fn replace(&self, pem: &Pem<'_>) -> Result<(), TlsError> {
        self.0.store(Arc::new(settings(pem)?));
        Ok(())
    }

    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        TlsAcceptor::from(self.0.load_full()).accept(stream).await
    }
}

fn settings(pem: &Pem<'_>) -> Result<ServerConfig, TlsError> {
    let unusable = |error: tokio_rustls::rustls::Error| TlsError::Unusable(error.to_string());
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().map_err(unusable)?;
    let builder = match pem.client_ca {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(authority, "tls.client_ca")? {
                roots.add(certificate).map_err(|error| TlsError::ClientCa(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| TlsError::ClientCa(error.to_string()))?)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(pem.key).map_err(|_| TlsError::NoKey)?;
    let mut settings = builder.with_single_cert(certificates(pem.cert, "tls.cert")?, key).map_err(unusable)?;
    settings.alpn_protocols.push(b"h2".to_vec());
    Ok(settings)
}

fn certificates(pem: &[u8], key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| TlsError::NoCertificate(key))?;
    if found.is_empty() { Err(TlsError::NoCertificate(key)) } else { Ok(found) }
}
