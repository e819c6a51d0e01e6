//! The calls that nix lacks. All unsafe code of stockade is in this file.
//!
//! Every function is a thin wrapper: descriptors go in borrowed and come out owned, an error is an `Errno`, and no
//! policy lives here. Each names its man page. Kernel constants that libc lacks, or has wrong for our use, are spelled
//! out beside the call that takes them.

#![allow(unsafe_code)]

use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

type Res<T> = std::result::Result<T, Errno>;

/// Turns a return value of syscall(2) into a result.
fn check(ret: libc::c_long) -> Res<libc::c_long> {
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}

/// Makes a function the program's `main`, as libc calls it. std's own start is left out: it reads /proc/self/maps and
/// makes a stack for a handler that only says "stack overflow" before the same end, in some twenty system calls.
#[macro_export]
macro_rules! main {
    ($start:path) => {
        /// Called by libc.
        // SAFETY: the one symbol of this name in the program, with a signature that libc calls.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        pub extern "C" fn main(_count: i32, words: *mut *mut std::ffi::c_char) -> i32 {
            $crate::sys::remember_words(words);
            $start()
        }
    };
}

/// What std does before main: no descriptor of ours may get the number of a standard stream that the caller closed, and
/// a reader that is gone is an error of the write.
pub fn prepare_streams() {
    let watch = |fd| libc::pollfd { fd, events: 0, revents: 0 };
    let mut fds = [watch(0), watch(1), watch(2)];
    // SAFETY: three entries of one live array; POLLNVAL tells which is closed. open(2) takes the lowest number that is
    // free, a C string that outlives the call, and no mode because it makes nothing. SIG_IGN is a valid disposition.
    unsafe {
        libc::poll(fds.as_mut_ptr(), 3, 0);
        for fd in fds.iter().filter(|fd| fd.revents & libc::POLLNVAL != 0) {
            if libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) != fd.fd {
                libc::abort();
            }
        }
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// The heap grows by so much at once: a launch needs that, and would ask for it a few pages at a time.
pub fn prepare_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes any numbers, and no other thread is there yet.
    unsafe {
        libc::mallopt(libc::M_TOP_PAD, 512 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
    }
}

/// Takes ownership of a descriptor that the kernel just returned.
fn owned(ret: libc::c_long) -> Res<OwnedFd> {
    let fd = check(ret)? as RawFd;
    // SAFETY: the kernel has just returned this descriptor to us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn cstr(s: &str) -> Res<CString> {
    CString::new(s).map_err(|_| Errno::EINVAL)
}

// ---------------------------------------------------------------- processes

/// `CLONE_INTO_CGROUP`. `libc::CLONE_INTO_CGROUP` is an int and evaluates to 0 in libc 0.2.
pub const CLONE_INTO_CGROUP: u64 = 1 << 33;
/// `CLONE_PIDFD`.
pub const CLONE_PIDFD: u64 = 0x1000;
/// `CLONE_NEWTIME`, which shares its bit with the exit signal of clone(2) and works only in clone3 and unshare.
pub const CLONE_NEWTIME: u64 = 0x80;

/// `CLONE_PARENT`: the child becomes our sibling.
pub const CLONE_PARENT: u64 = 0x8000;

/// What clone3(2) returns, in each of the two processes that return from it.
#[derive(Debug)]
pub enum Cloned {
    /// We are the parent.
    Parent {
        /// The child's pid in our pid namespace.
        pid: i32,
        /// A descriptor of the child.
        pidfd: OwnedFd,
    },
    /// We are the child: a copy of the single-threaded parent, on a copy-on-write image of its memory.
    Child,
}

/// clone3(2), fork-like: no shared memory, SIGCHLD on exit (of a sibling: the signal that our own exit sends), a pidfd.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Res<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers; all zero is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | CLONE_PIDFD;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    // With CLONE_PARENT the signal is inherited, and the kernel wants none to be named.
    args.exit_signal = if flags & CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: no CLONE_VM, so the child runs on its own copy of the memory, as after fork(2). stockade has one thread
    // only, so no lock of the allocator or of libc can be held by a thread that does not exist in the child.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match check(ret)? {
        0 => Ok(Cloned::Child),
        // SAFETY: CLONE_PIDFD stored a new descriptor, which only we know.
        pid => Ok(Cloned::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// clone(2) of a sibling, fork-like, with a pidfd. The older call, because filters that look into its flags answer ENOSYS
/// to clone3, whose flags are in memory.
pub fn clone_sibling() -> Res<Cloned> {
    let mut pidfd: RawFd = -1;
    let flags = CLONE_PARENT | CLONE_PIDFD;
    // SAFETY: as in clone3; no stack of its own, so it goes on with a copy of ours; the third argument is where
    // CLONE_PIDFD stores, and lives across the call. The last two belong to flags that are not set.
    let ret = unsafe { libc::syscall(libc::SYS_clone, flags, 0u64, &raw mut pidfd, 0u64, 0u64) };
    match check(ret)? {
        0 => Ok(Cloned::Child),
        // SAFETY: CLONE_PIDFD stored a new descriptor, which only we know.
        pid => Ok(Cloned::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// Where the kernel laid the arguments, then the environment: each strings and a null.
static WORDS: AtomicPtr<*mut libc::c_char> = AtomicPtr::new(std::ptr::null_mut());

/// Called by `main!` with what `main` was given, once and before anything else.
pub fn remember_words(words: *mut *mut libc::c_char) {
    WORDS.store(words, Ordering::Relaxed);
}

/// Overwrites our arguments and our environment: /proc/PID/cmdline and /proc/PID/environ, execve(2). For a process that
/// strangers may look into; whoever asks for them afterwards finds empty strings.
pub fn forget_words() {
    let mut at = WORDS.load(Ordering::Relaxed);
    if at.is_null() {
        return;
    }
    // SAFETY: `main` was given this pointer by libc: two arrays on the stack that live as long as the process, each ended
    // by a null, of C strings that are writable (exec(3)). stockade has one thread, and keeps no reference into them: std
    // hands out copies.
    unsafe {
        for _ in 0..2 {
            while !(*at).is_null() {
                std::ptr::write_bytes(*at, 0, libc::strlen(*at));
                at = at.add(1);
            }
            at = at.add(1);
        }
    }
}

/// pidfd_open(2).
pub fn pidfd_open(pid: i32) -> Res<OwnedFd> {
    // SAFETY: integers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// PIDFD_GET_INFO of ioctl_pidfd(2): the status of a process that was waited for by its parent, as wait(2) tells it; since
/// Linux 6.15, and none before.
pub fn pidfd_exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    /// The kernel's first version of `struct pidfd_info`.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    // _IOWR(0xff, 11, 64 bytes)
    const PIDFD_GET_INFO: u64 = 0xc040_ff0b;
    const { assert!(size_of::<Info>() == 64) };
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    // SAFETY: the kernel fills at most the size that the request names, which is the struct's.
    let ret = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    (ret == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// setns(2) into the namespaces of these types that the process of a pidfd is in, all at once; or into the one of an
/// ns descriptor. nix's own flags lack CLONE_NEWTIME.
pub fn setns(fd: BorrowedFd<'_>, types: u64) -> Res<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), types) }).map(drop)
}

/// NS_GET_NSTYPE of ioctl_ns(2): the type of a namespace, as a CLONE_NEW* flag.
pub fn ns_type(ns: BorrowedFd<'_>) -> Res<u64> {
    // SAFETY: the request takes no argument.
    check(libc::c_long::from(unsafe { libc::ioctl(ns.as_raw_fd(), 0xb703) })).map(|n| n as u64)
}

/// NS_GET_USERNS of ioctl_ns(2): the user namespace that owns this one. EPERM: it lies outside of ours.
pub fn ns_owner(ns: BorrowedFd<'_>) -> Res<OwnedFd> {
    // SAFETY: the request takes no argument.
    owned(libc::c_long::from(unsafe { libc::ioctl(ns.as_raw_fd(), 0xb701) }))
}

/// NS_GET_PARENT of ioctl_ns(2): the user namespace around this one. EPERM: it lies outside of ours, or there is none.
pub fn ns_parent(ns: BorrowedFd<'_>) -> Res<OwnedFd> {
    // SAFETY: the request takes no argument.
    owned(libc::c_long::from(unsafe { libc::ioctl(ns.as_raw_fd(), 0xb702) }))
}

/// pidfd_send_signal(2): reaches the process that we mean, even when its number has been used again.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Res<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means "as kill(2) would".
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) }).map(drop)
}

/// close_range(2) with CLOSE_RANGE_CLOEXEC or 0.
pub fn close_range(first: u32, last: u32, flags: u32) -> Res<()> {
    // SAFETY: closes descriptors by number; callers pass only ranges that hold no descriptor still in use.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// Closes every descriptor above 2 but these. For a process that does not return: values that own one are not dropped.
pub fn close_all_but(mut keep: Vec<RawFd>) -> Res<()> {
    keep.sort_unstable();
    let mut first = 3u32;
    for fd in keep.into_iter().filter(|fd| *fd > 2).map(RawFd::cast_unsigned) {
        if fd > first {
            close_range(first, fd - 1, 0)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX, 0)
}

/// `CLOSE_RANGE_CLOEXEC`: mark instead of close.
pub const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;

/// _exit(2): leaves at once, no destructors, no buffers.
pub fn exit(code: i32) -> ! {
    // SAFETY: never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// execve(2) over prepared pointers. Returns only when it failed.
pub fn execve(path: &CStr, argv: &ExecArray, envp: &ExecArray) -> Errno {
    // SAFETY: both arrays are null-terminated and own the strings they point to.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    Errno::last()
}

/// execveat(2) of an open file. Returns only when it failed.
pub fn fexecve(file: BorrowedFd<'_>, argv: &ExecArray, envp: &ExecArray) -> Errno {
    let (args, env) = (argv.pointers.as_ptr(), envp.pointers.as_ptr());
    // SAFETY: an empty path means the descriptor; both arrays are null-terminated and own the strings they point to.
    unsafe { libc::syscall(libc::SYS_execveat, file.as_raw_fd(), c"".as_ptr(), args, env, libc::AT_EMPTY_PATH) };
    Errno::last()
}

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    include_str!("stub.s"),
    head = const crate::stub::HEAD,
    table = const crate::stub::TABLE,
    eintr = const libc::EINTR,
    enoent = const libc::ENOENT,
    execve = const libc::SYS_execve,
    write = const libc::SYS_write,
    exit_group = const libc::SYS_exit_group,
);

/// The machine code of the stub, which lies in our file as data; none for a machine that it is not written for.
pub fn stub_code() -> &'static [u8] {
    #[cfg(target_arch = "x86_64")]
    {
        unsafe extern "C" {
            static stockade_stub_begin: u8;
            static stockade_stub_end: u8;
        }
        // SAFETY: two labels of one section of read-only data, in this order, with nothing but bytes between them.
        unsafe {
            let (begin, end) = (&raw const stockade_stub_begin, &raw const stockade_stub_end);
            std::slice::from_raw_parts(begin, end.offset_from_unsigned(begin))
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    &[]
}

/// memfd_create(2): a file in memory that may be executed and sealed.
pub fn executable_memory(name: &CStr) -> Res<OwnedFd> {
    /// Since Linux 6.3, where vm.memfd_noexec=1 makes it necessary.
    const MFD_EXEC: libc::c_uint = 0x10;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: `name` is a C string that outlives the call.
    let create = |flags: libc::c_uint| owned(unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), flags) });
    match create(flags | MFD_EXEC) {
        Err(Errno::EINVAL) => create(flags),
        other => other,
    }
}

/// The argument or environment block of execve(2): owned strings and the null-terminated array of pointers to them.
#[derive(Debug)]
pub struct ExecArray {
    _strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl ExecArray {
    /// Builds the block. A NUL inside a string is EINVAL.
    pub fn new<S: AsRef<str>>(items: &[S]) -> Res<Self> {
        Ok(Self::from_strings(items.iter().map(|s| cstr(s.as_ref())).collect::<Res<Vec<_>>>()?))
    }

    /// The same of strings that need not be text.
    pub fn from_strings(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        ExecArray { _strings: strings, pointers }
    }
}

/// prctl(2) with integer arguments.
fn prctl(option: i32, arg2: u64, arg3: u64) -> Res<i32> {
    // SAFETY: every option used in this file takes integers.
    check(unsafe { libc::prctl(option, arg2, arg3, 0, 0) } as libc::c_long).map(|n| n as i32)
}

/// PR_SET_PDEATHSIG(2const): the signal we get when our parent dies; 0 disarms.
pub fn set_parent_death_signal(signal: i32) -> Res<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, 0).map(drop)
}

/// PR_SET_DUMPABLE(2const).
pub fn set_dumpable(on: bool) -> Res<()> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(on), 0).map(drop)
}

