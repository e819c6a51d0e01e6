//! `run --denials` and `sandbox --denials`: what is denied is told, with its reason and its remedy, and the workload cannot
//! see the difference. As root and as an ordinary user, with and without subordinate ids.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;
use caller::Caller;
use common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Output, Stdio};

/// Calls of every kind that strict's own profile denies; a line each with what came of it.
const CALLS: &str = r#"
import ctypes, os, socket
c = ctypes.CDLL(None, use_errno=True)
def call(name, number, *args):
    ctypes.set_errno(0)
    r = c.syscall(ctypes.c_long(number), *[ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_ulong(a & (1 << 64) - 1) for a in args])
    print(name, r, ctypes.get_errno(), flush=True)
call("alg", 41, 38, 5, 0)
call("alg again", 41, 38, 5, 0)
call("vsock", 41, 40, 1, 0)
call("high bits", 41, 1 << 32 | 1, 1, 0)
call("audit", 41, 16, 3, 9)
call("mount", 165, b"/dev/x\x1b[2J", b"/mnt", b"ext4", 4096 | 2, 0)
call("umount2", 166, b"/proc", 2)
call("unshare", 272, 0x10000000)
call("clone", 56, 0x10000000 | 17, 0, 0, 0, 0)
call("clone3", 435, 0, 0)
call("tiocsti", 16, 0, 0x5412, b"x")
call("ulp", 54, 0, 6, 31, b"tls", 4)
call("chmod", 90, b"/tmp/none", 0o4755)
call("mknod", 133, b"/tmp/null", 0o20666, 0x103)
call("keyctl", 250, 0, -3, 0)
call("bpf", 321, 5, 0, 0)
call("ptrace", 101, 0, 0, 0, 0)
call("personality", 135, 8)
call("newer", 900)
call("fine", 39)
"#;

