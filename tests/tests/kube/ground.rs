//! What every other test stands on: names, services and volumes of the cluster work in our image.

use std::time::Duration;

use registry_tests::wait::until_true;

use crate::support::command::{kubectl, succeed};
use crate::support::stage::{Kube, Tier, Turn, on_kubernetes};

/// A pod of our image under Pod Security `restricted`, which asks a node at ADDRESS and ends.
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  restartPolicy: Never
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: registry
    image: registry.dev/registry:test
    command: [/bin/registryctl, --timeout=3s, --endpoints=ADDRESS, services]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
"#;

/// What the pod printed.
async fn ask(kube: &Kube, name: &str, address: &str) -> String {
    let pod = POD.replace("NAME", name).replace("ADDRESS", address);
    succeed("kubectl", &["apply", "--namespace", &kube.namespace, "-f", "-"], &pod).await;
    until_true("the pod to end", Duration::from_secs(60), || async {
        let phase = ["get", "pod", name, "--namespace", &kube.namespace, "-o", "jsonpath={.status.phase}"];
        kubectl(&phase).await == "Failed"
    })
    .await;
    kube.logs(name).await
}

/// No file in the image says how names are resolved: the C library's defaults have to do.
#[tokio::test]
async fn the_image_runs_as_nobody_and_resolves_names() {
    on_kubernetes("ground", Tier::Quick, Turn::Shared, async |kube| {
        let present = ask(kube, "present", "kubernetes.default.svc:443").await;
        let absent = ask(kube, "absent", "absent.default.svc:443").await;
        println!("present: {present}absent: {absent}");
        let unknown = "failed to lookup address";
        assert!(absent.contains(unknown) && !present.contains(unknown), "{present}{absent}");
    })
    .await;
}
