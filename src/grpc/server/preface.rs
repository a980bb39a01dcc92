//! The bytes of a connection, as HTTP/2 sees them. The first are waited for before anything is set up for it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

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

impl<S: AsyncRead + Unpin> AsyncRead for Prefaced<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some((first, read)) = &mut self.first else {
            let Self { stream, line, .. } = &mut *self;
            let filled = buffer.filled().len();
            let read = Pin::new(stream).poll_read(context, buffer);
            let Some(line) = line else { return read };
            match &read {
                Poll::Pending => line.dry(),
                Poll::Ready(_) if line.read(buffer.filled().len() - filled) => {}
                Poll::Ready(_) => {
                    buffer.set_filled(filled);
                    return Poll::Pending;
                }
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
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    /// Not yet while HTTP/2 is being set up: it decides then, by this, which answers it copies into one buffer and which it sends each with a
    /// write of its own, and does the latter from 256 bytes on where writes are vectored, from 1,024 on where they are not.
    fn is_write_vectored(&self) -> bool {
        self.first.is_none() && self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
