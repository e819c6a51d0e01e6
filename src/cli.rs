//! The command line: clap structs. The doc comments are the help; `words` is what was typed, before clap.

pub mod help;
pub mod see;
pub mod words;

use crate::error::Result;
use crate::host::{Cgroup, Host};
use crate::log::{self, Level, Target};
use crate::narrate;
use crate::observe::watch::{Form, Watcher};
use crate::timing::Format;
use clap::{Args, Parser, Subcommand};
pub use see::{Diff, Doctor, Events, Inspect, Pids};
use std::ffi::OsString;
use std::path::PathBuf;

/// Open Container Initiative runtime: hardened, minimal, and able to explain every step
#[derive(Debug, Parser)]
#[command(
    name = "stockade",
    version,
    disable_version_flag = true,
    after_help = "Examples:\n  stockade sandbox -- sh -c 'id; ls /'\n  stockade explain ./bundle\n  stockade run --bundle ./bundle box"
)]
pub struct Cli {
    /// Options of every verb
    #[command(flatten)]
    pub global: Global,
    /// The verb
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The command line as clap has it, under the name by which we were called.
pub fn command() -> clap::Command {
    use clap::CommandFactory;
    let called = words::called();
    // The first lines as runc's callers look for them, the usage as crun's do.
    let help = |name: &str| {
        format!("NAME:\n   {name} - {{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{{all-args}}{{after-help}}")
    };
    // As with Go's flags the last one counts: an operator's and then an engine's.
    let root = Cli::command().help_template(help(&called)).args_override_self(true);
    root.bin_name(&called).mut_subcommands(|verb| {
        let template = help(&format!("{called} {}", verb.get_name()));
        verb.help_template(template).args_override_self(true)
    })
}

/// The same with one verb alone, for those that an engine waits for: to build them all takes longer than to plan a launch.
/// It reads what is right as the whole does; what is wrong, or asks for help, is for the whole to answer.
pub fn command_for(words: &[OsString]) -> Option<clap::Command> {
    let root = Global::augment_args(clap::Command::new("stockade")).args_override_self(true);
    type Augment = fn(clap::Command) -> clap::Command;
    let verbs: [(&'static str, Augment); 12] = [
        ("create", Create::augment_args),
        ("delete", Delete::augment_args),
        ("exec", Exec::augment_args),
        ("kill", Kill::augment_args),
        ("pause", Id::augment_args),
        ("ps", Ps::augment_args),
        ("resume", Id::augment_args),
        ("run", Run::augment_args),
        ("sandbox", Sandbox::augment_args),
        ("start", Id::augment_args),
        ("state", Id::augment_args),
        ("update", Update::augment_args),
    ];
    let word = words::verb(words, &root)?;
    let (name, augment) = verbs.into_iter().find(|(name, _)| word == name)?;
    let verb = augment(clap::Command::new(name).args_override_self(true));
    Some(root.subcommand(verb))
}

/// Options of every verb
#[derive(Debug, Args, Clone)]
pub struct Global {
    /// Where states of containers are kept [default: /run/stockade, or $XDG_RUNTIME_DIR/stockade]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Write errors (and debug lines) to this file, too
    #[arg(long, value_name = "FILE|file:FILE|syslog:ID|journald:ID")]
    pub log: Option<Target>,
    /// The form of lines in the log file
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = log::Format::Text)]
    pub log_format: log::Format,
    /// Say more: each step as it is done
    #[arg(long)]
    pub debug: bool,
    /// crun's form of --debug: error, warning or debug
    #[arg(long, value_name = "LEVEL", value_enum, hide = true)]
    pub log_level: Option<Level>,
    /// A shipped policy (strict, engine, engine-build, oci) or a file of your own [default: STOCKADE_POLICY, the configuration file, strict]
    #[arg(long, value_name = "NAME|FILE")]
    pub policy: Option<String>,
    /// Let systemd make the cgroup, as a scope; linux.cgroupsPath is then slice:prefix:name
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// crun's form of --systemd-cgroup; disabled: the container stays in the caller's cgroup
    #[arg(long, value_name = "cgroupfs|systemd|disabled", value_enum, conflicts_with = "systemd_cgroup")]
    pub cgroup_manager: Option<CgroupManager>,
    /// The criu that checkpoint and restore use
    #[arg(long, value_name = "FILE", default_value = "criu")]
    pub criu: PathBuf,
    /// Accepted for runc's callers: stockade sees by itself who it is
    #[arg(long, value_name = "true|false|auto", hide = true,
          value_parser = ["true", "false", "auto", "1", "0", "t", "f", "T", "F", "TRUE", "FALSE", "True", "False"])]
    pub rootless: Option<String>,
    /// Print the version
    #[arg(short, long)]
    pub version: bool,
}

