//! The reference model: whether a call accounts for what a revision changed.
//!
//! It says what the interface promises of a call (`docs/API.md`) and no more. Whom the registry takes for the
//! owner of an instance is not seen from outside; so of a registration it is checked that the change is one of
//! those that it may make, and that the answer says the same.

use std::collections::{BTreeMap, BTreeSet};

use registry_proto::v1::{self, EventCause, EventKind, InstanceState, RegisterOutcome};

use super::history::{Answer, Call, History};
use super::names::Key;
use super::timeline::{Event, State};

/// The instance that a request names by the fields that all of them share.
macro_rules! target {
    ($request:expr) => {{
        let request = $request;
        let (namespace, service) = (&request.namespace, &request.service_name);
        $crate::check::names::Key::named(
            namespace,
            service,
            &request.instance_id,
            &request.host,
            request.port,
        )
    }};
}
pub(super) use target;

/// Leases as far as answers told them: of which one an instance, named with its incarnation, is. An owner may
/// move it to another one, after which it is not known here.
#[derive(Debug, Default)]
pub struct LeasesTold(BTreeMap<(Key, u64), BTreeSet<u64>>);

impl LeasesTold {
    /// Of all answers.
    pub fn of(history: &History) -> Self {
        let mut told = Self::default();
        for call in &history.operations {
            match (&call.call, call.answer()) {
                (Call::Register(request), Some(Answer::Registered(answer))) => {
                    told.learn(request, answer.incarnation, answer.lease_id);
                }
                (Call::BatchRegister(batch), Some(Answer::BatchRegistered(answer))) => {
                    for (request, result) in batch.registrations.iter().zip(&answer.results) {
                        told.learn(request, result.incarnation, answer.lease_id);
                    }
                }
                _ => {}
            }
        }
        told
    }

    fn learn(&mut self, request: &v1::ServiceRegisterRequest, incarnation: u64, lease: u64) {
        self.0.entry((registered(request), incarnation)).or_default().insert(lease);
    }

    /// The lease of an instance; `None` if nobody was told, or more than one.
    pub fn of_instance(&self, key: &Key, incarnation: u64) -> Option<u64> {
        let leases = self.0.get(&(key.clone(), incarnation))?;
        leases.first().copied().filter(|_| leases.len() == 1)
    }
}

/// The instance that a registration names.
pub fn registered(request: &v1::ServiceRegisterRequest) -> Key {
    target!(request)
}

/// True if the registry makes such a change by itself, without a call.
pub fn is_own(group: &[Event]) -> bool {
    use EventCause::{Expired, OverrideExpired, Protected, Recovered};
    group.iter().all(|event| [Expired, OverrideExpired, Protected, Recovered].contains(&event.cause))
}

/// How many ways a call leaves open in which it could account for a change. Of two calls that could, the one
/// that leaves fewer is the one to take: it fits nothing else later.
pub fn freedom(call: &Call) -> u32 {
    let fenced = match call {
        Call::Register(request) => request.incarnation != 0 || request.lease_id != 0,
        Call::Deregister(request) => request.incarnation != 0 || request.lease_id != 0,
        Call::SetState(request) => request.incarnation != 0 || request.lease_id != 0,
        _ => false,
    };
    u32::from(!fenced)
}

/// Checks that the call, with this answer if there was one, is what changed `before` as `group` says.
///
/// # Errors
/// Why it cannot have been.
pub fn explains(
    call: &Call,
    answer: Option<&Answer>,
    before: &State<'_>,
    leases: &LeasesTold,
    group: &[Event],
) -> Result<(), String> {
    match (call, answer) {
        (Call::Register(request), answer) => {
            let [event] = group else { return Err(format!("it changes one instance, not {}", group.len())) };
            registers(request, before, event)?;
            match answer {
                Some(Answer::Registered(answer)) => same_answer(answer, event),
                _ => Ok(()),
            }
        }
        (Call::BatchRegister(batch), answer) => registers_all(batch, answer, before, group),
        (Call::Deregister(request), answer) => {
            let cause = if request.by_operator { EventCause::Operator } else { EventCause::Deregistered };
            let key = (request.lease_id == 0).then(|| target!(request));
            let wanted = Wanted { key, lease: request.lease_id, incarnation: request.incarnation };
            wanted.is_all_of(before, leases, group)?;
            for event in group {
                demand(event.kind == EventKind::Removed && event.cause == cause, || {
                    format!("it removes with cause {cause:?}, not {:?} {:?}", event.kind, event.cause)
                })?;
            }
            match answer {
                Some(Answer::Deregistered(answer)) => counted(answer.removed, group.len()),
                _ => Ok(()),
            }
        }
        (Call::SetState(request), answer) => {
            let key = (request.lease_id == 0).then(|| target!(request));
            let wanted = Wanted { key, lease: request.lease_id, incarnation: request.incarnation };
            wanted.is_part_of(leases, group)?;
            for event in group {
                reports(event, before, request.state())?;
            }
            match answer {
                Some(Answer::StateSet(answer)) => counted(answer.changed, group.len()),
                _ => Ok(()),
            }
        }
        (Call::SetOverride(request), _) => {
            let given = request.operator_override.as_ref();
            overrides(&target!(request), EventCause::OverrideSet, given, before, group)
        }
        (Call::ClearOverride(request), _) => {
            overrides(&target!(request), EventCause::OverrideCleared, None, before, group)
        }
        (Call::Renew(_) | Call::Discover(_), _) => Err("it changes nothing".into()),
    }
}

