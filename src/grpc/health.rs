//! `grpc.health.v1.Health`: whether the services are served, for those who ask and those who watch.
//! It needs no token, so it does little.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::http;
use hyper::body::Body as HttpBody;
use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::codec::FittedCodec;
use super::fast::protobuf::Malformed;
use super::fast::unary::{self, Framed, Reply};
use super::inbound::{Inbound, Stopping};
use super::overload::ConnectionState;

/// The longest question: no service's name comes near it.
pub(super) const MAX_MESSAGE_BYTES: usize = 1024;

/// Says whether the services are served, to all who ask.
#[derive(Clone, Debug)]
pub struct HealthReporter {
    names: Arc<[&'static str]>,
    serving: watch::Sender<bool>,
}

/// The service.
#[derive(Clone, Debug)]
pub struct HealthGrpc {
    names: Arc<[&'static str]>,
    serving: watch::Receiver<bool>,
}

/// The health of the services with these names, not served yet, and who says when they are.
pub fn health(names: impl IntoIterator<Item = &'static str>) -> (HealthReporter, HealthGrpc) {
    let names: Arc<[&'static str]> = names.into_iter().collect();
    let (reports, serving) = watch::channel(false);
    (HealthReporter { names: names.clone(), serving: reports }, HealthGrpc { names, serving })
}

impl HealthReporter {
    /// Tells everyone who asks or watches.
    pub fn set(&self, serving: bool) {
        tracing::debug!(serving, services = self.names.len(), "health");
        self.serving.send_replace(serving);
    }
}

fn answer(serving: bool) -> HealthCheckResponse {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}

impl HealthGrpc {
    fn is_known(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    fn check(&self, message: &[u8]) -> Result<HealthCheckResponse, Status> {
        let HealthCheckRequest { service } =
            HealthCheckRequest::decode(message).map_err(|_| Malformed::Message)?;
        if !self.is_known(&service) {
            return Err(unknown(&service));
        }
        Ok(answer(*self.serving.borrow()))
    }
}

fn unknown(service: &str) -> Status {
    Status::not_found(format!(
        "`{service}` is no service of this server; ask for `` or a name that reflection lists"
    ))
}

impl NamedService for HealthGrpc {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl<B> Service<http::Request<Inbound<B>>> for HealthGrpc
where
    B: HttpBody<Error: Into<StdError>> + Unpin + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Inbound<B>>) -> Self::Future {
        let health = self.clone();
        match request.uri().path() {
            "/grpc.health.v1.Health/Check" => unary::answer(request, move |message: Bytes, _| {
                Ok(Reply::Now(health.check(&message).map(|answer| Framed::of(&answer))))
            }),
            "/grpc.health.v1.Health/Watch" => {
                let connection =
                    request.extensions().get::<Arc<ConnectionState>>().cloned().unwrap_or_default();
                let watch = Watch { health, connection };
                Box::pin(async move {
                    Ok(Grpc::new(FittedCodec::default()).server_streaming(watch, request).await)
                })
            }
            _ => Box::pin(std::future::ready(Ok(
                Status::unimplemented("no such method").into_http()
            ))),
        }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

/// Tells each change, and ends when the server stops, after it has said so.
struct Watch {
    health: HealthGrpc,
    connection: Arc<ConnectionState>,
}

impl ServerStreamingService<HealthCheckRequest> for Watch {
    type Response = HealthCheckResponse;
    type ResponseStream = Answers;
    type Future = BoxFuture<Response<Answers>, Status>;

    fn call(&mut self, request: Request<HealthCheckRequest>) -> Self::Future {
        let service = request.into_inner().service;
        // The protocol: a name that is not known may become known, and is watched all the same.
        let known = self.health.is_known(&service);
        let word = move |serving| {
            if known {
                answer(serving)
            } else {
                HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() }
            }
        };
        let mut changes = WatchStream::new(self.health.serving.clone());
        let stopping = self.connection.stopping().cloned();
        let mut stop = Box::pin(async move {
            match stopping {
                // An error means that the sender is gone, and with it the process that wants to
                // serve.
                Some(mut stopping) => drop(stopping.wait_for(|stop| *stop).await),
                None => std::future::pending().await,
            }
        });
        let (mut told, mut is_stopping, mut ended) = (None, false, false);
        let answers = futures_util::stream::poll_fn(move |context| {
            is_stopping = is_stopping || stop.as_mut().poll(context).is_ready();
            let serving = match is_stopping {
                true if ended => return Poll::Ready(None),
                true if told == Some(false) => {
                    ended = true;
                    return Poll::Ready(Some(Err(Stopping.into())));
                }
                true => Some(false),
                false => ready!(Pin::new(&mut changes).poll_next(context)),
            };
            told = serving;
            Poll::Ready(serving.map(|serving| Ok(word(serving))))
        });
        Box::pin(std::future::ready(Ok(Response::new(Box::pin(answers) as Answers))))
    }
}
