//! Linearizable reads: one confirmation by a quorum for all reads that wait (P/V1).
