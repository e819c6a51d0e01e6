//! Decide: how a process runs, beside who it is and what it may do: scheduling, memory placement, limits, labels.
//!
//! All of it is one value, `Shape`, because two kinds of process get it: a container's init, and what `exec` adds later
//! by the value that the state remembers. `Shape::steps` lays its steps; the caller puts them into its ladder.

use super::{Draft, Step, finding};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::policy::{Above, Finding, Lsm, Policy, Want};
use nix::errno::Errno;
use oci_spec::runtime::{
    IOPriorityClass, LinuxMemoryPolicy, LinuxPersonality, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    MemoryPolicyFlagType, MemoryPolicyModeType, Process,
};
use serde::{Deserialize, Serialize};

/// What a process gets before it becomes the workload. Silent parts are as the runtime's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Shape {
    /// `process.oomScoreAdj`.
    pub oom_score_adj: Option<i32>,
    /// `process.scheduler`.
    pub scheduler: Option<Scheduler>,
    /// `process.ioPriority`.
    pub io_priority: Option<IoPriority>,
    /// `process.execCPUAffinity`: not for init.
    pub affinity: Affinity,
    /// `process.rlimits`, and the policy's: (name, soft, hard).
    pub rlimits: Vec<(String, u64, u64)>,
    /// The runtime raises its hard limits for it first, which it may on the host and the process may not.
    pub raise_rlimits: bool,
    /// `linux.memoryPolicy`.
    pub memory_policy: Option<MemoryPolicy>,
    /// `linux.personality`.
    pub personality: Option<Personality>,
    /// `process.user.umask`.
    pub umask: Option<u32>,
    /// `process.apparmorProfile`.
    pub apparmor: Option<String>,
    /// It is the policy's, for a config that names none: applied where it is loaded.
    pub apparmor_default: bool,
    /// `process.selinuxLabel`.
    pub selinux: Option<String>,
    /// No memory both written and executed.
    pub mdwe: Want,
    /// No processor core shared with others.
    pub core_scheduling: Want,
}

/// A scheduling policy: `struct sched_attr` of sched_setattr(2), with the policy by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// `SCHED_OTHER` and so on.
    pub policy: String,
    /// For OTHER and BATCH.
    pub nice: i32,
    /// For FIFO and RR.
    pub priority: u32,
    /// SCHED_FLAG_*, as bits.
    pub flags: u64,
    /// For DEADLINE, in nanoseconds.
    pub runtime: u64,
    /// For DEADLINE, in nanoseconds.
    pub deadline: u64,
    /// For DEADLINE, in nanoseconds; 0: as the deadline.
    pub period: u64,
}

/// An I/O priority, as ioprio_set(2) knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPriority {
    /// 1 real time, 2 best effort, 3 idle.
    pub class: u8,
    /// 0 is the highest, 7 the lowest.
    pub priority: u8,
}

/// The CPUs of a process that joins a container. Empty: not changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Affinity {
    /// Until it is in the container's cgroup.
    pub initial: Vec<u32>,
    /// From then on.
    pub last: Vec<u32>,
}

/// The NUMA policy of set_mempolicy(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// `MPOL_*`, by name.
    pub mode: String,
    /// The same as a number, with MPOL_F_* in it.
    pub bits: u32,
    /// The nodes.
    pub nodes: Vec<u32>,
}

/// An execution domain of personality(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Personality {
    /// `PER_LINUX`
    #[serde(rename = "LINUX")]
    Linux = 0,
    /// `PER_LINUX32`: uname(2) tells of a 32-bit machine.
    #[serde(rename = "LINUX32")]
    Linux32 = 8,
}

/// The steps of a `Shape`, by the place in a ladder where they must be.
#[derive(Debug, Clone, Default)]
pub struct Laid {
    /// The runtime, on itself, before the process is made: the process inherits it. For a process that joins.
    pub before: Vec<Step>,
    /// The runtime, on the process, once that is in its cgroup: its rights on the host are needed, which a process in a
    /// user namespace of its own does not have.
    pub outside: Vec<Step>,
    /// The process on itself, with a private procfs at hand; after the last program that it runs for others, because that
    /// would get the label too, and before its ids change.
    pub label: Vec<Step>,
    /// The process on itself, in its namespaces and before its ids change.
    pub inside: Vec<Step>,
}

