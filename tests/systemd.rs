//! The systemd driver: `--systemd-cgroup` against a real systemd as PID 1, in the VM (`tests/vm/run --systemd`), as root and
//! by a user's own manager.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
use common::*;
use serde_json::json;
use std::process::Command;

/// None, and a loud skip, where no systemd manages this host.
fn managed(name: &str) -> Option<bool> {
    let user = !is_root();
    let bus = if user {
        std::env::var("XDG_RUNTIME_DIR").map(|d| format!("{d}/bus")).unwrap_or_default()
    } else {
        "/run/dbus/system_bus_socket".to_owned()
    };
    if std::path::Path::new("/run/systemd/system").exists() && std::path::Path::new(&bus).exists() {
        return Some(user);
    }
    skip(name, "needs systemd as PID 1 and its D-Bus");
    None
}

fn show(user: bool, unit: &str, property: &str) -> String {
    let mut command = Command::new("systemctl");
    if user {
        command.arg("--user");
    }
    let out = command.args(["show", unit, "--property", property, "--value"]).output().unwrap();
    text(&out.stdout).trim().to_owned()
}

fn bundle(command: &[&str], user: bool) -> Bundle {
    let mut bundle = if user { Bundle::silent(command) } else { Bundle::usual(command).policy("oci") };
    bundle.global.push("--systemd-cgroup".into());
    if bundle.config["linux"].is_null() {
        bundle.config["linux"] = json!({});
    }
    bundle
}

fn cgroup(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap().trim().trim_start_matches("0::").to_owned()
}

fn file(path: &str, name: &str) -> String {
    std::fs::read_to_string(format!("/sys/fs/cgroup{path}/{name}")).unwrap_or_default().trim().to_owned()
}

/// systemd's own copy of every limit, against the file of the cgroup.
fn agree(user: bool, unit: &str, path: &str, all: &[(&str, &str, &str, &str)]) {
    for (name, value, limit, content) in all {
        assert_eq!(show(user, unit, name), *value, "{name}");
        assert_eq!(file(path, limit), *content, "{limit}");
    }
}

fn reload(user: bool) {
    let mut reload = Command::new("systemctl");
    if user {
        reload.arg("--user");
    }
    assert!(reload.arg("daemon-reload").status().unwrap().success());
}

