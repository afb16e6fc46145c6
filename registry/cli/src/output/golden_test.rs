//! Every renderer over fixed messages, compared with files in `tests/golden`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p registryctl` rewrites them; look at the difference before committing.

use std::path::PathBuf;

use registry_proto::v1;

use super::golden_cluster_test::status;
use super::*;

const NOW: i64 = 1_800_000_000;
const FORMATS: [(Format, &str); 5] = [
    (Format::Table, "table"),
    (Format::Wide, "wide"),
    (Format::Json, "json"),
    (Format::Yaml, "yaml"),
    (Format::Name, "name"),
];

pub(super) fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(text, expected, "{name} differs; UPDATE_GOLDEN=1 rewrites it");
}

fn rendering(format: Format) -> Rendering {
    Rendering { format, style: Style { colour: false }, now_unix_s: NOW }
}

/// Result, then remarks as on stderr.
fn shown(printed: &Printed) -> String {
    let remarks: String = printed.remarks.iter().map(|remark| format!("# {remark}\n")).collect();
    format!("{}{remarks}", printed.result)
}

pub(super) fn check_all<V: View>(name: &str, answer: &V) {
    for (format, extension) in FORMATS {
        check(&format!("{name}.{extension}"), &shown(&render(answer, rendering(format)).unwrap()));
    }
}

pub(super) fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

pub(super) fn millis(ms: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: ms / 1_000, nanos: (ms % 1_000) as i32 * 1_000_000 })
}

fn ago(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: NOW - seconds, nanos: 0 })
}

pub(super) fn header() -> v1::ResponseHeader {
    v1::ResponseHeader {
        revision: 42,
        term: 3,
        epoch: 12_345_678_901_234_567_890,
        role: v1::NodeRole::Follower.into(),
        node_id: "registry-node-2".into(),
        leader_endpoint: "127.0.0.1:8080".into(),
        cluster_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".into(),
        ..Default::default()
    }
}

fn instance(port: u32, state: v1::InstanceState) -> v1::Instance {
    v1::Instance {
        instance_id: format!("127.0.0.1:{port}"),
        host: "127.0.0.1".into(),
        port,
        state: state.into(),
        weight: Some(100),
        namespace: "default".into(),
        service_name: "orders".into(),
        revision: 12,
        incarnation: 12,
        ttl: seconds(15),
        registered_at: ago(192),
        ..Default::default()
    }
}

/// One with everything that an instance can have.
fn rich() -> v1::Instance {
    v1::Instance {
        instance_id: "pod-7f".into(),
        host: "fd00::7".into(),
        weight: Some(0),
        zone: "eu-1a".into(),
        metadata: [("version".to_owned(), "1.2".to_owned()), ("yaml".to_owned(), "no: 1\"".to_owned())]
            .into(),
        tags: vec!["blue".into(), "canary".into()],
        ports: [("metrics".to_owned(), v1::Port { port: 9100 })].into(),
        revision: 40,
        ttl: seconds(0),
        operator_override: Some(v1::InstanceOverride {
            state: v1::InstanceState::Draining.into(),
            weight: Some(0),
            comment: "moving\nracks".into(),
            actor: "ada".into(),
            set_at: ago(60),
            expires_at: ago(-3_600),
            revision: 40,
        }),
        reported: Some(v1::ReportedStatus { state: v1::InstanceState::Up.into(), weight: Some(50) }),
        ..instance(7003, v1::InstanceState::Draining)
    }
}

fn protected() -> v1::Instance {
    v1::Instance {
        protection: Some(v1::Protection { silent_for: seconds(16), since: ago(200) }),
        ..instance(7002, v1::InstanceState::Up)
    }
}

pub(super) fn counts() -> v1::InstanceCounts {
    v1::InstanceCounts { total: 3, starting: 0, up: 2, draining: 1, down: 0, protected: 1 }
}

fn discovery() -> v1::ServiceDiscoveryResponse {
    v1::ServiceDiscoveryResponse {
        header: Some(v1::ResponseHeader { staleness: millis(1_250), ..header() }),
        instances: vec![instance(7001, v1::InstanceState::Up), protected(), rich()],
        status: v1::ServiceStatus::Protected.into(),
        counts: Some(counts()),
        service_revision: 40,
        protection: Some(v1::ServiceProtection { instances: 1, held_for: seconds(200) }),
        ..Default::default()
    }
}

#[test]
fn an_answer_to_register_looks_as_agreed() {
    let answer = v1::ServiceRegisterResponse {
        header: Some(header()),
        instance: Some(instance(7001, v1::InstanceState::Up)),
        lease_id: 0x1f2e_3d4c_5b6a_7988,
        incarnation: 12,
        outcome: v1::RegisterOutcome::Created.into(),
    };
    check_all("register", &answer);
    let permanent = v1::ServiceRegisterResponse {
        instance: Some(v1::Instance { ttl: seconds(0), ..instance(7001, v1::InstanceState::Down) }),
        outcome: v1::RegisterOutcome::Replaced.into(),
        ..answer
    };
    check_all("register-permanent", &permanent);
}

