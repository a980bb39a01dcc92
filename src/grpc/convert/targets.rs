//! Targets.

use prost_types::FieldMask;

use crate::catalog::{Field, Stated, Stored};
use crate::decide::compiled::CompiledTarget;
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::{self, Mistakes};
use crate::decide::plan::{OpenMethod, Target};
use crate::grpc::pb::tollgate as pb;

use super::limits::{
    method_rate_limits, method_rate_limits_to_wire, rate_limit, rate_limit_to_wire,
};
use super::mask::{Mask, take};
use super::{about, optional_id, timestamp};

const EDITABLE: &[&str] = &[
    "display_name",
    "description",
    "labels",
    "rate_limit",
    "rate_limit.requests_per_second",
    "method_rate_limits",
    "open_methods",
    "default_plan",
];

/// The target that a message declares, or all that is wrong with it.
pub fn target(wire: pb::Target) -> Result<Target, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let target = read(wire, &mut found);
    found.or_else(target)
}

/// What `current` is after an update, or all that is wrong with the update.
pub fn updated(
    current: &Stored<CompiledTarget>,
    wire: pb::Target,
    mask: Option<FieldMask>,
) -> Result<Target, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let mask = Mask::read(mask, EDITABLE, &mut found);
    let mut merged = to_wire(current);
    take!(mask, merged, wire: display_name, description, labels);
    mask.take_rate(&mut merged.rate_limit, wire.rate_limit);
    take!(mask, merged, wire: method_rate_limits, open_methods, default_plan);
    let target = read(merged, &mut found);
    found.or_else(target)
}

/// The target that a message declares, with the fields that it says; or all that is wrong.
pub(super) fn stated(
    wire: pb::Target,
    mask: Option<FieldMask>,
) -> Result<Stated<Target>, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let rate = wire.rate_limit.as_ref();
    let fields = Mask::read_at("mask", mask, EDITABLE, &mut found).fields(&[
        (Field::DisplayName, !wire.display_name.is_empty()),
        (Field::Description, !wire.description.is_empty()),
        (Field::Labels, !wire.labels.is_empty()),
        (Field::RateLimit, rate.is_some_and(|rate| rate.burst.is_some())),
        (Field::RequestsPerSecond, rate.is_some()),
        (Field::MethodRateLimits, !wire.method_rate_limits.is_empty()),
        (Field::OpenMethods, !wire.open_methods.is_empty()),
        (Field::DefaultPlan, !wire.default_plan.is_empty()),
    ]);
    let value = read(wire, &mut found);
    found.or_else(Stated { value, fields })
}

fn read(wire: pb::Target, found: &mut Mistakes) -> Target {
    let open = |wire: pb::OpenMethod| OpenMethod {
        method: wire.method.to_ascii_uppercase(),
        path: wire.path,
    };
    let about = about(&wire.id, wire.display_name, wire.description, wire.labels);
    let target = Target {
        id: wire.id.into(),
        about,
        rate_limit: rate_limit(wire.rate_limit, found),
        method_rate_limits: method_rate_limits(wire.method_rate_limits, found),
        open_methods: wire.open_methods.into_iter().map(open).collect(),
        default_plan: optional_id(wire.default_plan),
    };
    validate::target(&target, found);
    target
}

/// The message that shows a target.
pub fn to_wire(stored: &Stored<CompiledTarget>) -> pb::Target {
    let target = &stored.value.target;
    let open =
        |open: &OpenMethod| pb::OpenMethod { method: open.method.clone(), path: open.path.clone() };
    pb::Target {
        id: target.id.to_string(),
        display_name: target.about.name(&target.id).to_owned(),
        description: target.about.description.clone(),
        labels: target.about.labels.clone(),
        rate_limit: target.rate_limit.map(rate_limit_to_wire),
        method_rate_limits: method_rate_limits_to_wire(&target.method_rate_limits),
        open_methods: target.open_methods.iter().map(open).collect(),
        default_plan: target.default_plan.as_deref().unwrap_or_default().to_owned(),
        etag: stored.etag(),
        revision: stored.revision,
        create_time: Some(timestamp(stored.create_ns)),
        update_time: Some(timestamp(stored.update_ns)),
    }
}
