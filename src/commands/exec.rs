//! `exec`: one more process in a container.

use super::launch::{Outside, await_exec, check_descriptors, check_terminal, hand_over};
use crate::bundle;
use crate::cgroup;
use crate::cli::{Exec, Global};
use crate::console::{self, Relay, Signals};
use crate::error::{Context, Error, Result};
use crate::host::{Binary, Host, read_small};
use crate::join::Target;
use crate::launch::{self, Built, Setting};
use crate::plan::exec::{self, Confinement, Request};
use crate::plan::{self, Listener};
use crate::policy::Above;
use crate::state::{CgroupRecord, State, Status, Store};
use crate::{own, sys};
use oci_spec::runtime::Process;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

/// `stockade exec`.
pub fn exec(global: &Global, args: Box<Exec>) -> Result<i32> {
    let (id, command) = args.words.split_first().ok_or_else(|| Error::new("exec", "ID", "missing"))?;
    if command.is_empty() && args.process.is_none() {
        return Err(
            Error::new("exec", id.as_str(), "no command").hint("name one after the id, or a file with --process")
        );
    }
    check_descriptors(args.preserve_fds)?;
    let entry = Store::open(global.root.as_deref())?.entry(id)?;
    let (state, status) = entry.require()?;
    match status {
        Status::Created | Status::Running => {}
        Status::Paused if args.ignore_paused => {}
        Status::Paused => {
            return Err(Error::new("exec", id.as_str(), "cannot exec in a paused container")
                .hint("resume it, or use --ignore-paused: the process waits until it is resumed"));
        }
        other => return Err(Error::new("exec", id.as_str(), format!("cannot exec in a {} container", other.word()))),
    }
    let confinement = entry.confinement()?;
    let host = Host::read()?;
    let exposed = plan::own::exposed_to_map(&confinement.uids, &host);
    if let Some(reason) = exposed.as_deref().filter(|_| host.binary != Binary::Sealed) {
        drop(entry);
        match own::start_over(reason)? {}
    }
    let stopped = || Error::new("exec", id.as_str(), "cannot exec in a stopped container");
    let pidfd = state.init.open().ok_or_else(stopped)?;
    let (process, user) = process(&args, command, &confinement)?;
    let terminal = process.terminal() == Some(true);
    check_terminal(args.console_socket.as_deref(), terminal, !args.detach)?;
    let signals = if args.detach { None } else { Some(Signals::collect()?) };

    let record = entry.intent()?.and_then(|i| i.cgroup);
    let place = Place::find(record.as_ref(), &args.cgroup, &state, host.privileged())?;
    let request = Request {
        id: id.clone(),
        process,
        user,
        more: capabilities(&args.cap),
        cgroup: place.cgroup,
        init_cgroup: place.init,
        scope: place.scope,
        exposed,
        privileged: host.privileged(),
        preserve_fds: args.preserve_fds,
    };
    let plan = exec::plan(&confinement, request)?;
    for step in &plan.steps {
        crate::log::debug(&format!("plan: {}: {}", step.name(), step.subject()));
    }
    for finding in &plan.findings {
        crate::log::debug(&finding.to_string());
    }
    let mut built = launch::build(Setting {
        plan: &plan,
        cgroup_mount: record.as_ref().map(|r| r.mount.as_path()),
        entry: &entry,
        target: Some(Target { init: state.init, pidfd: pidfd.as_fd() }),
        bundle: &state.bundle,
        annotations: &state.annotations,
        gate: None,
        failure: None,
        foreground: !args.detach,
        signals: signals.as_ref(),
        hooked: &std::cell::Cell::new(false),
        ids: None,
        scratch: None,
        secrets: Vec::new(),
    })?;
    let agent = plan.listener().map(|l| {
        let json = launch::state_json(&state.id, state.init.pid, "running", &state.bundle, &state.annotations);
        (l, serde_json::from_slice(&json).unwrap_or_default())
    });
    let followed = follow(&args, &mut built, agent, signals);
    if followed.is_err() {
        let _ = sys::pidfd_send_signal(built.pidfd.as_fd(), nix::libc::SIGKILL);
        let _ = launch::reap(built.pid);
    }
    followed
}

