//! The codec of the services: that of `tonic_prost`, with buffers that fit the messages.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// Nearly every message fits; larger ones grow. tonic's own 8 KiB are the largest thing that a call allocates, twice.
const BUFFER_BYTES: usize = 768;
/// From here on a stream's messages are sent.
const SEND_BYTES: usize = 32 * 1024;

/// `application/grpc+proto`.
#[derive(Clone, Debug)]
pub struct FittedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for FittedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for FittedCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, SEND_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, SEND_BYTES))
    }
}
