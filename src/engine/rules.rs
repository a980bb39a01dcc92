//! The counters of rate-limit rules: fixed windows as the reference service counts them, and token
//! buckets.
//!
//! Each counter lives in memory for as long as it can still refuse anything. At
//! [`RuleEngine::max_counters`] nothing that lives is pushed out: fresh keys of a rule then share
//! [`OVERFLOW_COUNTERS`] hashed counters, which may refuse early and never admit more. A key that
//! gets a counter of its own later starts from what its overflow counter had seen.
//!
//! Windows of an hour and longer survive restarts: see [`keeping`].

mod counter;
pub mod decision;
pub mod durable;
pub mod keeping;
pub mod tally;

use hashbrown::HashTable;
use smallvec::SmallVec;

use self::counter::Counter;
pub use self::counter::{Budget, Standing};
use self::keeping::Kept;
use super::table::{Locked, Table};
use crate::decide::time::Now;
use crate::engine::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
use crate::fingerprint::{Fingerprint, Fingerprinter};

/// How many counters the fresh keys of one rule share at the bound.
pub const OVERFLOW_COUNTERS: u64 = 4096;

/// Few where each of very many schedules makes them anew.
const SHARDS: usize = if cfg!(all(test, feature = "schedules")) { 16 } else { 1024 };

/// One counter and what is asked of it.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    counter: Fingerprint,
    rule: RuleName<'a>,
    pub budget: Budget,
    pub hits: u64,
    /// The hits are given back.
    pub negative: bool,
}

/// The domain and the levels of a rule. It names overflow counters, so it is looked at where there
/// are any, and not before.
type RuleName<'a> = SmallVec<[&'a [u8]; 5]>;

/// How the asks of one request belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Each is charged on its own, also when it is refused (as the reference does).
    Each,
    /// All are charged, or, when the request is refused, none.
    AllOrNothing,
    /// All are charged, or, where some are over, those alone (the reference's
    /// STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT).
    OverAlone,
}

/// What each ask came to, in order.
pub type Standings = SmallVec<[Standing; 4]>;

/// The counters of all rules.
#[derive(Debug)]
pub struct RuleEngine {
    fingerprinter: Fingerprinter,
    counters: Table<Counter>,
    /// Keyed by rule and bucket; locked after, never before, a shard of `counters`.
    overflow: Mutex<HashTable<(Bucket, Counter)>>,
    max_counters: usize,
    live: AtomicUsize,
    overflow_live: AtomicUsize,
    overflow_asks: AtomicU64,
    next_sweep: AtomicUsize,
    kept: Kept,
}

/// The identity of a counter, in the making. Levels are the descriptor's entries.
#[derive(Debug)]
pub struct Identity<'a> {
    fingerprinter: &'a Fingerprinter,
    counter: IdentityText,
    rule: RuleName<'a>,
}

/// Enough for nearly every identity.
const SHORT: usize = 192;

/// Levels behind each other, each told apart from its neighbours by its length: (`ab`, `c`) and
/// (`a`, `bc`) differ.
#[derive(Debug)]
struct IdentityText {
    short: [u8; SHORT],
    length: usize,
    /// All of it, where it is longer.
    long: Vec<u8>,
}

impl Default for IdentityText {
    #[inline]
    fn default() -> Self {
        Self { short: [0; SHORT], length: 0, long: Vec::new() }
    }
}

impl IdentityText {
    #[inline]
    fn level(&mut self, pieces: &[&[u8]]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.number(u64::try_from(length).unwrap_or(u64::MAX));
        for piece in pieces {
            self.put(piece);
        }
    }

    #[inline]
    fn number(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        match self.short.get_mut(self.length..end) {
            Some(room) => room.copy_from_slice(bytes),
            None => self.put_long(bytes),
        }
        self.length = end;
    }

    #[cold]
    fn put_long(&mut self, bytes: &[u8]) {
        if self.long.is_empty() {
            self.long.extend(self.short.iter().take(self.length));
        }
        self.long.extend(bytes);
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.short.get(..self.length).unwrap_or(&self.long)
    }
}

impl<'a> Identity<'a> {
    /// One entry: what tells counters apart, and what names the rule that they belong to.
    #[inline]
    pub fn level(&mut self, counter: &[&[u8]], rule: &'a [u8]) {
        self.counter.level(counter);
        self.rule.push(rule);
    }

    /// Names the counter, whatever its budget.
    pub fn name(&self) -> [u8; 16] {
        self.fingerprinter.of(self.counter.bytes()).to_be_bytes()
    }

    /// Asks `hits` of this counter. Changing how many requests a budget allows keeps the count;
    /// changing its window or its kind starts afresh. The identity is used up; it is not taken by
    /// value, because its text would be copied for that.
    #[inline]
    pub fn ask(&mut self, budget: Budget, hits: u64, negative: bool) -> Ask<'a> {
        self.counter.number(budget.identity());
        Ask {
            counter: self.fingerprinter.of(self.counter.bytes()),
            rule: std::mem::take(&mut self.rule),
            budget,
            hits,
            negative,
        }
    }
}

