//! `register` (once), `heartbeat`, `deregister`

use registry_proto::v1;

use crate::args::instance::{InstanceOrLease, instance_id};
use crate::args::{Deregister, Global, Register};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;
use crate::session::{self, Reach};

/// The request of `register`, without what only one of its two ways needs.
pub(super) fn request(args: &Register) -> v1::ServiceRegisterRequest {
    let mut request = args.content.request(&args.service, &args.host, args.port);
    request.lease_id = args.lease.map_or(0, |lease| lease.0);
    request.state = args.state.map_or(v1::InstanceState::Unspecified, Into::into).into();
    request
}

/// `SERVICE/INSTANCE`, for messages.
pub(super) fn name(request: &v1::ServiceRegisterRequest) -> String {
    match request.instance_id.as_str() {
        "" => format!("{}/{}", request.service_name, instance_id(&request.host, request.port)),
        id => format!("{}/{id}", request.service_name),
    }
}

/// Registers once and leaves the lease to whoever renews it.
pub(super) async fn register(args: &Register, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let request = request(args);
    let action = format!("register {}", name(&request));
    let client = session::connected(global, Reach::Named, screen).await?;
    let progress = screen.progress("registering");
    let answer = client.register(request).await.map_err(|error| Error::of_call(action, &error))?;
    drop(progress);
    screen.show(&answer)?;
    Ok(Exit::Success)
}

/// Renews a lease once.
pub(super) async fn heartbeat(
    target: &InstanceOrLease,
    global: &Global,
    screen: &Screen,
) -> Result<Exit, Error> {
    let client = session::connected(global, Reach::Named, screen).await?;
    let request = v1::HeartbeatRequest {
        service_name: target.service.clone().unwrap_or_default(),
        host: target.host.clone().unwrap_or_default(),
        port: target.port.unwrap_or_default(),
        namespace: target.namespace.clone(),
        instance_id: target.id.clone().unwrap_or_default(),
        incarnation: target.incarnation.unwrap_or_default(),
        lease_id: target.lease.map_or(0, |lease| lease.0),
    };
    let progress = screen.progress("renewing");
    let answer = client
        .heartbeat(request)
        .await
        .map_err(|error| Error::of_call(format!("renew {}", target.describe()), &error))?;
    drop(progress);
    screen.show(&answer)?;
    Ok(Exit::Success)
}

/// Removes an instance, or all of a lease.
pub(super) async fn deregister(args: &Deregister, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let target = &args.target;
    let client = session::connected(global, Reach::Named, screen).await?;
    let request = v1::ServiceDeregisterRequest {
        service_name: target.service.clone().unwrap_or_default(),
        host: target.host.clone().unwrap_or_default(),
        port: target.port.unwrap_or_default(),
        namespace: target.namespace.clone(),
        instance_id: target.id.clone().unwrap_or_default(),
        incarnation: target.incarnation.unwrap_or_default(),
        lease_id: target.lease.map_or(0, |lease| lease.0),
        request_id: None,
        by_operator: args.by_operator,
    };
    let progress = screen.progress("deregistering");
    let answer = client
        .deregister(request)
        .await
        .map_err(|error| Error::of_call(format!("deregister {}", target.describe()), &error))?;
    drop(progress);
    screen.show(&answer)?;
    Ok(Exit::Success)
}
