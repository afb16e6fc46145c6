use registry_state::command::{Command, InitCluster, Operation, Register, Registration};

use super::*;

fn founded() -> State {
    let mut state = State::default();
    state.apply(&command(Operation::InitCluster(InitCluster {
        cluster_id: "3f0b8c1e-7a58-4d0c-9a55-0b6f3f9a7c11".into(),
        epoch: 7,
        next_raft_id: 2,
        ..Default::default()
    })));
    state
}

fn command(operation: Operation) -> Command {
    Command { proposed_at_unix_ms: 1, request: None, operation }
}

fn register(state: &mut State, service: &str, port: u32, change: impl FnOnce(&mut Registration)) {
    let mut registration = Registration {
        namespace: "default".into(),
        service_name: service.into(),
        instance_id: format!("i{port:05}"),
        host: "h".into(),
        port,
        ..Default::default()
    };
    change(&mut registration);
    let operation = Operation::Register(Register {
        registration: Some(registration),
        new_lease_id: 1_000 + u64::from(port),
    });
    let applied = state.apply(&command(operation));
    assert!(matches!(applied.reply, registry_state::Reply::Registered { .. }), "{:?}", applied.reply);
}

fn ask(change: impl FnOnce(&mut v1::ServiceDiscoveryRequest)) -> DiscoverQuery {
    let mut request = v1::ServiceDiscoveryRequest { service_name: "orders".into(), ..Default::default() };
    change(&mut request);
    convert::discover(request).unwrap()
}

fn answer(state: &State, query: &DiscoverQuery) -> v1::ServiceDiscoveryResponse {
    answer_with(state, query, &EncodedPages::default())
}

fn answer_with(state: &State, query: &DiscoverQuery, encoded: &EncodedPages) -> v1::ServiceDiscoveryResponse {
    use prost::Message;
    let header =
        v1::ResponseHeader { epoch: state.epoch(), revision: state.revision(), ..Default::default() };
    let bytes = discover(query, state, header, encoded, |_| Some(Duration::from_secs(7))).encode_to_vec();
    v1::ServiceDiscoveryResponse::decode(bytes.as_slice()).unwrap()
}

fn ids(answer: &v1::ServiceDiscoveryResponse) -> Vec<String> {
    answer.instances.iter().map(|instance| instance.instance_id.clone()).collect()
}

#[test]
fn an_unknown_service_is_an_answer() {
    let answer = answer(&founded(), &ask(|_| ()));
    assert_eq!(answer.status(), v1::ServiceStatus::Unknown);
    assert_eq!(answer.counts, Some(v1::InstanceCounts::default()));
    assert_eq!((answer.service_revision, answer.instances.len()), (0, 0));
}

#[test]
fn instances_come_sorted_with_all_counts() {
    let mut state = founded();
    for port in [3, 1, 2] {
        register(&mut state, "orders", port, |one| one.state = i32::from(port == 2) * 2 + 2);
    }
    let answer = answer(
        &state,
        &ask(|request| {
            request.filter = Some(v1::InstanceFilter { states: vec![2], ..Default::default() });
        }),
    );
    assert_eq!(ids(&answer), ["i00001", "i00003"]);
    assert_eq!(answer.status(), v1::ServiceStatus::Available);
    let counts = answer.counts.unwrap();
    assert_eq!((counts.total, counts.up, counts.down), (3, 2, 1), "counts ignore the filter");
}

#[test]
fn every_instance_is_on_exactly_one_page_whatever_changes_between_them() {
    let mut state = founded();
    for port in 1..=50 {
        register(&mut state, "orders", port * 2, |_| ());
    }
    let mut seen = Vec::new();
    let mut token = String::new();
    for round in 0.. {
        let page = answer(
            &state,
            &ask(|request| {
                request.page_size = 7;
                request.page_token = token.clone();
            }),
        );
        assert!(page.instances.len() <= 7);
        seen.extend(ids(&page));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        // Newcomers before and after the place where the page ended.
        register(&mut state, "orders", round * 10 + 1, |_| ());
    }
    for port in 1..=50 {
        let id = format!("i{:05}", port * 2);
        assert_eq!(seen.iter().filter(|one| **one == id).count(), 1, "{id}");
    }
}

#[test]
fn a_full_last_page_has_no_token() {
    let mut state = founded();
    for port in 1..=4 {
        register(&mut state, "orders", port, |_| ());
    }
    let page = answer(&state, &ask(|request| request.page_size = 4));
    assert_eq!((page.instances.len(), page.next_page_token.as_str()), (4, ""));
    let page = answer(&state, &ask(|request| request.page_size = 3));
    assert!(!page.next_page_token.is_empty());
}

#[test]
fn an_answer_without_page_size_ends_at_three_mebibytes() {
    let mut state = founded();
    for port in 1..=600 {
        register(&mut state, "orders", port, |one| {
            one.metadata = vec![registry_state::Pair { key: "k".into(), value: "v".repeat(8_000) }];
        });
    }
    let first = answer(&state, &ask(|_| ()));
    assert!(first.instances.len() < 600 && !first.next_page_token.is_empty());
    let token = first.next_page_token.clone();
    let second = answer(&state, &ask(|request| request.page_token = token));
    let all = [ids(&first), ids(&second)].concat();
    assert_eq!(all, (1..=600).map(|port| format!("i{port:05}")).collect::<Vec<_>>());
}

