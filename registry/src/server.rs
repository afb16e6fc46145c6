//! The listeners and what they serve.

pub mod convert;
pub mod limits;
pub mod listen;
pub mod observe;
pub mod peer;
