//! The gRPC interface of the registry.
//!
//! [`v1`] is public and normative; its meaning, units, defaults and bounds are in the comments of
//! `proto/registry/v1/*.proto`. [`internal`] is what nodes and administrators say to each other on the
//! peer port. [`raw`] mirrors the answers that a node joins from parts it has encoded before.

pub mod codec;
pub mod raw;

/// The public interface, `registry.v1`.
#[allow(missing_docs, clippy::all, reason = "generated code; the proto files carry the documentation")]
pub mod v1 {
    tonic::include_proto!("registry.v1");
}

/// The interface between nodes and of administrators, `registry.internal.v1`.
#[allow(missing_docs, clippy::all, reason = "generated code; the proto files carry the documentation")]
pub mod internal {
    tonic::include_proto!("registry.internal.v1");
}

/// Descriptors of the public interface, for reflection: an encoded `google.protobuf.FileDescriptorSet`.
pub const PUBLIC_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/public.bin"));

/// Descriptors of the public and the internal interface: an encoded `google.protobuf.FileDescriptorSet`.
pub const ALL_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/all.bin"));

/// `ErrorInfo.domain` of the public interface.
pub const ERROR_DOMAIN: &str = "registry.dev";

/// `ErrorInfo.domain` of the internal interface.
pub const INTERNAL_ERROR_DOMAIN: &str = "internal.registry.dev";
