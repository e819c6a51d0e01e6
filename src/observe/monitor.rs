//! Do: what happens to all containers of a --root, as it happens, one line of JSON each.
//!
//! Nothing is polled that the kernel announces: containers come and go by inotify(7) on the states, processes end by
//! pidfd, kills and refusals are changes of cgroup files, denials lines of a file of the runtime that answers them. Only throttling is looked for, as nobody announces it. The reader
//! may be slow or gone; the containers do not notice. One that lived shorter than it took us to look has lines without
//! numbers, and none if its directory was gone again before we woke up.
//!
//! A line has `time`, `type` and `id` first ([`line`]); whoever has more to tell of a container tells it in the same form.

use super::denials::Follower;
use crate::cgroup::Group;
use crate::error::{Context, Error, Result};
use crate::state::{Entry, ProcessId, State, Status, Store, now};
use crate::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::uio::pread;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The file that makes a container of a directory.
const STATE: &str = "state.json";

/// A line about a container.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: String,
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// What happened to a container, as a line. `more` is an object.
pub fn line(kind: &str, id: &str, more: Value) -> String {
    let more = if let Value::Object(map) = more { map } else { Map::new() };
    let line = Line { time: now(), kind, id, more };
    serde_json::to_string(&line).unwrap_or_default()
}

/// A cgroup file that is announced, and what was last read of it.
#[derive(Debug)]
struct Counter {
    file: OwnedFd,
    key: &'static str,
    seen: u64,
}

impl Counter {
    /// `fresh`: the container is new, so whatever there is has just happened.
    fn new(group: &Group, file: &str, key: &'static str, fresh: bool) -> Option<Counter> {
        let mut counter = Counter { file: group.watch(file).ok()?, key, seen: 0 };
        let now = counter.read()?;
        counter.seen = if fresh { 0 } else { now };
        Some(counter)
    }

    /// None: the cgroup is gone.
    fn read(&self) -> Option<u64> {
        let mut buffer = [0u8; 1024];
        let n = pread(&self.file, &mut buffer, 0).ok()?;
        let text = String::from_utf8_lossy(&buffer[..n]);
        text.lines().find_map(|l| l.strip_prefix(self.key)?.trim().parse().ok())
    }
}

/// A container that is watched.
#[derive(Debug)]
struct Watched {
    init: ProcessId,
    /// Its first process; none: it has ended.
    pidfd: Option<OwnedFd>,
    kills: Option<Counter>,
    refusals: Option<Counter>,
    denials: Option<Follower>,
    group: Option<Group>,
    throttled: (u64, u64),
}

/// Says what happens until it is ended, or until nobody listens any more.
pub fn all(store: &Store, interval: Duration, out: &mut impl Write) -> Result<()> {
    store.make()?;
    let mut monitor = Monitor::new(store, out)?;
    // Those that are there already; what was before is not news.
    monitor.scan(false)?;
    let mut tick = Instant::now() + interval;
    while monitor.listened {
        let left = tick.saturating_duration_since(Instant::now());
        let changed = monitor.wait(left + Duration::from_millis(1))?;
        monitor.counts();
        monitor.denials();
        let ticked = Instant::now() >= tick;
        if ticked {
            monitor.throttling();
            tick = Instant::now() + interval;
        }
        monitor.exits();
        // Where inotify has no more watches to give, the tick finds what it would have told.
        if changed || ticked {
            monitor.scan(true)?;
        }
    }
    Ok(())
}

struct Monitor<'a, W: Write> {
    store: &'a Store,
    out: &'a mut W,
    inotify: Inotify,
    /// Directories that a launch has made.
    watches: HashMap<WatchDescriptor, String>,
    /// Those without a state yet, and whether one was seen to come: it may be gone before it is read.
    pending: BTreeMap<String, bool>,
    watched: BTreeMap<String, Watched>,
    /// Whether somebody reads.
    listened: bool,
}

