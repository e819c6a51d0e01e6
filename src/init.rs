//! Do: the child's side of the ladder, up to the execve.
//!
//! `child` never returns: no destructor of the parent's values may run twice, and nothing of ours may outlive a failure.
//! It does the child's steps in order. Until the commit it reports a failure to the parent; after it, into the file
//! that `start` reads. Once a filter is installed it allocates nothing and makes no call but the next filter's, capset,
//! execve, write and exit_group, because a minimal profile allows nothing else.

mod copyup;
mod landlock;
mod mounts;
pub mod process;
mod secrets;
pub mod users;

use crate::error::{Context, Error, Result, printable};
use crate::plan::{Actor, Moment, Plan, Step};
use crate::policy::Finding;
use crate::pty::{self, Pty};
use crate::sync::{Channel, Tag, message_with_room};
use crate::{hooks, mount, mountinfo, observer, own, stub, sys};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open, openat};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, umask};
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, Statfs, statfs};
use nix::unistd::{
    AccessFlags, Gid, Uid, chdir, faccessat, fchdir, pivot_root, read, setgroups, sethostname, setresgid, setresuid,
    setsid, write,
};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What the child has from its parent.
pub struct Inheritance<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Its end of the talk.
    pub channel: Channel,
    /// Detached mounts, by slot.
    pub slots: Vec<Option<OwnedFd>>,
    /// Secrets of the caller.
    pub secrets: Vec<crate::secrets::Secret>,
    /// It joins a container, and the runtime opened what it could of the files of `process::labels`, from slot 1 on.
    pub joins: bool,
    /// A procfs that is mounted nowhere, from before it joined others.
    pub procfs: Option<OwnedFd>,
    /// The gate of `create`.
    pub gate: Option<OwnedFd>,
    /// Where to write a failure after the commit.
    pub failure: Option<OwnedFd>,
    /// The sealed stub, where the plan has one.
    pub stub: Option<OwnedFd>,
    /// Stay tied to the runtime.
    pub foreground: bool,
    /// The bundle directory, for the state that hooks read.
    pub bundle: &'a Path,
    /// The config's annotations, for the same.
    pub annotations: &'a std::collections::BTreeMap<String, String>,
}

/// Does the child's steps and becomes the workload.
pub fn child(mut inheritance: Inheritance<'_>) -> ! {
    let outside = inheritance.plan.steps.iter().any(|s| matches!(s, Step::Emerge));
    let mut child = Child {
        procfs: inheritance.procfs.take(),
        own: inheritance,
        host_pid: 0,
        root: None,
        kernel: Vec::new(),
        outer_pids: false,
        findings: Vec::new(),
        committed: false,
        looked_up: None,
        found: None,
        ready: None,
        filtered: false,
        early_cwd: false,
        outside,
        pty: None,
    };
    let plan = child.own.plan;
    observer::born();
    if !observer::narrates() {
        // The step that closes what the caller left open closes what we leave, too.
        sys::close_later();
    }
    for (number, step) in plan.steps.iter().enumerate().filter(|(_, s)| s.actor() == Actor::Child) {
        let began = observer::now();
        if let Err(e) = child.step(step) {
            child.fail(step, e);
        }
        if let Some(began) = began.filter(|_| !child.filtered) {
            child.note(number, began);
        }
    }
    sys::exit(1)
}

struct Child<'a> {
    own: Inheritance<'a>,
    host_pid: i32,
    root: Option<OwnedFd>,
    /// What is mounted of the kernel's own files, and where: what is masked there is looked up from here.
    kernel: Vec<(PathBuf, OwnedFd)>,
    procfs: Option<OwnedFd>,
    /// That is the runtime's own.
    outer_pids: bool,
    findings: Vec<Finding>,
    committed: bool,
    /// A user that was named and found.
    looked_up: Option<users::User>,
    /// The environment of the workload, and where its program is: looked up at create, used at start.
    found: Option<(Vec<String>, PathBuf)>,
    ready: Option<Prepared>,
    /// A filter is in force: only the calls that every profile allows from here on.
    filtered: bool,
    /// The working directory was entered before the ids changed.
    early_cwd: bool,
    /// Not yet in the pid namespace of the workload.
    outside: bool,
    /// A terminal, until there is a process to take it.
    pty: Option<Pty>,
}

/// All that the execve needs, allocated before the first filter.
struct Prepared {
    path: CString,
    /// For the stub the path is among them, as the first.
    args: sys::ExecArray,
    env: sys::ExecArray,
    /// An error message with room for the errno.
    failure: Vec<u8>,
    errno_at: usize,
}

