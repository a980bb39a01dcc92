//! The log on standard error, and what panics.
//!
//! A line that cannot be written is lost and counted, and nothing else happens: not on a full disk,
//! not on a pipe that is closed, full, or read by nobody. A panic, of whatever thread, is a line of
//! the log and is counted.

mod lines;

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

pub use self::lines::{Line, Lines, write_whole};
use crate::config::LogFormat;

/// How long a stop waits for lines that nobody takes.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The log of the process.
#[derive(Clone, Debug)]
pub struct Log {
    lines: Lines,
    panics: Arc<AtomicU64>,
}

impl Log {
    /// Starts the thread that writes it.
    ///
    /// # Errors
    /// The operating system gives none.
    pub fn start() -> std::io::Result<Self> {
        Ok(Self { lines: Lines::start("log", std::io::stderr())?, panics: Arc::default() })
    }

    /// From now on everything that is logged goes here, panics too.
    ///
    /// # Errors
    /// There is another log already.
    pub fn install(&self, level: &str, format: LogFormat) -> Result<(), String> {
        let filter = EnvFilter::try_new(level).unwrap_or_default();
        // Errors of the log itself would go to standard error by `eprintln!`, which panics where
        // that cannot be written.
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(self.lines.clone())
            .log_internal_errors(false);
        let installed = match format {
            LogFormat::Text => log.with_ansi(false).try_init(),
            LogFormat::Json => log.json().flatten_event(true).try_init(),
        };
        installed.map_err(|error| error.to_string())?;
        let panics = self.panics.clone();
        set_hook(Box::new(move |panic| {
            panics.fetch_add(1, Ordering::Relaxed);
            tell(panic);
        }));
        Ok(())
    }

    /// Says something to whoever started the process, beside the log but in its order.
    pub fn say(&self, text: &str) {
        self.lines.push(format!("tollgate: {text}\n").as_bytes());
    }

    /// Lines that could not be written.
    pub fn lost(&self) -> u64 {
        self.lines.lost()
    }

    /// Whether lines can be written just now.
    pub fn works(&self) -> bool {
        !self.lines.is_failing()
    }

    /// Panics of all threads so far.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Waits a moment for what is not written yet.
    pub fn finish(&self) {
        self.lines.flush(LAST_LINES);
    }
}

/// It must not panic: that would end the process.
fn tell(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let said = words(panic.payload());
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(thread, place, "panic: {said}\n{backtrace}"),
        _ => tracing::error!(thread, place, "panic: {said}"),
    }
}

/// What a panic said.
pub fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

/// The future panicked; the log has said how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it panicked")]
pub struct Panicked;

/// A future whose panic ends nothing but itself.
///
/// # Errors
/// It panicked.
pub async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_future_alone() {
        async fn divide(by: Option<u32>) -> u32 {
            tokio::task::yield_now().await;
            12 / by.unwrap()
        }
        assert_eq!(caught(divide(Some(4))).await, Ok(3));
        assert_eq!(caught(divide(None)).await, Err(Panicked));
    }
}
