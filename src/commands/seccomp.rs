//! `seccomp`: profiles recorded, tried, explained and compared.
//!
//! A workload is run like any other, in a sandbox or from a bundle, with somebody who looks on; what a profile means is
//! asked of `seccomp`, which compiles it.

use super::launch::{Mode, Teller, launch_bundle};
use super::sandbox;
use crate::cli::{Check, DiffProfiles, Global, Launch, Record, Sandbox, Seccomp, SeccompVerb, ShowProfile};
use crate::cli::{TestCall, Workload};
use crate::error::{Context, Error, Result};
use crate::observe::watch::{Form, Watcher};
use crate::plan::Watch;
use crate::seccomp::change::Call;
use crate::seccomp::syscalls::Abi;
use crate::seccomp::{self, By, decode, explain};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::Value;
use std::path::Path;

/// The largest profile that is read.
const LIMIT: u64 = 4 << 20;

/// `stockade seccomp`.
pub fn seccomp(global: &Global, args: Seccomp) -> Result<i32> {
    match args.verb {
        SeccompVerb::Record(args) => record(global, *args),
        SeccompVerb::Check(args) => check(global, *args),
        SeccompVerb::Show(args) => show(&args),
        SeccompVerb::Diff(args) => diff(&args),
        SeccompVerb::Test(args) => test(&args),
    }
}

/// A profile by name, or from a file that is one or a config.json with one. It compiles.
fn profile(name: &str) -> Result<LinuxSeccomp> {
    let shipped = match name {
        "default" => Some(seccomp::default_profile()?),
        "build" => Some(seccomp::build_profile()?),
        "docker" => Some(explain::docker_profile()?),
        _ => None,
    };
    if let Some(profile) = shipped {
        return Ok(profile);
    }
    let wrong = |why: String| {
        Error::new("seccomp", name, why)
            .hint("a profile is what linux.seccomp of a config.json holds; default, build and docker are names")
    };
    let text = crate::host::read_small(name, LIMIT).map_err(|e| Error { step: "seccomp".into(), ..e })?;
    let mut value: Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    if let Some(inner) = value.pointer_mut("/linux/seccomp") {
        value = inner.take();
    } else if value.get("ociVersion").is_some() {
        return Err(wrong("a config.json without linux.seccomp".to_owned()));
    }
    let profile: LinuxSeccomp = crate::json::from_value(&value).map_err(|e| wrong(e.to_string()))?;
    seccomp::compile(&profile).map_err(|e| wrong(e.to_string()))?;
    Ok(profile)
}

/// Runs a workload in the foreground while somebody looks on.
fn run(global: &Global, workload: Workload, profile: Option<&LinuxSeccomp>, watcher: &mut Watcher) -> Result<i32> {
    let Workload { bundle, ro, rw, env, workdir, command } = workload;
    let Some(bundle) = bundle else {
        let args = Sandbox { ro, rw, env, workdir, command, ..sandbox::plain() };
        return sandbox::launch(global, args, profile, Some(watcher));
    };
    let launch = Launch {
        timing: crate::cli::Timing::default(),
        id: format!("seccomp-{}", std::process::id()),
        bundle,
        config: crate::bundle::CONFIG.into(),
        pid_file: None,
        console_socket: None,
        pidfd_socket: None,
        no_new_keyring: false,
        no_pivot: false,
        secret: Vec::new(),
        preserve_fds: 0,
    };
    launch_bundle(
        global,
        launch,
        Mode::Foreground { keep: false },
        Teller { narrate: None, profile, watcher: Some(watcher) },
    )
}

