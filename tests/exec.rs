//! `exec`: one more process in a container is confined as its init is, by what was recorded at create, whoever calls.
#![allow(clippy::unwrap_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;
#[path = "probe/mod.rs"]
mod probe;

use caller::Caller;
use common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;
use std::process::{Output, Stdio};

/// A container that stays, started.
fn started(bundle: Bundle) -> Bundle {
    ok(&bundle.create());
    ok(&bundle.verb(&["start", "box"]));
    bundle
}

fn exec(bundle: &Bundle, words: &[&str]) -> Output {
    bundle.verb(&[&["exec"], words].concat())
}

/// Leaves a process behind, which must not keep our pipes open. Its pid, or what the failure said.
fn detached(bundle: &Bundle, options: &[&str], command: &[&str]) -> Result<i32, Output> {
    let (file, err) = (bundle.path().join("exec.pid"), bundle.path().join("exec.err"));
    let words = [&["exec", "--detach", "--pid-file", file.to_str().unwrap()], options, &["box"], command].concat();
    let stderr = std::fs::File::create(&err).unwrap();
    let status = bundle.command(&words).stdout(Stdio::null()).stderr(stderr).status().unwrap();
    match status.success() {
        true => Ok(std::fs::read_to_string(&file).unwrap().parse().unwrap()),
        false => Err(Output { status, stdout: Vec::new(), stderr: std::fs::read(&err).unwrap() }),
    }
}

/// What a shell in the container prints.
fn says(bundle: &Bundle, options: &[&str], script: &str) -> String {
    ok(&exec(bundle, &[options, &["box", "sh", "-c", script]].concat())).trim_end().to_owned()
}

/// A failure of the runtime itself: one line, status 255.
fn refused(out: &Output, word: &str) {
    assert_eq!(out.status.code(), Some(255), "{}", text(&out.stderr));
    let said = failed(out);
    assert!(said.contains(word), "{word}: {said}");
}

/// The lines of /proc/PID/status that say what a process may do.
const RIGHTS: [&str; 14] = [
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Cpus_allowed_list",
    "Speculation_Store_Bypass",
    "Umask",
];

fn rights(pid: i32) -> Vec<String> {
    RIGHTS.iter().map(|f| format!("{f}: {}", proc_status(pid, f).unwrap_or_default())).collect()
}

fn namespaces(pid: i32) -> Vec<String> {
    ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"]
        .iter()
        .map(|ns| std::fs::read_link(format!("/proc/{pid}/ns/{ns}")).unwrap().display().to_string())
        .collect()
}

fn capabilities(names: &[&str]) -> Value {
    json!({ "bounding": names, "permitted": names, "effective": names })
}

/// The containers that what is true of one must be true of all.
fn kinds() -> Vec<(&'static str, Bundle)> {
    let strict = || Bundle::silent(&["sleep", "1000"]);
    let rich = |policy: &str| {
        let mut bundle = Bundle::usual(&["sleep", "1000"]).policy(policy);
        bundle.config["process"]["capabilities"] = capabilities(&["CAP_KILL", "CAP_CHOWN"]);
        bundle.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
        bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [5, 50], "umask": 63 });
        bundle
    };
    vec![
        ("strict, silent", strict()),
        ("strict, by a single user", probe::by_single_user(strict(), &[])),
        ("strict, by a user with ranges", probe::by_ranged_user(strict(), &[])),
        ("strict, with wishes", rich("strict")),
        ("oci", rich("oci")),
        ("oci, silent", Bundle::silent(&["sleep", "1000"]).policy("oci")),
    ]
}

