//! Do: all that a container is, in one value: what the kernel says of its first process beside what was decided at create.
//!
//! `rows` makes lines of it for a reader, and for the comparison of two: what is the same has the same words. The host is
//! looked at by its PID 1, or where that may not be looked at by ourselves.

use super::facts::{self, text_of};
use super::stats;
use crate::cgroup::Group;
use crate::error::Result;
use crate::mountinfo;
use crate::namespaces::map_lines;
use crate::plan::credentials;
use crate::plan::explain::lines;
use crate::plan::landlock::Landlock;
use crate::policy::Finding;
use crate::seccomp::outcomes::{Denied, denied};
use crate::state::{Entry, State, Status};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The column of values.
const COLUMN: usize = 26;

/// A namespace, on both sides.
#[derive(Debug, Clone, Serialize)]
pub struct Namespace {
    /// The specification's name of its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its inode.
    pub inode: Option<u64>,
    /// The inode of the host's.
    pub host: Option<u64>,
    /// They are the same; none: it cannot be told.
    pub shared: Option<bool>,
}

/// A line of a uid or gid map.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MapLine {
    /// The first id inside.
    pub inside: u32,
    /// The same on the host.
    pub host: u32,
    /// How many.
    pub count: u32,
}

/// An id on both sides.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Id {
    /// On the host.
    pub host: u32,
    /// Inside; none: it has no name there.
    pub inside: Option<u32>,
}

/// Who the process is.
#[derive(Debug, Clone, Serialize)]
pub struct Ids {
    /// The effective user.
    pub uid: Option<Id>,
    /// The effective group.
    pub gid: Option<Id>,
    /// Other groups, by the host's numbers.
    pub groups: Vec<u32>,
    /// uid_map.
    pub uids: Vec<MapLine>,
    /// gid_map.
    pub gids: Vec<MapLine>,
}

/// The filters of the process.
#[derive(Debug, Clone, Serialize)]
pub struct Seccomp {
    /// `off`, `strict` or `filter`.
    pub mode: Option<&'static str>,
    /// How many there are.
    pub filters: Option<u32>,
    /// Where they are from, by the record.
    pub profiles: Vec<String>,
    /// What they deny, by the record.
    pub denies: Option<Denied>,
}

/// A mount.
#[derive(Debug, Clone, Serialize)]
pub struct Mount {
    /// Where it is.
    pub destination: String,
    /// The type of its file system.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which part of that it shows.
    pub root: String,
    /// Its flags.
    pub options: Vec<String>,
    /// private, shared or slave.
    pub propagation: String,
}

/// A limit beside what is used of it.
#[derive(Debug, Clone, Serialize)]
pub struct Limit {
    /// The file that has the limit.
    pub file: &'static str,
    /// What it says.
    pub limit: String,
    /// What is used, in words of its own.
    #[serde(rename = "use")]
    pub used: String,
}

/// The cgroup.
#[derive(Debug, Clone, Serialize)]
pub struct Cgroup {
    /// /proc/PID/cgroup.
    pub path: String,
    /// Limits; empty where the container has no cgroup of its own.
    pub limits: Vec<Limit>,
    /// Pressure stall information by resource.
    pub pressure: BTreeMap<&'static str, Value>,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// The container's id, or `host`.
    pub name: String,
    /// Status, pid, bundle and the like.
    pub identity: BTreeMap<&'static str, Value>,
    /// Namespaces.
    pub namespaces: Vec<Namespace>,
    /// Ids.
    pub ids: Option<Ids>,
    /// Names in each of the five sets.
    pub capabilities: BTreeMap<&'static str, Vec<String>>,
    /// no_new_privs.
    pub no_new_privs: Option<bool>,
    /// Filters.
    pub seccomp: Seccomp,
    /// Labels.
    pub lsm: BTreeMap<&'static str, String>,
    /// The Landlock domain, by the record.
    pub landlock: Option<Landlock>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// The cgroup.
    pub cgroup: Option<Cgroup>,
    /// The policy in force.
    pub policy: Option<String>,
    /// What was decided beyond the config.
    pub findings: Vec<Finding>,
}

