//! Tests on clusters of real processes over loopback, one module per promise.

mod autopilot;
mod bad_input;
mod deduplication;
mod dev;
mod disk_full;
mod drain;
mod failover;
mod frozen;
mod guard;
mod limits;
mod membership;
mod one_way;
mod overload;
mod overrides;
mod partitions;
mod pods;
mod polite_end;
mod readmission;
mod reads_and_writes;
mod restarts;
mod settings;
mod tutorial;
mod watches;