#[test]
fn what_is_executed_is_confined_as_init_is() {
    need_root!("what_is_executed_is_confined_as_init_is");
    for (kind, mut bundle) in kinds() {
        if kind == "oci, silent" {
            bundle.config["linux"] = json!({ "namespaces": [{ "type": "mount" }, { "type": "pid" }] });
            bundle.config["mounts"] = json!([{ "destination": "/proc", "type": "proc", "source": "proc" }]);
        }
        let bundle = started(bundle);
        let init = bundle.pid();
        let pid = detached(&bundle, &[], &["sleep", "1001"]).unwrap();
        assert_ne!(pid, init);
        assert_eq!(rights(pid), rights(init), "{kind}");
        assert_eq!(namespaces(pid), namespaces(init), "{kind}");
        for name in ["limits", "cgroup", "uid_map", "gid_map", "oom_score_adj"] {
            let read = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
            assert_eq!(read(pid), read(init), "{kind}: {name}");
        }
        assert_eq!(
            std::fs::read_link(format!("/proc/{pid}/root")).ok(),
            std::fs::read_link(format!("/proc/{init}/root")).ok()
        );
        // It is nobody's child inside, in a session of its own, and holds nothing but its three descriptors.
        let mut fds: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        fds.sort();
        assert_eq!(fds, ["0", "1", "2"], "{kind}");
        let inside = proc_status(pid, "NSpid").unwrap();
        let number = inside.split_whitespace().last().unwrap();
        assert_eq!(proc_status(pid, "NSsid").unwrap().split_whitespace().last(), Some(number), "{kind}");
        // The end of init is its end.
        kill(Pid::from_raw(init), Signal::SIGKILL).unwrap();
        wait_for("the end of both", || {
            !Path::new(&format!("/proc/{pid}")).exists() || proc_status(pid, "State").is_none_or(|s| s.starts_with('Z'))
        });
        wait_for("stopped", || bundle.state()["status"] == "stopped");
        refused(&exec(&bundle, &["box", "true"]), "cannot exec in a stopped container");
    }
}

