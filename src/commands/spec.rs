//! `spec`: a config.json to start from, the shape that every caller of runc edits with jq.

use crate::cli::Spec;
use crate::error::{Context, Error, Result};
use nix::unistd::{getegid, geteuid};
use serde_json::{Value, json};
use std::io::Write;

/// `stockade spec`.
pub fn spec(args: &Spec) -> Result<i32> {
    let path = args.bundle.join("config.json");
    let shown = path.display().to_string();
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(|e| {
        let error = Error::io("spec", shown.as_str(), &e);
        if e.kind() == std::io::ErrorKind::AlreadyExists {
            error.hint("remove it first: nothing is overwritten")
        } else {
            error
        }
    })?;
    let mut config = template();
    if args.rootless {
        rootless(&mut config);
    }
    let text = serde_json::to_string_pretty(&config).map_err(|e| Error::new("spec", shown.as_str(), e.to_string()))?;
    writeln!(file, "{text}").at("spec", &shown)?;
    Ok(0)
}

fn template() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": crate::state::OCI_VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "stockade",
        "mounts": mounts(),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "cgroup" }
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

/// The seven mounts of a plain container.
pub fn mounts() -> Value {
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
          "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
          "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
          "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
    ])
}

fn rootless(config: &mut Value) {
    if let Some(list) = config["linux"]["namespaces"].as_array_mut() {
        // A network that is the user's own is set up by somebody else, or is lo alone.
        list.retain(|n| n["type"] != "network");
        list.push(json!({ "type": "user" }));
    }
    let map = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
    config["linux"]["uidMappings"] = map(geteuid().as_raw());
    config["linux"]["gidMappings"] = map(getegid().as_raw());
    if let Some(linux) = config["linux"].as_object_mut() {
        linux.remove("resources");
    }
    if let Some(mounts) = config["mounts"].as_array_mut() {
        for mount in mounts {
            if mount["destination"] == "/dev/pts" {
                // gid 5 has no id outside.
                mount["options"] = json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
            }
            if mount["destination"] == "/sys" {
                // Without a network namespace a fresh sysfs is EPERM.
                *mount = json!({ "destination": "/sys", "type": "none", "source": "/sys",
                    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] });
            }
        }
    }
}
