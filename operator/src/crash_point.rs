//! Named places at which a test lets the operator die, to see whether the next one finishes the work.
//!
//! A program built for use (without debug assertions) has no such places: nothing that is set can make it
//! die. With a marker file each place is deadly once, so that the restarted process gets past it.

use std::path::PathBuf;
use std::sync::Arc;

/// The variable that names the place.
pub const VARIABLE: &str = "REGISTRY_OPERATOR_CRASH_AT";

/// The variable that names the marker file, which outlives the container but not the pod.
pub const MARKER_VARIABLE: &str = "REGISTRY_OPERATOR_CRASH_MARKER";

/// The one place at which this process dies, if any. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct CrashPoint {
    name: Option<Arc<str>>,
    marker: Option<Arc<PathBuf>>,
}

impl CrashPoint {
    /// Dies at the place with this name, once if there is a marker file; never in a program built for use.
    pub fn at(name: &str, marker: Option<PathBuf>) -> Self {
        Self { name: cfg!(debug_assertions).then(|| name.into()), marker: marker.map(Arc::new) }
    }

    /// As the two variables say.
    pub fn from_environment() -> Self {
        let marker = std::env::var_os(MARKER_VARIABLE).map(PathBuf::from);
        std::env::var(VARIABLE)
            .ok()
            .filter(|name| !name.is_empty())
            .map(|name| Self::at(&name, marker))
            .unwrap_or_default()
    }

    /// A place. Ends the process as kill -9 would, if it is the one named.
    pub fn pass(&self, place: &str) {
        if self.is_deadly(place) {
            tracing::warn!(place, "crash point");
            std::process::abort();
        }
    }

    /// Also leaves the marker, after which the place is safe.
    fn is_deadly(&self, place: &str) -> bool {
        if self.name.as_deref() != Some(place) {
            return false;
        }
        match self.marker.as_deref() {
            None => true,
            // Without a marker the process would die here for ever: rather not at all.
            Some(marker) => !marker.exists() && std::fs::write(marker, place).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_places_are_passed() {
        CrashPoint::default().pass("a");
        CrashPoint::at("a", None).pass("b");
        assert!(CrashPoint::at("a", None).is_deadly("a"));
    }

    #[test]
    fn with_a_marker_a_place_is_deadly_once() {
        let folder = tempfile::tempdir().unwrap();
        let point = || CrashPoint::at("a", Some(folder.path().join("marker")));
        assert!(point().is_deadly("a"));
        assert!(!point().is_deadly("a"));
        assert!(!CrashPoint::at("a", Some(folder.path().join("no/folder"))).is_deadly("a"));
    }
}
