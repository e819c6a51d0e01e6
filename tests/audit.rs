//! `stockade audit`: every row has a config that makes it fail and one that does not, `--fix` mends what can be mended,
//! and a container that runs is judged by what it got.
//!
//! The rows on a config are values in, values out, and need no root; `UPDATE_GOLDEN=1 cargo test --test audit` writes the
//! reports of the clean and of the terrible config anew.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Bundle, controllers, is_root, ok, skip, text, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};
use stockade::audit::rows::ROWS;
use stockade::audit::{Facts, Finding, Fix, Report, Severity, Status, Walk, config, fix, ruler};
use stockade::bundle;
use stockade::observe::rootfs;
use stockade::policy::Policy;

/// Rows that no config decides.
const UNDECIDED: [&str; 14] = [
    "CIS-5.1", "CIS-5.8", "CIS-5.9", "CIS-5.14", "CIS-5.15", "CIS-5.23", "CIS-5.24", "CIS-5.27", "CIS-5.28",
    "CIS-5.30", "ST-10", "ST-16", "ST-18", "X-8",
];

/// A machine with both kinds of labels, and a rootfs that was looked through.
fn facts() -> Facts {
    Facts { apparmor: true, selinux: true, walk: Some(Walk { entries: 7, ..Walk::default() }), ..Facts::default() }
}

fn judge_with(config: &Value, facts: &Facts, policy: &str) -> Vec<Finding> {
    let ruler = ruler::ruler(&Policy::load(policy).unwrap()).unwrap();
    let read = bundle::parse(config.to_string().as_bytes()).map(|(_, unknown)| unknown);
    config::judge(&config::Subject::new(config, &read, Path::new("/bundle"), facts, &ruler))
}

fn judge(config: &Value) -> Vec<Finding> {
    judge_with(config, &facts(), "strict")
}

fn find<'a>(findings: &'a [Finding], id: &str) -> &'a Finding {
    findings.iter().find(|f| f.id == id).unwrap_or_else(|| panic!("no row {id}"))
}

/// A config in which nothing fails.
fn clean() -> Value {
    let silent = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 1000, "gid": 1000 }, "args": ["true"], "env": ["PATH=/bin"], "cwd": "/",
            "apparmorProfile": "stockade", "selinuxLabel": "system_u:system_r:container_t:s0:c1,c2"
        },
        "root": { "path": "rootfs" }
    });
    let fixed = fix::harden(&silent, judge);
    assert!(fixed.findings.iter().all(|f| f.status != Status::Fail), "{:#?}", failing(&fixed.findings));
    fixed.config
}

/// A config in which every row fails that can fail beside the others.
fn terrible() -> Value {
    let all: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    let mut sorted = all;
    sorted.sort();
    let bind = |at: &str, source: &str, options: Value| json!({ "destination": at, "type": "none", "source": source, "options": options });
    json!({
        "ociVersion": "1.0.2",
        "moon": 1,
        "hostname": "a\nb",
        "process": {
            "user": { "uid": 0, "gid": 4294967295u32 },
            "args": ["/usr/sbin/sshd", "-D"],
            "env": ["PATH=/bin", "DB_PASSWORD=hunter2-do-not-show", "KEY=-----BEGIN RSA PRIVATE KEY-----do-not-show"],
            "cwd": "/",
            "apparmorProfile": "unconfined",
            "capabilities": { "bounding": sorted, "effective": sorted, "permitted": sorted, "inheritable": sorted },
            "oomScoreAdj": -500,
            "scheduler": { "policy": "SCHED_FIFO", "priority": 50 },
            "ioPriority": { "class": "IOPRIO_CLASS_RT", "priority": 0 }
        },
        "root": { "path": "rootfs" },
        "mounts": [
            bind("/etc/host", "/etc", json!(["bind"])),
            bind("/run/docker.sock", "/var/run/docker.sock", json!(["bind"])),
            bind("/dev", "/dev", json!(["rbind", "rshared"])),
            bind("/data", "/srv/data", json!(["rbind", "ro"])),
            bind("/more", "/srv/more", json!(["bind", "suid", "dev", "idmap"])),
            { "destination": "/host/proc", "type": "proc", "source": "proc" },
            { "destination": "/net", "type": "nfs", "source": "server:/x" },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm" }
        ],
        "hooks": { "prestart": [{ "path": "/usr/bin/hook" }] },
        "annotations": { "org.systemd.property.ExecStartPre": "x", "run.oci.hooks.stdout": "/x" },
        "linux": {
            "namespaces": [{ "type": "time", "path": "/proc/1/ns/time" }],
            "cgroupsPath": "/../../x",
            "sysctl": { "kernel.core_pattern": "|/x", "net.ipv4.ip_forward": "1" },
            "devices": [{ "path": "/dev/sda", "type": "b", "major": 8, "minor": 0 }],
            "resources": { "devices": [{ "allow": true, "access": "rwm" }], "memory": { "limit": -1 } },
            "netDevices": { "eth0": {} },
            "seccomp": { "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"] }
        }
    })
}

fn terrible_facts() -> Facts {
    Facts {
        open_hooks: vec![("/hooks/prestart/0".into(), "others can write to /usr/bin/hook".into())],
        walk: Some(Walk {
            entries: 7,
            setuid: vec!["/bin/su".into()],
            capable: vec!["/bin/ping".into()],
            ..Walk::default()
        }),
        ..facts()
    }
}

