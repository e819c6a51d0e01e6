//! Do: makes and removes cgroups, and knows which of them are whose.
//!
//! A directory says itself who made it, in an extended attribute: the kernel keeps it as long as the directory, so there
//! is no record to go stale. A parent that a launch made says "parent", and whoever goes last removes it; what an
//! operator made says nothing and stays. A container's own cgroup names its container: two launches cannot take one
//! cgroup, and a late delete cannot kill what has the place by now. xattr(7); cgroup v2 has user.* since Linux 5.7.

use super::{Group, delegation, open_dir, open_mount, parts, read_file, write_file};
use crate::error::{Context, Error, Result};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// The attribute that a directory made by a launch has. A workload that owns its cgroup can change the second, which is
/// for runtimes that may not write the first.
const MARKS: [&CStr; 2] = [c"trusted.stockade", c"user.stockade"];
/// Its value on a directory above a container's.
const PARENT: &[u8] = b"parent";

fn mark(dir: BorrowedFd<'_>, value: &[u8]) -> std::result::Result<(), Errno> {
    let mut last = Errno::EPERM;
    for name in MARKS {
        match sys::create_xattr(dir, name, value) {
            Err(e @ (Errno::EPERM | Errno::EOPNOTSUPP)) => last = e,
            other => return other,
        }
    }
    Err(last)
}

fn marked(dir: BorrowedFd<'_>) -> Option<Vec<u8>> {
    MARKS.iter().find_map(|name| sys::get_xattr(dir, name).ok())
}

/// Why a cgroup of others is not taken.
const USED: &str = "exists and is in use";

/// What a container's cgroup says of itself.
#[derive(Debug, Clone)]
pub struct Claim {
    /// What no other launch has.
    pub launch: String,
    /// Where its record is: with that gone, the claim is a leftover.
    pub record: PathBuf,
}

impl Claim {
    fn text(&self) -> String {
        format!("{} {}", self.launch, self.record.display())
    }

    /// The claim that a container other than ours has on a cgroup. A container that is gone has none; neither has an
    /// earlier launch of our own record, which is ours alone by now.
    fn of_another(&self, dir: BorrowedFd<'_>) -> Option<Claim> {
        Claim::read(dir).filter(|c| c.record.exists() && c.record != self.record)
    }

    fn read(dir: BorrowedFd<'_>) -> Option<Claim> {
        let text = String::from_utf8(marked(dir)?).ok()?;
        let (launch, record) = text.split_once(' ')?;
        Some(Claim { launch: launch.to_owned(), record: record.into() })
    }
}

fn used(path: &str, by: Option<&Claim>) -> Error {
    let e = Error::new("cgroup", path, USED);
    match by {
        Some(claim) => e.hint(format!(
            "it is the cgroup of the container at {}; linux.cgroupsPath must name one of the container's own",
            claim.record.display()
        )),
        None => {
            e.hint("linux.cgroupsPath must name a cgroup of the container's own; another container may have this one")
        }
    }
}

/// Refuses a cgroup with processes in it or below, or with cgroups below: what is taken gets our limits and is killed
/// whole at the end, so a config that names /system.slice would end the host's services. One that a container has
/// stays that container's when its last process has ended.
fn refuse_used(dir: BorrowedFd<'_>, path: &str, claim: &Claim) -> Result<()> {
    if let Some(other) = claim.of_another(dir) {
        return Err(used(path, Some(&other)));
    }
    // kernfs counts a link for each directory below.
    let parent = nix::sys::stat::fstat(dir).at("cgroup", path)?.st_nlink > 2;
    // The root of the hierarchy has no such file.
    let events = read_file(dir, "cgroup.events").unwrap_or_default();
    if parent || !events.lines().any(|line| line == super::EMPTY) {
        return Err(used(path, None));
    }
    refuse_frozen(&events, path)
}

