//! Images of running containers, by criu: taken, and restored with everything that confined the container.
//!
//! criu has to know the kernel. Debian's 3.17.1 does not know 6.18 ("vdso: Unexpected rt vDSO area bounds"), so natively
//! only what is refused is tested, and the rest in the test machine.

#![allow(clippy::unwrap_used)]

mod common;
use common::*;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};

/// A test that needs a criu that works on this kernel.
macro_rules! need_criu {
    ($name:expr) => {
        need_root!($name);
        let out = std::process::Command::new(runtime()).args(["checkpoint", "--help"]).output().unwrap();
        if !out.status.success() {
            return skip($name, text(&out.stderr).trim());
        }
    };
}

/// The same; why criu failed is in its log, which goes with the test.
fn on(bundle: &Bundle, line: &str) -> Output {
    let mut result = common::on(bundle, line);
    if !result.status.success() {
        for log in ["dump.log", "restore.log"] {
            let text = std::fs::read_to_string(bundle.path().join("images").join(log)).unwrap_or_default();
            for error in text.lines().filter(|l| l.contains("Error")) {
                eprintln!("{log}: {error}");
            }
        }
        result.stdout.clear();
    }
    result
}

/// The same for what leaves a container behind: its streams lead nowhere, as an engine's pipes would lead to nobody.
fn detached(bundle: &Bundle, line: &str) {
    let line = format!("--log {{}}/detached.log {line}").replace("{}", &bundle.path().display().to_string());
    let words: Vec<&str> = line.split_whitespace().collect();
    let status = bundle.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    let log = std::fs::read_to_string(bundle.path().join("detached.log")).unwrap_or_default();
    assert!(status.success() && log.is_empty(), "{line}: {log}");
}

/// The policies under which a restore may happen, each with a bundle that counts in its own memory into /tmp/n.
fn counting(policy: &str) -> Bundle {
    let script = "i=0; while sleep 0.1; do i=$((i+1)); echo $i >/tmp/n; done";
    let mut bundle = Bundle::usual(&["sh", "-c", script]);
    let tmp = json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" });
    bundle.config["mounts"].as_array_mut().unwrap().push(tmp);
    bundle.config["process"]["capabilities"] =
        json!({ "bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] });
    bundle.config["process"]["noNewPrivileges"] = true.into();
    bundle.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 99, "hard": 100 }]);
    bundle.config["hostname"] = "images".into();
    if controllers(&["pids", "memory"]) {
        bundle.config["linux"]["resources"] = json!({ "pids": { "limit": 77 }, "memory": { "limit": 268_435_456 } });
    }
    match policy {
        "strict" => bundle.operator(json!({ "extends": "strict", "restore": "allow" })),
        other => bundle.policy(other),
    }
}

fn count(bundle: &Bundle) -> u64 {
    let path = format!("/proc/{}/root/tmp/n", bundle.pid());
    let mut n = None;
    wait_for("a count", || {
        n = std::fs::read_to_string(&path).ok().and_then(|t| t.trim().parse().ok());
        n.is_some()
    });
    n.unwrap()
}

