//! Decide: what is given when a config is silent, what it may ask for at most, and what happens above that.
//!
//! A policy is data (`profiles/policy/*.json`), read into `Policy`. The planner asks it, and every time that it fills a
//! silence or tightens a wish a `Finding` is recorded, so that nothing is done behind the user's back. Which policy
//! applies is the operator's choice (flag, environment, configuration file), never the bundle's.

use crate::error::{Error, Result};
use crate::json::{self, Node};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The policies that ship inside the binary.
pub const SHIPPED: [(&str, &str); 4] = [
    ("strict", include_str!("../../profiles/policy/strict.json")),
    ("engine", include_str!("../../profiles/policy/engine.json")),
    ("engine-build", include_str!("../../profiles/policy/engine-build.json")),
    ("oci", include_str!("../../profiles/policy/oci.json")),
];

/// What happens to a wish above the ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Above {
    /// The launch is refused with an error that names the field and the key that would allow it.
    Refuse,
    /// The ceiling is given, and a finding recorded.
    Tighten,
    /// It is given as asked.
    Allow,
}

/// A protection that not every kernel or machine has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// Not asked for.
    #[default]
    Off,
    /// Where it is there; else a finding.
    Try,
    /// Where it is not there, no launch.
    Require,
}

/// A policy, complete. A file may start from a shipped one with `"extends"`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Its name, as findings and states show it.
    pub name: String,
    /// For whom it is, in a line.
    pub about: String,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// An id map of root's that reaches host id 0, or another id below 65536, where the host's own users are.
    pub host_root_mapped: Above,
    /// An id map of the bundle's own that reaches ids of another container.
    pub held_ids: Above,
    /// The supplementary groups of the caller stay in effect (a user namespace with a single id).
    pub caller_groups: Above,
    /// The shape in which engines send a privileged container: every capability, and two of: no filter, nothing masked,
    /// every device. Tightened, each part of it is decided by its own key.
    pub privileged: Above,
    /// Capabilities. A silent config always gets none.
    pub capabilities: Capabilities,
    /// `process.noNewPrivileges`.
    pub no_new_privileges: Flag,
    /// `linux.seccomp`.
    pub seccomp: Seccomp,
    /// `root.readonly`.
    pub readonly_root: Flag,
    /// Flags and fillings of mounts.
    pub mounts: Mounts,
    /// What the procfs on /proc shows.
    pub proc: Proc,
    /// What of the host a bundle may name, as its rootfs or as the source of a bind, beyond its own directory.
    pub host_paths: HostPaths,
    /// Binds of the socket of a daemon that is root on the host (Docker, containerd, CRI-O, Podman, BuildKit, systemd), or
    /// of a directory that holds one.
    pub daemon_sockets: Above,
    /// `linux.maskedPaths` that are masked whatever the config lists.
    pub masked_paths: Vec<String>,
    /// `linux.readonlyPaths` that are read-only whatever the config lists.
    pub readonly_paths: Vec<String>,
    /// Mounts or a rootfs whose events reach the host (`shared`, `rshared`, `slave`, `rslave`).
    pub propagation: Above,
    /// `--no-pivot`: a chroot instead of pivot_root.
    pub no_pivot: Above,
    /// `linux.devices` beyond the eight of the specification.
    pub devices: Above,
    /// A raw disk: a node of `linux.devices` or a bind.
    pub block_devices: Above,
    /// A rule of `linux.resources.devices` that allows every device, or every block device.
    pub all_devices: Above,
    /// `--cgroup-manager disabled` for a container with the ids of the host: no cgroup, so no device program. Tightened,
    /// every mount is nodev and CAP_MKNOD is not given.
    pub unruled_devices: Above,
    /// `linux.netDevices`: network devices of the host that are moved into the container.
    pub net_devices: Above,
    /// `linux.intelRdt`: a class of the processor's caches and memory bandwidth.
    pub intel_rdt: Above,
    /// Hooks of the config: each is code that runs as the runtime's user, on the host.
    pub hooks: Above,
    /// Images of a checkpoint: code that is running already, and says itself with which rights.
    pub restore: Above,
    /// Limits for a config that sets none.
    pub limits: Limits,
    /// A config that lifts one of those limits (-1).
    pub unlimited: Above,
    /// `process.oomScoreAdj` below 0: others die first when memory is short.
    pub oom_score_adj: Above,
    /// A scheduling policy beyond OTHER, BATCH and IDLE, a nice below 0, or flags other than reset-on-fork.
    pub scheduler: Above,
    /// An I/O priority above that of an ordinary process: class RT, or BE with a level below 4.
    pub io_priority: Above,
    /// Labels of AppArmor and SELinux.
    pub lsm: Lsm,
    /// A Landlock domain, derived from the mounts.
    pub landlock: Landlock,
    /// Properties of the container's systemd unit that an annotation may set (`org.systemd.property.NAME`).
    pub unit_properties: Vec<String>,
    /// Annotations that other runtimes obey, and stockade does not: whoever wrote them counts on what does not happen.
    pub foreign_annotations: Above,
    /// rlimits for a config that does not name them: name -> [soft, hard].
    pub rlimits: BTreeMap<String, [u64; 2]>,
    /// A new session keyring (keyrings(7)): keyrings are not namespaced.
    pub session_keyring: bool,
    /// No memory both written and executed (PR_SET_MDWE(2const)): a JIT compiler does not work then.
    pub memory_deny_write_execute: Want,
    /// No processor core shared with a process of somebody else (PR_SCHED_CORE).
    pub core_scheduling: Want,
    /// User namespaces made by the workload, inside a user namespace that this launch made.
    pub user_namespaces_inside: Above,
    /// Fields of config.json that stockade does not know or does not implement, and that carry no isolation.
    pub unknown_fields: Above,
}

