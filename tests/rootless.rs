//! Everything as an ordinary user: one with a single id, and one with subordinate ranges by newuidmap. What such a user
//! cannot enforce is a finding or a refusal, never silence.
//!
//! Run by root, these tests become those users; run by a user (the test machine does, in a delegated cgroup) they are
//! that user.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;
use caller::*;
use common::*;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

/// The users, and whether each has ranges.
fn users(test: &str) -> Vec<(Caller, bool)> {
    if !is_root() {
        let me = Caller::me();
        let ranged = me.uid == RANGED;
        return vec![(me, ranged)];
    }
    let mut all = vec![(Caller::single(), false)];
    match Caller::ranged() {
        Ok(caller) => all.push((caller, true)),
        Err(why) => skip(test, why),
    }
    all
}

/// The least that is a bundle.
fn silent(script: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/" },
        "root": { "path": "rootfs" }
    })
}

/// What `stockade spec --rootless` starts from, for `--policy oci`.
fn spec(caller: &Caller, script: &str) -> Value {
    let made = caller.own_dir("spec");
    ok(&caller.stockade(&["spec", "--rootless", "--bundle", made.to_str().unwrap()]));
    let mut config: Value = serde_json::from_slice(&std::fs::read(made.join("config.json")).unwrap()).unwrap();
    std::fs::remove_dir_all(made).unwrap();
    config["process"]["args"] = json!(["sh", "-c", script]);
    config["process"]["terminal"] = json!(false);
    config["process"]["env"] = json!(["PATH=/bin"]);
    config
}

impl Caller {
    /// A verb whose output would keep us waiting for the container.
    fn quiet(&self, args: &[&str]) {
        let err = self.path().join("err");
        let file = std::fs::File::create(&err).unwrap();
        let status = self.command(args).stdout(Stdio::null()).stderr(file).status().unwrap();
        assert!(status.success(), "{args:?}: {}", std::fs::read_to_string(&err).unwrap());
    }

    fn state(&self, id: &str) -> Value {
        serde_json::from_str(&ok(&self.stockade(&["state", id]))).unwrap()
    }

    /// Creates a config as `box`, gives its recorded state and deletes it.
    fn recorded(&self, policy: &str, config: &Value) -> String {
        let bundle = self.bundle(config).display().to_string();
        self.quiet(&["--policy", policy, "create", "--bundle", &bundle, "box"]);
        let state = std::fs::read_to_string(self.states().join("box/state.json")).unwrap();
        ok(&self.stockade(&["delete", "--force", "box"]));
        state
    }
}

#[test]
fn a_silent_bundle_runs_isolated() {
    let name = "a_silent_bundle_runs_isolated";
    let script = "id -u; echo $$; touch /x 2>&1; ls /sys/class/net; hostname; \
        grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp|Groups):' /proc/self/status | tr -s ' \\t' '  '; \
        for n in user mnt pid net ipc uts; do readlink /proc/self/ns/$n; done";
    for (caller, _) in users(name) {
        let out = ok(&caller.run(&[], &silent(script)));
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[..2], ["0", "1"], "{out}");
        assert!(lines[2].contains("Read-only file system"), "{out}");
        assert_eq!(lines[3..5], ["lo", "box"], "{out}");
        let zero = "0000000000000000";
        let mut status: Vec<String> = lines[5..10].iter().map(|l| l.trim().to_owned()).collect();
        if status[0] == "Groups: 0" {
            // A single id cannot set groups; a login lists the user's own group among them, which is 0 inside.
            assert_eq!(ok(&caller.program(&["id", "-G"]).output().unwrap()).trim(), caller.uid.to_string());
            status[0] = "Groups:".to_owned();
        }
        let expected = [
            "Groups:".to_owned(),
            format!("CapEff: {zero}"),
            format!("CapBnd: {zero}"),
            "NoNewPrivs: 1".to_owned(),
            "Seccomp: 2".to_owned(),
        ];
        assert_eq!(status, expected, "{out}");
        for (line, ns) in lines[10..].iter().zip(["user", "mnt", "pid", "net", "ipc", "uts"]) {
            let host = std::fs::read_link(format!("/proc/self/ns/{ns}")).unwrap();
            assert_ne!(Path::new(line), host, "the host's {ns} namespace");
        }
        assert_eq!(caller.left(), [""; 0]);
    }
}

