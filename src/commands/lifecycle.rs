//! `start`, `kill`, `delete`: the steps in the life of a container that exists.

use super::launch::{poststart, poststop};
use crate::cli::{Delete, Global, Kill};
use crate::error::{Context, Error, Result};
use crate::state::{Entry, Status, Store};
use crate::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::write;
use std::os::fd::AsFd;

fn entry(global: &Global, id: &str) -> Result<Entry> {
    Store::open(global.root.as_deref())?.entry(id)
}

/// `stockade start`: one byte through the gate, then wait until the workload is executed.
pub fn start(global: &Global, id: &str) -> Result<i32> {
    let entry = entry(global, id)?;
    entry.lock()?;
    let (state, status) = entry.require()?;
    if status != Status::Created {
        return Err(Error::new("start", id, format!("cannot start a container that is {}", status.word())));
    }
    if !state.startable {
        return Err(Error::new("start", id, "process is missing in config.json: there is nothing to start"));
    }
    let dead = || {
        Error::new("start", id, "its process is gone: it was killed while it waited")
            .hint("delete it and create it again")
    };
    let pidfd = state.init.open().ok_or_else(dead)?;
    let gate = match entry.open_gate() {
        Ok(gate) => gate,
        Err(Errno::ENXIO) => return Err(dead()),
        Err(e) => return Err(Error::os("start", id, e)),
    };
    write(&gate, crate::state::GATE_CALL).at("start", id)?;
    // The child holds the other end until its execve, or its death, closes it.
    loop {
        let mut fds = [PollFd::new(gate.as_fd(), PollFlags::empty()), PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::os("start", id, e)),
        }
    }
    if let Some(e) = entry.failure() {
        crate::state::wait_gone(&pidfd);
        entry.remove_gate();
        return Err(e);
    }
    // It was dying when the byte came: its end closed the gate, and no execve did.
    if !entry.is_gate_answered() {
        return Err(dead());
    }
    entry.remove_gate();
    poststart(&state, &mut crate::hooks::Around::default()).inspect_err(|_| {
        // The specification: the container is stopped and destroyed, and its poststop hooks run.
        if let Err(e) = entry.purge(Some(&state)) {
            crate::log::warning(&e.to_string());
        }
        poststop(&state, None);
    })?;
    Ok(0)
}

/// The number of a signal by name, with or without SIG, or by number.
pub fn parse_signal(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        if (0..=64).contains(&number) {
            return Ok(number);
        }
    } else {
        let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        // "SIGRTMIN+3", "SIGRTMAX-1"
        let real_time = |prefix: &str, base: i32| {
            let rest = name.strip_prefix(prefix)?;
            let offset = if rest.is_empty() { 0 } else { rest.parse::<i32>().ok()? };
            base.checked_add(offset).filter(|n| (34..=64).contains(n))
        };
        let number = name.parse::<Signal>().ok().map(|s| s as i32);
        if let Some(n) = number.or_else(|| real_time("SIGRTMIN", 34)).or_else(|| real_time("SIGRTMAX", 64)) {
            return Ok(n);
        }
    }
    Err(Error::new("kill", text, "not a signal").hint("a name such as TERM or SIGTERM, or a number from 0 to 64"))
}

/// `stockade kill`.
pub fn kill(global: &Global, args: &Kill) -> Result<i32> {
    let signal = parse_signal(&args.signal)?;
    let entry = entry(global, &args.id)?;
    let (state, status) = entry.require()?;
    let pidfd = match status {
        Status::Created | Status::Running | Status::Paused => state.init.open(),
        _ => None,
    };
    if args.all {
        return kill_all(&entry, signal, pidfd.is_some()).map(|()| 0);
    }
    // Where the pid namespace is shared, the end of the init is not the end of the others; SIGKILL is meant for all.
    if signal == nix::libc::SIGKILL
        && let Some(group) = entry.cgroup()?
        && !group.processes()?.is_empty()
    {
        group.kill()?;
        return match pidfd {
            Some(fd) => sys::pidfd_send_signal(fd.as_fd(), signal).or_else(gone).at("kill", &args.id).map(|()| 0),
            None => Ok(0),
        };
    }
    match pidfd {
        Some(fd) => sys::pidfd_send_signal(fd.as_fd(), signal).at("kill", &args.id).map(|()| 0),
        None => Err(Error::new("kill", args.id.as_str(), "container not running")),
    }
}

/// A process that ended before the signal came is as dead as was asked.
fn gone(e: Errno) -> std::result::Result<(), Errno> {
    if e == Errno::ESRCH { Ok(()) } else { Err(e) }
}

/// To everything in the cgroup; without one, to the init, whose end is the end of its pid namespace.
fn kill_all(entry: &Entry, signal: i32, alive: bool) -> Result<()> {
    if let Some(group) = entry.cgroup()? {
        if signal == nix::libc::SIGKILL {
            return group.kill();
        }
        for pid in group.processes()? {
            if let Ok(fd) = sys::pidfd_open(pid) {
                let _ = sys::pidfd_send_signal(fd.as_fd(), signal);
            }
        }
        return Ok(());
    }
    let (state, _) = entry.require()?;
    match state.init.open().filter(|_| alive) {
        Some(fd) => sys::pidfd_send_signal(fd.as_fd(), signal).at("kill", &entry.id),
        None => Ok(()),
    }
}

/// `stockade delete`.
pub fn delete(global: &Global, args: &Delete) -> Result<i32> {
    if !args.regex {
        return delete_one(global, &args.id, args.force);
    }
    let pattern = regex_lite::Regex::new(&args.id).map_err(|e| {
        Error::new("delete", args.id.as_str(), format!("--regex: {e}")).hint("a regular expression such as ^web-")
    })?;
    // One that fails does not keep the others; the first error is told.
    let ids = Store::open(global.root.as_deref())?.ids()?;
    let done: Vec<_> =
        ids.iter().filter(|id| pattern.is_match(id)).map(|id| delete_one(global, id, args.force)).collect();
    done.into_iter().collect::<Result<Vec<_>>>().map(|_| 0)
}

fn delete_one(global: &Global, id: &str, force: bool) -> Result<i32> {
    let entry = match entry(global, id) {
        // Quiet and successful: engines call it again for what is gone already.
        Err(e) if force && e.why == "does not exist" => return Ok(0),
        other => other?,
    };
    entry.lock()?;
    if !entry.is_in_place() {
        // Somebody else deleted it while we waited for the lock; what has its name now is another container.
        return if force { Ok(0) } else { Err(Error::new("container", id, "does not exist")) };
    }
    let status = entry.status()?;
    let state = entry.state()?;
    match status {
        Status::Running | Status::Paused if !force => {
            return Err(Error::new("delete", id, format!("cannot delete a container that is {}", status.word()))
                .hint("kill it first, or use --force"));
        }
        Status::Creating if !force => {
            return Err(Error::new("delete", id, "its launch was not finished").hint("--force clears what it left"));
        }
        _ => {}
    }
    entry.purge(state.as_ref())?;
    if let Some(state) = &state {
        poststop(state, None);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in
            [("KILL", 9), ("SIGKILL", 9), ("sigterm", 15), ("9", 9), ("0", 0), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)]
        {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for bad in ["", "SIGMOON", "65", "-1", "RTMIN+99"] {
            assert!(parse_signal(bad).is_err(), "{bad}");
        }
    }
}