#[test]
fn a_scope_with_its_limits_as_properties() {
    let Some(user) = managed("a_scope_with_its_limits_as_properties") else { return };
    let mut b = bundle(&["sleep", "1000"], user);
    let slice = if user { "app.slice" } else { "machine.slice" };
    let unit = "st-props.scope";
    b.config["linux"]["cgroupsPath"] = format!("{slice}:st:props").into();
    b.config["linux"]["resources"] = json!({
        "memory": { "limit": 67108864, "swap": 100663296, "reservation": 33554432 }, "pids": { "limit": 21 },
    });
    let mut all = vec![
        ("MemoryMax", "67108864", "memory.max", "67108864"),
        ("MemorySwapMax", "33554432", "memory.swap.max", "33554432"),
        ("MemoryLow", "33554432", "memory.low", "33554432"),
        ("TasksMax", "21", "pids.max", "21"),
    ];
    // A user's manager is delegated memory and pids by default, and what the administrator adds.
    let more = delegated(user, &["cpu", "cpuset", "io"]);
    if more {
        b.config["linux"]["resources"]["cpu"] =
            json!({ "shares": 1024, "quota": 75000, "period": 50000, "cpus": "0-1", "mems": "0" });
        b.config["linux"]["resources"]["blockIO"] = json!({ "weight": 750 });
        all.extend([
            ("CPUWeight", "100", "cpu.weight", "100"),
            ("CPUQuotaPerSecUSec", "1.500000s", "cpu.max", "75000 50000"),
            ("CPUQuotaPeriodUSec", "50ms", "cpu.max", "75000 50000"),
            ("AllowedCPUs", "0-1", "cpuset.cpus", "0-1"),
            ("AllowedMemoryNodes", "0", "cpuset.mems", "0"),
            ("IOWeight", "7475", "io.weight", "default 7475"),
        ]);
    } else {
        skip("a_scope_with_its_limits_as_properties, cpu cpuset io", "not delegated to this user's manager");
    }
    b.config["annotations"] = json!({ "org.systemd.property.CollectMode": "'inactive-or-failed'" });
    ok(&b.create());
    ok(&b.verb(&["start", "box"]));
    let path = cgroup(b.pid());
    assert!(path.ends_with(&format!("/{slice}/{unit}")), "{path}");
    agree(user, unit, &path, &all);
    assert_eq!(show(user, unit, "Delegate"), "yes");
    assert_eq!(show(user, unit, "CollectMode"), "inactive-or-failed");
    reload(user);
    agree(user, unit, &path, &all);

    // An update is a property, too: a reload of systemd does not undo it.
    ok(&b.verb(&[
        "update",
        "--memory",
        "128m",
        "--memory-swap",
        "128m",
        "--memory-reservation",
        "16m",
        "--pids",
        "22",
        "box",
    ]));
    let mut all = vec![
        ("MemoryMax", "134217728", "memory.max", "134217728"),
        ("MemorySwapMax", "0", "memory.swap.max", "0"),
        ("MemoryLow", "16777216", "memory.low", "16777216"),
        ("TasksMax", "22", "pids.max", "22"),
    ];
    if more {
        // A quota alone is of the period that it has.
        ok(&b.verb(&["update", "--cpu-quota", "25000", "--cpu-share", "2048", "--cpuset-cpus", "0", "box"]));
        all.extend([
            ("CPUQuotaPerSecUSec", "500ms", "cpu.max", "25000 50000"),
            ("CPUQuotaPeriodUSec", "50ms", "cpu.max", "25000 50000"),
            ("CPUWeight", "174", "cpu.weight", "174"),
            ("AllowedCPUs", "0", "cpuset.cpus", "0"),
        ]);
    }
    agree(user, unit, &path, &all);
    reload(user);
    agree(user, unit, &path, &all);
    // A limit that is lifted is lifted there as well.
    ok(&b.verb(&["update", "--memory=-1", "--memory-swap=-1", "--pids-limit=-1", "box"]));
    agree(
        user,
        unit,
        &path,
        &[("MemoryMax", "infinity", "memory.max", "max"), ("TasksMax", "infinity", "pids.max", "max")],
    );
    // Pause, resume and delete work on a scope as on any cgroup.
    ok(&b.verb(&["pause", "box"]));
    assert_eq!(b.state()["status"], "paused");
    ok(&b.verb(&["resume", "box"]));
    ok(&b.verb(&["pause", "box"]));
    ok(&b.verb(&["delete", "--force", "box"]));
    assert_eq!(show(user, unit, "LoadState"), "not-found");
    assert!(!std::path::Path::new(&format!("/sys/fs/cgroup{path}")).exists());
}

/// Whether the manager has these controllers to give.
fn delegated(user: bool, wanted: &[&str]) -> bool {
    let base = if user {
        let uid = nix::unistd::geteuid();
        format!("/user.slice/user-{uid}.slice/user@{uid}.service")
    } else {
        String::new()
    };
    let have = file(&base, "cgroup.controllers");
    wanted.iter().all(|w| have.split_whitespace().any(|h| h == *w))
}

