//! The founding of the cluster and its members (P/N3, N4).

use std::sync::Arc;

use smol_str::SmolStr;

use crate::command::{AddMember, InitCluster, MemberSpec, RemoveMembers};
use crate::digest;
use crate::ids::RaftId;
use crate::limits::{MEMBERS_MAX, TOMBSTONES_MAX};
use crate::member::{Member, Tombstone};
use crate::reply::{Quota, Reason, Rejection, Reply};
use crate::settings::{ClusterSettings, MembershipOwner};
use crate::state::{Identity, State};

impl State {
    pub(super) fn init_cluster(&mut self, command: &InitCluster) -> Result<Reply, Rejection> {
        if let Some(identity) = &self.identity {
            if identity.cluster_id == command.cluster_id {
                return Ok(Reply::Initialized { already: true });
            }
            return Err(Reason::AlreadyInitialized { cluster_id: identity.cluster_id.clone() }.into());
        }
        let identity = Identity { cluster_id: SmolStr::new(&command.cluster_id), epoch: command.epoch };
        let settings = command.settings.clone().unwrap_or(ClusterSettings::DEFAULT);
        self.identity = Some(Arc::new(identity));
        self.settings = Arc::new(ClusterSettings { version: 1, ..settings });
        self.next_raft_id = command.next_raft_id;
        for member in &command.members {
            self.insert_member(member.raft_id, member);
        }
        Ok(Reply::Initialized { already: false })
    }

    /// Gives a disk its Raft id, always the same one; an id is never given twice (P/N2).
    pub(super) fn add_member(&mut self, command: &AddMember) -> Result<Reply, Rejection> {
        self.check_owner(command.owner)?;
        let Some(spec) = &command.member else { return Err(Reason::InvalidField(Vec::new()).into()) };
        if let Some(member) = self.members.values().find(|member| member.disk_id == spec.disk_id) {
            return Ok(Reply::MemberAdded { raft_id: member.raft_id, already: true });
        }
        if let Some(raft_id) = self.removed_disk(&spec.disk_id) {
            return Err(Reason::MemberRemoved { raft_id }.into());
        }
        let raft_id = self.next_raft_id;
        let next = raft_id.checked_add(1).filter(|_| self.members.len() < MEMBERS_MAX);
        let Some(next) = next else {
            return Err(Reason::QuotaExceeded { quota: Quota::Members, limit: MEMBERS_MAX as u64 }.into());
        };
        self.next_raft_id = next;
        self.insert_member(raft_id, spec);
        Ok(Reply::MemberAdded { raft_id, already: false })
    }

    pub(super) fn remove_members(&mut self, command: &RemoveMembers) -> Result<Reply, Rejection> {
        self.check_owner(command.owner)?;
        let mut removed = Vec::new();
        for raft_id in &command.raft_ids {
            let Some(member) = self.members.remove(raft_id) else { continue };
            self.digest.remove(digest::of_member(&member));
            self.bury(Tombstone { raft_id: *raft_id, disk_id: member.disk_id.clone() });
            removed.push(*raft_id);
        }
        Ok(Reply::MembersRemoved { removed })
    }

    /// Members are changed on behalf of whoever the settings name (P/N7).
    fn check_owner(&self, owner: i32) -> Result<(), Rejection> {
        let present = self.settings.owner();
        let asked = MembershipOwner::try_from(owner).unwrap_or(MembershipOwner::Unspecified);
        if asked == present { Ok(()) } else { Err(Reason::MembershipOwned { owner: present }.into()) }
    }

    pub(crate) fn insert_member(&mut self, raft_id: RaftId, spec: &MemberSpec) {
        let member = Member::new(raft_id, spec);
        self.digest.add(digest::of_member(&member));
        self.members.insert(raft_id, Arc::new(member));
    }

    pub(crate) fn bury(&mut self, tombstone: Tombstone) {
        self.digest.add(digest::of_tombstone(&tombstone));
        self.tombstones.push_back(Arc::new(tombstone));
        while self.tombstones.len() > TOMBSTONES_MAX {
            let Some(oldest) = self.tombstones.pop_front() else { return };
            self.digest.remove(digest::of_tombstone(&oldest));
        }
    }
}
