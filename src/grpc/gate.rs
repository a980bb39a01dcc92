//! Lets a call in or not, by its path and by who calls, before its message is read.
//!
//! Who calls is said by the call's own metadata. The headers inside of an external authorization's
//! message are of another call.

use std::sync::Arc;

use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::Status;
use tonic::body::Body;

use crate::access::{Access, Granted, Peer, Scopes};

/// One of these is needed for a call. `None`: it is open. What is not known is for `admin`, so that
/// it is never open by oversight.
fn needs(path: &str) -> Option<Scopes> {
    let (service, method) =
        path.strip_prefix('/').and_then(|path| path.rsplit_once('/')).unwrap_or_default();
    let begins = |words: &[&str]| words.iter().any(|word| method.starts_with(word));
    Some(match service {
        // Its domain says which of the two.
        "envoy.service.ratelimit.v3.RateLimitService" => Scopes::DECIDE_OR_REPORT,
        "envoy.service.auth.v3.Authorization" => Scopes::DECIDE,
        "tollgate.v1.DecisionService" if begins(&["Report"]) => Scopes::REPORT,
        "tollgate.v1.DecisionService" => Scopes::DECIDE,
        "tollgate.v1.UsagePlanService" if begins(&["Get", "List"]) => Scopes::READ_OR_ADMIN,
        "grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection" => {
            Scopes::READ_OR_ADMIN
        }
        "grpc.health.v1.Health" => return None,
        _ => Scopes::ADMIN,
    })
}

/// Whether the call is one that anyone may make.
pub(super) fn is_open(path: &str) -> bool {
    needs(path).is_none()
}

/// Lets a call in or says why not.
///
/// Where the message says more of what is needed, what is granted goes with the request: absent, it
/// is everything. Gives the name of a caller that may edit.
pub(super) fn admit<B>(
    access: &Arc<Access>,
    request: &mut Request<B>,
    peer: &Peer,
) -> Result<Option<Arc<str>>, Status> {
    let Some(needs) = needs(request.uri().path()) else { return Ok(None) };
    let authorization = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let granted = access.admit(authorization, peer, needs)?;
    if needs == Scopes::DECIDE_OR_REPORT && !granted.holds(needs) {
        request.extensions_mut().insert(Granted::new(access.clone(), granted));
        return Ok(None);
    }
    Ok((needs == Scopes::ADMIN).then(|| access.name(authorization, peer)))
}

/// The types of gRPC messages. Those of gRPC-Web, which begin alike, are not among them.
const GRPC: &[u8] = b"application/grpc";

/// Whether it is a call at all, and one that is meant. If not, its answer.
///
/// Browsers send other methods and types without asking whether they may, and with the certificate
/// or from the loopback address of whoever looks at the page. So nothing else is a call. A page
/// that is allowed to ask says where it is from: to edit plans it needs a token, which no page has
/// unless it was given one.
pub(super) fn refuse_what_is_no_call<B>(request: &Request<B>) -> Option<Response<Body>> {
    if request.method() != Method::POST {
        let mut answer = with_status(StatusCode::METHOD_NOT_ALLOWED, "a gRPC call is a POST");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return Some(answer);
    }
    let headers = request.headers();
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = content_type.and_then(|content_type| content_type.split_at_checked(GRPC.len()));
    if !rest.is_some_and(|(begin, rest)| {
        begin.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    }) {
        return Some(with_status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content-type of a gRPC call is application/grpc",
        ));
    }
    if request.uri().path().starts_with("/tollgate.v1.UsagePlanService/")
        && headers.contains_key(header::ORIGIN)
        && !headers.contains_key(header::AUTHORIZATION)
    {
        let text = "a call that a web page makes (it has an origin) needs a token: send `authorization: Bearer TOKEN`";
        return Some(Status::permission_denied(text).into_http());
    }
    None
}