impl Child<'_> {
    /// Tells what failed and ends.
    fn fail(&mut self, step: &Step, mut error: Error) -> ! {
        if error.step.is_empty() {
            error.step = step.name().to_owned();
        }
        // A subject can be as long as a bundle likes, a message of the channel cannot.
        error.subject = printable(&error.subject);
        match self.ready.as_mut().filter(|_| self.filtered || matches!(step, Step::Exec { .. })) {
            // Under a filter: the message is there already, only the number goes in.
            Some(prepared) => {
                let mut errno = error.errno.unwrap_or(0).unsigned_abs();
                for i in (0..4).rev() {
                    prepared.failure[prepared.errno_at + i] =
                        if errno > 0 || i == 3 { b'0' + (errno % 10) as u8 } else { b' ' };
                    errno /= 10;
                }
                // The first byte is the tag of a message; the file wants only the JSON.
                if let Some(file) = &self.own.failure {
                    let _ = write(file, &prepared.failure[1..]);
                }
                let _ = write(self.own.channel.fd(), &prepared.failure);
            }
            None => {
                let json = serde_json::to_vec(&error).unwrap_or_default();
                if self.committed
                    && let Some(file) = &self.own.failure
                {
                    let _ = write(file, &json);
                }
                let _ = self.own.channel.send(Tag::Failed, &json, &[]);
            }
        }
        sys::exit(match error.errno() {
            Some(Errno::ENOENT) => 127,
            _ => 126,
        })
    }

    /// Notes what it did. Who tells it at once is waited for, until they have looked; before the go nobody listens yet, and
    /// after the commit the talk has an order that no answer may come between.
    fn note(&self, number: usize, began: std::time::Instant) {
        observer::child(number, began);
        if observer::narrates() && self.host_pid != 0 && !self.committed {
            self.tell(true);
        }
    }

    /// Tells what was noted. Whoever is gone by now is missed by the next step that needs them.
    fn tell(&self, waits: bool) {
        for message in observer::messages(waits) {
            if self.own.channel.send(Tag::Steps, &message, &[]).is_ok() && waits {
                let _ = self.own.channel.expect(Tag::Next);
            }
        }
    }

    fn root(&self) -> Result<BorrowedFd<'_>> {
        self.root
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or_else(|| Error::new("launch", "plan", "uses the root before it is attached"))
    }

    /// A procfs that is mounted nowhere: what the image has at /proc cannot mislead us (CVE-2025-52881).
    fn procfs(&mut self) -> Result<BorrowedFd<'_>> {
        if self.procfs.is_none() {
            let fd = mount::private_procfs().or_else(|e| match e.errno() {
                Some(Errno::EPERM) if self.own.plan.foreign_pids => {
                    self.outer_pids = true;
                    process::runtimes_procfs()
                }
                _ => Err(e),
            })?;
            self.procfs = Some(fd);
        }
        self.procfs.as_ref().map(AsFd::as_fd).ok_or_else(|| Error::new("launch", "procfs", "is missing"))
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        let name = step.name();
        match step {
            Step::DieWithParent => {
                umask(Mode::empty());
                sys::reset_signals().at(name, "signals")?;
                sys::set_parent_death_signal(nix::libc::SIGKILL).at(name, "")
            }
            Step::AwaitGo => self.await_go(),
            Step::AwaitHooks => {
                self.own.channel.send(Tag::Built, &[], &[])?;
                self.own.channel.expect(Tag::Hooked).map(drop)
            }
            Step::TimeOffsets { offsets } => process::time_offsets(offsets, step),
            Step::UnshareCgroup => {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).at(name, "cgroup namespace")
            }
            Step::Emerge => {
                crate::join::emerge(&self.own.channel)?;
                self.outside = false;
                self.parent_is_there()?;
                self.pty.take().map_or(Ok(()), |pty| self.take_terminal(&pty))
            }
            Step::Arrive { cgroup_namespace } => {
                if *cgroup_namespace {
                    let fd = self.take(0)?;
                    sys::setns(fd.as_fd(), crate::plan::Ns::Cgroup.flag()).at(name, "cgroup namespace")?;
                }
                umask(Mode::from_bits_truncate(0o022));
                self.root = Some(
                    open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).at(name, "/")?,
                );
                Ok(())
            }
            Step::LookUpUser { user } => users::look_up(user).map(|user| self.looked_up = Some(user)),
            Step::NewSession { keyring } => {
                // A session leader already: a terminal's shell ran us directly.
                match setsid() {
                    Ok(_) | Err(Errno::EPERM) => {}
                    Err(e) => return Err(Error::os(name, "setsid", e)),
                }
                if *keyring {
                    match sys::new_session_keyring() {
                        // A kernel without CONFIG_KEYS, or a filter around us: there is no keyring to protect.
                        Ok(()) | Err(Errno::ENOSYS) => {}
                        Err(e) => return Err(Error::os(name, "keyring", e)),
                    }
                }
                Ok(())
            }
            Step::BecomeRoot { uid, gid } => self.become_root(*uid, *gid),
            Step::Detach { propagation } => {
                let flags = MsFlags::from_bits_truncate(*propagation as nix::libc::c_ulong) | MsFlags::MS_REC;
                nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).at(name, "/").map_err(|e| {
                    match e.errno() {
                        // The first thing that needs a capability in the new user namespace.
                        Some(Errno::EPERM | Errno::EACCES) => e.hint("a security module gives no rights in this user namespace: kernel.apparmor_restrict_unprivileged_userns is on and no profile lets stockade make one, or the profile around stockade denies it"),
                        _ => e,
                    }
                })
            }
            Step::AttachRootfs { source, at, recursive, attr } => self.attach_rootfs(source, at, *recursive, attr),
            Step::Filesystem { .. } => self.filesystem(step),
            Step::Overlay { target, layers, options, attr, .. } => self.overlay(step, target, layers, options, attr),
            Step::Bind { source, target, recursive, attr } => self.bind(step, source, target, *recursive, attr),
            Step::Devices { nodes, bind, links } => self.devices(nodes, *bind, links),
            Step::Console { uid, size, bind } => self.console(*uid, *size, *bind),
            Step::Secrets { .. } => self.secrets(step),
            Step::SetAttr { target, attr } => self.set_attr(step, target, attr),
            Step::Mask { paths } => self.mask(paths),
            Step::ReadonlyPaths { paths } => self.readonly_paths(paths),
            Step::ContainerHooks { moment, hooks: list } => {
                let status = if self.committed { "created" } else { "creating" };
                let state = crate::launch::state_json(
                    &self.own.plan.id,
                    self.host_pid,
                    status,
                    self.own.bundle,
                    self.own.annotations,
                );
                // The container is built without a mask; what a hook makes is not for everybody to write.
                let mask = umask(Mode::from_bits_truncate(0o022));
                let done = if *moment == Moment::StartContainer {
                    let filters = self.own.plan.steps.iter().filter_map(|s| match s {
                        Step::Seccomp { filter } if !self.filtered => Some(filter),
                        _ => None,
                    });
                    hooks::run_inside(*moment, list, &state, &filters.collect::<Vec<_>>())
                } else {
                    // As other runtimes do: the hook stands in the root that it changes.
                    let root = self.root()?;
                    fchdir(root)
                        .at("hooks", "the root")
                        .and_then(|()| hooks::run(*moment, list, &state, &mut hooks::Around::default()))
                };
                umask(mask);
                done
            }
            Step::Sysctls { values } => {
                for (key, value) in values {
                    self.sysctl(key, value)?;
                }
                Ok(())
            }
            Step::NoUserNamespaces => self.sysctl("user.max_user_namespaces", "0"),
            Step::Pivot { propagation } => self.pivot(*propagation),
            Step::MoveRoot { propagation } => self.move_root(*propagation),
            Step::Hostname { name: host } => sethostname(host).at(name, host),
            Step::Domainname { name: domain } => sys::set_domainname(domain).at(name, domain),
            Step::Loopback => sys::loopback_up().at(name, "lo"),
            Step::Rlimits { .. }
            | Step::MemoryPolicy { .. }
            | Step::Personality { .. }
            | Step::Umask { .. }
            | Step::DenyWriteExecute
            | Step::CoreScheduling => process::shape(step),
            Step::Label { apparmor, selinux } => {
                let (apparmor, selinux) = (apparmor.as_deref(), selinux.as_deref());
                for (slot, (file, text)) in (1..).zip(process::labels(apparmor, selinux)) {
                    let Some(text) = text else { continue };
                    let opened = if self.own.joins { self.take(slot).ok() } else { None };
                    let fd = match opened {
                        Some(fd) => Ok(fd),
                        None => {
                            self.procfs()?;
                            // In the runtime's own procfs we have the number that the runtime knows us by.
                            let pid = if self.outer_pids { self.host_pid } else { nix::unistd::getpid().as_raw() };
                            process::open_label(self.procfs()?, pid, file)
                        }
                    };
                    process::label(fd, &text).map_err(|e| process::label_error(e, &text))?;
                }
                Ok(())
            }
            Step::Streams { uid } => process::own_pipes(self.looked_up.as_ref().map_or(*uid, |user| user.uid)),
            Step::CloseFds { preserve, .. } => self.close_fds(*preserve),
            Step::Bounding { keep, .. } => drop_bounding(*keep),
            Step::Ids { uid, gid, groups, setgroups: may, keep_caps } => {
                if *keep_caps {
                    sys::set_keep_caps(true).at(name, "keep capabilities")?;
                }
                let (uid, gid, groups) = match &self.looked_up {
                    Some(user) => (&user.uid, &user.gid, &user.groups),
                    None => (uid, gid, groups),
                };
                let groups: Vec<Gid> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
                if *may {
                    setgroups(&groups).at(name, "setgroups")?;
                }
                let (gid, uid) = (Gid::from_raw(*gid), Uid::from_raw(*uid));
                setresgid(gid, gid, gid).at(name, format!("gid {gid}"))?;
                setresuid(uid, uid, uid).at(name, format!("uid {uid}"))?;
                // A change of ids clears the death signal, and the parent may have gone meanwhile: see PR_SET_PDEATHSIG(2const).
                sys::set_parent_death_signal(nix::libc::SIGKILL).at(name, "death signal")?;
                self.parent_is_there()
            }
            Step::Capabilities { caps, .. } => {
                let sets = sys::CapSets {
                    effective: caps.effective,
                    permitted: caps.permitted,
                    inheritable: caps.inheritable,
                };
                sys::capset(sets).map_err(quiet)?;
                // Under a filter this is the second capset: the ambient set follows the permitted one by itself.
                if !self.filtered {
                    sys::set_keep_caps(false).at(name, "keep capabilities")?;
                    sys::clear_ambient().at(name, "ambient")?;
                    for cap in (0..64u8).filter(|n| caps.ambient & (1 << n) != 0) {
                        sys::raise_ambient(cap).at(name, format!("ambient {cap}"))?;
                    }
                }
                Ok(())
            }
            Step::Landlock { landlock } => {
                let handed_on = self.own.plan.steps.iter().find_map(|s| match s {
                    Step::CloseFds { preserve, .. } => Some(*preserve),
                    _ => None,
                });
                self.landlock(landlock, handed_on.unwrap_or(0))
            }
            Step::NoNewPrivs => sys::set_no_new_privs().at(name, ""),
            Step::MakeCwd { path } => {
                // Where it cannot be made, the chdir says so.
                let _ = mount::make_dir(self.root()?, path, true);
                Ok(())
            }
            Step::ChdirEarly { path } => {
                self.early_cwd = chdir(path).is_ok();
                Ok(())
            }
            Step::Chdir { path } => {
                let subject = path.display().to_string();
                match chdir(path) {
                    Err(Errno::EACCES) if self.early_cwd => {}
                    done => done.at(name, &subject).map_err(|e| match e.errno() {
                        Some(Errno::ENOENT) => e.hint("make it in the rootfs"),
                        _ => e,
                    })?,
                }
                // Outside of the root getcwd answers "(unreachable)..." (CVE-2024-21626).
                let inside = sys::cwd_is_inside().at(name, &subject)?;
                if inside { Ok(()) } else { Err(Error::new(name, subject, "leads out of the root")) }
            }
            Step::FindProgram { program } => {
                let env = self.env();
                let path = find_program(program, &env)?;
                self.found = Some((env, path));
                Ok(())
            }
            Step::Ready => self.report_ready(),
            Step::Stub { .. } => self.become_stub(),
            Step::Gate => self.gate(),
            // Where it comes so early it was made sure that it lets us go on.
            Step::Seccomp { filter } if self.outside => {
                sys::seccomp_install(&filter.program, filter.flags).at(name, filter.profile.as_str())
            }
            Step::Seccomp { filter } => {
                self.prepare()?;
                let installed = match filter.asks() {
                    false => sys::seccomp_install(&filter.program, filter.flags),
                    // Its number was told before; the execve closes it, because to close it now might be asked about.
                    true => sys::seccomp_listen(&filter.program, filter.flags).map(|_| ()),
                };
                match installed {
                    Err(e) if !self.filtered => return Err(Error::os(name, filter.profile.as_str(), e)),
                    other => other.map_err(quiet)?,
                }
                self.filtered = true;
                Ok(())
            }
            Step::Exec { .. } => {
                self.prepare()?;
                match &self.ready {
                    Some(p) => Err(quiet(sys::execve(&p.path, &p.args, &p.env))),
                    None => Err(Error::new(name, "", "was not prepared")),
                }
            }
            Step::Try { step, on, or, finding } => match self.step(step) {
                Err(e) if e.errno().is_some_and(|n| on.contains(&n)) => {
                    self.findings.push(finding.clone());
                    self.step(or)
                }
                other => other,
            },
            Step::Skip => Ok(()),
            other => Err(Error::new("launch", other.name(), "is not a step of the child")),
        }
    }

    fn await_go(&mut self) -> Result<()> {
        let message = self.own.channel.expect(Tag::Go)?;
        let (pid, slots): (i32, Vec<usize>) =
            crate::json::from_slice(&message.payload).map_err(|e| Error::new("sync", "Go", e.to_string()))?;
        self.host_pid = pid;
        for (slot, fd) in slots.into_iter().zip(message.fds) {
            while self.own.slots.len() <= slot {
                self.own.slots.push(None);
            }
            self.own.slots[slot] = Some(fd);
        }
        // The maps are written: from here on nobody may trace us or read our memory.
        sys::set_dumpable(false).at("die with parent", "dumpable")
    }

    fn become_root(&self, uid: u32, gid: u32) -> Result<()> {
        let (u, g) = (Uid::from_raw(uid), Gid::from_raw(gid));
        match setgroups(&[]) {
            // A single id without setgroups: the planner said so in a finding or refused.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(e) => return Err(Error::os("become root", "setgroups", e)),
        }
        setresgid(g, g, g).at("become root", format!("gid {gid}"))?;
        setresuid(u, u, u).at("become root", format!("uid {uid}"))?;
        sys::set_parent_death_signal(nix::libc::SIGKILL).at("become root", "death signal")?;
        sys::set_dumpable(false).at("become root", "dumpable")?;
        self.parent_is_there()
    }

    /// The parent's end of the channel is closed when it is gone; then the death signal may have come too early for us.
    fn parent_is_there(&self) -> Result<()> {
        let mut fds = [nix::poll::PollFd::new(self.own.channel.fd(), nix::poll::PollFlags::POLLIN)];
        let events = nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).at("sync", "poll")?;
        let hung = fds[0].revents().is_some_and(|r| r.contains(nix::poll::PollFlags::POLLHUP));
        if events > 0 && hung { sys::exit(1) } else { Ok(()) }
    }

    fn take(&mut self, slot: usize) -> Result<OwnedFd> {
        self.own
            .slots
            .get_mut(slot)
            .and_then(Option::take)
            .ok_or_else(|| Error::new("launch", format!("slot {slot}"), "is empty"))
    }

    fn console(&mut self, uid: u32, size: Option<(u16, u16)>, bind: bool) -> Result<()> {
        let uid = self.looked_up.as_ref().map_or(uid, |user| user.uid);
        let pty = pty::open(self.root()?, uid, size)?;
        if bind {
            self.bind_console(&pty.slave)?;
        }
        match self.outside {
            true => self.pty = Some(pty),
            false => self.take_terminal(&pty)?,
        }
        Ok(())
    }

    fn take_terminal(&self, pty: &Pty) -> Result<()> {
        pty::take(&pty.slave)?;
        self.own.channel.send(Tag::Console, &[], &[pty.master.as_fd()])
    }

    fn bind_console(&self, slave: &OwnedFd) -> Result<()> {
        let root = self.root()?;
        // Bound by descriptor onto a file that we made or that is no link (CVE-2025-52565, CVE-2026-88264).
        let node = sys::clone_tree(Some(slave.as_fd()), "", false).at("console", "/dev/console")?;
        let dir = mount::make_dir(root, Path::new("/dev"), true).at("console", "/dev")?;
        // O_EXCL: a node of the image is not opened, because to open some of them is an act (/dev/watchdog).
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        match openat(&dir, "console", flags, Mode::from_bits_truncate(0o600)) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(Error::os("console", "/dev/console", e)),
        }
        let target = openat(&dir, "console", OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
            .at("console", "/dev/console")?;
        mount::attach(&node, &target).at("console", "/dev/console")
    }

    fn sysctl(&mut self, key: &str, value: &str) -> Result<()> {
        let subject = format!("{key}={value}");
        let path = PathBuf::from("/sys").join(crate::plan::limits::swapped(key));
        let fd = mount::open_in_root(self.procfs()?, &path, OFlag::O_WRONLY, false).at("sysctl", &subject)?;
        write(&fd, value.as_bytes()).map(drop).at("sysctl", &subject)
    }

    fn pivot(&mut self, propagation: u64) -> Result<()> {
        self.procfs = None;
        self.kernel.clear();
        let root = self.root.take().ok_or_else(|| Error::new("launch", "plan", "pivots without a root"))?;
        fchdir(&root).at("pivot_root", "new root")?;
        // The same directory twice: the old root ends up below the new one, and is let go at once.
        pivot_root(".", ".").at("pivot_root", ".")?;
        umount2(".", MntFlags::MNT_DETACH).at("pivot_root", "old root")?;
        self.arrived(&root, propagation)
    }

    /// In the new root.
    fn arrived(&mut self, root: &OwnedFd, propagation: u64) -> Result<()> {
        chdir("/").at("pivot_root", "/")?;
        if propagation != 0 {
            let change = sys::MountAttr { propagation, ..sys::MountAttr::default() };
            sys::mount_setattr(root.as_fd(), false, change).at("pivot_root", "propagation")?;
        }
        self.own.slots.clear();
        umask(Mode::from_bits_truncate(0o022));
        Ok(())
    }

    /// For roots that pivot_root(2) refuses. What a chroot hides can be found again, so first goes what would be worth most:
    /// every procfs and sysfs of the host, which no mask of the container covers.
    fn move_root(&mut self, propagation: u64) -> Result<()> {
        let root = self.root.take().ok_or_else(|| Error::new("chroot", "plan", "moves without a root"))?;
        self.procfs = None;
        let mounts = mountinfo::of("self")?;
        fchdir(&root).at("chroot", "new root")?;
        // The new root lies over "/", where paths of the old one do not meet it, or where the hooks look for it.
        let own = nix::unistd::getcwd().at("chroot", "new root")?;
        let over = own == Path::new("/");
        let of_kernel = |m: &&mountinfo::Mount| matches!(m.fstype.as_str(), "proc" | "sysfs");
        let hosts = || mounts.iter().filter(|m| over || !m.point.starts_with(&own)).filter(of_kernel);
        // Later ones lie on or below earlier ones.
        for mount in hosts().rev() {
            let _ = umount2(&mount.point, MntFlags::MNT_DETACH);
        }
        let kernels = |fs: Statfs| [PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&fs.filesystem_type());
        if let Some(mount) = hosts().find(|m| statfs(&m.point).is_ok_and(kernels)) {
            return Err(Error::new("chroot", mount.point.display().to_string(), "the host's, and cannot be unmounted")
                .hint("in a user namespace the host's mounts are locked: --no-pivot needs the host's ids"));
        }
        if !over {
            let top = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at("chroot", "/")?;
            mount::attach(&root, &top).at("chroot", "move to /")?;
        }
        nix::unistd::chroot(".").at("chroot", ".")?;
        self.arrived(&root, propagation)
    }

    /// Closes what the caller of stockade left open, now and not at the execve: until then a cwd or a program named
    /// /proc/self/fd/N would still reach it (CVE-2024-21626). What the caller preserves is handed on.
    fn close_fds(&mut self, preserve: u32) -> Result<()> {
        own_null()?;
        let mut keep = vec![self.own.channel.fd().as_raw_fd()];
        keep.extend(self.own.gate.iter().chain(&self.own.failure).chain(&self.own.stub).map(AsRawFd::as_raw_fd));
        keep.extend(self.pty.iter().flat_map(|pty| [pty.master.as_raw_fd(), pty.slave.as_raw_fd()]));
        keep.extend((3..3 + preserve).map(u32::cast_signed));
        sys::close_all_but(keep).at("close descriptors", "")?;
        for n in 3..3 + preserve {
            let fd = sys::borrow(n.cast_signed());
            match nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())) {
                // The caller counted more descriptors than it opened.
                Ok(_) | Err(Errno::EBADF) => {}
                Err(e) => return Err(Error::os("close descriptors", n.to_string(), e)),
            }
        }
        Ok(())
    }

    fn report_ready(&mut self) -> Result<()> {
        self.tell(false);
        let found = serde_json::to_vec(&self.findings).unwrap_or_default();
        self.own.channel.send(Tag::Ready, &found, &[])?;
        if self.own.stub.is_some() {
            // The rest of the talk is the stub's.
            return Ok(());
        }
        self.own.channel.expect(Tag::Commit)?;
        if !self.own.foreground {
            sys::set_parent_death_signal(0).at("ready", "death signal")?;
        }
        self.committed = true;
        let asks = self.own.plan.asks();
        if asks == Some(true) {
            sys::set_dumpable(true).at("ready", "dumpable")?;
        }
        // After this nothing of ours is opened, so the number stays free until the filter takes it.
        let number = asks.map(|_| crate::listener::next_number()).transpose()?;
        let number = number.map(|n| n.to_string()).unwrap_or_default();
        self.own.channel.send(Tag::Committed, number.as_bytes(), &[])
    }

    /// Returns only if it cannot. The ends of the talk go through the execve, and the stub closes them for the workload.
    fn become_stub(&mut self) -> Result<()> {
        self.prepare()?;
        // Under a filter nothing is allocated.
        let failed =
            |e: Errno| if self.filtered { quiet(e) } else { Error::os(stub::NAME, "memfd", e).hint(own::HINT) };
        let ends = [
            Some(self.own.channel.fd()),
            self.own.gate.as_ref().map(AsFd::as_fd),
            self.own.failure.as_ref().map(AsFd::as_fd),
        ];
        for end in ends.into_iter().flatten() {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::empty())).map_err(failed)?;
        }
        match (&self.ready, &self.own.stub) {
            (Some(p), Some(stub)) => Err(failed(sys::fexecve(stub.as_fd(), &p.args, &p.env))),
            _ => Err(failed(Errno::EINVAL)),
        }
    }

    fn gate(&mut self) -> Result<()> {
        // It stays open until the execve closes it: by that `start` knows.
        match &self.own.gate {
            Some(gate) => {
                let mut byte = [0u8; 1];
                loop {
                    match read(gate, &mut byte) {
                        Ok(1) => return write(gate, crate::state::GATE_ANSWER).map(drop).at("gate", ""),
                        Ok(_) => return Err(Error::new("gate", "", "was closed")),
                        Err(Errno::EINTR) => {}
                        Err(e) => return Err(Error::os("gate", "", e)),
                    }
                }
            }
            // A plain read: under a filter that asks, a receive might be asked about.
            None => {
                let mut message = [0u8; 1];
                loop {
                    match read(self.own.channel.fd(), &mut message) {
                        Ok(1) if message[0] == Tag::Start as u8 => return Ok(()),
                        Ok(0) => return Err(crate::sync::gone()),
                        Ok(_) => return Err(Error::new("gate", "", "another message came where Start was due")),
                        Err(Errno::EINTR) => {}
                        Err(e) => return Err(Error::os("gate", "", e)),
                    }
                }
            }
        }
    }

    /// The workload's environment: the config's, and HOME from the image's passwd where the config has none.
    fn env(&self) -> Vec<String> {
        let steps = &self.own.plan.steps;
        let mut env: Vec<String> = steps
            .iter()
            .find_map(|s| match s {
                Step::Exec { env, .. } => Some(env.clone()),
                _ => None,
            })
            .unwrap_or_default();
        let listen = steps.iter().find_map(|s| match s {
            Step::CloseFds { listen, .. } => Some(*listen).filter(|n| *n > 0),
            _ => None,
        });
        if let Some(count) = listen {
            // sd_listen_fds(3): whoever they are for knows itself by its pid, and that is known only here.
            env.retain(|e| !e.starts_with("LISTEN_FDS=") && !e.starts_with("LISTEN_PID="));
            env.extend([format!("LISTEN_FDS={count}"), format!("LISTEN_PID={}", nix::unistd::getpid())]);
        }
        if !env.iter().any(|e| e.starts_with("HOME=")) {
            let home = users::home(nix::unistd::geteuid().as_raw()).unwrap_or_else(|| "/".to_owned());
            env.push(format!("HOME={home}"));
        }
        env
    }

    fn prepare(&mut self) -> Result<()> {
        if self.ready.is_some() {
            return Ok(());
        }
        self.tell(false);
        let args = self.own.plan.steps.iter().find_map(|s| match s {
            Step::Exec { args, .. } => Some(args.clone()),
            _ => None,
        });
        let args = args.unwrap_or_default();
        let program = args.first().cloned().unwrap_or_default();
        let (env, path) = match self.found.take() {
            Some(found) => found,
            None => {
                let env = self.env();
                let path = find_program(&program, &env)?;
                (env, path)
            }
        };
        let (failure, errno_at) = message_with_room(no_exec(&program))?;
        let path = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| Error::os("exec", program.as_str(), Errno::EINVAL))?;
        let args: std::result::Result<Vec<CString>, _> = args.into_iter().map(CString::new).collect();
        let mut args = args.map_err(|_| Error::os("exec", program.as_str(), Errno::EINVAL))?;
        if self.own.stub.is_some() {
            args.insert(0, path.clone());
        }
        self.ready = Some(Prepared {
            path,
            args: sys::ExecArray::from_strings(args),
            env: sys::ExecArray::new(&env).at("exec", "environment")?,
            failure,
            errno_at,
        });
        Ok(())
    }
}

