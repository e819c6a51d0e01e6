//! Decide: whether the binary of stockade itself is out of the container's reach.
//!
//! `/proc/PID/exe` of a process of ours inside is the runtime's own file, and a workload can bring it about that such a
//! process is executed from there again, or hold it open until it may be written (CVE-2019-5736). A container whose ids
//! cannot write that file gains nothing by it. Where an id of the container could, the runtime executes a sealed copy in
//! memory, which belongs to this launch alone.

use super::ids::BLOCK;
use super::{Draft, IdMap, Ns};
use crate::bundle::Bundle;
use crate::host::{Binary, Host, Range};
use crate::namespaces::Seen;
use crate::policy::Policy;

const SHARED: &str = "the container has the ids of the host";

/// Why a launch needs the copy; none: it does not.
pub fn exposed(bundle: &Bundle, policy: &Policy, host: &Host) -> Option<String> {
    to(host, whose(bundle, policy, host))
}

/// The same as far as the bundle alone tells: nothing of the host is looked at for a launch that starts over anyway.
pub fn exposed_surely(bundle: &Bundle, policy: &Policy) -> Option<String> {
    let named = bundle.spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
    let user = named.is_some_and(|list| list.iter().any(|n| Ns::from_oci(n.typ()) == Ns::User));
    let silent = policy.namespaces.silent.iter().any(|n| n == Ns::User.name());
    (!user && !silent).then(|| SHARED.to_owned())
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
    let linux = bundle.spec.linux().as_ref();
    let listed = linux.and_then(|l| l.namespaces().as_ref()?.iter().find(|n| Ns::from_oci(n.typ()) == Ns::User));
    let path = listed.and_then(|n| n.path().clone()).filter(|p| !p.as_os_str().is_empty());
    if let Some(path) = path {
        // What cannot be read may be anything.
        let Seen::Namespace(facts) = &host.namespaces.iter().find(|n| n.path == path)?.seen else { return None };
        let maps = facts.maps.as_ref().filter(|_| !facts.ours)?;
        return Some(maps.uids.iter().map(|(_, outside, count)| Range { start: *outside, count: *count }).collect());
    }
    if listed.is_none() && !policy.namespaces.silent.iter().any(|n| n == Ns::User.name()) {
        return None;
    }
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

/// The step, where it is needed.
pub(super) fn step(draft: &Draft) -> Option<super::Step> {
    exposed(draft.bundle, draft.policy, draft.host).map(|why| super::Step::OwnBinary { why })
}
