//! The command line as runc's and crun's callers type it, and what they read back: help, version, errors, the log, the
//! document of features. What verbs do to containers is in tests/lifecycle.rs.

#![allow(clippy::unwrap_used)]

mod common;
use common::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Types a line; `{}` in it is a directory of the test.
fn typed(dir: &Path, line: &str) -> Output {
    let line = line.replace("{}", &dir.display().to_string());
    Command::new(runtime()).args(line.split_whitespace()).current_dir(dir).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_wrong_command_line_is_one_line_and_status_1() {
    let dir = scratch();
    for (line, words) in [
        ("", "no verb"),
        ("fly", "No help topic for 'fly'"),
        ("help fly", "No help topic for 'fly'"),
        ("run", "<ID>"),
        ("create a b", "unexpected argument 'b'"),
        ("state --no-such box", "'--no-such'"),
        ("state -no-such box", "'-n'"),
        ("--no-such list", "'--no-such'"),
        ("--log-format=invalid list", "'invalid'"),
        ("--log-level=shout list", "'shout'"),
        ("--cgroup-manager=mine list", "'mine'"),
        ("--rootless=perhaps list", "'perhaps'"),
        ("list --format xml", "'xml'"),
        ("run --detach=maybe box", "'maybe'"),
        ("run --preserve-fds many box", "'many'"),
        ("run box --bundle", "--bundle"),
        ("kill", "<ID>"),
        ("delete", "<ID>"),
    ] {
        let out = typed(dir.path(), line);
        let err = failed(&out);
        assert_eq!(out.status.code(), Some(1), "{line}");
        assert!(out.stdout.is_empty(), "{line}: {}", text(&out.stdout));
        assert!(err.starts_with("stockade: command line: ") && err.contains(words), "{line}: {err}");
        assert!(err.contains("hint: stockade"), "{line}: {err}");
    }
}

#[test]
fn help_and_version_have_the_lines_that_callers_look_for() {
    let dir = scratch();
    let link = dir.path().join("runc");
    std::os::unix::fs::symlink(runtime(), &link).unwrap();
    let by = |name: &Path, line: &str| ok(&Command::new(name).args(line.split_whitespace()).output().unwrap());
    for line in ["-h", "--help", "help", "h"] {
        let help = by(&link, line);
        let lines: Vec<&str> = help.lines().collect();
        assert_eq!(lines[0], "NAME:", "{line}");
        assert!(lines[1].trim().starts_with("runc - Open Container Initiative runtime"), "{line}: {}", lines[1]);
    }
    for verb in [
        "create", "delete", "events", "exec", "features", "kill", "list", "pause", "ps", "resume", "run", "spec",
        "start", "state", "update",
    ] {
        for line in [format!("{verb} -h"), format!("{verb} --help"), format!("help {verb}"), format!("h {verb}")] {
            let help = by(&link, &line);
            let lines: Vec<&str> = help.lines().collect();
            assert_eq!(lines[0], "NAME:", "{line}");
            assert!(lines[1].trim().starts_with(&format!("runc {verb} ")), "{line}: {}", lines[1]);
            assert!(help.contains(&format!("Usage: runc {verb}")), "{line}: {help}");
        }
    }
    for line in ["--version", "-v", "-version"] {
        let version = by(&runtime(), line);
        let lines: Vec<&str> = version.lines().collect();
        assert_eq!(lines[0], format!("stockade version {}", env!("CARGO_PKG_VERSION")));
        assert!(lines[1].starts_with("commit: ") && lines[2].starts_with("spec: 1."), "{version}");
        assert!(lines[3].starts_with("+") && lines[3].contains("+SECCOMP"), "{version}");
    }
    // Under another name it still says what it is.
    assert!(by(&link, "-v").starts_with("runc version ") && by(&link, "-v").contains("\nstockade: "));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let dir = scratch();
    let mut child =
        Command::new(runtime()).arg("features").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(child.wait().unwrap().success() && err.is_empty(), "{err}");
    // A full disk is one; and it is an error, no panic.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let out = Command::new(runtime()).arg("features").stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert!(failed(&out).contains("ENOSPC"));
    drop(dir);
}

/// Every option of runc's man pages (1.1 to 1.4), in its long and its short form: none is a wrong command line. What is not
/// done is refused by its name.
#[test]
fn every_option_of_runc_s_man_pages_is_known() {
    let dir = scratch();
    const LAUNCH: &str = "--bundle=/no -b=/no --console-socket=/no --pidfd-socket=/no --pid-file=/no --no-pivot \
        --no-new-keyring --preserve-fds=0";
    let verbs = [
        (
            "checkpoint",
            "--image-path=/no --work-path=/no --parent-path=no --leave-running --tcp-established \
            --tcp-skip-in-flight --link-remap --ext-unix-sk --shell-job --lazy-pages --status-fd=-1 \
            --page-server=127.0.0.1:7 --file-locks --pre-dump --manage-cgroups-mode=soft --manage-cgroups-mode=full \
            --manage-cgroups-mode=strict --manage-cgroups-mode=ignore --empty-ns=network --auto-dedup",
        ),
        ("create", LAUNCH),
        ("delete", "--force -f"),
        ("events", "--interval=5s --stats"),
        (
            "exec",
            "--console-socket=/no --pidfd-socket=/no --cwd=/ --env=A=1 -e=A=1 --tty -t --user=1:1 -u=1 \
            --additional-gids=1 -g=1 --process=/no -p=/no --detach -d --pid-file=/no --process-label=x --apparmor=x \
            --no-new-privs --cap=CAP_KILL -c=CAP_KILL --preserve-fds=0 --cgroup=/ --ignore-paused",
        ),
        ("kill", "--all -a"),
        ("list", "--format=json -f=table --quiet -q"),
        ("pause", ""),
        ("ps", "--format=json -f=table"),
        (
            "restore",
            "--console-socket=/no --image-path=/no --work-path=/no --tcp-established --ext-unix-sk --shell-job \
            --file-locks --manage-cgroups-mode=soft --bundle=/no -b=/no --detach -d --pid-file=/no --no-subreaper \
            --no-pivot --empty-ns=network --auto-dedup --lazy-pages --lsm-profile=apparmor:x --lsm-mount-context=x",
        ),
        ("resume", ""),
        ("run", LAUNCH),
        ("run", "--detach -d --keep --no-subreaper"),
        ("spec", "--bundle=/no/where -b=/no/where --rootless"),
        ("start", ""),
        ("state", ""),
        (
            "update",
            "--resources=/no -r=/no --blkio-weight=10 --cpu-period=1000 --cpu-quota=1000 --cpu-burst=10 \
            --cpu-share=10 --cpu-rt-period=0 --cpu-rt-runtime=0 --cpu-idle=1 --cpuset-cpus=0 --cpuset-mems=0 \
            --kernel-memory=0 --kernel-memory-tcp=0 --memory=64M --memory=-1 --memory-reservation=1 --memory-swap=-1 \
            --pids-limit=1 --l3-cache-schema=L3:0=1 --mem-bw-schema=MB:0=1",
        ),
    ];
    let globals = "--debug --log={}/log --log-format=json --log-format=text --root={}/state --criu=criu \
        --systemd-cgroup --rootless=true --rootless=false --rootless=auto";
    let known = |line: &str| {
        let out = typed(dir.path(), line);
        let err = text(&out.stderr);
        assert!(!err.contains("stockade: command line:"), "{line}: {err}");
        // The parser alone would say 1 of a panic, too.
        assert!(matches!(out.status.code(), Some(0 | 1 | 255)) && !err.contains("panicked"), "{line}: {err}");
    };
    for (verb, flags) in verbs {
        let id = if ["list", "spec"].contains(&verb) { "" } else { "nobody" };
        let command = if verb == "exec" { "true" } else { "" };
        for flag in flags.split_whitespace().chain([""]) {
            let flag = if verb == "spec" && flag == "--rootless" { "--rootless --bundle=/no/where" } else { flag };
            let flag = if verb == "spec" && flag.is_empty() { "--bundle=/no/where" } else { flag };
            known(&format!("--root={{}}/state {verb} {flag} {id} {command}"));
        }
    }
    for flag in globals.split_whitespace() {
        known(&format!("{flag} state nobody"));
    }
}

/// The same meaning, however it is spelt: Go's flags take one dash or two, and a boolean takes a value.
#[test]
fn spellings_of_go_and_of_getopt_mean_the_same() {
    need_root!("spellings_of_go_and_of_getopt_mean_the_same");
    let bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    bundle.write();
    for line in [
        "run --detach --bundle {} --pid-file pid box",
        "run -d -b {} -pid-file pid box",
        "run box -d -b{} --pid-file=pid --no-subreaper",
        "run -no-subreaper -detach=true -bundle={} -pid-file=pid box",
        "run --detach --keep=false --no-new-keyring --preserve-fds 0 -b={} --pid-file pid box",
        "run --detach=1 --no-pivot=false --bundle {} --pid-file pid -- box",
    ] {
        silent(&on(&bundle, line));
        assert_eq!(std::fs::read_to_string(bundle.path().join("pid")).unwrap(), bundle.pid().to_string(), "{line}");
        std::fs::remove_file(bundle.path().join("pid")).unwrap();
        for (line, answer) in [
            ("list -q", "box\n"),
            ("list --quiet=true", "box\n"),
            ("-debug=false list -q -f json", "box\n"),
            ("--systemd-cgroup=false --rootless=auto list -q --format table", "box\n"),
            ("--rootless true --criu /no/criu list --quiet", "box\n"),
            ("kill box 0", ""),
            ("kill -all box 0", ""),
            ("kill --all=false box 0", ""),
            ("kill box -a 0", ""),
            ("delete -force box", ""),
        ] {
            let out = on(&bundle, line);
            assert_eq!((ok(&out).as_str(), text(&out.stderr).as_str()), (answer, ""), "{line}");
        }
    }
    // The last one counts; what may be there many times is.
    silent(&on(&bundle, "--root /no/such --root {}/state run -d -b /no/such -b {} --pid-file no --pid-file pid box"));
    assert!(bundle.path().join("pid").exists() && !bundle.path().join("no").exists());
    assert_eq!(ok(&on(&bundle, "exec -e A=1 --env B=2 -e C=3 box env")).lines().filter(|l| l.len() == 3).count(), 3);
    silent(&on(&bundle, "delete -f box"));
    silent(&on(&bundle, "delete -f=true box"));
    assert!(failed(&on(&bundle, "delete -f=false box")).contains("does not exist"));
}

#[test]
fn a_configuration_of_another_name_is_the_bundles() {
    need_root!("a_configuration_of_another_name_is_the_bundles");
    let mut bundle = Bundle::usual(&["echo", "the usual one"]).policy("oci");
    bundle.write();
    bundle.config["process"]["args"] = json!(["echo", "the other one"]);
    std::fs::write(bundle.path().join("other.json"), bundle.config.to_string()).unwrap();
    for (line, says) in [
        ("run -b {} box", "the usual one"),
        ("run -b {} --config other.json box", "the other one"),
        ("run --config={}/other.json -b {} box", "the other one"),
        ("run -f other.json -b {} box", "the other one"),
        ("explain -f other.json {}", "echo the other one"),
    ] {
        assert!(ok(&on(&bundle, line)).contains(says), "{line}");
    }
    assert!(failed(&on(&bundle, "run --config none.json -b {} box")).contains("none.json"));
}

#[test]
fn no_pivot_is_the_policys_to_allow_and_hides_the_hosts_procfs() {
    need_root!("no_pivot_is_the_policys_to_allow_and_hides_the_hosts_procfs");
    let script = "cat /proc/1/comm; mount -t proc none /mnt 2>&1; ls /mnt /.. | tr '\\n' ' '";
    for user in [false, true] {
        let mut bundle = Bundle::usual(&["sh", "-c", script]).policy("oci");
        bundle.config["process"]["capabilities"] = json!({});
        if user {
            bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
            let maps = json!([{ "containerID": 0, "hostID": 3_000_000, "size": 65536 }]);
            bundle.config["linux"]["uidMappings"] = maps.clone();
            bundle.config["linux"]["gidMappings"] = maps;
        }
        bundle.write();
        let out = on(&bundle, "run --no-pivot -b {} box");
        if user {
            // The host's mounts are locked there, and stay visible: not with this flag.
            let e = failed(&out);
            assert!(e.contains("chroot") && e.contains("--no-pivot needs the host's ids"), "{e}");
            continue;
        }
        let said = ok(&out);
        assert!(said.starts_with("sh") && said.contains("denied") && !said.contains("sysrq-trigger"), "{said}");
        let there = ok(&on(&bundle, "run -b {} box"));
        assert_eq!(there, said, "it sees the same with and without");
    }
    let strict = Bundle::silent(&["true"]);
    strict.write();
    let e = failed(&on(&strict, "run --no-pivot -b {} box"));
    assert!(e.contains("--no-pivot") && e.contains("policy key noPivot"), "{e}");
    // An operator's file loosens it, and what cannot be done safely is still refused.
    let loose = Bundle::silent(&["true"]).operator(json!({ "extends": "strict", "noPivot": "allow" }));
    loose.write();
    let e = failed(&on(&loose, "run --no-pivot -b {} box"));
    assert!(e.contains("--no-pivot needs the host's ids"), "{e}");
}

#[test]
fn delete_takes_a_regular_expression() {
    need_root!("delete_takes_a_regular_expression");
    let bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    bundle.write();
    for id in ["web-1", "web-2", "db"] {
        silent(&on(&bundle, &format!("create -b {{}} {id}")));
    }
    assert!(failed(&on(&bundle, "delete -f --regex [")).contains("--regex"));
    silent(&on(&bundle, "delete -f --regex ^web-."));
    assert_eq!(ok(&on(&bundle, "list -q")), "db\n");
    // Without a match nothing happens; without the flag it is an id.
    silent(&on(&bundle, "delete -f --regex ^web-."));
    assert!(failed(&on(&bundle, "delete ^web-.")).contains("ID"));
    silent(&on(&bundle, "delete -f db"));
}

/// What engines read as failure is any byte on stderr, and Podman parses the whole log.
#[test]
fn success_is_silent_and_a_failure_is_one_record() {
    need_root!("success_is_silent_and_a_failure_is_one_record");
    let bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    bundle.write();
    let log = bundle.path().join("log.json");
    let records = || -> Vec<Value> {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let json = "--log {}/log.json --log-format json";
    silent(&on(&bundle, &format!("{json} create -b {{}} box")));
    silent(&on(&bundle, &format!("{json} start box")));
    silent(&on(&bundle, &format!("{json} --log-level=error kill box 0")));
    assert!(!log.exists());
    let all = [
        ("state nobody", "does not exist"),
        ("delete nobody", "does not exist"),
        ("create -b {} box", "already exists"),
        ("create -b {}/nowhere other", "no such file or directory"),
        ("create -b {} a/b", "invalid character"),
        ("start box", "running"),
        ("update --mem-bw-schema=MB:0=1 box", "--mem-bw-schema: MB:0=1: refused"),
        ("fly", "No help topic for 'fly'"),
        ("state", "<ID>"),
        ("--no-such list", "'--no-such'"),
    ];
    for (n, (line, words)) in all.iter().enumerate() {
        let out = on(&bundle, &format!("{json} {line}"));
        let err = failed(&out);
        let records = records();
        assert_eq!(records.len(), n + 1, "{line}: {records:?}");
        let last = &records[n];
        assert_eq!(last["level"], "error", "{line}");
        let msg = last["msg"].as_str().unwrap();
        assert!(msg.contains(words) && err.contains(msg), "{line}: {msg} / {err}");
        assert!(last["time"].as_str().unwrap().ends_with('Z'));
    }
    silent(&on(&bundle, &format!("{json} kill box KILL")));
    wait_for("stopped", || bundle.state()["status"] == "stopped");
    let err = failed(&on(&bundle, &format!("{json} kill box")));
    assert!(err.contains("container not running"), "{err}");
    assert_eq!(records().len(), all.len() + 1);
    silent(&on(&bundle, &format!("{json} delete box")));
    silent(&on(&bundle, &format!("{json} delete -f box")));
    assert_eq!(records().len(), all.len() + 1);

    // The other forms: text is logfmt; file: is crun's.
    for form in ["--log {}/log.txt", "--log=file:{}/log.txt", "--log=file:{}/log.txt --log-format=text"] {
        failed(&on(&bundle, &format!("{form} state nobody")));
        let text = std::fs::read_to_string(bundle.path().join("log.txt")).unwrap();
        assert!(text.starts_with("time=\"") && text.contains(" level=error msg=\"") && text.lines().count() == 1);
        std::fs::remove_file(bundle.path().join("log.txt")).unwrap();
    }
    // A log that cannot be written hides nothing.
    let out = on(&bundle, "--log {}/no/such/log state nobody");
    assert!(text(&out.stderr).contains("does not exist") && text(&out.stderr).contains("could not be written"));
}

#[test]
fn debug_lines_go_where_the_log_goes() {
    need_root!("debug_lines_go_where_the_log_goes");
    let bundle = Bundle::usual(&["true"]).policy("oci");
    bundle.write();
    for (flag, log) in [("--debug", "debug.json"), ("--log-level debug", "level.json")] {
        silent(&on(&bundle, &format!("{flag} --log {{}}/{log} --log-format json run -b {{}} box")));
        let text = std::fs::read_to_string(bundle.path().join(log)).unwrap();
        let levels: BTreeSet<String> = text
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap()["level"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(levels, BTreeSet::from(["debug".to_owned()]));
    }
    let out = on(&bundle, "--debug run -b {} box");
    assert!(out.status.success() && text(&out.stderr).contains("level=debug"));
}

/// `--log syslog:ID` and `journald:ID`: in a mount namespace of our own the host's sockets are ours.
#[test]
fn crun_s_loggers_get_their_message() {
    need_root!("crun_s_loggers_get_their_message");
    let dir = scratch();
    for (log, socket, starts, holds) in [
        ("syslog:me", "dev-log", "<11>me: ", "does not exist"),
        ("journald:me", "journal", "PRIORITY=3\nSYSLOG_IDENTIFIER=me\nMESSAGE=", "does not exist"),
    ] {
        let path = dir.path().join(socket);
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let (top, place) =
            if socket == "journal" { ("/run", "/run/systemd/journal/socket") } else { ("/dev", "/dev/log") };
        let script = format!(
            "mount -t tmpfs none {top} && mkdir -p $(dirname {place}) && ln -s {} {place} || exit 9; \
             exec {} --root {}/state --log {log} state nobody",
            path.display(),
            runtime().display(),
            dir.path().display()
        );
        let out = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
        assert!(failed(&out).contains("does not exist"));
        let mut buffer = [0u8; 4096];
        let n = listener.recv(&mut buffer).unwrap();
        let message = text(&buffer[..n]);
        assert!(message.starts_with(starts) && message.contains(holds), "{message}");
    }
}

#[test]
fn without_a_cgroup_manager_there_is_no_cgroup() {
    need_root!("without_a_cgroup_manager_there_is_no_cgroup");
    let own = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let bundle = Bundle::silent(&["sleep", "1000"]);
    bundle.write();
    silent(&on(&bundle, "--cgroup-manager disabled run -d -b {} box"));
    assert_eq!(own(&bundle.pid().to_string()), own("self"));
    silent(&on(&bundle, "delete -f box"));
    silent(&on(&bundle, "--cgroup-manager=cgroupfs run -d -b {} box"));
    assert_ne!(own(&bundle.pid().to_string()), own("self"));
    silent(&on(&bundle, "delete -f box"));
    // What the config asks must hold, or nothing runs.
    let mut bundle = Bundle::usual(&["true"]).policy("oci");
    bundle.config["linux"]["resources"] = json!({ "pids": { "limit": 7 } });
    bundle.write();
    let err = failed(&on(&bundle, "--cgroup-manager disabled run -b {} box"));
    assert!(err.contains("--cgroup-manager disabled"), "{err}");
}

/// SIGKILL is meant for all: also where the pid namespace is the host's and the init is gone already.
#[test]
fn a_kill_reaches_everybody_where_the_pid_namespace_is_shared() {
    need_root!("a_kill_reaches_everybody_where_the_pid_namespace_is_shared");
    for first in ["init", "nobody"] {
        let mut bundle = Bundle::usual(&["sh", "-c", "sleep 1000 & sleep 1000 & wait"]).policy("oci");
        let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|n| n["type"] != "pid");
        bundle.write();
        silent(&on(&bundle, "run -d -b {} box"));
        let pids = || -> Vec<i32> { serde_json::from_str(&ok(&on(&bundle, "ps -f json box"))).unwrap() };
        wait_for("three processes", || pids().len() == 3);
        let init = bundle.pid();
        if first == "init" {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL).unwrap();
            wait_for("stopped", || bundle.state()["status"] == "stopped");
            assert_eq!(pids().len(), 2);
            assert!(failed(&on(&bundle, "kill box TERM")).contains("container not running"));
        }
        silent(&on(&bundle, "kill box KILL"));
        wait_for("nobody", || pids().is_empty());
        assert!(failed(&on(&bundle, "kill box KILL")).contains("container not running"));
        silent(&on(&bundle, "delete box"));
    }
}

#[test]
fn list_is_sorted_and_has_runc_s_keys_in_order() {
    need_root!("list_is_sorted_and_has_runc_s_keys_in_order");
    let mut bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    bundle.config["annotations"] = json!({ "org.example": "1" });
    bundle.write();
    silent(&on(&bundle, "create -b {} zoo"));
    silent(&on(&bundle, "create -b {} ant"));
    assert_eq!(ok(&on(&bundle, "list -q")), "ant\nzoo\n");
    let line = ok(&on(&bundle, "list -f json"));
    assert_eq!(line.lines().count(), 1);
    let mut from = 0;
    for id in ["ant", "zoo"] {
        for key in ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner"] {
            let found = line[from..].find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{id} {key}: {line}"));
            from += found + 1;
        }
    }
    for id in ["ant", "zoo"] {
        silent(&on(&bundle, &format!("delete -f {id}")));
    }
    assert_eq!(ok(&on(&bundle, "list -f json")), "[]\n");
}