impl Shape {
    /// Its steps. `joins`: for a process that joins a container.
    pub fn steps(&self, joins: bool) -> Laid {
        let mut laid = Laid::default();
        let affinity = |cpus: &[u32], initial| Step::CpuAffinity { cpus: cpus.to_vec(), initial };
        if joins && !self.affinity.initial.is_empty() {
            laid.before.push(affinity(&self.affinity.initial, true));
        }
        if let Some(value) = self.oom_score_adj {
            laid.outside.push(Step::OomScoreAdj { value });
        }
        // Before the scheduler: the affinity of a deadline task cannot be changed.
        if joins && !self.affinity.last.is_empty() {
            laid.outside.push(affinity(&self.affinity.last, false));
        }
        if let Some(scheduler) = &self.scheduler {
            laid.outside.push(Step::Scheduler { scheduler: scheduler.clone() });
        }
        if let Some(priority) = self.io_priority {
            laid.outside.push(Step::IoPriority { priority });
        }
        if self.raise_rlimits {
            laid.outside.push(Step::RaiseRlimits { values: self.rlimits.clone() });
        }
        if self.apparmor.is_some() || self.selinux.is_some() {
            laid.label.push(self.label());
        }
        if !self.rlimits.is_empty() {
            laid.inside.push(Step::Rlimits { values: self.rlimits.clone() });
        }
        if let Some(policy) = &self.memory_policy {
            laid.inside.push(Step::MemoryPolicy { policy: policy.clone() });
        }
        if let Some(personality) = self.personality {
            laid.inside.push(Step::Personality { personality });
        }
        if let Some(mask) = self.umask {
            laid.inside.push(Step::Umask { mask });
        }
        let lacks_mdwe = finding(
            "memoryDenyWriteExecute",
            "process",
            "try",
            "memory can be both written and executed",
            "PR_SET_MDWE came with Linux 6.3",
        );
        laid.inside.extend(wanted(self.mdwe, Step::DenyWriteExecute, &[Errno::EINVAL], lacks_mdwe));
        let lacks_cores = finding(
            "coreScheduling",
            "process",
            "try",
            "processor cores are shared with processes of others",
            "no SMT that is on (ENODEV), so there is nothing to share, or a kernel without CONFIG_SCHED_CORE (EINVAL)",
        );
        laid.inside.extend(wanted(
            self.core_scheduling,
            Step::CoreScheduling,
            &[Errno::ENODEV, Errno::EINVAL],
            lacks_cores,
        ));
        laid
    }

    /// A profile that the config names is there or the launch fails; the policy's own is the operator's to load.
    fn label(&self) -> Step {
        let label = Step::Label { apparmor: self.apparmor.clone(), selinux: self.selinux.clone() };
        let Some(profile) = self.apparmor.as_ref().filter(|_| self.apparmor_default) else { return label };
        let or = match &self.selinux {
            None => Step::Skip,
            Some(_) => Step::Label { apparmor: None, selinux: self.selinux.clone() },
        };
        let why = format!("{profile} is not loaded: apparmor_parser --replace loads it from profiles/apparmor/");
        let finding =
            finding("lsm.apparmorDefault", "process.apparmorProfile", "silent", "as the runtime itself", &why);
        Step::Try { step: Box::new(label), on: vec![Errno::ENOENT], or: Box::new(or), finding }
    }
}

/// Of what the runtime does to a process: what must wait until that has emerged, and what need not. A deadline task makes no
/// children, and another may be told that its children are not like it.
pub fn around_emerge(outside: Vec<Step>, emerges: bool) -> (Vec<Step>, Vec<Step>) {
    outside.into_iter().partition(|step| emerges && matches!(step, Step::Scheduler { .. }))
}

