//! What a container on a silent config is and is not: every clause that `strict` promises, asked from inside.
//!
//! Each absence has its control, the same question under a loosened policy, because a thing that this kernel lacks is
//! absent everywhere. A denied system call must carry the filter's own errno where the kernel itself would have answered
//! otherwise, and the profile's plain reading (`stockade::seccomp::verdict`) must say the same number.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "probe/mod.rs"]
mod probe;

use common::*;
use nix::libc;
use probe::Talk;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use stockade::seccomp::syscalls::{Abi, Syscall};
use stockade::seccomp::{self, Verdict};

/// What no launch may change on the host; compared again when the test ends.
struct Host(Vec<(&'static str, String)>);

impl Host {
    fn watch() -> Host {
        let files =
            ["/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern"];
        Host(files.map(|f| (f, std::fs::read_to_string(f).unwrap_or_default())).to_vec())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            for (file, before) in &self.0 {
                assert_eq!(&std::fs::read_to_string(file).unwrap_or_default(), before, "{file} of the host changed");
            }
        }
    }
}

/// Who runs a silent bundle under `strict`.
fn callers() -> Vec<(&'static str, Bundle)> {
    let silent = || Bundle::silent(&["sh"]);
    let mut all = vec![("root", silent()), ("an ordinary user, one id", probe::by_single_user(silent(), &[]))];
    match probe::no_ranges() {
        None => all.push(("an ordinary user with ranges", probe::by_ranged_user(silent(), &[]))),
        Some(why) => skip("an ordinary user with ranges", &why),
    }
    all
}

/// The usual bundle under `oci`, less some namespaces: what a container looks like that shares them with the host.
fn sharing(command: &[&str], shared: &[&str]) -> Bundle {
    let mut bundle = Bundle::usual(command).policy("oci");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|n| !shared.contains(&n["type"].as_str().unwrap()));
    bundle
}

/// The fields of /proc/PID/status.
fn fields(status: &str) -> BTreeMap<&str, &str> {
    status.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k, v.trim())).collect()
}

const CAPABILITY_SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

fn given(names: &[&str]) -> Value {
    json!({ "bounding": names, "effective": names, "permitted": names })
}

#[test]
fn nothing_is_left_to_gain() {
    need_root!("nothing_is_left_to_gain");
    let _host = Host::watch();
    for (who, bundle) in callers() {
        let mut talk = Talk::with(&bundle);
        // The workload itself, and what it starts.
        for process in ["1", "self"] {
            let status = talk.ask(&format!("cat /proc/{process}/status"));
            let status = fields(&status);
            for set in CAPABILITY_SETS {
                assert_eq!(status[set], "0000000000000000", "{who}: {set}");
            }
            assert_eq!((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"), "{who}");
        }
        // What the container says of itself, the host says too.
        let init = bundle.pid();
        for field in CAPABILITY_SETS {
            assert_eq!(proc_status(init, field).unwrap(), "0000000000000000", "{who}: {field}");
        }
        assert_eq!(proc_status(init, "Seccomp_filters").as_deref(), Some("1"), "{who}");
    }
    // The control: what is asked for is seen by the same eyes.
    let mut bundle = Bundle::usual(&["sh"]).policy("oci");
    bundle.config["process"]["capabilities"] = given(&["CAP_KILL"]);
    let mut talk = Talk::with(&bundle);
    let status = talk.ask("cat /proc/self/status");
    let status = fields(&status);
    assert_eq!((status["CapEff"], status["CapBnd"]), ("0000000000000020", "0000000000000020"));
    assert_eq!((status["NoNewPrivs"], status["Seccomp"]), ("0", "0"));
    // For another user than root an execve keeps what is ambient and no more, in every set as asked.
    let mut bundle = Bundle::usual(&["cat", "/proc/self/status"]).policy("oci");
    bundle.config["process"]["user"] = json!({ "uid": 5, "gid": 5 });
    let mut sets = given(&["CAP_KILL"]);
    sets["inheritable"] = json!(["CAP_KILL"]);
    sets["ambient"] = json!(["CAP_KILL"]);
    bundle.config["process"]["capabilities"] = sets;
    let said = ok(&bundle.run());
    assert_eq!(CAPABILITY_SETS.map(|set| fields(&said)[set]), ["0000000000000020"; 5]);
}

/// `inside outside count` lines of an id map.
fn map(text: &str) -> Vec<[u64; 3]> {
    text.lines()
        .map(|l| {
            let numbers: Vec<u64> = l.split_whitespace().map(|n| n.parse().unwrap()).collect();
            [numbers[0], numbers[1], numbers[2]]
        })
        .collect()
}

#[test]
fn its_ids_are_not_the_hosts() {
    need_root!("its_ids_are_not_the_hosts");
    let _host = Host::watch();
    let user = u64::from(probe::USER);
    for (who, bundle) in callers() {
        let mut talk = Talk::with(&bundle);
        for file in ["uid_map", "gid_map"] {
            // The map as the host reads it: inside, the outer ids are shown as the reader's own namespace has them.
            let host = std::fs::read_to_string(format!("/proc/{}/{file}", bundle.pid())).unwrap();
            let map = map(&host);
            assert!(map.iter().all(|[_, outside, _]| *outside != 0), "{who}: host id 0 is mapped: {host}");
            match who {
                "root" => {
                    assert_eq!(map.len(), 1, "{host}");
                    assert_eq!((map[0][0], map[0][2]), (0, 65_536), "{host}");
                    assert!(map[0][1] >= 65_536, "a block apart from the host's users: {host}");
                }
                "an ordinary user, one id" => assert_eq!(map, [[0, user, 1]], "{host}"),
                _ => assert_eq!(map, [[0, user, 1], [1, u64::from(probe::SUB), 65_536]], "{host}"),
            }
            let own = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
            assert_ne!(talk.ask(&format!("cat /proc/self/{file}")).trim(), own.trim(), "{who}: {file}");
        }
        // Root inside is somebody else outside.
        assert_eq!(talk.ask("id -u"), "0", "{who}");
        let outside = proc_status(bundle.pid(), "Uid").unwrap();
        let outside: Vec<u64> = outside.split_whitespace().map(|n| n.parse().unwrap()).collect();
        assert!(outside.iter().all(|id| *id == outside[0] && *id != 0), "{who}: {outside:?}");
        if who != "root" {
            assert_eq!(outside[0], user, "{who}");
        }
    }
    // The control: without a user namespace root inside is root outside, and the map is the host's.
    let bundle = sharing(&["sh"], &[]);
    let mut talk = Talk::with(&bundle);
    assert_eq!(map(&talk.ask("cat /proc/self/uid_map")), [[0, 0, 4_294_967_295]]);
    assert_eq!(proc_status(bundle.pid(), "Uid").as_deref(), Some("0\t0\t0\t0"));
}

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

#[test]
fn every_namespace_is_its_own() {
    need_root!("every_namespace_is_its_own");
    let _host = Host::watch();
    let of_host = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
    for (who, bundle) in callers() {
        let mut talk = Talk::with(&bundle);
        for name in NAMESPACES {
            let inside = talk.ask(&format!("readlink /proc/self/ns/{name}"));
            assert_ne!(inside, of_host(name), "{who}: {name}");
            let seen = std::fs::read_link(format!("/proc/{}/ns/{name}", bundle.pid())).unwrap();
            assert_eq!(inside, seen.display().to_string(), "{who}: {name}, from both sides");
        }
        // A child of the workload stays in them.
        for name in ["pid_for_children", "time_for_children"] {
            let plain = name.trim_end_matches("_for_children");
            let inside = talk.ask(&format!("readlink /proc/self/ns/{name}"));
            assert_eq!(inside, talk.ask(&format!("readlink /proc/self/ns/{plain}")), "{who}: {name}");
        }
    }
    // The control: under oci a config that names only the mount namespace gets just that.
    let bundle = sharing(&["sh"], &["pid", "network", "ipc", "uts", "cgroup"]);
    let mut talk = Talk::with(&bundle);
    for name in NAMESPACES {
        let inside = talk.ask(&format!("readlink /proc/self/ns/{name}"));
        assert_eq!(inside == of_host(name), name != "mnt", "{name}");
    }
}

/// A call of the probe: its result, an errno as a negative number; or the signal that ended the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Result(i64),
    Signal(i32),
}

fn calls(talk: &mut Talk, rows: &[String]) -> BTreeMap<String, Outcome> {
    let quoted: Vec<String> = rows.iter().map(|r| format!("'{r}'")).collect();
    let answer = talk.ask(&format!("probe calls {}", quoted.join(" ")));
    let outcomes: BTreeMap<String, Outcome> = answer
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [label, "=", value] => (label.to_owned(), Outcome::Result(value.parse().unwrap())),
                [label, "signal", number] => (label.to_owned(), Outcome::Signal(number.parse().unwrap())),
                _ => panic!("{line}"),
            }
        })
        .collect();
    assert_eq!(outcomes.len(), rows.len(), "{answer}");
    outcomes
}

