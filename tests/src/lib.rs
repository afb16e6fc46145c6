//! Harness and checks for tests on real processes.
