//! What the process writes about itself: to standard error or to a file, as text or as JSON.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

#[cfg(test)]
mod telemetry_test;

/// Size at which a log file is put aside; one older file is kept.
const FILE_BYTES: u64 = 16 << 20;

/// The registry's own words, and of the Raft library only what is serious: it reports every heartbeat that
/// a dead peer does not answer.
pub const DEFAULT_FILTER: &str = "info,openraft=error";

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Sets up logging for the whole process. `filter` is in the syntax of `RUST_LOG`, such as
/// `info,registry::raft=debug`; `file` replaces standard error and is rotated at 16 MiB.
///
/// # Errors
/// The filter cannot be read, the file cannot be opened, or logging is set up already.
pub fn init(format: LogFormat, filter: &str, file: Option<&Path>) -> Result<(), String> {
    // openraft tells every tick; what matters of it is told by our own code. Whoever asks for more gets it.
    let filter = EnvFilter::try_new(format!("openraft=error,{filter}")).map_err(|error| {
        format!("REGISTRY_LOG = {filter}: {error}; give such as info or info,registry::raft=debug")
    })?;
    let (writer, is_terminal) = match file {
        Some(path) => {
            let file = RotatingFile::open(path.to_owned(), FILE_BYTES)
                .map_err(|error| format!("cannot write the log file {}: {error}", path.display()))?;
            (BoxMakeWriter::new(Mutex::new(file)), false)
        }
        None => (BoxMakeWriter::new(io::stderr), io::stderr().is_terminal()),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        // Colour only where a person looks.
        LogFormat::Text => builder.with_ansi(is_terminal).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| error.to_string())
}

/// A file that is renamed to `NAME.1` when it is full, replacing the one before.
struct RotatingFile {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl RotatingFile {
    fn open(path: PathBuf, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, limit })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.path, old)?;
        *self = Self::open(self.path.clone(), self.limit)?;
        Ok(())
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.size >= self.limit {
            // A log that cannot be put aside goes on growing: better than to lose lines.
            let _ = self.rotate();
        }
        let written = self.file.write(line)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
