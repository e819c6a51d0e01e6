//! Bad input: each case is one bundle or command line with one thing wrong. What must come of it: one line that names the
//! field or the step and what was given, soon, a bad exit code, and nothing left behind; and the same bundle, mended,
//! runs. A few cases look bad and are not: those must run.
//!
//! `cargo test --test bad_input -- --nocapture` prints every message: read them as the user who gets them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../fuzz/src/audits.rs"]
#[allow(missing_docs)]
mod audits;
#[path = "../fuzz/src/checks.rs"]
#[allow(missing_docs)]
mod checks;
mod common;
#[path = "../fuzz/src/deciders.rs"]
#[allow(missing_docs)]
mod deciders;
#[path = "../fuzz/src/readers.rs"]
#[allow(missing_docs)]
mod readers;
use common::*;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// An answer is due within a second; thirty on a machine that does other things, and more where every instruction of a debug
/// build is emulated.
fn due() -> Duration {
    Duration::from_secs(if emulated() { 90 } else { 30 })
}

/// Whether this is the test machine of tests/vm.
fn emulated() -> bool {
    Path::new("/mnt/ext4").is_dir() && Path::new("/mnt/rootfs").is_dir()
}

/// A bundle and a command line, to be spoilt.
struct Input {
    bundle: Bundle,
    /// config.json as bytes, where it is not the bundle's JSON.
    raw: Option<Vec<u8>>,
    /// Whether config.json is written at all.
    written: bool,
    /// The verb and its arguments.
    words: Vec<String>,
    /// --root, where it is not the bundle's.
    root: Option<PathBuf>,
    env: Vec<(&'static str, String)>,
    user: bool,
}

impl Input {
    fn new(policy: &str, user: bool) -> Input {
        let global = ["--policy", policy].map(String::from).to_vec();
        let bundle = Bundle { dir: scratch(), config: Value::Null, global, runner: vec![] };
        let mut input = Input { bundle, raw: None, written: true, words: vec![], root: None, env: vec![], user };
        input.reset();
        fs::create_dir(input.bundle.root()).unwrap();
        fs::set_permissions(input.bundle.root(), fs::Permissions::from_mode(0o700)).unwrap();
        if user && is_root() {
            std::os::unix::fs::chown(input.bundle.root(), Some(1000), Some(1000)).unwrap();
        }
        input
    }

    fn dir(&self) -> &Path {
        self.bundle.path()
    }

    fn rootfs(&self) -> PathBuf {
        self.bundle.rootfs()
    }

    /// Everything but the states as it was before it was spoilt.
    fn reset(&mut self) {
        self.bundle.config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": ["sh", "-c", "echo fine"],
                "env": ["PATH=/bin", format!("MARK={}", self.dir().display())],
                "cwd": "/"
            },
            "root": { "path": "rootfs" }
        });
        if self.bundle.global == ["--policy", "oci"] {
            let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount", "cgroup"];
            if self.user {
                namespaces.push("user");
            }
            let namespaces: Vec<Value> = namespaces.iter().map(|t| json!({ "type": t })).collect();
            if self.user {
                // The rootfs is not the user's, so device nodes need a /dev of their own.
                let dev = json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] });
                self.set("mounts", json!([dev]));
            }
            self.set("linux.namespaces", json!(namespaces));
        }
        self.raw = None;
        self.written = true;
        self.root = None;
        self.env.clear();
        self.words = ["run", "--bundle", &self.dir().display().to_string(), "box"].map(String::from).to_vec();
        for name in ["rootfs", "config.json"] {
            self.remove(name);
        }
        small_rootfs(&self.rootfs());
    }

    /// Removes a file of the bundle, of whatever type.
    fn remove(&self, name: &str) {
        let path = self.dir().join(name);
        if path.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            fs::remove_dir_all(path).unwrap();
        } else {
            let _ = fs::remove_file(path);
        }
    }

    /// Sets a field of the config by its path; objects on the way are made, `a[+]` appends to a list.
    fn set(&mut self, path: &str, value: Value) {
        let mut place = &mut self.bundle.config;
        for name in path.split('.') {
            let (name, append) = name.strip_suffix("[+]").map_or((name, false), |n| (n, true));
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = place.as_object_mut().unwrap().entry(name).or_insert(Value::Null);
            if append {
                if !place.is_array() {
                    *place = json!([]);
                }
                place.as_array_mut().unwrap().push(Value::Null);
                place = place.as_array_mut().unwrap().last_mut().unwrap();
            }
        }
        *place = value;
    }

    /// Removes a field of the config.
    fn unset(&mut self, object: &str, name: &str) {
        let place = if object.is_empty() { &mut self.bundle.config } else { &mut self.bundle.config[object] };
        place.as_object_mut().unwrap().remove(name).unwrap();
    }

    /// A file of the rootfs, written anew.
    fn file(&self, name: &str, content: &str) {
        self.remove(&format!("rootfs/{name}"));
        fs::write(self.rootfs().join(name), content).unwrap();
    }

    /// A symbolic link in the rootfs, in place of what is there.
    fn link(&self, name: &str, target: &str) {
        self.remove(&format!("rootfs/{name}"));
        symlink(target, self.rootfs().join(name)).unwrap();
    }

    fn fifo(&self, name: &str) {
        self.remove(name);
        nix::unistd::mkfifo(&self.dir().join(name), nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    }

    fn text(&mut self, text: &str) {
        self.raw = Some(text.as_bytes().to_vec());
    }

    /// The config as JSON with one part of its text replaced.
    fn replaced(&mut self, from: &str, to: &str) {
        let whole = self.bundle.config.to_string();
        assert!(whole.contains(from), "{from} is not in {whole}");
        self.raw = Some(whole.replacen(from, to, 1).into_bytes());
    }

    fn say(&mut self, words: &[&str]) {
        self.words = words.iter().map(|w| (*w).replace("DIR", &self.dir().display().to_string())).collect();
    }

    fn policy_file(&mut self, text: &str) {
        let path = self.dir().join("policy.json");
        fs::write(&path, text).unwrap();
        self.env.push(("STOCKADE_POLICY", path.display().to_string()));
    }

    /// Runs the words; None: no answer in time.
    fn answer(&self, words: &[String]) -> Option<(Option<i32>, String, String)> {
        let config = self.dir().join("config.json");
        if self.written && !config.exists() && config.symlink_metadata().is_err() || self.raw.is_some() {
            let bytes = self.raw.clone().unwrap_or_else(|| self.bundle.config.to_string().into_bytes());
            fs::write(&config, bytes).unwrap();
        }
        let own = |name: &str| fs::File::create(self.dir().join(name)).unwrap();
        let mut all: Vec<String> = vec![];
        if self.user && is_root() {
            all.extend(["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"].map(String::from));
        }
        all.push(runtime().display().to_string());
        let root = self.root.clone().unwrap_or_else(|| self.bundle.root());
        all.extend(["--root".into(), root.display().to_string()]);
        // The policy of a case comes from the environment where the case is about policies.
        if self.env.is_empty() && !words.iter().any(|w| w == "--policy") {
            all.extend(self.bundle.global.iter().cloned());
        }
        all.extend(words.iter().cloned());
        let mut child = std::process::Command::new(&all[0])
            .args(&all[1..])
            .current_dir(self.dir())
            .env_remove("STOCKADE_POLICY")
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(own("stdout"))
            .stderr(own("stderr"))
            .spawn()
            .unwrap();
        let end = Instant::now() + due();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let read = |name: &str| text(&fs::read(self.dir().join(name)).unwrap());
        Some((status.code(), read("stdout"), read("stderr")))
    }

    /// Nothing is left, at the latest when the kernel has come to the last killed process.
    fn clean(&self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let left = self.left();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("left behind: {left:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What is left on the host that has to do with this bundle.
    fn left(&self) -> Vec<String> {
        let dir = self.dir().display().to_string();
        let name = self.dir().file_name().unwrap().to_string_lossy().into_owned();
        let mut left: Vec<String> = fs::read_dir(self.bundle.root())
            .unwrap()
            .flatten()
            // Where sandboxes have their bundles: it stays, empty.
            .filter(|e| e.file_name() != ".sandbox" || fs::read_dir(e.path()).unwrap().next().is_some())
            .map(|e| format!("state {}", e.file_name().to_string_lossy()))
            .collect();
        let found = Leftovers::now(&name);
        left.extend(found.cgroups.into_iter().chain(found.ids));
        left.extend(Leftovers::now(&cgroup_of(&self.bundle.root())).cgroups);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|l| l.contains(&name)).map(|l| format!("mount {l}")));
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let own = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
            if [own("cmdline"), own("environ")].iter().any(|b| String::from_utf8_lossy(b).contains(&dir)) {
                left.push(format!("process {}", entry.file_name().to_string_lossy()));
            }
        }
        left
    }
}

