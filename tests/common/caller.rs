//! Who calls: root, or an ordinary user with or without subordinate ids. Each has a directory of its own that it can
//! reach and, an ordinary user, an XDG_RUNTIME_DIR.
#![allow(dead_code)]

use super::common::*;
use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};

/// The user with a range and the one without; in the VM both are real.
pub const RANGED: u32 = 1000;
pub const SINGLE: u32 = 1001;

/// A caller of stockade.
pub struct Caller {
    pub dir: tempfile::TempDir,
    pub uid: u32,
    pub runner: Vec<String>,
    binary: PathBuf,
    alone: Option<MutexGuard<'static, ()>>,
}

/// A user's containers of the same name have the same cgroup, whatever the state directory.
static ALONE: Mutex<()> = Mutex::new(());

impl Caller {
    fn new(uid: u32, runner: Vec<String>) -> Caller {
        let dir = scratch();
        let run = dir.path().join("run");
        std::fs::create_dir(&run).unwrap();
        std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o700)).unwrap();
        if is_root() {
            chown(&run, Some(uid), Some(uid)).unwrap();
        }
        let mut binary = runtime();
        let reach = |path: &Path| {
            let test = ["test".to_owned(), "-x".to_owned(), path.display().to_string()];
            let words = [&runner[..], &test[..]].concat();
            Command::new(&words[0]).args(&words[1..]).status().is_ok_and(|s| s.success())
        };
        if !reach(&binary) {
            // Below somebody's home.
            binary = dir.path().join("stockade");
            std::fs::copy(runtime(), &binary).unwrap();
        }
        Caller { dir, uid, runner, binary, alone: None }
    }

    pub fn root() -> Caller {
        Caller::new(0, Vec::new())
    }

    /// Whoever runs the tests; one test at a time.
    pub fn me() -> Caller {
        let alone = ALONE.lock().unwrap_or_else(|failed| failed.into_inner());
        let mut me = Caller::new(nix::unistd::geteuid().as_raw(), Vec::new());
        me.alone = Some(alone);
        me
    }

    fn drop_to(uid: u32, more: &[&str]) -> Vec<String> {
        let id = uid.to_string();
        let mut words = vec!["setpriv", "--reuid", &id, "--regid", &id, "--inh-caps=-all"];
        words.extend(if more.is_empty() { &["--clear-groups"] } else { more });
        words.into_iter().map(str::to_owned).collect()
    }

    /// An ordinary user whose only id is its own. Needs root.
    pub fn single() -> Caller {
        Caller::new(SINGLE, Caller::drop_to(SINGLE, &[]))
    }

    /// The same with supplementary groups.
    pub fn in_groups(groups: &str) -> Caller {
        Caller::new(SINGLE, Caller::drop_to(SINGLE, &["--groups", groups]))
    }

    /// An ordinary user with subordinate ids, by the host's own files where they have them, else by files that are bound
    /// over the host's in a mount namespace of its own. None, with the reason, where newuidmap is missing.
    pub fn ranged() -> Result<Caller, &'static str> {
        if ["newuidmap", "newgidmap"].iter().any(|p| !Path::new("/usr/bin").join(p).exists()) {
            return Err("newuidmap is missing: apt-get install uidmap");
        }
        let ready = |file: &str| {
            std::fs::read_to_string(file).is_ok_and(|t| t.lines().any(|l| l.starts_with("tester:100000:65536")))
        };
        let drop = Caller::drop_to(RANGED, &[]);
        if ready("/etc/subuid") && ready("/etc/subgid") {
            return Ok(Caller::new(RANGED, drop));
        }
        let files = scratch().keep();
        let read = |name: &str| {
            let text = std::fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
            text.lines().filter(|l| l.split(':').nth(2) != Some("1000")).map(|l| format!("{l}\n")).collect::<String>()
        };
        std::fs::write(files.join("passwd"), read("passwd") + "tester:x:1000:1000::/:/bin/sh\n").unwrap();
        std::fs::write(files.join("group"), read("group") + "tester:x:1000:\n").unwrap();
        for name in ["subuid", "subgid"] {
            std::fs::write(files.join(name), "tester:100000:65536\n").unwrap();
            if !Path::new("/etc").join(name).exists() {
                let _ = std::fs::remove_dir_all(&files);
                return Err("/etc/subuid or /etc/subgid is missing: there is nothing to bind over");
            }
        }
        let script = "d=$1; shift; for f in passwd group subuid subgid; do mount --bind $d/$f /etc/$f || exit 99; done; exec \"$@\"";
        let files = files.display().to_string();
        let mut runner: Vec<String> =
            ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", &files].map(str::to_owned).to_vec();
        runner.extend(drop);
        let caller = Caller::new(RANGED, runner);
        Ok(caller)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// The user's XDG_RUNTIME_DIR; root's states lie in it just the same.
    pub fn xdg(&self) -> PathBuf {
        self.path().join("run")
    }

    /// Where the states are.
    pub fn states(&self) -> PathBuf {
        self.xdg().join("stockade")
    }

    /// A directory of the caller's own, below its scratch directory.
    pub fn own_dir(&self, name: &str) -> PathBuf {
        let dir = self.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        if is_root() {
            chown(&dir, Some(self.uid), Some(self.uid)).unwrap();
        }
        dir
    }

    /// strict, but for one thing that an operator allows: a bundle may name paths of the host outside itself.
    pub fn strict_with_host_paths(&self) -> String {
        let file = self.path().join("host-paths.json");
        std::fs::write(&file, r#"{"extends":"strict","hostPaths":{"beyond":"allow"}}"#).unwrap();
        file.display().to_string()
    }

    /// Root, and where root tests: an ordinary user without ranges of ids and one with them.
    pub fn all(test: &str) -> Vec<Caller> {
        if !is_root() {
            return vec![Caller::me()];
        }
        let mut all = vec![Caller::root(), Caller::single()];
        match Caller::ranged() {
            Ok(caller) => all.push(caller),
            Err(why) => skip(&format!("{test}: ranged"), why),
        }
        all
    }

    /// The words of a command line of this caller.
    pub fn words(&self, args: &[&str]) -> Vec<String> {
        let mut words = self.runner.clone();
        words.push(self.binary.display().to_string());
        if self.is_root() {
            words.extend(["--root".to_owned(), self.states().display().to_string()]);
        }
        words.extend(args.iter().map(ToString::to_string));
        words
    }

    fn dress(&self, command: &mut Command) {
        command.current_dir(self.path()).stdin(Stdio::null()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("XDG_RUNTIME_DIR", self.xdg()).env("TERM", "dumb");
    }

    /// Any program as this caller.
    pub fn program(&self, args: &[&str]) -> Command {
        let words: Vec<String> = self.runner.iter().cloned().chain(args.iter().map(ToString::to_string)).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        self.dress(&mut command);
        command
    }

    /// `stockade ARGS` as this caller.
    pub fn command(&self, args: &[&str]) -> Command {
        let words = self.words(args);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        self.dress(&mut command);
        command
    }

    /// The same, done, with what it said. What takes ten minutes hangs: then its status is 124.
    pub fn stockade(&self, args: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", "600"]).args(self.words(args));
        self.dress(&mut command);
        command.output().unwrap()
    }

    /// `stockade run` of a config, in a bundle of its own with a busybox root file system.
    pub fn run(&self, global: &[&str], config: &Value) -> Output {
        let bundle = self.path().join("bundle").display().to_string();
        self.bundle(config);
        self.stockade(&[global, &["run", "--bundle", &bundle, "box"]].concat())
    }

    /// Writes that bundle.
    pub fn bundle(&self, config: &Value) -> PathBuf {
        let bundle = self.path().join("bundle");
        if !bundle.exists() {
            make_rootfs(&bundle.join("rootfs"));
        }
        std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        bundle
    }

    /// What is left in the state directory: containers, and scratch directories of sandboxes.
    pub fn left(&self) -> Vec<String> {
        let names = |dir: PathBuf| {
            std::fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        let mut all: Vec<String> = names(self.states()).into_iter().filter(|n| !n.starts_with('.')).collect();
        all.extend(names(self.states().join(".sandbox")));
        all
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        for id in self.left() {
            let _ = self.stockade(&["delete", "--force", &id]);
        }
        // The private /etc of `ranged`.
        if let Some(at) = self.runner.iter().position(|w| w == "unshare") {
            let _ = std::fs::remove_dir_all(&self.runner[at + 8]);
        }
    }
}
