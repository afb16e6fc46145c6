//! Real processes under faults and load, judged by the checkers of `registry_tests::check`.
//!
//! One minute of faults by default; `FAULT_SECONDS=3600 cargo test -p registry-tests --test faults -- --nocapture`
//! makes it an hour, in rounds of a minute with a new cluster each. `FAULT_SEED` repeats the order of faults and
//! calls of a run, as far as real processes repeat anything.

mod clients;
mod nemesis;
mod promises;
mod watchers;
