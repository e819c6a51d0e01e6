//! `checkpoint` and `restore`: a running container becomes images, and images a running container.

use super::launch::{abandon, check_terminal, poststop, state_of, take_ids, undo, write_pid};
use crate::bundle::Bundle;
use crate::cgroup::Group;
use crate::cli::{Checkpoint, Criu, Global, Restore};
use crate::console::{self, Relay, Signals};
use crate::criu::{self, Ask, Fields, Talk};
use crate::error::{Context, Error, Result};
use crate::host::read_small;
use crate::launch::{Built, Setting};
use crate::mountinfo;
use crate::plan::restore::{self as decided, Images};
use crate::plan::{self, Ns, Options, Plan};
use crate::policy::Policy;
use crate::state::{self, Entry, Status, Store};
use crate::sys;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fstat};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What stockade itself remembers, among the images.
const RECORD: &str = "stockade.json";
/// The kernel's CLONE_NEWNET, as `--empty-ns network` says it to criu.
const NEWNET: u64 = 0x4000_0000;

/// Both verbs' directories, held: criu takes them by our descriptors.
struct Places {
    images: OwnedFd,
    work: OwnedFd,
    log: PathBuf,
}

impl Places {
    /// `make`: with this mode.
    fn open(criu: &Criu, log: &str, make: Option<u32>) -> Result<Places> {
        let dir = |flag: &str, path: &Path| -> Result<OwnedFd> {
            let shown = path.display().to_string();
            if let Some(mode) = make {
                std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).at(flag, &shown)?;
            }
            open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).at(flag, &shown)
        };
        let images = dir("--image-path", &criu.image_path)?;
        let path = criu.work_path.as_ref().unwrap_or(&criu.image_path);
        Ok(Places { images, work: dir("--work-path", path)?, log: path.join(log) })
    }

    /// criu's failure, with the reason from its log.
    fn explain(&self, e: Error) -> Error {
        if e.step != "criu" {
            return e;
        }
        let log = self.log.display().to_string();
        match criu::first_error(&self.log) {
            Some(why) => Error { why, subject: e.subject, ..e }.hint(format!("criu's log: {log}")),
            None => e.hint(format!("criu's log, if it came so far: {log}")),
        }
    }
}

/// What of runc's flags is not done, and why.
fn refuse(args: &Criu) -> Result<()> {
    if args.lazy_pages {
        let why = "refused: memory would come over the network after the container was judged and runs";
        return Err(Error::new("--lazy-pages", "", why).hint("--pre-dump and --parent-path make the pause short, too"));
    }
    let mode = args.manage_cgroups_mode.as_str();
    if matches!(mode, "full" | "strict") {
        let why = "refused: the limits of a container come from config.json, not from images";
        return Err(Error::new("--manage-cgroups-mode", mode, why).hint("soft (the default) or ignore"));
    }
    Ok(())
}

/// What the caller handed over to be in memory alone would be on a disk.
fn no_secrets(pid: i32) -> Result<()> {
    let place = Path::new(crate::plan::secrets::PLACE);
    let all = mountinfo::of(&pid.to_string())?;
    if all.iter().any(|m| m.point == place && m.fstype == "ramfs") {
        let why = "the container has secrets, and images of it would hold them on a disk";
        return Err(Error::new("checkpoint", place.display().to_string(), why));
    }
    Ok(())
}

/// The options that both verbs have (`criu_opts` of rpc.proto).
fn options(args: &Criu, places: &Places) -> Fields {
    let mut all = Fields::default();
    all.number(17, places.work.as_raw_fd().cast_unsigned().into())
        .number(9, 4)
        .text(10, &places.log.file_name().unwrap_or_default().to_string_lossy())
        .flag(4, args.ext_unix_sk)
        .flag(5, args.tcp_established)
        .flag(7, args.shell_job)
        .flag(8, args.file_locks)
        .flag(16, args.auto_dedup)
        // criu leaves cgroups alone: where its processes go is decided before it starts.
        .number(34, 0);
    if !args.empty_ns.is_empty() {
        all.number(38, NEWNET);
    }
    all
}

