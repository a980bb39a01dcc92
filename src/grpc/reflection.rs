//! Server reflection, `grpc.reflection.v1` and the older `v1alpha`, whose messages are the same on
//! the wire: many tools still ask for that one.
//!
//! A question that has no answer is answered so, and the stream goes on.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http;
use hyper::body::Body as HttpBody;
use prost::Message;
use prost::bytes::Bytes;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};

use super::codec::FittedCodec;
use super::fast::protobuf::{Fields, Malformed};
use super::inbound::Inbound;

/// What is told.
#[derive(Debug, Default)]
pub struct Described {
    services: Vec<&'static str>,
    /// Each as it was written, so that options that only others know are kept.
    files: HashMap<String, Bytes>,
    symbols: HashMap<String, Bytes>,
}

impl Described {
    /// `services` are those that are listed, `sets` the files that describe them.
    ///
    /// # Errors
    /// A set is none.
    pub fn new(
        services: impl IntoIterator<Item = &'static str>,
        sets: &[&'static [u8]],
    ) -> Result<Self, Malformed> {
        let mut described = Self { services: services.into_iter().collect(), ..Self::default() };
        for set in sets {
            let mut fields = Fields::of(set);
            while let Some(field) = fields.next()? {
                match field.tag {
                    1 => described.add(Bytes::copy_from_slice(field.bytes()?))?,
                    _ => field.skip()?,
                }
            }
        }
        Ok(described)
    }

    fn add(&mut self, file: Bytes) -> Result<(), Malformed> {
        let read = FileDescriptorProto::decode(file.clone()).map_err(|_| Malformed::Message)?;
        let package = read.package();
        read.message_type.iter().for_each(|message| self.add_message(package, message, &file));
        read.enum_type.iter().for_each(|values| self.add_enum(package, values, &file));
        for service in &read.service {
            let name = within(package, service.name());
            service
                .method
                .iter()
                .for_each(|method| self.add_symbol(within(&name, method.name()), &file));
            self.add_symbol(name, &file);
        }
        self.files.insert(read.name().to_owned(), file);
        Ok(())
    }

    fn add_message(&mut self, scope: &str, message: &DescriptorProto, file: &Bytes) {
        let name = within(scope, message.name());
        message.nested_type.iter().for_each(|nested| self.add_message(&name, nested, file));
        message.enum_type.iter().for_each(|values| self.add_enum(&name, values, file));
        let fields = message.field.iter().map(|field| field.name());
        let names = fields.chain(message.oneof_decl.iter().map(|one_of| one_of.name()));
        names.for_each(|field| self.add_symbol(within(&name, field), file));
        self.add_symbol(name, file);
    }

    fn add_enum(&mut self, scope: &str, values: &EnumDescriptorProto, file: &Bytes) {
        let name = within(scope, values.name());
        values.value.iter().for_each(|value| self.add_symbol(within(&name, value.name()), file));
        self.add_symbol(name, file);
    }

    fn add_symbol(&mut self, name: String, file: &Bytes) {
        self.symbols.insert(name, file.clone());
    }

    fn answer(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let file = |file: Option<&Bytes>, name: &str| match file {
            Some(file) => MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
                file_descriptor_proto: vec![file.to_vec()],
            }),
            None => wrong(Code::NotFound, format!("`{name}` is not known here")),
        };
        let response = match &request.message_request {
            Some(MessageRequest::FileByFilename(name)) => file(self.files.get(name), name),
            Some(MessageRequest::FileContainingSymbol(name)) => file(self.symbols.get(name), name),
            Some(MessageRequest::FileContainingExtension(_)) => {
                wrong(Code::NotFound, "there are no extensions".to_owned())
            }
            // Clients take an error here for one of the whole server.
            Some(MessageRequest::AllExtensionNumbersOfType(name)) => {
                let base_type_name = name.clone();
                MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                    base_type_name,
                    extension_number: Vec::new(),
                })
            }
            Some(MessageRequest::ListServices(_)) => {
                let service = self
                    .services
                    .iter()
                    .map(|&name| ServiceResponse { name: name.to_owned() })
                    .collect();
                MessageResponse::ListServicesResponse(ListServiceResponse { service })
            }
            None => wrong(
                Code::InvalidArgument,
                "message_request: is missing, say what is asked for".to_owned(),
            ),
        };
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(response),
        }
    }
}

