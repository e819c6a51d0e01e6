//! Bytes that mean one thing to a reader of JSON and another to the kernel.

use crate::common::*;
use crate::harness::*;
use serde_json::{Value, json};
use std::fs;

/// Every policy and caller refuses each of these, and does nothing before. Where `word` is something, it says that.
fn refused(test: &str, wrong: &[(&str, Attack<'_>)], word: &str) {
    for case in cases(test) {
        assert_eq!(ok(&case.shell("echo inside").run()), INSIDE, "{case:?}: the control");
        for (what, change) in wrong {
            let what = format!("{test}, {what}");
            let canary = case.canary();
            let mut bundle = case.shell("echo inside");
            change(&mut bundle, &canary);
            case.give(bundle.path());
            let stop = stopped(&what, case, &bundle.run());
            assert!(
                matches!(&stop, Stopped::Refused(e) if foreign() || e.contains(word)),
                "{what}, {case:?}: {stop:?}"
            );
            canary.unchanged(&what);
        }
    }
}

#[test]
fn cve_2021_43784_bytes_that_cut_a_string() {
    let cut = |value: &mut Value, text: &str| *value = json!(format!("{text}\0{text}"));
    refused(
        "cve_2021_43784_bytes_that_cut_a_string",
        &[
            ("hostname", &|b, _| cut(&mut b.config["hostname"], "name")),
            ("mount source", &|b, c| cut(&mut b.config["mounts"][1]["source"], &c.at(""))),
            ("mount destination", &|b, _| cut(&mut b.config["mounts"][1]["destination"], "/dev")),
            ("mount type", &|b, _| cut(&mut b.config["mounts"][1]["type"], "tmpfs")),
            ("mount option", &|b, _| cut(&mut b.config["mounts"][1]["options"][0], "nosuid")),
            ("args", &|b, _| cut(&mut b.config["process"]["args"][1], "-c")),
            ("env", &|b, _| cut(&mut b.config["process"]["env"][0], "PATH=/bin")),
            ("cwd", &|b, _| cut(&mut b.config["process"]["cwd"], "/")),
            ("rootfs", &|b, _| cut(&mut b.config["root"]["path"], "rootfs")),
            ("cgroup", &|b, _| cut(&mut b.config["linux"]["cgroupsPath"], "/box")),
            ("masked path", &|b, _| cut(&mut b.config["linux"]["maskedPaths"][0], "/proc/acpi")),
            ("read-only path", &|b, _| cut(&mut b.config["linux"]["readonlyPaths"][0], "/proc/bus")),
            ("namespace", &|b, _| cut(&mut b.config["linux"]["namespaces"][0]["path"], "/proc/self/ns/pid")),
            ("annotation", &|b, _| b.config["annotations"] = json!({ "a": "b\0c" })),
            ("a name", &|b, _| b.config["annotations"] = json!({ "a\0b": "c" })),
        ],
        "NUL",
    );
}

#[test]
fn configs_that_are_huge_or_deep() {
    let name = "configs_that_are_huge_or_deep";
    for case in cases(name) {
        for (what, text) in [
            ("deep lists", "[".repeat(200_000)),
            ("deep objects", "{\"a\":".repeat(100_000)),
            ("a huge string", format!("{{\"ociVersion\":\"{}\"}}", "1".repeat(64 << 20))),
            ("many of one name", format!("{{{}\"a\":1}}", "\"ociVersion\":\"1.0.2\",".repeat(500_000))),
        ] {
            let bundle = case.shell("echo inside");
            fs::write(bundle.path().join("config.json"), text).unwrap();
            let place = bundle.path().display().to_string();
            let stop = stopped(what, case, &bundle.verb(&["run", "--bundle", &place, "box"]));
            assert!(matches!(stop, Stopped::Refused(_)), "{what}, {case:?}: {stop:?}");
        }
        // Lists that the kernel would be asked about one by one.
        let many = |n: usize| (0..n).map(|i| json!(format!("/proc/{i}/x"))).collect::<Vec<_>>();
        let mut bundle = case.shell("echo inside");
        bundle.config["linux"]["maskedPaths"] = json!(many(500_000));
        let stop = stopped(name, case, &bundle.run());
        assert!(matches!(stop, Stopped::Refused(_)) || foreign(), "{case:?}: {stop:?}");
        bundle.config["linux"]["maskedPaths"] = json!(many(50));
        assert_eq!(ok(&bundle.run()), INSIDE, "{case:?}: the control");
    }
}

#[test]
fn cve_2022_0811_sysctls_of_the_host() {
    let name = "cve_2022_0811_sysctls_of_the_host";
    for case in cases(name) {
        let with = |key: &str, value: &str, kept: bool| {
            let mut bundle = case.shell("cat /proc/sys/net/ipv4/ip_forward; echo inside");
            if !kept {
                let shared = ["network", "ipc"];
                let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.retain(|n| !shared.contains(&n["type"].as_str().unwrap()));
            }
            bundle.config["linux"]["sysctl"] = json!({ key: value });
            bundle.run()
        };
        assert_eq!(ok(&with("net.ipv4.ip_forward", "1", true)), "1\ninside\n", "{case:?}: the control");
        let canary = case.canary();
        let traversals = [
            ("kernel.core_pattern", "|/bin/canary"),
            ("kernel/core_pattern", "|/bin/canary"),
            ("net.ipv4.ip_forward+kernel.core_pattern", "|/bin/canary"),
            ("net/../kernel/core_pattern", "|/bin/canary"),
            ("net.//.kernel.core_pattern", "|/bin/canary"),
            ("net/ipv4/../../kernel/core_pattern", "|/bin/canary"),
            ("fs.mqueue/../../kernel/core_pattern", "|/bin/canary"),
            ("/kernel/core_pattern", "|/bin/canary"),
            ("net./kernel/core_pattern", "|/bin/canary"),
            ("kernel.shm_rmid_forced/../core_pattern", "|/bin/canary"),
            ("kernel.shm_rmid_forced=1+kernel.core_pattern", "|/bin/canary"),
            ("kernel.modprobe", "/bin/canary"),
            ("vm.overcommit_memory", "2"),
            ("fs.suid_dumpable", "2"),
            ("kernel.sysrq", "511"),
            ("user.max_user_namespaces", "7"),
            ("net.ipv4.ip_forward", "1\n|/bin/canary"),
            ("", "1"),
        ];
        for (key, value) in traversals {
            let what = format!("{name}, {key}");
            let stop = stopped(&what, case, &with(key, value, true));
            assert!(matches!(stop, Stopped::Refused(_)), "{what}, {case:?}: {stop:?}");
            canary.unchanged(&what);
        }
        // Namespaced ones, in the namespaces of the host. strict does not share them, whatever the config leaves out.
        for (key, value) in [("net.ipv4.ip_forward", "7"), ("kernel.shm_rmid_forced", "1"), ("fs.mqueue.msg_max", "11")]
        {
            let what = format!("{name}, {key} of the host");
            let out = with(key, value, false);
            if case.policy != "strict" {
                let stop = stopped(&what, case, &out);
                assert!(matches!(stop, Stopped::Refused(_)), "{what}, {case:?}: {stop:?}");
            }
            canary.unchanged(&what);
        }
    }
}

#[test]
fn cgroup_paths_that_climb() {
    let name = "cgroup_paths_that_climb";
    let leaf = format!("stockade-climbed-{}", std::process::id());
    let above = |dir: &str| std::path::Path::new(dir).join(&leaf);
    let paths = [
        format!("/../../../tmp/{leaf}"),
        format!("../../../../tmp/{leaf}"),
        format!("/a/../../../../../tmp/{leaf}"),
        format!("/../../../../../../tmp/{leaf}"),
        format!("..//..//..//..//tmp/{leaf}"),
    ];
    for case in cases(name) {
        assert_eq!(ok(&case.shell("echo inside").run()), INSIDE, "{case:?}: the control");
        for path in &paths {
            let mut bundle = case.shell("echo inside");
            bundle.config["linux"]["cgroupsPath"] = json!(path);
            let stop = stopped(name, case, &bundle.run());
            for dir in ["/tmp", "/sys/fs/cgroup/../../../tmp", "/sys/fs/tmp", "/sys/tmp", "/var/tmp"] {
                assert!(!above(dir).exists(), "{path}, {case:?}: made in {dir}");
            }
            assert!(foreign() || matches!(stop, Stopped::Refused(_)), "{path}, {case:?}: {stop:?}");
        }
    }
}

#[test]
fn cve_2022_4318_newlines_in_the_environment() {
    let name = "cve_2022_4318_newlines_in_the_environment";
    let evil = "/home\nroot2::0:0::/:/bin/sh";
    for case in cases(name) {
        let script = "printf %s \"$HOME\" | wc -l; cat /etc/passwd; echo inside";
        let plain = ok(&case.shell(script).run());
        assert!(plain.starts_with("0\n") && plain.ends_with(INSIDE), "{case:?}: the control: {plain}");
        for field in ["HOME", "USER", "SHELL"] {
            let mut bundle = case.shell(script);
            bundle.config["process"]["env"] = json!(["PATH=/bin", format!("{field}={evil}")]);
            bundle.config["hostname"] = json!("box");
            let before = fs::read(bundle.rootfs().join("etc/passwd")).unwrap();
            if let Stopped::Confined(said) = stopped(name, case, &bundle.run()) {
                assert!(!said.contains("root2"), "{field}, {case:?}: {said}");
                // It arrived as it is, in one variable.
                assert!(field != "HOME" || said.starts_with("1\n"), "{case:?}: {said}");
            }
            assert_eq!(fs::read(bundle.rootfs().join("etc/passwd")).unwrap(), before, "{field}, {case:?}");
        }
        let mut bundle = case.shell("echo inside");
        bundle.config["hostname"] = json!("box\n127.0.0.1 canary");
        let stop = stopped(name, case, &bundle.run());
        assert!(foreign() || matches!(stop, Stopped::Refused(_)), "{case:?}: {stop:?}");
    }
}

#[test]
fn cve_2024_9676_passwd_without_end() {
    let name = "cve_2024_9676_passwd_without_end";
    for case in cases(name) {
        for kind in ["fifo", "a link to zero", "a gigabyte", "a directory", "a cycle", "a terminal", "a link out"] {
            let canary = case.canary();
            // HOME is not set, so that whoever fills it has to look; and a user by name has to be looked for.
            let mut bundle = case.shell("echo inside");
            bundle.config["process"]["env"] = json!(["PATH=/bin"]);
            bundle.config["process"]["args"] = json!(["sh", "-c", "echo inside; sleep 1000"]);
            for file in ["passwd", "group"] {
                let at = bundle.rootfs().join("etc").join(file);
                remove(&at);
                let link = |to: &str| std::os::unix::fs::symlink(to, &at).unwrap();
                match kind {
                    "fifo" => nix::unistd::mkfifo(&at, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap(),
                    "a link to zero" => link("/dev/zero"),
                    "a gigabyte" => fs::File::create(&at).unwrap().set_len(1 << 30).unwrap(),
                    "a directory" => fs::create_dir(&at).unwrap(),
                    "a cycle" => link(file),
                    "a terminal" => link("/dev/tty"),
                    _ => link(&canary.climbing(file)),
                }
            }
            case.give(bundle.path());
            let what = format!("{name}, {kind}");
            let began = std::time::Instant::now();
            ok(&bundle.create());
            ok(&bundle.verb(&["start", "box"]));
            let by_name = bundle.verb(&["exec", "-u", "user", "box", "echo", "inside"]);
            stopped(&what, case, &by_name);
            assert!(!by_name.status.success() || foreign(), "{what}, {case:?}: there is no such user");
            assert_eq!(ok(&bundle.verb(&["exec", "-u", "0:0", "box", "echo", "inside"])), INSIDE, "{what}, {case:?}");
            assert!(began.elapsed().as_secs() < 40, "{what}, {case:?}: {:?}", began.elapsed());
            ok(&bundle.delete());
            canary.unchanged(&what);
        }
    }
}
