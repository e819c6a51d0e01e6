//! The program must say what the profile says: `compile` run by the emulator, against `verdict`.
//!
//! For the default profile, for one as large as Docker's, and for random ones; over every number, every way into the
//! kernel, and arguments at the edges of 32 and 64 bits. Then what the default profile promises, promise by promise.

use super::compile::{compile_on, compile_stack};
use super::emulate::{Call, check, run};
use super::syscalls::{Abi, Syscall, X32_BIT};
use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const RISCV64: u32 = 0xc000_00f3;
/// The kernel keeps the low half of an int argument; this is what an attacker puts above it.
const HIGH: u64 = 1 << 32;

fn profile(v: Value) -> LinuxSeccomp {
    serde_json::from_value(v).expect("a profile")
}

/// About Docker's size and shape: an allow list for three architectures, and a few conditions.
fn like_docker() -> LinuxSeccomp {
    let refused = [
        "acct",
        "add_key",
        "bpf",
        "clock_adjtime",
        "clock_settime",
        "clone",
        "clone3",
        "create_module",
        "delete_module",
        "fanotify_init",
        "finit_module",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "get_kernel_syms",
        "get_mempolicy",
        "init_module",
        "ioperm",
        "iopl",
        "io_uring_enter",
        "io_uring_register",
        "io_uring_setup",
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
        "query_module",
        "quotactl",
        "quotactl_fd",
        "reboot",
        "request_key",
        "set_mempolicy",
        "set_mempolicy_home_node",
        "setdomainname",
        "sethostname",
        "setns",
        "settimeofday",
        "socket",
        "stime",
        "swapoff",
        "swapon",
        "sysfs",
        "syslog",
        "umount",
        "umount2",
        "unshare",
        "uselib",
        "userfaultfd",
        "ustat",
        "vhangup",
        "vm86",
        "vm86old",
        "file_setattr",
    ];
    let allowed: Vec<&str> = syscalls::all_names().filter(|n| !refused.contains(n)).collect();
    assert!(allowed.len() > 370, "{}", allowed.len());
    profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            { "names": allowed, "action": "SCMP_ACT_ALLOW" },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 0xffff_ffffu32, "op": "SCMP_CMP_EQ" }] },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 38, "op": "SCMP_CMP_LT" }] },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 39, "op": "SCMP_CMP_EQ" }] },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 40, "op": "SCMP_CMP_GT" }] },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 0x7E02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
        ]
    }))
}

/// Every number worth asking for: all that exist, their neighbours, and the edges of every range.
fn numbers() -> Vec<u32> {
    let mut all: Vec<u32> = (0..600).collect();
    all.extend((0..600).map(|n| X32_BIT + n));
    all.extend([1000, X32_BIT - 1, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xc000_0000, u32::MAX - 1, u32::MAX]);
    all
}

/// Argument values at which a comparison with `value` can change its mind.
fn around(value: u64) -> Vec<u64> {
    let mut all = vec![value, value.wrapping_sub(1), value.wrapping_add(1), value ^ HIGH, !value];
    all.extend([value.wrapping_add(HIGH), value.wrapping_sub(HIGH), value & 0xffff_ffff, value | 0xffff_ffff << 32]);
    all
}

/// Argument lists for a profile: its own values and their neighbours, in their own places.
fn arguments(p: &LinuxSeccomp) -> Vec<[u64; 6]> {
    let mut lists = vec![[0; 6], [u64::MAX; 6], [1; 6], [HIGH; 6]];
    for entry in entries(p) {
        let at = |with: fn(u64) -> u64| {
            let mut args = [0; 6];
            for c in conditions(entry) {
                args[c.index()] =
                    with(if c.op() == Op::ScmpCmpMaskedEq { c.value_two().unwrap_or(0) } else { c.value() });
            }
            args
        };
        // All conditions met at once, and then one argument moved at a time.
        let met = at(|v| v);
        lists.extend([met, at(|v| v | HIGH), at(|v| v.wrapping_add(1)), at(|v| v.wrapping_sub(1))]);
        for c in conditions(entry) {
            let mut values = around(c.value());
            values.extend(around(c.value_two().unwrap_or(0)));
            for value in values {
                let mut args = met;
                args[c.index()] = value;
                lists.push(args);
                let mut alone = [0; 6];
                alone[c.index()] = value;
                lists.push(alone);
            }
        }
    }
    // i386 keeps sockets and System V objects behind the first argument of one call.
    lists.extend((0..26).flat_map(|n| [[n, 0, 0, 0, 0, 0], [n | 1 << 16, 1, 1, 1, 1, 1], [n | HIGH, 0, 0, 0, 0, 0]]));
    lists.sort_unstable();
    lists.dedup();
    lists
}