/// The rootfs is made anew many times, so it has only what the cases need.
fn small_rootfs(dir: &Path) {
    for name in ["bin", "dev", "etc", "mnt", "proc", "sys", "tmp"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    // Not copied by ourselves: a child that another thread forks meanwhile would hold the file open for writing, and its
    // execve would be ETXTBSY.
    let copied = std::process::Command::new("cp").arg(busybox()).arg(dir.join("bin/busybox")).status().unwrap();
    assert!(copied.success());
    for applet in ["sh", "echo", "sleep", "true"] {
        symlink("busybox", dir.join("bin").join(applet)).unwrap();
    }
    fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(dir.join("etc/group"), "root:x:0:\n").unwrap();
}

/// The name of the directory of the cgroups of a --root: FNV-1a of its path, as src/state.rs has it.
fn cgroup_of(root: &Path) -> String {
    let hash = root
        .display()
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("stockade-{:08x}", hash as u32)
}

#[derive(Clone, Copy, PartialEq)]
enum Expect {
    /// One line with these words.
    Line,
    /// The same, of the command line itself: it names the verb's help.
    Usage,
    /// It looks bad and is not.
    Works,
}

#[derive(Clone, Copy, PartialEq)]
enum Who {
    Both,
    Root,
    User,
}

struct Case {
    name: &'static str,
    says: &'static [&'static str],
    spoil: fn(&mut Input),
    /// Makes the spoilt bundle right again, other than by putting everything back.
    mend: Option<fn(&mut Input)>,
    policy: &'static str,
    expect: Expect,
    who: Who,
}

