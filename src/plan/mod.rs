//! Decide: `plan(&Bundle, &Policy, &Host, &Options) -> Plan`. Pure.
//!
//! A launch is a value: an ordered list of steps. This file decides which namespaces there are and lays the ladder in
//! order; `ids` decides who the container is on the host, `mounts` what it sees, `limits` what it may use, and
//! `credentials` what it may do. Nothing here touches the system, so all of it is tested without root.

pub mod credentials;
pub mod exec;
pub mod explain;
pub mod ids;
pub mod landlock;
pub mod lent;
pub mod limits;
pub mod mounts;
pub mod namespaces;
pub mod network;
pub mod options;
pub mod own;
pub mod process;
pub mod reach;
pub mod resources;
pub mod restore;
pub mod secrets;
pub mod step;
pub mod unit;
pub mod watch;

use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::host::{Host, Range};
use crate::policy::{Above, Finding, Policy};
use oci_spec::runtime::Hook as OciHook;
use serde::Serialize;
use std::path::Path;
pub use step::{
    Actor, Attr, Caps, Device, Filter, Hook, HostPath, IdMap, Joined, Layers, Listener, Maps, Moment, Ns, Rdt,
    SecretFile, Source, Step, Watched,
};
pub use watch::Watch;

const SYS_ADMIN: u64 = 1 << 21;
const SYS_RESOURCE: u64 = 1 << 24;

/// The bit of CLONE_NEWTIME in clone3(2) and unshare(2).
pub const CLONE_NEWTIME: u64 = 0x80;

/// The kernel's mount attributes, as numbers that a plan may hold.
pub mod attr {
    /// `MOUNT_ATTR_RDONLY`
    pub const RDONLY: u64 = 0x1;
    /// `MOUNT_ATTR_NOSUID`
    pub const NOSUID: u64 = 0x2;
    /// `MOUNT_ATTR_NODEV`
    pub const NODEV: u64 = 0x4;
    /// `MOUNT_ATTR_NOEXEC`
    pub const NOEXEC: u64 = 0x8;
    /// `MOUNT_ATTR__ATIME`, the mask of the access-time modes
    pub const ATIME: u64 = 0x70;
    /// `MOUNT_ATTR_NOATIME`
    pub const NOATIME: u64 = 0x10;
    /// `MOUNT_ATTR_STRICTATIME`
    pub const STRICTATIME: u64 = 0x20;
    /// `MOUNT_ATTR_NODIRATIME`
    pub const NODIRATIME: u64 = 0x80;
    /// `MOUNT_ATTR_NOSYMFOLLOW`
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
    /// `MS_UNBINDABLE`
    pub const MS_UNBINDABLE: u64 = 1 << 17;
    /// `MS_PRIVATE`
    pub const MS_PRIVATE: u64 = 1 << 18;
    /// `MS_SLAVE`
    pub const MS_SLAVE: u64 = 1 << 19;
    /// `MS_SHARED`
    pub const MS_SHARED: u64 = 1 << 20;
}

/// What the command line adds to the bundle.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// chroot instead of pivot_root.
    pub no_pivot: bool,
    /// A working directory that is missing is not made.
    pub cwd_must_exist: bool,
    /// How many descriptors above 2 the caller hands to the workload.
    pub preserve_fds: u32,
    /// How many of those, the first, are sockets that a service manager activates the workload with (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// Secrets of the caller, by name and size.
    pub secrets: Vec<SecretFile>,
    /// The runtime looks on at what its filters say.
    pub watch: Watch,
    /// A network in user space.
    pub network: Option<network::Pasta>,
    /// A directory between the base cgroup and the container's, where the same id may exist under another --root.
    pub cgroup_parent: Option<String>,
}

/// A launch as a value.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The container's id.
    pub id: String,
    /// The policy's name.
    pub policy: String,
    /// What was decided beyond the config.
    pub findings: Vec<Finding>,
    /// The cgroup, relative to the cgroup2 mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The scope of systemd that is that cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<crate::cgroup::systemd::Scope>,
    /// The uid map of the container's user namespace; empty without one of its own.
    pub uid_map: Vec<IdMap>,
    /// The gid map of the same.
    pub gid_map: Vec<IdMap>,
    /// No procfs of the pid namespace can perhaps be mounted: then what is written to one goes to the runtime's own /proc,
    /// before the pivot, where nothing of the image is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub foreign_pids: bool,
    /// The ladder.
    pub steps: Vec<Step>,
    /// Hooks that run after the launch: poststart and poststop.
    pub later_hooks: Vec<(Moment, Vec<Hook>)>,
    /// What a later `exec` into the container applies.
    #[serde(skip)]
    pub confinement: exec::Confinement,
}