/// A step of a protection that may be missing.
fn wanted(want: Want, step: Step, on: &[Errno], finding: Finding) -> Option<Step> {
    match want {
        Want::Off => None,
        Want::Require => Some(step),
        Want::Try => Some(Step::Try { step: Box::new(step), on: on.to_vec(), or: Box::new(Step::Skip), finding }),
    }
}

impl Scheduler {
    /// The kernel's number of the policy: sched(7).
    pub fn number(&self) -> u32 {
        const NAMES: [(&str, u32); 6] = [
            ("SCHED_OTHER", 0),
            ("SCHED_FIFO", 1),
            ("SCHED_RR", 2),
            ("SCHED_BATCH", 3),
            ("SCHED_IDLE", 5),
            ("SCHED_DEADLINE", 6),
        ];
        NAMES.iter().find(|(n, _)| *n == self.policy).map_or(0, |(_, n)| *n)
    }

    /// Whether a process under it cannot fork: sched(7), "Deadline scheduling".
    fn cannot_fork(&self) -> bool {
        self.policy == "SCHED_DEADLINE" && self.flags & FLAG_RESET_ON_FORK == 0
    }
}

impl std::fmt::Display for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.policy)?;
        match self.policy.as_str() {
            "SCHED_OTHER" | "SCHED_BATCH" => write!(f, ", nice {}", self.nice)?,
            "SCHED_FIFO" | "SCHED_RR" => write!(f, ", priority {}", self.priority)?,
            "SCHED_DEADLINE" => {
                let (runtime, deadline, period) = (self.runtime, self.deadline, self.period);
                write!(f, ", {runtime} ns before {deadline} ns of each {period} ns")?;
            }
            _ => {}
        }
        if self.flags != 0 { write!(f, ", flags {:#x}", self.flags) } else { Ok(()) }
    }
}

impl std::fmt::Display for IoPriority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let class = ["none", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"];
        write!(f, "{} {}", class.get(usize::from(self.class)).unwrap_or(&"?"), self.priority)
    }
}

const FLAG_RESET_ON_FORK: u64 = 0x1;

/// What a policy says of a `Shape`, and what the host has for it. Recorded, so that `exec` is judged as `create` was.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    policy: String,
    oom_score_adj: Above,
    scheduler: Above,
    io_priority: Above,
    lsm: Lsm,
    unknown_fields: Above,
    apparmor: bool,
    selinux: bool,
}

impl Rules {
    /// Those of a launch.
    pub fn of(policy: &Policy, host: &Host) -> Rules {
        Rules {
            policy: policy.name.clone(),
            oom_score_adj: policy.oom_score_adj,
            scheduler: policy.scheduler,
            io_priority: policy.io_priority,
            lsm: policy.lsm.clone(),
            unknown_fields: policy.unknown_fields,
            apparmor: host.apparmor,
            selinux: host.selinux,
        }
    }
}

/// Decides everything of a `Shape` that config.json has. `linux.*` is the container's, whatever process asks.
pub fn decide(draft: &mut Draft, process: &Process) -> Result<Shape> {
    let linux = draft.bundle.spec.linux().as_ref();
    let memory_policy = linux.and_then(|l| l.memory_policy().as_ref()).map(memory_policy).transpose()?;
    let personality = linux.and_then(|l| l.personality().as_ref()).map(personality).transpose()?;
    let rules = Rules::of(draft.policy, draft.host);
    let wish = wish(&rules, process, &mut draft.findings)?;
    let hooks = draft.bundle.spec.hooks().as_ref();
    let forks = hooks.is_some_and(|h| {
        [h.create_container(), h.start_container()].iter().any(|l| l.as_ref().is_some_and(|l| !l.is_empty()))
    });
    if forks && wish.scheduler.as_ref().is_some_and(Scheduler::cannot_fork) {
        let why = "SCHED_DEADLINE: the kernel lets no process under it fork, and the hooks createContainer and startContainer are forks of it";
        return Err(bad("process.scheduler.policy", why).hint("add SCHED_FLAG_RESET_ON_FORK"));
    }
    let default = match wish.apparmor {
        None => default_profile(draft),
        Some(_) => None,
    };
    Ok(Shape {
        apparmor_default: default.is_some(),
        apparmor: wish.apparmor.clone().or(default),
        mdwe: draft.policy.memory_deny_write_execute,
        core_scheduling: draft.policy.core_scheduling,
        raise_rlimits: draft.host.privileged() && !wish.rlimits.is_empty(),
        rlimits: super::limits::rlimits(draft, process),
        memory_policy,
        personality,
        ..wish
    })
}

