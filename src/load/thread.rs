//! One thread of the load generator: runs its connections.

use std::cell::RefCell;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::LocalSet;

use super::keys::{Random, Skew};
use super::lane::Lane;
use super::pace;
use super::tally::Tally;
use super::worker::{Shared, Slot, Worker};

/// How often connections are woken to look at the clock, at most.
const TICK: Duration = Duration::from_millis(20);

/// Does the work of thread `index` over these connections, and says what it has counted.
///
/// # Errors
/// The operating system has no runtime or timer for it.
pub(super) fn work(
    shared: Arc<Shared>,
    index: usize,
    sockets: Vec<TcpStream>,
) -> Result<Tally, String> {
    let failed = |error: std::io::Error| error.to_string();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let worker = Rc::new(Worker {
        tally: RefCell::new(Tally::new()?),
        random: RefCell::new(Random::new(index as u64)),
        skew: Skew::new(shared.script.keys, shared.job.order),
        shared,
    });
    let local = LocalSet::new();
    local.block_on(&runtime, drive(&worker, index, sockets)).map_err(failed)?;
    drop(local);
    Rc::into_inner(worker)
        .map(|worker| worker.tally.into_inner())
        .ok_or_else(|| "a connection goes on without its thread".to_owned())
}

async fn drive(worker: &Rc<Worker>, index: usize, sockets: Vec<TcpStream>) -> std::io::Result<()> {
    let slots: Vec<Rc<Slot>> = sockets.iter().map(|_| Rc::new(Slot::default())).collect();
    let mut lanes = Vec::new();
    for (slot, socket) in slots.iter().zip(sockets) {
        lanes.push(tokio::task::spawn_local(Lane::new(worker.clone(), slot.clone()).run(socket)));
    }
    let ticks = tokio::task::spawn_local(tick(worker.shared.job.timeout_ns, slots.clone()));
    if let Some(rate) = worker.shared.job.rate {
        let threads = worker.shared.job.threads.min(worker.shared.job.connections);
        pace::pace(worker, &slots, pace::Beat::of_thread(rate, threads, index)).await?;
    }
    for lane in lanes {
        if let Err(error) = lane.await {
            return Err(std::io::Error::other(error));
        }
    }
    // What was handed to a connection that saw the end of the time before the pace did.
    let left = slots
        .iter()
        .flat_map(|slot| slot.due.take())
        .filter(|start_ns| worker.shared.is_measured(*start_ns))
        .count();
    worker.tally.borrow_mut().unsent += left as u64;
    ticks.abort();
    let _ = ticks.await;
    Ok(())
}

/// Wakes every connection now and then, to see what took too long and whether the time is over.
async fn tick(timeout_ns: u64, slots: Vec<Rc<Slot>>) {
    let period = Duration::from_nanos(timeout_ns / 4).clamp(Duration::from_millis(1), TICK);
    let mut ticks = tokio::time::interval(period);
    loop {
        ticks.tick().await;
        slots.iter().for_each(|slot| slot.wake());
    }
}
