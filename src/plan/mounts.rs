//! Decide: what the container sees: its root, its mounts, its devices, what is masked.
//!
//! Destinations stay as the container sees them; the executor resolves each by descriptor at the moment of use. Sources
//! on the host are copied by a privileged parent before the clone (a mapped root could not reach them, and could not
//! bind a part of a tree with mounts below); an ordinary user's child looks them up itself, with the same rights.

use super::ids::Ids;
use super::options::Asked;
use super::step::{Attr, Device, HostPath, Layers, Maps, Source, Step};
use super::{Draft, Ns, attr, finding};
use crate::error::{Error, Result};
use crate::policy::{Above, Hidepid};
use nix::errno::Errno;
use oci_spec::runtime::{LinuxDeviceType, LinuxIdMapping, Mount};
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// The slot of the root file system.
pub const ROOTFS: usize = 0;

/// The decision about what is seen.
#[derive(Debug, Default)]
pub struct View {
    /// The parent's steps before the clone.
    pub sources: Vec<Step>,
    /// The parent's steps that need the child's user namespace.
    pub idmapped: Vec<Step>,
    /// The child's steps before the pivot.
    pub steps: Vec<Step>,
    /// Those of them that come after the hooks: what is hidden, and what may not change.
    pub last: Vec<Step>,
    /// The propagation of the new root, where the config asks for one.
    pub propagation: u64,
    /// Whether the container's own cgroup can be written to at /sys/fs/cgroup.
    pub cgroup_writable: bool,
}

impl View {
    /// The first number above those of the slots in use.
    fn next_slot(&self) -> usize {
        1 + self.sources.iter().chain(&self.idmapped).filter(|s| !is_rootfs(s)).count()
    }
}

/// A mount whose options are understood.
#[derive(Debug, Clone, Default)]
struct Wish {
    index: Option<usize>,
    target: PathBuf,
    fstype: String,
    source: String,
    /// The source is of our choice (the host's /sys in place of a sysfs), and no wish of the bundle.
    ours: bool,
    bind: bool,
    recursive: bool,
    idmap: Option<Idmap>,
    copy_up: bool,
    attr: Attr,
    data: Vec<(String, String)>,
}

/// Whose ids a mount takes.
#[derive(Debug, Clone)]
struct Idmap {
    /// Its own; none: the container's.
    maps: Option<Maps>,
    /// The mounts below, too.
    below: bool,
}

/// Decides the whole view.
pub fn decide(draft: &mut Draft, ids: &Ids) -> Result<View> {
    let mut view = View::default();
    label(draft)?;
    let readonly = readonly_root(draft)?;
    let readonly = root(draft, ids, readonly, &mut view)?;

    let config = draft.bundle.spec.mounts().clone().unwrap_or_default();
    let mut wishes = Vec::with_capacity(config.len() + 6);
    let mut remounts = Vec::new();
    for (i, mount) in config.iter().enumerate() {
        let asked = Asked::read(i, mount.options().as_deref().unwrap_or_default())?;
        if asked.remount {
            remounts.push(remount(draft, i, mount, asked)?);
        } else {
            wishes.push(understand(draft, i, mount, asked)?);
        }
    }
    if draft.policy.mounts.fill_standard {
        fill_standard(draft, &mut wishes);
    }
    harden(draft, &mut wishes)?;
    let whole_sys = wishes.iter().any(|w| !w.bind && w.fstype == "sysfs") && !draft.ns.owns(Ns::Network);
    let cover_cgroups = whole_sys
        && (!draft.host.privileged() || !draft.host.initial_userns)
        && !wishes.iter().any(|w| w.target == Path::new("/sys/fs/cgroup"));
    let dev_is_bound = wishes.iter().any(|w| w.bind && w.target == Path::new("/dev"));
    let mut late = Vec::new();
    for wish in wishes {
        place(draft, ids, wish, &mut view, &mut late)?;
    }
    if !dev_is_bound {
        view.steps.push(devices(draft, ids)?);
    } else if draft.bundle.spec.linux().iter().any(|l| l.devices().as_ref().is_some_and(|d| !d.is_empty())) {
        let why = "nothing is made in a /dev that is bound: it is the host's directory";
        draft.find("host", "linux.devices", "set", "what the bound /dev has", why);
    }
    let process = draft.bundle.process();
    if process.terminal() == Some(true) {
        let uid = process.user().uid();
        view.steps.push(Step::Console { uid, size: console_size(&process)?, bind: true });
    }
    view.steps.extend(super::secrets::decide(draft)?);
    view.steps.extend(late);
    view.steps.extend(remounts);
    let (mut masked, frozen) = covered(draft);
    if cover_cgroups {
        masked.push("/sys/fs/cgroup".to_owned());
    }
    if !frozen.is_empty() {
        view.last.push(Step::ReadonlyPaths { paths: frozen });
    }
    if !masked.is_empty() {
        view.last.push(Step::Mask { paths: masked });
    }
    let cwd = normal(process.cwd());
    if cwd != Path::new("/") && !draft.options.cwd_must_exist {
        view.steps.push(Step::MakeCwd { path: cwd });
    }
    if readonly {
        view.last.push(Step::SetAttr { target: "/".into(), attr: Attr::set(attr::RDONLY) });
    }
    Ok(view)
}

/// Rows and columns; struct winsize has 16 bits for each.
pub fn console_size(process: &oci_spec::runtime::Process) -> Result<Option<(u16, u16)>> {
    let Some(size) = process.console_size() else { return Ok(None) };
    let fits = |name: &str, n: u64| {
        u16::try_from(n).map_err(|_| {
            Error::new(
                "config.json",
                format!("process.consoleSize.{name}"),
                format!("{n}: a terminal has 65535 at most"),
            )
        })
    };
    Ok(Some((fits("height", size.height())?, fits("width", size.width())?)))
}