/// Program and plain reading agree, for every call in the list.
fn agree(native: Abi, p: &LinuxSeccomp, arches: &[u32], numbers: &[u32]) {
    let program = compile_on(native, p).expect("compiles");
    check(&program.insns).expect("the kernel takes it");
    // The verdict looks at arguments only for calls that have conditions: spare the others the long list.
    let all = arguments(p);
    let all: Vec<_> = all.iter().copied().step_by(all.len() / 400 + 1).collect();
    let few = [[0; 6], [u64::MAX; 6]];
    for &arch in arches {
        for &nr in numbers {
            let checked = |abi: Abi| {
                let name = syscalls::name(abi, nr & !X32_BIT);
                name == Some("socketcall")
                    || name == Some("ipc")
                    || entries(p)
                        .iter()
                        .any(|e| !conditions(e).is_empty() && e.names().iter().any(|n| Some(n.as_str()) == name))
            };
            let checked = [Abi::X86_64, Abi::X32, Abi::I386, Abi::Aarch64].into_iter().any(checked);
            for &args in if checked { &all[..] } else { &few[..] } {
                let call = Call { nr, arch, args };
                let plain = verdict_on(native, p, arch, nr, args);
                let (ret, _) = run(&program.insns, &call);
                assert_eq!(ret, plain.ret(), "{call:x?}: the program says {ret:#x}, the profile {plain:?}");
            }
        }
    }
}

/// What the kernel answers where two filters are stacked, by their plain readings.
fn stacked(first: &LinuxSeccomp, second: &LinuxSeccomp, call: &Call) -> u32 {
    let of = |p: &LinuxSeccomp| verdict_on(Abi::X86_64, p, call.arch, call.nr, call.args);
    let (first, second) = (of(first), of(second));
    if first.rank() < second.rank() { first.ret() } else { second.ret() }
}

/// The one program agrees with the stack of two, and as one that asks with it but for errnos.
fn agree_stacked(first: &LinuxSeccomp, second: &LinuxSeccomp, numbers: &[u32]) {
    let plain = compile_stack(Abi::X86_64, &[first, second], false);
    let Ok(plain) = plain else { return };
    let asking = compile_stack(Abi::X86_64, &[first, second], true).expect("as long as the other");
    check(&plain.insns).expect("the kernel takes it");
    check(&asking.insns).expect("the kernel takes it");
    let mut lists: Vec<_> = [first, second].into_iter().flat_map(arguments).collect();
    lists = lists.iter().copied().step_by(lists.len() / 16 + 1).collect();
    for arch in [X86_64, I386, RISCV64] {
        for &nr in numbers {
            for &args in &lists {
                let call = Call { nr, arch, args };
                let expect = stacked(first, second, &call);
                assert_eq!(run(&plain.insns, &call).0, expect, "{call:x?}");
                let errno = expect & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_ERRNO;
                let asked = if errno { libc::SECCOMP_RET_USER_NOTIF } else { expect };
                assert_eq!(run(&asking.insns, &call).0, asked, "asking: {call:x?}");
            }
        }
    }
}

#[test]
fn two_profiles_in_one_program_answer_as_two_filters() {
    let default = default_profile().unwrap();
    agree_stacked(&default, &like_docker(), &numbers());
    let every_third: Vec<u32> = numbers().into_iter().step_by(3).collect();
    agree_stacked(&like_docker(), &default, &every_third);
    let deny = |action: &str| {
        profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mkdir"], "action": action }] }))
    };
    // Equally strict, whatever the errno is: 0 is the least that the first can remember.
    let errno = |n: u32| {
        let deny = json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": n }]);
        profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": deny }))
    };
    agree_stacked(&errno(0), &errno(5), &[83]);
    agree_stacked(&errno(5), &errno(0), &[83]);
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL", "SCMP_ACT_TRAP", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
        let few = [0, 41, 56, 82, 83, 84, 334, 435, 599, X32_BIT, u32::MAX];
        agree_stacked(&default, &deny(action), &few);
        agree_stacked(&deny(action), &default, &few);
    }
}

#[test]
fn the_default_profile_compiles_to_what_it_says() {
    let p = default_profile().unwrap();
    agree(Abi::X86_64, &p, &[X86_64, I386, AARCH64, RISCV64, 0], &numbers());
    agree(Abi::Aarch64, &p, &[AARCH64, X86_64], &numbers());
}

#[test]
fn a_profile_of_dockers_size_compiles_to_what_it_says() {
    let p = like_docker();
    agree(Abi::X86_64, &p, &[X86_64, I386, AARCH64], &numbers());
    agree(Abi::Aarch64, &p, &[AARCH64, X86_64], &numbers());
}

fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..4,
        Just(0xffff_ffff),
        Just(HIGH),
        Just(HIGH + 1),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(1 << 63),
        (0u32..64).prop_map(|n| 1 << n),
        any::<u64>(),
    ]
}

fn any_action() -> impl Strategy<Value = Value> {
    let plain = prop::sample::select(vec![
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_LOG",
        "SCMP_ACT_ALLOW",
    ]);
    let with_errno = (prop::sample::select(vec!["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"]), prop::option::of(0u32..4096));
    prop_oneof![
        2 => plain.prop_map(|a| json!({ "action": a })),
        3 => Just(json!({ "action": "SCMP_ACT_ALLOW" })),
        3 => with_errno.prop_map(|(a, e)| match e {
            Some(e) => json!({ "action": a, "errnoRet": e }),
            None => json!({ "action": a }),
        }),
    ]
}

