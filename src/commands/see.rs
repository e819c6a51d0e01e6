//! `pids`, `inspect`, `diff`: containers as they are, from both sides.

use super::resources::{known, parse_interval};
use crate::cli::{Diff, Global, Inspect, Pids};
use crate::error::{Error, Result};
use crate::log::print;
use crate::observe::inspect::{self, View};
use crate::observe::pids;
use crate::state::{Entry, State, Status};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::new("output", "JSON", e.to_string()))
}

/// `stockade pids`.
pub fn pids(global: &Global, args: &Pids) -> Result<i32> {
    let (entry, state, status) = known(global, &args.id)?;
    if status == Status::Stopped {
        return Err(Error::new("pids", args.id.as_str(), "the container is stopped: it has no process"));
    }
    if args.watch {
        return watch(&entry, &state, args);
    }
    let family = pids::read(&entry, &state)?;
    let text = if args.json { json(&family)? + "\n" } else { family.table() + "\n" + &family.picture() };
    print(&text).map(|()| 0)
}

fn watch(entry: &Entry, state: &State, args: &Pids) -> Result<i32> {
    let interval = parse_interval(&args.interval)?;
    let timeout = PollTimeout::try_from(interval).unwrap_or(PollTimeout::MAX);
    let Some(init) = state.init.open() else { return Ok(0) };
    let clear = std::io::stdout().is_terminal() && !args.json;
    let mut last = None;
    loop {
        let family = pids::read(entry, state)?;
        if last.as_ref() != Some(&family) {
            let text = match args.json {
                true => serde_json::to_string(&family).map_err(|e| Error::new("output", "JSON", e.to_string()))? + "\n",
                // The screen from its top, as a terminal understands it; else one page after another.
                false if clear => format!("\x1b[H\x1b[2J{}\n{}", family.table(), family.picture()),
                false => format!("{}\n{}\n", family.table(), family.picture()),
            };
            let mut out = std::io::stdout().lock();
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(0),
                Err(e) => return Err(Error::io("stdout", "", &e)),
                Ok(()) => last = Some(family),
            }
        }
        match poll(&mut [PollFd::new(init.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(0),
            Err(e) => return Err(Error::os("pids", args.id.as_str(), e)),
        }
    }
}

/// `host`, or a container.
fn view(global: &Global, name: &str) -> Result<(View, Option<Status>)> {
    if name == "host" {
        return Ok((inspect::of_host(), None));
    }
    let (entry, state, status) = known(global, name)?;
    let view = inspect::of_container(&entry, &state, status)?;
    // What was read is of the container only if its init is the same still.
    if status != Status::Stopped && !state.init.alive() {
        return Err(Error::new("inspect", name, "the container ended meanwhile"));
    }
    Ok((view, Some(status)))
}

/// `stockade inspect`.
pub fn inspect(global: &Global, args: &Inspect) -> Result<i32> {
    if let Some(other) = &args.against {
        return compare(global, &args.id, other, args.json);
    }
    let (view, _) = view(global, &args.id)?;
    let text = if args.json { json(&view)? + "\n" } else { view.text() };
    print(&text).map(|()| 0)
}

/// `stockade diff`.
pub fn diff(global: &Global, args: &Diff) -> Result<i32> {
    compare(global, &args.a, &args.b, args.json)
}

fn compare(global: &Global, a: &str, b: &str, as_json: bool) -> Result<i32> {
    let running = |name: &str| match view(global, name)? {
        (_, Some(Status::Stopped)) => Err(Error::new("diff", name, "the container is stopped: it has no process")
            .hint("`stockade inspect` shows what is on record")),
        (view, _) => Ok(view),
    };
    let (a, b) = (running(a)?, running(b)?);
    let text = if as_json { json(&inspect::differences_json(&a, &b))? + "\n" } else { inspect::differences(&a, &b) };
    print(&text).map(|()| 0)
}
