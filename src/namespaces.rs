//! Read: the namespaces that a config names by path.
//!
//! Who joins a namespace, and what is possible in it, depends on the user namespace that owns it; and a user namespace
//! that is joined brings its own maps. All of that is asked of the kernel here, so that the planner can decide. A path
//! is opened only when it is known to lead to a namespace: to open a device is an act.

use crate::bundle::Bundle;
use crate::error::{Context, Error, Result, errno_text};
use crate::host::read_small;
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, pipe2, read, write};
use serde::Serialize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// `NSFS_MAGIC` of statfs(2).
const NSFS: i64 = 0x6e73_6673;

/// A path of linux.namespaces.
#[derive(Debug, Clone, Serialize)]
pub struct Named {
    /// As the config has it.
    pub path: PathBuf,
    /// What is there.
    pub seen: Seen,
}

/// What was found at a path.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Seen {
    /// No namespace, and why.
    Nothing(String),
    /// A namespace.
    Namespace(Facts),
}

/// A namespace.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Its type, as a CLONE_NEW* flag.
    pub flag: u64,
    /// Its inode: what it is known by.
    pub inode: u64,
    /// It is the one that we are in ourselves, or, of mount namespaces, PID 1.
    pub ours: bool,
    /// The user namespace that owns it and those around that one, as far as we can see: inodes.
    pub owners: Vec<u64>,
    /// Of a user namespace: its maps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maps: Option<Maps>,
}

/// The maps of a user namespace, with ids of ours outside: (inside, outside, count).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Maps {
    /// uid_map.
    pub uids: Vec<(u32, u32, u32)>,
    /// gid_map.
    pub gids: Vec<(u32, u32, u32)>,
    /// Whether setgroups(2) is allowed in it.
    pub setgroups: bool,
}

/// Looks at every namespace that the config names by path.
pub fn look(bundle: &Bundle) -> Vec<Named> {
    let listed = bundle.spec.linux().as_ref().and_then(|l| l.namespaces().as_ref()).into_iter().flatten();
    look_at(listed.filter_map(|n| n.path().clone()))
}

/// Looks at namespaces by their paths.
pub fn look_at(paths: impl Iterator<Item = PathBuf>) -> Vec<Named> {
    paths
        .filter(|p| p.is_absolute())
        .map(|path| {
            let seen = match facts(&path) {
                Ok(facts) => Seen::Namespace(facts),
                Err(Errno::EINVAL) => Seen::Nothing("is not a namespace".to_owned()),
                Err(e) => Seen::Nothing(errno_text(e)),
            };
            Named { path, seen }
        })
        .collect()
}

