//! What answers requests once Raft runs, joined in one place.

use std::sync::Arc;

use tokio::task::AbortHandle;

use super::drain::{DrainParts, Drains};
use super::header::Head;
use super::keep_alive::KeepAlive;
use super::peer::renewals::RenewalServer;
use super::watch::Watches;
use crate::environment::Environment;
use crate::lease::agreement::{Agreement, RaftAgreement};
use crate::lease::renewals::Renewals;
use crate::lease::{Leases, expiry, forward};
use crate::member_health::MemberHealth;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::raft::Consensus;
use crate::read_index::ReadIndexer;
use crate::request::admit::Admission;
use crate::request::forward::Forwarder;
use crate::request::pending::Pending;
use crate::request::read::Reader;
use crate::request::write::{Writer, WriterParts};
use crate::watch::Hub;

/// What answers requests. A clone is the same.
#[derive(Clone)]
pub struct Core {
    /// Agreement.
    pub consensus: Consensus,
    /// The other nodes.
    pub peers: Peers,
    /// Confirmation of reads.
    pub rounds: ReadIndexer,
    /// Headers and statuses.
    pub head: Head,
    /// Reads.
    pub reader: Reader,
    /// Writes.
    pub writer: Writer,
    /// Drains.
    pub drains: Drains,
    /// Renewals of clients.
    pub keep_alive: KeepAlive,
    /// Renewals of other nodes.
    pub renewals: RenewalServer,
    /// Watches.
    pub watches: Watches,
    /// The open watches.
    pub hub: Hub,
    /// Deadlines of leases, and for how long the guard has kept what it keeps.
    pub leases: Leases,
    /// Bounds of everything that clients ask.
    pub admission: Admission,
    /// How the other members are; probed by [`MemberHealth::run`] where that runs.
    pub member_health: MemberHealth,
    background: Arc<[AbortHandle; 3]>,
}

/// What a [`Core`] is made of. `hub` and `leases` observe Raft, so they are older than it.
#[derive(Clone)]
pub struct CoreParts {
    /// Name of this node.
    pub node_id: String,
    /// Clocks and random numbers.
    pub environment: Environment,
    /// Agreement.
    pub consensus: Consensus,
    /// The other nodes.
    pub peers: Peers,
    /// The open watches.
    pub hub: Hub,
    /// The deadlines of leases.
    pub leases: Leases,
    /// Bounds of everything that clients ask.
    pub admission: Admission,
    /// What is counted.
    pub metrics: Metrics,
}

impl Core {
    /// Joins the parts and starts, on the present runtime, what they do beside answering: rounds, expiry,
    /// forwarded renewals, the care for slow watches.
    pub fn start(parts: CoreParts) -> Self {
        let CoreParts { node_id, environment, consensus, peers, hub, leases, admission, metrics } = parts;
        let clock = environment.clock.clone();
        let rounds = ReadIndexer::start(consensus.clone(), peers.clone(), clock.clone(), metrics.clone());
        let member_health =
            MemberHealth::new(consensus.clone(), peers.clone(), clock.clone(), metrics.clone());
        let head = Head::new(node_id, consensus.clone(), rounds.clone());
        let reader = Reader::new(consensus.clone(), rounds.clone(), admission.clone());
        let writer = Writer::new(WriterParts {
            environment,
            consensus: consensus.clone(),
            rounds: rounds.clone(),
            leases: Arc::new(leases.clone()),
            forwarder: Forwarder::new(peers.clone()),
            admission: admission.clone(),
            pending: Pending::default(),
            metrics: metrics.clone(),
        });

        let drains = Drains::new(DrainParts {
            writer: writer.clone(),
            consensus: consensus.clone(),
            peers: peers.clone(),
            member_health: member_health.clone(),
            hub: hub.clone(),
            metrics: metrics.clone(),
        });

        let agreement: Arc<dyn Agreement> =
            Arc::new(RaftAgreement { consensus: consensus.clone(), rounds: rounds.clone(), clock });
        let expiry = tokio::spawn(expiry::run(leases.clone(), agreement.clone()));
        let (forwarder, forwarding) = forward::forwarder(consensus.clone(), peers.clone(), metrics);
        let forwarding = tokio::spawn(forwarding.run());
        let renewals = Renewals::new(leases.clone(), agreement, forwarder);
        let heads = Arc::new(head.clone());
        let keep_alive = KeepAlive::new(renewals.clone(), heads.clone(), hub.closing());

        let newest = consensus.clone();
        let hub_care = tokio::spawn(hub.clone().run(move || newest.published()));
        let watches = Watches::new(hub.clone(), reader.clone(), heads.clone());
        let renewals = RenewalServer::new(renewals, hub.clone(), heads);
        Self {
            consensus,
            peers,
            rounds,
            head,
            reader,
            writer,
            drains,
            keep_alive,
            renewals,
            watches,
            hub,
            leases,
            admission,
            member_health,
            background: Arc::new([expiry, forwarding, hub_care].map(|task| task.abort_handle())),
        }
    }

    /// Ends what runs beside answering: a node that starts anew must not keep the state of its last life.
    pub fn end(&self) {
        self.background.iter().for_each(AbortHandle::abort);
    }
}
