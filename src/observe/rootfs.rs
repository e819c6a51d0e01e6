//! Do: a look through a root file system, for programs that would raise rights.
//!
//! The rootfs is hostile: a million entries, directories without end, FIFOs, links out of it. Every step is by descriptor,
//! no link is followed, another file system is not entered, nothing but a regular executable file is opened, and the walk
//! ends at a bound that the result names. It holds one descriptor a level.

use crate::audit::Walk;
use crate::error::{Context, Result};
use crate::sys;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a walk may cost at most.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Entries.
    pub entries: usize,
    /// Levels of directories.
    pub depth: usize,
    /// Time.
    pub time: Duration,
}

/// An image has some ten thousand entries; a large one a few hundred thousand.
pub const BOUND: Bound = Bound { entries: 300_000, depth: 128, time: Duration::from_secs(20) };

/// Names of what a minimal image does not have.
const TOOLS: [&str; 22] = [
    "apk", "apt-get", "ash", "bash", "busybox", "cc", "curl", "dash", "dpkg", "gcc", "gdb", "ld", "make", "nc", "perl",
    "python3", "rpm", "sh", "strace", "tcpdump", "wget", "yum",
];
/// As many as a report can use of each kind.
const MOST: usize = 200;

/// Walks through a rootfs. `deep`: also for tools.
pub fn walk(root: &Path, deep: bool, bound: Bound) -> Result<Walk> {
    let shown = root.display().to_string();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = open(root, flags, Mode::empty()).at("rootfs", &shown)?;
    let device = nix::sys::stat::fstat(&fd).at("rootfs", &shown)?.st_dev;
    let dir = Dir::from_fd(fd).at("rootfs", &shown)?;
    let mut walker = Walker { walk: Walk::default(), bound, device, deep, end: Instant::now() + bound.time };
    walker.run(dir);
    let walk = &mut walker.walk;
    for list in [&mut walk.setuid, &mut walk.capable, &mut walk.tools] {
        list.sort();
    }
    Ok(walker.walk)
}

struct Walker {
    walk: Walk,
    bound: Bound,
    device: u64,
    deep: bool,
    end: Instant,
}

impl Walker {
    fn run(&mut self, top: Dir) {
        let mut path: Vec<u8> = Vec::new();
        let mut stack = vec![(top.into_iter(), 0usize)];
        loop {
            let level = stack.len();
            let Some((entries, length)) = stack.last_mut() else { return };
            path.truncate(*length);
            let Some(next) = entries.next() else {
                stack.pop();
                continue;
            };
            let Ok(entry) = next else {
                // A directory that cannot be read on is one that was not seen.
                self.walk.cut.get_or_insert_with(|| "some directory cannot be read".to_owned());
                stack.pop();
                continue;
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.walk.entries >= self.bound.entries || Instant::now() > self.end {
                let (n, s) = (self.bound.entries, self.bound.time.as_secs());
                self.walk.cut = Some(format!("the walk ended at its bound ({n} entries, {s} s)"));
                return;
            }
            self.walk.entries += 1;
            path.push(b'/');
            path.extend_from_slice(name.to_bytes());
            // A link, a FIFO or a device says nothing that matters here.
            if !matches!(entry.file_type(), Some(Type::Directory | Type::File) | None) {
                continue;
            }
            let here = entries_fd(entries);
            let Ok(stat) = fstatat(here, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFDIR if stat.st_dev == self.device => {
                    if level >= self.bound.depth {
                        let depth = self.bound.depth;
                        self.walk.cut.get_or_insert_with(|| format!("nothing below {depth} levels was looked at"));
                        continue;
                    }
                    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    match openat(here, name, flags, Mode::empty()).and_then(Dir::from_fd) {
                        Ok(dir) => {
                            let length = path.len();
                            stack.push((dir.into_iter(), length));
                        }
                        Err(_) => {
                            self.walk.cut.get_or_insert_with(|| "some directory cannot be read".to_owned());
                        }
                    }
                }
                SFlag::S_IFREG => self.file(here, OsStr::from_bytes(name.to_bytes()), &stat, &path),
                _ => {}
            }
        }
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &OsStr, stat: &FileStat, path: &[u8]) {
        let text = || String::from_utf8_lossy(path).into_owned();
        if stat.st_mode & 0o111 == 0 {
            return;
        }
        // setgid without the bit for the group's execution is a word for locking, and no right.
        let raises = stat.st_mode & 0o4000 != 0 || stat.st_mode & 0o2010 == 0o2010;
        if raises && self.walk.setuid.len() < MOST {
            self.walk.setuid.push(text());
        }
        if self.walk.capable.len() < MOST && capable(dir, name) {
            self.walk.capable.push(text());
        }
        if self.deep && self.walk.tools.len() < MOST && name.to_str().is_some_and(|n| TOOLS.contains(&n)) {
            self.walk.tools.push(text());
        }
    }
}

fn entries_fd(entries: &nix::dir::OwningIter) -> BorrowedFd<'_> {
    sys::borrow(entries.as_raw_fd())
}

/// Whether a file has security.capability. It may have become something else since it was looked at, and to open a
/// device is an act: so it is opened by the descriptor of what it is known to be.
fn capable(dir: BorrowedFd<'_>, name: &OsStr) -> bool {
    let seen = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let has = || -> std::result::Result<bool, Errno> {
        let known = openat(dir, name, seen, Mode::empty())?;
        if nix::sys::stat::fstat(&known)?.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Ok(false);
        }
        let again = format!("/proc/self/fd/{}", known.as_raw_fd());
        let file = open(again.as_str(), OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(!sys::get_xattr(file.as_fd(), c"security.capability")?.is_empty())
    };
    has().unwrap_or(false)
}
