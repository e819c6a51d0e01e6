//! Decide: the rows on a container that runs, by what the kernel says of it.
//!
//! What a config asked for does not count here: only what is so. A row that the kernel does not answer is INFO, with the
//! way to answer it.

use super::config::{beyond_a_runtime, cgroup_version, steering};
use super::rows::{ROWS, Row};
use super::ruler::sensitive;
use super::{Facts, Finding, Seen, Severity, Status, secrets, shorten};
use crate::mountinfo::Mount;
use crate::plan::{credentials, reach};
use crate::policy::Policy;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A process.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Its number on the host.
    pub pid: i32,
    /// /proc/PID/status.
    pub status: BTreeMap<String, String>,
}

/// What was seen of a container.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Its id.
    pub id: String,
    /// Its bundle: what lies in there is its own.
    pub bundle: PathBuf,
    /// /proc/PID/status of its init.
    pub status: BTreeMap<String, String>,
    /// Its processes.
    pub processes: Vec<Process>,
    /// Whether each namespace is other than the host's.
    pub namespaces: Vec<(&'static str, Option<bool>)>,
    /// What it has mounted.
    pub mounts: Vec<Mount>,
    /// What the host has mounted.
    pub host_mounts: Vec<Mount>,
    /// /proc/PID/uid_map.
    pub uid_map: Option<String>,
    /// /proc/PID/limits.
    pub limits: Option<String>,
    /// Files of its cgroup; none: it has no cgroup of its own.
    pub cgroup: Option<BTreeMap<String, String>>,
    /// /proc/PID/cgroup.
    pub cgroup_path: String,
    /// How many device programs its cgroup has.
    pub device_programs: Option<usize>,
    /// The AppArmor label.
    pub apparmor: Option<String>,
    /// The SELinux label.
    pub selinux: Option<String>,
    /// /proc/PID/oom_score_adj.
    pub oom_score_adj: Option<i64>,
    /// The environment that its init was started with.
    pub environment: Option<Vec<String>>,
    /// Where somebody in its network namespace listens.
    pub listeners: Vec<String>,
    /// Names of its annotations.
    pub annotations: Vec<String>,
    /// Hooks that are still to run.
    pub hooks: Vec<(String, usize)>,
    /// Files that the ruler wants covered and this kernel has; true: masked, and not only read-only.
    pub kernel_files: Vec<(String, bool)>,
    /// The capabilities that a container can have on this machine.
    pub all_caps: u64,
    /// What the machine is.
    pub facts: Facts,
}

/// Answers every row.
pub fn judge(live: &Live, ruler: &Policy) -> Vec<Finding> {
    ROWS.iter().map(|row| live.answer(row, ruler).of(row)).collect()
}

fn hex(status: &BTreeMap<String, String>, key: &str) -> Option<u64> {
    u64::from_str_radix(status.get(key)?, 16).ok()
}

/// The real, effective, saved or file system uid.
fn uid(status: &BTreeMap<String, String>, n: usize) -> Option<u32> {
    status.get("Uid")?.split_whitespace().nth(n)?.parse().ok()
}

fn unreadable(what: &str) -> Seen {
    Seen::info(format!("{what} cannot be read: audit as root"))
}

