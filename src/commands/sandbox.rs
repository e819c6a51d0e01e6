//! `sandbox`: a command of this host in a throwaway container.
//!
//! It makes a bundle (a skeleton of empty directories and a config.json that binds the host's programs read-only) and
//! launches it like any other, under strict. `--emit-bundle` leaves that bundle for the reader instead.

use super::launch::{Mode, Request, perform};
use super::show;
use super::spec;
use crate::bundle::Bundle;
use crate::cli::{Denials, Global, Net, Sandbox};
use crate::error::{Context, Error, Result};
use crate::host::{Host, find_program};
use crate::observe::watch::Watcher;
use crate::plan::Options;
use crate::plan::mounts::normal;
use crate::plan::network::{self, Pasta, Publish};
use crate::policy::{Above, Policy, Want, parse_cpus, parse_size};
use crate::secrets::{self, Secret};
use crate::state::{self, Entry, Intent, ProcessId, Store};
use crate::{narrate, observer, own, plan, timing};
use nix::unistd::{geteuid, isatty};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

const HOME: &str = "/home/sandbox";

/// What programs need of /etc; what identifies the host or its users is not among it.
const ETC: [&str; 22] = [
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "fonts",
    "gai.conf",
    "inputrc",
    "java",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "perl",
    "pki",
    "protocols",
    "python3",
    "services",
    "ssl",
    "terminfo",
];

/// `stockade sandbox`.
pub fn sandbox(global: &Global, args: Sandbox) -> Result<i32> {
    let mut watcher = args.denials.watcher()?;
    launch(global, args, None, watcher.as_mut())
}

/// What `sandbox` without options is.
pub fn plain() -> Sandbox {
    Sandbox {
        timing: crate::cli::Timing::default(),
        memory: None,
        cpus: None,
        pids: None,
        ro: Vec::new(),
        rw: Vec::new(),
        env: Vec::new(),
        secret: Vec::new(),
        workdir: None,
        denials: Denials::default(),
        no_jit: false,
        net: Net::None,
        publish: Vec::new(),
        hostname: "sandbox".to_owned(),
        emit_bundle: None,
        explain: false,
        narrate: false,
        json: false,
        command: Vec::new(),
    }
}

/// The same with somebody who looks on, and under a seccomp profile of the caller's.
pub fn launch(
    global: &Global,
    args: Sandbox,
    profile: Option<&LinuxSeccomp>,
    watcher: Option<&mut Watcher>,
) -> Result<i32> {
    // A sandbox is for what is not trusted: only an explicit flag changes its policy.
    let mut policy = Policy::load(global.policy.as_deref().unwrap_or("strict"))?;
    // The one who typed --rw means that path; in a bundle of somebody else the same option would be a way to the host.
    policy.mounts.idmap = Above::Allow;
    policy.host_paths.beyond = Above::Allow;
    if args.no_jit {
        policy.memory_deny_write_execute = Want::Require;
    }
    let terminal = isatty(std::io::stdin()).unwrap_or(false) && isatty(std::io::stdout()).unwrap_or(false);
    let network = network_of(&args)?;
    if let Some(dir) = &args.emit_bundle {
        std::fs::create_dir_all(dir).at("--emit-bundle", dir.display().to_string())?;
        if dir.join("config.json").exists() || dir.join("rootfs").exists() {
            return Err(Error::new("--emit-bundle", dir.display().to_string(), "has a bundle already")
                .hint("nothing is overwritten: name another"));
        }
        // Half a bundle would be in the way of the next attempt.
        write_bundle(dir, &args, terminal, profile).and_then(|()| write_policy(dir, args.no_jit)).inspect_err(
            |_| {
                let _ = std::fs::remove_dir_all(dir.join("rootfs"));
            },
        )?;
        let shown = dir.display();
        crate::log::print(&format!("run it with: stockade --policy {shown}/policy.json run --bundle {shown} NAME\n"))?;
        return Ok(0);
    }
    if !args.explain {
        observer::ask(args.timing.timing.is_some(), args.narrate.then(|| narrate::Form::of(args.json)));
    }
    let began = observer::now();
    let host = global.host()?;
    observer::phase("facts of the host", began);
    if !args.explain {
        own::secure(plan::own::guard_of_sandbox(&policy, &host, watcher.is_some()).copy(), host.binary)?;
    }
    // Before anything is made; a file that is missing is known at once.
    let secrets = secrets::read_all(&args.secret)?;
    let store = Store::open(global.root.as_deref())?;
    let entry = store.create_named("sandbox-")?;
    let id = entry.id.clone();
    let within = Within { policy, host, terminal, secrets, network, profile, watcher };
    let outcome = within.launch(global, &args, &store, entry);
    // Whatever happened in between, nothing of it stays; after a launch that went well it is gone already.
    if let Ok(left) = store.entry(&id) {
        left.lock()?;
        left.purge(None)?;
    }
    if outcome.is_ok() {
        timing::report(args.timing.timing);
    }
    outcome
}

