//! What helm prints after an installation. `helm template` leaves it out, so it is rendered as a file.

use std::path::Path;

use registry_tests::charts::{Helm, Render, chart_folder, documents, helm};

use super::{CLUSTER, OPERATOR, only};

const AS_OBJECT: &str = "kind: Notes\ntext: {{ tpl (.Files.Get \"notes.txt\") . | quote }}\n";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the chart is there").map(|entry| entry.expect("an entry")) {
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

fn notes(helm: &Helm, chart: &str, values: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let copied = folder.path().join(chart);
    copy(&chart_folder(chart), &copied);
    std::fs::rename(copied.join("templates/NOTES.txt"), copied.join("notes.txt")).expect("the notes");
    std::fs::write(copied.join("templates/notes.yaml"), AS_OBJECT).expect("a template");
    let render = Render { values, namespace: "here", ..Render::default() };
    let text = helm.render(&copied, &render).unwrap_or_else(|error| panic!("{error}"));
    only(&documents(&text), "Notes")["text"].as_str().expect("text").to_owned()
}

#[test]
fn the_operator_tells_how_to_take_the_crd_over() {
    let Some(helm) = helm() else { return };
    let text = notes(&helm, OPERATOR, "");
    for part in ["--take-ownership", "install.yaml", "helm test registry-operator -n here", "all namespaces"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("WARNING"), "{text}");
    let limited = notes(&helm, OPERATOR, "watchNamespaces: [a, b]\ncrds: {keep: false}");
    assert!(
        limited.contains("looks after a, b") && limited.contains("DELETE every RegistryCluster"),
        "{limited}"
    );
    let without = notes(&helm, OPERATOR, "crds: {create: false}");
    assert!(without.contains("waits until the CRD") && !without.contains("--take-ownership"), "{without}");
}

#[test]
fn a_cluster_tells_its_address_and_the_first_commands() {
    let Some(helm) = helm() else { return };
    let text = notes(&helm, CLUSTER, "name: orders");
    for part in [
        "orders.here.svc:8080",
        "wait --for=condition=Available rcl/orders",
        "scale rcl/orders",
        "registryctl status",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let fixed = notes(&helm, CLUSTER, "replicas: 5");
    assert!(fixed.contains("number of nodes is 5") && !fixed.contains("kubectl -n here scale"), "{fixed}");
}
