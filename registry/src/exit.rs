//! Exit codes and what they mean (P/N10).
