//! What `registry dev` prints.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use super::folder::Folder;
use super::observe::Row;

/// The folder that needs no `--dir`.
const DEFAULT_DIR: &str = "./.registry-dev";

/// The terminal, and how commands must be typed to work here.
#[derive(Debug)]
pub(super) struct Screen {
    program: String,
    dir: PathBuf,
    is_terminal: bool,
}

impl Screen {
    pub(super) fn new(program: &str, dir: &Path) -> Self {
        Self {
            program: program.to_owned(),
            dir: dir.to_owned(),
            is_terminal: std::io::stdout().is_terminal(),
        }
    }

    /// One line. Nobody is left to tell if the terminal is gone.
    pub(super) fn say(&self, line: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(std::io::stdout(), "{clear}{line}");
    }

    /// A line that the next one replaces; without a terminal it stays.
    pub(super) fn progress(&self, line: &str) {
        if self.is_terminal {
            let _ = write!(std::io::stdout(), "\r\x1b[K{line}");
            let _ = std::io::stdout().flush();
        } else {
            self.say(line);
        }
    }

    pub(super) fn error(&self, message: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(std::io::stderr(), "{clear}error: {message}");
    }

    /// A `dev` command for this folder, to be typed as it is.
    pub(super) fn dev(&self, command: &str) -> String {
        let dir = if self.dir == Path::new(DEFAULT_DIR) {
            String::new()
        } else {
            format!(" --dir {}", self.dir.display())
        };
        format!("{} dev{dir} {command}", self.program)
    }

    /// A `ctl` command for this cluster, to be typed as it is.
    fn ctl(&self, folder: &Folder, command: &str) -> String {
        let endpoints = if folder.has_default_ports() {
            String::new()
        } else {
            let list: Vec<_> = folder.nodes.iter().map(|node| node.client.as_str()).collect();
            format!(" --endpoints {}", list.join(","))
        };
        format!("{} ctl{endpoints} {command}", self.program)
    }

    pub(super) fn table(&self, rows: &[Row]) {
        let head = ["NODE", "CLIENT", "PEER", "HTTP", "PID", "ROLE", "REVISION", "STATE"].map(str::to_owned);
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let lines: Vec<[String; 8]> = rows
            .iter()
            .map(|row| {
                [
                    row.node.node_id.clone(),
                    row.node.client.clone(),
                    row.node.peer.clone(),
                    row.node.http.clone(),
                    number(row.pid.map(u64::from)),
                    row.role.clone(),
                    number(row.revision),
                    row.state.clone(),
                ]
            })
            .collect();
        let widths: [usize; 8] = std::array::from_fn(|column| {
            std::iter::once(&head).chain(&lines).map(|line| line[column].len()).max().unwrap_or(0)
        });
        for line in std::iter::once(&head).chain(&lines) {
            let cells: Vec<_> =
                line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            self.say(cells.join("  ").trim_end());
        }
    }

    /// What one can do now.
    pub(super) fn suggest(&self, folder: &Folder, detached: bool) {
        self.say("");
        self.say("Try, in another terminal:");
        self.say(&format!("  {}", self.ctl(folder, "register orders --host 127.0.0.1 --port 7001 --keep")));
        self.say(&format!("  {}", self.ctl(folder, "watch orders")));
        self.say(&format!("  {}", self.dev("kill 1")));
        self.say("");
        self.say("Administration asks for the token of this cluster:");
        self.say(&format!("  export REGISTRY_ADMIN_TOKEN_FILE={}", folder.token().display()));
        self.say(&format!("  {}", self.ctl(folder, "member list")));
        self.say(&format!("  {}", self.ctl(folder, "settings set default_ttl=30s")));
        self.say("");
        let end = if detached { self.dev("down") } else { "Ctrl-C".to_owned() };
        self.say(&format!("Logs: {}   Stop: {end}", folder.logs().display()));
    }
}
