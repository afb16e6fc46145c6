//! What a person reads about an error: what went wrong, and what to do next.

use std::fmt;

use super::Error;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidField(fields) => {
                f.write_str("correct these fields: ")?;
                for (index, field) in fields.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{} {}", field.path, field.problem)?;
                }
                Ok(())
            }
            Self::RequestIdReused => f.write_str(
                "the request_id was used before with other content: give each new write the next serial",
            ),
            Self::RequestSuperseded { lowest } => write!(
                f,
                "the serial is below {lowest}, the lowest still remembered of this client: read what became \
                 of the write, then use a new serial"
            ),
            Self::SessionUnknown => f.write_str(
                "this client is not known and its serial is not 1: begin anew with another client id, or, \
                 if this was a repetition, read what became of the write",
            ),
            Self::RegistrationGone => f.write_str(
                "the write took effect earlier, but what it registered has gone or been replaced since: \
                 register again with a new serial",
            ),
            Self::InstanceNotFound(name) => write!(f, "{name} is not registered: register it first"),
            Self::LeaseExpired => f.write_str(
                "the lease is not open (it expired, was closed, or never was): register again with the last \
                 incarnation",
            ),
            Self::StaleIncarnation { current } => write!(
                f,
                "another owner holds the instance since, as incarnation {current}: stop acting for it"
            ),
            Self::RevisionCompacted { oldest } => {
                write!(f, "the history before revision {oldest} is gone: take a new snapshot")
            }
            Self::FutureRevision { asked, newest } => write!(
                f,
                "revision {asked} is beyond {newest}, the newest of this cluster: it is from elsewhere, drop it"
            ),
            Self::EpochChanged { current } => write!(
                f,
                "the position is of another epoch than {current}: drop its revisions and take a snapshot"
            ),
            Self::WatchResync { revision } => write!(
                f,
                "the watch was read too slowly and has ended: resume from revision {revision} and read faster"
            ),
            Self::NotLeader => f.write_str(
                "this node does not lead and could not reach the leader: repeat at leader_endpoint or at \
                 another node",
            ),
            Self::NoQuorum => f.write_str(
                "no majority of the cluster can be reached from this node: wait, try the other nodes, or \
                 read STALE if an old answer will do",
            ),
            Self::OutcomeUnknown => f.write_str(
                "it is not known whether the write took or will take effect: repeat it with the same \
                 request_id, or read before deciding",
            ),
            Self::TooStale { revision, .. } => write!(
                f,
                "the data of this node (revision {revision}) is not as fresh as asked for: ask another node"
            ),
            Self::NotInitialized => {
                f.write_str("the cluster is not initialised yet: wait until all its nodes have started")
            }
            Self::NotReady(why) => write!(f, "this node is not ready ({why}): ask another node"),
            Self::ShuttingDown => f.write_str("this node is shutting down: ask another node"),
            Self::QuotaExceeded { quota, limit: Some(limit), .. } => {
                write!(f, "the quota {quota} of {limit} is full: free something or have it raised")
            }
            Self::QuotaExceeded { quota, limit: None, .. } => {
                write!(f, "there is no room on {quota}: free space there, or wait")
            }
            Self::Overloaded { what, .. } => {
                write!(f, "this node sheds load ({what}): repeat after retry_delay, with jitter")
            }
            Self::RateLimited { .. } => {
                f.write_str("you send more than your rate: repeat after retry_delay, with jitter")
            }
            Self::Internal(what) => write!(f, "a fault of the registry, please report it: {what}"),
            Self::Entry { index, error } => write!(f, "entry {index} of the batch: {error}"),
            Self::Unimplemented(what) => f.write_str(what),
            Self::Answered(status) => f.write_str(status.message()),
        }
    }
}
