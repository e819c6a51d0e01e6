//! The runtime is killed by SIGKILL at each point of the ladder, and nothing is left that cannot be cleared.
//!
//! A launch is run again and again under ptrace, and killed at its first point, its second, and so on. A point is the
//! entry of a system call after one that changed something or waited: between two points there is nothing to tell them
//! apart. The same is done with the child's points: there the runtime is killed while its child is in the middle.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "killed/forged.rs"]
mod forged;
use common::*;
use nix::errno::Errno;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

/// System calls that leave the world outside of the process as it was, by number on x86_64.
const PURE: [i64; 53] = [
    0, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 17, 19, 21, 25, 28, 35, 39, 63, 72, 79, 89, 97, 98, 99, 102, 104, 107,
    108, 110, 111, 115, 118, 120, 125, 131, 137, 138, 158, 186, 204, 217, 218, 228, 262, 267, 269, 273, 302, 318, 332,
    334,
];
const OPENAT: i64 = 257;
const O_CREAT: u64 = 0o100;

/// A name that no other test and no other run of this one has: in the state's path, the cgroup's and the command line.
fn unique(what: &str) -> String {
    format!("killed-{}-{what}", std::process::id())
}

/// A process that waits for a line before it becomes the runtime.
struct Traced {
    pid: Pid,
    _child: Child,
}

/// Where a run was stopped.
enum Stop {
    /// At the point that was asked for, with the number of the system call.
    At(i64),
    /// It ended before.
    Ended,
}

/// Whether the next entry of a system call is a point.
#[derive(Default)]
struct Points {
    changed: bool,
    seen: usize,
}

impl Points {
    /// A stop at a system call. Some: this is the point number `wanted`.
    fn stop(&mut self, pid: Pid, wanted: usize) -> Option<i64> {
        let regs = ptrace::getregs(pid).ok()?;
        let nr = regs.orig_rax.cast_signed();
        if ptrace::syscall_info(pid).ok()?.op != nix::libc::PTRACE_SYSCALL_INFO_ENTRY {
            return None;
        }
        let before = self.changed;
        self.changed = if nr == OPENAT { regs.rdx & O_CREAT != 0 } else { !PURE.contains(&nr) };
        if before {
            self.seen += 1;
            if self.seen == wanted {
                return Some(nr);
            }
        }
        None
    }
}

impl Traced {
    /// Starts a verb under ptrace, at the moment of its execve.
    fn start(bundle: &Bundle, args: &[&str], more: Options) -> Traced {
        let mut command = bundle.command(args);
        let program = command.get_program().to_owned();
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = std::process::Command::new("/bin/sh");
        command.args(["-c", "read line; exec \"$@\"", "sh"]).arg(program).args(words).current_dir(bundle.path());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).env_remove("STOCKADE_POLICY");
        command.stderr(std::fs::File::create(bundle.path().join("traced.err")).unwrap());
        let mut child = command.spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL;
        ptrace::seize(pid, options | more).unwrap();
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        loop {
            match waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::PtraceEvent(_, _, event) if event == Event::PTRACE_EVENT_EXEC as i32 => break,
                WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal).unwrap(),
                other => panic!("{other:?} before the execve"),
            }
        }
        Traced { pid, _child: child }
    }

    /// Lets it run to the entry of the first system call for which `here` says so. A runtime that waits for a workload
    /// of which `mark` is an argument gets to see its end.
    fn run_until(&self, mark: &str, mut here: impl FnMut(Pid) -> Option<i64>) -> Stop {
        let mut give = None;
        loop {
            ptrace::syscall(self.pid, give.take()).unwrap();
            let mut since = Instant::now();
            let status = loop {
                match waitpid(self.pid, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)).unwrap() {
                    WaitStatus::StillAlive if since.elapsed() > Duration::from_millis(100) => {
                        for pid in processes(mark) {
                            if std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.starts_with(b"sh\0-c\0")) {
                                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                            }
                        }
                        since = Instant::now();
                    }
                    WaitStatus::StillAlive if since.elapsed() > Duration::from_millis(1) => {
                        std::thread::sleep(Duration::from_micros(300));
                    }
                    WaitStatus::StillAlive => std::thread::yield_now(),
                    other => break other,
                }
            };
            match status {
                WaitStatus::PtraceSyscall(pid) => {
                    if let Some(nr) = here(pid) {
                        return Stop::At(nr);
                    }
                }
                WaitStatus::Stopped(_, signal) => give = Some(signal),
                WaitStatus::PtraceEvent(..) => {}
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Stop::Ended,
                other => panic!("{other:?}"),
            }
        }
    }

    fn kill(&self) {
        kill(self.pid, Signal::SIGKILL).unwrap();
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Signaled(..) | WaitStatus::Exited(..)) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }
}

