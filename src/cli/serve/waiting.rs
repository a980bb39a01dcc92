//! A start that waits for what it needs: it says so to whoever asks for health, and ends when it is
//! told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How long one who asks is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many are answered at once. Others wait.
const AT_ONCE: usize = 16;
/// More than any probe sends.
const LONGEST_HEAD: usize = 8_192;

/// Between a start and those who watch it.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<State>);

#[derive(Debug, Default)]
struct State {
    stop: AtomicBool,
    why: Mutex<String>,
}

impl Waiting {
    /// Says what is waited for.
    pub(super) fn says(&self, why: String) {
        *self.0.why.lock() = why;
    }

    /// Ends the start.
    pub(super) fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.stop.load(Ordering::Acquire)
    }

    /// Answers everybody that the service is not ready, until this is dropped.
    pub(super) async fn answer(&self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            // Without files nobody can be let in: the next may be.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PATIENCE).await;
                continue;
            };
            let why = self.0.why.lock().clone();
            tokio::spawn(async move {
                drop(tokio::time::timeout(PATIENCE, refuse(stream, &why)).await);
                drop(place);
            });
        }
    }
}

async fn refuse(mut stream: TcpStream, why: &str) -> std::io::Result<()> {
    let mut head: Vec<u8> = Vec::new();
    let mut bytes = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < LONGEST_HEAD {
        match stream.read(&mut bytes).await? {
            0 => return Ok(()),
            count => head.extend(bytes.iter().take(count)),
        }
    }
    let body = if why.is_empty() {
        "starting\n".to_owned()
    } else {
        format!("starting: waiting for the ledger. {why}\n")
    };
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
