//! Probes all members in rounds while this node leads.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt;
use registry_proto::internal::ProbeRequest;
use tokio::time::{Instant, sleep_until, timeout};

use super::stall::{PULSE, Stall};
use super::verdict::{Outcome, interval};
use super::{Board, MemberHealth, agreement};
use crate::peers::{PeerClient, Purpose};
use crate::raft::Leadership;

/// Probes under way at a time: more than a cluster has members, unless many wait to be admitted.
const CONCURRENT: usize = 16;

/// Whom to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    node_id: String,
    disk_id: String,
    endpoint: String,
}

type Targets = BTreeMap<u64, Target>;

/// What one round found, and when each probe was sent.
type Round = Vec<(u64, Instant, Outcome)>;

/// Clients of members that are not in Raft yet: the kept ones follow the membership of Raft.
#[derive(Default)]
struct Strangers {
    clients: BTreeMap<u64, (String, PeerClient)>,
}

impl MemberHealth {
    /// Probes while this node leads, for ever.
    pub async fn run(&self) -> Infallible {
        let mut status = self.shared.consensus.watch_status();
        let mut strangers = Strangers::default();
        loop {
            let leads = status.wait_for(|status| status.leadership().is_some()).await.is_ok();
            match self.shared.consensus.leadership() {
                Some(leadership) => self.reign(leadership, &mut strangers).await,
                // Raft has ended, and the node ends with it.
                None if !leads => std::future::pending().await,
                None => {}
            }
            self.begin(None);
        }
    }

    /// Probes until this node leads no more.
    async fn reign(&self, leadership: Leadership, strangers: &mut Strangers) {
        self.begin(Some(leadership));
        let mut stall = Stall::new(self.shared.clock.boot());
        while self.shared.consensus.leadership() == Some(leadership) {
            let dead_after = self.dead_after();
            let pause = interval(dead_after);
            let next = Instant::now() + pause;
            let targets = self.targets();
            strangers.clients.retain(|id, _| targets.contains_key(id));
            let (round, stalled) = self.watching(&mut stall, self.round(&targets, strangers, pause)).await;
            if stalled {
                self.forgive();
            } else {
                self.take(&targets, round, dead_after);
            }
            if self.watching(&mut stall, sleep_until(next)).await.1 {
                self.forgive();
            }
        }
    }

    /// Waits for something; true if this process stood still meanwhile.
    async fn watching<T>(&self, stall: &mut Stall, future: impl Future<Output = T>) -> (T, bool) {
        let mut stalled = false;
        let mut future = std::pin::pin!(future);
        loop {
            let result = timeout(PULSE, &mut future).await;
            stalled |= stall.looked(self.shared.clock.boot());
            if let Ok(value) = result {
                return (value, stalled);
            }
        }
    }

    fn dead_after(&self) -> Duration {
        let published = self.shared.consensus.published();
        Duration::from_millis(published.state.settings().dead_member_after_ms)
    }

    /// All members but this node: those of the state, and those of Raft while the state has none.
    fn targets(&self) -> Targets {
        let published = self.shared.consensus.published();
        let status = self.shared.consensus.status();
        let in_raft = status.membership.members.iter().map(|(id, member)| {
            let target = Target {
                node_id: member.name.clone(),
                disk_id: member.disk_id.clone(),
                endpoint: member.peer_endpoint.clone(),
            };
            (*id, target)
        });
        let in_state = published.state.members().map(|member| {
            let target = Target {
                node_id: member.node_id.to_string(),
                disk_id: member.disk_id.to_string(),
                endpoint: member.peer_endpoint.to_string(),
            };
            (member.raft_id, target)
        });
        in_raft.chain(in_state).filter(|(id, _)| *id != status.raft_id).collect()
    }

