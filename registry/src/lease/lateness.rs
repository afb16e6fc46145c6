//! How late the ticks of leases come: whatever holds up a node shows here.

use std::time::Duration;

use tokio::time::Instant;

/// The latest is that of the last one to two of these.
const WINDOW: Duration = Duration::from_secs(30);

/// Remembers the latest tick.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    began: Option<Instant>,
    current: Duration,
    before: Duration,
}

impl Lateness {
    /// A tick due at `due` came at `now`. Returns how late it is, and the latest of the last minute.
    pub(crate) fn ticked(&mut self, due: Instant, now: Instant) -> (Duration, Duration) {
        let late = now.saturating_duration_since(due);
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= WINDOW {
            *self = Self { began: Some(now), current: Duration::ZERO, before: self.current };
        }
        self.current = self.current.max(late);
        (late, self.current.max(self.before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_remembered_for_half_a_minute_at_least_and_forgotten_after_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lateness = Lateness::default();
        assert_eq!(lateness.ticked(at(0), at(1)), (Duration::from_secs(1), Duration::from_secs(1)));
        assert_eq!(lateness.ticked(at(40), at(40)), (Duration::ZERO, Duration::from_secs(1)));
        assert_eq!(lateness.ticked(at(60), at(60)), (Duration::ZERO, Duration::from_secs(1)));
        assert_eq!(lateness.ticked(at(71), at(71)), (Duration::ZERO, Duration::ZERO));
    }
}
