//! Do: what is remembered of a container, and how its lifecycle is judged.
//!
//! `ROOT/ID/` is private to its owner and holds `intent.json` (written before the first thing that outlives us: enough
//! to clean up), `state.json` (written when the container exists), `confinement.json` (just before: what an exec applies), `gate` (a FIFO that is there until `start`) and
//! `failure` (what a workload that could not be executed left behind); `denials` is what a foreground run with
//! `--denials` denied so far. The directory itself is the lock.
//!
//! Nothing here is fsynced: after a power loss the boot id differs and processes, cgroups and mounts are gone anyway;
//! after a SIGKILL the page cache is not. state.json appears by rename, so it is whole or absent.

pub mod blocks;
pub mod claims;

use crate::bundle::Bundle;
use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::host::{self, Range, read_small};
use crate::plan::exec::Confinement;
use crate::plan::{Hook, Moment};
use crate::policy::Finding;
use nix::errno::Errno;
use nix::fcntl::{FlockArg, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, mkdir, mkfifoat, unlinkat};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// The version of the runtime specification that states speak.
pub const OCI_VERSION: &str = "1.2.1";

/// What an exec applies.
const CONFINEMENT: &str = "confinement.json";

/// What a foreground run denied.
pub const DENIALS: &str = "denials";

/// What `start` sends through the gate.
pub const GATE_CALL: &[u8; 1] = b"0";
/// What comes back from who waited behind it.
pub const GATE_ANSWER: &[u8; 1] = b"1";

/// Where the states of this user's containers are.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

/// The directory of one container, open.
#[derive(Debug)]
pub struct Entry {
    /// The container's id.
    pub id: String,
    /// Its directory.
    pub dir: PathBuf,
    fd: OwnedFd,
}

/// A process, beyond doubt: its number and its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The number, in the runtime's pid namespace.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat, in clock ticks since boot.
    pub start: u64,
}

/// The cgroup of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRecord {
    /// The cgroup2 mount.
    pub mount: PathBuf,
    /// The path below it.
    pub path: String,
    /// The directories that the launch has to make for it, topmost first: exactly these are removed again.
    pub made: Vec<String>,
    /// The scope of systemd that it is.
    #[serde(default)]
    pub scope: Option<cgroup::systemd::Scope>,
}

/// What the launch is about to make: written before the first of it exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// The container's id.
    pub id: String,
    /// The runtime that launches it.
    pub runtime: ProcessId,
    /// A foreground run: the container does not outlive the runtime.
    pub foreground: bool,
    /// The boot in which all of this is true.
    pub boot: String,
    /// The cgroup that will be made.
    pub cgroup: Option<CgroupRecord>,
    /// The host ids that were reserved.
    pub ids: Option<Range>,
    /// A throwaway bundle of `sandbox`, to be removed with the container.
    pub scratch: Option<PathBuf>,
    /// The directories of resctrl that are the container's own, the innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rdt: Vec<PathBuf>,
}

impl Intent {
    /// What tells this launch from every other one of this boot.
    pub fn launch(&self) -> String {
        format!("{}.{}.{}", self.id, self.runtime.pid, self.runtime.start)
    }
}

/// What is known of a container that exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The container's id.
    pub id: String,
    /// Its init process.
    pub init: ProcessId,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// The root file system.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub created: String,
    /// Who created it.
    pub owner: String,
    /// The config's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The policy in force.
    pub policy: String,
    /// What was decided beyond the config.
    pub findings: Vec<Finding>,
    /// Whether the config has a process to start.
    pub startable: bool,
    /// Hooks that are still to come.
    pub hooks: Vec<(Moment, Vec<Hook>)>,
    /// A copy of the intent record: each of the two files is enough to clean up.
    #[serde(default)]
    pub intent: Option<Intent>,
}

/// The specification's statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being created, or its creation was cut off.
    Creating,
    /// Waiting at the gate.
    Created,
    /// The workload runs.
    Running,
    /// The workload is frozen.
    Paused,
    /// Its init is gone.
    Stopped,
}

