//! What the service keeps, as messages of `tollgate.v1`: see [`StoredForms`].

use prost::Message;

use super::convert::{instant_ns, keys, plans, quotas, subscribers, targets, timestamp};
use super::pb::tollgate as pb;
use crate::catalog::{Catalog, Kind, Stored};
use crate::decide::calendar::Period;
use crate::decide::invalid::Invalid;
use crate::decide::plan::{ApiKey, LastFour};
use crate::decide::time::SECOND_NS;
use crate::decide::verdict::{Decision, LimitKind, LimitScope, LimitStatus, Verdict};
use crate::service::grant::GrantAnswer;
use crate::service::stored::{Resource, StoredForms};

/// The forms that every ledger has had so far.
#[derive(Clone, Copy, Debug)]
pub struct Messages;

impl StoredForms for Messages {
    fn write_resource(&self, catalog: &Catalog, kind: Kind, id: &str) -> Option<Vec<u8>> {
        Some(match kind {
            Kind::Target => targets::to_wire(catalog.targets().get(id)?).encode_to_vec(),
            Kind::Plan => plans::to_wire(catalog.plans().get(id)?).encode_to_vec(),
            Kind::Subscriber => {
                subscribers::to_wire(catalog.subscribers().get(id)?).encode_to_vec()
            }
            Kind::Key => keys::to_wire(catalog.keys().get(id)?).encode_to_vec(),
        })
    }

    fn read_resource(&self, kind: Kind, written: &[u8]) -> Result<Resource, String> {
        Ok(match kind {
            Kind::Target => {
                let wire: pb::Target = message(written)?;
                let when = (wire.revision, wire.create_time, wire.update_time);
                Resource::Target(stored(targets::target(wire).map_err(listed)?, when))
            }
            Kind::Plan => {
                let wire: pb::UsagePlan = message(written)?;
                let when = (wire.revision, wire.create_time, wire.update_time);
                Resource::Plan(stored(plans::plan(wire).map_err(listed)?, when))
            }
            Kind::Subscriber => {
                let wire: pb::Subscriber = message(written)?;
                let when = (wire.revision, wire.create_time, wire.update_time);
                Resource::Subscriber(stored(subscribers::subscriber(wire).map_err(listed)?, when))
            }
            Kind::Key => {
                let wire: pb::ApiKey = message(written)?;
                let when = (wire.revision, wire.create_time, wire.update_time);
                let last_four = LastFour::new(&wire.last_four).unwrap_or_default();
                let key = ApiKey { last_four, ..keys::api_key(wire).map_err(listed)? };
                Resource::Key(stored(key, when))
            }
        })
    }

    fn write_admission(&self, decision: &Decision<'_>) -> Vec<u8> {
        let answer = pb::CheckResponse {
            over_quota: decision.verdict == Verdict::Allow { over_quota: true },
            receipt: decision.receipt.clone().unwrap_or_default(),
            plan: decision.plan.to_string(),
            entitlement: decision.entitlement.to_string(),
            subscriber: decision.subscriber.to_string(),
            limits: decision.limits.iter().map(limit_to_wire).collect(),
            ..pb::CheckResponse::default()
        };
        answer.encode_to_vec()
    }

    fn read_admission(&self, written: &[u8]) -> Option<Decision<'static>> {
        let answer = pb::CheckResponse::decode(written).ok()?;
        Some(Decision {
            verdict: Verdict::Allow { over_quota: answer.over_quota },
            plan: answer.plan.into(),
            entitlement: answer.entitlement.into(),
            subscriber: answer.subscriber.into(),
            limits: answer.limits.into_iter().map(limit).collect::<Option<_>>()?,
            receipt: (!answer.receipt.is_empty()).then_some(answer.receipt),
            note: None,
        })
    }

    fn write_grant(&self, answer: &GrantAnswer) -> Vec<u8> {
        grant_to_wire(answer).encode_to_vec()
    }

    fn read_grant(&self, written: &[u8]) -> Option<GrantAnswer> {
        let wire = pb::QuotaUsage::decode(written).ok()?;
        Some(GrantAnswer {
            unit: quotas::unit_of(wire.unit())?,
            subscriber: wire.subscriber.into(),
            key: (!wire.api_key.is_empty()).then(|| wire.api_key.into()),
            plan: wire.plan.into(),
            entitlement: wire.entitlement.into(),
            quota: wire.quota.into(),
            period: Period {
                start_ns: instant_ns(wire.period_start?)?,
                end_ns: instant_ns(wire.period_end?)?,
            },
            limit: wire.limit,
            granted: wire.granted,
            used: wire.used,
            remaining: wire.remaining,
        })
    }
}

/// The message that answers a grant.
pub(super) fn grant_to_wire(answer: &GrantAnswer) -> pb::QuotaUsage {
    pb::QuotaUsage {
        subscriber: answer.subscriber.to_string(),
        api_key: answer.key.as_deref().unwrap_or_default().to_owned(),
        plan: answer.plan.to_string(),
        entitlement: answer.entitlement.to_string(),
        quota: answer.quota.to_string(),
        unit: quotas::unit_to_wire(answer.unit).into(),
        period_start: Some(timestamp(answer.period.start_ns)),
        period_end: Some(timestamp(answer.period.end_ns)),
        limit: answer.limit,
        granted: answer.granted,
        used: answer.used,
        remaining: answer.remaining,
        lost: 0,
    }
}

fn message<M: Message + Default>(written: &[u8]) -> Result<M, String> {
    M::decode(written).map_err(|error| error.to_string())
}

fn listed(mistakes: Vec<Invalid>) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

type When = (u64, Option<prost_types::Timestamp>, Option<prost_types::Timestamp>);

