//! Recovers what a node knows and puts Raft together.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use openraft::errors::Fatal;
use openraft::{Config, Raft, SnapshotPolicy};
use registry_state::State;
use registry_wal::{DirectoryDisk, Disk, Identity, Opened, Wal, Writer};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep};

use super::consensus::{Consensus, Inner, RaftHandle};
use super::contact::Contact;
use super::ending::Ending;
use super::error::StartError;
use super::log_store::LogStore;
use super::network::phase::{Phases, Quorum};
use super::network::transfers::Transfers;
use super::network::{Links, Network};
use super::observe::{Mapper, follow};
use super::options::{RaftIdentity, RaftOptions, Timings};
use super::proposals::Proposals;
use super::published::{Board, Observer};
use super::room::{self, Rooms};
use super::snapshot::{SnapshotError, SnapshotStore};
use super::snapshotting::Snapshotting;
use super::state_machine::{Shared, StateMachine, blocking};
use super::status::Failure;
use crate::environment::Random;
use crate::metrics::Metrics;
use crate::peers::Peers;

/// What Raft needs of the node around it.
pub struct Surroundings {
    /// Channels to the other members.
    pub peers: Peers,
    /// Told of everything applied, in this order.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Counts syncs and elections.
    pub metrics: Metrics,
    /// Draws the uuid of a new log.
    pub random: Arc<dyn Random>,
    /// Where the log is.
    pub disk: LogDisk,
}

/// Where the log is, and who writes it.
#[derive(Debug, Clone)]
pub enum LogDisk {
    /// Files in the data folder, written by a thread of their own.
    Files,
    /// Any disk, written by a task after so long a time per batch: for simulations, which must not have
    /// threads of their own.
    Simulated {
        /// The disk.
        disk: Arc<dyn Disk>,
        /// Time of one sync.
        sync_time: Duration,
    },
}

/// Raft, built but not running: storage is recovered, nothing is sent or answered yet.
pub struct Built {
    consensus: Consensus,
    follow: (Arc<Mapper>, watch::Sender<super::RaftStatus>, Peers, Metrics),
    snapshotting: Snapshotting,
}

impl std::fmt::Debug for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Built").field("consensus", &self.consensus).finish_non_exhaustive()
    }
}

impl Built {
    /// The handle; proposals wait until [`run`](Self::run).
    pub fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// Starts Raft. Call it when the peer listener is bound. A node that has a vote or a log waits one
    /// `election_timeout_max` first: the lease that it granted before a restart is not stored.
    pub async fn run(self) -> Consensus {
        let consensus = self.consensus;
        if consensus.is_initialized() {
            // The margin of the recipe: clocks of nodes run at the same rate, but timers are late.
            sleep(consensus.lease() + Duration::from_millis(20)).await;
        }
        let (mapper, status, peers, metrics) = self.follow;
        tokio::spawn(follow(mapper, status, peers, metrics));
        consensus.raft().run();
        consensus.inner.ending.spawn(self.snapshotting.run());
        tokio::spawn(room::watch(consensus.clone()));
        consensus
    }
}

/// Recovers log, snapshot and state of a node (P/W, N1). Observers are told of what is applied again.
///
/// # Errors
/// See [`StartError`]; each names the file and says what to do.
pub async fn build(options: RaftOptions, around: Surroundings) -> Result<Built, StartError> {
    let config = Arc::new(raft_config(&options)?);
    let identity = options.identity.clone();
    let snapshots = open_snapshots(&options).await?;
    let reserve_bytes = options.reserve_bytes.max(2 * snapshots.current_bytes());
    let (wal, writer) = open_log(&options, reserve_bytes, &around).await?;
    let log = LogStore::new(wal);
    if options.joined && log.is_pristine() && snapshots.current_bytes() == 0 {
        log.wal().close();
        let reason = format!(
            "the log in {} is empty although this node was a member; its disk was lost",
            options.directory.display()
        );
        return Err(StartError::DiskLost(reason));
    }
    let shared = Shared {
        board: Arc::new(Board::new(State::default())),
        observers: around.observers.clone().into(),
        snapshots,
        failure: Arc::new(OnceLock::new()),
        applied_bytes: Arc::new(AtomicU64::new(0)),
    };
    let machine = StateMachine::new(shared.clone(), log.barrier());
    let links = Links {
        quorum: Quorum::new(options.timings.election_timeout_max),
        transfers: Transfers::default(),
        rooms: Rooms::default(),
    };
    let network = Network::new(around.peers.clone(), links.clone());
    let raft = Raft::build(identity.raft_id, config, network, log.clone(), machine).await;
    let raft = raft.map_err(|fatal| start_error(&fatal, &shared))?;
    let storage = (log, Ending::new(writer));
    Ok(assemble(&options, raft, storage, shared, around, links))
}