#[test]
fn an_answer_to_heartbeat_looks_as_agreed() {
    let answer = v1::HeartbeatResponse {
        header: Some(header()),
        remaining_ttl: millis(14_998),
        lease_id: 0x1f2e_3d4c_5b6a_7988,
        incarnation: 12,
        state: v1::InstanceState::Draining.into(),
    };
    check_all("heartbeat", &answer);
    check_all("heartbeat-lease", &v1::HeartbeatResponse { lease_id: 5, ..Default::default() });
}

#[test]
fn an_answer_to_deregister_looks_as_agreed() {
    check_all("deregister", &v1::ServiceDeregisterResponse { header: Some(header()), removed: 2 });
    check_all("deregister-nothing", &v1::ServiceDeregisterResponse { header: Some(header()), removed: 0 });
}

#[test]
fn an_answer_to_drain_looks_as_agreed() {
    let complete = v1::DrainResponse {
        header: Some(header()),
        complete: true,
        revision: 40,
        watches: 9,
        ..Default::default()
    };
    check_all("drain", &complete);
    check_all("drain-unwatched", &v1::DrainResponse { watches: 0, ..complete.clone() });
    let incomplete = v1::DrainResponse {
        complete: false,
        pending_watches: 2,
        silent_nodes: vec!["registry-node-2".into(), "registry-node-3".into()],
        ..complete
    };
    check_all("drain-incomplete", &incomplete);
}

#[test]
fn answers_to_operators_look_as_agreed() {
    let header = || Some(header());
    check_all("state", &v1::SetInstanceStateResponse { header: header(), changed: 1, overridden: 0 });
    check_all("state-hidden", &v1::SetInstanceStateResponse { header: header(), changed: 0, overridden: 1 });
    let operator_override = rich().operator_override;
    let set = v1::SetInstanceOverrideResponse { header: header(), operator_override, registered: true };
    check_all("override-set", &set);
    let weight = v1::InstanceOverride { weight: Some(7), ..Default::default() };
    let waits =
        v1::SetInstanceOverrideResponse { operator_override: Some(weight.clone()), registered: false, ..set };
    check_all("override-set-waits", &waits);
    check_all("override-clear", &v1::ClearInstanceOverrideResponse { header: header(), cleared: true });
    check_all("override-clear-none", &v1::ClearInstanceOverrideResponse { header: header(), cleared: false });
    let entry = |id: &str, operator_override, registered| v1::OverrideEntry {
        namespace: "default".into(),
        service_name: "orders".into(),
        instance_id: id.into(),
        operator_override,
        registered,
    };
    let overrides =
        vec![entry("pod-7f", rich().operator_override, true), entry("pod-80", Some(weight), false)];
    let list = v1::ListInstanceOverridesResponse { header: header(), overrides, ..Default::default() };
    check_all("override-list", &list);
    check_all("override-list-none", &v1::ListInstanceOverridesResponse { overrides: Vec::new(), ..list });
    check_all("protection-end", &v1::EndProtectionResponse { header: header(), ended: 200 });
    check_all("protection-end-nothing", &v1::EndProtectionResponse { header: header(), ended: 0 });
}

#[test]
fn instances_look_as_agreed() {
    check_all("discover", &discovery());
}

#[test]
fn a_service_without_instances_to_show_says_why() {
    let empty = |status: v1::ServiceStatus, counts: v1::InstanceCounts| v1::ServiceDiscoveryResponse {
        header: Some(header()),
        status: status.into(),
        counts: Some(counts),
        ..Default::default()
    };
    check_all("discover-unknown", &empty(v1::ServiceStatus::Unknown, v1::InstanceCounts::default()));
    check_all("discover-empty", &empty(v1::ServiceStatus::Empty, v1::InstanceCounts::default()));
    check_all("discover-filtered", &empty(v1::ServiceStatus::Available, counts()));
    let cut_off = v1::ServiceDiscoveryResponse {
        header: Some(v1::ResponseHeader { staleness: seconds(90), staleness_unknown: true, ..header() }),
        ..empty(v1::ServiceStatus::NoneUp, v1::InstanceCounts { total: 1, down: 1, ..Default::default() })
    };
    check_all("discover-none-up", &cut_off);
}