/// What is told of these: the call, the errno, what decided.
const TOLD: [(&str, &str, &str); 18] = [
    ("socket(AF_ALG, SOCK_SEQPACKET, 0)", "EAFNOSUPPORT", "syscalls["),
    ("socket(AF_VSOCK, SOCK_STREAM, 0)", "EAFNOSUPPORT", "syscalls["),
    ("socket(AF_UNIX (bits above 32 are set), SOCK_STREAM, 0)", "EAFNOSUPPORT", "syscalls["),
    ("socket(AF_NETLINK, SOCK_RAW, 9)", "EAFNOSUPPORT", "syscalls["),
    (r#"mount("/dev/x\u{1b}[2J", "/mnt", "ext4", MS_NOSUID|MS_BIND)"#, "EPERM", "defaultAction"),
    (r#"umount2("/proc", 0x2)"#, "EPERM", "defaultAction"),
    ("unshare(CLONE_NEWUSER)", "EPERM", "defaultAction"),
    ("clone(CLONE_NEWUSER|SIGCHLD)", "EPERM", "defaultAction"),
    ("clone3(...)", "ENOSYS", "syscalls["),
    ("ioctl(0, TIOCSTI)", "EPERM", "syscalls["),
    ("setsockopt(0, SOL_TCP, 31)", "ENOPROTOOPT", "syscalls["),
    (r#"chmod("/tmp/none", 0o4755)"#, "EPERM", "defaultAction"),
    (r#"mknod("/tmp/null", 0o20666, 1:3)"#, "EPERM", "defaultAction"),
    ("keyctl(KEYCTL_GET_KEYRING_ID)", "EPERM", "defaultAction"),
    ("bpf(BPF_PROG_LOAD)", "EPERM", "defaultAction"),
    ("ptrace(PTRACE_TRACEME, 0)", "EPERM", "defaultAction"),
    ("personality(PER_LINUX32)", "EPERM", "defaultAction"),
    ("system call 900(...)", "ENOSYS", "newer"),
];

/// The lines of `--denials=json`: what was told as it happened, and the end.
fn lines(text: &str) -> (Vec<Value>, Value) {
    let mut all: Vec<Value> =
        text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|_| panic!("{text}"))).collect();
    let end = all.pop().expect("an end");
    assert_eq!(end["type"], "denials", "{text}");
    assert!(all.iter().all(|l| l["type"] == "denial" && l["id"] == end["id"]), "{text}");
    (all, end)
}

#[test]
fn each_kind_is_told_once_and_the_workload_sees_no_difference() {
    for caller in Caller::all("each_kind_is_told_once_and_the_workload_sees_no_difference") {
        let plain = ok(&caller.stockade(&["sandbox", "--", "python3", "-c", CALLS]));
        let out = caller.stockade(&["sandbox", "--denials=json", "--", "python3", "-c", CALLS]);
        assert_eq!(ok(&out), plain, "as {}", caller.uid);
        assert!(
            plain.contains("alg -1 97\n") && plain.contains("newer -1 38\n") && plain.ends_with("fine 1 0\n"),
            "{plain}"
        );
        let (told, end) = lines(&text(&out.stderr));
        let got: Vec<_> = told.iter().map(|t| t["data"].clone()).filter(|d| !startup(d)).collect();
        let words = |d: &Value, key: &str| d[key].as_str().unwrap().to_owned();
        assert_eq!(got.len(), TOLD.len(), "{got:#?}");
        for (data, (call, errno, rule)) in got.iter().zip(TOLD) {
            assert_eq!((words(data, "call").as_str(), words(data, "errno").as_str()), (call, errno));
            assert!(words(data, "rule").starts_with(rule), "{data}");
            assert_eq!((words(data, "profile").as_str(), &data["count"]), ("default", &json!(1)));
            let who = &data["process"];
            assert_eq!((&who["comm"], &who["pid"]), (&json!("python3"), &json!(1)), "{data}");
            assert!(who["hostPid"].as_i64().unwrap() > 1, "{data}");
            // A number without a name can be allowed by no profile.
            if call != "system call 900(...)" {
                assert_eq!(data["allow"][0]["policy"], json!({ "extends": "strict", "seccomp": { "floor": "none" } }));
            }
        }
        let counts: Vec<_> =
            end["data"]["kinds"].as_array().unwrap().iter().filter(|d| d["call"] == TOLD[0].0).collect();
        assert_eq!((counts.len(), &counts[0]["count"]), (1, &json!(2)), "{end}");
        assert_eq!(
            (&end["data"]["status"], &end["data"]["sigsys"], &end["data"]["unseen"]),
            (&json!(0), &json!(false), &json!([]))
        );
        assert_eq!(caller.left(), [""; 0], "left behind");
    }
}

/// What a program asks by itself while it starts: a libc that tries newer calls first.
fn startup(data: &Value) -> bool {
    ["statx(", "openat2(", "memfd_secret("].iter().any(|s| data["call"].as_str().unwrap().starts_with(s))
}

/// The remedy that is told is one: with it the call is made.
#[test]
fn what_is_proposed_lets_the_call_through() {
    need_root!("what_is_proposed_lets_the_call_through");
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            { "names": ["mkdir", "mkdirat", "rmdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 123 },
            { "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }
        ]
    });
    let script = "mkdir /tmp/made 2>&1; test -d /tmp/made && echo made; true";
    let mut bundle = Bundle::usual(&["sh", "-c", script]).policy("oci");
    bundle.config["linux"]["seccomp"] = profile.clone();
    let run = |bundle: &Bundle| {
        bundle.write();
        bundle.verb(&["run", "--denials=json", "--bundle", &bundle.path().display().to_string(), "box"])
    };
    let out = run(&bundle);
    assert!(ok(&out).contains("No medium found") && !ok(&out).contains("made\n"), "{}", ok(&out));
    let (told, _) = lines(&text(&out.stderr));
    assert_eq!(told.len(), 1, "{told:?}");
    let data = &told[0]["data"];
    assert_eq!((&data["call"], &data["profile"]), (&json!("mkdir(\"/tmp/made\", 0o777)"), &json!("linux.seccomp")));
    assert_eq!((&data["rule"], &data["errno"]), (&json!("syscalls[0]"), &json!("ENOMEDIUM")));
    let change = &data["allow"][0]["change"];
    assert_eq!(change["remove"], json!([0, 1]), "{data}");
    assert!(data["allow"][0]["policy"].is_null(), "oci puts nothing under it: {data}");
    let mut changed = profile;
    for place in change["remove"].as_array().unwrap() {
        let entry = &mut changed["syscalls"][place.as_u64().unwrap() as usize];
        entry["names"].as_array_mut().unwrap().retain(|n| *n != change["name"]);
    }
    let entries = changed["syscalls"].as_array_mut().unwrap();
    entries.retain(|e| !e["names"].as_array().unwrap().is_empty());
    entries.extend(change.get("add").filter(|a| !a.is_null()).cloned());
    bundle.config["linux"]["seccomp"] = changed;
    assert!(ok(&run(&bundle)).contains("made\n"));
}

/// The floor and the config's profile are one program: what either denies is denied and told, with both remedies.
#[test]
fn floor_and_profile_deny_together() {
    need_root!("floor_and_profile_deny_together");
    for no_new_privs in [true, false] {
        let script = "mkdir /tmp/made 2>&1; unshare -U true 2>&1; echo done";
        let mut bundle = Bundle::usual(&["sh", "-c", script]);
        let floor = json!({ "extends": "oci", "seccomp": { "floor": "default", "silent": "default" } });
        bundle.config["process"]["noNewPrivileges"] = no_new_privs.into();
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 123 },
                { "names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }
            ]
        });
        let bundle = bundle.operator(floor);
        let plain = ok(&bundle.run());
        // Of equally strict answers the one of the filter that was installed last counts.
        assert!(plain.contains("No medium found") && plain.contains("No space left"), "{plain}");
        let out = bundle.verb(&["run", "--denials=json", "--bundle", &bundle.path().display().to_string(), "box"]);
        assert_eq!(ok(&out), plain);
        let (told, _) = lines(&text(&out.stderr));
        let find = |call: &str| {
            told.iter()
                .map(|t| &t["data"])
                .find(|d| d["syscall"] == call)
                .unwrap_or_else(|| panic!("{call}: {told:#?}"))
        };
        assert_eq!(
            (&find("mkdir")["profile"], &find("mkdir")["errno"]),
            (&json!("linux.seccomp"), &json!("ENOMEDIUM"))
        );
        assert_eq!(find("mkdir")["allow"].as_array().unwrap().len(), 1);
        assert_eq!(
            (&find("unshare")["profile"], &find("unshare")["errno"]),
            (&json!("linux.seccomp"), &json!("ENOSPC"))
        );
        let profiles: Vec<_> = find("unshare")["allow"].as_array().unwrap().iter().map(|a| &a["profile"]).collect();
        assert_eq!(profiles, ["default", "linux.seccomp"]);
    }
}