/// Looks at a container.
pub fn of_container(entry: &Entry, state: &State, status: Status) -> Result<View> {
    let running = status != Status::Stopped;
    let mut view = if running { of_process(state.init.pid) } else { View::empty() };
    view.name.clone_from(&state.id);
    let confinement = entry.confinement().ok();
    view.identity = BTreeMap::from([
        ("id", json!(state.id)),
        ("status", json!(status.word())),
        ("pid", if running { json!(state.init.pid) } else { Value::Null }),
        ("bundle", json!(state.bundle)),
        ("rootfs", json!(state.rootfs)),
        ("created", json!(state.created)),
        ("owner", json!(state.owner)),
        ("annotations", json!(state.annotations)),
    ]);
    if let Some(confinement) = confinement {
        let programs: Option<Vec<_>> =
            confinement.filters.iter().map(|f| f.filter().map(|filter| filter.program)).collect();
        view.seccomp.profiles = confinement.filters.iter().map(|f| f.profile().to_owned()).collect();
        view.seccomp.denies = programs.map(|p| denied(&p));
        view.landlock = confinement.landlock;
    }
    if let Some(cgroup) = &mut view.cgroup
        && let Some(group) = entry.cgroup()?
    {
        cgroup.limits = limits(&group);
        for (name, file) in [("cpu", "cpu.pressure"), ("memory", "memory.pressure"), ("io", "io.pressure")] {
            cgroup.pressure.extend(stats::pressure(&group, file).map(|p| (name, p)));
        }
    }
    view.policy = Some(state.policy.clone());
    view.findings.clone_from(&state.findings);
    Ok(view)
}

/// Looks at the host.
pub fn of_host() -> View {
    let own = nix::unistd::getpid().as_raw();
    let pid = if facts::inode("/proc/1/ns/mnt").is_some() { 1 } else { own };
    let mut view = of_process(pid);
    view.name = "host".to_owned();
    view.identity = BTreeMap::from([
        ("seen by", json!(if pid == 1 { "PID 1" } else { "this process: PID 1 may not be looked at" })),
        ("pid", json!(pid)),
    ]);
    view
}

impl View {
    fn empty() -> View {
        View {
            name: String::new(),
            identity: BTreeMap::new(),
            namespaces: Vec::new(),
            ids: None,
            capabilities: BTreeMap::new(),
            no_new_privs: None,
            seccomp: Seccomp { mode: None, filters: None, profiles: Vec::new(), denies: None },
            lsm: BTreeMap::new(),
            landlock: None,
            mounts: Vec::new(),
            cgroup: None,
            policy: None,
            findings: Vec::new(),
        }
    }
}

/// What the kernel says of a process.
fn of_process(pid: i32) -> View {
    let status = facts::status(pid);
    let word = |key: &str, n: usize| status.get(key)?.split_whitespace().nth(n)?.parse::<u32>().ok();
    let map = |file: &str| text_of(pid, file).unwrap_or_default();
    let (uid_map, gid_map) = (map("uid_map"), map("gid_map"));
    let table = |text: &str| {
        let line = |(inside, host, count): (u32, u32, u32)| MapLine { inside, host, count };
        map_lines(text).into_iter().map(line).collect::<Vec<_>>()
    };
    let id = |key: &str, map: &str| word(key, 1).map(|host| Id { host, inside: facts::inside(map, host) });
    let sets = [
        ("bounding", "CapBnd"),
        ("permitted", "CapPrm"),
        ("inheritable", "CapInh"),
        ("effective", "CapEff"),
        ("ambient", "CapAmb"),
    ];
    let bits = |key: &str| u64::from_str_radix(status.get(key)?, 16).ok();
    let label = |file: &str| text_of(pid, file).filter(|l| !l.is_empty());
    let enabled = |file: &str| std::path::Path::new(file).exists();
    let mut lsm = BTreeMap::new();
    lsm.extend(label("attr/apparmor/current").map(|l| ("AppArmor", l)));
    if enabled("/sys/fs/selinux/enforce") {
        lsm.extend(label("attr/current").map(|l| ("SELinux", l)));
    }
    View {
        namespaces: facts::inodes(pid)
            .into_iter()
            .filter(|(_, own, host)| own.is_some() || host.is_some())
            .map(|(ns, inode, host)| Namespace {
                kind: ns.name(),
                inode,
                host,
                shared: inode.zip(host).map(|(a, b)| a == b),
            })
            .collect(),
        ids: Some(Ids {
            uid: id("Uid", &uid_map),
            gid: id("Gid", &gid_map),
            groups: status
                .get("Groups")
                .map(|g| g.split_whitespace().filter_map(|n| n.parse().ok()).collect())
                .unwrap_or_default(),
            uids: table(&uid_map),
            gids: table(&gid_map),
        }),
        capabilities: sets.into_iter().filter_map(|(name, key)| Some((name, credentials::names(bits(key)?)))).collect(),
        no_new_privs: word("NoNewPrivs", 0).map(|n| n == 1),
        seccomp: Seccomp {
            mode: word("Seccomp", 0).map(|mode| ["off", "strict", "filter"][mode.min(2) as usize]),
            filters: word("Seccomp_filters", 0),
            profiles: Vec::new(),
            denies: None,
        },
        lsm,
        mounts: mountinfo::of(&pid.to_string()).unwrap_or_default().into_iter().map(mount).collect(),
        cgroup: text_of(pid, "cgroup").map(|path| Cgroup {
            path: path.lines().last().and_then(|l| l.strip_prefix("0::")).unwrap_or(&path).to_owned(),
            limits: Vec::new(),
            pressure: BTreeMap::new(),
        }),
        ..View::empty()
    }
}

