//! Requests that read: how fresh, which part, which page.

use std::time::Duration;

use prost::Message;
use registry_proto::v1;
use registry_state::limits as bounds;

use super::check::Checker;
use super::filter::Filter;
use crate::error::Error;
use crate::request::page::PageToken;

/// How fresh a read has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Sees every write answered before it began.
    #[default]
    Linearizable,
    /// What this node knows.
    Stale,
    /// Linearizable while a leader can be reached, else stale.
    LinearizableOrStale,
}

/// What a read demands of the state that it is answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    /// How fresh.
    pub consistency: Consistency,
    /// Oldest data acceptable to a stale read; `None` = any age.
    pub max_staleness: Option<Duration>,
    /// Lowest revision that the answer may show; 0 = any.
    pub min_revision: u64,
    /// Epoch of `min_revision`; 0 = not checked.
    pub epoch: u64,
}

/// A checked Discover.
#[derive(Debug, Clone)]
pub struct DiscoverQuery {
    /// How fresh.
    pub freshness: Freshness,
    /// Namespace.
    pub namespace: String,
    /// Service.
    pub service_name: String,
    /// Which instances.
    pub filter: Filter,
    /// Position of an earlier answer: epoch and revision.
    pub if_changed_since: Option<(u64, u64)>,
    /// Most instances; `None` = as many as fit.
    pub page_size: Option<usize>,
    /// The page before ended here; `None` = first page.
    pub after: Option<PageToken>,
    /// Names the question, so that a token of another one is refused.
    pub question: u64,
}

/// What a list or a watch covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        service_name: String,
    },
    /// All services of a namespace.
    Namespace(String),
    /// Everything.
    All,
}

/// A checked ListServices.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// How fresh.
    pub freshness: Freshness,
    /// A namespace or everything.
    pub scope: Scope,
    /// Beginning of the names wanted.
    pub prefix: String,
    /// Most services.
    pub page_size: usize,
    /// The page before ended here.
    pub after: Option<PageToken>,
    /// Names the question.
    pub question: u64,
}

/// A checked ListInstanceOverrides.
#[derive(Debug, Clone)]
pub struct OverridesQuery {
    /// How fresh.
    pub freshness: Freshness,
    /// What to list.
    pub scope: Scope,
    /// Most overrides.
    pub page_size: usize,
    /// The page before ended here.
    pub after: Option<PageToken>,
    /// Names the question.
    pub question: u64,
}

/// A checked Watch.
#[derive(Debug, Clone)]
pub struct WatchQuery {
    /// How fresh the snapshot has to be.
    pub freshness: Freshness,
    /// What to watch.
    pub scope: Scope,
    /// Position to resume from: epoch and revision.
    pub resume: Option<(u64, u64)>,
    /// Never send a snapshot.
    pub changes_only: bool,
    /// Leave the values before a change out.
    pub omit_previous: bool,
    /// Time between bookmarks.
    pub bookmark_interval: Duration,
}

/// Checks Discover.
///
/// # Errors
/// INVALID_FIELD with every bad field.
pub fn discover(request: v1::ServiceDiscoveryRequest) -> Result<DiscoverQuery, Error> {
    let mut check = Checker::default();
    let question = question(&v1::ServiceDiscoveryRequest {
        min_revision: 0,
        min_revision_epoch: 0,
        page_token: String::new(),
        ..request.clone()
    });
    check.name("service_name", &request.service_name);
    let namespace = check.namespace(&request.namespace);
    let mut freshness = freshness(
        &mut check,
        request.consistency,
        request.max_staleness,
        request.min_revision,
        request.min_revision_epoch,
    );
    let filter = Filter::new(&mut check, request.filter);
    let size = page_size(&mut check, request.page_size, bounds::DISCOVER_PAGE_MAX);
    let after = page_token(&mut check, &request.page_token, question, 1, &mut freshness);
    check.finish(DiscoverQuery {
        freshness,
        namespace,
        service_name: request.service_name,
        filter,
        if_changed_since: request.if_changed_since.map(|position| (position.epoch, position.revision)),
        page_size: (size > 0).then_some(size),
        after,
        question,
    })
}

/// Checks ListServices.
///
/// # Errors
/// INVALID_FIELD with every bad field.
pub fn list_services(request: v1::ListServicesRequest) -> Result<ListQuery, Error> {
    let mut check = Checker::default();
    let question = question(&v1::ListServicesRequest {
        min_revision: 0,
        min_revision_epoch: 0,
        page_token: String::new(),
        ..request.clone()
    });
    check.name_prefix("name_prefix", &request.name_prefix);
    let scope = scope(&mut check, "", &request.namespace, request.all_namespaces);
    let mut freshness = freshness(
        &mut check,
        request.consistency,
        request.max_staleness,
        request.min_revision,
        request.min_revision_epoch,
    );
    let size = page_size(&mut check, request.page_size, bounds::LIST_PAGE_MAX);
    let after = page_token(&mut check, &request.page_token, question, 2, &mut freshness);
    let page_size = if size == 0 { list_page_default() } else { size };
    check.finish(ListQuery { freshness, scope, prefix: request.name_prefix, page_size, after, question })
}