fn readonly_root(draft: &mut Draft) -> Result<bool> {
    let rule = draft.policy.readonly_root;
    match draft.bundle.spec.root().as_ref().and_then(|r| r.readonly()) {
        Some(true) => Ok(true),
        Some(false) => match rule.explicit_false {
            Above::Allow => Ok(false),
            Above::Refuse => {
                Err(draft.refuse("root.readonly", "false", "the image could be changed from inside", "readonlyRoot"))
            }
            Above::Tighten => {
                draft.find("readonlyRoot", "root.readonly", "false", "true", "the image could be changed from inside");
                Ok(true)
            }
        },
        None => {
            if rule.silent {
                draft.find("readonlyRoot", "root.readonly", "silent", "true", "the image could be changed from inside");
            }
            Ok(rule.silent)
        }
    }
}

/// Whether it is read-only in the end.
fn root(draft: &mut Draft, ids: &Ids, readonly: bool, view: &mut View) -> Result<bool> {
    let rootfs = draft.bundle.rootfs.clone();
    let mut path = host_path(draft, "root.path", rootfs.clone())?;
    let frozen = super::reach::source(draft, "root.path", &mut path, !readonly)?;
    let readonly = readonly || frozen;
    let flags = draft.policy.mounts.clone();
    let mut set = Attr::default();
    if flags.nosuid {
        set.set_below |= attr::NOSUID;
    }
    if flags.nodev || draft.unruled() {
        set.set_below |= attr::NODEV;
    }
    if set != Attr::default() {
        let why = "neither a setuid program nor a device node of the image is of use to a correct workload";
        draft.find("mounts", "root", "silent", &set.words(), why);
    }
    let asked = draft.bundle.spec.linux().as_ref().and_then(|l| l.rootfs_propagation().clone()).unwrap_or_default();
    let (flag, below) = match asked.as_str() {
        "" | "private" | "rprivate" => (attr::MS_PRIVATE, true),
        "slave" => (attr::MS_SLAVE, false),
        "rslave" => (attr::MS_SLAVE, true),
        "shared" => (attr::MS_SHARED, false),
        "rshared" => (attr::MS_SHARED, true),
        "unbindable" => (attr::MS_UNBINDABLE, false),
        "runbindable" => (attr::MS_UNBINDABLE, true),
        other => {
            return Err(Error::new(
                "config.json",
                "linux.rootfsPropagation",
                format!("{other:?} is not a propagation"),
            )
            .hint("private, slave, shared, unbindable, each also with an r in front"));
        }
    };
    connected(draft, "linux.rootfsPropagation", &asked, flag)?;
    // pivot_root refuses a shared root: it becomes shared afterwards.
    set.propagation = if flag == attr::MS_PRIVATE { attr::MS_PRIVATE } else { attr::MS_SLAVE };
    set.propagation_below = below;
    if flag != attr::MS_PRIVATE {
        view.propagation = flag;
    }

    view.steps.push(Step::Detach { propagation: if flag == attr::MS_PRIVATE { flag } else { attr::MS_SLAVE } });
    // A mapped root may be unable to walk to the rootfs, so its mount goes on top of "/", which is always reachable.
    // Hooks that see the container built look for the rootfs where the state says it is.
    #[allow(deprecated)]
    let hooked = draft.bundle.spec.hooks().as_ref().is_some_and(|h| {
        [h.prestart(), h.create_runtime(), h.create_container()].into_iter().flatten().any(|list| !list.is_empty())
    });
    let at = if hooked { rootfs } else { "/".into() };
    // Mounts below the rootfs would keep their own flags: a read-only root does not take them along.
    let recursive = !(readonly && flags.recursive_readonly);
    if !draft.host.privileged() {
        view.steps.push(Step::AttachRootfs { source: Source::Path(path), at, recursive, attr: set });
        return Ok(readonly);
    }
    view.steps.push(Step::AttachRootfs { source: Source::Slot(ROOTFS), at, recursive, attr: Attr::default() });
    let plain = Step::CloneSource { slot: ROOTFS, path: path.clone(), recursive, attr: set };
    if !ids.invented {
        view.sources.push(plain);
    } else if readonly {
        let or = finding(
            "host",
            "root.path",
            "silent",
            "the rootfs with its owners unmapped",
            "its file system cannot be idmapped; what only its owner may read is out of reach: chown it to the container's ids, or give uidMappings",
        );
        let step = Step::Idmap { slot: ROOTFS, path, recursive, attr: set, maps: None, below: false };
        view.idmapped.push(Step::Try {
            step: Box::new(step),
            on: vec![Errno::EINVAL],
            or: Box::new(plain),
            finding: or,
        });
    } else {
        draft.find(
            "readonlyRoot",
            "root.readonly",
            "false",
            "a writable rootfs with its owners unmapped",
            "idmapped and writable, the container could leave setuid files of host root on the disk",
        );
        view.sources.push(plain);
    }
    Ok(readonly)
}

/// Mount events between host and container.
fn connected(draft: &Draft, field: &str, asked: &str, flag: u64) -> Result<()> {
    if matches!(flag, attr::MS_SHARED | attr::MS_SLAVE) && draft.policy.propagation != Above::Allow {
        return Err(draft.refuse(field, asked, "mounts would travel between host and container", "propagation"));
    }
    Ok(())
}

/// `/a/./b/../c` -> `/a/c`, always absolute: what the kernel's in-root resolution would make of it without links.
pub fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

