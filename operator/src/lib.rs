//! The Kubernetes operator of registry clusters.

pub mod crd;
pub mod desired;
