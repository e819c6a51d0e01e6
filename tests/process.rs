//! How a process runs, beside who it is and what it may do: each field of config.json is read back from both sides, by
//! the workload itself and in the host's /proc.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;
use caller::Caller;
use common::*;
use serde_json::{Value, json};
use std::process::Command;

/// A bundle as engines send it, under `oci`, with these fields put into `process` and `linux`.
fn usual(command: &[&str], process: Value, linux: Value) -> Bundle {
    let mut bundle = Bundle::usual(command).policy("oci");
    for (part, more) in [("process", process), ("linux", linux)] {
        for (key, value) in more.as_object().unwrap() {
            bundle.config[part][key] = value.clone();
        }
    }
    bundle
}

/// The same for one field of `process`.
fn with(command: &[&str], field: &str, value: Value) -> Bundle {
    usual(command, json!({ field: value }), json!({}))
}

/// A file of /proc/PID, of the created `box`.
fn proc(bundle: &Bundle, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{}/{file}", bundle.pid())).unwrap()
}

/// (nice, rt_priority, policy) of a line of /proc/PID/stat.
fn scheduling(stat: &str) -> (i32, u32, u32) {
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let at = |n: usize| fields[n - 3].parse::<i64>().unwrap();
    (at(19) as i32, at(40) as u32, at(41) as u32)
}

fn host(words: &[&str]) -> String {
    let out = Command::new(words[0]).args(&words[1..]).output().unwrap();
    ok(&out).trim().to_owned()
}

/// Created, looked at by the host, started, and what the workload said of itself.
fn both(bundle: &mut Bundle, look: impl FnOnce(&Bundle)) -> String {
    let said = bundle.rootfs().join("tmp/said");
    let words: Vec<String> = serde_json::from_value(bundle.config["process"]["args"].take()).unwrap();
    // The workload itself and no child of it: some of what is set here does not pass on.
    bundle.config["process"]["args"] = json!(["sh", "-c", "exec \"$@\" >/tmp/said 2>&1", "sh"]);
    let args = bundle.config["process"]["args"].as_array_mut().unwrap();
    args.extend(words.into_iter().map(Value::from));
    let out = bundle.create();
    assert!(out.status.success(), "{}", text(&out.stderr));
    look(bundle);
    ok(&bundle.verb(&["start", "box"]));
    wait_for("the end of the workload", || bundle.state()["status"] == "stopped");
    let text = std::fs::read_to_string(said).unwrap();
    ok(&bundle.delete());
    text
}

#[test]
fn a_cwd_is_made_where_it_is_missing_and_its_user_need_not_walk_there() {
    need_root!("a_cwd_is_made_where_it_is_missing_and_its_user_need_not_walk_there");
    let mut bundle = Bundle::usual(&["sh", "-c", "pwd; stat -c '%a %u' ."]).policy("oci");
    bundle.config["process"]["cwd"] = "/srv/app/deep".into();
    assert_eq!(ok(&bundle.run()), "/srv/app/deep\n755 0\n");
    // A link of the image leads nowhere else.
    std::os::unix::fs::symlink("/tmp", bundle.rootfs().join("out")).unwrap();
    bundle.config["process"]["cwd"] = "/out/inside".into();
    ok(&bundle.run());
    assert!(bundle.rootfs().join("tmp/inside").exists() && !std::path::Path::new("/tmp/inside").exists());
    // Only root may enter, and the user is another one: the directory is where it was put.
    let home = bundle.rootfs().join("home");
    std::fs::create_dir_all(home.join("work")).unwrap();
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    bundle.config["process"]["cwd"] = "/home/work".into();
    bundle.config["process"]["user"] = serde_json::json!({ "uid": 1000, "gid": 1000 });
    bundle.config["process"]["args"] =
        serde_json::json!(["/bin/busybox", "sh", "-c", "/bin/busybox readlink /proc/self/cwd; cd /home/work"]);
    let out = bundle.run();
    assert!(text(&out.stderr).contains("can't cd"), "the user may not go there by itself: {}", text(&out.stderr));
    assert_eq!(text(&out.stdout), "/home/work\n");
}

#[test]
fn scheduler_of_every_policy() {
    need_root!("scheduler_of_every_policy");
    for (scheduler, expected) in [
        (json!({ "policy": "SCHED_OTHER", "nice": -7 }), (-7, 0, 0)),
        (json!({ "policy": "SCHED_OTHER", "nice": 19 }), (19, 0, 0)),
        (json!({ "policy": "SCHED_BATCH", "nice": 5 }), (5, 0, 3)),
        (json!({ "policy": "SCHED_IDLE" }), (0, 0, 5)),
        (json!({ "policy": "SCHED_FIFO", "priority": 1 }), (0, 1, 1)),
        (json!({ "policy": "SCHED_RR", "priority": 99 }), (0, 99, 2)),
    ] {
        for own_user in [false, true] {
            let mut bundle = with(&["cat", "/proc/self/stat"], "scheduler", scheduler.clone());
            if own_user {
                // In a user namespace of its own the process could not do it itself.
                user_namespace(&mut bundle);
            }
            let inside = both(&mut bundle, |b| assert_eq!(scheduling(&proc(b, "stat")), expected, "{scheduler}"));
            assert_eq!(scheduling(&inside), expected, "{scheduler}, inside");
        }
    }
}

/// Whether root has this capability here, by its number.
fn capable(cap: u32) -> bool {
    let bits = proc_status(std::process::id() as i32, "CapEff").unwrap();
    u64::from_str_radix(&bits, 16).unwrap() >> cap & 1 == 1
}

const SYS_RESOURCE: u32 = 24;

