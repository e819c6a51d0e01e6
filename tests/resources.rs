//! A container's cgroup while it runs: update, pause, resume, ps, events, kill --all; and what is refused where cgroup v2
//! is not there. What needs controllers runs in the VM.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
use common::*;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

/// A started container whose cgroup is at `/sys/fs/cgroup<path>`.
fn started(mut bundle: Bundle, resources: Value) -> (Bundle, PathBuf) {
    bundle.config["linux"]["resources"] = resources;
    ok(&bundle.create());
    ok(&bundle.verb(&["start", "box"]));
    let dir = cgroup_of(bundle.pid());
    (bundle, dir)
}

fn cgroup_of(pid: i32) -> PathBuf {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text.lines().find_map(|l| l.strip_prefix("0::")).unwrap().to_owned();
    cgroup_mount().join(path.trim_start_matches('/'))
}

fn read(dir: &std::path::Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file)).unwrap_or_else(|e| panic!("{file}: {e}")).trim().to_owned()
}

fn sleeper() -> Bundle {
    Bundle::usual(&["sleep", "1000"]).policy("oci")
}

const ALL: [&str; 5] = ["memory", "cpu", "pids", "io", "cpuset"];

#[test]
fn every_file_is_written_as_asked() {
    let name = "every_file_is_written_as_asked";
    need_root!(name);
    if !controllers(&ALL) {
        return skip(name, "needs the controllers of cgroup v2");
    }
    let (_bundle, dir) = started(
        sleeper(),
        json!({
            "memory": { "limit": 67108864, "swap": 100663296, "reservation": 33554432 },
            "cpu": { "shares": 1024, "quota": 50000, "period": 100000, "burst": 10000, "cpus": "0", "mems": "0" },
            "pids": { "limit": 33 },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 4194304 }],
            "unified": { "memory.high": "60000000", "memory.oom.group": "1" }
        }),
    );
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("memory.high", "59998208"),
        ("memory.oom.group", "1"),
        ("cpu.weight", "100"),
        ("cpu.max", "50000 100000"),
        ("cpu.max.burst", "10000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "33"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
    ] {
        if dir.join(file).exists() || !file.starts_with("hugetlb") {
            assert_eq!(read(&dir, file), value, "{file}");
        }
    }
}

