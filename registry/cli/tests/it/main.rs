//! The program as it is started, against a registry that lives in the test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod admin;
mod commands;
mod keep;
mod mock;
mod mock_admin;
mod operate;
mod program;
mod run;
mod watch;