/// Kills a verb at its point number `point`. None: it ended before.
fn killed_at(bundle: &Bundle, mark: &str, args: &[&str], point: usize) -> Option<i64> {
    let traced = Traced::start(bundle, args, Options::empty());
    let mut points = Points::default();
    match traced.run_until(mark, |pid| points.stop(pid, point)) {
        Stop::At(nr) => {
            traced.kill();
            Some(nr)
        }
        Stop::Ended => None,
    }
}

/// Kills a verb while the child that it cloned is at its point number `point`: 1 is before its first instruction, the
/// last is right after its execve. None: the child had fewer points, and the verb ended or its workload runs.
fn killed_with_child_at(bundle: &Bundle, args: &[&str], point: usize) -> Option<i64> {
    let traced = Traced::start(bundle, args, Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACECLONE);
    ptrace::cont(traced.pid, None).unwrap();
    let child = loop {
        match waitpid(traced.pid, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::PtraceEvent(pid, _, event)
                if event == Event::PTRACE_EVENT_FORK as i32 || event == Event::PTRACE_EVENT_CLONE as i32 =>
            {
                break Pid::from_raw(ptrace::getevent(pid).unwrap() as i32);
            }
            WaitStatus::Stopped(pid, signal) => ptrace::cont(pid, signal).unwrap(),
            WaitStatus::PtraceEvent(pid, ..) => ptrace::cont(pid, None).unwrap(),
            other => panic!("{other:?} before the clone"),
        }
    };
    // Seized from birth: it stops before its first instruction.
    waitpid(child, Some(WaitPidFlag::__WALL)).unwrap();
    let end = |nr| {
        traced.kill();
        // The death signal may have come already; then there is nothing to let go.
        if ptrace::detach(child, None).is_err() {
            let _ = waitpid(child, Some(WaitPidFlag::__WALL));
        }
        nr
    };
    if point == 1 {
        return end(Some(-1));
    }
    ptrace::cont(traced.pid, None).unwrap();
    ptrace::syscall(child, None).unwrap();
    let mut points = Points::default();
    let mut executed = false;
    loop {
        match waitpid(child, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::PtraceSyscall(_) => {
                if executed && points.seen + 2 == point {
                    return end(Some(59));
                }
                if executed {
                    return end(None);
                }
                if let Some(nr) = points.stop(child, point - 1) {
                    return end(Some(nr));
                }
                ptrace::syscall(child, None).unwrap();
            }
            WaitStatus::PtraceEvent(_, _, event) => {
                // The stub comes before the workload, and has points of its own.
                let exe = std::fs::read_link(format!("/proc/{child}/exe")).unwrap_or_default();
                executed |= event == Event::PTRACE_EVENT_EXEC as i32 && !exe.starts_with("/memfd:stockade (deleted)");
                ptrace::syscall(child, None).unwrap();
            }
            WaitStatus::Stopped(_, signal) => ptrace::syscall(child, signal).unwrap(),
            WaitStatus::StillAlive => {
                match waitpid(traced.pid, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)).unwrap() {
                    WaitStatus::StillAlive => std::thread::sleep(Duration::from_micros(100)),
                    WaitStatus::Stopped(pid, signal) => ptrace::cont(pid, signal).unwrap(),
                    WaitStatus::PtraceEvent(pid, ..) => ptrace::cont(pid, None).unwrap(),
                    _ => {
                        // `create` is through, and its child waits at the gate.
                        let _ = ptrace::interrupt(child);
                        let _ = waitpid(child, Some(WaitPidFlag::__WALL));
                        let _ = ptrace::detach(child, None);
                        return None;
                    }
                }
            }
            other => panic!("the child: {other:?}"),
        }
    }
}