#[test]
fn the_bundle_is_not_read_again() {
    need_root!("the_bundle_is_not_read_again");
    let bundle = started(Bundle::silent(&["sleep", "1000"]));
    let mut open = bundle.config.clone();
    open["process"]["noNewPrivileges"] = json!(false);
    open["process"]["capabilities"] = capabilities(&["CAP_SYS_ADMIN"]);
    open["process"]["env"] = json!(["PATH=/bin", "EVIL=1"]);
    open["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
    std::fs::write(bundle.path().join("config.json"), open.to_string()).unwrap();
    let said =
        says(&bundle, &[], "echo $EVIL; grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'");
    assert_eq!(said, "\nCapBnd:0000000000000000\nNoNewPrivs:1\nSeccomp:2");
    // Not even with the bundle gone.
    std::fs::remove_file(bundle.path().join("config.json")).unwrap();
    assert_eq!(says(&bundle, &[], "echo on"), "on");
    // Without the record nothing gets in.
    let record = bundle.root().join("box/confinement.json");
    let whole = std::fs::read_to_string(&record).unwrap();
    for damaged in ["", "{}", &whole[..whole.len() / 2], &whole.replace("\"program\":\"", "\"program\":\"0")] {
        std::fs::write(&record, damaged).unwrap();
        refused(&exec(&bundle, &["box", "true"]), "damaged");
    }
    std::fs::remove_file(&record).unwrap();
    refused(&exec(&bundle, &["box", "true"]), "missing or damaged");
}

#[test]
fn statuses_and_words_of_failures() {
    need_root!("statuses_and_words_of_failures");
    let bundle = started(Bundle::silent(&["sleep", "1000"]));
    assert_eq!(exec(&bundle, &["box", "sh", "-c", "exit 42"]).status.code(), Some(42));
    assert_eq!(exec(&bundle, &["box", "sh", "-c", "kill -TERM $$"]).status.code(), Some(128 + 15));
    // What follows the id is the command's.
    assert_eq!(ok(&exec(&bundle, &["box", "echo", "-t", "--user", "7"])), "-t --user 7\n");
    refused(&exec(&bundle, &["box"]), "no command");
    refused(&exec(&bundle, &["nobox", "true"]), "does not exist");
    refused(&exec(&bundle, &["box", "nosuch"]), "executable file not found in $PATH");
    refused(&exec(&bundle, &["box", "/nosuch"]), "no such file or directory");
    refused(&exec(&bundle, &["box", "/etc/passwd"]), "permission denied");
    refused(&exec(&bundle, &["--cwd", "/nosuch", "box", "true"]), "no such file or directory");
    refused(&exec(&bundle, &["--cwd", "tmp", "box", "true"]), "not an absolute path");
    refused(&exec(&bundle, &["--pid-file", "/nosuch/pid", "box", "true"]), "--pid-file");
    refused(&exec(&bundle, &["--env", "=1", "box", "true"]), "NAME=VALUE");
    refused(&exec(&bundle, &["--user", "eve", "box", "true"]), "no such user");
    refused(&exec(&bundle, &["--user", "user:eve", "box", "true"]), "no such group");
    refused(&exec(&bundle, &["--user", "70000", "box", "true"]), "not in the container's id map");
    for wrapped in ["4294967295", "2147483648", "-1", "4294967296"] {
        refused(&exec(&bundle, &[&format!("--user={wrapped}"), "box", "id"]), wrapped);
    }
    refused(&exec(&bundle, &["--preserve-fds", "9", "box", "true"]), "is not open");
    // Labels that this kernel or this container cannot have are not left out.
    refused(&exec(&bundle, &["--apparmor", "no-such-profile", "box", "true"]), "no-such-profile");
    refused(&exec(&bundle, &["--process-label", "a:b:c:s0", "box", "true"]), "a:b:c:s0");
    refused(&exec(&bundle, &["--tty", "--detach", "box", "true"]), "use --console-socket");
    // None of them left a process behind.
    let listed = ok(&bundle.verb(&["ps", "--format", "json", "box"]));
    assert_eq!(serde_json::from_str::<Vec<i32>>(&listed).unwrap(), [bundle.pid()]);
    // A container that waits for its start takes an exec, too.
    ok(&bundle.delete());
    ok(&bundle.create());
    assert_eq!(says(&bundle, &[], "cat /proc/1/comm"), "stockade");
    assert_eq!(bundle.state()["status"], "created");
}

#[test]
fn users_groups_and_environment() {
    need_root!("users_groups_and_environment");
    let mut bundle = Bundle::silent(&["sleep", "1000"]);
    bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 7, "additionalGids": [8] });
    bundle.config["process"]["env"] = json!(["PATH=/bin", "A=1", "B=2"]);
    std::fs::write(bundle.rootfs().join("etc/group"), "root:x:0:\nuser:x:1000:\nstaff:x:50:user,other\n7:x:60:\n")
        .unwrap();
    std::fs::write(
        bundle.rootfs().join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n1:x:0:0::/:\nminus:x:4294967295:0::/:\n",
    )
    .unwrap();
    let bundle = started(bundle);
    let who = "echo $(id -u) $(id -g) $(id -G) $HOME";
    assert_eq!(says(&bundle, &[], who), "0 7 7 8 /root");
    assert_eq!(says(&bundle, &["-u", "1000"], who), "1000 7 7 8 /home");
    assert_eq!(says(&bundle, &["-u", "5:6", "-g", "9", "--additional-gids", "10"], who), "5 6 6 8 9 10 /");
    assert_eq!(says(&bundle, &["-u", "user"], who), "1000 1000 1000 50 /home");
    assert_eq!(says(&bundle, &["-u", "user:staff"], who), "1000 50 50 /home");
    // The image has a user called 1 who is root there (CVE-2016-3697, CVE-2026-30892).
    assert_eq!(says(&bundle, &["-u", "1"], "id -u"), "1");
    refused(&exec(&bundle, &["-u", "minus", "box", "id"]), "no such user");
    assert_eq!(
        says(&bundle, &["-e", "B=3", "--env", "C=4", "--env=B=5"], "env | grep '^[ABC]=' | sort"),
        "A=1\nB=5\nC=4"
    );
    assert_eq!(says(&bundle, &["-e", "B=5"], "cat /proc/self/environ | tr '\\0' '\\n' | grep -c ^B="), "1");
    assert_eq!(says(&bundle, &["--cwd", "/tmp"], "pwd"), "/tmp");
}

