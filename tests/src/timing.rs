//! Bounds on time: "never early" is strict, "not too late" has room for a busy machine.

use std::time::Duration;

/// How much later than promised something may be before a test fails: five times, or exactly the
/// promise with `STRICT_TIMING=1`.
fn factor() -> u32 {
    if std::env::var("STRICT_TIMING").is_ok_and(|value| value == "1") { 1 } else { 5 }
}

/// Fails if `took` is beyond the promise; prints the figure in any case.
pub fn assert_within(what: &str, took: Duration, promise: Duration) {
    println!("{what}: {} ms (promised {} ms)", took.as_millis(), promise.as_millis());
    let bound = promise * factor();
    assert!(took <= bound, "{what} took {took:?}, the bound is {bound:?}");
}

/// As [`assert_within`], with the lateness that the nodes measured of themselves added: a machine that did
/// not let them run is not their fault.
pub fn assert_expired_within(what: &str, took: Duration, promise: Duration, lateness: Duration) {
    println!("{what}: the nodes' own lateness was up to {} ms", lateness.as_millis());
    assert_within(what, took.saturating_sub(lateness), promise);
}

/// Fails if `took` is below `least`.
pub fn assert_not_before(what: &str, took: Duration, least: Duration) {
    assert!(took >= least, "{what} came after {took:?}, which is before {least:?}");
}

/// Minimum, median and maximum.
pub fn spread(values: &[Duration]) -> (Duration, Duration, Duration) {
    let mut sorted = values.to_vec();
    sorted.sort();
    (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1])
}
