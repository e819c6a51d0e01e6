//! `features`: what this runtime implements, as features.md of the specification has it.
//!
//! The lists come from the tables that do the work, so nothing is promised that the planner would not take. They say
//! what we know, not what this kernel has; `supportedFlags` alone asks the kernel, as the specification wants it.

use crate::error::{Error, Result};
use crate::plan::{Moment, Ns, options, unit};
use crate::{policy, sys};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The oldest specification whose bundles are taken, and the newest.
const VERSIONS: (&str, &str) = ("1.0.0", "1.3.0");

/// Annotations of a config.json that stockade acts upon; a name that ends in a dot is a prefix. The policy says which
/// properties of the unit these may set, and no annotation loosens it.
const ACTED_UPON: [&str; 1] = [unit::PREFIX];

const HOOKS: [Moment; 6] = [
    Moment::Prestart,
    Moment::CreateRuntime,
    Moment::CreateContainer,
    Moment::StartContainer,
    Moment::Poststart,
    Moment::Poststop,
];

/// `stockade features`.
pub fn features() -> Result<i32> {
    let text = serde_json::to_string_pretty(&document()).map_err(|e| Error::new("features", "JSON", e.to_string()))?;
    crate::log::print(&(text + "\n")).map(|()| 0)
}

fn document() -> Value {
    let mut namespaces = Ns::ALL.map(Ns::name);
    namespaces.sort_unstable();
    let mut capabilities: Vec<_> = caps::all().into_iter().collect();
    capabilities.sort_by_key(|c| c.index());
    let capabilities: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    let flags = words::<oci_spec::runtime::LinuxSeccompFilterFlag>();
    let systemd = cfg!(feature = "systemd");
    let supported: Vec<&String> = flags.iter().filter(|f| kernel_knows(f)).collect();
    json!({
        "ociVersionMin": VERSIONS.0,
        "ociVersionMax": VERSIONS.1,
        "hooks": HOOKS.map(Moment::name),
        "mountOptions": options::all(),
        "linux": {
            "namespaces": namespaces,
            "capabilities": capabilities,
            "cgroup": { "v1": false, "v2": true, "systemd": systemd, "systemdUser": systemd, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": words::<oci_spec::runtime::LinuxSeccompAction>(),
                "operators": words::<oci_spec::runtime::LinuxSeccompOperator>(),
                "archs": words::<oci_spec::runtime::Arch>(),
                "knownFlags": flags,
                "supportedFlags": supported,
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": {
                "modes": words::<oci_spec::runtime::MemoryPolicyModeType>(),
                "flags": words::<oci_spec::runtime::MemoryPolicyFlagType>(),
            },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true },
        },
        "annotations": annotations(),
        "potentiallyUnsafeConfigAnnotations": ACTED_UPON,
    })
}

/// What says who we are, and which policies there are to choose from.
fn annotations() -> BTreeMap<&'static str, String> {
    let policies: Vec<&str> = policy::SHIPPED.iter().map(|(name, _)| *name).collect();
    BTreeMap::from([
        ("io.github.stockade-rs.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("io.github.stockade-rs.commit", super::COMMIT.to_owned()),
        ("io.github.stockade-rs.policies", policies.join(",")),
    ])
}

/// The words that an enum of config.json takes, sorted: its parser names them when it is given another.
fn words<T: DeserializeOwned>() -> Vec<String> {
    let Err(refusal) = crate::json::from_value::<T>(&json!("")) else { return Vec::new() };
    let text = refusal.to_string();
    let expected = text.split_once("expected").map_or("", |(_, list)| list);
    let mut words: Vec<String> = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    words.sort();
    words
}

/// Whether this kernel takes a flag of seccomp(2).
fn kernel_knows(flag: &str) -> bool {
    sys::seccomp_knows(match flag {
        "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        "SECCOMP_FILTER_FLAG_TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC,
        // Of a notifying filter only.
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => {
            libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
        }
        _ => return false,
    })
}