#[test]
fn a_hostile_passwd_does_not_hang() {
    need_root!("a_hostile_passwd_does_not_hang");
    // Each hostile thing and its control: numbers go through whatever it is. id(1) would read passwd itself.
    let who = "read -r _ uid _ <<E\n$(grep ^Uid: /proc/self/status)\nE\necho $uid $HOME";
    for (kind, make) in [
        ("fifo", "rm -f passwd; mkfifo passwd"),
        ("directory", "rm -f passwd; mkdir passwd"),
        ("loop", "rm -rf passwd; ln -s passwd passwd"),
        ("zero", "rm -rf passwd; ln -s /dev/zero passwd"),
        ("huge", "rm -rf passwd; truncate -s 1G passwd"),
    ] {
        let bundle = Bundle::silent(&["sleep", "1000"]);
        let etc = bundle.rootfs().join("etc");
        assert!(std::process::Command::new("sh").args(["-ec", make]).current_dir(etc).status().unwrap().success());
        let bundle = started(bundle);
        let began = std::time::Instant::now();
        refused(&exec(&bundle, &["-u", "user", "box", "id"]), "no such user");
        assert_eq!(says(&bundle, &["-u", "1000:1000"], who), "1000 /", "{kind}");
        assert!(began.elapsed().as_secs() < 20, "{kind}: {:?}", began.elapsed());
    }
}

/// Writes a process file and executes it.
fn by_file(bundle: &Bundle, process: &Value) -> Output {
    let file = bundle.path().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    exec(bundle, &["--process", file.to_str().unwrap(), "box"])
}

#[test]
fn a_process_file_asks_for_less_and_gets_it() {
    need_root!("a_process_file_asks_for_less_and_gets_it");
    let script =
        "grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'; ulimit -n; umask; id -u";
    let process = json!({
        "args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0, "umask": 7 },
        "capabilities": capabilities(&["CAP_KILL"]), "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 50, "hard": 60 }],
        "noNewPrivileges": true
    });
    let mut bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    bundle.config["process"]["capabilities"] = capabilities(&["CAP_KILL", "CAP_CHOWN"]);
    let bundle = started(bundle);
    let less = "CapEff:0000000000000020\nCapBnd:0000000000000020\nNoNewPrivs:1\nSeccomp:0\n50\n0007\n0\n";
    assert_eq!(ok(&by_file(&bundle, &process)), less);
    // Silent about capabilities: those of init.
    let mut silent = process.clone();
    silent.as_object_mut().unwrap().remove("capabilities");
    assert!(ok(&by_file(&bundle, &silent)).starts_with("CapEff:0000000000000021\nCapBnd:0000000000000021\n"));
    // From a shell's pipe, as `<(...)` gives it.
    let file = bundle.path().join("process.json");
    let words =
        bundle.command(&["exec", "--process", "/dev/fd/0", "box"]).stdin(std::fs::File::open(file).unwrap()).output();
    assert!(ok(&words.unwrap()).starts_with("CapEff:"));
    for (field, value, word) in [
        ("cwd", json!("relative"), "not an absolute path"),
        ("args", json!([]), "process.args"),
        ("user", json!({ "uid": 4294967295u32, "gid": 0 }), "4294967295"),
        ("args", json!(7), "args"),
    ] {
        let mut wrong = process.clone();
        wrong[field] = value;
        refused(&by_file(&bundle, &wrong), word);
    }
}

#[test]
fn more_than_init_could_have_is_judged_by_the_policy_of_create() {
    need_root!("more_than_init_could_have_is_judged_by_the_policy_of_create");
    let bounding = "sed -n 's/^CapBnd:.//p' /proc/self/status";
    let process = json!({
        "args": ["sh", "-c", bounding], "cwd": "/", "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 },
        "capabilities": capabilities(&["CAP_KILL", "CAP_SYS_ADMIN"]), "noNewPrivileges": false
    });
    let bundle = |policy: &str| {
        let mut bundle = Bundle::usual(&["sleep", "1000"]);
        bundle.config["process"]["capabilities"] = capabilities(&["CAP_KILL", "CAP_CHOWN"]);
        if policy.is_empty() { bundle } else { bundle.policy(policy) }
    };
    // oci does what is asked.
    let oci = started(bundle("oci"));
    assert_eq!(ok(&by_file(&oci, &process)).trim(), "0000000000200020");
    assert_eq!(says(&oci, &["--cap", "CAP_SYS_ADMIN", "--cap", "net_raw"], bounding), "0000000000202021");
    // strict tightens what an engine asks by file, and refuses what a person asks by flag.
    let mut strict = started(bundle("strict"));
    assert_eq!(ok(&by_file(&strict, &process)).trim(), "0000000000000020");
    refused(&exec(&strict, &["--cap", "SYS_ADMIN", "box", "true"]), "SYS_ADMIN");
    assert_eq!(says(&strict, &["--cap", "CHOWN"], bounding), "0000000000000021");
    assert_eq!(says(&strict, &["--cap", "CAP_UNKNOWN"], bounding), "0000000000000021", "nothing is given");
    // The caller's policy of today changes nothing.
    strict.global = vec!["--policy".into(), "oci".into()];
    assert_eq!(ok(&by_file(&strict, &process)).trim(), "0000000000000020");
    // An operator's policy that refuses.
    let refusing = started(bundle("").operator(json!({ "extends": "strict", "capabilities": { "above": "refuse" } })));
    refused(&by_file(&refusing, &process), "SYS_ADMIN");
    // no_new_privs stays, whatever the file says; and what a policy does not know it does not skip.
    let mut file = process.clone();
    file["args"] = json!(["sh", "-c", "sed -n 's/^NoNewPrivs:.//p' /proc/self/status"]);
    file["capabilities"] = capabilities(&[]);
    assert_eq!(ok(&by_file(&refusing, &file)).trim(), "1");
    file["moon"] = json!(1);
    refused(&by_file(&refusing, &file), "moon");
    // A container of oci without no_new_privs gets it by the flag.
    let flag = "sed -n 's/^NoNewPrivs:.//p' /proc/self/status";
    assert_eq!((says(&oci, &[], flag), says(&oci, &["--no-new-privs"], flag)), ("0".into(), "1".into()));
}

