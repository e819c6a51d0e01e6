//! Mounts: every option of the specification as the container sees it in its mountinfo, the rules of idmaps, overlays,
//! copies and labels, devices, masks, propagation; and what the image may not do to any of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;

use caller::Caller;
use common::*;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// A line of the container's mountinfo.
#[derive(Debug, Clone)]
struct Seen {
    root: String,
    flags: Vec<String>,
    peers: Vec<String>,
    fstype: String,
    inner: Vec<String>,
}

impl Seen {
    /// The uppermost mount at a path.
    fn at(text: &str, target: &str) -> Seen {
        let words = |s: &str, by: char| s.split(by).map(str::to_owned).collect::<Vec<_>>();
        text.lines()
            .filter_map(|line| {
                let (left, right) = line.split_once(" - ")?;
                let (left, right) = (words(left, ' '), words(right, ' '));
                (left.get(4)? == target).then(|| Seen {
                    root: left[3].clone(),
                    flags: words(&left[5], ','),
                    peers: left[6..].to_vec(),
                    fstype: right[0].clone(),
                    inner: words(&right[2], ','),
                })
            })
            .next_back()
            .unwrap_or_else(|| panic!("no mount at {target}: {text}"))
    }

    fn has(&self, flags: &str) -> bool {
        flags.split(',').all(|f| self.flags.iter().any(|have| have == f))
    }

    fn lacks(&self, flags: &str) -> bool {
        flags.split(',').all(|f| !self.flags.iter().any(|have| have == f))
    }
}

const MOUNTS: &str = "cat /proc/self/mountinfo";

/// The usual bundle under the policy `oci`, which does what the config says.
fn plain(script: &str) -> Bundle {
    Bundle::usual(&["sh", "-c", script]).policy("oci")
}

fn add(bundle: &mut Bundle, mount: Value) {
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
}

fn tmpfs(target: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": options })
}

fn bind(source: &str, target: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": "bind", "source": source, "options": options })
}

/// Runs the runtime in a mount namespace of the test's own, after a script that mounts what the test needs.
fn with_mounts(bundle: &mut Bundle, script: &str) {
    let script = format!("{script}\nexec \"$@\"");
    bundle.runner =
        ["unshare", "-m", "--propagation", "private", "sh", "-ec", &script, "sh"].map(str::to_owned).to_vec();
}