/// The same before the launch has made anything, so that what cleans up after it never has such a cgroup on its list.
pub fn check_unused(mount: &Path, path: &str, claim: &Claim) -> Result<()> {
    match Group::open(mount, path)? {
        Some(group) => refuse_used(group.fd(), path, claim),
        None => Ok(()),
    }
}

/// A process that is cloned into a frozen cgroup never runs, and who waits for it does so for ever. `events`: cgroup.events.
fn refuse_frozen(events: &str, path: &str) -> Result<()> {
    if events.contains("frozen 1") {
        return Err(Error::new("cgroup", path, "container's cgroup unexpectedly frozen")
            .hint("it, or one above it, is paused: write 0 to its cgroup.freeze"));
    }
    Ok(())
}

/// Whether `create` failed because the cgroup belongs to others.
pub fn is_used(e: &Error) -> bool {
    e.why == USED
}

/// Makes the cgroup and the directories above it, with these controllers enabled on the way down, and the counted ones
/// where that is possible.
pub fn create(mount: &Path, path: &str, controllers: &[String], counted: &[String], claim: &Claim) -> Result<Group> {
    // The delete of another container may remove a parent that it made just before we use it.
    for _ in 0..8 {
        match try_create(mount, path, controllers, counted, claim) {
            Err(e) if matches!(e.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => {}
            other => return other,
        }
    }
    try_create(mount, path, controllers, counted, claim)
}

fn try_create(mount: &Path, path: &str, controllers: &[String], counted: &[String], claim: &Claim) -> Result<Group> {
    let mut dir = open_mount(mount)?;
    let mut here = String::new();
    let names = parts(path);
    for (n, name) in names.iter().enumerate() {
        enable(mount, dir.as_fd(), &here, controllers, counted)?;
        here = format!("{here}/{name}");
        let fresh = match mkdirat(&dir, *name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(e) => {
                let e = Error::os("cgroup", here.as_str(), e);
                return Err(match e.errno() {
                    Some(Errno::EAGAIN) => {
                        e.hint("cgroup.max.depth or cgroup.max.descendants of a cgroup above it is reached")
                    }
                    _ => e,
                });
            }
        };
        dir = open_dir(dir.as_fd(), *name).at("cgroup", here.as_str())?;
        if n + 1 < names.len() {
            if fresh {
                note(dir.as_fd(), &here, PARENT);
            }
            continue;
        }
        if !fresh {
            refuse_used(dir.as_fd(), &here, claim)?;
        } else if let Err(e) = refuse_frozen(&read_file(dir.as_fd(), "cgroup.events").unwrap_or_default(), &here) {
            // One above it is.
            rmdir(mount, &here)?;
            return Err(e);
        }
        match mark(dir.as_fd(), claim.text().as_bytes()) {
            Err(Errno::EEXIST) => {
                if let Some(other) = claim.of_another(dir.as_fd()) {
                    return Err(used(&here, Some(&other)));
                }
                // A leftover of a container that is gone, or a parent that is none any more: a new one in its place.
                // Whoever has it after all has processes in it, and then this fails.
                rmdir(mount, &here)?;
                return Err(Error::os("cgroup", here, Errno::ENOENT));
            }
            Err(e) => crate::log::debug(&format!("{here}: not marked as ours: {e}")),
            Ok(()) => {}
        }
    }
    Ok(Group { dir, path: here })
}

fn note(dir: BorrowedFd<'_>, path: &str, value: &[u8]) {
    if let Err(e) = mark(dir, value) {
        crate::log::debug(&format!("{path}: not marked as ours: {e}"));
    }
}

/// Marks a cgroup that systemd has made for a container.
pub fn adopt(group: &Group, claim: &Claim) {
    note(group.fd(), &group.path, claim.text().as_bytes());
}

/// Gives a cgroup to the user that the workload is: the directory, and the files that the kernel says are safe to give
/// (cgroup-v2, "Delegation Containment"). Its limits stay ours.
pub fn delegate(group: &Group, uid: u32, gid: Option<u32>) -> Result<()> {
    let usual = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned();
    let list = crate::host::read_small("/sys/kernel/cgroup/delegate", 1 << 16).unwrap_or(usual);
    let (uid, gid) = (nix::unistd::Uid::from_raw(uid), gid.map(nix::unistd::Gid::from_raw));
    let subject = |name: &str| format!("{}/{name} to uid {uid}", group.path);
    nix::unistd::fchown(group.fd(), Some(uid), gid).at("cgroup", subject(""))?;
    for name in list.split_whitespace().filter(|n| !n.contains('/')) {
        match nix::unistd::fchownat(group.fd(), name, Some(uid), gid, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // Files of controllers that this cgroup does not have.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(e) => return Err(Error::os("cgroup", subject(name), e)),
        }
    }
    Ok(())
}

/// Whether a cgroup is that of this launch: it says nothing else, or it names a container that there is not.
pub fn is_of(group: &Group, launch: &str) -> bool {
    Claim::read(group.fd()).is_none_or(|c| c.launch == launch || !c.record.exists())
}

/// Enables controllers for the children of a directory: those that a limit needs, and the others where that is possible.
fn enable(mount: &Path, dir: BorrowedFd<'_>, here: &str, controllers: &[String], counted: &[String]) -> Result<()> {
    if controllers.is_empty() && counted.is_empty() {
        return Ok(());
    }
    let subject = format!("{here}/cgroup.subtree_control");
    let on = read_file(dir, "cgroup.subtree_control").at("cgroup", &subject)?;
    let off = |wanted: &[String]| -> Vec<String> {
        wanted.iter().filter(|c| !on.split_whitespace().any(|o| o == *c)).map(|c| format!("+{c}")).collect()
    };
    let missing = off(controllers);
    let more = off(counted);
    if !more.is_empty() {
        let all = [missing.as_slice(), more.as_slice()].concat().join(" ");
        if write_file(dir, "cgroup.subtree_control", &all).is_ok() {
            return Ok(());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    write_file(dir, "cgroup.subtree_control", &missing.join(" ")).map_err(|e| {
        let have = read_file(dir, "cgroup.controllers").unwrap_or_default();
        let absent = missing.iter().map(|c| &c[1..]).find(|c| !have.split_whitespace().any(|h| h == *c));
        if let Some(controller) = absent {
            return Error::os("cgroup", format!("{subject} {}", missing.join(" ")), e)
                .why(delegation::lack(controller, here))
                .hint(delegation::remedy(mount, here, controller));
        }
        let hint = match e {
            Errno::EBUSY => {
                "a cgroup with processes of its own cannot give controllers to its children (no internal processes)"
                    .to_owned()
            }
            Errno::EACCES | Errno::EPERM => delegation::remedy(mount, &format!("{here}/x"), &missing[0][1..]),
            Errno::EOPNOTSUPP | Errno::EINVAL => {
                "a threaded cgroup has only the controllers cpu, cpuset and pids: see cgroup.type".to_owned()
            }
            _ => String::new(),
        };
        Error::os("cgroup", format!("{subject} {}", missing.join(" ")), e).hint(hint)
    })
}

/// The directories on the way to a cgroup that do not exist yet, topmost first.
pub fn missing(mount: &Path, path: &str) -> Vec<String> {
    let mut here = String::new();
    let mut missing = Vec::new();
    for name in parts(path) {
        here = format!("{here}/{name}");
        if !missing.is_empty() || !mount.join(here.trim_start_matches('/')).exists() {
            missing.push(here.clone());
        }
    }
    missing
}

/// Kills what is left in a cgroup of this launch, removes it and everything below, and those of its parents that a launch
/// made and nobody uses any more. `made`: what this launch was about to make, should it have been killed before it could
/// mark it.
pub fn remove(mount: &Path, path: &str, made: &[String], launch: &str) -> Result<()> {
    if let Some(group) = Group::open(mount, path)? {
        if !is_of(&group, launch) {
            return Ok(());
        }
        // The usual case: empty and without children.
        if !rmdir(mount, path)? {
            group.kill()?;
            group.wait_empty()?;
            remove_below(group.fd()).at("cgroup", path)?;
            if !rmdir(mount, path)? {
                return Err(Error::os("cgroup", path, Errno::EBUSY).hint("something made a cgroup in it meanwhile"));
            }
        }
    }
    remove_parents(mount, path, made);
    Ok(())
}

fn remove_parents(mount: &Path, path: &str, made: &[String]) {
    let mut path = path;
    while let Some((parent, _)) = path.rsplit_once('/').filter(|(p, _)| !p.is_empty()) {
        let ours = || {
            let dir = Group::open(mount, parent).ok().flatten();
            dir.is_some_and(|d| marked(d.fd()).is_some_and(|v| v == PARENT))
        };
        if !(made.iter().any(|m| m == parent) || ours()) || !matches!(rmdir(mount, parent), Ok(true)) {
            break;
        }
        path = parent;
    }
}

/// True: it is gone. False: it has processes or children.
fn rmdir(mount: &Path, path: &str) -> Result<bool> {
    let dir = open_mount(mount)?;
    match unlinkat(&dir, path.trim_start_matches('/'), UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::EBUSY | Errno::ENOTEMPTY) => Ok(false),
        Err(e) => Err(Error::os("cgroup", path, e)),
    }
}

/// The cgroups below one, deepest first.
fn remove_below(dir: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    let remove = |parent: BorrowedFd<'_>, name: &CStr| match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    };
    walk(dir, |_| Ok(()), remove)
}

/// Visits a cgroup and all below it: `enter` on the way down, `leave` with the parent and the name on the way up. The
/// workload decides how deep and how wide they are and what bytes their names have, so this holds one descriptor and no
/// stack frame a level: a tree deeper than RLIMIT_NOFILE must not make a container that nobody can list or delete.
pub fn walk(
    top: BorrowedFd<'_>,
    mut enter: impl FnMut(BorrowedFd<'_>) -> std::result::Result<(), Errno>,
    mut leave: impl FnMut(BorrowedFd<'_>, &CStr) -> std::result::Result<(), Errno>,
) -> std::result::Result<(), Errno> {
    let mut here = open_dir(top, c".")?;
    enter(here.as_fd())?;
    let mut levels: Vec<(CString, Vec<CString>)> = vec![(CString::default(), children(here.as_fd())?)];
    while let Some((_, names)) = levels.last_mut() {
        if let Some(name) = names.pop() {
            match open_dir(here.as_fd(), &*name) {
                Ok(child) => {
                    here = child;
                    enter(here.as_fd())?;
                    levels.push((name, children(here.as_fd())?));
                }
                // Removed meanwhile.
                Err(Errno::ENOENT | Errno::ENODEV) => {}
                Err(e) => return Err(e),
            }
        } else if let Some((name, _)) = levels.pop()
            && !levels.is_empty()
        {
            here = open_dir(here.as_fd(), c"..")?;
            leave(here.as_fd(), &name)?;
        }
    }
    Ok(())
}

/// The names of the cgroups directly below one.
fn children(dir: BorrowedFd<'_>) -> std::result::Result<Vec<CString>, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = match nix::dir::Dir::openat(dir, ".", flags, Mode::empty()) {
        Err(Errno::ENOENT | Errno::ENODEV) => return Ok(Vec::new()),
        other => other?,
    };
    Ok(listing
        .iter()
        .flatten()
        .filter(|e| e.file_type() == Some(nix::dir::Type::Directory))
        .map(|e| e.file_name().to_owned())
        .filter(|n| n.as_c_str() != c"." && n.as_c_str() != c"..")
        .collect())
}
