//! The house rules that a machine can check.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest file, without its unit tests.
const FILE_LINES: usize = 450;

/// Longest function. The one exception says a sentence for each reason of an error, in one match.
const FUNCTION_LINES: usize = 75;
const LONG_FUNCTION_FILE: &str = "registry/src/error/message.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

/// Every Rust source file of the repository, with its path from the root and its text.
fn sources() -> Vec<(String, String)> {
    let output =
        Command::new("git").args(["ls-files", "*.rs"]).current_dir(root()).output().expect("git runs");
    String::from_utf8(output.stdout)
        .expect("plain names")
        .lines()
        .map(|name| (name.to_owned(), std::fs::read_to_string(root().join(name)).unwrap_or_default()))
        .collect()
}

/// The part before the inline unit tests. A line that only names a file of tests ends nothing.
fn without_tests(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let inline = |at: usize| {
        let module = lines[at + 1..].iter().find(|line| !line.starts_with("#["));
        lines[at].starts_with("#[cfg(test)]") && module.is_some_and(|line| line.ends_with('{'))
    };
    let end = (0..lines.len()).find(|at| inline(*at)).unwrap_or(lines.len());
    lines[..end].to_vec()
}

fn is_test_code(name: &str) -> bool {
    name.starts_with("tests/")
        || name.contains("/tests/")
        || name.ends_with("_test.rs")
        || name.ends_with("tests.rs")
}

#[test]
fn files_are_short_enough_to_read() {
    let mut long = Vec::new();
    for (name, text) in sources() {
        let lines = without_tests(&text).len();
        if lines > FILE_LINES && !is_test_code(&name) {
            long.push(format!("{name}: {lines} lines, the limit is {FILE_LINES}"));
        }
    }
    assert!(long.is_empty(), "split these by subject:\n{}", long.join("\n"));
}

#[test]
fn functions_are_short_enough_to_read() {
    let mut long = Vec::new();
    for (name, text) in
        sources().into_iter().filter(|(name, _)| !is_test_code(name) && name != LONG_FUNCTION_FILE)
    {
        let mut open: Option<(usize, usize, String)> = None;
        for (number, line) in without_tests(&text).iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let code = line.trim_start();
            let head = code
                .trim_start_matches("pub ")
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub(super) ");
            let head = head.trim_start_matches("const ").trim_start_matches("async ");
            if open.is_none() && head.starts_with("fn ") && !code.ends_with([';', '}']) {
                open = Some((number, indent, code.to_owned()));
            } else if let Some((start, depth, function)) = &open
                && indent == *depth
                && code.starts_with('}')
            {
                let lines = number - start + 1;
                if lines > FUNCTION_LINES {
                    long.push(format!("{name}:{}: {lines} lines: {function}", start + 1));
                }
                open = None;
            }
        }
    }
    assert!(long.is_empty(), "longer than {FUNCTION_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = ["TO", "FIX"].map(|half| format!("{half}{}", if half == "TO" { "DO" } else { "ME" }));
    let macros = ["todo", "unimplemented"].map(|name| format!("{name}!("));
    let mut found = Vec::new();
    for (name, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let unfinished = macros.iter().chain(&marks).any(|mark| line.contains(mark.as_str()));
            if unfinished || line.trim_start().starts_with("#[ignore") {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "unfinished:\n{}", found.join("\n"));
}

#[test]
fn modules_are_files_beside_their_folder() {
    let modules: Vec<String> =
        sources().into_iter().map(|(name, _)| name).filter(|name| name.ends_with("/mod.rs")).collect();
    assert!(modules.is_empty(), "foo.rs and foo/, not foo/mod.rs: {modules:?}");
}

#[test]
fn the_transport_stack_exists_once() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("a list") {
        let name = package["name"].as_str().expect("a name");
        if ["tonic", "prost", "hyper", "h2", "rustls", "tokio", "openraft"].contains(&name) {
            versions.entry(name).or_default().push(package["version"].as_str().expect("a version"));
        }
    }
    assert!(versions.contains_key("tonic"), "the test looks at the right tree");
    for (name, versions) in versions {
        assert_eq!(versions.len(), 1, "{name} is in the tree more than once: {versions:?}");
    }
}
