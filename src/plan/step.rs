//! Decide: the vocabulary of a launch.
//!
//! A `Step` is one thought: "mount proc here", "drop the bounding set". It holds paths as the container sees them, never
//! a resolved one, and numbers of slots for the descriptors that exist only at run time. Each kind of step knows who
//! does it, how to say itself in a line, why it is done and which attack it answers; `explain` prints exactly that.

use crate::cgroup::device;
use crate::cgroup::systemd;
use crate::host::Range;
use crate::plan::landlock::Landlock;
use crate::plan::network::Publish;
use crate::plan::process::{IoPriority, MemoryPolicy, Personality, Scheduler};
use nix::errno::Errno;
use oci_spec::runtime::{LinuxNamespaceType, LinuxSeccomp};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A classic-BPF instruction: `struct sock_filter` of linux/filter.h.
pub use libc::sock_filter as SockFilter;

/// A namespace type, in the order in which setns wants them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ns {
    /// user_namespaces(7)
    User,
    /// mount_namespaces(7)
    Mount,
    /// pid_namespaces(7)
    Pid,
    /// network_namespaces(7)
    Network,
    /// ipc_namespaces(7)
    Ipc,
    /// uts_namespaces(7)
    Uts,
    /// cgroup_namespaces(7)
    Cgroup,
    /// time_namespaces(7)
    Time,
}

impl Ns {
    /// All of them.
    pub const ALL: [Ns; 8] = [Ns::User, Ns::Mount, Ns::Pid, Ns::Network, Ns::Ipc, Ns::Uts, Ns::Cgroup, Ns::Time];

    /// The specification's name.
    pub fn name(self) -> &'static str {
        match self {
            Ns::User => "user",
            Ns::Mount => "mount",
            Ns::Pid => "pid",
            Ns::Network => "network",
            Ns::Ipc => "ipc",
            Ns::Uts => "uts",
            Ns::Cgroup => "cgroup",
            Ns::Time => "time",
        }
    }

    /// The name of its file in /proc/PID/ns.
    pub fn file(self) -> &'static str {
        match self {
            Ns::Mount => "mnt",
            Ns::Network => "net",
            other => other.name(),
        }
    }

    /// Its CLONE_NEW* flag.
    pub fn flag(self) -> u64 {
        match self {
            Ns::User => 0x1000_0000,
            Ns::Mount => 0x2_0000,
            Ns::Pid => 0x2000_0000,
            Ns::Network => 0x4000_0000,
            Ns::Ipc => 0x800_0000,
            Ns::Uts => 0x400_0000,
            Ns::Cgroup => 0x200_0000,
            Ns::Time => crate::plan::CLONE_NEWTIME,
        }
    }

    /// From the specification's enum.
    pub fn from_oci(typ: LinuxNamespaceType) -> Ns {
        match typ {
            LinuxNamespaceType::User => Ns::User,
            LinuxNamespaceType::Mount => Ns::Mount,
            LinuxNamespaceType::Pid => Ns::Pid,
            LinuxNamespaceType::Network => Ns::Network,
            LinuxNamespaceType::Ipc => Ns::Ipc,
            LinuxNamespaceType::Uts => Ns::Uts,
            LinuxNamespaceType::Cgroup => Ns::Cgroup,
            LinuxNamespaceType::Time => Ns::Time,
        }
    }
}

/// A namespace that is joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// Its type.
    pub ns: Ns,
    /// Where it is.
    pub path: PathBuf,
    /// Its inode when the plan was made; 0: not looked at.
    pub inode: u64,
    /// The user namespace that is joined, too, owns it: entered after that one, with the rights in it.
    pub inside: bool,
}

/// A line of a uid_map or gid_map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct IdMap {
    /// The first id inside.
    pub inside: u32,
    /// The first id outside, in the runtime's user namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdMap {
    /// The range of ids on the host's side.
    pub fn outside_range(&self) -> Range {
        Range { start: self.outside, count: self.count }
    }
}

/// Flags of a mount, as mount_setattr(2) names them: what is added, what is cleared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Attr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// To set on the mounts below, too.
    pub set_below: u64,
    /// To clear on the mounts below, too.
    pub clear_below: u64,
    /// `MS_PRIVATE` and so on, without `MS_REC`; 0: private.
    pub propagation: u64,
    /// The propagation reaches the mounts below.
    pub propagation_below: bool,
}

impl Attr {
    /// Only flags to add.
    pub fn set(set: u64) -> Attr {
        Attr { set, ..Attr::default() }
    }

    /// What is set and what is cleared on the mount itself: a flag for all below is for it, too, and wins.
    pub fn top(&self) -> (u64, u64) {
        let set = (self.set & !self.clear_below) | self.set_below;
        let clear = ((self.clear & !self.set_below) | self.clear_below) & !(set & !crate::plan::attr::ATIME);
        (set, clear)
    }

    /// The flags in words: `ro,nosuid,nodev`.
    pub fn words(&self) -> String {
        use crate::plan::attr;
        const NAMES: [(u64, &str, &str); 9] = [
            (attr::RDONLY, "ro", "rw"),
            (attr::NOSUID, "nosuid", "suid"),
            (attr::NODEV, "nodev", "dev"),
            (attr::NOEXEC, "noexec", "exec"),
            (attr::NOATIME, "noatime", ""),
            (attr::STRICTATIME, "strictatime", ""),
            (attr::ATIME, "", "relatime"),
            (attr::NODIRATIME, "nodiratime", "diratime"),
            (attr::NOSYMFOLLOW, "nosymfollow", "symfollow"),
        ];
        let (set, clear) = self.top();
        let mut words: Vec<String> = Vec::new();
        for (bit, on, off) in NAMES {
            if set & bit != 0 && !on.is_empty() {
                words.push(format!("{}{on}", if self.set_below & bit != 0 { "r" } else { "" }));
            } else if clear & bit != 0 && set & bit == 0 && !off.is_empty() {
                words.push(format!("{}{off}", if self.clear_below & bit != 0 { "r" } else { "" }));
            }
        }
        words.join(",")
    }
}

/// A path of the host. `within`: it may not lead out of this directory, by whatever link on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPath {
    /// The path, absolute.
    pub path: PathBuf,
    /// Where it must stay.
    pub within: Option<PathBuf>,
    /// It was judged by where it leads: what has become a link since then is not followed.
    pub judged: bool,
}

