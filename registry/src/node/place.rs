//! How a node comes to its place in a cluster: from its own data, by founding, or by asking for one (P/N1,
//! P/N3, P/N4).

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::found::{self, Way};
use super::installs::InstallCounter;
use super::join::Joiner;
use super::removed::removed;
use super::{Node, on};
use crate::exit::Fatal;
use crate::identity::MemberId;
use crate::membership::{Introducer, Membership};
use crate::peers::Peers;
use crate::raft::{
    self, Built, Consensus, InitializeError, LogDisk, Member, RaftIdentity, RaftOptions, StartError,
    Surroundings, Timings,
};
use crate::server::core::{Core, CoreParts};
use crate::server::peer::identity::compatibility;
use crate::standing::Cause;

/// Raft with its log and state recovered, and the channels that it uses.
type Recovered = (Built, Peers);

/// How taking part came out.
pub(super) enum Part {
    /// Raft runs.
    Member(Box<Core>),
    /// In quarantine.
    Outside,
    /// The cluster wants the node to start anew.
    Anew,
}

impl Node {
    /// Recovers, takes a place in the cluster, and starts Raft.
    pub(super) async fn take_part(&self, joiner: &Joiner, disk: LogDisk) -> Result<Part, Fatal> {
        let has_data = raft::has_data(&self.config.data_dir)
            .map_err(|error| Fatal::io(format!("cannot list {}: {error}", self.config.data_dir.display())))?;
        let identity = self.standing.identity();
        let Some(member) = identity.member else {
            if has_data && matches!(disk, LogDisk::Files) {
                let folder = self.config.data_dir.display();
                let reason = format!("{folder} holds a log without identity: identity.json was lost");
                self.standing.quarantine(Cause::DiskLost, reason);
                return Ok(Part::Outside);
            }
            return self.find_place(joiner, None, disk).await;
        };
        if let Some(index) = identity.removed_at {
            self.standing.quarantine(Cause::Removed, removed(member.raft_id, index));
            return Ok(Part::Outside);
        }
        if !identity.joined && !has_data {
            return self.find_place(joiner, None, disk).await;
        }
        let Some(recovered) = self.build(&member, identity.joined, disk).await? else {
            return Ok(Part::Outside);
        };
        if recovered.0.consensus().is_initialized() {
            self.standing.join()?;
            return self.run(recovered, &member).await.map(|core| Part::Member(Box::new(core)));
        }
        // A founding or an admission that was cut short: nothing has been voted or acknowledged here.
        self.find_place(joiner, Some(recovered), LogDisk::Files).await
    }

    /// Waits for a place, then starts Raft; as founder, initialises it.
    async fn find_place(
        &self,
        joiner: &Joiner,
        recovered: Option<Recovered>,
        disk: LogDisk,
    ) -> Result<Part, Fatal> {
        let (config, standing) = (&self.config, &self.standing);
        standing.found_empty();
        let way = found::found(config, &self.environment, standing, &self.introductions, joiner, &self.word)
            .await?;
        if matches!(way, Way::Never | Way::Anew) {
            if let Some((built, _)) = recovered {
                built.consensus().shutdown().await;
            }
            return Ok(if way == Way::Anew { Part::Anew } else { Part::Outside });
        }
        let Some(member) = standing.member() else {
            return Err(Fatal::bug("a node without a place was called"));
        };
        self.environment.crash.pass("called");
        let recovered = match recovered {
            Some(recovered) => recovered,
            None => match self.build(&member, false, disk).await? {
                Some(recovered) => recovered,
                None => return Ok(Part::Outside),
            },
        };
        self.environment.crash.pass("raft-built");
        let core = self.run(recovered, &member).await?;
        if let Way::Found(voters) = way {
            self.initialize(&core.consensus, voters).await?;
        }
        Ok(Part::Member(Box::new(core)))
    }

    async fn initialize(&self, consensus: &Consensus, voters: BTreeMap<u64, Member>) -> Result<(), Fatal> {
        let owned = consensus.clone();
        match on(&self.spawners.raft, async move { owned.initialize(voters).await }).await? {
            // NotEmpty: somebody's vote came first, so this founding was finished before a crash.
            Ok(()) | Err(InitializeError::NotEmpty) => {
                self.environment.crash.pass("initialized");
                Ok(self.standing.join()?)
            }
            Err(error @ InitializeError::BadMembers(_)) => Err(Fatal::bug(error)),
            // Why it ended is told by its status.
            Err(InitializeError::Stopped) => Ok(()),
        }
    }

