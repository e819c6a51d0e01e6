//! Who attacks, under which policy, and what of the host is watched meanwhile.

use crate::common::*;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// What every policy must stand; a row of another class says itself for which policies it holds.
pub const POLICIES: [&str; 3] = ["strict", "engine", "oci"];

/// Whether another runtime is under test, which knows no policies.
pub fn foreign() -> bool {
    std::env::var_os("RUNTIME").is_some()
}

/// In the test machine, where a launch takes a hundred times as long, the two policies that differ most are tried and by
/// whoever runs the tests alone: root and an ordinary user each have a stage there. STOCKADE_ESCAPE=whole: everything
/// there, too; =lean: the same shortness here.
pub fn lean() -> bool {
    match std::env::var("STOCKADE_ESCAPE").as_deref() {
        Ok("whole") => false,
        Ok("lean") => true,
        // The directory of the test machine's own file systems.
        _ => Path::new("/mnt/ext4").is_dir(),
    }
}

fn policies() -> &'static [&'static str] {
    match (foreign(), lean()) {
        (true, _) => &["oci"],
        (_, true) => &["strict", "oci"],
        _ => &POLICIES,
    }
}

/// What a workload prints when it is inside and nothing of the canary is.
pub const INSIDE: &str = "inside\n";

/// Looks for the canary in the whole container.
pub const LOOK: &str = "find / \\( -path /proc -o -path /sys \\) -prune -o -name 'canary-*' -print; echo inside";

/// The id of the ordinary user that root becomes; it has no subordinate ids.
const USER: u32 = 1001;

thread_local! {
    /// Set while the tests of this thread run everything where openat2(2) answers ENOSYS: the probe that starts it so.
    static WITHOUT_OPENAT2: Cell<Option<PathBuf>> = const { Cell::new(None) };
}

/// Runs tests on a machine without openat2(2).
pub fn without_openat2(probe: &Path, tests: &[fn()]) {
    WITHOUT_OPENAT2.set(Some(probe.to_owned()));
    tests.iter().for_each(|test| test());
    WITHOUT_OPENAT2.set(None);
}

/// A policy and a caller.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub policy: &'static str,
    pub uid: u32,
}

/// Every policy, by root and by an ordinary user; run by a user, by that user.
pub fn cases(test: &str) -> Vec<Case> {
    if foreign() {
        return vec![Case { policy: "oci", uid: 0 }];
    }
    let mut callers = vec![nix::unistd::geteuid().as_raw()];
    if is_root() && !lean() {
        let words = Case { policy: "", uid: USER }.words();
        let reach = Command::new(&words[0]).args(&words[1..]).args(["test", "-x"]).arg(runtime()).status();
        if reach.is_ok_and(|s| s.success()) {
            callers.push(USER);
        } else {
            skip(&format!("{test}, an ordinary user"), "the binary lies where no other user reaches it");
        }
    }
    policies().iter().flat_map(|policy| callers.iter().map(|uid| Case { policy, uid: *uid })).collect()
}

/// The same, of root alone.
pub fn by_root() -> Vec<Case> {
    policies().iter().map(|policy| Case { policy, uid: 0 }).collect()
}

impl Case {
    /// Whether Landlock keeps the processes of a container apart: a control that one looks at another needs another policy.
    pub fn landlocked(self) -> bool {
        static THERE: LazyLock<bool> = LazyLock::new(|| {
            let out = Command::new(runtime()).args(["sandbox", "--explain", "--json", "--", "true"]).output().unwrap();
            text(&out.stdout).contains("\"kind\": \"landlock\"")
        });
        self.policy == "strict" && !foreign() && *THERE
    }

    /// The words before a command that make it the caller's.
    fn words(self) -> Vec<String> {
        if self.uid == 0 || !is_root() {
            return Vec::new();
        }
        let id = self.uid.to_string();
        ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps=-all"].map(str::to_owned).to_vec()
    }

    /// A command of the host, by the caller.
    pub fn program(self, command: &[&str]) -> Command {
        let words: Vec<String> = self.words().into_iter().chain(command.iter().map(|w| (*w).to_owned())).collect();
        let mut program = Command::new(&words[0]);
        program.args(&words[1..]);
        program
    }

    /// What an engine sends, made by hand: the usual mounts and namespaces, for this policy and caller.
    pub fn bundle(self, command: &[&str]) -> Bundle {
        let bundle = self.adapted(command);
        if foreign() { bundle } else { bundle.policy(self.policy) }
    }

    /// The same for a shell.
    pub fn shell(self, script: &str) -> Bundle {
        self.bundle(&["sh", "-c", script])
    }

    /// The same where an operator has loosened the policy.
    pub fn loose(self, command: &[&str], keys: &Value) -> Bundle {
        let bundle = self.adapted(command);
        let mut policy = json!({ "extends": self.policy, "name": "loose" });
        policy.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        if foreign() { bundle } else { bundle.operator(policy) }
    }

