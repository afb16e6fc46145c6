//! The Kubernetes operator of registry clusters.
//!
//! In reading order: what users ask for, what was seen, what to do about it, and how that is done.

pub mod crd;
pub mod desired;
pub mod observed;
pub mod plan;

mod reconcile;

pub mod args;
pub mod context;
pub mod controller;
pub mod crash_point;
pub mod error;
pub mod health;
pub mod lease;
pub mod members;
pub mod metrics;
pub mod operator;
pub mod stores;
#[cfg(test)]
mod testing;
