//! Do: a process of ours becomes one of a container that runs, or is born into namespaces that exist.
//!
//! ```text
//! runtime                      bridge                                 child (init.rs)
//! clone3 --------------------> all namespaces but cgroup, at once,
//!                              by the pidfd of init
//!                              clone3(PARENT|INTO_CGROUP) ----------> waits for go, then cgroup namespace and tail
//!   <------- pid and pidfd --- exits
//! ```
//!
//! The runtime stays on the host: it has a pid file to write, a terminal to send, and it could not come back from a user
//! namespace. The child is born with nothing of the host's around it but its memory, which it does not let anybody read
//! (CVE-2016-9962), and it is inside the limited cgroup before its first instruction. The cgroup namespace comes after
//! the cgroup: with `nsdelegate` the kernel lets nobody in from outside of it (cgroups(7)).
//!
//! Where the container has the runtime's own user namespace, not being dumpable is no protection from CAP_SYS_PTRACE: then
//! the bridge is the child itself, gives up all that the workload does not get, and only then is born again inside
//! (`emerge`).
//!
//! A launch that joins namespaces by path crosses the same bridge: a user namespace has no way back, and the others that
//! the container gets must be owned by it.

use crate::cgroup::Group;
use crate::error::{Context, Error, Result};
use crate::plan::{Joined, Ns};
use crate::state::ProcessId;
use crate::sync::{Channel, Message, Tag};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// The container that is entered.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its init.
    pub init: ProcessId,
    /// The same, held.
    pub pidfd: BorrowedFd<'a>,
}

/// How it is entered.
#[derive(Debug)]
pub struct Way<'a> {
    /// The namespaces that are the container's and not ours.
    pub namespaces: &'a [Ns],
    /// The cgroup to be born in.
    pub group: Option<&'a Group>,
    /// For the OOM killer.
    pub oom_score_adj: Option<i32>,
    /// How many descriptors above 2 the caller hands on.
    pub preserve_fds: u32,
    /// The bridge is the child, until it emerges.
    pub outside: bool,
}

/// Who returns from `enter`.
#[derive(Debug)]
pub enum Entered {
    /// The runtime.
    Parent {
        /// The child's pid.
        pid: i32,
        /// A descriptor of the child.
        pidfd: OwnedFd,
    },
    /// The process inside.
    Child {
        /// Slot 0: the cgroup namespace that is still to be joined.
        slots: Vec<Option<OwnedFd>>,
        /// A procfs that shows the process, where one of its own would not: it is in another pid namespace than its children.
        procfs: Option<OwnedFd>,
    },
}

/// How a container is born into namespaces that exist.
#[derive(Debug)]
pub struct Birth<'a> {
    /// What is entered, in this order.
    pub joins: &'a [(Joined, OwnedFd)],
    /// CLONE_NEW* of the namespaces that are new.
    pub flags: u64,
    /// The cgroup to be born in.
    pub group: Option<&'a Group>,
    /// For the OOM killer: an ordinary user could not write it later.
    pub oom_score_adj: Option<i32>,
    /// The bridge is the child, until it emerges.
    pub outside: bool,
}

/// A joined namespace, as errors name it.
pub fn subject(joined: &Joined) -> String {
    format!("{} namespace {}", joined.ns.name(), joined.path.display())
}

/// Makes the child of a launch in namespaces of others. The bridge is in the container's cgroup from its beginning: from
/// some of these namespaces there would be no way in any more. Returns twice; `theirs` is the child's end.
pub fn be_born(birth: &Birth<'_>, ours: &Channel, theirs: &Channel) -> Result<Entered> {
    match sys::clone3(0, birth.group.map(Group::fd)).at("setns", "bridge")? {
        sys::Cloned::Child => match settle(birth, theirs) {
            Ok(procfs) => Ok(Entered::Child { slots: Vec::new(), procfs }),
            Err(e) => tell_failure(theirs, &e),
        },
        sys::Cloned::Parent { pid, pidfd } if birth.outside => arrived(pid, pidfd, ours),
        sys::Cloned::Parent { pid, pidfd } => told_by(pid, &pidfd, ours),
    }
}

