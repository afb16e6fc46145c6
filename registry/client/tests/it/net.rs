//! A network of in-memory streams whose nodes can be down, deaf or cut.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use registry_client::transport::{ByteStream, Dial};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::service::Routes;

/// How a node answers a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It accepts.
    Up,
    /// It refuses.
    Refusing,
    /// It never answers.
    Silent,
}

struct Host {
    reach: Reach,
    routes: Routes,
    connections: Vec<AbortHandle>,
    /// True = say GOAWAY.
    goaway: watch::Sender<bool>,
}

/// The network, by endpoint.
#[derive(Clone, Default)]
pub(crate) struct Net {
    hosts: Arc<Mutex<BTreeMap<String, Host>>>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Net")
    }
}

impl Net {
    pub(crate) fn add(&self, endpoint: &str, routes: Routes) {
        let host =
            Host { reach: Reach::Up, routes, connections: Vec::new(), goaway: watch::channel(false).0 };
        self.hosts.lock().unwrap().insert(endpoint.to_owned(), host);
    }

    /// Changes how the node answers dials; existing connections stay.
    pub(crate) fn set(&self, endpoint: &str, reach: Reach) {
        self.hosts.lock().unwrap().get_mut(endpoint).unwrap().reach = reach;
    }

    /// Ends all connections of a node without a word, as `kill -9` does.
    pub(crate) fn cut(&self, endpoint: &str) {
        for connection in self.hosts.lock().unwrap().get_mut(endpoint).unwrap().connections.drain(..) {
            connection.abort();
        }
    }

    pub(crate) fn kill(&self, endpoint: &str) {
        self.set(endpoint, Reach::Refusing);
        self.cut(endpoint);
    }

    /// Refuses new connections and says GOAWAY on the existing ones.
    pub(crate) fn go_away(&self, endpoint: &str) {
        let hosts = self.hosts.lock().unwrap();
        hosts[endpoint].goaway.send_replace(true);
        drop(hosts);
        self.set(endpoint, Reach::Refusing);
    }

    /// Makes one endpoint answer with another's services.
    pub(crate) fn alias(&self, endpoint: &str, target: &str) {
        let mut hosts = self.hosts.lock().unwrap();
        let routes = hosts[target].routes.clone();
        hosts.get_mut(endpoint).unwrap().routes = routes;
    }

    fn accept(&self, endpoint: &str) -> Option<io::Result<Box<dyn ByteStream>>> {
        let mut hosts = self.hosts.lock().unwrap();
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let Some(host) = hosts.get_mut(endpoint) else { return Some(Err(refused())) };
        match host.reach {
            Reach::Refusing => return Some(Err(refused())),
            Reach::Silent => return None,
            Reach::Up => {}
        }
        let (near, far) = tokio::io::duplex(64 << 10);
        let routes = TowerToHyperService::new(host.routes.clone());
        let mut goaway = host.goaway.subscribe();
        let serve = async move {
            let connection =
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(far), routes);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = goaway.wait_for(|goaway| *goaway) => {}
            }
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        };
        host.connections.push(tokio::spawn(serve).abort_handle());
        Some(Ok(Box::new(near)))
    }
}

impl Dial for Net {
    fn dial(&self, endpoint: &str) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        let answer = self.accept(endpoint);
        Box::pin(async move {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}
