//! Do: descriptors handed to whoever listens on a socket of the host: a terminal, a pidfd, a seccomp listener.
//!
//! One connection a descriptor, SCM_RIGHTS on the first byte, then the end. The path is opened once and connected to by
//! descriptor: sun_path has room for 108 bytes only, and a socket that the bundle names must not be led elsewhere by a
//! link. Nobody can keep us waiting: who does not take the message in time has failed.

use crate::error::{Context, Error, Result};
use crate::mount;
use crate::plan::HostPath;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, setsockopt, socket,
    sockopt,
};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

/// How long a listener may be busy.
const SECONDS: i64 = 10;

/// Sends the master of a terminal as runc does: the terminal's name beside it.
pub fn console(path: &Path, master: BorrowedFd<'_>) -> Result<()> {
    send("--console-socket", &anywhere(path), b"/dev/ptmx", master)
}

/// Sends the descriptor of a process.
pub fn pidfd(path: &Path, pidfd: BorrowedFd<'_>) -> Result<()> {
    send("--pidfd-socket", &anywhere(path), b"pidfd", pidfd)
}

/// A path that the caller typed.
fn anywhere(path: &Path) -> HostPath {
    HostPath { path: path.to_owned(), within: None, judged: false }
}

/// Sends bytes and one descriptor to the socket at `path`.
pub fn send(step: &str, path: &HostPath, bytes: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    let shown = path.display().to_string();
    let target = mount::open_host(path, nix::fcntl::OFlag::O_PATH).at(step, &shown).map_err(|e| match e.errno() {
        Some(Errno::EXDEV) => e.hint(mount::LEADS_OUT),
        Some(Errno::ENOENT) => e.hint("whoever listens makes the socket first"),
        _ => e,
    })?;
    if mount::kind(&fstat(&target).at(step, &shown)?) != SFlag::S_IFSOCK {
        return Err(Error::new(step, shown, "is not a socket"));
    }
    let address = UnixAddr::new(format!("/proc/self/fd/{}", target.as_raw_fd()).as_str()).at(step, &shown)?;
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).at(step, &shown)?;
    setsockopt(&stream, sockopt::SendTimeout, &TimeVal::seconds(SECONDS)).at(step, &shown)?;
    connect(stream.as_raw_fd(), &address).at(step, &shown).map_err(|e| match e.errno() {
        Some(Errno::EAGAIN) => e.why(format!("nobody accepted within {SECONDS} s")),
        Some(Errno::EPROTOTYPE) => e.hint("it must be a stream socket"),
        _ => e.hint("somebody must listen there and receive the descriptor"),
    })?;
    let fds = [fd.as_raw_fd()];
    let mut sent = 0;
    while sent < bytes.len() {
        let rights = [ControlMessage::ScmRights(&fds)];
        let control: &[ControlMessage<'_>] = if sent == 0 { &rights } else { &[] };
        match sendmsg::<UnixAddr>(
            stream.as_raw_fd(),
            &[IoSlice::new(&bytes[sent..])],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Ok(n) => sent += n,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let why = format!("nobody read within {SECONDS} s");
                return Err(Error::os(step, shown, Errno::EAGAIN).why(why));
            }
            Err(e) => return Err(Error::os(step, shown, e)),
        }
    }
    Ok(())
}
