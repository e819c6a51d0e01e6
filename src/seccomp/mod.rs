//! seccomp: from an OCI profile to the program that the kernel runs before every system call.
//!
//! Stands in the deciding half of the house: pure, no system calls. `plan` compiles the profile and checks with
//! [`verdict`] that our own last calls (execve, write, exit_group) are permitted; the executor only installs.
//! [`compile`] is the fast way to an answer, [`verdict`] the slow and plain one; the tests hold them equal, so read
//! [`verdict`] to learn what a profile means here.

pub mod answer;
pub mod change;
mod compile;
pub mod decode;
#[cfg(test)]
mod emulate;
pub mod explain;
pub mod lack;
pub mod outcomes;
pub mod syscalls;
#[cfg(test)]
mod tests;

pub use compile::{compile, compile_asking};

use crate::error::{Error, Result};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Op, LinuxSyscall,
};
use syscalls::{Abi, X32_BIT, X32_ONLY};

/// The profile for a bundle that brings none; `profiles/seccomp/README.md` explains it rule by rule.
pub const DEFAULT_PROFILE: &str = include_str!("../../profiles/seccomp/default.json");

/// A compiled filter.
#[derive(Debug, Clone)]
pub struct Program {
    /// What seccomp(2) takes.
    pub insns: Vec<libc::sock_filter>,
    /// SECCOMP_FILTER_FLAG_* that the profile asks for: LOG, SPEC_ALLOW, WAIT_KILLABLE_RECV. TSYNC is accepted and
    /// means nothing, because a single thread installs the filter.
    pub flags: u64,
    /// Names of system calls that no architecture knows, and architectures that this machine cannot run: the entry
    /// is skipped, the caller makes a finding of it. Sorted, each once.
    pub ignored: Vec<String>,
    /// What the profile says and a reader may take otherwise, one sentence each.
    pub notes: Vec<String>,
    /// An action is SCMP_ACT_NOTIFY: the filter needs a listener.
    pub notify: bool,
}

/// What a filter answers to one system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The whole process dies.
    KillProcess,
    /// The calling thread dies.
    KillThread,
    /// SIGSYS.
    Trap,
    /// Not executed; this errno is the result.
    Errno(u16),
    /// An agent decides.
    Notify,
    /// A tracer decides, and sees this number.
    Trace(u16),
    /// Executed and logged.
    Log,
    /// Executed.
    Allow,
}

impl Verdict {
    /// The value that a filter returns for it.
    pub fn ret(self) -> u32 {
        match self {
            Verdict::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
            Verdict::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Verdict::Trap => libc::SECCOMP_RET_TRAP,
            Verdict::Errno(n) => libc::SECCOMP_RET_ERRNO | u32::from(n),
            Verdict::Notify => libc::SECCOMP_RET_USER_NOTIF,
            Verdict::Trace(n) => libc::SECCOMP_RET_TRACE | u32::from(n),
            Verdict::Log => libc::SECCOMP_RET_LOG,
            Verdict::Allow => libc::SECCOMP_RET_ALLOW,
        }
    }

    /// The verdict behind a value that a filter returned. One that the kernel does not know kills the process.
    pub fn from_ret(ret: u32) -> Verdict {
        let data = (ret & libc::SECCOMP_RET_DATA) as u16;
        match ret & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_KILL_THREAD => Verdict::KillThread,
            libc::SECCOMP_RET_TRAP => Verdict::Trap,
            libc::SECCOMP_RET_ERRNO => Verdict::Errno(data),
            libc::SECCOMP_RET_USER_NOTIF => Verdict::Notify,
            libc::SECCOMP_RET_TRACE => Verdict::Trace(data),
            libc::SECCOMP_RET_LOG => Verdict::Log,
            libc::SECCOMP_RET_ALLOW => Verdict::Allow,
            _ => Verdict::KillProcess,
        }
    }

    /// In a word or two: an errno by its name.
    pub fn word(self) -> String {
        match self {
            Verdict::KillProcess => "kill the process".to_owned(),
            Verdict::KillThread => "kill the thread".to_owned(),
            Verdict::Trap => "SIGSYS".to_owned(),
            Verdict::Errno(n) => format!("{:?}", nix::errno::Errno::from_raw(i32::from(n))),
            Verdict::Notify => "an agent decides".to_owned(),
            Verdict::Trace(_) => "a tracer decides".to_owned(),
            Verdict::Log => "allowed and logged".to_owned(),
            Verdict::Allow => "allowed".to_owned(),
        }
    }

    /// Does the system call happen, without anybody to ask?
    pub fn permits(self) -> bool {
        matches!(self, Verdict::Allow | Verdict::Log)
    }

    /// The kernel's own order among stacked filters: the lower, the stricter. The errno does not count.
    fn rank(self) -> i32 {
        (self.ret() & libc::SECCOMP_RET_ACTION_FULL) as i32
    }

    fn of(action: Action, errno: Option<u32>) -> Verdict {
        let data = errno.map_or(libc::EPERM as u16, |n| n as u16);
        match action {
            Action::ScmpActKill | Action::ScmpActKillThread => Verdict::KillThread,
            Action::ScmpActKillProcess => Verdict::KillProcess,
            Action::ScmpActTrap => Verdict::Trap,
            Action::ScmpActErrno => Verdict::Errno(data),
            Action::ScmpActTrace => Verdict::Trace(data),
            Action::ScmpActNotify => Verdict::Notify,
            Action::ScmpActLog => Verdict::Log,
            Action::ScmpActAllow => Verdict::Allow,
        }
    }
}

