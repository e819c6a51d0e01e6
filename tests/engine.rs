//! The policies `engine` and `engine-build` on this machine: what engines send runs, with what the workload gets; and each
//! row of the table in docs/policies.md, "program, what fails, the key that loosens it", provoked and loosened.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Does one thing that a program does, and says `ok` or the errno.
const NEEDS: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    long r = -1;
    if (!strcmp(what, "euid")) { printf("%d\n", geteuid()); return 0; }
    if (!strcmp(what, "raw")) r = socket(AF_INET, SOCK_RAW, 1);
    if (!strcmp(what, "ping")) r = socket(AF_INET, SOCK_DGRAM, 1);
    if (!strcmp(what, "packet")) r = socket(AF_PACKET, SOCK_RAW, 0);
    if (!strcmp(what, "audit")) r = socket(AF_NETLINK, SOCK_RAW, 9);
    if (!strcmp(what, "ptrace")) r = ptrace(PTRACE_TRACEME, 0, 0, 0);
    if (!strcmp(what, "io_uring")) r = syscall(SYS_io_uring_setup, 1, 0);
    if (!strcmp(what, "keyctl")) r = syscall(SYS_keyctl, 0, -3, 1);
    if (!strcmp(what, "numa")) r = syscall(SYS_set_mempolicy, 0, 0, 0);
    if (!strcmp(what, "perf")) r = syscall(SYS_perf_event_open, 0, 0, -1, -1, 0);
    if (!strcmp(what, "nice")) r = setpriority(PRIO_PROCESS, 0, -5);
    if (!strcmp(what, "uffd")) r = syscall(SYS_userfaultfd, 1);
    if (!strcmp(what, "setfcap")) {
        struct vfs_cap_data data = { VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE, { { 1 << CAP_NET_RAW, 0 }, { 0, 0 } } };
        r = setxattr("/tmp/file", "security.capability", &data, XATTR_CAPS_SZ_2, 0);
    }
#ifdef __x86_64__
    if (!strcmp(what, "int80")) { __asm__ volatile("int $0x80" : "=a"(r) : "a"(20)); }
#endif
    printf("%s\n", r >= 0 ? "ok" : strerrorname_np(errno));
    return 0;
}
"#;

/// The program, compiled once; none where nothing compiles it.
fn needs() -> Option<PathBuf> {
    let mut hasher = DefaultHasher::new();
    NEEDS.hash(&mut hasher);
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = cache.join(format!("needs-{:016x}", hasher.finish()));
    if path.exists() {
        return Some(path);
    }
    std::fs::create_dir_all(cache).ok()?;
    let dir = tempfile::tempdir_in(cache).ok()?;
    let (source, made) = (dir.path().join("needs.c"), dir.path().join("needs"));
    std::fs::write(&source, NEEDS).unwrap();
    let out = Command::new("gcc").args(["-static", "-O1", "-Wall", "-o"]).args([&made, &source]).output().ok()?;
    assert!(out.status.success(), "gcc: {}", text(&out.stderr));
    std::fs::rename(&made, &path).unwrap();
    Some(path)
}