fn failing(findings: &[Finding]) -> Vec<String> {
    findings.iter().filter(|f| f.status == Status::Fail).map(|f| format!("{}: {}", f.id, f.seen)).collect()
}

#[test]
fn the_rows_are_those_of_the_checklists_each_once() {
    let ids: Vec<&str> = ROWS.iter().map(|r| r.id).collect();
    let mut expected: Vec<String> = (1..=32).map(|n| format!("CIS-5.{n}")).collect();
    expected.extend((1..=19).map(|n| format!("ST-{n}")));
    expected.extend((1..=26).map(|n| format!("X-{n}")));
    assert_eq!(ids, expected);
}

#[test]
fn in_a_clean_config_nothing_fails_and_what_nobody_can_tell_never_passes() {
    let findings = judge(&clean());
    assert_eq!(findings.len(), ROWS.len());
    for f in &findings {
        let undecided = UNDECIDED.contains(&f.id);
        let expected = if undecided { Status::Info } else { Status::Pass };
        assert_eq!(f.status, expected, "{}: {}", f.id, f.seen);
    }
    // The same with everything that a machine may have: what is a registry's or a daemon's matter stays INFO.
    let more = Facts { cgroup_v1: vec!["memory".into()], ..facts() };
    assert_eq!(find(&judge_with(&clean(), &more, "strict"), "X-8").status, Status::Warn);
}

#[test]
fn in_a_terrible_config_every_row_fails_that_is_decided() {
    let findings = judge_with(&terrible(), &terrible_facts(), "strict");
    // A config that is not well-formed has no list of unknown fields.
    let undecided: BTreeSet<&str> = UNDECIDED.into_iter().chain(["X-13"]).collect();
    let other: Vec<String> = findings
        .iter()
        .filter(|f| (f.status == Status::Fail) == undecided.contains(f.id))
        .map(|f| format!("{} {:?}: {}", f.id, f.status, f.seen))
        .collect();
    assert!(other.is_empty(), "{other:#?}");
    // Measured by a policy without ceilings it is no better.
    let by_oci = judge_with(&terrible(), &terrible_facts(), "oci");
    assert_eq!(failing(&by_oci).len(), failing(&findings).len());
}