#[test]
fn a_kill_stays_a_kill_and_is_said_at_the_end() {
    need_root!("a_kill_stays_a_kill_and_is_said_at_the_end");
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL", "SCMP_ACT_TRAP"] {
        let mut bundle = Bundle::usual(&["mkdir", "/tmp/made"]).policy("oci");
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": action }]
        });
        bundle.write();
        let dir = bundle.path().display().to_string();
        for form in ["--denials=json", "--denials"] {
            let out = bundle.verb(&["run", form, "--bundle", &dir, "box"]);
            let err = text(&out.stderr);
            assert_eq!(out.status.code(), Some(159), "{action}: {err}");
            match form {
                "--denials" => assert!(err.contains("none by seccomp\n") && err.contains("killed by SIGSYS"), "{err}"),
                _ => assert_eq!((&lines(&err).1["data"]["sigsys"], lines(&err).0.len()), (&json!(true), 0), "{err}"),
            }
        }
    }
}

#[test]
fn what_cannot_be_told_is_refused_or_said() {
    need_root!("what_cannot_be_told_is_refused_or_said");
    let mut bundle = Bundle::usual(&["sh", "-c", "touch /x; exit 3"]).policy("oci");
    bundle.write();
    // Nothing is filtered, and what fails then is not for seccomp to tell.
    bundle.config["root"]["readonly"] = true.into();
    bundle.write();
    let dir = bundle.path().display().to_string();
    let out = bundle.verb(&["run", "--denials", "--bundle", &dir, "box"]);
    let err = text(&out.stderr);
    assert_eq!(out.status.code(), Some(3));
    assert!(err.contains("no filter, so none") && err.contains("EROFS") && err.contains("root.readonly"), "{err}");
    assert!(err.contains("5 paths are masked") && err.contains("5 read-only"), "{err}");
    // Foreground only.
    let err = failed(&bundle.verb(&["run", "--denials", "--detach", "--bundle", &dir, "box"]));
    assert!(err.contains("--detach") && err.contains("--denials"), "{err}");
    failed(&bundle.verb(&["create", "--denials", "--bundle", &dir, "box"]));
    // One listener.
    let agent = bundle.path().join("agent").display().to_string();
    let ask = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent,
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }] });
    bundle.config["linux"]["seccomp"] = ask;
    bundle.write();
    let err = failed(&bundle.verb(&["run", "--denials", "--bundle", &dir, "box"]));
    assert!(err.contains("--denials") && err.contains("SCMP_ACT_NOTIFY") && err.contains("one listener"), "{err}");
    // Into a file that cannot be.
    let err = failed(&bundle.verb(&["run", "--denials", "--denials-to", "/no/such/file", "--bundle", &dir, "box"]));
    assert!(err.contains("--denials-to") && err.contains("ENOENT"), "{err}");
    assert!(!bundle.root().join("box").exists());
}

