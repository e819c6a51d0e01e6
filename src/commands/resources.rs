//! `update`, `pause`, `resume`, `ps`, `events`: a container's cgroup while it runs.

use crate::cgroup::{self, Group, device, honest};
use crate::cli::{Events, Global, Ps, Update};
use crate::error::{Context, Error, Result};
use crate::observe::denials::{Follower, as_event};
use crate::observe::{monitor, ps, stats};
use crate::plan::resources::{Wanted, asked};
use crate::policy::{Finding, parse_size};
use crate::state::{Entry, State, Status, Store};
use crate::{json, sys};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::uio::pread;
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

pub(super) fn known(global: &Global, id: &str) -> Result<(Entry, State, Status)> {
    let entry = Store::open(global.root.as_deref())?.entry(id)?;
    let (state, status) = entry.require()?;
    Ok((entry, state, status))
}

fn group(entry: &Entry, verb: &str) -> Result<Group> {
    entry.cgroup()?.ok_or_else(|| {
        Error::new(verb, entry.id.as_str(), "the container has no cgroup")
            .hint("it was launched where no cgroup v2 was writable; see the findings in `stockade explain`")
    })
}

/// `stockade pause` and `stockade resume`.
pub fn freeze(global: &Global, id: &str, on: bool) -> Result<i32> {
    let (entry, _, _) = known(global, id)?;
    entry.lock()?;
    let verb = if on { "pause" } else { "resume" };
    let status = entry.status()?;
    let right = if on { matches!(status, Status::Running | Status::Created) } else { status == Status::Paused };
    if !right {
        return Err(Error::new(verb, id, format!("cannot {verb} a container that is {}", status.word())));
    }
    group(&entry, verb)?.freeze(on).map(|()| 0)
}

/// `stockade ps`.
pub fn ps(global: &Global, args: &Ps) -> Result<i32> {
    let (entry, state, _) = known(global, &args.id)?;
    let pids = ps::pids(&entry, &state)?;
    if args.format == "json" {
        crate::log::print(&format!("{}\n", json!(pids)))?;
    } else {
        crate::log::print(&ps::table(&pids, &args.arguments)?)?;
    }
    Ok(0)
}

/// `stockade update`.
pub fn update(global: &Global, args: &Update) -> Result<i32> {
    let (entry, _, _) = known(global, &args.id)?;
    entry.lock()?;
    let (mut state, status) = entry.require()?;
    if status == Status::Stopped {
        return Err(Error::new("update", args.id.as_str(), "cannot update a container that is stopped"));
    }
    let resources = match &args.resources {
        Some(path) => read_resources(path)?,
        None => from_flags(args)?,
    };
    let group = group(&entry, "update")?;
    let resources = complete(&group, resources)?;
    let wanted = asked(&resources)?;
    refuse_below_use(&group, &resources, &wanted)?;
    let record = entry.intent()?.and_then(|i| i.cgroup);
    if let Some(scope) = record.as_ref().and_then(|c| c.scope.as_ref()) {
        let values: Vec<_> = wanted.iter().map(|w| (w.file.clone(), w.value.clone())).collect();
        scope.set(&cgroup::systemd::properties(&values))?;
    }
    replace_device_program(&group, &resources)?;
    let mount = record.map(|r| r.mount).unwrap_or_default();
    for want in order(&group, wanted) {
        let found = match &want.bfq {
            Some(bfq) => honest::set_io_weight(&group, &want.value, bfq),
            None => honest::set(&group, &mount, &want.file, &want.value),
        };
        let found = found.map_err(|e| Error { step: "update".into(), ..e })?;
        for finding in &found {
            crate::log::debug(&finding.to_string());
        }
        // What was found of this file before is about a value that it no longer has.
        let of_it = |f: &Finding| f.field == want.file || (want.bfq.is_some() && f.field == "io.bfq.weight");
        state.findings.retain(|f| f.rule != "host" || !of_it(f));
        state.findings.extend(found);
    }
    entry.write_state(&state)?;
    Ok(0)
}