/// Rules for namespaces.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Namespaces {
    /// Types that are new when the config does not list them.
    pub silent: Vec<String>,
    /// Joining an existing namespace by path.
    pub joined: Above,
    /// One that the runtime is in itself, by its path or by silence where `silent` does not fill it: what is shared with
    /// it is shared with the host.
    pub host: Above,
}

/// Rules for capabilities.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capabilities {
    /// The most that a config can get, without `CAP_`; absent: no ceiling.
    #[serde(default)]
    pub ceiling: Option<Vec<String>>,
    /// A config that names others.
    pub above: Above,
}

/// A rule for a yes-or-no field whose safe value is yes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Flag {
    /// What a silent config gets.
    pub silent: bool,
    /// An explicit `false`.
    pub explicit_false: Above,
}

/// Rules for seccomp.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seccomp {
    /// The profile of a silent config: `default`, `build` or `none`.
    pub silent: Profile,
    /// The profile that is stacked on one that the config brings: the stricter answer of the two counts.
    pub floor: Profile,
}

/// A seccomp profile by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// `profiles/seccomp/default.json`.
    Default,
    /// The same for the steps of an image build: setuid bits and device nodes can be made, as packages bring them.
    Build,
    /// No filter.
    None,
}

/// Rules for mounts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mounts {
    /// Whether /proc, /dev, /dev/pts, /dev/shm, /dev/mqueue and /sys appear when the config does not mount them.
    pub fill_standard: bool,
    /// nosuid on every mount.
    pub nosuid: bool,
    /// nodev on every mount but the device nodes.
    pub nodev: bool,
    /// noexec on tmpfs, proc, sysfs, devpts and mqueue.
    pub noexec: bool,
    /// `ro` means the mounts below, too.
    pub recursive_readonly: bool,
    /// The types that a config may mount, `bind` being one; absent or null: any. Another type loads its module into the
    /// kernel, and with it a parser for what the bundle brings.
    #[serde(default)]
    pub types: Option<Vec<String>>,
    /// A bind without a flag that the host has on its source (`rw` of what is read-only there, `exec`, `suid`, `dev`).
    pub lift_flags: Above,
    /// The options `idmap` and `ridmap`: the container's root has the rights of the host's root on that part of the host.
    pub idmap: Above,
    /// A procfs or sysfs beside /proc and /sys, or the host's: no mask reaches there. Tightened, it is read-only.
    pub kernel_files: Above,
}

/// Rules for the procfs on /proc: options of proc(5), where the config's own are not stricter.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proc {
    /// Processes of other users in the container are hidden.
    pub hidepid: Hidepid,
    /// Only processes: no /proc/sys, /proc/meminfo, /proc/cpuinfo and so on.
    pub only_pids: bool,
}

/// The option `hidepid` of proc(5), from the loosest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hidepid {
    /// 0: everybody sees all.
    Off,
    /// 1: the directories are there, and what is in them is the owner's.
    NoAccess,
    /// 2: not there for others.
    Invisible,
    /// 4: only what one may trace is there.
    Ptraceable,
}

impl Hidepid {
    /// As the kernel reads it: a number, or since Linux 5.8 a word.
    pub fn from_option(value: &str) -> Option<Hidepid> {
        Some(match value {
            "0" | "off" => Hidepid::Off,
            "1" | "noaccess" => Hidepid::NoAccess,
            "2" | "invisible" => Hidepid::Invisible,
            "4" | "ptraceable" => Hidepid::Ptraceable,
            _ => return None,
        })
    }

