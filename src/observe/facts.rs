//! Do: what `audit` must know of the machine, of a bundle's paths, and of a container that runs. Only reads.

use crate::audit::live::{Live, Process};
use crate::audit::{Facts, Walk};
use crate::error::Result;
use crate::host::{Host, read_small};
use crate::mount;
use crate::mountinfo;
use crate::namespaces;
use crate::observe::ps;
use crate::plan::Ns;
use crate::policy::Policy;
use crate::sources;
use crate::state::{Entry, State};
use crate::sys;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// More than these of one kind are not looked at: a config may name as many as it likes.
const MOST: usize = 4096;
/// Nobody reads more processes in a report.
const PROCESSES: usize = 1024;

/// The facts that a config needs. `walk`: of its rootfs, which is the same whatever else changes.
pub fn of_config(config: &Value, dir: &Path, host: &Host, walk: Option<Walk>) -> Facts {
    let list = |pointer: &str| config.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mounts = list("/mounts").iter().take(MOST).filter_map(|m| m["source"].as_str().filter(|s| !s.is_empty()));
    let root = config.pointer("/root/path").and_then(Value::as_str);
    let shown = mounts.chain(root).map(|path| dir.join(path)).collect();
    let paths = list("/linux/namespaces").iter().take(MOST).filter_map(|n| n["path"].as_str().map(PathBuf::from));
    Facts {
        apparmor: host.apparmor,
        selinux: host.selinux,
        cgroup_v1: host.cgroup.on_v1.clone(),
        namespaces: namespaces::look_at(paths),
        sources: sources::look_at(dir, shown),
        open_hooks: open_hooks(config),
        walk,
    }
}

/// Hooks whose file, or a directory above it, others than root can change.
fn open_hooks(config: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (kind, list) in config.get("hooks").and_then(Value::as_object).into_iter().flatten() {
        for (i, hook) in list.as_array().into_iter().flatten().enumerate().take(MOST) {
            let Some(path) = hook["path"].as_str().map(Path::new).filter(|p| p.is_absolute()) else { continue };
            let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let why = real.ancestors().find_map(|place| {
                let meta = std::fs::metadata(place).ok()?;
                // In a sticky directory others can make files, and touch none that is there.
                let open = meta.mode() & 0o022 != 0 && !(meta.is_dir() && meta.mode() & 0o1000 != 0);
                match (open, meta.uid()) {
                    (true, _) => Some(format!("others can write to {}", place.display())),
                    (false, 0) => None,
                    (false, uid) => Some(format!("{} belongs to uid {uid}", place.display())),
                }
            });
            found.extend(why.map(|why| (format!("/hooks/{kind}/{i}"), why)));
        }
    }
    found
}

/// `Name:\tvalue` lines of /proc/PID/status.
pub(crate) fn status(pid: i32) -> BTreeMap<String, String> {
    let text = read_small(format!("/proc/{pid}/status"), 64 << 10).unwrap_or_default();
    text.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect()
}

/// The number of a file.
pub(crate) fn inode(path: impl AsRef<Path>) -> Option<u64> {
    std::fs::metadata(path).ok().map(|m| m.ino())
}

/// A file of /proc/PID, without the end of its last line.
pub(super) fn text_of(pid: i32, file: &str) -> Option<String> {
    let text = read_small(format!("/proc/{pid}/{file}"), 1 << 20).ok()?;
    Some(text.trim_end_matches(['\n', '\0']).to_owned())
}

/// The id inside for an id outside, by a uid_map or gid_map.
pub(super) fn inside(map: &str, outside: u32) -> Option<u32> {
    namespaces::map_lines(map).into_iter().find_map(|(inside, first, count)| {
        let n = outside.checked_sub(first).filter(|n| *n < count)?;
        inside.checked_add(n)
    })
}

/// Each namespace of a process and the host's of the same type, by their inodes; none: it cannot be told.
pub(super) fn inodes(pid: i32) -> Vec<(Ns, Option<u64>, Option<u64>)> {
    let of = |who: &str, ns: Ns| inode(format!("/proc/{who}/ns/{}", ns.file()));
    // PID 1 is the host's, where we may look; else we are on the host ourselves.
    let both = |ns: Ns| (ns, of(&pid.to_string(), ns), of("1", ns).or_else(|| of("self", ns)));
    Ns::ALL.into_iter().map(both).collect()
}

