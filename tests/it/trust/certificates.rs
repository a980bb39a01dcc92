//! TLS: whom the server shows itself to be, whom clients do, and both while files change.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{Tokens, logged, refused, until};
use crate::http::{Request, Response, get};
use crate::server::Tollgate;

const CHECK: &str = "/tollgate.v1.DecisionService/Check";
const CREATE: &str = "/tollgate.v1.UsagePlanService/CreateUsagePlan";

/// Issues certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Issued {
    cert: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, dns: &str, uri: Option<&str>) -> Issued {
        let mut params = CertificateParams::new([dns.to_owned()]).unwrap();
        params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap().pem();
        Issued { cert, key: key.serialize_pem() }
    }
}

/// A folder of certificates, and the settings that name them.
struct Files(TempDir);

impl Files {
    fn new(server: &Issued, client_ca: Option<&Authority>) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.serve(server);
        if let Some(authority) = client_ca {
            fs::write(files.path("ca"), authority.pem()).unwrap();
        }
        files
    }

    fn serve(&self, server: &Issued) {
        fs::write(self.path("cert"), &server.cert).unwrap();
        fs::write(self.path("key"), &server.key).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn start(&self, args: &[&str], env: &[(&str, &str)]) -> Tollgate {
        let [cert, key, ca] =
            ["cert", "key", "ca"].map(|name| self.path(name).to_str().unwrap().to_owned());
        let mut all = vec![
            ("TOLLGATE_TLS_CERT", cert.as_str()),
            ("TOLLGATE_TLS_KEY", &key),
            ("TOLLGATE_FILES_POLL_MS", "10"),
        ];
        if self.path("ca").exists() {
            all.push(("TOLLGATE_TLS_CLIENT_CA", &ca));
        }
        all.extend_from_slice(env);
        Tollgate::start(args, &all)
    }
}

/// A new connection, whose handshake is done, of a client that trusts this authority.
async fn connect(
    to: SocketAddr,
    trusted: &Authority,
    shown: Option<&Issued>,
) -> Result<Channel, tonic::transport::Error> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted.pem()));
    let tls = match shown {
        Some(issued) => tls.identity(Identity::from_pem(&issued.cert, &issued.key)),
        None => tls,
    };
    Endpoint::from_shared(format!("https://localhost:{}", to.port()))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect()
        .await
}

/// Sends a request for a page over TLS. An error: the server does not speak with this client.
async fn page(
    request: &Request,
    to: SocketAddr,
    trusted: &Authority,
    shown: Option<&Issued>,
) -> std::io::Result<Response> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.pem().as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder =
        builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut settings = match shown {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain = vec![CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap()];
            builder
                .with_client_auth_cert(
                    chain,
                    PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap(),
                )
                .unwrap()
        }
    };
    settings.alpn_protocols.push(b"http/1.1".to_vec());
    let connector = TlsConnector::from(Arc::new(settings));
    let mut stream =
        connector.connect("localhost".try_into().unwrap(), TcpStream::connect(to).await?).await?;
    stream.write_all(&request.whole()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    Ok(Response::read(&bytes).unwrap())
}