/// Processes with `mark` in their command line: the runtime, its child before the execve, and the workload.
fn processes(mark: &str) -> Vec<i32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != std::process::id().cast_signed())
        .filter(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| text(&c).contains(mark)))
        .collect()
}

/// One way to launch, with an id of its own.
struct Scene {
    bundle: Bundle,
    id: String,
    before: Leftovers,
}

impl Scene {
    /// A container that stays, as `policy` has it.
    fn new(policy: &str, what: &str) -> Scene {
        let id = unique(what);
        let script = ["sh", "-c", "echo ready; test -z \"$QUICK\" && sleep 1000; exit 0", id.as_str()];
        let bundle = match policy {
            "strict" => Bundle::silent(&script),
            _ => Bundle::usual(&script).policy(policy),
        };
        bundle.write();
        Scene { bundle, before: Leftovers::now(&id), id }
    }

    fn launch(&self, verb: &'static str) -> Vec<String> {
        vec![verb.to_owned(), "--bundle".to_owned(), self.bundle.path().display().to_string(), self.id.clone()]
    }

    fn verb(&self, args: &[&str]) -> Output {
        self.bundle.verb(args)
    }

    fn dir(&self) -> PathBuf {
        self.bundle.root().join(&self.id)
    }

    fn record(&self, name: &str) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.dir().join(name)).ok()?).ok()
    }

    /// Quick output and end, for the launch after the kill.
    fn quick(&self, yes: bool) {
        let mut config = self.bundle.config.clone();
        if yes {
            config["process"]["env"] = json!(["PATH=/bin", "QUICK=1"]);
        }
        std::fs::write(self.bundle.path().join("config.json"), config.to_string()).unwrap();
    }

    /// Nothing of the container lives.
    fn gone(&self, when: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let left = processes(&self.id);
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "{when}: still there: {left:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A child that dies holds the lock to the last; without an intent nobody can tell it from a launch that begins.
    fn unlocked(&self) {
        use std::os::fd::AsRawFd;
        let Ok(dir) = std::fs::File::open(self.dir()) else { return };
        #[allow(deprecated)]
        let free = || nix::fcntl::flock(dir.as_raw_fd(), nix::fcntl::FlockArg::LockExclusiveNonblock).is_ok();
        wait_for("the lock", free);
    }

    /// Nothing of the container lives but this process of ours.
    fn gone_but(&self, own: u32) {
        wait_for("the end of the container", || processes(&self.id).iter().all(|pid| *pid == own.cast_signed()));
    }

    /// Nothing of the container is left anywhere.
    fn clean(&self, when: &str) {
        self.gone(when);
        let now = Leftovers::now(&self.id);
        assert_eq!((&now.cgroups, &now.ids), (&self.before.cgroups, &self.before.ids), "{when}");
        let left: Vec<_> = std::fs::read_dir(self.bundle.root())
            .into_iter()
            .flatten()
            .flatten()
            .flat_map(|e| {
                let inside: Vec<_> =
                    std::fs::read_dir(e.path()).into_iter().flatten().flatten().map(|e| e.path()).collect();
                // The place of sandboxes stays; what is in it must not.
                if e.file_name() == ".sandbox" { inside } else { vec![e.path()] }
            })
            .collect();
        assert!(left.is_empty(), "{when}: {left:?}");
    }

    fn clear(&self, when: &str) {
        let out = self.verb(&["delete", "--force", &self.id]);
        assert!(out.status.success(), "{when}: delete: {}", text(&out.stderr));
        self.clean(when);
    }

    /// A second run of the same id, without a delete.
    fn again(&self, when: &str) {
        self.quick(true);
        let words = self.launch("run");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let out = self.verb(&words);
        assert_eq!((text(&out.stdout).as_str(), text(&out.stderr).as_str()), ("ready\n", ""), "{when}: run");
        self.quick(false);
        self.clean(when);
    }
}

