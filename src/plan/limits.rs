//! Decide: what the container may use: the cgroup, its limits and devices, sysctls and rlimits.
//!
//! A limit is a file of cgroup v2 and a value. What the config or a flag asked and this host cannot enforce is refused
//! with the reason; what only the policy's defaults asked becomes a finding. Kernel document: admin-guide/cgroup-v2.

use super::ids::Ids;
use super::resources::{Wanted, asked, cpu_max};
use super::{Draft, Ns, Step};
use crate::cgroup::systemd::{self, Scope};
use crate::cgroup::{delegation, device};
use crate::error::{Error, Result};
use crate::policy::{Above, Unenforced};
use oci_spec::runtime::{LinuxResources, Process};
use std::collections::BTreeMap;

/// The decision about resources.
#[derive(Debug, Default)]
pub struct Limits {
    /// The cgroup, relative to the cgroup2 mount; none where none can be made.
    pub path: Option<String>,
    /// The scope of systemd that makes it.
    pub scope: Option<Scope>,
    /// The controllers that must be enabled for it.
    pub controllers: Vec<String>,
    /// Files and values, in writing order.
    pub values: Vec<(String, String)>,
    /// Weights of block I/O: for io.weight, and the same for io.bfq.weight.
    pub weights: Vec<(String, String)>,
    /// The rules of the device program; none where none can be attached.
    pub devices: Option<Vec<device::Rule>>,
}

impl Limits {
    /// The limits as properties of a unit.
    pub fn properties(&self) -> Vec<(String, systemd::Value)> {
        let weights = self.weights.iter().map(|(weight, _)| ("io.weight".to_owned(), weight.clone()));
        systemd::properties(&self.values.iter().cloned().chain(weights).collect::<Vec<_>>())
    }
}

/// Decides the cgroup and everything in it.
pub fn decide(draft: &mut Draft) -> Result<Limits> {
    let resources = draft.bundle.spec.linux().as_ref().and_then(|l| l.resources().clone()).unwrap_or_default();
    let mut wanted = asked(&resources)?;
    cap(draft, &mut wanted)?;
    fill(draft, &mut wanted);
    expect(draft, &wanted);

    let cgroup = draft.host.cgroup.clone();
    let obstacle = match &cgroup.mount {
        None if cgroup.disabled => Some("--cgroup-manager disabled".to_owned()),
        None => Some("cgroup v2 is not mounted on this host".to_owned()),
        Some(mount) if !cgroup.writable => {
            Some(format!("{}{} is not writable for uid {}", mount.display(), cgroup.base, draft.host.uid))
        }
        _ => None,
    };
    let mut limits = Limits::default();
    if obstacle.is_none() {
        match cgroup.systemd {
            None => limits.path = Some(path(draft)?),
            Some(user) => {
                let asked =
                    draft.bundle.spec.linux().as_ref().and_then(|l| l.cgroups_path().clone()).unwrap_or_default();
                let scope = Scope::parse(&asked.to_string_lossy(), &draft.options.id, user)?;
                limits.path = Some(format!("{}{}", cgroup.base.trim_end_matches('/'), scope.path()));
                limits.scope = Some(scope);
            }
        }
    }
    let lacking = |controller: &str| cgroup.lacking.get(controller).map_or("/", String::as_str);
    let mut lost: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for want in wanted {
        let controller = want.controller().to_owned();
        let missing = match &obstacle {
            Some(why) => Some(why.clone()),
            None if cgroup.controllers.contains(&controller) => None,
            None if cgroup.on_v1.contains(&controller) => {
                Some(format!("the {controller} controller is on cgroup v1 here, which stockade does not use"))
            }
            None => Some(delegation::lack(&controller, lacking(&controller))),
        };
        match (missing, want.field) {
            (None, _) => {
                if !limits.controllers.contains(&controller) {
                    limits.controllers.push(controller);
                }
                match want.bfq {
                    Some(bfq) => limits.weights.push((want.value, bfq)),
                    None => limits.values.push((want.file, want.value)),
                }
            }
            (Some(why), Some(field)) if draft.policy.limits.without_controller == Unenforced::Finding => {
                draft.find(
                    "limits.withoutController",
                    field,
                    &format!("{}={}", want.file, want.value),
                    "no limit",
                    &why,
                );
            }
            (Some(why), Some(field)) => {
                return Err(Error::new(
                    "config.json",
                    field,
                    format!("{}={} cannot be enforced: {why}", want.file, want.value),
                )
                .hint(format!(
                    "{}; an operator does without by the policy key limits.withoutController",
                    remedy(draft, &controller, lacking(&controller))
                )));
            }
            (Some(why), None) => lost.entry(why).or_default().push(format!("{}={}", want.file, want.value)),
        }
    }
    for (why, values) in lost {
        draft.find("limits", "linux.resources", "silent", &format!("no {}", values.join(", ")), &why);
    }
    if let (Some(why), true) = (&obstacle, limits.path.is_none()) {
        draft.find("host", "linux.cgroupsPath", "silent", "no cgroup of its own", why);
    }
    limits.devices = devices(draft, &resources, limits.path.is_some())?;
    Ok(limits)
}