/// New device rules take the place of the old ones in one step: there is no moment without a program. An update that
/// says nothing of devices leaves them as they are.
fn replace_device_program(group: &Group, resources: &LinuxResources) -> Result<()> {
    let asked = resources.devices().clone().unwrap_or_default();
    if asked.is_empty() {
        return Ok(());
    }
    let mut rules = device::from_oci(&asked)?;
    rules.extend(device::defaults());
    let program = device::program(&rules)?;
    let step = "device program";
    let attached = sys::bpf_prog_query_device(group.fd()).at(step, "query")?;
    let old = match attached.first() {
        Some(id) => Some(sys::bpf_prog_get_fd_by_id(*id).at(step, id.to_string())?),
        None => None,
    };
    let loaded = sys::bpf_prog_load_device(&program, None).at(step, format!("{} instructions", program.len()))?;
    sys::bpf_prog_attach_device(group.fd(), loaded.as_fd(), old.as_ref().map(AsFd::as_fd)).at(step, "replace")
}

fn read_resources(path: &str) -> Result<LinuxResources> {
    let text = if path == "-" {
        let mut text = String::new();
        std::io::stdin().take(1 << 20).read_to_string(&mut text).at("--resources", "stdin")?;
        text
    } else {
        // /dev/stdin and process substitution are pipes: any file is read, as much as is sensible.
        let mut text = String::new();
        std::fs::File::open(path).and_then(|f| f.take(1 << 20).read_to_string(&mut text)).at("--resources", path)?;
        text
    };
    json::from_str(&text).map_err(|e| Error::new("--resources", format!("{path}: {}", e.path), e.why))
}

/// The flags say the same as a file would: one way for both.
fn from_flags(args: &Update) -> Result<LinuxResources> {
    for (flag, value) in [("--l3-cache-schema", &args.l3_cache_schema), ("--mem-bw-schema", &args.mem_bw_schema)] {
        if let Some(value) = value {
            let why = "refused: the class of a container may be shared, and its schemata are then others', too";
            return Err(Error::new(flag, value.as_str(), why).hint("write them in /sys/fs/resctrl"));
        }
    }
    let size = |flag: &str, text: &Option<String>| match text {
        Some(text) => parse_size(text).map(Some).map_err(|e| Error { step: flag.into(), ..e }),
        None => Ok(None),
    };
    let mut all = json!({});
    let mut put = |group: &str, key: &str, value: Option<Value>| {
        if let Some(value) = value {
            all[group][key] = value;
        }
    };
    put("memory", "limit", size("--memory", &args.memory)?.map(Value::from));
    put("memory", "reservation", size("--memory-reservation", &args.memory_reservation)?.map(Value::from));
    put("memory", "swap", size("--memory-swap", &args.memory_swap)?.map(Value::from));
    put("cpu", "shares", args.cpu_share.map(Value::from));
    put("cpu", "quota", args.cpu_quota.map(Value::from));
    put("memory", "kernel", args.kernel_memory.map(Value::from));
    put("memory", "kernelTCP", args.kernel_memory_tcp.map(Value::from));
    put("cpu", "period", args.cpu_period.map(Value::from));
    put("cpu", "burst", args.cpu_burst.map(Value::from));
    put("cpu", "idle", args.cpu_idle.map(Value::from));
    put("cpu", "realtimePeriod", args.cpu_rt_period.map(Value::from));
    put("cpu", "realtimeRuntime", args.cpu_rt_runtime.map(Value::from));
    put("cpu", "cpus", args.cpuset_cpus.clone().map(Value::from));
    put("cpu", "mems", args.cpuset_mems.clone().map(Value::from));
    put("pids", "limit", args.pids_limit.map(Value::from));
    put("blockIO", "weight", args.blkio_weight.map(Value::from));
    if let Some(cpus) = &args.cpus {
        let cpus = crate::policy::parse_cpus(cpus).map_err(|e| Error { step: "--cpus".into(), ..e })?;
        put("cpu", "quota", Some(((cpus * 100_000.0).round() as i64).into()));
        put("cpu", "period", Some(100_000.into()));
    }
    json::from_value(&all).map_err(|e| Error::new("update", "flags", e.to_string()))
}

