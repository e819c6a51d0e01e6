//! Whose a cgroup is, what a workload may make of it, and that all of it goes: hostile trees, shared parents, two launches
//! of one path, delegation, and the words for what does not hold. Most of it needs no controller and runs natively.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
use common::*;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use serde_json::{Value, json};
use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A name below the root of the hierarchy that no other test uses.
fn name(test: &str) -> String {
    format!("stkc-{test}-{}", std::process::id())
}

fn at(name: &str) -> PathBuf {
    cgroup_mount().join(name)
}

fn cgroup_of(pid: i32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text.lines().find_map(|l| l.strip_prefix("0::/")).unwrap().to_owned();
    cgroup_mount().join(path)
}

fn read(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap_or_else(|e| panic!("{}/{file}: {e}", dir.display())).trim().to_owned()
}

/// The usual bundle under `oci`, at a cgroup of this name; `writable`: with a cgroup tree of its own to write to.
fn bundle(command: &[&str], path: &str, writable: bool) -> Bundle {
    let mut bundle = Bundle::usual(command).policy("oci");
    bundle.config["linux"]["cgroupsPath"] = format!("/{path}").into();
    if writable {
        bundle.config["mounts"][6]["options"] = json!(["nosuid", "noexec", "nodev"]);
    }
    bundle
}

fn started(bundle: &Bundle) -> PathBuf {
    ok(&bundle.create());
    ok(&bundle.verb(&["start", "box"]));
    cgroup_of(bundle.pid())
}

/// The same with a user namespace and the cgroup delegated to its root.
fn mapped(mut bundle: Bundle) -> Bundle {
    let map = json!([{ "containerID": 0, "hostID": 700_000, "size": 65_536 }]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    bundle
}

fn open_dir(path: &Path) -> OwnedFd {
    open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()).unwrap()
}