/// Who makes the cgroup of a container
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CgroupManager {
    /// We do
    Cgroupfs,
    /// systemd does
    Systemd,
    /// Nobody
    Disabled,
}

impl Global {
    /// The facts of this machine, for a launch whose cgroup is made as these flags say.
    pub fn host(&self) -> Result<Host> {
        let manager = self.manager();
        let mut host = Host::read_for(manager == CgroupManager::Systemd)?;
        if manager == CgroupManager::Disabled {
            host.cgroup = Cgroup { disabled: true, ..Cgroup::default() };
        }
        Ok(host)
    }

    /// Who makes the cgroup, by either of the two flags.
    pub fn manager(&self) -> CgroupManager {
        match self.cgroup_manager {
            Some(manager) => manager,
            None if self.systemd_cgroup => CgroupManager::Systemd,
            None => CgroupManager::Cgroupfs,
        }
    }
}

/// The verbs. What help says of one is its struct's documentation; a comment here would take the place of all of it.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Command {
    Run(Run),
    Create(Create),
    /// Start a created container
    #[command(after_help = "Example:\n  stockade create --bundle ./bundle box && stockade start box")]
    Start(Id),
    Exec(Box<Exec>),
    /// Print the state of a container as JSON
    #[command(after_help = "Example:\n  stockade state box | jq -r .status")]
    State(Id),
    Kill(Kill),
    Delete(Delete),
    List(List),
    Update(Box<Update>),
    /// Stop all processes of a container where they are
    #[command(after_help = "Example:\n  stockade pause box")]
    Pause(Id),
    /// Let the processes of a paused container go on
    #[command(after_help = "Example:\n  stockade resume box")]
    Resume(Id),
    Ps(Ps),
    Pids(Pids),
    Events(Events),
    Inspect(Inspect),
    Diff(Diff),
    Checkpoint(Checkpoint),
    Restore(Restore),
    Spec(Spec),
    /// Show what this runtime implements, as JSON (features.md of the specification)
    #[command(after_help = "Example:\n  stockade features | jq .linux.namespaces")]
    Features,
    Explain(Explain),
    Audit(Audit),
    Doctor(Doctor),
    Seccomp(Seccomp),
    Sandbox(Sandbox),
}

/// A container id
#[derive(Debug, Args)]
pub struct Id {
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
}

/// What `create` and `run` share
#[derive(Debug, Args)]
pub struct Launch {
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// The bundle: a directory with a config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// The name of its configuration, relative to the bundle
    #[arg(short = 'f', long, value_name = "FILE", default_value = crate::bundle::CONFIG)]
    pub config: PathBuf,
    /// Write the pid of the container's process to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Send the master of the container's terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Send a pidfd of the container's process to this socket
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// chroot instead of pivot_root, where the policy allows a root that can be left
    #[arg(long)]
    pub no_pivot: bool,
    /// Give it a secret: what FILE (or stdin, as -) has, at /run/secrets/NAME for the workload's user alone, in memory
    /// that is never swapped; may be given more than once
    #[arg(long, value_name = "NAME=FILE|NAME=-")]
    pub secret: Vec<String>,
    /// Hand so many descriptors above 2 to the container
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// How long it takes
    #[command(flatten)]
    pub timing: Timing,
}

