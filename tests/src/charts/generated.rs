//! Files that are made from the charts: the values schema of registry-cluster, the manifests, the tables of
//! values.

use super::{Helm, Render, chart_folder, read, spec_schema, table, values_schema};

/// Examples of the chart registry-cluster that become samples.
const SAMPLES: [&str; 3] = ["minimal", "production", "development"];

const INSTALL_HEAD: &str = "\
# The RegistryCluster CRD and its operator, in the namespace registry-system:
#   kubectl apply -f manifests/install.yaml
# Rendered from charts/registry-operator by manifests/render; change it there.
---
apiVersion: v1
kind: Namespace
metadata:
  name: registry-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/warn: restricted
";

/// Each generated file: its path from the root, and what it must hold.
pub fn generated(helm: &Helm) -> Vec<(String, String)> {
    let schema = values_schema::of_cluster(&spec_schema());
    let mut files = vec![("charts/registry-cluster/values.schema.json".to_owned(), schema)];
    files.push(("manifests/install.yaml".to_owned(), install(helm)));
    for sample in SAMPLES {
        files.push((format!("manifests/samples/{sample}.yaml"), self::sample(helm, sample)));
    }
    for chart in ["registry-operator", "registry-cluster"] {
        let readme = format!("charts/{chart}/README.md");
        let values = read(&format!("charts/{chart}/values.yaml"));
        let text = table::replace(&read(&readme), &table::of_values(&values));
        files.push((readme, text));
    }
    files
}

fn install(helm: &Helm) -> String {
    let render = Render { namespace: "registry-system", skip_tests: true, ..Render::default() };
    let text = helm.render(&chart_folder("registry-operator"), &render).unwrap_or_else(|e| panic!("{e}"));
    format!("{INSTALL_HEAD}{}", without_helm(&text))
}

/// The comment at the head of an example, and what the chart makes of it. No namespace: `kubectl -n` says it.
fn sample(helm: &Helm, name: &str) -> String {
    let values = read(&format!("charts/registry-cluster/examples/{name}.yaml"));
    let comment: Vec<&str> = values.lines().take_while(|line| line.starts_with('#')).collect();
    let render = Render { values: &values, skip_tests: true, ..Render::default() };
    let text = helm.render(&chart_folder("registry-cluster"), &render).unwrap_or_else(|e| panic!("{e}"));
    let text = without_helm(&text).replace("  namespace: default\n", "");
    format!("{}\n{}", comment.join("\n"), text.trim_start_matches("---\n"))
}

/// A rendering without the marks that would call its objects helm's.
fn without_helm(text: &str) -> String {
    let marks = ["# Source: ", "helm.sh/chart: ", "app.kubernetes.io/managed-by: Helm"];
    let kept = text.lines().filter(|line| !marks.iter().any(|mark| line.trim_start().starts_with(mark)));
    kept.flat_map(|line| [line, "\n"]).collect()
}
