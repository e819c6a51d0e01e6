//! Do: the parent's side of the ladder.
//!
//! ```text
//! parent                                             child (init.rs)
//! Record, CloneSource, MakeCgroup, Limits,
//! DeviceProgram, Join
//! Clone  ------------------------------------------> DieWithParent, AwaitGo
//! MapIds, OomScoreAdj, Idmap, Network, Hooks
//! Go     ------------------------------------------> mounts, pivot, names, limits, credentials
//! (console to its socket) <------------------------- Console
//! (state.json, pid file)  <------------------------- Ready
//! Commit ------------------------------------------> no longer dies with us (create, run -d)
//!                         <------------------------- Committed; waits at the Gate
//! ```
//!
//! It does the steps of the plan in order and has no policy of its own. If anything fails before the commit, everything
//! that was made is unmade here; if we are killed, the child dies with us and `delete --force` does it from the record.

pub mod netdev;
pub mod pasta;
pub mod process;
pub mod rdt;

use crate::cgroup::systemd::{self, Scope};
use crate::cgroup::tree::{self, Claim};
use crate::cgroup::{Group, device, honest};
use crate::console::Signals;
use crate::error::{Context, Error, Result};
use crate::init;
use crate::plan::{Actor, IdMap, Joined, Moment, Ns, Plan, Step};
use crate::policy::Finding;
use crate::state::{CgroupRecord, Entry, Intent, ProcessId};
use crate::sync::{Channel, Tag};
use crate::{hooks, join, mount, observer, own, pty, stub, sys};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a launch needs beside the plan.
pub struct Setting<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Where cgroup v2 is mounted.
    pub cgroup_mount: Option<&'a Path>,
    /// The container's directory; locked, when it is a launch.
    pub entry: &'a Entry,
    /// The container that is entered, where it is not a launch.
    pub target: Option<join::Target<'a>>,
    /// The bundle directory, for the state that hooks read.
    pub bundle: &'a Path,
    /// The config's annotations, for the same.
    pub annotations: &'a std::collections::BTreeMap<String, String>,
    /// The gate of `create`; none for `run`, where the gate is a message.
    pub gate: Option<OwnedFd>,
    /// Where a child that is past the commit writes why it failed.
    pub failure: Option<OwnedFd>,
    /// The container dies with us.
    pub foreground: bool,
    /// A foreground run: the signals that it blocks, some of which are to end what takes too long.
    pub signals: Option<&'a Signals>,
    /// Set once hooks may have run that made something: then those that clear it away run, too, if the launch fails.
    pub hooked: &'a std::cell::Cell<bool>,
    /// The ids that were reserved.
    pub ids: Option<crate::host::Range>,
    /// A throwaway bundle.
    pub scratch: Option<PathBuf>,
    /// Secrets of the caller; wiped when the child is built.
    pub secrets: Vec<crate::secrets::Secret>,
}

/// A child that is built and waits.
#[derive(Debug)]
pub struct Built {
    /// Its pid.
    pub pid: i32,
    /// Its descriptor.
    pub pidfd: OwnedFd,
    /// Our end of the talk.
    pub channel: Channel,
    /// The master of its terminal.
    pub console: Option<OwnedFd>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
    /// The intent record, for the state to hold a copy.
    pub intent: Option<Intent>,
    /// The host's network devices in it, to be given back if it comes to nothing.
    pub net_devices: Option<netdev::Moved>,
    /// Its network in user space, which ends with this value.
    pub network: Option<pasta::Running>,
}

/// Does the plan up to `Ready`. On failure the child is gone; what a launch made before goes with its record, which the
/// caller purges.
pub fn build(mut setting: Setting<'_>) -> Result<Built> {
    let mut parent = Parent::default();
    let result = parent.climb(&mut setting);
    if result.is_err()
        && let Some(devices) = parent.net_devices.take()
    {
        devices.back();
    }
    result
}

/// What stands around processes that somebody else makes: criu, from images.
#[derive(Default)]
pub struct Ground(Parent);

impl Ground {
    /// Does the steps that need no process: the record, the cgroup, the parts of the host. Where these get the ids of a
    /// user namespace, a process of ours stands in for the container's: an idmapped mount keeps the ids and not the
    /// namespace.
    ///
    /// `images`: a directory that is read with the ids of that namespace, too; the same directory comes back.
    pub fn lay(setting: &mut Setting<'_>, images: BorrowedFd<'_>) -> Result<(Ground, Option<OwnedFd>)> {
        let mut ground = Ground::default();
        let mut stand_in = None;
        let mut done = ground.climb(setting, &mut stand_in).map(|()| None);
        if let (Some(child), Ok(_)) = (&stand_in, &done) {
            done = read_by(images, child).map(Some);
        }
        if let Some(child) = &stand_in {
            end(child);
        }
        done.map(|images| (ground, images))
    }

