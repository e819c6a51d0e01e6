//! Namespaces by path: every type, in any order, owned by whomever; and pods made of them.

#![allow(clippy::unwrap_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;
use caller::Caller;
use common::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The specification's name, the file in /proc/PID/ns, the option of unshare(1).
const TYPES: [(&str, &str, &str); 7] = [
    ("pid", "pid", "--pid"),
    ("network", "net", "--net"),
    ("ipc", "ipc", "--ipc"),
    ("uts", "uts", "--uts"),
    ("mount", "mnt", "--mount"),
    ("cgroup", "cgroup", "--cgroup"),
    ("time", "time", "--time"),
];

/// A process in namespaces of its own, as `unshare` makes them.
struct Holder {
    child: Child,
    pid: i32,
}

impl Holder {
    fn new(options: &[&str]) -> Holder {
        let child = Command::new("unshare")
            .args(options)
            .args(["--fork", "--kill-child", "sleep", "1000"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut pid = 0;
        wait_for("the holder", || {
            let path = format!("/proc/{0}/task/{0}/children", child.id());
            let text = std::fs::read_to_string(path).unwrap_or_default();
            pid = text.split_whitespace().next().and_then(|p| p.parse().ok()).unwrap_or(0);
            pid != 0 && std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "sleep\n")
        });
        Holder { child, pid }
    }

    fn path(&self, file: &str) -> String {
        format!("/proc/{}/ns/{file}", self.pid)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn inode(pid: i32, file: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap()
}

fn own(file: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/self/ns/{file}")).unwrap()
}

/// A bundle whose namespaces are these, and new the rest of the usual ones.
fn with(policy: &str, command: &[&str], paths: &[(&str, String)]) -> Bundle {
    let mut bundle = Bundle::usual(command).policy(policy);
    let usual = ["cgroup", "mount", "uts", "ipc", "network", "pid"];
    let new = usual.iter().filter(|t| !paths.iter().any(|(p, _)| p == *t)).map(|t| json!({ "type": t }));
    let joined = paths.iter().map(|(t, p)| json!({ "type": t, "path": p }));
    bundle.config["linux"]["namespaces"] = joined.chain(new).collect::<Vec<Value>>().into();
    bundle
}

fn refused(bundle: &Bundle, words: &[&str]) {
    let out = bundle.create();
    let err = failed(&out);
    assert!(words.iter().all(|w| err.contains(w)), "{words:?}: {err}");
    let left: Vec<_> = std::fs::read_dir(bundle.root()).into_iter().flatten().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_type_is_joined_by_path() {
    need_root!("every_type_is_joined_by_path");
    let before = own("mnt");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for (kind, file, option) in TYPES {
        let holder = Holder::new(&[option]);
        let bundle = with("oci", &["sleep", "1000"], &[(kind, holder.path(file))]);
        ok(&bundle.create());
        let pid = bundle.pid();
        assert_eq!(inode(pid, file), inode(holder.pid, file), "{kind}");
        assert_ne!(inode(pid, file), own(file), "{kind}");
        for (_, other, _) in TYPES.iter().filter(|(k, ..)| *k != kind && *k != "time") {
            assert_ne!(inode(pid, other), own(other), "{kind}: {other} is the host's");
            assert_ne!(inode(pid, other), inode(holder.pid, other), "{kind}: {other} is the holder's");
        }
        ok(&bundle.verb(&["start", "box"]));
        wait_for("the workload", || {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c == "sleep\x001000\x00")
        });
        ok(&bundle.delete());
        // What was joined is nobody's to end.
        assert!(proc_status(holder.pid, "State").is_some_and(|s| !s.starts_with('Z')), "{kind}");
    }
    assert_eq!(own("mnt"), before);
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts);
}

#[test]
fn all_at_once_and_in_any_order() {
    need_root!("all_at_once_and_in_any_order");
    let options: Vec<&str> = TYPES.iter().map(|(.., o)| *o).filter(|o| *o != "--mount").collect();
    let holder = Holder::new(&options);
    let mut paths: Vec<(&str, String)> =
        TYPES.iter().filter(|(k, ..)| *k != "mount").map(|(k, f, _)| (*k, holder.path(f))).collect();
    for _ in 0..2 {
        paths.reverse();
        let script = "test $$ != 1 && ls /proc/1/cmdline && cat /proc/1/cmdline && hostname";
        let bundle = with("oci", &["sh", "-c", script], &paths);
        let out = ok(&bundle.run());
        assert!(out.contains("sleep"), "{out}");
    }
}

#[test]
fn what_is_no_such_namespace_is_refused() {
    need_root!("what_is_no_such_namespace_is_refused");
    let dir = scratch();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let holder = Holder::new(&["--uts"]);
    let field = "linux.namespaces[0].path";
    for (path, word) in [
        (at("none"), "ENOENT"),
        (at("file"), "is not a namespace"),
        (at("fifo"), "is not a namespace"),
        ("/dev/zero".to_owned(), "is not a namespace"),
        (holder.path("uts"), "is a uts namespace and no network namespace"),
        ("proc/self/ns/net".to_owned(), "is not an absolute path"),
    ] {
        refused(&with("oci", &["true"], &[("network", path.clone())]), &[field, &path, word]);
    }
    // Twice the same type, by whatever means.
    let mut bundle = with("oci", &["true"], &[("uts", holder.path("uts"))]);
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "uts" }));
    refused(&bundle, &["linux.namespaces[6]", "a second uts namespace"]);
}

