//! The compiler: an OCI profile in, one classic BPF program out.
//!
//! A filter runs before every system call, so its shape is its cost. Numbers with the same answer become ranges, and
//! the ranges a balanced tree: 377 names are about eight comparisons deep. Arguments are looked at only in sections
//! that hang below the tree. Instructions are produced from the last to the first, because BPF jumps only forward:
//! when a jump is written, the place it goes to is already there.
//!
//! The sections are ours and not `seccompiler`'s: its filter knows one action for all rules and one otherwise, has no
//! USER_NOTIF, takes conditions only in conjunction, and wraps each program in an architecture check that we would
//! have to cut out again. The tests use it as a second opinion on every operator.

use super::syscalls::{self, Abi, Syscall, X32_BIT, X32_ONLY};
use super::{Program, Verdict, architectures, conditions, entries, twice};
use crate::error::{Error, Result};
use libc::sock_filter;
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Op,
};
use std::rc::Rc;

/// The kernel takes no longer program (BPF_MAXINSNS).
const MAX_INSNS: usize = 4096;

/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// The opcodes that a filter needs; all constants are in the instruction (BPF_K).
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ) as u16;
const IF_GT: u16 = (libc::BPF_JMP | libc::BPF_JGT) as u16;
const IF_GE: u16 = (libc::BPF_JMP | libc::BPF_JGE) as u16;
const IF_ANY: u16 = (libc::BPF_JMP | libc::BPF_JSET) as u16;
const RETURN: u16 = libc::BPF_RET as u16;
/// The same of the accumulator; and a word of memory.
const RETURN_IT: u16 = (libc::BPF_RET | libc::BPF_A) as u16;
const VALUE: u16 = (libc::BPF_LD | libc::BPF_IMM) as u16;
const REMEMBER: u16 = libc::BPF_ST as u16;
const RECALL: u16 = (libc::BPF_LD | libc::BPF_MEM) as u16;

/// Compiles a profile for the machine that we run on. What it means is said at [`super::verdict`].
pub fn compile(profile: &LinuxSeccomp) -> Result<Program> {
    compile_on(Abi::NATIVE, profile)
}

/// One program for what two filters say, the first of them installed before the second: of the two answers the stricter
/// counts, and of equally strict ones the second, as in the kernel. And for `asks`: where an errno would be the answer,
/// somebody is asked.
///
/// Stacked filters cannot do that: the kernel takes an errno for stricter than a question, so the one would hide the other.
pub fn compile_asking(stack: &[&LinuxSeccomp]) -> Result<Program> {
    compile_stack(Abi::NATIVE, stack, true)
}

pub(super) fn compile_on(native: Abi, profile: &LinuxSeccomp) -> Result<Program> {
    compile_stack(native, &[profile], false)
}

pub(super) fn compile_stack(native: Abi, stack: &[&LinuxSeccomp], asks: bool) -> Result<Program> {
    let mut all = Program { insns: vec![], flags: 0, ignored: vec![], notes: vec![], notify: false };
    let mut code = Code { asks, ..Code::default() };
    let last = stack.len().saturating_sub(1);
    // The last one is written first: programs grow to the front.
    for (place, profile) in stack.iter().enumerate().rev() {
        let (tables, default, read) = tables(native, profile)?;
        code.begin(match place {
            _ if last == 0 => Role::Whole,
            0 => Role::First { second: code.insns.len().saturating_sub(1) },
            _ => Role::Second,
        });
        assemble(&mut code, &tables, default);
        all.flags |= read.flags;
        all.notify |= read.notify;
        all.ignored.extend(read.ignored);
        all.notes.extend(read.notes);
    }
    all.insns = code.finish()?;
    Ok(all)
}

