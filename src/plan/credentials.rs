//! Decide: what the workload may do: capabilities, no_new_privs, seccomp; and the tail of the ladder.
//!
//! There are two legal tails. With no_new_privs the filter is the last thing before execve, so a minimal profile need
//! allow nothing of ours but execve, write and exit_group. Without it (an explicit wish) a filter can be installed only
//! with CAP_SYS_ADMIN, so that capability is carried up to the filter and dropped by a last capset(2).

use super::landlock::Landlock;
use super::mounts::normal;
use super::{Caps, Draft, Filter, Hook, HostPath, Listener, Moment, Step, Watch};
use crate::error::{Error, Result};
use crate::policy::{Above, Finding, Policy, Profile};
use crate::seccomp;
use oci_spec::runtime::{Capabilities, LinuxSeccomp, LinuxSeccompFilterFlag as Flag, Process};
use std::collections::HashSet;
use std::path::Path;

const SYS_ADMIN: u64 = 1 << 21;
const MKNOD: u64 = 1 << 27;

/// The kernel's number of a capability: `caps` knows them by name.
fn bit(cap: oci_spec::runtime::Capability) -> u64 {
    let name = format!("CAP_{cap}");
    name.parse::<caps::Capability>().map(|c| 1u64 << c.index()).unwrap_or(0)
}

/// Names without `CAP_`, in the kernel's order.
pub fn names(bits: u64) -> Vec<String> {
    let mut all: Vec<_> = caps::all().into_iter().filter(|c| bits & (1 << c.index()) != 0).collect();
    all.sort_by_key(|c| c.index());
    all.iter().map(|c| c.to_string().trim_start_matches("CAP_").to_owned()).collect()
}

pub(super) fn bits_of(set: Option<&Capabilities>) -> u64 {
    set.map_or(0, |s| s.iter().map(|c| bit(*c)).fold(0, |a, b| a | b))
}

/// The most that a config can get under a policy; none: no ceiling.
pub fn ceiling(policy: &Policy) -> Result<Option<u64>> {
    let Some(names) = &policy.capabilities.ceiling else { return Ok(None) };
    let mut allowed = 0u64;
    for name in names {
        let cap = format!("CAP_{}", name.trim_start_matches("CAP_"));
        let cap: caps::Capability = cap.parse().map_err(|_| {
            Error::new(
                format!("policy {}", policy.name),
                "capabilities.ceiling",
                format!("{name:?} is not a capability"),
            )
        })?;
        allowed |= 1 << cap.index();
    }
    Ok(Some(allowed))
}

