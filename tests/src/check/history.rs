//! What was seen of a cluster during one run.
//!
//! A history begins with an empty registry at revision 0, and one watch of everything (`all_namespaces`, from
//! the beginning, resumed wherever it broke) must tell every revision of it: this is the witness that the
//! replies are held against. Messages are those of the interface, as they came.

use std::collections::BTreeMap;
use std::time::Duration;

use registry_proto::v1;

/// A point in time: how long after the beginning of the run, by one clock that never goes back. Of the test's
/// own process, or the virtual time of a simulation.
pub type Time = Duration;

/// Everything that was seen of one run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Calls of all clients, in the order of their beginning.
    pub operations: Vec<Operation>,
    /// Streams of watches, each from its opening to its end.
    pub watches: Vec<Watch>,
    /// State hashes as nodes told them.
    pub hashes: Vec<StateHash>,
    /// When the process of a node began, by its `node_id`; whoever is not in here began before the run.
    pub starts: BTreeMap<String, Vec<Time>>,
    /// From when on all nodes ran and reached each other, with a leader, to the end of the run; `None` if they
    /// never did.
    pub calm_from: Option<Time>,
    /// When the run ended, the last observation included.
    pub end: Time,
}

/// One call from its beginning to its end.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Who called, for people.
    pub client: String,
    /// The session that it belongs to, within which nothing goes back; `None` = a call by itself.
    pub session: Option<u32>,
    /// Just before the call.
    pub invoked: Time,
    /// Just after its end; `None` if the caller went away before.
    pub ended: Option<Time>,
    /// What was asked.
    pub call: Call,
    /// What came of it.
    pub outcome: Outcome,
}

/// What was asked. Requests are as the caller gave them, so a client library may have added a request id or a
/// revision of its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Register.
    Register(v1::ServiceRegisterRequest),
    /// BatchRegister.
    BatchRegister(v1::BatchRegisterRequest),
    /// Deregister.
    Deregister(v1::ServiceDeregisterRequest),
    /// SetInstanceState.
    SetState(v1::SetInstanceStateRequest),
    /// SetInstanceOverride.
    SetOverride(v1::SetInstanceOverrideRequest),
    /// ClearInstanceOverride.
    ClearOverride(v1::ClearInstanceOverrideRequest),
    /// Heartbeat; a renewal over a KeepAlive stream is one too, for each lease.
    Renew(v1::HeartbeatRequest),
    /// Discover, without filter and in one page.
    Discover(v1::ServiceDiscoveryRequest),
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all of a history are answers")]
pub enum Outcome {
    /// It was answered.
    Answered(Answer),
    /// It was refused with this reason, which says that it has not taken effect and never will.
    Refused(String),
    /// It may take effect at any later time, or never. The text says how it ended, for people.
    Unknown(String),
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "as large as the messages are; kept one by one in a list")]
pub enum Answer {
    /// Of Register.
    Registered(v1::ServiceRegisterResponse),
    /// Of BatchRegister.
    BatchRegistered(v1::BatchRegisterResponse),
    /// Of Deregister.
    Deregistered(v1::ServiceDeregisterResponse),
    /// Of SetInstanceState.
    StateSet(v1::SetInstanceStateResponse),
    /// Of SetInstanceOverride.
    OverrideSet(v1::SetInstanceOverrideResponse),
    /// Of ClearInstanceOverride.
    OverrideCleared(v1::ClearInstanceOverrideResponse),
    /// Of Heartbeat, or made of the answer in a KeepAlive stream.
    Renewed(v1::HeartbeatResponse),
    /// Of Discover.
    Found(v1::ServiceDiscoveryResponse),
}

/// One stream of a watch.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Who watches, for people. A watcher whose stream broke opens the next one under the same name.
    pub watcher: String,
    /// `node_id` of the node that it is opened at.
    pub node: String,
    /// What was asked.
    pub request: v1::WatchRequest,
    /// Just before it was asked.
    pub opened: Time,
    /// Messages in the order in which they came, with the time of each.
    pub messages: Vec<(Time, v1::WatchResponse)>,
    /// When it ended or was given up; `None` = open to the end of the run.
    pub closed: Option<Time>,
}

