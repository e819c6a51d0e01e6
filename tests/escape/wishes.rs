//! What a config asks for, or leaves out: strict refuses or confines it, engine does as its table says, oci exactly that.

use crate::common::*;
use crate::harness::*;
use crate::need_root;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What a policy other than `oci` makes of a wish.
enum Answer<'a> {
    /// Refused, and the error has this word.
    Refuses(&'a str),
    /// Run, and the workload says this.
    Gives(&'a str),
    /// Exactly what was asked, as `oci` does it: the engine set that up.
    Does,
    /// Exactly what was asked, or refused for this word.
    DoesOrRefuses(&'a str),
}
use Answer::{Does, DoesOrRefuses, Gives, Refuses};

/// A wish of a config: what `strict` and `engine` make of it, and what its workload says under `oci`, which is the
/// control, too.
fn wish(test: &str, script: &str, change: Attack<'_>, [strict, engine]: [&Answer<'_>; 2], oci: &dyn Fn(&str) -> bool) {
    if !is_root() {
        return skip(test, "needs root");
    }
    for case in by_root() {
        let canary = case.canary();
        assert_eq!(ok(&case.shell("echo inside").run()), INSIDE, "{test}, {case:?}: the control");
        let mut bundle = case.shell(script);
        change(&mut bundle, &canary);
        let out = bundle.run();
        let answer = match case.policy {
            "strict" => strict,
            "engine" => engine,
            _ => &Does,
        };
        match answer {
            DoesOrRefuses(word) if !out.status.success() => {
                let err = failed(&out);
                assert!(err.contains(word) && err.contains("policy"), "{test}, {case:?}: {err}");
            }
            Does | DoesOrRefuses(_) => {
                let said = ok(&out);
                assert!(oci(&said), "{test}, {case:?}: exactly what was asked: {said}");
                if case.policy == "oci" && !foreign() {
                    let (usual, asked) = (failing(&case.shell("echo inside")), failing(&bundle));
                    assert!(!asked.is_subset(&usual), "{test}: `stockade audit` does not tell: {asked:?}");
                }
            }
            Refuses(word) => {
                let err = failed(&out);
                assert!(err.contains(word) && err.contains("policy"), "{test}, {case:?}: {err}");
                canary.unchanged(test);
            }
            Gives(what) => {
                assert_eq!(ok(&out).trim_end(), *what, "{test}, {case:?}");
                canary.unchanged(test);
            }
        }
    }
}

/// What `stockade audit` finds wrong with a bundle: rows and what it saw.
fn failing(bundle: &Bundle) -> BTreeSet<(String, String)> {
    bundle.write();
    let dir = bundle.path().display().to_string();
    let out = Command::new(runtime()).args(["audit", "--format", "json", &dir]).output().unwrap();
    let all: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out.stderr)));
    let rows = all["findings"].as_array().unwrap().iter().filter(|f| f["status"] == "FAIL" || f["status"] == "WARN");
    rows.map(|f| (f["id"].to_string(), f["seen"].to_string())).collect()
}

fn remove_namespace(bundle: &mut Bundle, name: &str) {
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|n| n["type"] != name);
}

fn namespace_by_path(bundle: &mut Bundle, name: &str, path: &str) {
    remove_namespace(bundle, name);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": name, "path": path }));
}

fn of_host(name: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string()
}

#[test]
fn cve_2020_15257_the_network_of_the_host() {
    let name = "cve_2020_15257_the_network_of_the_host";
    // Left out: strict gives a new one, and the abstract sockets of daemons are not in it.
    let script = "test $(readlink /proc/self/ns/net) = $HOST && echo shared || echo own";
    let host = format!("HOST={}", of_host("net"));
    let env = |b: &mut Bundle| b.config["process"]["env"] = json!(["PATH=/bin", host]);
    let left_out = |b: &mut Bundle, _: &Canary| {
        env(b);
        remove_namespace(b, "network");
        unmount(b, &["/sys", "/sys/fs/cgroup"]);
    };
    wish(name, script, &left_out, [&Gives("own"), &Does], &|said| said == "shared\n");
    // By name.
    for (ns, path) in [
        ("network", "/proc/self/ns/net"),
        ("pid", "/proc/self/ns/pid"),
        ("ipc", "/proc/self/ns/ipc"),
        ("uts", "/proc/self/ns/uts"),
    ] {
        let named = |b: &mut Bundle, _: &Canary| {
            namespace_by_path(b, ns, path);
            unmount(b, &["/sys", "/sys/fs/cgroup", "/dev/mqueue"]);
        };
        wish(name, "echo inside", &named, [&Refuses("linux.namespaces"), &Does], &|said| said == INSIDE);
    }
}

