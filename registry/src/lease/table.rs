//! The deadlines of all leases, as one leader remembers them (P/L1, P/L3).
//!
//! A table belongs to one leadership and is dropped with it. It is pure: steady time (monotonic, since an
//! origin of the caller's choice) comes in with every call. Deadlines are in *lease time*, which runs at
//! most as fast as steady time, so that a lease can only live longer than its time to live, never shorter.

use std::collections::HashMap;
use std::time::Duration;

use super::guard::{Vitals, is_overdue};
use super::wheel::Wheel;

/// The most that lease time moves in one tick (P/L3): whatever froze the leader also froze renewals.
pub const LARGEST_STEP: Duration = Duration::from_secs(2);

/// Lease time stands still when the last successful quorum round is older than this (P/L3).
pub const QUORUM_FRESH: Duration = Duration::from_secs(1);

/// Leases of one `Expire` entry (P/L4): an entry stays below 4 KiB and one apply short.
pub const EXPIRE_LEASES: usize = 256;

/// Instances of one `Expire` entry (P/L4), so that its events fit a watch's queue.
pub const EXPIRE_INSTANCES: usize = 1_024;

/// The clock of leases.
#[derive(Debug, Clone, Copy)]
pub struct LeaseClock {
    now: Duration,
    ticked_at: Duration,
}

impl LeaseClock {
    /// A clock that starts at the steady time `at`. Its own time begins with an hour, so that a moment
    /// before the start can be named.
    pub fn new(at: Duration) -> Self {
        Self { now: Duration::from_secs(3_600), ticked_at: at }
    }

    /// Lease time of the last tick.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Moves on to the steady time `at`. `quorum_at` is when the last successful round began.
    pub fn tick(&mut self, at: Duration, quorum_at: Duration) {
        let step = at.saturating_sub(self.ticked_at).min(LARGEST_STEP);
        if at.saturating_sub(quorum_at) <= QUORUM_FRESH {
            self.now += step;
        }
        self.ticked_at = self.ticked_at.max(at);
    }

    /// Lease time at the steady time `at`, never less than what the clock showed or will show then: a
    /// deadline counted from it is not early. Since the last tick the clock is taken to run (it may turn
    /// out to have stood); before it, it is taken to have run without pause.
    pub fn at(&self, at: Duration) -> Duration {
        match at.checked_sub(self.ticked_at) {
            Some(since) => self.now + since.min(LARGEST_STEP),
            None => self.now.saturating_sub(self.ticked_at - at),
        }
    }
}

/// What a renewal did to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The deadline moved, or there is none to move (the guard holds the lease).
    Moved,
    /// An entry of the log decides: the lease is in an `Expire` under way (P/L4), or the guard has let it
    /// go and its `Unprotect` has to be applied first (P/L6).
    Expiring,
    /// The table does not have it: ended, permanent, or not applied yet. The state knows.
    Unknown,
}

/// A lease to expire, at the version at which it was seen silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    /// The lease.
    pub id: u64,
    /// Its version: apply expires no other (P/L4).
    pub version: u64,
    /// How long its deadline was over when it was taken.
    pub late: Duration,
    /// It is named again, because nobody knows what became of the `Expire` before: that may yet be applied.
    pub again: bool,
}

/// What became of an `Expire`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was applied, or was certainly not proposed.
    Certain,
    /// It may still be applied: its leases stay held back and are named again in the next pass.
    Unknown,
}

#[derive(Debug)]
struct Lease {
    version: u64,
    ttl: Duration,
    deadline: Duration,
    /// Slot of the last filing; earlier filings are ignored.
    slot: u64,
    phase: Phase,
    /// It stands in `overdue`, rightly or no longer.
    listed: bool,
    /// The guard let it go and nothing in the log says that its owner is back.
    released: bool,
    /// The guard has it, but its owner was heard: an `Unprotect` has to be proposed.
    recovering: bool,
}

impl Lease {
    fn running(version: u64, ttl: Duration, deadline: Duration, slot: u64) -> Self {
        let (phase, listed, released, recovering) = (Phase::Running, false, false, false);
        Self { version, ttl, deadline, slot, phase, listed, released, recovering }
    }