impl RuleEngine {
    /// An engine that holds at most `max_counters` counters beside the overflow counters, and
    /// forgets them all when it ends.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn new(max_counters: usize) -> Result<Self, getrandom::Error> {
        let mut key = [0; 16];
        getrandom::fill(&mut key)?;
        Ok(Self::with(Fingerprinter::new(key), max_counters, Kept::default()))
    }

    fn with(fingerprinter: Fingerprinter, max_counters: usize, kept: Kept) -> Self {
        Self {
            fingerprinter,
            counters: Table::new(SHARDS),
            overflow: Mutex::new(HashTable::new()),
            max_counters,
            live: AtomicUsize::new(0),
            overflow_live: AtomicUsize::new(0),
            overflow_asks: AtomicU64::new(0),
            next_sweep: AtomicUsize::new(0),
            kept,
        }
    }

    /// Starts the identity of a counter in `domain`.
    #[inline]
    pub fn identity<'a>(&'a self, domain: &'a [u8]) -> Identity<'a> {
        let mut identity = Identity {
            fingerprinter: &self.fingerprinter,
            counter: IdentityText::default(),
            rule: RuleName::new(),
        };
        identity.level(&[domain], domain);
        identity
    }

    /// Decides and charges. `refuses` says of the standings (all asks checked, in order, as if
    /// charged) whether the request is refused; it is consulted in [`Mode::AllOrNothing`] only, and
    /// then nothing is charged if it does.
    pub fn charge(
        &self,
        asks: &[Ask<'_>],
        mode: Mode,
        now: Now,
        refuses: impl FnOnce(&[Standing]) -> bool,
    ) -> Standings {
        match mode {
            Mode::Each => asks.iter().map(|ask| self.charge_one(ask, now)).collect(),
            Mode::AllOrNothing => self.charge_all(asks, now, refuses),
            Mode::OverAlone => self.charge_over_alone(asks, now),
        }
    }

    fn charge_over_alone(&self, asks: &[Ask<'_>], now: Now) -> Standings {
        let mut held = self.hold(asks);
        let mut staged: SmallVec<[(Place, Counter); 4]> = SmallVec::new();
        let mut standings = Standings::new();
        for ask in asks {
            standings.push(held.stage(ask, Mode::Each, now, &mut staged));
        }
        if standings.iter().any(|standing| standing.over) {
            staged.clear();
            for (ask, standing) in asks.iter().zip(&mut standings) {
                if standing.over {
                    *standing = held.stage(ask, Mode::Each, now, &mut staged);
                    // Over it stays, also where an earlier ask of the same counter is not charged
                    // any more.
                    standing.over = true;
                } else {
                    let place = held.place(ask);
                    *standing = held.read(place, ask, now).without(
                        ask,
                        Standing { after: standing.before, ..*standing },
                        now,
                    );
                }
            }
        }
        for (place, counter) in staged {
            held.write(place, counter);
        }
        standings
    }

    fn charge_one(&self, ask: &Ask<'_>, now: Now) -> Standing {
        let known = self.counters.visit(ask.counter, |known| {
            let mut counter = known.at(&ask.budget, now);
            let standing = counter.charge(ask, Mode::Each, now);
            (standing, known.advance(counter) && self.kept.keeps())
        });
        known.unwrap_or_else(|| self.charge_fresh(ask, now))
    }

    /// The ask had no counter of its own a moment ago.
    fn charge_fresh(&self, ask: &Ask<'_>, now: Now) -> Standing {
        let mut held = self.hold(std::slice::from_ref(ask));
        let place = held.place(ask);
        let mut counter = held.read(place, ask, now);
        let standing = counter.charge(ask, Mode::Each, now);
        held.write(place, counter);
        standing
    }

    fn charge_all(
        &self,
        asks: &[Ask<'_>],
        now: Now,
        refuses: impl FnOnce(&[Standing]) -> bool,
    ) -> Standings {
        let mut held = self.hold(asks);
        let mut staged: SmallVec<[(Place, Counter); 4]> = SmallVec::new();
        let mut standings = Standings::new();
        for ask in asks {
            standings.push(held.stage(ask, Mode::AllOrNothing, now, &mut staged));
        }
        if refuses(&standings) {
            for (ask, standing) in asks.iter().zip(&mut standings) {
                let place = held.place(ask);
                *standing = held.read(place, ask, now).without(ask, *standing, now);
            }
        } else {
            for (place, counter) in staged {
                held.write(place, counter);
            }
        }
        standings
    }

    fn bucket_of(&self, ask: &Ask<'_>) -> Bucket {
        let mut rule = IdentityText::default();
        for level in &ask.rule {
            rule.level(&[level]);
        }
        rule.number(ask.budget.identity());
        (self.fingerprinter.of(rule.bytes()), ask.counter.spread() % OVERFLOW_COUNTERS)
    }

    fn hold(&self, asks: &[Ask<'_>]) -> Held<'_> {
        Held {
            engine: self,
            own: self.counters.lock(asks.iter().map(|ask| ask.counter)),
            overflow: None,
        }
    }

    /// Forgets the dead counters of the next shard in turn. [`Self::sweeps_per_round`] calls go
    /// once over everything.
    pub fn sweep(&self, now: Now) {
        let shard = self.next_sweep.fetch_add(1, Ordering::Relaxed) % self.sweeps_per_round();
        if shard < self.counters.shard_count() {
            let dropped = self
                .counters
                .sweep(shard, |counter| self.kept.forgets(counter, counter.is_dead(now)));
            self.live.fetch_sub(dropped, Ordering::Relaxed);
        } else if self.overflow_live.load(Ordering::Relaxed) > 0 {
            let mut overflow = self.overflow.lock();
            overflow.retain(|(_, counter)| !counter.is_dead(now));
            self.overflow_live.store(overflow.len(), Ordering::Relaxed);
        }
    }

    /// How many calls of [`Self::sweep`] visit every counter once.
    pub fn sweeps_per_round(&self) -> usize {
        self.counters.shard_count() + 1
    }

    /// Counters held now, without the overflow counters.
    pub fn live_counters(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Overflow counters held now.
    pub fn overflow_counters(&self) -> usize {
        self.overflow_live.load(Ordering::Relaxed)
    }

    /// Asks that were charged to an overflow counter since the start.
    pub fn overflow_asks(&self) -> u64 {
        self.overflow_asks.load(Ordering::Relaxed)
    }

    /// The bound on counters.
    pub fn max_counters(&self) -> usize {
        self.max_counters
    }
}

/// Where a counter lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Own(Fingerprint),
    Overflow(Bucket),
}

/// An overflow counter: the rule, and which of its buckets.
type Bucket = (Fingerprint, u64);

fn bucket_hash((rule, bucket): Bucket) -> u64 {
    rule.spread().wrapping_add(bucket.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// The shards that a request needs, held until it is decided. The overflow counters are locked
/// after the shards, never before.
struct Held<'e> {
    engine: &'e RuleEngine,
    own: Locked<'e, Counter>,
    overflow: Option<MutexGuard<'e, HashTable<(Bucket, Counter)>>>,
}

impl Held<'_> {
    fn place(&mut self, ask: &Ask<'_>) -> Place {
        let full = self.engine.live.load(Ordering::Relaxed) >= self.engine.max_counters;
        if full && self.own.get(ask.counter).is_none() {
            Place::Overflow(self.engine.bucket_of(ask))
        } else {
            Place::Own(ask.counter)
        }
    }

    fn read(&mut self, place: Place, ask: &Ask<'_>, now: Now) -> Counter {
        let kept = match place {
            Place::Own(own) => self.own.get(own).copied(),
            Place::Overflow(_) => None,
        };
        // A key without a counter may have been counted in its overflow counter before.
        kept.or_else(|| self.overflowed(ask)).map_or_else(
            || Counter::fresh(&ask.budget, now),
            |counter| counter.at(&ask.budget, now),
        )
    }

    /// Charges an ask to a copy of its counter.
    fn stage(
        &mut self,
        ask: &Ask<'_>,
        mode: Mode,
        now: Now,
        staged: &mut SmallVec<[(Place, Counter); 4]>,
    ) -> Standing {
        let place = self.place(ask);
        // The same counter twice in one request: the second ask sees the first's charge.
        if let Some((_, counter)) = staged.iter_mut().find(|(other, _)| *other == place) {
            return counter.charge(ask, mode, now);
        }
        let mut counter = self.read(place, ask, now);
        let standing = counter.charge(ask, mode, now);
        staged.push((place, counter));
        standing
    }

    fn overflowed(&mut self, ask: &Ask<'_>) -> Option<Counter> {
        if self.overflow.is_none() && self.engine.overflow_live.load(Ordering::Acquire) == 0 {
            return None;
        }
        let bucket = self.engine.bucket_of(ask);
        self.overflow_table()
            .find(bucket_hash(bucket), |(other, _)| *other == bucket)
            .map(|(_, counter)| *counter)
    }

    fn overflow_table(&mut self) -> &mut HashTable<(Bucket, Counter)> {
        self.overflow.get_or_insert_with(|| self.engine.overflow.lock())
    }

    fn write(&mut self, place: Place, mut counter: Counter) {
        match place {
            Place::Own(own) => {
                let changed = if let Some(known) = self.own.get(own) {
                    known.advance(counter)
                } else if counter.is_untouched() {
                    false
                } else {
                    let changed = counter.begin();
                    self.own.insert(own, counter);
                    self.engine.live.fetch_add(1, Ordering::Relaxed);
                    changed
                };
                if changed && self.engine.kept.keeps() {
                    self.own.list(own);
                }
            }
            Place::Overflow(bucket) => {
                let engine = self.engine;
                let overflow = self.overflow_table();
                if let Some((_, kept)) =
                    overflow.find_mut(bucket_hash(bucket), |(other, _)| *other == bucket)
                {
                    *kept = counter;
                } else if !counter.is_untouched() {
                    overflow.insert_unique(bucket_hash(bucket), (bucket, counter), |(other, _)| {
                        bucket_hash(*other)
                    });
                    engine.overflow_live.store(overflow.len(), Ordering::Release);
                }
                engine.overflow_asks.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
