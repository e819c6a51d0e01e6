//! What a launch costs, beside crun, runc and bubblewrap, and beside a floor that does the same kernel work and nothing else.
//!
//!     cargo bench                          100 rounds
//!     cargo bench -- --rounds 20           fewer
//!     cargo bench -- --check               and fail unless stockade is ahead of crun in wall and CPU everywhere
//!     STOCKADE=/path/to/stockade ...       another binary
//!
//! All contestants take turns within each round, the first of a round changes, and every ratio is one of the same run:
//! a busy machine is busy for all. Runtimes get the same config.json and stockade runs under `--policy oci`, so that all
//! do the same work. Everything happens in a mount namespace of its own, where /sys/fs/cgroup is cgroup v2 alone.
//! Needs root, a C compiler, and Debian's busybox-static; runtimes and strace are left out of the table when missing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod place;

use place::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One who takes part: a name, and the words for the meter. `{}` in them is the round's container id.
struct Contestant {
    name: String,
    words: Vec<String>,
    costs: Vec<Cost>,
    syscalls: Option<u64>,
}

struct Table {
    title: String,
    contestants: Vec<Contestant>,
    /// Whom the ratios are against.
    base: &'static str,
}

struct Place {
    dir: PathBuf,
    meter: PathBuf,
    floor: PathBuf,
    stockade: String,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| arguments.iter().skip_while(|a| *a != flag).nth(1).cloned();
    let rounds: usize = after("--rounds").map_or(100, |n| n.parse().expect("--rounds N"));
    if !nix::unistd::geteuid().is_root() {
        eprintln!("the bench needs root: all contestants make cgroups");
        std::process::exit(1);
    }
    if std::env::var_os("BENCH_INSIDE").is_none() {
        std::process::exit(go_inside(&arguments));
    }
    let scratch = tempfile::Builder::new().prefix("stockade-bench-").tempdir().unwrap();
    open_to_all(scratch.path());
    let place = Place {
        meter: compile("meter", scratch.path()),
        floor: compile("floor", scratch.path()),
        stockade: std::env::var("STOCKADE").unwrap_or_else(|_| env!("CARGO_BIN_EXE_stockade").to_owned()),
        dir: scratch.path().to_owned(),
    };
    make_rootfs(&place.dir.join("rootfs"));
    write_bundles(&place.dir);

    machine(&place, rounds);
    let mut behind = Vec::new();
    for mut table in tables(&place) {
        table.contestants.retain_mut(|c| match measure(&place.meter, &c.words, "warm") {
            Ok(_) => true,
            Err(e) if ["crun", "runc", "bubblewrap"].contains(&c.name.as_str()) => {
                println!("{} is left out of \"{}\": {e}", c.name, table.title);
                false
            }
            Err(e) => panic!("{} in \"{}\": {e}", c.name, table.title),
        });
        for round in 0..rounds {
            let n = table.contestants.len();
            for i in 0..n {
                let c = &mut table.contestants[(round + i) % n];
                let cost =
                    measure(&place.meter, &c.words, &format!("{round}")).unwrap_or_else(|e| panic!("{}: {e}", c.name));
                c.costs.push(cost);
            }
        }
        for c in &mut table.contestants {
            c.syscalls = syscalls(&place, &c.words);
        }
        print(&table);
        behind.extend(not_ahead(&table));
    }
    println!("\nload at the end: {}", first_words("/proc/loadavg", 3));
    if arguments.iter().any(|a| a == "--check") && !behind.is_empty() {
        println!("stockade is not ahead of crun: {}", behind.join("; "));
        std::process::exit(1);
    }
}

