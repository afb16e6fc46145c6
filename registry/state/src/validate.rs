//! The rules for single fields, shared by the server, which names every bad field at once (API/G2), and by
//! `apply`, which trusts nobody (P/R1). Field paths are those of `proto/registry/v1`.

pub mod fields;
mod operation;

use crate::limits::VIOLATIONS_MAX;

/// A field that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, as in `ports[grpc].port`.
    pub field: String,
    /// The rule, with the value where that helps.
    pub description: String,
}

/// Collects violations, at most [`VIOLATIONS_MAX`].
#[derive(Debug, Default)]
pub struct Violations {
    list: Vec<Violation>,
}

impl Violations {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a violation unless `holds`. The description is made only then.
    pub fn require(&mut self, holds: bool, field: &str, description: impl FnOnce() -> String) {
        if !holds && self.list.len() < VIOLATIONS_MAX {
            self.list.push(Violation { field: field.to_owned(), description: description() });
        }
    }

    /// Takes over what was found in a part whose path is `prefix`.
    pub fn adopt(&mut self, part: Violations, prefix: impl FnOnce() -> String) {
        if part.list.is_empty() {
            return;
        }
        let prefix = prefix();
        for violation in part.list {
            let field = format!("{prefix}{}", violation.field);
            self.require(false, &field, || violation.description);
        }
    }

    /// True if nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What was found.
    pub fn into_result(self) -> Result<(), Vec<Violation>> {
        if self.list.is_empty() { Ok(()) } else { Err(self.list) }
    }
}

/// One line for people.
pub(crate) fn join(violations: &[Violation]) -> String {
    let parts: Vec<String> = violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
    parts.join("; ")
}
