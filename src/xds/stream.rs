//! A stream of rules: what is asked, what is answered, and when.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use envoy_types::pb::google::rpc;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::backoff::random;
use super::connect::{chain, connect};
use super::damping::Damping;
use super::resources::{self, TYPE_URL};
use super::state::{Came, State};
use crate::config;
use crate::rulebook::Rulebook;

/// A server that sends nothing for so long may not know this node.
const SILENCE: Duration = Duration::from_secs(30);
/// A stream that goes well for so long is not counted as a failed try.
const STEADY: Duration = Duration::from_secs(5);
/// Requests that wait to be sent: the first one, and one answer.
const MOST_WAITING: usize = 4;
/// What a refusal says is cut there.
const LONGEST_REFUSAL: usize = 8 * 1024;

/// Asks for rules.
pub(super) struct Client {
    settings: config::Xds,
    rulebook: Arc<Rulebook>,
    state: Arc<State>,
    damping: Damping,
    /// The last answer that was looked at: another with the same contents comes to the same.
    last: Option<Looked>,
}

/// An answer that was looked at, and what of it is not in force.
#[derive(Debug)]
struct Looked {
    contents: blake3::Hash,
    refused: Option<String>,
}

/// How a stream ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) reason: String,
    /// It went well for a while.
    pub(super) was_steady: bool,
}

impl Client {
    pub(super) fn new(settings: config::Xds, rulebook: Arc<Rulebook>, state: Arc<State>) -> Self {
        Self { settings, rulebook, state, damping: Damping::default(), last: None }
    }

