//! What is open when the server is told to stop.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::{CheckBatch, ReportRequest};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use super::ALONE;
use super::raw::*;
use crate::server::Tollgate;

/// Far longer than a stop may take.
const DRAIN: (&str, &str) = ("TOLLGATE_DRAIN_TIMEOUT_MS", "120000");
const AT_ONCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_have_nothing_in_work_end_when_the_server_stops_each_with_its_status() {
    let _alone = ALONE.lock().await;
    let mut tollgate = Tollgate::start(&[], &[DRAIN]);
    let channel = tollgate.channel().await;
    let mut decisions = DecisionServiceClient::new(channel.clone());
    // Each has been answered once, so that it is open; and one that was never asked anything.
    let (ask, asked) = mpsc::unbounded_channel();
    ask.send(CheckBatch {
        id: 7,
        api_keys: vec!["k".into()],
        targets: vec!["t".to_owned()],
        ..CheckBatch::default()
    })
    .unwrap();
    let mut checks =
        decisions.check_stream(UnboundedReceiverStream::new(asked)).await.unwrap().into_inner();
    assert_eq!(checks.message().await.unwrap().unwrap().id, 7);
    let (report, reported) = mpsc::unbounded_channel();
    report.send(ReportRequest::default()).unwrap();
    let mut reports =
        decisions.report_stream(UnboundedReceiverStream::new(reported)).await.unwrap().into_inner();
    reports.message().await.unwrap().unwrap();
    let (_silent, never) = mpsc::unbounded_channel::<CheckBatch>();
    let mut silent =
        decisions.check_stream(UnboundedReceiverStream::new(never)).await.unwrap().into_inner();
    let (question, questions) = mpsc::unbounded_channel();
    let message_request = Some(MessageRequest::ListServices(String::new()));
    question.send(ServerReflectionRequest { host: String::new(), message_request }).unwrap();
    let reflection = ServerReflectionClient::new(channel.clone())
        .server_reflection_info(UnboundedReceiverStream::new(questions))
        .await;
    let mut reflection = reflection.unwrap().into_inner();
    reflection.message().await.unwrap().unwrap();
    let mut watch =
        HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let is = |status: ServingStatus| Some(HealthCheckResponse { status: status.into() });
    assert_eq!(watch.message().await.unwrap(), is(ServingStatus::Serving));

    let asked_to_stop = Instant::now();
    tollgate.ask_to_stop();
    assert_eq!(watch.message().await.unwrap(), is(ServingStatus::NotServing));
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    for ended in [
        checks.message().await.err(),
        silent.message().await.err(),
        reports.message().await.err(),
        reflection.message().await.err(),
    ] {
        let ended = ended.unwrap();
        assert!(
            ended.code() == Code::Unavailable && ended.message().contains("the server stops"),
            "{ended:?}"
        );
    }
    assert_eq!(tollgate.wait().code(), Some(0));
    println!("stopped after {:?}", asked_to_stop.elapsed());
    assert!(asked_to_stop.elapsed() < AT_ONCE);
}

#[test]
fn peers_that_are_silent_or_in_the_middle_of_a_message_do_not_keep_a_stop_waiting() {
    let _alone = ALONE.blocking_lock();
    let mut tollgate = Tollgate::start(&[], &[DRAIN]);
    let half = &call(1, RATE_LIMIT, b"\0\0\0\0\x09half")[..];
    let cut = half.len() - 3;
    let peers: Vec<Raw> = [&b""[..], &half[..cut], &[half, &frame(PING, 0, 0, &[1; 8])].concat()]
        .iter()
        .map(|sent| {
            let mut peer = Raw::open(tollgate.grpc_addr(), 65_535);
            peer.send(sent).unwrap();
            // Its settings, at least, were read.
            peer.until(|frame| frame.kind == SETTINGS && frame.flags == 1);
            peer
        })
        .collect();
    let asked_to_stop = Instant::now();
    assert_eq!(tollgate.terminate().code(), Some(0));
    println!(
        "stopped after {:?} beside {} peers that say nothing",
        asked_to_stop.elapsed(),
        peers.len()
    );
    assert!(asked_to_stop.elapsed() < AT_ONCE);
    assert!(!tollgate.log().contains("stopping with calls still in flight"), "{}", tollgate.log());
}
