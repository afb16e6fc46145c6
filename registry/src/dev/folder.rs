//! The folder of a development cluster, and the processes noted in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::process::Process;
use crate::config::{Sources, ValidConfig, check_all};
use crate::identity::is_in_use;

/// Longest wait for the end of a killed node: the kernel frees gigabytes in less.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked for.
const KILL_INTERVAL: Duration = Duration::from_millis(10);

/// What `up` was asked for; what is not given is taken from the folder, or from the defaults.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    pub(super) nodes: Option<usize>,
    pub(super) host: Option<String>,
    pub(super) base_port: Option<u16>,
}

const DEFAULT_NODES: usize = 3;
const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8080;
/// Distance of the peer ports, and of the HTTP ports, from the client ports.
const PEER_OFFSET: u16 = 1_000;
const HTTP_OFFSET: u16 = 1_100;

/// One node of the cluster.
#[derive(Debug, Clone)]
pub(super) struct DevNode {
    pub(super) node_id: String,
    pub(super) number: usize,
    pub(super) host: String,
    pub(super) client: String,
    pub(super) peer: String,
    pub(super) http: String,
    pub(super) http_port: u16,
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
}

/// `dev.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Noted {
    processes: BTreeMap<String, Process>,
}

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    pub(super) nodes: Vec<DevNode>,
}

impl Folder {
    /// Opens the folder, and makes what is missing; `fresh` begins anew.
    pub(super) fn create(path: &Path, shape: &Shape, fresh: bool) -> Result<Self, String> {
        fs::create_dir_all(path).map_err(|error| cannot("create", path, &error))?;
        let config = path.join("cluster.json");
        if config.exists()
            && Self::open(path).is_ok_and(|old| old.running().is_ok_and(|list| !list.is_empty()))
        {
            return Err(format!(
                "a cluster runs in {} already: look at it with dev status, end it with dev down",
                path.display()
            ));
        }
        if fresh {
            remove_ours(path)?;
        }
        if config.exists() {
            let folder = Self::open(path)?;
            folder.agree(shape)?;
            return Ok(folder);
        }
        if path.join("data").exists() {
            return Err(format!(
                "{} has data but no cluster.json: give another --dir, or begin anew with --fresh",
                path.display()
            ));
        }
        write_token(&path.join("admin.token"))?;
        let text =
            serde_json::to_vec_pretty(&cluster_file(path, shape)).map_err(|error| error.to_string())?;
        fs::write(&config, text).map_err(|error| cannot("write", &config, &error))?;
        Self::open(path)
    }