/// The policy's AppArmor profile, for a config that names none. What confines the runtime already is not left for it.
fn default_profile(draft: &mut Draft) -> Option<String> {
    let profile = draft.policy.lsm.apparmor_default.clone().filter(|_| draft.host.apparmor)?;
    let Some(own) = draft.host.confined.clone() else { return Some(profile) };
    let why = "the profile that confines the runtime need not let it change to another";
    draft.find("lsm.apparmorDefault", "process.apparmorProfile", "silent", &format!("the runtime's own, {own}"), why);
    None
}

/// What a process asks beyond an ordinary one's share of processors and disks: a refusal each.
pub fn beyond_share(process: &Process) -> Vec<Error> {
    let rules = Rules {
        policy: "strict".into(),
        oom_score_adj: Above::Allow,
        scheduler: Above::Refuse,
        io_priority: Above::Refuse,
        lsm: Lsm { apparmor_default: None, unconfined: Above::Allow, selinux_label: Above::Allow },
        unknown_fields: Above::Allow,
        apparmor: false,
        selinux: false,
    };
    let mut findings = Vec::new();
    let mut judge = Judge { rules: &rules, findings: &mut findings };
    [judge.scheduler(process).err(), judge.io_priority(process).err()].into_iter().flatten().collect()
}

/// What a process asks, as far as the rules give it.
fn wish(rules: &Rules, process: &Process, findings: &mut Vec<Finding>) -> Result<Shape> {
    let mut judge = Judge { rules, findings };
    judge.foreign(process)?;
    Ok(Shape {
        oom_score_adj: judge.oom_score_adj(process)?,
        scheduler: judge.scheduler(process)?,
        io_priority: judge.io_priority(process)?,
        affinity: affinity(process)?,
        rlimits: process.rlimits().iter().flatten().map(|r| (r.typ().to_string(), r.soft(), r.hard())).collect(),
        umask: process.user().umask(),
        apparmor: judge.apparmor(process)?,
        selinux: judge.selinux(process)?,
        ..Shape::default()
    })
}

impl Shape {
    /// For a process that joins: what it asks, and where it is silent, what init has.
    pub fn join(
        &self,
        rules: &Rules,
        process: &Process,
        privileged: bool,
        findings: &mut Vec<Finding>,
    ) -> Result<Shape> {
        let wish = wish(rules, process, findings)?;
        for (field, key, above, init, wish) in [
            ("process.apparmorProfile", "lsm.unconfined", rules.lsm.unconfined, &self.apparmor, &wish.apparmor),
            ("process.selinuxLabel", "lsm.selinuxLabel", rules.lsm.selinux_label, &self.selinux, &wish.selinux),
        ] {
            if let (Some(init), Some(wish)) = (init, wish)
                && init != wish
                && above != Above::Allow
            {
                return Err(rules.refuse(field, wish, &format!("the container is confined by {init}"), key));
            }
        }
        let mut rlimits = wish.rlimits;
        let silent: Vec<_> =
            self.rlimits.iter().filter(|(n, ..)| !rlimits.iter().any(|(o, ..)| o == n)).cloned().collect();
        rlimits.extend(silent);
        Ok(Shape {
            oom_score_adj: wish.oom_score_adj.or(self.oom_score_adj),
            scheduler: wish.scheduler.or_else(|| self.scheduler.clone()),
            io_priority: wish.io_priority.or(self.io_priority),
            affinity: if process.exec_cpu_affinity().is_some() { wish.affinity } else { self.affinity.clone() },
            raise_rlimits: privileged && !rlimits.is_empty(),
            rlimits,
            memory_policy: self.memory_policy.clone(),
            personality: self.personality,
            umask: wish.umask.or(self.umask),
            apparmor_default: self.apparmor_default && wish.apparmor.is_none(),
            apparmor: wish.apparmor.or_else(|| self.apparmor.clone()),
            mdwe: self.mdwe,
            core_scheduling: self.core_scheduling,
            selinux: wish.selinux.or_else(|| self.selinux.clone()),
        })
    }
}