/// PR_SET_NAME(2const): what ps(1) calls us; cut to 15 bytes.
pub fn set_name(name: &CStr) -> Res<()> {
    // SAFETY: the kernel reads a C string that outlives the call.
    check(libc::c_long::from(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) })).map(drop)
}

/// PR_SET_NO_NEW_PRIVS(2const).
pub fn set_no_new_privs() -> Res<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// PR_SET_MDWE(2const), PR_MDWE_REFUSE_EXEC_GAIN: no memory is both writable and executable, or executable later; kept
/// over execve(2).
pub fn deny_write_execute() -> Res<()> {
    const PR_SET_MDWE: i32 = 65;
    const PR_MDWE_REFUSE_EXEC_GAIN: u64 = 1;
    prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0).map(drop)
}

/// prctl(2), PR_SCHED_CORE with PR_SCHED_CORE_CREATE for this thread: a new cookie, which its children inherit
/// (Documentation/admin-guide/hw-vuln/core-scheduling.rst).
pub fn new_core_cookie() -> Res<()> {
    const PR_SCHED_CORE: i32 = 62;
    const PR_SCHED_CORE_CREATE: u64 = 1;
    prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0).map(drop)
}

/// PR_SET_KEEPCAPS(2const): keep the permitted set over a change of uid.
pub fn set_keep_caps(on: bool) -> Res<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(on), 0).map(drop)
}

