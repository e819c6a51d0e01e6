//! `events` of all containers.

use super::common::*;
use crate::{need_root, probe};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A monitor that runs, and what it said so far.
struct Monitor {
    child: Child,
    lines: Receiver<Value>,
    seen: Vec<Value>,
}

impl Monitor {
    fn of(bundle: &Bundle) -> Monitor {
        let mut child =
            bundle.command(&["events", "--all", "--interval", "100ms"]).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
                assert!(line.starts_with("{\"time\":\""), "{line}");
                if send.send(value).is_err() {
                    break;
                }
            }
        });
        // It watches, and has seen who is there already, once it waits: whoever comes then is new.
        let pid = child.id().cast_signed();
        let watches = || {
            let open = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
            let text = |e: std::fs::DirEntry| std::fs::read_to_string(e.path()).unwrap_or_default();
            open.map(text).any(|t| t.contains("inotify wd:"))
        };
        wait_for("the monitor", || watches() && proc_status(pid, "State").is_some_and(|s| s.starts_with('S')));
        Monitor { child, lines, seen: Vec::new() }
    }

    /// Waits for a line of this type about this container.
    fn next(&mut self, kind: &str, id: &str) -> Value {
        loop {
            let value = self.any(kind);
            if value["id"] == id {
                return value;
            }
        }
    }

    /// The same about whichever container.
    fn any(&mut self, kind: &str) -> Value {
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(value) => {
                    self.seen.push(value.clone());
                    if value["type"] == kind {
                        return value;
                    }
                }
                Err(e) => panic!("no {kind}: {e}: {:?}", self.seen),
            }
        }
    }

    /// Its life; on a slow machine it may be throttled, too.
    fn kinds(&self, id: &str) -> Vec<&str> {
        let of_it = self.seen.iter().filter(|v| v["id"] == id).filter_map(|v| v["type"].as_str());
        of_it.filter(|kind| *kind != "throttled").collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether an exit has this status; where its parent was faster, the kernel keeps it for us only since 6.15.
fn ended(exit: &Value, code: Option<i64>, signal: Option<i64>) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse::<u32>().unwrap_or(0));
    let keeps = (parts.next().unwrap(), parts.next().unwrap()) >= (6, 15);
    let told = (exit["code"].as_i64(), exit["signal"].as_i64());
    told == (code, signal) || (!keeps && told == (None, None))
}

/// Launches another container among the states of a bundle.
fn launch(bundle: &Bundle, id: &str, args: &[&str]) {
    let mut config = bundle.config.clone();
    config["process"]["args"] = json!(args);
    std::fs::write(bundle.path().join(format!("{id}.json")), config.to_string()).unwrap();
    ok(&on(bundle, &format!("create --bundle {{}} --config {id}.json {id}")));
    ok(&on(bundle, &format!("start {id}")));
}

#[test]
fn the_monitor_notices_who_comes_and_goes() {
    need_root!("the_monitor_notices_who_comes_and_goes");
    for (kind, bundle) in [
        ("root", Bundle::silent(&["true"])),
        ("an ordinary user", probe::by_single_user(Bundle::silent(&["true"]), &[])),
    ] {
        bundle.write();
        launch(&bundle, "early", &["sleep", "1000"]);
        let mut monitor = Monitor::of(&bundle);
        assert_eq!(monitor.next("present", "early")["status"], "running", "{kind}");
        // Its end by a signal, with the number of it.
        ok(&bundle.verb(&["kill", "early", "KILL"]));
        let exit = monitor.next("exit", "early");
        assert!(ended(&exit, None, Some(9)), "{kind}: {exit}");
        ok(&bundle.verb(&["delete", "early"]));
        monitor.next("deleted", "early");
        // One that comes while it runs, and ends by itself.
        launch(&bundle, "late", &["sh", "-c", "sleep 1; exit 7"]);
        let created = monitor.next("created", "late");
        assert_eq!(created["policy"], "strict", "{kind}");
        let exit = monitor.next("exit", "late");
        assert!(ended(&exit, Some(7), None) && exit["pid"] == created["pid"], "{kind}: {exit}");
        ok(&bundle.verb(&["delete", "late"]));
        monitor.next("deleted", "late");
        assert_eq!(monitor.kinds("late"), ["created", "exit", "deleted"], "{kind}");
        // The same id again is another container.
        launch(&bundle, "late", &["sh", "-c", "exit 0"]);
        monitor.next("created", "late");
        assert!(matches!(monitor.next("exit", "late")["code"].as_i64(), Some(0) | None), "{kind}");
        ok(&bundle.verb(&["delete", "--force", "late"]));
        monitor.next("deleted", "late");
    }
}

