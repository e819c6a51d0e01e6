//! The verbs that show: containers as they are, and what this host can do for them.

use clap::Args;
use std::path::PathBuf;

/// Show the processes of a container, by their numbers on the host and inside
///
/// Each process with its number on the host and in every pid namespace below, its uid on both sides, and its place in the
/// tree; then the picture: the same processes as the host and as the container number them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade pids box\n  stockade pids --watch box\n  stockade pids --json box | jq '.processes[].numbers'"
)]
pub struct Pids {
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// Again whenever something changed, until the container ends; with --json a line each time
    #[arg(short, long)]
    pub watch: bool,
    /// With --watch: how often to look
    #[arg(long, value_name = "DURATION", default_value = "1s", requires = "watch")]
    pub interval: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Show what a container is: namespaces, ids, capabilities, filters, mounts, limits
///
/// What the kernel says of its first process, beside what was decided when it was created: of a stopped container only
/// the latter. What a filter denies and what Landlock allows is of the record, because the kernel does not tell it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade inspect box\n  stockade inspect --json box | jq .capabilities\n  stockade inspect --against host box"
)]
pub struct Inspect {
    /// The container's id, or `host`
    #[arg(value_name = "ID")]
    pub id: String,
    /// Show only what differs from another container, or from `host`
    #[arg(long, value_name = "ID|host")]
    pub against: Option<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Show what differs between two containers, or a container and the host
///
/// Namespaces, ids, capabilities, filters, labels, mounts, limits and findings; not what is in use at the moment.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stockade diff box host\n  stockade diff --json box other")]
pub struct Diff {
    /// A running container, or `host`
    #[arg(value_name = "A")]
    pub a: String,
    /// Another
    #[arg(value_name = "B")]
    pub b: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Show what this host can enforce, what strict has to do without, and the remedies
///
/// What strict has to do without here, and the remedy for each. The status is 0 if strict holds whole, 2 if it has to do
/// without something, 3 if it would refuse to launch, and 1 if that could not be found out. Only a short-lived child of
/// our own is started, which tries what cannot be read, and nothing is changed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade doctor\n  stockade doctor /srv/bundles\n  stockade doctor --json | jq '.rows[] | select(.state != \"whole\")'"
)]
pub struct Doctor {
    /// A directory on the file system where bundles are
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Show what a container uses and when the OOM killer strikes, or what happens to all containers
///
/// With an ID: statistics, and the OOM killer's strikes, until the container ends, as runc prints them. Without one: a line
/// of JSON for whatever happens to any container of --root: created, oom, pidsMax, throttled, exit, deleted; until it is
/// ended, for a log collector. Of a foreground run with --denials both tell each kind of denial once (denial), and how
/// often each came at its end (denials). Containers that come and go meanwhile are noticed. The code and the signal of an exit are
/// null where a kernel from before 6.15 has forgotten them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade events --stats box\n  stockade events --interval 1s box\n  stockade events --all >> /var/log/containers.jsonl"
)]
pub struct Events {
    /// The container's id; without it, all containers
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// All containers, as without an ID
    #[arg(long, conflicts_with = "id")]
    pub all: bool,
    /// Statistics once, and end
    #[arg(long)]
    pub stats: bool,
    /// How often statistics are printed, and throttling is looked for, which the kernel does not announce
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub interval: String,
}