/// A user namespace with an id map of the config's.
fn user_namespace(bundle: &mut Bundle) {
    let map = json!([{ "containerID": 0, "hostID": 700_000, "size": 65536 }]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    host(&["chown", "-hR", "700000:700000", bundle.rootfs().to_str().unwrap()]);
}

#[test]
fn scheduler_deadline_with_its_times_and_flags() {
    need_root!("scheduler_deadline_with_its_times_and_flags");
    let deadline = |more: Value| {
        let mut scheduler =
            json!({ "policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 20_000_000, "period": 30_000_000 });
        scheduler.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with(&["cat", "/proc/self/stat"], "scheduler", scheduler)
    };
    let mut bundle = deadline(json!({}));
    let inside = both(&mut bundle, |b| {
        let said = host(&["chrt", "-p", &b.pid().to_string()]);
        assert!(said.contains("SCHED_DEADLINE") && said.contains("1000000/20000000/30000000"), "{said}");
    });
    assert_eq!(scheduling(&inside).2, 6);
    // By the specification's names, of which oci-spec knows two only under others.
    let flags = json!({ "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"] });
    let mut bundle = deadline(flags);
    both(&mut bundle, |b| {
        let said = host(&["chrt", "-p", &b.pid().to_string()]);
        assert!(said.contains("SCHED_DEADLINE|SCHED_RESET_ON_FORK"), "{said}");
    });
}

#[test]
fn what_a_scheduler_cannot_be_is_refused_by_field() {
    need_root!("what_a_scheduler_cannot_be_is_refused_by_field");
    for (scheduler, words) in [
        (json!({ "policy": "SCHED_MOON" }), ["process.scheduler.policy", "SCHED_MOON"]),
        (json!({ "policy": "SCHED_ISO" }), ["process.scheduler.policy", "SCHED_ISO"]),
        (json!({ "policy": "SCHED_OTHER", "nice": 20 }), ["process.scheduler.nice", "-20..19"]),
        (json!({ "policy": "SCHED_FIFO", "priority": 0 }), ["process.scheduler.priority", "1..99"]),
        (json!({ "policy": "SCHED_OTHER", "priority": 1 }), ["process.scheduler.priority", "only for SCHED_FIFO"]),
        (json!({ "policy": "SCHED_IDLE", "runtime": 1 }), ["process.scheduler.runtime", "only for SCHED_DEADLINE"]),
        (json!({ "policy": "SCHED_DEADLINE", "runtime": 9, "deadline": 2 }), ["process.scheduler.runtime", "2 ns"]),
        (json!({ "policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_X"] }), ["process.scheduler.flags[0]", "SCHED_FLAG_X"]),
    ] {
        let bundle = with(&["true"], "scheduler", scheduler);
        let err = failed(&bundle.run());
        assert!(words.iter().all(|w| err.contains(w)), "{err}");
        assert!(!bundle.root().join("box").exists());
    }
}

#[test]
fn io_priority_of_every_class() {
    need_root!("io_priority_of_every_class");
    for (class, level, said) in [("RT", 3, "realtime: prio 3"), ("BE", 6, "best-effort: prio 6"), ("IDLE", 0, "idle")] {
        let priority = json!({ "class": format!("IOPRIO_CLASS_{class}"), "priority": level });
        let mut bundle = with(&["ionice", "true"], "ioPriority", priority);
        bundle.config["process"]["args"] = json!(["ionice"]);
        let inside = both(&mut bundle, |b| assert_eq!(host(&["ionice", "-p", &b.pid().to_string()]), said));
        assert_eq!(inside.trim(), said, "inside");
    }
    let bundle = with(&["true"], "ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }));
    let err = failed(&bundle.run());
    assert!(err.contains("process.ioPriority.priority") && err.contains("0..7"), "{err}");
}

#[test]
fn personality_of_both_domains_and_no_flags() {
    need_root!("personality_of_both_domains_and_no_flags");
    for (domain, number, machine) in [("LINUX32", "00000008", "i686"), ("LINUX", "00000000", std::env::consts::ARCH)] {
        let mut bundle = usual(&["uname", "-m"], json!({}), json!({ "personality": { "domain": domain } }));
        // A personality that the caller has is not handed on.
        bundle.runner = ["setarch", "--uname-2.6", "--addr-no-randomize"].map(str::to_owned).to_vec();
        if domain == "LINUX32" && std::env::consts::ARCH != "x86_64" {
            skip("personality_of_both_domains_and_no_flags", "the name of the 32-bit machine is that of x86_64");
            continue;
        }
        let inside = both(&mut bundle, |b| assert_eq!(proc(b, "personality").trim(), number));
        assert_eq!(inside.trim(), machine);
    }
    let personality = json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] });
    let err = failed(&usual(&["true"], json!({}), json!({ "personality": personality })).run());
    assert!(err.contains("linux.personality.flags[0]") && err.contains("ADDR_NO_RANDOMIZE"), "{err}");
}

#[test]
fn memory_policy_of_every_mode() {
    need_root!("memory_policy_of_every_mode");
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        return skip("memory_policy_of_every_mode", "this kernel is built without NUMA");
    }
    for (policy, said) in [
        (json!({ "mode": "MPOL_DEFAULT" }), " default "),
        (json!({ "mode": "MPOL_LOCAL" }), " local "),
        (json!({ "mode": "MPOL_BIND", "nodes": "0" }), " bind:0 "),
        (json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }), " bind=static:0 "),
        (
            json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0-3", "flags": ["MPOL_F_RELATIVE_NODES"] }),
            " interleave=relative:0",
        ),
        (json!({ "mode": "MPOL_PREFERRED", "nodes": "0" }), " prefer:0 "),
        (json!({ "mode": "MPOL_PREFERRED_MANY", "nodes": "0" }), " prefer (many):0 "),
    ] {
        let mut bundle = usual(&["cat", "/proc/self/numa_maps"], json!({}), json!({ "memoryPolicy": policy }));
        let inside = both(&mut bundle, |b| assert!(proc(b, "numa_maps").contains(said), "{policy}"));
        assert!(inside.contains(said), "{policy}: {inside}");
    }
    for (policy, words) in [
        (json!({ "mode": "MPOL_BIND" }), ["linux.memoryPolicy.nodes", "at least one"]),
        (json!({ "mode": "MPOL_LOCAL", "nodes": "0" }), ["linux.memoryPolicy.nodes", "takes none"]),
        (json!({ "mode": "MPOL_BIND", "nodes": "0,x" }), ["linux.memoryPolicy.nodes", "\"x\""]),
        (json!({ "mode": "MPOL_BIND", "nodes": "1000" }), ["memory policy: MPOL_BIND on nodes 1000", "(EINVAL)"]),
        (json!({ "mode": "MPOL_MOON" }), ["linux.memoryPolicy.mode", "MPOL_MOON"]),
        (json!({ "mode": "MPOL_LOCAL", "flags": ["MPOL_F_X"] }), ["linux.memoryPolicy.flags[0]", "MPOL_F_X"]),
    ] {
        let bundle = usual(&["true"], json!({}), json!({ "memoryPolicy": policy }));
        let err = failed(&bundle.run());
        assert!(words.iter().all(|w| err.contains(w)), "{err}");
        assert!(!bundle.root().join("box").exists());
    }
}

