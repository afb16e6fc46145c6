//! Tests on a real Kubernetes, run by `tests/kube/run`; without it they say that they are skipped.
//!
//! This program runs where pod and service addresses can be dialled, with `KUBECONFIG` set and `kubectl` and
//! `helm` on the PATH; the operator is installed already.

// Helpers are shared by all tests; not every test uses every one.
#[allow(dead_code)]
mod support;

mod charts;
mod crash;
mod failover;
mod founding;
mod ground;
mod neighbours;
mod network;
mod nodes;
mod repair;
mod rest;
mod roll;
mod rules;
mod scale;
