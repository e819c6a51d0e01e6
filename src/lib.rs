//! stockade: a hardened, minimal OCI container runtime.
//!
//! A launch is a value. Data flows in one direction, and so do the modules; a module uses only those of its own group
//! or of earlier ones, plus [`sys`] and [`error`]; `plan` never uses `sys`.
//!
//! ```text
//! config.json --> Bundle --> Policy --> Plan --> launch --> State
//!    (read)       (read)    (decide)  (decide)    (do)      (do)
//! ```
//!
//! - read: [`bundle`] parses a bundle, by [`json`]; [`host`] takes the facts of the machine, [`namespaces`] and [`sources`] those of the
//!   namespaces and of the paths that a bundle names, [`mountinfo`] the mounts that a process sees; [`secrets`] reads what
//!   the caller hands to a container.
//! - decide, pure: [`policy`] says what silence gets and how far a wish goes; [`seccomp`] compiles profiles;
//!   [`plan`] lays the ladder of steps and `plan::explain` prints it; [`audit`] asks the same rules of a bundle or of a
//!   container that runs, and reports; [`doctor`] asks them of this host.
//! - do: [`own`] and [`stub`] keep the runtime's own binary from containers; [`launch`] climbs the parent's side and [`init`] the child's, talking over [`sync`]; [`join`] enters a
//!   container that runs; [`mount`] resolves paths in the container's root, [`cgroup`] makes and removes the group,
//!   [`hooks`] runs hooks, [`pty`] makes a terminal inside, [`console`] follows a foreground run, [`listener`] and [`handover`] hand
//!   descriptors to sockets of the caller, [`state`] remembers, [`observer`] looks on at a launch for [`narrate`], which tells it
//!   while it happens, and for [`timing`], which says how long it took; [`observe`] reads what a running container is and does, tries what `doctor` asks, and answers what a
//!   watched filter asks (`--denials`, `seccomp record`).
//! - [`cli`] and [`commands`] are the verbs; [`log`] is where errors go; [`sys`] holds all unsafe code.

pub mod audit;
pub mod bundle;
pub mod cgroup;
pub mod cli;
pub mod commands;
pub mod console;
pub mod criu;
pub mod doctor;
pub mod error;
pub mod handover;
pub mod hooks;
pub mod host;
pub mod init;
pub mod join;
pub mod json;
pub mod launch;
pub mod listener;
pub mod log;
pub mod mount;
pub mod mountinfo;
pub mod namespaces;
pub mod narrate;
pub mod observe;
pub mod observer;
pub mod own;
pub mod plan;
pub mod policy;
pub mod pty;
pub mod restore;
pub mod seccomp;
pub mod secrets;
pub mod sources;
pub mod state;
pub mod stub;
pub mod sync;
pub mod sys;
pub mod timing;