fn any_condition() -> impl Strategy<Value = Value> {
    let op = prop::sample::select(vec![
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    ]);
    (0usize..6, op, any_value(), prop::option::of(any_value())).prop_map(|(index, op, value, two)| match two {
        Some(two) => json!({ "index": index, "op": op, "value": value, "valueTwo": two }),
        None => json!({ "index": index, "op": op, "value": value }),
    })
}

fn any_profile() -> impl Strategy<Value = LinuxSeccomp> {
    // Few names, so that entries meet; two that do not exist, and those that i386 carries elsewhere.
    let few = prop::sample::select(vec![
        "read",
        "write",
        "open",
        "close",
        "mmap",
        "socket",
        "socketcall",
        "ipc",
        "semop",
        "send",
        "shmat",
        "clone",
        "execve",
        "ioctl",
        "rt_sigaction",
        "uretprobe",
        "pidfd_open",
        "mseal",
        "file_setattr",
        "_llseek",
        "opne",
    ]);
    let any = prop::sample::select(syscalls::all_names().collect::<Vec<_>>());
    let names = prop::collection::vec(prop_oneof![3 => few, 1 => any], 1..8);
    let args = prop_oneof![Just(vec![]), prop::collection::vec(any_condition(), 1..5)];
    let entry = (names, any_action(), args).prop_map(|(names, mut entry, args)| {
        entry["names"] = json!(names);
        if !args.is_empty() {
            entry["args"] = json!(args);
        }
        entry
    });
    let arches = prop::sample::subsequence(
        vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        0..=5,
    );
    (any_action(), arches, prop::collection::vec(entry, 0..14)).prop_map(|(default, arches, entries)| {
        let mut p = json!({ "defaultAction": default["action"], "architectures": arches, "syscalls": entries });
        if !default["errnoRet"].is_null() {
            p["defaultErrnoRet"] = default["errnoRet"].clone();
        }
        profile(p)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_profile_compiles_to_what_it_says(p in any_profile()) {
        // Numbers that are named, their neighbours, and a sample of the rest.
        let mut numbers: Vec<u32> = entries(&p).iter().flat_map(|e| e.names()).filter_map(|n| Syscall::named(n))
            .flat_map(|s| [Abi::X86_64, Abi::I386, Abi::X32, Abi::Aarch64].map(|a| s.number(a)))
            .flatten().flat_map(|n| [n.saturating_sub(1), n, n + 1]).collect();
        numbers.extend([0, 102, 117, 334, 337, 423, 469, 470, 511, 512, 547, 548, 599]);
        numbers.extend(numbers.clone().iter().map(|n| X32_BIT + n));
        numbers.extend([X32_BIT - 1, 0x7fff_ffff, 0x8000_0000, u32::MAX]);
        numbers.sort_unstable();
        numbers.dedup();
        agree(Abi::X86_64, &p, &[X86_64, I386, RISCV64], &numbers);
        agree(Abi::Aarch64, &p, &[AARCH64, X86_64], &numbers);
    }

    #[test]
    fn any_two_profiles_are_one_program(first in any_profile(), second in any_profile()) {
        let named = |p: &LinuxSeccomp| entries(p).iter().flat_map(|e| e.names()).filter_map(|n| Syscall::named(n))
            .filter_map(|s| s.number(Abi::X86_64)).collect::<Vec<_>>();
        let mut numbers = [named(&first), named(&second)].concat();
        numbers.extend([0, 334, 470, 599, X32_BIT, X32_BIT + 1, u32::MAX]);
        agree_stacked(&first, &second, &numbers);
    }

    #[test]
    fn a_change_lets_its_call_through_and_no_more_is_lost(
        p in any_profile(), names in prop::collection::vec(prop::sample::select(syscalls::all_names().collect::<Vec<_>>()), 1..20),
        args in prop::array::uniform6(any_value()),
    ) {
        use super::change::{Call, permit};
        for nr in names.iter().filter_map(|n| Syscall::named(n)?.number(Abi::X86_64)).chain([0, 1, 16, 41, 56]) {
            let call = Call { arch: X86_64, nr, args };
            let before = verdict(&p, X86_64, nr, args);
            match permit(&p, &call) {
                None => prop_assert!(before.permits(), "{:?}: {:?}", call, before),
                Some(change) => {
                    prop_assert!(!before.permits());
                    let changed = change.applied(&p);
                    prop_assert!(verdict(&changed, X86_64, nr, args).permits(), "{:?}", change);
                    // It is the least: each part of it is needed.
                    if change.add.is_some() {
                        let less = super::change::Change { add: None, ..change.clone() };
                        prop_assert!(!verdict(&less.applied(&p), X86_64, nr, args).permits(), "{:?}", change);
                    }
                    // And of other calls only the newer ones can be answered otherwise.
                    for other in [0u32, 1, 2, 59, 231].into_iter().filter(|n| *n != nr) {
                        let (was, is) = (verdict(&p, X86_64, other, args), verdict(&changed, X86_64, other, args));
                        prop_assert!(was == is || matches!(was, Verdict::Errno(38)) || matches!(is, Verdict::Errno(38)));
                    }
                }
            }
        }
    }

    #[test]
    fn a_recorded_profile_allows_what_was_called_and_no_more(
        names in prop::collection::vec(prop::sample::select(syscalls::all_names().collect::<Vec<_>>()), 0..30),
        args in prop::collection::vec(prop::array::uniform6(any_value()), 30), tail in any::<bool>(), earlier in any::<bool>(),
    ) {
        use super::change::{Call, narrowed};
        let calls: Vec<Call> = names.iter().chain(&["socket", "ioctl", "clone", "prctl", "personality"]).zip(&args)
            .filter_map(|(n, args)| Some(Call { arch: X86_64, nr: explain::native(n)?, args: *args })).collect();
        let base = if earlier { Some(default_profile().unwrap()) } else { None };
        let made = explain::recorded(base.clone(), &calls, tail).unwrap();
        let program = compile_on(Abi::X86_64, &made).unwrap();
        let says = |nr: u32, args: [u64; 6]| run(&program.insns, &super::emulate::Call { nr, arch: X86_64, args }).0;
        let always = ["execve", "exit_group", "write", "restart_syscall", "rt_sigreturn"];
        for name in always.iter().chain(if tail { &["capset", "prctl"][..] } else { &[] }) {
            prop_assert_eq!(says(explain::native(name).unwrap(), [0; 6]), ALLOW, "{}", name);
        }
        for call in &calls {
            prop_assert_eq!(says(call.nr, call.args), ALLOW, "{:?}", call);
            let mut other = call.args;
            for condition in narrowed(call.name().unwrap(), call.args) {
                other[condition.index()] ^= 1 << 25;
            }
            let known = calls.iter().any(|c| c.nr == call.nr && narrowed(c.name().unwrap(), c.args) == narrowed(call.name().unwrap(), other));
            if !known && !earlier && !tail {
                prop_assert_ne!(says(call.nr, other), ALLOW, "{:?}", call);
            }
        }
        for name in explain::native_names() {
            let nr = explain::native(name).unwrap();
            let called = calls.iter().any(|c| c.nr == nr) || explain::always(name) || tail && ["capset", "prctl"].contains(&name);
            let before = base.as_ref().is_some_and(|b| verdict_on(Abi::X86_64, b, X86_64, nr, [0; 6]).permits());
            prop_assert!(called || (says(nr, [0; 6]) == ALLOW) == before, "{}", name);
        }
    }

    #[test]
    fn tidying_and_merging_change_no_answer(a in any_profile(), b in any_profile()) {
        let tidied = explain::tidy(a.clone());
        let both = explain::merged(a.clone(), &b);
        let mut numbers: Vec<u32> = [&a, &b].iter().flat_map(|p| entries(p)).flat_map(|e| e.names())
            .filter_map(|n| Syscall::named(n)?.number(Abi::X86_64)).collect();
        numbers.extend([0, 1, 41, 56]);
        for nr in numbers {
            for args in arguments(&a).into_iter().chain(arguments(&b)).step_by(7) {
                let of = |p: &LinuxSeccomp| verdict_on(Abi::X86_64, p, X86_64, nr, args);
                prop_assert_eq!(of(&a).rank(), of(&tidied).rank());
                if of(&a) == Verdict::Allow && of(&b) == Verdict::Allow {
                    prop_assert!(of(&both).permits(), "{} {:x?}: {:?}", nr, args, both);
                }
            }
        }
    }

    #[test]
    fn every_comparison_agrees_with_seccompiler(c in any_condition(), args in prop::array::uniform6(any_value())) {
        use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};
        let arg: LinuxSeccompArg = serde_json::from_value(c.clone()).unwrap();
        let op = match arg.op() {
            Op::ScmpCmpNe => SeccompCmpOp::Ne,
            Op::ScmpCmpLt => SeccompCmpOp::Lt,
            Op::ScmpCmpLe => SeccompCmpOp::Le,
            Op::ScmpCmpEq => SeccompCmpOp::Eq,
            Op::ScmpCmpGe => SeccompCmpOp::Ge,
            Op::ScmpCmpGt => SeccompCmpOp::Gt,
            Op::ScmpCmpMaskedEq => SeccompCmpOp::MaskedEq(arg.value()),
        };
        let value = if arg.op() == Op::ScmpCmpMaskedEq { arg.value_two().unwrap_or(0) } else { arg.value() };
        let theirs = SeccompCondition::new(arg.index() as u8, SeccompCmpArgLen::Qword, op, value).unwrap();
        let rules = [(1i64, vec![SeccompRule::new(vec![theirs]).unwrap()])].into();
        let theirs: seccompiler::BpfProgram = SeccompFilter::new(
            rules, SeccompAction::Errno(1), SeccompAction::Allow, seccompiler::TargetArch::x86_64,
        ).unwrap().try_into().unwrap();
        let theirs: Vec<libc::sock_filter> =
            theirs.iter().map(|i| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
        let p = profile(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            { "names": ["write"], "action": "SCMP_ACT_ALLOW", "args": [c] }] }));
        let ours = compile_on(Abi::X86_64, &p).unwrap();
        for mut lists in around(value).into_iter().map(|v| (v, args)) {
            lists.1[arg.index()] = lists.0;
            for args in [args, lists.1] {
                let call = Call { nr: 1, arch: X86_64, args };
                prop_assert_eq!(run(&ours.insns, &call).0, run(&theirs, &call).0, "{:x?}", call);
            }
        }
    }
}