fn record(global: &Global, args: Record) -> Result<i32> {
    let earlier: Vec<LinuxSeccomp> = args.merge.iter().map(|name| profile(name)).collect::<Result<_>>()?;
    let shown = args.output.display().to_string();
    // Known before the run and not after it.
    if args.output.is_dir() || args.output.parent().is_some_and(|p| p != Path::new("") && !p.is_dir()) {
        return Err(Error::new("--output", shown, "cannot be written: no such directory, or one itself"));
    }
    crate::log::note("seccomp record: every call goes on: this confines nothing beyond the policy's own filter");
    let mut watcher = Watcher::silent(Watch::Record);
    let status = run(global, args.workload, None, &mut watcher)?;
    let mut noted: Vec<(Call, u64)> = watcher.noted().map(|(call, count)| (*call, count)).collect();
    let calls: Vec<Call> = noted.iter().map(|(call, _)| *call).collect();
    let earlier = earlier.into_iter().reduce(|all, one| explain::merged(all, &one));
    let made = explain::recorded(earlier, &calls, watcher.capset_after)?;
    let program = seccomp::compile(&made)?;
    let text = serde_json::to_string_pretty(&made).map_err(|e| Error::new("seccomp record", &shown, e.to_string()))?;
    write_whole(&args.output, &(text + "\n"))?;
    noted.sort_by_key(|(call, count)| (std::cmp::Reverse(*count), explain::kind(call)));
    let mut table = String::new();
    for (call, count) in &noted {
        table += &format!("    {count:>8}  {}\n", explain::kind(call));
    }
    let total: u64 = noted.iter().map(|(_, count)| count).sum();
    eprint_all(&format!(
        "{table}stockade: seccomp record: {total} calls of {} kinds; {shown} has {} instructions; the command's status was {status}\n",
        noted.len(),
        program.insns.len()
    ));
    Ok(status)
}

/// A profile that is half there would deny half of what it should allow.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let shown = path.display().to_string();
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let done = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    done.at("--output", shown).inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

fn eprint_all(text: &str) {
    use std::io::Write;
    // Nobody is left to be told when it fails.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn check(global: &Global, args: Check) -> Result<i32> {
    let tried = profile(&args.profile)?;
    let mut watcher = Watcher::denials(Form::Text, None)?;
    let status = run(global, args.workload, Some(&tried), &mut watcher)?;
    let broken: Vec<String> = watcher.broken().map(|k| format!("{}x {}", k.count, k.call)).collect();
    let killed = status == 128 + nix::libc::SIGSYS;
    let name = &args.profile;
    let verdict = match (broken.is_empty(), killed) {
        (_, true) => format!("{name} killed it: a rule that kills, or a call of another architecture"),
        (false, _) => format!("{name} denied {}", broken.join(", ")),
        (true, _) => format!("{name} denied nothing that it needed; the command's status was {status}"),
    };
    crate::log::note(&format!("seccomp check: {verdict}"));
    Ok(if killed || !broken.is_empty() { 2 } else { status })
}

fn show(args: &ShowProfile) -> Result<i32> {
    let shown = profile(&args.profile)?;
    let text = match args.json {
        true => {
            serde_json::to_string_pretty(&shown).map_err(|e| Error::new("seccomp", &args.profile, e.to_string()))?
                + "\n"
        }
        false => explain::show(&args.profile, &shown)?,
    };
    crate::log::print(&text).map(|()| 0)
}

fn diff(args: &DiffProfiles) -> Result<i32> {
    let (a, b) = (profile(&args.a)?, profile(&args.b)?);
    let lines = explain::diff(&a, &b);
    if lines.is_empty() {
        return crate::log::print(&format!("{} and {} mean the same on this architecture\n", args.a, args.b))
            .map(|()| 0);
    }
    let head = format!("{:<24} {}  ->  {}\n", "system call", args.a, args.b);
    crate::log::print(&(head + &lines.join("\n") + "\n")).map(|()| 2)
}

fn test(args: &TestCall) -> Result<i32> {
    let profile = profile(&args.profile)?;
    let nr = explain::native(&args.syscall).ok_or_else(|| {
        Error::new("seccomp test", args.syscall.as_str(), "this architecture has no system call of that name")
    })?;
    let mut values = [0u64; 6];
    for (value, word) in values.iter_mut().zip(&args.args) {
        *value = explain::argument(word).ok_or_else(|| {
            Error::new("seccomp test", word.as_str(), "neither a number nor a name that is known")
                .hint("write the number, such as 0x1000")
        })?;
    }
    let (verdict, by) = seccomp::judge(&profile, Abi::NATIVE.audit(), nr, values);
    let why = match by {
        By::Entry(place) => format!("syscalls[{place}]"),
        By::Default => "the default action".to_owned(),
        By::Newer => "newer than all that the profile names".to_owned(),
        By::Architecture => "an architecture that is not listed".to_owned(),
    };
    let call = decode::call(&args.syscall, values, |_| None);
    crate::log::print(&format!("{call}: {}, by {why}\n", explain::answer(verdict)))?;
    Ok(if verdict.permits() { 0 } else { 2 })
}
