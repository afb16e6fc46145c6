//! One hop to the leader, over a kept stream.
//!
//! Writes that wait are sent together and their answers are matched by number. Nothing is ever sent
//! twice: what was not handed to the stream comes back as NOT_LEADER, what was and has no answer as
//! OUTCOME_UNKNOWN (P/R4).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use registry_proto::internal::forwarded_reply::Outcome;
use registry_proto::internal::{
    ForwardWritesRequest, ForwardWritesResponse, ForwardedReply, ForwardedWrite, WriteMethod,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::error::Error;
use crate::peers::{Peers, Purpose};
use crate::server::convert::duration;
use crate::server::limits;

/// Messages that wait for room in the window of the stream: one to send, one in the making.
const MESSAGES_AHEAD: usize = 2;

/// Longest time to open the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);

/// An answer of the leader.
#[derive(Debug, Clone, PartialEq)]
pub struct Forwarded {
    /// The encoded response without header.
    pub response: Bytes,
    /// Revision for the header.
    pub revision: u64,
    /// True if the outcome was remembered.
    pub replayed: bool,
}

/// Passes writes to the leader. A clone shares the stream.
#[derive(Debug, Clone)]
pub struct Forwarder {
    peers: Peers,
    line: Arc<Mutex<Option<Line>>>,
}

/// The kept stream to one leader.
#[derive(Debug, Clone)]
struct Line {
    leader: u64,
    queue: mpsc::Sender<Job>,
}

#[derive(Debug)]
struct Job {
    method: WriteMethod,
    request: Bytes,
    deadline: Instant,
    fate: Arc<Fate>,
    answer: oneshot::Sender<Result<Forwarded, Error>>,
}

/// Whether a write has been handed to the stream. Either its caller gives it up or the stream takes it.
#[derive(Debug, Default)]
struct Fate(AtomicU8);

const WAITING: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Fate {
    /// True if it is now certain that it will not be sent.
    fn give_up(&self) -> bool {
        self.0.compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire) != Err(SENT)
    }

    /// True if it may be sent.
    fn send(&self) -> bool {
        self.0.compare_exchange(WAITING, SENT, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Forwarder {
    /// Nothing is opened before the first write.
    pub fn new(peers: Peers) -> Self {
        Self { peers, line: Arc::default() }
    }

    /// Passes a write to `leader` and waits for its answer.
    ///
    /// # Errors
    /// What the leader answered; NOT_LEADER if the write was certainly not sent; OUTCOME_UNKNOWN if it may
    /// have arrived; OVERLOADED if too many wait.
    pub async fn forward(
        &self,
        leader: u64,
        method: WriteMethod,
        request: Bytes,
        deadline: Instant,
    ) -> Result<Forwarded, Error> {
        let (answer, answered) = oneshot::channel();
        let fate = Arc::<Fate>::default();
        let job = Job { method, request, deadline, fate: fate.clone(), answer };
        self.line(leader).queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Error::Overloaded { what: "writes waiting for the leader", retry_after: limits::SHED_RETRY }
            }
            mpsc::error::TrySendError::Closed(_) => Error::NotLeader,
        })?;
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            // Its line has ended, or the time is up.
            Ok(Err(_)) | Err(_) if fate.give_up() => Err(Error::NotLeader),
            Ok(Err(_)) | Err(_) => Err(Error::OutcomeUnknown),
        }
    }

    fn line(&self, leader: u64) -> Line {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        match &*line {
            Some(open) if open.leader == leader && !open.queue.is_closed() => open.clone(),
            _ => {
                let (queue, jobs) = mpsc::channel(limits::FORWARD_QUEUE);
                // The line before ends when the last answer that it waits for is there.
                tokio::spawn(run(self.peers.clone(), leader, jobs));
                line.insert(Line { leader, queue }).clone()
            }
        }
    }
}

/// Serves one line until its queue is closed or the stream breaks. Dropping a job answers its caller.
async fn run(peers: Peers, leader: u64, mut jobs: mpsc::Receiver<Job>) {
    let (messages, outgoing) = mpsc::channel(MESSAGES_AHEAD);
    let mut answers = match timeout(OPEN_TIMEOUT, open(&peers, leader, &messages, outgoing)).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(status)) => {
            tracing::debug!(leader, %status, "cannot open the stream for writes");
            return;
        }
        Err(_) => return,
    };
    let mut waiting = Waiting::default();
    let mut open = true;
    let mut closed_at = Instant::now();
    while open || !waiting.is_empty() {
        tokio::select! {
            // Nobody adds to it any more, and nobody waits longer than this.
            () = sleep_until(closed_at + limits::UNARY_DEADLINE), if !open => return,
            permit = next_batch(&messages, &mut jobs), if open => match permit {
                Some((permit, first)) => permit.send(batch(first, &mut jobs, &mut waiting)),
                None => (open, closed_at) = (false, Instant::now()),
            },
            answer = answers.message() => match answer {
                Ok(Some(answer)) => waiting.answer(answer),
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(leader, %status, "the stream for writes broke");
                    return;
                }
            },
        }
    }
}

