//! Decide: the rows on a config.json, as a runtime would take it that adds nothing of its own.
//!
//! It reads the JSON and not a `Bundle`, because what no launch would take is to be audited, too. The ruler is a policy:
//! its ceilings, lists and limits say what is too much and what is missing, whatever it would do about it.

use super::rows::{ROWS, Row};
use super::ruler::sensitive;
use super::{Facts, Finding, Seen, Severity, Status, secrets, shorten};
use crate::bundle::Unknown;
use crate::cgroup::device;
use crate::error::{Error, Result};
use crate::namespaces::Seen as Found;
use crate::plan::attr;
use crate::plan::mounts::{beyond_masks, normal, standard, uncovered};
use crate::plan::options::Asked;
use crate::plan::step::{Attr, IdMap};
use crate::plan::{credentials, ids, limits, process, reach, resources, unit};
use crate::policy::Policy;
use crate::seccomp::{self, Verdict, syscalls};
use oci_spec::runtime::{LinuxResources, LinuxSeccomp, LinuxSeccompAction, Process};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// A config, and all that is known about it.
pub struct Subject<'a> {
    /// The JSON.
    pub config: &'a Value,
    /// What the bundle's own reader says of it: what is unknown, or why it takes none of it.
    pub read: &'a Result<Unknown>,
    /// The bundle's directory, absolute.
    pub dir: &'a Path,
    /// What was looked up.
    pub facts: &'a Facts,
    /// The measure: see [`super::ruler`].
    pub ruler: &'a Policy,
    mounts: OnceCell<Vec<Mount>>,
    seccomp: OnceCell<Option<LinuxSeccomp>>,
}

/// An entry of `mounts`, understood as far as possible.
struct Mount {
    index: usize,
    target: PathBuf,
    fstype: String,
    source: PathBuf,
    /// The source without links, of a bind.
    real: Option<PathBuf>,
    /// The daemon that listens there.
    socket: Option<PathBuf>,
    /// A raw disk is there.
    block: bool,
    bind: bool,
    asked: Asked,
    options: Vec<String>,
}

impl Mount {
    fn pointer(&self) -> String {
        format!("/mounts/{}", self.index)
    }

    fn readonly(&self) -> bool {
        self.asked.attr.top().0 & attr::RDONLY != 0
    }

    fn has(&self, flag: u64) -> bool {
        self.asked.attr.top().0 & flag != 0
    }

    /// The same options and some more, without those that contradict.
    fn options_with(&self, add: &[&str], without: &[&str]) -> Value {
        let mut options: Vec<&str> =
            self.options.iter().map(String::as_str).filter(|o| !without.contains(o) && !add.contains(o)).collect();
        options.extend(add);
        json!(options)
    }
}