/// A call under the default profile, by name, through the compiled program.
fn default_says(name: &str, args: [u64; 6]) -> u32 {
    static PROGRAM: LazyLock<Vec<libc::sock_filter>> =
        LazyLock::new(|| compile_on(Abi::X86_64, &default_profile().unwrap()).unwrap().insns);
    let nr = Syscall::named(name).unwrap().number(Abi::X86_64).unwrap();
    run(&PROGRAM, &Call { nr, arch: X86_64, args }).0
}

#[test]
fn what_is_said_of_a_call_is_what_the_profile_does() {
    let p = profile(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        { "names": ["read", "mkdir"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["mkdir"], "action": "SCMP_ACT_KILL" },
        { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
            { "index": 0, "value": 16, "op": "SCMP_CMP_EQ" }, { "index": 2, "value": 0, "op": "SCMP_CMP_EQ" }] },
        { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }] },
        { "names": ["ioctl"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": [
            { "index": 1, "value": 4294967295u32, "valueTwo": 0x5412, "op": "SCMP_CMP_MASKED_EQ" }] },
        { "names": ["clone"], "action": "SCMP_ACT_ERRNO", "args": [
            { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 2, "op": "SCMP_CMP_EQ" }] },
        { "names": ["pidfd_open"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }] }));
    for (name, expect) in [
        ("read", "allow"),
        ("mkdir", "kill the thread"),
        ("socket", "allow if arg0 == 1; or arg0 == 16 and arg2 == 0, else EPERM"),
        ("ioctl", "EACCES if arg1 & 0xffffffff == 0x5412, else allow"),
        ("clone", "EPERM"),
        ("unshare", "EPERM"),
        ("pidfd_open", "ENOSYS"),
        ("mseal", "ENOSYS"),
        ("no_such", "no such system call here"),
    ] {
        assert_eq!(explain::about(&p, name), expect, "{name}");
    }
    // For every call without conditions it is the verdict.
    for p in [default_profile().unwrap(), explain::docker_profile().unwrap(), like_docker()] {
        for name in explain::native_names() {
            let (said, nr) = (explain::about(&p, name), explain::native(name).unwrap());
            if !said.contains(" if ") {
                assert_eq!(said, explain::answer(verdict(&p, X86_64, nr, [0; 6])), "{name}");
            }
        }
    }
    assert_eq!(explain::diff(&p, &p), [""; 0]);
    let docker = explain::docker_profile().unwrap();
    let says = |name: &str, args: &[u64]| verdict(&docker, X86_64, explain::native(name).unwrap(), self::args(args));
    for (name, list, allowed) in [
        ("socket", &[38][..], false),
        ("socket", &[40], false),
        ("socket", &[39], true),
        ("socket", &[1], true),
        ("ptrace", &[], true),
        ("mount", &[], false),
        ("io_uring_setup", &[], false),
        ("clock_adjtime", &[], true),
        ("clone", &[0x1000_0000], false),
        ("clone", &[17], true),
        ("keyctl", &[], false),
        ("userfaultfd", &[], false),
        ("chroot", &[], true),
        ("personality", &[8], true),
        ("personality", &[9], false),
        ("openat2", &[], true),
    ] {
        assert_eq!(says(name, list).permits(), allowed, "{name} {list:?}");
    }
}

