//! What every request carries: who asks, until when, how fresh.

pub mod page;
