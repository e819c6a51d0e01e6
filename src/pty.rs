//! Do: a terminal of the container's own, made from inside of it.
//!
//! Used by the launch, before the workload exists, and by whoever enters a container that has been running and may have
//! put anything at /dev/pts. So nothing there is opened before it is known to lie on a devpts, the other end is asked of
//! the terminal itself and never looked up by name, and its ownership is changed by descriptor.

use crate::error::{Context, Error, Result};
use crate::{mount, sys};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const DEVPTS: i64 = 0x1cd1;

/// A new pseudo-terminal: its master, for the one outside, and its other end.
#[derive(Debug)]
pub struct Pty {
    /// What the one outside reads and writes.
    pub master: OwnedFd,
    /// What the workload gets.
    pub slave: OwnedFd,
}

/// Makes a terminal on the devpts at /dev/pts below `root`. It belongs to `uid`; its group stays what the devpts gives
/// (tty, as a rule): a user's own group would let its other members write there.
pub fn open(root: BorrowedFd<'_>, uid: u32, size: Option<(u16, u16)>) -> Result<Pty> {
    let subject = "/dev/pts/ptmx";
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let dir = mount::open_in_root(root, Path::new("/dev/pts"), flags, true)
        .at("console", subject)
        .map_err(|e| e.hint("process.terminal needs a devpts at /dev/pts"))?;
    let is_devpts = |fd: BorrowedFd<'_>| -> Result<()> {
        let fs = nix::sys::statfs::fstatfs(fd).at("console", subject)?;
        let hint = "process.terminal needs a devpts at /dev/pts";
        match fs.filesystem_type().0 as i64 {
            DEVPTS => Ok(()),
            _ => Err(Error::new("console", subject, "is not on a devpts").hint(hint)),
        }
    };
    is_devpts(dir.as_fd())?;
    // Nobody can make a file on a devpts, but somebody may have mounted one on its ptmx: to open a device is an act.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let master = match openat2(&dir, "ptmx", OpenHow::new().flags(flags).resolve(beneath)) {
        Err(nix::errno::Errno::ENOSYS) => {
            let seen = openat(&dir, "ptmx", OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
                .at("console", subject)?;
            is_devpts(seen.as_fd())?;
            openat(&dir, "ptmx", flags, Mode::empty())
        }
        other => other,
    }
    .at("console", subject)
    .map_err(|e| e.hint("the devpts must let its ptmx be opened: the option ptmxmode=0666"))?;
    is_devpts(master.as_fd())?;
    check(master.as_fd())?;
    // Whoever relays may choose not to block; the description is shared with it.
    nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_RDWR)).at("console", "blocking")?;
    sys::pty_unlock(master.as_fd()).at("console", "unlock")?;
    let slave = sys::pty_peer(master.as_fd()).at("console", "peer")?;
    if let Some((rows, columns)) = size.filter(|s| *s != (0, 0)) {
        sys::set_window_size(slave.as_fd(), rows, columns).at("console", "size")?;
    }
    fchown(&slave, Some(Uid::from_raw(uid)), None).at("console", format!("owner {uid}"))?;
    Ok(Pty { master, slave })
}

/// That a descriptor is the master of a terminal: it is read and written with the rights of whoever relays.
pub fn check(master: BorrowedFd<'_>) -> Result<()> {
    let stat = fstat(master).at("console", "master")?;
    match (mount::kind(&stat), major(stat.st_rdev), minor(stat.st_rdev)) {
        (SFlag::S_IFCHR, 5, 2) => Ok(()),
        _ => Err(Error::new("console", "master", "is not the multiplexer of terminals (5:2)")),
    }
}

/// Makes the terminal the controlling one of our session, which we lead, and our three standard streams.
pub fn take(slave: &OwnedFd) -> Result<()> {
    sys::set_controlling_tty(slave.as_fd()).at("console", "controlling terminal")?;
    dup2_stdin(slave).at("console", "stdin")?;
    dup2_stdout(slave).at("console", "stdout")?;
    dup2_stderr(slave).at("console", "stderr")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_the_master_of_a_terminal_is_one() {
        let pty = nix::pty::openpty(None, None).unwrap();
        check(pty.master.as_fd()).unwrap();
        let (read, _write) = nix::unistd::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        for other in [pty.slave.as_fd(), read.as_fd(), null.as_fd()] {
            let e = check(other).unwrap_err().to_string();
            assert_eq!(e, "console: master: is not the multiplexer of terminals (5:2)");
        }
    }
}
