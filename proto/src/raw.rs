//! Answers whose submessages are bytes that were encoded earlier, once for all readers.
//!
//! In protobuf a submessage and a `bytes` field have the same wire form (a length and that many bytes),
//! so a message declared here with `bytes` is byte for byte the message of the same name in
//! [`v1`](crate::v1). Only a server uses these; the tests at the end hold both declarations together.

use bytes::Bytes;

use crate::v1;

/// The server side of `registry.v1.DiscoveryService` with encoded answers.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/registry.v1.DiscoveryService.rs"));
}

pub use generated::discovery_service_server::{DiscoveryService, DiscoveryServiceServer};

/// [`v1::ServiceDiscoveryResponse`] with encoded instances.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceDiscoveryResponse {
    /// Who answered, from which state.
    #[prost(message, optional, tag = "1")]
    pub header: Option<v1::ResponseHeader>,
    /// Encoded [`v1::Instance`]s.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub instances: Vec<Bytes>,
    /// What the service is like.
    #[prost(enumeration = "v1::ServiceStatus", tag = "3")]
    pub status: i32,
    /// Its counts.
    #[prost(message, optional, tag = "4")]
    pub counts: Option<v1::InstanceCounts>,
    /// Revision of its last change.
    #[prost(uint64, tag = "5")]
    pub service_revision: u64,
    /// Set while the mass-expiry guard keeps instances of it.
    #[prost(message, optional, tag = "6")]
    pub protection: Option<v1::ServiceProtection>,
    /// True if nothing changed since the position asked about.
    #[prost(bool, tag = "7")]
    pub unchanged: bool,
    /// Not empty if more instances follow.
    #[prost(string, tag = "8")]
    pub next_page_token: String,
}

/// [`v1::WatchResponse`] with encoded instances and changes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchResponse {
    /// Who sends it, from which state.
    #[prost(message, optional, tag = "1")]
    pub header: Option<v1::ResponseHeader>,
    /// Encoded [`v1::Instance`]s.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub instances: Vec<Bytes>,
    /// Encoded [`v1::RevisionChanges`].
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub changes: Vec<Bytes>,
    /// What this message is.
    #[prost(enumeration = "v1::WatchKind", tag = "4")]
    pub kind: i32,
    /// Everything up to here has been sent.
    #[prost(uint64, tag = "5")]
    pub revision: u64,
    /// With COMPACTED: the oldest revision to resume from.
    #[prost(uint64, tag = "6")]
    pub oldest_revision: u64,
    /// With RESYNC and CLOSING: the time to wait.
    #[prost(message, optional, tag = "7")]
    pub retry_after: Option<prost_types::Duration>,
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn raw_answers_are_byte_for_byte_the_public_ones() {
        let instance = v1::Instance { instance_id: "a:1".into(), port: 1, ..Default::default() };
        let counts = Some(v1::InstanceCounts { total: 1, ..Default::default() });
        let public = v1::ServiceDiscoveryResponse {
            header: Some(v1::ResponseHeader { revision: 7, ..Default::default() }),
            instances: vec![instance.clone(), v1::Instance::default()],
            status: 5,
            counts,
            service_revision: 6,
            protection: Some(v1::ServiceProtection { instances: 2, held_for: None }),
            unchanged: true,
            next_page_token: "next".into(),
        };
        let raw = ServiceDiscoveryResponse {
            header: public.header.clone(),
            instances: vec![instance.encode_to_vec().into(), Bytes::new()],
            status: 5,
            counts,
            service_revision: 6,
            protection: public.protection,
            unchanged: true,
            next_page_token: "next".into(),
        };
        assert_eq!(public.encode_to_vec(), raw.encode_to_vec());

        let changes =
            v1::RevisionChanges { revision: 9, events: vec![v1::InstanceEvent::default()], more: true };
        let public = v1::WatchResponse {
            header: None,
            instances: vec![instance.clone()],
            changes: vec![changes.clone()],
            kind: 3,
            revision: 9,
            oldest_revision: 4,
            retry_after: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        };
        let raw = WatchResponse {
            header: None,
            instances: vec![instance.encode_to_vec().into()],
            changes: vec![changes.encode_to_vec().into()],
            kind: 3,
            revision: 9,
            oldest_revision: 4,
            retry_after: public.retry_after,
        };
        assert_eq!(public.encode_to_vec(), raw.encode_to_vec());
    }
}
