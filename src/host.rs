//! Read: the facts of this host that a plan depends on, taken once.
//!
//! The planner is pure, so everything that it must know of the machine is in this value, and `explain` prints it as the
//! facts that it assumed. Only reads happen here. Nothing is tried out: a fact that can be known only by doing is a
//! `Try` step in the plan.

use crate::bundle::Bundle;
use crate::error::{Context, Error, Result};
use crate::namespaces::{self, Named, Seen};
use crate::sources::{self, Source};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, FsType, statfs};
use nix::unistd::{AccessFlags, access, getegid, geteuid};
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What the planner knows of the machine.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Host {
    /// The kernel's release, as uname(2) tells it.
    pub kernel: String,
    /// Our effective uid, in our user namespace.
    pub uid: u32,
    /// Our effective gid.
    pub gid: u32,
    /// Our supplementary groups.
    pub groups: Vec<u32>,
    /// Our effective capabilities, as bits.
    pub caps: u64,
    /// The capabilities that this kernel knows, as bits.
    pub known_caps: u64,
    /// Whether AppArmor is in force.
    pub apparmor: bool,
    /// The AppArmor profile that confines us.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confined: Option<String>,
    /// Whether SELinux is in force.
    pub selinux: bool,
    /// The version of Landlock that is in force; 0: none.
    pub landlock: u32,
    /// Where resctrl is mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<PathBuf>,
    /// Whether we are in the initial user namespace.
    pub initial_userns: bool,
    /// What we are executed from.
    pub binary: Binary,
    /// cgroup v2 as we find it.
    pub cgroup: Cgroup,
    /// Where ids for containers can come from.
    pub ids: Ids,
    /// The namespaces that the bundle names by path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Named>,
    /// The paths of the host that the bundle binds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
}

/// The file that the runtime is executed from, and who may write it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Binary {
    /// A copy in memory that nobody can write: see `own`.
    Sealed,
    /// A file: its owner, in our user namespace, and its permission bits.
    File {
        /// The owner.
        uid: u32,
        /// The permission bits.
        mode: u32,
    },
    /// It cannot be looked at.
    #[default]
    Unknown,
}

impl Binary {
    /// Looks at it, once.
    pub fn read() -> Binary {
        static READ: OnceLock<Binary> = OnceLock::new();
        *READ.get_or_init(Binary::look)
    }

    fn look() -> Binary {
        let exe = "/proc/self/exe";
        let Ok(stat) = nix::sys::stat::stat(exe) else { return Binary::Unknown };
        // A file in memory has no name; only then it is worth asking for its seals.
        let sealed = || {
            open(exe, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
                .is_ok_and(|fd| crate::own::is_sealed(fd.as_fd()))
        };
        if stat.st_nlink == 0 && sealed() {
            return Binary::Sealed;
        }
        Binary::File { uid: stat.st_uid, mode: stat.st_mode & 0o7777 }
    }
}

/// cgroup v2 on this host.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Cgroup {
    /// Where cgroup2 is mounted; none: containers get no cgroup.
    pub mount: Option<PathBuf>,
    /// The cgroup, relative to the mount, below which a container goes whose config names none: the parent of our own.
    pub base: String,
    /// The controllers that a child of `base` can have.
    pub controllers: Vec<String>,
    /// Controllers that the machine has and `base` lacks, each with the first cgroup on the way down without it.
    pub lacking: BTreeMap<String, String>,
    /// Controllers that this host keeps on cgroup v1, where stockade does not go.
    pub on_v1: Vec<String>,
    /// Whether we may make cgroups below `base` and move processes there.
    pub writable: bool,
    /// No container gets one (`--cgroup-manager disabled`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// systemd is asked to make the cgroup (`--systemd-cgroup`): true for the user's own manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd: Option<bool>,
}

/// Host ids that containers can get.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Ids {
    /// Root: the block of ids reserved for this container.
    pub block: Option<Range>,
    /// Root: ids of other containers that are among those that this bundle's maps name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Range>,
    /// An ordinary user: the subordinate uids of /etc/subuid, if newuidmap(1) is there to map them.
    pub sub_uids: Vec<Range>,
    /// An ordinary user: the subordinate gids of /etc/subgid.
    pub sub_gids: Vec<Range>,
}

