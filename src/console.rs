//! Do: the caller's side of a foreground run: signals in, status out, and a terminal in between where there is one.
//!
//! One loop over descriptors and no threads. Signals arrive through a signalfd, blocked since before the clone, so none
//! is lost and every way out passes the guard that puts the caller's terminal back as it was. Nothing in the loop can
//! block: a reader that reads nothing must not keep a signal from us.

use crate::error::{Context, Error, Result};
use crate::observe::watch::Watcher;
use crate::sync::{Channel, Tag};
use crate::{launch, sys};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{isatty, read, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

/// Signals on their way to the workload.
pub struct Signals {
    all: SignalFd,
    ending: SignalFd,
}

/// What ends a program that has no other wish.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

impl Signals {
    /// Blocks all signals and collects them. Done before the clone; the child unblocks its own.
    pub fn collect() -> Result<Signals> {
        let mut set = SigSet::all();
        // What a bug in ourselves raises must still end us.
        for fatal in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT] {
            set.remove(fatal);
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None).at("signals", "block")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let ending: SigSet = ENDING.into_iter().collect();
        Ok(Signals {
            all: SignalFd::with_flags(&set, flags).at("signals", "signalfd")?,
            ending: SignalFd::with_flags(&ending, flags).at("signals", "signalfd")?,
        })
    }

    /// Readable while a signal waits that is to end us: what may take for ever before there is a workload to forward it
    /// to polls on this.
    pub fn ending(&self) -> BorrowedFd<'_> {
        self.ending.as_fd()
    }

    /// Takes such a signal, as the error that it is.
    pub fn interrupted(&self) -> Option<Error> {
        let info = self.ending.read_signal().ok().flatten()?;
        let name = Signal::try_from(info.ssi_signo.cast_signed()).map_or("a signal", Signal::as_str);
        Some(Error::new("run", "", format!("interrupted by {name}")))
    }
}

/// A terminal in raw mode; back as it was when this value goes.
struct Raw {
    before: Termios,
}

impl Raw {
    /// Of our stdin.
    fn new() -> Result<Raw> {
        let before = tcgetattr(sys::borrow(0)).at("console", "terminal")?;
        let raw = Raw { before };
        raw.apply().at("console", "raw mode")?;
        Ok(raw)
    }

    fn apply(&self) -> nix::Result<()> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(sys::borrow(0), SetArg::TCSANOW, &raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(sys::borrow(0), SetArg::TCSANOW, &self.before);
    }
}

/// One of our standard streams, which we share with our caller: to make it non-blocking would make it so for the caller,
/// too, so where it can block we open it anew.
struct Stream {
    shared: RawFd,
    own: Option<OwnedFd>,
}

impl Stream {
    fn new(shared: RawFd, access: OFlag) -> Stream {
        let fd = sys::borrow(shared);
        let blocks = isatty(fd).unwrap_or(false)
            || fstat(fd).is_ok_and(|s| SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO);
        let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let again = || open(format!("/proc/self/fd/{shared}").as_str(), flags, Mode::empty()).ok();
        Stream { shared, own: if blocks { again() } else { None } }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.own.as_ref().map_or(sys::borrow(self.shared), AsFd::as_fd)
    }

    /// How much may be written at once: what is not our own takes at least this much without blocking, once it is ready.
    fn chunk(&self) -> usize {
        if self.own.is_some() { PIPE } else { nix::libc::PIPE_BUF }
    }
}

/// How a transfer ended.
#[derive(Debug, PartialEq, Eq)]
enum Moved {
    Some,
    Later,
    End,
    Failed,
}

/// Bytes on their way, bounded: what is not taken is not read either.
#[derive(Default)]
struct Pipe {
    bytes: Vec<u8>,
    ended: bool,
}

const PIPE: usize = 16 << 10;