/// What every launch can tell of itself
#[derive(Debug, Args, Clone, Copy, Default)]
pub struct Timing {
    /// Say on stderr how long each step took, of the parent and of the child: as a table, or as json
    #[arg(long, value_name = "FORMAT", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "table")]
    pub timing: Option<Format>,
}

/// Create a container; its process waits for `start`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stockade create --bundle ./bundle box && stockade start box")]
pub struct Create {
    /// What is launched
    #[command(flatten)]
    pub launch: Launch,
    /// Telling each step
    #[command(flatten)]
    pub narrate: Narrate,
}

/// Telling each step
#[derive(Debug, Args, Clone, Copy, Default)]
pub struct Narrate {
    /// Tell on stderr each step as it happens: why, how long it took, and what changed in /proc
    #[arg(long)]
    pub narrate: bool,
    /// With --narrate: a JSON object a step
    #[arg(long, requires = "narrate")]
    pub json: bool,
}

impl Narrate {
    /// In which form, if at all.
    pub fn form(self) -> Option<narrate::Form> {
        self.narrate.then(|| narrate::Form::of(self.json))
    }
}

/// Telling what is denied
#[derive(Debug, Args, Default)]
pub struct Denials {
    /// Tell on stderr each system call that seccomp denies, once a kind, and at the end how many: who made it, which rule
    /// denied it, and the least change that would allow it
    ///
    /// What the kernel itself refuses for want of a capability (setgroups, a raw socket, mount and the like) is told, too.
    /// The workload gets the errno that it gets without; kills stay kills. Only for a foreground run: it is stockade that
    /// answers, and if it dies each of these calls fails with ENOSYS, so what was denied stays denied. A workload cannot
    /// have a seccomp listener of its own meanwhile (EBUSY), and a config with SCMP_ACT_NOTIFY is refused. Form: text or
    /// json, a line each.
    #[arg(long, value_name = "FORM", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub denials: Option<Form>,
    /// Tell it to this file instead
    #[arg(long, value_name = "FILE", requires = "denials")]
    pub denials_to: Option<PathBuf>,
}

impl Denials {
    /// Who tells, if anybody is to.
    pub fn watcher(&self) -> Result<Option<Watcher>> {
        self.denials.map(|form| Watcher::denials(form, self.denials_to.as_deref())).transpose()
    }
}

/// Create a container and start it; in the foreground, wait for it and return its status
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade run --bundle ./bundle box\n  stockade run --narrate --bundle ./bundle box\n  stockade run --denials --bundle ./bundle box\n  stockade run --denials=json --denials-to denials.log --bundle ./bundle box"
)]
pub struct Run {
    /// What is launched
    #[command(flatten)]
    pub launch: Launch,
    /// Return when the container runs
    #[arg(short, long, conflicts_with = "denials")]
    pub detach: bool,
    /// Telling what is denied
    #[command(flatten)]
    pub denials: Denials,
    /// Keep the stopped container until it is deleted
    #[arg(long)]
    pub keep: bool,
    /// Telling each step
    #[command(flatten)]
    pub narrate: Narrate,
    /// Accepted for runc's callers: stockade never becomes a subreaper
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
}

