//! The program that `run` runs, in a process group of its own.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use crate::error::Error;
use crate::exit::Exit;

/// A running program. Dropped while it runs, it is killed.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
    group: Option<Pid>,
}

impl Child {
    /// Starts `command` with PORT in its environment.
    ///
    /// A group of its own keeps Ctrl-C on the terminal from reaching it before the instance is drained.
    /// A program outside the terminal's foreground is stopped when it reads from there, so it gets no
    /// input then.
    pub(crate) fn start(command: &[OsString], port: u32) -> Result<Self, Error> {
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| Error::new(Exit::Usage, "run a program", "none is given", "write it after --"))?;
        let mut command = Command::new(program);
        command.args(arguments).env("PORT", port.to_string()).process_group(0).kill_on_drop(true);
        if io::stdin().is_terminal() {
            command.stdin(Stdio::null());
        }
        let process = command.spawn().map_err(|error| not_started(program, &error))?;
        let group = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { process, group })
    }

    /// Waits for its end. What it leaves behind in its group is killed: nobody would answer for it.
    /// Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Result<Exit, Error> {
        let status = self
            .process
            .wait()
            .await
            .map_err(|error| Error::new(Exit::Failure, "wait for the program", error.to_string(), ""))?;
        self.signal(Signal::KILL);
        self.group = None;
        Ok(Exit::Child(exit_code(status)))
    }

    /// Sends a signal to the program and whatever it started in its group. Nothing once it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // All of it may have ended; then there is nobody to signal.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// As shells do it: the code, or 128 + the signal that ended the program.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// As shells do it: 127 = not there, 126 = cannot be executed.
fn not_started(program: &OsString, error: &io::Error) -> Error {
    let (exit, hint) = match error.kind() {
        io::ErrorKind::NotFound => (Exit::Child(127), "check the name, or give its path"),
        io::ErrorKind::PermissionDenied => (Exit::Child(126), "make it executable"),
        _ => (Exit::Child(126), ""),
    };
    Error::new(exit, format!("run {}", program.display()), error.to_string(), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ended_by_a_signal_has_128_added() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(15)), 143);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }
}