/// The filter stands before the gate then, where the runtime itself reads; the workload's first read is denied all the same.
#[test]
fn the_gate_passes_a_filter_that_denies_read() {
    need_root!("the_gate_passes_a_filter_that_denies_read");
    let mut bundle = Bundle::usual(&["cat", "/etc/passwd"]).policy("oci");
    bundle.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["read", "sendfile"], "action": "SCMP_ACT_ERRNO", "errnoRet": 123 }] });
    let plain = bundle.run();
    let out = bundle.verb(&["run", "--denials=json", "--bundle", &bundle.path().display().to_string(), "box"]);
    assert_eq!((out.status, &out.stdout), (plain.status, &plain.stdout));
    assert!(text(&plain.stderr).contains("No medium found"), "{}", text(&plain.stderr));
    let err = text(&out.stderr).lines().filter(|l| l.starts_with('{')).map(|l| format!("{l}\n")).collect::<String>();
    let (told, end) = lines(&err);
    let read = told.iter().map(|t| &t["data"]).find(|d| d["syscall"] == "read").unwrap();
    assert_eq!((&read["process"]["comm"], &read["process"]["pid"]), (&json!("cat"), &json!(1)), "{end}");
}

/// What no profile denies and the kernel refuses for want of a capability: told, and answered by the kernel alone.
const LACKING: &str = r#"
import os, socket
def attempt(name, what, *args):
    try: what(*args); print(name, "done", flush=True)
    except OSError as e: print(name, e.errno, flush=True)
attempt("setgroups", os.setgroups, [])
attempt("setuid", os.setuid, 1)
attempt("setgid", os.setresgid, -1, 7, -1)
attempt("ping", socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)
attempt("own", os.setuid, 0)
attempt("own gid", os.setresgid, 0, -1, 0)
attempt("far", os.setuid, 99999)
attempt("tcp", socket.socket, socket.AF_INET, socket.SOCK_STREAM)
"#;

#[test]
fn a_capability_that_is_missed_is_told_and_the_kernel_answers() {
    for caller in Caller::all("a_capability_that_is_missed_is_told_and_the_kernel_answers") {
        let plain = ok(&caller.stockade(&["sandbox", "--", "python3", "-c", LACKING]));
        let out = caller.stockade(&["sandbox", "--denials=json", "--", "python3", "-c", LACKING]);
        assert_eq!(ok(&out), plain, "as {}", caller.uid);
        // With a single id 1 is no id at all: EINVAL, and no capability would help.
        let single = plain.contains("setuid 22\n");
        assert!(plain.contains("setgroups 1\n") && plain.contains("ping 1\n") && plain.contains("far 22\n"), "{plain}");
        assert!(
            plain.contains("own done\n") && plain.contains("own gid done\n") && plain.contains("tcp done\n"),
            "{plain}"
        );
        let (told, _) = lines(&text(&out.stderr));
        let got: Vec<(&str, &str)> = told
            .iter()
            .map(|t| &t["data"])
            .filter(|d| d["rule"] == "capability")
            .map(|d| {
                assert_eq!(
                    (&d["errno"], &d["profile"], &d["count"]),
                    (&json!("EPERM"), &Value::Null, &json!(1)),
                    "{d}"
                );
                (d["call"].as_str().unwrap(), d["allow"][0]["capability"].as_str().unwrap())
            })
            .collect();
        let all = [
            ("setgroups(0)", "CAP_SETGID"),
            ("setuid(1)", "CAP_SETUID"),
            ("setresgid(-1, 7, -1)", "CAP_SETGID"),
            ("socket(AF_INET, SOCK_RAW|SOCK_CLOEXEC, 1)", "CAP_NET_RAW"),
        ];
        let expected: Vec<_> =
            all.into_iter().filter(|(c, _)| !single || !c.contains("set") || c.contains("groups")).collect();
        assert_eq!(got, expected, "as {}", caller.uid);
        assert_eq!(single, caller.uid == caller::SINGLE, "{plain}");
    }
}

