use super::*;

fn paths<T>(result: Result<T, Error>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(Error::InvalidField(bad)) => bad.into_iter().map(|field| field.path).collect(),
        Err(other) => panic!("{other}"),
    }
}

fn ask() -> v1::ServiceDiscoveryRequest {
    v1::ServiceDiscoveryRequest { service_name: "orders".into(), ..Default::default() }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[test]
fn a_read_is_linearizable_unless_it_says_otherwise() {
    let query = discover(ask()).unwrap();
    assert_eq!(query.freshness, Freshness::default());
    assert_eq!(query.freshness.consistency, Consistency::Linearizable);
    assert_eq!((query.namespace.as_str(), query.page_size), ("default", None));
}

#[test]
fn an_age_limit_is_for_stale_reads() {
    let with = |consistency: v1::Consistency, max_staleness| v1::ServiceDiscoveryRequest {
        consistency: consistency as i32,
        max_staleness,
        ..ask()
    };
    for consistency in [v1::Consistency::Unspecified, v1::Consistency::Linearizable] {
        assert_eq!(paths(discover(with(consistency, seconds(1)))), ["max_staleness"]);
    }
    for consistency in [v1::Consistency::Stale, v1::Consistency::LinearizableOrStale] {
        let query = discover(with(consistency, seconds(1))).unwrap();
        assert_eq!(query.freshness.max_staleness, Some(Duration::from_secs(1)));
        assert!(discover(with(consistency, seconds(86_400))).is_ok());
        for bad in [0, -1, 86_401, i64::MAX] {
            assert_eq!(paths(discover(with(consistency, seconds(bad)))), ["max_staleness"]);
        }
    }
}

#[test]
fn an_unknown_consistency_is_refused() {
    assert_eq!(paths(discover(v1::ServiceDiscoveryRequest { consistency: 4, ..ask() })), ["consistency"]);
}

#[test]
fn pages_are_bounded() {
    let size = |page_size| discover(v1::ServiceDiscoveryRequest { page_size, ..ask() });
    assert_eq!(size(10_000).unwrap().page_size, Some(10_000));
    assert_eq!(paths(size(10_001)), ["page_size"]);
    let list = |page_size| list_services(v1::ListServicesRequest { page_size, ..Default::default() });
    assert_eq!(list(0).unwrap().page_size, 100);
    assert_eq!(list(1_000).unwrap().page_size, 1_000);
    assert_eq!(paths(list(1_001)), ["page_size"]);
}

#[test]
fn a_page_token_belongs_to_its_question() {
    let first = discover(ask()).unwrap();
    let token = PageToken { question: first.question, epoch: 9, revision: 77, last: vec!["i".into()] };
    let next = |change: fn(&mut v1::ServiceDiscoveryRequest)| {
        let mut request = v1::ServiceDiscoveryRequest { page_token: token.to_string(), ..ask() };
        change(&mut request);
        discover(request)
    };
    let query = next(|_| ()).unwrap();
    assert_eq!(query.after.as_ref(), Some(&token));
    // The next page shows no older state, nor one of another history.
    assert_eq!((query.freshness.min_revision, query.freshness.epoch), (77, 9));
    assert_eq!(next(|request| request.min_revision = 80).unwrap().freshness.min_revision, 80);
    assert_eq!(paths(next(|request| request.page_size = 5)), ["page_token"]);
    assert_eq!(paths(next(|request| request.service_name = "other".into())), ["page_token"]);
    assert_eq!(paths(next(|request| request.page_token = "garbage".into())), ["page_token"]);
    assert_eq!(paths(next(|request| request.page_token = "x".repeat(1 << 16))), ["page_token"]);
}

#[test]
fn all_namespaces_stands_alone() {
    let request = v1::ListServicesRequest { all_namespaces: true, ..Default::default() };
    assert_eq!(list_services(request.clone()).unwrap().scope, Scope::All);
    let request = v1::ListServicesRequest { namespace: "n".into(), ..request };
    assert_eq!(paths(list_services(request)), ["namespace"]);
    let request = v1::WatchRequest {
        all_namespaces: true,
        namespace: "n".into(),
        service_name: "s".into(),
        ..Default::default()
    };
    assert_eq!(paths(watch(&request)), ["service_name", "namespace"]);
}

#[test]
fn bookmarks_come_every_ten_seconds_unless_asked_otherwise() {
    let with = |bookmark_interval| watch(&v1::WatchRequest { bookmark_interval, ..Default::default() });
    assert_eq!(with(None).unwrap().bookmark_interval, Duration::from_secs(10));
    assert_eq!(with(seconds(300)).unwrap().bookmark_interval, Duration::from_secs(300));
    for bad in [0, -1, 301] {
        assert_eq!(paths(with(seconds(bad))), ["bookmark_interval"]);
    }
}

#[test]
fn a_prefix_may_be_any_beginning_of_a_name() {
    let with = |prefix: &str| {
        list_services(v1::ListServicesRequest { name_prefix: prefix.into(), ..Default::default() })
    };
    assert_eq!(with("orders-").unwrap().prefix, "orders-");
    assert_eq!(paths(with("a b")), ["name_prefix"]);
    assert_eq!(paths(with(&"a".repeat(254))), ["name_prefix"]);
}
