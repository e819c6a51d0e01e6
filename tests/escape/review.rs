//! Ways out, or ways to do harm, that a review of the whole source found open: each closed, and each with a control that
//! shows that the attack would work if nothing stood in its way.

use crate::common::*;
use crate::need_root;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A cgroup that the test made, with a process in it or below it.
struct Victim {
    top: PathBuf,
    dir: PathBuf,
    process: Child,
}

impl Victim {
    fn new(name: &str, below: &str) -> Victim {
        let top = cgroup_mount().join(name);
        let dir = top.join(below);
        fs::create_dir_all(&dir).unwrap();
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(dir.join("cgroup.procs"), process.id().to_string()).unwrap();
        Victim { top, dir, process }
    }

    fn lives(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        wait_for("an empty cgroup", || !self.dir.exists() || fs::remove_dir(&self.dir).is_ok());
        let _ = fs::remove_dir(&self.top);
    }
}

#[test]
fn a_cgroup_of_others_is_neither_taken_nor_killed() {
    let name = "a_cgroup_of_others_is_neither_taken_nor_killed";
    need_root!(name);
    let own = format!("seed-{}", std::process::id());
    if fs::create_dir(cgroup_mount().join(&own)).and_then(|()| fs::remove_dir(cgroup_mount().join(&own))).is_err() {
        return skip(name, "no cgroup can be made at the top");
    }
    // The second has no process of its own, as every slice of systemd.
    for (place, below) in [("service", ""), ("slice", "unit")] {
        let path = format!("/{own}-{place}");
        let mut victim = Victim::new(path.trim_start_matches('/'), below);
        let mut bundle = Bundle::silent(&["true"]);
        bundle.config["linux"] = json!({ "cgroupsPath": path });
        let err = failed(&bundle.run());
        assert!(err.contains("exists and is in use"), "{err}");
        ok(&bundle.delete());
        assert!(victim.lives(), "{place}: the process of others was killed");
        // Nothing was written to it either.
        if let Ok(pids) = fs::read_to_string(victim.top.join("pids.max")) {
            assert_eq!(pids.trim(), "max");
        }
    }
    // Control: the path itself is not what is refused.
    let mut bundle = Bundle::silent(&["true"]);
    bundle.config["linux"] = json!({ "cgroupsPath": format!("/{own}-free") });
    ok(&bundle.run());
}

