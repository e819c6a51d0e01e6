//! Do: what a tmpfs covers, copied into it (`tmpcopyup`).
//!
//! The source is the image's, so it is hostile, and with a shared rootfs it changes while it is read: every name is opened
//! below a descriptor of its directory, no link is followed, no other mount entered, nothing opened that is not a plain
//! file or a directory, and there is an end to what is copied. The tmpfs is still detached: nobody else sees it.

use crate::error::{Context, Error, Result};
use crate::plan::finding;
use crate::policy::Finding;
use crate::{mount, sys};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, futimens, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};
use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// More is no seed of a /run or a /var but a mistake, or an image that wants our memory.
const MOST_BYTES: u64 = 1 << 30;
const MOST_ENTRIES: u32 = 100_000;
/// Each level holds two descriptors.
const MOST_LEVELS: usize = 128;

const STEP: &str = "tmpcopyup";
const DIR: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Copies what is below `from` to `to`. `target` is its path in the container, for errors. `owner`: the directory's owner,
/// too. What could not be copied is a finding.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, target: &Path, owner: bool) -> Result<Vec<Finding>> {
    let shown = target.display().to_string();
    let from = openat(from, ".", DIR, Mode::empty()).at(STEP, &shown)?;
    let to = openat(to, ".", DIR, Mode::empty()).at(STEP, &shown)?;
    let mut copy = Copy {
        top: &to,
        target,
        bytes: 0,
        entries: 0,
        links: HashMap::new(),
        nodes: 0,
        mounts: 0,
        attributes: BTreeSet::new(),
    };
    let stat = fstat(&from).at(STEP, &shown)?;
    copy.below(&from, &to, Path::new(""), 0)?;
    if owner {
        chown(&to, &stat).at(STEP, &shown)?;
    }
    copy.attributes(&from, &to, Path::new(""))?;
    Ok(copy.left_out())
}

struct Copy<'a> {
    top: &'a OwnedFd,
    target: &'a Path,
    bytes: u64,
    entries: u32,
    /// Where the first name of a file with several was copied to.
    links: HashMap<(u64, u64), PathBuf>,
    /// Device nodes, mounts and attributes that were left out.
    nodes: u32,
    mounts: u32,
    attributes: BTreeSet<String>,
}

