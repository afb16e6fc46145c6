//! Three nodes in one process that agree over the loopback, without the rest of the node.

mod agreement;
mod cluster;
mod partition;
mod snapshots;