/// What happens to the records of a container whose runtime was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// `delete --force`
    Clear,
    /// A second `run` of the same id.
    Again,
    /// state.json is torn, then `delete --force`.
    TornState,
    /// state.json is missing, then `delete --force`.
    NoState,
    /// intent.json is torn, then `delete --force`.
    TornIntent,
}

fn tear(path: &Path) -> bool {
    let Ok(bytes) = std::fs::read(path) else { return false };
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    true
}

/// A verb that launches, killed at all its points (or at all those of its child).
fn every_point(policy: &str, verb: &'static str, of_child: bool) {
    let who = if of_child { "child" } else { "runtime" };
    let scene = Scene::new(policy, &format!("{policy}-{verb}-{who}"));
    let words = scene.launch(verb);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut calls = BTreeSet::new();
    let (mut runs, mut committed) = (0, 0);
    let afters = [After::Clear, After::Again, After::TornState, After::NoState, After::TornIntent];
    let mut point = 0;
    'points: loop {
        point += 1;
        for (n, after) in afters.into_iter().enumerate() {
            // The runtime's points are each cleared and run again, and what happens to torn records goes round; at the
            // child's points, which the runtime cannot tell apart, all five go round.
            let due = if of_child { point % 5 == n } else { n < 2 || point % 3 == n - 2 };
            if !due {
                continue;
            }
            let killed = if of_child {
                killed_with_child_at(&scene.bundle, &words, point)
            } else {
                killed_at(&scene.bundle, &scene.id, &words, point)
            };
            let Some(nr) = killed else { break 'points };
            runs += 1;
            calls.insert(nr);
            let when = format!("{policy} {verb}: the {who} at point {point} (syscall {nr}), {after:?}");
            // Told from outside: a state that is there was committed, and a container that waits at its gate is whole.
            let state = scene.record("state.json");
            let waits = verb == "create" && state.is_some();
            if !waits {
                scene.gone(&when);
            }
            committed += usize::from(state.is_some());
            match after {
                After::Clear => scene.clear(&when),
                After::Again if waits => {
                    let out = scene.verb(&words);
                    assert!(failed(&out).contains("already exists"), "{when}");
                    scene.clear(&when);
                }
                After::Again => scene.again(&when),
                After::TornState => {
                    tear(&scene.dir().join("state.json"));
                    scene.clear(&when);
                }
                After::NoState => {
                    let _ = std::fs::remove_file(scene.dir().join("state.json"));
                    scene.clear(&when);
                }
                After::TornIntent => {
                    tear(&scene.dir().join("intent.json"));
                    // Before the commit nobody else knows the cgroup; but a record that appears by rename is never torn
                    // by a kill, and who tore it by hand gets rid of the rest with a second launch.
                    if state.is_none() {
                        scene.unlocked();
                        scene.again(&when);
                    } else {
                        scene.clear(&when);
                    }
                }
            }
        }
    }
    scene.clear("at the end");
    println!(
        "{policy} {verb}: {} points of the {who}, {} system calls, {runs} runs, {committed} with a state",
        point - 1,
        calls.len()
    );
    assert!(point > 20, "only {point} points: the tracing is broken");
    assert!(committed > 0 && committed < runs, "the points must lie on both sides of the commit");
}

