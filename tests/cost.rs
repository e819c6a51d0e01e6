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

/// A program, with a /run of its own: the host's may hold the ids of other containers, and each is looked at.
fn alone(program: &str) -> std::process::Command {
    let script = "mount -t tmpfs -o mode=755 tmpfs /run && exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh", program]);
    command.env_remove("STOCKADE_POLICY").stdin(Stdio::null());
    command
}

/// The system calls of everything that a run starts, the workload's dozen too. readlink is left out: there is one
/// for each directory above the test's own; and the F_GETFD that a debug build asks before each close.
fn calls(bundle: &Bundle) -> (usize, String) {
    let log = bundle.path().join("strace");
    let typed = bundle.command(&["run", "box"]);
    let mut command = alone("strace");
    command.args(["-f", "-qq", "-o"]).arg(&log).arg(typed.get_program()).args(typed.get_args());
    command.current_dir(bundle.path()).stdout(Stdio::null());
    assert!(command.status().unwrap().success());
    let all = std::fs::read_to_string(&log).unwrap();
    let marks = [" resumed>", "+++", "--- SIG", " readlink(", ", F_GETFD)"];
    let kept: Vec<&str> = all.lines().filter(|l| !marks.iter().any(|m| l.contains(m))).collect();
    (kept.len(), kept.join("\n"))
}

/// The page faults of everything that a run starts: the fewest of five, as another test may put pages of our file away.
fn faults(bundle: &Bundle) -> usize {
    let typed = bundle.command(&["run", "box"]);
    let once = || {
        let mut command = alone("busybox");
        command.args(["time", "-v"]).arg(typed.get_program()).args(typed.get_args());
        let out = command.current_dir(bundle.path()).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{said}");
        let count = said.lines().find_map(|l| l.trim().strip_prefix("Minor (reclaiming a frame) page faults: "));
        count.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
    };
    (0..5).map(|_| once()).min().unwrap()
}

/// The instructions that a run takes to read and to decide. Debian 12's valgrind knows neither open_tree(2) nor clone3(2), so
/// that the launch ends at whichever comes first.
fn instructions(bundle: &Bundle) -> usize {
    let typed = bundle.command(&["run", "box"]);
    let mut command = alone("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(typed.get_program())
        .args(typed.get_args());
    let out = command.current_dir(bundle.path()).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("function not implemented (ENOSYS)"), "{said}");
    let count = said.lines().find_map(|l| l.split_once("Collected : ").map(|(_, count)| count.trim()));
    count.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
}

/// What each launch took when the numbers were written down: system calls, page faults, thousands of instructions, those two as
/// `cargo test` builds and as CI does (.ci/run). More than a tenth above is a regression, or a reason to write a new one; so is
/// a quarter below.
#[test]
fn a_launch_costs_no_more_than_it_did() {
    let name = "a_launch_costs_no_more_than_it_did";
    need_root!(name);
    for program in ["strace", "valgrind"] {
        if std::process::Command::new(program).arg("--version").output().is_err() {
            return common::skip(name, &format!("{program} is missing"));
        }
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
    let in_ci = option_env!("CARGO_PROFILE_DEV_OPT_LEVEL") == Some("1");
    for (what, bundle, calls_known, plain, ci) in [
        ("run, ids of the host", Bundle::usual(&["true"]).policy("oci"), 414, [620, 4105], [362, 1227]),
        ("run, ids of its own", own_ids(), 457, [618, 4325], [358, 1262]),
        ("run, strict", Bundle::silent(&["true"]), 633, [645, 9690], [390, 2608]),
    ] {
        bundle.write();
        let [faults_known, instructions_known] = if in_ci { ci } else { plain };
        let known = [calls_known, faults_known, instructions_known];
        let (count, log) = calls(&bundle);
        let now = [count, faults(&bundle), instructions(&bundle) / 1000];
        println!("{what}: {now:?}, and it was {known:?}");
        for ((now, known), unit) in
            now.into_iter().zip(known).zip(["system calls", "page faults", "thousand instructions"])
        {
            if known * 3 / 4 > now || now > known * 11 / 10 {
                eprintln!("{log}");
                wrong.push(format!("{what}: {now} {unit}, {known} when they were counted"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
