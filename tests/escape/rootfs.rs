//! The image is hostile, in every path that a runtime touches.

use crate::common::*;
use crate::harness::*;
use crate::{need_root, probe};
use nix::libc::S_IFIFO;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;
use std::fs;
use std::path::Path;

/// What an image can put in the place of anything.
const THINGS: [&str; 13] = [
    "link to the canary",
    "link that climbs",
    "link to a file of the canary",
    "link to nothing in the canary",
    "link to the root",
    "cycle",
    "dangling link",
    "fifo",
    "device",
    "directory",
    "file",
    "socket",
    "sparse gigabyte",
];

fn place(thing: &str, at: &Path, canary: &Canary) -> bool {
    remove(at);
    let link = |to: &str| std::os::unix::fs::symlink(to, at).unwrap();
    let mode = Mode::from_bits_truncate(0o666);
    match thing {
        "link to the canary" => link(&canary.at("")),
        "link that climbs" => link(&canary.climbing("dir")),
        "link to a file of the canary" => link(&canary.at("file")),
        "link to nothing in the canary" => link(&canary.at("new")),
        "link to the root" => link("/"),
        "cycle" => link(&at.file_name().unwrap().to_string_lossy()),
        "dangling link" => link("nowhere/at/all"),
        "fifo" => mknod(at, SFlag::from_bits_truncate(S_IFIFO), mode, 0).unwrap(),
        // The memory of the kernel, and reading has no end.
        "device" if is_root() => mknod(at, SFlag::S_IFCHR, mode, makedev(1, 5)).unwrap(),
        "device" => return false,
        "directory" => fs::create_dir(at).unwrap(),
        "file" => fs::write(at, "of the image\n").unwrap(),
        "socket" => drop(std::os::unix::net::UnixListener::bind(at).unwrap()),
        "sparse gigabyte" => fs::File::create(at).unwrap().set_len(1 << 30).unwrap(),
        other => panic!("{other}"),
    }
    true
}

/// Puts every thing at every path, with what the config has there and without it.
fn everything_at(test: &str, paths: &[&str], without: &[&str], more: &dyn Fn(&mut Bundle)) {
    // What the workload itself does in its own rootfs is not the matter: it only looks.
    let script = LOOK;
    for case in cases(test) {
        let canary = case.canary();
        // strict fills what the config leaves out, so bare is the same there. What is below a mount is hidden by it.
        let views: &[bool] = match (without.is_empty(), case.policy) {
            (true, _) | (_, "strict") => &[false],
            _ if paths.iter().all(|p| p.starts_with("/dev/")) => &[true],
            _ => &[false, true],
        };
        for bare in views.iter().copied() {
            let mut bundle = case.shell(script);
            more(&mut bundle);
            if bare {
                unmount(&mut bundle, without);
            }
            case.give(bundle.path());
            assert!(ok(&bundle.run()).ends_with(INSIDE), "the control, {case:?}");
            let saved = bundle.path().join("saved");
            for path in paths {
                let at = bundle.rootfs().join(path.trim_start_matches('/'));
                let there = fs::symlink_metadata(&at).is_ok();
                if there {
                    fs::rename(&at, &saved).unwrap();
                }
                for thing in THINGS {
                    fs::create_dir_all(at.parent().unwrap()).unwrap();
                    if !place(thing, &at, &canary) {
                        continue;
                    }
                    if case.uid != 0 && is_root() {
                        std::os::unix::fs::lchown(&at, Some(case.uid), Some(case.uid)).unwrap();
                    }
                    let what = format!("{test}, {path} is a {thing}, {}", if bare { "bare" } else { "mounted" });
                    stopped(&what, case, &bundle.run());
                    canary.unchanged(&what);
                }
                remove(&at);
                if there {
                    fs::rename(&saved, &at).unwrap();
                }
            }
            // After all of that the bundle still works.
            assert!(ok(&bundle.run()).ends_with(INSIDE), "the control, afterwards, {case:?}");
        }
    }
}

const DEV: [&str; 3] = ["/dev/pts", "/dev/shm", "/dev/mqueue"];

#[test]
fn the_image_puts_anything_at_dev() {
    everything_at(
        "the_image_puts_anything_at_dev",
        &["/dev"],
        &["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"],
        &|_| {},
    );
}

