//! Strangers at the port of the pages: they send half of what they should, take nothing, are many,
//! or are web pages.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::{ALONE, mebibytes, metric};
use crate::http::{Response, get, post};
use crate::patience::{PATIENCE, until};
use crate::server::Tollgate;

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/load/rules");
const CLOSED: &str = "tollgate_http_connections_closed";
const ASK: &str = r#"{"domain": "load", "descriptors": [{"entries": [{"key": "api_key", "value": "somebody"}]}]}"#;

/// A connection that has sent this, and takes little of what comes.
fn having_sent(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// All that comes until the other side closes.
fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset closes as well.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// Many rules, and so a large page of metrics.
fn many_rules(number: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rules: String = (0..number)
        .map(|i| format!("- {{key: rule-{i}, rate_limit: {{unit: hour, requests_per_unit: 5}}}}\n"))
        .collect();
    std::fs::write(folder.path().join("a.yaml"), format!("domain: many\ndescriptors:\n{rules}"))
        .unwrap();
    folder
}

#[test]
fn what_takes_too_long_is_closed_whichever_part_of_it_does() {
    let times = [
        ("TOLLGATE_HTTP_REQUEST_TIMEOUT_MS", "300"),
        ("TOLLGATE_HTTP_IDLE_TIMEOUT_MS", "300"),
        ("TOLLGATE_HTTP_ANSWER_TIMEOUT_MS", "3000"),
    ];
    let rules = many_rules(1_000);
    let tollgate = Tollgate::start(&["--rules", rules.path().to_str().unwrap()], &times);
    let to = tollgate.http_addr();
    let mut ended = 0;
    for (what, sent, answered) in [
        ("nothing", &b""[..], ""),
        ("half a line", b"GET / HT", ""),
        ("half a head", b"GET / HTTP/1.1\r\nhost: x\r\n", ""),
        ("a request, and no other", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 200"),
        (
            "half a body",
            b"POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
            "HTTP/1.1 408",
        ),
        (
            "a chunked body without an end",
            b"POST /json HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
            "HTTP/1.1 408",
        ),
    ] {
        let bytes = until_closed(&mut having_sent(to, sent));
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.starts_with(answered) && text.is_empty() == answered.is_empty(),
            "{what}: {text}"
        );
    }
    // Who takes no answer is not waited for either: more is coming than the sockets hold.
    let deaf = having_sent(to, &b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200));
    until("connections that are closed because of time", || {
        ended = metric(&tollgate, CLOSED);
        // The two with half a body have had their answers, and were closed by that.
        (ended >= 5).then_some(())
    });
    drop(deaf);
    assert_eq!(get("/healthcheck").status(to), 200);
}

#[test]
fn idle_connections_beyond_the_bound_make_room_for_those_who_ask() {
    let tollgate = Tollgate::start(&[], &[("TOLLGATE_HTTP_MAX_CONNECTIONS", "16")]);
    let to = tollgate.http_addr();
    let mut idle: Vec<TcpStream> = (0..200)
        .map(|i| having_sent(to, if i % 2 == 0 { b"" } else { b"GET / HTTP/1.1\r\n" }))
        .collect();
    for _ in 0..20 {
        assert_eq!(get("/healthcheck").status(to), 200);
    }
    assert!(metric(&tollgate, "tollgate_http_connections") <= 16);
    assert!(metric(&tollgate, CLOSED) >= 184);
    // The first had been idle longest, and the last have not.
    assert_eq!(until_closed(&mut idle[0]), b"");
    idle[199].write_all(b"host: x\r\n\r\n").unwrap();
    let mut first = [0; 12];
    idle[199].read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
}

#[test]
fn the_pages_speak_http_1_and_nothing_else() {
    let tollgate = Tollgate::start(&[], &[]);
    let mut stream = having_sent(
        tollgate.http_addr(),
        &[super::raw::PREFACE, &super::raw::frame(super::raw::SETTINGS, 0, 0, &[])].concat(),
    );
    let bytes = until_closed(&mut stream);
    assert!(
        bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 400"),
        "{:?}",
        String::from_utf8_lossy(&bytes)
    );
}

