//! Checks fields of requests and collects everything that is wrong (API/G2).

use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};

use prost_types::Duration;
use registry_state::limits as bounds;

use crate::error::{BadField, Error};

/// Collects the bad fields of one request.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    bad: Vec<BadField>,
    prefix: String,
}

impl Checker {
    /// Notes a bad field.
    pub(crate) fn refuse(&mut self, path: impl Display, problem: impl Into<String>) {
        self.bad.push(BadField::new(format!("{}{path}", self.prefix), problem));
    }

    /// Notes a bad field unless `holds`.
    pub(crate) fn require(&mut self, holds: bool, path: impl Display, problem: impl Into<String>) {
        if !holds {
            self.refuse(path, problem);
        }
    }

    /// Checks with `prefix` before all paths.
    pub(crate) fn within<T>(&mut self, prefix: String, check: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.prefix, prefix);
        let result = check(self);
        self.prefix = outer;
        result
    }

    /// Whether everything was right until here.
    pub(crate) fn is_clean(&self) -> bool {
        self.bad.is_empty()
    }

    /// `value` if all fields are right, else all that are not.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Error> {
        if self.bad.is_empty() { Ok(value) } else { Err(Error::InvalidField(self.bad)) }
    }

    /// A name that must be given.
    pub(crate) fn name(&mut self, path: &str, name: &str) {
        if name.is_empty() {
            self.refuse(path, "is required");
        } else {
            self.optional_name(path, name);
        }
    }

    /// A name that may be empty.
    pub(crate) fn optional_name(&mut self, path: impl Display, name: &str) {
        if let Err(problem) = check_name(name) {
            self.refuse(path, problem);
        }
    }

    /// The beginning of a name; may be empty.
    pub(crate) fn name_prefix(&mut self, path: &str, prefix: &str) {
        if prefix.len() > bounds::NAME_BYTES_MAX {
            self.refuse(path, at_most_bytes(bounds::NAME_BYTES_MAX, prefix.len()));
        } else if !prefix.bytes().all(is_name_byte) {
            self.refuse(path, NAME_BYTES_RULE);
        }
    }

    /// A namespace; empty means the default one.
    pub(crate) fn namespace(&mut self, namespace: &str) -> String {
        if namespace.is_empty() {
            return bounds::DEFAULT_NAMESPACE.to_owned();
        }
        self.optional_name("namespace", namespace);
        namespace.to_owned()
    }

    /// A host that must be given.
    pub(crate) fn host(&mut self, host: &str) {
        if host.is_empty() {
            self.refuse("host", "is required");
        } else if host.len() > bounds::HOST_BYTES_MAX {
            self.refuse("host", at_most_bytes(bounds::HOST_BYTES_MAX, host.len()));
        } else if !is_host(host) {
            self.refuse("host", "must be a DNS name or an IP address, without port and brackets");
        }
    }

    /// A main or further port that must be given.
    pub(crate) fn port(&mut self, path: impl Display, port: u32) -> u16 {
        match u16::try_from(port) {
            Ok(0) => self.refuse(path, "is required: 1 to 65535"),
            Ok(port) => return port,
            Err(_) => self.refuse(path, format!("must be 1 to 65535, not {port}")),
        }
        0
    }

    /// An id chosen by the owner.
    pub(crate) fn instance_id(&mut self, path: impl Display, id: &str) {
        if id.len() > bounds::INSTANCE_ID_BYTES_MAX {
            self.refuse(path, at_most_bytes(bounds::INSTANCE_ID_BYTES_MAX, id.len()));
        } else if !id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
            self.refuse(path, "must be printable ASCII without space or \"/\"");
        }
    }

    /// A text of `least` to `most` bytes without control characters.
    pub(crate) fn text(&mut self, path: impl Display, text: &str, least: usize, most: usize) {
        if text.len() < least {
            self.refuse(path, "must not be empty");
        } else if text.len() > most {
            self.refuse(path, at_most_bytes(most, text.len()));
        } else if text.chars().any(char::is_control) {
            self.refuse(path, "must not contain control characters");
        }
    }

    /// A key of 1 to `most` bytes of printable ASCII without space.
    pub(crate) fn key(&mut self, path: impl Display, key: &str, most: usize) {
        if key.is_empty() {
            self.refuse(path, "must not be empty");
        } else if key.len() > most {
            self.refuse(path, at_most_bytes(most, key.len()));
        } else if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.refuse(path, "must be printable ASCII without space");
        }
    }

    /// A duration in whole milliseconds from `least_ms` to `most_ms`, both included.
    pub(crate) fn duration_ms(&mut self, path: &str, duration: Duration, least_ms: u64, most_ms: u64) -> u64 {
        let whole = duration_ms(duration);
        match whole {
            Some(ms) if (least_ms..=most_ms).contains(&ms) => return ms,
            Some(ms) => self.refuse(path, format!("must be {least_ms} ms to {most_ms} ms, not {ms} ms")),
            None => self.refuse(
                path,
                format!("must be {least_ms} ms to {most_ms} ms, in whole milliseconds and not negative"),
            ),
        }
        0
    }
}