/// Where stockade is not below crun: by the median CPU time, and by the minimum of the wall clock, which other work on the
/// machine disturbs least. A table without both says nothing, but one that has lost crun does.
fn not_ahead(table: &Table) -> Vec<String> {
    let of = |name: &str| table.contestants.iter().find(|c| c.name == name);
    let (ours, theirs) = match (of("stockade"), of("crun")) {
        (Some(ours), Some(theirs)) => (ours, theirs),
        (Some(_), None) => return vec![format!("{}: crun did not run", table.title)],
        _ => return Vec::new(),
    };
    let least = |c: &Contestant| c.costs.iter().map(|c| c.wall).min();
    let median = |c: &Contestant| Some(middle(&sorted(&c.costs, |c| c.cpu)));
    [("wall", least(ours) >= least(theirs)), ("CPU", median(ours) >= median(theirs))]
        .into_iter()
        .filter(|(_, behind)| *behind)
        .map(|(name, _)| format!("{name} of {}", table.title))
        .collect()
}

/// The three bundles share the rootfs, and each lies in a directory of its own.
fn write_bundles(dir: &Path) {
    let plain = plain();
    let hardened = hardened(plain.clone());
    let silent = json!({
        "ociVersion": "1.0.2",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/bin/true"], "env": ["PATH=/bin"], "cwd": "/" },
        "root": { "path": "rootfs" },
        // The least that the policy oci takes; strict adds the rest itself.
        "linux": { "namespaces": [{ "type": "mount" }] }
    });
    for (name, config) in [("plain", plain), ("hardened", hardened), ("silent", silent)] {
        let bundle = dir.join(name);
        std::fs::create_dir(&bundle).unwrap();
        let mut config = config;
        config["root"]["path"] = json!(dir.join("rootfs"));
        std::fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(&config).unwrap()).unwrap();
    }
    let profile = stockade::seccomp::default_profile().unwrap();
    let program = stockade::seccomp::compile(&profile).unwrap();
    let bytes: Vec<u8> = program
        .insns
        .iter()
        .flat_map(|i| {
            let code = i.code.to_ne_bytes();
            let k = i.k.to_ne_bytes();
            [code[0], code[1], i.jt, i.jf, k[0], k[1], k[2], k[3]]
        })
        .collect();
    std::fs::write(dir.join("filter"), bytes).unwrap();
}

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];
const FROZEN: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What `runc spec` writes on a cgroup v2 host, without a terminal.
fn plain() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|t| json!({ "type": t }));
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "bench",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
        ],
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": MASKED,
            "readonlyPaths": FROZEN
        }
    });
    if may_raise_limits() {
        config["linux"]["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    }
    config
}

/// crun raises RLIMIT_MEMLOCK before it loads a device program, and gives up where it may not (CAP_SYS_RESOURCE).
/// There the config has no device rules: then crun loads no program, and stockade, runc and the floor still do.
fn may_raise_limits() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let caps = status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("CapEff:")?.trim(), 16).ok());
    caps.is_some_and(|c| c >> CAP_SYS_RESOURCE & 1 == 1)
}

/// The same as a careful engine would send it: ids of its own, a filter, one mask more.
fn hardened(mut config: Value) -> Value {
    let linux = &mut config["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": 1_000_000, "size": 65_536 }]);
    linux["uidMappings"] = map.clone();
    linux["gidMappings"] = map;
    linux["maskedPaths"].as_array_mut().unwrap().push(json!("/sys/devices/virtual/powercap"));
    linux["seccomp"] = serde_json::from_str(stockade::seccomp::DEFAULT_PROFILE).unwrap();
    config
}

