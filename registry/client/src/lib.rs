//! Client of the registry.

mod backoff;
mod builder;
mod cache;
mod call;
mod client;
mod error;
mod keep_alive;
mod lease_table;
mod metrics;
mod options;
mod pool;
mod registration;
mod retry;
mod rpc;
mod serial;
mod session;
pub mod transport;
mod watch;

pub use builder::ClientBuilder;
pub use cache::{CacheEvent, CacheEvents, CacheOptions, ServiceCache, View};
pub use client::Client;
pub use error::{BadField, Error};
pub use metrics::{Hooks, MetricsSnapshot};
pub use options::CallOptions;
pub use registration::{Drained, Registration, RegistrationBuilder, RegistrationStatus};
pub use registry_proto::v1;
pub use watch::{Watch, WatchEvent};
