//! Random operations, random crashes, compared with a model: what was acknowledged is there, the rest is there up to
//! some point of the order of the calls.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use registry_wal::sim_disk::{Fault, SimDisk, SimOperation};
use registry_wal::{Callback, Entry, Options, Purged};

use crate::support::{Log, purged};

#[derive(Debug, Clone)]
enum Step {
    Append {
        count: usize,
        bytes: usize,
    },
    Vote(u8),
    Truncate {
        back: u64,
    },
    Purge {
        ahead: u64,
    },
    Commit,
    RunOne,
    RunAll,
    Background,
    ShortWrite(usize),
    Read {
        from: u64,
        bytes: u64,
    },
    /// Power loss, with work under way if there is any.
    Crash {
        seed: u64,
        fail: Option<(bool, u64)>,
    },
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..6_usize, prop_oneof![0..200_usize, 2000..9000_usize])
            .prop_map(|(count, bytes)| Step::Append { count, bytes }),
        2 => any::<u8>().prop_map(Step::Vote),
        2 => (0..6_u64).prop_map(|back| Step::Truncate { back }),
        2 => (0..30_u64).prop_map(|ahead| Step::Purge { ahead }),
        1 => Just(Step::Commit),
        4 => Just(Step::RunOne),
        4 => Just(Step::RunAll),
        2 => Just(Step::Background),
        1 => (1..9000_usize).prop_map(Step::ShortWrite),
        2 => (0..100_u64, 0..20_000_u64).prop_map(|(from, bytes)| Step::Read { from, bytes }),
        2 => (any::<u64>(), prop::option::of((any::<bool>(), 0..3_u64)))
            .prop_map(|(seed, fail)| Step::Crash { seed, fail }),
        1 => Just(Step::Kill),
    ]
}

/// What the log should hold.
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    entries: BTreeMap<u64, Bytes>,
    last: Option<u64>,
    vote: Option<Bytes>,
    purged: Option<Purged>,
}

impl State {
    fn of(log: &Log) -> State {
        let state = log.wal.state();
        let entries: BTreeMap<_, _> = log.all().into_iter().map(|entry| (entry.index, entry.bytes)).collect();
        assert_eq!(state.first, entries.keys().next().copied());
        State { entries, last: state.last, vote: state.vote, purged: state.purged }
    }
}

struct World {
    log: Log,
    /// The states since the start, one for each change in the order of the calls.
    states: Vec<State>,
    /// The last state known durable by a callback.
    acknowledged: Arc<AtomicUsize>,
    /// Makes contents unique.
    serial: u64,
    /// The highest index that was ever committed.
    committed: Option<u64>,
}

fn options() -> Options {
    Options { cache_bytes: 12_000, ..Options::small() }
}

impl World {
    fn new() -> World {
        let log = Log::open_with(&SimDisk::new(), options()).unwrap();
        World {
            log,
            states: vec![State::default()],
            acknowledged: Arc::default(),
            serial: 0,
            committed: None,
        }
    }

    fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    fn change(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.now().clone();
        change(&mut state);
        self.states.push(state);
    }

