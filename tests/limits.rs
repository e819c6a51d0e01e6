//! What a container may use: memory, CPU, processes, devices; and that none of it runs before it is limited.
//!
//! Most of this needs the controllers of cgroup v2, so it runs in the test machine (`tests/vm/run`), as root and as an
//! ordinary user with a delegated subtree. A hybrid host shows the other half: what cannot be enforced is refused where
//! it was asked for, and said where it was only a default. Limits are read from the host's side, not from the state.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
use common::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

const MIB: i64 = 1 << 20;

// ---------------------------------------------------------------------------------------------- what the tests share

/// Two CPUs for all tests: one that measures CPU time runs alone.
static CPUS: RwLock<()> = RwLock::new(());

/// Held by every test: its CPU is not measured by another meanwhile, and at its end the host's sysctls are as before.
struct Quiet(#[allow(dead_code)] Option<RwLockReadGuard<'static, ()>>);

fn quiet() -> Quiet {
    baseline();
    Quiet(Some(CPUS.read().unwrap_or_else(|e| e.into_inner())))
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let changed = changes(baseline(), &sysctls());
            assert!(changed.is_empty(), "sysctls of the host changed: {changed:?}");
        }
    }
}

/// Every sysctl of the host that can be read and does not move by itself.
fn sysctls() -> BTreeMap<PathBuf, String> {
    // Counters, clocks, what the kernel tunes, and a file whose reading makes every CPU work.
    const MOVES: [&str; 13] = [
        "fs/aio-nr",
        "fs/dentry-state",
        "fs/file-nr",
        "fs/inode-nr",
        "fs/inode-state",
        "fs/quota",
        "kernel/ns_last_pid",
        "kernel/perf_event_max_sample_rate",
        "kernel/pty/nr",
        "kernel/random",
        "net/netfilter/nf_conntrack_count",
        "vm/stat_refresh",
        "sunrpc/transports",
    ];
    fn walk(dir: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix("/proc/sys").unwrap_or(&path);
            if MOVES.iter().any(|m| name.starts_with(m)) {
                continue;
            }
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                walk(&path, found);
            } else if let Ok(value) = fs::read_to_string(&path) {
                found.insert(path, value);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(Path::new("/proc/sys"), &mut found);
    found
}

fn baseline() -> &'static BTreeMap<PathBuf, String> {
    static BEFORE: OnceLock<BTreeMap<PathBuf, String>> = OnceLock::new();
    BEFORE.get_or_init(|| {
        let first = sysctls();
        assert!(first.contains_key(Path::new("/proc/sys/user/max_user_namespaces")), "no sysctls to compare");
        first
    })
}

/// Values that differ; what is only on one side (the settings of a network interface that came or went) does not count.
fn changes<'a>(before: &'a BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>) -> Vec<(&'a Path, String)> {
    before
        .iter()
        .filter_map(|(path, value)| {
            let now = after.get(path)?;
            (now != value).then(|| (path.as_path(), format!("{} -> {}", value.trim(), now.trim())))
        })
        .collect()
}

/// The cgroups below which a test can have limits; none here: the test is skipped.
fn enforced(test: &str, controllers: &[&str]) -> bool {
    let base = parent_cgroup();
    let here = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
    let lacks: Vec<_> = controllers.iter().filter(|c| !here.split_whitespace().any(|h| h == **c)).collect();
    if !lacks.is_empty() {
        skip(test, &format!("cgroup v2 has no {lacks:?} controller here"));
        return false;
    }
    if nix::unistd::access(&base, nix::unistd::AccessFlags::W_OK).is_err() {
        skip(test, &format!("{} is not ours to write", base.display()));
        return false;
    }
    true
}

macro_rules! need_controllers {
    ($name:expr, $($controller:expr),+) => {
        if !enforced($name, &[$($controller),+]) {
            return;
        }
    };
}

/// The directory of a process's cgroup, by the kernel's word.
fn cgroup_of(pid: i32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text.lines().find_map(|l| l.strip_prefix("0::/")).unwrap().to_owned();
    cgroup_mount().join(path)
}

/// Where a bundle without a cgroupsPath, or with a relative one, gets its cgroup: beside our own.
fn parent_cgroup() -> PathBuf {
    let own = cgroup_of(std::process::id().cast_signed());
    if own == cgroup_mount() { own } else { own.parent().unwrap().to_path_buf() }
}

fn get(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap_or_else(|e| panic!("{}/{file}: {e}", dir.display())).trim().to_owned()
}

/// One number of a flat-keyed file such as cpu.stat.
fn stat(dir: &Path, file: &str, key: &str) -> u64 {
    let text = get(dir, file);
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {key} in {file}: {text}")).parse().unwrap()
}