/// All that confines a process, as the kernel tells it: the same before and after.
fn confinement(bundle: &Bundle) -> Vec<String> {
    let pid = bundle.pid();
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let mut all = Vec::new();
    for line in read("status").lines() {
        let name = line.split(':').next().unwrap();
        let counts = ["Uid", "Gid", "Groups", "Umask", "NoNewPrivs", "Seccomp", "Seccomp_filters", "NSpid"];
        if counts.contains(&name) || name.starts_with("Cap") {
            // The number outside is another.
            all.push(if name == "NSpid" { line.replace(&pid.to_string(), "PID") } else { line.to_owned() });
        }
    }
    for file in ["uid_map", "gid_map", "limits", "cgroup", "attr/current", "oom_score_adj"] {
        all.push(format!("{file}: {}", std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()));
    }
    let mut mounts: Vec<String> = read("mountinfo")
        .lines()
        .map(|l| {
            let w: Vec<&str> = l.split(' ').collect();
            // Point, flags, type; the root within the file system is the cgroup's or the bundle's own. The access time
            // of an idmapped or staged copy is its file system's.
            format!("mount {} {} {}", w[4], w[5].replace(",noatime", "").replace(",relatime", ""), w[w.len() - 3])
        })
        .collect();
    mounts.sort();
    all.extend(mounts);
    let own = |ns: &str| std::fs::read_link(format!("/proc/self/ns/{ns}")).unwrap();
    // The clocks go on where they stood, which takes a time namespace; a container may have had the host's before.
    for ns in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{ns}")).unwrap();
        all.push(format!("{ns} namespace: {}", if theirs == own(ns) { "the host's" } else { "its own" }));
    }
    let group = cgroup_of(pid);
    for file in ["pids.max", "memory.max", "memory.swap.max", "cpu.max"] {
        all.push(format!("{file}: {}", std::fs::read_to_string(group.join(file)).unwrap_or_default()));
    }
    all.push(format!("what it may not open: {}", forbidden(bundle)));
    all
}

fn cgroup_of(pid: i32) -> PathBuf {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text.lines().find_map(|l| l.strip_prefix("0::")).unwrap();
    cgroup_mount().join(path.trim_start_matches('/'))
}

/// A device that is on no list, and a file that is masked, as a process inside meets them.
fn forbidden(bundle: &Bundle) -> String {
    let script = "mknod /tmp/mem c 1 1 && cat /tmp/mem; cat /proc/kcore; echo $(hostname)";
    std::fs::write(bundle.rootfs().join("forbidden"), script).unwrap();
    let out = on(bundle, "exec box sh /forbidden");
    format!("{:?}", (out.status.code(), std::fs::read_to_string(bundle.path().join("typed.err")).unwrap()))
}