/// What a sandbox is made from.
struct Within<'a> {
    policy: Policy,
    host: Host,
    terminal: bool,
    secrets: Vec<Secret>,
    network: Option<Pasta>,
    profile: Option<&'a LinuxSeccomp>,
    watcher: Option<&'a mut Watcher>,
}

impl Within<'_> {
    /// Writes the throwaway bundle of an entry, on record before its first file is, and launches it.
    fn launch(self, global: &Global, args: &Sandbox, store: &Store, entry: Entry) -> Result<i32> {
        let Within { policy, mut host, terminal, secrets, network, profile, watcher } = self;
        let id = entry.id.clone();
        let scratch = state::scratch_dir(store)?.join(&id);
        entry.write_intent(&Intent {
            id: id.clone(),
            runtime: ProcessId::own()?,
            foreground: true,
            boot: state::boot_id()?,
            cgroup: None,
            ids: None,
            scratch: Some(scratch.clone()),
            rdt: Vec::new(),
        })?;
        std::fs::DirBuilder::new().mode(0o711).create(&scratch).at("sandbox", scratch.display().to_string())?;
        let began = observer::now();
        write_bundle(&scratch, args, terminal, profile)?;
        observer::phase("bundle", began);
        let began = observer::now();
        let bundle = Bundle::load(&scratch)?;
        observer::phase("config.json", began);
        if args.explain {
            let secrets = secrets.iter().map(Secret::file).collect();
            let options = Options { id, secrets, network, cwd_must_exist: true, ..Options::default() };
            return show::explained(global, &bundle, &policy, options, args.json);
        }
        host.look_at(&bundle);
        let request = Request {
            id,
            entry: Some(entry),
            bundle,
            policy,
            host,
            mode: Mode::Foreground { keep: false },
            pid_file: None,
            console_socket: None,
            pidfd_socket: None,
            no_new_keyring: false,
            no_pivot: false,
            preserve_fds: 0,
            listen_fds: 0,
            secrets,
            network,
            scratch: Some(scratch),
            interactive: true,
        };
        perform(global, request, watcher)
    }
}

/// The network that is asked for, with the program that makes it.
fn network_of(args: &Sandbox) -> Result<Option<Pasta>> {
    if args.net == Net::None {
        return match args.publish.first() {
            None => Ok(None),
            Some(port) => {
                Err(Error::new("--publish", port.as_str(), "a sandbox without a network has no ports to publish")
                    .hint("add --net pasta"))
            }
        };
    }
    if let Some(dir) = &args.emit_bundle {
        let why = "a bundle has no words for it: the network is made by who runs the sandbox";
        return Err(Error::new("--net", "pasta", why).hint(format!(
            "leave out --net for {}; `run` gives it lo, or the namespace that its config names",
            dir.display()
        )));
    }
    let publish = Publish::parse_all(&args.publish)?;
    let program = find_program("pasta").ok_or_else(|| {
        Error::new("--net", "pasta", "the program pasta is not installed").hint("install the package passt")
    })?;
    let program = std::path::absolute(&program).at("--net", program.display().to_string())?;
    Ok(Some(Pasta { program, publish }))
}

/// A bundle may not name paths of the host by itself, so the operator's word for exactly these goes beside it.
fn write_policy(bundle: &Path, no_jit: bool) -> Result<()> {
    let text = std::fs::read(bundle.join("config.json")).at("sandbox", "config.json")?;
    let config: Value =
        serde_json::from_slice(&text).map_err(|e| Error::new("sandbox", "config.json", e.to_string()))?;
    let option = |m: &Value, word: &str| m["options"].as_array().is_some_and(|l| l.iter().any(|o| o == word));
    let mounts = config["mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let allowed: Vec<&Value> = mounts.iter().filter(|m| option(m, "rbind")).map(|m| &m["source"]).collect();
    let mut policy = json!({ "extends": "strict", "name": "sandbox", "hostPaths": { "allowed": allowed } });
    if mounts.iter().any(|m| option(m, "idmap")) {
        policy["mounts"] = json!({ "idmap": "allow" });
    }
    if no_jit {
        policy["memoryDenyWriteExecute"] = json!(Want::Require);
    }
    let text =
        serde_json::to_string_pretty(&policy).map_err(|e| Error::new("sandbox", "policy.json", e.to_string()))?;
    std::fs::write(bundle.join("policy.json"), text + "\n").at("sandbox", "policy.json")
}

fn dir(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).at("sandbox", path.display().to_string())
}

