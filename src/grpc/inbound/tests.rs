use std::future::poll_fn;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::StreamBody;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;

use super::*;
use crate::clock::Clock;
use crate::grpc::budget::Budget;

type Pieces = StreamBody<UnboundedReceiverStream<Result<Frame<Bytes>, Status>>>;

struct Sender(mpsc::UnboundedSender<Result<Frame<Bytes>, Status>>);

impl Sender {
    fn send(&self, bytes: &[u8]) {
        self.0.send(Ok(Frame::data(Bytes::copy_from_slice(bytes)))).unwrap();
    }
}

const MAX: usize = 1_000;

/// A call, and who sends it.
fn call(
    connection: &Arc<ConnectionState>,
    is_stream: bool,
    gzip: bool,
) -> (Sender, Inbound<Pieces>) {
    let (sender, pieces) = mpsc::unbounded_channel();
    let kind = Kind { known: Known::Yes, max_message_bytes: MAX, is_stream, gzip };
    (
        Sender(sender),
        Inbound::new(
            StreamBody::new(UnboundedReceiverStream::new(pieces)),
            0,
            connection.clone(),
            kind,
        ),
    )
}

async fn next(inbound: &mut Inbound<Pieces>) -> Option<Result<Vec<u8>, Code>> {
    let frame = poll_fn(|context| Pin::new(&mut *inbound).poll_frame(context)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap().to_vec()).map_err(|status| status.code()))
}

/// Whether there is nothing to be had for now.
async fn waits(inbound: &mut Inbound<Pieces>) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *inbound).poll_frame(context).is_pending())).await
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn packed(message: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(message).unwrap();
    let mut framed = framed(&packer.finish().unwrap());
    framed[0] = 1;
    framed
}

#[tokio::test]
async fn messages_are_handed_on_whole_however_they_come() {
    let all = [framed(b"one"), framed(b""), framed(&[7; 300]), framed(b"last")];
    let bytes = all.concat();
    for size in [1, 2, 5, 6, 8, 13, 100, 1_000] {
        let (sender, mut inbound) = call(&Arc::default(), true, false);
        bytes.chunks(size).for_each(|piece| sender.send(piece));
        drop(sender);
        for message in &all {
            assert_eq!(next(&mut inbound).await, Some(Ok(message.clone())), "in pieces of {size}");
        }
        assert_eq!(next(&mut inbound).await, None);
    }
}

#[tokio::test]
async fn a_call_holds_what_has_come_while_it_waits_and_not_what_it_declares() {
    let budget = Arc::new(Budget::new(1 << 20));
    let connection = Arc::new(ConnectionState::holding_of(budget.clone()));
    let (sender, mut inbound) = call(&connection, true, false);
    sender.send(b"\0\0\0\x03\xe8x");
    assert!(waits(&mut inbound).await);
    assert!((1_024..1_200).contains(&budget.held()), "{}", budget.held());
    sender.send(&[b'x'; 999]);
    assert_eq!(next(&mut inbound).await.unwrap().unwrap().len(), 1_005);
    assert!(waits(&mut inbound).await);
    assert_eq!(budget.held(), 1_024, "an open call without a message");
    drop(inbound);
    assert_eq!(budget.held(), 0);
    // Where there is no room, it is refused.
    let tiny = Arc::new(ConnectionState::holding_of(Arc::new(Budget::new(1_024))));
    let (_sender, mut inbound) = call(&tiny, true, false);
    assert_eq!(next(&mut inbound).await, Some(Err(Code::ResourceExhausted)));
    // And what is there at once is not looked at.
    let (sender, mut inbound) = call(&tiny, false, false);
    sender.send(&framed(b"x"));
    assert_eq!(next(&mut inbound).await, Some(Ok(framed(b"x"))));
}

#[tokio::test]
async fn a_length_beyond_the_bound_is_refused_by_the_head_alone() {
    let (sender, mut inbound) = call(&Arc::default(), false, false);
    sender.send(b"\0\0\0\x03\xe9");
    assert_eq!(next(&mut inbound).await, Some(Err(Code::ResourceExhausted)));
}