    async fn round(&self, targets: &Targets, strangers: &mut Strangers, limit: Duration) -> Round {
        let probes: Vec<_> = targets
            .iter()
            .map(|(id, target)| {
                let kept = self.shared.peers.client(*id, Purpose::Control);
                let client = kept.unwrap_or_else(|| strangers.client(self, *id, &target.endpoint));
                self.probe(*id, target, client, limit)
            })
            .collect();
        futures::stream::iter(probes).buffer_unordered(CONCURRENT).collect().await
    }

    async fn probe(
        &self,
        id: u64,
        target: &Target,
        mut client: PeerClient,
        limit: Duration,
    ) -> (u64, Instant, Outcome) {
        let request = ProbeRequest { header: Some(self.shared.peers.header(id)) };
        let sent = Instant::now();
        let outcome = match timeout(limit, client.probe(request)).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                if answer.identity.as_ref().is_some_and(|found| found.node_id != target.node_id) {
                    // Its address was given to another node, and the connection would stay there for ever.
                    self.shared.peers.mistaken(id, Purpose::Control).await;
                }
                Outcome::of(answer, id, &target.disk_id)
            }
            Ok(Err(status)) => {
                tracing::trace!(member = id, %status, "no answer to a probe");
                Outcome::Silent
            }
            Err(_) => Outcome::Silent,
        };
        (id, sent, outcome)
    }

    /// Begins a reign, or ends one: what was found before does not count.
    fn begin(&self, leadership: Option<Leadership>) {
        *self.board() = Board { leadership, ..Board::default() };
        self.shared.metrics.members().clear();
    }

    /// This node has been away: all failures begin again.
    fn forgive(&self) {
        tracing::info!(
            "this process stood still for more than a second: silent members get their full time again"
        );
        self.board().reports.values_mut().for_each(super::MemberReport::forgive);
    }

    fn take(&self, targets: &Targets, round: Round, dead_after: Duration) {
        let now = Instant::now();
        let mut board = self.board();
        board.reports.retain(|id, _| targets.contains_key(id));
        board.differing.retain(|id| targets.contains_key(id));
        for (id, sent, outcome) in round {
            let Some(target) = targets.get(&id) else { continue };
            if !matches!(outcome, Outcome::Answered(_)) {
                self.shared.metrics.members().probe_failed(id);
            }
            let report = board.reports.entry(id).or_default();
            let was_dead = report.is_dead;
            report.note(outcome, sent, now, dead_after);
            match (was_dead, report.is_dead) {
                (false, true) => {
                    tracing::warn!(member = id, node = target.node_id, after = ?dead_after, "a member is DEAD: it answers no probe")
                }
                (true, false) => {
                    tracing::info!(member = id, node = target.node_id, "a member that was DEAD answers again")
                }
                _ => {}
            }
        }
        self.compare(&mut board, targets);
        self.shared.metrics.members().show(&board.reports);
    }

    /// Compares the newest marks. A difference is a bug and is reported, nothing more (P/O4).
    fn compare(&self, board: &mut Board, targets: &Targets) {
        let published = self.shared.consensus.published();
        let Board { reports, differing, .. } = board;
        for agreement::Change { raft_id, agrees, index } in
            agreement::compare(reports, &published.hash_marks, differing)
        {
            let node = targets.get(&raft_id).map_or("", |target| &target.node_id);
            if agrees {
                tracing::warn!(member = raft_id, node, "the state of a member is that of the leader again");
            } else {
                tracing::error!(
                    member = raft_id,
                    node,
                    index,
                    "the state of a member differs from that of the leader after the same entries; please report this"
                );
            }
        }
        self.shared.metrics.state_divergence(board.differing.len() as u64);
    }
}

impl Strangers {
    fn client(&mut self, health: &MemberHealth, id: u64, endpoint: &str) -> PeerClient {
        let known = self.clients.get(&id).filter(|(known, _)| known == endpoint);
        match known {
            Some((_, client)) => client.clone(),
            None => {
                let client = health.shared.peers.stranger(endpoint);
                self.clients.insert(id, (endpoint.to_owned(), client.clone()));
                client
            }
        }
    }
}
