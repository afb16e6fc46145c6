//! Collects renewals into messages to the leader: at most one per lease (P/O1), each with the time it
//! waited (P/L2).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use registry_proto::internal::{ForwardRenewalsRequest, ForwardRenewalsResponse, ForwardedReply};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::Error;
use crate::request::forward::decode_status;

/// Leases in one message; four full requests of clients.
pub const BATCH_LEASES: usize = 16_384;

/// Heartbeats in one message.
pub const BATCH_HEARTBEATS: usize = 1_024;

/// A renewal that waited longer is failed, not sent (P/L2).
pub const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Somebody who waits for an answer.
pub type Waiter<T> = oneshot::Sender<Result<T, Error>>;

/// What a caller wants of the leader.
#[derive(Debug)]
pub enum Ask {
    /// Renew leases, at most 4,096. Answers which are not open.
    Leases(Vec<u64>, Waiter<Vec<u64>>),
    /// Answer an encoded `HeartbeatRequest`.
    Heartbeat(Bytes, Waiter<ForwardedReply>),
}

/// A wish with its age.
#[derive(Debug)]
pub struct Pending {
    /// The wish.
    pub ask: Ask,
    /// When this node decoded it.
    pub arrived: Instant,
}

/// Renewals on their way, and who waits for them.
#[derive(Debug, Default)]
pub struct Batch {
    leases: Vec<u64>,
    /// Arrival of the youngest renewal of each lease.
    lease_arrived: Vec<Instant>,
    position: HashMap<u64, usize>,
    lease_waiters: Vec<(Vec<u64>, Waiter<Vec<u64>>)>,
    heartbeats: Vec<Bytes>,
    /// Arrival of the youngest of equal heartbeats.
    heartbeat_arrived: Vec<Instant>,
    heartbeat_position: HashMap<Bytes, usize>,
    heartbeat_waiters: Vec<Vec<Waiter<ForwardedReply>>>,
}

impl Pending {
    /// Answers that nothing is known.
    pub fn fail(self, error: Error) {
        match self.ask {
            Ask::Leases(_, waiter) => drop(waiter.send(Err(error))),
            Ask::Heartbeat(_, waiter) => drop(waiter.send(Err(error))),
        }
    }
}

impl Batch {
    /// True if it has room for any further wish.
    pub fn has_room(&self, largest: usize) -> bool {
        self.leases.len() + largest <= BATCH_LEASES && self.heartbeats.len() < BATCH_HEARTBEATS
    }

    /// True if nobody waits for it.
    pub fn is_empty(&self) -> bool {
        self.lease_waiters.is_empty() && self.heartbeat_waiters.is_empty()
    }

    /// Adds a wish; one that is too old, or that nobody waits for any more, is failed.
    pub fn add(&mut self, pending: Pending, now: Instant) {
        if now.saturating_duration_since(pending.arrived) > LONGEST_WAIT {
            return pending.fail(Error::NoQuorum);
        }
        match pending.ask {
            Ask::Leases(ids, waiter) if !waiter.is_closed() => {
                for id in &ids {
                    self.add_lease(*id, pending.arrived);
                }
                self.lease_waiters.push((ids, waiter));
            }
            Ask::Heartbeat(request, waiter) if !waiter.is_closed() => {
                self.add_heartbeat(request, pending.arrived, waiter);
            }
            Ask::Leases(..) | Ask::Heartbeat(..) => {}
        }
    }

    fn add_lease(&mut self, id: u64, arrived: Instant) {
        let next = self.leases.len();
        let position = *self.position.entry(id).or_insert(next);
        if let Some(known) = self.lease_arrived.get_mut(position) {
            *known = (*known).max(arrived);
        } else {
            self.leases.push(id);
            self.lease_arrived.push(arrived);
        }
    }

    /// Equal heartbeats become one: whoever asks the same gets the same answer.
    fn add_heartbeat(&mut self, request: Bytes, arrived: Instant, waiter: Waiter<ForwardedReply>) {
        let next = self.heartbeats.len();
        let position = *self.heartbeat_position.entry(request.clone()).or_insert(next);
        if let (Some(known), Some(waiters)) =
            (self.heartbeat_arrived.get_mut(position), self.heartbeat_waiters.get_mut(position))
        {
            *known = (*known).max(arrived);
            waiters.push(waiter);
        } else {
            self.heartbeats.push(request);
            self.heartbeat_arrived.push(arrived);
            self.heartbeat_waiters.push(vec![waiter]);
        }
    }

    /// The message, sent at `now`; without header and sequence.
    pub fn message(&self, now: Instant) -> ForwardRenewalsRequest {
        let arrived = self.lease_arrived.iter().chain(&self.heartbeat_arrived);
        ForwardRenewalsRequest {
            lease_ids: self.leases.clone(),
            heartbeats: self.heartbeats.clone(),
            // Rounded down: the leader may count a little too much to the owner, never too little.
            waited_ms: arrived.map(|at| whole_ms(now.saturating_duration_since(*at))).collect(),
            ..ForwardRenewalsRequest::default()
        }
    }

    /// Hands the leader's answer to those who wait.
    pub fn answer(self, response: ForwardRenewalsResponse) {
        if !response.error.is_empty() {
            return self.fail(&passed_on(response.error));
        }
        if response.replies.len() != self.heartbeat_waiters.len() {
            return self.fail(&Error::Internal("the leader answered another number of heartbeats".into()));
        }
        let expired: HashSet<u64> = response.expired.into_iter().collect();
        for (ids, waiter) in self.lease_waiters {
            let expired = ids.into_iter().filter(|id| expired.contains(id)).collect();
            drop(waiter.send(Ok(expired)));
        }
        for (waiters, reply) in self.heartbeat_waiters.into_iter().zip(response.replies) {
            for waiter in waiters {
                drop(waiter.send(Ok(reply.clone())));
            }
        }
    }

    /// Tells those who wait that nothing is known.
    pub fn fail(self, error: &Error) {
        for (_, waiter) in self.lease_waiters {
            drop(waiter.send(Err(error.clone())));
        }
        for waiter in self.heartbeat_waiters.into_iter().flatten() {
            drop(waiter.send(Err(error.clone())));
        }
    }
}

/// An error of the leader, told to the caller as it is.
pub fn passed_on(status: Bytes) -> Error {
    Error::Answered(Box::new(decode_status(&status)))
}

fn whole_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "batch_test.rs"]
mod tests;