#[test]
fn the_promises_of_limits_hold_in_a_scope() {
    let Some(user) = managed("the_promises_of_limits_hold_in_a_scope") else { return };
    // Processes: one that forks until it may not, and goes on; events and ps count what is there.
    let forks = "BEGIN { for (i = 0; i < 20; i++) system(\"sleep 1000 &\"); while (1) system(\"usleep 100000\") }";
    let mut b = bundle(&["awk", forks], user);
    b.config["linux"]["cgroupsPath"] = "::forks".into();
    b.config["linux"]["resources"] = json!({ "pids": { "limit": 8 } });
    ok(&b.create());
    ok(&b.verb(&["start", "box"]));
    let path = cgroup(b.pid());
    wait_for("a fork that fails", || file(&path, "pids.events") != "max 0");
    // Nobody comes and goes meanwhile.
    ok(&b.verb(&["pause", "box"]));
    let pids: Vec<i32> = serde_json::from_str(&ok(&b.verb(&["ps", "--format", "json", "box"]))).unwrap();
    let mut inside: Vec<i32> = file(&path, "cgroup.procs").lines().map(|l| l.parse().unwrap()).collect();
    inside.sort_unstable();
    assert!((2..=8).contains(&inside.len()) && pids == inside, "{pids:?} {inside:?}");
    let stats: serde_json::Value = serde_json::from_str(&ok(&b.verb(&["events", "--stats", "box"]))).unwrap();
    assert_eq!(stats["data"]["pids"]["limit"], 8, "{stats}");
    assert_eq!(b.state()["status"], "paused");
    ok(&b.verb(&["resume", "box"]));
    ok(&b.verb(&["kill", "--all", "box", "KILL"]));
    wait_for("stopped", || b.state()["status"] == "stopped");
    ok(&b.verb(&["delete", "box"]));
    assert_eq!(show(user, "forks.scope", "LoadState"), "not-found");

    // Memory: who wants more is killed, inside, and events tells.
    let script = "while [ ! -e /dev/shm/go ]; do usleep 10000; done; head -c 100m /dev/zero | tail -n 1; sleep 1000";
    let mut b = bundle(&["sh", "-c", script], user);
    b.config["linux"]["cgroupsPath"] = "::hungry".into();
    b.config["linux"]["resources"] = json!({ "memory": { "limit": 33554432, "swap": 33554432 } });
    ok(&b.create());
    ok(&b.verb(&["start", "box"]));
    let path = cgroup(b.pid());
    let mut stream =
        b.command(&["events", "--interval", "1h", "box"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let monitor = format!("/proc/{}/syscall", stream.id());
    wait_for("the monitor waits", || std::fs::read_to_string(&monitor).is_ok_and(|w| w.starts_with("7 ")));
    std::fs::write(format!("/proc/{}/root/dev/shm/go", b.pid()), "").unwrap();
    use std::io::BufRead;
    let mut lines = std::io::BufReader::new(stream.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), r#"{"type":"oom","id":"box"}"#);
    assert!(file(&path, "memory.events").lines().any(|l| l == "oom_kill 1"), "{}", file(&path, "memory.events"));
    ok(&b.delete());
    wait_for("the stream ends", || stream.try_wait().unwrap().is_some());
    assert_eq!(show(user, "hungry.scope", "LoadState"), "not-found");

    // CPU: half of one.
    if !delegated(user, &["cpu"]) {
        return skip("the_promises_of_limits_hold_in_a_scope, cpu", "not delegated to this user's manager");
    }
    let mut b = bundle(&["sh", "-c", "while :; do :; done"], user);
    b.config["linux"]["cgroupsPath"] = "::busy".into();
    b.config["linux"]["resources"] = json!({ "cpu": { "quota": 50000, "period": 100000 } });
    ok(&b.create());
    ok(&b.verb(&["start", "box"]));
    let path = cgroup(b.pid());
    let used = || {
        let text = file(&path, "cpu.stat");
        text.lines().find_map(|l| l.strip_prefix("usage_usec ")?.parse::<f64>().ok()).unwrap()
    };
    wait_for("it is throttled", || !file(&path, "cpu.stat").contains("nr_throttled 0"));
    let (began, before) = (std::time::Instant::now(), used());
    std::thread::sleep(std::time::Duration::from_secs(6));
    let share = (used() - before) / began.elapsed().as_micros() as f64;
    // Another test may be running: what is promised is the ceiling.
    assert!((0.1..=0.55).contains(&share), "half a CPU was given, {share:.3} used");
    ok(&b.delete());
}

#[test]
fn twenty_scopes_freeze_die_and_go() {
    let Some(user) = managed("twenty_scopes_freeze_die_and_go") else { return };
    let b = bundle(&["sleep", "1000"], user);
    b.write();
    let dir = b.path().display().to_string();
    let ids: Vec<String> = (0..20).map(|n| format!("many{n}")).collect();
    let all = |verb: &[&str]| {
        let start = |id: &String| {
            let words: Vec<&str> = verb.iter().copied().chain([id.as_str()]).collect();
            let err = std::fs::File::create(b.path().join(format!("{id}.err"))).unwrap();
            b.command(&words).stdout(std::process::Stdio::null()).stderr(err).spawn().unwrap()
        };
        for (mut child, id) in ids.iter().map(start).collect::<Vec<_>>().into_iter().zip(&ids) {
            let done = child.wait().unwrap().success();
            assert!(done, "{verb:?} {id}: {}", std::fs::read_to_string(b.path().join(format!("{id}.err"))).unwrap());
        }
    };
    all(&["run", "--detach", "--bundle", &dir]);
    let loaded =
        || ids.iter().filter(|id| show(user, &format!("stockade-{id}.scope"), "LoadState") == "loaded").count();
    assert_eq!(loaded(), 20);
    all(&["pause"]);
    all(&["delete", "--force"]);
    assert_eq!(loaded(), 0);
    assert_eq!(ok(&b.verb(&["list", "--quiet"])), "");
}

#[test]
fn a_unit_of_somebody_else_is_never_stopped() {
    let Some(user) = managed("a_unit_of_somebody_else_is_never_stopped") else { return };
    // Names of units are global: this one lies in another slice, so its cgroup is not where ours would be.
    let other = "stk-other.scope";
    let mut command = Command::new("systemd-run");
    if user {
        command.arg("--user");
    }
    let slice = if user { "app.slice" } else { "machine.slice" };
    let mut owner = command
        .args(["--scope", "--unit", other, "--slice", slice, "--quiet", "sleep", "1000"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the other's unit", || show(user, other, "ActiveState") == "active");
    let mut b = bundle(&["true"], user);
    b.config["linux"]["cgroupsPath"] = "::stk-other".into();
    let e = failed(&b.run());
    assert!(e.contains(other) && e.contains("UnitExists") && e.contains("hint:"), "{e}");
    assert!(!b.root().join("box").exists());
    assert_eq!(show(user, other, "ActiveState"), "active", "the refused launch stopped it");
    assert!(owner.try_wait().unwrap().is_none());
    owner.kill().unwrap();
    owner.wait().unwrap();
}

#[test]
fn a_property_beyond_the_list_is_refused() {
    let Some(user) = managed("a_property_beyond_the_list_is_refused") else { return };
    let mark = format!("/tmp/stk-property-{}", std::process::id());
    let mut b = bundle(&["true"], user);
    b.config["annotations"] =
        json!({ "org.systemd.property.ExecStopPost": format!("[('/usr/bin/touch', ['touch', '{mark}'], false)]") });
    let e = failed(&b.run());
    assert!(e.contains("org.systemd.property.ExecStopPost") && e.contains("not a property"), "{e}");
    assert!(!b.root().join("box").exists() && !std::path::Path::new(&mark).exists());
}

#[test]
fn the_workload_is_in_its_scope_from_the_first_instruction() {
    let Some(user) = managed("the_workload_is_in_its_scope_from_the_first_instruction") else { return };
    let mut b = bundle(&["cat", "/proc/self/cgroup"], user);
    b.config["linux"]["resources"] = json!({ "pids": { "limit": 20 } });
    // Its own cgroup namespace is rooted at the scope, so that it sees nothing above.
    assert_eq!(ok(&b.run()), "0::/\n");
    let unit = "stockade-box.scope";
    assert_eq!(show(user, unit, "LoadState"), "not-found", "a finished run leaves its unit");
}

#[test]
fn what_is_no_unit_is_refused() {
    let Some(user) = managed("what_is_no_unit_is_refused") else { return };
    for (path, word) in
        [("/a/b", "slice:prefix:name"), ("a:b:c", "slice"), ("../x.slice:b:c", "slice"), ("a.slice:b:c/d", "unit")]
    {
        let mut b = bundle(&["true"], user);
        b.config["linux"]["cgroupsPath"] = path.into();
        let e = failed(&b.run());
        assert!(e.contains("linux.cgroupsPath") && e.contains(word), "{e}");
    }
    // A unit that exists is somebody else's.
    let mut first = bundle(&["sleep", "1000"], user);
    first.config["linux"]["cgroupsPath"] = "::taken".into();
    ok(&first.create());
    let mut second = bundle(&["true"], user);
    second.config["linux"]["cgroupsPath"] = "::taken".into();
    let e = failed(&second.run());
    assert!(e.contains("taken.scope") || e.contains("cgroup"), "{e}");
    assert_eq!(first.state()["status"], "created", "the second launch touched the first");
    ok(&first.delete());
}

#[test]
fn without_systemd_the_driver_says_so() {
    let name = "without_systemd_the_driver_says_so";
    need_root!(name);
    if std::path::Path::new("/run/systemd/system").exists() {
        return skip(name, "systemd manages this host");
    }
    let b = bundle(&["true"], false);
    let e = failed(&b.run());
    assert!(e.contains("systemd") && e.contains("hint:"), "{e}");
    assert!(!b.root().join("box").exists());
}

#[test]
fn root_of_a_user_namespace_asks_the_manager_of_its_user() {
    let name = "root_of_a_user_namespace_asks_the_manager_of_its_user";
    let Some(user) = managed(name) else { return };
    if !user {
        return skip(name, "needs an ordinary user with ids: a rootless engine");
    }
    let uid = nix::unistd::getuid();
    let mut b = Bundle::usual(&["sleep", "1000"]).policy("oci");
    b.global.push("--systemd-cgroup".into());
    b.runner = ["unshare", "--user", "--map-root-user", "--map-auto", "--mount"].map(str::to_owned).to_vec();
    b.config["linux"]["cgroupsPath"] = "user.slice:st:engine".into();
    b.config["linux"]["resources"] = json!({ "pids": { "limit": 21 } });
    ok(&b.create());
    ok(&b.verb(&["start", "box"]));
    let path = cgroup(b.pid());
    assert!(path.ends_with(&format!("/user@{uid}.service/user.slice/st-engine.scope")), "{path}");
    agree(true, "st-engine.scope", &path, &[("TasksMax", "21", "pids.max", "21")]);
    ok(&b.verb(&["update", "--pids-limit", "22", "box"]));
    agree(true, "st-engine.scope", &path, &[("TasksMax", "22", "pids.max", "22")]);
    ok(&b.delete());
    assert_eq!(show(true, "st-engine.scope", "ActiveState"), "inactive");
}

#[test]
fn an_exec_joins_the_scope() {
    let Some(user) = managed("an_exec_joins_the_scope") else { return };
    let mut b = bundle(&["sleep", "1000"], user);
    b.config["linux"]["cgroupsPath"] = format!("{}:st:exec", if user { "app.slice" } else { "machine.slice" }).into();
    ok(&b.create());
    ok(&b.verb(&["start", "box"]));
    let top = cgroup(b.pid());
    assert!(top.ends_with("/st-exec.scope"), "{top}");
    let run = |options: &[&str]| {
        let file = b.path().join("exec.pid");
        let words = [&["exec", "--detach", "--pid-file", file.to_str().unwrap()], options, &["box", "sleep", "1001"]];
        let err = b.path().join("exec.err");
        let stderr = std::fs::File::create(&err).unwrap();
        let status = b.command(&words.concat()).stdout(std::process::Stdio::null()).stderr(stderr).status().unwrap();
        assert!(status.success(), "{options:?}: {}", std::fs::read_to_string(&err).unwrap());
        cgroup(std::fs::read_to_string(&file).unwrap().parse().unwrap())
    };
    assert_eq!(run(&[]), top);
    std::fs::create_dir(format!("/sys/fs/cgroup{top}/below")).unwrap();
    assert_eq!(run(&["--cgroup", "below"]), format!("{top}/below"));
    ok(&b.delete());
    assert!(!std::path::Path::new(&format!("/sys/fs/cgroup{top}")).exists());
}