/// Run one more command in a container, confined as its process is
///
/// It gets the namespaces, the cgroup, the capabilities, no_new_privs and the seccomp filter of the container, as they
/// were decided when it was created. The status is the command's, 128+N for signal N, and 255 if it could not be run.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade exec box ls -la\n  stockade exec --tty --user 1000:1000 --cwd /tmp box sh"
)]
pub struct Exec {
    /// Read the specification's process as JSON from this file; other flags about the process are not used then
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Return when it runs
    #[arg(short, long)]
    pub detach: bool,
    /// A user of the container, by numbers or by names; a name brings its groups along
    #[arg(short, long, value_name = "UID[:GID]|NAME[:GROUP]")]
    pub user: Option<String>,
    /// One more group
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// The directory to start in
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// One more capability: up to the container's bounding set, beyond it as the container's policy says
    #[arg(short, long, value_name = "CAP")]
    pub cap: Vec<String>,
    /// An AppArmor profile for it
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// An SELinux label for it
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// Set no_new_privs, where the container does not have it already
    #[arg(long)]
    pub no_new_privs: bool,
    /// Write its pid to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Send the master of its terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Send a pidfd of the process to this socket
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Hand so many descriptors above 2 to it
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// A cgroup below the container's own
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Go into a paused container, too: the process waits until it is resumed
    #[arg(long)]
    pub ignore_paused: bool,
    /// The container's id, and the command with its arguments: what follows the id is the command's
    #[arg(value_name = "ID CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// Send a signal to a container's process
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stockade kill box KILL")]
pub struct Kill {
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// A name, with or without SIG, or a number
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    pub signal: String,
    /// To every process of the container
    #[arg(short, long)]
    pub all: bool,
}

/// Delete a stopped container and all that belongs to it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stockade delete --force box")]
pub struct Delete {
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// Kill it first if it runs; succeed if it does not exist; clear what a killed runtime left
    #[arg(short, long)]
    pub force: bool,
    /// ID is a regular expression: delete all containers whose id has a part that matches
    #[arg(long)]
    pub regex: bool,
}

/// List containers
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stockade list --format json")]
pub struct List {
    /// Only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
}

/// Change the limits of a container while it runs
///
/// Sizes take k, m, g; -1 is no limit; 0 leaves a value as it is.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade update --memory 256m --pids-limit 100 box\n  echo '{\"cpu\":{\"shares\":512}}' | stockade update --resources - box"
)]
pub struct Update {
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// Read the specification's LinuxResources as JSON from a file, or - for stdin; other flags are ignored
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<String>,
    /// memory.max
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// memory.low
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Memory and swap together
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Not in cgroup v2
    #[arg(long, hide = true)]
    pub kernel_memory: Option<i64>,
    /// Not in cgroup v2
    #[arg(long, hide = true)]
    pub kernel_memory_tcp: Option<i64>,
    /// CPU time in CPUs, such as 1.5
    #[arg(long, value_name = "N", conflicts_with_all = ["cpu_quota", "cpu_period"])]
    pub cpus: Option<String>,
    /// Microseconds of CPU time in each period
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Microseconds of a period
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<u64>,
    /// Microseconds of CPU time that may be saved up
    #[arg(long, value_name = "US")]
    pub cpu_burst: Option<u64>,
    /// The weight against others, on cgroup v1's scale (1024 is usual)
    #[arg(long, value_name = "N", alias = "cpu-shares")]
    pub cpu_share: Option<u64>,
    /// 1: runs only when nobody else wants to
    #[arg(long, value_name = "0|1")]
    pub cpu_idle: Option<i64>,
    /// Not in cgroup v2
    #[arg(long, hide = true)]
    pub cpu_rt_period: Option<u64>,
    /// Not in cgroup v2
    #[arg(long, hide = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// CPUs that may be used, such as 0-3,7
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// pids.max
    #[arg(long, value_name = "N", alias = "pids", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// The weight of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    pub blkio_weight: Option<u16>,
    /// Intel RDT
    #[arg(long, hide = true)]
    pub l3_cache_schema: Option<String>,
    /// Intel RDT
    #[arg(long, hide = true)]
    pub mem_bw_schema: Option<String>,
}

