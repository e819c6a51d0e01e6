//! The smaller layers: no memory both written and executed, what /proc shows, core scheduling, keystrokes put into a
//! terminal, and the limit on user namespaces in the hands of one who may raise it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod probe;
use common::*;
use nix::libc;
use probe::Talk;
use serde_json::{Value, json};

macro_rules! probe_or_skip {
    ($name:expr) => {
        match probe::program() {
            Ok(path) => path,
            Err(why) => return skip($name, &why),
        }
    };
}

/// mmap(2) of memory to be written and executed.
fn writable_code() -> String {
    format!("map {} 0 4096 7 {} -1 0", libc::SYS_mmap, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)
}

/// The number that a probe's one call gave.
fn result(line: &str) -> i64 {
    line.trim().rsplit_once("= ").unwrap_or_else(|| panic!("{line:?}")).1.parse().unwrap()
}

/// Whether this kernel has PR_SET_MDWE: Linux 6.3.
fn kernel_has_mdwe() -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut parts = release.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap(), parts.next().unwrap()) >= (6, 3)
}

#[test]
fn no_memory_is_written_and_executed_where_the_policy_says_so() {
    let name = "no_memory_is_written_and_executed_where_the_policy_says_so";
    need_root!(name);
    let program = probe_or_skip!(name);
    let there = kernel_has_mdwe();
    for (word, denied) in [("off", false), ("try", there), ("require", there)] {
        let bundle = Bundle::silent(&["sh"]).operator(json!({ "extends": "strict", "memoryDenyWriteExecute": word }));
        probe::install(&bundle, &program);
        if word == "require" && !there {
            let err = failed(&bundle.run());
            assert!(
                err.contains("no writable code: PR_SET_MDWE") && err.contains("(EINVAL)") && err.contains("6.3"),
                "{err}"
            );
            assert!(!bundle.root().join("box").exists());
            continue;
        }
        let mut talk = Talk::with(&bundle);
        let check = |n: i64, who: &str| match denied {
            true => assert_eq!(n, i64::from(-libc::EACCES), "{word}, {who}"),
            false => assert!(n > 0, "{word}, {who}: {n}"),
        };
        check(result(&talk.ask(&format!("probe calls '{}'", writable_code()))), "init");
        let out = bundle.verb(&["exec", "box", "probe", "calls", &writable_code()]);
        check(result(&ok(&out)), "exec");
        let found = findings(&bundle, "memoryDenyWriteExecute");
        assert_eq!(found.is_empty(), word != "try" || there, "{word}: {found:?}");
    }
}

