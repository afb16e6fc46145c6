//! Turns what was given for a setting into a value within its bounds.

use serde_json::Value;

use super::keys::{Key, Kind, show};
use super::layers::Layers;

impl Layers {
    /// A time in ms, a size in bytes or a count; the smallest legal one after an error.
    pub(super) fn number(&mut self, key: &'static Key) -> u64 {
        self.optional_number(key).unwrap_or_else(|| bounds(key.kind).0)
    }

    /// As [`Self::number`]; `None` if nothing is given and there is no default.
    pub(super) fn optional_number(&mut self, key: &'static Key) -> Option<u64> {
        let (value, origin) = self.value(key)?;
        let parsed = parse_number(key.kind, &value);
        let (min, max) = bounds(key.kind);
        match parsed {
            Some(number) if (min..=max).contains(&number) => Some(number),
            _ => {
                let hint = match key.kind {
                    Kind::Time { .. } => {
                        " (a number of milliseconds, or such as \"250ms\", \"15s\", \"5m\", \"1h\")"
                    }
                    Kind::Size { .. } => " (a number of bytes, or such as \"64MiB\")",
                    _ => "",
                };
                self.wrong.push(key.path);
                let (min, max) = (show(key.kind, min), show(key.kind, max));
                self.errors.push(format!(
                    "{} = {} ({origin}): must be between {min} and {max}{hint}",
                    key.path,
                    plain(&value)
                ));
                None
            }
        }
    }

    /// A text or word; `None` if nothing is given and there is no default, or after an error.
    pub(super) fn text(&mut self, key: &'static Key) -> Option<String> {
        let (value, origin) = self.value(key)?;
        let problem = match (&value, key.kind) {
            (Value::String(word), Kind::Choice(words)) if !words.contains(&word.as_str()) => {
                format!("must be one of {}", words.join(", "))
            }
            (Value::String(text), _) if !text.is_empty() => return Some(text.clone()),
            _ => "must be a text that is not empty".to_owned(),
        };
        self.errors.push(format!("{} = {} ({origin}): {problem}", key.path, plain(&value)));
        None
    }

    /// A switch.
    pub(super) fn switch(&mut self, key: &'static Key) -> bool {
        let Some((value, origin)) = self.value(key) else { return false };
        match plain(&value).as_str() {
            "true" => true,
            "false" => false,
            other => {
                self.errors.push(format!("{} = {other} ({origin}): must be true or false", key.path));
                false
            }
        }
    }

    fn value(&self, key: &'static Key) -> Option<(Value, String)> {
        if let Some(given) = self.given.get(key.path) {
            return Some((given.value.clone(), given.origin.clone()));
        }
        let default = (!key.default.is_empty()).then(|| Value::String(key.default.to_owned()))?;
        Some((default, "the default".to_owned()))
    }
}

fn bounds(kind: Kind) -> (u64, u64) {
    match kind {
        Kind::Time { min, max } | Kind::Size { min, max } | Kind::Count { min, max } => (min, max),
        Kind::Switch | Kind::Choice(_) | Kind::Text => (0, 0),
    }
}

fn parse_number(kind: Kind, value: &Value) -> Option<u64> {
    let text = match value {
        Value::Number(number) => return number.as_u64(),
        Value::String(text) => text.trim(),
        _ => return None,
    };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match (kind, text[digits.len()..].trim()) {
        (_, "") | (Kind::Time { .. }, "ms") | (Kind::Size { .. }, "B") => 1,
        (Kind::Time { .. }, "s") => 1_000,
        (Kind::Time { .. }, "m") => 60_000,
        (Kind::Time { .. }, "h") => 3_600_000,
        (Kind::Size { .. }, "KiB") => 1 << 10,
        (Kind::Size { .. }, "MiB") => 1 << 20,
        (Kind::Size { .. }, "GiB") => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// A value as the user wrote it, without quotes, cut to a length that fits a line.
pub(super) fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= 80 { text } else { text.chars().take(77).chain("...".chars()).collect() }
}