#[test]
fn a_bundle_cannot_be_root_in_a_directory_of_the_host() {
    let name = "a_bundle_cannot_be_root_in_a_directory_of_the_host";
    need_root!(name);
    let host = scratch();
    fs::write(host.path().join("secret"), "mine").unwrap();
    fs::set_permissions(host.path().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let with = |bundle: Bundle| {
        let mut bundle = bundle;
        let options = ["rbind", "rw", "idmap"];
        bundle.config["mounts"] =
            json!([{ "destination": "/mnt", "type": "none", "source": host.path(), "options": options }]);
        bundle
    };
    let attack = || Bundle::shell("cat /mnt/secret; echo x >/mnt/new");
    let err = failed(&with(attack()).run());
    assert!(err.contains("mounts[0].options") && err.contains("mounts.idmap"), "{err}");
    assert!(!host.path().join("new").exists());
    let allowed =
        with(attack().operator(json!({ "extends": "strict", "name": "mine", "mounts": { "idmap": "allow" }, "hostPaths": { "beyond": "allow" } })));
    let out = allowed.run();
    if text(&out.stderr).contains("cannot be idmapped") {
        return skip(name, "this file system cannot be idmapped: no control");
    }
    assert_eq!(ok(&out), "mine");
    assert!(host.path().join("new").exists());
}

#[test]
fn the_files_of_the_kernel_appear_only_where_they_are_masked() {
    let name = "the_files_of_the_kernel_appear_only_where_they_are_masked";
    need_root!(name);
    let mounts = [
        json!({ "destination": "/mnt", "type": "proc", "source": "proc" }),
        json!({ "destination": "/mnt", "type": "sysfs", "source": "sysfs" }),
        json!({ "destination": "/mnt", "type": "none", "source": "/proc", "options": ["rbind"] }),
        json!({ "destination": "/proc", "type": "none", "source": "/proc", "options": ["rbind"] }),
        json!({ "destination": "/mnt", "type": "none", "source": "../../../../proc/1", "options": ["rbind"] }),
    ];
    for mount in &mounts {
        let mut bundle = Bundle::silent(&["true"]);
        bundle.config["mounts"] = json!([mount]);
        let err = failed(&bundle.run());
        assert!(err.contains("mounts.kernelFiles"), "{mount}: {err}");
    }
    // Control: there, nothing is masked, and the host's processes are seen.
    let loose = json!({ "extends": "strict", "name": "loose", "mounts": { "kernelFiles": "allow" }, "hostPaths": { "beyond": "allow", "sensitiveWritable": "allow" } });
    let mut bundle = Bundle::shell("wc -c </mnt/interrupts; wc -c </proc/interrupts").operator(loose.clone());
    bundle.config["mounts"] = json!([mounts[0]]);
    let sizes = ok(&bundle.run());
    let sizes: Vec<&str> = sizes.split_whitespace().collect();
    assert!(sizes[0] != "0" && sizes[1] == "0", "{sizes:?}");
    let mut bundle = Bundle::shell(&format!("test -d /mnt/{}", std::process::id())).operator(loose);
    bundle.config["mounts"] = json!([mounts[2]]);
    ok(&bundle.run());
}

#[test]
fn root_with_few_capabilities_is_still_root_of_the_host() {
    let name = "root_with_few_capabilities_is_still_root_of_the_host";
    need_root!(name);
    let few = |bundle: Bundle| {
        let mut bundle = bundle;
        bundle.runner = ["setpriv", "--bounding-set", "-sys_admin"].map(str::to_owned).to_vec();
        bundle
    };
    let attack = || few(Bundle::silent(&["cat", "/proc/self/uid_map"]));
    let err = failed(&attack().run());
    assert!(err.contains("hostRootMapped"), "{err}");
    let loose = json!({ "extends": "strict", "name": "loose", "hostRootMapped": "allow", "callerGroups": "allow" });
    let map = ok(&attack().operator(loose).run());
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "0", "1"]);
}

#[test]
fn a_hook_that_says_much_and_reads_nothing_neither_blocks_nor_kills() {
    let name = "a_hook_that_says_much_and_reads_nothing_neither_blocks_nor_kills";
    need_root!(name);
    for moment in ["createRuntime", "createContainer"] {
        let mut bundle = Bundle::usual(&["true"]).policy("oci");
        let made = bundle.path().join("made");
        let script = format!(
            "umask; exec <&-; head -c 300000 /dev/zero | tr '\\0' x >&2; touch {}; exit ${{1:-0}}",
            made.display()
        );
        let hook = |code: &str| {
            let env = ["PATH=/usr/bin:/bin"];
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script, "sh", code], "env": env, "timeout": 60 }])
        };
        // More than a pipe holds: whoever writes it to one waits for a reader.
        bundle.config["annotations"] = json!({ "big": "x".repeat(300_000) });
        bundle.config["hooks"] = json!({ moment: hook("0") });
        ok(&bundle.run());
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o022, 0, "{moment}: anybody may write there");
        // Control: it ran as a hook, and its end counts.
        bundle.config["hooks"] = json!({ moment: hook("3") });
        let err = failed(&bundle.run());
        assert!(err.contains("exit status 3: xxx"), "{err}");
    }
}

#[test]
fn a_caller_that_ignores_its_children_gets_their_status_all_the_same() {
    let bundle = Bundle::shell("exit 7");
    bundle.write();
    let mut words = vec![runtime().display().to_string(), "--root".into(), bundle.root().display().to_string()];
    words.extend(["run".into(), "--bundle".into(), bundle.path().display().to_string(), "box".into()]);
    let ignoring = |words: &[String]| {
        Command::new("env").arg("--ignore-signal=CHLD").args(words).stdin(Stdio::null()).output().unwrap()
    };
    // Control: bit 16 is SIGCHLD.
    let said = ok(&ignoring(&["grep", "SigIgn", "/proc/self/status"].map(str::to_owned)));
    let mask = said.split_whitespace().nth(1).unwrap();
    assert_ne!(u64::from_str_radix(mask, 16).unwrap() & (1 << 16), 0, "env does not ignore SIGCHLD: {said}");
    let out = ignoring(&words);
    if !is_root() && text(&out.stderr).contains("user namespace") {
        return skip(
            "a_caller_that_ignores_its_children_gets_their_status_all_the_same",
            "no user namespaces for this user",
        );
    }
    assert_eq!(out.status.code(), Some(7), "{}", text(&out.stderr));
}

