//! Targets.

use prost_types::FieldMask;

use crate::catalog::Stored;
use crate::decide::compiled::CompiledTarget;
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::{self, Mistakes};
use crate::decide::plan::{OpenMethod, Target};
use crate::grpc::pb::tollgate as pb;

use super::limits::{method_rate_limits, method_rate_limits_to_wire, rate_limit, rate_limit_to_wire};
use super::mask::Mask;
use super::{about, optional_id, timestamp};

const EDITABLE: &[&str] = &["display_name", "description", "labels", "rate_limit", "method_rate_limits", "open_methods", "default_plan"];

/// The target that a message declares, or all that is wrong with it.
pub fn target(wire: pb::Target) -> Result<Target, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let target = read(wire, &mut found);
    found.or_else(target)
}

/// What `current` is after an update, or all that is wrong with the update.
pub fn updated(current: &Stored<CompiledTarget>, wire: pb::Target, mask: Option<FieldMask>) -> Result<Target, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let mask = Mask::read(mask, EDITABLE, &mut found);
    let mut merged = to_wire(current);
    mask.take("display_name", &mut merged.display_name, wire.display_name);
    mask.take("description", &mut merged.description, wire.description);
    mask.take("labels", &mut merged.labels, wire.labels);
    mask.take("rate_limit", &mut merged.rate_limit, wire.rate_limit);
    mask.take("method_rate_limits", &mut merged.method_rate_limits, wire.method_rate_limits);
    mask.take("open_methods", &mut merged.open_methods, wire.open_methods);
    mask.take("default_plan", &mut merged.default_plan, wire.default_plan);
    let target = read(merged, &mut found);
    found.or_else(target)
}

fn read(wire: pb::Target, found: &mut Mistakes) -> Target {
    let open = |wire: pb::OpenMethod| OpenMethod { method: wire.method.to_ascii_uppercase(), path: wire.path };
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
    let open = |open: &OpenMethod| pb::OpenMethod { method: open.method.clone(), path: open.path.clone() };
    pb::Target {
        id: target.id.to_string(),
        display_name: target.about.display_name.clone(),
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
