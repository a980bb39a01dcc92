//! What the process is told from outside.
//!
//! SIGPIPE is ignored by Rust from the first line of `main` on: a peer or a reader that has gone is
//! an error of the write.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGXFSZ (25 on Linux): a file would pass the limit of `ulimit -f`.
const FILE_SIZE_LIMIT: i32 = 25;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGTERM and SIGINT.
    Stop,
    /// SIGHUP: read rules, tokens and certificates again.
    Reload,
}

/// From [`Self::listen`] on no signal that asks for something ends the process by itself.
#[derive(Debug)]
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        // A write past a file-size limit fails, like one to a full disk, instead of ending the
        // process. The handler stays when this is dropped.
        signal(SignalKind::from_raw(FILE_SIZE_LIMIT)).map(drop)?;
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves at the next signal. None is lost where this is dropped before.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.term.recv() => Asked::Stop,
            _ = self.int.recv() => Asked::Stop,
            _ = self.hup.recv() => Asked::Reload,
        }
    }

    /// Resolves when the process is told to stop. A reload that is asked for before makes no
    /// difference.
    pub(super) async fn asked_to_stop(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
