//! Paths that change between a look and a use: a thread exchanges two things, as fast as it can, while the same bundle is
//! run again and again.
//!
//! 200 rounds for every policy: all of them by root under `oci`, where the least stands in the way, and 160 by root and 40
//! by an ordinary user under the others; an ordinary user's 40 under `oci` come on top. Where they are lean (in the test
//! machine) a twentieth of it.

use crate::common::*;
use crate::harness::*;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How often a launch meets the exchange.
fn rounds(case: Case) -> usize {
    let rounds = match (case.policy, case.uid) {
        _ if !is_root() => 200,
        ("oci", 0) => 200,
        (_, 0) => 160,
        _ => 40,
    };
    if lean() { rounds / 20 } else { rounds }
}

/// Two things that change places.
type Pair = (PathBuf, PathBuf);

/// Exchanges `a` and `b` until `during` has returned; how often.
fn exchanging(pairs: &[Pair], during: impl FnOnce()) -> usize {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (a, b) in pairs {
                    // ENOENT while the launch itself makes one of them.
                    let _ = renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE);
                }
                count.fetch_add(1, Ordering::Relaxed);
                // A hundred exchanges in a launch are as good as ten thousand, and leave the processor to it.
                std::thread::sleep(std::time::Duration::from_micros(20));
            }
        });
        let _stop = Stop(&stop);
        during();
    });
    count.load(Ordering::Relaxed)
}

/// What a race is about: what the workload says where it is confined, and how the bundle is made.
struct Race<'a> {
    script: &'a str,
    /// Lines that a confined workload may say.
    may: &'a [&'a str],
    make: &'a dyn Fn(&mut Bundle, &Canary) -> Vec<Pair>,
}

fn race(test: &str, race: &Race<'_>) {
    for case in cases(test) {
        let canary = case.canary();
        let mut bundle = case.shell(race.script);
        let pairs = (race.make)(&mut bundle, &canary);
        case.give(bundle.path());
        let check = |out: &std::process::Output| match stopped(test, case, out) {
            Stopped::Confined(said) => {
                for line in said.lines() {
                    assert!(race.may.contains(&line) || line == "inside", "{test}, {case:?}: {line:?} in {said}");
                }
                true
            }
            Stopped::Refused(_) => false,
        };
        // The control: while nothing moves it works.
        assert!(check(&bundle.run()), "{test}, {case:?}: the control");
        let mut ran = 0;
        let exchanges = exchanging(&pairs, || {
            for _ in 0..rounds(case) {
                ran += usize::from(check(&bundle.run()));
            }
        });
        canary.unchanged(test);
        // Both sides of it were met: a thread that exchanges nothing would show nothing.
        assert!(exchanges > rounds(case), "{test}, {case:?}: {exchanges} exchanges in {} rounds", rounds(case));
        assert!(ran > 0 || !foreign(), "{test}, {case:?}: {ran} of {} rounds ran", rounds(case));
    }
}

/// A directory, and beside it a link that takes its place.
fn pair(dir: &Path, name: &str, to: &str) -> Pair {
    let (a, b) = (dir.join(name), dir.join(format!("{name}-link")));
    fs::create_dir_all(&a).unwrap();
    std::os::unix::fs::symlink(to, &b).unwrap();
    (a, b)
}

fn volume(bundle: &mut Bundle, at: &str) -> PathBuf {
    let volume = bundle.path().join("volume");
    fs::create_dir(&volume).unwrap();
    mount(bundle, json!({ "destination": at, "type": "bind", "source": volume, "options": ["rbind", "rw"] }));
    volume
}

#[test]
fn cve_2021_30465_a_mount_target_that_moves() {
    race(
        "cve_2021_30465_a_mount_target_that_moves",
        &Race {
            script: LOOK,
            may: &[],
            make: &|bundle, canary| {
                // As in the report: a volume that another container writes, and mounts below it.
                let volume = volume(bundle, "/data");
                let pairs = vec![
                    pair(&volume, "one", &canary.climbing("dir")),
                    pair(&volume, "two", "/"),
                    pair(&bundle.rootfs(), "three", &canary.at("dir")),
                ];
                for to in ["/data/one", "/data/two", "/three/deep"] {
                    mount(bundle, json!({ "destination": to, "type": "tmpfs", "source": "tmpfs" }));
                }
                pairs
            },
        },
    );
}

#[test]
fn cve_2024_45310_directories_that_are_made_while_they_move() {
    race(
        "cve_2024_45310_directories_that_are_made_while_they_move",
        &Race {
            script: LOOK,
            may: &[],
            make: &|bundle, canary| {
                let volume = volume(bundle, "/data");
                fs::write(bundle.path().join("file"), "").unwrap();
                let file = bundle.path().join("file");
                for (n, to) in [canary.climbing("dir"), canary.at("dir")].iter().enumerate() {
                    let at = format!("/data/{n}/made/deep");
                    mount(bundle, json!({ "destination": at, "type": "tmpfs", "source": "tmpfs" }));
                    let at = format!("/data/{n}/made/file");
                    mount(bundle, json!({ "destination": at, "type": "bind", "source": file, "options": ["bind"] }));
                    fs::create_dir(volume.join(n.to_string())).unwrap();
                    std::os::unix::fs::symlink(to, volume.join(format!("{n}-link"))).unwrap();
                    // Whoever the container's root is on the host.
                    fs::set_permissions(volume.join(n.to_string()), fs::Permissions::from_mode(0o777)).unwrap();
                }
                (0..2).map(|n| (volume.join(n.to_string()), volume.join(format!("{n}-link")))).collect()
            },
        },
    );
}

