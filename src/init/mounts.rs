//! Do: what the container sees, built by the child.
//!
//! Every target lies in the rootfs, which is hostile: it is resolved once, by descriptor (see `mount`), and what is
//! mounted is moved onto that descriptor. A mount is made or copied detached and gets its flags before anybody sees it.

use super::{Child, copyup};
use crate::error::{Context, Error, Result};
use crate::plan::{Attr, Device, Layers, Source, Step, attr};
use crate::{mount, sys};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

impl Child<'_> {
    pub(super) fn attach_rootfs(&mut self, source: &Source, at: &Path, recursive: bool, attr: &Attr) -> Result<()> {
        let shown = at.display().to_string();
        let fd = match source {
            Source::Slot(n) => self.take(*n)?,
            Source::Path(path) => {
                let subject = path.display().to_string();
                let fd = mount::clone_host(path, recursive).at("root.path", &subject).map_err(|e| match e.errno() {
                    Some(Errno::EXDEV) => e.hint(mount::LEADS_OUT),
                    Some(Errno::EINVAL) => e.hint(
                        "there are mounts below the rootfs, which an ordinary user cannot leave out: unmount them",
                    ),
                    _ => e,
                })?;
                mount::apply(fd.as_fd(), attr, recursive).at("root.path", &subject)?;
                fd
            }
        };
        let there = |at: &Path| open(at, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        let target = match there(at) {
            // A mapped root may be unable to walk there. Hooks that mount by path do not find it then; all others work.
            Err(Errno::EACCES) => there(Path::new("/")),
            other => other,
        };
        let target = target.at("root.path", &shown)?;
        mount::attach(&fd, &target).at("root.path", &shown)?;
        self.root = Some(fd);
        Ok(())
    }

    pub(super) fn bind(
        &mut self,
        step: &Step,
        source: &Source,
        target: &Path,
        recursive: bool,
        attr: &Attr,
    ) -> Result<()> {
        let subject = step.subject();
        let fd = match source {
            Source::Slot(n) => self.take(*n)?,
            Source::Path(path) => {
                let fd = mount::clone_host(path, recursive).at("bind", &subject).map_err(|e| match e.errno() {
                    Some(Errno::EXDEV) => e.hint(mount::LEADS_OUT),
                    Some(Errno::EINVAL) => {
                        e.hint("there are mounts below the source, which an ordinary user cannot leave out: use rbind")
                    }
                    _ => e,
                })?;
                mount::apply(fd.as_fd(), attr, recursive)
                    .at("bind", &subject)
                    .map_err(|e| mount::locked_hint(e, attr))?;
                fd
            }
        };
        let root = self.root()?;
        let target_fd = if mount::is_dir(fd.as_fd()).at("bind", &subject)? {
            mount::make_dir(root, target, true)
        } else {
            mount::make_file(root, target)
        }
        .at("bind", &subject)
        .map_err(|e| target_hint(e, target))?;
        mount::attach(&fd, &target_fd).at("bind", &subject).map_err(|e| match e.errno() {
            Some(Errno::ENOTDIR | Errno::EINVAL) => e.hint("a directory goes onto a directory, a file onto a file"),
            _ => e,
        })?;
        // The host's own, where a namespace is joined.
        let kernel = ["/proc", "/sys"].iter().any(|at| target == Path::new(at));
        sys::leave(target_fd);
        self.mounted(target, kernel, fd);
        Ok(())
    }

    pub(super) fn devices(&mut self, nodes: &[Device], bind: bool, links: &[(String, PathBuf)]) -> Result<()> {
        let root = self.root()?;
        // Most share one directory: resolve it once.
        let mut last: Option<(PathBuf, OwnedFd)> = None;
        for node in nodes {
            let subject = node.path.display().to_string();
            let (parent, name) = mount::split(&node.path).at("devices", &subject)?;
            let dir = match last.take() {
                Some((path, fd)) if path == parent => fd,
                _ => mount::make_dir(root, parent, true).at("devices", &subject).map_err(|e| target_hint(e, parent))?,
            };
            let made = if bind { bind_node(&dir, name, node) } else { make_node(&dir, name, node) };
            made.at("devices", &subject)?;
            last = Some((parent.to_owned(), dir));
        }
        for (target, path) in links {
            let subject = path.display().to_string();
            let (parent, name) = mount::split(path).at("devices", &subject)?;
            let dir = match last.take() {
                Some((path, fd)) if path == parent => fd,
                _ => mount::make_dir(root, parent, true).at("devices", &subject)?,
            };
            match symlinkat(target.as_str(), &dir, name) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(Error::os("devices", subject, e)),
            }
            last = Some((parent.to_owned(), dir));
        }
        Ok(())
    }

    pub(super) fn filesystem(&mut self, step: &Step) -> Result<()> {
        let Step::Filesystem { fstype, source, target, options, attr, copy_up } = step else { return Ok(()) };
        let (name, subject) = (step.name(), step.subject());
        let mut options = options.clone();
        // A link at /proc or /sys would put the kernel's files where the image wants them (CVE-2019-19921).
        let links = !matches!(fstype.as_str(), "proc" | "sysfs");
        let root = self.root()?;
        let there = mount::open_in_root(root, target, OFlag::O_PATH | OFlag::O_DIRECTORY, links);
        let made = matches!(there, Err(Errno::ENOENT));
        let target_fd = if made { mount::make_missing(root, target, links) } else { there }
            .at(name, &subject)
            .map_err(|e| target_hint(e, target))?;
        if fstype == "tmpfs" && !made && !options.iter().any(|(k, _)| k == "mode") {
            // Who is silent about the mode means that of the directory: /tmp stays 1777, and /root 0700.
            let mode = fstat(&target_fd).at(name, &subject)?.st_mode & 0o7777;
            options.push(("mode".to_owned(), format!("{mode:o}")));
        }
        if fstype == "proc" && self.outside {
            // By itself it would show the pid namespace that we are in. What is at this /proc is still the runtime's.
            options.push(("pidns".to_owned(), "/proc/self/ns/pid_for_children".to_owned()));
        }
        let fd = mount::new_filesystem(name, &subject, (fstype, source), &options, attr)
            .map_err(|e| filesystem_hint(e, fstype))?;
        if *copy_up {
            let owned = options.iter().any(|(k, _)| k == "uid" || k == "gid");
            let left = copyup::copy(target_fd.as_fd(), fd.as_fd(), target, !owned)?;
            self.findings.extend(left);
        }
        mount::attach(&fd, &target_fd).at(name, &subject)?;
        sys::leave(target_fd);
        self.mounted(target, !links, fd);
        Ok(())
    }

    /// Remembers what shows the kernel's own files, and forgets what is below a new mount: nobody sees that any more.
    fn mounted(&mut self, target: &Path, kernel: bool, fd: OwnedFd) {
        self.kernel.retain(|(at, _)| !at.starts_with(target));
        if kernel {
            self.kernel.push((target.to_owned(), fd));
        } else {
            sys::leave(fd);
        }
    }

    /// Where a path is looked up: in a procfs or sysfs itself if it lies in one. Looked up from the root, what is to be
    /// masked would not be found while somebody who shares the image has a link in the place of /proc, and would be there
    /// again when they have put it back (CVE-2019-19921, as a race).
    fn base<'p>(&self, path: &'p Path) -> Result<(BorrowedFd<'_>, &Path, &'p Path)> {
        for (at, fd) in self.kernel.iter().rev() {
            if let Ok(rest) = path.strip_prefix(at) {
                return Ok((fd.as_fd(), at, rest));
            }
        }
        Ok((self.root()?, Path::new("/"), path.strip_prefix("/").unwrap_or(path)))
    }

    pub(super) fn overlay(
        &mut self,
        step: &Step,
        target: &Path,
        layers: &Layers,
        options: &[(String, String)],
        attr: &Attr,
    ) -> Result<()> {
        let (name, subject) = (step.name(), step.subject());
        let fd = mount::overlay(name, layers, options, attr, &subject)?;
        let target_fd =
            mount::make_dir(self.root()?, target, true).at(name, &subject).map_err(|e| target_hint(e, target))?;
        mount::attach(&fd, &target_fd).at(name, &subject)?;
        sys::leave(target_fd);
        self.mounted(target, false, fd);
        Ok(())
    }

    pub(super) fn set_attr(&self, step: &Step, target: &Path, attr: &Attr) -> Result<()> {
        let (name, subject) = (step.name(), step.subject());
        let root = self.root()?;
        let opened = match target.as_os_str() == "/" {
            true => None,
            false => Some(mount::open_in_root(root, target, OFlag::O_PATH, true).at(name, &subject)?),
        };
        mount::change(opened.as_ref().map_or(root, AsFd::as_fd), attr).at(name, &subject).map_err(|e| match e.errno() {
            Some(Errno::EINVAL) => e.hint("nothing is mounted there"),
            _ => mount::locked_hint(e, attr),
        })
    }

    pub(super) fn mask(&mut self, paths: &[String]) -> Result<()> {
        // One empty directory and one /dev/null serve them all.
        let (mut empty, mut null): (Option<OwnedFd>, Option<OwnedFd>) = (None, None);
        let mut all = Vec::new();
        for path in paths {
            let (base, at, rest) = self.base(Path::new(path))?;
            let found = mount::expand(base, &format!("/{}", rest.display()));
            all.extend(found.into_iter().map(|p| (base, at.join(&p[1..]).display().to_string(), p)));
        }
        for (base, path, inside) in all {
            let target = match mount::open_in_root(base, Path::new(&inside), OFlag::O_PATH, true) {
                Ok(fd) => fd,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => continue,
                Err(e) => return Err(Error::os("mask", path, e)),
            };
            let dir = mount::is_dir(target.as_fd()).at("mask", &path)?;
            let model = if dir { &mut empty } else { &mut null };
            let cover = match model {
                Some(first) => sys::clone_tree(Some(first.as_fd()), "", false),
                None if dir => {
                    let flags = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
                    let options = [("mode".to_owned(), "0555".to_owned())];
                    sys::new_filesystem("tmpfs", "tmpfs", &options, flags).map_err(|r| r.errno)
                }
                None => host_null(),
            }
            .at("mask", &path)?;
            mount::attach(&cover, &target).at("mask", &path)?;
            sys::leave(target);
            match model {
                Some(_) => sys::leave(cover),
                None => *model = Some(cover),
            }
        }
        Ok(())
    }

    pub(super) fn readonly_paths(&mut self, paths: &[String]) -> Result<()> {
        for path in paths {
            let (base, _, rest) = self.base(Path::new(path))?;
            let target = match mount::open_in_root(base, &Path::new("/").join(rest), OFlag::O_PATH, true) {
                Ok(fd) => fd,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => continue,
                Err(e) => return Err(Error::os("read-only paths", path, e)),
            };
            // A copy of what is there, made read-only before it is seen, then put over it: never two looks at a path.
            let copy = sys::clone_tree(Some(target.as_fd()), "", true).at("read-only paths", path)?;
            let change = sys::MountAttr { set: attr::RDONLY, ..sys::MountAttr::default() };
            sys::mount_setattr(copy.as_fd(), true, change).at("read-only paths", path)?;
            mount::attach(&copy, &target).at("read-only paths", path)?;
            [copy, target].into_iter().for_each(sys::leave);
        }
        Ok(())
    }
}