impl HostPath {
    /// The path in words.
    pub fn display(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

impl Serialize for HostPath {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.path.serialize(s)
    }
}

/// The two id maps of a mount: from the ids on the disk to those that are seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Maps {
    /// The uid map.
    pub uids: Vec<IdMap>,
    /// The gid map.
    pub gids: Vec<IdMap>,
}

/// The directories of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layers {
    /// Read-only ones, the uppermost first.
    pub lower: Vec<HostPath>,
    /// The writable one, and where the kernel prepares what goes there.
    pub upper: Option<(HostPath, HostPath)>,
}

/// Where a bind comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A detached mount that the parent prepared, by the number of its slot.
    Slot(usize),
    /// A path of the host, which the child looks up in its own copy of the host's mounts.
    Path(HostPath),
}

/// A device node of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its path in the container.
    pub path: PathBuf,
    /// 'c', 'b' or 'p'.
    pub kind: char,
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// The permission bits.
    pub mode: u32,
    /// The owner inside.
    pub uid: u32,
    /// The group inside.
    pub gid: u32,
}

/// A hook of the config, ready to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Hook {
    /// The program, absolute.
    pub path: PathBuf,
    /// Its arguments, the first being its name.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<String>,
    /// Seconds after which it is killed and has failed.
    pub timeout: Option<i64>,
}

/// The moments of the specification at which hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Moment {
    /// Deprecated form of createRuntime; what Docker's networking uses.
    Prestart,
    /// After the namespaces exist, before pivot_root, in the runtime's namespaces.
    CreateRuntime,
    /// The same moment in the container's mount namespace.
    CreateContainer,
    /// Before the workload's execve, inside the container.
    StartContainer,
    /// After the workload has started, outside.
    Poststart,
    /// After the container was deleted, outside.
    Poststop,
}

impl Moment {
    /// The specification's name.
    pub fn name(self) -> &'static str {
        match self {
            Moment::Prestart => "prestart",
            Moment::CreateRuntime => "createRuntime",
            Moment::CreateContainer => "createContainer",
            Moment::StartContainer => "startContainer",
            Moment::Poststart => "poststart",
            Moment::Poststop => "poststop",
        }
    }
}

/// The five capability sets, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// The most that any program in the container can ever get.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// May be put in force.
    pub permitted: u64,
    /// Survives an execve of a file with inheritable capabilities.
    pub inheritable: u64,
    /// Survives an execve by a user other than root.
    pub ambient: u64,
}

/// A seccomp filter to be installed: the profile in force and the program compiled from it.
#[derive(Debug, Clone, Serialize)]
pub struct Filter {
    /// `default` or `linux.seccomp`.
    pub profile: String,
    /// How many instructions the program has.
    pub instructions: usize,
    /// SECCOMP_FILTER_FLAG_*.
    pub flags: u64,
    /// The program.
    #[serde(skip)]
    pub program: Vec<SockFilter>,
    /// What it was compiled from.
    #[serde(skip)]
    pub source: Option<Box<LinuxSeccomp>>,
    /// Whom it asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<Listener>,
    /// It asks the runtime itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watched: Option<Watched>,
}

impl Filter {
    /// The program as seccomp(2) reads it: struct sock_filter, one after the other.
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = |i: &SockFilter| {
            let [a, b] = i.code.to_ne_bytes();
            let [k0, k1, k2, k3] = i.k.to_ne_bytes();
            [a, b, i.jt, i.jf, k0, k1, k2, k3]
        };
        self.program.iter().flat_map(bytes).collect()
    }

    /// Whether it asks anybody: then it is installed before the gate, because its listener must be taken before the
    /// workload makes its first call.
    pub fn asks(&self) -> bool {
        self.listener.is_some() || self.watched.is_some()
    }
}

/// A filter whose questions the runtime answers: what it is to know about it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Watched {
    /// The profiles that it was merged from, by name, in the order of installation; none: it asks about every call.
    #[serde(skip)]
    pub profiles: Vec<(String, LinuxSeccomp)>,
    /// The policy, and whether it stacks a profile of its own under one of the config.
    pub policy: String,
    /// The same.
    pub floor: bool,
    /// As in a listener's.
    pub dumpable: bool,
}

/// The agent of a filter that asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Listener {
    /// The socket on which it waits for the listener.
    pub path: PathBuf,
    /// Where that must stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<PathBuf>,
    /// What it is told beside the state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// The runtime is an ordinary user: it can take the listener only of a process that may be traced.
    pub dumpable: bool,
}

impl Listener {
    /// The socket.
    pub fn host_path(&self) -> HostPath {
        HostPath { path: self.path.clone(), within: self.within.clone(), judged: false }
    }
}

/// A class of resctrl.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rdt {
    /// Where resctrl is mounted.
    pub mount: PathBuf,
    /// The class: a directory there.
    pub class: String,
    /// The config names it; else it is the container's own.
    pub named: bool,
    /// Lines for its schemata.
    pub schemata: Vec<String>,
    /// A monitoring group of the container's own.
    pub monitor: bool,
}

/// A secret of the caller, as far as a plan knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretFile {
    /// Its file in /run/secrets.
    pub name: String,
    /// In bytes.
    pub size: usize,
    /// The runtime could not lock its copy in memory.
    #[serde(skip)]
    pub swappable: bool,
}

/// Who does a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    /// The runtime, on the host.
    Parent,
    /// The process that becomes the workload.
    Child,
}

