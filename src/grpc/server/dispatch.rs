//! From a path to the service that answers it.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, Incoming};
use prost::bytes::Bytes;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;

use crate::access::{Access, Peer};
use crate::clock::Clock;
use crate::grpc::budget::Known;
use crate::grpc::inbound::{Inbound, Kind, header_bytes, takes_gzip};
use crate::grpc::observe::{Call, Observe, Observed};
use crate::grpc::overload::{
    Backlog, ConnectionState, ConnectionWatch, Overloaded, Sheds, is_stream, sheds,
};
use crate::grpc::share::{OpenWithoutToken, Share};
use crate::grpc::{gate, health};
use crate::service::audit;

/// What a generated service answers with.
pub(crate) type Answer = BoxFuture<Response<Body>, Infallible>;

/// Services, each by its name, for the connections of one thread.
pub struct Dispatch {
    /// The busiest should come first.
    services: Vec<Served>,
    observe: Option<Arc<Observe>>,
    access: Option<Arc<Access>>,
    max_message_bytes: usize,
}

impl Default for Dispatch {
    fn default() -> Self {
        Self {
            services: Vec::new(),
            observe: None,
            access: None,
            max_message_bytes: MAX_MESSAGE_BYTES,
        }
    }
}

/// What gRPC servers take if nothing else is said.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Answers of so much count as what their calls hold, until the caller has taken them.
const LARGE_ANSWER_BYTES: usize = 4096;

struct Served {
    name: &'static str,
    service: Box<dyn Callable>,
}

/// A service that is shared by the connections of a thread.
trait Callable: Send + Sync {
    fn call(&self, request: Request<Inbound>) -> Answer;
}

impl<S> Callable for S
where
    S: Service<Request<Inbound>, Response = Response<Body>, Error = Infallible, Future = Answer>
        + Clone
        + Send
        + Sync,
{
    fn call(&self, request: Request<Inbound>) -> Answer {
        // A generated service is always ready.
        Service::call(&mut self.clone(), request)
    }
}

impl Dispatch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves one service more.
    #[must_use]
    pub fn serving<S>(mut self, service: S) -> Self
    where
        S: Service<
                Request<Inbound>,
                Response = Response<Body>,
                Error = Infallible,
                Future = Answer,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.services.push(Served { name: S::NAME, service: Box::new(service) });
        self
    }

    /// Refuses messages that are longer.
    #[must_use]
    pub fn bounded(self, max_message_bytes: usize) -> Self {
        Self { max_message_bytes, ..self }
    }

    /// Counts all calls, and sheds decisions where they would wait too long.
    #[must_use]
    pub fn observed(self, observe: Observe) -> Self {
        Self { observe: Some(Arc::new(observe)), ..self }
    }

    /// Asks of all calls who calls. `None`: everyone may do everything.
    #[must_use]
    pub fn gated(self, access: Option<Arc<Access>>) -> Self {
        Self { access, ..self }
    }

    /// The calls that wait for the core, where they are observed, and the clock of that.
    pub(super) fn backlog(&self) -> Option<(Arc<Backlog>, Clock)> {
        self.observe.as_ref().map(|observe| observe.backlog())
    }

    /// A connection to the core, where one is observed.
    pub(super) fn watch(&self) -> Option<ConnectionWatch> {
        self.observe.as_ref().map(|observe| observe.watch())
    }

    fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: &Peer,
        connection: &Arc<ConnectionState>,
        overloaded: Option<Overloaded>,
    ) -> Answer {
        if let Some(refused) = gate::refuse_what_is_no_call(&request) {
            return ready(refused);
        }
        let mut caller = None;
        if let Some(access) = &self.access {
            match gate::admit(access, &mut request, peer) {
                Ok(known) => caller = known,
                Err(refused) => return refuse(refused),
            }
        }
        if let Some(overloaded) = overloaded {
            if sheds(request.uri().path()) == Sheds::AtOnce {
                return ready(overloaded.shed());
            }
            request.extensions_mut().insert(overloaded);
        }
        let gzip = match takes_gzip(request.headers_mut()) {
            Ok(gzip) => gzip,
            Err(error) => return refuse(error.into()),
        };
        let path = request.uri().path();
        let name = service_name(path);
        let Some(served) = self.services.iter().find(|served| served.name == name) else {
            return refuse(Status::unimplemented("no such service"));
        };
        let (is_stream, is_open, is_large) =
            (is_stream(path), gate::is_open(path), answers_much(path));
        if is_stream {
            request.extensions_mut().insert(connection.clone());
        }
        let known = if is_open { Known::No } else { Known::Yes };
        let max_message_bytes =
            if is_open { health::MAX_MESSAGE_BYTES } else { self.max_message_bytes };
        let header_bytes = header_bytes(request.headers());
        let open = if is_open {
            OpenWithoutToken::new(connection.clone(), header_bytes).map(Some)
        } else {
            Ok(None)
        };
        let (head, body) = request.into_parts();
        let kind = Kind { known, max_message_bytes, is_stream, gzip };
        let request =
            Request::from_parts(head, Inbound::new(body, header_bytes, connection.clone(), kind));
        let call = |request| match caller {
            None => served.service.call(request),
            // One that may edit.
            Some(caller) => Box::pin(audit::by(caller, served.service.call(request))),
        };
        match open {
            Ok(None) if !is_large => call(request),
            Ok(open) => held(call(request), Share::new(connection.clone(), known, 0), open),
            Err(full) => refuse(full.into()),
        }
    }
}

