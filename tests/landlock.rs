//! Landlock: the mounts' flags hold also where the workload can lift them, nothing outside of the root can be opened or
//! executed, and programs that do neither notice nothing. /proc does not show a domain, so all is known by what happens.
#![allow(clippy::unwrap_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;
#[path = "probe/mod.rs"]
mod probe;

use caller::Caller;
use common::*;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

/// The version that this kernel has in force.
fn abi() -> u32 {
    stockade::sys::landlock_abi()
}

/// mount_setattr(2) that takes flags away: read-only 1, nodev 4, noexec 8.
fn lift(path: &str, flag: u32) -> String {
    format!("probe calls 'lifted 442 -100 str={path} 0 words=0,{flag},0,0 32'")
}

/// A container that is root of a user namespace of its own with all rights there, and what it has been given as
/// read-only or noexec.
fn powerful(level: &str, script: &str, name: &str) -> Option<Bundle> {
    let probe = match probe::program() {
        Ok(probe) => probe,
        Err(why) => {
            skip(name, &why);
            return None;
        }
    };
    let mut bundle = Bundle::usual(&["sh", "-c", script]);
    probe::install(&bundle, &probe);
    for (dir, mode) in [("volume", 0o777), ("rootfs/data", 0o755), ("rootfs/noexec", 0o755)] {
        let dir = bundle.path().join(dir);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(bundle.path().join("volume/file"), "whole").unwrap();
    fs::write(bundle.path().join("volume/kept"), "whole").unwrap();
    for file in ["file", "kept"] {
        fs::set_permissions(bundle.path().join("volume").join(file), fs::Permissions::from_mode(0o666)).unwrap();
    }
    let null = bundle.path().join("volume/null");
    assert!(
        std::process::Command::new("mknod")
            .args(["-m", "666"])
            .arg(null)
            .args(["c", "1", "3"])
            .status()
            .unwrap()
            .success()
    );
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(
        json!({ "destination": "/data", "type": "none", "source": "volume", "options": ["bind", "ro", "nodev"] }),
    );
    mounts.push(
        json!({ "destination": "/noexec", "type": "tmpfs", "source": "tmpfs", "options": ["noexec", "mode=777"] }),
    );
    let map = json!([{ "containerID": 0, "hostID": 700_000, "size": 65_536 }]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    bundle.config["root"]["readonly"] = json!(true);
    let all = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"];
    bundle.config["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    Some(bundle.operator(json!({ "extends": "oci", "landlock": { "level": level } })))
}

/// Lifts the flags, then does what they forbid.
fn attack() -> String {
    format!(
        "{}; {}; probe calls 'control 16 open=/data/null 0x5401 buf' 'truncated 76 str=/data/kept 0'
        echo new 2>/dev/null >/data/new && echo made; echo x 2>/dev/null >>/data/file && echo appended
        true 2>/dev/null >/data/file && echo cut; mkdir /data/dir 2>/dev/null && echo dir
        rm /data/file 2>/dev/null && echo removed
        cp /bin/busybox /noexec/true && /noexec/true 2>/dev/null && echo executed; cat /data/file; true",
        lift("/data", 1 | 4),
        lift("/noexec", 8)
    )
}

/// What it says where nothing holds it.
const FREE: &str =
    "lifted = 0\nlifted = 0\ncontrol = -25\ntruncated = 0\nmade\nappended\ncut\ndir\nremoved\nexecuted\n";

/// What it says in the domain of this kernel: ENOTTY and success where EACCES came later.
fn held_words() -> String {
    let (control, truncated) = (if abi() < 5 { -25 } else { -13 }, if abi() < 3 { 0 } else { -13 });
    format!("lifted = 0\nlifted = 0\ncontrol = {control}\ntruncated = {truncated}\nwhole")
}

#[test]
fn flags_that_a_workload_lifts_hold_all_the_same() {
    let name = "flags_that_a_workload_lifts_hold_all_the_same";
    need_root!(name);
    let Some(held) = powerful("besteffort", &attack(), name) else { return };
    // Control: without the domain both flags are gone.
    let control = powerful("off", &attack(), name).unwrap();
    assert_eq!(ok(&control.run()), FREE);
    if abi() < 2 {
        return skip(name, "this kernel has no Landlock");
    }
    assert_eq!(ok(&held.run()), held_words());
    assert_eq!(fs::read_to_string(held.path().join("volume/file")).unwrap(), "whole");
}

#[test]
fn a_process_that_exec_makes_is_held_by_the_same() {
    let name = "a_process_that_exec_makes_is_held_by_the_same";
    need_root!(name);
    let Some(mut held) = powerful("besteffort", "", name) else { return };
    held.config["process"]["args"] = json!(["sleep", "1000"]);
    let mut control = powerful("off", "", name).unwrap();
    control.config["process"]["args"] = json!(["sleep", "1000"]);
    let said = |bundle: &Bundle| {
        ok(&bundle.create());
        ok(&bundle.verb(&["start", "box"]));
        ok(&bundle.verb(&["exec", "box", "sh", "-c", &attack()]))
    };
    assert_eq!(said(&control), FREE);
    if abi() < 2 {
        return skip(name, "this kernel has no Landlock");
    }
    assert_eq!(said(&held), held_words());
}

fn silent(script: &str) -> Value {
    let tmp = |path: &str, options: &[&str]| json!({ "destination": path, "type": "tmpfs", "source": "tmpfs", "options": options });
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh", "-ec", script],
            "env": ["PATH=/bin"],
            "cwd": "/tmp"
        },
        "root": { "path": "rootfs" },
        "mounts": [tmp("/tmp", &["mode=1777"]), tmp("/var/tmp", &["mode=1777", "exec"])]
    })
}

