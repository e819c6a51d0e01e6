//! What a compiled filter can answer to a system call, whatever its arguments are.
//!
//! The record of a container has programs and no profiles, and the program is what counts: here it is followed along
//! every way that the arguments can lead it.

use super::Verdict;
use super::syscalls::{self, Abi};
use std::collections::{BTreeMap, BTreeSet};

/// What filters deny, by the names of this architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Denied {
    /// Whatever the arguments are; by the answer.
    pub always: BTreeMap<String, Vec<String>>,
    /// With some arguments.
    pub sometimes: Vec<String>,
    /// Every call of another architecture that this machine can run.
    pub foreign: bool,
}

/// What stacked filters deny: the kernel takes the strictest answer.
pub fn denied(programs: &[Vec<libc::sock_filter>]) -> Denied {
    let mut denied = Denied::default();
    for (name, number) in syscalls::of(Abi::NATIVE) {
        let each: Vec<BTreeSet<Verdict>> =
            programs.iter().map(|p| answers(p, Abi::NATIVE.audit(), number).into_iter().collect()).collect();
        let never = each.iter().filter(|answers| !answers.iter().any(|v| v.permits()));
        // Of several filters that never let it through the strictest answers, and of one that has two answers, too.
        if let Some(verdict) = never.flat_map(|a| a.iter().copied()).min_by_key(|v| v.rank()) {
            denied.always.entry(verdict.word()).or_default().push(name.to_owned());
        } else if each.iter().flatten().any(|v| !v.permits()) {
            denied.sometimes.push(name.to_owned());
        }
    }
    let refused = |abi: Abi| {
        syscalls::of(abi).all(|(_, n)| programs.iter().any(|p| !answers(p, abi.audit(), n).iter().any(|v| v.permits())))
    };
    denied.foreign = Abi::NATIVE == Abi::X86_64 && refused(Abi::I386);
    denied
}

/// Everything that a program can answer to this call. A program that is not one of ours may do more than ours do: what
/// cannot be followed counts as let through, so that nobody takes a call for denied that is not.
pub fn answers(program: &[libc::sock_filter], arch: u32, nr: u32) -> Vec<Verdict> {
    let mut found = BTreeSet::new();
    // The accumulator is known until an argument is loaded.
    let mut todo: Vec<(usize, Option<u32>)> = vec![(0, Some(0))];
    let mut seen = BTreeSet::new();
    while let Some((pc, a)) = todo.pop() {
        if !seen.insert((pc, a)) {
            continue;
        }
        let Some(insn) = program.get(pc) else {
            found.insert(libc::SECCOMP_RET_ALLOW);
            continue;
        };
        let next = pc + 1;
        let (taken, not) = (next + usize::from(insn.jt), next + usize::from(insn.jf));
        let mut branch = |holds: Option<bool>| {
            todo.extend((holds != Some(false)).then_some((taken, a)));
            todo.extend((holds != Some(true)).then_some((not, a)));
        };
        match insn.code {
            0x20 => {
                let value = match insn.k {
                    0 => Some(nr),
                    4 => Some(arch),
                    _ => None,
                };
                todo.push((next, value));
            }
            0x54 => todo.push((next, a.map(|a| a & insn.k))),
            0x05 => todo.push((next + insn.k as usize, a)),
            0x15 => branch(a.map(|a| a == insn.k)),
            0x25 => branch(a.map(|a| a > insn.k)),
            0x35 => branch(a.map(|a| a >= insn.k)),
            0x45 => branch(a.map(|a| a & insn.k != 0)),
            0x06 => {
                found.insert(insn.k);
            }
            _ => {
                found.insert(libc::SECCOMP_RET_ALLOW);
            }
        }
    }
    found.into_iter().map(Verdict::from_ret).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{compile, default_profile, verdict};

    #[test]
    fn what_is_said_of_the_default_profile_is_what_it_does() {
        let profile = default_profile().unwrap();
        let program = compile(&profile).unwrap().insns;
        let said = denied(std::slice::from_ref(&program));
        let arguments = [[0u64; 6], [1; 6], [2; 6], [16; 6], [1 << 32; 6], [u64::MAX; 6], [0x1000_0000; 6]];
        for (name, nr) in syscalls::of(Abi::NATIVE) {
            let can = answers(&program, Abi::NATIVE.audit(), nr);
            let does: Vec<Verdict> =
                arguments.iter().map(|args| verdict(&profile, Abi::NATIVE.audit(), nr, *args)).collect();
            assert!(does.iter().all(|v| can.contains(v)), "{name}: {does:?} of {can:?}");
            let always = said.always.values().flatten().any(|n| n == name);
            let sometimes = said.sometimes.iter().any(|n| n == name);
            assert!(!always || !does.iter().any(|v| v.permits()), "{name}");
            assert!(always || sometimes || does.iter().all(|v| v.permits()), "{name}");
            assert!(!(always && sometimes), "{name}");
        }
        assert!(said.always["EPERM"].iter().any(|n| n == "bpf"), "{said:?}");
        assert!(said.always["ENOSYS"].iter().any(|n| n == "clone3"), "{said:?}");
        assert!(said.sometimes.iter().any(|n| n == "socket") && !said.sometimes.iter().any(|n| n == "read"));
        assert!(said.foreign || Abi::NATIVE != Abi::X86_64);
        // Without a filter nothing is denied.
        assert_eq!(denied(&[]), Denied::default());
    }

    #[test]
    fn the_strictest_of_two_filters_answers() {
        let ret = |k| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
        let errno = vec![ret(Verdict::Errno(1).ret())];
        let kill = vec![ret(Verdict::KillProcess.ret())];
        let both = denied(&[errno.clone(), kill]);
        assert_eq!(both.always.keys().collect::<Vec<_>>(), ["kill the process"]);
        assert_eq!(denied(&[errno]).always.keys().collect::<Vec<_>>(), ["EPERM"]);
        // What is not understood is not called denied.
        let strange = vec![libc::sock_filter { code: 0x87, jt: 0, jf: 0, k: 0 }, ret(Verdict::Errno(1).ret())];
        assert!(denied(&[strange]).always.is_empty());
    }
}