#[test]
fn cve_2022_23648_a_volume_that_is_a_link_of_the_image() {
    let name = "cve_2022_23648_a_volume_that_is_a_link_of_the_image";
    for (source, target) in [("rootfs/volume", ""), ("rootfs/volume/dir", ""), ("rootfs/volume", "file")] {
        let change = |b: &mut Bundle, c: &Canary| {
            link(b, "/volume", &c.at(target));
            let source = b.path().join(source);
            mount(b, json!({ "destination": "/mnt/v", "type": "bind", "source": source, "options": ["rbind", "ro"] }));
        };
        let script = "find /mnt/v -type f -exec cat {} +; echo inside";
        wish(name, script, &change, [&Refuses("hostPaths"), &Does], &|said| said.ends_with(INSIDE) && said != INSIDE);
    }
}

#[test]
fn cve_2026_53488_annotations_select_no_code() {
    let name = "cve_2026_53488_annotations_select_no_code";
    for case in cases(name) {
        assert_eq!(ok(&case.shell("echo inside").run()), INSIDE, "{case:?}: the control");
        let canary = case.canary();
        let program = canary.at("new");
        for (key, value) in [
            ("run.oci.handler", "krun"),
            ("run.oci.handler", "wasm"),
            ("run.oci.hooks.stdout", program.as_str()),
            ("run.oci.hooks.stderr", program.as_str()),
            ("run.oci.keep_original_groups", "1"),
            ("run.oci.mount_context_type", "rootcontext"),
            ("run.oci.seccomp.receiver", program.as_str()),
            ("run.oci.seccomp.plugins", program.as_str()),
            ("run.oci.systemd.subgroup", "../../canary"),
            ("run.oci.delegate-cgroup", "../../canary"),
            ("org.criu.config", program.as_str()),
            ("module.wasm.image/variant", "compat"),
            ("io.katacontainers.config.hypervisor.path", program.as_str()),
        ] {
            let what = format!("{name}, {key}");
            let mut bundle = case.shell("echo inside");
            bundle.config["annotations"] = json!({ key: value });
            if let Stopped::Confined(said) = stopped(&what, case, &bundle.run()) {
                assert_eq!(said, INSIDE, "{what}, {case:?}");
            }
            canary.unchanged(&what);
        }
    }
}

#[test]
fn cve_2024_3154_properties_of_the_unit() {
    let name = "cve_2024_3154_properties_of_the_unit";
    for case in cases(name) {
        let canary = case.canary();
        let with = |key: &str, value: &str| {
            let mut bundle = case.shell("echo inside");
            bundle.config["annotations"] = json!({ format!("org.systemd.property.{key}"): value });
            stopped(&format!("{name}, {key}"), case, &bundle.run())
        };
        let evil = format!("['/bin/sh', '-c', 'touch {}']", canary.at("new"));
        // Without a unit there is nothing that they could be properties of; with one, tests/systemd.rs sees them refused.
        let keys =
            ["ExecStartPre", "ExecStart", "ExecStopPost", "Slice", "User", "OnFailure", "RootDirectory", "TasksMax"];
        for key in keys {
            let stop = with(key, &evil);
            assert!(
                matches!(&stop, Stopped::Refused(_)) || stop == Stopped::Confined(INSIDE.into()),
                "{key}: {stop:?}"
            );
            assert!(!stockade::plan::unit::KNOWN.iter().any(|(known, _)| *known == key), "{key} is on the list");
        }
        canary.unchanged(name);
        // The control: a property that harms nobody.
        assert_eq!(with("CollectMode", "'inactive-or-failed'"), Stopped::Confined(INSIDE.into()), "{case:?}");
    }
}

