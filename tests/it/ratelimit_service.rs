//! The rate limit service over gRPC, from the real binary: exact under concurrency, unharmed by bad
//! input, and leaving in order.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use prost::Message;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt};
use tollgate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use tollgate::grpc::wire::{Code, Descriptor, Entry, RateLimitRequest, RateLimitResponse};
use tonic::Streaming;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::http::get;
use crate::made_files::self_signed;
use crate::patience::PATIENCE;
use crate::server::Tollgate;

const RULES: &str = "
domain: shop
descriptors:
  - {key: window, rate_limit: {unit: year, requests_per_unit: 1000}}
  - {key: bucket, rate_limit: {unit: year, requests_per_unit: 1000, algorithm: token_bucket, burst: 1000}}
  - {key: minute, rate_limit: {unit: minute, requests_per_unit: 1000000}}
";
const ALL_OR_NOTHING: &str = "
domain: pair
all_or_nothing: true
descriptors:
  - {key: narrow, rate_limit: {unit: year, requests_per_unit: 1000}}
  - {key: wide, rate_limit: {unit: year, requests_per_unit: 4000}}
";

/// A tollgate with rules files of these texts.
fn start(texts: &[&str], env: &[(&str, &str)]) -> (Tollgate, TempDir) {
    let folder = TempDir::new().unwrap();
    for (index, text) in texts.iter().enumerate() {
        fs::write(folder.path().join(format!("{index}.yaml")), text).unwrap();
    }
    (Tollgate::start(&["--rules", folder.path().to_str().unwrap()], env), folder)
}

fn request(domain: &str, keys: &[&str]) -> RateLimitRequest {
    let descriptor = |key: &&str| Descriptor {
        entries: vec![Entry {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::from_static(b"v"),
        }],
        ..Descriptor::default()
    };
    RateLimitRequest {
        domain: Bytes::copy_from_slice(domain.as_bytes()),
        descriptors: keys.iter().map(descriptor).collect(),
        hits_addend: 0,
    }
}

