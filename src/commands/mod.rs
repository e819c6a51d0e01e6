//! The verbs, one short file a family. Each reads what was typed, turns it into values, and calls the rooms below.

mod audit;
mod checkpoint;
mod doctor;
mod exec;
mod features;
mod launch;
mod lifecycle;
mod resources;
mod sandbox;
mod seccomp;
mod see;
mod show;
mod spec;

use crate::cli::{Cli, Command};
use crate::error::{Error, Result};

/// What was built; a release says so when it builds.
const COMMIT: &str = match option_env!("STOCKADE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Does one verb and returns the exit code.
pub fn dispatch(cli: Cli) -> Result<i32> {
    let Cli { global, command } = cli;
    if global.version {
        return crate::log::print(&version()).map(|()| 0);
    }
    let Some(command) = command else {
        return Err(Error::new("command line", "", "no verb").hint("stockade --help lists them"));
    };
    match command {
        Command::Run(args) => launch::run(&global, args),
        Command::Create(args) => launch::create(&global, args),
        Command::Exec(args) => exec::exec(&global, args),
        Command::Start(args) => lifecycle::start(&global, &args.id),
        Command::Kill(args) => lifecycle::kill(&global, &args),
        Command::Delete(args) => lifecycle::delete(&global, &args),
        Command::State(args) => show::state(&global, &args.id),
        Command::List(args) => show::list(&global, &args),
        Command::Update(args) => resources::update(&global, &args),
        Command::Pause(args) => resources::freeze(&global, &args.id, true),
        Command::Resume(args) => resources::freeze(&global, &args.id, false),
        Command::Ps(args) => resources::ps(&global, &args),
        Command::Pids(args) => see::pids(&global, &args),
        Command::Events(args) => resources::events(&global, &args),
        Command::Inspect(args) => see::inspect(&global, &args),
        Command::Diff(args) => see::diff(&global, &args),
        Command::Explain(args) => show::explain(&global, &args),
        Command::Checkpoint(args) => checkpoint::checkpoint(&global, &args),
        Command::Restore(args) => checkpoint::restore(&global, args),
        Command::Spec(args) => spec::spec(&args),
        Command::Features => features::features(),
        Command::Audit(args) => audit::audit(&global, &args),
        Command::Doctor(args) => doctor::doctor(&global, &args),
        Command::Seccomp(args) => seccomp::seccomp(&global, args),
        Command::Sandbox(args) => sandbox::sandbox(&global, args),
    }
}

/// runc's lines, which Docker and containerd take apart, and crun's line of feature words.
fn version() -> String {
    let (called, version) = (crate::cli::words::called(), env!("CARGO_PKG_VERSION"));
    let mut text = format!("{called} version {version}\ncommit: {COMMIT}\nspec: {}\n", crate::state::OCI_VERSION);
    if called != "stockade" {
        text += &format!("stockade: {version}\n");
    }
    let criu = if crate::criu::find("criu".as_ref()).is_ok() { " +CRIU" } else { "" };
    let systemd = if cfg!(feature = "systemd") { "+SYSTEMD " } else { "" };
    text + &format!("{systemd}+SELINUX +APPARMOR +CAP +SECCOMP +EBPF{criu}\n")
}
