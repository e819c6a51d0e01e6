//! Do: the Landlock domain of the workload.
//!
//! The trees are opened by descriptor, in-root, after the last mount and before the ids change: what its owner alone may
//! walk through is still open to us. A rule is about a file, and the rules from it up to the root add up, so a tree whose
//! parts differ is taken apart: each entry gets its own rule, and only what has less goes without.

use super::Child;
use crate::error::{Context, Error, Result};
use crate::plan::finding;
use crate::plan::landlock::{Landlock, Tree, access};
use crate::policy::Finding;
use crate::{mount, sys};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const STEP: &str = "landlock";

/// More entries than a directory has whose parts differ; a hostile image could have millions.
const MOST: usize = 4096;

impl Child<'_> {
    /// `handed_on`: how many descriptors above 2 the caller gives to the workload.
    pub(super) fn landlock(&mut self, landlock: &Landlock, handed_on: u32) -> Result<()> {
        let net = [(&landlock.tcp_bind, sys::LANDLOCK_BIND_TCP), (&landlock.tcp_connect, sys::LANDLOCK_CONNECT_TCP)];
        let handled_net = net.iter().filter(|(list, _)| list.is_some()).fold(0, |bits, (_, bit)| bits | bit);
        let set = sys::landlock_create_ruleset(landlock.handled, handled_net).at(STEP, "ruleset")?;
        for (list, bit) in net {
            for port in list.iter().flatten() {
                sys::landlock_add_port(set.as_fd(), *port, bit).at(STEP, format!("TCP port {port}"))?;
            }
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open("/", flags, Mode::empty()).at(STEP, "/")?;
        let mut rules = Rules { set: &set, root: root.as_fd(), handled: landlock.handled, findings: Vec::new() };
        rules.inherited((0..3 + handed_on).map(u32::cast_signed))?;
        // Listing and reading is not what the trees differ in.
        rules.put(root.as_fd(), access::READ, "/")?;
        if let Some((top, below)) = landlock.trees.split_first() {
            rules.tree(top, below, access::READ)?;
        }
        self.findings.append(&mut rules.findings);
        sys::landlock_restrict_self(set.as_fd()).at(STEP, "").map_err(|e| match e.errno() {
            Some(Errno::E2BIG) => e.hint("stockade runs in 16 domains itself, and there are no more"),
            _ => e,
        })
    }
}

struct Rules<'a> {
    set: &'a OwnedFd,
    root: BorrowedFd<'a>,
    handled: u64,
    findings: Vec<Finding>,
}

