//! gRPC over a Unix socket.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;

use crate::server::Tollgate;

/// Under the name of the reference, whose users put it there for Envoy's `pipe` addresses.
#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_at_the_unix_socket_and_its_file_goes_at_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rl.sock");
    let mut tollgate = Tollgate::start(&[], &[("GRPC_UDS", path.to_str().unwrap())]);

    let stream = UnixStream::connect(&path).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let driven = tokio::spawn(connection);
    let call = Request::post("http://localhost/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc");
    let call = call.header("te", "trailers").body(Full::new(Bytes::from_static(&[0; 5]))).unwrap();
    let answer = sender.send_request(call).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let answer = answer.into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
    // SERVING
    assert_eq!(answer.to_bytes().as_ref(), [0, 0, 0, 0, 2, 8, 1]);
    drop(sender);
    driven.await.unwrap().unwrap();

    assert!(tollgate.terminate().success());
    assert!(!path.exists());
}