/// A range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Range {
    /// The first id.
    pub start: u32,
    /// How many.
    pub count: u32,
}

impl Range {
    /// Whether the two ranges share an id.
    pub fn overlaps(&self, other: &Range) -> bool {
        u64::from(self.start) < u64::from(other.start) + u64::from(other.count)
            && u64::from(other.start) < u64::from(self.start) + u64::from(self.count)
    }
}

/// Where the kernel's documentation mounts it.
const RESCTRL: &str = "/sys/fs/resctrl";
/// `RDTGROUP_SUPER_MAGIC` of linux/magic.h.
const RDTGROUP_SUPER_MAGIC: FsType = FsType(0x0765_5821);
const CAP_SETUID: u64 = 1 << 7;
const CAP_SYS_ADMIN: u64 = 1 << 21;

impl Host {
    /// Looks at this machine, for a launch whose cgroup systemd makes or not.
    pub fn read_for(systemd: bool) -> Result<Host> {
        let mut host = Host::read()?;
        if systemd {
            crate::cgroup::systemd::available()?;
            let system = host.uid == 0 && host.initial_userns;
            host.cgroup.use_systemd(system)?;
        }
        Ok(host)
    }

    /// Looks at this machine.
    pub fn read() -> Result<Host> {
        let uid = geteuid().as_raw();
        let caps = sys::capget().at("host", "capget")?.effective;
        let uname = nix::sys::utsname::uname().at("host", "uname")?;
        let uid_map = read_kernel("/proc/self/uid_map")?;
        let apparmor = read_small("/sys/module/apparmor/parameters/enabled", 16).is_ok_and(|t| t.starts_with('Y'));
        let mut host = Host {
            kernel: uname.release().to_string_lossy().into_owned(),
            uid,
            gid: getegid().as_raw(),
            groups: sys::getgroups().at("host", "getgroups")?,
            caps,
            known_caps: known_caps(),
            apparmor,
            confined: if apparmor { confined() } else { None },
            landlock: sys::landlock_abi(),
            resctrl: statfs(RESCTRL).is_ok_and(|s| s.filesystem_type() == RDTGROUP_SUPER_MAGIC).then(|| RESCTRL.into()),
            selinux: access("/sys/fs/selinux/enforce", AccessFlags::F_OK).is_ok(),
            initial_userns: uid_map.split_whitespace().eq(["0", "0", "4294967295"]),
            binary: Binary::read(),
            cgroup: Cgroup::read()?,
            ids: Ids::default(),
            namespaces: Vec::new(),
            sources: Vec::new(),
        };
        if !host.privileged() {
            host.ids = Ids::of_user(uid)?;
        }
        Ok(host)
    }

    /// Looks at what the bundle names on this machine.
    pub fn look_at(&mut self, bundle: &Bundle) {
        self.look_for(bundle, true);
    }

    /// The same; `sockets`: whether it matters which daemons can be reached by it.
    pub fn look_for(&mut self, bundle: &Bundle, sockets: bool) {
        self.namespaces = namespaces::look(bundle);
        self.sources = sources::look(bundle, sockets);
    }

    /// Whether we may mount, map ids of others and make namespaces without a user namespace around them.
    pub fn privileged(&self) -> bool {
        self.caps & CAP_SYS_ADMIN != 0 && self.caps & CAP_SETUID != 0
    }

