//! What a node is told: one file, then the environment, then flags, checked together.