fn tables(place: &Place) -> Vec<Table> {
    let shown = |p: &Path| p.display().to_string();
    let stockade = |policy: &str| [place.stockade.as_str(), "--policy", policy].map(str::to_owned).to_vec();
    let others: Vec<(&str, Vec<String>)> =
        ["crun", "runc"].into_iter().filter_map(|name| Some((name, vec![shown(&which(name)?)]))).collect();
    let runtimes = |policy: &str| {
        let mut all = vec![("stockade", stockade(policy))];
        all.extend(others.clone());
        all
    };
    let run = |global: &[String], bundle: &str| {
        let mut words = global.to_vec();
        words.extend(["run".into(), "--bundle".into(), shown(&place.dir.join(bundle)), "bench-{}".into()]);
        words
    };
    let lifecycle = |global: &[String], bundle: &str| {
        let verb = |verb: &str, rest: &[&str]| {
            let mut words = global.to_vec();
            words.push(verb.into());
            words.extend(rest.iter().map(|w| (*w).to_owned()));
            words
        };
        let bundle = shown(&place.dir.join(bundle));
        let mut words = verb("create", &["--bundle", &bundle, "bench-{}"]);
        words.push("@then".into());
        words.extend(verb("start", &["bench-{}"]));
        words.push("@wait".into());
        words.extend(verb("delete", &["bench-{}"]));
        words
    };
    let contestant =
        |name: &str, words: Vec<String>| Contestant { name: name.into(), words, costs: Vec::new(), syscalls: None };
    let mut all = Vec::new();
    for bundle in ["plain", "hardened"] {
        let mut running: Vec<Contestant> =
            runtimes("oci").iter().map(|(n, global)| contestant(n, run(global, bundle))).collect();
        running.push(contestant("bubblewrap", bubblewrap(place, bundle == "hardened")));
        let mut floor = vec![shown(&place.floor), shown(&place.dir.join("rootfs")), "/sys/fs/cgroup/floor-{}".into()];
        if bundle == "hardened" {
            floor.push(shown(&place.dir.join("filter")));
        }
        running.push(contestant("floor", floor));
        all.push(Table { title: format!("run, {bundle} bundle"), contestants: running, base: "crun" });
        let whole = runtimes("oci").iter().map(|(n, global)| contestant(n, lifecycle(global, bundle))).collect();
        all.push(Table {
            title: format!("create + start + delete, {bundle} bundle"),
            contestants: whole,
            base: "crun",
        });
    }
    // strict, but that the bundles share a rootfs outside of themselves.
    let operator = place.dir.join("strict.json");
    std::fs::write(&operator, r#"{"extends":"strict","hostPaths":{"beyond":"allow"}}"#).expect("a policy");
    let policies = [("oci", "oci".to_owned()), ("strict", shown(&operator))];
    let policies = policies.map(|(name, policy)| contestant(name, run(&stockade(&policy), "silent"))).into();
    all.push(Table {
        title: "run, silent config: stockade under two policies".into(),
        contestants: policies,
        base: "oci",
    });
    all
}

/// bubblewrap as near to the bundle as it goes: it makes no cgroup, no device program, one id, and no mask that is a list.
fn bubblewrap(place: &Place, hardened: bool) -> Vec<String> {
    let rootfs = place.dir.join("rootfs").display().to_string();
    let mut words: Vec<String> = Vec::new();
    if hardened {
        words.extend(["-f".into(), place.dir.join("filter").display().to_string()]);
    }
    words.push(which("bwrap").map_or("bwrap".into(), |p| p.display().to_string()));
    let mut line = String::from(
        "--unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup-try --hostname bench --new-session \
         --die-with-parent --ro-bind ROOT / --proc /proc --dev /dev --mqueue /dev/mqueue --ro-bind /sys /sys \
         --cap-drop ALL --clearenv --setenv PATH /bin --chdir /",
    );
    if hardened {
        line.push_str(" --unshare-user --uid 0 --gid 0 --seccomp 9");
    }
    for path in MASKED.iter().chain(&FROZEN).filter(|p| Path::new(p).exists()) {
        let mask = match (FROZEN.contains(path), Path::new(path).is_dir()) {
            (true, _) => format!(" --ro-bind {path} {path}"),
            (false, true) => format!(" --tmpfs {path}"),
            (false, false) => format!(" --ro-bind /dev/null {path}"),
        };
        line.push_str(&mask);
    }
    words.extend(line.split_whitespace().map(|w| if w == "ROOT" { rootfs.clone() } else { w.to_owned() }));
    words.push("/bin/true".into());
    words
}

/// System calls of all processes together, the workload's too: the median of three runs under strace, which does not
/// count what the meter did.
fn syscalls(place: &Place, words: &[String]) -> Option<u64> {
    let strace = which("strace")?;
    let count = |n: usize| -> Option<u64> {
        let log = place.dir.join("strace");
        let status = Command::new(&strace)
            .args(["-f", "-qq", "-o"])
            .arg(&log)
            .arg(&place.meter)
            .args(filled(words, &format!("trace{n}")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .ok()?;
        if !status.success() {
            return None;
        }
        let log = String::from_utf8_lossy(&std::fs::read(log).ok()?).into_owned();
        let meter = log.split_whitespace().next()?.to_owned();
        let calls = |l: &&str| !l.contains(" resumed>") && !l.contains("+++") && !l.contains("--- SIG");
        Some(log.lines().filter(|l| l.split_whitespace().next() != Some(&meter)).filter(calls).count() as u64)
    };
    let mut counts: Vec<u64> = (0..3).filter_map(count).collect();
    counts.sort_unstable();
    counts.get(counts.len() / 2).copied()
}

fn print(table: &Table) {
    println!("\n{}\n", table.title);
    let (base, vs) = (table.base, "x ".to_owned() + table.base);
    println!(
        "| {:<10} | {:>11} | {:>11} | {vs:>7} | {:>11} | {:>11} | {vs:>7} | {:>8} | {:>8} |",
        "", "wall median", "minimum", "CPU median", "minimum", "peak MiB", "syscalls"
    );
    println!(
        "|{}|{}",
        "-".repeat(12),
        [13, 13, 9, 13, 13, 9, 10, 10].map(|n| format!("{}:|", "-".repeat(n - 1))).concat()
    );
    let mut medians: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for c in &table.contestants {
        medians.insert(&c.name, (middle(&sorted(&c.costs, |c| c.wall)), middle(&sorted(&c.costs, |c| c.cpu))));
    }
    let ratio = |mine: u64, theirs: Option<u64>| match theirs {
        Some(t) if t > 0 => format!("{:.2}", mine as f64 / t as f64),
        _ => "-".to_owned(),
    };
    for c in &table.contestants {
        let (wall, cpu) = medians[c.name.as_str()];
        let against = medians.get(base);
        println!(
            "| {:<10} | {:>8.2} ms | {:>8.2} ms | {:>7} | {:>8.2} ms | {:>8.2} ms | {:>7} | {:>8.1} | {:>8} |",
            c.name,
            wall as f64 / 1000.0,
            sorted(&c.costs, |c| c.wall).first().copied().unwrap_or(0) as f64 / 1000.0,
            ratio(wall, against.map(|a| a.0)),
            cpu as f64 / 1000.0,
            sorted(&c.costs, |c| c.cpu).first().copied().unwrap_or(0) as f64 / 1000.0,
            ratio(cpu, against.map(|a| a.1)),
            c.costs.iter().map(|c| c.peak).max().unwrap_or(0) as f64 / 1024.0,
            c.syscalls.map_or("-".to_owned(), |n| n.to_string()),
        );
    }
}

/// Where, on what, and between whom.
fn machine(place: &Place, rounds: usize) {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("?");
    let cpus = cpuinfo.lines().filter(|l| l.starts_with("processor")).count();
    println!("machine:  {cpus} x {model}");
    println!("kernel:   {}", first_words("/proc/sys/kernel/osrelease", 1));
    println!("load:     {}", first_words("/proc/loadavg", 3));
    println!("rounds:   {rounds}, alternating");
    let size = std::fs::metadata(&place.stockade).map_or(0, |m| m.len());
    println!("binary:   {} of {:.2} MiB", place.stockade, size as f64 / f64::from(1 << 20));
    for name in [place.stockade.as_str(), "crun", "runc", "bwrap"] {
        let out = Command::new(name).arg("--version").output();
        let text = out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        println!("version:  {}", text.lines().next().unwrap_or("missing"));
    }
    if !may_raise_limits() {
        println!(
            "note:     no CAP_SYS_RESOURCE, so no device rules in the config: crun loads no device program, all others do"
        );
    }
}
