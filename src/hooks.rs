//! Do: the hooks of a bundle.
//!
//! A hook is code that the config names and that runs with our rights, so it gets exactly what the specification says
//! and nothing by inheritance: the state on stdin, its own arguments, its own environment (CVE-2025-23266: a hook that
//! obeyed the container's LD_PRELOAD), no descriptor of ours, no blocked signal. When its time is up, or when we are told
//! to end, it is killed with all that it started.

use crate::console::Signals;
use crate::error::{Context, Error, Result};
use crate::observe::watch::Watcher;
use crate::plan::{Filter, Hook, Moment};
use crate::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// How much of a failing hook's stderr is shown.
const SHOWN: usize = 4096;

/// What goes on while a hook runs.
#[derive(Default)]
pub struct Around<'a> {
    /// A signal that is to end us.
    pub signals: Option<&'a Signals>,
    /// Who answers the workload's filter, with our end of the talk with the child: a hook may wait for the workload.
    pub watcher: Option<(&'a mut Watcher, BorrowedFd<'a>)>,
}

impl<'a> From<Option<&'a Signals>> for Around<'a> {
    fn from(signals: Option<&'a Signals>) -> Around<'a> {
        Around { signals, watcher: None }
    }
}

/// Runs hooks one after another; the first that fails ends it, and so does a signal that is to end us.
pub fn run(moment: Moment, hooks: &[Hook], state: &[u8], around: &mut Around<'_>) -> Result<()> {
    hooks.iter().enumerate().try_for_each(|(n, hook)| numbered(moment, n, hook, state, around, &[]))
}

/// The same inside the container, each under the workload's filters: the program may be the image's.
pub fn run_inside(moment: Moment, hooks: &[Hook], state: &[u8], filters: &[&Filter]) -> Result<()> {
    hooks.iter().enumerate().try_for_each(|(n, hook)| numbered(moment, n, hook, state, &mut Around::default(), filters))
}

/// Runs all of them: one that fails is a warning, and the others are not to blame.
pub fn run_all(moment: Moment, hooks: &[Hook], state: &[u8], signals: Option<&Signals>) {
    for (n, hook) in hooks.iter().enumerate() {
        if let Err(e) = numbered(moment, n, hook, state, &mut signals.into(), &[]) {
            crate::log::warning(&e.to_string());
        }
    }
}

/// One hook; an error says which of the list it was, in runc's words.
fn numbered(
    moment: Moment,
    n: usize,
    hook: &Hook,
    state: &[u8],
    around: &mut Around<'_>,
    filters: &[&Filter],
) -> Result<()> {
    one(hook, state, around, filters).map_err(|e| {
        let which = format!("error running {} hook #{n}", moment.name());
        Error { why: if e.why.is_empty() { which } else { format!("{which}: {}", e.why) }, ..e }
    })
}

/// What a hook says on stderr: all is taken, so that it never blocks on a full pipe; the beginning is kept.
struct Said {
    pipe: Option<ChildStderr>,
    kept: Vec<u8>,
}

impl Said {
    fn new(pipe: Option<ChildStderr>) -> Said {
        if let Some(pipe) = &pipe {
            let _ = nix::fcntl::fcntl(pipe, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK));
        }
        Said { pipe, kept: Vec::new() }
    }

    /// What is there now, at most a pipe full. What the hook left running may hold the pipe open, so its end is not
    /// waited for.
    fn take(&mut self) {
        let mut buffer = [0u8; 65_536];
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.read(&mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(n) => self.kept.extend_from_slice(&buffer[..n.min(SHOWN - self.kept.len())]),
            Err(_) => {}
        }
    }
}

/// Kills a hook and all that it started, which is one process group.
fn end(child: &mut Child) {
    let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    let _ = child.kill();
    let _ = child.wait();
}

fn one(hook: &Hook, state: &[u8], around: &mut Around<'_>, filters: &[&Filter]) -> Result<()> {
    let signals = around.signals;
    let subject = hook.path.display().to_string();
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear();
    for entry in &hook.env {
        if let Some((name, value)) = entry.split_once('=') {
            command.env(name, value);
        }
    }
    // A file and not a pipe: a hook that reads nothing, or closes it, can neither block nor kill us.
    let mut stdin = std::fs::File::from(memfd_create("state", MFdFlags::MFD_CLOEXEC).at("hooks", &subject)?);
    stdin.write_all(state).and_then(|()| stdin.rewind()).at("hooks", &subject)?;
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    sys::die_with_us(&mut command);
    for filter in filters {
        sys::filter_command(&mut command, filter.program.clone(), filter.flags);
    }
    let mut child = command.spawn().at("hooks", &subject)?;
    let end_at = hook.timeout.map(|s| Instant::now() + Duration::from_secs(s.unsigned_abs()));
    let mut said = Said::new(child.stderr.take());
    let pidfd = sys::pidfd_open(child.id().cast_signed()).at("hooks", &subject)?;
    loop {
        let timeout = match end_at {
            None => PollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    end(&mut child);
                    let why = format!("still running after its timeout of {} s: killed", hook.timeout.unwrap_or(0));
                    return Err(Error::new("hooks", subject, why));
                }
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![watch(pidfd.as_fd())];
        fds.extend(signals.map(|s| watch(s.ending())));
        let listener = around.watcher.as_ref().and_then(|(watcher, _)| watcher.fd());
        let asks = listener.map(|_| fds.len());
        fds.extend(listener.map(watch));
        fds.extend(said.pipe.as_ref().map(|p| watch(p.as_fd())));
        match poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => {
                let ended = fds[0].any().unwrap_or(true);
                let asked = asks.and_then(|i| fds[i].revents()).unwrap_or(PollFlags::empty());
                if let Some((watcher, talk)) = around.watcher.as_mut().filter(|_| !asked.is_empty()) {
                    watcher.turn(asked, *talk);
                }
                said.take();
                if ended {
                    break;
                }
                if let Some(e) = signals.and_then(Signals::interrupted) {
                    end(&mut child);
                    return Err(Error { step: "hooks".into(), subject, ..e });
                }
            }
            Err(e) => {
                end(&mut child);
                return Err(Error::os("hooks", subject, e));
            }
        }
    }
    let status = child.wait().at("hooks", &subject)?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said.kept);
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("killed by signal {signal}"),
        _ => "failed".to_owned(),
    };
    Err(Error::new("hooks", subject, if said.trim().is_empty() { how } else { format!("{how}: {}", said.trim()) }))
}
