//! `envoy.service.auth.v3.Authorization`: usage plans by Envoy's external authorization, with true
//! status codes.
//!
//! Its messages are read with every text as bytes: what a caller sends may be no UTF-8, and an RPC
//! error would let it pass.

mod wire;

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::authorization_server::SERVICE_NAME;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::rpc;
use hyper::body::Body as HttpBody;
use prost::Message;
use prost::bytes::Bytes;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError};
use tonic::server::NamedService;
use tonic::{Code, Status};

use self::wire::{CheckRequest, HttpRequest};
use super::deadline::Deadline;
use super::fast::protobuf::{Malformed, text_or_none};
use super::fast::unary::{self, Framed, Reply};
use super::headers;
use super::inbound::Inbound;
use super::ratelimit::{plan_metadata, string_struct};
use crate::decide::verdict::Decision;
use crate::engine::plans::CheckInput;
use crate::service::decisions::Decisions;

/// What the service does, from message to message.
#[derive(Clone, Debug)]
pub struct ExternalAuthorization(pub Arc<Decisions>);

/// The service.
#[derive(Clone, Debug)]
pub struct AuthorizationGrpc(Arc<ExternalAuthorization>);

impl AuthorizationGrpc {
    pub fn new(decisions: Arc<Decisions>) -> Self {
        Self(Arc::new(ExternalAuthorization(decisions)))
    }
}

impl NamedService for AuthorizationGrpc {
    const NAME: &'static str = SERVICE_NAME;
}

impl<B> Service<http::Request<Inbound<B>>> for AuthorizationGrpc
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
        if request.uri().path() != "/envoy.service.auth.v3.Authorization/Check" {
            return Box::pin(ready(Ok(Status::unimplemented("no such method").into_http())));
        }
        let authorization = self.0.clone();
        unary::answer(request, move |message, call| {
            Ok(
                match Deadline::of(call.headers, authorization.0.clock())
                    .time_left(authorization.0.clock())
                {
                    Ok(time_left) => Reply::Later(Box::pin(async move {
                        authorization.check(message, time_left).await
                    })),
                    Err(expired) => Reply::Now(Err(expired.into())),
                },
            )
        })
    }
}

impl ExternalAuthorization {
    /// Answers a call as the service does, on any bytes.
    ///
    /// # Errors
    /// Where the bytes are no request, or one that cannot be decided, whoever the caller is.
    pub async fn answer_check(&self, message: Bytes) -> Result<Vec<u8>, Status> {
        Ok(self.check(message, None).await?.message().to_vec())
    }

    async fn check(&self, message: Bytes, time_left: Option<Duration>) -> Result<Framed, Status> {
        let request = CheckRequest::decode(message).map_err(|_| Malformed::Message)?;
        let attributes = request.attributes.unwrap_or_default();
        let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
        let target = wire::value(&attributes.context_extensions, b"target")
            .map(text_or_none)
            .unwrap_or_default();
        let api_key = self.api_key(&http);
        let input = CheckInput {
            api_key: &api_key,
            target,
            method: &http.method,
            path: &http.path,
            cost: None,
            operation_id: &[],
        };
        Ok(self
            .0
            .check(&input, time_left, |decision| Framed::of(&respond(decision, &self.0)))
            .await?)
    }

    /// The first of the headers that hold API keys. `authorization` holds one only as `Bearer`.
    fn api_key<'h>(&self, http: &'h HttpRequest) -> Cow<'h, [u8]> {
        let names = self.0.settings().key_headers.iter();
        names.filter_map(|name| key_of(name, header(http, name)?)).next().unwrap_or_default()
    }
}

fn header<'h>(http: &'h HttpRequest, name: &str) -> Option<&'h [u8]> {
    if let Some(value) = wire::value(&http.headers, name.as_bytes()) {
        return Some(value);
    }
    // Where Envoy is told to send raw headers (`encode_raw_headers`), they are here.
    let raw = http
        .header_map
        .as_ref()?
        .headers
        .iter()
        .find(|header| header.key.eq_ignore_ascii_case(name.as_bytes()))?;
    Some(if raw.raw_value.is_empty() { &raw.value } else { &raw.raw_value })
}

fn key_of<'h>(name: &str, value: &'h [u8]) -> Option<Cow<'h, [u8]>> {
    if name != "authorization" {
        return Some(Cow::Borrowed(value));
    }
    let (scheme, key) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| Cow::Borrowed(key.trim_ascii()))
}

fn respond(decision: &Decision<'_>, decisions: &Decisions) -> CheckResponse {
    let mut response_headers = headers::headers(decision, &decisions.settings().headers);
    let problem = headers::problem(decision);
    if problem.is_some() {
        response_headers.push(("content-type", headers::PROBLEM_JSON.to_owned()));
    }
    let response_headers = response_headers.into_iter().map(|(key, value)| HeaderValueOption {
        header: Some(HeaderValue { key: key.to_owned(), value, ..HeaderValue::default() }),
        ..HeaderValueOption::default()
    });
    let status = decision.verdict.reason().map_or(200, |reason| reason.http_status());
    let http_response = match problem {
        None => HttpResponse::OkResponse(OkHttpResponse {
            response_headers_to_add: response_headers.collect(),
            ..OkHttpResponse::default()
        }),
        Some(body) => HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: status.into() }),
            headers: response_headers.collect(),
            body,
        }),
    };
    let code = match status {
        200 => Code::Ok,
        403 => Code::PermissionDenied,
        429 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        _ => Code::InvalidArgument,
    };
    CheckResponse {
        status: Some(rpc::Status { code: code.into(), ..rpc::Status::default() }),
        dynamic_metadata: Some(string_struct(plan_metadata(decision))),
        http_response: Some(http_response),
    }
}