/// PR_SET_CHILD_SUBREAPER(2const).
pub fn set_child_subreaper() -> Res<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// Whether we were started with privileges that our caller lacks (setuid, setgid, file capabilities): AT_SECURE of getauxval(3).
pub fn is_secure_exec() -> bool {
    // SAFETY: reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Nothing blocked and SIGPIPE at its default: what the runtime changed for itself is not the workload's (signal(7)).
pub fn reset_signals() -> Res<()> {
    // SAFETY: an empty set is made, then installed; SIG_DFL is a valid disposition.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        check(libc::c_long::from(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())))?;
        if libc::signal(libc::SIGPIPE, libc::SIG_DFL) == libc::SIG_ERR {
            return Err(Errno::last());
        }
    }
    Ok(())
}

/// Lets a program that we start die with us (PR_SET_PDEATHSIG(2const)).
pub fn die_with_us(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let own = || Ok(set_parent_death_signal(libc::SIGKILL)?);
    // SAFETY: between fork and exec only prctl is called: no allocation, no lock.
    unsafe { command.pre_exec(own) };
}

/// Puts a program that we start under a filter of its own, last before its execve.
pub fn filter_command(command: &mut std::process::Command, program: Vec<libc::sock_filter>, flags: u64) {
    use std::os::unix::process::CommandExt;
    let install = move || Ok(seccomp_install(&program, flags)?);
    // SAFETY: between fork and exec only seccomp is called: no allocation, no lock.
    unsafe { command.pre_exec(install) };
}

/// SIGCHLD at its default: a caller that ignores it hands that on, and then the kernel reaps our children unasked and
/// keeps their status (wait(2)).
pub fn keep_children() -> Res<()> {
    // SAFETY: SIG_DFL is a valid disposition.
    if unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } == libc::SIG_ERR { Err(Errno::last()) } else { Ok(()) }
}

/// prlimit(2) on ourselves or on a process of ours. Values are 64-bit on every architecture.
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Res<()> {
    let new = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let old = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: `new` lives across the call, the old value is not asked for.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const new, old) }).map(drop)
}

/// getrlimit(2) of ourselves, as (soft, hard).
pub fn get_rlimit(resource: u32) -> Res<(u64, u64)> {
    let new = std::ptr::null::<libc::rlimit64>();
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `old` is filled by the call, nothing new is set.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, new, &raw mut old) })?;
    Ok((old.rlim_cur, old.rlim_max))
}

/// `struct sched_attr` of sched_setattr(2), as it is since Linux 5.3.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedAttr {
    /// The size of this struct; filled in by the call.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// For SCHED_DEADLINE, in nanoseconds.
    pub runtime: u64,
    /// For SCHED_DEADLINE, in nanoseconds.
    pub deadline: u64,
    /// For SCHED_DEADLINE, in nanoseconds.
    pub period: u64,
    /// For SCHED_FLAG_UTIL_CLAMP_MIN.
    pub util_min: u32,
    /// For SCHED_FLAG_UTIL_CLAMP_MAX.
    pub util_max: u32,
}

const _: () = assert!(size_of::<SchedAttr>() == 56);

/// sched_setattr(2).
pub fn sched_setattr(pid: i32, attr: SchedAttr) -> Res<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..attr };
    // SAFETY: the struct lives across the call and states its own size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) }).map(drop)
}

