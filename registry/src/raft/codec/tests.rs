use openraft::Membership as OpenMembership;

use super::*;
use crate::raft::types::TypeConfig;

type Payload = openraft::alias::PayloadOf<TypeConfig>;

fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId::new(RaftLeaderId::new(term, node), index)
}

fn member(name: &str) -> Member {
    Member {
        name: name.into(),
        peer_endpoint: format!("{name}:9080"),
        client_endpoint: format!("{name}:8080"),
        disk_id: format!("disk of {name}"),
    }
}

fn joint() -> RaftMembership {
    let members = (1..=4).map(|id| (id, member(&format!("node-{id}")))).collect::<BTreeMap<_, _>>();
    OpenMembership::new(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 2, 4])], members).unwrap()
}

fn entries() -> Vec<Entry> {
    let payloads: [Payload; 4] = [
        EntryPayload::Blank,
        EntryPayload::Normal(CommandBytes(Bytes::from_static(b"command"))),
        EntryPayload::Normal(CommandBytes(Bytes::new())),
        EntryPayload::Membership(joint()),
    ];
    (0..).zip(payloads).map(|(index, payload)| Entry { log_id: log_id(3, 2, index), payload }).collect()
}

#[test]
fn every_kind_of_entry_survives_the_log() {
    for entry in entries() {
        assert_eq!(entry_from_bytes(Bytes::from(entry_to_bytes(&entry))).unwrap(), entry);
    }
}

#[test]
fn every_kind_of_entry_survives_the_wire() {
    for entry in entries() {
        assert_eq!(entry_from_proto(entry_to_proto(&entry)).unwrap(), entry);
    }
}

#[test]
fn a_command_read_from_the_log_shares_its_bytes() {
    let stored = Bytes::from(entry_to_bytes(&entries()[1]));
    let range = stored.as_ptr_range();
    let EntryPayload::Normal(command) = entry_from_bytes(stored).unwrap().payload else { panic!() };
    assert!(range.contains(&command.0.as_ptr()));
}

#[test]
fn votes_and_log_ids_survive() {
    for committed in [false, true] {
        let vote = RaftVote { leader_id: RaftLeaderId::new(7, 3), committed };
        assert_eq!(vote_from_bytes(Bytes::from(vote_to_bytes(&vote))).unwrap(), vote);
    }
    let id = log_id(u64::MAX, 1, u64::MAX);
    assert_eq!(log_id_from_bytes(Bytes::from(log_id_to_bytes(&id))).unwrap(), id);
}

#[test]
fn an_empty_membership_survives() {
    let empty = RaftMembership::default();
    assert_eq!(membership_from_proto(membership_to_proto(&empty)).unwrap(), empty);
}

#[test]
fn a_newer_format_is_told_from_damage() {
    let mut stored = entry_to_bytes(&entries()[0]);
    stored[0] = FORMAT + 1;
    let newer = entry_from_bytes(Bytes::from(stored)).unwrap_err();
    assert_eq!(newer, CodecError::Newer { what: "log entry", found: FORMAT + 1 });
    for damaged in [&b""[..], &[FORMAT, 0xff], &[FORMAT]] {
        let error = entry_from_bytes(Bytes::copy_from_slice(damaged)).unwrap_err();
        assert!(matches!(error, CodecError::Malformed { .. }), "{error}");
    }
}

#[test]
fn a_membership_with_a_voter_that_is_no_member_is_refused() {
    let mut message = membership_to_proto(&joint());
    message.members.retain(|member| member.raft_id != 4);
    assert!(membership_from_proto(message).is_err());
}