impl Rules {
    fn refuse(&self, field: &str, asked: &str, why: &str, key: &str) -> Error {
        super::refuse(&self.policy, field, asked, why, key)
    }
}

/// Judges one process.
struct Judge<'a> {
    rules: &'a Rules,
    findings: &'a mut Vec<Finding>,
}

impl Judge<'_> {
    fn find(&mut self, rule: &str, field: &str, asked: &str, given: &str, why: &str) {
        self.findings.push(finding(rule, field, asked, given, why));
    }

    /// Below 0, others die first when memory is short.
    fn oom_score_adj(&mut self, process: &Process) -> Result<Option<i32>> {
        let field = "process.oomScoreAdj";
        let why = "other processes of the host would die in its place";
        match process.oom_score_adj() {
            Some(n) if n < 0 && self.rules.oom_score_adj == Above::Refuse => {
                Err(self.rules.refuse(field, &n.to_string(), why, "oomScoreAdj"))
            }
            Some(n) if n < 0 && self.rules.oom_score_adj == Above::Tighten => {
                self.find("oomScoreAdj", field, &n.to_string(), "0", why);
                Ok(Some(0))
            }
            other => Ok(other),
        }
    }

    /// What the specification has for other systems. Ignoring it is what it asks for, but not what the author of the bundle
    /// had in mind.
    fn foreign(&mut self, process: &Process) -> Result<()> {
        let text = |s: &Option<String>| s.clone().filter(|s| !s.is_empty());
        let fields = [
            ("process.user.username", text(process.user().username()), "uid and gid say who it is"),
            ("process.commandLine", text(process.command_line()), "args say what it runs"),
        ];
        for (field, value, instead) in fields {
            let Some(value) = value else { continue };
            let why = format!("a field for Windows: on Linux {instead}");
            if self.rules.unknown_fields == Above::Refuse {
                return Err(self.rules.refuse(field, &format!("{value:?}"), &why, "unknownFields"));
            }
            self.find("unknownFields", field, &value, "ignored", &why);
        }
        Ok(())
    }

    fn scheduler(&mut self, process: &Process) -> Result<Option<Scheduler>> {
        let Some(asked) = process.scheduler() else { return Ok(None) };
        let policy = *asked.policy();
        let field = |name: &str| format!("process.scheduler.{name}");
        let (fair, real) = match policy {
            LinuxSchedulerPolicy::SchedOther | LinuxSchedulerPolicy::SchedBatch => (true, false),
            LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr => (false, true),
            LinuxSchedulerPolicy::SchedIso => {
                return Err(bad(&field("policy"), "SCHED_ISO is reserved: no Linux implements it"));
            }
            LinuxSchedulerPolicy::SchedIdle | LinuxSchedulerPolicy::SchedDeadline => (false, false),
        };
        let deadline = policy == LinuxSchedulerPolicy::SchedDeadline;
        let stray =
            |name: &str, value: String, of: &str| bad(&field(name), format!("{value}: has a meaning only for {of}"));
        let nice = asked.nice().unwrap_or(0);
        if !(-20..=19).contains(&nice) {
            return Err(bad(&field("nice"), format!("{nice} is outside -20..19")));
        }
        if nice != 0 && !fair {
            return Err(stray("nice", nice.to_string(), "SCHED_OTHER and SCHED_BATCH"));
        }
        let priority = asked.priority().unwrap_or(0);
        if real && !(1..=99).contains(&priority) {
            return Err(bad(&field("priority"), format!("{priority} is outside 1..99")));
        }
        if !real && priority != 0 {
            return Err(stray("priority", priority.to_string(), "SCHED_FIFO and SCHED_RR"));
        }
        let nanoseconds = |value: &Option<u64>| value.unwrap_or(0);
        let (runtime, until, period) =
            (nanoseconds(asked.runtime()), nanoseconds(asked.deadline()), nanoseconds(asked.period()));
        for (name, value) in [("runtime", runtime), ("deadline", until), ("period", period)] {
            if value != 0 && !deadline {
                return Err(stray(name, value.to_string(), "SCHED_DEADLINE"));
            }
        }
        if deadline && !(1024..=until).contains(&runtime) {
            return Err(bad(
                &field("runtime"),
                format!("{runtime} is not from 1024 ns up to the deadline, {until} ns"),
            ));
        }
        if deadline && period != 0 && period < until {
            return Err(bad(&field("period"), format!("{period} is less than the deadline, {until} ns")));
        }
        let flags = asked.flags().iter().flatten().map(|f| flag(*f)).fold(0, |a, b| a | b);
        let wish = Scheduler {
            policy: policy.to_string(),
            nice,
            priority: priority.unsigned_abs(),
            flags,
            runtime,
            deadline: until,
            period,
        };
        if self.rules.scheduler != Above::Allow && (real || deadline || nice < 0 || flags & !FLAG_RESET_ON_FORK != 0) {
            let why = "other processes of the host would wait for it";
            if self.rules.scheduler == Above::Refuse {
                return Err(self.rules.refuse("process.scheduler", &wish.to_string(), why, "scheduler"));
            }
            self.find("scheduler", "process.scheduler", &wish.to_string(), "as the runtime's own", why);
            return Ok(None);
        }
        Ok(Some(wish))
    }

    fn io_priority(&mut self, process: &Process) -> Result<Option<IoPriority>> {
        /// What a process of nice 0 has.
        const NORMAL: u8 = 4;
        let Some(asked) = process.io_priority() else { return Ok(None) };
        let field = "process.ioPriority";
        let level = u8::try_from(asked.priority()).ok().filter(|p| *p <= 7);
        let Some(priority) = level else {
            return Err(bad("process.ioPriority.priority", format!("{} is outside 0..7", asked.priority())));
        };
        let class = match asked.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let wish = IoPriority { class, priority };
        if self.rules.io_priority != Above::Allow && (class == 1 || class == 2 && priority < NORMAL) {
            let why = "the disks of the host would serve it before others";
            if self.rules.io_priority == Above::Refuse {
                return Err(self.rules.refuse(field, &wish.to_string(), why, "ioPriority"));
            }
            let given = IoPriority { class: 2, priority: NORMAL };
            self.find("ioPriority", field, &wish.to_string(), &given.to_string(), why);
            return Ok(Some(given));
        }
        Ok(Some(wish))
    }

    fn apparmor(&mut self, process: &Process) -> Result<Option<String>> {
        let field = "process.apparmorProfile";
        let Some(profile) = process.apparmor_profile().clone().filter(|p| !p.is_empty()) else { return Ok(None) };
        if profile.chars().any(|c| c.is_control()) {
            return Err(bad(field, format!("{profile:?} has a control character")));
        }
        if profile == "unconfined" {
            if self.rules.lsm.unconfined == Above::Allow {
                // Without AppArmor it is so already.
                return Ok(self.rules.apparmor.then_some(profile));
            }
            let why = "a profile that confines the runtime would be left";
            if self.rules.lsm.unconfined == Above::Refuse {
                return Err(self.rules.refuse(field, &profile, why, "lsm.unconfined"));
            }
            self.find("lsm.unconfined", field, &profile, "as the runtime itself", why);
            return Ok(None);
        }
        if !self.rules.apparmor {
            return Err(bad(field, format!("{profile}: AppArmor is not in force on this kernel"))
                .hint("boot with apparmor=1, or remove the profile from the config"));
        }
        Ok(Some(profile))
    }

    fn selinux(&mut self, process: &Process) -> Result<Option<String>> {
        let field = "process.selinuxLabel";
        let Some(label) = process.selinux_label().clone().filter(|p| !p.is_empty()) else { return Ok(None) };
        if label.chars().any(|c| c.is_control() || c == ' ') {
            return Err(bad(field, format!("{label:?} has a blank or a control character")));
        }
        match self.rules.lsm.selinux_label {
            Above::Allow => {}
            Above::Refuse => {
                let why = "a label can be of a domain with more rights than the runtime's own";
                return Err(self.rules.refuse(field, &label, why, "lsm.selinuxLabel"));
            }
            Above::Tighten => {
                let why = "a label can be of a domain with more rights";
                self.find("lsm.selinuxLabel", field, &label, "as the runtime itself", why);
                return Ok(None);
            }
        }
        if !self.rules.selinux {
            return Err(bad(field, format!("{label}: SELinux is not in force on this kernel"))
                .hint("boot with it, or remove the label from the config"));
        }
        Ok(Some(label))
    }
}

