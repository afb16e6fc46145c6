//! Pages of instances and services, made from one state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use registry_proto::raw;
use registry_proto::v1;
use registry_state::{InstanceRecord, ServiceKey, ServiceView, State};
use smol_str::SmolStr;

use crate::request::page::PageToken;
use crate::server::convert::{self, DiscoverQuery, Filter, ListQuery, Scope};
use crate::server::limits;

#[cfg(test)]
#[path = "pages_test.rs"]
mod tests;

/// Bytes of encoded pages that are kept; then all are dropped and made again as they are asked for.
const KEPT_BYTES: usize = 64 << 20;

/// What a kept page costs beside its instances, in bytes.
const PAGE_OVERHEAD_BYTES: usize = 256;

/// The answer to Discover. `held_for` tells how long the guard has kept instances of a service.
pub(super) fn discover(
    query: &DiscoverQuery,
    state: &State,
    header: v1::ResponseHeader,
    encoded: &EncodedPages,
    held_for: impl Fn(&ServiceKey) -> Option<Duration>,
) -> raw::ServiceDiscoveryResponse {
    let Some(service) = state.service(&query.namespace, &query.service_name) else {
        return raw::ServiceDiscoveryResponse {
            header: Some(header),
            status: v1::ServiceStatus::Unknown as i32,
            counts: Some(v1::InstanceCounts::default()),
            ..Default::default()
        };
    };
    let unchanged = query
        .if_changed_since
        .is_some_and(|(epoch, revision)| epoch == state.epoch() && service.revision() <= revision);
    let page = if unchanged {
        Arc::default()
    } else if query.filter.is_empty() && query.page_size.is_none() && query.after.is_none() {
        encoded.first_page(&service, state.epoch())
    } else {
        let after = query.after.as_ref().and_then(|token| token.last.first());
        let after = after.map_or("", String::as_str);
        let most = query.page_size.unwrap_or(usize::MAX);
        Arc::new(page(service.instances_after(after), &query.filter, most))
    };
    let next_page_token = page.last.as_ref().map(|last| {
        let last = vec![last.to_string()];
        let token =
            PageToken { question: query.question, epoch: header.epoch, revision: header.revision, last };
        token.to_string()
    });
    raw::ServiceDiscoveryResponse {
        header: Some(header),
        instances: page.instances.clone(),
        status: service.status() as i32,
        counts: Some(convert::counts(service.counts())),
        service_revision: service.revision(),
        protection: convert::protection(service.counts(), || held_for(service.key()).unwrap_or_default()),
        unchanged,
        next_page_token: next_page_token.unwrap_or_default(),
    }
}

/// The answer to ListServices.
pub(super) fn list_services(
    query: &ListQuery,
    state: &State,
    header: v1::ResponseHeader,
) -> v1::ListServicesResponse {
    let after = query.after.as_ref().map(|token| token.last.as_slice());
    let services: Box<dyn Iterator<Item = ServiceView<'_>>> = match &query.scope {
        Scope::Namespace(namespace) => {
            let after = match after {
                Some([_, name]) => name.as_str(),
                _ => "",
            };
            Box::new(state.services_in(namespace, &query.prefix, after))
        }
        Scope::All | Scope::Service { .. } => {
            let after = match after {
                Some([namespace, name]) => Some(ServiceKey::new(namespace, name)),
                _ => None,
            };
            let services = state.services_from(after.as_ref());
            let begins = |service: &ServiceView<'_>| service.key().name.starts_with(&query.prefix);
            Box::new(
                services.filter(begins).filter(move |service| after.as_ref() != Some(service.key().as_ref())),
            )
        }
    };
    let mut services = services;
    let page: Vec<_> = services.by_ref().take(query.page_size).map(|service| summary(&service)).collect();
    let more = services.next().is_some();
    let next_page_token = match page.last() {
        Some(last) if more => {
            let last = vec![last.namespace.clone(), last.service_name.clone()];
            let (epoch, revision) = (header.epoch, header.revision);
            PageToken { question: query.question, epoch, revision, last }.to_string()
        }
        _ => String::new(),
    };
    v1::ListServicesResponse { header: Some(header), services: page, next_page_token }
}

fn summary(service: &ServiceView<'_>) -> v1::ServiceSummary {
    v1::ServiceSummary {
        namespace: service.key().namespace.to_string(),
        service_name: service.key().name.to_string(),
        status: service.status() as i32,
        counts: Some(convert::counts(service.counts())),
        revision: service.revision(),
    }
}

/// Encoded instances, and the id of the last one if more follow.
#[derive(Debug, Default)]
pub(super) struct Page {
    instances: Vec<Bytes>,
    last: Option<SmolStr>,
}

/// At most so many instances that pass the filter, and as fit into an answer.
fn page<'a>(instances: impl Iterator<Item = &'a Arc<InstanceRecord>>, filter: &Filter, most: usize) -> Page {
    let mut page = Page::default();
    let mut room = limits::PAGE_BYTES;
    let mut last: Option<&InstanceRecord> = None;
    for instance in instances.filter(|instance| filter.matches(instance)) {
        let encoded = convert::encode_instance(instance);
        // Tag and length take up to five bytes.
        let size = encoded.len() + 5;
        if page.instances.len() == most || size > room {
            page.last = last.map(|last| last.instance_id.clone());
            break;
        }
        room -= size;
        page.instances.push(encoded);
        last = Some(instance);
    }
    page
}

/// The whole answer of services, encoded once per change.
#[derive(Debug, Default)]
pub(super) struct EncodedPages {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    pages: HashMap<Arc<ServiceKey>, KeptPage>,
    bytes: usize,
}

#[derive(Debug)]
struct KeptPage {
    epoch: u64,
    revision: u64,
    bytes: usize,
    page: Arc<Page>,
}

impl EncodedPages {
    /// The first page of a service without filter.
    fn first_page(&self, service: &ServiceView<'_>, epoch: u64) -> Arc<Page> {
        let (key, revision) = (service.key(), service.revision());
        let found = self.kept().pages.get(key).map(|kept| (kept.epoch, kept.revision, kept.page.clone()));
        match &found {
            Some((kept_epoch, kept_revision, page)) if (*kept_epoch, *kept_revision) == (epoch, revision) => {
                return page.clone();
            }
            _ => {}
        }
        let page = Arc::new(page(service.instances(), &Filter::default(), usize::MAX));
        // A reader of an older state must not displace what newer ones share.
        if found.is_none_or(|(kept_epoch, kept_revision, _)| kept_epoch != epoch || kept_revision < revision)
        {
            self.keep(key.clone(), epoch, revision, page.clone());
        }
        page
    }

    fn keep(&self, key: Arc<ServiceKey>, epoch: u64, revision: u64, page: Arc<Page>) {
        let bytes = PAGE_OVERHEAD_BYTES + page.instances.iter().map(Bytes::len).sum::<usize>();
        let mut kept = self.kept();
        if kept.bytes + bytes > KEPT_BYTES {
            *kept = Kept::default();
        }
        kept.bytes += bytes;
        if let Some(old) = kept.pages.insert(key, KeptPage { epoch, revision, bytes, page }) {
            kept.bytes -= old.bytes;
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
