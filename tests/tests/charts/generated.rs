//! What is generated is what the charts and the CRD say.

use registry_tests::charts::{documents, generated, helm, read};

use super::{of_kind, only};

#[test]
fn nothing_generated_has_drifted() {
    let Some(helm) = helm() else { return };
    let drifted: Vec<String> = generated::generated(&helm)
        .into_iter()
        .filter(|(path, text)| read(path) != *text)
        .map(|(path, _)| path)
        .collect();
    assert!(
        drifted.is_empty(),
        "run manifests/render, then look at the difference and commit it: {drifted:?}"
    );
}

#[test]
fn install_yaml_brings_the_namespace_first_and_nothing_of_helm() {
    let text = read("manifests/install.yaml");
    let objects = documents(&text);
    assert_eq!(objects[0]["kind"], "Namespace");
    assert_eq!(objects[0]["metadata"]["name"], "registry-system");
    assert_eq!(only(&objects, "Deployment")["metadata"]["namespace"], "registry-system");
    assert!(of_kind(&objects, "Pod").is_empty() && of_kind(&objects, "RegistryCluster").is_empty());
    assert!(!text.contains("Helm"), "nothing says that helm looks after it");
    // So that a later release of helm keeps the CRD too.
    let crd = only(&objects, "CustomResourceDefinition");
    assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
}

#[test]
fn a_sample_is_one_cluster_and_leaves_the_namespace_open() {
    for sample in ["minimal", "production", "development"] {
        let objects = documents(&read(&format!("manifests/samples/{sample}.yaml")));
        let [cluster] = &objects[..] else { panic!("{sample}: {objects:?}") };
        assert_eq!(cluster["kind"], "RegistryCluster");
        assert!(cluster["metadata"]["namespace"].is_null());
    }
    let minimal = documents(&read("manifests/samples/minimal.yaml"));
    assert!(minimal[0]["spec"]["replicas"].is_null(), "it may belong to kubectl scale");
}
