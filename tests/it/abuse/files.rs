//! Strangers who take all the files that the process may open, as far as they are let.

use std::fs;
use std::io::Write;
use std::net::TcpStream;

use tollgate::access::Token;
use tollgate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use tollgate::grpc::wire::{Descriptor, Entry, RateLimitRequest};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::raw::{PREFACE, SETTINGS, frame};
use super::{ALONE, metric};
use crate::http::get;
use crate::patience::until;
use crate::server::Tollgate;

fn rules(requests: u32) -> String {
    format!(
        "domain: d\ndescriptors: [{{key: k, rate_limit: {{unit: hour, requests_per_unit: {requests}}}}}]\n"
    )
}

async fn ask(channel: &Channel, token: &Token) -> Code {
    let entry = Entry { key: "k".into(), value: "v".into() };
    let descriptors = vec![Descriptor { entries: vec![entry], ..Descriptor::default() }];
    let mut request =
        Request::new(RateLimitRequest { domain: "d".into(), descriptors, hits_addend: 0 });
    let bearer = MetadataValue::try_from(format!("Bearer {}", token.reveal())).unwrap();
    request.metadata_mut().insert("authorization", bearer);
    RateLimitServiceClient::new(channel.clone())
        .should_rate_limit(request)
        .await
        .map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_leave_files_for_probes_for_edits_and_for_a_token_that_is_taken_back() {
    let _alone = ALONE.lock().await;
    tollgate::open_files::raise_limit();
    for files in [64, 1_024] {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, rule) = (folder.path().join("tokens.yaml"), folder.path().join("rules.yaml"));
        let (gateway, other) = (Token::new().unwrap(), Token::new().unwrap());
        let line = |id: &str, token: &Token| {
            format!("- {{id: {id}, hash: \"{}\", scopes: [decide]}}\n", token.hash())
        };
        fs::write(
            &tokens,
            format!("tokens:\n{}{}", line("gateway", &gateway), line("other", &other)),
        )
        .unwrap();
        fs::write(&rule, rules(1_000_000)).unwrap();
        let args = ["--tokens-file", tokens.to_str().unwrap(), "--rules", rule.to_str().unwrap()];
        let polls = [("TOLLGATE_FILES_POLL_MS", "20"), ("TOLLGATE_RULES_POLL_MS", "20")];
        let tollgate = Tollgate::start_with_files(files, &args, &polls);
        // The log is written by a thread of its own, and may come after the line that says ready.
        let bounds = format!("this process may open {files} files");
        until("a warning of the bounds", || {
            Some(tollgate.log())
                .filter(|log| log.contains(&bounds) && log.contains("LimitNOFILE"))
                .map(drop)
        });
        let channel = tollgate.channel().await;
        assert_eq!(ask(&channel, &gateway).await, Code::Ok);

        let preface = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        let mut idle = Vec::new();
        for (to, bytes) in
            [(tollgate.grpc_addr(), &preface[..]), (tollgate.http_addr(), b"GET / HTTP/1.1\r\n")]
        {
            for _ in 0..files + 100 {
                let mut stream = TcpStream::connect(to).unwrap();
                // It may have been closed already.
                let _ = stream.write_all(bytes);
                idle.push(stream);
            }
        }
        for _ in 0..10 {
            assert_eq!(get("/healthcheck").status(tollgate.http_addr()), 200);
        }
        let loads = metric(&tollgate, "ratelimit_service_config_load_success");
        fs::write(&rule, rules(2_000_000)).unwrap();
        until("the edited rules", || {
            (metric(&tollgate, "ratelimit_service_config_load_success") > loads).then_some(())
        });
        assert_eq!(ask(&channel, &gateway).await, Code::Ok);
        fs::write(&tokens, format!("tokens:\n{}", line("other", &other))).unwrap();
        until("another load of the tokens", || {
            (metric(&tollgate, "tollgate_tokens_loads") >= 2).then_some(())
        });
        assert_eq!(
            ask(&channel, &gateway).await,
            Code::Unauthenticated,
            "on the connection that was open"
        );
        assert_eq!(ask(&channel, &other).await, Code::Ok);
        let log = tollgate.log();
        assert!(log.matches("cannot be accepted").count() <= 2, "{log}");
        assert_eq!(metric(&tollgate, "ratelimit_service_config_load_error"), 0);
    }
}

#[test]
fn the_limit_that_the_process_may_raise_is_raised() {
    let tollgate = Tollgate::start_with_files_to_raise(100, &[], &[]);
    until("a line about the limit", || {
        tollgate.log().contains("the limit of open files was raised from 100 to ").then_some(())
    });
    let most = metric(&tollgate, "process_max_fds");
    assert!(most > 100 && metric(&tollgate, "process_open_fds") < most);
}
