//! The program `registry`: a node, a cluster to develop with, and the command line, in one binary.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use registry::config::{self, ConfigErrors, Sources};
use registry::crash_point::{self, CrashPoint};
use registry::environment::Environment;
use registry::exit::{Exit, Fatal, end_process_on_panic};
use registry::hosts_file;
use registry::node::{self, Spawners};
use registry::telemetry::{self, LogFormat};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A service registry: three or five nodes hold one replicated map of services and their instances.
#[derive(Debug, Parser)]
#[command(name = "registry", version, args_override_self = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes of serve: 0 stopped as asked, 70 a bug, 74 input or output failed, 78 configuration or identity.

Try it:  registry dev up";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node of a cluster
    #[command(args_override_self = true)]
    Serve(Serve),
    /// Run a whole cluster on this machine, to try and to develop with
    Dev(registry::dev::Dev),
    /// Check a configuration, or print the default one
    Config {
        #[command(subcommand)]
        command: Config,
    },
    /// Talk to a cluster: register, discover, watch, status ... (as the program registryctl)
    #[command(disable_help_flag = true)]
    Ctl {
        /// What registryctl shall do; `registry ctl --help` lists it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// Configuration: JSON or YAML, the same for all nodes
    #[arg(long, env = "REGISTRY_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Which node of the file this is; may be left out if there is only one
    #[arg(long, env = "REGISTRY_NODE_ID", value_name = "NODE_ID")]
    node: Option<String>,
    /// Folder of the node's data [default: ./data/NODE_ID]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Host or address that the listeners bind [default: the node's host]
    #[arg(long, value_name = "HOST")]
    listen: Option<String>,
    /// Port of /livez, /readyz and /metrics [default: as listed, else 9180 + number of earlier nodes with the same host]
    #[arg(long, value_name = "PORT")]
    http_port: Option<String>,
    /// File with the token for administration [default: none, only loopback is answered]
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<String>,
    /// Peer addresses of a running cluster to join, instead of founding one: HOST:PORT[,HOST:PORT...]
    #[arg(long, value_name = "ADDRESSES")]
    join: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or by module as in info,registry::raft=debug
    #[arg(long, env = "REGISTRY_LOG", default_value = telemetry::DEFAULT_FILTER, value_name = "FILTER")]
    log: String,
    /// How log lines look
    #[arg(long, env = "REGISTRY_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// Write the log to this file, put aside at 16 MiB, instead of standard error
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Marks the process for `registry dev`
    #[arg(long, hide = true)]
    dev_nonce: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Config {
    /// Check a configuration file together with the environment; every error is told
    Check {
        /// The file
        #[arg(long, env = "REGISTRY_CONFIG", value_name = "FILE")]
        config: PathBuf,
        /// Only as this node would read it
        #[arg(long, env = "REGISTRY_NODE_ID", value_name = "NODE_ID")]
        node: Option<String>,
    },
    /// Print a file with every setting, its default, bounds, meaning and environment variable
    PrintDefault,
}

fn main() -> ExitCode {
    let program = std::env::args().next().unwrap_or_else(|| "registry".to_owned());
    match Cli::parse().command {
        Command::Serve(options) => serve(options),
        Command::Dev(dev) => registry::dev::run(dev, &program),
        Command::Config { command: Config::PrintDefault } => {
            // A reader that has gone away has seen enough.
            let _ = std::io::stdout().write_all(config::print_default().as_bytes());
            ExitCode::SUCCESS
        }
        Command::Config { command: Config::Check { config, node } } => check(config, node),
        Command::Ctl { arguments } => registryctl::run(arguments, "registry ctl"),
    }
}

/// One line per error on standard error.
fn fail(fatal: &Fatal) -> ExitCode {
    for line in fatal.message.lines() {
        let _ = writeln!(std::io::stderr(), "error: {line}");
    }
    fatal.exit.into()
}

fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("REGISTRY_"))
        .collect()
}

fn check(file: PathBuf, node_id: Option<String>) -> ExitCode {
    let sources = Sources { file, environment: environment(), flags: Vec::new(), node_id };
    let checked = match sources.node_id {
        Some(_) => config::load(&sources).map(|config| vec![config]),
        None => config::check_all(&sources),
    };
    match checked {
        Ok(configs) => {
            for config in configs {
                let _ = writeln!(
                    std::io::stdout(),
                    "{}: clients {}, nodes {}, http {}, data {}",
                    config.node.node_id,
                    config.client_bind(),
                    config.peer_bind(),
                    config.http_bind(),
                    config.data_dir.display()
                );
            }
            ExitCode::SUCCESS
        }
        Err(errors) => fail(&Fatal::config(errors)),
    }
}

fn serve(options: Serve) -> ExitCode {
    match start(options) {
        Ok(()) => Exit::Clean.into(),
        Err(fatal) => fail(&fatal),
    }
}

fn start(options: Serve) -> Result<(), Fatal> {
    let flags = [
        ("data_dir", options.data_dir),
        ("listen", options.listen),
        ("http_port", options.http_port),
        ("admin_token_file", options.admin_token_file),
        ("join", options.join),
    ];
    let sources = Sources {
        file: options.config,
        environment: environment(),
        flags: flags.into_iter().filter_map(|(path, value)| Some((path, value?))).collect(),
        node_id: options.node,
    };
    let config = config::load(&sources).map_err(|errors: ConfigErrors| Fatal::config(errors))?;
    telemetry::init(options.log_format, &options.log, options.log_file.as_deref()).map_err(Fatal::config)?;
    end_process_on_panic();
    for (name, _) in sources.environment.iter().filter(|(name, _)| !config::is_own_variable(name)) {
        tracing::debug!(name, "an environment variable that this program does not know is ignored");
    }

    // Raft has a runtime of its own: however busy the clients keep theirs, heartbeats go out in time.
    let raft = runtime("raft", 2)?;
    let clients = runtime("clients", std::thread::available_parallelism().map_or(2, usize::from).max(2))?;
    let spawners = Spawners { clients: clients.handle().clone(), raft: raft.handle().clone() };
    let outcome = clients.block_on(async {
        let signals = signals()?;
        let given = |variable: &str| {
            let found = sources.environment.iter().find(|(name, _)| name == variable);
            found.map(|(_, value)| value.as_str())
        };
        let crash = given(crash_point::VARIABLE).map(CrashPoint::at).unwrap_or_default();
        let names = hosts_file::resolver(given(hosts_file::VARIABLE));
        let environment = Environment { crash, ..Environment::with_names(names) };
        node::run(config, environment, spawners, signals).await
    });
    // What still runs is of no use to anybody.
    clients.shutdown_background();
    raft.shutdown_background();
    // Whoever reads standard error sees the line that `fail` writes there.
    if let Err(fatal) = &outcome
        && options.log_format == LogFormat::Json
    {
        tracing::error!(exit = fatal.exit.code(), "{fatal}");
    }
    outcome
}

fn runtime(name: &'static str, threads: usize) -> Result<tokio::runtime::Runtime, Fatal> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(|error| Fatal::io(format!("cannot start threads: {error}")))
}

/// Counts SIGTERM and SIGINT: the first asks for an orderly stop, the second ends at once (P/N9).
fn signals() -> Result<watch::Receiver<u32>, Fatal> {
    let listen =
        |kind| signal(kind).map_err(|error| Fatal::io(format!("cannot listen for signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(counted)
}