/// A change of the clean config, as fixes: (pointer, value; null removes).
type Change = Vec<(&'static str, Value)>;

/// For each decided row one change that makes it fail.
fn spoilers() -> Vec<(&'static str, Change)> {
    let gone = |p: &'static str| vec![(p, Value::Null)];
    let mount = |m: Value| vec![("/mounts/-", m)];
    let bind = |source: &str, options: &[&str]| json!({ "destination": "/data", "type": "none", "source": source, "options": options });
    let without = |kind: &str| {
        let kinds = ["network", "pid", "ipc", "uts", "user", "cgroup", "time", "mount"];
        let list: Vec<Value> = kinds.iter().filter(|k| **k != kind).map(|k| json!({ "type": k })).collect();
        vec![("/linux/namespaces", json!(list))]
    };
    let all: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    let privileged = || {
        let mut change = vec![("/process/capabilities/bounding", json!(all))];
        change.extend([("/linux/seccomp", Value::Null), ("/linux/maskedPaths", Value::Null)]);
        change
    };
    let profile =
        |names: &[&str]| vec![("/linux/seccomp/syscalls", json!([{ "names": names, "action": "SCMP_ACT_ALLOW" }]))];
    let allow = || vec![("/linux/seccomp/defaultAction", json!("SCMP_ACT_ALLOW"))];
    vec![
        ("CIS-5.2", gone("/process/apparmorProfile")),
        ("CIS-5.2", vec![("/process/apparmorProfile", json!("unconfined"))]),
        ("CIS-5.3", gone("/process/selinuxLabel")),
        ("CIS-5.4", gone("/process/capabilities")),
        ("CIS-5.4", vec![("/process/capabilities/ambient", json!(["CAP_NET_RAW"]))]),
        ("CIS-5.4", vec![("/process/capabilities/inheritable", json!(["CAP_KILL"]))]),
        ("CIS-5.5", privileged()),
        ("CIS-5.6", mount(bind("/etc", &["bind", "ro"]))),
        ("CIS-5.6", mount(bind("/var", &["bind"]))),
        ("CIS-5.6", mount(bind("/bundle/../usr", &["bind"]))),
        ("CIS-5.7", vec![("/process/args", json!(["/usr/sbin/sshd"]))]),
        ("CIS-5.10", without("network")),
        ("CIS-5.10", vec![("/linux/namespaces/0/path", json!("/proc/1/ns/net"))]),
        ("CIS-5.11", gone("/linux/resources/memory")),
        ("CIS-5.11", vec![("/linux/resources/memory/limit", json!(-1))]),
        ("CIS-5.11", vec![("/linux/resources/memory/limit", json!("much"))]),
        ("CIS-5.12", gone("/linux/resources/cpu")),
        ("CIS-5.13", vec![("/root/readonly", json!(false))]),
        ("CIS-5.16", without("pid")),
        ("CIS-5.17", without("ipc")),
        (
            "CIS-5.18",
            vec![(
                "/linux/resources/devices",
                json!([{ "allow": true, "type": "c", "major": 10, "minor": 200, "access": "rwm" }]),
            )],
        ),
        (
            "CIS-5.18",
            vec![("/linux/devices", json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 }]))],
        ),
        ("CIS-5.18", mount(bind("/dev/sda", &["bind"]))),
        ("CIS-5.19", gone("/process/rlimits")),
        ("CIS-5.19", vec![("/process/rlimits/0", json!({ "type": "RLIMIT_CORE", "soft": 0, "hard": 1 }))]),
        ("CIS-5.20", vec![("/linux/rootfsPropagation", json!("rshared"))]),
        ("CIS-5.20", mount(bind("/srv", &["bind", "rslave"]))),
        ("CIS-5.21", without("uts")),
        ("CIS-5.22", gone("/linux/seccomp")),
        ("CIS-5.22", vec![("/linux/seccomp/defaultAction", json!("SCMP_ACT_LOG"))]),
        ("CIS-5.22", vec![("/linux/seccomp", json!(7))]),
        ("CIS-5.25", vec![("/linux/cgroupsPath", json!("../x"))]),
        ("CIS-5.25", vec![("/linux/cgroupsPath", json!("//"))]),
        ("CIS-5.25", vec![("/linux/cgroupsPath", json!("/system.slice"))]),
        ("CIS-5.26", vec![("/process/noNewPrivileges", json!(false))]),
        ("CIS-5.29", gone("/linux/resources/pids")),
        ("CIS-5.31", without("user")),
        ("CIS-5.31", vec![("/linux/uidMappings", json!([{ "containerID": 0, "hostID": 0, "size": 1 }]))]),
        ("CIS-5.32", mount(bind("/run", &["bind", "ro"]))),
        ("ST-1", gone("/linux/resources/cpu")),
        ("ST-2", gone("/process/capabilities")),
        ("ST-3", privileged()),
        ("ST-4", without("user")),
        ("ST-5", gone("/root/readonly")),
        ("ST-6", {
            let mut change = without("user");
            change.push(("/process/user/uid", json!(0)));
            change
        }),
        ("ST-7", mount(bind("/var/run/docker.sock", &["bind"]))),
        ("ST-8", mount(bind("/srv", &["rbind", "ro"]))),
        ("ST-9", vec![("/process/args", json!(["sshd"]))]),
        ("ST-11", gone("/linux/seccomp")),
        ("ST-11", gone("/process/selinuxLabel")),
        ("ST-12", without("ipc")),
        ("ST-13", mount(bind("/srv", &["rbind", "shared"]))),
        ("ST-14", vec![("/process/env/-", json!("API_KEY=x"))]),
        ("ST-17", gone("/linux/seccomp/flags")),
        ("ST-19", allow()),
        ("ST-19", vec![("/linux/seccomp/syscalls/0/name", json!("mount"))]),
        ("X-1", without("cgroup")),
        ("X-2", without("time")),
        ("X-3", gone("/linux/readonlyPaths")),
        ("X-3", vec![("/linux/maskedPaths", json!(["/proc/kcore"]))]),
        ("X-4", vec![("/linux/seccomp/architectures", json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]))]),
        ("X-5", profile(&["socket"])),
        ("X-5", {
            let mut change = profile(&["socketcall"]);
            change.push(("/linux/seccomp/architectures", json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])));
            change
        }),
        ("X-6", vec![("/hooks", json!({ "poststop": [{ "path": "/bin/x" }] }))]),
        ("X-7", vec![("/annotations", json!({ "run.oci.handler": "krun" }))]),
        ("X-7", vec![("/annotations", json!({ "org.systemd.property.ExecStop": "x" }))]),
        ("X-9", vec![("/process/oomScoreAdj", json!(-1))]),
        ("X-10", vec![("/linux/sysctl", json!({ "kernel.panic": "1" }))]),
        ("X-10", {
            let mut change = without("network");
            change.push(("/linux/sysctl", json!({ "net/ipv4/ip_forward": "1" })));
            change
        }),
        ("X-11", vec![("/process/user/uid", json!(2_147_483_648u32))]),
        ("X-11", vec![("/process/user/additionalGids", json!([-1]))]),
        ("X-12", vec![("/hostname", json!("a\0b"))]),
        ("X-12", vec![("/process/env/-", json!("HOME=/\nroot::0:0"))]),
        ("X-13", vec![("/linux/stars", json!(1))]),
        ("X-13", vec![("/process/capabilities/bounding", json!(["CAP_MOON"]))]),
        ("X-14", gone("/mounts")),
        ("X-14", mount(json!({ "destination": "/dev/../dev", "type": "bind", "source": "/dev" }))),
        ("X-15", gone("/mounts")),
        ("X-15", mount(json!({ "destination": "/proc", "type": "bind", "source": "/srv/proc" }))),
        ("X-16", vec![("/process/cwd", json!("relative"))]),
        ("X-16", vec![("/process/args", json!([]))]),
        ("X-17", vec![("/linux/namespaces/0/path", json!("/run/netns/x"))]),
        ("X-18", mount(json!({ "destination": "/n", "type": "nfs", "source": "x:/" }))),
        ("X-19", mount(bind("/srv", &["bind", "ridmap"]))),
        ("X-20", mount(json!({ "destination": "/p", "type": "proc", "source": "proc" }))),
        ("X-20", mount(bind("/proc/sys", &["bind"]))),
        ("X-21", vec![("/process/scheduler", json!({ "policy": "SCHED_OTHER", "nice": -5 }))]),
        ("X-21", vec![("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_RT", "priority": 0 }))]),
        ("X-22", vec![("/linux/netDevices", json!({ "eth0": {} }))]),
        ("X-22", vec![("/linux/intelRdt", json!({ "closID": "x" }))]),
        ("X-23", mount(json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm" }))),
        ("X-24", profile(&["unshare"])),
        ("X-24", profile(&["io_uring_setup"])),
        ("X-25", mount(bind("/srv", &["bind", "dev"]))),
        ("X-26", without("mount")),
    ]
}