/// The findings of a rule that `box` was made with.
fn findings(bundle: &Bundle, rule: &str) -> Vec<Value> {
    let state = std::fs::read(bundle.root().join("box/state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    state["findings"].as_array().unwrap().iter().filter(|f| f["rule"] == rule).cloned().collect()
}

#[test]
fn sandbox_no_jit_runs_without_writable_code() {
    need_root!("sandbox_no_jit_runs_without_writable_code");
    let script =
        "import mmap\ntry:\n mmap.mmap(-1, 4096, prot=7)\n print('mapped')\nexcept PermissionError:\n print('denied')";
    let bundle = Bundle::silent(&[]);
    let sandbox = |flags: &[&str]| bundle.verb(&[&["sandbox"], flags, &["--", "python3", "-c", script]].concat());
    assert_eq!(ok(&sandbox(&[])), "mapped\n");
    match kernel_has_mdwe() {
        true => assert_eq!(ok(&sandbox(&["--no-jit"])), "denied\n"),
        // What was typed is given or refused.
        false => assert!(failed(&sandbox(&["--no-jit"])).contains("6.3")),
    }
    let made = bundle.path().join("made");
    ok(&sandbox(&["--no-jit", "--emit-bundle", made.to_str().unwrap()]));
    let policy: Value = serde_json::from_slice(&std::fs::read(made.join("policy.json")).unwrap()).unwrap();
    assert_eq!(policy["memoryDenyWriteExecute"], "require");
}

#[test]
fn proc_hides_what_the_policy_says() {
    need_root!("proc_hides_what_the_policy_says");
    let look = |policy: Value| {
        let mut operator = json!({ "extends": "strict" });
        operator.as_object_mut().unwrap().extend(policy.as_object().unwrap().clone());
        let mut bundle = Bundle::silent(&["sh"]).operator(operator);
        bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        let talk = Talk::with(&bundle);
        (bundle, talk)
    };
    // A process of another user.
    let exec = |bundle: &Bundle| {
        ok(&bundle.verb(&[
            "exec",
            "--user",
            "7:7",
            "box",
            "sh",
            "-c",
            "ls -d /proc/1 2>/dev/null; cat /proc/1/comm 2>/dev/null; true",
        ]))
    };
    let (bundle, _talk) = look(json!({}));
    assert_eq!(exec(&bundle), "/proc/1\nsh\n");
    for (word, seen) in [("noaccess", "/proc/1\n"), ("invisible", "")] {
        let (bundle, _talk) = look(json!({ "proc": { "hidepid": word } }));
        assert_eq!(exec(&bundle), seen, "{word}");
    }
    // The masks and read-only paths that are not there any more are in nobody's way, and it works otherwise.
    let (bundle, mut talk) = look(json!({ "proc": { "onlyPids": true } }));
    assert_eq!(talk.ask("ls /proc | grep -v '^[0-9]'"), "self\nthread-self");
    assert_eq!(talk.ask("cat /proc/self/comm; echo x >/dev/null && ls /dev/fd | wc -l"), "cat\n4");
    assert_eq!(ok(&bundle.verb(&["exec", "box", "cat", "/proc/self/comm"])), "cat\n");
    assert!(!findings(&bundle, "proc.onlyPids").is_empty());
    // The limit on user namespaces is written through another procfs, which has everything.
    assert!(talk.ask("unshare -U true 2>&1").contains("unshare"));
}

#[test]
fn a_core_of_its_own_is_given_or_said_to_be_missing() {
    need_root!("a_core_of_its_own_is_given_or_said_to_be_missing");
    let operator =
        |word: &str| Bundle::silent(&["sh"]).operator(json!({ "extends": "strict", "coreScheduling": word }));
    let smt = std::fs::read_to_string("/sys/devices/system/cpu/smt/active").is_ok_and(|t| t.trim() == "1");
    let bundle = operator("require");
    if smt {
        let mut talk = Talk::with(&bundle);
        assert_eq!(talk.ask("echo here"), "here");
        ok(&bundle.verb(&["exec", "box", "true"]));
    } else {
        let err = failed(&bundle.run());
        assert!(err.contains("core scheduling: a cookie of its own") && err.contains("hint"), "{err}");
        assert!(err.contains("(ENODEV)") || err.contains("(EINVAL)"), "{err}");
        assert!(!bundle.root().join("box").exists());
    }
    let bundle = operator("try");
    let _talk = Talk::with(&bundle);
    ok(&bundle.verb(&["exec", "box", "true"]));
    assert_eq!(findings(&bundle, "coreScheduling").is_empty(), smt);
}

#[test]
fn no_keystrokes_are_put_into_a_terminal() {
    let name = "no_keystrokes_are_put_into_a_terminal";
    need_root!(name);
    let program = probe_or_skip!(name);
    // TIOCSTI and TIOCLINUX (ioctl_tty(2)); the kernel looks at the low 32 bits only.
    let rows = ["0x5412", "0x100005412", "0xffffffff00005412", "0x541c", "0x10000541c"];
    let calls: Vec<String> =
        rows.iter().map(|r| format!("'{r} {} open=/dev/null {r} str=x'", libc::SYS_ioctl)).collect();
    let answers = |policy: &str| {
        let bundle = match policy {
            "oci" => Bundle::usual(&["sh"]).policy("oci"),
            _ => Bundle::silent(&["sh"]).policy("strict"),
        };
        probe::install(&bundle, &program);
        let mut talk = Talk::with(&bundle);
        let answer = talk.ask(&format!("probe calls {}", calls.join(" ")));
        answer.lines().map(result).collect::<Vec<_>>()
    };
    assert_eq!(answers("strict"), vec![i64::from(-libc::EPERM); rows.len()]);
    // The control: without the filter the kernel looks at them, and this is no terminal.
    assert_eq!(answers("oci"), vec![i64::from(-libc::ENOTTY); rows.len()]);
}

/// thermal_throttle of each processor is masked by a star; no machine of ours has one, so the star is tried on what all have.
#[test]
fn what_each_processor_has_is_masked_by_a_star() {
    need_root!("what_each_processor_has_is_masked_by_a_star");
    let script = "ls -A /sys/devices/system/cpu/cpu*/topology | grep -v : | grep -v '^$'; \
        ls -d /sys/devices/system/cpu/cpu*/thermal_throttle/* 2>/dev/null; ls /sys/devices/system/cpu/cpu0 | grep uevent";
    let looked = |masked: Value| {
        let mut bundle = Bundle::shell(script).policy("strict");
        bundle.config["linux"] = json!({ "maskedPaths": masked });
        ok(&bundle.run())
    };
    assert_eq!(looked(json!(["/sys/devices/system/cpu/cpu*/topology"])), "uevent\n");
    assert!(looked(json!([])).contains("core_id"), "the control");
}

#[test]
fn no_core_is_dumped() {
    need_root!("no_core_is_dumped");
    let limit = |policy: &str| {
        let script = "grep 'Max core' /proc/self/limits | tr -s ' ' | cut -d' ' -f5,6";
        let bundle = match policy {
            "oci" => Bundle::usual(&["sh", "-c", script]).policy("oci"),
            _ => Bundle::shell(script).policy("strict"),
        };
        let mut command = std::process::Command::new("prlimit");
        bundle.write();
        command.arg("--core=4096:unlimited").arg(runtime()).args([
            "--root",
            bundle.root().to_str().unwrap(),
            "--policy",
            policy,
        ]);
        ok(&command.args(["run", "--bundle", bundle.path().to_str().unwrap(), "box"]).output().unwrap())
    };
    assert_eq!(limit("strict"), "0 0\n");
    assert_eq!(limit("oci"), "4096 unlimited\n");
}

#[test]
fn cap_sys_resource_does_not_bring_user_namespaces_back() {
    let name = "cap_sys_resource_does_not_bring_user_namespaces_back";
    need_root!(name);
    // Without a filter, so that the limit stands alone.
    let with = |caps: &[&str], frozen: Value| {
        let operator = json!({
            "extends": "strict", "seccomp": { "silent": "none" }, "capabilities": { "above": "allow" },
            "readonlyPaths": frozen
        });
        let mut bundle = Bundle::silent(&["sh"]).operator(operator);
        bundle.config["process"]["capabilities"] = json!({ "bounding": caps, "permitted": caps, "effective": caps });
        let mut talk = Talk::with(&bundle);
        let file = "/proc/sys/user/max_user_namespaces";
        let said = talk
            .ask(&format!("(echo 7 >{file}) 2>&1 | grep -o ':[^:]*$'; cat {file}; unshare -U true 2>&1 && echo made"));
        (said, !findings(&bundle, "userNamespacesInside").is_empty())
    };
    let paths = json!(["/proc/sys"]);
    let (said, told) = with(&["CAP_SYS_RESOURCE"], paths.clone());
    assert!(said.starts_with(": Read-only file system\n0\n") && !said.contains("made") && !told, "{said}");
    // It is the mount that holds: where it is missing the limit can be raised, and a finding says so.
    let (said, told) = with(&["CAP_SYS_RESOURCE"], json!([]));
    assert!(said.contains("7\n") && said.contains("made") && told, "{said}");
    let (said, told) = with(&[], json!([]));
    assert!(said.contains("0\n") && !said.contains("made") && !told, "{said}");
}
