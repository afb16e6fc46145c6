//! The client against a scripted registry in the same process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is what a test is for")]

mod cache;
mod calls;
mod mock;
mod net;
mod pool;
mod registration;
mod watch;