    fn adapted(self, command: &[&str]) -> Bundle {
        let mut bundle = small(command);
        // Nothing here takes a minute, in the test machine five, under whatever load: who needs it waits for something that
        // never comes.
        let patience = if lean() { "300" } else { "60" };
        bundle.runner = ["timeout", "--kill-after=5", patience].map(str::to_owned).to_vec();
        if let Some(program) = WITHOUT_OPENAT2.take() {
            let number = nix::libc::SYS_openat2.to_string();
            bundle.runner.extend([program.display().to_string(), "without".into(), number]);
            WITHOUT_OPENAT2.set(Some(program));
        }
        bundle.runner.extend(self.words());
        if self.uid != 0 {
            let xdg = bundle.path().join("xdg");
            fs::create_dir(&xdg).unwrap();
            fs::set_permissions(&xdg, fs::Permissions::from_mode(0o700)).unwrap();
            bundle.runner.extend(["env".to_owned(), format!("XDG_RUNTIME_DIR={}", xdg.display()), "HOME=/".into()]);
            // The group of terminals is not mapped.
            bundle.config["mounts"][2]["options"] = json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666"]);
            if self.policy != "strict" {
                bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
                let map = json!([{ "containerID": 0, "hostID": self.uid, "size": 1 }]);
                bundle.config["linux"]["uidMappings"] = map.clone();
                bundle.config["linux"]["gidMappings"] = map;
            }
        }
        self.give(bundle.path());
        bundle
    }

    /// Gives a tree to the caller.
    pub fn give(self, tree: &Path) {
        if self.uid != 0 && is_root() {
            let owner = format!("{0}:{0}", self.uid);
            assert!(Command::new("chown").args(["-hR", &owner]).arg(tree).status().unwrap().success());
        }
    }

    /// A directory of the host that the attack must not reach; only the kernel's rights would hold it.
    pub fn canary(self) -> Canary {
        Canary::new(self)
    }
}

/// `Bundle::usual` with few programs: there are thousands of these.
fn small(command: &[&str]) -> Bundle {
    static CONFIG: LazyLock<Value> = LazyLock::new(|| Bundle::usual(&[]).config.clone());
    let dir = scratch();
    let rootfs = dir.path().join("rootfs");
    for name in ["bin", "dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp"] {
        fs::create_dir_all(rootfs.join(name)).unwrap();
    }
    // By cp, as `make_rootfs` does it.
    assert!(Command::new("cp").arg(busybox()).arg(rootfs.join("bin/busybox")).status().unwrap().success());
    for applet in PROGRAMS {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n").unwrap();
    fs::write(rootfs.join("etc/group"), "root:x:0:\ntty:x:5:\nuser:x:1000:\n").unwrap();
    let mut config = CONFIG.clone();
    config["process"]["args"] = json!(command);
    Bundle { dir, config, global: Vec::new(), runner: Vec::new() }
}

const PROGRAMS: [&str; 34] = [
    "awk", "cat", "chmod", "chown", "cut", "dd", "echo", "env", "find", "grep", "head", "hostname", "id", "kill", "ln",
    "ls", "mkdir", "mknod", "mount", "od", "printf", "ps", "pwd", "readlink", "rm", "sed", "sh", "sleep", "stat",
    "tail", "touch", "tr", "true", "wc",
];

/// A tree of the host outside the bundle, and settings of its kernel, as they were.
pub struct Canary {
    dir: tempfile::TempDir,
    tree: BTreeMap<PathBuf, String>,
    kernel: Vec<(PathBuf, String)>,
    case: Case,
}

/// What no launch may change on the host.
const KERNEL: [&str; 8] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/fs/suid_dumpable",
];
const NODES: [&str; 7] = ["/dev", "/dev/null", "/dev/zero", "/dev/ptmx", "/dev/pts/ptmx", "/dev/shm", "/etc"];

