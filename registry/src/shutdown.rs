//! The order in which a node stops (P/N9).