#[test]
fn a_paused_container_lets_nobody_in_unasked() {
    let name = "a_paused_container_lets_nobody_in_unasked";
    need_root!(name);
    let bundle = started(Bundle::silent(&["sleep", "1000"]));
    ok(&bundle.verb(&["pause", "box"]));
    refused(&exec(&bundle, &["box", "true"]), "cannot exec in a paused container");
    let mut waiting =
        bundle.command(&["exec", "--ignore-paused", "box", "echo", "resumed"]).stdout(Stdio::piped()).spawn().unwrap();
    wait_for("a second process, frozen", || {
        let listed = ok(&bundle.verb(&["ps", "--format", "json", "box"]));
        serde_json::from_str::<Vec<i32>>(&listed).unwrap().len() == 2
    });
    assert!(waiting.try_wait().unwrap().is_none(), "it runs in a paused container");
    ok(&bundle.verb(&["resume", "box"]));
    assert_eq!(ok(&waiting.wait_with_output().unwrap()), "resumed\n");
}

#[test]
fn a_terminal_of_the_containers_own() {
    need_root!("a_terminal_of_the_containers_own");
    for policy in ["strict", "oci"] {
        let bundle = started(Bundle::usual(&["sleep", "1000"]).policy(policy));
        let path = bundle.path().join("console.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let script = "tty; stat -c '%u %g' $(tty); stty size; readlink /proc/self/fd/0; sh -c 'echo >/dev/tty' && echo owns; exit";
        let process = json!({
            "terminal": true, "consoleSize": { "height": 33, "width": 77 },
            "args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": { "uid": 1000, "gid": 1000 }
        });
        let file = bundle.path().join("process.json");
        std::fs::write(&file, process.to_string()).unwrap();
        let (file, socket) = (file.display().to_string(), path.display().to_string());
        detached(&bundle, &["-p", &file, "--console-socket", &socket], &[]).unwrap();
        let mut master = std::fs::File::from(receive(&listener).0);
        let mut said = Vec::new();
        // The end of a terminal is EIO.
        let mut buffer = [0u8; 4096];
        while let Ok(n @ 1..) = master.read(&mut buffer) {
            said.extend_from_slice(&buffer[..n]);
        }
        let said = text(&said).replace('\r', "");
        let lines: Vec<&str> = said.lines().filter(|l| !l.is_empty()).collect();
        // devpts has gid=5 in this config; strict drops it only where 5 is not mapped.
        assert_eq!(lines, ["/dev/pts/0", "1000 5", "33 77", "/dev/pts/0", "owns"], "{policy}: {said}");
    }
}

#[test]
fn a_terminal_in_the_foreground() {
    need_root!("a_terminal_in_the_foreground");
    let bundle = started(Bundle::usual(&["sleep", "1000"]).policy("oci"));
    // script(1) is the person's terminal: what it shows has come through both.
    let words = bundle.command(&["exec", "--tty", "box", "sh", "-c", "tty; test -t 1 && echo is-a-terminal; exit 5"]);
    let line: Vec<String> = std::iter::once(words.get_program())
        .chain(words.get_args())
        .map(|w| format!("'{}'", w.to_string_lossy()))
        .collect();
    let line = line.join(" ").replace("'sh' '-c' '", "sh -c '");
    let out = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = text(&out.stdout);
    assert!(said.contains("/dev/pts/0") && said.contains("is-a-terminal"), "{said}");
    assert_eq!(out.status.code(), Some(5), "{said}");
}

#[test]
fn the_end_of_the_caller_ends_a_foreground_exec() {
    need_root!("the_end_of_the_caller_ends_a_foreground_exec");
    let bundle = started(Bundle::silent(&["sleep", "1000"]));
    // Those that are executed: on its way in, the process is still ours, and a signal ends the exec as a failure.
    let count = || {
        let pids: Vec<i32> = serde_json::from_str(&ok(&bundle.verb(&["ps", "--format", "json", "box"]))).unwrap();
        pids.into_iter().filter(|pid| proc_status(*pid, "Name").is_some_and(|name| name != "stockade")).count()
    };
    let mut caller = bundle.command(&["exec", "box", "sleep", "1001"]).spawn().unwrap();
    wait_for("two processes", || count() == 2);
    // A signal to the caller is the command's.
    kill(Pid::from_raw(caller.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(caller.wait().unwrap().code(), Some(128 + 15));
    wait_for("one process", || count() == 1);
    let mut caller = bundle
        .command(&["exec", "box", "sh", "-c", "trap '' TERM HUP INT; while :; do sleep 1; done"])
        .spawn()
        .unwrap();
    wait_for("two processes", || count() >= 2);
    kill(Pid::from_raw(caller.id() as i32), Signal::SIGKILL).unwrap();
    caller.wait().unwrap();
    wait_for("one process", || count() == 1);
}

#[test]
fn descriptors_are_closed_but_those_that_are_named() {
    need_root!("descriptors_are_closed_but_those_that_are_named");
    let bundle = started(Bundle::silent(&["sleep", "1000"]));
    let secret = bundle.path().join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    let line = |options: &str, script: &str| {
        let words = bundle.command(&["exec"]);
        let start: Vec<String> = std::iter::once(words.get_program())
            .chain(words.get_args())
            .map(|w| w.to_string_lossy().into_owned())
            .collect();
        let shell =
            format!("exec 3<'{0}' 4<'{0}' 7</; {1} {options} box sh -c '{script}'", secret.display(), start.join(" "));
        std::process::Command::new("sh").args(["-c", &shell]).stdin(Stdio::null()).output().unwrap()
    };
    // A glob of the shell's own: 3 would be its own look at the directory otherwise.
    let open = "for n in 3 4 5 6 7 8 9; do [ -e /proc/self/fd/$n ] && echo $n; done; true";
    assert_eq!(ok(&line("", open)), "");
    assert_eq!(ok(&line("--preserve-fds 2", open)), "3\n4\n");
    assert_eq!(ok(&line("--preserve-fds 1", "cat <&3")), "of the host");
    // Neither the directory nor the program of a descriptor that leaked to the caller (CVE-2024-21626).
    refused(&line("--cwd /proc/self/fd/7", "pwd"), "cwd");
    let host = bundle.path().join("host-program");
    std::fs::copy(busybox(), &host).unwrap();
    let words = bundle.command(&["exec", "box", "/proc/self/fd/5", "echo", "escaped"]);
    let start: Vec<String> = std::iter::once(words.get_program())
        .chain(words.get_args())
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    let shell = format!("exec 5<'{}'; {}", host.display(), start.join(" "));
    let out = std::process::Command::new("sh").args(["-c", &shell]).stdin(Stdio::null()).output().unwrap();
    refused(&out, "/proc/self/fd/5");
}

/// While an exec is on its way in, stopped by us, the container's root looks at it.
/// The sealed copy of the runtime, which is what shares ids with the host.
fn is_runtime(exe: &Path) -> bool {
    exe == Path::new("/memfd:stockade (deleted)")
}

#[test]
fn nobody_inside_can_look_into_who_is_coming() {
    need_root!("nobody_inside_can_look_into_who_is_coming");
    // Host ids are shared here and all usual capabilities but SYS_PTRACE given: only dumpability stands in the way.
    let mut bundle = Bundle::usual(&["sh"]).policy("oci");
    bundle.config["process"]["capabilities"] = capabilities(&[
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_CHOWN",
        "CAP_SYS_CHROOT",
    ]);
    let mut talk = probe::Talk::with(&bundle);
    let mut caught = 0;
    for _ in 0..60 {
        if caught == 8 {
            break;
        }
        let mut caller = bundle.command(&["exec", "box", "true"]).stdout(Stdio::null()).spawn().unwrap();
        let runtime = Pid::from_raw(caller.id() as i32);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        // Caught between the bridge's clone and the execve: its exe is still ours.
        let mut coming = None;
        while coming.is_none() && caller.try_wait().unwrap().is_none() && std::time::Instant::now() < end {
            coming = children(runtime.as_raw()).into_iter().find(|pid| {
                proc_status(*pid, "NSpid").is_some_and(|n| n.split_whitespace().count() == 2)
                    && std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| is_runtime(&exe))
            });
        }
        if let Some(pid) = coming {
            let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
            let still = std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| is_runtime(&exe));
            let number = proc_status(pid, "NSpid").and_then(|n| n.split_whitespace().last().map(str::to_owned));
            if let (true, Some(n)) = (still, number) {
                caught += 1;
                // From outside: it holds nothing of the host but its three, its end of the talk, and a namespace, once it
                // has let go of the pidfd that it came by.
                let held: Vec<(i32, String)> = std::fs::read_dir(format!("/proc/{pid}/fd"))
                    .unwrap()
                    .flatten()
                    .map(|e| {
                        let link = std::fs::read_link(e.path()).unwrap_or_default().display().to_string();
                        (e.file_name().to_string_lossy().parse().unwrap(), link)
                    })
                    .collect();
                let fresh = held.iter().any(|(_, h)| h.ends_with("[pidfd]"));
                for (number, held) in held.into_iter().filter(|_| !fresh) {
                    let harmless = ["socket:", "cgroup:", "/dev/pts", "/dev/tty"];
                    assert!(
                        number < 3 || held == "/" || harmless.iter().any(|h| held.starts_with(h)),
                        "{number}: {held}"
                    );
                }
                let look = format!(
                    "for f in exe root cwd; do readlink /proc/{n}/$f && echo SEEN; done; for l in /proc/{n}/fd/*; do readlink $l && echo SEEN; done; \
                     cat /proc/{n}/environ && echo SEEN; cat /proc/{n}/maps && echo SEEN; head -c 1 /proc/{n}/mem && echo SEEN; true"
                );
                let said = talk.ask(&format!("{{ {look}; }} 2>/dev/null"));
                assert_eq!(said, "", "the container looked into an exec");
            }
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
        assert!(caller.wait().unwrap().success());
    }
    assert_eq!(caught, 8, "too few were caught on their way");
    // The control: what has arrived can be looked at.
    let caller = bundle.command(&["exec", "box", "sleep", "5"]).stdout(Stdio::null()).spawn().unwrap();
    let mut seen = String::new();
    wait_for("an exec that can be seen", || {
        seen = talk.ask("for p in /proc/[0-9]*; do readlink $p/exe; done 2>/dev/null | grep -c busybox");
        seen.parse::<u32>().unwrap_or(0) >= 2
    });
    kill(Pid::from_raw(caller.id() as i32), Signal::SIGTERM).unwrap();
    let mut caller = caller;
    caller.wait().unwrap();
}

fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|n| n.parse().ok()).collect()
}

