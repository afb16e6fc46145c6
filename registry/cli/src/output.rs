//! From answers of the API to text: tables for people, canonical JSON and YAML for programs.

use std::io::{self, IsTerminal as _, Write as _};

use crate::error::Error;

pub(crate) mod human;
pub(crate) mod message;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod view;
pub(crate) mod watch;

use style::Style;
use view::View;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// What people look at first
    Table,
    /// The same with everything
    Wide,
    /// The answer as canonical proto3 JSON; a watch prints one object per line
    Json,
    /// The same structure as YAML; a watch prints one document per message
    Yaml,
    /// Names alone, one per line
    Name,
}

/// What rendering depends on beside the answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rendering {
    /// How to print.
    pub(crate) format: Format,
    /// Colours or none.
    pub(crate) style: Style,
    /// Now, in seconds since 1970, to tell ages of points in time.
    pub(crate) now_unix_s: i64,
}

/// What a command prints: the result, and remarks that are not part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Printed {
    /// For stdout; ends with a newline unless empty.
    pub(crate) result: String,
    /// For stderr, one line each.
    pub(crate) remarks: Vec<String>,
}

/// Renders an answer.
pub(crate) fn render<V: View>(answer: &V, rendering: Rendering) -> Result<Printed, Error> {
    let result = match rendering.format {
        Format::Json => message::json_pretty(V::NAME, answer.message())?,
        Format::Yaml => message::yaml(V::NAME, answer.message())?,
        Format::Name => text::lines(answer.names()),
        Format::Table => answer.table(rendering, false),
        Format::Wide => answer.table(rendering, true),
    };
    let remarks = match rendering.format {
        Format::Table | Format::Wide => answer.remarks(rendering),
        Format::Json | Format::Yaml | Format::Name => Vec::new(),
    };
    Ok(Printed { result, remarks })
}

/// Where a command prints.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    program_name: String,
    format: Format,
    style: Style,
    error_style: Style,
    /// True if stderr is a terminal and people read the result: then progress is shown.
    progress: bool,
}

impl Screen {
    /// The standard streams. `colour` is false if the user wants none.
    pub(crate) fn new(program_name: &str, format: Format, colour: bool) -> Self {
        let errors = io::stderr().is_terminal();
        Self {
            program_name: program_name.to_owned(),
            format,
            style: Style { colour: colour && io::stdout().is_terminal() },
            error_style: Style { colour: colour && errors },
            progress: errors && matches!(format, Format::Table | Format::Wide),
        }
    }

    /// How to render now.
    pub(crate) fn rendering(&self) -> Rendering {
        Rendering { format: self.format, style: self.style, now_unix_s: jiff::Timestamp::now().as_second() }
    }

    /// Renders and prints an answer.
    pub(crate) fn show<V: View>(&self, answer: &V) -> Result<(), Error> {
        let printed = render(answer, self.rendering())?;
        self.print(&printed)
    }

    /// Prints.
    pub(crate) fn print(&self, printed: &Printed) -> Result<(), Error> {
        self.write(&printed.result)?;
        for remark in &printed.remarks {
            self.remark(remark);
        }
        Ok(())
    }

    /// Writes to stdout at once.
    pub(crate) fn write(&self, text: &str) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Error::output(&error))
    }

    /// Says something beside the result. Lost if stderr is closed, as nothing depends on it.
    pub(crate) fn remark(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", self.error_style.dim(line));
    }

    /// Says something that somebody should look at.
    pub(crate) fn warn(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{}: {line}", self.program_name);
    }

    /// Shows an error: a line, or an object with `-o json`.
    pub(crate) fn fail(&self, error: &Error) {
        let text = match self.format {
            Format::Json => error.json(),
            _ => format!("{}: {error}", self.error_style.bad(&self.program_name)),
        };
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Shows what is waited for until the result is dropped, if somebody is looking and it takes time.
    pub(crate) fn progress(&self, what: impl Into<String>) -> Progress {
        Progress::start(self.progress, what.into())
    }
}

/// A line on the terminal that says what is being waited for. Gone when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Progress {
    /// Most calls are over before anybody could read a line about them.
    const DELAY: std::time::Duration = std::time::Duration::from_millis(400);

    fn start(shown: bool, what: String) -> Self {
        let task = shown.then(|| {
            tokio::spawn(async move {
                let began = tokio::time::Instant::now();
                tokio::time::sleep(Self::DELAY).await;
                loop {
                    let line = format!("\r\x1b[K{what} … {} s", began.elapsed().as_secs());
                    let _ = write!(io::stderr().lock(), "{line}");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            })
        });
        Self { task }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod golden_admin_test;
#[cfg(test)]
mod golden_cluster_test;
#[cfg(test)]
mod golden_help_test;
#[cfg(test)]
mod golden_test;
