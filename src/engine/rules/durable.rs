//! What a decision asks of counters that outlive crashes. Others keep them.

use std::convert::Infallible;

use super::{Mode, Standing, Standings};
use crate::decide::compiled::CompiledQuota;
use crate::decide::time::Now;

/// One counter of a durable rule, and what is asked of it.
#[derive(Clone, Copy, Debug)]
pub struct DurableAsk<'a> {
    /// Names the counter within its domain. The same in every run of an engine with the same
    /// secret.
    pub counter: [u8; 16],
    pub domain: &'a str,
    /// What it is charged to.
    pub quota: &'a CompiledQuota,
    /// 0 is a peek, which decides as one hit would.
    pub hits: u64,
    /// The hits are given back: nothing is charged, and nothing given back either.
    pub negative: bool,
}

/// Counters that outlive crashes. What is over the limit is never charged.
pub trait DurableCounters {
    /// What has to happen before these counters can be asked.
    type Wait;

    /// Decides all asks and charges them: in [`Mode::Each`] those that are not over, in
    /// [`Mode::AllOrNothing`] the same unless `refuses` says of the standings that the request is
    /// refused. It may be consulted more than once; its last answer is the one.
    ///
    /// # Errors
    /// What is needed first. Then nothing is charged.
    fn charge(
        &self,
        asks: &[DurableAsk<'_>],
        mode: Mode,
        now: Now,
        refuses: &mut dyn FnMut(&[Standing]) -> bool,
    ) -> Result<Standings, Self::Wait>;
}

/// There are none, so nothing that is asked of them is admitted.
#[derive(Clone, Copy, Debug)]
pub struct NoCounters;

impl DurableCounters for NoCounters {
    type Wait = Infallible;

    fn charge(
        &self,
        asks: &[DurableAsk<'_>],
        _: Mode,
        _: Now,
        refuses: &mut dyn FnMut(&[Standing]) -> bool,
    ) -> Result<Standings, Infallible> {
        let standings: Standings = asks.iter().map(Standing::unavailable).collect();
        refuses(&standings);
        Ok(standings)
    }
}