fn assemble(
    options: &RaftOptions,
    raft: RaftHandle,
    (log, ending): (LogStore, Ending),
    shared: Shared,
    around: Surroundings,
    links: Links,
) -> Built {
    let Surroundings { peers, metrics, .. } = around;
    let Links { quorum, transfers, rooms } = links;
    let contact = Contact::new();
    let lease = options.timings.election_timeout_max;
    let mapper = Arc::new(Mapper {
        raft: raft.clone(),
        contact: contact.clone(),
        failure: shared.failure.clone(),
        quorum,
        transfers,
        silence: 2 * lease,
        membership: Mutex::default(),
    });
    let (sender, status) = watch::channel(mapper.status());
    // One snapshot at a time is enough for everybody who wants one.
    let (wishes, wanted) = mpsc::channel(4);
    let (wal, signal) = (log.wal().clone(), ending.signal());
    let snapshotting = Snapshotting::new(options, raft.clone(), shared.clone(), wal, signal, wanted);
    let inner = Inner {
        raft,
        raft_id: options.identity.raft_id,
        election_timeout_max: lease,
        log,
        shared,
        mapper: mapper.clone(),
        metrics: metrics.clone(),
        status,
        contact,
        install_turn: Arc::default(),
        proposals: Proposals::new(),
        rooms,
        ending,
        wishes,
    };
    let consensus = Consensus { inner: Arc::new(inner) };
    Built { consensus, follow: (mapper, sender, peers, metrics), snapshotting }
}

/// The settings of Raft; everything that is not a timing is decided here and nowhere else.
fn raft_config(options: &RaftOptions) -> Result<Config, StartError> {
    let Timings { heartbeat_interval, election_timeout_min, election_timeout_max } = options.timings;
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: options.identity.cluster_id.clone(),
        heartbeat_interval: ms(heartbeat_interval),
        election_timeout_min: ms(election_timeout_min),
        election_timeout_max: ms(election_timeout_max),
        enable_pre_vote: Some(true),
        // A restored leader would go on under the same id without its table of deadlines.
        enable_leader_restore: Some(false),
        // A leader that can send but not hear would hold its followers for ever (P/N8).
        quorum_loss_probe_interval: Some(ms(Phases { lease: election_timeout_max }.interval())),
        // Snapshots are made by size and time: see `Snapshotting`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: options.keep_log_entries,
        // A purge stops the core for a moment: not for a few entries, unless few are kept.
        purge_batch_size: options.keep_log_entries.clamp(1, 4096),
        max_payload_entries: 1024,
        install_snapshot_timeout: 60_000,
        // Double of the proposals let in: votes and reads need room too.
        api_channel_size: Some(8192),
        // Restarts are short.
        backoff: "20ms 50ms 100ms 200ms 500ms ..1s".to_owned(),
        // Committed data could be lost with it.
        allow_log_reversion: Some(false),
        ..Config::default()
    };
    config.validate().map_err(|error| StartError::Config(error.to_string()))
}

/// The thread that writes the log, if it is one.
type WalThread = Option<std::thread::JoinHandle<()>>;

async fn open_log(
    options: &RaftOptions,
    reserve_bytes: u64,
    around: &Surroundings,
) -> Result<(Wal, WalThread), StartError> {
    let folder = options.directory.join("log");
    let identity = wal_identity(&options.identity)?;
    let wal_options = registry_wal::Options {
        segment_bytes: options.segment_bytes,
        cache_bytes: options.log_cache_bytes,
        reserve_bytes,
        ..registry_wal::Options::default()
    };
    // A member whose log is gone must not begin a new one (P/N1).
    let create = (!options.joined).then(|| uuid_bytes(&around.random.uuid())).transpose()?;
    let disk = match &around.disk {
        LogDisk::Files => {
            let disk = DirectoryDisk::open(&folder).map_err(|source| io_error(&folder, source))?;
            Arc::new(disk) as Arc<dyn Disk>
        }
        LogDisk::Simulated { disk, .. } => disk.clone(),
    };
    let observer = Arc::new(SyncTimer { metrics: around.metrics.clone(), begun: Mutex::default() });
    let opened = blocking(move || Ok(registry_wal::open(disk, wal_options, identity, create, observer)));
    let opened = opened.await.map_err(|source| io_error(&folder, source))?.map_err(wal_error)?;
    drive(opened, &around.disk).map_err(|source| io_error(&folder, source))
}

