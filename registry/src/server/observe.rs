//! Sees every call from its first byte to its last: method, status code, time.
//!
//! A call that is cancelled is counted too, as CANCELLED, when its answer is dropped.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::error::{Error, LeaderHint};
use crate::request::parse_timeout;

/// Is told of every call that has ended.
pub trait ObserveCalls: Send + Sync + 'static {
    /// A call is looked at for the first time, so long after it came.
    fn begun(&self, _waited: Duration) {}
    /// A call was dropped because its caller had given it up by then.
    fn too_late(&self) {}
    /// A call has ended. `method` is one of [`METHODS`] or [`UNKNOWN_METHOD`], so it may be a label.
    fn ended(&self, method: &'static str, code: Code, took: Duration);
}

/// Observes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl ObserveCalls for Unobserved {
    fn ended(&self, _: &'static str, _: Code, _: Duration) {}
}

/// Every method that a node serves, sorted.
pub const METHODS: [&str; 45] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "registry.internal.v1.AdminService/AdmitMember",
    "registry.internal.v1.AdminService/GetSettings",
    "registry.internal.v1.AdminService/Initialize",
    "registry.internal.v1.AdminService/PromoteMember",
    "registry.internal.v1.AdminService/RemoveMember",
    "registry.internal.v1.AdminService/Status",
    "registry.internal.v1.AdminService/TransferLeadership",
    "registry.internal.v1.AdminService/TriggerSnapshot",
    "registry.internal.v1.AdminService/UpdateSettings",
    "registry.internal.v1.PeerService/Adopt",
    "registry.internal.v1.PeerService/Append",
    "registry.internal.v1.PeerService/AwaitWatches",
    "registry.internal.v1.PeerService/ClusterView",
    "registry.internal.v1.PeerService/ForwardRenewals",
    "registry.internal.v1.PeerService/ForwardWrites",
    "registry.internal.v1.PeerService/Goodbye",
    "registry.internal.v1.PeerService/Hello",
    "registry.internal.v1.PeerService/InstallSnapshot",
    "registry.internal.v1.PeerService/Join",
    "registry.internal.v1.PeerService/PreVote",
    "registry.internal.v1.PeerService/Prepare",
    "registry.internal.v1.PeerService/Probe",
    "registry.internal.v1.PeerService/ReadIndex",
    "registry.internal.v1.PeerService/Renew",
    "registry.internal.v1.PeerService/TimeoutNow",
    "registry.internal.v1.PeerService/Vote",
    "registry.v1.ClusterService/ClusterStatus",
    "registry.v1.DiscoveryService/Discover",
    "registry.v1.DiscoveryService/ListServices",
    "registry.v1.DiscoveryService/Watch",
    "registry.v1.RegistryService/BatchRegister",
    "registry.v1.RegistryService/ClearInstanceOverride",
    "registry.v1.RegistryService/Deregister",
    "registry.v1.RegistryService/Drain",
    "registry.v1.RegistryService/EndProtection",
    "registry.v1.RegistryService/Heartbeat",
    "registry.v1.RegistryService/KeepAlive",
    "registry.v1.RegistryService/ListInstanceOverrides",
    "registry.v1.RegistryService/Register",
    "registry.v1.RegistryService/SetInstanceOverride",
    "registry.v1.RegistryService/SetInstanceState",
];

/// Stands for every path that is no method, however many strangers make up.
pub const UNKNOWN_METHOD: &str = "unknown";

fn method_of(path: &str) -> &'static str {
    let path = path.strip_prefix('/').unwrap_or(path);
    METHODS.binary_search(&path).ok().and_then(|at| METHODS.get(at).copied()).unwrap_or(UNKNOWN_METHOD)
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
    method: &'static str,
    begun: Instant,
    code: Option<Code>,
    /// How long its caller waits, if it has said so.
    allowed: Option<Duration>,
    calls: Arc<dyn ObserveCalls>,
}

impl Call {
    /// A call that has just come.
    pub(super) fn begin<B>(request: &Request<B>, calls: Arc<dyn ObserveCalls>) -> Self {
        let allowed = request.headers().get("grpc-timeout").and_then(|text| text.to_str().ok());
        Self {
            method: method_of(request.uri().path()),
            begun: Instant::now(),
            code: None,
            allowed: allowed.and_then(parse_timeout),
            calls,
        }
    }

    /// Waits for the answer and observes it to its end. The first step is taken by the call's own task,
    /// which may have waited for its turn: work past its deadline is dropped here (P/O1).
    pub(super) async fn watch(
        mut self,
        answer: impl Future<Output = Result<Response<Body>, Infallible>>,
    ) -> Result<Response<Observed>, Infallible> {
        let waited = self.begun.elapsed();
        self.calls.begun(waited);
        if self.allowed.is_some_and(|allowed| waited >= allowed) {
            self.calls.too_late();
            self.code = Some(Code::DeadlineExceeded);
            let late = Status::deadline_exceeded("the deadline had passed before the call had its turn");
            return Ok(late.into_http::<Body>().map(|body| Observed { body, call: self }));
        }
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
        self.calls.ended(self.method, self.code.unwrap_or(Code::Cancelled), self.begun.elapsed());
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
    use prost::Message;

    use super::*;

    #[test]
    fn every_method_of_the_interface_is_known() {
        let files = prost_types::FileDescriptorSet::decode(registry_proto::ALL_DESCRIPTORS).unwrap().file;
        let mut found = 0;
        for file in &files {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert_eq!(method_of(&path), &path[1..]);
                    found += 1;
                }
            }
        }
        // Health has two more, reflection one in each of its versions.
        assert_eq!(found + 4, METHODS.len());
    }

    #[test]
    fn a_made_up_path_does_not_become_a_label() {
        for path in ["/registry.v1.RegistryService/Invented", "/", "", "/unknown"] {
            assert_eq!(method_of(path), UNKNOWN_METHOD);
        }
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
