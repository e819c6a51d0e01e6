//! The life of a container: the specification's rules, and the command surface that callers of runc rely on.

#![allow(clippy::unwrap_used)]

mod common;
use common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

/// A container that stays until it is killed.
fn staying() -> Bundle {
    Bundle::usual(&["sleep", "1000"]).policy("oci")
}

fn stopped(bundle: &Bundle) {
    wait_for("stopped", || bundle.state()["status"] == "stopped");
}

/// Every file of a --root, with what is in it.
fn records(bundle: &Bundle) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(bundle.root().join("box"))
        .unwrap()
        .flatten()
        .filter(|e| e.file_type().unwrap().is_file())
        .map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path()).unwrap()))
        .collect();
    all.sort();
    all
}

fn nothing_left(bundle: &Bundle) {
    let left: Vec<_> = std::fs::read_dir(bundle.root()).into_iter().flatten().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    let mark = bundle.path().display().to_string();
    assert_eq!(Leftovers::now(&mark).ids, [] as [String; 0]);
}

#[test]
fn what_cannot_be_done_is_one_line_and_changes_nothing() {
    need_root!("what_cannot_be_done_is_one_line_and_changes_nothing");
    let bundle = staying();
    ok(&bundle.create());
    let refused = |verb: &[&str], word: &str| {
        let (before, state) = (records(&bundle), bundle.state());
        let out = bundle.verb(verb);
        assert!(failed(&out).contains(word), "{verb:?}: {}", text(&out.stderr));
        assert_eq!(out.status.code(), Some(1), "{verb:?}");
        assert!(out.stdout.is_empty());
        assert_eq!((records(&bundle), bundle.state()), (before, state), "{verb:?}");
    };
    let dir = bundle.path().display().to_string();
    // Created.
    refused(&["create", "-b", &dir, "box"], "already exists");
    refused(&["run", "-b", &dir, "box"], "already exists");
    ok(&bundle.verb(&["start", "box"]));
    // Running.
    refused(&["start", "box"], "running");
    refused(&["delete", "box"], "running");
    refused(&["create", "-b", &dir, "box"], "already exists");
    refused(&["kill", "box", "SIGMOON"], "not a signal");
    ok(&bundle.verb(&["kill", "box", "0"]));
    assert_eq!(bundle.state()["status"], "running");
    ok(&bundle.verb(&["kill", "box", "9"]));
    stopped(&bundle);
    // Stopped.
    refused(&["start", "box"], "stopped");
    refused(&["kill", "box"], "container not running");
    refused(&["kill", "box", "0"], "container not running");
    refused(&["create", "-b", &dir, "box"], "already exists");
    ok(&bundle.verb(&["kill", "--all", "box", "0"]));
    ok(&bundle.verb(&["delete", "box"]));
    nothing_left(&bundle);
    for verb in ["start", "state", "kill", "delete"] {
        let err = failed(&bundle.verb(&[verb, "box"]));
        assert!(err.contains("does not exist"), "{verb}: {err}");
    }
    let out = bundle.verb(&["delete", "--force", "box"]);
    assert_eq!((ok(&out).as_str(), text(&out.stderr).as_str()), ("", ""));
}

#[test]
fn a_created_container_can_be_killed_and_deleted() {
    need_root!("a_created_container_can_be_killed_and_deleted");
    let bundle = staying();
    ok(&bundle.create());
    ok(&bundle.verb(&["kill", "box", "KILL"]));
    stopped(&bundle);
    ok(&bundle.verb(&["delete", "box"]));
    // And without a kill: runc's callers delete what was never started.
    ok(&bundle.create());
    let pid = bundle.pid();
    ok(&bundle.verb(&["delete", "box"]));
    wait_for("the end of its init", || {
        !Path::new(&format!("/proc/{pid}")).exists() || proc_status(pid, "State").is_none_or(|s| s.starts_with('Z'))
    });
    nothing_left(&bundle);
}

#[test]
fn start_on_an_init_that_was_killed_at_the_gate_fails_at_once() {
    need_root!("start_on_an_init_that_was_killed_at_the_gate_fails_at_once");
    let bundle = staying();
    ok(&bundle.create());
    kill(Pid::from_raw(bundle.pid()), Signal::SIGKILL).unwrap();
    let err = failed(&bundle.verb(&["start", "box"]));
    // While it dies its gate is closed already, which is what a container that runs looks like.
    let seen =
        ["its process is gone", "cannot start a container that is stopped", "cannot start a container that is running"];
    assert!(seen.iter().any(|words| err.contains(words)), "{err}");
    stopped(&bundle);
    ok(&bundle.verb(&["delete", "box"]));
}

