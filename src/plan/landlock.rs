//! Decide: what Landlock (landlock(7)) holds the workload to, derived from its mounts.
//!
//! A mount's flags can be lifted by whoever has the rights to, in any user namespace that it may make; the rules of a
//! domain only ever become stricter, and no capability opens them. They are about files, not paths, and add up from a
//! file to the root of its tree: so a tree can be given more than the one around it, never less. Around what must have
//! less the tree is therefore taken apart into its entries (`init::landlock`), which is possible where nobody adds any.
//! A writable root is whole, and so is what lies in a writable tree.
//!
//! Nothing outside of the container's root has a rule: the host's binary behind /proc/self/exe cannot be executed, a file
//! behind a descriptor that was forgotten cannot be opened again.

use super::explain::source_of;
use super::step::{Attr, Source, Step};
use super::{Draft, attr};
use crate::error::{Error, Result};
use crate::policy::Lack;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// `LANDLOCK_ACCESS_FS_*`.
pub mod access {
    /// execve(2)
    pub const EXECUTE: u64 = 1;
    /// open for writing
    pub const WRITE_FILE: u64 = 1 << 1;
    /// open for reading
    pub const READ_FILE: u64 = 1 << 2;
    /// list a directory
    pub const READ_DIR: u64 = 1 << 3;
    /// remove and make entries: REMOVE_DIR to MAKE_SYM
    pub const ENTRIES: u64 = 0x1ff0;
    /// link and rename between directories; since ABI 2, and before that never allowed
    pub const REFER: u64 = 1 << 13;
    /// truncate(2); since ABI 3
    pub const TRUNCATE: u64 = 1 << 14;
    /// ioctl(2) on a device; since ABI 5
    pub const IOCTL_DEV: u64 = 1 << 15;
    /// What a rule about a file that is no directory may hold.
    pub const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
    /// What every tree of the container grants.
    pub const READ: u64 = READ_FILE | READ_DIR;
    /// What a writable one grants beside.
    pub const WRITE: u64 = WRITE_FILE | ENTRIES | REFER | TRUNCATE;
    /// All of them.
    pub const ALL: u64 = EXECUTE | READ | WRITE | IOCTL_DEV;
}

/// The first version with link and rename between directories: without those, programs break.
const USABLE: u32 = 2;
/// The first with TCP.
const TCP: u32 = 4;

/// The domain of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Landlock {
    /// What is denied where no rule allows it: those of `access` that this kernel has.
    pub handled: u64,
    /// What is allowed where; sorted, a tree before what lies in it.
    pub trees: Vec<Tree>,
    /// The TCP ports that can be bound; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_bind: Option<Vec<u16>>,
    /// The TCP ports that can be connected to; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_connect: Option<Vec<u16>>,
}

/// A tree of the container, as the plan mounts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Where it is in the container.
    pub path: PathBuf,
    /// Not read-only.
    pub write: bool,
    /// Not noexec.
    pub execute: bool,
    /// Not nodev.
    pub devices: bool,
    /// Its file system finds each file anew, so a rule about one of its files does not last: one rule is for all of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

impl Tree {
    /// The accesses that it grants.
    pub fn access(&self) -> u64 {
        let of = |on: bool, bits: u64| if on { bits } else { 0 };
        access::READ
            | of(self.write, access::WRITE)
            | of(self.execute, access::EXECUTE)
            | of(self.devices, access::IOCTL_DEV)
    }
}

impl Landlock {
    /// The trees by what they grant.
    pub fn words(&self) -> String {
        let paths = |has: fn(&Tree) -> bool| {
            let all: Vec<String> = self.trees.iter().filter(|t| has(t)).map(|t| t.path.display().to_string()).collect();
            if all.is_empty() { "nowhere".to_owned() } else { all.join(" ") }
        };
        let ports = |name: &str, list: &Option<Vec<u16>>| match list.as_deref() {
            None => String::new(),
            Some([]) => format!("; {name} no TCP port"),
            Some(list) => {
                let numbers: Vec<String> = list.iter().map(ToString::to_string).collect();
                format!("; {name} TCP port {}", numbers.join(" "))
            }
        };
        let devices = match self.handled & access::IOCTL_DEV {
            0 => String::new(),
            _ => format!("; control devices in {}", paths(|t| t.devices)),
        };
        format!(
            "read everywhere inside; execute in {}; write in {}{devices}{}{}",
            paths(|t| t.execute),
            paths(|t| t.write),
            ports("bind", &self.tcp_bind),
            ports("connect to", &self.tcp_connect),
        )
    }
}

