//! Decide: whether the binary of stockade itself is out of the container's reach.
//!
//! `/proc/PID/exe` of a process of ours inside is the runtime's own file, and a workload can bring it about that such a
//! process is executed from there again, or hold it open until it may be written (CVE-2019-5736). A container whose ids
//! cannot write that file gains nothing by it. Where an id of the container could, a sealed stub stands before the workload,
//! which belongs to this launch alone. Where processes of others see the child before it is the stub, or the stub cannot do
//! what is left to do, the whole runtime executes a sealed copy of itself.

use super::ids::BLOCK;
use super::{IdMap, Ns, Origin, credentials};
use crate::bundle::Bundle;
use crate::host::{Binary, Host, Range};
use crate::namespaces::Seen;
use crate::policy::{Above, Policy, Profile};
use crate::seccomp;
use oci_spec::runtime::LinuxSeccomp;

const SHARED: &str = "the container has the ids of the host";

/// `stub.s` is written for one architecture.
const STUB: bool = cfg!(target_arch = "x86_64");

/// What a launch does about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// Nothing: no id of the container can write the binary.
    Nothing,
    /// The child becomes the stub, for this reason.
    Stub(String),
    /// The runtime starts over from a copy, for this reason.
    Copy(String),
}

impl Guard {
    /// Why the runtime must start over.
    pub fn copy(self) -> Option<String> {
        match self {
            Guard::Copy(why) => Some(why),
            _ => None,
        }
    }
}

/// What a launch does about it. `asks`: a filter of ours asks us.
pub fn guard(bundle: &Bundle, policy: &Policy, host: &Host, asks: bool) -> Guard {
    let Some(why) = exposed(bundle, policy, host) else { return Guard::Nothing };
    // Nothing is better than the copy that runs already.
    let copied = (host.binary == Binary::Sealed).then_some("there is a copy");
    match copied.or_else(|| no_stub(bundle, policy, asks)).or_else(|| labelled(bundle, policy, host)) {
        None => Guard::Stub(why),
        Some(obstacle) => Guard::Copy(format!("{why}, and {obstacle}")),
    }
}

/// The same as far as the bundle alone tells, if it is a copy: nothing of the host is looked at for a launch that starts
/// over anyway.
pub fn copied_surely(bundle: &Bundle, policy: &Policy, asks: bool) -> Option<String> {
    let why = exposed_surely(bundle, policy)?;
    no_stub(bundle, policy, asks).map(|obstacle| format!("{why}, and {obstacle}"))
}

/// Why the stub would not do.
fn no_stub(bundle: &Bundle, policy: &Policy, asks: bool) -> Option<&'static str> {
    let spec = &bundle.spec;
    let linux = spec.linux().as_ref();
    let origin = |ns| Origin::of(bundle, policy, ns);
    let joined = |ns| matches!(origin(ns), Origin::Path(_));
    let shared = |word: &String| word == "shared" || word == "rshared";
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let spreads = linux.and_then(|l| l.rootfs_propagation().as_ref()).is_some_and(shared)
        || mounts.iter().any(|m| m.options().as_ref().is_some_and(|o| o.iter().any(shared)));
    let hooks = spec.hooks().as_ref().and_then(|h| h.start_container().as_ref()).is_some_and(|h| !h.is_empty());
    if !STUB {
        Some("there is no stub for this architecture")
    } else if origin(Ns::Pid) != Origin::New {
        Some("others are in its pid namespace")
    } else if joined(Ns::Mount) || joined(Ns::User) {
        Some("others are in its namespaces")
    } else if spreads {
        Some("its /proc may spread to others")
    } else if hooks {
        Some("startContainer hooks run inside before the workload")
    } else {
        filters(bundle, policy, asks)
    }
}

/// Without no_new_privs a filter is installed while we have the rights for it, which is before the stub.
fn filters(bundle: &Bundle, policy: &Policy, asks: bool) -> Option<&'static str> {
    const NEEDED: [&str; 7] = ["read", "write", "fcntl", "prctl", "execveat", "execve", "exit_group"];
    let profile = bundle.spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
    let rule = policy.no_new_privileges;
    let no_new_privs = match bundle.process().no_new_privileges() {
        Some(asked) => asked || rule.explicit_false != Above::Allow,
        None => rule.silent,
    };
    if asks || profile.is_some_and(seccomp::notifies) {
        return Some("its filter asks somebody");
    }
    if no_new_privs {
        return None;
    }
    let ours = match if profile.is_some() { policy.seccomp.floor } else { policy.seccomp.silent } {
        Profile::None => None,
        Profile::Default => seccomp::default_profile().ok(),
        Profile::Build => seccomp::build_profile().ok(),
    };
    let permits = |p: &LinuxSeccomp| {
        NEEDED.iter().all(|name| credentials::verdict(p, name).is_some_and(seccomp::Verdict::permits))
    };
    let all = ours.iter().chain(profile).all(permits);
    (!all).then_some("a filter denies what the stub does")
}

