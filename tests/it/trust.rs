//! Who may call, and what is not told to anybody: from the real binary.

mod certificates;
mod ports;
mod secrets;
mod tokens;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tokio_stream::Stream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::patience::PATIENCE;
use crate::server::Tollgate;

/// One call of every kind, by its path.
const CALLS: [&str; 12] = [
    "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
    "/envoy.service.auth.v3.Authorization/Check",
    "/tollgate.v1.DecisionService/Check",
    "/tollgate.v1.DecisionService/CheckStream",
    "/tollgate.v1.DecisionService/Report",
    "/tollgate.v1.DecisionService/ReportStream",
    "/tollgate.v1.UsagePlanService/ListUsagePlans",
    "/tollgate.v1.UsagePlanService/GetUsage",
    "/tollgate.v1.UsagePlanService/CreateUsagePlan",
    "/tollgate.v1.UsagePlanService/Grant",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.health.v1.Health/Check",
];

/// Tokens, one for each of some names, and the file that lets them in.
struct Tokens {
    _folder: TempDir,
    file: PathBuf,
    tokens: HashMap<&'static str, String>,
}

impl Tokens {
    /// Makes them by the command, each with its scopes.
    fn make(callers: &[(&'static str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("tokens.yaml");
        let mut text = "tokens:\n".to_owned();
        let mut tokens = HashMap::new();
        for &(id, scopes) in callers {
            let (token, line) = make_token(id, scopes);
            text.push_str(&line);
            tokens.insert(id, token);
        }
        fs::write(&file, text).unwrap();
        Self { _folder: folder, file, tokens }
    }

    fn file(&self) -> &str {
        self.file.to_str().unwrap()
    }

    fn of(&self, id: &str) -> &str {
        &self.tokens[id]
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }
}

/// What the command prints: the token, and the line for the file.
fn make_token(id: &str, scopes: &str) -> (String, String) {
    let made = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["token", "create", id, "--scope", scopes])
        .output()
        .unwrap();
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    (
        String::from_utf8(made.stdout).unwrap().trim_end().to_owned(),
        String::from_utf8(made.stderr).unwrap(),
    )
}

fn with_token<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let bearer: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}

/// Calls any path with a message that holds nothing.
async fn call(channel: &Channel, path: &'static str, token: Option<&str>) -> Result<(), Status> {
    call_with(channel, path, token, tokio_stream::once(())).await
}

/// The same with messages that the caller chooses when to send.
async fn call_with(
    channel: &Channel,
    path: &'static str,
    token: Option<&str>,
    messages: impl Stream<Item = ()> + Send + 'static,
) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let request = with_token(messages, token);
    match client
        .streaming(request, PathAndQuery::from_static(path), codec)
        .await?
        .into_inner()
        .message()
        .await?
    {
        Some(()) => Ok(()),
        None => Err(Status::new(Code::Ok, "nothing came")),
    }
}

/// The code of a call, `None` where it was let in.
async fn refused(channel: &Channel, path: &'static str, token: Option<&str>) -> Option<Code> {
    let code = call(channel, path, token).await.err().map(|status| status.code());
    code.filter(|code| matches!(code, Code::Unauthenticated | Code::PermissionDenied))
}

/// Waits until the server has written this: its log comes by another way than its answers.
async fn logged(tollgate: &Tollgate, text: &str) {
    until(text, || async { tollgate.log().contains(text) }).await;
}

/// Asks until it is so.
async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let asked = async {
        while !ask().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, asked).await.is_ok(), "{what} has not come");
}
