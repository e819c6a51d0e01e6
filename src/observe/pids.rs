//! Do: the processes of a container by every number that they have, and the picture of their namespaces.
//!
//! All of it is from /proc of the host: `NSpid` of proc_pid_status(5) has a number for each pid namespace from ours down
//! to the process's own. What a process calls itself is the workload's word, and shown with its control characters escaped.

use super::facts::{self, text_of};
use super::ps;
use crate::error::{Result, printable};
use crate::plan::Ns;
use crate::state::{Entry, State};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// A picture is as wide as a terminal has always been.
const WIDTH: usize = 80;
/// More namespaces side by side would have no room for a name; the table has them all.
const DEEPEST: usize = 3;
/// What is read of a command line.
const COMMAND: u64 = 4096;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its number on the host.
    pub pid: i32,
    /// Its number in every pid namespace, from the host's down to its own.
    pub numbers: Vec<i32>,
    /// The inode of its own pid namespace.
    pub namespace: Option<u64>,
    /// Its parent, by the host's number.
    pub parent: i32,
    /// Its effective user on the host.
    pub host_uid: u32,
    /// The same in the container; none: an id that the container has no name for.
    pub uid: Option<u32>,
    /// The letter of its state.
    pub state: char,
    /// Its name.
    pub name: String,
    /// Its command line; empty where it has none.
    pub command: Vec<String>,
}

/// A container's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Family {
    /// The container.
    pub id: String,
    /// Its first process.
    pub init: i32,
    /// The inode of our pid namespace.
    pub host_namespace: Option<u64>,
    /// The inode of the container's.
    pub namespace: Option<u64>,
    /// Parents of the first process on the host, from PID 1 down: number and name.
    pub above: Vec<(i32, String)>,
    /// All of them, each below its parent.
    pub processes: Vec<Process>,
}

/// Looks at the processes of a container.
pub fn read(entry: &Entry, state: &State) -> Result<Family> {
    let map = text_of(state.init.pid, "uid_map").unwrap_or_default();
    let found = ps::pids(entry, state)?;
    let processes = tree(found.into_iter().filter_map(|pid| process(pid, &map)).collect());
    Ok(Family {
        id: state.id.clone(),
        init: state.init.pid,
        host_namespace: facts::inode("/proc/self/ns/pid"),
        namespace: facts::inode(format!("/proc/{}/ns/pid", state.init.pid)),
        above: above(state.init.pid),
        processes,
    })
}

