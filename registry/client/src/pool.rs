//! The nodes of the cluster: who they are, which are connected, whom to ask.
//!
//! Only a node whose connection is up is ever asked. Connections are made in the background, one per
//! node, so that a call never waits for a dead address while another node would do.

mod members;
mod node;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use registry_proto::v1::ResponseHeader;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::builder::ClientBuilder;
use crate::metrics::{Hooks, Metrics, count};
use crate::transport::{Connection, ConnectionOptions, Dial};

/// Nodes that are kept connected at most. A cluster has three to seven; more than that is a mistake in
/// somebody's list.
const MAX_NODES: usize = 16;
/// A node that said it cannot serve, or did not answer in time, is asked last for so long.
const PENALTY: Duration = Duration::from_secs(2);
/// A cluster id that no node has shown for so long is given up for the one that nodes show now.
const CLUSTER_FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// What the members' list says about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Healthy, lagging or not known: ask it.
    Good,
    /// A seed that is not on the list: ask it only when no member is connected.
    Spare,
    /// The leader does not hear it: ask it when nobody else is there (it may serve stale reads).
    Suspect,
}

struct Node {
    standing: Standing,
    connection: Option<Connection>,
    /// Connects that failed in a row.
    failures: u32,
    last_failure: String,
    penalty_until: Option<Instant>,
    open_calls: Arc<AtomicUsize>,
    redial: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Node>,
    /// Endpoints of the members that may be asked; empty until the list was read.
    members: BTreeMap<String, Standing>,
    /// Highest term seen with a leader, and the leader unless it is known to be gone.
    leader: (u64, Option<String>),
    cluster_id: String,
    cluster_seen_at: Option<Instant>,
}

struct Shared {
    dial: Arc<dyn Dial>,
    connection: ConnectionOptions,
    seeds: Vec<String>,
    metrics: Arc<Metrics>,
    hooks: Arc<dyn Hooks>,
    state: Mutex<State>,
    /// Raised with every change of a connection.
    changed: watch::Sender<u64>,
    /// Asks for a look at the members' list.
    refresh: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The nodes of a cluster. Owned by the client; its tasks end with it.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    refresher: Option<AbortHandle>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(task) = &self.refresher {
            task.abort();
        }
        self.shared.state().nodes.clear();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        let up = |node: &Node| if node.is_up() { "up" } else { "down" };
        f.debug_map().entries(state.nodes.iter().map(|(endpoint, node)| (endpoint, up(node)))).finish()
    }
}

/// A node chosen for a call.
pub(crate) struct Picked {
    pub(crate) endpoint: String,
    pub(crate) connection: Connection,
    /// Counted in the node's load while it is held.
    _load: Option<Load>,
}

impl Picked {
    /// A connection that the pool does not manage.
    pub(crate) fn outside(endpoint: String, connection: Connection) -> Self {
        Self { endpoint, connection, _load: None }
    }
}

struct Load(Arc<AtomicUsize>);

impl Load {
    fn on(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Relaxed);
        Self(counter.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Pool {
    pub(crate) fn start(builder: &ClientBuilder, metrics: Arc<Metrics>, hooks: Arc<dyn Hooks>) -> Self {
        let shared = Arc::new(Shared {
            dial: builder.dial.clone(),
            connection: builder.connection,
            seeds: builder.seeds.clone(),
            metrics,
            hooks,
            state: Mutex::default(),
            changed: watch::channel(0).0,
            refresh: Notify::new(),
        });
        reconcile(&shared, &mut shared.state());
        let refresher = builder.discover_members.then(|| {
            tokio::spawn(members::follow(Arc::downgrade(&shared), builder.refresh_interval)).abort_handle()
        });
        Self { shared, refresher }
    }

    /// The best connected node that is not in `tried`: the leader if it is wanted, else the one with the
    /// fewest open calls.
    pub(crate) fn pick(&self, leader: bool, tried: &[String]) -> Option<Picked> {
        self.shared.pick(leader, tried)
    }

    /// As [`pick`](Self::pick); if no node at all is connected it waits for one until `deadline`.
    pub(crate) async fn ready(&self, leader: bool, tried: &[String], deadline: Instant) -> Option<Picked> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(picked) = self.pick(leader, tried) {
                return Some(picked);
            }
            if !tried.is_empty() {
                return None;
            }
            timeout_at(deadline, changed.changed()).await.ok()?.ok()?;
        }
    }

