//! Tests of the log through its public surface, almost all on the simulated disk.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod basics;
mod corruption;
mod crash;
mod failure;
mod model;
mod space;
mod support;
mod threads;
