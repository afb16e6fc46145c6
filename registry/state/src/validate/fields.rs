//! Rules for the values of single fields. Each function records at most one violation for its field.

use std::net::Ipv6Addr;

use super::Violations;
use crate::instance::InstanceState;
use crate::limits::*;

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn is_name(value: &str) -> bool {
    let bytes = value.as_bytes();
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= NAME_BYTES_MAX
        && ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.iter().copied().all(is_name_byte)
}

/// A name: namespace, service, zone, port.
pub fn name(violations: &mut Violations, field: &str, value: &str) {
    violations.require(is_name(value), field, || {
        if value.is_empty() {
            return "must be given".into();
        }
        format!(
            "must be 1 to {NAME_BYTES_MAX} of a-z A-Z 0-9 - _ . and begin and end with a letter or digit; got {}",
            quoted(value)
        )
    });
}

/// A name that may be missing.
pub fn name_or_empty(violations: &mut Violations, field: &str, value: &str) {
    if !value.is_empty() {
        name(violations, field, value);
    }
}

/// An instance id.
pub fn instance_id(violations: &mut Violations, field: &str, value: &str) {
    let fits = !value.is_empty()
        && value.len() <= INSTANCE_ID_BYTES_MAX
        && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    violations.require(fits, field, || {
        format!(
            "must be 1 to {INSTANCE_ID_BYTES_MAX} bytes of printable ASCII without space or \"/\"; got {}",
            quoted(value)
        )
    });
}

/// A host: DNS name or IP address, without port and brackets.
pub fn host(violations: &mut Violations, field: &str, value: &str) {
    let fits = if value.contains(':') { value.parse::<Ipv6Addr>().is_ok() } else { is_name(value) };
    violations.require(fits && value.len() <= HOST_BYTES_MAX, field, || {
        if value.is_empty() {
            return "must be given".into();
        }
        format!("must be a DNS name or an IP address without port and brackets; got {}", quoted(value))
    });
}

/// A port.
pub fn port(violations: &mut Violations, field: &str, value: u32) {
    violations.require((1..=PORT_MAX).contains(&value), field, || {
        format!("{value} is not a port, 1 to {PORT_MAX}")
    });
}

/// A weight that may be missing.
pub fn weight(violations: &mut Violations, field: &str, value: Option<u32>) {
    let value = value.unwrap_or(0);
    violations.require(value <= WEIGHT_MAX, field, || format!("{value} is above {WEIGHT_MAX}"));
}

/// A state that may be missing; returns it, `Unspecified` if it is unknown too.
pub fn state_or_unspecified(violations: &mut Violations, field: &str, value: i32) -> InstanceState {
    let state = InstanceState::try_from(value);
    violations.require(state.is_ok(), field, || format!("{value} is not a state that this registry knows"));
    state.unwrap_or(InstanceState::Unspecified)
}

/// A state that must be there.
pub fn state(violations: &mut Violations, field: &str, value: i32) {
    let state = InstanceState::try_from(value).unwrap_or(InstanceState::Unspecified);
    violations.require(state != InstanceState::Unspecified, field, || {
        "must be STARTING, UP, DRAINING or DOWN".into()
    });
}

/// Time to live of a lease in milliseconds, if given.
pub fn lease_ttl(violations: &mut Violations, field: &str, ttl_ms: Option<u64>) {
    let fits = ttl_ms.is_none_or(|ttl| ttl == 0 || (TTL_MS_MIN..=TTL_MS_MAX).contains(&ttl));
    violations.require(fits, field, || "must be 0 (permanent) or 1 s to 1 h, in whole milliseconds".into());
}

/// Time to live of an override in milliseconds, if given.
pub fn override_ttl(violations: &mut Violations, field: &str, ttl_ms: Option<u64>) {
    let fits = ttl_ms.is_none_or(|ttl| (OVERRIDE_TTL_MS_MIN..=OVERRIDE_TTL_MS_MAX).contains(&ttl));
    violations.require(fits, field, || "must be 1 s to 90 d".into());
}

