//! Decide: a process more in a container that runs.
//!
//! `create` records what confines the container (`Confinement`); an exec is planned from that record alone and never from
//! the bundle, which may have changed since. The process gets the same confinement as init, or less. More capabilities
//! than init could ever have are a wish above the ceiling, judged by the policy that the container was made under.

use super::credentials::{self, bits_of, names};
use super::landlock::Landlock;
use super::process::{Rules, Shape};
use super::step::SockFilter;
use super::{Caps, Filter, IdMap, Listener, Ns, Plan, Step, finding};
use crate::cgroup::systemd::Scope;
use crate::error::{Error, Result};
use crate::policy::{Above, Finding};
use nix::errno::Errno;
use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

/// What confines every process of a container: recorded at create, root-only.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confinement {
    /// The policy in force.
    pub policy: String,
    /// The namespaces that are not the runtime's.
    pub namespaces: Vec<Ns>,
    /// Those of them that others made.
    #[serde(default)]
    pub joined: Vec<Ns>,
    /// The host owns the cgroup namespace, because criu made the rest inside of it: nobody can join it from the
    /// container's user namespace, so who comes later makes one of the same view.
    #[serde(default)]
    pub cgroup_namespace_again: bool,
    /// The uid map; empty without a user namespace of its own.
    pub uids: Vec<IdMap>,
    /// The gid map.
    pub gids: Vec<IdMap>,
    /// Who prepares a process inside.
    pub builder: Option<(u32, u32)>,
    /// Whether setgroups(2) works inside.
    pub setgroups: bool,
    /// A new session keyring for each process.
    pub keyring: bool,
    /// The config's process: what an exec is silent about.
    pub process: Process,
    /// How a process runs that asks for nothing else.
    pub shape: Shape,
    /// What is said to one that does.
    pub rules: Rules,
    /// The sets of init.
    pub caps: Caps,
    /// What happens to a wish beyond init's bounding set.
    pub above: Above,
    /// What happens to a field of a process file that nobody knows.
    pub unknown_fields: Above,
    /// no_new_privs.
    pub no_new_privs: bool,
    /// The filters.
    pub filters: Vec<Recorded>,
    /// The Landlock domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landlock: Option<Landlock>,
}

/// A filter, as it is remembered: the program in hexadecimal, eight bytes an instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    profile: String,
    flags: u64,
    program: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listener: Option<Listener>,
}

impl From<&Filter> for Recorded {
    fn from(filter: &Filter) -> Recorded {
        // One by one: a thousand calls of format! took longer than to compile the filter.
        let mut program = String::with_capacity(filter.program.len() * 16);
        for i in &filter.program {
            let bits = u64::from(i.code) << 48 | u64::from(i.jt) << 40 | u64::from(i.jf) << 32 | u64::from(i.k);
            program.extend(
                (0..16).rev().map(|digit| char::from(b"0123456789abcdef"[(bits >> (4 * digit) & 15) as usize])),
            );
        }
        Recorded { profile: filter.profile.clone(), flags: filter.flags, program, listener: filter.listener.clone() }
    }
}

impl Recorded {
    /// Where its profile is from.
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// The filter again; none where the record is damaged, and half a filter is none.
    pub fn filter(&self) -> Option<Filter> {
        fn number(text: &str, from: usize, to: usize) -> Option<u32> {
            // `from_str_radix` takes a sign, too.
            let digits = text.get(from..to).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            u32::from_str_radix(digits, 16).ok()
        }
        let text = &self.program;
        if text.is_empty() || !text.len().is_multiple_of(16) {
            return None;
        }
        let program: Option<Vec<SockFilter>> = (0..text.len())
            .step_by(16)
            .map(|at| {
                Some(SockFilter {
                    code: number(text, at, at + 4)? as u16,
                    jt: number(text, at + 4, at + 6)? as u8,
                    jf: number(text, at + 6, at + 8)? as u8,
                    k: number(text, at + 8, at + 16)?,
                })
            })
            .collect();
        let program = program?;
        Some(Filter {
            profile: self.profile.clone(),
            instructions: program.len(),
            flags: self.flags,
            program,
            source: None,
            listener: self.listener.clone(),
            watched: None,
        })
    }
}