/// The rights of a mount with these flags.
fn tree(path: &Path, attr: &Attr) -> Tree {
    let set = attr.top().0;
    let without = |bit: u64| set & bit == 0;
    let (write, execute, devices) = (without(attr::RDONLY), without(attr::NOEXEC), without(attr::NODEV));
    Tree { path: path.to_owned(), write, execute, devices, whole: false }
}

/// The trees of a plan, by its mounts in their order.
pub fn trees(steps: &[Step]) -> Vec<Tree> {
    let mut trees: Vec<Tree> = Vec::new();
    let mut put = |new: Tree| {
        // What was there is covered.
        trees.retain(|t| !t.path.starts_with(&new.path));
        trees.push(new);
    };
    let mut readonly: Vec<&Path> = Vec::new();
    let mut nodes: Vec<&Path> = Vec::new();
    let source = |slot: usize| steps.iter().find_map(|s| of_slot(s, slot));
    for step in steps.iter().map(Step::first) {
        match step {
            Step::AttachRootfs { source: Source::Slot(slot), .. } => {
                put(tree(Path::new("/"), &source(*slot).unwrap_or_default()));
            }
            Step::AttachRootfs { attr, .. } => put(tree(Path::new("/"), attr)),
            Step::Bind { source: Source::Slot(slot), target, .. } => {
                put(tree(target, &source(*slot).unwrap_or_default()));
            }
            Step::Bind { target, attr, .. }
            | Step::Filesystem { target, attr, .. }
            | Step::Overlay { slot: None, target, attr, .. } => put(tree(target, attr)),
            Step::Secrets { .. } => {
                put(tree(Path::new(super::secrets::PLACE), &Attr::set(attr::RDONLY | attr::NOEXEC | attr::NODEV)))
            }
            Step::SetAttr { target, attr } if attr.set & attr::RDONLY != 0 => readonly.push(target),
            Step::Devices { nodes: all, .. } => nodes.extend(all.iter().map(|n| n.path.as_path())),
            _ => {}
        }
    }
    for t in &mut trees {
        t.write &= !readonly.contains(&t.path.as_path());
    }
    trees.sort_by(|a, b| a.path.cmp(&b.path));
    // A node is a mount of its own, or lies where devices work.
    for path in nodes {
        let around = trees.iter().rfind(|t| path.starts_with(&t.path));
        if !around.is_some_and(|t| t.write && t.devices) {
            trees.push(Tree { path: path.to_owned(), write: true, execute: false, devices: true, whole: false });
        }
    }
    trees.sort_by(|a, b| a.path.cmp(&b.path));
    trees
}

fn of_slot(step: &Step, wanted: usize) -> Option<Attr> {
    match step.first() {
        Step::CloneSource { slot, attr, .. }
        | Step::Idmap { slot, attr, .. }
        | Step::Overlay { slot: Some(slot), attr, .. }
            if *slot == wanted =>
        {
            Some(*attr)
        }
        _ => None,
    }
}

/// The host's path that a step mounts, and where.
fn bound<'a>(step: &'a Step, steps: &'a [Step]) -> Option<(&'a Path, &'a Path)> {
    let (source, target) = match step.first() {
        Step::AttachRootfs { source, .. } => (source, Path::new("/")),
        Step::Bind { source, target, .. } => (source, target.as_path()),
        _ => return None,
    };
    let host = match source {
        Source::Path(host) => host,
        Source::Slot(slot) => steps.iter().find_map(|s| source_of(s, *slot))?,
    };
    Some((host.path.as_path(), target))
}

