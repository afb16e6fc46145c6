//! Drain: the change of state through the log, then the hand-shake over all nodes (P/V7).
//!
//! The node asked does the waiting, whoever leads: it is the one whose caller waits, a new leader changes
//! nothing for it, and the leader does not hold the drains of the whole cluster.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use registry_proto::internal::{AwaitWatchesRequest, Drained, WatchedService, WriteMethod};
use registry_proto::v1;
use registry_state::Reply;
use registry_state::limits as bounds;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tonic::{Request, Status};

use super::convert::{self, Checked};
use super::limits;
use super::peer::renewals::ANSWER_MARGIN;
use crate::error::Error;
use crate::member_health::MemberHealth;
use crate::metrics::Metrics;
use crate::peers::{Peers, Purpose};
use crate::raft::Consensus;
use crate::request::Caller;
use crate::request::admit::Class;
use crate::request::write::{Answer, Write, Writer};
use crate::watch::{Hub, Sent};

/// Longest wait of one question to a member; then it is asked again. A member that is lost meanwhile is
/// noticed at the next question.
const ROUND: Duration = Duration::from_millis(250);

/// Time over the wait it was asked for after which a member counts as silent: as long as connecting to it
/// may take.
const SILENT_AFTER: Duration = Duration::from_millis(500);

/// Time without an answer to the leader's heartbeats, of which there are several in it, after which the
/// leader does not even ask.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(1);

/// Time kept of the caller's own deadline, so that the answer arrives although a member falls silent.
const RESERVE: Duration = SILENT_AFTER.saturating_add(Duration::from_millis(100));

/// Drains instances at any node. A clone shares the bound.
#[derive(Debug, Clone)]
pub struct Drains {
    parts: Arc<DrainParts>,
    under_way: Arc<Semaphore>,
}

/// What drains go through.
#[derive(Debug)]
pub struct DrainParts {
    /// Makes the change.
    pub writer: Writer,
    /// Knows the members.
    pub consensus: Consensus,
    /// The other nodes.
    pub peers: Peers,
    /// Knows the dead ones, on the leader.
    pub member_health: MemberHealth,
    /// The watches of this node.
    pub hub: Hub,
    /// What is counted.
    pub metrics: Metrics,
}

/// How far a change went in the whole cluster.
#[derive(Debug, Default, PartialEq, Eq)]
struct Spread {
    watches: usize,
    pending: usize,
    silent: Vec<String>,
}

impl Write for v1::DrainRequest {
    type Response = Drained;
    const METHOD: WriteMethod = WriteMethod::Drain;
    const CLASS: Class = Class::Relief;

    fn check(self) -> Result<Checked, Error> {
        convert::drain(&self)
    }

    fn answer(reply: &Reply) -> Result<Self::Response, Error> {
        convert::drained(reply)
    }

    /// The response has its header from the node that waited.
    fn head(_: &mut Self::Response, _: v1::ResponseHeader) {}
}

impl Drains {
    /// Drains go through these parts.
    pub fn new(parts: DrainParts) -> Self {
        Self { parts: Arc::new(parts), under_way: Arc::new(Semaphore::new(limits::DRAINS)) }
    }

    /// Sets DRAINING, then waits until every node has handed the change to its watches, or until the time
    /// is up. `allowed` is what the caller gives its call. The response has no header.
    ///
    /// # Errors
    /// Those of the write; see API.md. Whatever becomes of the hand-shake is an answer.
    pub async fn drain(
        &self,
        request: v1::DrainRequest,
        caller: &Caller,
        allowed: Option<Duration>,
    ) -> Result<Answer<v1::DrainResponse>, Error> {
        let overloaded = |_| Error::Overloaded { what: "drains under way", retry_after: limits::SHED_RETRY };
        let _permit = self.under_way.try_acquire().map_err(overloaded)?;
        let until = wait_until(&request, caller.arrived, allowed);
        let named = WatchedService {
            namespace: if request.namespace.is_empty() {
                bounds::DEFAULT_NAMESPACE.to_owned()
            } else {
                request.namespace.clone()
            },
            service_name: request.service_name.clone(),
        };
        let by_lease = request.lease_id != 0;
        let written = self.parts.writer.submit(request, caller).await?;
        let mut drained = written.response;
        if drained.services.is_empty() && !by_lease {
            // A repetition that finds the instance gone still waits for the first call's revision.
            drained.services.push(named);
        }
        let begun = Instant::now();
        let spread = self.hand_shake(&drained, until).await;
        let outcome = match (spread.silent.is_empty(), spread.pending) {
            (true, 0) => "complete",
            (true, _) => "pending",
            (false, _) => "silent",
        };
        self.parts.metrics.drained(outcome, begun.elapsed());
        tracing::debug!(revision = drained.revision, outcome, ?spread, took = ?begun.elapsed(), "drained");
        Ok(Answer {
            response: v1::DrainResponse {
                header: None,
                complete: outcome == "complete",
                revision: drained.revision,
                watches: count(spread.watches),
                pending_watches: count(spread.pending),
                silent_nodes: spread.silent,
            },
            revision: written.revision,
            replayed: written.replayed,
            forwarded: written.forwarded,
        })
    }

