//! `doctor`: on this host, with things taken away, and beside what launches meet.

use super::common::*;
use crate::{need_root, probe};
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};
use stockade::{seccomp, sys};

/// What it says, and its status.
fn doctor(command: &mut Command) -> (Value, i32) {
    let out = command.output().unwrap();
    let said: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out.stderr)));
    (said, out.status.code().unwrap())
}

fn row<'a>(said: &'a Value, name: &str) -> &'a Value {
    said["rows"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap_or_else(|| panic!("{name}: {said}"))
}

/// A filter that answers `errno` to some calls.
fn without(command: &mut Command, names: &[&str], errno: i32) {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno }]
    });
    let program = seccomp::compile(&serde_json::from_value(profile).unwrap()).unwrap();
    sys::filter_command(command, program.insns, 0);
}

/// The status says what the rows say.
fn consistent(said: &Value, status: i32) {
    let worst = said["rows"].as_array().unwrap().iter().map(|r| match r["state"].as_str().unwrap() {
        "whole" => 0,
        "less" => 2,
        "refuses" => 3,
        other => panic!("{other}"),
    });
    assert_eq!(worst.max().unwrap(), status, "{said}");
    for row in said["rows"].as_array().unwrap().iter().filter(|r| r["state"] != "whole") {
        assert!(row["without"].is_string() && row["remedy"].is_string(), "{row}");
    }
}

#[test]
fn it_tells_what_this_host_has() {
    let bundle = Bundle::silent(&["true"]);
    let (said, status) = doctor(&mut bundle.command(&["doctor", "--json"]));
    consistent(&said, status);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(row(&said, "kernel")["seen"], release.trim());
    // Controllers, by the kernel's own list.
    let on_v1 = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    for (name, controller) in [("limit: memory", "memory"), ("limit: processes", "pids"), ("limit: CPU time", "cpu")] {
        let row = row(&said, name);
        if on_v1.lines().any(|l| l.split(':').nth(1).unwrap().split(',').any(|c| c == controller)) && is_root() {
            assert!(
                row["state"] == "less" && row["remedy"].as_str().unwrap().contains("unified_cgroup_hierarchy"),
                "{row}"
            );
        } else if is_root() && controllers(&[controller]) {
            assert_eq!(row["state"], "whole", "{row}");
        }
    }
    if is_root() {
        // The file system of scratch() takes an id map, and a procfs does not.
        assert_eq!(row(&said, "idmapped mounts")["state"], "whole");
        let (said, _) = doctor(&mut bundle.command(&["doctor", "--json", "/proc/sys"]));
        assert!(row(&said, "idmapped mounts")["seen"].as_str().unwrap().contains("EINVAL"), "{said}");
    }
    let page = bundle.verb(&["doctor"]);
    assert_eq!(page.status.code(), Some(status));
    assert!(text(&page.stdout).lines().all(|l| l.chars().count() <= 100));
    assert!(failed(&bundle.verb(&["doctor", "/nowhere"])).contains("/nowhere"));
}

