//! Files that the process may open: every connection is one, and so are the ledger, the rules, the
//! tokens and what a probe asks by. The bounds of connections are compared with the system's at the
//! start, so that strangers who take all that they may leave enough for those.

use std::io;
use std::time::Duration;

/// How long to wait after a connection could not be accepted, which is mostly because no more files
/// may be opened.
pub const PAUSE: Duration = Duration::from_millis(50);

/// So many pauses are between two lines of the log that say so.
const PAUSES_A_LINE: u64 = 200;

/// Files that are no connections, and are opened later: rules, tokens, certificates, a copy of the
/// ledger. Of a small limit, a quarter.
const RESERVE: usize = 64;
/// What a thread with connections opens for itself.
const A_THREAD: usize = 4;
/// The least that a port is given.
const LEAST_PAGES: usize = 4;
const LEAST_GRPC: usize = 1;

/// How many files the process may open, where the system says so.
pub fn limit() -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Some(limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// How many it has open, where the system says so.
pub fn open() -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        // One of them reads this.
        std::fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// Raises the limit that the process was started with to the one that it may set itself. Returns
/// both where that changed something.
pub fn raise_limit() -> Option<(usize, usize)> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = limit()?;
        let maximum = getrlimit(Resource::Nofile).maximum;
        // Where it is not allowed after all, the bounds are made to fit what there is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let after = limit()?;
        (after > before).then_some((before, after))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// Connections that the ports may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Of `grpc_addr`.
    pub grpc: usize,
    /// Of `admin_grpc_addr`; 0: there is none.
    pub admin_grpc: usize,
    /// Of each port of pages.
    pub pages: usize,
    pub ports_of_pages: usize,
}

impl Connections {
    fn all(self) -> usize {
        self.pages
            .saturating_mul(self.ports_of_pages)
            .saturating_add(self.grpc)
            .saturating_add(self.admin_grpc)
    }

    /// The most of them that fit, where so many files may be opened and so many are open, or will
    /// be by threads that start yet. `None`: all do.
    fn fit(self, limit: usize, taken: usize) -> Option<Self> {
        let room = limit.saturating_sub(taken).saturating_sub(RESERVE.min(limit / 4));
        if self.all() <= room {
            return None;
        }
        // Those who watch and those who edit ask little, and must not be kept out.
        let pages = self.pages.min((room / 8).max(LEAST_PAGES));
        let admin_grpc = self.admin_grpc.min((room / 8).max(LEAST_PAGES));
        let rest = room
            .saturating_sub(pages.saturating_mul(self.ports_of_pages))
            .saturating_sub(admin_grpc);
        Some(Self { grpc: self.grpc.min(rest.max(LEAST_GRPC)), admin_grpc, pages, ..self })
    }

    /// What of them fits beside what is open now and what so many threads will open, and what an
    /// operator should know of it.
    pub fn fit_now(self, threads: usize) -> (Self, Option<String>) {
        let (Some(limit), Some(open)) = (limit(), open()) else { return (self, None) };
        let Some(fit) = self.fit(limit, open.saturating_add(threads.saturating_mul(A_THREAD)))
        else {
            return (self, None);
        };
        let warning = format!(
            "this process may open {limit} files, too few for grpc.max_connections {} and http.max_connections {}: at most {} connections to \
             gRPC{} and {} to each port of pages are taken, so that files are left for the rest. Raise the limit (LimitNOFILE= of systemd, \
             ulimit -n, --ulimit nofile= of a container), or lower grpc.max_connections",
            self.grpc,
            self.pages,
            fit.grpc,
            if self.admin_grpc > 0 {
                format!(", {} to admin_grpc_addr", fit.admin_grpc)
            } else {
                String::new()
            },
            fit.pages,
        );
        (fit, Some(warning))
    }
}

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

    /// Whether the next connection cannot be accepted either, so that [`PAUSE`] is due. Tells the
    /// first such error, and each ten seconds of them one.
    pub fn is_lasting(&mut self, error: &io::Error) -> bool {
        // Of one connection that ended before it began.
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        ) {
            return false;
        }
        if self.seen.is_multiple_of(PAUSES_A_LINE) {
            tracing::warn!(
                times = self.seen + 1,
                "{}: a connection cannot be accepted: {error}",
                self.key
            );
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

    #[test]
    fn bounds_that_fit_stay_and_others_are_lowered_to_what_fits() {
        let wanted = Connections { grpc: 10_000, admin_grpc: 0, pages: 256, ports_of_pages: 1 };
        let all = 10_000 + 256;
        assert_eq!(wanted.fit(all + 64 + 40, 40), None);
        let one_less = wanted.fit(all + 64 + 39, 40).unwrap();
        assert_eq!((one_less.grpc, one_less.pages), (9_999, 256));
        assert_eq!(wanted.fit(usize::MAX, 40), None);

        // The files, those that are taken, and what is left for gRPC, its admin port, and each of
        // two ports of pages.
        let wanted = Connections { admin_grpc: 10_000, ports_of_pages: 2, ..wanted };
        for (limit, taken, grpc, admin_grpc, pages) in [
            (1_024, 40, 575, 115, 115),
            (256, 40, 95, 19, 19),
            (64, 30, 6, 4, 4),
            (64, 60, 1, 4, 4),
            (0, 60, 1, 4, 4),
        ] {
            let fit = wanted.fit(limit, taken).unwrap();
            assert_eq!(
                (fit.grpc, fit.admin_grpc, fit.pages),
                (grpc, admin_grpc, pages),
                "{limit} files"
            );
            assert!(
                limit < 64 || taken > 40 || fit.all() + taken + RESERVE.min(limit / 4) <= limit,
                "{limit} files"
            );
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn files_are_counted_and_the_limit_is_never_lowered() {
        let (before, open_before) = (limit().unwrap(), open().unwrap());
        let files: Vec<_> = (0..100).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        assert!(
            open().unwrap() + 20 > open_before + files.len(),
            "other tests open and close some as well"
        );
        raise_limit();
        assert!(limit().unwrap() >= before);
        assert_eq!(raise_limit(), None, "a second time there is nothing to raise");
    }
}