    /// Waits until a node is connected. `false` if all have refused, or none answered by `deadline`.
    pub(crate) async fn connected(&self, deadline: Instant) -> bool {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            {
                let state = self.shared.state();
                if state.nodes.values().any(Node::is_up) {
                    return true;
                }
                if state.nodes.values().all(|node| node.failures > 0) {
                    return false;
                }
            }
            if !matches!(timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }

    /// Why no node is connected, for people.
    pub(crate) fn why_unreachable(&self) -> String {
        let state = self.shared.state();
        let reasons: Vec<_> = state
            .nodes
            .iter()
            .map(|(endpoint, node)| match node.last_failure.as_str() {
                "" => format!("{endpoint}: no connection yet"),
                failure => failure.to_owned(),
            })
            .collect();
        format!("no node of the registry can be reached ({})", reasons.join("; "))
    }

    pub(crate) fn connected_endpoints(&self) -> Vec<String> {
        let state = self.shared.state();
        state.nodes.iter().filter(|(_, node)| node.is_up()).map(|(endpoint, _)| endpoint.clone()).collect()
    }

    pub(crate) fn leader(&self) -> Option<String> {
        self.shared.state().leader.1.clone()
    }

    /// A node did not answer in time, or said that it cannot serve: others first for a while.
    pub(crate) fn penalize(&self, endpoint: &str) {
        let mut state = self.shared.state();
        if let Some(node) = state.nodes.get_mut(endpoint) {
            node.penalty_until = Some(Instant::now() + PENALTY);
        }
        if state.leader.1.as_deref() == Some(endpoint) {
            state.leader.1 = None;
        }
        drop(state);
        self.shared.refresh.notify_one();
    }

    /// The connection refused a call before sending it: it is as good as gone.
    pub(crate) fn lost(&self, picked: &Picked) {
        let mut state = self.shared.state();
        let same = |node: &&mut Node| {
            // Another call may have reported it, and a new connection be up.
            node.connection.as_ref().is_some_and(|connection| connection.is_same(&picked.connection))
        };
        if let Some(node) = state.nodes.get_mut(&picked.endpoint).filter(same) {
            node.connection = None;
            node.redial.notify_one();
        }
    }

    /// The node that was taken for the leader says that it is not, and perhaps who is.
    pub(crate) fn not_leader(&self, endpoint: &str, leader: Option<&str>, term: Option<u64>) {
        let mut state = self.shared.state();
        if state.leader.1.as_deref() == Some(endpoint) {
            state.leader.1 = None;
        }
        if let Some(leader) = leader.filter(|leader| *leader != endpoint) {
            let term = term.unwrap_or(state.leader.0);
            state.learn_leader(leader, term);
            if !state.nodes.contains_key(leader) && !state.members.is_empty() {
                self.shared.refresh.notify_one();
            }
        }
    }

    /// Learns from an answer. `false` if it comes from another cluster.
    pub(crate) fn observe(&self, endpoint: &str, header: &ResponseHeader) -> bool {
        self.shared.observe(endpoint, header)
    }
}

impl Node {
    fn is_up(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::is_open)
    }

    fn is_penalized(&self, now: Instant) -> bool {
        self.penalty_until.is_some_and(|until| until > now)
    }
}

impl State {
    fn learn_leader(&mut self, leader: &str, term: u64) {
        // A node that was cut off names the leader of its time.
        if !leader.is_empty() && term >= self.leader.0 {
            self.leader = (term, Some(leader.to_owned()));
        }
    }
}

impl Shared {
    fn pick(&self, leader: bool, tried: &[String]) -> Option<Picked> {
        let now = Instant::now();
        let state = self.state();
        let usable =
            |endpoint: &str, node: &Node| node.is_up() && !tried.iter().any(|other| other == endpoint);
        if leader
            && let Some(endpoint) = &state.leader.1
            && let Some(node) = state.nodes.get(endpoint)
            && usable(endpoint, node)
            && !node.is_penalized(now)
        {
            return node.picked(endpoint);
        }
        let mut rng = rand::rng();
        state
            .nodes
            .iter()
            .filter(|(endpoint, node)| usable(endpoint, node))
            .min_by_key(|(_, node)| {
                let load = node.open_calls.load(Relaxed);
                (node.standing, node.is_penalized(now), load, rng.random::<u32>())
            })
            .and_then(|(endpoint, node)| node.picked(endpoint))
    }

    fn observe(&self, endpoint: &str, header: &ResponseHeader) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        if !header.cluster_id.is_empty() && state.cluster_id != header.cluster_id {
            let since = state.cluster_seen_at.map(|seen| now - seen);
            if since.is_some_and(|since| since < CLUSTER_FORGOTTEN_AFTER) {
                tracing::warn!(endpoint, expected = %state.cluster_id, found = %header.cluster_id,
                    "node belongs to another cluster; it is left out");
                if let Some(node) = state.nodes.get_mut(endpoint) {
                    node.penalty_until = Some(now + CLUSTER_FORGOTTEN_AFTER);
                    node.standing = Standing::Suspect;
                }
                return false;
            }
            state.cluster_id.clone_from(&header.cluster_id);
            state.leader = (0, None);
        }
        if !header.cluster_id.is_empty() {
            state.cluster_seen_at = Some(now);
        }
        state.learn_leader(&header.leader_endpoint, header.term);
        true
    }

    fn connection_changed(&self, endpoint: &str, up: bool) {
        count(if up { &self.metrics.connections_opened } else { &self.metrics.connections_lost });
        self.hooks.connection_changed(endpoint, up);
        self.changed.send_modify(|version| *version += 1);
        self.refresh.notify_one();
    }
}

impl Node {
    fn picked(&self, endpoint: &str) -> Option<Picked> {
        let connection = self.connection.clone()?;
        Some(Picked { endpoint: endpoint.to_owned(), connection, _load: Some(Load::on(&self.open_calls)) })
    }
}

/// Makes the nodes those that are wanted: the members, and the seeds while no member is connected.
fn reconcile(shared: &Arc<Shared>, state: &mut State) {
    let member_up = state.members.keys().any(|member| state.nodes.get(member).is_some_and(Node::is_up));
    let mut wanted = state.members.clone();
    if !member_up {
        let standing = if state.members.is_empty() { Standing::Good } else { Standing::Spare };
        for seed in &shared.seeds {
            wanted.entry(seed.clone()).or_insert(standing);
        }
    }
    state.nodes.retain(|endpoint, _| wanted.contains_key(endpoint));
    for (endpoint, standing) in wanted.into_iter().take(MAX_NODES) {
        let node =
            state.nodes.entry(endpoint.clone()).or_insert_with(|| node::start(shared, endpoint, standing));
        node.standing = standing;
    }
}
