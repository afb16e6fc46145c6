//! The composition root: the only place that puts the parts of a node together.
//!
//! It is handed configuration, world and runtimes, and asks nothing of the system by itself, so several
//! nodes run in one process, and whole nodes in a simulation. Order of a start: lock the data folder, bind
//! every port, answer on them, then recover, take a place in the cluster, and run.

mod found;
mod fsync;
mod greet;
mod health;
mod hello;
mod initialize;
mod installs;
mod late;
mod parts;

#[cfg(test)]
mod node_test;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tonic::service::Routes;

use self::found::Way;
use self::health::NodeHealth;
use self::hello::Introductions;
use self::installs::InstallCounter;
use self::late::LateRenewals;
use self::parts::StopParts;
use crate::config::ValidConfig;
use crate::environment::{Environment, Listener};
use crate::exit::Fatal;
use crate::identity::{DataFolder, MemberId};
use crate::lease::Leases;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::raft::{
    self, Built, Consensus, Failure, InitializeError, LogDisk, Member, RaftIdentity, RaftOptions, StartError,
    Surroundings, Timings,
};
use crate::server::core::{Core, CoreParts};
use crate::server::front::Front;
use crate::server::listen::Server;
use crate::server::peer::PeerService;
use crate::server::peer::forward::ForwardService;
use crate::server::peer::identity::IdentityService;
use crate::server::{self, Health};
use crate::standing::Standing;
use crate::watch::{Hub, HubLimits};
use crate::{http, shutdown};

/// Runtimes that the node's tasks run on. A simulation gives the same twice.
#[derive(Debug, Clone)]
pub struct Spawners {
    /// What clients keep busy.
    pub clients: Handle,
    /// Raft, and what other nodes and probes ask: never delayed by clients.
    pub raft: Handle,
}

/// Pause before a read is tried again that tells whether the node has caught up.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for one such read.
const CATCH_UP_WAIT: Duration = Duration::from_secs(2);

/// Runs a node on files until it is told to stop or cannot go on. `signals` counts requests to stop: the
/// first begins an orderly stop, the second ends at once (P/N9).
///
/// # Errors
/// Why the node ended against its will, with the exit code.
pub async fn run(
    config: ValidConfig,
    environment: Environment,
    spawners: Spawners,
    signals: watch::Receiver<u32>,
) -> Result<(), Fatal> {
    run_on(LogDisk::Files, config, environment, spawners, signals).await
}

/// As [`run`], with the log on a disk of the caller's choice.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    disk: LogDisk,
    config: ValidConfig,
    environment: Environment,
    spawners: Spawners,
    mut signals: watch::Receiver<u32>,
) -> Result<(), Fatal> {
    let node = Node::open(config, environment, spawners).await?;
    tokio::select! {
        fatal = node.live(disk) => return Err(fatal),
        () = signalled(&mut signals, 1) => {}
    }
    let times = node.config.shutdown;
    let parts = StopParts::new(&node);
    tokio::select! {
        () = shutdown::stop(&parts, times) => {}
        () = signalled(&mut signals, 2) => tracing::warn!("second signal: ending at once"),
    }
    Ok(())
}

async fn signalled(signals: &mut watch::Receiver<u32>, count: u32) {
    if signals.wait_for(|sent| *sent >= count).await.is_err() {
        // Nobody can send one any more.
        std::future::pending().await
    }
}

/// Raft with its log and state recovered, and the channels that it uses.
type Recovered = (Built, Peers);

/// A node with its folder locked and its ports open.
struct Node {
    config: ValidConfig,
    environment: Environment,
    spawners: Spawners,
    standing: Standing,
    metrics: Metrics,
    introductions: Introductions,
    hub: Hub,
    leases: Leases,
    front: Front,
    health: Health,
    renewals: Arc<LateRenewals>,
    /// What answers by Raft, once it runs.
    core: OnceLock<Core>,
    client_server: Server,
    peer_server: Server,
    http_server: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.http_server.abort();
    }
}

impl Node {
    async fn open(config: ValidConfig, environment: Environment, spawners: Spawners) -> Result<Self, Fatal> {
        let node_id = &config.node.node_id;
        let folder = DataFolder::open(&config.data_dir, node_id, environment.random.as_ref())?;
        let client_listener = bind(&environment, &config.client_bind(), "client_port").await?;
        let peer_listener = bind(&environment, &config.peer_bind(), "raft_port").await?;
        let http_listener = bind(&environment, &config.http_bind(), "http_port").await?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            node_id,
            clients = config.client_bind(),
            nodes = config.peer_bind(),
            http = config.http_bind(),
            data = %config.data_dir.display(),
            "starting"
        );
        if !crate::config::is_loopback(&config.listen) {
            tracing::warn!(
                listen = config.listen,
                "there is no TLS and no authorisation yet: make sure that only a private network reaches these ports"
            );
        }