/// A case under strict, as root and as an ordinary user.
fn case(name: &'static str, says: &'static [&'static str], spoil: fn(&mut Input)) -> Case {
    Case { name, says, spoil, mend: None, policy: "strict", expect: Expect::Line, who: Who::Both }
}

impl Case {
    fn oci(self) -> Case {
        Case { policy: "oci", ..self }
    }
    fn root(self) -> Case {
        Case { who: Who::Root, ..self }
    }
    fn user(self) -> Case {
        Case { who: Who::User, ..self }
    }
    fn works(self) -> Case {
        Case { expect: Expect::Works, ..self }
    }
    fn usage(self) -> Case {
        Case { expect: Expect::Usage, ..self }
    }
    fn mend(self, mend: fn(&mut Input)) -> Case {
        Case { mend: Some(mend), ..self }
    }

    fn judge(&self, user: bool) -> Result<(), String> {
        let mut input = Input::new(self.policy, user);
        (self.spoil)(&mut input);
        let (code, out, err) = input.answer(&input.words).ok_or("no answer in time")?;
        let who = if user { "user" } else { "root" };
        println!("{:<44} {who} {:?} {}", self.name, code, err.lines().next().unwrap_or("-"));
        let code = code.ok_or("died by a signal")?;
        if err.contains("panicked") || err.contains("RUST_BACKTRACE") {
            return Err(format!("a panic: {err}"));
        }
        if self.expect == Expect::Works {
            if code != 0 || out != "fine\n" {
                return Err(format!("does not run: {code} {out}{err}"));
            }
        } else {
            if code == 0 {
                return Err(format!("succeeded: {out}"));
            }
            let line = err.lines().next().unwrap_or_default();
            if err.trim_end().lines().count() != 1 || !err.starts_with("stockade: ") {
                return Err(format!("one line of stockade's was expected: {err}"));
            }
            let usage = line.starts_with("stockade: command line: ") && line.contains("--help");
            if self.expect == Expect::Usage && !usage {
                return Err(format!("a line about the command line was expected: {err}"));
            }
            if line.len() > 3000 || line.chars().any(char::is_control) {
                return Err(format!("not a line for people: {line:?}"));
            }
            if let Some(word) = self.says.iter().find(|w| !line.contains(*w)) {
                return Err(format!("{word:?} is not in: {line}"));
            }
            if !out.is_empty() {
                return Err(format!("speaks on stdout, too: {out}"));
            }
        }
        // explain meets the same bundle: it may know less, but it never hangs, panics or says more than a line.
        let dir = input.dir().display().to_string();
        if input.words.first().is_some_and(|w| w == "run") {
            let (code, _, err) = input.answer(&["explain".to_owned(), dir]).ok_or("explain: no answer in time")?;
            if !matches!(code, Some(0 | 1)) || err.contains("panicked") || err.trim_end().lines().count() > 1 {
                return Err(format!("explain: {code:?} {err}"));
            }
        }
        input.clean()?;
        match self.mend {
            Some(mend) => {
                mend(&mut input);
                // Written anew.
                input.raw = Some(input.bundle.config.to_string().into_bytes());
            }
            None => input.reset(),
        }
        match input.answer(&input.words).ok_or("the mended one: no answer in time")? {
            (Some(0), out, _) if out == "fine\n" => input.clean(),
            (code, out, err) => Err(format!("the mended one does not run: {code:?} {out}{err}")),
        }
    }
}

/// Judges every case and tells of all that are wrong.
fn judge(group: &str, cases: Vec<Case>, user: bool) {
    if user && !can_user() {
        return skip(group, "an ordinary user cannot make user namespaces here, or setpriv is missing");
    }
    if !user && !is_root() {
        return skip(group, "needs root");
    }
    // Hundreds of launches are half an hour there. What is the same on every kernel is judged natively.
    let differs = ["mounts", "limits", "image"].iter().any(|t| group.starts_with(t));
    if emulated() && (user || !differs) {
        return skip(group, "the test machine is slow: only mounts, limits and image are judged there, as root");
    }
    let mut names = HashSet::new();
    let mut wrong = vec![];
    for case in cases {
        assert!(names.insert(case.name), "{} is there twice", case.name);
        assert!(case.expect == Expect::Works || !case.says.is_empty(), "{} expects no words", case.name);
        if case.who == if user { Who::Root } else { Who::User } {
            continue;
        }
        if let Err(why) = case.judge(user) {
            eprintln!("WRONG {}: {why}", case.name);
            wrong.push(format!("{}: {why}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether an ordinary user can run the bundle at all.
fn can_user() -> bool {
    let input = Input::new("strict", true);
    input.answer(&input.words).is_some_and(|(code, ..)| code == Some(0))
}

/// Two tests for each table: as root, and as an ordinary user.
macro_rules! tables {
    ($($table:ident)*) => {$(
        mod $table {
            #[test]
            fn as_root() {
                super::judge(concat!(stringify!($table), "::as_root"), super::$table(), false);
            }
            #[test]
            fn as_user() {
                super::judge(concat!(stringify!($table), "::as_user"), super::$table(), true);
            }
        }
    )*};
}

tables! { syntax files process mounts namespaces limits seccomp host_reach image command_line policies }

/// What the fuzz targets check, for the seeds that they start from: this needs no nightly compiler.
#[test]
fn the_seeds_of_the_fuzz_targets_hold() {
    let mut seen = 0;
    for target in ["bundle", "plan", "seccomp"] {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        for entry in fs::read_dir(corpus).unwrap().flatten() {
            let data = fs::read(entry.path()).unwrap();
            // Each under a dozen of hosts and policies; the fuzzer has them all.
            let (choices, config) = if target == "plan" { (0..=255u8, &data[1..]) } else { (0..=0, &data[..]) };
            seen += 1;
            for choice in choices.step_by(23) {
                match (target, stockade::bundle::parse(config), serde_json::from_slice(&data)) {
                    ("seccomp", _, Ok(profile)) => match stockade::seccomp::compile(&profile) {
                        Ok(program) => checks::compiled(&profile, &program.insns),
                        Err(e) => checks::one_line(&e),
                    },
                    ("plan", Ok((spec, unknown)), _) => checks::planned(choice, spec, unknown),
                    ("bundle", Ok((spec, unknown)), _) => checks::parsed(&spec, &unknown),
                    (_, Err(e), _) => checks::one_line(&e),
                    _ => {}
                }
            }
        }
    }
    assert!(seen > 100, "only {seen} seeds");
}

/// The same for what has a plain reading beside it.
fn seeds(target: &str, check: impl Fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let seeds: Vec<_> = fs::read_dir(corpus).unwrap().flatten().collect();
    assert!(seeds.len() >= 10, "only {} seeds for {target}", seeds.len());
    for seed in seeds {
        eprintln!("{target}: {}", seed.path().display());
        check(&fs::read(seed.path()).unwrap());
    }
}

#[test]
fn the_seeds_of_audit_hold() {
    seeds("audit", audits::audited);
}

#[test]
fn the_seeds_of_devices_hold() {
    seeds("devices", deciders::devices);
}

#[test]
fn the_seeds_of_options_hold() {
    seeds("options", deciders::options);
}

#[test]
fn the_seeds_of_maps_hold() {
    seeds("maps", deciders::maps);
}

#[test]
fn the_seeds_of_accounts_hold() {
    seeds("accounts", readers::accounts);
}

#[test]
fn the_seeds_of_records_hold() {
    let dir = tempfile::tempdir().unwrap();
    let planned = std::cell::Cell::new(0);
    seeds("records", |data| planned.set(planned.get() + u32::from(readers::records(dir.path(), data))));
    assert!(planned.get() >= 5, "an exec can be planned for {} seeds only", planned.get());
}

/// There are enough of them; the issue asks for 60.
#[test]
fn there_are_many_cases() {
    let all = [
        syntax(),
        files(),
        process(),
        mounts(),
        namespaces(),
        limits(),
        seccomp(),
        host_reach(),
        image(),
        command_line(),
        policies(),
    ];
    let count: usize = all.iter().map(Vec::len).sum();
    println!("{count} cases");
    assert!(count >= 90, "{count}");
}

// ---------------------------------------------------------------- the tables

/// config.json as text.
fn syntax() -> Vec<Case> {
    vec![
        case("empty", &["config.json", "EOF", "line 1"], |i| i.text("")),
        case("cut off", &["config.json", "EOF"], |i| {
            let whole = i.bundle.config.to_string();
            i.text(&whole[..whole.len() / 2]);
        }),
        case("trailing comma", &["config.json", "trailing comma", "line 1 column"], |i| i.replaced("}}", "},}")),
        case("trailing text", &["config.json", "trailing characters"], |i| {
            let whole = i.bundle.config.to_string() + "\nx";
            i.text(&whole);
        }),
        case("single quotes", &["config.json", "line 1 column 2"], |i| i.text("{'ociVersion': '1.0.2'}")),
        case("a comment", &["config.json", "line 1 column"], |i| i.replaced("{", "{ // hello\n")),
        case("a list", &["config.json", "not a JSON object"], |i| i.text("[]")),
        case("a list of the right values", &["config.json", "not a JSON object"], |i| i.text("[\"1.0.2\"]")),
        case("null", &["config.json", "object"], |i| i.text("null")),
        case("a number", &["config.json", "object"], |i| i.text("42")),
        case("byte order mark", &["config.json", "byte order mark"], |i| {
            let whole = format!("\u{feff}{}", i.bundle.config);
            i.text(&whole);
        }),
        case("UTF-16", &["config.json", "UTF-8", "byte 0"], |i| {
            let whole = i.bundle.config.to_string();
            i.raw = Some([0xff, 0xfe].into_iter().chain(whole.bytes().flat_map(|b| [b, 0])).collect());
        }),
        case("invalid UTF-8", &["config.json", "UTF-8", "byte 5"], |i| {
            let whole = i.bundle.config.to_string();
            let (head, tail) = whole.split_once("echo fine").unwrap();
            i.raw = Some([head.as_bytes(), b"\xc3\x28", tail.as_bytes()].concat());
        }),
        case("lone surrogate", &["config.json", "line 1 column"], |i| i.replaced("echo fine", "\\ud800")),
        case("newline in a string", &["config.json", "control character", "line 2"], |i| {
            i.replaced("echo fine", "echo\nfine")
        }),
        case("a NUL between tokens", &["config.json", "line 1 column 2"], |i| i.text("{\0}")),
        case("a NUL in a value", &["process.args[2]", "NUL"], |i| i.replaced("echo fine", "echo\\u0000fine")),
        case("a NUL in a name", &["process.a\\0b", "NUL"], |i| i.replaced("\"args\"", "\"a\\u0000b\":1,\"args\"")),
        case("100,000 brackets", &["config.json", "not a JSON object"], |i| i.text(&"[".repeat(100_000))),
        case("100,000 braces", &["config.json", "recursion limit"], |i| i.text(&"{\"root\":".repeat(100_000))),
        case("deep in an unknown field", &["config.json", "recursion limit"], |i| {
            let deep = format!("{{\"moon\":{}{},", "[".repeat(100_000), "]".repeat(100_000));
            i.replaced("{", &deep);
        }),
        case("a hundred deep in an unknown field under oci", &[], |i| {
            let deep = format!("{{\"moon\":{}{},", "[".repeat(100), "]".repeat(100));
            i.replaced("{", &deep);
        })
        .oci()
        .works(),
        case("a field twice", &["config.json", "duplicate field", "hostname"], |i| {
            i.replaced("{", "{\"hostname\":\"a\",\"hostname\":\"b\",");
        }),
        case("a number beyond all", &["config.json", "number out of range", "line 1 column"], |i| {
            i.replaced("\"args\"", "\"oomScoreAdj\":1e999,\"args\"");
        }),
        case("an unknown field", &["moon", "specification", "unknownFields"], |i| i.set("moon", json!(1)))
            .mend(|i| i.unset("", "moon")),
        case("an unknown field below", &["process.user.shoe", "unknownFields"], |i| {
            i.set("process.user.shoe", json!(43));
        }),
        case("an unknown field in a list", &["mounts[0].moon", "unknownFields"], |i| {
            i.set("mounts[+]", json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "moon": 1 }));
        }),
        case("a field that clears the screen", &["\\u{1b}[2J\\nfine", "unknownFields"], |i| {
            i.set("\u{1b}[2J\nfine", json!(1));
        }),
        case("an unknown field under oci", &[], |i| i.set("moon", json!({ "deep": [1] }))).oci().works(),
        case("version missing", &["ociVersion", "missing"], |i| i.unset("", "ociVersion")),
        case("version 2", &["ociVersion", "2.0.0"], |i| i.set("ociVersion", json!("2.0.0")))
            .mend(|i| i.set("ociVersion", json!("1.2.0-dev"))),
        case("version of words", &["ociVersion", "new"], |i| i.set("ociVersion", json!("new"))),
        case("version a number", &["ociVersion", "string"], |i| i.set("ociVersion", json!(1.0))),
        case("annotations of numbers", &["annotations.a", "string"], |i| i.set("annotations.a", json!(1))),
        case("huge annotations", &[], |i| {
            let many: Map<String, Value> =
                (0..10_000).map(|n| (format!("org.example.{n}"), json!("x".repeat(100)))).collect();
            i.set("annotations", Value::Object(many));
        })
        .works(),
        case("17 MB of blanks", &["config.json", "larger than 16 MiB"], |i| {
            let whole = " ".repeat(17_000_000) + &i.bundle.config.to_string();
            i.text(&whole);
        }),
        case("20 MB of annotation", &["config.json", "larger than 16 MiB"], |i| {
            i.set("annotations.a", json!("x".repeat(20_000_000)));
        }),
    ]
}

/// The files of a bundle.
fn files() -> Vec<Case> {
    fn unwritten(i: &mut Input) {
        i.written = false;
        i.remove("config.json");
    }
    vec![
        case("no config.json", &["config.json", "ENOENT", "stockade spec"], unwritten),
        case("config.json a FIFO", &["config.json", "not a regular file"], |i| i.fifo("config.json")),
        case("config.json a directory", &["config.json", "not a regular file"], |i| {
            fs::create_dir(i.dir().join("config.json")).unwrap();
        }),
        case("config.json a loop", &["config.json", "ELOOP"], |i| {
            symlink("config.json", i.dir().join("config.json")).unwrap();
        }),
        case("config.json is /dev/zero", &["config.json", "not a regular file"], |i| {
            symlink("/dev/zero", i.dir().join("config.json")).unwrap();
        }),
        case("config.json not ours to read", &["config.json", "EACCES"], |i| {
            let path = i.dir().join("config.json");
            fs::write(&path, i.bundle.config.to_string()).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o0)).unwrap();
        })
        .user(),
        case("no such bundle", &["bundle", "/nope", "ENOENT"], |i| i.say(&["run", "--bundle", "DIR/nope", "box"])),
        case("a bundle that is a file", &["bundle", "ENOTDIR"], |i| {
            i.say(&["run", "--bundle", "DIR/rootfs/etc/passwd", "box"]);
        }),
        case("root missing", &["root", "missing", "rootfs"], |i| i.unset("", "root")),
        case("root a string", &["root", "rootfs", "expected an object"], |i| i.set("root", json!("rootfs"))),
        case("root.path missing", &["root", "path"], |i| i.set("root", json!({}))),
        case("root.path empty", &["root.path", "empty"], |i| i.set("root.path", json!(""))),
        case("root.path not there", &["root.path", "nope", "ENOENT"], |i| i.set("root.path", json!("nope"))),
        case("root.path a file", &["root.path", "config.json", "not a directory"], |i| {
            i.set("root.path", json!("config.json"));
        }),
        case("root.path a FIFO", &["root.path", "pipe", "not a directory"], |i| {
            i.fifo("pipe");
            i.set("root.path", json!("pipe"));
        }),
        case("root.path a link", &["root.path", "link", "symbolic link"], |i| {
            let _ = symlink("rootfs", i.dir().join("link"));
            i.set("root.path", json!("link"));
        })
        .mend(|i| i.set("root.path", json!("rootfs"))),
        case("root.path the host's /", &["root.path", "the host's own root", "sandbox"], |i| {
            i.set("root.path", json!("/"));
        }),
        case("root.path up to the host's /", &["root.path", "the host's own root"], |i| {
            i.set("root.path", json!("../../../../../../.."));
        }),
        case("root.path through a loop", &["root.path", "ELOOP"], |i| {
            let _ = symlink("loop", i.dir().join("loop"));
            i.set("root.path", json!("loop/x"));
        }),
        case("an empty rootfs", &["exec", "sh", "ENOENT"], |i| {
            i.remove("rootfs");
            for name in ["", "proc", "dev", "sys"] {
                fs::create_dir_all(i.rootfs().join(name)).unwrap();
            }
        }),
    ]
}

/// process.*, hostname, domainname.
fn process() -> Vec<Case> {
    fn passwd(i: &mut Input) {
        i.set("process.args", json!(["/etc/passwd"]));
    }
    vec![
        case("process missing", &["process", "missing"], |i| i.unset("", "process")),
        case("process null is missing, too", &["process", "missing"], |i| i.set("process", Value::Null)),
        case("args missing", &["process.args", "empty"], |i| i.unset("process", "args")),
        case("args empty", &["process.args", "empty"], |i| i.set("process.args", json!([])))
            .mend(|i| i.set("process.args", json!(["echo", "fine"]))),
        case("args[0] empty", &["process.args[0]", "empty"], |i| i.set("process.args", json!(["", "x"]))),
        case("args a string", &["process.args", "echo fine"], |i| i.set("process.args", json!("echo fine"))),
        case("args[1] a number", &["process.args[1]", "7"], |i| i.set("process.args", json!(["sh", 7]))),
        case("70,000 args", &["process.args", "70000", "65536"], |i| i.set("process.args", json!(vec!["x"; 70_000]))),
        case("one long arg", &["process.args[1]", "128 KiB"], |i| {
            i.set("process.args", json!(["sh", "x".repeat(200_000)]));
        }),
        case("args of 3 MB in all", &["exec", "sh", "E2BIG"], |i| {
            i.set(
                "process.args",
                json!(
                    ["sh", "-c", "x"]
                        .map(String::from)
                        .into_iter()
                        .chain(vec!["x".repeat(90_000); 30])
                        .collect::<Vec<_>>()
                ),
            );
        }),
        case("program not in PATH", &["exec", "nope", "$PATH", "ENOENT"], |i| {
            i.set("process.args", json!(["nope"]));
        }),
        case("program not there", &["exec", "/bin/nope", "ENOENT"], |i| i.set("process.args", json!(["/bin/nope"]))),
        case("program a directory", &["exec", "/bin", "EACCES"], |i| i.set("process.args", json!(["/bin"]))),
        case("program not executable", &["exec", "/etc/passwd", "EACCES"], passwd),
        case("program of garbage", &["exec", "/bin/garbage", "ENOEXEC", "format"], |i| {
            i.file("bin/garbage", "\x7fELF of no kind");
            fs::set_permissions(i.rootfs().join("bin/garbage"), fs::Permissions::from_mode(0o755)).unwrap();
            i.set("process.args", json!(["/bin/garbage"]));
        }),
        case("script without its interpreter", &["exec", "/bin/script", "ENOENT", "interpreter"], |i| {
            i.file("bin/script", "#!/bin/python9\n");
            fs::set_permissions(i.rootfs().join("bin/script"), fs::Permissions::from_mode(0o755)).unwrap();
            i.set("process.args", json!(["/bin/script"]));
        }),
        case("program in a loop", &["exec", "/bin/loop", "ELOOP"], |i| {
            i.link("bin/loop", "loop");
            i.set("process.args", json!(["/bin/loop"]));
        }),
        case("program a FIFO", &["exec", "/bin/pipe", "EACCES"], |i| {
            i.fifo("rootfs/bin/pipe");
            i.set("process.args", json!(["/bin/pipe"]));
        }),
        case("program with a newline", &["exec", "no\\npe", "ENOENT"], |i| i.set("process.args", json!(["no\npe"]))),
        case("env without =", &["process.env[2]", "MOON", "NAME=VALUE"], |i| i.set("process.env[+]", json!("MOON"))),
        case("env without a name", &["process.env[2]", "=x"], |i| i.set("process.env[+]", json!("=x"))),
        case("env a number", &["process.env[2]", "1"], |i| i.set("process.env[+]", json!(1))),
        case("env of two lines", &[], |i| i.set("process.env[+]", json!("TWO=a\nb"))).works(),
        case("cwd missing", &["process", "cwd"], |i| i.unset("process", "cwd")),
        case("cwd empty", &["process.cwd", "empty"], |i| i.set("process.cwd", json!(""))),
        case("cwd relative", &["process.cwd", "tmp", "absolute"], |i| i.set("process.cwd", json!("tmp")))
            .mend(|i| i.set("process.cwd", json!("/tmp"))),
        case("cwd below a file", &["cwd", "/etc/passwd/x", "ENOTDIR"], |i| {
            i.set("process.cwd", json!("/etc/passwd/x"));
        }),
        case("cwd a file", &["cwd", "/etc/passwd", "ENOTDIR"], |i| i.set("process.cwd", json!("/etc/passwd"))),
        case("cwd in a loop", &["cwd", "/loop", "ELOOP"], |i| {
            i.link("loop", "loop");
            i.set("process.cwd", json!("/loop"));
        }),
        case("cwd with a newline", &["process.cwd", "newline"], |i| i.set("process.cwd", json!("/a\nb"))),
        case("cwd too long", &["process.cwd", "PATH_MAX"], |i| i.set("process.cwd", json!("/a".repeat(2500)))),
        case("a name in cwd too long", &["cwd", "ENAMETOOLONG"], |i| {
            i.set("process.cwd", json!(format!("/{}", "a".repeat(300))));
        }),
        case("uid 2^31", &["process.user.uid", "2147483648"], |i| i.set("process.user.uid", json!(1u64 << 31))),
        case("uid 2^32-1", &["process.user.uid", "4294967295"], |i| i.set("process.user.uid", json!(u32::MAX))),
        case("uid 2^32", &["process.user.uid", "4294967296", "a whole number from 0"], |i| {
            i.set("process.user.uid", json!(1u64 << 32))
        }),
        case("uid -1", &["process.user.uid", "-1"], |i| i.set("process.user.uid", json!(-1))),
        case("uid a name", &["process.user.uid", "root"], |i| i.set("process.user.uid", json!("root"))),
        case("uid a fraction", &["process.user.uid", "1.5"], |i| i.set("process.user.uid", json!(1.5))),
        case("uid not in the map", &["process.user.uid", "70000", "map"], |i| i.set("process.user.uid", json!(70_000)))
            .root()
            .mend(|i| i.set("process.user.uid", json!(65_535))),
        case("gid 2^32-1", &["process.user.gid", "4294967295"], |i| i.set("process.user.gid", json!(u32::MAX))),
        case("gid not in the map", &["process.user.gid", "70000", "map"], |i| i.set("process.user.gid", json!(70_000)))
            .root(),
        case("an additional gid of -1", &["process.user.additionalGids[1]", "-1"], |i| {
            i.set("process.user.additionalGids", json!([1, -1]));
        }),
        case("an additional gid not in the map", &["process.user.additionalGids[1]", "70000", "map"], |i| {
            i.set("process.user.additionalGids", json!([1, 70_000]));
        })
        .root(),
        case("additional gids of a single id", &["process.user.additionalGids", "id"], |i| {
            i.set("process.user.additionalGids", json!([10]));
        })
        .user(),
        case("70,000 additional gids", &["process.user.additionalGids", "70000", "65536"], |i| {
            i.set("process.user.additionalGids", json!(vec![1; 70_000]));
        }),
        case("umask above 0777", &["process.user.umask", "512"], |i| i.set("process.user.umask", json!(0o1000))),
        case("rlimit soft above hard", &["process.rlimits[0]", "RLIMIT_NOFILE", "soft 20", "hard 10"], |i| {
            i.set("process.rlimits[+]", json!({ "type": "RLIMIT_NOFILE", "soft": 20, "hard": 10 }));
        })
        .mend(|i| i.set("process.rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 20, "hard": 20 }]))),
        case("rlimit unknown", &["process.rlimits[0].type", "RLIMIT_MOON"], |i| {
            i.set("process.rlimits[+]", json!({ "type": "RLIMIT_MOON", "soft": 1, "hard": 1 }));
        }),
        case("rlimit twice", &["process.rlimits[1]", "RLIMIT_CORE", "twice"], |i| {
            for _ in 0..2 {
                i.set("process.rlimits[+]", json!({ "type": "RLIMIT_CORE", "soft": 1, "hard": 1 }));
            }
        }),
        case("rlimit negative", &["process.rlimits[0].soft", "-1"], |i| {
            i.set("process.rlimits[+]", json!({ "type": "RLIMIT_CORE", "soft": -1, "hard": 1 }));
        }),
        case("rlimit above what we may give", &["rlimits", "RLIMIT_NOFILE", "EPERM", "CAP_SYS_RESOURCE"], |i| {
            i.set("process.rlimits[+]", json!({ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 1u64 << 40 }));
        })
        .user(),
        case("capability unknown", &[], |i| {
            i.set("process.capabilities.bounding", json!(["CAP_KILL", "CAP_MOON"]));
        })
        .works(),
        case("a number beside an unknown capability", &["process.capabilities.bounding[1]", "expected"], |i| {
            i.set("process.capabilities.bounding", json!(["CAP_KILL", "CAP_MOON", 7]));
        }),
        case("effective without permitted", &["process.capabilities.effective", "KILL", "permitted"], |i| {
            i.set("process.capabilities.effective", json!(["CAP_KILL"]));
        })
        .mend(|i| i.set("process.capabilities", json!({ "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] }))),
        case("oomScoreAdj 1001", &["process.oomScoreAdj", "1001", "1000"], |i| {
            i.set("process.oomScoreAdj", json!(1001));
        }),
        case("terminal a word", &["process.terminal", "yes"], |i| i.set("process.terminal", json!("yes"))),
        case("consoleSize negative", &["process.consoleSize.height", "-1"], |i| {
            i.set("process.consoleSize", json!({ "height": -1, "width": 80 }));
        }),
        case("hostname of 65 bytes", &["hostname", "65", "64"], |i| i.set("hostname", json!("h".repeat(65))))
            .mend(|i| i.set("hostname", json!("h".repeat(64)))),
        case("hostname of two lines", &["hostname", "a\\nb"], |i| i.set("hostname", json!("a\nb"))),
        case("domainname too long", &["domainname", "70"], |i| i.set("domainname", json!("d".repeat(70)))),
    ]
}

/// mounts[].
fn mounts() -> Vec<Case> {
    fn mount(i: &mut Input, target: &str, fstype: &str, source: &str, options: &[&str]) {
        i.set("mounts[+]", json!({ "destination": target, "type": fstype, "source": source, "options": options }));
    }
    vec![
        case("10,000 mounts", &["mounts", "10000", "4096"], |i| {
            let one = json!({ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs" });
            i.set("mounts", json!(vec![one; 10_000]));
        }),
        case("300 mounts on one place", &[], |i| {
            let one = json!({ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs" });
            i.set("mounts", json!(vec![one; 300]));
        })
        .works(),
        case("destination missing", &["mounts[0]", "destination"], |i| i.set("mounts[+]", json!({ "type": "tmpfs" }))),
        case("destination empty", &["mounts[0].destination", "empty"], |i| mount(i, "", "tmpfs", "tmpfs", &[])),
        case("destination /", &["mounts[0].destination", "root file system"], |i| mount(i, "/", "tmpfs", "tmpfs", &[])),
        case("destination /tmp/..", &["mounts[0].destination", "root file system"], |i| {
            mount(i, "/tmp/..", "tmpfs", "tmpfs", &[]);
        }),
        case("destination of two lines", &["mounts[0].destination", "newline"], |i| {
            mount(i, "/a\nb", "tmpfs", "tmpfs", &[]);
        }),
        case("destination above the root", &[], |i| mount(i, "/../../mnt", "tmpfs", "tmpfs", &[])).works(),
        case("neither type nor bind", &["mounts[0].type", "missing"], |i| {
            i.set("mounts[+]", json!({ "destination": "/mnt", "source": "/etc" }));
        }),
        case("type unknown", &["mounts[0].type", "mounts.types"], |i| mount(i, "/mnt", "moonfs", "moon", &[]))
            .mend(|i| i.set("mounts", json!([{ "destination": "/mnt", "type": "tmpfs", "source": "moon" }]))),
        case("type of a path", &["mounts[0].type", "mounts.types"], |i| mount(i, "/mnt", "../../x", "x", &[])),
        case("option unknown", &["mount", "/mnt", "moon=1", "EINVAL"], |i| {
            mount(i, "/mnt", "tmpfs", "tmpfs", &["nosuid", "moon=1"]);
        }),
        case("option of a bad value", &["mount", "/mnt", "size=moon", "EINVAL"], |i| {
            mount(i, "/mnt", "tmpfs", "tmpfs", &["size=moon"]);
        }),
        case("option of two lines", &["mounts[0].options[0]", "ro\\nrw"], |i| {
            mount(i, "/mnt", "tmpfs", "tmpfs", &["ro\nrw"]);
        }),
        case("option a number", &["mounts[0].options[0]", "7"], |i| {
            i.set("mounts[+]", json!({ "destination": "/mnt", "type": "tmpfs", "options": [7] }));
        }),
        case("option of 300 kB", &["mount", "/mnt", "EINVAL", "bytes)"], |i| {
            let long = format!("size={}", "9".repeat(300_000));
            mount(i, "/mnt", "tmpfs", "tmpfs", &[&long]);
        }),
        case("remount of the root", &["mounts[0].destination", "root.readonly"], |i| {
            mount(i, "/", "tmpfs", "tmpfs", &["remount"]);
        }),
        case("shared with the host", &["mounts[0].options[1]", "rshared", "propagation"], |i| {
            mount(i, "/mnt", "bind", "rootfs/etc", &["bind", "rshared"]);
        }),
        case("bind without a source", &["mounts[0].source", "missing"], |i| {
            i.set("mounts[+]", json!({ "destination": "/mnt", "options": ["bind"] }));
        }),
        case("bind of nothing, relative", &["nope", "ENOENT"], |i| mount(i, "/mnt", "bind", "nope", &[])),
        case("bind of the host under strict", &["mounts[0].source", "/nope/x", "policy key hostPaths"], |i| {
            mount(i, "/mnt", "bind", "/nope/x", &[]);
        }),
        case("bind of nothing, absolute", &["/nope/x", "ENOENT"], |i| mount(i, "/mnt", "bind", "/nope/x", &[])).oci(),
        case("bind of a loop", &["loop", "ELOOP"], |i| {
            let _ = symlink("loop", i.dir().join("loop"));
            mount(i, "/mnt", "bind", "loop", &[]);
        }),
        case("bind with an option of a file system", &["mounts[0].options", "size", "bind"], |i| {
            mount(i, "/mnt", "bind", "rootfs/etc", &["bind", "size=1m"]);
        }),
        case("a directory onto a file", &["bind", "/etc/passwd", "ENOTDIR", "is a file"], |i| {
            mount(i, "/etc/passwd", "bind", "rootfs/bin", &[]);
        }),
        case("a file onto a directory", &["bind", "/mnt", "EINVAL", "a file onto a file"], |i| {
            mount(i, "/mnt", "bind", "rootfs/etc/passwd", &[]);
        })
        .mend(|i| {
            let file = json!({ "destination": "/etc/group", "type": "bind", "source": "rootfs/etc/passwd" });
            i.set("mounts", json!([file]));
        }),
        case("a target in a loop", &["mount", "/loop", "ELOOP"], |i| {
            i.link("loop", "loop");
            mount(i, "/loop", "tmpfs", "tmpfs", &[]);
        }),
        case("a target below a loop", &["mount", "/one/x", "ELOOP"], |i| {
            i.link("one", "two");
            i.link("two", "one");
            mount(i, "/one/x", "tmpfs", "tmpfs", &[]);
        }),
        case("a target below a file", &["mount", "/etc/passwd/x", "ENOTDIR"], |i| {
            mount(i, "/etc/passwd/x", "tmpfs", "tmpfs", &[]);
        }),
        case("a bind onto a loop", &["bind", "/loop", "ELOOP"], |i| {
            i.link("loop", "loop");
            mount(i, "/loop", "bind", "rootfs/etc", &[]);
        }),
        case("/proc a link", &["mount", "/proc", "ELOOP", "symbolic link"], |i| i.link("proc", "/tmp")),
        case("tmpfs on /proc", &["mounts[0].destination", "/proc", "CVE-2019-16884"], |i| {
            mount(i, "/proc", "tmpfs", "tmpfs", &[]);
        }),
        case("a mount in /proc/self", &["mounts[0].destination", "/proc/self/attr"], |i| {
            mount(i, "/tmp/../proc/self/attr", "tmpfs", "tmpfs", &[]);
        }),
        case("half the id maps of a mount", &["mounts[0].gidMappings", "missing beside uidMappings"], |i| {
            let map = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
            i.set("mounts[+]", json!({ "destination": "/mnt", "type": "bind", "source": "/etc", "uidMappings": map }));
        }),
        case("ro and rw", &[], |i| mount(i, "/mnt", "tmpfs", "tmpfs", &["ro", "rw", "ro"])).works(),
        case("gid without an id outside", &[], |i| mount(i, "/mnt", "tmpfs", "tmpfs", &["gid=4000000000"])).works(),
    ]
}

/// linux.namespaces, linux.uidMappings.
fn namespaces() -> Vec<Case> {
    fn map(i: &mut Input, uids: Value) {
        i.set("linux.uidMappings", uids.clone());
        i.set("linux.gidMappings", json!([{ "containerID": 0, "hostID": 700_000, "size": 65_536 }]));
    }
    fn joined(i: &mut Input, kind: &str, path: &str) {
        let list = i.bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|n| n["type"] != kind);
        let path = path.replace("DIR", &i.dir().display().to_string());
        i.set("linux.namespaces[+]", json!({ "type": kind, "path": path }));
    }
    vec![
        case("a namespace twice", &["linux.namespaces[1]", "pid"], |i| {
            i.set("linux.namespaces", json!([{ "type": "pid" }, { "type": "pid" }]));
        })
        .mend(|i| i.set("linux.namespaces", json!([{ "type": "pid" }]))),
        case("a namespace of no type", &["linux.namespaces[1].type", "moon"], |i| {
            i.set("linux.namespaces", json!([{ "type": "pid" }, { "type": "moon" }]));
        }),
        case("a namespace without a type", &["linux.namespaces[0]", "type"], |i| {
            i.set("linux.namespaces", json!([{}]));
        }),
        case("namespaces of words", &["linux.namespaces[0]", "pid", "an object"], |i| i.set("linux.namespaces", json!(["pid"]))),
        case("a namespace by a relative path", &["linux.namespaces[0].path", "ns/net", "absolute"], |i| {
            i.set("linux.namespaces", json!([{ "type": "network", "path": "ns/net" }]));
        }),
        case("a namespace of others under strict", &["linux.namespaces[0].path", "/proc/1/ns/net", "namespaces.joined"], |i| {
            i.set("linux.namespaces", json!([{ "type": "network", "path": "/proc/1/ns/net" }]));
        }),
        case("a namespace that is not there", &["linux.namespaces[5].path", "network", "/nope/ns", "ENOENT"], |i| {
            joined(i, "network", "/nope/ns");
        })
        .oci()
        .root(),
        case("a namespace that is a FIFO", &["linux.namespaces[5].path", "pipe", "is not a namespace"], |i| {
            i.fifo("pipe");
            joined(i, "network", "DIR/pipe");
        })
        .oci()
        .root(),
        case("a namespace that is a file", &["linux.namespaces[5].path", "/etc/passwd", "is not a namespace"], |i| {
            joined(i, "network", "/etc/passwd");
        })
        .oci()
        .root(),
        case("a namespace of another type", &["linux.namespaces[5].path", "/proc/self/ns/uts", "is a uts namespace and no network namespace"], |i| {
            joined(i, "network", "/proc/self/ns/uts");
        })
        .oci()
        .root(),
        case("no mount namespace", &["linux.namespaces", "mount"], |i| {
            i.set("linux.namespaces", json!([{ "type": "pid" }]));
        })
        .oci()
        .root(),
        case("a hostname of the host", &["hostname", "UTS"], |i| {
            i.set("hostname", json!("box"));
            let list = i.bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
            list.retain(|n| n["type"] != "uts");
        })
        .oci(),
        case("maps without a user namespace", &["linux.uidMappings", "user namespace"], |i| {
            map(i, json!([{ "containerID": 0, "hostID": 700_000, "size": 65_536 }]));
        })
        .oci()
        .root(),
        case("maps that overlap outside", &["linux.uidMappings[1]", "overlaps", "linux.uidMappings[0]"], |i| {
            map(i, json!([{ "containerID": 0, "hostID": 700_000, "size": 10 }, { "containerID": 10, "hostID": 700_009, "size": 1 }]));
        })
        .mend(|i| {
            if i.user {
                return i.reset();
            }
            map(i, json!([{ "containerID": 0, "hostID": 700_000, "size": 10 }, { "containerID": 10, "hostID": 700_010, "size": 1 }]));
        }),
        case("maps that overlap inside", &["linux.uidMappings[1]", "overlaps"], |i| {
            map(i, json!([{ "containerID": 0, "hostID": 700_000, "size": 10 }, { "containerID": 9, "hostID": 800_000, "size": 1 }]));
        }),
        case("a map that wraps outside", &["linux.uidMappings[0].hostID", "4294967290", "2^32"], |i| {
            map(i, json!([{ "containerID": 0, "hostID": 4_294_967_290u32, "size": 10 }]));
        }),
        case("a map that wraps inside", &["linux.uidMappings[0].containerID", "2^32"], |i| {
            map(i, json!([{ "containerID": 4_294_967_290u32, "hostID": 700_000, "size": 10 }]));
        }),
        case("a map of host root", &["linux.uidMappings", "host id 0", "hostRootMapped"], |i| {
            map(i, json!([{ "containerID": 0, "hostID": 0, "size": 65_536 }]));
        })
        .root(),
        case("a map of host root, not first", &["linux.uidMappings", "host id 0", "hostRootMapped"], |i| {
            map(i, json!([{ "containerID": 0, "hostID": 700_000, "size": 1 }, { "containerID": 5, "hostID": 0, "size": 1 }]));
        })
        .root(),
        case("a gid map of host root", &["linux.gidMappings", "host id 0", "hostRootMapped"], |i| {
            map(i, json!([{ "containerID": 0, "hostID": 700_000, "size": 65_536 }]));
            i.set("linux.gidMappings", json!([{ "containerID": 0, "hostID": 0, "size": 1 }]));
        })
        .root(),
        case("a map of nothing", &["linux.uidMappings[0].size", "0"], |i| {
            map(i, json!([{ "containerID": 0, "hostID": 700_000, "size": 0 }]));
        }),
        case("a map of -1", &["linux.uidMappings[0].hostID", "-1"], |i| {
            map(i, json!([{ "containerID": 0, "hostID": -1, "size": 1 }]));
        }),
        case("a map of 341 lines", &["linux.uidMappings", "341", "340"], |i| {
            let lines: Vec<Value> =
                (0..341).map(|n| json!({ "containerID": n, "hostID": 700_000 + n, "size": 1 })).collect();
            map(i, json!(lines));
        }),
        case("uids without gids", &["linux.gidMappings", "missing"], |i| {
            i.set("linux.uidMappings", json!([{ "containerID": 0, "hostID": 700_000, "size": 65_536 }]));
        }),
        case("a uid that the map has not", &["process.user.uid", "5", "map"], |i| {
            map(i, json!([{ "containerID": 0, "hostID": 700_000, "size": 1 }]));
            i.set("process.user.uid", json!(5));
        }),
        case("ids that are not ours to give", &["id maps", "700000"], |i| {
            map(i, json!([{ "containerID": 0, "hostID": 700_000, "size": 65_536 }]));
        })
        .user(),
    ]
}

/// linux.cgroupsPath, linux.resources, linux.sysctl.
fn limits() -> Vec<Case> {
    fn resource(i: &mut Input, path: &str, value: Value) {
        i.set(&format!("linux.resources.{path}"), value);
    }
    let mut cases = vec![
        case("cgroupsPath with ..", &["linux.cgroupsPath", "/a/../../b"], |i| {
            i.set("linux.cgroupsPath", json!("/a/../../b"));
        }),
        case("cgroupsPath of two lines", &["linux.cgroupsPath", "/a\\nb", "newline"], |i| {
            i.set("linux.cgroupsPath", json!("/a\nb"));
        }),
        case("cgroupsPath the root", &["linux.cgroupsPath", "root"], |i| i.set("linux.cgroupsPath", json!("//./")))
            .root(),
        case("cgroupsPath with a long name", &["linux.cgroupsPath", "255"], |i| {
            i.set("linux.cgroupsPath", json!("/".to_owned() + &"a".repeat(300)));
        })
        .root(),
        case("cgroupsPath a number", &["linux.cgroupsPath", "5"], |i| i.set("linux.cgroupsPath", json!(5))),
        case("memory a word", &["linux.resources.memory.limit", "64m"], |i| resource(i, "memory.limit", json!("64m"))),
        case("memory of -5", &["linux.resources.memory.limit", "-5"], |i| resource(i, "memory.limit", json!(-5))),
        case("swap below memory", &["linux.resources.memory.swap", "10", "20"], |i| {
            resource(i, "memory", json!({ "limit": 20, "swap": 10 }));
        }),
        case("swap without memory", &["linux.resources.memory.swap", "10", "memory limit"], |i| {
            resource(i, "memory.swap", json!(10));
        }),
        case("reservation above memory", &["linux.resources.memory.reservation", "30"], |i| {
            resource(i, "memory", json!({ "limit": 20, "reservation": 30 }));
        }),
        case("swappiness", &["linux.resources.memory.swappiness", "cgroup v2"], |i| {
            resource(i, "memory.swappiness", json!(50));
        }),
        case("pids a word", &["linux.resources.pids.limit", "many"], |i| resource(i, "pids.limit", json!("many"))),
        case("pids of -7", &["linux.resources.pids.limit", "-7"], |i| resource(i, "pids.limit", json!(-7))),
        case("cpu period of 5", &["linux.resources.cpu.period", "5 us"], |i| resource(i, "cpu.period", json!(5))),
        case("cpu quota of 10", &["linux.resources.cpu.quota", "10 us"], |i| resource(i, "cpu.quota", json!(10))),
        case("cpus of words", &["linux.resources.cpu.cpus", "all"], |i| resource(i, "cpu.cpus", json!("all"))),
        case("cpu idle 2", &["linux.resources.cpu.idle", "2"], |i| resource(i, "cpu.idle", json!(2))),
        case("unified out of the cgroup", &["linux.resources.unified", "../memory.max"], |i| {
            i.set("linux.resources", json!({ "unified": { "../memory.max": "1" } }));
        }),
        case("unified cgroup.procs", &["linux.resources.unified", "cgroup.procs"], |i| {
            i.set("linux.resources", json!({ "unified": { "cgroup.procs": "0" } }));
        }),
        case("a device rule of no type", &["linux.resources.devices[0].type", "z"], |i| {
            resource(i, "devices", json!([{ "allow": true, "type": "z" }]));
        }),
        case("a device rule of no access", &["linux.resources.devices[0].access", "xyz"], |i| {
            resource(i, "devices", json!([{ "allow": true, "type": "c", "access": "xyz" }]));
        }),
        case("a sysctl of the host", &["linux.sysctl.kernel.panic", "namespaced"], |i| {
            i.set("linux.sysctl", json!({ "kernel.panic": "1" }));
        })
        .mend(|i| i.set("linux.sysctl", json!({ "net.ipv4.ip_forward": "0" }))),
        case("a sysctl with ..", &["linux.sysctl.net/../kernel/panic", "not the name"], |i| {
            i.set("linux.sysctl", json!({ "net/../kernel/panic": "1" }));
        }),
        case("a sysctl by its path", &["linux.sysctl./proc/sys/net/core/somaxconn", "not the name"], |i| {
            i.set("linux.sysctl", json!({ "/proc/sys/net/core/somaxconn": "1" }));
        }),
        case("a sysctl that is not there", &["sysctl", "net.moon.shine=1", "ENOENT"], |i| {
            i.set("linux.sysctl", json!({ "net.moon.shine": "1" }));
        }),
        case("a sysctl of a bad value", &["sysctl", "net.ipv4.ip_forward=moon", "EINVAL"], |i| {
            i.set("linux.sysctl", json!({ "net.ipv4.ip_forward": "moon" }));
        }),
        case("a sysctl of two lines", &["linux.sysctl.net.ipv4.ip_forward", "0\\n1"], |i| {
            i.set("linux.sysctl", json!({ "net.ipv4.ip_forward": "0\n1" }));
        }),
        case("a sysctl without its namespace", &["linux.sysctl.net.ipv4.ip_forward", "network"], |i| {
            i.set("linux.sysctl", json!({ "net.ipv4.ip_forward": "0" }));
            let list = i.bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
            list.retain(|n| n["type"] != "network");
        })
        .oci(),
    ];
    if controllers(&["memory"]) {
        println!("a limit that nobody enforces: not a case on a host that has the memory controller");
    } else {
        cases.push(case(
            "a limit that nobody enforces",
            &["linux.resources.memory.limit", "64000000", "cannot be enforced"],
            |i| {
                resource(i, "memory.limit", json!(64_000_000));
            },
        ));
    }
    cases
}

/// linux.seccomp.
fn seccomp() -> Vec<Case> {
    fn profile(i: &mut Input, entry: Value) {
        i.set("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry] }));
    }
    fn rule(i: &mut Input, arg: Value) {
        profile(i, json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [arg] }));
    }
    vec![
        case("action unknown", &["linux.seccomp.syscalls[0].action", "SCMP_ACT_MOON"], |i| {
            profile(i, json!({ "names": ["read"], "action": "SCMP_ACT_MOON" }));
        }),
        case("default action unknown", &["linux.seccomp.defaultAction", "DENY"], |i| {
            i.set("linux.seccomp", json!({ "defaultAction": "DENY" }));
        }),
        case("default action missing", &["linux.seccomp", "defaultAction"], |i| i.set("linux.seccomp", json!({}))),
        case("operator unknown", &["linux.seccomp.syscalls[0].args[0].op", "SCMP_CMP_MOON"], |i| {
            rule(i, json!({ "index": 0, "value": 1, "op": "SCMP_CMP_MOON" }));
        })
        .mend(|i| rule(i, json!({ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }))),
        case("argument 9", &["linux.seccomp", "syscalls[0].args[0].index", "9"], |i| {
            rule(i, json!({ "index": 9, "value": 1, "op": "SCMP_CMP_EQ" }));
        }),
        case("a value of -1", &["linux.seccomp.syscalls[0].args[0].value", "-1"], |i| {
            rule(i, json!({ "index": 0, "value": -1, "op": "SCMP_CMP_EQ" }));
        }),
        case("architecture unknown", &["linux.seccomp.architectures[0]", "SCMP_ARCH_MOON"], |i| {
            i.set("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_MOON"] }));
        }),
        case("flag unknown", &["linux.seccomp.flags[0]", "MOON"], |i| {
            i.set("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["MOON"] }));
        }),
        case("no names", &["linux.seccomp", "syscalls[0].names", "empty"], |i| {
            profile(i, json!({ "names": [], "action": "SCMP_ACT_ERRNO" }));
        }),
        case("an empty name", &["linux.seccomp", "syscalls[0].names[1]", "empty"], |i| {
            profile(i, json!({ "names": ["read", ""], "action": "SCMP_ACT_LOG" }));
        }),
        case("a name that nobody knows", &[], |i| {
            profile(i, json!({ "names": ["moon_landing", "personality"], "action": "SCMP_ACT_ERRNO" }));
        })
        .works(),
        case("errnoRet of 5000", &["linux.seccomp", "syscalls[0].errnoRet", "5000", "4095"], |i| {
            profile(i, json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000 }));
        }),
        case(
            "errnoRet of an action that has none",
            &["linux.seccomp", "syscalls[0].errnoRet", "SCMP_ACT_ALLOW"],
            |i| {
                profile(i, json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1 }));
            },
        ),
        case("more rules than a program holds", &["linux.seccomp", "4096"], |i| {
            let entries: Vec<Value> = (0..3000)
                .map(|n| {
                    let arg = json!({ "index": 0, "value": n * 7919 + (1u64 << 33), "op": "SCMP_CMP_EQ" });
                    json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [arg] })
                })
                .collect();
            i.set("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries }));
        }),
        case("30,000 rules with answers of their own", &["linux.seccomp", "4096"], |i| {
            let entries: Vec<Value> = (0..30_000u64)
                .map(|n| {
                    let arg = json!({ "index": n % 6, "value": n * 7919, "op": "SCMP_CMP_GT" });
                    json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": n % 4096, "args": [arg] })
                })
                .collect();
            i.set("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries }));
        }),
        case("no execve", &["linux.seccomp", "execve is denied", "execve"], |i| {
            i.set("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_KILL", "syscalls": [{ "names": ["exit_group", "write"], "action": "SCMP_ACT_ALLOW" }] }));
        }),
        case("calls that nobody answers", &["linux.seccomp", "SCMP_ACT_NOTIFY without listenerPath"], |i| {
            let mkdir = json!([{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }]);
            i.set("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": mkdir }));
        }),
        case("a listener that is never asked", &[], |i| {
            i.set("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent" }));
        })
        .works(),
    ]
}

