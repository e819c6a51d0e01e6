//! Hooks: what a failing, a hanging or a careless one does to the container, to the runtime and to the host.
//! That all six kinds run, when and with which state, is in tests/lifecycle.rs.

#![allow(clippy::unwrap_used)]

mod common;
use common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::process::Stdio;

/// One hook: a shell script on the host.
fn hook(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] })
}

fn staying() -> Bundle {
    Bundle::usual(&["sleep", "1000"]).policy("oci")
}

/// Appends a word to the log beside the bundle.
fn says(bundle: &Bundle, word: &str) -> Value {
    hook(&format!("echo {word} >> {}", bundle.path().join("log").display()))
}

fn log(bundle: &Bundle) -> String {
    std::fs::read_to_string(bundle.path().join("log")).unwrap_or_default()
}

fn nothing_left(bundle: &Bundle) {
    let left: Vec<_> = std::fs::read_dir(bundle.root()).into_iter().flatten().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Whether a process runs; a zombie does not.
fn runs(pid: i32) -> bool {
    proc_status(pid, "State").is_some_and(|s| !s.starts_with('Z'))
}

#[test]
fn a_hook_that_fails_before_the_start_ends_in_the_poststop_hooks() {
    need_root!("a_hook_that_fails_before_the_start_ends_in_the_poststop_hooks");
    for moment in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = staying();
        bundle.config["hooks"][moment] = json!([says(&bundle, "first"), hook("echo no such luck >&2; exit 3")]);
        bundle.config["hooks"]["poststop"] = json!([hook("exit 1"), says(&bundle, "poststop")]);
        let out = bundle.create();
        let err = text(&out.stderr);
        assert!(!out.status.success());
        // runc's words, which its callers look for; the number counts from 0.
        let words = format!("error running {moment} hook #1: exit status 3: no such luck");
        assert!(err.contains(&words), "{moment}: {err}");
        // The first poststop hook fails, which is a warning, and the second runs all the same.
        assert!(err.contains("stockade: warning: ") && err.contains("poststop hook #0"), "{moment}: {err}");
        assert_eq!(log(&bundle), "first\npoststop\n", "{moment}");
        nothing_left(&bundle);
    }
}

#[test]
fn a_hook_inside_stands_in_the_root_and_then_under_the_filter() {
    need_root!("a_hook_inside_stands_in_the_root_and_then_under_the_filter");
    let mut bundle = Bundle::usual(&["cat", "/by-hook"]).policy("oci");
    // createContainer: the host's program, the container's mounts, the root that it may change.
    bundle.config["root"]["readonly"] = false.into();
    bundle.config["hooks"]["createContainer"] = json!([hook("echo made > ./by-hook")]);
    assert_eq!(ok(&bundle.run()), "made\n");
    // startContainer: maybe the image's program, so it gets what the workload gets.
    let made = |filtered: bool| {
        let mut bundle = Bundle::usual(&["true"]).policy("oci");
        bundle.config["root"]["readonly"] = false.into();
        bundle.config["hooks"]["startContainer"] =
            json!([{ "path": "/bin/busybox", "args": ["mkdir", "/made"], "env": [] }]);
        if filtered {
            let denied = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" });
            bundle.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [denied] });
        }
        let out = bundle.run();
        assert_eq!(out.status.success(), !filtered, "{}", text(&out.stderr));
        (text(&out.stderr), bundle.rootfs().join("made").exists())
    };
    let (e, there) = made(true);
    assert!(!there && e.contains("startContainer hook #0") && e.contains("not permitted"), "{e}");
    assert!(made(false).1, "the control");
}

#[test]
fn what_a_hook_of_the_host_mounts_in_the_built_container_stays() {
    need_root!("what_a_hook_of_the_host_mounts_in_the_built_container_stays");
    // As hooks that bring devices and libraries do: into the mount namespace by pid, at the path of the rootfs.
    for moment in ["prestart", "createRuntime"] {
        let mut bundle =
            Bundle::usual(&["sh", "-c", "cat /lent/letter; touch /lent/x 2>&1; touch /x 2>&1; true"]).policy("oci");
        bundle.config["root"]["readonly"] = true.into();
        std::fs::write(bundle.path().join("letter"), "from the host\n").unwrap();
        let (dir, rootfs) = (bundle.path().display().to_string(), bundle.rootfs().display().to_string());
        let script = format!(
            "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); test -e /proc/$pid/root{rootfs}/proc/uptime || exit 7; \
             nsenter -t $pid -m sh -c 'mkdir -p {rootfs}/lent && mount --bind {dir} {rootfs}/lent'"
        );
        bundle.config["hooks"][moment] = json!([hook(&script)]);
        let said = ok(&bundle.run());
        assert!(said.starts_with("from the host\n"), "{moment}: {said}");
        // The root becomes read-only after them, and what they mounted is theirs.
        assert!(said.contains("touch: /x: Read-only file system") && !said.contains("/lent/x:"), "{moment}: {said}");
    }
}

