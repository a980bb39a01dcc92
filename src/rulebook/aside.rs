//! Work that makes way for calls.

use std::thread::{Builder, scope};

use crate::log::words;

/// Of two threads on one core, one that is this much nicer gets a tenth of it, and all of it when
/// the other waits.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Does some work on a thread of its own, to which all others are preferred, and waits for it.
///
/// # Errors
/// It panicked, and said this.
pub(super) fn aside<R: Send>(work: impl Fn() -> R + Sync) -> Result<R, String> {
    let nicely = || {
        // Where it is not allowed, it is done all the same.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(NICE);
        work()
    };
    let done = scope(|scope| {
        Builder::new()
            .name("aside".to_owned())
            .spawn_scoped(scope, nicely)
            .map(|thread| thread.join())
    });
    match done {
        Ok(done) => done.map_err(|panic| {
            format!("this is a mistake in tollgate, please report it: {}", words(&*panic))
        }),
        Err(_) => Ok(work()),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Of this thread, and not of the process of all.
    fn niceness() -> Option<i32> {
        rustix::process::getpriority_process(Some(rustix::thread::gettid())).ok()
    }

    #[test]
    fn it_is_done_by_a_nicer_thread_and_no_other_becomes_so() {
        let before = niceness();
        assert_eq!(aside(niceness).unwrap(), before.map(|nice| (nice + NICE).min(19)));
        assert!(before.is_some() && niceness() == before);
    }

    #[test]
    fn a_panic_is_a_failure_that_says_why() {
        let read = |text: &str| aside(|| text.parse::<u32>().expect("a number"));
        assert_eq!(read("12"), Ok(12));
        assert!(read("a dozen").unwrap_err().contains("please report it: a number"));
    }
}
