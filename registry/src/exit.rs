//! How the process ends: exit codes after `sysexits.h` (P/N10).

use std::fmt;
use std::process::ExitCode;

/// What the process tells whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Clean,
    /// A bug: a panic, or an invariant that does not hold.
    Bug,
    /// Reading, writing, syncing or binding failed.
    Io,
    /// Identity or configuration: a restart alone will not help.
    Config,
}

impl Exit {
    /// The code for the system.
    pub fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Bug => 70,
            Self::Io => 74,
            Self::Config => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a node ends against its will: one line for people, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fatal {
    /// The exit code.
    pub exit: Exit,
    /// What happened and what to do.
    pub message: String,
}

impl Fatal {
    /// The configuration or the identity is wrong.
    pub fn config(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Config, message: message.to_string() }
    }

    /// The system failed.
    pub fn io(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Io, message: message.to_string() }
    }

    /// This program is wrong.
    pub fn bug(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Bug, message: message.to_string() }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fatal {}

impl From<crate::identity::IdentityError> for Fatal {
    fn from(error: crate::identity::IdentityError) -> Self {
        match error {
            crate::identity::IdentityError::Io { .. } => Self::io(error),
            _ => Self::config(error),
        }
    }
}

/// Makes every panic end the process at once: a node with a part missing must not go on as a zombie that
/// others still count on. The kernel closes all sockets, so peers see it immediately.
pub fn end_process_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        tracing::error!(%panic, "a bug ends this node; please report it");
        std::process::exit(i32::from(Exit::Bug.code()));
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set in the process that panics.
    const PANICS: &str = "REGISTRY_TEST_PANICS";

    #[test]
    fn a_panic_on_any_thread_ends_the_process_as_a_bug() {
        if std::env::var_os(PANICS).is_some() {
            end_process_on_panic();
            // Without the hook it is this thread alone that ends.
            assert!(std::thread::spawn(|| panic!("on purpose")).join().is_err());
            return;
        }
        let own = std::env::current_exe().unwrap();
        let name = "exit::tests::a_panic_on_any_thread_ends_the_process_as_a_bug";
        let ended =
            Command::new(own).args(["--exact", name, "--nocapture"]).env(PANICS, "1").output().unwrap();
        assert_eq!(ended.status.code(), Some(i32::from(Exit::Bug.code())), "{ended:?}");
    }
}
