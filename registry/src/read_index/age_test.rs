use super::*;

/// A boot clock that stands where a test puts it.
#[derive(Debug, Default)]
struct Hand(AtomicU64);

impl Hand {
    fn put(&self, ms: u64) {
        self.0.store(ms, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn boot(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn unix_ms(&self) -> u64 {
        0
    }
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn age(started_ms: u64) -> (Arc<Hand>, AgeOfData) {
    let clock = Arc::<Hand>::default();
    clock.put(started_ms);
    (clock.clone(), AgeOfData::new(clock))
}

#[test]
fn before_the_first_round_only_a_lower_bound_is_known() {
    let (clock, age) = age(5_000);
    clock.put(7_500);
    assert_eq!(age.now(), Age { bound: at(2_500), unknown: true });
}

#[test]
fn the_age_runs_from_the_sending_of_the_last_round() {
    let (clock, age) = age(5_000);
    age.confirm(at(6_000));
    clock.put(6_700);
    assert_eq!(age.now(), Age { bound: at(700), unknown: false });
    // An older round that is applied late does not make the data older.
    age.confirm(at(5_500));
    assert_eq!(age.now().bound, at(700));
    // Nor does a suspension of the machine hide.
    clock.put(66_000);
    assert_eq!(age.now().bound, at(60_000));
}

#[test]
fn a_node_without_leader_counts_from_the_moment_it_lost_it() {
    let (clock, age) = age(5_000);
    assert!(!age.leaderless(at(2_000)));
    clock.put(7_000);
    assert!(age.leaderless(at(2_000)), "none was known since the start");
    age.leader(true);
    assert!(!age.leaderless(at(0)));
    age.leader(false);
    clock.put(8_000);
    age.leader(false);
    clock.put(9_000);
    assert!(age.leaderless(at(2_000)));
    assert!(!age.leaderless(at(2_001)));
}