#[test]
fn update_changes_what_it_names_and_keeps_the_rest() {
    let name = "update_changes_what_it_names_and_keeps_the_rest";
    need_root!(name);
    if !controllers(&ALL) {
        return skip(name, "needs the controllers of cgroup v2");
    }
    let limits = json!({ "memory": { "limit": 67108864, "swap": 67108864 }, "cpu": { "quota": 50000, "period": 100000 }, "pids": { "limit": 30 } });
    let (bundle, dir) = started(sleeper(), limits);
    ok(&bundle.verb(&["update", "--memory", "128m", "--pids-limit", "40", "box"]));
    assert_eq!((read(&dir, "memory.max"), read(&dir, "pids.max")), ("134217728".into(), "40".into()));
    assert_eq!((read(&dir, "cpu.max"), read(&dir, "memory.swap.max")), ("50000 100000".into(), "0".into()));
    // Options after the id, a period alone keeps the quota, a quota alone the period.
    ok(&bundle.verb(&["update", "box", "--cpu-period", "200000"]));
    assert_eq!(read(&dir, "cpu.max"), "50000 200000");
    ok(&bundle.verb(&["update", "--cpu-quota", "70000", "box"]));
    assert_eq!(read(&dir, "cpu.max"), "70000 200000");
    ok(&bundle.verb(&["update", "--cpus", "1.5", "box"]));
    assert_eq!(read(&dir, "cpu.max"), "150000 100000");
    ok(&bundle.verb(&["update", "--memory-swap", "256m", "box"]));
    assert_eq!(read(&dir, "memory.swap.max"), "134217728");
    ok(&bundle.verb(&["update", "--memory=-1", "--memory-swap=-1", "--pids-limit=-1", "box"]));
    assert_eq!((read(&dir, "memory.max"), read(&dir, "pids.max")), ("max".into(), "max".into()));
    // As containerd does it: JSON on stdin, 0 means unset.
    let file = bundle.path().join("r.json");
    std::fs::write(&file, r#"{"memory":{"limit":99999744},"cpu":{"shares":2048,"quota":0,"period":0},"pids":{"limit":0},"blockIO":{"weight":0}}"#).unwrap();
    let mut command = bundle.command(&["update", "--resources", "-", "box"]);
    ok(&command.stdin(std::fs::File::open(&file).unwrap()).output().unwrap());
    assert_eq!((read(&dir, "memory.max"), read(&dir, "cpu.max")), ("99999744".into(), "150000 100000".into()));
    assert_eq!(read(&dir, "pids.max"), "max");
    // A paused container is updated and stays paused.
    ok(&bundle.verb(&["pause", "box"]));
    ok(&bundle.verb(&["update", "--pids-limit", "50", "box"]));
    assert_eq!(read(&dir, "pids.max"), "50");
    assert_eq!(bundle.state()["status"], "paused");
    ok(&bundle.verb(&["resume", "box"]));
    // Refusals name the field and change nothing.
    assert!(failed(&bundle.verb(&["update", "--cpu-rt-period", "5", "box"])).contains("realtime"));
    assert!(failed(&bundle.verb(&["update", "--memory", "lots", "box"])).contains("lots"));
    std::fs::write(&file, r#"{"memory":{"limit":"x"}}"#).unwrap();
    assert!(failed(&bundle.verb(&["update", "-r", &file.display().to_string(), "box"])).contains("memory.limit"));
    std::fs::write(&file, r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#).unwrap();
    assert!(
        failed(&bundle.verb(&["update", "-r", &file.display().to_string(), "box"])).contains("rejecting memory limit")
    );
    assert_eq!(read(&dir, "memory.max"), "99999744");
}

#[test]
fn pause_stops_everything_and_resume_lets_it_go_on() {
    let name = "pause_stops_everything_and_resume_lets_it_go_on";
    need_root!(name);
    let bundle = Bundle::usual(&["sh", "-c", "while :; do echo x >>/dev/shm/n; usleep 1000; done"]).policy("oci");
    let (bundle, dir) = started(bundle, json!({}));
    let count = || {
        let path = format!("/proc/{}/root/dev/shm/n", bundle.pid());
        std::fs::metadata(path).map_or(0, |m| m.len())
    };
    wait_for("the loop runs", || count() > 4);
    assert!(failed(&bundle.verb(&["resume", "box"])).contains("running"));
    ok(&bundle.verb(&["pause", "box"]));
    assert_eq!(bundle.state()["status"], "paused");
    assert!(read(&dir, "cgroup.events").contains("frozen 1"));
    let before = count();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(count(), before, "a paused container went on");
    assert!(failed(&bundle.verb(&["pause", "box"])).contains("paused"));
    assert!(failed(&bundle.verb(&["delete", "box"])).contains("paused"));
    ok(&bundle.verb(&["resume", "box"]));
    wait_for("it goes on", || count() > before);
    // A paused container can be killed and deleted.
    ok(&bundle.verb(&["pause", "box"]));
    ok(&bundle.verb(&["delete", "--force", "box"]));
    assert!(!dir.exists());
    assert!(failed(&bundle.verb(&["pause", "box"])).contains("does not exist"));
}

#[test]
fn ps_knows_processes_in_cgroups_of_the_workload() {
    let name = "ps_knows_processes_in_cgroups_of_the_workload";
    need_root!(name);
    // A container that runs its own cgroup manager: it moves a child into a cgroup below its own.
    let mut bundle = Bundle::usual(&["sh", "-c", "mkdir /sys/fs/cgroup/mine && sleep 1000 & sleep 1000"]).policy("oci");
    bundle.config["process"]["args"] = json!([
        "sh",
        "-c",
        "mkdir /sys/fs/cgroup/mine && sh -c 'echo $$ >/sys/fs/cgroup/mine/cgroup.procs && exec sleep 1000' & sleep 1000"
    ]);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts[6]["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
    let (bundle, dir) = started(bundle, json!({}));
    wait_for("the sub-cgroup is used", || {
        std::fs::read_to_string(dir.join("mine/cgroup.procs")).is_ok_and(|t| !t.trim().is_empty())
    });
    let out = ok(&bundle.verb(&["ps", "--format", "json", "box"]));
    let pids: Vec<i32> = serde_json::from_str(&out).unwrap();
    let inside: i32 = read(&dir, "mine/cgroup.procs").parse().unwrap();
    assert!(pids.contains(&inside) && pids.contains(&bundle.pid()) && pids.len() >= 2, "{pids:?}");
    let table = bundle.verb(&["ps", "box"]);
    assert!(table.stderr.is_empty(), "ps must be quiet");
    let table = ok(&table);
    assert!(table.lines().next().unwrap().starts_with("UID") && table.contains("PPID"), "{table}");
    assert_eq!(table.lines().count() - 1, pids.len(), "{table}");
    ok(&bundle.verb(&["kill", "--all", "box", "KILL"]));
    wait_for("all are dead", || pids.iter().all(|p| proc_status(*p, "State").is_none_or(|s| s.starts_with('Z'))));
    wait_for("stopped", || bundle.state()["status"] == "stopped");
    ok(&bundle.verb(&["kill", "--all", "box", "0"]));
    assert_eq!(ok(&bundle.verb(&["ps", "--format", "json", "box"])).trim(), "[]");
    ok(&bundle.verb(&["delete", "box"]));
    assert!(!dir.exists(), "the workload's own cgroup kept ours alive");
}

#[test]
fn statistics_are_the_files_of_the_cgroup() {
    let name = "statistics_are_the_files_of_the_cgroup";
    need_root!(name);
    let (bundle, dir) = started(sleeper(), json!({}));
    let line = ok(&bundle.verb(&["events", "--stats", "box"]));
    assert!(line.starts_with(r#"{"type":"stats","id":"box","data":{"#), "{line}");
    let data = serde_json::from_str::<Value>(&line).unwrap()["data"].clone();
    for key in ["cpu", "memory", "pids", "blkio", "hugetlb"] {
        assert!(data[key].is_object(), "{key}");
    }
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    if controllers(&ALL) {
        assert_eq!(data["pids"]["current"].to_string(), read(&dir, "pids.current"));
        assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
        assert_eq!(data["memory"]["usage"]["limit"].as_u64(), Some(u64::MAX));
        assert!(data["memory"]["raw"]["anon"].is_u64());
    }
    // The stream ends when the container does.
    let mut stream = bundle.command(&["events", "--interval", "20ms", "box"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(stream.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with(r#"{"type":"stats""#));
    ok(&bundle.verb(&["kill", "box", "KILL"]));
    wait_for("the stream ends", || stream.try_wait().unwrap().is_some());
    assert!(failed(&bundle.verb(&["events", "--stats", "box"])).contains("container not running"));
}

#[test]
fn an_oom_kill_is_an_event() {
    let name = "an_oom_kill_is_an_event";
    need_root!(name);
    if !controllers(&ALL) {
        return skip(name, "needs the memory controller");
    }
    let script = "while [ ! -e /dev/shm/go ]; do usleep 10000; done; head -c 100m /dev/zero | tail -n 1; sleep 1000";
    let bundle = Bundle::usual(&["sh", "-c", script]).policy("oci");
    let (bundle, _) = started(bundle, json!({ "memory": { "limit": 33554432, "swap": 33554432 } }));
    let mut stream = bundle.command(&["events", "--interval", "1h", "box"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(stream.stdout.take().unwrap()).lines();
    // The stream is watching once the process sleeps in poll(2), system call 7.
    let monitor = format!("/proc/{}/syscall", stream.id());
    wait_for("the monitor waits", || std::fs::read_to_string(&monitor).is_ok_and(|w| w.starts_with("7 ")));
    std::fs::write(format!("/proc/{}/root/dev/shm/go", bundle.pid()), "").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), r#"{"type":"oom","id":"box"}"#);
    assert_eq!(bundle.state()["status"], "running", "only the hungry process died");
    ok(&bundle.delete());
    wait_for("the stream ends", || stream.try_wait().unwrap().is_some());
}

#[test]
fn a_hundred_containers_freeze_die_and_go() {
    let name = "a_hundred_containers_freeze_die_and_go";
    need_root!(name);
    let bundle = sleeper();
    bundle.write();
    let dir = bundle.path().display().to_string();
    let ids: Vec<String> = (0..100).map(|n| format!("many{n}")).collect();
    let mut cgroups = Vec::new();
    for id in &ids {
        let status = bundle
            .command(&["run", "-d", "--bundle", &dir, id])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let state: Value = serde_json::from_slice(&bundle.verb(&["state", id]).stdout).unwrap();
        cgroups.push(cgroup_of(state["pid"].as_i64().unwrap() as i32));
    }
    let all = |verb: &[&str]| {
        let children: Vec<_> = ids
            .iter()
            .map(|id| {
                bundle
                    .command(&[verb, &[id.as_str()]].concat())
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for child in children {
            ok(&child.wait_with_output().unwrap());
        }
    };
    all(&["pause"]);
    assert!(cgroups.iter().all(|dir| read(dir, "cgroup.events").contains("frozen 1")));
    all(&["delete", "--force"]);
    assert!(cgroups.iter().all(|dir| !dir.exists()));
    assert_eq!(ok(&bundle.verb(&["list", "--quiet"])), "");
}

#[test]
fn an_io_throttle_holds() {
    let name = "an_io_throttle_holds";
    need_root!(name);
    if !controllers(&ALL) {
        return skip(name, "needs the io controller");
    }
    // A disk of our own: a loop device over a file.
    let dir = scratch();
    let image = dir.path().join("disk");
    std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    // A module where it is not built in.
    let _ = std::process::Command::new("modprobe").arg("loop").stderr(Stdio::null()).status();
    let out = std::process::Command::new("losetup").args(["--find", "--show", "--direct-io=off"]).arg(&image).output();
    let Some(device) = out.ok().filter(|o| o.status.success()).map(|o| text(&o.stdout).trim().to_owned()) else {
        return skip(name, "needs loop devices");
    };
    let rdev = std::os::unix::fs::MetadataExt::rdev(&std::fs::metadata(&device).unwrap());
    let minor = rdev & 0xff;
    let mut bundle = Bundle::usual(&[
        "sh",
        "-c",
        "cat /proc/uptime; dd if=/dev/disk of=/dev/null bs=64k count=128 iflag=direct 2>/dev/null && cat /proc/uptime",
    ])
    .policy("oci");
    bundle.config["linux"]["devices"] =
        json!([{ "path": "/dev/disk", "type": "b", "major": 7, "minor": minor, "fileMode": 0o600 }]);
    let rate = 2 << 20;
    bundle.config["linux"]["resources"] = json!({
        "devices": [{ "allow": false, "access": "rwm" }, { "allow": true, "type": "b", "major": 7, "minor": minor, "access": "r" }],
        "blockIO": { "throttleReadBpsDevice": [{ "major": 7, "minor": minor, "rate": rate }] }
    });
    let out = bundle.run();
    let _ = std::process::Command::new("losetup").args(["--detach", &device]).status();
    let said = ok(&out);
    let clock: Vec<f64> = said.lines().map(|l| l.split(' ').next().unwrap().parse().unwrap()).collect();
    // 8 MiB at 2 MiB a second, within a fifth; to start a program takes a moment of its own.
    let took = clock[1] - clock[0];
    assert!((4.0 * 0.8..=4.0 * 1.2 + 0.3).contains(&took), "8 MiB took {took:.1} s");
}

#[test]
fn devices_outside_the_list_are_denied() {
    let name = "devices_outside_the_list_are_denied";
    need_root!(name);
    let script = "mknod /dev/shm/k c 1 11 2>&1; head -c1 /dev/shm/k 2>&1 | head -c 200; mknod /dev/shm/n c 1 3; echo hi >/dev/shm/n && echo null; head -c 1 /dev/urandom >/dev/null && echo random";
    let mut bundle = Bundle::usual(&["sh", "-c", script]).policy("oci");
    // The mounts' own nodev would hide what the device program does.
    bundle.config["mounts"][3]["options"] = json!(["mode=1777"]);
    // CAP_SYSLOG: the open of /dev/kmsg itself asks for it, so that only the device program is in question.
    let caps = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYSLOG"]);
    bundle.config["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
    bundle.config["linux"]["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    let out = ok(&bundle.run());
    assert!(out.contains("Operation not permitted") && out.contains("null\n") && out.contains("random\n"), "{out}");
    // The control: allowed, it opens.
    bundle.config["linux"]["resources"]["devices"] = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" }]);
    bundle.config["process"]["args"] = json!(["sh", "-c", "mknod /dev/shm/k c 1 11 && exec 3</dev/shm/k && echo open"]);
    assert_eq!(ok(&bundle.run()), "open\n");
}

#[test]
fn an_update_replaces_the_device_program() {
    let name = "an_update_replaces_the_device_program";
    need_root!(name);
    let script = "mknod /dev/shm/k c 1 11; while :; do ( exec 3</dev/shm/k ) 2>/dev/null && echo open || echo shut; usleep 20000; done >/dev/shm/log";
    let mut bundle = Bundle::usual(&["sh", "-c", script]).policy("oci");
    bundle.config["mounts"][3]["options"] = json!(["mode=1777"]);
    let caps = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYSLOG"]);
    bundle.config["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
    let (bundle, _) = started(bundle, json!({ "devices": [{ "allow": false, "access": "rwm" }] }));
    let log = format!("/proc/{}/root/dev/shm/log", bundle.pid());
    let says = |word: &str| std::fs::read_to_string(&log).is_ok_and(|l| l.lines().last() == Some(word));
    wait_for("shut", || says("shut"));
    let update = |rules: Value| {
        let file = bundle.path().join("r.json");
        std::fs::write(&file, json!({ "devices": rules }).to_string()).unwrap();
        ok(&bundle.verb(&["update", "-r", &file.display().to_string(), "box"]));
    };
    let deny = json!({ "allow": false, "access": "rwm" });
    update(json!([deny, { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" }]));
    wait_for("open", || says("open"));
    // One that says nothing of devices leaves them; one that denies shuts again, and the defaults stay.
    update(json!([]));
    wait_for("still open", || says("open"));
    update(json!([deny]));
    wait_for("shut again", || says("shut"));
    ok(&bundle.delete());
}

#[test]
fn a_host_without_controllers_refuses_by_name() {
    let name = "a_host_without_controllers_refuses_by_name";
    need_root!(name);
    if controllers(&["memory"]) {
        return skip(name, "this host has the controllers");
    }
    for (resources, words) in [
        (
            json!({ "memory": { "limit": 67108864 } }),
            "memory.max=67108864 cannot be enforced: the memory controller is on cgroup v1",
        ),
        (json!({ "cpu": { "shares": 512 } }), "cpu.weight"),
        (json!({ "pids": { "limit": 5 } }), "pids.max=5"),
        (json!({ "blockIO": { "weight": 500 } }), "io.weight"),
    ] {
        let mut bundle = sleeper();
        bundle.config["linux"]["resources"] = resources;
        let e = failed(&bundle.run());
        assert!(e.contains(words) && e.contains("hint:"), "{e}");
        assert!(!bundle.root().join("box").exists());
    }
    let (bundle, _) = started(sleeper(), json!({}));
    let e = failed(&bundle.verb(&["update", "--memory", "64m", "box"]));
    assert!(e.contains("memory.max"), "{e}");
}
