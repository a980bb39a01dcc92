//! Binding ports.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use crate::config::Reach;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Ports that are taken, and on which nobody listens yet: until the service is ready, connections are refused and do not wait.
pub(super) struct Ports {
    grpc: Port,
    admin_grpc: Option<Port>,
    http: Port,
    metrics: Option<Port>,
}

/// The ports on which somebody listens.
pub(super) struct Listeners {
    pub(super) grpc: TcpListener,
    pub(super) admin_grpc: Option<TcpListener>,
    pub(super) http: TcpListener,
    pub(super) metrics: Option<TcpListener>,
}

impl Ports {
    /// Takes all, or says which could not be taken. It comes before anything is read, created or leased: a start that fails must cost nothing.
    pub(super) fn bind(reach: &Reach) -> Result<Self, String> {
        Ok(Self {
            grpc: Port::bind(reach.grpc_addr, "--grpc-addr")?,
            admin_grpc: reach.admin_grpc_addr.map(|address| Port::bind(address, "--admin-grpc-addr")).transpose()?,
            http: Port::bind(reach.http_addr, "--http-addr")?,
            metrics: reach.metrics_addr.map(|address| Port::bind(address, "metrics_addr")).transpose()?,
        })
    }

    /// From here on connections come.
    pub(super) fn listen(self) -> Result<Listeners, String> {
        Ok(Listeners {
            grpc: self.grpc.listen()?,
            admin_grpc: self.admin_grpc.map(Port::listen).transpose()?,
            http: self.http.listen()?,
            metrics: self.metrics.map(Port::listen).transpose()?,
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
        let bound = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // Connections of the process before may still linger.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        };
        bound().map(|socket| Self { socket, address, says }).map_err(|error| unbound(address, says, &error))
    }

    fn listen(self) -> Result<TcpListener, String> {
        self.socket.listen(BACKLOG).map_err(|error| unbound(self.address, self.says, &error))
    }
}

fn unbound(address: SocketAddr, says: &str, error: &io::Error) -> String {
    let setting = says.trim_start_matches("--").replace('-', "_");
    let what_to_do = match error.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there: end it, or choose another port",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege (CAP_NET_BIND_SERVICE)",
        _ => "",
    };
    format!("{says} {address} cannot be bound (setting {setting}, TOLLGATE_{}): {error}{what_to_do}", setting.to_uppercase())
}