impl Status {
    /// The specification's word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// Checks a container id: `[A-Za-z0-9_+-][A-Za-z0-9_+.-]*`, 255 bytes at most.
pub fn check_id(id: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-');
    if id.is_empty() {
        return Err(Error::new("container id", "", "empty"));
    }
    if id.len() > 255 {
        return Err(Error::new("container id", &id[..id.floor_char_boundary(32)], "longer than 255 bytes"));
    }
    if let Some((_, c)) = id.chars().enumerate().find(|(i, c)| !plain(*c) && (*c != '.' || *i == 0)) {
        return Err(Error::new("container id", format!("{id:?}"), format!("invalid character {c:?} in container ID"))
            .hint("letters, digits, _ + - and, not as the first, a dot"));
    }
    Ok(())
}

impl ProcessId {
    /// The process of this number, as it is now.
    pub fn of(pid: i32) -> Option<ProcessId> {
        let (_, start) = stat_of(pid)?;
        Some(ProcessId { pid, start })
    }

    /// Ourselves.
    pub fn own() -> Result<ProcessId> {
        let pid = nix::unistd::getpid().as_raw();
        ProcessId::of(pid).ok_or_else(|| Error::new("state", "/proc/self/stat", "unreadable").hint("is /proc mounted?"))
    }

    /// Whether exactly this process still runs; a zombie does not.
    pub fn alive(&self) -> bool {
        matches!(stat_of(self.pid), Some((state, start)) if start == self.start && !matches!(state, 'Z' | 'X'))
    }

    /// The status of exactly this process as wait(2) would tell it, while it has ended and nobody has waited for it.
    pub fn exit_status(&self) -> Option<i32> {
        let text = read_small(format!("/proc/{}/stat", self.pid), 4096).ok()?;
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let (state, start) = (fields.next()?, fields.nth(18)?.parse::<u64>().ok()?);
        // proc_pid_stat(5), field 52: the last.
        if start == self.start && state == "Z" { fields.next_back()?.parse().ok() } else { None }
    }

    /// A descriptor of exactly this process; none when it is gone.
    pub fn open(&self) -> Option<OwnedFd> {
        let fd = crate::sys::pidfd_open(self.pid).ok()?;
        // Opened first, compared after: if the number had been used again, the start time tells.
        self.alive().then_some(fd)
    }
}

/// State letter and start time of a process.
fn stat_of(pid: i32) -> Option<(char, u64)> {
    let text = host::read_kernel(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses too.
    let rest = text.rsplit_once(')')?.1;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// This boot's id.
pub fn boot_id() -> Result<String> {
    static READ: OnceLock<String> = OnceLock::new();
    if let Some(known) = READ.get() {
        return Ok(known.clone());
    }
    let id = host::read_kernel("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    Ok(READ.get_or_init(|| id).clone())
}

/// Now, as RFC 3339 with nanoseconds.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // The civil calendar from a day count: eras of 400 years that begin on 1 March.
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_nanos()
    )
}

impl Store {
    /// The states below `root`, or below the user's usual place. Nothing is made yet.
    pub fn open(root: Option<&Path>) -> Result<Store> {
        let root = match root {
            Some(path) => std::path::absolute(path).at("--root", path.display().to_string())?,
            None => usual()?,
        };
        Ok(Store { root })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The directory in which the cgroups of this --root lie, so that an id may be used again under another; none for
    /// the usual place.
    pub fn cgroup_parent(&self) -> Option<String> {
        let usual = Store::open(None).is_ok_and(|s| s.root == self.root);
        (!usual).then(|| format!("stockade-{:08x}", fnv1a(&self.root.to_string_lossy()) as u32))
    }

    /// Makes the directory and refuses one that others can write to.
    pub fn make(&self) -> Result<()> {
        let shown = self.root.display().to_string();
        match mkdir(&self.root, Mode::S_IRWXU) {
            Ok(()) => return Ok(()),
            Err(Errno::EEXIST) => {}
            Err(Errno::ENOENT) => {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root).at("state", &shown)?;
            }
            Err(e) => return Err(Error::os("state", shown, e)),
        }
        let meta = std::fs::metadata(&self.root).at("state", &shown)?;
        if !meta.is_dir() {
            return Err(
                Error::new("state", shown, "is not a directory").hint("states live there; name one with --root")
            );
        }
        if meta.uid() != geteuid().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(Error::new("state", shown, "belongs to or is writable by others").hint(
                "states decide what is killed and removed: chmod go-w it, or name another directory with --root",
            ));
        }
        Ok(())
    }

    /// The directory of a container.
    pub fn entry(&self, id: &str) -> Result<Entry> {
        check_id(id)?;
        let dir = self.root.join(id);
        match open(&dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Entry { id: id.to_owned(), dir, fd }),
            Err(Errno::ENOENT) => {
                Err(Error::new("container", id, "does not exist").hint("`stockade list` shows those that do"))
            }
            Err(e) => Err(Error::os("state", dir.display().to_string(), e)),
        }
    }

