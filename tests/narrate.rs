//! `--narrate`: every step is told once, with what /proc shows of it from outside, which is what the container sees from
//! inside; the workload's output is its own, and no launch ends in another way because somebody listens.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;

use caller::Caller;
use common::*;
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};

/// What a verb tells whose container stays; into a file, because that one holds the streams for longer.
fn told_by(bundle: &Bundle, verb: &[&str]) -> Vec<Value> {
    let err = bundle.path().join("told");
    let status = bundle
        .command(&[verb, &["--narrate", "--json", "--bundle", ".", "box"]].concat())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&err).unwrap())
        .status()
        .unwrap();
    let stderr = std::fs::read(&err).unwrap();
    assert!(status.success(), "{}", text(&stderr));
    told(&Output { status, stdout: Vec::new(), stderr })
}

fn told(out: &Output) -> Vec<Value> {
    text(&out.stderr).lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// What changed with the steps of a name.
fn changes(told: &[Value], step: &str) -> Vec<(String, String, String)> {
    let word = |v: &Value| v.as_str().unwrap().to_owned();
    let steps = told.iter().filter(|t| t["name"] == step);
    let all = steps.flat_map(|t| t["changes"].as_array().unwrap());
    all.map(|c| (word(&c["what"]), word(&c["before"]), word(&c["after"]))).collect()
}

fn changed(told: &[Value], step: &str, what: &str) -> (String, String) {
    let all = changes(told, step);
    let found = all.iter().find(|(w, _, _)| w.starts_with(what));
    found.map(|(_, b, a)| (b.clone(), a.clone())).unwrap_or_else(|| panic!("{step} changed no {what}: {all:?}"))
}

const LOOK: &str = "cat /proc/self/uid_map; readlink /proc/self/ns/pid; grep -c . /proc/self/mountinfo; \
                    grep -E '^(CapBnd|NoNewPrivs|Seccomp_filters)' /proc/self/status";

#[test]
fn what_is_told_is_what_the_container_sees() {
    need_root!("what_is_told_is_what_the_container_sees");
    let mut callers = vec![Caller::root()];
    match Caller::ranged() {
        Ok(caller) => callers.push(caller),
        Err(why) => skip("what_is_told_is_what_the_container_sees, an ordinary user", why),
    }
    for caller in callers {
        let out = caller.stockade(&["sandbox", "--narrate", "--json", "--", "sh", "-c", LOOK]);
        let inside = ok(&out);
        let inside: Vec<&str> = inside.lines().collect();
        let told = told(&out);
        // Every step once, each side in its order.
        let mut numbers: Vec<u64> = told.iter().map(|t| t["number"].as_u64().unwrap()).collect();
        for actor in ["parent", "child"] {
            let of: Vec<u64> =
                told.iter().filter(|t| t["actor"] == actor).map(|t| t["number"].as_u64().unwrap()).collect();
            assert!(of.len() > 3 && of.is_sorted(), "{actor}: {of:?}");
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=told.len() as u64).collect::<Vec<_>>());
        assert_eq!(told.last().unwrap()["name"], "exec");
        assert!(told.iter().all(|t| !t["why"].as_str().unwrap().is_empty() && t["atMicros"].is_number()));
        // The child's own clock, until it says no more.
        let pivot = told.iter().find(|t| t["name"] == "pivot_root").unwrap();
        assert!(pivot["tookMicros"].as_f64().unwrap() > 0.0);

        let maps = inside.iter().take_while(|l| !l.starts_with("pid:"));
        let maps: Vec<String> = maps.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(changed(&told, "id maps", "uid_map"), ("none".into(), maps.join("; ")));
        let pid = inside.iter().find_map(|l| l.strip_prefix("pid:[")?.strip_suffix(']')).unwrap();
        let (before, after) = changed(&told, "clone3", "namespace pid");
        let own = std::fs::read_link("/proc/self/ns/pid").unwrap().display().to_string();
        assert_eq!((format!("pid:[{before}]"), after.as_str()), (own, pid));
        let mounts = inside[inside.len() - 4];
        assert!(mounts.parse::<u32>().is_ok(), "{inside:?}");
        let all = changes(&told, "pivot_root");
        assert!(all.iter().any(|(w, b, _)| w.ends_with(&format!("now {mounts})")) && b.contains("/ ")), "{all:?}");
        assert_eq!(changed(&told, "no_new_privs", "no_new_privs"), ("0".into(), "1".into()));
        assert_eq!(changed(&told, "seccomp", "seccomp filters").1, "1");
        assert_eq!(changed(&told, "bounding set", "capabilities, bounding").1, "none");
        assert_eq!(changed(&told, "loopback", "addresses of lo"), ("none".into(), "127.0.0.1".into()));
        assert_eq!(changed(&told, "exec", "program").0, "stockade");
        assert_eq!(inside[inside.len() - 3..], ["CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp_filters:\t1"]);
        assert!(caller.left().is_empty());
    }
}

