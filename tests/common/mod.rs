//! What all tests share: the binary, bundles that are quick to make, a place for states, and honest skips.
//!
//! `RUNTIME=/usr/bin/crun` points the tests that allow it at another runtime, to show that they fire.
#![allow(dead_code)]

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The runtime under test.
pub fn runtime() -> PathBuf {
    std::env::var_os("RUNTIME").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_stockade")), PathBuf::from)
}

/// Says loudly that a test cannot run here, and leaves a line for the count.
pub fn skip(test: &str, why: &str) {
    // In a module a test has a longer name, which its thread knows; "TEST, PART" names what it left out.
    let thread = std::thread::current();
    let short = test.split([',', ':']).next().unwrap_or(test);
    let module = thread.name().and_then(|full| full.strip_suffix(short)).filter(|m| m.ends_with("::")).unwrap_or("");
    let test = format!("{module}{test}");
    eprintln!("SKIPPED {test}: {why}");
    if let Some(path) = std::env::var_os("STOCKADE_SKIPS") {
        use std::io::Write;
        if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
            // In one write: tests run side by side.
            let _ = file.write_all(format!("{test}\t{why}\n").as_bytes());
        }
    }
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A test that only root can do.
#[macro_export]
macro_rules! need_root {
    ($name:expr) => {
        if !$crate::common::is_root() {
            return $crate::common::skip($name, "needs root");
        }
    };
}

/// Whether cgroup v2 gives us these controllers.
pub fn controllers(wanted: &[&str]) -> bool {
    ["/sys/fs/cgroup/cgroup.controllers"].iter().any(|p| {
        std::fs::read_to_string(p).is_ok_and(|have| wanted.iter().all(|w| have.split_whitespace().any(|h| h == *w)))
    })
}

/// Where cgroup2 is mounted.
pub fn cgroup_mount() -> PathBuf {
    let pure = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    PathBuf::from(if pure { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/unified" })
}

/// A static busybox, from Debian's package busybox-static.
pub fn busybox() -> PathBuf {
    for path in ["/usr/bin/busybox", "/bin/busybox"] {
        if Path::new(path).exists() {
            return PathBuf::from(path);
        }
    }
    panic!("busybox is missing: apt-get install busybox-static");
}

/// A directory that goes with the value, readable by every user, on a file system that idmapped mounts work on.
pub fn scratch() -> tempfile::TempDir {
    // In the VM /tmp is a tmpfs, which Linux 6.1 cannot idmap; its ext4 is at /mnt/ext4.
    let base =
        if Path::new("/mnt/ext4").is_dir() && is_root() { PathBuf::from("/mnt/ext4") } else { std::env::temp_dir() };
    let dir = tempfile::Builder::new().prefix("stockade-test-").tempdir_in(base).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Makes a root file system of busybox in `dir`.
pub fn make_rootfs(dir: &Path) {
    for name in ["bin", "dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "usr/bin", "var/tmp"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    // By cp and not by ourselves: a child that another thread forks meanwhile would hold the file open for writing, and
    // the execve of it would be ETXTBSY.
    assert!(Command::new("cp").arg(busybox()).arg(dir.join("bin/busybox")).status().unwrap().success());
    let list = Command::new(busybox()).arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines() {
        if applet != "busybox" {
            let _ = std::os::unix::fs::symlink("busybox", dir.join("bin").join(applet));
        }
    }
    std::fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n").unwrap();
    std::fs::write(dir.join("etc/group"), "root:x:0:\ntty:x:5:\nuser:x:1000:\n").unwrap();
}

/// A bundle of a test: a busybox rootfs of its own, a config to change, a directory for states.
pub struct Bundle {
    pub dir: tempfile::TempDir,
    pub config: Value,
    /// Options before the verb: `--policy oci` and the like.
    pub global: Vec<String>,
    /// Leading words, such as `setpriv --reuid 1000 ...`: who runs it.
    pub runner: Vec<String>,
}

impl Bundle {
    /// The least that is a bundle: everything else is silent.
    pub fn silent(command: &[&str]) -> Bundle {
        let dir = scratch();
        make_rootfs(&dir.path().join("rootfs"));
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": command,
                "env": ["PATH=/bin"],
                "cwd": "/"
            },
            "root": { "path": "rootfs" }
        });
        Bundle { dir, config, global: Vec::new(), runner: Vec::new() }
    }

    /// The same with the words given to a shell.
    pub fn shell(script: &str) -> Bundle {
        Bundle::silent(&["sh", "-c", script])
    }

    /// What an ordinary engine sends: the usual mounts and namespaces, for `--policy oci`.
    pub fn usual(command: &[&str]) -> Bundle {
        let mut bundle = Bundle::silent(command);
        bundle.config["mounts"] = usual_mounts();
        let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|t| json!({ "type": t }));
        bundle.config["linux"] = json!({
            "namespaces": namespaces,
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        });
        bundle
    }

    /// With `--policy NAME`.
    pub fn policy(mut self, name: &str) -> Bundle {
        self.global.extend(["--policy".to_owned(), name.to_owned()]);
        self
    }

    /// With an operator's policy: `json` extends a shipped one.
    pub fn operator(self, text: Value) -> Bundle {
        let path = self.path().join("policy.json");
        std::fs::write(&path, text.to_string()).unwrap();
        let path = path.display().to_string();
        self.policy(&path)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// Where this bundle's states are.
    pub fn root(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Writes config.json.
    pub fn write(&self) {
        std::fs::write(self.path().join("config.json"), self.config.to_string()).unwrap();
    }

    /// A command line on this bundle's states: `stockade --root STATE [global] ARGS`.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut words: Vec<String> = self.runner.clone();
        words.push(runtime().display().to_string());
        words.extend(["--root".to_owned(), self.root().display().to_string()]);
        words.extend(self.global.iter().cloned());
        words.extend(args.iter().map(ToString::to_string));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.path()).stdin(Stdio::null()).env_remove("STOCKADE_POLICY");
        command
    }

    /// Does a verb and takes everything that it says.
    pub fn verb(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Writes the config and runs it in the foreground.
    pub fn run(&self) -> Output {
        self.write();
        self.verb(&["run", "--bundle", &self.path().display().to_string(), "box"])
    }

    /// Writes the config and creates it as `box`. Its output goes nowhere, so that nobody waits for its end.
    pub fn create(&self) -> Output {
        self.write();
        let bundle = self.path().display().to_string();
        let err = self.path().join("create.err");
        let status = self
            .command(&["create", "--bundle", &bundle, "box"])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&err).unwrap())
            .status()
            .unwrap();
        Output { status, stdout: Vec::new(), stderr: std::fs::read(&err).unwrap() }
    }

    /// The state of `box` as JSON.
    pub fn state(&self) -> Value {
        let out = self.verb(&["state", "box"]);
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("state: {}", text(&out.stderr)))
    }

    /// The host's pid of the init of `box`.
    pub fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().unwrap() as i32
    }

    pub fn delete(&self) -> Output {
        self.verb(&["delete", "--force", "box"])
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if self.root().join("box").exists() {
            let _ = self.delete();
        }
    }
}

