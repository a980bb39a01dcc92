//! Subscribers.

use prost_types::FieldMask;

use crate::catalog::{Field, Stated, Stored};
use crate::decide::invalid::Invalid;
use crate::decide::plan::Subscriber;
use crate::decide::plan::validate::{self, Mistakes};
use crate::grpc::pb::tollgate as pb;

use super::mask::{Mask, take};
use super::{about, ids, texts, timestamp};

const EDITABLE: &[&str] = &["display_name", "description", "labels", "plans"];
/// The same for a set that is applied, where its API keys stand beside it.
const DECLARABLE: &[&str] = &["display_name", "description", "labels", "plans", "keys"];

/// The subscriber that a message declares, or all that is wrong with it.
pub fn subscriber(wire: pb::Subscriber) -> Result<Subscriber, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let subscriber = read(wire, &mut found);
    found.or_else(subscriber)
}

/// What `current` is after an update, or all that is wrong with the update.
pub fn updated(
    current: &Stored<Subscriber>,
    wire: pb::Subscriber,
    mask: Option<FieldMask>,
) -> Result<Subscriber, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let mask = Mask::read(mask, EDITABLE, &mut found);
    let mut merged = to_wire(current);
    take!(mask, merged, wire: display_name, description, labels, plans);
    let subscriber = read(merged, &mut found);
    found.or_else(subscriber)
}

/// The subscriber that a message declares, with the fields that it says; or all that is wrong.
pub(super) fn stated(
    wire: pb::Subscriber,
    mask: Option<FieldMask>,
    has_keys: bool,
) -> Result<Stated<Subscriber>, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let fields = Mask::read_at("mask", mask, DECLARABLE, &mut found).fields(&[
        (Field::DisplayName, !wire.display_name.is_empty()),
        (Field::Description, !wire.description.is_empty()),
        (Field::Labels, !wire.labels.is_empty()),
        (Field::Plans, !wire.plans.is_empty()),
        (Field::Keys, has_keys),
    ]);
    let value = read(wire, &mut found);
    found.or_else(Stated { value, fields })
}

fn read(wire: pb::Subscriber, found: &mut Mistakes) -> Subscriber {
    let about = about(&wire.id, wire.display_name, wire.description, wire.labels);
    let subscriber = Subscriber { id: wire.id.into(), about, plans: ids(wire.plans) };
    validate::subscriber(&subscriber, found);
    subscriber
}

/// The message that shows a subscriber.
pub fn to_wire(stored: &Stored<Subscriber>) -> pb::Subscriber {
    let subscriber = &stored.value;
    pb::Subscriber {
        id: subscriber.id.to_string(),
        display_name: subscriber.about.name(&subscriber.id).to_owned(),
        description: subscriber.about.description.clone(),
        labels: subscriber.about.labels.clone(),
        plans: texts(&subscriber.plans),
        etag: stored.etag(),
        revision: stored.revision,
        create_time: Some(timestamp(stored.create_ns)),
        update_time: Some(timestamp(stored.update_ns)),
    }
}
