//! Bugs on purpose: each breaks one protection, to see that a test finds it.
//!
//! A protection that no test would miss may as well not be there. So where one stands, `bug("name")` can leave
//! it out, and `tests/tests/bugs.rs` names for each bug the test that has to fail with it. The bug is chosen by
//! an environment variable, read once: no rebuild per bug, and the same way into a unit test, a test of the pure
//! crates (which get nothing from a composition root) and a real process.
//!
//! A program built for use (without debug assertions) has no bugs of this kind: [`bug`] is `false` at compile
//! time there, and the branches with their names are gone.

/// The variable that chooses the bug.
pub const VARIABLE: &str = "REGISTRY_BUG";

/// True if this bug was chosen.
#[cfg(debug_assertions)]
pub fn bug(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var(VARIABLE).ok()).as_deref() == Some(name)
}

/// Never, in a program built for use.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn bug(_name: &str) -> bool {
    false
}
