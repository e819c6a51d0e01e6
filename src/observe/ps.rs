//! Do: the processes of a container, as the host numbers them.
//!
//! The cgroup knows them all, sub-cgroups of the workload's own included. Without a cgroup the pid namespace of the init
//! does: every process in it or below it.

use crate::error::{Error, Result};
use crate::state::{Entry, State};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

/// The host's pids of a container.
pub fn pids(entry: &Entry, state: &State) -> Result<Vec<i32>> {
    if let Some(group) = entry.cgroup()? {
        return group.processes();
    }
    if !state.init.alive() {
        return Ok(Vec::new());
    }
    // A process of the container is a descendant of its init: nobody else can put one there.
    let mut parents: Vec<(i32, i32)> = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let status = crate::host::read_small(format!("/proc/{pid}/status"), 64 << 10).unwrap_or_default();
        if let Some(parent) = status.lines().find_map(|l| l.strip_prefix("PPid:")?.trim().parse().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut found = BTreeSet::from([state.init.pid]);
    loop {
        let more: Vec<i32> = parents
            .iter()
            .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return Ok(found.into_iter().collect());
        }
        found.extend(more);
    }
}

/// The lines of the host's ps(1) that are about these processes, under its own header.
pub fn table(pids: &[i32], arguments: &[String]) -> Result<String> {
    let usual = ["-ef".to_owned()];
    let arguments = if arguments.is_empty() { &usual[..] } else { arguments };
    let out = Command::new("ps").args(arguments).stdin(Stdio::null()).output().map_err(|e| {
        Error::io("ps", arguments.join(" "), &e)
            .hint("the table is the host's ps(1), package procps; --format json needs none")
    })?;
    if !out.status.success() {
        return Err(Error::new("ps", arguments.join(" "), String::from_utf8_lossy(&out.stderr).trim().to_owned()));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let Some(column) = header.split_whitespace().position(|w| w == "PID") else {
        return Err(
            Error::new("ps", arguments.join(" "), "its output has no column PID").hint("let ps print one: -o pid,...")
        );
    };
    let ours = |line: &&str| {
        line.split_whitespace().nth(column).and_then(|w| w.parse().ok()).is_some_and(|p: i32| pids.contains(&p))
    };
    let mut table = vec![header];
    table.extend(lines.filter(ours));
    Ok(table.join("\n") + "\n")
}