#[test]
fn ids_and_words_that_are_none() {
    need_root!("ids_and_words_that_are_none");
    let bundle = staying();
    bundle.write();
    let dir = bundle.path().display().to_string();
    for id in ["", ".", "..", ".a", "a/b", "../x", "a b", "a\nb", "ä", &"x".repeat(256)] {
        for words in
            [vec!["create", "-b", &dir, "--", id], vec!["state", "--", id], vec!["delete", "--force", "--", id]]
        {
            let out = bundle.verb(&words);
            assert_eq!(out.status.code(), Some(1), "{words:?}");
            assert!(failed(&out).contains("container id"), "{words:?}: {}", text(&out.stderr));
        }
    }
    for verb in ["create", "run", "start", "state", "kill", "delete"] {
        let out = bundle.verb(&[verb]);
        assert_eq!(out.status.code(), Some(1), "{verb}");
        assert!(text(&out.stderr).contains("ID"), "{verb}");
    }
    for words in [&["fly"][..], &[], &["--log-format", "xml", "list"], &["run", "--no-such", "box"]] {
        let out = bundle.verb(words);
        assert_eq!(out.status.code(), Some(1), "{words:?}");
        assert!(!out.stderr.is_empty());
    }
    assert!(ok(&bundle.verb(&["--version"])).starts_with("stockade "));
    assert!(ok(&bundle.verb(&["--help"])).contains("Usage"));
    assert!(ok(&bundle.verb(&["create", "--help"])).contains("Usage"));
    nothing_left(&bundle);
}

