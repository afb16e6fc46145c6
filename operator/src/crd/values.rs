//! Times and sizes of the spec: texts with a unit, bounded, and parsed where they come in.
//!
//! Not `Quantity` of k8s-openapi: its schema also takes numbers, and a rule on `quantity(self)` over a stored
//! number makes every later update of the object fail.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A time such as `50ms`, `15s`, `5m` or `1h`: as in the file of a node.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    text: String,
    millis: u64,
}

const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    /// So many milliseconds.
    pub fn from_millis(millis: u64) -> Self {
        Self { text: shown(millis, &TIME_UNITS), millis }
    }

    /// In milliseconds.
    pub fn millis(&self) -> u64 {
        self.millis
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 12, "pattern": "^[0-9]+(ms|s|m|h)$" })
    }
}

/// A number of bytes such as `10Gi`, as Kubernetes writes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size {
    text: String,
    bytes: u64,
}

const BINARY_UNITS: [(&str, u64); 6] =
    [("Pi", 1 << 50), ("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10), ("", 1)];
const DECIMAL_UNITS: [(&str, u64); 5] = [
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

impl Size {
    /// So many bytes.
    pub fn from_bytes(bytes: u64) -> Self {
        Self { text: shown(bytes, &BINARY_UNITS), bytes }
    }

    /// In bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 20, "pattern": "^[1-9][0-9]*(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$" })
    }
}

/// The bytes of a quantity as Kubernetes may write it for a claim or a volume: also with a fraction, an
/// exponent or thousandths; `None` if it is none. Rounded up, as Kubernetes does.
pub fn quantity_bytes(text: &str) -> Option<u64> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    if number.is_empty() {
        return None;
    }
    let known = BINARY_UNITS.iter().chain(&DECIMAL_UNITS).find(|(name, _)| *name == unit);
    if let (Some((_, factor)), Ok(whole)) = (known, number.parse::<u64>()) {
        return whole.checked_mul(*factor);
    }
    let factor = match (known, unit) {
        (Some((_, factor)), _) => *factor as f64,
        (None, "m") => 0.001,
        (None, "E") => 1e18,
        (None, "Ei") => (1_u64 << 60) as f64,
        (None, exponent) => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let bytes = (number.parse::<f64>().ok()? * factor).ceil();
    // 2^63: no volume is larger, and below it the conversion is exact enough.
    (0.0..9.2e18).contains(&bytes).then_some(bytes as u64)
}

/// The number with the largest unit that divides it.
fn shown(number: u64, units: &[(&str, u64)]) -> String {
    let fitting = units.iter().find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor));
    match (fitting, units.last()) {
        (Some((unit, factor)), _) => format!("{}{unit}", number / factor),
        (None, Some((unit, _))) => format!("{number}{unit}"),
        (None, None) => number.to_string(),
    }
}

/// The whole number before a unit.
fn parsed<'a>(text: &str, mut units: impl Iterator<Item = &'a (&'a str, u64)>) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (_, factor) = units.find(|(unit, _)| *unit == &text[digits..])?;
    text[..digits].parse::<u64>().ok()?.checked_mul(*factor)
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match parsed(&text, TIME_UNITS.iter()) {
            Some(millis) => Ok(Self { text, millis }),
            None => Err(format!("{text:?} is no time; write such as 50ms, 15s, 5m or 1h")),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match parsed(&text, BINARY_UNITS.iter().chain(&DECIMAL_UNITS)) {
            Some(bytes) => Ok(Self { text, bytes }),
            None => Err(format!("{text:?} is no size; write such as 512Mi or 10Gi")),
        }
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.text
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.text
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// 60s is 1m: what a change of the writing alone must not count as.
impl PartialEq for Span {
    fn eq(&self, other: &Self) -> bool {
        self.millis == other.millis
    }
}

impl Eq for Span {}

impl PartialEq for Size {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Size {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown_with_their_unit() {
        for (text, millis) in [("0s", 0), ("50ms", 50), ("15s", 15_000), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(Span::try_from(text.to_owned()).unwrap().millis(), millis, "{text}");
        }
        for (millis, text) in [(0, "0ms"), (50, "50ms"), (60_000, "1m"), (90_000, "90s"), (7_200_000, "2h")] {
            assert_eq!(Span::from_millis(millis).to_string(), text);
        }
        assert_eq!(Span::try_from("60s".to_owned()), Ok(Span::from_millis(60_000)));
        for bad in
            ["", "15", "s", "1.5s", "-1s", "1d", "15 s", "99999999999999999999h", "18446744073709551615h"]
        {
            assert!(Span::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_and_keep_their_writing() {
        for (text, bytes) in
            [("1", 1), ("1k", 1000), ("20480Mi", 20 << 30), ("20Gi", 20 << 30), ("2T", 2_000_000_000_000)]
        {
            let size = Size::try_from(text.to_owned()).unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, text));
        }
        assert_eq!(Size::from_bytes(64 << 20).to_string(), "64Mi");
        assert_eq!(Size::try_from("20Gi".to_owned()), Size::try_from("20480Mi".to_owned()));
        for bad in ["", "Gi", "1.5Gi", "-1Gi", "1gi", "1 Gi", "99999999Pi"] {
            assert!(Size::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn quantities_of_claims_are_read_in_every_writing() {
        for (text, bytes) in [
            ("10Gi", Some(10 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("1e3", Some(1000)),
            ("1E3", Some(1000)),
            ("1500m", Some(2)),
            ("1Ei", Some(1 << 60)),
            ("128974848", Some(128_974_848)),
            ("", None),
            ("Gi", None),
            ("-1", None),
            ("1x", None),
            ("99Ei", None),
        ] {
            assert_eq!(quantity_bytes(text), bytes, "{text}");
        }
    }
}
