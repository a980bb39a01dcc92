//! `envoy.service.auth.v3.Authorization`: usage plans by Envoy's external authorization, with true status codes.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::Authorization;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::rpc;
use tonic::{Code, Request, Response, Status};

use super::deadline::time_left;
use super::plans::{Plans, headers};
use super::ratelimit::{plan_metadata, string_struct};
use crate::decide::verdict::Decision;
use crate::engine::plans::{CheckInput, InvalidRequest};

/// The service.
#[derive(Clone, Debug)]
pub struct ExternalAuthorization(pub Arc<Plans>);

#[tonic::async_trait]
impl Authorization for ExternalAuthorization {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let time_left = time_left(request.metadata().as_ref());
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
        let target = attributes.context_extensions.get("target").map(String::as_str).unwrap_or_default();
        Ok(Response::new(self.decide(target, &http, time_left).await?))
    }
}

impl ExternalAuthorization {
    async fn decide(&self, target: &str, http: &HttpRequest, time_left: Option<Duration>) -> Result<CheckResponse, InvalidRequest> {
        let api_key = self.api_key(http);
        let input = CheckInput {
            api_key: &api_key,
            target,
            method: http.method.as_bytes(),
            path: http.path.as_bytes(),
            cost: None,
            operation_id: &[],
        };
        self.0.check(&input, time_left, |decision| respond(decision, &self.0)).await
    }

    /// The first of the headers that hold API keys. `authorization` holds one only as `Bearer`.
    fn api_key<'h>(&self, http: &'h HttpRequest) -> Cow<'h, [u8]> {
        let names = self.0.settings().key_headers.iter();
        names.filter_map(|name| key_of(name, header(http, name)?)).next().unwrap_or_default()
    }
}

fn header<'h>(http: &'h HttpRequest, name: &str) -> Option<Cow<'h, [u8]>> {
    if let Some(value) = http.headers.get(name) {
        return Some(Cow::Borrowed(value.as_bytes()));
    }
    // Where Envoy is told to send raw headers (`encode_raw_headers`), they are here.
    let raw = http.header_map.as_ref()?.headers.iter().find(|header| header.key.eq_ignore_ascii_case(name))?;
    Some(Cow::Borrowed(if raw.raw_value.is_empty() { raw.value.as_bytes() } else { &raw.raw_value }))
}

fn key_of<'h>(name: &str, value: Cow<'h, [u8]>) -> Option<Cow<'h, [u8]>> {
    if name != "authorization" {
        return Some(value);
    }
    let (scheme, key) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| Cow::Owned(key.trim_ascii().to_vec()))
}

fn respond(decision: &Decision<'_>, plans: &Plans) -> CheckResponse {
    let mut response_headers = headers::headers(decision, &plans.settings().headers);
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
        None => {
            HttpResponse::OkResponse(OkHttpResponse { response_headers_to_add: response_headers.collect(), ..OkHttpResponse::default() })
        }
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