/// `remount`: the flags that are named change on the mount that is there, all others stay (mount(2) would reset them).
fn remount(draft: &mut Draft, index: usize, mount: &Mount, mut asked: Asked) -> Result<Step> {
    let field = format!("mounts[{index}].options");
    if let Some((j, word)) = &asked.connected {
        connected(draft, &format!("{field}[{j}]"), word, asked.attr.propagation)?;
    }
    if let Some((word, _)) = asked.data.first() {
        let why = format!("{word}: remount changes the flags of a mount, not the options of its file system");
        return Err(Error::new("config.json", field, why).hint("give it to the mount itself"));
    }
    if asked.idmap || asked.copy_up {
        return Err(Error::new("config.json", field, "idmap and tmpcopyup mean nothing for remount"));
    }
    let target = normal(mount.destination());
    if target == Path::new("/") {
        let field = format!("mounts[{index}].destination");
        return Err(Error::new("config.json", field, "the root file system").hint("root.readonly says how it is"));
    }
    let lifts = Attr { clear: asked.attr.top().1 & !attr::ATIME, ..Attr::default() };
    if lifts.clear != 0 && draft.policy.mounts.lift_flags != Above::Allow {
        let (words, why) =
            (format!("{} {}", target.display(), lifts.words()), "a remount could lift what the host has on it");
        if draft.policy.mounts.lift_flags == Above::Refuse {
            return Err(draft.refuse(&field, &words, why, "mounts.liftFlags"));
        }
        draft.find("mounts.liftFlags", &field, &words, "the flags that are there", why);
        asked.attr.clear &= attr::ATIME;
        asked.attr.clear_below &= attr::ATIME;
    }
    Ok(Step::SetAttr { target, attr: asked.attr })
}

fn understand(draft: &mut Draft, index: usize, mount: &Mount, asked: Asked) -> Result<Wish> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let wrong = |name: &str, why: &str| Error::new("config.json", field(name), why);
    if let Some((j, word)) = &asked.connected {
        connected(draft, &format!("mounts[{index}].options[{j}]"), word, asked.attr.propagation)?;
    }
    let fstype = mount.typ().clone().unwrap_or_default();
    let wish = Wish {
        index: Some(index),
        target: normal(mount.destination()),
        source: mount.source().as_ref().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default(),
        bind: asked.bind || fstype == "bind",
        recursive: asked.recursive,
        attr: asked.attr,
        data: asked.data,
        copy_up: asked.copy_up,
        idmap: idmap(draft, index, mount, asked.idmap, asked.idmap_below)?,
        fstype,
        ..Wish::default()
    };
    if wish.target == Path::new("/") {
        return Err(wrong("destination", "would cover the root file system"));
    }
    if wish.bind {
        if wish.source.is_empty() {
            return Err(wrong("source", "missing: a bind needs one"));
        }
        if !wish.data.is_empty() {
            // The kernel would skip them, and the user would believe in a size or a mode that is not there.
            let names: Vec<_> = wish.data.iter().map(|(k, _)| k.as_str()).collect();
            return Err(wrong("options", &format!("{} means nothing for a bind", names.join(","))));
        }
    } else if wish.fstype.is_empty() {
        return Err(wrong("type", "missing: neither a file system nor a bind"));
    }
    if wish.copy_up && (wish.bind || wish.fstype != "tmpfs") {
        return Err(wrong("options", "tmpcopyup is for a tmpfs"));
    }
    if wish.idmap.is_some() && !wish.bind {
        return Err(wrong("options", "idmap needs a bind"));
    }
    of_listed_type(draft, &wish, &field("type"))?;
    kernel_files(draft, &wish, &field("destination"))?;
    proc_is_proc(&wish, &field("destination"))?;
    Ok(wish)
}

/// The ids of a mount: the container's own or maps that come with it.
fn idmap(draft: &Draft, index: usize, mount: &Mount, option: bool, below: bool) -> Result<Option<Idmap>> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let list = |maps: &Option<Vec<LinuxIdMapping>>| super::ids::from_oci(maps.as_deref().unwrap_or_default());
    let (uids, gids) = (list(mount.uid_mappings()), list(mount.gid_mappings()));
    let maps = match (uids.is_empty(), gids.is_empty()) {
        (true, true) => None,
        (false, false) => Some(Maps { uids, gids }),
        (true, false) => return Err(Error::new("config.json", field("uidMappings"), "missing beside gidMappings")),
        (false, true) => return Err(Error::new("config.json", field("gidMappings"), "missing beside uidMappings")),
    };
    if maps.is_none() && !option {
        return Ok(None);
    }
    let (at, what) = if option { ("options", "idmap") } else { ("uidMappings", "maps of its own") };
    if draft.policy.mounts.idmap != Above::Allow {
        return Err(draft.refuse(
            &field(at),
            what,
            "the container's root would have the rights of the host's root there",
            "mounts.idmap",
        ));
    }
    if maps.is_none() && !draft.ns.is_own(Ns::User) {
        return Err(Error::new("config.json", field(at), "idmap without maps needs a new user namespace")
            .hint("give uidMappings and gidMappings to the mount"));
    }
    if !draft.host.privileged() {
        return Err(Error::new("config.json", field(at), "idmap needs a privileged runtime")
            .hint("an ordinary user's own files already appear as root's inside"));
    }
    Ok(Some(Idmap { maps, below }))
}

/// A file system of another type loads a module of the kernel, and gives it data of the bundle's to parse.
fn of_listed_type(draft: &Draft, wish: &Wish, field: &str) -> Result<()> {
    let Some(types) = &draft.policy.mounts.types else { return Ok(()) };
    let name = if wish.bind { "bind" } else { &wish.fstype };
    if types.iter().any(|t| t == name) {
        return Ok(());
    }
    let why = format!("not one of {}: it would load a module into the host's kernel", types.join(" "));
    Err(draft.refuse(field, name, &why, "mounts.types"))
}

