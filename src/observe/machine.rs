//! Do: what `doctor` must know of this machine beyond the facts of a launch.
//!
//! A launch tries nothing beforehand; here somebody asked. What no file tells is tried by a child of our own in namespaces
//! of its own, which ends at once, so that nothing of the host changes.

use crate::doctor::{Failed, Machine, Tries};
use crate::error::Result;
use crate::host::{Binary, Host, Range, find_program, read_small};
use crate::plan::Ns;
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2, read, write};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What decides about user namespaces, and about what is executed from memory.
const SYSCTLS: [&str; 7] = [
    "kernel.unprivileged_userns_clone",
    "kernel.apparmor_restrict_unprivileged_userns",
    "user.max_user_namespaces",
    "user.max_mnt_namespaces",
    "user.max_pid_namespaces",
    "user.max_net_namespaces",
    "vm.memfd_noexec",
];

/// Looks at the machine. `dir`: where bundles are.
pub fn look(host: Host, dir: &Path) -> Result<Machine> {
    let sysctls = SYSCTLS
        .iter()
        .filter_map(|name| {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            Some(((*name).to_owned(), read_small(path, 256).ok()?.trim().to_owned()))
        })
        .collect::<BTreeMap<_, _>>();
    let lsms = read_small("/sys/kernel/security/lsm", 4096).unwrap_or_default();
    let swaps = read_small("/proc/swaps", 1 << 16).unwrap_or_default();
    let profiles = read_small("/sys/kernel/security/apparmor/profiles", 4 << 20).ok();
    let name = crate::host::user_name(host.uid);
    let owner = |o: &str| Some(o) == name.as_deref() || o == host.uid.to_string();
    let has = |file: &str| crate::host::sub_ranges(file, owner).is_ok_and(|r| !r.is_empty());
    Ok(Machine {
        dir: dir.to_owned(),
        sysctls,
        lsms: lsms.trim().split(',').filter(|l| !l.is_empty()).map(str::to_owned).collect(),
        swap: swaps.lines().count() > 1,
        default_profile_loaded: profiles.map(|p| p.lines().any(|l| l.starts_with("stockade-default "))),
        subordinate_lines: has("/etc/subuid") && has("/etc/subgid"),
        user: name.unwrap_or_else(|| host.uid.to_string()),
        helpers: ["newuidmap", "newgidmap"]
            .into_iter()
            .filter_map(|h| helper(h).map(|why| (h.to_owned(), why)))
            .collect(),
        tries: tries(&host, dir),
        host,
    })
}

/// What is wrong with a helper; none: nothing.
fn helper(name: &str) -> Option<String> {
    let Some(path) = find_program(name) else { return Some("is missing".to_owned()) };
    let setuid = std::fs::metadata(&path).is_ok_and(|m| m.mode() & 0o4000 != 0 && m.uid() == 0);
    let capable = open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .is_ok_and(|fd| sys::get_xattr(fd.as_fd(), c"security.capability").is_ok());
    (!setuid && !capable).then(|| format!("{} is neither setuid nor has file capabilities", path.display()))
}

fn tries(host: &Host, dir: &Path) -> Tries {
    let root = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(root).resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let all = Ns::ALL.iter().filter(|ns| **ns != Ns::Time).fold(0, |bits, ns| bits | ns.flag());
    let namespaces = inside(all, in_namespaces);
    // Which of them it is that cannot be made.
    let alone = match &namespaces {
        Err(e) if e.step == "clone3" => Ns::ALL
            .into_iter()
            .filter(|ns| *ns != Ns::Time)
            .filter_map(|ns| {
                let failed = inside(ns.flag() | Ns::User.flag(), |_| Ok(())).err()?;
                Some((ns.name().to_owned(), failed))
            })
            .collect(),
        _ => Vec::new(),
    };
    Tries {
        openat2: open("/", root, Mode::empty())
            .and_then(|fd| openat2(&fd, ".", how))
            .map(drop)
            .map_err(|e| Failed::new("openat2", e)),
        pidfd: sys::pidfd_open(nix::unistd::getpid().as_raw()).map(drop).map_err(|e| Failed::new("pidfd_open", e)),
        clone: inside(0, |_| Ok(())),
        namespaces,
        alone,
        seccomp: sys::seccomp_knows(0),
        listener: sys::seccomp_knows(nix::libc::SECCOMP_FILTER_FLAG_NEW_LISTENER),
        memory_file: sys::executable_memory(c"stockade-doctor").map(drop).map_err(|e| Failed::new("memfd_create", e)),
        idmap: host.ids.block.filter(|_| host.privileged()).map(|block| idmapped(dir, block)),
        device_program: (host.privileged() && host.initial_userns).then(|| {
            let rules = crate::cgroup::device::defaults();
            let program = crate::cgroup::device::program(&rules).unwrap_or_default();
            sys::bpf_prog_load_device(&program, None).map(drop).map_err(|e| Failed::new("bpf", e))
        }),
        sealed: host.binary == Binary::Sealed,
    }
}

