//! `discover`, `services`

use registry_proto::v1;

use crate::args::{Discover, Global, Services};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;
use crate::session::{self, Reach};

/// Services on one page: as many as the API gives.
const SERVICES_PER_PAGE: u32 = 1_000;

/// Pages to ask for at most: above what the default quotas (100,000 services or instances) can fill, so
/// that a server which never ends its pages cannot hold the command for ever.
pub(super) const MAX_PAGES: usize = 1_000;

/// Shows the instances of a service. Exits with "not found" if nobody has registered it.
pub(super) async fn discover(args: &Discover, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let client = session::connected(global, Reach::Named, screen).await?;
    let (min_revision, min_revision_epoch) = args.freshness.min_revision();
    let mut request = v1::ServiceDiscoveryRequest {
        service_name: args.service.clone(),
        namespace: args.namespace.clone(),
        consistency: args.freshness.level().into(),
        max_staleness: args.freshness.max_staleness(),
        min_revision,
        min_revision_epoch,
        filter: args.filter.message(),
        ..Default::default()
    };
    let failed = |error| Error::of_call(format!("discover {}", args.service), &error);
    let progress = screen.progress(format!("looking up {}", args.service));
    let mut answer = client.discover(request.clone()).await.map_err(failed)?;
    for _ in 1..MAX_PAGES {
        if answer.next_page_token.is_empty() {
            break;
        }
        request.page_token = std::mem::take(&mut answer.next_page_token);
        let mut page = client.discover(request.clone()).await.map_err(failed)?;
        answer.instances.append(&mut page.instances);
        answer = v1::ServiceDiscoveryResponse { instances: answer.instances, ..page };
    }
    drop(progress);
    let known = answer.status() != v1::ServiceStatus::Unknown;
    screen.show(&answer)?;
    Ok(if known { Exit::Success } else { Exit::NotFound })
}

/// Lists services.
pub(super) async fn services(args: &Services, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let client = session::connected(global, Reach::Named, screen).await?;
    let (min_revision, min_revision_epoch) = args.freshness.min_revision();
    let mut request = v1::ListServicesRequest {
        name_prefix: args.prefix.clone(),
        namespace: args.namespace.clone(),
        all_namespaces: args.all_namespaces,
        consistency: args.freshness.level().into(),
        max_staleness: args.freshness.max_staleness(),
        min_revision,
        min_revision_epoch,
        page_size: SERVICES_PER_PAGE,
        page_token: String::new(),
    };
    let failed = |error| Error::of_call("list services", &error);
    let progress = screen.progress("listing services");
    let mut answer = client.list_services(request.clone()).await.map_err(failed)?;
    for _ in 1..MAX_PAGES {
        if answer.next_page_token.is_empty() {
            break;
        }
        request.page_token = std::mem::take(&mut answer.next_page_token);
        let mut page = client.list_services(request.clone()).await.map_err(failed)?;
        answer.services.append(&mut page.services);
        answer = v1::ListServicesResponse { services: answer.services, ..page };
    }
    drop(progress);
    screen.show(&answer)?;
    Ok(Exit::Success)
}