/// A path for linux.cgroupsPath that no other test uses.
fn cgroup_name(test: &str) -> String {
    format!("stk-{test}-{}", std::process::id())
}

/// Starts `box` in the background and returns its cgroup.
fn start(bundle: &Bundle) -> PathBuf {
    ok(&bundle.create());
    let dir = cgroup_of(bundle.pid());
    ok(&bundle.verb(&["start", "box"]));
    dir
}

/// A process of the test that goes with this value.
struct Bystander(Child);

impl Bystander {
    fn new() -> Bystander {
        Bystander(Command::new("sleep").arg("1000").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// ------------------------------------------------------------------------------------------------------------ memory

/// Touches so many MiB: dd reads zeros into a buffer of that size.
fn toucher(mib: u32, limit: i64) -> Bundle {
    let mut bundle = Bundle::silent(&["dd", "if=/dev/zero", "of=/dev/null", &format!("bs={mib}M"), "count=1"]);
    bundle.config["linux"]["resources"]["memory"] = json!({ "limit": limit, "swap": limit });
    bundle
}

#[test]
fn touching_more_than_the_memory_limit_kills_the_container_and_nobody_else() {
    let name = "touching_more_than_the_memory_limit_kills_the_container_and_nobody_else";
    need_controllers!(name, "memory");
    let _quiet = quiet();
    let mut bystander = Bystander::new();
    let before = stat(Path::new("/proc"), "vmstat", "oom_kill");

    let mut bundle = toucher(200, 64 * MIB);
    bundle.config["linux"]["cgroupsPath"] = cgroup_name("oom").into();
    bundle.write();
    let path = bundle.path().display().to_string();
    let out = bundle.verb(&["run", "--keep", "--bundle", &path, "box"]);
    assert_eq!(out.status.code(), Some(137), "{}", text(&out.stderr));
    let dir = parent_cgroup().join(cgroup_name("oom"));
    let killed = stat(&dir, "memory.events", "oom_kill");
    assert_eq!(killed, 1, "{}", get(&dir, "memory.events"));
    // The host's count is the container's: nobody else was killed.
    assert_eq!(stat(Path::new("/proc"), "vmstat", "oom_kill") - before, killed);
    assert!(bystander.lives());
    ok(&bundle.verb(&["delete", "box"]));
    assert!(!dir.exists());

    // The control: with room for it the same program ends well.
    ok(&toucher(200, 400 * MIB).run());
}

// --------------------------------------------------------------------------------------------------------------- cpu

/// How many CPUs a cgroup uses, over some seconds.
fn cpus_used(dir: &Path, window: Duration) -> f64 {
    // It may have saved up a slice: begin when it was throttled once, or when it has used a second.
    wait_for("a busy loop", || {
        stat(dir, "cpu.stat", "nr_throttled") > 0 || stat(dir, "cpu.stat", "usage_usec") > 1_000_000
    });
    let (began, usage) = (Instant::now(), stat(dir, "cpu.stat", "usage_usec"));
    std::thread::sleep(window);
    let used = stat(dir, "cpu.stat", "usage_usec") - usage;
    used as f64 / began.elapsed().as_micros() as f64
}

#[test]
fn busy_loops_use_the_cpu_that_they_are_given() {
    need_controllers!("busy_loops_use_the_cpu_that_they_are_given", "cpu");
    let alone = CPUS.write().unwrap_or_else(|e| e.into_inner());
    let looping = "while :; do :; done";

    let mut half = Bundle::shell(looping);
    half.config["linux"]["resources"]["cpu"] = json!({ "quota": 50_000, "period": 100_000 });
    let dir = start(&half);
    let used = cpus_used(&dir, Duration::from_secs(8));
    assert!((0.45..=0.55).contains(&used), "half a CPU was given, {used:.3} used; {}", get(&dir, "cpu.stat"));
    ok(&half.delete());

    // Two loops on a silent config: strict gives one CPU.
    let two = Bundle::shell(&format!("({looping}) & {looping}"));
    let dir = start(&two);
    let used = cpus_used(&dir, Duration::from_secs(4));
    assert!((0.8..=1.1).contains(&used), "one CPU was given, {used:.3} used; {}", get(&dir, "cpu.stat"));
    ok(&two.delete());

    // The control: without a limit the loops take more, so the machine had more to give. strict lifts none by itself.
    let mut free = Bundle::shell(&format!("({looping}) & {looping}"))
        .operator(json!({ "extends": "strict", "unlimited": "allow" }));
    free.config["linux"]["resources"]["cpu"] = json!({ "quota": -1 });
    let dir = start(&free);
    let used = cpus_used(&dir, Duration::from_secs(3));
    assert!(used > 1.2, "two loops without a limit used {used:.3} CPUs; {}", get(&dir, "cpu.stat"));
    ok(&free.delete());
    drop(alone);
    drop(quiet());
}

// -------------------------------------------------------------------------------------------------------------- pids

#[test]
fn a_fork_bomb_stops_at_its_limit_and_dies_with_delete() {
    need_controllers!("a_fork_bomb_stops_at_its_limit_and_dies_with_delete", "pids", "cpu");
    let _quiet = quiet();
    // awk goes on when fork fails; a shell would end, and the bomb with it.
    let mut bundle = Bundle::silent(&["awk", "-f", "/bomb"]);
    fs::write(bundle.rootfs().join("bomb"), "BEGIN { while (1) system(\"awk -f /bomb &\") }\n").unwrap();
    bundle.config["linux"]["resources"] = json!({ "pids": { "limit": 64 }, "cpu": { "quota": 50_000 } });
    let dir = start(&bundle);
    wait_for("forks that fail", || stat(&dir, "pids.events", "max") > 20);
    let mut most = 0;
    for _ in 0..200 {
        most = most.max(get(&dir, "pids.current").parse().unwrap());
    }
    assert!((32..=64).contains(&most), "{most} processes under a limit of 64");
    assert!(Command::new("true").status().unwrap().success(), "the host cannot fork");
    let inside: Vec<i32> = get(&dir, "cgroup.procs").lines().map(|l| l.parse().unwrap()).collect();
    assert!(inside.len() > 16, "{inside:?}");
    assert!(failed(&bundle.verb(&["delete", "box"])).contains("running"));
    ok(&bundle.delete());
    assert!(!dir.exists(), "{} is still there", dir.display());
    // Dead means gone: the host sees none of them, nor anything else of that cgroup.
    let mark = dir.file_name().unwrap().to_string_lossy().into_owned();
    assert!(!mark.is_empty());
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path().join("cgroup");
        let line = fs::read_to_string(path).unwrap_or_default();
        let of_it = line.lines().any(|l| l.starts_with("0::") && cgroup_mount().join(&l[4..]).starts_with(&dir));
        assert!(!of_it, "{:?} is still in {line}", entry.file_name());
    }
}

#[test]
fn under_a_limit_of_one_process_not_even_the_first_fork_succeeds() {
    need_controllers!("under_a_limit_of_one_process_not_even_the_first_fork_succeeds", "pids");
    let _quiet = quiet();
    let with = |limit: u32| {
        let mut bundle = Bundle::shell("true & wait; echo forked");
        bundle.config["linux"]["resources"]["pids"] = json!({ "limit": limit });
        bundle
    };
    let out = with(1).run();
    assert!(!out.status.success() && text(&out.stderr).contains("fork"), "{}", text(&out.stderr));
    assert_eq!(ok(&with(2).run()), "forked\n");
}

// ------------------------------------------------------------------------------------------------ values, as written

#[test]
fn what_a_silent_config_gets_under_strict_is_in_force() {
    need_controllers!("what_a_silent_config_gets_under_strict_is_in_force", "memory", "cpu", "pids");
    let _quiet = quiet();
    // The first thing that the workload does is to read its own limits.
    let show = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.swap.max /sys/fs/cgroup/cpu.max /proc/self/cgroup";
    let mut bundle = Bundle::shell(show);
    bundle.config["mounts"] = json!([{ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" }]);
    assert_eq!(ok(&bundle.run()), "512\n1073741824\n0\n100000 100000\n0::/\n");
    let bundle = Bundle::silent(&["sleep", "1000"]);
    ok(&bundle.create());
    let dir = cgroup_of(bundle.pid());
    for (file, value) in
        [("pids.max", "512"), ("memory.max", "1073741824"), ("memory.swap.max", "0"), ("cpu.max", "100000 100000")]
    {
        assert_eq!(get(&dir, file), value, "{file}, seen from the host");
    }
}

#[test]
fn a_part_of_a_limit_leaves_the_rest_to_the_policy() {
    need_controllers!("a_part_of_a_limit_leaves_the_rest_to_the_policy", "memory", "cpu", "pids");
    let _quiet = quiet();
    // A memory limit alone does not open the swap, and a period alone does not open the CPU.
    let mut bundle = Bundle::silent(&["sleep", "1000"]);
    bundle.config["linux"]["resources"] = json!({ "memory": { "limit": 64 * MIB }, "cpu": { "period": 50_000 } });
    ok(&bundle.create());
    let dir = cgroup_of(bundle.pid());
    assert_eq!(get(&dir, "memory.max"), (64 * MIB).to_string());
    assert_eq!(get(&dir, "memory.swap.max"), "0");
    assert_eq!(get(&dir, "cpu.max"), "50000 50000");
    assert_eq!(get(&dir, "pids.max"), "512");
}

fn every_limit() -> Value {
    json!({
        "memory": { "limit": 256 * MIB, "reservation": 32 * MIB, "swap": 320 * MIB },
        "cpu": { "shares": 1024, "quota": 75_000, "period": 50_000 },
        "pids": { "limit": 77 },
        "unified": { "memory.high": (200 * MIB).to_string(), "memory.min": "0" }
    })
}

fn every_limit_is_as_asked(dir: &Path) {
    for (file, value) in [
        ("memory.max", (256 * MIB).to_string()),
        ("memory.low", (32 * MIB).to_string()),
        ("memory.swap.max", (64 * MIB).to_string()),
        ("memory.high", (200 * MIB).to_string()),
        ("cpu.max", "75000 50000".into()),
        ("cpu.weight", "100".into()),
        ("pids.max", "77".into()),
    ] {
        assert_eq!(get(dir, file), value, "{file}");
    }
}

#[test]
fn limits_are_written_as_asked_under_strict() {
    need_controllers!("limits_are_written_as_asked_under_strict", "memory", "cpu", "pids");
    let _quiet = quiet();
    let mut bundle = Bundle::silent(&["sleep", "1000"]);
    bundle.config["linux"]["resources"] = every_limit();
    ok(&bundle.create());
    every_limit_is_as_asked(&cgroup_of(bundle.pid()));
}

#[test]
fn limits_are_written_as_asked_under_oci() {
    let name = "limits_are_written_as_asked_under_oci";
    need_root!(name);
    need_controllers!(name, "memory", "cpu", "pids");
    let _quiet = quiet();
    let mut bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    bundle.config["linux"]["resources"] = every_limit();
    ok(&bundle.create());
    every_limit_is_as_asked(&cgroup_of(bundle.pid()));
}

#[test]
fn unified_settings_reach_the_kernel_and_wrong_ones_do_not_pass() {
    need_controllers!("unified_settings_reach_the_kernel_and_wrong_ones_do_not_pass", "memory", "cpu", "pids");
    let _quiet = quiet();
    let mut bundle = Bundle::silent(&["sleep", "1000"]);
    let asked = [
        ("memory.max", "104857600"),
        ("memory.high", "max"),
        ("memory.swap.max", "1048576"),
        ("cpu.max", "20000 100000"),
        ("cpu.weight", "42"),
        ("pids.max", "9"),
    ];
    bundle.config["linux"]["resources"]["unified"] = asked.iter().cloned().collect();
    ok(&bundle.create());
    let dir = cgroup_of(bundle.pid());
    for (file, value) in asked {
        assert_eq!(get(&dir, file), value, "{file}");
    }
    ok(&bundle.delete());
    for (file, value, says) in [
        ("memory.max", "plenty", "EINVAL"),
        ("memory.nonsense", "1", "ENOENT"),
        ("cgroup.procs", "1", "not a settable file"),
        ("../pids.max", "1", "not a settable file"),
    ] {
        bundle.config["linux"]["resources"]["unified"] = json!({ file: value });
        let err = failed(&bundle.create());
        assert!(err.contains(says) && err.contains(file), "{err}");
        assert!(!dir.exists(), "a refused launch left {}", dir.display());
    }
}

// --------------------------------------------------------------------------------------- never outside of its cgroup

/// The kernel's own record of every process that is moved to a cgroup, since this value was made.
struct Moves {
    mount: tempfile::TempDir,
    instance: PathBuf,
}

impl Moves {
    fn record() -> Option<Moves> {
        let mount = scratch();
        let done = Command::new("mount").args(["-t", "tracefs", "none"]).arg(mount.path()).output().unwrap();
        if !done.status.success() {
            return None;
        }
        let name = mount.path().file_name().unwrap().to_string_lossy().into_owned();
        let instance = mount.path().join("instances").join(name);
        let moves = Moves { mount, instance };
        fs::create_dir(&moves.instance).ok()?;
        for event in ["cgroup_attach_task", "cgroup_transfer_tasks"] {
            fs::write(moves.instance.join("events/cgroup").join(event).join("enable"), "1").ok()?;
        }
        fs::write(moves.instance.join("tracing_on"), "1").ok()?;
        Some(moves)
    }

    /// Moves into the cgroup of this name or below.
    fn to(&self, name: &str) -> Vec<String> {
        let trace = fs::read_to_string(self.instance.join("trace")).unwrap();
        trace.lines().filter(|l| !l.starts_with('#') && l.contains(name)).map(str::to_owned).collect()
    }
}

impl Drop for Moves {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.instance);
        let _ = Command::new("umount").arg(self.mount.path()).status();
    }
}

/// A program of the host that a hook runs: where it is, it leaves a line in `out`.
fn script(path: &Path, body: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A bundle whose container hooks and workload each say, as their first act, in which cgroup they are and what its limit is.
fn witness(test: &str, strict: bool) -> (Bundle, String) {
    use std::os::unix::fs::PermissionsExt;
    // In a bundle of its own cgroup namespace the container sees `/`; the hook before the pivot still sees the host's
    // tree, and finds itself in the right place of it.
    let name = cgroup_name(test);
    let tree = cgroup_mount().join(&name).display().to_string();
    let workload = "grep '^0::' /proc/self/cgroup >/out/workload; exec sleep 1000";
    let mut bundle = if strict {
        Bundle::shell(workload).operator(json!({ "extends": "strict", "name": "hooks", "hooks": "allow" }))
    } else {
        Bundle::usual(&["sh", "-c", workload]).policy("oci")
    };
    let out = bundle.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(bundle.rootfs().join("out")).unwrap();
    let mut mounts = usual_mounts().as_array().cloned().unwrap();
    mounts.push(json!({ "destination": "/out", "type": "none", "source": out, "options": ["rbind", "rw"] }));
    bundle.config["mounts"] = mounts.into();
    bundle.config["linux"]["cgroupsPath"] = format!("/{name}").into();
    let out = out.display();
    script(
        &bundle.path().join("create-hook"),
        &format!(
            "grep -qx $$ {tree}/cgroup.procs && in=in || in=outside\n\
             echo \"create $in $(cat {tree}/pids.max)\" >{out}/create\n\
             grep '^0::' /proc/self/cgroup >>{out}/create"
        ),
    );
    script(
        &bundle.rootfs().join("start-hook"),
        "grep '^0::' /proc/self/cgroup >/out/start\ncat /sys/fs/cgroup/pids.max >>/out/start 2>&1 || true",
    );
    bundle.config["hooks"] = json!({
        "createContainer": [{ "path": bundle.path().join("create-hook"), "env": ["PATH=/usr/bin:/bin"] }],
        "startContainer": [{ "path": "/start-hook", "env": ["PATH=/bin"] }]
    });
    (bundle, name)
}

fn never_moved(test: &str, strict: bool, own_view: bool) {
    need_root!(test);
    let _quiet = quiet();
    let Some(moves) = Moves::record() else {
        return skip(test, "the kernel's tracing cannot be used here");
    };
    let limited = enforced_quietly("pids");
    let short = if strict {
        "strict"
    } else if own_view {
        "own"
    } else {
        "host"
    };
    let (mut bundle, name) = witness(short, strict);
    if limited {
        bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 33 });
    }
    if !own_view {
        let list = bundle.config["linux"]["namespaces"].as_array().unwrap().clone();
        bundle.config["linux"]["namespaces"] = list.into_iter().filter(|n| n["type"] != "cgroup").collect();
    }
    ok(&bundle.create());
    let dir = cgroup_mount().join(&name);
    let pid = bundle.pid();
    assert_eq!(cgroup_of(pid), dir);
    ok(&bundle.verb(&["start", "box"]));
    let out = bundle.path().join("out");
    wait_for("the workload's word", || out.join("workload").exists() && !get(&out, "workload").is_empty());

    // Where each of them was when it looked for the first time.
    let limit = if limited { "33" } else { "" };
    let place = if own_view { "0::/".to_owned() } else { format!("0::/{name}") };
    assert_eq!(get(&out, "create"), format!("create in {limit}\n{place}"));
    let start = get(&out, "start");
    assert_eq!(start.lines().next(), Some(place.as_str()), "{start}");
    if limited && own_view {
        assert_eq!(start.lines().nth(1), Some("33"), "{start}");
    }
    assert_eq!(get(&out, "workload"), place);
    assert_eq!(cgroup_of(pid), dir);

    // And nobody was ever moved there. Who is in a cgroup and was not moved to it was born in it.
    assert_eq!(moves.to(&name), Vec::<String>::new());
    // The control: the record shows a move when there is one.
    let bystander = Bystander::new();
    fs::write(dir.join("cgroup.procs"), bystander.0.id().to_string()).unwrap();
    assert_eq!(moves.to(&name).len(), 1, "the record does not show what we did");
    drop(bystander);
    ok(&bundle.delete());
    assert!(!dir.exists());
}

fn enforced_quietly(controller: &str) -> bool {
    fs::read_to_string(parent_cgroup().join("cgroup.controllers"))
        .is_ok_and(|c| c.split_whitespace().any(|c| c == controller))
}

#[test]
fn workload_and_hooks_are_born_in_their_cgroup_under_strict() {
    never_moved("workload_and_hooks_are_born_in_their_cgroup_under_strict", true, true);
}

#[test]
fn workload_and_hooks_are_born_in_their_cgroup_under_oci() {
    never_moved("workload_and_hooks_are_born_in_their_cgroup_under_oci", false, true);
}

#[test]
fn workload_and_hooks_are_born_in_their_cgroup_without_a_cgroup_namespace() {
    never_moved("workload_and_hooks_are_born_in_their_cgroup_without_a_cgroup_namespace", false, false);
}

#[test]
fn a_limit_of_one_process_leaves_no_room_for_a_container_hook() {
    let name = "a_limit_of_one_process_leaves_no_room_for_a_container_hook";
    need_root!(name);
    need_controllers!(name, "pids");
    let _quiet = quiet();
    // The limit counts from the first instruction of the hook: it is not even forked.
    for (moment, path) in [("createContainer", "create-hook"), ("startContainer", "start-hook")] {
        let (mut bundle, name) = witness("one", true);
        let hook = bundle.config["hooks"][moment].clone();
        bundle.config["hooks"] = json!({ moment: hook });
        bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 1 });
        let out = bundle.create();
        let out = if moment == "createContainer" { out } else { bundle.verb(&["start", "box"]) };
        let err = failed(&out);
        assert!(err.contains("EAGAIN") && err.contains(path), "{moment}: {err}");
        assert_eq!(fs::read_dir(bundle.path().join("out")).unwrap().count(), 0, "{moment} ran");
        let _ = bundle.delete();
        assert!(!cgroup_mount().join(&name).exists(), "{moment}: the cgroup is still there");
    }
}