/// `stockade checkpoint`.
pub fn checkpoint(global: &Global, args: &Checkpoint) -> Result<i32> {
    let entry = Store::open(global.root.as_deref())?.entry(&args.id)?;
    let criu = criu::find(&global.criu)?;
    if args.status_fd.is_some_and(|fd| fd >= 0) {
        return Err(Error::new("--status-fd", "", "goes with --lazy-pages, which is refused"));
    }
    refuse(&args.criu)?;
    let server = args.page_server.as_deref().map(page_server).transpose()?;
    entry.lock()?;
    let (state, status) = entry.require()?;
    if status != Status::Running {
        let why = match status {
            Status::Stopped => "container not running".to_owned(),
            other => format!("cannot checkpoint a container that is {}", other.word()),
        };
        return Err(Error::new("checkpoint", args.id.as_str(), why));
    }
    let group = group(&entry)?;
    if let Some(group) = group.as_ref().filter(|_| args.criu.manage_cgroups_mode == "soft")
        && !group.get("cgroup.stat")?.lines().any(|l| l == "nr_descendants 0")
    {
        return Err(Error::new(
            "checkpoint",
            "cgroup",
            "the workload made cgroups of its own, which would not be there again",
        )
        .hint("--manage-cgroups-mode ignore: all its processes come back in the container's cgroup"));
    }
    check_parent(args)?;
    no_secrets(state.init.pid)?;
    // criu locks the network while it writes connections. Its other way, nftables, leaves the lock in the images: what
    // comes back is cut off (seen with 3.17.1).
    if entry.confinement()?.namespaces.contains(&Ns::Network) && crate::host::find_program("iptables-restore").is_none()
    {
        return Err(Error::new(
            "checkpoint",
            "iptables-restore",
            "is not installed, and criu locks the network with it",
        )
        .hint("on Debian: apt-get install iptables"));
    }
    // The memory of a workload is in there.
    let places = Places::open(&args.criu, "dump.log", Some(0o700))?;
    let mut all = options(&args.criu, &places);
    let images = describe(&entry, state.init.pid)?;
    for target in &images.external {
        let target = target.display();
        all.text(37, &format!("mnt[{target}]:{target}"));
    }
    for key in images.streams.iter().flatten().filter(|k| k.starts_with("file[")) {
        all.text(37, key);
    }
    if images.network {
        let ns =
            nix::sys::stat::stat(format!("/proc/{}/ns/net", state.init.pid).as_str()).at("checkpoint", "network")?;
        all.text(37, &format!("net[{}]:extRootNetNS", ns.st_ino));
    }
    if let Some(parent) = &args.parent_path {
        all.text(14, &parent.display().to_string());
    }
    all.number(1, places.images.as_raw_fd().cast_unsigned().into())
        .number(2, state.init.pid.cast_unsigned().into())
        .text(13, &state.rootfs.display().to_string())
        .flag(3, args.leave_running || args.pre_dump)
        .flag(15, args.pre_dump || args.parent_path.is_some())
        .flag(18, args.link_remap)
        .flag(46, args.tcp_skip_in_flight)
        .flag(50, images.terminal);
    if let Some(group) = entry.intent()?.and_then(|i| i.cgroup).filter(|_| group.is_some()) {
        all.text(44, &group.mount.join(group.path.trim_start_matches('/')).display().to_string());
    }
    if let Some((address, port)) = server {
        let mut inner = Fields::default();
        inner.text(1, address).number(2, port.into());
        all.inner(11, &inner);
    }

    let (talk, theirs) = Talk::pair()?;
    let shown = criu.display().to_string();
    // criu makes its files for everybody to read.
    nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    let mut child = Command::new(&criu)
        .args(["swrk", &theirs.as_raw_fd().to_string()])
        .env_clear()
        .envs(criu::ENV.iter().filter_map(|e| e.split_once('=')))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .at("criu", &shown)?;
    drop(theirs);
    let ask = if args.pre_dump { Ask::PreDump } else { Ask::Dump };
    let done = talk.ask(ask, &all, |_| Ok(()));
    drop(talk);
    let _ = child.wait();
    done.map_err(|e| places.explain(e))?;
    record(&places, &images)?;
    if !args.leave_running && !args.pre_dump {
        entry.purge(Some(&state))?;
        poststop(&state, None);
    }
    Ok(0)
}

fn check_parent(args: &Checkpoint) -> Result<()> {
    let Some(parent) = &args.parent_path else { return Ok(()) };
    let wrong = |path: &Path, why: &str| Err(Error::new("--parent-path", path.display().to_string(), why));
    if parent.is_absolute() {
        return wrong(parent, "--parent-path must be relative to --image-path");
    }
    // The images' directory need not be there yet, so `..` is worked out by the words.
    let below = plan::mounts::normal(&std::path::absolute(args.criu.image_path.join(parent)).at("--parent-path", "")?);
    if below.is_dir() { Ok(()) } else { wrong(&below, "--parent-path must name the images of a --pre-dump") }
}

fn group(entry: &Entry) -> Result<Option<Group>> {
    let record = entry.intent()?.and_then(|i| i.cgroup);
    record.as_ref().map(|r| Group::open(&r.mount, &r.path)).transpose().map(Option::flatten)
}