fn sent(name: &str) -> Value {
    let path = format!("{HERE}/tests/plan/engines/{name}.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A process that holds namespaces until it is dropped.
struct Holder(Child);

impl Holder {
    fn new() -> Holder {
        use std::io::Read;
        let mut child = Command::new("unshare")
            .args(["--net", "--ipc", "--uts", "sh", "-c", "echo; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Holder(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What an engine sends, with what it would have set up: volumes, namespaces, hooks. Limits that this host has no
/// controller for are findings.
fn realised(name: &str, script: &str, holder: &Holder, more: Value) -> Bundle {
    let mut bundle = Bundle::silent(&[]);
    let mut config = sent(name);
    config["process"]["args"] = json!(["sh", "-c", script]);
    config["process"]["env"] = json!(["PATH=/bin"]);
    let mark = bundle.path().file_name().unwrap().to_string_lossy().into_owned();
    config["linux"]["cgroupsPath"] = format!("/{mark}").into();
    // AppArmor is another test's matter: tests/process.rs.
    config["process"].as_object_mut().unwrap().remove("apparmorProfile");
    if !caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE).unwrap() {
        // Nobody can raise these here.
        config["process"].as_object_mut().unwrap().retain(|k, _| k != "oomScoreAdj" && k != "rlimits");
    }
    for (i, mount) in config["mounts"].as_array_mut().unwrap().iter_mut().enumerate() {
        if mount["type"] == "bind" {
            let target = mount["destination"].as_str().unwrap().to_owned();
            let source = bundle.path().join(format!("source-{i}"));
            let file = ["/etc/", "/run/.containerenv", "/dev/termination-log"].iter().any(|p| target.starts_with(p));
            match file {
                true => std::fs::write(&source, format!("{target}\n")).unwrap(),
                false => std::fs::create_dir(&source).unwrap(),
            }
            std::fs::set_permissions(&source, PermissionsExt::from_mode(0o777)).unwrap();
            mount["source"] = source.display().to_string().into();
        }
    }
    for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["path"].is_string() {
            let file = match namespace["type"].as_str().unwrap() {
                "network" => "net",
                other => other,
            };
            namespace["path"] = format!("/proc/{}/ns/{file}", holder.0.id()).into();
        }
    }
    if config["hooks"].is_object() {
        let told = bundle.path().join("hook");
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", format!("cat >{}", told.display())] });
        config["hooks"] = json!({ "prestart": [hook] });
    }
    bundle.config = config;
    let mut policy = json!({
        "extends": if name == "buildkit" { "engine-build" } else { "engine" },
        "limits": { "withoutController": "finding" }
    });
    merge(&mut policy, more);
    bundle.operator(policy)
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (k, v) in over {
                merge(base.entry(k).or_insert(Value::Null), v);
            }
        }
        (base, over) => *base = over,
    }
}

/// The bits of capabilities by name.
fn bits(names: &[&str]) -> u64 {
    names.iter().map(|n| 1u64 << format!("CAP_{n}").parse::<caps::Capability>().unwrap().index()).sum()
}

#[test]
fn what_engines_send_runs_and_the_workload_is_hardened() {
    need_root!("what_engines_send_runs_and_the_workload_is_hardened");
    let holder = Holder::new();
    let script = "grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp|Seccomp_filters):' /proc/self/status; \
        echo interrupts $(wc -c </proc/interrupts); touch /proc/sys/x 2>/dev/null && echo touched; \
        echo map $(cat /proc/self/uid_map); echo net $(readlink /proc/self/ns/net); \
        echo mine >/data/file 2>/dev/null; echo pids $(cat /sys/fs/cgroup/pids.max)";
    for name in ["buildkit", "cri", "crio", "ctr", "docker", "docker-host", "podman"] {
        let bundle = realised(name, script, &holder, json!({}));
        let out = ok(&bundle.run());
        let value = |key: &str| {
            let line = out.lines().find(|l| l.split([':', ' ']).next() == Some(key));
            line.unwrap_or_else(|| panic!("{name}: {key}: {out}"))[key.len() + 1..].trim().to_owned()
        };
        let asked = bundle.config["process"]["capabilities"]["bounding"].as_array().cloned().unwrap_or_default();
        let asked: Vec<&str> = asked.iter().map(|c| c.as_str().unwrap().trim_start_matches("CAP_")).collect();
        let mut gone = vec!["NET_RAW", "AUDIT_WRITE", "SYS_PTRACE"];
        if name != "buildkit" {
            gone.extend(["MKNOD", "SETFCAP"]);
        }
        let bounding = u64::from_str_radix(&value("CapBnd"), 16).unwrap();
        assert_eq!(bounding, bits(&asked) & !bits(&gone), "{name}: {out}");
        let root = bundle.config["process"]["user"]["uid"] == 0;
        assert_eq!(
            u64::from_str_radix(&value("CapEff"), 16).unwrap(),
            if root { bounding } else { 0 },
            "{name}: {out}"
        );
        assert_eq!((value("NoNewPrivs").as_str(), value("Seccomp").as_str()), ("1", "2"), "{name}: {out}");
        let filters = if bundle.config["linux"]["seccomp"].is_object() { "2" } else { "1" };
        assert_eq!(value("Seccomp_filters"), filters, "{name}: {out}");
        assert_eq!(value("interrupts"), "0", "{name}: {out}");
        assert!(!out.contains("touched"), "{name}: {out}");
        assert_eq!(value("map"), "0 0 4294967295", "{name}: a user namespace was invented");
        let inode = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap().display().to_string();
        match bundle.config["linux"]["namespaces"].as_array().unwrap().iter().find(|n| n["type"] == "network") {
            None => assert_eq!(value("net"), inode(std::process::id()), "{name}"),
            Some(n) if n["path"].is_string() => assert_eq!(value("net"), inode(holder.0.id()), "{name}"),
            Some(_) => assert!(value("net") != inode(std::process::id()), "{name}"),
        }
        let volume = bundle.config["mounts"].as_array().unwrap().iter().find(|m| m["destination"] == "/data");
        if let Some(volume) = volume {
            let path = Path::new(volume["source"].as_str().unwrap()).join("file");
            assert_eq!(std::fs::read_to_string(path).unwrap(), "mine\n", "{name}");
        }
        if bundle.config["hooks"].is_object() {
            let told = std::fs::read_to_string(bundle.path().join("hook")).unwrap();
            assert!(told.contains("\"pid\""), "{name}: {told}");
        }
    }
}

#[test]
fn a_config_without_a_limit_of_processes_has_4096() {
    need_root!("a_config_without_a_limit_of_processes_has_4096");
    if !controllers(&["memory", "cpu", "pids"]) {
        return skip(
            "a_config_without_a_limit_of_processes_has_4096",
            "no memory, cpu and pids controllers on cgroup v2",
        );
    }
    let holder = Holder::new();
    for limit in [json!({}), json!({ "limit": 0 }), json!({ "limit": -1 })] {
        let script = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max";
        let mut bundle = realised("docker", script, &holder, json!({ "limits": { "withoutController": "refuse" } }));
        bundle.config["linux"]["resources"]["pids"] = limit.clone();
        assert_eq!(ok(&bundle.run()), "4096\nmax\n", "{limit}");
        let more = json!({ "limits": { "pids": 77 } });
        let mut bundle = realised("docker", script, &holder, more);
        bundle.config["linux"]["resources"]["pids"] = limit;
        assert!(ok(&bundle.run()).starts_with("77\n"));
    }
}

#[test]
fn privileged_is_refused_with_its_rule_and_leaves_nothing() {
    need_root!("privileged_is_refused_with_its_rule_and_leaves_nothing");
    let holder = Holder::new();
    let bundle = realised("docker-privileged", "true", &holder, json!({}));
    let mark = bundle.path().file_name().unwrap().to_string_lossy().into_owned();
    let before = Leftovers::now(&mark);
    let err = failed(&bundle.run());
    assert!(err.contains("privileged container") && err.contains("policy key privileged"), "{err}");
    assert_eq!(Leftovers::now(&mark), before);
    assert!(!bundle.path().join("hook").exists(), "a hook has run");
}

#[test]
fn sockets_of_daemons_are_refused_by_any_way_to_them() {
    need_root!("sockets_of_daemons_are_refused_by_any_way_to_them");
    use std::os::unix::{fs::symlink, net::UnixListener};
    let place = scratch();
    let api = place.path().join("api");
    std::fs::create_dir(&api).unwrap();
    let _listener = UnixListener::bind(api.join("docker.sock")).unwrap();
    let _other = UnixListener::bind(place.path().join("mine.sock")).unwrap();
    symlink("api/docker.sock", place.path().join("link")).unwrap();
    symlink(place.path().join("link"), place.path().join("link-to-link")).unwrap();
    symlink("api", place.path().join("dir-link")).unwrap();
    let attempt = |policy: Value, source: &Path| {
        let script = "test -S /x || test -S /x/docker.sock || test -d /x";
        let mut bundle = Bundle::usual(&["sh", "-c", script]);
        let mount = json!({ "destination": "/x", "type": "bind", "source": source, "options": ["rbind", "ro"] });
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        bundle.operator(policy).run()
    };
    let engine = json!({ "extends": "engine" });
    let strict = json!({ "extends": "strict", "hostPaths": { "beyond": "allow" } });
    for name in ["api/docker.sock", "link", "link-to-link", "api", "dir-link", "api/../api"] {
        let source = place.path().join(name);
        for policy in [&engine, &strict] {
            let err = failed(&attempt(policy.clone(), &source));
            assert!(err.contains("policy key daemonSockets") && err.contains("docker.sock"), "{name}: {err}");
        }
        ok(&attempt(json!({ "extends": "engine", "daemonSockets": "allow" }), &source));
        ok(&attempt(json!({ "extends": "oci" }), &source));
    }
    // Somebody's own socket is not a daemon's, and neither is the directory above, which is not known to have one.
    ok(&attempt(engine.clone(), &place.path().join("mine.sock")));
    for path in ["/run", "/var/run"] {
        let err = failed(&attempt(engine.clone(), Path::new(path)));
        assert!(err.contains("policy key daemonSockets"), "{path}: {err}");
    }
}

#[test]
fn sockets_in_their_usual_places_are_found_from_every_directory_above() {
    need_root!("sockets_in_their_usual_places_are_found_from_every_directory_above");
    // In a mount namespace of our own with an empty /run: nothing of the host is touched.
    let attempt = |sockets: &[&str], source: &str| {
        let mut bundle = Bundle::usual(&["true"]).policy("engine");
        let mount = json!({ "destination": "/x", "type": "bind", "source": source, "options": ["rbind", "ro"] });
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        // A listener that is gone leaves its socket, and one may come again.
        let make = "import os,socket,sys\nfor p in sys.argv[1:]:\n os.makedirs(os.path.dirname(p),exist_ok=True)\n socket.socket(socket.AF_UNIX).bind(p)";
        let script = format!("mount -t tmpfs tmpfs /run && python3 -c '{make}' {} && exec \"$@\"", sockets.join(" "));
        bundle.runner = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
        bundle.run()
    };
    for (socket, sources) in [
        ("/run/docker.sock", &["/run/docker.sock", "/var/run/docker.sock", "/"][..]),
        ("/run/containerd/containerd.sock", &["/run/containerd", "/run/containerd/containerd.sock", "/"]),
        ("/run/crio/crio.sock", &["/run/crio", "/"]),
        ("/run/podman/podman.sock", &["/run/podman", "/var/run/podman/podman.sock", "/"]),
        ("/run/buildkit/buildkitd.sock", &["/run/buildkit", "/"]),
        ("/run/user/1000/podman/podman.sock", &["/run/user", "/run/user/1000", "/run/user/1000/podman", "/"]),
        ("/run/user/1000/docker.sock", &["/run/user/1000/docker.sock", "/run/user/1000"]),
    ] {
        for source in sources {
            let err = failed(&attempt(&[socket], source));
            assert!(err.contains("policy key daemonSockets"), "{source}: {err}");
        }
    }
    // The control: a directory beside them.
    ok(&attempt(&["/run/podman/podman.sock", "/run/mine/mine.sock"], "/run/mine"));
}

#[test]
fn a_link_that_turns_after_it_was_judged_leads_nowhere() {
    need_root!("a_link_that_turns_after_it_was_judged_leads_nowhere");
    use std::os::unix::{fs::symlink, net::UnixListener};
    use std::sync::atomic::{AtomicBool, Ordering};
    let place = scratch();
    let at = |name: &str| place.path().join(name);
    std::fs::create_dir(at("api")).unwrap();
    std::fs::create_dir(at("harmless")).unwrap();
    let _listener = UnixListener::bind(at("api/docker.sock")).unwrap();
    symlink("harmless", at("link")).unwrap();
    let stop = AtomicBool::new(false);
    let (mut ran, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for target in ["api", "harmless"].iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                symlink(target, at("next")).unwrap();
                std::fs::rename(at("next"), at("link")).unwrap();
            }
        });
        let mut bundle = Bundle::usual(&["sh", "-c", "test ! -e /x/docker.sock || echo REACHED"]).policy("engine");
        let mount = json!({ "destination": "/x", "type": "bind", "source": at("link"), "options": ["rbind"] });
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        let rounds: Vec<_> = (0..200).map(|_| bundle.run()).collect();
        stop.store(true, Ordering::Relaxed);
        for out in rounds {
            assert!(!text(&out.stdout).contains("REACHED"), "a daemon's socket was reached");
            match out.status.success() {
                true => ran += 1,
                false => {
                    assert!(text(&out.stderr).contains("daemonSockets"), "{}", text(&out.stderr));
                    refused += 1;
                }
            }
        }
    });
    // Else nothing was raced.
    assert!(ran > 5 && refused > 5, "{ran} ran, {refused} refused");
}