    pub(super) fn max_backoff(&self) -> Duration {
        self.settings.max_backoff
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Opens a stream, and answers it until it ends.
    pub(super) async fn stream(&mut self) -> Ended {
        match connect(&self.settings).await {
            Ok(channel) => self.answer(channel).await,
            Err(reason) => {
                self.state.failed();
                Ended { reason, was_steady: false }
            }
        }
    }

    async fn answer(&mut self, channel: Channel) -> Ended {
        self.state.opened();
        self.damping.begin();
        let (sender, requests) = mpsc::channel(MOST_WAITING);
        let mut session = Session { sender, version: String::new() };
        // It has to be there before the call: a server may send no headers before its first answer.
        session.send(DiscoveryRequest { node: Some(self.node()), ..session.request("") });
        let mut client = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(self.settings.max_message_bytes);
        let mut request = Request::new(ReceiverStream::new(requests));
        for (name, value) in &self.settings.headers {
            // The settings were looked at: both can be read.
            if let (Ok(name), Ok(value)) =
                (name.parse::<AsciiMetadataKey>(), value.parse::<AsciiMetadataValue>())
            {
                request.metadata_mut().append(name, value);
            }
        }
        let call = async move { client.stream_aggregated_resources(request).await };
        let mut responses =
            pin!(stream::once(call).map_ok(tonic::Response::into_inner).try_flatten());
        let (mut silence, mut steady) = (pin!(sleep(SILENCE)), pin!(sleep(STEADY)));
        let mut pause = pin!(sleep(Duration::ZERO));
        let (mut is_silent, mut is_steady, mut has_come) = (false, false, false);
        let mut newest: Option<DiscoveryResponse> = None;
        let mut looking: Option<Looking> = None;
        let mut owed: Option<DiscoveryRequest> = None;
        let reason = loop {
            if looking.is_none()
                && let Some(response) = newest.take()
            {
                looking = Some(self.look(response));
            }
            tokio::select! {
                response = responses.next() => match response {
                    None => break "it ended the stream".to_owned(),
                    Some(Err(status)) => break why(&status),
                    Some(Ok(response)) => {
                        has_come = true;
                        self.state.is_there();
                        // What was refused before needs no answer any more.
                        owed = None;
                        if newest.replace(response).is_some() {
                            self.state.came(Came::PassedOver);
                        }
                    }
                },
                looked = done(&mut looking) => {
                    looking = None;
                    let (request, wait) = self.looked(looked, &mut session);
                    // Of several answers only the newest is answered.
                    if newest.is_some() {
                    } else if wait.is_zero() {
                        session.send(request);
                    } else {
                        owed = Some(request);
                        pause.set(sleep(wait));
                    }
                }
                () = &mut pause, if owed.is_some() => {
                    owed.take().into_iter().for_each(|request| session.send(request));
                }
                () = &mut silence, if !is_silent => {
                    is_silent = true;
                    if !has_come && !self.rulebook.has_come() {
                        self.state.silent(&self.settings.node_id);
                    }
                }
                () = &mut steady, if !is_steady => {
                    is_steady = true;
                    self.state.is_there();
                }
            }
        };
        // Before the next stream: sets come into force in the order in which they came.
        if let Some(looking) = looking {
            let looked = looking.task.await;
            self.looked(
                Done { looked: looked.ok(), nonce: looking.nonce, version: looking.version },
                &mut session,
            );
        }
        Ended { reason, was_steady: is_steady && has_come }
    }

    /// Puts an answer into force, as far as it is good, away from the threads that serve.
    fn look(&self, response: DiscoveryResponse) -> Looking {
        let (rulebook, last) = (
            self.rulebook.clone(),
            self.last.as_ref().map(|last| (last.contents, last.refused.clone())),
        );
        let (nonce, version) = (response.nonce.clone(), response.version_info.clone());
        let task = tokio::task::spawn_blocking(move || {
            let contents = resources::hash(&response);
            if let Some((_, refused)) = last.filter(|(before, _)| *before == contents) {
                return (Looked { contents, refused }, Came::Again);
            }
            let resources = resources::read(&response);
            drop(response);
            match rulebook.take(resources) {
                Ok(()) => (Looked { contents, refused: None }, Came::Accepted),
                Err(refused) => (Looked { contents, refused: Some(refused) }, Came::Refused),
            }
        });
        Looking { task, nonce, version }
    }

    /// What is sent for an answer that was looked at, and after which wait.
    fn looked(&mut self, done: Done, session: &mut Session) -> (DiscoveryRequest, Duration) {
        let Done { looked, nonce, version } = done;
        let mut request = session.request(&nonce);
        request.node = Some(self.node());
        let is_again = matches!(looked, Some((_, Came::Again)));
        let refused = match looked {
            Some((looked, came)) => {
                self.state.came(came);
                self.state.refused(looked.refused.as_deref());
                let refused = looked.refused.clone();
                if let Some(refused) = looked.refused.as_deref().filter(|_| came != Came::Again) {
                    tracing::error!("rules of the management server are not in force: {refused}");
                }
                self.last = Some(looked);
                refused
            }
            // It panicked, and the log says so.
            None => Some("the set could not be put together".to_owned()),
        };
        match refused {
            None => {
                self.damping.begin();
                session.version.clone_from(&version);
                request.version_info = version;
                (request, Duration::ZERO)
            }
            Some(refused) => {
                request.error_detail = Some(rpc::Status {
                    code: i32::from(Code::InvalidArgument),
                    message: cut(refused),
                    details: Vec::new(),
                });
                (request, self.damping.refused(is_again, random()))
            }
        }
    }

    fn node(&self) -> Node {
        let field = |(key, value): &(String, String)| {
            (key.clone(), Value { kind: Some(Kind::StringValue(value.clone())) })
        };
        let fields = self.settings.node_metadata.iter().map(field).collect();
        Node {
            id: self.settings.node_id.clone(),
            metadata: (!self.settings.node_metadata.is_empty()).then_some(Struct { fields }),
            ..Node::default()
        }
    }
}

/// What one stream knows. Versions and nonces are worth nothing on another.
struct Session {
    sender: mpsc::Sender<DiscoveryRequest>,
    /// Of the last answer that was accepted whole.
    version: String,
}

impl Session {
    fn request(&self, nonce: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            version_info: self.version.clone(),
            type_url: TYPE_URL.to_owned(),
            response_nonce: nonce.to_owned(),
            ..DiscoveryRequest::default()
        }
    }

    /// One that does not fit is of a server that does not read, and sends: the newest answer is
    /// answered when it does.
    fn send(&self, request: DiscoveryRequest) {
        if self.sender.try_send(request).is_err() {
            tracing::debug!("a request to the management server was not sent: it does not read");
        }
    }
}

/// An answer that is being looked at.
struct Looking {
    task: JoinHandle<(Looked, Came)>,
    nonce: String,
    version: String,
}

struct Done {
    /// `None`: it panicked.
    looked: Option<(Looked, Came)>,
    nonce: String,
    version: String,
}

/// Never, where nothing is looked at.
async fn done(looking: &mut Option<Looking>) -> Done {
    match looking {
        None => std::future::pending().await,
        Some(Looking { task, nonce, version }) => {
            let looked = task.await.ok();
            Done { looked, nonce: std::mem::take(nonce), version: std::mem::take(version) }
        }
    }
}

/// Why a stream ended, in words.
fn why(status: &Status) -> String {
    let text = if status.message().is_empty() {
        status.code().description().to_owned()
    } else {
        status.message().to_owned()
    };
    match std::error::Error::source(status) {
        Some(source) => format!("{text}: {}", chain(source)),
        None => text,
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST_REFUSAL {
        let end = (0..=LONGEST_REFUSAL).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
    text
}
