//! UpdateSettings: compare and set by version (P/S1).

use std::sync::Arc;

use crate::command::UpdateSettings;
use crate::reply::{Reason, Rejection, Reply};
use crate::settings::ClusterSettings;
use crate::state::State;

impl State {
    /// Lower bounds of the history take effect with the next revision, lower quotas for what is new.
    pub(super) fn update_settings(&mut self, command: &UpdateSettings) -> Result<Reply, Rejection> {
        let version = self.settings.version;
        if command.expected_version != version {
            return Err(Reason::SettingsChanged { version }.into());
        }
        let wanted = command.settings.as_ref().map(|settings| ClusterSettings { version, ..*settings });
        match wanted {
            Some(wanted) if wanted != *self.settings => {
                let version = version.saturating_add(1);
                self.settings = Arc::new(ClusterSettings { version, ..wanted });
                Ok(Reply::SettingsUpdated { version })
            }
            _ => Ok(Reply::SettingsUpdated { version }),
        }
    }
}
