//! Prints the CustomResourceDefinition as YAML, for charts and manifests.

use std::io::Write as _;

use kube::CustomResourceExt as _;
use registry_operator::crd::RegistryCluster;

const HEADER: &str = "# Made by `cargo run -p registry-operator --bin crdgen`. Do not edit.\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = serde_saphyr::to_string(&RegistryCluster::crd())?;
    let mut stdout = std::io::stdout();
    stdout.write_all(HEADER.as_bytes())?;
    stdout.write_all(text.as_bytes())?;
    Ok(())
}