#[test]
fn options_stand_before_or_after_what_they_belong_to() {
    need_root!("options_stand_before_or_after_what_they_belong_to");
    let bundle = Bundle::usual(&["sh", "-c", "echo here"]).policy("oci");
    bundle.write();
    let dir = bundle.path().display().to_string();
    let joined = format!("--bundle={dir}");
    let short = format!("-b{dir}");
    for words in [
        vec!["run", "-b", &dir, "box"],
        vec!["run", "box", "-b", &dir],
        vec!["run", "box", "--bundle", &dir],
        vec!["run", &joined, "box"],
        vec!["run", "box", &short],
        vec!["run", "-b", ".", "box"],
        vec!["run", "box"],
    ] {
        assert_eq!(ok(&bundle.verb(&words)), "here\n", "{words:?}");
    }
    let out = bundle
        .command(&["create", "box", "-b", &dir, "--pid-file", "pid"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(out.unwrap().success());
    // Relative to the caller's directory, a bare number, and the same as in the state.
    assert_eq!(std::fs::read_to_string(bundle.path().join("pid")).unwrap(), bundle.pid().to_string());
    ok(&bundle.verb(&["kill", "box", "-a", "KILL"]));
    ok(&bundle.verb(&["delete", "box", "-f"]));
    // An id may begin with a hyphen.
    assert_eq!(ok(&bundle.verb(&["run", "-b", &dir, "--", "-x"])), "here\n");
}

#[test]
fn state_and_list_say_what_is() {
    need_root!("state_and_list_say_what_is");
    let mut bundle = staying();
    bundle.config["annotations"] = json!({ "org.example.b": "2", "org.example.a": "1" });
    ok(&bundle.create());
    let out = bundle.verb(&["state", "box"]);
    assert!(out.stderr.is_empty());
    let keys = |text: &str| -> Vec<String> {
        // In the order of the text: a parsed map would be sorted.
        text.split('"')
            .skip(1)
            .step_by(2)
            .filter(|w| {
                ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner"].contains(w)
            })
            .map(str::to_owned)
            .collect()
    };
    let mut seen = keys(&text(&out.stdout));
    // "created" is a key and, of a created container, the status too.
    seen.dedup();
    assert_eq!(
        seen,
        ["ociVersion", "id", "pid", "status", "created", "bundle", "rootfs", "created", "annotations", "owner"]
    );
    let state = bundle.state();
    assert_eq!(state["id"], "box");
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], bundle.path().display().to_string());
    assert_eq!(state["rootfs"], bundle.rootfs().display().to_string());
    assert_eq!(state["annotations"], json!({ "org.example.a": "1", "org.example.b": "2" }));
    assert_eq!(state["owner"], "root");
    let created = state["created"].as_str().unwrap();
    assert!(created.len() == 30 && created.ends_with('Z') && &created[10..11] == "T", "{created}");
    assert!(Path::new(&format!("/proc/{}", state["pid"])).exists());

    let dir = bundle.path().display().to_string();
    let quiet =
        bundle.command(&["run", "-d", "-b", &dir, "alpha"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(quiet.unwrap().success());
    assert_eq!(ok(&bundle.verb(&["list", "-q"])), "alpha\nbox\n");
    let table = ok(&bundle.verb(&["list"]));
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!((lines[1][0], lines[1][2], lines[1][5]), ("alpha", "running", "root"));
    assert_eq!((lines[2][0], lines[2][1], lines[2][2]), ("box", state["pid"].to_string().as_str(), "created"));
    let listed: Value = serde_json::from_str(&ok(&bundle.verb(&["list", "--format", "json"]))).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[1], state);
    ok(&bundle.verb(&["delete", "--force", "alpha"]));
    ok(&bundle.verb(&["kill", "box", "KILL"]));
    stopped(&bundle);
    assert_eq!(bundle.state()["pid"], 0);
}

#[test]
fn a_root_that_is_missing() {
    need_root!("a_root_that_is_missing");
    let mut bundle = Bundle::usual(&["true"]).policy("oci");
    // Named and missing: an error. `run` makes it.
    assert!(failed(&bundle.verb(&["list"])).contains("no such file or directory"));
    assert!(failed(&bundle.verb(&["state", "box"])).contains("does not exist"));
    ok(&bundle.verb(&["delete", "--force", "box"]));
    assert!(!bundle.root().exists());
    ok(&bundle.run());
    assert_eq!(std::fs::metadata(bundle.root()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(ok(&bundle.verb(&["list", "-q"])), "");
    // One that others can write to decides nothing.
    std::fs::set_permissions(bundle.root(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(failed(&bundle.run()).contains("writable by others"));
    std::fs::set_permissions(bundle.root(), std::fs::Permissions::from_mode(0o700)).unwrap();
    // The usual place that nobody used yet: an empty list.
    bundle.global.clear();
    let out = std::process::Command::new("setpriv")
        .args(["--reuid", "4242", "--regid", "4242", "--clear-groups"])
        .arg(runtime())
        .args(["list", "-q"])
        .env("XDG_RUNTIME_DIR", bundle.path())
        .output()
        .unwrap();
    if text(&out.stderr).contains("setpriv: failed to execute") {
        return skip("a_root_that_is_missing", "the runtime lies where an ordinary user cannot reach it");
    }
    assert_eq!(ok(&out), "");
}

#[test]
fn spec_overwrites_nothing() {
    let dir = scratch();
    let run =
        |args: &[&str]| std::process::Command::new(runtime()).args(args).current_dir(dir.path()).output().unwrap();
    let config =
        || -> Value { serde_json::from_slice(&std::fs::read(dir.path().join("config.json")).unwrap()).unwrap() };
    assert_eq!(ok(&run(&["spec"])), "");
    let plain = config();
    assert_eq!(plain["process"]["args"], json!(["sh"]));
    assert_eq!(plain["process"]["terminal"], true);
    assert_eq!(plain["process"]["noNewPrivileges"], true);
    assert_eq!(plain["mounts"].as_array().unwrap().len(), 7);
    std::fs::write(dir.path().join("config.json"), "mine").unwrap();
    assert!(failed(&run(&["spec"])).contains("file exists"));
    assert!(failed(&run(&["spec", "--rootless"])).contains("file exists"));
    assert_eq!(std::fs::read_to_string(dir.path().join("config.json")).unwrap(), "mine");
    std::fs::create_dir(dir.path().join("deep")).unwrap();
    ok(&run(&["spec", "--rootless", "-b", "deep"]));
    let rootless: Value = serde_json::from_slice(&std::fs::read(dir.path().join("deep/config.json")).unwrap()).unwrap();
    let has = |v: &Value, t: &str| v["linux"]["namespaces"].as_array().unwrap().iter().any(|n| n["type"] == t);
    assert!(has(&rootless, "user") && !has(&rootless, "network") && has(&plain, "network") && !has(&plain, "user"));
    assert_eq!(rootless["linux"]["uidMappings"][0]["size"], 1);
    assert!(failed(&run(&["spec", "-b", "nowhere"])).contains("no such file or directory"));
}

#[test]
fn what_spec_writes_runs() {
    need_root!("what_spec_writes_runs");
    let mut bundle = Bundle::silent(&["true"]);
    ok(&bundle.verb(&["spec"]));
    bundle.config = serde_json::from_slice(&std::fs::read(bundle.path().join("config.json")).unwrap()).unwrap();
    bundle.config["process"]["terminal"] = false.into();
    bundle.config["process"]["args"] = json!(["sh", "-c", "echo from spec"]);
    bundle.config["process"]["env"] = json!(["PATH=/bin"]);
    for policy in ["strict", "oci"] {
        bundle.global = vec!["--policy".into(), policy.into()];
        assert_eq!(ok(&bundle.run()), "from spec\n", "{policy}");
    }
}

#[test]
fn detached_and_kept() {
    need_root!("detached_and_kept");
    let bundle = staying();
    bundle.write();
    let dir = bundle.path().display().to_string();
    let status =
        bundle.command(&["run", "--detach", "-b", &dir, "--pid-file", "pid", "box"]).stdout(Stdio::null()).status();
    assert!(status.unwrap().success());
    assert_eq!(bundle.state()["status"], "running");
    assert_eq!(std::fs::read_to_string(bundle.path().join("pid")).unwrap(), bundle.pid().to_string());
    ok(&bundle.verb(&["delete", "--force", "box"]));
    nothing_left(&bundle);

    let bundle = Bundle::usual(&["sh", "-c", "exit 5"]).policy("oci");
    bundle.write();
    let dir = bundle.path().display().to_string();
    let out = bundle.verb(&["run", "--keep", "-b", &dir, "box"]);
    assert_eq!(out.status.code(), Some(5), "{}", text(&out.stderr));
    assert_eq!(bundle.state()["status"], "stopped");
    assert!(failed(&bundle.verb(&["run", "-b", &dir, "box"])).contains("already exists"));
    ok(&bundle.verb(&["delete", "box"]));
    assert_eq!(bundle.run().status.code(), Some(5));
    nothing_left(&bundle);
}

#[test]
fn a_foreground_run_forwards_signals_and_returns_the_status() {
    need_root!("a_foreground_run_forwards_signals_and_returns_the_status");
    for policy in ["strict", "oci"] {
        let script = "trap 'echo got usr1' USR1; trap 'exit 33' TERM; echo ready; while :; do sleep 0.02; done";
        let bundle = Bundle::usual(&["sh", "-c", script]).policy(policy);
        bundle.write();
        let dir = bundle.path().display().to_string();
        let mut run =
            bundle.command(&["run", "-b", &dir, "box"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = std::io::BufReader::new(run.stdout.take().unwrap());
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || std::io::BufRead::lines(out).try_for_each(|line| send.send(line.unwrap())));
        let heard = || lines.recv_timeout(std::time::Duration::from_secs(20));
        assert_eq!(heard().as_deref(), Ok("ready"));
        let pid = Pid::from_raw(run.id().cast_signed());
        kill(pid, Signal::SIGUSR1).unwrap();
        let answer = heard();
        if answer.is_err() {
            run.kill().unwrap();
        }
        assert_eq!(answer.as_deref(), Ok("got usr1"));
        kill(pid, Signal::SIGTERM).unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(33), "{policy}");
        let mut err = String::new();
        run.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(err, "");
        nothing_left(&bundle);

        let bundle = Bundle::usual(&["sleep", "1000"]).policy(policy);
        bundle.write();
        let dir = bundle.path().display().to_string();
        let mut run = bundle.command(&["run", "-b", &dir, "box"]).spawn().unwrap();
        // Executed, and not only on its way: before that its death is a failure of the launch.
        wait_for("the workload", || {
            text(&bundle.verb(&["state", "box"]).stdout).contains("\"running\"")
                && proc_status(bundle.pid(), "Name").is_some_and(|name| name == "sleep")
        });
        ok(&bundle.verb(&["kill", "box", "KILL"]));
        assert_eq!(run.wait().unwrap().code(), Some(137), "{policy}");
        nothing_left(&bundle);
    }
}

#[test]
fn one_record_on_failure_and_none_on_success() {
    need_root!("one_record_on_failure_and_none_on_success");
    let mut bundle = staying();
    let log = bundle.path().join("log");
    let name = log.display().to_string();
    for format in ["text", "json"] {
        let _ = std::fs::remove_file(&log);
        bundle.global = ["--policy", "oci", "--log", &name, "--log-format", format].map(String::from).to_vec();
        for verb in [&["start", "box"][..], &["state", "box"], &["kill", "box", "KILL"], &["delete", "--force", "box"]]
        {
            if verb[0] == "start" {
                let out = bundle.create();
                assert_eq!((ok(&out), text(&out.stderr)), (String::new(), String::new()));
            }
            let out = bundle.verb(verb);
            ok(&out);
            assert!(out.stderr.is_empty(), "{verb:?}: {}", text(&out.stderr));
        }
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        assert_eq!(said, "", "a success is silent");
        let err = failed(&bundle.verb(&["state", "box"]));
        let said = std::fs::read_to_string(&log).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        let msg = err.trim().strip_prefix("stockade: ").unwrap();
        if format == "json" {
            let record: Value = serde_json::from_str(&said).unwrap();
            assert_eq!((&record["level"], &record["msg"]), (&json!("error"), &json!(msg)));
            assert!(record["time"].as_str().unwrap().ends_with('Z'));
        } else {
            assert!(
                said.starts_with("time=\"") && said.contains(" level=error msg=\"") && said.contains("does not exist"),
                "{said}"
            );
        }
        // Two failures, two records: it is appended to.
        failed(&bundle.verb(&["start", "box"]));
        assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 2);
    }
    // Debug lines go to the log and not to stderr, where engines read them as failure.
    std::fs::remove_file(&log).unwrap();
    bundle.global.push("--debug".into());
    let out = bundle.create();
    assert!(ok(&out).is_empty() && out.stderr.is_empty(), "{}", text(&out.stderr));
    assert!(std::fs::read_to_string(&log).unwrap().contains("\"level\":\"debug\""));
}

/// A program that cannot be executed is named, with its errno, and no verb hangs.
#[test]
fn what_cannot_be_executed_is_reported() {
    need_root!("what_cannot_be_executed_is_reported");
    let make: [(&str, &str, &str, u32); 5] = [
        ("/bin/missing", "ENOENT", "", 0),
        ("missing-in-path", "ENOENT", "", 0),
        ("/bin/plain", "EACCES", "#!/bin/sh\n", 0o644),
        ("/bin/orphan", "ENOENT", "#!/no/such/interpreter\n", 0o755),
        ("/bin/garbage", "ENOEXEC", "\u{1}\u{2}\u{3}garbage", 0o755),
    ];
    for (program, errno, content, mode) in make {
        for policy in ["strict", "oci"] {
            let bundle = Bundle::usual(&[program]).policy(policy);
            if mode != 0 {
                let path = bundle.rootfs().join(&program[1..]);
                // By cp: a child that another thread forks must not hold it open for writing (ETXTBSY).
                let aside = bundle.path().join("program");
                std::fs::write(&aside, content).unwrap();
                let copied = std::process::Command::new("cp").arg(&aside).arg(&path).status();
                assert!(copied.unwrap().success());
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            let name = format!("{policy} {program}");
            let check = |out: &Output| {
                let err = failed(out);
                assert!(err.contains(program) && err.contains(errno), "{name}: {err}");
                assert_eq!(out.status.code(), Some(1), "{name}");
            };
            check(&bundle.run());
            nothing_left(&bundle);
            let created = bundle.create();
            if errno == "ENOEXEC" || program.contains("orphan") {
                // Only the execve finds out.
                ok(&created);
                check(&bundle.verb(&["start", "box"]));
                stopped(&bundle);
                assert!(failed(&bundle.verb(&["start", "box"])).contains("stopped"));
                ok(&bundle.verb(&["delete", "box"]));
            } else {
                check(&created);
            }
            nothing_left(&bundle);
            // A detached run that came to nothing leaves nothing.
            let dir = bundle.path().display().to_string();
            check(&bundle.verb(&["run", "--detach", "-b", &dir, "box"]));
            nothing_left(&bundle);
        }
    }
}

#[test]
fn records_are_private() {
    need_root!("records_are_private");
    let bundle = staying();
    let mode = |p: &Path| std::fs::symlink_metadata(p).unwrap().permissions().mode() & 0o7777;
    let mut command = bundle.command(&["create", "-b", &bundle.path().display().to_string(), "box"]);
    bundle.write();
    // With an open umask the modes are ours, not the caller's.
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned).collect();
    command = std::process::Command::new("sh");
    command
        .args(["-c", "umask 0; exec \"$@\"", "sh"])
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    let mut seen = 0;
    let mut todo = vec![bundle.root()];
    while let Some(dir) = todo.pop() {
        assert_eq!(mode(&dir), 0o700, "{}", dir.display());
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            } else {
                seen += 1;
                assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
            }
        }
    }
    assert!(seen >= 3, "intent, state and gate at least: {seen}");
}

#[test]
fn a_terminal_through_the_console_socket() {
    need_root!("a_terminal_through_the_console_socket");
    for policy in ["strict", "oci"] {
        let mut bundle = Bundle::usual(&["sh"]).policy(policy);
        bundle.config["process"]["terminal"] = true.into();
        bundle.write();
        let dir = bundle.path().display().to_string();
        let socket = bundle.path().join("console");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let path = socket.display().to_string();
        let out = bundle.verb(&["create", "-b", &dir, "--console-socket", &path, "box"]);
        assert_eq!((ok(&out), text(&out.stderr)), (String::new(), String::new()));
        let (master, name) = receive(&listener);
        assert!(!name.is_empty());
        ok(&bundle.verb(&["start", "box"]));
        let mut terminal = std::fs::File::from(master);
        terminal.write_all(b"test -t 0 && tty; echo sum-$((6*7)); exit\n").unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0u8; 1024];
        // EIO: the last one that had the other end is gone.
        while let Ok(n) = terminal.read(&mut buffer) {
            heard.extend_from_slice(&buffer[..n]);
            if n == 0 {
                break;
            }
        }
        let heard = text(&heard);
        assert!(heard.contains("sum-42") && heard.contains("/dev/"), "{policy}: {heard}");
        stopped(&bundle);
        ok(&bundle.verb(&["delete", "box"]));
    }
}

#[test]
fn a_terminal_needs_somebody_who_holds_it() {
    need_root!("a_terminal_needs_somebody_who_holds_it");
    let mut bundle = Bundle::usual(&["true"]).policy("oci");
    let dir = bundle.path().display().to_string();
    let socket = bundle.path().join("nobody").display().to_string();
    bundle.config["process"]["terminal"] = true.into();
    bundle.write();
    let refused = |bundle: &Bundle, words: &[&str], word: &str| {
        let err = failed(&bundle.verb(words));
        assert!(err.contains(word), "{words:?}: {err}");
        nothing_left(bundle);
    };
    refused(&bundle, &["create", "-b", &dir, "box"], "use --console-socket");
    refused(&bundle, &["run", "-d", "-b", &dir, "box"], "use --console-socket");
    refused(&bundle, &["run", "-b", &dir, "--console-socket", &socket, "box"], "a foreground run keeps its terminal");
    // Nobody listens there.
    refused(&bundle, &["create", "-b", &dir, "--console-socket", &socket, "box"], "--console-socket");
    bundle.config["process"]["terminal"] = false.into();
    bundle.write();
    refused(&bundle, &["create", "-b", &dir, "--console-socket", &socket, "box"], "process.terminal is false");
}

#[test]
fn descriptors_are_handed_on_only_when_asked() {
    need_root!("descriptors_are_handed_on_only_when_asked");
    for policy in ["strict", "oci"] {
        let script =
            "for n in 3 4 5 6 7 8 9; do test -e /proc/self/fd/$n && echo fd $n; done; cat <&3 2>/dev/null; exit 0";
        let mut bundle = Bundle::usual(&["sh", "-c", script]).policy(policy);
        std::fs::write(bundle.path().join("letter"), "from the host\n").unwrap();
        let open = "exec 3<letter 4</dev/null 7</dev/null; exec \"$@\"";
        bundle.runner = ["sh", "-c", open, "sh"].map(String::from).to_vec();
        bundle.write();
        assert_eq!(ok(&bundle.verb(&["run", "box"])), "", "{policy}");
        // 4 is handed on, 7 is not.
        assert_eq!(ok(&bundle.verb(&["run", "--preserve-fds", "2", "box"])), "fd 3\nfd 4\nfrom the host\n", "{policy}");
        // Counted more than there are: 5 is not open.
        let err = failed(&bundle.verb(&["run", "--preserve-fds", "3", "box"]));
        assert!(err.contains("descriptor 5 is not open"), "{err}");
        nothing_left(&bundle);
    }
}

/// What a service manager passes to the process that LISTEN_PID names is for the workload.
#[test]
fn sockets_of_an_activation_are_handed_on() {
    need_root!("sockets_of_an_activation_are_handed_on");
    // The shell that becomes stockade has its pid already.
    let open =
        |pid: &str| format!("exec 3</dev/null 4</dev/zero 5</dev/full; LISTEN_PID={pid} LISTEN_FDS=2 exec \"$@\"");
    for policy in ["strict", "oci"] {
        let script = "echo $LISTEN_FDS for $LISTEN_PID is $$; for n in 3 4 5 6; do test -e /proc/self/fd/$n && echo fd $n; done; exit 0";
        let mut bundle = Bundle::usual(&["sh", "-c", script]).policy(policy);
        bundle.config["process"]["env"] = json!(["PATH=/bin", "LISTEN_FDS=9", "LISTEN_PID=9"]);
        bundle.write();
        bundle.runner = ["sh".into(), "-c".into(), open("$$"), "sh".into()].to_vec();
        assert_eq!(ok(&bundle.verb(&["run", "box"])), "2 for 1 is 1\nfd 3\nfd 4\n", "{policy}");
        // --preserve-fds counts what comes after them.
        let out = ok(&bundle.verb(&["run", "--preserve-fds", "1", "box"]));
        assert_eq!(out, "2 for 1 is 1\nfd 3\nfd 4\nfd 5\n", "{policy}");
        // Somebody else's, which we only inherited: an engine that was activated itself.
        bundle.runner[2] = open("1");
        assert_eq!(ok(&bundle.verb(&["run", "box"])), "9 for 9 is 1\n", "{policy}");
        bundle.runner[2] = open("$$").replace("LISTEN_FDS=2", "LISTEN_FDS=7");
        let err = failed(&bundle.verb(&["run", "box"]));
        assert!(err.contains("descriptor") && err.contains("is not open"), "{err}");
        // In a pid namespace of others its number is another.
        if policy == "oci" {
            bundle.runner[2] = open("$$");
            let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
            list.retain(|n| n["type"] != "pid");
            bundle.write();
            let out = ok(&bundle.verb(&["run", "box"]));
            let words: Vec<&str> = out.split_whitespace().collect();
            assert!(words[2] == words[4] && words[2] != "1", "{out}");
        }
    }
}

/// What is open in init while it waits, and once it runs.
#[test]
fn no_descriptor_of_the_host_is_open_in_init() {
    need_root!("no_descriptor_of_the_host_is_open_in_init");
    for policy in ["strict", "oci"] {
        let mut bundle = Bundle::usual(&["sleep", "1000"]).policy(policy);
        bundle.runner = ["sh", "-c", "exec 7</ 9</dev/null; exec \"$@\"", "sh"].map(String::from).to_vec();
        ok(&bundle.create());
        let pid = bundle.pid();
        let open = || -> Vec<(String, String)> {
            let mut all: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
                .unwrap()
                .flatten()
                .map(|e| {
                    let target = std::fs::read_link(e.path()).unwrap_or_default();
                    (e.file_name().to_string_lossy().into_owned(), target.display().to_string())
                })
                .filter(|(n, _)| n.parse::<u32>().unwrap() > 2)
                .collect();
            all.sort();
            all
        };
        let dir = bundle.root().join("box").display().to_string();
        for (n, target) in open() {
            let ours =
                target.starts_with("socket:") || target == format!("{dir}/gate") || target == format!("{dir}/failure");
            assert!(ours, "{policy}: {n} -> {target}");
        }
        ok(&bundle.verb(&["start", "box"]));
        wait_for("the workload", || {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.starts_with("sleep"))
        });
        assert_eq!(open(), [], "{policy}");
    }
}