/// ioprio_set(2) on one process: class 1 to 3, level 0 to 7.
pub fn ioprio_set(pid: i32, class: u8, level: u8) -> Res<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    let value = libc::c_int::from(class) << 13 | libc::c_int::from(level);
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, value) }).map(drop)
}

/// set_mempolicy(2) of ourselves: `MPOL_*` with `MPOL_F_*`, and nodes below 1024.
pub fn set_mempolicy(mode: u32, nodes: &[u32]) -> Res<()> {
    let mut mask = [0u64; 16];
    for node in nodes {
        *mask.get_mut(*node as usize / 64).ok_or(Errno::EINVAL)? |= 1 << (node % 64);
    }
    let pointer = if nodes.is_empty() { std::ptr::null() } else { mask.as_ptr() };
    // The kernel takes one bit less than it is told.
    let bits: libc::c_ulong = if nodes.is_empty() { 0 } else { 16 * 64 + 1 };
    // SAFETY: null with 0 bits, or a mask of 1024 bits that lives across the call. A u64 is two of the words of a 32-bit
    // kernel in the same order on a little-endian machine.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode as libc::c_int, pointer, bits) }).map(drop)
}

/// personality(2) of ourselves.
pub fn set_personality(domain: u32) -> Res<()> {
    // SAFETY: integers only.
    check(libc::c_long::from(unsafe { libc::personality(libc::c_ulong::from(domain)) })).map(drop)
}

// ---------------------------------------------------------------- capabilities

/// The three capability sets of a thread, as bits (capabilities(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapSets {
    /// What is in force.
    pub effective: u64,
    /// What may be put in force.
    pub permitted: u64,
    /// What survives an execve of a file with inheritable capabilities.
    pub inheritable: u64,
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

/// capget(2) of ourselves.
pub fn capget() -> Res<CapSets> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 fills exactly two elements.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(CapSets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// getgroups(2). nix asks sysconf for the most there can be, and that is a file of /proc to read.
pub fn getgroups() -> Res<Vec<u32>> {
    let mut groups = vec![0; 32];
    loop {
        // SAFETY: the vector has room for as many groups as it says, and nobody else changes those of this process.
        let count = unsafe { libc::getgroups(groups.len() as libc::c_int, groups.as_mut_ptr()) };
        match check(libc::c_long::from(count)) {
            Ok(count) => {
                groups.truncate(count as usize);
                return Ok(groups);
            }
            // More than that. A size of 0 only asks for the number.
            // SAFETY: nothing is written then.
            Err(Errno::EINVAL) => match unsafe { libc::getgroups(0, std::ptr::null_mut()) } {
                count if count as usize > groups.len() => groups.resize(count as usize, 0),
                _ => return Err(Errno::EINVAL),
            },
            Err(e) => return Err(e),
        }
    }
}

/// capset(2): the three sets at once, so that no order of single changes can go wrong.
pub fn capset(sets: CapSets) -> Res<()> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let half = |shift: u32| CapData {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads exactly two elements.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

/// PR_CAPBSET_DROP(2const). EINVAL: this kernel does not know the capability.
pub fn drop_bounding(cap: u8) -> Res<()> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(cap), 0).map(drop)
}

/// PR_CAPBSET_READ(2const). EINVAL: this kernel does not know the capability.
pub fn in_bounding(cap: u8) -> Res<bool> {
    prctl(libc::PR_CAPBSET_READ, u64::from(cap), 0).map(|n| n == 1)
}

/// PR_CAP_AMBIENT_CLEAR_ALL(2const).
pub fn clear_ambient() -> Res<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0).map(drop)
}

/// PR_CAP_AMBIENT_RAISE(2const).
pub fn raise_ambient(cap: u8) -> Res<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(cap)).map(drop)
}

// ---------------------------------------------------------------- seccomp, Landlock, keys

/// seccomp(2), SECCOMP_SET_MODE_FILTER. seccompiler's own installer always sets no_new_privs and takes no flags.
pub fn seccomp_install(program: &[libc::sock_filter], flags: u64) -> Res<()> {
    let prog = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions and writes none; the slice outlives the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const prog) }).map(drop)
}

/// seccomp(2) without a program: EFAULT when the kernel takes these flags, EINVAL when it does not know them.
pub fn seccomp_knows(flags: u64) -> bool {
    let none = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the kernel reads the program through a pointer that is checked by itself; nothing is installed.
    let answer = check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, none) });
    answer != Err(Errno::EINVAL) && answer != Err(Errno::ENOSYS)
}

/// The same with SECCOMP_FILTER_FLAG_NEW_LISTENER: a descriptor on which an agent reads what the filter asks about. It is
/// close-on-exec, and the caller must not close it: under the filter even that may be asked about.
pub fn seccomp_listen(program: &[libc::sock_filter], flags: u64) -> Res<RawFd> {
    let prog = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        filter: program.as_ptr().cast_mut(),
    };
    let flags = flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const prog) })
        .map(|fd| fd as RawFd)
}

/// A call that a filter asks about: `struct seccomp_notif`.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The question.
    pub id: u64,
    /// The thread that makes the call, in our pid namespace; 0: it is in none that we can see.
    pub pid: i32,
    /// The number of the call.
    pub nr: u32,
    /// AUDIT_ARCH_*.
    pub arch: u32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// SECCOMP_IOCTL_NOTIF_RECV of seccomp_unotify(2). ENOENT: who asked is gone.
pub fn seccomp_receive(listener: BorrowedFd<'_>) -> Res<Asked> {
    // SAFETY: plain integers, and the kernel wants them to be zero.
    let mut n: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one struct of the size that is in the request's number.
    let ret = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut n) };
    check(libc::c_long::from(ret))?;
    let (nr, arch, args) = (n.data.nr.cast_unsigned(), n.data.arch, n.data.args);
    Ok(Asked { id: n.id, pid: n.pid.cast_signed(), nr, arch, args })
}

