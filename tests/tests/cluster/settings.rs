//! Settings of the cluster change online, on all nodes at one position of the log (P/S1).

use std::process::{Command, Output};
use std::time::Duration;

use registry_proto::internal::{ClusterSettings, HistorySettings, QuotaSettings};
use registry_proto::v1::{self, MemberHealth, WatchKind};
use registry_tests::api::{duration, from_duration, reason, registration};
use registry_tests::binaries::binaries;
use registry_tests::cluster::{Cluster, Options};
use registry_tests::wait;
use serde_json::json;
use tonic_types::StatusExt;

/// Registers with three fields and gives the time to live that the registry chose.
async fn default_ttl_of(cluster: &Cluster, node: usize, port: u32) -> Duration {
    let request = registration("orders", "127.0.0.1", port);
    let answer = cluster.api(node).register(request).await.unwrap();
    from_duration(answer.instance.unwrap().ttl.unwrap())
}

/// A registration that outlives the test.
fn permanent(service: &str, port: u32) -> v1::ServiceRegisterRequest {
    v1::ServiceRegisterRequest {
        ttl: Some(duration(Duration::ZERO)),
        ..registration(service, "127.0.0.1", port)
    }
}

async fn quota_that_refuses(cluster: &Cluster, node: usize, service: &str, port: u32) -> String {
    let status = cluster.api(node).register(permanent(service, port)).await.unwrap_err();
    assert_eq!(reason(&status), "QUOTA_EXCEEDED", "{status:?}");
    status.get_details_error_info().unwrap().metadata["quota"].clone()
}

/// From which revisions a watch can be resumed at a node; `true` = it can.
async fn resumable(cluster: &Cluster, node: usize, epoch: u64, newest: u64) -> Vec<bool> {
    let mut found = Vec::new();
    for revision in 1..=newest {
        let request = v1::WatchRequest {
            service_name: "orders".into(),
            resume: Some(v1::Position { epoch, revision }),
            // At the newest revision there is nothing else to say.
            bookmark_interval: Some(duration(Duration::from_secs(1))),
            ..Default::default()
        };
        let mut stream = cluster.api(node).watch(request).await.unwrap();
        let message = tokio::time::timeout(wait::PATIENCE, stream.message()).await.unwrap();
        found.push(message.unwrap().unwrap().kind() != WatchKind::Compacted);
    }
    found
}

