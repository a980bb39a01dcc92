//! From a path to the service that answers it.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use axum::http::{Request, Response};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;

use crate::access::{Access, Peer};
use crate::clock::Clock;
use crate::grpc::gate;
use crate::grpc::observe::{Call, Observe, Observed};
use crate::grpc::overload::{Backlog, Line, LineEnds, Overloaded, Sheds, is_stream, sheds};

/// What a generated service answers with.
pub(crate) type Answer = BoxFuture<Response<Body>, Infallible>;

/// Generated services, each by its name, for the connections of one thread.
#[derive(Default)]
pub struct Dispatch {
    /// The busiest should come first.
    services: Vec<Served>,
    observe: Option<Arc<Observe>>,
    access: Option<Arc<Access>>,
}

struct Served {
    name: &'static str,
    service: Box<dyn Callable>,
}

/// A service that is shared by the connections of a thread.
trait Callable: Send + Sync {
    fn call(&self, request: Request<Incoming>) -> Answer;
}

impl<S> Callable for S
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future = Answer> + Clone + Send + Sync,
{
    fn call(&self, request: Request<Incoming>) -> Answer {
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
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future = Answer>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.services.push(Served { name: S::NAME, service: Box::new(service) });
        self
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
    pub(super) fn line(&self) -> Option<Line> {
        self.observe.as_ref().map(|observe| observe.line())
    }

    fn answer(&self, mut request: Request<Incoming>, peer: &Peer, overloaded: Option<Overloaded>) -> Answer {
        if let Some(access) = &self.access
            && let Err(refused) = gate::admit(access, &mut request, peer)
        {
            return refuse(refused);
        }
        if let Some(overloaded) = overloaded {
            if sheds(request.uri().path()) == Sheds::AtOnce {
                return ready(overloaded.shed());
            }
            request.extensions_mut().insert(overloaded);
        }
        let name = service_name(request.uri().path());
        match self.services.iter().find(|served| served.name == name) {
            Some(served) => served.service.call(request),
            None => refuse(Status::unimplemented("no such service")),
        }
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
    line: Arc<LineEnds>,
}

impl Calls {
    pub(super) fn new(dispatch: Arc<Dispatch>, peer: Peer, line: Arc<LineEnds>) -> Self {
        Self { dispatch, peer, line }
    }
}

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Observed<Answer>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if is_stream(request.uri().path()) {
            request.extensions_mut().insert(self.line.clone());
        }
        let call = self.dispatch.observe.as_ref().map(|observe| observe.begin(request.uri().path(), &self.line));
        let overloaded = call.as_ref().and_then(Call::overloaded);
        Observed::new(self.dispatch.answer(request, &self.peer, overloaded), call)
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