#[test]
fn rlimits_of_every_name_also_above_the_callers() {
    need_root!("rlimits_of_every_name_also_above_the_callers");
    if !capable(SYS_RESOURCE) {
        return skip("rlimits_of_every_name_also_above_the_callers", "root lacks CAP_SYS_RESOURCE here");
    }
    let names = [
        ("CPU", "Max cpu time", 1000),
        ("FSIZE", "Max file size", 1 << 30),
        ("DATA", "Max data size", 1 << 30),
        ("STACK", "Max stack size", 8 << 20),
        ("CORE", "Max core file size", 5),
        ("RSS", "Max resident set", 1 << 30),
        ("NPROC", "Max processes", 4000),
        ("NOFILE", "Max open files", 900),
        ("MEMLOCK", "Max locked memory", 1 << 20),
        ("AS", "Max address space", 1_i64 << 40),
        ("LOCKS", "Max file locks", 77),
        ("SIGPENDING", "Max pending signals", 78),
        ("MSGQUEUE", "Max msgqueue size", 79),
        ("NICE", "Max nice priority", 10),
        ("RTPRIO", "Max realtime priority", 11),
        ("RTTIME", "Max realtime timeout", 1_000_000),
    ];
    let asked: Vec<Value> = names
        .iter()
        .map(|(name, _, soft)| json!({ "type": format!("RLIMIT_{name}"), "soft": soft, "hard": *soft + 1 }))
        .collect();
    for own_user in [false, true] {
        let mut bundle = with(&["cat", "/proc/self/limits"], "rlimits", json!(asked));
        bundle.runner =
            ["prlimit", "--nofile=100:100", "--rtprio=0:0", "--memlock=8192:8192"].map(str::to_owned).to_vec();
        if own_user {
            user_namespace(&mut bundle);
        }
        let check = |limits: &str| {
            for (_, label, soft) in names {
                let line = limits.lines().find(|l| l.starts_with(label)).unwrap();
                let numbers: Vec<&str> = line[label.len()..].split_whitespace().collect();
                assert_eq!(numbers[..2], [soft.to_string(), (soft + 1).to_string()], "{line}");
            }
        };
        let inside = both(&mut bundle, |b| check(&proc(b, "limits")));
        check(&inside);
    }
    let bundle = with(&["true"], "rlimits", json!([{ "type": "RLIMIT_MOON", "soft": 1, "hard": 1 }]));
    let err = failed(&bundle.run());
    assert!(err.contains("process.rlimits[0].type") && err.contains("RLIMIT_MOON"), "{err}");
}

#[test]
fn rlimits_above_the_callers_are_refused_without_cap_sys_resource() {
    need_root!("rlimits_above_the_callers_are_refused_without_cap_sys_resource");
    let mut bundle = with(&["true"], "rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 1000, "hard": 2000 }]));
    bundle.runner =
        ["prlimit", "--nofile=500:500", "setpriv", "--inh-caps=-sys_resource", "--bounding-set=-sys_resource"]
            .map(str::to_owned)
            .to_vec();
    let err = failed(&bundle.run());
    assert!(err.contains("RLIMIT_NOFILE") && err.contains("(EPERM)") && err.contains("CAP_SYS_RESOURCE"), "{err}");
    assert!(!bundle.root().join("box").exists());
}

#[test]
fn oom_score_adj_as_asked_or_left_alone() {
    need_root!("oom_score_adj_as_asked_or_left_alone");
    if !capable(SYS_RESOURCE) {
        return skip("oom_score_adj_as_asked_or_left_alone", "root lacks CAP_SYS_RESOURCE here");
    }
    for value in [-500, 0, 777] {
        let mut bundle = with(&["cat", "/proc/self/oom_score_adj"], "oomScoreAdj", json!(value));
        let inside = both(&mut bundle, |b| assert_eq!(proc(b, "oom_score_adj").trim(), value.to_string()));
        assert_eq!(inside.trim(), value.to_string());
    }
    let mut bundle = usual(&["cat", "/proc/self/oom_score_adj"], json!({}), json!({}));
    bundle.runner = ["choom", "-n", "321", "--"].map(str::to_owned).to_vec();
    assert_eq!(both(&mut bundle, |b| assert_eq!(proc(b, "oom_score_adj").trim(), "321")).trim(), "321");
}

#[test]
fn umask_groups_and_ambient_capabilities() {
    need_root!("umask_groups_and_ambient_capabilities");
    let capabilities: Value = ["bounding", "effective", "permitted", "inheritable", "ambient"]
        .map(|set| (set.to_owned(), json!(["CAP_NET_BIND_SERVICE", "CAP_KILL"])))
        .into_iter()
        .collect::<serde_json::Map<_, _>>()
        .into();
    let user = json!({ "uid": 1000, "gid": 1000, "umask": 0o137, "additionalGids": [5, 4242] });
    let process = json!({ "user": user, "capabilities": capabilities });
    let mut bundle = usual(&["cat", "/proc/self/status"], process, json!({}));
    let said = bundle.rootfs().join("tmp/said");
    std::fs::write(&said, "").unwrap();
    host(&["chmod", "0666", said.to_str().unwrap()]);
    // NET_BIND_SERVICE is 10, KILL is 5.
    let expected = [
        ("Umask", "0137"),
        ("Groups", "5 4242"),
        ("Uid", "1000\t1000\t1000\t1000"),
        ("CapAmb", "0000000000000420"),
        ("CapEff", "0000000000000420"),
    ];
    let inside = both(&mut bundle, |b| {
        for (field, value) in expected {
            assert_eq!(proc_status(b.pid(), field).as_deref(), Some(value), "{field}");
        }
    });
    for (field, value) in expected {
        let line = inside.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).unwrap();
        assert_eq!(line.trim(), value, "{field}, inside");
    }
}