fn quotas(settings: &mut ClusterSettings) -> &mut QuotaSettings {
    settings.quotas.as_mut().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_seen_at_every_node_in_the_next_registration_quota_and_revision() {
    let cluster = Cluster::start(Options::waiting()).await;
    assert_eq!(default_ttl_of(&cluster, 0, 1).await, Duration::from_secs(15));
    cluster.change_settings(|settings| settings.default_ttl = Some(duration(Duration::from_secs(600)))).await;
    for node in 0..3 {
        let port = u32::try_from(node).unwrap() + 10;
        assert_eq!(default_ttl_of(&cluster, node, port).await, Duration::from_secs(600));
    }

    // There are instances of one service: each quota by itself refuses the next, at every node.
    for (service, expected, lower) in [
        ("orders", "instances_per_service", lower_per_service as fn(&mut QuotaSettings)),
        ("more", "instances", |quotas| quotas.instances = 1),
        ("more", "services", |quotas| quotas.services = 1),
        ("more", "user_data_bytes", |quotas| quotas.user_data_bytes = 1),
    ] {
        let before = cluster.change_settings(|settings| lower(quotas(settings))).await;
        for node in 0..3 {
            let quota = quota_that_refuses(&cluster, node, service, 99).await;
            assert!(quota.ends_with(expected), "{quota} for {expected}");
        }
        let raised = cluster
            .change_settings(|settings| {
                *quotas(settings) = QuotaSettings {
                    instances: 1_000,
                    services: 1_000,
                    instances_per_service: 1_000,
                    overrides: 1_000,
                    user_data_bytes: 1 << 20,
                };
            })
            .await;
        assert_eq!(raised.version, before.version + 1);
    }
    cluster.api(1).register(permanent("orders", 99)).await.unwrap();
}

fn lower_per_service(quotas: &mut QuotaSettings) {
    quotas.instances_per_service = 1;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shortened_history_is_compacted_at_every_node_to_the_same_revision() {
    let cluster = Cluster::start(Options::waiting()).await;
    for port in 1..=12 {
        cluster.api(0).register(permanent("orders", port)).await.unwrap();
    }
    cluster
        .change_settings(|settings| {
            settings.history = Some(HistorySettings { max_events: 5, max_bytes: 1 << 20 });
        })
        .await;
    // It takes effect with the next revision.
    let answer = cluster.api(1).register(permanent("orders", 13)).await.unwrap();
    let header = answer.header.unwrap();
    let mut seen = Vec::new();
    for node in 0..3 {
        cluster.caught_up(node).await;
        seen.push(resumable(&cluster, node, header.epoch, header.revision).await);
    }
    assert_eq!(
        seen[0].iter().filter(|can| **can).count(),
        6,
        "five events and the newest revision: {seen:?}"
    );
    assert!(seen.iter().all(|of_node| *of_node == seen[0]), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_survive_restarts_and_reach_a_node_by_snapshot() {
    let file = json!({ "log": { "segment_bytes": 4 << 20 }, "raft": {
        "election_timeout_min": 150, "election_timeout_max": 300, "heartbeat_interval": 50,
        "max_in_snapshot_log_to_keep": 0 } });
    let mut cluster = Cluster::start(Options { file, ..Options::waiting() }).await;
    let away = cluster.followers().await[0];
    cluster.nodes[away].kill();
    let changed = cluster
        .change_settings(|settings| settings.default_ttl = Some(duration(Duration::from_secs(77))))
        .await;
    for port in 1..=20 {
        let node = (away + 1) % 3;
        cluster.api(node).register(permanent("orders", port)).await.unwrap();
    }
    // Without log behind it the node that was away can only be brought up by the snapshot.
    for node in (0..3).filter(|node| *node != away) {
        cluster.admin(node).snapshot().await.unwrap();
    }
    let has_purged = |node: usize| {
        let admin = cluster.admin(node);
        async move { admin.status().await.unwrap().raft.unwrap().purged.is_some() }
    };
    let leader = cluster.leader().await;
    wait::until_true("the leader to purge its log", wait::PATIENCE, || has_purged(leader)).await;
    cluster.start_node(away);
    cluster.ready().await;
    assert_eq!(cluster.admin(away).settings().await.unwrap(), changed);
    let snapshot = cluster.admin(away).status().await.unwrap().raft.unwrap().snapshot;
    assert!(snapshot.is_some(), "it was brought up by a snapshot");

    cluster.kill_all();
    cluster.start_all();
    cluster.ready().await;
    for node in 0..3 {
        assert_eq!(cluster.admin(node).settings().await.unwrap(), changed);
        assert_eq!(default_ttl_of(&cluster, node, 100).await, Duration::from_secs(77));
        // The file, which says nothing, counts at founding only; whoever edits it is told so.
        let log = cluster.nodes[node].log_text();
        let told =
            log.lines().rev().find(|line| line.contains("cluster_settings of the configuration differ"));
        assert!(told.is_some_and(|line| line.contains("default_ttl")), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_read_the_same_version_one_is_refused_and_all_bad_fields_are_named() {
    let cluster = Cluster::start(Options::waiting()).await;
    let leader = cluster.leader().await;
    let admin = cluster.admin(leader);
    let read = admin.settings().await.unwrap();
    let with =
        |seconds| ClusterSettings { default_ttl: Some(duration(Duration::from_secs(seconds))), ..read };
    let (one, other) = tokio::join!(
        admin.update_settings(read.version, with(20)),
        admin.update_settings(read.version, with(30))
    );
    let (taken, refused) = match (one, other) {
        (Ok(taken), Err(refused)) | (Err(refused), Ok(taken)) => (taken, refused),
        both => panic!("exactly one is to win: {both:?}"),
    };
    assert_eq!(reason(&refused), "SETTINGS_CHANGED", "{refused:?}");
    assert_eq!(admin.settings().await.unwrap(), taken);
    let late = admin.update_settings(read.version, with(40)).await.unwrap_err();
    assert_eq!(reason(&late), "SETTINGS_CHANGED", "who comes later has read the same old version: {late:?}");
    // The same once more, as after a lost answer: nothing changes.
    assert_eq!(admin.update_settings(taken.version, taken).await.unwrap(), taken);

    let mut bad = ClusterSettings { voters_target: 4, membership_owner: 9, ..taken };
    bad.default_ttl = Some(duration(Duration::from_millis(999)));
    bad.promote_after = Some(duration(Duration::from_secs(3_601)));
    bad.guard.as_mut().unwrap().percent = 101;
    bad.history.as_mut().unwrap().max_events = 0;
    quotas(&mut bad).services = 0;
    let status = admin.update_settings(taken.version, bad).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    let named: Vec<String> = status
        .get_details_bad_request()
        .unwrap()
        .field_violations
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    for field in [
        "default_ttl",
        "guard.percent",
        "promote_after",
        "history.max_events",
        "quotas.services",
        "membership_owner",
        "voters_target",
    ] {
        assert!(named.contains(&format!("settings.{field}")), "{field} is not in {named:?}");
    }
    for node in 0..3 {
        assert_eq!(cluster.admin(node).settings().await.unwrap(), taken, "nothing of it was taken");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn registryctl_changes_settings_by_any_node_and_the_silence_that_makes_a_member_dead_follows() {
    let mut cluster = Cluster::start(Options::waiting()).await;
    let follower = cluster.followers().await[0];
    let endpoint = cluster.nodes[follower].endpoint();
    let ctl = |arguments: &[&str]| -> Output {
        let mut command = Command::new(&binaries().registryctl);
        command.env_remove("REGISTRY_ADMIN_TOKEN_FILE");
        command.args(["--endpoints", &endpoint, "--no-color"]).args(arguments).output().unwrap()
    };
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let set = ctl(&["settings", "set", "dead_member_after=1s", "promote_after=1s"]);
    assert!(set.status.success(), "{set:?}");
    assert_eq!(
        text(&set),
        "SETTING            BEFORE  AFTER\n\
         dead_member_after  1min    1s\n\
         promote_after      10s     1s\n"
    );
    let bad = ctl(&["settings", "set", "quotas.services=0", "history.events=0"]);
    assert_eq!(bad.status.code(), Some(2), "{bad:?}");
    let words = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(words.contains("quotas.services") && words.contains("history."), "{words}");
    let list = ctl(&["member", "list", "-o", "name"]);
    assert_eq!(text(&list), "registry-node-1\nregistry-node-2\nregistry-node-3\n", "{list:?}");

    let gone = cluster.followers().await[1];
    cluster.nodes[gone].kill();
    let name = cluster.nodes[gone].name.clone();
    wait::until("the killed member to be dead at every node", wait::PATIENCE, || async {
        for node in (0..3).filter(|node| *node != gone) {
            let status = cluster.api(node).status(false).await.map_err(|status| status.to_string())?;
            let member = status.members.iter().find(|member| member.node_id == name);
            if member.is_none_or(|member| member.health() != MemberHealth::Dead) {
                return Err(format!("{member:?}"));
            }
        }
        Ok(())
    })
    .await;
}
