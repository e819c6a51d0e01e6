//! Do: a launch told while it happens (`--narrate`), each step with its reason, its time, and what /proc shows of it.
//!
//! The child says after each step that it did it, and waits; the runtime compares /proc/PID before and after, and tells.
//! From the commit on the child waits no more: what follows is told by what the runtime sees. The
//! telling reads and never acts, what cannot be read is left out, and no failure here is one of the launch.

use crate::observe::facts;
use crate::observer::Told;
use crate::plan::explain::{self, Row};
use crate::plan::{Actor, Plan, Step};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

/// Lines are broken before this column.
const WIDTH: usize = 80;
/// Where the words of a step start.
const COLUMN: usize = 15;
/// What the newborn child changes while the runtime does steps of its own, which are not the reason.
const BY_ITSELF: [&str; 3] = ["open descriptors", "umask", "session"];
/// What stands before words that belong to the line above.
const BLANK: &str = "  ";
/// Of many new or gone mounts so many are named.
const NAMED: usize = 4;

/// How it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// A JSON object a step.
    Json,
}

impl Form {
    /// As JSON, or for people.
    pub fn of(json: bool) -> Form {
        if json { Form::Json } else { Form::Text }
    }
}

/// A launch as it is told. It begins before there is a plan.
#[derive(Debug)]
pub struct Tale {
    form: Form,
    colour: bool,
    rows: Vec<Row>,
    told: Vec<bool>,
    /// How long steps took that will be told once something shows of them.
    took: BTreeMap<usize, Duration>,
    chapter: &'static str,
    why: &'static str,
    /// What was seen last.
    seen: Sight,
}

/// A fact that is another after a step.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
struct Change {
    what: String,
    before: String,
    after: String,
}

impl Tale {
    /// Nothing is told yet.
    pub fn new(form: Form) -> Tale {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Tale {
            form,
            colour: form == Form::Text && !plain && std::io::stderr().is_terminal(),
            rows: Vec::new(),
            told: Vec::new(),
            took: BTreeMap::new(),
            chapter: "",
            why: "",
            seen: Sight::default(),
        }
    }

    /// What will be told of.
    pub fn begin(&mut self, plan: &Plan) {
        self.rows = explain::rows(plan);
        self.told = vec![false; plan.steps.len()];
        // The child is compared with what it was cloned from.
        self.seen = Sight::of(std::process::id().cast_signed());
        if self.form == Form::Text {
            let steps = plan.steps.len();
            self.say(&format!("container {} under policy {}: {steps} steps\n", plan.id, plan.policy));
        }
    }

    /// The runtime did a step, at this time and for so long; the child's pid, once there is one.
    pub fn parent(&mut self, number: usize, (at, took): (Duration, Duration), pid: Option<i32>) {
        let changes = pid.map(|pid| self.look(pid, &BY_ITSELF)).unwrap_or_default();
        self.step(number, at, Some(took), &changes);
    }

    /// The child did steps; they are told now if it waits, else once it is seen to have come past them.
    pub fn child(&mut self, done: &[Told], at: Duration, pid: i32, waits: bool) {
        let done = done.iter().map(|(number, _, took)| (*number as usize, Duration::from_nanos(*took)));
        if !waits {
            return self.took.extend(done);
        }
        let mut changes = self.look(pid, &[]);
        let mut done = done.peekable();
        while let Some((number, took)) = done.next() {
            let of_it = if done.peek().is_none() { std::mem::take(&mut changes) } else { Vec::new() };
            self.step(number, at, Some(took), &of_it);
        }
    }

    /// The child has come past a step of the plan, without waiting.
    pub fn passed(&mut self, plan: &Plan, at: Duration, pid: i32, mark: fn(&Step) -> bool) {
        let Some(last) = plan.steps.iter().position(mark) else { return };
        let due: Vec<usize> = (0..=last)
            .filter(|n| plan.steps[*n].actor() == Actor::Child && !self.told.get(*n).copied().unwrap_or(true))
            .collect();
        let (filter, other): (Vec<_>, Vec<_>) =
            self.look(pid, &[]).into_iter().partition(|c| c.what.starts_with("seccomp"));
        let of_filter = due.iter().copied().find(|n| matches!(plan.steps[*n], Step::Seccomp { .. })).unwrap_or(last);
        for number in due {
            let mut changes: Vec<&Change> = Vec::new();
            if number == of_filter {
                changes.extend(&filter);
            }
            if number == last {
                changes.extend(&other);
            }
            let took = self.took.remove(&number);
            self.step(number, at, took, &changes);
        }
    }