impl Live {
    fn answer(&self, row: &Row, ruler: &Policy) -> Seen {
        match row.id {
            "CIS-5.2" => self.apparmor(),
            "CIS-5.3" => self.selinux(),
            "CIS-5.4" => self.capabilities(ruler),
            "CIS-5.5" | "ST-3" => self.privileged(),
            "CIS-5.6" => self.sensitive(ruler),
            "CIS-5.7" | "ST-9" => self.sshd(),
            "CIS-5.8" => self.host_ports(),
            "CIS-5.9" | "ST-10" => self.ports(false),
            "CIS-5.10" => self.namespace("network"),
            "CIS-5.11" => self.limit("memory.max"),
            "CIS-5.12" => self.cpu(),
            "CIS-5.13" => self.readonly_root(),
            "CIS-5.14" => self.ports(true),
            "CIS-5.16" => self.namespace("pid"),
            "CIS-5.17" => self.namespace("ipc"),
            "CIS-5.18" => self.devices(),
            "CIS-5.19" => self.rlimits(ruler),
            "CIS-5.20" | "ST-13" => self.propagation(),
            "CIS-5.21" => self.namespace("uts"),
            "CIS-5.22" => self.filtered(),
            "CIS-5.23" => self.added_rights(),
            "CIS-5.24" => self.added_root(),
            "CIS-5.25" => self.cgroup(),
            "CIS-5.26" => self.no_new_privileges(),
            "CIS-5.29" => self.limit("pids.max"),
            "CIS-5.31" | "ST-4" => self.user_namespace(),
            "CIS-5.32" | "ST-7" => self.daemon_sockets(),
            "ST-1" => Seen::all(vec![("memory", self.limit("memory.max")), ("CPU", self.cpu())]),
            "ST-2" => self.needed_capabilities(ruler),
            "ST-5" => self.volumes(),
            "ST-6" => self.user(),
            "ST-8" => self.writable_below(),
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
            "X-1" => self.namespace("cgroup"),
            "X-2" => self.namespace("time"),
            "X-3" => self.covered(),
            "X-6" => self.hooks(),
            "X-7" => steering(self.annotations.iter().map(String::as_str), &ruler.unit_properties, false),
            "X-8" => cgroup_version(&self.facts.cgroup_v1),
            "X-9" => self.oom_score(),
            "X-14" => self.fresh("/dev", &["tmpfs"]),
            "X-15" => self.fresh("/proc", &["proc"]),
            "X-18" => self.types(ruler),
            "X-19" => self.idmapped(),
            "X-20" => self.kernel_files(),
            "X-26" => self.namespace("mount"),
            "CIS-5.1" | "CIS-5.15" | "CIS-5.27" | "CIS-5.28" | "CIS-5.30" | "ST-18" => beyond_a_runtime(row.id),
            _ => Seen::info("the kernel does not tell: audit the bundle"),
        }
    }

    fn apparmor(&self) -> Seen {
        match self.apparmor.as_deref() {
            _ if !self.facts.apparmor => Seen::info("AppArmor is not in force on this host"),
            None => unreadable("the label"),
            Some(label) if label.starts_with("unconfined") => Seen::fail(label),
            Some(label) if label.contains("(complain)") => Seen::fail(format!("{label}: it only logs")),
            Some(label) => Seen::pass(label),
        }
    }

    fn selinux(&self) -> Seen {
        match self.selinux.as_deref() {
            _ if !self.facts.selinux => Seen::info("SELinux is not in force on this host"),
            None => unreadable("the label"),
            Some(label) if label.contains(":unconfined_t") || label.contains(":spc_t") => Seen::fail(label),
            Some(label) => Seen::pass(label),
        }
    }

    fn capabilities(&self, ruler: &Policy) -> Seen {
        let sets = ["CapBnd", "CapPrm", "CapInh", "CapAmb"].map(|key| hex(&self.status, key));
        let [Some(bounding), Some(permitted), Some(inheritable), Some(ambient)] = sets else {
            return unreadable("/proc/PID/status");
        };
        let allowed = credentials::ceiling(ruler).ok().flatten().unwrap_or(0);
        let beyond = credentials::names((bounding | permitted | inheritable | ambient) & !allowed);
        if !beyond.is_empty() {
            let severe = beyond.iter().any(|n| n.starts_with("SYS_") || n == "BPF" || n == "DAC_READ_SEARCH");
            return Seen::fail(format!("beyond the ceiling of the policy: {}", beyond.join(" "))).severity(if severe {
                Severity::Critical
            } else {
                Severity::Medium
            });
        }
        if inheritable & !ambient != 0 {
            let names = credentials::names(inheritable & !ambient).join(" ");
            return Seen::fail(format!("inheritable: {names}")).severity(Severity::Medium);
        }
        let names = credentials::names(bounding | permitted).join(" ");
        Seen::pass(if names.is_empty() { "none".to_owned() } else { format!("within the ceiling: {names}") })
    }

    fn needed_capabilities(&self, ruler: &Policy) -> Seen {
        let seen = self.capabilities(ruler);
        match (seen.status, hex(&self.status, "CapBnd")) {
            (Status::Fail, _) => seen.severity(Severity::High),
            (_, None) => seen,
            (_, Some(0)) => Seen::pass("none"),
            (_, Some(some)) => Seen::warn(format!("is each needed? {}", credentials::names(some).join(" "))),
        }
    }

    fn filter(&self) -> Option<bool> {
        self.status.get("Seccomp").map(|mode| mode == "2")
    }