/// What would reach the host: hooks, devices, paths, what stockade does not do.
fn host_reach() -> Vec<Case> {
    fn hook(i: &mut Input, hook: Value) {
        i.set("hooks.createRuntime", json!([hook]));
    }
    fn device(i: &mut Input, device: Value) {
        i.set("linux.devices", json!([device]));
    }
    vec![
        case("a hook under strict", &["hooks.createRuntime", "/bin/true", "policy key hooks"], |i| {
            hook(i, json!({ "path": "/bin/true" }));
        }),
        case("a hook by a relative path", &["hooks.createRuntime[0].path", "bin/true", "absolute"], |i| {
            hook(i, json!({ "path": "bin/true" }));
        })
        .oci()
        .mend(|i| hook(i, json!({ "path": "/bin/true" }))),
        case("a hook that is not there", &["/nope/hook", "ENOENT"], |i| hook(i, json!({ "path": "/nope/hook" }))).oci(),
        case("a hook that fails", &["createRuntime", "/bin/false"], |i| hook(i, json!({ "path": "/bin/false" }))).oci(),
        case("a hook without a path", &["hooks.createRuntime[0]", "path"], |i| hook(i, json!({ "args": ["x"] }))).oci(),
        case("a hook of no time", &["hooks.createRuntime[0].timeout", "-1"], |i| {
            hook(i, json!({ "path": "/bin/true", "timeout": -1 }));
        })
        .oci(),
        case("a hook that hangs", &["createRuntime", "/bin/sleep", "1 s"], |i| {
            hook(i, json!({ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 }));
        })
        .oci(),
        case("a disk under strict", &["linux.devices[0]", "/dev/sda", "policy key devices"], |i| {
            device(i, json!({ "path": "/dev/sda", "type": "b", "major": 8, "minor": 0 }));
        }),
        case("a device of no type", &["linux.devices[0].type", "x"], |i| {
            device(i, json!({ "path": "/dev/x", "type": "x", "major": 1, "minor": 1 }));
        }),
        case("a major of -1", &["linux.devices[0].major", "-1"], |i| {
            device(i, json!({ "path": "/dev/x", "type": "c", "major": -1, "minor": 1 }));
        })
        .oci(),
        case("a major of 4096", &["linux.devices[0].major", "4096"], |i| {
            device(i, json!({ "path": "/dev/x", "type": "c", "major": 4096, "minor": 1 }));
        })
        .oci(),
        case("a minor of 2^20", &["linux.devices[0].minor", "1048576"], |i| {
            device(i, json!({ "path": "/dev/x", "type": "c", "major": 1, "minor": 1 << 20 }));
        })
        .oci(),
        case("another /dev/null", &["linux.devices[0]", "/dev/null"], |i| {
            device(i, json!({ "path": "/dev/null", "type": "c", "major": 1, "minor": 5 }));
        })
        .oci(),
        case("10,000 devices", &["linux.devices", "10000"], |i| {
            let all: Vec<Value> = (0..10_000)
                .map(|n| json!({ "path": format!("/dev/d{n}"), "type": "c", "major": 1, "minor": n }))
                .collect();
            i.set("linux.devices", json!(all));
        })
        .oci(),
        case("a masked path, relative", &["linux.maskedPaths[0]", "proc/keys", "absolute"], |i| {
            i.set("linux.maskedPaths", json!(["proc/keys"]));
        }),
        case("a read-only path, relative", &["linux.readonlyPaths[1]", "etc", "absolute"], |i| {
            i.set("linux.readonlyPaths", json!(["/etc", "etc"]));
        })
        .mend(|i| i.set("linux.readonlyPaths", json!(["/etc"]))),
        case("a masked path in a loop", &["mask", "/loop", "ELOOP"], |i| {
            i.link("loop", "loop");
            i.set("linux.maskedPaths", json!(["/loop"]));
        }),
        case("a masked path that is not there", &[], |i| i.set("linux.maskedPaths", json!(["/nope/x"]))).works(),
        case("a propagation of no kind", &["linux.rootfsPropagation", "moon", "private"], |i| {
            i.set("linux.rootfsPropagation", json!("moon"));
        }),
        case("a shared root under strict", &["linux.rootfsPropagation", "rshared", "propagation"], |i| {
            i.set("linux.rootfsPropagation", json!("rshared"));
        }),
        case("an AppArmor profile that is not there", &["AppArmor", "moon"], |i| {
            i.set("process.apparmorProfile", json!("moon"));
        })
        .oci(),
        case("Windows", &["windows", "not implement"], |i| {
            i.set("windows", json!({ "layerFolders": ["C:\\x"] }));
        })
        .oci(),
        case("a personality of no kind", &["linux.personality.domain", "BSD"], |i| {
            i.set("linux.personality", json!({ "domain": "BSD" }));
        })
        .oci(),
    ]
}