impl Plan {
    /// The agent that a filter of this plan asks.
    pub fn listener(&self) -> Option<&Listener> {
        self.steps.iter().find_map(|s| match s {
            Step::Seccomp { filter } => filter.listener.as_ref(),
            _ => None,
        })
    }

    /// The filter that asks the runtime itself.
    pub fn watched(&self) -> Option<&Watched> {
        self.steps.iter().find_map(|s| match s {
            Step::Seccomp { filter } => filter.watched.as_ref(),
            _ => None,
        })
    }

    /// Whether the child becomes the stub.
    pub fn has_stub(&self) -> bool {
        self.steps.iter().any(|s| matches!(s, Step::Stub { .. }))
    }

    /// Whether a filter asks anybody, and if so whether its listener can be taken only while the child is dumpable.
    pub fn asks(&self) -> Option<bool> {
        self.listener().map(|l| l.dumpable).or(self.watched().map(|w| w.dumpable))
    }
}

/// What is decided about namespaces.
#[derive(Debug, Clone, Default)]
pub struct Namespaces {
    /// New ones.
    pub new: Vec<Ns>,
    /// Joined ones, in the order in which they are entered.
    pub joined: Vec<Joined>,
    /// Named by path, and the runtime's own: as if they were not listed, but not filled in either.
    pub shared: Vec<Ns>,
}

impl Namespaces {
    /// Whether the container gets a new one of this type.
    pub fn is_new(&self, ns: Ns) -> bool {
        self.new.contains(&ns)
    }

    /// Whether the container has one other than the runtime's.
    pub fn is_own(&self, ns: Ns) -> bool {
        self.is_new(ns) || self.joined(ns).is_some()
    }

    /// The joined one of this type.
    pub fn joined(&self, ns: Ns) -> Option<&Joined> {
        self.joined.iter().find(|j| j.ns == ns)
    }

    /// Whether the pid namespace may be one whose procfs nobody in the container's user namespace can mount: a rootless
    /// engine's runtime is root of a user namespace that does not own the host's.
    fn foreign_pids(&self, host: &Host) -> bool {
        if self.is_own(Ns::User) { !self.owns(Ns::Pid) } else { !host.initial_userns && !self.is_new(Ns::Pid) }
    }

    /// Whether the user namespace of the container, its own or the runtime's, owns the one of this type: what can be
    /// mounted and changed there is the owner's.
    pub fn owns(&self, ns: Ns) -> bool {
        !self.is_own(Ns::User) || self.is_new(ns) || self.joined(ns).is_some_and(|j| j.inside)
    }
}

/// Everything that the parts of the planner share while they decide.
pub struct Draft<'a> {
    /// The bundle.
    pub bundle: &'a Bundle,
    /// The policy.
    pub policy: &'a Policy,
    /// The facts.
    pub host: &'a Host,
    /// The command line's part.
    pub options: &'a Options,
    /// Namespaces, decided first.
    pub ns: Namespaces,
    /// Findings so far.
    pub findings: Vec<Finding>,
}

impl Draft<'_> {
    /// Whether the policy makes a new namespace of this type for a config that lists none.
    pub fn fills(&self, ns: Ns) -> bool {
        self.policy.namespaces.silent.iter().any(|s| s == ns.name())
    }

    /// Whether nodev and the lack of CAP_MKNOD stand in for a device program that has no cgroup.
    pub fn unruled(&self) -> bool {
        let shared = self.host.initial_userns && !self.ns.is_own(Ns::User);
        self.host.cgroup.disabled && shared && self.policy.unruled_devices == Above::Tighten
    }

    /// Records what was decided beyond the config.
    pub fn find(&mut self, rule: &str, field: &str, asked: &str, given: &str, why: &str) {
        self.findings.push(finding(rule, field, asked, given, why));
    }

    /// A wish that the policy refuses.
    pub fn refuse(&self, field: &str, asked: &str, why: &str, key: &str) -> Error {
        refuse(&self.policy.name, field, asked, why, key)
    }
}

