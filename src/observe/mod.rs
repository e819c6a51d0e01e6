//! Do: what can be seen of a container that runs.

pub mod mounts;
pub mod ps;
pub mod stats;
