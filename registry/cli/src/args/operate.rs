//! What operators can type: drains, states, overrides, the end of protection.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use registry_proto::v1;

use super::instance::proto_duration;
use super::read::Freshness;
use super::value::{self, LeaseId};

/// One instance, by its id.
#[derive(Debug, Clone, Args)]
pub(crate) struct Named {
    /// Name of the service
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) service: String,

    /// Id of the instance: HOST:PORT, unless its owner chose another
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) instance: String,

    /// Namespace [default: default]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,
}

impl Named {
    /// The instance in words, for messages.
    pub(crate) fn describe(&self) -> String {
        format!("{}/{}", self.service, self.instance)
    }
}

/// `drain`
#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// Name of the service
    #[arg(required_unless_present = "lease", conflicts_with = "lease", requires = "instance")]
    pub(crate) service: Option<String>,

    /// Id of the instance: HOST:PORT, unless its owner chose another
    #[arg(conflicts_with = "lease")]
    pub(crate) instance: Option<String>,

    /// Namespace [default: default]
    #[arg(short, long, default_value = "", hide_default_value = true, conflicts_with = "lease")]
    pub(crate) namespace: String,

    /// Only this incarnation; refused if another owner registered since
    #[arg(long, value_name = "N", conflicts_with = "lease")]
    pub(crate) incarnation: Option<u64>,

    /// All instances of this lease, as printed by register
    #[arg(long, value_name = "LEASE")]
    pub(crate) lease: Option<LeaseId>,

    /// As an operator: by an override, which the owner cannot undo; `override clear` ends it
    #[arg(long, conflicts_with = "lease")]
    pub(crate) by_operator: bool,

    /// Longest time to wait until every watcher has been told, up to 5min; 0 = do not wait
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = value::duration)]
    pub(crate) wait: Duration,
}

impl Drain {
    /// What is drained, in words, for messages.
    pub(crate) fn describe(&self) -> String {
        match (self.lease, &self.service, &self.instance) {
            (Some(lease), _, _) => format!("lease {lease}"),
            (None, Some(service), Some(instance)) => format!("{service}/{instance}"),
            (None, _, _) => String::new(),
        }
    }

    /// The request.
    pub(crate) fn request(&self) -> v1::DrainRequest {
        v1::DrainRequest {
            service_name: self.service.clone().unwrap_or_default(),
            namespace: self.namespace.clone(),
            instance_id: self.instance.clone().unwrap_or_default(),
            incarnation: self.incarnation.unwrap_or_default(),
            lease_id: self.lease.map_or(0, |lease| lease.0),
            timeout: Some(proto_duration(self.wait)),
            by_operator: self.by_operator,
            ..Default::default()
        }
    }
}

/// `state`
#[derive(Debug, Args)]
pub(crate) struct State {
    #[command(flatten)]
    pub(crate) named: Named,

    /// State to report for its owner
    #[arg(value_enum)]
    pub(crate) state: value::State,

    /// Only this incarnation; refused if another owner registered since
    #[arg(long, value_name = "N")]
    pub(crate) incarnation: Option<u64>,
}

impl State {
    /// The request.
    pub(crate) fn request(&self) -> v1::SetInstanceStateRequest {
        v1::SetInstanceStateRequest {
            service_name: self.named.service.clone(),
            namespace: self.named.namespace.clone(),
            instance_id: self.named.instance.clone(),
            incarnation: self.incarnation.unwrap_or_default(),
            state: v1::InstanceState::from(self.state).into(),
            ..Default::default()
        }
    }
}

/// `override`
#[derive(Debug, Subcommand)]
pub(crate) enum Override {
    /// Set an override, in place of an earlier one
    Set(SetOverride),
    /// Clear the override of an instance
    Clear(Named),
    /// List overrides, also of instances that are not registered
    List(ListOverrides),
}

/// `override set`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("shown").args(["state", "weight"]).multiple(true).required(true))]
pub(crate) struct SetOverride {
    #[command(flatten)]
    pub(crate) named: Named,

    /// State to show instead of the reported one
    #[arg(long, value_enum)]
    pub(crate) state: Option<value::State>,

    /// Weight to show instead of the registered one, 0 to 65535; 0 = no traffic
    #[arg(long, value_parser = value::weight())]
    pub(crate) weight: Option<u32>,

    /// Time after which it ends by itself, 1s to 90 days [default: only when cleared]
    #[arg(long, value_name = "TIME", value_parser = value::positive_duration)]
    pub(crate) ttl: Option<Duration>,

    /// Why, for those who find it
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) comment: String,

    /// Who, for those who find it
    #[arg(long, env = "USER", hide_env_values = true, default_value = "", hide_default_value = true)]
    pub(crate) actor: String,
}

impl SetOverride {
    /// The request.
    pub(crate) fn request(&self) -> v1::SetInstanceOverrideRequest {
        let state = self.state.map_or(v1::InstanceState::Unspecified, Into::into);
        v1::SetInstanceOverrideRequest {
            service_name: self.named.service.clone(),
            namespace: self.named.namespace.clone(),
            instance_id: self.named.instance.clone(),
            operator_override: Some(v1::InstanceOverride {
                state: state.into(),
                weight: self.weight,
                comment: self.comment.clone(),
                actor: self.actor.clone(),
                ..Default::default()
            }),
            ttl: self.ttl.map(proto_duration),
            ..Default::default()
        }
    }
}

/// `override list`
#[derive(Debug, Args)]
pub(crate) struct ListOverrides {
    /// Only of this service [default: all of the namespace]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) service: Option<String>,

    /// Namespace [default: default]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,

    /// All namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "service"])]
    pub(crate) all_namespaces: bool,

    #[command(flatten)]
    pub(crate) freshness: Freshness,
}

/// `protection`
#[derive(Debug, Subcommand)]
pub(crate) enum Protection {
    /// Let go what the mass-expiry guard keeps: whoever is silent expires now
    End(EndProtection),
}

/// `protection end`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").args(["service", "namespace", "all"]).multiple(true).required(true))]
pub(crate) struct EndProtection {
    /// Only of this service; without it of the whole --namespace
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) service: Option<String>,

    /// Namespace [default: default]
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,

    /// Everywhere, in all namespaces
    #[arg(short = 'A', long, visible_alias = "all-namespaces", conflicts_with_all = ["namespace", "service"])]
    pub(crate) all: bool,
}

impl EndProtection {
    /// Where, in words, for messages.
    pub(crate) fn describe(&self) -> String {
        match (&self.service, &self.namespace) {
            _ if self.all => "all namespaces".to_owned(),
            (Some(service), _) => service.clone(),
            (None, namespace) => format!("namespace {}", namespace.as_deref().unwrap_or("default")),
        }
    }

    /// The request.
    pub(crate) fn request(&self) -> v1::EndProtectionRequest {
        v1::EndProtectionRequest {
            service_name: self.service.clone().unwrap_or_default(),
            namespace: self.namespace.clone().unwrap_or_default(),
            all_namespaces: self.all,
            ..Default::default()
        }
    }
}
