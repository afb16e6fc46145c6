//! What is proposed and not applied yet: a registration that meets any of it must not be answered from
//! the state alone (P/R2).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use registry_state::command::{Operation, Registration, Target};
use tokio::time::Instant;

use crate::raft::{Consensus, Outcome, ProposeError};

/// Longest time for which a proposal of unknown outcome is kept in mind. By then it is applied, or cut
/// from the log by another leader; a node without quorum confirms no round either way.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// Instances and leases that proposals under way touch. A clone shares them.
#[derive(Debug, Clone, Default)]
pub struct Pending {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    hasher: RandomState,
    /// By hash: two names of one hash cost an entry of the log, no more.
    touched: Mutex<HashMap<u64, u32>>,
}

/// One proposal under way.
#[derive(Debug)]
pub struct Proposal {
    pending: Pending,
    touched: Vec<u64>,
    /// Set while the outcome is not known.
    consensus: Option<Consensus>,
}

impl Pending {
    /// Notes what a proposal touches. Call it before the proposal is made.
    pub fn begin(&self, consensus: &Consensus, operation: &Operation) -> Proposal {
        let touched = self.touched(operation);
        let mut counts = self.counts();
        touched.iter().for_each(|key| *counts.entry(*key).or_default() += 1);
        drop(counts);
        Proposal { pending: self.clone(), touched, consensus: Some(consensus.clone()) }
    }

    /// Whether a proposal under way touches this instance.
    pub fn touches_instance(&self, of: &Registration) -> bool {
        self.has(self.instance(&of.namespace, &of.service_name, &of.instance_id))
    }

    /// Whether a proposal under way names this lease.
    pub fn touches_lease(&self, lease_id: u64) -> bool {
        self.has(self.lease(lease_id))
    }

    fn has(&self, key: u64) -> bool {
        self.counts().contains_key(&key)
    }

    fn touched(&self, operation: &Operation) -> Vec<u64> {
        match operation {
            Operation::Register(register) => {
                register.registration.iter().flat_map(|one| self.registration(one)).collect()
            }
            Operation::BatchRegister(batch) => {
                let instances = batch.registrations.iter().flat_map(|one| self.registration(one));
                instances.chain([self.lease(batch.lease_id)]).collect()
            }
            Operation::Deregister(operation) => self.target(operation.target.as_ref()),
            Operation::SetState(operation) => self.target(operation.target.as_ref()),
            Operation::Drain(operation) => self.target(operation.target.as_ref()),
            Operation::SetOverride(operation) => self.target(operation.target.as_ref()),
            Operation::ClearOverride(operation) => self.target(operation.target.as_ref()),
            _ => Vec::new(),
        }
    }

    fn registration(&self, of: &Registration) -> [u64; 2] {
        [self.instance(&of.namespace, &of.service_name, &of.instance_id), self.lease(of.lease_id)]
    }

    fn target(&self, target: Option<&Target>) -> Vec<u64> {
        let Some(target) = target else { return Vec::new() };
        if target.lease_id != 0 {
            return vec![self.lease(target.lease_id)];
        }
        vec![self.instance(&target.namespace, &target.service_name, &target.instance_id)]
    }

    fn instance(&self, namespace: &str, service: &str, instance_id: &str) -> u64 {
        self.shared.hasher.hash_one((namespace, service, instance_id))
    }

    fn lease(&self, lease_id: u64) -> u64 {
        self.shared.hasher.hash_one(lease_id)
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<u64, u32>> {
        self.shared.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, touched: &[u64]) {
        let mut counts = self.counts();
        for key in touched {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
    }
}

impl Proposal {
    /// The proposal has this outcome.
    pub fn ended(mut self, outcome: &Result<Outcome, ProposeError>) {
        let certain = !matches!(outcome, Err(ProposeError::OutcomeUnknown | ProposeError::Stopped));
        if certain {
            self.consensus = None;
        }
    }
}

impl Drop for Proposal {
    /// A proposal whose outcome is not known (its caller is gone, or its time was up) may still be
    /// applied: it is kept in mind until everything that was in the log by now is applied.
    fn drop(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        let pending = self.pending.clone();
        let runtime = tokio::runtime::Handle::try_current();
        match (self.consensus.take(), runtime) {
            (Some(consensus), Ok(runtime)) => {
                let last = consensus.status().last_log_index.unwrap_or(0);
                runtime.spawn(async move {
                    // One more than the last: it may have been on its way into the log.
                    let _ = consensus.wait_applied(last + 1, Instant::now() + FORGET_AFTER).await;
                    pending.end(&touched);
                });
            }
            _ => pending.end(&touched),
        }
    }
}