#[test]
fn in_every_plan_the_cgroup_is_limited_before_the_clone_that_enters_it() {
    let name = "in_every_plan_the_cgroup_is_limited_before_the_clone_that_enters_it";
    let _quiet = quiet();
    for policy in ["strict", "oci"] {
        if policy == "oci" && !is_root() {
            continue;
        }
        let bundle = Bundle::usual(&["true"]).policy(policy);
        bundle.write();
        let plan: Value =
            serde_json::from_str(&ok(&bundle.verb(&["explain", "--json", &bundle.path().display().to_string()])))
                .unwrap();
        let steps: Vec<&Value> = plan["plan"].as_array().unwrap().iter().collect();
        let at = |word: &str| steps.iter().position(|s| s["step"].to_string().to_lowercase().contains(word));
        let Some(made) = at("makecgroup") else {
            return skip(name, "no cgroup can be made here");
        };
        let clone = steps.iter().position(|s| s["name"] == "clone3").unwrap();
        assert!(steps[clone]["subject"].as_str().unwrap().contains("straight into the cgroup"), "{}", steps[clone]);
        assert!(made < clone);
        for (i, step) in steps.iter().enumerate() {
            let name = step["name"].as_str().unwrap();
            if ["limits", "device program"].contains(&name) {
                assert!(i < clone, "{policy}: {name} comes after the clone");
            }
            if i < clone {
                assert_eq!(step["actor"], "parent", "{policy}: {name}");
            }
        }
    }
}

