//! Applying a command: checked here, done by one file per subject.
//!
//! Every operation first looks (`&self`) and decides, then changes; so a refusal changes nothing. All
//! changes go through `effects`, which keeps indexes, counts, sums and the hash.

mod deregister;
mod effects;
mod expire;
mod founding;
mod guard;
mod overrides;
mod register;
mod registration;
mod replay;
mod report;
mod settings;
mod target;

use std::sync::Arc;

use smol_str::SmolStr;

use crate::client::{Record, Verdict};
use crate::command::{Command, Operation, RequestKey};
use crate::event::RevisionEvents;
use crate::ids::Revision;
use crate::lease::LeaseChange;
use crate::reply::{Reason, Rejection, Reply};
use crate::state::State;
use effects::Step;

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
        if self.identity.is_none() && !matches!(command.operation, Operation::InitCluster(_)) {
            return self.refused(Reason::NotInitialized);
        }
        // What this refuses depends on the command alone, so it need not be remembered.
        if let Err(violations) = command.operation.check() {
            return self.refused(Reason::InvalidField(violations));
        }
        let request = command.request.as_ref().filter(|_| command.operation.is_deduplicated());
        let applied = match request {
            Some(request) => self.apply_once(command, request),
            None => self.execute(command, SmolStr::default()).0,
        };
        self.clients.trim(&mut self.digest);
        applied
    }

    /// Applies a client's write unless it was applied before (P/R3).
    fn apply_once(&mut self, command: &Command, request: &RequestKey) -> Applied {
        let name = match self.clients.verdict(request) {
            Verdict::Refused(reason) => return self.refused(reason),
            Verdict::Repeated(record) => {
                let (revision, outcome) = (record.revision, record.outcome.clone());
                let reply = self.replay(&command.operation, revision, &outcome, command.proposed_at_unix_ms);
                return Applied { reply, revision, replayed: true, events: None, leases: Vec::new() };
            }
            Verdict::Fresh(name) => name,
        };
        let (applied, owned) = self.execute(command, name.clone());
        if let Some(outcome) = replay::remember(&applied.reply) {
            let (serial, hash, revision) = (request.serial, request.hash, applied.revision);
            let record = Record { serial, hash, revision, outcome };
            self.clients.record(&name, request.done_below, record, owned, &mut self.digest);
        }
        applied
    }

    /// Does the operation as `client` (empty = none given) and closes the revision if it made one. Returns
    /// also how many instances the client won or lost.
    fn execute(&mut self, command: &Command, client: SmolStr) -> (Applied, i64) {
        let mut step = Step::new(self.revision, command.proposed_at_unix_ms, client);
        let reply = self.dispatch(&mut step, &command.operation).unwrap_or_else(Reply::Rejected);
        let owned = step.owned;
        let (events, leases) = self.close(step);
        (Applied { reply, revision: self.revision, replayed: false, events, leases }, owned)
    }

    fn dispatch(&mut self, step: &mut Step, operation: &Operation) -> Result<Reply, Rejection> {
        match operation {
            Operation::InitCluster(init) => self.init_cluster(init),
            Operation::Register(register) => self.register(step, register),
            Operation::BatchRegister(batch) => self.batch_register(step, batch),
            Operation::Deregister(deregister) => self.deregister(step, deregister),
            Operation::SetState(set) => self.set_state(step, set),
            Operation::Drain(drain) => self.drain(step, drain),
            Operation::SetOverride(set) => self.set_override(step, set),
            Operation::ClearOverride(clear) => Ok(self.clear_override(step, clear)),
            Operation::TickOverrides(tick) => Ok(self.tick_overrides(tick)),
            Operation::EndOverrides(end) => Ok(self.end_overrides(step, end)),
            Operation::Protect(protect) => Ok(self.protect(step, protect)),
            Operation::Unprotect(unprotect) => Ok(self.unprotect(step, unprotect)),
            Operation::EndProtection(end) => Ok(self.end_protection(step, end)),
            Operation::GuardTick(tick) => Ok(self.guard_tick(step, tick)),
            Operation::Expire(expire) => Ok(self.expire(step, expire)),
            Operation::AddMember(add) => self.add_member(add),
            Operation::RemoveMembers(remove) => self.remove_members(remove),
            Operation::UpdateSettings(update) => self.update_settings(update),
        }
    }

    fn refused(&self, reason: Reason) -> Applied {
        Applied {
            reply: Reply::Rejected(reason.into()),
            revision: self.revision,
            replayed: false,
            events: None,
            leases: Vec::new(),
        }
    }
}