/// Whether a mount shows the kernel's files beside /proc and /sys, or the host's procfs. `source`: of a bind.
pub fn beyond_masks(fstype: &str, source: Option<&Path>, target: &Path) -> bool {
    match (source, fstype) {
        (Some(source), _) => normal(source).starts_with("/proc"),
        (None, "proc") => target != Path::new("/proc"),
        (None, "sysfs") => target != Path::new("/sys"),
        _ => false,
    }
}

/// The kernel's files have one place each, because that is where they are masked; and the host's procfs shows the
/// host's processes.
fn kernel_files(draft: &Draft, wish: &Wish, field: &str) -> Result<()> {
    if draft.policy.mounts.kernel_files == Above::Refuse && is_elsewhere(draft, wish) {
        return Err(draft.refuse(
            field,
            &wish.target.display().to_string(),
            "the masks of /proc and /sys do not reach there",
            "mounts.kernelFiles",
        ));
    }
    Ok(())
}

fn is_elsewhere(draft: &Draft, wish: &Wish) -> bool {
    let source = wish.bind.then(|| place_of(draft, wish));
    beyond_masks(&wish.fstype, source.as_deref(), &wish.target)
}

/// Where the source of a bind leads to, as far as that is known.
fn place_of(draft: &Draft, wish: &Wish) -> PathBuf {
    let path = draft.bundle.dir.join(&wish.source);
    let fact = draft.host.sources.iter().find(|s| s.path == path);
    fact.map_or_else(|| normal(&path), |s| s.real.clone())
}

/// Nothing goes on top of /proc but procfs, and inside it only files that are there to be replaced (CVE-2019-16884:
/// a mount there makes us, or a security module, write to a file of the image's choice).
fn proc_is_proc(wish: &Wish, field: &str) -> Result<()> {
    const REPLACEABLE: [&str; 10] = [
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "net/dev",
        "sys/kernel/ns_last_pid",
    ];
    let refuse = |why: &str| {
        Err(Error::new("config.json", field, format!("{}: {why}", wish.target.display())).hint("see CVE-2019-16884"))
    };
    if let Ok(inside) = wish.target.strip_prefix("/proc") {
        let inside = inside.to_string_lossy();
        if inside.is_empty() {
            let whole = wish.bind && wish.source == "/proc";
            if wish.fstype != "proc" && !whole {
                return refuse("only a procfs may be mounted on /proc");
            }
        } else if !REPLACEABLE.contains(&inside.as_ref()) {
            return refuse("a mount inside /proc would hide a file of the kernel");
        }
    }
    Ok(())
}

/// A mount that programs expect: where, the file system, its flags and its options.
pub type Standard = (&'static str, &'static str, u64, Vec<(String, String)>);

/// Mounts that programs expect, where the config has none.
pub fn standard() -> [Standard; 6] {
    let strict = attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let option = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    [
        ("/proc", "proc", strict, vec![]),
        ("/dev", "tmpfs", attr::NOSUID | attr::NOEXEC, vec![option("mode", "755"), option("size", "64k")]),
        (
            "/dev/pts",
            "devpts",
            attr::NOSUID | attr::NOEXEC,
            vec![option("newinstance", ""), option("ptmxmode", "0666"), option("mode", "0620"), option("gid", "5")],
        ),
        ("/dev/shm", "tmpfs", strict, vec![option("mode", "1777"), option("size", "64m")]),
        ("/dev/mqueue", "mqueue", strict, vec![]),
        ("/sys", "sysfs", strict | attr::RDONLY, vec![]),
    ]
}

/// Each standard mount where a silent config would show the host's or nothing.
fn fill_standard(draft: &mut Draft, wishes: &mut Vec<Wish>) {
    let mut filled = Vec::new();
    for (target, fstype, set, data) in standard() {
        let target = PathBuf::from(target);
        if wishes.iter().any(|w| w.target == target) {
            continue;
        }
        // After what it lies in and its sisters filled so far, before what lies in it.
        let sister = |w: &Wish| w.index.is_none() && w.target.parent() == target.parent();
        let after = wishes.iter().rposition(|w| target.starts_with(&w.target) || sister(w)).map_or(0, |i| i + 1);
        filled.push(target.display().to_string());
        wishes.insert(
            after,
            Wish {
                target,
                fstype: fstype.into(),
                source: fstype.into(),
                attr: Attr::set(set),
                data,
                ..Wish::default()
            },
        );
    }
    if !filled.is_empty() {
        draft.find(
            "mounts.fillStandard",
            "mounts",
            "silent",
            &filled.join(" "),
            "programs expect them, and these are the container's own",
        );
    }
}

