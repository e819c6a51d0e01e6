//! Do: the caller's side of a foreground run: signals in, status out, and a terminal in between where there is one.
//!
//! One loop over descriptors and no threads. Signals arrive through a signalfd, blocked since before the clone, so none
//! is lost and every way out passes the guard that puts the caller's terminal back as it was.

use crate::error::{Context, Error, Result};
use crate::sync::{Channel, Tag};
use crate::{launch, sys};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, sendmsg, socket};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{isatty, read, write};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Signals on their way to the workload.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks all signals and collects them. Done before the clone; the child unblocks its own.
    pub fn collect() -> Result<Signals> {
        let mut set = SigSet::all();
        // What a bug in ourselves raises must still end us.
        for fatal in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT] {
            set.remove(fatal);
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None).at("signals", "block")?;
        let fd =
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).at("signals", "signalfd")?;
        Ok(Signals(fd))
    }
}

/// A terminal in raw mode; back as it was when this value goes.
struct Raw<'a> {
    tty: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    fn new(tty: BorrowedFd<'a>) -> Result<Raw<'a>> {
        let before = tcgetattr(tty).at("console", "terminal")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(tty, SetArg::TCSANOW, &raw).at("console", "raw mode")?;
        Ok(Raw { tty, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.tty, SetArg::TCSANOW, &self.before);
    }
}

/// Bytes on their way, bounded: what is not taken is not read either.
#[derive(Default)]
struct Pipe {
    bytes: Vec<u8>,
    ended: bool,
}

const PIPE: usize = 16 << 10;

impl Pipe {
    fn fill(&mut self, from: BorrowedFd<'_>) {
        let mut buffer = [0u8; PIPE];
        match read(from, &mut buffer) {
            Ok(0) => self.ended = true,
            Ok(n) => self.bytes.extend_from_slice(&buffer[..n]),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // EIO: nobody has the other end of the terminal open any more.
            Err(_) => self.ended = true,
        }
    }

    fn drain(&mut self, to: BorrowedFd<'_>) {
        match write(to, &self.bytes) {
            Ok(n) => {
                self.bytes.drain(..n);
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => {
                self.bytes.clear();
                self.ended = true;
            }
        }
    }
}

/// Follows a started workload to its end and returns its status. `on_start` runs once it has been executed.
pub fn follow(
    built: &launch::Built,
    signals: &Signals,
    interactive: bool,
    mut on_start: impl FnMut() -> Result<()>,
) -> Result<i32> {
    let (stdin, stdout) = (sys::borrow(0), sys::borrow(1));
    let master = built.console.as_ref();
    let _raw = match master {
        Some(m) => {
            if let Ok((rows, columns)) = sys::window_size(stdin) {
                let _ = sys::set_window_size(m.as_fd(), rows, columns);
            }
            if isatty(stdin).unwrap_or(false) { Some(Raw::new(stdin)?) } else { None }
        }
        None => None,
    };
    let (mut input, mut output) = (Pipe::default(), Pipe::default());
    let mut talking = true;
    let mut code = None;
    loop {
        if code.is_some() && (master.is_none() || (output.ended && output.bytes.is_empty())) {
            break;
        }
        let mut fds = Vec::with_capacity(6);
        fds.push(PollFd::new(signals.0.as_fd(), PollFlags::POLLIN));
        // POLLHUP is reported unasked, and for ever: what is not wanted now is not polled at all, the signals stand in.
        let watch = |fd: BorrowedFd<'_>, flags: PollFlags| {
            let fd = if flags.is_empty() { signals.0.as_fd().as_raw_fd() } else { fd.as_raw_fd() };
            PollFd::new(sys::borrow(fd), flags)
        };
        fds.push(watch(built.pidfd.as_fd(), if code.is_none() { PollFlags::POLLIN } else { PollFlags::empty() }));
        fds.push(watch(built.channel.fd(), if talking { PollFlags::POLLIN } else { PollFlags::empty() }));
        if let Some(m) = master {
            let mut want = PollFlags::empty();
            want.set(PollFlags::POLLIN, output.bytes.is_empty() && !output.ended);
            want.set(PollFlags::POLLOUT, !input.bytes.is_empty());
            fds.push(watch(m.as_fd(), want));
            fds.push(watch(
                stdin,
                if input.bytes.is_empty() && !input.ended { PollFlags::POLLIN } else { PollFlags::empty() },
            ));
            fds.push(watch(stdout, if output.bytes.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT }));
        }
        // The workload is gone: take what is left in the terminal and wait for nothing.
        let timeout =
            if code.is_some() && output.bytes.is_empty() { PollTimeout::from(20u8) } else { PollTimeout::NONE };
        match poll(&mut fds, timeout) {
            Ok(0) => output.ended = true,
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(Error::os("console", "poll", e)),
        }
        let ready: Vec<PollFlags> = fds.iter().map(|f| f.revents().unwrap_or(PollFlags::empty())).collect();
        drop(fds);
        if ready[0].contains(PollFlags::POLLIN) {
            forward(built, signals, master, interactive)?;
        }
        if talking && !ready[2].is_empty() {
            match built.channel.receive()? {
                Some(m) if m.tag == Tag::Failed => {
                    let e = crate::sync::failure(&m.payload);
                    launch::reap(built.pid)?;
                    return Err(e);
                }
                Some(_) => {}
                None => {
                    talking = false;
                    on_start()?;
                }
            }
        }
        if code.is_none() && !ready[1].is_empty() && !talking {
            code = Some(launch::reap(built.pid)?);
        }
        if let Some(m) = master {
            if ready[3].intersects(PollFlags::POLLIN | PollFlags::POLLHUP) && output.bytes.is_empty() && !output.ended {
                output.fill(m.as_fd());
            }
            if ready[3].contains(PollFlags::POLLOUT) {
                input.drain(m.as_fd());
            }
            if !ready[4].is_empty() && input.bytes.is_empty() && !input.ended {
                input.fill(stdin);
                if input.ended {
                    // The end of a file is the end-of-file character of a terminal.
                    input.bytes.push(4);
                }
            }
            if !ready[5].is_empty() && !output.bytes.is_empty() {
                output.drain(stdout);
            }
        }
    }
    code.ok_or_else(|| Error::new("console", "", "ended before the workload"))
}

