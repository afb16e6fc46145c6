//! The parts of a plan: each looks at one subject and says what it would do.

use crate::crd::status::Progressing;

use super::Step;

/// What is being done, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doing {
    /// The kind of work.
    pub(super) reason: Progressing,
    /// Pod that it is about.
    pub(super) target: Option<String>,
    /// A sentence without numbers that change by themselves.
    pub(super) message: String,
}

impl Doing {
    /// Work on the whole cluster.
    pub(super) fn new(reason: Progressing, message: impl Into<String>) -> Self {
        Self { reason, target: None, message: message.into() }
    }

    /// Work on one pod.
    pub(super) fn on(reason: Progressing, pod: &str, message: impl Into<String>) -> Self {
        Self { reason, target: Some(pod.to_owned()), message: message.into() }
    }
}

/// What one part of the plan says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Flow {
    /// Nothing to do here.
    Nothing,
    /// This is the step.
    Do(Step, Doing),
    /// Something is waited for; others may act meanwhile.
    Pass(Doing),
    /// Something is waited for, and nothing else may be done.
    Hold(Doing),
}

impl Flow {
    /// A step with the words for it.
    pub(super) fn step(step: Step, reason: Progressing, target: Option<&str>) -> Self {
        let message = step.to_string();
        Self::Do(step, Doing { reason, target: target.map(str::to_owned), message })
    }
}
