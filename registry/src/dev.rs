//! Three nodes on one machine, to try things with.
