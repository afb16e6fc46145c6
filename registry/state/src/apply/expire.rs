//! Expire: leases that ran out end with all their instances (P/L4).

use super::effects::Step;
use crate::command::Expire;
use crate::event::EventCause;
use crate::limits::INSTANCES_PER_ENTRY_MAX;
use crate::reply::Reply;
use crate::state::State;

impl State {
    /// Looks at versions only, never at time: a lease that its owner touched since the leader decided has
    /// another version and stays.
    pub(super) fn expire(&mut self, step: &mut Step, command: &Expire) -> Reply {
        let (mut leases, mut instances, mut skipped) = (0, 0, 0);
        for named in &command.leases {
            let due =
                self.leases.get(&named.lease_id).filter(|l| l.version == named.version && l.ttl_ms != 0);
            let fits = due.is_some_and(|lease| fits(instances, lease.instances));
            if !fits {
                skipped += 1;
                continue;
            }
            for record in self.records_of(named.lease_id) {
                self.remove(step, record, EventCause::Expired);
                instances += 1;
            }
            leases += 1;
        }
        Reply::Expired { leases, instances, skipped }
    }
}

/// True if a lease of so many instances still fits into an entry that has changed `done` already.
pub(super) fn fits(done: u32, lease_instances: u32) -> bool {
    done == 0 || done.saturating_add(lease_instances) as usize <= INSTANCES_PER_ENTRY_MAX
}
