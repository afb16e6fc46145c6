//! Dials over a network of the test: who answers at which endpoint, and who is silent.

use std::net::Ipv4Addr;

use tokio::io::duplex;

use super::*;

const NAME: &str = "demo-1.demo-peers.default.svc.cluster.local:9080";
const NEW: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

/// What an endpoint does with a dial.
#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Answers,
    Refuses,
    Silent,
}

/// Endpoints, and which were dialled.
#[derive(Debug, Default)]
struct Net {
    endpoints: BTreeMap<String, At>,
    dialled: Mutex<Vec<String>>,
}

impl Dial for Net {
    fn dial(&self, endpoint: &str) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        self.dialled.lock().unwrap().push(endpoint.to_owned());
        let at = self.endpoints.get(endpoint).copied().unwrap_or(At::Refuses);
        Box::pin(async move {
            match at {
                At::Answers => Ok(Box::new(duplex(1).0) as Box<dyn ByteStream>),
                At::Refuses => Err(io::ErrorKind::ConnectionRefused.into()),
                At::Silent => std::future::pending().await,
            }
        })
    }
}

/// Dials member 2 when its name and its hint do this; which endpoints were dialled, and how long it took.
async fn dialled(by_name: At, hint: Option<At>, way: &Way) -> (bool, Vec<String>, Duration) {
    let hints = Hints::default();
    let mut endpoints = BTreeMap::from([(NAME.to_owned(), by_name)]);
    if let Some(hint) = hint {
        hints.heard(2, NEW);
        endpoints.insert("10.0.0.7:9080".to_owned(), hint);
    }
    let net = Arc::new(Net { endpoints, dialled: Mutex::default() });
    let dial = HintedDial { inner: net.clone(), hints, way: way.clone(), raft_id: 2 };
    let begun = Instant::now();
    let done = timeout(Duration::from_millis(500), dial.dial(NAME)).await;
    let dialled = net.dialled.lock().unwrap().clone();
    (matches!(done, Ok(Ok(_))), dialled, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_name_that_leads_to_the_member_needs_no_hint() {
    let (connected, ways, took) = dialled(At::Answers, Some(At::Answers), &Way::default()).await;
    assert!(connected);
    assert_eq!(ways, [NAME]);
    assert!(took < HEAD_START);
}

#[tokio::test(start_paused = true)]
async fn the_hint_leads_where_dns_gives_an_address_that_is_silent_or_none() {
    for stale in [At::Silent, At::Refuses] {
        let (connected, ways, took) = dialled(stale, Some(At::Answers), &Way::default()).await;
        assert!(connected, "{stale:?}");
        assert_eq!(ways, [NAME, "10.0.0.7:9080"]);
        assert!(took <= HEAD_START + Duration::from_millis(5), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_hint_stops_nobody_where_the_name_is_right() {
    for wrong in [At::Silent, At::Refuses] {
        let way = Way::default();
        assert!(dialled(At::Answers, Some(wrong), &way).await.0);
        assert!(way.mistaken(), "now the hint goes first");
        let (connected, ways, _) = dialled(At::Answers, Some(wrong), &way).await;
        assert!(connected);
        assert_eq!(ways, ["10.0.0.7:9080", NAME]);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_hint_only_the_name_is_dialled() {
    let (connected, ways, _) = dialled(At::Refuses, None, &Way::default()).await;
    assert!(!connected);
    assert_eq!(ways, [NAME]);
}

/// A dead pod's address was given to a pod of another cluster, and DNS still gives it.
#[tokio::test(start_paused = true)]
async fn after_somebody_else_has_answered_the_other_way_goes_first() {
    let way = Way::default();
    let ways = async |way: &Way| dialled(At::Answers, Some(At::Answers), way).await.1;
    assert_eq!(ways(&way).await, [NAME]);
    assert!(way.mistaken());
    assert!(!way.mistaken(), "not again at once");
    assert_eq!(ways(&way).await, ["10.0.0.7:9080"]);
    tokio::time::advance(REDIAL_AFTER).await;
    assert!(way.mistaken());
    assert_eq!(ways(&way).await, [NAME]);
}

#[test]
fn only_names_have_hints() {
    assert_eq!(hinted(NAME, NEW).as_deref(), Some("10.0.0.7:9080"));
    let six: IpAddr = "fd00::7".parse().unwrap();
    assert_eq!(hinted(NAME, six).as_deref(), Some("[fd00::7]:9080"));
    assert_eq!(hinted("10.0.0.1:9080", NEW), None);
    assert_eq!(hinted("[fd00::1]:9080", NEW), None);
}

#[test]
fn hints_are_bounded_and_end_with_their_members() {
    let hints = Hints::default();
    for raft_id in 1..1_000 {
        hints.heard(raft_id, NEW);
    }
    assert_eq!(hints.table().len(), MOST);
    hints.heard(1, "::ffff:10.0.0.8".parse().unwrap());
    assert_eq!(hints.of(1), Some("10.0.0.8".parse().unwrap()));
    hints.retain(|raft_id| raft_id == 3);
    assert_eq!((hints.of(1), hints.of(3)), (None, Some(NEW)));
}