#[test]
fn who_may_not_ask_is_told_before_the_body_comes_and_a_body_too_large_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens.yaml");
    let token = tollgate::access::Token::new().unwrap();
    std::fs::write(
        &tokens,
        format!("tokens:\n- {{id: gateway, hash: \"{}\", scopes: [decide]}}\n", token.hash()),
    )
    .unwrap();
    let times = [("TOLLGATE_HTTP_REQUEST_TIMEOUT_MS", "300")];
    let tollgate =
        Tollgate::start(&["--tokens-file", tokens.to_str().unwrap(), "--rules", RULES], &times);
    let ask = |fields: &str, length: u64| {
        let head =
            format!("POST /json HTTP/1.1\r\nhost: x\r\n{fields}content-length: {length}\r\n\r\n");
        let mut stream = having_sent(tollgate.http_addr(), head.as_bytes());
        // Not a byte of the body was sent. It is waited for no longer than any other.
        Response::read(&until_closed(&mut stream)).unwrap()
    };
    assert_eq!(ask("", 4_000_000).status, 401);
    let bearer = format!("authorization: Bearer {}\r\n", token.reveal());
    let too_large = ask(&bearer, 5_000_000);
    assert_eq!(
        (too_large.status, too_large.text().contains("grpc.max_message_bytes")),
        (413, true)
    );
    assert_eq!(ask(&bearer, u64::MAX / 2).status, 413);
    // Who sends all of it before reading sees the answer as well.
    assert_eq!(post("/json", vec![b'a'; 4_000_000]).status(tollgate.http_addr()), 401);
    let authorized =
        post("/json", ASK).header("authorization", format!("Bearer {}", token.reveal()));
    assert_eq!(authorized.status(tollgate.http_addr()), 200);
}

#[test]
fn bodies_share_a_room_that_is_given_back() {
    let settings = [("TOLLGATE_HTTP_MAX_BODY_BYTES", "1000000")];
    let tollgate = Tollgate::start(&["--rules", RULES], &settings);
    let to = tollgate.http_addr();
    let half = [
        &b"POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n"[..],
        &[b' '; 1_000_000],
    ]
    .concat();
    let holds = having_sent(to, &half);
    until("a half body that is there", || {
        (metric(&tollgate, "tollgate_http_body_bytes") > 900_000).then_some(())
    });
    let large = || post("/json", format!("{}{ASK}", " ".repeat(500_000))).send(to).unwrap();
    let refused = large();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.text().contains("http.max_body_bytes"), "{}", refused.text());
    assert_eq!(post("/json", ASK).status(to), 200, "a small one finds room");
    drop(holds);
    until("room again", || (large().status == 200).then_some(()));
}