    /// To be given to the call that leads to the newest state but `more`.
    fn acknowledge(&self, more: usize) -> Callback {
        let (acknowledged, reached) = (Arc::clone(&self.acknowledged), self.states.len() - 1 + more);
        Box::new(move |result| {
            if result.is_ok() {
                let before = acknowledged.swap(reached, Ordering::Relaxed);
                assert!(before <= reached, "callbacks come in order");
            }
        })
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Append { count, bytes } => self.append(count, bytes),
            Step::Vote(vote) => {
                let vote = Bytes::from(vec![vote; 1 + vote as usize]);
                self.log.wal.set_vote(vote.clone(), self.acknowledge(1)).unwrap();
                self.change(|state| state.vote = Some(vote));
            }
            Step::Truncate { back } => self.truncate(back),
            Step::Purge { ahead } => self.purge(ahead),
            Step::Commit => {
                let committed = self.now().last;
                self.committed = self.committed.max(committed);
                self.log.wal.set_committed(committed).unwrap();
            }
            Step::RunOne => {
                if let Some(batch) = self.log.writer.take_batch() {
                    self.log.writer.run_once(batch).unwrap();
                }
            }
            Step::RunAll => self.log.drive().unwrap(),
            Step::Background => drop(self.log.writer.step().unwrap()),
            Step::ShortWrite(bytes) => self.log.disk.fail(SimOperation::Write, 0, Fault::Short(bytes)),
            Step::Read { from, bytes } => self.read(from, bytes),
            Step::Crash { seed, fail } => {
                if let Some((sync, after)) = fail {
                    let operation = if sync { SimOperation::Sync } else { SimOperation::Write };
                    self.log.disk.fail(operation, after, Fault::Error(io::ErrorKind::Other));
                    let _ = self.log.drive();
                }
                self.log.disk.crash_seeded(seed);
                self.restart();
            }
            Step::Kill => {
                self.log.disk.kill();
                self.restart();
            }
        }
    }

    fn append(&mut self, count: usize, bytes: usize) {
        let first = self.now().last.map_or(0, |last| last + 1);
        let entries: Vec<_> = (first..first + count as u64)
            .map(|index| {
                self.serial += 1;
                let content = self.serial.to_le_bytes().into_iter().cycle().take(bytes).collect::<Vec<_>>();
                Entry { index, bytes: Bytes::from(content) }
            })
            .collect();
        self.log.wal.append(entries.clone(), self.acknowledge(count)).unwrap();
        for Entry { index, bytes } in entries {
            self.change(|state| {
                state.last = Some(index);
                state.entries.insert(index, bytes);
            });
        }
    }

    fn truncate(&mut self, back: u64) {
        let lowest = self.now().purged.as_ref().map(|purged| purged.index);
        let after = self.now().last.and_then(|last| last.checked_sub(back)).max(lowest);
        self.log.wal.truncate_after(after).unwrap();
        self.change(|state| {
            state.last = state.last.min(after);
            state.entries.retain(|index, _| Some(*index) <= after);
        });
    }

    fn purge(&mut self, ahead: u64) {
        let first = self.now().entries.keys().next().copied();
        let Some(upto) = first.or(self.now().last).map(|from| from + ahead) else { return };
        if self.now().purged.as_ref().is_some_and(|purged| purged.index >= upto) {
            return;
        }
        self.log.wal.purge(purged(upto)).unwrap();
        self.change(|state| {
            state.purged = Some(purged(upto));
            state.last = state.last.max(Some(upto));
            state.entries.retain(|index, _| *index > upto);
        });
    }

    fn read(&self, from: u64, bytes: u64) {
        let entries = &self.now().entries;
        let from = from + entries.keys().next().copied().unwrap_or(0);
        let found = self.log.wal.read(from..from + 50, bytes).unwrap();
        let mut expected = entries.range(from..from + 50);
        for entry in &found {
            assert_eq!(expected.next(), Some((&entry.index, &entry.bytes)));
        }
        assert!(!found.is_empty() || expected.next().is_none(), "at least one, if there is one");
    }

    fn restart(&mut self) {
        self.log = Log::open_with(&self.log.disk, options()).unwrap();
        let found = State::of(&self.log);
        let least = self.acknowledged.load(Ordering::Relaxed);
        let reached = self.states[least..].iter().rposition(|state| *state == found);
        assert!(reached.is_some(), "acknowledged {:?}, found {found:?}", self.states[least]);
        let committed = self.log.wal.state().committed;
        assert!(committed <= self.committed && committed <= found.last, "{committed:?}");
        self.states = vec![found];
        self.acknowledged.store(0, Ordering::Relaxed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_changes_survive_every_crash(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            prop_assert_eq!(&State::of(&world.log), world.now());
        }
        world.log.disk.crash_seeded(1);
        world.restart();
    }
}
