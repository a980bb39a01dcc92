//! How gRPC is served: threads, and the bounds of connections.

use std::time::Duration;

use super::layers::Reader;

/// Threads and connections of the gRPC port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcServer {
    /// 0: as many as there are cores.
    pub workers: usize,
    /// Beyond it, a new connection is closed at once.
    pub max_connections: usize,
    /// Calls in flight on one connection.
    pub max_streams: u32,
    /// What all calls together may hold.
    pub max_pending_bytes: u64,
    /// Frames a second that belong to no call, beside those that calls allow. 0: any number.
    pub max_control_frames: u64,
    /// The longest that a decision may have to wait for its core; it is shed where it would be
    /// longer.
    pub max_lag: Option<Duration>,
    /// All header fields of one call together, as HTTP/2 counts them.
    pub max_header_bytes: u32,
    /// How long a connection may be open.
    pub max_connection_age: Option<Duration>,
    /// How long the calls may take that are under way then.
    pub max_connection_age_grace: Duration,
    /// What a client may send ahead on one call.
    pub stream_window_bytes: u32,
    /// What a client may send ahead on one connection.
    pub connection_window_bytes: u32,
    /// What is buffered for a client that does not read, on one call.
    pub send_buffer_bytes: usize,
    /// From the connection to the end of the TLS handshake and the HTTP/2 preface.
    pub handshake_timeout: Duration,
    /// How long a peer may be silent before TCP asks whether it is there.
    pub keepalive: Option<Duration>,
    /// How long it then has to answer, and to a ping.
    pub keepalive_timeout: Duration,
    /// How long a peer may be silent before HTTP/2 asks.
    pub ping: Option<Duration>,
}

impl GrpcServer {
    /// How many threads it is served by.
    pub fn threads(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut unless_0 = |key| {
            Some(reader.number(key, 0..=86_400_000)).filter(|&ms| ms > 0).map(Duration::from_millis)
        };
        let (keepalive, ping) = (unless_0("grpc.keepalive_ms"), unless_0("grpc.ping_ms"));
        let max_connection_age = unless_0("grpc.max_connection_age_ms");
        let max_lag = unless_0("grpc.max_lag_ms");
        Self {
            workers: reader.number("grpc.workers", 0..=1024),
            max_connections: reader.number("grpc.max_connections", 1..=1_000_000),
            max_streams: reader.number("grpc.max_streams", 1..=1_000_000),
            max_pending_bytes: reader.number("grpc.max_pending_bytes", 1 << 20..=1 << 40),
            max_control_frames: reader.number("grpc.max_control_frames", 0..=1_000_000_000),
            max_lag,
            max_header_bytes: reader.number("grpc.max_header_bytes", 1024..=1 << 20),
            max_connection_age,
            max_connection_age_grace: Duration::from_millis(
                reader.number("grpc.max_connection_age_grace_ms", 0..=86_400_000),
            ),
            stream_window_bytes: reader.number("grpc.stream_window_bytes", 65_535..=(1 << 31) - 1),
            connection_window_bytes: reader
                .number("grpc.connection_window_bytes", 65_535..=(1 << 31) - 1),
            send_buffer_bytes: reader.number("grpc.send_buffer_bytes", 1024..=1 << 30),
            handshake_timeout: Duration::from_millis(
                reader.number("grpc.handshake_timeout_ms", 1..=3_600_000),
            ),
            keepalive,
            ping,
            keepalive_timeout: Duration::from_millis(
                reader.number("grpc.keepalive_timeout_ms", 1..=3_600_000),
            ),
        }
    }
}
