//! `drain`, `state`, `override`, `protection`: what operators do to instances.

use registry_proto::v1;

use super::discover::MAX_PAGES;
use crate::args::Global;
use crate::args::operate::{
    Drain, EndProtection, ListOverrides, Named, Override, Protection, SetOverride, State,
};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;
use crate::session::{self, Reach};

/// Overrides on one page: as many as the API gives.
const OVERRIDES_PER_PAGE: u32 = 1_000;

/// Drains and waits until every watcher has been told. Says so by its exit code.
pub(super) async fn drain(args: &Drain, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let client = session::connected(global, Reach::Named, screen).await?;
    let name = args.describe();
    let progress = screen.progress(format!("draining {name}: waiting until every watcher has been told"));
    let answer = client.drain(args.request()).await;
    drop(progress);
    let answer = answer.map_err(|error| Error::of_call(format!("drain {name}"), &error))?;
    screen.show(&answer)?;
    Ok(if answer.complete { Exit::Success } else { Exit::Incomplete })
}

/// Reports a state for the owner.
pub(super) async fn state(args: &State, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let client = session::connected(global, Reach::Named, screen).await?;
    let progress = screen.progress("reporting the state");
    let answer = client.set_instance_state(args.request()).await;
    drop(progress);
    let failed = |error| Error::of_call(format!("set the state of {}", args.named.describe()), &error);
    screen.show(&answer.map_err(failed)?)?;
    Ok(Exit::Success)
}

/// Sets, clears or lists overrides.
pub(super) async fn overrides(args: &Override, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    match args {
        Override::Set(args) => set(args, global, screen).await,
        Override::Clear(named) => clear(named, global, screen).await,
        Override::List(args) => list(args, global, screen).await,
    }
}

async fn set(args: &SetOverride, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let client = session::connected(global, Reach::Named, screen).await?;
    let progress = screen.progress("setting the override");
    let answer = client.set_instance_override(args.request()).await;
    drop(progress);
    let failed = |error| Error::of_call(format!("override {}", args.named.describe()), &error);
    screen.show(&answer.map_err(failed)?)?;
    Ok(Exit::Success)
}

async fn clear(named: &Named, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let client = session::connected(global, Reach::Named, screen).await?;
    let request = v1::ClearInstanceOverrideRequest {
        service_name: named.service.clone(),
        namespace: named.namespace.clone(),
        instance_id: named.instance.clone(),
        ..Default::default()
    };
    let progress = screen.progress("clearing the override");
    let answer = client.clear_instance_override(request).await;
    drop(progress);
    let failed = |error| Error::of_call(format!("clear the override of {}", named.describe()), &error);
    screen.show(&answer.map_err(failed)?)?;
    Ok(Exit::Success)
}

async fn list(args: &ListOverrides, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let client = session::connected(global, Reach::Named, screen).await?;
    let (min_revision, min_revision_epoch) = args.freshness.min_revision();
    let mut request = v1::ListInstanceOverridesRequest {
        service_name: args.service.clone().unwrap_or_default(),
        namespace: args.namespace.clone(),
        consistency: args.freshness.level().into(),
        max_staleness: args.freshness.max_staleness(),
        min_revision,
        min_revision_epoch,
        all_namespaces: args.all_namespaces,
        page_size: OVERRIDES_PER_PAGE,
        page_token: String::new(),
    };
    let failed = |error| Error::of_call("list overrides", &error);
    let progress = screen.progress("listing overrides");
    let mut answer = client.list_instance_overrides(request.clone()).await.map_err(failed)?;
    for _ in 1..MAX_PAGES {
        if answer.next_page_token.is_empty() {
            break;
        }
        request.page_token = std::mem::take(&mut answer.next_page_token);
        let mut page = client.list_instance_overrides(request.clone()).await.map_err(failed)?;
        answer.overrides.append(&mut page.overrides);
        answer = v1::ListInstanceOverridesResponse { overrides: answer.overrides, ..page };
    }
    drop(progress);
    screen.show(&answer)?;
    Ok(Exit::Success)
}

/// Ends protection.
pub(super) async fn protection(args: &Protection, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    match args {
        Protection::End(args) => end(args, global, screen).await,
    }
}

async fn end(args: &EndProtection, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let client = session::connected(global, Reach::Named, screen).await?;
    let progress = screen.progress("ending protection");
    let answer = client.end_protection(args.request()).await;
    drop(progress);
    let failed = |error| Error::of_call(format!("end the protection of {}", args.describe()), &error);
    screen.show(&answer.map_err(failed)?)?;
    Ok(Exit::Success)
}
