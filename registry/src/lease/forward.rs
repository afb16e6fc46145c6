//! Brings renewals of a follower's callers to the leader, over one kept stream (P/L2).
//!
//! The stream is for renewals alone, so writes never delay them (API/M8). While two messages are on
//! their way the next one collects what arrives.

pub mod batch;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use registry_proto::internal::{
    ForwardRenewalsRequest, ForwardRenewalsResponse, ForwardedReply, PeerErrorReason, PeerHeader,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::debug;

use self::batch::{Ask, Batch, Pending};
pub use self::batch::{LONGEST_WAIT, passed_on};
use crate::error::Error;
use crate::error::peer::PeerError;
use crate::metrics::{ForwardOutcome, Metrics};
use crate::peers::{Peers, Purpose};
use crate::raft::Consensus;

/// Wishes that wait for room in a message. Each has at most 4,096 leases (32 KiB), so this is 32 MiB at
/// worst; a caller whose wish finds no room waits for it.
const QUEUE: usize = 1_024;

/// Messages on their way. With one, the leader would wait for the network between two of them.
const UNDER_WAY: usize = 2;

/// Leases of the largest wish: one `KeepAliveRequest`.
const LARGEST_WISH: usize = 4_096;

/// A stream without an answer for so long is given up (P/O2).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after a leader could not be reached, before it is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The way to the leader. A clone shares it.
#[derive(Debug, Clone)]
pub struct Forwarder {
    queue: mpsc::Sender<Pending>,
}

/// The other end of [`Forwarder`]: runs for as long as the node lives.
#[derive(Debug)]
pub struct ForwarderTask {
    queue: mpsc::Receiver<Pending>,
    consensus: Consensus,
    peers: Peers,
    metrics: Metrics,
}

/// The way to the leader, and the task that serves it.
pub fn forwarder(consensus: Consensus, peers: Peers, metrics: Metrics) -> (Forwarder, ForwarderTask) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Forwarder { queue: sender }, ForwarderTask { queue: receiver, consensus, peers, metrics })
}

impl Forwarder {
    /// A way that leads nowhere, for tests of a leader.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self { queue: mpsc::channel(1).0 }
    }

    /// Renews leases at the leader. Returns those that are not open.
    ///
    /// # Errors
    /// `NotLeader` or `NoQuorum`: nothing is said about the leases.
    pub async fn renew(&self, ids: Vec<u64>, arrived: Instant, deadline: Instant) -> Result<Vec<u64>, Error> {
        self.ask(|waiter| Ask::Leases(ids, waiter), arrived, deadline).await
    }

    /// Has the leader answer an encoded `HeartbeatRequest`.
    ///
    /// # Errors
    /// As [`Forwarder::renew`].
    pub async fn heartbeat(
        &self,
        request: Bytes,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<ForwardedReply, Error> {
        self.ask(|waiter| Ask::Heartbeat(request, waiter), arrived, deadline).await
    }

    async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Ask,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<T, Error> {
        let (sender, answer) = oneshot::channel();
        let pending = Pending { ask: ask(sender), arrived };
        // A full queue is older than the wait that is allowed: do not stand in it for longer.
        let room = deadline.min(arrived + LONGEST_WAIT);
        match timeout_at(room, self.queue.send(pending)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Error::ShuttingDown),
            Err(_) => return Err(Error::NoQuorum),
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::ShuttingDown),
            Err(_) => Err(Error::NoQuorum),
        }
    }
}