fn filesystem_hint(e: Error, fstype: &str) -> Error {
    match (e.errno(), fstype) {
        (Some(Errno::ENODEV), _) => e.hint("this kernel has no such file system"),
        (Some(Errno::EPERM), "proc" | "sysfs") => e.hint("the host's own is masked here (stockade runs in a container itself), or a namespace that it shows is not new"),
        (Some(Errno::EPERM), _) => e.hint("this file system cannot be mounted in a user namespace"),
        (Some(Errno::EINVAL), _) => e.hint("an option that this file system does not take"),
        _ => e,
    }
}

fn target_hint(e: Error, target: &Path) -> Error {
    let shown = target.display();
    match e.errno() {
        Some(Errno::EROFS) => e.hint(format!("make {shown} in the rootfs: it lies on a read-only file system")),
        Some(Errno::EACCES | Errno::EOVERFLOW | Errno::EPERM) => e.hint(format!(
            "make {shown} in the rootfs, or give the rootfs to the container's root: its owner is not mapped here"
        )),
        Some(Errno::ELOOP) => {
            e.hint("it must be mounted on ordinary directory: a symbolic link there would lead the mount elsewhere")
        }
        Some(Errno::ENOTDIR) => {
            e.hint(format!("{shown} or something on the way to it is a file, and a directory is needed"))
        }
        _ => e,
    }
}