#[test]
fn run_killed_strict() {
    need_root!("run_killed_strict");
    every_point("strict", "run", false);
}

#[test]
fn run_killed_oci() {
    need_root!("run_killed_oci");
    every_point("oci", "run", false);
}

#[test]
fn create_killed_strict() {
    need_root!("create_killed_strict");
    every_point("strict", "create", false);
}

#[test]
fn create_killed_oci() {
    need_root!("create_killed_oci");
    every_point("oci", "create", false);
}

#[test]
fn run_killed_while_its_child_builds_strict() {
    need_root!("run_killed_while_its_child_builds_strict");
    every_point("strict", "run", true);
}

#[test]
fn create_killed_while_its_child_builds_oci() {
    need_root!("create_killed_while_its_child_builds_oci");
    every_point("oci", "create", true);
}

#[test]
fn sandbox_killed() {
    need_root!("sandbox_killed");
    let id = unique("sandbox");
    let bundle = Bundle::silent(&["true"]);
    bundle.write();
    let scene = Scene { before: Leftovers::now(&id), bundle, id };
    // The id of a sandbox is its own choice: its cgroup is known by the directory that --root has.
    let words = ["sandbox", "--", "sh", "-c", "sleep 1000; exit 0", scene.id.as_str()];
    let mut point = 0;
    let mut left = 0;
    while let Some(nr) = {
        point += 1;
        // The skeleton is a hundred files that all go the same way.
        if point > 40 && point < 120 {
            point += 2;
        }
        killed_at(&scene.bundle, &scene.id, &words, point)
    } {
        let when = format!("sandbox: point {point} (syscall {nr})");
        scene.gone(&when);
        // Killed before anything was made: there is no list yet.
        let exists = scene.bundle.root().exists();
        let ids = if exists { ok(&scene.verb(&["list", "-q"])) } else { String::new() };
        left += usize::from(!ids.is_empty());
        for id in ids.lines() {
            let out = scene.verb(&["delete", "--force", id]);
            assert!(out.status.success(), "{when}: {}", text(&out.stderr));
        }
        scene.clean(&when);
        let root = scene.bundle.root().display().to_string();
        assert_eq!(Leftovers::now(&root).ids, [] as [String; 0], "{when}");
    }
    println!("sandbox: {} points, {left} left something for delete", point - 1);
    assert!(left > 30, "{left}");
}