/// The workload could not be executed; the errno is known only then, so the hint must fit all of them.
pub fn no_exec(program: &str) -> Error {
    Error::new("exec", printable(program), "").hint("the file is there: ENOENT means that its interpreter or loader is not, ENOEXEC that it is of another format or architecture, E2BIG that args and env are too long")
}

/// An error that holds nothing but its number: made without allocating.
fn quiet(errno: Errno) -> Error {
    Error {
        step: String::new(),
        subject: String::new(),
        why: String::new(),
        errno: Some(errno as i32),
        hint: String::new(),
    }
}

/// A stream that is the host's /dev/null becomes the container's: a mount of the host that it does not see otherwise, and
/// that no checkpoint could name.
fn own_null() -> Result<()> {
    let is_null = |fd: BorrowedFd<'_>| {
        fstat(fd).is_ok_and(|s| {
            SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR && s.st_rdev == makedev(1, 3)
        })
    };
    let streams = [0, 1, 2].map(sys::borrow).into_iter().filter(|fd| is_null(*fd));
    let mut own: Option<OwnedFd> = None;
    for stream in streams {
        if own.is_none() {
            // An image without one keeps the host's.
            let Ok(fd) = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty()) else {
                return Ok(());
            };
            if !is_null(fd.as_fd()) {
                return Ok(());
            }
            own = Some(fd);
        }
        if let Some(own) = &own {
            sys::dup_onto(own.as_fd(), stream.as_raw_fd()).at("close descriptors", "/dev/null")?;
        }
    }
    Ok(())
}

