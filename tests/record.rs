//! `stockade seccomp`: profiles recorded from runs, tried on them, explained and compared. Recorded profiles of python3, git,
//! nginx and redis are in tests/programs.rs, where these programs are.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;
use caller::Caller;
use common::*;
use serde_json::{Value, json};
use std::path::Path;

/// Threads, a child, a socket, and the file that it is told to make.
const WORK: &str = "import os, socket, subprocess, sys, threading\n\
t = threading.Thread(target=print, args=('thread',), kwargs={'flush': True}); t.start(); t.join()\n\
print(subprocess.run(['echo', 'child'], capture_output=True, text=True).stdout, end='')\n\
socket.socket(socket.AF_UNIX).close()\n\
if len(sys.argv) > 1: os.mkdir('/tmp/made'); print(os.path.isdir('/tmp/made'))";

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn one() -> Caller {
    if is_root() { Caller::root() } else { Caller::me() }
}

#[test]
fn a_recorded_profile_lets_the_same_run_and_denies_the_rest() {
    for caller in Caller::all("a_recorded_profile_lets_the_same_run_and_denies_the_rest") {
        let file = caller.own_dir("out").join("made.json");
        let name = file.display().to_string();
        let work = ["--", "python3", "-c", WORK];
        let out = caller.stockade(&[&["seccomp", "record", "--output", &name][..], &work].concat());
        assert_eq!(ok(&out), "thread\nchild\n", "as {}", caller.uid);
        let err = text(&out.stderr);
        assert!(err.contains("confines nothing") && err.contains("socket(AF_UNIX, SOCK_STREAM"), "{err}");
        assert!(err.lines().last().unwrap().contains("the command's status was 0"), "{err}");
        let count: u64 =
            err.lines().find(|l| l.ends_with(" openat")).unwrap().split_whitespace().next().unwrap().parse().unwrap();
        assert!(count > 10, "{err}");

        // The same runs, and denies nothing of it.
        let check = |more: &[&str]| caller.stockade(&[&["seccomp", "check", &name][..], &work, more].concat());
        let out = check(&[]);
        assert_eq!(ok(&out), "thread\nchild\n");
        assert!(text(&out.stderr).contains("denied nothing that it needed"), "{}", text(&out.stderr));
        // What was not seen is denied, said, and a status.
        let out = check(&["more"]);
        let err = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{err}");
        assert!(err.contains("denied: mkdir(\"/tmp/made\"") && err.contains("denied 1x mkdir"), "{err}");
        // A second run is merged in.
        let merge = ["seccomp", "record", "--merge", &name, "--output", &name];
        ok(&caller.stockade(&[&merge[..], &work, &["more"]].concat()));
        assert_eq!(ok(&check(&["more"])), "thread\nchild\nTrue\n");
        assert_eq!(ok(&check(&[])), "thread\nchild\n");

        // It is the least: by name, and where the name does not say it, by argument.
        let profile = read(&file);
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let says = |call: &[&str]| caller.stockade(&[&["seccomp", "test", &name], call].concat()).status.code();
        for call in
            [&["socket", "AF_UNIX", "SOCK_STREAM|SOCK_CLOEXEC"][..], &["clone", "CLONE_VM|CLONE_THREAD"], &["execve"]]
        {
            assert_eq!(says(call), Some(0), "{call:?}");
        }
        for call in [
            &["socket", "AF_INET"][..],
            &["clone", "CLONE_NEWUSER"],
            &["ioctl", "0", "TIOCSTI"],
            &["ptrace"],
            &["chroot"],
            &["personality", "8"],
            &["prctl", "PR_SET_MM"],
        ] {
            assert_eq!(says(call), Some(2), "{call:?}");
        }
        assert_eq!(caller.left(), [""; 0], "left behind");
    }
}

/// A bundle with a profile of its own: what it would deny is recorded, and the floor is not.
#[test]
fn a_bundle_is_recorded_without_its_own_profile_and_on_the_floor() {
    need_root!("a_bundle_is_recorded_without_its_own_profile_and_on_the_floor");
    for (policy, no_new_privs) in [("strict", true), ("oci", true), ("oci", false)] {
        let script = "mkdir /dev/shm/made && unshare -U true 2>/dev/null; echo done";
        let mut bundle = Bundle::usual(&["sh", "-c", script]).policy(policy);
        bundle.config["process"]["noNewPrivileges"] = no_new_privs.into();
        bundle.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            { "names": ["execve", "write", "exit_group"], "action": "SCMP_ACT_ALLOW" }] });
        bundle.write();
        let dir = bundle.path().display().to_string();
        let file = bundle.path().join("made.json");
        let name = file.display().to_string();
        let out = bundle.verb(&["seccomp", "record", "--bundle", &dir, "--output", &name]);
        assert_eq!(ok(&out), "done\n", "{policy}");
        let has = |call: &[&str]| bundle.verb(&[&["seccomp", "test", &name], call].concat()).status.success();
        assert!(has(&["mkdir"]), "{policy}");
        assert_eq!(has(&["unshare", "CLONE_NEWUSER"]), policy == "oci");
        assert_eq!(has(&["capset"]) && has(&["prctl"]), !no_new_privs, "what the runtime needs without no_new_privs");
        // With it the bundle runs, and by check as well.
        let out = bundle.verb(&["seccomp", "check", &name, "--bundle", &dir]);
        assert_eq!(ok(&out), "done\n", "{}", text(&out.stderr));
        bundle.config["linux"]["seccomp"] = read(&file);
        assert_eq!(ok(&bundle.run()), "done\n");
        bundle.config["process"]["args"] =
            json!(["sh", "-c", "mkdir /dev/shm/made; rmdir /dev/shm/made 2>&1; echo done"]);
        assert_eq!(ok(&bundle.run()), "rmdir: '/dev/shm/made': Operation not permitted\ndone\n");
    }
}

