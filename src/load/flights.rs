//! The calls that are under way on a connection. Streams are numbered in the order of their calls,
//! so that a call is found by counting.

use std::collections::VecDeque;

/// A call under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    /// When it began, or should have begun.
    pub(super) start_ns: u64,
    /// It is the report of a call, not a call.
    pub(super) is_report: bool,
    /// Its message has come, and only its trailers are missing.
    pub(super) answered: bool,
    /// It has ended.
    over: bool,
}

impl Flight {
    pub(super) fn new(start_ns: u64, is_report: bool) -> Self {
        Self { start_ns, is_report, answered: false, over: false }
    }
}

#[derive(Debug, Default)]
pub(super) struct Flights {
    /// The stream of the oldest.
    first: u32,
    flights: VecDeque<Flight>,
    open: usize,
}

impl Flights {
    /// How many are under way.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Adds the call of a stream, the next after the last one.
    pub(super) fn add(&mut self, stream: u32, flight: Flight) {
        if self.flights.is_empty() {
            self.first = stream;
        }
        self.flights.push_back(flight);
        self.open += 1;
    }

    /// The call of a stream that is under way.
    pub(super) fn get_mut(&mut self, stream: u32) -> Option<&mut Flight> {
        let index = usize::try_from(stream.checked_sub(self.first)? / 2).ok()?;
        self.flights.get_mut(index).filter(|flight| !flight.over)
    }

    /// Takes out the call of a stream.
    pub(super) fn take(&mut self, stream: u32) -> Option<Flight> {
        let flight = self.get_mut(stream)?;
        flight.over = true;
        let flight = *flight;
        self.open -= 1;
        while self.flights.front().is_some_and(|flight| flight.over) {
            self.flights.pop_front();
            self.first += 2;
        }
        Some(flight)
    }

    /// Takes out the oldest call, where it began before a moment.
    pub(super) fn take_older(&mut self, before_ns: u64) -> Option<(u32, Flight)> {
        if self.flights.front()?.start_ns >= before_ns {
            return None;
        }
        let stream = self.first;
        Some((stream, self.take(stream)?))
    }

    /// Takes out the first of the calls after a stream.
    pub(super) fn take_after(&mut self, stream: u32) -> Option<Flight> {
        let after = self
            .flights
            .iter()
            .zip(0_u32..)
            .map(|(flight, index)| (flight, self.first + index * 2));
        let found = after
            .filter(|(flight, found)| !flight.over && *found > stream)
            .map(|(_, found)| found)
            .next()?;
        self.take(found)
    }

    /// Takes out any call.
    pub(super) fn take_any(&mut self) -> Option<Flight> {
        self.take(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flights(count: u32) -> Flights {
        let mut flights = Flights::default();
        (0..count)
            .for_each(|index| flights.add(7 + index * 2, Flight::new(u64::from(index), false)));
        flights
    }

    #[test]
    fn calls_are_found_by_their_stream_in_whatever_order_they_end() {
        let mut flights = flights(4);
        assert_eq!(flights.take(11).map(|flight| flight.start_ns), Some(2));
        assert_eq!(flights.take(11), None, "it is over");
        assert_eq!(
            (flights.take(5), flights.take(15)),
            (None, None),
            "there never were such calls"
        );
        assert_eq!(flights.take(7).map(|flight| flight.start_ns), Some(0));
        assert_eq!(flights.take(9).map(|flight| flight.start_ns), Some(1));
        assert_eq!((flights.open(), flights.flights.len()), (1, 1), "what is over takes no room");
        flights.get_mut(13).unwrap().answered = true;
        assert!(flights.take_any().is_some_and(|flight| flight.answered && flight.start_ns == 3));
        assert_eq!((flights.open(), flights.take_any()), (0, None));
        flights.add(101, Flight::new(9, true));
        assert_eq!(flights.take(101).map(|flight| flight.start_ns), Some(9));
    }

    #[test]
    fn the_oldest_are_taken_by_time_and_the_youngest_by_stream() {
        let mut flights = flights(5);
        assert_eq!(flights.take_older(0), None);
        assert_eq!(flights.take_older(1).map(|(stream, _)| stream), Some(7));
        assert_eq!(flights.take_older(1), None);
        assert_eq!(flights.take_after(11).map(|flight| flight.start_ns), Some(3));
        assert_eq!(flights.take_after(11).map(|flight| flight.start_ns), Some(4));
        assert_eq!(flights.take_after(11), None);
        assert_eq!(flights.open(), 2);
    }
}