/// SECCOMP_IOCTL_NOTIF_SEND of seccomp_unotify(2): the call is not made, and its result is this errno; 0: a success that
/// did nothing.
pub fn seccomp_answer(listener: BorrowedFd<'_>, id: u64, errno: i32) -> Res<()> {
    seccomp_send(listener, libc::seccomp_notif_resp { id, val: 0, error: -errno, flags: 0 })
}

/// The same with SECCOMP_USER_NOTIF_FLAG_CONTINUE: the call is made. Who asked can have changed what its arguments point
/// at, so this never is a judgement.
pub fn seccomp_continue(listener: BorrowedFd<'_>, id: u64) -> Res<()> {
    let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    seccomp_send(listener, libc::seccomp_notif_resp { id, val: 0, error: 0, flags })
}

fn seccomp_send(listener: BorrowedFd<'_>, mut answer: libc::seccomp_notif_resp) -> Res<()> {
    // SAFETY: the kernel reads one struct of the size that is in the request's number.
    let ret = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
    check(libc::c_long::from(ret)).map(drop)
}

/// SECCOMP_IOCTL_NOTIF_ID_VALID of seccomp_unotify(2): who asked still waits, so what was read of that pid was its own.
pub fn seccomp_still_asks(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads one 64-bit number.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// `LANDLOCK_ACCESS_NET_BIND_TCP`.
pub const LANDLOCK_BIND_TCP: u64 = 1;
/// `LANDLOCK_ACCESS_NET_CONNECT_TCP`.
pub const LANDLOCK_CONNECT_TCP: u64 = 2;

/// The version of Landlock that this kernel has in force; 0: none (landlock_create_ruleset(2)).
pub fn landlock_abi() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    let none = std::ptr::null::<u64>();
    // SAFETY: with this flag there is no struct to read, and what is returned is a number.
    let ret =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, LANDLOCK_CREATE_RULESET_VERSION) };
    u32::try_from(ret).unwrap_or(0)
}

/// landlock_create_ruleset(2): what is denied where no rule allows it. A kernel from before TCP takes a struct without it.
pub fn landlock_create_ruleset(fs: u64, net: u64) -> Res<OwnedFd> {
    let attr = [fs, net];
    let size = if net == 0 { size_of::<u64>() } else { size_of_val(&attr) };
    // SAFETY: the kernel reads `size` bytes of the struct, which is these 64-bit words and outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, attr.as_ptr(), size, 0) })
}

/// landlock_add_rule(2): this file, and what lies below it, may be accessed so.
pub fn landlock_add_path(set: BorrowedFd<'_>, file: BorrowedFd<'_>, access: u64) -> Res<()> {
    const LANDLOCK_RULE_PATH_BENEATH: libc::c_int = 1;
    #[repr(C, packed)]
    struct PathBeneath {
        access: u64,
        parent: RawFd,
    }
    let rule = PathBeneath { access, parent: file.as_raw_fd() };
    let (set, kind) = (set.as_raw_fd(), LANDLOCK_RULE_PATH_BENEATH);
    // SAFETY: the struct has the kernel's packed layout and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_landlock_add_rule, set, kind, &raw const rule, 0) }).map(drop)
}

/// landlock_add_rule(2): this port may be bound, or connected to.
pub fn landlock_add_port(set: BorrowedFd<'_>, port: u16, access: u64) -> Res<()> {
    const LANDLOCK_RULE_NET_PORT: libc::c_int = 2;
    let rule = [access, u64::from(port)];
    let (set, kind) = (set.as_raw_fd(), LANDLOCK_RULE_NET_PORT);
    // SAFETY: the struct is these two 64-bit words and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_landlock_add_rule, set, kind, rule.as_ptr(), 0) }).map(drop)
}

/// landlock_restrict_self(2): from here on, for us and all that we start. Needs no_new_privs or CAP_SYS_ADMIN.
pub fn landlock_restrict_self(set: BorrowedFd<'_>) -> Res<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, set.as_raw_fd(), 0) }).map(drop)
}

/// pidfd_getfd(2): a descriptor of another process, by its number there.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, number: RawFd) -> Res<OwnedFd> {
    // SAFETY: integers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })
}

/// keyctl(2), KEYCTL_JOIN_SESSION_KEYRING with a fresh anonymous keyring: keyrings are not namespaced.
pub fn new_session_keyring() -> Res<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    let name = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name) }).map(drop)
}

/// Memory for a secret: mmap(2), not swapped while mlock(2) holds it, in no core dump (madvise(2), MADV_DONTDUMP), and
/// wiped when it goes. A child has it, too.
pub struct PrivateMemory {
    at: std::ptr::NonNull<libc::c_void>,
    len: usize,
    locked: bool,
}

impl PrivateMemory {
    /// So many bytes, all 0.
    pub fn new(len: usize) -> Res<PrivateMemory> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, wherever the kernel has room.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0) };
        let at = std::ptr::NonNull::new(at).filter(|p| p.as_ptr() != libc::MAP_FAILED).ok_or_else(Errno::last)?;
        // SAFETY: the mapping is ours alone and `len` long.
        let locked = unsafe { libc::mlock(at.as_ptr(), len) } == 0;
        // SAFETY: as above.
        check(libc::c_long::from(unsafe { libc::madvise(at.as_ptr(), len, libc::MADV_DONTDUMP) }))?;
        Ok(PrivateMemory { at, len, locked })
    }

    /// Whether it is kept out of the swap. RLIMIT_MEMLOCK may be too low for that.
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: a live mapping of that length, initialised by the kernel.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast(), self.len) }
    }

    /// All of it, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed for us alone.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr().cast(), self.len) }
    }
}

impl Drop for PrivateMemory {
    fn drop(&mut self) {
        for byte in self.bytes_mut() {
            // SAFETY: a live reference; volatile, because nobody reads it again and a plain write might be left out.
            unsafe { std::ptr::write_volatile(byte, 0) };
        }
        // SAFETY: the mapping is ours, and nobody has a reference to it any more.
        unsafe { libc::munmap(self.at.as_ptr(), self.len) };
    }
}