impl<'a, W: Write> Monitor<'a, W> {
    fn new(store: &'a Store, out: &'a mut W) -> Result<Self> {
        let shown = store.path().display().to_string();
        // Four descriptors a container, and the usual soft limit is for programs that use select(2).
        if let Ok((_, hard)) = sys::get_rlimit(nix::libc::RLIMIT_NOFILE) {
            let _ = sys::set_rlimit(0, nix::libc::RLIMIT_NOFILE, hard, hard);
        }
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).at("events", "inotify")?;
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_DELETE_SELF;
        inotify.add_watch(store.path(), flags | AddWatchFlags::IN_ONLYDIR).at("events", shown)?;
        let (watches, pending, watched) = (HashMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Monitor { store, out, inotify, watches, pending, watched, listened: true })
    }

    fn say(&mut self, kind: &str, id: &str, more: Value) {
        self.say_line(&line(kind, id, more));
    }

    fn say_line(&mut self, line: &str) {
        let text = format!("{line}\n");
        // In one write: a collector may share the file with others.
        if self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).is_err() {
            self.listened = false;
        }
    }

    /// Waits for whatever may be news; true: of the states.
    fn wait(&mut self, within: Duration) -> Result<bool> {
        let mut fds: Vec<(BorrowedFd<'_>, PollFlags)> = vec![(self.inotify.as_fd(), PollFlags::POLLIN)];
        for watched in self.watched.values() {
            fds.extend(watched.pidfd.as_ref().map(|fd| (fd.as_fd(), PollFlags::POLLIN)));
            let counters = [&watched.kills, &watched.refusals];
            fds.extend(counters.into_iter().flatten().map(|c| (c.file.as_fd(), PollFlags::POLLPRI)));
        }
        let mut fds: Vec<PollFd<'_>> = fds.into_iter().map(|(fd, flags)| PollFd::new(fd, flags)).collect();
        match poll(&mut fds, PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::os("events", "poll", e)),
        }
        self.read_inotify()
    }

    fn read_inotify(&mut self) -> Result<bool> {
        let mut changed = false;
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => return Ok(changed),
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(Error::os("events", "inotify", e)),
            };
            for event in events {
                // A file that grows is no container that comes or goes.
                changed |= !event.mask.contains(AddWatchFlags::IN_MODIFY);
                if event.mask.contains(AddWatchFlags::IN_DELETE_SELF) {
                    let shown = self.store.path().display().to_string();
                    return Err(Error::new("events", shown, "the directory of the states was removed"));
                }
                if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    self.watches.remove(&event.wd);
                }
                if event.name.is_some_and(|name| name == STATE)
                    && let Some(committed) = self.watches.get(&event.wd).and_then(|id| self.pending.get_mut(id))
                {
                    *committed = true;
                }
            }
        }
    }

    /// state.json comes by a rename, and a ledger of denials grows.
    fn watch(&mut self, entry: &Entry) {
        let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONLYDIR;
        if let Ok(watch) = self.inotify.add_watch(&entry.dir, flags) {
            self.watches.insert(watch, entry.id.clone());
        }
    }

    /// Looks who is there. `fresh`: whoever was not there before is new.
    fn scan(&mut self, fresh: bool) -> Result<()> {
        let ids: BTreeSet<String> = self.store.ids()?.into_iter().collect();
        for id in &ids {
            // One that is gone again was none for us, or is found missing below.
            if let Ok(entry) = self.store.entry(id) {
                self.look(&entry, fresh);
            }
        }
        let gone: Vec<String> =
            self.watched.keys().chain(self.pending.keys()).filter(|id| !ids.contains(*id)).cloned().collect();
        for id in gone {
            self.forget(&id);
        }
        Ok(())
    }

    fn look(&mut self, entry: &Entry, fresh: bool) {
        if !self.watched.contains_key(&entry.id) && !self.pending.contains_key(&entry.id) {
            // Watched before it is looked for, so that it cannot come in between.
            self.watch(entry);
            self.pending.insert(entry.id.clone(), false);
        }
        let Ok(Some(state)) = entry.state() else { return };
        match self.watched.get(&entry.id).map(|w| w.init == state.init) {
            Some(true) => return,
            // Deleted and made again in one breath: its directory is another, and so is its watch.
            Some(false) => {
                self.forget(&entry.id);
                self.watch(entry);
            }
            None => {}
        }
        self.pending.remove(&entry.id);
        self.begin(entry, &state, fresh);
    }

    fn begin(&mut self, entry: &Entry, state: &State, fresh: bool) {
        let pidfd = state.init.open();
        let group = entry.cgroup().ok().flatten();
        let counter = |file: &str, key: &'static str| group.as_ref().and_then(|g| Counter::new(g, file, key, fresh));
        let watched = Watched {
            init: state.init,
            kills: counter("memory.events", "oom_kill "),
            refusals: counter("pids.events", "max "),
            denials: Follower::of(entry, fresh),
            throttled: if fresh { (0, 0) } else { group.as_ref().map(throttled).unwrap_or_default() },
            group,
            pidfd,
        };
        let ended = watched.pidfd.is_none();
        let more = json!({
            "pid": state.init.pid,
            "status": if ended { Status::Stopped.word() } else { entry.status().map_or("?", Status::word) },
            "policy": state.policy,
            "bundle": state.bundle,
        });
        self.watched.insert(entry.id.clone(), watched);
        self.say(if fresh { "created" } else { "present" }, &entry.id, more);
        if fresh && ended {
            // It ended before it could be looked at.
            self.say("exit", &entry.id, json!({ "pid": state.init.pid, "code": null, "signal": null }));
        }
    }

    /// The container is no more.
    fn forget(&mut self, id: &str) {
        if let Some(mut watched) = self.watched.remove(id) {
            // The file is gone, and we have it open: its last lines came just before.
            for line in watched.denials.as_mut().map(Follower::lines).unwrap_or_default() {
                self.say_line(&line);
            }
            // Its end comes before its deletion, whichever was noticed first.
            if let Some(pidfd) = watched.pidfd.as_ref() {
                self.ended(id, watched.init, pidfd);
            }
            self.say("deleted", id, json!({}));
        }
        if self.pending.remove(id) == Some(true) {
            self.say("created", id, json!({ "pid": null, "status": Status::Stopped.word() }));
            self.say("exit", id, json!({ "pid": null, "code": null, "signal": null }));
            self.say("deleted", id, json!({}));
        }
    }

    fn counts(&mut self) {
        let mut news = Vec::new();
        for (id, watched) in &mut self.watched {
            for (kind, counter) in [("oom", &mut watched.kills), ("pidsMax", &mut watched.refusals)] {
                let Some(known) = counter.as_mut() else { continue };
                // Of a cgroup that is gone poll(2) would report for ever.
                let Some(now) = known.read() else {
                    *counter = None;
                    continue;
                };
                if now > known.seen {
                    news.push((kind, id.clone(), json!({ "count": now - known.seen, "total": now })));
                    known.seen = now;
                }
            }
        }
        for (kind, id, more) in news {
            self.say(kind, &id, more);
        }
    }

    fn denials(&mut self) {
        let news: Vec<String> =
            self.watched.values_mut().filter_map(|w| w.denials.as_mut()).flat_map(Follower::lines).collect();
        for line in news {
            self.say_line(&line);
        }
    }

    fn throttling(&mut self) {
        let mut news = Vec::new();
        for (id, watched) in &mut self.watched {
            let Some(group) = &watched.group else { continue };
            let (periods, usec) = throttled(group);
            let (before, usec_before) = watched.throttled;
            if periods > before {
                let more = json!({
                    "periods": periods - before,
                    "total": periods,
                    "usec": usec.saturating_sub(usec_before),
                });
                news.push((id.clone(), more));
                watched.throttled = (periods, usec);
            }
        }
        for (id, more) in news {
            self.say("throttled", &id, more);
        }
    }

    fn exits(&mut self) {
        let ended: Vec<(String, ProcessId, OwnedFd)> = self
            .watched
            .iter_mut()
            .filter_map(|(id, w)| {
                let fd = w.pidfd.take_if(|fd| has_ended(fd))?;
                Some((id.clone(), w.init, fd))
            })
            .collect();
        if ended.is_empty() {
            return;
        }
        // What killed it, and how it was slowed before, comes first.
        self.counts();
        self.denials();
        self.throttling();
        for (id, init, fd) in ended {
            self.ended(&id, init, &fd);
        }
    }

    fn ended(&mut self, id: &str, init: ProcessId, pidfd: &OwnedFd) {
        let status = init.exit_status().or_else(|| sys::pidfd_exit_status(pidfd.as_fd()));
        // wait(2): a signal in the low bits, else a code above them.
        let signal = status.map(|s| s & 0x7f).filter(|s| *s != 0);
        let code = status.filter(|_| signal.is_none()).map(|s| (s >> 8) & 0xff);
        self.say("exit", id, json!({ "pid": init.pid, "code": code, "signal": signal }));
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// Periods in which it was throttled, and for how long.
fn throttled(group: &Group) -> (u64, u64) {
    let stat = super::stats::keyed(group, "cpu.stat");
    let of = |key: &str| super::stats::number(&stat, key);
    (of("nr_throttled"), of("throttled_usec"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_begins_with_when_what_and_who() {
        let text = line("oom", "box", json!({ "count": 1, "word": "a\nb" }));
        assert!(text.starts_with("{\"time\":\"") && text.contains("\"type\":\"oom\",\"id\":\"box\","), "{text}");
        assert_eq!(text.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["word"], "a\nb");
    }
}