fn write_bundle(bundle: &Path, args: &Sandbox, terminal: bool, profile: Option<&LinuxSeccomp>) -> Result<()> {
    let rootfs = bundle.join("rootfs");
    for name in ["dev", "proc", "sys", "tmp", "run", "var/tmp", "etc", "usr", &HOME[1..]] {
        dir(&rootfs.join(name))?;
    }
    let mut mounts = spec::mounts().as_array().cloned().unwrap_or_default();
    // A sandbox has no business in the cgroup tree.
    mounts.retain(|m| m["destination"] != "/sys/fs/cgroup");
    for (path, size) in [("/tmp", "1g"), ("/var/tmp", "1g"), ("/run", "64m"), (HOME, "1g")] {
        let mode = if path == HOME { "mode=0700" } else { "mode=1777" };
        mounts.push(json!({ "destination": path, "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "nodev", "noexec", mode, format!("size={size}")] }));
    }
    mounts.push(shown("/usr", true));
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let host = Path::new("/").join(name);
        let Ok(meta) = std::fs::symlink_metadata(&host) else { continue };
        if meta.is_symlink() {
            let target = std::fs::read_link(&host).at("sandbox", host.display().to_string())?;
            symlink(target, rootfs.join(name)).at("sandbox", name)?;
        } else if meta.is_dir() {
            dir(&rootfs.join(name))?;
            mounts.push(shown(&host.display().to_string(), true));
        }
    }
    for name in ETC {
        let host = Path::new("/etc").join(name);
        let Ok(meta) = std::fs::metadata(&host) else { continue };
        place_holder(&rootfs, &host, meta.is_dir())?;
        mounts.push(shown(&host.display().to_string(), true));
    }
    for (name, text) in [
        ("passwd", format!("root:x:0:0:root:{HOME}:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n")),
        ("group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n".to_owned()),
        ("hosts", format!("127.0.0.1 localhost {}\n::1 localhost\n", args.hostname)),
        ("hostname", format!("{}\n", args.hostname)),
    ] {
        std::fs::write(rootfs.join("etc").join(name), text).at("sandbox", name)?;
    }
    if args.net == Net::Pasta {
        // The host's own would name its resolvers and its domain.
        let text = format!("nameserver {}\n", network::RESOLVER);
        std::fs::write(rootfs.join("etc/resolv.conf"), text).at("sandbox", "resolv.conf")?;
    }
    let mut shares = Vec::new();
    for (list, writable) in [(&args.ro, false), (&args.rw, true)] {
        for path in list {
            shares.push(share(&rootfs, path, writable)?);
        }
    }
    // What lies above comes first: `--rw X` must not cover `--ro X/Y`.
    shares.sort_by(|(a, _), (b, _)| a.cmp(b));
    mounts.extend(shares.into_iter().map(|(_, mount)| mount));
    let mut config = config(args, terminal, mounts)?;
    if let Some(profile) = profile {
        config["linux"]["seccomp"] = json!(profile);
    }
    let text =
        serde_json::to_string_pretty(&config).map_err(|e| Error::new("sandbox", "config.json", e.to_string()))?;
    std::fs::write(bundle.join("config.json"), text + "\n").at("sandbox", "config.json")
}

/// A part of the host at its own path, read-only.
fn shown(path: &str, below: bool) -> Value {
    let bind = if below { "rbind" } else { "bind" };
    json!({ "destination": path, "type": "none", "source": path, "options": [bind, "ro", "nosuid", "nodev"] })
}

/// Something empty in the skeleton to mount on.
fn place_holder(rootfs: &Path, path: &Path, is_dir: bool) -> Result<()> {
    let inside = rootfs.join(path.strip_prefix("/").unwrap_or(path));
    if inside.symlink_metadata().is_ok() {
        return Ok(());
    }
    if is_dir {
        return dir(&inside);
    }
    if let Some(parent) = inside.parent() {
        dir(parent)?;
    }
    std::fs::write(&inside, "").at("sandbox", inside.display().to_string())
}

/// A config.json is UTF-8; a path need not be.
fn utf8<'a>(flag: &str, path: &'a Path) -> Result<&'a str> {
    path.to_str().ok_or_else(|| {
        Error::new(flag, path.display().to_string(), "not UTF-8: config.json cannot name it")
            .hint("share the directory above it")
    })
}

