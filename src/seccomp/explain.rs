//! A profile in words: what `seccomp show`, `diff` and `test` say; and how a recorded one is put together.
//!
//! Pure. What is said of a system call is taken from the entries as [`super::verdict`] reads them, so two profiles that are
//! written differently and mean the same differ in nothing.

use super::change::{Call, narrowed, permit};
use super::syscalls::{self, Abi, Syscall};
use super::{Verdict, conditions, decode, entries, holds_as_written};
use crate::error::{Error, Result};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Op, LinuxSyscall,
    LinuxSyscallBuilder,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// What a recorded profile has, whether it was seen or not: what the runtime calls once the filter is in force (execve, and
/// exit_group and write where that fails), what the kernel has a program call when a signal comes, and what the vDSO answers
/// on the one machine and the kernel on the other.
const ALWAYS: [&str; 9] = [
    "clock_gettime",
    "execve",
    "exit_group",
    "getcpu",
    "gettimeofday",
    "restart_syscall",
    "rt_sigreturn",
    "time",
    "write",
];

/// Where libcs and languages take the older way only when they are told that the newer one does not exist.
const FALL_BACK: [&str; 6] = ["clone3", "faccessat2", "fchmodat2", "memfd_secret", "openat2", "statx"];

/// What Docker's default profile (v0.2.3, x86_64, its default capabilities) leaves out: all others are allowed.
const NOT_DOCKERS: [&str; 76] = [
    "_sysctl",
    "acct",
    "add_key",
    "afs_syscall",
    "bpf",
    "clock_settime",
    "clone",
    "clone3",
    "create_module",
    "delete_module",
    "fanotify_init",
    "file_getattr",
    "file_setattr",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_kernel_syms",
    "get_mempolicy",
    "getpmsg",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "lsm_get_self_attr",
    "lsm_list_modules",
    "lsm_set_self_attr",
    "mbind",
    "migrate_pages",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "open_tree_attr",
    "perf_event_open",
    "personality",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "putpmsg",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "security",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "socket",
    "swapoff",
    "swapon",
    "sysfs",
    "syslog",
    "tuxcall",
    "umount2",
    "unshare",
    "uprobe",
    "uselib",
    "userfaultfd",
    "ustat",
    "vhangup",
];

/// Docker's default profile, in our words.
pub fn docker_profile() -> Result<LinuxSeccomp> {
    let left_out = |n: &&str| !NOT_DOCKERS.contains(n) && *n != "vserver";
    let allowed: Vec<&str> = native_names().filter(left_out).collect();
    let one = |name: &str, op: &str, value: u64| json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "op": op, "value": value }] });
    let mut list = vec![json!({ "names": allowed, "action": "SCMP_ACT_ALLOW" })];
    list.extend([("LT", 38), ("EQ", 39), ("GT", 40)].map(|(op, v)| one("socket", &format!("SCMP_CMP_{op}"), v)));
    list.extend([0, 8, 0x20000, 0x20008, 0xffff_ffff].map(|v| one("personality", "SCMP_CMP_EQ", v)));
    list.push(one("clone", "SCMP_CMP_MASKED_EQ", 0x7e02_0000));
    list.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }));
    let architectures = match Abi::NATIVE {
        Abi::Aarch64 => json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        _ => json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
    };
    let profile = json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": architectures,
        "syscalls": list });
    crate::json::from_value(&profile).map_err(|e| Error::new("seccomp", "docker", e.to_string()))
}

/// All names that this machine has a number for.
pub fn native_names() -> impl Iterator<Item = &'static str> {
    syscalls::all_names().filter(|name| native(name).is_some())
}

/// The number of a name on this machine.
pub fn native(name: &str) -> Option<u32> {
    Syscall::named(name)?.number(Abi::NATIVE)
}