/// Gives the log its writer.
fn drive(opened: Opened, disk: &LogDisk) -> std::io::Result<(Wal, WalThread)> {
    let Opened { wal, writer, recovered } = opened;
    if recovered.cut.is_some() {
        tracing::info!(?recovered, "an unacknowledged end of the log was cut");
    }
    let thread = match disk {
        LogDisk::Files => Some(writer.spawn()?),
        LogDisk::Simulated { sync_time, .. } => {
            let bell = Arc::new(Notify::new());
            wal.on_queued(Box::new({
                let bell = bell.clone();
                move || bell.notify_one()
            }));
            tokio::spawn(write_in_task(writer, bell, *sync_time));
            None
        }
    };
    Ok((wal, thread))
}

/// What the thread of a real node does, as a task: so time is the simulation's.
async fn write_in_task(mut writer: Writer, bell: Arc<Notify>, sync_time: Duration) {
    loop {
        bell.notified().await;
        while let Some(batch) = writer.take_batch() {
            sleep(sync_time).await;
            // The log has told everybody who waits, and its observer.
            if writer.run_once(batch).is_err() {
                return;
            }
        }
        while matches!(writer.step(), Ok(true)) {}
    }
}

async fn open_snapshots(options: &RaftOptions) -> Result<SnapshotStore, StartError> {
    let folder = options.directory.join("snapshots");
    let cluster_id = options.identity.cluster_id.clone();
    let opened = blocking({
        let folder = folder.clone();
        move || Ok(SnapshotStore::open(&folder, &cluster_id))
    });
    opened.await.map_err(|source| io_error(&folder, source))?.map_err(|error| match error {
        SnapshotError::Io { path, source } => io_error(&path, source),
        SnapshotError::Newer { .. } => StartError::Unsupported(error.to_string()),
        SnapshotError::Damaged { .. } => StartError::Corrupt(error.to_string()),
    })
}

/// Times each sync for the metrics.
struct SyncTimer {
    metrics: Metrics,
    begun: Mutex<Option<Instant>>,
}

impl registry_wal::Observer for SyncTimer {
    fn sync_started(&self, _bytes: u64) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn sync_finished(&self) {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(begun) = begun {
            self.metrics.fsync(begun.elapsed());
        }
    }

    fn failed(&self, error: &registry_wal::Error) {
        tracing::error!(%error, "the log failed; this node ends");
    }
}

fn wal_identity(identity: &RaftIdentity) -> Result<Identity, StartError> {
    Ok(Identity {
        cluster_id: uuid_bytes(&identity.cluster_id)?,
        raft_id: identity.raft_id,
        disk_id: uuid_bytes(&identity.disk_id)?,
    })
}

fn uuid_bytes(text: &str) -> Result<[u8; 16], StartError> {
    let parsed = uuid::Uuid::parse_str(text);
    Ok(*parsed
        .map_err(|error| StartError::Corrupt(format!("the identity has the bad UUID {text}: {error}")))?
        .as_bytes())
}

fn io_error(path: &Path, source: std::io::Error) -> StartError {
    StartError::Io { path: path.display().to_string(), source }
}

fn wal_error(error: registry_wal::Error) -> StartError {
    use registry_wal::Error;
    let message = error.to_string();
    match error {
        Error::Missing { .. } | Error::Foreign { .. } => StartError::DiskLost(message),
        Error::Corrupt { .. } => StartError::Corrupt(message),
        Error::Format { .. } => StartError::Unsupported(message),
        Error::Option { .. } => StartError::Config(message),
        other => StartError::Io { path: "log".to_owned(), source: other.into() },
    }
}

/// Raft found something in log or snapshot with which it cannot start.
fn start_error(fatal: &Fatal<super::types::TypeConfig>, shared: &Shared) -> StartError {
    match shared.failure.get() {
        Some(Failure::Unsupported(reason)) => StartError::Unsupported(reason.clone()),
        _ => StartError::Corrupt(format!("log and snapshot do not fit together: {fatal}")),
    }
}
