//! How long work waits at this node before anybody looks at it: the measure of overload (P/O1).
//!
//! Two waits are taken, both on the runtime of clients: of each call, from its arrival on the connection to
//! the first step of its own task; and of a ticker, from the moment when it is due. Both are what a renewal
//! would wait as well. In a window of 100 ms the larger of the mean and the ticker counts, smoothed over some
//! windows. A wait is a better measure than a count of calls or the use of the processor: it needs no
//! capacity to be known (CoDel, RFC 8289; "Overload Control for Scaling WeChat Microservices", 2018).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tonic::Code;

use super::admit::Class;
use crate::metrics::Metrics;
use crate::server::observe::ObserveCalls;

/// Length of a window.
const WINDOW: Duration = Duration::from_millis(100);

/// Calls that must wait at a time, on average: with fewer a node does not wait for its own calls but for
/// others on its machine, and shedding would help nobody. Little's law: the waits of a window together,
/// divided by its length.
const WAITING_CALLS: u32 = 4;

/// A single window counts so much at most: after a pause of the whole machine a node is not to shed for
/// seconds.
const LONGEST_WINDOW: Duration = Duration::from_millis(800);

/// The newest window counts a quarter: a wait that lasts is seen within half a second, a single pause is
/// not.
const WEIGHT: f64 = 0.25;

/// Never all calls of a class are shed: so it is seen when there is room again, and no caller is shut out.
const LARGEST_SHARE: f64 = 0.95;

/// Bounds of the time that a shed caller is asked to wait.
const SHORTEST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// The wait at which a class begins to be shed, and that at which nearly all of it is. Far below the second
/// after which a forwarded renewal is worthless (P/L2), in the order of P/O1. Nothing else is shed by its
/// wait.
fn thresholds(class: Class) -> Option<(Duration, Duration)> {
    let ms = Duration::from_millis;
    match class {
        Class::StaleRead => Some((ms(20), ms(100))),
        Class::Read => Some((ms(60), ms(300))),
        Class::Register => Some((ms(150), ms(750))),
        Class::Relief | Class::Renewal | Class::Status => None,
    }
}

/// The part of a class to be shed while work waits so long.
pub(super) fn share(class: Class, delay: Duration) -> f64 {
    let Some((begin, nearly_all)) = thresholds(class) else { return 0.0 };
    let excess = delay.saturating_sub(begin).as_secs_f64();
    (excess / (nearly_all - begin).as_secs_f64()).min(LARGEST_SHARE)
}

/// How long a shed caller should wait: the longer, the more there is too much.
pub(super) fn retry_after(class: Class, delay: Duration) -> Duration {
    let Some((begin, _)) = thresholds(class) else { return SHORTEST_RETRY };
    SHORTEST_RETRY.mul_f64((delay.as_secs_f64() / begin.as_secs_f64()).max(1.0)).min(LONGEST_RETRY)
}

/// What a window has shown.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    calls: u64,
    /// Their waits together.
    waited: Duration,
    /// How late its end was noticed.
    late: Duration,
}

impl Window {
    /// The smoothed wait after this window.
    fn smooth(self, before: Duration) -> Duration {
        let mean = self.waited / u32::try_from(self.calls.max(1)).unwrap_or(u32::MAX);
        let many = self.calls >= WAITING_CALLS.into() && self.waited >= WAITING_CALLS * WINDOW;
        let newest = if many { mean.max(self.late).min(LONGEST_WINDOW) } else { Duration::ZERO };
        before.mul_f64(1.0 - WEIGHT) + newest.mul_f64(WEIGHT)
    }
}

/// The load of this node. A clone shares it.
#[derive(Debug, Clone, Default)]
pub struct Load {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicU64,
    waited_us: AtomicU64,
    delay_us: AtomicU64,
}

impl Load {
    /// A call has waited so long for its task.
    pub fn waited(&self, waited: Duration) {
        self.shared.calls.fetch_add(1, Ordering::Relaxed);
        self.shared.waited_us.fetch_add(whole_us(waited), Ordering::Relaxed);
    }

    /// How long work waits at present.
    pub fn delay(&self) -> Duration {
        Duration::from_micros(self.shared.delay_us.load(Ordering::Relaxed))
    }

    /// Measures on the present runtime until nobody else shares this load.
    pub async fn measure(self) {
        let mut due = Instant::now() + WINDOW;
        while Arc::strong_count(&self.shared) > 1 {
            sleep_until(due).await;
            let now = Instant::now();
            self.end_window(now - due);
            due = now + WINDOW;
        }
    }

