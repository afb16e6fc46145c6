//! Helm charts: rendering them, and what is generated from them.

pub mod generated;
mod table;
mod values_schema;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The oldest Kubernetes that the charts allow. Helm itself knows none without a cluster.
const KUBERNETES: &str = "1.33.0";

/// The folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

/// The helm named by `REGISTRY_TEST_HELM`. `None` if there is none; then the reason has been printed.
pub fn helm() -> Option<Helm> {
    let program = std::env::var_os("REGISTRY_TEST_HELM").map(PathBuf::from);
    if program.is_none() {
        println!(
            "SKIPPED: no helm named: REGISTRY_TEST_HELM=\"$(tests/kube/tools)/helm\" cargo test -p registry-tests --test charts"
        );
    }
    program.map(Helm)
}

/// A helm program.
#[derive(Debug)]
pub struct Helm(PathBuf);

/// How a chart is rendered.
#[derive(Debug, Default)]
pub struct Render<'a> {
    /// Release; empty: the name of the chart.
    pub release: &'a str,
    /// Namespace; empty: `default`.
    pub namespace: &'a str,
    /// Values as YAML.
    pub values: &'a str,
    /// Whether the pods of `helm test` are left out.
    pub skip_tests: bool,
}

impl Helm {
    /// Renders the chart in a folder as `helm template` does, or tells what helm says against it.
    pub fn render(&self, chart: &Path, render: &Render<'_>) -> Result<String, String> {
        let values = tempfile::NamedTempFile::new().expect("a file for the values");
        std::fs::write(values.path(), render.values).expect("values are written");
        let chart_name = chart.file_name().expect("a folder").to_string_lossy();
        let release = if render.release.is_empty() { &*chart_name } else { render.release };
        let mut helm = Command::new(&self.0);
        helm.args(["template", release]).arg(chart).arg("--values").arg(values.path());
        helm.args(["--kube-version", KUBERNETES]);
        if !render.namespace.is_empty() {
            helm.args(["--namespace", render.namespace]);
        }
        if render.skip_tests {
            helm.arg("--skip-tests");
        }
        let output = helm.output().expect("helm starts");
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).expect("helm prints text"))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// The objects of a chart of this repository with these values, in the order of the rendering.
    pub fn objects(&self, chart: &str, values: &str) -> Vec<Value> {
        let render = Render { values, namespace: "here", ..Render::default() };
        let text = self.render(&chart_folder(chart), &render).unwrap_or_else(|error| panic!("{error}"));
        documents(&text)
    }

    /// What helm says against these values.
    pub fn refusal(&self, chart: &str, values: &str) -> String {
        let render = Render { values, ..Render::default() };
        match self.render(&chart_folder(chart), &render) {
            Ok(_) => panic!("{chart} takes {values}"),
            Err(message) => message,
        }
    }
}

/// The folder of a chart.
pub fn chart_folder(chart: &str) -> PathBuf {
    root().join("charts").join(chart)
}

/// A file of the repository.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents of a YAML text that are not empty.
pub fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    all.into_iter().filter(|document| !document.is_null()).collect()
}

/// The schema of `spec` in the CRD, as `crdgen` wrote it.
pub fn spec_schema() -> Value {
    let crd = documents(&read(CRD)).remove(0);
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// The CRD in the chart of the operator, written by `crdgen`.
pub const CRD: &str = "charts/registry-operator/files/registryclusters.registry.dev.yaml";