/// What a profile says, by numbering and number.
fn tables(native: Abi, profile: &LinuxSeccomp) -> Result<(Vec<Table>, Verdict, Program)> {
    let default = action(|| "defaultErrnoRet".into(), profile.default_action(), profile.default_errno_ret())?;
    let (abis, foreign) = architectures(profile, native);
    let mut ignored: Vec<String> = foreign.iter().map(|a| a.to_string()).collect();
    let mut notes = vec![];
    let mut notify = default == Verdict::Notify;
    let mut tables: Vec<Table> = abis.iter().map(|&abi| Table::new(abi)).collect();

    for (order, entry) in entries(profile).iter().enumerate() {
        let at = || format!("syscalls[{order}]");
        let verdict = action(|| at() + ".errnoRet", entry.action(), entry.errno_ret())?;
        notify |= verdict == Verdict::Notify;
        if entry.names().is_empty() {
            return Err(bad(format!("{}.names", at()), "is empty: which system call?"));
        }
        let args = conditions(entry);
        for (i, arg) in args.iter().enumerate() {
            if arg.index() > 5 {
                let why = format!("{}: a system call has the arguments 0 to 5", arg.index());
                return Err(bad(format!("{}.args[{i}].index", at()), why));
            }
        }
        if twice(args) {
            let reading = if verdict.rank() <= default.rank() { "any condition" } else { "all conditions" };
            notes.push(format!("{} names one argument twice; it is read as: {reading} must hold", at()));
        }
        let denies = verdict.rank() < default.rank();
        let carried = || entry.names().iter().any(|n| syscalls::carried(n).is_some());
        if denies && !args.is_empty() && abis.contains(&Abi::I386) && carried() {
            notes.push(format!(
                "{} does not reach 32-bit calls through socketcall or ipc: their arguments lie behind a pointer",
                at()
            ));
        }
        let checks = clauses(verdict, default, args);
        let repeats_default = verdict == default && checks.is_empty();
        for (i, name) in entry.names().iter().enumerate() {
            if name.is_empty() {
                return Err(bad(format!("{}.names[{i}]", at()), "is empty: which system call?"));
            }
            let Some(syscall) = Syscall::named(name) else {
                if !syscalls::elsewhere(name) {
                    ignored.push(name.clone());
                }
                // send and recv have no number anywhere, but a place inside socketcall.
                for table in tables.iter_mut().filter(|t| t.abi == Abi::I386) {
                    table.add_carried(name, order, verdict, &checks, repeats_default);
                }
                continue;
            };
            for table in &mut tables {
                if let Some(number) = syscall.number(table.abi) {
                    table.add(number, order, verdict, &checks, repeats_default);
                }
                if table.abi == Abi::I386 {
                    table.add_carried(name, order, verdict, &checks, repeats_default);
                }
            }
        }
    }
    ignored.sort_unstable();
    ignored.dedup();

    let read = Program { insns: vec![], flags: flags(profile, notify), ignored, notes, notify };
    Ok((tables, default, read))
}

fn bad(subject: String, why: impl Into<String>) -> Error {
    Error::new("linux.seccomp", subject, why)
}

/// The verdict behind an action and its errno. The specification wants an error where an action takes no errno.
fn action(field: impl Fn() -> String, action: Action, errno: Option<u32>) -> Result<Verdict> {
    let max = match action {
        Action::ScmpActErrno => 4095,
        Action::ScmpActTrace => 65535,
        _ => {
            return match errno {
                None => Ok(Verdict::of(action, None)),
                Some(_) => Err(bad(field(), format!("{action} takes no errno")).hint("leave errnoRet out")),
            };
        }
    };
    match errno {
        Some(n) if n > max => Err(bad(field(), format!("{n}: {action} takes 0 to {max}"))),
        _ => Ok(Verdict::of(action, errno)),
    }
}

fn flags(profile: &LinuxSeccomp, notify: bool) -> u64 {
    let mut flags = 0;
    for flag in profile.flags().as_deref().unwrap_or(&[]) {
        flags |= match flag {
            Flag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            Flag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            // The kernel takes it only together with a listener, and without one it has nothing to say.
            Flag::SeccompFilterFlagWaitKillableRecv if notify => libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
            Flag::SeccompFilterFlagWaitKillableRecv | Flag::SeccompFilterFlagTsync => 0,
        };
    }
    flags
}

/// One comparison of one argument; `LinuxSeccompArg`, but one that can be made here too.
#[derive(Clone, Copy, PartialEq)]
struct Condition {
    index: usize,
    op: Op,
    value: u64,
    value_two: u64,
}

