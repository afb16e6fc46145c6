//! Requests at whole nodes: three of them in one process, over real connections.

mod bad_input;
mod nodes;
mod reads;
mod writes;
