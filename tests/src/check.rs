//! What a run promised and what it did: a history of everything that was seen of a cluster from outside,
//! and a checker for each promise.
//!
//! Pure: nothing here does input or output or reads a clock, so the same checkers judge real processes and
//! simulations. A run writes its [`History`] by a [`Recorder`]; [`violations`] judges it afterwards. The
//! invariants I1 to I13 are those of `ARCHITECTURE.md`.
//!
//! The check is a check *by witness*: no order of the operations has to be searched for, because every reply
//! carries the revision at which it took effect and a watch of everything tells what each revision changed.
//! What is left is to hold the witness against the real times. It takes linear time (but for sorting) and it
//! is as strict as a search: [`search`] is one, for small histories, and a test compares the two.

use std::time::Duration;

pub mod explain;
pub mod hashes;
pub mod history;
pub mod leases;
pub mod linear;
pub mod names;
pub mod observed;
pub mod recorder;
pub mod revisions;
pub mod search;
pub mod stale;
pub mod stream;
pub mod timeline;
pub mod violation;
pub mod watches;

#[cfg(test)]
mod example;
#[cfg(test)]
mod facts_test;
#[cfg(test)]
mod linear_test;
#[cfg(test)]
mod search_test;
#[cfg(test)]
mod watches_test;

pub use history::{Answer, Call, History, Operation, Outcome, StateHash, Time, Watch};
pub use recorder::{Open, OpenWatch, Recorder};
pub use timeline::Timeline;
pub use violation::Violation;

/// Every broken promise of a run. `late` is how much later than promised something may come on this machine;
/// nothing may come early.
pub fn violations(history: &History, late: Duration) -> Vec<Violation> {
    let mut violations = hashes::check(history);
    match Timeline::of(history) {
        Ok(timeline) => {
            violations.extend(linear::check(history, &timeline));
            violations.extend(watches::check(history, &timeline, late));
            violations.extend(stale::check(history, &timeline));
            violations.extend(leases::check(history, &timeline, late));
            violations.extend(revisions::check(history, &timeline));
        }
        // Without a witness nothing else can be judged.
        Err(found) => violations.extend(found),
    }
    violations
}
