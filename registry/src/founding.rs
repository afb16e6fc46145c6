//! Founding a cluster from a static list of nodes, once (P/N3).
