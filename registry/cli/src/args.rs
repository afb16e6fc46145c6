//! The command line: every command, flag and default.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::exit;
use crate::output::Format;

pub(crate) mod admin;
pub(crate) mod instance;
pub(crate) mod operate;
pub(crate) mod read;
pub(crate) mod value;

use instance::{Content, InstanceOrLease};
use read::{Filter, Freshness};
use value::{LeaseId, Start};

/// Talks to a registry: registers programs, finds and watches services, shows the cluster.
#[derive(Debug, Parser)]
#[command(
    name = "registryctl",
    version,
    no_binary_name = true,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = exit::HELP
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The description of the command line, named as the user calls it (`registry ctl`).
    pub(crate) fn described_as(program_name: &str) -> clap::Command {
        Self::command().display_name(program_name).bin_name(program_name)
    }
}

/// What every command accepts.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Nodes to ask, HOST:PORT[,HOST:PORT...]; one that is reached is enough
    #[arg(
        long,
        global = true,
        env = "REGISTRY_ENDPOINTS",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "127.0.0.1:8080",
        value_parser = value::endpoint,
        help_heading = "Global options"
    )]
    pub(crate) endpoints: Vec<String>,

    /// Longest time for a call, retries included ("500ms", "5s"); watches last longer
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        default_value = "10s",
        value_parser = value::positive_duration,
        help_heading = "Global options"
    )]
    pub(crate) timeout: Duration,

    /// How to print the result; json is the API's answer as canonical proto3 JSON
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t = Format::Table,
        help_heading = "Global options"
    )]
    pub(crate) output: Format,

    /// No colours, even on a terminal (as with NO_COLOR set)
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) no_color: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register an instance of a service
    Register(Box<Register>),
    /// Renew the lease of an instance once
    Heartbeat(Target),
    /// Remove an instance, or all instances of a lease
    Deregister(Deregister),
    /// List services with their instances by state
    Services(Services),
    /// Show the instances of a service
    Discover(Box<Discover>),
    /// Print changes as they happen
    Watch(Watch),
    /// Show how the cluster is: leader, quorum, members, counts
    Status(Status),
    /// List the members of the cluster
    Members(Status),
    /// Add, remove and promote members, move leadership (administration)
    Member(admin::Member),
    /// Show or change the settings of the cluster (administration)
    Settings(admin::Settings),
    /// Take an instance out of traffic: DRAINING, and wait until every watcher has been told
    Drain(operate::Drain),
    /// Report a state in place of the owner
    State(operate::State),
    /// Show another state or weight than the owner's, until it is cleared or its time is over
    #[command(subcommand)]
    Override(operate::Override),
    /// End the mass-expiry guard
    #[command(subcommand)]
    Protection(operate::Protection),
    /// Run a program and keep it registered while it lives
    #[command(after_help = exit::RUN_HELP)]
    Run(Box<Run>),
    /// Print the completion script of a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// `register`
#[derive(Debug, Args)]
pub(crate) struct Register {
    /// Name of the service
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) service: String,

    /// Where the instance listens: a DNS name or an IP address
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) host: String,

    /// Main port of the instance
    #[arg(long, value_parser = value::port())]
    pub(crate) port: u32,

    #[command(flatten)]
    pub(crate) content: Content,

    /// State to report [default: up for a new owner, else unchanged]
    #[arg(long, value_enum)]
    pub(crate) state: Option<value::State>,

    /// Open lease to join; one renewal then keeps all its instances
    #[arg(long, value_name = "LEASE", conflicts_with = "keep")]
    pub(crate) lease: Option<LeaseId>,

    /// Keep the lease until Ctrl-C or SIGTERM, then deregister
    #[arg(long)]
    pub(crate) keep: bool,
}

/// `heartbeat`
#[derive(Debug, Args)]
pub(crate) struct Target {
    #[command(flatten)]
    pub(crate) target: InstanceOrLease,
}

/// `deregister`
#[derive(Debug, Args)]
pub(crate) struct Deregister {
    #[command(flatten)]
    pub(crate) target: InstanceOrLease,

    /// Tell watchers that an operator removed it, not its owner
    #[arg(long)]
    pub(crate) by_operator: bool,
}

/// `services`
#[derive(Debug, Args)]
pub(crate) struct Services {
    /// Only services whose name begins so
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,

    /// Namespace [default: default]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,

    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,

    #[command(flatten)]
    pub(crate) freshness: Freshness,
}

/// `discover`
#[derive(Debug, Args)]
pub(crate) struct Discover {
    /// Name of the service
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) service: String,

    /// Namespace [default: default]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,

    #[command(flatten)]
    pub(crate) filter: Filter,

    #[command(flatten)]
    pub(crate) freshness: Freshness,
}

/// `watch`
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Service to watch; without it all services of the namespace
    #[arg(conflicts_with = "all", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) service: Option<String>,

    /// Namespace [default: default]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,

    /// Everything, in all namespaces
    #[arg(short = 'A', long, visible_alias = "all-namespaces", conflicts_with = "namespace")]
    pub(crate) all: bool,

    /// Instead of a snapshot, the changes after this REVISION or EPOCH:REVISION
    #[arg(long, value_name = "POSITION")]
    pub(crate) from: Option<Start>,

    /// Begin with the next change; no snapshot
    #[arg(long)]
    pub(crate) changes_only: bool,

    /// End after the snapshot and this many changes; 0 = after the snapshot
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,

    /// Time between bookmarks while nothing happens, 1s to 5min; shown with -o wide, json and yaml
    #[arg(long, value_name = "TIME", value_parser = value::positive_duration)]
    pub(crate) bookmarks: Option<Duration>,

    #[command(flatten)]
    pub(crate) freshness: Freshness,
}

/// `status` and `members`
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only what the node asked knows itself; do not ask the leader
    #[arg(long)]
    pub(crate) local: bool,
}

/// `run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Name of the service that the program provides
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) service: String,

    /// Port on which the program listens; given to it as PORT
    #[arg(long, value_parser = value::port())]
    pub(crate) port: u32,

    /// Host under which others reach the program
    #[arg(long, default_value = "127.0.0.1", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) host: String,

    #[command(flatten)]
    pub(crate) content: Content,

    /// Where to try whether the program accepts connections [default: HOST:PORT as registered]
    #[arg(long, value_name = "HOST:PORT", value_parser = value::endpoint)]
    pub(crate) ready_address: Option<String>,

    /// Stop the program if it does not accept connections within this time [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = value::positive_duration)]
    pub(crate) start_timeout: Option<Duration>,

    /// Longest time for watchers to hear of the drain before the program is signalled
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = value::duration)]
    pub(crate) drain_timeout: Duration,

    /// Longest time for the program to end after the signal; then it is killed
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = value::duration)]
    pub(crate) stop_timeout: Duration,

    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[cfg(test)]
mod args_test;