fn forward(built: &launch::Built, signals: &Signals, master: Option<&OwnedFd>, interactive: bool) -> Result<()> {
    while let Some(info) = signals.0.read_signal().at("signals", "read")? {
        let number = info.ssi_signo.cast_signed();
        match number {
            nix::libc::SIGCHLD => {}
            nix::libc::SIGWINCH => {
                if let (Some(m), Ok((rows, columns))) = (master, sys::window_size(sys::borrow(0))) {
                    let _ = sys::set_window_size(m.as_fd(), rows, columns);
                }
            }
            nix::libc::SIGTSTP | nix::libc::SIGTTIN | nix::libc::SIGTTOU if master.is_some() => {}
            _ => {
                let _ = sys::pidfd_send_signal(built.pidfd.as_fd(), number);
                // PID 1 of a namespace ignores what it has no handler for (pid_namespaces(7)); a person who wants to
                // end a throwaway sandbox means it.
                let ends =
                    matches!(number, nix::libc::SIGINT | nix::libc::SIGTERM | nix::libc::SIGHUP | nix::libc::SIGQUIT);
                if interactive && ends && !catches(built.pid, number) {
                    let _ = sys::pidfd_send_signal(built.pidfd.as_fd(), nix::libc::SIGKILL);
                }
            }
        }
    }
    Ok(())
}

/// Whether a process has a handler for a signal: SigCgt of proc_pid_status(5).
fn catches(pid: i32, signal: i32) -> bool {
    let status = crate::host::read_small(format!("/proc/{pid}/status"), 64 << 10).unwrap_or_default();
    let caught =
        status.lines().find_map(|l| l.strip_prefix("SigCgt:")).and_then(|m| u64::from_str_radix(m.trim(), 16).ok());
    caught.is_none_or(|mask| mask & (1 << (signal - 1)) != 0)
}

/// Sends the master of a terminal to whoever listens on the console socket (runc's protocol: one message, the
/// descriptor in SCM_RIGHTS, the terminal's name as its bytes).
pub fn send_to_socket(path: &Path, master: &OwnedFd) -> Result<()> {
    let shown = path.display().to_string();
    let address = UnixAddr::new(path).at("--console-socket", &shown)?;
    let fd =
        socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).at("--console-socket", &shown)?;
    connect(fd.as_raw_fd(), &address)
        .at("--console-socket", &shown)
        .map_err(|e| e.hint("somebody must listen there and receive the terminal"))?;
    let fds = [master.as_raw_fd()];
    let rights = [nix::sys::socket::ControlMessage::ScmRights(&fds)];
    sendmsg::<UnixAddr>(
        fd.as_raw_fd(),
        &[IoSlice::new(b"/dev/ptmx")],
        &rights,
        nix::sys::socket::MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .at("--console-socket", &shown)
    .map(drop)
}

/// Commits and starts a child that was built by `run`.
pub fn start(channel: &Channel) -> Result<()> {
    channel.send(Tag::Start, &[], &[])
}