/// What a launch on the same terms says.
fn launch(bundle: &Bundle, change: &dyn Fn(&mut Command)) -> Output {
    bundle.write();
    let path = bundle.path().display().to_string();
    let mut command = bundle.command(&["run", "--bundle", &path, "box"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    change(&mut command);
    command.output().unwrap()
}

#[test]
fn what_is_taken_away_is_missed_and_a_launch_misses_it_too() {
    need_root!("what_is_taken_away_is_missed_and_a_launch_misses_it_too");
    type Case = (&'static str, &'static [&'static str], i32, &'static str, &'static str, &'static str);
    let cases: [Case; 5] = [
        ("openat2", &["openat2"], libc::ENOSYS, "openat2", "less", "RestrictSUIDSGID"),
        ("Landlock", &["landlock_create_ruleset"], libc::ENOSYS, "Landlock", "less", "lsm="),
        ("clone3", &["clone3"], libc::ENOSYS, "clone3", "refuses", "filter"),
        ("pidfd_open", &["pidfd_open"], libc::ENOSYS, "pidfds", "less", "filter"),
        ("the mount API", &["open_tree", "mount_setattr"], libc::ENOSYS, "idmapped mounts", "less", "ext4"),
    ];
    let bundle = Bundle::silent(&["true"]);
    let (whole, _) = doctor(&mut bundle.command(&["doctor", "--json"]));
    for (what, names, errno, name, state, words) in cases {
        let take = |command: &mut Command| without(command, names, errno);
        let mut command = bundle.command(&["doctor", "--json"]);
        take(&mut command);
        let (said, status) = doctor(&mut command);
        consistent(&said, status);
        let found = row(&said, name);
        assert!(found["state"] == state && found["remedy"].as_str().unwrap().contains(words), "{what}: {found}");
        // It was otherwise before, so it is the filter that it found.
        assert_ne!(row(&whole, name)["seen"], found["seen"], "{what}");
        if what == "the mount API" {
            // A launch needs more of it than the map; that is the planner's business.
            continue;
        }
        let out = launch(&bundle, &take);
        assert_eq!(out.status.success(), state == "less", "{what}: {}", text(&out.stderr));
    }
}

#[test]
fn without_user_namespaces_the_remedy_is_exact() {
    need_root!("without_user_namespaces_the_remedy_is_exact");
    // In a user namespace of our own, whose count is its own: an ordinary user's, with the sysctl at 0.
    let bundle = probe::by_single_user(Bundle::silent(&["true"]), &[]);
    let inside = |script: &str| {
        let mut runner = bundle.runner.clone();
        runner.extend(
            ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", script, "sh"].map(str::to_owned),
        );
        runner
    };
    let run = |script: &str, words: &[&str]| {
        let runner = inside(script);
        let mut command = Command::new(&runner[0]);
        command.args(&runner[1..]).arg(runtime()).args(words).current_dir(bundle.path()).stdin(Stdio::null());
        command
    };
    let zero = "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all \"$@\"";
    let (said, status) = doctor(&mut run(zero, &["doctor", "--json", "/"]));
    consistent(&said, status);
    let found = row(&said, "namespaces");
    assert!(
        status == 3 && found["state"] == "refuses" && found["seen"].as_str().unwrap().contains("ENOSPC"),
        "{found}"
    );
    let remedy = found["remedy"].as_str().unwrap();
    let (_, command) = remedy.split_once("as root: ").unwrap();
    assert_eq!(command, "sysctl -w user.max_user_namespaces=15000");
    // Word for word, as root of the place where it was taken away.
    let mended = format!(
        "echo 0 >/proc/sys/user/max_user_namespaces && {command} >/dev/null && exec setpriv --inh-caps=-all --ambient-caps=-all \"$@\""
    );
    let (said, _) = doctor(&mut run(&mended, &["doctor", "--json", "/"]));
    assert_eq!(row(&said, "namespaces")["state"], "whole", "{said}");
    // A launch meets the same wall.
    let out = run(zero, &["sandbox", "--", "true"]).env("XDG_RUNTIME_DIR", bundle.path().join("xdg")).output().unwrap();
    assert!(!out.status.success() && text(&out.stderr).contains("ENOSPC"), "{}", text(&out.stderr));
}

#[test]
fn an_ordinary_user_is_told_about_ids_and_cgroups() {
    need_root!("an_ordinary_user_is_told_about_ids_and_cgroups");
    let single = probe::by_single_user(Bundle::silent(&["true"]), &[]);
    let (said, status) = doctor(&mut single.command(&["doctor", "--json"]));
    consistent(&said, status);
    assert_eq!(status, 2, "{said}");
    let ids = row(&said, "ids of their own");
    assert!(ids["remedy"].as_str().unwrap().contains("usermod --add-subuids") && ids["state"] == "less", "{ids}");
    assert_eq!(row(&said, "device program")["state"], "less");
    // What it says will be lacking, the container's record says, too.
    ok(&single.create());
    let kept = ok(&single.verb(&["inspect", "--json", "box"]));
    let findings: Value = serde_json::from_str(&kept).unwrap();
    let told = |field: &str| {
        findings["findings"].as_array().unwrap().iter().any(|f| f["field"] == field && f["rule"] == "host")
    };
    assert_eq!(told("linux.cgroupsPath"), row(&said, "cgroup v2")["state"] == "less", "{findings}");
    assert!(told("linux.resources.devices"));
    // Groups that nobody can drop: a launch is refused, and it says so before.
    let grouped = probe::by_single_user(Bundle::silent(&["true"]), &[4]);
    let (said, status) = doctor(&mut grouped.command(&["doctor", "--json"]));
    assert_eq!((status, &row(&said, "a launch")["state"]), (3, &json!("refuses")), "{said}");
    assert!(!grouped.run().status.success());
    if let Some(why) = probe::no_ranges() {
        return skip("an_ordinary_user_is_told_about_ids_and_cgroups, ranges", &why);
    }
    let ranged = probe::by_ranged_user(Bundle::silent(&["true"]), &[4]);
    let (said, _) = doctor(&mut ranged.command(&["doctor", "--json"]));
    let ids = row(&said, "ids of their own");
    assert!(ids["state"] == "whole" && ids["seen"].as_str().unwrap().contains("65536"), "{ids}");
    assert_eq!(row(&said, "a launch")["state"], "whole", "{said}");
    assert!(ranged.run().status.success());
}