/// A hostile image: what the runtime itself reads in it must not hang it, exhaust it or lead it astray.
fn image() -> Vec<Case> {
    vec![
        case("passwd a FIFO", &[], |i| i.fifo("rootfs/etc/passwd")).works(),
        case("passwd a directory", &[], |i| {
            i.remove("rootfs/etc/passwd");
            fs::create_dir(i.rootfs().join("etc/passwd")).unwrap();
        })
        .works(),
        case("passwd is /dev/zero", &[], |i| i.link("etc/passwd", "/dev/zero")).works(),
        case("passwd is the terminal", &[], |i| i.link("etc/passwd", "/dev/tty")).works(),
        case("passwd a loop", &[], |i| i.link("etc/passwd", "passwd")).works(),
        case("passwd of 1 GiB", &[], |i| {
            fs::File::options().write(true).open(i.rootfs().join("etc/passwd")).unwrap().set_len(1 << 30).unwrap();
        })
        .works(),
        case("passwd of garbage", &[], |i| i.file("etc/passwd", "::::\nroot\n\n:x:0:0::relative:\n0:0:0:0:0:0:0\n"))
            .works(),
        case("group a FIFO", &[], |i| i.fifo("rootfs/etc/group")).works(),
        case("/dev a file", &["mount", "/dev", "ENOTDIR"], |i| i.file("dev", "")),
        case("/dev a loop", &["/dev", "ELOOP"], |i| i.link("dev", "dev")),
        case("/sys a link out", &["/sys", "ELOOP"], |i| i.link("sys", "../../../../../../sys")),
        case("/dev/null a directory", &[], |i| fs::create_dir(i.rootfs().join("dev/null")).unwrap()).works(),
        case("/dev a link to the host's /dev", &[], |i| {
            i.link("dev", "../../../../../../mnt");
        })
        .works(),
    ]
}