#[test]
fn a_launch_that_fails_before_any_hook_runs_none() {
    need_root!("a_launch_that_fails_before_any_hook_runs_none");
    let mut bundle = staying();
    bundle.config["hooks"] =
        json!({ "createRuntime": [says(&bundle, "made")], "poststop": [says(&bundle, "poststop")] });
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "destination": "/mnt", "type": "bind", "source": "/no/such/source", "options": ["bind"] }));
    assert!(failed(&bundle.create()).contains("/no/such/source"));
    assert_eq!(log(&bundle), "");
    // One that fails after them: what they made is cleared away.
    bundle.config["mounts"].as_array_mut().unwrap().pop();
    bundle.config["process"]["args"] = json!(["/no/such/program"]);
    assert!(failed(&bundle.create()).contains("/no/such/program"));
    assert_eq!(log(&bundle), "made\npoststop\n");
    nothing_left(&bundle);
}

/// Version 1.2.1 of the specification, step 9 of the lifecycle: an error, and the container is stopped and destroyed.
#[test]
fn a_failing_poststart_hook_stops_and_destroys_the_container() {
    need_root!("a_failing_poststart_hook_stops_and_destroys_the_container");
    let mut bundle = staying();
    bundle.config["hooks"] = json!({ "poststart": [hook("exit 7")], "poststop": [says(&bundle, "poststop")] });
    let dir = bundle.path().display().to_string();
    ok(&bundle.create());
    let pid = bundle.pid();
    let err = failed(&bundle.verb(&["start", "box"]));
    assert!(err.contains("error running poststart hook #0: exit status 7"), "{err}");
    assert!(!runs(pid));
    nothing_left(&bundle);
    for detach in [&["--detach"][..], &[]] {
        let out = bundle.verb(&[&["run"], detach, &["-b", &dir, "box"]].concat());
        assert!(failed(&out).contains("poststart hook #0"), "{detach:?}");
        assert_eq!(out.status.code(), Some(1));
        nothing_left(&bundle);
    }
    assert_eq!(log(&bundle), "poststop\n".repeat(3));
}

#[test]
fn a_failing_start_container_hook_stops_the_container() {
    need_root!("a_failing_start_container_hook_stops_the_container");
    let mut bundle = Bundle::usual(&["sh", "-c", "echo workload"]).policy("oci");
    // Inside the container: its own shell, its own root, its own user.
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    bundle.config["hooks"]["startContainer"] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "test $$ != 1 && echo $(id -u) of $(hostname) >&2; exit 5"],
            "env": ["PATH=/bin"] }]);
    bundle.config["hostname"] = "inside".into();
    bundle.config["hooks"]["poststop"] = json!([says(&bundle, "poststop")]);
    ok(&bundle.create());
    let err = failed(&bundle.verb(&["start", "box"]));
    assert!(err.contains("error running startContainer hook #0: exit status 5: 1000 of inside"), "{err}");
    wait_for("stopped", || bundle.state()["status"] == "stopped");
    ok(&bundle.verb(&["delete", "box"]));
    assert_eq!(log(&bundle), "poststop\n");
    let out = bundle.run();
    assert!(failed(&out).contains("startContainer hook #0"));
    assert!(out.stdout.is_empty());
    nothing_left(&bundle);
}

#[test]
fn failing_poststop_hooks_are_warnings_and_all_run() {
    need_root!("failing_poststop_hooks_are_warnings_and_all_run");
    let mut bundle = staying();
    bundle.config["hooks"]["poststop"] = json!([hook("exit 1"), says(&bundle, "second"), { "path": "/no/such/hook" }]);
    ok(&bundle.create());
    let out = bundle.verb(&["delete", "--force", "box"]);
    assert!(out.status.success() && out.stdout.is_empty());
    let err = text(&out.stderr);
    assert_eq!(err.lines().count(), 2, "{err}");
    assert!(err.contains("poststop hook #0: exit status 1") && err.contains("poststop hook #2"), "{err}");
    nothing_left(&bundle);
    // With a log file they are there, and nothing is on stderr.
    let file = bundle.path().join("runtime.log");
    ok(&bundle.create());
    let shown = file.display().to_string();
    let out = bundle.verb(&["--log", &shown, "--log-format", "json", "delete", "--force", "box"]);
    assert_eq!((ok(&out), text(&out.stderr)), (String::new(), String::new()));
    let said = std::fs::read_to_string(&file).unwrap();
    assert_eq!(said.matches("\"level\":\"warning\"").count(), 2, "{said}");
    assert_eq!(log(&bundle), "second\nsecond\n");
}

