//! Writes what is made from the charts; `manifests/render` runs it.

use registry_tests::charts::{generated, helm, root};

fn main() {
    let helm = helm().expect("REGISTRY_TEST_HELM names a helm");
    for (path, text) in generated::generated(&helm) {
        std::fs::write(root().join(&path), text).unwrap_or_else(|error| panic!("{path}: {error}"));
        println!("wrote {path}");
    }
}