/// What in a profile decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The entry at this place of `syscalls`.
    Entry(usize),
    /// No entry: the default action.
    Default,
    /// No entry, and the call is newer than all that the profile names.
    Newer,
    /// The architecture is not listed.
    Architecture,
}

/// Parses [`DEFAULT_PROFILE`].
pub fn default_profile() -> Result<LinuxSeccomp> {
    crate::json::from_str(DEFAULT_PROFILE)
        .map_err(|e| Error::new("linux.seccomp", "profiles/seccomp/default.json", e.to_string()))
}

/// The same without what packages bring: setuid and setgid bits, and device nodes, which CAP_MKNOD and the device program
/// judge.
pub fn build_profile() -> Result<LinuxSeccomp> {
    const OPENED: [&str; 9] =
        ["chmod", "fchmod", "creat", "fchmodat", "fchmodat2", "open", "openat", "mknod", "mknodat"];
    let mut profile = default_profile()?;
    let mut opened = Vec::new();
    for mut entry in profile.syscalls().clone().unwrap_or_default() {
        let is_opened = |name: &String| OPENED.contains(&name.as_str());
        if entry.names().iter().all(is_opened) && entry.action() == Action::ScmpActAllow {
            entry.set_args(None);
        }
        opened.push(entry);
    }
    profile.set_syscalls(Some(opened));
    Ok(profile)
}

/// Does the profile ask an agent?
pub fn notifies(profile: &LinuxSeccomp) -> bool {
    let asks = |action: Action| action == Action::ScmpActNotify;
    asks(profile.default_action()) || entries(profile).iter().any(|e| asks(e.action()))
}

/// What the profile says about one system call on this machine: `arch` and `nr` are as in `struct seccomp_data`.
///
/// This is the meaning of a profile, in the order in which it is read:
/// 1. The native architecture is always listed. Others kill the process. So does an x32 number where x32 is not
///    listed, but for -1, which the kernel itself answers.
/// 2. Of all entries that match, the strictest action counts (the kernel's own order among stacked filters), and of
///    equally strict ones the first. An unconditional entry that repeats the default is no entry.
/// 3. Where nothing matches, the default action counts; but if that is an errno and the number is above every one
///    that the profile names, the answer is ENOSYS: the author did not know the call, and a libc falls back on ENOSYS
///    only.
///
/// The profile must be one that [`compile`] accepts.
pub fn verdict(profile: &LinuxSeccomp, arch: u32, nr: u32, args: [u64; 6]) -> Verdict {
    judge(profile, arch, nr, args).0
}

/// The same with what decided it.
pub fn judge(profile: &LinuxSeccomp, arch: u32, nr: u32, args: [u64; 6]) -> (Verdict, By) {
    judge_on(Abi::NATIVE, profile, arch, nr, args)
}

#[cfg(test)]
fn verdict_on(native: Abi, profile: &LinuxSeccomp, arch: u32, nr: u32, args: [u64; 6]) -> Verdict {
    judge_on(native, profile, arch, nr, args).0
}

fn judge_on(native: Abi, profile: &LinuxSeccomp, arch: u32, nr: u32, args: [u64; 6]) -> (Verdict, By) {
    let (abis, _) = architectures(profile, native);
    let listed = |abi: Abi| abis.contains(&abi) && abi.audit() == arch;
    let (abi, number) = if listed(Abi::X32) && nr >= X32_BIT {
        (Abi::X32, nr - X32_BIT)
    } else if listed(Abi::X86_64) && (nr < X32_BIT || nr == u32::MAX) {
        (Abi::X86_64, nr)
    } else if listed(Abi::I386) {
        (Abi::I386, nr)
    } else if listed(Abi::Aarch64) {
        (Abi::Aarch64, nr)
    } else {
        return (Verdict::KillProcess, By::Architecture);
    };
    let name = syscalls::name(abi, number);

    let default = Verdict::of(profile.default_action(), profile.default_errno_ret());
    let mut answer: Option<(Verdict, usize)> = None;
    for (place, entry) in entries(profile).iter().enumerate() {
        let action = Verdict::of(entry.action(), entry.errno_ret());
        let conditions = conditions(entry);
        let names_it = entry.names().iter().any(|n| Some(n.as_str()) == name);
        let matches = (names_it && holds(action, default, conditions, args))
            || (abi == Abi::I386 && conditions.is_empty() && entry.names().iter().any(|n| inside(n, name, args)));
        let repeats_default = action == default && conditions.is_empty();
        if matches && !repeats_default && answer.is_none_or(|(a, _)| action.rank() < a.rank()) {
            answer = Some((action, place));
        }
    }
    match (answer, default) {
        (Some((answer, place)), _) => (answer, By::Entry(place)),
        (None, Verdict::Errno(_)) if newer(profile, abi, number) => (Verdict::Errno(libc::ENOSYS as u16), By::Newer),
        (None, _) => (default, By::Default),
    }
}

