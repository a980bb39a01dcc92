//! The gRPC service.

use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http;
use hyper::body::Body as HttpBody;
use prost::bytes::Bytes;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::{DecisionMessages, batch};
use crate::grpc::codec::Raw;
use crate::grpc::deadline::Deadline;
use crate::grpc::fast::unary::{self, Reply};
use crate::grpc::inbound::Inbound;
use crate::grpc::overload::ConnectionState;
use crate::grpc::pb::tollgate::decision_service_server::SERVICE_NAME;
use crate::service::decisions::Decisions;

/// `tollgate.v1.DecisionService`, for one thread: its clones count their uses together.
#[derive(Clone, Debug)]
pub struct DecisionGrpc {
    decisions: Arc<DecisionMessages>,
}

impl DecisionGrpc {
    pub fn new(decisions: Arc<Decisions>) -> Self {
        Self { decisions: Arc::new(DecisionMessages(decisions)) }
    }
}

impl NamedService for DecisionGrpc {
    const NAME: &'static str = SERVICE_NAME;
}

impl<B> Service<http::Request<Inbound<B>>> for DecisionGrpc
where
    B: HttpBody<Error: Into<StdError> + Send> + Unpin + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Inbound<B>>) -> Self::Future {
        let decisions = self.decisions.clone();
        match request.uri().path() {
            "/tollgate.v1.DecisionService/Check" => unary::answer(request, move |message, call| {
                Ok(
                    match Deadline::of(call.headers, decisions.0.clock())
                        .time_left(decisions.0.clock())
                    {
                        Ok(time_left) => decisions.check(message, time_left),
                        Err(expired) => Reply::Now(Err(expired.into())),
                    },
                )
            }),
            "/tollgate.v1.DecisionService/Report" => unary::answer(request, move |message, _| {
                Ok(Reply::Later(Box::pin(async move { decisions.report(message).await })))
            }),
            "/tollgate.v1.DecisionService/CheckStream" => {
                // Of the stream as a whole.
                let deadline = Deadline::of(request.headers(), decisions.0.clock());
                stream(request, move |message| {
                    let decisions = decisions.clone();
                    async move { batch::answer(&decisions.0, &message, deadline).await }
                })
            }
            "/tollgate.v1.DecisionService/ReportStream" => stream(request, move |message| {
                let decisions = decisions.clone();
                async move { decisions.answer_report(message).await }
            }),
            _ => Box::pin(ready(Ok(Status::unimplemented("no such method").into_http()))),
        }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;
type Opened = BoxFuture<Response<Answers>, Status>;

/// Answers each message of a stream by itself.
fn stream<B, A, F>(
    request: http::Request<B>,
    answer: A,
) -> BoxFuture<http::Response<Body>, Infallible>
where
    B: HttpBody<Error: Into<StdError> + Send> + Unpin + Send + 'static,
    A: Fn(Bytes) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Vec<u8>, Status>> + Send + 'static,
{
    // None where there is no connection.
    let connection =
        request.extensions().get::<Arc<ConnectionState>>().cloned().unwrap_or_default();
    Box::pin(
        // How long a message may be is looked at where it comes in.
        async move {
            Ok(Grpc::new(Raw)
                .apply_max_message_size_config(Some(usize::MAX), None)
                .streaming(Each { answer, connection }, request)
                .await)
        },
    )
}

struct Each<A> {
    answer: A,
    connection: Arc<ConnectionState>,
}

impl<A, F> StreamingService<Bytes> for Each<A>
where
    A: Fn(Bytes) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Vec<u8>, Status>> + Send + 'static,
{
    type Response = Vec<u8>;
    type ResponseStream = Answers;
    type Future = Opened;

    // A message is read when the answers before it have gone out: a client that does not read its
    // answers is not read either.
    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Opened {
        let (answer, connection) = (self.answer.clone(), self.connection.clone());
        let answers = request.into_inner().then(move |message| {
            let begun = message.map(|message| (connection.begin(), answer(message)));
            async move {
                let (_begun, answer) = begun?;
                answer.await
            }
        });
        Box::pin(ready(Ok(Response::new(Box::pin(answers) as Answers))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use tonic::Code;

    use super::*;
    use crate::clock::Clock;
    use crate::decide::time::Now;
    use crate::grpc::deadline::Arrived;
    use crate::metrics::Metrics;

    /// A call that came at the start of the steady clock, with 20 ms, when it is `steady_ns` on it:
    /// its status.
    async fn check_at(steady_ns: u64) -> Code {
        let clock = Clock::from_fn(move || Now { unix_ns: 1, steady_ns });
        let decisions = crate::testkit::started::empty(clock, &Metrics::new());
        let message = Full::new(Bytes::from_static(b"\0\0\0\0\x03\x12\x01t"));
        let mut request = http::Request::post("/tollgate.v1.DecisionService/Check")
            .body(Inbound::of(message))
            .unwrap();
        request.headers_mut().insert("grpc-timeout", "20m".parse().unwrap());
        let _arrived = Arrived::at(0);
        let response =
            DecisionGrpc::new(decisions).call(request).await.unwrap_or_else(|never| match never {});
        Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
    }

    #[tokio::test]
    async fn a_call_that_waited_past_its_deadline_is_not_decided() {
        assert_eq!(check_at(19_999_999).await, Code::Ok);
        assert_eq!(check_at(20_000_000).await, Code::DeadlineExceeded);
    }

    /// When a server stops it waits for what is in work on a connection.
    #[tokio::test]
    async fn a_message_of_a_stream_is_in_work_on_its_connection_until_it_is_answered() {
        let connection: Arc<ConnectionState> = Arc::default();
        let framed = b"\0\0\0\0\x01a\0\0\0\0\x01b".as_slice();
        let mut request = http::Request::new(Full::new(Bytes::from_static(framed)));
        request.extensions_mut().insert(connection.clone());
        let begun = connection.clone();
        let answer = move |message: Bytes| {
            let begun = begun.clone();
            async move {
                assert!(begun.is_answering());
                tokio::task::yield_now().await;
                assert!(begun.is_answering());
                Ok(message.to_vec())
            }
        };
        let answers = stream(request, answer)
            .await
            .unwrap_or_else(|never| match never {})
            .into_body()
            .collect()
            .await
            .unwrap();
        assert_eq!(answers.to_bytes(), framed);
        assert!(!connection.is_answering());
    }
}
