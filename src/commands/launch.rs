//! `run` and `create`, and the launch that `sandbox` shares with them.

use crate::bundle::Bundle;
use crate::cli::{Create, Global, Launch, Run};
use crate::console::{self, Relay, Signals};
use crate::error::{Context, Error, Result};
use crate::host::{Binary, Host};
use crate::launch::{self, Built, Setting};
use crate::listener::{self, Owner};
use crate::observe::denials::Ledger;
use crate::observe::watch::Watcher;
use crate::plan::{self, Listener, Moment, Options, Plan, Step, Watch};
use crate::policy::{Above, Policy};
use crate::secrets::{self, Secret};
use crate::state::{self, Entry, ProcessId, State, Store};
use crate::sync::Tag;
use crate::{handover, hooks, narrate, observer, own, sys, timing};
use oci_spec::runtime::LinuxSeccomp;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Who waits for the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nobody: it waits for `start`.
    Create,
    /// Nobody: it is started.
    Detached,
    /// We do. `keep`: its state stays.
    Foreground { keep: bool },
}

/// One launch, as typed and read.
pub struct Request {
    /// The container's id.
    pub id: String,
    /// Its directory, where it is made already.
    pub entry: Option<Entry>,
    /// Its bundle.
    pub bundle: Bundle,
    /// The policy.
    pub policy: Policy,
    /// The facts of this machine.
    pub host: Host,
    /// Who waits.
    pub mode: Mode,
    /// Where the pid goes.
    pub pid_file: Option<PathBuf>,
    /// Where the terminal goes.
    pub console_socket: Option<PathBuf>,
    /// Where a descriptor of the process goes.
    pub pidfd_socket: Option<PathBuf>,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// chroot instead of pivot_root.
    pub no_pivot: bool,
    /// Descriptors for the workload.
    pub preserve_fds: u32,
    /// Sockets before those, which a service manager activates the workload with.
    pub listen_fds: u32,
    /// Secrets for the container.
    pub secrets: Vec<Secret>,
    /// A network in user space.
    pub network: Option<plan::network::Pasta>,
    /// A bundle to be removed with the container.
    pub scratch: Option<PathBuf>,
    /// A person's command: a signal that PID 1 would ignore ends it all the same.
    pub interactive: bool,
}

pub fn run(global: &Global, args: Run) -> Result<i32> {
    let mode = if args.detach { Mode::Detached } else { Mode::Foreground { keep: args.keep } };
    let mut watcher = args.denials.watcher()?;
    let teller = Teller { narrate: args.narrate.form(), profile: None, watcher: watcher.as_mut() };
    launch_bundle(global, args.launch, mode, teller)
}

pub fn create(global: &Global, args: Create) -> Result<i32> {
    let teller = Teller { narrate: args.narrate.form(), ..Teller::default() };
    launch_bundle(global, args.launch, Mode::Create, teller)
}

/// Who tells of a launch, and under which profile it is watched.
#[derive(Default)]
pub struct Teller<'a> {
    /// Each step is told, in this form.
    pub narrate: Option<narrate::Form>,
    /// A seccomp profile of the caller's in place of the config's own.
    pub profile: Option<&'a LinuxSeccomp>,
    /// Looks on at a foreground run.
    pub watcher: Option<&'a mut Watcher>,
}