/// What an exec asks.
#[derive(Debug, Clone)]
pub struct Request {
    /// The container's id.
    pub id: String,
    /// The process. Where it names no capabilities or rlimits, those of init count.
    pub process: Process,
    /// A user by name, instead of the process's.
    pub user: Option<String>,
    /// Capabilities beside init's, as bits.
    pub more: u64,
    /// The cgroup, relative to the mount; none where the container has none.
    pub cgroup: Option<String>,
    /// Where init itself has gone below it, if it has: it may have made groups with controllers, and the top is closed
    /// to processes then.
    pub init_cgroup: Option<String>,
    /// The scope of systemd, where only systemd may move processes there, and the path below it.
    pub scope: Option<(Scope, String)>,
    /// Why the runtime must be a sealed copy of itself.
    pub exposed: Option<String>,
    /// Whether the runtime may raise rlimits.
    pub privileged: bool,
    /// How many descriptors above 2 are handed on.
    pub preserve_fds: u32,
}

/// The ladder of an exec.
pub fn plan(confinement: &Confinement, request: Request) -> Result<Plan> {
    let mut findings = Vec::new();
    let process = &request.process;
    let caps = capabilities(confinement, &request, &mut findings)?;
    let no_new_privs = confinement.no_new_privs || process.no_new_privileges() == Some(true);
    let filters: Option<Vec<Filter>> = confinement.filters.iter().map(Recorded::filter).collect();
    let filters = filters.ok_or_else(|| {
        Error::new("state", request.id.as_str(), "the recorded seccomp filter is damaged")
            .hint("delete the container and create it again")
    })?;
    if request.user.is_none() {
        check_ids(confinement, process)?;
    }

    let shape = confinement.shape.join(&confinement.rules, process, request.privileged, &mut findings)?;
    // The bridge does that before it is inside.
    let shaping = Shape { oom_score_adj: None, ..shape.clone() }.steps(true);

    let outside = shows(confinement);
    let mut steps: Vec<Step> = request.exposed.map(|why| Step::OwnBinary { why }).into_iter().collect();
    steps.extend(shaping.before);
    let enter = |cgroup: Option<String>| Step::Enter {
        namespaces: confinement.namespaces.clone(),
        cgroup,
        oom_score_adj: shape.oom_score_adj,
        outside,
    };
    steps.push(match (&request.scope, &request.cgroup, &request.init_cgroup) {
        (Some(_), ..) => enter(None),
        (None, Some(top), Some(below)) if top != below => Step::Try {
            step: Box::new(enter(Some(top.clone()))),
            on: vec![Errno::EBUSY],
            or: Box::new(enter(Some(below.clone()))),
            finding: finding(
                "host",
                "--cgroup",
                "silent",
                below,
                "the container has groups of its own, so processes go where its init is",
            ),
        },
        (None, top, _) => enter(top.clone()),
    });
    steps.push(Step::DieWithParent);
    if let Some((scope, below)) = &request.scope {
        steps.push(Step::AttachScope { scope: scope.clone(), below: below.clone() });
    }
    let (later, now) = super::process::around_emerge(shaping.outside, outside);
    steps.extend(now);
    steps.push(Step::Go);
    steps.push(Step::AwaitGo);
    steps.push(Step::Arrive { cgroup_namespace: confinement.namespaces.contains(&Ns::Cgroup) });
    if confinement.cgroup_namespace_again {
        steps.push(Step::UnshareCgroup);
    }
    steps.push(Step::NewSession { keyring: confinement.keyring });
    if let Some((uid, gid)) = confinement.builder {
        steps.push(Step::BecomeRoot { uid, gid });
    }
    if let Some(user) = &request.user {
        steps.push(Step::LookUpUser { user: user.clone() });
    }
    if process.terminal() == Some(true) {
        let (uid, size) = (process.user().uid(), super::mounts::console_size(process)?);
        steps.push(Step::Console { uid, size, bind: false });
    }
    steps.extend(shaping.label);
    steps.extend(shaping.inside);
    let tail = credentials::Tail {
        setgroups: confinement.setgroups,
        caps,
        no_new_privs,
        filters,
        landlock: confinement.landlock.clone(),
        start_hooks: Vec::new(),
        by_name: request.user.is_some(),
        preserve_fds: request.preserve_fds,
        listen_fds: 0,
        emerge: outside.then_some(later),
        stub: None,
    };
    credentials::tail(process, tail, &mut steps)?;
    findings.extend(credentials::seen_with_more(&steps, &caps));
    Ok(Plan {
        id: request.id,
        policy: confinement.policy.clone(),
        findings,
        cgroup: request.cgroup,
        scope: None,
        uid_map: confinement.uids.clone(),
        gid_map: confinement.gids.clone(),
        foreign_pids: false,
        steps,
        later_hooks: Vec::new(),
        confinement: confinement.clone(),
    })
}

/// Whether processes of the container may have rights over the memory of one that comes in: a process belongs to the user
/// namespace that its program was executed in, for ptrace(2) the runtime's. Where the container has that one, too,
/// CAP_SYS_PTRACE inside is enough.
fn shows(confinement: &Confinement) -> bool {
    let own = |ns| confinement.namespaces.contains(&ns);
    !own(Ns::User) && own(Ns::Pid)
}