fn refuse(policy: &str, field: &str, asked: &str, why: &str, key: &str) -> Error {
    Error::new(format!("policy {policy}"), field, format!("{asked}: {why}"))
        .hint(format!("an operator allows it with the policy key {key}, in a file given to --policy"))
}

/// Builds a finding.
pub fn finding(rule: &str, field: &str, asked: &str, given: &str, why: &str) -> Finding {
    Finding { rule: rule.into(), field: field.into(), asked: asked.into(), given: given.into(), why: why.into() }
}

/// Whether the policy will invent an id map for this bundle, so that root must reserve a block of ids for it first.
pub fn wants_ids(bundle: &Bundle, policy: &Policy, host: &Host) -> bool {
    new_user_namespace(bundle, policy) && named_ids(bundle, policy, host).is_empty() && host.privileged()
}

/// The host ids that the bundle's own maps name, which root claims for it first.
pub fn named_ids(bundle: &Bundle, policy: &Policy, host: &Host) -> Vec<Range> {
    let linux = bundle.spec.linux().as_ref().filter(|_| host.privileged() && new_user_namespace(bundle, policy));
    let lists = linux.into_iter().flat_map(|l| [l.uid_mappings(), l.gid_mappings()]);
    let mut ranges: Vec<Range> =
        lists.flatten().flatten().map(|m| Range { start: m.host_id(), count: m.size() }).collect();
    ranges.sort_by_key(|r| (r.start, r.count));
    ranges.dedup();
    ranges
}

fn new_user_namespace(bundle: &Bundle, policy: &Policy) -> bool {
    Origin::of(bundle, policy, Ns::User) == Origin::New
}

/// Where a namespace comes from, before there is a plan.
#[derive(Debug, PartialEq, Eq)]
enum Origin<'a> {
    /// The launch makes it.
    New,
    /// It is joined.
    Path(&'a Path),
    /// It is the runtime's own.
    Runtime,
}