#[test]
fn each_row_fails_for_the_one_thing_that_it_is_about_and_its_fix_mends_it() {
    let clean = clean();
    let mut met = BTreeSet::new();
    for (id, change) in spoilers() {
        let mut spoilt = clean.clone();
        let fixes = change
            .iter()
            .map(|(p, v)| Fix { pointer: (*p).to_owned(), value: Some(v.clone()).filter(|v| !v.is_null()) });
        fix::apply(&mut spoilt, fixes.collect());
        let findings = judge(&spoilt);
        let finding = find(&findings, id);
        assert_eq!(finding.status, Status::Fail, "{id} {change:?}: {}", finding.seen);
        met.insert(id);
        if !finding.fixes.is_empty() {
            let fixed = fix::harden(&spoilt, judge);
            let after = find(&fixed.findings, id);
            // A profile must be loaded on the host before a config can name it.
            let of_host =
                id == "CIS-5.2" && after.fixes.is_empty() && fixed.config["process"]["apparmorProfile"].is_null();
            assert!(after.status != Status::Fail || of_host, "{id} {change:?} is not mended: {:?}", fixed.changed);
            // It is done: doing it again changes nothing.
            assert_eq!(fix::harden(&fixed.config, judge).changed, Vec::<String>::new(), "{id}");
        }
    }
    // A walk is a fact of its own.
    let raised = Walk { setuid: vec!["/bin/su".into()], ..Walk::default() };
    let mut loose = clean.clone();
    loose["process"]["noNewPrivileges"] = false.into();
    let with = |walk| Facts { walk: Some(walk), ..facts() };
    assert_eq!(find(&judge_with(&loose, &with(raised.clone()), "strict"), "ST-15").status, Status::Fail);
    assert_eq!(find(&judge_with(&clean, &with(raised), "strict"), "ST-15").status, Status::Warn);
    let cut = Walk { cut: Some("the end".into()), ..Walk::default() };
    assert_eq!(find(&judge_with(&clean, &with(cut), "strict"), "ST-15").status, Status::Info);
    met.insert("ST-15");
    let all: BTreeSet<&str> = ROWS.iter().map(|r| r.id).filter(|id| !UNDECIDED.contains(id)).collect();
    assert_eq!(met, all);
}

/// Every place in a config.
fn places(value: &Value, pointer: &str, all: &mut Vec<String>) {
    let each: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.replace('~', "~0").replace('/', "~1"), v)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in each {
        let pointer = format!("{pointer}/{name}");
        all.push(pointer.clone());
        // Of 400 names of system calls one is like the other.
        if !pointer.starts_with("/linux/seccomp/syscalls/1") {
            places(value, &pointer, all);
        }
    }
}

#[test]
fn nothing_in_the_place_of_a_field_is_too_strange_to_be_audited() {
    let strange = [json!(null), json!(-1), json!(1e300), json!("\u{0}"), json!([[]]), json!({ "-": {} })];
    for base in [clean(), terrible()] {
        let mut all = Vec::new();
        places(&base, "", &mut all);
        all.retain(|p| !p.contains("/names/") && !p.contains("/capabilities/"));
        assert!(all.len() > 40);
        // Each third place gets one; the two configs have most places in common, and not by the same number.
        for (n, pointer) in all.iter().step_by(3).enumerate() {
            let mut config = base.clone();
            *config.pointer_mut(pointer).unwrap() = strange[n % strange.len()].clone();
            let before = failing(&judge(&config)).len();
            let fixed = fix::harden(&config, judge);
            let after = failing(&fixed.findings);
            assert!(after.len() <= before, "{pointer}: {after:#?}");
            assert_eq!(fix::harden(&fixed.config, judge).config, fixed.config, "{pointer}");
        }
    }
}

#[test]
fn severities_follow_what_was_found() {
    let severity = |pointer: &str, value: Value, id: &str| {
        let mut config = clean();
        fix::apply(&mut config, vec![Fix { pointer: pointer.into(), value: Some(value) }]);
        find(&judge(&config), id).severity
    };
    let bind = |o: &[&str]| json!({ "destination": "/d", "type": "none", "source": "/etc", "options": o });
    assert_eq!(severity("/mounts/-", bind(&["bind", "ro"]), "CIS-5.6"), Severity::Medium);
    assert_eq!(severity("/mounts/-", bind(&["bind"]), "CIS-5.6"), Severity::High);
    let caps = "/process/capabilities/bounding";
    assert_eq!(severity(caps, json!(["CAP_MKNOD"]), "CIS-5.4"), Severity::Medium);
    assert_eq!(severity(caps, json!(["CAP_SYS_ADMIN"]), "CIS-5.4"), Severity::Critical);
    assert_eq!(severity("/linux/rootfsPropagation", json!("rslave"), "CIS-5.20"), Severity::Medium);
    assert_eq!(severity("/linux/rootfsPropagation", json!("rshared"), "CIS-5.20"), Severity::High);
}