/// The errno of one open(2), or a descriptor.
fn open(talk: &mut Talk, path: &str, flags: i32) -> i64 {
    let row = format!("open {} {} str={path} {flags} 0644", libc::SYS_openat, libc::AT_FDCWD);
    match calls(talk, &[row])["open"] {
        Outcome::Result(value) => value,
        Outcome::Signal(n) => panic!("open of {path}: signal {n}"),
    }
}

macro_rules! probe_or_skip {
    ($name:expr) => {
        match probe::program() {
            Ok(path) => path,
            Err(why) => return skip($name, &why),
        }
    };
}

const CREATE: i32 = libc::O_CREAT | libc::O_WRONLY;
const EROFS: i64 = -(libc::EROFS as i64);
const EACCES: i64 = -(libc::EACCES as i64);

/// Everybody may write there: what stands in the way then is the mount alone.
fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
}

#[test]
fn the_root_is_read_only() {
    need_root!("the_root_is_read_only");
    let program = probe_or_skip!("the_root_is_read_only");
    let _host = Host::watch();
    for (who, bundle) in callers() {
        probe::install(&bundle, &program);
        open_to_all(&bundle.rootfs());
        open_to_all(&bundle.rootfs().join("etc/passwd"));
        let mut talk = Talk::with(&bundle);
        assert_eq!(open(&mut talk, "/new", CREATE), EROFS, "{who}");
        assert_eq!(open(&mut talk, "/etc/passwd", libc::O_WRONLY), EROFS, "{who}");
        assert!(!bundle.rootfs().join("new").exists());
    }
    // The control: a config that asks for a writable root can write there.
    let mut bundle = Bundle::silent(&["sh"]);
    probe::install(&bundle, &program);
    open_to_all(&bundle.rootfs());
    bundle.config["root"]["readonly"] = json!(false);
    assert!(open(&mut Talk::with(&bundle), "/new", CREATE) >= 0);
    assert!(bundle.rootfs().join("new").exists());
}