#[tokio::test]
async fn at_a_stop_a_stream_that_waits_for_a_message_ends_and_one_in_its_midst_has_a_moment() {
    let clock = Clock::system();
    for (is_stream, sent, waits_ms) in
        [(true, &b""[..], 0), (true, b"\0\0\0\0\x01", 250), (false, b"", 250), (false, b"\0", 250)]
    {
        let connection: Arc<ConnectionState> = Arc::default();
        let (stop, stopping) = watch::channel(false);
        connection.stops_with(stopping);
        let (sender, mut inbound) = call(&connection, is_stream, false);
        sender.send(sent);
        assert!(waits(&mut inbound).await);
        stop.send_replace(true);
        let begin_ns = clock.steady_ns();
        assert_eq!(next(&mut inbound).await, Some(Err(Code::Unavailable)), "{is_stream} {sent:?}");
        let waited_ms = (clock.steady_ns() - begin_ns) / 1_000_000;
        // A busy machine takes longer, and nothing is sooner.
        assert!(
            waited_ms >= waits_ms && (waits_ms > 0 || waited_ms < 250),
            "{is_stream} {sent:?}: {waited_ms}"
        );
    }
    // What comes in that moment is answered.
    let connection: Arc<ConnectionState> = Arc::default();
    let (stop, stopping) = watch::channel(false);
    connection.stops_with(stopping);
    let (sender, mut inbound) = call(&connection, true, false);
    assert!(waits(&mut inbound).await);
    sender.send(b"\0\0\0\0\x01");
    assert!(waits(&mut inbound).await);
    stop.send_replace(true);
    assert!(waits(&mut inbound).await);
    sender.send(b"x");
    assert_eq!(next(&mut inbound).await, Some(Ok(framed(b"x"))));
    assert_eq!(next(&mut inbound).await, Some(Err(Code::Unavailable)), "and nothing after it");
}

#[tokio::test]
async fn compressed_messages_are_unpacked_up_to_the_bound() {
    let (sender, mut inbound) = call(&Arc::default(), true, true);
    for message in [&b""[..], b"abc", &[7; MAX]] {
        sender.send(&packed(message));
        sender.send(&framed(b"as it is"));
        assert_eq!(next(&mut inbound).await, Some(Ok(framed(message))), "{}", message.len());
        assert_eq!(next(&mut inbound).await, Some(Ok(framed(b"as it is"))));
    }
    sender.send(&packed(&[7; MAX + 1]));
    assert_eq!(next(&mut inbound).await, Some(Err(Code::ResourceExhausted)));
    for (what, gzip, bytes, code) in [
        ("a bomb", true, packed(&vec![0; 100 << 10]), Code::ResourceExhausted),
        ("no gzip", true, [&b"\x01\0\0\0\x04"[..], b"abcd"].concat(), Code::InvalidArgument),
        (
            "a flag that is none",
            true,
            framed(b"x").iter().map(|byte| byte.max(&2)).copied().collect(),
            Code::Internal,
        ),
        ("a flag without the header", false, packed(b"abc"), Code::Internal),
    ] {
        let (sender, mut inbound) = call(&Arc::default(), false, gzip);
        sender.send(&bytes);
        assert_eq!(next(&mut inbound).await, Some(Err(code)), "{what}");
    }
    let budget = Arc::new(Budget::new(4 * 1_500));
    let (sender, mut inbound) = call(&Arc::new(ConnectionState::holding_of(budget)), false, true);
    sender.send(&packed(&[7; MAX]));
    assert_eq!(
        next(&mut inbound).await,
        Some(Err(Code::ResourceExhausted)),
        "what is unpacked is held, too"
    );
}

#[test]
fn what_is_compressed_otherwise_is_not_read() {
    for (encoding, gzip) in [(None, false), (Some("identity"), false), (Some("gzip"), true)] {
        let mut headers: HeaderMap =
            encoding.iter().map(|encoding| (ENCODING, encoding.parse().unwrap())).collect();
        assert_eq!(takes_gzip(&mut headers), Ok(gzip), "{encoding:?}");
        assert!(headers.get(ENCODING).is_none_or(|encoding| encoding == "identity"));
    }
    let mut headers = HeaderMap::from_iter([(ENCODING, "zstd".parse().unwrap())]);
    let status = Status::from(takes_gzip(&mut headers).unwrap_err());
    assert_eq!(
        (status.code(), status.metadata().get("grpc-accept-encoding").unwrap().to_str().unwrap()),
        (Code::Unimplemented, "identity,gzip")
    );
}