// ---------------------------------------------------------------- mounts by descriptor

/// `MOUNT_ATTR_RDONLY`.
pub const ATTR_RDONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID`.
pub const ATTR_NOSUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV`.
pub const ATTR_NODEV: u64 = 0x4;
/// `MOUNT_ATTR_NOEXEC`.
pub const ATTR_NOEXEC: u64 = 0x8;
/// `MOUNT_ATTR__ATIME`: the mask of the access-time modes; a new mode needs the whole mask cleared.
pub const ATTR_ATIME: u64 = 0x70;
/// `MOUNT_ATTR_NOATIME`.
pub const ATTR_NOATIME: u64 = 0x10;
/// `MOUNT_ATTR_STRICTATIME`.
pub const ATTR_STRICTATIME: u64 = 0x20;
/// `MOUNT_ATTR_NODIRATIME`.
pub const ATTR_NODIRATIME: u64 = 0x80;
/// `MOUNT_ATTR_IDMAP`.
pub const ATTR_IDMAP: u64 = 0x0010_0000;
/// `MOUNT_ATTR_NOSYMFOLLOW`.
pub const ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;

const AT_RECURSIVE: libc::c_uint = 0x8000;
const AT_EMPTY_PATH: libc::c_uint = 0x1000;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;

/// open_tree(2) with OPEN_TREE_CLONE: a detached copy of the mount at `path` under `dir` (or of `dir` itself when `path` is empty).
pub fn clone_tree(dir: Option<BorrowedFd<'_>>, path: &str, recursive: bool) -> Res<OwnedFd> {
    let path = cstr(path)?;
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    if path.is_empty() {
        flags |= AT_EMPTY_PATH;
    }
    let dir = dir.map_or(libc::AT_FDCWD, |d| d.as_raw_fd());
    // SAFETY: `path` is a C string that outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })
}

/// move_mount(2) from a mount descriptor onto a descriptor of the target: no path is looked up twice.
pub fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Res<()> {
    const F_EMPTY_PATH: libc::c_uint = 0x4;
    const T_EMPTY_PATH: libc::c_uint = 0x40;
    let empty = c"".as_ptr();
    // SAFETY: two descriptors and two empty C strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            empty,
            target.as_raw_fd(),
            empty,
            F_EMPTY_PATH | T_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// What mount_setattr(2) changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttr<'a> {
    /// Attributes to add (`ATTR_*`).
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 to leave the propagation alone.
    pub propagation: u64,
    /// The user namespace whose id map the mount takes. Implies `ATTR_IDMAP`.
    pub idmap: Option<BorrowedFd<'a>>,
}

#[repr(C)]
struct MountAttrRaw {
    set: u64,
    clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// mount_setattr(2) on a mount descriptor.
pub fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: MountAttr<'_>) -> Res<()> {
    let raw = MountAttrRaw {
        set: attr.set | if attr.idmap.is_some() { ATTR_IDMAP } else { 0 },
        clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: attr.idmap.map_or(0, |f| f.as_raw_fd() as u64),
    };
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the struct is the kernel's first version of mount_attr and its exact size is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<MountAttrRaw>(),
        )
    })
    .map(drop)
}

/// Why a file system was refused: the errno, and what the file system said about it.
#[derive(Debug)]
pub struct Refused {
    /// The errno.
    pub errno: Errno,
    /// `tmpfs: Unknown parameter 'x'`, or nothing.
    pub said: String,
}

/// fsopen(2), fsconfig(2) for each option, fsmount(2): a new file system on a detached mount.
pub fn new_filesystem(
    fstype: &str,
    source: &str,
    options: &[(String, String)],
    attr: u64,
) -> std::result::Result<OwnedFd, Refused> {
    let plain = |errno| Refused { errno, said: String::new() };
    let name = cstr(fstype).map_err(plain)?;
    // SAFETY: `name` is a C string that outlives the call. 1 is FSOPEN_CLOEXEC.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), 1) }).map_err(plain)?;
    let made = configure(&context, source, options, attr).map_err(|errno| {
        // Each read(2) gives one message, `e ` and its words: fsopen(2). None is left: ENODATA.
        let mut said = Vec::new();
        let mut line = [0u8; 512];
        while let Ok(n) = nix::unistd::read(&context, &mut line) {
            said.push(String::from_utf8_lossy(&line[..n]).trim_start_matches("e ").trim().to_owned());
        }
        Refused { errno, said: said.join("; ") }
    });
    leave(context);
    made
}

fn configure(context: &OwnedFd, source: &str, options: &[(String, String)], attr: u64) -> Res<OwnedFd> {
    const CLOEXEC: libc::c_uint = 1;
    const SET_FLAG: libc::c_uint = 0;
    const SET_STRING: libc::c_uint = 1;
    const CMD_CREATE: libc::c_uint = 6;
    let config = |command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>| {
        let key = key.map_or(std::ptr::null(), CStr::as_ptr);
        let value = value.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: key and value are null or C strings that outlive the call.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) })
    };
    if !source.is_empty() {
        config(SET_STRING, Some(c"source"), Some(&cstr(source)?))?;
    }
    for (key, value) in options {
        let key = cstr(key)?;
        if value.is_empty() {
            config(SET_FLAG, Some(&key), None)?;
        } else {
            config(SET_STRING, Some(&key), Some(&cstr(value)?))?;
        }
    }
    config(CMD_CREATE, None, None)?;
    // SAFETY: integers and a live descriptor.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, attr) })
}

// ---------------------------------------------------------------- extended attributes

/// The names and values of one file's attributes are at most this long: xattr(7).
const XATTR_MAX: usize = 65_536;