#[test]
fn a_container_comes_back_with_all_that_confined_it() {
    need_criu!("a_container_comes_back_with_all_that_confined_it");
    for policy in ["oci", "strict"] {
        let bundle = counting(policy);
        bundle.write();
        detached(&bundle, "run -d -b {} --pid-file pid box");
        let before = confinement(&bundle);
        let counted = count(&bundle);
        assert!(counted > 0);
        silent(&on(&bundle, "checkpoint --image-path {}/images box"));
        // It is gone, as after a delete; and its images are nobody else's.
        assert!(failed(&on(&bundle, "state box")).contains("does not exist"));
        let images = bundle.path().join("images");
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&images), 0o700);
        for file in std::fs::read_dir(&images).unwrap().flatten() {
            assert_eq!(mode(&file.path()) & 0o077, 0, "{file:?}");
        }

        detached(&bundle, "restore -d -b {} --image-path {}/images --pid-file pid box");
        assert_eq!(bundle.state()["status"], "running", "{policy}");
        assert_eq!(std::fs::read_to_string(bundle.path().join("pid")).unwrap(), bundle.pid().to_string());
        assert_eq!(confinement(&bundle), before, "{policy}");
        // Who comes later sees no more of the cgroups than the container, and has the same clock.
        assert_eq!(ok(&on(&bundle, "exec box cat /proc/self/cgroup")), "0::/\n");
        let inside = ok(&on(&bundle, "exec box readlink /proc/self/ns/time"));
        let init = std::fs::read_link(format!("/proc/{}/ns/time", bundle.pid())).unwrap();
        assert_eq!(inside.trim(), init.to_str().unwrap());
        let again = count(&bundle);
        assert!(again >= counted, "{policy}: {again} after {counted}");
        wait_for("it counts on", || count(&bundle) > again);
        // It is a container like any other.
        assert_eq!(ok(&on(&bundle, "exec box hostname")), "images\n");
        silent(&on(&bundle, "pause box"));
        assert_eq!(bundle.state()["status"], "paused");
        silent(&on(&bundle, "resume box"));
        silent(&on(&bundle, "kill box KILL"));
        wait_for("stopped", || bundle.state()["status"] == "stopped");
        silent(&on(&bundle, "delete box"));
        let left: Vec<_> = std::fs::read_dir(bundle.root()).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn memory_first_and_the_rest_later() {
    need_criu!("memory_first_and_the_rest_later");
    let bundle = counting("oci");
    bundle.write();
    silent(&on(&bundle, "run -d -b {} box"));
    let counted = count(&bundle);
    silent(&on(&bundle, "checkpoint --pre-dump --image-path {}/first box"));
    assert_eq!(bundle.state()["status"], "running");
    wait_for("it counts on", || count(&bundle) > counted);
    // Only what changed since is in the second.
    silent(&on(&bundle, "checkpoint --image-path {}/images --parent-path ../first --leave-running box"));
    assert_eq!(bundle.state()["status"], "running");
    let then = count(&bundle);
    wait_for("it counts on", || count(&bundle) > then);
    assert!(bundle.path().join("images/parent").is_symlink());
    // Running on, it has its id; the images go to another.
    assert!(failed(&on(&bundle, "restore -d -b {} --image-path {}/images box")).contains("already exists"));
    silent(&on(&bundle, "delete -f box"));
    silent(&on(&bundle, "restore -d -b {} --image-path {}/images --work-path {} box"));
    assert!(bundle.path().join("restore.log").exists());
    wait_for("it counts on", || count(&bundle) > counted);

    for (words, why) in [
        ("--parent-path {}/first", "--parent-path must be relative"),
        ("--parent-path ../nothing", "--parent-path must name"),
        ("--lazy-pages", "--lazy-pages: refused"),
        ("--status-fd 7", "--lazy-pages"),
        ("--manage-cgroups-mode full", "--manage-cgroups-mode: full: refused"),
        ("--manage-cgroups-mode none", "'none'"),
        ("--page-server nowhere", "ADDRESS:PORT"),
        ("--empty-ns mount", "'mount'"),
    ] {
        let err = failed(&on(&bundle, &format!("checkpoint --image-path {{}}/images {words} box")));
        assert!(err.contains(why), "{words}: {err}");
    }
    assert_eq!(bundle.state()["status"], "running");
}

