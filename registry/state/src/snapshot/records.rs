//! The records of a state, made lazily from a frozen copy.

use std::collections::VecDeque;
use std::ops::Bound;

use prost::encoding;
use registry_bug::bug;
use smol_str::SmolStr;

use super::encode;
use super::wire::{End, Item, Kind, Revision};
use crate::digest;
use crate::ids::{InstanceKey, LeaseId, ServiceKey};
use crate::limits::SNAPSHOT_RECORD_BYTES;
use crate::state::{Slot, State};

/// Items fetched from a map at a time: one descent into it serves them all.
const FETCH: usize = 256;

/// Where the iterator stands: what comes next, after the key that was fetched last.
#[derive(Debug)]
enum Next {
    Head,
    Services(Option<ServiceKey>),
    Clients(Option<SmolStr>),
    Leases(Option<LeaseId>),
    Overrides(Option<InstanceKey>),
    Instances(Option<(ServiceKey, SmolStr)>),
    /// Position in the history.
    History(usize),
    End,
    Nothing,
}

/// Iterator over the records of a state.
#[derive(Debug)]
pub(super) struct Records {
    state: State,
    next: Next,
    fetched: VecDeque<Kind>,
    items: u64,
}

impl Records {
    pub(super) fn new(state: State) -> Self {
        Self { state, next: Next::Head, fetched: VecDeque::new(), items: 0 }
    }

    fn item(&mut self) -> Option<Item> {
        while self.fetched.is_empty() {
            if matches!(self.next, Next::Nothing) {
                return None;
            }
            self.fetch();
        }
        self.items += 1;
        self.fetched.pop_front().map(|kind| Item { kind: Some(kind) })
    }

    /// Fetches what comes next, perhaps nothing, and moves on.
    fn fetch(&mut self) {
        let state = &self.state;
        let out = &mut self.fetched;
        self.next = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Head => {
                out.push_back(encode::head(state));
                out.push_back(Kind::Settings((*state.settings).clone()));
                out.extend(state.members.values().map(|member| encode::member(member)));
                if !bug("lost-tombstones") {
                    out.extend(state.tombstones.iter().map(|tombstone| encode::tombstone(tombstone)));
                }
                Next::Services(None)
            }
            Next::Services(after) => {
                let page = state.services.range::<_, ServiceKey>(beyond(after.as_ref())).take(FETCH);
                match page.inspect(|(key, s)| out.push_back(encode::service(key, s))).last() {
                    Some((key, _)) => Next::Services(Some((**key).clone())),
                    None if bug("snapshot-without-clients") => Next::Leases(None),
                    None => Next::Clients(None),
                }
            }
            Next::Clients(after) => {
                let page = state.clients.after(after.as_deref()).take(FETCH);
                match page.inspect(|(name, client)| out.push_back(encode::client(name, client))).last() {
                    Some((name, _)) => Next::Clients(Some(name.clone())),
                    None if bug("snapshot-without-leases") => Next::Overrides(None),
                    None => Next::Leases(None),
                }
            }
            Next::Leases(after) => {
                let page = state.leases.range::<_, LeaseId>(beyond(after.as_ref())).take(FETCH);
                match page.inspect(|(id, lease)| out.push_back(encode::lease(**id, lease))).last() {
                    Some((id, _)) => Next::Leases(Some(*id)),
                    None => Next::Overrides(None),
                }
            }
            Next::Overrides(after) => {
                let page = state.overrides.range::<_, InstanceKey>(beyond(after.as_ref())).take(FETCH);
                match page.inspect(|(key, entry)| out.push_back(encode::override_entry(key, entry))).last() {
                    Some((key, _)) => Next::Overrides(Some(key.clone())),
                    None => Next::Instances(None),
                }
            }
            Next::Instances(after) => fetch_instances(state, after, out),
            Next::History(at) => fetch_revision(state, at, out),
            Next::End => {
                let items = self.items + 1;
                let (state_hash, hash_version) = (state.state_hash(), digest::VERSION);
                out.push_back(Kind::End(End { items, state_hash, hash_version }));
                Next::Nothing
            }
            Next::Nothing => Next::Nothing,
        };
    }
}

/// Instances by the names of their services, not by the numbers that stand for them.
fn fetch_instances(state: &State, after: Option<(ServiceKey, SmolStr)>, out: &mut VecDeque<Kind>) -> Next {
    let first = ServiceKey::new("", "");
    let (from, after_id) = after.as_ref().map_or((&first, None), |(key, id)| (key, Some(id)));
    let mut last = None;
    for (key, service) in state.services.range::<_, ServiceKey>(from..) {
        let low = match after_id.filter(|_| **key == *from) {
            Some(id) => Bound::Excluded(Slot { service: service.number, instance_id: id.clone() }),
            None => Bound::Included(Slot { service: service.number, instance_id: SmolStr::default() }),
        };
        let page = state
            .instances
            .range::<_, Slot>((low, Bound::Unbounded))
            .take_while(|(slot, _)| slot.service == service.number)
            .take(FETCH - out.len());
        for (slot, record) in page {
            out.push_back(Kind::Instance(encode::instance(record)));
            last = Some(((**key).clone(), slot.instance_id.clone()));
        }
        if out.len() >= FETCH {
            break;
        }
    }
    last.map_or(Next::History(0), |last| Next::Instances(Some(last)))
}

fn fetch_revision(state: &State, at: usize, out: &mut VecDeque<Kind>) -> Next {
    let Some(made) = state.history.get(at) else { return Next::End };
    let events = u32::try_from(made.events.len()).unwrap_or(u32::MAX);
    out.push_back(Kind::Revision(Revision { revision: made.revision, events }));
    out.extend(made.events.iter().map(encode::event));
    Next::History(at + 1)
}

fn beyond<K>(after: Option<&K>) -> (Bound<&K>, Bound<&K>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

impl Iterator for Records {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut record = Vec::new();
        while let Some(item) = self.item() {
            let len = encoding::message::encoded_len(1, &item);
            if !record.is_empty() && record.len() + len > SNAPSHOT_RECORD_BYTES {
                // Too much for this record: it opens the next one.
                self.items -= 1;
                if let Some(kind) = item.kind {
                    self.fetched.push_front(kind);
                }
                return Some(record);
            }
            encoding::message::encode(1, &item, &mut record);
        }
        (!record.is_empty()).then_some(record)
    }
}