    /// What is another than when it was last looked at; `not`: what is left for later.
    fn look(&mut self, pid: i32, not: &[&'static str]) -> Vec<Change> {
        let mut now = Sight::of(pid);
        for name in not {
            match self.seen.facts.get(name) {
                Some(seen) => now.facts.insert(name, seen.clone()),
                None => now.facts.remove(name),
            };
        }
        let changes = self.seen.until(&now);
        self.seen = now;
        changes
    }

    fn step<C: std::borrow::Borrow<Change> + serde::Serialize>(
        &mut self,
        number: usize,
        at: Duration,
        took: Option<Duration>,
        changes: &[C],
    ) {
        let Some(row) = self.rows.get(number).cloned() else { return };
        self.told[number] = true;
        let micros = |t: Duration| t.as_nanos() as f64 / 1000.0;
        if self.form == Form::Json {
            let mut value = json!(row);
            value["atMicros"] = micros(at).into();
            value["tookMicros"] = took.map(micros).into();
            value["changes"] = json!(changes);
            return self.say(&value.to_string());
        }
        let mut out = String::new();
        if row.chapter != self.chapter {
            self.chapter = row.chapter;
            // The empty label is a line of its own.
            explain::wrapped(&mut out, WIDTH, "", 0, row.chapter);
        }
        let who = if row.actor == Actor::Parent { "runtime" } else { "container" };
        let mut head = format!("{}: {}", row.name, row.subject);
        if let Some(took) = took {
            head = format!("{head} [{:.3}ms]", micros(took) / 1000.0);
        }
        explain::wrapped(&mut out, WIDTH, &format!("{:>3} {who}", row.number), COLUMN, &head);
        // Of twenty binds in a row the first one says why.
        if std::mem::replace(&mut self.why, row.why) != row.why {
            explain::wrapped(&mut out, WIDTH, BLANK, COLUMN, row.why);
            if let Some(against) = row.against {
                explain::wrapped(&mut out, WIDTH, BLANK, COLUMN, &format!("against: {against}"));
            }
        }
        let told = out.len();
        for change in changes {
            let Change { what, before, after } = change.borrow();
            explain::wrapped(&mut out, WIDTH, "            ->", COLUMN, &format!("{what}: {before} -> {after}"));
        }
        if self.colour {
            // After the lines were broken, and only around whole ones: nothing of a bundle is between.
            let (words, seen) = out.split_at(told);
            let green: String = seen.lines().map(|l| format!("\u{1b}[32m{l}\u{1b}[0m\n")).collect();
            out = format!("{words}{green}");
        }
        self.say(out.trim_end_matches('\n'));
    }

    fn say(&self, text: &str) {
        let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
    }
}

// --- what /proc shows ------------------------------------------------------------------------------------------------

/// A process as /proc shows it to the runtime.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sight {
    facts: BTreeMap<&'static str, String>,
    mounts: Option<BTreeMap<u64, String>>,
}

impl Sight {
    fn of(pid: i32) -> Sight {
        let dir = Path::new("/proc").join(pid.to_string());
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
        let mut seen = BTreeMap::new();
        let mut fact = |name, value: Option<String>| {
            if let Some(value) = value {
                seen.insert(name, value);
            }
        };
        for (name, file) in [
            ("namespace user", "ns/user"),
            ("namespace mount", "ns/mnt"),
            ("namespace pid", "ns/pid"),
            ("namespace network", "ns/net"),
            ("namespace ipc", "ns/ipc"),
            ("namespace uts", "ns/uts"),
            ("namespace cgroup", "ns/cgroup"),
            ("namespace time", "ns/time"),
        ] {
            fact(name, facts::inode(dir.join(file)).map(|inode| inode.to_string()));
        }
        let line = |text: String| -> String {
            let lines = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
            lines.collect::<Vec<_>>().join("; ")
        };
        let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
        fact("uid_map", read("uid_map").map(line).map(or_none));
        fact("gid_map", read("gid_map").map(line).map(or_none));
        fact("oom_score_adj", read("oom_score_adj").map(line));
        fact(
            "label",
            read("attr/current").map(|t| line(t.trim_end_matches('\0').to_owned())).filter(|l| !l.is_empty()),
        );
        fact("cgroup", read("cgroup").and_then(|t| t.lines().find_map(|l| l.strip_prefix("0::").map(str::to_owned))));
        fact("session", read("stat").and_then(|t| t.rsplit_once(')')?.1.split_whitespace().nth(3).map(str::to_owned)));
        fact(
            "addresses of lo",
            read("net/fib_trie")
                .map(|t| or_none(if t.contains("127.0.0.1") { "127.0.0.1".to_owned() } else { String::new() })),
        );
        let open = std::fs::read_dir(dir.join("fd")).ok().map(|list| list.count().to_string());
        fact("open descriptors", open);
        fact("directory", std::fs::read_link(dir.join("cwd")).ok().map(|p| p.display().to_string()));
        let status = facts::status(pid);
        let field =
            |name: &str| status.get(name).map(|value| or_none(value.split_whitespace().collect::<Vec<_>>().join(" ")));
        fact("program", field("Name"));
        fact("umask", field("Umask"));
        fact("uids", field("Uid"));
        fact("gids", field("Gid"));
        fact("groups", field("Groups"));
        fact("pids, outermost first", field("NSpid"));
        fact("capabilities, effective", field("CapEff").map(|hex| caps(&hex)));
        fact("capabilities, permitted", field("CapPrm").map(|hex| caps(&hex)));
        fact("capabilities, bounding", field("CapBnd").map(|hex| caps(&hex)));
        fact("capabilities, inheritable", field("CapInh").map(|hex| caps(&hex)));
        fact("capabilities, ambient", field("CapAmb").map(|hex| caps(&hex)));
        fact("no_new_privs", field("NoNewPrivs"));
        fact("seccomp filters", field("Seccomp_filters"));
        let limits = read("limits").unwrap_or_default();
        let limit = |name: &str| {
            let rest = limits.lines().find_map(|l| l.strip_prefix(name))?;
            Some(rest.split_whitespace().take(2).collect::<Vec<_>>().join("/"))
        };
        for name in ["Max open files", "Max core file size", "Max processes", "Max locked memory", "Max address space"]
        {
            fact(name, limit(name));
        }
        Sight { facts: seen, mounts: read("mountinfo").map(|text| mounts(&text)) }
    }