/// A workload that can write to its cgroup tree gets its own cgroup to make others in.
pub fn delegation(draft: &mut Draft, ids: &Ids, uid: u32, gid: u32) -> Option<Step> {
    let owner = ids.host_uid(uid).filter(|u| *u != draft.host.uid)?;
    if draft.host.privileged() && draft.host.initial_userns {
        return Some(Step::Delegate { uid: owner, gid: ids.mapped_gid(gid) });
    }
    let why = "an ordinary user cannot give it to another id";
    draft.find("host", "process.user.uid", "a writable cgroup", &format!("one of uid {}", draft.host.uid), why);
    None
}

/// What the operator can do about a limit that this host does not enforce. `dir`: the first cgroup without the controller.
fn remedy(draft: &Draft, controller: &str, dir: &str) -> String {
    let cgroup = &draft.host.cgroup;
    let Some(mount) = cgroup.mount.as_ref().filter(|_| cgroup.on_v1.is_empty()) else {
        return "remove the limit, or boot with systemd.unified_cgroup_hierarchy=1 for a pure cgroup v2 host".into();
    };
    if !cgroup.writable && !cgroup.lacking.contains_key(controller) {
        // A cgroup of our own to make others in, and the controllers in it, come from the same hand.
        return "start it in a delegated cgroup: systemd-run --user --scope -p Delegate=yes -- stockade ..., or use --systemd-cgroup".into();
    }
    delegation::remedy(mount, dir, controller)
}

/// No limit at all is a wish like another, and above the ceiling where the policy has a limit of its own.
fn cap(draft: &mut Draft, wanted: &mut Vec<Wanted>) -> Result<()> {
    let policy = &draft.policy.limits;
    let rule = draft.policy.unlimited;
    if rule == Above::Allow {
        return Ok(());
    }
    let mut kept = Vec::with_capacity(wanted.len());
    for want in wanted.drain(..) {
        let capped = match want.file.as_str() {
            "memory.max" | "memory.swap.max" => policy.memory.is_some(),
            "pids.max" => policy.pids.is_some(),
            "cpu.max" => policy.cpus.is_some() && want.field != Some("linux.resources.cpu.period"),
            _ => false,
        };
        if !capped || !want.value.starts_with("max") {
            kept.push(want);
            continue;
        }
        let field = want.field.unwrap_or("linux.resources");
        if rule == Above::Refuse {
            return Err(draft.refuse(field, "no limit", "resources of the host are finite", "unlimited"));
        }
        draft.find("unlimited", field, "no limit", "the policy's limit", "resources of the host are finite");
    }
    *wanted = kept;
    Ok(())
}

