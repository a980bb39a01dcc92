//! The gRPC service. What can be answered at once is answered without a future of its own: that is
//! nearly every call.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response};
use hyper::body::Body as HttpBody;
use prost::Message;
use prost::bytes::Bytes;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError};
use tonic::server::NamedService;

use super::{First, RateLimiter};
use crate::grpc::deadline::Deadline;
use crate::grpc::fast::protobuf::Malformed;
use crate::grpc::fast::unary::{self, Call, Framed, Reply};
use crate::grpc::inbound::Inbound;
use crate::grpc::overload::Overloaded;
use crate::grpc::pb::rls::rate_limit_service_server::SERVICE_NAME;
use crate::grpc::wire::{RateLimitDomain, RateLimitRequest};

const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// `envoy.service.ratelimit.v3.RateLimitService`, for one thread: its clones count their uses
/// together.
#[derive(Clone, Debug)]
pub struct RateLimitGrpc(Arc<Shared>);

/// Of one thread.
#[derive(Debug)]
struct Shared {
    limiter: RateLimiter,
}

impl RateLimitGrpc {
    pub fn new(limiter: RateLimiter) -> Self {
        Self(Arc::new(Shared { limiter }))
    }
}

impl NamedService for RateLimitGrpc {
    const NAME: &'static str = SERVICE_NAME;
}

impl<B> Service<Request<Inbound<B>>> for RateLimitGrpc
where
    B: HttpBody<Error: Into<StdError>> + Unpin + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Inbound<B>>) -> Self::Future {
        if request.uri().path() != SHOULD_RATE_LIMIT {
            return Box::pin(ready(Ok(Status::unimplemented("no such method").into_http())));
        }
        let shared = self.0.clone();
        unary::answer(request, move |message, call| {
            if let Some(overloaded) = call.extensions.get::<Overloaded>() {
                // A decision is shed before it is decoded, a report is taken.
                match RateLimitDomain::decode(message.clone()) {
                    Ok(RateLimitDomain { domain }) if shared.limiter.0.is_for_reports(&domain) => {}
                    _ => return Err(Box::new(overloaded.shed())),
                }
            }
            Ok(should_rate_limit(shared, message, call))
        })
    }
}

fn should_rate_limit(shared: Arc<Shared>, message: Bytes, call: Call<'_>) -> Reply {
    let Ok(request) = RateLimitRequest::decode(message) else {
        return Reply::Now(Err(Malformed::Message.into()));
    };
    let limiter = &shared.limiter;
    let deadline = Deadline::of(call.headers, limiter.0.clock());
    if let Err(expired) = deadline.time_left(limiter.0.clock())
        && !limiter.0.is_for_reports(&request.domain)
    {
        return Reply::Now(Err(expired.into()));
    }
    let permitted = limiter.0.permit(&request.domain, call.extensions.get());
    let open = match permitted.and_then(|()| limiter.first_try(&request)) {
        Ok(First::Answered(answer)) => return Reply::Now(Ok(Framed::of(&answer))),
        Err(error) => return Reply::Now(Err(error.into())),
        Ok(First::Later(open)) => open,
    };
    // A report is taken however late it is.
    let time_left = deadline.time_left(limiter.0.clock()).unwrap_or(Some(Duration::ZERO));
    Reply::Later(Box::pin(async move {
        Ok(Framed::of(&shared.limiter.answer_later(&request, open, time_left).await?))
    }))
}
