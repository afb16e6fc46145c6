//! What goes wrong in a test cluster, on demand: the verbs of `tests/testcluster/testcluster`.

use std::path::PathBuf;
use std::sync::Mutex;

use k8s_openapi::api::core::v1::Pod;
use rustix::process::{Pid, Signal, kill_process};

use super::command::{kubectl, succeed};
use super::pods::uid;

/// The faults of one test cluster. What a test broke is mended after it, whatever its outcome.
#[derive(Debug)]
pub struct Faults {
    dir: PathBuf,
    /// Command lines.
    undo: Mutex<Vec<Vec<String>>>,
}

impl Faults {
    /// Those of the cluster that `REGISTRY_TESTCLUSTER` names.
    pub fn of_environment() -> Option<Self> {
        let dir = std::env::var_os("REGISTRY_TESTCLUSTER").filter(|dir| !dir.is_empty())?;
        Some(Self { dir: dir.into(), undo: Mutex::default() })
    }

    /// The machine of node `node-INDEX` loses power: its pods end at once and answer nothing.
    pub async fn kill_node(&self, index: usize) {
        self.later(&["start-node", &index.to_string()]);
        self.testcluster(&["kill-node", &index.to_string()]).await;
    }

    /// Node `node-INDEX` boots.
    pub async fn start_node(&self, index: usize) {
        self.mended("start-node", &index.to_string());
        self.testcluster(&["start-node", &index.to_string()]).await;
    }

    /// `kill -9` for the node process in a data pod. The processes of the test cluster are processes of this machine.
    pub fn kill_process(&self, pod: &Pod) {
        // The driver of control groups writes the UID with underscores or with dashes.
        let uid = uid(pod);
        let is_of_pod = |groups: &str| groups.contains(uid) || groups.contains(&uid.replace('-', "_"));
        let processes = std::fs::read_dir("/proc").expect("/proc is there");
        let mut killed = 0;
        for process in processes.flatten().map(|entry| entry.path()) {
            let text = |file: &str| std::fs::read_to_string(process.join(file)).unwrap_or_default();
            if text("comm").trim() == "registry" && is_of_pod(&text("cgroup")) {
                let id = process.file_name().and_then(|id| id.to_str()?.parse().ok()).expect("a process id");
                kill_process(Pid::from_raw(id).expect("above zero"), Signal::KILL)
                    .expect("the tests run as root");
                killed += 1;
            }
        }
        assert_eq!(killed, 1, "one node process in the pod");
    }

    /// Nothing passes to or from these pod addresses.
    pub async fn cut(&self, addresses: &[String]) {
        self.later(&["heal"]);
        let mut args = vec!["cut"];
        args.extend(addresses.iter().map(String::as_str));
        self.testcluster(&args).await;
    }

    /// Nothing passes between the two groups of pod addresses; everything else does.
    pub async fn split(&self, one: &[String], other: &[String]) {
        self.later(&["heal"]);
        self.testcluster(&["split", &one.join(","), &other.join(",")]).await;
    }

    /// Ends every cut and split.
    pub async fn heal(&self) {
        self.testcluster(&["heal"]).await;
    }

    /// Freezes a component: `kubelet-2` (a node that is cut off from the API while its pods run on),
    /// `kube-apiserver`, `kube-controller-manager`, `coredns`, …
    pub async fn freeze(&self, component: &str) {
        self.later(&["signal", "CONT", component]);
        self.testcluster(&["signal", "STOP", component]).await;
    }

    /// Lets a frozen component go on.
    pub async fn thaw(&self, component: &str) {
        self.testcluster(&["signal", "CONT", component]).await;
    }

    /// The next pod gets the lowest free address: one that another pod has just given up.
    pub async fn reuse_addresses(&self) {
        self.testcluster(&["reuse"]).await;
    }

    /// No pod is placed on these nodes, unless it bears it.
    pub async fn cordon(&self, nodes: &[&str]) {
        self.remember([&["kubectl", "uncordon"], nodes].concat().into_iter().map(str::to_owned).collect());
        kubectl(&[&["cordon"], nodes].concat()).await;
    }

    /// An administrator says that this node, which is dead, will not come back by itself.
    pub async fn out_of_service(&self, node: &str) {
        let taint = "node.kubernetes.io/out-of-service";
        self.remember(["kubectl", "taint", "nodes", node, &format!("{taint}-")].map(str::to_owned).to_vec());
        kubectl(&["taint", "nodes", node, &format!("{taint}=nodeshutdown:NoExecute")]).await;
    }

    /// Answers of DNS are cached for so many seconds, as NodeLocal DNSCache does; 0 as kubeadm has it: not.
    pub async fn cache_dns(&self, seconds: u32) {
        self.later(&["dns-cache", "0"]);
        self.testcluster(&["dns-cache", &seconds.to_string()]).await;
    }

    /// The API server's log of requests by service accounts, one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.dir.join("log/audit.log")
    }

    /// Mends what is still broken, the last fault first.
    pub async fn undo(&self) {
        let actions = std::mem::take(&mut *self.undo.lock().expect("no panic inside"));
        for action in actions.into_iter().rev() {
            execute(action).await;
        }
    }

    fn later(&self, args: &[&str]) {
        self.remember(self.words(args));
    }

    fn remember(&self, action: Vec<String>) {
        let mut undo = self.undo.lock().expect("no panic inside");
        if !undo.contains(&action) {
            undo.push(action);
        }
    }

    /// A node that is up must not be started again.
    fn mended(&self, verb: &str, subject: &str) {
        let undone = self.words(&[verb, subject]);
        self.undo.lock().expect("no panic inside").retain(|action| *action != undone);
    }

    async fn testcluster(&self, args: &[&str]) {
        execute(self.words(args)).await;
    }

    /// The command line of a verb of the test cluster.
    fn words(&self, args: &[&str]) -> Vec<String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/testcluster/testcluster");
        let dir = self.dir.to_str().expect("a plain path");
        [&[script, args[0], dir], &args[1..]].concat().into_iter().map(str::to_owned).collect()
    }
}

async fn execute(command: Vec<String>) {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    succeed(words[0], &words[1..], "").await;
}