#[test]
fn the_runtimes_own_namespace_is_the_hosts() {
    need_root!("the_runtimes_own_namespace_is_the_hosts");
    // Joined, it would be the host's name that is set, and the host's root that is changed.
    let mut bundle = with("oci", &["true"], &[("uts", "/proc/self/ns/uts".into())]);
    bundle.config["hostname"] = "captured".into();
    refused(&bundle, &["hostname", "rename the host"]);
    for path in ["/proc/self/ns/mnt", "/proc/1/ns/mnt"] {
        if std::fs::read_link(path).is_err() {
            // PID 1 of this sandbox shows nobody its namespaces; then nobody can join them either.
            continue;
        }
        refused(&with("oci", &["true"], &[("mount", path.into())]), &["linux.namespaces", "change for the host"]);
    }
    let mut bundle = with("oci", &["true"], &[("network", "/proc/self/ns/net".into())]);
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    refused(&bundle, &["linux.sysctl", "would change the host"]);
    // Where an operator allows namespaces of others, the host's are not meant.
    let bundle = with("oci", &["true"], &[("network", "/proc/self/ns/net".into())]);
    let global = bundle.global.len();
    let mut bundle = bundle.operator(json!({ "extends": "strict", "namespaces": { "joined": "allow" } }));
    bundle.global.drain(..global);
    refused(&bundle, &["linux.namespaces[0].path", "namespaces.host"]);
    // Under oci it is done as it says.
    let bundle = with("oci", &["readlink", "/proc/self/ns/net"], &[("network", "/proc/self/ns/net".into())]);
    assert_eq!(ok(&bundle.run()).trim(), own("net").display().to_string());
}

#[test]
fn strict_joins_nothing_without_an_operators_word() {
    need_root!("strict_joins_nothing_without_an_operators_word");
    let holder = Holder::new(&["--net"]);
    refused(&with("strict", &["true"], &[("network", holder.path("net"))]), &["namespaces.joined"]);
}

