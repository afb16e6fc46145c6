//! The operator put together: client, health, lease, controllers, and an orderly end.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client, Config};
use registry_client::transport::TcpDial;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::context::{Context, Memory};
use crate::controller;
use crate::crash_point::CrashPoint;
use crate::crd::RegistryCluster;
use crate::desired::Defaults;
use crate::error::status_code;
use crate::health::{self, Health};
use crate::lease::{self, Candidate, Held, Lost};
use crate::members::Members;
use crate::metrics::Metrics;
use crate::stores::{Reporting, Scope, Stores};

/// Name of the operator in events.
const CONTROLLER: &str = "registry-operator";

/// Longest time for a connection to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest silence of the API server while it answers; watches deliver a bookmark every minute.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// Time between looks for the CRD.
const CRD_RETRY: Duration = Duration::from_secs(2);

/// Longest time for reconciles under way after SIGTERM: within the grace period of 30 s.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Why the operator ends, other than because it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The HTTP port cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// As configured.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// No way to the API server is configured.
    #[error("cannot reach Kubernetes: {0}")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Signals cannot be caught.
    #[error("cannot catch SIGTERM: {0}")]
    Signal(#[source] std::io::Error),
    /// Another operator is at work, or nobody can know.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// A controller ended by itself.
    #[error("a controller ended by itself")]
    ControllerEnded,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// It cannot start, or has to end at once.
pub async fn run(args: Args) -> Result<(), Fatal> {
    let stop = stop_on_signal()?;
    let reporting = Reporting { health: Health::default(), metrics: Metrics::default() };
    let address = args.http_listen;
    let listener = health::bind(address).await.map_err(|source| Fatal::Bind { address, source })?;
    let server = tokio::spawn(health::serve(listener, reporting.health.clone(), reporting.metrics.clone()));
    let client = connect().await?;
    let outcome = work(&args, client, &reporting, stop).await;
    server.abort();
    outcome
}

fn stop_on_signal() -> Result<CancellationToken, Fatal> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Fatal::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Fatal::Signal)?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        token.cancel();
    });
    Ok(stop)
}

async fn connect() -> Result<Client, Fatal> {
    let mut config = Config::infer().await.map_err(|error| Fatal::Client(error.into()))?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|error| Fatal::Client(error.into()))
}

/// Waits for the CRD and the lease, works, and gives the lease back.
async fn work(
    args: &Args,
    client: Client,
    reporting: &Reporting,
    stop: CancellationToken,
) -> Result<(), Fatal> {
    let scopes = scopes(args);
    let candidate = candidate(args, &client);
    let ready = async {
        for scope in &scopes {
            wait_for_crd(&client, scope, reporting).await;
        }
        lease::acquire(client.clone(), candidate.clone()).await
    };
    let mut held = tokio::select! {
        held = ready => held,
        () = stop.cancelled() => return Ok(()),
    };
    reporting.metrics.leading(true);
    let mut controllers = start(args, &client, &candidate.identity, &scopes, reporting, &stop).await;
    let ended = tokio::select! {
        lost = held.keep() => Err(lost.into()),
        () = stop.cancelled() => drain(&mut controllers, &mut held).await,
        _ = controllers.join_next() => Err(Fatal::ControllerEnded),
    };
    if ended.is_ok() {
        held.release().await;
    }
    ended
}

/// Lets reconciles under way end while the lease is still ours.
async fn drain(controllers: &mut JoinSet<()>, held: &mut Held) -> Result<(), Fatal> {
    let all = async { while controllers.join_next().await.is_some() {} };
    tokio::select! {
        lost = held.keep() => Err(lost.into()),
        ended = tokio::time::timeout(DRAIN_TIMEOUT, all) => {
            if ended.is_err() {
                tracing::warn!("a reconcile did not end in time; the next operator goes on with it");
            }
            Ok(())
        }
    }
}

async fn start(
    args: &Args,
    client: &Client,
    identity: &str,
    scopes: &[Scope],
    reporting: &Reporting,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let with_nodes = may_read_nodes(client).await;
    let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(identity.to_owned()) };
    let recorder = Recorder::new(client.clone(), reporter);
    let mut controllers = JoinSet::new();
    for scope in scopes {
        let (stores, watches) = Stores::open(client, scope, with_nodes, reporting);
        let context = Context {
            client: client.clone(),
            stores,
            members: Members::new(Arc::new(TcpDial::default())),
            recorder: recorder.clone(),
            metrics: reporting.metrics.clone(),
            crash: CrashPoint::from_environment(),
            memory: Memory::default(),
            defaults: Defaults {
                cluster_domain: args.cluster_domain.clone(),
                node_image: args.node_image.clone(),
                operator_namespace: client.default_namespace().to_owned(),
            },
        };
        controllers.spawn(controller::run(watches, Arc::new(context), stop.clone()));
    }
    tracing::info!(?scopes, with_nodes, image = args.node_image, "looking after registry clusters");
    controllers
}

fn scopes(args: &Args) -> Vec<Scope> {
    let names = args.namespaces();
    if names.is_empty() { vec![Scope::All] } else { names.into_iter().map(Scope::Namespace).collect() }
}

/// The name of the pod, where it is given: a restarted container goes on with its lease at once.
fn candidate(args: &Args, client: &Client) -> Candidate {
    let random = || format!("registry-operator-{}", uuid::Uuid::new_v4());
    Candidate {
        namespace: args.lease_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned()),
        name: args.lease_name.clone(),
        identity: args.identity.clone().filter(|name| !name.is_empty()).unwrap_or_else(random),
    }
}

/// Returns once the API server lists the custom resource.
async fn wait_for_crd(client: &Client, scope: &Scope, reporting: &Reporting) {
    let clusters: Api<RegistryCluster> = scope.api(client);
    let mut told = None;
    loop {
        // Objects that cannot be read are no matter here: the watch takes each by itself.
        let missing = match clusters.list_metadata(&ListParams::default().limit(1)).await {
            Ok(_) => false,
            Err(error) => {
                let text = error.to_string();
                if told.as_ref() != Some(&text) {
                    tracing::warn!(%error, "cannot list RegistryClusters; are the CRDs installed? trying again");
                    told = Some(text);
                }
                if status_code(&error) != Some(404) {
                    sleep(CRD_RETRY).await;
                    continue;
                }
                true
            }
        };
        reporting.health.crd_found(!missing);
        reporting.metrics.crd_missing(missing);
        if !missing {
            return;
        }
        sleep(CRD_RETRY).await;
    }
}

/// Machines are no object of a namespace: an operator with rights in one namespace does without them.
async fn may_read_nodes(client: &Client) -> bool {
    let nodes: Api<Node> = Api::all(client.clone());
    match nodes.list_metadata(&ListParams::default().limit(1)).await {
        Ok(_) => true,
        Err(error) if status_code(&error) == Some(403) => {
            tracing::info!("nodes may not be read: a dead one is told by its pods alone");
            false
        }
        // They may be read as far as is known; the watch tries again.
        Err(error) => {
            tracing::warn!(%error, "cannot list nodes");
            true
        }
    }
}
