//! The composition root: the only place that puts the parts of a node together.
//!
//! It is handed configuration, world and runtimes, and asks nothing of the system by itself, so several
//! nodes run in one process, and whole nodes in a simulation. Order of a start: lock the data folder, bind
//! every port, answer on them, then recover, take a place in the cluster, and run.

mod anew;
mod found;
mod fsync;
mod greet;
mod health;
mod hello;
mod initialize;
mod installs;
mod join;
mod late;
mod member;
mod parts;
mod place;
mod removed;

#[cfg(test)]
mod node_test;

use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep};
use tonic::service::Routes;

use self::health::NodeHealth;
use self::hello::Introductions;
use self::join::Joiner;
use self::late::{LateMembership, LateRenewals};
use self::parts::StopParts;
use self::place::Part;
use crate::config::ValidConfig;
use crate::environment::{Environment, Listener};
use crate::exit::Fatal;
use crate::identity::{DataFolder, FolderLock};
use crate::lease::Leases;
use crate::metrics::Metrics;
use crate::peers::Hints;
use crate::raft::LogDisk;
use crate::request::admit::Admission;
use crate::request::load::{ClientCalls, Load};
use crate::server::admin::{AdminParts, AdminService, Token, Word};
use crate::server::core::Core;
use crate::server::front::Front;
use crate::server::listen::Server;
use crate::server::peer::PeerService;
use crate::server::peer::forward::ForwardService;
use crate::server::peer::identity::{IdentityService, compatibility};
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

/// How long a port that is in use is tried again.
const BIND_WAIT: Duration = Duration::from_secs(1);
/// Between two tries.
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// Runs a node on files until it is told to stop or cannot go on. When the cluster gives it a new place
/// instead of one that is gone, it begins anew, as if the process had been started again. `signals` counts requests to stop: the
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
    // Held from the first life of the node to the last: no other process gets in between.
    let lock = FolderLock::take(&config.data_dir)?;
    let node = loop {
        let open = Node::open(lock.clone(), config.clone(), environment.clone(), spawners.clone());
        let node = open.await?;
        tokio::select! {
            ended = node.live(disk.clone()) => ended?,
            () = signalled(&mut signals, 1) => break node,
        }
        tokio::select! {
            ended = node.end_life() => ended?,
            () = signalled(&mut signals, 2) => return Ok(()),
        }
    };
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

/// A node with its folder locked and its ports open.
struct Node {
    config: ValidConfig,
    environment: Environment,
    spawners: Spawners,
    standing: Standing,
    metrics: Metrics,
    introductions: Introductions,
    hints: Hints,
    hub: Hub,
    leases: Leases,
    admission: Admission,
    front: Front,
    health: Health,
    renewals: Arc<LateRenewals>,
    membership: LateMembership,
    /// The operator's word to found the cluster.
    word: Word,
    /// What answers by Raft, once it runs.
    core: OnceLock<Core>,
    client_server: Server,
    peer_server: Server,
    http_server: JoinHandle<()>,
}

/// The ports for clients, for nodes and for HTTP, bound before any serious work.
async fn listeners(config: &ValidConfig, environment: &Environment) -> Result<[Box<dyn Listener>; 3], Fatal> {
    Ok([
        bind(environment, &config.client_bind(), "client_port").await?,
        bind(environment, &config.peer_bind(), "raft_port").await?,
        bind(environment, &config.http_bind(), "http_port").await?,
    ])
}

impl Drop for Node {
    fn drop(&mut self) {
        self.http_server.abort();
    }
}