    /// Recovers log and state; `None` if they put the node into quarantine.
    async fn build(
        &self,
        member: &MemberId,
        joined: bool,
        disk: LogDisk,
    ) -> Result<Option<Recovered>, Fatal> {
        let options = self.raft_options(member, joined);
        let peers = Peers::new(
            self.environment.dial.clone(),
            member.cluster_id.clone(),
            member.raft_id,
            self.standing.process_nonce(),
            self.hints.clone(),
        );
        let installs = Arc::new(InstallCounter::new(self.metrics.clone()));
        let around = Surroundings {
            peers: peers.clone(),
            observers: vec![Arc::new(self.hub.clone()), Arc::new(self.leases.clone()), installs.clone()],
            metrics: self.metrics.clone(),
            random: self.environment.random.clone(),
            disk,
        };
        // The log gets the id: from now on no other place is taken.
        self.standing.bind();
        let begun = Instant::now();
        let built = on(&self.spawners.raft, raft::build(options, around)).await?;
        let (cause, reason) = match built {
            Ok(built) => {
                installs.begin();
                tracing::info!(took = ?begun.elapsed(), "log and state are recovered");
                return Ok(Some((built, peers)));
            }
            Err(StartError::DiskLost(reason)) => (Cause::DiskLost, reason),
            Err(StartError::Corrupt(reason) | StartError::Unsupported(reason)) => (Cause::Broken, reason),
            Err(error @ StartError::Config(_)) => return Err(Fatal::config(error)),
            Err(error @ StartError::Io { .. }) => return Err(Fatal::io(error)),
        };
        self.standing.quarantine(cause, reason);
        Ok(None)
    }

    fn raft_options(&self, member: &MemberId, joined: bool) -> RaftOptions {
        let config = &self.config;
        let identity = RaftIdentity {
            cluster_id: member.cluster_id.clone(),
            raft_id: member.raft_id,
            disk_id: self.standing.identity().disk_id,
        };
        RaftOptions {
            timings: Timings {
                heartbeat_interval: config.raft.heartbeat_interval,
                election_timeout_min: config.raft.election_timeout_min,
                election_timeout_max: config.raft.election_timeout_max,
            },
            joined,
            segment_bytes: config.log.segment_bytes,
            reserve_bytes: config.log.reserve_bytes,
            log_cache_bytes: config.log.cache_bytes,
            snapshot_min_bytes: config.snapshot.min_bytes,
            snapshot_max_age: config.snapshot.max_age,
            keep_log_entries: config.raft.max_in_snapshot_log_to_keep,
            ..RaftOptions::new(config.data_dir.clone(), identity)
        }
    }

    /// The leader's business with members, for whenever this node leads.
    fn members(&self, core: &Core) -> Membership {
        let identity = self.introductions.service.clone();
        let introducer = Introducer::new(core.peers.clone(), identity, compatibility(&self.config.raft));
        let (health, world) = (core.member_health.clone(), &self.environment);
        Membership::new(core.consensus.clone(), health, introducer, world, self.metrics.clone())
    }

    /// Starts Raft and everything that answers by it.
    async fn run(&self, (built, peers): Recovered, member: &MemberId) -> Result<Core, Fatal> {
        let consensus = on(&self.spawners.raft, built.run()).await?;
        let core = Core::start(CoreParts {
            node_id: self.config.node.node_id.clone(),
            environment: self.environment.clone(),
            consensus: consensus.clone(),
            peers,
            hub: self.hub.clone(),
            leases: self.leases.clone(),
            admission: self.admission.clone(),
            metrics: self.metrics.clone(),
        });
        // Raft starts once per process; a second attempt would change nothing.
        let _ = self.core.set(core.clone());
        self.renewals.set(core.renewals.clone());
        let _ = self.membership.0.set(self.members(&core));
        self.front.open(core.clone());
        // Last: from now on Raft calls of other nodes and calls of clients come through.
        self.standing.run(consensus);
        tracing::info!(cluster_id = member.cluster_id, raft_id = member.raft_id, "Raft runs");
        Ok(core)
    }
}