/// Show the processes of a container, by the host's pids
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stockade ps box\n  stockade ps --format json box\n  stockade ps box -o pid,comm")]
pub struct Ps {
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
    /// Arguments for the host's ps(1) [default: -ef]
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// What `checkpoint` and `restore` share
#[derive(Debug, Args)]
pub struct Criu {
    /// Where the images are
    #[arg(long, value_name = "DIR", default_value = "checkpoint")]
    pub image_path: PathBuf,
    /// Where criu writes its log [default: the images' directory]
    #[arg(long, value_name = "DIR")]
    pub work_path: Option<PathBuf>,
    /// Allow open TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// Allow unix sockets whose other end is outside
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// Allow a terminal that is not the container's own
    #[arg(long)]
    pub shell_job: bool,
    /// Allow file locks
    #[arg(long)]
    pub file_locks: bool,
    /// soft or ignore: the cgroup and its limits come from config.json, never from images
    #[arg(long, value_name = "MODE", default_value = "soft", value_parser = ["soft", "ignore", "full", "strict"])]
    pub manage_cgroups_mode: String,
    /// A namespace whose properties are left out: network
    #[arg(long, value_name = "NAMESPACE", value_parser = ["network"])]
    pub empty_ns: Vec<String>,
    /// Free the memory of older images that newer ones replace
    #[arg(long)]
    pub auto_dedup: bool,
    /// Refused: memory would come over the network while the workload runs already
    #[arg(long, hide = true)]
    pub lazy_pages: bool,
}

/// Write images of a running container, to be restored later, with criu
///
/// The container ends, unless it is left running. Its images hold its memory: they are for root alone.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stockade checkpoint --image-path ./images box")]
pub struct Checkpoint {
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// What both verbs know
    #[command(flatten)]
    pub criu: Criu,
    /// Images of an earlier --pre-dump, relative to --image-path: only what changed since is written
    #[arg(long, value_name = "DIR")]
    pub parent_path: Option<PathBuf>,
    /// Only the memory, while the container runs on
    #[arg(long)]
    pub pre_dump: bool,
    /// Let the container run on
    #[arg(long)]
    pub leave_running: bool,
    /// Leave connections out that are not established yet
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// Write files that were removed while they are open beside where they were
    #[arg(long)]
    pub link_remap: bool,
    /// Send the memory to a `criu page-server`
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub page_server: Option<String>,
    /// Goes with --lazy-pages
    #[arg(long, value_name = "FD", hide = true, allow_hyphen_values = true)]
    pub status_fd: Option<i32>,
}

/// Make a container again from the images of a checkpoint, with criu
///
/// The cgroup, the rootfs, and every part of the host come from the bundle under the policy of today. Images are code
/// with rights of its own, so the policy must allow it: strict does not.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stockade --policy oci restore --bundle ./bundle --image-path ./images box")]
pub struct Restore {
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// What both verbs know
    #[command(flatten)]
    pub criu: Criu,
    /// The bundle
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Return when the container runs
    #[arg(short, long)]
    pub detach: bool,
    /// Write the pid of the container's process to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Send the master of the container's terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// The LSM's profile in place of the checkpoint's
    #[arg(long, value_name = "TYPE:NAME")]
    pub lsm_profile: Option<String>,
    /// The SELinux context of mounts in place of the checkpoint's
    #[arg(long, value_name = "CONTEXT")]
    pub lsm_mount_context: Option<String>,
    /// chroot instead of pivot_root: refused, a root that can be left is none
    #[arg(long)]
    pub no_pivot: bool,
    /// Accepted for runc's callers: stockade never becomes a subreaper
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
}

/// Write a config.json to start from
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mkdir -p box/rootfs && stockade spec --bundle box")]
pub struct Spec {
    /// Where to write it
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// For an ordinary user: a user namespace, and no limits that need delegation
    #[arg(long)]
    pub rootless: bool,
}

/// Show what a launch would do: the facts, the findings and the plan, step by step
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stockade explain ./bundle")]
pub struct Explain {
    /// The bundle
    #[arg(value_name = "BUNDLE", default_value = ".")]
    pub bundle: PathBuf,
    /// The name of its configuration, relative to the bundle
    #[arg(short = 'f', long, value_name = "FILE", default_value = crate::bundle::CONFIG)]
    pub config: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// The id to plan with
    #[arg(long, value_name = "ID", default_value = "example")]
    pub id: String,
}

/// Check a bundle or a running container against the rules of a policy and the CIS benchmark
///
/// A config is judged as a runtime takes it that adds nothing; --policy is the measure: its ceilings, lists and limits.
/// The status is 0 if nothing fails at the threshold or above, 2 if something does, and 1 if it could not be audited.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade audit ./bundle\n  stockade audit --format sarif ./bundle > audit.sarif\n  stockade audit --fix ./bundle > hardened.json\n  stockade audit --threshold critical box"
)]
pub struct Audit {
    /// A bundle (a directory with a config.json) or the id of a running container
    #[arg(value_name = "BUNDLE|ID", default_value = ".")]
    pub target: String,
    /// How it is written
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = AuditFormat::Table)]
    pub format: AuditFormat,
    /// The least severity whose failure is the status 2
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = crate::audit::Severity::High)]
    pub threshold: crate::audit::Severity,
    /// Print the config.json with everything mended that config.json can mend, and say on stderr what that was
    #[arg(long, conflicts_with = "format")]
    pub fix: bool,
    /// Also look for shells and compilers in the root file system
    #[arg(long)]
    pub deep: bool,
    /// The measure, as before the verb
    #[arg(long, value_name = "NAME|FILE")]
    pub policy: Option<String>,
}