    /// Asks all members at once, this node among them.
    async fn hand_shake(&self, drained: &Drained, until: Instant) -> Spread {
        let parts = &self.parts;
        let services: Vec<(String, String)> = (drained.services.iter())
            .map(|service| (service.namespace.clone(), service.service_name.clone()))
            .collect();
        let here = parts.hub.await_sent(&services, drained.revision, until);
        let membership = parts.consensus.status().membership;
        let others = membership.members.iter().filter(|(raft_id, _)| **raft_id != parts.peers.raft_id());
        let others = join_all(
            others
                .map(|(raft_id, member)| async { (&member.name, self.ask(*raft_id, drained, until).await) }),
        );
        let (here, others) = tokio::join!(here, others);
        let mut spread = Spread { watches: here.watches, pending: here.pending, silent: Vec::new() };
        for (name, sent) in others {
            match sent {
                Some(sent) => {
                    spread.watches += sent.watches;
                    spread.pending += sent.pending;
                }
                None => spread.silent.push(name.clone()),
            }
        }
        spread.silent.sort();
        spread
    }

    /// Asks a member until its watches have been handed the revision or the time is up. Nothing if it
    /// cannot be asked, from whatever moment on.
    async fn ask(&self, raft_id: u64, drained: &Drained, until: Instant) -> Option<Sent> {
        let closing = self.parts.hub.closing();
        loop {
            if self.is_unreachable(raft_id) {
                return None;
            }
            let sent = match self.look(raft_id, drained, until).await {
                Ok(sent) => sent,
                // The kept connection was of an earlier life of that node, or has just ended.
                Err(Some(_)) => self.look(raft_id, drained, until).await.ok()?,
                Err(None) => return None,
            };
            if sent.pending == 0 || Instant::now() >= until || *closing.borrow() {
                return Some(sent);
            }
        }
    }

    /// One question: how the watches of a member stand, at the latest after a round. Without a status the
    /// member was silent.
    async fn look(&self, raft_id: u64, drained: &Drained, until: Instant) -> Result<Sent, Option<Status>> {
        let peers = &self.parts.peers;
        let mut client = peers.client(raft_id, Purpose::Watches).ok_or(None)?;
        let wait = until.saturating_duration_since(Instant::now()).min(ROUND);
        let mut request = Request::new(AwaitWatchesRequest {
            header: Some(peers.header(raft_id)),
            revision: drained.revision,
            services: drained.services.clone(),
        });
        // The member answers so much earlier.
        request.set_timeout(wait + ANSWER_MARGIN);
        let answer = timeout(wait + SILENT_AFTER, client.await_watches(request)).await.map_err(|_| None)?;
        let answer = answer.map_err(Some)?.into_inner();
        let size = |count| usize::try_from(count).unwrap_or(usize::MAX);
        Ok(Sent { watches: size(answer.watches), pending: size(answer.pending) })
    }

    /// True if this node leads and knows already that the member does not answer.
    fn is_unreachable(&self, raft_id: u64) -> bool {
        let status = self.parts.consensus.status();
        let contact = status.followers.get(&raft_id).and_then(|follower| follower.last_contact);
        let silent =
            status.leadership().is_some() && contact.is_some_and(|at| at.elapsed() > UNREACHABLE_AFTER);
        silent || self.parts.member_health.dead().contains(&raft_id)
    }
}

/// Until when to wait: as asked for, and no longer than the caller does.
fn wait_until(request: &v1::DrainRequest, arrived: Instant, allowed: Option<Duration>) -> Instant {
    let asked = request.timeout.and_then(convert::duration_ms).unwrap_or(bounds::DRAIN_TIMEOUT_MS_DEFAULT);
    let asked = Duration::from_millis(asked.min(bounds::DRAIN_TIMEOUT_MS_MAX));
    let allowed = allowed.map_or(asked, |allowed| allowed.saturating_sub(RESERVE));
    arrived + asked.min(allowed)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_waits_as_long_as_it_was_asked_to_and_its_caller_does() {
        let arrived = Instant::now();
        let wait = |timeout_s: Option<i64>, allowed_s: Option<u64>| {
            let timeout = timeout_s.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
            let request = v1::DrainRequest { timeout, ..Default::default() };
            wait_until(&request, arrived, allowed_s.map(Duration::from_secs)) - arrived
        };
        assert_eq!(wait(None, None), Duration::from_secs(10));
        assert_eq!(wait(Some(300), None), Duration::from_secs(300));
        assert_eq!(wait(Some(0), None), Duration::ZERO);
        assert_eq!(wait(Some(20), Some(60)), Duration::from_secs(20));
        assert_eq!(wait(Some(20), Some(2)), Duration::from_secs(2) - RESERVE);
        assert_eq!(wait(Some(20), Some(0)), Duration::ZERO, "it looks once");
    }
}
