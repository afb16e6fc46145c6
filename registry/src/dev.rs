//! `registry dev`: a whole cluster on one machine, to try and to develop with.
//!
//! Each node is a process of its own, as in production, so that killing one is killing one. The folder
//! holds everything: configuration, data, logs, and `dev.json` with the processes that run.

mod folder;
mod observe;
mod process;
mod show;
mod up;

#[cfg(test)]
mod dev_test;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use folder::{Folder, Shape};
use show::Screen;

/// `registry dev`
#[derive(Debug, Args)]
pub struct Dev {
    /// Folder of the cluster: configuration, data, logs
    #[arg(
        long,
        global = true,
        default_value = "./.registry-dev",
        env = "REGISTRY_DEV_DIR",
        value_name = "DIR"
    )]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster and show who leads; Ctrl-C ends it. A second `up` goes on with the data
    Up(Up),
    /// End all nodes
    Down,
    /// Show the nodes
    Status,
    /// Kill a node (SIGKILL), as a crash does
    Kill {
        /// Its number, from 1
        number: usize,
    },
    /// Start a node that does not run
    Start {
        /// Its number, from 1
        number: usize,
    },
}

/// `registry dev up`
#[derive(Debug, Args)]
struct Up {
    /// Nodes: 1, 3, 5 or 7 [default: 3, or as many as the folder has]
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(["1", "3", "5", "7"]))]
    nodes: Option<String>,
    /// Remove the folder's cluster first: data, logs, configuration
    #[arg(long)]
    fresh: bool,
    /// Return when all nodes are ready, and leave them running; `registry dev down` ends them
    #[arg(long)]
    detach: bool,
    /// Address that the nodes listen on
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Client port of the first node; peer ports begin 1000, HTTP ports 1100 above it [default: 8080]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=64_000))]
    base_port: Option<u16>,
}

/// Longest wait for nodes to end after SIGTERM; then they are killed. An orderly stop without linger
/// takes at most 10 s of drain and 8 s around it.
const END_WAIT: Duration = Duration::from_secs(20);

/// Runs the command; `program` is what the user typed to start this program. Makes a runtime of its own.
pub fn run(dev: Dev, program: &str) -> ExitCode {
    let screen = Screen::new(program, &dev.dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(execute(dev, &screen)),
        Err(error) => Err(format!("cannot start: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            screen.error(&message);
            ExitCode::FAILURE
        }
    }
}

/// Every error is one line that says what to do.
async fn execute(dev: Dev, screen: &Screen) -> Result<(), String> {
    match dev.command {
        Command::Up(options) => {
            let shape = Shape {
                nodes: options.nodes.and_then(|nodes| nodes.parse().ok()),
                host: options.host,
                base_port: options.base_port,
            };
            let folder = Folder::create(&dev.dir, &shape, options.fresh)?;
            up::up(&folder, options.detach, screen).await
        }
        Command::Down => {
            let folder = Folder::open(&dev.dir)?;
            let running = folder.running()?;
            if running.is_empty() {
                screen.say("no node runs");
                return Ok(());
            }
            up::end_all(&folder, screen).await
        }
        Command::Status => {
            let folder = Folder::open(&dev.dir)?;
            screen.table(&observe::all(&folder).await?);
            Ok(())
        }
        Command::Kill { number } => {
            let folder = Folder::open(&dev.dir)?;
            let node = folder.node(number)?;
            folder.kill(&node)?;
            screen.say(&format!(
                "{} is killed; {} starts it again",
                node.node_id,
                screen.dev(&format!("start {number}"))
            ));
            Ok(())
        }
        Command::Start { number } => {
            let folder = Folder::open(&dev.dir)?;
            let node = folder.node(number)?;
            let mut child = folder.start(&node)?;
            screen.say(&format!("{} is starting", node.node_id));
            up::ready(&folder, std::slice::from_ref(&node), std::slice::from_mut(&mut child), screen).await?;
            screen.say(&format!("{} is ready", node.node_id));
            Ok(())
        }
    }
}
