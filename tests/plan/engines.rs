//! The policies `engine` and `engine-build`: what engines send is planned as they mean it, what the workload gets is
//! hardened, and each rule refuses or tightens until an operator's file loosens it.
//!
//! tests/plan/engines has configs in the shape that each engine sends. Paths are examples.

use super::fixtures::*;
use serde_json::{Value, json};
use std::path::PathBuf;
use stockade::namespaces::{Facts, Named, Seen};
use stockade::sources::Source;

/// The files of tests/plan/engines.
pub const SENT: [&str; 8] = ["buildkit", "cri", "crio", "ctr", "docker", "docker-host", "docker-privileged", "podman"];

pub fn sent(name: &str) -> Value {
    let path = root().join("tests/plan/engines").join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Root on a host with the namespaces that these configs join.
pub fn host() -> Host {
    let joined = [
        ("/run/netns/netns-5f0a", 0x4000_0000),
        ("/var/run/netns/cni-1a2b", 0x4000_0000),
        ("/var/run/netns/aa", 0x4000_0000),
        ("/proc/4321/ns/ipc", 0x800_0000),
        ("/proc/4321/ns/uts", 0x400_0000),
        ("/var/run/ipcns/aa", 0x800_0000),
        ("/var/run/utsns/aa", 0x400_0000),
    ];
    let named = |(path, flag): (&str, u64)| Named {
        path: path.into(),
        seen: Seen::Namespace(Facts { flag, inode: 7, ..Facts::default() }),
    };
    Host { namespaces: joined.into_iter().map(named).collect(), ..v2() }
}

/// What `explain` says of it; BuildKit's under `engine-build`.
pub fn explained(name: &str) -> String {
    super::explained_config(&sent(name), if name == "buildkit" { "engine-build" } else { "engine" }, &host())
}

fn planned(config: &Value, policy: &Policy) -> Result<Plan, String> {
    plan_of(&bundle_of(config), policy, &host()).map_err(|e| e.to_string())
}

fn engine() -> Policy {
    Policy::load("engine").unwrap()
}

/// An operator's policy that extends `engine`.
fn loosened(mut json: Value) -> Policy {
    json["extends"] = "engine".into();
    Policy::from_json(&json.to_string(), "operator.json").unwrap()
}

fn lines(plan: &Plan) -> Vec<String> {
    let steps = plan.steps.iter().map(|s| format!("{}: {}", s.name(), s.subject()));
    let findings = plan.findings.iter().map(|f| format!("finding {} {} {} -> {}", f.rule, f.field, f.asked, f.given));
    steps.chain(findings).collect()
}

#[track_caller]
fn has(plan: &Result<Plan, String>, words: &[&str]) {
    let lines = lines(plan.as_ref().unwrap_or_else(|e| panic!("{e}")));
    assert!(lines.iter().any(|l| words.iter().all(|w| l.contains(w))), "{words:?} in no line of\n{}", lines.join("\n"));
}

#[track_caller]
fn has_not(plan: &Result<Plan, String>, words: &[&str]) {
    let lines = lines(plan.as_ref().unwrap_or_else(|e| panic!("{e}")));
    let found = lines.iter().find(|l| words.iter().all(|w| l.contains(w)));
    assert!(found.is_none(), "{found:?}");
}

#[track_caller]
fn refused(plan: &Result<Plan, String>, words: &[&str]) {
    let error = plan.as_ref().expect_err("it was planned");
    assert!(words.iter().all(|w| error.contains(w)), "{words:?}: {error}");
}

/// With one more mount.
pub fn with_mount(source: &str, options: &[&str]) -> Value {
    let mut config = sent("docker");
    let mount = json!({ "destination": "/x", "type": "bind", "source": source, "options": options });
    config["mounts"].as_array_mut().unwrap().push(mount);
    config
}

#[test]
fn what_engines_send_is_done_as_they_mean_it() {
    let mut planned_ones = 0;
    for name in SENT.into_iter().filter(|n| *n != "docker-privileged") {
        let policy = if name == "buildkit" { "engine-build" } else { "engine" };
        let config = sent(name);
        let plan = planned(&config, &Policy::load(policy).unwrap());
        // What the engine set up: its hooks, its cgroup, its volumes, its namespaces; and none that it did not ask for.
        for (moment, hooks) in config["hooks"].as_object().into_iter().flatten() {
            has(&plan, &[&format!("{moment}: "), hooks[0]["path"].as_str().unwrap()]);
        }
        has(&plan, &["cgroup: ", config["linux"]["cgroupsPath"].as_str().unwrap()]);
        for mount in config["mounts"].as_array().unwrap() {
            if mount["type"] == "bind" {
                has(&plan, &["open_tree: ", mount["source"].as_str().unwrap()]);
            }
        }
        for namespace in config["linux"]["namespaces"].as_array().unwrap() {
            match namespace["path"].as_str() {
                Some(path) => has(&plan, &["setns: ", path]),
                None => has(&plan, &["clone3: new", namespace["type"].as_str().unwrap()]),
            }
        }
        has_not(&plan, &["clone3: new user"]);
        has_not(&plan, &["memory.max=1073741824"]);
        // What the workload gets.
        has(&plan, &["no_new_privs: set"]);
        has(&plan, &[if policy == "engine" { "seccomp: default" } else { "seccomp: build" }]);
        has(&plan, &["mask: ", "/proc/interrupts", "/sys/devices/virtual/powercap", "/proc/kcore"]);
        for gone in ["NET_RAW", "AUDIT_WRITE", "SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN"] {
            has_not(&plan, &["bounding set: ", gone]);
        }
        let limited = config["linux"]["resources"]["memory"]["limit"].is_i64();
        let finding = ["finding limits.expected linux.resources.memory.limit"];
        if limited {
            has_not(&plan, &finding)
        } else {
            has(&plan, &finding)
        }
        let pids = config["linux"]["resources"]["pids"]["limit"].as_i64().filter(|n| *n > 0).unwrap_or(4096);
        has(&plan, &["limits: ", &format!("pids.max={pids}")]);
        planned_ones += 1;
    }
    assert_eq!(planned_ones, 7);
}

#[test]
fn a_negative_oom_score_is_given_and_a_false_no_new_privileges_is_not() {
    has(&planned(&sent("cri"), &engine()), &["oom_score_adj: -997"]);
    let plan = planned(&sent("crio"), &engine());
    has(&plan, &["finding noNewPrivileges process.noNewPrivileges false -> true"]);
    let loose = loosened(json!({ "noNewPrivileges": { "explicitFalse": "allow" } }));
    has_not(&planned(&sent("crio"), &loose), &["no_new_privs"]);
    let silent = loosened(json!({ "noNewPrivileges": { "silent": false } }));
    has(&planned(&sent("docker"), &engine()), &["finding noNewPrivileges", "silent -> true"]);
    has_not(&planned(&sent("docker"), &silent), &["no_new_privs"]);
}

#[test]
fn what_the_host_has_is_the_hosts_where_the_engine_says_so_and_told() {
    let plan = planned(&sent("docker-host"), &engine());
    has(&plan, &["finding namespaces.host linux.namespaces no network, pid of its own -> the host's"]);
    let mut strict = json!({ "namespaces": { "host": "refuse" } });
    refused(
        &planned(&sent("docker-host"), &loosened(strict.take())),
        &["no network, pid of its own", "namespaces.host"],
    );
    has_not(&planned(&sent("docker"), &engine()), &["finding namespaces.host"]);
}

#[test]
fn privileged_is_refused_and_what_is_not_quite_is_tightened() {
    let config = sent("docker-privileged");
    for policy in ["engine", "engine-build", "strict"] {
        let mut config = config.clone();
        config["annotations"] = json!({ "stockade.policy": "oci", "privileged": "allow" });
        let words =
            ["process.capabilities", "every capability, no seccomp filter, nothing masked, every device", "privileged"];
        refused(&planned(&config, &Policy::load(policy).unwrap()), &words);
    }
    let oci = planned(&config, &Policy::load("oci").unwrap());
    has(&oci, &["bounding set: ", "SYS_ADMIN"]);
    has(&oci, &["device program", "allow a *:* rwm"]);
    // Its parts have keys of their own: to open the shape is not to open them.
    let plan = planned(&config, &loosened(json!({ "privileged": "tighten" })));
    has(&plan, &["finding privileged process.capabilities"]);
    has_not(&plan, &["bounding set: ", "SYS_ADMIN"]);
    has_not(&plan, &["device program", "allow a *:* rwm"]);
    has(&plan, &["finding allDevices"]);
    has(&plan, &["finding blockDevices linux.devices[0] /dev/sda"]);
    has(&plan, &["mount: sysfs on /sys", "ro"]);
    has(&plan, &["seccomp: default"]);
    has(&planned(&config, &loosened(json!({ "privileged": "allow", "allDevices": "allow" }))), &["allow a *:* rwm"]);
    // `--cap-add ALL` alone: an ordinary container with a wish above the ceiling.
    let mut all = sent("docker");
    all["process"]["capabilities"] = config["process"]["capabilities"].clone();
    has_not(&planned(&all, &engine()), &["bounding set: ", "SYS_ADMIN"]);
    // Two signs are enough, and without every capability there is no shape.
    all["linux"].as_object_mut().unwrap().remove("seccomp");
    all["linux"]["maskedPaths"] = json!([]);
    refused(&planned(&all, &engine()), &["privileged"]);
    all["process"]["capabilities"] = sent("docker")["process"]["capabilities"].clone();
    has(&planned(&all, &engine()), &["seccomp: default"]);
}

#[test]
fn an_engine_that_lacks_a_capability_itself_says_privileged_without_it() {
    // SYS_RESOURCE: an engine in a container or a unit of its own.
    let lacking = Host { caps: host().caps & !(1 << 24), ..host() };
    let mut config = sent("docker-privileged");
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set].as_array_mut().unwrap().retain(|c| c != "CAP_SYS_RESOURCE");
    }
    let planned_by = |host: &Host| plan_of(&bundle_of(&config), &engine(), host).map_err(|e| e.to_string());
    refused(&planned_by(&lacking), &["privileged"]);
    // What leaves out a capability that could have been given has another shape.
    has(&planned_by(&host()), &["finding allDevices"]);
}

