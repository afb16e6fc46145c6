//! Python with grpcio, to be a client from another language.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A Python that has `grpc_tools`: the one named by `REGISTRY_TEST_PYTHON`, else one in a virtual
/// environment that is made once in the temporary folder. `None` if there can be none here; then the reason
/// has been printed.
pub fn python() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("REGISTRY_TEST_PYTHON") {
        return Some(named.into());
    }
    let folder = std::env::temp_dir().join("registry-tests-python");
    let python = folder.join("bin/python");
    let has_tools =
        || Command::new(&python).args(["-c", "import grpc_tools"]).output().is_ok_and(|o| o.status.success());
    if has_tools() {
        return Some(python);
    }
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).output();
    let installed = made.and_then(|_| {
        Command::new(&python).args(["-m", "pip", "install", "-q", "grpcio", "grpcio-tools"]).output()
    });
    if has_tools() {
        return Some(python);
    }
    println!("SKIPPED: no Python with grpcio here: {installed:?}");
    None
}

/// Runs Python, and panics with all that it printed if it fails.
pub fn run(python: &Path, configure: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(python);
    configure(&mut command);
    let output = command.output().expect("python starts");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