/// A network namespace of a CNI plugin, and a user namespace of the container's own: what the kernel would refuse is
/// replaced or refused with the reason.
#[test]
fn a_network_namespace_of_the_host_in_a_user_namespace_of_its_own() {
    need_root!("a_network_namespace_of_the_host_in_a_user_namespace_of_its_own");
    let holder = Holder::new(&["--net", "--ipc", "--uts"]);
    let script = "readlink /proc/self/ns/net; ip link show lo | head -n 1; ls /sys/fs/cgroup | wc -l; \
        ls /sys/kernel/debug | wc -l; touch /sys/x 2>&1; mount | grep -c 'on /sys '; ls /sys/class/net >/dev/null && echo seen; \
        cat /proc/self/uid_map";
    let make = |command: &[&str], paths: &[(&str, String)]| {
        let bundle = with("oci", command, paths);
        let mut bundle = bundle.operator(json!({ "extends": "strict", "namespaces": { "joined": "allow" } }));
        bundle.global.drain(..2);
        bundle.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/sys/fs/cgroup");
        bundle
    };
    let bundle = make(&["sh", "-c", script], &[("network", holder.path("net")), ("ipc", holder.path("ipc"))]);
    let out = ok(&bundle.run());
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], inode(holder.pid, "net").display().to_string(), "{out}");
    // Nobody brought its lo up: it is not ours to configure.
    assert!(lines[1].contains("LOOPBACK") && !lines[1].contains("UP"), "{out}");
    assert_eq!((lines[2], lines[3]), ("0", "0"), "the host's cgroups or tracing are seen: {out}");
    assert!(lines[4].contains("Read-only file system"), "{out}");
    assert_eq!((lines[5], lines[6]), ("1", "seen"), "{out}");
    assert!(!lines[7].trim_start().starts_with("0 0"), "{out}");

    let mut bundle = make(&["true"], &[("network", holder.path("net"))]);
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    refused(&bundle, &["linux.sysctl", "belongs to its owner"]);
    let mut bundle = make(&["true"], &[("uts", holder.path("uts"))]);
    bundle.config["hostname"] = "mine".into();
    refused(&bundle, &["hostname", "belongs to another user namespace"]);
    let holder = Holder::new(&["--pid"]);
    refused(&make(&["true"], &[("pid", holder.path("pid"))]), &["procfs", "pid namespace"]);
    let holder = Holder::new(&["--mount"]);
    let err = "together with the user namespace that owns it";
    refused(&make(&["true"], &[("mount", holder.path("mnt"))]), &["linux.namespaces[0].path", err]);
}

/// The members of a pod: a container that holds the namespaces, and two that join them.
fn pod(user: Option<Value>, caller: &mut dyn FnMut(&str, &Value) -> i32, check: &dyn Fn(&str, i32, i32)) {
    let mut config = Bundle::usual(&["sh", "-c", "hostname pod; exec sleep 1000"]).config.clone();
    config["process"]["capabilities"] = json!({
        "bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]
    });
    config["linux"]["resources"] = json!({});
    if let Some(maps) = &user {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        for key in ["uidMappings", "gidMappings"] {
            if !maps.is_null() {
                config["linux"][key] = maps.clone();
            }
        }
    }
    let pause = caller("pause", &config);
    wait_for("the pause container", || {
        std::fs::read_to_string(format!("/proc/{pause}/comm")).is_ok_and(|c| c == "sleep\n")
    });
    for (name, reverse) in [("first", false), ("second", true)] {
        let mut config = Bundle::usual(&["sh", "-c", "sleep 999 & exec sleep 1000"]).config.clone();
        let mut list: Vec<Value> =
            [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("user", "user")]
                .iter()
                .filter(|(t, _)| user.is_some() || *t != "user")
                .map(|(t, f)| json!({ "type": t, "path": format!("/proc/{pause}/ns/{f}") }))
                .collect();
        list.extend(["mount", "cgroup"].map(|t| json!({ "type": t })));
        if reverse {
            list.reverse();
            // An engine names the maps, too; they are the same.
            if let Some(maps) = user.as_ref().filter(|m| !m.is_null()) {
                config["linux"]["uidMappings"] = maps.clone();
                config["linux"]["gidMappings"] = maps.clone();
            }
        }
        config["linux"]["namespaces"] = list.into();
        config["process"]["oomScoreAdj"] = 500.into();
        let pid = caller(name, &config);
        for file in ["pid", "net", "ipc", "uts", "user"] {
            assert_eq!(inode(pid, file), inode(pause, file), "{name}: {file}");
        }
        for file in ["mnt", "cgroup"] {
            assert_ne!(inode(pid, file), inode(pause, file), "{name}: {file}");
        }
        assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "500");
        check(name, pid, pause);
    }
}

/// The processes with these words as their command line.
fn running(words: &str, namespace: &Path) -> usize {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|e| std::fs::read_link(e.path().join("ns/pid")).is_ok_and(|n| n == namespace))
        .filter(|e| {
            std::fs::read_to_string(e.path().join("cmdline")).is_ok_and(|c| c.replace('\0', " ").trim() == words)
        })
        .count()
}