impl From<&LinuxSeccompArg> for Condition {
    fn from(a: &LinuxSeccompArg) -> Self {
        Condition { index: a.index(), op: a.op(), value: a.value(), value_two: a.value_two().unwrap_or(0) }
    }
}

/// The conditions of an entry: every clause must hold, and a clause holds if one of its conditions does.
type Clauses = Rc<[Vec<Condition>]>;

/// The three readings of [`super::holds`] in one form.
fn clauses(verdict: Verdict, default: Verdict, args: &[LinuxSeccompArg]) -> Clauses {
    let all = args.iter().map(Condition::from);
    if !twice(args) {
        return all.map(|c| vec![c]).collect();
    }
    if verdict.rank() <= default.rank() {
        return [all.collect()].into();
    }
    let mut clauses: Vec<Vec<Condition>> = vec![];
    // Where the values of each argument are being listed.
    let mut lists: [Option<usize>; 6] = [None; 6];
    for c in all {
        let list = if c.op == Op::ScmpCmpEq { lists[c.index] } else { None };
        match list {
            Some(at) => clauses[at].push(c),
            None => {
                if c.op == Op::ScmpCmpEq {
                    lists[c.index] = Some(clauses.len());
                }
                clauses.push(vec![c]);
            }
        }
    }
    clauses.into()
}

/// An entry with conditions, as it concerns one system call.
#[derive(Clone, PartialEq)]
struct Rule {
    order: usize,
    verdict: Verdict,
    checks: Clauses,
}

/// Everything that a profile says about one system call.
#[derive(Clone, Default)]
struct Slot {
    /// The strictest entry without conditions, and its place in the profile.
    always: Option<(usize, Verdict)>,
    rules: Vec<Rule>,
}

impl Slot {
    /// The rules that can still change the answer, the strictest first, and the answer where none matches.
    fn settle(&self, default: Verdict) -> (Vec<Rule>, Verdict) {
        let fallback = self.always.map_or(default, |(_, v)| v);
        let mut rules = self.rules.clone();
        if let Some((order, verdict)) = self.always {
            rules.retain(|r| (r.verdict.rank(), r.order) < (verdict.rank(), order));
        }
        rules.sort_by_key(|r| (r.verdict.rank(), r.order));
        while rules.last().is_some_and(|r| r.verdict == fallback) {
            rules.pop();
        }
        (rules, fallback)
    }
}

/// What a profile says under one numbering.
struct Table {
    abi: Abi,
    slots: Vec<Slot>,
    newest: Option<u32>,
}

impl Table {
    fn new(abi: Abi) -> Self {
        Table { abi, slots: Vec::with_capacity(600), newest: None }
    }

    fn add(&mut self, number: u32, order: usize, verdict: Verdict, checks: &Clauses, repeats_default: bool) {
        if self.abi != Abi::X32 || !X32_ONLY.contains(&number) {
            self.newest = self.newest.max(Some(number));
        }
        if !repeats_default {
            self.put(number, order, verdict, checks);
        }
    }

    /// On i386, the same call by way of `socketcall` or `ipc`. Only without conditions: the arguments lie behind a
    /// pointer there, where no filter can look.
    fn add_carried(&mut self, name: &str, order: usize, verdict: Verdict, checks: &Clauses, repeats_default: bool) {
        if repeats_default || !checks.is_empty() {
            return;
        }
        let Some((carrier, mask, code)) = syscalls::carried(name) else { return };
        let Some(number) = Syscall::named(carrier).and_then(|s| s.number(self.abi)) else { return };
        let which = Condition { index: 0, op: Op::ScmpCmpMaskedEq, value: mask, value_two: code };
        self.put(number, order, verdict, &[vec![which]].into());
    }

    fn put(&mut self, number: u32, order: usize, verdict: Verdict, checks: &Clauses) {
        let number = number as usize;
        if self.slots.len() <= number {
            self.slots.resize_with(number + 1, Slot::default);
        }
        let slot = &mut self.slots[number];
        if !checks.is_empty() {
            slot.rules.push(Rule { order, verdict, checks: checks.clone() });
        } else if slot.always.is_none_or(|(_, v)| verdict.rank() < v.rank()) {
            slot.always = Some((order, verdict));
        }
    }