/// An exec in the running `box`: its output.
fn exec(bundle: &Bundle, words: &[&str]) -> String {
    ok(&bundle.verb(&[&["exec"], words].concat()))
}

#[test]
fn exec_gets_what_init_has() {
    need_root!("exec_gets_what_init_has");
    let process = json!({
        "scheduler": { "policy": "SCHED_BATCH", "nice": 7 },
        "ioPriority": { "class": "IOPRIO_CLASS_IDLE", "priority": 0 },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 78 }],
        "oomScoreAdj": 500,
        "user": { "uid": 0, "gid": 0, "umask": 0o077 },
        "execCPUAffinity": { "initial": "0-1", "final": "1" }
    });
    let linux =
        json!({ "personality": { "domain": "LINUX32" }, "memoryPolicy": { "mode": "MPOL_BIND", "nodes": "0" } });
    let bundle = usual(&["sleep", "1000"], process, linux);
    assert!(bundle.create().status.success());
    ok(&bundle.verb(&["start", "box"]));
    // Not for init: what it has is what the caller has.
    let cpus =
        |status: &str| status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(cpus(&proc(&bundle, "status")), cpus(&own));
    let status = exec(&bundle, &["box", "cat", "/proc/self/status"]);
    assert_eq!(cpus(&status), "1");
    assert!(status.contains("Umask:\t0077"), "{status}");
    assert_eq!(scheduling(&exec(&bundle, &["box", "cat", "/proc/self/stat"])), (7, 0, 3));
    assert_eq!(exec(&bundle, &["box", "ionice"]).trim(), "idle");
    assert_eq!(exec(&bundle, &["box", "cat", "/proc/self/oom_score_adj"]).trim(), "500");
    assert!(exec(&bundle, &["box", "cat", "/proc/self/numa_maps"]).contains(" bind:0 "));
    let limits = exec(&bundle, &["box", "cat", "/proc/self/limits"]);
    assert!(
        limits
            .lines()
            .any(|l| l.split_whitespace().collect::<Vec<_>>() == ["Max", "open", "files", "77", "78", "files"]),
        "{limits}"
    );
    if std::env::consts::ARCH == "x86_64" {
        assert_eq!(exec(&bundle, &["box", "uname", "-m"]).trim(), "i686");
    }
    // What a process file names goes before what init has.
    let file = bundle.path().join("process.json");
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["cat", "/proc/self/stat", "/proc/self/status"]);
    process["scheduler"] = json!({ "policy": "SCHED_FIFO", "priority": 3 });
    process["execCPUAffinity"] = json!({ "initial": "0" });
    process["capabilities"] = json!({ "bounding": ["CAP_MOON"] });
    std::fs::write(&file, process.to_string()).unwrap();
    let said = exec(&bundle, &["--process", file.to_str().unwrap(), "box"]);
    assert_eq!(scheduling(said.lines().next().unwrap()), (0, 3, 1));
    // A cpuset of the container's gives its own CPUs to whoever comes in.
    let expected = if controllers(&["cpuset"]) { cpus(&proc(&bundle, "status")) } else { "0".to_owned() };
    assert_eq!(cpus(&said), expected);
}

#[test]
fn exec_is_judged_by_the_policy_of_create() {
    need_root!("exec_is_judged_by_the_policy_of_create");
    let bundle = Bundle::silent(&["sleep", "1000"]).policy("strict");
    assert!(bundle.create().status.success());
    ok(&bundle.verb(&["start", "box"]));
    let file = bundle.path().join("process.json");
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["true"]);
    std::fs::write(&file, process.to_string()).unwrap();
    exec(&bundle, &["--process", file.to_str().unwrap(), "box"]);
    for (field, value, words) in [
        ("scheduler", json!({ "policy": "SCHED_RR", "priority": 3 }), ["process.scheduler", "policy key scheduler"]),
        (
            "ioPriority",
            json!({ "class": "IOPRIO_CLASS_BE", "priority": 0 }),
            ["process.ioPriority", "policy key ioPriority"],
        ),
        ("selinuxLabel", json!("a:b:c:s0"), ["process.selinuxLabel", "policy key lsm.selinuxLabel"]),
        ("apparmorProfile", json!("x\ny"), ["process.apparmorProfile", "control character"]),
    ] {
        let mut more = process.clone();
        more[field] = value;
        std::fs::write(&file, more.to_string()).unwrap();
        let err = failed(&bundle.verb(&["exec", "--process", file.to_str().unwrap(), "box"]));
        assert!(words.iter().all(|w| err.contains(w)), "{err}");
    }
}