#[test]
fn a_timeout_kills_the_hook_and_what_it_started() {
    need_root!("a_timeout_kills_the_hook_and_what_it_started");
    for moment in ["createRuntime", "createContainer", "poststop"] {
        let mut bundle = staying();
        let pids = bundle.path().join("pids");
        let mut hanging = hook(&format!("sleep 1000 & echo $! $$ >> {}; wait", pids.display()));
        hanging["timeout"] = 1.into();
        bundle.config["hooks"][moment] = json!([hanging]);
        if moment == "poststop" {
            ok(&bundle.create());
            let out = bundle.delete();
            assert!(out.status.success() && text(&out.stderr).contains("timeout of 1 s"), "{}", text(&out.stderr));
        } else {
            let err = failed(&bundle.create());
            assert!(err.contains("timeout of 1 s") && err.contains(moment), "{err}");
        }
        let text = std::fs::read_to_string(&pids).unwrap();
        let both: Vec<i32> = text.split_whitespace().map(|p| p.parse().unwrap()).collect();
        assert_eq!(both.len(), 2, "{moment}: {text}");
        // Inside the container the numbers are those of its own namespace: there its end was the end of both.
        if moment != "createContainer" {
            for pid in both {
                wait_for("the end of the hook", || !runs(pid));
            }
        }
        nothing_left(&bundle);
    }
}

/// All signals are blocked in a foreground run, so that they can be forwarded; a hook does not inherit that.
#[test]
fn a_hook_begins_with_no_signal_blocked() {
    need_root!("a_hook_begins_with_no_signal_blocked");
    for moment in ["createRuntime", "createContainer", "poststart", "poststop"] {
        let mut bundle = Bundle::usual(&["true"]).policy("oci");
        let out = bundle.path().join("status");
        bundle.config["hooks"][moment] = json!([hook(&format!("cat /proc/self/status > {}", out.display()))]);
        ok(&bundle.run());
        let status = std::fs::read_to_string(&out).unwrap();
        for field in ["SigBlk", "SigIgn"] {
            let line = status.lines().find(|l| l.starts_with(field)).unwrap();
            // From 32 on they are the C library's, or whoever started the tests ignores them.
            let mask = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
            assert_eq!(mask & 0x7fff_ffff, 0, "{moment}: {line}");
        }
    }
}

#[test]
fn a_run_ends_cleanly_while_a_hook_hangs() {
    need_root!("a_run_ends_cleanly_while_a_hook_hangs");
    for moment in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let mut bundle = if moment == "poststop" { Bundle::usual(&["true"]).policy("oci") } else { staying() };
            let (mark, shell) = match moment {
                "startContainer" => (bundle.rootfs().join("tmp/hangs"), "/tmp/hangs".to_owned()),
                _ => (bundle.path().join("hangs"), bundle.path().join("hangs").display().to_string()),
            };
            let script = format!("echo $$ > {shell}; sleep 1000 & wait");
            bundle.config["hooks"][moment] = json!([hook(&script)]);
            if moment == "startContainer" {
                bundle.config["hooks"][moment][0]["env"] = json!(["PATH=/bin"]);
            }
            bundle.write();
            let err = bundle.path().join("run.err");
            let mut child = bundle
                .command(&["run", "box"])
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(&err).unwrap())
                .spawn()
                .unwrap();
            wait_for("the hook", || std::fs::read_to_string(&mark).is_ok_and(|t| t.ends_with('\n')));
            let pid: i32 = std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
            kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
            let mut status = None;
            wait_for(moment, || {
                status = child.try_wait().unwrap();
                status.is_some()
            });
            let said = std::fs::read_to_string(&err).unwrap();
            match moment {
                // Its workload has ended well.
                "poststop" => assert_eq!(status.unwrap().code(), Some(0), "{said}"),
                _ => assert_eq!(status.unwrap().code(), Some(1), "{said}"),
            }
            assert!(said.contains(&format!("interrupted by {}", signal.as_str())), "{moment}: {said}");
            if matches!(moment, "prestart" | "createRuntime" | "poststart" | "poststop") {
                wait_for("the end of the hook", || !runs(pid));
            }
            nothing_left(&bundle);
        }
    }
}