    /// The answer to a number that the profile does not name.
    fn unnamed(&self, number: u32, default: Verdict) -> Verdict {
        let newer =
            self.newest.is_some_and(|newest| number > newest) && !(self.abi == Abi::X32 && X32_ONLY.contains(&number));
        match default {
            Verdict::Errno(_) if newer => Verdict::Errno(libc::ENOSYS as u16),
            _ => default,
        }
    }
}

/// The header, and below it one tree an architecture.
fn assemble(code: &mut Code, tables: &[Table], default: Verdict) {
    let kill = Target::Return(Verdict::KillProcess.ret());
    let mut next = kill;
    let mut x32 = None;
    // The native one comes first and is written last: nearest to the header.
    for table in tables.iter().rev() {
        let ranges = ranges(code, table, default);
        let tree = code.tree(&ranges);
        match table.abi {
            Abi::X32 => {
                x32 = Some(tree);
                continue;
            }
            Abi::X86_64 => {
                // A filter that looks at numbers only would take an x32 call for an unknown one, and a list of
                // denials would let it through. -1 is what a tracer leaves behind: the kernel runs nothing then.
                let above = match x32 {
                    Some(tree) => tree,
                    None => {
                        let none = Target::Return(table.unnamed(u32::MAX, default).ret());
                        code.branch(IF_EQ, u32::MAX, none, kill)
                    }
                };
                let tree = code.branch(IF_GE, X32_BIT, above, tree);
                code.force(tree);
            }
            Abi::I386 | Abi::Aarch64 => code.force(tree),
        }
        let entry = code.then(LOAD, NR);
        next = code.branch(IF_EQ, table.abi.audit(), entry, next);
    }
    code.force(next);
    code.then(LOAD, ARCH);
}

/// All numbers, as ranges with one answer each: (first number, answer). Writes the sections on the way.
fn ranges(code: &mut Code, table: &Table, default: Verdict) -> Vec<(u32, Target)> {
    let base = if table.abi == Abi::X32 { X32_BIT } else { 0 };
    let mut ranges: Vec<(u32, Target)> = Vec::with_capacity(256);
    let mut sections: Vec<(Vec<Rule>, Verdict, Target)> = vec![];
    let mut push = |number: u32, target: Target| {
        if ranges.last().is_none_or(|&(_, last)| last != target) {
            ranges.push((base + number, target));
        }
    };
    for (number, slot) in (0u32..).zip(&table.slots) {
        let target = if slot.rules.is_empty() {
            Target::Return(slot.always.map_or_else(|| table.unnamed(number, default), |(_, v)| v).ret())
        } else {
            let (rules, fallback) = slot.settle(default);
            match sections.iter().find(|(r, f, _)| *r == rules && *f == fallback) {
                Some(&(.., target)) => target,
                None => {
                    let target = code.section(&rules, fallback);
                    sections.push((rules, fallback, target));
                    target
                }
            }
        };
        push(number, target);
    }
    // What lies above the last slot: still known by name, newer than the profile, or x32's own numbers between.
    let end = table.slots.len() as u32;
    let mut edges = vec![end, table.newest.map_or(0, |n| n + 1), *X32_ONLY.start(), X32_ONLY.end() + 1];
    edges.sort_unstable();
    for number in edges.into_iter().filter(|&n| n >= end) {
        push(number, Target::Return(table.unnamed(number, default).ret()));
    }
    ranges
}

/// Where a jump goes: to a return of this value, or to an instruction, counted from the end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Return(u32),
    At(usize),
}

/// Which of two profiles is being written.
#[derive(Debug, Clone, Copy, Default)]
enum Role {
    /// The only one: an answer ends the program.
    #[default]
    Whole,
    /// Of two the first: it remembers its answer and goes on with the second, which starts here.
    First { second: usize },
    /// Of two the second: the stricter of the two answers ends the program.
    Second,
}

