//! Who comes into a container, or into a pid namespace that several share, while somebody there has CAP_SYS_PTRACE over
//! the very user namespace that the runtime is in: the runtime's process can be traced as soon as it is seen, so it must
//! have nothing left by then that the workload does not get.

use crate::common::*;
use crate::exec::{leaking, watched};
use crate::harness::*;
use crate::need_root;
use crate::probe;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;

/// In the environment of whoever calls the runtime; the tracer is given it backwards.
const SECRET: &str = "of-the-caller-and-nobody-inside";

/// What the tracer has: enough to trace, and nothing that makes it root of the host by itself.
const RIGHTS: [&str; 3] = ["CAP_SYS_PTRACE", "CAP_KILL", "CAP_DAC_OVERRIDE"];

/// A bundle under a policy that lets a workload trace, with the runtime's own user namespace where the policy has none.
fn tracing(case: Case, command: &[&str]) -> Bundle {
    let keys = json!({ "capabilities": { "above": "allow" }, "seccomp": { "silent": "none", "floor": "none" },
        "noNewPrivileges": { "explicitFalse": "allow" }, "landlock": { "level": "off" } });
    let mut bundle = case.loose(command, &keys);
    bundle.config["process"]["capabilities"] = json!({ "bounding": RIGHTS, "effective": RIGHTS, "permitted": RIGHTS });
    bundle
}

fn tracer(case: Case) -> Bundle {
    let backwards: String = SECRET.chars().rev().collect();
    tracing(case, &["probe", "trace", "/tmp/stop", &backwards])
}

/// How many processes the tracer held while they were the runtime's still; that there was nothing to be had of them, and
/// that it would have been found. `passwd`: of the image of who comes; HOME is read there.
fn held(case: Case, passwd: u64, said: &str) -> usize {
    let lines: Vec<&str> = said.lines().collect();
    let control = |what: &str| lines.iter().any(|l| l.starts_with("control ") && l.contains(what));
    for what in ["exe /bin/probe", "fd /etc/passwd", "/stockade-test-", "memory of the host", "namespace mnt:["] {
        assert!(control(what), "{case:?}: the control {what:?}: {said}");
    }
    let hosts: Vec<String> = ["mnt", "net", "ipc", "uts", "cgroup", "pid"]
        .iter()
        .map(|ns| std::fs::read_link(format!("/proc/self/ns/{ns}")).unwrap().display().to_string())
        .collect();
    for line in lines.iter().filter(|l| !l.starts_with("control ") && !l.starts_with("watching")) {
        let harmless = match line.split_once(' ') {
            Some(("exe", exe)) => exe.starts_with("/memfd:stockade") || exe == "/bin/busybox",
            Some(("cwd" | "root", path)) => path == "/",
            Some(("fd", fd)) => {
                *fd == format!("/etc/passwd {passwd}")
                    || ["pipe:", "socket:", "/dev/null "].iter().any(|known| fd.starts_with(known))
            }
            Some(("namespace", ns)) => !hosts.iter().any(|host| host == ns),
            Some(("held", _)) => true,
            _ => false,
        };
        assert!(harmless, "{case:?}: {line:?} of the runtime's process: {said}");
    }
    let last = lines.last().and_then(|l| l.strip_prefix("held ")).unwrap_or_else(|| panic!("{said}"));
    last.split(' ').next().unwrap().parse().unwrap()
}

fn passwd_of(bundle: &Bundle) -> u64 {
    std::fs::metadata(bundle.rootfs().join("etc/passwd")).unwrap().ino()
}

/// A container in the pid namespace of another, as in a pod.
fn share_pids(config: &mut Value, pod: &Bundle) {
    for ns in config["linux"]["namespaces"].as_array_mut().unwrap() {
        if ns["type"] == "pid" {
            ns["path"] = json!(format!("/proc/{}/ns/pid", pod.pid()));
        }
    }
}

/// As in the races.
fn rounds(all: usize) -> usize {
    if lean() { all.div_ceil(20) } else { all }
}

