//! Do: what can be seen of a container that runs, and of the machine.

pub mod denials;
pub mod facts;
pub mod inspect;
pub mod machine;
pub mod monitor;
pub mod pids;
pub mod ps;
pub mod rootfs;
pub mod stats;
pub mod watch;