#[test]
fn an_operators_policy_is_another_measure() {
    let dir = common::scratch();
    let path = dir.path().join("p.json");
    std::fs::write(
        &path,
        r#"{"extends":"strict","capabilities":{"ceiling":["NET_RAW"]},"hostPaths":{"allowed":["/etc"]},"limits":{"pids":7}}"#,
    )
    .unwrap();
    let policy = path.display().to_string();
    let mut config = clean();
    config["process"]["capabilities"]["bounding"] = json!(["CAP_NET_RAW"]);
    config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "destination": "/e", "type": "bind", "source": "/etc", "options": ["ro"] }));
    config["linux"]["resources"]["pids"] = Value::Null;
    let strict = judge(&config);
    let ours = judge_with(&config, &facts(), &policy);
    for id in ["CIS-5.4", "CIS-5.6"] {
        assert_eq!((find(&strict, id).status, find(&ours, id).status), (Status::Fail, Status::Pass), "{id}");
    }
    assert_eq!(find(&ours, "CIS-5.29").fixes[0].value, Some(json!(7)));
    config["process"]["capabilities"]["bounding"] = json!(["CAP_KILL"]);
    assert_eq!(find(&judge_with(&config, &facts(), &policy), "CIS-5.4").status, Status::Fail);
}

#[test]
fn reports_are_as_written() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/audit");
    if !cfg!(target_arch = "x86_64") {
        return skip("reports_are_as_written", "system calls in the texts are those of x86_64");
    }
    for (name, config, facts) in [("clean", clean(), facts()), ("terrible", terrible(), terrible_facts())] {
        let findings = judge_with(&config, &facts, "strict");
        let report = Report { target: "bundle".into(), policy: "strict".into(), findings };
        let source = serde_json::to_string_pretty(&config).unwrap();
        let sarif = report.sarif(Some(("bundle/config.json", &source)));
        let version = sarif["runs"][0]["tool"]["driver"]["version"].as_str().unwrap().to_owned();
        let pretty = |v: &Value| serde_json::to_string_pretty(v).unwrap() + "\n";
        for (ending, now) in [
            ("txt", report.table()),
            ("json", pretty(&report.json())),
            ("sarif", pretty(&sarif).replace(&format!("\"version\": \"{version}\""), "\"version\": \"V\"")),
        ] {
            // A secret is in no form of a report, nor in what is mended.
            assert!(!now.contains("hunter2") && !now.contains("do-not-show"), "{name}.{ending}");
            let path = dir.join(format!("{name}.{ending}"));
            if update {
                std::fs::write(&path, &now).unwrap();
            }
            let golden = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(now == golden, "{} is not as written: UPDATE_GOLDEN=1, and read the difference", path.display());
        }
        let fixed = fix::harden(&config, |c| judge_with(c, &facts, "strict"));
        let said = fixed.changed.join("\n") + &fixed.config.to_string();
        assert!(!said.contains("hunter2") && !said.contains("do-not-show"));
    }
}

#[test]
fn sarif_has_what_its_schema_requires() {
    let findings = judge_with(&terrible(), &terrible_facts(), "strict");
    let report = Report { target: "bundle".into(), policy: "strict".into(), findings };
    let source = serde_json::to_string_pretty(&terrible()).unwrap();
    let sarif = report.sarif(Some(("a bundle/config.json", &source)));
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!((rules.len(), results.len()), (ROWS.len(), ROWS.len()));
    for rule in rules {
        assert!(rule["helpUri"].as_str().unwrap().starts_with("https://"));
        let score: f64 = rule["properties"]["security-severity"].as_str().unwrap().parse().unwrap();
        assert!((0.0..=10.0).contains(&score));
        assert!(
            ["none", "note", "warning", "error"].contains(&rule["defaultConfiguration"]["level"].as_str().unwrap())
        );
    }
    for result in results {
        let index = result["ruleIndex"].as_u64().unwrap() as usize;
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let kind = result["kind"].as_str().unwrap();
        assert!(["fail", "review", "informational", "pass"].contains(&kind));
        // 3.27.10: what is no failure has the level "none".
        assert!(kind == "fail" || result["level"] == "none", "{result}");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "a%20bundle/config.json");
        assert!(place["region"]["startLine"].as_u64().unwrap() >= 1);
    }
    // The line is that of the field.
    let result = results.iter().find(|r| r["ruleId"] == "X-9").unwrap();
    let line = result["locations"][0]["physicalLocation"]["region"]["startLine"].as_u64().unwrap() as usize;
    assert!(source.lines().nth(line - 1).unwrap().contains("oomScoreAdj"), "{line}");
}

#[test]
fn the_document_is_the_table_of_the_code() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/audit.md");
    let text = std::fs::read_to_string(path).unwrap();
    let clean = judge(&clean());
    for row in ROWS {
        let anchor: String = row.id.to_lowercase().replace('.', "");
        let decided = if find(&clean, row.id).status == Status::Info { "INFO" } else { "yes" };
        let line =
            format!("| <a id=\"{anchor}\"></a>{} | {} | {} | {decided} |", row.id, row.title, row.severity.word());
        assert!(text.contains(&line), "not in docs/audit.md: {line}");
        assert!(row.help().ends_with(&format!("#{anchor}")));
    }
    assert_eq!(text.lines().filter(|l| l.starts_with("| <a ")).count(), ROWS.len());
}

