//! Flags that name an instance or say what to register.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use registry_proto::v1;

use super::value::{self, LeaseId};

/// What to register, beside service, host and port.
#[derive(Debug, Clone, Args)]
pub(crate) struct Content {
    /// Namespace [default: default]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,

    /// Id of the instance within its service [default: HOST:PORT]
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,

    /// Time to live of the lease, 1s to 1h; 0 = permanent [default: 15s]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    pub(crate) ttl: Option<Duration>,

    /// Share of the traffic relative to the others, 0 to 65535 [default: 100]
    #[arg(long, value_parser = value::weight())]
    pub(crate) weight: Option<u32>,

    /// Zone or rack
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) zone: String,

    /// Data of the owner; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = value::pair)]
    pub(crate) metadata: Vec<(String, String)>,

    /// Label of the instance; may be given again, or several with commas
    #[arg(long, value_delimiter = ',')]
    pub(crate) tag: Vec<String>,

    /// Further port; may be given again
    #[arg(long, value_name = "NAME=PORT", value_parser = value::named_port)]
    pub(crate) named_port: Vec<(String, u32)>,

    /// Incarnation that this owner held before; refused if another owner registered since
    #[arg(long, value_name = "N")]
    pub(crate) incarnation: Option<u64>,
}

impl Content {
    /// The request that registers `host:port` with this content.
    pub(crate) fn request(&self, service: &str, host: &str, port: u32) -> v1::ServiceRegisterRequest {
        let ports = self.named_port.iter().map(|(name, port)| (name.clone(), v1::Port { port: *port }));
        v1::ServiceRegisterRequest {
            service_name: service.to_owned(),
            host: host.to_owned(),
            port,
            namespace: self.namespace.clone(),
            instance_id: self.id.clone().unwrap_or_default(),
            incarnation: self.incarnation.unwrap_or_default(),
            ttl: self.ttl.map(proto_duration),
            weight: self.weight,
            zone: self.zone.clone(),
            metadata: self.metadata.iter().cloned().collect::<BTreeMap<_, _>>(),
            tags: self.tag.clone(),
            ports: ports.collect(),
            ..Default::default()
        }
    }
}

/// An instance, or a lease and so all its instances.
#[derive(Debug, Clone, Args)]
pub(crate) struct InstanceOrLease {
    /// Name of the service
    #[arg(required_unless_present = "lease", conflicts_with = "lease")]
    pub(crate) service: Option<String>,

    /// Host of the instance
    #[arg(
        long,
        requires = "port",
        conflicts_with_all = ["id", "lease"],
        required_unless_present_any = ["id", "lease"]
    )]
    pub(crate) host: Option<String>,

    /// Port of the instance
    #[arg(long, requires = "host", conflicts_with_all = ["id", "lease"], value_parser = value::port())]
    pub(crate) port: Option<u32>,

    /// Id of the instance, instead of host and port
    #[arg(long, value_name = "ID", conflicts_with = "lease")]
    pub(crate) id: Option<String>,

    /// Namespace [default: default]
    #[arg(short, long, default_value = "", hide_default_value = true, conflicts_with = "lease")]
    pub(crate) namespace: String,

    /// Only this incarnation; refused if another owner registered since
    #[arg(long, value_name = "N", conflicts_with = "lease")]
    pub(crate) incarnation: Option<u64>,

    /// All instances of this lease, as printed by register
    #[arg(long, value_name = "LEASE")]
    pub(crate) lease: Option<LeaseId>,
}

impl InstanceOrLease {
    /// The target in words, for messages.
    pub(crate) fn describe(&self) -> String {
        if let Some(lease) = self.lease {
            return format!("lease {lease}");
        }
        let service = self.service.as_deref().unwrap_or_default();
        let instance = match (&self.id, &self.host, self.port) {
            (Some(id), _, _) => id.clone(),
            (None, Some(host), Some(port)) => instance_id(host, port),
            _ => String::new(),
        };
        format!("{service}/{instance}")
    }
}

/// The id that the registry makes of host and port.
pub(crate) fn instance_id(host: &str, port: u32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A time as the API writes it.
pub(crate) fn proto_duration(time: Duration) -> prost_types::Duration {
    // A flag holds at most 584 years (milliseconds in 64 bits); the registry refuses far less.
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    // Below 1,000,000,000, so it fits.
    prost_types::Duration { seconds, nanos: time.subsec_nanos() as i32 }
}
