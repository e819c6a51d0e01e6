//! Do: what a process does to itself before it becomes the workload, as init of a container and under `exec` alike.

use crate::error::{Context, Error, Result};
use crate::launch::process::resource;
use crate::plan::{CLONE_NEWTIME, Step};
use crate::{mount, sys};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{Uid, fchown, write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Does a step of `plan::process::Laid::inside`.
pub fn shape(step: &Step) -> Result<()> {
    let name = step.name();
    match step {
        Step::Rlimits { values } => {
            for (limit, soft, hard) in values {
                let subject = format!("{limit} {soft}/{hard}");
                let number = resource(limit).ok_or_else(|| Error::new(name, limit.as_str(), "unknown"))?;
                sys::set_rlimit(0, number, *soft, *hard).at(name, &subject).map_err(|e| match e.errno() {
                    Some(Errno::EPERM) => e.hint(
                        "raising a hard limit needs CAP_SYS_RESOURCE, which stockade lacks here; ask for less",
                    ),
                    _ => e,
                })?;
            }
            Ok(())
        }
        Step::MemoryPolicy { policy } => {
            sys::set_mempolicy(policy.bits, &policy.nodes).at(name, step.subject()).map_err(|e| match e.errno() {
                Some(Errno::EINVAL) => e.hint(
                    "a node that this machine or the cgroup's cpuset does not have, or a mode that this kernel does not know",
                ),
                Some(Errno::ENOSYS) => e.hint("this kernel is built without NUMA"),
                _ => e,
            })
        }
        Step::Personality { personality } => sys::set_personality(*personality as u32).at(name, step.subject()),
        Step::Umask { mask } => {
            umask(Mode::from_bits_truncate(*mask));
            Ok(())
        }
        Step::DenyWriteExecute => sys::deny_write_execute().at(name, step.subject()).map_err(|e| match e.errno() {
            Some(Errno::EINVAL) => e.hint("it came with Linux 6.3; the policy word try goes on without"),
            _ => e,
        }),
        Step::CoreScheduling => sys::new_core_cookie().at(name, step.subject()).map_err(|e| match e.errno() {
            Some(Errno::ENODEV) => e.hint("no SMT is on, so no core is shared; the policy word try goes on without"),
            Some(Errno::EINVAL) => e.hint("this kernel is built without CONFIG_SCHED_CORE"),
            _ => e,
        }),
        other => Err(Error::new("launch", other.name(), "is not done by a process to itself")),
    }
}

/// `PIPEFS_MAGIC`: what pipe(2) makes, which is gone with its last descriptor.
const PIPEFS: FsType = FsType(0x5049_5045);

/// Gives the pipes among our standard streams to the workload's user. To write there it needs no right, but many a program
/// opens /dev/stdout, which asks the owner: an image of nginx that runs as a user does so for its logs.
pub fn own_pipes(uid: u32) -> Result<()> {
    for (stream, name) in [0, 1, 2].map(sys::borrow).into_iter().zip(["stdin", "stdout", "stderr"]) {
        let Ok(stat) = fstat(stream) else { continue };
        let pipe = mount::kind(&stat) == SFlag::S_IFIFO && stat.st_uid != uid;
        if !pipe || fstatfs(stream).is_ok_and(|s| s.filesystem_type() != PIPEFS) {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // Not ours to give: its owner is nobody in this user namespace, as the host's root is.
            Ok(()) | Err(Errno::EPERM | Errno::EINVAL) => {}
            Err(e) => return Err(Error::os("streams", name, e)),
        }
    }
    Ok(())
}

/// Enters a new time namespace whose clocks are off by these. Nothing of the container is in place yet, so /proc is the
/// runtime's own. Unlike a clone into the namespace this works without rights on the host, and gives it to the
/// container's user namespace.
pub fn time_offsets(offsets: &[(String, i64, u32)], step: &Step) -> Result<()> {
    let (name, subject) = (step.name(), step.subject());
    let flag = CloneFlags::from_bits_retain(CLONE_NEWTIME as i32);
    unshare(flag).at(name, &subject)?;
    let lines: String = offsets.iter().map(|(clock, s, ns)| format!("{clock} {s} {ns}\n")).collect();
    // While we are not dumpable the file is root's, and no id of an ordinary user's can open it.
    sys::set_dumpable(true).at(name, "dumpable")?;
    let written = std::fs::write("/proc/self/timens_offsets", lines).at(name, &subject);
    sys::set_dumpable(false).at(name, "dumpable")?;
    written.map_err(|e| match e.errno() {
        Some(Errno::ERANGE) => {
            e.hint("a clock would be before its beginning or after the end of time: see time_namespaces(7)")
        }
        _ => e,
    })?;
    let path = "/proc/self/ns/time_for_children";
    let fd = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).at(name, path)?;
    setns(fd, flag).at(name, &subject)
}

/// The files of /proc/PID/attr that take a label for the next execve, and what is written there. For AppArmor never the
/// file without `apparmor/`: where two LSMs are stacked it may be the other's.
pub fn labels(apparmor: Option<&str>, selinux: Option<&str>) -> [(&'static str, Option<String>); 2] {
    [("apparmor/exec", apparmor.map(|p| format!("exec {p}"))), ("exec", selinux.map(str::to_owned))]
}

/// Opens one of them for ourselves. `procfs` is none that the image can reach, and shows us as `pid`.
pub fn open_label(procfs: BorrowedFd<'_>, pid: i32, file: &str) -> std::result::Result<OwnedFd, Errno> {
    // Not by `self`, which is a link: where openat2 is missing none is followed.
    mount::open_in_root(procfs, &PathBuf::from(format!("/{pid}/attr/{file}")), OFlag::O_WRONLY, false)
}

/// The procfs that the runtime itself uses. Only before the pivot, when "/" is the runtime's and nothing of the image lies
/// on the way.
pub fn runtimes_procfs() -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = open("/proc", flags, Mode::empty()).at("procfs", "/proc")?;
    if fstatfs(&fd).at("procfs", "/proc")?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(Error::new("procfs", "/proc", "is no procfs").hint("mount one where stockade runs"));
    }
    Ok(fd)
}

/// Sets one of them. Only the process itself can, also through a descriptor that another has opened.
pub fn label(fd: std::result::Result<OwnedFd, Errno>, text: &str) -> std::result::Result<(), Errno> {
    write(fd?, text.as_bytes()).map(drop)
}

/// What went wrong with a label, by its text.
pub fn label_error(e: Errno, text: &str) -> Error {
    match text.strip_prefix("exec ") {
        Some(profile) => Error::os("label", format!("AppArmor {profile}"), e).hint(match e {
            Errno::ENOENT => "no such profile is loaded: apparmor_parser --replace FILE loads one",
            Errno::EACCES | Errno::EPERM => "the profile that confines stockade does not let it change to this one",
            _ => "",
        }),
        None => Error::os("label", format!("SELinux {text}"), e).hint(match e {
            Errno::EINVAL => "the loaded policy has no such label",
            Errno::EACCES => "the policy does not let stockade's domain set labels (setexec)",
            _ => "",
        }),
    }
}
