//! Answers renewals: here if this node leads, else by the leader (P/L1, P/L2).

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use registry_proto::internal::forwarded_reply::Outcome as Forwarded;
use registry_proto::v1;
use registry_state::command::Target;
use registry_state::{InstanceRecord, LeaseView, State};
use tokio::time::Instant;

use super::Leases;
use super::agreement::Agreement;
use super::forward::{Forwarder, LONGEST_WAIT};
use super::table::Renewal;
use crate::error::Error;
use crate::raft::Leadership;
use crate::read_index::Confirmed;
use crate::server::convert;

/// Renewals as the services of this node see them. A clone shares everything.
#[derive(Clone)]
pub struct Renewals {
    leases: Leases,
    agreement: Arc<dyn Agreement>,
    forwarder: Forwarder,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// Without header.
    pub response: v1::HeartbeatResponse,
    /// Revision for its header.
    pub revision: u64,
    /// True if the leader gave it to this node.
    pub forwarded: bool,
}

/// A renewal that has been received: the deadline has moved if this node leads.
#[derive(Debug)]
pub struct Received {
    arrived: Instant,
    held_back: Vec<u64>,
}

impl Renewals {
    /// Puts the parts together.
    pub fn new(leases: Leases, agreement: Arc<dyn Agreement>, forwarder: Forwarder) -> Self {
        Self { leases, agreement, forwarder }
    }

    /// The table of this node.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Call it the moment a renewal has been decoded.
    pub fn receive(&self, ids: &[u64]) -> Received {
        let arrived = Instant::now();
        Received { arrived, held_back: self.leases.touch(ids.iter().map(|id| (*id, arrived))) }
    }

    /// As [`Renewals::receive`], for renewals that another node decoded so long before `now`.
    pub fn receive_each(&self, leases: impl Iterator<Item = (u64, Duration)>, now: Instant) -> Received {
        let leases = leases.map(|(id, waited)| (id, now.checked_sub(waited).unwrap_or(now)));
        Received { arrived: now, held_back: self.leases.touch(leases) }
    }

    /// Renews leases, at whichever node leads. Returns those that are not open.
    ///
    /// # Errors
    /// `NotLeader` or `NoQuorum`: nothing is said about the leases.
    pub async fn renew(&self, ids: &[u64], received: Received, deadline: Instant) -> Result<Vec<u64>, Error> {
        let result = if self.agreement.leadership().is_some() {
            let latest = received.arrived + LONGEST_WAIT;
            match self.renew_here(ids, &received, deadline).await {
                // Deposed meanwhile: nothing was acknowledged, and there is time to ask the successor.
                Err(Error::NotLeader) if Instant::now() < latest.min(deadline) => {
                    self.forwarder.renew(ids.to_vec(), received.arrived, deadline).await
                }
                result => result,
            }
        } else {
            self.forwarder.renew(ids.to_vec(), received.arrived, deadline).await
        };
        let metrics = self.leases.metrics();
        match &result {
            Ok(expired) => {
                metrics.renewals("ended", count(expired.len()));
                metrics.renewals("renewed", count(ids.len().saturating_sub(expired.len())));
            }
            Err(_) => metrics.renewals("failed", count(ids.len())),
        }
        result
    }

    /// Renews leases as the leader, and never passes them on. Returns those that are not open.
    ///
    /// # Errors
    /// As [`Renewals::renew`].
    pub async fn renew_here(
        &self,
        ids: &[u64],
        received: &Received,
        deadline: Instant,
    ) -> Result<Vec<u64>, Error> {
        let confirmed = self.confirm(deadline).await?;
        let mut published = confirmed.published;
        if !received.held_back.is_empty() {
            self.settled(confirmed.leadership, &received.held_back, received.arrived, deadline).await?;
            published = self.agreement.published();
        }
        Ok(ids.iter().copied().filter(|id| published.state.lease(*id).is_none()).collect())
    }

