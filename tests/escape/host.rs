//! What a launch leaves lying about for others, or keeps that it should not.

use crate::common::*;
use crate::harness::*;
use crate::need_root;
use serde_json::json;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// Files that others can read: by their mode, and by that of every directory on the way from `top`.
fn open_to_others(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let stat = fs::symlink_metadata(entry.path()).unwrap();
        if stat.is_dir() && stat.mode() & 0o011 != 0 {
            open_to_others(&entry.path(), found);
        } else if stat.mode() & 0o044 != 0 && !stat.is_dir() && !stat.is_symlink() {
            found.push(format!("{:o} {}", stat.mode(), entry.path().display()));
        }
    }
}

#[test]
fn cve_2021_41103_state_is_the_callers_alone() {
    let name = "cve_2021_41103_state_is_the_callers_alone";
    for case in cases(name) {
        let mut bundle = case.bundle(&["sleep", "1000"]);
        bundle.config["process"]["env"] = json!(["PATH=/bin", "SECRET=canary"]);
        // Even where the caller lets others read what it makes.
        bundle.runner.splice(0..0, ["sh", "-c", "umask 0; exec \"$@\"", "sh"].map(str::to_owned));
        case.give(bundle.path());
        ok(&bundle.create());
        assert_eq!(fs::metadata(bundle.root()).unwrap().mode() & 0o077, 0, "{case:?}: the directory of states");
        let mut found = Vec::new();
        open_to_others(&bundle.root(), &mut found);
        assert_eq!(found, [""; 0], "{case:?}");
        // The control: another user sees the bundle, and not the states.
        if is_root() {
            let as_other = |path: &Path| {
                let words = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "find"];
                let out = Command::new("setpriv").args(words).arg(path).output().unwrap();
                text(&out.stdout).lines().count()
            };
            assert!(as_other(&bundle.rootfs()) > 10, "{case:?}");
            assert_eq!(as_other(&bundle.root()), 1, "{case:?}: only that it is there");
        }
        ok(&bundle.delete());
    }
}

#[test]
fn cve_2021_21334_no_environment_of_others() {
    let name = "cve_2021_21334_no_environment_of_others";
    for case in cases(name) {
        let with = |env: &[&str]| {
            let mut bundle = case.bundle(&["env"]);
            bundle.config["process"]["env"] = json!(env);
            // The caller's own secrets, too.
            bundle.runner.splice(0..0, ["env", "CALLER_SECRET=canary-of-the-caller"].map(str::to_owned));
            let mut said: Vec<String> = ok(&bundle.run()).lines().map(str::to_owned).collect();
            said.retain(|l| !l.starts_with("HOME=") && !l.starts_with("PWD=") && !l.starts_with("SHLVL="));
            said
        };
        // The control is the first: it has its own.
        assert_eq!(with(&["PATH=/bin", "SECRET=canary"]), ["PATH=/bin", "SECRET=canary"], "{case:?}");
        assert_eq!(with(&["PATH=/bin"]), ["PATH=/bin"], "{case:?}");
    }
}

#[test]
fn cve_2022_1708_output_without_end_is_not_kept() {
    let name = "cve_2022_1708_output_without_end_is_not_kept";
    const SENT: usize = 64 << 20;
    let count = SENT.to_string();
    for case in cases(name) {
        let bundle = case.bundle(&["sleep", "1000"]);
        case.give(bundle.path());
        ok(&bundle.create());
        ok(&bundle.verb(&["start", "box"]));
        for options in [&[][..], &["--tty"]] {
            let words = [&["exec"], options, &["box", "head", "-c", &count, "/dev/zero"]].concat();
            let mut command = direct(&bundle, &words);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let mut out = child.stdout.take().unwrap();
            let (mut read, mut buffer, mut most) = (0, vec![0u8; 1 << 20], 0u64);
            loop {
                let n = out.read(&mut buffer).unwrap();
                read += n;
                let peak = proc_status(child.id() as i32, "VmHWM");
                most = most.max(peak.and_then(|p| p.split(' ').next()?.parse().ok()).unwrap_or(0));
                if n == 0 {
                    break;
                }
            }
            child.wait().unwrap();
            assert!(most > 0 && most < 32 << 10, "{options:?}, {case:?}: {most} KiB");
            // The control: it all came.
            assert_eq!(read, SENT, "{options:?}, {case:?}");
        }
        ok(&bundle.delete());
    }
}

#[test]
fn cve_2020_5291_never_with_rights_that_the_caller_lacks() {
    let name = "cve_2020_5291_never_with_rights_that_the_caller_lacks";
    need_root!(name);
    if foreign() {
        return skip(name, "a matter of this binary");
    }
    let dir = scratch();
    let copy = dir.path().join("stockade");
    assert!(Command::new("cp").arg(runtime()).arg(&copy).status().unwrap().success());
    let run = || {
        let words = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        Command::new("setpriv").args(words).arg(&copy).arg("features").output().unwrap()
    };
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    ok(&run());
    for mode in [0o4755, 0o2755, 0o6755] {
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).unwrap();
        assert!(failed(&run()).contains("setuid"), "{mode:o}");
    }
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    if !Command::new("setcap").arg("cap_chown=ep").arg(&copy).status().is_ok_and(|s| s.success()) {
        return skip(&format!("{name}, file capabilities"), "setcap is missing, or the file system has no xattrs");
    }
    assert!(failed(&run()).contains("file capabilities"));
}

#[test]
fn cve_2019_12439_no_path_that_others_can_foresee() {
    let name = "cve_2019_12439_no_path_that_others_can_foresee";
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return skip(name, "strace is missing");
    }
    for case in by_root() {
        need_root!(name);
        let mut bundle = case.bundle(&["true"]);
        let log = bundle.path().join("strace");
        bundle.runner = ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=%file", "-o"].map(str::to_owned).to_vec();
        bundle.runner.push(log.display().to_string());
        ok(&bundle.run());
        let log = fs::read_to_string(log).unwrap();
        // The control: the trace has what a launch opens.
        assert!(log.contains("config.json"), "{log}");
        let own = bundle.path().display().to_string();
        let state = bundle.root().display().to_string();
        let foreseen = log.lines().find(|l| {
            let l = l.replace(&own, "").replace(&runtime().display().to_string(), "").replace(&state, "");
            ["\"/tmp/", "\"/var/tmp/", "\"/dev/shm/"].iter().any(|place| l.contains(place))
        });
        assert_eq!(foreseen, None, "{case:?}");
    }
}