fn bad(field: &str, why: impl Into<String>) -> Error {
    Error::new("config.json", field, why)
}

/// SCHED_FLAG_* of linux/sched.h.
fn flag(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => FLAG_RESET_ON_FORK,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x2,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x4,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x8,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

fn affinity(process: &Process) -> Result<Affinity> {
    let Some(asked) = process.exec_cpu_affinity() else { return Ok(Affinity::default()) };
    let list = |name: &str, text: &Option<String>| match text.as_deref().filter(|t| !t.is_empty()) {
        Some(text) => numbers(&format!("process.execCPUAffinity.{name}"), text),
        None => Ok(Vec::new()),
    };
    Ok(Affinity { initial: list("initial", asked.initial())?, last: list("final", asked.cpu_affinity_final())? })
}

/// A list as cpuset(7) writes it: `0-3,7`, of CPUs or nodes below 1024, as many as the sets of libc hold.
fn numbers(field: &str, text: &str) -> Result<Vec<u32>> {
    const MOST: u32 = 1024;
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            (Ok(first), Ok(last)) if first <= last && last < MOST => all.extend(first..=last),
            _ => {
                return Err(bad(field, format!("{text:?}: {part:?} is not a number or a range within 0-{}", MOST - 1)));
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn memory_policy(asked: &LinuxMemoryPolicy) -> Result<MemoryPolicy> {
    let field = "linux.memoryPolicy";
    let mode = asked.mode();
    // MPOL_* of linux/mempolicy.h.
    let number = match mode {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let nodes = match asked.nodes().as_deref().filter(|n| !n.trim().is_empty()) {
        Some(text) => numbers("linux.memoryPolicy.nodes", text)?,
        None => Vec::new(),
    };
    match mode {
        MemoryPolicyModeType::MpolDefault | MemoryPolicyModeType::MpolLocal if !nodes.is_empty() => {
            return Err(bad("linux.memoryPolicy.nodes", format!("{mode} takes none")));
        }
        MemoryPolicyModeType::MpolDefault | MemoryPolicyModeType::MpolLocal | MemoryPolicyModeType::MpolPreferred => {}
        _ if nodes.is_empty() => return Err(bad("linux.memoryPolicy.nodes", format!("{mode} needs at least one"))),
        _ => {}
    }
    let flags = asked.flags().iter().flatten().fold(0, |bits, flag| {
        bits | match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        }
    });
    const EXCLUSIVE: u32 = 1 << 14 | 1 << 15;
    if flags & EXCLUSIVE == EXCLUSIVE {
        return Err(bad(&format!("{field}.flags"), "MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other"));
    }
    Ok(MemoryPolicy { mode: mode.to_string(), bits: number | flags, nodes })
}

fn personality(asked: &LinuxPersonality) -> Result<Personality> {
    use oci_spec::runtime::LinuxPersonalityDomain as Domain;
    if let Some(flag) = asked.flags().iter().flatten().next() {
        return Err(bad("linux.personality.flags[0]", format!("{flag:?}: the specification has no flags yet"))
            .hint("some of personality(2) switch protections off, ADDR_NO_RANDOMIZE for one"));
    }
    Ok(match asked.domain() {
        Domain::PerLinux => Personality::Linux,
        Domain::PerLinux32 => Personality::Linux32,
    })
}