impl Pipe {
    fn fill(&mut self, from: BorrowedFd<'_>) -> Moved {
        let mut buffer = [0u8; PIPE];
        match read(from, &mut buffer) {
            Ok(0) => Moved::End,
            Ok(n) => {
                self.bytes.extend_from_slice(&buffer[..n]);
                Moved::Some
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Moved::Later,
            Err(_) => Moved::Failed,
        }
    }

    fn drain(&mut self, to: BorrowedFd<'_>, chunk: usize) -> Moved {
        match write(to, &self.bytes[..self.bytes.len().min(chunk)]) {
            Ok(n) => {
                self.bytes.drain(..n);
                Moved::Some
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Moved::Later,
            Err(_) => Moved::Failed,
        }
    }

    fn close(&mut self) {
        self.bytes.clear();
        self.ended = true;
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// The terminal between the workload and our standard streams. Ours is as it was before when this value goes.
pub struct Relay {
    /// None: hung up.
    master: Option<OwnedFd>,
    stdin: Stream,
    stdout: Stream,
    input: Pipe,
    output: Pipe,
    /// The last that came from stdin was not the end of a line.
    midline: bool,
    /// Nobody has the other end open; somebody may open it again (/dev/console, /dev/tty).
    resting: bool,
    /// How much is still read once the workload is gone: what it left cannot be more than a terminal holds.
    left: Option<usize>,
    raw: Option<Raw>,
}

impl Relay {
    /// Takes the master of a terminal, before the workload is started: it may look at the size of its window at once.
    pub fn new(master: OwnedFd) -> Result<Relay> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).at("console", "master")?;
        let mut relay = Relay {
            master: Some(master),
            stdin: Stream::new(0, OFlag::O_RDONLY),
            stdout: Stream::new(1, OFlag::O_WRONLY),
            input: Pipe::default(),
            output: Pipe::default(),
            midline: false,
            resting: false,
            left: None,
            raw: None,
        };
        relay.resize();
        if isatty(sys::borrow(0)).unwrap_or(false) {
            relay.raw = Some(Raw::new()?);
        }
        Ok(relay)
    }

    /// The window of our terminal is the window of theirs.
    fn resize(&self) {
        if let (Some(m), Ok((rows, columns))) = (&self.master, sys::window_size(sys::borrow(0))) {
            let _ = sys::set_window_size(m.as_fd(), rows, columns);
        }
    }

    /// We were stopped, and whoever let us go on (a shell) had the terminal meanwhile.
    fn resume(&self) {
        if let Some(raw) = &self.raw {
            let _ = raw.apply();
        }
        self.resize();
    }

    /// The workload is gone: take what is left in the terminal and wait for nothing.
    fn finish(&mut self) {
        self.left = Some(1 << 20);
        self.input.close();
        self.resting = false;
    }

    fn is_done(&self) -> bool {
        self.left.is_some() && self.output.ended && self.output.is_empty()
    }

    /// Nobody reads any more, or the workload's last words are not wanted: for the container that is a terminal that
    /// hangs up (SIGHUP for its session, EIO for who writes), as it would be for a program on ours.
    fn hang_up(&mut self) {
        self.master = None;
        self.input.close();
        self.output.close();
    }

    fn timeout(&self) -> PollTimeout {
        match self.left {
            Some(_) if self.output.is_empty() => PollTimeout::from(20u8),
            _ if self.resting => PollTimeout::from(100u8),
            _ => PollTimeout::NONE,
        }
    }

    /// What to wait for: (master, stdin, stdout). What is not wanted is not polled at all, because POLLHUP is reported
    /// unasked, and for ever.
    fn wants(&self) -> (PollFlags, PollFlags, PollFlags) {
        let mut master = PollFlags::empty();
        if self.master.is_some() && !self.resting {
            master.set(PollFlags::POLLIN, self.output.is_empty() && !self.output.ended);
            master.set(PollFlags::POLLOUT, !self.input.is_empty());
        }
        let mut stdin = PollFlags::empty();
        stdin.set(PollFlags::POLLIN, self.input.is_empty() && !self.input.ended);
        let mut stdout = PollFlags::empty();
        stdout.set(PollFlags::POLLOUT, !self.output.is_empty());
        (master, stdin, stdout)
    }

    /// Moves what can be moved; a descriptor counts as ready when it was asked for and anything was answered.
    fn turn(&mut self, wanted: PollFlags, master: bool, stdin: bool, stdout: bool) {
        if let Some(m) = self.master.as_ref().filter(|_| master) {
            if wanted.contains(PollFlags::POLLIN) {
                match self.output.fill(m.as_fd()) {
                    Moved::Some => {
                        if let Some(left) = &mut self.left {
                            *left = left.saturating_sub(self.output.bytes.len());
                            self.output.ended = *left == 0;
                        }
                    }
                    Moved::Later => {}
                    // EIO: the other end is closed, and all that was written there is read.
                    Moved::End | Moved::Failed if self.left.is_some() => self.output.ended = true,
                    Moved::End | Moved::Failed => self.resting = true,
                }
            }
            if wanted.contains(PollFlags::POLLOUT) && self.input.drain(m.as_fd(), PIPE) == Moved::Failed {
                self.resting = true;
            }
        }
        if stdin {
            match self.input.fill(self.stdin.fd()) {
                Moved::Some => self.midline = self.input.bytes.last() != Some(&b'\n'),
                Moved::Later => {}
                Moved::End | Moved::Failed => {
                    self.input.ended = true;
                    // The end of a file is the end-of-file character of a terminal; in the middle of a line the first
                    // one only hands over the line.
                    self.input.bytes.extend_from_slice(if self.midline { &[4, 4] } else { &[4] });
                }
            }
        }
        if stdout && self.output.drain(self.stdout.fd(), self.stdout.chunk()) == Moved::Failed {
            self.hang_up();
        }
    }
}

/// Follows a started workload to its end and returns its status. `on_start` runs once it has been executed.
pub fn follow(
    built: &launch::Built,
    mut relay: Option<Relay>,
    signals: &Signals,
    interactive: bool,
    mut watcher: Option<&mut Watcher>,
    mut on_start: impl FnMut(Option<&mut Watcher>) -> Result<()>,
) -> Result<i32> {
    let mut talking = true;
    let mut code = None;
    while code.is_none() || relay.as_ref().is_some_and(|r| !r.is_done()) {
        let wants =
            relay.as_ref().map(Relay::wants).unwrap_or((PollFlags::empty(), PollFlags::empty(), PollFlags::empty()));
        let timeout = relay.as_ref().map_or(PollTimeout::NONE, Relay::timeout);
        let mut fds = vec![PollFd::new(signals.all.as_fd(), PollFlags::POLLIN)];
        let mut places = [None; 6];
        {
            let mut watch = |place: usize, fd: BorrowedFd<'_>, flags: PollFlags| {
                if !flags.is_empty() {
                    places[place] = Some(fds.len());
                    fds.push(PollFd::new(sys::borrow(std::os::fd::AsRawFd::as_raw_fd(&fd)), flags));
                }
            };
            let when = |yes: bool| if yes { PollFlags::POLLIN } else { PollFlags::empty() };
            watch(0, built.pidfd.as_fd(), when(code.is_none() && !talking));
            watch(1, built.channel.fd(), when(talking));
            if let Some(r) = &relay {
                if let Some(m) = &r.master {
                    watch(2, m.as_fd(), wants.0);
                }
                watch(3, r.stdin.fd(), wants.1);
                watch(4, r.stdout.fd(), wants.2);
            }
            if let Some(listener) = watcher.as_ref().and_then(|w| w.fd()) {
                watch(5, listener, PollFlags::POLLIN);
            }
        }
        let silent = match poll(&mut fds, timeout) {
            Ok(n) => n == 0,
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(Error::os("console", "poll", e)),
        };
        let ready = places.map(|p| p.is_some_and(|i| fds[i].any().unwrap_or(false)));
        let signalled = fds[0].any().unwrap_or(false);
        let asked = places[5].and_then(|i| fds[i].revents()).unwrap_or(PollFlags::empty());
        drop(fds);
        if ready[1] {
            match built.channel.receive()? {
                Some(m) if m.tag == Tag::Failed => {
                    let e = crate::sync::failure(&m.payload);
                    launch::reap(built.pid)?;
                    return Err(e);
                }
                Some(m) if m.tag == Tag::Steps => {
                    crate::observer::hear(&m, built.pid)?;
                }
                Some(m) => return Err(m.late()),
                None => {
                    talking = false;
                    on_start(watcher.as_deref_mut())?;
                }
            }
        }
        if signalled {
            // Until the execve there is no workload to forward to, and a startContainer hook may take for ever.
            if let Some(e) = if talking { signals.interrupted() } else { None } {
                return Err(e);
            }
            forward(built, signals, relay.as_mut(), code.is_some(), interactive)?;
        }
        if let Some(w) = watcher.as_mut().filter(|_| ready[5]) {
            w.raw = relay.as_ref().is_some_and(|r| r.raw.is_some());
            w.turn(asked, built.channel.fd());
        }
        if ready[0] {
            code = Some(launch::reap(built.pid)?);
            if let Some(r) = &mut relay {
                r.finish();
            }
            continue;
        }
        if let Some(r) = &mut relay {
            if silent && r.left.is_some() {
                r.output.ended = true;
            }
            r.resting &= !silent;
            r.turn(wants.0, ready[2], ready[3], ready[4]);
        }
    }
    code.ok_or_else(|| Error::new("console", "", "ended before the workload"))
}

fn forward(
    built: &launch::Built,
    signals: &Signals,
    mut relay: Option<&mut Relay>,
    gone: bool,
    interactive: bool,
) -> Result<()> {
    while let Some(info) = signals.all.read_signal().at("signals", "read")? {
        let number = info.ssi_signo.cast_signed();
        let ends = ENDING.iter().any(|s| *s as i32 == number);
        match (number, &mut relay) {
            (nix::libc::SIGCHLD, _) => {}
            (nix::libc::SIGWINCH, Some(r)) => r.resize(),
            (nix::libc::SIGTSTP | nix::libc::SIGTTIN | nix::libc::SIGTTOU, Some(_)) => {}
            // Only its last words are left, and whoever reads them does not.
            (_, Some(r)) if gone && ends => r.hang_up(),
            (_, r) => {
                if let (nix::libc::SIGCONT, Some(r)) = (number, r) {
                    r.resume();
                }
                let _ = sys::pidfd_send_signal(built.pidfd.as_fd(), number);
                // PID 1 of a namespace ignores what it has no handler for (pid_namespaces(7)); a person who wants to
                // end a throwaway sandbox means it.
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

/// Commits and starts a child that was built by `run`.
pub fn start(channel: &Channel) -> Result<()> {
    channel.send(Tag::Start, &[], &[])
}