    /// The kernel's word.
    pub fn word(self) -> &'static str {
        match self {
            Hidepid::Off => "off",
            Hidepid::NoAccess => "noaccess",
            Hidepid::Invisible => "invisible",
            Hidepid::Ptraceable => "ptraceable",
        }
    }
}

/// Rules for paths of the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostPaths {
    /// Directories and files of the host that every bundle may name, and what is below them.
    pub allowed: Vec<std::path::PathBuf>,
    /// Everything else.
    pub beyond: Above,
    /// What makes whoever may write there root on the host: a directory and all that contain it; with `/**` also what is
    /// below; `*` is any one name, and `**/NAME` is NAME anywhere and what is below.
    pub sensitive: Vec<String>,
    /// A bind that can be written to of one of those. Tightened, it is read-only.
    pub sensitive_writable: Above,
}

/// Rules for labels. Naming an AppArmor profile can only confine, and is never refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lsm {
    /// The AppArmor profile of a config that names none, where it is loaded: a finding where it is not.
    #[serde(default)]
    pub apparmor_default: Option<String>,
    /// `process.apparmorProfile: unconfined`.
    pub unconfined: Above,
    /// `process.selinuxLabel`.
    pub selinux_label: Above,
}

/// A limit that cannot be enforced, because the host has no controller for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unenforced {
    /// The launch is refused.
    Refuse,
    /// It goes on without the limit, and a finding is recorded.
    Finding,
}

/// Rules for Landlock.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Landlock {
    /// What is done where the kernel cannot hold all of it.
    pub level: Lack,
    /// The TCP ports that the workload may bind; absent or null: any.
    #[serde(default)]
    pub tcp_bind: Option<Vec<u16>>,
    /// The TCP ports that the workload may connect to; absent or null: any.
    #[serde(default)]
    pub tcp_connect: Option<Vec<u16>>,
}

/// What is done where the kernel lacks a protection, whole or in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lack {
    /// The protection is not asked for.
    Off,
    /// What the kernel has is used, and a finding says what it lacks.
    Besteffort,
    /// The same, with a finding only if it lacks all of it.
    Soft,
    /// The launch is refused if it lacks any of it.
    Hard,
}

/// Limits for a config that sets none. Absent: none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// memory.max, in bytes. memory.swap.max becomes 0 with it.
    #[serde(default)]
    pub memory: Option<i64>,
    /// pids.max.
    #[serde(default)]
    pub pids: Option<i64>,
    /// cpu.max, in CPUs.
    #[serde(default)]
    pub cpus: Option<f64>,
    /// Those of `memory`, `pids` and `cpus` whose absence is a finding.
    pub expected: Vec<String>,
    /// A limit that the config sets, without its controller. One of the policy's own is a finding then.
    pub without_controller: Unenforced,
}

/// Something that was decided beyond what the config says: a silence filled, a wish tightened, a protection missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule: a key of the policy, or `host` for what this machine lacks.
    pub rule: String,
    /// The field of config.json.
    pub field: String,
    /// What the config asked; `silent` for nothing.
    pub asked: String,
    /// What the container gets.
    pub given: String,
    /// Why.
    pub why: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {}: asked {}, given {}: {}", self.rule, self.field, self.asked, self.given, self.why)
    }
}

impl Policy {
    /// A shipped policy by name, or an operator's file by path.
    pub fn load(name: &str) -> Result<Policy> {
        if let Some((_, text)) = SHIPPED.iter().find(|(n, _)| *n == name) {
            return Self::from_json(text, name);
        }
        if !name.contains('/') && !name.ends_with(".json") {
            let names: Vec<_> = SHIPPED.iter().map(|(n, _)| *n).collect();
            return Err(Error::new("policy", name, "no policy of that name ships with stockade")
                .hint(format!("one of {}, or a path to a file of your own", names.join(", "))));
        }
        let text = crate::host::read_small(name, 1 << 20).map_err(|e| {
            Error { step: "policy".into(), ..e }
                .hint("the file named by --policy, STOCKADE_POLICY or the configuration file")
        })?;
        Self::from_json(&text, name)
    }