/// nosuid, nodev, noexec and recursive read-only, where the policy wants them.
fn harden(draft: &mut Draft, wishes: &mut [Wish]) -> Result<()> {
    let rule = draft.policy.mounts.clone();
    let unruled = draft.unruled();
    let mut tightened: Vec<String> = Vec::new();
    let mut lifted = Vec::new();
    for wish in wishes.iter_mut() {
        let mut add = 0;
        if rule.nosuid {
            add |= attr::NOSUID;
        }
        // A device node bound by itself is refused by the rule on devices; devpts would be useless with nodev.
        // What is bound is what it is, whatever type the config calls it.
        let of_devices =
            !wish.bind && (wish.fstype == "devpts" || (wish.fstype == "tmpfs" && wish.target == Path::new("/dev")));
        if (rule.nodev || unruled) && !of_devices {
            add |= attr::NODEV;
        }
        if rule.noexec
            && !wish.bind
            && matches!(wish.fstype.as_str(), "tmpfs" | "proc" | "sysfs" | "devpts" | "mqueue" | "cgroup" | "cgroup2")
        {
            add |= attr::NOEXEC;
        }
        if rule.kernel_files == Above::Refuse && !wish.bind && matches!(wish.fstype.as_str(), "cgroup" | "cgroup2") {
            // Its own limits are files in there, and an ordinary user's root owns them.
            add |= attr::RDONLY;
        }
        let sysfs = if wish.bind { place_of(draft, wish).starts_with("/sys") } else { wish.fstype == "sysfs" };
        if rule.kernel_files == Above::Tighten && (sysfs || is_elsewhere(draft, wish)) {
            // uevent_helper and core_pattern name programs that the host's kernel runs.
            add |= attr::RDONLY;
        }
        let before = wish.attr;
        wish.attr.set |= add;
        wish.attr.clear &= !add;
        // The stricter of two wishes for one flag, whatever the order in which they are applied.
        wish.attr.clear_below &= !add;
        if wish.recursive {
            if rule.recursive_readonly && wish.attr.top().0 & attr::RDONLY != 0 {
                add |= attr::RDONLY;
            }
            wish.attr.set_below |= add;
            wish.attr.clear_below &= !add;
        }
        let new = Attr { set_below: wish.attr.set_below & !before.set_below, ..Attr::set(wish.attr.set & !before.set) };
        if new != Attr::default() && wish.index.is_some() {
            tightened.push(format!("{} {}", wish.target.display(), new.words()));
        }
        // A new file system has no flags of the host's to lift.
        let lifts = Attr { clear: wish.attr.top().1 & !attr::ATIME, ..Attr::default() };
        if wish.bind && lifts.clear != 0 {
            lifted.push((wish.index, format!("{} {}", wish.target.display(), lifts.words())));
            if rule.lift_flags != Above::Allow {
                wish.attr.clear &= attr::ATIME;
                wish.attr.clear_below &= attr::ATIME;
            }
        }
    }
    let why = "what the host has on the source stays on it";
    if let (Above::Refuse, Some((Some(i), words))) = (rule.lift_flags, lifted.first()) {
        return Err(draft.refuse(&format!("mounts[{i}].options"), words, why, "mounts.liftFlags"));
    }
    if rule.lift_flags == Above::Tighten && !lifted.is_empty() {
        let asked: Vec<String> = lifted.into_iter().map(|(_, words)| words).collect();
        draft.find("mounts.liftFlags", "mounts", &asked.join(", "), "only where the host has no such flag", why);
    }
    if !tightened.is_empty() {
        draft.find(
            "mounts",
            "mounts",
            "without",
            &tightened.join(", "),
            "a correct workload does not need what these flags take away",
        );
    }
    Ok(())
}

fn place(draft: &mut Draft, ids: &Ids, mut wish: Wish, view: &mut View, late: &mut Vec<Step>) -> Result<()> {
    let field = wish.index.map_or_else(|| "mounts".to_owned(), |i| format!("mounts[{i}]"));
    if wish.bind {
        let plain = wish.idmap.is_none() && wish.attr.top().0 & attr::RDONLY == 0;
        if let Some(map) = ids.uids.first().filter(|_| plain && ids.invented && draft.host.privileged()) {
            let given = format!("its owners unmapped: root inside is {} there", map.outside);
            let why = "what the container may write there must belong to that id";
            draft.find("host", &field, "a writable bind", &given, why);
        }
        return bind(draft, &field, wish, view);
    }
    match wish.fstype.as_str() {
        "cgroup" | "cgroup2" => return cgroup(draft, &field, wish, view),
        "overlay" => return overlay(draft, &field, wish, view),
        "sysfs" if !draft.ns.owns(Ns::Network) => {
            draft.find(
                "host",
                &field,
                "sysfs",
                "the host's /sys, read-only",
                "sysfs shows the network namespace, and this one is not the container's own",
            );
            wish.source = "/sys".into();
            wish.ours = true;
            // What is mounted below is not wanted: the host's cgroups, its tracing and debugging. An ordinary user cannot
            // leave it out, so there at least the cgroups are covered.
            wish.recursive = !draft.host.privileged() || !draft.host.initial_userns;
            wish.attr.set_below |= wish.attr.set | attr::RDONLY;
            wish.attr.set |= attr::RDONLY;
            return bind(draft, &field, wish, view);
        }
        "proc" if !draft.ns.owns(Ns::Pid) => {
            return Err(Error::new(
                "config.json",
                field,
                "a procfs needs a pid namespace that the container's user namespace owns",
            )
            .hint("a new one, or join the user namespace that owns the one that is joined"));
        }
        "proc" => proc_options(draft, &field, &mut wish.data),
        "mqueue" if !draft.ns.owns(Ns::Ipc) => {
            let why = "the ipc namespace belongs to another user namespace, so its queues cannot be mounted";
            if !draft.policy.mounts.fill_standard {
                return Err(Error::new("config.json", field, why)
                    .hint("leave the mount out, or join the user namespace that owns the ipc namespace"));
            }
            draft.find("host", &field, "mqueue", "nothing", why);
            return Ok(());
        }
        _ => {}
    }
    // Options with an id that nobody has outside are EINVAL.
    let mut kept = Vec::new();
    for (key, value) in std::mem::take(&mut wish.data) {
        let unmapped = match (key.as_str(), value.parse::<u32>()) {
            ("gid", Ok(gid)) => !ids.maps_gid(gid),
            ("uid", Ok(uid)) => {
                !ids.uids.is_empty() && !ids.uids.iter().any(|m| uid >= m.inside && uid - m.inside < m.count)
            }
            _ => false,
        };
        if unmapped {
            draft.find("host", &field, &format!("{key}={value}"), "without it", "this id has no id outside");
        } else {
            kept.push((key, value));
        }
    }
    // What has to be filled first becomes read-only last.
    if wish.fstype == "tmpfs" && wish.attr.top().0 & attr::RDONLY != 0 {
        wish.attr.set &= !attr::RDONLY;
        wish.attr.set_below &= !attr::RDONLY;
        late.push(Step::SetAttr { target: wish.target.clone(), attr: Attr::set(attr::RDONLY) });
    }
    let fstype = wish.fstype;
    // What the kernel gives by itself is never of a read-only device; everything else must not be written at all.
    let virtual_ = matches!(fstype.as_str(), "proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue");
    if !virtual_ {
        if wish.source.starts_with('/') {
            host_path(draft, &format!("{field}.source"), PathBuf::from(&wish.source))?;
        }
        if wish.attr.top().0 & attr::RDONLY != 0 {
            kept.push(("ro".to_owned(), String::new()));
        }
    }
    view.steps.push(Step::Filesystem {
        source: wish.source,
        target: wish.target,
        options: labelled(draft, &fstype, kept),
        fstype,
        attr: wish.attr,
        copy_up: wish.copy_up,
    });
    Ok(())
}

