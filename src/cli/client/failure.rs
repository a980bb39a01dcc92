//! What a server refused, as a sentence and an exit code.

use std::error::Error;

use tonic::{Code, Status, TimeoutExpired};

use crate::cli::{CONFLICT, FAILED, Failure, NOT_FOUND, UNUSABLE};

/// Why a call of the server at `server` had no answer.
pub(super) fn of(status: &Status, server: &str) -> Failure {
    Failure { code: exit_code(status.code()), text: text(status, server) }
}

pub(super) fn exit_code(code: Code) -> u8 {
    match code {
        Code::InvalidArgument | Code::OutOfRange => UNUSABLE,
        Code::NotFound => NOT_FOUND,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => CONFLICT,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => FAILED,
    }
}

/// Has the answer come too late, whoever noticed?
pub(super) fn is_timeout(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        source = error.source();
    }
    status.code() == Code::DeadlineExceeded
        || (status.code() == Code::Cancelled && status.message() == "Timeout expired")
}

fn text(status: &Status, server: &str) -> String {
    // A status that the server sent has no source: then the connection failed.
    if let Some(source) = status.source() {
        return format!(
            "the server at {server} cannot be reached (--server, TOLLGATE_SERVER): {}",
            innermost(source)
        );
    }
    match (status.code(), status.message()) {
        (Code::Unimplemented, _) => format!(
            "the server at {server} does not know this call: it is another program or version, or it serves this elsewhere (admin_grpc_addr)"
        ),
        (Code::Unauthenticated, "") => {
            "the server asks for a token (--token, TOLLGATE_TOKEN)".to_owned()
        }
        (Code::OutOfRange, message) if message.contains("message length too large") => {
            format!("{message}: raise `grpc.max_message_bytes` of the server, or send less at once")
        }
        (code, "") => format!("the server at {server} answered: {}", code.description()),
        (_, message) => message.to_owned(),
    }
}

/// The error that all the others are about.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::{exit_code, of};
    use crate::cli::{CONFLICT, FAILED, NOT_FOUND, UNUSABLE};

    #[test]
    fn each_status_has_its_exit_code() {
        let codes = [
            (Code::InvalidArgument, UNUSABLE),
            (Code::OutOfRange, UNUSABLE),
            (Code::NotFound, NOT_FOUND),
            (Code::AlreadyExists, CONFLICT),
            (Code::Aborted, CONFLICT),
            (Code::FailedPrecondition, CONFLICT),
            (Code::Internal, FAILED),
            (Code::Unavailable, FAILED),
            (Code::DeadlineExceeded, FAILED),
            (Code::Unauthenticated, FAILED),
            (Code::PermissionDenied, FAILED),
            (Code::Unimplemented, FAILED),
            (Code::ResourceExhausted, FAILED),
            (Code::Unknown, FAILED),
            (Code::Cancelled, FAILED),
            (Code::DataLoss, FAILED),
        ];
        for (code, exit) in codes {
            assert_eq!(exit_code(code), exit, "{code:?}");
        }
    }

    #[test]
    fn what_the_server_says_is_said_and_its_silence_is_put_into_words() {
        for (status, said) in [
            (Status::not_found("there is no plan `gold`"), "there is no plan `gold`"),
            (Status::unauthenticated(""), "the server asks for a token (--token, TOLLGATE_TOKEN)"),
            (Status::unauthenticated("the token is not known"), "the token is not known"),
            (
                Status::unimplemented(""),
                "the server at h:1 does not know this call: it is another program or version, or it serves this elsewhere (admin_grpc_addr)",
            ),
        ] {
            assert_eq!(of(&status, "h:1").text, said);
        }
        assert!(of(&Status::internal(""), "h:1").text.starts_with("the server at h:1 answered: "));
    }

    #[test]
    fn a_connection_that_failed_is_told_from_an_answer() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let failure = of(&Status::from_error(Box::new(refused)), "h:1");
        assert_eq!(failure.code, FAILED);
        assert_eq!(
            failure.text,
            "the server at h:1 cannot be reached (--server, TOLLGATE_SERVER): connection refused"
        );
    }
}
