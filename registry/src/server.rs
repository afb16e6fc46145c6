//! The listeners and what they serve.

pub mod abortable;
pub mod convert;
pub mod keep_alive;
pub mod limits;
pub mod listen;
pub mod observe;
pub mod peer;
pub mod watch;