fn stored<T>(value: T, (revision, create, update): When) -> Stored<T> {
    let ns = |time: Option<prost_types::Timestamp>| {
        let time = time.unwrap_or_default();
        let seconds = u64::try_from(time.seconds).unwrap_or_default();
        seconds
            .saturating_mul(SECOND_NS)
            .saturating_add(u64::try_from(time.nanos).unwrap_or_default())
    };
    Stored { value, revision, create_ns: ns(create), update_ns: ns(update) }
}

const SCOPES: [(LimitScope, pb::limit_status::Scope); 4] = [
    (LimitScope::Entitlement, pb::limit_status::Scope::Entitlement),
    (LimitScope::Method, pb::limit_status::Scope::Method),
    (LimitScope::Target, pb::limit_status::Scope::Target),
    (LimitScope::Account, pb::limit_status::Scope::Account),
];

fn limit_to_wire(limit: &LimitStatus<'_>) -> pb::LimitStatus {
    pb::LimitStatus {
        name: limit.name.to_string(),
        scope: SCOPES
            .iter()
            .find(|(scope, _)| *scope == limit.scope)
            .map(|(_, wire)| *wire)
            .unwrap_or_default()
            .into(),
        kind: match limit.kind {
            LimitKind::Rate => pb::limit_status::Kind::Rate.into(),
            LimitKind::Quota => pb::limit_status::Kind::Quota.into(),
        },
        limit: limit.limit,
        remaining: limit.remaining,
        reset_after: Some(duration(limit.reset_after_ns)),
        window: Some(duration(limit.window_ns)),
        violated: limit.violated,
    }
}

fn limit(wire: pb::LimitStatus) -> Option<LimitStatus<'static>> {
    Some(LimitStatus {
        scope: SCOPES.iter().find(|(_, scope)| *scope == wire.scope()).map(|(scope, _)| *scope)?,
        // It was admitted: what was violated refuses nobody, and nothing has to be waited for.
        enforced: !wire.violated,
        wait_ns: Some(0),
        kind: match wire.kind() {
            pb::limit_status::Kind::Rate => LimitKind::Rate,
            pb::limit_status::Kind::Quota => LimitKind::Quota,
            pb::limit_status::Kind::Unspecified => return None,
        },
        name: wire.name.into(),
        limit: wire.limit,
        remaining: wire.remaining,
        reset_after_ns: nanoseconds(wire.reset_after?)?,
        window_ns: nanoseconds(wire.window?)?,
        violated: wire.violated,
    })
}

fn duration(ns: u64) -> prost_types::Duration {
    let (seconds, nanos) = (ns / SECOND_NS, ns % SECOND_NS);
    prost_types::Duration {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

fn nanoseconds(duration: prost_types::Duration) -> Option<u64> {
    let (seconds, nanos) =
        (u64::try_from(duration.seconds).ok()?, u64::try_from(duration.nanos).ok()?);
    seconds.checked_mul(SECOND_NS)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::compiled::QuotaIdentity;
    use crate::decide::plan::{PeriodUnit, Weekday};
    use crate::decide::quota::Row;
    use crate::engine::plans::QuotaUsage;
    use crate::grpc::convert::usage;

    #[test]
    fn an_admission_comes_back_as_it_was_written() {
        let limit = |kind, ns| LimitStatus {
            name: "q".into(),
            kind,
            limit: u64::MAX,
            remaining: 7,
            reset_after_ns: ns,
            window_ns: u64::MAX,
            violated: ns == 0,
            scope: LimitScope::Account,
            enforced: ns != 0,
            wait_ns: Some(0),
        };
        for (over_quota, receipt) in [(false, None), (true, Some("receipt".to_owned()))] {
            let decision = Decision {
                verdict: Verdict::Allow { over_quota },
                plan: "gold".into(),
                entitlement: "all".into(),
                subscriber: "acme".into(),
                limits: [limit(LimitKind::Rate, 0), limit(LimitKind::Quota, 1_234_567_890_123)]
                    .into_iter()
                    .collect(),
                receipt,
                note: None,
            };
            let written = Messages.write_admission(&decision);
            assert_eq!(Messages.read_admission(&written), Some(decision));
        }
        assert_eq!(Messages.read_admission(&[2; 40]), None);
    }

    /// As a grant of an older program was written: it must stay readable, byte by byte.
    #[test]
    fn an_answer_to_a_grant_is_the_message_of_its_period() {
        let answer = GrantAnswer {
            subscriber: "acme".into(),
            key: Some("k".into()),
            plan: "gold".into(),
            entitlement: "all".into(),
            quota: "daily".into(),
            unit: PeriodUnit::Day,
            period: Period { start_ns: 86_400 * SECOND_NS, end_ns: 172_800 * SECOND_NS + 7 },
            limit: 9,
            granted: -2,
            used: 3,
            remaining: 4,
        };
        let identity = QuotaIdentity {
            name: "daily".into(),
            unit: PeriodUnit::Day,
            time_zone: "UTC".into(),
            week_start: Weekday::Monday,
        };
        let usage = QuotaUsage {
            subscriber: "acme".into(),
            key: Some("k".into()),
            plan: "gold".into(),
            entitlement: "all".into(),
            quota: identity.into(),
            limit: Some(9),
            row: Row { period: answer.period, used: 3, granted: -2 },
            lost: 0,
        };
        let written = Messages.write_grant(&answer);
        assert_eq!(written, usage::quota_to_wire(&usage).encode_to_vec());
        assert_eq!(Messages.read_grant(&written), Some(answer));
        assert_eq!(Messages.read_grant(&[]), None);
    }
}