/// The five sets that the workload gets.
pub fn capabilities(draft: &mut Draft, process: &Process) -> Result<Caps> {
    let Some(asked) = process.capabilities() else {
        draft.find("capabilities", "process.capabilities", "silent", "none", "a workload that needs one names it");
        return Ok(Caps::default());
    };
    for (field, name) in &draft.bundle.unknown.capabilities {
        draft.find("capabilities", field, name, "not given", "no capability that stockade knows");
    }
    let mut caps = Caps {
        bounding: bits_of(asked.bounding().as_ref()),
        effective: bits_of(asked.effective().as_ref()),
        permitted: bits_of(asked.permitted().as_ref()),
        inheritable: bits_of(asked.inheritable().as_ref()),
        ambient: bits_of(asked.ambient().as_ref()),
    };
    let beyond = (caps.bounding | caps.permitted | caps.inheritable | caps.ambient) & !draft.host.known_caps;
    if beyond != 0 {
        draft.find(
            "host",
            "process.capabilities",
            &names(beyond).join(" "),
            "not given",
            "this kernel does not know them",
        );
        for set in
            [&mut caps.bounding, &mut caps.effective, &mut caps.permitted, &mut caps.inheritable, &mut caps.ambient]
        {
            *set &= draft.host.known_caps;
        }
    }
    if caps.effective & !caps.permitted != 0 {
        return Err(Error::new(
            "config.json",
            "process.capabilities.effective",
            format!("{} not in permitted", names(caps.effective & !caps.permitted).join(" ")),
        ));
    }
    if let Some(allowed) = ceiling(draft.policy)? {
        let all = caps.bounding | caps.permitted | caps.inheritable | caps.ambient;
        let beyond = names(all & !allowed).join(" ");
        if !beyond.is_empty() {
            match draft.policy.capabilities.above {
                Above::Allow => {}
                Above::Refuse => {
                    return Err(draft.refuse("process.capabilities", &beyond, "above the ceiling", "capabilities"));
                }
                Above::Tighten => {
                    draft.find(
                        "capabilities",
                        "process.capabilities",
                        &beyond,
                        "not given",
                        "above the ceiling of the policy",
                    );
                    caps.bounding &= allowed;
                    caps.effective &= allowed;
                    caps.permitted &= allowed;
                    caps.inheritable &= allowed;
                    caps.ambient &= allowed;
                }
            }
        }
        // Inheritable capabilities come back to life in a file with inheritable bits (CVE-2022-29162).
        let stray = caps.inheritable & !caps.ambient;
        if stray != 0 && draft.policy.capabilities.above != Above::Allow {
            draft.find(
                "capabilities",
                "process.capabilities.inheritable",
                &names(stray).join(" "),
                "not inheritable",
                "a file with inheritable bits would revive them (CVE-2022-29162)",
            );
            caps.inheritable &= caps.ambient;
        }
    }
    if draft.unruled() {
        for set in
            [&mut caps.bounding, &mut caps.effective, &mut caps.permitted, &mut caps.inheritable, &mut caps.ambient]
        {
            *set &= !MKNOD;
        }
    }
    let own = draft.ns.is_own(super::Ns::User);
    let lacking = (caps.permitted | caps.inheritable) & !draft.host.caps;
    if !own && lacking != 0 {
        draft.find(
            "host",
            "process.capabilities",
            &names(lacking).join(" "),
            "not given",
            "stockade itself lacks them on this host",
        );
        caps.effective &= draft.host.caps;
        caps.permitted &= draft.host.caps;
        caps.inheritable &= draft.host.caps;
        caps.bounding &= draft.host.caps;
    }
    let vain = caps.ambient & !(caps.permitted & caps.inheritable);
    if vain != 0 {
        draft.find(
            "capabilities",
            "process.capabilities.ambient",
            &names(vain).join(" "),
            "not ambient",
            "the kernel raises only what is permitted and inheritable",
        );
        caps.ambient &= !vain;
    }
    Ok(caps)
}

/// process.noNewPrivileges.
pub fn no_new_privs(draft: &mut Draft, process: &Process) -> Result<bool> {
    let rule = draft.policy.no_new_privileges;
    let field = "process.noNewPrivileges";
    let why = "a setuid binary of the image would be a way up";
    match process.no_new_privileges() {
        Some(true) => Ok(true),
        None => {
            if rule.silent {
                draft.find("noNewPrivileges", field, "silent", "true", why);
            }
            Ok(rule.silent)
        }
        Some(false) => match rule.explicit_false {
            Above::Allow => Ok(false),
            Above::Refuse => Err(draft.refuse(field, "false", why, "noNewPrivileges")),
            Above::Tighten => {
                draft.find("noNewPrivileges", field, "false", "true", why);
                Ok(true)
            }
        },
    }
}