#[test]
fn without_a_cgroup_the_engine_says_what_holds_the_devices() {
    let host = Host { cgroup: Cgroup { disabled: true, ..Cgroup::default() }, ..host() };
    let mut config = sent("podman");
    config["linux"]["resources"].as_object_mut().unwrap().remove("pids");
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set].as_array_mut().unwrap().push("CAP_MKNOD".into());
    }
    let by = |policy: &Policy| plan_of(&bundle_of(&config), policy, &host).map_err(|e| e.to_string());
    // Even where an operator gives MKNOD otherwise.
    let generous = loosened(json!({ "capabilities": { "ceiling": ["CHOWN", "MKNOD"] } }));
    for policy in [engine(), generous] {
        let plan = by(&policy);
        has(&plan, &["finding unruledDevices", "nodev on every mount"]);
        has(&plan, &["finding mounts root silent", "rnodev"]);
        has(&plan, &["mount: proc on /proc", "nodev"]);
        has_not(&plan, &["mount: tmpfs on /dev ", "nodev"]);
        has_not(&plan, &["bounding set", "MKNOD"]);
    }
    let oci = by(&Policy::load("oci").unwrap());
    has(&oci, &["finding unruledDevices", "no rule holds"]);
    has(&oci, &["bounding set", "MKNOD"]);
    refused(&by(&loosened(json!({ "unruledDevices": "refuse" }))), &["--cgroup-manager disabled", "unruledDevices"]);
}

