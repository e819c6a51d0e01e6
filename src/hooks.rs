//! Do: the hooks of a bundle.
//!
//! A hook is code that the config names and that runs with our rights, so it gets exactly what the specification says
//! and nothing by inheritance: the state on stdin, its own arguments, its own environment (CVE-2025-23266: a hook that
//! obeyed the container's LD_PRELOAD), no descriptor of ours. It is killed when its time is up.

use crate::error::{Context, Error, Result};
use crate::plan::{Hook, Moment};
use nix::errno::Errno;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How much of a failing hook's stderr is shown.
const SHOWN: u64 = 4096;

/// Runs hooks one after another; the first that fails ends it.
pub fn run(moment: Moment, hooks: &[Hook], state: &[u8]) -> Result<()> {
    for hook in hooks {
        one(moment, hook, state)?;
    }
    Ok(())
}

fn one(moment: Moment, hook: &Hook, state: &[u8]) -> Result<()> {
    let subject = format!("{} {}", moment.name(), hook.path.display());
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
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().at("hooks", &subject)?;
    let end = hook.timeout.map(|s| Instant::now() + Duration::from_secs(s.unsigned_abs()));
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its state; a small pipe takes it anyway.
        match stdin.write_all(state) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => return Err(Error::io("hooks", subject, &e)),
            _ => {}
        }
    }
    let pidfd = crate::sys::pidfd_open(child.id().cast_signed()).at("hooks", &subject)?;
    loop {
        let timeout = match end {
            None => nix::poll::PollTimeout::NONE,
            Some(end) => {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(Error::new(
                        "hooks",
                        subject,
                        format!("still running after its timeout of {} s: killed", hook.timeout.unwrap_or(0)),
                    ));
                }
                nix::poll::PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(nix::poll::PollTimeout::MAX)
            }
        };
        let mut fds = [nix::poll::PollFd::new(pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(e) => return Err(Error::os("hooks", subject, e)),
        }
    }
    let status = child.wait().at("hooks", &subject)?;
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // What it left running may hold the pipe open: take what is there.
        let _ = nix::fcntl::fcntl(&stderr, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK));
        let _ = stderr.take(SHOWN).read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said);
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("killed by signal {signal}"),
        _ => "failed".to_owned(),
    };
    Err(Error::new("hooks", subject, if said.trim().is_empty() { how } else { format!("{how}: {}", said.trim()) }))
}
