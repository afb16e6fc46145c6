//! Requests at whole nodes: three of them in one process, over real connections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests are tests; a panic is how a test fails"
)]

mod bad_input;
mod nodes;
mod reads;
mod writes;