#[test]
fn the_text_has_80_columns_and_colour_only_on_a_terminal() {
    need_root!("the_text_has_80_columns_and_colour_only_on_a_terminal");
    let caller = Caller::root();
    let out = caller.stockade(&["sandbox", "--narrate", "--", "echo", "\u{1b}[2Jhello"]);
    assert_eq!(ok(&out), "\u{1b}[2Jhello\n");
    let said = text(&out.stderr);
    assert!(said.contains("pivot_root: the old root is unmounted") && said.contains("no_new_privs: 0 -> 1"), "{said}");
    // The bundle's words, made harmless.
    assert!(said.contains("\\u{1b}[2Jhello") && !said.contains('\u{1b}'), "{said}");
    let long: Vec<&str> = said.lines().filter(|l| l.chars().count() > 80 && l.trim().contains(' ')).collect();
    assert!(long.is_empty(), "{long:#?}");
    for (no_color, colour) in [("", true), ("1", false)] {
        let line = caller.words(&["sandbox", "--narrate", "--", "true"]).join(" ");
        let out = caller
            .program(&["script", "--quiet", "--return", "--command", &line, "/dev/null"])
            .env("NO_COLOR", no_color)
            .output()
            .unwrap();
        let said = ok(&out);
        assert!(said.contains("no_new_privs: 0 -> 1"), "{said}");
        assert_eq!(said.contains("\u{1b}[32m"), colour, "NO_COLOR={no_color}: {said}");
    }
}

#[test]
fn a_launch_ends_in_the_same_way_whoever_listens() {
    need_root!("a_launch_ends_in_the_same_way_whoever_listens");
    let run = ["run", "--narrate", "--bundle", ".", "box"];
    // Nobody can hear it.
    for stderr in ["/dev/full", "/dev/null"] {
        let bundle = Bundle::shell("echo out; exit 7");
        bundle.write();
        let file = std::fs::OpenOptions::new().write(true).open(stderr).unwrap();
        let out = bundle.command(&run).stderr(file).output().unwrap();
        assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(7), "out\n"), "{stderr}");
    }
    // A failure of either side is the same one, and comes last.
    for (option, program) in [("size=banana", "true"), ("size=1m", "no-such-program")] {
        let mut bundle = Bundle::silent(&[program]);
        bundle.config["mounts"] = json!([
            { "destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": [option] }
        ]);
        let plain = failed(&bundle.run());
        let out = bundle.verb(&run);
        assert!(!out.status.success());
        assert_eq!(text(&out.stderr).lines().last(), plain.lines().last());
        assert!(text(&out.stderr).lines().count() > 30);
        assert!(!bundle.root().join("box").exists());
    }
    // Without the flag nothing is said.
    let out = Bundle::shell("true").run();
    silent(&out);
}

#[test]
fn hooks_a_late_filter_and_a_detached_run_are_told_too() {
    need_root!("hooks_a_late_filter_and_a_detached_run_are_told_too");
    let mut bundle = Bundle::usual(&["sleep", "100"]).policy("oci");
    bundle.config["hooks"] = json!({
        "createRuntime": [{ "path": "/bin/true" }],
        "createContainer": [{ "path": "/bin/true" }],
        "startContainer": [{ "path": "/bin/true" }],
    });
    // Without no_new_privs the filter comes before the last capset, and before the program is there.
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }],
    });
    bundle.write();
    let told = told_by(&bundle, &["run", "--detach"]);
    let mut numbers: Vec<u64> = told.iter().map(|t| t["number"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=told.len() as u64).collect::<Vec<_>>());
    assert_eq!(changed(&told, "seccomp", "seccomp filters"), ("0".into(), "1".into()));
    assert_eq!(changed(&told, "exec", "program").1, "sleep");
    assert_eq!(proc_status(bundle.pid(), "Seccomp_filters").as_deref(), Some("1"));
}

