//! Decide: what of strict a machine can enforce, and what an operator does about the rest. Pure.
//!
//! What a launch would do without is not guessed: the planner lays the ladder of a silent bundle on these facts, and its
//! findings and its refusal are the answer. What only shows when it is done was tried before (`observe::machine`).

use crate::bundle::{self, Bundle};
use crate::cgroup::delegation;
use crate::error::{Error, Result, errno_text};
use crate::host::{Host, Range};
use crate::plan::explain::lines;
use crate::plan::{self, Options, Plan};
use crate::policy::{Finding, Policy};
use nix::errno::Errno;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The first Linux that a launch works on.
const KERNEL: (u32, u32) = (5, 14);
/// The column of words.
const COLUMN: usize = 28;

/// A call that was tried and failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What was done.
    pub step: String,
    /// The kernel's answer.
    pub errno: Errno,
}

impl Failed {
    /// Keeps what failed.
    pub fn new(step: &str, errno: Errno) -> Failed {
        Failed { step: step.to_owned(), errno }
    }

    /// It is the map that failed, before anything was mapped by it.
    fn is_of_a_map(&self) -> bool {
        self.step.ends_with("id_map")
    }

    fn words(&self) -> String {
        format!("{}: {}", self.step, errno_text(self.errno))
    }
}

type Tried = std::result::Result<(), Failed>;

/// What was tried.
#[derive(Debug, Clone)]
pub struct Tries {
    /// openat2(2), as paths in a root file system are opened.
    pub openat2: Tried,
    /// pidfd_open(2).
    pub pidfd: Tried,
    /// clone3(2) without a namespace.
    pub clone: Tried,
    /// Every namespace at once, and the first mounts in them.
    pub namespaces: Tried,
    /// Those that cannot be made even alone in a new user namespace.
    pub alone: Vec<(String, Failed)>,
    /// Filters.
    pub seccomp: bool,
    /// Filters that ask an agent.
    pub listener: bool,
    /// A file in memory that can be executed.
    pub memory_file: Tried,
    /// An id map on the mount of the bundles; none: root alone does that.
    pub idmap: Option<Tried>,
    /// A device program; none: root alone does that.
    pub device_program: Option<Tried>,
    /// We are a sealed copy ourselves.
    pub sealed: bool,
}

/// A machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The facts that a launch would have.
    pub host: Host,
    /// Where bundles are.
    pub dir: PathBuf,
    /// Sysctls, those that there are.
    pub sysctls: BTreeMap<String, String>,
    /// The security modules in force; empty where that cannot be read.
    pub lsms: Vec<String>,
    /// Memory may be written to a disk.
    pub swap: bool,
    /// AppArmor has our default profile; none: it cannot be read.
    pub default_profile_loaded: Option<bool>,
    /// /etc/subuid and /etc/subgid have lines for us.
    pub subordinate_lines: bool,
    /// Our name.
    pub user: String,
    /// What is wrong with newuidmap and newgidmap.
    pub helpers: Vec<(String, String)>,
    /// What was tried.
    pub tries: Tries,
}

/// How much of strict holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// All.
    Whole,
    /// Something is done without.
    Less,
    /// A launch is refused.
    Refuses,
}

