//! Every protection is missed when it is gone: each bug of `registry_bug` makes a named test fail.
//!
//! The tests are those of the workspace, built once and run here one by one with the bug switched on. Each is the
//! cheapest that finds its bug; most need no process. `ONLY_BUG=name` runs one.

// A release has no bugs of this kind.
#![cfg(debug_assertions)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

/// A bug, what it breaks, and the test that finds it: package, target and name.
struct Bug {
    name: &'static str,
    breaks: &'static str,
    package: &'static str,
    target: &'static str,
    test: &'static str,
}

const fn bug(name: &'static str, breaks: &'static str, [package, target, test]: [&'static str; 3]) -> Bug {
    Bug { name, breaks, package, target, test }
}

const STATE_SCRIPTS: [&str; 3] = ["registry-state", "scripts", "scripts_give_the_output_that_they_hold"];

const BUGS: &[Bug] = &[
    bug(
        "no-sync",
        "I1: an entry is acknowledged before it is on the disk",
        ["registry-wal", "it", "crash::every_subset_of_the_pages_of_an_unsynced_batch_may_survive"],
    ),
    bug(
        "checksum-without-segment",
        "P/W1: an old frame in a recycled segment verifies",
        ["registry-wal", "registry_wal", "frame::tests::a_frame_of_another_segment_number_does_not_verify"],
    ),
    bug("lost-tombstones", "P/N5: a removed disk comes back after a snapshot", STATE_SCRIPTS),
    bug("snapshot-without-clients", "P/R3: a repeated write is done twice after a snapshot", STATE_SCRIPTS),
    bug("snapshot-without-leases", "I10: leases are gone after a snapshot", STATE_SCRIPTS),
    bug("compaction-off-by-one", "I6: a resume skips the revision that was evicted last", STATE_SCRIPTS),
    bug("suppression-keeps-the-incarnation", "P/R2: a second owner is taken for the first", STATE_SCRIPTS),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

/// The test programs of the workspace by package and target.
fn programs() -> BTreeMap<(String, String), PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--workspace", "--no-run", "--message-format=json"]).current_dir(root());
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "cargo test --no-run: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let built = messages.filter(|message| {
        let kind = message["target"]["kind"][0].as_str();
        message["reason"] == "compiler-artifact"
            && message["profile"]["test"] == true
            && matches!(kind, Some("lib" | "test"))
    });
    let program = |message: serde_json::Value| {
        let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).ok()?;
        let package = manifest.lines().find_map(|line| line.strip_prefix("name = "))?.trim_matches('"');
        let target = message["target"]["name"].as_str()?.to_owned();
        Some(((package.to_owned(), target), PathBuf::from(message["executable"].as_str()?)))
    };
    built.filter_map(program).collect()
}

/// Runs the test of a bug with the bug; why it does not find it, if so.
fn find(bug: &Bug, program: &Path, folder: &Path) -> Result<(), String> {
    let output = Command::new(program)
        .args(["--exact", bug.test, "--nocapture"])
        .env("REGISTRY_BUG", bug.name)
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
        .current_dir(folder)
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !said.contains("running 1 test") {
        return Err(format!("there is no test {} in {}", bug.test, program.display()));
    }
    if output.status.success() { Err(format!("{} passes all the same", bug.test)) } else { Ok(()) }
}

#[test]
fn every_bug_makes_its_test_fail() {
    let programs = programs();
    let folders: BTreeMap<&str, PathBuf> = [
        ("registry", "registry"),
        ("registry-state", "registry/state"),
        ("registry-wal", "registry/wal"),
        ("registry-tests", "tests"),
    ]
    .map(|(package, folder)| (package, root().join(folder)))
    .into();
    let only = std::env::var("ONLY_BUG").ok();
    let left = BUGS.iter().filter(|bug| only.as_deref().is_none_or(|only| only == bug.name));
    let left: Mutex<Vec<&Bug>> = Mutex::new(left.rev().collect());
    let missed = Mutex::new(Vec::new());
    // As many at a time as a small machine has cores.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = left.lock().expect("no panic inside").pop();
                    let Some(bug) = next else { return };
                    let begun = Instant::now();
                    let key = (bug.package.to_owned(), bug.target.to_owned());
                    let found = match programs.get(&key) {
                        Some(program) => find(bug, program, &folders[bug.package]),
                        None => Err(format!("there is no program {key:?}")),
                    };
                    println!("{} ({}): {found:?} in {:?}", bug.name, bug.breaks, begun.elapsed());
                    if let Err(why) = found {
                        missed.lock().expect("no panic inside").push(format!("{}: {why}", bug.name));
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("no panic inside");
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
}

#[test]
fn every_bug_of_the_source_is_in_the_table_and_the_other_way_round() {
    let output = Command::new("git")
        .args(["ls-files", "registry/*.rs"])
        .current_dir(root())
        .output()
        .expect("git runs");
    let mut named = BTreeSet::new();
    for file in String::from_utf8(output.stdout).expect("plain names").lines() {
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        // Another `bug(…)` takes a sentence.
        let names = text.split("bug(\"").skip(1).filter_map(|rest| rest.split_once('"'));
        let names = names.map(|(name, _)| name.to_owned()).filter(|name| !name.contains(' '));
        if !file.starts_with("registry/bug/") {
            named.extend(names);
        }
    }
    let listed: BTreeSet<String> = BUGS.iter().map(|bug| bug.name.to_owned()).collect();
    assert_eq!(listed.len(), BUGS.len(), "each is listed once");
    assert_eq!(named, listed);
}