fn fill(draft: &mut Draft, wanted: &mut Vec<Wanted>) {
    let has = |wanted: &[Wanted], file: &str| wanted.iter().any(|w| w.file == file);
    let policy = &draft.policy.limits;
    let mut filled = Vec::new();
    if let Some(bytes) = policy.memory {
        if !has(wanted, "memory.max") {
            filled.push(("memory.max", bytes.to_string(), "linux.resources.memory.limit"));
        }
        // Also beside a limit that the config sets: with open swap that limit would hold nothing back.
        if !has(wanted, "memory.swap.max") {
            filled.push(("memory.swap.max", "0".into(), "linux.resources.memory.swap"));
        }
    }
    if let Some(pids) = policy.pids.filter(|_| !has(wanted, "pids.max")) {
        filled.push(("pids.max", pids.to_string(), "linux.resources.pids.limit"));
    }
    if let Some(cpus) = policy.cpus {
        // A period says how finely a quota is dealt out, not that there is none.
        let period = wanted.iter().position(|w| w.file == "cpu.max" && w.field == Some("linux.resources.cpu.period"));
        let period = period.and_then(|n| wanted.remove(n).value.strip_prefix("max ")?.parse::<f64>().ok());
        if let Some(period) = period {
            let quota = (cpus * period).round().max(1000.0);
            filled.push(("cpu.max", format!("{quota} {period}"), "linux.resources.cpu.quota"));
        } else if !has(wanted, "cpu.max") {
            filled.push(("cpu.max", cpu_max(cpus), "linux.resources.cpu.quota"));
        }
    }
    for (file, value, field) in filled {
        // Without a cgroup of its own, or without the controller, the finding below says what is lost.
        let host = &draft.host.cgroup;
        let usable = host.mount.is_some() && host.writable;
        if usable && host.controllers.iter().any(|c| file.starts_with(&format!("{c}."))) {
            draft.find("limits", field, "silent", &format!("{file}={value}"), "resources of the host are finite");
        }
        wanted.push(Wanted { file: file.into(), value, field: None, bfq: None });
    }
}

/// Limits that a policy does not invent, and whose absence it wants told.
fn expect(draft: &mut Draft, wanted: &[Wanted]) {
    for (name, file, field) in [
        ("memory", "memory.max", "linux.resources.memory.limit"),
        ("pids", "pids.max", "linux.resources.pids.limit"),
        ("cpus", "cpu.max", "linux.resources.cpu.quota"),
    ] {
        let expected = draft.policy.limits.expected.iter().any(|n| n == name);
        if expected && !wanted.iter().any(|w| w.file == file && !w.value.starts_with("max")) {
            let why = "the container can take all that the host has";
            draft.find("limits.expected", field, "silent", "no limit", why);
        }
    }
}

/// Where the cgroup goes: the config's path below the mount, or one named after the container beside our own.
fn path(draft: &Draft) -> Result<String> {
    let base = draft.host.cgroup.base.trim_end_matches('/');
    let asked = draft.bundle.spec.linux().as_ref().and_then(|l| l.cgroups_path().clone());
    let path = match asked.map(|p| p.to_string_lossy().into_owned()).filter(|p| !p.is_empty()) {
        None => match &draft.options.cgroup_parent {
            None => format!("{base}/{}", draft.options.id),
            Some(parent) => format!("{base}/{parent}/{}", draft.options.id),
        },
        Some(path) => {
            let clean: Vec<&str> = path.split('/').filter(|c| !c.is_empty() && *c != ".").collect();
            if clean.is_empty() {
                return Err(Error::new(
                    "config.json",
                    "linux.cgroupsPath",
                    format!("{path:?} is the root of the hierarchy"),
                ));
            }
            if let Some(long) = clean.iter().find(|c| c.len() > 255) {
                return Err(Error::new(
                    "config.json",
                    "linux.cgroupsPath",
                    format!("{long:?} is longer than 255 bytes"),
                ));
            }
            if path.starts_with('/') { format!("/{}", clean.join("/")) } else { format!("{base}/{}", clean.join("/")) }
        }
    };
    Ok(path)
}

