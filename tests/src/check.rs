//! What a run promised and what it did: a history of everything that was seen of a cluster from outside,
//! and a checker for each promise.
//!
//! Pure: nothing here does input or output or reads a clock, so the same checkers judge real processes and
//! simulations. A run writes its [`History`] by a [`Recorder`]; the checkers judge it afterwards. The
//! invariants I1 to I13 are those of `ARCHITECTURE.md`.
//!
//! The check is a check *by witness*: no order of the operations has to be searched for, because every reply
//! carries the revision at which it took effect and a watch of everything tells what each revision changed.
//! What is left is to hold the witness against the real times. It takes linear time (but for sorting) and it
//! is as strict as a search.

pub mod history;
pub mod recorder;

pub use history::{Answer, Call, History, Operation, Outcome, StateHash, Time, Watch};
pub use recorder::{Open, OpenWatch, Recorder};