    /// A new directory for a container, locked. What an interrupted launch of the same id left is cleared first.
    pub fn create(&self, id: &str) -> Result<Entry> {
        check_id(id)?;
        self.make()?;
        let dir = self.root.join(id);
        for _ in 0..16 {
            match mkdir(&dir, Mode::S_IRWXU) {
                Ok(()) => {}
                Err(Errno::EEXIST) => {
                    let entry = match self.entry(id) {
                        Ok(entry) => entry,
                        Err(_) => continue,
                    };
                    if !entry.try_lock()? && entry.is_orphaned()? {
                        // The child of a runtime that was killed holds the lock for the moment that it takes to die.
                        entry.lock()?;
                        continue;
                    }
                    if !entry.try_lock()? || !entry.is_stale()? {
                        return Err(
                            Error::new("container", id, "already exists").hint("choose another id, or delete it")
                        );
                    }
                    entry.purge(None)?;
                    continue;
                }
                Err(e) => return Err(Error::os("state", dir.display().to_string(), e)),
            }
            let entry = match self.entry(id) {
                Ok(entry) => entry,
                Err(_) => continue,
            };
            // Between mkdir and the lock somebody may have taken it for a leftover.
            if entry.try_lock()? && entry.is_in_place() {
                return Ok(entry);
            }
        }
        Err(Error::new("container", id, "is being created and removed by others at the same time"))
    }

    /// A new directory under a name that nobody has, locked.
    pub fn create_named(&self, prefix: &str) -> Result<Entry> {
        self.make()?;
        let dir = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir_in(&self.root)
            .at("state", self.root.display().to_string())?
            .keep();
        let entry = self.entry(&dir.file_name().unwrap_or_default().to_string_lossy())?;
        if entry.try_lock()? && entry.is_in_place() {
            return Ok(entry);
        }
        Err(Error::new("state", dir.display().to_string(), "was taken by somebody else at once"))
    }

    /// All ids, sorted.
    pub fn ids(&self) -> Result<Vec<String>> {
        let listing = match std::fs::read_dir(&self.root) {
            Ok(listing) => listing,
            Err(e) => return Err(Error::io("state", self.root.display().to_string(), &e)),
        };
        let mut ids: Vec<String> = listing
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .filter(|n| check_id(n).is_ok())
            .collect();
        ids.sort();
        Ok(ids)
    }
}

