//! What must hold of everything that the parser, the planner and the seccomp compiler give back.
//!
//! The fuzz targets check it for inputs of their own making; `tests/bad_input.rs` checks it for the seeds.

use oci_spec::runtime::{LinuxSeccomp, Spec};
use std::sync::OnceLock;
use stockade::bundle::{Bundle, Unknown};
use stockade::error::Error;
use stockade::host::{Cgroup, Host, Ids, Range};
use stockade::plan::{self, Options, Plan, Step};
use stockade::policy::Policy;
use stockade::seccomp::{self, Verdict, syscalls::Abi};

/// An error is one printable line of a bounded length, whatever the input was.
pub fn one_line(e: &Error) {
    let text = e.to_string();
    assert!(!text.is_empty(), "an error without words");
    assert!(text.len() < 8192, "an error of {} bytes", text.len());
    assert!(!text.chars().any(char::is_control), "an error with control characters: {text:?}");
}

/// What `parse` promises of a config that it lets through.
pub fn parsed(spec: &Spec, unknown: &Unknown) {
    assert!(unknown.fields.is_sorted());
    let text = |s: &str| assert!(!s.contains('\0'), "a NUL came through: {s:?}");
    if let Some(process) = spec.process() {
        let args = process.args().as_deref().unwrap_or_default();
        assert!(args.first().is_some_and(|a| !a.is_empty()));
        args.iter().chain(process.env().iter().flatten()).for_each(|s| text(s));
        assert!(process.cwd().is_absolute());
        assert!(process.user().uid() < 1 << 31 && process.user().gid() < 1 << 31);
        assert!(process.rlimits().iter().flatten().all(|r| r.soft() <= r.hard()));
    }
    assert!(spec.hostname().as_ref().is_none_or(|h| h.len() <= 64));
    for mount in spec.mounts().iter().flatten() {
        text(&mount.destination().to_string_lossy());
    }
    if let Some(linux) = spec.linux() {
        for maps in [linux.uid_mappings(), linux.gid_mappings()] {
            for (i, a) in maps.iter().flatten().enumerate() {
                assert!(a.size() > 0);
                let ends = |start: u32| u64::from(start) + u64::from(a.size());
                assert!(ends(a.host_id()) <= 1 << 32 && ends(a.container_id()) <= 1 << 32);
                for b in maps.iter().flatten().take(i) {
                    let apart =
                        |x: u32, y: u32| ends(x) <= u64::from(y) || u64::from(y) + u64::from(b.size()) <= u64::from(x);
                    assert!(apart(a.host_id(), b.host_id()) && apart(a.container_id(), b.container_id()));
                }
            }
        }
    }
}

/// A host by choice.
pub fn host(choice: u8) -> Host {
    let privileged = choice & 1 == 0;
    let cgroup = match choice & 6 {
        0 => Cgroup {
            mount: Some("/sys/fs/cgroup".into()),
            base: "/user.slice".into(),
            controllers: ["cpu", "cpuset", "io", "memory", "pids"].map(String::from).into(),
            writable: true,
            ..Cgroup::default()
        },
        2 => Cgroup {
            mount: Some("/sys/fs/cgroup/unified".into()),
            base: "/".into(),
            on_v1: ["cpu", "memory", "pids"].map(String::from).into(),
            writable: true,
            ..Cgroup::default()
        },
        4 => Cgroup { mount: Some("/sys/fs/cgroup".into()), ..Cgroup::default() },
        _ => Cgroup::default(),
    };
    let subordinate = choice & 8 == 0;
    let ranges = |start| if subordinate && !privileged { vec![Range { start, count: 65_536 }] } else { vec![] };
    Host {
        kernel: if choice & 16 == 0 { "6.18.5" } else { "5.4.0-generic" }.into(),
        uid: if privileged { 0 } else { 1000 },
        gid: if privileged { 0 } else { 1000 },
        groups: if choice & 32 == 0 { vec![] } else { vec![27, 1000] },
        caps: if privileged { 0x1ff_ffff_ffff } else { 0 },
        known_caps: if choice & 16 == 0 { u64::MAX } else { (1 << 38) - 1 },
        apparmor: choice & 32 == 0,
        confined: None,
        selinux: choice & 32 != 0,
        resctrl: (choice & 8 == 0).then(|| "/sys/fs/resctrl".into()),
        initial_userns: choice & 64 == 0,
        binary: stockade::host::Binary::File { uid: 0, mode: 0o755 },
        landlock: 7,
        cgroup,
        ids: Ids {
            block: privileged.then_some(Range { start: 589_824, count: 65_536 }),
            held: if choice & 3 == 3 { vec![Range { start: 700_000, count: 65_536 }] } else { vec![] },
            sub_uids: ranges(100_000),
            sub_gids: ranges(200_000),
        },
        sources: Vec::new(),
        namespaces: Vec::new(),
    }
}