/// flistxattr(2). A file system without attributes has none.
pub fn list_xattrs(fd: BorrowedFd<'_>) -> Res<Vec<CString>> {
    let mut names = vec![0u8; XATTR_MAX];
    // SAFETY: the kernel writes at most the given length.
    let n = match unsafe { libc::flistxattr(fd.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) } {
        -1 if Errno::last() == Errno::EOPNOTSUPP => 0,
        n => check(n as libc::c_long)? as usize,
    };
    Ok(names[..n]
        .split_inclusive(|b| *b == 0)
        .filter_map(|s| CStr::from_bytes_with_nul(s).ok()?.to_owned().into())
        .collect())
}

/// fgetxattr(2).
pub fn get_xattr(fd: BorrowedFd<'_>, name: &CStr) -> Res<Vec<u8>> {
    // Ours is short, and room for the longest would be sixteen pages to clear.
    let mut value = vec![0u8; 256];
    loop {
        // SAFETY: `name` is a C string, and the kernel writes at most the given length.
        let n = unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        match check(n as libc::c_long) {
            Ok(n) => {
                value.truncate(n as usize);
                return Ok(value);
            }
            Err(Errno::ERANGE) if value.len() < XATTR_MAX => value.resize(XATTR_MAX, 0),
            Err(e) => return Err(e),
        }
    }
}

/// fsetxattr(2), XATTR_CREATE: EEXIST if there is one of this name.
pub fn create_xattr(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Res<()> {
    // SAFETY: the name ends in NUL, `value` is valid for its length, and the kernel writes nothing back.
    let ret = unsafe {
        libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), libc::XATTR_CREATE)
    };
    check(ret.into()).map(drop)
}

/// fsetxattr(2).
pub fn set_xattr(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Res<()> {
    // SAFETY: a C string, and pointer and length of one live slice.
    let ret = unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(libc::c_long::from(ret)).map(drop)
}

// ---------------------------------------------------------------- terminals, network

/// TIOCGPTPEER(2const): the other end of a pseudo-terminal, opened without looking up a path that a container could have replaced.
pub fn pty_peer(master: BorrowedFd<'_>) -> Res<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: integers and a live descriptor.
    owned(libc::c_long::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }))
}

/// TIOCSPTLCK(2const): unlocks the other end of a pseudo-terminal.
pub fn pty_unlock(master: BorrowedFd<'_>) -> Res<()> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the request reads one int.
    check(libc::c_long::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }))
        .map(drop)
}

/// TIOCSCTTY(2const): makes a terminal the controlling one of our session.
pub fn set_controlling_tty(tty: BorrowedFd<'_>) -> Res<()> {
    // SAFETY: the request takes an integer.
    check(libc::c_long::from(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSCTTY, 0) })).map(drop)
}

/// TIOCGWINSZ(2const), as (rows, columns).
pub fn window_size(tty: BorrowedFd<'_>) -> Res<(u16, u16)> {
    // SAFETY: winsize is plain integers; all zero is a valid value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the request fills one winsize.
    check(libc::c_long::from(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) }))?;
    Ok((size.ws_row, size.ws_col))
}

/// TIOCSWINSZ(2const).
pub fn set_window_size(tty: BorrowedFd<'_>, rows: u16, columns: u16) -> Res<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request reads one winsize.
    check(libc::c_long::from(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })).map(drop)
}

/// Whether the working directory lies below our root, by getcwd(2) itself: it answers "(unreachable)..." when not. libc's
/// getcwd then walks up and compares inodes, and so takes the rootfs seen through the host's mount for our own root.
pub fn cwd_is_inside() -> Res<bool> {
    let mut path = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most the given length.
    check(unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) })?;
    Ok(path[0] == b'/')
}

/// setdomainname(2); the sysctl of the same meaning answers EACCES in a user namespace.
pub fn set_domainname(name: &str) -> Res<()> {
    // SAFETY: pointer and length of one live string.
    check(libc::c_long::from(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) })).map(drop)
}

/// Sets IFF_UP on `lo` in the network namespace that we are in (netdevice(7)).
pub fn loopback_up() -> Res<()> {
    // SAFETY: integers only.
    let socket =
        owned(libc::c_long::from(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }))?;
    // SAFETY: ifreq is plain data; all zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request reads one ifreq.
    check(libc::c_long::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }))
        .map(drop)
}

// ---------------------------------------------------------------- descriptors

/// Whether what closes all descriptors at once is still to come.
static CLOSED_LATER: AtomicBool = AtomicBool::new(false);

/// From here on `leave` leaves descriptors open: this process ends in a close_range(2) or in an exit.
pub fn close_later() {
    CLOSED_LATER.store(true, Ordering::Relaxed);
}

/// Is done with a descriptor: the one call that closes all takes it along, unless there are many already.
pub fn leave(fd: OwnedFd) {
    const MANY: RawFd = 256;
    if CLOSED_LATER.load(Ordering::Relaxed) && fd.as_raw_fd() < MANY {
        std::mem::forget(fd);
    }
}

/// dup2(2) onto a standard stream.
pub fn dup_onto(fd: BorrowedFd<'_>, onto: RawFd) -> Res<()> {
    // SAFETY: replaces a standard stream of this process, which nothing here owns as an OwnedFd.
    check(libc::c_long::from(unsafe { libc::dup2(fd.as_raw_fd(), onto) })).map(drop)
}

/// Takes over a descriptor that the caller of stockade left open for us (`--preserve-fds`), or that SCM_RIGHTS delivered.
///
/// The caller of this function vouches that nothing else owns it.
pub fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: by contract of this function.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Borrows a descriptor by number for one call; EBADF answers a wrong one.
pub fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: used only for standard streams and inherited descriptors, which stay open while stockade runs.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
// ---------------------------------------------------------------- device program

// bpf(2). The commands and flags of linux/bpf.h that we use.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;
/// `BPF_CGROUP_MAX_PROGS`: the kernel attaches no more programs of a type to one cgroup.
const BPF_CGROUP_MAX_PROGS: usize = 64;

