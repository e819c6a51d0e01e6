//! Do: what the runtime does to a process that it has made, for a launch and for `exec` alike.
//!
//! The rights that it takes are those on the host: in a user namespace of its own the process has none of them.

use crate::error::{Context, Error, Result};
use crate::plan::Step;
use crate::plan::process::Scheduler;
use crate::sys;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Does a step of `plan::process::Laid`: one of `before` on ourselves with pid 0, one of `outside` on the process.
pub fn shape(pid: i32, step: &Step) -> Result<()> {
    let (name, subject) = (step.name(), step.subject());
    match step {
        Step::OomScoreAdj { value } => {
            let (path, value) = (format!("/proc/{pid}/oom_score_adj"), value.to_string());
            let written = std::fs::write(&path, &value).at(name, subject);
            // The bridge into namespaces of others has done it where we, who may not write there, cannot.
            match crate::host::read_small(&path, 64) {
                Ok(now) if now.trim() == value => Ok(()),
                _ => written.map_err(|e| e.hint("a value below the caller's own needs CAP_SYS_RESOURCE")),
            }
        }
        Step::RaiseRlimits { values } => raise_rlimits(pid, values),
        Step::CpuAffinity { cpus, .. } => {
            let mut set = CpuSet::new();
            for cpu in cpus {
                set.set(*cpu as usize).at(name, &subject)?;
            }
            sched_setaffinity(Pid::from_raw(pid), &set)
                .at(name, &subject)
                .map_err(|e| e.hint("none of these CPUs is there, or the cgroup's cpuset has none of them"))
        }
        Step::Scheduler { scheduler } => set_scheduler(pid, scheduler).at(name, &subject).map_err(|e| match e.errno() {
            Some(Errno::EPERM) => e.hint(
                "real time, deadline and a nice below the own need CAP_SYS_NICE on the host; deadline also every CPU of the machine",
            ),
            Some(Errno::EBUSY) => e.hint("the machine has promised all its time to other deadline tasks"),
            Some(Errno::EINVAL) => e.hint("a flag or a value that this kernel does not take"),
            _ => e,
        }),
        Step::IoPriority { priority } => {
            sys::ioprio_set(pid, priority.class, priority.priority).at(name, &subject).map_err(|e| match e.errno() {
                Some(Errno::EPERM) => e.hint("the class RT needs CAP_SYS_NICE on the host"),
                _ => e,
            })
        }
        other => Err(Error::new("launch", other.name(), "is not done to a process from outside")),
    }
}

fn set_scheduler(pid: i32, scheduler: &Scheduler) -> std::result::Result<(), Errno> {
    /// As a value of the clamps: none.
    const RESET: u32 = u32::MAX;
    sys::sched_setattr(
        pid,
        sys::SchedAttr {
            policy: scheduler.number(),
            flags: scheduler.flags,
            nice: scheduler.nice,
            priority: scheduler.priority,
            runtime: scheduler.runtime,
            deadline: scheduler.deadline,
            period: scheduler.period,
            util_min: if scheduler.flags & 0x20 != 0 { RESET } else { 0 },
            util_max: if scheduler.flags & 0x40 != 0 { RESET } else { 0 },
            ..sys::SchedAttr::default()
        },
    )
}

/// The kernel's number of a resource by the specification's name.
pub fn resource(name: &str) -> Option<u32> {
    const NAMES: [&str; 16] = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    let name = name.strip_prefix("RLIMIT_")?;
    NAMES.iter().position(|n| *n == name).map(|i| i as u32)
}

fn raise_rlimits(pid: i32, values: &[(String, u64, u64)]) -> Result<()> {
    for (name, _, hard) in values {
        let subject = format!("{name} {hard}");
        let number = resource(name).ok_or_else(|| Error::new("rlimits", name.as_str(), "unknown"))?;
        let (soft, own) = sys::get_rlimit(number).at("rlimits", &subject)?;
        if *hard > own {
            sys::set_rlimit(pid, number, soft, *hard)
                .at("rlimits", format!("{subject}, above our own hard limit {own}"))
                .map_err(|e| {
                    e.hint("raising a hard limit needs CAP_SYS_RESOURCE, which stockade lacks here; ask for less")
                })?;
        }
    }
    Ok(())
}