fn audit(bundle: &Bundle, args: &[&str]) -> Output {
    bundle.write();
    let dir = bundle.path().display().to_string();
    let mut all = vec!["audit"];
    all.extend(args);
    all.push(&dir);
    bundle.verb(&all)
}

fn statuses(out: &Output) -> Value {
    let report: Value =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}{}", text(&out.stdout), text(&out.stderr)));
    report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["id"].as_str().unwrap().to_owned(), f["status"].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn the_status_says_whether_something_fails_at_the_threshold() {
    let mut bundle = Bundle::silent(&["true"]);
    assert_eq!(audit(&bundle, &[]).status.code(), Some(2));
    let fixed = audit(&bundle, &["--fix"]);
    // What the machine lacks (a label) no config mends by itself.
    bundle.config = serde_json::from_slice(&fixed.stdout).unwrap();
    bundle.config["process"]["apparmorProfile"] = "stockade".into();
    assert_eq!(audit(&bundle, &[]).status.code(), Some(0), "{}", text(&audit(&bundle, &[]).stdout));
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "cgroup");
    assert_eq!(audit(&bundle, &[]).status.code(), Some(0));
    assert_eq!(audit(&bundle, &["--threshold", "medium"]).status.code(), Some(2));
    assert_eq!(audit(&bundle, &["--threshold", "critical"]).status.code(), Some(0));
    // What cannot be audited is an error, and none of the two.
    for (target, word) in [("no-such-container", "no container"), ("/no/such/dir", "no such file")] {
        let out = bundle.verb(&["audit", target]);
        assert_eq!(out.status.code(), Some(1));
        assert!(common::failed(&out).contains(word));
    }
    std::fs::write(bundle.path().join("config.json"), "[]").unwrap();
    let dir = bundle.path().display().to_string();
    assert_eq!(bundle.verb(&["audit", &dir]).status.code(), Some(1));
}

#[test]
fn a_config_that_no_launch_would_take_is_audited() {
    let mut bundle = Bundle::silent(&["true"]);
    bundle.config["process"]["user"]["uid"] = 4_294_967_295u32.into();
    bundle.config["process"]["env"] = json!(["hunter2-is-no-pair"]);
    bundle.config["mounts"] = json!("none");
    let out = audit(&bundle, &["--format", "json"]);
    let rows = statuses(&out);
    assert_eq!((&rows["X-11"], &rows["X-16"]), (&json!("FAIL"), &json!("FAIL")));
    bundle.config["mounts"] = json!([]);
    bundle.config["process"]["user"]["uid"] = 0.into();
    let out = audit(&bundle, &["--format", "json"]);
    assert_eq!(statuses(&out)["X-16"], "FAIL");
    assert!(!text(&out.stdout).contains("hunter2"), "an error must not show what may be a secret");
}

#[test]
fn a_mended_bundle_runs() {
    let mut bundle = Bundle::shell("id -u; echo ran");
    let out = audit(&bundle, &["--fix"]);
    let said = text(&out.stderr);
    assert!(said.contains("changed: CIS-5.22: /linux/seccomp = "), "{said}");
    bundle.config = serde_json::from_slice(&out.stdout).unwrap();
    if !controllers(&["memory", "pids", "cpu"]) || !is_root() {
        // Limits without a controller are refused, and that is another test's matter.
        bundle.config["linux"].as_object_mut().unwrap().remove("resources");
    }
    assert_eq!(ok(&bundle.run()), "0\nran\n");
    if is_root() {
        assert_eq!(ok(&bundle.policy("oci").run()), "0\nran\n");
    }
}

#[test]
fn a_rootfs_is_looked_through_without_leaving_it() {
    let bundle = Bundle::silent(&["true"]);
    let rootfs = bundle.rootfs();
    let outside = common::scratch();
    let setuid = |path: &Path, mode: u32| {
        std::fs::write(path, "x").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    setuid(&rootfs.join("bin/up"), 0o4755);
    setuid(&rootfs.join("bin/group"), 0o2755);
    setuid(&rootfs.join("bin/locking"), 0o2744);
    setuid(&outside.path().join("beyond"), 0o4755);
    std::os::unix::fs::symlink(outside.path(), rootfs.join("out")).unwrap();
    std::os::unix::fs::symlink("..", rootfs.join("loop")).unwrap();
    nix::unistd::mkfifo(&rootfs.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o777)).unwrap();
    let walk = rootfs::walk(&rootfs, true, rootfs::BOUND).unwrap();
    assert_eq!(walk.setuid, ["/bin/group", "/bin/up"]);
    assert_eq!(walk.cut, None);
    assert!(walk.tools.contains(&"/bin/busybox".to_owned()), "{:?}", walk.tools);
    // One that is no directory, or a link to one, is not entered at all.
    assert!(rootfs::walk(&rootfs.join("out"), false, rootfs::BOUND).is_err());
    assert!(rootfs::walk(&rootfs.join("fifo"), false, rootfs::BOUND).is_err());
}

