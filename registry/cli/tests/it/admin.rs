//! What an administrator types.

use registry_proto::internal::{self as api, MemberPlace};

use crate::mock::{Manners, Mock};
use crate::mock_admin::{MockAdmin, Script, member, status};
use crate::program::{free_port, registryctl};

/// A registry whose only member has its peer port there.
async fn registry(peer_endpoint: &str) -> Mock {
    Mock::with(Manners { peer_endpoint: peer_endpoint.into(), ..Manners::default() }).await
}

fn voters() -> Vec<api::MemberStatus> {
    [(1, "a"), (2, "b"), (3, "c")].map(|(id, name)| member(id, name, MemberPlace::Voter)).to_vec()
}

fn settings() -> api::ClusterSettings {
    api::ClusterSettings {
        version: 7,
        default_ttl: Some(prost_types::Duration { seconds: 15, nanos: 0 }),
        membership_owner: api::MembershipOwner::Autopilot.into(),
        voters_target: 3,
        ..Default::default()
    }
}

#[tokio::test]
async fn settings_are_changed_by_version_and_shown_before_and_after() {
    let (admin, endpoint) = MockAdmin::start(Script { settings: settings(), ..Script::default() }).await;
    let mock = registry(&endpoint).await;
    let ended =
        registryctl(mock.endpoint(), &["settings", "set", "default_ttl=90s", "voters_target=5"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        ended.out,
        "SETTING        BEFORE  AFTER\n\
         default_ttl    15s     90s\n\
         voters_target  3       5\n"
    );
    assert_eq!(ended.err, "version 8\n");
    assert_eq!(admin.calls(), ["update version 7"]);
    let ended = registryctl(mock.endpoint(), &["settings", "get", "default_ttl", "guard"]).await;
    assert!(ended.out.contains("default_ttl       90s\n"), "{ended:?}");
    assert_eq!(ended.out.lines().count(), 6, "{ended:?}");

    let stale = ["settings", "set", "voters_target=3", "--expected-version", "7"];
    let ended = registryctl(mock.endpoint(), &stale).await;
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.err.contains("version 8") && admin.calls().len() == 1, "{ended:?}");
}

#[tokio::test]
async fn settings_that_make_no_sense_are_all_told_and_nobody_is_asked() {
    let ended =
        registryctl("127.0.0.1:1", &["settings", "set", "default_ttl=soon", "x=1", "voters_target=a"]);
    let ended = ended.await;
    assert_eq!(ended.code, 2, "{ended:?}");
    for word in ["default_ttl: \"soon\"", "x: no such setting", "voters_target: \"a\""] {
        assert!(ended.err.contains(word), "{word} is not in {ended:?}");
    }
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
}

