//! Prints the CustomResourceDefinition as YAML, for charts and manifests.

use std::io::Write as _;

use kube::CustomResourceExt as _;
use registry_operator::crd::RegistryCluster;

const HEADER: &str = "# Made by `cargo run -p registry-operator --bin crdgen`. Do not edit.\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    std::io::stdout().write_all(text()?.as_bytes())?;
    Ok(())
}

fn text() -> Result<String, Box<dyn std::error::Error>> {
    Ok(format!("{HEADER}{}", serde_saphyr::to_string(&RegistryCluster::crd())?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_crd_of_the_chart_is_this_one() {
        let file = "../charts/registry-operator/files/registryclusters.registry.dev.yaml";
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(super::text().unwrap() == committed, "{file} has drifted: run manifests/render");
    }
}