/// A foreground restore is a foreground run: our streams, signals, the status.
#[test]
fn in_the_foreground_the_streams_and_the_status_are_ours() {
    need_criu!("in_the_foreground_the_streams_and_the_status_are_ours");
    let script = "trap 'echo got it; exit 33' TERM; echo ready; while :; do sleep 0.1; done";
    let bundle = Bundle::usual(&["sh", "-c", script]).policy("oci");
    bundle.write();
    let dir = bundle.path().display().to_string();
    let mut first = bundle.command(&["run", "-b", &dir, "box"]);
    let mut first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(first.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "ready\n");
    silent(&on(&bundle, "checkpoint --image-path {}/images box"));
    assert_eq!(first.wait().unwrap().code(), Some(137));
    let images = format!("{dir}/images");
    let second = bundle
        .command(&["restore", "-b", &dir, "--image-path", &images, "box"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Emulated, criu takes its time.
    for _ in 0..300 {
        if on(&bundle, "state box").status.success() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    silent(&on(&bundle, "kill box TERM"));
    let out = second.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(33), "{}", text(&out.stderr));
    assert_eq!(text(&out.stdout), "got it\n");
    assert!(failed(&on(&bundle, "state box")).contains("does not exist"));
}

/// The images say who they are; the bundle says who they may be.
#[test]
fn images_that_ask_for_more_than_the_plan_gives_do_not_run() {
    need_criu!("images_that_ask_for_more_than_the_plan_gives_do_not_run");
    let mut bundle = counting("oci");
    bundle.write();
    silent(&on(&bundle, "run -d -b {} box"));
    count(&bundle);
    silent(&on(&bundle, "checkpoint --image-path {}/images box"));
    let original = bundle.config.clone();
    let oci = bundle.global.clone();
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 4] = [
        ("CapBnd", |c| c["process"]["capabilities"]["bounding"] = json!(["CAP_KILL"])),
        ("filters", |c| {
            c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["getcpu"], "action": "SCMP_ACT_ERRNO" }] });
        }),
        ("/proc/bus is not masked", |c| {
            c["linux"]["maskedPaths"].as_array_mut().unwrap().push("/proc/bus".into());
            c["linux"]["readonlyPaths"] = json!([]);
        }),
        ("/tmp is not noexec", |c| {
            let mounts = c["mounts"].as_array_mut().unwrap();
            mounts.last_mut().unwrap()["options"] = json!(["noexec"]);
        }),
    ];
    for (what, change) in changes {
        bundle.config = original.clone();
        change(&mut bundle.config);
        bundle.write();
        let out = on(&bundle, "restore -d -b {} --image-path {}/images box");
        assert!(!out.status.success(), "{what}");
        let err = failed(&out);
        assert!(err.contains(what) && err.contains("more than the plan gives"), "{what}: {err}");
        assert!(failed(&on(&bundle, "state box")).contains("does not exist"), "{what}");
        let mark = bundle.path().display().to_string();
        let running = std::process::Command::new("pgrep").args(["-f", "echo .i >/tmp/n"]).output().unwrap();
        let here = text(&running.stdout).lines().any(|p| {
            std::fs::read_link(format!("/proc/{p}/cwd")).is_ok_and(|d| d.display().to_string().contains(&mark))
        });
        assert!(!here, "{what}");
    }
    // A user namespace that the images do not have, under an operator's strict policy.
    bundle.config = original.clone();
    bundle.write();
    let policy = bundle.path().join("mine.json");
    std::fs::write(&policy, json!({ "extends": "strict", "restore": "allow" }).to_string()).unwrap();
    bundle.global = vec!["--policy".into(), policy.display().to_string()];
    let err = failed(&on(&bundle, "restore -d -b {} --image-path {}/images box"));
    assert!(err.contains("restore") || err.contains("criu"), "{err}");
    // The unchanged bundle still does it: it was the changes.
    bundle.global = oci;
    silent(&on(&bundle, "restore -d -b {} --image-path {}/images box"));
}

#[test]
fn connections_and_locks_only_when_they_are_allowed() {
    need_criu!("connections_and_locks_only_when_they_are_allowed");
    // A connection within the container, and a lock that is held.
    let script = "nc -l -p 7000 -e cat & \
                  until (while sleep 0.2; do echo $((i=i+1)); done) | nc 127.0.0.1 7000 >/tmp/echoed 2>/dev/null; do :; done";
    let mut bundle = Bundle::usual(&["sh", "-c", script]).policy("oci");
    let tmp = json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" });
    bundle.config["mounts"].as_array_mut().unwrap().push(tmp.clone());
    bundle.write();
    silent(&on(&bundle, "run -d -b {} box"));
    let echoed = |bundle: &Bundle| {
        let path = format!("/proc/{}/root/tmp/echoed", bundle.pid());
        std::fs::read_to_string(path).unwrap_or_default().lines().count()
    };
    wait_for("it talks", || echoed(&bundle) > 2);
    let err = failed(&on(&bundle, "checkpoint --image-path {}/no box"));
    assert!(err.contains("criu") && err.contains("dump.log"), "{err}");
    assert_eq!(bundle.state()["status"], "running");
    silent(&on(&bundle, "checkpoint --tcp-established --image-path {}/images box"));
    silent(&on(&bundle, "restore --tcp-established -d -b {} --image-path {}/images box"));
    let then = echoed(&bundle);
    wait_for("it talks on", || echoed(&bundle) > then + 2);
    silent(&on(&bundle, "delete -f box"));

    let debian = std::path::Path::new("/mnt/rootfs/debian");
    if !debian.is_dir() {
        return skip("connections_and_locks_only_when_they_are_allowed, locks", "no rootfs with flock(1) here");
    }
    let mut bundle = Bundle::usual(&["flock", "/tmp/lock", "sleep", "1000"]).policy("oci");
    bundle.config["root"] = json!({ "path": debian, "readonly": true });
    bundle.config["process"]["env"] = json!(["PATH=/usr/bin:/bin"]);
    bundle.config["mounts"].as_array_mut().unwrap().push(tmp);
    bundle.write();
    silent(&on(&bundle, "run -d -b {} box"));
    wait_for("the lock", || on(&bundle, "exec box flock -n /tmp/lock true").status.code() == Some(1));
    assert!(failed(&on(&bundle, "checkpoint --image-path {}/no box")).contains("criu"));
    silent(&on(&bundle, "checkpoint --file-locks --image-path {}/images box"));
    silent(&on(&bundle, "restore --file-locks -d -b {} --image-path {}/images box"));
    assert_eq!(on(&bundle, "exec box flock -n /tmp/lock true").status.code(), Some(1));
    assert_eq!(on(&bundle, "exec box flock -n /tmp/other true").status.code(), Some(0));
}

