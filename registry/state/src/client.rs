//! What is remembered of clients, so that a write can be repeated safely (P/R3).
//!
//! A client that owns instances stays. The others leave, the one that wrote longest ago first, when there
//! are more than [`IDLE_CLIENTS_MAX`].

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use smol_str::SmolStr;

use crate::command::RequestKey;
use crate::digest::{self, Digest};
use crate::ids::{LeaseId, Revision};
use crate::limits::{IDLE_CLIENTS_MAX, REQUEST_WINDOW};
use crate::reply::{Reason, RegisterOutcome, Rejection};
use crate::validate::{Violations, fields};

/// A client and its last writes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Client {
    /// [`Clients::tick`] of its last write.
    pub(crate) used: u64,
    /// Highest serial seen.
    pub(crate) highest: u64,
    /// It has the answers below this serial.
    pub(crate) done_below: u64,
    /// Instances whose recorded client it is. Derived: not in snapshots, not hashed.
    pub(crate) owned: u64,
    /// Its writes that are remembered, by serial.
    pub(crate) records: Vec<Record>,
}

/// A write and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) serial: u64,
    pub(crate) hash: u64,
    /// Revision of the header of the first answer.
    pub(crate) revision: Revision,
    pub(crate) outcome: Remembered,
}

/// What is needed to answer a write again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remembered {
    Registered {
        outcome: RegisterOutcome,
        incarnation: u64,
        lease_id: LeaseId,
    },
    /// Two bits for each registration, four to a byte: the outcome less one.
    Batch {
        lease_id: LeaseId,
        outcomes: Box<[u8]>,
    },
    Deregistered {
        removed: u32,
    },
    StateSet {
        changed: u32,
        overridden: u32,
    },
    Drained {
        revision: Revision,
    },
    OverrideSet {
        revision: Revision,
        registered: bool,
    },
    OverrideCleared {
        cleared: bool,
    },
    ProtectionEnded {
        ended: u32,
    },
    Rejected(Arc<Rejection>),
}

/// What a request id says about a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    /// Not seen before: do it and record it, for the client of this name.
    Fresh(SmolStr),
    /// Done before: answer again.
    Repeated(&'a Record),
    /// Refused without being recorded.
    Refused(Reason),
}

/// All clients that are remembered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clients {
    map: OrdMap<SmolStr, Arc<Client>>,
    /// Those without instances, by [`Client::used`].
    idle: OrdMap<u64, SmolStr>,
    /// Number of recorded writes, ever.
    tick: u64,
}

impl Client {
    /// Lowest serial that is remembered or may still come.
    fn floor(&self) -> u64 {
        self.done_below.max(self.highest.saturating_sub(REQUEST_WINDOW - 1))
    }

    fn record(&self, serial: u64) -> Option<&Record> {
        self.records.iter().find(|record| record.serial == serial)
    }
}

