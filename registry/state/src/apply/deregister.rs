//! Deregister: removes one instance, or all of a lease at one revision (API/D1 to D5).

use super::effects::Step;
use crate::command::Deregister;
use crate::event::EventCause;
use crate::reply::{Rejection, Reply};
use crate::state::State;

impl State {
    pub(super) fn deregister(&mut self, step: &mut Step, command: &Deregister) -> Result<Reply, Rejection> {
        let records = self.resolve(command.target.as_ref())?;
        let removed = records.len() as u32;
        let cause = if command.by_operator { EventCause::Operator } else { EventCause::Deregistered };
        for record in records {
            self.remove(step, record, cause);
        }
        Ok(Reply::Deregistered { removed })
    }
}
