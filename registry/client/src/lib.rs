//! Client of the registry.

pub mod transport;
