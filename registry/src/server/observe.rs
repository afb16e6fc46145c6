//! Sees every call from its first byte to its last: method, status code, time.
//!
//! A call that is cancelled is counted too, as CANCELLED, when its answer is dropped.

use std::collections::HashSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use prost::Message;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::error::{Error, LeaderHint};

/// Is told of every call that has ended.
pub trait CallObserver: Send + Sync + 'static {
    /// A call has ended. `method` is `registry.v1.RegistryService/Register` and the like, or `unknown`:
    /// a bounded set.
    fn ended(&self, method: &str, code: Code, took: Duration);
}

/// Observes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl CallObserver for Unobserved {
    fn ended(&self, _: &str, _: Code, _: Duration) {}
}

/// The methods that a server has, so that a path a stranger made up does not become a label.
#[derive(Debug, Clone, Default)]
pub struct KnownMethods(Arc<HashSet<Box<str>>>);

const UNKNOWN: &str = "unknown";

impl KnownMethods {
    /// All methods of an encoded `google.protobuf.FileDescriptorSet`.
    pub fn from_descriptors(encoded: &[u8]) -> Self {
        let files = prost_types::FileDescriptorSet::decode(encoded).unwrap_or_default().file;
        let methods = files.iter().flat_map(|file| {
            file.service.iter().flat_map(move |service| {
                service.method.iter().map(move |method| {
                    format!("{}.{}/{}", file.package(), service.name(), method.name()).into_boxed_str()
                })
            })
        });
        Self(Arc::new(methods.collect()))
    }

    fn find(&self, path: &str) -> Option<&str> {
        self.0.get(path.strip_prefix('/').unwrap_or(path)).map(AsRef::as_ref)
    }
}

/// How tonic begins to say that a message is too large; the sizes follow.
const TOO_LARGE: &str = "decoded message length too large: ";

/// tonic answers OUT_OF_RANGE to a message that is too large, which here means a bad revision.
fn better_status(headers: &HeaderMap) -> Option<Status> {
    let status = Status::from_header_map(headers)?;
    if status.code() != Code::OutOfRange {
        return None;
    }
    let (_, sizes) = status.message().split_once(TOO_LARGE)?;
    let problem = format!("is too large ({sizes}): send less at once");
    Some(Error::field("(request)", problem).into_status(&LeaderHint::default()))
}

fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

/// A call under way; counted when it is dropped.
pub(super) struct Call {
    method: Box<str>,
    begun: Instant,
    code: Option<Code>,
    calls: Arc<dyn CallObserver>,
}

impl Call {
    /// A call of `path` that begins now.
    pub(super) fn begin(path: &str, methods: &KnownMethods, calls: Arc<dyn CallObserver>) -> Self {
        let method = methods.find(path).unwrap_or(UNKNOWN).into();
        Self { method, begun: Instant::now(), code: None, calls }
    }

    /// Waits for the answer and observes it to its end.
    pub(super) async fn watch(
        mut self,
        answer: impl Future<Output = Result<Response<Body>, Infallible>>,
    ) -> Result<Response<Observed>, Infallible> {
        let (mut parts, body) = answer.await?.into_parts();
        if let Some(better) = better_status(&parts.headers) {
            (parts, ()) = better.into_http::<()>().into_parts();
        }
        self.code = code_of(&parts.headers);
        Ok(Response::from_parts(parts, Observed { body, call: self }))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.ended(&self.method, self.code.unwrap_or(Code::Cancelled), self.begun.elapsed());
    }
}

/// The body of an answer that is observed to its end.
pub(super) struct Observed {
    body: Body,
    call: Call,
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.code = code_of(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_of_the_interface_become_labels() {
        let methods = KnownMethods::from_descriptors(registry_proto::PUBLIC_DESCRIPTORS);
        let register = "registry.v1.RegistryService/Register";
        assert_eq!(methods.find(&format!("/{register}")), Some(register));
        assert_eq!(methods.find("/registry.v1.RegistryService/Invented"), None);
        assert_eq!(methods.find("/"), None);
    }

    #[test]
    fn a_request_that_is_too_large_is_the_callers_fault() {
        let tonics = Status::out_of_range(
            "Error, decoded message length too large: found 9 bytes, the limit is: 8 bytes",
        );
        let (parts, ()) = tonics.into_http::<()>().into_parts();
        let better = better_status(&parts.headers).unwrap();
        assert_eq!(better.code(), Code::InvalidArgument);
        assert!(better.message().contains("found 9 bytes, the limit is: 8 bytes"));

        let (parts, ()) = Status::out_of_range("revision").into_http::<()>().into_parts();
        assert!(better_status(&parts.headers).is_none());
    }
}