/// Whoever asks in however many ways: it is one observer, and each gets what it gets alone.
#[test]
fn times_tale_and_denials_go_together() {
    need_root!("times_tale_and_denials_go_together");
    let mut bundle = Bundle::shell("unshare -n true; exit 7");
    bundle.write();
    let words = [
        "run",
        "--narrate",
        "--json",
        "--timing=json",
        "--denials=json",
        "--denials-to",
        "denied",
        "--bundle",
        ".",
        "box",
    ];
    for traced in [false, true] {
        if traced {
            // The child's last words come while its listener is waited for, and not before.
            if Command::new("strace").arg("--version").output().is_err() {
                return skip("times_tale_and_denials_go_together, slowly", "strace is missing");
            }
            let strace = ["strace", "-f", "-qq", "-e", "trace=sendmsg,pidfd_getfd", "-o", "/dev/null"];
            bundle.runner = strace.map(str::to_owned).to_vec();
        }
        let out = bundle.verb(&words);
        assert_eq!(out.status.code(), Some(7), "{}", text(&out.stderr));
        let err = text(&out.stderr);
        let lines: Vec<Value> =
            err.lines().filter(|l| l.starts_with('{')).map(|l| serde_json::from_str(l).unwrap()).collect();
        let (times, tale) = lines.split_last().unwrap();
        let steps = |of: &[Value], key: &str, who: &str, name: &str| {
            let of = of.iter().filter(|v| v[key] == who).map(|v| v[name].as_str().unwrap().to_owned());
            let mut names: Vec<String> = of.collect();
            names.sort();
            names
        };
        let parts = times["parts"].as_array().unwrap();
        // The filter is the last that the child does and the first that it cannot tell of.
        let mut child = steps(tale, "actor", "child", "name");
        child.retain(|n| n != "seccomp" && n != "exec" && n != "gate");
        let mut timed = steps(parts, "who", "child", "step");
        timed.retain(|n| n != "gate");
        assert_eq!(timed, child);
        assert_eq!(steps(parts, "who", "parent", "step"), steps(tale, "actor", "parent", "name"));
        // What both say of a step is the same stamp.
        for name in ["bounding set", "clone3"] {
            let told = tale.iter().find(|t| t["name"] == name).unwrap();
            let timed = parts.iter().find(|p| p["step"] == name).unwrap();
            assert_eq!(told["tookMicros"], timed["micros"], "{name}");
        }
        let denied = std::fs::read_to_string(bundle.path().join("denied")).unwrap();
        assert!(denied.contains("unshare(CLONE_NEWNET)"), "{denied}");
    }
}

#[test]
fn a_create_is_told_up_to_its_gate() {
    need_root!("a_create_is_told_up_to_its_gate");
    let bundle = Bundle::silent(&["sleep", "100"]);
    bundle.write();
    let told = told_by(&bundle, &["create"]);
    let names: Vec<&str> = told.iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"pivot_root") && names.last() == Some(&"ready"), "{names:?}");
    assert!(!names.contains(&"exec") && !names.contains(&"seccomp"), "{names:?}");
    assert_eq!(changed(&told, "bounding set", "capabilities, bounding").1, "none");
    assert_eq!(bundle.state()["status"], "created");
    ok(&bundle.verb(&["start", "box"]));
    wait_for("the workload", || proc_status(bundle.pid(), "Name").as_deref() == Some("sleep"));
}

#[test]
fn json_needs_something_to_say() {
    let out = Command::new(runtime()).args(["run", "--json", "box"]).output().unwrap();
    assert!(!out.status.success() && text(&out.stderr).contains("--narrate"), "{}", text(&out.stderr));
    let out = Command::new(runtime()).args(["create", "--json", "box"]).output().unwrap();
    assert!(!out.status.success() && text(&out.stderr).contains("--narrate"), "{}", text(&out.stderr));
    let both = ["sandbox", "--narrate", "--explain", "--", "true"];
    assert!(!Command::new(runtime()).args(both).output().unwrap().status.success());
}