#[test]
fn a_terminal_goes_to_its_new_holder() {
    need_criu!("a_terminal_goes_to_its_new_holder");
    let mut bundle = Bundle::usual(&["sh"]).policy("oci");
    bundle.config["process"]["terminal"] = true.into();
    bundle.write();
    let listen = |name: &str| std::os::unix::net::UnixListener::bind(bundle.path().join(name)).unwrap();
    let first = listen("first.sock");
    silent(&on(&bundle, "run -d -b {} --console-socket {}/first.sock box"));
    let master = receive(&first).0;
    silent(&on(&bundle, "checkpoint --image-path {}/images box"));
    drop(master);
    assert!(failed(&on(&bundle, "restore -d -b {} --image-path {}/images box")).contains("--console-socket"));
    let second = listen("second.sock");
    silent(&on(&bundle, "restore -d -b {} --image-path {}/images --console-socket {}/second.sock box"));
    let mut master = std::fs::File::from(receive(&second).0);
    std::io::Write::write_all(&mut master, b"echo here $((6 * 7))\n").unwrap();
    let mut seen = String::new();
    wait_for("an answer", || {
        let mut buffer = [0u8; 512];
        let n = std::io::Read::read(&mut master, &mut buffer).unwrap();
        seen.push_str(&text(&buffer[..n]));
        seen.contains("here 42")
    });
}