/// flock(2) on a directory. nix's own type wants to own the descriptor, and ours are shared with the child on purpose.
#[allow(deprecated)]
fn flock(fd: &OwnedFd, how: FlockArg) -> std::result::Result<(), Errno> {
    loop {
        match nix::fcntl::flock(fd.as_raw_fd(), how) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Root of the host, not of a user namespace of somebody (Podman calls us so).
fn is_host_root() -> bool {
    static READ: OnceLock<bool> = OnceLock::new();
    *READ.get_or_init(|| {
        geteuid().is_root()
            && read_small("/proc/self/uid_map", 4096).is_ok_and(|m| m.split_whitespace().eq(["0", "0", "4294967295"]))
    })
}

/// Where states lie when nobody says. Root of a user namespace that a rootless engine made is still that user.
fn usual() -> Result<PathBuf> {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|v| !v.is_empty()) {
        Some(dir) if !is_host_root() => Ok(PathBuf::from(dir).join("stockade")),
        None if !geteuid().is_root() => Err(Error::new("state", "XDG_RUNTIME_DIR", "not set")
            .hint("an ordinary user's states live there; set it, or name a directory with --root")),
        _ => Ok(PathBuf::from("/run/stockade")),
    }
}

impl Entry {
    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Result<bool> {
        match flock(&self.fd, FlockArg::LockExclusiveNonblock) {
            Ok(()) => Ok(true),
            Err(Errno::EWOULDBLOCK) => Ok(false),
            Err(e) => Err(Error::os("state", self.dir.display().to_string(), e)),
        }
    }

    /// Takes the lock, waiting for whoever has it.
    pub fn lock(&self) -> Result<()> {
        flock(&self.fd, FlockArg::LockExclusive).at("state", self.dir.display().to_string())
    }

    /// Gives the lock back, for every copy of the descriptor, the child's too.
    pub fn unlock(&self) {
        let _ = flock(&self.fd, FlockArg::Unlock);
    }

    /// Whether it is still the directory of its name. Ask under the lock: whoever removed it may have made room for a
    /// container of the same id, which is none of ours.
    pub fn is_in_place(&self) -> bool {
        fstat(&self.fd).is_ok_and(|s| s.st_nlink > 0)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = format!(".{name}.new");
        let shown = self.dir.join(name).display().to_string();
        let flags = OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, temporary.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR).at("state", &shown)?;
        std::io::Write::write_all(&mut std::fs::File::from(fd), bytes).at("state", &shown)?;
        renameat(&self.fd, temporary.as_str(), &self.fd, name).at("state", &shown)
    }

    fn read(&self, name: &str) -> Result<Option<String>> {
        match read_small(self.dir.join(name), 64 << 20) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Takes the cgroup out of the intent record: it turned out to be somebody else's.
    pub fn forget_cgroup(&self) -> Result<()> {
        match self.intent()? {
            Some(intent) => self.write_intent(&Intent { cgroup: None, ..intent }),
            None => Ok(()),
        }
    }

    /// Writes the intent record.
    pub fn write_intent(&self, intent: &Intent) -> Result<()> {
        let json = serde_json::to_vec(intent).map_err(|e| Error::new("state", "intent.json", e.to_string()))?;
        self.write("intent.json", &json)
    }

    /// The intent record, or the state's copy where it is missing or torn.
    pub fn intent(&self) -> Result<Option<Intent>> {
        match self.read("intent.json")?.and_then(|text| crate::json::from_str(&text).ok()) {
            Some(intent) => Ok(Some(intent)),
            None => Ok(self.state()?.and_then(|s| s.intent)),
        }
    }

    /// Writes what confines the container. It counts only beside a state, so it need not appear whole.
    pub fn write_confinement(&self, confinement: &Confinement) -> Result<()> {
        let json = serde_json::to_vec(confinement).map_err(|e| Error::new("state", CONFINEMENT, e.to_string()))?;
        let shown = self.dir.join(CONFINEMENT).display().to_string();
        let flags = OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, CONFINEMENT, flags, Mode::S_IRUSR | Mode::S_IWUSR).at("state", &shown)?;
        std::io::Write::write_all(&mut std::fs::File::from(fd), &json).at("state", &shown)
    }

    /// What confines the container. Without it nothing may go in.
    pub fn confinement(&self) -> Result<Confinement> {
        let text = self.read(CONFINEMENT)?.unwrap_or_default();
        crate::json::from_str(&text).map_err(|e| {
            Error::new("state", self.dir.join(CONFINEMENT).display().to_string(), e.to_string())
                .hint("the record of what confines the container is missing or damaged: nothing more is let in")
        })
    }

    /// Commits the state.
    pub fn write_state(&self, state: &State) -> Result<()> {
        let json = serde_json::to_vec(state).map_err(|e| Error::new("state", "state.json", e.to_string()))?;
        self.write("state.json", &json)
    }

    /// The committed state; none before the commit, or where the file is torn.
    pub fn state(&self) -> Result<Option<State>> {
        Ok(self.read("state.json")?.and_then(|text| crate::json::from_str(&text).ok()))
    }

    /// The state and status of a container that exists.
    pub fn require(&self) -> Result<(State, Status)> {
        let status = self.status()?;
        match self.state()? {
            Some(state) => Ok((state, status)),
            None => Err(Error::new(
                "container",
                self.id.as_str(),
                format!("is {}: its launch is not finished", status.word()),
            )
            .hint("if the runtime was killed, `stockade delete --force` clears what it left")),
        }
    }

    /// Where in its life it is.
    pub fn status(&self) -> Result<Status> {
        match self.state()? {
            Some(state) if !state.init.alive() => Ok(Status::Stopped),
            Some(_) if self.is_frozen()? => Ok(Status::Paused),
            // The file alone says nothing: a `start` that was killed may have left it behind a running workload.
            Some(_) if self.open_gate().is_ok() => Ok(Status::Created),
            Some(_) => Ok(Status::Running),
            None => Ok(Status::Creating),
        }
    }

    fn is_frozen(&self) -> Result<bool> {
        Ok(self.cgroup().ok().flatten().is_some_and(|g| g.is_frozen()))
    }

    /// The container's cgroup, if it has one that still exists and is still its own.
    pub fn cgroup(&self) -> Result<Option<cgroup::Group>> {
        let Some(intent) = self.intent()? else { return Ok(None) };
        let launch = intent.launch();
        match intent.cgroup {
            Some(record) if record.mount.exists() => {
                Ok(cgroup::Group::open(&record.mount, &record.path)?.filter(|g| cgroup::tree::is_of(g, &launch)))
            }
            _ => Ok(None),
        }
    }

    /// Whether the runtime that launched it is gone, and the container is gone or going.
    fn is_orphaned(&self) -> Result<bool> {
        let Some(intent) = self.intent()? else { return Ok(false) };
        Ok(!intent.runtime.alive() && (intent.foreground || self.state()?.is_none_or(|s| !s.init.alive())))
    }

    /// Whether a launch was cut off here: nothing committed, or a foreground run whose runtime is gone.
    fn is_stale(&self) -> Result<bool> {
        let Some(intent) = self.intent()? else {
            // Locked by us and without an intent: whoever made it died before it wrote one.
            return Ok(self.state()?.is_none());
        };
        if intent.boot != boot_id()? {
            return Ok(self.state()?.is_none() || intent.foreground);
        }
        Ok((self.state()?.is_none() || intent.foreground) && !intent.runtime.alive())
    }

    /// Makes the gate of `create` and opens it for the child.
    pub fn make_gate(&self) -> Result<OwnedFd> {
        let shown = self.dir.join("gate").display().to_string();
        mkfifoat(&self.fd, "gate", Mode::S_IRUSR | Mode::S_IWUSR).at("gate", &shown)?;
        openat(&self.fd, "gate", OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty()).at("gate", &shown)
    }

    /// Opens the gate from outside. ENXIO: nobody waits behind it.
    pub fn open_gate(&self) -> std::result::Result<OwnedFd, Errno> {
        openat(
            &self.fd,
            "gate",
            OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )
    }

    /// Whether the one who waited answered the byte of `start`, while `start` holds its end: a process that is being
    /// killed may still take the byte, and never comes to answer.
    pub fn is_gate_answered(&self) -> bool {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        // An earlier `start`, which was killed, may have left its byte before the answer.
        let mut bytes = [0u8; 64];
        openat(&self.fd, "gate", flags, Mode::empty())
            .is_ok_and(|fd| nix::unistd::read(&fd, &mut bytes).is_ok_and(|n| bytes[..n].contains(&GATE_ANSWER[0])))
    }

    /// The container has been started.
    pub fn remove_gate(&self) {
        let _ = unlinkat(&self.fd, "gate", UnlinkatFlags::NoRemoveDir);
    }

    /// A file into which a child that cannot become the workload writes why.
    pub fn make_failure(&self) -> Result<OwnedFd> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(&self.fd, "failure", flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .at("state", self.dir.join("failure").display().to_string())
    }

    /// What the child wrote there.
    pub fn failure(&self) -> Option<Error> {
        self.read("failure").ok().flatten().and_then(|text| crate::json::from_str(&text).ok())
    }

    /// A file for what a foreground run denies.
    pub fn make_denials(&self) -> Result<OwnedFd> {
        let flags =
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(&self.fd, DENIALS, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .at("state", self.dir.join(DENIALS).display().to_string())
    }

    /// The same for who watches; none where nobody tells.
    pub fn open_denials(&self) -> Option<std::fs::File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(&self.fd, DENIALS, flags, Mode::empty()).ok().map(Into::into)
    }

    /// Ends and removes everything that belongs to the container, whatever is left of its records.
    pub fn purge(&self, grace: Option<&State>) -> Result<()> {
        if !self.is_in_place() {
            return Ok(());
        }
        let state = match grace {
            Some(state) => Some(state.clone()),
            None => self.state()?,
        };
        let intent = match state.as_ref().and_then(|s| s.intent.clone()) {
            Some(copy) if grace.is_some() => Some(copy),
            _ => self.intent()?,
        };
        let same_boot = intent.as_ref().is_none_or(|i| boot_id().is_ok_and(|b| b == i.boot));
        if same_boot
            && let Some(init) = state.as_ref().map(|s| s.init)
            && let Some(fd) = init.open()
        {
            let _ = crate::sys::pidfd_send_signal(fd.as_fd(), nix::libc::SIGKILL);
            wait_gone(&fd);
        }
        if let Some((intent, record)) = intent.as_ref().and_then(|i| Some((i, i.cgroup.as_ref()?)))
            && record.mount.exists()
        {
            if let Some(scope) = &record.scope {
                // What the workload left running ends first, so that the stop is at once.
                if let Some(group) = self.cgroup()? {
                    group.kill()?;
                }
                scope.stop(&intent.launch())?;
            }
            cgroup::tree::remove(&record.mount, &record.path, &record.made, &intent.launch())?;
        }
        crate::launch::rdt::remove(intent.as_ref().map_or(&[], |i| &i.rdt))?;
        claims::release(&self.dir);
        match &intent {
            Some(i) if i.ids.is_some() || i.cgroup.is_some() => {
                i.ids.into_iter().for_each(|range| release_ids(range.start, &self.dir));
            }
            // Killed between the reservation and its record; a sandbox has an earlier one, of its scratch alone.
            _ => release_all_ids(&self.dir),
        }
        if let Some(scratch) = intent.as_ref().and_then(|i| i.scratch.as_ref()) {
            match std::fs::remove_dir_all(scratch) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("sandbox", scratch.display().to_string(), &e));
                }
                _ => {}
            }
        }
        // Most have but these three. The rest is looked for where the directory is not empty then.
        self.remove_files(&[CONFINEMENT, "state.json", "intent.json"])?;
        let remove = || match unlinkat(nix::fcntl::AT_FDCWD, &self.dir, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(e),
        };
        let done = match remove() {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {
                self.remove_files(&["gate", "failure", DENIALS, ".state.json.new", ".intent.json.new"])?;
                remove()
            }
            done => done,
        };
        done.at("state", self.dir.display().to_string())
    }

    fn remove_files(&self, names: &[&str]) -> Result<()> {
        for name in names {
            match unlinkat(&self.fd, *name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(e) => return Err(Error::os("state", self.dir.join(name).display().to_string(), e)),
            }
        }
        Ok(())
    }
}

