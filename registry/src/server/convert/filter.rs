//! Which instances a reader wants.

use std::collections::BTreeMap;

use registry_proto::v1;
use registry_state::limits as bounds;
use registry_state::{Content, InstanceRecord, InstanceState};

use super::check::{Checker, shown};

/// A checked [`v1::InstanceFilter`]. All conditions must hold; without any everything passes (API/Q3).
#[derive(Debug, Clone, Default)]
pub struct Filter {
    states: Vec<InstanceState>,
    zones: Vec<String>,
    tags: Vec<String>,
    metadata: BTreeMap<String, String>,
    rules: Vec<Rule>,
    instance_ids: Vec<String>,
    exclude_protected: bool,
}

#[derive(Debug, Clone)]
struct Rule {
    key: String,
    condition: Condition,
}

#[derive(Debug, Clone)]
enum Condition {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    NotExists,
}

impl Filter {
    /// Checks the filter of a request.
    pub(super) fn new(check: &mut Checker, filter: Option<v1::InstanceFilter>) -> Self {
        let Some(filter) = filter else { return Self::default() };
        let terms = bounds::FILTER_TERMS_MAX;
        at_most(check, "states", filter.states.len(), bounds::FILTER_STATES_MAX);
        at_most(check, "zones", filter.zones.len(), terms);
        at_most(check, "tags", filter.tags.len(), terms);
        at_most(check, "metadata", filter.metadata.len(), terms);
        at_most(check, "metadata_rules", filter.metadata_rules.len(), terms);
        at_most(check, "instance_ids", filter.instance_ids.len(), bounds::FILTER_INSTANCE_IDS_MAX);
        if !check.is_clean() {
            return Self::default();
        }
        let states = states(check, &filter.states);
        for (index, zone) in filter.zones.iter().enumerate() {
            check.optional_name(format_args!("filter.zones[{index}]"), zone);
        }
        for (index, tag) in filter.tags.iter().enumerate() {
            check.text(format_args!("filter.tags[{index}]"), tag, 1, bounds::TAG_BYTES_MAX);
        }
        for (key, value) in &filter.metadata {
            let path = format!("filter.metadata[{}]", shown(key));
            check.key(&path, key, bounds::METADATA_KEY_BYTES_MAX);
            check.text(&path, value, 0, bounds::METADATA_BYTES_MAX);
        }
        let rules = filter.metadata_rules.into_iter().enumerate();
        let rules = rules.filter_map(|(index, rule)| {
            check.within(format!("filter.metadata_rules[{index}]."), |check| Rule::new(check, rule))
        });
        let rules = rules.collect();
        for (index, id) in filter.instance_ids.iter().enumerate() {
            let path = format_args!("filter.instance_ids[{index}]");
            check.require(!id.is_empty(), path, "must not be empty");
            check.instance_id(path, id);
        }
        let mut instance_ids = filter.instance_ids;
        instance_ids.sort();
        Self {
            states,
            zones: filter.zones,
            tags: filter.tags,
            metadata: filter.metadata,
            rules,
            instance_ids,
            exclude_protected: filter.exclude_protected,
        }
    }

    /// True if every instance passes.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
            && self.zones.is_empty()
            && self.tags.is_empty()
            && self.metadata.is_empty()
            && self.rules.is_empty()
            && self.instance_ids.is_empty()
            && !self.exclude_protected
    }

    /// Whether an instance passes.
    pub fn matches(&self, instance: &InstanceRecord) -> bool {
        let content = &instance.content;
        let id = instance.instance_id.as_str();
        (!self.exclude_protected || !instance.is_protected())
            && (self.states.is_empty() || self.states.contains(&instance.state()))
            && (self.zones.is_empty() || self.zones.iter().any(|zone| *zone == content.zone))
            && (self.instance_ids.is_empty()
                || self.instance_ids.binary_search_by(|wanted| wanted.as_str().cmp(id)).is_ok())
            && self.tags.iter().all(|tag| content.tags.iter().any(|has| has == tag))
            && self.metadata.iter().all(|(key, value)| metadata(content, key) == Some(value))
            && self.rules.iter().all(|rule| rule.holds(content))
    }
}

impl Rule {
    fn new(check: &mut Checker, rule: v1::MetadataRule) -> Option<Self> {
        check.key("key", &rule.key, bounds::METADATA_KEY_BYTES_MAX);
        for (index, value) in rule.values.iter().enumerate() {
            check.text(format_args!("values[{index}]"), value, 0, bounds::METADATA_BYTES_MAX);
        }
        let count = rule.values.len();
        let some = (1..=bounds::FILTER_VALUES_MAX).contains(&count);
        let some_rule = format!("must be 1 to {}, not {count}", bounds::FILTER_VALUES_MAX);
        let condition = match rule.op() {
            v1::MetadataOperator::In => {
                check.require(some, "values", some_rule);
                Condition::In(rule.values)
            }
            v1::MetadataOperator::NotIn => {
                check.require(some, "values", some_rule);
                Condition::NotIn(rule.values)
            }
            op @ (v1::MetadataOperator::Exists | v1::MetadataOperator::NotExists) => {
                check.require(count == 0, "values", "must be empty for this op");
                if op == v1::MetadataOperator::Exists { Condition::Exists } else { Condition::NotExists }
            }
            v1::MetadataOperator::Unspecified => {
                check.refuse("op", "must be IN, NOT_IN, EXISTS or NOT_EXISTS");
                return None;
            }
        };
        Some(Self { key: rule.key, condition })
    }

    fn holds(&self, content: &Content) -> bool {
        let found = metadata(content, &self.key);
        match &self.condition {
            Condition::In(values) => found.is_some_and(|found| values.iter().any(|value| value == found)),
            Condition::NotIn(values) => !found.is_some_and(|found| values.iter().any(|value| value == found)),
            Condition::Exists => found.is_some(),
            Condition::NotExists => found.is_none(),
        }
    }
}

/// The value of a metadata key; the pairs are sorted.
fn metadata<'a>(content: &'a Content, key: &str) -> Option<&'a str> {
    let at = content.metadata.binary_search_by(|(has, _)| has.as_str().cmp(key)).ok()?;
    content.metadata.get(at).map(|(_, value)| value.as_str())
}

fn states(check: &mut Checker, states: &[i32]) -> Vec<InstanceState> {
    let mut known = Vec::with_capacity(states.len());
    for (index, state) in states.iter().enumerate() {
        match InstanceState::try_from(*state) {
            Ok(state) if state != InstanceState::Unspecified => known.push(state),
            _ => {
                check.refuse(format_args!("filter.states[{index}]"), "must be STARTING, UP, DRAINING or DOWN")
            }
        }
    }
    known
}

fn at_most(check: &mut Checker, field: &str, count: usize, most: usize) {
    check.require(
        count <= most,
        format_args!("filter.{field}"),
        format!("must be at most {most}, not {count}"),
    );
}

#[cfg(test)]
#[path = "filter_test.rs"]
mod tests;