/// Steps of a child, by number: all that it can tell.
const STEPS: [&str; 5] = ["clone3", "mount / private", "mount proc", "mount sysfs", "mount tmpfs"];

/// Does something in a child with these namespaces of its own, and says what failed.
fn inside(
    flags: u64,
    act: impl Fn(&dyn Fn(u8, Errno)) -> std::result::Result<(), ()>,
) -> std::result::Result<(), Failed> {
    let failed = |e: Errno| Failed::new("pipe", e);
    let (told, tell) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    match sys::clone3(flags, None).map_err(|e| Failed::new("clone3", e))? {
        sys::Cloned::Child => {
            let _ = sys::set_parent_death_signal(nix::libc::SIGKILL);
            let say = |step: u8, e: Errno| {
                let mut bytes = [step, 0, 0, 0, 0];
                bytes[1..].copy_from_slice(&(e as i32).to_le_bytes());
                let _ = write(&tell, &bytes);
            };
            sys::exit(i32::from(act(&say).is_err()))
        }
        sys::Cloned::Parent { pid, .. } => {
            drop(tell);
            let mut bytes = [0u8; 5];
            let n = loop {
                match read(&told, &mut bytes) {
                    Err(Errno::EINTR) => {}
                    other => break other.unwrap_or(0),
                }
            };
            let status = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL));
            match (n, status) {
                (5, _) => {
                    let errno = i32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
                    Err(Failed::new(STEPS[usize::from(bytes[0]).min(STEPS.len() - 1)], Errno::from_raw(errno)))
                }
                (_, Ok(WaitStatus::Exited(_, 0))) => Ok(()),
                // Killed, by a filter say.
                _ => Err(Failed::new("clone3", Errno::EPERM)),
            }
        }
    }
}

/// What a launch does first in its namespaces, and what a module or the mounts around us may deny.
fn in_namespaces(say: &dyn Fn(u8, Errno)) -> std::result::Result<(), ()> {
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(none, "/", none, private, none).map_err(|e| say(1, e))?;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).map_err(|e| say(2, e))?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), flags | MsFlags::MS_RDONLY, none).map_err(|e| say(3, e))?;
    mount(Some("tmpfs"), "/proc", Some("tmpfs"), flags, none).map_err(|e| say(4, e))
}

/// Whether the file system of a directory takes an id map (mount_setattr(2)), tried on a copy of its mount that is
/// attached nowhere.
fn idmapped(dir: &Path, block: Range) -> std::result::Result<(), Failed> {
    let (wait, end) = pipe2(OFlag::O_CLOEXEC).map_err(|e| Failed::new("pipe", e))?;
    match sys::clone3(Ns::User.flag(), None).map_err(|e| Failed::new("clone3", e))? {
        sys::Cloned::Child => {
            drop(end);
            let _ = sys::set_parent_death_signal(nix::libc::SIGKILL);
            // Until the other end is closed.
            let _ = read(&wait, &mut [0u8; 1]);
            sys::exit(0)
        }
        sys::Cloned::Parent { pid, .. } => {
            drop(wait);
            let tried = map_onto(pid, dir, block);
            drop(end);
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL));
            tried
        }
    }
}

fn map_onto(pid: i32, dir: &Path, block: Range) -> std::result::Result<(), Failed> {
    let errno = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO));
    for file in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{pid}/{file}"), format!("0 {} {}\n", block.start, block.count))
            .map_err(|e| Failed::new(file, errno(e)))?;
    }
    let users: OwnedFd =
        std::fs::File::open(format!("/proc/{pid}/ns/user")).map_err(|e| Failed::new("ns", errno(e)))?.into();
    let copy = sys::clone_tree(None, &dir.to_string_lossy(), false).map_err(|e| Failed::new("open_tree", e))?;
    let attr = sys::MountAttr { idmap: Some(users.as_fd()), ..sys::MountAttr::default() };
    sys::mount_setattr(copy.as_fd(), false, attr).map_err(|e| Failed::new("mount_setattr", e))
}