/// Reads a bundle and launches it.
pub fn launch_bundle(global: &Global, args: Launch, mode: Mode, teller: Teller<'_>) -> Result<i32> {
    let Teller { narrate, profile, watcher } = teller;
    state::check_id(&args.id)?;
    observer::ask(args.timing.timing.is_some(), narrate);
    let began = observer::now();
    let mut bundle = Bundle::load_as(&args.bundle, &args.config)?;
    observer::phase("config.json", began);
    if let Some(profile) = profile {
        let mut linux = bundle.spec.linux().clone().unwrap_or_default();
        linux.set_seccomp(Some(profile.clone()));
        bundle.spec.set_linux(Some(linux));
    }
    if mode != Mode::Create && bundle.spec.process().is_none() {
        return Err(Error::new("config.json", "process", "missing: there is nothing to run")
            .hint("add \"process\": {\"args\": [...], \"cwd\": \"/\"}"));
    }
    let policy = Policy::choose(global.policy.as_deref())?;
    let asks = watcher.is_some();
    own::secure(plan::own::copied_surely(&bundle, &policy, asks), Binary::read())?;
    let began = observer::now();
    let mut host = global.host()?;
    host.look_for(&bundle, policy.daemon_sockets != Above::Allow);
    observer::phase("facts of the host", began);
    own::secure(plan::own::guard(&bundle, &policy, &host, asks).copy(), host.binary)?;
    let secrets = secrets::read_all(&args.secret)?;
    let request = Request {
        bundle,
        policy,
        host,
        id: args.id,
        entry: None,
        mode,
        pid_file: args.pid_file,
        console_socket: args.console_socket,
        pidfd_socket: args.pidfd_socket,
        no_new_keyring: args.no_new_keyring,
        no_pivot: args.no_pivot,
        preserve_fds: args.preserve_fds,
        listen_fds: listen_fds(),
        secrets,
        network: None,
        scratch: None,
        interactive: false,
    };
    let code = perform(global, request, watcher)?;
    timing::report(args.timing.timing);
    Ok(code)
}

/// The whole life of a launch.
pub fn perform(global: &Global, request: Request, mut watcher: Option<&mut Watcher>) -> Result<i32> {
    // Neither this nor the plan is taken apart at the end, which is the process's own.
    let mut request = ManuallyDrop::new(request);
    let held = matches!(request.mode, Mode::Foreground { .. });
    check_terminal(request.console_socket.as_deref(), request.bundle.process().terminal() == Some(true), held)?;
    check_descriptors(request.preserve_fds.saturating_add(request.listen_fds))?;
    let foreground = matches!(request.mode, Mode::Foreground { .. });
    let signals = if foreground { Some(Signals::collect()?) } else { None };
    let store = Store::open(global.root.as_deref())?;
    let began = observer::now();
    let entry = match request.entry.take() {
        Some(entry) => entry,
        None => store.create(&request.id)?,
    };
    observer::phase("state directory", began);
    let secrets = std::mem::take(&mut request.secrets);
    let watch = watcher.as_ref().map_or(Watch::No, |w| w.job);
    let (plan, mut built) = match prepare(&mut request, (secrets, watch), &store, &entry, signals.as_ref()) {
        Ok((plan, built)) => (ManuallyDrop::new(plan), built),
        Err(e) => {
            undo(&entry);
            return Err(e);
        }
    };
    let began = observer::now();
    let committed = commit(&request, &plan, &built, &entry, watch);
    observer::phase("commit", began);
    let state = match committed {
        Ok((state, listener, ledger)) => {
            if let (Some(w), Some(fd), Some(watched)) = (&mut watcher, listener, plan.watched()) {
                w.begin(fd, watched, &state.id, built.pid, ledger);
            }
            state
        }
        Err(e) => {
            abandon(&built, &entry);
            launch::poststop(&plan, &request.bundle.dir, &state::annotations(&request.bundle), signals.as_ref());
            return Err(e);
        }
    };
    let pid = built.pid;
    let passed = |mark: fn(&Step) -> bool| observer::passed(&plan, pid, mark);
    passed(|s| matches!(s, Step::Ready));
    let began = observer::now();
    match request.mode {
        Mode::Create => {
            entry.unlock();
            Ok(0)
        }
        Mode::Detached => {
            let outcome = console::start(&built.channel).and_then(|()| await_exec(&built)).and_then(|()| {
                observer::phase("start", began);
                passed(|s| matches!(s, Step::Exec { .. }));
                poststart(&state, &mut hooks::Around::default())
            });
            if outcome.is_err() {
                abandon(&built, &entry);
                poststop(&state, None);
            }
            entry.unlock();
            outcome.map(|()| 0)
        }
        Mode::Foreground { keep } => {
            let Some(signals) = signals else { return Err(Error::new("signals", "", "are not collected")) };
            let relay = built.console.take().map(Relay::new).transpose();
            let started = relay.and_then(|relay| console::start(&built.channel).map(|()| relay));
            entry.unlock();
            let on_start = |looking: Option<&mut Watcher>| {
                observer::phase("start", began);
                passed(|s| matches!(s, Step::Exec { .. }));
                let watcher = looking.map(|w| (w, built.channel.fd()));
                poststart(&state, &mut hooks::Around { signals: Some(&signals), watcher })
            };
            let looking = watcher.as_deref_mut();
            let outcome = started
                .and_then(|relay| console::follow(&built, relay, &signals, request.interactive, looking, on_start));
            if let Some(w) = watcher {
                w.raw = false;
                let status = outcome.as_ref().ok().copied();
                let failed = status.is_some_and(|s| s != 0);
                w.finish(status, &if failed { plan::watch::unseen(&plan) } else { Vec::new() });
            }
            if built.network.as_ref().is_some_and(launch::pasta::Running::has_ended) {
                crate::log::warning("pasta ended before the command did, which had no network from then on");
            }
            if outcome.is_err() {
                end(&built);
            }
            if !keep || outcome.is_err() {
                let began = observer::now();
                entry.lock()?;
                let removed = entry.purge(Some(&state));
                observer::phase("delete", began);
                poststop(&state, Some(&signals));
                removed?;
            }
            outcome
        }
    }
}

