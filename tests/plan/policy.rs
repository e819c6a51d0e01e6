//! Each key of the policy `strict`: what it does to a config that is silent or wants more, and that an operator's file
//! loosens it. The table must name every key, so a new key without its two tests is an error here. (keys.rs: the same of
//! the policies for engines, and that nobody else loosens any of them.)

use super::fixtures::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use stockade::namespaces::{Facts, Named, Seen};

/// The keys whose ceiling is a refusal.
const REFUSING: &[&str] = &[
    "namespaces.host",
    "namespaces.joined",
    "hostRootMapped",
    "heldIds",
    "callerGroups",
    "hostPaths.allowed",
    "hostPaths.beyond",
    "hostPaths.sensitive",
    "hostPaths.sensitiveWritable",
    "daemonSockets",
    "privileged",
    "blockDevices",
    "foreignAnnotations",
    "limits.withoutController",
    "mounts.types",
    "mounts.idmap",
    "mounts.kernelFiles",
    "propagation",
    "devices",
    "unruledDevices",
    "netDevices",
    "intelRdt",
    "hooks",
    "unitProperties",
    "scheduler",
    "ioPriority",
    "lsm.selinuxLabel",
    "unknownFields",
];

/// How a config fares under a policy.
pub type Look = fn(&Result<Plan, String>) -> bool;

pub struct Rule {
    /// The key, with dots.
    pub key: &'static str,
    /// The config that meets the rule.
    pub config: Value,
    pub host: fn() -> Host,
    /// What the policy does with it.
    pub held: Look,
    /// The operator's change of this key alone.
    pub loosened: Value,
    /// What happens then.
    pub then: Look,
}

pub fn refused(result: &Result<Plan, String>, words: &[&str]) -> bool {
    result.as_ref().is_err_and(|e| words.iter().all(|w| e.contains(w)))
}

/// The plan in the words that a reader gets: `name: subject`, a step a line, then `rule field asked given` of findings.
pub fn lines(result: &Result<Plan, String>) -> Vec<String> {
    let Ok(plan) = result else { return Vec::new() };
    let steps = plan.steps.iter().map(|s| format!("{}: {}", s.name(), s.subject()));
    let findings = plan.findings.iter().map(|f| format!("finding {} {} {} -> {}", f.rule, f.field, f.asked, f.given));
    steps.chain(findings).collect()
}

/// Whether one line has all the words.
pub fn has(result: &Result<Plan, String>, words: &[&str]) -> bool {
    lines(result).iter().any(|l| words.iter().all(|w| l.contains(w)))
}

pub fn attempt(config: &Value, policy: &Policy, host: Host) -> Result<Plan, String> {
    plan_of(&bundle_of(config), policy, &host).map_err(|e| e.to_string())
}

/// An example with fields put into it.
fn with(name: &str, more: &Value) -> Value {
    let mut whole = example(name);
    merge(&mut whole, more);
    whole
}

pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (k, v) in over {
                merge(base.entry(k).or_insert(Value::Null), v);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// Other keys that would answer first, and are loosened on both sides.
pub fn beside(key: &str) -> Value {
    match key {
        "namespaces.silent" => json!({ "namespaces": { "host": "allow" } }),
        "hostPaths.sensitive" | "hostPaths.sensitiveWritable" | "daemonSockets" | "mounts.kernelFiles" => {
            json!({ "hostPaths": { "beyond": "allow" } })
        }
        "mounts.types" => json!({ "hostPaths": { "allowed": ["/dev/sdz"] } }),
        "blockDevices" | "allDevices" => json!({ "devices": "allow" }),
        "unruledDevices" => json!({ "namespaces": { "silent": ["mount", "pid"], "host": "allow" } }),
        "limits.expected" => json!({ "limits": { "memory": null } }),
        _ => json!({}),
    }
}

pub fn rules() -> Vec<Rule> {
    let silent = || example("silent");
    let usual = |more: Value| with("usual", &more);
    let joined =
        json!({ "linux": { "namespaces": [{ "type": "mount" }, { "type": "network", "path": "/run/netns/x" }] } });
    let root = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    let many = json!([{ "containerID": 0, "hostID": 700_000, "size": 65_536 }]);
    let own_maps = json!({ "linux": { "uidMappings": many, "gidMappings": many, "namespaces": [{ "type": "user" }] } });
    let mapped = json!({ "linux": { "uidMappings": root, "gidMappings": root, "namespaces": [{ "type": "user" }] } });
    let bind = |options: &[&str]| json!({ "mounts": [{ "destination": "/data", "type": "none", "source": "volume", "options": options }] });
    let outside = |source: &str| json!({ "mounts": [{ "destination": "/data", "type": "none", "source": source, "options": ["bind"] }] });
    let tmp = json!({ "mounts": [{ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }] });
    let grouped = || Host { groups: vec![1000, 27], ..single() };
    vec![
        Rule {
            key: "namespaces.silent",
            config: silent(),
            host: v2,
            held: |r| {
                has(r, &["clone3", "new user mount pid network ipc uts cgroup time"])
                    && has(r, &["finding namespaces.silent linux.namespaces"])
            },
            // What is then the host's is another key's matter.
            loosened: json!({ "namespaces": { "silent": ["mount", "pid"] } }),
            then: |r| has(r, &["clone3: new mount pid,"]),
        },
        Rule {
            key: "namespaces.joined",
            config: usual(joined),
            host: v2,
            held: |r| refused(r, &["linux.namespaces[1].path", "/run/netns/x", "namespaces.joined"]),
            loosened: json!({ "namespaces": { "joined": "allow" } }),
            then: |r| has(r, &["network /run/netns/x"]),
        },
        Rule {
            key: "namespaces.host",
            config: usual(
                json!({ "linux": { "namespaces": [{ "type": "mount" }, { "type": "network", "path": "/proc/1/ns/net" }] } }),
            ),
            host: || {
                let facts = Facts { flag: 0x4000_0000, inode: 1, ours: true, ..Facts::default() };
                let named = Named { path: "/proc/1/ns/net".into(), seen: Seen::Namespace(facts) };
                Host { namespaces: vec![named], ..v2() }
            },
            held: |r| {
                refused(r, &["linux.namespaces[1].path", "/proc/1/ns/net", "the runtime's own", "namespaces.host"])
            },
            loosened: json!({ "namespaces": { "host": "allow" } }),
            then: |r| has(r, &["clone3: new user mount pid ipc uts cgroup time"]),
        },
        Rule {
            key: "hostRootMapped",
            config: usual(mapped),
            host: v2,
            held: |r| refused(r, &["linux.uidMappings", "host id 0", "hostRootMapped"]),
            loosened: json!({ "hostRootMapped": "allow" }),
            then: |r| has(r, &["id maps", "0 as 0"]),
        },
        Rule {
            key: "heldIds",
            config: usual(own_maps),
            host: || Host {
                ids: Ids { held: vec![Range { start: 720_000, count: 65_536 }], ..Ids::default() },
                ..v2()
            },
            held: |r| refused(r, &["linux.uidMappings", "host ids 700000..765536", "another container", "heldIds"]),
            loosened: json!({ "heldIds": "allow" }),
            then: |r| {
                has(r, &["finding heldIds linux.uidMappings", "shared with another"]) && has(r, &["id maps", "700000"])
            },
        },
        Rule {
            key: "callerGroups",
            config: silent(),
            host: grouped,
            held: |r| refused(r, &["process.user", "the caller's groups 27", "callerGroups", "subordinate"]),
            loosened: json!({ "callerGroups": "allow" }),
            then: |r| has(r, &["finding callerGroups", "groups 27 stay in effect"]),
        },
        Rule {
            key: "privileged",
            config: privileged(),
            host: v2,
            held: |r| {
                refused(
                    r,
                    &["process.capabilities", "every capability, no seccomp filter, nothing masked", "privileged"],
                )
            },
            loosened: json!({ "privileged": "tighten" }),
            then: |r| has(r, &["finding privileged process.capabilities"]) && !has(r, &["bounding set", "SYS_ADMIN"]),
        },
        Rule {
            key: "capabilities.ceiling",
            config: example("docker"),
            host: v2,
            held: |r| {
                has(r, &["finding capabilities", "NET_RAW", "-> not given"]) && !has(r, &["bounding set", "NET_RAW"])
            },
            loosened: json!({ "capabilities": { "ceiling": ["NET_RAW"] } }),
            then: |r| has(r, &["bounding set: keep NET_RAW"]),
        },
        Rule {
            key: "capabilities.above",
            config: example("docker"),
            host: v2,
            held: |r| !has(r, &["bounding set", "MKNOD"]) && has(r, &["finding capabilities", "MKNOD"]),
            loosened: json!({ "capabilities": { "above": "allow" } }),
            then: |r| has(r, &["bounding set", "NET_RAW", "MKNOD"]) && !has(r, &["finding capabilities"]),
        },
        Rule {
            key: "noNewPrivileges.silent",
            config: silent(),
            host: v2,
            held: |r| has(r, &["no_new_privs: set"]) && has(r, &["finding noNewPrivileges", "silent -> true"]),
            loosened: json!({ "noNewPrivileges": { "silent": false } }),
            then: |r| !has(r, &["no_new_privs"]) && !has(r, &["finding noNewPrivileges"]),
        },
        Rule {
            key: "noNewPrivileges.explicitFalse",
            config: usual(json!({ "process": { "noNewPrivileges": false } })),
            host: v2,
            held: |r| has(r, &["no_new_privs: set"]) && has(r, &["finding noNewPrivileges", "false -> true"]),
            loosened: json!({ "noNewPrivileges": { "explicitFalse": "allow" } }),
            then: |r| !has(r, &["no_new_privs"]),
        },
        Rule {
            key: "seccomp.silent",
            config: silent(),
            host: v2,
            held: |r| has(r, &["seccomp: default"]) && has(r, &["finding seccomp", "silent ->"]),
            loosened: json!({ "seccomp": { "silent": "none" } }),
            then: |r| !has(r, &["seccomp: "]),
        },
        Rule {
            key: "seccomp.floor",
            config: usual(json!({ "linux": { "seccomp": { "defaultAction": "SCMP_ACT_ALLOW" } } })),
            host: v2,
            held: |r| has(r, &["seccomp: default"]) && has(r, &["seccomp: linux.seccomp"]),
            loosened: json!({ "seccomp": { "floor": "none" } }),
            then: |r| !has(r, &["seccomp: default"]) && has(r, &["seccomp: linux.seccomp"]),
        },
        Rule {
            key: "readonlyRoot.silent",
            config: silent(),
            host: v2,
            held: |r| has(r, &["remount: / (ro)"]) && has(r, &["finding readonlyRoot", "silent -> true"]),
            loosened: json!({ "readonlyRoot": { "silent": false } }),
            then: |r| !has(r, &["remount: / (ro)"]),
        },
        Rule {
            // A writable root is a wish that `strict` honours, so its loosening is looked at from the tightened side.
            key: "readonlyRoot.explicitFalse",
            config: usual(json!({ "root": { "readonly": false } })),
            host: v2,
            held: |r| !has(r, &["remount: / (ro)"]) && has(r, &["finding readonlyRoot", "unmapped"]),
            loosened: json!({ "readonlyRoot": { "explicitFalse": "refuse" } }),
            then: |r| refused(r, &["root.readonly", "readonlyRoot"]),
        },
        Rule {
            key: "mounts.fillStandard",
            config: silent(),
            host: v2,
            held: |r| {
                has(r, &["mount: proc on /proc"])
                    && has(r, &["finding mounts.fillStandard", "/proc /dev /dev/pts /dev/shm /dev/mqueue /sys"])
            },
            loosened: json!({ "mounts": { "fillStandard": false } }),
            then: |r| !has(r, &["proc on /proc"]) && !has(r, &["on /dev"]),
        },
        Rule {
            key: "mounts.nosuid",
            config: usual(bind(&["bind", "ro"])),
            host: v2,
            held: |r| {
                has(r, &["open_tree: /bundle/volume into", "(ro,nosuid,nodev)"])
                    && has(r, &["finding mounts mounts", "/data nosuid,nodev"])
            },
            loosened: json!({ "mounts": { "nosuid": false } }),
            then: |r| {
                has(r, &["open_tree: /bundle/volume into", "(ro,nodev)"])
                    && has(r, &["idmapped mount: /bundle/rootfs", "(rnodev)"])
            },
        },
        Rule {
            key: "mounts.nodev",
            config: usual(bind(&["bind", "ro"])),
            host: v2,
            held: |r| {
                has(r, &["open_tree: /bundle/volume into", "(ro,nosuid,nodev)"])
                    && has(r, &["finding mounts root", "rnosuid,rnodev"])
            },
            loosened: json!({ "mounts": { "nodev": false } }),
            then: |r| {
                has(r, &["open_tree: /bundle/volume into", "(ro,nosuid)"])
                    && has(r, &["idmapped mount: /bundle/rootfs", "(rnosuid)"])
            },
        },
        Rule {
            key: "mounts.noexec",
            config: usual(tmp),
            host: v2,
            held: |r| {
                has(r, &["mount: tmpfs on /tmp (nosuid,nodev,noexec)"])
                    && has(r, &["finding mounts mounts", "/tmp nosuid,nodev,noexec"])
            },
            loosened: json!({ "mounts": { "noexec": false } }),
            then: |r| has(r, &["mount: tmpfs on /tmp (nosuid,nodev)"]),
        },
        Rule {
            key: "mounts.recursiveReadonly",
            config: usual(bind(&["rbind", "ro", "nosuid", "nodev"])),
            host: v2,
            held: |r| {
                has(r, &["open_tree: /bundle/volume and below", "(rro,rnosuid,rnodev)"])
                    && has(r, &["finding mounts mounts", "/data rro,"])
            },
            loosened: json!({ "mounts": { "recursiveReadonly": false } }),
            then: |r| has(r, &["open_tree: /bundle/volume and below", "(ro,rnosuid,rnodev)"]),
        },
        Rule {
            key: "hostPaths.allowed",
            config: usual(outside("/srv/data")),
            host: v2,
            held: |r| refused(r, &["mounts[0].source", "/srv/data", "outside its own directory", "hostPaths"]),
            loosened: json!({ "hostPaths": { "allowed": ["/srv"] } }),
            then: |r| has(r, &["open_tree", "/srv/data"]),
        },
        Rule {
            key: "hostPaths.beyond",
            config: usual(outside("../../srv")),
            host: v2,
            held: |r| refused(r, &["mounts[0].source", "hostPaths"]),
            loosened: json!({ "hostPaths": { "beyond": "allow" } }),
            then: |r| has(r, &["open_tree", "/srv"]),
        },
        Rule {
            key: "hostPaths.sensitive",
            config: usual(outside("/etc/cron.d")),
            host: v2,
            held: |r| refused(r, &["mounts[0].source", "/etc/cron.d", "policy key hostPaths.sensitiveWritable"]),
            loosened: json!({ "hostPaths": { "sensitive": ["/boot"] } }),
            then: |r| has(r, &["open_tree: /etc/cron.d into"]),
        },
        Rule {
            key: "hostPaths.sensitiveWritable",
            config: usual(outside("/var")),
            host: v2,
            held: |r| refused(r, &["mounts[0].source", "/var", "policy key hostPaths.sensitiveWritable"]),
            loosened: json!({ "hostPaths": { "sensitiveWritable": "tighten" } }),
            then: |r| {
                has(r, &["open_tree: /var into", "(ro,"])
                    && has(r, &["finding hostPaths.sensitiveWritable mounts[0].source /var, writable -> read-only"])
            },
        },
        Rule {
            key: "daemonSockets",
            config: usual(outside("/run/docker.sock")),
            host: v2,
            held: |r| refused(r, &["mounts[0].source", "/run/docker.sock", "policy key daemonSockets"]),
            loosened: json!({ "daemonSockets": "allow" }),
            then: |r| has(r, &["open_tree: /run/docker.sock into"]),
        },
        Rule {
            key: "mounts.types",
            config: usual(json!({ "mounts": [{ "destination": "/mnt", "type": "ext4", "source": "/dev/sdz" }] })),
            host: v2,
            held: |r| refused(r, &["mounts[0].type", "ext4", "sysfs", "module", "mounts.types"]),
            loosened: json!({ "mounts": { "types": null } }),
            then: |r| has(r, &["mount: ext4 on /mnt"]),
        },
        Rule {
            key: "mounts.liftFlags",
            config: usual(bind(&["bind", "rw", "exec", "suid"])),
            host: v2,
            held: |r| has(r, &["finding mounts.liftFlags", "/data rw,exec"]) && !has(r, &["/bundle/volume", "rw"]),
            loosened: json!({ "mounts": { "liftFlags": "allow" } }),
            then: |r| {
                // nosuid is another key's matter.
                has(r, &["open_tree", "/bundle/volume", "(rw,nosuid,nodev,exec)"])
                    && !has(r, &["finding mounts.liftFlags"])
            },
        },
        Rule {
            key: "mounts.idmap",
            config: usual(bind(&["bind", "idmap"])),
            host: v2,
            held: |r| refused(r, &["mounts[0].options", "idmap", "mounts.idmap"]),
            loosened: json!({ "mounts": { "idmap": "allow" } }),
            then: |r| has(r, &["idmapped mount: /bundle/volume into slot 1", "(nosuid,nodev)"]),
        },
        Rule {
            key: "mounts.kernelFiles",
            config: usual(json!({ "mounts": [{ "destination": "/mnt", "type": "proc", "source": "proc" }] })),
            host: v2,
            held: |r| refused(r, &["mounts[0].destination", "/mnt", "mounts.kernelFiles"]),
            loosened: json!({ "mounts": { "kernelFiles": "allow" } }),
            then: |r| has(r, &["mount: proc on /mnt"]),
        },
        Rule {
            key: "maskedPaths",
            config: usual(json!({ "linux": { "maskedPaths": ["/proc/keys"] } })),
            host: v2,
            held: |r| {
                has(r, &["mask: /proc/keys ", "/proc/interrupts", "thermal_throttle"])
                    && has(r, &["finding maskedPaths", "/proc/kcore"])
            },
            loosened: json!({ "maskedPaths": [] }),
            then: |r| lines(r).contains(&"mask: /proc/keys".to_owned()) && !has(r, &["finding maskedPaths"]),
        },
        Rule {
            key: "readonlyPaths",
            config: usual(json!({ "linux": { "readonlyPaths": [] } })),
            host: v2,
            held: |r| {
                has(r, &["read-only paths", "/proc/sys /proc/sysrq-trigger"]) && has(r, &["finding readonlyPaths"])
            },
            loosened: json!({ "readonlyPaths": [] }),
            then: |r| !has(r, &["read-only paths"]),
        },
        Rule {
            key: "propagation",
            config: usual(bind(&["bind", "rslave"])),
            host: v2,
            held: |r| refused(r, &["mounts[0].options[1]", "rslave", "propagation"]),
            loosened: json!({ "propagation": "allow" }),
            then: |r| has(r, &["bind: slot 1 on /data"]),
        },
        Rule {
            key: "devices",
            config: usual(json!({ "linux": {
                    "devices": [{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 }],
                    "resources": { "devices": [{ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" }] },
                } })),
            host: v2,
            held: |r| refused(r, &["linux.devices[0]", "/dev/fuse", "10:229", "devices"]),
            loosened: json!({ "devices": "allow" }),
            then: |r| has(r, &["devices: bind", "/dev/fuse"]) && has(r, &["device program", "c 10:229 rwm", "b *:* m"]),
        },
        Rule {
            key: "blockDevices",
            config: usual(json!({ "linux": {
                    "devices": [{ "path": "/dev/sdz", "type": "b", "major": 8, "minor": 400 }],
                    "resources": { "devices": [{ "allow": true, "type": "b", "major": 8, "minor": 400, "access": "rwm" }] },
                } })),
            host: v2,
            held: |r| refused(r, &["linux.devices[0]", "/dev/sdz", "8:400", "policy key blockDevices"]),
            loosened: json!({ "blockDevices": "allow" }),
            then: |r| has(r, &["device program", "b 8:400 rwm"]) && has(r, &["finding blockDevices linux.devices[0]"]),
        },
        Rule {
            key: "allDevices",
            config: usual(json!({ "linux": { "resources": { "devices": [{ "allow": true, "access": "rwm" }] } } })),
            host: v2,
            held: |r| {
                !has(r, &["device program", "allow a"]) && has(r, &["finding allDevices linux.resources.devices"])
            },
            loosened: json!({ "allDevices": "allow" }),
            then: |r| has(r, &["device program", "allow a *:* rwm"]) && !has(r, &["finding allDevices"]),
        },
        Rule {
            key: "unruledDevices",
            config: silent(),
            host: || Host { cgroup: Cgroup { disabled: true, ..Cgroup::default() }, ..v2() },
            held: |r| refused(r, &["--cgroup-manager disabled", "policy key unruledDevices"]),
            loosened: json!({ "unruledDevices": "tighten" }),
            then: |r| has(r, &["finding unruledDevices", "-> nodev on every mount, and no CAP_MKNOD"]),
        },
        Rule {
            key: "foreignAnnotations",
            config: usual(json!({ "annotations": { "run.oci.handler": "krun" } })),
            host: v2,
            held: |r| refused(r, &["annotations.run.oci.handler", "foreignAnnotations"]),
            loosened: json!({ "foreignAnnotations": "tighten" }),
            then: |r| has(r, &["finding foreignAnnotations annotations run.oci.handler -> not obeyed"]),
        },
        Rule {
            key: "hooks",
            config: usual(json!({ "hooks": { "createRuntime": [{ "path": "/bin/hook" }] } })),
            host: v2,
            held: |r| refused(r, &["hooks.createRuntime", "/bin/hook", "policy key hooks"]),
            loosened: json!({ "hooks": "allow" }),
            then: |r| has(r, &["createRuntime: /bin/hook"]),
        },
        Rule {
            key: "unlimited",
            config: usual(json!({
                "linux": { "resources": { "memory": { "limit": -1, "swap": -1 }, "pids": { "limit": -1 }, "cpu": { "quota": -1 } } }
            })),
            host: v2,
            held: |r| {
                has(
                    r,
                    &["limits", "memory.max=1073741824", "memory.swap.max=0", "pids.max=512", "cpu.max=100000 100000"],
                ) && has(r, &["finding unlimited linux.resources.pids.limit"])
            },
            loosened: json!({ "unlimited": "allow" }),
            then: |r| has(r, &["limits", "memory.max=max", "memory.swap.max=max", "pids.max=max", "cpu.max=max"]),
        },
        Rule {
            key: "oomScoreAdj",
            config: usual(json!({ "process": { "oomScoreAdj": -1000 } })),
            host: v2,
            held: |r| has(r, &["oom_score_adj: 0"]) && has(r, &["finding oomScoreAdj process.oomScoreAdj -1000"]),
            loosened: json!({ "oomScoreAdj": "allow" }),
            then: |r| has(r, &["oom_score_adj: -1000"]),
        },
        Rule {
            // What strict itself does not expect is looked at from the other side.
            key: "limits.expected",
            config: silent(),
            host: v2,
            held: |r| !has(r, &["finding limits.expected"]) && has(r, &["limits: ", "pids.max"]),
            loosened: json!({ "limits": { "expected": ["memory"] } }),
            then: |r| has(r, &["finding limits.expected linux.resources.memory.limit silent -> no limit"]),
        },
        Rule {
            key: "limits.withoutController",
            config: usual(json!({ "linux": { "resources": { "pids": { "limit": 100 } } } })),
            host: hybrid,
            held: |r| {
                refused(r, &["linux.resources.pids.limit", "pids.max=100", "cgroup v1", "limits.withoutController"])
            },
            loosened: json!({ "limits": { "withoutController": "finding" } }),
            then: |r| {
                has(r, &["finding limits.withoutController linux.resources.pids.limit pids.max=100 -> no limit"])
                    && !has(r, &["limits: ", "pids.max"])
            },
        },
        Rule {
            key: "unitProperties",
            config: usual(json!({ "annotations": { "org.systemd.property.After": "['sysinit.target']" } })),
            host: managed,
            held: |r| refused(r, &["annotations.org.systemd.property.After", "unitProperties"]),
            loosened: json!({ "unitProperties": ["After"] }),
            then: |r| has(r, &["systemd: stockade-box.scope in system.slice", "After"]),
        },
        Rule {
            key: "limits.memory",
            config: silent(),
            host: v2,
            held: |r| {
                has(r, &["limits: ", "memory.max=1073741824 (1 GiB), memory.swap.max=0"])
                    && has(r, &["finding limits linux.resources.memory.limit"])
            },
            loosened: json!({ "limits": { "memory": null } }),
            then: |r| !has(r, &["memory.max"]) && !has(r, &["memory.swap.max"]),
        },
        Rule {
            key: "limits.pids",
            config: silent(),
            host: v2,
            held: |r| has(r, &["limits: ", "pids.max=512"]) && has(r, &["finding limits linux.resources.pids.limit"]),
            loosened: json!({ "limits": { "pids": 4096 } }),
            then: |r| has(r, &["limits: ", "pids.max=4096"]),
        },
        Rule {
            key: "limits.cpus",
            config: silent(),
            host: v2,
            held: |r| {
                has(r, &["limits: ", "cpu.max=100000 100000 (1.00 CPUs)"])
                    && has(r, &["finding limits linux.resources.cpu.quota"])
            },
            loosened: json!({ "limits": { "cpus": 2.5 } }),
            then: |r| has(r, &["limits: ", "cpu.max=250000 100000 (2.50 CPUs)"]),
        },
        Rule {
            key: "intelRdt",
            config: usual(json!({ "linux": { "intelRdt": {
                "closID": "gold", "l3CacheSchema": "L3:0=ff\nMB:0=10", "memBwSchema": "MB:0=20", "enableMonitoring": true
            } } })),
            host: v2,
            held: |r| refused(r, &["linux.intelRdt", "class gold", "policy key intelRdt"]),
            loosened: json!({ "intelRdt": "allow" }),
            then: |r| has(r, &["resctrl: class gold: L3:0=ff MB:0=20, monitored"]),
        },
        Rule {
            key: "netDevices",
            config: usual(json!({ "linux": { "netDevices": { "eth7": { "name": "up%d" } } } })),
            host: v2,
            held: |r| refused(r, &["linux.netDevices.eth7", "up%d", "policy key netDevices"]),
            loosened: json!({ "netDevices": "allow" }),
            then: |r| has(r, &["net devices: eth7 as up%d"]),
        },
        Rule {
            key: "scheduler",
            config: usual(json!({ "process": { "scheduler": { "policy": "SCHED_BATCH", "nice": -1 } } })),
            host: v2,
            held: |r| refused(r, &["process.scheduler", "SCHED_BATCH, nice -1", "policy key scheduler"]),
            loosened: json!({ "scheduler": "allow" }),
            then: |r| has(r, &["scheduler: SCHED_BATCH, nice -1"]),
        },
        Rule {
            key: "ioPriority",
            config: usual(json!({ "process": { "ioPriority": { "class": "IOPRIO_CLASS_RT", "priority": 7 } } })),
            host: v2,
            held: |r| refused(r, &["process.ioPriority", "IOPRIO_CLASS_RT 7", "policy key ioPriority"]),
            loosened: json!({ "ioPriority": "allow" }),
            then: |r| has(r, &["io priority: IOPRIO_CLASS_RT 7"]),
        },
        Rule {
            key: "landlock.level",
            config: silent(),
            host: || Host { landlock: 2, ..v2() },
            held: |r| {
                has(r, &["landlock: read everywhere inside; execute in /; write in /dev"])
                    && has(r, &["finding landlock mounts", "not held: truncate(2)", "ioctl(2)"])
            },
            loosened: json!({ "landlock": { "level": "off" } }),
            then: |r| r.is_ok() && !has(r, &["landlock"]),
        },
        Rule {
            key: "landlock.tcpBind",
            config: silent(),
            host: v2,
            held: |r| has(r, &["landlock: "]) && !has(r, &["landlock: ", "TCP"]),
            loosened: json!({ "landlock": { "tcpBind": [80, 443] } }),
            then: |r| has(r, &["landlock: ", "; bind TCP port 80 443"]) && !has(r, &["connect to"]),
        },
        Rule {
            key: "landlock.tcpConnect",
            config: silent(),
            host: v2,
            held: |r| has(r, &["landlock: "]) && !has(r, &["landlock: ", "TCP"]),
            loosened: json!({ "landlock": { "tcpConnect": [] } }),
            then: |r| has(r, &["landlock: ", "; connect to no TCP port"]),
        },
        Rule {
            key: "lsm.unconfined",
            config: usual(json!({ "process": { "apparmorProfile": "unconfined" } })),
            host: v2,
            held: |r| {
                !has(r, &["label: AppArmor unconfined"])
                    && has(r, &["finding lsm.unconfined process.apparmorProfile unconfined"])
            },
            loosened: json!({ "lsm": { "unconfined": "allow" } }),
            then: |r| has(r, &["label: AppArmor unconfined"]),
        },
        Rule {
            key: "lsm.apparmorDefault",
            config: silent(),
            host: v2,
            held: |r| has(r, &["label: AppArmor stockade-default"]),
            loosened: json!({ "lsm": { "apparmorDefault": null } }),
            then: |r| r.is_ok() && !has(r, &["label: "]),
        },
        Rule {
            key: "lsm.selinuxLabel",
            config: usual(json!({ "process": { "selinuxLabel": "a:b:c:s0" } })),
            host: v2,
            held: |r| refused(r, &["process.selinuxLabel", "a:b:c:s0", "policy key lsm.selinuxLabel"]),
            loosened: json!({ "lsm": { "selinuxLabel": "allow" } }),
            then: |r| has(r, &["label: ", "SELinux a:b:c:s0"]),
        },
        Rule {
            key: "rlimits.RLIMIT_NOFILE",
            config: silent(),
            host: v2,
            held: |r| {
                has(r, &["rlimits: ", "RLIMIT_NOFILE 1024/1024"]) && has(r, &["finding rlimits", "RLIMIT_NOFILE"])
            },
            loosened: json!({ "rlimits": { "RLIMIT_NOFILE": [4096, 8192] } }),
            then: |r| has(r, &["rlimits: ", "RLIMIT_NOFILE 4096/8192"]),
        },
        Rule {
            key: "rlimits.RLIMIT_CORE",
            config: silent(),
            host: v2,
            held: |r| has(r, &["rlimits: ", "RLIMIT_CORE 0/0"]) && has(r, &["finding rlimits", "RLIMIT_CORE"]),
            loosened: json!({ "rlimits": { "RLIMIT_CORE": [1, 2] } }),
            then: |r| has(r, &["rlimits: ", "RLIMIT_CORE 1/2"]),
        },
        Rule {
            key: "sessionKeyring",
            config: silent(),
            host: v2,
            held: |r| has(r, &["session: setsid, new session keyring"]),
            loosened: json!({ "sessionKeyring": false }),
            then: |r| lines(r).contains(&"session: setsid".to_owned()),
        },
        Rule {
            key: "proc.hidepid",
            config: usual(
                json!({ "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc", "options": ["hidepid=1"] }] }),
            ),
            host: v2,
            held: |r| has(r, &["mount: proc on /proc hidepid=1 "]),
            loosened: json!({ "proc": { "hidepid": "invisible" } }),
            then: |r| {
                has(r, &["mount: proc on /proc hidepid=invisible "])
                    && has(r, &["finding proc.hidepid mounts[0].options hidepid=1 -> hidepid=invisible"])
            },
        },
        Rule {
            key: "proc.onlyPids",
            config: silent(),
            host: v2,
            held: |r| r.is_ok() && !has(r, &["subset=pid"]),
            loosened: json!({ "proc": { "onlyPids": true } }),
            then: |r| has(r, &["mount: proc on /proc subset=pid"]) && has(r, &["finding proc.onlyPids mounts"]),
        },
        Rule {
            key: "memoryDenyWriteExecute",
            config: silent(),
            host: v2,
            held: |r| r.is_ok() && !has(r, &["PR_SET_MDWE"]),
            loosened: json!({ "memoryDenyWriteExecute": "require" }),
            then: |r| has(r, &["no writable code: PR_SET_MDWE"]),
        },
        Rule {
            key: "coreScheduling",
            config: silent(),
            host: v2,
            held: |r| r.is_ok() && !has(r, &["core scheduling"]),
            loosened: json!({ "coreScheduling": "try" }),
            then: |r| has(r, &["core scheduling: a cookie of its own"]),
        },
        Rule {
            key: "userNamespacesInside",
            config: silent(),
            host: v2,
            held: |r| has(r, &["user.max_user_namespaces=0"]),
            loosened: json!({ "userNamespacesInside": "allow" }),
            then: |r| !has(r, &["max_user_namespaces"]),
        },
        Rule {
            key: "unknownFields",
            config: usual(json!({ "linux": { "moon": 1 } })),
            host: v2,
            held: |r| refused(r, &["linux.moon", "unknownFields"]),
            loosened: json!({ "unknownFields": "allow" }),
            then: |r| has(r, &["finding unknownFields linux.moon set -> ignored"]),
        },
    ]
}

/// What `docker run --privileged` sends.
fn privileged() -> Value {
    let every: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    let sets = json!({ "bounding": every, "effective": every, "permitted": every });
    let linux = json!({ "maskedPaths": null, "readonlyPaths": null, "resources": { "devices": [{ "allow": true, "access": "rwm" }] } });
    with("usual", &json!({ "process": { "capabilities": sets }, "linux": linux }))
}

/// That a policy holds a rule, that an operator's file which extends it loosens it by this key alone, and that the two can
/// be told apart; what is wrong, otherwise.
pub fn wrong(policy: &str, rule: &Rule) -> Vec<String> {
    let of = |change: &Value| {
        let mut file = json!({ "extends": policy });
        merge(&mut file, &beside(rule.key));
        merge(&mut file, change);
        let policy = Policy::from_json(&file.to_string(), "operator.json").unwrap();
        attempt(&rule.config, &policy, (rule.host)())
    };
    let (before, after) = (of(&json!({})), of(&rule.loosened));
    let told = |r: &Result<Plan, String>| r.as_ref().map_or_else(Clone::clone, |_| lines(r).join("\n  "));
    let mut named = BTreeSet::new();
    keys(&rule.loosened, "", &mut named);
    [
        ((rule.held)(&before), format!("is not held: {}", told(&before))),
        ((rule.then)(&after), format!("is not loosened: {}", told(&after))),
        (!(rule.held)(&after), "loosened, it is held all the same".to_owned()),
        (!(rule.then)(&before), "what holds when it is loosened holds before, too".to_owned()),
        (named == BTreeSet::from([rule.key.to_owned()]), format!("is loosened by {named:?}")),
    ]
    .into_iter()
    .filter(|(right, _)| !right)
    .map(|(_, what)| format!("{policy}: {} {what}", rule.key))
    .collect()
}

/// The keys of a policy with dots.
pub fn keys(value: &Value, here: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            map.iter()
                .for_each(|(k, v)| keys(v, &if here.is_empty() { k.clone() } else { format!("{here}.{k}") }, all));
        }
        _ => {
            all.insert(here.to_owned());
        }
    }
}