fn share(rootfs: &Path, path: &Path, writable: bool) -> Result<(PathBuf, Value)> {
    let flag = if writable { "--rw" } else { "--ro" };
    let typed = path.display().to_string();
    let source = path.canonicalize().at(flag, &typed)?;
    let target = normal(&std::path::absolute(path).at(flag, &typed)?);
    // Both: a symbolic link to /proc is the host's /proc under another name.
    if [&target, &source].iter().any(|p| *p == Path::new("/")) {
        return Err(Error::new(flag, typed, "the whole host would be in the sandbox")
            .hint("name the directories that it needs"));
    }
    if ["/proc", "/sys", "/dev"].iter().any(|p| target.starts_with(p) || source.starts_with(p)) {
        return Err(Error::new(flag, typed, "the sandbox has its own /proc, /sys and /dev"));
    }
    let (shown, from) = (utf8(flag, &target)?, utf8(flag, &source)?);
    let is_dir = source.is_dir();
    // Below a directory of the host that is shown anyway the target exists; a link in the skeleton leads there, too.
    let below_shown =
        ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"].iter().any(|p| target.starts_with(p));
    let below_private =
        ["/tmp", "/var/tmp", "/run", HOME].iter().any(|p| target.starts_with(p) && target != Path::new(p));
    if !below_shown && !below_private {
        place_holder(rootfs, &target, is_dir)?;
    }
    let mut options = vec!["rbind", if writable { "rw" } else { "ro" }, "nosuid", "nodev"];
    // Root's sandbox has ids of its own: idmapped, the files keep the owner that they have for the caller. An ordinary
    // user is root inside already.
    if writable && geteuid().is_root() {
        options.push("idmap");
    }
    let mount = json!({ "destination": shown, "type": "none", "source": from, "options": options });
    Ok((target, mount))
}

fn config(args: &Sandbox, terminal: bool, mounts: Vec<Value>) -> Result<Value> {
    let mut env = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOME={HOME}"),
        "USER=root".to_owned(),
    ];
    for name in ["TERM", "LANG", "LC_ALL", "TZ", "COLORTERM", "NO_COLOR"] {
        if let Ok(value) = std::env::var(name) {
            env.push(format!("{name}={value}"));
        }
    }
    for entry in &args.env {
        let Some((name, _)) = entry.split_once('=').filter(|(n, _)| !n.is_empty()) else {
            return Err(Error::new("--env", entry.as_str(), "not NAME=VALUE"));
        };
        env.retain(|e| !e.starts_with(&format!("{name}=")));
        env.push(entry.clone());
    }
    let cwd = match &args.workdir {
        Some(path) => normal(&std::path::absolute(path).at("--workdir", path.display().to_string())?),
        None => PathBuf::from(HOME),
    };
    let mut resources = json!({});
    if let Some(size) = &args.memory {
        let bytes = parse_size(size).map_err(|e| Error { step: "--memory".into(), ..e })?;
        if bytes == 0 {
            // In a config.json 0 is the engines' word for "not set".
            return Err(Error::new("--memory", size.as_str(), "nothing runs without memory"));
        }
        resources["memory"] = json!({ "limit": bytes, "swap": bytes });
    }
    if let Some(cpus) = &args.cpus {
        let cpus = parse_cpus(cpus).map_err(|e| Error { step: "--cpus".into(), ..e })?;
        resources["cpu"] = json!({ "quota": (cpus * 100_000.0).round() as i64, "period": 100_000 });
    }
    if let Some(pids) = args.pids {
        if pids < 1 {
            return Err(Error::new("--pids", pids.to_string(), "at least the command itself is a process"));
        }
        resources["pids"] = json!({ "limit": pids });
    }
    Ok(json!({
        "ociVersion": state::OCI_VERSION,
        "process": {
            "terminal": terminal,
            "user": { "uid": 0, "gid": 0 },
            "args": args.command,
            "env": env,
            "cwd": utf8("--workdir", &cwd)?,
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": args.hostname,
        "mounts": mounts,
        "linux": {
            "namespaces": [
                { "type": "user" }, { "type": "mount" }, { "type": "pid" }, { "type": "network" }, { "type": "ipc" },
                { "type": "uts" }, { "type": "cgroup" }, { "type": "time" }
            ],
            "resources": resources
        }
    }))
}
