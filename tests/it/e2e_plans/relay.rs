//! A TCP relay that loses answers.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// A running relay. What is sent on its first connection arrives, and no answer comes back until
/// the connection is cut. Every later connection is as if there were no relay. It ends when it is
/// dropped.
pub struct Relay {
    addr: SocketAddr,
    cut: Arc<Notify>,
    runtime: Option<Runtime>,
}

impl Relay {
    pub fn start(to: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let cut = Arc::new(Notify::new());
        let told = Arc::clone(&cut);
        runtime.spawn(async move {
            let (first, _) = listener.accept().await.unwrap();
            tokio::spawn(lose_answers(first, to, told));
            loop {
                let (mut from, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut to = TcpStream::connect(to).await.unwrap();
                    // However it ends, it ends for both sides.
                    let _ = copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        Self { addr, cut, runtime: Some(runtime) }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends the first connection.
    pub fn cut(&self) {
        self.cut.notify_one();
    }
}

async fn lose_answers(mut from: TcpStream, to: SocketAddr, cut: Arc<Notify>) {
    let mut to = TcpStream::connect(to).await.unwrap();
    let (mut requests, _) = from.split();
    let (mut answers, mut server) = to.split();
    let mut lost = sink();
    tokio::select! {
        _ = copy(&mut requests, &mut server) => {}
        _ = copy(&mut answers, &mut lost) => {}
        () = cut.notified() => {}
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
