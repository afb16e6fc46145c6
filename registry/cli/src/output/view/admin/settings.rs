//! `settings get|set`

use registry_proto::internal as api;

use crate::admin::settings::{KEYS, Key};
use crate::output::Rendering;
use crate::output::table::{Cell, Table};
use crate::output::text::lines;
use crate::output::view::View;

/// Settings, all or some. As JSON and YAML always all.
pub(crate) struct SettingsView {
    /// What the node told.
    pub(crate) answer: api::GetSettingsResponse,
    /// Which are shown.
    pub(crate) keys: Vec<&'static Key>,
}

impl View for SettingsView {
    type Message = api::GetSettingsResponse;
    const NAME: &'static str = "registry.internal.v1.GetSettingsResponse";

    fn message(&self) -> &Self::Message {
        &self.answer
    }

    fn table(&self, rendering: Rendering, wide: bool) -> String {
        let settings = self.answer.settings.unwrap_or_default();
        let mut table = Table::new(["SETTING", "VALUE"].into_iter().chain(wide.then_some("MEANING")));
        for key in &self.keys {
            let row = [key.name.to_owned(), key.show(&settings)];
            table.row(row.iter().map(Cell::from).chain(wide.then(|| Cell::from(key.meaning))).collect());
        }
        table.render(rendering.style)
    }

    fn names(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.name.to_owned()).collect()
    }

    fn remarks(&self, _: Rendering) -> Vec<String> {
        vec![format!("version {}", self.answer.settings.as_ref().map_or(0, |settings| settings.version))]
    }
}

/// What a change of settings did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SettingsChange {
    /// The settings before.
    pub(crate) before: api::ClusterSettings,
    /// What the leader answered.
    pub(crate) answer: api::UpdateSettingsResponse,
}

impl SettingsChange {
    /// Name, value before, value after of what has changed.
    fn changes(&self) -> Vec<[String; 3]> {
        let after = self.answer.settings.unwrap_or_default();
        KEYS.iter()
            .map(|key| [key.name.to_owned(), key.show(&self.before), key.show(&after)])
            .filter(|[_, before, after]| before != after)
            .collect()
    }
}

impl View for SettingsChange {
    type Message = api::UpdateSettingsResponse;
    const NAME: &'static str = "registry.internal.v1.UpdateSettingsResponse";

    fn message(&self) -> &Self::Message {
        &self.answer
    }

    fn table(&self, rendering: Rendering, _: bool) -> String {
        let changes = self.changes();
        if changes.is_empty() {
            return lines(["nothing was to change"]);
        }
        let mut table = Table::new(["SETTING", "BEFORE", "AFTER"]);
        for change in changes {
            table.row(change.iter().map(Cell::from).collect());
        }
        table.render(rendering.style)
    }

    fn names(&self) -> Vec<String> {
        self.changes().into_iter().map(|[name, ..]| name).collect()
    }

    fn remarks(&self, _: Rendering) -> Vec<String> {
        vec![format!("version {}", self.answer.settings.as_ref().map_or(0, |settings| settings.version))]
    }
}