#[tokio::test]
async fn the_token_is_read_from_its_file_and_asked_for_when_it_is_missing() {
    let script = Script { token: Some("secret".into()), settings: settings(), ..Script::default() };
    let (_admin, endpoint) = MockAdmin::start(script).await;
    let mock = registry(&endpoint).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret\n").unwrap();
    let path = file.path().to_str().unwrap();
    let get = ["settings", "get", "-o", "json", "--admin-token-file", path];
    let ended = registryctl(mock.endpoint(), &get).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let answer: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(answer["settings"]["defaultTtl"], "15s");

    let ended = registryctl(mock.endpoint(), &["settings", "get"]).await;
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.err.contains("--admin-token-file") && ended.err.contains("UNAUTHORIZED"), "{ended:?}");
    let ended = registryctl(mock.endpoint(), &["settings", "get", "--admin-token-file", "/nowhere"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(!ended.err.contains("secret"), "{ended:?}");
}

#[tokio::test]
async fn a_node_that_does_not_lead_sends_us_to_the_one_that_does() {
    let (leader, leads) = MockAdmin::start(Script {
        statuses: [status(voters())].into(),
        settings: settings(),
        ..Script::default()
    })
    .await;
    let follower = Script { follows: Some(leads), settings: settings(), ..Script::default() };
    let (_follower, follows) = MockAdmin::start(follower).await;
    let mock = registry(&follows).await;
    let ended = registryctl(mock.endpoint(), &["settings", "set", "voters_target=5"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(leader.calls(), ["update version 7"]);
}

#[tokio::test]
async fn a_node_that_takes_no_part_is_left_for_the_next_and_its_word_stands_if_there_is_none() {
    let out =
        || Script { statuses: [status(voters())].into(), refuse: Some("NOT_READY"), ..Script::default() };
    let (_, quarantined) = MockAdmin::start(out()).await;
    let (leader, leads) = MockAdmin::start(Script::default()).await;
    let mock = registry(&format!("{quarantined},{leads}")).await;
    let ended = registryctl(mock.endpoint(), &["member", "transfer-leader"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(leader.calls(), ["transfer 0"]);
    let alone = registry(&quarantined).await;
    let ended = registryctl(alone.endpoint(), &["member", "transfer-leader"]).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.err.contains("NOT_READY"), "{ended:?}");
}

#[tokio::test]
async fn a_node_that_is_added_is_followed_until_it_votes() {
    let with = |fourth: api::MemberStatus| {
        let mut members = voters();
        members.push(member(5, "e", MemberPlace::Learner));
        members.push(fourth);
        status(members)
    };
    let learner = api::MemberStatus { lag_entries: Some(7), ..member(4, "d", MemberPlace::Learner) };
    let statuses = [
        status(voters()),
        with(member(4, "d", MemberPlace::Admitted)),
        with(learner),
        with(member(4, "d", MemberPlace::Voter)),
    ];
    let (admin, endpoint) = MockAdmin::start(Script { statuses: statuses.into(), ..Script::default() }).await;
    let mock = registry(&endpoint).await;
    let ended = registryctl(mock.endpoint(), &["member", "add", "d", "127.0.0.1:9083"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "d (id 4) votes\n"), "{ended:?}");
    assert_eq!(ended.err, "d is admitted with id 4\nd is a learner, 7 entries behind\n");
    assert_eq!(admin.calls(), ["admit d 127.0.0.1:9083, seen 41"]);
}

#[tokio::test]
async fn a_node_that_is_not_there_in_time_is_told_how_far_it_is() {
    let mut members = voters();
    members.push(member(4, "d", MemberPlace::Learner));
    let (_admin, endpoint) =
        MockAdmin::start(Script { statuses: [status(members)].into(), ..Script::default() }).await;
    let mock = registry(&endpoint).await;
    let ended = registryctl(mock.endpoint(), &["member", "add", "d", "h:1", "--wait", "100ms"]).await;
    assert_eq!(ended.code, 124, "{ended:?}");
    assert!(ended.err.contains("is a learner") && ended.err.contains("goes on without"), "{ended:?}");
}

#[tokio::test]
async fn ctrl_c_ends_only_the_telling() {
    let mut members = voters();
    members.push(member(4, "d", MemberPlace::Learner));
    let (admin, endpoint) =
        MockAdmin::start(Script { statuses: [status(members)].into(), ..Script::default() }).await;
    let mock = registry(&endpoint).await;
    let program = crate::program::Program::start(mock.endpoint(), &["member", "add", "d", "h:1"]);
    while admin.calls().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    program.signal(rustix::process::Signal::INT);
    let ended = program.ended().await;
    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(ended.err.contains("goes on without this command"), "{ended:?}");
}

#[tokio::test]
async fn a_removal_is_told_and_confirmed() {
    let script = Script { statuses: [status(voters())].into(), ..Script::default() };
    let (admin, endpoint) = MockAdmin::start(script).await;
    let mock = registry(&endpoint).await;
    // Nobody is at the keyboard.
    let ended = registryctl(mock.endpoint(), &["member", "remove", "b", "3"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("b (id 2) is removed for good") && ended.err.contains("--yes"), "{ended:?}");
    assert!(admin.calls().is_empty());
    let ended = registryctl(mock.endpoint(), &["member", "remove", "b", "3", "--yes"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(admin.calls(), ["remove [2, 3], seen 41"]);
    let ended = registryctl(mock.endpoint(), &["member", "remove", "x", "9", "--yes"]).await;
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.err.contains("x is no member; 9 is no member"), "{ended:?}");
}

#[tokio::test]
async fn votes_and_leadership_are_given_by_name() {
    let mut members = voters();
    members.push(member(4, "d", MemberPlace::Learner));
    let (admin, endpoint) =
        MockAdmin::start(Script { statuses: [status(members)].into(), ..Script::default() }).await;
    let mock = registry(&endpoint).await;
    let promote = ["member", "promote", "d", "--replacing", "c"];
    assert_eq!(registryctl(mock.endpoint(), &promote).await.code, 0);
    let ended = registryctl(mock.endpoint(), &["member", "transfer-leader", "c"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "c leads (term 9)\n"), "{ended:?}");
    let ended = registryctl(mock.endpoint(), &["member", "transfer-leader"]).await;
    assert_eq!(ended.out, "b leads (term 9)\n", "{ended:?}");
    assert_eq!(admin.calls(), ["promote [4] for [3]", "transfer 3", "transfer 0"]);
}

#[tokio::test]
async fn leadership_that_went_to_another_is_not_called_done() {
    let statuses = [status(voters())].into();
    let (_admin, endpoint) =
        MockAdmin::start(Script { statuses, elects: Some(3), ..Script::default() }).await;
    let mock = registry(&endpoint).await;
    let ended = registryctl(mock.endpoint(), &["member", "transfer-leader", "b"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (5, ""), "{ended:?}");
    assert!(ended.err.contains("c leads now"), "{ended:?}");
}

#[tokio::test]
async fn a_refusal_of_a_change_has_the_exit_code_of_its_reason() {
    for (reason, code) in [
        ("WOULD_LOSE_QUORUM", 5),
        ("MEMBERSHIP_CHANGED", 5),
        ("MEMBER_UNKNOWN", 3),
        ("PEER_UNREACHABLE", 4),
        ("OUTCOME_UNKNOWN", 6),
        ("INVALID_FIELD", 2),
    ] {
        let statuses = [status(voters())].into();
        let (_, endpoint) =
            MockAdmin::start(Script { statuses, refuse: Some(reason), ..Script::default() }).await;
        let mock = registry(&endpoint).await;
        let ended = registryctl(mock.endpoint(), &["member", "remove", "a", "--yes"]).await;
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.err.contains("the mock says no") && ended.err.contains(reason), "{ended:?}");
    }
}

#[tokio::test]
async fn without_a_leader_nothing_is_changed_and_without_peer_ports_it_says_so() {
    let (admin, endpoint) = MockAdmin::start(Script::default()).await;
    let mock = registry(&endpoint).await;
    let remove = ["member", "remove", "a", "--yes", "--timeout", "500ms"];
    let ended = registryctl(mock.endpoint(), &remove).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.err.contains("no node leads") && admin.calls().is_empty(), "{ended:?}");

    let gone = registry(&format!("127.0.0.1:{}", free_port())).await;
    let list = ["member", "list", "--timeout", "500ms"];
    let ended = registryctl(gone.endpoint(), &list).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.err.contains("peer ports must be reachable"), "{ended:?}");
}
