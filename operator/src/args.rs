//! Flags of the operator, each also as an environment variable, checked once.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

/// One for all operators of a namespace, unless told else.
const LEASE_NAME: &str = "registry-operator";

/// Keeps registry clusters on Kubernetes as their `RegistryCluster` objects say.
#[derive(Debug, Clone, Parser)]
#[command(name = "registry-operator", version)]
pub struct Args {
    /// Image of data pods whose RegistryCluster names none
    #[arg(long, env = "REGISTRY_OPERATOR_NODE_IMAGE", value_name = "IMAGE", value_parser = image)]
    pub node_image: String,
    /// Namespace to look after; may be given more than once, or separated by commas [default: all]
    #[arg(
        long = "watch-namespace",
        env = "REGISTRY_OPERATOR_WATCH_NAMESPACE",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,
    /// Domain of the cluster's DNS
    #[arg(
        long,
        env = "REGISTRY_OPERATOR_CLUSTER_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local",
        value_parser = domain
    )]
    pub cluster_domain: String,
    /// Address of /livez, /readyz and /metrics
    #[arg(
        long,
        env = "REGISTRY_OPERATOR_HTTP_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:8080"
    )]
    pub http_listen: SocketAddr,
    /// Namespace of the Lease that one operator holds [default: the operator's own]
    #[arg(long, env = "REGISTRY_OPERATOR_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of that Lease
    #[arg(long, env = "REGISTRY_OPERATOR_LEASE_NAME", value_name = "NAME", default_value = LEASE_NAME)]
    pub lease_name: String,
    /// Who holds it: the name of the pod, which no other running process has [default: a random one]
    #[arg(long, env = "REGISTRY_OPERATOR_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
    /// How log lines look
    #[arg(long, env = "REGISTRY_OPERATOR_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// What is logged, in the syntax of RUST_LOG
    #[arg(long, env = "REGISTRY_OPERATOR_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Args {
    /// Namespaces to look after, each once; none = all of them.
    pub fn namespaces(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .watch_namespaces
            .iter()
            .map(|name| name.trim())
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn image(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("name the image of the data pods, such as registry.dev/registry:0.1.0".to_owned()),
        image => Ok(image.to_owned()),
    }
}

/// Without dots at the ends: names of pods are put before it.
fn domain(text: &str) -> Result<String, String> {
    let fits = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let domain = text.trim().trim_end_matches('.');
    if domain.split('.').all(fits) {
        Ok(domain.to_owned())
    } else {
        Err(format!("{text:?} is no DNS domain; give such as cluster.local"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(flags: &[&str]) -> Result<Args, clap::Error> {
        let base = ["registry-operator", "--node-image", "registry.dev/registry:1"];
        Args::try_parse_from(base.iter().chain(flags))
    }

    #[test]
    fn an_image_is_all_that_must_be_given() {
        let args = parsed(&[]).unwrap();
        assert_eq!(args.cluster_domain, "cluster.local");
        assert_eq!(args.lease_name, "registry-operator");
        assert_eq!(args.http_listen.port(), 8080);
        assert!(args.namespaces().is_empty());
        assert!(Args::try_parse_from(["registry-operator", "--node-image", " "]).is_err());
    }

    #[test]
    fn namespaces_come_one_by_one_or_in_a_list_and_count_once() {
        let args = parsed(&["--watch-namespace", "b,a", "--watch-namespace", "b"]).unwrap();
        assert_eq!(args.namespaces(), ["a", "b"]);
        // A chart renders an empty list as an empty text.
        assert!(parsed(&["--watch-namespace", ""]).unwrap().namespaces().is_empty());
    }

    #[test]
    fn a_domain_loses_its_last_dot_and_must_be_one() {
        assert_eq!(parsed(&["--cluster-domain", "k8s.example."]).unwrap().cluster_domain, "k8s.example");
        assert!(parsed(&["--cluster-domain", "a..b"]).is_err());
        assert!(parsed(&["--cluster-domain", ""]).is_err());
    }
}