#[test]
fn arguments_are_read_as_people_write_them() {
    for (word, value) in [
        ("38", Some(38)),
        ("0x5412", Some(0x5412)),
        ("0o4755", Some(0o4755)),
        ("-1", Some(u64::MAX)),
        ("-100", Some(-100i64 as u64)),
        ("AF_ALG", Some(38)),
        ("TIOCSTI", Some(0x5412)),
        ("CLONE_NEWUSER|SIGCHLD", Some(0x1000_0011)),
        ("O_CREAT | O_WRONLY", Some(0o101)),
        ("", None),
        ("AF_NONE", None),
    ] {
        assert_eq!(explain::argument(word), value, "{word:?}");
    }
}

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const EAFNOSUPPORT: u32 = 0x0005_0061;
const ENOPROTOOPT: u32 = 0x0005_005c;
const KILL: u32 = 0x8000_0000;

fn args(of: &[u64]) -> [u64; 6] {
    let mut args = [0; 6];
    args[..of.len()].copy_from_slice(of);
    args
}

#[test]
fn default_opens_four_families_only() {
    for call in ["socket", "socketpair"] {
        for kind in [1, 2, 3, 1 | 0o2000000] {
            for family in 0..100 {
                for protocol in 0..30 {
                    let fine = matches!(family, 1 | 2 | 10) || family == 16 && protocol == 0;
                    let expect = if fine { ALLOW } else { EAFNOSUPPORT };
                    assert_eq!(default_says(call, args(&[family, kind, protocol])), expect, "{family} {protocol}");
                    // The kernel would take the low half.
                    assert_eq!(default_says(call, args(&[family | HIGH, kind, protocol])), EAFNOSUPPORT);
                }
            }
            assert_eq!(default_says(call, args(&[16, kind, HIGH])), EAFNOSUPPORT);
            assert_eq!(default_says(call, args(&[16, kind, 12 | HIGH])), EAFNOSUPPORT);
            assert_eq!(default_says(call, args(&[u64::MAX, kind, 0])), EAFNOSUPPORT);
        }
    }
}

