//! The open loop: calls begin at even intervals, whatever the server does. A call that cannot begin
//! in time keeps the moment at which it should have, and its latency counts from there: a server
//! that stalls cannot hide it by not being asked.

use std::io;
use std::rc::Rc;

use super::alarm::Alarm;
use super::worker::{Slot, Worker};

/// So long at most nobody looks whether it is time to stop.
const LOOK_NS: u64 = 50_000_000;

/// Calls that are due within so long begin together: a timer set for each would cost more than the
/// call. Their latencies count from when each was due all the same.
const GRAIN_NS: u64 = 50_000;

/// When calls begin, in nanoseconds after the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Beat {
    first_ns: f64,
    interval_ns: f64,
}

impl Beat {
    /// The beat of one of so many threads, which together make `rate` calls a second, evenly.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn of_thread(rate: f64, threads: usize, index: usize) -> Self {
        let interval_ns = 1e9 / rate;
        Self { first_ns: interval_ns * index as f64, interval_ns: interval_ns * threads as f64 }
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn at(self, call: u64) -> u64 {
        (self.first_ns + self.interval_ns * call as f64) as u64
    }
}

/// Hands out calls to the connections until the time is over.
///
/// # Errors
/// There is no timer.
pub(super) async fn pace(worker: &Worker, slots: &[Rc<Slot>], beat: Beat) -> io::Result<()> {
    let alarm = Alarm::new()?;
    let mut slots = Turns { slots, next: 0, most: worker.shared.job.in_flight };
    let mut call = 0;
    loop {
        let now_ns = worker.shared.clock.now().steady_ns;
        let mut due_ns = worker.shared.moments.start_ns + beat.at(call);
        while due_ns <= now_ns {
            if !worker.shared.draw(due_ns) {
                return Ok(());
            }
            if let Some(slot) = slots.take() {
                slot.due.borrow_mut().push_back(due_ns);
                slot.wake();
            }
            call += 1;
            due_ns = worker.shared.moments.start_ns + beat.at(call);
        }
        if worker.shared.is_over(now_ns) {
            return Ok(());
        }
        alarm.wait((due_ns - now_ns).clamp(GRAIN_NS, LOOK_NS)).await?;
    }
}

/// Connections take turns. One that has its hands full is passed over while another has not.
struct Turns<'a> {
    slots: &'a [Rc<Slot>],
    next: usize,
    most: usize,
}

impl<'a> Turns<'a> {
    fn take(&mut self) -> Option<&'a Slot> {
        let count = self.slots.len();
        let free = (0..count).map(|ahead| (self.next + ahead) % count).find(|&index| {
            self.slots
                .get(index)
                .is_some_and(|slot| slot.open.get() + slot.due.borrow().len() < self.most)
        });
        let index = free.unwrap_or(self.next);
        self.next = (index + 1) % count.max(1);
        self.slots.get(index).map(|slot| &**slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_the_beat_evenly() {
        let mut moments: Vec<u64> = (0..4)
            .flat_map(|index| (0..250).map(move |call| Beat::of_thread(1000.0, 4, index).at(call)))
            .collect();
        moments.sort_unstable();
        assert_eq!(moments, (0..1000).map(|call| call * 1_000_000).collect::<Vec<u64>>());
        assert_eq!(Beat::of_thread(3.0, 1, 0).at(3_000_000), 1_000_000_000_000_000);
    }

    #[test]
    fn connections_take_turns_and_those_that_are_full_are_passed_over() {
        let slots: Vec<Rc<Slot>> = (0..3).map(|_| Rc::default()).collect();
        let mut turns = Turns { slots: &slots, next: 0, most: 2 };
        let mut taken = || {
            let slot = turns.take().unwrap();
            slot.due.borrow_mut().push_back(0);
            slots.iter().position(|other| std::ptr::eq(&**other, slot)).unwrap()
        };
        slots[1].open.set(2);
        assert_eq!([taken(), taken(), taken(), taken()], [0, 2, 0, 2]);
        assert_eq!(
            [taken(), taken(), taken(), taken()],
            [0, 1, 2, 0],
            "when all are full, everyone takes part"
        );
    }
}
