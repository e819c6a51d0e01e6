//! What a launch costs, and that it tells: `--timing`.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Bundle, runtime};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;

/// The report is the last thing on stderr.
fn report(stderr: &[u8]) -> Value {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().last().unwrap_or_else(|| panic!("nothing on stderr"));
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn named(report: &Value, who: &str) -> Vec<String> {
    let parts = report["parts"].as_array().unwrap();
    let of = |p: &&Value| p["who"] == who;
    parts.iter().filter(of).map(|p| p["step"].as_str().unwrap().to_owned()).collect()
}

/// The names of the plan's steps on one side, by `explain`.
fn planned(bundle: &Bundle, side: &str) -> Vec<String> {
    let path = bundle.path().display().to_string();
    let out = bundle.verb(&["explain", "--json", &path]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let all: Value = serde_json::from_slice(&out.stdout).unwrap();
    let steps = all["plan"].as_array().unwrap();
    steps.iter().filter(|s| s["actor"] == side).map(|s| s["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_step_of_parent_and_child_is_timed() {
    need_root!("every_step_of_parent_and_child_is_timed");
    let bundle = Bundle::usual(&["true"]).policy("oci");
    bundle.write();
    let out = bundle.verb(&["run", "--timing=json", "box"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let report = report(&out.stderr);
    assert_eq!(named(&report, "parent"), planned(&bundle, "parent"));
    // After the child's last word comes the stub, which has no clock.
    let (told, expected) = (named(&report, "child"), planned(&bundle, "child"));
    assert_eq!(expected[told.len()..], ["stub", "gate", "exec"]);
    assert_eq!(told, expected[..told.len()]);
    // Without a stub, what comes after it is the filter, if there is one, and the execve.
    let mut bundle = Bundle::usual(&["true"]).policy("oci");
    bundle.config["hooks"] = serde_json::json!({ "startContainer": [{ "path": "/bin/true" }] });
    bundle.write();
    let out = bundle.verb(&["run", "--timing=json", "box"]);
    let (told, expected) = (named(&self::report(&out.stderr), "child"), planned(&bundle, "child"));
    assert_eq!(expected[told.len()..], ["exec"]);
    assert_eq!(told, expected[..told.len()]);
    let total = report["totalMicros"].as_f64().unwrap();
    for part in report["parts"].as_array().unwrap() {
        let (at, took) = (part["atMicros"].as_f64().unwrap(), part["micros"].as_f64().unwrap());
        assert!(at >= 0.0 && took >= 0.0 && at + took <= total, "{part} of {total}");
    }
    let runtime = named(&report, "runtime");
    for phase in ["config.json", "facts of the host", "plan", "commit", "start", "delete"] {
        assert!(runtime.iter().any(|r| r == phase), "{phase}: {runtime:?}");
    }
}

#[test]
fn the_time_of_a_sleeping_child_is_the_child_s() {
    need_root!("the_time_of_a_sleeping_child_is_the_child_s");
    // A hook inside that takes its time: the step that runs it says so, and no other.
    let mut bundle = Bundle::usual(&["true"]).policy("oci");
    bundle.config["hooks"] =
        serde_json::json!({ "startContainer": [{ "path": "/bin/sleep", "args": ["sleep", "0.3"] }] });
    bundle.write();
    let out = bundle.verb(&["run", "--timing=json", "box"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let report = report(&out.stderr);
    let slow: Vec<&Value> =
        report["parts"].as_array().unwrap().iter().filter(|p| p["micros"].as_f64().unwrap() >= 300_000.0).collect();
    let names: Vec<&str> = slow.iter().map(|p| p["step"].as_str().unwrap()).collect();
    assert!(["hooks", "start"].iter().all(|n| names.contains(n)), "{names:?}");
    assert!(slow.iter().any(|p| p["who"] == "child"), "{slow:?}");
}

#[test]
fn a_table_is_for_people_and_stdout_is_the_workload_s() {
    need_root!("a_table_is_for_people_and_stdout_is_the_workload_s");
    let bundle = Bundle::usual(&["echo", "hello"]).policy("oci");
    bundle.write();
    let out = bundle.verb(&["run", "--timing", "box"]);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "hello\n");
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(text.lines().next().unwrap().contains("TOOK (ms)") && text.trim_end().ends_with("total"), "{text}");
    assert!(text.lines().any(|l| l.contains("child") && l.contains("pivot_root")), "{text}");
    // Who did not ask is told nothing.
    let out = bundle.verb(&["run", "box"]);
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    let out = std::process::Command::new(runtime()).args(["run", "--timing=moon", "box"]).output().unwrap();
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("json"), "{out:?}");
}

#[test]
fn create_tells_up_to_the_commit() {
    need_root!("create_tells_up_to_the_commit");
    let bundle = Bundle::usual(&["true"]).policy("oci");
    bundle.write();
    // Into files: the child of `create` holds the streams for longer.
    let stderr = bundle.path().join("stderr");
    let file = std::fs::File::create(&stderr).unwrap();
    let mut create = bundle.command(&["create", "--timing=json", "box"]);
    assert!(create.stderr(file).stdout(Stdio::null()).status().unwrap().success());
    let report = report(&std::fs::read(&stderr).unwrap());
    assert_eq!(named(&report, "child").last().map(String::as_str), Some("ready"));
    assert!(named(&report, "runtime").contains(&"commit".to_owned()));
    assert!(bundle.verb(&["delete", "--force", "box"]).status.success());
}

/// The system calls of everything that a run starts, the workload's dozen too. readlink is left out: there is one
/// for each directory above the test's own; and the F_GETFD that a debug build asks before each close.
fn calls(bundle: &Bundle) -> (usize, String) {
    let log = bundle.path().join("strace");
    let typed = bundle.command(&["run", "box"]);
    // What other containers have reserved is read by each launch; here are none.
    let alone = "mkdir -p /run/stockade && mount -t tmpfs -o mode=0700 none /run/stockade && exec strace \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", alone, "strace", "-f", "-qq", "-o"])
        .arg(&log)
        .arg(typed.get_program())
        .args(typed.get_args());
    command.current_dir(bundle.path()).stdin(Stdio::null()).stdout(Stdio::null()).env_remove("STOCKADE_POLICY");
    assert!(command.status().unwrap().success());
    let all = std::fs::read_to_string(&log).unwrap();
    let marks = [" resumed>", "+++", "--- SIG", " readlink(", ", F_GETFD)"];
    let kept: Vec<&str> = all.lines().filter(|l| !marks.iter().any(|m| l.contains(m))).collect();
    (kept.len(), kept.join("\n"))
}

/// What each launch took when the number was written down. More than a tenth above it is a regression, or a reason to
/// write a new one; so is a quarter below.
#[test]
fn a_launch_makes_no_more_system_calls_than_it_did() {
    let name = "a_launch_makes_no_more_system_calls_than_it_did";
    need_root!(name);
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        return common::skip(name, "strace is missing");
    }
    if common::controllers(&["memory"]) || Path::new("/sys/module/apparmor").exists() {
        return common::skip(name, "the numbers are of a host without controllers on cgroup v2 and without AppArmor");
    }
    let own_ids = || {
        let mut bundle = Bundle::usual(&["true"]).policy("oci");
        let map = serde_json::json!([{ "containerID": 0, "hostID": 1_000_000, "size": 65_536 }]);
        let linux = &mut bundle.config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(serde_json::json!({ "type": "user" }));
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        bundle
    };
    let mut wrong = Vec::new();
    for (what, bundle, known) in [
        ("run, ids of the host", Bundle::usual(&["true"]).policy("oci"), 468),
        ("run, ids of its own", own_ids(), 509),
        ("run, strict", Bundle::silent(&["true"]), 630),
    ] {
        bundle.write();
        let (count, log) = calls(&bundle);
        println!("{what}: {count} of {known}");
        if known * 3 / 4 > count || count > known * 11 / 10 {
            eprintln!("{log}");
            wrong.push(format!("{what}: {count} system calls, {known} when they were counted"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
