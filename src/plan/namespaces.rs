//! Decide: which namespaces are new, which are joined, and in which order those are entered.
//!
//! A process that enters a user namespace has every right in it and none outside. So what the user namespace that is
//! joined does not own is entered before it, with the runtime's rights, and what it owns after it. The mount namespace
//! comes last: from there on paths mean something else.

use super::{Draft, Joined, Namespaces, Ns};
use crate::error::{Error, Result};
use crate::namespaces::{Facts, Seen};
use crate::policy::Above;
use std::path::Path;

/// The decision about namespaces.
pub fn decide(draft: &mut Draft) -> Result<Namespaces> {
    let mut ns = Namespaces::default();
    let listed = draft.bundle.spec.linux().as_ref().and_then(|l| l.namespaces().clone()).unwrap_or_default();
    let mut found: Vec<(Joined, Vec<u64>, String)> = Vec::new();
    for (i, entry) in listed.iter().enumerate() {
        let kind = Ns::from_oci(entry.typ());
        let Some(path) = entry.path().as_ref().filter(|p| !p.as_os_str().is_empty()) else {
            ns.new.push(kind);
            continue;
        };
        let field = format!("linux.namespaces[{i}].path");
        // What is refused anyway is not told whether it is there.
        let facts = match named(draft, &field, kind, path) {
            Err(_) if draft.policy.namespaces.joined != Above::Allow => Facts::default(),
            other => other?,
        };
        let (rule, why, key) = match facts.ours {
            true => {
                let why = "the namespace is the runtime's own: what is shared with it is shared with the host";
                (draft.policy.namespaces.host, why, "namespaces.host")
            }
            false => (draft.policy.namespaces.joined, "a namespace of others is shared with them", "namespaces.joined"),
        };
        if rule != Above::Allow {
            return Err(draft.refuse(&field, &path.display().to_string(), why, key));
        }
        if facts.ours {
            ns.shared.push(kind);
        } else {
            let joined = Joined { ns: kind, path: path.clone(), inode: facts.inode, inside: false };
            found.push((joined, facts.owners, field));
        }
    }
    let user = found.iter().find(|(j, ..)| j.ns == Ns::User).map(|(j, ..)| j.inode);
    for (mut joined, owners, field) in found {
        joined.inside = joined.ns != Ns::User && user.is_some_and(|u| owners.contains(&u));
        may_join(draft, &joined, user.is_some(), &field)?;
        ns.joined.push(joined);
    }
    ns.joined.sort_by_key(|j| match j.ns {
        Ns::Mount => (3, j.ns),
        Ns::User => (1, j.ns),
        _ => (if j.inside { 2 } else { 0 }, j.ns),
    });
    fill(draft, &mut ns);
    super::reach::host_namespaces(draft, |n| ns.is_own(n) || ns.shared.contains(&n))?;
    ns.new.sort();
    check(draft, &mut ns)?;
    Ok(ns)
}

/// What is at a path of the config.
fn named(draft: &Draft, field: &str, kind: Ns, path: &Path) -> Result<Facts> {
    let shown = path.display().to_string();
    let bad = |why: String| Error::new("config.json", field, format!("{shown}: {why}"));
    if !path.is_absolute() {
        return Err(bad("is not an absolute path".into()));
    }
    match draft.host.namespaces.iter().find(|n| n.path == path).map(|n| &n.seen) {
        None => Ok(Facts { flag: kind.flag(), ..Facts::default() }),
        Some(Seen::Nothing(why)) => Err(bad(why.clone()).hint(format!(
            "the path of a {} namespace: /run/netns/NAME, /proc/PID/ns/{}",
            kind.name(),
            kind.file()
        ))),
        Some(Seen::Namespace(facts)) if facts.flag != kind.flag() => {
            let is = Ns::ALL.into_iter().find(|n| n.flag() == facts.flag).map_or("other", Ns::name);
            Err(bad(format!("is a {is} namespace and no {} namespace", kind.name())))
        }
        Some(Seen::Namespace(facts)) => Ok(facts.clone()),
    }
}

/// What the kernel, or the meaning of the thing, forbids.
fn may_join(draft: &Draft, joined: &Joined, user: bool, field: &str) -> Result<()> {
    let bad = |why: &str, hint: &str| {
        Err(Error::new("config.json", field, format!("{}: {why}", joined.path.display())).hint(hint))
    };
    if !draft.host.privileged() && joined.ns != Ns::User && !joined.inside {
        return bad(
            "an ordinary user can join only what a user namespace owns that it joins, too",
            "list the user namespace that owns it, by path",
        );
    }
    if joined.ns != Ns::Mount {
        return Ok(());
    }
    // Root and mounts of a mount namespace are everybody's in it: the container takes it over, and pivots in it.
    let new_user = !user && super::new_user_namespace(draft.bundle, draft.policy);
    if new_user || (user && !joined.inside) {
        return bad(
            "the root of the container's user namespace could not mount there",
            "a mount namespace is joined together with the user namespace that owns it, or without any",
        );
    }
    if !draft.host.privileged() {
        return bad(
            "sources of mounts are paths of the runtime's mount namespace, and an ordinary user can take none along",
            "list {\"type\": \"mount\"} without a path",
        );
    }
    Ok(())
}

/// New ones where the config is silent and the policy is not.
fn fill(draft: &mut Draft, ns: &mut Namespaces) {
    let filled: Vec<Ns> =
        Ns::ALL.into_iter().filter(|n| !ns.is_own(*n) && !ns.shared.contains(n) && draft.fills(*n)).collect();
    if !filled.is_empty() {
        let names: Vec<_> = filled.iter().map(|n| n.name()).collect();
        let given = format!("new: {}", names.join(" "));
        let why = "what is not isolated is the host's";
        draft.find("namespaces.silent", "linux.namespaces", "silent", &given, why);
        ns.new.extend(filled);
    }
}

fn check(draft: &mut Draft, ns: &mut Namespaces) -> Result<()> {
    let bad = |why: &str, hint: &str| Err(Error::new("config.json", "linux.namespaces", why).hint(hint));
    if !ns.is_own(Ns::Mount) {
        return bad("no mount namespace: the root would change for the host", "add {\"type\": \"mount\"}");
    }
    if !draft.host.privileged() && !ns.is_own(Ns::User) {
        return bad(
            "no user namespace, and an ordinary user cannot make the others without one",
            "add {\"type\": \"user\"}, or use the policy strict, which adds it",
        );
    }
    if ns.is_new(Ns::Time) && draft.host.kernel_version() < (5, 6) {
        ns.new.retain(|n| *n != Ns::Time);
        draft.find("host", "linux.namespaces", "time", "the host's", "time namespaces came with Linux 5.6");
    }
    if !ns.is_new(Ns::Pid) && draft.host.cgroup.mount.as_ref().is_none_or(|_| !draft.host.cgroup.writable) {
        draft.find(
            "host",
            "linux.namespaces",
            "no pid namespace of its own",
            "what the container's process leaves running, nobody finds",
            "without a cgroup of its own its processes are known by their pid namespace alone",
        );
    }
    Ok(())
}