/// A policy that ships.
pub fn policy(name: &str) -> &'static Policy {
    const NAMES: [&str; 3] = ["strict", "engine", "oci"];
    static POLICIES: OnceLock<[Policy; 3]> = OnceLock::new();
    let at = NAMES.iter().position(|n| *n == name).expect("one of these");
    &POLICIES.get_or_init(|| NAMES.map(|name| Policy::load(name).expect("a shipped policy")))[at]
}

/// Plans a config on a host under a policy, or two of them, all by choice, and checks the plans.
pub fn planned(choice: u8, spec: Spec, unknown: Unknown) {
    let host = host(choice);
    let bundle = Bundle { dir: "/bundle".into(), rootfs: "/bundle/rootfs".into(), spec, unknown };
    let options = Options { id: "box".into(), ..Options::default() };
    let names: &[&str] = if choice & 128 == 0 { &["strict"] } else { &["oci", "engine"] };
    for name in names {
        let plan = match plan::plan(&bundle, policy(name), &host, &options) {
            Ok(plan) => plan,
            Err(e) => {
                one_line(&e);
                continue;
            }
        };
        check(&plan);
        match *name {
            "strict" => check_strict(&plan, &host),
            "engine" => check_engine(&plan),
            _ => {}
        }
        // Explaining costs more than planning: for some it must do.
        if plan.steps.len() % 4 == 0 {
            let text = plan::explain::text(&plan, &host);
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "explain prints control characters");
        }
    }
}

/// A step, or what a Try would do.
fn both(step: &Step) -> Vec<&Step> {
    match step {
        Step::Try { step, or, .. } => [both(step), both(or)].concat(),
        other => vec![other],
    }
}

fn places(plan: &Plan, is: impl Fn(&Step) -> bool) -> Vec<usize> {
    plan.steps.iter().enumerate().filter(|(_, s)| both(s).into_iter().any(&is)).map(|(i, _)| i).collect()
}

fn only(plan: &Plan, what: &str, is: impl Fn(&Step) -> bool) -> usize {
    match places(plan, is)[..] {
        [at] => at,
        ref other => panic!("{} steps {what}", other.len()),
    }
}

fn shapes_the_view(step: &Step) -> bool {
    matches!(
        step,
        Step::Detach { .. }
            | Step::AttachRootfs { .. }
            | Step::Filesystem { .. }
            | Step::Bind { .. }
            | Step::Devices { .. }
            | Step::Console { .. }
            | Step::SetAttr { .. }
            | Step::Mask { .. }
            | Step::ReadonlyPaths { .. }
    )
}

/// What holds for every plan under every policy.
fn check(plan: &Plan) {
    let record = only(plan, "Record", |s| matches!(s, Step::Record));
    let clone = only(plan, "Clone", |s| matches!(s, Step::Clone { .. }));
    let go = only(plan, "Go", |s| matches!(s, Step::Go));
    let wait = only(plan, "AwaitGo", |s| matches!(s, Step::AwaitGo));
    let root = only(plan, "AttachRootfs", |s| matches!(s, Step::AttachRootfs { .. }));
    let pivot = only(plan, "Pivot", |s| matches!(s, Step::Pivot { .. }));
    let close = only(plan, "CloseFds", |s| matches!(s, Step::CloseFds { .. }));
    let bounding = only(plan, "Bounding", |s| matches!(s, Step::Bounding { .. }));
    let ids = only(plan, "Ids", |s| matches!(s, Step::Ids { .. }));
    let ready = only(plan, "Ready", |s| matches!(s, Step::Ready));
    let gate = only(plan, "Gate", |s| matches!(s, Step::Gate));
    let exec = only(plan, "Exec", |s| matches!(s, Step::Exec { .. }));
    let order = [record, clone, go, wait, root, pivot, close, bounding, ids, ready, gate, exec];
    assert!(order.is_sorted(), "out of order: {order:?}");
    assert_eq!(exec, plan.steps.len() - 1, "something comes after the exec");
    assert!(places(plan, shapes_the_view).into_iter().all(|n| n < pivot), "a mount after the pivot");
    assert!(places(plan, |s| matches!(s, Step::Mask { .. } | Step::ReadonlyPaths { .. })).into_iter().all(|n| {
        places(plan, |s| matches!(s, Step::Filesystem { .. } | Step::Bind { .. })).into_iter().all(|m| m < n)
    }));
    let caps = places(plan, |s| matches!(s, Step::Capabilities { .. }));
    let filters = places(plan, |s| matches!(s, Step::Seccomp { .. }));
    let nnp = places(plan, |s| matches!(s, Step::NoNewPrivs));
    assert!(caps.iter().all(|n| *n > ids), "capabilities before ids");
    // One of the two legal tails, and nothing of ours between the filters and the exec but the last capset.
    let last_capset = usize::from(nnp.is_empty() && !filters.is_empty());
    assert!(nnp.len() < 2 && caps.len() == 1 + last_capset, "neither of the two tails");
    for (n, at) in filters.iter().rev().enumerate() {
        assert_eq!(*at, exec - 1 - n - last_capset, "a step between the filters and the exec");
    }
    for step in plan.steps.iter().flat_map(both) {
        if let Step::Seccomp { filter } = step {
            well_formed(&filter.program);
        }
    }
    for finding in &plan.findings {
        assert!(!finding.rule.is_empty() && !finding.field.is_empty() && !finding.why.is_empty());
    }
}

