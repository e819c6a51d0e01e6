//! The heart of it: process isolation, seen from both sides at once.
//!
//! Each promise is tried under `strict` and under `oci`, as root and as an ordinary user. A process is never recognised
//! by its name: the two sides must agree on its number in either namespace (NSpid) and on the tick of its birth.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "probe/mod.rs"]
mod probe;

use common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use probe::Talk;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};

/// The four containers that every promise is tried on.
fn each(check: impl Fn(&str, &mut Talk, &Bundle)) {
    let strict = || Bundle::silent(&["sh"]);
    let kinds = [
        ("strict", strict()),
        ("oci", Bundle::usual(&["sh"]).policy("oci")),
        ("strict, an ordinary user", probe::by_single_user(strict(), &[])),
        ("oci, an ordinary user", {
            let mut bundle = Bundle::usual(&["sh"]).policy("oci");
            bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(serde_json::json!({ "type": "user" }));
            probe::by_single_user(bundle, &[])
        }),
    ];
    for (name, bundle) in &kinds {
        let mut talk = Talk::with(bundle);
        check(name, &mut talk, bundle);
    }
}

/// A process of the host that no container may reach; it is killed with the value.
struct Bystander(Child);

impl Bystander {
    fn new() -> Bystander {
        Bystander(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn namespace(pid: i32) -> Option<String> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok().map(|p| p.display().to_string())
}

/// Field 22 of a stat line: the tick of its birth. The name before it may hold anything but ends with a parenthesis.
fn birth(stat: &str) -> u64 {
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap()
}

fn host_birth(pid: i32) -> Option<u64> {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok().map(|s| birth(&s))
}

fn nspid(pid: i32) -> Vec<i32> {
    let line = proc_status(pid, "NSpid").unwrap_or_default();
    line.split_whitespace().map(|n| n.parse().unwrap()).collect()
}

/// The host's processes in a pid namespace: number inside -> number outside.
fn members(namespace_of: i32) -> BTreeMap<i32, i32> {
    let wanted = namespace(namespace_of).expect("the init is alive");
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| namespace(*pid).as_ref() == Some(&wanted))
        .filter_map(|pid| Some((*nspid(pid).last()?, pid)))
        .collect()
}

/// What the container says of one of its processes: NSpid, the parent, the tick of its birth.
fn inside(talk: &mut Talk, pid: i32) -> (Vec<i32>, i32, u64) {
    let status = talk.ask(&format!("cat /proc/{pid}/status"));
    let field = |name: &str| -> Vec<i32> {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {status}"));
        line.split_whitespace().map(|n| n.parse().unwrap()).collect()
    };
    let (numbers, parent) = (field("NSpid:"), field("PPid:")[0]);
    (numbers, parent, birth(&talk.ask(&format!("cat /proc/{pid}/stat"))))
}

/// The processes that the container sees. A glob of the shell's own: no process is born for the question.
fn visible(talk: &mut Talk) -> BTreeSet<i32> {
    let listed = talk.ask("echo /proc/[0-9]*");
    listed.split_whitespace().map(|p| p.trim_start_matches("/proc/").parse().unwrap()).collect()
}

fn gone(pid: i32, born: u64) -> bool {
    // A dead process stays readable until it is reaped, and its number may come back.
    host_birth(pid) != Some(born) || proc_status(pid, "State").is_none_or(|s| s.starts_with('Z'))
}

#[test]
fn both_sides_agree_on_init_and_on_a_child() {
    need_root!("both_sides_agree_on_init_and_on_a_child");
    each(|kind, talk, bundle| {
        // The init is 1 inside and another number outside.
        assert_eq!(talk.ask("echo $$"), "1", "{kind}");
        let init = bundle.pid();
        assert_ne!(init, 1, "{kind}");
        assert_eq!(nspid(init), [init, 1], "{kind}: the host's view of the init");
        let (numbers, parent, born) = inside(talk, 1);
        assert_eq!((numbers, parent), (vec![1], 0), "{kind}: the container's view of its init");
        assert_eq!(Some(born), host_birth(init), "{kind}: one process");

        // So it is for a child.
        let number: i32 = talk.ask("sleep 1000 & echo $!").parse().unwrap();
        let child = *members(init).get(&number).unwrap_or_else(|| panic!("{kind}: no {number} on the host"));
        assert_ne!(child, number, "{kind}");
        assert_eq!(nspid(child), [child, number], "{kind}: the host's view of the child");
        let (numbers, parent, born) = inside(talk, number);
        assert_eq!((numbers, parent), (vec![number], 1), "{kind}: the container's view of the child");
        assert_eq!(Some(born), host_birth(child), "{kind}: one process");
        assert_eq!(proc_status(child, "PPid"), Some(init.to_string()), "{kind}");
        // And /proc/self is who it should be: a fresh procfs, not the host's.
        assert_eq!(talk.ask("readlink /proc/self/ns/pid"), namespace(init).unwrap(), "{kind}");
        assert_ne!(namespace(init), namespace(std::process::id() as i32), "{kind}: not the host's");
    });
}

#[test]
fn both_sides_agree_on_what_is_executed() {
    need_root!("both_sides_agree_on_what_is_executed");
    each(|kind, talk, bundle| {
        let (init, file) = (bundle.pid(), bundle.path().join("exec.pid"));
        let words = ["exec", "--detach", "--pid-file", file.to_str().unwrap(), "box", "sleep", "1000"];
        let status = bundle.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{kind}");
        let host: i32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        let numbers = nspid(host);
        assert_eq!(numbers.len(), 2, "{kind}: {numbers:?}");
        assert_eq!(numbers[0], host, "{kind}: the host's view");
        // Nobody's child inside, and the same process: one birth.
        let (inner, parent, born) = inside(talk, numbers[1]);
        assert_eq!((inner, parent), (vec![numbers[1]], 0), "{kind}: the container's view");
        assert_eq!(Some(born), host_birth(host), "{kind}: one process");
        assert_eq!(members(init).get(&numbers[1]), Some(&host), "{kind}");
        assert_eq!(visible(talk), BTreeSet::from([1, numbers[1]]), "{kind}");
        // Each side kills it by its own number.
        assert_eq!(talk.ask(&format!("kill -KILL {}", numbers[1])), "", "{kind}");
        wait_for("its death", || gone(host, born));
    });
}

#[test]
fn the_container_sees_exactly_its_own_processes() {
    need_root!("the_container_sees_exactly_its_own_processes");
    let bystander = Bystander::new();
    each(|kind, talk, bundle| {
        assert_eq!(visible(talk), BTreeSet::from([1]), "{kind}: alone");
        // Two children, and an orphan that belongs to PID 1 from now on.
        talk.ask("sleep 1000 & sleep 1000 & (sleep 1000 &)");
        let init = bundle.pid();
        wait_for("an adopted orphan", || {
            let sleeps = |p: &&i32| {
                // Between fork and execve it is a shell yet.
                proc_status(**p, "PPid") == Some(init.to_string())
                    && proc_status(**p, "Name").as_deref() == Some("sleep")
            };
            members(init).values().filter(sleeps).count() == 3
        });
        let seen = visible(talk);
        assert_eq!(seen.len(), 4, "{kind}: {seen:?}");
        assert_eq!(seen, members(init).keys().copied().collect(), "{kind}: what the host counts in that namespace");
        assert_eq!(talk.ask("ps -o comm | grep -cx sleep"), "3", "{kind}: ps tells the same");
        // The host's number means nothing inside.
        let host = bystander.pid();
        assert_eq!(talk.ask(&format!("cat /proc/{host}/cmdline 2>&1")), missing(host), "{kind}");
    });
    // The control: without a pid namespace of its own the container sees the host's processes, this one among them.
    let bundle = without_pid_namespace();
    let mut talk = Talk::with(&bundle);
    assert!(visible(&mut talk).contains(&bystander.pid()));
    assert_eq!(talk.ask(&format!("cat /proc/{}/comm", bystander.pid())), "sleep");
}

fn missing(pid: i32) -> String {
    format!("cat: can't open '/proc/{pid}/cmdline': No such file or directory")
}

fn without_pid_namespace() -> Bundle {
    let mut bundle = Bundle::usual(&["sh"]).policy("oci");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    // As the host's root, with the capability to signal anybody: only the namespace would stand in the way.
    bundle.config["process"]["capabilities"] = capabilities();
    bundle
}

fn capabilities() -> serde_json::Value {
    let all = serde_json::json!(["CAP_KILL", "CAP_SETUID", "CAP_SETGID"]);
    serde_json::json!({ "bounding": all, "effective": all, "permitted": all })
}

#[test]
fn the_host_kills_by_host_pid() {
    need_root!("the_host_kills_by_host_pid");
    each(|kind, talk, bundle| {
        let init = bundle.pid();
        let number: i32 = talk.ask("sleep 1000 & echo $!").parse().unwrap();
        let child = members(init)[&number];
        kill(Pid::from_raw(child), Signal::SIGTERM).unwrap();
        // The parent inside learns it by the number inside, and the signal arrives as it was sent.
        assert_eq!(talk.ask(&format!("wait {number}; echo $?")), "143", "{kind}");
        assert_eq!(visible(talk), BTreeSet::from([1]), "{kind}: reaped");
        // The init, which its own namespace cannot kill.
        assert_eq!(talk.ask("kill -KILL 1; kill -TERM 1; echo alive"), "alive", "{kind}");
        kill(Pid::from_raw(init), Signal::SIGKILL).unwrap();
    });
    let bundle = Bundle::silent(&["sh"]);
    let talk = Talk::with(&bundle);
    kill(Pid::from_raw(bundle.pid()), Signal::SIGKILL).unwrap();
    assert_eq!(talk.end().code(), Some(137), "a run tells that its workload was killed");
}

#[test]
fn the_death_of_pid_1_ends_all() {
    need_root!("the_death_of_pid_1_ends_all");
    // Children that ignore what can be ignored, in a session of their own, and one that was orphaned.
    let stubborn = "sh -c 'trap \"\" TERM HUP INT QUIT; while :; do sleep 1000; done' & \
                    setsid sh -c 'trap \"\" TERM HUP INT QUIT; while :; do sleep 1000; done' & \
                    (setsid sh -c 'trap \"\" TERM HUP; sleep 1000' &)";
    // PID 1 leaves by itself, or is killed from outside.
    for killed in [false, true] {
        each(|kind, talk, bundle| {
            talk.ask(stubborn);
            let init = bundle.pid();
            wait_for("six processes", || members(init).len() >= 6);
            let all: Vec<(i32, u64)> =
                members(init).into_values().filter(|p| *p != init).filter_map(|p| Some((p, host_birth(p)?))).collect();
            assert!(all.len() >= 5, "{kind}: {all:?}");
            assert!(all.iter().all(|(pid, born)| !gone(*pid, *born)), "{kind}: they live");
            if killed {
                kill(Pid::from_raw(init), Signal::SIGKILL).unwrap();
            } else {
                talk.tell("exit 5");
            }
            wait_for("the end of all", || all.iter().all(|(pid, born)| gone(*pid, *born)));
        });
    }
    // The same end seen through the verbs.
    for policy in ["strict", "oci"] {
        let bundle = Bundle::usual(&["sh", "-c", "sleep 1000 & sleep 1000 & wait"]).policy(policy);
        ok(&bundle.create());
        ok(&bundle.verb(&["start", "box"]));
        let init = bundle.pid();
        wait_for("three processes", || members(init).len() == 3);
        let all: Vec<(i32, u64)> = members(init).into_values().filter_map(|p| Some((p, host_birth(p)?))).collect();
        ok(&bundle.verb(&["kill", "box", "KILL"]));
        wait_for("the end of all", || all.iter().all(|(pid, born)| gone(*pid, *born)));
        wait_for("stopped", || bundle.state()["status"] == "stopped");
    }
}

#[test]
fn the_exit_status_of_pid_1_is_the_runs() {
    need_root!("the_exit_status_of_pid_1_is_the_runs");
    let bundle = Bundle::silent(&["sh"]);
    let mut talk = Talk::with(&bundle);
    talk.ask("sleep 1000 &");
    talk.tell("exit 5");
    assert_eq!(talk.end().code(), Some(5));
}

#[test]
fn the_container_cannot_signal_the_host() {
    need_root!("the_container_cannot_signal_the_host");
    let mut bystander = Bystander::new();
    let host = bystander.pid();
    let numbers = [host, std::process::id() as i32];
    each(|kind, talk, _| {
        for number in numbers {
            // A number of the host can be one inside by chance: not here, where there is only PID 1.
            assert_eq!(visible(talk), BTreeSet::from([1]), "{kind}");
            let said = talk.ask(&format!("kill -0 {number} 2>&1; kill -KILL {number} 2>&1"));
            assert_eq!(said.matches("No such process").count(), 2, "{kind}: {said}");
        }
        // Everybody whom it can reach, from a child; a process group and a session that are not its own.
        talk.ask("sh -c 'kill -KILL -1'; true");
        talk.ask(&format!("kill -KILL -{host} 2>/dev/null; true"));
        assert_eq!(talk.ask("echo $$"), "1", "{kind}: the init outlives what a child sends to all");
    });
    assert!(bystander.lives());
    // The control: the same words in the host's pid namespace reach it.
    let bundle = without_pid_namespace();
    let mut talk = Talk::with(&bundle);
    assert_eq!(talk.ask(&format!("kill -0 {host} 2>&1; kill -KILL {host} 2>&1")), "");
    wait_for("its death", || !bystander.lives());
}

#[test]
fn every_tool_names_the_same_host_pid() {
    need_root!("every_tool_names_the_same_host_pid");
    for policy in ["strict", "oci"] {
        let mut bundle = Bundle::usual(&["sleep", "1000"]).policy(policy);
        if policy == "strict" {
            bundle.config["mounts"] = serde_json::json!([]);
        }
        bundle.write();
        let file = bundle.path().join("pid");
        let out = bundle
            .command(&[
                "create",
                "--pid-file",
                file.to_str().unwrap(),
                "--bundle",
                bundle.path().to_str().unwrap(),
                "box",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(out.success());
        let init = bundle.pid();
        // Already at the gate it is PID 1 of a namespace of its own.
        assert_eq!(std::fs::read_to_string(&file).unwrap(), init.to_string());
        assert_eq!(nspid(init), [init, 1]);
        let born = host_birth(init);
        ok(&bundle.verb(&["start", "box"]));
        assert_eq!((bundle.pid(), host_birth(init)), (init, born), "start changes the program, not the process");
        assert_eq!(std::fs::read_to_string(format!("/proc/{init}/cmdline")).unwrap(), "sleep\x001000\0");
        // A number that is not alive is not reported.
        kill(Pid::from_raw(init), Signal::SIGKILL).unwrap();
        wait_for("stopped", || bundle.state()["status"] == "stopped");
        assert_ne!(bundle.state()["pid"], init);
    }
}