/// What an update leaves unsaid keeps its value: the limit that a swap is counted on, the quota beside a new period, the
/// period beside a new quota (the file would keep it, but a unit's property is made of both).
fn complete(group: &Group, resources: LinuxResources) -> Result<LinuxResources> {
    let mut value = serde_json::to_value(&resources).map_err(|e| Error::new("update", "resources", e.to_string()))?;
    let memory = &value["memory"];
    let swap = memory["swap"].as_i64().filter(|n| *n > 0);
    if swap.is_some()
        && memory["limit"].as_i64().unwrap_or(0) == 0
        && let Ok(limit) = group.get("memory.max").unwrap_or_default().trim().parse::<i64>()
    {
        value["memory"]["limit"] = limit.into();
    }
    let cpu = &value["cpu"];
    if cpu["period"].as_u64().unwrap_or(0) != 0 && cpu["quota"].as_i64().unwrap_or(0) == 0 {
        let now = group.get("cpu.max").unwrap_or_default();
        if let Some(quota) = now.split_whitespace().next().and_then(|w| w.parse::<i64>().ok()) {
            value["cpu"]["quota"] = quota.into();
        }
    }
    let cpu = &value["cpu"];
    if cpu["quota"].as_i64().unwrap_or(0) != 0 && cpu["period"].as_u64().unwrap_or(0) == 0 {
        let now = group.get("cpu.max").unwrap_or_default();
        if let Some(period) = now.split_whitespace().nth(1).and_then(|w| w.parse::<u64>().ok()) {
            value["cpu"]["period"] = period.into();
        }
    }
    json::from_value(&value).map_err(|e| Error::new("update", "resources", e.to_string()))
}

/// memory.checkBeforeUpdate: a limit below what is used now would only start the OOM killer.
fn refuse_below_use(group: &Group, resources: &LinuxResources, wanted: &[Wanted]) -> Result<()> {
    if resources.memory().as_ref().and_then(|m| m.check_before_update()) != Some(true) {
        return Ok(());
    }
    let used = |file: &str| group.get(file).ok().and_then(|t| t.trim().parse::<u64>().ok()).unwrap_or(0);
    let limit = |file: &str| wanted.iter().find(|w| w.file == file).and_then(|w| w.value.parse::<u64>().ok());
    let now = used("memory.current");
    if let Some(limit) = limit("memory.max").filter(|l| *l < now) {
        return Err(Error::new(
            "update",
            "memory.limit",
            format!("rejecting memory limit {limit}: {now} bytes are in use"),
        ));
    }
    let swap = used("memory.swap.current");
    if let Some(limit) = limit("memory.swap.max").filter(|l| *l < swap) {
        return Err(Error::new(
            "update",
            "memory.swap",
            format!("rejecting memory+swap limit: {swap} bytes of swap are in use, {limit} would be allowed"),
        ));
    }
    Ok(())
}

/// cpu.max.burst may not be above the quota: the one that grows goes first.
fn order(group: &Group, mut wanted: Vec<Wanted>) -> Vec<Wanted> {
    let now = group.get("cpu.max.burst").ok().and_then(|t| t.trim().parse::<u64>().ok()).unwrap_or(0);
    let quota =
        wanted.iter().find(|w| w.file == "cpu.max").and_then(|w| w.value.split(' ').next()?.parse::<u64>().ok());
    if quota.is_some_and(|q| q < now) {
        wanted.sort_by_key(|w| w.file == "cpu.max");
    }
    wanted
}

/// A line of statistics. Field order is part of the format: readers match the beginning of the line.
fn stats_line(id: &str, group: &Group) -> String {
    format!("{{\"type\":\"stats\",\"id\":{},\"data\":{}}}", json!(id), stats::collect(group))
}

/// `stockade events` of all containers.
fn events_of_all(global: &Global, args: &Events) -> Result<i32> {
    let store = Store::open(global.root.as_deref())?;
    if !args.stats {
        let interval = parse_interval(&args.interval)?;
        return monitor::all(&store, interval, &mut std::io::stdout().lock()).map(|()| 0);
    }
    let mut text = String::new();
    for id in store.ids()? {
        // One that is deleted meanwhile, or has no cgroup, uses nothing that could be told.
        if let Ok(Some(group)) = store.entry(&id).and_then(|e| e.cgroup()) {
            text += &(stats_line(&id, &group) + "\n");
        }
    }
    crate::log::print(&text).map(|()| 0)
}