#[test]
fn every_key_of_strict_does_what_it_says_and_can_be_loosened() {
    let mut all = Vec::new();
    for rule in rules() {
        all.extend(wrong("strict", &rule));
        let mut file = json!({ "extends": "strict" });
        merge(&mut file, &beside(rule.key));
        let strict = Policy::from_json(&file.to_string(), "operator.json").unwrap();
        let before = attempt(&rule.config, &strict, (rule.host)());
        // "Has not" must not hold for lack of a plan.
        assert_eq!(before.is_err(), REFUSING.contains(&rule.key), "{}: {before:?}", rule.key);
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn what_hides_more_of_proc_stands() {
    let operator = operator(json!({ "proc": { "hidepid": "invisible", "onlyPids": true } }));
    for (options, given) in [
        (json!(["hidepid=2"]), "proc on /proc hidepid=2,subset=pid"),
        (json!(["hidepid=ptraceable", "subset=pid"]), "proc on /proc hidepid=ptraceable,subset=pid"),
        (json!(["subset=pid"]), "proc on /proc subset=pid,hidepid=invisible"),
        (json!(["hidepid=4", "hidepid=0"]), "proc on /proc hidepid=invisible,subset=pid"),
    ] {
        let mounts = json!([{ "destination": "/proc", "type": "proc", "source": "proc", "options": options }]);
        let plan = attempt(&usual_with(json!({ "mounts": mounts })), &operator, v2());
        assert!(has(&plan, &[given]), "{given}: {:?}", lines(&plan));
    }
}

#[test]
fn the_profile_that_confines_the_runtime_is_not_left_for_the_default() {
    let confined = || Host { confined: Some("docker-default (enforce)".into()), ..v2() };
    let strict = Policy::load("strict").unwrap();
    let silent = attempt(&example("silent"), &strict, confined());
    assert!(!has(&silent, &["label: "]) && has(&silent, &["finding lsm.apparmorDefault", "docker-default (enforce)"]));
    // What a config names is applied, or the launch fails.
    let named = with("silent", &json!({ "process": { "apparmorProfile": "mine" } }));
    assert!(has(&attempt(&named, &strict, confined()), &["label: AppArmor mine"]));
    let none = || Host { apparmor: false, ..v2() };
    let silent = attempt(&example("silent"), &strict, none());
    assert!(silent.is_ok() && !has(&silent, &["label: "]) && !has(&silent, &["lsm.apparmorDefault"]));
}

#[test]
fn who_could_raise_the_limit_of_user_namespaces_again_is_told() {
    let told = |ceiling: Value, frozen: Value| {
        let all = ["CAP_SYS_RESOURCE", "CAP_SYS_ADMIN"];
        let process = json!({ "capabilities": { "bounding": all, "permitted": all, "effective": all } });
        let operator = operator(json!({ "capabilities": { "ceiling": ceiling }, "readonlyPaths": frozen }));
        let config = with("silent", &json!({ "process": process }));
        let plan = attempt(&config, &operator, v2());
        assert!(has(&plan, &["user.max_user_namespaces=0"]), "{:?}", lines(&plan));
        has(&plan, &["finding userNamespacesInside process.capabilities SYS_RESOURCE"])
    };
    assert!(!told(json!([]), json!([])));
    assert!(!told(json!(["SYS_RESOURCE"]), json!(["/proc/sys"])));
    assert!(told(json!(["SYS_RESOURCE"]), json!([])));
    assert!(told(json!(["SYS_RESOURCE", "SYS_ADMIN"]), json!(["/proc/sys"])));
}

#[test]
fn secrets_are_known_to_a_plan_by_name_and_size() {
    let bundle = |mounts: Value| {
        let mut config = example("silent");
        config["mounts"] = mounts;
        config["process"]["user"] = json!({ "uid": 7, "gid": 8 });
        bundle_of(&config)
    };
    let tmpfs = |at: &str| json!([{ "destination": at, "type": "tmpfs", "source": "tmpfs" }]);
    let plan = |mounts: Value, swappable| {
        let file = plan::SecretFile { name: "key".into(), size: 5, swappable };
        let options = Options { id: "box".into(), secrets: vec![file], ..Options::default() };
        plan::plan(&bundle(mounts), &Policy::load("strict").unwrap(), &v2(), &options).map_err(|e| e.to_string())
    };
    let made = plan(tmpfs("/run"), false);
    let all = lines(&made);
    let at = |words: &str| all.iter().position(|l| l.contains(words)).unwrap_or_else(|| panic!("{words}: {all:?}"));
    let secrets = at("secrets: key (5 bytes) in /run/secrets for 7:8");
    assert!(at("mount: tmpfs on /run") < secrets && secrets < at("remount: / (ro)") && secrets < at("pivot_root"));
    assert!(
        !has(&made, &["finding host --secret"]) && has(&plan(json!([]), true), &["finding host --secret", "swapped"])
    );
    for at in ["/run/secrets", "/run/secrets/key", "/x/../run/./secrets"] {
        assert!(refused(&plan(tmpfs(at), false), &["mounts[0].destination", at, "--secret"]), "{at}");
    }
}

#[test]
fn every_key_of_strict_is_in_the_table() {
    let mut all = BTreeSet::new();
    let text = stockade::policy::shipped_text("strict").unwrap();
    keys(&serde_json::from_str(text).unwrap(), "", &mut all);
    all.remove("name");
    all.remove("about");
    // A verb's rule and not a bundle's: tests/plan/restore.rs.
    all.remove("restore");
    // A flag's rule: tests/surface.rs.
    all.remove("noPivot");
    let tested: BTreeSet<String> = rules().iter().map(|r| r.key.to_owned()).collect();
    assert_eq!(all, tested);
}

#[test]
fn a_refusal_names_the_policy_and_the_way_out() {
    for rule in rules() {
        let Err(error) = attempt(&rule.config, &Policy::load("strict").unwrap(), (rule.host)()) else { continue };
        if rule.key == "limits.withoutController" {
            // It is the host that lacks something; the policy is one way out of two.
            assert!(error.contains("; hint: ") && error.contains("policy key limits.withoutController"), "{error}");
            continue;
        }
        assert!(error.starts_with("policy strict: "), "{error}");
        assert!(error.contains("; hint: ") && error.contains("--policy") && !error.contains('\n'), "{error}");
    }
}

/// One of each runtime that obeys annotations, so that a prefix that goes missing is missed.
#[test]
fn what_another_runtime_would_obey_is_refused_or_told() {
    for key in [
        "run.oci.handler",
        "run.oci.seccomp.receiver",
        "krun.ram_mib",
        "module.wasm.image/variant",
        "org.criu.config",
        "io.kubernetes.cri-o.userns-mode",
        "io.katacontainers.config.hypervisor.path",
        "dev.gvisor.flag.network",
        "dev.gvisor.spec.mount.data.source",
    ] {
        let config = usual_with(json!({ "annotations": { key: "x", "org.example.harmless": "y" } }));
        let by = |name: &str| attempt(&config, &Policy::load(name).unwrap(), v2());
        assert!(refused(&by("strict"), &[&format!("annotations.{key}"), "foreignAnnotations"]), "{key}");
        assert!(has(&by("engine"), &[&format!("finding foreignAnnotations annotations {key} -> not obeyed")]), "{key}");
        let oci = by("oci");
        assert!(oci.is_ok() && !has(&oci, &["foreignAnnotations"]), "{key}: {oci:?}");
    }
}

#[test]
fn a_property_that_runs_a_program_exists_under_no_policy() {
    let with = |name: &str, value: &str| {
        let config = usual_with(json!({ "annotations": { format!("org.systemd.property.{name}"): value } }));
        attempt(&config, &Policy::load("oci").unwrap(), managed())
    };
    for name in ["ExecStopPost", "ExecStart", "RootDirectory", "Slice", "Delegate", "PIDs", "MemoryMax", "User", ""] {
        let r = with(name, "'x'");
        assert!(
            refused(&r, &["annotations.org.systemd.property.", "not a property that a bundle may set"]),
            "{name}: {r:?}"
        );
    }
    // No operator can name one either.
    let e = Policy::from_json(r#"{"extends":"strict","unitProperties":["ExecStopPost"]}"#, "mine.json").unwrap_err();
    assert!(e.to_string().contains("unitProperties") && e.to_string().contains("ExecStopPost"), "{e}");
    // What CRI-O sends.
    for (name, value) in [
        ("CollectMode", "'inactive-or-failed'"),
        ("TimeoutStopUSec", "uint64 10000000"),
        ("TimeoutStopSec", "10"),
        ("DefaultDependencies", "true"),
        ("After", "['crio.service']"),
    ] {
        let r = with(name, value);
        assert!(has(&r, &["systemd: ", &name.replace("StopSec", "StopUSec")]), "{name}: {r:?}");
    }
    assert!(refused(&with("TimeoutStopUSec", "'x'"), &["not a value of TimeoutStopUSec"]));
    // Without a unit it is nothing, and said.
    let config = usual_with(json!({ "annotations": { "org.systemd.property.CollectMode": "'inactive'" } }));
    let r = attempt(&config, &Policy::load("strict").unwrap(), v2());
    assert!(has(&r, &["finding host annotations.org.systemd.property.CollectMode", "-> nothing"]), "{r:?}");
}

fn usual_with(more: Value) -> Value {
    with("usual", &more)
}

/// A host whose systemd makes the cgroup.
fn managed() -> Host {
    let mut host = v2();
    host.cgroup.systemd = Some(false);
    host.cgroup.base = "/".into();
    host
}

#[test]
fn a_writable_volume_says_whose_it_must_be() {
    let volume = |options: &[&str]| {
        let mounts = json!([{ "destination": "/data", "type": "none", "source": "volume", "options": options }]);
        attempt(&usual_with(json!({ "mounts": mounts })), &operator(json!({ "mounts": { "idmap": "allow" } })), v2())
    };
    let said = |r: &Result<Plan, String>| has(r, &["finding host mounts[0]", "unmapped", "1048576"]);
    assert!(said(&volume(&["bind"])));
    for unsaid in [volume(&["bind", "ro"]), volume(&["bind", "idmap"])] {
        assert!(unsaid.is_ok() && !said(&unsaid));
    }
}

#[test]
fn a_bind_cannot_call_itself_devpts_to_keep_its_devices() {
    for (fstype, target) in [("devpts", "/data"), ("tmpfs", "/dev")] {
        let mounts = json!([{ "destination": target, "type": fstype, "source": "/dev", "options": ["rbind"] }]);
        let policy = operator(json!({ "hostPaths": { "allowed": ["/dev"], "sensitiveWritable": "allow" } }));
        let plan = attempt(&usual_with(json!({ "mounts": mounts })), &policy, v2());
        assert!(has(&plan, &["open_tree: /dev and below into slot 1", "rnodev"]), "{fstype}: {:?}", lines(&plan));
    }
}

#[test]
fn devices_beside_a_bound_dev_are_not_left_out_in_silence() {
    let mounts = json!([{ "destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"] }]);
    let device = json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 }]);
    let oci = Policy::load("oci").unwrap();
    let said = |devices: &Value| {
        let config = json!({ "mounts": mounts, "linux": { "devices": devices } });
        has(&attempt(&usual_with(config), &oci, v2()), &["finding host linux.devices", "the bound /dev has"])
    };
    assert!(said(&device) && !said(&json!([])));
}

