//! Do: paths inside the container's root, by descriptor.
//!
//! The rootfs is hostile: any component may be a symbolic link, or become one between two of our calls. So a path is
//! resolved once, at the moment of use, by openat2(2) with the rootfs as its root and without magic links, and what is
//! done next is done to the descriptor. Where openat2 answers ENOSYS (also on new kernels, under a systemd unit with
//! RestrictSUIDSGID=yes), a walk without any link takes its place: it refuses more, never less.

use crate::error::{Context, Error, Result};
use crate::plan::{Attr, HostPath, Layers, attr};
use crate::sys::{self, MountAttr};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};
use nix::unistd::fchdir;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

type Res<T> = std::result::Result<T, Errno>;

/// What to say of a source that a link takes out of the bundle.
pub const LEADS_OUT: &str = "a link leads out of the bundle; an operator allows that with the policy key hostPaths, in a file given to --policy";

/// Opens a path as the container will see it. `links`: whether symbolic links may be on the way (they stay inside).
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlag, links: bool) -> Res<OwnedFd> {
    let mut resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    if !links {
        resolve |= ResolveFlag::RESOLVE_NO_SYMLINKS;
    }
    look_up(root, path, flags, resolve)
}

/// openat2(2), tried again while the kernel asks for that; without it, the walk that follows no link.
fn look_up(dir: BorrowedFd<'_>, path: &Path, flags: OFlag, resolve: ResolveFlag) -> Res<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    for _ in 0..128 {
        match openat2(dir, path, how) {
            // A rename or a mount happened during the walk: the kernel asks to try again.
            Err(Errno::EAGAIN) => {}
            Err(Errno::ENOSYS) => return walk(dir, path, flags),
            other => return other,
        }
    }
    Err(Errno::EAGAIN)
}

fn names(path: &Path) -> Res<Vec<&std::ffi::OsStr>> {
    path.components()
        .filter_map(|c| match c {
            Component::Normal(name) => Some(Ok(name)),
            Component::RootDir | Component::CurDir => None,
            _ => Some(Err(Errno::EXDEV)),
        })
        .collect()
}

