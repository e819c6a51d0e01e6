//! Decide: a container made again from images.
//!
//! Images are processes: memory, registers, and the processes' own word on who they are. Whoever wrote them decides what
//! runs and with which rights, so a policy must allow it. What stands around the processes does not come from the images:
//! the cgroup, the rootfs and every part of the host that they see come from the plan of the bundle, under the policy of
//! today. Afterwards, and before the first instruction, the result is held against that plan.

use super::mounts::ROOTFS;
use super::{Caps, Ns, Plan, Source, Step};
use crate::error::{Error, Result};
use crate::policy::{Above, Finding, Lack, Policy};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What stockade itself remembers beside criu's images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Images {
    /// The form of this record.
    pub version: u32,
    /// Mounts whose file system is the host's: where they are in the container.
    pub external: Vec<PathBuf>,
    /// What the standard streams of init were, where that lies outside of the container: criu's name for it.
    pub streams: [Option<String>; 3],
    /// Whether init has a terminal.
    pub terminal: bool,
    /// The network namespace is one that others made.
    pub network: bool,
    /// The first host id of the container, where it has a block of its own.
    pub ids: Option<u32>,
}

/// The form that is written and read.
pub const VERSION: u32 = 1;

/// What stands in for an external mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// A slot, and the path below it.
    Slot(usize, PathBuf),
    /// A path of the host.
    Host(PathBuf),
    /// The container's cgroup.
    Cgroup,
}

/// Whether the policy lets images be restored at all.
pub fn allowed(policy: &Policy) -> Result<()> {
    if policy.restore == Above::Allow {
        return Ok(());
    }
    Err(Error::new(
        format!("policy {}", policy.name),
        "restore",
        "images are code with rights of its own: who wrote them decides what runs",
    )
    .hint("an operator who vouches for them allows it with the policy key restore, in a file given to --policy"))
}

/// Processes that criu makes again are in no Landlock domain, whatever they were in.
pub fn without_landlock(plan: &Plan, policy: &Policy) -> Result<Option<Finding>> {
    if plan.confinement.landlock.is_none() {
        return Ok(None);
    }
    let why = "criu restores no Landlock domain; only what is executed by exec later gets one";
    if policy.landlock.level == Lack::Hard {
        return Err(Error::new(format!("policy {}", policy.name), "landlock.level", format!("hard: {why}"))
            .hint("an operator goes on without it by the policy key landlock.level, in a file given to --policy"));
    }
    Ok(Some(super::finding("landlock", "mounts", "silent", "not held by Landlock", why)))
}

/// What cannot be made again, and what stands in for each external mount.
pub fn stands(plan: &Plan, images: &Images) -> Result<Vec<(PathBuf, Stand)>> {
    let wrong = |subject: &str, why: &str| Error::new("restore", subject, why.to_owned());
    if images.version != VERSION {
        return Err(wrong("stockade.json", &format!("version {}: this stockade reads {VERSION}", images.version)));
    }
    let joined: Vec<Ns> = plan.steps.iter().flat_map(joined).collect();
    if let Some(ns) = joined.iter().find(|n| **n != Ns::Network) {
        return Err(wrong(
            ns.name(),
            "is a namespace of others, and criu makes a new one: only a network can be joined",
        ));
    }
    if plan.steps.iter().any(|s| matches!(s, Step::NetDevices { .. })) {
        return Err(wrong("linux.netDevices", "interfaces of the host are not in the images"));
    }
    if plan.listener().is_some() {
        return Err(wrong("linux.seccomp.listenerPath", "no agent would hear of a filter that comes from images"));
    }
    if images.network != joined.contains(&Ns::Network) {
        let why = if images.network {
            "the checkpoint joined one by path, and config.json names none"
        } else {
            "config.json joins one by path, and the checkpoint has its own"
        };
        return Err(wrong("linux.namespaces network", why));
    }
    images.external.iter().map(|target| Ok((target.clone(), stand(plan, target)?))).collect()
}

fn joined(step: &Step) -> Vec<Ns> {
    match step {
        Step::Join { namespaces } => namespaces.iter().map(|j| j.ns).collect(),
        _ => Vec::new(),
    }
}

