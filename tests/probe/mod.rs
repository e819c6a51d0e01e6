//! What tests/pids.rs and tests/isolation.rs share: the probe program, a container that answers questions, and bundles
//! that an ordinary user runs.
#![allow(dead_code)]

use crate::common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// An ordinary user that owns nothing else in these tests.
pub const USER: u32 = 1000;

/// The probe, compiled once; or why it cannot be.
pub fn program() -> Result<PathBuf, String> {
    const SOURCE: &str = include_str!("probe.c");
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = cache.join(format!("probe-{:016x}", hasher.finish()));
    if path.exists() {
        return Ok(path);
    }
    std::fs::create_dir_all(cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    let dir = tempfile::tempdir_in(cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    let (source, made) = (dir.path().join("probe.c"), dir.path().join("probe"));
    std::fs::write(&source, SOURCE).map_err(|e| e.to_string())?;
    let out = Command::new("gcc")
        .args(["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&made, &source])
        .output()
        .map_err(|e| format!("gcc: {e}"))?;
    // A compiler that is there must compile it: that is no reason to skip.
    assert!(out.status.success(), "gcc: {}", text(&out.stderr));
    // Renamed into place: others may be doing the same.
    std::fs::rename(&made, &path).map_err(|e| e.to_string())?;
    Ok(path)
}

/// Puts the probe into a bundle as /bin/probe.
pub fn install(bundle: &Bundle, probe: &Path) {
    let target = bundle.rootfs().join("bin/probe");
    std::fs::copy(probe, &target).unwrap();
    std::fs::set_permissions(target, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Gives the bundle to an ordinary user who has no subordinate ids, and who has `groups` besides its own.
pub fn by_single_user(mut bundle: Bundle, groups: &[u32]) -> Bundle {
    // The private /etc/subuid is empty: whatever this host gives to uid 1000 is out of sight.
    bundle.runner = private_etc(&bundle, "", groups);
    bundle
}

/// Where the subordinate ids of `by_ranged_user` begin; no other test and no user of a host has them.
pub const SUB: u32 = 1_900_000_000;

/// Gives the bundle to an ordinary user with 65,536 subordinate ids.
pub fn by_ranged_user(mut bundle: Bundle, groups: &[u32]) -> Bundle {
    bundle.runner = private_etc(&bundle, &format!("stockade-test:{SUB}:65536\n"), groups);
    bundle
}

/// Leading words that run a command as `USER`, with files in /etc that only it sees.
fn private_etc(bundle: &Bundle, ranges: &str, groups: &[u32]) -> Vec<String> {
    let dir = bundle.path().join("etc");
    std::fs::create_dir(&dir).unwrap();
    // newuidmap asks for the name of its caller, so the user must have one.
    let mut passwd: String = std::fs::read_to_string("/etc/passwd")
        .unwrap()
        .lines()
        .filter(|l| l.split(':').nth(2) != Some("1000"))
        .map(|l| format!("{l}\n"))
        .collect();
    passwd.push_str("stockade-test:x:1000:1000::/:/bin/sh\n");
    let mut script = String::new();
    for (name, content) in [("passwd", passwd.as_str()), ("subuid", ranges), ("subgid", ranges)] {
        std::fs::write(dir.join(name), content).unwrap();
        // Where the host has no such file there is nothing to cover, and nothing to cover it with either.
        if Path::new("/etc").join(name).exists() {
            script.push_str(&format!("mount --bind '{}/{name}' /etc/{name} && ", dir.display()));
        }
    }
    let runtime_dir = bundle.path().join("xdg");
    std::fs::create_dir(&runtime_dir).unwrap();
    std::fs::set_permissions(&runtime_dir, PermissionsExt::from_mode(0o700)).unwrap();
    for path in [bundle.path(), &runtime_dir] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    let groups = match groups {
        [] => "--clear-groups".to_owned(),
        some => format!("--groups {}", some.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
    };
    script.push_str(&format!(
        "exec setpriv --reuid {USER} --regid {USER} {groups} env XDG_RUNTIME_DIR='{}' HOME=/ \"$@\"",
        runtime_dir.display()
    ));
    ["unshare", "--mount", "--propagation", "private", "sh", "-c", script.as_str(), "sh"].map(str::to_owned).to_vec()
}

/// Why nobody can be given subordinate ids here, if so.
pub fn no_ranges() -> Option<String> {
    for file in ["/usr/bin/newuidmap", "/usr/bin/newgidmap", "/etc/subuid", "/etc/subgid"] {
        if !Path::new(file).exists() {
            return Some(format!("{file} is missing (package uidmap)"));
        }
    }
    None
}

/// A running container whose PID 1 is a shell that answers questions.
pub struct Talk {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: PathBuf,
}

impl Talk {
    /// Runs the bundle in the foreground; its command must be `sh`.
    pub fn with(bundle: &Bundle) -> Talk {
        bundle.write();
        let stderr = bundle.path().join("talk.err");
        let mut child = bundle
            .command(&["run", "--bundle", &bundle.path().display().to_string(), "box"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().unwrap();
        let (send, lines) = channel();
        // A thread, so that a container which says nothing cannot hang the test.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut talk = Talk { child, stdin, lines, stderr };
        assert_eq!(talk.ask("echo here"), "here");
        talk
    }

    /// What the shell prints for a line of script.
    pub fn ask(&mut self, script: &str) -> String {
        self.tell(&format!("{script}\necho --end--"));
        let mut answer = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if line == "--end--" => return answer.join("\n"),
                Ok(line) => answer.push(line),
                Err(e) => panic!(
                    "{script}: {e} after {answer:?}: {}",
                    std::fs::read_to_string(&self.stderr).unwrap_or_default()
                ),
            }
        }
    }

    /// A line of script that nobody waits for.
    pub fn tell(&mut self, script: &str) {
        if let Err(e) = writeln!(self.stdin.as_mut().unwrap(), "{script}") {
            panic!("{script}: {e}: {}", std::fs::read_to_string(&self.stderr).unwrap_or_default());
        }
    }

    /// The status of the runtime, once the container has ended.
    pub fn end(mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the end of the container", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // The end of its input ends the shell, and with it everything else.
        self.stdin = None;
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while let Ok(None) = self.child.try_wait() {
            if std::time::Instant::now() > end {
                let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
                let _ = self.child.wait();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