/// Waits until a killed process is gone, for ten seconds at most.
pub fn wait_gone(pidfd: &OwnedFd) {
    let mut fds = [nix::poll::PollFd::new(pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
    let _ = nix::poll::poll(&mut fds, nix::poll::PollTimeout::from(10_000u16));
}

impl State {
    /// The specification's JSON of a state (runtime.md), with rootfs, created and owner as runc has them.
    pub fn to_oci(&self, status: Status) -> OciState<'_> {
        OciState {
            oci_version: OCI_VERSION,
            id: &self.id,
            pid: if status == Status::Stopped { 0 } else { self.init.pid },
            status: status.word(),
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            annotations: &self.annotations,
            owner: &self.owner,
        }
    }
}

/// A state as the specification writes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: &'a str,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: &'a str,
}

/// The annotations of a bundle, sorted.
pub fn annotations(bundle: &Bundle) -> BTreeMap<String, String> {
    let map: Option<&HashMap<String, String>> = bundle.spec.annotations().as_ref();
    map.map(|m| m.iter().map(|(k, v)| (k.clone(), v.clone())).collect()).unwrap_or_default()
}

/// Our user's name, for `list`.
pub fn owner() -> String {
    let uid = geteuid().as_raw();
    // Root is called root; for everybody else it takes a look into passwd.
    if uid == 0 {
        return "root".to_owned();
    }
    host::user_name(uid).unwrap_or_else(|| format!("#{uid}"))
}