impl Clients {
    pub(crate) fn tick(&self) -> u64 {
        self.tick
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Client>> {
        self.map.get(name)
    }

    /// The clients in order of their names, after `name`; `None` = from the first.
    pub(crate) fn after<'a>(
        &'a self,
        name: Option<&str>,
    ) -> impl Iterator<Item = (&'a SmolStr, &'a Arc<Client>)> + use<'a> {
        let low = name.map_or(Bound::Unbounded, Bound::Excluded);
        self.map.range::<_, str>((low, Bound::Unbounded))
    }

    pub(crate) fn idle(&self) -> &OrdMap<u64, SmolStr> {
        &self.idle
    }

    /// The name as it is kept, so that texts are shared.
    pub(crate) fn name_of(&self, name: &str) -> Option<SmolStr> {
        self.map.get_key_value(name).map(|(name, _)| name.clone())
    }

    /// Looks a request id up (P/R3). Changes nothing.
    pub(crate) fn verdict(&self, key: &RequestKey) -> Verdict<'_> {
        if let Err(violations) = check(key) {
            return Verdict::Refused(Reason::InvalidField(violations));
        }
        let known = self.map.get_key_value(key.client.as_str());
        let floor = key.done_below.max(known.map_or(0, |(_, client)| client.floor()));
        if known.is_none() && key.serial > 1 {
            return Verdict::Refused(Reason::SessionUnknown);
        }
        if key.serial < floor {
            return Verdict::Refused(Reason::RequestSuperseded { floor });
        }
        let Some((name, client)) = known else { return Verdict::Fresh(SmolStr::new(&key.client)) };
        match client.record(key.serial) {
            None => Verdict::Fresh(name.clone()),
            Some(record) if record.hash == key.hash => Verdict::Repeated(record),
            Some(_) => Verdict::Refused(Reason::RequestIdReused),
        }
    }

    /// Records a write of a client that was not seen before, and how many instances it won or lost by it.
    pub(crate) fn record(
        &mut self,
        name: &SmolStr,
        done_below: u64,
        record: Record,
        owned: i64,
        digest: &mut Digest,
    ) {
        self.tick += 1;
        let tick = self.tick;
        if let Some(client) = self.map.get(name) {
            digest.remove(digest::of_client(name, client));
        } else {
            self.map.insert(name.clone(), Arc::default());
        }
        self.change(name, |client| {
            client.used = tick;
            client.highest = client.highest.max(record.serial);
            client.done_below = client.done_below.max(done_below);
            client.owned = client.owned.saturating_add_signed(owned);
            let floor = client.floor();
            client.records.retain(|record| record.serial >= floor);
            let at = client.records.partition_point(|other| other.serial < record.serial);
            client.records.reserve_exact(1);
            client.records.insert(at, record);
            digest.add(digest::of_client(name, client));
        });
    }

    /// Counts instances that a client won or lost by somebody else's write. False if it is not known.
    pub(crate) fn own(&mut self, name: &SmolStr, owned: i64) -> bool {
        self.change(name, |client| client.owned = client.owned.saturating_add_signed(owned))
    }

    /// Puts a client back from a snapshot, without instances as yet.
    pub(crate) fn restore(&mut self, name: SmolStr, client: Client, digest: &mut Digest) {
        digest.add(digest::of_client(&name, &client));
        self.idle.insert(client.used, name.clone());
        self.map.insert(name, Arc::new(client));
    }

    pub(crate) fn restore_tick(&mut self, tick: u64) {
        self.tick = tick;
    }

    /// Changes a client and keeps the order of the idle ones. False if it is not known.
    fn change(&mut self, name: &SmolStr, change: impl FnOnce(&mut Client)) -> bool {
        let Some(client) = self.map.get_mut(name.as_str()) else { return false };
        let client = Arc::make_mut(client);
        let before = (client.used, client.owned);
        change(client);
        let after = (client.used, client.owned);
        if before != after {
            if before.1 == 0 && before.0 > 0 {
                self.idle.remove(&before.0);
            }
            if after.1 == 0 {
                self.idle.insert(after.0, name.clone());
            }
        }
        true
    }

    /// Forgets idle clients beyond the bound, oldest first. At the end of a command, so that the client that
    /// is writing is the newest.
    pub(crate) fn trim(&mut self, digest: &mut Digest) {
        while self.idle.len() > IDLE_CLIENTS_MAX {
            let Some((used, name)) = self.idle.get_min().cloned() else { return };
            self.idle.remove(&used);
            if let Some(client) = self.map.remove(&name) {
                digest.remove(digest::of_client(&name, &client));
            }
        }
    }
}

fn check(key: &RequestKey) -> Result<(), Vec<crate::Violation>> {
    let mut found = Violations::new();
    fields::client(&mut found, "request_id.client", &key.client);
    let end = key.done_below.saturating_add(REQUEST_WINDOW);
    found.require(key.serial > 0, "request_id.serial", || "begins with 1".into());
    found.require(key.serial < end, "request_id.serial", || {
        format!("{} is not below done_below + {REQUEST_WINDOW} = {end}", key.serial)
    });
    found.into_result()
}
