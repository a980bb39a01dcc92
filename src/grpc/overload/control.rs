//! What comes on a connection and is no call: settings, pings, room for answers, empty frames.
//!
//! A frame of 15 bytes can cost HTTP/2 a walk over all open streams, and no call is made that could
//! be shed. So these frames are counted as they come, before HTTP/2 sees them, and a connection
//! that sends more of them than its calls explain is closed.
//!
//! Clients that behave need few. gRPC pings to find out how fast the connection is, at most once for each
//! answer; it says that it has taken an answer by two frames for each 16 KiB at most; it changes
//! its settings a dozen times in the life of a connection.

use std::sync::atomic::Ordering;

use super::ConnectionState;

/// Frames that each call, or message of a stream, allows.
const OF_A_CALL: u64 = 8;
/// Another is allowed for so many bytes that were written: a client says so twice for each 16 KiB
/// that it has taken.
const WRITTEN_BYTES: u64 = 1024;
/// What was not sent may be sent later: so many seconds of the rate.
const SAVED_SECONDS: u64 = 5;
/// Settings are walked over all streams, so of them there may be few, however much is called.
const SETTINGS_SAVED: u64 = 64;
const SETTINGS_A_SECOND: u64 = 1;
/// So many are looked at before others have their turn.
const OF_A_TURN: u64 = 256;

const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// What HTTP/2 is given to read where the peer sends too much: it takes this for a flood of
/// headers, says `ENHANCE_YOUR_CALM`, and closes. There is no other way to have it say so.
pub(in crate::grpc) const CALM: [u8; HEAD_BYTES * 128] = calm();

// It is made when the program is compiled: there it fails, or never.
#[allow(clippy::indexing_slicing)]
const fn calm() -> [u8; HEAD_BYTES * 128] {
    let mut bytes = [0; HEAD_BYTES * 128];
    let mut place = 0;
    while place < bytes.len() {
        // Empty, of the last stream there may be; never the last of its headers.
        bytes[place + 3] = if place == 0 { HEADERS } else { CONTINUATION };
        bytes[place + 5] = 0x7f;
        bytes[place + 6] = 0xff;
        bytes[place + 7] = 0xff;
        bytes[place + 8] = 0xff;
        place += HEAD_BYTES;
    }
    bytes
}

/// The frames of a connection, as they come.
#[derive(Debug)]
pub(super) struct Control {
    frames: Frames,
    all: Allowance,
    settings: Allowance,
    /// Looked at in this turn.
    turn: u64,
    /// What was known of the connection when more was allowed, the last time.
    calls: u64,
    written: u64,
}

impl Control {
    /// So many a second beside what calls allow; 0: as many as come.
    pub(super) fn new(per_second: u64) -> Self {
        let unbounded = per_second == 0;
        let (per_second, settings) =
            if unbounded { (u64::MAX, u64::MAX) } else { (per_second, SETTINGS_SAVED) };
        Self {
            frames: Frames::default(),
            all: Allowance::new(per_second, per_second.saturating_mul(SAVED_SECONDS)),
            settings: Allowance::new(SETTINGS_A_SECOND, settings),
            turn: 0,
            calls: 0,
            written: 0,
        }
    }

    /// Bytes came. `Some`: from there on there is too much.
    pub(super) fn came(
        &mut self,
        bytes: &[u8],
        connection: &ConnectionState,
        clock: impl Fn() -> u64,
    ) -> Option<usize> {
        let Self { frames, all, settings, turn, calls, written } = self;
        frames.pass(bytes, |kind, flags, length| {
            let counts = match kind {
                HEADERS | CONTINUATION | RST_STREAM => false,
                DATA => length == 0 && flags & END_STREAM == 0,
                _ => true,
            };
            if !counts {
                return true;
            }
            *turn += 1;
            if kind == SETTINGS && flags & ACK == 0 && !settings.take(|| (clock(), 0)) {
                return false;
            }
            all.take(|| {
                let (now_calls, now_written) = (
                    connection.begun_ever.load(Ordering::Relaxed),
                    connection.written.load(Ordering::Relaxed),
                );
                let of_calls = now_calls.saturating_sub(*calls).saturating_mul(OF_A_CALL);
                let of_written = now_written.saturating_sub(*written) / WRITTEN_BYTES;
                (*calls, *written) = (now_calls, now_written);
                (clock(), of_calls.saturating_add(of_written))
            })
        })
    }

