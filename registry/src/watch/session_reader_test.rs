//! What a client makes of a watch.

use std::collections::BTreeMap;

use prost::Message;
use registry_proto::v1;
use registry_state::State;

use super::super::*;
use crate::server::convert::Scope;

/// What a client makes of a watch, checking every rule that it can see.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) view: BTreeMap<(String, String, String), u64>,
    pub(super) collected: Vec<v1::Instance>,
    /// What is collected replaces the view.
    pub(super) replaces: bool,
    /// Of an unfinished revision.
    pub(super) partial: Vec<v1::InstanceEvent>,
    pub(super) revision: u64,
    pub(super) synced: bool,
    pub(super) kinds: Vec<WatchKind>,
    pub(super) headed: bool,
}

type Key = (String, String, String);

fn key(instance: &v1::Instance) -> Key {
    (instance.namespace.clone(), instance.service_name.clone(), instance.instance_id.clone())
}

impl Reader {
    pub(super) fn read(&mut self, message: WatchResponse) {
        // What a client decodes: the raw message is the public one on the wire.
        let message = v1::WatchResponse::decode(&message.encode_to_vec()[..]).unwrap();
        assert!(message.encoded_len() <= 1 << 20, "{} bytes", message.encoded_len());
        let kind = message.kind();
        self.kinds.push(kind);
        let always = matches!(kind, WatchKind::Synced | WatchKind::Bookmark) || !self.headed;
        assert!(!always || message.header.is_some(), "{kind:?} without header");
        self.headed = true;
        if message.revision > 0 {
            assert!(message.revision >= self.revision, "{} after {}", message.revision, self.revision);
        }
        match kind {
            WatchKind::Snapshot => {
                self.replaces = true;
                self.collected.extend(message.instances);
            }
            WatchKind::Compacted => (self.replaces, self.synced) = (true, false),
            WatchKind::EpochChanged => (self.replaces, self.synced, self.revision) = (true, false, 0),
            WatchKind::Synced => {
                if std::mem::take(&mut self.replaces) {
                    self.view = self.collected.drain(..).map(|i| (key(&i), i.revision)).collect();
                }
                self.synced = true;
                self.revision = message.revision;
            }
            WatchKind::Changes => self.apply(&message),
            WatchKind::Bookmark => self.revision = message.revision,
            WatchKind::Resync | WatchKind::Closing => assert!(message.retry_after.is_some()),
            WatchKind::Unspecified => panic!("an unnamed message"),
        }
    }

    fn apply(&mut self, message: &v1::WatchResponse) {
        for changes in &message.changes {
            assert!(changes.revision > self.revision, "{} again", changes.revision);
            self.partial.extend(changes.events.iter().cloned());
            if changes.more {
                continue;
            }
            for event in self.partial.drain(..) {
                let instance = event.instance.clone().unwrap();
                match event.kind() {
                    v1::EventKind::Added => {
                        assert_eq!(self.view.insert(key(&instance), instance.revision), None);
                    }
                    v1::EventKind::Updated => {
                        let before = self.view.insert(key(&instance), instance.revision);
                        assert_eq!(before, event.previous.map(|previous| previous.revision));
                    }
                    v1::EventKind::Removed => {
                        assert_eq!(self.view.remove(&key(&instance)), Some(instance.revision));
                    }
                    v1::EventKind::Unspecified => panic!("an unnamed event"),
                }
            }
            self.revision = changes.revision;
        }
        if self.partial.is_empty() {
            assert_eq!(message.revision, self.revision, "the token is that of the last whole revision");
        }
    }

    /// The view equals what the state has.
    pub(super) fn agrees(&self, state: &State, scope: &Scope) {
        let expected: BTreeMap<Key, u64> = state
            .services_from(None)
            .filter(|service| covers(scope, &service.key().namespace, &service.key().name))
            .flat_map(|service| service.instances())
            .map(|record| {
                let service = &record.service;
                let key =
                    (service.namespace.to_string(), service.name.to_string(), record.instance_id.to_string());
                (key, record.revision)
            })
            .collect();
        assert_eq!(self.view, expected, "at revision {}", self.revision);
    }
}
