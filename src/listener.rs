//! Do: the agent that decides what a seccomp filter asks about.
//!
//! The child installs such a filter before the gate, and from then on makes no call that its profile might not allow:
//! so it sends nothing. It has told before which number the listener will have, and we take it out of the child by its
//! pidfd as soon as it is there, and hand it to the agent with the specification's container process state.

use crate::error::{Context, Error, Result};
use crate::plan::Listener;
use crate::sync::{Channel, Tag};
use crate::{handover, sync, sys};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the installation may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The child whose filter it is.
#[derive(Debug)]
pub struct Owner<'a> {
    /// Its pid.
    pub pid: i32,
    /// The same, held.
    pub pidfd: BorrowedFd<'a>,
    /// Where it says why it failed.
    pub channel: &'a Channel,
}

/// Fetches the listener of this number and sends it to the agent, with the state of the container.
pub fn deliver(listener: &Listener, owner: &Owner<'_>, number: i32, state: &Value) -> Result<()> {
    let field = "linux.seccomp.listenerPath";
    let fd = fetch(owner, number)?;
    let mut message = json!({
        "ociVersion": crate::state::OCI_VERSION,
        "fds": ["seccompFd"],
        "pid": owner.pid,
        "state": state,
    });
    if !listener.metadata.is_empty() {
        message["metadata"] = listener.metadata.clone().into();
    }
    // runc's words, by which its callers know it.
    handover::send(field, &listener.host_path(), message.to_string().as_bytes(), fd.as_fd()).map_err(|e| {
        let why = format!("failed to connect with seccomp agent{}{}", if e.why.is_empty() { "" } else { ": " }, e.why);
        e.why(why)
    })
}

/// Takes the descriptor once it is one: until then the number is free in the child, and nothing else can get it.
pub fn fetch(owner: &Owner<'_>, number: i32) -> Result<OwnedFd> {
    let end = Instant::now() + PATIENCE;
    loop {
        match sys::pidfd_getfd(owner.pidfd, number) {
            Ok(fd) if is_listener(&fd) => return Ok(fd),
            Ok(_) | Err(Errno::EBADF) => {}
            Err(e) => {
                return Err(Error::os("seccomp", "listener", e).hint(
                    "to take a descriptor out of the child needs what ptrace needs: CAP_SYS_PTRACE, and kernel.yama.ptrace_scope below 3",
                ));
            }
        }
        if Instant::now() > end {
            return Err(Error::new("seccomp", "listener", format!("not there within {} s", PATIENCE.as_secs())));
        }
        // It is a matter of microseconds, and the child cannot say when; what it can say is that it failed.
        let mut fds = [PollFd::new(owner.channel.fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(1u8)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => {
                match owner.channel.receive()? {
                    // Somebody looks on, and this is the last that it may send.
                    Some(m) if m.tag == Tag::Steps => {
                        crate::observer::hear(&m, owner.pid)?;
                    }
                    Some(m) if m.tag == Tag::Failed => return Err(sync::failure(&m.payload)),
                    _ => return Err(sync::gone()),
                }
            }
            Err(e) => return Err(Error::os("seccomp", "listener", e)),
        }
    }
}

fn is_listener(fd: &OwnedFd) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    link.is_ok_and(|l| l.to_string_lossy() == "anon_inode:seccomp notify")
}

/// The number that the next descriptor of this process will have.
pub fn next_number() -> Result<i32> {
    let free = nix::fcntl::fcntl(sys::borrow(0), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(0)).at("seccomp", "listener")?;
    drop(sys::adopt(free));
    Ok(free)
}
