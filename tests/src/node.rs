//! One `registry serve` process.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::api::Api;
use crate::binaries::binaries;
use crate::wait;

/// Variable that names the place at which a node of a debug build dies.
pub const CRASH_POINT: &str = "REGISTRY_CRASH_POINT";

/// Where a node listens and is reached, and where its files are.
#[derive(Debug)]
pub struct Node {
    /// Such as "registry-node-1".
    pub name: String,
    /// Address that it binds.
    pub listen: Ipv4Addr,
    /// Client port.
    pub client_port: u16,
    /// Peer port.
    pub peer_port: u16,
    /// Port of probes and metrics.
    pub http_port: u16,
    /// Its data folder.
    pub data: PathBuf,
    /// Its log file, appended to at each start.
    pub log: PathBuf,
    config: PathBuf,
    environment: Vec<(String, String)>,
    launcher: Vec<String>,
    child: Option<Child>,
}

impl Node {
    /// A node that is not started yet.
    pub fn new(folder: &Path, config: &Path, index: usize, listen: Ipv4Addr) -> Self {
        let name = format!("registry-node-{}", index + 1);
        let offset = u16::try_from(index).expect("few nodes");
        Self {
            listen,
            client_port: 8080 + offset,
            peer_port: 9080 + offset,
            http_port: 9180 + offset,
            data: folder.join("data").join(&name),
            log: folder.join(format!("{name}.log")),
            config: config.to_owned(),
            environment: Vec::new(),
            launcher: Vec::new(),
            child: None,
            name,
        }
    }

    /// Sets a variable for the next start.
    pub fn set_env(&mut self, key: &str, value: impl Into<String>) {
        self.environment.retain(|(present, _)| present != key);
        self.environment.push((key.into(), value.into()));
    }

    /// Words that the next start puts before the program, such as `nsenter` with its arguments. They must
    /// become the program without a fork, so that its process id is the one that is known.
    pub fn set_launcher(&mut self, words: Vec<String>) {
        self.launcher = words;
    }

    /// `registry serve` without a data folder, for tests that look at its exit.
    pub fn command(&self) -> Command {
        let program = &binaries().registry;
        let mut command = match self.launcher.split_first() {
            None => Command::new(program),
            Some((launcher, words)) => {
                let mut command = Command::new(launcher);
                command.args(words).arg(program);
                command
            }
        };
        command
            .args(["serve", "--config"])
            .arg(&self.config)
            // As a pod gets it.
            .env("REGISTRY_NODE_ID", &self.name)
            .env_remove("RUST_LOG")
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null());
        command
    }

    /// Starts the process. It may take a while until it answers.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).expect("the log file opens");
        let mut command = self.command();
        command.arg("--data-dir").arg(&self.data);
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().expect("the node starts"));
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// True between start and kill, stop or exit as seen by the harness.
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid")).expect("not 0");
        kill_process(pid, signal).expect("the process exists");
    }

    /// kill -9, and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().expect("the child is ours");
        }
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exited().await
    }

    /// Whether the process has ended by itself; [`exited`](Self::exited) tells how.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().expect("the child is ours").is_some())
    }

    /// Waits until the process has ended by itself.
    pub async fn exited(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the node runs");
        wait::until(&format!("{} to end", self.name), wait::PATIENCE, || {
            let status = child.try_wait().expect("the child is ours");
            async move { status.ok_or("it runs") }
        })
        .await
    }

    /// `HOST:PORT` of the client port, without any proxy.
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.listen, self.client_port)
    }

    /// `HOST:PORT` of the peer port, without any proxy.
    pub fn peer_endpoint(&self) -> String {
        format!("{}:{}", self.listen, self.peer_port)
    }

    /// Bare calls to it.
    pub fn api(&self) -> Api {
        Api::new(&self.endpoint())
    }

    /// The body of `GET path` on its HTTP port.
    ///
    /// # Errors
    /// What went wrong, or the status line if it is not 200.
    pub async fn http(&self, path: &str) -> Result<String, String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let exchange = async {
            let mut stream = tokio::net::TcpStream::connect((self.listen, self.http_port)).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = tokio::time::timeout(Duration::from_secs(5), exchange)
            .await
            .map_err(|_| "no answer in 5 s".to_owned())?
            .map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
        let status = head.lines().next().unwrap_or_default();
        if status.contains(" 200") { Ok(body.to_owned()) } else { Err(format!("{status}: {body}")) }
    }

    /// The value of a metric without labels, or the sum over its labels; `None` if it is not there.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.http("/metrics").await.ok()?;
        let values: Vec<f64> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (key, value) = line.rsplit_once(' ')?;
                let key = key.split('{').next()?;
                (key == name).then(|| value.parse().ok())?
            })
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process exists");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has VmRSS");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|value| value.parse().ok()).expect("a number");
        kib * 1024
    }

    /// The whole log so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until `/readyz` says so.
    pub async fn ready(&self) {
        wait::until(&format!("{} to be ready", self.name), wait::PATIENCE, || self.http("/readyz")).await;
    }

    /// Waits until it is not ready, and says this among the reasons.
    pub async fn waits_for(&self, text: &str) {
        wait::until(&format!("{} to say {text:?}", self.name), wait::PATIENCE, || async {
            match self.http("/readyz").await {
                Err(said) if said.contains(text) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Waits until it has died at the crash point that it was started with, which the next start leaves out.
    pub async fn dies_at(&mut self, place: &str) {
        let status = self.exited().await;
        assert!(!status.success() && status.code().is_none(), "it died at {place}: {status}");
        assert!(self.log_text().contains(&format!("place=\"{place}\"")), "{place} was reached");
        self.set_env(CRASH_POINT, "");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