#[test]
fn it_is_born_in_the_cgroup_or_below_it() {
    let name = "it_is_born_in_the_cgroup_or_below_it";
    need_root!(name);
    let mut bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    // Writable, so that the container can make groups of its own.
    bundle.config["mounts"][6]["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
    let bundle = started(bundle);
    let line = |pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        text.lines().find_map(|l| l.strip_prefix("0::")).unwrap().to_owned()
    };
    let top = line(bundle.pid());
    let detached = |options: &[&str]| detached(&bundle, options, &["sleep", "1001"]);
    assert_eq!(line(detached(&[]).unwrap()), top);
    // Inside it is the root of the cgroup namespace.
    assert!(says(&bundle, &[], "grep ^0:: /proc/self/cgroup").ends_with("0::/"));
    refused(&detached(&["--cgroup", "below"]).unwrap_err(), "no such file");
    refused(&detached(&["--cgroup", "../other"]).unwrap_err(), "bad sub cgroup path");
    refused(&detached(&["--cgroup", "memory:below"]).unwrap_err(), "unknown controller");
    let mount = cgroup_mount();
    std::fs::create_dir(mount.join(&top[1..]).join("below")).unwrap();
    assert_eq!(line(detached(&["--cgroup", "below"]).unwrap()), format!("{top}/below"));
    assert_eq!(line(detached(&["--cgroup", "/"]).unwrap()), top);
    if !controllers(&["pids"]) {
        return skip("it_is_born_in_the_cgroup_or_below_it, with controllers below", "no cgroup v2 controllers here");
    }
    // The workload moves everybody down and enables a controller: the top takes no processes any more.
    let script = "mkdir /sys/fs/cgroup/inner && for p in $(cat /sys/fs/cgroup/cgroup.procs); do echo $p >/sys/fs/cgroup/inner/cgroup.procs; done; \
                  echo +pids >/sys/fs/cgroup/cgroup.subtree_control";
    // sh itself is among them.
    says(&bundle, &[], script);
    assert_eq!(line(bundle.pid()), format!("{top}/inner"));
    assert_eq!(line(detached(&[]).unwrap()), format!("{top}/inner"), "it goes where init is");
    refused(&detached(&["--cgroup", "/"]).unwrap_err(), "EBUSY");
}