/// The bridge of a launch. Returns in the child only.
fn settle(birth: &Birth<'_>, theirs: &Channel) -> Result<Option<OwnedFd>> {
    sys::set_parent_death_signal(nix::libc::SIGKILL).at("setns", "death signal")?;
    if let Some(value) = birth.oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", value.to_string()).at("oom_score_adj", value.to_string())?;
    }
    // The processes of a joined pid namespace see the child at once, and its memory is still the runtime's.
    sys::set_dumpable(false).at("setns", "dumpable")?;
    // Where none can be made, the step that needs it says why.
    let procfs = Some(()).filter(|()| birth.outside).and_then(|()| crate::mount::private_procfs().ok());
    for (joined, fd) in birth.joins {
        sys::setns(fd.as_fd(), joined.ns.flag()).at("setns", subject(joined)).map_err(|e| match e.errno() {
            Some(Errno::EPERM) => e.hint("it takes CAP_SYS_ADMIN in the user namespace that owns it"),
            Some(Errno::EINVAL) if joined.ns == Ns::Pid => e.hint("a pid namespace must lie below the runtime's own"),
            _ => e,
        })?;
    }
    if birth.outside {
        // Only children get a new pid namespace, or the joined one; all else is ours at once.
        let flags = nix::sched::CloneFlags::from_bits_retain(birth.flags as i32);
        nix::sched::unshare(flags).at("unshare", "in the joined namespaces")?;
        return theirs.send(Tag::Entered, &[], &[]).map(|()| procfs);
    }
    match sys::clone3(sys::CLONE_PARENT | birth.flags, None) {
        Ok(sys::Cloned::Child) => Ok(None),
        Ok(sys::Cloned::Parent { pid, pidfd }) => tell_birth(theirs, pid, &pidfd),
        Err(e) => Err(Error::os("clone3", "in the joined namespaces", e).hint(match e {
            Errno::ENOMEM => "the init of the joined pid namespace is gone",
            Errno::EAGAIN => "the limit of processes is reached: to join namespaces takes one more for a moment",
            Errno::ENOSPC => "a limit in /proc/sys/user/max_*_namespaces is reached",
            _ => "",
        })),
    }
}

/// The bridge's last word, where all went well.
fn tell_birth(theirs: &Channel, pid: i32, pidfd: &OwnedFd) -> ! {
    let payload = serde_json::to_vec(&pid).unwrap_or_default();
    let sent = theirs.send(Tag::Entered, &payload, &[pidfd.as_fd()]);
    if sent.is_err() {
        let _ = sys::pidfd_send_signal(pidfd.as_fd(), nix::libc::SIGKILL);
    }
    sys::exit(i32::from(sent.is_err()))
}

/// The bridge's last word, where it did not.
fn tell_failure(theirs: &Channel, e: &Error) -> ! {
    let json = serde_json::to_vec(e).unwrap_or_default();
    let _ = theirs.send(Tag::Failed, &json, &[]);
    sys::exit(1)
}

/// What the runtime hears of a bridge that stays for now.
fn arrived(pid: i32, pidfd: OwnedFd, ours: &Channel) -> Result<Entered> {
    match ours.expect_of(Tag::Entered, pidfd.as_fd()).and_then(Message::bare) {
        Ok(()) => Ok(Entered::Parent { pid, pidfd }),
        Err(e) => {
            // It may be waiting for a word of ours.
            let _ = sys::pidfd_send_signal(pidfd.as_fd(), nix::libc::SIGKILL);
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL));
            Err(e)
        }
    }
}

/// The bridge has become as the workload will be, and is born into the pid namespace that it has joined. There the
/// process is seen; so it brings no right, no descriptor and no word of the runtime's. Returns in the child only.
pub fn emerge(theirs: &Channel) -> Result<()> {
    sys::forget_words();
    match sys::clone_sibling() {
        Ok(sys::Cloned::Child) => {}
        Ok(sys::Cloned::Parent { pid, pidfd }) => tell_birth(theirs, pid, &pidfd),
        Err(e) => {
            return Err(Error::os("emerge", "clone", e).hint(match e {
                Errno::ENOMEM => "the init of its pid namespace is gone",
                Errno::EAGAIN => "its limit of processes is reached: to come in takes one more for a moment",
                _ => "",
            }));
        }
    }
    sys::set_parent_death_signal(nix::libc::SIGKILL).at("emerge", "death signal")?;
    nix::unistd::setsid().at("emerge", "setsid")?;
    // Two speak from this end until the bridge is gone, and its word comes first.
    theirs.expect(Tag::Next).map(drop)
}

/// What the runtime hears of the bridge, which is gone then.
fn told_by(bridge: i32, pidfd: &OwnedFd, ours: &Channel) -> Result<Entered> {
    let told = ours.expect_of(Tag::Entered, pidfd.as_fd());
    if told.is_err() {
        let _ = sys::pidfd_send_signal(pidfd.as_fd(), nix::libc::SIGKILL);
    }
    let _ = waitpid(Pid::from_raw(bridge), Some(WaitPidFlag::__WALL));
    emerged(told?)
}