/// What operators ask for may be answered at length.
fn answers_much(path: &str) -> bool {
    path.starts_with("/tollgate.v1.UsagePlanService/") || path.starts_with("/grpc.reflection.")
}

/// An answer that counts as long as the caller has not taken it.
fn held(answer: Answer, share: Share, open: Option<OpenWithoutToken>) -> Answer {
    Box::pin(async move {
        let Ok(answer) = answer.await;
        Ok(answer.map(|body| Body::new(Held { body, share, _open: open })))
    })
}

struct Held {
    body: Body,
    share: Share,
    _open: Option<OpenWithoutToken>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        // HTTP/2 asks for the next when the caller has taken this one.
        let bytes = frame.iter().flatten().filter_map(Frame::data_ref).map(Bytes::len).sum();
        if bytes >= LARGE_ANSWER_BYTES
            && let Err(full) = self.share.hold(bytes)
        {
            return Poll::Ready(Some(Err(full.into())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

fn refuse(status: Status) -> Answer {
    ready(status.into_http())
}

fn ready(answer: Response<Body>) -> Answer {
    Box::pin(std::future::ready(Ok(answer)))
}

/// The service of `/service/method`.
fn service_name(path: &str) -> &str {
    path.strip_prefix('/').and_then(|path| path.rsplit_once('/')).map_or("", |(service, _)| service)
}

/// The calls of one connection.
pub(super) struct Calls {
    dispatch: Arc<Dispatch>,
    peer: Peer,
    connection: Arc<ConnectionState>,
}

impl Calls {
    pub(super) fn new(
        dispatch: Arc<Dispatch>,
        peer: Peer,
        connection: Arc<ConnectionState>,
    ) -> Self {
        Self { dispatch, peer, connection }
    }
}

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Observed<Answer>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let call = self
            .dispatch
            .observe
            .as_ref()
            .map(|observe| observe.begin(request.uri().path(), &self.connection));
        let overloaded = call.as_ref().and_then(Call::overloaded);
        Observed::new(self.dispatch.answer(request, &self.peer, &self.connection, overloaded), call)
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.services.iter().map(|served| served.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_what_stands_before_the_method() {
        assert_eq!(service_name("/grpc.health.v1.Health/Check"), "grpc.health.v1.Health");
        for nothing in ["", "/", "Health/Check", "/Health", "*", "//"] {
            assert_eq!(service_name(nothing), "", "{nothing}");
        }
    }
}