    fn privileged(&self) -> Seen {
        let (Some(bounding), Some(filtered)) = (hex(&self.status, "CapBnd"), self.filter()) else {
            return unreadable("/proc/PID/status");
        };
        match bounding & self.all_caps == self.all_caps && !filtered {
            true => Seen::fail("every capability and no seccomp filter"),
            false => Seen::pass("not every capability without a filter"),
        }
    }

    fn filtered(&self) -> Seen {
        match self.filter() {
            None => unreadable("/proc/PID/status"),
            Some(false) => Seen::fail("no filter"),
            Some(true) => {
                let count = self.status.get("Seccomp_filters").map_or("?", String::as_str);
                Seen::pass(format!("{count} of them"))
            }
        }
    }

    fn no_new_privileges(&self) -> Seen {
        match self.status.get("NoNewPrivs").map(String::as_str) {
            Some("1") => Seen::pass("set"),
            Some(_) => Seen::fail("not set"),
            None => unreadable("/proc/PID/status"),
        }
    }

    fn namespace(&self, kind: &str) -> Seen {
        match self.namespaces.iter().find(|(n, _)| *n == kind).and_then(|(_, own)| *own) {
            None => unreadable("the namespace"),
            Some(true) => Seen::pass("other than the host's"),
            Some(false) => Seen::fail(format!("the {kind} namespace is the host's")),
        }
    }

    fn user_namespace(&self) -> Seen {
        let seen = self.namespace("user");
        if seen.status != Status::Pass {
            return seen;
        }
        let Some(map) = &self.uid_map else { return unreadable("uid_map") };
        let outside = |line: &str| line.split_whitespace().nth(1)?.parse::<u32>().ok();
        match map.lines().filter_map(outside).any(|id| id == 0) {
            true => Seen::fail("host id 0 is in its map"),
            false => Seen::pass("of its own, without the host's root"),
        }
    }

    fn user(&self) -> Seen {
        match uid(&self.status, 1) {
            None => unreadable("/proc/PID/status"),
            // By the host's numbers.
            Some(0) => Seen::fail("uid 0 of the host"),
            Some(id) => Seen::pass(format!("uid {id} of the host")),
        }
    }

    /// Where on the host the root of a mount is; none: it is of a file system that the host has nowhere.
    fn on_host(&self, mount: &Mount) -> Option<PathBuf> {
        if matches!(mount.fstype.as_str(), "cgroup" | "cgroup2" | "proc" | "mqueue" | "devpts") {
            return None;
        }
        let holds = |h: &&Mount| h.device == mount.device && mount.root.starts_with(&h.root);
        let host = self.host_mounts.iter().filter(holds).max_by_key(|h| h.root.as_os_str().len())?;
        Some(host.point.join(mount.root.strip_prefix(&host.root).ok()?))
    }

    /// What of the host it shows that is not its own.
    pub fn of_host(&self) -> Vec<(&Mount, PathBuf)> {
        let own = |path: &Path| path != self.bundle && path.starts_with(&self.bundle);
        // A mask is the host's /dev/null.
        let harmless = |path: &Path| path.starts_with("/dev") && path != Path::new("/dev");
        let each = self.mounts.iter().filter_map(|m| Some((m, self.on_host(m)?)));
        each.filter(|(_, path)| !own(path) && !harmless(path)).collect()
    }

    fn sensitive(&self, ruler: &Policy) -> Seen {
        let (mut wrong, mut shown, mut writable) = (Vec::new(), Vec::new(), false);
        for (mount, path) in self.of_host() {
            if ruler.host_paths.allowed.iter().any(|p| path.starts_with(p)) {
                continue;
            }
            let mode = if mount.readonly() { "read-only" } else { "writable" };
            let words = |dir: &str| format!("{} shows {dir} of the host, {mode}", mount.point.display());
            match sensitive(ruler, &path) {
                None => {}
                Some((dir, false)) if mount.readonly() => shown.push(words(dir)),
                Some((dir, _)) => {
                    writable |= !mount.readonly();
                    wrong.push(words(dir));
                }
            }
        }
        if wrong.is_empty() && !shown.is_empty() {
            return Seen::warn(shorten(&shown));
        }
        let seen = Seen::unless(&wrong, "none");
        if wrong.is_empty() { seen } else { seen.severity(if writable { Severity::High } else { Severity::Medium }) }
    }

