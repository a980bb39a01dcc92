use http_body_util::{BodyExt, Full, StreamBody};
use proptest::prelude::*;
use tonic::Code;

use super::*;
use crate::grpc::budget::Known;
use crate::grpc::fast::frame::read_head;
use crate::grpc::inbound::Kind;

/// A call with this body.
fn request<B>(body: B, max: usize) -> Request<Inbound<B>> {
    let kind = Kind { known: Known::Yes, max_message_bytes: max, is_stream: false, gzip: false };
    Request::new(Inbound::new(body, 0, std::sync::Arc::default(), kind))
}

/// A call whose bytes come in these pieces, and what is answered: the code, and the message.
fn call(
    pieces: &[&[u8]],
    headers: &[(&'static str, &'static str)],
    max: usize,
) -> (Code, Option<Vec<u8>>) {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    let mut request = request(StreamBody::new(tokio_stream::iter(pieces)), max);
    for &(name, value) in headers {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let echo = |message: Bytes, _: Call<'_>| {
        Ok(Reply::Now(Ok(Framed::new(0, |bytes| bytes.extend_from_slice(&message)))))
    };
    read_answer(answer(request, echo))
}

fn read_answer(answer: BoxFuture<Response<Body>, Infallible>) -> (Code, Option<Vec<u8>>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        let response = answer.await.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
        if let Some(status) = Status::from_header_map(response.headers()) {
            return (status.code(), None);
        }
        let body = response.into_body().collect().await.unwrap();
        let code = Status::from_header_map(body.trailers().unwrap()).unwrap().code();
        let bytes = body.to_bytes();
        let (head, message) = bytes.split_first_chunk().unwrap();
        assert_eq!(read_head(*head), Ok((false, message.len())));
        (code, Some(message.to_vec()))
    })
}

#[test]
fn a_message_is_read_and_answered() {
    assert_eq!(call(&[b"\0\0\0\0\x03abc"], &[], 3), (Code::Ok, Some(b"abc".to_vec())));
    assert_eq!(
        call(&[b"\0\0\0\0\0"], &[("grpc-encoding", "identity")], 0),
        (Code::Ok, Some(Vec::new()))
    );
}

#[test]
fn what_is_not_one_message_is_refused() {
    for (what, pieces, code) in [
        ("nothing", &[][..], Code::Internal),
        ("an empty piece", &[b"".as_slice()], Code::Internal),
        ("no whole head", &[b"\0\0\0\0"], Code::Internal),
        ("too little", &[b"\0\0\0\0\x03ab"], Code::Internal),
        ("too much", &[b"\0\0\0\0\x03abcd"], Code::Internal),
        ("a second message", &[b"\0\0\0\0\x03abc", b"\0\0\0\0\0"], Code::Internal),
        ("compressed", &[b"\x01\0\0\0\x03abc"], Code::Internal),
        ("one byte too long", &[b"\0\0\0\0\x04abcd"], Code::ResourceExhausted),
        ("far too long, and not sent", &[b"\0\xff\xff\xff\xff"], Code::ResourceExhausted),
    ] {
        assert_eq!(call(pieces, &[], 3), (code, None), "{what}");
    }
}

#[test]
fn what_is_answered_later_is_answered_alike() {
    let call = |reply: fn() -> Result<Framed, Status>| {
        let request = request(Full::new(Bytes::from_static(b"\0\0\0\0\0")), 0);
        read_answer(answer(request, move |_, _| Ok(Reply::Later(Box::pin(async move { reply() })))))
    };
    assert_eq!(call(|| Ok(Framed::of(&7_u64))), (Code::Ok, Some(7_u64.encode_to_vec())));
    assert_eq!(call(|| Err(Status::unavailable("later"))), (Code::Unavailable, None));
}

proptest! {
    #[test]
    fn pieces_make_no_difference(message in proptest::collection::vec(any::<u8>(), 0..40), cuts in proptest::collection::vec(0_usize..45, 0..6)) {
        let whole = Framed::new(0, |bytes| bytes.extend_from_slice(&message)).0;
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).chain([0, whole.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect();
        prop_assert_eq!(call(&pieces, &[], 40), (Code::Ok, Some(message)));
    }
}
