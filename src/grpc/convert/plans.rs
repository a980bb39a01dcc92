//! Plans and entitlements.

use prost_types::FieldMask;

use crate::catalog::{Field, Stated, Stored};
use crate::decide::compiled::CompiledPlan;
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::{self, Mistakes};
use crate::decide::plan::{CounterScope, Entitlement, Plan};
use crate::grpc::pb::tollgate as pb;
use pb::entitlement::CounterScope as WireScope;

use super::limits::{
    method_rate_limits, method_rate_limits_to_wire, rate_limit, rate_limit_to_wire,
};
use super::mask::{Mask, take};
use super::quotas::{quota_to_wire, quotas};
use super::{about, ids, member, texts, timestamp};

pub use super::quotas::unit_to_wire;

const EDITABLE: &[&str] = &["display_name", "description", "labels", "entitlements"];

/// The plan that a message declares, or all that is wrong with it.
pub fn plan(wire: pb::UsagePlan) -> Result<Plan, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let plan = read(wire, &mut found);
    found.or_else(plan)
}

/// What `current` is after an update, or all that is wrong with the update.
pub fn updated(
    current: &Stored<CompiledPlan>,
    wire: pb::UsagePlan,
    mask: Option<FieldMask>,
) -> Result<Plan, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let mask = Mask::read(mask, EDITABLE, &mut found);
    let mut merged = to_wire(current);
    take!(mask, merged, wire: display_name, description, labels, entitlements);
    let plan = read(merged, &mut found);
    found.or_else(plan)
}

/// The plan that a message declares, with the fields that it says; or all that is wrong.
pub(super) fn stated(
    wire: pb::UsagePlan,
    mask: Option<FieldMask>,
) -> Result<Stated<Plan>, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let fields = Mask::read_at("mask", mask, EDITABLE, &mut found).fields(&[
        (Field::DisplayName, !wire.display_name.is_empty()),
        (Field::Description, !wire.description.is_empty()),
        (Field::Labels, !wire.labels.is_empty()),
        (Field::Entitlements, !wire.entitlements.is_empty()),
    ]);
    let value = read(wire, &mut found);
    found.or_else(Stated { value, fields })
}

fn read(wire: pb::UsagePlan, found: &mut Mistakes) -> Plan {
    let entitlement = |(i, wire)| {
        let mut inner = Mistakes::default();
        let entitlement = entitlement(wire, &mut inner);
        found.add_within(&format!("entitlements[{i}]"), inner);
        entitlement
    };
    let entitlements = wire.entitlements.into_iter().enumerate().map(entitlement).collect();
    let about = about(&wire.id, wire.display_name, wire.description, wire.labels);
    let plan = Plan { id: wire.id.into(), about, entitlements };
    validate::plan(&plan, found);
    plan
}

fn entitlement(wire: pb::Entitlement, found: &mut Mistakes) -> Entitlement {
    Entitlement {
        name: wire.name.into(),
        description: wire.description,
        targets: ids(wire.targets),
        rate_limit: rate_limit(wire.rate_limit, found),
        method_rate_limits: method_rate_limits(wire.method_rate_limits, found),
        quotas: quotas(wire.quotas, found),
        counter_scope: match member("counter_scope".to_owned(), wire.counter_scope, found) {
            WireScope::Unspecified | WireScope::Subscriber => CounterScope::Subscriber,
            WireScope::Key => CounterScope::Key,
        },
    }
}

/// The message that shows a plan.
pub fn to_wire(stored: &Stored<CompiledPlan>) -> pb::UsagePlan {
    let plan = &stored.value.plan;
    pb::UsagePlan {
        id: plan.id.to_string(),
        display_name: plan.about.name(&plan.id).to_owned(),
        description: plan.about.description.clone(),
        labels: plan.about.labels.clone(),
        entitlements: plan.entitlements.iter().map(entitlement_to_wire).collect(),
        etag: stored.etag(),
        revision: stored.revision,
        create_time: Some(timestamp(stored.create_ns)),
        update_time: Some(timestamp(stored.update_ns)),
    }
}

fn entitlement_to_wire(entitlement: &Entitlement) -> pb::Entitlement {
    let scope = match entitlement.counter_scope {
        CounterScope::Subscriber => WireScope::Subscriber,
        CounterScope::Key => WireScope::Key,
    };
    pb::Entitlement {
        name: entitlement.name.to_string(),
        description: entitlement.description.clone(),
        targets: texts(&entitlement.targets),
        rate_limit: entitlement.rate_limit.map(rate_limit_to_wire),
        method_rate_limits: method_rate_limits_to_wire(&entitlement.method_rate_limits),
        quotas: entitlement.quotas.iter().map(quota_to_wire).collect(),
        counter_scope: scope.into(),
    }
}