impl Holds {
    /// The exit status.
    pub fn status(self) -> i32 {
        match self {
            Holds::Whole => 0,
            Holds::Less => 2,
            Holds::Refuses => 3,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Holds::Whole => "ok",
            Holds::Less => "less",
            Holds::Refuses => "NO",
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What is asked.
    pub name: &'static str,
    /// How much of it holds.
    pub state: Holds,
    /// What is so.
    pub seen: String,
    /// What strict has to do without.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub without: String,
    /// What an operator does about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

fn whole(name: &'static str, seen: impl Into<String>) -> Row {
    Row { name, state: Holds::Whole, seen: seen.into(), without: String::new(), remedy: String::new() }
}

impl Row {
    fn less(name: &'static str, seen: impl Into<String>, without: impl Into<String>, remedy: impl Into<String>) -> Row {
        Row { name, state: Holds::Less, seen: seen.into(), without: without.into(), remedy: remedy.into() }
    }

    fn refuses(name: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Row {
        let without = "every launch under strict".to_owned();
        Row { name, state: Holds::Refuses, seen: seen.into(), without, remedy: remedy.into() }
    }
}

/// What filters calls away from us.
const FILTERED: &str = "a seccomp filter around us answers so (a container's profile, SystemCallFilter= of a unit): start \
    stockade outside of it, or let the filter allow the call";

/// The answers, and what the planner says of a silent bundle.
pub fn judge(machine: &Machine) -> Result<Vec<Row>> {
    let policy = Policy::load("strict")?;
    let planned = silent(machine, &policy)?;
    let findings = planned.as_ref().map(|p| p.findings.clone()).unwrap_or_default();
    let mut rows = vec![kernel(machine)];
    rows.extend(calls(&machine.tries));
    rows.push(namespaces(machine));
    rows.push(ids(machine));
    rows.extend(cgroups(machine, &findings));
    rows.push(devices(machine, &findings));
    rows.push(swap(machine));
    rows.push(filters(&machine.tries));
    rows.push(landlock(machine, &findings));
    rows.push(lsm(machine, &findings));
    rows.extend(idmap(machine));
    rows.push(binary(machine));
    rows.push(launch(planned, &findings));
    Ok(rows)
}

/// What the planner makes of a bundle that says nothing.
fn silent(machine: &Machine, policy: &Policy) -> Result<std::result::Result<Plan, Error>> {
    let config = json!({
        "ociVersion": "1.0.2",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["sh"], "cwd": "/" },
        "root": { "path": "rootfs" },
    });
    let (spec, unknown) = bundle::parse(config.to_string().as_bytes())?;
    let bundle = Bundle { dir: machine.dir.clone(), rootfs: machine.dir.join("rootfs"), spec, unknown };
    let mut host = machine.host.clone();
    host.ids.block = host.ids.block.or(host.privileged().then_some(Range { start: 1 << 20, count: 65_536 }));
    Ok(plan::plan(&bundle, policy, &host, &Options { id: "doctor".into(), ..Options::default() }))
}

fn kernel(machine: &Machine) -> Row {
    let (have, release) = (machine.host.kernel_version(), &machine.host.kernel);
    match have >= KERNEL {
        true => whole("kernel", release.as_str()),
        false => Row::refuses("kernel", release.as_str(), format!("Linux {}.{} or newer", KERNEL.0, KERNEL.1)),
    }
}

fn calls(tries: &Tries) -> Vec<Row> {
    let mut rows = Vec::new();
    rows.push(match &tries.clone {
        Ok(()) => whole("clone3", "works"),
        Err(e) => Row::refuses("clone3", e.words(), FILTERED),
    });
    rows.push(match &tries.pidfd {
        Ok(()) => whole("pidfds", "work"),
        Err(e) => {
            let without = "exec, kill and all else that finds a container's process again without doubt";
            Row::less("pidfds", e.words(), without, FILTERED)
        }
    });
    rows.push(match &tries.openat2 {
        Ok(()) => whole("openat2", "works"),
        Err(e) if e.errno == Errno::ENOSYS => Row::less(
            "openat2",
            e.words(),
            "links in a root file system: each path is walked step by step, and one with a link in it is refused",
            "a unit of systemd with RestrictSUIDSGID=yes answers so, and so do older filters of containers: \
             RestrictSUIDSGID=no in the unit, or start stockade outside",
        ),
        Err(e) => Row::refuses("openat2", e.words(), FILTERED),
    });
    rows
}

fn namespaces(machine: &Machine) -> Row {
    const NAME: &str = "namespaces";
    let Err(failed) = &machine.tries.namespaces else {
        return whole(
            NAME,
            "user, mount, pid, network, ipc, uts and cgroup can be made, with a proc and a sysfs of their own",
        );
    };
    let sysctl = |name: &str| machine.sysctls.get(name).map(String::as_str);
    let mut seen = failed.words();
    let lost: Vec<&str> = machine.tries.alone.iter().map(|(n, _)| n.as_str()).collect();
    if !lost.is_empty() {
        seen = format!("{seen}; cannot be made: {}", lost.join(" "));
    }
    let zero: Vec<String> = ["user", "mnt", "pid", "net"]
        .iter()
        .map(|n| format!("user.max_{n}_namespaces"))
        .filter(|name| sysctl(name) == Some("0"))
        .collect();
    let remedy = if machine.tries.clone.is_err() {
        FILTERED.to_owned()
    } else if failed.step != "clone3" {
        let denied = matches!(failed.errno, Errno::EACCES | Errno::EPERM);
        if denied && failed.step == "mount / private" {
            match sysctl("kernel.apparmor_restrict_unprivileged_userns") {
                Some("1") => "kernel.apparmor_restrict_unprivileged_userns is 1: give stockade an AppArmor profile with \
                    `userns,` (docs/lsm.md has it), or as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
                    .to_owned(),
                _ => format!(
                    "a security module gives no rights in a new user namespace{}: see docs/lsm.md",
                    machine.host.confined.as_ref().map_or(String::new(), |c| format!(" (we are confined by {c})"))
                ),
            }
        } else {
            "the proc or the sysfs around us is partly covered, so the kernel gives no fresh one: we are in a container, \
             which must not mask them (Docker: --security-opt systempaths=unconfined, Podman: --security-opt unmask=ALL)"
                .to_owned()
        }
    } else if !zero.is_empty() {
        let each: Vec<String> = zero.iter().map(|n| format!("{n}=15000")).collect();
        format!("{} is 0; as root: sysctl -w {}", zero.join(", "), each.join(" "))
    } else if failed.errno == Errno::ENOSPC {
        "a limit of user.max_*_namespaces, here or in a user namespace around us, is reached (a container that was made \
         under strict has none to give): raise it where it was set"
            .to_owned()
    } else if sysctl("kernel.unprivileged_userns_clone") == Some("0") && !machine.host.privileged() {
        "kernel.unprivileged_userns_clone is 0; as root: sysctl -w kernel.unprivileged_userns_clone=1".to_owned()
    } else if failed.errno == Errno::EINVAL {
        "this kernel is built without one of them (CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS ...)".to_owned()
    } else {
        format!("{FILTERED}; a chroot denies it, too")
    };
    Row::refuses(NAME, seen, remedy)
}

fn ids(machine: &Machine) -> Row {
    const NAME: &str = "ids of their own";
    let host = &machine.host;
    if host.privileged() {
        if let Some(Err(e)) = machine.tries.idmap.as_ref().filter(|t| t.as_ref().is_err_and(Failed::is_of_a_map)) {
            let remedy = "we are root of a user namespace that does not have the ids of containers: start stockade as root of \
                the host or as an ordinary user, or map more ids into that namespace";
            return Row::refuses(NAME, e.words(), remedy);
        }
        return whole(NAME, "65,536 for each container, which no user and no other container has");
    }
    let ours: u64 = host.ids.sub_uids.iter().map(|r| u64::from(r.count)).sum();
    if ours > 0 && !host.ids.sub_gids.is_empty() && machine.helpers.is_empty() {
        return whole(NAME, format!("{ours} subordinate ids of {}, by newuidmap and newgidmap", machine.user));
    }
    let mut seen: Vec<String> = machine.helpers.iter().map(|(name, why)| format!("{name} {why}")).collect();
    let mut remedy = Vec::new();
    if !seen.is_empty() {
        remedy.push("as root: apt-get install --reinstall uidmap (shadow-utils elsewhere)".to_owned());
    }
    if !machine.subordinate_lines {
        seen.push(format!("/etc/subuid and /etc/subgid have no range for {}", machine.user));
        let user = &machine.user;
        remedy.push(format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"));
    }
    let without = "ids but one: whatever is in a container is this user outside, and other ids do not exist there";
    Row::less(NAME, seen.join("; "), without, remedy.join("; "))
}

/// The findings that are about one thing.
fn of<'a>(findings: &'a [Finding], rule: &'a str, field: &'a str) -> impl Iterator<Item = &'a Finding> {
    findings.iter().filter(move |f| f.rule == rule && f.field == field)
}

fn cgroups(machine: &Machine, findings: &[Finding]) -> Vec<Row> {
    let cgroup = &machine.host.cgroup;
    let mut rows = Vec::new();
    let place = |mount: &Path| format!("{}{}", mount.display(), cgroup.base.trim_end_matches('/'));
    let own = of(findings, "host", "linux.cgroupsPath").next();
    rows.push(match (own, &cgroup.mount) {
        (None, Some(mount)) => whole("cgroup v2", format!("below {}", place(mount))),
        (None, None) => {
            Row::less("cgroup v2", "is not mounted", "a cgroup", "as root: mount -t cgroup2 none /sys/fs/cgroup")
        }
        (Some(f), mount) => {
            let remedy = match mount {
                None => "as root: mount -t cgroup2 none /sys/fs/cgroup",
                Some(_) => {
                    "let systemd delegate one: systemd-run --user --scope -p Delegate=yes -- stockade ..., or \
                     --systemd-cgroup, with a session of the user's own (loginctl enable-linger)"
                }
            };
            let without =
                "a cgroup: what is in a container can be neither limited nor frozen, and is not killed as one";
            Row::less("cgroup v2", f.why.as_str(), without, remedy)
        }
    });
    for (name, controller) in [("limit: memory", "memory"), ("limit: processes", "pids"), ("limit: CPU time", "cpu")] {
        // The planner's own words for what it could not enforce.
        let file = if controller == "pids" { "pids.max" } else { controller };
        let lost = of(findings, "limits", "linux.resources")
            .find(|f| f.given.strip_prefix("no ").is_some_and(|g| g.split(", ").any(|w| w.starts_with(file))));
        let Some(f) = lost else {
            rows.push(whole(name, format!("the {controller} controller is there")));
            continue;
        };
        let at = cgroup.lacking.get(controller).map_or("/", String::as_str);
        let remedy = match &cgroup.mount {
            _ if own.is_some() => "as for cgroup v2 above".to_owned(),
            _ if cgroup.on_v1.iter().any(|c| c == controller) => {
                "boot with systemd.unified_cgroup_hierarchy=1 (or cgroup_no_v1=all): the controllers of cgroup v1 are then \
                 on cgroup v2"
                    .to_owned()
            }
            Some(mount) => delegation::remedy(mount, at, controller),
            None => "as for cgroup v2 above".to_owned(),
        };
        let given = f.given.trim_start_matches("no ").split(", ");
        let without: Vec<&str> = given.filter(|w| w.starts_with(file)).collect();
        rows.push(Row::less(name, f.why.as_str(), without.join(", "), remedy));
    }
    rows
}

fn devices(machine: &Machine, findings: &[Finding]) -> Row {
    const NAME: &str = "device program";
    const LOCK: &str = "a second lock on devices: mknod is EPERM in a user namespace, and foreign mounts are nodev";
    if let Some(f) = of(findings, "host", "linux.resources.devices").next() {
        return Row::less(
            NAME,
            f.why.as_str(),
            LOCK,
            "only root of the host can load one, into a cgroup v2 of our own",
        );
    }
    match &machine.tries.device_program {
        Some(Err(e)) => Row::refuses(
            NAME,
            e.words(),
            "the kernel takes no program of this kind: CONFIG_CGROUP_BPF, or a filter around us denies bpf(2)",
        ),
        Some(Ok(())) => whole(NAME, "can be loaded"),
        None => whole(NAME, "not needed"),
    }
}

fn swap(machine: &Machine) -> Row {
    let limited = machine.host.cgroup.controllers.iter().any(|c| c == "memory");
    match machine.swap {
        false => whole("swap", "off: no memory of a container reaches a disk"),
        true if limited => whole("swap", "on, and memory.swap.max keeps containers out of it"),
        true => Row::less(
            "swap",
            "on, and no memory controller keeps containers out of it",
            "memory of containers that never reaches a disk (secrets are locked all the same)",
            "the memory controller as above, or as root: swapoff -a",
        ),
    }
}

fn filters(tries: &Tries) -> Row {
    match (tries.seccomp, tries.listener) {
        (true, true) => whole("seccomp", "filters, and filters that ask an agent"),
        (true, false) => whole("seccomp", "filters; none that asks an agent, which strict does not need"),
        (false, _) => {
            Row::refuses("seccomp", "no filters", format!("a kernel with CONFIG_SECCOMP_FILTER; or {FILTERED}"))
        }
    }
}

fn landlock(machine: &Machine, findings: &[Finding]) -> Row {
    let abi = machine.host.landlock;
    match (findings.iter().find(|f| f.rule == "landlock" && f.given != "handled"), abi) {
        // The domain itself is a finding, too: of what is missing the reason speaks of this kernel.
        (Some(f), _) if f.why.contains("this kernel") => {
            let remedy = match abi {
                0 => {
                    "add landlock to lsm= on the kernel's command line (cat /sys/kernel/security/lsm shows it), on a kernel with CONFIG_SECURITY_LANDLOCK; or a filter around us denies it"
                }
                _ => "a newer kernel: Linux 6.2 for truncate, 6.10 for ioctls on devices",
            };
            Row::less("Landlock", f.why.as_str(), f.given.as_str(), remedy)
        }
        (_, 0) => {
            Row::less("Landlock", "none", "a second lock on files", "add landlock to lsm= on the kernel's command line")
        }
        (_, abi) => whole("Landlock", format!("ABI {abi}")),
    }
}

fn lsm(machine: &Machine, findings: &[Finding]) -> Row {
    let modules =
        if machine.lsms.is_empty() { "not listed (no securityfs)".to_owned() } else { machine.lsms.join(" ") };
    let host = &machine.host;
    if !host.apparmor {
        let also =
            if host.selinux { "SELinux is in force" } else { "no AppArmor, no SELinux: strict does not need one" };
        return whole("security modules", format!("{modules}; {also}"));
    }
    if let Some(f) = of(findings, "lsm.apparmorDefault", "process.apparmorProfile").find(|f| f.given.contains("own")) {
        return whole("security modules", format!("{modules}; containers get {}", f.given));
    }
    match machine.default_profile_loaded {
        Some(true) => whole("security modules", format!("{modules}; AppArmor has stockade-default")),
        None => whole("security modules", format!("{modules}; only root sees whether AppArmor has stockade-default")),
        Some(false) => Row::less(
            "security modules",
            format!("{modules}; AppArmor has no profile stockade-default"),
            "a profile of its own for each container: it runs as the runtime itself does",
            "as root: apparmor_parser --replace profiles/apparmor/stockade-default (share/stockade/apparmor when installed)",
        ),
    }
}

fn idmap(machine: &Machine) -> Option<Row> {
    let dir = machine.dir.display();
    // Without a namespace or its map it was not tried, and the rows on those say why.
    let untried = |e: &Failed| e.is_of_a_map() || e.step == "clone3";
    Some(match machine.tries.idmap.as_ref().filter(|t| !t.as_ref().is_err_and(untried))? {
        Ok(()) => whole("idmapped mounts", format!("{dir} takes an id map")),
        Err(e) => Row::less(
            "idmapped mounts",
            format!("{dir}: {}", e.words()),
            "root file systems that belong to the container: they keep their owners, and must be readable by others",
            "keep bundles on ext4, xfs or btrfs (tmpfs since Linux 6.3); `stockade doctor DIR` looks at another place",
        ),
    })
}

fn binary(machine: &Machine) -> Row {
    const NAME: &str = "own binary";
    let reason = plan::own::exposed_to_invented(&machine.host).filter(|_| !machine.tries.sealed);
    match (reason, &machine.tries.memory_file) {
        (None, _) => whole(NAME, "no container can write it"),
        (Some(why), Ok(())) => whole(
            NAME,
            format!("{why}: a sealed page of memory stands before the workload, or a copy runs in its place"),
        ),
        (Some(why), Err(e)) => Row::refuses(
            NAME,
            format!("{why}, and a copy in memory cannot be executed: {}", e.words()),
            "as root: sysctl -w vm.memfd_noexec=1; or install stockade where only root can write",
        ),
    }
}

/// Whatever else the planner says.
fn launch(planned: std::result::Result<Plan, Error>, findings: &[Finding]) -> Row {
    const NAME: &str = "a launch";
    const TOLD: [&str; 2] = ["linux.cgroupsPath", "linux.resources.devices"];
    match planned {
        Err(e) => Row::refuses(NAME, Error { hint: String::new(), ..e.clone() }.to_string(), e.hint),
        Ok(plan) => {
            let more: Vec<String> = findings
                .iter()
                .filter(|f| f.rule == "host" && !TOLD.contains(&f.field.as_str()))
                .map(|f| format!("{}: {} ({})", f.field, f.given, f.why))
                .collect();
            let seen = format!("of a silent bundle is planned in {} steps", plan.steps.len());
            match more.is_empty() {
                true => whole(NAME, seen),
                false => Row::less(NAME, seen, more.join("; "), "see `stockade explain` on a bundle"),
            }
        }
    }
}

/// How much holds of all.
pub fn verdict(rows: &[Row]) -> Holds {
    rows.iter().map(|r| r.state).max().unwrap_or(Holds::Whole)
}

/// As a page.
pub fn text(rows: &[Row]) -> String {
    let count = |state: Holds| rows.iter().filter(|r| r.state == state).count();
    let mut out = match verdict(rows) {
        Holds::Whole => "strict holds whole on this host\n\n".to_owned(),
        Holds::Less => format!("strict works on this host, and does without {}\n\n", things(count(Holds::Less))),
        Holds::Refuses => format!("strict refuses to launch on this host, for {}\n\n", things(count(Holds::Refuses))),
    };
    for row in rows {
        lines(&mut out, &format!("  {:<5} {}", row.state.word(), row.name), COLUMN, &row.seen);
        for (label, words) in [("without", &row.without), ("remedy", &row.remedy)] {
            if !words.is_empty() {
                lines(&mut out, &format!("{}{label}", " ".repeat(COLUMN)), COLUMN + 9, words);
            }
        }
    }
    out
}

fn things(n: usize) -> String {
    if n == 1 { "one thing".to_owned() } else { format!("{n} things") }
}

/// As JSON.
pub fn json(machine: &Machine, rows: &[Row]) -> Value {
    json!({
        "strict": verdict(rows),
        "rows": rows,
        "host": machine.host,
        "securityModules": machine.lsms,
        "sysctls": machine.sysctls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Binary, Cgroup, Ids};

    const ALL_CAPS: u64 = (1 << 41) - 1;

    /// Root on a machine that has everything.
    fn whole_machine() -> Machine {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        Machine {
            host: Host {
                kernel: "6.12.9".into(),
                groups: vec![0],
                caps: ALL_CAPS,
                known_caps: ALL_CAPS,
                apparmor: true,
                landlock: 6,
                initial_userns: true,
                binary: Binary::File { uid: 0, mode: 0o755 },
                cgroup: Cgroup {
                    mount: Some("/sys/fs/cgroup".into()),
                    base: "/a".into(),
                    controllers: words("cpu memory pids"),
                    writable: true,
                    ..Cgroup::default()
                },
                ..Host::default()
            },
            dir: "/srv".into(),
            sysctls: BTreeMap::from([("user.max_user_namespaces".to_owned(), "15000".to_owned())]),
            lsms: words("landlock apparmor"),
            swap: false,
            default_profile_loaded: Some(true),
            subordinate_lines: false,
            user: "root".into(),
            helpers: Vec::new(),
            tries: Tries {
                openat2: Ok(()),
                pidfd: Ok(()),
                clone: Ok(()),
                namespaces: Ok(()),
                alone: Vec::new(),
                seccomp: true,
                listener: true,
                memory_file: Ok(()),
                idmap: Some(Ok(())),
                device_program: Some(Ok(())),
                sealed: false,
            },
        }
    }

    /// The same for an ordinary user with everything that one can have.
    fn user_machine() -> Machine {
        let mut machine = whole_machine();
        let ranges = vec![Range { start: 100_000, count: 65_536 }];
        machine.host = Host {
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
            caps: 0,
            ids: Ids { sub_uids: ranges.clone(), sub_gids: ranges, ..Ids::default() },
            ..machine.host
        };
        machine.user = "ann".into();
        machine.subordinate_lines = true;
        (machine.tries.idmap, machine.tries.device_program) = (None, None);
        machine
    }

    /// The rows that are not whole: name, state, remedy.
    fn lacks(change: impl FnOnce(&mut Machine)) -> Vec<(&'static str, Holds, String)> {
        let mut machine = whole_machine();
        change(&mut machine);
        lacks_of(&machine)
    }

    fn lacks_of(machine: &Machine) -> Vec<(&'static str, Holds, String)> {
        let rows = judge(machine).unwrap();
        let text = text(&rows);
        assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
        for row in rows.iter().filter(|r| r.state != Holds::Whole) {
            assert!(!row.seen.is_empty() && !row.without.is_empty() && !row.remedy.is_empty(), "{row:?}");
            assert!(text.contains(row.word()), "{text}");
        }
        rows.into_iter().filter(|r| r.state != Holds::Whole).map(|r| (r.name, r.state, r.remedy)).collect()
    }

    impl Row {
        fn word(&self) -> &'static str {
            self.state.word()
        }
    }

    #[test]
    fn on_a_whole_machine_strict_holds_whole() {
        assert_eq!(lacks(|_| {}), []);
        let rows = judge(&whole_machine()).unwrap();
        assert_eq!(verdict(&rows).status(), 0);
        assert!(text(&rows).starts_with("strict holds whole"));
    }

    #[test]
    fn an_ordinary_user_lacks_the_device_program_alone() {
        let lacks = lacks_of(&user_machine());
        assert_eq!(lacks.iter().map(|(n, s, _)| (*n, *s)).collect::<Vec<_>>(), [("device program", Holds::Less)]);
    }

    #[test]
    fn each_lack_has_its_row_its_weight_and_its_remedy() {
        let failed = |step: &str, errno| Err(Failed::new(step, errno));
        type Case = (Box<dyn Fn(&mut Machine)>, &'static str, Holds, &'static str);
        let cases: Vec<Case> = vec![
            (Box::new(|m| m.host.kernel = "5.10.3".into()), "kernel", Holds::Refuses, "5.14"),
            (
                Box::new(move |m| m.tries.openat2 = failed("openat2", Errno::ENOSYS)),
                "openat2",
                Holds::Less,
                "RestrictSUIDSGID",
            ),
            (
                Box::new(move |m| m.tries.openat2 = failed("openat2", Errno::EPERM)),
                "openat2",
                Holds::Refuses,
                "SystemCallFilter",
            ),
            (Box::new(move |m| m.tries.clone = failed("clone3", Errno::ENOSYS)), "clone3", Holds::Refuses, "filter"),
            (Box::new(move |m| m.tries.pidfd = failed("pidfd_open", Errno::ENOSYS)), "pidfds", Holds::Less, "filter"),
            (Box::new(|m| m.tries.seccomp = false), "seccomp", Holds::Refuses, "CONFIG_SECCOMP_FILTER"),
            (Box::new(|m| m.host.landlock = 0), "Landlock", Holds::Less, "lsm="),
            (Box::new(|m| m.host.landlock = 2), "Landlock", Holds::Less, "6.2"),
            (Box::new(|m| m.default_profile_loaded = Some(false)), "security modules", Holds::Less, "apparmor_parser"),
            (
                Box::new(move |m| m.tries.idmap = Some(failed("mount_setattr", Errno::EINVAL))),
                "idmapped mounts",
                Holds::Less,
                "ext4",
            ),
            (
                Box::new(move |m| m.tries.idmap = Some(failed("uid_map", Errno::EPERM))),
                "ids of their own",
                Holds::Refuses,
                "map more ids",
            ),
            (
                Box::new(move |m| m.tries.device_program = Some(failed("bpf", Errno::EPERM))),
                "device program",
                Holds::Refuses,
                "CGROUP_BPF",
            ),
            (
                Box::new(move |m| {
                    m.host.binary = Binary::File { uid: 0, mode: 0o777 };
                    m.tries.memory_file = failed("memfd_create", Errno::EACCES);
                }),
                "own binary",
                Holds::Refuses,
                "vm.memfd_noexec",
            ),
        ];
        for (change, name, state, words) in cases {
            let lacks = lacks(|m| change(m));
            let (n, s, remedy) = lacks.first().unwrap_or_else(|| panic!("{name}: nothing"));
            assert_eq!((*n, *s, lacks.len()), (name, state, 1), "{lacks:?}");
            assert!(remedy.contains(words), "{name}: {remedy}");
        }
    }

    #[test]
    fn a_namespace_that_cannot_be_made_has_the_remedy_for_its_cause() {
        type Case = (&'static str, Errno, &'static str, &'static str, &'static str);
        let cases: [Case; 7] = [
            ("clone3", Errno::ENOSPC, "user.max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
            ("clone3", Errno::ENOSPC, "user.max_net_namespaces", "0", "sysctl -w user.max_net_namespaces=15000"),
            ("clone3", Errno::ENOSPC, "user.max_user_namespaces", "9", "raise it where it was set"),
            ("clone3", Errno::EPERM, "kernel.unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
            ("clone3", Errno::EPERM, "kernel.unprivileged_userns_clone", "1", "SystemCallFilter"),
            ("mount / private", Errno::EACCES, "kernel.apparmor_restrict_unprivileged_userns", "1", "`userns,`"),
            ("mount proc", Errno::EPERM, "user.max_user_namespaces", "9", "unmask=ALL"),
        ];
        for (step, errno, sysctl, value, words) in cases {
            let mut machine = user_machine();
            machine.sysctls = BTreeMap::from([(sysctl.to_owned(), value.to_owned())]);
            machine.tries.namespaces = Err(Failed::new(step, errno));
            let lacks = lacks_of(&machine);
            let row = lacks.iter().find(|(n, ..)| *n == "namespaces").unwrap();
            assert!(row.1 == Holds::Refuses && row.2.contains(words), "{sysctl}={value}: {row:?}");
            assert_eq!(verdict(&judge(&machine).unwrap()).status(), 3);
        }
    }

    #[test]
    fn controllers_are_told_by_the_planner_and_have_their_own_remedies() {
        let on_v1 = lacks(|m| {
            m.host.cgroup.controllers.clear();
            m.host.cgroup.on_v1 = vec!["cpu".into(), "memory".into(), "pids".into()];
        });
        assert_eq!(on_v1.len(), 3, "{on_v1:?}");
        assert!(on_v1.iter().all(|(_, s, r)| *s == Holds::Less && r.contains("unified_cgroup_hierarchy=1")));
        let undelegated = lacks(|m| {
            m.host.cgroup.controllers.retain(|c| c != "pids");
            m.host.cgroup.lacking.insert("pids".into(), "/a".into());
        });
        assert_eq!(undelegated.len(), 1, "{undelegated:?}");
        // Of one obstacle to all controllers each row has its own limits.
        let mut closed = user_machine();
        closed.host.cgroup.writable = false;
        let rows = judge(&closed).unwrap();
        let without = |name: &str| rows.iter().find(|r| r.name == name).unwrap().without.as_str();
        assert_eq!(without("limit: processes"), "pids.max=512");
        assert_eq!(without("limit: CPU time"), "cpu.max=100000 100000");
        assert!(undelegated[0].2.contains("echo +pids >/sys/fs/cgroup/cgroup.subtree_control"), "{undelegated:?}");
        let unwritable = {
            let mut machine = user_machine();
            machine.host.cgroup.writable = false;
            lacks_of(&machine)
        };
        assert!(unwritable.iter().any(|(n, _, r)| *n == "cgroup v2" && r.contains("Delegate=yes")), "{unwritable:?}");
        assert_eq!(unwritable.len(), 5, "{unwritable:?}");
        let none = lacks(|m| m.host.cgroup = Cgroup::default());
        assert!(none.iter().any(|(n, _, r)| *n == "cgroup v2" && r.contains("mount -t cgroup2")), "{none:?}");
        let swapping = lacks(|m| {
            m.swap = true;
            m.host.cgroup.controllers.retain(|c| c != "memory");
        });
        assert!(swapping.iter().any(|(n, _, r)| *n == "swap" && r.contains("swapoff")), "{swapping:?}");
        assert_eq!(lacks(|m| m.swap = true), []);
    }

    #[test]
    fn a_single_id_has_the_remedy_for_its_cause() {
        for (helper, line, words) in [
            (true, false, &["apt-get", "uidmap"][..]),
            (false, true, &["usermod --add-subuids", "ann"]),
            (true, true, &["uidmap", "usermod"]),
        ] {
            let mut machine = user_machine();
            machine.host.ids = Ids::default();
            machine.subordinate_lines = !line;
            machine.helpers = if helper { vec![("newuidmap".into(), "is missing".into())] } else { Vec::new() };
            let lacks = lacks_of(&machine);
            let (_, state, remedy) = lacks.iter().find(|(n, ..)| *n == "ids of their own").unwrap();
            assert!(*state == Holds::Less && words.iter().all(|w| remedy.contains(w)), "{remedy}");
            assert_eq!(remedy.contains("usermod"), line, "{remedy}");
            // Groups of the caller would stay in effect: then the launch is refused, and the row says so.
            machine.host.groups.push(7);
            let rows = judge(&machine).unwrap();
            let launch = rows.iter().find(|r| r.name == "a launch").unwrap();
            assert!(launch.state == Holds::Refuses && launch.seen.contains("groups 7"), "{launch:?}");
        }
    }
}
