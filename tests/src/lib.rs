//! Harness for tests on real processes.
//!
//! A [`cluster::Cluster`] is a folder, a configuration and three `registry serve` processes on loopback
//! addresses of their own. They take turns ([`turn`]), so that the two cores of a small machine do not make
//! elections of it. Nothing here sleeps for luck: see [`wait`].

pub mod admin;
pub mod api;
pub mod binaries;
pub mod charts;
pub mod check;
pub mod cluster;
pub mod follow;
pub mod node;
pub mod owners;
pub mod partition;
pub mod python;
pub mod small_disk;
pub mod storm;
pub mod timing;
pub mod turn;
pub mod wait;
pub mod workload;
