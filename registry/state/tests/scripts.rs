//! Runs `tests/scripts/*.txt`: commands in, replies, events and queries out.
//!
//! A line that begins with `> ` is a command or a query, one that begins with `#` is a comment, and the
//! lines after a command are its output. `REWRITE=1 cargo test -p registry-state --test scripts` writes
//! the present output into the files: read the difference and commit only what you can explain.
//!
//! After each command all invariants are checked, and the state must come back from its snapshot.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and reads its files"
)]

#[path = "language/parse.rs"]
mod parse;
#[path = "language/show.rs"]
mod show;
#[path = "language/words.rs"]
mod words;

use std::fmt::Write as _;
use std::path::Path;

use parse::{Line, parse};
use registry_state::{State, StateDecoder};

#[test]
fn scripts_give_the_output_that_they_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let rewrite = std::env::var_os("REWRITE").is_some();
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "scripts are missing in {}", folder.display());
    let mut differing = Vec::new();
    for path in paths {
        let expected = std::fs::read_to_string(&path).unwrap();
        let actual = run_script(&expected, &path);
        if actual == expected {
            continue;
        }
        if rewrite {
            std::fs::write(&path, &actual).unwrap();
            continue;
        }
        differing.push(format!("{}:\n{}", path.display(), first_difference(&expected, &actual)));
    }
    assert!(differing.is_empty(), "{}\nREWRITE=1 writes the present output.", differing.join("\n"));
}

/// The script with the output that its commands have now.
fn run_script(script: &str, path: &Path) -> String {
    let mut state = State::default();
    let mut drawn = 0;
    let mut out = String::new();
    // A blank line between an output and the next command stays where it was written.
    for (number, line) in script.lines().enumerate() {
        let Some(text) = line.strip_prefix("> ") else {
            if line.is_empty() || line.starts_with('#') {
                writeln!(out, "{line}").unwrap();
            }
            continue;
        };
        writeln!(out, "{line}").unwrap();
        let place = || format!("{}:{}: {line}", path.display(), number + 1);
        let parsed = parse(text, &mut drawn).unwrap_or_else(|error| panic!("{}: {error}", place()));
        match parsed {
            Line::Command(command) => {
                let applied = state.apply(&command);
                out.push_str(&show::applied(&applied));
            }
            Line::Query(query) => out.push_str(&show::answer(&state, &query)),
            Line::Reload => state = reloaded(&state),
        }
        state.check_invariants().unwrap_or_else(|error| panic!("{}: {error}", place()));
        let again = reloaded(&state);
        again.check_invariants().unwrap_or_else(|error| panic!("{} (reloaded): {error}", place()));
        assert_eq!(again.state_hash(), state.state_hash(), "{}", place());
        assert!(again.records().eq(state.records()), "{}: another snapshot after loading it", place());
    }
    out
}

fn reloaded(state: &State) -> State {
    let mut decoder = StateDecoder::new();
    for record in state.records() {
        decoder.push(&record).unwrap();
    }
    decoder.finish().unwrap()
}

fn first_difference(expected: &str, actual: &str) -> String {
    let mut expected = expected.lines();
    let mut actual = actual.lines();
    let mut number = 0;
    loop {
        number += 1;
        match (expected.next(), actual.next()) {
            (None, None) => return "  (only line ends differ)".into(),
            (e, a) if e != a => {
                let (e, a) = (e.unwrap_or("(end)"), a.unwrap_or("(end)"));
                return format!("  line {number}\n  expected {e}\n  actual   {a}");
            }
            _ => {}
        }
    }
}