/// What is refused before criu is asked for anything: natively, too.
#[test]
fn without_criu_or_an_operators_word_nothing_happens() {
    need_root!("without_criu_or_an_operators_word_nothing_happens");
    let bundle = counting("oci");
    bundle.write();
    for line in ["checkpoint --help", "checkpoint -h", "restore --help", "help checkpoint", "h restore"] {
        let out = on(&bundle, &format!("--criu {{}}/no-criu {line}"));
        assert_eq!(out.status.code(), Some(1), "{line}");
        assert!(text(&out.stderr).contains("is not installed"), "{line}: {}", text(&out.stderr));
    }
    silent(&on(&bundle, "run -d -b {} box"));
    let err = failed(&on(&bundle, "--criu {}/no-criu checkpoint --image-path {}/images box"));
    assert!(err.contains("is not installed") && err.contains("apt-get install criu"), "{err}");
    let err = failed(&on(&bundle, "--criu=no-such-criu restore -b {} --image-path {}/images other"));
    assert!(err.contains("is not installed"), "{err}");
    assert!(!bundle.path().join("images").exists());
    assert_eq!(bundle.state()["status"], "running");

    // criu is there: any program will do for what comes before it.
    let criu = "--criu /bin/true";
    for (line, why) in [
        ("checkpoint nobody", "does not exist"),
        ("checkpoint --image-path {}/images --lazy-pages box", "--lazy-pages: refused"),
        ("checkpoint --image-path {}/images --manage-cgroups-mode strict box", "strict: refused"),
        ("restore -b {} --image-path {}/images other", "no such file or directory"),
        ("restore -b {} --no-pivot other", "--no-pivot"),
        ("restore -b {} a/b", "invalid character"),
        ("--policy strict restore -d -b {} --image-path {}/images other", "policy strict: restore"),
    ] {
        let err = failed(&on(&bundle, &format!("{criu} {line}")));
        assert!(err.contains(why), "{line}: {err}");
    }
    // Images that others can write decide nothing, nor do those of another runtime.
    let images = bundle.path().join("images");
    std::fs::create_dir_all(&images).unwrap();
    std::fs::set_permissions(&images, std::fs::Permissions::from_mode(0o777)).unwrap();
    let restore = format!("{criu} restore -d -b {{}} --image-path {{}}/images other");
    assert!(failed(&on(&bundle, &restore)).contains("writable by others"));
    std::fs::set_permissions(&images, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(failed(&on(&bundle, &restore)).contains("stockade.json is missing"));
    std::fs::write(images.join("stockade.json"), "{\"version\":1,\"moon\":2}").unwrap();
    assert!(failed(&on(&bundle, &restore)).contains("moon"));
    let images_of = |version: u32| {
        json!({ "version": version, "external": [], "streams": [null, null, null], "terminal": false,
            "network": false, "ids": null })
    };
    std::fs::write(images.join("stockade.json"), images_of(2).to_string()).unwrap();
    let err = failed(&on(&bundle, &restore));
    assert!(err.contains("version 2"), "{err}");
    // A criu that says nothing: the error is ours, and nothing is left.
    std::fs::write(images.join("stockade.json"), images_of(1).to_string()).unwrap();
    let err = failed(&on(&bundle, &restore));
    assert!(err.contains("criu: ended"), "{err}");
    let err = failed(&on(&bundle, &format!("{criu} checkpoint --image-path {{}}/images box")));
    assert!(err.contains("criu: ended") || err.contains("apt-get install iptables"), "{err}");
    silent(&on(&bundle, "kill box KILL"));
    wait_for("stopped", || bundle.state()["status"] == "stopped");
    assert!(failed(&on(&bundle, &format!("{criu} checkpoint box"))).contains("container not running"));
    silent(&on(&bundle, "delete box"));
    let left: Vec<_> = std::fs::read_dir(bundle.root()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What no checkpoint could name, and no container should have: a mount of the host behind a stream.
#[test]
fn a_stream_to_nowhere_is_the_containers_own() {
    need_root!("a_stream_to_nowhere_is_the_containers_own");
    for policy in ["oci", "strict"] {
        let bundle = counting(policy);
        bundle.write();
        let dir = bundle.path().display().to_string();
        let status =
            bundle.command(&["run", "-d", "-b", &dir, "box"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success());
        let pid = bundle.pid();
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        for fd in 0..3 {
            let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap();
            let id = info.lines().find_map(|l| l.strip_prefix("mnt_id:")).unwrap().trim();
            assert!(mounts.lines().any(|l| l.split(' ').next() == Some(id)), "{policy}: stream {fd} is on mount {id}");
        }
    }
}

/// Where criu is installed and does not work, `checkpoint --help` says so: Podman asks no other way.
#[test]
fn help_tells_whether_checkpoints_work_here() {
    need_root!("help_tells_whether_checkpoints_work_here");
    let works = std::process::Command::new("criu").arg("check").output().is_ok_and(|o| o.status.success());
    for verb in ["checkpoint", "restore"] {
        let out = std::process::Command::new(runtime()).args([verb, "--help"]).output().unwrap();
        assert!(text(&out.stdout).contains(&format!("Usage: stockade {verb}")));
        assert_eq!(out.status.success(), works, "{}", text(&out.stderr));
        if !works {
            assert!(text(&out.stderr).contains("criu"), "{}", text(&out.stderr));
        }
    }
}