#[test]
fn profiles_are_shown_compared_and_asked() {
    let dir = scratch();
    let verb = |args: &[&str]| {
        std::process::Command::new(runtime()).arg("seccomp").args(args).current_dir(dir.path()).output().unwrap()
    };
    let shown = ok(&verb(&["show", "default"]));
    for words in ["what is not named: EPERM", "\nallow (", "EPERM if arg1 & 0xffffffff == 0x5412", "\nENOSYS ("] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let plain = shown.lines().filter(|l| !l.contains(" if "));
    assert!(plain.clone().all(|l| l.len() <= 80), "{:?}", plain.max_by_key(|l| l.len()));
    // What is printed is read again, by itself and within a config.json.
    std::fs::write(dir.path().join("mine.json"), ok(&verb(&["show", "--json", "default"]))).unwrap();
    let mine: Value = read(&dir.path().join("mine.json"));
    std::fs::write(
        dir.path().join("config.json"),
        json!({ "ociVersion": "1.0.2", "linux": { "seccomp": mine } }).to_string(),
    )
    .unwrap();
    for name in ["mine.json", "config.json"] {
        let out = verb(&["diff", "default", name]);
        assert!(ok(&out).contains("mean the same"), "{name}: {}", text(&out.stdout));
    }
    let out = verb(&["diff", "docker", "default"]);
    assert_eq!(out.status.code(), Some(2));
    let lines = text(&out.stdout);
    assert!(lines.lines().any(|l| l.starts_with("ptrace ") && l.ends_with("allow  ->  EPERM")), "{lines}");
    assert!(lines.lines().any(|l| l.starts_with("io_uring_setup ") && l.ends_with("EPERM  ->  ENOSYS")), "{lines}");
    assert!(!lines.contains("\nread "), "{lines}");
    let out = verb(&["test", "default", "socket", "AF_ALG", "SOCK_SEQPACKET", "0"]);
    assert_eq!(
        (out.status.code(), text(&out.stdout).as_str()),
        (Some(2), "socket(AF_ALG, SOCK_SEQPACKET, 0): EAFNOSUPPORT, by syscalls[14]\n")
    );
    assert_eq!(ok(&verb(&["test", "default", "getpid"])), "getpid(): allow, by syscalls[0]\n");
    let out = verb(&["test", "default", "openat", "-100", "0", "O_CREAT|O_WRONLY", "0o4755"]);
    assert!(text(&out.stdout).ends_with(": EPERM, by the default action\n"), "{}", text(&out.stdout));
}

#[test]
fn what_is_wrong_is_one_line_and_nothing_is_left() {
    let caller = one();
    let dir = caller.own_dir("out");
    std::fs::write(dir.join("bad.json"), "{\"defaultAction\": \"SCMP_ACT_NONE\"}").unwrap();
    std::fs::write(dir.join("none.json"), "{\"ociVersion\": \"1.0.2\"}").unwrap();
    std::fs::write(
        dir.join("empty.json"),
        "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [], \"action\": \"SCMP_ACT_KILL\"}]}",
    )
    .unwrap();
    let at = |name: &str| dir.join(name).display().to_string();
    let (bad, none, empty, missing) = (at("bad.json"), at("none.json"), at("empty.json"), at("missing.json"));
    let under = format!("{missing}/x");
    for (line, words) in [
        (vec!["show", bad.as_str()], &["bad.json", "SCMP_ACT_NONE"][..]),
        (vec!["show", &none], &["none.json", "without linux.seccomp"]),
        (vec!["show", &empty], &["empty.json", "is empty"]),
        (vec!["show", &missing], &["missing.json", "ENOENT"]),
        (vec!["diff", "default", "/dev/zero"], &["/dev/zero"]),
        (vec!["test", "default", "frobnicate"], &["frobnicate", "no system call"]),
        (vec!["test", "default", "socket", "AF_NONE"], &["AF_NONE", "neither a number nor a name"]),
        (vec!["check", &bad, "--", "true"], &["SCMP_ACT_NONE"]),
        (vec!["record", "--merge", &bad, "--", "true"], &["SCMP_ACT_NONE"]),
        (vec!["record", "--output", &under, "--", "true"], &["--output", "no such directory"]),
        (vec!["record"], &["command line"]),
        (vec!["record", "--bundle", "/no", "--ro", "/no"], &["command line", "--ro"]),
    ] {
        let err = failed(&caller.stockade(&[&["seccomp"], &line[..]].concat()));
        assert!(words.iter().all(|w| err.contains(w)), "{line:?}: {err}");
    }
    // The program cannot be run: no profile is written.
    let out = caller.stockade(&["seccomp", "record", "--output", &missing, "--", "/no/such/program"]);
    assert!(!out.status.success() && !Path::new(&missing).exists(), "{}", text(&out.stderr));
    // A profile that kills.
    let kills = at("kills.json");
    std::fs::write(
        &kills,
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_KILL" }] })
            .to_string(),
    )
    .unwrap();
    let out = caller.stockade(&["seccomp", "check", &kills, "--", "mkdir", "/tmp/x"]);
    assert!(out.status.code() == Some(2) && text(&out.stderr).contains("killed it"), "{}", text(&out.stderr));
    let mut names: Vec<_> =
        std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["bad.json", "empty.json", "kills.json", "none.json"]);
    assert_eq!(caller.left(), [""; 0], "left behind");
}
