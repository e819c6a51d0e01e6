//! Do: a container made again from images.
//!
//! ```text
//! runtime                               criu's process                       the container
//! record, rootfs and binds, cgroup
//! clone3(NEWNS|INTO_CGROUP) ----------> waits for go
//! scope (systemd) --- go -------------> cgroup namespace, stage, nnp, execve
//! restore? ---------------------------> criu ---------------------------->   made, stopped
//!    <----- setup-namespaces: hooks --
//!    <----- pre-resume: judged -------
//!                                                                            runs
//! ```
//!
//! criu is inside the cgroup, the cgroup namespace and no_new_privs before its first instruction, so what it makes is,
//! too, whatever the images say. (criu 3.17 restores neither no_new_privs nor flags of the root mount.) What of the host
//! the container sees is put on a stage that only criu's mount namespace has: parts that the plan took by descriptor.
//! What criu made is held against the plan while it is stopped; what does not keep the plan's promises dies there.

use crate::criu::{self, Ask, Fields, Stand as Place, Talk};
use crate::error::{Context, Error, Result};
use crate::launch::{self, Built, Ground, Setting};
use crate::plan::restore::{Expected, Images, Stand};
use crate::plan::{Moment, Ns, Step, attr, mounts::ROOTFS, restore as decided};
use crate::sync::{Channel, Tag};
use crate::{hooks, mount, mountinfo, sys};
use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// Where criu's mount namespace has the stage: a directory that every host has and nothing that criu runs lies in.
const STAGE: &str = "/mnt";

/// What is restored.
pub struct Wanted<'a> {
    /// What stockade remembered beside the images.
    pub images: &'a Images,
    /// criu.
    pub criu: &'a Path,
    /// What the caller asked of it.
    pub options: Fields,
    /// The images.
    pub directory: BorrowedFd<'a>,
}

/// Makes the container again and lets it run. On failure its processes are gone; what else was made goes with its
/// record, which the caller purges.
pub fn restore(mut setting: Setting<'_>, wanted: Wanted<'_>) -> Result<Built> {
    let stands = decided::stands(setting.plan, wanted.images)?;
    let (mut ground, readable) = Ground::lay(&mut setting, wanted.directory)?;
    let directory = readable.as_ref().map_or(wanted.directory, AsFd::as_fd).as_raw_fd();
    let done = perform(&mut setting, wanted, directory, &stands, &mut ground);
    match done {
        Ok((pid, pidfd, channel, console)) => Ok(ground.into_built(pid, pidfd, channel, console)),
        Err(e) => {
            if let Some(group) = ground.group() {
                let _ = group.kill();
            }
            Err(e)
        }
    }
}

type Made = (i32, OwnedFd, Channel, Option<OwnedFd>);

