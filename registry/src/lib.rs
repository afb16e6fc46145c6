//! A node of the registry, in the order in which a request passes through it.
//!
//! `server` decodes and answers, `request` admits, proposes and reads, `raft` agrees, the crate
//! `registry-state` decides, `watch` tells. `node` puts the parts together and is the only place that does.

pub mod config;
pub mod crash_point;
pub mod environment;
pub mod exit;
pub mod founding;
pub mod hosts_file;
pub mod identity;
pub mod joining;
pub mod node;
pub mod shutdown;
pub mod standing;

pub mod error;
pub mod lease;
pub mod member_health;
pub mod membership;
pub mod peers;
pub mod raft;
pub mod read_index;
pub mod request;
pub mod server;
pub mod watch;

pub mod dev;
pub mod http;
pub mod metrics;
pub mod telemetry;

#[cfg(test)]
mod testbed;
