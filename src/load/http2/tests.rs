use super::*;

fn headers(path: &str) -> Fields {
    [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "h:1")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// A frame of the server.
fn served(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame(&mut bytes, kind, flags, stream, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}

fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = pairs
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    served(kind::SETTINGS, 0, 0, &payload)
}

/// A connection whose server has greeted it with these settings.
fn greeted(pairs: &[(u16, u32)]) -> Http2 {
    let mut http2 = Http2::new(vec![headers("/a")]);
    assert_eq!(http2.room(0), 0, "nothing is asked before the server has said what it allows");
    let bytes = settings(pairs);
    assert_eq!(http2.read(&bytes).unwrap(), Some((bytes.len(), Event::Nothing)));
    http2
}

/// Kind, flags, stream and length of the frames that wait to be sent.
fn sent(http2: &mut Http2) -> Vec<(u8, u8, u32, usize)> {
    let mut bytes = http2.unsent();
    bytes = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length =
            (usize::from(head[0]) << 16) | (usize::from(head[1]) << 8) | usize::from(head[2]);
        frames.push((
            head[3],
            head[4],
            u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            length,
        ));
        bytes = &rest[length..];
    }
    http2.was_sent(http2.unsent().len());
    frames
}

fn event(http2: &mut Http2, bytes: &[u8]) -> String {
    match http2.read(bytes) {
        Ok(Some((length, event))) => {
            assert_eq!(length, bytes.len());
            format!("{event:?}")
        }
        Ok(None) => "not all there".to_owned(),
        Err(reason) => format!("error: {reason}"),
    }
}

#[test]
fn the_greeting_comes_first_and_every_setting_is_acknowledged() {
    let mut http2 = greeted(&[(setting::MAX_CONCURRENT_STREAMS, 3)]);
    assert!(http2.unsent().starts_with(PREFACE));
    assert_eq!(
        sent(&mut http2),
        [
            (kind::SETTINGS, 0, 0, 18),
            (kind::WINDOW_UPDATE, 0, 0, 4),
            (kind::SETTINGS, flag::ACK, 0, 0)
        ]
    );
    assert_eq!([http2.room(0), http2.room(2), http2.room(3), http2.room(4)], [3, 1, 0, 0]);
    assert_eq!(event(&mut http2, &served(kind::SETTINGS, flag::ACK, 0, &[])), "Nothing");
    assert_eq!(sent(&mut http2), [], "an acknowledgement is not acknowledged");
}

#[test]
fn a_call_is_headers_and_data_and_large_messages_take_several_frames() {
    let mut http2 = greeted(&[]);
    sent(&mut http2);
    for stream in [1, 3] {
        assert_eq!(http2.open(0), Some(stream));
        http2.send(stream, &[7; 100], true);
    }
    let frames = sent(&mut http2);
    assert!(
        matches!(frames[..], [(kind::HEADERS, flag::END_HEADERS, 1, long), (kind::DATA, 1, 1, 100), (kind::HEADERS, 4, 3, short), (kind::DATA, 1, 3, 100)] if short < long)
    );
    assert_eq!(http2.open(0), Some(5));
    http2.send(5, &[7; MAX_FRAME_BYTES + 1], true);
    assert_eq!(
        sent(&mut http2)[1..],
        [(kind::DATA, 0, 5, MAX_FRAME_BYTES), (kind::DATA, flag::END_STREAM, 5, 1)]
    );
    http2.send(5, &[], true);
    assert_eq!(sent(&mut http2), [(kind::DATA, flag::END_STREAM, 5, 0)]);
    assert_eq!(http2.open(1), None);
}

#[test]
fn no_more_is_sent_than_the_server_takes() {
    let mut http2 = greeted(&[(setting::INITIAL_WINDOW_SIZE, 1_000)]);
    assert!(
        http2.takes(1_000, http2.stream_window()) && !http2.takes(1_001, http2.stream_window())
    );
    http2.open(0);
    http2.send(1, &vec![0; 65_000], true);
    assert!(http2.takes(535, 1_000) && !http2.takes(536, 1_000));
    event(&mut http2, &served(kind::WINDOW_UPDATE, 0, 0, &65_000_u32.to_be_bytes()));
    assert!(http2.takes(65_535, 1 << 20) && !http2.takes(65_536, 1 << 20));
    assert_eq!(
        event(&mut http2, &served(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9])),
        "Window { stream: 1, bytes: 9 }"
    );
}

#[test]
fn the_servers_window_is_filled_up_again() {
    let mut http2 = greeted(&[]);
    sent(&mut http2);
    let data = served(kind::DATA, 0, 1, &[0; MAX_FRAME_BYTES]);
    for _ in 1..REFILL as usize / MAX_FRAME_BYTES {
        event(&mut http2, &data);
    }
    assert_eq!(sent(&mut http2), []);
    event(&mut http2, &data);
    assert_eq!(sent(&mut http2), [(kind::WINDOW_UPDATE, 0, 0, 4)]);
}