#[test]
fn unchanged_is_told_only_for_the_present_revision_of_a_known_service() {
    let mut state = founded();
    register(&mut state, "orders", 1, |_| ());
    let position = |epoch, revision| Some(v1::Position { epoch, revision });
    let since = |state: &State, epoch, revision| {
        answer(state, &ask(|request| request.if_changed_since = position(epoch, revision)))
    };
    let revision = state.revision();
    let same = since(&state, 7, revision);
    assert!(same.unchanged && same.instances.is_empty());
    assert_eq!(same.status(), v1::ServiceStatus::Available);
    assert!(!since(&state, 8, revision).unchanged, "another epoch");
    assert!(!since(&state, 7, revision - 1).unchanged);
    register(&mut state, "other", 2, |_| ());
    assert!(since(&state, 7, revision).unchanged, "another service does not matter");
    register(&mut state, "orders", 3, |_| ());
    assert!(!since(&state, 7, revision).unchanged);
    assert!(!since(&founded(), 7, 99).unchanged, "an unknown service");
}

#[test]
fn kept_pages_follow_every_change_and_never_an_older_state() {
    let encoded = EncodedPages::default();
    let mut state = founded();
    register(&mut state, "orders", 1, |_| ());
    let old = state.clone();
    let ids = |state: &State| ids(&answer_with(state, &ask(|_| ()), &encoded));
    assert_eq!(ids(&state), ["i00001"]);
    register(&mut state, "orders", 2, |_| ());
    assert_eq!(ids(&state), ["i00001", "i00002"]);
    assert_eq!(ids(&old), ["i00001"]);
    assert_eq!(ids(&state), ["i00001", "i00002"]);
}

#[test]
fn kept_pages_are_bounded_in_bytes() {
    let encoded = EncodedPages::default();
    let mut state = founded();
    register(&mut state, "orders", 1, |_| ());
    let service = state.service("default", "orders").unwrap();
    let page = || Arc::new(Page { instances: vec![vec![0; 1 << 20].into()], last: None });
    for number in 0..100 {
        let key = Arc::new(ServiceKey::new("default", &number.to_string()));
        encoded.keep(key, 7, 1, page());
        assert!(encoded.kept().bytes <= KEPT_BYTES);
    }
    encoded.first_page(&service, 7);
    let kept = encoded.kept();
    assert_eq!(kept.bytes, kept.pages.values().map(|page| page.bytes).sum::<usize>());
}

fn list(state: &State, change: impl FnOnce(&mut v1::ListServicesRequest)) -> v1::ListServicesResponse {
    let mut request = v1::ListServicesRequest::default();
    change(&mut request);
    let header =
        v1::ResponseHeader { epoch: state.epoch(), revision: state.revision(), ..Default::default() };
    list_services(&convert::list_services(request).unwrap(), state, header)
}

#[test]
fn services_are_listed_once_each_over_all_pages() {
    let mut state = founded();
    for number in 1..=25 {
        let name = format!("s{number:02}");
        register(&mut state, &name, number, |_| ());
        register(&mut state, &name, number + 100, |one| one.namespace = "other".into());
    }
    for all_namespaces in [false, true] {
        let mut names = Vec::new();
        let mut token = String::new();
        loop {
            let page = list(&state, |request| {
                request.all_namespaces = all_namespaces;
                request.page_size = 10;
                request.page_token = token.clone();
            });
            names.extend(page.services.iter().map(|one| (one.namespace.clone(), one.service_name.clone())));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(names.len(), if all_namespaces { 50 } else { 25 });
        assert!(names.is_sorted() && names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}

#[test]
fn a_prefix_chooses_by_name_in_every_namespace() {
    let mut state = founded();
    register(&mut state, "orders-eu", 1, |_| ());
    register(&mut state, "orders-us", 2, |one| one.namespace = "other".into());
    register(&mut state, "users", 3, |_| ());
    let names = |all_namespaces| {
        let page = list(&state, |request| {
            request.all_namespaces = all_namespaces;
            request.name_prefix = "orders-".into();
        });
        page.services.into_iter().map(|service| service.service_name).collect::<Vec<_>>()
    };
    assert_eq!(names(false), ["orders-eu"]);
    assert_eq!(names(true), ["orders-eu", "orders-us"]);
}

#[test]
fn a_listed_service_has_the_counts_of_discover() {
    let mut state = founded();
    register(&mut state, "orders", 1, |_| ());
    let listed = list(&state, |_| ()).services.remove(0);
    let found = answer(&state, &ask(|_| ()));
    assert_eq!(listed.status, found.status);
    assert_eq!(listed.counts, found.counts);
    assert_eq!(listed.revision, found.service_revision);
}
