//! The replicated state: maps, indexes and sums. It changes in [`State::apply`] alone.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use smol_str::SmolStr;

use crate::FEATURE_LEVEL;
use crate::client::Clients;
use crate::digest::Digest;
use crate::history::History;
use crate::ids::{Epoch, InstanceKey, LeaseId, RaftId, Revision, ServiceKey};
use crate::instance::InstanceRecord;
use crate::lease::Lease;
use crate::member::{Member, Tombstone};
use crate::overrides::OverrideEntry;
use crate::service::{Counts, Namespace, Service};
use crate::settings::ClusterSettings;

/// Key of an instance inside the state: the number of its service ([`Service::number`]) instead of the
/// service's name keeps the key small and its comparison short.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) service: u64,
    pub(crate) instance_id: SmolStr,
}

/// The state of the cluster at one position of the log. Cloned in constant time.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) feature_level: u32,
    pub(crate) revision: Revision,
    pub(crate) settings: Arc<ClusterSettings>,

    pub(crate) next_raft_id: RaftId,
    pub(crate) members: OrdMap<RaftId, Arc<Member>>,
    /// Newest last, at most `TOMBSTONES_MAX`.
    pub(crate) tombstones: imbl::Vector<Arc<Tombstone>>,

    pub(crate) services: OrdMap<Arc<ServiceKey>, Service>,
    pub(crate) next_service: u64,
    /// Services whose guard is not armed: few, so that a leader need not look at all.
    pub(crate) unarmed: OrdSet<Arc<ServiceKey>>,
    pub(crate) instances: OrdMap<Slot, Arc<InstanceRecord>>,
    pub(crate) overrides: OrdMap<InstanceKey, OverrideEntry>,
    /// Overrides that end by themselves, by version, so that a leader finds new ones without a search.
    pub(crate) timed_overrides: OrdSet<(Revision, InstanceKey)>,
    pub(crate) leases: OrdMap<LeaseId, Lease>,
    /// Which instances a lease keeps.
    pub(crate) lease_slots: OrdSet<(LeaseId, Slot)>,
    pub(crate) clients: Clients,
    pub(crate) history: History,

    pub(crate) namespaces: OrdMap<SmolStr, Namespace>,
    pub(crate) totals: Counts,
    pub(crate) user_data_bytes: u64,
    /// Sum of the digests of all records (P/O4).
    pub(crate) digest: Digest,
}

/// Which cluster this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: SmolStr,
    pub(crate) epoch: Epoch,
}

impl Default for State {
    /// The state before the cluster is founded.
    fn default() -> Self {
        Self {
            identity: None,
            feature_level: FEATURE_LEVEL,
            revision: 0,
            settings: Arc::new(ClusterSettings::DEFAULT),
            next_raft_id: 1,
            members: OrdMap::new(),
            tombstones: imbl::Vector::new(),
            services: OrdMap::new(),
            next_service: 0,
            unarmed: OrdSet::new(),
            instances: OrdMap::new(),
            overrides: OrdMap::new(),
            timed_overrides: OrdSet::new(),
            leases: OrdMap::new(),
            lease_slots: OrdSet::new(),
            clients: Clients::default(),
            history: History::default(),
            namespaces: OrdMap::new(),
            totals: Counts::default(),
            user_data_bytes: 0,
            digest: Digest::default(),
        }
    }
}
