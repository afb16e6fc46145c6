//! What every reconcile needs, built once per scope.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::events::Recorder;
use kube::{Client, Resource};

use crate::crash_point::CrashPoint;
use crate::crd::RegistryClusterStatus;
use crate::desired::Defaults;
use crate::members::{Members, Token};
use crate::metrics::Metrics;
use crate::stores::Stores;

/// A token is read anew after this time, so that a Secret that was deleted is noticed.
const TOKEN_KEPT: Duration = Duration::from_secs(300);

/// Longest wait until a watch shows what was just done.
pub const SEEN_TIMEOUT: Duration = Duration::from_secs(5);

/// What every reconcile needs.
pub struct Context {
    /// Requests to the API server.
    pub client: Client,
    /// What it told.
    pub stores: Stores,
    /// Calls to nodes.
    pub members: Members,
    /// Events, shared so that repetitions become a series.
    pub recorder: Recorder,
    /// Numbers.
    pub metrics: Metrics,
    /// Places to die at, in tests.
    pub crash: CrashPoint,
    /// What was written and read, to be spared doing it again.
    pub memory: Memory,
    /// What the operator was started with.
    pub defaults: Defaults,
}

/// What spares requests, per cluster. Nothing depends on it: with an empty memory all is read and compared
/// once more.
#[derive(Debug, Default)]
pub struct Memory {
    clusters: Mutex<HashMap<String, Arc<ClusterMemory>>>,
}

/// Clusters that are remembered; beyond, all is forgotten and read again.
const CLUSTERS_MAX: usize = 4096;

impl Memory {
    /// Of one cluster, by its UID: one that was deleted and made anew is another.
    pub fn of<K: Resource>(&self, cluster: &K) -> Arc<ClusterMemory> {
        let uid = cluster.meta().uid.clone().unwrap_or_default();
        let mut clusters = lock(&self.clusters);
        if clusters.len() >= CLUSTERS_MAX && !clusters.contains_key(&uid) {
            clusters.clear();
        }
        clusters.entry(uid).or_default().clone()
    }
}

/// What is remembered of one cluster.
#[derive(Debug, Default)]
pub struct ClusterMemory {
    token: Mutex<Option<(Token, Instant)>>,
    applied: Mutex<HashMap<String, Applied>>,
    failures: Mutex<u32>,
    /// The resourceVersion that the last status was written over, and that status: the watch may be late.
    status: Mutex<Option<(String, RegistryClusterStatus)>>,
    /// UIDs of claims that may not grow, and why.
    refused_growth: Mutex<HashMap<String, String>>,
}

/// An object that was as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Hash of what was applied, or found to change nothing if it were.
    pub content: String,
    /// UID and version of the object then; see [`version_of`].
    pub version: String,
}

impl ClusterMemory {
    /// The token, if it was read lately.
    pub fn token(&self) -> Option<Token> {
        lock(&self.token)
            .as_ref()
            .filter(|(_, read)| read.elapsed() < TOKEN_KEPT)
            .map(|(token, _)| token.clone())
    }

    /// Keeps the token that was read; `None` = read it anew.
    pub fn keep_token(&self, token: Option<Token>) {
        *lock(&self.token) = token.map(|token| (token, Instant::now()));
    }

    /// How the object was when it was as it shall be; `label` is its kind and name.
    pub fn applied(&self, label: &str) -> Option<Applied> {
        lock(&self.applied).get(label).cloned()
    }

    /// The object was applied, or found to be as it shall be.
    pub fn keep_applied(&self, label: &str, applied: Applied) {
        lock(&self.applied).insert(label.to_owned(), applied);
    }

    /// The status that was written over the object of this version, if the watch still shows that one.
    pub fn status_written_over(&self, version: &str) -> Option<RegistryClusterStatus> {
        lock(&self.status).as_ref().filter(|(over, _)| over == version).map(|(_, status)| status.clone())
    }

    /// The status was written over the object of this version.
    pub fn keep_status(&self, over: String, status: RegistryClusterStatus) {
        *lock(&self.status) = Some((over, status));
    }

    /// Why the claim with this UID may not grow, if it was tried.
    pub fn refused_growth(&self, uid: &str) -> Option<String> {
        lock(&self.refused_growth).get(uid).cloned()
    }

    /// The claim with this UID may not grow.
    pub fn keep_refused_growth(&self, uid: &str, why: &str) {
        lock(&self.refused_growth).insert(uid.to_owned(), why.to_owned());
    }

    /// One more failure in a row; how many there are now.
    pub fn count_failure(&self) -> u32 {
        let mut failures = lock(&self.failures);
        *failures = failures.saturating_add(1);
        *failures
    }

    /// The last reconcile did not fail.
    pub fn forget_failures(&self) {
        *lock(&self.failures) = 0;
    }
}

/// What changes when somebody changes the object: its generation where there is one (status does not count),
/// else its resourceVersion.
pub fn version_of<K: Resource>(object: &K) -> String {
    let meta = object.meta();
    let uid = meta.uid.as_deref().unwrap_or_default();
    match meta.generation {
        Some(generation) => format!("{uid}/{generation}"),
        None => format!("{uid}/rv{}", meta.resource_version.as_deref().unwrap_or_default()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic elsewhere leaves plain values behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