/// How an audit is written
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AuditFormat {
    /// For people
    Table,
    /// For programs
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

/// Make, try and explain seccomp profiles
///
/// A PROFILE is a file with a profile, a config.json with one, or a name: default and build are stockade's own, docker is
/// what Docker's default profile means.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade seccomp record --output app.json -- python3 app.py\n  stockade seccomp check app.json -- python3 app.py\n  stockade seccomp show app.json\n  stockade seccomp diff docker default\n  stockade seccomp test default socket AF_ALG SOCK_SEQPACKET 0"
)]
pub struct Seccomp {
    /// What to do
    #[command(subcommand)]
    pub verb: SeccompVerb,
}

/// What can be done with seccomp profiles
#[derive(Debug, Subcommand)]
pub enum SeccompVerb {
    /// Run a trusted workload and write the profile that allows what it called, and nothing else
    Record(Box<Record>),
    /// Run a workload under a profile and report what it breaks; status 2 if anything
    Check(Box<Check>),
    /// Explain a profile
    Show(ShowProfile),
    /// Compare what two profiles mean; status 2 if they differ
    Diff(DiffProfiles),
    /// Say what a profile does with one system call; status 2 if it is not let through
    Test(TestCall),
}

/// What is run: a bundle, or a command in a sandbox
#[derive(Debug, Args)]
pub struct Workload {
    /// Run this bundle
    #[arg(short, long, value_name = "DIR", conflicts_with_all = ["ro", "rw", "env", "workdir", "command"])]
    pub bundle: Option<PathBuf>,
    /// Show a file or directory of the host to the command, read-only
    #[arg(long, value_name = "PATH")]
    pub ro: Vec<PathBuf>,
    /// Show a file or directory of the host to the command, writable
    #[arg(long, value_name = "PATH")]
    pub rw: Vec<PathBuf>,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// The directory to start in
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// The command, in a sandbox of this host's programs
    #[arg(value_name = "CMD", required_unless_present = "bundle", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Record a profile
///
/// Every call is noted and goes on, but for what the policy's own profile denies: this is a tool for runs that you trust,
/// never a confinement. It knows what was called while it looked on, no more: run what the workload can do, and --merge
/// the runs. Of socket, clone, ioctl, prctl and personality the deciding argument is kept.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade seccomp record -- python3 app.py\n  stockade seccomp record --merge app.json --output app.json -- python3 app.py --other\n  stockade seccomp record --bundle ./bundle --output app.json"
)]
pub struct Record {
    /// What is run
    #[command(flatten)]
    pub workload: Workload,
    /// Allow what this earlier profile allows, too; may be given more than once
    #[arg(long, value_name = "PROFILE")]
    pub merge: Vec<String>,
    /// Where the profile is written
    #[arg(short, long, value_name = "FILE", default_value = "seccomp.json")]
    pub output: PathBuf,
}