#[test]
fn nobody_inside_traces_who_comes() {
    let name = "nobody_inside_traces_who_comes";
    need_root!(name);
    let Ok(program) = probe::program() else { return skip(name, "no C compiler") };
    // A filter without no_new_privs takes CAP_SYS_ADMIN to install, which is gone before anybody sees it.
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }] });
    let ways: [(bool, Value, &[&str]); 3] =
        [(true, Value::Null, &[]), (false, filter.clone(), &[]), (true, filter, &["--user", "1000"])];
    for case in by_root() {
        let mut early = 0;
        for (no_new_privs, filter, options) in &ways {
            let mut bundle = tracer(case);
            bundle.config["process"]["noNewPrivileges"] = json!(no_new_privs);
            if !filter.is_null() {
                bundle.config["linux"]["seccomp"] = filter.clone();
            }
            let passwd = passwd_of(&bundle);
            let said = watched(case, bundle, &program, &|bundle, copy| {
                for _ in 0..rounds(if case.policy == "oci" { 70 } else { 8 }) {
                    let words = [&["exec"], *options, &["box", "true"]].concat();
                    let out = leaking(bundle, copy, "", &words).env("SECRET", SECRET).output().unwrap();
                    assert!(out.status.success(), "{case:?}: {}", text(&out.stderr));
                }
            });
            early += held(case, passwd, &said);
        }
        // Where the container has a user namespace of its own the runtime's processes are out of reach altogether.
        assert_eq!(early > 0, case.policy != "strict", "{case:?}: {early} processes were held");
    }
}

#[test]
fn nobody_in_a_shared_pid_namespace_traces_a_launch() {
    let name = "nobody_in_a_shared_pid_namespace_traces_a_launch";
    need_root!(name);
    let Ok(program) = probe::program() else { return skip(name, "no C compiler") };
    if before_pidns() {
        return skip(name, "before Linux 6.18 it can be traced, and says so");
    }
    for case in by_root().into_iter().filter(|c| c.policy != "strict") {
        let bundle = case.bundle(&["true"]);
        let said = watched(case, tracer(case), &program, &|pod, copy| {
            let mut config = bundle.config.clone();
            share_pids(&mut config, pod);
            std::fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
            let place = bundle.path().display().to_string();
            for _ in 0..rounds(25) {
                let out = leaking(&bundle, copy, "", &["run", "--bundle", &place, "box"])
                    .env("SECRET", SECRET)
                    .output()
                    .unwrap();
                assert!(out.status.success(), "{case:?}: {}", text(&out.stderr));
            }
        });
        let early = held(case, passwd_of(&bundle), &said);
        assert!(early > 0, "{case:?}: nothing was held: {said}");
    }
}

/// Whether a procfs shows the pid namespace of who mounts it, and no other.
fn before_pidns() -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut parts = release.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap(), parts.next().unwrap()) < (6, 18)
}

/// Hooks are told the pid of the container before it is complete: there the launch says that it can be seen.
#[test]
fn a_launch_that_can_be_traced_is_a_finding() {
    let name = "a_launch_that_can_be_traced_is_a_finding";
    need_root!(name);
    let case = Case { policy: "oci", uid: 0 };
    let pod = case.bundle(&["sleep", "1000"]);
    ok(&pod.create());
    let mut bundle = case.bundle(&["true"]);
    share_pids(&mut bundle.config, &pod);
    let explained = |bundle: &Bundle| {
        bundle.write();
        let place = bundle.path().display().to_string();
        serde_json::from_str::<Value>(&ok(&bundle.verb(&["explain", "--json", &place]))).unwrap()
    };
    let warns = |plan: &Value| plan.to_string().contains("can trace the launch");
    let emerges = |plan: &Value| plan.to_string().contains("\"emerge\"");
    let plan = explained(&bundle);
    if before_pidns() {
        assert!(warns(&plan) && !emerges(&plan), "{plan}");
        return;
    }
    assert!(!warns(&plan) && emerges(&plan), "{plan}");
    bundle.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/true" }] });
    let plan = explained(&bundle);
    assert!(warns(&plan) && !emerges(&plan), "{plan}");
    // So it does where a filter has to come late: what it denies is called between the two.
    let with = |denied: &str| {
        let mut bundle = case.bundle(&["true"]);
        share_pids(&mut bundle.config, &pod);
        bundle.config["process"]["noNewPrivileges"] = json!(false);
        bundle.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": [denied], "action": "SCMP_ACT_ERRNO" }] });
        explained(&bundle).to_string().contains("CAP_SYS_ADMIN until it is installed")
    };
    assert!(with("setsid") && with("clone") && !with("mkdir"));
    // A hook that comes when all is over has nothing to do with it.
    bundle.config["hooks"] = json!({ "poststop": [{ "path": "/bin/true" }] });
    assert!(emerges(&explained(&bundle)));
}