/// Component by component, following nothing.
fn walk(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> Res<OwnedFd> {
    let names = names(path)?;
    let mut dir = openat(root, ".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let Some((last, parents)) = names.split_last() else {
        return openat(&dir, ".", flags | OFlag::O_CLOEXEC, Mode::empty());
    };
    for name in parents {
        dir = openat(
            &dir,
            *name,
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
    }
    let fd = openat(&dir, *last, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    // O_PATH | O_NOFOLLOW opens a link itself.
    if kind(&fstat(&fd)?) == SFlag::S_IFLNK { Err(Errno::ELOOP) } else { Ok(fd) }
}

/// The type bits of a stat.
pub fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Whether the descriptor is a directory.
pub fn is_dir(fd: BorrowedFd<'_>) -> Res<bool> {
    Ok(kind(&fstat(fd)?) == SFlag::S_IFDIR)
}

const PATH_ONLY: OFlag = OFlag::O_PATH;

/// A path of the host that the bundle names, as a descriptor; not beyond the directory in which it must stay.
pub fn open_host(path: &HostPath, flags: OFlag) -> Res<OwnedFd> {
    if path.judged {
        let root =
            openat(nix::fcntl::AT_FDCWD, "/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        return look_up(root.as_fd(), &path.path, flags, ResolveFlag::RESOLVE_NO_SYMLINKS);
    }
    let Some(base) = &path.within else {
        return openat(nix::fcntl::AT_FDCWD, &path.path, flags | OFlag::O_CLOEXEC, Mode::empty());
    };
    let dir = openat(nix::fcntl::AT_FDCWD, base, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let inside = path.path.strip_prefix(base).map_err(|_| Errno::EXDEV)?;
    look_up(dir.as_fd(), inside, flags, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

/// A detached copy of a mount of the host that the bundle names. Where it must stay within a directory, links that lead
/// out of it are refused at the moment of use, so nothing is looked up twice.
pub fn clone_host(path: &HostPath, recursive: bool) -> Res<OwnedFd> {
    if path.within.is_none() && !path.judged {
        return sys::clone_tree(None, path.path.to_str().ok_or(Errno::EILSEQ)?, recursive);
    }
    let fd = open_host(path, PATH_ONLY)?;
    sys::clone_tree(Some(fd.as_fd()), "", recursive)
}

/// A name in a directory: no link, and nothing on another mount (EXDEV).
pub fn open_here(dir: BorrowedFd<'_>, name: &std::ffi::OsStr, flags: OFlag) -> Res<OwnedFd> {
    look_up(dir, Path::new(name), flags, ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

/// A directory inside the root, made if it is missing.
pub fn make_dir(root: BorrowedFd<'_>, path: &Path, links: bool) -> Res<OwnedFd> {
    match open_in_root(root, path, PATH_ONLY | OFlag::O_DIRECTORY, links) {
        Err(Errno::ENOENT) => make_missing(root, path, links),
        other => other,
    }
}

/// The same of one that was just seen to be missing.
pub fn make_missing(root: BorrowedFd<'_>, path: &Path, links: bool) -> Res<OwnedFd> {
    // The deepest part that exists is resolved with links; what is made below it has none.
    let names = names(path)?;
    let mut at = names.len();
    let mut dir = loop {
        let Some(less) = at.checked_sub(1) else { return Err(Errno::ENOENT) };
        at = less;
        let head: std::path::PathBuf =
            std::iter::once(std::ffi::OsStr::new("/")).chain(names[..at].iter().copied()).collect();
        match open_in_root(root, &head, PATH_ONLY | OFlag::O_DIRECTORY, links) {
            Err(Errno::ENOENT) => {}
            other => break other?,
        }
    };
    for name in &names[at..] {
        match mkdirat(&dir, *name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(e),
        }
        dir =
            openat(&dir, *name, PATH_ONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    }
    Ok(dir)
}

/// A file inside the root to mount something on, made empty if it is missing.
pub fn make_file(root: BorrowedFd<'_>, path: &Path) -> Res<OwnedFd> {
    match open_in_root(root, path, PATH_ONLY, true) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    let (parent, name) = split(path)?;
    let dir = make_dir(root, parent, true)?;
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    drop(openat(&dir, name, flags, Mode::from_bits_truncate(0o644))?);
    openat(&dir, name, PATH_ONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

/// Directory and name of a path that is not the root.
pub fn split(path: &Path) -> Res<(&Path, &std::ffi::OsStr)> {
    Ok((path.parent().ok_or(Errno::EINVAL)?, path.file_name().ok_or(Errno::EINVAL)?))
}

/// What to say where a flag cannot be taken off.
pub fn locked_hint(e: Error, attr: &Attr) -> Error {
    let lifts = Attr { clear: attr.top().1, ..Attr::default() };
    match e.errno() {
        Some(Errno::EPERM) if lifts.clear != 0 => e.hint(format!(
            "the host has flags on the source that are locked in this user namespace: leave out {}",
            lifts.words()
        )),
        _ => e,
    }
}

/// Changes what is named on a mount that is there, and nothing else.
pub fn change(mount: BorrowedFd<'_>, attr: &Attr) -> Res<()> {
    if attr.set_below | attr.clear_below != 0 {
        let deep = MountAttr { set: attr.set_below, clear: attr.clear_below, ..MountAttr::default() };
        sys::mount_setattr(mount, true, deep)?;
    }
    let (set, clear) = attr.top();
    if attr.propagation_below && attr.propagation != 0 {
        sys::mount_setattr(mount, true, MountAttr { propagation: attr.propagation, ..MountAttr::default() })?;
    }
    let propagation = if attr.propagation_below { 0 } else { attr.propagation };
    sys::mount_setattr(mount, false, MountAttr { set, clear, propagation, idmap: None })
}

/// Gives a mount that nobody sees yet its flags. The copy of a shared mount would be its peer, so private is the default.
pub fn apply(mount: BorrowedFd<'_>, attr: &Attr, recursive: bool) -> Res<()> {
    let propagation = if attr.propagation == 0 { attr::MS_PRIVATE } else { attr.propagation };
    let below = attr.propagation_below || attr.propagation == 0;
    // Who was made private is nobody's peer or slave any more, and the whole tree is reached at once or the top alone. So
    // where only the top shall be a slave, all are: they only receive. Where only the top shall be shared, those below
    // stay as the host has them, which is what mount(8) makes of that word.
    let rest = match attr.propagation {
        attr::MS_SLAVE => attr::MS_SLAVE,
        attr::MS_SHARED => 0,
        _ => attr::MS_PRIVATE,
    };
    let (set, clear) = attr.top();
    if recursive {
        let deep = MountAttr {
            set: attr.set_below,
            clear: attr.clear_below,
            propagation: if below { propagation } else { rest },
            idmap: None,
        };
        sys::mount_setattr(mount, true, deep)?;
    }
    let top = MountAttr { set, clear, propagation: if recursive && below { 0 } else { propagation }, idmap: None };
    let done = recursive && below && top.set == attr.set_below && top.clear == attr.clear_below;
    if done { Ok(()) } else { sys::mount_setattr(mount, false, top) }
}

/// A procfs that is mounted nowhere: no image can put anything in its place (CVE-2025-52881).
pub fn private_procfs() -> Result<OwnedFd> {
    let flags = attr::NOSUID | attr::NODEV | attr::NOEXEC;
    new_filesystem("procfs", "private", ("proc", "proc"), &[], &Attr::set(flags)).map_err(|e| match e.errno() {
        Some(Errno::EPERM) => e.hint("the /proc that stockade sees is masked (it runs in a container itself): mount a full one, or allow userNamespacesInside"),
        _ => e,
    })
}

/// A new file system, detached, with the file system's own words where it refuses.
pub fn new_filesystem(
    step: &str,
    subject: &str,
    (fstype, source): (&str, &str),
    options: &[(String, String)],
    attr: &Attr,
) -> Result<OwnedFd> {
    let fd = sys::new_filesystem(fstype, source, options, new_flags(attr))
        .map_err(|r| Error::os(step, subject, r.errno).why(r.said))?;
    if attr.propagation != 0 {
        apply(fd.as_fd(), attr, false).at(step, subject)?;
    }
    Ok(fd)
}

/// An overlay, detached. Its layers are opened first and then named by their descriptors, so that no path is looked up
/// twice and none with a colon or a comma can be taken for two; inside, their places on the host are not to be seen.
pub fn overlay(
    step: &str,
    layers: &Layers,
    options: &[(String, String)],
    attr: &Attr,
    subject: &str,
) -> Result<OwnedFd> {
    let mut held = Vec::new();
    let mut layer = |path: &HostPath| -> Result<String> {
        let shown = path.display().to_string();
        let fd = open_host(path, PATH_ONLY | OFlag::O_DIRECTORY).at(step, &shown).map_err(|e| match e.errno() {
            Some(Errno::EXDEV) => e.hint(LEADS_OUT),
            _ => e.hint("a layer of an overlay is a directory that is there"),
        })?;
        let name = fd.as_raw_fd().to_string();
        held.push(fd);
        Ok(name)
    };
    let lower = layers.lower.iter().map(&mut layer).collect::<Result<Vec<_>>>()?.join(":");
    // fsconfig(2) takes 255 bytes in a value.
    if lower.len() > 255 {
        return Err(Error::new(step, subject, format!("{} layers: more than a mount can name", layers.lower.len()))
            .hint("merge some of them"));
    }
    let mut all = vec![("lowerdir".to_owned(), lower)];
    if let Some((upper, work)) = &layers.upper {
        all.push(("upperdir".to_owned(), layer(upper)?));
        all.push(("workdir".to_owned(), layer(work)?));
    }
    all.extend(options.iter().cloned());
    let dir = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let back = open(".", dir, Mode::empty()).at(step, ".")?;
    let fds = open("/proc/self/fd", dir, Mode::empty()).at(step, "/proc/self/fd")?;
    fchdir(&fds).at(step, "/proc/self/fd")?;
    let made = new_filesystem(step, subject, ("overlay", "overlay"), &all, attr);
    fchdir(&back).at(step, ".")?;
    made.map_err(|e| match e.errno() {
        Some(Errno::EINVAL) => e.hint("an option that overlayfs does not take, layers within each other, or an upperdir and a workdir on two file systems, or on one that cannot carry it (overlay, NFS)"),
        Some(Errno::EBUSY) => e.hint("the upperdir or the workdir is in use by another overlay"),
        _ => e,
    })
}

/// The ids of a mount that nobody sees yet become those that the user namespace gives.
pub fn idmap(mount: BorrowedFd<'_>, userns: BorrowedFd<'_>, below: bool, subject: &str) -> Result<()> {
    const STEP: &str = "idmapped mount";
    let change = MountAttr { idmap: Some(userns), ..MountAttr::default() };
    sys::mount_setattr(mount, below, change).at(STEP, subject).map_err(|e| match e.errno() {
        Some(Errno::EINVAL) => {
            let fs = nix::sys::statfs::fstatfs(mount).map(|s| s.filesystem_type().0).unwrap_or(0);
            let what = match fs {
                0x0102_1994 => "a tmpfs, which Linux 6.3 and newer can idmap",
                0x794c_7630 => "an overlay, which no Linux can idmap: idmap its layers",
                0x6969 | 0x0102_1997 => "NFS or 9p, which no Linux can idmap",
                _ => "of a file system that this kernel cannot idmap, or has been idmapped before",
            };
            e.hint(format!("it is {what}"))
        }
        Some(Errno::EPERM) => e.hint("it is idmapped already, or its file system belongs to another user namespace"),
        _ => e,
    })
}

/// Flags for a new file system on a mount that is still detached.
pub fn new_flags(attr: &Attr) -> u64 {
    attr.top().0
}

/// Expands one `*` inside one component, by what is there.
pub fn expand(root: BorrowedFd<'_>, path: &str) -> Vec<String> {
    let Some(star) = path.find('*') else { return vec![path.to_owned()] };
    let start = path[..star].rfind('/').unwrap_or(0);
    let end = path[star..].find('/').map_or(path.len(), |i| star + i);
    let (before, after) = (&path[start + 1..star], &path[star + 1..end]);
    let parent = Path::new(if start == 0 { "/" } else { &path[..start] });
    let Ok(dir) = open_in_root(root, parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY, true) else { return Vec::new() };
    let Ok(mut listing) = nix::dir::Dir::from_fd(dir) else { return Vec::new() };
    let mut found: Vec<String> = listing
        .iter()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n.len() >= before.len() + after.len() && n.starts_with(before) && n.ends_with(after))
        .map(|n| format!("{}/{n}{}", &path[..start], &path[end..]))
        .collect();
    found.sort();
    found
}

/// Moves a detached mount onto a target.
pub fn attach(mount: &OwnedFd, target: &OwnedFd) -> Res<()> {
    sys::move_mount(mount.as_fd(), target.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root(dir: &Path) -> OwnedFd {
        nix::fcntl::open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn links_stay_inside_the_root() {
        let tmp = tempfile::tempdir().unwrap();
        let inside = tmp.path().join("root");
        std::fs::create_dir_all(inside.join("real")).unwrap();
        std::fs::write(tmp.path().join("secret"), "x").unwrap();
        symlink("/real", inside.join("absolute")).unwrap();
        symlink("../secret", inside.join("up")).unwrap();
        symlink("loop", inside.join("loop")).unwrap();
        let root = root(&inside);
        assert!(open_in_root(root.as_fd(), Path::new("/absolute"), OFlag::O_PATH, true).is_ok());
        assert_eq!(open_in_root(root.as_fd(), Path::new("/up"), OFlag::O_PATH, true).unwrap_err(), Errno::ENOENT);
        assert_eq!(open_in_root(root.as_fd(), Path::new("/loop"), OFlag::O_PATH, true).unwrap_err(), Errno::ELOOP);
        assert_eq!(open_in_root(root.as_fd(), Path::new("/absolute"), OFlag::O_PATH, false).unwrap_err(), Errno::ELOOP);
    }

    #[test]
    fn the_walk_without_openat2_refuses_every_link() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("a/b")).unwrap();
        symlink("a", tmp.path().join("link")).unwrap();
        let root = root(tmp.path());
        assert!(walk(root.as_fd(), Path::new("/a/b"), OFlag::O_PATH).is_ok());
        assert!(walk(root.as_fd(), Path::new("/link/b"), OFlag::O_PATH).is_err());
        assert_eq!(walk(root.as_fd(), Path::new("/link"), OFlag::O_PATH).unwrap_err(), Errno::ELOOP);
        assert_eq!(walk(root.as_fd(), Path::new("/../x"), OFlag::O_PATH).unwrap_err(), Errno::EXDEV);
    }

    #[test]
    fn a_name_in_a_directory_is_no_link_and_leads_nowhere_else() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("dir/real")).unwrap();
        std::fs::write(tmp.path().join("dir/file"), "").unwrap();
        symlink("real", tmp.path().join("dir/link")).unwrap();
        let dir = root(&tmp.path().join("dir"));
        let open = |name: &str, flags| open_here(dir.as_fd(), name.as_ref(), flags);
        assert!(open("real", OFlag::O_RDONLY | OFlag::O_DIRECTORY).is_ok());
        assert!(open("file", OFlag::O_PATH | OFlag::O_NOFOLLOW).is_ok());
        // Also where the caller forgets O_NOFOLLOW.
        assert_eq!(open("link", OFlag::O_RDONLY | OFlag::O_DIRECTORY).unwrap_err(), Errno::ELOOP);
        let proc = root(Path::new("/"));
        assert_eq!(open_here(proc.as_fd(), "proc".as_ref(), OFlag::O_PATH).unwrap_err(), Errno::EXDEV);
    }

    #[test]
    fn missing_directories_are_made_and_a_dangling_link_is_not_followed() {
        let tmp = tempfile::tempdir().unwrap();
        let inside = tmp.path().join("root");
        std::fs::create_dir_all(&inside).unwrap();
        symlink("../outside", inside.join("out")).unwrap();
        let root = root(&inside);
        make_dir(root.as_fd(), Path::new("/x/y/z"), true).unwrap();
        assert!(inside.join("x/y/z").is_dir());
        assert!(make_dir(root.as_fd(), Path::new("/out/y"), true).is_err());
        assert!(make_file(root.as_fd(), Path::new("/out")).is_err());
        assert!(!tmp.path().join("outside").exists());
    }

    #[test]
    fn a_star_stands_for_what_is_there() {
        let tmp = tempfile::tempdir().unwrap();
        for name in ["cpu0/t", "cpu1/t", "cpufreq"] {
            std::fs::create_dir_all(tmp.path().join(name)).unwrap();
        }
        let root = root(tmp.path());
        assert_eq!(expand(root.as_fd(), "/cpu*/t"), ["/cpu0/t", "/cpu1/t", "/cpufreq/t"]);
        assert_eq!(expand(root.as_fd(), "/none/x*"), Vec::<String>::new());
        assert_eq!(expand(root.as_fd(), "/plain"), ["/plain"]);
    }
}