/// What strict promises whatever the config says.
fn check_strict(plan: &Plan, host: &Host) {
    let one = |is: fn(&Step) -> bool| !places(plan, is).is_empty();
    assert!(one(|s| matches!(s, Step::NoNewPrivs)), "no no_new_privs");
    assert!(one(|s| matches!(s, Step::Seccomp { .. })), "no filter");
    assert!(one(|s| matches!(s, Step::NoUserNamespaces)), "user namespaces inside");
    assert!(!one(|s| matches!(s, Step::Hooks { .. } | Step::ContainerHooks { .. })), "a hook");
    assert!(!one(|s| matches!(s, Step::Join { .. })), "a joined namespace");
    assert!(!plan.uid_map.is_empty() && !plan.gid_map.is_empty(), "no id map");
    if host.privileged() {
        assert!(plan.uid_map.iter().chain(&plan.gid_map).all(|m| m.outside >= 1), "host id 0 is mapped");
    }
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT
    let ceiling: u64 = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18].iter().map(|n| 1u64 << n).sum();
    for step in plan.steps.iter().flat_map(both) {
        match step {
            Step::Capabilities { caps, .. } => {
                let all = caps.bounding | caps.effective | caps.permitted | caps.inheritable | caps.ambient;
                assert_eq!(all & !ceiling, 0, "a capability above the ceiling");
            }
            Step::Bounding { keep, .. } => assert_eq!(keep & !ceiling, 0, "a bounding set above the ceiling"),
            Step::Clone { namespaces, .. } => {
                let old = host.kernel_version() < (5, 6);
                assert_eq!(namespaces.len(), if old { 7 } else { 8 }, "a namespace of the host: {namespaces:?}");
            }
            Step::Filesystem { target, attr, .. }
            | Step::Overlay { target, attr, .. }
            | Step::Bind { target, attr, source: plan::Source::Path(_), .. } => {
                assert!(attr.top().0 & plan::attr::NOSUID != 0, "{} without nosuid", target.display());
                if let Step::Filesystem { fstype, .. } = step {
                    let listed = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2"];
                    assert!(listed.contains(&fstype.as_str()), "a file system of type {fstype}");
                }
            }
            Step::CloneSource { path, attr, .. } | Step::Idmap { path, attr, .. } => {
                assert!(attr.top().0 & plan::attr::NOSUID != 0, "{} without nosuid", path.display());
                assert_eq!(attr.top().1 & !plan::attr::ATIME, 0, "a flag of the host's is lifted");
            }
            Step::Devices { nodes, .. } => {
                let usual = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)];
                assert!(nodes.iter().all(|n| usual.contains(&(n.major, n.minor))), "a device of the host");
            }
            _ => {}
        }
    }
}

/// What engine promises whatever the config says.
fn check_engine(plan: &Plan) {
    assert!(!places(plan, |s| matches!(s, Step::NoNewPrivs)).is_empty(), "no no_new_privs");
    assert!(!places(plan, |s| matches!(s, Step::Seccomp { .. })).is_empty(), "no filter");
    // Strict's, and IPC_LOCK.
    let ceiling: u64 = [0, 1, 3, 4, 5, 6, 7, 8, 10, 14, 18].iter().map(|n| 1u64 << n).sum();
    for step in plan.steps.iter().flat_map(both) {
        match step {
            Step::Capabilities { caps, .. } => {
                let all = caps.bounding | caps.effective | caps.permitted | caps.inheritable | caps.ambient;
                assert_eq!(all & !ceiling, 0, "a capability above the ceiling");
            }
            Step::Bounding { keep, .. } => assert_eq!(keep & !ceiling, 0, "a bounding set above the ceiling"),
            _ => {}
        }
    }
}

