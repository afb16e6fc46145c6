//! Starting anew: what is left of a place that is gone is moved aside, and the folder becomes a fresh one
//! with another disk id (P/N1, P/N5).
//!
//! The order makes every crash in between harmless: first the log goes, so that the old identity is one
//! of a lost disk (or of a removed member, which it says itself); then the old identity is linked aside;
//! then the new one takes its place in one rename. So a new disk id never stands beside an old log, and
//! whoever finds the work half done is in the state in which it began and does it again.

use std::fs;
use std::io;
use std::path::Path;

use super::{DataFolder, IDENTITY_FILE, Identity, IdentityError, io_error, sync_folder};
use crate::crash_point::CrashPoint;
use crate::environment::Random;
use crate::raft::DATA_FOLDERS;

#[cfg(test)]
#[path = "aside_test.rs"]
mod tests;

/// What a folder that was moved aside begins with.
const PREFIXES: [&str; 2] = ["lost-", "removed-"];

impl DataFolder {
    /// Moves the data of this node into `lost-ID` or `removed-ID` inside the folder, of which only the
    /// newest is kept, and draws a new disk id; durable when it returns. Nothing may use the data any more.
    ///
    /// # Errors
    /// [`IdentityError::Io`]: then the node is as it was, or has less of its old data; it may be repeated.
    pub fn start_anew(&mut self, random: &dyn Random, crash: &CrashPoint) -> Result<(), IdentityError> {
        let kind = if self.identity.removed_at.is_some() { "removed" } else { "lost" };
        let id = self.identity.member.as_ref().map(|member| member.raft_id.to_string());
        let name = format!("{kind}-{}", id.unwrap_or_else(|| "unknown".to_owned()));
        let aside = self.path.join(&name);
        fs::create_dir_all(&aside).map_err(|source| io_error("creating", &aside, source))?;
        sync_folder(&self.path)?;
        for data in DATA_FOLDERS {
            move_into(&self.path.join(data), &aside.join(data))?;
            crash.pass("aside-data-moved");
        }
        sync_folder(&aside)?;
        sync_folder(&self.path)?;
        crash.pass("aside-log-moved");
        let identity = self.path.join(IDENTITY_FILE);
        let kept = aside.join(IDENTITY_FILE);
        remove(&kept)?;
        fs::hard_link(&identity, &kept).map_err(|source| io_error("linking", &kept, source))?;
        sync_folder(&aside)?;
        crash.pass("aside-identity-kept");
        let fresh = Identity::fresh(&self.identity.node_id, random);
        self.replace(fresh)?;
        crash.pass("anew-stored");
        self.remove_older(&name);
        tracing::info!(folder = %aside.display(), disk_id = self.identity.disk_id, "starting anew; the old data is kept aside");
        Ok(())
    }

    /// Only room on the disk depends on it: a failure is told and no more.
    fn remove_older(&self, newest: &str) {
        let listed = fs::read_dir(&self.path).into_iter().flatten().flatten();
        for entry in listed {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != newest
                && PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                tracing::warn!(folder = %entry.path().display(), %error, "older data kept aside was not removed");
            }
        }
    }
}

/// Gives `from` the name `to`. Nothing to do if it is not there; an empty folder, made by a start between
/// two attempts, does not replace what the first one moved.
fn move_into(from: &Path, to: &Path) -> Result<(), IdentityError> {
    let is_empty = match fs::read_dir(from) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io_error("listing", from, source)),
    };
    if is_empty {
        return remove(from);
    }
    remove(to)?;
    fs::rename(from, to).map_err(|source| io_error("moving aside", from, source))
}

fn remove(path: &Path) -> Result<(), IdentityError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(io_error("removing", path, source)),
        _ => Ok(()),
    }
}
