//! The revision (I13): it never decreases within an epoch, at any node, and fences rise with it.
//!
//! That writes and linearizable reads do not go back is a part of I2. Here: what each node shows.

use std::collections::{BTreeMap, BTreeSet};

use registry_proto::v1::{self, EventKind};

use super::history::{Answer, History, Time};
use super::names::Key;
use super::timeline::Timeline;
use super::violation::Violation;

/// Checks it.
pub fn check(history: &History, timeline: &Timeline) -> Vec<Violation> {
    let mut violations: Vec<Violation> = epochs(history).into_iter().collect();
    violations.extend(nodes(history));
    violations.extend(incarnations(timeline));
    violations
}

/// All headers of a run name one epoch and one cluster: nothing in a run begins a new history.
fn epochs(history: &History) -> Option<Violation> {
    let answers = history.operations.iter().filter_map(|call| call.answer()?.header());
    let messages = history.watches.iter().flat_map(|watch| &watch.messages);
    let headers = answers.chain(messages.filter_map(|(_, message)| message.header.as_ref()));
    let epochs: BTreeSet<(u64, &str)> =
        headers.map(|header| (header.epoch, header.cluster_id.as_str())).collect();
    (epochs.len() > 1).then(|| Violation::new("I13", format!("one history has several names: {epochs:?}")))
}

/// A read at a node and when it was made.
struct Read {
    invoked: Time,
    ended: Time,
    revision: u64,
}

/// What a process shows never goes back, from its start to its end.
fn nodes(history: &History) -> Vec<Violation> {
    let mut lives: BTreeMap<(&str, usize), Vec<Read>> = BTreeMap::new();
    for call in &history.operations {
        // Reads alone are of the node's own state: the answer of a write that was passed on to the leader may
        // be ahead of it.
        let (Some(Answer::Found(answer)), Some(ended)) = (call.answer(), call.ended) else { continue };
        let Some(header) = &answer.header else { continue };
        let starts = history.starts.get(&header.node_id).map_or(&[][..], Vec::as_slice);
        let life = starts.partition_point(|start| *start <= call.invoked);
        if starts.get(life).is_some_and(|next| *next <= ended) {
            // Of which process the answer is, is not known.
            continue;
        }
        let read = Read { invoked: call.invoked, ended, revision: header.revision };
        lives.entry((&header.node_id, life)).or_default().push(read);
    }
    let mut violations = Vec::new();
    for ((node, _), reads) in lives {
        let seen = reads.iter().map(|read| (read.ended, read.revision)).collect();
        let seen = super::observed::Observed::from(seen);
        for read in &reads {
            let known = seen.before(read.invoked);
            if read.revision < known {
                let what = format!("{node} shows {} at {:?}, after {known}", read.revision, read.invoked);
                violations.push(Violation::new("I13", what));
            }
        }
    }
    violations
}

/// The incarnation of an instance rises with each owner, also over times in which it is not registered.
fn incarnations(timeline: &Timeline) -> Vec<Violation> {
    let mut highest: BTreeMap<&Key, u64> = BTreeMap::new();
    let mut violations = Vec::new();
    for (revision, events) in timeline.groups(0, timeline.last()) {
        for event in events.iter().filter(|event| event.kind != EventKind::Removed) {
            let incarnation = event.instance.incarnation;
            let known = highest.insert(&event.key, incarnation).unwrap_or(0);
            let new_owner = event.kind == EventKind::Added || event.cause == v1::EventCause::Replaced;
            let right = if new_owner { incarnation == revision } else { incarnation == known };
            if !right {
                let what =
                    format!("{} has incarnation {incarnation} at {revision}, {known} before", event.key);
                violations.push(Violation::new("I13", what));
            }
        }
    }
    violations
}