/// The host ids of a container's init, as its uid map and its gid map have them.
fn host_ids(pid: i32) -> Vec<(u64, u64)> {
    ["uid_map", "gid_map"]
        .iter()
        .flat_map(|file| {
            let map = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
            map.lines()
                .map(|line| {
                    let words: Vec<u64> = line.split_whitespace().map(|w| w.parse().unwrap()).collect();
                    (words[1], words[1] + words[2])
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

fn overlap(a: &[(u64, u64)], b: &[(u64, u64)]) -> bool {
    a.iter().any(|x| b.iter().any(|y| x.0 < y.1 && y.0 < x.1))
}

#[test]
fn start_killed() {
    need_root!("start_killed");
    for policy in ["strict", "oci"] {
        let scene = Scene::new(policy, &format!("start-{policy}"));
        let create = scene.launch("create");
        let create: Vec<&str> = create.iter().map(String::as_str).collect();
        let (mut waited, mut ran) = (0, 0);
        let mut point = 0;
        loop {
            point += 1;
            let out = scene.bundle.command(&create).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            assert!(out.success());
            let killed = killed_at(&scene.bundle, "-", &["start", &scene.id], point);
            let when = format!("{policy} start: point {point} (syscall {killed:?})");
            let state: Value = serde_json::from_slice(&scene.verb(&["state", &scene.id]).stdout).unwrap();
            let init = state["pid"].as_i64().unwrap();
            // What is said must be so: `sh` is executed if and only if it runs.
            let executed = || text(&std::fs::read(format!("/proc/{init}/cmdline")).unwrap()).starts_with("sh\0");
            match state["status"].as_str().unwrap() {
                "created" => {
                    waited += 1;
                    // It waits, or the byte is through the gate and nobody saw it; either way it can be started.
                    let out = scene.verb(&["start", &scene.id]);
                    let raced = text(&out.stderr).contains("cannot start a container that is running");
                    assert!(out.status.success() || raced, "{when}: {}", text(&out.stderr));
                    assert!(executed(), "{when}");
                }
                "running" => {
                    ran += 1;
                    assert!(executed(), "{when}");
                    assert!(failed(&scene.verb(&["start", &scene.id])).contains("running"), "{when}");
                }
                other => panic!("{when}: {other}"),
            }
            assert!(failed(&scene.verb(&["delete", &scene.id])).contains("running"), "{when}");
            scene.clear(&when);
            if killed.is_none() {
                break;
            }
        }
        println!("{policy} start: {} points, {waited} still waited, {ran} ran", point - 1);
        assert!(waited >= 2 && ran >= 2, "{waited} {ran}");
    }
}

#[test]
fn delete_killed() {
    need_root!("delete_killed");
    for policy in ["strict", "oci"] {
        let scene = Scene::new(policy, &format!("delete-{policy}"));
        // The same id under another --root: it would like the same ids of the host.
        let other = scene.bundle.path().join("other").display().to_string();
        let elsewhere = |args: &[&str]| {
            let mut command = scene.bundle.command(&[]);
            command.args(["--root", &other]).args(args);
            let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            // --root may be given once.
            let mut command = std::process::Command::new(command.get_program());
            command.args(&words[2..]).current_dir(scene.bundle.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
        };
        let launch = scene.launch("run");
        let mut launch: Vec<&str> = launch.iter().map(String::as_str).collect();
        launch.push("--detach");
        let mut point = 0;
        let mut reused = 0;
        loop {
            point += 1;
            let out = scene.bundle.command(&launch).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            assert!(out.success(), "launch {point}");
            let ids = host_ids(
                serde_json::from_slice::<Value>(&scene.verb(&["state", &scene.id]).stdout).unwrap()["pid"]
                    .as_i64()
                    .unwrap() as i32,
            );
            let killed = killed_at(&scene.bundle, "-", &["delete", "--force", &scene.id], point);
            let when = format!("{policy} delete: point {point} (syscall {killed:?})");
            let released = policy == "strict" && !Path::new(&format!("/run/stockade/.ids/{}", ids[0].0)).exists();
            if killed.is_some() && released && scene.dir().exists() {
                // Another takes the ids that were given back; the second delete must not give those away, too.
                reused += 1;
                assert!(elsewhere(&launch).success(), "{when}");
                let holder = || std::fs::read_to_string(format!("/run/stockade/.ids/{}", ids[0].0)).unwrap_or_default();
                assert!(holder().starts_with(&other), "{when}: {:?}", holder());
                assert!(scene.verb(&["delete", "--force", &scene.id]).status.success());
                assert!(holder().starts_with(&other), "{when}: the reservation of another went with the delete");
                assert!(elsewhere(&["delete", "--force", &scene.id]).success());
            }
            match point % 3 {
                0 => scene.clear(&when),
                1 => {
                    tear(&scene.dir().join("state.json"));
                    scene.clear(&when);
                }
                _ => {
                    tear(&scene.dir().join("intent.json"));
                    // Where state.json went before: the cgroup went before that.
                    scene.clear(&when);
                }
            }
            if killed.is_none() {
                break;
            }
        }
        println!("{policy} delete: {} points, {reused} with ids that another took", point - 1);
        assert!(point > 10 && (policy == "oci" || reused > 0));
    }
}

#[test]
fn a_delete_that_waited_leaves_a_new_container_of_the_same_id_alone() {
    need_root!("a_delete_that_waited_leaves_a_new_container_of_the_same_id_alone");
    use std::os::fd::AsRawFd;
    let scene = Scene::new("strict", "waited");
    let create = scene.launch("create");
    let create: Vec<&str> = create.iter().map(String::as_str).collect();
    let launch = || scene.bundle.command(&create).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(launch().success());
    let lock = std::fs::File::open(scene.dir()).unwrap();
    #[allow(deprecated)]
    nix::fcntl::flock(lock.as_raw_fd(), nix::fcntl::FlockArg::LockExclusive).unwrap();
    let mut waiting = scene.bundle.command(&["delete", "--force", &scene.id]).spawn().unwrap();
    // It has the directory open and waits for the lock.
    let blocked =
        |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|s| s.starts_with("73 "));
    wait_for("the lock is waited for", || blocked(waiting.id()));
    let old = scene.bundle.root().join("moved-away");
    std::fs::rename(scene.dir(), &old).unwrap();
    std::fs::create_dir(scene.bundle.path().join("aside")).unwrap();
    let aside = scene.bundle.path().join("aside/old");
    std::fs::rename(&old, &aside).unwrap();
    // As if another delete had been through: its directory is gone, its init and cgroup too.
    let init =
        serde_json::from_slice::<Value>(&std::fs::read(aside.join("state.json")).unwrap()).unwrap()["init"]["pid"]
            .as_i64()
            .unwrap();
    kill(Pid::from_raw(init as i32), Signal::SIGKILL).unwrap();
    std::fs::remove_dir_all(&aside).unwrap();
    scene.gone_but(waiting.id());
    assert!(launch().success());
    drop(lock);
    assert!(waiting.wait().unwrap().success());
    let state: Value = serde_json::from_slice(&scene.verb(&["state", &scene.id]).stdout).unwrap();
    assert_eq!(state["status"], "created", "the delete was meant for another container");
    scene.clear("at the end");
}

#[test]
fn two_strict_containers_never_share_a_host_id() {
    need_root!("two_strict_containers_never_share_a_host_id");
    let scene = Scene::new("strict", "ids");
    let ids: Vec<String> = (0..8).map(|n| format!("{}-{n}", scene.id)).collect();
    let roots: Vec<PathBuf> = ["a", "b", "c"].iter().map(|r| scene.bundle.path().join(r)).collect();
    let bundle = scene.bundle.path().display().to_string();
    let verb = |root: &Path, args: &[&str]| {
        let mut command = std::process::Command::new(runtime());
        command.arg("--root").arg(root).args(args).stdin(Stdio::null()).stderr(Stdio::null());
        command
    };
    // All at once, each id under three roots: they all want the block of their id's hash.
    let children: Vec<Child> = roots
        .iter()
        .flat_map(|root| ids.iter().map(move |id| (root, id)))
        .map(|(root, id)| verb(root, &["create", "--bundle", &bundle, id]).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    let made = children.into_iter().map(|mut c| c.wait().unwrap()).filter(|s| s.success()).count();
    assert_eq!(made, 24);
    let mut all: Vec<(String, Vec<(u64, u64)>)> = Vec::new();
    for root in &roots {
        for id in &ids {
            let state: Value = serde_json::from_slice(&verb(root, &["state", id]).output().unwrap().stdout).unwrap();
            let own = host_ids(state["pid"].as_i64().unwrap() as i32);
            let name = format!("{} {id}", root.display());
            for (first, last) in &own {
                assert!(*first > 0 && last - first == 65_536, "{name}: {own:?}");
            }
            if let Some((who, theirs)) = all.iter().find(|(_, theirs)| overlap(theirs, &own)) {
                panic!("{name} and {who} share host ids: {own:?} {theirs:?}");
            }
            all.push((name, own));
        }
    }
    for root in &roots {
        for id in &ids {
            assert!(verb(root, &["delete", "--force", id]).status().unwrap().success());
        }
    }
    scene.clean("at the end");
    assert_eq!(Leftovers::now(&bundle).ids, [] as [String; 0]);
}