/// Text without control characters.
pub fn text(violations: &mut Violations, field: &str, value: &str, bytes_max: usize) {
    let fits = value.len() <= bytes_max && !value.chars().any(char::is_control);
    violations.require(fits, field, || {
        format!("must be at most {bytes_max} bytes without control characters; has {}", value.len())
    });
}

/// Number of elements.
pub fn count(violations: &mut Violations, field: &str, len: usize, max: usize) {
    violations.require(len <= max, field, || format!("has {len} elements, at most {max} are allowed"));
}

/// A metadata key.
pub fn metadata_key(violations: &mut Violations, field: &str, key: &str) {
    let fits =
        !key.is_empty() && key.len() <= METADATA_KEY_BYTES_MAX && key.bytes().all(|b| b.is_ascii_graphic());
    violations.require(fits, field, || {
        format!("the key must be 1 to {METADATA_KEY_BYTES_MAX} bytes of printable ASCII without space")
    });
}

/// `request_id.client`.
pub fn client(violations: &mut Violations, field: &str, value: &str) {
    let fits = !value.is_empty()
        && value.len() <= CLIENT_BYTES_MAX
        && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    violations.require(fits, field, || format!("must be 1 to {CLIENT_BYTES_MAX} bytes of printable ASCII"));
}

/// A value as an error shows it: short and without control characters.
pub(super) fn shown(value: &str) -> String {
    const SHOWN_CHARS: usize = 40;
    let mut short: String = value.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if value.chars().nth(SHOWN_CHARS).is_some() {
        short.push('…');
    }
    short
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", shown(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(check: impl FnOnce(&mut Violations)) -> bool {
        let mut violations = Violations::new();
        check(&mut violations);
        !violations.is_empty()
    }

    #[test]
    fn names_are_bounded_and_begin_and_end_well() {
        for good in ["a", "A-1_b.c", "0", &"n".repeat(253)] {
            assert!(!refused(|v| name(v, "", good)), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "a/b", "ä", "a\0b", &"n".repeat(254)] {
            assert!(refused(|v| name(v, "", bad)), "{bad}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses_without_brackets() {
        for good in ["localhost", "10.0.0.1", "2001:db8::1", "::1", "::ffff:10.0.0.1", "my_host.example"] {
            assert!(!refused(|v| host(v, "", good)), "{good}");
        }
        for bad in ["", "[::1]", "host:80", ":", "a b", "host/", "fe80::1%eth0"] {
            assert!(refused(|v| host(v, "", bad)), "{bad}");
        }
    }

    #[test]
    fn ids_texts_and_clients_refuse_what_people_cannot_read() {
        assert!(!refused(|v| instance_id(v, "", "[::1]:80")));
        for bad in ["", "a b", "a/b", "a\n", "ä"] {
            assert!(refused(|v| instance_id(v, "", bad)), "{bad}");
        }
        assert!(!refused(|v| text(v, "", "größer als", 20)));
        assert!(refused(|v| text(v, "", "line\nbreak", 20)) && refused(|v| text(v, "", "ä", 1)));
        assert!(!refused(|v| client(v, "", "my program 1")) && refused(|v| client(v, "", "")));
    }

    #[test]
    fn times_to_live_have_both_bounds() {
        for good in [None, Some(0), Some(1_000), Some(3_600_000)] {
            assert!(!refused(|v| lease_ttl(v, "", good)), "{good:?}");
        }
        for bad in [Some(1), Some(999), Some(3_600_001), Some(u64::MAX)] {
            assert!(refused(|v| lease_ttl(v, "", bad)), "{bad:?}");
        }
        assert!(refused(|v| override_ttl(v, "", Some(0))) && !refused(|v| override_ttl(v, "", Some(1_000))));
    }

    #[test]
    fn what_an_error_shows_is_short_and_printable() {
        let mut violations = Violations::new();
        name(&mut violations, "zone", &format!("{}\n{}", "a".repeat(10), "b".repeat(1_000)));
        let found = violations.into_result().unwrap_err();
        assert_eq!(found[0].field, "zone");
        assert!(found[0].description.len() < 200 && found[0].description.contains("\\n"));
    }
}