#[test]
fn a_hook_dies_with_a_runtime_that_is_killed() {
    need_root!("a_hook_dies_with_a_runtime_that_is_killed");
    for moment in ["createRuntime", "createContainer"] {
        let mut bundle = staying();
        let mark = bundle.path().join("hangs");
        // A mark of its own in the arguments: inside the container its number is another.
        let script = format!("echo > {0}; while :; do sleep 0.05; done # {0}", mark.display());
        bundle.config["hooks"][moment] = json!([hook(&script)]);
        bundle.write();
        let mut child = bundle.command(&["create", "box"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("the hook", || mark.exists());
        let hooks = || {
            let all = std::fs::read_dir("/proc").unwrap().flatten().filter(|e| {
                std::fs::read_to_string(e.path().join("cmdline")).is_ok_and(|c| c.contains(&mark.display().to_string()))
            });
            all.count()
        };
        // Its sleep has the same arguments until it is one.
        assert!(hooks() >= 1, "{moment}");
        child.kill().unwrap();
        child.wait().unwrap();
        wait_for("the end of the hook", || hooks() == 0);
        ok(&bundle.delete());
    }
}

#[test]
fn hooks_are_told_as_the_specification_wants_them() {
    need_root!("hooks_are_told_as_the_specification_wants_them");
    let mut bundle = Bundle::usual(&["true"]).policy("oci");
    let refused = |bundle: &Bundle, word: &str| {
        let err = failed(&bundle.create());
        assert!(err.contains(word), "{err}");
        nothing_left(bundle);
    };
    bundle.config["hooks"] = json!({ "createRuntime": [{ "path": "bin/true" }] });
    refused(&bundle, "hooks.createRuntime[0].path");
    for timeout in [0, -1] {
        bundle.config["hooks"] = json!({ "poststop": [{ "path": "/bin/true", "timeout": timeout }] });
        refused(&bundle, "hooks.poststop[0].timeout");
    }
    // args[0] is its own, an absent args is the path, an absent environment is none.
    let out = bundle.path().join("line");
    let script = bundle.path().join("tell");
    std::fs::write(&script, format!("#!/bin/sh\ncat /proc/$$/environ > {0}\n", out.display())).unwrap();
    std::process::Command::new("chmod").arg("755").arg(&script).status().unwrap();
    bundle.config["hooks"] = json!({ "createRuntime": [
        { "path": script },
        { "path": "/bin/sh", "args": ["other name", "-c", format!("tr '\\0' '|' < /proc/$$/cmdline >> {}", out.display())], "env": ["PATH=/usr/bin:/bin"] }
    ] });
    bundle.global.extend(["--debug".to_owned(), "--log".to_owned(), "/dev/null".to_owned()]);
    bundle.write();
    let run = bundle.command(&["run", "box"]).env("LD_SECRET", "of the caller").output().unwrap();
    ok(&run);
    let told = std::fs::read_to_string(&out).unwrap();
    assert!(told.starts_with("other name|-c|"), "{told:?}");
}

/// Nothing of the runtime's is open in a hook: its three streams and no more.
#[test]
fn no_descriptor_reaches_a_hook() {
    need_root!("no_descriptor_reaches_a_hook");
    let mut bundle = Bundle::usual(&["true"]).policy("oci");
    let list = |name: &str| hook(&format!("ls -l /proc/self/fd > {}", bundle.path().join(name).display()));
    let hooks = json!({
        "prestart": [list("prestart")], "createRuntime": [list("createRuntime")],
        "createContainer": [list("createContainer")], "poststart": [list("poststart")], "poststop": [list("poststop")]
    });
    bundle.config["hooks"] = hooks.clone();
    bundle.runner = ["sh", "-c", "exec 5</dev/null 9</; exec \"$@\"", "sh"].map(String::from).to_vec();
    ok(&bundle.run());
    for moment in hooks.as_object().unwrap().keys() {
        let text = std::fs::read_to_string(bundle.path().join(moment)).unwrap();
        let open: Vec<&str> = text.lines().filter(|l| l.contains(" -> ")).collect();
        // The fourth is what ls itself reads.
        assert_eq!(open.len(), 4, "{moment}: {text}");
        let target = |fd: &str| open.iter().find(|l| l.contains(&format!(" {fd} -> "))).unwrap().to_string();
        assert!(target("0").contains("/memfd:state") && target("2").contains("pipe:"), "{moment}: {text}");
    }
}
