//! Kept channels to the other nodes, one per purpose.
