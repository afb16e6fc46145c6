//! Values of flags: times, endpoints, leases, positions, pairs.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use jiff::SignedDuration;
use registry_proto::v1;

/// A port, 1 to 65535.
pub(crate) fn port() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=65_535)
}

/// A weight, 0 to 65535.
pub(crate) fn weight() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(0..=65_535)
}

/// A time such as "500ms", "5s", "1h30m"; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let parsed: SignedDuration =
        text.parse().map_err(|_| "write a time as 500ms, 5s, 2min or 1h".to_owned())?;
    Duration::try_from(parsed).map_err(|_| "a time cannot be negative".to_owned())
}

/// A time that is not zero.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("the time must be longer than 0".to_owned()),
        time => Ok(time),
    }
}

/// `HOST:PORT`, the host of an IPv6 address in brackets.
pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    let text = text.trim();
    let (host, port) =
        text.rsplit_once(':').ok_or("write an endpoint as HOST:PORT, such as 127.0.0.1:8080")?;
    if host.is_empty() || host.contains('/') {
        return Err("write an endpoint as HOST:PORT, without http:// and path".to_owned());
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("write an IPv6 address in brackets, as [::1]:8080".to_owned());
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(text.to_owned()),
        _ => Err(format!("{port:?} is not a port (1 to 65535)")),
    }
}

/// A lease, as printed by `register`: hexadecimal with 0x, or decimal as in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseId(pub(crate) u64);

impl FromStr for LeaseId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        match parsed {
            Ok(0) | Err(_) => {
                Err("write a lease as register prints it, such as 0x1f2e3d4c5b6a7988".to_owned())
            }
            Ok(id) => Ok(Self(id)),
        }
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// Epoch of the revision; `None` = the present one.
    pub(crate) epoch: Option<u64>,
    /// Last revision that is known already.
    pub(crate) revision: u64,
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| {
            text.parse::<u64>().map_err(|_| "write a position as REVISION or EPOCH:REVISION".to_owned())
        };
        match text.split_once(':') {
            Some((epoch, revision)) => Ok(Self { epoch: Some(number(epoch)?), revision: number(revision)? }),
            None => Ok(Self { epoch: None, revision: number(text)? }),
        }
    }
}

/// `KEY=VALUE`; the value may be empty or hold further `=`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write a pair as KEY=VALUE".to_owned()),
    }
}

/// `NAME=PORT`
pub(crate) fn named_port(text: &str) -> Result<(String, u32), String> {
    let (name, port) = pair(text).map_err(|_| "write a port as NAME=PORT".to_owned())?;
    match port.parse::<u16>() {
        Ok(number) if number > 0 => Ok((name, number.into())),
        _ => Err(format!("{port:?} is not a port (1 to 65535)")),
    }
}

/// A state, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum State {
    /// Registered but not ready yet
    Starting,
    /// Ready for requests
    Up,
    /// Finishing what is open, nothing new
    Draining,
    /// Registered but not serving
    Down,
}

impl From<State> for v1::InstanceState {
    fn from(state: State) -> Self {
        match state {
            State::Starting => Self::Starting,
            State::Up => Self::Up,
            State::Draining => Self::Draining,
            State::Down => Self::Down,
        }
    }
}