/// The kernel's own checks of a filter (seccomp_check_filter, bpf_check_classic), in short.
pub fn well_formed(program: &[plan::step::SockFilter]) {
    assert!(!program.is_empty() && program.len() <= 4096, "{} instructions", program.len());
    for (at, insn) in program.iter().enumerate() {
        let left = program.len() - 1 - at;
        match insn.code {
            0x20 => assert!(insn.k % 4 == 0 && insn.k < 64, "{at}: loads from {}", insn.k),
            0x54 | 0x06 => {}
            0x05 => assert!((insn.k as usize) < left, "{at}: jumps out of the program"),
            0x15 | 0x25 | 0x35 | 0x45 => {
                assert!(usize::from(insn.jt.max(insn.jf)) < left, "{at}: branches out of the program");
            }
            code => panic!("{at}: instruction {code:#x} is none of a filter"),
        }
    }
    assert_eq!(program[program.len() - 1].code, 0x06, "the last instruction is not a return");
}

/// Runs a program over a `struct seccomp_data`. It has no loops, because jumps only go forward.
fn run(program: &[plan::step::SockFilter], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
    let mut data = [0u32; 16];
    (data[0], data[1]) = (nr, arch);
    for (i, arg) in args.iter().enumerate() {
        (data[4 + 2 * i], data[5 + 2 * i]) = (*arg as u32, (*arg >> 32) as u32);
    }
    let (mut at, mut a) = (0usize, 0u32);
    loop {
        let insn = program[at];
        at += 1;
        let branch = |yes: bool| usize::from(if yes { insn.jt } else { insn.jf });
        match insn.code {
            0x20 => a = data[insn.k as usize / 4],
            0x54 => a &= insn.k,
            0x06 => return insn.k,
            0x05 => at += insn.k as usize,
            0x15 => at += branch(a == insn.k),
            0x25 => at += branch(a > insn.k),
            0x35 => at += branch(a >= insn.k),
            0x45 => at += branch(a & insn.k != 0),
            code => panic!("instruction {code:#x}"),
        }
    }
}

/// A program is well-formed and says what the profile says, at the numbers and values that the profile is about.
pub fn compiled(profile: &LinuxSeccomp, program: &[plan::step::SockFilter]) {
    well_formed(program);
    let native = Abi::NATIVE.audit();
    let mut calls: Vec<(u32, u32)> = Vec::new();
    for arch in [native, 0x4000_0003, 0xc000_00b7, 0] {
        calls.extend(
            [0, 1, 59, 102, 117, 231, 500, 511, 512, 547, 1 << 30, (1 << 30) + 512, u32::MAX].map(|n| (arch, n)),
        );
    }
    let mut values: Vec<u64> = vec![0, u64::MAX];
    for entry in profile.syscalls().iter().flatten().take(6) {
        for name in entry.names().iter().take(3) {
            for (abi, extra) in [(Abi::X86_64, 0), (Abi::I386, 0), (Abi::X32, 1 << 30), (Abi::Aarch64, 0)] {
                if let Some(n) = seccomp::syscalls::Syscall::named(name).and_then(|s| s.number(abi)) {
                    calls.extend([(abi.audit(), n + extra), (abi.audit(), n + extra + 1)]);
                }
            }
        }
        for arg in entry.args().iter().flatten().take(3) {
            let v = arg.value();
            values.extend([v, v.wrapping_add(1), v ^ (1 << 32), arg.value_two().unwrap_or(0)]);
        }
    }
    // The plain reading looks at every name for every question, and the fuzzer must be fast: a few questions tell.
    let names: usize = profile.syscalls().iter().flatten().map(|e| 1 + e.names().len()).sum();
    let questions = (100_000 / names.max(1)).clamp(64, 2000);
    let all = calls.len() * values.len();
    for n in (0..all).step_by(all / questions + 1) {
        let ((arch, nr), at) = (calls[n % calls.len()], n / calls.len());
        // The same value everywhere, or a mixture.
        let args =
            if n % 3 == 0 { [values[at]; 6] } else { [0, 1, 2, 3, 4, 5].map(|k| values[(at + k) % values.len()]) };
        let want: Verdict = seccomp::verdict(profile, arch, nr, args);
        let got = run(program, arch, nr, args);
        assert_eq!(got, want.ret(), "arch {arch:#x}, number {nr}, {args:x?}: {want:?}");
    }
}