#[test]
fn default_makes_no_namespaces() {
    for flag in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000u64] {
        for more in [0, 17, HIGH, u64::MAX] {
            assert_eq!(default_says("clone", args(&[flag | more])), EPERM, "{flag:x}");
        }
    }
    // fork, a thread of glibc, vfork and posix_spawn.
    for flags in [0x0120_0011, 0x003d_0f00, 0x4111, 0x4100 | 17] {
        assert_eq!(default_says("clone", args(&[flags])), ALLOW);
    }
    assert_eq!(default_says("clone3", [0; 6]), ENOSYS);
    assert_eq!(default_says("unshare", args(&[0x1000_0000])), EPERM);
    assert_eq!(default_says("setns", [0; 6]), EPERM);
}

#[test]
fn default_sets_no_setuid_bits() {
    let with_mode: [(&str, usize); 6] =
        [("chmod", 1), ("fchmod", 1), ("creat", 1), ("fchmodat", 2), ("fchmodat2", 2), ("mknodat", 2)];
    for (call, at) in with_mode {
        for high in [0, HIGH, 1 << 16, u64::MAX << 32] {
            for (mode, expect) in [(0o755, ALLOW), (0o1777, ALLOW), (0o4755, EPERM), (0o2755, EPERM), (0o6777, EPERM)] {
                let mut a = [0; 6];
                a[at] = mode | high;
                assert_eq!(default_says(call, a), expect, "{call} {mode:o} {high:x}");
            }
        }
    }
    for (call, at) in [("open", 1), ("openat", 2)] {
        for high in [0, HIGH] {
            for (flags, mode, expect) in [
                (0o101u64, 0o644, ALLOW),
                (0o101, 0o4755, EPERM),
                (0o101, 0o2755 | HIGH, EPERM),
                (0o20200002, 0o600, ALLOW),
                (0o20200002, 0o4700, EPERM),
                // Without O_CREAT the mode is what happened to be in the register.
                (0o2000000, 0xffff_ffff_ffff_ffff, ALLOW),
            ] {
                let mut a = [0; 6];
                a[at] = flags | high;
                a[at + 1] = mode;
                assert_eq!(default_says(call, a), expect, "{call} {flags:o} {mode:o}");
            }
        }
    }
    assert_eq!(default_says("openat2", [0; 6]), ENOSYS);
}

#[test]
fn default_makes_no_device_nodes() {
    for high in [0, HIGH, 1 << 16] {
        for (kind, expect) in [
            (0, ALLOW),
            (0o100000, ALLOW),
            (0o010000, ALLOW),
            (0o140000, ALLOW),
            (0o020000, EPERM),
            (0o060000, EPERM),
            (0o040000, EPERM),
            (0o120000, EPERM),
            (0o170000, EPERM),
        ] {
            assert_eq!(default_says("mknod", args(&[0, kind | 0o644 | high])), expect, "{kind:o}");
            assert_eq!(default_says("mknodat", args(&[0, 0, kind | 0o644 | high])), expect, "{kind:o}");
            assert_eq!(default_says("mknod", args(&[0, kind | 0o4755 | high])), EPERM, "{kind:o}");
        }
    }
}

#[test]
fn default_writes_into_no_terminal_and_no_kernel_tls() {
    for high in [0, HIGH, u64::MAX << 32] {
        assert_eq!(default_says("ioctl", args(&[0, 0x5412 | high])), EPERM);
        assert_eq!(default_says("ioctl", args(&[0, 0x541c | high])), EPERM);
        assert_eq!(default_says("ioctl", args(&[0, 0x5413 | high])), ALLOW);
        assert_eq!(default_says("ioctl", args(&[0, 0x8004_7456 | high])), ALLOW);
        assert_eq!(default_says("setsockopt", args(&[3, 6 | high, 31 | high])), ENOPROTOOPT);
        assert_eq!(default_says("setsockopt", args(&[3, 6 | high, 1])), ALLOW);
        assert_eq!(default_says("setsockopt", args(&[3, 1, 31 | high])), ALLOW);
    }
}

#[test]
fn default_personality_is_linux() {
    for (persona, expect) in [(0, ALLOW), (0xffff_ffff, ALLOW), (8, EPERM), (0x0040_0000, EPERM), (HIGH, EPERM)] {
        assert_eq!(default_says("personality", args(&[persona])), expect, "{persona:x}");
    }
}