    /// Opens a folder that `up` has made.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let config = path.join("cluster.json");
        if !config.exists() {
            return Err(format!("no cluster in {}: make one with dev up, or give its --dir", path.display()));
        }
        let sources = Sources { file: config, ..Sources::default() };
        let configs = check_all(&sources).map_err(|errors| errors.0.join("; "))?;
        let nodes =
            configs.iter().enumerate().map(|(index, config)| dev_node(path, index + 1, config)).collect();
        for name in ["logs", "data"] {
            let part = path.join(name);
            fs::create_dir_all(&part).map_err(|error| cannot("create", &part, &error))?;
        }
        Ok(Self { path: path.to_owned(), nodes })
    }

    /// The node of this number.
    pub(super) fn node(&self, number: usize) -> Result<DevNode, String> {
        self.nodes.iter().find(|node| node.number == number).cloned().ok_or_else(|| {
            format!("there is no node {number}: the cluster has the nodes 1 to {}", self.nodes.len())
        })
    }

    pub(super) fn config(&self) -> PathBuf {
        self.path.join("cluster.json")
    }

    /// File with the administrator's token.
    pub(super) fn token(&self) -> PathBuf {
        self.path.join("admin.token")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Whether all ports are those of a folder without wishes.
    pub(super) fn has_default_ports(&self) -> bool {
        self.nodes.first().is_some_and(|node| node.client == format!("{DEFAULT_HOST}:{DEFAULT_PORT}"))
    }

    /// The nodes that run now, with their processes.
    pub(super) fn running(&self) -> Result<Vec<(DevNode, Process)>, String> {
        let noted = self.noted()?;
        let process =
            |node: &DevNode| noted.processes.get(&node.node_id).filter(|process| process.is_alive());
        Ok(self.nodes.iter().filter_map(|node| Some((node.clone(), process(node)?.clone()))).collect())
    }

    /// Starts a node and notes its process.
    pub(super) fn start(&self, node: &DevNode) -> Result<Child, String> {
        let _guard = self.lock()?;
        let mut noted = self.noted()?;
        if noted.processes.get(&node.node_id).is_some_and(Process::is_alive) {
            return Err(format!("{} runs already", node.node_id));
        }
        let (child, process) = Process::start(node, &self.config(), &self.token())?;
        noted.processes.insert(node.node_id.clone(), process);
        self.write_noted(&noted)?;
        Ok(child)
    }

    /// Kills a node, and waits until it can be started again.
    pub(super) fn kill(&self, node: &DevNode) -> Result<(), String> {
        let _guard = self.lock()?;
        match self.noted()?.processes.get(&node.node_id) {
            Some(process) if process.is_alive() => process.signal(Signal::KILL)?,
            _ => return Err(format!("{} does not run", node.node_id)),
        }
        let deadline = Instant::now() + KILL_LIMIT;
        while is_in_use(&node.data) {
            if Instant::now() > deadline {
                return Err(format!(
                    "{} was killed but does not end; see whether its disk hangs",
                    node.node_id
                ));
            }
            sleep(KILL_INTERVAL);
        }
        Ok(())
    }

    fn noted(&self) -> Result<Noted, String> {
        let path = self.path.join("dev.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                format!("{} cannot be read: {error}. If no node runs, remove it", path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Noted::default()),
            Err(error) => Err(cannot("read", &path, &error)),
        }
    }

    fn write_noted(&self, noted: &Noted) -> Result<(), String> {
        let (path, temporary) = (self.path.join("dev.json"), self.path.join("dev.json.tmp"));
        let text = serde_json::to_vec_pretty(noted).map_err(|error| error.to_string())?;
        fs::write(&temporary, text).map_err(|error| cannot("write", &temporary, &error))?;
        fs::rename(&temporary, &path).map_err(|error| cannot("write", &path, &error))
    }

    /// Keeps two commands from changing `dev.json` at once; released when dropped.
    fn lock(&self) -> Result<File, String> {
        let path = self.path.join("dev.lock");
        let file = File::create(&path).map_err(|error| cannot("open", &path, &error))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| cannot("lock", &path, &error.into()))?;
        Ok(file)
    }

    fn agree(&self, shape: &Shape) -> Result<(), String> {
        let first = self.nodes.first().ok_or("cluster.json lists no nodes")?;
        let wanted = format!(
            "{}:{}",
            shape.host.as_deref().unwrap_or(&first.host),
            shape.base_port.map_or_else(|| port_of(&first.client), |port| port.to_string())
        );
        if shape.nodes.is_some_and(|nodes| nodes != self.nodes.len()) || wanted != first.client {
            return Err(format!(
                "the cluster in {} has {} nodes from {} on: leave --nodes, --host and --base-port out, or begin anew with --fresh",
                self.path.display(),
                self.nodes.len(),
                first.client
            ));
        }
        Ok(())
    }
}

fn port_of(endpoint: &str) -> String {
    endpoint.rsplit(':').next().unwrap_or_default().to_owned()
}

fn dev_node(path: &Path, number: usize, config: &ValidConfig) -> DevNode {
    let node = &config.node;
    DevNode {
        node_id: node.node_id.clone(),
        number,
        host: node.host.clone(),
        client: node.client_endpoint(),
        peer: node.peer_endpoint(),
        http: crate::config::endpoint(&node.host, config.http_port),
        http_port: config.http_port,
        data: path.join("data").join(&node.node_id),
        log: path.join("logs").join(format!("registry_node_{number}.log")),
    }
}

fn cluster_file(path: &Path, shape: &Shape) -> serde_json::Value {
    let port = shape.base_port.unwrap_or(DEFAULT_PORT);
    let host = shape.host.as_deref().unwrap_or(DEFAULT_HOST);
    let nodes: Vec<_> = (0..u16::try_from(shape.nodes.unwrap_or(DEFAULT_NODES)).unwrap_or(1))
        .map(|index| {
            json!({
                "node_id": format!("registry-node-{}", index + 1),
                "host": host,
                "client_port": port + index,
                "raft_port": port + PEER_OFFSET + index,
                "http_port": port + HTTP_OFFSET + index,
            })
        })
        .collect();
    json!({
        "cluster": { "nodes": nodes },
        "raft": { "election_timeout_min": 150, "election_timeout_max": 300, "heartbeat_interval": 50 },
        // Small files, so that a cluster starts in a moment on any disk.
        "log": { "segment_bytes": "4MiB", "reserve_bytes": "8MiB" },
        // Nothing routes connections to these nodes any more when they stop.
        "shutdown": { "linger": 0 },
        "admin_token_file": path.join("admin.token"),
    })
}

fn write_token(path: &Path) -> Result<(), String> {
    let token = format!("{}{}\n", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let mut options = fs::OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(token.as_bytes()))
        .map_err(|error| cannot("write", path, &error))
}

/// Removes what `up` makes, and nothing else: the folder may be the user's.
fn remove_ours(path: &Path) -> Result<(), String> {
    for name in ["data", "logs", "cluster.json", "admin.token", "dev.json", "dev.json.tmp"] {
        let part = path.join(name);
        let removed = if part.is_dir() { fs::remove_dir_all(&part) } else { fs::remove_file(&part) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(cannot("remove", &part, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn cannot(action: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {action} {}: {error}. Check owner and permissions, or give another --dir", path.display())
}