/// Checks ListInstanceOverrides.
///
/// # Errors
/// INVALID_FIELD with every bad field.
pub fn list_overrides(request: v1::ListInstanceOverridesRequest) -> Result<OverridesQuery, Error> {
    let mut check = Checker::default();
    let question = question(&v1::ListInstanceOverridesRequest {
        min_revision: 0,
        min_revision_epoch: 0,
        page_token: String::new(),
        ..request.clone()
    });
    let scope = scope(&mut check, &request.service_name, &request.namespace, request.all_namespaces);
    let mut freshness = freshness(
        &mut check,
        request.consistency,
        request.max_staleness,
        request.min_revision,
        request.min_revision_epoch,
    );
    let size = page_size(&mut check, request.page_size, bounds::LIST_PAGE_MAX);
    let after = page_token(&mut check, &request.page_token, question, 3, &mut freshness);
    let page_size = if size == 0 { list_page_default() } else { size };
    check.finish(OverridesQuery { freshness, scope, page_size, after, question })
}

/// Checks Watch.
///
/// # Errors
/// INVALID_FIELD with every bad field.
pub fn watch(request: &v1::WatchRequest) -> Result<WatchQuery, Error> {
    let mut check = Checker::default();
    let scope = scope(&mut check, &request.service_name, &request.namespace, request.all_namespaces);
    let freshness = freshness(
        &mut check,
        request.consistency,
        request.max_staleness,
        request.min_revision,
        request.min_revision_epoch,
    );
    let interval_ms = match request.bookmark_interval {
        None => bounds::BOOKMARK_INTERVAL_MS_DEFAULT,
        Some(interval) => {
            let (least, most) = (bounds::BOOKMARK_INTERVAL_MS_MIN, bounds::BOOKMARK_INTERVAL_MS_MAX);
            check.duration_ms("bookmark_interval", interval, least, most)
        }
    };
    check.finish(WatchQuery {
        freshness,
        scope,
        resume: request.resume.map(|position| (position.epoch, position.revision)),
        changes_only: request.changes_only,
        omit_previous: request.omit_previous,
        bookmark_interval: Duration::from_millis(interval_ms),
    })
}

fn freshness(
    check: &mut Checker,
    consistency: i32,
    max_staleness: Option<prost_types::Duration>,
    min_revision: u64,
    epoch: u64,
) -> Freshness {
    let consistency = match v1::Consistency::try_from(consistency) {
        Ok(v1::Consistency::Unspecified | v1::Consistency::Linearizable) => Consistency::Linearizable,
        Ok(v1::Consistency::Stale) => Consistency::Stale,
        Ok(v1::Consistency::LinearizableOrStale) => Consistency::LinearizableOrStale,
        Err(_) => {
            check.refuse("consistency", "must be LINEARIZABLE, STALE or LINEARIZABLE_OR_STALE");
            Consistency::Stale
        }
    };
    let max_staleness = max_staleness.map(|most| {
        check.require(
            consistency != Consistency::Linearizable,
            "max_staleness",
            "must be unset for LINEARIZABLE reads",
        );
        let (least, most_ms) = (bounds::MAX_STALENESS_MS_MIN, bounds::MAX_STALENESS_MS_MAX);
        Duration::from_millis(check.duration_ms("max_staleness", most, least, most_ms))
    });
    Freshness { consistency, max_staleness, min_revision, epoch }
}

/// What a request names by service, namespace and `all_namespaces`.
pub(super) fn scope(check: &mut Checker, service_name: &str, namespace: &str, all_namespaces: bool) -> Scope {
    if all_namespaces {
        const RULE: &str = "must be empty with all_namespaces";
        check.require(service_name.is_empty(), "service_name", RULE);
        check.require(namespace.is_empty(), "namespace", RULE);
        return Scope::All;
    }
    let namespace = check.namespace(namespace);
    if service_name.is_empty() {
        return Scope::Namespace(namespace);
    }
    check.optional_name("service_name", service_name);
    Scope::Service { namespace, service_name: service_name.to_owned() }
}

fn page_size(check: &mut Checker, size: u32, most: u32) -> usize {
    check.require(size <= most, "page_size", format!("must be at most {most}, not {size}"));
    usize::try_from(size).unwrap_or(usize::MAX)
}

fn list_page_default() -> usize {
    usize::try_from(bounds::LIST_PAGE_DEFAULT).unwrap_or(usize::MAX)
}

/// The token of the page before. The next page never shows an older state than that one (API/Q10).
fn page_token(
    check: &mut Checker,
    token: &str,
    question: u64,
    parts: usize,
    freshness: &mut Freshness,
) -> Option<PageToken> {
    if token.is_empty() {
        return None;
    }
    let Some(token) = PageToken::parse(token, question, parts) else {
        check.refuse(
            "page_token",
            "is not of this question: repeat it with all else but min_revision unchanged, or begin anew",
        );
        return None;
    };
    freshness.min_revision = freshness.min_revision.max(token.revision);
    if freshness.epoch == 0 {
        freshness.epoch = token.epoch;
    }
    Some(token)
}

/// Names a question by its content.
fn question(request: &impl Message) -> u64 {
    let digest = *blake3::hash(&request.encode_to_vec()).as_bytes();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
#[path = "read_test.rs"]
mod tests;