#[test]
fn with_the_capability_nothing_is_told_and_the_call_is_made() {
    need_root!("with_the_capability_nothing_is_told_and_the_call_is_made");
    let script = "chroot / true && echo changed; hostname other 2>/dev/null && echo named; exit 3";
    for (caps, expect, missed) in [
        (&[][..], "", &["CAP_SYS_CHROOT", "CAP_SYS_ADMIN"][..]),
        (&["CAP_SYS_CHROOT"], "changed\n", &["CAP_SYS_ADMIN"]),
        (&["CAP_SYS_CHROOT", "CAP_SYS_ADMIN"], "changed\nnamed\n", &[]),
    ] {
        let mut bundle = Bundle::usual(&["sh", "-c", script]).policy("oci");
        bundle.config["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }]
        });
        let plain = bundle.run();
        let out = bundle.verb(&["run", "--denials", "--bundle", ".", "box"]);
        assert_eq!((text(&plain.stdout).as_str(), plain.status.code()), (expect, Some(3)));
        assert_eq!((text(&out.stdout).as_str(), out.status.code()), (expect, Some(3)));
        let err = text(&out.stderr);
        assert_eq!(err.matches("stockade: denied: ").count(), missed.len(), "{err}");
        for cap in missed {
            assert!(
                err.contains(&format!("by     the kernel, after every profile: it needs {cap}, which it has not\n")),
                "{err}"
            );
            assert!(
                err.contains(&format!("allow  in process.capabilities: {cap}, as far as the policy gives it\n")),
                "{err}"
            );
        }
        assert!(missed.len() != 2 || err.contains("stockade: denials: 2 calls of 2 kinds\n"), "{err}");
    }
}

/// A hook of the host that waits for the workload, which waits for us to answer a call: both go on.
#[test]
fn a_poststart_hook_may_wait_for_what_is_denied() {
    need_root!("a_poststart_hook_may_wait_for_what_is_denied");
    let mut bundle = Bundle::usual(&["sh", "-c", "mkdir /tmp/made; echo passed >/passed"]).policy("oci");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 123 }]
    });
    let passed = bundle.rootfs().join("passed").display().to_string();
    let script = format!("until test -s {passed}; do sleep .05; done");
    bundle.config["hooks"] = json!({ "poststart": [{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 60 }] });
    bundle.write();
    let out = bundle.verb(&["run", "--denials=json", "--bundle", ".", "box"]);
    let err = text(&out.stderr);
    assert!(out.status.success() && err.contains("\"syscall\":\"mkdir"), "{err}");
}