#[test]
fn a_proc_that_becomes_a_link() {
    race(
        "a_proc_that_becomes_a_link",
        &Race {
            // Wherever it is by now: what the runtime masks is masked, and what it shuts is shut.
            script: "for p in /proc /proc-link; do [ -d $p/self/task ] || continue; cat $p/version 2>/dev/null; \
                     for f in kernel/core_pattern kernel/hostname vm/overcommit_memory; do \
                     ( : >>$p/sys/$f ) 2>/dev/null && echo canary-open $f; done; done; echo inside",
            may: &[],
            make: &|bundle, canary| {
                bundle.config["linux"]["maskedPaths"].as_array_mut().unwrap().push(json!("/proc/version"));
                let rootfs = bundle.rootfs();
                for (name, to) in [("proc", "/home".to_owned()), ("sys", canary.climbing("dir"))] {
                    std::os::unix::fs::symlink(to, rootfs.join(format!("{name}-link"))).unwrap();
                }
                vec![(rootfs.join("proc"), rootfs.join("proc-link")), (rootfs.join("sys"), rootfs.join("sys-link"))]
            },
        },
    );
}

#[test]
fn cve_2025_52881_what_is_written_while_proc_moves() {
    let name = "cve_2025_52881_what_is_written_while_proc_moves";
    race(
        name,
        &Race {
            script: "cat /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj; echo inside",
            may: &["1", "500"],
            make: &|bundle, canary| {
                bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
                bundle.config["process"]["oomScoreAdj"] = json!(500);
                let rootfs = bundle.rootfs();
                // A procfs by its looks, whose files are links to where the writer should be led.
                for file in ["sys/net/ipv4/ip_forward", "self/oom_score_adj", "self/attr/exec", "thread-self/attr/exec"]
                {
                    let at = rootfs.join("fake").join(file);
                    fs::create_dir_all(at.parent().unwrap()).unwrap();
                    std::os::unix::fs::symlink(canary.climbing("core_pattern"), at).unwrap();
                }
                vec![(rootfs.join("proc"), rootfs.join("fake"))]
            },
        },
    );
}

#[test]
fn a_mask_whose_null_moves() {
    race(
        "a_mask_whose_null_moves",
        &Race {
            script: "cat /etc/masked; echo x >/etc/masked; cat /proc/version; echo inside",
            may: &[],
            make: &|bundle, canary| {
                unmount(bundle, &["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]);
                let masks = ["/etc/masked", "/proc/version"].map(|p| json!(p));
                bundle.config["linux"]["maskedPaths"].as_array_mut().unwrap().extend(masks);
                let rootfs = bundle.rootfs();
                fs::write(rootfs.join("etc/masked"), "").unwrap();
                std::os::unix::fs::symlink("/proc/sys/kernel/core_pattern", rootfs.join("dev/null-link")).unwrap();
                std::os::unix::fs::symlink(canary.climbing("null"), rootfs.join("dev/null-canary")).unwrap();
                vec![
                    (rootfs.join("dev/null"), rootfs.join("dev/null-link")),
                    (rootfs.join("dev/null"), rootfs.join("dev/null-canary")),
                ]
            },
        },
    );
}

#[test]
fn ghsa_3q8j_pf29_vwv8_a_read_only_path_that_moves() {
    race(
        "ghsa_3q8j_pf29_vwv8_a_read_only_path_that_moves",
        &Race {
            // Whatever was there when the runtime looked is read-only; the canary is never what the mount holds.
            script: LOOK,
            may: &[],
            make: &|bundle, canary| {
                let volume = volume(bundle, "/data");
                let paths = [json!("/data/shut"), json!("/data/shut/below"), json!("/data/masked")];
                bundle.config["linux"]["readonlyPaths"].as_array_mut().unwrap().extend(paths[..2].iter().cloned());
                bundle.config["linux"]["maskedPaths"].as_array_mut().unwrap().push(paths[2].clone());
                fs::create_dir_all(volume.join("shut/below")).unwrap();
                vec![pair(&volume, "shut", &canary.climbing("dir")), pair(&volume, "masked", &canary.climbing("dir"))]
            },
        },
    );
}

#[test]
fn a_cwd_and_a_program_that_move() {
    race(
        "a_cwd_and_a_program_that_move",
        &Race {
            script: "find . -name 'canary-*'; echo inside",
            may: &[],
            make: &|bundle, canary| {
                let rootfs = bundle.rootfs();
                bundle.config["process"]["cwd"] = json!("/work");
                fs::write(rootfs.join("etc/other"), "").unwrap();
                std::os::unix::fs::symlink(canary.climbing("passwd"), rootfs.join("etc/passwd-link")).unwrap();
                vec![
                    pair(&rootfs, "work", &canary.climbing("dir")),
                    (rootfs.join("etc/passwd"), rootfs.join("etc/passwd-link")),
                ]
            },
        },
    );
}

#[test]
fn cve_2026_87766_a_parent_that_becomes_a_link() {
    race(
        "cve_2026_87766_a_parent_that_becomes_a_link",
        &Race {
            script: LOOK,
            may: &[],
            make: &|bundle, canary| {
                // What a launcher leaves mounted while it builds: the old root, and ways up to it.
                let rootfs = bundle.rootfs();
                for to in ["/a/b/c", "/a/b/d/e"] {
                    mount(bundle, json!({ "destination": to, "type": "tmpfs", "source": "tmpfs" }));
                }
                fs::create_dir_all(rootfs.join("a")).unwrap();
                vec![pair(&rootfs.join("a"), "b", &canary.climbing("dir")), pair(&rootfs, "oldroot", "/proc/1/root")]
            },
        },
    );
}
