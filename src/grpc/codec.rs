//! The codecs of the services: that of `tonic_prost`, with buffers that fit the messages, and one that leaves what is asked undecoded.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::{Buf, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
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

/// The same, but whoever answers decodes the message, or does not.
#[derive(Clone, Debug)]
pub struct UndecodedCodec<T>(PhantomData<T>);

impl<T> Default for UndecodedCodec<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static> Codec for UndecodedCodec<T> {
    type Encode = T;
    type Decode = Bytes;
    type Encoder = <ProstCodec<T, ()> as Codec>::Encoder;
    type Decoder = Undecoded;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, ()>::raw_encoder(BufferSettings::new(BUFFER_BYTES, SEND_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        Undecoded
    }
}

/// Hands the bytes of a message on.
#[derive(Clone, Copy, Debug)]
pub struct Undecoded;

impl Decoder for Undecoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, SEND_BYTES)
    }
}