/// One that ended meanwhile is none.
fn process(pid: i32, map: &str) -> Option<Process> {
    let status = facts::status(pid);
    let words = |key: &str| status.get(key).map(|v| v.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
    let host_uid = words("Uid").get(1)?.parse().ok()?;
    let command = crate::host::read_small(format!("/proc/{pid}/cmdline"), COMMAND).unwrap_or_default();
    Some(Process {
        pid,
        numbers: words("NSpid").iter().filter_map(|n| n.parse().ok()).collect(),
        namespace: facts::inode(format!("/proc/{pid}/ns/{}", Ns::Pid.file())),
        parent: words("PPid").first()?.parse().ok()?,
        host_uid,
        uid: facts::inside(map, host_uid),
        state: words("State").first()?.chars().next()?,
        name: status.get("Name")?.clone(),
        command: command.trim_end_matches('\0').split('\0').filter(|w| !w.is_empty()).map(str::to_owned).collect(),
    })
}

fn above(init: i32) -> Vec<(i32, String)> {
    let mut chain = Vec::new();
    let mut at = init;
    // A chain of parents has no loop, but it is read while it changes.
    while chain.len() < 64 {
        let parent = facts::status(at).get("PPid").and_then(|p| p.parse::<i32>().ok()).unwrap_or(0);
        let Some(name) = facts::status(parent).get("Name").cloned().filter(|_| parent > 0) else { break };
        chain.push((parent, name));
        at = parent;
    }
    chain.reverse();
    chain
}

/// Each below its parent, in the order of their numbers.
fn tree(mut all: Vec<Process>) -> Vec<Process> {
    all.sort_by_key(|p| p.pid);
    let known: BTreeSet<i32> = all.iter().map(|p| p.pid).collect();
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in all {
        // Whoever came by `exec` has a parent outside.
        let parent = if known.contains(&process.parent) { process.parent } else { 0 };
        children.entry(parent).or_default().push(process);
    }
    let mut ordered = Vec::new();
    let mut todo: Vec<Process> = children.remove(&0).unwrap_or_default();
    todo.reverse();
    while let Some(process) = todo.pop() {
        todo.extend(children.remove(&process.pid).unwrap_or_default().into_iter().rev());
        ordered.push(process);
    }
    ordered
}

impl Family {
    /// How many namespaces deep it goes, the host's included.
    fn depth(&self) -> usize {
        self.processes.iter().map(|p| p.numbers.len()).max().unwrap_or(1).max(1)
    }

    /// What stands before each name to draw the tree.
    fn branches(&self) -> Vec<String> {
        let level = |process: &Process| {
            let (mut chain, mut above) = (vec![process.pid], process.parent);
            while let Some(parent) = self.processes.iter().find(|p| p.pid == above) {
                chain.push(parent.pid);
                above = parent.parent;
            }
            chain.reverse();
            chain
        };
        let last = |pid: i32| {
            let of = |p: &&Process| p.pid == pid;
            let Some(me) = self.processes.iter().find(of) else { return true };
            self.processes.iter().filter(|p| p.parent == me.parent).max_by_key(|p| p.pid).is_none_or(|p| p.pid == pid)
        };
        self.processes
            .iter()
            .map(|process| {
                let chain = level(process);
                let mut text = String::new();
                for (i, pid) in chain.iter().enumerate().skip(1) {
                    let own = i + 1 == chain.len();
                    text.push_str(match (own, last(*pid)) {
                        (true, true) => "└─ ",
                        (true, false) => "├─ ",
                        (false, true) => "   ",
                        (false, false) => "│  ",
                    });
                }
                text
            })
            .collect()
    }

    /// The table: a line a process.
    pub fn table(&self) -> String {
        let depth = self.depth();
        let mut header = vec!["HOST PID".to_owned()];
        // In a namespace of the host's its number inside is the same.
        header.extend((1..depth.max(2)).map(|n| if n == 1 { "PID".to_owned() } else { format!("PID {n}") }));
        header.extend(["HOST UID", "UID", "STATE", "COMMAND"].map(str::to_owned));
        let mut rows = vec![header];
        for (process, branch) in self.processes.iter().zip(self.branches()) {
            let mut row = vec![process.pid.to_string()];
            for level in 1..depth.max(2) {
                let number = match process.numbers.get(level) {
                    None if depth == 1 => process.numbers.first(),
                    other => other,
                };
                row.push(number.map_or("-".to_owned(), ToString::to_string));
            }
            row.push(process.host_uid.to_string());
            row.push(process.uid.map_or("-".to_owned(), |u| u.to_string()));
            row.push(process.state.to_string());
            let words = match process.command.is_empty() {
                // A kernel thread, or a zombie.
                true => format!("[{}]", process.name),
                false => process.command.join(" "),
            };
            row.push(format!("{branch}{}", printable(&words)));
            rows.push(row);
        }
        let columns = rows[0].len();
        let width = |n: usize| rows.iter().map(|r| r[n].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
            format!("{}\n", cells.join("   ").trim_end())
        };
        rows.iter().map(line).collect()
    }

    /// The picture: a box for each pid namespace, and each process in all that it can be seen from.
    pub fn picture(&self) -> String {
        let boxes = self.depth().clamp(1, DEEPEST);
        // Two edges a box, and three columns between two of them.
        let room = (WIDTH - 2 * boxes - 3 * (boxes - 1)) / boxes;
        let mut out = String::new();
        let number = |n: Option<u64>| n.map_or("?".to_owned(), |n| n.to_string());
        // The number is what tells one from another; of a long name the beginning does.
        let label = |name: &str, number: String| {
            let tail = format!(", pid:[{number}] ");
            format!(" {}{tail}", cut(name, room.saturating_sub(tail.len() + 1)))
        };
        let title = |level: usize| match level {
            0 => label("the host", number(self.host_namespace)),
            1 => label(&self.id, number(self.namespace)),
            _ => {
                let at: BTreeSet<Option<u64>> =
                    self.processes.iter().filter(|p| p.numbers.len() == level + 1).map(|p| p.namespace).collect();
                match at.len() {
                    1 => label("inside", number(at.into_iter().next().flatten())),
                    n => label("inside", format!("{n} of them")),
                }
            }
        };
        let edge = |left: &str, right: &str, text: &dyn Fn(usize) -> String| {
            let each: Vec<String> = (0..boxes)
                .map(|level| {
                    let text = cut(&text(level), room);
                    format!("{left}{text}{}{right}", "─".repeat(room - text.chars().count()))
                })
                .collect();
            each.join("   ") + "\n"
        };
        out.push_str(&edge("┌", "┐", &title));
        let mut line = |cells: Vec<Option<String>>| {
            for (level, cell) in cells.iter().enumerate() {
                let joined = level > 0 && cell.is_some() && cells[level - 1].is_some();
                let between = if joined { " = " } else { "   " };
                let text = cut(cell.as_deref().unwrap_or_default(), room);
                let gap = " ".repeat(room - text.chars().count());
                let _ = write!(out, "{}│{text}{gap}│", if level == 0 { "" } else { between });
            }
            out.push('\n');
        };
        for (pid, name) in &self.above {
            let mut cells = vec![Some(format!("{pid:>8}  {}", printable(name)))];
            cells.resize(boxes, None);
            line(cells);
        }
        for (process, branch) in self.processes.iter().zip(self.branches()) {
            let name = format!("{branch}{}", printable(&process.name));
            let cell = |level: usize| {
                let number = if level == 0 { Some(&process.pid) } else { process.numbers.get(level) };
                // On the host the whole family hangs below somebody.
                number
                    .map(|n| format!("{n:>8}  {}{name}", if level == 0 && !self.above.is_empty() { "  " } else { "" }))
            };
            line((0..boxes).map(cell).collect());
        }
        out.push_str(&edge("└", "┘", &|_| String::new()));
        out
    }
}

/// At most so many columns of a text.
fn cut(text: &str, room: usize) -> String {
    match text.chars().count() > room {
        true => text.chars().take(room.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(numbers: &[i32], parent: i32, name: &str) -> Process {
        Process {
            pid: numbers[0],
            numbers: numbers.to_vec(),
            namespace: Some(numbers.len() as u64),
            parent,
            host_uid: 100_000,
            uid: Some(0),
            state: 'S',
            name: name.to_owned(),
            command: vec![name.to_owned(), "-x\u{1b}[2J\n".to_owned()],
        }
    }

    fn family(processes: Vec<Process>) -> Family {
        Family {
            id: "box".to_owned(),
            init: 400,
            host_namespace: Some(1),
            namespace: Some(2),
            above: vec![(1, "init".to_owned()), (300, "a\nname".to_owned())],
            processes: tree(processes),
        }
    }

    #[test]
    fn a_process_stands_below_its_parent_with_all_its_numbers() {
        let family = family(vec![
            process(&[420, 5, 1], 410, "nested"),
            process(&[430, 6], 7, "executed"),
            process(&[400, 1], 300, "sh"),
            process(&[410, 4], 400, "unshare"),
            process(&[405, 2], 400, "sleep"),
        ]);
        let table = family.table();
        let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["HOST", "PID", "PID", "PID", "2", "HOST", "UID", "UID", "STATE", "COMMAND"]);
        assert_eq!(lines[1][..6], ["400", "1", "-", "100000", "0", "S"]);
        assert_eq!(lines[2][..3], ["405", "2", "-"]);
        assert_eq!(lines[4][..3], ["420", "5", "1"]);
        assert_eq!(lines[5][..3], ["430", "6", "-"]);
        for (line, words) in [(1, " sh -x"), (2, "├─ sleep"), (3, "└─ unshare"), (4, "   └─ nested"), (5, " executed")]
        {
            assert!(table.lines().nth(line).unwrap().contains(words), "{table}");
        }
        assert!(!table.contains('\u{1b}') && table.lines().count() == 6, "{table}");
    }

    #[test]
    fn the_picture_has_a_box_for_each_namespace_and_a_reader_can_trust_its_edges() {
        let family = family(vec![process(&[400, 1], 300, "sh"), process(&[405, 2, 1], 400, &"x".repeat(90))]);
        let picture = family.picture();
        let widths: BTreeSet<usize> = picture.lines().map(|l| l.chars().count()).collect();
        assert_eq!(widths.len(), 1, "{picture}");
        assert!(widths.iter().all(|w| *w <= WIDTH), "{picture}");
        let lines: Vec<&str> = picture.lines().collect();
        assert_eq!(lines.len(), 6, "{picture}");
        assert!(lines[0].contains("the host") && lines[0].contains("box"), "{picture}");
        assert!(lines[2].contains("a\\nname"), "{picture}");
        // The same process on both sides, joined; the one above it is on the host alone.
        assert!(lines[3].contains("400") && lines[3].contains("│ = │") && lines[3].contains("  1  sh"), "{picture}");
        assert!(!lines[1].contains(" = "), "{picture}");
        assert_eq!(lines[4].matches(" = ").count(), 2, "{picture}");
    }

    #[test]
    fn in_the_hosts_namespace_there_is_one_box() {
        let family = family(vec![process(&[400], 300, "sh")]);
        assert_eq!(family.picture().lines().next().unwrap().matches('┌').count(), 1);
        let table = family.table();
        assert_eq!(table.lines().nth(1).unwrap().split_whitespace().take(2).collect::<Vec<_>>(), ["400", "400"]);
    }
}