    /// The kernel's version as numbers.
    pub fn kernel_version(&self) -> (u32, u32) {
        let mut parts = self.kernel.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// The facts as lines of text, for `explain`.
    pub fn facts(&self) -> Vec<(String, String)> {
        let list = |items: &[String]| if items.is_empty() { "none".to_owned() } else { items.join(" ") };
        let ranges = |r: &[Range]| {
            list(
                &r.iter()
                    .map(|r| format!("{}..{}", r.start, u64::from(r.start) + u64::from(r.count)))
                    .collect::<Vec<_>>(),
            )
        };
        let mut facts = vec![
            ("kernel".to_owned(), self.kernel.clone()),
            (
                "we are".to_owned(),
                format!(
                    "uid {} {} user namespace, {}",
                    self.uid,
                    if self.initial_userns { "in the initial" } else { "in a nested" },
                    if self.privileged() { "privileged" } else { "unprivileged" }
                ),
            ),
            (
                "cgroup2".to_owned(),
                match &self.cgroup.mount {
                    Some(mount) => format!(
                        "{}, {}",
                        mount.display(),
                        if self.cgroup.writable { "writable for us" } else { "not writable for us" }
                    ),
                    None if self.cgroup.disabled => "not to be used".to_owned(),
                    None => "not mounted".to_owned(),
                },
            ),
            ("controllers".to_owned(), list(&self.cgroup.controllers)),
        ];
        if !self.cgroup.on_v1.is_empty() {
            facts.push(("on cgroup v1".to_owned(), list(&self.cgroup.on_v1)));
        }
        let abi = if self.landlock == 0 { "none".to_owned() } else { format!("ABI {}", self.landlock) };
        facts.push(("Landlock".to_owned(), abi));
        if !self.ids.held.is_empty() {
            facts.push(("ids of others".to_owned(), ranges(&self.ids.held)));
        }
        for named in &self.namespaces {
            let said = match &named.seen {
                Seen::Nothing(why) => why.clone(),
                Seen::Namespace(found) if found.ours => "our own namespace".to_owned(),
                Seen::Namespace(found) => format!("namespace {}", found.inode),
            };
            facts.push(("at a path".to_owned(), format!("{}: {said}", named.path.display())));
        }
        for source in &self.sources {
            let (path, real) = (source.path.display(), source.real.display());
            if let Some(socket) = &source.socket {
                facts.push(("at a path".to_owned(), format!("{path}: the socket {}", socket.display())));
            } else if source.path != source.real {
                facts.push(("at a path".to_owned(), format!("{path}: leads to {real}")));
            }
        }
        if let Some(block) = &self.ids.block {
            facts.push(("ids for it".to_owned(), ranges(&[*block])));
        } else if !self.privileged() {
            facts.push(("subordinate uids".to_owned(), ranges(&self.ids.sub_uids)));
            facts.push(("subordinate gids".to_owned(), ranges(&self.ids.sub_gids)));
        }
        facts
    }
}

/// `NAME (enforce)`, or `unconfined`; a profile can also have the mode `unconfined`, to name a program and no more.
fn confined() -> Option<String> {
    // By a file that is AppArmor's alone, where two LSMs are stacked.
    let label = read_small("/proc/self/attr/apparmor/current", 4096).ok()?;
    let label = label.trim_end_matches(['\n', '\0']);
    (label != "unconfined" && !label.ends_with("(unconfined)")).then(|| label.to_owned())
}

/// Those that PR_CAPBSET_READ of prctl(2) takes for capabilities: 41 since Linux 5.9, so that most kernels are asked twice.
fn known_caps() -> u64 {
    let known = |number: u8| sys::in_bounding(number).is_ok();
    let mut count = 41;
    while count < 64 && known(count) {
        count += 1;
    }
    while count > 0 && !known(count - 1) {
        count -= 1;
    }
    u64::MAX.checked_shr(64 - u32::from(count)).unwrap_or(0)
}

impl Cgroup {
    fn read() -> Result<Cgroup> {
        let Some(mount) = find_mount()? else { return Ok(Cgroup::default()) };
        let mut cgroup = Cgroup { mount: Some(mount.clone()), ..Cgroup::default() };
        let mut own = String::from("/");
        for line in read_small("/proc/self/cgroup", 1 << 16)?.lines() {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or("/"));
            if controllers.is_empty() {
                own = path.to_owned();
            } else if !controllers.starts_with("name=") {
                cgroup.on_v1.extend(controllers.split(',').map(str::to_owned));
            }
        }
        cgroup.on_v1.sort();
        // "/a/b" -> "/a"; our own may be outside of what a cgroup namespace shows ("/../x"): then use the top.
        let parent = Path::new(&own).parent().unwrap_or(Path::new("/"));
        cgroup.base = if own.contains("..") { "/".to_owned() } else { parent.to_string_lossy().into_owned() };
        let base = mount.join(cgroup.base.trim_start_matches('/'));
        cgroup.writable =
            [base.clone(), base.join("cgroup.procs")].iter().all(|p| access(p, AccessFlags::W_OK).is_ok());
        cgroup.controllers = controllers(&base).unwrap_or_default();
        cgroup.lacking = lacking(&mount, &cgroup.base);
        Ok(cgroup)
    }
}