#[test]
fn default_speaks_the_native_language_only() {
    let p = default_profile().unwrap();
    for (arch, nr) in [(I386, 4), (I386, 102), (AARCH64, 64), (X86_64, X32_BIT + 1), (X86_64, X32_BIT + 41)] {
        assert_eq!(verdict_on(Abi::X86_64, &p, arch, nr, [0; 6]).ret(), KILL);
        assert_eq!(run(&compile_on(Abi::X86_64, &p).unwrap().insns, &Call { nr, arch, args: [0; 6] }).0, KILL);
    }
}

#[test]
fn default_lets_the_launch_and_the_workload_live() {
    for name in ["execve", "write", "exit_group", "seccomp", "prctl", "futex", "rseq", "chroot", "setgroups", "capset"]
    {
        assert_eq!(default_says(name, [0; 6]), ALLOW, "{name}");
    }
    for name in ["mount", "bpf", "ptrace", "keyctl", "io_uring_setup", "userfaultfd", "init_module", "modify_ldt"] {
        assert_ne!(default_says(name, [0; 6]), ALLOW, "{name}");
    }
    // On this machine too, whichever it is.
    let p = default_profile().unwrap();
    let nr = libc::SYS_execve as u32;
    assert!(verdict(&p, Abi::NATIVE.audit(), nr, [0; 6]).permits());
}

#[test]
fn default_names_every_call_it_knows_of() {
    // So that what it does not allow is a decision, and ENOSYS means newer than 6.18.
    let p = default_profile().unwrap();
    for native in [Abi::X86_64, Abi::Aarch64] {
        let program = compile_on(native, &p).unwrap();
        assert_eq!((program.ignored, program.notes, program.flags), (vec![], vec![], 0));
        for (nr, expect) in [(469, ENOSYS), (470, ENOSYS), (600, ENOSYS), (467, EPERM), (400, EPERM)] {
            assert_eq!(run(&program.insns, &Call { nr, arch: native.audit(), args: [0; 6] }).0, expect, "{nr}");
        }
    }
}

#[test]
fn newer_than_the_profile_is_enosys_and_a_denial_is_its_errno() {
    let p = profile(json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13, "syscalls": [
        { "names": ["read", "close_range"], "action": "SCMP_ACT_ALLOW" }] }));
    let say = |nr| verdict_on(Abi::X86_64, &p, X86_64, nr, [0; 6]);
    assert_eq!(say(0), Verdict::Allow);
    assert_eq!(say(1), Verdict::Errno(13));
    assert_eq!(say(435), Verdict::Errno(13));
    assert_eq!(say(436), Verdict::Allow);
    assert_eq!(say(437), Verdict::Errno(38));
    agree(Abi::X86_64, &p, &[X86_64], &numbers());
    // A list of denials has nothing to say about what is new.
    let p = profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["close_range"], "action": "SCMP_ACT_ERRNO" }] }));
    assert_eq!(verdict_on(Abi::X86_64, &p, X86_64, 437, [0; 6]), Verdict::Allow);
    // But x32 would walk around it.
    assert_eq!(verdict_on(Abi::X86_64, &p, X86_64, X32_BIT + 436, [0; 6]), Verdict::KillProcess);
}

#[test]
fn one_argument_twice_lets_less_through() {
    let twice = |default: &str, action: &str, ops: [(&str, u64); 2]| {
        profile(json!({ "defaultAction": default, "syscalls": [{ "names": ["personality"], "action": action,
            "args": ops.map(|(op, v)| json!({ "index": 0, "value": v, "op": op })) }] }))
    };
    let says = |p: &LinuxSeccomp, arg| {
        agree(Abi::X86_64, p, &[X86_64], &[135]);
        verdict_on(Abi::X86_64, p, X86_64, 135, args(&[arg]))
    };
    // A list of values, whichever way.
    let values = [("SCMP_CMP_EQ", 1), ("SCMP_CMP_EQ", 8)];
    let p = twice("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", values);
    assert_eq!([1, 8, 3].map(|v| says(&p, v).permits()), [true, true, false]);
    assert_eq!(compile(&p).unwrap().notes.len(), 1);
    let p = twice("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", values);
    assert_eq!([1, 8, 3].map(|v| says(&p, v).permits()), [false, false, true]);
    // A range to allow is a range; runc would allow everything.
    let range = [("SCMP_CMP_GT", 3), ("SCMP_CMP_LT", 9)];
    let p = twice("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", range);
    assert_eq!([3, 4, 8, 9].map(|v| says(&p, v).permits()), [false, true, true, false]);
    // To deny "above 9 or below 3" means what it means in runc.
    let p = twice("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", [("SCMP_CMP_GT", 9), ("SCMP_CMP_LT", 3)]);
    assert_eq!([2, 3, 9, 10].map(|v| says(&p, v).permits()), [false, true, true, false]);
}