/// Seconds of the first clock of /proc/uptime, which is CLOCK_BOOTTIME.
fn uptime(text: &str) -> f64 {
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn own_uptime() -> f64 {
    uptime(&std::fs::read_to_string("/proc/uptime").unwrap())
}

const DAY: f64 = 86_400.0;

#[test]
fn time_offsets_of_both_clocks() {
    need_root!("time_offsets_of_both_clocks");
    for own_user in [false, true] {
        let offsets = json!({ "boottime": { "secs": 864_000, "nanosecs": 7 }, "monotonic": { "secs": 8_640_000 } });
        let mut bundle =
            usual(&["cat", "/proc/uptime", "/proc/self/timens_offsets"], json!({}), json!({ "timeOffsets": offsets }));
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
        if own_user {
            user_namespace(&mut bundle);
        }
        // A hook of the runtime keeps the runtime's clocks.
        let script = format!("cat /proc/uptime >{}", bundle.path().join("hooked").display());
        bundle.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
        let before = own_uptime();
        let inside = both(&mut bundle, |b| {
            let seen = proc(b, "timens_offsets");
            let lines: Vec<Vec<&str>> = seen.lines().map(|l| l.split_whitespace().collect()).collect();
            assert_eq!(lines, [["monotonic", "8640000", "0"], ["boottime", "864000", "7"]]);
            let link = |who: &str, file: &str| std::fs::read_link(format!("/proc/{who}/ns/{file}")).unwrap();
            let pid = b.pid().to_string();
            assert_ne!(link(&pid, "time"), link("self", "time"));
            assert_eq!(link(&pid, "time"), link(&pid, "time_for_children"));
        });
        let off = uptime(&inside) - before;
        assert!((10.0 * DAY..10.1 * DAY).contains(&off), "{off}");
        let hooked = uptime(&std::fs::read_to_string(bundle.path().join("hooked")).unwrap());
        assert!(hooked < before + DAY, "{hooked}");
    }
}

#[test]
fn exec_has_the_clocks_of_the_container() {
    need_root!("exec_has_the_clocks_of_the_container");
    let mut bundle =
        usual(&["sleep", "1000"], json!({}), json!({ "timeOffsets": { "boottime": { "secs": 864_000 } } }));
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
    assert!(bundle.create().status.success());
    ok(&bundle.verb(&["start", "box"]));
    assert!(uptime(&exec(&bundle, &["box", "cat", "/proc/uptime"])) > 10.0 * DAY);
}

#[test]
fn time_offsets_as_an_ordinary_user_and_by_strict() {
    let callers = match is_root() {
        true => vec![Caller::root(), Caller::single()],
        false => vec![Caller::me()],
    };
    for caller in callers {
        let config = json!({
            "ociVersion": "1.0.2",
            "process": { "user": { "uid": 0, "gid": 0 }, "args": ["cat", "/proc/uptime"], "env": ["PATH=/bin"], "cwd": "/" },
            "root": { "path": "rootfs" },
            "linux": { "timeOffsets": { "boottime": { "secs": 864_000 } } }
        });
        let off = uptime(&ok(&caller.run(&[], &config))) - own_uptime();
        assert!((9.9 * DAY..10.1 * DAY).contains(&off), "uid {}: {off}", caller.uid);
    }
}

#[test]
fn time_offsets_that_cannot_be_are_refused_by_field() {
    need_root!("time_offsets_that_cannot_be_are_refused_by_field");
    let time = json!({ "type": "time" });
    for (offsets, namespace, words) in [
        (json!({ "monotonic": { "secs": 1 } }), false, ["linux.timeOffsets", "without a new time namespace"]),
        (json!({ "realtime": { "secs": 1 } }), true, ["linux.timeOffsets.realtime", "monotonic or boottime"]),
        (
            json!({ "boottime": { "nanosecs": 1_000_000_000 } }),
            true,
            ["linux.timeOffsets.boottime.nanosecs", "1000000000"],
        ),
    ] {
        let mut bundle = usual(&["true"], json!({}), json!({ "timeOffsets": offsets }));
        if namespace {
            bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(time.clone());
        }
        let err = failed(&bundle.run());
        assert!(words.iter().all(|w| err.contains(w)), "{err}");
    }
    let mut bundle = usual(&["true"], json!({}), json!({ "timeOffsets": { "boottime": { "secs": i64::MIN } } }));
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(time);
    let err = failed(&bundle.run());
    assert!(err.contains("time offsets: boottime -9223372036854775808 s") && err.contains("(ERANGE)"), "{err}");
    assert!(!bundle.root().join("box").exists());
}

#[test]
fn domainname_by_its_field_and_by_its_sysctl() {
    need_root!("domainname_by_its_field_and_by_its_sysctl");
    let own = || std::fs::read_to_string("/proc/sys/kernel/domainname").unwrap();
    let before = own();
    for own_user in [false, true] {
        for by_sysctl in [false, true] {
            let mut bundle =
                usual(&["cat", "/proc/sys/kernel/domainname", "/proc/sys/kernel/hostname"], json!({}), json!({}));
            bundle.config["hostname"] = json!("ship");
            match by_sysctl {
                true => bundle.config["linux"]["sysctl"] = json!({ "kernel.domainname": "harbour.test" }),
                false => bundle.config["domainname"] = json!("harbour.test"),
            }
            if own_user {
                user_namespace(&mut bundle);
            }
            let inside = both(&mut bundle, |b| {
                let pid = b.pid().to_string();
                assert_eq!(host(&["nsenter", "-t", &pid, "-u", "cat", "/proc/sys/kernel/domainname"]), "harbour.test");
            });
            assert_eq!(inside, "harbour.test\nship\n");
        }
    }
    assert_eq!(own(), before);
    let mut bundle = usual(&["true"], json!({}), json!({ "sysctl": { "kernel/domainname": "x" } }));
    bundle.config["domainname"] = json!("y");
    assert!(failed(&bundle.run()).contains("domainname: \"y\": the sysctl says \"x\""));
    let mut bundle = usual(&["true"], json!({}), json!({ "sysctl": { "kernel.domainname": "x" } }));
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "uts");
    assert!(failed(&bundle.run()).contains("linux.sysctl.kernel.domainname: set without a UTS namespace"));
}

#[test]
fn sysctls_in_both_forms_and_no_others() {
    need_root!("sysctls_in_both_forms_and_no_others");
    let sysctl = json!({
        "net.ipv4.conf.all.forwarding": "1",
        "net/ipv4/conf/lo/forwarding": "1",
        "kernel.shm_rmid_forced": "1",
        "fs/mqueue/msg_max": "7"
    });
    let files =
        ["net/ipv4/conf/all/forwarding", "net/ipv4/conf/lo/forwarding", "kernel/shm_rmid_forced", "fs/mqueue/msg_max"];
    let paths: Vec<String> = files.iter().map(|f| format!("/proc/sys/{f}")).collect();
    let read = || paths.iter().map(|p| std::fs::read_to_string(p).unwrap()).collect::<Vec<_>>();
    let before = read();
    let words: Vec<&str> = ["cat"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let inside = both(&mut usual(&words, json!({}), json!({ "sysctl": sysctl })), |_| {});
    assert_eq!(inside, "1\n1\n1\n7\n");
    assert_eq!(read(), before, "the host's are as they were");
    for key in [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "vm.swappiness",
        "kernel.hostname",
        "user.max_user_namespaces",
        // Exchanged separators, which would lead out of net/.
        "net.//.kernel.core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4.//.//.kernel.core_pattern",
        "net..kernel",
        "net.",
    ] {
        let err = failed(&usual(&["true"], json!({}), json!({ "sysctl": { key: "1" } })).run());
        assert!(err.contains("linux.sysctl") && err.contains(key), "{err}");
    }
    for (namespace, key) in [("network", "net.core.somaxconn"), ("ipc", "kernel.sem"), ("ipc", "fs.mqueue.msg_max")] {
        let mut bundle = usual(&["true"], json!({}), json!({ "sysctl": { key: "1" } }));
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != namespace);
        let err = failed(&bundle.run());
        assert!(err.contains(key) && err.contains(&format!("without a {namespace} namespace")), "{err}");
    }
}