#[test]
fn a_flag_that_the_policy_wants_cannot_be_cleared_below() {
    let mounts =
        json!([{ "destination": "/data", "type": "none", "source": "volume", "options": ["rbind", "rsuid", "rdev"] }]);
    let plan = attempt(&usual_with(json!({ "mounts": mounts })), &Policy::load("strict").unwrap(), v2()).unwrap();
    let attr = plan.steps.iter().find_map(|s| match s {
        plan::Step::CloneSource { path, attr, .. } if path.path.ends_with("volume") => Some(*attr),
        _ => None,
    });
    let (attr, both) = (attr.unwrap(), plan::attr::NOSUID | plan::attr::NODEV);
    assert_eq!((attr.set_below & both, attr.clear_below & both), (both, 0));
}

#[test]
fn ids_of_the_hosts_own_users_are_not_the_containers() {
    let strict = Policy::load("strict").unwrap();
    let mapped = |first: u32| {
        let map = json!([{ "containerID": 0, "hostID": first, "size": 1 }]);
        let linux = json!({ "uidMappings": map, "gidMappings": map, "namespaces": [{ "type": "user" }] });
        usual_with(json!({ "linux": linux }))
    };
    for user in [0, 1000, 65_535] {
        let word = format!("host id {user}");
        assert!(refused(&attempt(&mapped(user), &strict, v2()), &["linux.uidMappings", &word, "hostRootMapped"]));
    }
    assert!(attempt(&mapped(700_000), &strict, v2()).is_ok());
    // An ordinary user may map what is its own.
    assert!(attempt(&mapped(1000), &strict, single()).is_ok());
}