/// The filters, in the order of installation: the policy's floor first, which permits a further seccomp(2).
pub fn filters(draft: &mut Draft) -> Result<Vec<Filter>> {
    let (bundle, rule) = (draft.bundle, &draft.policy.seccomp);
    let asked = bundle.spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
    let mut filters = Vec::new();
    // A profile is being made, for the place above the floor.
    let recorded = draft.options.watch == Watch::Record;
    let asked = asked.filter(|_| !recorded);
    let (floor, asks, why) = match &asked {
        None if recorded => (rule.floor, "recorded", "the profile that is being recorded will stand on it"),
        None => (rule.silent, "silent", "filled in: the config has none"),
        Some(_) => (rule.floor, "a profile", "stacked on the config's own: the stricter answer counts"),
    };
    let profile = match floor {
        Profile::None => None,
        Profile::Default => Some(("default", "the default profile of stockade", seccomp::default_profile()?)),
        Profile::Build => Some(("build", "the profile of stockade for image builds", seccomp::build_profile()?)),
    };
    if let Some((name, given, profile)) = profile {
        draft.find("seccomp", "linux.seccomp", asks, given, why);
        filters.push(compile(draft, name, profile)?);
    }
    if let Some(profile) = asked {
        let mut filter = compile(draft, "linux.seccomp", profile.clone())?;
        let asked_for = profile.listener_metadata().clone().unwrap_or_default();
        match profile.listener_path().as_ref().filter(|p| !p.as_os_str().is_empty()) {
            None if !asked_for.is_empty() => {
                let field = "linux.seccomp.listenerMetadata";
                return Err(Error::new("config.json", field, "set without listenerPath: nobody would read it"));
            }
            Some(path) if seccomp::notifies(profile) => filter.listener = Some(listener(draft, path, asked_for)?),
            None if seccomp::notifies(profile) => {
                let why = "SCMP_ACT_NOTIFY without listenerPath: nobody would answer";
                return Err(Error::new("config.json", "linux.seccomp", why)
                    .hint("listenerPath names the socket of the agent that decides"));
            }
            _ => {}
        }
        filters.push(filter);
    }
    Ok(filters)
}

/// The agent of the config's filter. Its socket is a path of the host that the bundle names, and whoever listens there
/// gets a message that the bundle writes, sent with our rights: so beyond the bundle it is the operator's to allow.
fn listener(draft: &Draft, path: &Path, metadata: String) -> Result<Listener> {
    let field = "linux.seccomp.listenerPath";
    if !path.is_absolute() {
        return Err(Error::new(
            "config.json",
            field,
            format!("{:?} is not an absolute path", path.display().to_string()),
        ));
    }
    let flags = draft.bundle.spec.linux().as_ref().and_then(|l| l.seccomp().as_ref()?.flags().clone());
    let killable = flags.unwrap_or_default().contains(&Flag::SeccompFilterFlagWaitKillableRecv);
    if killable && draft.host.kernel_version() < (5, 19) {
        let why = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV came with Linux 5.19";
        return Err(Error::new("config.json", "linux.seccomp.flags", why).hint("leave the flag out"));
    }
    let HostPath { path, within, .. } = super::mounts::host_path(draft, field, path.to_owned())?;
    Ok(Listener { path, within, metadata, dumpable: !draft.host.privileged() })
}

fn compile(draft: &mut Draft, name: &str, profile: LinuxSeccomp) -> Result<Filter> {
    let program = seccomp::compile(&profile)?;
    if !program.ignored.is_empty() {
        let shown: Vec<_> = program.ignored.iter().take(8).cloned().collect();
        let more = program.ignored.len() - shown.len();
        let given = if more > 0 {
            format!("{} and {more} more skipped", shown.join(" "))
        } else {
            format!("{} skipped", shown.join(" "))
        };
        draft.find("seccomp", "linux.seccomp", "names", &given, "this architecture has no such system call");
    }
    for note in &program.notes {
        draft.find("seccomp", "linux.seccomp", "as written", "the stricter reading", note);
    }
    Ok(Filter {
        profile: name.to_owned(),
        instructions: program.insns.len(),
        flags: program.flags,
        program: program.insns,
        source: Some(Box::new(profile)),
        listener: None,
        watched: None,
    })
}

/// What the tail is made from.
pub struct Tail {
    /// Whether the groups can be set.
    pub setgroups: bool,
    /// The sets.
    pub caps: Caps,
    /// Which of the two tails.
    pub no_new_privs: bool,
    /// The filters.
    pub filters: Vec<Filter>,
    /// The Landlock domain.
    pub landlock: Option<Landlock>,
    /// startContainer hooks.
    pub start_hooks: Vec<Hook>,
    /// The user is looked up in the container.
    pub by_name: bool,
    /// How many descriptors above 2 are handed on.
    pub preserve_fds: u32,
    /// How many of those are sockets to listen on.
    pub listen_fds: u32,
    /// Whether the process has stayed out of its pid namespace so far; and what the runtime does to it once it emerged.
    pub emerge: Option<Vec<Step>>,
    /// Why there is a stub before the workload.
    pub stub: Option<String>,
}