fn follow(
    args: &Exec,
    built: &mut Built,
    agent: Option<(&Listener, serde_json::Value)>,
    signals: Option<Signals>,
) -> Result<i32> {
    let outside = Outside {
        pid_file: args.pid_file.as_deref(),
        console_socket: args.console_socket.as_deref(),
        pidfd_socket: args.pidfd_socket.as_deref(),
        agent,
        watched: false,
    };
    hand_over(&outside, built, || Ok(()))?;
    match signals {
        None => console::start(&built.channel).and_then(|()| await_exec(built)).map(|()| 0),
        Some(signals) => {
            let relay = built.console.take().map(Relay::new).transpose()?;
            console::start(&built.channel)?;
            console::follow(built, relay, &signals, false, None, |_| Ok(()))
        }
    }
}

/// The process that is asked for, and its user where it is named and not numbered.
fn process(args: &Exec, command: &[String], confinement: &Confinement) -> Result<(Process, Option<String>)> {
    if let Some(path) = &args.process {
        let (process, unknown) = bundle::parse_process(&read_process(path)?)?;
        if let Some(field) = unknown.fields.first().filter(|_| confinement.unknown_fields == Above::Refuse) {
            return Err(Error::new("--process", field.as_str(), "a field that the specification does not have")
                .hint("it would be skipped; remove it, or make the container under a policy with unknownFields"));
        }
        for (_, name) in &unknown.capabilities {
            crate::log::debug(&format!("--process: {name}: not a capability, nothing is given"));
        }
        return Ok((process, None));
    }
    let mut process = confinement.process.clone();
    let env = merged(process.env().as_deref().unwrap_or_default(), &args.env);
    process
        .set_args(Some(command.to_vec()))
        .set_terminal(Some(args.tty))
        .set_capabilities(None)
        .set_rlimits(None)
        .set_no_new_privileges(Some(args.no_new_privs))
        .set_env(Some(env));
    if args.apparmor.is_some() {
        process.set_apparmor_profile(args.apparmor.clone());
    }
    if args.process_label.is_some() {
        process.set_selinux_label(args.process_label.clone());
    }
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut name = None;
    let mut user = process.user().clone();
    if let Some(text) = &args.user {
        match numbers(text) {
            Some((uid, gid)) => {
                user.set_uid(uid);
                if let Some(gid) = gid {
                    user.set_gid(gid);
                }
            }
            None => name = Some(text.clone()),
        }
    }
    if !args.additional_gids.is_empty() {
        if name.is_some() {
            return Err(Error::new(
                "--additional-gids",
                "",
                "a user by name brings the groups of the container's /etc/group",
            )
            .hint("name the user by number to choose its groups"));
        }
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&args.additional_gids);
        user.set_additional_gids(Some(groups));
    }
    process.set_user(user);
    bundle::validate_process(&process).map_err(|e| Error { step: "exec".into(), ..e })?;
    Ok((process, name))
}

/// `UID[:GID]`. What has no number in front is a name.
fn numbers(text: &str) -> Option<(u32, Option<u32>)> {
    let id = |digits: &str| digits.parse().ok().filter(|_| !digits.starts_with('+'));
    match text.split_once(':') {
        None => Some((id(text)?, None)),
        Some((uid, gid)) => Some((id(uid)?, Some(id(gid)?))),
    }
}

/// The environment with what is added; the last one of a name counts.
fn merged(env: &[String], more: &[String]) -> Vec<String> {
    fn name(entry: &str) -> &str {
        entry.split('=').next().unwrap_or(entry)
    }
    let all: Vec<&String> = env.iter().chain(more).collect();
    let mut seen = std::collections::HashSet::new();
    let mut kept: Vec<String> = all.iter().rev().filter(|e| seen.insert(name(e))).map(|e| (*e).clone()).collect();
    kept.reverse();
    kept
}