/// Try a profile
///
/// Runs the workload under it and tells on stderr what it denied, as --denials does. What the policy's own profile denies
/// as well is not its fault, nor is an ENOSYS that makes a caller take an older way.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stockade seccomp check app.json -- python3 app.py")]
pub struct Check {
    /// The profile
    #[arg(value_name = "PROFILE")]
    pub profile: String,
    /// What is run
    #[command(flatten)]
    pub workload: Workload,
}

/// Explain a profile
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade seccomp show app.json\n  stockade seccomp show --json default > mine.json"
)]
pub struct ShowProfile {
    /// The profile
    #[arg(value_name = "PROFILE")]
    pub profile: String,
    /// As it is written in linux.seccomp
    #[arg(long)]
    pub json: bool,
}

/// Compare two profiles
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stockade seccomp diff docker default")]
pub struct DiffProfiles {
    /// The one
    #[arg(value_name = "A")]
    pub a: String,
    /// The other
    #[arg(value_name = "B")]
    pub b: String,
}

/// Ask a profile about a call
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade seccomp test default socket AF_ALG SOCK_SEQPACKET 0\n  stockade seccomp test app.json clone 'CLONE_NEWUSER|SIGCHLD'"
)]
pub struct TestCall {
    /// The profile
    #[arg(value_name = "PROFILE")]
    pub profile: String,
    /// The system call, by name
    #[arg(value_name = "SYSCALL")]
    pub syscall: String,
    /// Its arguments: numbers (0x for hexadecimal, 0o for octal) or names of flags, joined by |; missing ones are 0
    #[arg(value_name = "ARG", num_args = 0..=6, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// What network a sandbox has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Net {
    /// lo
    None,
    /// Outbound, in user space
    Pasta,
}

