//! Flags of reads: how fresh, and which instances.

use std::time::Duration;

use clap::{Args, ValueEnum};
use registry_proto::v1;

use super::instance::proto_duration;
use super::value::{self, Start, State};

/// How fresh the answer has to be.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Freshness {
    /// How fresh the answer has to be [default: linearizable]
    #[arg(long, value_enum, value_name = "LEVEL", conflicts_with = "stale", help_heading = "Consistency")]
    pub(crate) consistency: Option<Level>,

    /// What the node asked knows, with its age; works without a leader (--consistency stale)
    #[arg(long, help_heading = "Consistency")]
    pub(crate) stale: bool,

    /// Oldest data acceptable, 1ms to 24h; means --stale unless a level is given
    #[arg(long, value_name = "TIME", value_parser = value::positive_duration, help_heading = "Consistency")]
    pub(crate) max_staleness: Option<Duration>,

    /// Show at least this revision, as REVISION or EPOCH:REVISION
    #[arg(long, value_name = "POSITION", help_heading = "Consistency")]
    pub(crate) min_revision: Option<Start>,
}

/// A consistency level, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Sees every write answered before the read began
    Linearizable,
    /// What the node asked knows
    Stale,
    /// Linearizable while a leader can be reached, else stale
    LinearizableOrStale,
}

impl Freshness {
    /// The level asked for.
    pub(crate) fn level(&self) -> v1::Consistency {
        match self.consistency {
            Some(Level::Linearizable) => v1::Consistency::Linearizable,
            Some(Level::Stale) => v1::Consistency::Stale,
            Some(Level::LinearizableOrStale) => v1::Consistency::LinearizableOrStale,
            None if self.stale || self.max_staleness.is_some() => v1::Consistency::Stale,
            None => v1::Consistency::Linearizable,
        }
    }

    /// `max_staleness` of the request.
    pub(crate) fn max_staleness(&self) -> Option<prost_types::Duration> {
        self.max_staleness.map(proto_duration)
    }

    /// `(min_revision, min_revision_epoch)` of the request.
    pub(crate) fn min_revision(&self) -> (u64, u64) {
        self.min_revision.map_or((0, 0), |start| (start.revision, start.epoch.unwrap_or_default()))
    }
}

/// Which instances. All conditions given must hold.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Filter {
    /// In one of these states
    #[arg(long, value_enum, value_delimiter = ',', help_heading = "Filter")]
    pub(crate) state: Vec<State>,

    /// In one of these zones
    #[arg(long, value_delimiter = ',', help_heading = "Filter")]
    pub(crate) zone: Vec<String>,

    /// With every one of these tags
    #[arg(long, value_delimiter = ',', help_heading = "Filter")]
    pub(crate) tag: Vec<String>,

    /// With every one of these metadata pairs
    #[arg(long, value_name = "KEY=VALUE", value_parser = value::pair, help_heading = "Filter")]
    pub(crate) metadata: Vec<(String, String)>,

    /// With one of these ids
    #[arg(long, value_name = "ID", value_delimiter = ',', help_heading = "Filter")]
    pub(crate) id: Vec<String>,

    /// Without those that only the mass-expiry guard keeps: they may be dead
    #[arg(long, help_heading = "Filter")]
    pub(crate) exclude_protected: bool,
}

impl Filter {
    /// The filter of the request; `None` if no condition was given.
    pub(crate) fn message(&self) -> Option<v1::InstanceFilter> {
        let filter = v1::InstanceFilter {
            states: self.state.iter().map(|state| v1::InstanceState::from(*state).into()).collect(),
            zones: self.zone.clone(),
            tags: self.tag.clone(),
            metadata: self.metadata.iter().cloned().collect(),
            instance_ids: self.id.clone(),
            exclude_protected: self.exclude_protected,
            ..Default::default()
        };
        (filter != v1::InstanceFilter::default()).then_some(filter)
    }
}