/// A label is for the next execve, whatever that executes.
fn labelled(bundle: &Bundle, policy: &Policy, host: &Host) -> Option<&'static str> {
    let process = bundle.process();
    let named = |label: &Option<String>| label.as_ref().is_some_and(|l| !l.is_empty());
    let any = labelled_by_default(policy, host) || named(process.apparmor_profile()) || named(process.selinux_label());
    any.then_some("a security label is for the workload")
}

fn labelled_by_default(policy: &Policy, host: &Host) -> bool {
    host.apparmor && policy.lsm.apparmor_default.is_some()
}

/// The same for a sandbox, whose bundle is not made yet.
pub fn guard_of_sandbox(policy: &Policy, host: &Host, asks: bool) -> Guard {
    let Some(why) = exposed_to_invented(host) else { return Guard::Nothing };
    match host.binary == Binary::Sealed || asks || labelled_by_default(policy, host) || !STUB {
        true => Guard::Copy(why),
        false => Guard::Stub(why),
    }
}

/// Why a launch needs the one or the other; none: it does not.
fn exposed(bundle: &Bundle, policy: &Policy, host: &Host) -> Option<String> {
    to(host, whose(bundle, policy, host))
}

/// The same as far as the bundle alone tells: nothing of the host is looked at for a launch that starts over anyway.
fn exposed_surely(bundle: &Bundle, policy: &Policy) -> Option<String> {
    (Origin::of(bundle, policy, Ns::User) == Origin::Runtime).then(|| SHARED.to_owned())
}

/// The same for an exec into a container with this uid map; empty: it has the host's ids.
pub fn exposed_to_map(uids: &[IdMap], host: &Host) -> Option<String> {
    let ranges = uids.iter().map(IdMap::outside_range).collect();
    to(host, if uids.is_empty() { None } else { Some(ranges) })
}

/// The same for a container with a user namespace and a map that is invented.
pub fn exposed_to_invented(host: &Host) -> Option<String> {
    to(host, Some(invented(host)))
}

fn to(host: &Host, ids: Option<Vec<Range>>) -> Option<String> {
    let (uid, mode) = match host.binary {
        Binary::Sealed => return Some("it is one already".into()),
        Binary::Unknown => return Some("who may write the binary cannot be seen".into()),
        Binary::File { uid, mode } => (uid, mode),
    };
    match ids {
        None => Some(SHARED.into()),
        Some(_) if mode & 0o022 != 0 => Some(format!("others than its owner may write the binary (mode {mode:04o})")),
        Some(ids) if ids.iter().any(|r| r.overlaps(&Range { start: uid, count: 1 })) => {
            Some(format!("uid {uid}, whose binary it is, is an id of the container"))
        }
        Some(_) => None,
    }
}

/// The host's uids that the container will have; none: all of them.
fn whose(bundle: &Bundle, policy: &Policy, host: &Host) -> Option<Vec<Range>> {
    match Origin::of(bundle, policy, Ns::User) {
        Origin::Runtime => return None,
        Origin::Path(path) => {
            // What cannot be read may be anything.
            let Seen::Namespace(facts) = &host.namespaces.iter().find(|n| n.path == *path)?.seen else { return None };
            let maps = facts.maps.as_ref().filter(|_| !facts.ours)?;
            return Some(
                maps.uids.iter().map(|(_, outside, count)| Range { start: *outside, count: *count }).collect(),
            );
        }
        Origin::New => {}
    }
    let linux = bundle.spec.linux().as_ref();
    let maps = super::ids::from_oci(linux.and_then(|l| l.uid_mappings().as_deref()).unwrap_or_default());
    Some(match maps.is_empty() {
        true => invented(host),
        false => maps.iter().map(IdMap::outside_range).collect(),
    })
}

/// Root's containers get a block above the host's own users, which need not be reserved yet.
fn invented(host: &Host) -> Vec<Range> {
    if host.privileged() {
        return vec![Range { start: BLOCK, count: u32::MAX - BLOCK }];
    }
    let own = Range { start: host.uid, count: 1 };
    std::iter::once(own).chain(host.ids.sub_uids.iter().copied()).collect()
}