#[tokio::test]
async fn a_certificate_gets_the_scopes_of_its_names_on_every_port() {
    let authority = Authority::new();
    let server = authority.issue("localhost", None);
    let files = Files::new(&server, Some(&authority));
    let mut tokens = Tokens::make(&[("operator", "admin")]);
    let entries = "certificates:\n- {san: \"spiffe://example.org/gw\", scopes: [decide]}\n- {san: ops.example.org, scopes: [admin]}\n";
    fs::write(&tokens.file, tokens.text() + entries).unwrap();
    let tokens_file = tokens.file().to_owned();
    let tollgate = files.start(
        &["--admin-grpc-addr", "127.0.0.1:0", "--tokens-file", &tokens_file],
        &[("TOLLGATE_TLS_HTTP", "true")],
    );
    let (grpc, admin, http) =
        (tollgate.grpc_addr(), tollgate.admin_grpc_addr(), tollgate.http_addr());
    let gateway = authority.issue("gw.example.org", Some("spiffe://example.org/gw"));
    let operator = authority.issue("ops.example.org", None);
    let stranger = authority.issue("spiffe.example.org", Some("spiffe://example.org/other"));
    let forger = Authority::new().issue("ops.example.org", None);
    let token = tokens.tokens.remove("operator").unwrap();
    let lacking = Some(Code::PermissionDenied);
    for (shown, token, decides, edits, page_status) in [
        (&gateway, None, None, lacking, 403),
        (&operator, None, lacking, None, 200),
        (&stranger, None, Some(Code::Unauthenticated), Some(Code::Unauthenticated), 401),
        // A token adds to what the certificate may do.
        (&gateway, Some(token.as_str()), None, None, 200),
        (&stranger, Some(token.as_str()), lacking, None, 200),
        (
            &operator,
            Some("tgt_unknown"),
            Some(Code::Unauthenticated),
            Some(Code::Unauthenticated),
            401,
        ),
    ] {
        let decisions = connect(grpc, &authority, Some(shown)).await.unwrap();
        assert_eq!(refused(&decisions, CHECK, token).await, decides);
        let administration = connect(admin, &authority, Some(shown)).await.unwrap();
        assert_eq!(refused(&administration, CREATE, token).await, edits);
        let mut request = get("/rlconfig");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        assert_eq!(
            page(&request, http, &authority, Some(shown)).await.unwrap().status,
            page_status
        );
    }
    // No certificate, or one of another authority: no connection.
    for shown in [None, Some(&forger)] {
        for port in [grpc, admin] {
            let served = match connect(port, &authority, shown).await {
                Ok(channel) => super::call(&channel, "/grpc.health.v1.Health/Check", Some(&token))
                    .await
                    .is_ok(),
                Err(_) => false,
            };
            assert!(!served);
        }
        assert!(page(&get("/healthcheck"), http, &authority, shown).await.is_err());
    }
    assert!(get("/healthcheck").send(http).is_err(), "the pages speak TLS and nothing else");
}

#[tokio::test]
async fn where_certificates_are_optional_a_token_stands_in_for_one() {
    let authority = Authority::new();
    let files = Files::new(&authority.issue("localhost", None), Some(&authority));
    let tokens = Tokens::make(&[("gateway", "decide")]);
    fs::write(
        &tokens.file,
        tokens.text() + "certificates: [{san: ops.example.org, scopes: [admin]}]\n",
    )
    .unwrap();
    let tollgate = files.start(
        &["--tokens-file", tokens.file()],
        &[("TOLLGATE_TLS_CLIENT_CERTIFICATES", "optional")],
    );
    let nobody = connect(tollgate.grpc_addr(), &authority, None).await.unwrap();
    assert_eq!(refused(&nobody, CHECK, None).await, Some(Code::Unauthenticated));
    assert_eq!(refused(&nobody, CHECK, Some(tokens.of("gateway"))).await, None);
    let operator =
        connect(tollgate.grpc_addr(), &authority, Some(&authority.issue("ops.example.org", None)))
            .await
            .unwrap();
    assert_eq!(refused(&operator, CREATE, None).await, None);
    // The pages do not speak TLS unless they are told to.
    assert_eq!(get("/healthcheck").status(tollgate.http_addr()), 200);
}

#[tokio::test]
async fn new_certificates_are_for_new_connections_and_open_ones_go_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new(&old.issue("localhost", None), None);
    let tollgate = files.start(&[], &[("TOLLGATE_TLS_HTTP", "true")]);
    let (grpc, http) = (tollgate.grpc_addr(), tollgate.http_addr());
    let open = connect(grpc, &old, None).await.unwrap();
    assert_eq!(refused(&open, CHECK, None).await, None);
    assert!(connect(grpc, &new, None).await.is_err());
    let failed = || async {
        let metrics = page(&get("/metrics"), http, &old, None).await.unwrap().text();
        metrics.contains("tollgate_tls_loads{result=\"failed\"} 1\n")
    };

    fs::write(files.path("cert"), "no certificate").unwrap();
    until("the refusal of the new certificate", failed).await;
    assert!(connect(grpc, &old, None).await.is_ok(), "the old certificate stays");
    logged(&tollgate, "the certificates were not loaded, the old ones stay in force: tls.cert holds no certificate in PEM").await;

    files.serve(&new.issue("localhost", None));
    until("the new certificate", || async { connect(grpc, &new, None).await.is_ok() }).await;
    assert!(connect(grpc, &old, None).await.is_err(), "the old certificate is not shown any more");
    assert_eq!(page(&get("/healthcheck"), http, &new, None).await.unwrap().status, 200);
    assert!(page(&get("/healthcheck"), http, &old, None).await.is_err());
    super::call(&open, "/grpc.health.v1.Health/Check", None).await.unwrap();
}