// ---------------------------------------------------------------- features

fn features() -> Value {
    serde_json::from_slice(&Command::new(runtime()).arg("features").output().unwrap().stdout).unwrap()
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().unwrap_or_else(|| panic!("{value}")).iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn features_have_the_keys_of_the_specification_and_no_others() {
    let all = features();
    let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let set = |words: &str| words.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(
        keys(&all),
        set("annotations hooks linux mountOptions ociVersionMax ociVersionMin potentiallyUnsafeConfigAnnotations")
    );
    let linux = &all["linux"];
    assert!(keys(linux).is_subset(&set(
        "apparmor capabilities cgroup intelRdt memoryPolicy mountExtensions namespaces netDevices seccomp selinux"
    )));
    assert_eq!(keys(&linux["cgroup"]), set("rdma systemd systemdUser v1 v2"));
    assert_eq!(keys(&linux["seccomp"]), set("actions archs enabled knownFlags operators supportedFlags"));
    // It parses as the specification's own type.
    let parsed: oci_spec::runtime::Features = serde_json::from_value(all.clone()).unwrap();
    assert_eq!(parsed.oci_version_min(), "1.0.0");
    for (_, value) in all["annotations"].as_object().unwrap() {
        assert!(value.is_string());
    }
    assert_eq!(all["hooks"].as_array().unwrap().len(), 6);
    assert_eq!(linux["namespaces"].as_array().unwrap().len(), 8);
    assert_eq!(linux["cgroup"]["v1"], false);
    assert!(list(&linux["capabilities"]).contains(&"CAP_CHECKPOINT_RESTORE".to_owned()));
    assert!(list(&linux["seccomp"]["archs"]).contains(&"SCMP_ARCH_X86_64".to_owned()));
    let known = list(&linux["seccomp"]["knownFlags"]);
    let supported = list(&linux["seccomp"]["supportedFlags"]);
    assert!(supported.iter().all(|f| known.contains(f)) && known.len() == 4, "{known:?} {supported:?}");
    // Every kernel that stockade runs on has these.
    assert!(supported.contains(&"SECCOMP_FILTER_FLAG_LOG".to_owned()), "{supported:?}");
}

/// Nothing is promised that is not taken: each version, hook, mount option, namespace, capability and word of seccomp is
/// put into a config.json, which must be planned.
#[test]
fn what_features_list_is_taken() {
    let all = features();
    let dir = scratch();
    make_rootfs(&dir.path().join("rootfs"));
    let usual = Bundle::usual(&["true"]);
    let base = || usual.config.clone();
    let planned = |config: &Value, what: &str| {
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let out = typed(dir.path(), "--policy oci explain {} --json");
        assert!(out.status.success(), "{what}: {}", text(&out.stderr));
        let plan = text(&out.stdout);
        assert!(!plan.contains("unknownFields"), "{what}: {plan}");
    };
    for key in ["ociVersionMin", "ociVersionMax"] {
        let mut config = base();
        config["ociVersion"] = all[key].clone();
        planned(&config, key);
    }
    for hook in list(&all["hooks"]) {
        let mut config = base();
        config["hooks"] = json!({ hook.as_str(): [{ "path": "/bin/true" }] });
        planned(&config, &hook);
    }
    let mut config = base();
    let count = config["mounts"].as_array().unwrap().len();
    for option in list(&all["mountOptions"]) {
        let bind = json!({ "destination": "/mnt", "type": "none", "source": "/usr", "options": ["rbind", option] });
        let tmpfs = json!({ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": [option] });
        let of_binds = ["bind", "rbind", "idmap", "ridmap"].contains(&option.as_str());
        config["mounts"].as_array_mut().unwrap().truncate(count);
        config["mounts"].as_array_mut().unwrap().push(if of_binds { bind } else { tmpfs });
        if option.ends_with("idmap") {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
            let map = json!([{ "containerID": 0, "hostID": 700_000, "size": 65_536 }]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        } else {
            config["linux"].as_object_mut().unwrap().remove("uidMappings");
            config["linux"].as_object_mut().unwrap().remove("gidMappings");
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "user");
        }
        planned(&config, &option);
    }
    for ns in list(&all["linux"]["namespaces"]) {
        let mut config = base();
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|n| n["type"] != ns.as_str());
        list.push(json!({ "type": ns }));
        if ns == "user" {
            let map = json!([{ "containerID": 0, "hostID": 700_000, "size": 65_536 }]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        }
        planned(&config, &ns);
    }
    let mut config = base();
    let caps = all["linux"]["capabilities"].clone();
    config["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
    planned(&config, "capabilities");

    let memory = &all["linux"]["memoryPolicy"];
    for mode in list(&memory["modes"]) {
        let mut config = base();
        let everywhere = ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&mode.as_str());
        config["linux"]["memoryPolicy"] = json!({ "mode": mode, "nodes": if everywhere { "" } else { "0" } });
        planned(&config, &mode);
    }
    for flag in list(&memory["flags"]) {
        let mut config = base();
        config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": [flag] });
        planned(&config, &flag);
    }

    let seccomp = &all["linux"]["seccomp"];
    for action in list(&seccomp["actions"]) {
        let mut config = base();
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["getcpu"], "action": action }] });
        if action == "SCMP_ACT_NOTIFY" {
            config["linux"]["seccomp"]["listenerPath"] = "/run/agent.sock".into();
        }
        planned(&config, &action);
    }
    for op in list(&seccomp["operators"]) {
        let mut config = base();
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["getcpu"],
            "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": 1, "valueTwo": 1, "op": op }] }] });
        planned(&config, &op);
    }
    let mut config = base();
    config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": seccomp["archs"],
        "flags": seccomp["knownFlags"], "syscalls": [{ "names": ["getcpu"], "action": "SCMP_ACT_ERRNO" }] });
    planned(&config, "archs and flags");
}