/// Init's sets, or those that the process file names, and what `--cap` adds: up to init's bounding set, and beyond it as
/// the policy says.
fn capabilities(confinement: &Confinement, request: &Request, findings: &mut Vec<Finding>) -> Result<Caps> {
    let mut caps = match request.process.capabilities() {
        None => confinement.caps,
        Some(asked) => Caps {
            bounding: bits_of(asked.bounding().as_ref()),
            effective: bits_of(asked.effective().as_ref()),
            permitted: bits_of(asked.permitted().as_ref()),
            inheritable: bits_of(asked.inheritable().as_ref()),
            ambient: bits_of(asked.ambient().as_ref()),
        },
    };
    caps.bounding |= request.more;
    caps.effective |= request.more;
    caps.permitted |= request.more;
    if caps.effective & !caps.permitted != 0 {
        return Err(Error::new(
            "process",
            "capabilities.effective",
            format!("{} not in permitted", names(caps.effective & !caps.permitted).join(" ")),
        ));
    }
    let most = confinement.caps.bounding;
    let beyond = (caps.bounding | caps.permitted | caps.inheritable | caps.ambient) & !most;
    if beyond != 0 {
        let shown = names(beyond).join(" ");
        let why = "more than the container's own bounding set";
        match confinement.above {
            Above::Allow => {}
            // What a person typed is given or refused, never quietly left out.
            above if above == Above::Refuse || request.more & beyond != 0 => {
                return Err(Error::new(
                    format!("policy {}", confinement.policy),
                    "capabilities",
                    format!("{shown}: {why}"),
                )
                .hint("an operator's policy with capabilities.above allows it, for containers made under it"));
            }
            _ => {
                findings.push(finding("capabilities", "process.capabilities", &shown, "not given", why));
                for set in [
                    &mut caps.bounding,
                    &mut caps.effective,
                    &mut caps.permitted,
                    &mut caps.inheritable,
                    &mut caps.ambient,
                ] {
                    *set &= most;
                }
            }
        }
    }
    if confinement.above != Above::Allow {
        // A file with inheritable bits would revive them (CVE-2022-29162).
        caps.inheritable &= caps.ambient;
    }
    // The kernel raises only what is permitted and inheritable.
    caps.ambient &= caps.permitted & caps.inheritable;
    Ok(caps)
}

fn check_ids(confinement: &Confinement, process: &Process) -> Result<()> {
    let user = process.user();
    let groups = user.additional_gids().iter().flatten();
    let ids = [("uid", &confinement.uids, user.uid()), ("gid", &confinement.gids, user.gid())]
        .into_iter()
        .chain(groups.map(|g| ("additional gid", &confinement.gids, *g)));
    for (what, maps, id) in ids {
        let mapped = maps.is_empty() || maps.iter().any(|m| id >= m.inside && id - m.inside < m.count);
        if !mapped {
            return Err(Error::new("user", format!("{what} {id}"), "is not in the container's id map"));
        }
    }
    if !confinement.setgroups && user.additional_gids().as_ref().is_some_and(|g| !g.is_empty()) {
        return Err(Error::new("user", "additional gids", "a user namespace with a single id cannot set groups"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_survives_its_record() {
        let program = vec![
            SockFilter { code: 0x20, jt: 0, jf: 0, k: 4 },
            SockFilter { code: 0x15, jt: 1, jf: 255, k: 0xc000_003e },
            SockFilter { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 },
        ];
        let filter = Filter {
            profile: "default".into(),
            instructions: 3,
            flags: 2,
            program,
            source: None,
            listener: None,
            watched: None,
        };
        let recorded = Recorded::from(&filter);
        let json = serde_json::to_string(&recorded).unwrap();
        let back: Recorded = serde_json::from_str(&json).unwrap();
        let again = back.filter().unwrap();
        assert_eq!(Recorded::from(&again), recorded);
        assert_eq!((again.program[1].jf, again.program[1].k, again.flags), (255, 0xc000_003e, 2));
    }

    #[test]
    fn a_damaged_record_is_no_filter() {
        let whole = Recorded { profile: "x".into(), flags: 0, program: "0006000000000000".into(), listener: None };
        assert!(whole.filter().is_some());
        for broken in ["", "000600000000000", "0006000000000000ffff", "00060000000000é", "000600000000000g"] {
            assert!(Recorded { program: broken.into(), ..whole.clone() }.filter().is_none(), "{broken:?}");
        }
    }
}