/// The fact that a path leads to another, and to a socket.
fn leads(
    config: &Value,
    policy: &Policy,
    path: &str,
    real: &str,
    socket: Option<&str>,
    block: bool,
) -> Result<Plan, String> {
    let source =
        Source { path: path.into(), real: real.into(), block, nine_p: false, socket: socket.map(PathBuf::from) };
    let host = Host { sources: vec![source], ..host() };
    plan_of(&bundle_of(config), policy, &host).map_err(|e| e.to_string())
}

#[test]
fn the_socket_of_a_daemon_is_refused_by_any_way_to_it() {
    for policy in [engine(), operator(json!({ "hostPaths": { "beyond": "allow" }, "hooks": "allow" }))] {
        for path in ["/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock", "/run/crio/crio.sock"] {
            refused(&planned(&with_mount(path, &["rbind", "ro"]), &policy), &["source", path, "daemonSockets"]);
        }
        for path in ["/run", "/var/run", "/run/containerd", "/run/buildkit"] {
            refused(&planned(&with_mount(path, &["rbind", "ro"]), &policy), &["source", path, "daemonSockets"]);
        }
        // Facts: a link, a directory far above, a socket that was moved.
        for (path, real, socket) in [
            ("/srv/link", "/run/docker.sock", "/run/docker.sock"),
            ("/", "/", "/run/docker.sock"),
            ("/srv/api", "/srv/api", "/srv/api/docker.sock"),
        ] {
            let config = with_mount(path, &["rbind", "ro"]);
            refused(&leads(&config, &policy, path, real, Some(socket), false), &[path, socket, "daemonSockets"]);
            // The control: without the socket it is a directory like another.
            assert!(leads(&config, &policy, path, "/srv/harmless", None, false).is_ok(), "{path}");
        }
    }
    let open = loosened(json!({ "daemonSockets": "allow" }));
    has(&planned(&with_mount("/run/docker.sock", &["rbind"]), &open), &["open_tree: /run/docker.sock"]);
    has(&planned(&with_mount("/run/docker.sock", &["rbind"]), &Policy::load("oci").unwrap()), &["/run/docker.sock"]);
    // A directory of the same beginning, and what an engine puts below /run for a container.
    for path in ["/run/dockers", "/run/containers/storage/x/shm", "/run/user/1000/containers/x/hosts"] {
        assert!(planned(&with_mount(path, &["rbind"]), &engine()).is_ok(), "{path}");
    }
}

