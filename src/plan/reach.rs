//! Decide: what a bundle reaches of the host: privileged shapes, the sockets of daemons, directories that are as good as
//! root, raw disks, every device, and annotations that another runtime would obey.
//!
//! What the paths of the host lead to is a fact (`Host::sources`). Where there is none the path counts as it is written.

use super::{Draft, HostPath, Ns, credentials};
use crate::error::Result;
use crate::policy::Above;
use crate::sources::Source;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Process};
use std::path::{Component, Path, PathBuf};

/// The directories of daemons: also while none of them runs, because a bind shows what comes later.
const HOMES: [&str; 9] = [
    "/run",
    "/run/buildkit",
    "/run/containerd",
    "/run/crio",
    "/run/dbus",
    "/run/docker",
    "/run/podman",
    "/run/systemd",
    "/var/run",
];

/// What begins the annotations that change what runc, crun, CRI-O, Kata or gVisor do.
pub const FOREIGN: [&str; 7] = [
    "run.oci.",
    "krun.",
    "module.wasm.image/",
    "org.criu.",
    "io.kubernetes.cri-o.",
    "io.katacontainers.",
    "dev.gvisor.",
];

/// The capabilities up to CAP_AUDIT_READ. An engine that is older than the kernel does not name the newest.
const EVERY: u64 = (1 << 38) - 1;

/// A privileged container is root on the host. No engine says so in a field: it is known by its shape, and an ordinary
/// container that adds one of these alone does not have it.
pub fn privileged(draft: &mut Draft, process: &Process) -> Result<()> {
    let rule = draft.policy.privileged;
    if rule == Above::Allow {
        return Ok(());
    }
    let bounding = process.capabilities().as_ref().map_or(0, |c| credentials::bits_of(c.bounding().as_ref()));
    let linux = draft.bundle.spec.linux().as_ref();
    let masked = linux.is_some_and(|l| l.masked_paths().as_ref().is_some_and(|m| !m.is_empty()));
    let rules = linux.and_then(|l| l.resources().as_ref()?.devices().clone()).unwrap_or_default();
    let filtered = linux.is_some_and(|l| l.seccomp().is_some());
    let all = rules.iter().any(is_every_device);
    // An engine gives what it has itself: in a container or a unit of its own that is less than the kernel knows.
    let own = if draft.host.privileged() { draft.host.caps } else { u64::MAX };
    let Some(signs) = signs(bounding, draft.host.known_caps & own, filtered, masked, all) else { return Ok(()) };
    let asked = format!("every capability, {}", signs.join(", "));
    let why = "a privileged container is root on the host";
    if rule == Above::Refuse {
        return Err(draft.refuse("process.capabilities", &asked, why, "privileged"));
    }
    draft.find("privileged", "process.capabilities", &asked, "what an ordinary container gets", why);
    Ok(())
}

/// What tells that a container is privileged; none: it is not. `known`: the capabilities that there are to give.
pub fn signs(bounding: u64, known: u64, filtered: bool, masked: bool, all_devices: bool) -> Option<Vec<&'static str>> {
    let every = EVERY & known;
    if every == 0 || bounding & every != every {
        return None;
    }
    let signs = [(!filtered, "no seccomp filter"), (!masked, "nothing masked"), (all_devices, "every device")];
    let signs: Vec<&str> = signs.into_iter().filter(|(there, _)| *there).map(|(_, sign)| sign).collect();
    (signs.len() >= 2).then_some(signs)
}

/// A rule that opens all devices, or all disks. To make nodes (`m`) alone opens nothing.
pub fn is_every_device(rule: &LinuxDeviceCgroup) -> bool {
    let opens = rule.access().as_deref().is_none_or(|a| a.is_empty() || a.contains(['r', 'w']));
    let number = |n: Option<i64>| n.is_some_and(|n| n >= 0);
    rule.allow()
        && opens
        && !number(rule.major())
        && !number(rule.minor())
        && matches!(rule.typ(), None | Some(LinuxDeviceType::A | LinuxDeviceType::B))
}

/// Takes the rules that open every device out of those that the config has.
pub fn every_device(draft: &mut Draft, rules: &mut Vec<LinuxDeviceCgroup>) -> Result<()> {
    let rule = draft.policy.all_devices;
    if rule == Above::Allow || !rules.iter().any(is_every_device) {
        return Ok(());
    }
    let field = "linux.resources.devices";
    let why = "the disks of the host are devices, too";
    if rule == Above::Refuse {
        return Err(draft.refuse(field, "a rule that allows every device", why, "allDevices"));
    }
    draft.find("allDevices", field, "a rule that allows every device", "the other rules", why);
    rules.retain(|r| !is_every_device(r));
    Ok(())
}

/// A raw disk: its file system, with every file of it, can be read past all permissions.
pub fn block_device(draft: &mut Draft, field: &str, asked: &str) -> Result<()> {
    let why = "a raw disk is every file on it, whoever owns them";
    if draft.policy.block_devices != Above::Allow {
        return Err(draft.refuse(field, asked, why, "blockDevices"));
    }
    draft.find("blockDevices", field, asked, "as asked", why);
    Ok(())
}

/// The socket of a daemon that whoever sees `real` can talk to.
pub fn daemon_socket(fact: Option<&Source>, real: &Path) -> Option<PathBuf> {
    let listed = || crate::sources::SOCKETS.iter().chain(&HOMES).map(PathBuf::from).find(|known| known == real);
    fact.and_then(|s| s.socket.clone()).or_else(listed)
}

