//! `stockade sandbox`: every option, as root and as an ordinary user, what is visible and what is not, what stays behind,
//! and a shell on a terminal. The terminal is made by a few lines of Python, since tests have no unsafe code either.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;
use caller::*;
use common::*;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

/// Root and an ordinary user; only ourselves where we are not root.
fn callers() -> Vec<Caller> {
    vec![Caller::root(), Caller::single()]
}

impl Caller {
    fn sandbox(&self, args: &[&str]) -> std::process::Output {
        self.stockade(&[&["sandbox"], args].concat())
    }

    /// Waits until the one sandbox that there is has executed `sleep`: its id, and the host's pid.
    fn wait_for_sleep(&self) -> (String, i32) {
        let mut found = None;
        wait_for("the command", || {
            found = self.left().into_iter().find(|n| n.starts_with("sandbox-")).and_then(|id| {
                let state: Value = serde_json::from_slice(&self.stockade(&["state", &id]).stdout).ok()?;
                let pid = state["pid"].as_i64()? as i32;
                (proc_status(pid, "Name")? == "sleep").then_some((id, pid))
            });
            found.is_some()
        });
        found.unwrap()
    }

    /// What a shell in a sandbox prints.
    fn shell(&self, options: &[&str], script: &str) -> String {
        let out = ok(&self.sandbox(&[options, &["--", "sh", "-c", script]].concat()));
        assert_eq!(self.left(), [""; 0], "left behind");
        out
    }
}

// --- what is seen -----------------------------------------------------------------------------------------------------

#[test]
fn the_hosts_programs_are_there_read_only() {
    need_root!("the_hosts_programs_are_there_read_only");
    for caller in callers() {
        let out = caller.shell(&[], "touch /usr/x 2>&1; touch /etc/ssl/x 2>&1; touch /x 2>&1; touch /etc/x 2>&1; true");
        assert_eq!(out.matches("Read-only file system").count(), 4, "{out}");
        let script = "awk '$5 == \"/usr\" { print $6 }' /proc/self/mountinfo";
        let out = caller.shell(&[], script);
        for flag in ["ro", "nosuid", "nodev"] {
            assert!(out.trim().split(',').any(|f| f == flag), "{flag} in {out}");
        }
        // The same program as the host's.
        let host = std::fs::metadata("/usr/bin/env").unwrap();
        assert_eq!(caller.shell(&[], "stat -c '%i %s' /usr/bin/env").trim(), format!("{} {}", host.ino(), host.size()));
    }
}

#[test]
fn tmp_dev_proc_and_home_are_its_own() {
    need_root!("tmp_dev_proc_and_home_are_its_own");
    for caller in callers() {
        let mark = format!("/tmp/stockade-mark-{}-{}", caller.uid, std::process::id());
        std::fs::write(&mark, "").unwrap();
        let out = caller.shell(
            &[],
            "ls -A /tmp /var/tmp /run ~; echo; pwd; touch /tmp/a /var/tmp/a /run/a ~/a && echo wrote; echo $$; \
             ls -d /proc/[0-9]* | wc -l; ls /dev; stat -c %a ~",
        );
        let _ = std::fs::remove_file(&mark);
        let (lists, rest) = out.split_once("\n\n/home/sandbox\n").unwrap_or_else(|| panic!("{out}"));
        assert!(lists.lines().all(|l| l.is_empty() || l.ends_with(':')), "not empty: {lists}");
        let rest: Vec<&str> = rest.lines().collect();
        assert_eq!(rest[..2], ["wrote", "1"], "{out}");
        // The shell, ls and wc, no others.
        assert!(rest[2].parse::<u32>().unwrap() <= 3, "{out}");
        let devices = &rest[3..rest.len() - 1];
        let expected = ["fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"];
        let expected: Vec<&str> = expected.into_iter().chain(["tty", "urandom", "zero"]).collect();
        assert_eq!(devices, expected);
        assert_eq!(rest.last(), Some(&"700"));
        assert!(!Path::new("/tmp/a").exists() && !Path::new("/run/a").exists(), "it wrote to the host");
    }
}