fn perform(
    setting: &mut Setting<'_>,
    wanted: Wanted<'_>,
    directory: RawFd,
    stands: &[(PathBuf, Stand)],
    ground: &mut Ground,
) -> Result<Made> {
    let plan = setting.plan;
    let expected = decided::expected(plan);
    let network = match decided::network(plan) {
        Some(path) => {
            let shown = path.display().to_string();
            let fd = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty());
            // dup(2) leaves close-on-exec out.
            Some(nix::unistd::dup(fd.at("setns", &shown)?).at("setns", &shown)?)
        }
        None => None,
    };
    let mut options = wanted.options;
    options
        .number(1, directory.cast_unsigned().into())
        .text(13, &format!("{STAGE}/{ROOTFS}"))
        .flag(26, true)
        .flag(12, true);
    for (target, stand) in stands {
        let from = match stand {
            Stand::Slot(slot, below) => format!("{STAGE}/{slot}/{}", below.display()),
            Stand::Host(path) => path.display().to_string(),
            Stand::Cgroup => format!("{STAGE}/cgroup"),
        };
        options.text(37, &format!("mnt[{}]:{}", target.display(), from.trim_end_matches('/')));
    }
    let inherit = |options: &mut Fields, key: &str, fd: i32| {
        let mut entry = Fields::default();
        entry.text(1, key).number(2, fd.cast_unsigned().into());
        options.inner(27, &entry);
    };
    // criu's own streams lead nowhere: what it and its helpers say there is noise on ours.
    let mut streams = Vec::new();
    for (fd, key) in wanted.images.streams.iter().enumerate() {
        if let Some(key) = key {
            let copy = nix::unistd::dup(sys::borrow(fd as i32)).at("criu", format!("stream {fd}"))?;
            inherit(&mut options, key, copy.as_raw_fd());
            streams.push(copy);
        }
    }
    if let Some(fd) = &network {
        inherit(&mut options, "extRootNetNS", fd.as_raw_fd());
    }

    let (talk, theirs) = Talk::pair()?;
    let (channel, their_channel) = Channel::pair()?;
    let slots = ground.take_slots();
    let cloned = sys::clone3(Ns::Mount.flag(), ground.group().map(crate::cgroup::Group::fd)).at("clone3", "criu")?;
    let (criu, pidfd) = match cloned {
        sys::Cloned::Child => {
            drop(channel);
            let stage = Staging {
                slots,
                cgroup: stands.iter().any(|(_, s)| *s == Stand::Cgroup),
                cgroup_namespace: expected.namespaces.contains(&Ns::Cgroup),
                keyring: plan.confinement.keyring,
                no_new_privs: expected.no_new_privs,
            };
            let Err(e) = stage.become_criu(wanted.criu, &theirs, &their_channel);
            let _ = their_channel.send(Tag::Failed, &serde_json::to_vec(&e).unwrap_or_default(), &[]);
            sys::exit(1)
        }
        sys::Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop((theirs, their_channel, slots, network, streams));
    let mut init = None;
    let mut console = None;
    let made = ground.settle(setting, criu).and_then(|()| {
        channel.send(Tag::Go, &[], &[])?;
        // The end of the talk says that criu has been executed.
        if let Some(said) = channel.receive()? {
            return Err(crate::sync::failure(&said.payload));
        }
        talk.ask(Ask::Restore, &options, |place| {
            stands_at(place, setting, ground, &expected, criu, &mut init, &mut console)
        })
    });
    let made = made.and_then(|pid| {
        let pid = pid.ok_or_else(|| Error::new("criu", "", "names no pid"))?;
        Ok((pid, sys::pidfd_open(pid).at("criu", format!("pid {pid}"))?))
    });
    if made.is_err() {
        let _ = sys::pidfd_send_signal(pidfd.as_fd(), nix::libc::SIGKILL);
        if let Some(init) = init {
            // A sibling of criu, so a child of ours.
            let _ = nix::sys::signal::kill(Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL);
            let _ = waitpid(Pid::from_raw(init), Some(WaitPidFlag::__WALL));
        }
    }
    let _ = waitpid(Pid::from_raw(criu), Some(WaitPidFlag::__WALL));
    made.map(|(pid, pidfd)| (pid, pidfd, channel, console))
}

/// criu stands somewhere on its way.
fn stands_at(
    place: Place,
    setting: &Setting<'_>,
    ground: &Ground,
    expected: &Expected,
    criu: i32,
    init: &mut Option<i32>,
    console: &mut Option<OwnedFd>,
) -> Result<()> {
    *init = place.pid.or(*init);
    match (place.place.as_str(), *init) {
        ("orphan-pts-master", _) => *console = place.fd,
        ("setup-namespaces", Some(pid)) => {
            for step in &setting.plan.steps {
                if let Step::Hooks { moment: moment @ (Moment::Prestart | Moment::CreateRuntime), hooks: list } = step {
                    setting.hooked.set(true);
                    let state = launch::hook_state(setting, pid, "creating");
                    hooks::run(*moment, list, &state, &mut setting.signals.into())?;
                }
            }
        }
        ("pre-resume", Some(pid)) => {
            freeze_flags(setting, pid)?;
            let judged = judge(pid, criu, ground, expected);
            if judged.is_err() {
                // criu would let them run all the same.
                match ground.group() {
                    Some(group) => group.kill()?,
                    None => {
                        let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                    }
                }
            }
            judged?;
        }
        _ => {}
    }
    Ok(())
}

/// criu's process before it is criu.
struct Staging {
    slots: Vec<Option<OwnedFd>>,
    cgroup: bool,
    cgroup_namespace: bool,
    keyring: bool,
    no_new_privs: bool,
}