    /// How long its owner has been silent, in lease time.
    fn silent(&self, now: Duration) -> Duration {
        (now + self.ttl).saturating_sub(self.deadline)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Filed in the wheel.
    Running,
    /// Its slot has fired, or the guard let it go; listed in `overdue`.
    Overdue,
    /// In an `Expire` under way, or in one whose outcome is not known.
    Expiring,
    /// Kept by the mass-expiry guard: no deadline (P/L6).
    Held,
}

/// The deadlines of one leadership.
#[derive(Debug)]
pub struct Table {
    clock: LeaseClock,
    wheel: Wheel,
    leases: HashMap<u64, Lease>,
    /// Leases whose slot has fired, that the guard let go, or whose `Expire` has to be repeated; each once.
    overdue: Vec<u64>,
    /// Leases that became `recovering`.
    recovered: Vec<u64>,
    /// A guard is about to end: from now on owners of what it keeps wait for their `Unprotect`, since the
    /// next leader may find them let go.
    letting_go: bool,
}

impl Table {
    /// An empty table of a leadership whose own no-op was applied by the steady time `at`.
    pub fn new(at: Duration) -> Self {
        let clock = LeaseClock::new(at);
        Self {
            clock,
            wheel: Wheel::new(clock.now()),
            leases: HashMap::new(),
            overdue: Vec::new(),
            recovered: Vec::new(),
            letting_go: false,
        }
    }

    /// The clock of its deadlines.
    pub fn clock(&self) -> &LeaseClock {
        &self.clock
    }

    /// Number of leases with or without a deadline; permanent ones are not in the table.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// True if it has no lease.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// A lease was opened or touched by a write of its owner, which counts as renewal (P/L4). A time to
    /// live of zero is permanent.
    pub fn opened(&mut self, id: u64, version: u64, ttl: Duration, at: Duration) {
        if ttl.is_zero() {
            return self.closed(id);
        }
        let deadline = self.clock.at(at) + ttl;
        if let Some(lease) = self.leases.get_mut(&id) {
            if lease.version >= version {
                return; // told before, with the state that the table was filled from
            }
            // An Expire under way names an older version: it can no longer end this lease.
            let filed = lease.phase == Phase::Running && lease.slot <= self.wheel.slot_of(deadline);
            let slot = if filed { lease.slot } else { self.wheel.file(id, deadline) };
            *lease = Lease { listed: lease.listed, ..Lease::running(version, ttl, deadline, slot) };
            return;
        }
        let slot = self.wheel.file(id, deadline);
        self.leases.insert(id, Lease::running(version, ttl, deadline, slot));
    }

    /// The mass-expiry guard keeps a lease: it has no deadline until its owner writes or the guard lets
    /// it go (P/L6). `ttl` is for a lease that the table does not have yet.
    pub fn held(&mut self, id: u64, version: u64, ttl: Duration) {
        let now = self.clock.now();
        let fresh = Lease::running(version, ttl, Duration::MAX, 0);
        let lease = self.leases.entry(id).or_insert(fresh);
        // Renewed while the `Protect` was on its way: its owner has been answered already.
        let heard = lease.deadline != Duration::MAX && !is_overdue(lease.silent(now), lease.ttl);
        let recovering = lease.recovering || heard;
        if recovering && !lease.recovering {
            self.recovered.push(id);
        }
        let (phase, released, deadline) = (Phase::Held, false, Duration::MAX);
        *lease = Lease { version, deadline, slot: 0, phase, released, recovering, ..*lease };
    }

    /// The guard lets a lease go: it is due at once (P/L6). `ttl` as in [`Table::held`].
    pub fn released(&mut self, id: u64, version: u64, ttl: Duration) {
        let deadline = self.clock.now();
        let lease = self.leases.entry(id).or_insert(Lease::running(version, ttl, deadline, 0));
        if lease.phase != Phase::Expiring {
            *lease = Lease { version, deadline, slot: 0, phase: Phase::Overdue, released: true, ..*lease };
            self.list(id);
        }
    }

    fn list(&mut self, id: u64) {
        if let Some(lease) = self.leases.get_mut(&id)
            && !lease.listed
        {
            lease.listed = true;
            self.overdue.push(id);
        }
    }

    /// A lease has ended.
    pub fn closed(&mut self, id: u64) {
        self.leases.remove(&id);
    }

    /// Moves the deadline of a lease whose renewal was decoded at the steady time `arrived`.
    pub fn renew(&mut self, id: u64, arrived: Duration) -> Renewal {
        let now = self.clock.at(arrived);
        match self.leases.get_mut(&id) {
            None => Renewal::Unknown,
            Some(lease) if lease.phase == Phase::Expiring => Renewal::Expiring,
            Some(lease) => {
                let held = lease.phase == Phase::Held;
                if !held {
                    lease.deadline = lease.deadline.max(now + lease.ttl);
                }
                if (held || lease.released) && !lease.recovering {
                    lease.recovering = true;
                    self.recovered.push(id);
                }
                let waits = lease.released || (held && self.letting_go);
                if waits { Renewal::Expiring } else { Renewal::Moved }
            }
        }
    }

