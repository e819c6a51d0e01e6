//! Decide: the rows of an audit, by id: what is asked, how bad a "no" is, and who asks it.
//!
//! docs/audit.md is this table for readers, and a test holds the two equal.

use super::Severity::{self, Critical, High, Info, Low, Medium};

/// A row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// `CIS-5.4`, `ST-2`, `X-7`.
    pub id: &'static str,
    /// What holds when the row passes.
    pub title: &'static str,
    /// How bad it is when it does not.
    pub severity: Severity,
}

const fn row(id: &'static str, severity: Severity, title: &'static str) -> Row {
    Row { id, title, severity }
}

/// Every row, in the order of a report.
pub const ROWS: [Row; 77] = [
    row("CIS-5.1", Info, "swarm mode is not enabled without need"),
    row("CIS-5.2", High, "an AppArmor profile confines the process"),
    row("CIS-5.3", High, "an SELinux label confines the process"),
    row("CIS-5.4", Critical, "capabilities are restricted"),
    row("CIS-5.5", Critical, "the container is not privileged"),
    row("CIS-5.6", High, "no sensitive directory of the host is mounted"),
    row("CIS-5.7", Medium, "no ssh daemon runs inside"),
    row("CIS-5.8", Info, "privileged ports are not mapped"),
    row("CIS-5.9", Info, "only needed ports are open"),
    row("CIS-5.10", Critical, "the host's network namespace is not shared"),
    row("CIS-5.11", High, "memory is limited"),
    row("CIS-5.12", Medium, "CPU time is limited or weighed"),
    row("CIS-5.13", High, "the root file system is read-only"),
    row("CIS-5.14", Info, "incoming traffic is bound to one interface"),
    row("CIS-5.15", Info, "restarts after a failure are limited"),
    row("CIS-5.16", Critical, "the host's pid namespace is not shared"),
    row("CIS-5.17", High, "the host's ipc namespace is not shared"),
    row("CIS-5.18", High, "no device of the host is exposed"),
    row("CIS-5.19", Medium, "limits of a process are set"),
    row("CIS-5.20", High, "mounts do not travel between host and container"),
    row("CIS-5.21", Medium, "the host's uts namespace is not shared"),
    row("CIS-5.22", Critical, "a seccomp profile denies what it does not name"),
    row("CIS-5.23", High, "no process was added with more rights than init has"),
    row("CIS-5.24", Medium, "no process was added as root"),
    row("CIS-5.25", Medium, "the cgroup lies where containers belong"),
    row("CIS-5.26", High, "no new privileges can be gained"),
    row("CIS-5.27", Info, "health is checked"),
    row("CIS-5.28", Info, "the image is pinned"),
    row("CIS-5.29", High, "the number of processes is limited"),
    row("CIS-5.30", Info, "the default bridge is not used"),
    row("CIS-5.31", High, "the host's user namespace is not shared"),
    row("CIS-5.32", Critical, "no daemon's socket is mounted"),
    row("ST-1", High, "CPU time and memory are limited"),
    row("ST-2", High, "all capabilities are dropped, and only needed ones given"),
    row("ST-3", Critical, "the container is not privileged"),
    row("ST-4", High, "a user namespace maps root to an ordinary id"),
    row("ST-5", High, "the root is read-only, and volumes are chosen"),
    row("ST-6", High, "the process is not root of the host"),
    row("ST-7", Critical, "docker.sock is not mounted"),
    row("ST-8", High, "what is mounted read-only is so with the mounts below it"),
    row("ST-9", Medium, "no ssh inside"),
    row("ST-10", Info, "exposed ports are known"),
    row("ST-11", Critical, "the defaults of AppArmor, SELinux and seccomp are in force"),
    row("ST-12", Critical, "no namespace pid, network or ipc of the host is shared"),
    row("ST-13", High, "mount propagation is not shared"),
    row("ST-14", High, "no secret is in the environment"),
    row("ST-15", Medium, "no setuid program and no file capability is of use"),
    row("ST-16", Info, "the image is minimal"),
    row("ST-17", Low, "what the filter denies is logged"),
    row("ST-18", Info, "daemon, updates, signatures and networks are cared for"),
    row("ST-19", High, "the seccomp profile is a list of what is allowed"),
    row("X-1", Medium, "a cgroup namespace hides the host's cgroups"),
    row("X-2", Low, "a time namespace hides the host's uptime"),
    row("X-3", High, "files of /proc and /sys that tell or do too much are covered"),
    row("X-4", Medium, "the seccomp profile is for this architecture alone"),
    row("X-5", High, "AF_ALG cannot be reached"),
    row("X-6", High, "no hook runs on the host"),
    row("X-7", Medium, "no annotation steers a runtime or a unit"),
    row("X-8", Info, "cgroup v2 alone is in use"),
    row("X-9", Medium, "the OOM killer may take it"),
    row("X-10", High, "every sysctl is the container's own"),
    row("X-11", High, "ids are below 2^31"),
    row("X-12", High, "no string has a NUL or an unexpected newline"),
    row("X-13", Medium, "every field is one that the specification has"),
    row("X-14", High, "/dev is a fresh file system"),
    row("X-15", High, "labels are written to a fresh procfs"),
    row("X-16", High, "the config is well-formed"),
    row("X-17", Medium, "no namespace of others is joined"),
    row("X-18", Medium, "file systems are of the usual types"),
    row("X-19", High, "no mount has the owners of the host"),
    row("X-20", High, "the kernel's files are where they are masked"),
    row("X-21", Medium, "scheduling and I/O priority are ordinary"),
    row("X-22", High, "no network device or cache class of the host is moved in"),
    row("X-23", Medium, "/dev/shm has a size"),
    row("X-24", Medium, "the seccomp profile denies what our own denies"),
    row("X-25", Medium, "no mount takes a flag of the host away"),
    row("X-26", Critical, "mounts are made in a namespace of its own"),
];

impl Row {
    /// Who asks.
    pub fn source(&self) -> String {
        match self.id.split_once('-') {
            Some(("CIS", number)) => format!("CIS Docker Benchmark {number}"),
            Some(("ST", _)) => "checklist for containers".to_owned(),
            _ => "stockade's threat model".to_owned(),
        }
    }

    /// Where to read about it.
    pub fn help(&self) -> String {
        let anchor: String = self.id.to_ascii_lowercase().chars().filter(|c| *c != '.').collect();
        format!("https://github.com/stockade-rs/stockade/blob/main/docs/audit.md#{anchor}")
    }
}