#[test]
fn the_ids_are_the_users_own() {
    let name = "the_ids_are_the_users_own";
    for (caller, ranged) in users(name) {
        let out = ok(&caller.run(&[], &silent("cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups")));
        let fields: Vec<&str> = out.split_whitespace().collect();
        let own = caller.uid.to_string();
        let single = ["0", &own, "1"];
        let (map, setgroups): (Vec<&str>, _) = if ranged {
            ([&single[..], &["1", "100000", "65536"]].concat(), "allow")
        } else {
            (single.to_vec(), "deny")
        };
        assert_eq!(fields, [&map[..], &map, &[setgroups]].concat(), "uid {}", caller.uid);
        // On the host its files are the user's, or those of a subordinate id.
        let shared = caller.own_dir("shared");
        let policy = caller.strict_with_host_paths();
        let mut config = silent("touch /mnt/mine; stat -c %u /mnt/mine");
        config["mounts"] =
            json!([{ "destination": "/mnt", "type": "none", "source": shared, "options": ["rbind", "rw"] }]);
        assert_eq!(ok(&caller.run(&["--policy", &policy], &config)), "0\n");
        assert_eq!(std::fs::metadata(shared.join("mine")).unwrap().uid(), caller.uid);
        config["process"]["user"] = json!({ "uid": 1234, "gid": 1234 });
        config["process"]["args"] = json!(["sh", "-c", "id -u; id -g; touch /mnt/other"]);
        std::fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(ok(&caller.run(&["--policy", &policy], &config)), "1234\n1234\n");
        // 0 is the user, 1.. are 100000..; with a single id any number inside is the user.
        let outside = if ranged { 100_000 + 1233 } else { caller.uid };
        assert_eq!(std::fs::metadata(shared.join("other")).unwrap().uid(), outside);
        // What lies beyond the map.
        if ranged {
            config["process"]["user"] = json!({ "uid": 65537, "gid": 0 });
            assert!(failed(&caller.run(&[], &config)).contains("process.user.uid"));
        }
        assert_eq!(caller.left(), [""; 0]);
    }
}

#[test]
fn groups_are_the_containers_or_it_is_refused() {
    let name = "groups_are_the_containers_or_it_is_refused";
    for (caller, ranged) in users(name) {
        let mut config = silent("id -G");
        config["process"]["user"]["additionalGids"] = json!([7, 8]);
        let out = caller.run(&[], &config);
        if ranged {
            assert_eq!(ok(&out), "0 7 8\n");
        } else {
            let err = failed(&out);
            assert!(err.contains("additionalGids") && err.contains("hint: "), "{err}");
        }
        assert_eq!(caller.left(), [""; 0]);
    }
    need_root!(name);
    // The caller's own groups stay in effect with a single id: not under strict, and said under oci.
    let caller = Caller::in_groups("1001,2222");
    let err = failed(&caller.run(&[], &silent("true")));
    assert!(err.contains("2222") && err.contains("add-subuids"), "{err}");
    assert_eq!(caller.left(), [""; 0]);
    let config = spec(&caller, "id -G");
    assert!(ok(&caller.run(&["--policy", "oci"], &config)).contains("65534"), "the control: they are in effect");
    assert!(caller.recorded("oci", &config).contains("caller's groups 2222 stay in effect"));
}