/// What the policy hides in a procfs. An option of the config stands where it hides more.
fn proc_options(draft: &mut Draft, field: &str, options: &mut Vec<(String, String)>) {
    let rule = draft.policy.proc;
    let asked = options.iter().rev().find(|(k, _)| k == "hidepid").map(|(_, v)| v.clone());
    // A word that we do not know is the kernel's to refuse.
    let loose = asked.as_deref().is_none_or(|v| Hidepid::from_option(v).is_some_and(|had| had < rule.hidepid));
    if rule.hidepid != Hidepid::Off && loose {
        let (asked, word) = (asked.map_or("silent".to_owned(), |v| format!("hidepid={v}")), rule.hidepid.word());
        let why = "what other users of the container run, and with which arguments";
        draft.find("proc.hidepid", &format!("{field}.options"), &asked, &format!("hidepid={word}"), why);
        options.retain(|(k, _)| k != "hidepid");
        options.push(("hidepid".to_owned(), word.to_owned()));
    }
    let pid = |(k, v): &(String, String)| k == "subset" && v == "pid";
    if rule.only_pids && !options.iter().any(pid) {
        let why = "what the kernel tells and lets set besides processes";
        draft.find("proc.onlyPids", &format!("{field}.options"), "silent", "subset=pid", why);
        options.push(("subset".to_owned(), "pid".to_owned()));
    }
}

fn bind(draft: &mut Draft, field: &str, wish: Wish, view: &mut View) -> Result<()> {
    // The host's /sys on /sys, read-only, is what stockade gives by itself where a fresh sysfs is impossible.
    let sysfs = wish.source == "/sys" && wish.target == Path::new("/sys") && wish.attr.set & attr::RDONLY != 0;
    let mut path = if wish.ours || sysfs {
        HostPath { path: PathBuf::from(&wish.source), within: None, judged: false }
    } else {
        host_path(draft, &format!("{field}.source"), draft.bundle.dir.join(&wish.source))?
    };
    let cgroups = wish.recursive && !wish.ours && place_of(draft, &wish).starts_with("/sys");
    let Wish { target, recursive, mut attr, idmap, .. } = wish;
    let below_too = cgroups && attr.top().0 & attr::RDONLY != 0 && attr.set_below & attr::RDONLY == 0;
    if below_too && attr.clear_below & attr::RDONLY == 0 {
        attr.set_below |= attr::RDONLY;
        let why = "the host's cgroups are mounted there, and whoever owns one could write to it (CVE-2023-25809)";
        draft.find("host", field, "read-only but for what is mounted below", "read-only, whole", why);
    }
    if !wish.ours && !sysfs {
        let readonly = attr.top().0 & attr::RDONLY != 0 && (!recursive || attr.set_below & attr::RDONLY != 0);
        if super::reach::source(draft, &format!("{field}.source"), &mut path, !readonly)? {
            attr.set |= attr::RDONLY;
            attr.set_below |= if recursive { attr::RDONLY } else { 0 };
            attr.clear &= !attr::RDONLY;
            attr.clear_below &= !attr::RDONLY;
        }
    }
    if !draft.host.privileged() {
        view.steps.push(Step::Bind { source: Source::Path(path), target, recursive, attr });
        return Ok(());
    }
    let slot = view.next_slot();
    match idmap {
        None => view.sources.push(Step::CloneSource { slot, path, recursive, attr }),
        Some(Idmap { maps: None, below }) => {
            view.idmapped.push(Step::Idmap { slot, path, recursive, attr, maps: None, below });
        }
        Some(Idmap { maps, below }) => view.sources.push(Step::Idmap { slot, path, recursive, attr, maps, below }),
    }
    view.steps.push(Step::Bind { source: Source::Slot(slot), target, recursive, attr: Attr::default() });
    Ok(())
}

/// A path of the host that the bundle names: inside the bundle it is resolved without leaving it; outside, the operator
/// decides (a rootfs at /etc, or a volume at /root, is the host's).
pub(super) fn host_path(draft: &Draft, field: &str, path: PathBuf) -> Result<HostPath> {
    let rule = &draft.policy.host_paths;
    let plain = normal(&path);
    if rule.beyond == Above::Allow || rule.allowed.iter().any(|p| plain.starts_with(normal(p))) {
        return Ok(HostPath { path, within: None, judged: false });
    }
    if plain != draft.bundle.dir && plain.starts_with(&draft.bundle.dir) {
        return Ok(HostPath { path: plain, within: Some(draft.bundle.dir.clone()), judged: false });
    }
    let why = "a bundle names nothing of the host outside its own directory";
    Err(draft.refuse(field, &path.display().to_string(), why, "hostPaths"))
}