#[test]
fn sensitive_directories_are_told_and_only_read_where_the_operator_wants_that() {
    for path in
        ["/", "/etc", "/etc/ssl", "/home/user", "/root", "/var/lib", "/var/lib/kubelet", "/srv/x/.ssh", "/usr/lib"]
    {
        let config = with_mount(path, &["rbind", "rw"]);
        let words = format!("hostPaths.sensitiveWritable mounts[11].source {path}, writable -> as asked");
        has(&planned(&config, &engine()), &["finding ", &words]);
        let refusing = loosened(json!({ "hostPaths": { "sensitiveWritable": "refuse" } }));
        refused(&planned(&config, &refusing), &[path, "hostPaths.sensitiveWritable"]);
        let frozen = planned(&config, &loosened(json!({ "hostPaths": { "sensitiveWritable": "tighten" } })));
        has(&frozen, &["open_tree: ", path, "(rro,"]);
        // Read-only, and with all that is below: nothing to tell.
        has_not(&planned(&with_mount(path, &["rbind", "ro"]), &engine()), &["sensitiveWritable"]);
        let strict = operator(json!({ "hostPaths": { "beyond": "allow" }, "hooks": "allow" }));
        refused(&planned(&config, &strict), &[path, "hostPaths.sensitiveWritable"]);
    }
    // `ro` that leaves the mounts below writable is writable.
    let flat =
        loosened(json!({ "hostPaths": { "sensitiveWritable": "refuse" }, "mounts": { "recursiveReadonly": false } }));
    refused(&planned(&with_mount("/etc", &["rbind", "ro"]), &flat), &["hostPaths.sensitiveWritable"]);
    // Where volumes are.
    for path in ["/var/lib/docker/volumes/v/_data", "/home/user/src", "/srv", "/var/lib/kubelet/pods/x/volumes/y"] {
        has_not(&planned(&with_mount(path, &["rbind"]), &engine()), &["sensitiveWritable", path]);
    }
    let mine = loosened(json!({ "hostPaths": { "sensitive": ["/srv"] } }));
    has_not(&planned(&with_mount("/etc", &["rbind"]), &mine), &["sensitiveWritable"]);
    has(&planned(&with_mount("/srv", &["rbind"]), &mine), &["sensitiveWritable", "/srv, writable -> as asked"]);
    // By a link, too.
    let config = with_mount("/srv/link", &["rbind"]);
    has(&leads(&config, &engine(), "/srv/link", "/etc", None, false), &["sensitiveWritable", "/srv/link -> /etc"]);
}

