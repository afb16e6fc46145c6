//! What a cache knows at one revision, and how changes make the next.

use std::sync::Arc;

use imbl::Vector;
use rand::RngExt as _;
use registry_proto::v1::{EventKind, Instance, InstanceEvent, InstanceState, Position};

/// What a cache knows at one revision. Never changes: a new revision makes a new view, which shares with the
/// old one what both show.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// Sorted by key. Persistent, or a reader that is behind by 1,024 views of a large service would hold as
    /// many copies of it, and each change would cost as much as the whole service.
    instances: Vector<Arc<Instance>>,
    position: Option<Position>,
}

type Key<'a> = (&'a str, &'a str, &'a str);

fn key(instance: &Instance) -> Key<'_> {
    (&instance.namespace, &instance.service_name, &instance.instance_id)
}

impl View {
    pub(crate) fn new(instances: Vec<Instance>, position: Position) -> Self {
        let mut instances: Vec<_> = instances.into_iter().map(Arc::new).collect();
        instances.sort_by(|a, b| key(a).cmp(&key(b)));
        Self { instances: instances.into(), position: Some(position) }
    }

    /// The view after the events of one revision.
    pub(crate) fn after(&self, events: &[InstanceEvent], position: Position) -> Self {
        let mut instances = self.instances.clone();
        for event in events {
            let Some(instance) = &event.instance else { continue };
            let place = instances.binary_search_by(|other| key(other).cmp(&key(instance)));
            match (event.kind(), place) {
                (EventKind::Removed, Ok(place)) => {
                    instances.remove(place);
                }
                (EventKind::Removed, Err(_)) => {}
                (_, Ok(place)) => {
                    instances.set(place, Arc::new(instance.clone()));
                }
                (_, Err(place)) => instances.insert(place, Arc::new(instance.clone())),
            }
        }
        Self { instances, position: Some(position) }
    }

    /// The same view at a later position, at which nothing had changed.
    pub(crate) fn at(&self, position: Position) -> Self {
        Self { instances: self.instances.clone(), position: Some(position) }
    }

    /// True if both show the very same instances, whatever their positions.
    pub(crate) fn shows_same(&self, other: &Self) -> bool {
        let pairs = || self.instances.iter().zip(&other.instances);
        self.position.is_some() == other.position.is_some()
            && self.instances.len() == other.instances.len()
            && (self.instances.ptr_eq(&other.instances) || pairs().all(|(a, b)| Arc::ptr_eq(a, b)))
    }

    /// The instances, whatever their state, sorted by namespace, service and id.
    pub fn instances(&self) -> impl ExactSizeIterator<Item = &Arc<Instance>> + DoubleEndedIterator {
        self.instances.iter()
    }

    /// Number of instances, whatever their state.
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// The instances that are UP: not those that are DRAINING, which finish what they have.
    pub fn up(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.iter().filter(|instance| instance.state() == InstanceState::Up)
    }

    /// Where it stands; `None` before the first snapshot.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// An instance to send a request to, drawn by weight among those that are UP. One that is DRAINING is
    /// never drawn, so that it can end without a failed call: pick anew for each request. Those in `zone` come
    /// first, and those that only the mass-expiry guard keeps come last. `None` if nobody is UP with a
    /// weight above 0.
    pub fn pick(&self, zone: Option<&str>) -> Option<Arc<Instance>> {
        let weight = |instance: &Instance| u64::from(instance.weight.unwrap_or(100));
        let rank = |instance: &Instance| {
            (instance.protection.is_some(), zone.is_some_and(|zone| zone != instance.zone))
        };
        let usable = || self.up().filter(|instance| weight(instance) > 0);
        let best = usable().map(|instance| rank(instance)).min()?;
        let candidates = || usable().filter(|instance| rank(instance) == best);
        let total: u64 = candidates().map(|instance| weight(instance)).sum();
        let mut drawn = rand::rng().random_range(0..total);
        for instance in candidates() {
            match drawn.checked_sub(weight(instance)) {
                Some(rest) => drawn = rest,
                None => return Some(instance.clone()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use registry_proto::v1::Protection;

    use super::*;

    fn instance(id: &str) -> Instance {
        Instance {
            instance_id: id.into(),
            state: InstanceState::Up.into(),
            weight: Some(100),
            ..Default::default()
        }
    }

    fn event(kind: EventKind, instance: Instance) -> InstanceEvent {
        InstanceEvent { kind: kind.into(), instance: Some(instance), ..Default::default() }
    }

    fn ids(view: &View) -> Vec<&str> {
        view.instances().map(|instance| instance.instance_id.as_str()).collect()
    }

    #[test]
    fn events_make_the_next_view_and_leave_the_old_one() {
        let at = |revision| Position { epoch: 1, revision };
        let first = View::new(vec![instance("c"), instance("a")], at(1));
        let changed = Instance { zone: "z".into(), ..instance("c") };
        let events = [
            event(EventKind::Added, instance("b")),
            event(EventKind::Updated, changed),
            event(EventKind::Removed, instance("a")),
            event(EventKind::Removed, instance("never there")),
        ];
        let second = first.after(&events, at(2));
        assert_eq!((ids(&first), ids(&second)), (vec!["a", "c"], vec!["b", "c"]));
        assert_eq!(second.instances[1].zone, "z");
        assert_eq!(second.position(), Some(at(2)));
    }

    #[test]
    fn a_pick_is_up_weighted_near_and_not_doubtful() {
        let down = Instance { state: InstanceState::Draining.into(), ..instance("down") };
        let none = Instance { weight: Some(0), ..instance("none") };
        let doubtful =
            Instance { protection: Some(Protection::default()), zone: "here".into(), ..instance("doubtful") };
        let far = Instance { zone: "there".into(), ..instance("far") };
        let near = Instance { zone: "here".into(), ..instance("near") };
        let position = Position { epoch: 1, revision: 1 };
        let view = |instances: &[&Instance]| {
            View::new(instances.iter().map(|instance| (*instance).clone()).collect(), position)
        };
        let pick = |instances: &[&Instance], zone| {
            view(instances).pick(zone).map(|instance| instance.instance_id.clone())
        };
        assert_eq!(pick(&[&down, &none], None), None);
        assert_eq!(pick(&[&down, &none, &doubtful], None).as_deref(), Some("doubtful"));
        for _ in 0..50 {
            assert_eq!(pick(&[&down, &doubtful, &far, &near], Some("here")).as_deref(), Some("near"));
            assert_eq!(pick(&[&down, &doubtful, &far], Some("here")).as_deref(), Some("far"));
        }
    }
}
