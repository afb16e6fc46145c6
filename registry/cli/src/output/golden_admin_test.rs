//! Answers to an administrator, compared with files in `tests/golden` as in `golden_test`.

use registry_proto::internal::{self as api, MemberPlace, NodeState};

use super::golden_test::{check_all, millis, seconds};
use super::view::{Joined, Leads, SettingsChange, SettingsView};
use crate::admin::settings::tests::defaults;
use crate::admin::settings::{KEYS, apply, select};

fn identity(raft_id: u64) -> api::NodeIdentity {
    api::NodeIdentity {
        cluster_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".into(),
        raft_id,
        disk_id: format!("9b2d1c1e-0000-4000-8000-00000000000{raft_id}"),
        node_id: format!("registry-node-{raft_id}"),
        peer_endpoint: format!("127.0.0.1:{}", 9_079 + raft_id),
        client_endpoint: format!("127.0.0.1:{}", 8_079 + raft_id),
    }
}

fn member(raft_id: u64, place: MemberPlace) -> api::MemberStatus {
    api::MemberStatus {
        identity: Some(identity(raft_id)),
        place: place.into(),
        state: NodeState::Voter.into(),
        last_answer: millis(120),
        version: "0.1.0".into(),
        applied_index: 5_000,
        lag_entries: Some(0),
        ..Default::default()
    }
}

fn membership() -> Option<api::MembershipView> {
    Some(api::MembershipView {
        log_id: Some(api::LogId { index: 4_990, ..Default::default() }),
        committed: true,
        membership: Some(api::Membership {
            configs: vec![api::VoterSet { raft_ids: vec![1, 2, 3] }],
            members: (1..=4).map(identity).collect(),
        }),
    })
}

fn status() -> api::StatusResponse {
    api::StatusResponse {
        identity: Some(identity(1)),
        raft: Some(api::RaftStatus { leader_raft_id: 1, ..Default::default() }),
        membership: membership(),
        members: vec![
            member(1, MemberPlace::Voter),
            api::MemberStatus {
                dead: true,
                failures_in_row: 44,
                failing_for: seconds(90),
                last_answer: seconds(90),
                ..member(2, MemberPlace::Voter)
            },
            api::MemberStatus {
                state: NodeState::Quarantined.into(),
                quarantine: "log/00000007.wal is corrupt at offset 8192".into(),
                ..member(3, MemberPlace::Voter)
            },
            api::MemberStatus {
                lag_entries: Some(1_234),
                disk_full: true,
                ..member(4, MemberPlace::Learner)
            },
            api::MemberStatus {
                state: NodeState::Unspecified.into(),
                last_answer: None,
                lag_entries: None,
                applied_index: 0,
                version: String::new(),
                ..member(5, MemberPlace::Admitted)
            },
        ],
        membership_step: "waits until registry-node-4 has caught up".into(),
        membership_trouble: "registry-node-5 does not answer at 127.0.0.1:9084".into(),
        membership_owner: api::MembershipOwner::Autopilot.into(),
        voters_target: 5,
        ..Default::default()
    }
}

#[test]
fn members_as_the_leader_knows_them_look_as_agreed() {
    check_all("member-list", &status());
}

#[test]
fn answers_to_changes_of_members_look_as_agreed() {
    let admitted =
        api::AdmitMemberResponse { identity: Some(identity(4)), membership: membership(), voters_target: 5 };
    check_all("member-add", &admitted);
    check_all("member-add-followed", &Joined { status: status(), raft_id: 4 });
    check_all("member-promote", &api::PromoteMemberResponse { membership: membership() });
    check_all(
        "member-remove",
        &api::RemoveMemberResponse { removed: true, membership: membership(), voters_target: 3 },
    );
    check_all(
        "member-remove-nothing",
        &api::RemoveMemberResponse { removed: false, membership: membership(), voters_target: 3 },
    );
    let answer = api::TransferLeadershipResponse { leader_raft_id: 2, term: 9 };
    check_all("member-transfer-leader", &Leads { answer, members: status().members });
}

#[test]
fn settings_look_as_agreed() {
    let answer = api::GetSettingsResponse { settings: Some(defaults()) };
    check_all("settings-get", &SettingsView { answer, keys: KEYS.iter().collect() });
    check_all("settings-get-some", &SettingsView { answer, keys: select(&["guard".into()]).unwrap() });
    let wanted = [("default_ttl", "90s"), ("guard.enabled", "false"), ("history.bytes", "32MiB")];
    let wanted = wanted.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let settings = api::ClusterSettings { version: 2, ..apply(&defaults(), &wanted).unwrap() };
    let answer = api::UpdateSettingsResponse { settings: Some(settings) };
    check_all("settings-set", &SettingsChange { before: defaults(), answer });
    let answer = api::UpdateSettingsResponse { settings: Some(defaults()) };
    check_all("settings-set-nothing", &SettingsChange { before: defaults(), answer });
}
