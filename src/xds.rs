//! A door that looks outwards: rules come in through it from a management server (xDS, aggregated,
//! state of the world), as Envoy Gateway and Envoy AI Gateway serve them.
//!
//! One stream at a time (`stream`), over one connection (`connect`), opened again after a wait
//! that grows (`backoff`). Each answer of the server is read (`resources`), put into force as far
//! as it is good, and acknowledged, or refused by name; a server that sends what was refused again
//! at once is answered slowly (`damping`).

mod backoff;
mod connect;
mod damping;
mod resources;
mod state;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use self::backoff::Backoff;
pub use self::state::State;
use self::stream::Client;
use crate::clock::Clock;
use crate::config;
use crate::log::caught;
use crate::metrics::Metrics;
use crate::rulebook::Rulebook;

/// After something panicked that goes on at once.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks the management server for rules, for as long as the process runs. Gives how that goes.
pub fn start(
    settings: config::Xds,
    rulebook: Arc<Rulebook>,
    clock: &Clock,
    metrics: &Metrics,
    stopping: &watch::Receiver<bool>,
) -> Arc<State> {
    let state = Arc::new(State::new(settings.server.to_string(), clock.clone(), metrics));
    let mut client = Client::new(settings, rulebook, state.clone());
    let mut stopping = stopping.clone();
    tokio::spawn(async move {
        let ask = async {
            while caught(run(&mut client)).await.is_err() {
                tracing::error!("the stream of rules has panicked, and is opened again");
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = ask => {}
            // An error means that the sender is gone, and with it the process.
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    });
    state
}

/// One stream after the other.
async fn run(client: &mut Client) {
    let mut backoff = Backoff::new(client.max_backoff());
    loop {
        let ended = client.stream().await;
        if ended.was_steady {
            backoff.reset();
        }
        let wait = backoff.next(backoff::random());
        client.state().closed(&ended.reason, wait);
        tokio::time::sleep(wait).await;
    }
}