/// A cgroup of the host that belongs to the caller, as systemd delegates one to every user; the container gets no cgroup
/// namespace, and its cgroups by each of the ways that a config has. The control writes there from outside.
#[test]
fn cve_2023_25809_the_cgroups_of_the_host() {
    let name = "cve_2023_25809_the_cgroups_of_the_host";
    need_root!(name);
    let top = cgroup_mount();
    let types = [
        ("cgroup", json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"] })),
        ("rbind", json!({ "destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"] })),
        (
            "rbind elsewhere",
            json!({ "destination": "/mnt", "type": "bind", "source": "/sys", "options": ["rbind", "ro"] }),
        ),
    ];
    for case in cases(name) {
        for (way, wanted) in &types {
            let own = top.join(format!("stockade-canary-{}-{}", std::process::id(), case.uid));
            fs::create_dir(&own).unwrap();
            let _unmade = Unmade(own.clone());
            case.give(&own);
            let script = format!(
                "mount | grep -q ' type cgroup2' && echo seen
                for d in $(find /sys /mnt -maxdepth 5 -type d -name {} 2>/dev/null); do mkdir $d/by-$$ && echo \"made in $d\"; done; \
                echo inside",
                own.file_name().unwrap().display()
            );
            // The control: whom it is given to can write there.
            let outside = case.program(&["mkdir", own.join("outside").to_str().unwrap()]).status().unwrap();
            assert!(outside.success(), "{case:?}");
            let mut bundle = case.shell(&script);
            remove_namespace(&mut bundle, "cgroup");
            unmount(&mut bundle, &["/sys/fs/cgroup"]);
            if *way == "rbind" {
                unmount(&mut bundle, &["/sys"]);
            }
            mount(&mut bundle, wanted.clone());
            let out = bundle.run();
            assert!(matches!(stopped(name, case, &out), Stopped::Refused(_)) || text(&out.stdout).ends_with(INSIDE));
            assert!(!text(&out.stdout).contains("made in"), "{way}, {case:?}: {}", text(&out.stdout));
            let left: Vec<_> = fs::read_dir(&own).unwrap().flatten().filter(|e| e.path().is_dir()).collect();
            assert_eq!(left.len(), 1, "{way}, {case:?}: {left:?}");
            // Not in vain: under oci the tree is there.
            if case.policy == "oci" && *way != "cgroup" {
                assert!(out.status.success(), "{way}, {case:?}: {}", text(&out.stderr));
                assert!(text(&out.stdout).contains("seen"), "{way}, {case:?}: {}", text(&out.stdout));
            }
        }
    }
}

/// A cgroup of a test and what is in it.
struct Unmade(std::path::PathBuf);

impl Drop for Unmade {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn cve_2023_6476_annotations_loosen_no_limit() {
    let name = "cve_2023_6476_annotations_loosen_no_limit";
    need_root!(name);
    for case in by_root() {
        let script = "grep -v : /sys/fs/cgroup/pids.max; sed -n '/^Seccomp:/p;/^NoNew/p;/^CapEff/p' /proc/self/status; echo inside";
        let said = |annotations: Value| {
            let mut bundle = case.shell(script);
            bundle.config["annotations"] = annotations;
            let out = bundle.run();
            stopped(name, case, &out)
        };
        let plain = said(json!({}));
        assert!(matches!(&plain, Stopped::Confined(s) if s.ends_with(INSIDE)), "{plain:?}");
        for key in [
            "io.kubernetes.cri-o.UnifiedCgroup.box",
            "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw",
            "stockade.policy",
            "io.containers.privileged",
            "run.oci.no_pivot",
            "org.opencontainers.stockade.policy",
        ] {
            for value in ["oci", "pids.max=max", "true"] {
                let stop = said(json!({ key: value }));
                assert!(stop == plain || matches!(stop, Stopped::Refused(_)), "{key}={value}, {case:?}: {stop:?}");
            }
        }
    }
}

#[test]
fn cve_2025_23266_a_hook_has_its_own_environment() {
    let name = "cve_2025_23266_a_hook_has_its_own_environment";
    let change = |b: &mut Bundle, _: &Canary| {
        let file = b.path().join("hook.env");
        b.config["process"]["env"] =
            json!(["PATH=/bin", "LD_PRELOAD=/canary.so", "LD_LIBRARY_PATH=/", "BASH_ENV=/canary"]);
        b.runner.splice(0..0, ["env", "CALLER_SECRET=canary"].map(str::to_owned));
        let script = format!("/usr/bin/env >{}; echo caller: >>{0}", file.display());
        b.config["hooks"] =
            json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["OWN=1"] }] });
    };
    wish(name, "echo inside", &change, [&Refuses("hooks"), &Does], &|said| said == INSIDE);
    // What the hook had.
    let case = Case { policy: "oci", uid: 0 };
    if !is_root() {
        return;
    }
    let mut bundle = case.shell("echo inside");
    change(&mut bundle, &case.canary());
    ok(&bundle.run());
    let had = fs::read_to_string(bundle.path().join("hook.env")).unwrap();
    assert!(had.contains("OWN=1") && !had.contains("LD_") && !had.contains("canary"), "{had}");
    // A path that is not absolute would be looked up by whoever chooses the directory.
    bundle.config["hooks"]["createRuntime"][0]["path"] = json!("sh");
    assert!(foreign() || failed(&bundle.run()).contains("hooks.createRuntime[0].path"));
}

