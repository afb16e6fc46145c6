//! Telling readers what changed (P/V3 to V6).