/// What is typed.
fn command_line() -> Vec<Case> {
    vec![
        case("an id with a slash", &["container id", "a/b", "'/'"], |i| i.say(&["run", "--bundle", "DIR", "a/b"])),
        case("an id that goes up", &["container id", "..", "'.'"], |i| i.say(&["run", "--bundle", "DIR", ".."])),
        case("an id with a dot first", &["container id", ".hidden"], |i| i.say(&["run", "--bundle", "DIR", ".hidden"])),
        case("an id of two lines", &["container id", "a\\nb"], |i| i.say(&["run", "--bundle", "DIR", "a\nb"])),
        case("an empty id", &["container id", "empty"], |i| i.say(&["run", "--bundle", "DIR", ""])),
        case("an id of 300 bytes", &["container id", "255"], |i| {
            let id = "i".repeat(300);
            i.say(&["run", "--bundle", "DIR", &id]);
        }),
        case("no id", &["required arguments"], |i| i.say(&["run", "--bundle", "DIR"])).usage(),
        case("two ids", &["unexpected argument", "two"], |i| i.say(&["run", "--bundle", "DIR", "one", "two"])).usage(),
        case("a verb of no kind", &["moon"], |i| i.say(&["moon", "box"])).usage(),
        case("an option of no kind", &["--moon"], |i| i.say(&["run", "--moon", "--bundle", "DIR", "box"])).usage(),
        case("a misspelt option alone", &["--forse"], |i| i.say(&["delete", "--forse"])).usage(),
        case("a log format of no kind", &["--log-format", "xml"], |i| {
            i.say(&["--log-format", "xml", "run", "--bundle", "DIR", "box"]);
        })
        .usage(),
        case("descriptors of -1", &["-1"], |i| i.say(&["run", "--preserve-fds=-1", "--bundle", "DIR", "box"])).usage(),
        case("descriptors beyond all", &["--preserve-fds", "100000"], |i| {
            i.say(&["run", "--preserve-fds", "100000", "--bundle", "DIR", "box"]);
        }),
        case("descriptors that are not open", &["--preserve-fds", "900", "not open"], |i| {
            i.say(&["run", "--preserve-fds", "900", "--bundle", "DIR", "box"]);
        }),
        case("no pivot", &["--no-pivot", "noPivot"], |i| i.say(&["run", "--no-pivot", "--bundle", "DIR", "box"])),
        case("a pid file nowhere", &["--pid-file", "nope/pid", "ENOENT"], |i| {
            i.say(&["run", "--pid-file", "DIR/nope/pid", "--bundle", "DIR", "box"]);
        }),
        case("a socket without a terminal", &["--console-socket", "process.terminal"], |i| {
            i.say(&["create", "--console-socket", "DIR/nope.sock", "--bundle", "DIR", "box"]);
        }),
        case("a socket that is not there", &["--console-socket", "nope.sock", "ENOENT"], |i| {
            i.set("process.terminal", json!(true));
            i.say(&["create", "--console-socket", "DIR/nope.sock", "--bundle", "DIR", "box"]);
        }),
        case("a terminal that nobody holds", &["process.terminal", "--console-socket"], |i| {
            i.set("process.terminal", json!(true));
            i.say(&["create", "--bundle", "DIR", "box"]);
        }),
        case("a --root that is a file", &["state", "rootfs/etc/passwd", "not a directory"], |i| {
            i.root = Some(i.rootfs().join("etc/passwd"));
        }),
        case("a --root below a file", &["state", "passwd/x", "ENOTDIR"], |i| {
            i.root = Some(i.rootfs().join("etc/passwd/x"));
        }),
        case("a --root that all can write", &["state", "writable by others", "chmod"], |i| {
            let open = i.dir().join("open");
            fs::create_dir(&open).unwrap();
            if i.user && is_root() {
                std::os::unix::fs::chown(&open, Some(1000), Some(1000)).unwrap();
            }
            fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
            i.root = Some(open);
        }),
        case("a --root of somebody else", &["state", "belongs to"], |i| {
            let open = i.dir().join("theirs");
            fs::create_dir(&open).unwrap();
            std::os::unix::fs::chown(&open, Some(1234), Some(1234)).unwrap();
            i.root = Some(open);
        })
        .root(),
        case("start of nothing", &["box", "does not exist"], |i| i.say(&["start", "box"])),
        case("state of nothing", &["box", "does not exist"], |i| i.say(&["state", "box"])),
        case("delete of nothing", &["box", "does not exist"], |i| i.say(&["delete", "box"])),
        case("kill with no signal", &["kill", "MOON", "TERM"], |i| i.say(&["kill", "box", "MOON"])),
        case("a size of no kind", &["moon", "64m"], |i| i.say(&["sandbox", "--memory", "moon", "--", "true"])),
        case("no CPU at all", &["cpus", "0"], |i| i.say(&["sandbox", "--cpus", "0", "--", "true"])),
        case("a path of the host that is not there", &["/nope/x", "ENOENT"], |i| {
            i.say(&["sandbox", "--ro", "/nope/x", "--", "true"]);
        }),
        case("a sandbox without a command", &["required arguments"], |i| i.say(&["sandbox"])).usage(),
        case("a spec where there is one", &["config.json", "exists"], |i| {
            fs::write(i.dir().join("config.json"), "{}").unwrap();
            i.say(&["spec", "--bundle", "DIR"]);
        })
        .root(),
    ]
}

