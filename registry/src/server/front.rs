//! The door of the client port: what a node can answer depends on how far it has come.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tonic::Status;

use super::core::Core;
use crate::config::{Node, ValidConfig};
use crate::error::{Error, LeaderHint};
use crate::standing::{Stage, Standing};

/// Lets requests in, or says why not. A clone is the same door.
#[derive(Clone)]
pub struct Front {
    shared: Arc<Shared>,
}

struct Shared {
    node: Node,
    nodes: Vec<Node>,
    standing: Standing,
    core: OnceLock<Core>,
    closed: watch::Sender<bool>,
}

impl Front {
    /// A door behind which nothing is yet.
    pub fn new(config: &ValidConfig, standing: Standing) -> Self {
        let shared = Shared {
            node: config.node.clone(),
            nodes: config.nodes.clone(),
            standing,
            core: OnceLock::new(),
            closed: watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Raft runs: requests are answered from now on. Only the first call counts.
    pub fn open(&self, core: Core) {
        let _ = self.shared.core.set(core);
    }

    /// No new request is answered from now on, and watches end with CLOSING.
    pub fn close(&self) {
        self.shared.closed.send_replace(true);
        if let Some(core) = self.shared.core.get() {
            core.hub.close();
        }
    }

    /// The parts that answer.
    ///
    /// # Errors
    /// NOT_INITIALIZED, NOT_READY or SHUTTING_DOWN, as the node stands.
    pub fn core(&self) -> Result<&Core, Status> {
        self.pass().map_err(|error| match self.shared.core.get() {
            Some(core) => core.head.status(error),
            None => error.into_status(&LeaderHint::default()),
        })
    }

    fn pass(&self) -> Result<&Core, Error> {
        if *self.shared.closed.borrow() {
            return Err(Error::ShuttingDown);
        }
        match self.shared.standing.stage() {
            Stage::Running => {}
            Stage::Quarantined(quarantine) => return Err(Error::NotReady(quarantine.reason)),
            // There is a cluster already, or this node has a place in one: others can answer.
            Stage::Waiting { what, outside } if outside || self.shared.standing.member().is_some() => {
                return Err(Error::NotReady(what));
            }
            Stage::Waiting { .. } => return Err(Error::NotInitialized),
            Stage::Called => return Err(Error::NotReady("starting".to_owned())),
        }
        let core = self.shared.core.get().ok_or_else(|| Error::NotReady("starting".to_owned()))?;
        match core.consensus.published().state.cluster_id() {
            Some(_) => Ok(core),
            // Founded, but the first command is not applied yet; or behind by all of the log.
            None => Err(Error::NotInitialized),
        }
    }

    /// The parts that answer, once Raft runs, in whatever condition the node is.
    pub(super) fn core_if_any(&self) -> Option<&Core> {
        self.shared.core.get()
    }

    /// This node as configured.
    pub(super) fn node(&self) -> &Node {
        &self.shared.node
    }

    /// All nodes as configured.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.shared.nodes
    }

    /// How this node stands.
    pub(super) fn standing(&self) -> &Standing {
        &self.shared.standing
    }
}
