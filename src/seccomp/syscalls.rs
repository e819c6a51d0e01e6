//! Names and numbers of system calls: the dictionary between a profile, which speaks in names, and a filter, which
//! sees numbers.
//!
//! One row a name, with its number on x86_64, i386, x32 (without bit 30) and aarch64. Generated from
//! the kernel's own headers (6.1), extended by what came until 6.18, and checked against the tables of the libc crate.
//! Used by `compile` and by the plain reading in `mod.rs`.

/// A way into the kernel: one numbering of the system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86: `int 0x80`, from 32-bit and from 64-bit programs alike.
    I386,
    /// 64-bit x86 with short pointers: AUDIT_ARCH_X86_64, and bit 30 set in the number.
    X32,
    /// 64-bit Arm.
    Aarch64,
}

/// The bit that tells an x32 call from an x86_64 one.
pub const X32_BIT: u32 = 0x4000_0000;

/// The numbers that only x32 has; they lie above the newest common ones, and say nothing about age.
pub const X32_ONLY: std::ops::RangeInclusive<u32> = 512..=547;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("no table of system calls for this architecture: add a column to src/seccomp/syscalls.rs");

impl Abi {
    /// The one that this binary is built for.
    pub const NATIVE: Abi = if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 };

    /// AUDIT_ARCH_*: what the kernel tells a filter in `seccomp_data.arch`.
    pub fn audit(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::I386 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
        }
    }

    fn number_in(self, row: &Row) -> Option<u32> {
        let n = match self {
            Abi::X86_64 => row.1,
            Abi::I386 => row.2,
            Abi::X32 => row.3,
            Abi::Aarch64 => row.4,
        };
        (n != __).then_some(u32::from(n))
    }
}

/// A name of the table: found once, and then asked for its number on each architecture.
#[derive(Debug, Clone, Copy)]
pub struct Syscall(&'static Row);

impl Syscall {
    /// Looks a name up.
    pub fn named(name: &str) -> Option<Syscall> {
        let mut slot = hash(name.as_bytes());
        while INDEX[slot] != __ {
            let row = &TABLE[usize::from(INDEX[slot])];
            if row.0 == name {
                return Some(Syscall(row));
            }
            slot = (slot + 1) % INDEX.len();
        }
        None
    }

    /// Its number, for x32 without bit 30. None: this architecture has no such call.
    pub fn number(self, abi: Abi) -> Option<u32> {
        abi.number_in(self.0)
    }
}

/// The name behind a number (for x32 without bit 30): for reports, and for the plain reading of a profile.
pub fn name(abi: Abi, number: u32) -> Option<&'static str> {
    TABLE.iter().find(|row| abi.number_in(row) == Some(number)).map(|row| row.0)
}

/// Every call of an architecture: its name and its number, as a filter sees it.
pub fn of(abi: Abi) -> impl Iterator<Item = (&'static str, u32)> {
    let bit = if abi == Abi::X32 { X32_BIT } else { 0 };
    TABLE.iter().filter_map(move |row| Some((row.0, abi.number_in(row)? | bit)))
}

/// Every name that has a number somewhere.
pub fn all_names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.0)
}

/// Where i386 also keeps this call: inside `socketcall` or `ipc`, which take the call as their first argument.
/// The answer is the carrier, the mask that the kernel applies to that argument, and the value to look for.
pub fn carried(name: &str) -> Option<(&'static str, u64, u64)> {
    let socketcall = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    if let Some(i) = socketcall.iter().position(|n| *n == name) {
        return Some(("socketcall", 0xffff_ffff, i as u64 + 1));
    }
    let ipc = match name {
        "semop" => 1,
        "semget" => 2,
        "semctl" => 3,
        "semtimedop" => 4,
        "msgsnd" => 11,
        "msgrcv" => 12,
        "msgget" => 13,
        "msgctl" => 14,
        "shmat" => 21,
        "shmdt" => 22,
        "shmget" => 23,
        "shmctl" => 24,
        _ => return None,
    };
    // The upper half of the argument is a version number.
    Some(("ipc", 0xffff, ipc))
}

