//! The Kubernetes operator of registry clusters.

pub mod crd;