/// One step of a launch.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "the comment of a variant says what its fields are")]
pub enum Step {
    // ---- parent, before the clone
    /// Execute a sealed copy of the runtime's own binary.
    OwnBinary { why: String },
    /// Write the intent record.
    Record,
    /// Copy a mount of the host into a slot, detached.
    CloneSource { slot: usize, path: HostPath, recursive: bool, attr: Attr },
    /// Mount an overlay. With a slot: the parent, detached; else the child, at the target.
    Overlay { slot: Option<usize>, target: PathBuf, layers: Layers, options: Vec<(String, String)>, attr: Attr },
    /// Make the cgroup.
    /// `counted`: controllers that no limit needs, enabled where that is possible, so that use can be read.
    MakeCgroup { path: String, controllers: Vec<String>, counted: Vec<String> },
    /// Write limits and read them back: (file, value).
    Limits { values: Vec<(String, String)> },
    /// Write weights of block I/O where this kernel has them: (io.weight, io.bfq.weight).
    IoWeights { values: Vec<(String, String)> },
    /// Attach the device program.
    DeviceProgram {
        #[serde(serialize_with = "rules_as_text")]
        rules: Vec<device::Rule>,
    },
    /// Give the cgroup, not its limits, to the host's uid that the workload is; and to its gid in a user namespace, from
    /// inside of which `exec` could not enter a cgroup of a group that is not mapped there.
    Delegate {
        uid: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
    },
    /// Open namespaces of others, for a process between us and the child to enter, in this order.
    Join { namespaces: Vec<Joined> },
    /// Make the child.
    /// `outside`: it stays out of the pid namespace that it joins until it says `Emerge`.
    Clone {
        namespaces: Vec<Ns>,
        into_cgroup: bool,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        outside: bool,
    },
    /// Make a process inside a container that runs: in these of its namespaces and, unless it is moved there later, in
    /// this cgroup. `outside`: it stays out of the pid namespace until it says `Emerge`.
    Enter {
        namespaces: Vec<Ns>,
        cgroup: Option<String>,
        oom_score_adj: Option<i32>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        outside: bool,
    },
    // ---- parent, after the clone
    /// Let systemd make a scope around the child: its cgroup, relative to the mount, and the unit's properties.
    Scope { scope: systemd::Scope, path: String, properties: Vec<(String, systemd::Value)> },
    /// Let systemd move the child into a scope that exists, below it where `below` says.
    AttachScope { scope: systemd::Scope, below: String },
    /// Write uid_map and gid_map.
    MapIds { uids: Vec<IdMap>, gids: Vec<IdMap>, setgroups: bool, helpers: bool },
    /// Write oom_score_adj.
    OomScoreAdj { value: i32 },
    /// sched_setaffinity, on the runtime itself before it makes the process, or on the process.
    CpuAffinity { cpus: Vec<u32>, initial: bool },
    /// sched_setattr on the process.
    Scheduler { scheduler: Scheduler },
    /// ioprio_set on the process.
    IoPriority { priority: IoPriority },
    /// Raise hard rlimits where the config asks for more than we have: (name, soft, hard).
    RaiseRlimits { values: Vec<(String, u64, u64)> },
    /// Copy a mount into a slot with the ids of the child's user namespace, or of maps of its own.
    /// `below`: the mounts below, too.
    Idmap { slot: usize, path: HostPath, recursive: bool, attr: Attr, maps: Option<Maps>, below: bool },
    /// Put the child into a class of resctrl.
    Rdt { rdt: Rdt },
    /// Move network devices of the host: (its name, the name inside).
    NetDevices { devices: Vec<(String, String)> },
    /// Start pasta on the child's network namespace, and wait until its network is ready.
    Network { program: PathBuf, args: Vec<String>, publish: Vec<Publish> },
    /// Run hooks in the runtime's namespaces.
    Hooks { moment: Moment, hooks: Vec<Hook> },
    /// Wait until the parent has run the hooks that see the container built.
    AwaitHooks,
    /// Let the child go on, with the descriptors made for it.
    Go,
    /// The child is another process from here on: the one that emerged.
    Meet,
    // ---- child
    /// Ask to be killed when the runtime dies.
    DieWithParent,
    /// Wait until the parent says go.
    AwaitGo,
    /// A time namespace with these offsets: (clock, seconds, nanoseconds).
    TimeOffsets { offsets: Vec<(String, i64, u32)> },
    /// A cgroup namespace rooted where systemd has moved us.
    UnshareCgroup,
    /// Be born into the pid namespace of others, as a process that has no more than the workload.
    Emerge,
    /// Take our place in the container that we were made in: its root, and its cgroup namespace.
    Arrive { cgroup_namespace: bool },
    /// A session of our own; no terminal of the caller.
    NewSession { keyring: bool },
    /// Become the container's root (or its only id) to build it.
    BecomeRoot { uid: u32, gid: u32 },
    /// Stop mount events between us and the host.
    Detach { propagation: u64 },
    /// Put the root file system where it can be pivoted to.
    AttachRootfs { source: Source, at: PathBuf, recursive: bool, attr: Attr },
    /// A new file system. `copy_up`: with a copy of what it covers.
    Filesystem {
        fstype: String,
        source: String,
        target: PathBuf,
        options: Vec<(String, String)>,
        attr: Attr,
        copy_up: bool,
    },
    /// A part of the host.
    Bind { source: Source, target: PathBuf, recursive: bool, attr: Attr },
    /// Device nodes, and the links that go with them.
    Devices { nodes: Vec<Device>, bind: bool, links: Vec<(String, PathBuf)> },
    /// Find a user and its groups in the container's passwd and group: `NAME[:GROUP]`.
    LookUpUser { user: String },
    /// A pseudo-terminal of the container's own devpts; `bind`: at /dev/console, too. Its group stays the devpts's.
    Console { uid: u32, size: Option<(u16, u16)>, bind: bool },
    /// Secrets of the caller in /run/secrets, for the workload's user alone.
    Secrets { files: Vec<SecretFile>, uid: u32, gid: u32, options: Vec<(String, String)> },
    /// Change the flags of a mount that is in place.
    SetAttr { target: PathBuf, attr: Attr },
    /// Hide files and directories.
    Mask { paths: Vec<String> },
    /// Make files and directories read-only.
    ReadonlyPaths { paths: Vec<String> },
    /// Run hooks in the container's mount namespace, before the pivot.
    ContainerHooks { moment: Moment, hooks: Vec<Hook> },
    /// The label that the next execve takes on.
    Label { apparmor: Option<String>, selinux: Option<String> },
    /// Swap the root and let the old one go.
    Pivot { propagation: u64 },
    /// The same by a move and a chroot, where the host's root cannot be swapped (an initramfs).
    MoveRoot { propagation: u64 },
    /// sethostname.
    Hostname { name: String },
    /// setdomainname.
    Domainname { name: String },
    /// `lo` up.
    Loopback,
    /// Namespaced sysctls.
    Sysctls { values: Vec<(String, String)> },
    /// max_user_namespaces = 0 in the container's own user namespace.
    NoUserNamespaces,
    /// rlimits: (name, soft, hard).
    Rlimits { values: Vec<(String, u64, u64)> },
    /// set_mempolicy.
    MemoryPolicy { policy: MemoryPolicy },
    /// personality.
    Personality { personality: Personality },
    /// umask.
    Umask { mask: u32 },
    /// PR_SET_MDWE.
    DenyWriteExecute,
    /// A cookie of PR_SCHED_CORE.
    CoreScheduling,
    /// The pipes among the standard streams become the workload's user's.
    Streams { uid: u32 },
    /// Close every descriptor that is not ours or named by the caller.
    /// `listen`: how many of those are sockets that the caller activates the workload with.
    CloseFds { preserve: u32, listen: u32 },
    /// Drop the bounding set to what is allowed.
    Bounding { keep: u64, keep_names: Vec<String> },
    /// The workload's ids, and only its groups.
    Ids { uid: u32, gid: u32, groups: Vec<u32>, setgroups: bool, keep_caps: bool },
    /// The workload's capability sets.
    Capabilities { caps: Caps, names: Vec<String> },
    /// A Landlock domain.
    Landlock { landlock: Landlock },
    /// no_new_privs.
    NoNewPrivs,
    /// The working directory is made where it is missing.
    MakeCwd { path: PathBuf },
    /// The working directory, as far as the container's root may go there.
    ChdirEarly { path: PathBuf },
    /// The working directory.
    Chdir { path: PathBuf },
    /// Find the program, as the workload's user.
    FindProgram { program: String },
    /// Tell the parent that all is done; it commits the state.
    Ready,
    /// Become the sealed stub, which does the rest.
    Stub { why: String },
    /// Wait for `start`.
    Gate,
    /// A filter.
    Seccomp { filter: Filter },
    /// Become the workload.
    Exec { args: Vec<String>, env: Vec<String> },
    /// Do a step; on one of these errnos, which mean "not supported here", do another.
    Try {
        step: Box<Step>,
        #[serde(serialize_with = "errnos_as_text")]
        on: Vec<Errno>,
        or: Box<Step>,
        finding: crate::policy::Finding,
    },
    /// Nothing: the other branch of a `Try` whose step can be left out.
    Skip,
}