/// A row of the table in docs/policies.md.
struct Row {
    /// The first cell.
    program: &'static str,
    /// What the workload runs: a script of busybox, with `needs` beside it.
    script: &'static str,
    /// As this user.
    uid: u32,
    /// Capabilities of the config beyond Docker's 14.
    caps: &'static [&'static str],
    /// What it says under `engine`.
    fails: &'static str,
    /// The keys that loosen it.
    loosened: fn() -> Value,
    /// What it says then.
    works: &'static str,
}

fn open_filter() -> Value {
    json!({ "extends": "engine", "seccomp": { "silent": "none", "floor": "none" } })
}

fn ceiling(cap: &str) -> Value {
    json!({ "extends": "engine", "capabilities": { "ceiling": ["CHOWN", "SETUID", "SETGID", cap] } })
}

fn setuid() -> Value {
    json!({ "extends": "engine", "noNewPrivileges": { "silent": false }, "mounts": { "nosuid": false } })
}

fn build() -> Value {
    json!({ "extends": "engine-build" })
}

fn rows() -> Vec<Row> {
    let row =
        |program, script, fails, loosened, works| Row { program, script, uid: 0, caps: &[], fails, loosened, works };
    vec![
        Row { uid: 1000, ..row("sudo, su, setuid helpers", "suid euid", "1000", setuid, "0") },
        Row {
            uid: 1000,
            ..row(
                "ping by a file capability",
                "capable raw",
                "EPERM",
                || {
                    let mut policy = setuid();
                    merge(&mut policy, ceiling("NET_RAW"));
                    policy
                },
                "ok",
            )
        },
        row("tcpdump, nmap, arping as root", "needs raw", "EPERM", || ceiling("NET_RAW"), "ok"),
        row(
            "packet sockets: dhclient, keepalived",
            "needs packet",
            "EAFNOSUPPORT",
            || {
                let mut policy = open_filter();
                merge(&mut policy, ceiling("NET_RAW"));
                policy
            },
            "ok",
        ),
        row("sshd, login, cron: audit records", "needs audit", "EAFNOSUPPORT", open_filter, "ok"),
        row(
            "nested sandboxes: bwrap, unshare -U, Chrome",
            "unshare -U echo ok 2>&1",
            "Operation not permitted",
            open_filter,
            "ok",
        ),
        row("debuggers: strace, gdb", "needs ptrace", "EPERM", open_filter, "ok"),
        row("io_uring: databases, newer runtimes", "needs io_uring", "ENOSYS", open_filter, "E"),
        row("keyrings: keyctl, Kerberos with KEYRING", "needs keyctl", "EPERM", open_filter, "ok"),
        row("NUMA policy: numactl, mysqld", "needs numa", "EPERM", open_filter, "ok"),
        row("profilers: perf", "needs perf", "EPERM", open_filter, "EFAULT"),
        row("userfaultfd: CRIU, some JVMs", "needs uffd", "EPERM", open_filter, "ok"),
        Row {
            caps: &["NET_ADMIN"],
            ..row(
                "VPNs, iptables, istio-init",
                "ifconfig lo down 2>&1 && echo ok",
                "Operation not permitted",
                || ceiling("NET_ADMIN"),
                "ok",
            )
        },
        Row {
            caps: &["SYS_ADMIN"],
            ..row(
                "mounts inside: NFS, CIFS, FUSE, tmpfs",
                "mount -t tmpfs none /mnt 2>&1 && echo ok",
                "ermi",
                || {
                    let mut policy = open_filter();
                    merge(&mut policy, ceiling("SYS_ADMIN"));
                    policy
                },
                "ok",
            )
        },
        Row {
            caps: &["SYS_NICE"],
            ..row("real-time and raised priority", "needs nice", "E", || ceiling("SYS_NICE"), "ok")
        },
        row("mknod: debootstrap, rpm", "mknod /tmp/node c 1 3 2>&1 && echo ok", "Operation not permitted", build, "ok"),
        row(
            "apt-get and dnf: setuid programs",
            "chmod 4755 /tmp/file 2>&1 && echo ok",
            "Operation not permitted",
            build,
            "ok",
        ),
        row("apt-get and dnf: setcap", "needs setfcap", "EPERM", build, "ok"),
    ]
}