/// The process that a bridge tells of, which must be a child of ours and the one that its descriptor is of.
pub fn emerged(told: Message) -> Result<Entered> {
    let pid: i32 = told.read()?;
    if pid < 1 {
        return Err(Error::new("sync", "Entered", format!("names the process {pid}")));
    }
    let pidfd = told.descriptor()?;
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(Pid::from_raw(pid)), look).at("sync", format!("Entered: process {pid}"))?;
    waitid(Id::PIDFd(pidfd.as_fd()), look).at("sync", "Entered: pidfd")?;
    Ok(Entered::Parent { pid, pidfd })
}

/// Makes a child of ours inside the container. Returns twice; `theirs` is the child's end.
pub fn enter(target: &Target<'_>, way: &Way<'_>, ours: &Channel, theirs: &Channel) -> Result<Entered> {
    let cgroup_namespace = match way.namespaces.contains(&Ns::Cgroup) {
        true => {
            let path = format!("/proc/{}/ns/cgroup", target.init.pid);
            let fd = open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
                .at("setns", "cgroup namespace")
                .map_err(not_ours)?;
            // The number was still init's when we looked.
            if !target.init.alive() {
                return Err(gone());
            }
            Some(fd)
        }
        false => None,
    };
    let born_in = way.group.filter(|_| way.outside).map(Group::fd);
    match sys::clone3(0, born_in).map_err(|e| not_born(e, "bridge"))? {
        sys::Cloned::Child => match cross(target, way, theirs, cgroup_namespace.as_ref()) {
            Ok(()) => Ok(Entered::Child { slots: vec![cgroup_namespace], procfs: None }),
            Err(e) => tell_failure(theirs, &e),
        },
        sys::Cloned::Parent { pid, pidfd } if way.outside => arrived(pid, pidfd, ours),
        sys::Cloned::Parent { pid, pidfd } => told_by(pid, &pidfd, ours),
    }
}

/// The bridge. Returns in the child only.
fn cross(target: &Target<'_>, way: &Way<'_>, theirs: &Channel, cgroup_namespace: Option<&OwnedFd>) -> Result<()> {
    // No directory of the host goes along, not even for the moment until the tail closes all.
    let mut keep: Vec<RawFd> = vec![theirs.fd().as_raw_fd()];
    keep.extend(cgroup_namespace.map(AsRawFd::as_raw_fd));
    keep.extend((3..3 + way.preserve_fds).map(u32::cast_signed));
    let until_inside: Vec<RawFd> = way
        .group
        .map(|g| g.fd().as_raw_fd())
        .into_iter()
        .chain([target.pidfd.as_raw_fd()])
        .chain(keep.clone())
        .collect();
    sys::close_all_but(until_inside).at("setns", "descriptors")?;
    sys::set_parent_death_signal(nix::libc::SIGKILL).at("setns", "death signal")?;
    if let Some(value) = way.oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", value.to_string()).at("oom_score_adj", value.to_string())?;
    }
    sys::set_dumpable(false).at("setns", "dumpable")?;
    let at_once = way.namespaces.iter().filter(|n| **n != Ns::Cgroup);
    let mask = at_once.clone().fold(0, |m, n| m | n.flag());
    if mask != 0 {
        let names: Vec<_> = at_once.map(|n| n.name()).collect();
        sys::setns(target.pidfd, mask).at("setns", names.join(" ")).map_err(not_ours)?;
    }
    if way.outside {
        sys::close_all_but(keep).at("setns", "descriptors")?;
        return theirs.send(Tag::Entered, &[], &[]);
    }
    sys::forget_words();
    match sys::clone3(sys::CLONE_PARENT, way.group.map(Group::fd)) {
        Ok(sys::Cloned::Child) => sys::close_all_but(keep).at("setns", "descriptors"),
        Ok(sys::Cloned::Parent { pid, pidfd }) => tell_birth(theirs, pid, &pidfd),
        Err(e) => Err(not_born(e, "inside the container")),
    }
}

fn not_born(e: Errno, subject: &str) -> Error {
    Error::os("clone3", subject, e).hint(match e {
        Errno::EBUSY => {
            "the cgroup has cgroups with controllers below it, so it takes no processes itself: name one of them with --cgroup"
        }
        Errno::ENOMEM => "the init of its pid namespace is gone",
        Errno::EAGAIN => "its limit of processes is reached",
        Errno::ENODEV => "its cgroup is being removed",
        Errno::EACCES => "the cgroup is not delegated to this user",
        _ => "",
    })
}

fn gone() -> Error {
    Error::new("exec", "init", "is gone: the container has stopped")
}

fn not_ours(e: Error) -> Error {
    match e.errno() {
        Some(Errno::ESRCH | Errno::ENOENT) => gone(),
        Some(Errno::EPERM | Errno::EACCES) => e.hint(
            "the container belongs to somebody else; or it is not started yet, and an ordinary user can enter it only then",
        ),
        _ => e,
    }
}