#[test]
fn create_start_kill_delete() {
    let name = "create_start_kill_delete";
    for (caller, _) in users(name) {
        for policy in ["strict", "oci"] {
            let config = if policy == "oci" { spec(&caller, "exec sleep 1000") } else { silent("exec sleep 1000") };
            let bundle = caller.bundle(&config).display().to_string();
            caller.quiet(&["--policy", policy, "create", "--bundle", &bundle, "box"]);
            assert_eq!(caller.state("box")["status"], "created");
            assert_eq!(ok(&caller.stockade(&["list", "-q"])), "box\n");
            caller.quiet(&["start", "box"]);
            let state = caller.state("box");
            assert_eq!(state["status"], "running");
            let pid = state["pid"].as_i64().unwrap() as i32;
            // On the host it is the user.
            assert_eq!(
                proc_status(pid, "Uid").unwrap().split_whitespace().next(),
                Some(caller.uid.to_string().as_str())
            );
            assert!(failed(&caller.stockade(&["delete", "box"])).contains("running"));
            ok(&caller.stockade(&["kill", "box", "KILL"]));
            wait_for("its end", || caller.state("box")["status"] == "stopped");
            assert!(failed(&caller.stockade(&["kill", "box"])).contains("not running"));
            ok(&caller.stockade(&["delete", "box"]));
            assert!(failed(&caller.stockade(&["state", "box"])).contains("does not exist"));
            ok(&caller.stockade(&["delete", "--force", "box"]));
            // Whoever is PID 1 of the tests need not reap.
            wait_for("the end of its process", || proc_status(pid, "State").is_none_or(|s| s.starts_with('Z')));
            assert_eq!(caller.left(), [""; 0], "{policy}");
        }
    }
}

#[test]
fn states_lie_in_the_users_runtime_directory_and_are_private() {
    let name = "states_lie_in_the_users_runtime_directory_and_are_private";
    for (caller, _) in users(name) {
        let bundle = caller.bundle(&silent("exec sleep 1000")).display().to_string();
        caller.quiet(&["create", "--bundle", &bundle, "box"]);
        let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&caller.states()), 0o700);
        let entry = caller.states().join("box");
        assert_eq!(mode(&entry), 0o700);
        for file in std::fs::read_dir(&entry).unwrap().flatten() {
            assert_eq!(mode(&file.path()) & 0o7077, 0, "{:?}", file.path());
            assert_eq!(file.metadata().unwrap().uid(), caller.uid);
        }
        assert!(!Path::new("/run/stockade/box").exists());
        ok(&caller.stockade(&["delete", "--force", "box"]));
        // Without the variable there is no place that is the user's alone.
        let out = caller.command(&["run", "--bundle", &bundle, "box"]).env_remove("XDG_RUNTIME_DIR").output().unwrap();
        let err = failed(&out);
        assert!(err.contains("XDG_RUNTIME_DIR") && err.contains("--root"), "{err}");
        // Nor is one that belongs to somebody else.
        let foreign =
            caller.command(&["run", "--bundle", &bundle, "box"]).env("XDG_RUNTIME_DIR", "/run").output().unwrap();
        failed(&foreign);
    }
}

#[test]
fn the_spec_for_an_ordinary_user_runs_under_both() {
    let name = "the_spec_for_an_ordinary_user_runs_under_both";
    for (caller, _) in users(name) {
        let config = spec(&caller, "id -u; echo $$; cat /proc/self/uid_map | tr -s ' '; ls /dev/pts");
        let own = format!("0\n1\n 0 {} 1\nptmx\n", caller.uid);
        for policy in ["strict", "oci"] {
            assert_eq!(ok(&caller.run(&["--policy", policy], &config)), own, "{policy}");
        }
        // Without a user namespace nothing else can be had: oci says so, strict adds it.
        let mut config = silent("id -u");
        config["linux"] = json!({ "namespaces": [{ "type": "mount" }, { "type": "pid" }] });
        assert!(failed(&caller.run(&["--policy", "oci"], &config)).contains("no user namespace"));
        assert_eq!(ok(&caller.run(&[], &config)), "0\n");
        assert_eq!(caller.left(), [""; 0]);
    }
}