/// Lays one of the two legal tails.
pub fn tail(process: &Process, tail: Tail, steps: &mut Vec<Step>) -> Result<()> {
    let Tail {
        setgroups,
        caps,
        no_new_privs,
        filters,
        landlock,
        start_hooks,
        by_name,
        preserve_fds,
        listen_fds,
        emerge,
        stub,
    } = tail;
    let user = process.user();
    let args = process.args().clone().unwrap_or_default();
    let program = args.first().cloned().unwrap_or_default();
    let carried = if !no_new_privs && !filters.is_empty() { SYS_ADMIN } else { 0 };
    let asks = filters.iter().any(Filter::asks);
    for filter in &filters {
        let merged = filter.watched.iter().flat_map(|w| w.profiles.iter().map(|(_, profile)| profile));
        for profile in filter.source.as_deref().into_iter().chain(merged) {
            // The runtime lets its own read go on.
            permits_exec(profile, carried != 0, asks && filter.watched.is_none())?;
        }
    }
    // Root needs no gift, and who has a terminal has no pipe.
    if (user.uid() != 0 || by_name) && process.terminal() != Some(true) {
        steps.push(Step::Streams { uid: user.uid() });
    }
    steps.push(Step::CloseFds { preserve: preserve_fds, listen: listen_fds });
    // With the rights of whoever builds the container: it opens every tree, and without no_new_privs it takes SYS_ADMIN.
    steps.extend(landlock.map(|landlock| Step::Landlock { landlock }));
    steps.push(Step::Bounding { keep: caps.bounding, keep_names: names(caps.bounding) });
    let mut seen = HashSet::new();
    let groups = user.additional_gids().iter().flatten().copied().filter(|g| seen.insert(*g)).collect();
    if normal(process.cwd()) != Path::new("/") {
        steps.push(Step::ChdirEarly { path: process.cwd().clone() });
    }
    steps.push(Step::Ids { uid: user.uid(), gid: user.gid(), groups, setgroups, keep_caps: true });
    let mut before = caps;
    before.permitted |= carried;
    before.effective |= carried;
    steps.push(Step::Capabilities { caps: before, names: names(before.permitted) });
    if no_new_privs {
        steps.push(Step::NoNewPrivs);
    }
    let filters = filters.into_iter().map(|filter| Step::Seccomp { filter });
    let last = (carried != 0).then(|| Step::Capabilities { caps, names: names(caps.permitted) });
    let mut confining: Vec<Step> = filters.chain(last).collect();
    if let Some(after) = emerge {
        // What is carried up to the filter is more than the workload has, so it must be gone before anybody sees us.
        if carried & !caps.permitted != 0 && !asks && lets_us_emerge(&confining) {
            steps.append(&mut confining);
        }
        steps.push(Step::Emerge);
        steps.push(Step::Meet);
        steps.extend(after);
    }
    steps.push(Step::Chdir { path: process.cwd().clone() });
    if !program.is_empty() {
        steps.push(Step::FindProgram { program });
    }
    steps.push(Step::Ready);
    let hooks = Some(Step::ContainerHooks { moment: Moment::StartContainer, hooks: start_hooks });
    let hooks = hooks.filter(|s| !matches!(s, Step::ContainerHooks { hooks, .. } if hooks.is_empty()));
    // The rights that a filter takes without no_new_privs do not go through the stub's execve.
    let early = asks || (stub.is_some() && carried != 0);
    let gate = stub.map(|why| Step::Stub { why }).into_iter().chain(std::iter::once(Step::Gate)).chain(hooks);
    if early {
        steps.extend(confining.into_iter().chain(gate));
    } else {
        steps.extend(gate.chain(confining));
    }
    steps.push(Step::Exec { args, env: process.env().clone().unwrap_or_default() });
    Ok(())
}

