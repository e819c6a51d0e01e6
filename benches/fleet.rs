//! Many containers, and what a filter costs the workload.
//!
//!     cargo bench --bench fleet
//!
//! 200 containers by 8 workers, beside crun; 1,000 containers that sleep, and what of us is left beside them; an allowed
//! system call under the default profile, beside none and beside libseccomp's program of the same (crun's).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod place;

use place::*;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if !nix::unistd::geteuid().is_root() {
        eprintln!("the bench needs root: it makes cgroups");
        std::process::exit(1);
    }
    if std::env::var_os("BENCH_INSIDE").is_none() {
        std::process::exit(go_inside(&arguments));
    }
    let scratch = tempfile::Builder::new().prefix("stockade-fleet-").tempdir().unwrap();
    open_to_all(scratch.path());
    let rootfs = scratch.path().join("rootfs");
    make_rootfs(&rootfs);
    std::fs::copy(rootfs.join("bin/true"), rootfs.join("bin/sleep")).unwrap();
    std::fs::copy(compile("loop", scratch.path()), rootfs.join("bin/loop")).unwrap();
    let stockade = std::env::var("STOCKADE").unwrap_or_else(|_| env!("CARGO_BIN_EXE_stockade").to_owned());
    let ours = vec![stockade, "--policy".to_owned(), "oci".to_owned()];
    let crun = which("crun").map(|path| vec![path.display().to_string()]);
    println!("load: {}", first_words("/proc/loadavg", 3));

    let bundle = write(scratch.path(), "run", &config(&rootfs, &["/bin/true"]));
    let mut walls: Vec<(&str, &Vec<String>, Vec<Duration>)> = vec![("stockade", &ours, Vec::new())];
    walls.extend(crun.as_ref().map(|words| ("crun", words, Vec::new())));
    for _ in 0..3 {
        for (_, words, all) in &mut walls {
            all.push(crowd(words, &bundle));
        }
    }
    for (name, _, all) in &walls {
        println!("200 containers by 8 workers, {name}: {:?} at best of {all:?}", all.iter().min().unwrap());
    }

    sleepers(&ours, &write(scratch.path(), "sleep", &config(&rootfs, &["/bin/sleep", "1000"])));

    let mut filtered = config(&rootfs, &["/bin/loop"]);
    let none = write(scratch.path(), "none", &filtered);
    filtered["linux"]["seccomp"] = serde_json::from_str(stockade::seccomp::DEFAULT_PROFILE).unwrap();
    let with = write(scratch.path(), "filter", &filtered);
    let mut kinds = vec![("no filter", &ours, &none), ("stockade's program", &ours, &with)];
    kinds.extend(crun.as_ref().map(|words| ("libseccomp's program, by crun", words, &with)));
    let mut least = vec![(u64::MAX, u64::MAX); kinds.len()];
    for _ in 0..5 {
        for ((_, words, bundle), best) in kinds.iter().zip(&mut least) {
            let out = command(words, &["run", "--bundle", bundle, "loop"]).output().unwrap();
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            let n: Vec<u64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
            *best = (best.0.min(n[0]), best.1.min(n[1]));
        }
    }
    for ((name, ..), (plain, checked)) in kinds.iter().zip(&least) {
        let ns = |n: &u64| *n as f64 / 100.0;
        println!("a system call, {name}: getppid {:.1} ns, personality {:.1} ns", ns(plain), ns(checked));
    }
    println!("load at the end: {}", first_words("/proc/loadavg", 3));
}

fn command(words: &[String], rest: &[&str]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(rest).stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

fn config(rootfs: &Path, args: &[&str]) -> Value {
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup", "user"].map(|t| json!({ "type": t }));
    let map = json!([{ "containerID": 0, "hostID": 1_000_000, "size": 65_536 }]);
    json!({
        "ociVersion": "1.0.2",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": args, "env": ["PATH=/bin"], "cwd": "/", "noNewPrivileges": true },
        "root": { "path": rootfs, "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }
        ],
        "linux": { "namespaces": namespaces, "uidMappings": map, "gidMappings": map }
    })
}

fn write(dir: &Path, name: &str, config: &Value) -> String {
    let bundle = dir.join(name);
    std::fs::create_dir(&bundle).unwrap();
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    bundle.display().to_string()
}

fn crowd(words: &[String], bundle: &str) -> Duration {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= 200 {
                        break;
                    }
                    let id = format!("crowd-{n}");
                    assert!(command(words, &["run", "--bundle", bundle, &id]).status().unwrap().success());
                }
            });
        }
    });
    began.elapsed()
}

fn sleepers(words: &[String], bundle: &str) {
    const MANY: usize = 1000;
    let mut took = Vec::new();
    for n in 0..MANY {
        let began = Instant::now();
        let id = format!("sleeper-{n}");
        let quiet = command(words, &["run", "--detach", "--bundle", bundle, &id]).stdout(Stdio::null()).status();
        assert!(quiet.unwrap().success());
        took.push(began.elapsed());
    }
    let least = |some: &[Duration]| some.iter().min().copied().unwrap_or_default();
    let (first, last) = (least(&took[..50]), least(&took[MANY - 50..]));
    // By what they are executed from: a name can be anything.
    let left = std::fs::read_dir("/proc").unwrap().flatten().filter(|e| {
        let exe = std::fs::read_link(e.path().join("exe")).unwrap_or_default();
        exe == Path::new(&words[0]) || exe == Path::new("/stockade")
    });
    println!(
        "1,000 that sleep: {first:?} at best for the first 50, {last:?} for the last 50 ({:.2}); {} processes of ours are left",
        last.as_secs_f64() / first.as_secs_f64(),
        left.count()
    );
    for n in 0..MANY {
        assert!(command(words, &["delete", "--force", &format!("sleeper-{n}")]).status().unwrap().success());
    }
}