/// `stockade events`.
pub fn events(global: &Global, args: &Events) -> Result<i32> {
    let Some(id) = &args.id else { return events_of_all(global, args) };
    let (entry, state, status) = known(global, id)?;
    if status == Status::Stopped {
        return Err(Error::new("events", id.as_str(), "container not running"));
    }
    let interval = parse_interval(&args.interval)?;
    let group = group(&entry, "events")?;
    let line = || stats_line(id, &group);
    let say = |text: String| -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).at("events", "stdout")
    };
    if args.stats {
        return say(line()).map(|()| 0);
    }
    let watched = group.watch("memory.events").ok();
    let life = group.watch("cgroup.events")?;
    // The kernel announces a change since the last read through the same descriptor, so each is read before each wait.
    let value = |fd: &OwnedFd, key: &str| -> Option<u64> {
        let mut buffer = [0u8; 1024];
        let n = pread(fd, &mut buffer, 0).ok()?;
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse().ok())
    };
    let mut denials = Denials::of(&entry, &state)?;
    let mut seen = None;
    let mut next = Instant::now() + interval;
    loop {
        if let Some(denials) = &mut denials {
            denials.news().into_iter().try_for_each(&say)?;
        }
        if let Some(kills) = watched.as_ref().and_then(|fd| value(fd, "oom_kill ")) {
            for _ in seen.unwrap_or(kills)..kills {
                say(format!("{{\"type\":\"oom\",\"id\":{}}}", json!(id)))?;
            }
            seen = Some(kills);
        }
        if value(&life, "populated ") != Some(1) {
            // How often each kind came is written by the runtime once it has heard of the end, too.
            if let Some(denials) = &mut denials {
                denials.rest()?.into_iter().try_for_each(&say)?;
            }
            return Ok(0);
        }
        if Instant::now() >= next {
            say(line())?;
            next += interval;
        }
        let left = next.saturating_duration_since(Instant::now());
        let mut fds = vec![PollFd::new(life.as_fd(), PollFlags::POLLPRI)];
        fds.extend(watched.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLPRI)));
        fds.extend(denials.as_ref().map(|d| PollFd::new(d.grows.as_fd(), PollFlags::POLLIN)));
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::os("events", id.as_str(), e)),
        }
    }
}

/// What the foreground run of one container denies.
struct Denials {
    follower: Follower,
    grows: Inotify,
    /// Who writes; none: it has ended.
    runtime: Option<OwnedFd>,
}

impl Denials {
    /// None: nobody tells.
    fn of(entry: &Entry, state: &State) -> Result<Option<Denials>> {
        let Some(follower) = Follower::of(entry, false) else { return Ok(None) };
        let grows = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).at("events", "inotify")?;
        let path = entry.dir.join(crate::state::DENIALS);
        match grows.add_watch(&path, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DONT_FOLLOW) {
            // Gone meanwhile: what is in it is read all the same.
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(e) => return Err(Error::os("events", path.display().to_string(), e)),
        }
        let runtime = state.intent.as_ref().and_then(|i| i.runtime.open());
        Ok(Some(Denials { follower, grows, runtime }))
    }

    fn news(&mut self) -> Vec<String> {
        // What is announced is looked at now.
        let _ = self.grows.read_events();
        self.follower.lines().iter().filter_map(|l| as_event(l)).collect()
    }

    /// All that is still to come.
    fn rest(&mut self) -> Result<Vec<String>> {
        let mut told = self.news();
        while let Some(runtime) = self.runtime.take_if(|_| !self.follower.ended) {
            let mut fds =
                [PollFd::new(runtime.as_fd(), PollFlags::POLLIN), PollFd::new(self.grows.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::os("events", "poll", e)),
            }
            let gone = fds[0].any() == Some(true);
            told.extend(self.news());
            if !gone {
                self.runtime = Some(runtime);
            }
        }
        Ok(told)
    }
}

/// `5s`, `100ms`, `1m`.
pub(super) fn parse_interval(text: &str) -> Result<Duration> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: Option<f64> = text[..text.len() - unit.len()].parse().ok();
    let factor = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => 0.0,
    };
    match number.map(|n| n * factor) {
        Some(seconds) if (0.001..=1e6).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(Error::new("--interval", text, "not a duration above 0").hint("5s, 100ms, 1m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_as_people_say_them() {
        assert_eq!(parse_interval("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(parse_interval("100ms").unwrap(), Duration::from_millis(100));
        assert_eq!(parse_interval("1m").unwrap(), Duration::from_secs(60));
        for bad in ["", "0s", "-1s", "5x", "s"] {
            assert!(parse_interval(bad).is_err(), "{bad}");
        }
    }
}
