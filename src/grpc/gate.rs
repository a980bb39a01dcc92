//! Lets a call in or not, by its path and by who calls, before its message is read.
//!
//! Who calls is said by the call's own metadata. The headers inside of an external authorization's message are of another call.

use std::sync::Arc;

use axum::http::{Request, header};
use tonic::Status;

use crate::access::{Access, Granted, Peer, Scopes};

/// One of these is needed for a call. `None`: it is open. What is not known is for `admin`, so that it is never open by oversight.
fn needs(path: &str) -> Option<Scopes> {
    let (service, method) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/')).unwrap_or_default();
    let begins = |words: &[&str]| words.iter().any(|word| method.starts_with(word));
    Some(match service {
        // Its domain says which of the two.
        "envoy.service.ratelimit.v3.RateLimitService" => Scopes::DECIDE_OR_REPORT,
        "envoy.service.auth.v3.Authorization" => Scopes::DECIDE,
        "tollgate.v1.DecisionService" if begins(&["Report"]) => Scopes::REPORT,
        "tollgate.v1.DecisionService" => Scopes::DECIDE,
        "tollgate.v1.UsagePlanService" if begins(&["Get", "List"]) => Scopes::READ_OR_ADMIN,
        "grpc.reflection.v1.ServerReflection" => Scopes::READ_OR_ADMIN,
        "grpc.health.v1.Health" => return None,
        _ => Scopes::ADMIN,
    })
}

/// Lets a call in or says why not.
///
/// Where the message says more of what is needed, what is granted goes with the request: absent, it is everything.
pub(super) fn admit<B>(access: &Arc<Access>, request: &mut Request<B>, peer: &Peer) -> Result<(), Status> {
    let Some(needs) = needs(request.uri().path()) else { return Ok(()) };
    let authorization = request.headers().get(header::AUTHORIZATION);
    let granted = access.admit(authorization.map(|value| value.as_bytes()), peer, needs)?;
    if needs == Scopes::DECIDE_OR_REPORT && !granted.holds(needs) {
        request.extensions_mut().insert(Granted::new(access.clone(), granted));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::observe::served_paths;

    #[test]
    fn every_call_that_is_served_needs_what_is_said_here() {
        let table: &[(&str, Option<Scopes>)] = &[
            ("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", Some(Scopes::DECIDE_OR_REPORT)),
            ("/envoy.service.auth.v3.Authorization/Check", Some(Scopes::DECIDE)),
            ("/tollgate.v1.DecisionService/Check", Some(Scopes::DECIDE)),
            ("/tollgate.v1.DecisionService/CheckStream", Some(Scopes::DECIDE)),
            ("/tollgate.v1.DecisionService/Report", Some(Scopes::REPORT)),
            ("/tollgate.v1.DecisionService/ReportStream", Some(Scopes::REPORT)),
            ("/grpc.health.v1.Health/", None),
            ("/grpc.reflection.v1.ServerReflection/", Some(Scopes::READ_OR_ADMIN)),
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
            let mut found = table.iter().filter(|(begin, _)| path.starts_with(begin)).map(|(_, needs)| *needs);
            assert_eq!(Some(super::needs(path)), found.next(), "{path}");
        }
        for (begin, _) in table {
            assert!(served.iter().any(|path| path.starts_with(begin)), "{begin} is not served");
        }
        for unknown in
            ["", "/", "*", "/Health/Check", "/grpc.health.v1.Health", "grpc.health.v1.Health/Check", "/x/grpc.health.v1.Health/Check"]
        {
            assert_eq!(super::needs(unknown), Some(Scopes::ADMIN), "{unknown}");
        }
    }
}
