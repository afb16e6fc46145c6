//! One node as a process: started in a group of its own, recognised beyond doubt before it is signalled.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::folder::DevNode;

/// A process as `dev.json` notes it. Pids are reused, so a pid alone proves nothing: the start time and
/// a random word in the arguments must fit as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// As the system tells it; compared, never read.
    start_time: String,
    nonce: String,
}

impl Process {
    /// Starts `registry serve` for a node. Ctrl-C in the terminal does not reach it.
    pub(super) fn start(node: &DevNode, config: &Path, token: &Path) -> Result<(Child, Self), String> {
        let failed =
            |what: &str, error: std::io::Error| format!("cannot start {}: {what}: {error}", node.node_id);
        let program = std::env::current_exe().map_err(|error| failed("where is this program?", error))?;
        // Whatever is said before logging is set up, and the words of a panic, end in the same file.
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(&node.log)
            .map_err(|error| failed(&node.log.display().to_string(), error))?;
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let mut command = Command::new(program);
        command
            .args(["serve", "--config"])
            .arg(config)
            .args(["--node", &node.node_id, "--data-dir"])
            .arg(&node.data)
            .args(["--http-port", &node.http_port.to_string(), "--admin-token-file"])
            .arg(token)
            .arg("--log-file")
            .arg(&node.log)
            .args(["--dev-nonce", &nonce])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0);
        let child = command.spawn().map_err(|error| failed("no process", error))?;
        let pid = child.id();
        let start_time = start_time(pid).unwrap_or_default();
        Ok((child, Self { pid, start_time, nonce }))
    }

    /// Whether exactly this process runs. One that has ended but was not waited for does not run.
    pub(super) fn is_alive(&self) -> bool {
        !self.start_time.is_empty()
            && start_time(self.pid).as_deref() == Some(&self.start_time)
            && arguments(self.pid).is_some_and(|arguments| arguments.contains(&self.nonce))
    }

    /// Sends a signal; to one that has ended meanwhile that is no error.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), String> {
        if !self.is_alive() {
            return Ok(());
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or("a pid is out of range")?;
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(format!("cannot signal process {}: {error}", self.pid)),
        }
    }
}

/// When a process started; `None` if there is none, or if it is a zombie.
fn start_time(pid: u32) -> Option<String> {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return from_ps(pid, "lstart=") };
    // The name of the program may contain spaces; after its ")" the fields are plain: state is the first,
    // the start time in clock ticks since boot the twentieth (proc(5) counts from the pid: 3 and 22).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let is_zombie = matches!(fields.first(), Some(&"Z" | &"X"));
    fields.get(19).filter(|_| !is_zombie).map(|ticks| (*ticks).to_owned())
}

fn arguments(pid: u32) -> Option<String> {
    match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(_) => from_ps(pid, "args="),
    }
}

/// For systems without /proc.
fn from_ps(pid: u32, field: &str) -> Option<String> {
    if Path::new("/proc/self/stat").exists() {
        return None;
    }
    let output = Command::new("ps").args(["-o", field, "-p", &pid.to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}
