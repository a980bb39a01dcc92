//! The way to the management server with certificates on both sides.

use std::fs;
use std::path::PathBuf;

use base64::Engine;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::management::{End, Management};
use super::{limit_of, rules};
use crate::patience::until;
use crate::server::Tollgate;

/// A key for this test alone, in PKCS#1: so Envoy Gateway writes its own.
const RSA_KEY: &str = "\
-----BEGIN RSA PRIVATE KEY-----
MIIEpAIBAAKCAQEAo9qg7RYLB09aMJt2+AORom1BsjdCNqC/uFUN4lX3TmSq6yiZ
GqZK3Lx7uVkd1rOMKk3IL16kxtJbHwsdAj2EiJZ3g8qwrVOJ/Wa1eAWIBZ8ZeBiD
vFMj7lv22DkcaX1iZykrs5JfijNmZ98CJmqOKySiiWmu/7bzZnid02yi8pOkDVrk
+VnK5iEh8KIW/j5HANPucTNLoH06daDxZML3GrxgEHHumbb3Ek6Ct+8sGyLZ6nhk
40Uf5P5e8SkWVq6MvGHWZQfiX+OIERdgDPpEWiucv/nRc61nJdF6MFJhYfL+kn61
XgURGMEmI6LXt310y0RiNP1CPIJ1+FnD3PhH9QIDAQABAoIBACcTQ19m61hh7yM6
YAPDbh6rKYijrvGyIiaGehoo4CJc1XnhI6n8UEwV0vefrgL+rIWGKSBK1MbpcXuU
veVD4HBmWbgfRUUAcB7zOIGX6BlXGM7QIdJujVoRqmtkK0do9GefpOFdHdWqbliF
EVEyBhd51B0rC+XFroQYbaL2/GEWvJkM/gSslt15oVSrUWofSIcycfuU69Y0/iuv
/oSfBYmkpjZiue0IaGgIYJ7pH17l+2wUK3OIZDnoWcctGfQzSfD6DcMJ2M71R5xR
E+5+mlxBdrG1ms3fpsYmaKZonnvi2upfFA0ixHU5qNCbgt43OON5m8bd+GDPogZJ
9Uk4c10CgYEA2uJCIoO43u4KFCmKfZuBojJ9CCbhwONHvoYCVigovVfHZ6VR+1be
wwN5YSxrzR9Zf+h7jJhC0gj+dSbBVmPd7RFgOkmfVsrHfZZWvpgVd/Pm7Havagh5
9GY3MdmIsE5/dmKGV5M7n2qNRkfuSkWv69WO84riyVuEFxgnE0B8W2MCgYEAv6OH
G/bWxQy0QQZ0fNhIiHYJTjQPWCPINU+//C3A5VAQ3hh0+QOttPnnFsdaUZFxa2bx
b5TvAz6UjHuOCy0Ou83c0zUMl22h/FV+VmlN8VrJ+NAwmO1UwRBFLSbKZdXTLUrI
tel4H/6XwgKFJD3UCTwqoCw+v9stujHJPmAlKscCgYEAtW8fSuTM9V1zVUsp1Px1
9DDNm1g/gVfkPHVwsmIPgwOj8rICxsg3VocmsfnUUe9OjMv0vZHosZlq80jwsd+O
MdhZX3dvcM4dlmhr9wixowC1xgSLWuUz0fZ4ggXDXAF1fngky6rrnTUBbeRqDX6+
WEppeE8Dtcz6LPqESV0Gt+kCgYBEn55GGUIXFdGGZ3VXL2vp0brLUkEcYtPSo1gw
SYIFm4Iuxbs9YF/XqpVhxslE5DwlJZvXRRHBq6suEyBuSBg6kCE/UIPNxeh3n3W6
I8NRZh1lB8gfOv1alSTwYi+f/827LkhpO81UR6q4QobCz5EaLX1mFfHyad4aCrHx
sCQfCQKBgQDCvdHvr/P9+6hfKzBjC1U3T+AKDqr3yp9VKzt7BZtLM4KmpSKLUUhA
oDCkKhGn5aS+L8scqyEIE/djkIJFYHywiTveoI8sw6pGsWujH06uL6ZeYwNVTG6A
84yOTeXEdDtTuFgr+MbKF28LWn8YpN8Z8zJC5XKiKsKAmojDLBFtWA==
-----END RSA PRIVATE KEY-----
";

/// A key of RSA in PKCS#8, out of PKCS#1: the algorithm before it.
fn pkcs8(pkcs1: &[u8]) -> Vec<u8> {
    let long = |tag: u8, of: &[u8]| {
        let length = u16::try_from(of.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, length[0], length[1]], of].concat()
    };
    let version = [2, 1, 0];
    let rsa_encryption = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    long(0x30, &[&version[..], &rsa_encryption, &long(4, pkcs1)].concat())
}

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

    /// The same with [`RSA_KEY`], and the key as it stands there.
    fn signs_rsa(&self, names: &[&str]) -> (String, String) {
        let body: String = RSA_KEY.lines().filter(|line| !line.starts_with('-')).collect();
        let pkcs1 = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
        let key = KeyPair::try_from(pkcs8(&pkcs1)).unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "*");
        (params.signed_by(&key, &self.issuer).unwrap().pem(), RSA_KEY.to_owned())
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

    let (cert, key) = ours.signs_rsa(&["*.envoy-gateway-system"]);
    fs::write(files.path("tls.crt"), cert).unwrap();
    fs::write(files.path("tls.key"), key).unwrap();
    server.set("2", vec![rules("a", 2)]);
    let tollgate = start(&server, &files, true, &[san]);
    until("rules by a key in PKCS#1", || (limit_of(&tollgate, "a", "x") == 2).then_some(()));
}