#[test]
fn nothing_that_names_the_host_or_its_users() {
    need_root!("nothing_that_names_the_host_or_its_users");
    for caller in callers() {
        let out = caller.shell(&[], "cat /etc/passwd /etc/group /etc/hosts /etc/hostname; hostname");
        let expected = "root:x:0:0:root:/home/sandbox:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n\
             root:x:0:\ntty:x:5:\nnogroup:x:65534:\n127.0.0.1 localhost sandbox\n::1 localhost\nsandbox\nsandbox\n";
        assert_eq!(out, expected);
        let hidden = "/etc/shadow /etc/gshadow /etc/machine-id /etc/ssh /etc/sudoers /etc/subuid /etc/resolv.conf /root \
             /boot /mnt /opt /srv /var/lib /var/log /var/cache /sys/fs/cgroup/cgroup.procs /.dockerenv";
        assert_eq!(caller.shell(&[], &format!("ls -d {hidden} 2>/dev/null; ls -A /home; true")), "sandbox\n");
        // The controls: this host has them.
        assert!(Path::new("/etc/shadow").exists() && Path::new("/root").exists() && Path::new("/var/lib").exists());
        // Neither are the paths of the bundle or the scratch directory told.
        let mounts = caller.shell(&[], "cat /proc/mounts /proc/1/environ");
        assert!(!mounts.contains("stockade"), "{mounts}");
    }
}

#[test]
fn no_network_but_lo_and_lo_is_up() {
    need_root!("no_network_but_lo_and_lo_is_up");
    for caller in callers() {
        let out = caller.shell(&[], "tail -n +3 /proc/net/dev | cut -d: -f1; ls /sys/class/net");
        assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["lo", "lo"]);
        let python = "import socket as s\na = s.create_server(('127.0.0.1', 0))\nb = s.create_connection(a.getsockname())\n\
            b.sendall(b'hi')\nprint(a.accept()[0].recv(9))\n\
            try: s.create_connection(('192.0.2.1', 9), 5)\nexcept OSError as e: print(e.strerror)";
        let out = ok(&caller.sandbox(&["--", "/usr/bin/python3", "-c", python]));
        assert_eq!(out, "b'hi'\nNetwork is unreachable\n");
    }
}

#[test]
fn it_is_strict_unless_a_flag_says_otherwise() {
    need_root!("it_is_strict_unless_a_flag_says_otherwise");
    let words = ["--", "sh", "-c", "grep -E '^(Seccomp|NoNewPrivs|CapEff|CapBnd):' /proc/self/status | tr -d '\\n\\t'"];
    let zero = "0000000000000000";
    for caller in callers() {
        let mut command = caller.command(&[&["sandbox"][..], &words].concat());
        // The environment does not loosen a sandbox.
        let strict = ok(&command.env("STOCKADE_POLICY", "oci").output().unwrap());
        assert_eq!(strict, format!("CapEff:{zero}CapBnd:{zero}NoNewPrivs:1Seccomp:2"));
        let oci = ok(&caller.stockade(&[&["--policy", "oci", "sandbox"][..], &words].concat()));
        assert!(oci.ends_with("Seccomp:0"), "{oci}");
        let file = caller.path().join("policy.json");
        std::fs::write(
            &file,
            json!({ "extends": "strict", "seccomp": { "silent": "none", "floor": "none" } }).to_string(),
        )
        .unwrap();
        let own = caller.stockade(&[&["--policy", &file.display().to_string(), "sandbox"][..], &words].concat());
        assert_eq!(ok(&own), format!("CapEff:{zero}CapBnd:{zero}NoNewPrivs:1Seccomp:0"));
        assert!(failed(&caller.stockade(&["--policy", "nosuch", "sandbox", "--", "true"])).contains("nosuch"));
        assert_eq!(caller.left(), [""; 0]);
    }
}

// --- options ----------------------------------------------------------------------------------------------------------

#[test]
fn env_workdir_and_hostname() {
    need_root!("env_workdir_and_hostname");
    for caller in callers() {
        let options = ["--env", "A=1", "-e", "B=x y=z", "--env", "A=2", "--env", "HOME=/tmp", "--workdir", "/usr/bin"];
        let options = [&options[..], &["--hostname", "burrow"]].concat();
        let script =
            "echo \"$A|$B|$HOME|$XDG_RUNTIME_DIR|$TERM\"; pwd; hostname; cat /etc/hostname; grep -c burrow /etc/hosts";
        let mut command = caller.command(&[&["sandbox"][..], &options, &["--", "sh", "-c", script]].concat());
        // The caller's variables stay outside but for a few that programs print with.
        let out = ok(&command.env("SECRET", "leaked").env("LANG", "C.UTF-8").output().unwrap());
        assert_eq!(out, "2|x y=z|/tmp||dumb\n/usr/bin\nburrow\nburrow\n1\n");
        let mut command = caller.command(&["sandbox", "--", "env"]);
        let out = ok(&command.env("SECRET", "leaked").env("LANG", "C.UTF-8").output().unwrap());
        assert!(out.contains("LANG=C.UTF-8") && !out.contains("leaked"), "{out}");
    }
}