/// Run a command of this host in a throwaway hardened container, without an image
///
/// The command sees the host's programs and libraries read-only, a private /tmp, /dev and /proc, an empty home, no
/// network but lo unless --net asks for one, and nothing else. The policy is strict unless --policy names another.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade sandbox -- sh\n  stockade sandbox --denials -- python3 job.py\n  stockade sandbox --rw . --workdir \"$PWD\" -- make test\n  stockade sandbox --net pasta --publish 8080:8000 -- python3 -m http.server\n  stockade sandbox --emit-bundle ./box -- python3 -c 'print(1)'\n  stockade sandbox --narrate -- true"
)]
pub struct Sandbox {
    /// How long it takes
    #[command(flatten)]
    pub timing: Timing,
    /// The most memory it may use, such as 128m
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// The most CPU time it may use, in CPUs, such as .5
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,
    /// The most processes and threads it may have
    #[arg(long, value_name = "N", alias = "pids-limit")]
    pub pids: Option<i64>,
    /// Show a file or directory of the host, read-only, at the same path
    #[arg(long, value_name = "PATH")]
    pub ro: Vec<PathBuf>,
    /// Show a file or directory of the host, writable, at the same path; its files keep the caller's owner
    #[arg(long, value_name = "PATH")]
    pub rw: Vec<PathBuf>,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Give it a secret: what FILE (or stdin, as -) has, at /run/secrets/NAME, in memory that is never swapped; may be
    /// given more than once
    #[arg(long, value_name = "NAME=FILE|NAME=-", conflicts_with = "emit_bundle")]
    pub secret: Vec<String>,
    /// The directory to start in [default: the empty home]
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Telling what is denied
    #[command(flatten)]
    pub denials: Denials,
    /// No memory both written and executed: whatever compiles while it runs (node, java) fails then; needs Linux 6.3
    #[arg(long)]
    pub no_jit: bool,
    /// The network: none, or out through pasta(1) of the package passt, with names looked up by the host's resolver, and
    /// nothing of the host's loopback within reach
    #[arg(long, value_name = "KIND", default_value = "none")]
    pub net: Net,
    /// With --net pasta: let a port of the host's loopback lead to a port of the sandbox, where the server must listen on
    /// 0.0.0.0, and of udp on the same number; may be given more than once
    #[arg(long, value_name = "[127.0.0.1:]HOSTPORT:PORT[/tcp|udp]", conflicts_with = "emit_bundle")]
    pub publish: Vec<String>,
    /// The host name inside
    #[arg(long, value_name = "NAME", default_value = "sandbox")]
    pub hostname: String,
    /// Write the bundle to this directory, with the policy that lets it name the host's paths, and run nothing
    #[arg(long, value_name = "DIR", conflicts_with_all = ["explain", "denials"])]
    pub emit_bundle: Option<PathBuf>,
    /// Show the plan and run nothing
    #[arg(long, group = "told", conflicts_with = "denials")]
    pub explain: bool,
    /// Tell on stderr each step as it happens: why, how long it took, and what changed in /proc
    #[arg(long, group = "told", conflicts_with = "emit_bundle")]
    pub narrate: bool,
    /// With --explain or --narrate: as JSON
    #[arg(long, requires = "told")]
    pub json: bool,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use clap::FromArgMatches;

    fn typed(text: &str) -> Vec<OsString> {
        std::iter::once("stockade").chain(text.split_whitespace()).map(OsString::from).collect()
    }

    #[test]
    fn a_verb_alone_reads_what_the_whole_reads() {
        let whole = command();
        let mut alone = 0;
        for verb in whole.get_subcommands() {
            let name = verb.get_name();
            let Some(command) = command_for(&typed(name)) else { continue };
            alone += 1;
            let of = |command: &clap::Command| -> Vec<String> {
                let args = command.get_arguments().map(|a| format!("{a:?}"));
                args.chain(command.get_groups().map(|g| format!("{g:?}"))).collect()
            };
            assert_eq!(of(command.find_subcommand(name).unwrap()), of(verb), "{name}");
            let globals =
                |command: &clap::Command| command.get_arguments().map(|a| format!("{a:?}")).collect::<Vec<_>>();
            assert_eq!(globals(&command), globals(&whole));
        }
        assert_eq!(alone, 12);
        let lines = [
            "--root /r --policy oci run -b . -f x.json --timing=json --secret a=b --secret c=- box",
            "--policy a --policy b --log-format json create --console-socket s --pid-file p box",
            "--systemd-cgroup exec --tty --env A=1 -e B=2 --user 1:2 box ls -l --color",
            "sandbox --memory 64m --no-jit -v a:b:ro -- sh -c true",
            "kill --all box TERM",
            "ps --format json box -ef",
            "update --memory -1 --cpu-quota 1000 box",
            "--cgroup-manager disabled delete --force box",
            "state box",
        ];
        for line in lines {
            let words = typed(line);
            let read = |command: clap::Command| {
                let words = words::normal(words.clone(), &command);
                format!("{:?}", Cli::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap())
            };
            assert_eq!(read(command_for(&words).unwrap()), read(command()), "{line}");
        }
        for other in ["", "--version", "list", "--root run list", "-- run", "help run", "no-such", "--help"] {
            assert!(command_for(&typed(other)).is_none(), "{other}");
        }
    }
}