impl Staging {
    fn become_criu(self, criu: &Path, talk: &OwnedFd, channel: &Channel) -> Result<std::convert::Infallible> {
        sys::set_parent_death_signal(nix::libc::SIGKILL).at("criu", "death signal")?;
        sys::reset_signals().at("criu", "signals")?;
        channel.expect(Tag::Go)?;
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).at("criu", "/dev/null")?;
        for fd in 0..3 {
            sys::dup_onto(null.as_fd(), fd).at("criu", "/dev/null")?;
        }
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).at("stage", "/")?;
        if self.cgroup_namespace {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).at("stage", "cgroup namespace")?;
        }
        if self.keyring {
            match sys::new_session_keyring() {
                Ok(()) | Err(nix::errno::Errno::ENOSYS) => {}
                Err(e) => return Err(Error::os("stage", "keyring", e)),
            }
        }
        self.set()?;
        if self.no_new_privs {
            sys::set_no_new_privs().at("stage", "no_new_privs")?;
        }
        let shown = criu.display().to_string();
        let program = std::ffi::CString::new(shown.as_str()).map_err(|_| Error::new("criu", &shown, "has a NUL"))?;
        let number = talk.as_raw_fd().to_string();
        let args = sys::ExecArray::new(&[shown.as_str(), "swrk", &number]).at("criu", &shown)?;
        let env = sys::ExecArray::new(&criu::ENV).at("criu", &shown)?;
        Err(Error::os("criu", shown, sys::execve(&program, &args, &env)))
    }

    /// Puts every part of the host that the container sees where criu finds it.
    fn set(&self) -> Result<()> {
        let at = |name: &str| format!("{STAGE}/{name}");
        let put = |fd: &OwnedFd, name: &str| -> Result<()> {
            let path = at(name);
            if mount::is_dir(fd.as_fd()).at("stage", &path)? {
                std::fs::create_dir(&path).at("stage", &path)?;
            } else {
                std::fs::write(&path, "").at("stage", &path)?;
            }
            let target = open(path.as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at("stage", &path)?;
            mount::attach(fd, &target).at("stage", &path)
        };
        // 0755: a mapped root goes through it.
        let mode = [("mode".to_owned(), "0755".to_owned())];
        let stage = sys::new_filesystem("tmpfs", "stage", &mode, attr::NOSUID | attr::NODEV)
            .map_err(|e| Error::os("stage", STAGE, e.errno))?;
        let target = open(STAGE, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        mount::attach(&stage, &target.at("stage", STAGE)?).at("stage", STAGE)?;
        for (slot, fd) in self.slots.iter().enumerate() {
            if let Some(fd) = fd {
                put(fd, &slot.to_string())?;
            }
        }
        if self.cgroup {
            let flags = attr::NOSUID | attr::NODEV | attr::NOEXEC;
            let fd = sys::new_filesystem("cgroup2", "cgroup2", &[], flags);
            put(&fd.map_err(|e| Error::os("stage", "cgroup2", e.errno))?, "cgroup")?;
        }
        Ok(())
    }
}

/// Flags that the plan sets at the end, because what builds the container must still write there: by a process of ours
/// in the container's mount namespace.
fn freeze_flags(setting: &Setting<'_>, pid: i32) -> Result<()> {
    let flags: Vec<_> = setting
        .plan
        .steps
        .iter()
        .filter_map(|s| match s {
            Step::SetAttr { target, attr } => Some((target, attr)),
            _ => None,
        })
        .collect();
    if flags.is_empty() {
        return Ok(());
    }
    let pidfd = sys::pidfd_open(pid).at("restore", format!("pid {pid}"))?;
    let (ours, theirs) = Channel::pair()?;
    let helper = match sys::clone3(0, None).at("clone3", "restore")? {
        sys::Cloned::Child => {
            drop(ours);
            let set = || -> Result<()> {
                sys::setns(pidfd.as_fd(), Ns::Mount.flag()).at("setns", "mount")?;
                let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
                let root = root.at("restore", "/")?;
                for (target, attr) in &flags {
                    let shown = target.display().to_string();
                    let fd = mount::open_in_root(root.as_fd(), target, OFlag::O_PATH, true).at("restore", &shown)?;
                    let change = sys::MountAttr { set: attr.set, ..sys::MountAttr::default() };
                    sys::mount_setattr(fd.as_fd(), false, change).at("restore", &shown)?;
                }
                Ok(())
            };
            if let Err(e) = set() {
                let _ = theirs.send(Tag::Failed, &serde_json::to_vec(&e).unwrap_or_default(), &[]);
            }
            sys::exit(0)
        }
        sys::Cloned::Parent { pid, .. } => pid,
    };
    drop(theirs);
    let said = ours.receive();
    let _ = waitpid(Pid::from_raw(helper), Some(WaitPidFlag::__WALL));
    match said? {
        None => Ok(()),
        Some(failed) => Err(crate::sync::failure(&failed.payload)),
    }
}

/// Holds what criu made, and has stopped, against the plan.
fn judge(init: i32, criu: i32, ground: &Ground, expected: &Expected) -> Result<()> {
    let broken = |what: String| {
        Err(Error::new("restore", what, "the images ask for more than the plan gives")
            .hint("restore with the bundle and the policy of the checkpoint, or allow more in the policy"))
    };
    for ns in &expected.namespaces {
        let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{}", ns.file()));
        let (theirs, ours) = (of(&init.to_string()), of("self"));
        if theirs.at("restore", ns.name())? == ours.at("restore", ns.name())? {
            return broken(format!("{} namespace: the host's", ns.name()));
        }
    }
    if !expected.uid_map.is_empty() {
        let text = crate::host::read_small(format!("/proc/{init}/uid_map"), 1 << 16)?;
        let map: Vec<[u32; 3]> = text
            .lines()
            .filter_map(|l| {
                let mut n = l.split_whitespace().map(|w| w.parse().unwrap_or(u32::MAX));
                Some([n.next()?, n.next()?, n.next()?])
            })
            .collect();
        if map != expected.uid_map {
            return broken(format!("uid_map {}", text.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    let pids = match ground.group() {
        Some(group) => group.processes()?,
        None => vec![init],
    };
    if !pids.contains(&init) {
        return broken("init is not in its cgroup".into());
    }
    for pid in pids {
        let status = crate::host::read_small(format!("/proc/{pid}/status"), 1 << 16)?;
        let field = |name: &str| {
            status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim).unwrap_or_default()
        };
        // criu itself and its helpers, which are gone when it is.
        if pid == criu || field("PPid") == criu.to_string() {
            continue;
        }
        let allowed = expected.caps;
        for (name, most) in [
            ("CapBnd", allowed.bounding),
            ("CapPrm", allowed.permitted),
            ("CapEff", allowed.effective | allowed.permitted),
            ("CapInh", allowed.inheritable),
            ("CapAmb", allowed.ambient),
        ] {
            let has = u64::from_str_radix(field(name), 16).unwrap_or(u64::MAX);
            if has & !most != 0 {
                let names = crate::plan::credentials::names(has & !most).join(" ");
                return broken(format!("pid {pid}: {name} {names}"));
            }
        }
        if expected.no_new_privs && field("NoNewPrivs") != "1" {
            return broken(format!("pid {pid}: no_new_privs is off"));
        }
        // Of init alone or of all: exec installs the same.
        if field("Seccomp_filters").parse::<usize>().unwrap_or(0) < expected.filters {
            return broken(format!("pid {pid}: {} filters", field("Seccomp_filters")));
        }
    }
    let seen = mountinfo::of(&init.to_string())?;
    for (target, words) in &expected.mounts {
        if let Some(mount) = seen.iter().rev().find(|m| m.point == *target)
            && let Some(word) = words.iter().find(|w| !mount.options.iter().any(|o| o == *w))
        {
            return broken(format!("{} is not {word}", target.display()));
        }
    }
    let root = open(format!("/proc/{init}/root").as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .at("restore", "root")?;
    for path in expected.masked.iter().flat_map(|p| mount::expand(root.as_fd(), p)) {
        // An empty directory or /dev/null lies there, and not the thing itself once more.
        let covered = seen.iter().rev().find(|m| m.point == Path::new(&path));
        let covered = covered.is_some_and(|m| matches!(m.fstype.as_str(), "tmpfs" | "devtmpfs"));
        if !covered && mount::open_in_root(root.as_fd(), Path::new(&path), OFlag::O_PATH, true).is_ok() {
            return broken(format!("{path} is not masked"));
        }
    }
    Ok(())
}