fn page_server(text: &str) -> Result<(&str, u16)> {
    let parts = text.rsplit_once(':').and_then(|(address, port)| Some((address, port.parse().ok()?)));
    parts
        .filter(|(address, _)| !address.is_empty())
        .ok_or_else(|| Error::new("--page-server", text, "is not ADDRESS:PORT"))
}

/// What criu cannot know: which mounts are the host's, and what the standard streams lead to outside.
fn describe(entry: &Entry, pid: i32) -> Result<Images> {
    let confinement = entry.confinement()?;
    if let Some(ns) = confinement.joined.iter().find(|n| **n != Ns::Network) {
        return Err(Error::new(
            "checkpoint",
            ns.name(),
            "a namespace of others: criu makes a new one, and the container would not be where it was",
        ));
    }
    let (inside, ours) = (mountinfo::of(&pid.to_string())?, mountinfo::of("self")?);
    let external: Vec<PathBuf> = inside
        .iter()
        .filter(|m| m.point != Path::new("/") && (m.fstype == "overlay" || ours.iter().any(|o| o.device == m.device)))
        .map(|m| m.point.clone())
        .collect();
    if let Some(odd) = external.iter().find(|p| p.to_str().is_none_or(|p| p.contains([']', ':', ',']))) {
        return Err(Error::new("checkpoint", odd.display().to_string(), "criu cannot name a mount with such a path"));
    }
    let mut streams = [const { None }; 3];
    for (fd, stream) in streams.iter_mut().enumerate() {
        let path = format!("/proc/{pid}/fd/{fd}");
        let Ok(target) = std::fs::read_link(&path) else { continue };
        let target = target.to_string_lossy().into_owned();
        if target.starts_with("pipe:[") {
            *stream = Some(target);
            continue;
        }
        let info = read_small(format!("/proc/{pid}/fdinfo/{fd}"), 1 << 16)?;
        let mount = info.lines().find_map(|l| l.strip_prefix("mnt_id:")?.trim().parse::<u64>().ok());
        if target.starts_with('/') && mount.is_some_and(|id| inside.iter().all(|m| m.id != id)) {
            let inode = std::fs::metadata(&path).at("checkpoint", &target)?;
            let inode = std::os::unix::fs::MetadataExt::ino(&inode);
            *stream = Some(format!("file[{:x}:{inode:x}]", mount.unwrap_or_default()));
        }
    }
    let ids = entry.intent()?.and_then(|i| i.ids).map(|block| block.start);
    Ok(Images {
        version: decided::VERSION,
        external,
        streams,
        terminal: confinement.process.terminal() == Some(true),
        network: confinement.joined.contains(&Ns::Network),
        ids,
    })
}

fn record(places: &Places, images: &Images) -> Result<()> {
    let text = serde_json::to_string_pretty(images).map_err(|e| Error::new("checkpoint", RECORD, e.to_string()))?;
    let flags = OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(&places.images, RECORD, flags, Mode::S_IRUSR | Mode::S_IWUSR).at("checkpoint", RECORD)?;
    std::fs::File::from(fd).write_all(text.as_bytes()).at("checkpoint", RECORD)
}

/// What was remembered, if the images can be anybody's: neither they nor their directory may be others' to write.
fn recall(places: &Places, path: &Path) -> Result<Images> {
    let shown = path.display().to_string();
    let stat = fstat(&places.images).at("--image-path", &shown)?;
    if stat.st_uid != nix::unistd::geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
        return Err(Error::new("--image-path", shown, "belongs to or is writable by others")
            .hint("whoever can write images decides what runs: chown it, and chmod go-w"));
    }
    let text = read_small(path.join(RECORD), 1 << 20).map_err(|e| match e.errno() {
        Some(nix::errno::Errno::ENOENT) => Error::new(
            "--image-path",
            shown.as_str(),
            format!("{RECORD} is missing: not images of a stockade checkpoint"),
        )
        .hint("images of a --pre-dump alone are none, either"),
        _ => e,
    })?;
    crate::json::from_str(&text).map_err(|e| Error::new("--image-path", format!("{shown}/{RECORD}"), e.to_string()))
}