const SETS: [&str; 5] = ["bounding", "effective", "permitted", "inheritable", "ambient"];
const LISTS: [&str; 4] = ["bounding", "effective", "permitted", "ambient"];
const SYS: [&str; 7] = ["SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "SYS_BOOT", "BPF", "DAC_READ_SEARCH"];

/// Calls that reach parts of the kernel that a container does not need: what to call it, its arguments.
const PROBES: [(&str, &str, [u64; 6]); 12] = [
    ("AF_PACKET", "socket", [17, 0, 0, 0, 0, 0]),
    ("AF_RXRPC", "socket", [33, 0, 0, 0, 0, 0]),
    ("AF_VSOCK", "socket", [40, 0, 0, 0, 0, 0]),
    ("bpf", "bpf", [0; 6]),
    ("keyctl", "keyctl", [0; 6]),
    ("io_uring_setup", "io_uring_setup", [0; 6]),
    ("unshare(CLONE_NEWUSER)", "unshare", [0x1000_0000, 0, 0, 0, 0, 0]),
    ("clone(CLONE_NEWUSER)", "clone", [0x1000_0000, 0, 0, 0, 0, 0]),
    ("mount", "mount", [0; 6]),
    ("init_module", "init_module", [0; 6]),
    ("kexec_load", "kexec_load", [0; 6]),
    ("ioctl(TIOCSTI)", "ioctl", [0, 0x5412, 0, 0, 0, 0]),
];
const AF_ALG: [u64; 6] = [38, 0, 0, 0, 0, 0];

/// Answers every row.
pub fn judge(subject: &Subject<'_>) -> Vec<Finding> {
    ROWS.iter().map(|row| subject.answer(row).of(row)).collect()
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn bits(names: &[String]) -> u64 {
    names.iter().filter_map(|n| n.parse::<caps::Capability>().ok()).fold(0, |all, cap| all | 1 << cap.index())
}

impl<'a> Subject<'a> {
    /// What is audited.
    pub fn new(
        config: &'a Value,
        read: &'a Result<Unknown>,
        dir: &'a Path,
        facts: &'a Facts,
        ruler: &'a Policy,
    ) -> Subject<'a> {
        Subject { config, read, dir, facts, ruler, mounts: OnceCell::new(), seccomp: OnceCell::new() }
    }

    fn answer(&self, row: &Row) -> Seen {
        match row.id {
            "CIS-5.2" => self.apparmor(),
            "CIS-5.3" => self.selinux(),
            "CIS-5.4" => self.capabilities(),
            "CIS-5.5" | "ST-3" => self.privileged(),
            "CIS-5.6" => self.sensitive(),
            "CIS-5.7" | "ST-9" => self.sshd(),
            "CIS-5.8" => self.ports(),
            "CIS-5.10" => self.namespace("network"),
            "CIS-5.11" => self.memory(),
            "CIS-5.12" => self.cpu(),
            "CIS-5.13" => self.readonly_root(),
            "CIS-5.16" => self.namespace("pid"),
            "CIS-5.17" => self.namespace("ipc"),
            "CIS-5.18" => self.devices(),
            "CIS-5.19" => self.rlimits(),
            "CIS-5.20" | "ST-13" => self.propagation(),
            "CIS-5.21" => self.namespace("uts"),
            "CIS-5.22" => self.filtered(),
            "CIS-5.23" | "CIS-5.24" => {
                Seen::info("a config says nothing of processes that are added later: audit the running container")
            }
            "CIS-5.25" => self.cgroup(),
            "CIS-5.26" => self.no_new_privileges(),
            "CIS-5.28" => self.image(),
            "CIS-5.29" => self.pids(),
            "CIS-5.31" | "ST-4" => self.user_namespace(),
            "CIS-5.32" | "ST-7" => self.daemon_sockets(),
            "ST-1" => Seen::all(vec![("memory", self.memory()), ("CPU", self.cpu())]),
            "ST-2" => self.needed_capabilities(),
            "ST-5" => self.volumes(),
            "ST-6" => self.user(),
            "ST-8" => self.recursive_readonly(),
            "ST-11" => Seen::all(vec![
                ("seccomp", self.filtered()),
                ("AppArmor", self.apparmor().severity(Severity::High)),
                ("SELinux", self.selinux().severity(Severity::High)),
            ]),
            "ST-12" => Seen::all(vec![
                ("network", self.namespace("network")),
                ("pid", self.namespace("pid")),
                ("ipc", self.namespace("ipc")),
            ]),
            "ST-14" => self.secrets(),
            "ST-15" => self.setuid(),
            "ST-16" => self.minimal(),
            "ST-17" => self.logged(),
            "ST-19" => self.allow_list(),
            "X-1" => self.namespace("cgroup"),
            "X-2" => self.namespace("time"),
            "X-3" => self.covered(),
            "X-4" => self.architectures(),
            "X-5" => self.af_alg(),
            "X-6" => self.hooks(),
            "X-7" => self.annotations(),
            "X-8" => cgroup_version(&self.facts.cgroup_v1),
            "X-9" => self.oom_score(),
            "X-10" => self.sysctls(),
            "X-11" => self.large_ids(),
            "X-12" => self.control_characters(),
            "X-13" => self.unknown(),
            "X-14" => self.fresh_dev(),
            "X-15" => self.fresh_proc(),
            "X-16" => self.well_formed(),
            "X-17" => self.joined(),
            "X-18" => self.types(),
            "X-19" => self.idmapped(),
            "X-20" => self.kernel_files(),
            "X-21" => self.share(),
            "X-22" => self.lent(),
            "X-23" => self.shm(),
            "X-24" => self.surface(),
            "X-25" => self.lifted(),
            "X-26" => self.namespace("mount"),
            _ => beyond_a_runtime(row.id),
        }
    }

    fn get(&self, pointer: &str) -> Option<&'a Value> {
        self.config.pointer(pointer).filter(|v| !v.is_null())
    }

    fn text(&self, pointer: &str) -> Option<&'a str> {
        self.get(pointer).and_then(Value::as_str).filter(|s| !s.is_empty())
    }

    fn list(&self, pointer: &str) -> &'a [Value] {
        self.get(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    fn parsed<T: DeserializeOwned>(&self, pointer: &str) -> Option<T> {
        self.get(pointer).and_then(|v| crate::json::from_value(v).ok())
    }

    fn mounts(&self) -> &[Mount] {
        self.mounts.get_or_init(|| {
            let understood = |(index, mount): (usize, &Value)| {
                let word = |key: &str| mount[key].as_str().unwrap_or_default().to_owned();
                let options = strings(mount.get("options"));
                let asked = Asked::read(index, &options).unwrap_or_default();
                let bind = asked.bind || word("type") == "bind";
                let source = self.dir.join(word("source"));
                let fact = self.facts.sources.iter().find(|s| s.path == source);
                let socket = || reach::daemon_socket(fact, &fact.map_or_else(|| normal(&source), |s| s.real.clone()));
                Mount {
                    index,
                    target: normal(Path::new(&word("destination"))),
                    fstype: word("type"),
                    socket: if bind { socket() } else { None },
                    block: bind && fact.is_some_and(|s| s.block),
                    real: bind.then(|| fact.map_or_else(|| normal(&source), |s| s.real.clone())),
                    source,
                    bind,
                    asked,
                    options,
                }
            };
            self.list("/mounts").iter().enumerate().map(understood).collect()
        })
    }

    fn seccomp(&self) -> Option<&LinuxSeccomp> {
        self.seccomp.get_or_init(|| self.parsed("/linux/seccomp")).as_ref()
    }

    /// The fix of every row on seccomp that fails.
    fn with_default_filter(&self, seen: Seen) -> Seen {
        let profile: Value = serde_json::from_str(seccomp::DEFAULT_PROFILE).unwrap_or_default();
        seen.set("/linux/seccomp", profile).at("/linux/seccomp")
    }

    fn capability_sets(&self) -> Option<Vec<(&'static str, Vec<String>)>> {
        let sets = self.get("/process/capabilities")?;
        Some(SETS.iter().map(|s| (*s, strings(sets.get(*s)))).collect())
    }

    /// The capabilities of a config that names some, within the ceiling; what is only inheritable goes.
    fn lowered(&self, allowed: u64) -> Value {
        let keep = |set: &&str| {
            let names = strings(self.config.pointer(&format!("/process/capabilities/{set}")));
            names.into_iter().filter(|n| bits(std::slice::from_ref(n)) & allowed != 0).collect::<Vec<_>>()
        };
        let ambient = keep(&"ambient");
        let mut sets: serde_json::Map<String, Value> =
            LISTS.iter().map(|s| ((*s).to_owned(), json!(keep(s)))).collect();
        // The kernel raises only what is inheritable, too (CVE-2022-29162 is what else inheritable ones do).
        sets.insert("inheritable".to_owned(), json!(ambient));
        sets.into()
    }

    fn ceiling(&self) -> u64 {
        credentials::ceiling(self.ruler).ok().flatten().unwrap_or(0)
    }

    fn apparmor(&self) -> Seen {
        let field = "/process/apparmorProfile";
        match self.text(field) {
            Some("unconfined") => Seen::fail("unconfined").at(field).remove(field).advice(self.profile_advice()),
            Some(profile) => Seen::pass(format!("profile {profile}")).at(field),
            None if !self.facts.apparmor => Seen::info("none, and AppArmor is not in force on this host"),
            None => Seen::fail("none, and AppArmor is in force on this host").at(field).advice(self.profile_advice()),
        }
    }

    fn profile_advice(&self) -> String {
        let profile = self.ruler.lsm.apparmor_default.as_deref().unwrap_or("one");
        format!("load {profile} with apparmor_parser (profiles/apparmor), and name it")
    }

    fn selinux(&self) -> Seen {
        let field = "/process/selinuxLabel";
        match self.text(field) {
            Some(label) => Seen::pass(format!("label {label}")).at(field),
            None if !self.facts.selinux => Seen::info("none, and SELinux is not in force on this host"),
            None => Seen::fail("none, and SELinux is in force on this host")
                .at(field)
                .advice("name a label of the policy for containers, such as system_u:system_r:container_t:s0:c1,c2"),
        }
    }

    fn capabilities(&self) -> Seen {
        let field = "/process/capabilities";
        let none = json!({ "bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": [] });
        let Some(sets) = self.capability_sets() else {
            return Seen::fail("not set: some runtimes then keep every capability")
                .at("/process")
                .set(field, none)
                .advice("say that none are wanted");
        };
        let allowed = self.ceiling();
        let asked = sets.iter().fold(0, |all, (_, names)| all | bits(names));
        let (inheritable, ambient) = (bits(&sets[3].1), bits(&sets[4].1));
        let beyond = credentials::names(asked & !allowed);
        if !beyond.is_empty() {
            let severe = beyond.iter().any(|n| SYS.contains(&n.as_str()));
            return Seen::fail(format!("beyond the ceiling of the policy: {}", beyond.join(" ")))
                .severity(if severe { Severity::Critical } else { Severity::Medium })
                .at(field)
                .set(field, self.lowered(allowed));
        }
        if inheritable & !ambient != 0 {
            let names = credentials::names(inheritable & !ambient).join(" ");
            return Seen::fail(format!("inheritable: {names}: a file with inheritable bits revives them"))
                .severity(Severity::Medium)
                .at(field)
                .set(field, self.lowered(allowed));
        }
        let names = credentials::names(asked).join(" ");
        Seen::pass(if names.is_empty() { "none".to_owned() } else { format!("within the ceiling: {names}") }).at(field)
    }

    fn needed_capabilities(&self) -> Seen {
        let seen = self.capabilities();
        if seen.status == Status::Fail {
            return seen.severity(Severity::High);
        }
        let asked = self.capability_sets().unwrap_or_default().iter().fold(0, |all, (_, names)| all | bits(names));
        match asked {
            0 => Seen::pass("none"),
            some => Seen::warn(format!("is each needed? {}", credentials::names(some).join(" ")))
                .at("/process/capabilities"),
        }
    }

    fn denies(&self) -> bool {
        self.seccomp().is_some_and(|p| {
            matches!(
                p.default_action(),
                LinuxSeccompAction::ScmpActKill
                    | LinuxSeccompAction::ScmpActKillProcess
                    | LinuxSeccompAction::ScmpActKillThread
                    | LinuxSeccompAction::ScmpActTrap
                    | LinuxSeccompAction::ScmpActErrno
                    | LinuxSeccompAction::ScmpActNotify
            )
        })
    }

    fn privileged(&self) -> Seen {
        let sets = self.capability_sets().unwrap_or_default();
        let bounding = sets.first().map_or(0, |(_, names)| bits(names));
        let rules: Vec<oci_spec::runtime::LinuxDeviceCgroup> =
            self.parsed("/linux/resources/devices").unwrap_or_default();
        let all = rules.iter().any(reach::is_every_device);
        let masked = !self.list("/linux/maskedPaths").is_empty();
        let Some(signs) = reach::signs(bounding, u64::MAX, self.denies(), masked, all) else {
            return Seen::pass("not every capability without a filter");
        };
        let seen = Seen::fail(format!("every capability, {}", signs.join(", ")))
            .at("/process/capabilities")
            .set("/process/capabilities", self.lowered(self.ceiling()));
        let mut seen = self.with_default_filter(seen);
        for part in [self.covered(), self.devices()] {
            seen.fixes.extend(part.fixes);
        }
        seen
    }

    fn namespace(&self, kind: &'static str) -> Seen {
        let field = "/linux/namespaces";
        let found = self.list(field).iter().enumerate().find(|(_, n)| n["type"] == kind);
        let Some((i, entry)) = found else {
            let seen = Seen::fail(format!("no {kind} namespace: the container is in the host's")).at(field);
            return seen.set(format!("{field}/-"), json!({ "type": kind }));
        };
        let at = format!("{field}/{i}");
        let Some(path) = entry["path"].as_str().filter(|p| !p.is_empty()) else {
            return Seen::pass("a new one").at(at);
        };
        let of_host = ["/proc/1/ns/", "/proc/self/ns/"].iter().any(|p| path.starts_with(p));
        let looked = self.facts.namespaces.iter().find(|n| n.path == Path::new(path)).map(|n| &n.seen);
        match looked {
            Some(Found::Namespace(facts)) if facts.ours => {
                Seen::fail(format!("{path} is the host's")).at(&at).remove(format!("{at}/path"))
            }
            _ if of_host => Seen::fail(format!("{path} is the host's")).at(&at).remove(format!("{at}/path")),
            Some(Found::Namespace(_)) => Seen::warn(format!("shared with {path}")).at(at),
            _ => Seen::warn(format!("shared with {path}, where nothing is now")).at(at),
        }
    }

    fn joined(&self) -> Seen {
        let field = "/linux/namespaces";
        let mut seen = Vec::new();
        for (i, entry) in self.list(field).iter().enumerate() {
            if let Some(path) = entry["path"].as_str().filter(|p| !p.is_empty()) {
                seen.push((format!("{field}/{i}"), format!("{} of {path}", entry["type"].as_str().unwrap_or("?"))));
            }
        }
        let wrong: Vec<String> = seen.iter().map(|(_, s)| s.clone()).collect();
        let mut answer = Seen::unless(&wrong, "every namespace is new");
        for (at, _) in seen {
            answer = answer.at(&at).remove(format!("{at}/path"));
        }
        answer
    }

    fn resources(&self) -> std::result::Result<Vec<resources::Wanted>, Error> {
        let asked: LinuxResources = match self.get("/linux/resources") {
            None => LinuxResources::default(),
            Some(v) => {
                crate::json::from_value(v).map_err(|e| Error::new("config.json", "linux.resources", e.to_string()))?
            }
        };
        resources::asked(&asked)
    }

    /// What a file of the cgroup would get, where that is a limit.
    fn limit(&self, file: &str) -> std::result::Result<Option<String>, Error> {
        let value = self.resources()?.into_iter().rev().find(|w| w.file == file).map(|w| w.value);
        Ok(value.filter(|v| !v.starts_with("max")))
    }

    fn limited(&self, file: &str, field: &str, value: Option<Value>) -> Seen {
        match self.limit(file) {
            Ok(Some(limit)) => Seen::pass(format!("{file}={limit}")).at(field),
            Ok(None) => match value {
                Some(value) => Seen::fail(format!("no {file}")).at(field).set(field, value),
                None => Seen::fail(format!("no {file}")).at(field),
            },
            Err(e) => Seen::fail(e.to_string()).at("/linux/resources"),
        }
    }

    fn memory(&self) -> Seen {
        let limit = self.ruler.limits.memory;
        let seen = self.limited("memory.max", "/linux/resources/memory/limit", limit.map(Value::from));
        match seen.status {
            // Memory and swap together: no more than the memory is no swap.
            Status::Fail if !seen.fixes.is_empty() => {
                let swap = limit.map_or(Value::Null, Value::from);
                seen.set("/linux/resources/memory/swap", swap)
            }
            Status::Pass if matches!(self.limit("memory.swap.max"), Ok(None)) => {
                Seen::warn(format!("{}, and swap has no limit", seen.seen)).at("/linux/resources/memory")
            }
            _ => seen,
        }
    }

    fn cpu(&self) -> Seen {
        if let Ok(Some(weight)) = self.limit("cpu.weight") {
            return Seen::pass(format!("cpu.weight={weight}")).at("/linux/resources/cpu/shares");
        }
        let field = "/linux/resources/cpu/quota";
        let quota = self.ruler.limits.cpus.map(|cpus| (cpus * 100_000.0).round() as u64);
        let seen = self.limited("cpu.max", field, quota.map(Value::from));
        let unset = seen.status == Status::Fail && !seen.fixes.is_empty();
        if unset { seen.set("/linux/resources/cpu/period", 100_000.into()) } else { seen }
    }

    fn pids(&self) -> Seen {
        self.limited("pids.max", "/linux/resources/pids/limit", self.ruler.limits.pids.map(Value::from))
    }

    fn readonly_root(&self) -> Seen {
        let field = "/root/readonly";
        match self.get(field) {
            Some(Value::Bool(true)) => Seen::pass("read-only").at(field),
            _ => Seen::fail("writable: the image can be changed from inside").at(field).set(field, true.into()),
        }
    }

    fn volumes(&self) -> Seen {
        let root = self.readonly_root();
        let writable: Vec<String> = self
            .mounts()
            .iter()
            .filter(|m| m.bind && !m.readonly())
            .map(|m| format!("{} on {}", m.source.display(), m.target.display()))
            .collect();
        if root.status == Status::Fail || writable.is_empty() {
            return root;
        }
        Seen::warn(format!("read-only root; writable: {}", shorten(&writable))).at("/mounts")
    }

    fn own(&self, source: &Path) -> bool {
        source != self.dir && source.starts_with(self.dir)
            || self.ruler.host_paths.allowed.iter().any(|p| source.starts_with(normal(p)))
    }

    fn sensitive(&self) -> Seen {
        let (mut wrong, mut shown, mut at, mut writable) = (Vec::new(), Vec::new(), Vec::new(), false);
        for mount in self.mounts() {
            let Some(source) = mount.real.as_deref().filter(|s| !self.own(s)) else { continue };
            // The host's /sys on /sys, read-only, is what a container without a network namespace has.
            let sysfs = source == Path::new("/sys") && mount.target == Path::new("/sys") && mount.readonly();
            match sensitive(self.ruler, source).filter(|_| !sysfs) {
                None => {}
                Some((dir, false)) if mount.readonly() => {
                    shown.push(format!("{} is of {dir}, read-only", source.display()));
                }
                Some((dir, _)) => {
                    let mode = if mount.readonly() { "read-only" } else { "writable" };
                    writable |= !mount.readonly();
                    wrong.push(format!("{} shows {dir}, {mode}", source.display()));
                    at.push(mount.pointer());
                }
            }
        }
        let root = self.text("/root/path").map(|r| self.dir.join(r));
        let root = root.map(|r| self.facts.sources.iter().find(|s| s.path == r).map_or(normal(&r), |s| s.real.clone()));
        if let Some(root) = root.filter(|r| !self.own(r))
            && let Some((dir, _)) = sensitive(self.ruler, &root)
        {
            wrong.push(format!("the root file system {} is of {dir}", root.display()));
            at.push("/root/path".to_owned());
            writable |= self.get("/root/readonly") != Some(&Value::Bool(true));
        }
        if wrong.is_empty() && !shown.is_empty() {
            return Seen::warn(shorten(&shown)).at("/mounts");
        }
        let mut seen = Seen::unless(&wrong, "none");
        if !wrong.is_empty() {
            seen = seen.severity(if writable { Severity::High } else { Severity::Medium });
        }
        for pointer in at {
            let fixable = pointer != "/root/path";
            seen = seen.at(&pointer);
            if fixable {
                seen = seen.remove(pointer);
            }
        }
        seen
    }

    fn daemon_sockets(&self) -> Seen {
        let shows =
            |m: &Mount| Some((m.pointer(), format!("{} shows {}", m.source.display(), m.socket.as_ref()?.display())));
        let found: Vec<(String, String)> = self.mounts().iter().filter_map(shows).collect();
        let wrong: Vec<String> = found.iter().map(|(_, s)| s.clone()).collect();
        found.into_iter().fold(Seen::unless(&wrong, "none"), |seen, (at, _)| seen.at(&at).remove(at))
    }

    fn sshd(&self) -> Seen {
        let program = self.text("/process/args/0").unwrap_or_default();
        match Path::new(program).file_name().is_some_and(|n| n == "sshd") {
            true => Seen::fail(format!("{program} is what runs"))
                .at("/process/args/0")
                .advice("run the service itself, and enter with `stockade exec`"),
            false => Seen::pass("the process is no sshd"),
        }
    }

    fn ports(&self) -> Seen {
        match self.text("/linux/sysctl/net.ipv4.ip_unprivileged_port_start") {
            Some(port) => Seen::info(format!("ports from {port} on need no capability"))
                .at("/linux/sysctl/net.ipv4.ip_unprivileged_port_start"),
            None => Seen::info("ports are mapped by an engine, not by a runtime"),
        }
    }

    fn device_rules(&self) -> Vec<(usize, device::Rule)> {
        let each = self.list("/linux/resources/devices").iter().enumerate();
        each.filter_map(|(i, v)| {
            let rule = crate::json::from_value(v).ok()?;
            Some((i, device::from_oci(std::slice::from_ref(&rule)).ok()?.into_iter().next()?))
        })
        .collect()
    }

    fn devices(&self) -> Seen {
        let defaults = device::defaults();
        // A node may be made, as long as it cannot be opened.
        let within = |rule: &device::Rule| {
            let known = |d: &device::Rule| {
                d.kind == rule.kind && d.major == rule.major && (d.minor.is_none() || d.minor == rule.minor)
            };
            device::Access::MKNOD.contains(rule.access) || defaults.iter().any(known)
        };
        let (mut wrong, mut gone) = (Vec::new(), Vec::new());
        for (i, node) in self.list("/linux/devices").iter().enumerate() {
            let number = |key: &str| node[key].as_u64().and_then(|n| u32::try_from(n).ok());
            let kind = node["type"].as_str().unwrap_or_default();
            let known = matches!(kind, "c" | "u")
                && defaults
                    .iter()
                    .any(|d| d.major == number("major") && (d.minor.is_none() || d.minor == number("minor")));
            if !known && kind != "p" {
                let path = node["path"].as_str().unwrap_or("?");
                let numbers = format!("{}:{}", node["major"], node["minor"]);
                wrong.push(format!("{path} ({kind} {numbers})"));
                gone.push(format!("/linux/devices/{i}"));
            }
        }
        for (i, rule) in self.device_rules() {
            if rule.allow && !within(&rule) {
                wrong.push(format!("rule {rule}"));
                gone.push(format!("/linux/resources/devices/{i}"));
            }
        }
        for mount in self.mounts() {
            let node = |s: &Path| s.starts_with("/dev") && s != Path::new("/dev");
            if mount.block || mount.real.as_deref().is_some_and(node) {
                wrong.push(format!("{} on {}", mount.source.display(), mount.target.display()));
                gone.push(mount.pointer());
            }
        }
        gone.into_iter()
            .fold(Seen::unless(&wrong, "the specification's own devices"), |seen, at| seen.at(&at).remove(at))
    }

    fn rlimits(&self) -> Seen {
        let field = "/process/rlimits";
        let set = self.list(field);
        let find = |name: &str| set.iter().enumerate().find(|(_, l)| l["type"] == name);
        let (mut wrong, mut seen) = (Vec::new(), Seen::pass("set"));
        for (name, [soft, hard]) in &self.ruler.rlimits {
            match find(name) {
                Some((i, limit)) if *hard == 0 && limit["hard"].as_u64() != Some(0) => {
                    wrong.push(format!("{name} is not 0"));
                    seen = seen.set(format!("{field}/{i}"), json!({ "type": name, "soft": 0, "hard": 0 }));
                }
                Some(_) => {}
                None => {
                    wrong.push(format!("no {name}"));
                    seen = seen.set(format!("{field}/-"), json!({ "type": name, "soft": soft, "hard": hard }));
                }
            }
        }
        // A limit of the cgroup counts better: RLIMIT_NPROC counts all processes of an id.
        let pids = self.pids();
        if find("RLIMIT_NPROC").is_none() && pids.status != Status::Pass {
            wrong.push("neither RLIMIT_NPROC nor a limit of processes".to_owned());
            seen.fixes.extend(pids.fixes);
        }
        let mut answer = Seen::unless(&wrong, "set").at(field);
        answer.fixes = seen.fixes;
        answer
    }

    fn propagation(&self) -> Seen {
        let (mut wrong, mut seen) = (Vec::new(), Seen::pass(""));
        let shared = |word: &str| word.contains("shared");
        let mut travels_out = false;
        if let Some(word) = self.text("/linux/rootfsPropagation")
            && (shared(word) || word.contains("slave"))
        {
            wrong.push(format!("the root is {word}"));
            travels_out |= shared(word);
            seen = seen.at("/linux/rootfsPropagation").set("/linux/rootfsPropagation", "private".into());
        }
        for mount in self.mounts() {
            if let Some((_, word)) = &mount.asked.connected {
                wrong.push(format!("{} is {word}", mount.target.display()));
                travels_out |= shared(word);
                let words = ["shared", "rshared", "slave", "rslave"];
                seen = seen
                    .at(format!("{}/options", mount.pointer()))
                    .set(format!("{}/options", mount.pointer()), mount.options_with(&["rprivate"], &words));
            }
        }
        let mut answer = Seen::unless(&wrong, "private");
        if !wrong.is_empty() {
            // One way only: what the host mounts appears inside.
            answer = answer.severity(if travels_out { Severity::High } else { Severity::Medium });
        }
        (answer.at, answer.fixes) = (seen.at, seen.fixes);
        answer
    }

    fn filtered(&self) -> Seen {
        let field = "/linux/seccomp";
        match (self.get(field), self.seccomp()) {
            (None, _) => self.with_default_filter(Seen::fail("no profile: every system call is allowed")),
            (Some(_), None) => self.with_default_filter(Seen::fail("a profile that nobody can read")),
            (Some(_), Some(profile)) if !self.denies() => {
                let action = self.text("/linux/seccomp/defaultAction").unwrap_or_default();
                let named = profile.syscalls().as_ref().map_or(0, Vec::len);
                self.with_default_filter(Seen::fail(format!("{action} for all but what {named} entries name")))
            }
            _ => Seen::pass(format!("{} by default", self.text("/linux/seccomp/defaultAction").unwrap_or("denied")))
                .at(field),
        }
    }

    fn allow_list(&self) -> Seen {
        let field = "/linux/seccomp";
        if self.get(field).is_none() {
            return Seen::info("no profile: see CIS-5.22");
        }
        let old = self.list("/linux/seccomp/syscalls").iter().position(|s| s.get("name").is_some());
        if let Some(i) = old {
            return Seen::fail("an entry has the old key \"name\", which the specification replaced by the list \"names\": it names nothing")
                .at(format!("{field}/syscalls/{i}"))
                .advice("write \"names\": [\"...\"]");
        }
        if !self.denies() {
            return self
                .with_default_filter(Seen::fail("allowed is what it does not name, so every new system call is"));
        }
        Seen::pass("denied is what it does not name").at(field)
    }

    fn architectures(&self) -> Seen {
        let field = "/linux/seccomp/architectures";
        if self.seccomp().is_none() {
            return Seen::info("no profile: see CIS-5.22");
        }
        let native = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
        let others: Vec<String> =
            self.list(field).iter().filter_map(Value::as_str).filter(|a| *a != native).map(str::to_owned).collect();
        let seen = Seen::unless(&others, "this one").at(field);
        if others.is_empty() { seen } else { seen.set(field, json!([native])) }
    }

    /// Whether the profile lets a call through, on any architecture that it lists.
    fn permits(&self, name: &str, args: [u64; 6]) -> bool {
        let Some(profile) = self.seccomp() else { return true };
        let call = syscalls::Syscall::named(name);
        // Low 32 bits are what the kernel looks at: bit 32 must not open what is closed without it.
        let wide = [args[0] | 1 << 32, args[1], args[2], args[3], args[4], args[5]];
        [syscalls::Abi::NATIVE, syscalls::Abi::I386].into_iter().any(|abi| {
            let Some(number) = call.and_then(|c| c.number(abi)) else { return false };
            let forms: &[[u64; 6]] =
                if name == "socket" && abi == syscalls::Abi::NATIVE { &[args, wide] } else { &[args] };
            forms.iter().any(|a| seccomp::verdict(profile, abi.audit(), number, *a).permits())
        })
    }

    fn af_alg(&self) -> Seen {
        // A socketcall hides its family behind a pointer.
        let hidden = self.seccomp().is_some() && {
            let i386 = syscalls::Abi::I386;
            let number = syscalls::Syscall::named("socketcall").and_then(|c| c.number(i386));
            let verdict = |n| self.seccomp().map(|p| seccomp::verdict(p, i386.audit(), n, [1, 0, 0, 0, 0, 0]));
            number.and_then(verdict).is_some_and(Verdict::permits)
        };
        if hidden {
            let seen = Seen::fail("through socketcall of the 32-bit architecture, whose arguments no filter sees");
            return self.with_default_filter(seen);
        }
        match self.permits("socket", AF_ALG) {
            true => self.with_default_filter(Seen::fail("socket(AF_ALG) is allowed (CVE-2026-31431)")),
            false => Seen::pass("socket(AF_ALG) is denied"),
        }
    }

    fn surface(&self) -> Seen {
        if self.seccomp().is_none() {
            return self.with_default_filter(Seen::fail("all of it, without a profile"));
        }
        let open: Vec<String> =
            PROBES.iter().filter(|(_, call, args)| self.permits(call, *args)).map(|(n, ..)| (*n).to_owned()).collect();
        match open.is_empty() {
            true => Seen::pass("as far as it was asked"),
            false => self.with_default_filter(Seen::fail(format!("allowed: {}", open.join(" ")))),
        }
    }

    fn logged(&self) -> Seen {
        let field = "/linux/seccomp/flags";
        if self.get("/linux/seccomp").is_none() {
            return Seen::info("no profile: see CIS-5.22");
        }
        let mut flags = strings(self.get(field));
        let flag = "SECCOMP_FILTER_FLAG_LOG";
        if flags.iter().any(|f| f == flag) {
            return Seen::pass(flag).at(field);
        }
        flags.push(flag.to_owned());
        Seen::fail("denials are not logged").at(field).set(field, json!(flags))
    }

    fn cgroup(&self) -> Seen {
        let field = "/linux/cgroupsPath";
        let Some(path) = self.text(field) else { return Seen::pass("the runtime chooses") };
        let up = Path::new(path).components().any(|c| c == std::path::Component::ParentDir);
        let top = path.trim_matches('/').is_empty();
        if up || top {
            let why = if up { "leads upwards" } else { "is the root of the hierarchy" };
            return Seen::fail(format!("{path:?} {why}")).at(field).remove(field);
        }
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        match path.starts_with('/')
            && ["init.scope", "system.slice", "user.slice"].contains(&first)
            && path.trim_matches('/') == first
        {
            true => Seen::fail(format!("{path:?} is the host's own")).at(field).remove(field),
            false => Seen::pass(path).at(field),
        }
    }

    fn no_new_privileges(&self) -> Seen {
        let field = "/process/noNewPrivileges";
        match self.get(field) {
            Some(Value::Bool(true)) => Seen::pass("set").at(field),
            _ => Seen::fail("not set: a setuid program of the image is a way up").at(field).set(field, true.into()),
        }
    }

    fn image(&self) -> Seen {
        let field = "/annotations/org.opencontainers.image.ref.name";
        match self.text(field) {
            Some(name) => Seen::info(format!("the image is said to be {name}")).at(field),
            None => beyond_a_runtime("CIS-5.28"),
        }
    }

    fn maps(&self, field: &str) -> Vec<IdMap> {
        let maps: Vec<oci_spec::runtime::LinuxIdMapping> = self.parsed(field).unwrap_or_default();
        ids::from_oci(&maps)
    }

    fn user_namespace(&self) -> Seen {
        let new = self.namespace("user");
        if new.status != Status::Pass {
            return new;
        }
        let both = [self.maps("/linux/uidMappings"), self.maps("/linux/gidMappings")];
        match both.iter().find_map(|m| ids::of_host_users(m)) {
            Some(map) => Seen::fail(format!("host id {} is {} inside", map.outside, map.inside))
                .at("/linux/uidMappings")
                .remove("/linux/uidMappings")
                .remove("/linux/gidMappings"),
            None if both[0].is_empty() => {
                Seen::pass("a new one, and the runtime chooses the ids").at("/linux/namespaces")
            }
            None => Seen::pass("mapped to ordinary ids").at("/linux/uidMappings"),
        }
    }

    fn user(&self) -> Seen {
        let field = "/process/user/uid";
        match self.get(field).and_then(Value::as_u64) {
            Some(uid) if uid != 0 => Seen::pass(format!("uid {uid}")).at(field),
            _ => {
                let mapped = self.user_namespace();
                match mapped.status {
                    Status::Pass => Seen::pass(format!("uid 0, {}", mapped.seen)).at(field),
                    _ => Seen { seen: format!("uid 0, and {}", mapped.seen), ..mapped }.at(field),
                }
            }
        }
    }

    fn recursive_readonly(&self) -> Seen {
        let (mut wrong, mut seen) = (Vec::new(), Seen::pass(""));
        for mount in self.mounts().iter().filter(|m| m.asked.recursive && m.readonly()) {
            if mount.asked.attr.set_below & attr::RDONLY == 0 {
                wrong.push(format!("what is mounted below {} stays writable", mount.source.display()));
                let at = format!("{}/options", mount.pointer());
                seen = seen.at(&at).set(at, mount.options_with(&["rro"], &["ro"]));
            }
        }
        let mut answer = Seen::unless(&wrong, "no read-only bind leaves what is below it writable");
        (answer.at, answer.fixes) = (seen.at, seen.fixes);
        answer
    }

    fn secrets(&self) -> Seen {
        let (mut wrong, mut at) = (Vec::new(), Vec::new());
        for (i, entry) in self.list("/process/env").iter().enumerate() {
            let Some(entry) = entry.as_str() else { continue };
            if let Some(why) = secrets::suspicious(entry) {
                let name = entry.split('=').next().unwrap_or_default();
                wrong.push(format!("{name}: {why} (the value is hidden)"));
                at.push(format!("/process/env/{i}"));
            }
        }
        let seen = at.into_iter().fold(Seen::unless(&wrong, "none"), |seen, at| seen.at(&at).remove(at));
        if wrong.is_empty() { seen } else { seen.advice("use --secret: it is a file in memory, and in no record") }
    }

    fn setuid(&self) -> Seen {
        let Some(walk) = &self.facts.walk else { return Seen::info("the root file system was not looked at") };
        let mut found: Vec<String> = walk.setuid.iter().map(|p| format!("{p} is setuid or setgid")).collect();
        found.extend(walk.capable.iter().map(|p| format!("{p} has capabilities")));
        let inert = self.no_new_privileges();
        let entries = format!("{} entries", walk.entries);
        match (&walk.cut, found.is_empty()) {
            (_, false) if inert.status == Status::Pass => {
                Seen::warn(format!("{}; without effect under noNewPrivileges", shorten(&found)))
            }
            (_, false) => Seen { seen: shorten(&found), ..inert }.advice("or remove the bits from the image"),
            (Some(why), true) => Seen::info(format!("none in {entries}, and {why}")),
            (None, true) => Seen::pass(format!("none in {entries}")),
        }
    }

    fn minimal(&self) -> Seen {
        match &self.facts.walk {
            None => Seen::info("the root file system was not looked at"),
            Some(walk) => {
                let tools = if walk.tools.is_empty() { "none".to_owned() } else { shorten(&walk.tools) };
                let more = walk.cut.as_ref().map_or_else(String::new, |why| format!("; {why}"));
                Seen::info(format!("{} entries; shells and compilers: {tools}{more}", walk.entries))
            }
        }
    }

    fn covered(&self) -> Seen {
        let (mut wrong, mut seen) = (Vec::new(), Seen::pass(""));
        for (key, floor) in [("maskedPaths", &self.ruler.masked_paths), ("readonlyPaths", &self.ruler.readonly_paths)] {
            let field = format!("/linux/{key}");
            let mut asked = strings(self.get(&field));
            let missing = uncovered(&asked, floor);
            if !missing.is_empty() {
                wrong.extend(missing.iter().map(|p| format!("{p} not in {key}")));
                asked.extend(missing);
                seen = seen.at(&field).set(field, json!(asked));
            }
        }
        let mut answer = Seen::unless(&wrong, "all that the policy covers");
        (answer.at, answer.fixes) = (seen.at, seen.fixes);
        answer
    }

    fn hooks(&self) -> Seen {
        let all = self.get("/hooks").and_then(Value::as_object);
        let mut wrong = Vec::new();
        for (kind, list) in all.into_iter().flatten() {
            for (i, hook) in list.as_array().into_iter().flatten().enumerate() {
                let path = hook["path"].as_str().unwrap_or("?");
                let pointer = format!("/hooks/{kind}/{i}");
                let open = self.facts.open_hooks.iter().find(|(p, _)| *p == pointer);
                let more = open.map_or_else(String::new, |(_, why)| format!(", and {why}"));
                wrong.push(format!("{kind} runs {path} on the host{more}"));
            }
        }
        let seen = Seen::unless(&wrong, "none");
        match (wrong.is_empty(), self.facts.open_hooks.is_empty()) {
            (true, _) => seen,
            (false, true) => seen.at("/hooks").remove("/hooks"),
            (false, false) => seen.at("/hooks").remove("/hooks").severity(Severity::Critical),
        }
    }

    fn annotations(&self) -> Seen {
        let all = self.get("/annotations").and_then(Value::as_object);
        let names: Vec<&String> = all.into_iter().flatten().map(|(k, _)| k).collect();
        steering(names.into_iter().map(String::as_str), &self.ruler.unit_properties, true)
    }

    fn oom_score(&self) -> Seen {
        let field = "/process/oomScoreAdj";
        match self.get(field).and_then(Value::as_i64) {
            Some(n) if n < 0 => {
                Seen::fail(format!("{n}: other processes of the host die in its place")).at(field).set(field, 0.into())
            }
            Some(n) => Seen::pass(n.to_string()).at(field),
            None => Seen::pass("as the runtime's own"),
        }
    }

    fn sysctls(&self) -> Seen {
        let (mut wrong, mut gone) = (Vec::new(), Vec::new());
        for (key, _) in self.get("/linux/sysctl").and_then(Value::as_object).into_iter().flatten() {
            let name = limits::sysctl_name(key);
            let why = match limits::sysctl_namespace(&name) {
                None => "the host's, or of no namespace",
                Some(ns) if self.namespace(ns.name()).status != Status::Pass => "of a namespace that is not its own",
                Some(_) => continue,
            };
            wrong.push(format!("{key} is {why}"));
            gone.push(format!("/linux/sysctl/{}", escaped(key)));
        }
        let good = "each is of a namespace of the container's own";
        gone.into_iter().fold(Seen::unless(&wrong, good), |seen, at| seen.at(&at).remove(at))
    }

    fn large_ids(&self) -> Seen {
        let mut fields = vec!["/process/user/uid".to_owned(), "/process/user/gid".to_owned()];
        fields.extend(
            (0..self.list("/process/user/additionalGids").len()).map(|i| format!("/process/user/additionalGids/{i}")),
        );
        let mut seen = Vec::new();
        for field in fields {
            let Some(value) = self.get(&field) else { continue };
            // What is no number at all is the row about well-formed configs'.
            if value.is_number() && value.as_u64().is_none_or(|n| n >= 1 << 31) {
                seen.push((format!("{field} is {value}"), field));
            }
        }
        let wrong: Vec<String> = seen.iter().map(|(s, _)| s.clone()).collect();
        let answer = seen.into_iter().fold(Seen::unless(&wrong, "so they are"), |a, (_, at)| a.at(at));
        if wrong.is_empty() { answer } else { answer.advice("name an id that exists: such a number wraps to another") }
    }

    fn control_characters(&self) -> Seen {
        fn walk(value: &Value, pointer: &str, found: &mut Vec<(String, &'static str)>) {
            match value {
                Value::String(s) if s.contains('\0') => found.push((pointer.to_owned(), "a NUL")),
                // In an environment, HOME is what others copy into their passwd (CVE-2022-4318).
                Value::String(s) if s.contains('\n') => {
                    let free =
                        ["/process/args/", "/process/env/", "/annotations/"].iter().any(|p| pointer.starts_with(p));
                    if !free || s.starts_with("HOME=") {
                        found.push((pointer.to_owned(), "a newline"));
                    }
                }
                Value::Array(items) => {
                    items.iter().enumerate().for_each(|(i, v)| walk(v, &format!("{pointer}/{i}"), found));
                }
                Value::Object(map) => {
                    for (key, value) in map {
                        let pointer = format!("{pointer}/{}", escaped(key));
                        if key.contains('\0') {
                            found.push((pointer.clone(), "a NUL in its name"));
                        }
                        walk(value, &pointer, found);
                    }
                }
                _ => {}
            }
        }
        let mut found = Vec::new();
        walk(self.config, "", &mut found);
        let wrong: Vec<String> = found.iter().map(|(p, what)| format!("{p} has {what}")).collect();
        found.into_iter().fold(Seen::unless(&wrong, "none"), |seen, (at, _)| seen.at(at))
    }

    fn unknown(&self) -> Seen {
        let Ok(unknown) = self.read else { return Seen::info("a config that is not well-formed: see X-16") };
        let mut wrong: Vec<String> = unknown.fields.clone();
        wrong.extend(unknown.capabilities.iter().map(|(field, name)| format!("{name} in {field}")));
        let pointers = unknown.fields.iter().map(|f| format!("/{}", f.replace(['[', '.'], "/").replace(']', "")));
        let there: Vec<String> = pointers.filter(|p| self.config.pointer(p).is_some()).collect();
        there.into_iter().fold(Seen::unless(&wrong, "each is"), |seen, at| seen.at(&at).remove(at))
    }

    /// The standard mount of a place, as an entry of `mounts`.
    fn standard(target: &str) -> Value {
        let found = standard().into_iter().find(|(t, ..)| *t == target);
        found.map_or(Value::Null, |(target, fstype, set, data)| {
            let mut options: Vec<String> = Attr::set(set).words().split(',').map(str::to_owned).collect();
            options.extend(data.into_iter().map(|(k, v)| if v.is_empty() { k } else { format!("{k}={v}") }));
            json!({ "destination": target, "type": fstype, "source": fstype, "options": options })
        })
    }

    fn fresh(&self, target: &str, types: &[&str]) -> Option<bool> {
        // The last one there is what is seen.
        let last = self.mounts().iter().rfind(|m| m.target == Path::new(target))?;
        Some(!last.bind && types.contains(&last.fstype.as_str()))
    }

    fn fresh_dev(&self) -> Seen {
        match self.fresh("/dev", &["tmpfs", "devtmpfs"]) {
            Some(true) if self.mounts().iter().any(|m| m.target == Path::new("/dev") && m.fstype == "devtmpfs") => {
                Seen::fail("a devtmpfs: it is the host's").at("/mounts")
            }
            Some(true) => Seen::pass("a tmpfs"),
            Some(false) => Seen::fail("what is bound there is the host's").at("/mounts"),
            None => {
                // Behind what it may lie in, before what may lie in it.
                let seen =
                    Seen::fail("the image's directory, and runtimes make nodes in it (CVE-2026-41579)").at("/mounts");
                ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]
                    .iter()
                    .filter(|t| self.fresh(t, &[]).is_none())
                    .fold(seen, |seen, t| seen.set("/mounts/-", Self::standard(t)))
            }
        }
    }

    fn fresh_proc(&self) -> Seen {
        let labelled = self.text("/process/apparmorProfile").or(self.text("/process/selinuxLabel")).is_some();
        match (self.fresh("/proc", &["proc"]), labelled) {
            (Some(true), _) => Seen::pass("a procfs of its own"),
            (_, false) => Seen::info("no label is asked for"),
            (Some(false), true) => {
                Seen::fail("what is on /proc is no procfs of its own (CVE-2019-16884)").at("/mounts")
            }
            (None, true) => Seen::fail("nothing is mounted on /proc (CVE-2019-16884)")
                .at("/mounts")
                .set("/mounts/-", Self::standard("/proc")),
        }
    }

    fn well_formed(&self) -> Seen {
        match self.read {
            Ok(_) => Seen::pass("it is"),
            // The text of an error has what was given, and an environment may hold a secret.
            Err(e) if e.subject.starts_with("process.env") => Seen::fail(format!("{} is wrong", e.subject)),
            Err(e) => Seen::fail(e.to_string()),
        }
    }

    fn types(&self) -> Seen {
        let Some(types) = &self.ruler.mounts.types else { return Seen::info("the policy knows no usual types") };
        let strange = |m: &&Mount| !m.bind && !types.contains(&m.fstype);
        let found: Vec<&Mount> = self.mounts().iter().filter(strange).collect();
        let wrong: Vec<String> = found.iter().map(|m| format!("{} on {}", m.fstype, m.target.display())).collect();
        found.into_iter().fold(Seen::unless(&wrong, "so they are"), |seen, m| seen.at(m.pointer()).remove(m.pointer()))
    }

    fn idmapped(&self) -> Seen {
        let mapped = |m: &&Mount| {
            m.asked.idmap
                || ["uidMappings", "gidMappings"].iter().any(|k| self.get(&format!("{}/{k}", m.pointer())).is_some())
        };
        let found: Vec<&Mount> = self.mounts().iter().filter(mapped).collect();
        let wrong: Vec<String> =
            found.iter().map(|m| format!("{}: root inside is its owner", m.source.display())).collect();
        found.into_iter().fold(Seen::unless(&wrong, "none"), |seen, m| {
            let at = m.pointer();
            seen.at(&at)
                .set(format!("{at}/options"), m.options_with(&[], &["idmap", "ridmap"]))
                .remove(format!("{at}/uidMappings"))
                .remove(format!("{at}/gidMappings"))
        })
    }

    fn kernel_files(&self) -> Seen {
        let strange = |m: &&Mount| beyond_masks(&m.fstype, m.real.as_deref(), &m.target);
        let found: Vec<&Mount> = self.mounts().iter().filter(strange).collect();
        let wrong: Vec<String> = found.iter().map(|m| format!("on {}", m.target.display())).collect();
        found.into_iter().fold(Seen::unless(&wrong, "so they are"), |seen, m| seen.at(m.pointer()).remove(m.pointer()))
    }

    fn share(&self) -> Seen {
        let Some(process) = self.parsed::<Process>("/process") else {
            return Seen::info("a process that is not well-formed: see X-16");
        };
        let refusals = process::beyond_share(&process);
        let wrong: Vec<String> = refusals.iter().map(|e| format!("{}: {}", e.subject, e.why)).collect();
        let fields: Vec<String> = ["/process/scheduler", "/process/ioPriority"]
            .into_iter()
            .filter(|p| refusals.iter().any(|e| format!("/{}", e.subject.replace('.', "/")).starts_with(p)))
            .map(str::to_owned)
            .collect();
        fields.into_iter().fold(Seen::unless(&wrong, "so they are"), |seen, at| seen.at(&at).remove(at))
    }

    fn lent(&self) -> Seen {
        let filled = |v: &Value| v.as_object().is_none_or(|o| !o.is_empty());
        let found: Vec<&str> = ["netDevices", "intelRdt"]
            .into_iter()
            .filter(|key| self.get(&format!("/linux/{key}")).is_some_and(filled))
            .collect();
        let wrong: Vec<String> = found.iter().map(|k| format!("linux.{k}")).collect();
        found.into_iter().fold(Seen::unless(&wrong, "none"), |seen, key| {
            seen.at(format!("/linux/{key}")).remove(format!("/linux/{key}"))
        })
    }

    fn shm(&self) -> Seen {
        let Some(mount) = self.mounts().iter().rfind(|m| m.target == Path::new("/dev/shm")) else {
            return Seen::pass("none is mounted");
        };
        let at = format!("{}/options", mount.pointer());
        match mount.bind || mount.fstype != "tmpfs" || mount.asked.data.iter().any(|(k, _)| k == "size") {
            true if mount.bind => Seen::warn("shared with others, who can fill it").at(at),
            true => Seen::pass("it has").at(at),
            false => Seen::fail("a tmpfs without a size: half of the memory of the host")
                .at(&at)
                .set(at, mount.options_with(&["size=64m"], &[])),
        }
    }

    fn lifted(&self) -> Seen {
        let lifts = |m: &&Mount| m.bind && m.asked.attr.top().1 & (attr::NOSUID | attr::NODEV | attr::NOEXEC) != 0;
        let found: Vec<&Mount> = self.mounts().iter().filter(lifts).collect();
        let wrong: Vec<String> = found
            .iter()
            .map(|m| {
                let flags = m.asked.attr.top().1 & (attr::NOSUID | attr::NODEV | attr::NOEXEC);
                format!("{} {}", m.target.display(), Attr { clear: flags, ..Attr::default() }.words())
            })
            .collect();
        let words = ["suid", "dev", "exec", "rsuid", "rdev", "rexec"];
        found.into_iter().fold(Seen::unless(&wrong, "none"), |seen, m| {
            let at = format!("{}/options", m.pointer());
            let nosuid = m.has(attr::NOSUID);
            seen.at(&at).set(at, m.options_with(if nosuid { &["nosuid"] } else { &[] }, &words))
        })
    }
}