#[test]
fn the_kernels_files_of_the_host_are_only_read() {
    for path in ["/proc", "/sys", "/sys/fs/cgroup", "/proc/sys/kernel"] {
        let config = with_mount(path, &["rbind", "rw"]);
        has(&planned(&config, &engine()), &["open_tree: ", path, "(rro,"]);
        let loose = planned(&config, &loosened(json!({ "mounts": { "kernelFiles": "allow" } })));
        has_not(&loose, &["open_tree: ", &format!(" {path} "), "rro"]);
        has(&loose, &["finding hostPaths.sensitiveWritable", path]);
    }
    let mut config = sent("docker");
    config["mounts"][3]["options"] = json!(["rw"]);
    has(&planned(&config, &engine()), &["mount: sysfs on /sys", "ro"]);
    has_not(
        &planned(&config, &loosened(json!({ "mounts": { "kernelFiles": "allow" } }))),
        &["mount: sysfs on /sys (ro"],
    );
}

#[test]
fn capabilities_filters_masks_and_read_only_below_have_keys_that_loosen_them() {
    let config = sent("docker");
    has(
        &planned(&config, &engine()),
        &["finding capabilities process.capabilities NET_RAW MKNOD AUDIT_WRITE SETFCAP -> not given"],
    );
    has(&planned(&config, &loosened(json!({ "capabilities": { "above": "allow" } }))), &["bounding set: ", "NET_RAW"]);
    has(
        &planned(&config, &loosened(json!({ "capabilities": { "ceiling": ["NET_RAW"] } }))),
        &["bounding set: keep NET_RAW"],
    );
    has(&planned(&config, &engine()), &["seccomp: linux.seccomp"]);
    has_not(&planned(&config, &loosened(json!({ "seccomp": { "floor": "none" } }))), &["seccomp: default"]);
    let unconfined = sent("docker-host");
    has(&planned(&unconfined, &engine()), &["seccomp: default"]);
    has_not(&planned(&unconfined, &loosened(json!({ "seccomp": { "silent": "none" } }))), &["seccomp: "]);
    has_not(&planned(&config, &loosened(json!({ "maskedPaths": [] }))), &["mask: ", "/proc/interrupts"]);
    let mut open = config.clone();
    open["linux"]["readonlyPaths"] = json!([]);
    has(&planned(&open, &engine()), &["read-only paths", "/proc/sys"]);
    has_not(&planned(&open, &loosened(json!({ "readonlyPaths": [] }))), &["read-only paths"]);
    let below = with_mount("/srv", &["rbind", "ro"]);
    has(&planned(&below, &engine()), &["open_tree: /srv and below", "(rro,rnosuid)"]);
    let flat = loosened(json!({ "mounts": { "recursiveReadonly": false, "nosuid": false } }));
    has(&planned(&below, &flat), &["open_tree: /srv and below", "(ro)"]);
    let odd = json!({ "destination": "/x", "type": "ext4", "source": "/dev/sdz" });
    open["mounts"].as_array_mut().unwrap().push(odd);
    refused(&planned(&open, &engine()), &["ext4", "mounts.types"]);
    has(&planned(&open, &loosened(json!({ "mounts": { "types": null } }))), &["mount: ext4 on /x"]);
}

