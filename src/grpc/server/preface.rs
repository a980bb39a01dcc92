//! The bytes of a connection, as HTTP/2 sees them. The first are waited for before anything is set
//! up for it.

use std::error::Error;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::grpc::overload::{CALM, ConnectionWatch};

/// What every client sends first, whatever it wants.
const PREFACE_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// What somebody speaks who does not speak HTTP/2. An operator has mixed up two ports, so it is
/// worth a word in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    #[error(
        "somebody speaks HTTP/1.1 to a port of gRPC, which is HTTP/2 by prior knowledge: health, metrics and /json are at http_addr"
    )]
    Http1,
    #[error(
        "somebody speaks TLS to a port of gRPC that speaks plain text: set tls.cert and tls.key, or have clients speak plain text"
    )]
    Tls,
}

impl Foreign {
    fn of(first: &[u8]) -> Option<Self> {
        const METHODS: [&[u8]; 9] = [
            b"GET ",
            b"HEAD ",
            b"POST ",
            b"PUT ",
            b"DELETE ",
            b"CONNECT ",
            b"OPTIONS ",
            b"TRACE ",
            b"PATCH ",
        ];
        if METHODS.iter().any(|method| first.starts_with(method)) {
            return Some(Self::Http1);
        }
        // A handshake of any version 3.
        first.starts_with(&[22, 3]).then_some(Self::Tls)
    }
}

/// What who speaks HTTP/1.1 is told.
const TO_HTTP1: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\n\
this port speaks gRPC, which is HTTP/2; health, metrics and /json are at http_addr\n";

/// A stream whose first bytes have come. They are read again.
pub(super) struct Prefaced<S> {
    /// What is left to be read again.
    first: Option<([u8; PREFACE_BYTES], usize)>,
    stream: S,
    /// Who has to read it.
    watched: Option<ConnectionWatch>,
    /// The peer sends too much: so much of what makes HTTP/2 say so was read.
    calm: Option<usize>,
}

impl<S: AsyncRead + Unpin> Prefaced<S> {
    /// Waits for the first bytes.
    ///
    /// # Errors
    /// The stream has ended or failed before.
    pub(super) async fn read(mut stream: S) -> io::Result<Self> {
        let mut first = [0; PREFACE_BYTES];
        stream.read_exact(&mut first).await?;
        Ok(Self { first: Some((first, 0)), stream, watched: None, calm: None })
    }

    /// Tells `watched` what is read from now on.
    pub(super) fn set_watched(&mut self, watched: Option<ConnectionWatch>) {
        self.watched = watched;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Prefaced<S> {
    /// The same, of somebody who may speak something else.
    ///
    /// # Errors
    /// The same, or what it is. Who speaks HTTP/1.1 is told what is spoken here.
    pub(super) async fn http2(stream: S) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut stream = Self::read(stream).await?;
        let Some(foreign) = stream.first.as_ref().and_then(|(first, _)| Foreign::of(first)) else {
            return Ok(stream);
        };
        if foreign == Foreign::Http1 {
            stream.write_all(TO_HTTP1).await?;
            stream.shutdown().await?;
        }
        Err(foreign.into())
    }
}

impl<S> Prefaced<S> {
    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if let (Some(watched), Poll::Ready(Ok(bytes))) = (&self.watched, written) {
            watched.wrote(*bytes);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefaced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some((first, read)) = &mut self.first else {
            if let Some(read) = &mut self.calm {
                let left = CALM.get(*read..).unwrap_or_default();
                if left.is_empty() {
                    // Who drives the connection ends it: there is nothing to be woken for.
                    return Poll::Pending;
                }
                *read += put(left, buffer);
                return Poll::Ready(Ok(()));
            }
            let Self { stream, watched, .. } = &mut *self;
            if watched.as_mut().is_some_and(ConnectionWatch::has_had_its_turn) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let filled = buffer.filled().len();
            let read = Pin::new(stream).poll_read(context, buffer);
            let Some(watched) = watched else { return read };
            match &read {
                // All was read, or as much as one turn of the connection may: then it is asked
                // again for what is left.
                Poll::Pending => watched.dry(),
                Poll::Ready(Ok(())) if buffer.filled().len() > filled => {
                    let bytes = buffer.filled().get(filled..).unwrap_or_default();
                    if let Some(until) = watched.read(bytes) {
                        buffer.set_filled(filled + until);
                        self.calm = Some(put(&CALM, buffer));
                    }
                }
                _ => {}
            }
            return read;
        };
        let left = first.get(*read..).unwrap_or_default();
        let taken = put(left, buffer);
        *read += taken;
        if taken == left.len() {
            self.first = None;
        }
        Poll::Ready(Ok(()))
    }
}

/// Gives as many of these bytes as there is room for. How many were.
fn put(bytes: &[u8], buffer: &mut ReadBuf<'_>) -> usize {
    let taken = bytes.get(..buffer.remaining()).unwrap_or(bytes);
    buffer.put_slice(taken);
    taken.len()
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefaced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(&written);
        written
    }

