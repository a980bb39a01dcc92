//! Which fields a refusal is about, for programs: `google.rpc.BadRequest` in the details of a
//! status, as the Google API guide has it.

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

use crate::decide::invalid::Invalid;

const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";

/// Bytes of details: they are sent as a header, and clients bound those.
const MAX_BYTES: usize = 4_096;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

/// `google.rpc.BadRequest.FieldViolation`.
#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

/// A refusal with the fields that it is about, as many as there is room for. Where there is not
/// room for all, the last violation is of no field and says how many more there are.
pub(super) fn refusal(code: Code, message: String, mistakes: &[Invalid]) -> Status {
    let mut bytes = 0;
    let mut field_violations = Vec::new();
    for mistake in mistakes {
        bytes += mistake.field.len() + mistake.reason.len() + 16;
        if bytes > MAX_BYTES {
            let more = mistakes.len() - field_violations.len();
            field_violations
                .push(FieldViolation { field: String::new(), description: more.to_string() });
            break;
        }
        field_violations.push(FieldViolation {
            field: mistake.field.clone(),
            description: mistake.reason.clone(),
        });
    }
    let detail = Any {
        type_url: BAD_REQUEST.to_owned(),
        value: BadRequest { field_violations }.encode_to_vec(),
    };
    let status = RpcStatus { code: code.into(), message: String::new(), details: vec![detail] };
    Status::with_details(code, message, status.encode_to_vec().into())
}

/// The fields that a refusal is about, and how many more there are; `None` where it does not say.
pub fn violations(status: &Status) -> Option<(Vec<Invalid>, usize)> {
    let details = RpcStatus::decode(status.details()).ok()?.details;
    let detail = details.iter().find(|detail| detail.type_url == BAD_REQUEST)?;
    let mut found = BadRequest::decode(detail.value.as_slice()).ok()?.field_violations;
    let more =
        found.pop_if(|last| last.field.is_empty() && last.description.parse::<usize>().is_ok());
    let more = more.and_then(|last| last.description.parse().ok()).unwrap_or(0);
    Some((found.into_iter().map(|one| Invalid::new(one.field, one.description)).collect(), more))
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::{MAX_BYTES, refusal, violations};
    use crate::decide::invalid::Invalid;

    #[test]
    fn the_fields_of_a_refusal_are_read_back_and_a_long_list_ends() {
        let two = vec![
            Invalid::new("plans[0].id", "is needed"),
            Invalid::new("burst", "must be 1 or more"),
        ];
        assert_eq!(violations(&refusal(Code::InvalidArgument, "x".into(), &two)), Some((two, 0)));
        let many: Vec<Invalid> =
            (0..1_000).map(|i| Invalid::new(format!("plans[{i}].id"), "is needed")).collect();
        let status = refusal(Code::InvalidArgument, "x".into(), &many);
        assert!(status.details().len() < MAX_BYTES + 1_024, "{}", status.details().len());
        let (found, more) = violations(&status).unwrap();
        assert!(
            found.len() > 50 && found.len() + more == 1_000 && found[..] == many[..found.len()]
        );
        assert_eq!(violations(&Status::invalid_argument("x")), None);
        assert_eq!(
            violations(&Status::with_details(Code::Internal, "x", vec![1, 2, 3].into())),
            None
        );
    }
}