// ---------------------------------------------------------------- ids of containers

/// The place of the whole host, whatever --root says: two roots must not hand out the same ids. In a user namespace of a
/// rootless engine the numbers are that namespace's own, and so is the place, beside the user's states.
fn ids_place() -> PathBuf {
    usual().unwrap_or_else(|_| PathBuf::from("/run/stockade")).join(".ids")
}

fn ids_dir() -> Result<OwnedFd> {
    let place = ids_place();
    let shown = place.display().to_string();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&place).at("ids", &shown)?;
    open(&place, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .at("ids", &shown)
}

/// Reserves a block of ids for a container: a file named after its first id, made exclusively, that names the
/// container's directory. A file whose container is gone is free again.
pub fn reserve_ids(entry: &Entry) -> Result<Range> {
    let free = reserve(entry, candidates(&entry.id)?)?;
    free.ok_or_else(|| {
        Error::new("ids", entry.id.as_str(), "no block of 65536 host ids is free").hint(
            "delete containers, or give stockade more ids: a line `stockade:START:COUNT` in /etc/subuid and /etc/subgid",
        )
    })
}

/// Reserves exactly this block: images know no other.
pub fn reserve_ids_at(entry: &Entry, start: u32) -> Result<Range> {
    let free = reserve(entry, candidates(&entry.id)?.filter(|b| b.start == start))?;
    free.ok_or_else(|| {
        Error::new("ids", start.to_string(), "the host ids of the checkpoint are another's, or not stockade's to give")
            .hint("delete the container that has them: two containers with the same ids are no strangers to each other")
    })
}