fn rules_as_text<S: serde::Serializer>(rules: &[device::Rule], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(rules.iter().map(ToString::to_string))
}

fn errnos_as_text<S: serde::Serializer>(list: &[Errno], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(list.iter().map(|e| format!("{e:?}")))
}

/// Said of a process that `Emerge` is to show.
const OUTSIDE: &str = ", seen inside only when it has emerged";

impl Step {
    /// Who does it.
    pub fn actor(&self) -> Actor {
        match self {
            Step::OwnBinary { .. }
            | Step::Record
            | Step::CloneSource { .. }
            | Step::Overlay { slot: Some(_), .. }
            | Step::MakeCgroup { .. }
            | Step::Limits { .. }
            | Step::IoWeights { .. }
            | Step::DeviceProgram { .. }
            | Step::Delegate { .. }
            | Step::Join { .. }
            | Step::Clone { .. }
            | Step::Enter { .. }
            | Step::Scope { .. }
            | Step::AttachScope { .. }
            | Step::MapIds { .. }
            | Step::OomScoreAdj { .. }
            | Step::CpuAffinity { .. }
            | Step::Scheduler { .. }
            | Step::IoPriority { .. }
            | Step::RaiseRlimits { .. }
            | Step::Idmap { .. }
            | Step::Rdt { .. }
            | Step::NetDevices { .. }
            | Step::Network { .. }
            | Step::Hooks { .. }
            | Step::Go
            | Step::Meet => Actor::Parent,
            Step::Try { step, .. } => step.actor(),
            _ => Actor::Child,
        }
    }

    /// The step itself, or what a `Try` does first.
    pub fn first(&self) -> &Step {
        match self {
            Step::Try { step, .. } => step.first(),
            step => step,
        }
    }