fn demand(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

fn counted(said: u32, seen: usize) -> Result<(), String> {
    demand(said as usize == seen, || format!("its answer counts {said} instances, the revision has {seen}"))
}

/// What a request names.
struct Wanted {
    key: Option<Key>,
    lease: u64,
    incarnation: u64,
}

impl Wanted {
    fn is_part_of(&self, leases: &LeasesTold, group: &[Event]) -> Result<(), String> {
        demand(!group.is_empty(), || "it changes something".into())?;
        for event in group {
            let incarnation = event.instance.incarnation;
            let named = match &self.key {
                Some(key) => *key == event.key && [0, incarnation].contains(&self.incarnation),
                None => leases.of_instance(&event.key, incarnation).is_none_or(|lease| lease == self.lease),
            };
            demand(named, || format!("it does not name {} of incarnation {incarnation}", event.key))?;
        }
        Ok(())
    }

    /// Everything that it names is in the group.
    fn is_all_of(&self, before: &State<'_>, leases: &LeasesTold, group: &[Event]) -> Result<(), String> {
        self.is_part_of(leases, group)?;
        if self.key.is_some() {
            return Ok(());
        }
        let hit: BTreeSet<&Key> = group.iter().map(|event| &event.key).collect();
        for (key, instance) in before.all() {
            let of_lease = leases.of_instance(key, instance.incarnation) == Some(self.lease);
            demand(!of_lease || hit.contains(key), || format!("it names {key}, which is not in it"))?;
        }
        Ok(())
    }
}

fn registers(request: &v1::ServiceRegisterRequest, before: &State<'_>, event: &Event) -> Result<(), String> {
    let key = registered(request);
    demand(key == event.key, || format!("it registers {key}, not {}", event.key))?;
    let now = &event.instance;
    let earlier = before.get(&key);
    let fits = match (event.kind, event.cause, earlier) {
        (EventKind::Added, EventCause::Registered, None) => now.incarnation == now.revision,
        (EventKind::Updated, EventCause::Registered | EventCause::Recovered, Some(earlier)) => {
            now.incarnation == earlier.incarnation
        }
        (EventKind::Updated, EventCause::Replaced, Some(earlier)) => {
            now.incarnation == now.revision && now.incarnation > earlier.incarnation
        }
        _ => false,
    };
    demand(fits, || {
        format!("it cannot be {:?}, {:?}, incarnation {}", event.kind, event.cause, now.incarnation)
    })?;
    let fence = request.incarnation;
    demand(fence == 0 || earlier.is_none_or(|earlier| earlier.incarnation == fence), || {
        format!("it is fenced by incarnation {fence}")
    })?;
    let reported_before = earlier.map_or(InstanceState::Up, reported_state);
    let new_owner = now.incarnation == now.revision;
    let state = match request.state() {
        InstanceState::Unspecified if new_owner => InstanceState::Up,
        InstanceState::Unspecified => reported_before,
        given => given,
    };
    shows(request, state, now)
}

/// Checks that the instance is as the request gives it already, so that it makes no revision.
///
/// # Errors
/// How it differs.
pub fn renews(request: &v1::ServiceRegisterRequest, state: &State<'_>) -> Result<(), String> {
    let key = registered(request);
    let Some(present) = state.get(&key) else { return Err(format!("{key} is not there")) };
    let reported = match request.state() {
        InstanceState::Unspecified => reported_state(present),
        given => given,
    };
    shows(request, reported, present)
}

/// What the instance shows is what the request gave.
fn shows(
    request: &v1::ServiceRegisterRequest,
    state: InstanceState,
    now: &v1::Instance,
) -> Result<(), String> {
    let mut tags = request.tags.clone();
    tags.sort_unstable();
    tags.dedup();
    let weight = request.weight.unwrap_or(100);
    let shown_weight = now.reported.as_ref().map_or(now.weight, |reported| reported.weight);
    let parts = [
        ("host", now.host == request.host),
        ("port", now.port == request.port),
        ("zone", now.zone == request.zone),
        ("metadata", now.metadata == request.metadata),
        ("tags", now.tags == tags),
        ("ports", now.ports == request.ports),
        ("weight", shown_weight == Some(weight)),
        ("state", reported_state(now) == state),
        ("ttl", request.ttl.is_none() || now.ttl == request.ttl),
    ];
    match parts.iter().find(|(_, same)| !same) {
        Some((part, _)) => Err(format!("{part} is not what it gave")),
        None => Ok(()),
    }
}

/// What the owner reported last.
fn reported_state(instance: &v1::Instance) -> InstanceState {
    instance.reported.as_ref().map_or(instance.state(), v1::ReportedStatus::state)
}

fn same_answer(answer: &v1::ServiceRegisterResponse, event: &Event) -> Result<(), String> {
    let outcome = match event.cause {
        _ if event.kind == EventKind::Added => RegisterOutcome::Created,
        EventCause::Replaced => RegisterOutcome::Replaced,
        _ => RegisterOutcome::Updated,
    };
    let renewed = event.cause == EventCause::Recovered && answer.outcome() == RegisterOutcome::Renewed;
    demand(answer.outcome() == outcome || renewed, || {
        format!("it was answered {:?}, it is {outcome:?}", answer.outcome())
    })?;
    let incarnation = event.instance.incarnation;
    demand(answer.incarnation == incarnation, || {
        format!("it was answered incarnation {}, it is {incarnation}", answer.incarnation)
    })?;
    // A remembered answer shows the instance as it is now.
    let replayed = answer.header.as_ref().is_some_and(|header| header.replayed);
    demand(replayed || answer.instance.as_ref() == Some(&event.instance), || {
        format!("it was answered {:?}, the revision has {:?}", answer.instance, event.instance)
    })
}

fn registers_all(
    batch: &v1::BatchRegisterRequest,
    answer: Option<&Answer>,
    before: &State<'_>,
    group: &[Event],
) -> Result<(), String> {
    demand(!group.is_empty(), || "it changes something".into())?;
    let mut left: BTreeMap<&Key, &Event> = group.iter().map(|event| (&event.key, event)).collect();
    for (index, request) in batch.registrations.iter().enumerate() {
        let key = registered(request);
        let event = left.remove(&key);
        match (event, before.get(&key)) {
            (Some(event), _) => registers(request, before, event)?,
            (None, Some(_)) => renews(request, before)?,
            (None, None) => return Err(format!("it registers {key} too: all or none")),
        }
        if let Some(Answer::BatchRegistered(answer)) = answer {
            let result = answer.results.get(index).ok_or("an entry has no result")?;
            let incarnation = event.map(|event| event.instance.incarnation);
            let incarnation = incarnation.or(before.get(&key).map(|present| present.incarnation));
            demand(Some(result.incarnation) == incarnation, || {
                format!("it was answered incarnation {} for {key}, not {incarnation:?}", result.incarnation)
            })?;
        }
    }
    match left.keys().next() {
        Some(key) => Err(format!("it does not register {key}")),
        None => Ok(()),
    }
}

/// Nothing but the reported state differs.
fn reports(event: &Event, before: &State<'_>, state: InstanceState) -> Result<(), String> {
    let Some(earlier) = before.get(&event.key) else { return Err(format!("{} is not there", event.key)) };
    let now = &event.instance;
    let mut expected = earlier.clone();
    expected.revision = now.revision;
    // A word of its owner also ends the protection of an instance.
    expected.protection = now.protection.as_ref().and(expected.protection);
    let hidden = expected.operator_override.as_ref().is_some_and(|set| set.state != 0);
    if let Some(reported) = &mut expected.reported {
        reported.state = state.into();
    }
    if !hidden {
        expected.state = state.into();
    }
    let cause = matches!(event.cause, EventCause::StateReported | EventCause::Recovered);
    demand(event.kind == EventKind::Updated && cause && expected == *now, || {
        format!("it reports {state:?} and changes nothing else, {:?} is {now:?}", event.cause)
    })
}

fn overrides(
    key: &Key,
    cause: EventCause,
    given: Option<&v1::InstanceOverride>,
    before: &State<'_>,
    group: &[Event],
) -> Result<(), String> {
    let event = match group {
        // Of an absent instance, or one that looks the same with it, nobody is told.
        [] => return Ok(()),
        [event] if event.key == *key => event,
        _ => return Err(format!("it concerns {key} alone")),
    };
    let now = event.instance.operator_override.as_ref();
    let same = match (given, now) {
        (None, None) => true,
        (Some(given), Some(now)) => {
            (given.state, given.weight, &given.comment, &given.actor)
                == (now.state, now.weight, &now.comment, &now.actor)
        }
        _ => false,
    };
    let earlier = before.get(key);
    let owners = earlier.is_some_and(|earlier| {
        reported_state(earlier) == reported_state(&event.instance)
            && earlier.incarnation == event.instance.incarnation
            && earlier.metadata == event.instance.metadata
    });
    demand(same && owners && event.cause == cause, || {
        format!("it leaves the override {given:?}, the revision has {now:?} by {:?}", event.cause)
    })
}