impl<'a> Origin<'a> {
    fn of(bundle: &'a Bundle, policy: &Policy, ns: Ns) -> Origin<'a> {
        let list = bundle.spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
        match list.and_then(|list| list.iter().find(|n| Ns::from_oci(n.typ()) == ns)) {
            Some(listed) => {
                listed.path().as_ref().filter(|p| !p.as_os_str().is_empty()).map_or(Origin::New, |p| Origin::Path(p))
            }
            None if policy.namespaces.silent.iter().any(|n| n == ns.name()) => Origin::New,
            None => Origin::Runtime,
        }
    }
}

/// The decision, whole.
pub fn plan(bundle: &Bundle, policy: &Policy, host: &Host, options: &Options) -> Result<Plan> {
    let mut draft = Draft { bundle, policy, host, options, ns: Namespaces::default(), findings: Vec::new() };
    refuse_unknown(&mut draft)?;
    reach::privileged(&mut draft, &bundle.process())?;
    reach::annotations(&mut draft)?;
    draft.ns = namespaces::decide(&mut draft)?;
    let hooks = hooks(&draft)?;
    let of = |moment: Moment| hooks.iter().find(|(m, _)| *m == moment).map(|(_, h)| h.clone()).unwrap_or_default();

    let ids = ids::decide(&mut draft)?;
    let limits = limits::decide(&mut draft)?;
    let process = bundle.process();
    let shape = process::decide(&mut draft, &process)?;
    let shaping = shape.steps(false);
    let caps = credentials::capabilities(&mut draft, &process)?;
    let no_new_privs = credentials::no_new_privs(&mut draft, &process)?;
    let filters = credentials::filters(&mut draft)?;
    let view = mounts::decide(&mut draft, &ids)?;

    if options.listen_fds > 0 {
        let given = format!("descriptors 3 to {} of the caller", 2 + options.listen_fds);
        draft.find(
            "host",
            "process.env",
            "silent",
            &given,
            "LISTEN_PID names this very process: a service manager activates the container with its sockets",
        );
    }
    let guard = own::guard(bundle, policy, host, options.watch != Watch::No);
    let (copy, stub) = match guard {
        own::Guard::Nothing => (None, None),
        own::Guard::Stub(why) => (None, Some(why)),
        own::Guard::Copy(why) => (Some(why), None),
    };
    let mut steps: Vec<Step> = copy.map(|why| Step::OwnBinary { why }).into_iter().collect();
    steps.push(Step::Record);
    steps.extend(view.sources);
    let mut properties = limits.properties();
    properties.extend(unit::properties(&mut draft)?);
    // A scope of systemd needs a live process, so then all of this comes after the clone.
    let mut cgroup_steps = Vec::new();
    if let Some(path) = &limits.path {
        cgroup_steps.push(match &limits.scope {
            Some(scope) => Step::Scope { scope: scope.clone(), path: path.clone(), properties },
            None => {
                let controllers = limits.controllers.clone();
                let counted = host.cgroup.controllers.iter().filter(|c| !controllers.contains(c)).cloned().collect();
                Step::MakeCgroup { path: path.clone(), controllers, counted }
            }
        });
        if !limits.values.is_empty() {
            cgroup_steps.push(Step::Limits { values: limits.values.clone() });
        }
        if !limits.weights.is_empty() {
            cgroup_steps.push(Step::IoWeights { values: limits.weights.clone() });
        }
        if let Some(rules) = limits.devices {
            cgroup_steps.push(Step::DeviceProgram { rules });
        }
        // Only what the workload can reach: config-linux.md, "Cgroup ownership".
        if view.cgroup_writable {
            let user = process.user();
            cgroup_steps.extend(limits::delegation(&mut draft, &ids, user.uid(), user.gid()));
        }
    }
    let scoped = limits.scope.is_some();
    if !scoped {
        steps.append(&mut cgroup_steps);
    }
    if !draft.ns.joined.is_empty() {
        steps.push(Step::Join { namespaces: draft.ns.joined.clone() });
    }
    let offsets = time_offsets(&draft)?;
    // A cgroup namespace is rooted where the process is when it is made: under systemd that is known only later. The
    // offsets of a time namespace can be written only while nobody is in it.
    let later = |n: &Ns| scoped && *n == Ns::Cgroup || !offsets.is_empty() && *n == Ns::Time;
    let born: Vec<Ns> = draft.ns.new.iter().copied().filter(|n| !later(n)).collect();
    let hidden = stays_outside(&mut draft, &hooks);
    steps.push(Step::Clone { namespaces: born, into_cgroup: limits.path.is_some() && !scoped, outside: hidden });
    steps.push(Step::DieWithParent);
    if draft.ns.is_new(Ns::User) {
        steps.push(Step::MapIds {
            uids: ids.uids.clone(),
            gids: ids.gids.clone(),
            setgroups: ids.setgroups,
            helpers: ids.helpers,
        });
    }
    steps.append(&mut cgroup_steps);
    let (later, now) = process::around_emerge(shaping.outside, hidden);
    steps.extend(now);
    steps.extend(view.idmapped);
    if let Some(rdt) = lent::rdt(&draft)? {
        steps.push(Step::Rdt { rdt });
    }
    // Long before the hooks, so that those find them there.
    let devices = lent::net_devices(&draft)?;
    if !devices.is_empty() {
        steps.push(Step::NetDevices { devices });
    }
    steps.extend(network::step(&mut draft)?);
    steps.push(Step::Go);

    steps.push(Step::AwaitGo);
    if !offsets.is_empty() {
        steps.push(Step::TimeOffsets { offsets });
    }
    if scoped && draft.ns.is_new(Ns::Cgroup) {
        steps.push(Step::UnshareCgroup);
    }
    steps.push(Step::NewSession { keyring: policy.session_keyring && !options.no_new_keyring });
    if let Some((uid, gid)) = ids.builder {
        steps.push(Step::BecomeRoot { uid, gid });
    }
    steps.extend(view.steps);
    // runtime.md, lifecycle 3 and 4: the environment is there, and not yet pivoted to. What they mount in it stays, and a
    // root that becomes read-only later does not stand in their way.
    let outside: Vec<_> =
        [Moment::Prestart, Moment::CreateRuntime].into_iter().filter(|m| !of(*m).is_empty()).collect();
    if !outside.is_empty() {
        steps.push(Step::AwaitHooks);
        steps.extend(outside.into_iter().map(|moment| Step::Hooks { moment, hooks: of(moment) }));
    }
    if !of(Moment::CreateContainer).is_empty() {
        steps.push(Step::ContainerHooks { moment: Moment::CreateContainer, hooks: of(Moment::CreateContainer) });
    }
    steps.extend(view.last);
    let sysctls = limits::sysctls(&mut draft, &ids)?;
    if !sysctls.is_empty() {
        steps.push(Step::Sysctls { values: sysctls });
    }
    steps.extend(no_user_namespaces(&mut draft, &caps)?);
    steps.extend(shaping.label);
    steps.push(match options.no_pivot {
        false => Step::Pivot { propagation: view.propagation },
        true => no_pivot(&mut draft, view.propagation)?,
    });
    if let Some(name) = hostname(&mut draft)? {
        steps.push(Step::Hostname { name });
    }
    if let Some(name) = domainname(&draft)? {
        steps.push(Step::Domainname { name });
    }
    if draft.ns.is_new(Ns::Network) {
        steps.push(Step::Loopback);
    }
    steps.extend(shaping.inside);
    let before_pivot = [Moment::Prestart, Moment::CreateRuntime, Moment::CreateContainer];
    let mounts_more = before_pivot.into_iter().any(|m| !of(m).is_empty());
    let landlock = landlock::decide(&mut draft, &steps, mounts_more)?;
    let confinement = exec::Confinement {
        policy: policy.name.clone(),
        namespaces: Ns::ALL.into_iter().filter(|n| draft.ns.is_own(*n)).collect(),
        cgroup_namespace_again: false,
        joined: draft.ns.joined.iter().map(|j| j.ns).collect(),
        uids: ids.uids.clone(),
        gids: ids.gids.clone(),
        builder: ids.builder,
        setgroups: ids.setgroups,
        keyring: policy.session_keyring,
        process: process.clone(),
        shape,
        rules: process::Rules::of(policy, host),
        caps,
        above: policy.capabilities.above,
        unknown_fields: policy.unknown_fields,
        no_new_privs,
        filters: filters.iter().map(exec::Recorded::from).collect(),
        landlock: landlock.clone(),
    };
    let filters = watch::merge(&draft, filters)?;
    let tail = credentials::Tail {
        setgroups: ids.setgroups,
        caps,
        no_new_privs,
        filters,
        landlock,
        start_hooks: of(Moment::StartContainer),
        by_name: false,
        preserve_fds: options.preserve_fds,
        listen_fds: options.listen_fds,
        emerge: hidden.then_some(later),
        stub,
    };
    credentials::tail(&process, tail, &mut steps)?;
    draft.findings.extend(credentials::seen_with_more(&steps, &caps));

    let later_hooks =
        [Moment::Poststart, Moment::Poststop].into_iter().map(|m| (m, of(m))).filter(|(_, h)| !h.is_empty()).collect();
    let foreign_pids = draft.ns.foreign_pids(host);
    Ok(Plan {
        id: options.id.clone(),
        policy: policy.name.clone(),
        findings: draft.findings,
        cgroup: limits.path,
        scope: limits.scope,
        uid_map: ids.uids,
        gid_map: ids.gids,
        foreign_pids,
        steps,
        later_hooks,
        confinement,
    })
}

/// Whether the child stays out of a pid namespace of others until it has the workload's rights: those who are there and
/// have CAP_SYS_PTRACE could trace it else, where the container has the runtime's user namespace (see `exec::plan`).
fn stays_outside(draft: &mut Draft, hooks: &[(Moment, Vec<Hook>)]) -> bool {
    if draft.ns.joined(Ns::Pid).is_none() || draft.ns.is_own(Ns::User) {
        return false;
    }
    let told = |moment: &Moment| !matches!(moment, Moment::Poststart | Moment::Poststop);
    let why = if hooks.iter().any(|(moment, _)| told(moment)) {
        "hooks are told the container's process before it is complete, so it is there to be seen"
    } else if draft.host.kernel_version() < (6, 18) {
        "before Linux 6.18 only a process of a pid namespace can mount its procfs"
    } else if draft.ns.joined(Ns::Mount).is_some() {
        "by paths of a mount namespace of others no procfs can be told which pid namespace it shows"
    } else {
        return true;
    };
    let given = "whoever has CAP_SYS_PTRACE there can trace the launch";
    draft.find("host", "linux.namespaces", "a pid namespace of others, without a user namespace", given, why);
    false
}

fn no_pivot(draft: &mut Draft, propagation: u64) -> Result<Step> {
    let why = "a chroot can be left, and the host's tree stays mounted below it";
    if draft.policy.no_pivot != Above::Allow {
        return Err(draft.refuse("--no-pivot", "given", why, "noPivot"));
    }
    draft.find("noPivot", "--no-pivot", "given", "chroot instead of pivot_root", why);
    Ok(Step::MoveRoot { propagation })
}

/// Fields that nobody knows, and those for other systems: never skipped in silence.
fn refuse_unknown(draft: &mut Draft) -> Result<()> {
    let spec = &draft.bundle.spec;
    for path in draft.bundle.unknown.fields.clone() {
        if draft.policy.unknown_fields == Above::Refuse {
            return Err(draft.refuse(
                &path,
                "a field that the specification does not have",
                "it would be skipped",
                "unknownFields",
            ));
        }
        draft.find("unknownFields", &path, "set", "ignored", "not a field of the specification as stockade knows it");
    }
    let foreign = [
        ("solaris", spec.solaris().is_some()),
        ("windows", spec.windows().is_some()),
        ("vm", spec.vm().is_some()),
        ("zos", spec.zos().is_some()),
    ];
    if let Some((field, _)) = foreign.into_iter().find(|(_, asked)| *asked) {
        return Err(Error::new("config.json", field, "stockade does not implement other systems than Linux")
            .hint("a launch without it would not be what the config asks; remove the field"));
    }
    Ok(())
}

/// A name is the UTS namespace's: of the container, and of the user namespace that it is root in.
fn names_uts(draft: &Draft, field: &str) -> Result<()> {
    if !draft.ns.is_own(Ns::Uts) {
        return Err(Error::new("config.json", field, "set without a UTS namespace: it would rename the host")
            .hint("add {\"type\": \"uts\"} to linux.namespaces"));
    }
    if !draft.ns.owns(Ns::Uts) {
        return Err(Error::new(
            "config.json",
            field,
            "the UTS namespace that is joined belongs to another user namespace",
        )
        .hint("leave the name out: it has one"));
    }
    Ok(())
}

fn hostname(draft: &mut Draft) -> Result<Option<String>> {
    match draft.bundle.spec.hostname().as_deref().filter(|n| !n.is_empty()) {
        Some(name) => names_uts(draft, "hostname").map(|()| Some(name.to_owned())),
        // Under a policy that invents the namespace, the host's name would still be readable in it.
        None if draft.ns.is_new(Ns::Uts) && draft.policy.namespaces.silent.iter().any(|n| n == "uts") => {
            let id = draft.options.id.get(..64).unwrap_or(&draft.options.id).to_owned();
            draft.find(
                "namespaces.silent",
                "hostname",
                "silent",
                &id,
                "a new UTS namespace starts with the host's name",
            );
            Ok(Some(id))
        }
        None => Ok(None),
    }
}

/// `linux.timeOffsets`, by clock: whole seconds and nanoseconds.
fn time_offsets(draft: &Draft) -> Result<Vec<(String, i64, u32)>> {
    let asked = draft.bundle.spec.linux().as_ref().and_then(|l| l.time_offsets().clone()).unwrap_or_default();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    if !draft.ns.is_new(Ns::Time) {
        let why = "without a new time namespace the clocks are those of others, and cannot be set";
        return Err(Error::new("config.json", "linux.timeOffsets", why)
            .hint("add {\"type\": \"time\"} to linux.namespaces; it needs Linux 5.6"));
    }
    let mut offsets = Vec::new();
    for (clock, offset) in asked {
        let field = format!("linux.timeOffsets.{clock}");
        if !["monotonic", "boottime"].contains(&clock.as_str()) {
            return Err(Error::new("config.json", field, "not a clock of time_namespaces(7): monotonic or boottime"));
        }
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds >= 1_000_000_000 {
            return Err(Error::new(
                "config.json",
                format!("{field}.nanosecs"),
                format!("{nanoseconds} is a second or more"),
            ));
        }
        offsets.push((clock, offset.secs().unwrap_or(0), nanoseconds));
    }
    offsets.sort();
    Ok(offsets)
}

/// The field, or the sysctl of the same meaning.
fn domainname(draft: &Draft) -> Result<Option<String>> {
    let sysctls = draft.bundle.spec.linux().as_ref().and_then(|l| l.sysctl().as_ref());
    let sysctl = ["kernel.domainname", "kernel/domainname"].iter().find_map(|key| sysctls?.get(*key));
    let field = draft.bundle.spec.domainname().as_ref();
    let (place, name) = match (field, sysctl) {
        (None, None) => return Ok(None),
        (Some(field), Some(sysctl)) if field != sysctl => {
            return Err(Error::new("config.json", "domainname", format!("{field:?}: the sysctl says {sysctl:?}")));
        }
        (Some(name), _) => ("domainname", name),
        (None, Some(name)) => ("linux.sysctl.kernel.domainname", name),
    };
    crate::bundle::validate_hostname(place, name)?;
    names_uts(draft, place).map(|()| Some(name.clone()))
}

fn no_user_namespaces(draft: &mut Draft, caps: &Caps) -> Result<Option<Step>> {
    if draft.policy.user_namespaces_inside == Above::Allow {
        return Ok(None);
    }
    if !draft.ns.is_new(Ns::User) {
        // The sysctl would be the host's, or another container's.
        draft.find(
            "userNamespacesInside",
            "linux.namespaces",
            "silent",
            "only the seccomp profile stands against user namespaces inside",
            "max_user_namespaces can be written only in a user namespace of this launch",
        );
        return Ok(None);
    }
    // Who has CAP_SYS_RESOURCE in a user namespace may write its limits (set_permissions in kernel/ucount.c). What keeps
    // it from that is the read-only /proc/sys, and that only a holder of CAP_SYS_ADMIN can undo. A second namespace
    // inside this one, with the limit in the outer, would hold without it; but there the other capabilities of the
    // workload would be over nothing: its network and its mounts belong to the outer one.
    let held = caps.bounding | caps.permitted | caps.inheritable | caps.ambient;
    let listed = draft.bundle.spec.linux().as_ref().and_then(|l| l.readonly_paths().as_ref());
    let frozen = draft.policy.readonly_paths.iter().chain(listed.into_iter().flatten()).any(|p| p == "/proc/sys");
    if held & SYS_RESOURCE != 0 && (held & SYS_ADMIN != 0 || !frozen) {
        draft.find(
            "userNamespacesInside",
            "process.capabilities",
            "SYS_RESOURCE",
            "only the seccomp profile stands against user namespaces inside",
            "with it max_user_namespaces can be raised again where /proc/sys is writable, or with SYS_ADMIN made so",
        );
    }
    // EPERM alone would say nothing. A private procfs is refused with EPERM exactly when our own /proc is masked, and a
    // masked /proc makes the container's own procfs mount fail just the same, so this step is not tried but done.
    Ok(Some(Step::NoUserNamespaces))
}

fn hooks(draft: &Draft) -> Result<Vec<(Moment, Vec<Hook>)>> {
    let Some(hooks) = draft.bundle.spec.hooks() else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    #[allow(deprecated)]
    let kinds = [
        (Moment::Prestart, hooks.prestart()),
        (Moment::CreateRuntime, hooks.create_runtime()),
        (Moment::CreateContainer, hooks.create_container()),
        (Moment::StartContainer, hooks.start_container()),
        (Moment::Poststart, hooks.poststart()),
        (Moment::Poststop, hooks.poststop()),
    ];
    for (moment, list) in kinds {
        let list = list.as_deref().unwrap_or_default();
        if list.is_empty() {
            continue;
        }
        let field = format!("hooks.{}", moment.name());
        if draft.policy.hooks != Above::Allow {
            return Err(draft.refuse(
                &field,
                &list[0].path().display().to_string(),
                "a hook is code that runs with the runtime's rights",
                "hooks",
            ));
        }
        let ready = list.iter().enumerate().map(|(i, h)| hook(&format!("{field}[{i}]"), h)).collect::<Result<_>>()?;
        all.push((moment, ready));
    }
    Ok(all)
}

fn hook(field: &str, hook: &OciHook) -> Result<Hook> {
    if !hook.path().is_absolute() {
        return Err(Error::new(
            "config.json",
            format!("{field}.path"),
            format!("{:?} is not an absolute path", hook.path().display().to_string()),
        ));
    }
    if let Some(n) = hook.timeout().filter(|n| *n <= 0) {
        return Err(Error::new("config.json", format!("{field}.timeout"), format!("{n}: must be above 0 seconds")));
    }
    let args = match hook.args() {
        Some(args) if !args.is_empty() => args.clone(),
        _ => vec![hook.path().display().to_string()],
    };
    Ok(Hook { path: hook.path().clone(), args, env: hook.env().clone().unwrap_or_default(), timeout: hook.timeout() })
}
