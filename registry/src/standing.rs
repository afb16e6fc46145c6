//! How this node stands at the moment: its place in a cluster, how far it has come, whether it leaves.
//!
//! One value per node, shared by everything that answers for it: Hello and Probe, the gate before Raft,
//! `/readyz`, ClusterStatus, and the main flow in `node.rs`, which moves it on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use crate::crash_point::CrashPoint;
use crate::environment::Random;
use crate::identity::{DataFolder, Identity, IdentityError, MemberId};
use crate::raft::Consensus;

/// How far a node has come. It moves forward only, except into quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Recovering, or without a place in a cluster.
    Waiting {
        /// For what, for people.
        what: String,
        /// True if there is a cluster already and this node is not in it.
        outside: bool,
    },
    /// The leader of an offered place has called: `node.rs` starts Raft now.
    Called,
    /// Raft runs.
    Running,
    /// Alive but out of Raft: until someone acts (P/N10), or until the cluster gives it a new place.
    Quarantined(Quarantine),
}

/// Why a node is out of Raft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// What kind of reason it is.
    pub cause: Cause,
    /// What happened and what to do.
    pub reason: String,
}

/// What put a node out of Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Damaged data, or data of a newer program: somebody must act.
    Broken,
    /// It was a member and its log is gone (DISK_LOST of P/N1): it asks for a new place.
    DiskLost,
    /// It was removed from the cluster (P/N5): it asks for a new place.
    Removed,
}

impl Cause {
    /// Whether the node's place is gone, and the cluster may give it another.
    pub fn is_place_gone(self) -> bool {
        matches!(self, Self::DiskLost | Self::Removed)
    }
}

/// Shared view of one node. A clone shares it.
#[derive(Clone)]
pub struct Standing {
    shared: Arc<Shared>,
}