#[test]
fn its_network_is_lo_alone() {
    need_root!("its_network_is_lo_alone");
    let _host = Host::watch();
    let interfaces = |talk: &mut Talk| -> Vec<String> {
        let table = talk.ask("cat /proc/net/dev");
        table.lines().filter_map(|l| l.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
    };
    for (who, bundle) in callers() {
        let mut talk = Talk::with(&bundle);
        assert_eq!(interfaces(&mut talk), ["lo"], "{who}");
        assert_eq!(talk.ask("echo /sys/class/net/*"), "/sys/class/net/lo", "{who}");
        // Up (1) and a loopback (8).
        assert_eq!(talk.ask("cat /sys/class/net/lo/flags"), "0x9", "{who}");
        let routes = talk.ask("cat /proc/net/route");
        assert_eq!(routes.lines().count(), 1, "{who}: {routes}");
        // It works: a server and a client of the container's own. (A server that copies its input stops at the end of the
        // client's, with or without having read its own.)
        let said = talk.ask(
            "nc -l -p 7777 -e echo hello & \
             n=0; until nc 127.0.0.1 7777 </dev/null 2>/dev/null || [ $n -ge 600 ]; do n=$((n+1)); usleep 20000; done",
        );
        assert_eq!(said, "hello", "{who}");
    }
    // The control, in a network of our making with one more interface: shared it is seen, under strict it is not.
    let network = |mut bundle: Bundle| {
        let script = "ip link add extra0 type veth peer name extra1 2>/dev/null || \
                      ip link add extra0 type dummy 2>/dev/null || exit 77; exec \"$@\"";
        bundle.runner = ["unshare", "--net", "sh", "-c", script, "sh"].map(str::to_owned).to_vec();
        bundle
    };
    let probe = network(Bundle::silent(&["true"]));
    if probe.verb(&["--version"]).status.code() == Some(77) {
        return skip("its_network_is_lo_alone, the control", "this kernel has neither veth nor dummy");
    }
    assert_eq!(interfaces(&mut Talk::with(&network(Bundle::silent(&["sh"])))), ["lo"]);
    let shared = interfaces(&mut Talk::with(&network(sharing(&["sh"], &["network"]))));
    assert!(shared.iter().any(|n| n == "extra0"), "{shared:?}");
}

#[test]
fn its_hostname_is_its_own() {
    need_root!("its_hostname_is_its_own");
    let _host = Host::watch();
    let host = nix::unistd::gethostname().unwrap().to_string_lossy().into_owned();
    for (who, mut bundle) in callers() {
        let mut talk = Talk::with(&bundle);
        assert_eq!(talk.ask("hostname; cat /proc/sys/kernel/hostname"), "box\nbox", "{who}: the id, never the host's");
        drop(talk);
        bundle.config["hostname"] = json!("stronghold");
        assert_eq!(Talk::with(&bundle).ask("hostname"), "stronghold", "{who}");
    }
    assert_ne!(host, "box");
    assert_eq!(Talk::with(&sharing(&["sh"], &["uts"])).ask("hostname"), host, "the control");
}

/// Mounts of a container that are not its own, one line each. What is its own is known by place, type and root.
fn foreign(mountinfo: &str, rootfs: &Path) -> Vec<String> {
    const NODES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
    const FILESYSTEMS: [(&str, &str); 6] = [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
    ];
    let policy = stockade::policy::Policy::load("strict").unwrap();
    let own = |line: &str| -> bool {
        let (left, right) = line.split_once(" - ").unwrap();
        let left: Vec<&str> = left.split(' ').collect();
        let (root, place, options, shared) = (left[3], left[4], left[5], left.len() > 6);
        let fstype = right.split(' ').next().unwrap();
        let options: Vec<&str> = options.split(',').collect();
        let (readonly, nosuid) = (options.contains(&"ro"), options.contains(&"nosuid"));
        // Optional fields would be a peer group: events that reach the host or come from it.
        if shared || !nosuid && fstype != "devtmpfs" {
            return false;
        }
        if place == "/" {
            return readonly && options.contains(&"nodev") && rootfs.ends_with(root.trim_start_matches('/'));
        }
        if FILESYSTEMS.contains(&(place, fstype)) {
            return root == "/" && (fstype != "sysfs" || readonly);
        }
        if let Some(name) = place.strip_prefix("/dev/") {
            return fstype == "devtmpfs" && NODES.contains(&name) && root == format!("/{name}");
        }
        let matches = |pattern: &String| {
            let (head, tail) = pattern.split_once('*').unwrap_or((pattern, ""));
            place == pattern || (pattern.contains('*') && place.starts_with(head) && place.ends_with(tail))
        };
        if policy.readonly_paths.iter().any(|p| p == place) {
            return fstype == "proc" && readonly && format!("/proc{root}") == place;
        }
        policy.masked_paths.iter().any(matches)
            && (fstype == "tmpfs" && root == "/" && readonly || fstype == "devtmpfs" && root == "/null")
    };
    mountinfo.lines().filter(|l| !own(l)).map(str::to_owned).collect()
}

#[test]
fn no_mount_is_the_hosts() {
    need_root!("no_mount_is_the_hosts");
    let _host = Host::watch();
    for (who, bundle) in callers() {
        let mut talk = Talk::with(&bundle);
        let table = talk.ask("cat /proc/self/mountinfo");
        assert_eq!(foreign(&table, &bundle.rootfs()), [""; 0], "{who}");
        let count = |place: &str| table.lines().filter(|l| l.split(' ').nth(4) == Some(place)).count();
        for place in ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/proc/sys", "/proc/keys"] {
            assert_eq!(count(place), 1, "{who}: {place} in {table}");
        }
        // The old root is gone, not hidden.
        assert_eq!(talk.ask("cat /proc/1/mountinfo"), table, "{who}");
        assert_eq!(talk.ask("ls /proc/1/root/ | grep -cx rootfs"), "0", "{who}");
    }
    // The controls: the host's own table, and one directory of the host bound in.
    let own = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(foreign(&own, Path::new("/nowhere")).len() >= own.lines().count() / 2);
    let mut bundle =
        Bundle::silent(&["sh"]).operator(json!({ "extends": "strict", "hostPaths": { "allowed": ["/usr"] } }));
    bundle.config["mounts"] = json!([{ "destination": "/mnt", "source": "/usr", "options": ["bind", "ro"] }]);
    let table = Talk::with(&bundle).ask("cat /proc/self/mountinfo");
    let found = foreign(&table, &bundle.rootfs());
    assert!(found.len() == 1 && found[0].contains(" /mnt "), "{found:?}");
}