fn reserve(entry: &Entry, blocks: impl Iterator<Item = Range>) -> Result<Option<Range>> {
    let dir = ids_dir()?;
    flock(&dir, FlockArg::LockExclusive).at("ids", ids_place().display().to_string())?;
    let named = claims::named(&entry.dir);
    let starts = claims::starts();
    for block in blocks.filter(|b| !named.iter().any(|n| n.overlaps(b)) && !claims::crossed(&entry.dir, &starts, b)) {
        let name = block.start.to_string();
        let owner = entry.dir.display().to_string();
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = match openat(&dir, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Err(Errno::EEXIST) => {
                let path = ids_place().join(&name);
                let holder = read_small(&path, 8192)?;
                if !holder.is_empty() && holder != owner && Path::new(&holder).exists() {
                    continue;
                }
                let over = OFlag::O_TRUNC | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                openat(&dir, name.as_str(), over, Mode::empty()).at("ids", &name)?
            }
            other => other.at("ids", &name)?,
        };
        std::io::Write::write_all(&mut std::fs::File::from(made), owner.as_bytes()).at("ids", &name)?;
        return Ok(Some(block));
    }
    Ok(None)
}

/// The block that `reserve_ids` would try first, without reserving it: for `explain`.
pub fn likely_ids(id: &str) -> Result<Option<Range>> {
    Ok(candidates(id)?.next())
}

