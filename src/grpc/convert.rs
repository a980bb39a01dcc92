//! Messages of `tollgate.v1` to resources and back. What a message says that no resource can be is
//! a mistake with the name of its field; all mistakes of a message are found at once, with those of
//! [`crate::decide::plan::validate`].

use std::collections::BTreeMap;

use prost_types::Timestamp;

use crate::decide::plan::validate::Mistakes;
use crate::decide::plan::{About, Id, Said};
use crate::decide::time::SECOND_NS;

pub mod apply;
pub mod keys;
mod limits;
mod mask;
pub mod plans;
pub mod quotas;
pub mod requests;
pub mod subscribers;
pub mod targets;
pub mod usage;

#[cfg(test)]
mod tests;

/// What all resources carry. A display name that is the id is as good as left out.
fn about(
    id: &str,
    display_name: String,
    description: String,
    labels: BTreeMap<String, String>,
) -> About {
    let display_name = if display_name == id { String::new() } else { display_name };
    Said { display_name, description, labels }.into()
}

fn ids<L: FromIterator<Id>>(texts: Vec<String>) -> L {
    texts.into_iter().map(Id::from).collect()
}

fn optional_id(text: String) -> Option<Id> {
    (!text.is_empty()).then(|| text.into())
}

fn texts(ids: &[Id]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// The member of an enumeration that a number stands for; a number without one is a mistake.
fn member<E: TryFrom<i32> + Default>(field: String, number: i32, found: &mut Mistakes) -> E {
    E::try_from(number).unwrap_or_else(|_| {
        found.add(field, format!("has no value of the number {number}"));
        E::default()
    })
}

/// An instant in nanoseconds since the Unix epoch.
fn instant(field: &str, time: Option<Timestamp>, found: &mut Mistakes) -> Option<u64> {
    let at_ns = instant_ns(time?);
    if at_ns.is_none() {
        found.add(field, "must be an instant of the years 1970 to 2554");
    }
    at_ns
}

/// Nanoseconds after the Unix epoch. `None`: before it, or too far after it.
pub(super) fn instant_ns(time: Timestamp) -> Option<u64> {
    let seconds =
        u64::try_from(time.seconds).ok().and_then(|seconds| seconds.checked_mul(SECOND_NS))?;
    let nanos = u64::try_from(time.nanos).ok().filter(|nanos| *nanos < SECOND_NS)?;
    seconds.checked_add(nanos)
}

/// The instant that `at_ns` nanoseconds after the Unix epoch is.
pub fn timestamp(at_ns: u64) -> Timestamp {
    // Both quotients are far below the bounds of their types.
    Timestamp {
        seconds: i64::try_from(at_ns / SECOND_NS).unwrap_or(i64::MAX),
        nanos: i32::try_from(at_ns % SECOND_NS).unwrap_or(i32::MAX),
    }
}