/// runc's rules: a terminal needs somebody who holds its other end.
pub fn check_terminal(console_socket: Option<&Path>, terminal: bool, held: bool) -> Result<()> {
    match (console_socket, terminal) {
        (None, true) if !held => {
            Err(Error::new("process.terminal", "true", "nobody would hold the terminal of a detached container")
                .hint("use --console-socket"))
        }
        (Some(path), false) => Err(Error::new(
            "--console-socket",
            path.display().to_string(),
            "process.terminal is false: there is no terminal to send",
        )),
        (Some(path), true) if held => {
            Err(Error::new("--console-socket", path.display().to_string(), "a foreground run keeps its terminal")
                .hint("use --detach, or create"))
        }
        _ => Ok(()),
    }
}

/// Sockets that a service manager passes (sd_listen_fds(3)). They are for the one whom LISTEN_PID names, so what an
/// engine inherited from its own activation is not meant; and whoever names us can only mean the workload.
fn listen_fds() -> u32 {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    // Who sets LISTEN_FDS alone means the program that it starts; sd_listen_fds(3) says who else is meant.
    let ours = std::env::var_os("LISTEN_PID").is_none() || number("LISTEN_PID") == Some(std::process::id());
    number("LISTEN_FDS").filter(|_| ours).unwrap_or(0)
}

/// The descriptors that `--preserve-fds` counts must be open: a number that is free now is one of ours a moment later.
pub fn check_descriptors(count: u32) -> Result<()> {
    if count > 65_536 {
        return Err(Error::new("--preserve-fds", count.to_string(), "more descriptors than a process can have"));
    }
    for n in 3..3 + count {
        if nix::fcntl::fcntl(sys::borrow(n.cast_signed()), nix::fcntl::FcntlArg::F_GETFD).is_err() {
            return Err(Error::new("--preserve-fds", count.to_string(), format!("descriptor {n} is not open")));
        }
    }
    Ok(())
}

/// Reserves the host ids that the plan will give the container. `start`: those and no others.
pub fn take_ids(bundle: &Bundle, policy: &Policy, host: &mut Host, entry: &Entry, start: Option<u32>) -> Result<()> {
    if plan::wants_ids(bundle, policy, host) {
        host.ids.block = Some(match start {
            Some(start) => state::reserve_ids_at(entry, start)?,
            None => state::reserve_ids(entry)?,
        });
    }
    let named = plan::named_ids(bundle, policy, host);
    if !named.is_empty() {
        host.ids.held = state::claims::claim(entry, &named)?;
    }
    Ok(())
}

