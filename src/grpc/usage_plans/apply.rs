//! Sets of resources, whole or in parts.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use prost::Message;
use tonic::Status;

use super::{How, Options, UsagePlans};
use crate::catalog::{Declared, EditOptions};
use crate::decide::invalid::Invalid;
use crate::grpc::convert::apply::{self, Collected};
use crate::grpc::pb::tollgate as pb;
use crate::grpc::status::invalid;
use crate::service::error::on_a_thread;

/// Sets that are sent in parts at a time.
pub(super) const AT_ONCE: usize = 2;

/// How long the next part may take.
const NEXT_PART: Duration = Duration::from_secs(30);

/// How long all parts may take.
const ALL_PARTS: Duration = Duration::from_secs(15 * 60);

/// Changes in one part of an answer: far less than clients read by default.
const CHANGES: usize = 1_000;

/// The parts of an answer.
pub(super) type Parts = tokio_stream::Iter<std::vec::IntoIter<Result<pb::ApplyResponse, Status>>>;

impl UsagePlans {
    pub(super) async fn apply_all(
        &self,
        request: pb::ApplyRequest,
    ) -> Result<pb::ApplyResponse, Status> {
        let how = How {
            method: "Apply",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        let declared = on_a_thread(move || apply::declared(request)).await?.map_err(invalid)?;
        self.apply_set(options, declared).await
    }

    pub(super) async fn apply_parts(
        &self,
        parts: impl Stream<Item = Result<pb::ApplyRequest, Status>> + Unpin,
    ) -> Result<Parts, Status> {
        let Ok(_place) = self.sets.try_acquire() else {
            return Err(Status::resource_exhausted(format!(
                "{AT_ONCE} sets are being sent in parts already: try again when they are applied"
            )));
        };
        let taken =
            tokio::time::timeout(ALL_PARTS, take(parts, self.max_set_bytes, NEXT_PART)).await;
        let (set, validate_only) =
            taken.unwrap_or_else(|_| Err(too_late("the last part", ALL_PARTS)))?;
        let declared = on_a_thread(move || set.finish()).await?.map_err(invalid)?;
        let options = Options { request: None, edit: EditOptions { validate_only } };
        let mut changes = self.apply_set(options, declared).await?.changes.into_iter();
        let mut parts = Vec::new();
        while changes.len() > 0 || parts.is_empty() {
            parts.push(Ok(pb::ApplyResponse { changes: changes.by_ref().take(CHANGES).collect() }));
        }
        Ok(tokio_stream::iter(parts))
    }

    async fn apply_set(
        &self,
        options: Options,
        declared: Declared,
    ) -> Result<pb::ApplyResponse, Status> {
        let wire =
            |changes: &Vec<_>| pb::ApplyResponse { changes: apply::changes_to_wire(changes) };
        self.edit(options, move |draft| draft.apply(&declared), wire).await
    }
}

/// Takes all parts of a set, each as it comes; and whether it is only to be checked.
async fn take(
    mut parts: impl Stream<Item = Result<pb::ApplyRequest, Status>> + Unpin,
    max_bytes: usize,
    next_part: Duration,
) -> Result<(Collected, bool), Status> {
    let (mut set, mut bytes, mut validate_only) = (Collected::default(), 0_usize, false);
    loop {
        let part = match tokio::time::timeout(next_part, parts.next()).await {
            Err(_) => return Err(too_late("the next part", next_part)),
            Ok(None) => return Ok((set, validate_only)),
            Ok(Some(part)) => part?,
        };
        bytes = bytes.saturating_add(part.encoded_len());
        if bytes > max_bytes {
            return Err(Status::resource_exhausted(format!(
                "the set has more than the {max_bytes} bytes of the setting grpc.max_apply_bytes, and nothing was changed"
            )));
        }
        if !part.request_id.is_empty() {
            let reason = "cannot be had for a set in parts, and is not needed: to apply it again changes nothing more";
            return Err(invalid(vec![Invalid::new("request_id", reason)]));
        }
        validate_only |= part.validate_only;
        // A part takes its time, and other calls of this thread wait for none of it.
        set = on_a_thread(move || {
            set.add(part);
            set
        })
        .await?;
    }
}

fn too_late(what: &str, after: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "{what} of the set has not come within {} s, and nothing was changed",
        after.as_secs_f64()
    ))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn part(targets: &[&str]) -> pb::ApplyRequest {
        let target = |id: &&str| pb::Target { id: (*id).to_owned(), ..Default::default() };
        pb::ApplyRequest { targets: targets.iter().map(target).collect(), ..Default::default() }
    }

    async fn taken(
        parts: Vec<Result<pb::ApplyRequest, Status>>,
        max_bytes: usize,
    ) -> Result<(Collected, bool), Status> {
        take(tokio_stream::iter(parts), max_bytes, Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn parts_are_one_set_and_places_count_over_all_of_them() {
        let only = pb::ApplyRequest { validate_only: true, ..part(&["c"]) };
        let (set, validate_only) =
            taken(vec![Ok(part(&["a", "b"])), Ok(only)], 1_000).await.unwrap();
        assert!(validate_only);
        assert_eq!(set.finish().unwrap().targets.len(), 3);
        let (set, _) =
            taken(vec![Ok(part(&["a", "-"])), Ok(part(&[])), Ok(part(&["b", "+"]))], 1_000)
                .await
                .unwrap();
        let fields: Vec<_> =
            set.finish().unwrap_err().into_iter().map(|mistake| mistake.field).collect();
        assert_eq!(fields, ["targets[1].id", "targets[3].id"]);
        let prune = pb::ApplyRequest { prune: true, ..Default::default() };
        let (set, _) = taken(vec![Ok(prune), Ok(part(&["a"]))], 1_000).await.unwrap();
        assert_eq!(set.finish().unwrap().prune.kinds, [crate::catalog::Kind::Target]);
    }

    #[tokio::test]
    async fn all_parts_together_are_bounded_at_the_byte() {
        let bytes = part(&["a"]).encoded_len() * 2;
        let two = || vec![Ok(part(&["a"])), Ok(part(&["b"]))];
        assert!(taken(two(), bytes).await.is_ok());
        let status = taken(two(), bytes - 1).await.unwrap_err();
        assert!(
            status.code() == Code::ResourceExhausted
                && status.message().contains("grpc.max_apply_bytes"),
            "{status}"
        );
    }

    #[tokio::test]
    async fn what_cannot_be_asked_in_parts_is_refused_and_an_error_ends_the_set() {
        let retry = pb::ApplyRequest { request_id: "r".into(), ..part(&["a"]) };
        assert_eq!(taken(vec![Ok(retry)], 1_000).await.unwrap_err().code(), Code::InvalidArgument);
        let cut =
            taken(vec![Ok(part(&["a"])), Err(Status::cancelled("gone"))], 1_000).await.unwrap_err();
        assert_eq!(cut.code(), Code::Cancelled);
    }

    #[tokio::test]
    async fn a_part_that_does_not_come_ends_the_set() {
        let silent = tokio_stream::iter([Ok(part(&["a"]))]).chain(futures_util::stream::pending());
        let status = take(silent, 1_000, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(
            status.message(),
            "the next part of the set has not come within 0.02 s, and nothing was changed"
        );
    }
}