// -------------------------------------------------------------------------------------------------- nothing is left

#[test]
fn the_cgroup_and_the_parents_made_for_it_go_with_delete() {
    let name = "the_cgroup_and_the_parents_made_for_it_go_with_delete";
    if nix::unistd::access(&parent_cgroup(), nix::unistd::AccessFlags::W_OK).is_err() {
        return skip(name, "no cgroup can be made here");
    }
    let _quiet = quiet();
    let top = cgroup_name("parents");
    let dir = parent_cgroup().join(&top);
    let mut bundle = Bundle::silent(&["sleep", "1000"]);
    bundle.config["linux"]["cgroupsPath"] = format!("{top}/a/b").into();

    ok(&bundle.create());
    assert_eq!(cgroup_of(bundle.pid()), dir.join("a/b"));
    ok(&bundle.delete());
    assert!(!dir.exists(), "the parents are still there");

    // What was there before is not ours to remove.
    fs::create_dir(&dir).unwrap();
    ok(&bundle.create());
    ok(&bundle.delete());
    assert!(dir.exists(), "a parent that somebody else had made is gone");
    assert!(!dir.join("a").exists());
    fs::remove_dir(&dir).unwrap();

    // A foreground run, and a launch that fails after the cgroup was made.
    bundle.config["process"]["args"] = json!(["true"]);
    ok(&bundle.run());
    assert!(!dir.exists(), "a run left its cgroup");
    bundle.config["process"]["args"] = json!(["/no-such-program"]);
    failed(&bundle.create());
    assert!(!dir.exists(), "a failed launch left its cgroup");
}

