//! An HTTP/1.1 client that sends what it is told to, byte for byte, and a gRPC one that shows what
//! a library would hide.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::patience::PATIENCE;

/// A request, not sent yet.
#[derive(Clone, Debug)]
pub struct Request {
    bytes: Vec<u8>,
    body: Vec<u8>,
}

/// A request that was sent and whose answer nobody has read. Dropping it hangs up.
#[derive(Debug)]
pub struct Pending {
    stream: TcpStream,
}

/// An answer. Header names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// How a gRPC call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcEnd {
    pub http_status: u16,
    /// From the trailers, or from the headers of a response that has no more. `None`: the answer
    /// was not gRPC.
    pub grpc_status: Option<u32>,
}

/// `GET path`. The path may hold any bytes but spaces and line ends.
pub fn get(path: impl AsRef<[u8]>) -> Request {
    let bytes =
        [b"GET ", path.as_ref(), b" HTTP/1.1\r\nhost: test\r\nconnection: close\r\n"].concat();
    Request { bytes, body: Vec::new() }
}

/// `POST path` with this body.
pub fn post(path: &str, body: impl AsRef<[u8]>) -> Request {
    let body = body.as_ref().to_vec();
    let bytes = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    )
    .into_bytes();
    Request { bytes, body }
}

impl Request {
    /// Adds a header. The value may hold any bytes but line ends.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for part in [name.as_bytes(), b": ", value.as_ref(), b"\r\n"] {
            self.bytes.extend_from_slice(part);
        }
        self
    }

    /// All its bytes.
    pub fn whole(&self) -> Vec<u8> {
        [&self.bytes[..], b"\r\n", &self.body].concat()
    }

    /// Sends the request without waiting for the answer.
    pub fn open(&self, to: SocketAddr) -> io::Result<Pending> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&self.whole())?;
        Ok(Pending { stream })
    }

    /// Sends the request and reads the answer.
    pub fn send(&self, to: SocketAddr) -> io::Result<Response> {
        self.open(to)?.answer()
    }

    /// Sends the request and shows only the status.
    pub fn status(&self, to: SocketAddr) -> u16 {
        self.send(to).unwrap().status
    }
}

impl Pending {
    /// Reads the answer to its end: Envoy answers at once and closes the connection a second later.
    pub fn answer(mut self) -> io::Result<Response> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(response) = parse(&bytes) {
                return Ok(response);
            }
            match self.stream.read(&mut buffer)? {
                0 => {
                    return Err(io::Error::other(format!(
                        "the answer is cut off: {:?}",
                        String::from_utf8_lossy(&bytes)
                    )));
                }
                read => bytes.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// Goes away without the answer.
    pub fn hang_up(self) {
        // Already closed by the other side is as good.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Response {
    /// Reads an answer that came by another way than [`Request::send`].
    pub fn read(bytes: &[u8]) -> Option<Self> {
        parse(bytes)
    }

    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The number in a header, which must be there.
    pub fn number(&self, header: &str) -> u64 {
        let text = self.header(header).unwrap_or_else(|| panic!("no {header} in {self:?}"));
        text.parse().unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `None` while the answer is not whole.
fn parse(bytes: &[u8]) -> Option<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status, headers, body: Vec::new() };
    let rest = &bytes[end + 4..];
    response.body = if response.header("transfer-encoding") == Some("chunked") {
        dechunk(rest)?
    } else {
        let length = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        rest.get(..length)?.to_vec()
    };
    Some(response)
}

fn dechunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(line + 2..line + 2 + size)?);
        bytes = bytes.get(line + 4 + size..)?;
    }
}

/// Makes a unary gRPC call with an empty message over HTTP/2 without TLS.
pub fn grpc_call(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> GrpcEnd {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(to).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let mut request = hyper::Request::post(format!("http://{to}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from_static(&[0; 5]))).unwrap();
        let (head, body) = tokio::time::timeout(PATIENCE, sender.send_request(request))
            .await
            .unwrap()
            .unwrap()
            .into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap();
        let status = body
            .trailers()
            .and_then(|trailers| trailers.get("grpc-status"))
            .or_else(|| head.headers.get("grpc-status"));
        GrpcEnd {
            http_status: head.status.as_u16(),
            grpc_status: status.map(|status| status.to_str().unwrap().parse().unwrap()),
        }
    })
}

#[test]
fn answers_are_read_with_and_without_chunks() {
    let plain: &[u8] =
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\nslow down";
    let chunked: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n";
    let read = parse(plain).unwrap();
    assert_eq!(
        (read.status, read.header("retry-after"), read.text().as_str()),
        (429, Some("7"), "slow down")
    );
    assert_eq!(parse(chunked).unwrap().text(), "abc0123456789abcdef");
    for whole in [plain, chunked] {
        assert_eq!(
            parse(&whole[..whole.len() - 5]),
            None,
            "an answer that is not whole is no answer"
        );
    }
}
