//! Do: the cgroup of a container: made, limited, entered by the clone, killed and removed.
//!
//! cgroup v2 only. Every directory is opened by descriptor below the mount, without following links, and files are
//! opened below that descriptor. What is written is read back, so that a value that the kernel clipped is known.
//! Kernel document: admin-guide/cgroup-v2.

#[cfg(feature = "systemd")]
mod dbus;
pub mod device;
pub mod systemd;

use crate::error::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::uio::pread;
use nix::unistd::{UnlinkatFlags, unlinkat, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a killed cgroup may take to become empty.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// How long a freeze may take.
const FROZEN_WITHIN: Duration = Duration::from_secs(10);
/// Levels of cgroups that a workload may have made and that we follow.
const MAX_DEPTH: u32 = 64;
/// The line of cgroup.events that says that no process is left.
const EMPTY: &str = "populated 0";

/// A cgroup that is open.
#[derive(Debug)]
pub struct Group {
    dir: OwnedFd,
    path: String,
}

fn open_dir(parent: BorrowedFd<'_>, name: &str) -> std::result::Result<OwnedFd, Errno> {
    openat(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

fn open_mount(mount: &Path) -> Result<OwnedFd> {
    open(mount, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .at("cgroup", mount.display().to_string())
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|c| !c.is_empty()).collect()
}

fn read_file(dir: BorrowedFd<'_>, name: &str) -> std::result::Result<String, Errno> {
    let fd = openat(dir, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())?;
    let mut text = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        match nix::unistd::read(&fd, &mut buffer)? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            n => text.extend_from_slice(&buffer[..n]),
        }
    }
}

fn write_file(dir: BorrowedFd<'_>, name: &str, value: &str) -> std::result::Result<(), Errno> {
    let fd = openat(dir, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())?;
    write(&fd, value.as_bytes()).map(drop)
}

/// Why a cgroup of others is not taken.
const USED: &str = "exists and is in use";

/// Refuses a cgroup with processes in it or below, or with cgroups below: what is taken gets our limits and is killed
/// whole at the end, so a config that names /system.slice would end the host's services.
fn refuse_used(dir: BorrowedFd<'_>, path: &str) -> Result<()> {
    // kernfs counts a link for each directory below.
    let parent = nix::sys::stat::fstat(dir).at("cgroup", path)?.st_nlink > 2;
    // The root of the hierarchy has no such file.
    let events = read_file(dir, "cgroup.events").unwrap_or_default();
    if parent || !events.lines().any(|line| line == "populated 0") {
        return Err(Error::new("cgroup", path, USED)
            .hint("linux.cgroupsPath must name a cgroup of the container's own; another container may have this one"));
    }
    Ok(())
}

/// The same before the launch has made anything, so that what cleans up after it never has such a cgroup on its list.
pub fn check_unused(mount: &Path, path: &str) -> Result<()> {
    match Group::open(mount, path)? {
        Some(group) => refuse_used(group.fd(), path),
        None => Ok(()),
    }
}

/// Whether `Group::create` failed because the cgroup belongs to others.
pub fn is_used(e: &Error) -> bool {
    e.why == USED
}

impl Group {
    /// Makes the cgroup and the directories above it, with these controllers enabled on the way down, and the counted
    /// ones where that is possible.
    pub fn create(mount: &Path, path: &str, controllers: &[String], counted: &[String]) -> Result<Group> {
        // The delete of another container may remove a parent that it made just before we use it.
        for _ in 0..8 {
            match Self::try_create(mount, path, controllers, counted) {
                Err(e) if e.errno() == Some(Errno::ENOENT) => {}
                other => return other,
            }
        }
        Self::try_create(mount, path, controllers, counted)
    }

    fn try_create(mount: &Path, path: &str, controllers: &[String], counted: &[String]) -> Result<Group> {
        let mut dir = open_mount(mount)?;
        let mut here = String::new();
        let mut fresh = false;
        for name in parts(path) {
            enable(dir.as_fd(), &here, controllers, counted)?;
            here = format!("{here}/{name}");
            fresh = match mkdirat(&dir, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) => true,
                Err(Errno::EEXIST) => false,
                Err(e) => return Err(Error::os("cgroup", here.as_str(), e)),
            };
            dir = open_dir(dir.as_fd(), name).at("cgroup", here.as_str())?;
        }
        if !fresh {
            refuse_used(dir.as_fd(), &here)?;
        }
        Ok(Group { dir, path: here })
    }

    /// Opens a cgroup that exists; none where it is gone.
    pub fn open(mount: &Path, path: &str) -> Result<Option<Group>> {
        let mut dir = open_mount(mount)?;
        for name in parts(path) {
            dir = match open_dir(dir.as_fd(), name) {
                Ok(dir) => dir,
                Err(Errno::ENOENT) => return Ok(None),
                Err(e) => return Err(Error::os("cgroup", path, e)),
            };
        }
        Ok(Some(Group { dir, path: path.to_owned() }))
    }

    /// The descriptor, for clone3 and for the device program.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Writes one limit and returns what the kernel made of it.
    pub fn set(&self, file: &str, value: &str) -> Result<String> {
        let subject = format!("{}/{file}={value}", self.path);
        let hint = match file {
            "cpu.max" | "memory.max" | "pids.max" => "the value is outside of what the kernel takes",
            _ => "the file may be missing on this kernel, or the value outside of what it takes",
        };
        let fd = openat(&self.dir, file, OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
            .at("limits", &subject)?;
        write(&fd, value.as_bytes()).at("limits", &subject).map_err(|e| e.hint(hint))?;
        let mut buffer = [0u8; 512];
        let n = pread(&fd, &mut buffer, 0).at("limits", &subject)?;
        Ok(String::from_utf8_lossy(&buffer[..n]).trim().to_owned())
    }

    /// The names of its files.
    pub fn files(&self) -> Vec<String> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let Ok(mut listing) = nix::dir::Dir::openat(self.fd(), ".", flags, Mode::empty()) else { return Vec::new() };
        let mut names: Vec<String> = listing
            .iter()
            .flatten()
            .filter(|e| e.file_type() == Some(nix::dir::Type::File))
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// A file that the kernel announces changes of (`POLLPRI`), for a monitor.
    pub fn watch(&self, file: &str) -> Result<OwnedFd> {
        openat(&self.dir, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .at("cgroup", format!("{}/{file}", self.path))
    }

    /// Reads one of its files.
    pub fn get(&self, file: &str) -> Result<String> {
        read_file(self.fd(), file).at("cgroup", format!("{}/{file}", self.path))
    }

    /// SIGKILL to everything in it and below, also to what is being forked meanwhile.
    pub fn kill(&self) -> Result<()> {
        match write_file(self.fd(), "cgroup.kill", "1") {
            Ok(()) => Ok(()),
            // cgroup.kill came with Linux 5.14.
            Err(Errno::ENOENT) => {
                for pid in self.processes()? {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                }
                Ok(())
            }
            Err(e) => Err(Error::os("cgroup", format!("{}/cgroup.kill", self.path), e)),
        }
    }

    /// Waits until `cgroup.events` says so; the kernel tells by an event.
    fn wait_event(&self, line: &str, within: Duration) -> Result<bool> {
        let subject = format!("{}/cgroup.events", self.path);
        let events = openat(&self.dir, "cgroup.events", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .at("cgroup", &subject)?;
        let end = Instant::now() + within;
        loop {
            let mut buffer = [0u8; 256];
            let n = match pread(&events, &mut buffer, 0) {
                // The cgroup was removed meanwhile.
                Err(Errno::ENODEV) => return Ok(line == EMPTY),
                other => other.at("cgroup", &subject)?,
            };
            if String::from_utf8_lossy(&buffer[..n]).lines().any(|l| l == line) {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::os("cgroup", subject, e)),
            }
        }
    }

    /// Waits until no process is left in it or below.
    fn wait_empty(&self) -> Result<()> {
        if self.wait_event(EMPTY, EMPTY_WITHIN)? {
            return Ok(());
        }
        Err(Error::new("cgroup", self.path.as_str(), "still has processes after SIGKILL")
            .hint("a process in uninterruptible sleep dies only when its I/O ends"))
    }

    /// Whether everything in it is frozen.
    pub fn is_frozen(&self) -> bool {
        self.get("cgroup.events").is_ok_and(|e| e.lines().any(|l| l == "frozen 1"))
    }

    /// Stops or continues everything in it and below, and waits until that is so.
    pub fn freeze(&self, on: bool) -> Result<()> {
        let subject = format!("{}/cgroup.freeze", self.path);
        write_file(self.fd(), "cgroup.freeze", if on { "1" } else { "0" }).at("cgroup", &subject)?;
        if self.wait_event(if on { "frozen 1" } else { "frozen 0" }, FROZEN_WITHIN)? {
            return Ok(());
        }
        if on {
            // Half stopped is worse than running: nobody would know why it hangs.
            let _ = write_file(self.fd(), "cgroup.freeze", "0");
        }
        Err(Error::new("cgroup", subject, "did not take effect within 10 s")
            .hint("a process in uninterruptible sleep stops only when its I/O ends"))
    }

    /// Every process in it and below, the sub-cgroups that the workload made included.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        collect(self.fd(), &self.path, 0, &mut pids)?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }
}

fn collect(dir: BorrowedFd<'_>, path: &str, depth: u32, pids: &mut Vec<i32>) -> Result<()> {
    match read_file(dir, "cgroup.procs") {
        Ok(text) => pids.extend(text.lines().filter_map(|l| l.trim().parse::<i32>().ok()).filter(|p| *p > 0)),
        // Removed meanwhile, or a threaded cgroup, whose processes are counted above it.
        Err(Errno::ENODEV | Errno::ENOENT | Errno::EOPNOTSUPP) => {}
        Err(e) => return Err(Error::os("cgroup", path, e)),
    }
    if depth < MAX_DEPTH {
        for name in children(dir, path)? {
            if let Ok(child) = open_dir(dir, &name) {
                collect(child.as_fd(), &format!("{path}/{name}"), depth + 1, pids)?;
            }
        }
    }
    Ok(())
}

/// The names of the cgroups directly below one.
fn children(dir: BorrowedFd<'_>, path: &str) -> Result<Vec<String>> {
    let mut listing =
        nix::dir::Dir::openat(dir, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .at("cgroup", path)?;
    Ok(listing
        .iter()
        .flatten()
        .filter(|e| e.file_type() == Some(nix::dir::Type::Directory))
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n != "." && n != "..")
        .collect())
}

/// Whether what a file shows after a write is what was written: a line of it has all our words. The kernel rounds
/// memory down to pages, and shows no line for a device without a throttle.
pub fn is_kept(asked: &str, kept: &str) -> bool {
    let same = |asked: &str, kept: &str| match (asked.parse::<u64>(), kept.parse::<u64>()) {
        (Ok(a), Ok(k)) => k <= a && a - k < 65_536 && (a == k || k % 4096 == 0),
        _ => asked == kept || asked.ends_with("=max"),
    };
    let words: Vec<&str> = asked.split_whitespace().collect();
    words.iter().skip(1).all(|w| w.ends_with("=max")) && words.len() > 1
        || kept.lines().any(|line| words.iter().all(|w| line.split_whitespace().any(|k| same(w, k))))
}

/// The directories on the way to a cgroup that do not exist yet, topmost first. Those named after a --root are always
/// counted: the last container in one takes it along.
pub fn missing(mount: &Path, path: &str) -> Vec<String> {
    let mut here = String::new();
    let mut missing = Vec::new();
    for name in parts(path) {
        here = format!("{here}/{name}");
        let ours = name.starts_with("stockade-");
        if ours || !missing.is_empty() || !mount.join(here.trim_start_matches('/')).exists() {
            missing.push(here.clone());
        }
    }
    missing
}

/// Enables controllers for the children of a directory: those that a limit needs, and the others where that is possible.
fn enable(dir: BorrowedFd<'_>, here: &str, controllers: &[String], counted: &[String]) -> Result<()> {
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
        let hint = match e {
            Errno::EBUSY => "a cgroup with processes of its own cannot give controllers to its children (no internal processes)",
            Errno::EACCES | Errno::EPERM => "the controllers are not delegated here: systemctl edit user@.service, then [Service] Delegate=cpu memory pids",
            _ => "the controller is not available here: see cgroup.controllers",
        };
        Error::os("cgroup", format!("{subject} {}", missing.join(" ")), e).hint(hint)
    })
}

