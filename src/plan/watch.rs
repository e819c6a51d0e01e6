//! Decide: a launch on which the runtime looks on, by seccomp user notification.
//!
//! `--denials` wants to hear of each call that a filter denies, `seccomp record` of each call at all. For the first the
//! filters become one program: of stacked ones, a question that the one asks is hidden by the errno of the other. For the
//! second one more filter is laid on top of the policy's floor, which goes on denying what no recorded profile could allow.

use super::{Draft, Filter, Plan, Step, Watched, attr};
use crate::error::{Error, Result};
use crate::policy::Profile;
use crate::seccomp;
use nix::libc;
use oci_spec::runtime::LinuxSeccomp;

/// Whether the runtime looks on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Watch {
    /// No.
    #[default]
    No,
    /// At what is denied: it is told, and the errno is answered.
    Denials,
    /// At every call: it is noted, and goes on.
    Record,
}

/// The filters of a launch that is watched.
pub fn merge(draft: &Draft, filters: Vec<Filter>) -> Result<Vec<Filter>> {
    let (flag, profiles, name, program) = match draft.options.watch {
        Watch::No => return Ok(filters),
        Watch::Denials if filters.is_empty() => return Ok(filters),
        Watch::Denials => {
            let of = |f: &Filter| Some((f.profile.clone(), f.source.as_deref()?.clone()));
            let profiles: Vec<(String, LinuxSeccomp)> = filters.iter().filter_map(of).collect();
            let stack: Vec<&LinuxSeccomp> = profiles.iter().map(|(_, profile)| profile).collect();
            if stack.iter().any(|p| seccomp::notifies(p)) {
                let why =
                    "has SCMP_ACT_NOTIFY: an agent of its own is asked, and the kernel gives a process one listener";
                return Err(Error::new("--denials", "linux.seccomp", why).hint("run it without --denials"));
            }
            // What none of them denies, and the kernel may for want of a capability, is asked about to be told, and goes on.
            let asks =
                profiles.split_last().filter(|_| profiles.iter().all(|(_, p)| seccomp::lack::asking(p).is_some()));
            let asks = asks.and_then(|((_, last), _)| seccomp::lack::asking(last));
            let stack: Vec<&LinuxSeccomp> = match (&asks, stack.split_last()) {
                (Some(last), Some((_, others))) => others.iter().copied().chain([last]).collect(),
                _ => stack,
            };
            let program = seccomp::compile_asking(&stack).map_err(|e| Error { step: "--denials".into(), ..e })?;
            let names: Vec<_> = profiles.iter().map(|(name, _)| name.as_str()).collect();
            ("--denials", profiles.clone(), names.join(" and "), program)
        }
        Watch::Record => ("seccomp record", Vec::new(), "recording".to_owned(), seccomp::compile(&everything()?)?),
    };
    let kernel = draft.host.kernel_version();
    if kernel < (5, 6) {
        let why = format!("needs pidfd_getfd(2): Linux 5.6, and this is {}.{}", kernel.0, kernel.1);
        return Err(Error::new(flag, "seccomp", why));
    }
    // A signal that arrives while we judge would make the kernel ask again.
    let killable = if kernel >= (5, 19) { libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV } else { 0 };
    let watching = Filter {
        profile: name,
        instructions: program.insns.len(),
        flags: program.flags | killable,
        program: program.insns,
        source: None,
        listener: None,
        watched: Some(Watched {
            profiles,
            policy: draft.policy.name.clone(),
            floor: draft.policy.seccomp.floor != Profile::None,
            dumpable: !draft.host.privileged(),
        }),
    };
    let kept = if draft.options.watch == Watch::Record { filters } else { Vec::new() };
    Ok(kept.into_iter().chain([watching]).collect())
}

/// What else of this plan makes calls fail, and no filter hears of: hints for a run that failed, and no more than that.
pub fn unseen(plan: &Plan) -> Vec<String> {
    let mut hints = Vec::new();
    let steps = || plan.steps.iter().map(Step::first);
    let root = |target: &std::path::Path| target == std::path::Path::new("/");
    if steps().any(|s| matches!(s, Step::SetAttr { target, attr } if root(target) && attr.top().0 & attr::RDONLY != 0))
    {
        hints.push("EROFS, which no filter hears of: the root is read-only (root.readonly)".to_owned());
    }
    let (mut masked, mut fixed) = (0, 0);
    for step in steps() {
        match step {
            Step::Mask { paths } => masked += paths.len(),
            Step::ReadonlyPaths { paths } => fixed += paths.len(),
            _ => {}
        }
    }
    if masked + fixed > 0 {
        hints.push(format!(
            "EACCES, EROFS or an empty file: {masked} paths are masked (linux.maskedPaths), {fixed} read-only (linux.readonlyPaths)"
        ));
    }
    if steps().any(|s| matches!(s, Step::Landlock { .. })) {
        hints.push("EACCES outside of what `stockade explain` shows under Landlock".to_owned());
    }
    if let Some(Step::Capabilities { names, .. }) = steps().rfind(|s| matches!(s, Step::Capabilities { .. })) {
        let have = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
        hints.push(format!("EPERM of the kernel itself: the capabilities are {have}"));
    }
    hints
}

/// Asks about every call of every way into this kernel.
fn everything() -> Result<LinuxSeccomp> {
    let text = r#"{"defaultAction": "SCMP_ACT_NOTIFY",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"]}"#;
    crate::json::from_str(text).map_err(|e| Error::new("seccomp record", "profile", e.to_string()))
}