fn mount(m: mountinfo::Mount) -> Mount {
    let propagation = match (m.shared, m.master) {
        (None, None) => "private",
        (Some(_), None) => "shared",
        (None, Some(_)) => "slave",
        (Some(_), Some(_)) => "slave and shared",
    };
    Mount {
        destination: m.point.display().to_string(),
        kind: m.fstype,
        root: m.root.display().to_string(),
        options: m.options,
        propagation: propagation.to_owned(),
    }
}

fn limits(group: &Group) -> Vec<Limit> {
    let get = |file: &str| group.get(file).ok().map(|t| t.trim().to_owned());
    let said = |file: &str| get(file).unwrap_or_else(|| "?".to_owned());
    let events = |file: &str, key: &str| stats::number(&stats::keyed(group, file), key);
    let cpu = stats::keyed(group, "cpu.stat");
    let used = |file: &str| match file {
        "memory.max" => format!(
            "{} bytes now, {} at most, {} OOM kills",
            said("memory.current"),
            said("memory.peak"),
            events("memory.events", "oom_kill")
        ),
        "memory.swap.max" => format!("{} bytes now", said("memory.swap.current")),
        "pids.max" => {
            format!("{} now, {} times refused", said("pids.current"), events("pids.events", "max"))
        }
        "cpu.max" => format!(
            "{} us, throttled in {} of {} periods",
            stats::number(&cpu, "usage_usec"),
            stats::number(&cpu, "nr_throttled"),
            stats::number(&cpu, "nr_periods")
        ),
        _ => String::new(),
    };
    ["memory.max", "memory.high", "memory.low", "memory.swap.max", "pids.max", "cpu.max", "cpu.weight", "cpuset.cpus"]
        .into_iter()
        .filter_map(|file| Some(Limit { file, limit: get(file)?, used: used(file) }))
        .collect()
}

/// A line about a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// What it is about.
    pub section: &'static str,
    /// What of that.
    pub key: String,
    /// What is so.
    pub value: String,
    /// It tells a container from another without being a difference of what they may do: a pid, a name, what is in use.
    pub passing: bool,
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(" ") }
}

fn yes(value: Option<bool>) -> String {
    match value {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    }
    .to_owned()
}

