//! Statistics by day (UTC). They never feed a decision.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::fingerprint::{ByFingerprint, Fingerprints};
use crate::decide::outcome::Class;
use crate::decide::plan::Id;
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::Reason;

const DAY_S: u64 = 86_400;

/// Whom a statistic is about. Empty where it is not known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) subscriber: &'a Id,
    pub(super) key: &'a Id,
    pub(super) plan: &'a Id,
    pub(super) entitlement: &'a Id,
    pub(super) target: &'a Id,
}

/// What happened to the requests of one key under one entitlement to one target on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DailyUsage {
    /// Days since 1970-01-01, UTC.
    pub day: u64,
    pub subscriber: Id,
    pub key: Id,
    /// Empty where a request was refused before it was known; likewise the next two.
    pub plan: Id,
    pub entitlement: Id,
    pub target: Id,
    pub admitted: u64,
    /// By [`Reason`], in the order of [`Reason::ALL`].
    pub refused: [u64; Reason::ALL.len()],
    /// By [`Class`], in the order of [`Class::ALL`].
    pub responses: [u64; Class::ALL.len()],
}

/// One thing to count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Admitted,
    Refused(Reason),
    Response(Class),
}

/// Which books to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    All,
    Subscriber(&'a str),
    Key(&'a str),
    Plan(&'a str),
}

/// Days of everyone.
#[derive(Debug)]
pub(super) struct Usage {
    rows: ByFingerprint<DailyUsage>,
    max_rows: usize,
    keep_days: u64,
    dropped: AtomicU64,
}

impl Usage {
    pub(super) fn new(max_rows: usize, keep_days: u64) -> Self {
        Self { rows: ByFingerprint::default(), max_rows, keep_days, dropped: AtomicU64::new(0) }
    }

    pub(super) fn count(&self, fingerprints: &Fingerprints, who: Who<'_>, event: Event, now: Now) {
        let day = now.unix_ns / SECOND_NS / DAY_S;
        let names = [who.subscriber, who.key, who.plan, who.entitlement, who.target].map(|name| name.as_bytes());
        let [subscriber, key, plan, entitlement, target] = names;
        let fingerprint = fingerprints.of(b'd', &[&day.to_le_bytes(), subscriber, key, plan, entitlement, target]);
        if let Some(mut row) = self.rows.get_mut(&fingerprint) {
            return row.count(event);
        }
        // Threads that race here may pass the bound by their number.
        if self.rows.len() >= self.max_rows {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.rows.entry(fingerprint).or_insert_with(|| DailyUsage::new(day, who)).count(event);
    }

    /// The rows of a scope, from the first to the last day, both included, in the order of day and names.
    pub(super) fn list(&self, scope: Scope<'_>, first_day: u64, last_day: u64) -> Vec<DailyUsage> {
        let wanted = |row: &DailyUsage| {
            (first_day..=last_day).contains(&row.day)
                && match scope {
                    Scope::All => true,
                    Scope::Subscriber(id) => &*row.subscriber == id,
                    Scope::Key(id) => &*row.key == id,
                    Scope::Plan(id) => &*row.plan == id,
                }
        };
        let mut rows: Vec<DailyUsage> = self.rows.iter().filter(|row| wanted(row)).map(|row| row.clone()).collect();
        rows.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
        rows
    }

    /// Drops days that are older than they are kept.
    pub(super) fn sweep(&self, now: Now) {
        let today = now.unix_ns / SECOND_NS / DAY_S;
        self.rows.retain(|_, row| row.day.saturating_add(self.keep_days) > today);
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Events that found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl DailyUsage {
    fn new(day: u64, who: Who<'_>) -> Self {
        Self {
            day,
            subscriber: Arc::clone(who.subscriber),
            key: Arc::clone(who.key),
            plan: Arc::clone(who.plan),
            entitlement: Arc::clone(who.entitlement),
            target: Arc::clone(who.target),
            admitted: 0,
            refused: Default::default(),
            responses: Default::default(),
        }
    }

    fn count(&mut self, event: Event) {
        let counter = match event {
            Event::Admitted => Some(&mut self.admitted),
            Event::Refused(reason) => Reason::ALL.iter().position(|&known| known == reason).and_then(|place| self.refused.get_mut(place)),
            Event::Response(class) => Class::ALL.iter().position(|&known| known == class).and_then(|place| self.responses.get_mut(place)),
        };
        if let Some(counter) = counter {
            *counter += 1;
        }
    }

    fn order(&self) -> (u64, &str, &str, &str, &str, &str) {
        (self.day, &self.subscriber, &self.key, &self.plan, &self.entitlement, &self.target)
    }

    /// How many were refused for a reason.
    pub fn refused_for(&self, reason: Reason) -> u64 {
        Reason::ALL.iter().zip(self.refused).find(|(known, _)| **known == reason).map_or(0, |(_, count)| count)
    }

    /// How many ended in a class.
    pub fn ended_in(&self, class: Class) -> u64 {
        Class::ALL.iter().zip(self.responses).find(|(known, _)| **known == class).map_or(0, |(_, count)| count)
    }
}
