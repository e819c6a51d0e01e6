//! A thousand launches one after another and two hundred by eight workers: all correct, and nothing left behind.

#![allow(clippy::unwrap_used)]

mod common;
use common::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How a launch is asked for.
#[derive(Debug, Clone, Copy)]
enum Way {
    Strict,
    Oci,
    Sandbox,
    /// create, start, delete
    Steps,
}

const WAYS: [Way; 4] = [Way::Strict, Way::Oci, Way::Sandbox, Way::Steps];

/// Everything that a launch may leave behind.
#[derive(Debug, PartialEq, Eq)]
struct World {
    leftovers: Leftovers,
    /// Mounts of every process that is not in a container: all share the mounts of PID 1 or have been there before.
    mounts: usize,
    descriptors: usize,
    children: BTreeSet<i32>,
    /// Processes with the mark in their command line.
    processes: Vec<String>,
    /// Directories in the cgroup tree that are named after our --root.
    cgroups: BTreeSet<PathBuf>,
    files: Vec<PathBuf>,
    scratch: usize,
}

fn count(path: &str) -> usize {
    std::fs::read_dir(path).map(|d| d.flatten().count()).unwrap_or(0)
}

impl World {
    fn now(root: &Path) -> World {
        let mark = root.display().to_string();
        let mut files = Vec::new();
        let mut todo = vec![root.to_owned()];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_name() != ".sandbox" {
                    files.push(entry.path());
                }
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    todo.push(entry.path());
                }
            }
        }
        let mut children = BTreeSet::new();
        let mut processes = Vec::new();
        let own = std::process::id();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            if proc_status(pid, "PPid").is_some_and(|p| p == own.to_string()) {
                children.insert(pid);
            }
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if pid.cast_unsigned() != own && text(&words).contains(&mark) {
                processes.push(text(&words));
            }
        }
        let cgroups = std::fs::read_dir(cgroup_mount()).into_iter().flatten().flatten();
        World {
            leftovers: Leftovers::now(&mark),
            mounts: std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(),
            descriptors: count("/proc/self/fd"),
            children,
            processes,
            cgroups: cgroups
                .map(|e| e.path())
                .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().contains(&cgroup_name(root))))
                .collect(),
            files,
            scratch: count(&root.join(".sandbox").display().to_string()),
        }
    }
}

/// The directory that the cgroups of a --root lie in, seen rather than computed: the one that `explain` would use.
fn cgroup_name(root: &Path) -> String {
    // FNV-1a of the path, as state.rs has it; `sees_what_it_looks_for` holds this to the truth.
    let hash = root
        .to_string_lossy()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("stockade-{:08x}", hash as u32)
}

struct Place {
    strict: Bundle,
    oci: Bundle,
    root: PathBuf,
    operator: PathBuf,
}