/// The layers are paths of the host, like the source of a bind. A privileged parent mounts it before the clone, because
/// a mapped root could not walk to them.
fn overlay(draft: &mut Draft, field: &str, wish: Wish, view: &mut View) -> Result<()> {
    let here = format!("{field}.options");
    let wrong = |why: &str| Error::new("config.json", here.clone(), why);
    let (mut lower, mut upper, mut work, mut options) = (Vec::new(), None, None, Vec::new());
    for (key, value) in wish.data {
        let path = |draft: &Draft, text: &str| match text {
            "" => Err(wrong(&format!("{key} with an empty path"))),
            _ => host_path(draft, &here, draft.bundle.dir.join(text)),
        };
        match key.as_str() {
            "lowerdir" | "lowerdir+" => {
                let parts = if key == "lowerdir" { split_layers(&value) } else { vec![value.clone()] };
                for part in parts {
                    lower.push(path(draft, &part)?);
                }
            }
            "upperdir" => {
                let mut host = path(draft, &value)?;
                if super::reach::source(draft, &here, &mut host, true)? {
                    return Err(wrong("upperdir in a place that the policy makes read-only"));
                }
                upper = Some(host);
            }
            "workdir" => work = Some(path(draft, &value)?),
            "datadir+" => return Err(wrong("datadir+ is not taken: data-only layers")),
            _ => options.push((key, value)),
        }
    }
    if lower.is_empty() {
        return Err(wrong("an overlay without a lowerdir"));
    }
    let upper = match (upper, work) {
        (Some(upper), Some(work)) => Some((upper, work)),
        (None, None) => None,
        (Some(_), None) => return Err(wrong("upperdir without a workdir")),
        (None, Some(_)) => return Err(wrong("workdir without an upperdir")),
    };
    let slot = draft.host.privileged().then(|| view.next_slot());
    let step = Step::Overlay {
        slot,
        target: wish.target.clone(),
        layers: Layers { lower, upper },
        options: labelled(draft, "overlay", options),
        attr: wish.attr,
    };
    match slot {
        None => view.steps.push(step),
        Some(slot) => {
            view.sources.push(step);
            let source = Source::Slot(slot);
            view.steps.push(Step::Bind { source, target: wish.target, recursive: false, attr: Attr::default() });
        }
    }
    Ok(())
}

/// `a:b` with `\:` for a colon and `\\` for a backslash, as overlayfs reads it.
fn split_layers(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, parts.last_mut()) {
            (':', _) => parts.push(String::new()),
            ('\\', Some(part)) => part.extend(chars.next()),
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    parts
}