fn within(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

fn wrong(code: Code, error_message: String) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse { error_code: code.into(), error_message })
}

/// `grpc.reflection.v1.ServerReflection`, or `ALPHA`: that of `v1alpha`.
#[derive(Clone, Debug)]
pub struct ReflectionGrpc<const ALPHA: bool>(pub Arc<Described>);

impl NamedService for ReflectionGrpc<false> {
    const NAME: &'static str = "grpc.reflection.v1.ServerReflection";
}

impl NamedService for ReflectionGrpc<true> {
    const NAME: &'static str = "grpc.reflection.v1alpha.ServerReflection";
}

impl<B, const ALPHA: bool> Service<http::Request<Inbound<B>>> for ReflectionGrpc<ALPHA>
where
    B: HttpBody<Error: Into<StdError>> + Unpin + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Inbound<B>>) -> Self::Future {
        let answers = Answers(self.0.clone());
        if !request.uri().path().ends_with("/ServerReflectionInfo") {
            return Box::pin(ready(Ok(Status::unimplemented("no such method").into_http())));
        }
        Box::pin(async move {
            Ok(Grpc::new(FittedCodec::default())
                .apply_max_message_size_config(Some(usize::MAX), None)
                .streaming(answers, request)
                .await)
        })
    }
}

struct Answers(Arc<Described>);

impl StreamingService<ServerReflectionRequest> for Answers {
    type Response = ServerReflectionResponse;
    type ResponseStream =
        Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    // A question is read when the answers before it have gone out.
    fn call(&mut self, request: Request<Streaming<ServerReflectionRequest>>) -> Self::Future {
        let described = self.0.clone();
        let answers = request
            .into_inner()
            .map(move |question| question.map(|question| described.answer(question)));
        Box::pin(ready(Ok(Response::new(Box::pin(answers) as Self::ResponseStream))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::TOLLGATE_DESCRIPTORS;

    fn ask(described: &Described, question: Option<MessageRequest>) -> MessageResponse {
        let request = ServerReflectionRequest { host: "h".to_owned(), message_request: question };
        let answer = described.answer(request.clone());
        assert_eq!((answer.valid_host.as_str(), answer.original_request), ("h", Some(request)));
        answer.message_response.unwrap()
    }

    #[test]
    fn files_are_found_by_name_and_by_all_that_is_in_them() {
        let described = Described::new(["a.B"], &[TOLLGATE_DESCRIPTORS]).unwrap();
        let whole = ask(
            &described,
            Some(MessageRequest::FileByFilename("tollgate/v1/decision.proto".to_owned())),
        );
        for symbol in [
            "tollgate.v1.DecisionService",
            "tollgate.v1.DecisionService.Check",
            "tollgate.v1.CheckRequest",
            "tollgate.v1.CheckRequest.api_key",
            "tollgate.v1.Outcome.Ending",
            "tollgate.v1.Outcome.result",
        ] {
            assert_eq!(
                ask(&described, Some(MessageRequest::FileContainingSymbol(symbol.to_owned()))),
                whole,
                "{symbol}"
            );
        }
        let MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
            file_descriptor_proto,
        }) = whole
        else {
            panic!("{whole:?}")
        };
        assert_eq!(
            FileDescriptorProto::decode(&*file_descriptor_proto[0]).unwrap().name(),
            "tollgate/v1/decision.proto"
        );
    }

    #[test]
    fn a_question_without_an_answer_is_answered_so() {
        let described = Described::new(["a.B"], &[]).unwrap();
        for (question, code) in [
            (None, Code::InvalidArgument),
            (Some(MessageRequest::FileByFilename("no".to_owned())), Code::NotFound),
            (Some(MessageRequest::FileContainingSymbol(String::new())), Code::NotFound),
            (Some(MessageRequest::FileContainingExtension(Default::default())), Code::NotFound),
        ] {
            let MessageResponse::ErrorResponse(error) = ask(&described, question.clone()) else {
                panic!("{question:?}")
            };
            assert_eq!(error.error_code, i32::from(code), "{question:?}");
        }
        let listed = ask(&described, Some(MessageRequest::ListServices(String::new())));
        assert_eq!(
            listed,
            MessageResponse::ListServicesResponse(ListServiceResponse {
                service: vec![ServiceResponse { name: "a.B".to_owned() }]
            })
        );
    }
}
