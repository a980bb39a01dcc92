//! How long a test waits for what must come.

use std::thread;
use std::time::{Duration, Instant};

/// Far longer than anything here takes on a slow machine, so that a test that hangs says what it
/// waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until `seen` finds something. For what nobody announces; everything else
/// is waited for.
pub fn until<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = seen() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} was not seen in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
