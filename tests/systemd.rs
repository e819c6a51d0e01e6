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

#[test]
fn a_scope_with_its_limits_as_properties() {
    let Some(user) = managed("a_scope_with_its_limits_as_properties") else { return };
    let mut b = bundle(&["sleep", "1000"], user);
    let slice = if user { "app.slice" } else { "machine.slice" };
    b.config["linux"]["cgroupsPath"] = format!("{slice}:st:props").into();
    b.config["linux"]["resources"] = json!({
        "memory": { "limit": 67108864, "swap": 67108864 }, "pids": { "limit": 21 },
        "cpu": { "shares": 1024, "quota": 50000, "period": 100000 }
    });
    if user {
        // What a user's manager is delegated by default.
        b.config["linux"]["resources"].as_object_mut().unwrap().remove("cpu");
    }
    ok(&b.create());
    ok(&b.verb(&["start", "box"]));
    let path = cgroup(b.pid());
    assert!(path.ends_with(&format!("/{slice}/st-props.scope")), "{path}");
    assert_eq!((file(&path, "memory.max"), file(&path, "pids.max")), ("67108864".into(), "21".into()));
    assert_eq!(show(user, "st-props.scope", "MemoryMax"), "67108864");
    assert_eq!(show(user, "st-props.scope", "TasksMax"), "21");
    assert_eq!(show(user, "st-props.scope", "Delegate"), "yes");
    if !user {
        assert_eq!(file(&path, "cpu.max"), "50000 100000");
        assert_eq!(show(user, "st-props.scope", "CPUQuotaPerSecUSec"), "500ms");
        assert_eq!(show(user, "st-props.scope", "CPUWeight"), "100");
    }
    // An update is a property, too: a reload of systemd does not undo it.
    ok(&b.verb(&["update", "--memory", "128m", "--pids-limit", "22", "box"]));
    let mut reload = Command::new("systemctl");
    if user {
        reload.arg("--user");
    }
    assert!(reload.arg("daemon-reload").status().unwrap().success());
    assert_eq!((file(&path, "memory.max"), file(&path, "pids.max")), ("134217728".into(), "22".into()));
    assert_eq!(show(user, "st-props.scope", "MemoryMax"), "134217728");
    // Pause, resume and delete work on a scope as on any cgroup.
    ok(&b.verb(&["pause", "box"]));
    assert_eq!(b.state()["status"], "paused");
    ok(&b.verb(&["delete", "--force", "box"]));
    assert_eq!(show(user, "st-props.scope", "LoadState"), "not-found");
    assert!(!std::path::Path::new(&format!("/sys/fs/cgroup{path}")).exists());
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
