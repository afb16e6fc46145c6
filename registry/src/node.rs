//! The composition root: the only place that builds long-lived parts and joins them.