/// A program in the making, the last instruction first.
#[derive(Default)]
struct Code {
    insns: Vec<sock_filter>,
    role: Role,
    asks: bool,
    /// For each target that was jumped to: the nearest instruction that leads there.
    nearest: Vec<(Target, usize)>,
    too_long: bool,
}

impl Code {
    /// Adds an instruction in front of the program.
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> usize {
        if self.insns.len() == MAX_INSNS {
            // Hostile profiles can be huge: stop growing, and fail in finish().
            self.too_long = true;
        } else {
            self.insns.push(sock_filter { code, jt, jf, k });
        }
        self.insns.len() - 1
    }

    /// What is written from here on belongs to this profile.
    fn begin(&mut self, role: Role) {
        self.role = role;
        self.nearest.clear();
        if let Role::First { .. } = role {
            // The kernel follows what is remembered from line to line, and takes a return for a line like another: what
            // stands before the second profile must be an answer that was remembered.
            let allow = Verdict::Allow.ret();
            let at = self.answer(allow);
            self.nearest.push((Target::Return(allow), at));
        }
    }

    /// Adds an answer. Unsigned, the values that a filter returns are in the kernel's order, the strictest first, but for
    /// KILL_PROCESS; and nothing is stricter than that.
    fn answer(&mut self, k: u32) -> usize {
        let action = k & libc::SECCOMP_RET_ACTION_FULL;
        let k = if self.asks && action == libc::SECCOMP_RET_ERRNO { libc::SECCOMP_RET_USER_NOTIF } else { k };
        let action = k & libc::SECCOMP_RET_ACTION_FULL;
        match self.role {
            Role::First { second } if action != libc::SECCOMP_RET_KILL_PROCESS => {
                let distance = (self.insns.len() - 1 - second) as u32;
                self.push(JUMP, 0, 0, distance);
                self.push(REMEMBER, 0, 0, 0);
                self.push(VALUE, 0, 0, k)
            }
            Role::Second if action != libc::SECCOMP_RET_KILL_PROCESS => {
                self.push(RETURN_IT, 0, 0, 0);
                if action != libc::SECCOMP_RET_ALLOW {
                    self.push(RETURN, 0, 0, k);
                    self.push(IF_GE, 0, 1, action);
                }
                self.push(RECALL, 0, 0, 0)
            }
            _ => self.push(RETURN, 0, 0, k),
        }
    }

    /// Adds an instruction that goes on with what is in front now.
    fn then(&mut self, code: u16, k: u32) -> Target {
        Target::At(self.push(code, 0, 0, k))
    }

    /// Makes sure that the front of the program is `target`.
    fn force(&mut self, target: Target) {
        match target {
            Target::At(at) if at + 1 == self.insns.len() => {}
            Target::At(at) => {
                let distance = (self.insns.len() - 1 - at) as u32;
                self.push(JUMP, 0, 0, distance);
            }
            Target::Return(k) => {
                self.answer(k);
            }
        }
    }

    /// An instruction within reach of a jump that leads to `target`: jumps span 8 bits, so far targets get a
    /// stepping stone (a copy of the return, or a long jump).
    fn reach(&mut self, target: Target) -> usize {
        if self.too_long {
            // The program is refused in finish(): no more work for it, or a hostile profile costs minutes.
            return 0;
        }
        // One more stone, of four instructions, may be laid before the jump itself is written.
        const SPAN: usize = 250;
        let known = self.nearest.iter().position(|(t, _)| *t == target);
        let at = match (known, target) {
            (Some(i), _) => Some(self.nearest[i].1),
            (None, Target::At(at)) => Some(at),
            (None, Target::Return(_)) => None,
        };
        if let Some(at) = at.filter(|at| self.insns.len() - at < SPAN) {
            return at;
        }
        let stone = match target {
            Target::Return(k) => self.answer(k),
            Target::At(at) => {
                let distance = (self.insns.len() - 1 - at) as u32;
                self.push(JUMP, 0, 0, distance)
            }
        };
        match known {
            Some(i) => self.nearest[i].1 = stone,
            None => self.nearest.push((target, stone)),
        }
        stone
    }