fn attempt(row: &Row, needs: &Path, policy: Value) -> String {
    let script = format!("touch /tmp/file 2>/dev/null; {}", row.script);
    let mut bundle = Bundle::usual(&["sh", "-c", &script]);
    let bin = bundle.rootfs().join("bin");
    for (name, mode) in [("needs", 0o755), ("suid", 0o4755), ("capable", 0o755)] {
        assert!(Command::new("cp").arg(needs).arg(bin.join(name)).status().unwrap().success());
        std::fs::set_permissions(bin.join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    assert!(Command::new("setcap").arg("cap_net_raw+ep").arg(bin.join("capable")).status().unwrap().success());
    let mut caps = sent("docker")["process"]["capabilities"]["bounding"].as_array().unwrap().clone();
    caps.extend(row.caps.iter().map(|c| Value::from(format!("CAP_{c}"))));
    let own = if row.uid == 0 { json!(caps) } else { json!([]) };
    bundle.config["process"]["capabilities"] = json!({ "bounding": caps, "permitted": own, "effective": own });
    bundle.config["process"]["user"] = json!({ "uid": row.uid, "gid": row.uid });
    bundle.config["mounts"].as_array_mut().unwrap().retain(|m| m["type"] != "cgroup");
    let out = bundle.operator(policy).run();
    format!("{}{}", text(&out.stdout), text(&out.stderr))
}

#[test]
fn each_row_of_the_table_fails_under_engine_and_works_when_its_key_is_loosened() {
    let name = "each_row_of_the_table_fails_under_engine_and_works_when_its_key_is_loosened";
    need_root!(name);
    let Some(needs) = needs() else { return skip(name, "no gcc to compile what the rows run") };
    if Command::new("setcap").arg("-h").output().is_err() {
        return skip(name, "no setcap: apt-get install libcap2-bin");
    }
    let docs = std::fs::read_to_string(format!("{HERE}/docs/policies.md")).unwrap();
    let mut wrong = Vec::new();
    for row in rows() {
        let line = docs.lines().find(|l| l.starts_with(&format!("| {} |", row.program)));
        let Some(line) = line else {
            wrong.push(format!("{}: no row in docs/policies.md", row.program));
            continue;
        };
        let policy = (row.loosened)();
        let keys = policy.as_object().unwrap().keys().filter(|k| *k != "extends");
        let words = keys.map(String::as_str).chain((policy["extends"] == "engine-build").then_some("engine-build"));
        wrong.extend(words.filter(|w| !line.contains(w)).map(|w| format!("{}: the docs do not name {w}", row.program)));
        let said = attempt(&row, &needs, json!({ "extends": "engine" }));
        if !said.contains(row.fails) || said.trim_end().ends_with("ok") {
            wrong.push(format!("{}: under engine: {said}", row.program));
        }
        let said = attempt(&row, &needs, policy);
        if !said.contains(row.works) || said.contains(row.fails) && row.fails != row.works {
            wrong.push(format!("{}: loosened: {said}", row.program));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rows whose program is less to the point than what the engine sets up for it.
#[test]
fn rows_about_what_the_engine_sets_up_fail_and_are_loosened() {
    need_root!("rows_about_what_the_engine_sets_up_fail_and_are_loosened");
    let cgroups = cgroup_mount();
    let rows = [
        (
            "systemd with a writable `-v /sys/fs/cgroup`",
            cgroups.to_str().unwrap(),
            // Opened, and nothing written.
            "(: >>/host/cgroup.procs) && echo ok",
            "Read-only file system",
            json!({ "extends": "engine", "mounts": { "kernelFiles": "allow" } }),
        ),
        (
            "an agent that writes to a bound /proc or /sys",
            "/proc/sys",
            "(: >>/host/kernel/domainname) && echo ok",
            "Read-only file system",
            json!({ "extends": "engine", "mounts": { "kernelFiles": "allow" } }),
        ),
        (
            "node-exporter with `-v /:/host`",
            "/run",
            "echo ok",
            "policy key daemonSockets",
            json!({ "extends": "engine", "daemonSockets": "allow" }),
        ),
    ];
    for (program, source, script, fails, loosened) in rows {
        let said = |policy: Value| {
            let mut bundle = Bundle::usual(&["sh", "-c", &format!("({script}) 2>&1")]);
            let mount = json!({ "destination": "/host", "type": "bind", "source": source, "options": ["rbind", "rw"] });
            bundle.config["mounts"].as_array_mut().unwrap().push(mount);
            let out = bundle.operator(policy).run();
            format!("{}{}", text(&out.stdout), text(&out.stderr))
        };
        let held = said(json!({ "extends": "engine" }));
        assert!(held.contains(fails) && !held.contains("ok"), "{program}: {held}");
        assert_eq!(said(loosened), "ok\n", "{program}: loosened");
    }
}

/// A row of docs/policies.md that no table of this file provokes, and the test that does.
const ELSEWHERE: [(&str, &str); 9] = [
    ("programs of 32 bits", "engine::programs_of_32_bits_need_the_filter_opened"),
    (
        "Portainer, Traefik, Watchtower, CI with docker.sock",
        "engine::sockets_of_daemons_are_refused_by_any_way_to_them",
    ),
    ("node-exporter with `-v /:/host`", "engine::rows_about_what_the_engine_sets_up_fail_and_are_loosened"),
    ("docker:dind, kind: `--privileged`", "engine::privileged_is_refused_with_its_rule_and_leaves_nothing"),
    ("systemd with a writable `-v /sys/fs/cgroup`", "engine::rows_about_what_the_engine_sets_up_fail_and_are_loosened"),
    (
        "an agent that writes to a bound /proc or /sys",
        "engine::rows_about_what_the_engine_sets_up_fail_and_are_loosened",
    ),
    ("more than 4096 threads: large JVMs, build farms", "engine::a_config_without_a_limit_of_processes_has_4096"),
    (
        "a memory or CPU limit on a host without cgroup v2",
        "limits::a_limit_that_config_json_asks_for_and_the_host_lacks_is_refused",
    ),
    (
        "`podman container checkpoint` and restore",
        "plan/restore::images_are_restored_only_where_an_operator_vouches_for_them",
    ),
];

#[test]
fn every_row_of_the_table_is_provoked_by_a_test() {
    let docs = std::fs::read_to_string(format!("{HERE}/docs/policies.md")).unwrap();
    let (_, table) = docs.split_once("| program or image | what fails |").unwrap();
    let table = table.split("\n\n").next().unwrap();
    let programs: Vec<&str> =
        table.lines().skip(2).map(|l| l.trim_start_matches("| ").split(" | ").next().unwrap()).collect();
    assert!(programs.len() > 20, "{programs:?}");
    let here: Vec<&str> = rows().iter().map(|r| r.program).collect();
    for program in &programs {
        let elsewhere = ELSEWHERE.iter().find(|(p, _)| p == program);
        assert!(here.contains(program) != elsewhere.is_some(), "{program}: one test, here or elsewhere");
    }
    for (program, test) in ELSEWHERE {
        assert!(programs.contains(&program), "{program} is not in the table");
        let (file, name) = test.split_once("::").unwrap();
        let source = std::fs::read_to_string(format!("{HERE}/tests/{file}.rs")).unwrap();
        assert!(source.contains(&format!("#[test]\nfn {name}() {{")), "{test} is not there");
    }
}

#[test]
fn ping_by_a_datagram_socket_needs_no_key() {
    need_root!("ping_by_a_datagram_socket_needs_no_key");
    let Some(needs) = needs() else { return skip("ping_by_a_datagram_socket_needs_no_key", "no gcc") };
    let mut bundle = Bundle::usual(&["needs", "ping"]).policy("engine");
    assert!(Command::new("cp").arg(needs).arg(bundle.rootfs().join("bin/needs")).status().unwrap().success());
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ping_group_range": "0 2147483647" });
    assert_eq!(ok(&bundle.run()), "ok\n");
}

#[test]
fn programs_of_32_bits_need_the_filter_opened() {
    let name = "programs_of_32_bits_need_the_filter_opened";
    need_root!(name);
    let Some(needs) = needs().filter(|_| cfg!(target_arch = "x86_64")) else { return skip(name, "no gcc for x86_64") };
    if Command::new(&needs).arg("int80").output().is_ok_and(|out| !out.status.success()) {
        return skip(name, "this kernel runs no 32-bit programs");
    }
    let run = |policy: Value| {
        let bundle = Bundle::usual(&["needs", "int80"]);
        assert!(Command::new("cp").arg(&needs).arg(bundle.rootfs().join("bin/needs")).status().unwrap().success());
        bundle.operator(policy).run()
    };
    // SIGSYS.
    assert_eq!(run(json!({ "extends": "engine" })).status.code(), Some(128 + 31));
    assert_eq!(ok(&run(open_filter())), "ok\n");
}