impl Copy<'_> {
    fn shown(&self, at: &Path) -> String {
        self.target.join(at).display().to_string()
    }

    fn too_much(&self, at: &Path, what: &str) -> Error {
        Error::new(STEP, self.shown(at), format!("more than {what} to copy"))
            .hint("make the directory smaller in the image, or mount the tmpfs without tmpcopyup")
    }

    fn below(&mut self, from: &OwnedFd, to: &OwnedFd, at: &Path, level: usize) -> Result<()> {
        if level > MOST_LEVELS {
            return Err(self.too_much(at, &format!("{MOST_LEVELS} levels")));
        }
        for name in self.names(from, at)? {
            let path = at.join(&name);
            self.one(from, to, &name, &path, level).map_err(|e| match e.errno() {
                Some(Errno::ENOSPC) => e.hint("the tmpfs is too small for it: its option size"),
                Some(Errno::EACCES) => {
                    e.hint("only another owner may read it: map its ids, or give it to the container's root")
                }
                _ => e,
            })?;
        }
        Ok(())
    }

    fn names(&mut self, dir: &OwnedFd, at: &Path) -> Result<Vec<OsString>> {
        let shown = self.shown(at);
        let listing = openat(dir, ".", DIR, Mode::empty()).at(STEP, &shown)?;
        let mut names = Vec::new();
        for entry in nix::dir::Dir::from_fd(listing).at(STEP, &shown)?.iter() {
            let name = OsString::from_vec(entry.at(STEP, &shown)?.file_name().to_bytes().to_vec());
            if name == "." || name == ".." {
                continue;
            }
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                return Err(self.too_much(at, &format!("{MOST_ENTRIES} files")));
            }
            names.push(name);
        }
        Ok(names)
    }

    fn one(&mut self, from: &OwnedFd, to: &OwnedFd, name: &OsStr, at: &Path, level: usize) -> Result<()> {
        let shown = self.shown(at);
        let stat = match fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // Gone since it was listed.
            Err(Errno::ENOENT) => return Ok(()),
            other => other.at(STEP, &shown)?,
        };
        let kind = mount::kind(&stat);
        let several = stat.st_nlink > 1 && kind != SFlag::S_IFDIR;
        if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)).filter(|_| several) {
            return linkat(self.top, first, to, name, AtFlags::empty()).at(STEP, &shown);
        }
        match kind {
            SFlag::S_IFDIR => {
                mkdirat(to, name, Mode::S_IRWXU).at(STEP, &shown)?;
                let new = openat(to, name, DIR, Mode::empty()).at(STEP, &shown)?;
                match mount::open_here(from.as_fd(), name, DIR) {
                    Ok(old) => {
                        let stat = fstat(&old).at(STEP, &shown)?;
                        self.below(&old, &new, at, level + 1)?;
                        self.finish(&old, &new, &stat, at)?;
                    }
                    // A mount of its own: covered, and not ours to copy.
                    Err(Errno::EXDEV) => self.mounts += 1,
                    Err(e) => return Err(Error::os(STEP, shown, e)),
                }
                return Ok(());
            }
            SFlag::S_IFREG => {
                if !self.file(from, to, name, at)? {
                    return Ok(());
                }
            }
            SFlag::S_IFLNK => {
                let text = readlinkat(from, name).at(STEP, &shown)?;
                symlinkat(text.as_os_str(), to, name).at(STEP, &shown)?;
                self.own_by_name(to, name, &stat).at(STEP, &shown)?;
            }
            kind => match mknodat(to, name, kind, Mode::S_IRUSR, stat.st_rdev) {
                Ok(()) => {
                    self.own_by_name(to, name, &stat).at(STEP, &shown)?;
                    let mode = Mode::from_bits_truncate(stat.st_mode);
                    fchmodat(to, name, mode, FchmodatFlags::FollowSymlink).at(STEP, &shown)?;
                }
                // No device can be made in a user namespace, and none is of use on a nodev mount.
                Err(Errno::EPERM) => {
                    self.nodes += 1;
                    return Ok(());
                }
                Err(e) => return Err(Error::os(STEP, shown, e)),
            },
        }
        if several {
            self.links.insert((stat.st_dev, stat.st_ino), at.to_owned());
        }
        Ok(())
    }

    /// A plain file; whether it was one still when it was opened.
    fn file(&mut self, from: &OwnedFd, to: &OwnedFd, name: &OsStr, at: &Path) -> Result<bool> {
        let shown = self.shown(at);
        // Known to be a plain file before it is opened for reading: to open a device can be an act.
        let place = match mount::open_here(from.as_fd(), name, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
            Err(Errno::EXDEV) => {
                self.mounts += 1;
                return Ok(false);
            }
            other => other.at(STEP, &shown)?,
        };
        let stat = fstat(&place).at(STEP, &shown)?;
        if mount::kind(&stat) != SFlag::S_IFREG {
            return Err(Error::new(STEP, shown, "was replaced while it was copied"));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if self.bytes.saturating_add(size) > MOST_BYTES {
            return Err(self.too_much(at, &format!("{} MiB", MOST_BYTES >> 20)));
        }
        self.bytes += size;
        let magic = format!("/proc/self/fd/{}", place.as_raw_fd());
        let old = open(magic.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).at(STEP, &shown)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let new = openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).at(STEP, &shown)?;
        let mut new = std::fs::File::from(new);
        // No further than it was long: it may grow.
        let mut old = std::fs::File::from(old).take(size);
        let mut buffer = vec![0u8; 1 << 16];
        let mut written = 0u64;
        loop {
            let n = old.read(&mut buffer).at(STEP, &shown)?;
            if n == 0 {
                break;
            }
            new.write_all(&buffer[..n]).at(STEP, &shown)?;
            written += n as u64;
        }
        if written < size {
            self.bytes -= size - written;
        }
        let (old, new) = (OwnedFd::from(old.into_inner()), OwnedFd::from(new));
        self.finish(&old, &new, &stat, at)?;
        Ok(true)
    }

    /// Owner first: a change of owner takes setuid bits and file capabilities away.
    fn finish(&mut self, old: &OwnedFd, new: &OwnedFd, stat: &FileStat, at: &Path) -> Result<()> {
        let shown = self.shown(at);
        chown(new, stat).at(STEP, &shown)?;
        fchmod(new, Mode::from_bits_truncate(stat.st_mode)).at(STEP, &shown)?;
        self.attributes(old, new, at)?;
        let (accessed, modified) = times(stat);
        futimens(new, &accessed, &modified).at(STEP, &shown)
    }

    fn own_by_name(&self, to: &OwnedFd, name: &OsStr, stat: &FileStat) -> std::result::Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        unmapped(fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW))?;
        let (accessed, modified) = times(stat);
        utimensat(to, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)
    }

    fn attributes(&mut self, old: &OwnedFd, new: &OwnedFd, at: &Path) -> Result<()> {
        for name in sys::list_xattrs(old.as_fd()).at(STEP, self.shown(at))? {
            let text = name.to_string_lossy().into_owned();
            // A label comes with the mount: linux.mountLabel.
            if text == "security.selinux" {
                continue;
            }
            let copied = match sys::get_xattr(old.as_fd(), &name) {
                Err(Errno::ENODATA) => Ok(()),
                Ok(value) => sys::set_xattr(new.as_fd(), &name, &value),
                Err(e) => Err(e),
            };
            match copied {
                Ok(()) => {}
                // user.* came to tmpfs with Linux 6.6; trusted.* are the host's root's alone.
                Err(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EINVAL) => {
                    self.attributes.insert(text);
                }
                Err(e) => return Err(Error::os(STEP, format!("{} {text}", self.shown(at)), e)),
            }
        }
        Ok(())
    }

    fn left_out(self) -> Vec<Finding> {
        let asked = format!("tmpcopyup of {}", self.target.display());
        let mut found = Vec::new();
        let mut say = |given: String, why: &str| found.push(finding("host", "mounts", &asked, &given, why));
        if self.nodes > 0 {
            say(format!("without {} device nodes", self.nodes), "no device can be made in a user namespace");
        }
        if self.mounts > 0 {
            say(format!("without the content of {} mounts", self.mounts), "what lies below is not of the image");
        }
        if !self.attributes.is_empty() {
            let names: Vec<String> = self.attributes.into_iter().take(16).collect();
            say(format!("without {}", names.join(" ")), "a tmpfs of this kernel does not carry them for us");
        }
        found
    }
}

/// An id that nobody has outside cannot be given; the copy keeps that of the container's root.
fn unmapped(done: std::result::Result<(), Errno>) -> std::result::Result<(), Errno> {
    match done {
        Err(Errno::EINVAL) => Ok(()),
        other => other,
    }
}

fn chown(fd: &OwnedFd, stat: &FileStat) -> std::result::Result<(), Errno> {
    unmapped(fchown(fd, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid))))
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))
}