fn drop_bounding(keep: u64) -> Result<()> {
    for cap in 0..64u8 {
        if keep & (1 << cap) != 0 {
            continue;
        }
        match sys::drop_bounding(cap) {
            Ok(()) => {}
            // Past the last capability that this kernel knows.
            Err(Errno::EINVAL) => break,
            Err(e) => return Err(Error::os("bounding set", cap.to_string(), e)),
        }
    }
    Ok(())
}

/// PATH of a workload whose environment names none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds the program as execvp would, inside the root, as the workload's user.
fn find_program(program: &str, env: &[String]) -> Result<PathBuf> {
    let check = |path: &Path| -> std::result::Result<(), Errno> {
        let stat = nix::sys::stat::stat(path)?;
        if mount::kind(&stat) != SFlag::S_IFREG {
            return Err(Errno::EACCES);
        }
        faccessat(nix::fcntl::AT_FDCWD, path, AccessFlags::X_OK, nix::fcntl::AtFlags::AT_EACCESS)
    };
    if program.contains('/') {
        let path = PathBuf::from(program);
        return match check(&path) {
            Ok(()) => Ok(path),
            Err(e) => Err(Error::os("exec", program, e).hint("process.args[0] is looked up inside the rootfs")),
        };
    }
    let search = env.iter().find_map(|e| e.strip_prefix("PATH=")).filter(|p| !p.is_empty()).unwrap_or(DEFAULT_PATH);
    let mut denied = false;
    for dir in search.split(':') {
        let path = Path::new(if dir.is_empty() { "." } else { dir }).join(program);
        match check(&path) {
            Ok(()) => return Ok(path),
            Err(Errno::EACCES) => denied = true,
            Err(_) => {}
        }
    }
    if denied {
        return Err(Error::os("exec", program, Errno::EACCES));
    }
    Err(Error::os("exec", program, Errno::ENOENT).why("executable file not found in $PATH"))
}