/// Whether a process has a namespace other than the host's, of each type; none: it cannot be told.
fn namespaces_of(pid: i32) -> Vec<(&'static str, Option<bool>)> {
    inodes(pid).into_iter().map(|(ns, theirs, host)| (ns.name(), theirs.zip(host).map(|(a, b)| a != b))).collect()
}

/// Addresses and ports on which somebody in the process's network namespace listens.
fn listeners(pid: i32) -> Vec<String> {
    let mut found = Vec::new();
    for (file, width) in [("tcp", 8), ("tcp6", 32)] {
        let text = read_small(format!("/proc/{pid}/net/{file}"), 4 << 20).unwrap_or_default();
        for line in text.lines().skip(1) {
            let mut words = line.split_whitespace();
            let (local, state) = (words.nth(1), words.nth(1));
            // TCP_LISTEN
            let (Some((address, port)), Some("0A")) = (local.and_then(|l| l.split_once(':')), state) else { continue };
            let Ok(port) = u16::from_str_radix(port, 16) else { continue };
            let any = address.len() == width && address.bytes().all(|b| b == b'0');
            found.push(format!("{file} port {port}{}", if any { " on every address" } else { "" }));
        }
    }
    found.sort();
    found.dedup();
    found.truncate(PROCESSES);
    found
}

/// Everything about a container that runs.
pub fn of_container(entry: &Entry, state: &State, host: &Host, ruler: &Policy) -> Result<Live> {
    let pid = state.init.pid;
    let group = entry.cgroup()?;
    let files = group.as_ref().map(|g| {
        ["memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max"]
            .into_iter()
            .filter_map(|file| Some((file.to_owned(), g.get(file).ok()?.trim().to_owned())))
            .collect()
    });
    let processes = ps::pids(entry, state)?.into_iter().take(PROCESSES).map(|pid| Process { pid, status: status(pid) });
    let text = |file: &str| text_of(pid, file);
    let host_mounts = mountinfo::of("1").or_else(|_| mountinfo::of("self"))?;
    let mut live = Live {
        id: state.id.clone(),
        bundle: state.bundle.clone(),
        status: status(pid),
        processes: processes.collect(),
        namespaces: namespaces_of(pid),
        mounts: mountinfo::of(&pid.to_string())?,
        host_mounts,
        uid_map: text("uid_map"),
        limits: text("limits"),
        cgroup: files,
        cgroup_path: text("cgroup").unwrap_or_default(),
        device_programs: group.as_ref().and_then(|g| sys::bpf_prog_query_device(g.fd()).ok()).map(|p| p.len()),
        apparmor: text("attr/apparmor/current").or_else(|| text("attr/current").filter(|_| host.apparmor)),
        selinux: text("attr/current").filter(|_| host.selinux),
        oom_score_adj: text("oom_score_adj").and_then(|t| t.parse().ok()),
        environment: text("environ").map(|t| t.split('\0').map(str::to_owned).collect()),
        listeners: listeners(pid),
        annotations: state.annotations.keys().cloned().collect(),
        hooks: state.hooks.iter().map(|(moment, list)| (moment.name().to_owned(), list.len())).collect(),
        kernel_files: kernel_files(ruler),
        // What we do not have ourselves, no container of ours can.
        all_caps: host.known_caps & if host.privileged() { host.caps } else { u64::MAX },
        facts: Facts {
            apparmor: host.apparmor,
            selinux: host.selinux,
            cgroup_v1: host.cgroup.on_v1.clone(),
            ..Facts::default()
        },
    };
    let shown = live.of_host().into_iter().map(|(_, path)| path).collect();
    live.facts.sources = sources::look_at(&state.bundle, shown);
    Ok(live)
}

/// The files that the ruler wants covered and that this kernel has: (path, masked and not only read-only).
fn kernel_files(ruler: &Policy) -> Vec<(String, bool)> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(root) = open("/", flags, Mode::empty()) else { return Vec::new() };
    let lists = [(&ruler.masked_paths, true), (&ruler.readonly_paths, false)];
    let each = lists.into_iter().flat_map(|(list, masked)| list.iter().map(move |p| (p, masked)));
    each.flat_map(|(path, masked)| mount::expand(root.as_fd(), path).into_iter().map(move |p| (p, masked)))
        .filter(|(path, _)| Path::new(path).exists())
        .collect()
}
