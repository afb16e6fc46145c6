//! Whether this process has stood still: then a silence around it proves nothing.

use std::time::Duration;

/// Time between two looks at the clock.
pub(super) const PULSE: Duration = Duration::from_millis(250);
/// A look that comes later than this is a stall (P/N6).
const STALL: Duration = Duration::from_secs(1);

/// Compares the times of looks. The clock is that which goes on while the machine sleeps (CLOCK_BOOTTIME).
#[derive(Debug)]
pub(super) struct Stall {
    last: Duration,
}

impl Stall {
    pub(super) fn new(boot: Duration) -> Self {
        Self { last: boot }
    }

    /// A look at the clock. True if more than a second was missed since the last.
    pub(super) fn looked(&mut self, boot: Duration) -> bool {
        let gap = boot.saturating_sub(self.last);
        self.last = boot;
        gap > PULSE + STALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_missed_is_a_stall_and_a_busy_machine_is_none() {
        let at = Duration::from_millis;
        let mut stall = Stall::new(at(0));
        assert!(!stall.looked(at(250)));
        assert!(!stall.looked(at(1_500)), "a second late, not more");
        assert!(stall.looked(at(2_751)));
        assert!(!stall.looked(at(2_800)), "the row begins again");
        assert!(stall.looked(at(62_800)));
    }

    #[test]
    fn a_clock_that_goes_back_is_no_stall() {
        let mut stall = Stall::new(Duration::from_secs(100));
        assert!(!stall.looked(Duration::from_secs(1)));
    }
}