    /// Takes leases for one `Unprotect`: the guard has them, and their owners are back. Bounded as an
    /// `Expire`; call [`Table::unprotected`] with its outcome.
    pub fn take_recovered(&mut self, instances: impl Fn(u64) -> usize) -> Vec<(u64, u64)> {
        let (mut taken, mut room) = (Vec::new(), EXPIRE_INSTANCES);
        while let Some(&id) = self.recovered.last() {
            if let Some(lease) = self.leases.get(&id).filter(|lease| lease.recovering) {
                let size = instances(id).max(1);
                if taken.len() == EXPIRE_LEASES || (size > room && !taken.is_empty()) {
                    break;
                }
                room = room.saturating_sub(size);
                taken.push((id, lease.version));
            }
            self.recovered.pop();
        }
        taken
    }

    /// An `Unprotect` has an outcome: what it did not reach is taken again.
    pub fn unprotected(&mut self, leases: &[(u64, u64)]) {
        let again = |id: &u64| self.leases.get(id).is_some_and(|lease| lease.recovering);
        self.recovered.extend(leases.iter().map(|(id, _)| *id).filter(again));
    }

    /// Whether owners are back whom the guard has.
    pub fn has_recovered(&self) -> bool {
        !self.recovered.is_empty()
    }

    /// A guard is about to end, or has ended or stays.
    pub fn let_go(&mut self, begins: bool) {
        self.letting_go = begins;
    }

    /// What is known of a lease; nothing if it is permanent or not open.
    pub fn vitals(&self, id: u64) -> Option<Vitals> {
        let lease = self.leases.get(&id)?;
        let silent = lease.silent(self.clock.now());
        let kept = lease.phase == Phase::Held || lease.released;
        let overdue = !lease.recovering && (kept || is_overdue(silent, lease.ttl));
        Some(Vitals { id, version: lease.version, ttl: lease.ttl, silent, kept, overdue })
    }

    /// Moves lease time on and looks at the slots that have fired. `quorum_at`: when the last successful
    /// quorum round began. Returns whether any lease seems overdue.
    pub fn tick(&mut self, at: Duration, quorum_at: Duration) -> bool {
        self.clock.tick(at, quorum_at);
        let now = self.clock.now();
        while let Some((slot, ids)) = self.wheel.pop(now) {
            for id in ids {
                let Some(lease) = self.leases.get_mut(&id) else { continue };
                if lease.slot != slot || lease.phase != Phase::Running {
                    continue;
                }
                if lease.deadline > now {
                    lease.slot = self.wheel.file(id, lease.deadline);
                } else {
                    lease.phase = Phase::Overdue;
                    if !std::mem::replace(&mut lease.listed, true) {
                        self.overdue.push(id);
                    }
                }
            }
        }
        !self.overdue.is_empty()
    }

    /// Takes the leases for one `Expire` entry and holds back their renewals until [`Table::settled`].
    /// Call it again until it returns none. What was renewed since its slot fired goes back to the wheel.
    ///
    /// `instances` tells how many instances a lease has.
    pub fn take_overdue(&mut self, instances: impl Fn(u64) -> usize) -> Vec<Overdue> {
        let now = self.clock.now();
        let mut taken = Vec::new();
        let mut room = EXPIRE_INSTANCES;
        while let Some(&id) = self.overdue.last() {
            if let Some(lease) = self.leases.get_mut(&id) {
                let due = match lease.phase {
                    Phase::Overdue => lease.deadline <= now && !lease.recovering,
                    // Of a pass whose outcome is not known: nobody was told that it lives, so it may be
                    // named again.
                    Phase::Expiring => true,
                    Phase::Running | Phase::Held => false,
                };
                if due {
                    let size = instances(id).max(1);
                    if taken.len() == EXPIRE_LEASES || (size > room && !taken.is_empty()) {
                        break;
                    }
                    room = room.saturating_sub(size);
                    let again = lease.phase == Phase::Expiring;
                    lease.phase = Phase::Expiring;
                    let late = now.saturating_sub(lease.deadline);
                    taken.push(Overdue { id, version: lease.version, late, again });
                } else if lease.phase == Phase::Overdue {
                    lease.phase = Phase::Running;
                    lease.slot = self.wheel.file(id, lease.deadline);
                }
                lease.listed = false;
            }
            self.overdue.pop();
        }
        taken
    }

    /// What became of an `Expire`, while the leadership goes on. Leases that it ended have been removed by
    /// [`Table::closed`] by then.
    pub fn settled(&mut self, leases: &[Overdue], outcome: Outcome) {
        for overdue in leases {
            let Some(lease) = self.leases.get_mut(&overdue.id) else { continue };
            if lease.phase != Phase::Expiring || lease.version != overdue.version {
                continue;
            }
            if outcome == Outcome::Certain {
                lease.phase = Phase::Overdue;
            }
            self.list(overdue.id);
        }
    }
}

#[cfg(test)]
#[path = "table_test.rs"]
mod tests;