/// The controllers that a cgroup has.
fn controllers(dir: &Path) -> Result<Vec<String>> {
    let text = read_kernel(dir.join("cgroup.controllers"))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// Where on the way from the root of the hierarchy to `base` each controller is lost.
fn lacking(mount: &Path, base: &str) -> BTreeMap<String, String> {
    let mut lost = BTreeMap::new();
    if base == "/" {
        return lost;
    }
    let mut have = controllers(mount).unwrap_or_default();
    let mut path = String::new();
    for name in base.split('/').filter(|n| !n.is_empty()) {
        path = format!("{path}/{name}");
        let here = controllers(&mount.join(&path[1..])).unwrap_or_default();
        for controller in have.iter().filter(|c| !here.contains(c)) {
            lost.insert(controller.clone(), path.clone());
        }
        have = here;
    }
    lost
}

impl Cgroup {
    /// Lets systemd make the cgroup: below its own, with the controllers that it can give.
    pub fn use_systemd(&mut self, initial_root: bool) -> Result<()> {
        let Some(mount) = self.mount.clone().filter(|m| m == Path::new("/sys/fs/cgroup")) else {
            return Err(Error::new("--systemd-cgroup", "/sys/fs/cgroup", "is not a pure cgroup v2 tree")
                .hint("boot with systemd.unified_cgroup_hierarchy=1, or use the cgroupfs driver"));
        };
        self.systemd = Some(!initial_root);
        self.base = "/".to_owned();
        if !initial_root {
            // "/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope": the user's manager is the service.
            let own = read_small("/proc/self/cgroup", 1 << 16)?;
            let own = own.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/").to_owned();
            let parts: Vec<&str> = own.split('/').collect();
            let uid = uid_outside()?;
            let service = format!("user@{uid}.service");
            self.base = match parts.iter().position(|p| *p == service) {
                Some(n) => parts[..=n].join("/"),
                // A login session lies beside the manager.
                None => format!("/user.slice/user-{uid}.slice/user@{uid}.service"),
            };
        }
        let base = mount.join(self.base.trim_start_matches('/'));
        self.controllers = controllers(&base)
            .map_err(|e| e.hint("the user's systemd manager is not running: loginctl enable-linger"))?;
        self.lacking = lacking(&mount, &self.base);
        self.writable = true;
        Ok(())
    }
}

/// Who we are to systemd and its bus: a rootless engine runs us as root of a user namespace of its own.
pub fn uid_outside() -> Result<u32> {
    let map = read_small("/proc/self/uid_map", 1 << 16)?;
    let own = geteuid().as_raw();
    let outside = map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|n| n.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        own.checked_sub(inside).filter(|n| *n < count).and_then(|n| outside.checked_add(n))
    });
    outside.ok_or_else(|| {
        Error::new("--systemd-cgroup", own.to_string(), "our uid has no id outside: it is not in the map")
    })
}

/// cgroup2 is at /sys/fs/cgroup, or beside the v1 hierarchies of a hybrid host, or wherever mountinfo says.
fn find_mount() -> Result<Option<PathBuf>> {
    for usual in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        if statfs(usual).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC) {
            return Ok(Some(PathBuf::from(usual)));
        }
    }
    let table = read_small("/proc/self/mountinfo", 16 << 20)?;
    Ok(table
        .lines()
        .find(|line| line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with("cgroup2 ")))
        .and_then(|line| line.split(' ').nth(4))
        .map(PathBuf::from))
}

impl Ids {
    /// The subordinate ranges of an ordinary user.
    fn of_user(uid: u32) -> Result<Ids> {
        let helpers = ["newuidmap", "newgidmap"].iter().all(|h| find_program(h).is_some());
        if !helpers {
            return Ok(Ids::default());
        }
        let name = user_name(uid);
        let owner = |o: &str| Some(o) == name.as_deref() || o == uid.to_string();
        Ok(Ids {
            block: None,
            held: Vec::new(),
            sub_uids: sub_ranges("/etc/subuid", owner)?,
            sub_gids: sub_ranges("/etc/subgid", owner)?,
        })
    }
}