/// Opens the stream: the first message has only the header, so that nothing is lost if it is refused.
async fn open(
    peers: &Peers,
    leader: u64,
    messages: &mpsc::Sender<ForwardWritesRequest>,
    outgoing: mpsc::Receiver<ForwardWritesRequest>,
) -> Result<Streaming<ForwardWritesResponse>, Status> {
    let unknown = || Status::unavailable("the leader's endpoint is not known");
    let mut client = peers.client(leader, Purpose::Forward).ok_or_else(unknown)?;
    let header = ForwardWritesRequest { header: Some(peers.header(leader)), writes: Vec::new() };
    let _ = messages.send(header).await;
    Ok(client.forward_writes(ReceiverStream::new(outgoing)).await?.into_inner())
}

/// Room on the stream and the first write to fill it with; nothing once either is closed.
async fn next_batch<'a>(
    messages: &'a mpsc::Sender<ForwardWritesRequest>,
    jobs: &mut mpsc::Receiver<Job>,
) -> Option<(mpsc::Permit<'a, ForwardWritesRequest>, Job)> {
    // The room first: what waits for it stays in the queue, where its caller can give it up.
    let permit = messages.reserve().await.ok()?;
    Some((permit, jobs.recv().await?))
}

/// A message of everything that waits, within the bounds of one message.
fn batch(first: Job, jobs: &mut mpsc::Receiver<Job>, waiting: &mut Waiting) -> ForwardWritesRequest {
    let mut writes = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(job) = next {
        bytes += job.request.len();
        writes.extend(waiting.add(job));
        if writes.len() >= limits::FORWARD_BATCH || bytes >= limits::FORWARD_BATCH_BYTES {
            break;
        }
        next = jobs.try_recv().ok();
    }
    ForwardWritesRequest { header: None, writes }
}

/// Writes that were sent and have no answer yet, by number.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    answers: HashMap<u64, oneshot::Sender<Result<Forwarded, Error>>>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// The write to send for a job, unless its time is up or its caller has given it up.
    fn add(&mut self, job: Job) -> Option<ForwardedWrite> {
        let left = job.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || job.answer.is_closed() || !job.fate.send() {
            return None;
        }
        self.next += 1;
        self.answers.insert(self.next, job.answer);
        Some(ForwardedWrite {
            sequence: self.next,
            method: job.method.into(),
            request: job.request,
            // Whole milliseconds, rounded down: the leader gives up first.
            timeout: Some(duration(Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(0)))),
        })
    }

    fn answer(&mut self, message: ForwardWritesResponse) {
        for reply in message.replies {
            if let Some(answer) = self.answers.remove(&reply.sequence) {
                // A caller whose time is up is gone.
                let _ = answer.send(read_reply(reply));
            }
        }
        if self.answers.len() > limits::FORWARD_QUEUE {
            self.answers.retain(|_, answer| !answer.is_closed());
        }
    }
}

/// What the leader says, as the answer of this node.
pub fn read_reply(reply: ForwardedReply) -> Result<Forwarded, Error> {
    match reply.outcome {
        Some(Outcome::Response(response)) => {
            Ok(Forwarded { response, revision: reply.revision, replayed: reply.replayed })
        }
        Some(Outcome::Status(status)) => Err(Error::Answered(Box::new(decode_status(&status)))),
        None => Err(Error::OutcomeUnknown),
    }
}

/// An answer as it is sent to the node that forwarded the write.
pub fn write_reply(sequence: u64, answer: Result<Forwarded, Status>) -> ForwardedReply {
    match answer {
        Ok(answer) => ForwardedReply {
            sequence,
            outcome: Some(Outcome::Response(answer.response)),
            revision: answer.revision,
            replayed: answer.replayed,
        },
        Err(status) => ForwardedReply {
            sequence,
            outcome: Some(Outcome::Status(encode_status(&status))),
            revision: 0,
            replayed: false,
        },
    }
}