// `union bpf_attr` is as long as the command at hand needs: the kernel takes what is missing as zero. That holds for
// what it reads. See BpfQuery for what it writes.

#[repr(C)]
#[derive(Clone, Copy)]
struct BpfLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
struct BpfAttach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// Whole, up to `revision`, the last field of 6.18. The first kernels that had it wrote it back without a look at the
/// size that the caller stated, so a shorter struct could have had the memory behind it overwritten.
#[repr(C)]
#[derive(Default)]
struct BpfQuery {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    _pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

#[repr(C)]
struct BpfGetId {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

const _: () = assert!(size_of::<BpfLoad>() == 64 && size_of::<BpfAttach>() == 20);
const _: () = assert!(size_of::<BpfQuery>() == 64 && size_of::<BpfGetId>() == 12);

/// bpf(2) with the struct of one command.
///
/// # Safety
///
/// `T` is the `repr(C)` beginning of the command's part of `union bpf_attr`, without padding that is not a field, long
/// enough for what the kernel writes back; and every pointer in it is valid for the lengths that it states.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> libc::c_long {
    // SAFETY: the caller promises what the kernel relies on; the reference is valid for size_of::<T>() bytes.
    unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) }
}

/// bpf(2), BPF_PROG_LOAD: verifies a device program, one `struct bpf_insn` an element, and returns its descriptor
/// (close-on-exec, as the kernel makes all of them). Needs CAP_BPF or CAP_SYS_ADMIN in the initial user namespace.
///
/// With `log`, a program that is refused is loaded once more to get the verifier's words into it; the error is that of
/// the first try.
pub fn bpf_prog_load_device(insns: &[u64], log: Option<&mut Vec<u8>>) -> Res<OwnedFd> {
    let attr = BpfLoad {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(insns.len()).map_err(|_| Errno::E2BIG)?,
        insns: insns.as_ptr() as u64,
        // Helpers marked as GPL-only are closed to us by this. The program calls no helper at all, and MIT is true.
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"stockade\0\0\0\0\0\0\0\0",
    };
    let load = || {
        // The verifier gives up with EAGAIN when a signal is pending.
        let mut tries = (0..5).map(|_| {
            // SAFETY: `insns` and the license outlive the call; the kernel copies both and writes nothing back.
            owned(unsafe { bpf(BPF_PROG_LOAD, &mut { attr }) })
        });
        tries.find(|res| !matches!(res, Err(Errno::EAGAIN))).unwrap_or(Err(Errno::EAGAIN))
    };
    let loaded = match load() {
        // Before 5.11 a program counted as locked memory, and more than RLIMIT_MEMLOCK was EPERM.
        Err(Errno::EPERM) => with_raised_memlock(load).unwrap_or(Err(Errno::EPERM)),
        other => other,
    };
    if let (Err(_), Some(log)) = (&loaded, log) {
        log.clear();
        log.resize(1 << 18, 0);
        let mut attr = BpfLoad { log_level: 1, log_size: 1 << 18, log_buf: log.as_mut_ptr() as u64, ..attr };
        // SAFETY: as above; and `log` is ours alone and has the length that `log_size` states.
        drop(owned(unsafe { bpf(BPF_PROG_LOAD, &mut attr) }));
        let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
        log.truncate(end);
    }
    loaded
}

/// Runs `f` with the soft RLIMIT_MEMLOCK at its hard limit, and puts it back, because a workload inherits it. `None`
/// if there is nothing to raise: then trying again is of no use.
fn with_raised_memlock<T>(f: impl FnOnce() -> T) -> Option<T> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    if soft >= hard {
        return None;
    }
    setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard).ok()?;
    let res = f();
    // Lowering a soft limit cannot fail.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard);
    Some(res)
}

/// bpf(2), BPF_PROG_ATTACH to a cgroup v2 directory. The cgroup keeps the program alive; the descriptor may be closed.
///
/// A second program does not loosen the first: all that are attached here or on an ancestor must say yes. So a change of
/// rules names the program that it replaces, and the kernel swaps them at once: no moment without a program.
/// ENOENT: `replace` is not attached (any more).
pub fn bpf_prog_attach_device(
    cgroup: BorrowedFd<'_>,
    prog: BorrowedFd<'_>,
    replace: Option<BorrowedFd<'_>>,
) -> Res<()> {
    let mut attr = BpfAttach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: prog.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI | if replace.is_some() { BPF_F_REPLACE } else { 0 },
        replace_bpf_fd: replace.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    // SAFETY: integers only, and the kernel writes nothing back.
    check(unsafe { bpf(BPF_PROG_ATTACH, &mut attr) }).map(drop)
}

/// bpf(2), BPF_PROG_QUERY: the ids of the device programs attached to this cgroup itself, not to its ancestors.
pub fn bpf_prog_query_device(cgroup: BorrowedFd<'_>) -> Res<Vec<u32>> {
    let mut ids = vec![0_u32; BPF_CGROUP_MAX_PROGS];
    let mut attr = BpfQuery {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: BPF_CGROUP_MAX_PROGS as u32,
        ..BpfQuery::default()
    };
    // SAFETY: the kernel writes up to `prog_cnt` ids into `ids`, which is that long and ours alone, and into fields of
    // the struct, which has them all.
    check(unsafe { bpf(BPF_PROG_QUERY, &mut attr) })?;
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}

/// bpf(2), BPF_PROG_GET_FD_BY_ID: a descriptor for an id from [`bpf_prog_query_device`], as a replacement needs it.
/// Needs CAP_SYS_ADMIN. ENOENT: the program is gone.
pub fn bpf_prog_get_fd_by_id(id: u32) -> Res<OwnedFd> {
    let mut attr = BpfGetId { prog_id: id, next_id: 0, open_flags: 0 };
    // SAFETY: integers only, and the kernel writes nothing back.
    owned(unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attr) })
}
