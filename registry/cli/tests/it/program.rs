//! Starts `registryctl` and looks at what it does.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Far above what anything here takes; reached only when something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running `registryctl`.
pub(crate) struct Program {
    child: Child,
}

/// What it left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Program {
    /// Starts it with `arguments`, asking the registry at `endpoint`.
    pub(crate) fn start(endpoint: &str, arguments: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_registryctl"))
            .args(arguments)
            .env("REGISTRY_ENDPOINTS", endpoint)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// The next line of its output.
    pub(crate) async fn line(&mut self) -> String {
        let out = self.child.stdout.as_mut().unwrap();
        let mut line = Vec::new();
        let read = async {
            // Byte by byte, so that nothing of later lines is taken away.
            while !line.ends_with(b"\n") {
                let byte = out.read_u8().await.unwrap();
                line.push(byte);
            }
        };
        timeout(PATIENCE, read).await.expect("a line of output");
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// Closes the pipe that it writes to.
    pub(crate) fn stop_reading(&mut self) {
        drop(self.child.stdout.take());
    }

    pub(crate) async fn ended(self) -> Ended {
        let output = timeout(PATIENCE, self.child.wait_with_output()).await.expect("the end of it").unwrap();
        Ended {
            code: output.status.code().expect("an exit code"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs it to its end.
pub(crate) async fn registryctl(endpoint: &str, arguments: &[&str]) -> Ended {
    Program::start(endpoint, arguments).ended().await
}

/// A port that nobody listens on at present.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
