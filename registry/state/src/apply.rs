//! Applying a command: one match, one file per subject.

use std::sync::Arc;

use crate::command::{Command, Registration, RequestKey};
use crate::event::RevisionEvents;
use crate::ids::{LeaseId, Revision};
use crate::lease::LeaseChange;
use crate::reply::{Reason, Reply};
use crate::state::State;

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The answer.
    pub reply: Reply,
    /// Revision for the header of the answer: right after the command, or of then if it was replayed.
    pub revision: Revision,
    /// True if the outcome was remembered from an earlier command with the same request id.
    pub replayed: bool,
    /// The changes, if the revision rose.
    pub events: Option<Arc<RevisionEvents>>,
    /// What happened to leases, in order.
    pub leases: Vec<LeaseChange>,
}

impl State {
    /// Applies one command. Total: whatever the command holds, the state stays sound, and what is
    /// refused changes nothing that a reader can see.
    pub fn apply(&mut self, command: &Command) -> Applied {
        let _ = command;
        Applied {
            reply: Reply::Rejected(Reason::NotInitialized.into()),
            revision: self.revision,
            replayed: false,
            events: None,
            leases: Vec::new(),
        }
    }

    /// The lease that a registration would renew without changing anything, so that the leader need not
    /// put it into the log (P/R2, API/R2): the owner is the same, a client given equals the recorded
    /// one, the content is equal, no guard holds the instance, and the request id is neither a
    /// repetition nor to be refused. The leader adds what only it knows: a quorum round, and that neither
    /// lease nor instance is in a proposal that is not applied yet.
    pub fn would_renew(&self, registration: &Registration, request: Option<&RequestKey>) -> Option<LeaseId> {
        let _ = (registration, request);
        None
    }
}