/// The host's /dev/null as a detached mount, verified to be it (CVE-2025-31133).
fn host_null() -> std::result::Result<OwnedFd, Errno> {
    let fd = sys::clone_tree(None, "/dev/null", false)?;
    let stat = fstat(&fd)?;
    if mount::kind(&stat) != SFlag::S_IFCHR || stat.st_rdev != makedev(1, 3) {
        return Err(Errno::ENODEV);
    }
    Ok(fd)
}

fn make_node(dir: &OwnedFd, name: &std::ffi::OsStr, node: &Device) -> std::result::Result<(), Errno> {
    let (kind, dev) = match node.kind {
        'b' => (SFlag::S_IFBLK, makedev(node.major.into(), node.minor.into())),
        'p' => (SFlag::S_IFIFO, 0),
        _ => (SFlag::S_IFCHR, makedev(node.major.into(), node.minor.into())),
    };
    match mknodat(dir, name, kind, Mode::from_bits_truncate(node.mode), dev) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let fd = openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
            let stat = fstat(&fd)?;
            // Never chmod or chown what we did not make (CVE-2026-88265).
            return if mount::kind(&stat) == kind && (stat.st_rdev == dev || node.kind == 'p') {
                Ok(())
            } else {
                Err(Errno::EEXIST)
            };
        }
        Err(e) => return Err(e),
    }
    if (node.uid, node.gid) != (0, 0) {
        fchownat(
            dir,
            name,
            Some(Uid::from_raw(node.uid)),
            Some(Gid::from_raw(node.gid)),
            nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
        )?;
    }
    Ok(())
}

