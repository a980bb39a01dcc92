use std::fs;

use tempfile::TempDir;

use super::*;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn files(&self, client_ca: bool) -> config::Tls {
        let path = |name: &str| self.0.path().join(name);
        config::Tls {
            cert: path("cert"),
            key: path("key"),
            client_ca: client_ca.then(|| path("ca")),
            client_san: None,
            client_certificates_optional: false,
            http: false,
        }
    }
}

fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn what_cannot_be_used_is_said_by_its_setting() {
    let folder = Folder::new();
    let open = |client_ca| {
        Tls::open(folder.files(client_ca), &Metrics::new())
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let said = |client_ca, text: &str| {
        let error = open(client_ca).unwrap_err();
        assert!(error.contains(text) && !error.contains("PRIVATE KEY-"), "{error}");
    };
    let ((cert, key), (other, _)) = (pair(), pair());
    said(false, "tls.cert ");
    folder.write("cert", &key);
    said(false, "tls.key ");
    folder.write("key", &cert);
    folder.write("ca", "none");
    said(false, "tls.key holds no private key");
    folder.write("key", &key);
    said(false, "tls.cert holds no certificate");
    folder.write("cert", &other);
    said(false, "tls.cert and tls.key cannot be used: ");
    folder.write("cert", &cert);
    said(true, "tls.client_ca holds no certificate");
    folder.write("ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    said(true, "tls.client_ca cannot be used: ");
    folder.write("ca", &cert);
    assert_eq!((open(false), open(true)), (Ok(()), Ok(())));
}

#[test]
fn a_certificate_without_its_key_leaves_the_old_ones_in_force_until_the_key_comes() {
    let folder = Folder::new();
    let ((cert, key), (new_cert, new_key)) = (pair(), pair());
    folder.write("cert", &cert);
    folder.write("key", &key);
    let metrics = Metrics::new();
    let tls = Tls::open(folder.files(false), &metrics).unwrap();
    let first = tls.current.load_full();
    folder.write("cert", &new_cert);
    tls.refresh();
    tls.refresh();
    assert!(Arc::ptr_eq(&first, &tls.current.load_full()));
    folder.write("key", &new_key);
    tls.refresh();
    assert!(!Arc::ptr_eq(&first, &tls.current.load_full()));
    let text = metrics.render();
    assert!(
        text.contains("tollgate_tls_loads{result=\"ok\"} 2")
            && text.contains("tollgate_tls_loads{result=\"failed\"} 1"),
        "{text}"
    );
}

#[test]
fn the_names_of_a_certificate_are_its_dns_names_and_uris() {
    let mut params =
        rcgen::CertificateParams::new(["a.example.org".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    params
        .subject_alt_names
        .push(rcgen::SanType::URI("spiffe://example.org/gw".try_into().unwrap()));
    params.distinguished_name.push(rcgen::DnType::CommonName, "admin.example.org");
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    assert_eq!(&*names_of(certificate.der()), ["a.example.org", "spiffe://example.org/gw"]);
    assert!(names_of(&CertificateDer::from_slice(b"none")).is_empty());
}

#[tokio::test]
async fn only_a_client_of_the_name_is_let_in() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::ClientConfig;
    use tokio_rustls::rustls::pki_types::ServerName;

    let folder = Folder::new();
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let cert =
            CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        (cert.pem(), key.serialize_pem())
    };
    let (cert, key) = signed("localhost");
    folder.write("cert", &cert);
    folder.write("key", &key);
    folder.write("ca", &authority.pem());
    let files =
        config::Tls { client_san: Some("envoy.mesh.internal".to_owned()), ..folder.files(true) };
    let tls = Tls::open(files, &Metrics::new()).unwrap();

    for (name, let_in) in [
        ("envoy.mesh.internal", true),
        ("*.mesh.internal", true),
        ("ENVOY.mesh.internal", true),
        ("other.mesh.internal", false),
        ("x.envoy.mesh.internal", false),
    ] {
        let (cert, key) = signed(name);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let client = TlsConnector::from(Arc::new(
            client.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap(),
        ));
        let (near, far) = tokio::io::duplex(1 << 16);
        let connecting = client.connect(ServerName::try_from("localhost").unwrap(), near);
        let (accepted, _connected) = tokio::join!(tls.accept(far, Protocol::Grpc), connecting);
        assert_eq!(accepted.is_ok(), let_in, "{name}");
    }
}