#[test]
fn a_pid_file_is_not_written_through_a_link_of_others() {
    let name = "a_pid_file_is_not_written_through_a_link_of_others";
    need_root!(name);
    let bundle = Bundle::silent(&["true"]);
    bundle.write();
    let precious = bundle.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    let pid = bundle.path().join("pid");
    symlink(&precious, bundle.path().join("pid.new")).unwrap();
    let (file, dir) = (pid.display().to_string(), bundle.path().display().to_string());
    ok(&bundle.verb(&["run", "--pid-file", &file, "--bundle", &dir, "box"]));
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    // Control: the file was written.
    assert!(fs::read_to_string(&pid).unwrap().parse::<i32>().is_ok());
}

#[test]
fn a_bundle_names_nothing_of_the_host_outside_itself() {
    let name = "a_bundle_names_nothing_of_the_host_outside_itself";
    need_root!(name);
    // A directory that is root's alone, with a program in it: as a rootfs it would be idmapped, and so read.
    let host = scratch();
    make_rootfs(host.path());
    fs::write(host.path().join("secret"), "mine").unwrap();
    fs::set_permissions(host.path().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let loose =
        || Bundle::shell("cat /secret").operator(json!({ "extends": "strict", "hostPaths": { "beyond": "allow" } }));
    let rooted = |mut bundle: Bundle| {
        bundle.config["root"]["path"] = json!(host.path());
        bundle
    };
    let err = failed(&rooted(Bundle::shell("cat /secret")).run());
    assert!(err.contains("root.path") && err.contains("hostPaths"), "{err}");
    assert_eq!(ok(&rooted(loose()).run()), "mine");

    // As a volume: outright, by .., and through links of the bundle, at the end or on the way.
    let attack = |bundle: Bundle, source: &str| {
        let mut bundle = bundle;
        fs::create_dir(bundle.path().join("in")).unwrap();
        fs::write(bundle.path().join("in/own"), "own").unwrap();
        symlink(host.path(), bundle.path().join("last")).unwrap();
        symlink(host.path().parent().unwrap(), bundle.path().join("way")).unwrap();
        symlink("in", bundle.path().join("inside")).unwrap();
        bundle.config["process"]["args"] = json!(["ls", "/mnt"]);
        bundle.config["mounts"] = json!([{ "destination": "/mnt", "source": source, "options": ["bind"] }]);
        bundle.run()
    };
    let direct = host.path().display().to_string();
    let leaf = host.path().file_name().unwrap().to_string_lossy().into_owned();
    for source in [&direct, &format!("../{leaf}"), &format!("in/../../{leaf}")] {
        let err = failed(&attack(Bundle::silent(&[]), source));
        assert!(err.contains("mounts[0].source") && err.contains("hostPaths"), "{source}: {err}");
    }
    for source in ["last", &format!("way/{leaf}")] {
        let err = failed(&attack(Bundle::silent(&[]), source));
        assert!(err.contains("EXDEV") && err.contains("leads out of the bundle"), "{source}: {err}");
        // The control: the operator allows it, and the kernel's own rights are all that is left.
        let out = attack(loose(), source);
        assert!(text(&out.stderr).contains("Permission denied") || out.status.success(), "{}", text(&out.stderr));
    }
    // What lies in the bundle is the bundle's, also through a link that stays inside.
    for source in ["in", "inside", "./in/../in"] {
        assert_eq!(ok(&attack(Bundle::silent(&[]), source)), "own\n", "{source}");
    }
}
