use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream as Client};
use std::time::Duration;

use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::*;
use crate::config::{Config, Flags};
use crate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use crate::grpc::pb::rls::rate_limit_service_server::{RateLimitService, RateLimitServiceServer};
use crate::grpc::wire::{RateLimitRequest, RateLimitResponse};

/// Says in `raw_body` on which thread it answers. The domain `panic` panics, the domain `wait`
/// waits until the test lets it go on.
#[derive(Clone)]
struct Names(watch::Receiver<bool>, tokio::sync::mpsc::UnboundedSender<()>);

#[tonic::async_trait]
impl RateLimitService for Names {
    async fn should_rate_limit(
        &self,
        request: tonic::Request<RateLimitRequest>,
    ) -> Result<tonic::Response<RateLimitResponse>, Status> {
        match &request.get_ref().domain[..] {
            b"panic" => panic!("as it is asked to"),
            b"wait" => {
                self.1.send(()).unwrap();
                self.0.clone().wait_for(|go| *go).await.unwrap();
            }
            _ => {}
        }
        let raw_body = std::thread::current().name().unwrap().to_owned().into();
        Ok(tonic::Response::new(RateLimitResponse { raw_body, ..RateLimitResponse::default() }))
    }
}

struct Bench {
    address: SocketAddr,
    metrics: Metrics,
    stop: watch::Sender<bool>,
    go: watch::Sender<bool>,
    waiting: tokio::sync::mpsc::UnboundedReceiver<()>,
    served: JoinHandle<io::Result<()>>,
}

impl Bench {
    fn start(change: impl FnOnce(&mut GrpcServer)) -> Self {
        let mut settings = Config::resolve(&Flags::default(), &|_| None).unwrap().grpc_server;
        settings.workers = 2;
        change(&mut settings);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let (go, going) = watch::channel(false);
        let (tell, waiting) = tokio::sync::mpsc::unbounded_channel();
        let metrics = Metrics::new();
        let names = Names(going, tell);
        let services = move || Dispatch::new().serving(RateLimitServiceServer::new(names.clone()));
        let served = tokio::spawn(
            Server::new(settings).measured(&metrics).serve(listener, services, stopping),
        );
        Self { address, metrics, stop, go, waiting, served }
    }

    async fn connect(&self) -> RateLimitServiceClient<Channel> {
        RateLimitServiceClient::new(
            Endpoint::from_shared(format!("http://{}", self.address))
                .unwrap()
                .connect()
                .await
                .unwrap(),
        )
    }

    fn raw(&self) -> Client {
        let client = Client::connect(self.address).unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        client
    }

    async fn end(self) {
        self.stop.send_replace(true);
        self.served.await.unwrap().unwrap();
    }
}

/// The name of the thread that answers.
async fn ask(
    client: &mut RateLimitServiceClient<Channel>,
    domain: &'static str,
) -> Result<String, Status> {
    let request = RateLimitRequest { domain: domain.into(), ..RateLimitRequest::default() };
    let answer = client.should_rate_limit(request).await?.into_inner();
    Ok(String::from_utf8(answer.raw_body.to_vec()).unwrap())
}

#[tokio::test]
async fn connections_are_spread_by_load_and_stay_where_they_are() {
    let bench = Bench::start(|_| ());
    let mut clients = Vec::new();
    let mut threads = Vec::new();
    for _ in 0..6 {
        let mut client = bench.connect().await;
        threads.push(ask(&mut client, "").await.unwrap());
        clients.push(client);
    }
    for name in ["grpc-0", "grpc-1"] {
        assert_eq!(threads.iter().filter(|thread| *thread == name).count(), 3, "{threads:?}");
    }
    for (client, thread) in clients.iter_mut().zip(&threads) {
        assert_eq!(ask(client, "").await.unwrap(), *thread);
    }
    assert!(bench.metrics.render().contains("tollgate_connections 6\n"));
    bench.end().await;
}

