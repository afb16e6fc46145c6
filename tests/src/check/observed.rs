//! Which revisions were known to have happened, and since when.

use super::history::{History, Time};
use super::stream::{self, Step};

/// Sightings of revisions: by answers and by messages of watches.
#[derive(Debug, Default)]
pub struct Observed {
    /// By time; the revision is the highest seen until then.
    sightings: Vec<(Time, u64)>,
}

impl Observed {
    /// Of all answers and all messages.
    pub fn of(history: &History) -> Self {
        let answers = history.operations.iter().filter_map(|call| Some((call.ended?, call.revision()?)));
        let mut sightings: Vec<(Time, u64)> = answers.collect();
        for watch in &history.watches {
            sightings.extend(stream::read(watch).steps.iter().filter_map(|step| match step {
                Step::View { at, revision, .. }
                | Step::Group { at, revision, .. }
                | Step::Told { at, revision } => Some((*at, *revision)),
                Step::Restart { .. } => None,
            }));
        }
        Self::from(sightings)
    }

    /// Of these sightings, in any order.
    pub fn from(mut sightings: Vec<(Time, u64)>) -> Self {
        sightings.sort_unstable();
        let mut highest = 0;
        for (_, revision) in &mut sightings {
            highest = highest.max(*revision);
            *revision = highest;
        }
        Self { sightings }
    }

    /// The highest revision that was seen before a point in time. What was seen in the same moment may have
    /// come after.
    pub fn before(&self, at: Time) -> u64 {
        let count = self.sightings.partition_point(|(seen, _)| *seen < at);
        count.checked_sub(1).map_or(0, |last| self.sightings[last].1)
    }

    /// When this revision or a later one was seen first.
    pub fn first(&self, revision: u64) -> Option<Time> {
        let at = self.sightings.partition_point(|(_, seen)| *seen < revision);
        self.sightings.get(at).map(|(time, _)| *time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_in_the_same_moment_may_have_come_after() {
        let second = Time::from_secs(1);
        let observed = Observed::from(vec![(second * 3, 2), (second, 1), (second * 2, 5)]);
        assert_eq!(observed.before(second), 0);
        assert_eq!(observed.before(second * 2), 1);
        assert_eq!(observed.before(second * 9), 5, "the highest, not the last");
        assert_eq!(observed.first(2), Some(second * 2));
        assert_eq!(observed.first(6), None);
    }
}