#[test]
fn the_strictest_entry_counts_and_a_repeated_default_does_not() {
    let p = profile(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        { "names": ["ioctl", "read", "write"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 1, "value": 7, "op": "SCMP_CMP_EQ" }] },
        { "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 },
        { "names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5 },
        { "names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 6 }] }));
    let say = |nr, arg| verdict_on(Abi::X86_64, &p, X86_64, nr, args(&[0, arg]));
    assert_eq!(say(16, 7), Verdict::Errno(1), "an exception to a wider entry");
    assert_eq!(say(16, 8), Verdict::Allow);
    assert_eq!(say(0, 0), Verdict::Allow, "repeats the default");
    assert_eq!(say(1, 0), Verdict::Errno(5), "the first of equally strict ones");
    agree(Abi::X86_64, &p, &[X86_64], &numbers());
}

#[test]
fn i386_reaches_sockets_by_socketcall_too() {
    let p = profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": [
        { "names": ["socket", "shmget", "send"], "action": "SCMP_ACT_ERRNO" }] }));
    let say = |nr, arg| verdict_on(Abi::X86_64, &p, I386, nr, args(&[arg]));
    assert_eq!(say(359, 0), Verdict::Errno(1));
    assert_eq!([1, 2, 9].map(|n| say(102, n)), [Verdict::Errno(1), Verdict::Allow, Verdict::Errno(1)]);
    let checked = profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": [
        { "names": ["socket"], "action": "SCMP_ACT_ERRNO",
          "args": [{ "index": 0, "value": 38, "op": "SCMP_CMP_EQ" }] }] }));
    assert!(compile_on(Abi::X86_64, &checked).unwrap().notes[0].contains("socketcall"));
    assert_eq!([23, 23 | 1 << 16, 21].map(|n| say(117, n)), [Verdict::Errno(1), Verdict::Errno(1), Verdict::Allow]);
    agree(Abi::X86_64, &p, &[X86_64, I386], &numbers());
}

#[test]
fn what_is_wrong_is_named() {
    let error = |p: Value| compile(&profile(p)).unwrap_err().to_string();
    let entry = |e: Value| {
        error(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        { "names": ["read"], "action": "SCMP_ACT_ALLOW" }, e] }))
    };
    let text = entry(json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [
        { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }] }));
    assert!(text.contains("linux.seccomp: syscalls[1].args[1].index: 6"), "{text}");
    let text = entry(json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096 }));
    assert!(text.contains("syscalls[1].errnoRet: 4096: SCMP_ACT_ERRNO takes 0 to 4095"), "{text}");
    let text = entry(json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1 }));
    assert!(text.contains("takes no errno"), "{text}");
    let text = entry(json!({ "names": [], "action": "SCMP_ACT_ALLOW" }));
    assert!(text.contains("syscalls[1].names: is empty"), "{text}");
    let text = entry(json!({ "names": ["read", ""], "action": "SCMP_ACT_ALLOW" }));
    assert!(text.contains("syscalls[1].names[1]: is empty"), "{text}");
    let text = error(json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000 }));
    assert!(text.contains("defaultErrnoRet: 70000"), "{text}");
    let many: Vec<_> = (0..100_000).map(|v| json!({ "index": 0, "value": v, "op": "SCMP_CMP_EQ" })).collect();
    let text = entry(json!({ "names": ["write"], "action": "SCMP_ACT_ALLOW", "args": many }));
    assert!(text.contains("4096 instructions") && text.contains("hint"), "{text}");
}

#[test]
fn what_is_skipped_is_named_once() {
    let p =
        profile(json!({ "defaultAction": "SCMP_ACT_NOTIFY", "architectures": ["SCMP_ARCH_S390X", "SCMP_ARCH_S390X"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{ "names": ["opne", "read", "opne", "fchown32", "s390_runtime_instr"],
                       "action": "SCMP_ACT_ALLOW" }] }));
    let program = compile(&p).unwrap();
    assert_eq!(program.ignored, ["SCMP_ARCH_S390X", "opne"]);
    assert!(program.notify);
    assert_eq!(program.flags, 2 | 32);
}

#[test]
fn long_programs_need_stepping_stones() {
    // More than 255 instructions in one section and between the tree and its sections.
    let mut entries: Vec<Value> = (0..150)
        .map(|v| {
            json!({ "names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
            "args": [{ "index": 1, "value": v * 3 * HIGH + v, "op": "SCMP_CMP_EQ" }] })
        })
        .collect();
    for (i, name) in syscalls::all_names().step_by(4).enumerate() {
        entries.push(json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": i,
            "args": [{ "index": i % 6, "value": i, "op": "SCMP_CMP_GE" },
                     { "index": (i + 1) % 6, "value": 1, "op": "SCMP_CMP_NE" }] }));
    }
    let p =
        profile(json!({ "defaultAction": "SCMP_ACT_TRAP", "architectures": ["SCMP_ARCH_X86"], "syscalls": entries }));
    assert!(compile_on(Abi::X86_64, &p).unwrap().insns.len() > 1500);
    let some: Vec<u32> = numbers().into_iter().step_by(3).chain([16, 54]).collect();
    agree(Abi::X86_64, &p, &[X86_64, I386], &some);
}
