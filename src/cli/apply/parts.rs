//! A set of resources in parts that are no larger than a server takes.

use prost::Message;

use crate::grpc::pb::tollgate::ApplyRequest;

/// Bytes of a part: reading one must not hold up what the server has beside it.
const PART_BYTES: usize = 256 << 10;

/// What a resource takes beside its own bytes: its tag and its length.
const FRAME: usize = 8;

/// The parts of a set, in its order. One part that fits is the set itself.
pub(super) fn of(set: ApplyRequest) -> Vec<ApplyRequest> {
    if set.encoded_len() <= PART_BYTES {
        return vec![set];
    }
    let ApplyRequest { targets, usage_plans, subscribers, target_masks, usage_plan_masks, .. } =
        set;
    let first = ApplyRequest {
        prune: set.prune,
        validate_only: set.validate_only,
        request_id: set.request_id,
        prune_all: set.prune_all,
        prune_kinds: set.prune_kinds,
        ..ApplyRequest::default()
    };
    let mut parts = Parts { done: Vec::new(), bytes: first.encoded_len(), part: first };
    for (target, mask) in targets.into_iter().zip(target_masks) {
        let part = parts.room(target.encoded_len() + mask.encoded_len());
        part.targets.push(target);
        part.target_masks.push(mask);
    }
    for (plan, mask) in usage_plans.into_iter().zip(usage_plan_masks) {
        let part = parts.room(plan.encoded_len() + mask.encoded_len());
        part.usage_plans.push(plan);
        part.usage_plan_masks.push(mask);
    }
    for subscriber in subscribers {
        parts.room(subscriber.encoded_len()).subscribers.push(subscriber);
    }
    parts.done.push(parts.part);
    parts.done
}

struct Parts {
    done: Vec<ApplyRequest>,
    part: ApplyRequest,
    bytes: usize,
}

impl Parts {
    /// A part with room for a resource, or an empty one.
    fn room(&mut self, bytes: usize) -> &mut ApplyRequest {
        let bytes = bytes + 2 * FRAME;
        if self.bytes > 0 && self.bytes + bytes > PART_BYTES {
            self.done.push(std::mem::take(&mut self.part));
            self.bytes = 0;
        }
        self.bytes += bytes;
        &mut self.part
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FieldMask;

    use super::{PART_BYTES, of};
    use crate::grpc::pb::tollgate::{
        ApplyRequest, Subscriber, SubscriberWithKeys, Target, UsagePlan,
    };

    #[test]
    fn a_large_set_is_cut_into_parts_that_hold_all_of_it_in_its_order() {
        let description = "x".repeat(3_000);
        let target = |i: usize| Target {
            id: format!("t{i}"),
            description: description.clone(),
            ..Default::default()
        };
        let mask = |i: usize| FieldMask { paths: vec![format!("m{i}")] };
        let set = ApplyRequest {
            targets: (0..200).map(target).collect(),
            target_masks: (0..200).map(mask).collect(),
            usage_plans: vec![UsagePlan {
                description: "x".repeat(2 * PART_BYTES),
                ..Default::default()
            }],
            usage_plan_masks: vec![mask(7)],
            subscribers: (0..5_000)
                .map(|i| SubscriberWithKeys {
                    subscriber: Some(Subscriber { id: format!("s{i}"), ..Default::default() }),
                    ..Default::default()
                })
                .collect(),
            prune: true,
            validate_only: true,
            ..Default::default()
        };
        let parts = of(set.clone());
        assert!(parts.len() >= 5);
        assert!(parts.iter().all(|part| part.encoded_len() <= PART_BYTES
            || part.usage_plans.len() == 1 && part.targets.is_empty()));
        assert!(parts.iter().all(|part| part.targets.len() == part.target_masks.len()));
        let mut whole = ApplyRequest::default();
        parts.iter().for_each(|part| whole.merge(part.encode_to_vec().as_slice()).unwrap());
        assert_eq!(whole, set);
        let small = ApplyRequest { request_id: "r".into(), ..Default::default() };
        assert_eq!(of(small.clone()), [small]);
    }
}
