//! Sets of resources, and what applying them does.

use prost_types::FieldMask;

use crate::catalog::{
    Action, Changed, Declared, DeclaredKey, DeclaredSubscriber, Difference, Kind,
};
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::Mistakes;
use crate::grpc::pb::tollgate as pb;
use pb::apply_request::Kind as WireKind;
use pb::apply_response::change::Action as WireAction;
use pb::apply_response::{Change, Value};

use super::{keys, plans, subscribers, targets};

/// The set that a message declares, or all that is wrong with it.
pub fn declared(wire: pb::ApplyRequest) -> Result<Declared, Vec<Invalid>> {
    let mut set = Collected::default();
    set.add(wire);
    set.finish()
}

/// A set whose parts come one after the other. Places in its mistakes count over all parts.
#[derive(Debug, Default)]
pub struct Collected {
    declared: Declared,
    found: Mistakes,
    /// How many there were so far, also of those that cannot be used.
    counts: Counts,
    prune: bool,
}

#[derive(Debug, Default)]
struct Counts {
    targets: usize,
    plans: usize,
    subscribers: usize,
}

impl Collected {
    /// Adds a part.
    pub fn add(&mut self, wire: pb::ApplyRequest) {
        let found = &mut self.found;
        self.prune |= wire.prune;
        self.declared.prune.most |= wire.prune_all;
        self.declared.prune.kinds.extend(kinds(&wire.prune_kinds, found));
        let targets = with_masks("target_masks", wire.targets, wire.target_masks, found);
        let plans = with_masks("usage_plan_masks", wire.usage_plans, wire.usage_plan_masks, found);
        let (counts, set) = (&mut self.counts, &mut self.declared);
        set.targets.extend(each(
            "targets",
            &mut counts.targets,
            targets,
            |(wire, mask)| targets::stated(wire, mask),
            found,
        ));
        set.plans.extend(each(
            "usage_plans",
            &mut counts.plans,
            plans,
            |(wire, mask)| plans::stated(wire, mask),
            found,
        ));
        set.subscribers.extend(each(
            "subscribers",
            &mut counts.subscribers,
            wire.subscribers,
            subscriber,
            found,
        ));
    }

    /// The set of all parts, or all that is wrong with it.
    pub fn finish(mut self) -> Result<Declared, Vec<Invalid>> {
        let Counts { targets, plans, subscribers } = self.counts;
        let prune = &mut self.declared.prune;
        if self.prune {
            let named =
                [(Kind::Target, targets), (Kind::Plan, plans), (Kind::Subscriber, subscribers)];
            prune
                .kinds
                .extend(named.into_iter().filter(|(_, count)| *count > 0).map(|(kind, _)| kind));
            if prune.kinds.is_empty() {
                let reason = "deletes of the kinds of which something is named, and nothing is: name a resource, or the kind in `prune_kinds`";
                self.found.add("prune", reason);
            }
        } else {
            for (field, given) in
                [("prune_kinds", !prune.kinds.is_empty()), ("prune_all", prune.most)]
            {
                if given {
                    self.found.add(field, "is for `prune` alone, which is not set");
                }
            }
        }
        self.found.or_else(self.declared)
    }
}

fn kinds(wire: &[i32], found: &mut Mistakes) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (i, kind) in wire.iter().enumerate() {
        match WireKind::try_from(*kind) {
            Ok(WireKind::Target) => kinds.push(Kind::Target),
            Ok(WireKind::Plan) => kinds.push(Kind::Plan),
            Ok(WireKind::Subscriber) => kinds.push(Kind::Subscriber),
            Ok(WireKind::Unspecified) | Err(_) => {
                found.add(format!("prune_kinds[{i}]"), "must be TARGET, PLAN or SUBSCRIBER")
            }
        }
    }
    kinds
}

/// Each with its mask.
fn with_masks<W>(
    field: &str,
    wire: Vec<W>,
    masks: Vec<FieldMask>,
    found: &mut Mistakes,
) -> Vec<(W, Option<FieldMask>)> {
    if !masks.is_empty() && masks.len() != wire.len() {
        found.add(
            field,
            format!("must be one for each of {}, or none at all, not {}", wire.len(), masks.len()),
        );
    }
    let mut masks = masks.into_iter();
    wire.into_iter().map(|wire| (wire, masks.next())).collect()
}

/// `before` are those that came in earlier parts.
fn each<W, T>(
    field: &str,
    before: &mut usize,
    wire: Vec<W>,
    read: impl Fn(W) -> Result<T, Vec<Invalid>>,
    found: &mut Mistakes,
) -> Vec<T> {
    let mut all = Vec::with_capacity(wire.len());
    for wire in wire {
        match read(wire) {
            Ok(one) => all.push(one),
            Err(mistakes) => found.add_all_within(&format!("{field}[{before}]"), mistakes),
        }
        *before += 1;
    }
    all
}

fn subscriber(wire: pb::SubscriberWithKeys) -> Result<DeclaredSubscriber, Vec<Invalid>> {
    let Some(subscriber) = wire.subscriber else {
        return Err(vec![Invalid::new("subscriber", "is needed")]);
    };
    let mut found = Mistakes::default();
    let (owner, has_keys) = (subscriber.id.clone(), !wire.keys.is_empty());
    let keys = each("keys", &mut 0, wire.keys, |wire| key(wire, &owner), &mut found);
    match subscribers::stated(subscriber, wire.mask, has_keys) {
        Ok(subscriber) => found.or_else(DeclaredSubscriber { subscriber, keys }),
        Err(mistakes) => {
            let of_keys = found.or_else(()).err().unwrap_or_default();
            Err(mistakes
                .into_iter()
                .map(|mistake| mistake.within("subscriber"))
                .chain(of_keys)
                .collect())
        }
    }
}

/// An API key that stands under the subscriber `owner`.
fn key(wire: pb::ApiKeyWithValue, owner: &str) -> Result<DeclaredKey, Vec<Invalid>> {
    let Some(mut key) = wire.api_key else {
        return Err(vec![Invalid::new("api_key", "is needed")]);
    };
    if key.subscriber.is_empty() {
        owner.clone_into(&mut key.subscriber);
    } else if key.subscriber != owner {
        return Err(vec![Invalid::new(
            "api_key.subscriber",
            format!("must be `{owner}`, under which the key stands, or be left out"),
        )]);
    }
    let key = keys::stated(key, wire.mask);
    let key = key.map_err(|mistakes| {
        mistakes.into_iter().map(|mistake| mistake.within("api_key")).collect::<Vec<_>>()
    })?;
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
        fields: fields(&one.changed),
        values: one.changed.iter().map(value).collect(),
    };
    done.iter().map(one).collect()
}

/// The fields that differ, each once.
fn fields(changed: &[Changed]) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for one in changed {
        if fields.last().is_none_or(|last| last != one.field) {
            fields.push(one.field.to_owned());
        }
    }
    fields
}

fn value(changed: &Changed) -> Value {
    Value {
        path: changed.path.clone(),
        before: changed.before.clone(),
        after: changed.after.clone(),
    }
}