/// The host's node of this number: at the same path, or where udev and the kernel's names have it.
fn host_node(node: &Device) -> std::result::Result<OwnedFd, Errno> {
    let (kind, class) = if node.kind == 'b' { (SFlag::S_IFBLK, "block") } else { (SFlag::S_IFCHR, "char") };
    let number = makedev(node.major.into(), node.minor.into());
    // No udev, no /dev/char: the kernel says what devtmpfs calls it.
    let by_kernel = || {
        let uevent = format!("/sys/dev/{class}/{}:{}/uevent", node.major, node.minor);
        let text = crate::host::read_small(uevent, 4096).ok()?;
        let name = text.lines().find_map(|l| l.strip_prefix("DEVNAME="))?;
        Some(Path::new("/dev").join(name))
    };
    let usual = [node.path.clone(), format!("/dev/{class}/{}:{}", node.major, node.minor).into()];
    for place in usual.into_iter().chain(std::iter::once_with(by_kernel).flatten()) {
        let Ok(source) = sys::clone_tree(None, &place.display().to_string(), false) else { continue };
        let stat = fstat(&source)?;
        if mount::kind(&stat) == kind && stat.st_rdev == number {
            return Ok(source);
        }
    }
    Err(Errno::ENODEV)
}

fn bind_node(dir: &OwnedFd, name: &std::ffi::OsStr, node: &Device) -> std::result::Result<(), Errno> {
    if node.kind == 'p' {
        return make_node(dir, name, node);
    }
    // In a user namespace mknod is EPERM: the host's own node is bound, and checked to be the right one.
    let source = host_node(node)?;
    sys::mount_setattr(
        source.as_fd(),
        false,
        sys::MountAttr { set: attr::NOSUID | attr::NOEXEC, propagation: attr::MS_PRIVATE, ..sys::MountAttr::default() },
    )?;
    // O_EXCL: a node of the image is not opened, because to open some of them is an act (/dev/watchdog).
    let new = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let target = match openat(dir, name, new, Mode::from_bits_truncate(0o644)) {
        Err(Errno::EEXIST) => openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?,
        other => other?,
    };
    mount::attach(&source, &target)?;
    [source, target].into_iter().for_each(sys::leave);
    Ok(())
}