/// A status as an encoded `google.rpc.Status`: with details that is what it carries already.
pub fn encode_status(status: &Status) -> Bytes {
    if status.details().is_empty() {
        let plain = tonic_types::Status {
            code: i32::from(status.code()),
            message: status.message().to_owned(),
            details: Vec::new(),
        };
        return plain.encode_to_vec().into();
    }
    Bytes::copy_from_slice(status.details())
}

/// The status of an encoded `google.rpc.Status`.
pub fn decode_status(encoded: &[u8]) -> Status {
    match tonic_types::Status::decode(encoded) {
        Ok(status) => {
            let details = Bytes::copy_from_slice(encoded);
            Status::with_details(Code::from_i32(status.code), status.message, details)
        }
        Err(error) => Status::unknown(format!("the leader's answer cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{LeaderHint, reason_of};

    fn job(deadline: Instant) -> (Job, oneshot::Receiver<Result<Forwarded, Error>>, Arc<Fate>) {
        let (answer, answered) = oneshot::channel();
        let fate = Arc::<Fate>::default();
        let (method, request) = (WriteMethod::Register, Bytes::from_static(b"request"));
        (Job { method, request, deadline, fate: fate.clone(), answer }, answered, fate)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn a_write_is_either_sent_or_given_up() {
        let (given_up, _answered, fate) = job(later());
        assert!(fate.give_up());
        assert!(Waiting::default().add(given_up).is_none(), "given up first, never sent");

        let (sent, _answered, fate) = job(later());
        assert!(Waiting::default().add(sent).is_some());
        assert!(!fate.give_up(), "sent first, so its outcome is not known");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_sent() {
        let (late, _answered, _) = job(Instant::now());
        assert!(Waiting::default().add(late).is_none());
        let (abandoned, answered, _) = job(later());
        drop(answered);
        assert!(Waiting::default().add(abandoned).is_none());
    }

    #[tokio::test]
    async fn answers_find_their_writes_in_any_order() {
        let mut waiting = Waiting::default();
        let (first, mut first_answer, _) = job(later());
        let (second, mut second_answer, _) = job(later());
        let first = waiting.add(first).unwrap().sequence;
        let second = waiting.add(second).unwrap().sequence;
        let answer = |text: &'static str| Forwarded {
            response: Bytes::from_static(text.as_bytes()),
            revision: 7,
            replayed: true,
        };
        let replies =
            vec![write_reply(second, Ok(answer("second"))), write_reply(99, Ok(answer("nobody's")))];
        waiting.answer(ForwardWritesResponse { replies });
        assert_eq!(second_answer.try_recv().unwrap().unwrap(), answer("second"));
        assert!(first_answer.try_recv().is_err());
        waiting.answer(ForwardWritesResponse { replies: vec![write_reply(first, Ok(answer("first")))] });
        assert_eq!(first_answer.try_recv().unwrap().unwrap(), answer("first"));
        assert!(waiting.is_empty());
    }

    #[tokio::test]
    async fn a_batch_stays_within_its_bound_and_leaves_the_rest() {
        let (queue, mut jobs) = mpsc::channel(limits::FORWARD_QUEUE);
        let mut answers = Vec::new();
        for _ in 0..limits::FORWARD_BATCH + 10 {
            let (job, answered, _) = job(later());
            answers.push(answered);
            queue.try_send(job).unwrap();
        }
        let mut waiting = Waiting::default();
        let first = jobs.recv().await.unwrap();
        assert_eq!(batch(first, &mut jobs, &mut waiting).writes.len(), limits::FORWARD_BATCH);
        let first = jobs.recv().await.unwrap();
        assert_eq!(batch(first, &mut jobs, &mut waiting).writes.len(), 10);
    }

    #[test]
    fn a_refusal_of_the_leader_arrives_whole() {
        let status = Error::StaleIncarnation { current: 9 }.into_status(&LeaderHint::default());
        let Err(Error::Answered(passed)) = read_reply(write_reply(1, Err(status.clone()))) else { panic!() };
        assert_eq!((passed.code(), passed.message()), (status.code(), status.message()));
        assert_eq!(passed.details(), status.details());
        assert_eq!(reason_of(&passed), Some(registry_proto::v1::ErrorReason::StaleIncarnation));

        let Err(Error::Answered(plain)) = read_reply(write_reply(1, Err(Status::unimplemented("no")))) else {
            panic!()
        };
        assert_eq!((plain.code(), plain.message()), (Code::Unimplemented, "no"));
    }

    #[test]
    fn an_answer_without_outcome_tells_nothing() {
        assert!(matches!(read_reply(ForwardedReply::default()), Err(Error::OutcomeUnknown)));
    }
}