impl View {
    /// In words.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut say = |section: &'static str, key: &str, value: String, passing: bool| {
            rows.push(Row { section, key: key.to_owned(), value, passing });
        };
        for (key, value) in &self.identity {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Object(map) if map.is_empty() => continue,
                Value::Null => "-".to_owned(),
                other => other.to_string(),
            };
            say("identity", key, value, true);
        }
        for ns in &self.namespaces {
            let number = |n: Option<u64>| n.map_or("?".to_owned(), |n| n.to_string());
            let beside = match ns.shared {
                Some(true) => "the host's own: shared".to_owned(),
                Some(false) => format!("the host's is {}", number(ns.host)),
                None => "the host's cannot be read".to_owned(),
            };
            say("namespaces", ns.kind, format!("{:<12} {beside}", number(ns.inode)), false);
        }
        if let Some(ids) = &self.ids {
            let both = |id: &Option<Id>| match id {
                Some(Id { host, inside: Some(inside) }) => format!("{inside} inside = {host} on the host"),
                Some(Id { host, inside: None }) => format!("no id inside = {host} on the host"),
                None => "?".to_owned(),
            };
            say("ids", "uid", both(&ids.uid), false);
            say("ids", "gid", both(&ids.gid), false);
            let groups: Vec<String> = ids.groups.iter().map(ToString::to_string).collect();
            say("ids", "groups on the host", list(&groups), false);
            let map = |lines: &[MapLine]| {
                let end = |first: u32, n: u32| u64::from(first) + u64::from(n);
                let line = |m: &MapLine| {
                    format!("{}..{} = {}..{}", m.inside, end(m.inside, m.count), m.host, end(m.host, m.count))
                };
                list(&lines.iter().map(line).collect::<Vec<_>>())
            };
            say("ids", "uids inside = host", map(&ids.uids), false);
            say("ids", "gids inside = host", map(&ids.gids), false);
        }
        for (set, names) in &self.capabilities {
            say("capabilities", set, list(names), false);
        }
        say("restrictions", "no_new_privs", yes(self.no_new_privs), false);
        let count = self.seccomp.filters.map_or(String::new(), |n| format!(", {n} of them"));
        say("restrictions", "seccomp", format!("{}{count}", self.seccomp.mode.unwrap_or("unknown")), false);
        for (name, label) in &self.lsm {
            say("restrictions", name, label.clone(), false);
        }
        let domain = self.landlock.as_ref().map_or("no domain of ours".to_owned(), Landlock::words);
        say("restrictions", "Landlock", domain, false);
        if !self.seccomp.profiles.is_empty() {
            say("seccomp, by the record", "profiles", self.seccomp.profiles.join("; "), false);
        }
        if let Some(denies) = &self.seccomp.denies {
            for (answer, names) in &denies.always {
                say("seccomp, by the record", &format!("denied with {answer}"), list(names), false);
            }
            say("seccomp, by the record", "denied by arguments", list(&denies.sometimes), false);
            let foreign = if denies.foreign { "denied" } else { "not all denied" };
            say("seccomp, by the record", "32-bit calls", foreign.to_owned(), false);
        }
        for m in &self.mounts {
            let part = if m.root == "/" { String::new() } else { format!(" of {}", m.root) };
            say("mounts", &m.destination, format!("{}{part} {} {}", m.kind, m.options.join(","), m.propagation), false);
        }
        if let Some(cgroup) = &self.cgroup {
            say("cgroup", "path", cgroup.path.clone(), true);
            for limit in &cgroup.limits {
                say("cgroup", limit.file, limit.limit.clone(), false);
                if !limit.used.is_empty() {
                    say("cgroup", &format!("  {} used", limit.file), limit.used.clone(), true);
                }
            }
            for (name, psi) in &cgroup.pressure {
                let part = |kind: &str| {
                    let of = |key: &str| psi[kind][key].as_f64().unwrap_or(0.0);
                    format!("{kind} {:.2} % of 10 s, {:.2} % of 60 s", of("avg10"), of("avg60"))
                };
                say("cgroup", &format!("{name} pressure"), format!("{}; {}", part("some"), part("full")), true);
            }
        }
        if let Some(policy) = &self.policy {
            say("policy", "name", policy.clone(), false);
        }
        for f in &self.findings {
            let words = format!("{} -> {}: {} [{}]", f.asked, f.given, f.why, f.rule);
            say("policy", &f.field, words, false);
        }
        rows
    }

    /// As a page.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for row in self.rows() {
            if row.section != section {
                section = row.section;
                out.push_str(&format!("{}{}\n", if out.is_empty() { "" } else { "\n" }, section.to_uppercase()));
            }
            lines(&mut out, &format!("  {}", row.key), COLUMN, &row.value);
        }
        out
    }
}

/// What one of two has and the other has not, or not so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is about.
    pub section: &'static str,
    /// What of that.
    pub key: String,
    /// What the first has there; several where it has several.
    pub a: Vec<String>,
    /// What the second has.
    pub b: Vec<String>,
}