    fn daemon_sockets(&self) -> Seen {
        let shows = |(mount, path): (&Mount, PathBuf)| {
            let fact = self.facts.sources.iter().find(|s| s.path == path);
            let socket = reach::daemon_socket(fact, &path)?;
            Some(format!("{} shows {}", mount.point.display(), socket.display()))
        };
        Seen::unless(&self.of_host().into_iter().filter_map(shows).collect::<Vec<_>>(), "none")
    }

    fn sshd(&self) -> Seen {
        let is = |p: &&Process| p.status.get("Name").is_some_and(|n| n == "sshd");
        let found: Vec<String> = self.processes.iter().filter(is).map(|p| format!("sshd is pid {}", p.pid)).collect();
        Seen::unless(&found, "no process is called so")
    }

    fn host_ports(&self) -> Seen {
        match self.namespace("network").status {
            Status::Fail => Seen::info(format!("in the host's network: {}", self.said(&self.listeners))),
            _ => beyond_a_runtime("CIS-5.8"),
        }
    }

    fn said(&self, list: &[String]) -> String {
        if list.is_empty() { "nobody listens".to_owned() } else { shorten(list) }
    }

    fn ports(&self, every: bool) -> Seen {
        let list: Vec<String> = self.listeners.iter().filter(|l| !every || l.contains("every")).cloned().collect();
        Seen::info(self.said(&list))
    }

    fn limit(&self, file: &str) -> Seen {
        let Some(cgroup) = &self.cgroup else { return Seen::fail("it has no cgroup of its own") };
        match cgroup.get(file).map(String::as_str) {
            None => Seen::fail(format!("its cgroup has no {file}: the controller is not there")),
            Some(value) if value.starts_with("max") => Seen::fail(format!("{file}={value}")),
            Some(value) => Seen::pass(format!("{file}={value}")),
        }
    }

    fn cpu(&self) -> Seen {
        let weight = self.cgroup.as_ref().and_then(|c| c.get("cpu.weight")).filter(|w| *w != "100");
        match weight {
            Some(weight) => Seen::pass(format!("cpu.weight={weight}")),
            None => self.limit("cpu.max"),
        }
    }

    fn readonly_root(&self) -> Seen {
        // The last that was mounted there is what is seen.
        match self.mounts.iter().rfind(|m| m.point == Path::new("/")) {
            None => unreadable("mountinfo"),
            Some(root) if root.readonly() => Seen::pass("read-only"),
            Some(_) => Seen::fail("writable: the image can be changed from inside"),
        }
    }

    fn volumes(&self) -> Seen {
        let root = self.readonly_root();
        let writable: Vec<String> = self
            .of_host()
            .into_iter()
            .filter(|(m, _)| !m.readonly() && m.point != Path::new("/"))
            .map(|(m, path)| format!("{} on {}", path.display(), m.point.display()))
            .collect();
        if root.status == Status::Pass && !writable.is_empty() {
            return Seen::warn(format!("read-only root; writable: {}", shorten(&writable)));
        }
        root
    }

    fn writable_below(&self) -> Seen {
        let mut wrong = Vec::new();
        for outer in self.of_host().into_iter().filter(|(m, _)| m.readonly() && m.point != Path::new("/")) {
            let below = |m: &&Mount| m.point != outer.0.point && m.point.starts_with(&outer.0.point) && !m.readonly();
            // What the container mounted itself is not the host's.
            let found = self.mounts.iter().filter(below).filter(|m| self.on_host(m).is_some());
            wrong.extend(found.map(|m| format!("{} is writable below {}", m.point.display(), outer.0.point.display())));
        }
        Seen::unless(&wrong, "no read-only mount leaves what is below it writable")
    }

    fn devices(&self) -> Seen {
        let raw: Vec<String> = self
            .mounts
            .iter()
            .filter(|m| m.fstype == "devtmpfs" && m.root == Path::new("/"))
            .map(|m| format!("the host's /dev is on {}", m.point.display()))
            .collect();
        let own_user = self.namespace("user").status == Status::Pass;
        match self.device_programs {
            _ if !raw.is_empty() => Seen::fail(shorten(&raw)),
            Some(0) | None if own_user => {
                Seen::info("no device program; in a user namespace of its own no node can be made or opened")
            }
            Some(0) => Seen::fail("no device program is attached to its cgroup"),
            Some(n) => Seen::info(format!("{n} device program(s); which devices they allow, the bundle says")),
            None => Seen::info("whether a device program is attached cannot be seen: audit as root"),
        }
    }

