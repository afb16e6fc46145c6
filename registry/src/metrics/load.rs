//! What a node carries, and what it has room for.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::{ClassLabel, signed};

/// Load and room at the moment of a scrape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadView {
    /// Requests of clients under way, by class.
    pub under_way: Vec<(&'static str, u64)>,
    /// How long calls wait before anybody looks at them.
    pub delay: Duration,
    /// What is used of each quota, and the quota itself.
    pub quotas: Vec<(&'static str, u64, u64)>,
    /// The disk has refused room to the log and has not granted it since.
    pub disk_full: bool,
    /// Nothing can be written to the log for want of room.
    pub log_stalled: bool,
    /// Segments of the log ready for use.
    pub log_spare_segments: u64,
    /// Space kept for the time when the disk is full.
    pub log_reserve_bytes: u64,
    /// Segments of the log.
    pub log_bytes: u64,
    /// What waits for the disk.
    pub log_queued_bytes: u64,
    /// Free on the log's file system.
    pub disk_free_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelSet)]
struct QuotaLabel {
    quota: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct LoadGauges {
    under_way: Family<ClassLabel, Gauge>,
    delay: Gauge<f64, AtomicU64>,
    quota_used: Family<QuotaLabel, Gauge>,
    quota_limit: Family<QuotaLabel, Gauge>,
    disk_full: Gauge,
    log_stalled: Gauge,
    log_spare_segments: Gauge,
    log_reserve: Gauge,
    log_size: Gauge,
    log_queue: Gauge,
    disk_free: Gauge,
}

impl LoadGauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("calls_under_way", "Calls of clients under way, by class", self.under_way.clone());
        let help = "How long calls wait before anybody looks at them; what is shed depends on it";
        registry.register_with_unit("call_queue_delay", help, Unit::Seconds, self.delay.clone());
        registry.register("quota_used", "What is used of a quota", self.quota_used.clone());
        registry.register("quota_limit", "The quota", self.quota_limit.clone());
        let help = "1 while the disk refuses room to the log: registrations are refused if a majority's does";
        registry.register("disk_full", help, self.disk_full.clone());
        let help = "1 while nothing can be written to the log for want of room";
        registry.register("log_stalled", help, self.log_stalled.clone());
        let help = "Segments of the log ready for use";
        registry.register("log_spare_segments", help, self.log_spare_segments.clone());
        let help = "Space kept for the time when the disk is full";
        registry.register_with_unit("log_reserve", help, Unit::Bytes, self.log_reserve.clone());
        registry.register_with_unit("log_size", "Segments of the log", Unit::Bytes, self.log_size.clone());
        let help = "What waits to be written to the log";
        registry.register_with_unit("log_queue", help, Unit::Bytes, self.log_queue.clone());
        let help = "Free on the file system of the log";
        registry.register_with_unit("disk_free", help, Unit::Bytes, self.disk_free.clone());
    }

    pub(super) fn set(&self, view: &LoadView) {
        for (class, count) in &view.under_way {
            self.under_way.get_or_create(&ClassLabel { class }).set(signed(*count));
        }
        self.delay.set(view.delay.as_secs_f64());
        for (quota, used, limit) in &view.quotas {
            self.quota_used.get_or_create(&QuotaLabel { quota }).set(signed(*used));
            self.quota_limit.get_or_create(&QuotaLabel { quota }).set(signed(*limit));
        }
        self.disk_full.set(view.disk_full.into());
        self.log_stalled.set(view.log_stalled.into());
        self.log_spare_segments.set(signed(view.log_spare_segments));
        self.log_reserve.set(signed(view.log_reserve_bytes));
        self.log_size.set(signed(view.log_bytes));
        self.log_queue.set(signed(view.log_queued_bytes));
        self.disk_free.set(signed(view.disk_free_bytes));
    }
}