    /// Whether others should have their turn; the next one begins then.
    pub(super) fn has_had_its_turn(&mut self) -> bool {
        let had = self.turn >= OF_A_TURN;
        if had {
            self.turn = 0;
        }
        had
    }

    /// All that had come was read.
    pub(super) fn dry(&mut self) {
        self.turn = 0;
    }
}

/// How many more there may be.
#[derive(Debug)]
struct Allowance {
    left: u64,
    most: u64,
    per_second: u64,
    /// When more was allowed, the last time. `None`: never, as nobody looked at the clock yet.
    filled_ns: Option<u64>,
}

impl Allowance {
    fn new(per_second: u64, most: u64) -> Self {
        Self { left: most, most, per_second, filled_ns: None }
    }

    /// Takes one. `more` says the time and what else allows more, and is asked where none is left.
    fn take(&mut self, more: impl FnOnce() -> (u64, u64)) -> bool {
        if self.left == 0 {
            let (now_ns, earned) = more();
            let since_ns =
                self.filled_ns.map_or(1_000_000_000, |filled_ns| now_ns.saturating_sub(filled_ns));
            // What is left over of a time that is too short for one stays.
            let of_time =
                u64::try_from(u128::from(since_ns) * u128::from(self.per_second) / 1_000_000_000)
                    .unwrap_or(u64::MAX);
            if of_time > 0 {
                self.filled_ns = Some(now_ns);
            }
            self.left = of_time.saturating_add(earned).min(self.most);
        }
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        true
    }
}

/// Where one frame ends and the next begins.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that have come.
    have: usize,
    /// Bytes of the payload that have not.
    left: usize,
}

