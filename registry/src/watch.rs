//! Telling readers what changed (P/V3 to V6).
//!
//! [`Hub`] is told of every revision as soon as it is published, encodes it once per scope and puts it
//! into the bounded queues of the watches that it concerns. A [`Session`] is one watch: it sends a
//! snapshot or the history first, then what its queue holds, and heals or ends itself when it has missed
//! something; it never does so silently.

pub mod encode;
pub mod hub;
pub mod queue;
pub mod scope;
pub mod session;
pub mod snapshot;
pub mod subscription;

use std::sync::Arc;

use registry_proto::v1;
use tonic::Status;

pub use self::hub::{Hub, HubLimits, Sent};
pub use self::session::{Begin, Session};
pub use self::subscription::Subscription;
use crate::error::Error;
use crate::raft::Published;
pub use crate::server::convert::Scope;

/// What a watch needs of its node.
pub trait Source: Send + Sync + 'static {
    /// The newest state.
    fn published(&self) -> Arc<Published>;

    /// A header with this revision and, as in every watch, with the age of the data.
    fn header(&self, revision: u64) -> v1::ResponseHeader;

    /// The status that tells a client of an error.
    fn status(&self, error: Error) -> Status;
}
