//! Named places at which a test lets the process die, to see what is left of a step half done.
//!
//! The name comes from the composition root, which reads it once from the environment. A program built
//! for use (without debug assertions) has no such places: nothing that is set can make it die.

use std::sync::Arc;

/// The variable that names the place.
pub const VARIABLE: &str = "REGISTRY_CRASH_POINT";

/// The one place at which this process dies, if any. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct CrashPoint {
    name: Option<Arc<str>>,
}

impl CrashPoint {
    /// Dies at the place with this name; never in a program built for use.
    pub fn at(name: &str) -> Self {
        Self { name: cfg!(debug_assertions).then(|| name.into()) }
    }

    /// A place. Ends the process as kill -9 would, if it is the one named.
    pub fn pass(&self, place: &str) {
        self.pass_if(place, || true);
    }

    /// As [`pass`](Self::pass), where the place alone does not say it all. `here` is asked at the place named
    /// only.
    pub fn pass_if(&self, place: &str, here: impl FnOnce() -> bool) {
        if self.name.as_deref() == Some(place) && here() {
            tracing::warn!(place, "crash point");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_places_are_passed() {
        CrashPoint::default().pass("a");
        CrashPoint::at("a").pass("b");
        CrashPoint::at("a").pass_if("a", || false);
    }
}