    fn climb(&mut self, setting: &mut Setting<'_>, stand_in: &mut Option<Child>) -> Result<()> {
        let plan = setting.plan;
        for step in plan.steps.iter().filter(|s| s.actor() == Actor::Parent) {
            match (step.first(), &stand_in) {
                (Step::Clone { namespaces, .. }, None) if namespaces.contains(&Ns::User) => {
                    *stand_in = Some(idle_in_user_namespace()?);
                }
                (
                    Step::Record
                    | Step::CloneSource { .. }
                    | Step::MakeCgroup { .. }
                    | Step::Overlay { .. }
                    | Step::Idmap { maps: Some(_), .. },
                    None,
                ) => self.0.before(setting, step)?,
                (
                    Step::Limits { .. } | Step::IoWeights { .. } | Step::DeviceProgram { .. } | Step::Delegate { .. },
                    _,
                ) if self.0.cgroup.is_some() => self.0.before(setting, step)?,
                (Step::MapIds { .. } | Step::Idmap { .. } | Step::CloneSource { .. }, Some(child)) => {
                    self.0.after(setting, step, child)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The rest, around a process that is there and waits: systemd's scope, which needs one.
    pub fn settle(&mut self, setting: &mut Setting<'_>, pid: i32) -> Result<()> {
        if self.0.cgroup.is_some() {
            return Ok(());
        }
        let plan = setting.plan;
        for step in &plan.steps {
            match step {
                Step::Scope { scope, path, properties } => self.0.scope(setting, scope, path, properties, pid)?,
                Step::Limits { .. } | Step::IoWeights { .. } | Step::DeviceProgram { .. } | Step::Delegate { .. }
                    if self.0.cgroup.is_some() =>
                {
                    self.0.before(setting, step)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The cgroup.
    pub fn group(&self) -> Option<&Group> {
        self.0.cgroup.as_ref()
    }

    /// The parts of the host, by slot.
    pub fn take_slots(&mut self) -> Vec<Option<OwnedFd>> {
        std::mem::take(&mut self.0.slots)
    }

    /// What was made of all this: a process that runs there.
    pub fn into_built(self, pid: i32, pidfd: OwnedFd, channel: Channel, console: Option<OwnedFd>) -> Built {
        let Parent { net_devices, network, findings, intent, .. } = self.0;
        Built { pid, pidfd, channel, console, net_devices, network, findings, intent }
    }
}

/// A directory as the root of a user namespace may read it, where only root may.
fn read_by(dir: BorrowedFd<'_>, child: &Child) -> Result<OwnedFd> {
    let userns =
        open(format!("/proc/{}/ns/user", child.pid).as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .at("idmap", "images")?;
    let copy = sys::clone_tree(Some(dir), "", false).at("idmap", "images")?;
    let idmap = sys::MountAttr { idmap: Some(userns.as_fd()), ..sys::MountAttr::default() };
    sys::mount_setattr(copy.as_fd(), false, idmap).at("idmap", "images").map_err(|e| {
        e.hint("criu reads images as the container's root, too: put them on ext4, xfs or btrfs, which can be idmapped")
    })?;
    Ok(copy)
}

/// A process that does nothing but be in a user namespace, until it is killed or we are gone.
fn idle_in_user_namespace() -> Result<Child> {
    let (ours, theirs) = Channel::pair()?;
    match sys::clone3(Ns::User.flag(), None).at("clone3", "user")? {
        sys::Cloned::Child => {
            drop(ours);
            let _ = theirs.receive();
            sys::exit(0)
        }
        sys::Cloned::Parent { pid, pidfd } => Ok(Child { pid, pidfd, channel: ours }),
    }
}

#[derive(Default)]
struct Parent {
    slots: Vec<Option<OwnedFd>>,
    late: Vec<usize>,
    cgroup: Option<Group>,
    joins: Vec<(Joined, OwnedFd)>,
    net_devices: Option<netdev::Moved>,
    network: Option<pasta::Running>,
    findings: Vec<Finding>,
    intent: Option<Intent>,
    console: Option<OwnedFd>,
    /// The child has said that the container is built, and waits for its hooks.
    built: bool,
}

/// The child, once it is there.
struct Child {
    pid: i32,
    pidfd: OwnedFd,
    channel: Channel,
}

impl Parent {
    fn climb(&mut self, setting: &mut Setting<'_>) -> Result<Built> {
        let mut child: Option<Child> = None;
        let plan = setting.plan;
        observer::begin(plan);
        for (number, step) in plan.steps.iter().enumerate().filter(|(_, s)| s.actor() == Actor::Parent) {
            let began = observer::now();
            let done = match (step, &child) {
                (Step::Clone { namespaces, into_cgroup, outside }, _) => {
                    self.clone(setting, namespaces, *into_cgroup, *outside).map(|c| child = Some(c))
                }
                (Step::Meet, Some(_)) => self.meet(setting, &mut child),
                (step, None) if matches!(step.first(), Step::Enter { .. }) => {
                    self.enter(setting, step).map(|c| child = Some(c))
                }
                (step, None) => self.before(setting, step),
                (step, Some(c)) => self.after(setting, step, c),
            };
            if let Err(e) = done {
                if let Some(c) = &child {
                    end(c);
                }
                return Err(e);
            }
            observer::parent(number, step, began, child.as_ref().map(|c| c.pid));
        }
        let Some(child) = child else { return Err(Error::new("launch", "plan", "has no clone")) };
        let hooked = if self.built { child.channel.send(Tag::Hooked, &[], &[]) } else { Ok(()) };
        let mut ready = hooked.and_then(|()| self.await_child(&child, setting, Tag::Ready));
        if plan.has_stub() {
            // Nobody comes in before it is there.
            ready = ready.and_then(|()| self.await_child(&child, setting, Tag::Settled));
        }
        match ready {
            Ok(()) => Ok(Built {
                pid: child.pid,
                pidfd: child.pidfd,
                channel: child.channel,
                console: self.console.take(),
                findings: std::mem::take(&mut self.findings),
                intent: self.intent.take(),
                net_devices: self.net_devices.take(),
                network: self.network.take(),
            }),
            Err(e) => {
                end(&child);
                Err(e)
            }
        }
    }

    fn before(&mut self, setting: &Setting<'_>, step: &Step) -> Result<()> {
        match step {
            Step::OwnBinary { .. } => own::check(),
            Step::Record => record(setting).map(|i| self.intent = Some(i)),
            Step::CloneSource { slot, path, recursive, attr } => {
                let fd = clone_source(path, *recursive, attr, step.name())?;
                self.put(*slot, fd);
                Ok(())
            }
            Step::Overlay { slot: Some(slot), layers, options, attr, .. } => {
                let fd = mount::overlay(step.name(), layers, options, attr, &step.subject())?;
                self.put(*slot, fd);
                Ok(())
            }
            Step::Idmap { slot, path, recursive, attr, maps: Some(maps), below } => {
                let fd = clone_source(path, *recursive, attr, step.name())?;
                let userns = user_namespace(maps)?;
                mount::idmap(fd.as_fd(), userns.as_fd(), *below, &path.display().to_string())?;
                self.put(*slot, fd);
                Ok(())
            }
            Step::MakeCgroup { path, controllers, counted } => {
                let mount = cgroup_mount(setting)?;
                let claim = self.claim(setting)?;
                match tree::create(mount, path, controllers, counted, &claim) {
                    Ok(group) => self.cgroup = Some(group),
                    Err(e) => {
                        if tree::is_used(&e) {
                            // Somebody was faster since Record: not ours, so not ours to kill.
                            setting.entry.forget_cgroup()?;
                        }
                        return Err(e);
                    }
                }
                Ok(())
            }
            Step::Limits { values } => self.limits(setting, values),
            Step::IoWeights { values } => {
                for (weight, bfq) in values {
                    let found = honest::set_io_weight(self.group()?, weight, bfq)?;
                    self.findings.extend(found);
                }
                Ok(())
            }
            Step::DeviceProgram { rules } => {
                let program = device::program(rules)?;
                let group = self.group()?;
                let loaded = sys::bpf_prog_load_device(&program, None)
                    .at("device program", format!("{} instructions", program.len()))
                    .map_err(|e| e.hint("the kernel needs CONFIG_CGROUP_BPF, and stockade CAP_BPF or CAP_SYS_ADMIN"))?;
                sys::bpf_prog_attach_device(group.fd(), loaded.as_fd(), None).at("device program", "attach")
            }
            Step::Delegate { uid, gid } => tree::delegate(self.group()?, *uid, *gid),
            Step::Join { namespaces } => self.join(namespaces),
            Step::CpuAffinity { .. } => process::shape(0, step),
            Step::Try { step, on, or, finding } => match self.before(setting, step) {
                Err(e) if e.errno().is_some_and(|n| on.contains(&n)) => {
                    self.findings.push(finding.clone());
                    self.before(setting, or)
                }
                other => other,
            },
            Step::Skip => Ok(()),
            other => Err(Error::new("launch", other.name(), "is not a step before the clone")),
        }
    }

    fn after(&mut self, setting: &mut Setting<'_>, step: &Step, child: &Child) -> Result<()> {
        match step {
            Step::Scope { scope, path, properties } => self.scope(setting, scope, path, properties, child.pid),
            Step::AttachScope { scope, below } => scope.attach(child.pid, below),
            Step::Limits { .. } | Step::IoWeights { .. } | Step::DeviceProgram { .. } | Step::Delegate { .. } => {
                self.before(setting, step)
            }
            Step::MapIds { uids, gids, setgroups, helpers } => map_ids(child.pid, uids, gids, *setgroups, *helpers),
            Step::OomScoreAdj { .. }
            | Step::RaiseRlimits { .. }
            | Step::CpuAffinity { .. }
            | Step::Scheduler { .. }
            | Step::IoPriority { .. } => process::shape(child.pid, step),
            Step::Idmap { slot, path, recursive, attr, maps: None, below } => {
                let subject = path.display().to_string();
                let userns = open(
                    format!("/proc/{}/ns/user", child.pid).as_str(),
                    OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )
                .at(step.name(), &subject)?;
                let fd = clone_source(path, *recursive, attr, step.name())?;
                mount::idmap(fd.as_fd(), userns.as_fd(), *below, &subject)?;
                self.late.push(*slot);
                self.put(*slot, fd);
                Ok(())
            }
            // The other branch of a Try: too late for a descriptor to be inherited, so it travels with `Go`.
            Step::CloneSource { slot, path, recursive, attr } => {
                let fd = clone_source(path, *recursive, attr, step.name())?;
                self.late.push(*slot);
                self.put(*slot, fd);
                Ok(())
            }
            Step::Rdt { rdt } => rdt::enter(rdt, &setting.plan.id, child.pid),
            Step::NetDevices { devices } => {
                let moved = self.net_devices.insert(netdev::Moved::between(child.pid)?);
                devices.iter().try_for_each(|(name, inside)| moved.take(name, inside))
            }
            Step::Network { program, args, publish } => {
                // The child has its own; the keeper is a copy of us that lives as long as the container.
                setting.secrets.clear();
                let running = pasta::start(program, args, publish, child.pid, setting.signals)?;
                self.network = Some(running);
                Ok(())
            }
            Step::Hooks { moment, hooks: list } => {
                if !std::mem::replace(&mut self.built, true) {
                    self.await_child(child, setting, Tag::Built)?;
                }
                hooks::run(*moment, list, &hook_state(setting, child.pid, "creating"), &mut setting.signals.into())
            }
            Step::Go => {
                if setting.target.is_some() {
                    self.open_labels(setting.plan, child.pid)?;
                }
                // createContainer hooks may run from here on.
                setting.hooked.set(true);
                let fds: Vec<BorrowedFd<'_>> =
                    self.late.iter().filter_map(|n| self.slots.get(*n)?.as_ref().map(AsFd::as_fd)).collect();
                let payload = serde_json::to_vec(&(child.pid, &self.late))
                    .map_err(|e| Error::new("sync", "Go", e.to_string()))?;
                child.channel.send(Tag::Go, &payload, &fds)?;
                self.slots.clear();
                Ok(())
            }
            Step::Try { step, on, or, finding } => match self.after(setting, step, child) {
                Err(e) if e.errno().is_some_and(|n| on.contains(&n)) => {
                    self.findings.push(finding.clone());
                    self.after(setting, or, child)
                }
                other => other,
            },
            Step::Skip => Ok(()),
            other => Err(Error::new("launch", other.name(), "is not a step after the clone")),
        }
    }

    /// For a process that joins a container, where it may be unable to mount a procfs of its own; and no directory of the
    /// host's is to go in with it. An ordinary user cannot open these files of a process that is not dumpable.
    fn open_labels(&mut self, plan: &Plan, pid: i32) -> Result<()> {
        for step in &plan.steps {
            let Step::Label { apparmor, selinux } = step else { continue };
            let labels = init::process::labels(apparmor.as_deref(), selinux.as_deref());
            for (slot, (file, _)) in (1..).zip(labels).filter(|(_, (_, text))| text.is_some()) {
                let path = format!("/proc/{pid}/attr/{file}");
                match open(path.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()) {
                    Ok(fd) => {
                        self.late.push(slot);
                        self.put(slot, fd);
                    }
                    Err(Errno::EACCES | Errno::EPERM) => {}
                    Err(e) => return Err(Error::os("label", path, e)),
                }
            }
        }
        Ok(())
    }

    fn scope(
        &mut self,
        setting: &Setting<'_>,
        scope: &Scope,
        path: &str,
        properties: &[(String, systemd::Value)],
        pid: i32,
    ) -> Result<()> {
        let claim = self.claim(setting)?;
        scope.start(pid, &claim.launch, properties)?;
        self.cgroup = Group::open(cgroup_mount(setting)?, path)?;
        match &self.cgroup {
            Some(group) => {
                tree::adopt(group, &claim);
                Ok(())
            }
            None => Err(Error::new("systemd", path, "the scope is not where it should be")
                .hint("a slice of another name, or a manager that is not the one of this user")),
        }
    }

    fn put(&mut self, slot: usize, fd: OwnedFd) {
        while self.slots.len() <= slot {
            self.slots.push(None);
        }
        self.slots[slot] = Some(fd);
    }

    fn group(&self) -> Result<&Group> {
        self.cgroup.as_ref().ok_or_else(|| Error::new("cgroup", "plan", "uses a cgroup before it is made"))
    }

    fn limits(&mut self, setting: &Setting<'_>, values: &[(String, String)]) -> Result<()> {
        let mount = cgroup_mount(setting)?;
        for (file, value) in values {
            let found = honest::set(self.group()?, mount, file, value)?;
            self.findings.extend(found);
        }
        Ok(())
    }

    fn claim(&self, setting: &Setting<'_>) -> Result<Claim> {
        let intent = self.intent.as_ref().ok_or_else(|| Error::new("cgroup", "plan", "is made before the record"))?;
        Ok(claim(setting, intent))
    }

    /// Opens what is to be joined. That it is still what the plan was made for is asked of the descriptor.
    fn join(&mut self, namespaces: &[Joined]) -> Result<()> {
        for joined in namespaces {
            let subject = join::subject(joined);
            let fd = crate::namespaces::open_path(&joined.path).at("setns", &subject)?;
            let inode = crate::namespaces::inode_of(&fd).at("setns", &subject)?;
            if sys::ns_type(fd.as_fd()).at("setns", &subject)? != joined.ns.flag() {
                return Err(Error::new("setns", subject, "is a namespace of another type"));
            }
            if joined.inode != 0 && joined.inode != inode {
                return Err(Error::new("setns", subject, "is another namespace by now").hint("try again"));
            }
            self.joins.push((joined.clone(), fd));
        }
        Ok(())
    }

    fn clone(
        &mut self,
        setting: &mut Setting<'_>,
        namespaces: &[Ns],
        into_cgroup: bool,
        outside: bool,
    ) -> Result<Child> {
        let (ours, theirs) = Channel::pair()?;
        let number = |fd: &Option<OwnedFd>| fd.as_ref().map(AsRawFd::as_raw_fd);
        // Here and not in the child: its limits (RLIMIT_FSIZE) are not for this.
        let ends = stub::Ends {
            channel: theirs.fd().as_raw_fd(),
            gate: number(&setting.gate),
            failure: number(&setting.failure),
            foreground: setting.foreground,
        };
        let stub = stub::seal(setting.plan, &ends)?;
        let flags = namespaces.iter().fold(0, |f, n| f | n.flag());
        let joins = std::mem::take(&mut self.joins);
        let group = if into_cgroup { Some(self.group()?) } else { None };
        let mut procfs = None;
        let cloned = if joins.is_empty() {
            sys::clone3(flags, group.map(Group::fd))
        } else {
            let oom_score_adj = setting.plan.steps.iter().find_map(|s| match s {
                Step::OomScoreAdj { value } => Some(*value),
                _ => None,
            });
            let way = join::Birth { joins: &joins, flags, group, oom_score_adj, outside };
            Ok(match join::be_born(&way, &ours, &theirs)? {
                join::Entered::Child { procfs: made, .. } => {
                    procfs = made;
                    sys::Cloned::Child
                }
                join::Entered::Parent { pid, pidfd } => sys::Cloned::Parent { pid, pidfd },
            })
        };
        match cloned {
            Ok(sys::Cloned::Child) => {
                // Ours alone: while the child held it too, it would wait for ever for a runtime that was killed before
                // the child could ask to die with it.
                drop(ours);
                init::child(init::Inheritance {
                    plan: setting.plan,
                    channel: theirs,
                    slots: std::mem::take(&mut self.slots),
                    secrets: std::mem::take(&mut setting.secrets),
                    joins: false,
                    procfs,
                    gate: setting.gate.take(),
                    failure: setting.failure.take(),
                    stub,
                    foreground: setting.foreground,
                    bundle: setting.bundle,
                    annotations: setting.annotations,
                })
            }
            Ok(sys::Cloned::Parent { pid, pidfd }) => {
                // The gate stays open here until the child is past it: its end must not be the only one.
                Ok(Child { pid, pidfd, channel: ours })
            }
            Err(e) => {
                let names: Vec<_> = namespaces.iter().map(|n| n.name()).collect();
                let hint = match e {
                    Errno::ENOSPC => "a limit in /proc/sys/user/max_*_namespaces is reached",
                    Errno::EPERM => {
                        "user namespaces may be switched off: kernel.unprivileged_userns_clone, user.max_user_namespaces, or kernel.apparmor_restrict_unprivileged_userns"
                    }
                    Errno::EINVAL | Errno::ENOSYS => {
                        "the kernel lacks clone3 or one of these namespaces; stockade needs Linux 5.12"
                    }
                    Errno::EAGAIN => "the limit of processes of this user or of the cgroup is reached",
                    Errno::EACCES => "the cgroup is not delegated to this user",
                    _ => "",
                };
                Err(Error::os("clone3", names.join(" "), e).hint(hint))
            }
        }
    }

    /// Makes the child of an exec. Its failures before it is ours are told by the bridge.
    fn enter(&mut self, setting: &mut Setting<'_>, step: &Step) -> Result<Child> {
        match step {
            Step::Enter { namespaces, cgroup, oom_score_adj, outside } => {
                let Some(target) = setting.target else {
                    return Err(Error::new("setns", "plan", "enters a container that is not named"));
                };
                let group = match cgroup {
                    Some(path) => Some(Group::open(cgroup_mount(setting)?, path)?.ok_or_else(|| {
                        Error::os("cgroup", path.as_str(), Errno::ENOENT)
                            .hint("--cgroup names one below the container's own")
                    })?),
                    None => None,
                };
                let (ours, theirs) = Channel::pair()?;
                let preserve_fds = setting.plan.steps.iter().find_map(|s| match s {
                    Step::CloseFds { preserve, .. } => Some(*preserve),
                    _ => None,
                });
                let way = join::Way {
                    namespaces,
                    group: group.as_ref(),
                    oom_score_adj: *oom_score_adj,
                    preserve_fds: preserve_fds.unwrap_or(0),
                    outside: *outside,
                };
                let entered = join::enter(&target, &way, &ours, &theirs)?;
                match entered {
                    join::Entered::Child { slots, procfs } => {
                        // The bridge has closed it.
                        std::mem::forget(ours);
                        init::child(init::Inheritance {
                            plan: setting.plan,
                            channel: theirs,
                            slots,
                            secrets: Vec::new(),
                            joins: true,
                            procfs,
                            gate: None,
                            failure: None,
                            stub: None,
                            foreground: setting.foreground,
                            bundle: setting.bundle,
                            annotations: setting.annotations,
                        })
                    }
                    join::Entered::Parent { pid, pidfd } => Ok(Child { pid, pidfd, channel: ours }),
                }
            }
            Step::Try { step, on, or, finding } => match self.enter(setting, step) {
                Err(e) if e.errno().is_some_and(|n| on.contains(&n)) => {
                    self.findings.push(finding.clone());
                    self.enter(setting, or)
                }
                other => other,
            },
            other => Err(Error::new("launch", other.name(), "does not enter a container")),
        }
    }

    /// The child has made another in its place. Whoever traces that one may speak for it, so what is told is believed only
    /// of a child of ours, and once the bridge is gone there is no other.
    fn meet(&mut self, setting: &Setting<'_>, child: &mut Option<Child>) -> Result<()> {
        let Some(bridge) = child.as_mut() else { return Err(Error::new("meet", "plan", "has no clone")) };
        let told = self.await_message(bridge, setting, Tag::Entered)?;
        end(bridge);
        let join::Entered::Parent { pid, pidfd } = join::emerged(told)? else { return Err(crate::sync::gone()) };
        (bridge.pid, bridge.pidfd) = (pid, pidfd);
        bridge.channel.send(Tag::Next, &[], &[])
    }

    /// Waits until the child has come so far; its findings come along.
    fn await_child(&mut self, child: &Child, setting: &Setting<'_>, awaited: Tag) -> Result<()> {
        let message = self.await_message(child, setting, awaited)?;
        if awaited != Tag::Ready {
            return message.bare();
        }
        self.findings.extend(message.read::<Vec<Finding>>()?);
        Ok(())
    }

    /// The same; the master of its console is kept.
    fn await_message(&mut self, child: &Child, setting: &Setting<'_>, awaited: Tag) -> Result<crate::sync::Message> {
        loop {
            let next = match awaited {
                // Who has emerged holds the bridge's end, too.
                Tag::Entered => child.channel.receive_of(child.pidfd.as_fd(), setting.signals),
                _ => child.channel.receive_unless(setting.signals),
            };
            match next? {
                Some(m) if m.tag == Tag::Steps => {
                    if observer::hear(&m, child.pid)? {
                        // If it is gone, the launch will find that by itself.
                        let _ = child.channel.send(Tag::Next, &[], &[]);
                    }
                }
                Some(m) if m.tag == Tag::Console && self.console.is_none() && has_console(setting.plan) => {
                    let master = m.descriptor()?;
                    pty::check(master.as_fd())?;
                    self.console = Some(master);
                }
                Some(m) if m.tag == awaited => return Ok(m),
                Some(m) if m.tag == Tag::Failed => {
                    let mut e = crate::sync::failure(&m.payload);
                    // The reason lies in what was found on the way, not in the step that met it.
                    if matches!(e.errno(), Some(Errno::EACCES | Errno::EOVERFLOW | Errno::EPERM))
                        && e.hint.is_empty()
                        && let Some(f) = self.findings.iter().find(|f| f.field == "root.path")
                    {
                        e = e.hint(f.why.clone());
                    }
                    return Err(e);
                }
                Some(m) => return Err(m.misplaced(awaited)),
                None => return Err(crate::sync::gone()),
            }
        }
    }
}

fn has_console(plan: &Plan) -> bool {
    plan.steps.iter().any(|s| matches!(s, Step::Console { .. }))
}

/// Kills and reaps a child of a failed launch.
fn end(child: &Child) {
    let _ = sys::pidfd_send_signal(child.pidfd.as_fd(), nix::libc::SIGKILL);
    let _ = waitpid(Pid::from_raw(child.pid), Some(WaitPidFlag::__WALL));
}

/// Waits for the workload of a foreground run: its exit status, 128+n for a signal.
pub fn reap(pid: i32) -> Result<i32> {
    loop {
        match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::os("wait", pid.to_string(), e)),
        }
    }
}

fn cgroup_mount<'a>(setting: &Setting<'a>) -> Result<&'a Path> {
    setting.cgroup_mount.ok_or_else(|| Error::new("cgroup", "mount", "cgroup v2 is not mounted"))
}

fn record(setting: &Setting<'_>) -> Result<Intent> {
    let plan = setting.plan;
    let rdt = match plan.steps.iter().find_map(|s| if let Step::Rdt { rdt } = s { Some(rdt) } else { None }) {
        Some(rdt) => {
            rdt::check_unused(rdt, &plan.id)?;
            rdt::own(rdt, &plan.id)
        }
        None => Vec::new(),
    };
    let mut intent = Intent {
        id: plan.id.clone(),
        runtime: ProcessId::own()?,
        foreground: setting.foreground,
        boot: crate::state::boot_id()?,
        cgroup: None,
        ids: setting.ids,
        scratch: setting.scratch.clone(),
        rdt,
    };
    if let Some(path) = &plan.cgroup {
        let mount = cgroup_mount(setting)?.to_owned();
        tree::check_unused(&mount, path, &claim(setting, &intent))?;
        let made = if plan.scope.is_some() { Vec::new() } else { tree::missing(&mount, path) };
        intent.cgroup = Some(CgroupRecord { made, mount, path: path.clone(), scope: plan.scope.clone() });
    }
    setting.entry.write_intent(&intent)?;
    Ok(intent)
}

/// What the cgroup will say of whose it is.
fn claim(setting: &Setting<'_>, intent: &Intent) -> Claim {
    Claim { launch: intent.launch(), record: setting.entry.dir.clone() }
}

fn clone_source(
    path: &crate::plan::HostPath,
    recursive: bool,
    attr: &crate::plan::Attr,
    step: &str,
) -> Result<OwnedFd> {
    let subject = path.display().to_string();
    let fd = mount::clone_host(path, recursive).at(step, &subject).map_err(|e| match e.errno() {
        Some(Errno::EXDEV) => e.hint(mount::LEADS_OUT),
        _ => e.hint("the source of a mount of config.json, looked up on the host, or the rootfs"),
    })?;
    mount::apply(fd.as_fd(), attr, recursive)
        .at(step, format!("{subject} ({})", attr.words()))
        .map_err(|e| mount::locked_hint(e, attr))?;
    Ok(fd)
}

fn map_ids(pid: i32, uids: &[IdMap], gids: &[IdMap], setgroups: bool, helpers: bool) -> Result<()> {
    if helpers {
        for (program, maps) in [("newuidmap", uids), ("newgidmap", gids)] {
            let mut command = std::process::Command::new(program);
            command.arg(pid.to_string());
            for m in maps {
                command.args([m.inside.to_string(), m.outside.to_string(), m.count.to_string()]);
            }
            let out = command.output().at("id maps", program).map_err(|e| e.hint("install the package uidmap"))?;
            if !out.status.success() {
                return Err(Error::new("id maps", program, String::from_utf8_lossy(&out.stderr).trim().to_owned())
                    .hint("the ranges must be this user's in /etc/subuid and /etc/subgid, and newuidmap setuid root"));
            }
        }
        return Ok(());
    }
    if !setgroups {
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny").at("id maps", "setgroups")?;
    }
    for (file, maps) in [("uid_map", uids), ("gid_map", gids)] {
        let text: String = maps.iter().map(|m| format!("{} {} {}\n", m.inside, m.outside, m.count)).collect();
        std::fs::write(format!("/proc/{pid}/{file}"), &text)
            .at("id maps", format!("{file} {}", text.trim().replace('\n', "; ")))
            .map_err(|e| match e.errno() {
                Some(Errno::EPERM) => e.hint("an id in the map is not ours to give: user_namespaces(7)"),
                _ => e,
            })?;
    }
    Ok(())
}

/// A user namespace that has nothing but these maps: made by a child that waits until it is written and taken.
fn user_namespace(maps: &crate::plan::Maps) -> Result<OwnedFd> {
    const STEP: &str = "idmapped mount";
    let (theirs, ours) = nix::unistd::pipe2(OFlag::O_CLOEXEC).at(STEP, "pipe")?;
    match sys::clone3(Ns::User.flag(), None).at(STEP, "user namespace")? {
        sys::Cloned::Child => {
            drop(ours);
            // The end of the pipe comes when we are told, and also when the runtime is killed.
            while matches!(nix::unistd::read(&theirs, &mut [0]), Err(Errno::EINTR)) {}
            sys::exit(0)
        }
        sys::Cloned::Parent { pid, .. } => {
            let taken = map_ids(pid, &maps.uids, &maps.gids, true, false).and_then(|()| {
                let path = format!("/proc/{pid}/ns/user");
                open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).at(STEP, &path)
            });
            drop(ours);
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL));
            taken
        }
    }
}

/// The state that hooks read from stdin.
pub fn hook_state(setting: &Setting<'_>, pid: i32, status: &str) -> Vec<u8> {
    state_json(&setting.plan.id, pid, status, setting.bundle, setting.annotations)
}

/// Runs the poststop hooks of a container that never came to be.
pub fn poststop(
    plan: &Plan,
    bundle: &Path,
    annotations: &std::collections::BTreeMap<String, String>,
    signals: Option<&Signals>,
) {
    let state = state_json(&plan.id, 0, "stopped", bundle, annotations);
    for (_, list) in plan.later_hooks.iter().filter(|(m, _)| *m == Moment::Poststop) {
        hooks::run_all(Moment::Poststop, list, &state, signals);
    }
}

/// The specification's state as JSON.
pub fn state_json(
    id: &str,
    pid: i32,
    status: &str,
    bundle: &Path,
    annotations: &std::collections::BTreeMap<String, String>,
) -> Vec<u8> {
    let mut value = serde_json::json!({
        "ociVersion": crate::state::OCI_VERSION,
        "id": id,
        "status": status,
        "pid": pid,
        "bundle": bundle,
    });
    if !annotations.is_empty() {
        value["annotations"] = serde_json::json!(annotations);
    }
    value.to_string().into_bytes()
}