    /// The step's name, as errors and `explain` use it: the word of the kernel or of the specification.
    pub fn name(&self) -> &'static str {
        match self {
            Step::OwnBinary { .. } => "own binary",
            Step::Record => "record",
            Step::CloneSource { .. } => "open_tree",
            Step::Overlay { .. } => "overlay",
            Step::MakeCgroup { .. } | Step::Delegate { .. } => "cgroup",
            Step::Limits { .. } | Step::IoWeights { .. } => "limits",
            Step::DeviceProgram { .. } => "device program",
            Step::Join { .. } => "setns",
            Step::Clone { .. } => "clone3",
            Step::Enter { .. } => "setns",
            Step::Scope { .. } | Step::AttachScope { .. } => "systemd",
            Step::Emerge => "emerge",
            Step::Meet => "meet",
            Step::Arrive { .. } => "arrive",
            Step::LookUpUser { .. } => "user",
            Step::TimeOffsets { .. } => "time offsets",
            Step::UnshareCgroup => "unshare",
            Step::MapIds { .. } => "id maps",
            Step::OomScoreAdj { .. } => "oom_score_adj",
            Step::CpuAffinity { .. } => "cpu affinity",
            Step::Scheduler { .. } => "scheduler",
            Step::IoPriority { .. } => "io priority",
            Step::Idmap { .. } => "idmapped mount",
            Step::Rdt { .. } => "resctrl",
            Step::NetDevices { .. } => "net devices",
            Step::Network { .. } => "network",
            Step::Hooks { .. } | Step::ContainerHooks { .. } => "hooks",
            Step::Go => "go",
            Step::DieWithParent => "die with parent",
            Step::AwaitGo => "wait for go",
            Step::AwaitHooks => "wait for hooks",
            Step::NewSession { .. } => "session",
            Step::BecomeRoot { .. } => "become root",
            Step::Detach { .. } => "propagation",
            Step::AttachRootfs { .. } => "root.path",
            Step::Filesystem { .. } => "mount",
            Step::Bind { .. } => "bind",
            Step::Devices { .. } => "devices",
            Step::Console { .. } => "console",
            Step::Secrets { .. } => "secrets",
            Step::SetAttr { .. } => "remount",
            Step::Mask { .. } => "mask",
            Step::ReadonlyPaths { .. } => "read-only paths",
            Step::Label { .. } => "label",
            Step::Pivot { .. } => "pivot_root",
            Step::MoveRoot { .. } => "chroot",
            Step::Hostname { .. } => "hostname",
            Step::Domainname { .. } => "domainname",
            Step::Loopback => "loopback",
            Step::Sysctls { .. } => "sysctl",
            Step::NoUserNamespaces => "no user namespaces",
            Step::Rlimits { .. } | Step::RaiseRlimits { .. } => "rlimits",
            Step::MemoryPolicy { .. } => "memory policy",
            Step::Personality { .. } => "personality",
            Step::Umask { .. } => "umask",
            Step::DenyWriteExecute => "no writable code",
            Step::CoreScheduling => "core scheduling",
            Step::Streams { .. } => "streams",
            Step::CloseFds { .. } => "close descriptors",
            Step::Bounding { .. } => "bounding set",
            Step::Ids { .. } => "ids",
            Step::Capabilities { .. } => "capabilities",
            Step::Landlock { .. } => "landlock",
            Step::NoNewPrivs => "no_new_privs",
            Step::MakeCwd { .. } | Step::ChdirEarly { .. } | Step::Chdir { .. } => "cwd",
            Step::FindProgram { .. } => "exec",
            Step::Ready => "ready",
            Step::Stub { .. } => "stub",
            Step::Gate => "gate",
            Step::Seccomp { .. } => "seccomp",
            Step::Exec { .. } => "exec",
            Step::Try { step, .. } => step.name(),
            Step::Skip => "skip",
        }
    }

    /// The step's subject in a line.
    pub fn subject(&self) -> String {
        let list = |items: &[String]| if items.is_empty() { "none".to_owned() } else { items.join(" ") };
        let flags = |attr: &Attr| match attr.words() {
            w if w.is_empty() => String::new(),
            w => format!(" ({w})"),
        };
        match self {
            Step::OwnBinary { why } => format!("a sealed copy in memory: {why}"),
            Step::Record => "intent: id, cgroup, host ids, boot".into(),
            Step::CloneSource { path, recursive, attr, slot } => {
                format!(
                    "{}{} into slot {slot}{}",
                    path.display(),
                    if *recursive { " and below" } else { "" },
                    flags(attr)
                )
            }
            Step::Overlay { slot, target, layers, options, attr } => {
                let lower: Vec<String> = layers.lower.iter().map(|p| p.display().to_string()).collect();
                let upper = layers.upper.as_ref().map_or(String::new(), |(u, _)| format!("{} over ", u.display()));
                let to = match slot {
                    Some(n) => format!("into slot {n}"),
                    None => format!("on {}", target.display()),
                };
                format!("{upper}{} {to}{}{}", list(&lower), option_words(options), flags(attr))
            }
            Step::MakeCgroup { path, controllers, .. } if controllers.is_empty() => {
                format!("{path}, without a controller")
            }
            Step::MakeCgroup { path, controllers, .. } => format!("{path} with {}", list(controllers)),
            Step::Limits { values } => {
                values.iter().map(|(file, value)| limit_words(file, value)).collect::<Vec<_>>().join(", ")
            }
            Step::IoWeights { values } => values
                .iter()
                .map(|(weight, bfq)| format!("io.weight={weight} or, under BFQ, io.bfq.weight={bfq}"))
                .collect::<Vec<_>>()
                .join(", "),
            Step::DeviceProgram { rules } => {
                let word = |allow: bool| if allow { "allow" } else { "deny" };
                let said: Vec<String> = rules
                    .chunk_by(|a, b| a.allow == b.allow)
                    .map(|run| {
                        let same: Vec<String> = run.iter().map(ToString::to_string).collect();
                        format!("{} {}", word(run[0].allow), same.join(", "))
                    })
                    .collect();
                if said.is_empty() { "deny all".into() } else { said.join("; then ") }
            }
            Step::Delegate { uid, .. } => format!("owned by uid {uid}, its limits not"),
            Step::Join { namespaces } => namespaces
                .iter()
                .map(|j| format!("{} {}", j.ns.name(), j.path.display()))
                .collect::<Vec<_>>()
                .join(", "),
            Step::Clone { namespaces, into_cgroup, outside } => format!(
                "new {}{}{}",
                if namespaces.is_empty() {
                    "process only".to_owned()
                } else {
                    namespaces.iter().map(|n| n.name()).collect::<Vec<_>>().join(" ")
                },
                if *into_cgroup { ", straight into the cgroup" } else { "" },
                if *outside { OUTSIDE } else { "" }
            ),
            Step::Enter { namespaces, cgroup, outside, .. } => format!(
                "{}{}{}",
                namespaces.iter().map(|n| n.name()).collect::<Vec<_>>().join(" "),
                cgroup.as_ref().map(|c| format!(", straight into the cgroup {c}")).unwrap_or_default(),
                if *outside { OUTSIDE } else { "" }
            ),
            Step::Emerge => "into the pid namespace, with the rights of the workload".into(),
            Step::Meet => "the process that emerged".into(),
            Step::AttachScope { scope, below } => format!("into {}{below}", scope.unit),
            Step::Arrive { cgroup_namespace } => {
                if *cgroup_namespace { "/, and the cgroup namespace" } else { "/" }.into()
            }
            Step::LookUpUser { user } => user.clone(),
            Step::Scope { scope, properties, .. } => {
                let names: Vec<String> = properties.iter().map(|(name, _)| name.clone()).collect();
                format!("{} in {} with {}", scope.unit, scope.slice, list(&names))
            }
            Step::TimeOffsets { offsets } => {
                let said = offsets.iter().map(|(clock, s, ns)| match ns {
                    0 => format!("{clock} {s} s"),
                    ns => format!("{clock} {s} s + {ns} ns"),
                });
                said.collect::<Vec<_>>().join(", ")
            }
            Step::UnshareCgroup => "a new cgroup namespace".into(),
            Step::MapIds { uids, gids, helpers, .. } => {
                let by = if *helpers { ", by newuidmap and newgidmap" } else { "" };
                format!("{}{by}", map_words(uids, gids))
            }
            Step::OomScoreAdj { value } => value.to_string(),
            Step::CpuAffinity { cpus, initial } => {
                format!("{}{}", ranges(cpus), if *initial { " until it is in the cgroup" } else { "" })
            }
            Step::Scheduler { scheduler } => scheduler.to_string(),
            Step::IoPriority { priority } => priority.to_string(),
            Step::Idmap { path, recursive, slot, attr, maps, below } => {
                let whose = match maps {
                    None => "the container's ids".to_owned(),
                    Some(m) => format!("ids of its own ({})", map_words(&m.uids, &m.gids)),
                };
                let deep = if *recursive && *below { " and below" } else { "" };
                format!("{}{deep} into slot {slot} with {whose}{}", path.display(), flags(attr))
            }
            Step::Rdt { rdt } => {
                let list = if rdt.schemata.is_empty() { "as it is".to_owned() } else { rdt.schemata.join(" ") };
                format!("class {}: {list}{}", rdt.class, if rdt.monitor { ", monitored" } else { "" })
            }
            Step::NetDevices { devices } => {
                let said = devices.iter().map(|(name, inside)| match name == inside {
                    true => name.clone(),
                    false => format!("{name} as {inside}"),
                });
                said.collect::<Vec<_>>().join(", ")
            }
            Step::Network { program, args, .. } => {
                format!("{} {} <network namespace, as the container's root", program.display(), args.join(" "))
            }
            Step::Hooks { moment, hooks } | Step::ContainerHooks { moment, hooks } => format!(
                "{}: {}",
                moment.name(),
                hooks.iter().map(|h| h.path.display().to_string()).collect::<Vec<_>>().join(", ")
            ),
            Step::Go => "descriptors for the child".into(),
            Step::DieWithParent => "SIGKILL until the state is committed".into(),
            Step::AwaitGo => "maps and mounts of the parent".into(),
            Step::AwaitHooks => "the container is built".into(),
            Step::NewSession { keyring } => if *keyring { "setsid, new session keyring" } else { "setsid" }.into(),
            Step::BecomeRoot { uid, gid } => format!("{uid}:{gid} inside, no groups"),
            Step::Detach { propagation } => format!("/ {}", propagation_word(*propagation)),
            Step::AttachRootfs { source, attr, .. } => match source {
                Source::Slot(n) => format!("from slot {n}{}", flags(attr)),
                Source::Path(p) => format!("{}{}", p.display(), flags(attr)),
            },
            Step::Filesystem { fstype, target, options, attr, copy_up, .. } => {
                let copied = if *copy_up { ", with a copy of what is there" } else { "" };
                format!("{fstype} on {}{}{}{copied}", target.display(), option_words(options), flags(attr))
            }
            Step::Bind { source, target, recursive, attr } => {
                let from = match source {
                    Source::Slot(n) => format!("slot {n}"),
                    Source::Path(p) => p.display().to_string(),
                };
                format!("{from}{} on {}{}", if *recursive { " and below" } else { "" }, target.display(), flags(attr))
            }
            Step::Devices { nodes, bind, .. } => format!(
                "{} {}",
                if *bind { "bind" } else { "make" },
                nodes.iter().map(|d| d.path.display().to_string()).collect::<Vec<_>>().join(" ")
            ),
            Step::Console { uid, .. } => format!("owned by {uid}"),
            Step::Secrets { files, uid, gid, options } => {
                let files: Vec<String> = files.iter().map(|f| format!("{} ({} bytes)", f.name, f.size)).collect();
                format!("{} in /run/secrets for {uid}:{gid}{}", files.join(", "), option_words(options))
            }
            Step::SetAttr { target, attr } => format!("{}{}", target.display(), flags(attr)),
            Step::Mask { paths } | Step::ReadonlyPaths { paths } => list(paths),
            Step::Label { apparmor, selinux } => {
                let names = [("AppArmor", apparmor), ("SELinux", selinux)];
                let said = names.iter().filter_map(|(lsm, name)| Some(format!("{lsm} {}", name.as_ref()?)));
                said.collect::<Vec<_>>().join(", ")
            }
            Step::Pivot { .. } => "the old root is unmounted".into(),
            Step::MoveRoot { .. } => "the old root is covered".into(),
            Step::Hostname { name } | Step::Domainname { name } => name.clone(),
            Step::Loopback => "lo up".into(),
            Step::Sysctls { values } => values.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", "),
            Step::NoUserNamespaces => "user.max_user_namespaces=0".into(),
            Step::Rlimits { values } | Step::RaiseRlimits { values } => {
                values.iter().map(|(n, s, h)| format!("{n} {s}/{h}")).collect::<Vec<_>>().join(", ")
            }
            Step::MemoryPolicy { policy } => {
                let flags = match policy.bits >> 13 << 13 {
                    0 => String::new(),
                    bits => format!(", flags {bits:#x}"),
                };
                match policy.nodes.as_slice() {
                    [] => format!("{}{flags}", policy.mode),
                    nodes => format!("{} on nodes {}{flags}", policy.mode, ranges(nodes)),
                }
            }
            Step::Personality { personality } => match personality {
                Personality::Linux => "LINUX".into(),
                Personality::Linux32 => "LINUX32".into(),
            },
            Step::Umask { mask } => format!("{mask:04o}"),
            Step::DenyWriteExecute => "PR_SET_MDWE".into(),
            Step::CoreScheduling => "a cookie of its own".into(),
            Step::Streams { uid } => format!("owned by {uid}, where they are pipes"),
            Step::CloseFds { preserve, listen } => match (preserve, listen) {
                (0, _) => "all above 2".into(),
                (n, 0) => format!("all above {}", 2 + n),
                (n, listen) => format!("all above {}; {listen} are sockets to listen on", 2 + n),
            },
            Step::Bounding { keep_names, .. } => format!("keep {}", list(keep_names)),
            Step::Ids { uid, gid, groups, .. } => {
                let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
                format!("uid {uid}, gid {gid}, groups {}", list(&groups))
            }
            Step::Capabilities { names, .. } => list(names),
            Step::Landlock { landlock } => landlock.words(),
            Step::NoNewPrivs => "set".into(),
            Step::MakeCwd { path } => format!("{}, made if missing", path.display()),
            Step::ChdirEarly { path } => format!("{}, before the ids change", path.display()),
            Step::Chdir { path } => path.display().to_string(),
            Step::FindProgram { program } => program.clone(),
            Step::Ready => "state committed, pid file written".into(),
            Step::Stub { why } => format!("a sealed page of memory does the rest: {why}"),
            Step::Gate => "wait for start".into(),
            Step::Seccomp { filter } => {
                let mut asks =
                    filter.listener.as_ref().map(|l| format!(", asks {}", l.path.display())).unwrap_or_default();
                if filter.watched.is_some() {
                    asks += ", asks the runtime";
                }
                format!("{}: {} instructions{asks}", filter.profile, filter.instructions)
            }
            Step::Exec { args, .. } => args.join(" "),
            Step::Try { step, .. } => step.subject(),
            Step::Skip => "go on without".into(),
        }
    }

    /// Why the step is done, and the attack that it answers.
    pub fn why(&self) -> (&'static str, &'static str) {
        match self {
            Step::OwnBinary { .. } => (
                "what the container sees of the runtime is not the host's file",
                "the runtime overwritten through /proc/self/exe (CVE-2019-5736)",
            ),
            Step::Record => {
                ("delete --force can clean up from it alone", "a runtime that was killed leaves things behind")
            }
            Step::CloneSource { .. } => (
                "a detached copy: no path is looked up again",
                "a bind source swapped for a symbolic link (CVE-2021-30465)",
            ),
            Step::Overlay { .. } => {
                ("the config asks for it; each layer is opened once", "a layer swapped for a symbolic link to the host")
            }
            Step::MakeCgroup { .. } => {
                ("the child is born inside its limits", "a workload that runs before it is limited")
            }
            Step::Limits { .. } => ("resources of the host are finite", "fork bombs, memory exhaustion, busy loops"),
            Step::IoWeights { .. } => {
                ("whoever waits for the disk gets a share", "a workload that starves the host's disk")
            }
            Step::DeviceProgram { .. } => {
                ("only these device nodes can be opened or made", "a raw disk or /dev/mem by mknod")
            }
            Step::Delegate { .. } => (
                "it mounts the tree writable: cgroups of its own, inside these limits",
                "a workload that lifts its own limits",
            ),
            Step::Join { .. } => (
                "a process between enters them, and the child is born there; the runtime stays where it is",
                "another namespace at the same path by now; a file that is none",
            ),
            Step::Clone { .. } => {
                ("one call, no moment half inside", "a process seen or signalled between two unshares")
            }
            Step::Enter { .. } => (
                "all at once, by the pidfd of init: a number may be used again, a pidfd is not",
                "a process that is half inside and still holds the host (CVE-2016-9962)",
            ),
            Step::AttachScope { .. } => {
                ("only systemd may move a process into its scope", "an exec outside the limits")
            }
            Step::Emerge => (
                "it shares its user namespace with whoever is there, so it is seen only when it has nothing more to lose",
                "CAP_SYS_PTRACE over the runtime's own process, its rights and its descriptors",
            ),
            Step::Meet => ("its number is told by the one that made it, which is gone then", "-"),
            Step::Arrive { .. } => ("cgroup paths are the container's only once we are in its cgroup", "-"),
            Step::LookUpUser { .. } => {
                ("the container's own users; a number stays a number", "a uid taken for a name (CVE-2016-3697)")
            }
            Step::Scope { .. } => {
                ("systemd owns the tree; a scope needs a live process", "limits that systemd would undo")
            }
            Step::TimeOffsets { .. } => {
                ("written while its time namespace is new and empty; then it enters that itself", "-")
            }
            Step::UnshareCgroup => ("its root is where we are, so only now", "the host's cgroup tree seen inside"),
            Step::MapIds { uids, gids, .. } if uids.iter().chain(gids).any(|m| m.outside == 0) => {
                ("the config asks for ids that include root of the host", "-")
            }
            Step::MapIds { .. } => {
                ("root inside is not root outside", "an escape as host root; containers that share ids")
            }
            Step::OomScoreAdj { .. } => ("who dies first when memory is short", "-"),
            Step::CpuAffinity { .. } => ("the config asks for it", "-"),
            Step::Scheduler { .. } | Step::IoPriority { .. } => {
                ("the config asks for it; by the runtime, whose rights on the host it takes", "-")
            }
            Step::Idmap { .. } => {
                ("files keep their owners without a chown", "a rootfs owned by host root, writable or unreadable")
            }
            Step::Rdt { .. } => ("the config asks for it", "-"),
            Step::NetDevices { .. } => ("the config asks for it; with their addresses, and up", "-"),
            Step::Network { .. } => (
                "--net asks for it; by a process without rights on the host, which ends with the container",
                "what listens on the host's loopback: databases, debuggers, agents",
            ),
            Step::Hooks { .. } | Step::ContainerHooks { .. } => (
                "the config asks for it; only its own environment",
                "a hook that obeys the container's LD_PRELOAD (CVE-2025-23266)",
            ),
            Step::Go => ("maps and mounts of the host are in place", "-"),
            Step::DieWithParent => {
                ("nothing outlives a launch that failed", "an unlimited, half-built container that stays")
            }
            Step::AwaitGo => ("no step before the ids are mapped", "-"),
            Step::AwaitHooks => ("hooks of the host see the container as it will be, and may add to it", "-"),
            Step::NewSession { .. } => {
                ("the caller's terminal and keys stay the caller's", "TIOCSTI into the caller's shell (CVE-2017-5226)")
            }
            Step::BecomeRoot { .. } => {
                ("what is built belongs to the container", "the caller's groups inside (CVE-2022-36109)")
            }
            Step::Detach { .. } => ("mounts made here stay here", "a mount that appears on the host"),
            Step::AttachRootfs { .. } => ("pivot_root needs a mount of its own", "-"),
            Step::Filesystem { fstype, target, .. } => match fstype.as_str() {
                "proc" => ("it shows the container's own processes", "the host's processes seen, signalled or traced"),
                "sysfs" => {
                    ("it shows the container's own network devices", "the settings of the host's kernel changed")
                }
                "devpts" => ("terminals of the container's own", "keystrokes put into a terminal of the host"),
                "mqueue" => {
                    ("the queues of the container's own ipc namespace", "messages between programs of the host")
                }
                "cgroup2" => ("the container's own cgroup is its root", "the host's groups and limits (CVE-2022-0492)"),
                "tmpfs" if target.as_os_str() == "/dev" => {
                    ("an empty /dev: what is in it was put there", "the host's disks and memory as files")
                }
                "tmpfs" => ("memory that goes with the container", "files of others in a shared directory"),
                _ => ("the config asks for it", "-"),
            },
            Step::Bind { .. } => {
                ("the config asks for it", "a target that is a symbolic link to the host (CVE-2019-19921)")
            }
            Step::Devices { .. } => {
                ("programs need these, and no others", "nodes made through a linked /dev (CVE-2026-41579)")
            }
            Step::Console { .. } => ("a terminal of its own", "the console bound over a swapped path (CVE-2025-52565)"),
            Step::Secrets { .. } => (
                "in memory that is never swapped; read-only, and readable by the workload's user alone",
                "a secret in an environment, a state, an image or on a disk",
            ),
            Step::SetAttr { .. } => ("everything that had to be made is made", "a workload that changes its own image"),
            Step::Mask { .. } => (
                "kernel files that tell or do too much",
                "side channels and host settings; masks through links (CVE-2025-31133)",
            ),
            Step::ReadonlyPaths { .. } => ("kernel settings are not the workload's", "core_pattern, sysrq-trigger"),
            Step::Label { .. } => (
                "through a procfs that the image cannot reach; by the next execve of ours, the workload's",
                "a label written into a false /proc (CVE-2019-16884, CVE-2025-52881)",
            ),
            Step::Pivot { .. } => {
                ("the host's tree is gone, not only hidden", "a chroot escape; /proc/self/fd of the old root")
            }
            Step::MoveRoot { .. } => (
                "--no-pivot asks for it: the host's tree is hidden, not gone",
                "the host's procfs, which is unmounted first",
            ),
            Step::Hostname { .. } | Step::Domainname { .. } => ("its own name", "-"),
            Step::Loopback => ("programs expect 127.0.0.1", "-"),
            Step::Sysctls { .. } => {
                ("the config asks for it, and they are namespaced", "a sysctl of the host (CVE-2022-0811)")
            }
            Step::NoUserNamespaces => (
                "a second namespace gives all capabilities again",
                "nf_tables, overlayfs and fsconfig bugs (CVE-2022-0185)",
            ),
            Step::RaiseRlimits { .. } => ("only the runtime may raise a hard limit", "-"),
            Step::Rlimits { .. } => ("limits of a process", "descriptor exhaustion; core dumps with secrets"),
            Step::MemoryPolicy { .. } | Step::Personality { .. } | Step::Umask { .. } => {
                ("the config asks for it", "-")
            }
            Step::DenyWriteExecute => {
                ("no memory that is written becomes code", "machine code put into a program through a bug of it")
            }
            Step::CoreScheduling => {
                ("no core is shared with others", "side channels between the threads of a core (MDS, L1TF)")
            }
            Step::Streams { .. } => (
                "a user other than root can open /dev/stdout",
                "what outlives the launch keeps its owner: files, terminals, FIFOs with a name",
            ),
            Step::CloseFds { .. } => {
                ("no descriptor of the host goes in", "cwd or exec through a leaked directory (CVE-2024-21626)")
            }
            Step::Bounding { .. } => ("no program inside can ever have more", "file capabilities and setuid binaries"),
            Step::Ids { .. } => {
                ("exactly the groups that were asked", "supplementary groups of the caller (CVE-2022-36109)")
            }
            Step::Capabilities { .. } => {
                ("only what the workload needs; never inheritable", "inheritable sets (CVE-2022-29162)")
            }
            Step::Landlock { .. } => (
                "a second lock beside the flags of the mounts, which no capability opens",
                "a read-only mount made writable again; what lies outside of the root, reached by /proc/self/exe or a descriptor",
            ),
            Step::NoNewPrivs => ("execve can only lose privileges", "setuid binaries in the image"),
            Step::MakeCwd { .. } => ("images name directories that they do not have", "-"),
            Step::ChdirEarly { .. } => {
                ("the user need not be able to walk there by itself", "a cwd outside the root (CVE-2024-21626)")
            }
            Step::Chdir { .. } => {
                ("as the workload's user, inside the new root", "a cwd outside the root (CVE-2024-21626)")
            }
            Step::FindProgram { .. } => ("a program that is missing is an error of create, not of start", "-"),
            Step::Ready => ("from here on the container exists", "-"),
            Step::Stub { .. } => (
                "no process inside is ever executed from the host's file of the runtime",
                "the runtime overwritten through /proc/self/exe (CVE-2019-5736)",
            ),
            Step::Gate => ("create and start are two calls", "-"),
            Step::Seccomp { filter } if filter.profile == "default" => {
                ("the kernel's surface is cut down", "AF_ALG, io_uring, keyctl, bpf, userfaultfd, 32-bit calls")
            }
            Step::Seccomp { .. } => ("the config brings a profile of its own", "bugs behind calls that it never makes"),
            Step::Exec { .. } => ("the workload", "-"),
            Step::Try { step, .. } => step.why(),
            Step::Skip => ("-", "-"),
        }
    }
}