    /// What is another in `now`. What one of both could not read is no change.
    fn until(&self, now: &Sight) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        for (what, after) in &now.facts {
            if let Some(before) = self.facts.get(what).filter(|b| *b != after) {
                changes.push(Change { what: (*what).to_owned(), before: before.clone(), after: after.clone() });
            }
        }
        // A new mount namespace has copies of all mounts under new numbers.
        let copied = changes.iter().any(|c| c.what == "namespace mount");
        if let (Some(was), Some(is)) = (&self.mounts, &now.mounts)
            && !copied
        {
            let named = |list: Vec<&String>| match list.len() {
                0 => "nothing".to_owned(),
                n if n <= NAMED => list.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(", "),
                n => {
                    let first: Vec<&str> = list.iter().take(NAMED).map(|m| m.as_str()).collect();
                    format!("{} and {} more", first.join(", "), n - NAMED)
                }
            };
            let gone: Vec<&String> = was.iter().filter(|(id, m)| is.get(id) != Some(m)).map(|(_, m)| m).collect();
            let new: Vec<&String> = is.iter().filter(|(id, m)| was.get(id) != Some(m)).map(|(_, m)| m).collect();
            if !gone.is_empty() || !new.is_empty() {
                let what = format!("mounts ({}, now {})", was.len(), is.len());
                changes.push(Change { what, before: named(gone), after: named(new) });
            }
        }
        changes
    }
}

/// `/dev tmpfs rw,nosuid private` by the number of the mount.
fn mounts(text: &str) -> BTreeMap<u64, String> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let end = words.iter().position(|w| *w == "-")?;
            let shared = if words.get(6..end)?.is_empty() { "" } else { " shared" };
            let shown = format!("{} {} {}{shared}", words.get(4)?, words.get(end + 1)?, words.get(5)?);
            Some((words.first()?.parse().ok()?, shown))
        })
        .collect()
}

/// `none`, `all 41`, or their names.
fn caps(hex: &str) -> String {
    let Ok(bits) = u64::from_str_radix(hex, 16) else { return hex.to_owned() };
    match bits.count_ones() {
        0 => "none".to_owned(),
        n if n > 24 => format!("{n} of them"),
        _ => crate::plan::credentials::names(bits).join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_what_both_saw_and_saw_differently() {
        let sight = |facts: &[(&'static str, &str)], mounts: Option<&str>| Sight {
            facts: facts.iter().map(|(n, v)| (*n, (*v).to_owned())).collect(),
            mounts: mounts.map(super::mounts),
        };
        let before =
            sight(&[("uids", "0"), ("label", "a"), ("umask", "0022")], Some("1 0 8:1 / / rw shared:1 - ext4 d rw\n"));
        let after = sight(
            &[("uids", "7"), ("cgroup", "/"), ("umask", "0022")],
            Some("1 0 8:1 / / rw - ext4 d rw\n2 1 0:5 / /proc ro - proc p rw\n"),
        );
        let changes: Vec<(String, String, String)> =
            before.until(&after).into_iter().map(|c| (c.what, c.before, c.after)).collect();
        let expected = [("uids", "0", "7"), ("mounts (1, now 2)", "/ ext4 rw shared", "/ ext4 rw, /proc proc ro")]
            .map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(changes, expected);
        assert_eq!(after.until(&after), []);
        assert_eq!(before.until(&sight(&[], None)), []);
    }

    #[test]
    fn capabilities_are_named_while_they_are_few() {
        assert_eq!(caps("0000000000000000"), "none");
        assert_eq!(caps("000001ffffffffff"), "41 of them");
        assert!(caps("0000000000000001").contains("CHOWN"));
    }
}
