//! Harness of the Kubernetes tests: a namespace per test, objects, commands, faults.

pub mod command;
pub mod disks;
pub mod faults;
pub mod objects;
pub mod operator;
pub mod pods;
pub mod stage;
pub mod workload;