fn prepare(
    request: &mut Request,
    (secrets, watch): (Vec<Secret>, Watch),
    store: &Store,
    entry: &Entry,
    signals: Option<&Signals>,
) -> Result<(Plan, Built)> {
    let began = observer::now();
    take_ids(&request.bundle, &request.policy, &mut request.host, entry, None)?;
    observer::phase("ids", began);
    let host = &request.host;
    let foreground = matches!(request.mode, Mode::Foreground { keep: false });
    let options = Options {
        id: request.id.clone(),
        no_new_keyring: request.no_new_keyring,
        no_pivot: request.no_pivot,
        // A person typed it, and a directory that is not there is a slip.
        cwd_must_exist: request.scratch.is_some(),
        preserve_fds: request.preserve_fds + request.listen_fds,
        listen_fds: request.listen_fds,
        secrets: secrets.iter().map(Secret::file).collect(),
        watch,
        network: request.network.clone(),
        cgroup_parent: store.cgroup_parent(),
    };
    let began = observer::now();
    let plan = plan::plan(&request.bundle, &request.policy, host, &options)?;
    observer::phase("plan", began);
    if crate::log::is_debug() {
        for step in &plan.steps {
            crate::log::debug(&format!("plan: {}: {}", step.name(), step.subject()));
        }
    }
    let annotations = state::annotations(&request.bundle);
    let gate = if request.mode == Mode::Create { Some(entry.make_gate()?) } else { None };
    let failure = if request.mode == Mode::Create { Some(entry.make_failure()?) } else { None };
    let hooked = std::cell::Cell::new(false);
    let built = launch::build(Setting {
        plan: &plan,
        cgroup_mount: host.cgroup.mount.as_deref(),
        entry,
        target: None,
        bundle: &request.bundle.dir,
        annotations: &annotations,
        gate,
        failure,
        foreground,
        signals,
        hooked: &hooked,
        ids: host.ids.block,
        scratch: request.scratch.clone(),
        secrets,
    })
    .inspect_err(|_| {
        undo(entry);
        // The specification's lifecycle: a launch that fails goes on where the container is destroyed.
        if hooked.get() {
            launch::poststop(&plan, &request.bundle.dir, &annotations, signals);
        }
    })?;
    Ok((plan, built))
}

/// Takes back an entry whose launch failed.
pub fn undo(entry: &Entry) {
    if let Err(e) = entry.purge(None) {
        crate::log::debug(&format!("cleaning up: {e}"));
    }
}

/// Kills the init of a launch that came to nothing. The host gets back what would end with it.
fn end(built: &Built) {
    let _ = sys::pidfd_send_signal(built.pidfd.as_fd(), nix::libc::SIGKILL);
    let _ = launch::reap(built.pid);
    if let Some(devices) = &built.net_devices {
        devices.back();
    }
}

/// Kills a container whose launch failed after it was built, and removes it.
pub fn abandon(built: &Built, entry: &Entry) {
    end(built);
    if let Err(e) = entry.purge(None) {
        crate::log::debug(&format!("cleaning up: {e}"));
    }
}

/// What is remembered of a container that was built.
pub fn state_of(bundle: &Bundle, plan: &Plan, built: &Built) -> Result<State> {
    let mut findings = plan.findings.clone();
    findings.extend(built.findings.iter().cloned());
    Ok(State {
        id: plan.id.clone(),
        init: ProcessId::of(built.pid).ok_or_else(crate::sync::gone)?,
        bundle: bundle.dir.clone(),
        rootfs: bundle.rootfs.clone(),
        created: state::now(),
        owner: state::owner(),
        annotations: state::annotations(bundle),
        policy: plan.policy.clone(),
        findings,
        startable: bundle.spec.process().is_some(),
        hooks: plan.later_hooks.clone(),
        intent: built.intent.clone(),
    })
}

/// Writes the state and the pid file, hands over the terminal, and lets the child live on.
fn commit(
    request: &Request,
    plan: &Plan,
    built: &Built,
    entry: &Entry,
    watch: Watch,
) -> Result<(State, Option<OwnedFd>, Option<Ledger>)> {
    let state = state_of(&request.bundle, plan, built)?;
    let outside = Outside {
        pid_file: request.pid_file.as_deref(),
        console_socket: request.console_socket.as_deref(),
        pidfd_socket: request.pidfd_socket.as_deref(),
        agent: plan.listener().map(|l| {
            let json = launch::state_json(&state.id, state.init.pid, "creating", &state.bundle, &state.annotations);
            (l, serde_json::from_slice(&json).unwrap_or_default())
        }),
        watched: plan.watched().is_some(),
    };
    let mut ledger = None;
    let listener = hand_over(&outside, built, || {
        // Before the state: who sees the container come finds it there.
        if outside.watched && watch == Watch::Denials {
            ledger = Some(Ledger::new(entry.make_denials()?.into(), &state.id));
        }
        entry.write_confinement(&plan.confinement)?;
        entry.write_state(&state)
    })?;
    Ok((state, listener, ledger))
}