#[test]
fn cgroups_that_the_workload_makes_go_with_delete() {
    let name = "cgroups_that_the_workload_makes_go_with_delete";
    need_root!(name);
    let _quiet = quiet();
    let mut bundle = Bundle::usual(&[
        "sh",
        "-c",
        "mkdir -p /sys/fs/cgroup/x/y && sleep 1000 & echo $! >/sys/fs/cgroup/x/y/cgroup.procs; sleep 1000",
    ])
    .policy("oci");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    for mount in mounts.iter_mut().filter(|m| m["destination"] == "/sys/fs/cgroup") {
        mount["options"] = json!(["nosuid", "noexec", "nodev"]);
    }
    let top = cgroup_name("below");
    bundle.config["linux"]["cgroupsPath"] = format!("/{top}").into();
    bundle.config["process"]["args"][2] =
        "mkdir -p /sys/fs/cgroup/x/y; sh -c 'echo $$ >/sys/fs/cgroup/x/y/cgroup.procs; exec sleep 1000' & sleep 1000"
            .into();
    let dir = start(&bundle);
    wait_for("a process two levels down", || {
        fs::read_to_string(dir.join("x/y/cgroup.procs")).is_ok_and(|t| !t.trim().is_empty())
    });
    ok(&bundle.delete());
    assert!(!dir.exists());
}