/// Opens a namespace. EINVAL: it is none.
pub fn open_path(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let seen = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    if nix::sys::statfs::fstatfs(&seen)?.filesystem_type().0 as i64 != NSFS {
        return Err(Errno::EINVAL);
    }
    let again = format!("/proc/self/fd/{}", seen.as_raw_fd());
    open(again.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

fn inode(fd: BorrowedFd<'_>) -> std::result::Result<u64, Errno> {
    Ok(fstat(fd)?.st_ino)
}

/// The inode of an open namespace.
pub fn inode_of(fd: &OwnedFd) -> std::result::Result<u64, Errno> {
    inode(fd.as_fd())
}

fn facts(path: &Path) -> std::result::Result<Facts, Errno> {
    let fd = open_path(path)?;
    let flag = sys::ns_type(fd.as_fd())?;
    let inode = inode(fd.as_fd())?;
    let is = |file: String| nix::sys::stat::stat(file.as_str()).is_ok_and(|s| s.st_ino == inode);
    let name = file_of(flag).ok_or(Errno::EINVAL)?;
    // A mount namespace that is joined is taken over: also that of the host, where we are in one of our own.
    let ours = is(format!("/proc/self/ns/{name}")) || (name == "mnt" && is("/proc/1/ns/mnt".to_owned()));
    let mut owners = Vec::new();
    // EPERM: it is owned outside of what we can see.
    let mut owner = if name == "user" { sys::ns_parent(fd.as_fd()) } else { sys::ns_owner(fd.as_fd()) };
    while let Ok(fd) = owner {
        owners.push(self::inode(fd.as_fd())?);
        owner = sys::ns_parent(fd.as_fd());
    }
    let maps = if name == "user" && !ours { maps(&fd).ok() } else { None };
    Ok(Facts { flag, inode, ours, owners, maps })
}

/// The name of its file in /proc/PID/ns.
fn file_of(flag: u64) -> Option<&'static str> {
    const FILES: [(u64, &str); 8] = [
        (0x1000_0000, "user"),
        (0x2_0000, "mnt"),
        (0x2000_0000, "pid"),
        (0x4000_0000, "net"),
        (0x800_0000, "ipc"),
        (0x400_0000, "uts"),
        (0x200_0000, "cgroup"),
        (sys::CLONE_NEWTIME, "time"),
    ];
    FILES.iter().find(|(f, _)| *f == flag).map(|(_, name)| *name)
}

/// The maps of a user namespace can be read of a process in it only, and there may be none: one of ours goes in, and
/// ends when they are read.
fn maps(namespace: &OwnedFd) -> Result<Maps> {
    let (told, tell) = pipe2(OFlag::O_CLOEXEC).at("namespaces", "pipe")?;
    let (wait, end) = pipe2(OFlag::O_CLOEXEC).at("namespaces", "pipe")?;
    match sys::clone3(0, None).at("namespaces", "clone3")? {
        sys::Cloned::Child => {
            drop((told, end));
            let _ = sys::set_parent_death_signal(nix::libc::SIGKILL);
            let entered = sys::setns(namespace.as_fd(), 0x1000_0000).is_ok() && write(&tell, b"1").is_ok();
            if entered {
                // Until the other end is closed, by a hand or by a death.
                let _ = read(&wait, &mut [0u8; 1]);
            }
            sys::exit(i32::from(!entered))
        }
        sys::Cloned::Parent { pid, .. } => {
            drop((tell, wait));
            let entered = loop {
                match read(&told, &mut [0u8; 1]) {
                    Err(Errno::EINTR) => {}
                    other => break other,
                }
            };
            let found = match entered {
                Ok(1) => read_maps(pid),
                _ => Err(Error::new("namespaces", "user", "cannot be entered")),
            };
            drop(end);
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL));
            found
        }
    }
}

/// The lines of a uid_map or gid_map: (inside, outside, count).
pub fn map_lines(text: &str) -> Vec<(u32, u32, u32)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace().map(|w| w.parse::<u32>().ok());
        Some((words.next()??, words.next()??, words.next()??))
    };
    text.lines().filter_map(line).collect()
}

fn read_maps(pid: i32) -> Result<Maps> {
    let map = |file: &str| -> Result<Vec<(u32, u32, u32)>> {
        Ok(map_lines(&read_small(format!("/proc/{pid}/{file}"), 1 << 16)?))
    };
    let setgroups = read_small(format!("/proc/{pid}/setgroups"), 64)?.trim() == "allow";
    Ok(Maps { uids: map("uid_map")?, gids: map("gid_map")?, setgroups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespace_is_known_as_ours() {
        let facts = facts(Path::new("/proc/self/ns/uts")).unwrap();
        assert!(facts.ours && facts.flag == 0x400_0000 && facts.inode > 0, "{facts:?}");
    }

    #[test]
    fn what_is_no_namespace_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        for path in [fifo.as_path(), Path::new("/dev/null"), Path::new("/proc/self/status"), dir.path()] {
            assert_eq!(open_path(path).unwrap_err(), Errno::EINVAL, "{}", path.display());
        }
        assert_eq!(open_path(&dir.path().join("none")).unwrap_err(), Errno::ENOENT);
    }
}
