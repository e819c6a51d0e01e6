//! `--secret`: where a secret is, for whom, on what memory, and where it is not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;
use caller::*;
use common::*;
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

/// Found nowhere by chance.
const VALUE: &str = "correct-horse-battery-staple-71c3";

/// What a container sees of its secret `key`.
const LOOK: &str = "cat /run/secrets/key; stat -c ' %a %u:%g' /run/secrets/key; \
    grep ' /run/secrets ' /proc/self/mountinfo | sed 's/.* - //'; grep ' /run/secrets ' /proc/self/mountinfo | cut -d' ' -f6; \
    (echo x >/run/secrets/new) 2>&1 | grep -o 'Read-only.*'; (chmod 644 /run/secrets/key) 2>&1 | grep -o 'Read-only.*'";

fn expected(owner: &str) -> String {
    let flags = "ro,nosuid,nodev,noexec,relatime";
    format!("{VALUE} 400 {owner}\nramfs secrets rw\n{flags}\nRead-only file system\nRead-only file system\n")
}

fn secret(bundle: &Bundle) -> String {
    let path = bundle.path().join("value");
    std::fs::write(&path, VALUE).unwrap();
    format!("key={}", path.display())
}

fn run(bundle: &Bundle, secrets: &[&str]) -> std::process::Output {
    bundle.write();
    let mut words = vec!["run"];
    secrets.iter().for_each(|s| words.extend(["--secret", s]));
    words.extend(["--bundle", bundle.path().to_str().unwrap(), "box"]);
    bundle.verb(&words)
}