// ----------------------------------------------------------------------------------------------------------- devices

#[test]
fn the_device_program_decides_which_nodes_open() {
    let name = "the_device_program_decides_which_nodes_open";
    need_root!(name);
    let _quiet = quiet();
    // No user namespace: the host's ids and CAP_MKNOD, so that nothing but the program stands in the way.
    let script = "mknod /dev/k c 1 11 && mknod /dev/n c 1 3 || echo cannot make
        try() { ($2) 2>&1 && echo $1 opens; }
        r() { true <$1; }; w() { true >$1; }
        try 'null for reading' 'r /dev/n'
        try 'null for writing' 'w /dev/n'
        try 'kmsg for reading' 'r /dev/k'
        try 'kmsg for writing' 'w /dev/k'";
    let with = |rules: Value| {
        let mut bundle = Bundle::usual(&["sh", "-c", script]).policy("oci");
        let caps = json!(["CAP_MKNOD", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        bundle.config["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
        bundle.config["linux"]["resources"]["devices"] = rules;
        text(&bundle.run().stdout).lines().map(|l| l.trim().to_owned()).collect::<Vec<_>>()
    };
    let denied = |line: &str| line.contains("/dev/k") && line.contains("Operation not permitted");

    let deny_all = json!({ "allow": false, "access": "rwm" });
    let got = with(json!([deny_all]));
    assert_eq!(got[..2], ["null for reading opens", "null for writing opens"], "{got:?}");
    assert!(got.len() == 4 && denied(&got[2]) && denied(&got[3]), "{got:?}");

    let read = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" });
    let got = with(json!([deny_all, read]));
    assert_eq!(got[2], "kmsg for reading opens", "{got:?}");
    assert!(got.len() == 4 && denied(&got[3]), "{got:?}");

    // A config without rules gets the eight devices of the specification and no others.
    let got = with(json!([]));
    assert_eq!(got[..2], ["null for reading opens", "null for writing opens"], "{got:?}");
    assert!(got.len() == 4 && denied(&got[2]) && denied(&got[3]), "{got:?}");

    // The control: where all is allowed, all opens, so it was the program that denied.
    let got = with(json!([{ "allow": true, "access": "rwm" }]));
    assert_eq!(got.iter().filter(|l| l.ends_with("opens")).count(), 4, "{got:?}");
}

// ------------------------------------------------------------------------------------- a host that cannot enforce it

/// A hybrid host: cgroup2 without controllers beside cgroup v1 with them.
fn hybrid(test: &str) -> bool {
    let v1 = fs::read_to_string("/proc/self/cgroup").unwrap();
    let v1 = ["memory", "cpu", "pids"]
        .iter()
        .all(|c| v1.lines().any(|l| l.split(':').nth(1).is_some_and(|f| f.split(',').any(|f| f == *c))));
    if !v1 {
        skip(test, "this host has its controllers on cgroup v2");
    }
    v1
}

const REMEDY: &str = "remove the limit, or boot with systemd.unified_cgroup_hierarchy=1 for a pure cgroup v2 host";

#[test]
fn a_limit_that_config_json_asks_for_and_the_host_lacks_is_refused() {
    let name = "a_limit_that_config_json_asks_for_and_the_host_lacks_is_refused";
    need_root!(name);
    if !hybrid(name) {
        return;
    }
    let _quiet = quiet();
    let cases = [
        ("linux.resources.memory.limit", "memory.max=67108864", "memory", json!({ "memory": { "limit": 67_108_864 } })),
        (
            "linux.resources.memory.reservation",
            "memory.low=1048576",
            "memory",
            json!({ "memory": { "reservation": MIB } }),
        ),
        ("linux.resources.cpu.quota", "cpu.max=50000", "cpu", json!({ "cpu": { "quota": 50_000 } })),
        ("linux.resources.cpu.shares", "cpu.weight=100", "cpu", json!({ "cpu": { "shares": 1024 } })),
        ("linux.resources.cpu.cpus", "cpuset.cpus=0", "cpuset", json!({ "cpu": { "cpus": "0" } })),
        ("linux.resources.pids.limit", "pids.max=64", "pids", json!({ "pids": { "limit": 64 } })),
        (
            "linux.resources.unified",
            "memory.high=1048576",
            "memory",
            json!({ "unified": { "memory.high": "1048576" } }),
        ),
    ];
    for policy in ["strict", "oci"] {
        for (field, value, controller, resources) in &cases {
            let mut bundle = Bundle::usual(&["true"]).policy(policy);
            bundle.config["linux"]["resources"] = resources.clone();
            let out = bundle.run();
            let err = failed(&out);
            let why = format!(
                "{field}: {value} cannot be enforced: the {controller} controller is on cgroup v1 here, which stockade does not use"
            );
            assert!(err.contains(&why), "{policy}: {err}");
            assert!(err.contains(REMEDY), "{policy}: {err}");
            assert!(!bundle.root().join("box").exists(), "{policy}: a refused launch left a state");
        }
    }
}

#[test]
fn a_limit_that_a_flag_asks_for_and_the_host_lacks_is_refused() {
    let name = "a_limit_that_a_flag_asks_for_and_the_host_lacks_is_refused";
    need_root!(name);
    if !hybrid(name) {
        return;
    }
    let _quiet = quiet();
    let bundle = Bundle::silent(&["true"]);
    for (flags, value) in [
        (["--memory", "64m"], "memory.swap.max=0"),
        (["--cpus", ".5"], "cpu.max=50000 100000"),
        (["--pids", "64"], "pids.max=64"),
    ] {
        let err = failed(&bundle.verb(&["sandbox", flags[0], flags[1], "--", "true"]));
        assert!(err.contains(&format!("{value} cannot be enforced: ")) && err.contains(REMEDY), "{err}");
    }
}

#[test]
fn a_default_that_the_host_lacks_is_a_finding() {
    let name = "a_default_that_the_host_lacks_is_a_finding";
    need_root!(name);
    if !hybrid(name) {
        return;
    }
    let _quiet = quiet();
    let bundle = Bundle::silent(&["sleep", "1000"]);
    ok(&bundle.create());
    let state: Value =
        serde_json::from_str(&fs::read_to_string(bundle.root().join("box/state.json")).unwrap()).unwrap();
    let path = bundle.path().display().to_string();
    let explained: Value = serde_json::from_str(&ok(&bundle.verb(&["explain", "--json", &path]))).unwrap();
    for findings in [&state["findings"], &explained["findings"]] {
        for (limit, controller) in [
            ("memory.max=1073741824, memory.swap.max=0", "memory"),
            ("pids.max=512", "pids"),
            ("cpu.max=100000 100000", "cpu"),
        ] {
            let wanted = json!({
                "rule": "limits", "field": "linux.resources", "asked": "silent", "given": format!("no {limit}"),
                "why": format!("the {controller} controller is on cgroup v1 here, which stockade does not use")
            });
            assert!(findings.as_array().unwrap().contains(&wanted), "{limit}: {findings:#}");
        }
    }
    let shown = ok(&bundle.verb(&["explain", &path]));
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    let wanted =
        "silent -> no pids.max=512 the pids controller is on cgroup v1 here, which stockade does not use [limits]";
    assert!(shown.contains(wanted), "{shown}");
}

// --------------------------------------------------------------------------------------------------- the host itself

#[test]
fn a_changed_sysctl_is_noticed() {
    let before = sysctls();
    let mut after = before.clone();
    assert!(changes(&before, &after).is_empty());
    let path = PathBuf::from("/proc/sys/user/max_user_namespaces");
    let value = after.get_mut(&path).expect("the sysctl that a launch writes in the container is among them");
    *value = "0\n".into();
    let found = changes(&before, &after);
    assert!(found.len() == 1 && found[0].0 == path, "{found:?}");
}