#[test]
fn root_of_a_rootless_engine_s_namespace_is_still_that_user() {
    let name = "root_of_a_rootless_engine_s_namespace_is_still_that_user";
    let ranged: Vec<Caller> = users(name).into_iter().filter_map(|(caller, ranged)| ranged.then_some(caller)).collect();
    if ranged.is_empty() && !is_root() {
        return skip(name, "needs subordinate ids");
    }
    for caller in ranged {
        // As Podman calls: root of a user namespace, in the host's pid namespace.
        let words = |args: &[&str]| {
            let words = caller.words(args);
            let mut all = vec!["unshare", "--user", "--map-root-user", "--map-auto", "--mount"];
            all.extend(words[caller.runner.len()..].iter().map(String::as_str));
            caller.program(&all)
        };
        let below = |args: &[&str]| words(args).output().unwrap();
        let run = |config: &Value| {
            let bundle = caller.bundle(config).display().to_string();
            below(&["--policy", "oci", "run", "--bundle", &bundle, "box"])
        };
        let key = "net.ipv4.ip_unprivileged_port_start";
        let mut config = silent(&format!("cat /proc/sys/{}; ls -A /", key.replace('.', "/")));
        config["mounts"] = json!([
            { "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }
        ]);
        config["linux"] = json!({
            "namespaces": [{ "type": "mount" }, { "type": "network" }, { "type": "uts" }, { "type": "ipc" }],
            "sysctl": { key: "99" }
        });
        // --pid host: no procfs of that namespace can be mounted here, and sysctls are set all the same.
        assert!(ok(&run(&config)).starts_with("99\n"));
        // --userns=keep-id, auto: the numbers of its maps are this namespace's, and so is who holds them.
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        for maps in ["uidMappings", "gidMappings"] {
            config["linux"][maps] = json!([{ "containerID": 0, "hostID": 1, "size": 1000 }, { "containerID": 1000, "hostID": 0, "size": 1 }]);
        }
        assert!(ok(&run(&config)).starts_with("99\n"));
        assert!(caller.states().join(".ids").is_dir());
        config["process"]["args"] = json!(["sleep", "1000"]);
        let bundle = caller.bundle(&config).display().to_string();
        let claims = || std::fs::read_dir(caller.states().join(".ids")).unwrap().count();
        assert_eq!(claims(), 0);
        // Its output is a file: a pipe would keep us waiting for the container.
        let log = std::fs::File::create(caller.path().join("log")).unwrap();
        let mut detached = words(&["--policy", "oci", "run", "--detach", "--bundle", &bundle, "box"]);
        assert!(detached.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap().success());
        assert_eq!(claims(), 1);
        ok(&below(&["delete", "--force", "box"]));
        assert_eq!((claims(), caller.left()), (0, vec![]));
    }
}

#[test]
fn ids_of_others_are_refused() {
    let name = "ids_of_others_are_refused";
    for (caller, _) in users(name) {
        for outside in [0u32, 1, 200_000] {
            let mut config = spec(&caller, "id -u");
            for maps in ["uidMappings", "gidMappings"] {
                config["linux"][maps] = json!([{ "containerID": 0, "hostID": outside, "size": 1 }]);
            }
            for policy in ["strict", "oci"] {
                let out = caller.run(&["--policy", policy], &config);
                assert!(!out.status.success(), "host id {outside} under {policy}: {}", text(&out.stdout));
                assert!(!text(&out.stdout).contains('0'));
                assert_eq!(caller.left(), [""; 0]);
            }
        }
    }
}

#[test]
fn limits_that_cannot_be_enforced_are_refused_and_defaults_are_findings() {
    let name = "limits_that_cannot_be_enforced_are_refused_and_defaults_are_findings";
    for (caller, _) in users(name) {
        let asked = [
            ("memory", json!({ "memory": { "limit": 64 << 20 } })),
            ("cpu", json!({ "cpu": { "quota": 50_000, "period": 100_000 } })),
            ("pids", json!({ "pids": { "limit": 20 } })),
        ];
        // In a cgroup that is the user's (the test machine gives it one) they hold.
        let group = delegated();
        for (controller, resources) in asked {
            let mut config = silent("echo ran");
            config["linux"] = json!({ "resources": resources });
            let out = caller.run(&[], &config);
            if group {
                assert_eq!(ok(&out), "ran\n");
            } else {
                let err = failed(&out);
                assert!(err.contains(controller) && err.contains("cannot be enforced"), "{err}");
                assert!(err.contains("hint: "), "{err}");
            }
            assert_eq!(caller.left(), [""; 0]);
        }
        let state = caller.recorded("strict", &silent("true"));
        if !group {
            for part in ["memory.max=1073741824", "pids.max=512", "cpu.max=100000 100000"] {
                assert!(
                    state.contains(&format!("no {part}")) || state.contains(&format!(", {part}")),
                    "{part}: {state}"
                );
            }
        }
    }
}

/// Whether we ourselves are in a cgroup v2 that we may divide, with the controllers.
fn delegated() -> bool {
    if is_root() || !controllers(&["memory", "cpu", "pids"]) {
        return false;
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.trim().trim_start_matches("0::").to_owned();
    let parent = Path::new(&own).parent().unwrap_or(Path::new("/")).to_owned();
    let base = cgroup_mount().join(parent.to_string_lossy().trim_start_matches('/'));
    nix::unistd::access(&base, nix::unistd::AccessFlags::W_OK).is_ok()
        && nix::unistd::access(&base.join("cgroup.procs"), nix::unistd::AccessFlags::W_OK).is_ok()
}

#[test]
fn limits_hold_in_a_delegated_cgroup() {
    let name = "limits_hold_in_a_delegated_cgroup";
    if !controllers(&["memory", "cpu", "pids"]) {
        return skip(name, "needs pure cgroup v2 with memory, cpu and pids");
    }
    let mut callers = users(name);
    let mut made = Vec::new();
    if is_root() {
        for (caller, _) in &mut callers {
            // base is the user's; the caller itself must lie below it, and be moved there by who owns what is above.
            let base = cgroup_mount().join(format!("stockade-test-{}-{}", caller.uid, std::process::id()));
            std::fs::create_dir_all(base.join("shell")).unwrap();
            std::fs::write(base.join("cgroup.subtree_control"), "+memory +cpu +pids").unwrap();
            for file in ["", "cgroup.procs", "cgroup.subtree_control", "shell", "shell/cgroup.procs"] {
                std::os::unix::fs::chown(base.join(file), Some(caller.uid), Some(caller.uid)).unwrap();
            }
            let script = "echo $$ >$1/shell/cgroup.procs; shift; exec \"$@\"";
            let first = ["sh", "-c", script, "sh", base.to_str().unwrap()].map(str::to_owned);
            caller.runner.splice(0..0, first);
            made.push(base);
        }
    } else if !delegated() {
        return skip(name, "we are not in a delegated cgroup");
    }
    for (caller, _) in &callers {
        let mut config = silent("exec sleep 1000");
        config["linux"] = json!({ "resources": {
            "memory": { "limit": 64 << 20, "swap": 64 << 20 }, "cpu": { "quota": 50_000, "period": 100_000 }, "pids": { "limit": 20 }
        } });
        let bundle = caller.bundle(&config).display().to_string();
        caller.quiet(&["create", "--bundle", &bundle, "box"]);
        let pid = caller.state("box")["pid"].as_i64().unwrap();
        let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let group = cgroup_mount().join(own.trim().trim_start_matches("0::/"));
        let read = |file: &str| std::fs::read_to_string(group.join(file)).unwrap();
        assert!(group.ends_with("box") || group.to_string_lossy().contains("box"), "{group:?}");
        assert_eq!(
            ["memory.max", "memory.swap.max", "cpu.max", "pids.max"].map(read),
            ["67108864\n", "0\n", "50000 100000\n", "20\n"]
        );
        ok(&caller.stockade(&["delete", "--force", "box"]));
        assert!(!group.exists(), "{group:?} is left");
        let mut config =
            silent("n=0; while [ $n -lt 40 ]; do sleep 100 & n=$((n+1)); done 2>&1 | grep -o -m 1 \"can't fork\"");
        config["linux"] = json!({ "resources": { "pids": { "limit": 20 } } });
        assert_eq!(ok(&caller.run(&[], &config)), "can't fork\n");
    }
    for base in made {
        wait_for("an empty cgroup", || std::fs::remove_dir(base.join("shell")).is_ok() || !base.join("shell").exists());
        std::fs::remove_dir(&base).unwrap();
    }
}

#[test]
fn the_device_program_is_a_finding_and_devices_are_out_of_reach() {
    let name = "the_device_program_is_a_finding_and_devices_are_out_of_reach";
    for (caller, _) in users(name) {
        let script =
            "mknod /dev/m c 1 1 2>&1; mknod /tmp/m b 8 0 2>&1; echo x >/dev/null && echo null; ls /dev | tr '\\n' ' '";
        let mut config = silent(script);
        config["mounts"] = json!([{ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }]);
        let out = ok(&caller.run(&[], &config));
        assert_eq!(out.matches("Operation not permitted").count(), 2, "{out}");
        assert!(out.contains("null\nfd full mqueue null ptmx pts random shm"), "{out}");
        let state = caller.recorded("strict", &config);
        assert!(state.contains("device"), "no finding about devices: {state}");
    }
}

#[test]
fn a_rootfs_that_only_root_may_read_is_refused() {
    let name = "a_rootfs_that_only_root_may_read_is_refused";
    need_root!(name);
    for (caller, _) in users(name) {
        let bundle = caller.bundle(&silent("echo ran"));
        std::fs::set_permissions(bundle.join("rootfs"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let err = failed(&caller.stockade(&["run", "--bundle", &bundle.display().to_string(), "box"]));
        assert!(err.contains("EACCES"), "{err}");
        assert_eq!(caller.left(), [""; 0]);
    }
}

#[test]
fn two_users_do_not_meet() {
    let name = "two_users_do_not_meet";
    need_root!(name);
    let (one, two) = (Caller::single(), Caller::root());
    let bundle = one.bundle(&silent("exec sleep 1000")).display().to_string();
    one.quiet(&["create", "--bundle", &bundle, "box"]);
    one.quiet(&["start", "box"]);
    std::fs::create_dir(two.states()).unwrap();
    assert_eq!(ok(&two.stockade(&["list", "-q"])), "");
    assert!(failed(&two.stockade(&["state", "box"])).contains("does not exist"));
    assert_eq!(one.state("box")["status"], "running");
    let bundle = two.bundle(&silent("echo same id")).display().to_string();
    assert_eq!(ok(&two.stockade(&["run", "--bundle", &bundle, "box"])), "same id\n");
    ok(&one.stockade(&["delete", "--force", "box"]));
}

#[test]
fn a_sandbox_of_an_ordinary_user() {
    let name = "a_sandbox_of_an_ordinary_user";
    for (caller, ranged) in users(name) {
        let script = "id -u; hostname; touch /usr/x 2>&1; touch ~/x && ls ~; wc -l </proc/self/uid_map";
        let out = ok(&caller.stockade(&["sandbox", "--", "sh", "-c", script]));
        let lines = if ranged { 2 } else { 1 };
        let expected = format!("0\nsandbox\ntouch: cannot touch '/usr/x': Read-only file system\nx\n{lines}\n");
        assert_eq!(out, expected);
        assert_eq!(caller.left(), [""; 0]);
    }
}