struct Shared {
    process_nonce: u64,
    /// `None` once it has been handed on to the next life of the node.
    folder: Mutex<Option<DataFolder>>,
    /// A copy of what is durable, so that readers do not wait for a write.
    identity: Mutex<Identity>,
    stage: watch::Sender<Stage>,
    stopping: AtomicBool,
    /// True once a linearizable read has been applied since the start (P/N11).
    caught_up: AtomicBool,
    consensus: OnceLock<Consensus>,
    joined: AtomicBool,
    closing: AtomicBool,
    /// The log has the id of the place.
    bound: AtomicBool,
    /// The data has been looked at: there is neither log nor vote.
    empty: AtomicBool,
    /// The leader told this node to start anew.
    renewed: watch::Sender<bool>,
    /// Members that said that they stop, with the nonce of the process that said it.
    leaving: Mutex<BTreeMap<u64, u64>>,
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").field("identity", &self.identity()).field("stage", &self.stage()).finish()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Standing {
    /// A node that has just opened its folder.
    pub fn new(folder: DataFolder, process_nonce: u64) -> Self {
        let shared = Shared {
            process_nonce,
            identity: Mutex::new(folder.identity().clone()),
            joined: AtomicBool::new(folder.identity().joined),
            closing: AtomicBool::new(false),
            folder: Mutex::new(Some(folder)),
            stage: watch::Sender::new(Stage::Waiting { what: "starting".to_owned(), outside: false }),
            stopping: AtomicBool::new(false),
            caught_up: AtomicBool::new(false),
            consensus: OnceLock::new(),
            bound: AtomicBool::new(false),
            empty: AtomicBool::new(false),
            renewed: watch::Sender::new(false),
            leaving: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Random id of this process.
    pub fn process_nonce(&self) -> u64 {
        self.shared.process_nonce
    }

    /// What is durable about this node.
    pub fn identity(&self) -> Identity {
        locked(&self.shared.identity).clone()
    }

    /// Its place in a cluster, if it has one.
    pub fn member(&self) -> Option<MemberId> {
        locked(&self.shared.identity).member.clone()
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        self.shared.stage.borrow().clone()
    }

    /// How far it comes.
    pub fn watch_stage(&self) -> watch::Receiver<Stage> {
        self.shared.stage.subscribe()
    }

    /// Says what the node waits for; logged when it changes. `outside` = a cluster exists without it.
    pub fn wait_for(&self, what: &str, outside: bool) {
        self.shared.stage.send_if_modified(|stage| match stage {
            Stage::Waiting { what: known, .. } if known != what => {
                tracing::info!("{what}");
                *stage = Stage::Waiting { what: what.to_owned(), outside };
                true
            }
            _ => false,
        });
    }

    /// A Raft call for the offered place has come: whoever founded the cluster goes on without waiting.
    pub fn call(&self) {
        self.shared.stage.send_if_modified(|stage| {
            let is_waiting = matches!(stage, Stage::Waiting { .. });
            if is_waiting {
                *stage = Stage::Called;
            }
            is_waiting
        });
    }

    /// Takes the node out of Raft for this life; the first reason stands.
    pub fn quarantine(&self, cause: Cause, reason: String) {
        self.shared.stage.send_if_modified(|stage| {
            let is_first = !matches!(stage, Stage::Quarantined(_));
            if is_first {
                match cause {
                    Cause::Broken => {
                        tracing::error!(%reason, "this node is in quarantine: alive, but out of Raft");
                    }
                    Cause::DiskLost | Cause::Removed => {
                        tracing::warn!(%reason, "this node is alive, but out of Raft");
                    }
                }
                *stage = Stage::Quarantined(Quarantine { cause, reason });
            }
            is_first
        });
    }

    /// Says anew why it is out of Raft, and what it waits for; logged when it changes.
    pub fn explain(&self, text: &str) {
        self.shared.stage.send_if_modified(|stage| match stage {
            Stage::Quarantined(quarantine) if quarantine.reason != text => {
                tracing::info!("{text}");
                text.clone_into(&mut quarantine.reason);
                true
            }
            _ => false,
        });
    }

    /// Why it is quarantined, if it is.
    pub fn quarantined(&self) -> Option<Quarantine> {
        match &*self.shared.stage.borrow() {
            Stage::Quarantined(quarantine) => Some(quarantine.clone()),
            _ => None,
        }
    }

    /// Hands in Raft, which runs from now on.
    pub fn run(&self, consensus: Consensus) {
        if self.shared.consensus.set(consensus).is_ok() {
            self.shared.stage.send_if_modified(|stage| {
                let may_run = !matches!(stage, Stage::Quarantined(_));
                if may_run {
                    *stage = Stage::Running;
                }
                may_run
            });
        }
    }

    /// Raft, while it runs.
    pub fn consensus(&self) -> Option<&Consensus> {
        let is_running = *self.shared.stage.borrow() == Stage::Running;
        self.shared.consensus.get().filter(|_| is_running)
    }

    /// Stores an offered place durably. Blocks for a few syncs of the disk, at founding only.
    ///
    /// # Errors
    /// As [`DataFolder::prepare`].
    pub fn prepare(&self, member: MemberId) -> Result<(), IdentityError> {
        self.change(|folder| folder.prepare(member))
    }

    /// Stores durably that the node takes part. Blocks for a few syncs of the disk, once per folder.
    ///
    /// # Errors
    /// As [`DataFolder::join`].
    pub fn join(&self) -> Result<(), IdentityError> {
        self.change(DataFolder::join)?;
        self.shared.joined.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether that is durable.
    pub fn has_joined(&self) -> bool {
        self.shared.joined.load(Ordering::Acquire)
    }

    /// Stores a place given by a leader durably. Blocks for a few syncs of the disk, once per folder.
    ///
    /// # Errors
    /// As [`DataFolder::adopt`].
    pub fn adopt(&self, member: MemberId) -> Result<(), IdentityError> {
        self.change(|folder| folder.adopt(member))
    }

    /// Stores durably that the member was removed by the entry at `index`.
    ///
    /// # Errors
    /// As [`DataFolder::remove`].
    pub fn remove(&self, index: u64) -> Result<(), IdentityError> {
        self.change(|folder| folder.remove(index))
    }

    /// Moves the data aside and gives the folder a new disk id; from now on this value stores nothing more:
    /// the folder belongs to the next life of the node. Nothing may use the data any more.
    ///
    /// # Errors
    /// As [`DataFolder::start_anew`].
    pub fn start_anew(&self, random: &dyn Random, crash: &CrashPoint) -> Result<(), IdentityError> {
        let mut kept = locked(&self.shared.folder);
        let folder = kept.as_mut().ok_or(IdentityError::HandedOn)?;
        folder.start_anew(random, crash)?;
        kept.take();
        Ok(())
    }

    /// From now on this value stores nothing more: the folder belongs to the next life of the node, as it is.
    pub fn hand_on(&self) {
        locked(&self.shared.folder).take();
    }

    /// A log is opened under the id of the place: another place cannot be taken any more.
    pub fn bind(&self) {
        self.shared.bound.store(true, Ordering::Release);
    }

    /// Whether that has happened.
    pub fn is_bound(&self) -> bool {
        self.shared.bound.load(Ordering::Acquire)
    }

    /// The data has been looked at, and there is neither log nor vote: the node looks for a place.
    pub fn found_empty(&self) {
        self.shared.empty.store(true, Ordering::Release);
    }

    /// Whether that has happened; not whether it is still so.
    pub fn was_empty(&self) -> bool {
        self.shared.empty.load(Ordering::Acquire)
    }

    /// The place of this node is gone for good, or was given up: it begins anew.
    pub fn renew(&self) {
        self.shared.renewed.send_replace(true);
    }

    /// Returns when [`renew`](Self::renew) has been called.
    pub async fn renewed(&self) {
        let mut renewed = self.shared.renewed.subscribe();
        if renewed.wait_for(|renewed| *renewed).await.is_err() {
            std::future::pending().await
        }
    }

    fn change(
        &self,
        change: impl FnOnce(&mut DataFolder) -> Result<(), IdentityError>,
    ) -> Result<(), IdentityError> {
        let mut kept = locked(&self.shared.folder);
        let folder = kept.as_mut().ok_or(IdentityError::HandedOn)?;
        change(folder)?;
        *locked(&self.shared.identity) = folder.identity().clone();
        Ok(())
    }

    /// Begins an orderly stop.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
    }

    /// Sends traffic elsewhere from now on: a while after [`stop`](Self::stop), because connections are
    /// still on their way to this node then (P/N9).
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
    }

    /// Whether the node is in an orderly stop.
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// A linearizable read has been applied here since the start.
    pub fn set_caught_up(&self) {
        self.shared.caught_up.store(true, Ordering::Release);
    }

    /// Whether the node should get traffic (P/N11). Losing the leader never makes it unready: its stale
    /// reads would vanish from load balancers just when they are needed.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn readiness(&self) -> Result<(), String> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err("stopping".to_owned());
        }
        match &*self.shared.stage.borrow() {
            Stage::Waiting { what, .. } => Err(what.clone()),
            Stage::Called => Err("starting".to_owned()),
            Stage::Quarantined(Quarantine { cause: Cause::Broken, reason }) => {
                Err(format!("quarantined: {reason}"))
            }
            Stage::Quarantined(quarantine) => Err(quarantine.reason.clone()),
            Stage::Running if self.shared.caught_up.load(Ordering::Acquire) => Ok(()),
            Stage::Running => Err("waiting for a leader and for what it has committed".to_owned()),
        }
    }

    /// Notes that the process `nonce` of a member stops.
    pub fn note_leaving(&self, raft_id: u64, nonce: u64) {
        locked(&self.shared.leaving).insert(raft_id, nonce);
    }

    /// Notes that a member was heard: another process than the one that left is back.
    pub fn note_heard(&self, raft_id: u64, nonce: u64) {
        let mut leaving = locked(&self.shared.leaving);
        if leaving.get(&raft_id).is_some_and(|left| *left != nonce) {
            leaving.remove(&raft_id);
        }
    }

    /// Members that are stopping: no good heirs of leadership.
    pub fn leaving(&self) -> Vec<u64> {
        locked(&self.shared.leaving).keys().copied().collect()
    }
}