/// A hook that writes its name, its state and its environment as one line of a log in the rootfs.
fn hook(shell: &str, name: &str, log: &str) -> Value {
    // In one write: the workload writes there, too.
    let script = format!("line=\"$NAME $(cat) $(env | tr '\\n' ',')\"; echo \"$line\" >> {log}");
    json!([{ "path": shell, "args": ["sh", "-c", script], "env": [format!("NAME={name}"), "PATH=/usr/bin:/bin"] }])
}

#[test]
fn hooks_of_all_six_kinds() {
    need_root!("hooks_of_all_six_kinds");
    // After the five lines of the hooks so far: the poststart hook runs beside it, and both write into one file.
    let script = "while [ $(wc -l < /log) -lt 5 ]; do sleep 0.02; done; echo workload >> /log";
    let mut bundle = Bundle::usual(&["sh", "-c", script]).policy("oci");
    let log = bundle.rootfs().join("log").display().to_string();
    std::fs::write(&log, "").unwrap();
    bundle.config["annotations"] = json!({ "key": "value" });
    bundle.config["hooks"] = json!({
        "prestart": hook("/bin/sh", "prestart", &log),
        "createRuntime": hook("/bin/sh", "createRuntime", &log),
        "createContainer": hook("/bin/sh", "createContainer", &log),
        "startContainer": hook("/bin/sh", "startContainer", "/log"),
        "poststart": hook("/bin/sh", "poststart", &log),
        "poststop": hook("/bin/sh", "poststop", &log),
    });
    bundle.write();
    let read = || std::fs::read_to_string(&log).unwrap();
    let names = |text: &str| text.lines().map(|l| l.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    let dir = bundle.path().display().to_string();
    let verb = |words: &[&str]| {
        let out =
            bundle.command(words).env("SECRET", "of the caller").stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(out.unwrap().success(), "{words:?}");
    };
    verb(&["create", "-b", &dir, "box"]);
    assert_eq!(names(&read()), ["prestart", "createRuntime", "createContainer"]);
    let pid = bundle.pid();
    verb(&["start", "box"]);
    wait_for("the workload", || read().contains("workload") && read().contains("poststart"));
    stopped(&bundle);
    verb(&["delete", "box"]);
    let all = read();
    let order = names(&all);
    assert_eq!(order.len(), 7, "{all}");
    let at = |name: &str| order.iter().position(|n| n == name).unwrap_or_else(|| panic!("{name}: {all}"));
    assert!(at("createContainer") < at("startContainer") && at("startContainer") < at("workload"), "{all}");
    assert!(at("startContainer") < at("poststart") && at("poststop") == 6, "{all}");
    for line in all.lines().filter(|l| *l != "workload") {
        let (name, rest) = line.split_once(' ').unwrap();
        let mut parts = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let state = parts.next().unwrap().unwrap();
        let env = &rest[parts.byte_offset()..];
        let status: &[&str] = match name {
            "prestart" | "createRuntime" | "createContainer" => &["creating", "created"],
            "startContainer" => &["created"],
            "poststart" => &["running"],
            _ => &["stopped"],
        };
        assert!(status.contains(&state["status"].as_str().unwrap()), "{line}");
        assert_eq!((&state["id"], &state["bundle"]), (&json!("box"), &json!(dir)), "{line}");
        assert_eq!(state["annotations"], json!({ "key": "value" }), "{line}");
        assert!(state["ociVersion"].is_string(), "{line}");
        if name != "poststop" {
            assert_eq!(state["pid"], pid, "{line}");
        }
        // Only its own environment, beside what a shell sets by itself.
        let names: Vec<&str> = env.trim().split(',').filter_map(|e| Some(e.split_once('=')?.0)).collect();
        assert!(names.contains(&"NAME"), "{line}");
        assert!(names.iter().all(|n| ["NAME", "PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(n)), "{line}");
    }
    // A foreground run has them all, too.
    std::fs::write(&log, "").unwrap();
    ok(&bundle.run());
    let mut seen = names(&read());
    assert_eq!(seen.last().unwrap(), "poststop");
    seen.sort();
    let mut want = order.clone();
    want.sort();
    assert_eq!(seen, want);
    nothing_left(&bundle);
}

#[test]
fn a_failing_hook_ends_the_launch_and_leaves_nothing() {
    need_root!("a_failing_hook_ends_the_launch_and_leaves_nothing");
    for moment in ["prestart", "createRuntime", "createContainer"] {
        for (script, timeout, word) in [
            ("echo no such luck >&2; exit 3", None, "no such luck"),
            ("sleep 1000", Some(1), "timeout"),
            ("kill -9 $$", None, "signal 9"),
        ] {
            let mut bundle = staying();
            bundle.config["hooks"][moment] =
                json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
            if let Some(seconds) = timeout {
                bundle.config["hooks"][moment][0]["timeout"] = seconds.into();
            }
            let err = failed(&bundle.create());
            assert!(err.contains(word) && err.contains(moment), "{moment}: {err}");
            nothing_left(&bundle);
            let out = bundle.run();
            assert!(failed(&out).contains(word), "{moment}");
            assert_eq!(out.status.code(), Some(1));
            nothing_left(&bundle);
        }
    }
    let mut bundle = staying();
    bundle.config["hooks"]["createRuntime"] = json!([{ "path": "/no/such/hook" }]);
    assert!(failed(&bundle.run()).contains("/no/such/hook"));
    nothing_left(&bundle);
}

#[test]
fn strict_runs_no_hook() {
    need_root!("strict_runs_no_hook");
    let mut bundle = Bundle::silent(&["true"]);
    let mark = bundle.path().join("ran").display().to_string();
    bundle.config["hooks"]["createRuntime"] =
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("touch {mark}")] }]);
    assert!(failed(&bundle.run()).contains("hooks"));
    assert!(!Path::new(&mark).exists());
    nothing_left(&bundle);
}
