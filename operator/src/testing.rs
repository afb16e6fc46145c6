//! A world to reconcile in: an API server and nodes in memory.

pub(crate) mod fake_api;
pub(crate) mod fake_nodes;
pub(crate) mod fake_sets;