/// Files below a directory that have the value.
fn with_value(dir: &Path) -> Vec<String> {
    let out = std::process::Command::new("grep").args(["-rlaF", "--devices=skip", VALUE]).arg(dir).output().unwrap();
    text(&out.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_secret_is_for_the_workloads_user_alone_in_memory_that_is_never_swapped() {
    need_root!("a_secret_is_for_the_workloads_user_alone_in_memory_that_is_never_swapped");
    for policy in ["strict", "oci"] {
        for user in [0, 1000] {
            let mut bundle = match policy {
                "oci" => Bundle::usual(&["sh", "-c", LOOK]).policy("oci"),
                _ => Bundle::shell(LOOK).policy("strict"),
            };
            bundle.config["process"]["user"] = json!({ "uid": user, "gid": user });
            let seen = ok(&run(&bundle, &[&secret(&bundle)]));
            assert_eq!(seen, expected(&format!("{user}:{user}")), "{policy}, {user}");
        }
    }
    // For another user of the same container it is shut.
    let bundle = Bundle::silent(&["sleep", "1000"]).policy("strict");
    bundle.write();
    let words = ["create", "--secret", &secret(&bundle), "--bundle", bundle.path().to_str().unwrap(), "box"];
    let status = bundle.command(&words).stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    // Also before the start, when the program of init is still ours.
    let exec = |user: &str| bundle.verb(&["exec", "--user", user, "box", "cat", "/run/secrets/key"]);
    assert_eq!(ok(&exec("0")), VALUE);
    ok(&bundle.verb(&["start", "box"]));
    assert_eq!(ok(&exec("0")), VALUE);
    assert!(text(&exec("7:7").stderr).contains("Permission denied"));
}

#[test]
fn a_secret_is_in_no_state_no_environment_no_log_and_no_plan() {
    need_root!("a_secret_is_in_no_state_no_environment_no_log_and_no_plan");
    let bundle = Bundle::silent(&["sleep", "1000"]).policy("strict");
    bundle.write();
    let log = bundle.path().join("log");
    let value = secret(&bundle);
    let words = ["--debug", "--log", log.to_str().unwrap(), "create", "--secret", &value, "--bundle", ".", "box"];
    let err = std::fs::File::create(bundle.path().join("err")).unwrap();
    assert!(bundle.command(&words).stdout(Stdio::null()).stderr(err).status().unwrap().success());
    let pid = bundle.pid();
    // The file itself is there, so that the search is seen to find.
    assert_eq!(with_value(bundle.path()), [bundle.path().join("value").display().to_string()]);
    assert!(std::fs::read_to_string(&log).unwrap().contains("key (33 bytes) in /run/secrets for 0:0"));
    // Before the start the process is still the runtime's, with a copy of its memory.
    assert_eq!(memory_with_value(pid), 0, "in the memory of a created container");
    ok(&bundle.verb(&["start", "box"]));
    wait_for("the execve", || proc_status(pid, "Name").as_deref() == Some("sleep"));
    for file in ["environ", "cmdline"] {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
        assert!(!text(&bytes).contains(VALUE), "{file}");
    }
    let holder = Holder::new();
    assert!(memory_with_value(holder.0.id() as i32) > 0, "the search finds nothing");
    // Nor in that of a runtime that waits for its container.
    let other = Bundle::silent(&["sleep", "1000"]).policy("strict");
    other.write();
    let mut waits = other.command(&["run", "--secret", &value, "--bundle", ".", "box"]).spawn().unwrap();
    wait_for("the execve", || {
        other.root().join("box/state.json").exists() && proc_status(other.pid(), "Name").as_deref() == Some("sleep")
    });
    assert_eq!(memory_with_value(waits.id() as i32), 0, "in the memory of the runtime");
    ok(&other.delete());
    waits.wait().unwrap();
    let root = Caller::root();
    let out = ok(&root.stockade(&["sandbox", "--explain", "--secret", &value, "--", "true"]));
    assert!(out.contains("key (33 bytes) in /run/secrets") && !out.contains(VALUE), "{out}");
    let out = ok(&root.stockade(&["sandbox", "--explain", "--json", "--secret", &value, "--", "true"]));
    assert!(out.contains("\"size\": 33") && !out.contains(VALUE), "{out}");
}

/// A process that has the value in its memory.
struct Holder(std::process::Child);

impl Holder {
    fn new() -> Holder {
        let script = format!("v = bytes({VALUE:?}, 'ascii') * 3\nprint(flush=True)\nimport time; time.sleep(1000)");
        let mut child =
            std::process::Command::new("python3").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        Holder(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How often the value is in what a process has written to its memory.
fn memory_with_value(pid: i32) -> usize {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = 0;
    let mut readable = 0;
    for line in maps.lines().filter(|l| l.split(' ').nth(1).is_some_and(|f| f.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut bytes = vec![0u8; (to - from) as usize];
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        readable += 1;
        found += bytes.windows(VALUE.len()).filter(|w| *w == VALUE.as_bytes()).count();
    }
    assert!(readable > 0, "nothing of {pid} can be read");
    found
}

#[test]
fn sandbox_and_stdin_give_secrets_also_to_ordinary_users() {
    let callers = if is_root() { vec![Caller::root(), Caller::single()] } else { vec![Caller::me()] };
    for caller in callers {
        let args = ["sandbox", "--secret", "key=-", "--", "sh", "-c", LOOK];
        let mut child =
            caller.command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(VALUE.as_bytes()).unwrap();
        assert_eq!(ok(&child.wait_with_output().unwrap()), expected("0:0"), "uid {}", caller.uid);
        assert_eq!(caller.left(), [""; 0], "left behind");
    }
}

#[test]
fn several_secrets_up_to_a_mebibyte_each() {
    need_root!("several_secrets_up_to_a_mebibyte_each");
    let bundle = Bundle::shell("cd /run/secrets; ls; cat big | sha256sum; wc -c <empty").policy("strict");
    let big = bundle.path().join("big");
    std::fs::write(&big, vec![b'x'; 1 << 20]).unwrap();
    let seen = ok(&run(&bundle, &[&format!("big={}", big.display()), "empty=/dev/null", &secret(&bundle)]));
    let sum = std::process::Command::new("sha256sum").arg(&big).output().unwrap();
    let sum = text(&sum.stdout).split(' ').next().unwrap().to_owned();
    assert_eq!(seen, format!("big\nempty\nkey\n{sum}  -\n0\n"));
    std::fs::write(&big, vec![b'x'; (1 << 20) + 1]).unwrap();
    let err = failed(&run(&bundle, &[&format!("big={}", big.display())]));
    assert!(err.contains("--secret: big: more than 1048576 bytes"), "{err}");
    assert!(!bundle.root().join("box").exists());
}

#[test]
fn what_cannot_be_a_secret_is_one_clear_line() {
    for (words, part) in [
        (&["key=/no/such/file"][..], "--secret: key: no such file or directory (ENOENT); hint: NAME=FILE"),
        (&["key"], "--secret: key: no file is named; hint: --secret NAME=FILE"),
        (&["../key=/dev/null"], "--secret: ../key: the name of a secret"),
        (&["key=/dev/null", "key=/dev/null"], "--secret: key: given twice"),
        (&["key=/"], "--secret: key: neither a file nor a pipe"),
    ] {
        let bundle = Bundle::silent(&["true"]).policy("strict");
        let err = failed(&run(&bundle, words));
        assert!(err.contains(part), "{words:?}: {err}");
        assert!(!bundle.root().join("box").exists());
    }
    let bundle = Bundle::silent(&["true"]).policy("strict");
    let out = bundle.verb(&["sandbox", "--emit-bundle", "x", "--secret", "key=/dev/null", "true"]);
    assert!(!out.status.success() && text(&out.stderr).contains("--emit-bundle"), "{}", text(&out.stderr));
}

#[test]
fn a_rootfs_cannot_turn_secrets_elsewhere() {
    need_root!("a_rootfs_cannot_turn_secrets_elsewhere");
    let outside = scratch();
    let make = |kind: &str| {
        let bundle = Bundle::silent(&["cat", "/run/secrets/key"]).policy("strict");
        let run_dir = bundle.rootfs().join("run");
        std::fs::remove_dir_all(&run_dir).unwrap();
        match kind {
            "missing" => {}
            "plain" => std::fs::create_dir(&run_dir).unwrap(),
            "link to the host" => symlink(outside.path(), &run_dir).unwrap(),
            "link inside" => symlink("/tmp", &run_dir).unwrap(),
            "link below" => {
                std::fs::create_dir(&run_dir).unwrap();
                symlink("/etc", run_dir.join("secrets")).unwrap();
            }
            _ => std::fs::write(&run_dir, "").unwrap(),
        }
        bundle
    };
    for (kind, word) in [
        ("missing", None),
        ("plain", None),
        ("link to the host", Some("(ELOOP)")),
        ("link inside", Some("(ELOOP)")),
        ("link below", Some("(ELOOP)")),
        ("a file", Some("(ENOTDIR)")),
    ] {
        let bundle = make(kind);
        let out = run(&bundle, &[&secret(&bundle)]);
        match word {
            None => assert_eq!(ok(&out), VALUE, "{kind}"),
            Some(word) => {
                let err = failed(&out);
                assert!(
                    err.contains("secrets: /run/secrets") && err.contains(word) && err.contains("hint"),
                    "{kind}: {err}"
                );
            }
        }
        // What is on the disk is at most the mount point.
        assert_eq!(with_value(&bundle.rootfs()), [""; 0], "{kind}");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    // Where the container's root can make no directory, the remedy is named; a tmpfs on /run is one.
    let mut bundle = make("missing");
    bundle.config["root"]["readonly"] = json!(false);
    let err = failed(&run(&bundle, &[&secret(&bundle)]));
    assert!(err.contains("make /run/secrets in the rootfs, or mount a tmpfs on /run"), "{err}");
    let mut bundle = make("plain");
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["mounts"] = json!([{ "destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["ro"] }]);
    assert_eq!(ok(&run(&bundle, &[&secret(&bundle)])), VALUE);
}

#[test]
fn a_container_with_secrets_is_not_written_into_images() {
    need_root!("a_container_with_secrets_is_not_written_into_images");
    for (secrets, refused) in [(true, true), (false, false)] {
        let bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
        bundle.write();
        let value = secret(&bundle);
        let mut words = vec!["run", "-d", "--bundle", "."];
        if secrets {
            words.extend(["--secret", &value]);
        }
        words.push("box");
        assert!(bundle.command(&words).stdout(Stdio::null()).status().unwrap().success());
        // Whatever criu is: this comes before it.
        let out = bundle.verb(&["--criu", "/bin/true", "checkpoint", "--image-path", "images", "box"]);
        let err = failed(&out);
        assert_eq!(err.contains("would hold them on a disk"), refused, "{err}");
        assert!(!refused || !bundle.path().join("images").exists());
        assert_eq!(bundle.state()["status"], "running");
    }
}

#[test]
fn a_copy_that_may_be_swapped_is_told() {
    need_root!("a_copy_that_may_be_swapped_is_told");
    let mut user = Caller::single();
    let plain = user.runner.clone();
    for (limit, told) in [("0:0", true), ("65536:65536", false)] {
        user.runner = plain.clone();
        user.runner.extend(["prlimit", &format!("--memlock={limit}")].map(str::to_owned));
        let out = ok(&user.stockade(&["sandbox", "--explain", "--secret", "key=/etc/hostname", "--", "true"]));
        assert_eq!(out.contains("RLIMIT_MEMLOCK of the caller is too low"), told, "{limit}: {out}");
    }
}

#[test]
fn a_secret_is_in_nothing_that_is_told_of_a_container() {
    need_root!("a_secret_is_in_nothing_that_is_told_of_a_container");
    let bundle = Bundle::silent(&["sleep", "1000"]).policy("strict");
    bundle.write();
    let value = secret(&bundle);
    // What is told while it happens; the workload itself is the control: it has the value.
    for words in [
        &["sandbox", "--narrate"][..],
        &["sandbox", "--narrate", "--json"],
        &["sandbox", "--timing=json"],
        &["sandbox", "--denials"],
    ] {
        let look = "cat /run/secrets/key | sha256sum; wc -c </run/secrets/key";
        let out = bundle.verb(&[words, &["--secret", &value, "--", "sh", "-c", look]].concat());
        let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
        assert!(out.status.success() && said.contains("33"), "{words:?}: {said}");
        assert!(!said.contains(VALUE), "{words:?}: {said}");
        let told = !words.contains(&"--narrate") || said.contains("/run/secrets");
        assert!(told, "{words:?}: the step is not told: {said}");
    }
    // What is recorded is given none.
    let out = bundle.verb(&["seccomp", "record", "--secret", &value, "--", "true"]);
    assert!(!out.status.success() && text(&out.stderr).contains("--secret"), "{}", text(&out.stderr));
    // What is told of one that runs.
    let words = ["--debug", "run", "--detach", "--secret", &value, "--bundle", ".", "box"];
    let status = bundle.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success());
    assert_eq!(ok(&bundle.verb(&["exec", "box", "cat", "/run/secrets/key"])), VALUE, "the control");
    for words in [
        &["state", "box"][..],
        &["list"],
        &["list", "--format", "json"],
        &["inspect", "box"],
        &["inspect", "--json", "box"],
        &["pids", "box"],
        &["pids", "--json", "box"],
        &["ps", "box"],
        &["events", "--stats", "box"],
        &["audit", "box"],
        &["audit", "--format", "json", "box"],
        &["audit", "--format", "sarif", "box"],
        &["explain", "."],
    ] {
        let out = bundle.verb(words);
        let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
        assert!(!said.is_empty() && !said.contains("error: "), "{words:?}: {said}");
        assert!(!said.contains(VALUE), "{words:?}: {said}");
    }
    // Nor is it in what the runtime keeps of it.
    assert_eq!(with_value(&bundle.root()), [""; 0]);
}
