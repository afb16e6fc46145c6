//! A broken promise.

use std::fmt;

/// What was found, and which invariant of `ARCHITECTURE.md` it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Such as "I2"; "witness" if the history itself is not enough to judge.
    pub invariant: &'static str,
    /// What was seen, for people.
    pub what: String,
}

impl Violation {
    /// A violation of this invariant.
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}
