//! What the verbs that show say is what /proc says, on both sides of the container; and what `doctor` says of a host is
//! what launches on it meet.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "see/doctor.rs"]
mod doctor;
#[path = "see/monitor.rs"]
mod monitor;
mod probe;
use common::*;
use probe::Talk;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

fn json_of(bundle: &Bundle, words: &[&str]) -> Value {
    let said = ok(&bundle.verb(words));
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("{words:?}: {e}: {said}"))
}

/// Numbers of a line of a status file.
fn numbers(status: &str, field: &str) -> Vec<i64> {
    let line = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().map(|n| n.parse().unwrap()).collect()
}

fn list(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect()
}

/// Bundles whose command is a shell, for each way to be a container.
fn kinds() -> Vec<(&'static str, Bundle)> {
    vec![
        ("strict", Bundle::silent(&["sh"])),
        ("oci", Bundle::usual(&["sh"]).policy("oci")),
        ("strict, an ordinary user", probe::by_single_user(Bundle::silent(&["sh"]), &[])),
    ]
}

#[test]
fn pids_agrees_with_both_sides() {
    need_root!("pids_agrees_with_both_sides");
    for (kind, bundle) in kinds() {
        let mut talk = Talk::with(&bundle);
        let child: i64 = talk.ask("sleep 1000 & echo $!").parse().unwrap();
        wait_for("the child's own program", || talk.ask(&format!("cat /proc/{child}/comm")) == "sleep");
        let family = json_of(&bundle, &["pids", "--json", "box"]);
        let processes = family["processes"].as_array().unwrap();
        assert_eq!(processes.len(), 2, "{kind}: {family}");
        assert_eq!(family["init"], bundle.pid(), "{kind}");
        let (table, picture) = {
            let page = ok(&bundle.verb(&["pids", "box"]));
            let (table, picture) = page.split_once("\n\n").unwrap();
            (table.to_owned(), picture.to_owned())
        };
        for process in processes {
            let (host, inner) = (process["pid"].as_i64().unwrap(), list(&process["numbers"]));
            let outside = std::fs::read_to_string(format!("/proc/{host}/status")).unwrap();
            assert_eq!(inner, numbers(&outside, "NSpid"), "{kind}: the host's view");
            assert_eq!(process["hostUid"], numbers(&outside, "Uid")[1], "{kind}");
            assert_eq!(process["parent"], numbers(&outside, "PPid")[0], "{kind}");
            let own = *inner.last().unwrap();
            let inside = talk.ask(&format!("cat /proc/{own}/status"));
            assert_eq!(vec![own], numbers(&inside, "NSpid"), "{kind}: the container's view");
            assert_eq!(process["uid"], numbers(&inside, "Uid")[1], "{kind}");
            let command = talk.ask(&format!("tr '\\0' ' ' </proc/{own}/cmdline; echo"));
            let words: Vec<&str> = process["command"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            assert_eq!(words.join(" "), command.trim(), "{kind}");
            let link = std::fs::read_link(format!("/proc/{host}/ns/pid")).unwrap();
            assert_eq!(link.to_string_lossy(), format!("pid:[{}]", process["namespace"]), "{kind}");
            // Both numbers in one line, of the table and of the picture.
            let beside = |page: &str, between: &str| {
                page.lines().any(|l| {
                    let words: Vec<&str> = l.split_whitespace().filter(|w| *w != "│").collect();
                    let at = words.iter().position(|w| *w == host.to_string());
                    at.is_some_and(|at| words[at..].iter().any(|w| *w == own.to_string()) && l.contains(between))
                })
            };
            assert!(beside(&table, " "), "{kind}: {table}");
            assert!(beside(&picture, "│ = │"), "{kind}: {picture}");
        }
        assert_eq!(processes[1]["numbers"][1], child, "{kind}");
        assert!(table.lines().nth(2).unwrap().contains("└─ sleep 1000"), "{kind}: {table}");
        assert!(picture.lines().all(|l| l.chars().count() <= 80), "{kind}: {picture}");
        // Who is above it on the host is in no box but the host's.
        let above = picture.lines().find(|l| l.contains("stockade")).unwrap();
        assert!(!above.contains(" = "), "{kind}: {picture}");
    }
}

#[test]
fn pids_has_a_number_for_each_namespace_below() {
    need_root!("pids_has_a_number_for_each_namespace_below");
    let mut bundle = Bundle::usual(&["sh"]).policy("oci");
    let caps = json!(["CAP_SYS_ADMIN"]);
    bundle.config["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
    let mut talk = Talk::with(&bundle);
    talk.tell("unshare --pid --fork sleep 1000 &");
    let mut found = Value::Null;
    wait_for("a process of a nested namespace", || {
        let family = json_of(&bundle, &["pids", "--json", "box"]);
        let nested = |p: &&Value| p["numbers"].as_array().unwrap().len() == 3 && p["name"] == "sleep";
        found = family["processes"].as_array().unwrap().iter().find(nested).cloned().unwrap_or_default();
        !found.is_null()
    });
    let numbers_of = list(&found["numbers"]);
    let inside = talk.ask(&format!("cat /proc/{}/status", numbers_of[1]));
    assert_eq!(numbers(&inside, "NSpid"), numbers_of[1..], "the container sees both numbers of its own");
    assert_eq!(numbers_of[2], 1, "the first of its namespace");
    let page = ok(&bundle.verb(&["pids", "box"]));
    assert!(page.lines().next().unwrap().contains("PID 2"), "{page}");
    let line =
        page.lines().find(|l| l.contains('│') && l.matches(" = ").count() == 2).unwrap_or_else(|| panic!("{page}"));
    assert!(line.contains(&numbers_of[1].to_string()), "{page}");
}

#[test]
fn pids_follows_a_container_to_its_end() {
    need_root!("pids_follows_a_container_to_its_end");
    let bundle = Bundle::silent(&["sh"]);
    let mut talk = Talk::with(&bundle);
    let mut watching = bundle
        .command(&["pids", "--watch", "--json", "--interval", "50ms", "box"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(|l| {
        let family: Value = serde_json::from_str(&l.unwrap()).unwrap();
        family["processes"].as_array().unwrap().len()
    });
    assert_eq!(lines.next(), Some(1));
    talk.ask("sleep 1000 &");
    // Between fork and execve it is a line of its own.
    assert!(lines.any(|n| n == 2));
    talk.tell("exit 0");
    let mut status = None;
    wait_for("its end with the container", || {
        status = watching.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success());
    // One that has ended has no process, and says so.
    let stopped = Bundle::silent(&["true"]);
    ok(&stopped.create());
    ok(&stopped.verb(&["start", "box"]));
    wait_for("its end", || stopped.state()["status"] == "stopped");
    assert!(failed(&stopped.verb(&["pids", "box"])).contains("is stopped"));
    assert!(failed(&stopped.verb(&["diff", "box", "host"])).contains("is stopped"));
    // What was decided is still on record.
    let page = ok(&stopped.verb(&["inspect", "box"]));
    assert!(page.contains("status                  stopped") && page.contains("denied with EPERM"), "{page}");
    assert!(!page.contains("NAMESPACES"), "{page}");
}

#[test]
fn inspect_agrees_with_both_sides() {
    need_root!("inspect_agrees_with_both_sides");
    for (kind, bundle) in kinds() {
        let mut talk = Talk::with(&bundle);
        let view = json_of(&bundle, &["inspect", "--json", "box"]);
        let pid = bundle.pid();
        assert_eq!((&view["identity"]["pid"], &view["identity"]["status"]), (&json!(pid), &json!("running")), "{kind}");
        // Namespaces: the host's numbers, and what the container reads of itself.
        let spaces = view["namespaces"].as_array().unwrap();
        assert_eq!(spaces.len(), 8, "{kind}: {spaces:?}");
        for ns in spaces {
            let file = match ns["type"].as_str().unwrap() {
                "mount" => "mnt",
                "network" => "net",
                other => other,
            };
            let inside = talk.ask(&format!("readlink /proc/self/ns/{file}"));
            assert_eq!(inside, format!("{file}:[{}]", ns["inode"]), "{kind}");
            // PID 1 is not for everybody to look at; who is on the host is a witness, too, but for a mount namespace of the
            // test's own.
            let host = std::fs::read_link(format!("/proc/self/ns/{file}")).unwrap().display().to_string();
            let told = format!("{file}:[{}]", ns["host"]);
            assert!(told == host || file == "mnt", "{kind}: {told}, {host}");
            assert_eq!(ns["shared"], inside == told, "{kind}: {file}");
        }
        // Ids on both sides.
        let map = talk.ask("cat /proc/self/uid_map");
        let words: Vec<i64> = map.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let told = &view["ids"]["uids"][0];
        assert_eq!(
            [&told["inside"], &told["host"], &told["count"]].map(|n| n.as_i64().unwrap())[..],
            words[..3],
            "{kind}"
        );
        assert_eq!(talk.ask("id -u"), view["ids"]["uid"]["inside"].to_string(), "{kind}");
        assert_eq!(
            proc_status(pid, "Uid").unwrap().split_whitespace().nth(1).unwrap(),
            view["ids"]["uid"]["host"].to_string()
        );
        // The five sets, no_new_privs and the filter.
        let inside = talk.ask("cat /proc/1/status");
        for (set, field) in [
            ("bounding", "CapBnd"),
            ("permitted", "CapPrm"),
            ("effective", "CapEff"),
            ("inheritable", "CapInh"),
            ("ambient", "CapAmb"),
        ] {
            let hex = inside.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).unwrap().trim();
            let bits = u64::from_str_radix(hex, 16).unwrap();
            assert_eq!(
                bits.count_ones() as usize,
                view["capabilities"][set].as_array().unwrap().len(),
                "{kind}: {set}"
            );
        }
        assert_eq!(view["noNewPrivs"], numbers(&inside, "NoNewPrivs")[0] == 1, "{kind}");
        let mode = ["off", "strict", "filter"][numbers(&inside, "Seccomp")[0] as usize];
        assert_eq!(view["seccomp"]["mode"], mode, "{kind}");
        // Mounts, in their order.
        let points: Vec<String> =
            talk.ask("cat /proc/self/mountinfo").lines().map(|l| l.split(' ').nth(4).unwrap().to_owned()).collect();
        let told: Vec<&str> =
            view["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap()).collect();
        assert_eq!(told, points, "{kind}");
        // What was decided.
        assert_eq!(view["policy"], if kind == "oci" { "oci" } else { "strict" }, "{kind}");
        assert!(!view["findings"].as_array().unwrap().is_empty(), "{kind}");
        // The page has the same.
        let page = ok(&bundle.verb(&["inspect", "box"]));
        let shown = format!("mount                   {}", spaces[1]["inode"]);
        assert!(page.contains(&shown), "{kind}: {page}");
        assert_eq!(page.contains("denied with EPERM"), kind != "oci", "{kind}: {page}");
    }
}

#[test]
fn inspect_names_what_is_given_and_what_is_denied() {
    need_root!("inspect_names_what_is_given_and_what_is_denied");
    let mut bundle = Bundle::usual(&["sh"]).policy("oci");
    let (two, one) = (json!(["CAP_CHOWN", "CAP_KILL"]), json!(["CAP_KILL"]));
    bundle.config["process"]["capabilities"] = json!({
        "bounding": two, "permitted": one, "effective": one, "inheritable": one, "ambient": one
    });
    bundle.config["process"]["noNewPrivileges"] = true.into();
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 },
            { "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [{ "index": 1, "value": 9, "op": "SCMP_CMP_EQ" }] }
        ]
    });
    // Shared with the host.
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "uts");
    let mut talk = Talk::with(&bundle);
    let view = json_of(&bundle, &["inspect", "--json", "box"]);
    let caps = &view["capabilities"];
    assert_eq!(caps["bounding"], json!(["CHOWN", "KILL"]));
    for set in ["permitted", "effective", "inheritable", "ambient"] {
        assert_eq!(caps[set], json!(["KILL"]), "{set}");
    }
    assert_eq!(view["seccomp"]["denies"]["always"], json!({ "EACCES": ["mkdir", "mkdirat"] }));
    assert_eq!(view["seccomp"]["denies"]["sometimes"], json!(["kill"]));
    // And so it is.
    assert!(talk.ask("mkdir /tmp/x 2>&1").contains("Permission denied"));
    assert!(talk.ask("sleep 1000 & kill -9 $! 2>&1").contains("Operation not permitted"));
    assert_eq!(talk.ask("kill -15 $! 2>&1"), "");
    let shared: Vec<&str> = view["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|n| n["shared"] == true)
        .map(|n| n["type"].as_str().unwrap())
        .collect();
    assert_eq!(shared, ["user", "uts", "time"]);
    // The comparison with the host has what is not shared, and nothing of what is.
    let against = json_of(&bundle, &["inspect", "--against", "host", "--json", "box"]);
    assert_eq!(against, json_of(&bundle, &["diff", "--json", "box", "host"]));
    let keys = |section: &str| -> BTreeSet<String> {
        let of = against["differences"].as_array().unwrap().iter().filter(|d| d["section"] == section);
        of.map(|d| d["key"].as_str().unwrap().to_owned()).collect()
    };
    let spaces: Vec<String> = ["cgroup", "ipc", "mount", "network", "pid"].map(str::to_owned).to_vec();
    assert_eq!(keys("namespaces").into_iter().collect::<Vec<_>>(), spaces);
    assert!(keys("restrictions").contains("no_new_privs") && keys("restrictions").contains("seccomp"), "{against}");
    assert!(keys("capabilities").contains("bounding"), "{against}");
    assert!(against["same"].as_u64().unwrap() > 3, "{against}");
    let page = ok(&bundle.verb(&["diff", "box", "host"]));
    assert!(page.contains("the rest is the same") && page.contains("    host  "), "{page}");
}

#[test]
fn two_containers_differ_in_what_they_were_given() {
    need_root!("two_containers_differ_in_what_they_were_given");
    let one = Bundle::shell("sleep 1000");
    let mut two = Bundle::shell("sleep 1000");
    two.config["process"]["capabilities"] =
        json!({ "bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"] });
    one.write();
    two.write();
    // Both in one place, as `one` and `two`.
    for (bundle, id) in [(&one, "one"), (&two, "two")] {
        let path = bundle.path().display().to_string();
        ok(&on(&one, &format!("create --bundle {path} {id}")));
        ok(&on(&one, &format!("start {id}")));
    }
    let told = json_of(&one, &["diff", "--json", "one", "two"]);
    let found: BTreeMap<(String, String), (Value, Value)> = told["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| {
            let place = (d["section"].as_str().unwrap().to_owned(), d["key"].as_str().unwrap().to_owned());
            (place, (d["a"].clone(), d["b"].clone()))
        })
        .collect();
    let at = |section: &str, key: &str| found.get(&(section.to_owned(), key.to_owned()));
    assert_eq!(at("capabilities", "bounding"), Some(&(json!(["none"]), json!(["CHOWN"]))), "{told}");
    assert!(at("ids", "uids inside = host").is_some(), "containers are strangers to each other: {told}");
    assert!(at("restrictions", "no_new_privs").is_none() && at("mounts", "/proc").is_none(), "{told}");
    assert!(at("identity", "pid").is_none(), "{told}");
    // With itself nothing differs.
    assert!(ok(&one.verb(&["diff", "one", "one"])).starts_with("nothing differs"));
    assert!(failed(&one.verb(&["diff", "one", "three"])).contains("does not exist"));
    for id in ["one", "two"] {
        ok(&one.verb(&["delete", "--force", id]));
    }
}