    /// Answers a heartbeat that was decoded at `arrived`, at whichever node leads.
    ///
    /// # Errors
    /// INVALID_FIELD, LEASE_EXPIRED, STALE_INCARNATION, NOT_LEADER, NO_QUORUM.
    pub async fn heartbeat(
        &self,
        request: v1::HeartbeatRequest,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Beat, Error> {
        let target = convert::heartbeat(&request)?;
        let latest = arrived + LONGEST_WAIT;
        let result = if self.agreement.leadership().is_some() {
            match self.heartbeat_here(&target, arrived, deadline).await {
                Err(Error::NotLeader) if Instant::now() < latest.min(deadline) => {
                    self.heartbeat_there(&request, arrived, deadline).await
                }
                result => result,
            }
        } else {
            self.heartbeat_there(&request, arrived, deadline).await
        };
        let metrics = self.leases.metrics();
        match &result {
            Ok(_) => metrics.renewals("renewed", 1),
            Err(Error::LeaseExpired | Error::StaleIncarnation { .. }) => metrics.renewals("ended", 1),
            Err(_) => metrics.renewals("failed", 1),
        }
        result
    }

    /// Answers a heartbeat as the leader, and never passes it on.
    ///
    /// # Errors
    /// As [`Renewals::heartbeat`].
    pub async fn heartbeat_here(
        &self,
        target: &Target,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Beat, Error> {
        if let Ok(found) = find(&self.agreement.published().state, target) {
            self.leases.renewed_by_write(found.lease.id, arrived);
        }
        let confirmed = self.confirm(deadline).await?;
        let mut published = confirmed.published;
        // Looked up again: the state of before may have been behind, or have changed.
        let lease = find(&published.state, target)?.lease.id;
        if self.leases.renewed_by_write(lease, arrived) == Renewal::Expiring {
            self.settled(confirmed.leadership, &[lease], arrived, deadline).await?;
            published = self.agreement.published();
        }
        let found = find(&published.state, target)?;
        Ok(Beat { response: found.response(), revision: published.state.revision(), forwarded: false })
    }

    async fn heartbeat_there(
        &self,
        request: &v1::HeartbeatRequest,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Beat, Error> {
        let reply = self.forwarder.heartbeat(request.encode_to_vec().into(), arrived, deadline).await?;
        let broken = |what: &str| Error::Internal(format!("the leader's answer to a heartbeat {what}"));
        match reply.outcome {
            Some(Forwarded::Response(bytes)) => {
                let response = v1::HeartbeatResponse::decode(bytes)
                    .map_err(|error| broken(&format!("is malformed: {error}")))?;
                Ok(Beat { response, revision: reply.revision, forwarded: true })
            }
            Some(Forwarded::Status(bytes)) => Err(super::forward::passed_on(bytes)),
            None => Err(broken("is empty")),
        }
    }

    /// A quorum round of this node, begun now.
    async fn confirm(&self, deadline: Instant) -> Result<Confirmed, Error> {
        let began = Instant::now();
        let confirmed = self.agreement.confirm(deadline).await?;
        self.leases.quorum_seen(confirmed.leadership, began);
        Ok(confirmed)
    }

    /// Waits for the `Expire` that holds leases back (P/L4).
    async fn settled(
        &self,
        leadership: Leadership,
        ids: &[u64],
        arrived: Instant,
        deadline: Instant,
    ) -> Result<(), Error> {
        if self.leases.settled(leadership, ids, arrived, deadline).await {
            return Ok(());
        }
        let leads = self.agreement.leadership() == Some(leadership);
        Err(if leads { Error::NoQuorum } else { Error::NotLeader })
    }
}

/// What a heartbeat is about.
struct Found<'a> {
    lease: LeaseView,
    instance: Option<&'a Arc<InstanceRecord>>,
}

impl Found<'_> {
    fn response(&self) -> v1::HeartbeatResponse {
        let ttl = Duration::from_millis(self.lease.ttl_ms.into());
        v1::HeartbeatResponse {
            header: None,
            remaining_ttl: (!ttl.is_zero()).then(|| convert::duration(ttl)),
            lease_id: self.lease.id,
            incarnation: self.instance.map_or(0, |instance| instance.incarnation),
            state: self.instance.map_or(0, |instance| instance.state() as i32),
        }
    }
}

/// The lease that a heartbeat renews. An absent instance has none (API/H5, R8).
fn find<'a>(state: &'a State, target: &Target) -> Result<Found<'a>, Error> {
    if target.lease_id != 0 {
        let lease = state.lease(target.lease_id).ok_or(Error::LeaseExpired)?;
        return Ok(Found { lease, instance: None });
    }
    let instance = state
        .instance(&target.namespace, &target.service_name, &target.instance_id)
        .ok_or(Error::LeaseExpired)?;
    if target.incarnation != 0 && target.incarnation != instance.incarnation {
        return Err(Error::StaleIncarnation { current: instance.incarnation });
    }
    let lease = state.lease(instance.lease_id).ok_or(Error::LeaseExpired)?;
    Ok(Found { lease, instance: Some(instance) })
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "renewals_test.rs"]
mod tests;