#[test]
fn programs_that_keep_to_their_mounts_notice_nothing() {
    let script = r#"
        ls / /bin /proc /sys /dev /dev/shm /tmp >/dev/null
        mkdir -p a/b c; echo x >a/b/f; mv a/b/f c/g; ln c/g a/h; mv a c/; cat c/a/h
        ln -s /tmp/c /tmp/link; cat /tmp/link/g; mkfifo fifo; (echo through >fifo &) ; cat fifo
        : >c/g; rm -r c link fifo; [ -z "$(ls)" ]
        echo shm >/dev/shm/x; cat /dev/shm/x; rm /dev/shm/x
        echo n >/proc/self/comm; echo 500 >/proc/self/oom_score_adj; ls /proc/1/fd >/dev/null
        head -c 10 /dev/urandom | wc -c; head -c 10 /dev/zero >/dev/null; : >/dev/null; ls /dev/fd/ >/dev/null
        stty -g </dev/ptmx | wc -l
        echo here >here; cat /proc/self/cwd/here /proc/self/root/tmp/here; rm here
        ! true 2>/dev/null >>/bin/sh
        sh -c 'echo to stdout >/dev/stdout' | cat; echo done"#;
    let wanted = "x\nx\nthrough\nshm\n10\n1\nhere\nhere\nto stdout\ndone\n";
    for caller in Caller::all("programs_that_keep_to_their_mounts_notice_nothing") {
        let out = caller.run(&[], &silent(script));
        assert_eq!(ok(&out), wanted, "uid {}: {}", caller.uid, text(&out.stderr));
    }
}

#[test]
fn a_file_of_the_caller_is_opened_again_by_the_name_of_its_stream() {
    for caller in Caller::all("a_file_of_the_caller_is_opened_again_by_the_name_of_its_stream") {
        let config = silent("cat /dev/stdin; echo again >/dev/stdout; echo wrong >/dev/stderr");
        let bundle = caller.bundle(&config).display().to_string();
        let file = |name: &str, content: &str| {
            let path = caller.path().join(name);
            fs::write(&path, content).unwrap();
            // Whom it belongs to is the file's matter, and not what is asked here.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
            path
        };
        let (from, to, err) = (file("in", "typed\n"), file("out", ""), file("err", ""));
        let append = |path| fs::OpenOptions::new().append(true).open(path).unwrap();
        let mut command = caller.command(&["run", "--bundle", &bundle, "box"]);
        command.stdin(fs::File::open(&from).unwrap()).stdout(append(&to)).stderr(append(&err));
        let status = command.status().unwrap();
        let read = |path| fs::read_to_string(path).unwrap();
        assert!(status.success(), "uid {}: {}", caller.uid, read(&err));
        // `>` cuts what was there.
        assert_eq!((read(&to).as_str(), read(&err).as_str()), ("again\n", "wrong\n"));
    }
}