/// Two id maps in words.
fn map_words(uids: &[IdMap], gids: &[IdMap]) -> String {
    let range = |first: u32, count: u32| match count {
        1 => first.to_string(),
        n => format!("{first}..{}", u64::from(first) + u64::from(n)),
    };
    let maps = |m: &[IdMap]| {
        m.iter()
            .map(|m| format!("{} as {}", range(m.inside, m.count), range(m.outside, m.count)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if uids == gids {
        format!("uids and gids {}", maps(uids))
    } else {
        format!("uids {}; gids {}", maps(uids), maps(gids))
    }
}

/// ` size=64k,mode=755`
fn option_words(options: &[(String, String)]) -> String {
    let words: Vec<String> =
        options.iter().map(|(k, v)| if v.is_empty() { k.clone() } else { format!("{k}={v}") }).collect();
    if words.is_empty() { String::new() } else { format!(" {}", words.join(",")) }
}

/// A limit as the kernel takes it, and as people say it.
fn limit_words(file: &str, value: &str) -> String {
    let said = match (file.split('.').next(), value.parse::<u64>()) {
        (Some("memory"), Ok(n)) if n > 0 && n % (1 << 30) == 0 => format!(" ({} GiB)", n >> 30),
        (Some("memory"), Ok(n)) if n > 0 && n % (1 << 20) == 0 => format!(" ({} MiB)", n >> 20),
        _ => match (file, value.split_once(' ').map(|(q, p)| (q.parse::<f64>(), p.parse::<f64>()))) {
            ("cpu.max", Some((Ok(quota), Ok(period)))) => format!(" ({:.2} CPUs)", quota / period),
            _ => String::new(),
        },
    };
    format!("{file}={}{said}", value.replace('\n', "; "))
}

/// Sorted numbers as cpuset(7) writes them: `0-3,7`.
pub fn ranges(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        _ => format!("{}-{}", run[0], run[run.len() - 1]),
    });
    runs.collect::<Vec<_>>().join(",")
}

/// `private`, `slave` ... for a propagation flag.
pub fn propagation_word(flag: u64) -> &'static str {
    match flag {
        crate::plan::attr::MS_SHARED => "shared",
        crate::plan::attr::MS_SLAVE => "slave",
        crate::plan::attr::MS_UNBINDABLE => "unbindable",
        _ => "private",
    }
}