fn stand(plan: &Plan, target: &Path) -> Result<Stand> {
    let mut below_root = None;
    let mut best: Option<(usize, Stand)> = None;
    for step in &plan.steps {
        match step {
            Step::Bind { source: Source::Slot(slot), target: at, recursive, .. } => {
                if let Ok(rest) = target.strip_prefix(at)
                    && (*recursive || rest.as_os_str().is_empty())
                    && best.as_ref().is_none_or(|(n, _)| *n <= at.components().count())
                {
                    best = Some((at.components().count(), Stand::Slot(*slot, rest.to_owned())));
                }
            }
            Step::AttachRootfs { source: Source::Slot(slot), recursive: true, .. } => {
                below_root = target.strip_prefix("/").ok().map(|rest| Stand::Slot(*slot, rest.to_owned()));
            }
            Step::Devices { nodes, .. } if nodes.iter().any(|n| n.path == target) => {
                return Ok(Stand::Host(target.to_owned()));
            }
            Step::Filesystem { fstype, target: at, .. } if fstype == "cgroup2" && at == target => {
                return Ok(Stand::Cgroup);
            }
            Step::Mask { paths } if paths.iter().any(|p| covers(p, target)) => {
                return Ok(Stand::Host("/dev/null".into()));
            }
            _ => {}
        }
    }
    best.map(|(_, stand)| stand).or(below_root).ok_or_else(|| {
        Error::new(
            "restore",
            target.display().to_string(),
            "the checkpoint has a mount of the host here, config.json none",
        )
        .hint("restore with the bundle that was checkpointed; mounts are named by their real path, without links")
    })
}

/// Whether a masked path, with one `*` perhaps, is this one.
fn covers(pattern: &str, path: &Path) -> bool {
    let path = path.to_string_lossy();
    match pattern.split_once('*') {
        None => pattern == path,
        Some((before, after)) => {
            path.len() >= before.len() + after.len()
                && path.starts_with(before)
                && path.ends_with(after)
                && !path[before.len()..path.len() - after.len()].contains('/')
        }
    }
}

/// What must be true of what criu made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// No more than these.
    pub caps: Caps,
    /// no_new_privs.
    pub no_new_privs: bool,
    /// At least so many filters.
    pub filters: usize,
    /// Namespaces that must not be the host's.
    pub namespaces: Vec<Ns>,
    /// uid_map as the kernel shows it, in words; empty: the host's.
    pub uid_map: Vec<[u32; 3]>,
    /// Mounts that must have these flags, by the words of mountinfo.
    pub mounts: Vec<(PathBuf, Vec<&'static str>)>,
    /// What must be covered where it exists.
    pub masked: Vec<String>,
}

/// The words of mountinfo that matter.
const WORDS: [(u64, &str); 4] = [
    (super::attr::RDONLY, "ro"),
    (super::attr::NOSUID, "nosuid"),
    (super::attr::NODEV, "nodev"),
    (super::attr::NOEXEC, "noexec"),
];

/// What the plan promises.
pub fn expected(plan: &Plan) -> Expected {
    let words = |attr: &super::Attr| -> Vec<&'static str> {
        WORDS.iter().filter(|(bit, _)| (attr.set | attr.set_below) & bit != 0).map(|(_, word)| *word).collect()
    };
    let sources: Vec<(usize, &super::Attr)> = plan.steps.iter().filter_map(source).collect();
    let mut mounts = Vec::new();
    let mut masked = Vec::new();
    for step in &plan.steps {
        let (target, attr) = match step {
            Step::Bind { source: Source::Slot(slot), target, attr, .. } => {
                (target, sources.iter().find(|(n, _)| n == slot).map_or(attr, |(_, a)| *a))
            }
            Step::Bind { target, attr, .. }
            | Step::Filesystem { target, attr, .. }
            | Step::SetAttr { target, attr } => (target, attr),
            Step::Mask { paths } => {
                masked.extend(paths.iter().cloned());
                continue;
            }
            _ => continue,
        };
        mounts.push((target.clone(), words(attr)));
    }
    if let Some((_, attr)) = sources.iter().find(|(slot, _)| *slot == ROOTFS) {
        mounts.push(("/".into(), words(attr)));
    }
    mounts.retain(|(_, words)| !words.is_empty());
    let confinement = &plan.confinement;
    Expected {
        caps: confinement.caps,
        no_new_privs: confinement.no_new_privs,
        filters: confinement.filters.len(),
        namespaces: confinement.namespaces.clone(),
        uid_map: plan.uid_map.iter().map(|m| [m.inside, m.outside, m.count]).collect(),
        mounts,
        masked,
    }
}

fn source(step: &Step) -> Option<(usize, &super::Attr)> {
    match step {
        Step::CloneSource { slot, attr, .. } | Step::Idmap { slot, attr, .. } => Some((*slot, attr)),
        Step::Try { step, .. } => source(step),
        _ => None,
    }
}

/// The network namespace that is joined.
pub fn network(plan: &Plan) -> Option<&PathBuf> {
    plan.steps.iter().find_map(|s| match s {
        Step::Join { namespaces } => namespaces.iter().find(|j| j.ns == Ns::Network).map(|j| &j.path),
        _ => None,
    })
}