/// What a profile says about a name: each answer with its conditions, the strictest first.
pub fn about(profile: &LinuxSeccomp, name: &str) -> String {
    let Some(nr) = native(name) else { return "no such system call here".to_owned() };
    let default = Verdict::of(profile.default_action(), profile.default_errno_ret());
    let mut answers: BTreeMap<(i32, String), BTreeSet<String>> = BTreeMap::new();
    let mut always: Option<Verdict> = None;
    for entry in entries(profile).iter().filter(|e| e.names().iter().any(|n| n == name)) {
        let verdict = Verdict::of(entry.action(), entry.errno_ret());
        if conditions(entry).is_empty() {
            if verdict != default && always.is_none_or(|a| verdict.rank() < a.rank()) {
                always = Some(verdict);
            }
            continue;
        }
        let joined = if holds_as_written(verdict, default, conditions(entry)) { " and " } else { " or " };
        let words: Vec<String> = conditions(entry).iter().map(condition).collect();
        answers.entry((verdict.rank(), answer(verdict))).or_default().insert(words.join(joined));
    }
    let otherwise = always.unwrap_or_else(|| {
        // An argument that nobody names: so no condition but a negative one holds, and those were collected.
        match default {
            Verdict::Errno(_) if super::newer(profile, Abi::NATIVE, nr) => Verdict::Errno(nix::libc::ENOSYS as u16),
            _ => default,
        }
    });
    answers.retain(|(rank, word), _| *rank < otherwise.rank() || (always.is_none() && *word != answer(otherwise)));
    let mut words: Vec<String> = answers
        .into_iter()
        .map(|((_, word), list)| format!("{word} if {}", list.into_iter().collect::<Vec<_>>().join("; or ")))
        .collect();
    words.push(match words.is_empty() {
        true => answer(otherwise),
        false => format!("else {}", answer(otherwise)),
    });
    words.join(", ")
}

/// A verdict in a word.
pub fn answer(verdict: Verdict) -> String {
    match verdict {
        Verdict::KillProcess => "kill the process".to_owned(),
        Verdict::KillThread => "kill the thread".to_owned(),
        Verdict::Trap => "SIGSYS".to_owned(),
        Verdict::Errno(n) => decode::errno(n),
        Verdict::Notify => "ask an agent".to_owned(),
        Verdict::Trace(_) => "ask a tracer (ENOSYS without)".to_owned(),
        Verdict::Log => "allow and log".to_owned(),
        Verdict::Allow => "allow".to_owned(),
    }
}

fn condition(c: &LinuxSeccompArg) -> String {
    let (arg, value) = (format!("arg{}", c.index()), c.value());
    let number = |n: u64| if n < 1024 { n.to_string() } else { format!("{n:#x}") };
    match c.op() {
        Op::ScmpCmpNe => format!("{arg} != {}", number(value)),
        Op::ScmpCmpLt => format!("{arg} < {}", number(value)),
        Op::ScmpCmpLe => format!("{arg} <= {}", number(value)),
        Op::ScmpCmpEq => format!("{arg} == {}", number(value)),
        Op::ScmpCmpGe => format!("{arg} >= {}", number(value)),
        Op::ScmpCmpGt => format!("{arg} > {}", number(value)),
        Op::ScmpCmpMaskedEq => {
            format!("{arg} & {} == {}", number(value), number(c.value_two().unwrap_or(0) & value))
        }
    }
}

/// A whole profile in words, at 80 columns.
pub fn show(name: &str, profile: &LinuxSeccomp) -> Result<String> {
    let program = super::compile(profile)?;
    let mut by_answer: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for call in native_names() {
        by_answer.entry(about(profile, call)).or_default().push(call);
    }
    let default = answer(Verdict::of(profile.default_action(), profile.default_errno_ret()));
    let mut text = format!(
        "{name}: {} entries, {} instructions; what is not named: {default}\n",
        entries(profile).len(),
        program.insns.len()
    );
    let listed = profile.architectures().as_deref().unwrap_or(&[]);
    let listed: Vec<String> =
        listed.iter().map(|a| a.to_string().trim_start_matches("SCMP_ARCH_").to_owned()).collect();
    text += &match listed.is_empty() {
        true => "architectures: the machine's own; others kill the process\n".to_owned(),
        false => format!("architectures: {}; others kill the process\n", listed.join(" ")),
    };
    if matches!(Verdict::of(profile.default_action(), None), Verdict::Allow | Verdict::Log) {
        text += "it allows by default: each new system call of the kernel is open, and what was\nforgotten, too\n";
    }
    for note in &program.notes {
        text += &format!("note: {note}\n");
    }
    if !program.ignored.is_empty() {
        text += &format!("skipped, as nothing here has that name: {}\n", program.ignored.join(" "));
    }
    let mut sorted: Vec<(String, Vec<&str>)> = by_answer.into_iter().collect();
    sorted.sort_by_key(|(what, names)| (what.contains(" if "), what != "allow", std::cmp::Reverse(names.len())));
    for (what, mut names) in sorted {
        names.sort_unstable();
        text += &format!("\n{what} ({}):\n", names.len());
        text += &wrapped(&names);
    }
    Ok(text)
}

