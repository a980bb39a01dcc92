//! API keys, without their values.

use prost_types::FieldMask;

use crate::catalog::{Field, KeyEntry, Stated, Stored};
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::{self, Mistakes};
use crate::decide::plan::{ApiKey, Dates, LastFour};
use crate::grpc::pb::tollgate as pb;

use super::mask::{Mask, take};
use super::{about, instant, timestamp};

const EDITABLE: &[&str] = &[
    "subscriber",
    "display_name",
    "description",
    "labels",
    "enabled",
    "not_before",
    "expire_time",
];

/// The API key that a message declares, or all that is wrong with it.
pub fn api_key(wire: pb::ApiKey) -> Result<ApiKey, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let key = read(wire, &mut found);
    validate::api_key(&key, &mut found);
    found.or_else(key)
}

/// The API key that a message declares; without an id it is one that the catalog makes.
pub fn new_api_key(wire: pb::ApiKey) -> Result<ApiKey, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let key = read(wire, &mut found);
    if !key.id.is_empty() {
        validate::api_key(&key, &mut found);
    }
    found.or_else(key)
}

/// What `current` is after an update, or all that is wrong with the update. A subscriber that is
/// left out stays.
pub fn updated(
    current: &Stored<KeyEntry>,
    wire: pb::ApiKey,
    mask: Option<FieldMask>,
) -> Result<ApiKey, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let mask = Mask::read(mask, EDITABLE, &mut found);
    let mut merged = to_wire(current);
    let subscriber =
        if wire.subscriber.is_empty() { merged.subscriber.clone() } else { wire.subscriber };
    mask.take("subscriber", &mut merged.subscriber, subscriber);
    take!(mask, merged, wire: display_name, description, labels, enabled, not_before, expire_time);
    let key = read(merged, &mut found);
    validate::api_key(&key, &mut found);
    found.or_else(key)
}

/// The API key that a message declares, with the fields that it says; or all that is wrong.
pub(super) fn stated(
    wire: pb::ApiKey,
    mask: Option<FieldMask>,
) -> Result<Stated<ApiKey>, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let fields = Mask::read_at("mask", mask, EDITABLE, &mut found).fields(&[
        (Field::DisplayName, !wire.display_name.is_empty()),
        (Field::Description, !wire.description.is_empty()),
        (Field::Labels, !wire.labels.is_empty()),
        (Field::Enabled, wire.enabled.is_some()),
        (Field::NotBefore, wire.not_before.is_some()),
        (Field::ExpireTime, wire.expire_time.is_some()),
    ]);
    let value = read(wire, &mut found);
    validate::api_key(&value, &mut found);
    found.or_else(Stated { value, fields })
}

fn read(wire: pb::ApiKey, found: &mut Mistakes) -> ApiKey {
    let about = about(&wire.id, wire.display_name, wire.description, wire.labels);
    let dates = Dates {
        not_before_ns: instant("not_before", wire.not_before, found),
        expire_ns: instant("expire_time", wire.expire_time, found),
    };
    ApiKey {
        id: wire.id.into(),
        subscriber: wire.subscriber.into(),
        about,
        enabled: wire.enabled.unwrap_or(true),
        dates: dates.into(),
        last_four: LastFour::default(),
    }
}

/// The message that shows an API key.
pub fn to_wire(stored: &Stored<KeyEntry>) -> pb::ApiKey {
    let key = &stored.value.key;
    pb::ApiKey {
        id: key.id.to_string(),
        subscriber: key.subscriber.to_string(),
        display_name: key.about.name(&key.id).to_owned(),
        description: key.about.description.clone(),
        labels: key.about.labels.clone(),
        enabled: Some(key.enabled),
        not_before: key.dates.not_before_ns.map(timestamp),
        expire_time: key.dates.expire_ns.map(timestamp),
        last_four: (*key.last_four).to_owned(),
        etag: stored.etag(),
        revision: stored.revision,
        create_time: Some(timestamp(stored.create_ns)),
        update_time: Some(timestamp(stored.update_ns)),
    }
}