/// The hash of the state of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateHash {
    /// `node_id`.
    pub node: String,
    /// When it was told.
    pub told: Time,
    /// Index of the last log entry in the state.
    pub index: u64,
    /// Its hash.
    pub hash: Vec<u8>,
}

impl Operation {
    /// The answer, if there is one.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// Revision of the answer, if there is one.
    pub fn revision(&self) -> Option<u64> {
        self.answer().and_then(Answer::header).map(|header| header.revision)
    }

    /// A line for people.
    pub fn describe(&self) -> String {
        let end = self.ended.map_or("open".to_owned(), |ended| format!("{ended:?}"));
        let outcome = match &self.outcome {
            Outcome::Answered(_) => format!("answered at revision {}", self.revision().unwrap_or_default()),
            Outcome::Refused(reason) => format!("refused with {reason}"),
            Outcome::Unknown(why) => format!("unknown outcome ({why})"),
        };
        format!("{} of {} [{:?} - {end}], {outcome}", self.call.name(), self.client, self.invoked)
    }
}

impl Call {
    /// Such as "Register orders/a".
    pub fn name(&self) -> String {
        match self {
            Call::Register(request) => format!("Register {}/{}", request.service_name, request.instance_id),
            Call::BatchRegister(request) => format!("BatchRegister of {}", request.registrations.len()),
            Call::Deregister(request) => {
                format!("Deregister {}/{}", request.service_name, request.instance_id)
            }
            Call::SetState(request) => format!("SetState {}/{}", request.service_name, request.instance_id),
            Call::SetOverride(request) => {
                format!("SetOverride {}/{}", request.service_name, request.instance_id)
            }
            Call::ClearOverride(request) => {
                format!("ClearOverride {}/{}", request.service_name, request.instance_id)
            }
            Call::Renew(request) => format!("Renew {:#x}", request.lease_id),
            Call::Discover(request) => format!("Discover {}", request.service_name),
        }
    }

    /// True if it can change the registry. A renewal cannot, but for the end of a protection.
    pub fn is_write(&self) -> bool {
        !matches!(self, Call::Discover(_) | Call::Renew(_))
    }
}

impl Answer {
    /// Its header; every unary answer has one.
    pub fn header(&self) -> Option<&v1::ResponseHeader> {
        match self {
            Answer::Registered(answer) => answer.header.as_ref(),
            Answer::BatchRegistered(answer) => answer.header.as_ref(),
            Answer::Deregistered(answer) => answer.header.as_ref(),
            Answer::StateSet(answer) => answer.header.as_ref(),
            Answer::OverrideSet(answer) => answer.header.as_ref(),
            Answer::OverrideCleared(answer) => answer.header.as_ref(),
            Answer::Renewed(answer) => answer.header.as_ref(),
            Answer::Found(answer) => answer.header.as_ref(),
        }
    }

    /// True if the answer may miss acknowledged writes, and says so.
    pub fn is_stale(&self) -> bool {
        self.header().is_some_and(|header| header.staleness.is_some())
    }
}

macro_rules! answers {
    ($($variant:ident($message:ty)),+ $(,)?) => {
        $(impl From<$message> for Answer {
            fn from(answer: $message) -> Self {
                Answer::$variant(answer)
            }
        })+
    };
}

answers! {
    Registered(v1::ServiceRegisterResponse),
    BatchRegistered(v1::BatchRegisterResponse),
    Deregistered(v1::ServiceDeregisterResponse),
    StateSet(v1::SetInstanceStateResponse),
    OverrideSet(v1::SetInstanceOverrideResponse),
    OverrideCleared(v1::ClearInstanceOverrideResponse),
    Renewed(v1::HeartbeatResponse),
    Found(v1::ServiceDiscoveryResponse),
}
