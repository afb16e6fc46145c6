//! Growing waits with jitter.

use std::time::Duration;

use rand::RngExt as _;

/// Waits that double from `first` to `most`, each drawn between half and all of its length, so that many
/// clients that failed together do not come back together.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, tries: 0 }
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        // 2^16 times the first wait is beyond every `most` in use.
        let length = self.first.saturating_mul(1 << self.tries.min(16)).min(self.most);
        self.tries = self.tries.saturating_add(1);
        jittered(length)
    }

    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

/// Between half and all of `length`.
pub(crate) fn jittered(length: Duration) -> Duration {
    length.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_stay_within_half_of_it() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        for length in [10, 20, 40, 80, 100, 100] {
            let wait = backoff.next();
            assert!(wait <= Duration::from_millis(length) && wait >= Duration::from_millis(length / 2));
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(10));
    }
}