#[test]
fn file_capabilities_are_seen() {
    let bundle = Bundle::silent(&["true"]);
    let file = bundle.rootfs().join("bin/capable");
    std::fs::write(&file, "x").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    // VFS_CAP_REVISION_2 with CAP_NET_RAW, effective.
    let value = "0x0100000200200000000000000000000000000000";
    let done =
        std::process::Command::new("setfattr").args(["-n", "security.capability", "-v", value]).arg(&file).output();
    if !done.is_ok_and(|o| o.status.success()) {
        return skip("file_capabilities_are_seen", "needs root and setfattr");
    }
    assert_eq!(rootfs::walk(&bundle.rootfs(), false, rootfs::BOUND).unwrap().capable, ["/bin/capable"]);
}

#[test]
fn a_walk_ends_at_its_bound() {
    let dir = common::scratch();
    let mut deep = dir.path().to_owned();
    for _ in 0..200 {
        deep.push("d");
    }
    std::fs::create_dir_all(&deep).unwrap();
    for i in 0..500 {
        std::fs::write(dir.path().join(format!("f{i}")), "").unwrap();
    }
    let walk = rootfs::walk(dir.path(), false, rootfs::BOUND).unwrap();
    assert!(walk.cut.unwrap().contains("128 levels"));
    let few = rootfs::Bound { entries: 100, ..rootfs::BOUND };
    let walk = rootfs::walk(dir.path(), false, few).unwrap();
    assert_eq!(walk.entries, 100);
    assert!(walk.cut.unwrap().contains("100 entries"));
    let began = Instant::now();
    let short = rootfs::Bound { time: Duration::ZERO, ..rootfs::BOUND };
    assert!(rootfs::walk(dir.path(), false, short).unwrap().cut.is_some());
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// Starts it and gives the report of `box`.
fn live(bundle: &Bundle) -> Value {
    ok(&bundle.create());
    ok(&bundle.verb(&["start", "box"]));
    wait_for("the workload", || bundle.state()["status"] == "running");
    let out = bundle.verb(&["audit", "--format", "json", "box"]);
    assert!(out.stderr.is_empty(), "{}", text(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn row<'a>(report: &'a Value, id: &str) -> &'a Value {
    report["findings"].as_array().unwrap().iter().find(|f| f["id"] == id).unwrap()
}

#[test]
fn a_strict_container_passes_where_the_kernel_can_tell() {
    if !is_root() {
        return skip("a_strict_container_passes_where_the_kernel_can_tell", "needs root");
    }
    let bundle = Bundle::shell("exec sleep 1000");
    let report = live(&bundle);
    for id in [
        "CIS-5.4", "CIS-5.5", "CIS-5.6", "CIS-5.7", "CIS-5.10", "CIS-5.13", "CIS-5.16", "CIS-5.17", "CIS-5.20",
        "CIS-5.21", "CIS-5.22", "CIS-5.23", "CIS-5.24", "CIS-5.25", "CIS-5.26", "CIS-5.31", "CIS-5.32", "ST-2", "ST-3",
        "ST-4", "ST-5", "ST-6", "ST-7", "ST-8", "ST-9", "ST-12", "ST-13", "ST-14", "ST-15", "X-1", "X-2", "X-3", "X-7",
        "X-9", "X-14", "X-15", "X-18", "X-19", "X-20", "X-26",
    ] {
        assert_eq!(row(&report, id)["status"], "PASS", "{}", row(&report, id));
    }
    let expected = if controllers(&["memory", "pids", "cpu"]) { "PASS" } else { "FAIL" };
    for id in ["CIS-5.11", "CIS-5.12", "CIS-5.29", "ST-1"] {
        assert_eq!(row(&report, id)["status"], expected, "{}", row(&report, id));
    }
    // docs/audit.md says which rows the kernel does not answer.
    let text = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/audit.md")).unwrap();
    for asked in ROWS.iter().filter(|r| r.id != "X-8") {
        let line = text.lines().find(|l| l.contains(&format!("</a>{} |", asked.id))).unwrap();
        let told = row(&report, asked.id)["status"] == "INFO";
        // Labels need a security module in force.
        let of_host = ["CIS-5.2", "CIS-5.3", "ST-11"].contains(&asked.id);
        let machine = asked.id == "CIS-5.18" || asked.id == "X-6";
        assert!(line.ends_with(if told { "| INFO |" } else { "| yes |" }) || of_host || machine, "{line}");
    }
    for id in ["CIS-5.1", "CIS-5.9", "CIS-5.15", "CIS-5.27", "CIS-5.28", "CIS-5.30", "ST-10", "ST-16", "ST-18", "X-5"] {
        assert_eq!(row(&report, id)["status"], "INFO", "{}", row(&report, id));
    }
}

#[test]
fn a_privileged_container_shows_what_it_got() {
    if !is_root() {
        return skip("a_privileged_container_shows_what_it_got", "needs root");
    }
    let mut bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    let all: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    bundle.config["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    bundle.config["process"]["env"] = json!(["PATH=/bin", "DB_PASSWORD=hunter2"]);
    // CAP_SYS_RESOURCE: not every root has it.
    let may_shield = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE).unwrap();
    if may_shield {
        bundle.config["process"]["oomScoreAdj"] = (-5).into();
    }
    bundle.config["annotations"] = json!({ "run.oci.x": "y" });
    let volume = common::scratch();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({ "destination": "/mnt", "type": "none", "source": "/etc", "options": ["rbind"] }));
    mounts.push(json!({ "destination": "/home", "type": "none", "source": volume.path(), "options": ["bind"] }));
    mounts.push(json!({ "destination": "/root", "type": "proc", "source": "proc" }));
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "ipc" && n["type"] != "uts");
    let linux = bundle.config["linux"].as_object_mut().unwrap();
    linux.remove("maskedPaths");
    linux.remove("readonlyPaths");
    linux.insert("resources".into(), json!({ "devices": [{ "allow": true, "access": "rwm" }] }));
    // mqueue belongs to an ipc namespace that is not shared.
    bundle.config["mounts"].as_array_mut().unwrap().retain(|m| m["type"] != "mqueue");
    let report = live(&bundle);
    for id in [
        "CIS-5.4", "CIS-5.5", "CIS-5.6", "CIS-5.11", "CIS-5.13", "CIS-5.17", "CIS-5.21", "CIS-5.22", "CIS-5.26",
        "CIS-5.29", "CIS-5.31", "ST-1", "ST-2", "ST-3", "ST-4", "ST-5", "ST-6", "ST-11", "ST-12", "ST-14", "ST-15",
        "X-2", "X-3", "X-7", "X-20",
    ] {
        assert_eq!(row(&report, id)["status"], "FAIL", "{}", row(&report, id));
    }
    for id in ["CIS-5.10", "CIS-5.16", "CIS-5.32", "X-1", "X-14", "X-15"] {
        assert_eq!(row(&report, id)["status"], "PASS", "{}", row(&report, id));
    }
    assert_eq!(row(&report, "X-9")["status"], if may_shield { "FAIL" } else { "PASS" });
    let said = report.to_string();
    assert!(!said.contains("hunter2") && said.contains("DB_PASSWORD"));
    assert!(
        row(&report, "CIS-5.6")["seen"].as_str().unwrap().contains("/mnt shows /etc/** of the host, writable"),
        "{report}"
    );
    // The bundle says the same before it runs.
    let dir = bundle.path().display().to_string();
    let rows = statuses(&bundle.verb(&["audit", "--format", "json", &dir]));
    for id in ["CIS-5.4", "CIS-5.5", "CIS-5.6", "CIS-5.17", "CIS-5.18", "CIS-5.22", "ST-14", "X-7", "X-20"] {
        assert_eq!(rows[id], "FAIL", "{id}");
    }
}