/// The seven mounts that `runc spec` writes.
pub fn usual_mounts() -> Value {
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
          "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
    ])
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The output of a run that must have succeeded.
pub fn ok(out: &Output) -> String {
    assert!(out.status.success(), "{:?}: {}{}", out.status, text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

/// The error of a run that must have failed with one line.
pub fn failed(out: &Output) -> String {
    assert!(!out.status.success(), "succeeded: {}", text(&out.stdout));
    let err = text(&out.stderr);
    assert_eq!(err.trim_end().lines().count(), 1, "one line expected: {err}");
    err
}

/// Types a line on the states of a bundle: it begins after `--root STATE [--policy ...]`, and `{}` is the bundle.
pub fn on(bundle: &Bundle, line: &str) -> Output {
    let line = line.replace("{}", &bundle.path().display().to_string());
    // A container must not hold the pipe that we read to its end.
    let (out, err) = (bundle.path().join("typed.out"), bundle.path().join("typed.err"));
    let status = bundle
        .command(&line.split_whitespace().collect::<Vec<_>>())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .status()
        .unwrap();
    Output { status, stdout: std::fs::read(&out).unwrap(), stderr: std::fs::read(&err).unwrap() }
}

/// It worked, and said nothing.
pub fn silent(out: &Output) {
    assert_eq!((ok(out).as_str(), text(&out.stderr).as_str()), ("", ""));
}

/// Receives one descriptor and the bytes that came with it.
pub fn receive(listener: &std::os::unix::net::UnixListener) -> (std::os::fd::OwnedFd, Vec<u8>) {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
    use std::os::fd::{AsRawFd, RawFd};
    let (stream, _) = listener.accept().unwrap();
    let mut bytes = [0u8; 256];
    let mut control = nix::cmsg_space!([RawFd; 4]);
    let mut iov = [std::io::IoSliceMut::new(&mut bytes)];
    let message =
        recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let n = message.bytes;
    let mut fds: Vec<RawFd> = Vec::new();
    for part in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(raw) = part {
            fds.extend(raw);
        }
    }
    assert_eq!(fds.len(), 1);
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut &stream, &mut rest).unwrap();
    assert!(rest.is_empty(), "one message and the end");
    (stockade::sys::adopt(fds[0]), bytes[..n].to_vec())
}

/// Waits for something to become true.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    // In the test machine, known by its directory, all takes up to a hundred times as long.
    let patience = if Path::new("/mnt/ext4").is_dir() { 120 } else { 20 };
    let end = Instant::now() + Duration::from_secs(patience);
    while !condition() {
        assert!(Instant::now() < end, "{what} did not happen within {patience} s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A field of /proc/PID/status.
pub fn proc_status(pid: i32, field: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).map(|v| v.trim().to_owned())
}

/// What a launch may leave on the host: cgroups, mounts, ids. Equal before and after means that nothing was left.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Leftovers {
    pub cgroups: Vec<String>,
    pub mounts: usize,
    pub ids: Vec<String>,
}

impl Leftovers {
    /// Cgroups whose name contains `mark`, all mounts, and all reserved blocks whose holder contains `mark`.
    pub fn now(mark: &str) -> Leftovers {
        fn walk(dir: &Path, mark: &str, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    if entry.file_name().to_string_lossy().contains(mark) {
                        found.push(entry.path().display().to_string());
                    }
                    walk(&entry.path(), mark, found);
                }
            }
        }
        let mut cgroups = Vec::new();
        walk(&cgroup_mount(), mark, &mut cgroups);
        cgroups.sort();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines().count();
        let mut ids: Vec<String> = std::fs::read_dir("/run/stockade/.ids")
            .into_iter()
            .flatten()
            .flatten()
            .filter(|e| std::fs::read_to_string(e.path()).is_ok_and(|t| t.contains(mark)))
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        ids.sort();
        Leftovers { cgroups, mounts, ids }
    }
}