#[test]
fn inspect_shows_limits_beside_what_is_used() {
    need_root!("inspect_shows_limits_beside_what_is_used");
    if !controllers(&["memory", "pids", "cpu"]) {
        return skip(
            "inspect_shows_limits_beside_what_is_used",
            "cgroup v2 has no memory, pids and cpu controllers here",
        );
    }
    let mut bundle = Bundle::shell("sleep 1000 & sleep 1000 & wait");
    bundle.config["linux"] = json!({ "resources": { "memory": { "limit": 67_108_864 }, "pids": { "limit": 20 } } });
    ok(&bundle.create());
    ok(&bundle.verb(&["start", "box"]));
    wait_for("three processes", || ok(&bundle.verb(&["ps", "--format", "json", "box"])).matches(',').count() == 2);
    let view = json_of(&bundle, &["inspect", "--json", "box"]);
    let dir = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    let dir = cgroup_mount().join(dir.trim().strip_prefix("0::/").unwrap());
    assert_eq!(view["cgroup"]["path"], format!("/{}", dir.strip_prefix(cgroup_mount()).unwrap().display()));
    let limits: BTreeMap<&str, &Value> =
        view["cgroup"]["limits"].as_array().unwrap().iter().map(|l| (l["file"].as_str().unwrap(), l)).collect();
    for file in ["memory.max", "pids.max", "cpu.max", "memory.swap.max"] {
        assert_eq!(limits[file]["limit"], std::fs::read_to_string(dir.join(file)).unwrap().trim(), "{file}");
    }
    assert_eq!(limits["pids.max"]["use"], "3 now, 0 times refused");
    assert!(view["cgroup"]["pressure"]["cpu"]["some"]["total"].is_u64(), "{view}");
}
