//! Sets of resources, and what applying them does.

use crate::catalog::{Action, Declared, DeclaredKey, DeclaredSubscriber, Difference};
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::Mistakes;
use crate::grpc::pb::tollgate as pb;
use pb::apply_response::Change;
use pb::apply_response::change::Action as WireAction;

use super::{keys, plans, subscribers, targets};

/// The set that a message declares, or all that is wrong with it.
pub fn declared(wire: pb::ApplyRequest) -> Result<Declared, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let declared = Declared {
        targets: each("targets", wire.targets, targets::target, &mut found),
        plans: each("usage_plans", wire.usage_plans, plans::plan, &mut found),
        subscribers: each("subscribers", wire.subscribers, subscriber, &mut found),
        prune: wire.prune,
    };
    found.or_else(declared)
}

fn each<W, T>(field: &str, wire: Vec<W>, read: fn(W) -> Result<T, Vec<Invalid>>, found: &mut Mistakes) -> Vec<T> {
    let one = |(i, wire)| {
        read(wire).map_err(|mistakes| {
            for mistake in mistakes {
                found.add(format!("{field}[{i}].{}", mistake.field), mistake.reason);
            }
        })
    };
    wire.into_iter().enumerate().map(one).filter_map(Result::ok).collect()
}

fn subscriber(wire: pb::SubscriberWithKeys) -> Result<DeclaredSubscriber, Vec<Invalid>> {
    let Some(subscriber) = wire.subscriber else { return Err(vec![Invalid::new("subscriber", "is needed")]) };
    let mut found = Mistakes::default();
    let owner = subscriber.id.clone();
    let owned = wire.keys.into_iter().map(|wire| with_owner(wire, &owner)).collect();
    let keys = each("keys", owned, key, &mut found);
    match subscribers::subscriber(subscriber) {
        Ok(subscriber) => found.or_else(DeclaredSubscriber { subscriber, keys }),
        Err(mistakes) => {
            let of_keys = found.or_else(()).err().unwrap_or_default();
            Err(mistakes.into_iter().map(|mistake| mistake.within("subscriber")).chain(of_keys).collect())
        }
    }
}

/// A key and the id of the subscriber under which it stands.
struct Owned {
    wire: pb::ApiKeyWithValue,
    owner: String,
}

fn with_owner(wire: pb::ApiKeyWithValue, owner: &str) -> Owned {
    Owned { wire, owner: owner.to_owned() }
}

fn key(owned: Owned) -> Result<DeclaredKey, Vec<Invalid>> {
    let Owned { wire, owner } = owned;
    let Some(mut key) = wire.api_key else { return Err(vec![Invalid::new("api_key", "is needed")]) };
    if key.subscriber.is_empty() {
        key.subscriber.clone_from(&owner);
    } else if key.subscriber != owner {
        return Err(vec![Invalid::new("api_key.subscriber", format!("must be `{owner}`, under which the key stands, or be left out"))]);
    }
    let key = keys::api_key(key).map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.within("api_key")).collect::<Vec<_>>())?;
    Ok(DeclaredKey { key, value: (!wire.value.is_empty()).then_some(wire.value) })
}

/// What was done, as a message shows it.
pub fn changes_to_wire(done: &[Difference]) -> Vec<Change> {
    let one = |one: &Difference| Change {
        action: match one.action {
            Action::Create => WireAction::Create,
            Action::Update => WireAction::Update,
            Action::Delete => WireAction::Delete,
        }
        .into(),
        kind: one.kind.word().to_owned(),
        id: one.id.to_string(),
        fields: one.fields.iter().map(|&field| field.to_owned()).collect(),
    };
    done.iter().map(one).collect()
}