impl Canary {
    fn new(case: Case) -> Canary {
        let dir = scratch();
        let path = dir.path();
        fs::write(path.join("canary-secret"), "of the host\n").unwrap();
        // The names that a runtime makes, chowns or removes in a /dev, and what it reads.
        for name in ["ptmx", "console", "null", "passwd", "group", "core_pattern", "file", ".krun_config.json"] {
            fs::write(path.join(name), format!("{name} of the host\n")).unwrap();
            fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o640)).unwrap();
        }
        for name in ["dir", "dir/below", "empty", "self/attr"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        fs::write(path.join("dir/below/canary-deep"), "deep\n").unwrap();
        for name in ["exec", "current", "keycreate"] {
            fs::write(path.join("self/attr").join(name), "").unwrap();
        }
        case.give(path);
        let mut canary = Canary { dir, tree: BTreeMap::new(), kernel: Vec::new(), case };
        canary.tree = canary.read();
        canary.kernel = kernel();
        canary
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it as text.
    pub fn at(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    /// The same as a link of the rootfs would say it that climbs over its own root.
    pub fn climbing(&self, name: &str) -> String {
        format!("{}{}", "../".repeat(24), self.at(name).trim_start_matches('/'))
    }

    fn read(&self) -> BTreeMap<PathBuf, String> {
        fn walk(path: &Path, tree: &mut BTreeMap<PathBuf, String>) {
            let stat = fs::symlink_metadata(path).unwrap();
            let kind = stat.file_type();
            let content = if kind.is_file() {
                fs::read(path).map(|b| text(&b)).unwrap_or_default()
            } else if kind.is_symlink() {
                fs::read_link(path).unwrap().display().to_string()
            } else if kind.is_char_device() || kind.is_block_device() {
                stat.rdev().to_string()
            } else {
                String::new()
            };
            let line = format!("{:o} {}:{} {content:?}", stat.mode(), stat.uid(), stat.gid());
            tree.insert(path.to_owned(), line);
            if kind.is_dir() {
                for entry in fs::read_dir(path).unwrap() {
                    walk(&entry.unwrap().path(), tree);
                }
            }
        }
        let mut tree = BTreeMap::new();
        walk(self.path(), &mut tree);
        tree
    }

    /// Asserts that all of it is as it was.
    pub fn unchanged(&self, what: &str) {
        assert_eq!(self.read(), self.tree, "{what}, {:?}: the host's files changed", self.case);
        assert_eq!(kernel(), self.kernel, "{what}, {:?}: the host's kernel or devices changed", self.case);
    }
}

fn kernel() -> Vec<(PathBuf, String)> {
    let values = KERNEL.iter().map(|f| (PathBuf::from(f), fs::read_to_string(f).unwrap_or_default()));
    let nodes = NODES.iter().map(|f| {
        let stat = fs::symlink_metadata(f).map(|s| format!("{:o} {}:{} {}", s.mode(), s.uid(), s.gid(), s.rdev()));
        (PathBuf::from(f), stat.unwrap_or_default())
    });
    let binary = fs::metadata(runtime()).unwrap();
    let binary = format!("{:o} {} {}", binary.mode(), binary.len(), binary.mtime_nsec());
    values.chain(nodes).chain([(runtime(), binary)]).collect()
}

/// What an attack came to, if it was stopped: refused with an error, or run and confined.
#[derive(Debug, PartialEq, Eq)]
pub enum Stopped {
    Refused(String),
    Confined(String),
}

/// Judges the output of an attack whose workload, if it runs, ends with `inside` and prints the names of the canary.
pub fn stopped(what: &str, case: Case, out: &Output) -> Stopped {
    let (said, err) = (text(&out.stdout), text(&out.stderr));
    assert!(!matches!(out.status.code(), Some(124 | 137)), "{what}, {case:?}: hangs: {err}");
    assert!(out.status.code().is_some(), "{what}, {case:?}: {:?}", out.status);
    assert!(!err.contains("panicked"), "{what}, {case:?}: {err}");
    assert!(!said.contains("canary-") && !said.contains("of the host"), "{what}, {case:?}: the host is inside: {said}");
    if out.status.success() {
        return Stopped::Confined(said);
    }
    if !foreign() && !said.contains("inside") {
        assert_eq!(err.trim_end().lines().count(), 1, "{what}, {case:?}: one line expected: {err}");
    }
    Stopped::Refused(err)
}

/// What a test does to a bundle before the attack, with the canary as its aim.
pub type Attack<'a> = &'a dyn Fn(&mut Bundle, &Canary);

/// The usual attack: a bundle that works, and the same one changed. Under every policy and by every caller.
pub fn attack(test: &str, cases: &[Case], command: &[&str], ways: &[(&str, Attack<'_>)]) {
    assert!(!cases.is_empty() && !ways.is_empty());
    for case in cases {
        let said = ok(&case.bundle(command).run());
        assert!(said.ends_with(INSIDE), "{test}, {case:?}: the control: {said}");
        for (name, way) in ways {
            let what = format!("{test}, {name}");
            let canary = case.canary();
            let mut bundle = case.bundle(command);
            way(&mut bundle, &canary);
            case.give(bundle.path());
            stopped(&what, *case, &bundle.run());
            canary.unchanged(&what);
        }
    }
}

/// A command line of the bundle without the watchdog before it, so that the child's pid is the runtime's.
pub fn direct(bundle: &Bundle, args: &[&str]) -> Command {
    let guarded = bundle.command(args);
    let words: Vec<_> = guarded.get_args().skip(2).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(bundle.path()).stdin(Stdio::null()).env_remove("STOCKADE_POLICY");
    command
}

/// The words of a shell.
pub fn sh(script: &str) -> [&str; 3] {
    ["sh", "-c", script]
}

/// The mount of this destination in a config.
pub fn unmount(bundle: &mut Bundle, destinations: &[&str]) {
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| !destinations.iter().any(|d| m["destination"] == **d));
}

/// One more mount.
pub fn mount(bundle: &mut Bundle, mount: Value) {
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
}

/// A symbolic link of the image in the place of whatever is there.
pub fn link(bundle: &Bundle, path: &str, to: &str) {
    let at = bundle.rootfs().join(path.trim_start_matches('/'));
    remove(&at);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(to, at).unwrap();
}

/// Removes whatever is there.
pub fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(stat) if stat.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Waits until `box` has ended.
pub fn ended(bundle: &Bundle) {
    wait_for("the end of the container", || bundle.state()["status"] == "stopped");
}