    fn end_window(&self, late: Duration) {
        let window = Window {
            calls: self.shared.calls.swap(0, Ordering::Relaxed),
            waited: Duration::from_micros(self.shared.waited_us.swap(0, Ordering::Relaxed)),
            late,
        };
        let delay = window.smooth(self.delay());
        self.shared.delay_us.store(whole_us(delay), Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn of(delay: Duration) -> Self {
        let load = Self::default();
        load.shared.delay_us.store(whole_us(delay), Ordering::Relaxed);
        load
    }
}

fn whole_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Sees the calls of clients: counts them, and measures how long they wait.
#[derive(Debug, Clone)]
pub struct ClientCalls {
    /// What is counted.
    pub metrics: Metrics,
    /// What is measured.
    pub load: Load,
}

impl ObserveCalls for ClientCalls {
    fn begun(&self, waited: Duration) {
        self.load.waited(waited);
    }

    fn too_late(&self) {
        self.metrics.shed("late");
    }

    fn ended(&self, method: &'static str, code: Code, took: Duration) {
        self.metrics.ended(method, code, took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn busy(wait: Duration) -> Window {
        Window { calls: 100, waited: wait * 100, late: Duration::ZERO }
    }

    #[test]
    fn classes_are_shed_in_their_order_and_what_ends_or_renews_never() {
        let order = [Class::StaleRead, Class::Read, Class::Register];
        for delay in [0, 10, 30, 70, 100, 200, 500, 5_000].map(|delay| delay * MS) {
            for pair in order.windows(2) {
                assert!(share(pair[0], delay) >= share(pair[1], delay), "{pair:?} at {delay:?}");
            }
            for class in [Class::Relief, Class::Renewal, Class::Status] {
                assert!(share(class, delay) == 0.0, "{class:?} at {delay:?}");
            }
        }
        assert!(share(Class::StaleRead, 19 * MS) == 0.0);
        assert!(share(Class::StaleRead, 60 * MS) > 0.4 && share(Class::Read, 60 * MS) == 0.0);
        assert!(share(Class::Read, 140 * MS) > 0.3 && share(Class::Register, 140 * MS) == 0.0);
        assert!(share(Class::Register, Duration::from_secs(60)) <= LARGEST_SHARE);
    }

    #[test]
    fn the_wait_asked_for_grows_with_the_excess() {
        assert_eq!(retry_after(Class::StaleRead, 20 * MS), 250 * MS);
        assert_eq!(retry_after(Class::StaleRead, 80 * MS), 1_000 * MS);
        assert_eq!(retry_after(Class::StaleRead, 60_000 * MS), LONGEST_RETRY);
        assert!(retry_after(Class::Read, 80 * MS) < retry_after(Class::StaleRead, 80 * MS));
    }

    #[test]
    fn a_wait_that_lasts_is_seen_in_half_a_second_and_forgotten_as_soon() {
        let mut delay = busy(400 * MS).smooth(Duration::ZERO);
        assert_eq!(delay, 100 * MS);
        (0..5).for_each(|_| delay = busy(400 * MS).smooth(delay));
        assert!(delay > 300 * MS, "{delay:?}");
        (0..10).for_each(|_| delay = busy(MS).smooth(delay));
        assert!(delay < 25 * MS, "{delay:?}");
    }

    #[test]
    fn waits_count_only_while_calls_wait_for_each_other() {
        let late = Window { late: 400 * MS, ..busy(5 * MS) };
        assert_eq!(late.smooth(Duration::ZERO), 100 * MS);
        let few = Window { calls: 3, waited: 3 * 400 * MS, ..late };
        assert_eq!(few.smooth(Duration::ZERO), Duration::ZERO, "three calls beside a busy neighbour");
        let short = Window { waited: 100 * MS, ..late };
        assert_eq!(short.smooth(Duration::ZERO), Duration::ZERO, "one waits at a time");
    }

    #[test]
    fn a_pause_of_the_machine_is_forgotten_in_a_second() {
        let mut delay = busy(30_000 * MS).smooth(Duration::ZERO);
        (0..10).for_each(|_| delay = Window::default().smooth(delay));
        assert!(share(Class::StaleRead, delay) == 0.0, "{delay:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_load_is_measured_until_it_is_dropped() {
        let load = Load::default();
        let measuring = tokio::spawn(load.clone().measure());
        for _ in 0..10 {
            (0..100).for_each(|_| load.waited(80 * MS));
            tokio::time::sleep(WINDOW).await;
        }
        assert!(load.delay() > 50 * MS, "{:?}", load.delay());
        drop(load);
        measuring.await.unwrap();
    }
}