fn wrapped(names: &[&str]) -> String {
    let mut text = String::new();
    let mut line = String::from("   ");
    for name in names {
        if line.len() + 1 + name.len() > 80 {
            text += &(std::mem::replace(&mut line, "   ".to_owned()) + "\n");
        }
        line = format!("{line} {name}");
    }
    text + &line + "\n"
}

/// What differs, a line a system call; empty: nothing.
pub fn diff(a: &LinuxSeccomp, b: &LinuxSeccomp) -> Vec<String> {
    let mut names: Vec<&str> = native_names().collect();
    names.sort_unstable();
    let pairs = names.into_iter().map(|name| (name, about(a, name), about(b, name)));
    pairs.filter(|(_, a, b)| a != b).map(|(name, a, b)| format!("{name:<24} {a}  ->  {b}")).collect()
}

/// A word of a command line as an argument: a number, or names that `|` joins (`CLONE_NEWUSER|SIGCHLD`).
pub fn argument(word: &str) -> Option<u64> {
    let one = |word: &str| {
        let (sign, bare) = word.strip_prefix('-').map_or((false, word), |rest| (true, rest));
        let number = match (bare.strip_prefix("0x"), bare.strip_prefix("0o")) {
            (Some(hex), _) => u64::from_str_radix(hex, 16).ok(),
            (_, Some(octal)) => u64::from_str_radix(octal, 8).ok(),
            _ => bare.parse().ok(),
        };
        number.map(|n| if sign { n.wrapping_neg() } else { n }).or_else(|| decode::value(word))
    };
    word.split('|').try_fold(0, |all, part| Some(all | one(part.trim())?))
}

/// A profile that allows these calls, the runtime's own, and what an earlier one allows already; nothing else.
pub fn recorded(earlier: Option<LinuxSeccomp>, calls: &[Call], tail: bool) -> Result<LinuxSeccomp> {
    let mut profile = match earlier {
        Some(profile) => profile,
        None => empty(calls)?,
    };
    let always = ALWAYS.into_iter().chain(["capset", "prctl"].into_iter().filter(|_| tail));
    for name in always {
        let Some(nr) = native(name) else { continue };
        // Without conditions, whatever else is said about it: nobody knows what the runtime passes.
        let call = Call { arch: Abi::NATIVE.audit(), nr, args: [0; 6] };
        while let Some(change) = permit(&profile, &call) {
            profile = change.applied(&profile);
            if let Some(entry) = plain(vec![name.to_owned()]) {
                push(&mut profile, entry);
            }
        }
    }
    for call in calls {
        if call.arch != Abi::NATIVE.audit() {
            list_architecture(&mut profile, call);
        }
        if let Some(change) = permit(&profile, call) {
            profile = change.applied(&profile);
        }
    }
    Ok(tidy(profile))
}