#[test]
fn frames_are_read_when_they_are_whole() {
    let mut http2 = greeted(&[]);
    sent(&mut http2);
    let data = served(kind::DATA, flag::END_STREAM, 5, b"abc");
    for cut in 0..data.len() {
        assert_eq!(http2.read(&data[..cut]).unwrap(), None, "{cut}");
    }
    let more = [&data[..], b"more"].concat();
    assert_eq!(
        http2.read(&more).unwrap(),
        Some((data.len(), Event::Data { stream: 5, bytes: b"abc", end: true }))
    );
    let head = |http_status, grpc_status| {
        format!("{:?}", Head { http_status, grpc_status, grpc_message: None })
    };
    let trailers = [&[0, 11][..], b"grpc-status", &[1, b'8']].concat();
    let cases = [
        (
            served(kind::HEADERS, 4, 5, &[0x88]),
            format!("Head {{ stream: 5, head: {}, end: false }}", head(Some(200), None)),
        ),
        (
            served(kind::HEADERS, 5, 5, &trailers),
            format!("Head {{ stream: 5, head: {}, end: true }}", head(None, Some(8))),
        ),
        (
            served(kind::HEADERS, 4 | 8 | 32, 5, &[2, 0, 0, 0, 0, 9, 0x88, 0, 0]),
            format!("Head {{ stream: 5, head: {}, end: false }}", head(Some(200), None)),
        ),
        (
            served(kind::DATA, 8, 5, &[1, b'a', 0]),
            "Data { stream: 5, bytes: [97], end: false }".to_owned(),
        ),
        (
            served(kind::DATA, 8, 5, &[3, b'a', 0]),
            "error: a frame has more padding than bytes".to_owned(),
        ),
        (served(kind::RST_STREAM, 0, 7, &[0, 0, 0, 8]), "Reset { stream: 7, code: 8 }".to_owned()),
        (served(kind::RST_STREAM, 0, 7, &[0]), "error: a frame is too short".to_owned()),
        (
            served(kind::PUSH_PROMISE, 0, 7, &[0; 4]),
            "error: the server pushes, although it was told not to".to_owned(),
        ),
        (
            served(kind::CONTINUATION, 4, 7, &[]),
            "error: a header block continues that never began".to_owned(),
        ),
        (served(0x42, 0, 0, b"unknown"), "Nothing".to_owned()),
        (served(kind::SETTINGS, 0, 0, &[1, 2, 3]), "error: settings are cut off".to_owned()),
    ];
    for (bytes, expected) in cases {
        assert_eq!(event(&mut http2, &bytes), expected);
    }
}

#[test]
fn a_header_block_in_several_frames_is_one() {
    let mut http2 = greeted(&[]);
    let trailers = [&[0, 11][..], b"grpc-status", &[1, b'0']].concat();
    assert_eq!(event(&mut http2, &served(kind::HEADERS, 1, 3, &trailers[..4])), "Nothing");
    assert_eq!(event(&mut http2, &served(kind::CONTINUATION, 0, 3, &trailers[4..6])), "Nothing");
    let whole = event(&mut http2, &served(kind::CONTINUATION, 4, 3, &trailers[6..]));
    assert!(
        whole.contains("stream: 3")
            && whole.contains("grpc_status: Some(0)")
            && whole.ends_with("end: true }"),
        "{whole}"
    );
    event(&mut http2, &served(kind::HEADERS, 1, 3, &trailers[..4]));
    assert_eq!(
        event(&mut http2, &served(kind::PING, 0, 0, &[0; 8])),
        "error: a header block is interrupted by another frame"
    );
}

#[test]
fn a_ping_is_answered_and_a_server_that_goes_away_is_asked_nothing_more() {
    let mut http2 = greeted(&[]);
    sent(&mut http2);
    event(&mut http2, &served(kind::PING, 0, 0, b"12345678"));
    assert!(http2.unsent().ends_with(b"12345678"));
    assert_eq!(sent(&mut http2), [(kind::PING, flag::ACK, 0, 8)]);
    event(&mut http2, &served(kind::PING, flag::ACK, 0, b"12345678"));
    assert_eq!(sent(&mut http2), []);
    assert!(http2.room(0) > 0 && !http2.is_leaving());
    assert_eq!(
        event(&mut http2, &served(kind::GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0])),
        "GoAway { last_stream: 5 }"
    );
    assert!(http2.room(0) == 0 && http2.is_leaving());
}

#[test]
fn stream_ids_end_and_with_them_the_connection() {
    let mut http2 = greeted(&[]);
    http2.next_stream = LAST_STREAM;
    assert!(http2.room(0) > 0);
    assert_eq!(http2.open(0), Some(LAST_STREAM));
    assert!(http2.room(0) == 0 && http2.is_leaving());
}

#[test]
fn who_does_not_speak_grpc_is_told_from_who_does() {
    let mut http2 = Http2::new(vec![]);
    assert_eq!(
        event(&mut http2, b"HTTP/1.1 400 Bad Request\r\n"),
        "error: it speaks HTTP/1.1, not gRPC"
    );
    assert!(event(&mut http2, &[0xff; 9]).contains("is this a gRPC port"));
}