    /// Not yet while HTTP/2 is being set up: it decides then, by this, which answers it copies into
    /// one buffer and which it sends each with a write of its own, and does the latter from 256
    /// bytes on where writes are vectored, from 1,024 on where they are not.
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
    use std::task::Waker;

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
        assert_eq!(
            Prefaced::read(&sent[..23]).await.err().map(|error| error.kind()),
            Some(io::ErrorKind::UnexpectedEof)
        );
    }

    #[tokio::test]
    async fn who_speaks_something_else_is_known_and_told() {
        for (sent, foreign, told) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], None, &b""[..]),
            (b"GET /healthcheck HTTP/1.1\r\n\r\n", Some(Foreign::Http1), TO_HTTP1),
            (b"POST / HTTP/1.0\r\nhost: somebody\r\n", Some(Foreign::Http1), TO_HTTP1),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 a client hello", Some(Foreign::Tls), b""),
            (b"something that nobody knows", None, b""),
        ] {
            let (mut client, server) = tokio::io::duplex(1_000);
            client.write_all(sent).await.unwrap();
            let read = Prefaced::http2(server).await;
            let known =
                read.as_ref().err().and_then(|error| error.downcast_ref::<Foreign>().copied());
            assert_eq!(known, foreign, "{sent:?}");
            drop(read);
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, told, "{sent:?}");
        }
    }

    /// Something that gives one piece for each read, and then nothing more for now.
    struct Pieces(Vec<&'static [u8]>, usize);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1 += 1;
            if self.0.is_empty() {
                return Poll::Pending;
            }
            buffer.put_slice(self.0.remove(0));
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn of_what_is_too_much_up_to_there_is_read_and_then_what_calms() {
        let core = Overload::new(None).calming(1).core();
        let watched =
            ConnectionWatch::new(core, Clock::from_fn(|| Now { unix_ns: 0, steady_ns: 0 }));
        let state = watched.state();
        // Five at once, and one for the second before.
        let pings: &'static [u8] = Box::leak(
            [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(7).into_boxed_slice(),
        );
        let pieces = Pieces(vec![&[b'x'; PREFACE_BYTES], pings, b"never"], 0);
        let mut stream = Prefaced::read(pieces).await.unwrap();
        stream.set_watched(Some(watched));
        let mut all = Vec::new();
        let mut buffer = [0; 200];
        loop {
            let mut buffer = ReadBuf::new(&mut buffer);
            if Pin::new(&mut stream)
                .poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer)
                .is_pending()
            {
                break;
            }
            all.extend_from_slice(buffer.filled());
        }
        assert_eq!(all, [&[b'x'; PREFACE_BYTES], &pings[..6 * 17], &CALM[..]].concat());
        assert!(state.is_calmed());
        assert_eq!(stream.stream.0, [b"never"]);
    }
}