/// The device program: the config's rules, without any the nodes that it asks for, and the specification's defaults.
fn devices(draft: &mut Draft, resources: &LinuxResources, cgroup: bool) -> Result<Option<Vec<device::Rule>>> {
    let mut asked = resources.devices().clone().unwrap_or_default();
    let ruled = !asked.is_empty();
    // Also what is left out below must mean something.
    device::from_oci(&asked)?;
    super::reach::every_device(draft, &mut asked)?;
    if draft.policy.devices != Above::Allow && asked.iter().any(|r| r.allow()) {
        let given = "only the specification's own devices";
        draft.find(
            "devices",
            "linux.resources.devices",
            "rules that allow more",
            given,
            "no other node is in the container",
        );
        asked.retain(|r| !r.allow());
    }
    let mut rules = device::from_oci(&asked)?;
    if draft.host.privileged() && draft.host.initial_userns && cgroup {
        use oci_spec::runtime::LinuxDeviceType::{C, P, U};
        // Who writes rules means them, also for the nodes that are made.
        let linux = draft.bundle.spec.linux().iter().filter(|_| !ruled);
        for node in linux.flat_map(|l| l.devices().iter().flatten()) {
            // A FIFO is no device; "unbuffered" is an old word for a character device.
            let mut rule = oci_spec::runtime::LinuxDeviceCgroup::from(node);
            match node.typ() {
                P => continue,
                U => rule.set_typ(Some(C)),
                _ => &mut rule,
            };
            rules.extend(device::from_oci(std::slice::from_ref(&rule))?);
        }
        if draft.policy.devices == Above::Allow {
            // mknod alone opens nothing: the open is judged by the rules above.
            rules.extend(device::mknod_any());
        }
        rules.extend(device::defaults());
        return Ok(Some(rules));
    }
    let why = "a device program needs CAP_BPF in the initial user namespace and a cgroup v2 of our own";
    if draft.host.initial_userns && !draft.ns.is_own(Ns::User) {
        // Host ids are shared: mknod and an open of a raw disk would work.
        if draft.host.cgroup.disabled {
            return unruled(draft);
        }
        return Err(Error::new("device program", "linux.resources.devices", why)
            .hint("mount cgroup v2, or let the container have a user namespace of its own"));
    }
    let field = if asked.is_empty() { "silent" } else { "rules" };
    draft.find(
        "host",
        "linux.resources.devices",
        field,
        "no device program; mknod is EPERM in a user namespace and foreign mounts are nodev",
        why,
    );
    Ok(None)
}

/// The caller wants no cgroup, and nothing else holds rules of devices.
fn unruled(draft: &mut Draft) -> Result<Option<Vec<device::Rule>>> {
    let (field, asked) = ("linux.resources.devices", "--cgroup-manager disabled");
    let why = "a device program has its place in a cgroup, and the ids are the host's";
    let given = match draft.policy.unruled_devices {
        Above::Refuse => return Err(draft.refuse(field, asked, why, "unruledDevices")),
        Above::Tighten => "nodev on every mount, and no CAP_MKNOD",
        Above::Allow => "no rule holds",
    };
    draft.find("unruledDevices", field, asked, given, why);
    Ok(None)
}

/// The name of a sysctl with its separators exchanged: from dots to a path and back.
pub fn swapped(name: &str) -> String {
    let other = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    name.chars().map(other).collect()
}

/// The name of a sysctl with dots. sysctl.d(5) takes both forms; whichever separator comes first is the separator, and the
/// other one stands for a dot in a name (net.ipv4.conf.eth0/1.forwarding).
pub fn sysctl_name(key: &str) -> String {
    match key.find(['.', '/']).map(|i| key.as_bytes()[i]) {
        Some(b'/') => swapped(key),
        _ => key.to_owned(),
    }
}