#[test]
fn the_cgroup_tree_inside_is_read_only_whatever_the_bundle_says() {
    let mounts = json!([{ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"] }]);
    let config = usual_with(json!({ "mounts": mounts }));
    let readonly = |policy: &str| {
        let plan = attempt(&config, &Policy::load(policy).unwrap(), v2());
        assert!(has(&plan, &["mount: cgroup2 on /sys/fs/cgroup"]), "{:?}", lines(&plan));
        has(&plan, &["mount: cgroup2 on /sys/fs/cgroup", "(ro"])
    };
    assert!(readonly("strict") && !readonly("oci"));
}

#[test]
fn device_rules_of_a_bundle_only_take_away() {
    let rules = json!([{ "allow": true, "access": "rwm" }, { "allow": false, "type": "c", "major": 1, "minor": 3, "access": "w" }]);
    let config = usual_with(json!({ "linux": { "resources": { "devices": rules } } }));
    let allowed = |policy: &str| {
        let plan = attempt(&config, &Policy::load(policy).unwrap(), v2());
        assert!(has(&plan, &["device program", "deny c 1:3 w"]), "{:?}", lines(&plan));
        has(&plan, &["device program", "allow a *:* rwm"])
    };
    assert!(!allowed("strict") && allowed("oci"));
}
