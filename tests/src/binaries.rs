//! The programs under test, built once per test process.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Paths of the programs.
#[derive(Debug)]
pub struct Binaries {
    /// The node.
    pub registry: PathBuf,
    /// The command line.
    pub registryctl: PathBuf,
}

/// Builds them if they are out of date. A test crate does not get the programs of another one built by
/// itself. `REGISTRY_TEST_BINARIES` names a folder with programs that were built elsewhere.
pub fn binaries() -> &'static Binaries {
    static BUILT: OnceLock<Binaries> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(folder) = std::env::var_os("REGISTRY_TEST_BINARIES").map(PathBuf::from) {
            return Binaries { registry: folder.join("registry"), registryctl: folder.join("registryctl") };
        }
        let mut cargo = Command::new(env!("CARGO"));
        // All packages and an example: dependencies then have the features that they have for tests, and are not
        // compiled a second time.
        cargo.args(["build", "--workspace", "--bins", "--example", "render", "--message-format=json"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
        assert!(output.status.success(), "cargo build failed: {}", String::from_utf8_lossy(&output.stderr));
        let executable = |name: &str| {
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
                .filter(|message| {
                    message["reason"] == "compiler-artifact" && message["target"]["name"] == name
                })
                .find_map(|message| message["executable"].as_str().map(PathBuf::from))
                .unwrap_or_else(|| panic!("cargo built no {name}"))
        };
        Binaries { registry: executable("registry"), registryctl: executable("registryctl") }
    })
}
