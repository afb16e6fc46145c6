//! `registryctl`: registers programs, finds and watches services, shows the cluster.
//!
//! A library, so that the one binary that `cargo run` builds offers the same as `registry ctl`: [`run`] is
//! everything a program needs to call. Its parts: [`args`] says what can be typed, [`command`] does it,
//! [`output`] shows the answer, [`error`] and [`exit`] what went wrong.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches as _;

mod admin;
mod args;
mod command;
mod error;
mod exit;
mod output;
mod session;

use args::Cli;
use output::Screen;

/// Runs a command and returns the exit code, documented in `--help`.
///
/// `args` are those after the name of the program; `program_name` is what the user typed to get here, as
/// in "registryctl" or "registry ctl", and is used in help and messages. Makes a runtime of its own, so it
/// must not be called from within one.
pub fn run<I: IntoIterator<Item = OsString>>(args: I, program_name: &'static str) -> ExitCode {
    let parsed = Cli::described_as(program_name)
        .try_get_matches_from(args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to tell it to if the terminal is gone.
            let _ = error.print();
            let exit = if error.use_stderr() { exit::Exit::Usage } else { exit::Exit::Success };
            return exit.into();
        }
    };
    let colour = !cli.global.no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let screen = Screen::new(program_name, cli.global.output, colour);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            screen.warn(&format!("cannot start: {error}"));
            return exit::Exit::Failure.into();
        }
    };
    let exit = runtime.block_on(command::execute(cli, program_name, &screen)).unwrap_or_else(|error| {
        if error.exit != exit::Exit::Success {
            screen.fail(&error);
        }
        error.exit
    });
    // Calls that nobody waits for any more must not delay the end.
    runtime.shutdown_background();
    exit.into()
}
