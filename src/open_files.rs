//! Files that the process may open: every connection is one.

use std::io;
use std::time::Duration;

/// How long to wait after a connection could not be accepted, which is mostly because no more files may be opened.
pub const PAUSE: Duration = Duration::from_millis(50);

/// So many pauses are between two lines of the log that say so.
const PAUSES_A_LINE: u64 = 200;

/// Connections that could not be accepted, told now and then.
#[derive(Debug)]
pub struct AcceptTroubles {
    key: &'static str,
    seen: u64,
}

impl AcceptTroubles {
    /// `key` is the setting that says where the port is.
    pub fn new(key: &'static str) -> Self {
        Self { key, seen: 0 }
    }

    /// Whether the next connection cannot be accepted either, so that [`PAUSE`] is due. Tells the first such error, and each ten seconds of them
    /// one.
    pub fn is_lasting(&mut self, error: &io::Error) -> bool {
        // Of one connection that ended before it began.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted) {
            return false;
        }
        if self.seen.is_multiple_of(PAUSES_A_LINE) {
            tracing::warn!(times = self.seen + 1, "{}: a connection cannot be accepted: {error}", self.key);
        }
        self.seen += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_left_is_no_trouble_of_the_port() {
        let mut troubles = AcceptTroubles::new("http_addr");
        for (kind, lasting) in [
            (io::ErrorKind::ConnectionAborted, false),
            (io::ErrorKind::ConnectionReset, false),
            (io::ErrorKind::Interrupted, false),
            (io::ErrorKind::OutOfMemory, true),
        ] {
            assert_eq!(troubles.is_lasting(&kind.into()), lasting, "{kind}");
        }
        // Too many open files.
        assert!(troubles.is_lasting(&io::Error::from_raw_os_error(24)));
    }
}
