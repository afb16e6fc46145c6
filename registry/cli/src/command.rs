//! One module per group of commands.

use crate::args::{Cli, Command};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;

mod cluster;
mod completion;
mod discover;
mod keep;
mod member;
mod operate;
mod register;
mod run;
mod settings;
mod watch;

/// Does what was typed.
pub(crate) async fn execute(cli: Cli, program_name: &'static str, screen: &Screen) -> Result<Exit, Error> {
    let global = &cli.global;
    match cli.command {
        Command::Register(args) if args.keep => keep::keep(&args, global, screen).await,
        Command::Register(args) => register::register(&args, global, screen).await,
        Command::Heartbeat(args) => register::heartbeat(&args.target, global, screen).await,
        Command::Deregister(args) => register::deregister(&args, global, screen).await,
        Command::Services(args) => discover::services(&args, global, screen).await,
        Command::Discover(args) => discover::discover(&args, global, screen).await,
        Command::Watch(args) => watch::watch(&args, global, screen).await,
        Command::Status(args) => cluster::status(&args, global, screen).await,
        Command::Members(args) => cluster::members(&args, global, screen).await,
        Command::Member(args) => member::member(&args, global, screen).await,
        Command::Settings(args) => settings::settings(&args, global, screen).await,
        Command::Drain(args) => operate::drain(&args, global, screen).await,
        Command::State(args) => operate::state(&args, global, screen).await,
        Command::Override(args) => operate::overrides(&args, global, screen).await,
        Command::Protection(args) => operate::protection(&args, global, screen).await,
        Command::Run(args) => run::run(&args, global, screen).await,
        Command::Completion { shell } => completion::completion(shell, program_name, screen),
    }
}