#[test]
fn a_web_page_of_somebody_else_reads_nothing_and_spends_nothing() {
    let tollgate = Tollgate::start(
        &["--rules", RULES],
        &[("TOLLGATE_HTTP_ALLOWED_HOSTS", "limits.example.com")],
    );
    let to = tollgate.http_addr();
    let raw = |head: &str, body: &str| {
        let request =
            format!("{head}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        Response::read(&until_closed(&mut having_sent(to, request.as_bytes()))).unwrap()
    };
    for (path, host, status) in [
        ("/rlconfig", "rebound.evil.example", 421),
        ("/metrics", "rebound.evil.example", 421),
        ("/json", "rebound.evil.example", 421),
        // A probe may ask under any name.
        ("/healthcheck", "rebound.evil.example", 200),
        ("/", "rebound.evil.example", 200),
        ("/metrics", "127.0.0.1:8080", 200),
        ("/rlconfig", "localhost", 200),
        ("/rlconfig", "limits.example.com", 200),
    ] {
        let answer = raw(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n"), "");
        assert_eq!(answer.status, status, "{path} {host}");
        assert_eq!(
            answer.text().contains("http.allowed_hosts"),
            status == 421,
            "{path} {host}: {}",
            answer.text()
        );
    }
    // No browser leaves out the name. Some probes do.
    let unnamed = until_closed(&mut having_sent(to, b"GET /metrics HTTP/1.0\r\n\r\n"));
    assert!(unnamed.starts_with(b"HTTP/1.0 200"));
    let page = "origin: https://evil.example\r\n";
    for (fields, status) in [
        (
            "content-type: text/plain\r\norigin: https://evil.example\r\nsec-fetch-site: cross-site\r\n",
            403,
        ),
        (page, 403),
        (
            "content-type: application/x-www-form-urlencoded\r\norigin: https://evil.example\r\n",
            403,
        ),
        ("origin: null\r\n", 403),
        ("sec-fetch-site: same-site\r\n", 403),
        ("content-type: text/plain\r\n", 415),
        ("content-type: multipart/form-data; boundary=x\r\n", 415),
        ("", 200),
        ("content-type: application/json\r\n", 200),
        (
            "content-type: application/json\r\norigin: http://127.0.0.1:8080\r\nsec-fetch-site: same-origin\r\n",
            200,
        ),
        // What `curl -d` calls everything.
        ("content-type: application/x-www-form-urlencoded\r\n", 200),
    ] {
        let answer = raw(&format!("POST /json HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n{fields}"), ASK);
        assert_eq!(answer.status, status, "{fields}: {}", answer.text());
    }
    let hits = metric(&tollgate, "ratelimit_service_rate_limit_total_hits");
    assert_eq!(hits, 4, "what was refused was counted nowhere");
}

#[test]
fn a_probe_takes_any_method() {
    let tollgate = Tollgate::start(&[], &[]);
    for method in ["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"] {
        let mut stream = having_sent(
            tollgate.http_addr(),
            format!("{method} /healthcheck HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                .as_bytes(),
        );
        let bytes = until_closed(&mut stream);
        assert!(
            bytes.starts_with(b"HTTP/1.1 200 OK"),
            "{method}: {}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

#[test]
fn those_who_do_not_take_a_page_share_it() {
    let _alone = ALONE.blocking_lock();
    let rules = many_rules(10_000);
    let tollgate = Tollgate::start(&["--rules", rules.path().to_str().unwrap()], &[]);
    let to = tollgate.http_addr();
    let page = get("/metrics").send(to).unwrap().body.len();
    let before = tollgate.resident_bytes();
    let mut deaf = Vec::new();
    for _ in 0..40 {
        let mut stream = having_sent(to, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
        // Begun: the next one asks for a later page.
        stream.read_exact(&mut [0; 64]).unwrap();
        deaf.push(stream);
    }
    let grown = usize::try_from(tollgate.resident_bytes().saturating_sub(before)).unwrap();
    println!(
        "40 clients that do not take a page of {}: {} more",
        mebibytes(page as u64),
        mebibytes(grown as u64)
    );
    assert!(grown < 15 * page, "{grown} bytes for pages of {page}");
    assert_eq!(get("/healthcheck").status(to), 200);
}

/// The middle one of so many probes.
fn probe(to: SocketAddr, while_true: &AtomicBool) -> Duration {
    let mut taken = Vec::new();
    while taken.len() < 15 || while_true.load(Ordering::SeqCst) {
        let begun = Instant::now();
        assert_eq!(get("/healthcheck").status(to), 200);
        taken.push(begun.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    taken.sort();
    taken[taken.len() / 2]
}

#[test]
fn a_probe_does_not_wait_for_pages_that_are_made_or_sent() {
    let _alone = ALONE.blocking_lock();
    let rules = many_rules(20_000);
    let tollgate = Tollgate::start(&["--rules", rules.path().to_str().unwrap()], &[]);
    let to = tollgate.http_addr();
    let alone = probe(to, &AtomicBool::new(false));
    let scraping = AtomicBool::new(true);
    let (scrape, beside) = thread::scope(|scope| {
        let scrapers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut fastest = Duration::MAX;
                    for _ in 0..4 {
                        let begun = Instant::now();
                        assert_eq!(get("/metrics").send(to).unwrap().status, 200);
                        fastest = fastest.min(begun.elapsed());
                    }
                    fastest
                })
            })
            .collect();
        let prober = scope.spawn(|| probe(to, &scraping));
        let scrape = scrapers.into_iter().map(|scraper| scraper.join().unwrap()).min().unwrap();
        scraping.store(false, Ordering::SeqCst);
        (scrape, prober.join().unwrap())
    });
    println!(
        "a probe alone takes {alone:?}, beside two scrapers {beside:?}, a scrape {scrape:?} and more"
    );
    assert!(beside < scrape / 5, "a probe takes {beside:?} while a scrape takes {scrape:?}");
}
