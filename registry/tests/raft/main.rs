//! Three nodes in one process that agree over the loopback, without the rest of the node.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod agreement;
mod cluster;
mod membership;
mod partition;
mod snapshots;