    fn rlimits(&self, ruler: &Policy) -> Seen {
        const NAMES: [(&str, &str); 3] = [
            ("RLIMIT_NOFILE", "Max open files"),
            ("RLIMIT_NPROC", "Max processes"),
            ("RLIMIT_CORE", "Max core file size"),
        ];
        let Some(text) = &self.limits else { return unreadable("/proc/PID/limits") };
        let hard = |words: &str| {
            let line = text.lines().find(|l| l.starts_with(words))?;
            Some(line[words.len()..].split_whitespace().nth(1)?.to_owned())
        };
        let mut wrong = Vec::new();
        for (name, [_, most]) in &ruler.rlimits {
            let Some((_, words)) = NAMES.iter().find(|(n, _)| n == name) else { continue };
            match hard(words) {
                Some(value) if value == "unlimited" || (*most == 0 && value != "0") => {
                    wrong.push(format!("{name} is {value}"))
                }
                _ => {}
            }
        }
        if hard("Max processes").is_some_and(|v| v == "unlimited") && self.limit("pids.max").status == Status::Fail {
            wrong.push("neither RLIMIT_NPROC nor a limit of processes".to_owned());
        }
        Seen::unless(&wrong, "set")
    }

    fn propagation(&self) -> Seen {
        let peers: Vec<u64> = self.host_mounts.iter().filter_map(|m| m.shared).collect();
        let (mut wrong, mut out) = (Vec::new(), false);
        for mount in &self.mounts {
            if mount.shared.is_some_and(|g| peers.contains(&g)) {
                out = true;
                wrong.push(format!("{} is shared with the host", mount.point.display()));
            } else if mount.master.is_some_and(|g| peers.contains(&g)) {
                wrong.push(format!("{} follows the host", mount.point.display()));
            }
        }
        let seen = Seen::unless(&wrong, "no mount is of a group of the host's");
        if wrong.is_empty() { seen } else { seen.severity(if out { Severity::High } else { Severity::Medium }) }
    }

    fn added(&self) -> impl Iterator<Item = &Process> {
        // A process of init has init's namespaces, and its parent is one of the container; who was added has none there.
        let pids: Vec<String> = self.processes.iter().map(|p| p.pid.to_string()).collect();
        let init = self.status.get("Pid").cloned();
        self.processes.iter().filter(move |p| {
            Some(p.pid.to_string()) != init && p.status.get("PPid").is_some_and(|parent| !pids.contains(parent))
        })
    }

    fn added_rights(&self) -> Seen {
        let Some(init) = hex(&self.status, "CapBnd") else { return unreadable("/proc/PID/status") };
        let confined = |key: &str, p: &Process| {
            self.status.get(key) == Some(&"0".to_owned()) || p.status.get(key) == self.status.get(key)
        };
        let mut wrong = Vec::new();
        for p in self.added() {
            let more = hex(&p.status, "CapEff").unwrap_or(0) & !init;
            if more != 0 {
                wrong.push(format!("pid {} has {}", p.pid, credentials::names(more).join(" ")));
            }
            if !confined("NoNewPrivs", p) || !confined("Seccomp", p) {
                wrong.push(format!("pid {} lacks no_new_privs or the filter that init has", p.pid));
            }
        }
        Seen::unless(&wrong, "none has")
    }

    fn added_root(&self) -> Seen {
        let root = |p: &&Process| uid(&p.status, 1) == Some(0);
        let found: Vec<String> =
            self.added().filter(root).map(|p| format!("pid {} is uid 0 of the host", p.pid)).collect();
        Seen::unless(&found, "none is uid 0 of the host")
    }

    fn cgroup(&self) -> Seen {
        let path = self.cgroup_path.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or_default();
        match (&self.cgroup, path) {
            (None, _) => Seen::fail("it has no cgroup of its own"),
            (Some(_), "/") => Seen::fail("it is in the root of the hierarchy"),
            (Some(_), path) => Seen::pass(path),
        }
    }

