//! Checks that carry an operation id: the same check sent again gets the first answer and charges
//! nothing more.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Checked;
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::Decision;
use crate::engine::filed::ByFingerprint;
use crate::engine::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};
use crate::fingerprint::Fingerprint;

/// How long an admission is remembered.
pub const REMEMBERED_NS: u64 = 60 * SECOND_NS;

/// The operation id was used for another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OtherFields;

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Undecided,
    Admitted {
        /// Fingerprint of the request.
        fields: Fingerprint,
        decision: Box<Decision<'static>>,
        /// On the steady clock.
        until_ns: u64,
    },
    /// No longer in the map.
    Abandoned,
}

type Shared = Arc<Mutex<Slot>>;

/// An admission that is remembered by its operation id, to be kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptOperation {
    /// Names the API key and the operation id.
    pub id: [u8; 16],
    /// Names all that was asked.
    pub fields: [u8; 16],
    pub decision: Decision<'static>,
    /// On the steady clock.
    pub until_ns: u64,
}

/// The admissions of the last minute that carried an operation id.
#[derive(Debug)]
pub(super) struct Operations {
    slots: ByFingerprint<Shared>,
    /// Oldest first.
    admitted: Mutex<VecDeque<(Fingerprint, u64, Shared)>>,
    max: usize,
    forgotten: AtomicU64,
}

impl Operations {
    pub(super) fn new(max: usize) -> Self {
        Self {
            slots: ByFingerprint::default(),
            admitted: Mutex::default(),
            max,
            forgotten: AtomicU64::new(0),
        }
    }

    /// Decides, unless this operation was admitted in the last minute. Of several at once, one
    /// decides and the others wait for its answer.
    pub(super) fn once<'a>(
        &self,
        id: Fingerprint,
        fields: Fingerprint,
        now: Now,
        decide: impl FnOnce() -> Checked<'a>,
    ) -> Result<Checked<'a>, OtherFields> {
        loop {
            let shared = Arc::clone(&self.slots.entry(id).or_default());
            let mut slot = shared.lock();
            match &*slot {
                Slot::Abandoned => {}
                Slot::Admitted { until_ns, .. } if *until_ns <= now.steady_ns => {
                    self.abandon(id, &shared, &mut slot)
                }
                Slot::Admitted { fields: first, decision, .. } => {
                    return if *first == fields {
                        Ok(Checked::Decided(Decision::clone(decision).into_owned()))
                    } else {
                        Err(OtherFields)
                    };
                }
                Slot::Undecided => {
                    let checked = decide();
                    match &checked {
                        Checked::Decided(decision) if decision.verdict.is_allowed() => {
                            let until_ns = now.steady_ns.saturating_add(REMEMBERED_NS);
                            *slot = Slot::Admitted {
                                fields,
                                decision: Box::new(decision.clone().into_owned()),
                                until_ns,
                            };
                            drop(slot);
                            self.remember(id, until_ns, shared, now);
                        }
                        // Undecided: whoever of those that ask at once comes first with the units
                        // decides.
                        Checked::Decided(_) | Checked::Needs(_) => {
                            self.abandon(id, &shared, &mut slot)
                        }
                    }
                    return Ok(checked);
                }
            }
        }
    }

    fn abandon(&self, id: Fingerprint, shared: &Shared, slot: &mut Slot) {
        *slot = Slot::Abandoned;
        self.slots.remove_if(&id, |_, kept| Arc::ptr_eq(kept, shared));
    }

    fn remember(&self, id: Fingerprint, until_ns: u64, shared: Shared, now: Now) {
        let mut admitted = self.admitted.lock();
        admitted.push_back((id, until_ns, shared));
        let mut over = admitted.len().saturating_sub(self.max);
        while admitted
            .front()
            .is_some_and(|(_, until_ns, _)| over > 0 || *until_ns <= now.steady_ns)
        {
            let Some((id, until_ns, shared)) = admitted.pop_front() else { break };
            self.slots.remove_if(&id, |_, kept| Arc::ptr_eq(kept, &shared));
            if until_ns > now.steady_ns {
                self.forgotten.fetch_add(1, Ordering::Relaxed);
            }
            over = over.saturating_sub(1);
        }
    }

    /// The newest of what is remembered, at most so many, the oldest of them first.
    pub(super) fn newest(&self, most: usize, now: Now) -> Vec<KeptOperation> {
        let newest: Vec<_> = {
            let admitted = self.admitted.lock();
            admitted
                .iter()
                .skip(admitted.len().saturating_sub(most))
                .map(|(id, _, shared)| (*id, Arc::clone(shared)))
                .collect()
        };
        let kept = newest.into_iter().filter_map(|(id, shared)| match &*shared.lock() {
            Slot::Admitted { fields, decision, until_ns } if *until_ns > now.steady_ns => {
                Some(KeptOperation {
                    id: id.to_le_bytes(),
                    fields: fields.to_le_bytes(),
                    decision: (**decision).clone(),
                    until_ns: *until_ns,
                })
            }
            _ => None,
        });
        kept.collect()
    }

    /// Remembers what was kept, unless it is over.
    pub(super) fn restore(&self, kept: KeptOperation, now: Now) {
        let KeptOperation { id, fields, decision, until_ns } = kept;
        if until_ns <= now.steady_ns {
            return;
        }
        let (id, fields) = (Fingerprint::from_le_bytes(id), Fingerprint::from_le_bytes(fields));
        let shared =
            Arc::new(Mutex::new(Slot::Admitted { fields, decision: Box::new(decision), until_ns }));
        self.slots.insert(id, Arc::clone(&shared));
        self.remember(id, until_ns, shared, now);
    }

    /// Drops what is older than a minute.
    pub(super) fn sweep(&self, now: Now) {
        let mut admitted = self.admitted.lock();
        while admitted.front().is_some_and(|(_, until_ns, _)| *until_ns <= now.steady_ns) {
            if let Some((id, _, shared)) = admitted.pop_front() {
                self.slots.remove_if(&id, |_, kept| Arc::ptr_eq(kept, &shared));
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Admissions that were dropped before their time, because there were too many.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }
}
