//! When a drain answers, every open watch of every node has been sent the change (P/V7, API/N1 to N5).

use std::sync::Arc;
use std::time::{Duration, Instant};

use registry_client::Client;
use registry_client::transport::{Channel, ConnectionOptions, TcpDial};
use registry_proto::v1::discovery_service_client::DiscoveryServiceClient;
use registry_proto::v1::{self, InstanceState, WatchKind};
use registry_tests::api::{Api, duration, registration, request_id};
use registry_tests::binaries::binaries;
use registry_tests::cluster::{Cluster, Options};
use registry_tests::{timing, wait};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::{Status, Streaming};

const SERVICE: &str = "orders";

async fn register(api: &Api, port: u32) {
    let request = v1::ServiceRegisterRequest {
        ttl: Some(prost_types::Duration::default()),
        ..registration(SERVICE, "127.0.0.1", port)
    };
    api.register(request).await.expect("a registration");
}

fn of(port: u32, timeout: Duration) -> v1::DrainRequest {
    v1::DrainRequest {
        service_name: SERVICE.into(),
        host: "127.0.0.1".into(),
        port,
        timeout: Some(duration(timeout)),
        ..Default::default()
    }
}

async fn drain(api: &Api, request: v1::DrainRequest) -> Result<v1::DrainResponse, Status> {
    let mut client = api.registry.clone();
    let answer = tokio::time::timeout(wait::PATIENCE, client.drain(request)).await.expect("an answer");
    answer.map(tonic::Response::into_inner)
}

/// Watches of one reader, which tells the ports that it has seen DRAINING.
struct Reader {
    drained: watch::Receiver<Vec<u32>>,
    task: JoinHandle<()>,
}