#[test]
fn a_whole_pod() {
    need_root!("a_whole_pod");
    let maps = json!([{ "containerID": 0, "hostID": 1_900_000_000, "size": 65536 }]);
    for user in [None, Some(maps)] {
        let bundle = Bundle::usual(&["true"]).policy("oci");
        make_rootfs(&bundle.path().join("rootfs"));
        let dir = bundle.path().display().to_string();
        let mut made = Vec::new();
        let mut launch = |name: &str, config: &Value| -> i32 {
            std::fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
            let err = bundle.path().join("err");
            let status = bundle
                .command(&["run", "--detach", "-b", &dir, name])
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(&err).unwrap())
                .status()
                .unwrap();
            assert!(status.success(), "{name}: {}", std::fs::read_to_string(&err).unwrap());
            made.push(name.to_owned());
            let state: Value = serde_json::from_slice(&bundle.verb(&["state", name]).stdout).unwrap();
            state["pid"].as_i64().unwrap() as i32
        };
        let exec = |name: &str, script: &str| ok(&bundle.verb(&["exec", name, "sh", "-c", script]));
        let check = |name: &str, pid: i32, pause: i32| {
            assert_eq!(exec(name, "hostname; cat /proc/1/comm"), "pod\nsleep\n", "{name}");
            // Its own sysfs and queues: it is root in the namespace that owns them.
            assert!(exec(name, "grep -c ' /sys .*- sysfs' /proc/self/mountinfo").starts_with('1'), "{name}");
            let space = inode(pause, "pid");
            wait_for("the second process", || running("sleep 999", &space) == 1);
            // To all of it, and to nothing else of the pod.
            ok(&bundle.verb(&["kill", "--all", name, "KILL"]));
            wait_for("its end", || {
                running("sleep 999", &space) == 0 && proc_status(pid, "State").is_none_or(|s| s.starts_with('Z'))
            });
            assert!(proc_status(pause, "State").is_some_and(|s| !s.starts_with('Z')));
            ok(&bundle.verb(&["delete", name]));
            // And again, by a delete alone: the init is gone, what it left is not.
            let _ = std::fs::remove_file(bundle.path().join("err"));
        };
        pod(user.clone(), &mut launch, &check);
        for name in made {
            ok(&bundle.verb(&["delete", "--force", &name]));
        }
    }
}

#[test]
fn what_a_dead_init_left_in_a_pid_namespace_of_others_goes_with_the_delete() {
    need_root!("what_a_dead_init_left_in_a_pid_namespace_of_others_goes_with_the_delete");
    let holder = Holder::new(&["--pid"]);
    let bundle = with("oci", &["sh", "-c", "sleep 998 & sleep 0.1"], &[("pid", holder.path("pid"))]);
    ok(&bundle.create());
    ok(&bundle.verb(&["start", "box"]));
    wait_for("stopped", || bundle.state()["status"] == "stopped");
    let space = inode(holder.pid, "pid");
    assert_eq!(running("sleep 998", &space), 1);
    ok(&bundle.verb(&["delete", "box"]));
    assert_eq!(running("sleep 998", &space), 0);
    assert!(proc_status(holder.pid, "State").is_some_and(|s| !s.starts_with('Z')));
    // The same for a run in the foreground.
    let out = bundle.run();
    ok(&out);
    assert_eq!(running("sleep 998", &space), 0);
}

#[test]
fn the_maps_of_a_joined_user_namespace_count() {
    need_root!("the_maps_of_a_joined_user_namespace_count");
    // No map at all: nobody is anybody there.
    let holder = Holder::new(&["--user"]);
    refused(&with("oci", &["true"], &[("user", holder.path("user"))]), &["process.user.uid", "no id outside"]);
    // Root of the host: an operator's word for namespaces of others is none for that.
    let holder = Holder::new(&["--user", "--map-root-user"]);
    let mut bundle = with("oci", &["id", "-u"], &[("user", holder.path("user"))]);
    // Its gids cannot be set: setgroups is denied there, and the caller's group is its own.
    let out = bundle.run();
    assert_eq!(ok(&out), "0\n");
    bundle.config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 5, "size": 1 }]);
    bundle.config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 5, "size": 1 }]);
    refused(&bundle, &["linux.uidMappings", "not the maps of the user namespace"]);
    let bundle = with("oci", &["true"], &[("user", holder.path("user"))]);
    let mut bundle = bundle.operator(json!({ "extends": "strict", "namespaces": { "joined": "allow" } }));
    bundle.global.drain(..2);
    refused(&bundle, &["host id 0 as 0 inside", "hostRootMapped"]);
}

