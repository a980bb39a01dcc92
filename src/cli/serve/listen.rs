//! Binding ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::Reach;
use crate::grpc::server::UnixSocket;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Ports that are taken, and on which nobody listens yet: until the service is ready, connections
/// are refused and do not wait.
pub(super) struct Ports {
    grpc: Port,
    grpc_unix: Option<UnixSocket>,
    admin_grpc: Option<Port>,
    http: Port,
    metrics: Option<Port>,
    debug: Option<Port>,
}

/// The ports on which somebody listens.
pub(super) struct Listeners {
    pub(super) grpc: TcpListener,
    pub(super) grpc_unix: Option<UnixSocket>,
    pub(super) admin_grpc: Option<TcpListener>,
    pub(super) http: TcpListener,
    pub(super) metrics: Option<TcpListener>,
    pub(super) debug: Option<TcpListener>,
}

impl Ports {
    /// Takes all, or says which could not be taken. It comes before anything is read, created or
    /// leased: a start that fails must cost nothing.
    pub(super) fn bind(reach: &Reach) -> Result<Self, String> {
        Ok(Self {
            grpc: Port::bind(reach.grpc_addr, "--grpc-addr")?,
            grpc_unix: reach.grpc_uds.as_deref().map(unix).transpose()?,
            admin_grpc: reach
                .admin_grpc_addr
                .map(|address| Port::bind(address, "--admin-grpc-addr"))
                .transpose()?,
            http: Port::bind(reach.http_addr, "--http-addr")?,
            metrics: reach
                .metrics_addr
                .map(|address| Port::bind(address, "metrics_addr"))
                .transpose()?,
            debug: reach.debug_addr.map(|address| Port::bind(address, "debug_addr")).transpose()?,
        })
    }

    /// Connections of `http_addr` until the service is ready, where somebody has to be told that it
    /// is not.
    pub(super) fn http_meanwhile(&self) -> Result<TcpListener, String> {
        let Port { socket, address, says } = &self.http;
        let listen = || {
            let socket = SockRef::from(socket);
            socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
            let same = socket.try_clone()?;
            same.set_nonblocking(true)?;
            TcpListener::from_std(same.into())
        };
        listen().map_err(|error| unbound(*address, says, &error))
    }

    /// From here on connections come.
    pub(super) fn listen(self) -> Result<Listeners, String> {
        Ok(Listeners {
            grpc: self.grpc.listen()?,
            grpc_unix: self.grpc_unix,
            admin_grpc: self.admin_grpc.map(Port::listen).transpose()?,
            http: self.http.listen()?,
            metrics: self.metrics.map(Port::listen).transpose()?,
            debug: self.debug.map(Port::listen).transpose()?,
        })
    }
}

struct Port {
    socket: TcpSocket,
    address: SocketAddr,
    /// The flag that says where, or the setting where there is no flag.
    says: &'static str,
}

impl Port {
    fn bind(address: SocketAddr, says: &'static str) -> Result<Self, String> {
        let bound = bind(address).or_else(|error| match address.ip() {
            // A machine without IPv6: every address is every one of IPv4.
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) if lacks_ipv6(&error) => {
                bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
            }
            _ => Err(error),
        });
        bound
            .map(|socket| Self { socket, address, says })
            .map_err(|error| unbound(address, says, &error))
    }

    fn listen(self) -> Result<TcpListener, String> {
        self.socket.listen(BACKLOG).map_err(|error| unbound(self.address, self.says, &error))
    }
}

fn unix(path: &Path) -> Result<UnixSocket, String> {
    UnixSocket::bind(path)
        .map_err(|error| format!("grpc_uds {} cannot be bound: {error}", path.display()))
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of the process before may still linger.
    socket.set_reuseaddr(true)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // `[::]` is every address of the machine, those of IPv4 too, whatever the system's default
        // is.
        SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.bind(address)?;
    Ok(socket)
}

fn lacks_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Address family not supported, on Linux.
const EAFNOSUPPORT: i32 = 97;

fn unbound(address: SocketAddr, says: &str, error: &io::Error) -> String {
    let setting = says.trim_start_matches("--").replace('-', "_");
    let what_to_do = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program listens there: end it, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need a privilege (CAP_NET_BIND_SERVICE)"
        }
        _ => "",
    };
    format!(
        "{says} {address} cannot be bound (setting {setting}, TOLLGATE_{}): {error}{what_to_do}",
        setting.to_uppercase()
    )
}
