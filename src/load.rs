//! The load generator: asks as fast as the server answers, or at a fixed rate, and counts what
//! comes back.
//!
//! A [`Job`] says what is asked, [`Run`] does it and ends in a [`Summary`]. The command
//! `tollgate load` and the benches use it; nothing that serves does.

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
mod worker;

pub use self::answers::Answer;
pub use self::job::{ApiKeys, Caller, DescriptorEntry, Job, Traffic};
pub use self::keys::Order;
pub use self::run::{Progress, Run, Summary};
pub use self::tally::{Calls, Tally};

#[cfg(test)]
mod tests;