    /// Reads a policy from its JSON text; `"extends": NAME` starts from a shipped one and overrides key by key.
    pub fn from_json(text: &str, name: &str) -> Result<Policy> {
        let wrong = |e: json::Wrong| {
            let subject = if e.path.is_empty() { name.to_owned() } else { format!("{name}: {}", e.path) };
            Error::new("policy", subject, e.why)
        };
        let mut tree = Node::parse(text.as_bytes()).map_err(wrong)?;
        // A shipped one may extend another that ships, and those end.
        while let Some(base) = tree.take("extends") {
            if tree.take("extends").is_some() {
                return Err(Error::new("policy", format!("{name}: extends"), "comes twice"));
            }
            let base = if let Node::Text(base) = base { base.into_owned() } else { String::new() };
            let Some(text) = shipped_text(&base) else {
                return Err(Error::new("policy", name, format!("extends {base:?}, which is not a shipped policy")));
            };
            let over = std::mem::replace(&mut tree, Node::parse(text.as_bytes()).map_err(wrong)?);
            tree.merge(over);
        }
        let (policy, _): (Policy, _) = tree.read().map_err(wrong)?;
        policy.validate().map_err(|(key, why)| Error::new("policy", format!("{name}: {key}"), why))?;
        Ok(policy)
    }

    /// What parses and would not do what its author means: a misspelt namespace would silently stay the host's.
    fn validate(&self) -> std::result::Result<(), (String, String)> {
        const NAMESPACES: [&str; 8] = ["user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time"];
        let wrong = |key: &str, why: String| Err((key.to_owned(), why));
        for ns in &self.namespaces.silent {
            if !NAMESPACES.contains(&ns.as_str()) {
                return wrong("namespaces.silent", format!("{ns:?} is not one of {}", NAMESPACES.join(", ")));
            }
        }
        for cap in self.capabilities.ceiling.iter().flatten() {
            if format!("CAP_{}", cap.trim_start_matches("CAP_")).parse::<caps::Capability>().is_err() {
                return wrong("capabilities.ceiling", format!("{cap:?} is not a capability"));
            }
        }
        for name in &self.unit_properties {
            if !crate::plan::unit::KNOWN.iter().any(|(known, _)| known == name) {
                return wrong("unitProperties", format!("{name:?} is not a property that stockade sets"));
            }
        }
        for limit in &self.limits.expected {
            if !["memory", "pids", "cpus"].contains(&limit.as_str()) {
                return wrong("limits.expected", format!("{limit:?} is not one of memory, pids, cpus"));
            }
        }
        if let Some(path) = self.host_paths.sensitive.iter().find(|p| !p.starts_with('/') && !p.starts_with("**/")) {
            return wrong("hostPaths.sensitive", format!("{path:?} begins neither with / nor with **/"));
        }
        for (limit, [soft, hard]) in &self.rlimits {
            if limit.parse::<oci_spec::runtime::PosixRlimitType>().is_err() {
                return wrong("rlimits", format!("{limit:?} is not a limit such as RLIMIT_NOFILE"));
            }
            if soft > hard {
                return wrong("rlimits", format!("{limit}: soft {soft} is above hard {hard}"));
            }
        }
        for (key, paths) in [("maskedPaths", &self.masked_paths), ("readonlyPaths", &self.readonly_paths)] {
            if let Some(path) = paths.iter().find(|p| !p.starts_with('/')) {
                return wrong(key, format!("{path:?} is not an absolute path"));
            }
        }
        for (key, limit) in [("limits.memory", self.limits.memory), ("limits.pids", self.limits.pids)] {
            if let Some(n) = limit.filter(|n| *n < 1) {
                return wrong(key, format!("{n} is not above 0; null is no limit"));
            }
        }
        match self.limits.cpus {
            Some(n) if !(0.01..=8192.0).contains(&n) => wrong("limits.cpus", format!("{n} is not from 0.01 to 8192")),
            _ => Ok(()),
        }
    }

    /// The policy of this invocation: the flag, then STOCKADE_POLICY, then the configuration file, then `strict`.
    pub fn choose(flag: Option<&str>) -> Result<Policy> {
        if let Some(name) = flag {
            return Self::load(name);
        }
        if let Some(name) = std::env::var_os("STOCKADE_POLICY").filter(|v| !v.is_empty()) {
            return Self::load(&name.to_string_lossy());
        }
        Self::load(Settings::read()?.policy.as_deref().unwrap_or("strict"))
    }
}

/// The configuration file: /etc/stockade/config.json, or for an ordinary user first ~/.config/stockade/config.json.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The policy's name or path.
    #[serde(default)]
    policy: Option<String>,
}

