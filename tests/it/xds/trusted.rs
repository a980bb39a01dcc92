//! The way to the management server with certificates on both sides.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::management::{End, Management};
use super::{limit_of, rules};
use crate::patience::until;
use crate::server::Tollgate;

/// Who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these names, and its key.
    pub fn signs(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        // A name that is the authority's would make it one that signed itself.
        params.distinguished_name.push(DnType::CommonName, "*");
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// How a server speaks that asks for certificates of this authority.
    pub fn serves(&self, names: &[&str]) -> ServerTlsConfig {
        let (cert, key) = self.signs(names);
        ServerTlsConfig::new()
            .identity(Identity::from_pem(cert, key))
            .client_ca_root(Certificate::from_pem(&self.pem))
    }
}

/// `ca.crt`, `tls.crt` and `tls.key`, as Envoy Gateway mounts them.
pub struct Files(pub TempDir);

impl Files {
    pub fn new(authority: &Authority) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.write(authority);
        files
    }

    pub fn write(&self, authority: &Authority) {
        let (cert, key) = authority.signs(&["*.envoy-gateway-system"]);
        for (name, text) in [("ca.crt", &authority.pem), ("tls.crt", &cert), ("tls.key", &key)] {
            fs::write(self.path(name), text).unwrap();
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn start(server: &Management, files: &Files, identity: bool, more: &[(&str, &str)]) -> Tollgate {
    let target = format!("localhost:{}", server.addr().port());
    let path = |name: &str| files.path(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (path("ca.crt"), path("tls.crt"), path("tls.key"));
    let mut env = vec![
        ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
        ("CONFIG_GRPC_XDS_SERVER_URL", target.as_str()),
        ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
        ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &ca),
        ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "1s"),
    ];
    if identity {
        env.push(("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &cert));
        env.push(("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &key));
    }
    env.extend(more);
    Tollgate::start(&[], &env)
}

#[test]
fn both_sides_show_certificates_and_new_ones_are_read_for_each_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new(&old);
    let mut server = Management::start_with(Some(old.serves(&["localhost"])));
    server.set("1", vec![rules("a", 1)]);
    let tollgate = start(&server, &files, true, &[]);
    server.acked("1");
    assert_eq!(limit_of(&tollgate, "a", "x"), 1);

    // All certificates change, the server's first: for a while nobody trusts anybody.
    server.kill();
    server.set_tls(new.serves(&["localhost"]));
    server.set("2", vec![rules("a", 2)]);
    server.restart();
    until("that it is not trusted", || {
        tollgate.log().contains("invalid peer certificate").then_some(())
    });
    assert_eq!(limit_of(&tollgate, "a", "y"), 1, "the last rules stay");
    files.write(&new);
    server.acked("2");
    assert_eq!(limit_of(&tollgate, "a", "z"), 2);
    server.end_streams(End::Well);
}

#[test]
fn a_stranger_is_not_trusted_and_the_log_says_which_side_does_not() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = Management::start_with(Some(ours.serves(&["xds.internal"])));
    server.set("1", vec![rules("a", 1)]);
    let files = Files::new(&ours);
    let wrong_ca = Files::new(&ours);
    fs::write(wrong_ca.path("ca.crt"), &theirs.pem).unwrap();
    let empty = Files::new(&ours);
    fs::write(empty.path("tls.key"), "").unwrap();
    let san = ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "xds.internal");
    for (files, identity, more, said) in [
        (&wrong_ca, true, &[san][..], "invalid peer certificate: BadSignature"),
        (&files, true, &[], "not valid for name"),
        (&files, false, &[san], "CertificateRequired"),
        (&empty, true, &[san], "holds no private key in PEM"),
    ] {
        let tollgate = start(&server, files, identity, more);
        until(said, || tollgate.log().contains(said).then_some(()));
        assert_eq!(server.asked().len(), 0, "{said}");
    }
    let _tollgate = start(&server, &files, true, &[san]);
    server.acked("1");
}