/// Said where a process is seen by others while it has CAP_SYS_ADMIN for a filter that does not let it emerge.
pub(super) fn seen_with_more(steps: &[Step], caps: &Caps) -> Option<Finding> {
    let emerges = steps.iter().position(|s| matches!(s, Step::Emerge))?;
    let had = steps[..emerges].iter().rev().find_map(|s| match s {
        Step::Capabilities { caps, .. } => Some(caps.permitted),
        _ => None,
    })?;
    (had & !caps.permitted != 0).then(|| {
        super::finding(
            "host",
            "linux.seccomp",
            "a filter without no_new_privs that denies what our last steps need",
            "CAP_SYS_ADMIN until it is installed",
            "whoever has CAP_SYS_PTRACE in the pid namespace can have it for that moment",
        )
    })
}

/// What we call between the filter and the execve where the filter comes before we emerge.
const EMERGING: [&str; 45] = [
    "brk",
    "capget",
    "capset",
    "chdir",
    "clock_gettime",
    "clone",
    "close",
    "dup2",
    "dup3",
    "execve",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fcntl",
    "fstat",
    "futex",
    "getcwd",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getrandom",
    "getuid",
    "ioctl",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "openat",
    "poll",
    "ppoll",
    "prctl",
    "read",
    "recvmsg",
    "rt_sigprocmask",
    "sendmsg",
    "setsid",
    "sigaltstack",
    "stat",
    "statx",
    "write",
    "writev",
];

/// Whether all of that passes every filter.
fn lets_us_emerge(filters: &[Step]) -> bool {
    let abi = seccomp::syscalls::Abi::NATIVE;
    let numbers =
        EMERGING.iter().filter_map(|name| seccomp::syscalls::Syscall::named(name)?.number(abi).map(|n| (name, n)));
    let calls: Vec<(u32, [u64; 6])> = numbers
        .map(|(name, number)| match *name {
            "clone" => (number, [CLONE_SIBLING, 0, 0, 0, 0, 0]),
            "ioctl" => (number, [0, TIOCSCTTY, 0, 0, 0, 0]),
            _ => (number, [0; 6]),
        })
        .collect();
    filters.iter().all(|step| match step {
        Step::Seccomp { filter } => {
            calls.iter().all(|(number, args)| seccomp::answer::lets(&filter.program, abi.audit(), *number, *args))
        }
        _ => true,
    })
}

/// CLONE_PARENT and CLONE_PIDFD, as `sys::clone_sibling` gives them.
const CLONE_SIBLING: u64 = 0x8000 | 0x1000;
/// The ioctl that makes a terminal the controlling one.
const TIOCSCTTY: u64 = 0x540E;

/// What a profile says of a call, by its name.
pub(super) fn verdict(profile: &LinuxSeccomp, name: &str) -> Option<seccomp::Verdict> {
    let abi = seccomp::syscalls::Abi::NATIVE;
    let number = seccomp::syscalls::Syscall::named(name)?.number(abi)?;
    Some(seccomp::verdict(profile, abi.audit(), number, [0; 6]))
}

/// After the filter come execve, and write and exit_group when it fails; in the second tail a capset before; and where
/// the filter is there before the gate, the read of that. An agent may be asked about them, as it has the listener by
/// then; but not about write, by which a failure is told.
fn permits_exec(profile: &LinuxSeccomp, needs_capset: bool, before_gate: bool) -> Result<()> {
    let mut needed = vec!["execve", "write", "exit_group"];
    if needs_capset {
        needed.extend(["capset", "prctl"]);
    }
    if before_gate {
        needed.push("read");
    }
    for name in needed {
        let verdict = verdict(profile, name);
        let asked = verdict == Some(seccomp::Verdict::Notify);
        if verdict.is_some_and(seccomp::Verdict::permits) || (asked && name != "write") {
            continue;
        }
        if asked {
            let why = "SCMP_ACT_NOTIFY cannot be used for the write syscall: stockade tells by it why a launch failed";
            return Err(Error::new("config.json", "linux.seccomp", why).hint("allow write"));
        }
        return Err(Error::new(
            "config.json",
            "linux.seccomp",
            format!("{name} is denied, so the workload cannot be started"),
        )
        .hint("allow execve, write and exit_group; without noNewPrivileges also capset and prctl; with SCMP_ACT_NOTIFY also read"));
    }
    Ok(())
}
