//! What every request carries: until when its caller waits.

pub mod admit;
pub mod forward;
pub mod load;
pub mod page;
pub mod pending;
pub mod read;
pub mod write;

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use crate::error::Error;
use crate::server::limits;

/// A caller: when it came and until when it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// When the request was decoded; a time to live counts from here (P/L2).
    pub arrived: Instant,
    /// min(the caller's own deadline, 5 s) (P/O5).
    pub deadline: Instant,
}

impl Caller {
    /// The caller of a request with this metadata.
    ///
    /// # Errors
    /// INVALID_FIELD if `grpc-timeout` cannot be read.
    pub fn of(metadata: &MetadataMap) -> Result<Self, Error> {
        let timeout = time_allowed(metadata)?.unwrap_or(limits::UNARY_DEADLINE);
        Ok(Self::within(timeout.min(limits::UNARY_DEADLINE)))
    }

    /// A caller that comes now and waits so long.
    pub fn within(timeout: Duration) -> Self {
        let arrived = Instant::now();
        Self { arrived, deadline: arrived + timeout }
    }

    /// Time that is left.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The time that a caller gives its call, however long; `None` = any.
///
/// # Errors
/// INVALID_FIELD if `grpc-timeout` cannot be read.
pub fn time_allowed(metadata: &MetadataMap) -> Result<Option<Duration>, Error> {
    let Some(text) = metadata.get("grpc-timeout") else { return Ok(None) };
    let rule = || Error::field("grpc-timeout", "must be 1 to 8 digits and one of H, M, S, m, u, n");
    text.to_str().ok().and_then(parse_timeout).map(Some).ok_or_else(rule)
}

/// The header `grpc-timeout`: at most eight digits and a unit.
pub fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse_timeout("1S"), Some(Duration::from_secs(1)));
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for bad in ["", "S", "1", "1s", "-1S", "123456789S", "1 S", "ä", "1ä", "0x1S", "+1S"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn no_caller_waits_longer_than_the_servers_limit() {
        let mut metadata = MetadataMap::new();
        assert!(Caller::of(&metadata).unwrap().left() <= limits::UNARY_DEADLINE);
        metadata.insert("grpc-timeout", "1H".parse().unwrap());
        assert!(Caller::of(&metadata).unwrap().left() <= limits::UNARY_DEADLINE);
        metadata.insert("grpc-timeout", "100m".parse().unwrap());
        assert!(Caller::of(&metadata).unwrap().left() <= Duration::from_millis(100));
        metadata.insert("grpc-timeout", "soon".parse().unwrap());
        assert!(matches!(Caller::of(&metadata), Err(Error::InvalidField(_))));
    }
}