#[test]
fn devices_limits_labels_and_annotations_have_keys_that_loosen_them() {
    let mut config = sent("docker");
    config["linux"]["devices"] = json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 }]);
    has(&planned(&config, &engine()), &["devices: ", "/dev/fuse"]);
    refused(&planned(&config, &loosened(json!({ "devices": "refuse" }))), &["/dev/fuse", "devices"]);
    config["linux"]["devices"] = json!([{ "path": "/dev/sdz", "type": "b", "major": 8, "minor": 400 }]);
    has(&planned(&config, &engine()), &["finding blockDevices linux.devices[0] /dev/sdz"]);
    refused(&planned(&config, &loosened(json!({ "blockDevices": "refuse" }))), &["/dev/sdz", "blockDevices"]);
    let raw = with_mount("/srv/disk", &["bind"]);
    has(&leads(&raw, &engine(), "/srv/disk", "/dev/sdz", None, true), &["finding blockDevices mounts[11].source"]);

    let unlimited = sent("docker-host");
    has(&planned(&unlimited, &engine()), &["finding unlimited linux.resources.pids.limit no limit"]);
    has(&planned(&unlimited, &loosened(json!({ "unlimited": "allow" }))), &["limits: ", "pids.max=max"]);
    has(&planned(&unlimited, &engine()), &["oom_score_adj: -500"]);
    has(&planned(&unlimited, &loosened(json!({ "oomScoreAdj": "tighten" }))), &["oom_score_adj: 0"]);
    has_not(&planned(&config, &loosened(json!({ "limits": { "pids": null } }))), &["limits: ", "pids.max"]);
    has_not(&planned(&config, &loosened(json!({ "limits": { "expected": [] } }))), &["finding limits.expected"]);
    let nowhere = |policy: &Policy| {
        let host = Host { namespaces: host().namespaces, ..hybrid() };
        plan_of(&bundle_of(&sent("podman")), policy, &host).map_err(|e| e.to_string())
    };
    refused(&nowhere(&engine()), &["linux.resources.pids.limit", "pids.max=2048 cannot be enforced"]);
    let loose = loosened(json!({ "limits": { "withoutController": "finding" } }));
    has(&nowhere(&loose), &["finding limits.withoutController linux.resources.pids.limit pids.max=2048 -> no limit"]);

    let mut config = sent("docker");
    config["process"]["apparmorProfile"] = "unconfined".into();
    has(&planned(&config, &engine()), &["finding lsm.unconfined"]);
    has(&planned(&config, &loosened(json!({ "lsm": { "unconfined": "allow" } }))), &["label: AppArmor unconfined"]);
    let told = planned(&sent("crio"), &engine());
    has(&told, &["finding foreignAnnotations annotations io.kubernetes.cri-o.ContainerID", "not obeyed"]);
    has_not(&planned(&sent("crio"), &loosened(json!({ "foreignAnnotations": "allow" }))), &["foreignAnnotations"]);
    refused(
        &planned(&sent("podman"), &loosened(json!({ "foreignAnnotations": "refuse" }))),
        &["run.oci.keep_original_groups"],
    );
    has(&planned(&config, &engine()), &["finding userNamespacesInside"]);
    has_not(&planned(&config, &loosened(json!({ "userNamespacesInside": "allow" }))), &["userNamespacesInside"]);
}

#[test]
fn an_image_build_makes_nodes_file_capabilities_and_setuid_files() {
    let config = sent("buildkit");
    let build = planned(&config, &Policy::load("engine-build").unwrap());
    has(&build, &["bounding set: ", "MKNOD", "SETFCAP"]);
    has(&build, &["seccomp: build"]);
    has_not(&planned(&config, &engine()), &["bounding set: ", "MKNOD"]);
    has(&planned(&config, &engine()), &["seccomp: default"]);
    // An operator's file can start from the one that starts from another.
    let mine = Policy::from_json(r#"{"extends":"engine-build","name":"mine","hooks":"refuse"}"#, "mine.json").unwrap();
    assert_eq!((mine.name.as_str(), mine.capabilities.ceiling.as_ref().map(Vec::len)), ("mine", Some(13)));
    refused(&planned(&config, &mine), &["hooks.prestart", "policy mine"]);
}

#[test]
fn the_docs_have_every_key_with_the_values_of_the_shipped_policies() {
    fn keys(value: &Value, here: &str, all: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(map) => {
                map.iter()
                    .for_each(|(k, v)| keys(v, &format!("{here}{}{k}", if here.is_empty() { "" } else { "." }), all));
            }
            other => all.push((here.to_owned(), other.clone())),
        }
    }
    let docs = std::fs::read_to_string(root().join("docs/policies.md")).unwrap();
    let mut wrong = Vec::new();
    for (column, name) in [(3, "strict"), (4, "engine"), (5, "oci")] {
        let text = stockade::policy::shipped_text(name).unwrap();
        let mut all = Vec::new();
        keys(&serde_json::from_str(text).unwrap(), "", &mut all);
        for (key, value) in all.into_iter().filter(|(k, _)| k != "name" && k != "about") {
            let said = match &value {
                Value::Null => "-".to_owned(),
                Value::Array(list) => if list.is_empty() { "none" } else { "list" }.to_owned(),
                Value::Number(n) => n.as_f64().unwrap().to_string(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let row = docs.lines().find(|l| l.starts_with(&format!("| `{key}` |")));
            let cell = row.and_then(|l| l.split(" | ").nth(column - 1)).map(|c| c.trim_end_matches(" |").trim());
            if cell != Some(said.as_str()) {
                wrong.push(format!("{key} under {name}: {said}, and the docs say {cell:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/policies.md\n{}", wrong.join("\n"));
}
