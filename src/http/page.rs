//! A page that takes a while to make: made once for all who ask at once, away from the thread that
//! answers, and shared while it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::Mutex;
use tokio::task::JoinError;

/// Pages made at different times that are being sent. While so many are, those who ask get the
/// newest of them.
const MOST_PAGES: usize = 4;
/// How long a page is kept for those who asked before it was begun.
const KEEP: Duration = Duration::from_secs(1);
/// What is handed to a connection at a time: with TLS it is copied.
const PIECE: usize = 64 * 1024;

/// Makes a page whenever somebody asks.
pub(super) struct PageMaker {
    make: Box<dyn Fn() -> String + Send + Sync>,
    /// How many pages were begun.
    begun: AtomicU64,
    made: Arc<Mutex<Made>>,
}

#[derive(Default)]
struct Made {
    /// The newest, with its number.
    newest: Option<(u64, Page)>,
    /// All that somebody still holds, the newest last.
    held: Vec<Weak<Bytes>>,
}

/// A page that is shared by those who are sent it.
#[derive(Clone, Debug)]
pub(super) struct Page(Arc<Bytes>);

impl PageMaker {
    pub(super) fn new(make: impl Fn() -> String + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { make: Box::new(make), begun: AtomicU64::new(0), made: Arc::default() })
    }

    /// A page that was begun after this was called, so that it shows all that had happened by then;
    /// where many are still being sent, the newest.
    pub(super) async fn ask(self: &Arc<Self>) -> Result<Page, JoinError> {
        let begun = self.begun.load(Ordering::SeqCst);
        let mut turn = self.made.clone().lock_owned().await;
        if let Some((number, page)) = &turn.newest
            && *number > begun
        {
            return Ok(page.clone());
        }
        turn.held.retain(|held| held.strong_count() > 0);
        if turn.held.len() >= MOST_PAGES
            && let Some(page) = turn.held.last().and_then(Weak::upgrade)
        {
            return Ok(Page(page));
        }
        let maker = self.clone();
        // A task: it goes on where who asked has left, so that never two are made at once.
        tokio::spawn(async move {
            let number = maker.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let making = maker.clone();
            let text = tokio::task::spawn_blocking(move || (making.make)()).await?;
            let page = Page(Arc::new(Bytes::from(text)));
            turn.held.push(Arc::downgrade(&page.0));
            turn.newest = Some((number, page.clone()));
            drop(turn);
            tokio::spawn(async move { maker.forget(number).await });
            Ok(page)
        })
        .await?
    }

    /// Nobody who asked before a page was begun waits for it any more.
    async fn forget(&self, number: u64) {
        tokio::time::sleep(KEEP).await;
        let mut made = self.made.lock().await;
        if made.newest.as_ref().is_some_and(|(newest, _)| *newest == number) {
            made.newest = None;
        }
    }
}

impl std::fmt::Debug for PageMaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageMaker")
    }
}

impl Page {
    pub(super) fn into_body(self) -> axum::body::Body {
        axum::body::Body::new(Pieces { page: self, sent: 0 })
    }
}

/// A page on its way.
struct Pieces {
    page: Page,
    sent: usize,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let end = (self.sent + PIECE).min(self.page.0.len());
        let piece = self.page.0.slice(self.sent..end);
        self.sent = end;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent >= self.page.0.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.page.0.len() - self.sent).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Pages that say which they are, made when a word is given. The words, and what tells that one
    /// is being made.
    fn maker() -> (Arc<PageMaker>, mpsc::Sender<()>, tokio::sync::mpsc::UnboundedReceiver<()>) {
        let (word, words) = mpsc::channel();
        let words = std::sync::Mutex::new((words, 0_u32));
        let (begins, begun) = tokio::sync::mpsc::unbounded_channel();
        let maker = PageMaker::new(move || {
            let mut words = words.lock().unwrap();
            begins.send(()).unwrap();
            words.0.recv().unwrap();
            words.1 += 1;
            format!("page {}", words.1)
        });
        (maker, word, begun)
    }

    fn ask(maker: &Arc<PageMaker>) -> tokio::task::JoinHandle<Page> {
        let maker = maker.clone();
        tokio::spawn(async move { maker.ask().await.unwrap() })
    }

    #[tokio::test]
    async fn who_asks_while_a_page_is_made_gets_the_next_and_all_of_them_the_same() {
        let (maker, word, mut begun) = maker();
        let first = ask(&maker);
        begun.recv().await.unwrap();
        // Made while the first is: none of them may get it, for it does not show what happened
        // since.
        let others: Vec<_> = (0..20).map(|_| ask(&maker)).collect();
        tokio::task::yield_now().await;
        word.send(()).unwrap();
        word.send(()).unwrap();
        assert_eq!(*first.await.unwrap().0, "page 1");
        for other in others {
            assert_eq!(*other.await.unwrap().0, "page 2");
        }
        assert!(
            begun.recv().await.is_some() && begun.try_recv().is_err(),
            "two pages were made for 21"
        );
    }

    #[tokio::test]
    async fn a_page_is_made_to_its_end_though_who_asked_has_left() {
        let (maker, word, mut begun) = maker();
        for _ in 0..5 {
            let left = ask(&maker);
            tokio::task::yield_now().await;
            left.abort();
        }
        begun.recv().await.unwrap();
        tokio::task::yield_now().await;
        assert!(begun.try_recv().is_err(), "one at a time");
        word.send(()).unwrap();
        word.send(()).unwrap();
        assert_eq!(*ask(&maker).await.unwrap().0, "page 2");
    }

    #[tokio::test]
    async fn those_who_do_not_take_their_pages_hold_a_few_and_no_more() {
        let (maker, word, _begun) = maker();
        (0..MOST_PAGES + 1).for_each(|_| word.send(()).unwrap());
        let mut held = Vec::new();
        for _ in 0..3 * MOST_PAGES {
            held.push(maker.ask().await.unwrap());
        }
        let newest = format!("page {MOST_PAGES}");
        assert!(held.iter().skip(MOST_PAGES - 1).all(|page| *page.0 == newest), "{held:?}");
        drop(held);
        maker.made.lock().await.newest = None;
        assert_eq!(
            *maker.ask().await.unwrap().0,
            format!("page {}", MOST_PAGES + 1),
            "with room again there are new ones"
        );
    }

    #[tokio::test]
    async fn a_page_is_sent_in_pieces_and_whole() {
        let text = "0123456789".repeat(20_000);
        let body = Page(Arc::new(Bytes::from(text.clone()))).into_body();
        assert_eq!(body.size_hint().exact(), Some(200_000));
        assert_eq!(axum::body::to_bytes(body, usize::MAX).await.unwrap(), text);
    }
}