#[test]
fn a_mended_bundle_has_its_limits() {
    if !controllers(&["memory", "pids", "cpu"]) || !is_root() {
        return skip("a_mended_bundle_has_its_limits", "needs root and cgroup v2 with its controllers");
    }
    let mut bundle = Bundle::silent(&["sleep", "1000"]);
    bundle.config = serde_json::from_slice(&audit(&bundle, &["--fix"]).stdout).unwrap();
    let bundle = bundle.policy("oci");
    let report = live(&bundle);
    for id in ["CIS-5.11", "CIS-5.12", "CIS-5.19", "CIS-5.29", "ST-1"] {
        assert_eq!(row(&report, id)["status"], "PASS", "{}", row(&report, id));
    }
}

#[test]
fn a_process_that_was_added_with_more_rights_is_seen() {
    if !is_root() {
        return skip("a_process_that_was_added_with_more_rights_is_seen", "needs root");
    }
    let mut bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    bundle.config["process"]["user"]["uid"] = 1000.into();
    let few = json!(["CAP_KILL"]);
    bundle.config["process"]["capabilities"] = json!({ "bounding": few, "effective": [], "permitted": [] });
    let before = live(&bundle);
    for id in ["CIS-5.23", "CIS-5.24"] {
        assert_eq!(row(&before, id)["status"], "PASS", "{}", row(&before, id));
    }
    let exec = ["exec", "--detach", "--user", "0:0", "--cap", "CAP_SYS_ADMIN", "box", "sleep", "1000"];
    // Its standard streams would keep a pipe open.
    let quiet = || std::process::Stdio::null();
    let status = bundle.command(&exec).stdout(quiet()).stderr(quiet()).status().unwrap();
    assert!(status.success());
    let out = bundle.verb(&["audit", "--format", "json", "box"]);
    let after: Value = serde_json::from_slice(&out.stdout).unwrap();
    for id in ["CIS-5.23", "CIS-5.24"] {
        assert_eq!(row(&after, id)["status"], "FAIL", "{}", row(&after, id));
    }
    assert!(row(&after, "CIS-5.23")["seen"].as_str().unwrap().contains("SYS_ADMIN"));
}

#[test]
fn a_container_that_does_not_run_is_not_audited() {
    if !is_root() {
        return skip("a_container_that_does_not_run_is_not_audited", "needs root");
    }
    let bundle = Bundle::silent(&["true"]);
    ok(&bundle.create());
    // One that waits at its gate is confined already.
    assert!(!bundle.verb(&["audit", "box"]).stdout.is_empty());
    ok(&bundle.verb(&["start", "box"]));
    wait_for("its end", || bundle.state()["status"] == "stopped");
    let e = common::failed(&bundle.verb(&["audit", "box"]));
    assert!(e.contains("stopped"), "{e}");
}
