//! Do: the cgroup of a container: made (`tree`), limited (`honest`), entered by the clone, frozen, killed and removed.
//!
//! cgroup v2 only. Every directory is opened by descriptor below the mount, without following links, and files are
//! opened below that descriptor. Kernel document: admin-guide/cgroup-v2.

#[cfg(feature = "systemd")]
mod dbus;
pub mod delegation;
pub mod device;
pub mod honest;
pub mod systemd;
pub mod tree;

use crate::error::{Context, Error, Result};
use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::uio::pread;
use nix::unistd::write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a killed cgroup may take to become empty.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// How long a freeze may take.
const FROZEN_WITHIN: Duration = Duration::from_secs(10);
/// The line of cgroup.events that says that no process is left.
const EMPTY: &str = "populated 0";

/// A cgroup that is open.
#[derive(Debug)]
pub struct Group {
    dir: OwnedFd,
    path: String,
}

fn open_dir<P: ?Sized + NixPath>(parent: BorrowedFd<'_>, name: &P) -> std::result::Result<OwnedFd, Errno> {
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

impl Group {
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
            // ENODEV: it was removed meanwhile; systemd does so when the last process of a scope ends.
            Ok(()) | Err(Errno::ENODEV) => Ok(()),
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
        let events = match openat(&self.dir, "cgroup.events", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            // The cgroup was removed meanwhile.
            Err(Errno::ENOENT | Errno::ENODEV) => return Ok(line == EMPTY),
            other => other.at("cgroup", &subject)?,
        };
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
        let read = |dir: BorrowedFd<'_>| match read_file(dir, "cgroup.procs") {
            Ok(text) => {
                pids.extend(text.lines().filter_map(|l| l.trim().parse::<i32>().ok()).filter(|p| *p > 0));
                Ok(())
            }
            // Removed meanwhile, or a threaded cgroup, whose processes are counted above it.
            Err(Errno::ENODEV | Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(()),
            Err(e) => Err(e),
        };
        tree::walk(self.fd(), read, |_, _| Ok(())).at("cgroup", &self.path)?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }
}