#[test]
fn foreground_runs_are_told_with_their_status() {
    need_root!("foreground_runs_are_told_with_their_status");
    let bundle = Bundle::silent(&["sh", "-c", "sleep .3; exit 3"]);
    bundle.write();
    let mut monitor = Monitor::of(&bundle);
    for n in 0..3 {
        assert_eq!(bundle.run().status.code(), Some(3));
        monitor.next("created", "box");
        let exit = monitor.next("exit", "box");
        assert!(ended(&exit, Some(3), None), "{n}: {exit}");
        monitor.next("deleted", "box");
    }
    assert_eq!(monitor.kinds("box"), ["created", "exit", "deleted"].repeat(3));
}

/// A foreground run that tells what is denied, and waits before it begins.
fn denying(bundle: &Bundle, words: &[&str]) -> Child {
    let (stdin, err) = (Stdio::piped(), std::fs::File::create(bundle.path().join("told")).unwrap());
    bundle.command(words).stdin(stdin).stdout(Stdio::null()).stderr(err).spawn().unwrap()
}

fn begin(run: &mut Child) {
    run.stdin.take().unwrap().write_all(b"go\n").unwrap();
}

#[test]
fn denials_of_a_foreground_run_are_told_and_go_with_it() {
    need_root!("denials_of_a_foreground_run_are_told_and_go_with_it");
    let script = "read go; for i in 1 2 3; do unshare -n true; done; unshare -u true; exit 5";
    for (kind, bundle) in
        [("root", Bundle::shell(script)), ("an ordinary user", probe::by_single_user(Bundle::shell(script), &[]))]
    {
        bundle.write();
        let mut monitor = Monitor::of(&bundle);
        let mut run = denying(&bundle, &["run", "--denials=json", "--bundle", ".", "box"]);
        monitor.next("created", "box");
        let ledger = bundle.root().join("box/denials");
        assert_eq!(std::fs::metadata(&ledger).unwrap().mode() & 0o7777, 0o600, "{kind}");
        begin(&mut run);
        // Each kind once, and as the run itself tells it.
        let kinds = [monitor.next("denial", "box"), monitor.next("denial", "box")];
        monitor.next("deleted", "box");
        assert_eq!(run.wait().unwrap().code(), Some(5), "{kind}");
        let own = std::fs::read_to_string(bundle.path().join("told")).unwrap();
        let own: Vec<Value> =
            own.lines().filter(|l| l.starts_with('{')).map(|l| serde_json::from_str(l).unwrap()).collect();
        for (seen, told) in kinds.iter().zip(&own) {
            for (key, value) in told["data"].as_object().unwrap() {
                assert_eq!(&seen[key], value, "{kind}: {key}");
            }
        }
        assert_eq!(kinds[0]["call"], "unshare(CLONE_NEWNET)", "{kind}");
        let mut order = monitor.kinds("box");
        let end = order.iter().position(|k| *k == "denials").expect("an end");
        // The status is the kernel's to tell, the count the runtime's, and either may be first.
        order.remove(end);
        assert_eq!(order, ["created", "denial", "denial", "exit", "deleted"], "{kind}");
        let end = monitor.seen.iter().find(|v| v["type"] == "denials").unwrap();
        assert_eq!(
            (&end["calls"], &end["untold"], &end["status"], &end["kinds"][0]["count"], &end["kinds"][1]["count"]),
            (&json!(4), &json!(0), &json!(5), &json!(3), &json!(1)),
            "{kind}: {end}"
        );
        assert!(!ledger.exists());
        // Who does not ask for it leaves no file, and says nothing of it.
        let mut run = denying(&bundle, &["run", "--bundle", ".", "quiet"]);
        monitor.next("created", "quiet");
        assert!(!bundle.root().join("quiet/denials").exists(), "{kind}");
        begin(&mut run);
        monitor.next("deleted", "quiet");
        assert_eq!(run.wait().unwrap().code(), Some(5), "{kind}");
        assert_eq!(monitor.kinds("quiet"), ["created", "exit", "deleted"], "{kind}");
    }
}