/// Kills what is left in a cgroup, removes it and everything below, and those of its parents that the launch had made.
pub fn remove(mount: &Path, path: &str, made: &[String]) -> Result<()> {
    // The usual case: empty and without children.
    if !rmdir(mount, path)?
        && let Some(group) = Group::open(mount, path)?
    {
        group.kill()?;
        group.wait_empty()?;
        remove_below(group.fd(), path, 0)?;
        if !rmdir(mount, path)? {
            return Err(Error::os("cgroup", path, Errno::EBUSY).hint("something made a cgroup in it meanwhile"));
        }
    }
    remove_made(mount, made.strip_suffix(&[path.to_owned()]).unwrap_or(made));
    Ok(())
}

/// Removes parents that a launch made, as far as nobody else uses them by now.
fn remove_made(mount: &Path, made: &[String]) {
    for path in made.iter().rev() {
        if !matches!(rmdir(mount, path), Ok(true)) {
            break;
        }
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

fn remove_below(dir: BorrowedFd<'_>, path: &str, depth: u32) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::new("cgroup", path, format!("more than {MAX_DEPTH} levels of cgroups")));
    }
    for name in children(dir, path)? {
        let path = format!("{path}/{name}");
        match open_dir(dir, &name) {
            Ok(child) => remove_below(child.as_fd(), &path, depth + 1)?,
            Err(Errno::ENOENT) => continue,
            Err(e) => return Err(Error::os("cgroup", path, e)),
        }
        match unlinkat(dir, name.as_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(e) => return Err(Error::os("cgroup", path, e)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_kept;

    #[test]
    fn a_value_is_kept_when_the_file_says_so() {
        for (asked, kept) in [
            ("512", "512"),
            ("max", "max"),
            ("1000000", "999424"),
            ("50000", "50000 100000"),
            ("default 100", "default 100\n8:0 5"),
            ("8:0 rbps=1048576", "8:0 rbps=1048576 wbps=max riops=max wiops=max"),
            ("8:0 wiops=max", ""),
        ] {
            assert!(is_kept(asked, kept), "{asked} -> {kept}");
        }
        for (asked, kept) in
            [("512", "511"), ("0-3", "0-1"), ("1000", "max"), ("8:0 rbps=2", "8:16 rbps=2"), ("100", "")]
        {
            assert!(!is_kept(asked, kept), "{asked} -> {kept}");
        }
    }
}