/// Gives a block back if it is still this container's: a delete that was cut off may have given it to another already.
fn release_ids(start: u32, holder: &Path) {
    let Ok(dir) = ids_dir() else { return };
    let locked = flock(&dir, FlockArg::LockExclusive).is_ok();
    let name = start.to_string();
    let held = read_small(ids_place().join(&name), 8192).is_ok_and(|h| Path::new(&h) == holder);
    if locked && held {
        let _ = unlinkat(&dir, name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// Gives back whatever a container holds that did not live to write down what.
fn release_all_ids(holder: &Path) {
    for entry in std::fs::read_dir(ids_place()).into_iter().flatten().flatten() {
        if let Some(start) = entry.file_name().to_str().and_then(|n| n.parse().ok()) {
            release_ids(start, holder);
        }
    }
}

/// The blocks that this host has for containers, in the order of trying.
fn candidates(id: &str) -> Result<impl Iterator<Item = Range> + use<>> {
    let own = |o: &str| o == "stockade";
    let others = |o: &str| o != "stockade";
    let mut taken = host::sub_ranges("/etc/subuid", others)?;
    taken.extend(host::sub_ranges("/etc/subgid", others)?);
    for file in ["/etc/passwd", "/etc/group"] {
        taken.extend(host::passwd_ids(file).into_iter().map(|(_, id)| Range { start: id, count: 1 }));
    }
    let (uids, gids) = (host::sub_ranges("/etc/subuid", own)?, host::sub_ranges("/etc/subgid", own)?);
    Ok(blocks::blocks(id, blocks::Facts { uids, gids, taken }))
}

/// FNV-1a, 64 bits: spreads ids over the blocks; not a defence of anything.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Makes a directory below the runtime directory for a sandbox's bundle.
pub fn scratch_dir(store: &Store) -> Result<PathBuf> {
    store.make()?;
    let fd = open(store.path(), OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .at("state", store.path().display().to_string())?;
    match mkdirat(&fd, ".sandbox", Mode::from_bits_truncate(0o711)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(store.path().join(".sandbox")),
        Err(e) => Err(Error::os("sandbox", store.path().join(".sandbox").display().to_string(), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_containers() {
        for good in ["a", "A1_b", "a.b-c+d", "-x", "+", "_", &"a".repeat(255)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "a\n", "ä", &"a".repeat(256)] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn blocks_never_overlap_and_start_at_the_hash() {
        let some: Vec<Range> = candidates("x").unwrap().take(100).collect();
        assert_eq!(some.len(), 100);
        for (i, a) in some.iter().enumerate() {
            assert!(a.start >= 524_288 && a.count == 65_536);
            assert!(some[..i].iter().all(|b| !a.overlaps(b)));
        }
        assert_ne!(some[0], candidates("y").unwrap().next().unwrap());
    }

    #[test]
    fn a_process_is_its_number_and_its_start() {
        let own = ProcessId::own().unwrap();
        assert!(own.alive());
        assert!(!ProcessId { start: own.start + 1, ..own }.alive());
        assert!(ProcessId { start: own.start + 1, ..own }.open().is_none());
    }

    #[test]
    fn the_time_is_rfc_3339() {
        let text = now();
        assert_eq!(text.len(), "2026-11-21T18:27:00.123456789Z".len(), "{text}");
        assert!(text.starts_with("20") && text.ends_with('Z'));
    }
}