#[test]
fn a_dot_in_the_name_of_a_sysctl() {
    need_root!("a_dot_in_the_name_of_a_sysctl");
    // An interface with a dot in its name, made by a hook in the container's network namespace.
    for key in ["net/ipv4/conf/v.1/forwarding", "net.ipv4.conf.v/1.forwarding"] {
        let mut bundle =
            usual(&["cat", "/proc/sys/net/ipv4/conf/v.1/forwarding"], json!({}), json!({ "sysctl": { key: "1" } }));
        let script =
            "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter -t $pid -n ip link add v.1 type veth peer name w";
        let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
        bundle.config["hooks"] =
            json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": env }] });
        assert_eq!(both(&mut bundle, |_| {}), "1\n", "{key}");
    }
}

#[test]
fn fields_of_windows_are_ignored_or_refused() {
    for (field, value, name) in [
        ("commandLine", json!("dir"), "process.commandLine"),
        ("user", json!({ "uid": 0, "gid": 0, "username": "ann" }), "process.user.username"),
    ] {
        let mut bundle = Bundle::silent(&["true"]).policy("strict");
        bundle.config["process"][field] = value.clone();
        let err = failed(&bundle.run());
        assert!(err.contains(name) && err.contains("Windows") && err.contains("unknownFields"), "{err}");
        if is_root() {
            ok(&with(&["true"], field, value).run());
        } else {
            skip("fields_of_windows_are_ignored_or_refused", "the other half needs root");
        }
    }
}

fn apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with('Y'))
}

#[test]
fn labels_without_their_lsm_are_refused() {
    need_root!("labels_without_their_lsm_are_refused");
    let mut seen = 0;
    for (there, field, label, words) in [
        (apparmor(), "apparmorProfile", "moon", ["process.apparmorProfile: moon", "AppArmor is not in force"]),
        (
            std::path::Path::new("/sys/fs/selinux/enforce").exists(),
            "selinuxLabel",
            "a:b:c:s0",
            ["process.selinuxLabel: a:b:c:s0", "SELinux is not in force"],
        ),
    ] {
        if !there {
            seen += 1;
            let err = failed(&with(&["true"], field, json!(label)).run());
            assert!(words.iter().all(|w| err.contains(w)), "{err}");
        }
    }
    assert!(seen > 0, "a kernel with both in force is none that we know");
    // What the kernel cannot do otherwise is what is asked.
    ok(&with(&["true"], "apparmorProfile", json!("unconfined")).run());
    ok(&usual(&["true"], json!({ "apparmorProfile": "", "selinuxLabel": "" }), json!({})).run());
}

/// A profile of AppArmor's that lets everything but one file be read; unloaded with the value.
struct Profile(String);

impl Profile {
    fn load(name: &str) -> Profile {
        let name = format!("stockade-{name}-{}", std::process::id());
        let profile = Profile(name);
        profile.parser("--replace");
        profile
    }

