//! What tells the process to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGXFSZ (25 on Linux): a file would pass the limit of `ulimit -f`.
const FILE_SIZE_LIMIT: i32 = 25;

/// From now on a write past a file-size limit fails, like one to a full disk, instead of ending the process.
pub(super) fn outlive_file_size_limits() -> io::Result<()> {
    // The handler stays when the stream is dropped.
    signal(SignalKind::from_raw(FILE_SIZE_LIMIT)).map(drop)
}

/// SIGTERM, SIGINT and SIGHUP. From [`Self::listen`] on none of them ends the process by itself.
#[derive(Debug)]
pub(super) struct StopSignals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl StopSignals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())?, hup: signal(SignalKind::hangup())? })
    }

    /// Resolves at the next signal.
    pub(super) async fn asked_to_stop(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
            _ = self.hup.recv() => {}
        }
    }
}
