//! Waiting for a moment, to some microseconds: the runtime's timers know milliseconds only.

use std::io;

/// Wakes whoever waits for it.
#[derive(Debug)]
pub(super) struct Alarm(imp::Alarm);

impl Alarm {
    /// An alarm of the runtime that runs this.
    ///
    /// # Errors
    /// The operating system has no more of them.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(imp::Alarm::new()?))
    }

    /// Waits so long; at least until others have had their turn.
    pub(super) async fn wait(&self, ns: u64) -> io::Result<()> {
        if ns == 0 {
            tokio::task::yield_now().await;
            return Ok(());
        }
        self.0.wait(ns).await
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::io;
    use std::os::fd::OwnedFd;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    #[derive(Debug)]
    pub(super) struct Alarm(AsyncFd<OwnedFd>);

    impl Alarm {
        pub(super) fn new() -> io::Result<Self> {
            // Deprecated because a descriptor could be closed that is still in use. This one is
            // owned, and closed after its registration.
            #[allow(deprecated)]
            let register = AsyncFd::with_interest;
            let timer = timerfd_create(
                TimerfdClockId::Monotonic,
                TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
            )?;
            Ok(Self(register(timer, Interest::READABLE)?))
        }

        pub(super) async fn wait(&self, ns: u64) -> io::Result<()> {
            let once = Timespec { tv_sec: 0, tv_nsec: 0 };
            let length = std::time::Duration::from_nanos(ns);
            let value = Timespec {
                tv_sec: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: length.subsec_nanos().into(),
            };
            timerfd_settime(
                self.0.get_ref(),
                TimerfdTimerFlags::empty(),
                &Itimerspec { it_interval: once, it_value: value },
            )?;
            let mut expirations = [0; 8];
            self.0
                .async_io(Interest::READABLE, |timer| {
                    Ok(rustix::io::read(timer, &mut expirations)?)
                })
                .await?;
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;
    use std::time::Duration;

    #[derive(Debug)]
    pub(super) struct Alarm;

    impl Alarm {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn wait(&self, ns: u64) -> io::Result<()> {
            tokio::time::sleep(Duration::from_nanos(ns)).await;
            Ok(())
        }
    }
}