#[test]
fn services_look_as_agreed() {
    let service = |name: &str, status: v1::ServiceStatus, counts: v1::InstanceCounts| v1::ServiceSummary {
        namespace: "default".into(),
        service_name: name.into(),
        status: status.into(),
        counts: Some(counts),
        revision: 40,
    };
    let answer = v1::ListServicesResponse {
        header: Some(header()),
        services: vec![
            service("billing", v1::ServiceStatus::Empty, v1::InstanceCounts::default()),
            service("orders", v1::ServiceStatus::Protected, counts()),
            service(
                "users",
                v1::ServiceStatus::Available,
                v1::InstanceCounts { total: 1, up: 1, ..Default::default() },
            ),
        ],
        next_page_token: String::new(),
    };
    check_all("services", &answer);
    check_all("services-none", &v1::ListServicesResponse { header: Some(header()), ..Default::default() });
}

fn watched() -> Vec<v1::WatchResponse> {
    let at = |kind: v1::WatchKind, revision: u64| v1::WatchResponse {
        kind: kind.into(),
        revision,
        ..Default::default()
    };
    let event = |kind: v1::EventKind, cause: v1::EventCause, instance: v1::Instance, previous| {
        v1::InstanceEvent { kind: kind.into(), cause: cause.into(), instance: Some(instance), previous }
    };
    let up = || instance(7001, v1::InstanceState::Up);
    let changes = |revision: u64, events: Vec<v1::InstanceEvent>| v1::WatchResponse {
        changes: vec![v1::RevisionChanges { revision, events, more: false }],
        ..at(v1::WatchKind::Changes, revision)
    };
    vec![
        v1::WatchResponse { instances: vec![rich(), protected()], ..at(v1::WatchKind::Snapshot, 0) },
        v1::WatchResponse { header: Some(header()), ..at(v1::WatchKind::Synced, 42) },
        changes(43, vec![event(v1::EventKind::Added, v1::EventCause::Registered, up(), None)]),
        changes(
            44,
            vec![event(
                v1::EventKind::Updated,
                v1::EventCause::StateReported,
                instance(7001, v1::InstanceState::Draining),
                Some(up()),
            )],
        ),
        changes(
            45,
            vec![
                event(v1::EventKind::Removed, v1::EventCause::Expired, up(), None),
                event(v1::EventKind::Removed, v1::EventCause::Operator, rich(), None),
            ],
        ),
        v1::WatchResponse {
            header: Some(v1::ResponseHeader { staleness: millis(310), ..header() }),
            ..at(v1::WatchKind::Bookmark, 45)
        },
        v1::WatchResponse { oldest_revision: 30, ..at(v1::WatchKind::Compacted, 0) },
        at(v1::WatchKind::EpochChanged, 0),
        at(v1::WatchKind::Resync, 45),
        at(v1::WatchKind::Closing, 45),
    ]
}

#[test]
fn a_watch_looks_as_agreed() {
    for (format, extension) in FORMATS {
        let lines: String =
            watched().iter().map(|answer| watch::render(answer, rendering(format)).unwrap()).collect();
        check(&format!("watch.{extension}"), &lines);
    }
}

#[test]
fn colours_surround_words_and_nothing_else() {
    let colour = |format| Rendering { style: Style { colour: true }, ..rendering(format) };
    let table = render(&discovery(), colour(Format::Table)).unwrap();
    let wide = render(&status(), colour(Format::Wide)).unwrap();
    let lines: String =
        watched().iter().map(|answer| watch::render(answer, colour(Format::Table)).unwrap()).collect();
    let text = format!("{}{}{lines}", table.result, wide.result);
    check("coloured.txt", &text.replace('\x1b', "\\e"));

    let mut plain = text;
    for code in ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
        plain = plain.replace(code, "");
    }
    let uncoloured: String =
        watched().iter().map(|answer| watch::render(answer, rendering(Format::Table)).unwrap()).collect();
    let table = render(&discovery(), rendering(Format::Table)).unwrap().result;
    let wide = render(&status(), rendering(Format::Wide)).unwrap().result;
    assert_eq!(plain, format!("{table}{wide}{uncoloured}"), "colour must not change the layout");
}

#[test]
fn json_can_be_read_back_into_the_message() {
    let text = message::json_pretty("registry.v1.ServiceDiscoveryResponse", &discovery()).unwrap();
    let pool = prost_reflect::DescriptorPool::decode(registry_proto::ALL_DESCRIPTORS).unwrap();
    let descriptor = pool.get_message_by_name("registry.v1.ServiceDiscoveryResponse").unwrap();
    let mut reader = serde_json::Deserializer::from_str(&text);
    let read = prost_reflect::DynamicMessage::deserialize(descriptor, &mut reader).unwrap();
    assert_eq!(read.transcode_to::<v1::ServiceDiscoveryResponse>().unwrap(), discovery());
}

#[test]
fn yaml_has_the_structure_of_json() {
    let json = message::json_pretty("registry.v1.ServiceDiscoveryResponse", &discovery()).unwrap();
    let yaml = message::yaml("registry.v1.ServiceDiscoveryResponse", &discovery()).unwrap();
    let from_json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let from_yaml: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(from_yaml, from_json);
}