#[test]
fn cve_2024_3056_memory_of_shm_has_an_end() {
    let name = "cve_2024_3056_memory_of_shm_has_an_end";
    need_root!(name);
    for case in by_root().into_iter().filter(|c| c.policy == "strict") {
        let script = "sed -n 's/.* \\/dev\\/shm .*size=\\([0-9]*k\\).*/\\1/p' /proc/self/mounts";
        let mut bundle = case.shell(script);
        unmount(&mut bundle, &["/dev/shm"]);
        assert_eq!(ok(&bundle.run()), "65536k\n", "{case:?}: silent");
        // The control: an asked size is seen by the same eyes.
        let mut bundle = case.shell(script);
        bundle.config["mounts"][3]["options"] = json!(["nosuid", "noexec", "nodev", "size=1024k"]);
        assert_eq!(ok(&bundle.run()), "1024k\n", "{case:?}");
    }
}

#[test]
fn ghsa_jq35_85cj_fj4p_what_tells_of_the_hardware_is_masked() {
    let name = "ghsa_jq35_85cj_fj4p_what_tells_of_the_hardware_is_masked";
    // A config with masks of its own, which lack these.
    let script = "for f in /proc/interrupts /proc/timer_list /proc/kcore /proc/sched_debug; do [ -e $f ] && head -c 1 $f 2>/dev/null | wc -c; done; \
        for d in /sys/devices/virtual/powercap /sys/firmware /sys/devices/system/cpu/cpu*/thermal_throttle; do [ -d $d ] && ls -A $d | wc -l; done; true";
    let change = |b: &mut Bundle, _: &Canary| b.config["linux"]["maskedPaths"] = json!([]);
    if !is_root() {
        return skip(name, "needs root");
    }
    for case in by_root() {
        let canary = case.canary();
        let mut bundle = case.shell(script);
        change(&mut bundle, &canary);
        let said = ok(&bundle.run());
        let zero = said.lines().all(|l| l == "0");
        assert!(!said.is_empty() && zero == (case.policy != "oci"), "{case:?}: {said}");
    }
}

#[test]
fn a_config_that_says_nothing() {
    let name = "a_config_that_says_nothing";
    need_root!(name);
    for case in by_root().into_iter().filter(|c| c.policy != "oci") {
        let mut bundle = case.shell("sed -n '/^Cap/p;/^NoNew/p;/^Seccomp:/p' /proc/self/status; touch /x 2>&1; true");
        let process = &bundle.config["process"];
        let mut silent = json!({ "ociVersion": "1.0.2", "process": process, "root": { "path": "rootfs" } });
        // An engine always names these: silence about them is its wish.
        if case.policy == "engine" {
            silent["mounts"] = bundle.config["mounts"].clone();
            silent["linux"] = json!({ "namespaces": bundle.config["linux"]["namespaces"] });
            silent["root"]["readonly"] = json!(true);
        }
        bundle.config = silent;
        let said = ok(&bundle.run());
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(said.contains(&format!("{set}:\t0000000000000000")), "{case:?}: {said}");
        }
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "Read-only file system"] {
            assert!(said.contains(line), "{line}, {case:?}: {said}");
        }
    }
}