/// Of two joined namespaces the one that the user namespace does not own is entered first: after it there would be no way.
#[test]
fn what_the_joined_user_namespace_does_not_own_is_entered_before_it() {
    need_root!("what_the_joined_user_namespace_does_not_own_is_entered_before_it");
    let user = Holder::new(&["--user", "--map-root-user", "--uts"]);
    let foreign = Holder::new(&["--net", "--ipc"]);
    let mut paths = vec![("user", user.path("user")), ("network", foreign.path("net")), ("uts", user.path("uts"))];
    for _ in 0..2 {
        paths.reverse();
        let script =
            "for n in net uts user; do readlink /proc/self/ns/$n; done; hostname inside && hostname; touch /sys/x";
        let bundle = with("oci", &["sh", "-c", script], &paths);
        let out = bundle.run();
        let said = text(&out.stdout);
        let want = [inode(foreign.pid, "net"), inode(user.pid, "uts"), inode(user.pid, "user")];
        for link in want {
            assert!(said.contains(&link.display().to_string()), "{said}{}", text(&out.stderr));
        }
        assert!(text(&out.stderr).contains("Read-only file system"), "{}", text(&out.stderr));
    }
    // Its queues belong to somebody else; a mount of them is the config's wish.
    let bundle = with("oci", &["true"], &[("user", user.path("user")), ("ipc", foreign.path("ipc"))]);
    refused(&bundle, &["mounts[4]", "ipc namespace belongs to another user namespace"]);
}

/// An ordinary user joins what is its own, and is told what is not.
#[test]
fn an_ordinary_users_pod() {
    need_root!("an_ordinary_users_pod");
    let caller = match Caller::ranged() {
        Ok(caller) => caller,
        Err(why) => return skip("an_ordinary_users_pod", why),
    };
    let mut made = 0;
    let mut launch = |name: &str, config: &Value| -> i32 {
        let mut config = config.clone();
        // No cgroup is delegated here; the tree of the host would be bound.
        config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/sys/fs/cgroup");
        let bundle = caller.bundle(&config).display().to_string();
        let mut command = caller.command(&["--policy", "oci", "run", "--detach", "--bundle", &bundle, name]);
        let err = caller.path().join("err");
        let status = command.stdout(Stdio::null()).stderr(std::fs::File::create(&err).unwrap()).status().unwrap();
        assert!(status.success(), "{name}: {}", std::fs::read_to_string(&err).unwrap());
        made += 1;
        let state: Value = serde_json::from_slice(&caller.stockade(&["state", name]).stdout).unwrap();
        state["pid"].as_i64().unwrap() as i32
    };
    let check = |name: &str, pid: i32, _: i32| {
        assert_eq!(proc_status(pid, "Uid").unwrap().split('\t').next(), Some("1000"), "{name}");
    };
    pod(Some(Value::Null), &mut launch, &check);
    assert_eq!(made, 3);
    // Of somebody else, and of its own without the user namespace.
    let pause: Value = serde_json::from_slice(&caller.stockade(&["state", "pause"]).stdout).unwrap();
    let holder = Holder::new(&["--net", "--user", "--map-root-user"]);
    for (paths, word) in [
        (vec![("network", format!("/proc/{}/ns/net", pause["pid"]))], "owns that it joins, too"),
        (vec![("network", holder.path("net"))], "EACCES"),
        (vec![("user", holder.path("user"))], "EACCES"),
    ] {
        let mut config = with("oci", &["true"], &paths).config.clone();
        if paths[0].0 != "user" {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        }
        let bundle = caller.bundle(&config).display().to_string();
        let err = failed(&caller.stockade(&["--policy", "oci", "run", "--bundle", &bundle, "none"]));
        assert!(err.contains("linux.namespaces[0].path") && err.contains(word), "{err}");
    }
}