/// A chain of so many cgroups, each in the one before; the lowest.
fn chain(top: OwnedFd, first: &[u8], depth: usize) -> OwnedFd {
    let mut here = top;
    for n in 0..depth {
        let name = if n == 0 { CString::new(first).unwrap() } else { CString::new("d").unwrap() };
        mkdirat(&here, name.as_c_str(), Mode::from_bits_truncate(0o755)).unwrap();
        here = openat(&here, name.as_c_str(), OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
    here
}

fn enter(dir: &OwnedFd, pid: i32) {
    let file = openat(dir, "cgroup.procs", OFlag::O_WRONLY, Mode::empty()).unwrap();
    nix::unistd::write(&file, pid.to_string().as_bytes()).unwrap();
}

fn pids(bundle: &Bundle) -> Vec<i32> {
    serde_json::from_str(&ok(&bundle.verb(&["ps", "--format", "json", "box"]))).unwrap()
}

fn child_of(pid: i32) -> i32 {
    let mut found = None;
    wait_for("a child", || {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        found = text.split_whitespace().next().and_then(|w| w.parse().ok());
        found.is_some()
    });
    found.unwrap()
}

// --------------------------------------------------------------------------------------------- what a workload may make

#[test]
fn a_thousand_cgroups_deeper_than_we_have_descriptors_are_counted_killed_and_removed() {
    let test = "a_thousand_cgroups_deeper_than_we_have_descriptors_are_counted_killed_and_removed";
    need_root!(test);
    let mut bundle = bundle(&["sh", "-c", "sleep 1000 & sleep 1000"], &name("deep"), true);
    let dir = started(&bundle);
    let child = child_of(bundle.pid());
    // Ten chains of a hundred, under names that are no UTF-8, look like options, or like what a shell expands.
    let firsts: [&[u8]; 10] =
        [b"\xff\xfe", b"-rf", b"a b", b"$(x)", b"\t", b"..x", b"\\", b"'", b"*", "\u{202e}x".as_bytes()];
    let mut lowest = None;
    for first in firsts {
        let end = chain(open_dir(&dir), first, 100);
        lowest.get_or_insert(end);
    }
    enter(&lowest.unwrap(), child);
    // The kernel refuses a line feed by itself; else /proc/PID/cgroup would have two lines.
    assert!(mkdirat(open_dir(&dir), c"a\nb", Mode::empty()).is_err());

    // With fewer descriptors than the tree has levels.
    bundle.runner = ["prlimit", "--nofile=32:32"].map(str::to_owned).to_vec();
    let listed = pids(&bundle);
    assert!(listed.contains(&child) && listed.contains(&bundle.pid()), "{listed:?}");
    ok(&bundle.verb(&["pause", "box"]));
    ok(&bundle.verb(&["resume", "box"]));
    ok(&bundle.verb(&["delete", "--force", "box"]));
    assert!(!dir.exists(), "{} is still there", dir.display());
    assert!(!Path::new(&format!("/proc/{child}")).exists() || proc_status(child, "State").is_none());
}

#[test]
fn a_workload_that_freezes_itself_is_seen_killed_and_deleted() {
    let test = "a_workload_that_freezes_itself_is_seen_killed_and_deleted";
    need_root!(test);
    // A part of it: the container as a whole runs.
    let part = "mkdir /sys/fs/cgroup/ice; sh -c 'echo $$ >/sys/fs/cgroup/ice/cgroup.procs; exec sleep 1000' &
        while ! grep -q . /sys/fs/cgroup/ice/cgroup.procs; do usleep 1000; done
        echo 1 >/sys/fs/cgroup/ice/cgroup.freeze; exec sleep 1000";
    let frozen = bundle(&["sh", "-c", part], &name("ice"), true);
    let dir = started(&frozen);
    wait_for("the part is frozen", || {
        fs::read_to_string(dir.join("ice/cgroup.events")).is_ok_and(|e| e.contains("frozen 1"))
    });
    assert_eq!(frozen.state()["status"], "running");
    ok(&frozen.verb(&["pause", "box"]));
    assert_eq!(frozen.state()["status"], "paused");
    ok(&frozen.verb(&["resume", "box"]));
    // What the workload did to itself stays as it was.
    assert!(read(&dir, "ice/cgroup.events").contains("frozen 1"));
    ok(&frozen.delete());
    assert!(!dir.exists());

    // The whole of it, by its own hand: paused, as if by us. Where the tree is mounted with nsdelegate it cannot.
    let script = "echo 1 >/sys/fs/cgroup/cgroup.freeze || echo no >/dev/shm/no; echo on >/dev/shm/on; sleep 1000";
    let whole = bundle(&["sh", "-c", script], &name("all"), true);
    let dir = started(&whole);
    let shm = |file: &str| Path::new(&format!("/proc/{}/root/dev/shm/{file}", whole.pid())).exists();
    let mut refused = false;
    wait_for("it froze, or was not let", || {
        refused = shm("no");
        refused || whole.state()["status"] == "paused"
    });
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let delegates = mounts.lines().any(|l| l.contains(" - cgroup2 ") && l.contains("nsdelegate"));
    assert_eq!(refused, delegates);
    if !refused {
        ok(&whole.verb(&["resume", "box"]));
    }
    wait_for("it goes on", || shm("on"));
    ok(&whole.verb(&["pause", "box"]));
    ok(&whole.verb(&["kill", "box", "KILL"]));
    wait_for("a frozen process dies of SIGKILL", || whole.state()["status"] == "stopped");
    ok(&whole.verb(&["delete", "box"]));
    assert!(!dir.exists());
}

#[test]
fn threaded_cgroups_are_counted_killed_and_removed() {
    let test = "threaded_cgroups_are_counted_killed_and_removed";
    need_root!(test);
    let script = "mkdir -p /sys/fs/cgroup/t/u && echo threaded >/sys/fs/cgroup/t/cgroup.type &&
        echo threaded >/sys/fs/cgroup/t/u/cgroup.type; sleep 1000 & echo $! >/sys/fs/cgroup/t/u/cgroup.threads; wait";
    let bundle = bundle(&["sh", "-c", script], &name("thread"), true);
    let dir = started(&bundle);
    wait_for("a thread in a threaded cgroup", || {
        fs::read_to_string(dir.join("t/u/cgroup.threads")).is_ok_and(|t| !t.trim().is_empty())
    });
    assert_eq!(read(&dir, "cgroup.type"), "domain threaded");
    let inside: i32 = read(&dir, "t/u/cgroup.threads").parse().unwrap();
    assert!(fs::read_to_string(dir.join("t/u/cgroup.procs")).is_err(), "the control: such a file cannot be read");
    assert!(pids(&bundle).contains(&inside));
    ok(&bundle.delete());
    assert!(!dir.exists());
}

#[test]
fn a_workload_that_runs_a_cgroup_manager_of_its_own() {
    let test = "a_workload_that_runs_a_cgroup_manager_of_its_own";
    need_root!(test);
    let limited = controllers(&["pids", "memory"]);
    if !limited {
        skip(&format!("{test}, controllers in sub-cgroups"), "cgroup v2 has none here");
    }
    // What systemd does as PID 1: out of the root of its tree, controllers for the children, a unit with a limit.
    let manager = "cd /sys/fs/cgroup && mkdir init.scope && echo $$ >init.scope/cgroup.procs || exit 1
        for c in $(cat cgroup.controllers); do echo +$c >cgroup.subtree_control; done
        mkdir -p system.slice/x.service
        for c in $(cat cgroup.controllers); do echo +$c >system.slice/cgroup.subtree_control; done
        [ ! -e system.slice/x.service/pids.max ] || echo 5 >system.slice/x.service/pids.max
        (echo max >pids.max) 2>/dev/null && echo raised >/dev/shm/raised
        (echo 1 >cgroup.freeze) 2>/dev/null && echo froze >/dev/shm/raised
        sh -c 'echo $$ >/sys/fs/cgroup/system.slice/x.service/cgroup.procs; exec sleep 1000' &
        cat /proc/self/cgroup >/dev/shm/seen; exec sleep 1000";
    let mut bundle = mapped(bundle(&["sh", "-c", manager], &name("manager"), true));
    if limited {
        bundle.config["linux"]["resources"] = json!({ "pids": { "limit": 50 }, "memory": { "limit": 256 << 20 } });
    }
    let dir = started(&bundle);
    let unit = cgroup_mount().join(name("manager")).join("system.slice/x.service");
    wait_for("the unit runs", || fs::read_to_string(unit.join("cgroup.procs")).is_ok_and(|t| !t.trim().is_empty()));
    let top = cgroup_mount().join(name("manager"));
    assert!(dir.starts_with(&top));
    let service: i32 = read(&unit, "cgroup.procs").parse().unwrap();
    let shm = |file: &str| format!("/proc/{}/root/dev/shm/{file}", bundle.pid());
    wait_for("its own view", || Path::new(&shm("seen")).exists());
    let seen = fs::read_to_string(shm("seen")).unwrap();
    assert!(seen.lines().any(|l| l == "0::/init.scope"), "{seen}");
    assert!(!Path::new(&shm("raised")).exists(), "it changed what is ours to say");
    // Its cgroup is its own, the limits in it are not.
    use std::os::unix::fs::MetadataExt;
    let owner = |file: &str| fs::metadata(top.join(file)).unwrap().uid();
    assert_eq!((owner(""), owner("cgroup.procs"), owner("cgroup.subtree_control")), (700_000, 700_000, 700_000));
    assert_eq!(owner("cgroup.freeze"), 0);
    if limited {
        assert_eq!((owner("pids.max"), owner("memory.max")), (0, 0));
        assert_eq!((read(&unit, "pids.max"), read(&top, "pids.max")), ("5".into(), "50".into()));
    }

    // They survive what we do to the container as a whole,
    ok(&bundle.verb(&["pause", "box"]));
    ok(&bundle.verb(&["resume", "box"]));
    if limited {
        ok(&bundle.verb(&["update", "--pids-limit", "60", "--memory", "300m", "box"]));
        assert_eq!((read(&unit, "pids.max"), read(&top, "pids.max")), ("5".into(), "60".into()));
    }
    assert_eq!(read(&unit, "cgroup.procs"), service.to_string());
    // are counted,
    let listed = pids(&bundle);
    assert!(listed.contains(&service) && listed.contains(&bundle.pid()), "{listed:?}");
    let stats: Value = serde_json::from_str(&ok(&bundle.verb(&["events", "--stats", "box"]))).unwrap();
    if limited {
        assert_eq!(stats["data"]["pids"]["current"].as_u64(), Some(listed.len() as u64), "{stats}");
    }
    // killed,
    ok(&bundle.verb(&["kill", "--all", "box", "KILL"]));
    wait_for("all are dead", || {
        bundle.state()["status"] == "stopped" && !Path::new(&format!("/proc/{service}")).exists()
    });
    // and removed.
    ok(&bundle.verb(&["delete", "box"]));
    assert!(!top.exists());
}

#[test]
fn a_read_only_tree_is_not_given_away() {
    let test = "a_read_only_tree_is_not_given_away";
    need_root!(test);
    use std::os::unix::fs::MetadataExt;
    let owner = |writable: bool| {
        let bundle = mapped(bundle(&["sleep", "1000"], &name(if writable { "rw" } else { "ro" }), writable));
        let owner = fs::metadata(started(&bundle)).unwrap().uid();
        // From inside of its user namespace the way into its cgroup is open, whoever owns it.
        assert_eq!(ok(&bundle.verb(&["exec", "box", "echo", "in"])), "in\n");
        owner
    };
    assert_eq!((owner(false), owner(true)), (0, 700_000));
    // strict mounts it read-only whatever is asked, so it gives nothing away.
    let mut strict = Bundle::silent(&["sleep", "1000"]);
    strict.config["mounts"] = json!([{ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" }]);
    assert_eq!(fs::metadata(started(&strict)).unwrap().uid(), 0);
}

// ------------------------------------------------------------------------------------------------------- whose it is

#[test]
fn a_parent_that_containers_share_goes_with_the_last_of_them() {
    let test = "a_parent_that_containers_share_goes_with_the_last_of_them";
    need_root!(test);
    let top = name("pod");
    for order in [[0, 1], [1, 0]] {
        let pair = [
            bundle(&["sleep", "1000"], &format!("{top}/x/a"), false),
            bundle(&["sleep", "1000"], &format!("{top}/x/b"), false),
        ];
        let dirs = pair.each_ref().map(started);
        ok(&pair[order[0]].delete());
        assert!(!dirs[order[0]].exists() && dirs[order[1]].exists(), "{order:?}");
        ok(&pair[order[1]].delete());
        assert!(!at(&top).exists(), "{order:?}: the parents are still there");
    }
    // What an operator made stays, and what a launch made in it goes.
    fs::create_dir(at(&top)).unwrap();
    let pair = [
        bundle(&["sleep", "1000"], &format!("{top}/x/a"), false),
        bundle(&["sleep", "1000"], &format!("{top}/x/b"), false),
    ];
    pair.iter().for_each(|b| drop(started(b)));
    pair.iter().for_each(|b| drop(ok(&b.delete())));
    let left = at(&top).exists();
    let below = at(&top).join("x").exists();
    fs::remove_dir(at(&top)).unwrap();
    assert!(left && !below, "operator's: {left}, ours: {below}");
}

#[test]
fn containers_of_one_parent_come_and_go_at_the_same_time() {
    let test = "containers_of_one_parent_come_and_go_at_the_same_time";
    need_root!(test);
    let top = name("crowd");
    let bundles: Vec<Bundle> = (0..8).map(|n| bundle(&["true"], &format!("{top}/x/{n}"), false)).collect();
    bundles.iter().for_each(Bundle::write);
    for _ in 0..6 {
        let children: Vec<Child> = bundles
            .iter()
            .map(|b| {
                let path = b.path().display().to_string();
                b.command(&["run", "--bundle", &path, "box"]).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for child in children {
            ok(&child.wait_with_output().unwrap());
        }
        assert!(!at(&top).exists(), "the parents are still there");
    }
}

#[test]
fn the_cgroup_of_a_stopped_container_is_still_its_own() {
    let test = "the_cgroup_of_a_stopped_container_is_still_its_own";
    need_root!(test);
    let path = name("stopped");
    let first = bundle(&["true"], &path, false);
    ok(&first.create());
    ok(&first.verb(&["start", "box"]));
    wait_for("its end", || first.state()["status"] == "stopped");
    assert!(at(&path).exists());
    let second = bundle(&["sleep", "1000"], &path, false);
    let e = failed(&second.create());
    let record = first.root().join("box").display().to_string();
    assert!(e.contains("exists and is in use") && e.contains(&record) && e.contains(&path), "{e}");
    assert!(at(&path).exists() && !second.root().join("box").exists());
    ok(&first.verb(&["delete", "box"]));
    let dir = started(&second);
    assert_eq!(dir, at(&path));
}

#[test]
fn of_launches_at_one_path_at_the_same_time_one_gets_it() {
    let test = "of_launches_at_one_path_at_the_same_time_one_gets_it";
    need_root!(test);
    for round in 0..5 {
        let path = name(&format!("race{round}"));
        let bundles: Vec<Bundle> = (0..6).map(|_| bundle(&["sleep", "1000"], &path, false)).collect();
        bundles.iter().for_each(Bundle::write);
        let children: Vec<Child> = bundles
            .iter()
            .map(|b| {
                let path = b.path().display().to_string();
                let mut command = b.command(&["run", "--detach", "--bundle", &path, "box"]);
                command.stdout(Stdio::null()).stderr(fs::File::create(b.path().join("err")).unwrap()).spawn().unwrap()
            })
            .collect();
        let won: Vec<bool> = children.into_iter().map(|mut c| c.wait().unwrap().success()).collect();
        let said = |b: &Bundle| fs::read_to_string(b.path().join("err")).unwrap();
        assert_eq!(
            won.iter().filter(|w| **w).count(),
            1,
            "{won:?}: {:?}",
            bundles.iter().map(said).collect::<Vec<_>>()
        );
        for (bundle, won) in bundles.iter().zip(won) {
            if won {
                assert_eq!(bundle.state()["status"], "running", "those that lost took it along");
                assert_eq!(cgroup_of(bundle.pid()), at(&path));
            } else {
                assert!(said(bundle).contains("in use") || said(bundle).contains("cgroup"), "{}", said(bundle));
            }
        }
    }
}

#[test]
fn a_cgroup_that_is_taken_and_still_empty_is_not_taken_again() {
    let test = "a_cgroup_that_is_taken_and_still_empty_is_not_taken_again";
    need_root!(test);
    use stockade::cgroup::tree::{self, Claim};
    // The moment that two launches at one path can meet in: made, and nobody in it yet.
    let mount = cgroup_mount();
    let path = format!("/{}", name("moment"));
    let records = [scratch(), scratch()];
    let claim = |n: usize| Claim { launch: format!("box{n}.1.1"), record: records[n].path().to_owned() };
    let take = |n: usize| tree::create(&mount, &path, &[], &[], &claim(n)).map(drop);
    take(0).unwrap();
    for e in [take(1).unwrap_err(), tree::check_unused(&mount, &path, &claim(1)).unwrap_err()] {
        assert!(tree::is_used(&e), "{e}");
        assert!(e.to_string().contains(&records[0].path().display().to_string()), "{e}");
    }
    // A late end of the other leaves it, its own does not.
    tree::remove(&mount, &path, &[], &claim(1).launch).unwrap();
    assert!(mount.join(&path[1..]).exists());
    // With its record gone it is a leftover, and the next one has it for itself.
    fs::remove_dir(records[0].path()).unwrap();
    take(1).unwrap();
    fs::create_dir(records[0].path()).unwrap();
    tree::remove(&mount, &path, &[], &claim(0).launch).unwrap();
    assert!(mount.join(&path[1..]).exists(), "the first still takes itself for the owner");
    tree::remove(&mount, &path, &[], &claim(1).launch).unwrap();
    assert!(!mount.join(&path[1..]).exists());
}

#[test]
fn a_late_delete_leaves_the_cgroup_of_another_alone() {
    let test = "a_late_delete_leaves_the_cgroup_of_another_alone";
    need_root!(test);
    let path = name("late");
    let first = bundle(&["sleep", "1000"], &path, false);
    started(&first);
    let init = first.pid();
    // By hand: its process is killed and its cgroup removed, and another container takes the place.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_for("the cgroup can be removed", || fs::remove_dir(at(&path)).is_ok());
    let second = bundle(&["sleep", "1000"], &path, false);
    let dir = started(&second);
    ok(&first.verb(&["kill", "--all", "box", "KILL"]));
    assert_eq!(ok(&first.verb(&["ps", "--format", "json", "box"])).trim(), "[]");
    ok(&first.delete());
    assert_eq!(second.state()["status"], "running");
    assert!(dir.exists());
    ok(&second.delete());
    assert!(!dir.exists());
}

#[test]
fn what_the_tree_cannot_take_is_refused_by_name() {
    let test = "what_the_tree_cannot_take_is_refused_by_name";
    need_root!(test);
    let top = name("full");
    fs::create_dir(at(&top)).unwrap();
    fs::write(at(&top).join("cgroup.max.depth"), "1").unwrap();
    let e = failed(&bundle(&["true"], &format!("{top}/a/b"), false).run());
    let clean = !at(&top).join("a").exists();
    fs::remove_dir(at(&top)).unwrap();
    assert!(e.contains("EAGAIN") && e.contains(&format!("{top}/a/b")) && e.contains("cgroup.max.depth"), "{e}");
    assert!(clean, "a refused launch left its parent");
    // A name that is a file there.
    let e = failed(&bundle(&["true"], "cgroup.procs", false).run());
    assert!(e.contains("/cgroup.procs") && e.contains("ENOTDIR"), "{e}");
}

// ---------------------------------------------------------------------------------------------------------- honesty

fn findings(bundle: &Bundle) -> Vec<Value> {
    let state = fs::read_to_string(bundle.root().join("box/state.json")).unwrap();
    serde_json::from_str::<Value>(&state).unwrap()["findings"].as_array().unwrap().clone()
}

fn found<'a>(findings: &'a [Value], field: &str) -> Option<&'a Value> {
    findings.iter().find(|f| f["rule"] == "host" && f["field"] == field)
}

#[test]
fn a_limit_that_an_ancestor_overrides_is_a_finding() {
    let test = "a_limit_that_an_ancestor_overrides_is_a_finding";
    need_root!(test);
    if !controllers(&["memory", "pids", "cpu", "cpuset"]) {
        return skip(test, "needs the controllers of cgroup v2");
    }
    let top = name("low");
    let root = cgroup_mount();
    fs::create_dir(at(&top)).unwrap();
    fs::write(root.join("cgroup.subtree_control"), "+memory +pids +cpu +cpuset").unwrap();
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "0"),
        ("pids.max", "20"),
        ("cpu.max", "20000 100000"),
        ("cpuset.cpus", "0"),
    ] {
        fs::write(at(&top).join(file), value).unwrap();
    }
    let mut over = bundle(&["sleep", "1000"], &format!("{top}/a"), false);
    over.config["linux"]["resources"] = json!({
        "memory": { "limit": 134217728, "swap": 268435456 }, "pids": { "limit": 100 },
        "cpu": { "quota": 50000, "period": 100000, "cpus": "0-1" }, "unified": { "memory.high": "1000001" }
    });
    ok(&over.create());
    let list = findings(&over);
    for (field, asked, given) in [
        ("memory.max", "134217728", "67108864"),
        ("memory.swap.max", "134217728", "0"),
        ("pids.max", "100", "20"),
        ("cpu.max", "50000 100000", "20000 100000"),
    ] {
        let f = found(&list, field).unwrap_or_else(|| panic!("{field}: {list:?}"));
        assert_eq!((f["asked"].as_str(), f["given"].as_str()), (Some(asked), Some(given)), "{f}");
        assert!(f["why"].as_str().unwrap().starts_with(&format!("/{top} has less")), "{f}");
    }
    assert_eq!(found(&list, "cpuset.cpus").map(|f| f["given"].clone()), Some("0".into()), "{list:?}");
    // Rounded down to a page is kept; what was not rounded is no finding.
    assert!(found(&list, "memory.high").is_none(), "{list:?}");
    // An update says so, too, and forgets what is true no more.
    ok(&over.verb(&["update", "--pids-limit", "10", "--memory", "256m", "box"]));
    let list = findings(&over);
    assert!(found(&list, "pids.max").is_none(), "{list:?}");
    assert_eq!(found(&list, "memory.max").unwrap()["asked"], "268435456");
    assert!(found(&list, "cpu.max").is_some());
    ok(&over.delete());
    // The control: below all of them, nothing is found.
    let mut under = bundle(&["sleep", "1000"], &format!("{top}/b"), false);
    under.config["linux"]["resources"] = json!({
        "memory": { "limit": 33554432, "swap": 33554432 }, "pids": { "limit": 10 },
        "cpu": { "quota": 10000, "period": 100000, "cpus": "0" }
    });
    ok(&under.create());
    let list = findings(&under);
    assert!(!list.iter().any(|f| f["rule"] == "host"), "{list:?}");
    ok(&under.delete());
    fs::remove_dir(at(&top)).unwrap();
}

#[test]
fn a_controller_that_is_not_delegated_is_named_with_the_place_and_the_remedy() {
    let test = "a_controller_that_is_not_delegated_is_named_with_the_place_and_the_remedy";
    need_root!(test);
    if !controllers(&["memory", "pids", "cpu"]) {
        return skip(test, "needs the controllers of cgroup v2");
    }
    use std::os::unix::fs::chown;
    let top = name("lack");
    fs::create_dir(at(&top)).unwrap();
    fs::write(cgroup_mount().join("cgroup.subtree_control"), "+memory +pids +cpu").unwrap();
    fs::write(at(&top).join("cgroup.subtree_control"), "+pids").unwrap();
    for (user, remedy) in [
        ("plain", format!("echo +memory >/sys/fs/cgroup/{top}/cgroup.subtree_control")),
        ("user@1000.service", "write the two lines [Service] and Delegate=cpu cpuset io memory pids to /etc/systemd/system/user@.service.d/delegate.conf".into()),
    ] {
        // The cgroup of an ordinary user, with pids alone.
        let base = at(&top).join(user);
        let own = base.join("me");
        fs::create_dir(&base).unwrap();
        fs::create_dir(&own).unwrap();
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "me", "me/cgroup.procs"] {
            chown(base.join(file), Some(1000), Some(1000)).unwrap();
        }
        let mut limited = Bundle::silent(&["true"]);
        let state = limited.root();
        fs::create_dir(&state).unwrap();
        chown(&state, Some(1000), Some(1000)).unwrap();
        let move_in = format!("echo $$ >{}/cgroup.procs; exec env HOME=/ setpriv --reuid 1000 --regid 1000 --clear-groups \"$@\"", own.display());
        limited.runner = ["sh", "-c", &move_in, "sh"].map(str::to_owned).to_vec();
        limited.config["linux"] = json!({ "resources": { "memory": { "limit": 67108864 } } });
        let e = failed(&limited.run());
        let place = format!("/{top}/{user} is the first cgroup on the way without it");
        assert!(e.contains("the memory controller is not delegated") && e.contains(&place), "{e}");
        assert!(e.contains(&remedy), "{e}");
        assert!(!state.join("box").exists());
        fs::remove_dir(&own).unwrap();
        fs::remove_dir(&base).unwrap();
    }
    fs::remove_dir(at(&top)).unwrap();
}

// ---------------------------------------------------------------------------------------------------- weights of the disk

#[test]
fn a_weight_of_the_disk_reaches_every_scheduler_that_takes_one() {
    let test = "a_weight_of_the_disk_reaches_every_scheduler_that_takes_one";
    need_root!(test);
    if !controllers(&["io"]) {
        return skip(test, "needs the io controller");
    }
    let with = |label: &str| {
        let mut bundle = bundle(&["sleep", "1000"], &name(label), false);
        bundle.config["linux"]["resources"] = json!({ "blockIO": { "weight": 750 } });
        let dir = started(&bundle);
        let weight = |file: &str| fs::read_to_string(dir.join(file)).ok().map(|t| t.trim().to_owned());
        let before = (weight("io.weight"), weight("io.bfq.weight"));
        ok(&bundle.verb(&["update", "--blkio-weight", "100", "box"]));
        (before, (weight("io.weight"), weight("io.bfq.weight")))
    };
    let said = |io: &str, bfq: Option<&str>| (Some(format!("default {io}")), bfq.map(|w| format!("default {w}")));
    let (launched, updated) = with("cost");
    if launched.1.is_none() {
        assert_eq!((launched, updated), (said("7475", None), said("910", None)));
    }
    if !Command::new("modprobe").arg("bfq").stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return skip(&format!("{test}, BFQ"), "this kernel has no bfq");
    }
    let (launched, updated) = with("bfq");
    assert_eq!((launched, updated), (said("7475", Some("750")), said("910", Some("100"))));

    // A disk of its own under BFQ, and one that has no scheduler with weights.
    let dir = scratch();
    let image = dir.path().join("disk");
    fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let _ = Command::new("modprobe").arg("loop").stderr(Stdio::null()).status();
    let out = Command::new("losetup").args(["--find", "--show"]).arg(&image).output();
    let Some(device) = out.ok().filter(|o| o.status.success()).map(|o| text(&o.stdout).trim().to_owned()) else {
        return skip(&format!("{test}, a disk"), "needs loop devices");
    };
    let scheduler = format!("/sys/block/{}/queue/scheduler", device.trim_start_matches("/dev/"));
    let minor = std::os::unix::fs::MetadataExt::rdev(&fs::metadata(&device).unwrap()) & 0xff;
    let mut heavy = bundle(&["sleep", "1000"], &name("disk"), false);
    heavy.config["linux"]["resources"] =
        json!({ "blockIO": { "weightDevice": [{ "major": 7, "minor": minor, "weight": 500 }] } });
    fs::write(&scheduler, "none").unwrap();
    let refused = heavy.create();
    fs::write(&scheduler, "bfq").unwrap();
    let launched = heavy.create();
    let kept = if launched.status.success() { read(&at(&name("disk")), "io.bfq.weight") } else { String::new() };
    let _ = heavy.delete();
    let _ = Command::new("losetup").args(["--detach", &device]).status();
    ok(&launched);
    assert!(kept.lines().any(|l| l == format!("7:{minor} 500")), "{kept}");
    let e = failed(&refused);
    assert!(e.contains(&format!("7:{minor}")) && e.contains("EOPNOTSUPP") && e.contains("BFQ"), "{e}");
}

// --------------------------------------------------------------------------------------------------- the device program

#[test]
fn an_update_of_device_rules_leaves_no_moment_without_rules() {
    let test = "an_update_of_device_rules_leaves_no_moment_without_rules";
    need_root!(test);
    // /dev/kmsg is always denied and /dev/null always allowed; each round of the loop opens both.
    let script = "mknod /dev/shm/k c 1 11 && mknod /dev/shm/n c 1 3 || exit 1
        n=0; while :; do
            true 2>/dev/null </dev/shm/k && echo open >>/dev/shm/bad
            true 2>/dev/null </dev/shm/n || echo shut >>/dev/shm/bad
            n=$((n+1)); echo $n >/dev/shm/count
        done 2>/dev/null";
    let mut bundle = bundle(&["sh", "-c", script], &name("swap"), false);
    bundle.config["mounts"][3]["options"] = json!(["mode=1777"]);
    let caps = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYSLOG"]);
    bundle.config["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
    let deny = json!({ "allow": false, "access": "rwm" });
    bundle.config["linux"]["resources"] = json!({ "devices": [deny] });
    started(&bundle);
    let shm = |file: &str| format!("/proc/{}/root/dev/shm/{file}", bundle.pid());
    // Between the truncation and the write it is empty.
    let count = || {
        let mut n = None;
        wait_for("a number", || {
            n = fs::read_to_string(shm("count")).ok().and_then(|t| t.trim().parse::<u64>().ok());
            n.is_some()
        });
        n.unwrap()
    };
    wait_for("the loop runs", || count() > 10);
    let before = count();
    let file = bundle.path().join("r.json");
    for round in 0..60 {
        // Another rule comes and goes; what is asserted is in neither.
        let more = json!({ "allow": true, "type": "c", "major": 4, "minor": round % 2, "access": "r" });
        fs::write(&file, json!({ "devices": [deny, more] }).to_string()).unwrap();
        ok(&bundle.verb(&["update", "-r", &file.display().to_string(), "box"]));
    }
    let seen = count() - before;
    assert!(seen > 60, "the loop went round {seen} times only");
    assert_eq!(fs::read_to_string(shm("bad")).unwrap_or_default(), "");
    // The control: the loop notices what it looks for.
    let all = json!({ "devices": [{ "allow": true, "access": "rwm" }] });
    fs::write(&file, all.to_string()).unwrap();
    ok(&bundle.verb(&["update", "-r", &file.display().to_string(), "box"]));
    wait_for("an open where all is allowed", || fs::read_to_string(shm("bad")).is_ok_and(|t| t.contains("open")));
}

#[test]
fn a_cgroup_that_is_frozen_takes_nobody_in() {
    let test = "a_cgroup_that_is_frozen_takes_nobody_in";
    need_root!(test);
    let (top, below) = (name("frozen"), format!("{}/below", name("frozen")));
    if fs::create_dir(at(&top)).is_err() {
        return skip(test, "no cgroup can be made at the top");
    }
    fs::write(at(&top).join("cgroup.freeze"), "1").unwrap();
    // A process that was cloned into it would never run, and `run` would wait for it for ever.
    for path in [&top, &below] {
        let bundle = bundle(&["true"], path, false);
        let e = failed(&bundle.run());
        assert!(e.contains("container's cgroup unexpectedly frozen") && e.contains(path.as_str()), "{e}");
        assert!(at(&top).exists() && !at(&below).exists(), "it is as it was");
    }
    fs::write(at(&top).join("cgroup.freeze"), "0").unwrap();
    ok(&bundle(&["true"], &below, false).run());
    fs::remove_dir(at(&top)).unwrap();
}

// --------------------------------------------------------------------------------------------------- as people say them

#[test]
fn limits_are_said_in_the_same_words_everywhere() {
    let test = "limits_are_said_in_the_same_words_everywhere";
    need_root!(test);
    if !controllers(&["memory", "pids", "cpu"]) {
        return skip(test, "needs the controllers of cgroup v2");
    }
    let running = bundle(&["sleep", "1000"], &name("words"), false);
    let dir = started(&running);
    for pids in ["--pids", "--pids-limit"] {
        let words = ["--memory", "1.5g", "--cpus", "1.5", pids, "40"];
        ok(&running.verb(&[&["update"], &words[..], &["box"]].concat()));
        assert_eq!(
            [read(&dir, "memory.max"), read(&dir, "cpu.max"), read(&dir, "pids.max")],
            ["1610612736".to_owned(), "150000 100000".to_owned(), "40".to_owned()]
        );
        ok(&running.verb(&["update", "--memory=-1", "--pids-limit=-1", "--cpu-quota=-1", "box"]));
        let explained = ok(&running.verb(&[&["sandbox", "--explain"], &words[..], &["--", "true"]].concat()));
        assert!(explained.contains("1.5 CPU") || explained.contains("150000 100000"), "{explained}");
        assert!(explained.contains("pids 40") || explained.contains("40"), "{explained}");
    }
    for (flag, value) in [("--memory", "lots"), ("--cpus", "0"), ("--memory", "1.5x")] {
        for verb in [&["update", flag, value, "box"][..], &["sandbox", flag, value, "--", "true"][..]] {
            let e = failed(&running.verb(verb));
            assert!(e.contains(flag) && e.contains(value), "{e}");
        }
    }
}
