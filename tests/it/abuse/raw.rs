//! An HTTP/2 client that sends whatever it is told to, and reads only when it is told to.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use prost::Message;
use socket2::{Domain, Socket, Type};

use crate::patience::PATIENCE;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error that ends a stream or a connection.
    pub fn error(&self) -> u32 {
        let code = if self.kind == GOAWAY { &self.payload[4..8] } else { &self.payload[..4] };
        u32::from_be_bytes(code.try_into().unwrap())
    }
}

/// A connection with little room for what comes.
pub struct Raw(TcpStream);

impl Raw {
    pub fn connect(to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.connect(&to.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// Opens HTTP/2; answers may have so many bytes before they are asked for more.
    pub fn open(to: SocketAddr, window: u32) -> Self {
        let mut raw = Self::connect(to);
        let settings = [&[0, 4][..], &window.to_be_bytes()].concat();
        raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()).unwrap();
        raw
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Sends the same again and again, until the other side has taken nothing for a while, or so
    /// many bytes are sent. How many were.
    pub fn flood(&mut self, bytes: &[u8], most: u64) -> u64 {
        self.0.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        let mut sent = 0;
        while sent < most {
            match self.0.write(bytes) {
                Ok(count) => sent += count as u64,
                Err(_) => break,
            }
        }
        sent
    }

    /// Sends until the other side has taken nothing for a while, or all is sent. How many bytes
    /// were.
    pub fn send_some(&mut self, bytes: &[u8]) -> u64 {
        self.0.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        let mut sent = 0;
        while sent < bytes.len() {
            match self.0.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        sent as u64
    }

    /// The same connection, for somebody who reads while another sends.
    pub fn reader(&self) -> Self {
        Self(self.0.try_clone().unwrap())
    }

    /// All frames that come.
    pub fn frames(&mut self) -> impl Iterator<Item = Frame> {
        std::iter::from_fn(|| self.frame())
    }

    /// The next frame. `None`: the other side has closed.
    pub fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads until there is such a frame.
    pub fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.frame().expect("the connection has ended");
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// Waits until the other side has closed, whatever it says before.
    pub fn wait_for_end(mut self) {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the connection does not end: {error}"),
            }
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header fields of a call, none of them compressed.
pub fn fields(path: &str) -> Vec<u8> {
    fields_of("POST", path, Some("application/grpc"))
}

/// Those of a request that may be no call.
pub fn fields_of(method: &str, path: &str, content_type: Option<&str>) -> Vec<u8> {
    let all = [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "test"),
        ("te", "trailers"),
    ];
    let content_type = content_type.map(|content_type| ("content-type", content_type));
    all.into_iter().chain(content_type).flat_map(|(name, value)| field(name, value)).collect()
}

pub fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &text(name), &text(value)].concat()
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    match text.len() {
        length @ 0..=126 => bytes.push(length as u8),
        length => {
            bytes.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                bytes.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A message as gRPC frames it.
pub fn message(message: &impl Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    [&[0][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), &bytes].concat()
}

/// A whole call.
pub fn call(stream: u32, path: &str, message: &[u8]) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, &fields(path)), frame(DATA, END_STREAM, stream, message)]
        .concat()
}

/// The numbers of a client's streams.
pub fn streams() -> impl Iterator<Item = u32> {
    (1..).step_by(2)
}
