use proptest::prelude::*;
use registry_state::ClusterSettings;

use super::*;

const GUARD: GuardSettings = ClusterSettings::DEFAULT.guard;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn census(overdue: u64, leases: u64) -> Census {
    Census { leases, overdue }
}

#[test]
fn an_owner_is_overdue_after_more_than_two_thirds_of_its_time() {
    assert!(!is_overdue(seconds(10), seconds(15)));
    assert!(is_overdue(Duration::from_millis(10_001), seconds(15)));
}

#[test]
fn five_and_more_than_half_are_a_mass() {
    for (overdue, leases) in [(5, 9), (200, 200), (101, 200), (5, 5)] {
        assert!(census(overdue, leases).is_mass(&GUARD), "{overdue} of {leases}");
    }
    for (overdue, leases) in [(2, 2), (4, 4), (5, 10), (2, 200), (100, 200), (0, 0)] {
        assert!(!census(overdue, leases).is_mass(&GUARD), "{overdue} of {leases}");
    }
    assert!(!census(200, 200).is_mass(&GuardSettings { enabled: false, ..GUARD }));
}

#[test]
fn a_quarter_is_not_calm_and_less_is() {
    assert!(!census(50, 200).is_calm());
    assert!(census(49, 200).is_calm());
    assert!(census(0, 0).is_calm());
    assert!(!census(1, 1).is_calm());
}

#[test]
fn an_expired_lease_counts_for_one_time_to_live() {
    let (a, b) = (Arc::new(ServiceKey::new("d", "a")), Arc::new(ServiceKey::new("d", "b")));
    let mut recent = Recent::default();
    recent.expired(&a, seconds(100), seconds(15));
    recent.expired(&a, seconds(101), seconds(5));
    recent.expired(&b, seconds(101), seconds(60));
    assert_eq!((recent.count(&a, seconds(105)), recent.count(&b, seconds(105))), (2, 1));
    assert_eq!(recent.count(&a, seconds(106)), 1);
    assert_eq!((recent.count(&a, seconds(115)), recent.count(&b, seconds(160))), (0, 1));
    assert_eq!(recent.count(&b, seconds(161)), 0);
    assert!(recent.counts.is_empty() && recent.until.is_empty());
}

proptest! {
    #[test]
    fn counting_stops_early_only_if_the_rest_changes_nothing(
        alive in 0_u64..300, overdue in 0_u64..300, more in prop::collection::vec(any::<bool>(), 0..300),
        min_leases in 1_u32..20, percent in 1_u32..=100,
    ) {
        let guard = GuardSettings { min_leases, percent, ..GUARD };
        let seen = census(overdue, alive + overdue);
        let dead = more.iter().filter(|dead| **dead).count() as u64;
        let whole = census(overdue + dead, seen.leases + more.len() as u64);
        if seen.cannot_be_mass(more.len() as u64, &guard) {
            prop_assert!(!whole.is_mass(&guard), "{whole:?} after {seen:?}");
        }
    }

    #[test]
    fn a_guard_that_is_calm_would_not_take_hold_with_the_usual_settings(overdue in 0_u64..1_000, alive in 0_u64..1_000) {
        let census = census(overdue, overdue + alive);
        prop_assert!(!(census.is_calm() && census.is_mass(&GUARD)));
    }
}
