//! `member`, `settings`: what an administrator can type.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::value;

/// What every administrative command accepts.
#[derive(Debug, Clone, Args)]
pub(crate) struct Access {
    /// File with the administrator's token, if the nodes have one
    #[arg(long, env = "REGISTRY_ADMIN_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
}

/// `member`
#[derive(Debug, Args)]
pub(crate) struct Member {
    #[command(subcommand)]
    pub(crate) command: MemberCommand,
}

/// What to do with members.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// List the members as the leader knows them, and what it does about them
    List(Access),
    /// Admit a node that runs and waits, and show how it becomes a member
    Add(Add),
    /// Remove members for good, all in one change
    Remove(Remove),
    /// Make learners voters, all in one change
    Promote(Promote),
    /// Hand leadership to another voter
    TransferLeader(TransferLeader),
}

/// `member add`
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Name of the node, as it was started with
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,

    /// Where the other nodes reach it: HOST:PORT of its peer port
    #[arg(value_parser = value::endpoint)]
    pub(crate) endpoint: String,

    /// Longest time to follow it until it has caught up; 0 = do not wait
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = value::duration)]
    pub(crate) wait: Duration,

    #[command(flatten)]
    pub(crate) access: Access,
}

/// `member remove`
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Names or Raft ids of the members
    #[arg(required = true, value_name = "NAME|ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) members: Vec<String>,

    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,

    #[command(flatten)]
    pub(crate) access: Access,
}

/// `member promote`
#[derive(Debug, Args)]
pub(crate) struct Promote {
    /// Names or Raft ids of learners
    #[arg(required = true, value_name = "NAME|ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) members: Vec<String>,

    /// Voter that leaves in the same change; can be given several times
    #[arg(long, value_name = "NAME|ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) replacing: Vec<String>,

    /// Log entries that each may be behind [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_lag: Option<u64>,

    #[command(flatten)]
    pub(crate) access: Access,
}

/// `member transfer-leader`
#[derive(Debug, Args)]
pub(crate) struct TransferLeader {
    /// Name or Raft id of a voter [default: the one whose log is furthest]
    #[arg(value_name = "NAME|ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) member: Option<String>,

    #[command(flatten)]
    pub(crate) access: Access,
}

/// `settings`
#[derive(Debug, Args)]
pub(crate) struct Settings {
    #[command(subcommand)]
    pub(crate) command: SettingsCommand,
}

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub(crate) enum SettingsCommand {
    /// Show the settings of the cluster
    Get {
        /// Only these, or those that begin so ("quotas")
        #[arg(value_name = "KEY")]
        keys: Vec<String>,

        #[command(flatten)]
        access: Access,
    },
    /// Change settings on all nodes at once
    Set(SetSettings),
}

/// `settings set`
#[derive(Debug, Args)]
pub(crate) struct SetSettings {
    /// What to change, as in default_ttl=30s quotas.services=5000 history.bytes=32MiB
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = value::pair)]
    pub(crate) changes: Vec<(String, String)>,

    /// Only if the settings have this version, as `settings get` shows it
    #[arg(long, value_name = "N")]
    pub(crate) expected_version: Option<u64>,

    #[command(flatten)]
    pub(crate) access: Access,
}