#[test]
fn an_ordinary_users_containers() {
    let name = "an_ordinary_users_containers";
    let callers = if is_root() {
        let mut all = vec![Caller::single()];
        match Caller::ranged() {
            Ok(caller) => all.push(caller),
            Err(why) => skip("an_ordinary_users_containers, with ranges", why),
        }
        all
    } else {
        vec![Caller::me()]
    };
    let _ = name;
    for caller in callers {
        let config = json!({
            "ociVersion": "1.0.2",
            "process": { "user": { "uid": 0, "gid": 0 }, "args": ["sleep", "1000"], "env": ["PATH=/bin"], "cwd": "/" },
            "root": { "path": "rootfs" }
        });
        let dir = caller.bundle(&config).display().to_string();
        let err = caller.path().join("err");
        let quiet = |args: &[&str]| {
            let status = caller
                .command(args)
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(&err).unwrap())
                .status()
                .unwrap();
            assert!(status.success(), "{args:?}: {}", std::fs::read_to_string(&err).unwrap());
        };
        quiet(&["create", "--bundle", &dir, "box"]);
        // Before its start its memory is the runtime's, which an ordinary user may not enter.
        refused(&caller.stockade(&["exec", "box", "true"]), "can enter it only then");
        quiet(&["start", "box"]);
        let script = "id -u; grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'";
        let out = ok(&caller.stockade(&["exec", "box", "sh", "-c", script]));
        assert_eq!(out, "0\nCapBnd:0000000000000000\nNoNewPrivs:1\nSeccomp:2\n", "uid {}", caller.uid);
        let init: Value = serde_json::from_str(&ok(&caller.stockade(&["state", "box"]))).unwrap();
        let file = caller.xdg().join("exec.pid");
        quiet(&["exec", "--detach", "--pid-file", file.to_str().unwrap(), "box", "sleep", "1001"]);
        let pid = std::fs::read_to_string(&file).unwrap();
        let cgroup = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert_eq!(cgroup(&pid), cgroup(&init["pid"].to_string()), "uid {}", caller.uid);
        // Seen from here: a process of exec is in a Landlock domain of its own, and cannot look into init.
        let namespace = |pid: &str, n: &str| std::fs::read_link(format!("/proc/{pid}/ns/{n}")).unwrap();
        for n in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
            assert_eq!(namespace(&pid, n), namespace(&init["pid"].to_string(), n), "uid {}: {n}", caller.uid);
        }
        ok(&caller.stockade(&["delete", "--force", "box"]));
        assert_eq!(caller.left(), [""; 0]);
    }
}