/// The domain of a launch, for the steps that are laid so far. `mounts_more`: hooks that run before the pivot, and may
/// mount what no plan knows.
pub fn decide(draft: &mut Draft, steps: &[Step], mounts_more: bool) -> Result<Option<Landlock>> {
    let rule = draft.policy.landlock.clone();
    let (field, missing) = ("mounts", "not held by Landlock");
    if rule.level == Lack::Off {
        return Ok(None);
    }
    let wants_tcp = rule.tcp_bind.is_some() || rule.tcp_connect.is_some();
    let refuse = |why: &str| {
        Err(Error::new(format!("policy {}", draft.policy.name), "landlock.level", format!("hard: {why}"))
            .hint("an operator goes on without it by the policy key landlock.level, in a file given to --policy"))
    };
    if mounts_more {
        let why = "hooks run before the pivot, and what they mount would be out of reach";
        if rule.level == Lack::Hard {
            return refuse(why);
        }
        draft.find("landlock", field, "silent", missing, why);
        return Ok(None);
    }
    let abi = draft.host.landlock;
    if abi < USABLE {
        let why = match abi {
            0 => "this kernel has no Landlock, or it is not among its security modules (lsm= on its command line)",
            _ => "the Landlock of this kernel forbids every rename between directories: Linux 5.19 and newer do not",
        };
        if rule.level == Lack::Hard {
            return refuse(why);
        }
        draft.find("landlock", field, "silent", missing, why);
        return Ok(None);
    }
    let pieces: [(u32, u64, &str); 2] =
        [(3, access::TRUNCATE, "truncate(2) of a read-only file"), (5, access::IOCTL_DEV, "ioctl(2) on devices")];
    let mut lacking: Vec<&str> = pieces.iter().filter(|(since, ..)| abi < *since).map(|(.., what)| *what).collect();
    if wants_tcp && abi < TCP {
        lacking.push("TCP ports");
    }
    if !lacking.is_empty() {
        let why = format!("the Landlock of this kernel (ABI {abi}) cannot hold it");
        match rule.level {
            Lack::Hard => return refuse(&format!("{why}: {}", lacking.join(", "))),
            Lack::Besteffort => {
                draft.find("landlock", field, "silent", &format!("not held: {}", lacking.join(", ")), &why);
            }
            Lack::Soft | Lack::Off => {}
        }
    }
    let absent = pieces.iter().filter(|(since, ..)| abi < *since).fold(0, |bits, (_, bit, _)| bits | bit);
    let ports = |list: &Option<Vec<u16>>| list.clone().filter(|_| abi >= TCP);
    let mut trees = trees(steps);
    for (host, target) in steps.iter().filter_map(|s| bound(s, steps)) {
        if draft.host.sources.iter().any(|s| s.path == host && s.nine_p) {
            trees.iter_mut().filter(|t| t.path == target).for_each(|t| t.whole = true);
        }
    }
    Ok(Some(Landlock {
        handled: access::ALL & !absent,
        trees,
        tcp_bind: ports(&rule.tcp_bind),
        tcp_connect: ports(&rule.tcp_connect),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(target: &str, set: u64) -> Step {
        Step::Filesystem {
            fstype: "tmpfs".into(),
            source: "tmpfs".into(),
            target: target.into(),
            options: Vec::new(),
            attr: Attr::set(set),
            copy_up: false,
        }
    }

    fn shown(steps: &[Step]) -> Vec<String> {
        let word = |on: bool, c: &'static str| if on { c } else { "-" };
        let line = |t: &Tree| {
            let flags = [word(t.write, "w"), word(t.execute, "x"), word(t.devices, "d")].concat();
            format!("{} {flags}", t.path.display())
        };
        trees(steps).iter().map(line).collect()
    }

    #[test]
    fn a_tree_has_the_rights_of_its_mount_and_what_is_covered_is_gone() {
        let root =
            Step::AttachRootfs { source: Source::Slot(0), at: "/".into(), recursive: false, attr: Attr::default() };
        let path = crate::plan::HostPath { path: "/x".into(), within: None, judged: false };
        let bind =
            Step::Bind { source: Source::Slot(1), target: "/data".into(), recursive: false, attr: Attr::default() };
        let clone = |slot, set| Step::CloneSource { slot, path: path.clone(), recursive: false, attr: Attr::set(set) };
        let node = crate::plan::Device {
            path: "/opt/kvm".into(),
            kind: 'c',
            major: 10,
            minor: 232,
            mode: 0o666,
            uid: 0,
            gid: 0,
        };
        let null = crate::plan::Device { path: "/dev/null".into(), ..node.clone() };
        let steps = [
            clone(0, attr::NODEV),
            clone(1, attr::RDONLY | attr::NODEV),
            root,
            mount("/tmp/below", attr::NODEV),
            mount("/tmp", attr::NODEV | attr::NOEXEC),
            mount("/tmp-beside", attr::NODEV),
            bind,
            mount("/dev", attr::NOEXEC),
            Step::Devices { nodes: vec![null, node], bind: true, links: Vec::new() },
            Step::SetAttr { target: "/".into(), attr: Attr::set(attr::RDONLY) },
        ];
        let wanted = ["/ -x-", "/data -x-", "/dev w-d", "/opt/kvm w-d", "/tmp w--", "/tmp-beside wx-"];
        assert_eq!(shown(&steps), wanted);
    }
}