/// A user namespace of the container with ids 0..65535 as 700000 and above.
fn userns(bundle: &mut Bundle) {
    let map = json!([{ "containerID": 0, "hostID": 700_000, "size": 65_536 }]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
}

/// Root inside that reads what is not its own.
fn reader(bundle: &mut Bundle) {
    let caps = json!(["CAP_DAC_OVERRIDE"]);
    bundle.config["process"]["capabilities"] = json!({ "bounding": caps, "permitted": caps, "effective": caps });
}

fn policy_with(bundle: Bundle, json: Value) -> Bundle {
    let mut policy = json;
    policy["extends"] = "strict".into();
    policy["hostPaths"] = json!({ "beyond": "allow" });
    bundle.operator(policy)
}

// --- options -------------------------------------------------------------------------------------------------------------

#[test]
fn each_flag_does_what_its_word_says_on_a_new_file_system_and_on_a_bind() {
    need_root!("each_flag_does_what_its_word_says_on_a_new_file_system_and_on_a_bind");
    // (options, flags that are there, flags that are not)
    let table: [(&[&str], &str, &str); 22] = [
        (&[], "rw,relatime", "ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow"),
        (&["defaults"], "rw,relatime", "ro,nosuid,nodev,noexec"),
        (&["ro"], "ro", "rw"),
        (&["ro", "rw"], "rw", "ro"),
        (&["rro"], "ro", "rw"),
        (&["rw", "rro"], "ro", "rw"),
        (&["nosuid", "nodev", "noexec"], "nosuid,nodev,noexec,rw", "ro"),
        (&["nosuid", "nodev", "noexec", "suid", "dev", "exec"], "rw", "nosuid,nodev,noexec"),
        (&["rnosuid", "rnodev", "rnoexec"], "nosuid,nodev,noexec", "ro"),
        (&["noatime"], "noatime", "relatime"),
        (&["noatime", "atime"], "relatime", "noatime"),
        (&["noatime", "strictatime"], "rw", "noatime,relatime"),
        (&["strictatime", "nostrictatime"], "relatime", "noatime"),
        (&["strictatime", "relatime"], "relatime", "noatime"),
        (&["relatime", "norelatime"], "relatime", "noatime"),
        (&["noatime", "nodiratime"], "noatime,nodiratime", "relatime"),
        (&["nodiratime", "diratime"], "relatime", "nodiratime"),
        (&["rnoatime", "rnodiratime"], "noatime,nodiratime", "relatime"),
        (&["rstrictatime"], "rw", "noatime,relatime"),
        (&["nosymfollow"], "nosymfollow", "ro"),
        (&["nosymfollow", "symfollow"], "rw", "nosymfollow"),
        (&["rnosymfollow", "silent", "async", "nolazytime", "nomand", "noiversion", "loud"], "nosymfollow", "ro"),
    ];
    let mut bundle = plain(MOUNTS);
    fs::create_dir(bundle.path().join("volume")).unwrap();
    // The file system of the scratch directory may have flags of its own.
    let volume = bundle.path().join("volume").display().to_string();
    with_mounts(&mut bundle, &format!("mount -t tmpfs x {volume}"));
    for (i, (options, ..)) in table.iter().enumerate() {
        add(&mut bundle, tmpfs(&format!("/mnt/new{i}"), options));
        let all: Vec<&str> = ["bind"].iter().chain(*options).copied().collect();
        add(&mut bundle, bind("volume", &format!("/mnt/bind{i}"), &all));
    }
    let text = ok(&bundle.run());
    for (i, (options, there, absent)) in table.iter().enumerate() {
        for kind in ["new", "bind"] {
            let seen = Seen::at(&text, &format!("/mnt/{kind}{i}"));
            assert!(seen.has(there) && seen.lacks(absent), "{kind} {options:?}: {:?}", seen.flags);
        }
    }
}

#[test]
fn words_of_the_file_system_itself_reach_it_and_mean_nothing_for_a_bind() {
    need_root!("words_of_the_file_system_itself_reach_it_and_mean_nothing_for_a_bind");
    let mut bundle = plain(MOUNTS);
    add(&mut bundle, tmpfs("/mnt/a", &["sync", "dirsync", "lazytime", "size=128k", "nr_inodes=99", "mode=0711"]));
    add(&mut bundle, tmpfs("/mnt/b", &["sync", "async", "lazytime", "nolazytime", "iversion", "mand", "nomand"]));
    let text = ok(&bundle.run());
    let (a, b) = (Seen::at(&text, "/mnt/a"), Seen::at(&text, "/mnt/b"));
    for word in ["sync", "dirsync", "lazytime", "size=128k", "nr_inodes=99", "mode=711"] {
        assert!(a.inner.iter().any(|w| w == word), "{word}: {:?}", a.inner);
    }
    assert!(!b.inner.iter().any(|w| ["sync", "lazytime", "mand"].contains(&w.as_str())), "{:?}", b.inner);
    for option in ["sync", "dirsync", "lazytime", "mand", "size=1k", "nonsense"] {
        for policy in ["oci", "strict"] {
            let mut bundle = Bundle::usual(&["true"]).policy(policy);
            fs::create_dir(bundle.path().join("volume")).unwrap();
            add(&mut bundle, bind("volume", "/mnt", &["bind", option]));
            let err = failed(&bundle.run());
            assert!(err.contains("mounts[7].options") && err.contains("means nothing for a bind"), "{option}: {err}");
        }
    }
    // What the file system does not know is its own error, and it says which word.
    let mut bundle = plain("true");
    add(&mut bundle, tmpfs("/mnt", &["size=1k", "nonsense=1"]));
    let err = failed(&bundle.run());
    assert!(err.contains("tmpfs on /mnt") && err.contains("Unknown parameter 'nonsense'"), "{err}");
    let mut bundle = plain("true");
    add(&mut bundle, tmpfs("/mnt", &["ro", "move"]));
    let err = failed(&bundle.run());
    assert!(err.contains("mounts[7].options[1]") && err.contains("moves a mount and makes none"), "{err}");
}

#[test]
fn recursive_words_reach_the_mounts_below_and_plain_ones_do_not() {
    need_root!("recursive_words_reach_the_mounts_below_and_plain_ones_do_not");
    let run = |policy: &str, options: &[&str]| -> (Seen, Seen) {
        let bundle = Bundle::usual(&["sh", "-c", MOUNTS]);
        let mut bundle = match policy {
            "oci" => bundle.policy("oci"),
            _ => policy_with(bundle, json!({})),
        };
        fs::create_dir(bundle.path().join("volume")).unwrap();
        let volume = bundle.path().join("volume").display().to_string();
        with_mounts(
            &mut bundle,
            &format!("mount -t tmpfs top {volume}; mkdir {volume}/below; mount -t tmpfs below {volume}/below"),
        );
        add(&mut bundle, bind(&volume, "/mnt", options));
        let text = ok(&bundle.run());
        (Seen::at(&text, "/mnt"), Seen::at(&text, "/mnt/below"))
    };
    let (top, below) = run("oci", &["rbind", "ro", "nosuid"]);
    assert!(top.has("ro,nosuid") && below.has("rw") && below.lacks("nosuid"), "{top:?} {below:?}");
    let (top, below) = run("oci", &["rbind", "rro", "rnosuid", "rnoatime", "rnosymfollow"]);
    assert!(
        top.has("ro,nosuid,noatime,nosymfollow") && below.has("ro,nosuid,noatime,nosymfollow"),
        "{top:?} {below:?}"
    );
    // The recursive word wins over a plain one on the mount itself; below it is alone.
    let (top, below) = run("oci", &["rbind", "rro", "rw"]);
    assert!(top.has("ro") && below.has("ro"), "{top:?} {below:?}");
    // A policy that hardens takes `ro` for all of it.
    let (top, below) = run("strict", &["rbind", "ro"]);
    assert!(top.has("ro,nosuid,nodev") && below.has("ro,nosuid,nodev"), "{top:?} {below:?}");
    let (top, below) = run("strict", &["rbind", "rsuid", "rdev", "rw"]);
    assert!(top.has("rw,nosuid,nodev") && below.has("rw,nosuid,nodev"), "{top:?} {below:?}");
}

#[test]
fn a_flag_of_the_host_is_lifted_only_where_the_policy_and_the_kernel_allow_it() {
    need_root!("a_flag_of_the_host_is_lifted_only_where_the_policy_and_the_kernel_allow_it");
    let prepare = |mut bundle: Bundle, options: &[&str]| {
        fs::create_dir(bundle.path().join("volume")).unwrap();
        let volume = bundle.path().join("volume").display().to_string();
        with_mounts(&mut bundle, &format!("mount -t tmpfs -o ro,noexec,nosuid,noatime top {volume}"));
        add(&mut bundle, bind(&volume, "/mnt", options));
        bundle
    };
    let usual = || Bundle::usual(&["sh", "-c", MOUNTS]);
    let seen = |bundle: Bundle| Seen::at(&ok(&bundle.run()), "/mnt");
    // Who says nothing keeps what the host has.
    let kept = seen(prepare(usual().policy("oci"), &["bind"]));
    assert!(kept.has("ro,noexec,nosuid,noatime"), "{kept:?}");
    let lifted = seen(prepare(usual().policy("oci"), &["bind", "rw", "exec", "suid", "relatime"]));
    assert!(lifted.has("rw,relatime") && lifted.lacks("noexec,nosuid"), "{lifted:?}");
    let strict = seen(prepare(policy_with(usual(), json!({})), &["bind", "rw", "exec"]));
    assert!(strict.has("ro,noexec"), "{strict:?}");
    // For an ordinary user the kernel locks the flag: an error, and no mount that is not as asked.
    for (options, fine) in [(&["bind", "rw"][..], false), (&["bind"], true), (&["bind", "nodev"], true)] {
        let mut user = Caller::single();
        let volume = user.own_dir("volume").display().to_string();
        let script = format!("mount -t tmpfs -o ro,noexec,nosuid,noatime top {volume}; exec \"$@\"");
        let outer = ["unshare", "-m", "--propagation", "private", "sh", "-ec", &script, "sh"].map(str::to_owned);
        user.runner.splice(0..0, outer);
        let mut bundle = Bundle::usual(&["sh", "-c", MOUNTS]);
        let map = json!([{ "containerID": 0, "hostID": caller::SINGLE, "size": 1 }]);
        bundle.config["linux"]["uidMappings"] = map.clone();
        bundle.config["linux"]["gidMappings"] = map;
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        add(&mut bundle, bind(&volume, "/mnt", options));
        let out = user.run(&["--policy", "oci"], &bundle.config);
        if fine {
            let seen = Seen::at(&ok(&out), "/mnt");
            assert!(seen.has("ro,noexec,nosuid,noatime"), "{seen:?}");
        } else {
            let err = failed(&out);
            assert!(
                err.contains("bind: ") && err.contains("EPERM") && err.contains("locked") && err.contains("rw"),
                "{err}"
            );
        }
    }
}

// --- destinations and sources --------------------------------------------------------------------------------------------

#[test]
fn remount_changes_the_flags_that_it_names_on_the_mount_that_is_there() {
    need_root!("remount_changes_the_flags_that_it_names_on_the_mount_that_is_there");
    let script = "grep -E ' /(v|b) ' /proc/self/mountinfo; touch /v/x 2>&1; touch /b/x 2>&1; true";
    let with = |policy: &str, options: &[&str], target: &str| {
        let mut bundle = plain(script).policy(policy);
        let volume = bundle.path().join("volume");
        std::fs::create_dir(&volume).unwrap();
        std::fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        add(&mut bundle, tmpfs("/v", &["nosuid", "nodev"]));
        add(&mut bundle, bind(&volume.display().to_string(), "/b", &["bind", "ro"]));
        add(&mut bundle, json!({ "destination": target, "options": options }));
        bundle.run()
    };
    let said = ok(&with("oci", &["remount", "ro", "noexec"], "/v"));
    assert!(Seen::at(&said, "/v").has("ro,nosuid,nodev,noexec"), "{said}");
    assert!(said.contains("/v/x: Read-only file system"), "{said}");
    let said = ok(&with("oci", &["bind", "remount", "rw"], "/b"));
    assert!(Seen::at(&said, "/b").has("rw") && !said.contains("/b/x"), "{said}");
    // Under strict it adds and lifts nothing.
    let said = ok(&with("strict", &["remount", "ro"], "/v"));
    assert!(Seen::at(&said, "/v").has("ro"), "{said}");
    let said = ok(&with("strict", &["remount", "rw"], "/b"));
    assert!(Seen::at(&said, "/b").has("ro") && said.contains("/b/x: Read-only"), "{said}");
    for (options, target, words) in [
        (&["remount", "size=1m"][..], "/v", "size"),
        (&["remount", "ro"][..], "/", "the root file system"),
        (&["remount", "ro"][..], "/none", "ENOENT"),
        (&["remount", "ro"][..], "/etc", "nothing is mounted there"),
        (&["remount", "tmpcopyup"][..], "/v", "tmpcopyup"),
    ] {
        let e = failed(&with("oci", options, target));
        assert!(e.contains(words), "{e}");
    }
}

#[test]
fn destinations_are_looked_up_in_the_root_in_order_and_made_where_they_are_missing() {
    need_root!("destinations_are_looked_up_in_the_root_in_order_and_made_where_they_are_missing");
    let mut bundle = plain(
        "cat /data/inner /etc/made/file /out/x /rel/y /mnt/there; stat -c %F /mnt/there; cat /var/new/deep/z; ls /real",
    );
    let rootfs = bundle.rootfs();
    fs::create_dir_all(rootfs.join("real/place")).unwrap();
    symlink("/real/place", rootfs.join("data")).unwrap();
    // Absolute and with too many dots: both stay inside.
    symlink("/../../../../real/out", rootfs.join("out")).unwrap();
    let volume = bundle.path().join("volume");
    fs::create_dir_all(&volume).unwrap();
    for name in ["inner", "x", "y", "z"] {
        fs::write(volume.join(name), format!("{name}\n")).unwrap();
    }
    fs::create_dir_all(rootfs.join("real/out")).unwrap();
    add(&mut bundle, bind("volume", "/data", &["bind"]));
    add(&mut bundle, bind("volume/x", "/etc/made/file", &["bind"]));
    add(&mut bundle, bind("volume", "/out", &["bind"]));
    add(&mut bundle, bind("volume", "rel", &["bind"]));
    // Nested: the file lies in the tmpfs that the mount before it has made.
    add(&mut bundle, tmpfs("/mnt", &[]));
    add(&mut bundle, bind("volume/x", "/mnt/there", &["bind"]));
    add(&mut bundle, bind("volume", "/var/new/deep", &["rbind"]));
    let out = ok(&bundle.run());
    assert_eq!(out, "inner\nx\nx\ny\nx\nregular file\nz\nout\nplace\n");
    assert!(!rootfs.join("mnt/there").exists() && !bundle.path().join("real").exists());
    // In the other order the tmpfs covers the file.
    let mut bundle = plain("ls -A /mnt");
    fs::write(bundle.path().join("x"), "").unwrap();
    add(&mut bundle, bind("x", "/mnt/there", &["bind"]));
    add(&mut bundle, tmpfs("/mnt", &[]));
    assert_eq!(ok(&bundle.run()), "");
    // A directory goes onto a directory, a file onto a file.
    for (source, target, wanted) in [("volume", "/etc/passwd", "ENOTDIR"), ("file", "/etc", "onto a directory")] {
        let mut bundle = plain("true");
        fs::create_dir(bundle.path().join("volume")).unwrap();
        fs::write(bundle.path().join("file"), "").unwrap();
        add(&mut bundle, bind(source, target, &["bind"]));
        let err = failed(&bundle.run());
        assert!(err.contains("bind") && err.contains(target) && err.contains(wanted), "{source} {target}: {err}");
    }
    // The source is the host's, also where the container has a mount of the same path.
    let mut bundle = plain("ls /mnt/copy");
    fs::create_dir_all(bundle.path().join("src/hosts-own")).unwrap();
    let source = bundle.path().join("src").display().to_string();
    add(&mut bundle, tmpfs(&source, &[]));
    add(&mut bundle, bind(&source, "/mnt/copy", &["bind"]));
    assert_eq!(ok(&bundle.run()), "hosts-own\n");
}

#[test]
fn a_link_of_the_image_takes_no_mount_out_of_the_root() {
    need_root!("a_link_of_the_image_takes_no_mount_out_of_the_root");
    let host = scratch();
    fs::write(host.path().join("untouched"), "").unwrap();
    let before = || {
        let mut names: Vec<_> = fs::read_dir(host.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let names = before();
    let up = format!("../../../../../../../../../..{}", host.path().display());
    let absolute = host.path().display().to_string();
    type Make = fn(&str) -> Value;
    let kinds: [(&str, Make); 5] = [
        ("tmpfs", |t| tmpfs(t, &["size=1m"])),
        ("tmpcopyup", |t| tmpfs(t, &["tmpcopyup", "size=1m"])),
        ("bind of a directory", |t| bind("volume", t, &["bind"])),
        ("bind of a file", |t| bind("file", t, &["bind"])),
        (
            "overlay",
            |t| json!({ "destination": t, "type": "overlay", "source": "overlay", "options": ["lowerdir=volume:lower"] }),
        ),
    ];
    for policy in ["oci", "strict"] {
        for (kind, mount) in kinds {
            for link in [&up, &absolute] {
                let mut bundle = Bundle::usual(&["true"]).policy(policy);
                bundle.config["root"]["readonly"] = false.into();
                for dir in ["volume", "lower"] {
                    fs::create_dir(bundle.path().join(dir)).unwrap();
                }
                fs::write(bundle.path().join("file"), "").unwrap();
                fs::set_permissions(bundle.rootfs(), fs::Permissions::from_mode(0o777)).unwrap();
                symlink(link, bundle.rootfs().join("link")).unwrap();
                add(&mut bundle, mount("/link/made/here"));
                add(&mut bundle, mount("/link"));
                let out = bundle.run();
                assert_eq!(before(), names, "{policy} {kind} {link}: {out:?}");
                // Refused, or made where the link leads when the root is the root.
                assert!(out.status.success() || text(&out.stderr).contains("/link"), "{kind}: {}", text(&out.stderr));
            }
        }
    }
}

// --- idmapped mounts -------------------------------------------------------------------------------------------------------

/// A directory with files of root and of uid 1234, on a file system that can be idmapped, and one below it.
fn owned(dir: &Path) {
    fs::create_dir_all(dir.join("below")).unwrap();
    for (name, id) in [("zero", 0), ("some", 1234), ("below/zero", 0)] {
        fs::write(dir.join(name), "").unwrap();
        chown(dir.join(name), Some(id), Some(id)).unwrap();
    }
}

/// Whether this kernel can idmap the file system that scratch directories lie on.
fn can_idmap(err: &str) -> bool {
    !err.contains("idmapped mount: ")
}

#[test]
fn idmap_takes_the_maps_of_the_container_and_own_maps_need_no_user_namespace() {
    let name = "idmap_takes_the_maps_of_the_container_and_own_maps_need_no_user_namespace";
    need_root!(name);
    let owners = "stat -c %u:%g /mnt/zero /mnt/some | tr '\\n' ' '";
    let prepare = |script: &str, mount: Value| {
        let mut bundle = plain(script);
        owned(&bundle.path().join("volume"));
        add(&mut bundle, mount);
        bundle
    };
    let mapped = |options: &[&str], first: u32| {
        let mut mount = bind("volume", "/mnt", options);
        let map = json!([{ "containerID": 0, "hostID": first, "size": 65_536 }]);
        mount["uidMappings"] = map.clone();
        mount["gidMappings"] = map;
        mount
    };
    // A user namespace: what is root's on the disk is root's inside; without the option it is nobody's.
    let mut bundle = prepare(owners, bind("volume", "/mnt", &["bind", "idmap"]));
    userns(&mut bundle);
    let out = bundle.run();
    if !can_idmap(&text(&out.stderr)) {
        return skip(name, &text(&out.stderr));
    }
    assert_eq!(ok(&out), "0:0 1234:1234 ");
    let mut bundle = prepare(owners, bind("volume", "/mnt", &["bind"]));
    userns(&mut bundle);
    assert_eq!(ok(&bundle.run()), "65534:65534 65534:65534 ");
    // Own maps, with and without a user namespace of the container, and without the option.
    for (with, options, first, wanted) in [
        (false, &["bind", "idmap"][..], 5000, "5000:5000 6234:6234 "),
        (false, &["bind"], 5000, "5000:5000 6234:6234 "),
        (true, &["bind", "idmap"], 700_100, "100:100 1334:1334 "),
        (true, &["rbind", "ridmap"], 700_000, "0:0 1234:1234 "),
    ] {
        let mut bundle = prepare(owners, mapped(options, first));
        if with {
            userns(&mut bundle);
        }
        assert_eq!(ok(&bundle.run()), wanted, "{with} {options:?} {first}");
    }
    // A file that is made there belongs to the id on the disk that the map has for it.
    let mut bundle = prepare("umask 0; touch /mnt/new", mapped(&["bind"], 5000));
    bundle.config["process"]["user"] = json!({ "uid": 5007, "gid": 5007 });
    fs::set_permissions(bundle.path().join("volume"), fs::Permissions::from_mode(0o777)).unwrap();
    ok(&bundle.run());
    assert_eq!(fs::metadata(bundle.path().join("volume/new")).unwrap().uid(), 7);
    // Nothing of the runtime's stays: the child that held the maps is gone and reaped, or the run would hang.
    let err = failed(&prepare("true", bind("volume", "/mnt", &["bind", "idmap"])).run());
    assert!(err.contains("mounts[7].options") && err.contains("user namespace"), "{err}");
    let mut mount = mapped(&["bind"], 5000);
    mount.as_object_mut().unwrap().remove("gidMappings");
    let err = failed(&prepare("true", mount).run());
    assert!(err.contains("mounts[7].gidMappings") && err.contains("missing beside"), "{err}");
    let mut mount = tmpfs("/mnt", &["idmap"]);
    let map = json!([{ "containerID": 0, "hostID": 5, "size": 1 }]);
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map;
    assert!(failed(&prepare("true", mount).run()).contains("idmap needs a bind"));
    // The policy strict has it refused, with and without the option.
    for mount in [mapped(&["bind"], 5000), bind("volume", "/mnt", &["bind", "idmap"])] {
        let mut bundle = Bundle::usual(&["true"]);
        owned(&bundle.path().join("volume"));
        add(&mut bundle, mount);
        let err = failed(&bundle.run());
        assert!(err.contains("mounts.idmap") && err.contains("mounts[7]."), "{err}");
    }
}

#[test]
fn ridmap_reaches_the_mounts_below_and_idmap_does_not() {
    let name = "ridmap_reaches_the_mounts_below_and_idmap_does_not";
    need_root!(name);
    for (option, below) in [("ridmap", "5000"), ("idmap", "0")] {
        let mut bundle = plain("stat -c %u /mnt/zero /mnt/below/zero | tr '\\n' ' '");
        owned(&bundle.path().join("volume"));
        owned(&bundle.path().join("other"));
        let path = bundle.path().display().to_string();
        // A bind of the same file system: one that can be idmapped where the upper one can.
        with_mounts(&mut bundle, &format!("mount --bind {path}/other {path}/volume/below"));
        let mut mount = bind(&format!("{path}/volume"), "/mnt", &["rbind", option]);
        let map = json!([{ "containerID": 0, "hostID": 5000, "size": 65_536 }]);
        mount["uidMappings"] = map.clone();
        mount["gidMappings"] = map;
        add(&mut bundle, mount);
        let out = bundle.run();
        if !can_idmap(&text(&out.stderr)) {
            return skip(name, &text(&out.stderr));
        }
        assert_eq!(ok(&out), format!("5000 {below} "), "{option}");
    }
}

#[test]
fn what_cannot_be_idmapped_is_refused_with_the_reason() {
    need_root!("what_cannot_be_idmapped_is_refused_with_the_reason");
    let attempt = |setup: &str, why: &str| {
        let mut bundle = plain("stat -c %u /mnt");
        let path = bundle.path().display().to_string();
        for dir in ["volume", "a", "b", "work"] {
            fs::create_dir(bundle.path().join(dir)).unwrap();
        }
        with_mounts(&mut bundle, &setup.replace('@', &path));
        let mut mount = bind(&format!("{path}/volume"), "/mnt", &["bind"]);
        let map = json!([{ "containerID": 0, "hostID": 5000, "size": 65_536 }]);
        mount["uidMappings"] = map.clone();
        mount["gidMappings"] = map;
        add(&mut bundle, mount);
        let out = bundle.run();
        if out.status.success() {
            // A tmpfs, on a kernel that can.
            assert_eq!(text(&out.stdout).trim(), "5000");
            return false;
        }
        let err = failed(&out);
        assert!(err.contains("idmapped mount") && err.contains("EINVAL") && err.contains(why), "{err}");
        true
    };
    assert!(attempt("mount -t overlay -o lowerdir=@/a:@/b x @/volume", "no Linux can idmap"));
    let new = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut parts = new.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
    let old = (parts.next().unwrap(), parts.next().unwrap()) < (6, 3);
    assert_eq!(attempt("mount -t tmpfs x @/volume", "Linux 6.3"), old);
}

/// A file system in a file, where the machine can make and mount one.
fn disk(bundle: &Bundle, kind: &str) -> std::result::Result<(), String> {
    let image = bundle.path().join("image");
    // The least that xfs takes is 300 MiB; what nobody writes takes no place.
    fs::File::create(&image).unwrap().set_len(320 << 20).unwrap();
    fs::create_dir(bundle.path().join("disk")).unwrap();
    let made = std::process::Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image).output();
    let made = made.map_err(|e| format!("mkfs.{kind}: {e}"))?;
    if !made.status.success() {
        return Err(text(&made.stderr));
    }
    // The root file system goes there, and what belongs to root and to uid 1234.
    let path = bundle.path().display();
    let script = format!("mount -o loop {path}/image {path}/disk && cp -a {path}/rootfs {path}/volume {path}/disk/");
    let words = ["-m", "--propagation", "private", "sh", "-ec", &script];
    let mounted = std::process::Command::new("unshare").args(words).output().unwrap();
    if mounted.status.success() { Ok(()) } else { Err(text(&mounted.stderr)) }
}

fn idmapped_on(name: &str, kind: &str) {
    need_root!(name);
    let script = "stat -c %u / /bin; grep -o \" - [a-z0-9]* \" /proc/self/mountinfo | head -n 1; \
        stat -c %u:%g /mnt/zero /mnt/some 2>/dev/null; umask 0; touch /mnt/new 2>/dev/null; true";
    let prepare = |bundle: &mut Bundle| {
        owned(&bundle.path().join("volume"));
        disk(bundle, kind)?;
        let path = bundle.path().display().to_string();
        with_mounts(bundle, &format!("mount -o loop {path}/image {path}/disk"));
        bundle.config["root"]["path"] = json!("disk/rootfs");
        Ok::<(), String>(())
    };
    // Under strict the root is idmapped by itself: owned by root inside, whose ids are none of the disk's.
    let mut bundle = Bundle::shell(script);
    if let Err(why) = prepare(&mut bundle) {
        return skip(name, &why);
    }
    let out = ok(&bundle.run());
    assert_eq!(out, format!("0\n0\n - {kind} \n"), "strict");
    // And a volume with maps of its own, where a file that is made belongs to the id on the disk that the map has for it.
    let mut bundle = plain(script);
    prepare(&mut bundle).unwrap();
    bundle.config["process"]["user"] = json!({ "uid": 6234, "gid": 6234 });
    let mut mount = bind("disk/volume", "/mnt", &["bind"]);
    let map = json!([{ "containerID": 0, "hostID": 5000, "size": 65_536 }]);
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map;
    add(&mut bundle, mount);
    let path = bundle.path().display().to_string();
    with_mounts(&mut bundle, &format!("mount -o loop {path}/image {path}/disk; chmod 777 {path}/disk/volume"));
    let out = ok(&bundle.run());
    assert_eq!(out, format!("0\n0\n - {kind} \n5000:5000\n6234:6234\n"), "oci");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let last = mounts.last_mut().unwrap().as_object_mut().unwrap();
    last.remove("uidMappings");
    last.remove("gidMappings");
    bundle.config["process"]["args"] = json!(["stat", "-c", "%u:%g", "/mnt/new"]);
    assert_eq!(ok(&bundle.run()), "1234:1234\n", "the control: without the map");
}

#[test]
fn xfs_is_idmapped() {
    idmapped_on("xfs_is_idmapped", "xfs");
}

#[test]
fn btrfs_is_idmapped() {
    idmapped_on("btrfs_is_idmapped", "btrfs");
}

// --- overlay ---------------------------------------------------------------------------------------------------------------

fn overlay(options: &[&str]) -> Value {
    json!({ "destination": "/mnt", "type": "overlay", "source": "overlay", "options": options })
}

#[test]
fn an_overlay_of_the_bundles_directories() {
    let name = "an_overlay_of_the_bundles_directories";
    need_root!(name);
    let prepare = |bundle: Bundle, options: &[&str]| {
        let mut bundle = bundle;
        for dir in ["one", "two", "up", "work", "odd:name,with\\all"] {
            fs::create_dir(bundle.path().join(dir)).unwrap();
        }
        fs::write(bundle.path().join("one/file"), "one\n").unwrap();
        fs::write(bundle.path().join("two/file"), "two\n").unwrap();
        fs::write(bundle.path().join("two/only"), "only\n").unwrap();
        fs::write(bundle.path().join("odd:name,with\\all/odd"), "odd\n").unwrap();
        // A test may lie on an overlay itself, which is no upper layer.
        for dir in ["up", "work"] {
            fs::set_permissions(bundle.path().join(dir), fs::Permissions::from_mode(0o777)).unwrap();
        }
        add(&mut bundle, overlay(options));
        bundle
    };
    let script = "cat /mnt/file /mnt/only /mnt/odd; echo new >/mnt/new && cat /mnt/new";
    let all = ["lowerdir=one:two:odd\\:name,with\\\\all", "upperdir=up", "workdir=work"];
    let bundle = prepare(plain(script), &all);
    let out = bundle.run();
    if text(&out.stderr).contains("upperdir and a workdir on two file systems") {
        return skip(name, "the scratch directory cannot carry an upper layer");
    }
    assert_eq!(ok(&out), "one\nonly\nodd\nnew\n");
    assert_eq!(fs::read_to_string(bundle.path().join("up/new")).unwrap(), "new\n");
    assert!(!bundle.path().join("one/new").exists());
    // Its places on the host are not to be seen inside.
    let bundle = prepare(plain(MOUNTS), &all);
    let out = ok(&bundle.run());
    let seen = Seen::at(&out, "/mnt");
    assert_eq!(seen.fstype, "overlay");
    assert!(!seen.inner.iter().any(|w| w.contains("stockade-test")), "{:?}", seen.inner);
    // In a user namespace, and under strict, which adds its flags; read-only without an upper layer.
    let mut bundle = prepare(plain(script), &all);
    userns(&mut bundle);
    assert_eq!(ok(&bundle.run()), "one\nonly\nodd\nnew\n");
    let strict = |script: &str| Bundle::usual(&["sh", "-c", script]);
    let bundle = prepare(strict(&format!("cat /mnt/file; {MOUNTS}")), &["lowerdir=one:two"]);
    let out = ok(&bundle.run());
    assert!(out.starts_with("one\n") && Seen::at(&out, "/mnt").has("nosuid,nodev"), "{out}");
    let out = prepare(plain("echo x >/mnt/x"), &["lowerdir=one:two"]).run();
    assert!(!out.status.success() && text(&out.stderr).contains("Read-only file system"), "{out:?}");
    for (options, wanted) in [
        (&["upperdir=up", "workdir=work"][..], "without a lowerdir"),
        (&["lowerdir=one", "upperdir=up"], "without a workdir"),
        (&["lowerdir=one", "workdir=work"], "without an upperdir"),
        (&["lowerdir=one::two"], "empty path"),
        (&["lowerdir=one:gone"], "gone"),
        (&["lowerdir=one:two", "nonsense"], "nonsense"),
    ] {
        let err = failed(&prepare(plain("true"), options).run());
        assert!(
            err.contains(wanted) && err.contains("overlay") || err.contains("mounts[7].options"),
            "{options:?}: {err}"
        );
        assert!(err.contains(wanted), "{options:?}: {err}");
    }
}

#[test]
fn no_layer_of_an_overlay_is_beyond_the_bundle() {
    need_root!("no_layer_of_an_overlay_is_beyond_the_bundle");
    let host = scratch();
    fs::write(host.path().join("secret"), "secret").unwrap();
    let outside = host.path().display().to_string();
    let prepare = |bundle: Bundle, options: &[&str]| {
        let mut bundle = bundle;
        for dir in ["one", "up", "work"] {
            fs::create_dir(bundle.path().join(dir)).unwrap();
        }
        symlink(host.path(), bundle.path().join("link")).unwrap();
        add(&mut bundle, overlay(options));
        bundle
    };
    let cat = || Bundle::usual(&["cat", "/mnt/secret"]);
    let (lower, upper) = (format!("lowerdir=one:{outside}"), format!("upperdir={outside}"));
    for options in [
        &[&*lower][..],
        &["lowerdir=one", &upper, "workdir=work"],
        &["lowerdir=one", "upperdir=up", &format!("workdir={outside}")],
    ] {
        let err = failed(&prepare(cat(), options).run());
        assert!(err.contains("mounts[7].options") && err.contains("hostPaths"), "{options:?}: {err}");
    }
    // By a link that the bundle has put there: refused when it is opened.
    for options in [&["lowerdir=one:link"][..], &["lowerdir=one", "upperdir=link", "workdir=work"]] {
        let err = failed(&prepare(cat(), options).run());
        assert!(err.contains("EXDEV") && err.contains("leads out of the bundle"), "{options:?}: {err}");
    }
    // Control: with the operator's word both show the secret.
    for options in [&[&*lower][..], &["lowerdir=one:link"]] {
        assert_eq!(ok(&prepare(policy_with(cat(), json!({})), options).run()), "secret");
    }
}

// --- tmpfs -----------------------------------------------------------------------------------------------------------------

#[test]
fn a_tmpfs_keeps_the_mode_of_what_it_covers_unless_it_names_one() {
    need_root!("a_tmpfs_keeps_the_mode_of_what_it_covers_unless_it_names_one");
    let mut bundle = plain("stat -c '%a %u:%g' /a /b /c /new /d");
    for (name, mode) in [("a", 0o700), ("b", 0o1777), ("c", 0o711)] {
        fs::create_dir(bundle.rootfs().join(name)).unwrap();
        fs::set_permissions(bundle.rootfs().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    add(&mut bundle, tmpfs("/a", &[]));
    add(&mut bundle, tmpfs("/b", &[]));
    add(&mut bundle, tmpfs("/c", &["mode=0750", "uid=12", "gid=34"]));
    add(&mut bundle, tmpfs("/new", &[]));
    add(&mut bundle, tmpfs("/d", &["mode=0"]));
    // What was not there is as the kernel makes a tmpfs.
    assert_eq!(ok(&bundle.run()), "700 0:0\n1777 0:0\n750 12:34\n1777 0:0\n0 0:0\n");
    // Ids are the container's; one that it does not have is left out, with a finding.
    let mut bundle = plain("stat -c %u:%g /a /b");
    userns(&mut bundle);
    for name in ["a", "b"] {
        fs::create_dir(bundle.rootfs().join(name)).unwrap();
    }
    add(&mut bundle, tmpfs("/a", &["uid=12", "gid=34"]));
    add(&mut bundle, tmpfs("/b", &["uid=70000", "gid=34"]));
    assert_eq!(ok(&bundle.run()), "12:34\n0:34\n");
    let out = bundle.verb(&["explain", &bundle.path().display().to_string()]);
    assert!(ok(&out).contains("uid=70000"), "{out:?}");
}

#[test]
fn tmpcopyup_copies_owners_modes_attributes_and_links_and_follows_none() {
    let name = "tmpcopyup_copies_owners_modes_attributes_and_links_and_follows_none";
    need_root!(name);
    let host = scratch();
    fs::write(host.path().join("secret"), "host").unwrap();
    let seed = |bundle: &Bundle| {
        let dir = bundle.rootfs().join("seed");
        fs::create_dir_all(dir.join("deep/er")).unwrap();
        let write = |name: &str, text: &str, mode: u32, id: u32| {
            fs::write(dir.join(name), text).unwrap();
            chown(dir.join(name), Some(id), Some(id)).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        write("file", "text\n", 0o640, 12);
        write("setuid", "", 0o4755, 0);
        write("deep/er/file", "deep\n", 0o600, 34);
        fs::set_permissions(dir.join("deep/er"), fs::Permissions::from_mode(0o1775)).unwrap();
        chown(dir.join("deep/er"), Some(56), Some(78)).unwrap();
        chown(&dir, Some(5), Some(6)).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o751)).unwrap();
        fs::hard_link(dir.join("file"), dir.join("deep/same")).unwrap();
        symlink("file", dir.join("link")).unwrap();
        symlink(host.path(), dir.join("out")).unwrap();
        symlink("/etc/passwd", dir.join("absolute")).unwrap();
        assert!(Command::new("mkfifo").arg(dir.join("fifo")).status().unwrap().success());
        let old = Command::new("touch").args(["-d", "2001-02-03 04:05:06 UTC"]).arg(dir.join("file")).status();
        assert!(old.unwrap().success());
        // A sparse file costs nothing on the disk, and no more than its bound here.
        fs::File::create(dir.join("sparse")).unwrap().set_len(300_000).unwrap();
    };
    let script = "cd /seed; cat file deep/er/file; \
        stat -c '%a %u:%g %F' . file setuid deep/er deep/er/file fifo; stat -c %Y file; stat -c %h file; \
        [ $(stat -c %i file) = $(stat -c %i deep/same) ] && echo same; for l in link out absolute; do readlink $l; done; \
        stat -c %s sparse; echo more >>file && cat file; ls /seed | wc -l";
    let wanted = format!(
        "text\ndeep\n751 5:6 directory\n640 12:12 regular file\n4755 0:0 regular empty file\n1775 56:78 directory\n\
         600 34:34 regular file\n644 0:0 fifo\n981173106\n2\nsame\nfile\n{}\n/etc/passwd\n300000\ntext\nmore\n8\n",
        host.path().display()
    );
    let mut bundle = plain(script);
    seed(&bundle);
    reader(&mut bundle);
    add(&mut bundle, tmpfs("/seed", &["tmpcopyup", "size=4m"]));
    let out = bundle.run();
    assert_eq!(text(&out.stdout), wanted, "{}", text(&out.stderr));
    assert_eq!(fs::read_to_string(bundle.rootfs().join("seed/file")).unwrap(), "text\n", "the image was changed");
    // The policy strict: idmapped, so the owners are those of the image; the tmpfs is filled before it is read-only.
    let mut bundle = Bundle::usual(&["sh", "-c", "cat /seed/file; stat -c %u /seed/file; echo x >/seed/x"]);
    seed(&bundle);
    reader(&mut bundle);
    bundle.config["root"]["readonly"] = true.into();
    add(&mut bundle, tmpfs("/seed", &["tmpcopyup", "size=4m", "ro"]));
    let out = bundle.run();
    let said = text(&out.stdout);
    if can_idmap(&text(&out.stderr)) && said == "text\n12\n" {
        assert!(text(&out.stderr).contains("Read-only file system"), "{out:?}");
    } else {
        assert!(text(&out.stderr).contains("tmpcopyup"), "{out:?}");
        skip(&format!("{name}, strict"), "the scratch directory cannot be idmapped");
    }
    // Extended attributes, where tmpfs has them.
    let mut bundle = plain("true");
    seed(&bundle);
    let set = |value: &str| {
        Command::new("setfattr")
            .args(["-n", "user.note", "-v", value])
            .arg(bundle.rootfs().join("seed/file"))
            .status()
            .is_ok_and(|s| s.success())
    };
    if set("kept") {
        add(&mut bundle, tmpfs("/seed", &["tmpcopyup"]));
        bundle.config["process"]["args"] = json!(["sleep", "1000"]);
        ok(&bundle.create());
        let path = format!("/proc/{}/root/seed/file", bundle.pid());
        let out = Command::new("getfattr").args(["-n", "user.note", "--only-values", &path]).output().unwrap();
        let found = bundle.verb(&["inspect", "box"]);
        let carried = text(&out.stdout) == "kept";
        assert!(carried || text(&found.stdout).contains("without user.note"), "{out:?} {}", text(&found.stdout));
    } else {
        skip(&format!("{name}, attributes"), "no setfattr, or no attributes on the scratch directory");
    }
}

#[test]
fn tmpcopyup_has_an_end_and_enters_no_other_mount() {
    need_root!("tmpcopyup_has_an_end_and_enters_no_other_mount");
    // Larger than any seed: refused before a byte of it is read.
    let mut bundle = plain("true");
    fs::create_dir(bundle.rootfs().join("seed")).unwrap();
    fs::File::create(bundle.rootfs().join("seed/huge")).unwrap().set_len(1 << 40).unwrap();
    add(&mut bundle, tmpfs("/seed", &["tmpcopyup"]));
    let err = failed(&bundle.run());
    assert!(err.contains("tmpcopyup: /seed/huge: more than 1024 MiB"), "{err}");
    // Larger than the tmpfs.
    let mut bundle = plain("true");
    fs::create_dir(bundle.rootfs().join("seed")).unwrap();
    fs::write(bundle.rootfs().join("seed/big"), vec![1u8; 200_000]).unwrap();
    add(&mut bundle, tmpfs("/seed", &["tmpcopyup", "size=64k"]));
    let err = failed(&bundle.run());
    assert!(err.contains("/seed/big") && err.contains("ENOSPC") && err.contains("size"), "{err}");
    // Deeper than a path can be.
    let mut bundle = plain("true");
    let deep = bundle.rootfs().join("seed").join("d/".repeat(200));
    fs::create_dir_all(deep).unwrap();
    add(&mut bundle, tmpfs("/seed", &["tmpcopyup"]));
    let err = failed(&bundle.run());
    assert!(err.contains("more than 128 levels"), "{err}");
    // A volume that was mounted below before is not the image's.
    let mut bundle = plain("ls -A /seed /seed/volume; cat /seed/file");
    fs::create_dir_all(bundle.rootfs().join("seed/volume")).unwrap();
    fs::write(bundle.rootfs().join("seed/file"), "").unwrap();
    fs::create_dir(bundle.path().join("big")).unwrap();
    fs::write(bundle.path().join("big/data"), "data").unwrap();
    fs::write(bundle.path().join("one"), "from a mount").unwrap();
    add(&mut bundle, bind("big", "/seed/volume", &["bind"]));
    add(&mut bundle, bind("one", "/seed/file", &["bind"]));
    add(&mut bundle, tmpfs("/seed", &["tmpcopyup"]));
    let out = bundle.run();
    assert!(!text(&out.stdout).contains("data") && !text(&out.stdout).contains("from a mount"), "{out:?}");
    assert!(text(&out.stdout).contains("volume"), "{out:?}");
    for (mount, wanted) in [
        (bind("volume", "/mnt", &["bind", "tmpcopyup"]), "tmpcopyup is for a tmpfs"),
        (json!({ "destination": "/mnt", "type": "mqueue", "options": ["tmpcopyup"] }), "tmpcopyup is for a tmpfs"),
    ] {
        let mut bundle = plain("true");
        add(&mut bundle, mount);
        assert!(failed(&bundle.run()).contains(wanted));
    }
}

/// While a directory of the image is exchanged with a link to the host again and again, what is copied is the image's.
#[test]
fn tmpcopyup_copies_nothing_of_the_host_while_the_image_changes() {
    need_root!("tmpcopyup_copies_nothing_of_the_host_while_the_image_changes");
    let host = scratch();
    fs::write(host.path().join("secret"), "host").unwrap();
    let mut bundle = plain("grep -rl host /seed; true");
    let seed = bundle.rootfs().join("seed");
    // Many, because each is at risk for a moment only.
    let pairs: Vec<_> = (0..40).map(|n| (seed.join(format!("a{n}")), seed.join(format!("b{n}")))).collect();
    for (real, link) in &pairs {
        fs::create_dir_all(real).unwrap();
        fs::write(real.join("secret"), "image").unwrap();
        symlink(host.path(), link).unwrap();
    }
    add(&mut bundle, tmpfs("/seed", &["tmpcopyup"]));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let swap = |(a, b): &(std::path::PathBuf, std::path::PathBuf)| {
        let (here, how) = (nix::fcntl::AT_FDCWD, nix::fcntl::RenameFlags::RENAME_EXCHANGE);
        nix::fcntl::renameat2(here, a, here, b, how).unwrap();
    };
    let swapped = std::thread::scope(|scope| {
        let swaps = scope.spawn(|| {
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                pairs.iter().for_each(swap);
                n += pairs.len();
            }
            n
        });
        let outs: Vec<_> = (0..30).map(|_| bundle.run()).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for out in outs {
            // A directory that became a link in between is an error; a copy of the host's file is an escape.
            let lost = out.status.success() || text(&out.stderr).contains("tmpcopyup");
            assert!(lost && text(&out.stdout).is_empty(), "{out:?}");
        }
        swaps.join().unwrap()
    });
    assert!(swapped > 1000, "only {swapped} swaps: nothing was raced");
}

// --- types, labels, cgroup -----------------------------------------------------------------------------------------------

#[test]
fn strict_mounts_only_listed_types() {
    need_root!("strict_mounts_only_listed_types");
    for fstype in ["ext4", "ramfs", "fuse", "9p", "binfmt_misc", "none"] {
        let mut bundle = Bundle::usual(&["true"]);
        add(&mut bundle, json!({ "destination": "/mnt", "type": fstype, "source": "none" }));
        let err = failed(&bundle.run());
        assert!(err.contains("mounts[7].type") && err.contains("mounts.types") && err.contains(fstype), "{err}");
    }
    // Control: the operator's word, and the policy that does what the config says.
    let ramfs = json!({ "destination": "/mnt", "type": "ramfs", "source": "none" });
    let mut bundle = plain(MOUNTS);
    add(&mut bundle, ramfs);
    assert_eq!(Seen::at(&ok(&bundle.run()), "/mnt").fstype, "ramfs");
    // A bind may call itself what it likes: it is a bind, and strict says what may be bound.
    let mut bundle = policy_with(Bundle::usual(&["true"]), json!({ "mounts": { "types": ["proc", "tmpfs"] } }));
    bundle.config["mounts"] =
        json!([{ "destination": "/mnt", "type": "tmpfs", "source": "volume", "options": ["rbind"] }]);
    let err = failed(&bundle.run());
    assert!(err.contains("mounts[0].type: bind") && err.contains("mounts.types"), "{err}");
}

#[test]
fn a_mount_label_is_given_or_refused() {
    need_root!("a_mount_label_is_given_or_refused");
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    for policy in ["oci", "strict"] {
        let mut bundle = Bundle::usual(&["sh", "-c", MOUNTS]).policy(policy);
        bundle.config["linux"]["mountLabel"] = label.into();
        let out = bundle.run();
        if Path::new("/sys/fs/selinux/enforce").exists() {
            let seen = Seen::at(&ok(&out), "/dev/shm");
            assert!(seen.inner.join(",").contains(label), "{:?}", seen.inner);
        } else {
            let err = failed(&out);
            assert!(err.contains("linux.mountLabel") && err.contains("SELinux is not on"), "{err}");
        }
    }
    // Silence in the word of an engine: the empty string.
    let mut bundle = plain("true");
    bundle.config["linux"]["mountLabel"] = "".into();
    ok(&bundle.run());
}

#[test]
fn the_type_cgroup_with_and_without_a_cgroup_namespace() {
    need_root!("the_type_cgroup_with_and_without_a_cgroup_namespace");
    let script = format!("{MOUNTS}; echo; cat /proc/self/cgroup; mkdir /sys/fs/cgroup/made 2>&1");
    for fstype in ["cgroup", "cgroup2"] {
        let mut bundle = plain(&script);
        for mount in bundle.config["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "cgroup" {
                mount["type"] = fstype.into();
            }
        }
        let out = text(&bundle.run().stdout);
        let seen = Seen::at(&out, "/sys/fs/cgroup");
        assert!(seen.fstype == "cgroup2" && seen.root == "/" && seen.has("ro,nosuid,nodev,noexec"), "{seen:?}");
        assert!(out.contains("0::/\n"), "{out}");
        assert!(out.contains("Read-only file system"), "{out}");
    }
    // Without one it is the host's: read-only, whatever the config says (CVE-2023-25809).
    let mut bundle = plain(&script);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|n| n["type"] != "cgroup");
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["rw", "nosuid", "nodev", "noexec"]);
        }
    }
    let out = text(&bundle.run().stdout);
    assert!(Seen::at(&out, "/sys/fs/cgroup").has("ro,nosuid,nodev,noexec"), "{out}");
    assert!(out.contains("Read-only file system"), "{out}");
}

