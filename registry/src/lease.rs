//! Leases: who is alive, as the leader remembers it (P/L1 to L5).
