//! Prints the CustomResourceDefinition as YAML, for charts and manifests.

use std::io::Write as _;

use kube::CustomResourceExt as _;
use registry_operator::crd::RegistryCluster;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = serde_saphyr::to_string(&RegistryCluster::crd())?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