fn with_status(code: StatusCode, text: &str) -> Response<Body> {
    let mut answer = Status::invalid_argument(text).into_http();
    *answer.status_mut() = code;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::observe::served_paths;

    #[test]
    fn every_call_that_is_served_needs_what_is_said_here() {
        let table: &[(&str, Option<Scopes>)] = &[
            (
                "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
                Some(Scopes::DECIDE_OR_REPORT),
            ),
            ("/envoy.service.auth.v3.Authorization/Check", Some(Scopes::DECIDE)),
            ("/tollgate.v1.DecisionService/Check", Some(Scopes::DECIDE)),
            ("/tollgate.v1.DecisionService/CheckStream", Some(Scopes::DECIDE)),
            ("/tollgate.v1.DecisionService/Report", Some(Scopes::REPORT)),
            ("/tollgate.v1.DecisionService/ReportStream", Some(Scopes::REPORT)),
            ("/grpc.health.v1.Health/", None),
            ("/grpc.reflection.v1.ServerReflection/", Some(Scopes::READ_OR_ADMIN)),
            ("/grpc.reflection.v1alpha.ServerReflection/", Some(Scopes::READ_OR_ADMIN)),
            ("/tollgate.v1.UsagePlanService/Get", Some(Scopes::READ_OR_ADMIN)),
            ("/tollgate.v1.UsagePlanService/List", Some(Scopes::READ_OR_ADMIN)),
            ("/tollgate.v1.UsagePlanService/Create", Some(Scopes::ADMIN)),
            ("/tollgate.v1.UsagePlanService/Import", Some(Scopes::ADMIN)),
            ("/tollgate.v1.UsagePlanService/Update", Some(Scopes::ADMIN)),
            ("/tollgate.v1.UsagePlanService/Delete", Some(Scopes::ADMIN)),
            ("/tollgate.v1.UsagePlanService/Attach", Some(Scopes::ADMIN)),
            ("/tollgate.v1.UsagePlanService/Detach", Some(Scopes::ADMIN)),
            ("/tollgate.v1.UsagePlanService/Grant", Some(Scopes::ADMIN)),
            ("/tollgate.v1.UsagePlanService/Apply", Some(Scopes::ADMIN)),
        ];
        let served = served_paths();
        for path in &served {
            let mut found =
                table.iter().filter(|(begin, _)| path.starts_with(begin)).map(|(_, needs)| *needs);
            assert_eq!(Some(super::needs(path)), found.next(), "{path}");
        }
        for (begin, _) in table {
            assert!(served.iter().any(|path| path.starts_with(begin)), "{begin} is not served");
        }
        for unknown in [
            "",
            "/",
            "*",
            "/Health/Check",
            "/grpc.health.v1.Health",
            "grpc.health.v1.Health/Check",
            "/x/grpc.health.v1.Health/Check",
        ] {
            assert_eq!(super::needs(unknown), Some(Scopes::ADMIN), "{unknown}");
        }
    }

    #[test]
    fn only_a_post_of_grpc_is_a_call() {
        let refused = |method: &str, content_type: Option<&str>| {
            let mut request =
                Request::builder().method(method).uri("/tollgate.v1.DecisionService/Check");
            if let Some(content_type) = content_type {
                request = request.header("content-type", content_type);
            }
            refuse_what_is_no_call(&request.body(()).unwrap())
                .map(|answer| answer.status().as_u16())
        };
        for of_grpc in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;charset=utf-8",
            "Application/GRPC+proto",
        ] {
            assert_eq!(refused("POST", Some(of_grpc)), None, "{of_grpc}");
        }
        for other in [
            "text/plain",
            "text/plain;application/grpc",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grp",
            "",
        ] {
            assert_eq!(refused("POST", Some(other)), Some(415), "{other}");
        }
        assert_eq!(refused("POST", None), Some(415));
        for method in ["GET", "PUT", "OPTIONS", "HEAD", "DELETE", "CONNECT", "post"] {
            assert_eq!(refused(method, Some("application/grpc")), Some(405), "{method}");
        }
    }

    #[test]
    fn a_web_page_edits_no_plans_without_a_token() {
        let refused = |path: &str, headers: &[(&str, &str)]| {
            let request = Request::builder()
                .method("POST")
                .uri(path)
                .header("content-type", "application/grpc");
            let request = headers
                .iter()
                .fold(request, |request, (name, value)| request.header(*name, *value));
            refuse_what_is_no_call(&request.body(()).unwrap())
        };
        let (origin, token) = (("origin", "https://evil.example"), ("authorization", "Bearer t"));
        let plans = "/tollgate.v1.UsagePlanService/CreateSubscriber";
        let answer = refused(plans, &[origin]).unwrap();
        assert_eq!(
            Status::from_header_map(answer.headers()).unwrap().code(),
            tonic::Code::PermissionDenied
        );
        assert!(refused(plans, &[]).is_none() && refused(plans, &[origin, token]).is_none());
        assert!(refused("/tollgate.v1.DecisionService/Check", &[origin]).is_none());
    }
}
