use std::io::Write as _;

use super::*;

fn seed() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/cluster.json")
}

fn with_node(file: PathBuf) -> Sources {
    Sources { file, node_id: Some("registry-node-2".into()), ..Sources::default() }
}

fn written(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

const NODE: &str = "cluster: {nodes: [{node_id: a, host: 127.0.0.1, client_port: 1, raft_port: 2}]}\n";

fn errors_of(text: &str) -> Vec<String> {
    let file = written(text);
    load(&Sources { file: file.path().into(), ..Sources::default() }).unwrap_err().0
}

#[test]
fn the_shipped_example_is_the_seed_file_word_for_word_and_loads() {
    let config = load(&with_node(seed())).unwrap();
    assert_eq!(config.node.client_endpoint(), "127.0.0.1:8081");
    assert_eq!(config.node.peer_endpoint(), "127.0.0.1:9081");
    assert_eq!(config.http_port, 9181);
    assert_eq!(config.data_dir, PathBuf::from("data/registry-node-2"));
    assert_eq!(config.listen, "127.0.0.1");
    assert_eq!(config.raft.heartbeat_interval, Duration::from_millis(50));
    assert_eq!(config.raft.election_timeout_max, Duration::from_millis(300));
    assert_eq!(config.cluster_settings, ClusterSettings::DEFAULT);
}

#[test]
fn the_printed_default_loads_and_says_the_same_as_leaving_all_out() {
    let file = written(&print_default());
    assert_eq!(load(&with_node(file.path().into())).unwrap(), load(&with_node(seed())).unwrap());
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let file =
        written(&format!("{NODE}raft: {{heartbeat_interval: 20}}\ndata_dir: /from/file\nlisten: 1.1.1.1\n"));
    let config = load(&Sources {
        file: file.path().into(),
        environment: vec![
            ("REGISTRY_RAFT__HEARTBEAT_INTERVAL".into(), "30ms".into()),
            ("REGISTRY_DATA_DIR".into(), "/from/environment".into()),
            ("REGISTRY_PORT".into(), "tcp://10.0.0.1:80".into()),
        ],
        flags: vec![("data_dir", "/from/flag".into())],
        node_id: None,
    })
    .unwrap();
    assert_eq!(config.listen, "1.1.1.1");
    assert_eq!(config.raft.heartbeat_interval, Duration::from_millis(30));
    assert_eq!(config.data_dir, PathBuf::from("/from/flag"));
}

#[test]
fn all_errors_are_reported_at_once_with_field_value_and_limit() {
    let errors = errors_of(
        r"
cluster:
  nodes:
    - {node_id: a, host: 127.0.0.1, client_port: 0, raft_port: 2}
    - {node_id: '-', host: '::x', client_port: 3, raft_port: 2, extra: 1}
raft: {heartbeat_interval: 5, election_timeout_min: many, beat: 1}
log: {segment_bytes: 1KiB}
cluster_settings: {membership_owner: nobody, guard: {enabled: perhaps, percent: 101}, default_ttl: 500ms}
watch: 7
colour: blue
",
    );
    for expected in [
        "cluster.nodes[0].client_port = 0: must be a port, 1 to 65535",
        "cluster.nodes[1].node_id = -: must be 1 to 253 bytes",
        "cluster.nodes[1].host = ::x: must be",
        "cluster.nodes[1].extra: unknown key; known: node_id",
        "has 2 nodes; must be 1, 3, 5 or 7",
        "raft.heartbeat_interval = 5 (in ",
        "must be between 10ms and 10s",
        "raft.election_timeout_min = many (in ",
        "raft.beat (in ",
        "unknown key; known in raft: heartbeat_interval, election_timeout_min",
        "log.segment_bytes = 1KiB (in ",
        "must be between 1MiB and 4GiB",
        "cluster_settings.membership_owner = nobody (in ",
        "must be one of autopilot, operator, manual",
        "cluster_settings.guard.enabled = perhaps",
        "cluster_settings.guard.percent = 101",
        "must be between 1 and 100",
        "cluster_settings.default_ttl = 500ms",
        "watch = 7 (in ",
        "colour (in ",
    ] {
        assert!(errors.iter().any(|line| line.contains(expected)), "{expected} not in {errors:#?}");
    }
    assert!(errors.iter().all(|line| !line.contains('\n')));
}

#[test]
fn a_broken_relation_names_both_values() {
    let errors = errors_of(&format!(
        "{NODE}raft: {{heartbeat_interval: 100, election_timeout_min: 150, election_timeout_max: 150}}"
    ));
    assert_eq!(
        errors,
        [
            "raft.election_timeout_min = 150ms: must be at least twice raft.heartbeat_interval = 100ms",
            "raft.election_timeout_max = 150ms: must be more than raft.election_timeout_min = 150ms",
        ]
    );
}

#[test]
fn two_nodes_at_one_address_or_under_one_name_are_refused() {
    let errors = errors_of(
        "cluster: {nodes: [{node_id: a, host: h, client_port: 1, raft_port: 2}, \
         {node_id: a, host: h, client_port: 2, raft_port: 3}, {node_id: c, host: h, client_port: 4, raft_port: 5}]}",
    );
    assert!(errors.contains(
        &"cluster.nodes[0].node_id and cluster.nodes[1].node_id are both a: names must differ".to_owned()
    ));
    assert!(errors.contains(
        &"cluster.nodes: raft_port of a and client_port of a are both h:2: addresses must differ".to_owned()
    ));
}

#[test]
fn a_port_shared_with_http_is_refused() {
    let errors = errors_of(&format!("{NODE}http_port: 2"));
    assert_eq!(errors, ["http_port = 2: the raft_port of a is the same; give another one"]);
}

#[test]
fn a_missing_file_an_unknown_node_and_no_node_say_what_to_do() {
    let missing = load(&with_node("/nowhere/x.json".into())).unwrap_err().0;
    assert_eq!(missing.len(), 1);
    assert!(missing[0].contains("/nowhere/x.json") && missing[0].contains("--config"));
    let unknown = load(&Sources { node_id: Some("x".into()), ..with_node(seed()) }).unwrap_err().0;
    assert_eq!(
        unknown,
        [
            "x: not in cluster.nodes, and there is no host_pattern; listed: registry-node-1, registry-node-2, registry-node-3"
        ]
    );
    let none = load(&Sources { node_id: None, ..with_node(seed()) }).unwrap_err().0;
    assert!(none[0].contains("--node"));
}

#[test]
fn text_that_is_no_mapping_or_no_yaml_is_one_line() {
    for text in ["", "[1, 2]", "{\"cluster\": ", "a: b: c", "\0"] {
        let errors = errors_of(text);
        assert!(!errors.is_empty() && errors.iter().all(|line| !line.contains('\n')), "{text:?}: {errors:?}");
    }
}

#[test]
fn checking_all_nodes_reports_each_line_once() {
    let sources = |file: PathBuf| Sources { file, ..Sources::default() };
    assert_eq!(check_all(&sources(seed())).unwrap().len(), 3);
    let file = written(&format!(
        "{}raft: {{heartbeat_interval: 1}}",
        print_default().split("\nraft:").next().unwrap()
    ));
    assert_eq!(check_all(&sources(file.path().into())).unwrap_err().0.len(), 1, "one line, once");
}

#[test]
fn the_digest_depends_on_every_field_but_not_on_the_order() {
    let config = load(&with_node(seed())).unwrap();
    let mut other = config.nodes.clone();
    other[0].raft_port += 1;
    assert_ne!(nodes_digest(&other), config.nodes_digest);
    assert_eq!(
        load(&Sources { node_id: Some("registry-node-3".into()), ..with_node(seed()) }).unwrap().nodes_digest,
        config.nodes_digest
    );
}

/// What this file lets through, the state machine takes.
#[test]
fn bounds_of_cluster_settings_are_those_of_the_state_machine() {
    for extreme in [0, 1] {
        let mut text = NODE.to_owned();
        for key in keys::KEYS.iter().filter(|key| key.path.starts_with("cluster_settings.")) {
            let value = match key.kind {
                keys::Kind::Time { min, max }
                | keys::Kind::Size { min, max }
                | keys::Kind::Count { min, max } => [min, max][extreme],
                _ => continue,
            };
            // YAML has no dotted keys: give them through the environment instead.
            text.push_str(&format!("# {}={value}\n", key.variable()));
        }
        let environment = text
            .lines()
            .filter_map(|line| line.strip_prefix("# ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let file = written(&text);
        let sources = Sources { file: file.path().into(), environment, ..Sources::default() };
        let settings = load(&sources).unwrap().cluster_settings;
        let mut violations = registry_state::validate::Violations::new();
        settings.check(&mut violations);
        violations.into_result().unwrap();
    }
}

#[test]
fn own_variables_are_told_from_those_that_kubernetes_injects() {
    assert!(is_own_variable("REGISTRY_RAFT__HEARTBEAT_INTERVAL"));
    assert!(is_own_variable("REGISTRY_LOG"));
    assert!(!is_own_variable("REGISTRY_PORT"));
    assert!(!is_own_variable("REGISTRY_CLUSTER__NODES"));
}

#[test]
fn an_http_port_of_the_list_is_that_of_its_node_unless_a_flag_or_the_environment_says_otherwise() {
    let file = written(
        "cluster: {nodes: [{node_id: a, host: 127.0.0.1, client_port: 1, raft_port: 2, http_port: 3}]}\n",
    );
    let sources = Sources { file: file.path().into(), ..Sources::default() };
    assert_eq!(check_all(&sources).unwrap()[0].http_port, 3);
    let environment = vec![("REGISTRY_HTTP_PORT".into(), "4".into())];
    assert_eq!(load(&Sources { environment, ..sources }).unwrap().http_port, 4);
}

#[test]
fn a_node_that_joins_needs_itself_in_the_list_and_addresses_to_ask() {
    let two = "cluster: {nodes: [{node_id: a, host: 127.0.0.1, client_port: 1, raft_port: 2}, \
               {node_id: b, host: 127.0.0.1, client_port: 3, raft_port: 4}]}\n";
    let file = written(two);
    let joining = |join: &str| {
        let flags = vec![("join", join.to_owned())];
        load(&Sources { file: file.path().into(), flags, node_id: Some("b".into()), ..Sources::default() })
    };
    let config = joining("10.0.0.1:9080, [::1]:9081,registry-0.registry:9082").unwrap();
    assert_eq!(config.join, ["10.0.0.1:9080", "[::1]:9081", "registry-0.registry:9082"]);
    for wrong in ["10.0.0.1", "10.0.0.1:0", ":9080", "a:b:9080"] {
        let errors = joining(wrong).unwrap_err().0;
        assert!(errors.iter().any(|error| error.contains("must be HOST:PORT")), "{wrong}: {errors:?}");
    }
}

/// As the operator writes it, and as a pod reads it that was added before its list was.
#[test]
fn a_node_that_the_list_does_not_name_gets_its_address_from_the_pattern_and_founds_nothing() {
    let text = "listen: 0.0.0.0\ndata_dir: /var/lib/registry\n\
        host_pattern: '{node_id}.demo-peers.production.svc.cluster.local'\n\
        cluster_settings: {membership_owner: operator}\n\
        cluster: {nodes: [{node_id: demo-0, host: demo-0.demo-peers.production.svc.cluster.local, \
        client_port: 8080, raft_port: 9080, http_port: 9180}]}\n";
    let file = written(text);
    let named =
        |name: &str| Sources { file: file.path().into(), node_id: Some(name.into()), ..Sources::default() };
    let listed = load(&named("demo-0")).unwrap();
    assert!(listed.founds());
    let added = load(&named("demo-3")).unwrap();
    assert!(!added.founds());
    assert_eq!(added.node.peer_endpoint(), "demo-3.demo-peers.production.svc.cluster.local:9080");
    assert_eq!(added.node.client_endpoint(), "demo-3.demo-peers.production.svc.cluster.local:8080");
    assert_eq!((added.peer_bind(), added.http_bind()), ("0.0.0.0:9080".into(), "0.0.0.0:9180".into()));
    assert_eq!(added.nodes_digest, listed.nodes_digest);
    assert_eq!(added.nodes, listed.nodes);
    assert_eq!(check_all(&named("demo-0")).unwrap().len(), 1);
    for name in ["demo-3:1", "-", "", &"x".repeat(250)] {
        assert!(load(&named(name)).is_err(), "{name:?}");
    }
    for pattern in ["everybody", "{node_id}:9080", "{node}.demo"] {
        let environment = vec![("REGISTRY_HOST_PATTERN".into(), pattern.into())];
        let errors = load(&Sources { environment, ..named("demo-3") }).unwrap_err().0;
        assert!(errors[0].starts_with(&format!("host_pattern = {pattern}: must be")), "{errors:?}");
    }
}
