//! Decide: what the host lends to a container: network devices, and a share of the processor's caches.

use super::{Draft, Ns, Rdt};
use crate::error::{Error, Result};
use crate::policy::Above;

/// `linux.netDevices`: the host's name of each, and the container's.
pub fn net_devices(draft: &Draft) -> Result<Vec<(String, String)>> {
    let asked = draft.bundle.spec.linux().as_ref().and_then(|l| l.net_devices().clone()).unwrap_or_default();
    let asked: std::collections::BTreeMap<_, _> = asked.into_iter().collect();
    let mut devices: Vec<(String, String)> = Vec::new();
    for (name, device) in asked {
        let field = format!("linux.netDevices.{name}");
        let inside = device.name().clone().filter(|n| !n.is_empty()).unwrap_or_else(|| name.clone());
        // The limit is the kernel's, IFNAMSIZ.
        let valid = |name: &str| {
            !matches!(name, "" | "." | "..")
                && name.len() < 16
                && !name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':'))
        };
        let template = inside.matches('%').count();
        if !valid(&name) || name.contains('%') {
            return Err(Error::new("config.json", field, format!("{name:?} is not the name of a network device")));
        }
        if !valid(&inside) || template > 1 || template == 1 && !inside.contains("%d") {
            let why = format!("{inside:?} is not the name of a network device, nor one with %d for a number");
            return Err(Error::new("config.json", format!("{field}.name"), why));
        }
        if devices.iter().any(|(_, other)| *other == inside && template == 0) {
            return Err(Error::new("config.json", format!("{field}.name"), format!("a second device called {inside}")));
        }
        if draft.policy.net_devices != Above::Allow {
            let why = "the host loses the device, and the container talks to its network";
            return Err(draft.refuse(&field, &inside, why, "netDevices"));
        }
        devices.push((name, inside));
    }
    let Some((first, _)) = devices.first() else { return Ok(devices) };
    let field = format!("linux.netDevices.{first}");
    if !draft.ns.is_own(Ns::Network) {
        return Err(Error::new(
            "config.json",
            field,
            "without a network namespace of the container's own it cannot move",
        )
        .hint("add {\"type\": \"network\"} to linux.namespaces"));
    }
    if !draft.host.privileged() {
        return Err(Error::new("config.json", field, "an ordinary user cannot move a device of the host")
            .hint("it needs CAP_NET_ADMIN on the host"));
    }
    Ok(devices)
}

/// `linux.intelRdt`. The rules are the specification's.
pub fn rdt(draft: &Draft) -> Result<Option<Rdt>> {
    let Some(asked) = draft.bundle.spec.linux().as_ref().and_then(|l| l.intel_rdt().clone()) else { return Ok(None) };
    let bad = |field: &str, why: String| Error::new("config.json", format!("linux.intelRdt.{field}"), why);
    let text = |s: &Option<String>| s.clone().filter(|s| !s.is_empty());
    let named = text(asked.clos_id());
    let class = named.clone().unwrap_or_else(|| draft.options.id.clone());
    // The others are resctrl's own.
    let taken = ["", ".", "..", "info", "mon_groups", "mon_data"];
    if taken.contains(&class.as_str()) || class.len() > 255 || class.contains(|c: char| c == '/' || c.is_control()) {
        return Err(bad("closID", format!("{class:?} is not the name of a class")));
    }
    let mut schemata = asked.schemata().clone().unwrap_or_default();
    if schemata.is_empty() {
        let bandwidth = text(asked.mem_bw_schema());
        if let Some(line) = bandwidth.as_ref().filter(|l| !l.starts_with("MB:")) {
            return Err(bad("memBwSchema", format!("{line:?} does not begin with MB:")));
        }
        let cache = text(asked.l3_cache_schema()).unwrap_or_default();
        let lines = cache.lines().map(str::trim).filter(|l| !l.is_empty());
        // A line of memory bandwidth there gives way to the field that is for it.
        schemata.extend(lines.filter(|l| bandwidth.is_none() || !l.starts_with("MB:")).map(str::to_owned));
        schemata.extend(bandwidth);
    }
    if let Some(line) = schemata.iter().find(|l| l.contains(char::is_control) || !l.contains(':')) {
        return Err(bad("schemata", format!("{line:?} is not a line such as L3:0=ff;1=ff")));
    }
    if draft.policy.intel_rdt != Above::Allow {
        let why = "the caches and the memory's bandwidth are divided anew for the whole host";
        return Err(draft.refuse("linux.intelRdt", &format!("class {class}"), why, "intelRdt"));
    }
    #[allow(deprecated)]
    let old = asked.enable_cmt() == &Some(true) || asked.enable_mbm() == &Some(true);
    let monitor = asked.enable_monitoring() == &Some(true) || old;
    let Some(mount) = draft.host.resctrl.clone() else {
        return Err(Error::new("config.json", "linux.intelRdt", "no resctrl file system at /sys/fs/resctrl")
            .hint("mount -t resctrl resctrl /sys/fs/resctrl; it needs a processor and a kernel with RDT"));
    };
    Ok(Some(Rdt { mount, class, named: named.is_some(), schemata, monitor }))
}