/// Milliseconds of a duration; nothing if it is negative, malformed or not whole.
pub fn duration_ms(duration: Duration) -> Option<u64> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u64::try_from(duration.nanos).ok()?;
    if nanos >= 1_000_000_000 || !nanos.is_multiple_of(1_000_000) {
        return None;
    }
    seconds.checked_mul(1_000)?.checked_add(nanos / 1_000_000)
}

/// A key as part of a path: short and printable whatever it is.
pub(crate) fn shown(key: &str) -> String {
    const LONGEST: usize = 32;
    let mut shown: String = key.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if key.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    shown
}

const NAME_BYTES_RULE: &str = "must consist of a-z, A-Z, 0-9, \"-\", \"_\" and \".\"";

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Ok(());
    }
    if name.len() > bounds::NAME_BYTES_MAX {
        return Err(at_most_bytes(bounds::NAME_BYTES_MAX, name.len()));
    }
    let bytes = name.as_bytes();
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    if !name.bytes().all(is_name_byte) {
        return Err(NAME_BYTES_RULE.to_owned());
    }
    if !alphanumeric(bytes.first()) || !alphanumeric(bytes.last()) {
        return Err("must begin and end with a letter or a digit".to_owned());
    }
    Ok(())
}

fn is_host(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok() || is_dns_name(host)
}

/// A name that a resolver may be asked for. A last label of digits alone would be a broken IPv4 address.
fn is_dns_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or(host);
    host.split('.').all(label_ok) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

fn at_most_bytes(most: usize, found: usize) -> String {
    format!("must be at most {most} bytes, not {found}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(check: impl FnOnce(&mut Checker)) -> Vec<BadField> {
        let mut checker = Checker::default();
        check(&mut checker);
        match checker.finish(()) {
            Ok(()) => Vec::new(),
            Err(Error::InvalidField(bad)) => bad,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn names_follow_the_rule_of_the_interface() {
        for good in ["a", "A.b-c_9", &"x".repeat(253), "0"] {
            assert_eq!(problems(|checker| checker.name("zone", good)), [], "{good}");
        }
        let long = "x".repeat(254);
        for bad in ["", "-a", "a-", ".", "a/b", "a b", "ä", "a\0", "\u{202e}a", "..", "%2e", &long] {
            assert_eq!(problems(|checker| checker.name("zone", bad)).len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in ["localhost", "10.0.0.1", "::1", "2001:db8::7", "a_b.svc.cluster.local.", "x-1"] {
            assert_eq!(problems(|checker| checker.host(good)), [], "{good}");
        }
        let long = format!("{}.a", "x".repeat(252));
        for bad in ["", "[::1]", "a:80", "10.0.0.256", "a..b", "-a.b", "a b", "a/b", "é", "1", &long] {
            assert_eq!(problems(|checker| checker.host(bad)).len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn ports_are_16_bits_and_not_0() {
        assert_eq!(problems(|checker| assert_eq!(checker.port("port", 65_535), 65_535)), []);
        assert_eq!(problems(|checker| assert_eq!(checker.port("port", 0), 0)).len(), 1);
        assert_eq!(problems(|checker| assert_eq!(checker.port("port", 65_536), 0)).len(), 1);
        assert_eq!(problems(|checker| assert_eq!(checker.port("port", u32::MAX), 0)).len(), 1);
    }

    #[test]
    fn durations_are_whole_milliseconds() {
        assert_eq!(duration_ms(Duration { seconds: 15, nanos: 5_000_000 }), Some(15_005));
        for (seconds, nanos) in
            [(-1, 0), (0, -1), (0, 1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, i32::MIN)]
        {
            assert_eq!(duration_ms(Duration { seconds, nanos }), None, "{seconds} {nanos}");
        }
    }

    #[test]
    fn a_path_shows_any_key_short_and_printable() {
        assert_eq!(shown("grpc"), "grpc");
        assert_eq!(shown("a\u{0}\u{202e}"), "a\\0\\u{202e}");
        assert!(shown(&"x".repeat(65_536)).len() < 40);
    }
}