    fn secrets(&self) -> Seen {
        let Some(environment) = &self.environment else { return unreadable("/proc/PID/environ") };
        let found: Vec<String> = environment
            .iter()
            .filter_map(|e| Some((e.split('=').next()?, secrets::suspicious(e)?)))
            .map(|(name, why)| format!("{name}: {why} (the value is hidden)"))
            .collect();
        let seen = Seen::unless(&found, "none");
        if found.is_empty() { seen } else { seen.advice("use --secret: it is a file in memory, and in no record") }
    }

    fn setuid(&self) -> Seen {
        let open: Vec<String> = self
            .mounts
            .iter()
            .filter(|m| !m.options.iter().any(|o| o == "nosuid"))
            .map(|m| m.point.display().to_string())
            .collect();
        match (self.no_new_privileges().status, open.is_empty()) {
            (_, true) => Seen::pass("every mount is nosuid"),
            (Status::Pass, _) => Seen::pass("without effect under no_new_privs"),
            (_, false) => Seen::fail(format!("no_new_privs is not set, and not nosuid: {}", shorten(&open))),
        }
    }

    fn covered(&self) -> Seen {
        let at = |path: &Path| self.mounts.iter().rfind(|m| m.point == path);
        let mut wrong = Vec::new();
        for (path, masked) in &self.kernel_files {
            let path = Path::new(path);
            let top = if path.starts_with("/proc") { "/proc" } else { "/sys" };
            let Some(whole) = at(Path::new(top)).filter(|m| matches!(m.fstype.as_str(), "proc" | "sysfs")) else {
                // What is not mounted cannot be seen.
                continue;
            };
            let mut above = path.ancestors().take_while(|p| *p != Path::new(top)).filter_map(at);
            let covered = match masked {
                true => above.next().is_some(),
                false => whole.readonly() || above.any(Mount::readonly),
            };
            if !covered {
                wrong.push(format!("{} is {}", path.display(), if *masked { "not masked" } else { "writable" }));
            }
        }
        Seen::unless(&wrong, "all that the policy covers")
    }

    fn hooks(&self) -> Seen {
        let found: Vec<String> = self.hooks.iter().map(|(moment, n)| format!("{n} {moment} to come")).collect();
        match found.is_empty() {
            true => Seen::info("none is to come; which ran before, the bundle says"),
            false => Seen::fail(found.join("; ")),
        }
    }

    fn oom_score(&self) -> Seen {
        match self.oom_score_adj {
            None => unreadable("oom_score_adj"),
            Some(n) if n < 0 => Seen::fail(format!("{n}: other processes of the host die in its place")),
            Some(n) => Seen::pass(n.to_string()),
        }
    }

    fn fresh(&self, target: &str, types: &[&str]) -> Seen {
        match self.mounts.iter().rfind(|m| m.point == Path::new(target)) {
            None => Seen::fail(format!("nothing is mounted on {target}")),
            Some(m) if types.contains(&m.fstype.as_str()) && m.root == Path::new("/") => {
                Seen::pass(format!("a {} of its own", m.fstype))
            }
            Some(m) => Seen::fail(format!("a {} of the host", m.fstype)),
        }
    }

    fn types(&self, ruler: &Policy) -> Seen {
        let Some(types) = &ruler.mounts.types else { return Seen::info("the policy knows no usual types") };
        let own = self.mounts.iter().filter(|m| self.on_host(m).is_none() && m.point != Path::new("/"));
        let strange =
            own.filter(|m| !types.contains(&m.fstype)).map(|m| format!("{} on {}", m.fstype, m.point.display()));
        Seen::unless(&strange.collect::<Vec<_>>(), "so they are")
    }

    fn idmapped(&self) -> Seen {
        let mapped =
            |m: &&Mount| m.options.iter().any(|o| o == "idmapped") && m.point != Path::new("/") && !m.readonly();
        let found: Vec<String> = self.mounts.iter().filter(mapped).map(|m| m.point.display().to_string()).collect();
        Seen::unless(&found, "none that is writable")
    }

    fn kernel_files(&self) -> Seen {
        let strange = |m: &&Mount| {
            let whole = m.root == Path::new("/");
            whole
                && match m.fstype.as_str() {
                    "proc" => m.point != Path::new("/proc"),
                    "sysfs" => m.point != Path::new("/sys"),
                    _ => false,
                }
        };
        let found: Vec<String> =
            self.mounts.iter().filter(strange).map(|m| format!("{} on {}", m.fstype, m.point.display())).collect();
        Seen::unless(&found, "so they are")
    }
}