#[test]
fn denials_without_end_are_cut_and_the_rest_is_counted() {
    need_root!("denials_without_end_are_cut_and_the_rest_is_counted");
    let bundle = Bundle::silent(&["true"]);
    let mut monitor = Monitor::of(&bundle);
    let script = "import ctypes, sys\nsys.stdin.readline()\nc = ctypes.CDLL(None)\n\
                  for i in range(500): c.syscall(41, 100 + i, 1, 0)";
    let words = ["sandbox", "--denials", "--", "python3", "-c", script];
    let mut run = denying(&bundle, &words);
    let created = monitor.any("created");
    let id = created["id"].as_str().unwrap().to_owned();
    begin(&mut run);
    let cut = monitor.next("denialsUntold", &id);
    monitor.next("deleted", &id);
    assert!(run.wait().unwrap().success());
    let kinds = monitor.kinds(&id).iter().filter(|k| **k == "denial").count();
    assert_eq!((kinds, cut["kinds"].as_u64()), (256, Some(256)), "{cut}");
    let end = monitor.seen.iter().find(|v| v["type"] == "denials").unwrap();
    let (calls, untold) = (end["calls"].as_u64().unwrap(), end["untold"].as_u64().unwrap());
    assert!(calls >= 500 && untold >= 500 - 256 && end["kinds"].as_array().unwrap().len() == 256, "{end}");
    assert_eq!(
        bundle
            .root()
            .read_dir()
            .unwrap()
            .filter(|e| !e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'))
            .count(),
        0
    );
}

/// As runc's callers read it: what is told lies in `data`.
#[test]
fn a_single_containers_denials_are_told_to_their_end() {
    need_root!("a_single_containers_denials_are_told_to_their_end");
    let bundle = Bundle::shell("read go; unshare -n true; unshare -n true; sleep 1000");
    bundle.write();
    let mut run = denying(&bundle, &["run", "--denials", "--bundle", ".", "box"]);
    wait_for("the container", || {
        bundle.verb(&["state", "box"]).status.success() && bundle.state()["status"] == "running"
    });
    let mut child = bundle.command(&["events", "--interval", "50ms", "box"]).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let (send, lines) = channel::<Value>();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = send.send(serde_json::from_str(&line).unwrap());
        }
    });
    let news = || lines.iter().find(|l| l["type"] != "stats");
    // It looks on.
    assert_eq!(lines.recv().unwrap()["type"], "stats");
    begin(&mut run);
    let told = news().unwrap();
    assert_eq!((&told["type"], &told["id"]), (&json!("denial"), &json!("box")));
    assert_eq!((&told["data"]["call"], &told["data"]["errno"]), (&json!("unshare(CLONE_NEWNET)"), &json!("EPERM")));
    // The count is the runtime's to write, and waited for, however late it hears of the end.
    let supervisor = Pid::from_raw(run.id().cast_signed());
    kill(supervisor, Signal::SIGSTOP).unwrap();
    ok(&bundle.verb(&["kill", "box", "KILL"]));
    while lines.recv_timeout(Duration::from_secs(1)).is_ok() {}
    kill(supervisor, Signal::SIGCONT).unwrap();
    let end = news().expect("an end");
    let kinds = &end["data"]["kinds"];
    assert_eq!((&end["type"], &kinds[0]["call"]), (&json!("denials"), &told["data"]["call"]), "{end}");
    assert_eq!((&end["data"]["status"], kinds.as_array().unwrap().len()), (&json!(137), 1), "{end}");
    assert!(kinds[0]["count"].as_u64().unwrap() >= 1, "{end}");
    assert!(news().is_none() && child.wait().unwrap().success());
    assert_eq!(run.wait().unwrap().code(), Some(137));
}