async fn is_ok(channel: Channel, request: RateLimitRequest) -> bool {
    let answer =
        RateLimitServiceClient::new(channel).should_rate_limit(request).await.unwrap().into_inner();
    answer.overall_code == i32::from(Code::Ok)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_5000_concurrent_calls_exactly_the_limit_passes() {
    let (tollgate, _folder) = start(&[RULES, ALL_OR_NOTHING], &[]);
    for request in [
        request("shop", &["window"]),
        request("shop", &["bucket"]),
        request("pair", &["narrow", "wide"]),
    ] {
        let passed = Arc::new(AtomicU32::new(0));
        let called = Arc::new(AtomicU32::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let channel = tollgate.channel().await;
            let (passed, called, request) = (passed.clone(), called.clone(), request.clone());
            tasks.spawn(async move {
                while called.fetch_add(1, Ordering::Relaxed) < 5000 {
                    if is_ok(channel.clone(), request.clone()).await {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(passed.load(Ordering::Relaxed), 1000, "{request:?}");
    }
    // What `narrow` refused was not charged to `wide`.
    let mut peek = request("pair", &["wide"]);
    peek.descriptors[0].hits_addend = Some(0);
    let answer = RateLimitServiceClient::new(tollgate.channel().await)
        .should_rate_limit(peek)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.statuses[0].limit_remaining, 3000);
}

#[tokio::test]
async fn bad_input_gets_an_error_that_is_counted_and_the_service_goes_on() {
    let (tollgate, _folder) = start(&[RULES], &[]);
    let channel = tollgate.channel().await;
    let mut client = RateLimitServiceClient::new(channel.clone());
    for (bad, code) in [
        (request("", &["window"]), tonic::Code::InvalidArgument),
        (request("shop", &[]), tonic::Code::InvalidArgument),
        (request("shop", &["window"; 1001]), tonic::Code::InvalidArgument),
        (request("shop", &[&"x".repeat(5 << 20)]), tonic::Code::ResourceExhausted),
    ] {
        assert_eq!(client.should_rate_limit(bad).await.unwrap_err().code(), code);
    }
    // Bytes that are another message: its first field is a number.
    let other = prost_types::Timestamp { seconds: 1, nanos: 0 };
    assert_eq!(
        call(channel.clone(), tokio_stream::once(other)).await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
    assert!(is_ok(channel, request("shop", &["minute"])).await);
    let metrics = get("/metrics").send(tollgate.http_addr()).unwrap().text();
    for line in [
        "tollgate_rejected_calls{code=\"InvalidArgument\"} 4",
        "tollgate_rejected_calls{code=\"ResourceExhausted\"} 1",
        "ratelimit_service_total_requests{grpc_method=\"ShouldRateLimit\"} 6",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

/// Calls ShouldRateLimit with a message that may come later, of any type.
async fn call<Q: Message + Default + 'static>(
    channel: Channel,
    messages: impl Stream<Item = Q> + Send + 'static,
) -> Result<RateLimitResponse, tonic::Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path =
        PathAndQuery::from_static("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
    let codec = tonic_prost::ProstCodec::<Q, RateLimitResponse>::default();
    Ok(client.client_streaming(tonic::Request::new(messages), path, codec).await?.into_inner())
}

async fn next(health: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    tokio::time::timeout(PATIENCE, health.message()).await.unwrap().unwrap().unwrap().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_flight_is_answered_while_the_process_stops() {
    let (mut tollgate, _folder) = start(&[RULES], &[]);
    let channel = tollgate.channel().await;
    let watched = HealthCheckRequest { service: "ratelimit".to_owned() };
    let mut health =
        HealthClient::new(tollgate.channel().await).watch(watched).await.unwrap().into_inner();
    assert_eq!(next(&mut health).await, ServingStatus::Serving);
    assert_eq!(get("/healthcheck").status(tollgate.http_addr()), 200);

    // The call has begun, its message comes later. The stream is read only after the headers have
    // gone out, and what is answered on the same connection after that shows that they have
    // arrived.
    let (begun, has_begun) = oneshot::channel();
    let (send, message) = oneshot::channel();
    type Late = (oneshot::Sender<()>, oneshot::Receiver<RateLimitRequest>);
    let slow = tokio_stream::once((begun, message)).then(|(begun, message): Late| async move {
        begun.send(()).unwrap();
        message.await.unwrap()
    });
    let slow = tokio::spawn(call::<RateLimitRequest>(channel.clone(), Box::pin(slow)));
    has_begun.await.unwrap();
    assert!(is_ok(channel, request("shop", &["minute"])).await);

    tollgate.ask_to_stop();
    assert_eq!(next(&mut health).await, ServingStatus::NotServing);
    drop(health);
    send.send(request("shop", &["window"])).unwrap();
    assert_eq!(slow.await.unwrap().unwrap().overall_code, i32::from(Code::Ok));
    assert_eq!(tollgate.wait().code(), Some(0));
    assert!(tollgate.log().ends_with("stopped\n"), "{}", tollgate.log());
}

#[tokio::test]
async fn a_call_that_never_ends_holds_the_stop_up_only_until_the_drain_time_out() {
    let (mut tollgate, _folder) = start(&[RULES], &[("TOLLGATE_DRAIN_TIMEOUT_MS", "100")]);
    let mut health = HealthClient::new(tollgate.channel().await)
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(next(&mut health).await, ServingStatus::Serving);
    assert_eq!(tollgate.terminate().code(), Some(0));
    assert!(tollgate.log().contains("calls still in flight"), "{}", tollgate.log());
}

#[tokio::test]
async fn reflection_shows_the_service_with_texts_as_texts() {
    let (tollgate, _folder) = start(&[RULES], &[]);
    let mut client = ServerReflectionClient::new(tollgate.channel().await);
    let mut ask = async |question| {
        let request =
            ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let mut answers =
            client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(services) =
        ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list")
    };
    let names: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    for name in [
        "envoy.service.ratelimit.v3.RateLimitService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    let symbol = "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor".to_owned();
    let MessageResponse::FileDescriptorResponse(files) =
        ask(MessageRequest::FileContainingSymbol(symbol)).await
    else {
        panic!("no file")
    };
    let file = prost_types::FileDescriptorProto::decode(files.file_descriptor_proto[0].as_slice())
        .unwrap();
    let descriptor =
        file.message_type.iter().find(|message| message.name() == "RateLimitDescriptor").unwrap();
    let entry = descriptor.nested_type.iter().find(|message| message.name() == "Entry").unwrap();
    assert_eq!(entry.field[1].r#type(), prost_types::field_descriptor_proto::Type::String);
}

#[tokio::test]
async fn tls_is_spoken_where_it_is_set_and_client_certificates_are_asked_for() {
    let folder = TempDir::new().unwrap();
    let (cert, key) = &self_signed(folder.path());
    let env = [
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_SERVER_TLS_CERT", cert),
        ("GRPC_SERVER_TLS_KEY", key),
        ("GRPC_CLIENT_TLS_CACERT", cert),
    ];
    let (tollgate, _rules) = start(&[RULES], &env);
    let endpoint = |tls| {
        Endpoint::from_shared(format!("https://localhost:{}", tollgate.grpc_addr().port()))
            .unwrap()
            .tls_config(tls)
            .unwrap()
    };
    let [cert, key] = [cert, key].map(|path| fs::read(path).unwrap());
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&cert));
    let identity = Identity::from_pem(cert, key);
    let channel = endpoint(tls.clone().identity(identity)).connect().await.unwrap();
    assert!(is_ok(channel, request("shop", &["minute"])).await);

    let mut stranger = RateLimitServiceClient::new(endpoint(tls).connect_lazy());
    assert!(stranger.should_rate_limit(request("shop", &["minute"])).await.is_err());
    let plain =
        Endpoint::from_shared(format!("http://{}", tollgate.grpc_addr())).unwrap().connect_lazy();
    assert!(
        RateLimitServiceClient::new(plain)
            .should_rate_limit(request("shop", &["minute"]))
            .await
            .is_err()
    );
}

#[test]
fn what_cannot_be_used_ends_the_start_with_2_and_binds_nothing() {
    let folder = TempDir::new().unwrap();
    let bad = folder.path().join("bad.yaml");
    fs::write(&bad, "domain: [").unwrap();
    let bad = bad.to_str().unwrap();
    for (args, text) in [
        (vec!["--rules", bad], format!("tollgate: {bad}: error loading config file: ")),
        (vec!["--rules", "no/such/file"], "tollgate: no/such/file: cannot be read".to_owned()),
        (
            vec!["--grpc-addr", "x", "--http-addr", "y"],
            "tollgate: the settings cannot be used:\n  --grpc-addr: ".to_owned(),
        ),
        (vec!["rules", "check", bad], format!("tollgate: {bad}: error loading config file: ")),
        (vec!["--no-such-flag"], "error: unexpected argument".to_owned()),
    ] {
        let output = tollgate(&args);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&text), "{args:?}: {said}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = tollgate(&["--grpc-addr", &taken.local_addr().unwrap().to_string()]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}

#[test]
fn rules_check_prints_what_would_be_in_force() {
    let folder = TempDir::new().unwrap();
    fs::write(
        folder.path().join("a.yaml"),
        "domain: a\ndescriptors: [{key: k, rate_limit: {unit: minute}}]",
    )
    .unwrap();
    let output = tollgate(&["rules", "check", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("# warning: ") && said.contains("a.k: unit=MINUTE requests_per_unit=0"),
        "{said}"
    );
}

/// Runs a command to its end, away from the folder of the sources.
fn tollgate(args: &[&str]) -> std::process::Output {
    let folder = TempDir::new().unwrap();
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(args)
        .current_dir(folder.path())
        .output()
        .unwrap()
}