#[test]
fn the_kernels_files_are_shut() {
    need_root!("the_kernels_files_are_shut");
    let program = probe_or_skip!("the_kernels_files_are_shut");
    let _host = Host::watch();
    for (who, bundle) in callers() {
        probe::install(&bundle, &program);
        let mut talk = Talk::with(&bundle);
        for path in ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/user/max_user_namespaces"] {
            let result = open(&mut talk, path, libc::O_WRONLY);
            if Path::new(path).exists() {
                assert!(result == EROFS || result == EACCES, "{who}: {path}: {result}");
            }
        }
        let mounts = talk.ask("cat /proc/self/mountinfo");
        let readonly = |place: &str| {
            mounts.lines().any(|l| {
                let words: Vec<&str> = l.split(' ').collect();
                words[4] == place && words[5].split(',').any(|o| o == "ro")
            })
        };
        for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] {
            if Path::new(path).exists() {
                assert!(readonly(path), "{who}: {path} in {mounts}");
            }
        }
        // Masked: the null device or an empty directory.
        for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"] {
            if Path::new(path).exists() {
                assert_eq!(
                    talk.ask(&format!("stat -c %F:%t:%T {path}")),
                    "character special file:1:3",
                    "{who}: {path}"
                );
                assert_eq!(talk.ask(&format!("cat {path} 2>&1 | wc -c")), "0", "{who}: {path}");
            }
        }
        for path in ["/sys/firmware", "/proc/acpi", "/proc/scsi", "/sys/devices/virtual/powercap"] {
            if Path::new(path).exists() {
                assert_eq!(talk.ask(&format!("ls -A {path}")), "", "{who}: {path}");
            }
        }
    }
    // Sysctls of the container's own network obey CAP_NET_ADMIN there: for such a root the mount alone stands in the way.
    let sysctl = "/proc/sys/net/ipv4/ip_forward";
    for (policy, expected) in [(json!({}), Some(EROFS)), (json!({ "readonlyPaths": [] }), None)] {
        let mut operator = json!({ "extends": "strict", "capabilities": { "above": "allow" } });
        operator.as_object_mut().unwrap().extend(policy.as_object().unwrap().clone());
        let mut bundle = Bundle::silent(&["sh"]).operator(operator);
        bundle.config["process"]["capabilities"] = given(&["CAP_NET_ADMIN"]);
        probe::install(&bundle, &program);
        let result = open(&mut Talk::with(&bundle), sysctl, libc::O_WRONLY);
        assert!(expected.map_or(result >= 0, |e| result == e), "{expected:?}: {result}");
    }
    // The control: where the config freezes and masks nothing, host root opens them. Nothing is written.
    let mut bundle = Bundle::usual(&["sh"]).policy("oci");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.config["process"]["capabilities"] = given(&["CAP_SYS_RAWIO"]);
    probe::install(&bundle, &program);
    let mut talk = Talk::with(&bundle);
    assert!(open(&mut talk, "/proc/sys/kernel/core_pattern", libc::O_WRONLY) >= 0);
    assert_ne!(talk.ask("cat /proc/interrupts | wc -c"), "0");
    let mut frozen = vec!["/proc/sys/kernel/core_pattern"];
    if Path::new("/proc/sysrq-trigger").exists() {
        assert!(open(&mut talk, "/proc/sysrq-trigger", libc::O_WRONLY) >= 0);
        frozen.push("/proc/sysrq-trigger");
    } else {
        skip("the_kernels_files_are_shut, sysrq-trigger", "this kernel has none");
    }
    if Path::new("/proc/kcore").exists() {
        assert_eq!(talk.ask("stat -c %F /proc/kcore"), "regular file");
    } else {
        skip("the_kernels_files_are_shut, kcore", "this kernel has none");
    }
    // And frozen under oci it is the mount that says no, to host root too.
    let bundle = Bundle::usual(&["sh"]).policy("oci");
    probe::install(&bundle, &program);
    let mut talk = Talk::with(&bundle);
    for path in frozen {
        assert_eq!(open(&mut talk, path, libc::O_WRONLY), EROFS, "{path}");
    }
}

#[test]
fn user_namespaces_are_off_inside_and_untouched_outside() {
    need_root!("user_namespaces_are_off_inside_and_untouched_outside");
    let host = Host::watch();
    let limit = host.0[0].1.trim().to_owned();
    assert_ne!(limit, "0", "this host has user namespaces");
    for (who, bundle) in callers() {
        let mut talk = Talk::with(&bundle);
        assert_eq!(talk.ask("cat /proc/sys/user/max_user_namespaces"), "0", "{who}");
        assert_eq!(std::fs::read_to_string(host.0[0].0).unwrap().trim(), limit, "{who}: while it runs");
    }
    let open = json!({ "extends": "strict", "userNamespacesInside": "allow" });
    let bundle = Bundle::silent(&["sh"]).operator(open);
    assert_ne!(Talk::with(&bundle).ask("cat /proc/sys/user/max_user_namespaces"), "0", "the control");
    // Where the user namespace is the host's, so is the value: never written.
    let bundle = Bundle::usual(&["sh"]).operator(json!({ "extends": "oci", "userNamespacesInside": "refuse" }));
    assert_eq!(Talk::with(&bundle).ask("cat /proc/sys/user/max_user_namespaces"), limit);
}