#[test]
fn what_is_shared_read_only_cannot_be_written() {
    need_root!("what_is_shared_read_only_cannot_be_written");
    for caller in callers() {
        let dir = caller.own_dir("shared");
        std::fs::create_dir(dir.join("below")).unwrap();
        std::fs::write(dir.join("file"), "from the host\n").unwrap();
        let path = dir.display().to_string();
        let out =
            caller.shell(&["--ro", &path], &format!("cat {path}/file; touch {path}/x {path}/below/x 2>&1; ls {path}"));
        assert!(out.starts_with("from the host\n") && out.ends_with("below\nfile\n"), "{out}");
        assert_eq!(out.matches("Read-only file system").count(), 2, "{out}");
        // A file alone: what lies beside it is not there.
        let file = format!("{path}/file");
        assert_eq!(caller.shell(&["--ro", &file], &format!("ls {path}; cat {file}")), "file\nfrom the host\n");
        // Beyond the private directories, where nothing is, and relative to where the caller is.
        let other = tempfile::Builder::new().prefix("stockade-test-").tempdir_in("/var/lib").unwrap();
        std::fs::set_permissions(other.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(other.path().join("seen"), "").unwrap();
        let other = other.path().display().to_string();
        assert_eq!(caller.shell(&["--ro", &other], &format!("ls {other}; ls /var/lib | wc -l")), "seen\n1\n");
        assert_eq!(caller.shell(&["--ro", "shared/file"], &format!("cat {file}")), "from the host\n");
        // Through a symbolic link: the name is the caller's, the file is the link's.
        std::os::unix::fs::symlink(&dir, caller.path().join("link")).unwrap();
        let link = caller.path().join("link").display().to_string();
        assert_eq!(caller.shell(&["--ro", &link], &format!("cat {link}/file")), "from the host\n");
    }
}

#[test]
fn what_is_shared_writable_keeps_the_callers_owner() {
    need_root!("what_is_shared_writable_keeps_the_callers_owner");
    for caller in callers() {
        let dir = caller.own_dir("shared");
        std::fs::create_dir(dir.join("keep")).unwrap();
        std::fs::write(dir.join("keep/old"), "old").unwrap();
        // Nothing but the mount is in the way.
        for (own, mode) in [("keep", 0o777), ("keep/old", 0o666)] {
            std::fs::set_permissions(dir.join(own), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        let (path, keep) = (dir.display().to_string(), dir.join("keep").display().to_string());
        let script = format!(
            "cd {path} && mkdir d && echo new >d/f && stat -c '%u:%g' d/f && chmod 4755 d/f; chmod 755 d/f; \
             ln d/f d/g; mv d/g h; touch keep/x keep/old; true"
        );
        // --ro below --rw stays read-only, in whichever order they are typed.
        for options in [["--rw", &path, "--ro", &keep], ["--ro", &keep, "--rw", &path]] {
            let out = caller.sandbox(&[&options[..], &["--", "sh", "-c", &script]].concat());
            assert_eq!(ok(&out), "0:0\n");
            let err = text(&out.stderr);
            assert!(err.contains("Operation not permitted"), "setuid bits on the host's disk: {err}");
            assert_eq!(err.matches("Read-only file system").count(), 2, "{err}");
            for name in ["d", "d/f", "h"] {
                let meta = std::fs::metadata(dir.join(name)).unwrap();
                assert_eq!((meta.uid(), meta.gid()), (caller.uid, caller.uid), "{name}");
                assert_eq!(meta.mode() & 0o6000, 0, "{name}");
            }
            assert_eq!(std::fs::read_to_string(dir.join("h")).unwrap(), "new\n");
            assert!(!dir.join("keep/x").exists());
            std::fs::remove_dir_all(dir.join("d")).unwrap();
            std::fs::remove_file(dir.join("h")).unwrap();
        }
        // A file alone.
        let file = format!("{path}/one");
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::chown(&file, Some(caller.uid), Some(caller.uid)).unwrap();
        caller.shell(&["--rw", &file], &format!("echo more >>{file}; rm -f {file} 2>/dev/null; true"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "more\n");
        // And nothing of the host that was not named.
        assert!(dir.join("keep/old").exists());
    }
}

#[test]
fn programs_run_from_a_shared_directory_and_from_nowhere_else() {
    need_root!("programs_run_from_a_shared_directory_and_from_nowhere_else");
    for caller in callers() {
        let path = caller.own_dir("shared").display().to_string();
        let script = format!(
            "for d in {path} /tmp ~ /run /dev /dev/shm; do cp /usr/bin/true $d/t 2>/dev/null; $d/t 2>/dev/null && echo $d; done; true"
        );
        assert_eq!(caller.shell(&["--rw", &path], &script), format!("{path}\n"));
    }
}

#[test]
fn an_emitted_bundle_runs() {
    need_root!("an_emitted_bundle_runs");
    for caller in callers() {
        let path = caller.own_dir("shared").display().to_string();
        let bundle = caller.own_dir("made").join("box").display().to_string();
        let script = "hostname; pwd; echo $A; touch /usr/x 2>&1; head -n 1 /etc/passwd; id -u";
        let emit =
            ["--emit-bundle", &bundle, "--rw", &path, "--env", "A=b", "--hostname", "burrow", "--workdir", &path];
        let emit = [&emit[..], &["--", "sh", "-c", script]].concat();
        let word = ok(&caller.sandbox(&emit));
        assert_eq!(word, format!("run it with: stockade --policy {bundle}/policy.json run --bundle {bundle} NAME\n"));
        assert_eq!(caller.left(), [""; 0], "emitting runs nothing");
        let config: Value =
            serde_json::from_slice(&std::fs::read(Path::new(&bundle).join("config.json")).unwrap()).unwrap();
        assert_eq!(config["process"]["args"][2], script);
        assert_eq!(config["process"]["terminal"], false);
        let expected = format!(
            "burrow\n{path}\nb\ntouch: cannot touch '/usr/x': Read-only file system\nroot:x:0:0:root:/home/sandbox:/bin/sh\n0\n"
        );
        let allowing = format!("{bundle}/policy.json");
        // By itself a bundle names nothing of the host: in its config the options are no longer the word of who typed them.
        let err = failed(&caller.stockade(&["run", "--bundle", &bundle, "box"]));
        assert!(err.contains("mounts.idmap") || err.contains("hostPaths"), "{err}");
        for policy in [allowing.as_str(), "oci"] {
            let out = caller.stockade(&["--policy", policy, "run", "--bundle", &bundle, "box"]);
            assert_eq!(ok(&out), expected, "{policy}");
            assert_eq!(caller.left(), [""; 0]);
        }
        // The life of any container.
        let quiet = |args: &[&str]| {
            let status = caller.command(args).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            assert!(status.success(), "{args:?}");
        };
        quiet(&["--policy", &allowing, "create", "--bundle", &bundle, "box"]);
        quiet(&["start", "box"]);
        wait_for("its end", || text(&caller.stockade(&["state", "box"]).stdout).contains("\"stopped\""));
        quiet(&["delete", "box"]);
        // Nothing is overwritten, and a failure leaves nothing in the way.
        assert!(failed(&caller.sandbox(&emit)).contains("has a bundle already"));
        let second = format!("{}/two", Path::new(&bundle).parent().unwrap().display());
        let err = failed(&caller.sandbox(&["--emit-bundle", &second, "--pids", "0", "--", "true"]));
        assert!(err.contains("--pids"), "{err}");
        ok(&caller.sandbox(&["--emit-bundle", &second, "--", "echo", "strict"]));
        assert_eq!(
            ok(&caller.stockade(&["--policy", &format!("{second}/policy.json"), "run", "--bundle", &second, "box"])),
            "strict\n"
        );
    }
}

#[test]
fn explain_shows_the_plan_and_runs_nothing() {
    need_root!("explain_shows_the_plan_and_runs_nothing");
    for caller in callers() {
        let path = caller.own_dir("shared").display().to_string();
        let words = ["--explain", "--rw", &path, "--", "touch", &format!("{path}/ran")];
        let out = ok(&caller.sandbox(&words)).to_lowercase();
        for part in ["findings", "kernel", "pivot_root", "seccomp", "cve-", "no user namespaces", "exec"] {
            assert!(out.contains(part), "{part} in {out}");
        }
        let words = ["--explain", "--json", "--rw", &path, "--", "touch", &format!("{path}/ran")];
        let json: Value = serde_json::from_str(&ok(&caller.sandbox(&words))).unwrap();
        assert_eq!(json["policy"], "strict");
        assert!(json["findings"].as_array().unwrap().len() > 5);
        let names: Vec<&str> = json["plan"].as_array().unwrap().iter().filter_map(|s| s["name"].as_str()).collect();
        assert!(names.contains(&"pivot_root") && names.ends_with(&["seccomp", "exec"]), "{names:?}");
        assert!(!Path::new(&path).join("ran").exists(), "it ran");
        assert_eq!(caller.left(), [""; 0]);
        // --json alone means nothing, and neither does explaining what is only written.
        assert!(!caller.sandbox(&["--json", "--", "true"]).status.success());
        assert!(!caller.sandbox(&["--explain", "--emit-bundle", "/tmp/x", "--", "true"]).status.success());
    }
}

#[test]
fn limits_hold_or_are_refused_with_the_remedy() {
    need_root!("limits_hold_or_are_refused_with_the_remedy");
    for caller in callers() {
        let limits = [("--memory", "64m", "memory"), ("--cpus", ".5", "cpu"), ("--pids", "20", "pids")];
        if !controllers(&["memory", "cpu", "pids"]) || !caller.is_root() {
            for (flag, value, controller) in limits {
                let err = failed(&caller.sandbox(&[flag, value, "--", "true"]));
                assert!(err.contains("cannot be enforced") && err.contains("hint: "), "{err}");
                assert!(err.contains(controller) || err.contains("not writable"), "{err}");
                assert_eq!(caller.left(), [""; 0]);
            }
            continue;
        }
        let words = ["sandbox", "--memory", "64m", "--cpus", ".5", "--pids", "20", "--", "sleep", "1000"];
        let mut child = caller.command(&words).spawn().unwrap();
        let mut group = None;
        wait_for("its cgroup", || {
            group = caller.left().into_iter().find(|n| n.starts_with("sandbox-")).and_then(|id| {
                let found = Leftovers::now(&id).cgroups;
                found
                    .into_iter()
                    .find(|path| std::fs::read_to_string(format!("{path}/pids.max")).is_ok_and(|t| t == "20\n"))
            });
            group.is_some()
        });
        let read = |file: &str| std::fs::read_to_string(format!("{}/{file}", group.as_ref().unwrap())).unwrap();
        assert_eq!(read("memory.max"), format!("{}\n", 64 << 20));
        assert_eq!(read("memory.swap.max"), "0\n");
        assert_eq!(read("cpu.max"), "50000 100000\n");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGTERM).unwrap();
        child.wait().unwrap();
        assert!(!Path::new(group.as_ref().unwrap()).exists(), "the cgroup is left");
        // They bite: more memory is death, more processes are refused.
        let hog = "a = bytearray(200 << 20); print('survived')";
        let out = caller.sandbox(&["--memory", "64m", "--", "/usr/bin/python3", "-c", hog]);
        assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(137), ""));
        assert_eq!(ok(&caller.sandbox(&["--memory", "512m", "--", "/usr/bin/python3", "-c", hog])), "survived\n");
        let forks = "import os,time\nn = 0\ntry:\n while n < 100:\n  if os.fork() == 0: time.sleep(100)\n  n += 1\n\
            except OSError: pass\nprint(n)";
        assert_eq!(ok(&caller.sandbox(&["--pids", "20", "--", "/usr/bin/python3", "-c", forks])), "19\n");
    }
}

#[test]
fn bad_options_are_one_clear_line() {
    need_root!("bad_options_are_one_clear_line");
    let long = "x".repeat(65);
    let cases: &[(&[&str], &str)] = &[
        (&["--memory", "lots"], "--memory: lots"),
        (&["--memory", "0"], "--memory: 0"),
        (&["--memory", "-5"], "--memory: -5"),
        (&["--cpus", "half"], "--cpus: half"),
        (&["--cpus", "0"], "--cpus: 0"),
        (&["--cpus", "nan"], "--cpus: nan"),
        (&["--cpus", "inf"], "--cpus: inf"),
        (&["--pids", "0"], "--pids: 0"),
        (&["--env", "JUSTANAME"], "--env: JUSTANAME"),
        (&["--env", "=value"], "--env: =value"),
        (&["--ro", "/no/such"], "--ro: /no/such: no such file"),
        (&["--rw", "/no/such"], "--rw: /no/such: no such file"),
        (&["--ro", "/"], "the whole host"),
        (&["--ro", "/usr/.."], "the whole host"),
        (&["--ro", "to-root"], "the whole host"),
        (&["--rw", "/proc"], "its own /proc"),
        (&["--ro", "/sys/kernel"], "its own /proc"),
        (&["--ro", "/etc/../dev"], "its own /proc"),
        (&["--ro", "to-proc"], "its own /proc"),
        (&["--workdir", "/no/such"], "/no/such: no such file"),
        (&["--hostname", "a\nb"], "hostname"),
        (&["--hostname", &long], "hostname"),
    ];
    for caller in callers() {
        std::os::unix::fs::symlink("/", caller.path().join("to-root")).unwrap();
        std::os::unix::fs::symlink("/proc", caller.path().join("to-proc")).unwrap();
        for (options, part) in cases {
            let err = failed(&caller.sandbox(&[*options, &["--", "true"]].concat()));
            assert!(err.contains(part), "{options:?}: {err}");
            assert_eq!(caller.left(), [""; 0], "{options:?}");
        }
        // A path that a config.json cannot name.
        use std::os::unix::ffi::OsStrExt;
        let odd = caller.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
        std::fs::create_dir(&odd).unwrap();
        for flag in ["--ro", "--rw", "--workdir"] {
            let out = caller.command(&["sandbox", flag]).arg(&odd).args(["--", "true"]).output().unwrap();
            assert!(failed(&out).contains("not UTF-8"));
            assert_eq!(caller.left(), [""; 0]);
        }
        // Commands that are not there.
        assert!(failed(&caller.sandbox(&["--", "/no/such"])).contains("/no/such: no such file"));
        assert!(failed(&caller.sandbox(&["--", "nosuch"])).contains("not found in $PATH"));
        assert!(failed(&caller.sandbox(&["--", "/usr"])).contains("/usr"));
        assert!(!caller.sandbox(&[]).status.success());
        assert!(!caller.sandbox(&["--nosuch", "--", "true"]).status.success());
        assert_eq!(caller.left(), [""; 0]);
    }
}

// --- in, out and the end ----------------------------------------------------------------------------------------------

/// Runs a command with bytes on its stdin and takes its output, both at the same time.
fn piped(mut command: std::process::Command, input: Vec<u8>) -> std::process::Output {
    use std::io::Write;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    out
}

#[test]
fn pipes_carry_everything() {
    need_root!("pipes_carry_everything");
    for caller in callers() {
        assert_eq!(ok(&piped(caller.command(&["sandbox", "--", "cat"]), b"hi\n".to_vec())), "hi\n");
        let ten: Vec<u8> = (0..10_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let out = piped(caller.command(&["sandbox", "--", "cat"]), ten.clone());
        assert!(out.status.success() && out.stdout == ten, "{} of {} bytes", out.stdout.len(), ten.len());
        // Out and err stay apart, and the status is the command's.
        let out = caller.sandbox(&["--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
        assert_eq!(
            (out.status.code(), text(&out.stdout), text(&out.stderr)),
            (Some(3), "out\n".into(), "err\n".into())
        );
    }
}

#[test]
fn a_signal_ends_it_and_nothing_stays() {
    need_root!("a_signal_ends_it_and_nothing_stays");
    use nix::sys::signal::{Signal, kill};
    for caller in callers() {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            // PID 1 of a namespace, without a handler: it would not even notice.
            let mut child = caller.command(&["sandbox", "--", "sleep", "1000"]).spawn().unwrap();
            caller.wait_for_sleep();
            kill(nix::unistd::Pid::from_raw(child.id() as i32), signal).unwrap();
            let mut status = None;
            wait_for(signal.as_str(), || {
                status = child.try_wait().unwrap();
                status.is_some()
            });
            assert_eq!(status.unwrap().code(), Some(137), "{signal}");
            assert_eq!(caller.left(), [""; 0], "{signal}");
        }
        // A handler gets the signal and decides.
        let ready = caller.own_dir("handler");
        let path = ready.display().to_string();
        let script = format!("trap 'echo bye; exit 9' TERM; touch {path}/up; while :; do sleep .05; done");
        let child = caller
            .command(&["sandbox", "--rw", &path, "--", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for("the command", || ready.join("up").exists());
        kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        let out = child.wait_with_output().unwrap();
        assert_eq!((out.status.code(), text(&out.stdout)), (Some(9), "bye\n".into()));
        assert_eq!(caller.left(), [""; 0]);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(caller.path().to_str().unwrap()), "{mounts}");
    }
}

#[test]
fn delete_clears_what_a_killed_sandbox_left() {
    need_root!("delete_clears_what_a_killed_sandbox_left");
    for caller in callers() {
        let mut child = caller.command(&["sandbox", "--", "sleep", "1000"]).spawn().unwrap();
        let (id, pid) = caller.wait_for_sleep();
        child.kill().unwrap();
        child.wait().unwrap();
        wait_for("the end of the command", || proc_status(pid, "State").is_none_or(|s| s.starts_with('Z')));
        ok(&caller.stockade(&["delete", "--force", &id]));
        assert_eq!(caller.left(), [""; 0]);
    }
}

// --- on a terminal ----------------------------------------------------------------------------------------------------

/// Runs words on a new terminal and does a list of things there: `expect` a pattern in the output, `send` keys, `until`
/// (send keys again and again until a pattern comes), `size` the window, `signal` the program, `kill` its child.
/// Prints the exit status, whether the terminal is as it was, what is its process group, and the output's hash.
const DRIVER: &str = r#"
import fcntl, hashlib, json, os, re, select, signal, struct, sys, termios, time
steps, words = json.loads(sys.argv[1]), sys.argv[2:]
master, slave = os.openpty()
def resize(rows, columns): fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
resize(24, 80)
# Something to come back to that is nobody's default.
mode = termios.tcgetattr(slave)
mode[3] &= ~termios.ECHOK
mode[6][termios.VQUIT] = b'\x07'
termios.tcsetattr(slave, termios.TCSANOW, mode)
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3): os.dup2(slave, fd)
    os.closerange(3, 64)
    os.execvp(words[0], words)
text, seen, total, digest, end = b'', 0, 0, hashlib.sha256(), time.time() + 120
def die(why):
    print(json.dumps({'failed': why, 'text': text.decode(errors='replace')[-3000:]}))
    os.kill(pid, 9)
    sys.exit(1)
def pump(wait):
    global text, total
    if select.select([master], [], [], wait)[0]:
        data = os.read(master, 65536)
        total += len(data); digest.update(data)
        text = (text + data) if len(text) < 1 << 20 else text
        return True
    if time.time() > end: die('took too long')
    return False
def find(pattern):
    global seen
    hit = re.compile(pattern.encode(), re.S).search(text, seen)
    if hit: seen = hit.end()
    return hit
for step in steps:
    what, value = step[0], step[1]
    if what == 'expect':
        while not find(value): pump(0.1)
    elif what == 'send': os.write(master, value.encode())
    elif what == 'until':
        while not find(step[2]):
            os.write(master, value.encode())
            again = time.time() + 0.5
            while time.time() < again: pump(0.1)
    elif what == 'size': resize(*value)
    elif what == 'signal': os.kill(pid, value)
    elif what == 'kill':
        children = []
        while not children:
            children = open(f'/proc/{pid}/task/{pid}/children').read().split()
            pump(0.02)
        os.kill(int(children[0]), value)
status = None
while status is None:
    pump(0.05)
    done, code = os.waitpid(pid, os.WNOHANG)
    if done: status = os.waitstatus_to_exitcode(code)
while pump(0): pass
print(json.dumps({'status': status, 'restored': termios.tcgetattr(slave) == before, 'bytes': total,
    'sha256': digest.hexdigest(), 'text': text.decode(errors='replace')[-3000:]}))
"#;

impl Caller {
    fn on_a_terminal(&self, args: &[&str], steps: Value) -> Value {
        let mut command = std::process::Command::new("/usr/bin/python3");
        command.args(["-c", DRIVER, &steps.to_string()]).args(self.words(args)).current_dir(self.path());
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TERM", "dumb");
        command.env("XDG_RUNTIME_DIR", self.xdg());
        let out = command.output().unwrap();
        let said: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", text(&out.stderr)));
        assert!(out.status.success(), "{said:#}");
        assert_eq!(said["restored"], true, "the terminal is not as it was: {said:#}");
        assert_eq!(self.left(), [""; 0], "left behind");
        said
    }
}

const PROMPT: &str = "READY> ";
const SHELL: [&str; 5] = ["sandbox", "--env", "PS1=READY> ", "--", "sh"];

#[test]
fn a_shell_on_a_terminal_has_job_control() {
    need_root!("a_shell_on_a_terminal_has_job_control");
    for caller in callers() {
        // What is typed is echoed, so each pattern is something that only its evaluation prints.
        let said = caller.on_a_terminal(
            &SHELL,
            json!([
                ["expect", PROMPT],
                ["send", "tty; test -t 0 && test -t 1 && test -t 2 && echo tty-$((6*7))\n"],
                ["expect", "/dev/(console|pts/[0-9]+)\r\n"],
                ["expect", "tty-42"],
                ["send", "sleep 100 & echo bg-$((6*7))\n"],
                ["expect", "bg-42"],
                ["send", "jobs\n"],
                ["expect", "\\[1\\] \\+ Running +sleep 100"],
                // Into the foreground; ^Z stops it there, not the shell.
                ["send", "fg\n"],
                // Not before: ^Z and ^C throw away what is typed and not read yet.
                ["expect", "sleep 100\r\n"],
                ["until", "\u{1a}", "\\[1\\] \\+ Stopped +sleep 100"],
                ["send", "echo after-$((6*8))\n"],
                ["expect", "after-48"],
                ["send", "bg; jobs\n"],
                ["expect", "Running"],
                // ^C ends what is in front and not the shell.
                ["send", "sh -c 'echo up-$((1+1)); exec sleep 200'\n"],
                ["expect", "up-2"],
                ["send", "\u{3}"],
                ["expect", PROMPT],
                ["send", "echo code-$?\n"],
                ["expect", "code-130"],
                ["send", "fg\n"],
                ["expect", "sleep 100\r\n"],
                ["until", "\u{3}", "READY> "],
                ["send", "echo \"jobs:$(jobs):$((6*9))\"\n"],
                ["expect", "jobs::54"],
                ["send", "exit 7\n"]
            ]),
        );
        assert_eq!(said["status"], 7, "{said:#}");
        assert!(!said["text"].as_str().unwrap().contains("job control turned off"), "{said:#}");
    }
}

#[test]
fn the_window_and_its_changes_reach_it() {
    need_root!("the_window_and_its_changes_reach_it");
    for caller in callers() {
        let said = caller.on_a_terminal(
            &SHELL,
            json!([
                ["expect", PROMPT],
                ["send", "stty size\n"],
                ["expect", "\r\n24 80\r\n"],
                ["size", [31, 97]],
                ["until", "stty size\n", "\r\n31 97\r\n"],
                // The program in front hears of it, too.
                ["send", "sh -c 'trap \"stty size; exit\" WINCH; echo up-$((1+1)); while :; do sleep .05; done'\n"],
                ["expect", "up-2"],
                ["size", [12, 34]],
                ["expect", "\r\n12 34\r\n"],
                ["send", "exit\n"]
            ]),
        );
        assert_eq!(said["status"], 0, "{said:#}");
    }
}

#[test]
fn the_terminal_is_restored_whatever_ends_it() {
    need_root!("the_terminal_is_restored_whatever_ends_it");
    for caller in callers() {
        let ends = [
            (json!(["send", "exit 3\n"]), 3),
            (json!(["send", "\u{4}"]), 0),
            (json!(["kill", 9]), 137),
            (json!(["signal", 15]), 137),
            (json!(["signal", 1]), 137),
        ];
        for (end, status) in ends {
            let said = caller.on_a_terminal(&SHELL, json!([["expect", PROMPT], end]));
            assert_eq!(said["status"], status, "{end}: {said:#}");
        }
        // Nothing ran at all.
        for words in [["sandbox", "--", "/no/such"], ["sandbox", "--", "/usr"]] {
            assert_eq!(caller.on_a_terminal(&words, json!([]))["status"], 1);
        }
        // A program that leaves its own terminal raw leaves the caller's alone.
        let said = caller.on_a_terminal(&["sandbox", "--", "stty", "raw", "-echo"], json!([]));
        assert_eq!(said["status"], 0, "{said:#}");
    }
}

#[test]
fn a_big_output_is_whole_on_a_terminal() {
    need_root!("a_big_output_is_whole_on_a_terminal");
    let lines = 1_300_000;
    let expected: String = (1..=lines).map(|n| format!("{n}\r\n")).collect();
    assert!(expected.len() > 10_000_000);
    let dir = scratch();
    let file = dir.path().join("expected");
    std::fs::write(&file, &expected).unwrap();
    let sum = ok(&std::process::Command::new("sha256sum").arg(&file).output().unwrap());
    for caller in callers() {
        let said = caller.on_a_terminal(&["sandbox", "--", "seq", "1", &lines.to_string()], json!([]));
        assert_eq!((&said["status"], &said["bytes"]), (&json!(0), &json!(expected.len())));
        assert_eq!(said["sha256"].as_str(), sum.split(' ').next());
    }
}

#[test]
fn with_one_end_on_a_pipe_there_is_no_terminal_inside() {
    need_root!("with_one_end_on_a_pipe_there_is_no_terminal_inside");
    for caller in callers() {
        let words = caller.words(&["sandbox", "--", "sh", "-c", "cat; tty"]);
        let line = words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(" ");
        let said = {
            let mut command = std::process::Command::new("/usr/bin/python3");
            command.args(["-c", DRIVER, "[]", "sh", "-c", &format!("echo hi | {line}")]).current_dir(caller.path());
            command.env("XDG_RUNTIME_DIR", caller.xdg());
            let out = command.output().unwrap();
            serde_json::from_slice::<Value>(&out.stdout).unwrap_or_else(|_| panic!("{}", text(&out.stderr)))
        };
        assert_eq!(said["text"], "hi\r\nnot a tty\r\n", "{said:#}");
        assert_eq!(said["restored"], true);
    }
}