impl Reader {
    async fn open(api: &Api, request: v1::WatchRequest) -> Self {
        let mut stream = api.watch(request).await.expect("a watch");
        let (synced, told) = tokio::sync::oneshot::channel();
        let (sender, drained) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            let mut synced = Some(synced);
            while let Ok(Some(message)) = stream.message().await {
                if message.kind() == WatchKind::Synced
                    && let Some(synced) = synced.take()
                {
                    let _ = synced.send(());
                }
                sender.send_modify(|seen| seen.extend(drained_in(&message)));
            }
        });
        tokio::time::timeout(wait::PATIENCE, told).await.expect("in time").expect("it is synced");
        Self { drained, task }
    }

    /// One per kind of watch at this node.
    async fn of_every_kind(api: &Api) -> Vec<Self> {
        let service = v1::WatchRequest { service_name: SERVICE.into(), ..Default::default() };
        let all = v1::WatchRequest { all_namespaces: true, omit_previous: true, ..Default::default() };
        let mut readers = Vec::new();
        for request in [service, v1::WatchRequest::default(), all] {
            readers.push(Self::open(api, request).await);
        }
        readers
    }

    fn has(&self, port: u32) -> bool {
        self.drained.borrow().contains(&port)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ports of instances that are DRAINING from this message on.
fn drained_in(message: &v1::WatchResponse) -> Vec<u32> {
    let events = message.changes.iter().flat_map(|changes| &changes.events);
    let instances = events.filter_map(|event| event.instance.as_ref());
    instances.filter(|one| one.state() == InstanceState::Draining).map(|one| one.port).collect()
}

/// What was sent before the answer arrives right after it at the latest: it is on its way on another
/// connection, and this process may be busy. Far below what a change takes that nobody waits for.
const ON_THE_WAY: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_all_nodes_have_the_change_when_a_drain_answers() {
    let cluster = Cluster::start(Options::default()).await;
    let mut readers = Vec::new();
    for index in 0..3 {
        readers.extend(Reader::of_every_kind(&cluster.api(index)).await);
    }
    let (mut slowest, mut late) = (Duration::ZERO, Duration::ZERO);
    for port in 1..=30 {
        let api = cluster.api(usize::try_from(port % 3).unwrap());
        register(&api, port).await;
        let asked = Instant::now();
        let answer = drain(&api, of(port, Duration::from_secs(20))).await.unwrap();
        let answered = Instant::now();
        slowest = slowest.max(answered - asked);
        assert!(answer.complete, "{answer:?}");
        assert_eq!((answer.watches, answer.pending_watches), (9, 0));
        assert_eq!(answer.silent_nodes, [""; 0]);
        wait::until_true("every reader to have it", ON_THE_WAY, || async {
            readers.iter().all(|reader| reader.has(port))
        })
        .await;
        late = late.max(answered.elapsed());
    }
    println!("the slowest of 30 drains took {slowest:?}, the last reader had it {late:?} after the answer");
    let drains: Vec<_> =
        futures::future::join_all((0..3).map(|index| cluster.nodes[index].metric("registry_drains_total")))
            .await;
    assert_eq!(drains.into_iter().flatten().sum::<f64>() as u32, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_a_node_that_lags_behind() {
    let cluster = Cluster::start(Options { partition: true, ..Default::default() }).await;
    let leader = cluster.leader().await;
    let followers = cluster.followers().await;
    let (asked, lagging) = (cluster.api(followers[0]), followers[1]);
    register(&asked, 1).await;
    cluster.caught_up(lagging).await;
    let reader = Reader::open(
        &cluster.api(lagging),
        v1::WatchRequest { service_name: SERVICE.into(), ..Default::default() },
    )
    .await;
    // The leader cannot tell it anything, but the node asked can ask it.
    let partition = cluster.partition.as_ref().unwrap();
    partition.cut(leader, lagging);
    partition.cut(lagging, leader);
    let drain = tokio::spawn(async move { drain(&asked, of(1, Duration::from_secs(30))).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    // On a machine that stalls, an election can give it a leader that does tell it.
    if cluster.leader().await == leader {
        assert!(!drain.is_finished(), "a watch has not been sent the change: {:?}", drain.await);
        assert!(!reader.has(1));
    }
    partition.heal();
    let answer = drain.await.unwrap().unwrap();
    assert!(answer.complete && answer.watches == 1, "{answer:?}");
    wait::until_true("the reader to have it", ON_THE_WAY, || async { reader.has(1) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_beside_a_node_that_is_down_or_frozen_answers_at_once_and_names_it() {
    let mut cluster = Cluster::start(Options::default()).await;
    let leader = cluster.leader().await;
    let followers = cluster.followers().await;
    let reader = Reader::of_every_kind(&cluster.api(followers[0])).await;
    let (down, name) = (followers[1], cluster.nodes[followers[1]].name.clone());
    let places = [leader, followers[0]];
    let mut port = 0;
    for how in ["killed", "frozen"] {
        if how == "killed" {
            cluster.nodes[down].kill();
        } else {
            cluster.nodes[down].signal(rustix::process::Signal::STOP);
        }
        for index in places {
            port += 1;
            let api = cluster.api(index);
            register(&api, port).await;
            let begun = Instant::now();
            let answer = drain(&api, of(port, Duration::from_secs(50))).await.unwrap();
            timing::assert_within(
                &format!("a drain at node {index} with a node {how}"),
                begun.elapsed(),
                Duration::from_secs(1),
            );
            assert!(!answer.complete, "{answer:?}");
            assert_eq!(answer.silent_nodes, [name.as_str()]);
            assert_eq!((answer.watches, answer.pending_watches), (3, 0), "{answer:?}");
            wait::until_true("the readers of another node to have it", ON_THE_WAY, || async {
                reader.iter().all(|reader| reader.has(port))
            })
            .await;
        }
        if how == "killed" {
            cluster.start_node(down);
        } else {
            cluster.nodes[down].signal(rustix::process::Signal::CONT);
        }
        cluster.ready().await;
        // It counts again as soon as it is back: the same drain repeated is complete.
        wait::until_true("a complete drain", wait::PATIENCE, || async {
            drain(&cluster.api(leader), of(port, Duration::from_secs(5)))
                .await
                .is_ok_and(|answer| answer.complete)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_makes_a_drain_incomplete_and_no_error() {
    let cluster = Cluster::start(Options { partition: true, ..Default::default() }).await;
    let leader = cluster.leader().await;
    let followers = cluster.followers().await;
    let (api, lonely) = (cluster.api(leader), followers[1]);
    register(&api, 1).await;
    let _reader = Reader::of_every_kind(&cluster.api(lonely)).await;
    cluster.partition.as_ref().unwrap().isolate(lonely);
    let mut first = None;
    for index in [leader, followers[0]] {
        let begun = Instant::now();
        let answer = drain(&cluster.api(index), of(1, Duration::from_secs(50))).await.unwrap();
        timing::assert_within("a drain beside a node cut off", begun.elapsed(), Duration::from_secs(2));
        assert!(!answer.complete, "{answer:?}");
        // Another one may be slow to answer on a busy machine; it is named then as well.
        assert!(answer.silent_nodes.contains(&cluster.nodes[lonely].name), "{answer:?}");
        assert_eq!(*first.get_or_insert(answer.revision), answer.revision, "a repetition waits for the same");
    }
    cluster.partition.as_ref().unwrap().heal();
    let answer = wait::until("a complete drain", wait::PATIENCE, || async {
        let answer = drain(&api, of(1, Duration::from_secs(5))).await.map_err(|status| status.to_string())?;
        if answer.complete { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!((Some(answer.revision), answer.watches), (first, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_drain_waits_for_the_revision_of_the_first() {
    let cluster = Cluster::start(Options::default()).await;
    let at_once = Duration::from_secs(5);
    register(&cluster.api(0), 1).await;
    let request = v1::DrainRequest { request_id: request_id("owner", 1), ..of(1, at_once) };
    let first = drain(&cluster.api(0), request.clone()).await.unwrap();
    assert!(first.complete && !first.header.as_ref().unwrap().replayed, "{first:?}");
    register(&cluster.api(0), 2).await;
    for index in 0..3 {
        let again = drain(&cluster.api(index), request.clone()).await.unwrap();
        assert!(again.complete && again.header.as_ref().unwrap().replayed, "{again:?}");
        let bare = drain(&cluster.api(index), of(1, at_once)).await.unwrap();
        assert_eq!((again.revision, bare.revision), (first.revision, first.revision));
    }

    // An operator's drain is an override: the owner cannot undo it, and it tells of it.
    let by_operator = v1::DrainRequest { by_operator: true, ..of(2, at_once) };
    let drained = drain(&cluster.api(1), by_operator).await.unwrap();
    assert!(drained.complete, "{drained:?}");
    let up = v1::SetInstanceStateRequest {
        service_name: SERVICE.into(),
        instance_id: "127.0.0.1:2".into(),
        state: InstanceState::Starting.into(),
        ..Default::default()
    };
    let mut owner = cluster.api(2).registry;
    assert_eq!(owner.set_instance_state(up).await.unwrap().into_inner().overridden, 1);
    let shown = cluster.api(0).discover_at(SERVICE, v1::Consistency::Linearizable).await.unwrap();
    assert!(shown.instances.iter().all(|instance| instance.state() == InstanceState::Draining), "{shown:?}");
    assert_eq!(shown.instances[1].reported.as_ref().unwrap().state(), InstanceState::Starting);
}

/// A watch whose reader stands still: its window of 1 KiB is full after a few events.
async fn stuck(cluster: &Cluster, index: usize, ports: std::ops::Range<u32>) -> Streaming<v1::WatchResponse> {
    let options = ConnectionOptions { window_bytes: 1 << 10, ..Default::default() };
    let channel = Channel::new(Arc::new(TcpDial::default()), cluster.nodes[index].endpoint(), options);
    let request = v1::WatchRequest { service_name: SERVICE.into(), ..Default::default() };
    let stream = DiscoveryServiceClient::new(channel).watch(request).await.expect("a watch").into_inner();
    for port in ports {
        register(&cluster.api(index), port).await;
    }
    stream
}

async fn read_until_drained(stream: &mut Streaming<v1::WatchResponse>, port: u32) {
    loop {
        let message =
            tokio::time::timeout(wait::PATIENCE, stream.message()).await.expect("a message in time");
        let message = message.expect("the watch goes on").expect("the watch goes on");
        if drained_in(&message).contains(&port) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_not_read_is_pending_until_it_is_read() {
    let cluster = Cluster::start(Options::default()).await;
    let [asked, far] = [cluster.leader().await, cluster.followers().await[0]];
    let mut slow = stuck(&cluster, far, 1..40).await;
    for index in [asked, far] {
        let limit = Duration::from_millis(1_500);
        let begun = Instant::now();
        let answer = drain(&cluster.api(index), of(1, limit)).await.unwrap();
        timing::assert_not_before("the answer about a stuck watch", begun.elapsed(), limit);
        timing::assert_within(
            "the answer about a stuck watch",
            begun.elapsed(),
            limit + Duration::from_secs(1),
        );
        assert!(!answer.complete, "{answer:?}");
        assert_eq!((answer.watches, answer.pending_watches, answer.silent_nodes.len()), (1, 1, 0));
    }
    let begun = Instant::now();
    let looked = drain(&cluster.api(asked), of(1, Duration::ZERO)).await.unwrap();
    timing::assert_within("a drain that does not wait", begun.elapsed(), Duration::from_millis(500));
    assert_eq!((looked.watches, looked.pending_watches), (1, 1), "it looks, and does not wait");

    let api = cluster.api(asked);
    let waits = tokio::spawn(async move { drain(&api, of(1, Duration::from_secs(50))).await });
    read_until_drained(&mut slow, 1).await;
    let answer = waits.await.unwrap().unwrap();
    assert!(answer.complete && answer.watches == 1, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_whose_node_is_killed_in_the_middle_goes_on_at_another_under_the_same_request_id() {
    let mut cluster = Cluster::start(Options::default()).await;
    let leader = cluster.leader().await;
    let far = cluster.followers().await[0];
    let mut slow = stuck(&cluster, far, 1..40).await;
    let client = Client::connect(cluster.endpoints()).await.unwrap();
    wait::until_true("the client to know the leader", wait::PATIENCE, || async {
        let endpoint = cluster.nodes[leader].endpoint();
        client.leader_endpoint().as_ref() == Some(&endpoint)
            && client.connected_endpoints().contains(&endpoint)
    })
    .await;
    let held = client.clone();
    let drain = tokio::spawn(async move { held.drain(of(1, Duration::from_secs(50))).await });
    let api = cluster.api(far);
    let revision = wait::until("the instance to be DRAINING", wait::PATIENCE, || async {
        let shown =
            api.discover_at(SERVICE, v1::Consistency::Stale).await.map_err(|status| status.to_string())?;
        let first = shown.instances.iter().find(|one| one.port == 1).ok_or("gone")?;
        if first.state() == InstanceState::Draining { Ok(first.revision) } else { Err("not yet".to_owned()) }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!drain.is_finished(), "a watch has not been sent the change: {:?}", drain.await);
    let name = cluster.nodes[leader].name.clone();
    cluster.nodes[leader].kill();
    // The repetition finds the drain in the log of the survivors, and the same watch stuck.
    wait::until_true("the client to notice", wait::PATIENCE, || async {
        client.connected_endpoints().len() == 2
    })
    .await;
    assert!(!drain.is_finished());
    read_until_drained(&mut slow, 1).await;
    let answer = drain.await.unwrap().expect("a drain survives a killed leader");
    println!("{answer:?}");
    assert_eq!(answer.revision, revision);
    assert!(answer.header.as_ref().unwrap().replayed, "the same request, done once");
    assert_eq!((answer.complete, answer.pending_watches), (false, 0), "{answer:?}");
    assert_eq!(answer.silent_nodes, [name]);
    let shown = cluster.api(far).discover_at(SERVICE, v1::Consistency::Linearizable).await.unwrap();
    let drained = shown.instances.iter().find(|one| one.port == 1).unwrap();
    assert_eq!(drained.revision, revision, "nothing changed twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_tells_how_far_a_drain_went() {
    let mut cluster = Cluster::start(Options::default()).await;
    let followers = cluster.followers().await;
    let [asked, down] = [followers[0], followers[1]];
    let endpoint = cluster.nodes[asked].endpoint();
    let ctl = |line: &str| {
        let mut command = std::process::Command::new(&binaries().registryctl);
        let output = command.args(["--endpoints", &endpoint]).args(line.split_whitespace()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
    };
    register(&cluster.api(asked), 1).await;
    register(&cluster.api(asked), 2).await;
    let _readers = Reader::of_every_kind(&cluster.api(down)).await;
    let (code, out, _) = ctl("drain orders 127.0.0.1:1");
    assert_eq!((code, out.as_str()), (0, "DRAINING since revision 3, complete: 3 watchers told\n"));
    let (code, out, _) = ctl("drain orders 127.0.0.1:2 --by-operator");
    assert_eq!((code, out.as_str()), (0, "DRAINING since revision 4, complete: 3 watchers told\n"));
    let (_, listed, _) = ctl("override list -o name");
    assert_eq!(listed, "default/orders/127.0.0.1:2\n");
    assert_eq!(ctl("state orders 127.0.0.1:1 up").0, 0);
    assert_eq!(ctl("override clear orders 127.0.0.1:2").1, "override cleared\n");
    let up = cluster.api(asked).discover_at(SERVICE, v1::Consistency::Linearizable).await.unwrap();
    assert!(up.instances.iter().all(|instance| instance.state() == InstanceState::Up), "{up:?}");

    cluster.nodes[down].kill();
    let (code, out, said) = ctl("drain orders 127.0.0.1:1");
    assert_eq!(code, 7, "{out}{said}");
    assert!(out.ends_with("incomplete: 0 of 0 watchers told\n"), "{out}");
    assert!(said.contains(&format!("silent: {}", cluster.nodes[down].name)), "{said}");
    let (code, _, said) = ctl("drain orders 127.0.0.1:3");
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains("cannot drain orders/127.0.0.1:3") && said.contains("INSTANCE_NOT_FOUND"),
        "{said}"
    );
}