impl Node {
    async fn open(
        lock: FolderLock,
        config: ValidConfig,
        environment: Environment,
        spawners: Spawners,
    ) -> Result<Self, Fatal> {
        let node_id = &config.node.node_id;
        let folder = DataFolder::open(&config.data_dir, lock, node_id, environment.random.as_ref())?;
        let [client_listener, peer_listener, http_listener] = listeners(&config, &environment).await?;
        announce(&config);
        let standing = Standing::new(folder, environment.random.nonzero_u64());
        let metrics = Metrics::new();
        let hub = Hub::new(hub_limits(&config), metrics.clone());
        let leases = Leases::new(metrics.clone());
        let front = Front::new(&config, standing.clone());
        let health = Health::new().await;
        let renewals = Arc::new(LateRenewals::default());
        let membership = LateMembership::default();
        let hints = Hints::default();
        let identity =
            IdentityService::new(&config, standing.clone(), hints.clone(), environment.crash.clone());
        let introductions =
            Introductions::new(&config.nodes, config.raft, &environment, standing.clone(), identity.clone());

        let routes = server::routes(&front, &health).map_err(Fatal::bug)?;
        let load = Load::default();
        spawners.clients.spawn(load.clone().measure());
        let admission = Admission::new(load.clone(), metrics.clone());
        let calls = Arc::new(ClientCalls { metrics: metrics.clone(), load });
        let client_server = Server::start(client_listener, routes, calls).map_err(Fatal::io)?;
        let peer_service = PeerService {
            identity: Arc::new(identity),
            forward: Arc::new(ForwardService::new(front.clone())),
            renewals: renewals.clone(),
            membership: Arc::new(membership.clone()),
        };
        let word = Word::default();
        let admin = AdminService::new(AdminParts {
            token: Token::load(config.admin_token_file.as_deref()).map_err(Fatal::config)?,
            identity: peer_service.identity.clone(),
            standing: standing.clone(),
            membership: membership.0.clone(),
            config: config.clone(),
            compatibility: compatibility(&config.raft),
            word: word.clone(),
            begun: Instant::now(),
        });
        let routes = Routes::new(peer_service.into_server()).add_service(admin.into_server());
        let calls = Arc::new(metrics.clone());
        let peer_server = async { Server::start(peer_listener, routes, calls) };
        let peer_server = on(&spawners.raft, peer_server).await?.map_err(Fatal::io)?;
        let endpoints = NodeHealth::new(standing.clone(), metrics.clone(), hub.clone(), admission.clone());
        let http_server = spawners.raft.spawn(http::serve(http_listener, Arc::new(endpoints)));
        Ok(Self {
            config,
            environment,
            spawners,
            standing,
            metrics,
            introductions,
            hints,
            hub,
            leases,
            admission,
            front,
            health,
            renewals,
            membership,
            word,
            core: OnceLock::new(),
            client_server,
            peer_server,
            http_server,
        })
    }

    /// Takes part until the node is to start anew. A node in quarantine stays alive.
    ///
    /// # Errors
    /// Why it cannot go on.
    async fn live(&self, disk: LogDisk) -> Result<(), Fatal> {
        if matches!(disk, LogDisk::Files) {
            self.measure_disk().await;
        }
        let joiner = || Joiner::new(&self.config, &self.environment, &self.introductions, &self.standing);
        match self.take_part(&joiner(), disk).await? {
            Part::Member(core) => self.serve(*core).await?,
            Part::Outside => {}
            Part::Anew => return Ok(()),
        }
        match self.standing.quarantined() {
            None => {}
            Some(quarantine) if quarantine.cause.is_place_gone() => joiner().wait_to_start_anew().await,
            Some(_) => std::future::pending().await,
        }
        Ok(())
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

fn hub_limits(config: &ValidConfig) -> HubLimits {
    HubLimits {
        watches: usize::try_from(config.watch.max_watches).unwrap_or(usize::MAX),
        queue_bytes: usize::try_from(config.watch.max_queue_bytes).unwrap_or(usize::MAX),
    }
}

/// What a reader of the log wants to know first.
fn announce(config: &ValidConfig) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node_id = config.node.node_id,
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
}

/// Runs a future on a runtime and waits for it.
async fn on<T: Send + 'static>(
    runtime: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, Fatal> {
    runtime.spawn(future).await.map_err(|error| Fatal::bug(format!("a task of the start ended: {error}")))
}

async fn bind(environment: &Environment, address: &str, setting: &str) -> Result<Box<dyn Listener>, Fatal> {
    let deadline = Instant::now() + BIND_WAIT;
    let bound = loop {
        match environment.bind.bind(address).await {
            // The node's own listener of a life before ends a moment after it was told to.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                sleep(BIND_PAUSE).await;
            }
            bound => break bound,
        }
    };
    bound.map_err(|error| {
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
