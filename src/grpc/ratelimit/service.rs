//! The gRPC service. What can be answered at once is answered without a future of its own: that is nearly every call.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use prost::Message;
use prost::bytes::Bytes;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};

use super::{First, RateLimiter};
use crate::grpc::codec::{FittedCodec, UndecodedCodec};
use crate::grpc::deadline::time_left;
use crate::grpc::overload::Overloaded;
use crate::grpc::pb::rls::rate_limit_service_server::SERVICE_NAME;
use crate::grpc::status::undecodable;
use crate::grpc::wire::{RateLimitDomain, RateLimitRequest, RateLimitResponse};

const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// `envoy.service.ratelimit.v3.RateLimitService`, for one thread: its clones count their uses together.
#[derive(Clone, Debug)]
pub struct RateLimitGrpc(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limiter: Arc<RateLimiter>,
    max_message_bytes: usize,
}

impl RateLimitGrpc {
    pub fn new(limiter: Arc<RateLimiter>, max_message_bytes: usize) -> Self {
        Self(Arc::new(Shared { limiter, max_message_bytes }))
    }
}

impl NamedService for RateLimitGrpc {
    const NAME: &'static str = SERVICE_NAME;
}

impl<B> Service<http::Request<B>> for RateLimitGrpc
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != SHOULD_RATE_LIMIT {
            return Box::pin(ready(Ok(Status::unimplemented("no such method").into_http())));
        }
        let method = ShouldRateLimit(self.0.clone());
        let max = method.0.max_message_bytes;
        if let Some(overloaded) = request.extensions().get::<Overloaded>().cloned() {
            return Box::pin(async move {
                let mut grpc = Grpc::new(UndecodedCodec::default()).apply_max_message_size_config(Some(max), None);
                Ok(grpc.unary(OnlyReports { method, overloaded }, request).await)
            });
        }
        Box::pin(async move {
            let mut grpc = Grpc::new(FittedCodec::default()).apply_max_message_size_config(Some(max), None);
            Ok(grpc.unary(method, request).await)
        })
    }
}

struct ShouldRateLimit(Arc<Shared>);

type Answer = Result<Response<RateLimitResponse>, Status>;

impl UnaryService<RateLimitRequest> for ShouldRateLimit {
    type Response = RateLimitResponse;
    type Future = Either<Ready<Answer>, BoxFuture<Response<RateLimitResponse>, Status>>;

    fn call(&mut self, request: Request<RateLimitRequest>) -> Self::Future {
        let limiter = &self.0.limiter;
        let permitted = limiter.permit(request.get_ref(), request.extensions().get());
        let open = match permitted.and_then(|()| limiter.first_try(request.get_ref())) {
            Ok(First::Answered(answer)) => return Either::Left(ready(Ok(Response::new(answer)))),
            Err(error) => return Either::Left(ready(Err(error.into()))),
            Ok(First::Later(open)) => open,
        };
        let shared = self.0.clone();
        let time_left = time_left(request.metadata());
        Either::Right(Box::pin(async move {
            let answer = shared.limiter.answer_later(request.get_ref(), open, time_left).await?;
            Ok(Response::new(answer))
        }))
    }
}

/// The same on a core that has too much to do: decisions are shed, before they are decoded, and reports are taken.
struct OnlyReports {
    method: ShouldRateLimit,
    overloaded: Overloaded,
}

impl UnaryService<Bytes> for OnlyReports {
    type Response = RateLimitResponse;
    type Future = <ShouldRateLimit as UnaryService<RateLimitRequest>>::Future;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (metadata, extensions, message) = request.into_parts();
        let refused = |status| Either::Left(ready(Err(status)));
        match RateLimitDomain::decode(message.clone()) {
            Ok(RateLimitDomain { domain }) if self.method.0.limiter.is_for_reports(&domain) => match RateLimitRequest::decode(message) {
                Ok(report) => self.method.call(Request::from_parts(metadata, extensions, report)),
                Err(error) => refused(undecodable(&error)),
            },
            Ok(_) => refused(self.overloaded.shed().into()),
            Err(error) => refused(undecodable(&error)),
        }
    }
}