/// The ranges that /etc/subuid or /etc/subgid (subuid(5)) give to the owners that `wanted` accepts.
pub fn sub_ranges(path: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<Range>> {
    let text = match read_small(path, 1 << 20) {
        Ok(text) => text,
        Err(e) if e.errno() == Some(Errno::ENOENT) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    Ok(ranges_in(&text, wanted))
}

/// The ranges of the owners that are `wanted` in such a text. A line that is none, or whose ids wrap, gives nothing.
pub fn ranges_in(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<Range> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.split(':');
            let (owner, start, count) = (parts.next()?, parts.next()?, parts.next()?);
            let range = Range { start: start.trim().parse().ok()?, count: count.trim().parse().ok()? };
            let whole = range.count > 0 && u64::from(range.start) + u64::from(range.count) <= 1 << 32;
            (wanted(owner) && whole).then_some(range)
        })
        .collect()
}

/// The host's name of a user, from /etc/passwd alone: a static binary must not load NSS modules.
pub fn user_name(uid: u32) -> Option<String> {
    passwd_ids("/etc/passwd").into_iter().find(|(_, id)| *id == uid).map(|(name, _)| name)
}

/// Names and uids of a passwd file.
pub fn passwd_ids(path: &str) -> Vec<(String, u32)> {
    let text = read_small(path, 4 << 20).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut parts = line.split(':');
            let (name, id) = (parts.next()?, parts.nth(1)?);
            Some((name.to_owned(), id.parse().ok()?))
        })
        .collect()
}

/// Where a program of the host is, by PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| access(p.as_path(), AccessFlags::X_OK).is_ok())
}

/// Reads a small regular file whole; a FIFO cannot hang us, a device or a huge file cannot exhaust us.
pub fn read_small(path: impl AsRef<Path>, limit: u64) -> Result<String> {
    let path = path.as_ref();
    let shown = path.display().to_string();
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let fd = open(path, flags, Mode::empty()).at("read", &shown)?;
    let stat = fstat(&fd).at("read", &shown)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Error::new("read", shown, "not a regular file"));
    }
    // One read takes most files whole; procfs says that its files are empty, so there the end has to be read, too.
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let mut bytes = Vec::new();
    let mut used = 0;
    loop {
        if used == bytes.len() {
            // One byte more than is taken, to see that there is more.
            let room = (size + 1).max(4096).max(2 * used as u64).min(limit + 1).max(used as u64 + 1);
            bytes.resize(room as usize, 0);
        }
        match nix::unistd::read(&fd, &mut bytes[used..]) {
            Ok(0) => break,
            Ok(n) => used += n,
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(Error::os("read", shown, e)),
        }
        if used as u64 > limit {
            return Err(Error::new("read", shown, format!("larger than {limit} bytes")));
        }
        if size > 0 && used as u64 == size {
            break;
        }
    }
    bytes.truncate(used);
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// Reads a short file of the kernel's, on the host, in one go: those give all that they have where it fits.
pub fn read_kernel(path: impl AsRef<Path>) -> Result<String> {
    /// What is longer could have a next line that did not fit.
    const SURE: usize = 2048;
    let path = path.as_ref();
    let mut bytes = [0u8; 4096];
    let fd = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).at("read", path.display().to_string())?;
    match nix::unistd::read(&fd, &mut bytes) {
        Ok(n) if n < SURE => Ok(String::from_utf8_lossy(&bytes[..n]).into_owned()),
        _ => read_small(path, 1 << 16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_overlap_at_their_edges_only_when_they_share_an_id() {
        let a = Range { start: 10, count: 10 };
        assert!(a.overlaps(&Range { start: 19, count: 1 }));
        assert!(!a.overlaps(&Range { start: 20, count: 1 }));
        assert!(!a.overlaps(&Range { start: 0, count: 10 }));
        assert!(a.overlaps(&Range { start: 0, count: u32::MAX }));
    }

    #[test]
    fn reading_a_device_or_a_directory_is_refused_at_once() {
        assert!(read_small("/dev/zero", 10).unwrap_err().to_string().contains("not a regular file"));
        assert!(read_small("/", 10).is_err());
    }
}