#[test]
fn the_image_puts_anything_at_the_device_nodes() {
    let name = "the_image_puts_anything_at_the_device_nodes";
    let all = [&DEV[..], &["/dev"]].concat();
    everything_at(
        name,
        &["/dev/null", "/dev/console", "/dev/ptmx", "/dev/fd", "/dev/stdin", "/dev/pts"],
        &all,
        &|_| {},
    );
}

#[test]
fn the_image_puts_anything_at_the_kernels_files() {
    let name = "the_image_puts_anything_at_the_kernels_files";
    everything_at(name, &["/proc", "/sys"], &["/sys", "/sys/fs/cgroup"], &|_| {});
}

#[test]
fn the_image_puts_anything_at_mount_points() {
    everything_at("the_image_puts_anything_at_mount_points", &["/mnt", "/mnt/deep", "/data"], &[], &|bundle| {
        let tmpfs = |to: &str| json!({ "destination": to, "type": "tmpfs", "source": "tmpfs" });
        mount(bundle, tmpfs("/mnt"));
        mount(bundle, tmpfs("/mnt/deep/er"));
        fs::create_dir(bundle.path().join("volume")).unwrap();
        let volume = bundle.path().join("volume");
        mount(bundle, json!({ "destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "rw"] }));
    });
}

#[test]
fn the_image_puts_anything_at_masked_and_read_only_paths() {
    let name = "the_image_puts_anything_at_masked_and_read_only_paths";
    everything_at(name, &["/home", "/etc/masked", "/srv", "/etc/shut"], &[], &|bundle| {
        for file in ["masked", "shut"] {
            fs::write(bundle.rootfs().join("etc").join(file), "x").unwrap();
        }
        fs::create_dir(bundle.rootfs().join("srv")).unwrap();
        bundle.config["linux"]["maskedPaths"].as_array_mut().unwrap().extend([json!("/home"), json!("/etc/masked")]);
        bundle.config["linux"]["readonlyPaths"].as_array_mut().unwrap().extend([json!("/srv"), json!("/etc/shut")]);
    });
}

#[test]
fn the_image_puts_anything_at_the_cwd_and_the_program() {
    let name = "the_image_puts_anything_at_the_cwd_and_the_program";
    everything_at(name, &["/work", "/bin/program", "/bin/sh"], &[], &|bundle| {
        bundle.config["process"]["cwd"] = json!("/work/deep");
        fs::create_dir_all(bundle.rootfs().join("work/deep")).unwrap();
        std::os::unix::fs::symlink("busybox", bundle.rootfs().join("bin/program")).unwrap();
    });
}

/// Refused, or nothing of the canary inside; by every caller under every policy, for each of these images.
fn images(test: &str, script: &str, base: &dyn Fn(&mut Bundle), ways: &[(&str, Attack<'_>)]) {
    for case in cases(test) {
        let mut control = case.shell(script);
        base(&mut control);
        case.give(control.path());
        let said = ok(&control.run());
        assert!(said.ends_with(INSIDE), "{test}, {case:?}: the control: {said}");
        for (name, way) in ways {
            let what = format!("{test}, {name}");
            let canary = case.canary();
            let mut bundle = case.shell(script);
            base(&mut bundle);
            way(&mut bundle, &canary);
            case.give(bundle.path());
            if let Stopped::Confined(said) = stopped(&what, case, &bundle.run()) {
                assert_eq!(said, ok(&control.run()), "{what}, {case:?}: it sees something else");
            }
            canary.unchanged(&what);
        }
    }
}

#[test]
fn cve_2019_18837_mount_targets_that_are_links() {
    let tmpfs = |to: &str| json!({ "destination": to, "type": "tmpfs", "source": "tmpfs", "options": ["mode=0711"] });
    images(
        "cve_2019_18837_mount_targets_that_are_links",
        LOOK,
        &|bundle| {
            mount(bundle, tmpfs("/mnt"));
            mount(bundle, tmpfs("/home/deep/er"));
        },
        &[
            ("outright", &|b, c| link(b, "/mnt", &c.at(""))),
            ("climbing", &|b, c| link(b, "/mnt", &c.climbing("dir"))),
            ("on the way", &|b, c| link(b, "/home", &c.at("dir"))),
            ("on the way, and climbing", &|b, c| link(b, "/home/deep", &c.climbing("dir/below"))),
            ("by way of the process", &|b, c| link(b, "/home", &format!("/proc/self/root{}", c.at("dir")))),
            ("by way of init's root", &|b, c| link(b, "/home", &format!("/proc/1/root{}", c.at("dir")))),
            ("a chain", &|b, c| {
                link(b, "/mnt", "one/two");
                link(b, "/one", "/home");
                link(b, "/home/two", &c.climbing("dir"));
            }),
        ],
    );
}

/// A directory of the image or the bundle in the place of a procfs, with the files that a runtime writes.
fn false_proc(at: &Path) {
    for dir in ["self/attr/apparmor", "thread-self/attr/apparmor", "1/attr/apparmor", "sys/net/ipv4", "sys/user"] {
        fs::create_dir_all(at.join(dir)).unwrap();
    }
    for holder in ["self", "thread-self", "1"] {
        for file in ["attr/exec", "attr/apparmor/exec", "attr/keycreate", "oom_score_adj", "setgroups", "uid_map"] {
            fs::write(at.join(holder).join(file), "").unwrap();
        }
    }
    for file in ["sys/net/ipv4/ip_forward", "sys/user/max_user_namespaces"] {
        fs::write(at.join(file), "").unwrap();
    }
}

/// What was written into it.
fn written(at: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(written(&path));
        } else if fs::read(&path).is_ok_and(|b| !b.is_empty()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn cve_2019_16884_an_image_that_mounts_over_proc() {
    let name = "cve_2019_16884_an_image_that_mounts_over_proc";
    for case in cases(name) {
        // The sysctl stands for everything that is written to a procfs, so that no LSM is needed to see it.
        let wish = |bundle: &mut Bundle| {
            bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
            bundle.config["process"]["oomScoreAdj"] = json!(500);
        };
        let mut control = case.shell("cat /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj");
        wish(&mut control);
        assert_eq!(ok(&control.run()), "1\n500\n", "{case:?}: the control");
        for way in ["volume over proc", "proc of the image", "link of the image", "volume over a part"] {
            let what = format!("{name}, {way}");
            let canary = case.canary();
            let mut bundle = case.shell("echo inside");
            wish(&mut bundle);
            let volume = bundle.path().join("volume");
            let mut fake = volume.clone();
            fs::create_dir(&volume).unwrap();
            let over = |to: &str| json!({ "destination": to, "type": "bind", "source": volume, "options": ["rbind"] });
            match way {
                "volume over proc" => {
                    unmount(&mut bundle, &["/proc"]);
                    bundle.config["mounts"].as_array_mut().unwrap().insert(0, over("/proc"));
                }
                "proc of the image" => {
                    unmount(&mut bundle, &["/proc"]);
                    fake = bundle.rootfs().join("proc");
                }
                "link of the image" => {
                    unmount(&mut bundle, &["/proc"]);
                    link(&bundle, "/proc", "home");
                    fake = bundle.rootfs().join("home");
                }
                _ => mount(&mut bundle, over("/proc/sys")),
            }
            false_proc(&fake);
            if way == "volume over a part" {
                fs::create_dir_all(fake.join("net/ipv4")).unwrap();
                fs::write(fake.join("net/ipv4/ip_forward"), "").unwrap();
            }
            case.give(bundle.path());
            stopped(&what, case, &bundle.run());
            assert_eq!(written(&fake), [""; 0], "{what}, {case:?}: written into what is no procfs");
            canary.unchanged(&what);
        }
    }
}

/// A profile that nobody has loaded: whoever says that it is in force has written it somewhere else.
fn label_of_nobody(name: &str, attack: &dyn Fn(&mut Bundle) -> std::path::PathBuf) {
    for case in cases(name) {
        let mut bundle = case.shell("echo inside");
        let fake = attack(&mut bundle);
        case.give(bundle.path());
        // The control: without the label the same bundle is refused for itself, or its workload is inside.
        stopped(name, case, &bundle.run());
        for label in ["apparmorProfile", "selinuxLabel"] {
            let what = format!("{name}, {label}");
            let canary = case.canary();
            bundle.config["process"]["apparmorProfile"] = json!(null);
            bundle.config["process"]["selinuxLabel"] = json!(null);
            bundle.config["process"][label] = json!("stockade_nobody:nobody_r:nobody_t:s0");
            let out = bundle.run();
            assert!(!out.status.success(), "{what}, {case:?}: a label that does not exist is in force");
            stopped(&what, case, &out);
            assert_eq!(written(&fake), [""; 0], "{what}, {case:?}: the label was written elsewhere");
            canary.unchanged(&what);
        }
    }
}

#[test]
fn cve_2023_28642_a_label_behind_a_linked_proc() {
    label_of_nobody("cve_2023_28642_a_label_behind_a_linked_proc", &|bundle| {
        let fake = bundle.rootfs().join("home");
        false_proc(&fake);
        link(bundle, "/proc", "/home");
        fake
    });
}

#[test]
fn cve_2025_62596_a_label_for_a_file_of_the_image() {
    label_of_nobody("cve_2025_62596_a_label_for_a_file_of_the_image", &|bundle| {
        unmount(bundle, &["/proc"]);
        let fake = bundle.rootfs().join("proc");
        false_proc(&fake);
        fake
    });
}

#[test]
fn cve_2019_19921_proc_is_a_link_into_a_volume() {
    let name = "cve_2019_19921_proc_is_a_link_into_a_volume";
    for case in cases(name) {
        assert_eq!(ok(&case.shell("echo inside").run()), INSIDE);
        for target in ["/volume/proc", "volume/proc", "../volume/proc", "/home"] {
            let canary = case.canary();
            let mut bundle = case.shell("echo inside");
            let volume = bundle.path().join("volume");
            fs::create_dir_all(volume.join("proc")).unwrap();
            // The volume is there before: a mount of the config that comes first.
            let first = json!({ "destination": "/volume", "type": "bind", "source": volume, "options": ["rbind"] });
            bundle.config["mounts"].as_array_mut().unwrap().insert(0, first);
            link(&bundle, "/proc", target);
            case.give(bundle.path());
            let out = bundle.run();
            let stop = stopped(name, case, &out);
            assert!(matches!(&stop, Stopped::Refused(e) if e.contains("/proc")), "{target}, {case:?}: {stop:?}");
            canary.unchanged(name);
        }
    }
}

#[test]
fn cve_2025_54867_proc_and_sys_are_links() {
    let name = "cve_2025_54867_proc_and_sys_are_links";
    for case in cases(name) {
        assert_eq!(ok(&case.shell("echo inside").run()), INSIDE);
        for place in ["/proc", "/sys"] {
            for target in ["/home", "/", ".", "/tmp/../home", "/dev"] {
                let bundle = case.shell("echo inside");
                link(&bundle, place, target);
                case.give(bundle.path());
                let stop = stopped(name, case, &bundle.run());
                assert!(
                    matches!(&stop, Stopped::Refused(e) if e.contains(place)),
                    "{place} -> {target}, {case:?}: {stop:?}"
                );
            }
        }
    }
}

/// What covers a masked file is /dev/null and nothing else: nothing to read, and what is written goes nowhere.
const MASKED: &str = "stat -c '%F %t:%T' /proc/version /etc/masked; cat /proc/version /etc/masked; \
    echo of the workload >/etc/masked; ls -A /srv | wc -l; echo inside";

fn masking(bundle: &mut Bundle) {
    fs::write(bundle.rootfs().join("etc/masked"), "masked\n").unwrap();
    fs::create_dir(bundle.rootfs().join("srv")).unwrap();
    fs::write(bundle.rootfs().join("srv/masked"), "").unwrap();
    let masks = bundle.config["linux"]["maskedPaths"].as_array_mut().unwrap();
    masks.extend(["/proc/version", "/etc/masked", "/srv"].map(|p| json!(p)));
    unmount(bundle, &["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]);
}

#[test]
fn cve_2025_31133_the_null_of_the_image() {
    images(
        "cve_2025_31133_the_null_of_the_image",
        MASKED,
        &masking,
        &[
            ("core_pattern", &|b, _| link(b, "/dev/null", "/proc/sys/kernel/core_pattern")),
            ("the canary", &|b, c| link(b, "/dev/null", &c.at("null"))),
            ("climbing", &|b, c| link(b, "/dev/null", &c.climbing("null"))),
            ("a file", &|b, _| {
                remove(&b.rootfs().join("dev/null"));
                fs::write(b.rootfs().join("dev/null"), "of the image\n").unwrap();
            }),
            ("another mask", &|b, _| link(b, "/dev/null", "/proc/keys")),
        ],
    );
}

#[test]
fn cve_2025_62161_the_null_of_the_image_is_another_device() {
    images(
        "cve_2025_62161_the_null_of_the_image_is_another_device",
        MASKED,
        &masking,
        &[
            ("zero", &|b, _| {
                if is_root() {
                    let at = b.rootfs().join("dev/null");
                    remove(&at);
                    mknod(&at, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5)).unwrap();
                }
            }),
            ("a link to the host's", &|b, _| link(b, "/dev/null", "/dev/zero")),
            ("a directory", &|b, _| {
                remove(&b.rootfs().join("dev/null"));
                fs::create_dir(b.rootfs().join("dev/null")).unwrap();
            }),
        ],
    );
}

/// Creates with a terminal, and whether that and its start worked.
fn with_terminal(what: &str, case: Case, mut bundle: Bundle) -> bool {
    bundle.config["process"]["terminal"] = json!(true);
    let path = bundle.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    case.give(bundle.path());
    bundle.write();
    let place = bundle.path().display().to_string();
    let out = bundle.verb(&["create", "--bundle", &place, "--console-socket", &path.display().to_string(), "box"]);
    // Who has no standard output that anybody reads cannot print the canary; the host's side is what is looked at.
    if let Stopped::Refused(_) = stopped(what, case, &out) {
        return false;
    }
    let (_master, _) = receive(&listener);
    ok(&bundle.verb(&["start", "box"]));
    ended(&bundle);
    ok(&bundle.delete());
    true
}

fn consoles(name: &str, bare: bool, ways: &[(&str, Attack<'_>)]) {
    for case in cases(name) {
        let made = |bundle: &mut Bundle| {
            if bare {
                unmount(bundle, &["/dev", "/dev/shm", "/dev/mqueue"]);
            }
            fs::create_dir_all(bundle.rootfs().join("dev/pts")).unwrap();
        };
        let mut control = case.bundle(&["true"]);
        made(&mut control);
        assert!(with_terminal(name, case, control), "{name}, {case:?}: the control");
        for (way, attack) in ways {
            let what = format!("{name}, {way}");
            let canary = case.canary();
            let mut bundle = case.shell("stat -c '%F' /dev/console; chmod 0777 /dev/console; echo x >/dev/console");
            made(&mut bundle);
            attack(&mut bundle, &canary);
            with_terminal(&what, case, bundle);
            canary.unchanged(&what);
        }
    }
}

#[test]
fn cve_2025_52565_the_terminal_of_the_image() {
    // The names that a path-based runtime would open and bind.
    let pts = |b: &mut Bundle, to: &str| {
        unmount(b, &["/dev/pts"]);
        for n in 0..4 {
            link(b, &format!("/dev/pts/{n}"), to);
        }
        link(b, "/dev/pts/ptmx", to);
        link(b, "/dev/ptmx", to);
    };
    consoles(
        "cve_2025_52565_the_terminal_of_the_image",
        true,
        &[
            ("pts are the canary", &|b, c| pts(b, &c.at("file"))),
            ("pts climb", &|b, c| pts(b, &c.climbing("file"))),
            ("pts are a sysctl", &|b, _| pts(b, "/proc/sys/kernel/core_pattern")),
            ("the directory of pts", &|b, c| link(b, "/dev/pts", &c.at("dir"))),
        ],
    );
}

#[test]
fn cve_2026_88264_the_console_of_the_image() {
    consoles(
        "cve_2026_88264_the_console_of_the_image",
        true,
        &[
            ("is the canary", &|b, c| link(b, "/dev/console", &c.at("console"))),
            ("climbs", &|b, c| link(b, "/dev/console", &c.climbing("console"))),
            ("is made there", &|b, c| link(b, "/dev/console", &c.at("empty/console"))),
            ("climbs and is made there", &|b, c| link(b, "/dev/console", &c.climbing("empty/console"))),
            ("is a sysctl", &|b, _| link(b, "/dev/console", "/proc/sys/kernel/core_pattern")),
            ("/dev is the canary", &|b, c| link(b, "/dev", &c.climbing(""))),
        ],
    );
}

fn bare_dev(test: &str, ways: &[(&str, Attack<'_>)]) {
    let none = ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"];
    images(test, LOOK, &|b| unmount(b, &none), ways);
}

#[test]
fn cve_2026_41579_dev_is_a_link_to_a_directory_of_the_host() {
    // A file called ptmx is there to be removed; core, fd, stdin, stdout and stderr are not there to be made.
    bare_dev(
        "cve_2026_41579_dev_is_a_link_to_a_directory_of_the_host",
        &[
            ("outright", &|b, c| link(b, "/dev", &c.at(""))),
            ("climbing", &|b, c| link(b, "/dev", &c.climbing(""))),
            ("ptmx alone", &|b, c| link(b, "/dev/ptmx", &c.at("ptmx"))),
            ("by way of another link", &|b, c| {
                link(b, "/dev", "home/dev");
                link(b, "/home/dev", &c.climbing("dir"));
            }),
        ],
    );
}

#[test]
fn cve_2026_47766_default_devices_behind_links() {
    let each = |b: &Bundle, to: &dyn Fn(&str) -> String| {
        for name in ["null", "zero", "full", "random", "urandom", "tty", "console"] {
            link(b, &format!("/dev/{name}"), &to(name));
        }
    };
    bare_dev(
        "cve_2026_47766_default_devices_behind_links",
        &[
            ("made there", &|b, c| each(b, &|n| c.at(&format!("empty/{n}")))),
            ("climbing", &|b, c| each(b, &|n| c.climbing(&format!("empty/{n}")))),
            ("what is there", &|b, c| each(b, &|_| c.at("file"))),
            ("the directory", &|b, c| link(b, "/dev", &c.at("empty"))),
        ],
    );
}

#[test]
fn cve_2026_88265_a_null_that_is_elsewhere() {
    let null = |b: &mut Bundle, c: &Canary, name: &str| {
        // It has the numbers of the real one: whoever compares only those chowns the host's.
        b.config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
        link(b, "/dev/null", &c.climbing(name));
    };
    bare_dev(
        "cve_2026_88265_a_null_that_is_elsewhere",
        &[
            ("a file", &|b, c| null(b, c, "null")),
            ("the host's own", &|b, _| link(b, "/dev/null", &format!("{}dev/null", "../".repeat(24)))),
            ("through a magic link", &|b, _| link(b, "/dev/null", "/proc/self/fd/0")),
        ],
    );
}

#[test]
fn cve_2025_24965_nothing_is_written_into_the_image() {
    attack(
        "cve_2025_24965_nothing_is_written_into_the_image",
        &cases("cve_2025_24965_nothing_is_written_into_the_image"),
        &sh(LOOK),
        &[("krun", &|b, c| {
            b.config["annotations"] = json!({ "run.oci.handler": "krun", "krun.cpus": "1" });
            for name in [".krun_config.json", ".krun_vm.json", "etc/resolv.conf", "etc/hosts", "etc/hostname"] {
                link(b, name, &c.climbing(".krun_config.json"));
            }
        })],
    );
}

/// What openat2(2) gives a workload that has no filter of its container's.
fn openat2() -> i64 {
    let bundle = Case { policy: "oci", uid: 0 }.bundle(&["probe", "calls", "openat2 437 -100 str=/ buf 24"]);
    probe::install(&bundle, &probe::program().unwrap());
    ok(&bundle.run()).trim().strip_prefix("openat2 = ").unwrap().parse().unwrap()
}

/// As under a unit with RestrictSUIDSGID=yes: there destinations are walked name by name, and no link is followed.
#[test]
fn the_same_where_openat2_answers_enosys() {
    let name = "the_same_where_openat2_answers_enosys";
    need_root!(name);
    let probe = match probe::program() {
        Ok(probe) => probe,
        Err(why) => return skip(name, &why),
    };
    assert!(openat2() >= 0, "the control");
    without_openat2(
        &probe,
        &[
            || assert_eq!(openat2(), -i64::from(nix::libc::ENOSYS)),
            cve_2019_18837_mount_targets_that_are_links,
            cve_2019_19921_proc_is_a_link_into_a_volume,
            cve_2025_31133_the_null_of_the_image,
            cve_2025_54867_proc_and_sys_are_links,
            cve_2026_41579_dev_is_a_link_to_a_directory_of_the_host,
            the_image_puts_anything_at_the_cwd_and_the_program,
        ],
    );
}