/// A path of the host that the container will see. Whether it must become read-only.
pub fn source(draft: &mut Draft, field: &str, host: &mut HostPath, writable: bool) -> Result<bool> {
    if host.within.is_some() {
        return Ok(false);
    }
    let path = host.path.as_path();
    let fact = draft.host.sources.iter().find(|s| s.path == path).cloned();
    let real = fact.as_ref().map_or_else(|| super::mounts::normal(path), |s| s.real.clone());
    let shown =
        if real == path { real.display().to_string() } else { format!("{} -> {}", path.display(), real.display()) };
    if draft.policy.daemon_sockets != Above::Allow
        && let Some(socket) = daemon_socket(fact.as_ref(), &real)
    {
        let what = if socket == real { shown } else { format!("{shown}, where {} is", socket.display()) };
        let why = "whoever may talk to a daemon that is root on the host is root on the host";
        return Err(draft.refuse(field, &what, why, "daemonSockets"));
    }
    if fact.as_ref().is_some_and(|s| s.block) {
        block_device(draft, field, &shown)?;
    }
    let rules = [draft.policy.daemon_sockets, draft.policy.host_paths.sensitive_writable];
    if let Some(fact) = fact.filter(|_| rules.iter().any(|r| *r != Above::Allow)) {
        // A container that shares the directory of a link could turn it after it was judged.
        *host = HostPath { path: fact.real, within: None, judged: true };
    }
    let pattern = draft.policy.host_paths.sensitive.iter().find(|p| is_sensitive(p, &real));
    let Some(pattern) = pattern.filter(|_| writable).cloned() else { return Ok(false) };
    let asked = format!("{shown}, writable");
    let why = format!("who writes there can become root on the host ({pattern})");
    match draft.policy.host_paths.sensitive_writable {
        Above::Refuse => Err(draft.refuse(field, &asked, &why, "hostPaths.sensitiveWritable")),
        Above::Tighten => {
            draft.find("hostPaths.sensitiveWritable", field, &asked, "read-only", &why);
            Ok(true)
        }
        Above::Allow => {
            draft.find("hostPaths.sensitiveWritable", field, &asked, "as asked", &why);
            Ok(false)
        }
    }
}

/// Whether a place is one that a pattern of `hostPaths.sensitive` means, or contains one.
pub fn is_sensitive(pattern: &str, real: &Path) -> bool {
    let names = |path: &Path| -> Vec<String> {
        let name = |c: Component| match c {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        };
        path.components().filter_map(name).collect()
    };
    let same = |(have, want): (&String, &String)| want == "*" || have == want;
    let real = names(real);
    if let Some(name) = pattern.strip_prefix("**/") {
        return real.iter().any(|n| n == name);
    }
    let (dir, below) = pattern.strip_suffix("/**").map_or((pattern, false), |dir| (dir, true));
    let dir = names(Path::new(dir));
    (below || real.len() <= dir.len()) && real.iter().zip(&dir).all(same)
}

/// A namespace of the runtime's own that nobody named: the engines' way to say `--network host`.
pub fn host_namespaces(draft: &mut Draft, has: impl Fn(Ns) -> bool) -> Result<()> {
    let kinds = [Ns::Network, Ns::Pid, Ns::Ipc, Ns::Uts];
    let names: Vec<&str> = kinds.into_iter().filter(|n| !has(*n)).map(Ns::name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let (field, why) = ("linux.namespaces", "what is shared with the runtime is shared with the host");
    let asked = format!("no {} of its own", names.join(", "));
    if draft.policy.namespaces.host != Above::Allow {
        return Err(draft.refuse(field, &asked, why, "namespaces.host"));
    }
    draft.find("namespaces.host", field, &asked, "the host's", why);
    Ok(())
}

/// Annotations that would make another runtime do something.
pub fn annotations(draft: &mut Draft) -> Result<()> {
    let rule = draft.policy.foreign_annotations;
    let foreign = |key: &&String| FOREIGN.iter().any(|prefix| key.starts_with(prefix));
    let mut keys: Vec<String> =
        draft.bundle.spec.annotations().iter().flat_map(|a| a.keys()).filter(foreign).cloned().collect();
    keys.sort();
    let (true, Some(first)) = (rule != Above::Allow, keys.first()) else { return Ok(()) };
    let why = "another runtime would obey it, and stockade does not";
    if rule == Above::Refuse {
        return Err(draft.refuse(&format!("annotations.{first}"), "set", why, "foreignAnnotations"));
    }
    let (shown, more) = keys.split_at(keys.len().min(8));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    draft.find("foreignAnnotations", "annotations", &format!("{}{more}", shown.join(" ")), "not obeyed", why);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensitive_is_what_a_pattern_means_and_what_contains_it() {
        for (pattern, yes, no) in [
            ("/etc/**", &["/etc", "/etc/cron.d", "/etc/a/b", "/"][..], &["/etcetera", "/srv/etc", "/var"][..]),
            (
                "/var/lib/docker",
                &["/var/lib/docker", "/var/lib", "/var", "/"],
                &["/var/lib/docker/volumes/x", "/var/log"],
            ),
            ("/home/*", &["/home", "/home/user", "/"], &["/home/user/src", "/homes"]),
            ("**/.ssh", &["/srv/x/.ssh", "/root/.ssh/keys"], &["/srv/.sshd", "/"]),
        ] {
            for place in yes {
                assert!(is_sensitive(pattern, Path::new(place)), "{pattern} {place}");
            }
            for place in no {
                assert!(!is_sensitive(pattern, Path::new(place)), "{pattern} {place}");
            }
        }
    }
}
