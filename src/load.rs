//! The load generator: asks as fast as the server answers, or at a fixed rate, and counts what
//! comes back.
//!
//! A [`Job`] says what is asked, [`Run`] does it and ends in a [`Summary`]. The command
//! `tollgate load` and the benches use it; nothing that serves does.
//!
//! # Why it has an HTTP/2 and an HPACK of its own
//!
//! What asks shares a machine with what answers: the less a call costs here, the more of what is
//! measured is the server. The least that the crate `h2` can do, prepared unary requests that are
//! sent and counted, was measured beside this generator, in turns, against one `tollgate` on the
//! same two cores (2026-11-30, five turns of 3 s, medians, µs of CPU for each call):
//!
//! | connections x in flight | client | its CPU | the server's CPU | calls/s |
//! | --- | --- | --- | --- | --- |
//! | 8 x 32 | `h2` | 3.60 | 5.83 | 93,600 |
//! | 8 x 32 | this | 0.57 | 5.02 | 150,700 |
//! | 64 x 16 | `h2` | 5.37 | 6.93 | 61,500 |
//! | 64 x 16 | this | 0.98 | 6.11 | 120,000 |
//!
//! With `h2` a call costs two thirds to three quarters of what the server needs for it, against a
//! ninth to a sixth, and that without the key of each call, its latency and its deadline, which
//! this generator's figures hold. Its frames come one by one, which costs the server an eighth more
//! too. Half of a machine would then measure itself, so the code in `http2` and `hpack` stays.

mod alarm;
mod answers;
mod flights;
mod hpack;
mod http2;
mod job;
mod keys;
mod lane;
mod messages;
mod pace;
mod run;
mod tally;
mod thread;
mod worker;

pub use self::answers::Answer;
pub use self::job::{ApiKeys, Caller, DescriptorEntry, Job, Traffic};
pub use self::keys::Order;
pub use self::run::{Progress, Run, Summary};
pub use self::tally::{Calls, Tally};

#[cfg(test)]
mod tests;