#[tokio::test]
async fn a_panic_ends_its_call_and_nothing_else() {
    let bench = Bench::start(|settings| settings.workers = 1);
    let (mut client, mut other) = (bench.connect().await, bench.connect().await);
    assert!(ask(&mut client, "panic").await.is_err());
    assert_eq!(ask(&mut client, "").await.unwrap(), "grpc-0");
    assert_eq!(ask(&mut other, "").await.unwrap(), "grpc-0");
    bench.end().await;
}

#[tokio::test]
async fn calls_in_flight_are_answered_when_it_stops_and_nobody_is_accepted() {
    let mut bench = Bench::start(|_| ());
    let (mut client, idle) = (bench.connect().await, bench.connect().await);
    let silent = bench.raw();
    let call = tokio::spawn(async move { ask(&mut client, "wait").await });
    bench.waiting.recv().await.unwrap();
    bench.stop.send_replace(true);
    // The port is closed while the call is still there.
    while Client::connect(bench.address).is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!bench.served.is_finished());
    bench.go.send_replace(true);
    assert!(call.await.unwrap().unwrap().starts_with("grpc-"));
    bench.served.await.unwrap().unwrap();
    drop((idle, silent));
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_counted() {
    let bench = Bench::start(|settings| settings.max_connections = 2);
    let mut clients = vec![bench.connect().await, bench.connect().await];
    for client in &mut clients {
        ask(client, "").await.unwrap();
    }
    let mut refused = bench.raw();
    let read = tokio::task::spawn_blocking(move || refused.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert!(bench.metrics.render().contains("tollgate_connections_refused 1\n"));
    ask(&mut clients[0], "").await.unwrap();
    // Where one has gone there is room for another.
    drop(clients.pop());
    while !bench.metrics.render().contains("tollgate_connections 1\n") {
        tokio::task::yield_now().await;
    }
    ask(&mut bench.connect().await, "").await.unwrap();
    bench.end().await;
}

#[tokio::test]
async fn who_does_not_speak_in_time_is_gone() {
    let bench = Bench::start(|settings| settings.handshake_timeout = Duration::from_millis(20));
    let mut slow = bench.raw();
    slow.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r").unwrap();
    let read = tokio::task::spawn_blocking(move || slow.read(&mut [0; 64])).await.unwrap();
    assert_eq!(read.unwrap(), 0, "without a word");
    bench.end().await;
}

#[tokio::test]
async fn a_peer_that_does_not_answer_a_ping_is_let_go() {
    let bench = Bench::start(|settings| {
        settings.ping = Some(Duration::from_millis(20));
        settings.keepalive_timeout = Duration::from_millis(20);
    });
    let mut dead = bench.raw();
    // The preface and empty settings; whatever comes then is not answered.
    dead.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let said = tokio::task::spawn_blocking(move || {
        let mut said = Vec::new();
        dead.read_to_end(&mut said).map(|_| said)
    });
    let said = said.await.unwrap().unwrap();
    assert!(said.windows(4).any(|header| header == [8, 6, 0, 0]), "a ping of 8 bytes: {said:?}");
    bench.end().await;
}

#[tokio::test]
async fn the_shortest_times_that_can_be_set_can_be_used() {
    let bench = Bench::start(|settings| {
        settings.keepalive = Some(Duration::from_millis(1));
        settings.keepalive_timeout = Duration::from_millis(1);
    });
    ask(&mut bench.connect().await, "").await.unwrap();
    bench.end().await;
}

#[tokio::test]
async fn what_is_no_http2_is_closed_and_what_is_not_served_says_so() {
    let bench = Bench::start(|_| ());
    let mut browser = bench.raw();
    browser.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    browser.shutdown(Shutdown::Write).unwrap();
    let read =
        tokio::task::spawn_blocking(move || browser.read_to_end(&mut Vec::new())).await.unwrap();
    assert!(
        read.is_ok() || read.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    );

    let channel = Endpoint::from_shared(format!("http://{}", bench.address))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    assert_eq!(
        health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap_err().code(),
        Code::Unimplemented
    );
    bench.end().await;
}