/// What allows nothing; but what has an older form says so, for its caller to take that.
fn empty(calls: &[Call]) -> Result<LinuxSeccomp> {
    let seen: BTreeSet<&str> = calls.iter().filter_map(Call::name).collect();
    let older: Vec<&str> = FALL_BACK.into_iter().filter(|n| !seen.contains(n)).collect();
    let architecture = if Abi::NATIVE == Abi::Aarch64 { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": [architecture],
        "syscalls": [{ "names": older, "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }]
    });
    crate::json::from_value(&profile).map_err(|e| Error::new("seccomp record", "profile", e.to_string()))
}

/// Whether a recorded profile has this call in any case.
pub fn always(name: &str) -> bool {
    ALWAYS.contains(&name)
}

fn list_architecture(profile: &mut LinuxSeccomp, call: &Call) {
    if call.arch == Abi::I386.audit() {
        let mut listed = profile.architectures().clone().unwrap_or_default();
        if !listed.contains(&Arch::ScmpArchX86) {
            listed.push(Arch::ScmpArchX86);
        }
        profile.set_architectures(Some(listed));
    }
}

fn plain(names: Vec<String>) -> Option<LinuxSyscall> {
    LinuxSyscallBuilder::default().names(names).action(Action::ScmpActAllow).build().ok()
}

fn push(profile: &mut LinuxSeccomp, entry: LinuxSyscall) {
    let mut list = entries(profile).to_vec();
    list.push(entry);
    profile.set_syscalls(Some(list));
}

/// One profile that allows what either allows. What one denies by name and the other allows is allowed.
pub fn merged(first: LinuxSeccomp, second: &LinuxSeccomp) -> LinuxSeccomp {
    let mut all = first;
    let mut listed = all.architectures().clone().unwrap_or_default();
    for arch in
        second.architectures().iter().flatten().filter(|a| !all.architectures().iter().flatten().any(|b| b == *a))
    {
        listed.push(*arch);
    }
    if !listed.is_empty() {
        all.set_architectures(Some(listed));
    }
    let allows = |e: &&LinuxSyscall| Verdict::of(e.action(), e.errno_ret()).permits();
    for entry in entries(second).iter().filter(allows) {
        let mut list = entries(&all).to_vec();
        for denying in list.iter_mut().filter(|e| !allows(&&**e)) {
            denying.set_names(denying.names().iter().filter(|n| !entry.names().contains(n)).cloned().collect());
        }
        list.push(entry.clone());
        all.set_syscalls(Some(list));
    }
    tidy(all)
}

/// The same in the shortest form: one sorted list of what is allowed in any case, and the conditions after it.
pub fn tidy(mut profile: LinuxSeccomp) -> LinuxSeccomp {
    let mut always = BTreeSet::new();
    let mut checked: BTreeMap<String, (LinuxSyscall, BTreeSet<String>)> = BTreeMap::new();
    let mut others = Vec::new();
    for entry in entries(&profile).iter().filter(|e| !e.names().is_empty()) {
        let names = entry.names().iter().cloned();
        if entry.action() != Action::ScmpActAllow {
            others.push(entry.clone());
        } else if conditions(entry).is_empty() {
            always.extend(names);
        } else {
            let key = serde_json::to_string(entry.args()).unwrap_or_default();
            checked.entry(key).or_insert_with(|| (entry.clone(), BTreeSet::new())).1.extend(names);
        }
    }
    let mut list: Vec<LinuxSyscall> =
        plain(always.iter().cloned().collect()).into_iter().filter(|e| !e.names().is_empty()).collect();
    let mut conditional: Vec<LinuxSyscall> = Vec::new();
    for (mut entry, names) in checked.into_values() {
        let names: Vec<String> = names.into_iter().filter(|n| !always.contains(n)).collect();
        if !names.is_empty() {
            entry.set_names(names);
            conditional.push(entry);
        }
    }
    let values =
        |e: &LinuxSyscall| conditions(e).iter().map(|c| (c.index(), c.value(), c.value_two())).collect::<Vec<_>>();
    conditional.sort_by(|a, b| a.names().cmp(b.names()).then_with(|| values(a).cmp(&values(b))));
    list.extend(conditional);
    list.extend(others);
    profile.set_syscalls(Some(list));
    profile
}

/// The call in words, by the arguments that a profile looks at, where nothing of the process can be read any more.
pub fn kind(call: &Call) -> String {
    let name = call.name().map_or_else(|| format!("number {}", call.nr), str::to_owned);
    match narrowed(&name, call.args).is_empty() {
        true => name,
        false => decode::call(&name, call.args, |_| None),
    }
}