#[test]
fn capabilities_that_are_not_listed_are_none() {
    let name = "capabilities_that_are_not_listed_are_none";
    for case in cases(name) {
        for sets in [Value::Null, json!({}), json!({ "bounding": [], "effective": [] })] {
            let mut bundle = case.shell("sed -n '/^Cap/p' /proc/self/status");
            bundle.config["process"]["capabilities"] = sets.clone();
            let said = ok(&bundle.run());
            assert_eq!(said.matches("\t0000000000000000\n").count(), 5, "{sets}, {case:?}: {said}");
        }
        // The control: what is listed is there.
        let mut bundle = case.shell("sed -n '/^CapBnd/p' /proc/self/status");
        bundle.config["process"]["capabilities"] = json!({ "bounding": ["CAP_KILL"] });
        assert_eq!(ok(&bundle.run()), "CapBnd:\t0000000000000020\n", "{case:?}");
    }
}

#[test]
fn read_only_that_stops_at_the_next_mount() {
    let name = "read_only_that_stops_at_the_next_mount";
    need_root!(name);
    for case in by_root() {
        // In a mount namespace of its own, so that the host gets no mount.
        let script = "touch /mnt/below/new 2>/dev/null && echo written || echo shut";
        let keys = json!({ "hostPaths": { "allowed": [], "beyond": "allow" } });
        let mut bundle = case.loose(&sh(script), &keys);
        let tree = bundle.path().join("tree");
        fs::create_dir_all(tree.join("below")).unwrap();
        let mounting = format!("mount -t tmpfs -o mode=1777 t {}/below && exec \"$@\"", tree.display());
        let outer = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &mounting, "sh"].map(str::to_owned);
        bundle.runner.splice(0..0, outer);
        let with = |bundle: &mut Bundle, word: &str| {
            bundle.config["mounts"].as_array_mut().unwrap().truncate(7);
            mount(bundle, json!({ "destination": "/mnt", "type": "bind", "source": tree, "options": ["rbind", word] }));
            ok(&bundle.run())
        };
        assert_eq!(with(&mut bundle, "rro"), "shut\n", "{case:?}");
        // As the specification has it, `ro` is the mount alone; who wants more says rro, or has a policy that does.
        assert_eq!(with(&mut bundle, "ro"), if case.policy == "oci" { "written\n" } else { "shut\n" }, "{case:?}");
        assert_eq!(with(&mut bundle, "rw"), "written\n", "{case:?}: the control");
    }
}

#[test]
fn sockets_and_directories_of_the_host() {
    let name = "sockets_and_directories_of_the_host";
    let listing = "ls -A /mnt/v 2>/dev/null | wc -l; echo inside";
    for source in
        ["/", "/etc", "/proc", "/sys", "/dev", "/root", "/run", "/usr/..", "/proc/self/root", "/boot", "/var/run"]
    {
        if !Path::new(source).exists() {
            continue;
        }
        let change = |b: &mut Bundle, _: &Canary| {
            mount(b, json!({ "destination": "/mnt/v", "type": "bind", "source": source, "options": ["bind", "ro"] }));
        };
        wish(name, listing, &change, [&Refuses("mounts[7]"), &DoesOrRefuses("mounts[7]")], &|said| {
            said.ends_with(INSIDE)
        });
    }
    let slave = |b: &mut Bundle, _: &Canary| b.config["linux"]["rootfsPropagation"] = json!("slave");
    wish(name, "echo inside", &slave, [&Refuses("linux.rootfsPropagation"), &Does], &|said| said == INSIDE);
    let log = |b: &mut Bundle, _: &Canary| {
        let node =
            json!({ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 438, "uid": 0, "gid": 0 });
        b.config["linux"]["devices"] = json!([node]);
    };
    wish(name, "echo inside", &log, [&Refuses("linux.devices"), &Does], &|said| said == INSIDE);
}