fn capabilities(names: &[String]) -> u64 {
    names.iter().fold(0, |bits, name| {
        let upper = name.to_ascii_uppercase();
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        match full.parse::<caps::Capability>() {
            Ok(cap) => bits | 1 << cap.index(),
            Err(_) => {
                // As other runtimes do: a name from the future grants nothing.
                crate::log::debug(&format!("--cap {name}: not a capability, nothing is given"));
                bits
            }
        }
    })
}

/// The process file: a regular file, or a pipe such as a shell's `<(...)`, which ends.
fn read_process(path: &Path) -> Result<Vec<u8>> {
    const MOST: u64 = 16 << 20;
    let shown = path.display().to_string();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .at("--process", &shown)?
        .take(MOST + 1)
        .read_to_end(&mut bytes)
        .at("--process", &shown)?;
    if bytes.len() as u64 > MOST {
        return Err(Error::new("--process", shown, format!("larger than {} MiB", MOST >> 20)));
    }
    Ok(bytes)
}

/// Where in the cgroups the process goes.
#[derive(Debug, Default)]
struct Place {
    cgroup: Option<String>,
    init: Option<String>,
    scope: Option<(cgroup::systemd::Scope, String)>,
}

impl Place {
    fn find(record: Option<&CgroupRecord>, asked: &[String], state: &State, privileged: bool) -> Result<Place> {
        let Some(record) = record else {
            return match asked.first() {
                Some(path) => Err(Error::new("--cgroup", path.as_str(), "the container has no cgroup")),
                None => Ok(Place::default()),
            };
        };
        let below = below(asked)?;
        let top = record.path.trim_end_matches('/');
        let init = asked.is_empty().then(|| cgroup_of(state.init.pid)).flatten();
        Ok(Place {
            cgroup: Some(format!("{top}{below}")),
            init: init.filter(|path| path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'))),
            // The cgroup's owner may lack the rights in the cgroup above both, where we are.
            scope: record.scope.clone().filter(|_| !privileged).map(|scope| (scope, below)),
        })
    }
}

/// The one path of `--cgroup`, from the container's own; "" for its top.
fn below(asked: &[String]) -> Result<String> {
    let [path] = asked else {
        return match asked {
            [] => Ok(String::new()),
            _ => Err(Error::new("--cgroup", asked.join(" "), "cgroup v2 has one hierarchy: one path is enough")),
        };
    };
    if let Some((controllers, _)) = path.split_once(':') {
        return Err(Error::new(
            "--cgroup",
            path.as_str(),
            format!("unknown controller {controllers:?}: cgroup v2 has one hierarchy"),
        )
        .hint("give the path alone"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(Error::new("--cgroup", path.as_str(), "bad sub cgroup path: .. is not a sub cgroup path"));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok(parts.iter().map(|part| format!("/{part}")).collect())
}

/// The cgroup v2 of a process, relative to the mount.
fn cgroup_of(pid: i32) -> Option<String> {
    let text = read_small(format!("/proc/{pid}/cgroup"), 1 << 16).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_variable_of_a_name_counts() {
        let list = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let env = list(&["PATH=/bin", "A=1", "B=2"]);
        assert_eq!(merged(&env, &list(&["A=3", "C=", "A=4"])), list(&["PATH=/bin", "B=2", "C=", "A=4"]));
    }

    #[test]
    fn users_by_number_and_by_name() {
        assert_eq!(numbers("7"), Some((7, None)));
        assert_eq!(numbers("7:8"), Some((7, Some(8))));
        for name in ["ann", "ann:7", "7:staff", "-1", "", "7:", "5000000000"] {
            assert_eq!(numbers(name), None, "{name:?}");
        }
    }

    #[test]
    fn cgroup_paths_stay_below() {
        let one = |path: &str| below(&[path.to_owned()]);
        assert_eq!(below(&[]).unwrap(), "");
        assert_eq!(one("/").unwrap(), "");
        assert_eq!(one("a//b/.").unwrap(), "/a/b");
        assert!(one("a/../../b").unwrap_err().to_string().contains("bad sub cgroup path"));
        assert!(one("memory:a").unwrap_err().to_string().contains("unknown controller"));
        assert!(below(&["a".into(), "b".into()]).is_err());
    }
}