/// The options of a new file system with the label that the config wants on its files.
pub(super) fn labelled(draft: &Draft, fstype: &str, mut options: Vec<(String, String)>) -> Vec<(String, String)> {
    // The kernel labels its own files by itself.
    let nested = draft.ns.is_own(Ns::User) || !draft.host.initial_userns;
    let takes = !matches!(fstype, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2")
        // In a user namespace SELinux takes a label for these alone, and labels the others by itself
        // (selinux_set_mnt_opts in security/selinux/hooks.c).
        && (!nested || matches!(fstype, "tmpfs" | "ramfs" | "devpts" | "overlay"));
    let own = options.iter().any(|(k, _)| matches!(k.as_str(), "context" | "fscontext" | "defcontext"));
    let label = draft.bundle.spec.linux().as_ref().and_then(|l| l.mount_label().clone()).filter(|l| !l.is_empty());
    if let Some(label) = label.filter(|_| takes && !own) {
        options.push(("context".to_owned(), label));
    }
    options
}

/// `linux.mountLabel` is a promise that other containers cannot read these files: without SELinux nobody keeps it.
fn label(draft: &Draft) -> Result<()> {
    let label = draft.bundle.spec.linux().as_ref().and_then(|l| l.mount_label().clone()).filter(|l| !l.is_empty());
    match label {
        Some(label) if !draft.host.selinux => Err(Error::new(
            "config.json",
            "linux.mountLabel",
            format!("{label:?}, and SELinux is not on on this host: files would go without it"),
        )
        .hint("remove the label, or boot with SELinux")),
        _ => Ok(()),
    }
}

fn is_rootfs(step: &Step) -> bool {
    match step {
        Step::CloneSource { slot, .. } | Step::Idmap { slot, .. } => *slot == ROOTFS,
        Step::Try { step, .. } => is_rootfs(step),
        _ => false,
    }
}

/// The cgroup tree inside: cgroup2 in a cgroup namespace of its own, else a view of the host's, read-only.
fn cgroup(draft: &mut Draft, field: &str, mut wish: Wish, view: &mut View) -> Result<()> {
    if draft.ns.is_own(Ns::Cgroup) && draft.ns.owns(Ns::Cgroup) {
        view.cgroup_writable |= draft.ns.is_new(Ns::Cgroup)
            && wish.target == Path::new("/sys/fs/cgroup")
            && wish.attr.set & attr::RDONLY == 0;
        view.steps.push(Step::Filesystem {
            fstype: "cgroup2".into(),
            source: "cgroup2".into(),
            target: wish.target,
            options: Vec::new(),
            attr: wish.attr,
            copy_up: false,
        });
        return Ok(());
    }
    let Some(mount) = draft.host.cgroup.mount.clone() else {
        draft.find("host", field, "cgroup", "nothing", "cgroup v2 is not mounted on this host");
        return Ok(());
    };
    draft.find(
        "host",
        field,
        "cgroup",
        "the host's cgroup tree, read-only",
        "without a cgroup namespace of its own a writable one would be the host's (CVE-2023-25809)",
    );
    wish.source = mount.display().to_string();
    wish.ours = true;
    wish.recursive = true;
    wish.attr.set |= attr::RDONLY;
    wish.attr.set_below |= wish.attr.set;
    bind(draft, field, wish, view)
}

fn devices(draft: &mut Draft, ids: &Ids) -> Result<Step> {
    let node = |name: &str, major, minor| Device {
        path: Path::new("/dev").join(name),
        kind: 'c',
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    let mut nodes = vec![
        node("null", 1, 3),
        node("zero", 1, 5),
        node("full", 1, 7),
        node("random", 1, 8),
        node("urandom", 1, 9),
        node("tty", 5, 0),
    ];
    // A search of the list for each would take a thousand devices half a second.
    let mut places: HashMap<PathBuf, usize> = nodes.iter().enumerate().map(|(i, n)| (n.path.clone(), i)).collect();
    let asked = draft.bundle.spec.linux().as_ref().and_then(|l| l.devices().clone()).unwrap_or_default();
    for (i, device) in asked.iter().enumerate() {
        let path = normal(device.path());
        let field = format!("linux.devices[{i}]");
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => 'c',
            LinuxDeviceType::B => 'b',
            LinuxDeviceType::P => 'p',
            LinuxDeviceType::A => {
                return Err(Error::new(
                    "config.json",
                    format!("{field}.type"),
                    "\"a\" is not a node; c, u, b or p are",
                ));
            }
        };
        let node = Device {
            path,
            kind,
            major: device.major() as u32,
            minor: device.minor() as u32,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        };
        if let Some(at) = places.get(&node.path) {
            let same = &mut nodes[*at];
            if (same.kind, same.major, same.minor) == (node.kind, node.major, node.minor) {
                *same = node;
                continue;
            }
            return Err(Error::new(
                "config.json",
                field,
                format!("{} is another device there already", node.path.display()),
            ));
        }
        let console = node.path == Path::new("/dev/console") || node.path == Path::new("/dev/ptmx");
        if console {
            // Made by the console step and by devpts.
            continue;
        }
        if draft.policy.devices != Above::Allow {
            return Err(draft.refuse(
                &field,
                &format!("{} ({} {}:{})", node.path.display(), kind, node.major, node.minor),
                "a device of the host beyond the specification's own",
                "devices",
            ));
        }
        if kind == 'b' {
            let asked = format!("{} (b {}:{})", node.path.display(), node.major, node.minor);
            super::reach::block_device(draft, &field, &asked)?;
        }
        places.insert(node.path.clone(), nodes.len());
        nodes.push(node);
    }
    let bind = !ids.uids.is_empty() || !draft.host.initial_userns;
    if bind {
        // The host's own node is shown, with its owner and its mode.
        for (i, device) in asked.iter().enumerate().filter(|(_, d)| d.typ() != LinuxDeviceType::P) {
            let named = device.file_mode().is_some_and(|m| m & 0o7777 != 0o666)
                || device.uid().is_some_and(|u| u != 0)
                || device.gid().is_some_and(|g| g != 0);
            if named {
                let why = "no node can be made in a user namespace, so the host's is bound";
                draft.find("host", &format!("linux.devices[{i}]"), "a mode or an owner", "the host's", why);
            }
        }
    }
    let link = |target: &str, path: &str| (target.to_owned(), PathBuf::from(path));
    let links = vec![
        link("/proc/self/fd", "/dev/fd"),
        link("/proc/self/fd/0", "/dev/stdin"),
        link("/proc/self/fd/1", "/dev/stdout"),
        link("/proc/self/fd/2", "/dev/stderr"),
        link("pts/ptmx", "/dev/ptmx"),
    ];
    Ok(Step::Devices { nodes, bind, links })
}

/// What of the policy's paths a list of the config does not have.
pub fn uncovered(asked: &[String], floor: &[String]) -> Vec<String> {
    floor.iter().filter(|p| !asked.contains(p)).cloned().collect()
}

/// Masked and read-only paths: the config's and the policy's together.
fn covered(draft: &mut Draft) -> (Vec<String>, Vec<String>) {
    let (bundle, policy) = (draft.bundle, draft.policy);
    let linux = bundle.spec.linux().as_ref();
    let mut unite = |field: &str, rule: &str, asked: Option<Vec<String>>, floor: &[String]| {
        let silent = asked.is_none();
        let mut paths = asked.unwrap_or_default();
        let more = uncovered(&paths, floor);
        if !more.is_empty() {
            let asked = if silent { "silent" } else { "a list without them" };
            draft.find(rule, field, asked, &more.join(" "), "kernel files that tell or do too much");
        }
        paths.extend(more);
        paths
    };
    let masked =
        unite("linux.maskedPaths", "maskedPaths", linux.and_then(|l| l.masked_paths().clone()), &policy.masked_paths);
    let frozen = unite(
        "linux.readonlyPaths",
        "readonlyPaths",
        linux.and_then(|l| l.readonly_paths().clone()),
        &policy.readonly_paths,
    );
    (masked, frozen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain_without_leaving_the_root() {
        for (from, to) in [("/a/../../b", "/b"), ("a/./b", "/a/b"), ("/", "/"), ("/proc/../proc", "/proc")] {
            assert_eq!(normal(Path::new(from)), Path::new(to), "{from}");
        }
    }
}
