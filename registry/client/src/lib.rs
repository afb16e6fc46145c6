//! Client of the registry: registers programs, finds them, follows their changes.
//!
//! # A first look
//!
//! ```no_run
//! use registry_client::{Client, v1};
//!
//! # async fn example() -> Result<(), registry_client::Error> {
//! let client = Client::connect(["127.0.0.1:8080", "127.0.0.1:8081"]).await?;
//!
//! // Be found: the registration is kept alive until it is dropped or deregistered.
//! let held = client
//!     .keep_registered(v1::ServiceRegisterRequest {
//!         service_name: "orders".into(),
//!         host: "10.0.0.7".into(),
//!         port: 7001,
//!         ..Default::default()
//!     })
//!     .await?;
//!
//! // Find others, from memory, also while the registry is away.
//! let payments = client.cache("payments");
//! payments.synced().await?;
//! if let Some(instance) = payments.pick() {
//!     println!("send it to {}:{}", instance.host, instance.port);
//! }
//!
//! held.deregister().await?;
//! # Ok(()) }
//! ```
//!
//! A [`Client`] is cheap to clone, and one per program is enough: all clones share connections, request
//! ids and the keep-alive stream. It needs a tokio runtime. Messages are those of the interface, in [`v1`];
//! fields left at their default mean what the proto files say.
//!
//! # What it does by itself
//!
//! - **Nodes.** The seeds are where it begins; the members are learnt from them and looked up again every
//!   10 s and whenever a connection changes. Each member has a connection of its own, made in the
//!   background: a call only ever goes to a node whose connection is up and that has answered on it, and a dead one fails no call.
//!   Members that the leader calls dead or quarantined are left out, those that it does not hear are asked
//!   last. Writes prefer the leader, reads go to the node with the fewest open calls.
//! - **Repetition.** A call is repeated only where that is safe, until its deadline (10 s, see
//!   [`CallOptions::deadline`]). Reads and renewals may go anywhere again. A write carries a request id,
//!   and its repetition carries the same: the registry does it once and answers each time. If a write ends
//!   with an error, [`Error::is_outcome_unknown`] tells whether it may have taken effect.
//! - **Order.** At most 16 writes of a client are open at once, since the registry remembers no more;
//!   others wait their turn. Programs that write more at a time use several clients.
//! - **Time runs forward.** A stale read asks for at least the revision that this client has seen before;
//!   see [`CallOptions::any_revision`].
//!
//! # Reading
//!
//! ```no_run
//! # use std::time::Duration;
//! # use registry_client::{CallOptions, Client, v1};
//! # async fn example(client: Client) -> Result<(), registry_client::Error> {
//! let request = v1::ServiceDiscoveryRequest { service_name: "orders".into(), ..Default::default() };
//! // Linearizable: sees every write that was answered before.
//! let answer = client.discover(request.clone()).await?;
//! for instance in &answer.instances {
//!     println!("{} is {:?}", instance.instance_id, instance.state());
//! }
//! // Stale: works without a leader, tells its age, and is at most a second old here.
//! let options = CallOptions::new().stale().max_staleness(Duration::from_secs(1));
//! let answer = client.with(options).discover(request).await?;
//! println!("age: {:?}", answer.header.and_then(|header| header.staleness));
//! # Ok(()) }
//! ```
//!
//! # Being registered
//!
//! [`Client::registration`] holds a registration: it renews the lease at a third of its TTL over one
//! stream for the whole client, moves to another node at once when that stream ends, and registers again
//! if the lease was lost. The [`RegistrationStatus`] tells how it is. [`AtRisk`](RegistrationStatus::AtRisk)
//! means that others may see the instance gone; [`Replaced`](RegistrationStatus::Replaced) that another
//! program has taken its place and this one must stop.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use registry_client::{Client, RegistrationStatus, v1};
//! # async fn example(client: Client, request: v1::ServiceRegisterRequest) -> Result<(), registry_client::Error> {
//! let held = client
//!     .registration(request)
//!     .on_status(|status| if let RegistrationStatus::Replaced(_) = status { std::process::exit(1) })
//!     .start()
//!     .await?;
//!
//! // To leave in order: nobody sends anything new, then what is open ends, then the instance goes.
//! let drained = held.end(Duration::from_secs(10), async { /* finish open requests */ }).await?;
//! println!("everybody had heard: {}", drained.complete);
//! # Ok(()) }
//! ```
//!
//! Dropping a [`Registration`] sends nothing: the instance expires with its lease, as if the program had
//! died.
//!
//! # Following changes
//!
//! [`Client::cache`] keeps a view of a service in memory; [`ServiceCache::events`] tells its changes, each
//! revision once. [`Client::watch`] is what it is made of, for those who build something else: it resumes
//! at another node when a stream ends, and says so when the history is gone and a snapshot follows.
//!
//! ```no_run
//! # use registry_client::{CacheEvent, Client};
//! # async fn example(client: Client) {
//! let mut events = client.cache("orders").events();
//! while let Some(event) = events.next().await {
//!     match event {
//!         CacheEvent::Reset(view) => println!("{} instances", view.len()),
//!         CacheEvent::Changes { changes, .. } => println!("revision {}", changes.revision),
//!         _ => {}
//!     }
//! }
//! # }
//! ```
//!
//! # Seeing inside
//!
//! [`Client::metrics`] gives counters, [`Hooks`] are told of each call, connection and renewal, and
//! `tracing` has the rest: state changes at `info`, losses and repetitions at `debug`, under the target
//! `registry_client`. The network can be replaced by any [`Dial`](transport::Dial).

mod backoff;
mod builder;
mod cache;
mod call;
mod client;
mod error;
mod keep_alive;
mod lease_table;
mod metrics;
mod options;
mod pool;
mod registration;
mod retry;
mod rpc;
mod serial;
mod session;
pub mod transport;
mod watch;

pub use builder::ClientBuilder;
pub use cache::{CacheEvent, CacheEvents, CacheOptions, ServiceCache, View};
pub use client::Client;
pub use error::{BadField, Error};
pub use metrics::{Hooks, MetricsSnapshot};
pub use options::CallOptions;
pub use registration::{Drained, Registration, RegistrationBuilder, RegistrationStatus};
pub use registry_proto::v1;
pub use watch::{Watch, WatchEvent};