impl Place {
    fn new() -> Place {
        let script = "echo \"out $0\"; echo \"err $0\" >&2; cat /proc/self/uid_map >/dev/null; exit ${0##*-}";
        let strict = Bundle::silent(&["sh", "-c", script]);
        let oci = Bundle::usual(&["sh", "-c", script]).policy("oci");
        strict.write();
        oci.write();
        let root = strict.root();
        // strict, but that all bundles may share one rootfs outside of themselves.
        let operator = strict.path().join("strict.json");
        std::fs::write(&operator, r#"{"extends":"strict","hostPaths":{"beyond":"allow"}}"#).unwrap();
        Place { strict, oci, root, operator }
    }

    fn verb(&self, args: &[&str]) -> Command {
        let mut command = Command::new(runtime());
        command.arg("--root").arg(&self.root).args(args);
        command.stdin(Stdio::null()).env("STOCKADE_POLICY", &self.operator);
        command
    }

    /// A bundle directory of this launch alone: the rootfs is shared, the config names the launch.
    fn bundle(&self, of: &Bundle, n: usize, name: &str) -> PathBuf {
        let dir = self.strict.path().join(format!("bundle-{n}"));
        std::fs::create_dir_all(&dir).unwrap();
        let mut config = of.config.clone();
        config["root"]["path"] = of.rootfs().display().to_string().into();
        config["process"]["args"].as_array_mut().unwrap().push(name.into());
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
        dir
    }

    /// One launch from the beginning to the end, its output and its status checked.
    fn launch(&self, n: usize, way: Way) {
        let status = (n % 7) as i32;
        let name = format!("many-{n}-{status}");
        let check = |out: &std::process::Output| {
            assert_eq!(text(&out.stdout), format!("out {name}\n"), "{way:?} {n}: {}", text(&out.stderr));
            assert_eq!(text(&out.stderr), format!("err {name}\n"), "{way:?} {n}");
            assert_eq!(out.status.code(), Some(status), "{way:?} {n}");
        };
        match way {
            Way::Strict | Way::Oci => {
                let of = if matches!(way, Way::Strict) { &self.strict } else { &self.oci };
                let dir = self.bundle(of, n, &name);
                let operator = self.operator.display().to_string();
                let policy = if matches!(way, Way::Strict) { operator.as_str() } else { "oci" };
                let dir_name = dir.display().to_string();
                check(&self.verb(&["--policy", policy, "run", "-b", &dir_name, &name]).output().unwrap());
                std::fs::remove_dir_all(dir).unwrap();
            }
            Way::Sandbox => {
                let script = "echo \"out $0\"; echo \"err $0\" >&2; exit ${0##*-}";
                check(&self.verb(&["sandbox", "--", "sh", "-c", script, &name]).output().unwrap());
            }
            Way::Steps => {
                let dir = self.bundle(&self.strict, n, &name);
                let (out, err) = (dir.join("out"), dir.join("err"));
                let file = |p: &Path| std::fs::File::create(p).unwrap();
                let dir_name = dir.display().to_string();
                let made = self
                    .verb(&["create", "-b", &dir_name, &name])
                    .stdout(file(&out))
                    .stderr(file(&err))
                    .status()
                    .unwrap();
                assert!(made.success(), "{n}: {}", std::fs::read_to_string(&err).unwrap());
                assert_eq!(ok(&self.verb(&["start", &name]).output().unwrap()), "");
                wait_for("the end", || {
                    ok(&self.verb(&["state", &name]).output().unwrap()).contains("\"status\": \"stopped\"")
                });
                assert_eq!(std::fs::read_to_string(&out).unwrap(), format!("out {name}\n"));
                assert_eq!(std::fs::read_to_string(&err).unwrap(), format!("err {name}\n"));
                assert_eq!(ok(&self.verb(&["delete", &name]).output().unwrap()), "");
                std::fs::remove_dir_all(dir).unwrap();
            }
        }
    }
}

/// One test for both, because each compares the whole machine before and after.
#[test]
fn a_thousand_in_a_row_and_two_hundred_by_eight() {
    need_root!("a_thousand_in_a_row_and_two_hundred_by_eight");
    let place = Place::new();
    sees_what_it_looks_for(&place);
    // The first launch makes what stays for all: the state directory.
    for (n, way) in WAYS.into_iter().enumerate() {
        place.launch(n, way);
    }
    let before = World::now(&place.root);
    assert!(before.files.is_empty() && before.processes.is_empty() && before.cgroups.is_empty(), "{before:?}");

    let start = std::time::Instant::now();
    for n in 0..1000 {
        // Of twenty: ten strict, five oci, four sandboxes, one in steps.
        let way = match n % 20 {
            0..10 => Way::Strict,
            10..15 => Way::Oci,
            15..19 => Way::Sandbox,
            _ => Way::Steps,
        };
        place.launch(n, way);
    }
    assert_eq!(World::now(&place.root), before, "after a thousand launches in a row");
    let row = start.elapsed();

    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= 200 {
                        break;
                    }
                    place.launch(n, WAYS[n % WAYS.len()]);
                }
            });
        }
    });
    assert_eq!(World::now(&place.root), before, "after two hundred launches by eight workers");
    println!("1000 in a row: {row:.1?}; 200 by 8: {:.1?}", start.elapsed() - row);
}

/// A look that finds nothing proves nothing until it has found something.
fn sees_what_it_looks_for(place: &Place) {
    let dir = place.bundle(&place.strict, 9999, "seen");
    let mut config = place.strict.config.clone();
    config["root"]["path"] = place.strict.rootfs().display().to_string().into();
    config["process"]["args"] = serde_json::json!(["sh", "-c", "sleep 1000; exit 0", place.root.display().to_string()]);
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let before = World::now(&place.root);
    let quiet = |args: &[&str]| place.verb(args).stdout(Stdio::null()).status().unwrap().success();
    assert!(quiet(&["run", "--detach", "-b", &dir.display().to_string(), "seen"]));
    let during = World::now(&place.root);
    assert_eq!(during.cgroups.len(), 1, "{during:?}");
    assert_eq!(during.leftovers.ids.len(), before.leftovers.ids.len() + 1, "{during:?}");
    assert!(!during.files.is_empty() && !during.processes.is_empty(), "{during:?}");
    assert!(quiet(&["delete", "--force", "seen"]));
    std::fs::remove_dir_all(dir).unwrap();
}