#[test]
fn the_monitor_ends_with_its_reader() {
    need_root!("the_monitor_ends_with_its_reader");
    let bundle = Bundle::silent(&["true"]);
    bundle.write();
    let mut child = bundle.command(&["events"]).stdout(Stdio::piped()).spawn().unwrap();
    wait_for("the directory of the states", || bundle.root().exists());
    drop(child.stdout.take());
    // Nobody hears of the first that happens.
    wait_for("its end", || {
        let _ = bundle.run();
        child.try_wait().unwrap().is_some()
    });
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_single_containers_events_and_the_statistics_of_all_keep_their_form() {
    need_root!("a_single_containers_events_and_the_statistics_of_all_keep_their_form");
    let bundle = Bundle::silent(&["sleep", "1000"]);
    ok(&bundle.create());
    ok(&bundle.verb(&["start", "box"]));
    let one = ok(&bundle.verb(&["events", "--stats", "box"]));
    let all = ok(&bundle.verb(&["events", "--all", "--stats"]));
    for said in [&one, &all] {
        assert!(
            said.starts_with("{\"type\":\"stats\",\"id\":\"box\",\"data\":{") && said.lines().count() == 1,
            "{said}"
        );
    }
    assert!(failed(&bundle.verb(&["events", "--all", "box"])).contains("--all"));
}

#[test]
fn the_monitor_tells_kills_refusals_and_throttling() {
    need_root!("the_monitor_tells_kills_refusals_and_throttling");
    if !controllers(&["memory", "pids", "cpu"]) {
        return skip(
            "the_monitor_tells_kills_refusals_and_throttling",
            "cgroup v2 has no memory, pids and cpu controllers here",
        );
    }
    let mut bundle = Bundle::silent(&["true"]);
    bundle.config["linux"] = json!({ "resources": {
        "memory": { "limit": 16_777_216, "swap": 16_777_216 }, "pids": { "limit": 4 }, "cpu": { "quota": 10_000, "period": 100_000 }
    } });
    bundle.write();
    let mut monitor = Monitor::of(&bundle);
    let total = |id: &str, file: &str, key: &str| -> Option<u64> {
        let state: Value = serde_json::from_slice(&bundle.verb(&["state", id]).stdout).ok()?;
        let group = std::fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).ok()?;
        let path = cgroup_mount().join(group.trim().strip_prefix("0::/")?).join(file);
        std::fs::read_to_string(path).ok()?.lines().find_map(|l| l.strip_prefix(key)?.trim().parse().ok())
    };
    // A fork that is refused.
    launch(&bundle, "forks", &["sh", "-c", "for i in 1 2 3 4 5 6; do sleep 1000 & done; wait"]);
    let refused = monitor.next("pidsMax", "forks");
    assert!(refused["count"].as_u64().unwrap() >= 1, "{refused}");
    assert!(total("forks", "pids.events", "max ").is_none_or(|n| n >= refused["total"].as_u64().unwrap()), "{refused}");
    // A loop that wants more than its tenth.
    launch(&bundle, "loops", &["sh", "-c", "while :; do :; done"]);
    let throttled = monitor.next("throttled", "loops");
    assert!(throttled["periods"].as_u64().unwrap() >= 1 && throttled["usec"].as_u64().unwrap() > 0, "{throttled}");
    // A child that eats what there is; the kernel kills it, and PID 1 lives on.
    launch(&bundle, "eats", &["sh", "-c", "tail /dev/zero; sleep 1000"]);
    let killed = monitor.next("oom", "eats");
    assert!(killed["count"].as_u64().unwrap() >= 1, "{killed}");
    assert!(total("eats", "memory.events", "oom_kill ").unwrap() >= killed["total"].as_u64().unwrap(), "{killed}");
    for id in ["forks", "loops", "eats"] {
        ok(&bundle.verb(&["delete", "--force", id]));
        monitor.next("deleted", id);
    }
}