    fn parser(&self, how: &str) {
        use std::io::Write;
        let text = format!(
            "profile {} flags=(attach_disconnected) {{ file, network, capability, signal, ptrace, unix, deny /etc/passwd r, }}\n",
            self.0
        );
        let mut child = Command::new("apparmor_parser")
            .args([how, "--skip-cache", "--abort-on-error"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parser("--remove");
    }
}

#[test]
fn an_apparmor_profile_confines_init_and_exec() {
    need_root!("an_apparmor_profile_confines_init_and_exec");
    if !apparmor() {
        return skip("an_apparmor_profile_confines_init_and_exec", "AppArmor is not in force on this kernel");
    }
    let profile = Profile::load("confines");
    let enforced = format!("{} (enforce)", profile.0);
    for policy in ["oci", "oci with a user namespace", "strict"] {
        let mut bundle = match policy {
            "strict" => Bundle::silent(&[]).policy("strict"),
            _ => usual(&[], json!({}), json!({})),
        };
        if policy.ends_with("namespace") {
            user_namespace(&mut bundle);
        }
        bundle.config["process"]["args"] = json!(["sleep", "1000"]);
        bundle.config["process"]["apparmorProfile"] = json!(profile.0);
        let out = bundle.create();
        assert!(out.status.success(), "{policy}: {}", text(&out.stderr));
        // It is the workload's, not ours: until the start nothing is changed but for the next execve.
        assert_eq!(proc(&bundle, "attr/apparmor/current").trim(), "unconfined", "{policy}");
        ok(&bundle.verb(&["start", "box"]));
        wait_for("the execve", || proc(&bundle, "attr/apparmor/current").trim() == enforced);
        let script = "cat /proc/self/attr/apparmor/current; cat /etc/passwd || echo denied; cat /etc/group >/dev/null && echo read";
        let inside = text(&bundle.verb(&["exec", "box", "sh", "-c", script]).stdout);
        assert_eq!(inside, format!("{enforced}\ndenied\nread\n"), "{policy}");
        ok(&bundle.delete());
    }
    // The hooks of the container's side run before the label is set.
    let mut bundle = with(&["cat", "/proc/self/attr/apparmor/current"], "apparmorProfile", json!(profile.0));
    let seen = bundle.path().join("seen");
    let script = format!("cat /proc/self/attr/apparmor/current >{}", seen.display());
    bundle.config["hooks"] = json!({ "createContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }] });
    assert_eq!(both(&mut bundle, |_| {}).trim(), enforced);
    assert_eq!(std::fs::read_to_string(seen).unwrap().trim(), "unconfined");
    let out = with(&["cat", "/proc/self/attr/apparmor/current"], "apparmorProfile", json!("unconfined")).run();
    assert_eq!(ok(&out).trim(), "unconfined");
}

#[test]
fn an_apparmor_profile_that_is_not_loaded_is_refused() {
    need_root!("an_apparmor_profile_that_is_not_loaded_is_refused");
    if !apparmor() {
        return skip("an_apparmor_profile_that_is_not_loaded_is_refused", "AppArmor is not in force on this kernel");
    }
    for policy in ["oci", "strict"] {
        let mut bundle = Bundle::usual(&["true"]).policy(policy);
        bundle.config["process"]["apparmorProfile"] = json!("stockade-moon");
        let err = failed(&bundle.run());
        assert!(err.contains("label: AppArmor stockade-moon") && err.contains("(ENOENT)"), "{err}");
        assert!(err.contains("apparmor_parser"), "{err}");
        assert!(!bundle.root().join("box").exists());
    }
}

#[test]
fn exec_cannot_leave_the_profile_of_the_container_under_strict() {
    need_root!("exec_cannot_leave_the_profile_of_the_container_under_strict");
    if !apparmor() {
        return skip(
            "exec_cannot_leave_the_profile_of_the_container_under_strict",
            "AppArmor is not in force on this kernel",
        );
    }
    let (profile, other) = (Profile::load("leave"), Profile::load("other"));
    for (policy, expected) in [("strict", None), ("oci", Some(&other.0))] {
        let mut bundle = Bundle::usual(&["sleep", "1000"]).policy(policy);
        bundle.config["process"]["apparmorProfile"] = json!(profile.0);
        assert!(bundle.create().status.success());
        ok(&bundle.verb(&["start", "box"]));
        let exec = |profile: &str| {
            let mut process = bundle.config["process"].clone();
            process["args"] = json!(["cat", "/proc/self/attr/apparmor/current"]);
            process["apparmorProfile"] = json!(profile);
            let file = bundle.path().join("process.json");
            std::fs::write(&file, process.to_string()).unwrap();
            bundle.verb(&["exec", "--process", file.to_str().unwrap(), "box"])
        };
        match expected {
            None => {
                assert!(failed(&exec(&other.0)).contains("the container is confined by"));
                assert_eq!(ok(&exec("unconfined")).trim(), format!("{} (enforce)", profile.0));
            }
            Some(other) => assert_eq!(ok(&exec(other)).trim(), format!("{other} (enforce)")),
        }
    }
}

/// A network namespace that stands for the host's: nothing of this is done to the real one.
struct Net(std::process::Child);

impl Net {
    fn new() -> Net {
        let child = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
        let net = Net(child);
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        wait_for("the network namespace", || {
            std::fs::read_link(format!("/proc/{}/ns/net", net.0.id())).is_ok_and(|l| l != own)
        });
        net
    }

    fn runner(&self) -> Vec<String> {
        ["nsenter", "-t", &self.0.id().to_string(), "-n"].map(str::to_owned).to_vec()
    }

    fn ip(&self, words: &[&str]) -> String {
        let runner = self.runner();
        let all: Vec<&str> = runner.iter().map(String::as_str).chain(["ip"]).chain(words.iter().copied()).collect();
        host(&all)
    }

    /// A pair: `up0` with addresses, up; its other end is `peer0`.
    fn pair(&self) {
        self.ip(&["link", "add", "up0", "type", "veth", "peer", "name", "peer0"]);
        for address in ["10.9.8.7/24", "10.9.8.6/32"] {
            self.ip(&["address", "add", address, "dev", "up0"]);
        }
        self.ip(&["address", "add", "169.254.7.7/16", "scope", "link", "dev", "up0"]);
        self.ip(&["-6", "address", "add", "fd00::7/64", "nodad", "noprefixroute", "dev", "up0"]);
        self.ip(&["link", "set", "up0", "mtu", "1400", "up"]);
        self.ip(&["link", "set", "peer0", "up"]);
    }

    fn links(&self) -> Vec<String> {
        let text = self.ip(&["-o", "link"]);
        let names = text.lines().map(|l| l.split([':', '@']).nth(1).unwrap().trim().to_owned());
        names.collect()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In the network namespace of `box`.
fn ip_inside(bundle: &Bundle, words: &[&str]) -> String {
    let pid = bundle.pid().to_string();
    host(&[&["nsenter", "-t", &pid, "-n", "ip"], words].concat())
}

#[test]
fn net_devices_move_with_their_addresses() {
    need_root!("net_devices_move_with_their_addresses");
    for (inside, expected, own_user) in
        [(None, "up0", false), (Some("wan0"), "wan0", true), (Some("eth%d"), "eth0", false)]
    {
        let net = Net::new();
        net.pair();
        let device = match inside {
            Some(name) => json!({ "name": name }),
            None => json!({}),
        };
        let mut bundle = usual(&["ip", "address"], json!({}), json!({ "netDevices": { "up0": device } }));
        bundle.runner = net.runner();
        if own_user {
            user_namespace(&mut bundle);
        }
        let said = both(&mut bundle, |b| {
            assert_eq!(net.links(), ["lo", "peer0"]);
            let shown = ip_inside(b, &["-o", "address", "show", "dev", expected]);
            for kept in ["inet 10.9.8.7/24 ", "inet 10.9.8.6/32 ", "inet6 fd00::7/64 scope global", "noprefixroute"] {
                assert!(shown.contains(kept), "{kept} not in {shown}");
            }
            assert!(!shown.contains("169.254.7.7"), "{shown}");
            let link = ip_inside(b, &["-o", "link", "show", "dev", expected]);
            assert!(link.contains("mtu 1400") && link.contains(",UP"), "{link}");
        });
        assert!(said.contains(&format!(": {expected}")) && said.contains("10.9.8.7/24"), "{said}");
    }
}

#[test]
fn a_launch_that_fails_gives_net_devices_back_as_they_were() {
    need_root!("a_launch_that_fails_gives_net_devices_back_as_they_were");
    let moon = json!({ "createRuntime": [{ "path": "/bin/false" }] });
    for (args, hooks, another) in [(["moon"], json!({}), false), (["true"], moon, false), (["true"], json!({}), true)] {
        let net = Net::new();
        net.pair();
        let mut devices = json!({ "up0": { "name": "wan0" } });
        if another {
            // The second of two is not there.
            devices["vp0"] = json!({});
        }
        let mut bundle = usual(&args, json!({}), json!({ "netDevices": devices }));
        bundle.config["hooks"] = hooks;
        bundle.runner = net.runner();
        let before = net.ip(&["-o", "address", "show", "dev", "up0", "scope", "global"]);
        let err = failed(&bundle.run());
        if another {
            assert!(err.contains("net devices: vp0") && err.contains("(ENODEV)"), "{err}");
        }
        assert!(net.links().contains(&"up0".to_owned()), "{:?}", net.links());
        let numbers =
            |text: &str| text.split_whitespace().filter(|w| w.contains('/')).map(str::to_owned).collect::<Vec<_>>();
        let after = net.ip(&["-o", "address", "show", "dev", "up0", "scope", "global"]);
        assert_eq!(numbers(&after), numbers(&before));
        assert!(net.ip(&["-o", "link", "show", "dev", "up0"]).contains(",UP"), "up again");
    }
}

#[test]
fn net_devices_that_cannot_move_are_refused() {
    need_root!("net_devices_that_cannot_move_are_refused");
    let net = Net::new();
    net.pair();
    let run = |devices: Value, namespace: bool| {
        let mut bundle = usual(&["true"], json!({}), json!({ "netDevices": devices }));
        if !namespace {
            bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network");
        }
        bundle.runner = net.runner();
        let err = failed(&bundle.run());
        assert!(!bundle.root().join("box").exists());
        err
    };
    for (devices, namespace, words) in [
        (json!({ "up0": {} }), false, ["linux.netDevices.up0", "without a network namespace"]),
        (json!({ "up0": { "name": "lo" } }), true, ["net devices: up0 as lo", "(EEXIST)"]),
        (json!({ "moon0": {} }), true, ["net devices: moon0", "(ENODEV)"]),
        (json!({ "lo": { "name": "lo2" } }), true, ["net devices: lo as lo2", "(EINVAL)"]),
        (json!({ "up0": { "name": "x" }, "peer0": { "name": "x" } }), true, ["linux.netDevices.up0.name", "second"]),
        (json!({ "up0": { "name": "a/b" } }), true, ["linux.netDevices.up0.name", "a/b"]),
        (json!({ "up0": { "name": "a%s" } }), true, ["linux.netDevices.up0.name", "a%s"]),
        (json!({ "sixteen-letters-": {} }), true, ["linux.netDevices.sixteen-letters-", "not the name"]),
    ] {
        let err = run(devices, namespace);
        assert!(words.iter().all(|w| err.contains(w)), "{err}");
    }
    assert_eq!(net.links(), ["lo", "peer0", "up0"]);
}

#[test]
fn intel_rdt_without_resctrl_or_with_a_wrong_line_is_refused() {
    need_root!("intel_rdt_without_resctrl_or_with_a_wrong_line_is_refused");
    for (rdt, words) in [
        (json!({ "closID": "../x" }), ["linux.intelRdt.closID", "../x"]),
        (json!({ "closID": "mon_groups" }), ["linux.intelRdt.closID", "mon_groups"]),
        (json!({ "memBwSchema": "L3:0=f" }), ["linux.intelRdt.memBwSchema", "MB:"]),
        (json!({ "schemata": ["L3:0=f\nL3:1=f"] }), ["linux.intelRdt.schemata", "L3:0=f"]),
    ] {
        let err = failed(&usual(&["true"], json!({}), json!({ "intelRdt": rdt })).run());
        assert!(words.iter().all(|w| err.contains(w)), "{err}");
    }
    if std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ") {
        return skip("intel_rdt_without_resctrl_or_with_a_wrong_line_is_refused", "this machine has resctrl");
    }
    for rdt in [json!({}), json!({ "closID": "gold", "enableCMT": true })] {
        let bundle = usual(&["true"], json!({}), json!({ "intelRdt": rdt }));
        let err = failed(&bundle.run());
        assert!(err.contains("linux.intelRdt: no resctrl file system") && err.contains("mount -t resctrl"), "{err}");
        assert!(!bundle.root().join("box").exists());
    }
}

#[test]
fn a_user_can_open_the_pipes_that_are_its_streams() {
    need_root!("a_user_can_open_the_pipes_that_are_its_streams");
    let script = "echo out >/dev/stdout; echo err >/dev/stderr";
    let user = json!({ "uid": 1000, "gid": 1000 });
    let said = |out: &std::process::Output| (text(&out.stdout), text(&out.stderr));
    let both = ("out\n".to_owned(), "err\n".to_owned());

    let bundle = with(&["sh", "-c", script], "user", user.clone());
    bundle.write();
    assert_eq!(said(&bundle.verb(&["run", "box"])), both);

    // In a user namespace they belong to nobody until then, but for those of whom it maps.
    let mut mapped = with(&["sh", "-c", script], "user", user);
    let line = json!([{ "containerID": 0, "hostID": 0, "size": 65_536 }]);
    mapped.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    mapped.config["linux"]["uidMappings"] = line.clone();
    mapped.config["linux"]["gidMappings"] = line;
    mapped.write();
    assert_eq!(said(&mapped.verb(&["run", "box"])), both);

    // By number and by name.
    let bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    let out = bundle.create();
    assert!(out.status.success(), "{}", text(&out.stderr));
    ok(&bundle.verb(&["start", "box"]));
    for who in ["1000", "user"] {
        assert_eq!(said(&bundle.verb(&["exec", "--user", who, "box", "sh", "-c", script])), both, "{who}");
    }
    ok(&bundle.verb(&["delete", "--force", "box"]));
}

#[test]
fn what_outlives_a_container_keeps_its_owner() {
    use std::os::unix::fs::MetadataExt;
    need_root!("what_outlives_a_container_keeps_its_owner");
    let bundle = with(&["sh", "-c", "echo out; echo err >&2"], "user", json!({ "uid": 1000, "gid": 1000 }));
    bundle.write();
    let (file, fifo) = (bundle.path().join("file"), bundle.path().join("fifo"));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let both_ends = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let mut command = bundle.command(&["run", "box"]);
    command.stdout(std::fs::File::create(&file).unwrap()).stderr(both_ends.try_clone().unwrap());
    assert!(command.status().unwrap().success());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "out\n");
    for path in [&file, &fifo] {
        assert_eq!(std::fs::metadata(path).unwrap().uid(), 0, "{}", path.display());
    }
}