/// If stockade dies, what was denied fails with ENOSYS.
#[test]
fn without_a_supervisor_it_is_still_denied() {
    need_root!("without_a_supervisor_it_is_still_denied");
    let script = "echo ready; read line; mkdir /tmp/made 2>&1; test -d /tmp/made || echo refused";
    // With --keep the container outlives the runtime.
    let mut bundle = Bundle::usual(&["sh", "-c", script]).policy("oci");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 123 }]
    });
    bundle.write();
    let dir = bundle.path().display().to_string();
    let mut child = bundle
        .command(&["run", "--keep", "--denials", "--bundle", &dir, "box"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(out.next().unwrap().unwrap(), "ready");
    let mut input = child.stdin.take().unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    input.write_all(b"go\n").unwrap();
    let said: Vec<String> = out.map(Result::unwrap).collect();
    assert!(said.len() == 2 && said[0].contains("Function not implemented") && said[1] == "refused", "{said:?}");
    ok(&bundle.delete());
}

/// What a hostile workload does to fill our memory, our terminal and its reader.
#[test]
fn kinds_without_end_are_only_counted() {
    let script =
        "import ctypes\nc = ctypes.CDLL(None)\nfor i in range(2000): c.syscall(41, 100 + i, 1, 0)\nprint('done')";
    let caller = if is_root() { Caller::root() } else { Caller::me() };
    let file = caller.own_dir("out").join("denials");
    let to = file.display().to_string();
    let out = caller.stockade(&["sandbox", "--denials=json", "--denials-to", &to, "--", "python3", "-c", script]);
    assert_eq!((ok(&out).as_str(), text(&out.stderr).as_str()), ("done\n", ""));
    let (told, end) = lines(&std::fs::read_to_string(&file).unwrap());
    assert_eq!(told.len(), 256);
    let (calls, untold) = (end["data"]["calls"].as_u64().unwrap(), end["data"]["untold"].as_u64().unwrap());
    assert!(calls >= 2000 && untold == calls - 256, "{calls} {untold}");
}

/// Who does not read what is told does not keep the workload waiting.
#[test]
fn a_reader_that_does_not_read_holds_nobody_up() {
    let script = "import ctypes,os\nc = ctypes.CDLL(None)\nfor i in range(1000): c.syscall(41, 100 + i, 1, 0)\nos.write(1, b'done')\nos.close(1)";
    let caller = if is_root() { Caller::root() } else { Caller::me() };
    let mut command = caller.command(&["sandbox", "--denials", "--", "python3", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut done = [0; 4];
    std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut done).unwrap();
    assert_eq!(&done, b"done");
    // 256 of some 300 bytes are more than a pipe holds: they come now.
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let err = text(&stderr);
    assert!(status.success() && stderr.len() > 1 << 16, "{}", stderr.len());
    assert_eq!(err.matches("stockade: denied: socket(").count(), 256);
    assert!(err.contains("more kinds than are told one by one"), "{err}");
}

/// A thread, a child and its name: who it was on either side.
#[test]
fn who_it_was_is_told_on_both_sides() {
    let script = "sh -c 'echo $$; exec unshare -U true' 2>/dev/null; true";
    let caller = if is_root() { Caller::root() } else { Caller::me() };
    let out = caller.stockade(&["sandbox", "--denials=json", "--", "sh", "-c", script]);
    let inside: i64 = ok(&out).trim().parse().unwrap();
    let (told, _) = lines(&text(&out.stderr));
    let data = told.iter().map(|t| &t["data"]).find(|d| d["syscall"] == "unshare").unwrap();
    assert_eq!((&data["process"]["pid"], &data["process"]["comm"]), (&json!(inside), &json!("unshare")), "{data}");
    assert_ne!(data["process"]["hostPid"], data["process"]["pid"]);
}

/// As people read it.
#[test]
fn the_text_says_why_and_what_to_do() {
    let caller = if is_root() { Caller::root() } else { Caller::me() };
    let out = caller.stockade(&["sandbox", "--denials", "--", "sh", "-c", "unshare -n true 2>/dev/null; exit 7"]);
    assert_eq!(out.status.code(), Some(7));
    let err = text(&out.stderr);
    for words in [
        "stockade: denied: unshare(CLONE_NEWNET) -> EPERM\n",
        "    by     the default action of the profile default, which does not allow it\n",
        "    from   \"unshare\", pid ",
        "    allow  in default: add to syscalls {\"names\":[\"unshare\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":1073741824,\"op\":\"SCMP_CMP_EQ\"}]}\n",
        "stockade: denials: 1 call of 1 kind\n         1  unshare(CLONE_NEWNET) -> EPERM\n",
        "`stockade seccomp show --json default`",
        "{\"extends\":\"strict\",\"seccomp\":{\"floor\":\"none\"}}\n",
        "EROFS, which no filter hears of",
    ] {
        assert!(err.contains(words), "{words}: {err}");
    }
}