/// A system call that the default profile denies: label, name, arguments for the probe, and the filter's errno. The
/// arguments are such that the kernel, asked by somebody with the capabilities, would answer anything else.
struct Denied(&'static str, &'static str, &'static str, i32);

#[rustfmt::skip]
const DENIED: &[Denied] = &[
    Denied("unshare-nothing", "unshare", "0", libc::EPERM),
    Denied("unshare-user", "unshare", "0x10000000", libc::EPERM),
    Denied("unshare-mount", "unshare", "0x20000", libc::EPERM),
    Denied("clone-user", "clone", "0x10000011 0 0 0 0", libc::EPERM),
    Denied("clone-pid", "clone", "0x20000011 0 0 0 0", libc::EPERM),
    Denied("clone3", "clone3", "buf 88", libc::ENOSYS),
    Denied("setns", "setns", "open=/proc/self/ns/uts 0", libc::EPERM),
    Denied("setns-nothing", "setns", "-1 0", libc::EPERM),
    Denied("mount", "mount", "str=none str=/tmp str=tmpfs 0 0", libc::EPERM),
    Denied("umount2", "umount2", "str=/nonexistent 0", libc::EPERM),
    Denied("pivot_root", "pivot_root", "str=/nonexistent str=/nonexistent", libc::EPERM),
    Denied("fsopen", "fsopen", "str=tmpfs 0", libc::EPERM),
    Denied("fsmount", "fsmount", "-1 0 0", libc::EPERM),
    Denied("fsconfig", "fsconfig", "-1 0 0 0 0", libc::EPERM),
    Denied("open_tree", "open_tree", "-100 str=/ 1", libc::EPERM),
    Denied("move_mount", "move_mount", "-1 str=x -1 str=y 0", libc::EPERM),
    Denied("mount_setattr", "mount_setattr", "-1 str=x 0 buf 32", libc::EPERM),
    Denied("ptrace-traceme", "ptrace", "0 0 0 0", libc::EPERM),
    Denied("ptrace-seize", "ptrace", "0x4206 child 0 0", libc::EPERM),
    Denied("process_vm_readv", "process_vm_readv", "child 0 0 0 0 0", libc::EPERM),
    Denied("process_vm_writev", "process_vm_writev", "child 0 0 0 0 0", libc::EPERM),
    Denied("pidfd_getfd", "pidfd_getfd", "-1 0 0", libc::EPERM),
    Denied("kcmp", "kcmp", "child child 99 0 0", libc::EPERM),
    Denied("bpf", "bpf", "9999 0 0", libc::EPERM),
    Denied("perf_event_open", "perf_event_open", "0 0 -1 -1 0", libc::EPERM),
    Denied("io_uring_setup", "io_uring_setup", "1 buf", libc::ENOSYS),
    Denied("io_uring_enter", "io_uring_enter", "-1 0 0 0 0 0", libc::ENOSYS),
    Denied("io_uring_register", "io_uring_register", "-1 0 0 0", libc::ENOSYS),
    Denied("keyctl", "keyctl", "9999 0 0 0 0", libc::EPERM),
    Denied("keyctl-session", "keyctl", "0 -3 1", libc::EPERM),
    Denied("add_key", "add_key", "0 0 0 0 0", libc::EPERM),
    Denied("request_key", "request_key", "0 0 0 0", libc::EPERM),
    Denied("userfaultfd", "userfaultfd", "1", libc::EPERM),
    Denied("userfaultfd-flags", "userfaultfd", "0xffff", libc::EPERM),
    Denied("socket-alg", "socket", "38 5 0", libc::EAFNOSUPPORT),
    Denied("socket-packet", "socket", "17 3 0", libc::EAFNOSUPPORT),
    Denied("socket-vsock", "socket", "40 1 0", libc::EAFNOSUPPORT),
    Denied("socket-xfrm", "socket", "16 3 6", libc::EAFNOSUPPORT),
    Denied("socket-netfilter", "socket", "16 3 12", libc::EAFNOSUPPORT),
    Denied("socket-alg-high", "socket", "0x100000026 5 0", libc::EAFNOSUPPORT),
    Denied("socket-packet-high", "socket", "0x100000011 3 0", libc::EAFNOSUPPORT),
    Denied("socket-vsock-high", "socket", "0x100000028 1 0", libc::EAFNOSUPPORT),
    Denied("socketpair-alg", "socketpair", "38 5 0 buf", libc::EAFNOSUPPORT),
    Denied("ioctl-tiocsti", "ioctl", "0 0x5412 buf", libc::EPERM),
    Denied("ioctl-tiocsti-high", "ioctl", "0 0x100005412 buf", libc::EPERM),
    Denied("setsockopt-ulp", "setsockopt", "-1 6 31 buf 4", libc::ENOPROTOOPT),
    Denied("personality", "personality", "0x40000", libc::EPERM),
    Denied("chmod-setuid", "chmod", "str=/nonexistent 04755", libc::EPERM),
    Denied("openat-setgid", "openat", "-100 str=/nonexistent/x 0101 02755", libc::EPERM),
    Denied("openat2", "openat2", "-100 str=/ buf 24", libc::ENOSYS),
    Denied("sethostname", "sethostname", "str=x 1", libc::EPERM),
    Denied("name_to_handle_at", "name_to_handle_at", "-100 str=/proc buf buf 0", libc::EPERM),
];

/// The capabilities without which the kernel itself would answer EPERM.
const CAPABLE: [&str; 7] =
    ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON", "CAP_SYS_RESOURCE"];

/// strict but for capabilities and user namespaces inside, and with the default filter or none.
fn capable(filter: &str) -> Bundle {
    let mut bundle = Bundle::silent(&["sh"]).operator(json!({
        "extends": "strict",
        "capabilities": { "above": "allow" },
        "userNamespacesInside": "allow",
        // It refuses mounts, too, and here the filter is asked.
        "landlock": { "level": "off" },
        "seccomp": { "silent": filter }
    }));
    bundle.config["process"]["capabilities"] = given(&CAPABLE);
    bundle
}

fn number(name: &str) -> u32 {
    Syscall::named(name).and_then(|s| s.number(Abi::NATIVE)).unwrap_or_else(|| panic!("{name} on this architecture"))
}

/// The arguments as the filter sees them; a pointer is anything.
fn words(arguments: &str) -> [u64; 6] {
    let mut all = [0; 6];
    for (slot, word) in all.iter_mut().zip(arguments.split(' ')) {
        *slot = match (word.strip_prefix("0x"), word.strip_prefix('-'), word.strip_prefix('0')) {
            (Some(hex), ..) => u64::from_str_radix(hex, 16).unwrap(),
            (_, Some(negative), _) => negative.parse::<u64>().unwrap().wrapping_neg(),
            (.., Some(octal)) if !octal.is_empty() => u64::from_str_radix(octal, 8).unwrap(),
            _ => word.parse().unwrap_or(0x7fff_0000_1000),
        };
    }
    all
}

#[test]
fn dangerous_calls_meet_the_filter() {
    need_root!("dangerous_calls_meet_the_filter");
    let program = probe_or_skip!("dangerous_calls_meet_the_filter");
    let _host = Host::watch();
    let rows: Vec<String> =
        DENIED.iter().map(|Denied(label, name, args, _)| format!("{label} {} {args}", number(name))).collect();

    // The control: no filter, else the same. Where the kernel answers like the filter, the row proves nothing.
    let bundle = capable("none");
    probe::install(&bundle, &program);
    let free = calls(&mut Talk::with(&bundle), &rows);
    let mut told = 0;
    for Denied(label, _, _, errno) in DENIED {
        if free[*label] == Outcome::Result(-i64::from(*errno)) {
            assert!(
                [libc::ENOSYS, libc::EAFNOSUPPORT].contains(errno),
                "{label}: this kernel refuses it as the filter does, so the row must ask in another way"
            );
            skip(&format!("dangerous_calls_meet_the_filter, {label}"), "this kernel does not have it");
        } else {
            told += 1;
        }
    }
    assert!(told * 4 >= DENIED.len() * 3, "only {told} of {} rows tell anything", DENIED.len());
    // What these calls do when nobody stops them.
    for label in ["unshare-user", "unshare-mount", "mount", "setns", "ptrace-traceme", "ptrace-seize", "socket-packet"]
    {
        assert!(matches!(free[label], Outcome::Result(0..)), "{label}: {:?}", free[label]);
    }

    // With the capabilities, which must not matter; then the silent config of every caller, with none.
    let mut bundles = vec![("capable", capable("default"))];
    bundles.extend(callers());
    for (who, bundle) in bundles {
        probe::install(&bundle, &program);
        let got = calls(&mut Talk::with(&bundle), &rows);
        for Denied(label, _, _, errno) in DENIED {
            assert_eq!(got[*label], Outcome::Result(-i64::from(*errno)), "{who}: {label}");
        }
    }
}

#[test]
fn the_profile_says_the_same_numbers() {
    let profile = seccomp::default_profile().unwrap();
    for Denied(label, name, args, errno) in DENIED {
        let verdict = seccomp::verdict(&profile, Abi::NATIVE.audit(), number(name), words(args));
        assert_eq!(verdict, Verdict::Errno(*errno as u16), "{label}");
    }
    // The control: the neighbours that a program needs.
    for (name, args) in [
        ("socket", "1 1 0"),
        ("socket", "2 1 0"),
        ("socket", "10 2 0"),
        ("socket", "16 3 0"),
        ("clone", "0x11 0 0"),
        ("ioctl", "0 0x5413 0"),
        ("openat", "-100 0 0101 0644"),
        ("chmod", "0 0755"),
        ("personality", "0xffffffff"),
        ("execve", "0 0 0"),
    ] {
        let verdict = seccomp::verdict(&profile, Abi::NATIVE.audit(), number(name), words(args));
        assert_eq!(verdict, Verdict::Allow, "{name} {args}");
    }
    // The second doors to the same kernel.
    #[cfg(target_arch = "x86_64")]
    for (arch, nr) in [(Abi::I386.audit(), 20), (Abi::I386.audit(), 102), (Abi::X86_64.audit(), 0x4000_0000 | 39)] {
        assert_eq!(seccomp::verdict(&profile, arch, nr, [0; 6]), Verdict::KillProcess, "{arch:#x} {nr:#x}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn other_abis_end_the_caller() {
    need_root!("other_abis_end_the_caller");
    let program = probe_or_skip!("other_abis_end_the_caller");
    let _host = Host::watch();
    // getpid by three doors, and socketcall, which hides its arguments from every filter.
    let rows = ["native 39", "int80 i386:20", "socketcall i386:102 1 buf", "x32 x32:39"].map(str::to_owned);
    let mut bundles = vec![("capable", capable("default"))];
    bundles.extend(callers());
    for (who, bundle) in bundles {
        probe::install(&bundle, &program);
        let got = calls(&mut Talk::with(&bundle), &rows);
        assert!(matches!(got["native"], Outcome::Result(2..)), "{who}: {got:?}");
        for label in ["int80", "socketcall", "x32"] {
            assert_eq!(got[label], Outcome::Signal(libc::SIGSYS), "{who}: {label}");
        }
    }
    let bundle = capable("none");
    probe::install(&bundle, &program);
    let free = calls(&mut Talk::with(&bundle), &rows);
    for label in ["int80", "socketcall", "x32"] {
        assert_ne!(free[label], Outcome::Signal(libc::SIGSYS), "the control: {label}");
    }
    if !matches!(free["int80"], Outcome::Result(2..)) {
        skip("other_abis_end_the_caller, int80", "this kernel runs no 32-bit calls");
    }
}

/// Leading words that leave descriptors open, directories of the host among them, before anything else runs.
fn leaking(fds: &[(u32, &str)], then: &[String]) -> Vec<String> {
    let opened: Vec<String> = fds.iter().map(|(n, path)| format!("{n}<'{path}'")).collect();
    // bash, because dash knows only one digit. Last in the row, so that nothing before the runtime closes them.
    let script = format!("exec {}; exec \"$@\"", opened.join(" "));
    let mut all = then.to_vec();
    all.extend(["bash".to_owned(), "-c".to_owned(), script, "bash".to_owned()]);
    all
}

#[test]
fn only_three_descriptors_are_open() {
    need_root!("only_three_descriptors_are_open");
    let program = probe_or_skip!("only_three_descriptors_are_open");
    let _host = Host::watch();
    let leaks = [(3, "/"), (4, "/etc/passwd"), (7, "/proc"), (9, "/dev"), (63, "/"), (900, "/etc")];
    let open = |bundle: &Bundle| -> Vec<u32> {
        let said = ok(&bundle.run());
        said.split_whitespace().map(|n| n.parse().unwrap()).collect()
    };
    let callers = || -> Vec<(&str, Bundle)> {
        let mut all = callers();
        all.push(("oci", Bundle::usual(&[]).policy("oci")));
        all.into_iter()
            .map(|(who, mut bundle)| {
                bundle.config["process"]["args"] = json!(["probe", "fds"]);
                probe::install(&bundle, &program);
                (who, bundle)
            })
            .collect()
    };
    for (who, mut bundle) in callers() {
        assert_eq!(open(&bundle), [0, 1, 2], "{who}");
        bundle.runner = leaking(&leaks, &bundle.runner);
        assert_eq!(open(&bundle), [0, 1, 2], "{who}: the caller leaks");
    }
    // Through create and start, too: each of them is called with the leaks.
    for (who, mut bundle) in callers() {
        bundle.runner = leaking(&leaks, &bundle.runner);
        bundle.write();
        let said = bundle.path().join("said");
        let created = bundle
            .command(&["create", "--bundle", bundle.path().to_str().unwrap(), "box"])
            .stdout(std::fs::File::create(&said).unwrap())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(created.success(), "{who}");
        // At the gate nothing of the caller's is left either: what is open there is the runtime's own.
        let links: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", bundle.pid()))
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_str().is_some_and(|n| n.parse::<u32>().unwrap() > 2))
            .map(|e| std::fs::read_link(e.path()).unwrap().display().to_string())
            .collect();
        for (_, path) in leaks {
            assert!(!links.iter().any(|l| l == path), "{who}: {links:?}");
        }
        ok(&bundle.verb(&["start", "box"]));
        wait_for("its end", || bundle.state()["status"] == "stopped");
        assert_eq!(std::fs::read_to_string(&said).unwrap().trim(), "0 1 2", "{who}: created and started");
    }
    // The control: what is handed on by number is seen.
    let (_, mut bundle) = callers().remove(0);
    bundle.runner = leaking(&leaks, &[]);
    bundle.write();
    let out = bundle.verb(&["run", "--preserve-fds", "2", "--bundle", bundle.path().to_str().unwrap(), "box"]);
    assert_eq!(ok(&out).trim(), "0 1 2 3 4");
}

#[test]
fn no_leaked_directory_is_a_way_out() {
    need_root!("no_leaked_directory_is_a_way_out");
    let _host = Host::watch();
    let numbers = [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 63];
    let bundles = || [("strict", Bundle::silent(&[])), ("oci", Bundle::usual(&[]).policy("oci"))];
    for (who, mut bundle) in bundles() {
        let program = bundle.rootfs().display().to_string();
        bundle.runner = leaking(&[(3, "/"), (7, &program), (63, &program)], &[]);
        for n in numbers {
            bundle.config["process"]["cwd"] = json!("/");
            bundle.config["process"]["args"] = json!([format!("/proc/self/fd/{n}/bin/busybox"), "echo", "out"]);
            let out = bundle.run();
            assert!(!out.status.success(), "{who}: program by {n}: {}", text(&out.stdout));
            assert!(failed(&out).contains(&format!("/proc/self/fd/{n}")), "{who}: {}", text(&out.stderr));
            assert_eq!(text(&out.stdout), "", "{who}: program by {n}");
            bundle.config["process"]["args"] = json!(["pwd"]);
            for cwd in [format!("/proc/self/fd/{n}"), format!("/proc/self/fd/{n}/etc")] {
                bundle.config["process"]["cwd"] = json!(cwd);
                let out = bundle.run();
                assert!(!out.status.success(), "{who}: cwd {cwd}: {}", text(&out.stdout));
                assert!(failed(&out).contains(&cwd), "{who}: {}", text(&out.stderr));
                assert_eq!(text(&out.stdout), "", "{who}: cwd {cwd}");
            }
        }
    }
    // The controls, under oci: a descriptor that the caller hands on does lead to a program, and a way through /proc
    // is a good cwd as long as it ends inside. A handed-on directory outside is refused by the second lock.
    let (_, mut bundle) = bundles().into_iter().nth(1).unwrap();
    let rootfs = bundle.rootfs().display().to_string();
    bundle.runner = leaking(&[(3, &rootfs)], &[]);
    let run = |bundle: &Bundle| {
        bundle.write();
        bundle.verb(&["run", "--preserve-fds", "1", "--bundle", bundle.path().to_str().unwrap(), "box"])
    };
    bundle.config["process"]["args"] = json!(["/proc/self/fd/3/bin/busybox", "echo", "out"]);
    assert_eq!(ok(&run(&bundle)), "out\n");
    bundle.config["process"]["args"] = json!(["pwd"]);
    bundle.config["process"]["cwd"] = json!("/proc/self/root/etc");
    assert_eq!(ok(&run(&bundle)), "/etc\n");
    bundle.config["process"]["cwd"] = json!("/proc/self/fd/3");
    assert!(failed(&run(&bundle)).contains("leads out of the root"));
}

#[test]
fn its_groups_are_exactly_those_that_were_asked() {
    need_root!("its_groups_are_exactly_those_that_were_asked");
    let _host = Host::watch();
    let caller: Vec<String> = ["setpriv", "--groups", "0,4242"].map(str::to_owned).to_vec();
    let show = "cat /proc/self/status; id -G";
    let groups = |out: &str| fields(out)["Groups"].to_owned();
    for policy in ["strict", "oci"] {
        let mut bundle = Bundle::usual(&["sh", "-c", show]).policy(policy);
        bundle.runner = caller.clone();
        let said = ok(&bundle.run());
        assert_eq!(groups(&said), "", "{policy}: silent is none");
        assert_eq!(said.lines().last(), Some("0"), "{policy}: only its gid");
        bundle.config["process"]["user"] = json!({ "uid": 5, "gid": 6, "additionalGids": [7, 4243] });
        let said = ok(&bundle.run());
        assert_eq!(groups(&said), "7 4243", "{policy}");
        assert_eq!(fields(&said)["Gid"].split_whitespace().collect::<Vec<_>>(), ["6"; 4], "{policy}");
        assert_eq!(fields(&said)["Uid"].split_whitespace().collect::<Vec<_>>(), ["5"; 4], "{policy}");
    }
    // The control: the same caller without a container does have it.
    let out = Command::new("setpriv").args(["--groups", "0,4242", "cat", "/proc/self/status"]).output().unwrap();
    assert_eq!(groups(&ok(&out)), "0 4242");
}

#[test]
fn the_groups_of_an_ordinary_caller_never_stay_unsaid() {
    need_root!("the_groups_of_an_ordinary_caller_never_stay_unsaid");
    let _host = Host::watch();
    let show = || Bundle::silent(&["cat", "/proc/self/status"]);
    // With a single id the kernel keeps them: refused, and both remedies named.
    let bundle = probe::by_single_user(show(), &[probe::USER, 4242]);
    let error = failed(&bundle.run());
    for word in ["4242", "subordinate ids", "callerGroups"] {
        assert!(error.contains(word), "{word}: {error}");
    }
    assert!(!bundle.root().join("box").exists());
    // No groups but its own: nothing to refuse, nothing to see.
    let bundle = probe::by_single_user(show(), &[probe::USER]);
    assert_eq!(fields(&ok(&bundle.run()))["Groups"].replace("65534", "").replace('0', "").trim(), "");
    // Allowed by an operator: it runs, they are there, and a finding says so.
    let bundle = show().operator(json!({ "extends": "strict", "callerGroups": "allow" }));
    let mut bundle = probe::by_single_user(bundle, &[probe::USER, 4242]);
    let said = ok(&bundle.run());
    assert_eq!(fields(&said)["Groups"].split_whitespace().filter(|g| *g == "65534").count(), 1, "unmapped: {said}");
    let explained = ok(&bundle.verb(&["explain", "--json", bundle.path().to_str().unwrap()]));
    let explained: Value = serde_json::from_str(&explained).unwrap();
    let finding = find(&explained, "callerGroups").expect("a finding");
    assert!(finding["given"].as_str().unwrap().contains("4242"), "{finding}");
    // Groups that are asked for cannot be given.
    bundle.config["process"]["user"]["additionalGids"] = json!([7]);
    assert!(failed(&bundle.run()).contains("additionalGids"));

    // With ranges they are dropped, and those that are asked for are given.
    if let Some(why) = probe::no_ranges() {
        return skip("the_groups_of_an_ordinary_caller_never_stay_unsaid, with ranges", &why);
    }
    let mut bundle = probe::by_ranged_user(show(), &[probe::USER, 4242]);
    assert_eq!(fields(&ok(&bundle.run()))["Groups"], "");
    bundle.config["process"]["user"] = json!({ "uid": 5, "gid": 6, "additionalGids": [7, 4243] });
    assert_eq!(fields(&ok(&bundle.run()))["Groups"], "7 4243");
}

/// The finding of a rule, wherever it is in what explain prints.
fn find(value: &Value, rule: &str) -> Option<Value> {
    match value {
        Value::Object(o) if o.get("rule").is_some_and(|r| r == rule) => Some(value.clone()),
        Value::Object(o) => o.values().find_map(|v| find(v, rule)),
        Value::Array(a) => a.iter().find_map(|v| find(v, rule)),
        _ => None,
    }
}
