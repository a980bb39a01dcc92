//! The bytes of a connection, as HTTP/2 sees them. The first are waited for before anything is set up for it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::grpc::overload::Line;

/// What every client sends first, whatever it wants.
const PREFACE_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// A stream whose first bytes have come. They are read again.
pub(super) struct Prefaced<S> {
    /// What is left to be read again.
    first: Option<([u8; PREFACE_BYTES], usize)>,
    stream: S,
    /// Who has to read it.
    line: Option<Line>,
}

impl<S: AsyncRead + Unpin> Prefaced<S> {
    /// Waits for the first bytes.
    ///
    /// # Errors
    /// The stream has ended or failed before.
    pub(super) async fn read(mut stream: S) -> io::Result<Self> {
        let mut first = [0; PREFACE_BYTES];
        stream.read_exact(&mut first).await?;
        Ok(Self { first: Some((first, 0)), stream, line: None })
    }

    /// Tells `line` what is read from now on. Once the line is cut, nothing more is.
    pub(super) fn on(self, line: Option<Line>) -> Self {
        Self { line, ..self }
    }
}

impl<S> Prefaced<S> {
    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if let Some(line) = &self.line {
            line.writes(match written {
                Poll::Ready(written) => Some(*written.as_ref().unwrap_or(&0)),
                Poll::Pending => None,
            });
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefaced<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some((first, read)) = &mut self.first else {
            let Self { stream, line, .. } = &mut *self;
            if line.as_ref().is_some_and(Line::is_cut) {
                // Who drives the connection ends it: there is nothing to be woken for.
                return Poll::Pending;
            }
            let filled = buffer.filled().len();
            let read = Pin::new(stream).poll_read(context, buffer);
            let Some(line) = line else { return read };
            match &read {
                // All was read, or as much as one turn of the connection may: then it is asked again for what is left.
                Poll::Pending => line.dry(),
                Poll::Ready(Ok(())) if buffer.filled().len() > filled && !line.read(buffer.filled().len() - filled) => {
                    buffer.set_filled(filled);
                    return Poll::Pending;
                }
                _ => {}
            }
            return read;
        };
        let left = first.get(*read..).unwrap_or_default();
        let taken = left.get(..buffer.remaining()).unwrap_or(left);
        buffer.put_slice(taken);
        *read += taken.len();
        if taken.len() == left.len() {
            self.first = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefaced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(&written);
        written
    }

    /// Not yet while HTTP/2 is being set up: it decides then, by this, which answers it copies into one buffer and which it sends each with a
    /// write of its own, and does the latter from 256 bytes on where writes are vectored, from 1,024 on where they are not.
    fn is_write_vectored(&self) -> bool {
        self.first.is_none() && self.stream.is_write_vectored()
    }

    /// HTTP/2 flushes in the midst of a large answer, too: a line that was cut is over when nothing is left to be written, and then the peer is
    /// told.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        let Self { stream, line, .. } = &mut *self;
        let Some(line) = line.as_ref().filter(|line| line.is_over()) else { return Poll::Ready(Ok(())) };
        let ended = ready!(Pin::new(stream).poll_shutdown(context));
        line.told();
        Poll::Ready(ended)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;
    use crate::clock::Clock;
    use crate::decide::time::Now;
    use crate::grpc::overload::Overload;

    #[tokio::test]
    async fn what_came_first_is_read_again_in_pieces_of_any_size() {
        let sent: Vec<u8> = (0..100).collect();
        for piece in [1, 5, 24, 25, 100] {
            let mut stream = Prefaced::read(sent.as_slice()).await.unwrap();
            let mut read = Vec::new();
            let mut buffer = vec![0; piece];
            loop {
                match stream.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => read.extend_from_slice(&buffer[..count]),
                }
            }
            assert_eq!(read, sent, "in pieces of {piece}");
        }
        assert_eq!(Prefaced::read(&sent[..23]).await.err().map(|error| error.kind()), Some(io::ErrorKind::UnexpectedEof));
    }

    /// Something that gives one piece for each read, and then nothing more for now.
    struct Pieces(Vec<&'static [u8]>, usize);

    impl AsyncRead for Pieces {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.1 += 1;
            if self.0.is_empty() {
                return Poll::Pending;
            }
            buffer.put_slice(self.0.remove(0));
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn once_a_line_is_cut_nothing_more_is_read() {
        let core = Overload::new(Some(Duration::from_nanos(1)), Some(Duration::from_millis(100))).core();
        // A core that is behind, for long enough.
        [1, 1_000_000_000].iter().for_each(|&now_ns| core.turn(1_000_000_000, now_ns));
        let times = Mutex::new(vec![1_000_000_000, 500_000_000]);
        let clock = Clock::from_fn(move || Now { unix_ns: 0, steady_ns: times.lock().pop().unwrap() });
        let line = Line::new(core.clone(), clock);
        let ends = line.ends();
        let pieces = Pieces(vec![&[b'x'; PREFACE_BYTES], b"first", b"cut", b"never"], 0);
        let mut stream = Prefaced::read(pieces).await.unwrap().on(Some(line));
        let mut buffer = [0; 64];
        let mut read = |stream: &mut Prefaced<Pieces>| {
            let mut buffer = ReadBuf::new(&mut buffer);
            let read = Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
            (read.is_ready(), buffer.filled().to_vec())
        };
        assert_eq!(read(&mut stream), (true, vec![b'x'; PREFACE_BYTES]));
        // Nobody has looked at this one yet, so it is looked at.
        assert_eq!(read(&mut stream), (true, b"first".to_vec()));
        let later = std::mem::take(&mut stream.stream.0);
        (0..100).for_each(|_| ends.came());
        assert_eq!(read(&mut stream), (false, vec![]));
        stream.stream.0 = later;
        assert!(!ends.is_cut());
        assert_eq!(read(&mut stream), (false, vec![]), "it has come, and is not looked at");
        assert!(ends.is_cut());
        let reads = stream.stream.1;
        assert_eq!((read(&mut stream), stream.stream.1, stream.stream.0.len()), ((false, vec![]), reads, 1), "nor is what comes after it");
    }
}