/// `stockade restore`.
pub fn restore(global: &Global, args: Restore) -> Result<i32> {
    state::check_id(&args.id)?;
    if args.no_pivot {
        return Err(Error::new("--no-pivot", "", "refused: a chroot can be left"));
    }
    refuse(&args.criu)?;
    let policy = Policy::choose(global.policy.as_deref())?;
    decided::allowed(&policy)?;
    let criu = criu::find(&global.criu)?;
    let bundle = Bundle::load(&args.bundle)?;
    let places = Places::open(&args.criu, "restore.log", None)?;
    let images = recall(&places, &args.criu.image_path)?;
    let mut all = options(&args.criu, &places);
    all.flag(50, images.terminal);
    if let Some(profile) = &args.lsm_profile {
        all.text(53, profile);
    }
    if let Some(context) = &args.lsm_mount_context {
        all.text(63, context);
    }
    check_terminal(args.console_socket.as_deref(), images.terminal, !args.detach)?;
    let signals = if args.detach { None } else { Some(Signals::collect()?) };
    let mut host = global.host()?;
    host.look_at(&bundle);
    if !host.privileged() || !host.initial_userns {
        return Err(Error::new("restore", "criu", "needs root of the host"));
    }
    let store = Store::open(global.root.as_deref())?;
    let entry = store.create(&args.id)?;
    let made = (|| {
        take_ids(&bundle, &policy, &mut host, &entry, images.ids)?;
        let options = Options { id: args.id.clone(), cgroup_parent: store.cgroup_parent(), ..Options::default() };
        let mut plan = plan::plan(&bundle, &policy, &host, &options)?;
        plan.findings.extend(decided::without_landlock(&plan, &policy)?);
        let annotations = state::annotations(&bundle);
        let hooked = std::cell::Cell::new(false);
        let setting = Setting {
            plan: &plan,
            cgroup_mount: host.cgroup.mount.as_deref(),
            entry: &entry,
            target: None,
            bundle: &bundle.dir,
            annotations: &annotations,
            gate: None,
            failure: None,
            foreground: false,
            signals: signals.as_ref(),
            hooked: &hooked,
            ids: host.ids.block,
            scratch: None,
            secrets: Vec::new(),
        };
        let wanted =
            crate::restore::Wanted { images: &images, criu: &criu, options: all, directory: places.images.as_fd() };
        let built = crate::restore::restore(setting, wanted).map_err(|e| {
            undo(&entry);
            if hooked.get() {
                crate::launch::poststop(&plan, &bundle.dir, &annotations, signals.as_ref());
            }
            places.explain(e)
        })?;
        Ok((plan, built))
    })();
    let (plan, mut built) = match made {
        Ok(made) => made,
        Err(e) => {
            undo(&entry);
            return Err(e);
        }
    };
    match remember(&args, &bundle, &plan, &built, &entry) {
        Ok(state) => follow(&mut built, signals, &entry, &state),
        Err(e) => {
            abandon(&built, &entry);
            crate::launch::poststop(&plan, &bundle.dir, &state::annotations(&bundle), signals.as_ref());
            Err(e)
        }
    }
}

fn remember(args: &Restore, bundle: &Bundle, plan: &Plan, built: &Built, entry: &Entry) -> Result<state::State> {
    let state = state_of(bundle, plan, built)?;
    if let Some(path) = &args.pid_file {
        write_pid(path, built.pid)?;
    }
    if let (Some(path), Some(master)) = (&args.console_socket, &built.console) {
        crate::handover::console(path, master.as_fd())?;
    }
    // criu makes a time namespace for clocks that go on where they stood; an exec belongs there, too.
    let mut confinement = plan.confinement.clone();
    let time = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/time"));
    if !confinement.namespaces.contains(&Ns::Time)
        && time(&built.pid.to_string()).at("restore", "time")? != time("self").at("restore", "time")?
    {
        confinement.namespaces.push(Ns::Time);
    }
    if !plan.uid_map.is_empty() && confinement.namespaces.contains(&Ns::Cgroup) {
        confinement.namespaces.retain(|n| *n != Ns::Cgroup);
        confinement.cgroup_namespace_again = true;
    }
    entry.write_confinement(&confinement)?;
    entry.write_state(&state)?;
    Ok(state)
}

fn follow(built: &mut Built, signals: Option<Signals>, entry: &Entry, state: &state::State) -> Result<i32> {
    entry.unlock();
    let Some(signals) = signals else { return Ok(0) };
    let relay = built.console.take().map(Relay::new).transpose();
    let outcome = relay.and_then(|relay| console::follow(built, relay, &signals, false, None, |_| Ok(())));
    if outcome.is_err() {
        let _ = sys::pidfd_send_signal(built.pidfd.as_fd(), nix::libc::SIGKILL);
        let _ = crate::launch::reap(built.pid);
    }
    entry.lock()?;
    let removed = entry.purge(Some(state));
    poststop(state, Some(&signals));
    removed?;
    outcome
}
