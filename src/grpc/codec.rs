//! The codec of the services: that of `tonic_prost`, with buffers that fit the messages, and with
//! `INVALID_ARGUMENT` for what is no message: `INTERNAL`, as tonic says, would be a fault of the
//! server's.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::ProstCodec;

use super::fast::protobuf::Malformed;

/// Nearly every message fits; larger ones grow. tonic's own 8 KiB are the largest thing that a call
/// allocates, twice.
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

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec
    for FittedCodec<T, U>
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = FittedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, SEND_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        FittedDecoder(PhantomData)
    }
}

/// Reads messages.
#[derive(Debug)]
pub struct FittedDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for FittedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        Ok(Some(U::decode(message).map_err(|_| Malformed::Message)?))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, SEND_BYTES)
    }
}

/// Messages as their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