impl Rules<'_> {
    fn put(&self, fd: BorrowedFd<'_>, wanted: u64, shown: &str) -> Result<()> {
        let fits = if mount::is_dir(fd).at(STEP, shown)? { access::ALL } else { access::OF_FILES };
        match sys::landlock_add_path(self.set.as_fd(), fd, wanted & fits & self.handled) {
            // A file of a file system that nobody mounts (a pipe, a socket): no domain denies it.
            Ok(()) | Err(Errno::EBADFD | Errno::ENOMSG) => Ok(()),
            Err(e) => Err(Error::os(STEP, shown, e)),
        }
    }

    /// What the caller hands on as a descriptor can be opened again by its name in /proc/self/fd, as /dev/stdout is, in
    /// the same mode.
    fn inherited(&self, numbers: impl Iterator<Item = i32>) -> Result<()> {
        for number in numbers {
            let fd = sys::borrow(number);
            // The caller counted more descriptors than it opened.
            let Ok(flags) = fcntl(fd, FcntlArg::F_GETFL) else { continue };
            let wanted = match OFlag::from_bits_truncate(flags) {
                flags if flags.contains(OFlag::O_PATH) => continue,
                _ if mount::is_dir(fd).at(STEP, number.to_string())? => {
                    // Nobody names a directory for a stream on purpose.
                    if number < 3 { access::READ } else { access::ALL }
                }
                flags => match flags & OFlag::O_ACCMODE {
                    OFlag::O_WRONLY => access::WRITE_FILE | access::TRUNCATE | access::IOCTL_DEV,
                    OFlag::O_RDWR => access::OF_FILES & !access::EXECUTE,
                    _ => access::READ_FILE | access::IOCTL_DEV,
                },
            };
            self.put(fd, wanted, &format!("descriptor {number}"))?;
        }
        Ok(())
    }

    /// The rules of a tree and of what lies in it. `around`: what holds here already.
    fn tree(&mut self, tree: &Tree, below: &[Tree], around: u64) -> Result<()> {
        let shown = tree.path.display().to_string();
        let fd = match mount::open_in_root(self.root, &tree.path, OFlag::O_PATH, true) {
            Ok(fd) => fd,
            // Not mounted after all, or gone since: what is not there needs no rule.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
            Err(e) => return Err(Error::os(STEP, shown, e)),
        };
        let granted = tree.access();
        // What it grants goes to all below; where that is too much, its parts get it one by one.
        let less = below.iter().any(|t| granted & !(t.access() | around) != 0);
        let apart = less && !tree.write && mount::is_dir(fd.as_fd()).at(STEP, &shown)?;
        let mut here = around;
        if apart {
            self.apart(&fd, tree, &tree.path, below)?;
        } else if granted & !around != 0 {
            self.put(fd.as_fd(), granted, &shown)?;
            here |= granted;
        }
        let mut rest = below;
        while let Some((next, others)) = rest.split_first() {
            let inside = others.iter().take_while(|t| t.path.starts_with(&next.path)).count();
            let (own, others) = others.split_at(inside);
            self.tree(next, own, here)?;
            rest = others;
        }
        Ok(())
    }

    /// The entries of a directory of a tree: its rights for each but the way to a part that has less.
    fn apart(&mut self, dir: &OwnedFd, tree: &Tree, path: &Path, below: &[Tree]) -> Result<()> {
        let names = match entries(dir) {
            Ok(names) if names.len() <= MOST && !tree.whole => names,
            given => {
                let why = match given {
                    Ok(_) if tree.whole => {
                        "9p finds a file anew at each look, and a rule is about one that was found".into()
                    }
                    Ok(names) => format!("{} entries are too many for a rule each", names.len()),
                    Err(e) => format!("it cannot be listed: {}", e.desc()),
                };
                let given = "one rule for all, whatever lies below";
                self.findings.push(finding("landlock", "mounts", &path.display().to_string(), given, &why));
                return self.put(dir.as_fd(), tree.access(), &path.display().to_string());
            }
        };
        for name in names {
            let at = path.join(&name);
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let fd = match openat(dir, name.as_os_str(), flags, Mode::empty()) {
                Ok(fd) => fd,
                // Without a rule it has less, not more.
                Err(Errno::ENOENT | Errno::EACCES) => continue,
                Err(e) => return Err(Error::os(STEP, at.display().to_string(), e)),
            };
            let kind = mount::kind(&fstat(&fd).at(STEP, at.display().to_string())?);
            if kind == SFlag::S_IFLNK || below.iter().any(|t| t.path == at) {
                continue;
            }
            let inside: Vec<Tree> = below.iter().filter(|t| t.path.starts_with(&at)).cloned().collect();
            if inside.iter().any(|t| tree.access() & !t.access() != 0) && kind == SFlag::S_IFDIR {
                self.apart(&fd, tree, &at, &inside)?;
            } else {
                self.put(fd.as_fd(), tree.access(), &at.display().to_string())?;
            }
        }
        Ok(())
    }
}

fn entries(dir: &OwnedFd) -> std::result::Result<Vec<std::ffi::OsString>, Errno> {
    use std::os::unix::ffi::OsStrExt;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = nix::dir::Dir::openat(dir, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let name = std::ffi::OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
        if names.len() > MOST {
            break;
        }
    }
    Ok(names)
}