impl Settings {
    fn read() -> Result<Settings> {
        let mut places = Vec::new();
        if !nix::unistd::geteuid().is_root() {
            let dir = std::env::var_os("XDG_CONFIG_HOME")
                .map(std::path::PathBuf::from)
                .or_else(|| std::env::var_os("HOME").map(|h| std::path::Path::new(&h).join(".config")));
            places.extend(dir.map(|d| d.join("stockade/config.json")));
        }
        places.push("/etc/stockade/config.json".into());
        for place in places {
            let shown = place.display().to_string();
            match crate::host::read_small(&place, 1 << 20) {
                Ok(text) => {
                    return json::from_str(&text).map_err(|e| Error::new("configuration file", shown, e.to_string()));
                }
                Err(e) if matches!(e.errno(), Some(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR)) => {}
                Err(e) => return Err(Error { step: "configuration file".into(), ..e }),
            }
        }
        Ok(Settings::default())
    }
}

/// The JSON of a shipped policy, as it is in the binary.
pub fn shipped_text(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// Parses a size as people say it: `64m`, `1.5g`, `500M`, `4096`. Units are powers of 1024.
pub fn parse_size(text: &str) -> Result<i64> {
    let wrong = || {
        Error::new("size", text, "not a size").hint("a number with k, m, g or t behind it: 64m, 1.5g; -1 is no limit")
    };
    let lower = text.trim().to_ascii_lowercase();
    if lower == "-1" {
        return Ok(-1);
    }
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (digits, shift) = match lower.chars().last() {
        Some('k') => (&lower[..lower.len() - 1], 10),
        Some('m') => (&lower[..lower.len() - 1], 20),
        Some('g') => (&lower[..lower.len() - 1], 30),
        Some('t') => (&lower[..lower.len() - 1], 40),
        _ => (lower, 0),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let bytes = number * (1u64 << shift) as f64;
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !bytes.is_finite() || bytes >= 9e18 {
        return Err(wrong());
    }
    Ok(bytes as i64)
}

/// Parses a share of CPUs as people say it: `.5`, `1.5`, `2`.
pub fn parse_cpus(text: &str) -> Result<f64> {
    match text.trim().parse::<f64>() {
        Ok(n) if n.is_finite() && (0.01..=8192.0).contains(&n) => Ok(n),
        _ => Err(Error::new("cpus", text, "not a number of CPUs from 0.01 up").hint("half a CPU is .5")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_policies_parse() {
        for (name, _) in SHIPPED {
            assert_eq!(Policy::load(name).unwrap().name, name);
        }
    }

    #[test]
    fn a_file_extends_a_shipped_policy_key_by_key() {
        let text = r#"{"extends":"strict","name":"mine","limits":{"pids":7},"hooks":"allow"}"#;
        let mine = Policy::from_json(text, "mine.json").unwrap();
        let strict = Policy::load("strict").unwrap();
        assert_eq!(mine.limits.pids, Some(7));
        assert_eq!(mine.limits.memory, strict.limits.memory);
        assert_eq!(mine.hooks, Above::Allow);
    }

    #[test]
    fn a_wrong_policy_names_the_key() {
        let text = r#"{"extends":"strict","hooks":"maybe"}"#;
        let e = Policy::from_json(text, "mine.json").unwrap_err().to_string();
        assert!(e.contains("hooks") && e.contains("maybe"), "{e}");
        let e = Policy::from_json(r#"{"extends":"strict","hoks":"allow"}"#, "mine.json").unwrap_err().to_string();
        assert!(e.contains("hoks"), "{e}");
        // One that comes twice: which is meant?
        for (text, key) in [
            (r#"{"extends":"strict","hooks":"refuse","hooks":"allow"}"#, "hooks"),
            (r#"{"extends":"strict","limits":{"pids":7,"pids":null}}"#, "pids"),
            (r#"{"extends":"strict","extends":"oci"}"#, "extends"),
        ] {
            let e = Policy::from_json(text, "mine.json").unwrap_err().to_string();
            assert!(e.contains(key), "{text}: {e}");
        }
        assert!(Policy::load("moon").unwrap_err().to_string().contains("strict, engine, engine-build, oci"));
    }

    #[test]
    fn sizes_and_cpus_as_people_say_them() {
        assert_eq!(parse_size("64m").unwrap(), 64 << 20);
        assert_eq!(parse_size("1.5G").unwrap(), 3 << 29);
        assert_eq!(parse_size("500MiB").unwrap(), 500 << 20);
        assert_eq!(parse_size("4096").unwrap(), 4096);
        assert_eq!(parse_size("-1").unwrap(), -1);
        for bad in ["", "m", "-2", "1x", "inf", "nan", "1e30"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_cpus(".5").unwrap(), 0.5);
        for bad in ["0", "-1", "x", "inf", ""] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
    }
}