    /// Adds a comparison of the accumulator with `k`.
    fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let (yes, no) = (self.reach(yes), self.reach(no));
        let front = self.insns.len();
        // Both are within SPAN, unless the program has stopped growing.
        Target::At(self.push(code, (front - 1 - yes) as u8, (front - 1 - no) as u8, k))
    }

    /// A balanced tree of comparisons over ranges; the accumulator holds the number.
    fn tree(&mut self, ranges: &[(u32, Target)]) -> Target {
        match *ranges {
            [] => Target::Return(Verdict::KillProcess.ret()),
            [(_, target)] => target,
            // A single number that sticks out of its surroundings.
            [(_, left), (number, target), (end, right)] if left == right && end == number + 1 => {
                self.branch(IF_EQ, number, target, left)
            }
            _ => {
                let (left, right) = ranges.split_at(ranges.len() / 2);
                let first = right[0].0;
                let right = self.tree(right);
                let left = self.tree(left);
                self.branch(IF_GE, first, right, left)
            }
        }
    }

    /// The rules of one system call, tried in order.
    fn section(&mut self, rules: &[Rule], fallback: Verdict) -> Target {
        let mut next = Target::Return(fallback.ret());
        for rule in rules.iter().rev() {
            let otherwise = next;
            next = Target::Return(rule.verdict.ret());
            for clause in rule.checks.iter().rev() {
                let holds = next;
                next = otherwise;
                for condition in clause.iter().rev() {
                    next = self.condition(condition, holds, next);
                }
            }
        }
        next
    }

    /// One condition on one argument: 64 bits are compared in two halves, the upper one first.
    fn condition(&mut self, c: &Condition, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let low = ARGS + 8 * c.index as u32;
        let (low, high) = if cfg!(target_endian = "little") { (low, low + 4) } else { (low + 4, low) };
        let halves = |v: u64| (v as u32, (v >> 32) as u32);
        let (k_low, k_high) = halves(c.value);
        match c.op {
            Op::ScmpCmpEq | Op::ScmpCmpNe => {
                let (equal, differs) = if c.op == Op::ScmpCmpEq { (yes, no) } else { (no, yes) };
                self.branch(IF_EQ, k_low, equal, differs);
                let lower = self.then(LOAD, low);
                self.branch(IF_EQ, k_high, lower, differs);
                self.then(LOAD, high)
            }
            op @ (Op::ScmpCmpGt | Op::ScmpCmpGe | Op::ScmpCmpLt | Op::ScmpCmpLe) => {
                // Less is not greater-or-equal, and the other way round.
                let (above, below) = if matches!(op, Op::ScmpCmpGt | Op::ScmpCmpGe) { (yes, no) } else { (no, yes) };
                let strictly = matches!(op, Op::ScmpCmpGt | Op::ScmpCmpLe);
                self.branch(if strictly { IF_GT } else { IF_GE }, k_low, above, below);
                let lower = self.then(LOAD, low);
                let not_above = self.branch(IF_EQ, k_high, lower, below);
                self.branch(IF_GT, k_high, above, not_above);
                self.then(LOAD, high)
            }
            Op::ScmpCmpMaskedEq => {
                let (v_low, v_high) = halves(c.value_two & c.value);
                let lower = self.masked(low, k_low, v_low, yes, no);
                self.masked(high, k_high, v_high, lower, no)
            }
        }
    }

    /// One half of MASKED_EQ. A half whose mask is empty always matches and costs nothing.
    fn masked(&mut self, offset: u32, mask: u32, value: u32, yes: Target, no: Target) -> Target {
        if mask == 0 {
            return yes;
        }
        if value == 0 {
            self.branch(IF_ANY, mask, no, yes);
        } else {
            self.branch(IF_EQ, value, yes, no);
            if mask != u32::MAX {
                self.then(AND, mask);
            }
        }
        self.then(LOAD, offset)
    }

    fn finish(mut self) -> Result<Vec<sock_filter>> {
        if self.too_long {
            let why = format!("needs more than the {MAX_INSNS} instructions that the kernel takes");
            return Err(bad("syscalls".into(), why)
                .hint("fewer conditions on arguments, or fewer architectures, make a shorter program"));
        }
        self.insns.reverse();
        Ok(self.insns)
    }
}
