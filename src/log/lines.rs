//! Lines on their way to a file or a pipe. Whoever hands one over never waits and never fails:
//! output is not a dependency of the work.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// What may wait to be written. A line that would make it more is lost.
const MOST_BYTES: usize = 1 << 20;
/// What a line takes beside its bytes, so that empty lines are bounded too.
const LINE_BYTES: usize = 64;
/// After a pipe that does not block was full.
const PAUSE: Duration = Duration::from_millis(10);

/// A thread that writes lines, and those that wait for it.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    more: Condvar,
    /// All is written, or lost.
    done: Condvar,
    lost: AtomicU64,
    failing: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Box<[u8]>>,
    bytes: usize,
    writing: bool,
}

impl Lines {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives none.
    pub fn start(name: &str, to: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let lines = Self(shared.clone());
        thread::Builder::new().name(name.to_owned()).spawn(move || shared.write_to(to))?;
        Ok(lines)
    }

    /// Hands a line over, with its end. It is lost where too much waits already.
    pub fn push(&self, line: &[u8]) {
        let size = line.len().saturating_add(LINE_BYTES);
        let mut state = self.0.state.lock();
        if state.bytes.saturating_add(size) > MOST_BYTES {
            drop(state);
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes += size;
        state.waiting.push_back(line.into());
        drop(state);
        self.0.more.notify_one();
    }

    /// Lines that were lost so far.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Whether the last line could not be written.
    pub fn is_failing(&self) -> bool {
        self.0.failing.load(Ordering::Relaxed)
    }

    /// Waits until all is written that was handed over, but no longer than this: nobody may ever
    /// read. `false`: something still waits.
    pub fn flush(&self, at_most: Duration) -> bool {
        let mut state = self.0.state.lock();
        !self
            .0
            .done
            .wait_while_for(&mut state, |state| state.writing || !state.waiting.is_empty(), at_most)
            .timed_out()
    }
}

impl Shared {
    fn write_to(&self, mut to: impl Write) {
        // Whether the last line was written in part.
        let mut torn = false;
        loop {
            let line = self.next();
            let mut written = 0;
            let begun = if torn { write_whole(&mut to, b"\n", &mut 0) } else { Ok(()) };
            let outcome = begun.and_then(|()| {
                torn = false;
                write_whole(&mut to, &line, &mut written)
            });
            if outcome.is_err() {
                torn |= written > 0;
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
            self.failing.store(outcome.is_err(), Ordering::Relaxed);
        }
    }

    fn next(&self) -> Box<[u8]> {
        let mut state = self.state.lock();
        loop {
            if let Some(line) = state.waiting.pop_front() {
                state.bytes = state.bytes.saturating_sub(line.len().saturating_add(LINE_BYTES));
                state.writing = true;
                return line;
            }
            state.writing = false;
            self.done.notify_all();
            self.more.wait(&mut state);
        }
    }
}

/// Writes all of `bytes`, and counts what is written. Where a pipe that does not block is full it
/// waits until somebody has read, as if it did block.
///
/// # Errors
/// It cannot be written.
pub fn write_whole(to: &mut impl Write, bytes: &[u8], written: &mut usize) -> io::Result<()> {
    while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
        match to.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(some) => *written += some,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Takes one line, in one write.
#[derive(Debug)]
pub struct Line<'a>(&'a Lines);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