impl Frames {
    /// Shows each frame that begins within `bytes`: its kind, its flags, and its length. `Some`:
    /// the frame that begins there is not to be looked at. One whose head has come in part before
    /// is looked at in any case.
    fn pass(
        &mut self,
        bytes: &[u8],
        mut shows: impl FnMut(u8, u8, usize) -> bool,
    ) -> Option<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (payload, after) = rest.split_at_checked(self.left).unwrap_or((rest, &[]));
            self.left -= payload.len();
            if after.is_empty() {
                return None;
            }
            let begins = bytes.len() - after.len();
            let was_whole = self.have == 0;
            let (come, after) =
                after.split_at_checked(HEAD_BYTES - self.have).unwrap_or((after, &[]));
            for (place, byte) in self.head.iter_mut().skip(self.have).zip(come) {
                *place = *byte;
            }
            self.have += come.len();
            rest = after;
            if self.have < HEAD_BYTES {
                return None;
            }
            self.have = 0;
            let [high, middle, low, kind, flags, ..] = self.head;
            self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if !shows(kind, flags, self.left) && was_whole {
                self.left = 0;
                return Some(begins);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn control(per_second: u64) -> (Control, ConnectionState) {
        (Control::new(per_second), ConnectionState::default())
    }

    /// How many of these frames are looked at, of a thousand that come at once.
    fn looked_at(
        control: &mut Control,
        connection: &ConnectionState,
        one: &[u8],
        now_ns: u64,
    ) -> usize {
        let all = one.repeat(1_000);
        control.came(&all, connection, || now_ns).unwrap_or(all.len()) / one.len()
    }

    #[test]
    fn frames_are_found_in_pieces_of_any_size() {
        let all = [
            frame(PING, 0, &[6; 8]),
            frame(DATA, 1, &[]),
            frame(SETTINGS, 0, &[4; 250]),
            frame(HEADERS, 4, b"x"),
        ]
        .concat();
        let expected = [(PING, 0, 8), (DATA, 1, 0), (SETTINGS, 0, 250), (HEADERS, 4, 1)];
        for size in 1..all.len() {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for piece in all.chunks(size) {
                let stopped = frames.pass(piece, |kind, flags, length| {
                    seen.push((kind, flags, length));
                    true
                });
                assert_eq!(stopped, None);
            }
            assert_eq!(seen, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_frame_too_many_is_not_looked_at_but_for_one_that_has_begun_before() {
        let two = [frame(PING, 0, &[6; 8]), frame(PING, 0, &[6; 8])].concat();
        let mut frames = Frames::default();
        assert_eq!(frames.pass(&two, |_, _, _| false), Some(0));
        let (mut frames, mut shown) = (Frames::default(), 0);
        assert_eq!(frames.pass(&two[..4], |_, _, _| unreachable!()), None);
        let stopped = frames.pass(&two[4..], |_, _, _| {
            shown += 1;
            false
        });
        assert_eq!((stopped, shown), (Some(13), 2), "HTTP/2 has a part of the first already");
    }

    #[test]
    fn there_may_be_as_many_as_time_calls_and_answers_allow() {
        let (mut control, connection) = control(100);
        let (ping, hour_ns) = (frame(PING, 0, &[0; 8]), 3_600_000_000_000);
        // Five seconds' worth, and that of the second before the first look at the clock.
        assert_eq!(looked_at(&mut control, &connection, &ping, hour_ns), 600);
        assert_eq!(looked_at(&mut control, &connection, &ping, hour_ns + 9_999_999), 0);
        assert_eq!(looked_at(&mut control, &connection, &ping, hour_ns + 10_000_000), 1);
        assert_eq!(looked_at(&mut control, &connection, &ping, hour_ns + 10_000_000), 0);
        connection.began();
        assert_eq!(looked_at(&mut control, &connection, &ping, hour_ns + 10_000_000), 8);
        connection.wrote(10 * 1024);
        assert_eq!(looked_at(&mut control, &connection, &ping, hour_ns + 10_000_000), 10);
        assert_eq!(
            looked_at(&mut control, &connection, &ping, 2 * hour_ns),
            500,
            "no more is saved"
        );
    }

    #[test]
    fn calls_and_what_belongs_to_them_are_not_counted_and_settings_apart() {
        let (mut busy, connection) = control(1);
        for of_a_call in [
            frame(HEADERS, 4, b"x"),
            frame(DATA, 0, b"x"),
            frame(DATA, 1, &[]),
            frame(CONTINUATION, 4, b"x"),
            frame(RST_STREAM, 0, &[0; 4]),
        ] {
            assert_eq!(looked_at(&mut busy, &connection, &of_a_call, 0), 1_000, "{of_a_call:?}");
        }
        for none in [
            frame(DATA, 0, &[]),
            frame(WINDOW_UPDATE, 0, &[0; 4]),
            frame(PING, 1, &[0; 8]),
            frame(2, 0, &[0; 5]),
            frame(77, 0, b"?"),
        ] {
            assert_eq!(looked_at(&mut control(1).0, &connection, &none, 0), 6, "{none:?}");
        }
        (0..1_000).for_each(|_| connection.began());
        let settings = frame(SETTINGS, 0, &[0, 4, 0, 0, 0, 0]);
        assert_eq!(
            looked_at(&mut control(100_000).0, &connection, &settings, 0),
            65,
            "however much is called"
        );
        assert_eq!(
            looked_at(&mut control(100_000).0, &connection, &frame(SETTINGS, ACK, &[]), 0),
            1_000
        );
        assert_eq!(
            looked_at(&mut control(0).0, &connection, &settings, 0),
            1_000,
            "where there is no bound"
        );
    }

    #[test]
    fn others_have_their_turn_after_some() {
        let (mut control, connection) = control(1_000_000);
        let ping = frame(PING, 0, &[0; 8]);
        assert_eq!(control.came(&ping.repeat(255), &connection, || 0), None);
        assert!(!control.has_had_its_turn());
        assert_eq!(control.came(&ping, &connection, || 0), None);
        assert!(control.has_had_its_turn() && !control.has_had_its_turn());
        assert_eq!(control.came(&ping.repeat(255), &connection, || 0), None);
        control.dry();
        assert_eq!(control.came(&ping, &connection, || 0), None);
        assert!(!control.has_had_its_turn());
    }
}