/// Compares two, and says how many lines are the same. Pids, names and what is in use at the moment are no difference.
pub fn compare(a: &View, b: &View) -> (Vec<Difference>, usize) {
    let mut all: Vec<Difference> = Vec::new();
    let mut places: BTreeMap<(&'static str, String), usize> = BTreeMap::new();
    let mut sections: Vec<&'static str> = Vec::new();
    for (view, first) in [(a, true), (b, false)] {
        for row in view.rows().into_iter().filter(|r| !r.passing) {
            let at = *places.entry((row.section, row.key.clone())).or_insert(all.len());
            if at == all.len() {
                all.push(Difference { section: row.section, key: row.key, a: Vec::new(), b: Vec::new() });
                sections.extend(Some(row.section).filter(|s| !sections.contains(s)));
            }
            // What stands beside the number of a namespace is the host's, and no matter here.
            let value = match row.section {
                "namespaces" => row.value.split(' ').next().unwrap_or_default().to_owned(),
                _ => row.value,
            };
            if first { all[at].a.push(value) } else { all[at].b.push(value) }
        }
    }
    // What only the second has comes with the rest of its section.
    all.sort_by_key(|d| sections.iter().position(|s| *s == d.section));
    let (same, found): (Vec<Difference>, Vec<Difference>) = all.into_iter().partition(|d| d.a == d.b);
    (found, same.len())
}

/// A comparison as a page.
pub fn differences(a: &View, b: &View) -> String {
    let (found, same) = compare(a, b);
    let mut out = String::new();
    let mut section = "";
    let names = [a.name.as_str(), b.name.as_str()];
    let column = 6 + names.iter().map(|n| n.chars().count()).max().unwrap_or(0).min(20);
    for difference in &found {
        if difference.section != section {
            section = difference.section;
            out.push_str(&format!("{}\n", section.to_uppercase()));
        }
        lines(&mut out, &format!("  {}", difference.key), COLUMN, "");
        for (name, values) in names.into_iter().zip([&difference.a, &difference.b]) {
            if values.is_empty() {
                lines(&mut out, &format!("    {name}"), column, "-");
            }
            for value in values {
                lines(&mut out, &format!("    {name}"), column, value);
            }
        }
    }
    let word = if out.is_empty() { "nothing differs" } else { "the rest is the same" };
    out.push_str(&format!("{word}: {same} lines\n"));
    out
}

/// A comparison as JSON.
pub fn differences_json(a: &View, b: &View) -> Value {
    let (found, same) = compare(a, b);
    json!({ "a": a.name, "b": b.name, "differences": found, "same": same })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str, uid: u32) -> View {
        let ids = Ids {
            uid: Some(Id { host: uid, inside: Some(0) }),
            gid: Some(Id { host: 7, inside: None }),
            groups: Vec::new(),
            uids: vec![MapLine { inside: 0, host: uid, count: 65_536 }],
            gids: Vec::new(),
        };
        let mut view = View { name: name.to_owned(), ids: Some(ids), ..View::empty() };
        view.identity.insert("pid", json!(uid));
        view.mounts = vec![Mount {
            destination: "/x\u{1b}[2J".to_owned(),
            kind: "tmpfs".to_owned(),
            root: "/".to_owned(),
            options: vec!["ro".to_owned()],
            propagation: "private".to_owned(),
        }];
        view
    }

    #[test]
    fn what_differs_is_told_and_what_passes_is_not() {
        let (a, b) = (view("a", 1000), view("b", 2000));
        let (found, same) = compare(&a, &b);
        let keys: Vec<&str> = found.iter().map(|d| d.key.as_str()).collect();
        assert_eq!(keys, ["uid", "uids inside = host"]);
        assert!(same > 3, "{same}");
        assert_eq!(found[0].a, ["0 inside = 1000 on the host"]);
        assert!(differences(&a, &a).starts_with("nothing differs"));
        let (mut one, two) = (view("a", 1), view("b", 1));
        one.mounts.clear();
        let (found, _) = compare(&one, &two);
        assert_eq!((found.len(), found[0].a.len(), found[0].b.len()), (1, 0, 1));
        assert!(differences(&one, &two).contains("a  ") && differences(&one, &two).contains(" -\n"));
    }

    #[test]
    fn a_container_cannot_give_orders_to_the_terminal() {
        let text = view("a", 1).text();
        assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}"), "{text}");
        assert!(text.lines().all(|l| l.chars().count() <= 100));
    }
}