impl ForwarderTask {
    /// Serves the queue until all [`Forwarder`]s are gone.
    pub async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            if Instant::now() >= first.arrived + LONGEST_WAIT {
                first.fail(Error::NoQuorum);
                continue;
            }
            let Some(leader) = self.consensus.known_leader(first.arrived + LONGEST_WAIT).await else {
                first.fail(Error::NoQuorum);
                continue;
            };
            if leader == self.peers.raft_id() {
                // Elected a moment ago: the next renewal is answered here.
                first.fail(Error::NotLeader);
                continue;
            }
            if let Err(status) = self.serve(leader, first).await {
                debug!(leader, %status, "the stream of renewals to the leader ended");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Serves one stream to one leader. An error says why it ended; those under way have been told.
    async fn serve(&mut self, leader: u64, first: Pending) -> Result<(), Status> {
        let (sender, messages) = mpsc::channel::<ForwardRenewalsRequest>(UNDER_WAY);
        let Some(mut client) = self.peers.client(leader, Purpose::Renewals) else {
            first.fail(Error::NotLeader);
            return Err(Status::unavailable("the address of the leader is not known"));
        };
        let header = Some(self.peers.header(leader));
        let mut stream = Stream { sender, under_way: VecDeque::new(), sequence: 0, header };
        stream.send(first, &mut self.queue);
        if stream.under_way.is_empty() {
            return Ok(()); // nobody waits any more
        }
        let opening = timeout(ANSWER_TIMEOUT, client.forward_renewals(ReceiverStream::new(messages)));
        let result = match opening.await {
            Ok(Ok(response)) => self.exchange(leader, &mut stream, response.into_inner()).await,
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::deadline_exceeded("the leader does not answer")),
        };
        let outcome = match &result {
            Err(status) if PeerError::reason_of(status) == Some(PeerErrorReason::NoQuorum) => Error::NoQuorum,
            _ => Error::NotLeader,
        };
        for (_, batch, _) in stream.under_way {
            self.metrics.forwarded("renewal", ForwardOutcome::Unknown);
            batch.fail(&outcome);
        }
        result
    }

    async fn exchange(
        &mut self,
        leader: u64,
        stream: &mut Stream,
        mut answers: tonic::Streaming<ForwardRenewalsResponse>,
    ) -> Result<(), Status> {
        let mut status = self.consensus.watch_status();
        loop {
            let patience = stream.under_way.front().map(|(_, _, sent)| *sent + ANSWER_TIMEOUT);
            tokio::select! {
                answer = answers.next() => match answer {
                    Some(answer) => {
                        stream.answered(answer?)?;
                        self.metrics.forwarded("renewal", ForwardOutcome::Answered);
                    }
                    None => return Err(Status::unavailable("the leader closed the stream")),
                },
                pending = self.queue.recv(), if stream.under_way.len() < UNDER_WAY => match pending {
                    Some(pending) => stream.send(pending, &mut self.queue),
                    None => return Ok(()),
                },
                changed = status.changed() => {
                    if changed.is_err() || status.borrow_and_update().leader != Some(leader) {
                        return Ok(());
                    }
                }
                () = async { match patience {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                } } => return Err(Status::deadline_exceeded("the leader does not answer")),
            }
        }
    }
}

/// The sending side of one stream.
struct Stream {
    sender: mpsc::Sender<ForwardRenewalsRequest>,
    /// Sent and not answered: sequence, who waits, since when.
    under_way: VecDeque<(u64, Batch, Instant)>,
    sequence: u64,
    /// For the first message.
    header: Option<PeerHeader>,
}

impl Stream {
    /// Sends one message: this wish and what else waits.
    fn send(&mut self, first: Pending, queue: &mut mpsc::Receiver<Pending>) {
        let now = Instant::now();
        let mut batch = Batch::default();
        batch.add(first, now);
        while batch.has_room(LARGEST_WISH)
            && let Ok(pending) = queue.try_recv()
        {
            batch.add(pending, now);
        }
        if batch.is_empty() {
            return;
        }
        self.sequence += 1;
        let message = ForwardRenewalsRequest {
            header: self.header.take(),
            sequence: self.sequence,
            ..batch.message(now)
        };
        match self.sender.try_send(message) {
            Ok(()) => self.under_way.push_back((self.sequence, batch, now)),
            // The stream has ended: the caller finds out next.
            Err(_) => batch.fail(&Error::NotLeader),
        }
    }

    fn answered(&mut self, response: ForwardRenewalsResponse) -> Result<(), Status> {
        match self.under_way.pop_front() {
            Some((sequence, batch, _)) if sequence == response.sequence => batch.answer(response),
            Some((_, batch, _)) => {
                batch.fail(&Error::NotLeader);
                return Err(Status::internal("the leader answered out of order"));
            }
            None => return Err(Status::internal("the leader answered what was not asked")),
        }
        Ok(())
    }
}