/// Annotations that other software obeys. `fix`: they are in a config, and can be removed from it.
pub(super) fn steering<'n>(names: impl Iterator<Item = &'n str>, units: &[String], fix: bool) -> Seen {
    let steers = |name: &str| match name.strip_prefix(unit::PREFIX) {
        Some(property) => !units.iter().any(|u| u == property),
        None => reach::FOREIGN.iter().any(|p| name.starts_with(p)),
    };
    let found: Vec<String> = names.filter(|n| steers(n)).map(str::to_owned).collect();
    let seen = Seen::unless(&found, "none that a runtime or systemd obeys");
    if !fix {
        return seen;
    }
    found.iter().fold(seen, |seen, name| {
        let at = format!("/annotations/{}", escaped(name));
        seen.at(&at).remove(at)
    })
}

/// Whether controllers are on cgroup v1.
pub(super) fn cgroup_version(v1: &[String]) -> Seen {
    match v1.is_empty() {
        true => Seen::info("no controller of this host is on cgroup v1"),
        false => Seen::warn(format!(
            "this host keeps {} on cgroup v1, where release_agent runs programs (CVE-2022-0492)",
            v1.join(" ")
        )),
    }
}

/// What is an engine's, a daemon's or a registry's matter.
pub(super) fn beyond_a_runtime(id: &str) -> Seen {
    Seen::info(match id {
        "CIS-5.1" => "a matter of the Docker daemon: a runtime sees nothing of it",
        "CIS-5.8" | "CIS-5.9" | "ST-10" => "ports are mapped by an engine: audit the running container",
        "CIS-5.14" => "addresses are chosen by an engine: audit the running container",
        "CIS-5.15" => "restarts are an engine's: a runtime starts a container once",
        "CIS-5.27" => "health checks are an engine's",
        "CIS-5.28" => "a runtime gets a directory, and does not know which image it was",
        "CIS-5.30" => "bridges are an engine's: a runtime makes none",
        "ST-18" => "outside of what a runtime sees: TLS of daemons, updates, signatures, network policies",
        _ => "a runtime cannot tell",
    })
}