/// Is this a call of an architecture that has no column here? Profiles made for many machines name them all.
pub fn elsewhere(name: &str) -> bool {
    ["arm_", "s390_", "riscv_", "spu_", "sys_debug_", "ppc_", "mips_"].iter().any(|p| name.starts_with(p))
        || [
            "breakpoint",
            "cacheflush",
            "cachectl",
            "get_tls",
            "multiplexer",
            "or1k_atomic",
            "pciconfig_iobase",
            "pciconfig_read",
            "pciconfig_write",
            "recv",
            "rtas",
            "send",
            "set_tls",
            "subpage_prot",
            "swapcontext",
            "switch_endian",
            "sync_file_range2",
            "sysmips",
            "usr26",
            "usr32",
        ]
        .contains(&name)
}

type Row = (&'static str, u16, u16, u16, u16);

/// No such call there.
const __: u16 = u16::MAX;

/// From name to row without a search: the names of a profile are nine tenths of the time that compiling takes.
/// A hash table with the next free slot for collisions, filled by the compiler; less than half full, so that a search
/// ends.
static INDEX: [u16; 1024] = {
    let mut index = [__; 1024];
    let mut row = 0;
    while row < TABLE.len() {
        let mut slot = hash(TABLE[row].0.as_bytes());
        while index[slot] != __ {
            slot = (slot + 1) % index.len();
        }
        index[slot] = row as u16;
        row += 1;
    }
    index
};

/// FNV-1a, folded to the size of the index.
const fn hash(name: &[u8]) -> usize {
    let mut hash = 0x811c_9dc5u32;
    let mut i = 0;
    while i < name.len() {
        hash = (hash ^ name[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    (hash ^ hash >> 15) as usize % 1024
}

//   name, x86_64, i386, x32, aarch64
static TABLE: [Row; 470] = [
    ("_llseek", __, 140, __, __),
    ("_newselect", __, 142, __, __),
    ("_sysctl", 156, 149, __, __),
    ("accept", 43, __, 43, 202),
    ("accept4", 288, 364, 288, 242),
    ("access", 21, 33, 21, __),
    ("acct", 163, 51, 163, 89),
    ("add_key", 248, 286, 248, 217),
    ("adjtimex", 159, 124, 159, 171),
    ("afs_syscall", 183, 137, 183, __),
    ("alarm", 37, 27, 37, __),
    ("arch_prctl", 158, 384, 158, __),
    ("bdflush", __, 134, __, __),
    ("bind", 49, 361, 49, 200),
    ("bpf", 321, 357, 321, 280),
    ("break", __, 17, __, __),
    ("brk", 12, 45, 12, 214),
    ("cachestat", 451, 451, 451, 451),
    ("capget", 125, 184, 125, 90),
    ("capset", 126, 185, 126, 91),
    ("chdir", 80, 12, 80, 49),
    ("chmod", 90, 15, 90, __),
    ("chown", 92, 182, 92, __),
    ("chown32", __, 212, __, __),
    ("chroot", 161, 61, 161, 51),
    ("clock_adjtime", 305, 343, 305, 266),
    ("clock_adjtime64", __, 405, __, __),
    ("clock_getres", 229, 266, 229, 114),
    ("clock_getres_time64", __, 406, __, __),
    ("clock_gettime", 228, 265, 228, 113),
    ("clock_gettime64", __, 403, __, __),
    ("clock_nanosleep", 230, 267, 230, 115),
    ("clock_nanosleep_time64", __, 407, __, __),
    ("clock_settime", 227, 264, 227, 112),
    ("clock_settime64", __, 404, __, __),
    ("clone", 56, 120, 56, 220),
    ("clone3", 435, 435, 435, 435),
    ("close", 3, 6, 3, 57),
    ("close_range", 436, 436, 436, 436),
    ("connect", 42, 362, 42, 203),
    ("copy_file_range", 326, 377, 326, 285),
    ("creat", 85, 8, 85, __),
    ("create_module", 174, 127, __, __),
    ("delete_module", 176, 129, 176, 106),
    ("dup", 32, 41, 32, 23),
    ("dup2", 33, 63, 33, __),
    ("dup3", 292, 330, 292, 24),
    ("epoll_create", 213, 254, 213, __),
    ("epoll_create1", 291, 329, 291, 20),
    ("epoll_ctl", 233, 255, 233, 21),
    ("epoll_ctl_old", 214, __, __, __),
    ("epoll_pwait", 281, 319, 281, 22),
    ("epoll_pwait2", 441, 441, 441, 441),
    ("epoll_wait", 232, 256, 232, __),
    ("epoll_wait_old", 215, __, __, __),
    ("eventfd", 284, 323, 284, __),
    ("eventfd2", 290, 328, 290, 19),
    ("execve", 59, 11, 520, 221),
    ("execveat", 322, 358, 545, 281),
    ("exit", 60, 1, 60, 93),
    ("exit_group", 231, 252, 231, 94),
    ("faccessat", 269, 307, 269, 48),
    ("faccessat2", 439, 439, 439, 439),
    ("fadvise64", 221, 250, 221, 223),
    ("fadvise64_64", __, 272, __, __),
    ("fallocate", 285, 324, 285, 47),
    ("fanotify_init", 300, 338, 300, 262),
    ("fanotify_mark", 301, 339, 301, 263),
    ("fchdir", 81, 133, 81, 50),
    ("fchmod", 91, 94, 91, 52),
    ("fchmodat", 268, 306, 268, 53),
    ("fchmodat2", 452, 452, 452, 452),
    ("fchown", 93, 95, 93, 55),
    ("fchown32", __, 207, __, __),
    ("fchownat", 260, 298, 260, 54),
    ("fcntl", 72, 55, 72, 25),
    ("fcntl64", __, 221, __, __),
    ("fdatasync", 75, 148, 75, 83),
    ("fgetxattr", 193, 231, 193, 10),
    ("file_getattr", 468, 468, 468, 468),
    ("file_setattr", 469, 469, 469, 469),
    ("finit_module", 313, 350, 313, 273),
    ("flistxattr", 196, 234, 196, 13),
    ("flock", 73, 143, 73, 32),
    ("fork", 57, 2, 57, __),
    ("fremovexattr", 199, 237, 199, 16),
    ("fsconfig", 431, 431, 431, 431),
    ("fsetxattr", 190, 228, 190, 7),
    ("fsmount", 432, 432, 432, 432),
    ("fsopen", 430, 430, 430, 430),
    ("fspick", 433, 433, 433, 433),
    ("fstat", 5, 108, 5, 80),
    ("fstat64", __, 197, __, __),
    ("fstatat64", __, 300, __, __),
    ("fstatfs", 138, 100, 138, 44),
    ("fstatfs64", __, 269, __, __),
    ("fsync", 74, 118, 74, 82),
    ("ftime", __, 35, __, __),
    ("ftruncate", 77, 93, 77, 46),
    ("ftruncate64", __, 194, __, __),
    ("futex", 202, 240, 202, 98),
    ("futex_requeue", 456, 456, 456, 456),
    ("futex_time64", __, 422, __, __),
    ("futex_wait", 455, 455, 455, 455),
    ("futex_waitv", 449, 449, 449, 449),
    ("futex_wake", 454, 454, 454, 454),
    ("futimesat", 261, 299, 261, __),
    ("get_kernel_syms", 177, 130, __, __),
    ("get_mempolicy", 239, 275, 239, 236),
    ("get_robust_list", 274, 312, 531, 100),
    ("get_thread_area", 211, 244, __, __),
    ("getcpu", 309, 318, 309, 168),
    ("getcwd", 79, 183, 79, 17),
    ("getdents", 78, 141, 78, __),
    ("getdents64", 217, 220, 217, 61),
    ("getegid", 108, 50, 108, 177),
    ("getegid32", __, 202, __, __),
    ("geteuid", 107, 49, 107, 175),
    ("geteuid32", __, 201, __, __),
    ("getgid", 104, 47, 104, 176),
    ("getgid32", __, 200, __, __),
    ("getgroups", 115, 80, 115, 158),
    ("getgroups32", __, 205, __, __),
    ("getitimer", 36, 105, 36, 102),
    ("getpeername", 52, 368, 52, 205),
    ("getpgid", 121, 132, 121, 155),
    ("getpgrp", 111, 65, 111, __),
    ("getpid", 39, 20, 39, 172),
    ("getpmsg", 181, 188, 181, __),
    ("getppid", 110, 64, 110, 173),
    ("getpriority", 140, 96, 140, 141),
    ("getrandom", 318, 355, 318, 278),
    ("getresgid", 120, 171, 120, 150),
    ("getresgid32", __, 211, __, __),
    ("getresuid", 118, 165, 118, 148),
    ("getresuid32", __, 209, __, __),
    ("getrlimit", 97, 76, 97, 163),
    ("getrusage", 98, 77, 98, 165),
    ("getsid", 124, 147, 124, 156),
    ("getsockname", 51, 367, 51, 204),
    ("getsockopt", 55, 365, 542, 209),
    ("gettid", 186, 224, 186, 178),
    ("gettimeofday", 96, 78, 96, 169),
    ("getuid", 102, 24, 102, 174),
    ("getuid32", __, 199, __, __),
    ("getxattr", 191, 229, 191, 8),
    ("getxattrat", 464, 464, 464, 464),
    ("gtty", __, 32, __, __),
    ("idle", __, 112, __, __),
    ("init_module", 175, 128, 175, 105),
    ("inotify_add_watch", 254, 292, 254, 27),
    ("inotify_init", 253, 291, 253, __),
    ("inotify_init1", 294, 332, 294, 26),
    ("inotify_rm_watch", 255, 293, 255, 28),
    ("io_cancel", 210, 249, 210, 3),
    ("io_destroy", 207, 246, 207, 1),
    ("io_getevents", 208, 247, 208, 4),
    ("io_pgetevents", 333, 385, 333, 292),
    ("io_pgetevents_time64", __, 416, __, __),
    ("io_setup", 206, 245, 543, 0),
    ("io_submit", 209, 248, 544, 2),
    ("io_uring_enter", 426, 426, 426, 426),
    ("io_uring_register", 427, 427, 427, 427),
    ("io_uring_setup", 425, 425, 425, 425),
    ("ioctl", 16, 54, 514, 29),
    ("ioperm", 173, 101, 173, __),
    ("iopl", 172, 110, 172, __),
    ("ioprio_get", 252, 290, 252, 31),
    ("ioprio_set", 251, 289, 251, 30),
    ("ipc", __, 117, __, __),
    ("kcmp", 312, 349, 312, 272),
    ("kexec_file_load", 320, __, 320, 294),
    ("kexec_load", 246, 283, 528, 104),
    ("keyctl", 250, 288, 250, 219),
    ("kill", 62, 37, 62, 129),
    ("landlock_add_rule", 445, 445, 445, 445),
    ("landlock_create_ruleset", 444, 444, 444, 444),
    ("landlock_restrict_self", 446, 446, 446, 446),
    ("lchown", 94, 16, 94, __),
    ("lchown32", __, 198, __, __),
    ("lgetxattr", 192, 230, 192, 9),
    ("link", 86, 9, 86, __),
    ("linkat", 265, 303, 265, 37),
    ("listen", 50, 363, 50, 201),
    ("listmount", 458, 458, 458, 458),
    ("listxattr", 194, 232, 194, 11),
    ("listxattrat", 465, 465, 465, 465),
    ("llistxattr", 195, 233, 195, 12),
    ("lock", __, 53, __, __),
    ("lookup_dcookie", 212, 253, 212, 18),
    ("lremovexattr", 198, 236, 198, 15),
    ("lseek", 8, 19, 8, 62),
    ("lsetxattr", 189, 227, 189, 6),
    ("lsm_get_self_attr", 459, 459, 459, 459),
    ("lsm_list_modules", 461, 461, 461, 461),
    ("lsm_set_self_attr", 460, 460, 460, 460),
    ("lstat", 6, 107, 6, __),
    ("lstat64", __, 196, __, __),
    ("madvise", 28, 219, 28, 233),
    ("map_shadow_stack", 453, 453, 453, 453),
    ("mbind", 237, 274, 237, 235),
    ("membarrier", 324, 375, 324, 283),
    ("memfd_create", 319, 356, 319, 279),
    ("memfd_secret", 447, 447, 447, 447),
    ("migrate_pages", 256, 294, 256, 238),
    ("mincore", 27, 218, 27, 232),
    ("mkdir", 83, 39, 83, __),
    ("mkdirat", 258, 296, 258, 34),
    ("mknod", 133, 14, 133, __),
    ("mknodat", 259, 297, 259, 33),
    ("mlock", 149, 150, 149, 228),
    ("mlock2", 325, 376, 325, 284),
    ("mlockall", 151, 152, 151, 230),
    ("mmap", 9, 90, 9, 222),
    ("mmap2", __, 192, __, __),
    ("modify_ldt", 154, 123, 154, __),
    ("mount", 165, 21, 165, 40),
    ("mount_setattr", 442, 442, 442, 442),
    ("move_mount", 429, 429, 429, 429),
    ("move_pages", 279, 317, 533, 239),
    ("mprotect", 10, 125, 10, 226),
    ("mpx", __, 56, __, __),
    ("mq_getsetattr", 245, 282, 245, 185),
    ("mq_notify", 244, 281, 527, 184),
    ("mq_open", 240, 277, 240, 180),
    ("mq_timedreceive", 243, 280, 243, 183),
    ("mq_timedreceive_time64", __, 419, __, __),
    ("mq_timedsend", 242, 279, 242, 182),
    ("mq_timedsend_time64", __, 418, __, __),
    ("mq_unlink", 241, 278, 241, 181),
    ("mremap", 25, 163, 25, 216),
    ("mseal", 462, 462, 462, 462),
    ("msgctl", 71, 402, 71, 187),
    ("msgget", 68, 399, 68, 186),
    ("msgrcv", 70, 401, 70, 188),
    ("msgsnd", 69, 400, 69, 189),
    ("msync", 26, 144, 26, 227),
    ("munlock", 150, 151, 150, 229),
    ("munlockall", 152, 153, 152, 231),
    ("munmap", 11, 91, 11, 215),
    ("name_to_handle_at", 303, 341, 303, 264),
    ("nanosleep", 35, 162, 35, 101),
    ("newfstatat", 262, __, 262, 79),
    ("nfsservctl", 180, 169, __, 42),
    ("nice", __, 34, __, __),
    ("oldfstat", __, 28, __, __),
    ("oldlstat", __, 84, __, __),
    ("oldolduname", __, 59, __, __),
    ("oldstat", __, 18, __, __),
    ("olduname", __, 109, __, __),
    ("open", 2, 5, 2, __),
    ("open_by_handle_at", 304, 342, 304, 265),
    ("open_tree", 428, 428, 428, 428),
    ("open_tree_attr", 467, 467, 467, 467),
    ("openat", 257, 295, 257, 56),
    ("openat2", 437, 437, 437, 437),
    ("pause", 34, 29, 34, __),
    ("perf_event_open", 298, 336, 298, 241),
    ("personality", 135, 136, 135, 92),
    ("pidfd_getfd", 438, 438, 438, 438),
    ("pidfd_open", 434, 434, 434, 434),
    ("pidfd_send_signal", 424, 424, 424, 424),
    ("pipe", 22, 42, 22, __),
    ("pipe2", 293, 331, 293, 59),
    ("pivot_root", 155, 217, 155, 41),
    ("pkey_alloc", 330, 381, 330, 289),
    ("pkey_free", 331, 382, 331, 290),
    ("pkey_mprotect", 329, 380, 329, 288),
    ("poll", 7, 168, 7, __),
    ("ppoll", 271, 309, 271, 73),
    ("ppoll_time64", __, 414, __, __),
    ("prctl", 157, 172, 157, 167),
    ("pread64", 17, 180, 17, 67),
    ("preadv", 295, 333, 534, 69),
    ("preadv2", 327, 378, 546, 286),
    ("prlimit64", 302, 340, 302, 261),
    ("process_madvise", 440, 440, 440, 440),
    ("process_mrelease", 448, 448, 448, 448),
    ("process_vm_readv", 310, 347, 539, 270),
    ("process_vm_writev", 311, 348, 540, 271),
    ("prof", __, 44, __, __),
    ("profil", __, 98, __, __),
    ("pselect6", 270, 308, 270, 72),
    ("pselect6_time64", __, 413, __, __),
    ("ptrace", 101, 26, 521, 117),
    ("putpmsg", 182, 189, 182, __),
    ("pwrite64", 18, 181, 18, 68),
    ("pwritev", 296, 334, 535, 70),
    ("pwritev2", 328, 379, 547, 287),
    ("query_module", 178, 167, __, __),
    ("quotactl", 179, 131, 179, 60),
    ("quotactl_fd", 443, 443, 443, 443),
    ("read", 0, 3, 0, 63),
    ("readahead", 187, 225, 187, 213),
    ("readdir", __, 89, __, __),
    ("readlink", 89, 85, 89, __),
    ("readlinkat", 267, 305, 267, 78),
    ("readv", 19, 145, 515, 65),
    ("reboot", 169, 88, 169, 142),
    ("recvfrom", 45, 371, 517, 207),
    ("recvmmsg", 299, 337, 537, 243),
    ("recvmmsg_time64", __, 417, __, __),
    ("recvmsg", 47, 372, 519, 212),
    ("remap_file_pages", 216, 257, 216, 234),
    ("removexattr", 197, 235, 197, 14),
    ("removexattrat", 466, 466, 466, 466),
    ("rename", 82, 38, 82, __),
    ("renameat", 264, 302, 264, 38),
    ("renameat2", 316, 353, 316, 276),
    ("request_key", 249, 287, 249, 218),
    ("restart_syscall", 219, 0, 219, 128),
    ("rmdir", 84, 40, 84, __),
    ("rseq", 334, 386, 334, 293),
    ("rt_sigaction", 13, 174, 512, 134),
    ("rt_sigpending", 127, 176, 522, 136),
    ("rt_sigprocmask", 14, 175, 14, 135),
    ("rt_sigqueueinfo", 129, 178, 524, 138),
    ("rt_sigreturn", 15, 173, 513, 139),
    ("rt_sigsuspend", 130, 179, 130, 133),
    ("rt_sigtimedwait", 128, 177, 523, 137),
    ("rt_sigtimedwait_time64", __, 421, __, __),
    ("rt_tgsigqueueinfo", 297, 335, 536, 240),
    ("sched_get_priority_max", 146, 159, 146, 125),
    ("sched_get_priority_min", 147, 160, 147, 126),
    ("sched_getaffinity", 204, 242, 204, 123),
    ("sched_getattr", 315, 352, 315, 275),
    ("sched_getparam", 143, 155, 143, 121),
    ("sched_getscheduler", 145, 157, 145, 120),
    ("sched_rr_get_interval", 148, 161, 148, 127),
    ("sched_rr_get_interval_time64", __, 423, __, __),
    ("sched_setaffinity", 203, 241, 203, 122),
    ("sched_setattr", 314, 351, 314, 274),
    ("sched_setparam", 142, 154, 142, 118),
    ("sched_setscheduler", 144, 156, 144, 119),
    ("sched_yield", 24, 158, 24, 124),
    ("seccomp", 317, 354, 317, 277),
    ("security", 185, __, 185, __),
    ("select", 23, 82, 23, __),
    ("semctl", 66, 394, 66, 191),
    ("semget", 64, 393, 64, 190),
    ("semop", 65, __, 65, 193),
    ("semtimedop", 220, __, 220, 192),
    ("semtimedop_time64", __, 420, __, __),
    ("sendfile", 40, 187, 40, 71),
    ("sendfile64", __, 239, __, __),
    ("sendmmsg", 307, 345, 538, 269),
    ("sendmsg", 46, 370, 518, 211),
    ("sendto", 44, 369, 44, 206),
    ("set_mempolicy", 238, 276, 238, 237),
    ("set_mempolicy_home_node", 450, 450, 450, 450),
    ("set_robust_list", 273, 311, 530, 99),
    ("set_thread_area", 205, 243, __, __),
    ("set_tid_address", 218, 258, 218, 96),
    ("setdomainname", 171, 121, 171, 162),
    ("setfsgid", 123, 139, 123, 152),
    ("setfsgid32", __, 216, __, __),
    ("setfsuid", 122, 138, 122, 151),
    ("setfsuid32", __, 215, __, __),
    ("setgid", 106, 46, 106, 144),
    ("setgid32", __, 214, __, __),
    ("setgroups", 116, 81, 116, 159),
    ("setgroups32", __, 206, __, __),
    ("sethostname", 170, 74, 170, 161),
    ("setitimer", 38, 104, 38, 103),
    ("setns", 308, 346, 308, 268),
    ("setpgid", 109, 57, 109, 154),
    ("setpriority", 141, 97, 141, 140),
    ("setregid", 114, 71, 114, 143),
    ("setregid32", __, 204, __, __),
    ("setresgid", 119, 170, 119, 149),
    ("setresgid32", __, 210, __, __),
    ("setresuid", 117, 164, 117, 147),
    ("setresuid32", __, 208, __, __),
    ("setreuid", 113, 70, 113, 145),
    ("setreuid32", __, 203, __, __),
    ("setrlimit", 160, 75, 160, 164),
    ("setsid", 112, 66, 112, 157),
    ("setsockopt", 54, 366, 541, 208),
    ("settimeofday", 164, 79, 164, 170),
    ("setuid", 105, 23, 105, 146),
    ("setuid32", __, 213, __, __),
    ("setxattr", 188, 226, 188, 5),
    ("setxattrat", 463, 463, 463, 463),
    ("sgetmask", __, 68, __, __),
    ("shmat", 30, 397, 30, 196),
    ("shmctl", 31, 396, 31, 195),
    ("shmdt", 67, 398, 67, 197),
    ("shmget", 29, 395, 29, 194),
    ("shutdown", 48, 373, 48, 210),
    ("sigaction", __, 67, __, __),
    ("sigaltstack", 131, 186, 525, 132),
    ("signal", __, 48, __, __),
    ("signalfd", 282, 321, 282, __),
    ("signalfd4", 289, 327, 289, 74),
    ("sigpending", __, 73, __, __),
    ("sigprocmask", __, 126, __, __),
    ("sigreturn", __, 119, __, __),
    ("sigsuspend", __, 72, __, __),
    ("socket", 41, 359, 41, 198),
    ("socketcall", __, 102, __, __),
    ("socketpair", 53, 360, 53, 199),
    ("splice", 275, 313, 275, 76),
    ("ssetmask", __, 69, __, __),
    ("stat", 4, 106, 4, __),
    ("stat64", __, 195, __, __),
    ("statfs", 137, 99, 137, 43),
    ("statfs64", __, 268, __, __),
    ("statmount", 457, 457, 457, 457),
    ("statx", 332, 383, 332, 291),
    ("stime", __, 25, __, __),
    ("stty", __, 31, __, __),
    ("swapoff", 168, 115, 168, 225),
    ("swapon", 167, 87, 167, 224),
    ("symlink", 88, 83, 88, __),
    ("symlinkat", 266, 304, 266, 36),
    ("sync", 162, 36, 162, 81),
    ("sync_file_range", 277, 314, 277, 84),
    ("syncfs", 306, 344, 306, 267),
    ("sysfs", 139, 135, 139, __),
    ("sysinfo", 99, 116, 99, 179),
    ("syslog", 103, 103, 103, 116),
    ("tee", 276, 315, 276, 77),
    ("tgkill", 234, 270, 234, 131),
    ("time", 201, 13, 201, __),
    ("timer_create", 222, 259, 526, 107),
    ("timer_delete", 226, 263, 226, 111),
    ("timer_getoverrun", 225, 262, 225, 109),
    ("timer_gettime", 224, 261, 224, 108),
    ("timer_gettime64", __, 408, __, __),
    ("timer_settime", 223, 260, 223, 110),
    ("timer_settime64", __, 409, __, __),
    ("timerfd_create", 283, 322, 283, 85),
    ("timerfd_gettime", 287, 326, 287, 87),
    ("timerfd_gettime64", __, 410, __, __),
    ("timerfd_settime", 286, 325, 286, 86),
    ("timerfd_settime64", __, 411, __, __),
    ("times", 100, 43, 100, 153),
    ("tkill", 200, 238, 200, 130),
    ("truncate", 76, 92, 76, 45),
    ("truncate64", __, 193, __, __),
    ("tuxcall", 184, __, 184, __),
    ("ugetrlimit", __, 191, __, __),
    ("ulimit", __, 58, __, __),
    ("umask", 95, 60, 95, 166),
    ("umount", __, 22, __, __),
    ("umount2", 166, 52, 166, 39),
    ("uname", 63, 122, 63, 160),
    ("unlink", 87, 10, 87, __),
    ("unlinkat", 263, 301, 263, 35),
    ("unshare", 272, 310, 272, 97),
    ("uprobe", 336, __, 336, __),
    ("uretprobe", 335, __, 335, __),
    ("uselib", 134, 86, __, __),
    ("userfaultfd", 323, 374, 323, 282),
    ("ustat", 136, 62, 136, __),
    ("utime", 132, 30, 132, __),
    ("utimensat", 280, 320, 280, 88),
    ("utimensat_time64", __, 412, __, __),
    ("utimes", 235, 271, 235, __),
    ("vfork", 58, 190, 58, __),
    ("vhangup", 153, 111, 153, 58),
    ("vm86", __, 166, __, __),
    ("vm86old", __, 113, __, __),
    ("vmsplice", 278, 316, 532, 75),
    ("vserver", 236, 273, __, __),
    ("wait4", 61, 114, 61, 260),
    ("waitid", 247, 284, 529, 95),
    ("waitpid", __, 7, __, __),
    ("write", 1, 4, 1, 64),
    ("writev", 20, 146, 516, 66),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_without_two_names_for_a_number() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        assert!(TABLE.iter().all(|r| Syscall::named(r.0).is_some_and(|s| s.0.0 == r.0)));
        for abi in [Abi::X86_64, Abi::I386, Abi::X32, Abi::Aarch64] {
            let mut numbers: Vec<_> = TABLE.iter().filter_map(|r| abi.number_in(r)).collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), all, "{abi:?}");
        }
    }

    #[test]
    fn known_numbers() {
        let number = |name, abi| Syscall::named(name).unwrap().number(abi);
        assert_eq!(number("execve", Abi::X86_64), Some(59));
        assert_eq!(number("execve", Abi::I386), Some(11));
        assert_eq!(number("execve", Abi::X32), Some(520));
        assert_eq!(number("execve", Abi::Aarch64), Some(221));
        assert_eq!(number("open", Abi::Aarch64), None);
        assert_eq!(number("file_setattr", Abi::Aarch64), Some(469));
        assert_eq!(name(Abi::X86_64, 336), Some("uprobe"));
        assert_eq!(name(Abi::X86_64, 400), None);
        assert!(Syscall::named("opne").is_none());
        // What the compiler calls the same thing must agree.
        assert_eq!(number("openat2", Abi::NATIVE), Some(libc::SYS_openat2 as u32));
        assert_eq!(number("exit_group", Abi::NATIVE), Some(libc::SYS_exit_group as u32));
    }
}
