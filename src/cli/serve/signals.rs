//! What tells the process to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Resolves at the next SIGTERM, SIGINT or SIGHUP.
pub(super) async fn asked_to_stop() {
    let listen = |kind| signal(kind).map_err(|error| tracing::error!("signals cannot be received: {error}")).ok();
    let (mut term, mut int, mut hup) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()), listen(SignalKind::hangup()));
    tokio::select! {
        () = next(&mut term) => {}
        () = next(&mut int) => {}
        () = next(&mut hup) => {}
    }
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