#[test]
fn the_runtime_behind_proc_self_exe_is_out_of_reach() {
    let name = "the_runtime_behind_proc_self_exe_is_out_of_reach";
    for caller in Caller::all(name) {
        // A binary that the container could write is a copy, which is outside of every domain: see own_binary.rs.
        let mut config = silent("");
        config["process"]["args"] = json!(["/proc/self/exe", "--version"]);
        let off = caller.path().join("off.json");
        fs::write(&off, r#"{"extends":"strict","landlock":{"level":"off"}}"#).unwrap();
        let control = caller.run(&["--policy", off.to_str().unwrap()], &config);
        assert!(ok(&control).contains(" version "), "uid {}", caller.uid);
        if abi() < 2 {
            return skip(name, "this kernel has no Landlock");
        }
        let said = failed(&caller.run(&[], &config));
        assert!(said.contains("EACCES"), "uid {}: {said}", caller.uid);
    }
}

#[test]
fn what_is_handed_on_as_a_descriptor_stays_in_reach() {
    let name = "what_is_handed_on_as_a_descriptor_stays_in_reach";
    need_root!(name);
    let mut bundle = Bundle::silent(&["sh", "-c", "cat /proc/self/fd/3 /proc/self/fd/3; ls /proc/self/fd/4/"]);
    bundle.config["mounts"] = json!([]);
    bundle.write();
    let dir = bundle.path().join("handed");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "handed on\n").unwrap();
    let typed = bundle.command(&["run", "--preserve-fds", "2", "--bundle", bundle.path().to_str().unwrap(), "box"]);
    let mut command = std::process::Command::new("bash");
    command.args(["-c", r#"exec "$@" 3<handed/file 4<handed"#, "bash"]).arg(typed.get_program()).args(typed.get_args());
    let out = command.current_dir(bundle.path()).stdin(Stdio::null()).output().unwrap();
    assert_eq!(ok(&out), "handed on\nhanded on\nfile\n");
}

#[test]
fn only_the_ports_of_the_policy_are_bound_and_connected_to() {
    let name = "only_the_ports_of_the_policy_are_bound_and_connected_to";
    // Not `echo served | nc -l`, which stops at the end of the client's input, with or without having read its own.
    let script = "(timeout 20 nc -l -p 8080 -e echo served &); timeout 2 nc -l -p 8081 </dev/null || true
        for i in $(seq 200); do nc 127.0.0.1 8080 </dev/null && break; usleep 20000; done 2>/dev/null
        nc 127.0.0.1 8082 </dev/null || true";
    for caller in Caller::all(name) {
        let policy = |text: &Value| {
            let file = caller.path().join("tcp.json");
            fs::write(&file, text.to_string()).unwrap();
            file.display().to_string()
        };
        let tight = json!({ "extends": "strict", "landlock": { "tcpBind": [8080], "tcpConnect": [8080] } });
        let out = caller.run(&["--policy", &policy(&tight)], &silent(script));
        let (said, errors) = (ok(&out), text(&out.stderr));
        assert_eq!(said, "served\n", "uid {}: {errors}", caller.uid);
        let denied = ["bind: Permission denied", "can't connect to remote host (127.0.0.1): Permission denied"];
        assert_eq!(denied.map(|d| errors.contains(d)), [abi() >= 4; 2], "uid {}: {errors}", caller.uid);
        // Control: without the lists both are allowed, and nobody listens on 8082.
        let out = caller.run(&[], &silent(script));
        let errors = text(&out.stderr);
        assert!(!errors.contains("Permission denied") && errors.contains("Connection refused"), "{errors}");
    }
    if abi() < 4 {
        skip(name, "TCP: this kernel's Landlock has none");
    }
}

#[test]
fn what_this_kernel_lacks_is_said_or_refused() {
    let caller = if is_root() { Caller::root() } else { Caller::me() };
    let run = |level: &str| {
        let file = caller.path().join("level.json");
        fs::write(&file, json!({ "extends": "strict", "landlock": { "level": level } }).to_string()).unwrap();
        let explain = caller.path().join("bundle").display().to_string();
        caller.bundle(&silent("true"));
        let words = caller.stockade(&["--policy", file.to_str().unwrap(), "explain", "--bundle", &explain]);
        (caller.run(&["--policy", file.to_str().unwrap()], &silent("true")), text(&words.stdout))
    };
    let (out, words) = run("besteffort");
    ok(&out);
    assert_eq!(words.contains("not held"), abi() < 5, "{words}");
    let (out, words) = run("soft");
    ok(&out);
    assert_eq!(words.contains("not held"), abi() < 2, "{words}");
    let (out, _) = run("hard");
    if abi() < 5 {
        assert!(failed(&out).contains("landlock.level"));
    } else {
        ok(&out);
    }
}

#[test]
fn a_directory_with_more_entries_than_rules_is_one_tree_and_that_is_said() {
    let name = "a_directory_with_more_entries_than_rules_is_one_tree_and_that_is_said";
    need_root!(name);
    if abi() < 2 {
        return skip(name, "this kernel has no Landlock");
    }
    let mut bundle = Bundle::silent(&["sleep", "1000"]);
    bundle.config["mounts"] =
        json!([{ "destination": "/many/here", "type": "tmpfs", "source": "tmpfs", "options": ["mode=777"] }]);
    let many = bundle.rootfs().join("many");
    fs::create_dir_all(many.join("here")).unwrap();
    for i in 0..4200 {
        fs::write(many.join(i.to_string()), "").unwrap();
    }
    ok(&bundle.create());
    let state: Value = serde_json::from_slice(&fs::read(bundle.root().join("box/state.json")).unwrap()).unwrap();
    let said: Vec<&Value> = state["findings"].as_array().unwrap().iter().filter(|f| f["rule"] == "landlock").collect();
    assert!(
        said.iter().any(|f| f["asked"] == "/many" && f["given"].as_str().unwrap().contains("one rule")),
        "{said:?}"
    );
    ok(&bundle.verb(&["start", "box"]));
    assert_eq!(ok(&bundle.verb(&["exec", "box", "sh", "-c", "echo x >/many/here/x; cat /many/here/x"])), "x\n");
}