/// What the operator writes.
fn policies() -> Vec<Case> {
    fn extending(i: &mut Input, text: &str) {
        i.policy_file(&format!("{{\"extends\":\"strict\",{text}}}"));
    }
    vec![
        case("a policy of no name", &["policy", "moon", "strict, engine, engine-build, oci"], |i| {
            i.env.push(("STOCKADE_POLICY", "moon".into()));
        }),
        case("a policy file that is not there", &["policy", "/nope/policy.json", "ENOENT"], |i| {
            i.env.push(("STOCKADE_POLICY", "/nope/policy.json".into()));
        }),
        case("a policy file that is a FIFO", &["policy", "pipe.json", "not a regular file"], |i| {
            i.fifo("pipe.json");
            i.env.push(("STOCKADE_POLICY", i.dir().join("pipe.json").display().to_string()));
        }),
        case("a policy of bad syntax", &["policy", "policy.json", "line 1 column"], |i| i.policy_file("{\"extends\":")),
        case("a policy that is empty", &["policy", "policy.json: missing field"], |i| i.policy_file("{}")),
        case("a policy that is a list", &["policy", "policy.json"], |i| i.policy_file("[1]")),
        case("a policy of nobody", &["policy", "extends", "moon"], |i| i.policy_file("{\"extends\":\"moon\"}")),
        case("a policy with an unknown key", &["policy", "policy.json", "hoks"], |i| {
            extending(i, "\"hoks\":\"allow\"")
        }),
        case("a policy with a bad value", &["policy", "policy.json", "hooks", "maybe"], |i| {
            extending(i, "\"hooks\":\"maybe\"");
        }),
        case("a policy with a namespace of no type", &["policy", "namespaces.silent", "net", "network"], |i| {
            extending(i, "\"namespaces\":{\"silent\":[\"user\",\"mount\",\"net\"]}");
        }),
        case("a policy with an unknown capability", &["policy", "capabilities.ceiling", "MOON"], |i| {
            extending(i, "\"capabilities\":{\"ceiling\":[\"KILL\",\"MOON\"]}");
        }),
        case("a policy with an unknown rlimit", &["policy", "rlimits", "RLIMIT_MOON"], |i| {
            extending(i, "\"rlimits\":{\"RLIMIT_MOON\":[1,1]}");
        }),
        case("a policy with a soft above a hard", &["policy", "rlimits", "RLIMIT_NOFILE", "20"], |i| {
            extending(i, "\"rlimits\":{\"RLIMIT_NOFILE\":[20,10]}");
        }),
        case("a policy with limits below nothing", &["policy", "limits.pids", "-3"], |i| {
            extending(i, "\"limits\":{\"pids\":-3}");
        }),
        case("a policy with no CPU", &["policy", "limits.cpus", "0"], |i| extending(i, "\"limits\":{\"cpus\":0}")),
        case("a policy with a relative masked path", &["policy", "maskedPaths", "proc/keys"], |i| {
            extending(i, "\"maskedPaths\":[\"proc/keys\"]");
        }),
        case("a policy of an operator", &[], |i| extending(i, "\"name\":\"mine\",\"limits\":{\"pids\":100}")).works(),
    ]
}
