//! An upstream that ends a request as its path says, and counts what reached it.
//!
//! The last segments of the path say what happens, so that a route prefix may stand before them:
//! `…/status/503` answers that status, `…/reset` closes the connection without an answer, `…/hang`
//! never answers, `…/grpc/unavailable` answers a gRPC call with that status in its trailers,
//! `…/tokens/250` answers as a language model does that has used so many.
//! Everything else is 200. HTTP/1.1 and HTTP/2 without TLS are served on the one port.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::runtime::Runtime;

use crate::patience::PATIENCE;

/// What the last segment of `…/grpc/NAME` may be.
const GRPC_STATUSES: &[(&str, u32)] =
    &[("ok", 0), ("not-found", 5), ("internal", 13), ("unavailable", 14)];

/// A running upstream. It ends when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    hits: Arc<Hits>,
    runtime: Option<Runtime>,
}

#[derive(Debug, Default)]
struct Hits {
    by_path: Mutex<HashMap<String, u64>>,
    changed: Condvar,
}

enum Ending {
    Status(u16),
    Grpc(u32),
    Tokens(u64),
    Reset,
    Hang,
}

impl Upstream {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let hits = Arc::new(Hits::default());
        let counted = Arc::clone(&hits);
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let hits = Arc::clone(&counted);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, Arc::clone(&hits)));
                    // A connection that ends early is what some paths are for.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { addr, hits, runtime: Some(runtime) }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many requests for exactly this path, query included, have come.
    pub fn hits(&self, path: &str) -> u64 {
        self.hits.by_path.lock().unwrap().get(path).copied().unwrap_or(0)
    }

    /// Waits until `count` requests for this path have come.
    pub fn wait_for_hits(&self, path: &str, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        let mut by_path = self.hits.by_path.lock().unwrap();
        while by_path.get(path).copied().unwrap_or(0) < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{path} was not asked for {count} times in {PATIENCE:?}");
            by_path = self.hits.changed.wait_timeout(by_path, left).unwrap().0;
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // Requests that hang would keep it for ever.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Hits {
    fn count(&self, path: &str) {
        *self.by_path.lock().unwrap().entry(path.to_owned()).or_default() += 1;
        self.changed.notify_all();
    }
}

async fn answer(
    request: Request<Incoming>,
    hits: Arc<Hits>,
) -> io::Result<Response<UnsyncBoxBody<Bytes, Infallible>>> {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    hits.count(path);
    match ending(request.uri().path()) {
        Ending::Status(status) => {
            let body = if status == 204 || status == 304 {
                Bytes::new()
            } else {
                Bytes::from_static(b"upstream\n")
            };
            Ok(Response::builder().status(status).body(Full::new(body).boxed_unsync()).unwrap())
        }
        Ending::Grpc(status) => {
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.into())]);
            let message = Full::new(Bytes::from_static(&[0; 5]));
            let body = message.with_trailers(async move { Some(Ok(trailers)) }).boxed_unsync();
            Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
        }
        Ending::Tokens(total) => {
            // Longer than what is kept of it, and in parts as it comes.
            let text = "word ".repeat(2_000);
            let body =
                format!(r#"{{"choices": ["{text}"], "usage": {{"total_tokens": {total}}}}}"#);
            Ok(Response::new(Full::new(Bytes::from(body)).boxed_unsync()))
        }
        Ending::Reset => Err(io::Error::other("the path asked for it")),
        Ending::Hang => std::future::pending().await,
    }
}

fn ending(path: &str) -> Ending {
    let mut segments = path.rsplit('/');
    let last = segments.next().unwrap_or_default();
    match (segments.next().unwrap_or_default(), last) {
        ("status", code) => Ending::Status(code.parse().unwrap_or(200)),
        ("grpc", name) => Ending::Grpc(
            GRPC_STATUSES.iter().find(|(have, _)| *have == name).map_or(2, |(_, status)| *status),
        ),
        ("tokens", total) => Ending::Tokens(total.parse().unwrap_or(0)),
        (_, "reset") => Ending::Reset,
        (_, "hang") => Ending::Hang,
        _ => Ending::Status(200),
    }
}

#[test]
fn a_path_says_how_the_request_ends_and_is_counted() {
    let upstream = Upstream::start();
    let addr = upstream.addr();
    for (path, status) in [
        ("/", 200),
        ("/status/503", 503),
        ("/orders/status/404", 404),
        ("/a/b?c=/status/503", 200),
        ("/status/204", 204),
    ] {
        assert_eq!(crate::http::get(path).status(addr), status, "{path}");
        assert_eq!(upstream.hits(path), 1, "{path}");
    }
    assert!(crate::http::get("/reset").send(addr).is_err());
    assert_eq!(upstream.hits("/reset"), 1);

    let hanging = crate::http::get("/hang").open(addr).unwrap();
    upstream.wait_for_hits("/hang", 1);
    hanging.hang_up();
    assert_eq!(upstream.hits("/never"), 0);
}

#[test]
fn a_grpc_call_ends_with_the_status_of_its_path() {
    let upstream = Upstream::start();
    for (name, status) in GRPC_STATUSES {
        let end = crate::http::grpc_call(upstream.addr(), &format!("/grpc/{name}"), &[]);
        assert_eq!((end.http_status, end.grpc_status), (200, Some(*status)), "{name}");
    }
    assert_eq!(
        crate::http::grpc_call(upstream.addr(), "/status/200", &[]).grpc_status,
        None,
        "a path that does not speak gRPC"
    );
}
