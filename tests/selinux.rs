//! SELinux, as far as a kernel in permissive mode shows it: the labels of processes and of mounts are real, and nothing is
//! denied. The test machine boots with it (`tests/vm/run --append "selinux=1 security=selinux"`); the policy is
//! tests/selinux/policy.cil, the least that is one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
use common::*;
use serde_json::json;
use std::path::Path;
use std::process::Command;

const DOMAIN: &str = "u:r:box_t";
const FILES: &str = "u:object_r:box_file_t";

/// Loads the policy, once; or says why there is none.
fn selinux() -> Result<(), String> {
    static LOADED: std::sync::OnceLock<Result<(), String>> = std::sync::OnceLock::new();
    LOADED.get_or_init(load).clone()
}

fn load() -> Result<(), String> {
    let dir = Path::new("/sys/fs/selinux");
    if !dir.exists() {
        return Err("SELinux is not on: boot with selinux=1 security=selinux".into());
    }
    if !Path::new("/etc/hostname").exists() || std::fs::read_to_string("/etc/hostname").unwrap().trim() != "vm" {
        return Err("loads a policy into the kernel: only in the test machine".into());
    }
    if !dir.join("load").exists() {
        assert!(Command::new("mount").args(["-t", "selinuxfs", "selinuxfs"]).arg(dir).status().unwrap().success());
    }
    let made = scratch();
    let policy = made.path().join("policy");
    let out = Command::new("secilc")
        .args(["-o", policy.to_str().unwrap(), "-f", made.path().join("contexts").to_str().unwrap()])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/selinux/policy.cil"))
        .output()
        .map_err(|e| format!("secilc: {e}"))?;
    assert!(out.status.success(), "{}", text(&out.stderr));
    std::fs::write(dir.join("load"), std::fs::read(policy).unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(dir.join("enforce")).unwrap(), "0");
    Ok(())
}

macro_rules! need_selinux {
    ($name:expr) => {
        need_root!($name);
        if let Err(why) = selinux() {
            return skip($name, &why);
        }
    };
}

/// What confines and what hides: as the config says, and with a user namespace under strict.
fn bundles(script: &str) -> Vec<(&'static str, Bundle)> {
    let allowed = json!({ "extends": "strict", "lsm": { "selinuxLabel": "allow" } });
    let oci = Bundle::usual(&["sh", "-c", script]).policy("oci");
    vec![("oci", oci), ("strict", Bundle::shell(script).operator(allowed))]
}

#[test]
fn a_process_label_is_that_of_init_and_exec() {
    need_selinux!("a_process_label_is_that_of_init_and_exec");
    let current = "tr -d '\\0' </proc/self/attr/current; echo";
    for (policy, mut bundle) in bundles(current) {
        assert_ne!(ok(&bundle.run()).trim(), DOMAIN, "{policy}: the control");
        bundle.config["process"]["selinuxLabel"] = json!(DOMAIN);
        assert_eq!(ok(&bundle.run()).trim(), DOMAIN, "{policy}");
        bundle.config["process"]["args"] = json!(["sleep", "1000"]);
        assert!(bundle.create().status.success(), "{policy}");
        // It is the workload's, not ours.
        let label = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap_or_default();
        assert!(!label(bundle.pid()).starts_with(DOMAIN), "{policy}");
        ok(&bundle.verb(&["start", "box"]));
        wait_for("the execve", || label(bundle.pid()).trim_end_matches('\0') == DOMAIN);
        assert_eq!(ok(&bundle.verb(&["exec", "box", "sh", "-c", current])).trim(), DOMAIN, "{policy}");
        // An exec cannot leave it, but where the policy lets it.
        let other = bundle.verb(&["exec", "--process-label", "u:r:host_t", "box", "sh", "-c", current]);
        assert_eq!(ok(&other).trim(), "u:r:host_t", "{policy}");
    }
}

#[test]
fn a_label_that_the_policy_does_not_know_is_refused() {
    need_selinux!("a_label_that_the_policy_does_not_know_is_refused");
    for (policy, mut bundle) in bundles("true") {
        bundle.config["process"]["selinuxLabel"] = json!("u:r:moon_t");
        let err = failed(&bundle.run());
        assert!(err.contains("label: SELinux u:r:moon_t") && err.contains("(EINVAL)"), "{policy}: {err}");
        assert!(!bundle.root().join("box").exists());
    }
    let mut bundle = Bundle::shell("true").policy("strict");
    bundle.config["process"]["selinuxLabel"] = json!(DOMAIN);
    assert!(failed(&bundle.run()).contains("lsm.selinuxLabel"));
}

#[test]
fn a_mount_label_is_on_every_file_system_that_takes_one() {
    need_selinux!("a_mount_label_is_on_every_file_system_that_takes_one");
    for (policy, mut bundle) in bundles("") {
        let script = format!("grep -F 'context={FILES}' /proc/self/mountinfo | cut -d' ' -f5");
        bundle.config["process"]["args"] = json!(["sh", "-c", script]);
        if policy == "oci" {
            bundle.config["mounts"].as_array_mut().unwrap().push(json!(
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }
            ));
        } else {
            bundle.config["mounts"] = json!([{ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }]);
        }
        bundle.config["linux"]["mountLabel"] = json!(FILES);
        bundle.write();
        let words = ["run", "--secret", "key=/dev/null", "--bundle", bundle.path().to_str().unwrap(), "box"];
        let seen = ok(&bundle.verb(&words));
        let labelled: Vec<&str> = seen.lines().collect();
        for place in ["/dev", "/dev/pts", "/dev/shm", "/tmp", "/run/secrets"] {
            assert!(labelled.contains(&place), "{policy}: {place} in {seen}");
        }
        // These are labelled by the kernel, and the one of an ipc namespace is there before it is mounted.
        for place in ["/proc", "/sys", "/dev/mqueue"] {
            assert!(!labelled.contains(&place), "{policy}: {seen}");
        }
    }
}
