//! Where a row of usage stands, and the tokens that say so.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::UsageRequest;
use crate::catalog::Catalog;
use crate::decide::invalid::Invalid;
use crate::decide::ledger::{DailyUsage, Scope, Whose};
use crate::decide::plan::Id;
use crate::engine::plans::QuotaUsage;

/// Bytes that tie a token to its request.
const TAG: usize = 8;

/// Where a row stands in the order of the answer: periods first. No row has an empty name, so a
/// place with one is before all such rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Quota(QuotaPlace),
    Day(u64, [String; 5]),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QuotaPlace {
    subscriber: String,
    /// Empty: counted by subscriber.
    key: String,
    plan: String,
    entitlement: String,
    quota: String,
    start_ns: u64,
    unit: u8,
    time_zone: String,
    week_start: u8,
}

impl Place {
    /// Before everything.
    pub(super) fn start() -> Self {
        Self::Quota(QuotaPlace::default())
    }

    /// Before the periods of a subscriber or key.
    pub(super) fn before_whose((subscriber, key): &Whose) -> Self {
        let key = key.as_deref().unwrap_or_default().to_owned();
        Self::Quota(QuotaPlace { subscriber: subscriber.to_string(), key, ..QuotaPlace::default() })
    }

    /// Before the rows of a day, and after all of the days before.
    pub(super) fn before_day(day: u64) -> Self {
        Self::Day(day, Default::default())
    }

    pub(super) fn of_quota(row: &QuotaUsage) -> Self {
        let (subscriber, key, plan, entitlement, quota, start_ns, (unit, time_zone, week_start)) =
            row.order();
        let [subscriber, key, plan, entitlement, quota, time_zone] =
            [subscriber, key.unwrap_or_default(), plan, entitlement, quota, time_zone]
                .map(str::to_owned);
        // What an enumeration without values is as a number: its place in the order.
        let (unit, week_start) = (unit as u8, week_start as u8);
        Self::Quota(QuotaPlace {
            subscriber,
            key,
            plan,
            entitlement,
            quota,
            start_ns,
            unit,
            time_zone,
            week_start,
        })
    }

    pub(super) fn of_day(row: &DailyUsage) -> Self {
        Self::Day(
            row.of.day,
            [&row.of.subscriber, &row.of.key, &row.of.plan, &row.of.entitlement, &row.of.target]
                .map(ToString::to_string),
        )
    }

    /// The day that it is on. `None`: it is among the periods.
    pub(super) fn day(&self) -> Option<u64> {
        match self {
            Self::Quota(_) => None,
            Self::Day(day, _) => Some(*day),
        }
    }

    /// Whose period it is.
    pub(super) fn whose(&self) -> Whose {
        match self {
            Self::Quota(QuotaPlace { subscriber, key, .. }) => (
                subscriber.as_str().into(),
                Some(key).filter(|key| !key.is_empty()).map(|key| Id::from(key.as_str())),
            ),
            Self::Day(..) => Whose::default(),
        }
    }

    fn to_text(&self) -> String {
        // No name holds a line feed.
        match self {
            Self::Quota(QuotaPlace {
                subscriber,
                key,
                plan,
                entitlement,
                quota,
                start_ns,
                unit,
                time_zone,
                week_start,
            }) => {
                format!(
                    "q\n{subscriber}\n{key}\n{plan}\n{entitlement}\n{quota}\n{start_ns}\n{unit}\n{time_zone}\n{week_start}"
                )
            }
            Self::Day(day, names) => format!("d\n{day}\n{}", names.join("\n")),
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split('\n');
        let list = parts.next()?;
        let mut text = || parts.next().map(str::to_owned);
        let place = match list {
            "q" => {
                let (subscriber, key, plan, entitlement, quota) =
                    (text()?, text()?, text()?, text()?, text()?);
                let (start_ns, unit, time_zone, week_start) =
                    (text()?.parse().ok()?, text()?.parse().ok()?, text()?, text()?.parse().ok()?);
                Self::Quota(QuotaPlace {
                    subscriber,
                    key,
                    plan,
                    entitlement,
                    quota,
                    start_ns,
                    unit,
                    time_zone,
                    week_start,
                })
            }
            "d" => Self::Day(text()?.parse().ok()?, [text()?, text()?, text()?, text()?, text()?]),
            _ => return None,
        };
        parts.next().is_none().then_some(place)
    }
}

/// What a token belongs to: with another scope or other days it would lead nowhere.
pub(super) struct Token<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) request: &'a UsageRequest,
}

impl Token<'_> {
    pub(super) fn write(&self, days: &RangeInclusive<u64>, at: &Place) -> String {
        let payload = format!("{}\n{}\n{}", days.start(), days.end(), at.to_text());
        let mut bytes = self.tag(payload.as_bytes()).to_vec();
        bytes.extend(payload.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The days that the first page was asked for, and where the last page ended. `None` for an
    /// empty text: the first page. Errors: a text that is no token of this request.
    pub(super) fn read(&self) -> Result<Option<(RangeInclusive<u64>, Place)>, Invalid> {
        if self.request.page_token.is_empty() {
            return Ok(None);
        }
        self.place().map(Some).ok_or_else(|| {
            Invalid::new(
                "page_token",
                "is not a token of this request: give the `next_page_token` of the page before, with the same subscriber, key or plan, and the \
                 same `start_date` and `end_date`",
            )
        })
    }

    fn place(&self) -> Option<(RangeInclusive<u64>, Place)> {
        let bytes = URL_SAFE_NO_PAD.decode(&self.request.page_token).ok()?;
        let (tag, payload) = bytes.split_first_chunk::<TAG>()?;
        if *tag != self.tag(payload) {
            return None;
        }
        let mut parts = std::str::from_utf8(payload).ok()?.splitn(3, '\n');
        let (first, last) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((first..=last, Place::from_text(parts.next()?)?))
    }

    fn tag(&self, payload: &[u8]) -> [u8; TAG] {
        let (kind, id) = match &self.request.scope {
            Scope::All => ("", ""),
            Scope::Subscriber(id) => ("subscriber", &**id),
            Scope::Key(id) => ("key", &**id),
            Scope::Plan(id) => ("plan", &**id),
        };
        let asked = [kind, id, &self.request.start_date, &self.request.end_date].map(str::as_bytes);
        self.catalog.page_tag("usage", &[asked[0], asked[1], asked[2], asked[3], payload])
    }
}
