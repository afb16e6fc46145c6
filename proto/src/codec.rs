//! The codec of all services: prost, with a malformed message refused as INVALID_ARGUMENT.
//!
//! tonic's own codec answers INTERNAL, which blames the server and is retried by some clients.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tonic::codec::{DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{ERROR_DOMAIN, v1};

/// Encodes `E` and decodes `D`.
#[derive(Debug, Clone)]
pub struct Codec<E, D>(PhantomData<(E, D)>);

impl<E, D> Default for Codec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> tonic::codec::Codec for Codec<E, D>
where
    E: Message + Send + 'static,
    D: Message + Default + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = MessageEncoder<E>;
    type Decoder = MessageDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        MessageDecoder(PhantomData)
    }
}

/// Encodes messages of one type.
#[derive(Debug)]
pub struct MessageEncoder<E>(PhantomData<E>);

impl<E: Message> Encoder for MessageEncoder<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buf).map_err(|error| Status::internal(format!("the answer cannot be encoded: {error}")))
    }
}

/// Decodes messages of one type.
#[derive(Debug)]
pub struct MessageDecoder<D>(PhantomData<D>);

impl<D: Message + Default> Decoder for MessageDecoder<D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        // All of the frame, so that a malformed message does not leave its rest in the stream.
        let frame = buf.copy_to_bytes(buf.remaining());
        D::decode(frame).map(Some).map_err(|error| malformed(&error))
    }
}

fn malformed(error: &prost::DecodeError) -> Status {
    let reason = v1::ErrorReason::InvalidField.as_str_name().trim_start_matches("ERROR_REASON_");
    let details =
        ErrorDetails::with_error_info(reason, ERROR_DOMAIN, [("retry".to_owned(), "NEVER".to_owned())]);
    Status::with_error_details(Code::InvalidArgument, format!("the message is malformed: {error}"), details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_message_is_the_callers_fault() {
        let error = v1::WatchRequest::decode(&[0xff_u8, 0xff][..]).unwrap_err();
        let status = malformed(&error);
        assert_eq!(status.code(), Code::InvalidArgument);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_FIELD", "registry.dev"));
    }
}
