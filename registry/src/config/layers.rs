//! File, environment and flags, laid over each other: the later one wins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::keys::{KEYS, Key, NODES};

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file; JSON or YAML.
    pub file: PathBuf,
    /// The environment, or the part of it that begins with `REGISTRY_`.
    pub environment: Vec<(String, String)>,
    /// Values of flags by path of the setting, such as `data_dir`.
    pub flags: Vec<(&'static str, String)>,
    /// The node that this process is; may be left out if the file lists only one.
    pub node_id: Option<String>,
}

/// A value and where it was found, for error messages.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) value: Value,
    pub(super) origin: String,
}

/// All values given, by path.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub(super) given: BTreeMap<&'static str, Given>,
    pub(super) nodes: Option<Given>,
    pub(super) errors: Vec<String>,
    /// Paths of the numbers that are wrong by themselves: no relation is checked for them.
    pub(super) wrong: Vec<&'static str>,
}

/// Variables that the program reads beside the settings.
const OTHER_VARIABLES: [&str; 7] = [
    "REGISTRY_CONFIG",
    "REGISTRY_NODE_ID",
    "REGISTRY_LOG",
    "REGISTRY_LOG_FORMAT",
    "REGISTRY_ENDPOINTS",
    "REGISTRY_ADMIN_TOKEN_FILE",
    "REGISTRY_DEV_DIR",
];

/// Whether a variable is one of ours. Others that begin with `REGISTRY_` are not errors: Kubernetes puts
/// `REGISTRY_PORT=tcp://...` beside a Service named registry (P/S4).
pub fn is_own_variable(name: &str) -> bool {
    OTHER_VARIABLES.contains(&name) || KEYS.iter().any(|key| key.variable() == name)
}

impl Layers {
    pub(super) fn read(sources: &Sources) -> Self {
        let mut layers = Self::default();
        layers.read_file(&sources.file);
        for (name, text) in &sources.environment {
            if let Some(key) = KEYS.iter().find(|key| key.variable() == *name) {
                layers.put(key, Value::String(text.clone()), format!("from the environment variable {name}"));
            }
        }
        for (path, text) in &sources.flags {
            if let Some(key) = KEYS.iter().find(|key| key.path == *path) {
                let flag = path.replace(['_', '.'], "-");
                layers.put(key, Value::String(text.clone()), format!("from the flag --{flag}"));
            }
        }
        layers
    }

    fn put(&mut self, key: &'static Key, value: Value, origin: String) {
        self.given.insert(key.path, Given { value, origin });
    }

    fn read_file(&mut self, path: &Path) {
        let name = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                return self.errors.push(format!(
                    "cannot read the configuration file {name}: {error}. Give its path with --config FILE"
                ));
            }
        };
        match serde_saphyr::from_str::<Value>(&text) {
            Ok(Value::Object(root)) => self.flatten("", root, &format!("in {name}")),
            Ok(_) => self.errors.push(format!("{name}: must be a mapping with the key \"cluster\"")),
            Err(error) => {
                // The library adds an excerpt of the file on further lines.
                let text = error.to_string();
                let line = text.lines().next().unwrap_or("not readable").to_owned();
                self.errors.push(format!("{name}: neither JSON nor YAML: {line}"));
            }
        }
    }

    fn flatten(&mut self, prefix: &str, map: serde_json::Map<String, Value>, origin: &str) {
        for (name, value) in map {
            let path = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            let is_section = path == "cluster" || KEYS.iter().any(|key| is_below(key.path, &path));
            if path == NODES {
                self.nodes = Some(Given { value, origin: origin.to_owned() });
            } else if let Some(key) = KEYS.iter().find(|key| key.path == path) {
                // `key:` without a value is YAML's way to leave it out.
                if !value.is_null() {
                    self.put(key, value, origin.to_owned());
                }
            } else if is_section {
                match value {
                    Value::Object(map) => self.flatten(&path, map, origin),
                    Value::Null => {}
                    other => self.errors.push(format!("{path} = {other} ({origin}): must be a mapping")),
                }
            } else {
                self.errors.push(unknown(&path, origin));
            }
        }
    }
}

fn is_below(path: &str, section: &str) -> bool {
    path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

fn unknown(path: &str, origin: &str) -> String {
    let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
    let mut near: Vec<_> = KEYS
        .iter()
        .map(|key| key.path)
        .chain([NODES])
        .filter(|known| if parent.is_empty() { true } else { is_below(known, parent) })
        .map(|known| {
            let rest = if parent.is_empty() { known } else { &known[parent.len() + 1..] };
            rest.split('.').next().unwrap_or(rest)
        })
        .collect();
    near.dedup();
    let place = if parent.is_empty() { "at the top level".to_owned() } else { format!("in {parent}") };
    format!("{path} ({origin}): unknown key; known {place}: {}", near.join(", "))
}