// --- propagation ---------------------------------------------------------------------------------------------------------

#[test]
fn propagation_of_mounts_and_of_the_root() {
    need_root!("propagation_of_mounts_and_of_the_root");
    let run = |root: &str, option: &str, script: &str| -> String {
        let mut bundle = plain(script);
        fs::create_dir(bundle.path().join("volume")).unwrap();
        let path = bundle.path().display().to_string();
        with_mounts(
            &mut bundle,
            &format!(
                "mount -t tmpfs x {path}/volume; mount --make-shared {path}/volume; mount --bind {path}/rootfs {path}/rootfs; mount --make-shared {path}/rootfs"
            ),
        );
        if !root.is_empty() {
            bundle.config["linux"]["rootfsPropagation"] = root.into();
        }
        add(&mut bundle, bind(&format!("{path}/volume"), "/mnt", &["rbind", option]));
        ok(&bundle.run())
    };
    let kind = |seen: &Seen| -> String {
        let words: Vec<&str> = seen.peers.iter().map(|p| p.split(':').next().unwrap()).collect();
        words.join(" ")
    };
    for (option, wanted) in [
        ("rw", ""),
        ("private", ""),
        ("rprivate", ""),
        ("slave", "master"),
        ("rslave", "master"),
        ("shared", "shared"),
        ("rshared", "shared"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let out = run("", option, MOUNTS);
        assert_eq!(kind(&Seen::at(&out, "/mnt")), wanted, "{option}: {out}");
        assert_eq!(kind(&Seen::at(&out, "/")), "", "{option}: {out}");
    }
    for (root, wanted) in [
        ("private", ""),
        ("rprivate", ""),
        ("slave", "master"),
        ("rslave", "master"),
        ("shared", "shared master"),
        ("rshared", "shared master"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let out = run(root, "private", MOUNTS);
        assert_eq!(kind(&Seen::at(&out, "/")), wanted, "{root}: {out}");
    }
    let mut bundle = plain("true");
    bundle.config["linux"]["rootfsPropagation"] = "sideways".into();
    assert!(failed(&bundle.run()).contains("linux.rootfsPropagation"));
    for (field, value) in [("root", "rshared"), ("mount", "rslave")] {
        let mut bundle = Bundle::usual(&["true"]);
        fs::create_dir(bundle.path().join("volume")).unwrap();
        match field {
            "root" => bundle.config["linux"]["rootfsPropagation"] = value.into(),
            _ => add(&mut bundle, bind("volume", "/mnt", &["rbind", value])),
        }
        let err = failed(&bundle.run());
        assert!(err.contains("propagation") && err.contains(value) && err.contains("policy strict"), "{err}");
    }
}

// --- the root, devices, masks --------------------------------------------------------------------------------------------

#[test]
fn a_read_only_root_has_writable_mounts() {
    need_root!("a_read_only_root_has_writable_mounts");
    for (readonly, policy) in [(true, "oci"), (true, "strict"), (false, "oci")] {
        let mut bundle =
            Bundle::usual(&["sh", "-c", "echo x >/tmp/x; echo x >/dev/shm/x && echo shm; echo y >/root/y"]);
        bundle = bundle.policy(policy);
        bundle.config["root"]["readonly"] = readonly.into();
        add(&mut bundle, tmpfs("/tmp", &[]));
        let out = bundle.run();
        assert_eq!(text(&out.stdout), "shm\n", "{out:?}");
        assert_eq!(out.status.success(), !readonly, "{out:?}");
        assert_eq!(bundle.rootfs().join("root/y").exists(), !readonly);
        assert!(!bundle.rootfs().join("tmp/x").exists());
    }
}

#[test]
fn devices_have_the_kind_mode_and_owner_that_the_config_gives() {
    need_root!("devices_have_the_kind_mode_and_owner_that_the_config_gives");
    let list = json!([
        { "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 12, "gid": 34 },
        { "path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5 },
        { "path": "/dev/sub/block", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600 },
        { "path": "/dev/pipe", "type": "p", "fileMode": 0o622, "uid": 56 },
        { "path": "/var/outside", "type": "c", "major": 1, "minor": 7, "fileMode": 0o444 },
        { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o660, "gid": 7 }
    ]);
    let script = "for d in mine unbuffered sub/block pipe null zero full random urandom tty; do \
            stat -c '%n %F %a %u:%g %t:%T' /dev/$d; done; stat -c '%n %F %a %t:%T' /var/outside; \
        for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done; \
        echo x >/dev/mine && head -c 2 /dev/unbuffered | wc -c";
    let mut bundle = plain(script);
    reader(&mut bundle);
    bundle.config["linux"]["devices"] = list.clone();
    let rules = json!([{ "allow": true, "type": "c", "major": 1, "access": "rwm" }, { "allow": true, "type": "b", "major": 7, "minor": 200, "access": "m" }]);
    bundle.config["linux"]["resources"] = json!({ "devices": rules });
    let out = ok(&bundle.run());
    for line in [
        "/dev/mine character special file 640 12:34 1:3",
        "/dev/unbuffered character special file 666 0:0 1:5",
        "/dev/sub/block block special file 600 0:0 7:c8",
        "/dev/pipe fifo 622 56:0 0:0",
        "/dev/null character special file 660 0:7 1:3",
        "/dev/zero character special file 666 0:0 1:5",
        "/dev/full character special file 666 0:0 1:7",
        "/dev/random character special file 666 0:0 1:8",
        "/dev/urandom character special file 666 0:0 1:9",
        "/dev/tty character special file 666 0:0 5:0",
        "/var/outside character special file 444 1:7",
        "fd /proc/self/fd",
        "stdin /proc/self/fd/0",
        "stdout /proc/self/fd/1",
        "stderr /proc/self/fd/2",
        "ptmx pts/ptmx",
        "2",
    ] {
        assert!(out.lines().any(|l| l == line), "{line}: {out}");
    }
    // A file that is there already and is another thing.
    let mut bundle = plain("true");
    bundle.config["linux"]["devices"] = json!([{ "path": "/etc/passwd", "type": "c", "major": 1, "minor": 3 }]);
    let err = failed(&bundle.run());
    assert!(err.contains("devices: /etc/passwd") && err.contains("EEXIST"), "{err}");
    // In a user namespace nothing can be made: the host's node is bound, from wherever the host has it.
    let mut bundle =
        plain("stat -c '%F %t:%T' /dev/mine; echo x >/dev/mine && echo written; [ -p /dev/pipe ] && echo pipe");
    userns(&mut bundle);
    bundle.config["linux"]["devices"] = json!([
        { "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640 },
        { "path": "/dev/pipe", "type": "p" }
    ]);
    assert_eq!(ok(&bundle.run()), "character special file 1:3\nwritten\npipe\n");
    let out = bundle.verb(&["explain", &bundle.path().display().to_string()]);
    assert!(ok(&out).contains("linux.devices[0]"), "the mode is not given, and nobody says so: {}", text(&out.stdout));
    for (device, wanted) in [
        (json!({ "path": "/dev/x", "type": "a", "major": 1, "minor": 3 }), "linux.devices[0].type"),
        (json!({ "path": "/dev/x", "type": "c", "major": -1, "minor": 3 }), "linux.devices[0].major"),
        (json!({ "path": "/dev/zero", "type": "c", "major": 1, "minor": 3 }), "another device"),
    ] {
        let mut bundle = plain("true");
        bundle.config["linux"]["devices"] = json!([device]);
        let err = failed(&bundle.run());
        assert!(err.contains(wanted), "{err}");
    }
    let mut bundle = Bundle::usual(&["true"]);
    bundle.config["linux"]["devices"] = json!([{ "path": "/dev/disk", "type": "b", "major": 8, "minor": 0 }]);
    let err = failed(&bundle.run());
    assert!(err.contains("linux.devices[0]") && err.contains("policy key devices"), "{err}");
}

#[test]
fn masked_and_read_only_paths_of_every_kind() {
    need_root!("masked_and_read_only_paths_of_every_kind");
    let mut bundle = plain(
        "cat /secret/file; cat /file; cat /link; ls -A /secret; ls /gone; echo x >/secret/new; \
         echo x >/fixed/new; echo x >/fixed/file; echo x >/fixed/below/new; cat /fixed/file /fixed/below/inner; cat /real/f",
    );
    let rootfs = bundle.rootfs();
    for dir in ["secret", "fixed/below", "real"] {
        fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    for file in ["secret/file", "file", "real/f", "fixed/file"] {
        fs::write(rootfs.join(file), format!("{file}\n")).unwrap();
    }
    symlink("/real/f", rootfs.join("link")).unwrap();
    bundle.config["linux"]["maskedPaths"] = json!(["/secret", "/file", "/gone", "/link", "/proc/kcore"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/fixed", "/also-gone"]);
    // A mount below is read-only with it.
    fs::create_dir(bundle.path().join("volume")).unwrap();
    fs::write(bundle.path().join("volume/inner"), "inner\n").unwrap();
    add(&mut bundle, bind("volume", "/fixed/below", &["bind"]));
    let out = bundle.run();
    // Only the files in the read-only directory still speak.
    assert_eq!(text(&out.stdout), "fixed/file\ninner\n", "{out:?}");
    let err = text(&out.stderr);
    assert!(err.contains("/secret/file': No such file") && err.contains("/gone: No such file"), "{err}");
    assert_eq!(err.matches("Read-only file system").count(), 4, "{err}");
    assert_eq!(fs::read_to_string(rootfs.join("file")).unwrap(), "file\n");
    for field in ["maskedPaths", "readonlyPaths"] {
        let mut bundle = plain("true");
        bundle.config["linux"][field] = json!(["proc/kcore"]);
        let err = failed(&bundle.run());
        assert!(err.contains(&format!("linux.{field}[0]")) && err.contains("absolute"), "{err}");
    }
}

// --- ids that a bundle names ---------------------------------------------------------------------------------------------

#[test]
fn a_bundle_names_no_ids_of_another_container_and_no_container_gets_those_that_it_names() {
    need_root!("a_bundle_names_no_ids_of_another_container_and_no_container_gets_those_that_it_names");
    let sleeping = || Bundle::silent(&["sleep", "1000"]);
    let named = |first: u32| {
        let mut bundle = sleeping();
        let map = json!([{ "containerID": 0, "hostID": first, "size": 65_536 }]);
        bundle.config["linux"] = json!({ "uidMappings": map, "gidMappings": map, "namespaces": [{ "type": "user" }] });
        bundle
    };
    let first_of = |bundle: &Bundle| -> u32 {
        let map = fs::read_to_string(format!("/proc/{}/uid_map", bundle.pid())).unwrap();
        map.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // A block that stockade chose is not to be named, nor are ids that overlap it in part.
    let chosen = sleeping();
    ok(&chosen.create());
    let block = first_of(&chosen);
    for first in [block, block + 1000, block - 1000] {
        let err = failed(&named(first).create());
        assert!(
            err.contains("linux.uidMappings") && err.contains("heldIds") && err.contains("another container"),
            "{err}"
        );
    }
    // Nor are those that another bundle named.
    let place = block + 20 * 65_536 + 77;
    let owner = named(place);
    ok(&owner.create());
    let err = failed(&named(place + 65_535).create());
    assert!(err.contains("heldIds"), "{err}");
    // The operator's word.
    let shared = named(place).operator(json!({ "extends": "strict", "heldIds": "allow" }));
    ok(&shared.create());
    ok(&shared.delete());
    // What a refused or deleted container named is free again.
    ok(&owner.delete());
    let again = named(place + 65_535);
    ok(&again.create());
    ok(&again.delete());
    let mark = again.path().file_name().unwrap().to_string_lossy().into_owned();
    assert!(Leftovers::now(&mark).ids.is_empty(), "{:?}", Leftovers::now(&mark));
    ok(&chosen.delete());
    // A block that the next container would get by its name goes to nobody while a bundle names a part of it. The name is
    // of this test alone, and so is the block.
    let id = format!("claims-{}", std::process::id());
    let by_name = |bundle: &Bundle| -> u32 {
        bundle.write();
        let path = bundle.path().display().to_string();
        let mut command = bundle.command(&["create", "--bundle", &path, &id]);
        assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
        let state: Value = serde_json::from_slice(&bundle.verb(&["state", &id]).stdout).unwrap();
        let map = fs::read_to_string(format!("/proc/{}/uid_map", state["pid"])).unwrap();
        ok(&bundle.verb(&["delete", "--force", &id]));
        map.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let usual = by_name(&sleeping());
    assert_eq!(by_name(&sleeping()), usual, "the same name, and another block");
    let namer = named(usual + 5);
    ok(&namer.create());
    let got = by_name(&sleeping());
    assert!(got >= usual + 5 + 65_536 || got + 65_536 <= usual + 5, "{got} overlaps {}", usual + 5);
    ok(&namer.delete());
}