        let standing = Standing::new(folder, environment.random.nonzero_u64());
        let metrics = Metrics::new();
        let limits = HubLimits {
            watches: usize::try_from(config.watch.max_watches).unwrap_or(usize::MAX),
            queue_bytes: usize::try_from(config.watch.max_queue_bytes).unwrap_or(usize::MAX),
        };
        let hub = Hub::new(limits, metrics.clone());
        let leases = Leases::new(metrics.clone());
        let front = Front::new(&config, standing.clone());
        let health = Health::new().await;
        let renewals = Arc::new(LateRenewals::default());
        let identity = IdentityService::new(&config, standing.clone());
        let introductions =
            Introductions::new(&config.nodes, config.raft, &environment, standing.clone(), identity.clone());

        let routes = server::routes(&front, &health).map_err(Fatal::bug)?;
        let calls = Arc::new(metrics.clone());
        let client_server = Server::start(client_listener, routes, calls.clone()).map_err(Fatal::io)?;
        let peer_service = PeerService {
            identity: Arc::new(identity),
            forward: Arc::new(ForwardService::new(front.clone())),
            renewals: renewals.clone(),
        };
        let routes = Routes::new(peer_service.into_server());
        let peer_server = async { Server::start(peer_listener, routes, calls) };
        let peer_server = on(&spawners.raft, peer_server).await?.map_err(Fatal::io)?;
        let endpoints = NodeHealth::new(standing.clone(), metrics.clone(), hub.clone());
        let http_server = spawners.raft.spawn(http::serve(http_listener, Arc::new(endpoints)));
        Ok(Self {
            config,
            environment,
            spawners,
            standing,
            metrics,
            introductions,
            hub,
            leases,
            front,
            health,
            renewals,
            core: OnceLock::new(),
            client_server,
            peer_server,
            http_server,
        })
    }

    /// Takes part, and goes on until that is not possible any more. A node in quarantine stays alive.
    async fn live(&self, disk: LogDisk) -> Fatal {
        if matches!(disk, LogDisk::Files) {
            self.measure_disk().await;
        }
        match self.take_part(disk).await {
            Ok(Some(core)) => self.serve(core).await,
            Ok(None) => std::future::pending().await,
            Err(fatal) => fatal,
        }
    }

    /// Recovers, takes a place in the cluster, and starts Raft; `None` in quarantine.
    async fn take_part(&self, disk: LogDisk) -> Result<Option<Core>, Fatal> {
        let has_data = raft::has_data(&self.config.data_dir)
            .map_err(|error| Fatal::io(format!("cannot list {}: {error}", self.config.data_dir.display())))?;
        let identity = self.standing.identity();
        let Some(member) = identity.member else {
            if has_data && matches!(disk, LogDisk::Files) {
                self.standing.quarantine(
                    true,
                    format!(
                        "{} holds a log without identity: identity.json was lost. Put it back, or move the folder away",
                        self.config.data_dir.display()
                    ),
                );
                return Ok(None);
            }
            return self.found_and_run(None, disk).await;
        };
        if !identity.joined && !has_data {
            return self.found_and_run(None, disk).await;
        }
        let Some(recovered) = self.build(&member, identity.joined, disk).await? else { return Ok(None) };
        if recovered.0.consensus().is_initialized() {
            self.standing.join()?;
            return self.run(recovered, &member).await.map(Some);
        }
        // A founding that was cut short: nothing has been voted or acknowledged here.
        self.found_and_run(Some(recovered), LogDisk::Files).await
    }

    /// Waits for a place, then starts Raft; as founder, initialises it.
    async fn found_and_run(
        &self,
        recovered: Option<Recovered>,
        disk: LogDisk,
    ) -> Result<Option<Core>, Fatal> {
        let way = found::found(&self.config, &self.environment, &self.standing, &self.introductions).await?;
        if way == Way::Never {
            return Ok(None);
        }
        let Some(member) = self.standing.member() else {
            return Err(Fatal::bug("a node without a place was called"));
        };
        let recovered = match recovered {
            Some(recovered) => recovered,
            None => match self.build(&member, false, disk).await? {
                Some(recovered) => recovered,
                None => return Ok(None),
            },
        };
        let core = self.run(recovered, &member).await?;
        if let Way::Found(voters) = way {
            self.initialize(&core.consensus, voters).await?;
        }
        Ok(Some(core))
    }

    async fn initialize(&self, consensus: &Consensus, voters: BTreeMap<u64, Member>) -> Result<(), Fatal> {
        let owned = consensus.clone();
        match on(&self.spawners.raft, async move { owned.initialize(voters).await }).await? {
            // NotEmpty: somebody's vote came first, so this founding was finished before a crash.
            Ok(()) | Err(InitializeError::NotEmpty) => Ok(self.standing.join()?),
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
        );
        let installs = Arc::new(InstallCounter::new(self.metrics.clone()));
        let around = Surroundings {
            peers: peers.clone(),
            observers: vec![Arc::new(self.hub.clone()), Arc::new(self.leases.clone()), installs.clone()],
            metrics: self.metrics.clone(),
            random: self.environment.random.clone(),
            disk,
        };
        let begun = Instant::now();
        let built = on(&self.spawners.raft, raft::build(options, around)).await?;
        let (disk_lost, reason) = match built {
            Ok(built) => {
                installs.begin();
                tracing::info!(took = ?begun.elapsed(), "log and state are recovered");
                return Ok(Some((built, peers)));
            }
            Err(StartError::DiskLost(reason)) => (true, reason),
            Err(StartError::Corrupt(reason) | StartError::Unsupported(reason)) => (false, reason),
            Err(error @ StartError::Config(_)) => return Err(Fatal::config(error)),
            Err(error @ StartError::Io { .. }) => return Err(Fatal::io(error)),
        };
        self.standing.quarantine(disk_lost, reason);
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
            log_cache_bytes: config.log.cache_bytes,
            snapshot_min_bytes: config.snapshot.min_bytes,
            snapshot_max_age: config.snapshot.max_age,
            keep_log_entries: config.raft.max_in_snapshot_log_to_keep,
            ..RaftOptions::new(config.data_dir.clone(), identity)
        }
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
            metrics: self.metrics.clone(),
        });
        // Raft starts once per process; a second attempt would change nothing.
        let _ = self.core.set(core.clone());
        self.renewals.set(core.renewals.clone());
        self.front.open(core.clone());
        // Last: from now on Raft calls of other nodes and calls of clients come through.
        self.standing.run(consensus);
        tracing::info!(cluster_id = member.cluster_id, raft_id = member.raft_id, "Raft runs");
        Ok(core)
    }

    /// Lives as a member until Raft ends.
    async fn serve(&self, core: Core) -> Fatal {
        let Some(member) = self.standing.member() else { return Fatal::bug("a member without a place runs") };
        let settings = self.config.cluster_settings.clone();
        let first_entry = initialize::initialize(
            core.consensus.clone(),
            self.environment.clone(),
            member.cluster_id.clone(),
            settings,
        );
        let background = async {
            let compare = greet::compare_states(&self.introductions, &core.consensus, &self.metrics);
            tokio::join!(first_entry, self.catch_up(&core), compare);
            std::future::pending().await
        };
        tokio::select! {
            fatal = self.raft_ended(&core.consensus) => fatal,
            fatal = greet::greet(&self.config, &self.introductions, &member.cluster_id, &self.metrics) => fatal,
            fatal = background => fatal,
        }
    }

    /// Waits until this node has applied what the cluster had committed, then says that it is ready.
    async fn catch_up(&self, core: &Core) {
        loop {
            let read = core.rounds.linearize(Instant::now() + CATCH_UP_WAIT).await;
            if read.is_ok_and(|(_, published)| published.state.cluster_id().is_some()) {
                break;
            }
            sleep(CATCH_UP_PAUSE).await;
        }
        self.standing.set_caught_up();
        self.health.set_serving(true).await;
        tracing::info!("ready");
    }

    /// Returns when Raft has failed in a way that must end the process (P/N10).
    async fn raft_ended(&self, consensus: &Consensus) -> Fatal {
        let mut status = consensus.watch_status();
        let failure = status.wait_for(|status| status.failed.is_some()).await;
        let failure = failure.ok().and_then(|status| status.failed.clone());
        match failure {
            Some(Failure::Storage(reason)) => Fatal::io(format!("log or snapshot failed: {reason}")),
            Some(Failure::Unsupported(reason)) => {
                self.health.set_serving(false).await;
                self.standing.quarantine(false, reason);
                std::future::pending().await
            }
            Some(failure @ (Failure::Panicked(_) | Failure::Stopped)) => Fatal::bug(failure),
            None => Fatal::bug("Raft ended without a word"),
        }
    }

    /// A disk that syncs slowly makes elections fail (P/O2): say so before it does.
    async fn measure_disk(&self) {
        let folder = self.config.data_dir.clone();
        let limit = self.config.raft.election_timeout_min / 10;
        match tokio::task::spawn_blocking(move || fsync::slowest_sync(&folder)).await {
            Ok(Ok(slowest)) if slowest > limit => tracing::warn!(
                ?slowest,
                ?limit,
                "the disk syncs slowly for these election timeouts: use a faster disk, or raise raft.election_timeout_min and _max on all nodes"
            ),
            Ok(Ok(slowest)) => tracing::debug!(?slowest, "the disk syncs fast enough"),
            Ok(Err(error)) => tracing::warn!(%error, "cannot measure the disk"),
            Err(error) => tracing::warn!(%error, "cannot measure the disk"),
        }
    }
}

/// Runs a future on a runtime and waits for it.
async fn on<T: Send + 'static>(
    runtime: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, Fatal> {
    runtime.spawn(future).await.map_err(|error| Fatal::bug(format!("a task of the start ended: {error}")))
}

async fn bind(environment: &Environment, address: &str, setting: &str) -> Result<Box<dyn Listener>, Fatal> {
    environment.bind.bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another program has this port: end it, or give another port",
            std::io::ErrorKind::AddrNotAvailable => {
                "this machine does not have that address: correct host, or give --listen"
            }
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: give another port",
            _ => "correct host or port, or give --listen",
        };
        Fatal::io(format!("cannot listen on {address} ({setting}): {error}; {advice}"))
    })
}
