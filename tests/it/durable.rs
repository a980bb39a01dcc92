//! What is there after a restart.

use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::grpc::pb::tollgate::{CheckRequest, GetUsagePlanRequest, Reason, Verdict};

use crate::server::Tollgate;

/// A plan, and a subscriber with a key of this number.
async fn declare(tollgate: &Tollgate, number: u32) {
    let file = format!(
        "{{plans: [{{id: gold, entitlements: [{{name: all, targets: [orders/prod]}}]}}],
           subscribers: [{{id: s{number}, plans: [gold], keys: [{{id: k{number}, value: a-value-of-twenty-characters-{number}}}]}}]}}"
    );
    tollgate.apply(&file).await;
}

async fn reason(tollgate: &Tollgate, number: u32) -> Option<Reason> {
    let api_key = format!("a-value-of-twenty-characters-{number}").into();
    let request =
        CheckRequest { api_key, target: "orders/prod".to_owned(), ..CheckRequest::default() };
    let answer = DecisionServiceClient::new(tollgate.channel().await)
        .check(request)
        .await
        .unwrap()
        .into_inner();
    (answer.verdict() == Verdict::Deny).then(|| answer.reason())
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_and_a_clean_stop() {
    let mut tollgate = Tollgate::start(&[], &[]);
    for round in 0..4 {
        declare(&tollgate, round).await;
        let get = GetUsagePlanRequest { id: "gold".to_owned() };
        let before = UsagePlanServiceClient::new(tollgate.channel().await)
            .get_usage_plan(get.clone())
            .await
            .unwrap()
            .into_inner();
        if round % 2 == 0 {
            tollgate.kill_9();
        } else {
            assert_eq!(tollgate.terminate().code(), Some(0));
        }
        tollgate.restart();
        let after = UsagePlanServiceClient::new(tollgate.channel().await)
            .get_usage_plan(get)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(before, after);
        for number in 0..=round {
            assert_eq!(reason(&tollgate, number).await, None, "key {number} after round {round}");
        }
        assert_eq!(reason(&tollgate, round + 1).await, Some(Reason::ApiKeyUnknown));
    }
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let tollgate = Tollgate::start(&[], &[]);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--data-dir"])
        .arg(tollgate.data_dir())
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is used by another process"), "{said}");
}
