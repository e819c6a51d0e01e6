//! Do: what can be seen of a container that runs.

pub mod facts;
pub mod ps;
pub mod rootfs;
pub mod stats;