/// The namespace that a sysctl belongs to, by its name with dots; none: the host.
pub fn sysctl_namespace(name: &str) -> Option<Ns> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    match name {
        "kernel.domainname" | "kernel.hostname" => Some(Ns::Uts),
        _ if IPC.contains(&name) || name.starts_with("fs.mqueue.") => Some(Ns::Ipc),
        _ if name.starts_with("net.") => Some(Ns::Network),
        _ => None,
    }
}

/// Sysctls of the config, namespaced ones only.
pub fn sysctls(draft: &mut Draft, ids: &Ids) -> Result<Vec<(String, String)>> {
    let asked = draft.bundle.spec.linux().as_ref().and_then(|l| l.sysctl().clone()).unwrap_or_default();
    let sorted: BTreeMap<_, _> = asked.into_iter().collect();
    let mut values = Vec::new();
    for (key, mut value) in sorted {
        let field = format!("linux.sysctl.{key}");
        let bad = |why: String| Error::new("config.json", field.as_str(), why);
        let name = sysctl_name(&key);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '@');
        // After the swap: `net.//.kernel` is the path net/../kernel.
        if swapped(&name).split('/').any(|part| matches!(part, "" | "." | "..") || !part.chars().all(plain)) {
            return Err(bad("not the name of a sysctl".into()));
        }
        if value.contains('\n') {
            return Err(bad(format!("{value:?} has a newline")));
        }
        if name == "kernel.domainname" {
            // The file answers EACCES in a user namespace, the system call does not: the field's step does it.
            continue;
        }
        if name == "kernel.hostname" {
            return Err(bad("use the field hostname".into()));
        }
        let Some(needs) = sysctl_namespace(&name) else {
            return Err(bad("is not a namespaced sysctl: it would change the host".into())
                .hint("namespaced are net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*"));
        };
        if !draft.ns.is_own(needs) {
            return Err(bad(format!(
                "without a {} namespace of the container's own it would change the host",
                needs.name()
            )));
        }
        // Engines make the network of a container beforehand, and leave its sysctls to the runtime.
        if !draft.ns.owns(needs) {
            return Err(bad(format!(
                "the {} namespace belongs to another user namespace: the sysctl belongs to its owner",
                needs.name()
            )));
        }
        if name == "net.ipv4.ping_group_range" && !ids.gids.is_empty() {
            // Docker sends 0..2^31-1; a bound without an id outside is EINVAL.
            let mut ends = value.split_whitespace().map(|n| n.parse::<u32>().unwrap_or(u32::MAX));
            if let (Some(low), Some(high)) = (ends.next(), ends.next())
                && ids.maps_gid(low)
                && !ids.maps_gid(high)
            {
                let last = ids.gids.iter().map(|m| m.inside + (m.count - 1)).filter(|n| *n >= low).max().unwrap_or(low);
                let clamped = format!("{low} {last}");
                draft.find("host", &field, &value, &clamped, "the kernel takes only gids that the container has");
                value = clamped;
            }
        }
        values.push((name, value));
    }
    Ok(values)
}

/// rlimits of the config, and the policy's for those that it does not name.
pub fn rlimits(draft: &mut Draft, process: &Process) -> Vec<(String, u64, u64)> {
    let mut values: Vec<(String, u64, u64)> =
        process.rlimits().iter().flatten().map(|r| (r.typ().to_string(), r.soft(), r.hard())).collect();
    for (name, [soft, hard]) in draft.policy.rlimits.clone() {
        if !values.iter().any(|(n, _, _)| *n == name) {
            draft.find("rlimits", "process.rlimits", "silent", &format!("{name} {soft}/{hard}"), "limits of a process");
            values.push((name, soft, hard));
        }
    }
    values.sort();
    values
}