/// Is this call of `socketcall` or `ipc` the one that an entry names? As in libseccomp, for entries without
/// conditions only: the arguments lie behind a pointer there.
fn inside(entry_name: &str, call: Option<&str>, args: [u64; 6]) -> bool {
    matches!(call, Some("socketcall" | "ipc"))
        && syscalls::carried(entry_name)
            .is_some_and(|(carrier, mask, code)| Some(carrier) == call && args[0] & mask == code)
}

/// Is this number above all that the profile names? The numbers of x32's own say nothing about age.
fn newer(profile: &LinuxSeccomp, abi: Abi, number: u32) -> bool {
    let counts = |n: &u32| abi != Abi::X32 || !X32_ONLY.contains(n);
    let names = entries(profile).iter().flat_map(|e| e.names());
    let newest = names.filter_map(|n| syscalls::Syscall::named(n)?.number(abi)).filter(counts).max();
    newest.is_some_and(|newest| number > newest) && counts(&number)
}

/// Do the conditions of an entry hold? All of them must: that is what is written.
///
/// But when one argument is named twice, runc and crun read every condition of the entry as an entry of its own (the
/// limit of libseccomp, and by now a habit), and there are profiles for either reading. We take the one that lets
/// less through, so what runc denies is denied here:
/// - an entry stricter than the default (or as strict) counts as soon as one condition holds;
/// - an entry looser than the default needs all of them, except that several EQ on one argument are a list of values,
///   because no argument equals two.
fn holds(action: Verdict, default: Verdict, conditions: &[LinuxSeccompArg], args: [u64; 6]) -> bool {
    if !twice(conditions) {
        conditions.iter().all(|c| compares(c, args))
    } else if action.rank() <= default.rank() {
        conditions.iter().any(|c| compares(c, args))
    } else {
        conditions.iter().all(|c| match c.op() {
            Op::ScmpCmpEq => conditions
                .iter()
                .any(|other| other.op() == Op::ScmpCmpEq && other.index() == c.index() && compares(other, args)),
            _ => compares(c, args),
        })
    }
}

/// Whether all of the conditions must hold: see [`holds`].
fn holds_as_written(action: Verdict, default: Verdict, conditions: &[LinuxSeccompArg]) -> bool {
    !twice(conditions) || action.rank() > default.rank()
}

/// One condition, in full 64 bits. In MASKED_EQ `value` is the mask, and bits of `valueTwo` outside it do not count
/// (as in libseccomp: otherwise a typing error would make a denial that never matches).
fn compares(c: &LinuxSeccompArg, args: [u64; 6]) -> bool {
    let Some(&arg) = args.get(c.index()) else { return false };
    let value = c.value();
    match c.op() {
        Op::ScmpCmpNe => arg != value,
        Op::ScmpCmpLt => arg < value,
        Op::ScmpCmpLe => arg <= value,
        Op::ScmpCmpEq => arg == value,
        Op::ScmpCmpGe => arg >= value,
        Op::ScmpCmpGt => arg > value,
        Op::ScmpCmpMaskedEq => arg & value == c.value_two().unwrap_or(0) & value,
    }
}

/// Is an argument named twice?
fn twice(conditions: &[LinuxSeccompArg]) -> bool {
    let mut seen = 0u64;
    conditions.iter().any(|c| {
        let bit = 1 << (c.index() % 64);
        let again = seen & bit != 0;
        seen |= bit;
        again
    })
}

fn entries(profile: &LinuxSeccomp) -> &[LinuxSyscall] {
    profile.syscalls().as_deref().unwrap_or(&[])
}

fn conditions(entry: &LinuxSyscall) -> &[LinuxSeccompArg] {
    entry.args().as_deref().unwrap_or(&[])
}

/// The numberings that a profile covers, the native one first and always; and the architectures that it lists and
/// this machine cannot run. Those are harmless: what is not covered is killed.
fn architectures(profile: &LinuxSeccomp, native: Abi) -> (Vec<Abi>, Vec<Arch>) {
    let mut abis = vec![native];
    let mut foreign = vec![];
    for &arch in profile.architectures().as_deref().unwrap_or(&[]) {
        let abi = match (native, arch) {
            (_, Arch::ScmpArchNative) | (Abi::X86_64, Arch::ScmpArchX86_64) | (Abi::Aarch64, Arch::ScmpArchAarch64) => {
                native
            }
            (Abi::X86_64, Arch::ScmpArchX86) => Abi::I386,
            (Abi::X86_64, Arch::ScmpArchX32) => Abi::X32,
            _ => {
                foreign.push(arch);
                continue;
            }
        };
        if !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    (abis, foreign)
}
