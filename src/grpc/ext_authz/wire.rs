//! Of the messages of `envoy.service.auth.v3` what is asked for, wire-compatible, with texts as
//! bytes. What else a message holds is passed over.

use prost::bytes::Bytes;

/// `CheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) attributes: Option<AttributeContext>,
}

/// `AttributeContext`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AttributeContext {
    #[prost(message, optional, tag = "4")]
    pub(super) request: Option<AttributeRequest>,
    #[prost(message, repeated, tag = "10")]
    pub(super) context_extensions: Vec<Pair>,
}

/// `AttributeContext.Request`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AttributeRequest {
    #[prost(message, optional, tag = "2")]
    pub(super) http: Option<HttpRequest>,
}

/// `AttributeContext.HttpRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpRequest {
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) method: Bytes,
    #[prost(message, repeated, tag = "3")]
    pub(super) headers: Vec<Pair>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) path: Bytes,
    #[prost(message, optional, tag = "13")]
    pub(super) header_map: Option<HeaderMap>,
}

/// An entry of a map.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Pair {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

/// What stands under a key. Of several the last counts, as in every map of protobuf.
pub(super) fn value<'p>(pairs: &'p [Pair], key: &[u8]) -> Option<&'p [u8]> {
    pairs.iter().rev().find(|pair| pair.key == key).map(|pair| &*pair.value)
}

/// `envoy.config.core.v3.HeaderMap`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HeaderMap {
    #[prost(message, repeated, tag = "1")]
    pub(super) headers: Vec<HeaderValue>,
}

/// `envoy.config.core.v3.HeaderValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HeaderValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) raw_value: Bytes,
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3 as core;
    use envoy_types::pb::envoy::service::auth::v3::{self as auth, attribute_context as context};
    use prost::Message;

    use super::*;

    #[test]
    fn what_envoy_writes_is_read() {
        let text = |text: &str| text.to_owned();
        let header_map = core::HeaderMap {
            headers: vec![core::HeaderValue {
                key: text("K"),
                value: text("v"),
                raw_value: b"\xff".to_vec(),
            }],
        };
        let http = context::HttpRequest {
            method: text("GET"),
            path: text("/p?q"),
            host: text("h"),
            headers: [(text("x-api-key"), text("key"))].into(),
            header_map: Some(header_map),
            ..context::HttpRequest::default()
        };
        let attributes = auth::AttributeContext {
            source: Some(context::Peer { service: text("s"), ..context::Peer::default() }),
            request: Some(context::Request { http: Some(http), ..context::Request::default() }),
            context_extensions: [(text("target"), text("t"))].into(),
            ..auth::AttributeContext::default()
        };
        let written = auth::CheckRequest { attributes: Some(attributes) }.encode_to_vec();
        let attributes = CheckRequest::decode(&*written).unwrap().attributes.unwrap();
        let http = attributes.request.unwrap().http.unwrap();
        assert_eq!((&*http.method, &*http.path), (b"GET".as_slice(), b"/p?q".as_slice()));
        assert_eq!(value(&http.headers, b"x-api-key"), Some(b"key".as_slice()));
        assert_eq!(value(&attributes.context_extensions, b"target"), Some(b"t".as_slice()));
        let raw = http.header_map.unwrap().headers.remove(0);
        assert_eq!(
            (&*raw.key, &*raw.value, &*raw.raw_value),
            (b"K".as_slice(), b"v".as_slice(), b"\xff".as_slice())
        );
    }

    #[test]
    fn of_several_values_the_last_counts() {
        let pair =
            |value: &'static str| Pair { key: Bytes::from_static(b"k"), value: value.into() };
        assert_eq!(value(&[pair("first"), pair("last")], b"k"), Some(b"last".as_slice()));
        assert_eq!(value(&[pair("first")], b"K"), None);
    }
}