/// Where the caller wants to hear of a process.
pub struct Outside<'a> {
    /// Its pid, as a file.
    pub pid_file: Option<&'a Path>,
    /// The master of its terminal, over a socket.
    pub console_socket: Option<&'a Path>,
    /// A descriptor of it, over a socket.
    pub pidfd_socket: Option<&'a Path>,
    /// The agent of its filter, and the state of the container for it.
    pub agent: Option<(&'a Listener, serde_json::Value)>,
    /// Its filter asks ourselves.
    pub watched: bool,
}

/// Tells the caller, records, and lets the child live on; the listener comes back if it is for us. If any of it fails, the
/// pid file is gone again.
pub fn hand_over(outside: &Outside<'_>, built: &Built, record: impl FnOnce() -> Result<()>) -> Result<Option<OwnedFd>> {
    if let Some(path) = outside.pid_file {
        write_pid(path, built.pid)?;
    }
    let sent = match (outside.console_socket, &built.console) {
        (Some(path), Some(master)) => handover::console(path, master.as_fd()),
        _ => Ok(()),
    }
    .and_then(|()| outside.pidfd_socket.map_or(Ok(()), |path| handover::pidfd(path, built.pidfd.as_fd())));
    let committed = sent.and_then(|()| record()).and_then(|()| {
        built.channel.send(Tag::Commit, &[], &[])?;
        let told = built.channel.expect(Tag::Committed)?;
        if outside.agent.is_none() && !outside.watched {
            return told.bare().map(|()| None);
        }
        let number = String::from_utf8_lossy(&told.payload).parse();
        let number = number.map_err(|_| Error::new("sync", "Committed", "does not name the listener"))?;
        let owner = Owner { pid: built.pid, pidfd: built.pidfd.as_fd(), channel: &built.channel };
        match &outside.agent {
            Some((listener, state)) => listener::deliver(listener, &owner, number, state).map(|()| None),
            None => listener::fetch(&owner, number).map(Some),
        }
    });
    if committed.is_err()
        && let Some(path) = outside.pid_file
    {
        let _ = std::fs::remove_file(path);
    }
    committed
}

pub fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let shown = path.display().to_string();
    // Whole or absent: whoever polls for it must not read half a number.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    // Somebody else's link of this name is not written through; what an interrupted launch of ours left is in the way.
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&temporary)
        .at("--pid-file", &shown)?;
    file.write_all(pid.to_string().as_bytes()).at("--pid-file", &shown)?;
    std::fs::rename(&temporary, path).at("--pid-file", &shown)
}

/// The end of the talk says that the workload was executed.
pub fn await_exec(built: &Built) -> Result<()> {
    loop {
        match built.channel.receive()? {
            None => return Ok(()),
            Some(m) if m.tag == Tag::Steps => {
                observer::hear(&m, built.pid)?;
            }
            Some(m) if m.tag == Tag::Failed => return Err(crate::sync::failure(&m.payload)),
            Some(m) => return Err(m.late()),
        }
    }
}

fn hooks_of(state: &State, moment: Moment) -> impl Iterator<Item = &Vec<plan::Hook>> {
    state.hooks.iter().filter(move |(m, _)| *m == moment).map(|(_, list)| list)
}

/// Runs the poststart hooks. A failure is the caller's to act on: the container is stopped and destroyed.
pub fn poststart(state: &State, around: &mut hooks::Around<'_>) -> Result<()> {
    let json = launch::state_json(&state.id, state.init.pid, "running", &state.bundle, &state.annotations);
    hooks_of(state, Moment::Poststart).try_for_each(|list| hooks::run(Moment::Poststart, list, &json, around))
}

/// Runs the poststop hooks, of a container that is destroyed already: each that fails is a warning.
pub fn poststop(state: &State, signals: Option<&Signals>) {
    let json = launch::state_json(&state.id, 0, "stopped", &state.bundle, &state.annotations);
    hooks_of(state, Moment::Poststop).for_each(|list| hooks::run_all(Moment::Poststop, list, &json, signals));
}
