//! A system call in words: `socket(AF_ALG, SOCK_SEQPACKET, 0)`.
//!
//! Pure: what lies behind a pointer is read by a function of the caller's. All of it comes from a workload that may be
//! hostile and is shown on a terminal, so text is bounded and escaped here. Names are those of the kernel's headers, and
//! only of what matters for a judgement; a number that has none stays a number.

use nix::errno::Errno;
use nix::libc;

/// How an argument is read.
#[derive(Clone, Copy)]
enum As {
    Number,
    Hex,
    Descriptor,
    Text,
    Family,
    SocketType,
    Clone,
    Namespaces,
    Ioctl,
    Prctl,
    Personality,
    Open,
    Mode,
    Mount,
    Level,
    Bpf,
    Ptrace,
    Keyctl,
    Device,
}

/// Text of a workload is shown up to here.
const LONGEST: usize = 160;

/// A call in words. `read` gives the text at an address of whoever makes it.
pub fn call(name: &str, args: [u64; 6], mut read: impl FnMut(u64) -> Option<String>) -> String {
    let Some(kinds) = signature(name) else { return format!("{name}(...)") };
    let words: Vec<String> = kinds.iter().zip(args).map(|(kind, arg)| word(*kind, arg, &mut read)).collect();
    format!("{name}({})", words.join(", "))
}

/// Text of a workload, made harmless and quoted.
pub fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown += "...";
    }
    format!("\"{shown}\"")
}

/// The number behind a name that is said here.
pub fn value(name: &str) -> Option<u64> {
    let narrow = [&FAMILIES[..], &IOCTLS, &PRCTLS, &BPF, &PTRACE, &KEYCTL].into_iter().flatten();
    let wide = [&CLONE[..], &OPEN, &MOUNT].into_iter().flatten();
    const MORE: [(&str, u64); 11] = [
        ("O_RDONLY", 0),
        ("O_WRONLY", 1),
        ("O_RDWR", 2),
        ("SOCK_STREAM", 1),
        ("SOCK_DGRAM", 2),
        ("SOCK_RAW", 3),
        ("SOCK_SEQPACKET", 5),
        ("SOCK_CLOEXEC", 0o2000000),
        ("SIGCHLD", 17),
        ("AT_FDCWD", -100i64 as u64),
        ("ADDR_NO_RANDOMIZE", 0x0004_0000),
    ];
    let all = narrow.map(|(n, word)| (*word, u64::from(*n))).chain(wide.map(|(n, word)| (*word, *n))).chain(MORE);
    all.into_iter().find(|(word, _)| *word == name).map(|(_, number)| number)
}

/// An errno by name.
pub fn errno(number: u16) -> String {
    match Errno::from_raw(i32::from(number)) {
        Errno::UnknownErrno if number == 0 => "0 (success, and nothing done)".to_owned(),
        Errno::UnknownErrno => number.to_string(),
        known => format!("{known:?}"),
    }
}

fn signature(name: &str) -> Option<&'static [As]> {
    use As::*;
    Some(match name {
        "socket" | "socketpair" => &[Family, SocketType, Number],
        "clone" => &[Clone],
        "unshare" => &[Namespaces],
        "setns" => &[Descriptor, Namespaces],
        "ioctl" => &[Descriptor, Ioctl],
        "prctl" => &[Prctl, Hex],
        "personality" => &[Personality],
        "open" => &[Text, Open, Mode],
        "openat" => &[Descriptor, Text, Open, Mode],
        "openat2" | "execveat" | "name_to_handle_at" => &[Descriptor, Text],
        "creat" | "mkdir" | "chmod" => &[Text, Mode],
        "mkdirat" | "fchmodat" | "fchmodat2" => &[Descriptor, Text, Mode],
        "fchmod" => &[Descriptor, Mode],
        "mknod" => &[Text, Mode, Device],
        "mknodat" => &[Descriptor, Text, Mode, Device],
        "unlink" | "rmdir" | "chdir" | "chroot" | "readlink" | "execve" | "stat" | "lstat" | "statfs" | "access"
        | "swapon" | "swapoff" | "acct" | "uselib" | "truncate" | "utime" | "utimes" => &[Text],
        "unlinkat" | "open_tree" | "mount_setattr" | "fspick" | "statx" | "newfstatat" | "faccessat" | "faccessat2"
        | "readlinkat" | "utimensat" => &[Descriptor, Text, Hex],
        "chown" | "lchown" => &[Text, Number, Number],
        "fchown" => &[Descriptor, Number, Number],
        "fchownat" => &[Descriptor, Text, Number, Number],
        "rename" | "link" | "symlink" | "pivot_root" | "setxattr" | "lsetxattr" | "removexattr" | "getxattr"
        | "add_key" | "request_key" => &[Text, Text],
        "renameat" | "renameat2" | "linkat" | "move_mount" => &[Descriptor, Text, Descriptor, Text],
        "symlinkat" => &[Text, Descriptor, Text],
        "mount" => &[Text, Text, Text, Mount],
        "umount2" | "fsopen" | "memfd_create" => &[Text, Hex],
        "sethostname" | "setdomainname" => &[Text],
        "setsockopt" | "getsockopt" => &[Descriptor, Level, Number],
        "connect" | "bind" | "listen" | "sendto" | "fsync" | "fchdir" | "ftruncate" => &[Descriptor],
        "bpf" => &[Bpf],
        "ptrace" => &[Ptrace, Number],
        "keyctl" => &[Keyctl],
        "setuid" | "setgid" | "setfsuid" | "setfsgid" | "umask" | "io_uring_setup" | "syslog" | "alarm" => &[Number],
        "setreuid" | "setregid" | "kill" | "tkill" | "setpgid" | "kcmp" => &[Number, Number],
        "setresuid" | "setresgid" => &[Number, Number, Number],
        "tgkill" | "process_vm_readv" | "process_vm_writev" | "setgroups" => &[Number],
        "pidfd_open" => &[Number, Hex],
        "pidfd_getfd" => &[Descriptor, Number],
        "userfaultfd" | "iopl" => &[Hex],
        "mprotect" | "mmap" | "munmap" => &[Hex, Hex, Hex],
        "reboot" => &[Hex, Hex, Hex],
        "getpid" | "fork" | "vfork" | "sync" | "getppid" | "gettid" | "vhangup" | "setsid" => &[],
        _ => return None,
    })
}

fn word(kind: As, arg: u64, read: &mut impl FnMut(u64) -> Option<String>) -> String {
    // The kernel takes the low half of an int; what an attacker puts above it is shown.
    let int = arg as u32;
    let beyond = if arg >> 32 == 0 || arg >> 31 == 0x1_ffff_ffff { "" } else { " (bits above 32 are set)" };
    let named = |table: &[(u32, &str)], otherwise: String| {
        table.iter().find(|(n, _)| *n == int).map_or(otherwise, |(_, name)| (*name).to_owned()) + beyond
    };
    match kind {
        As::Number => int.cast_signed().to_string() + beyond,
        As::Hex => format!("{arg:#x}"),
        As::Descriptor if int.cast_signed() == libc::AT_FDCWD => "AT_FDCWD".to_owned(),
        As::Descriptor => int.cast_signed().to_string(),
        As::Text if arg == 0 => "NULL".to_owned(),
        As::Text => read(arg).map_or_else(|| format!("{arg:#x}"), |text| quoted(&text)),
        As::Family => named(&FAMILIES, int.to_string()),
        As::SocketType => {
            let mut words = vec![match int & 0xf {
                1 => "SOCK_STREAM".to_owned(),
                2 => "SOCK_DGRAM".to_owned(),
                3 => "SOCK_RAW".to_owned(),
                4 => "SOCK_RDM".to_owned(),
                5 => "SOCK_SEQPACKET".to_owned(),
                10 => "SOCK_PACKET".to_owned(),
                n => n.to_string(),
            }];
            words.extend(bits(u64::from(int & !0xf), &[(0o2000000, "SOCK_CLOEXEC"), (0o4000, "SOCK_NONBLOCK")]));
            words.join("|") + beyond
        }
        As::Clone => {
            let mut words = bits(arg & !0xff, &CLONE);
            if int & 0xff != 0 {
                words.push(if int & 0xff == 17 { "SIGCHLD".to_owned() } else { (int & 0xff).to_string() });
            }
            or_zero(&words)
        }
        As::Namespaces => or_zero(&bits(arg, &CLONE)),
        As::Ioctl => named(&IOCTLS, format!("{int:#x}")),
        As::Prctl => named(&PRCTLS, int.to_string()),
        As::Personality => match arg {
            0 => "PER_LINUX".to_owned(),
            0x0004_0000 => "ADDR_NO_RANDOMIZE".to_owned(),
            8 => "PER_LINUX32".to_owned(),
            n => format!("{n:#x}"),
        },
        As::Open => {
            let mut words = vec![["O_RDONLY", "O_WRONLY", "O_RDWR", "3"][(int & 3) as usize].to_owned()];
            words.extend(bits(u64::from(int & !3), &OPEN));
            words.join("|")
        }
        As::Mode => format!("{:#05o}", int & 0o177777),
        As::Mount => or_zero(&bits(arg, &MOUNT)),
        As::Level => named(
            &[(1, "SOL_SOCKET"), (6, "SOL_TCP"), (17, "SOL_UDP"), (0, "SOL_IP"), (41, "SOL_IPV6")],
            int.to_string(),
        ),
        As::Bpf => named(&BPF, int.to_string()),
        As::Ptrace => named(&PTRACE, format!("{int:#x}")),
        As::Keyctl => named(&KEYCTL, int.to_string()),
        As::Device => format!("{}:{}", libc::major(u64::from(int)), libc::minor(u64::from(int))),
    }
}

fn bits(value: u64, names: &[(u64, &str)]) -> Vec<String> {
    let mut left = value;
    let mut words = Vec::new();
    for (bit, name) in names.iter().filter(|(bit, _)| value & bit == *bit) {
        words.push((*name).to_owned());
        left &= !bit;
    }
    if left != 0 {
        words.push(format!("{left:#x}"));
    }
    words
}

fn or_zero(words: &[String]) -> String {
    if words.is_empty() { "0".to_owned() } else { words.join("|") }
}

const FAMILIES: [(u32, &str); 44] = [
    (0, "AF_UNSPEC"),
    (1, "AF_UNIX"),
    (2, "AF_INET"),
    (3, "AF_AX25"),
    (4, "AF_IPX"),
    (5, "AF_APPLETALK"),
    (6, "AF_NETROM"),
    (8, "AF_ATMPVC"),
    (9, "AF_X25"),
    (10, "AF_INET6"),
    (11, "AF_ROSE"),
    (13, "AF_NETBEUI"),
    (14, "AF_SECURITY"),
    (15, "AF_KEY"),
    (16, "AF_NETLINK"),
    (17, "AF_PACKET"),
    (18, "AF_ASH"),
    (19, "AF_ECONET"),
    (20, "AF_ATMSVC"),
    (21, "AF_RDS"),
    (22, "AF_SNA"),
    (23, "AF_IRDA"),
    (24, "AF_PPPOX"),
    (25, "AF_WANPIPE"),
    (26, "AF_LLC"),
    (27, "AF_IB"),
    (28, "AF_MPLS"),
    (29, "AF_CAN"),
    (30, "AF_TIPC"),
    (31, "AF_BLUETOOTH"),
    (32, "AF_IUCV"),
    (33, "AF_RXRPC"),
    (34, "AF_ISDN"),
    (35, "AF_PHONET"),
    (36, "AF_IEEE802154"),
    (37, "AF_CAIF"),
    (38, "AF_ALG"),
    (39, "AF_NFC"),
    (40, "AF_VSOCK"),
    (41, "AF_KCM"),
    (42, "AF_QIPCRTR"),
    (43, "AF_SMC"),
    (44, "AF_XDP"),
    (45, "AF_MCTP"),
];

const CLONE: [(u64, &str); 24] = [
    (0x80, "CLONE_NEWTIME"),
    (0x100, "CLONE_VM"),
    (0x200, "CLONE_FS"),
    (0x400, "CLONE_FILES"),
    (0x800, "CLONE_SIGHAND"),
    (0x1000, "CLONE_PIDFD"),
    (0x2000, "CLONE_PTRACE"),
    (0x4000, "CLONE_VFORK"),
    (0x8000, "CLONE_PARENT"),
    (0x1_0000, "CLONE_THREAD"),
    (0x2_0000, "CLONE_NEWNS"),
    (0x4_0000, "CLONE_SYSVSEM"),
    (0x8_0000, "CLONE_SETTLS"),
    (0x10_0000, "CLONE_PARENT_SETTID"),
    (0x20_0000, "CLONE_CHILD_CLEARTID"),
    (0x80_0000, "CLONE_UNTRACED"),
    (0x100_0000, "CLONE_CHILD_SETTID"),
    (0x200_0000, "CLONE_NEWCGROUP"),
    (0x400_0000, "CLONE_NEWUTS"),
    (0x800_0000, "CLONE_NEWIPC"),
    (0x1000_0000, "CLONE_NEWUSER"),
    (0x2000_0000, "CLONE_NEWPID"),
    (0x4000_0000, "CLONE_NEWNET"),
    (0x8000_0000, "CLONE_IO"),
];

const IOCTLS: [(u32, &str); 28] = [
    (0x5401, "TCGETS"),
    (0x5402, "TCSETS"),
    (0x5403, "TCSETSW"),
    (0x5404, "TCSETSF"),
    (0x540e, "TIOCSCTTY"),
    (0x540f, "TIOCGPGRP"),
    (0x5410, "TIOCSPGRP"),
    (0x5412, "TIOCSTI"),
    (0x5413, "TIOCGWINSZ"),
    (0x5414, "TIOCSWINSZ"),
    (0x541b, "FIONREAD"),
    (0x541c, "TIOCLINUX"),
    (0x541d, "TIOCCONS"),
    (0x5421, "FIONBIO"),
    (0x5422, "TIOCNOTTY"),
    (0x5429, "TIOCGSID"),
    (0x5450, "FIONCLEX"),
    (0x5451, "FIOCLEX"),
    (0x8004_5430, "TIOCGPTN"),
    (0x4004_5431, "TIOCSPTLCK"),
    (0x8910, "SIOCGIFNAME"),
    (0x8912, "SIOCGIFCONF"),
    (0x8913, "SIOCGIFFLAGS"),
    (0x8914, "SIOCSIFFLAGS"),
    (0x8933, "SIOCGIFINDEX"),
    (0x4004_9409, "FICLONE"),
    (0xc020_660b, "FS_IOC_FIEMAP"),
    (0x8008_6601, "FS_IOC_GETFLAGS"),
];

const PRCTLS: [(u32, &str); 25] = [
    (1, "PR_SET_PDEATHSIG"),
    (2, "PR_GET_PDEATHSIG"),
    (3, "PR_GET_DUMPABLE"),
    (4, "PR_SET_DUMPABLE"),
    (7, "PR_GET_KEEPCAPS"),
    (8, "PR_SET_KEEPCAPS"),
    (15, "PR_SET_NAME"),
    (16, "PR_GET_NAME"),
    (21, "PR_GET_SECCOMP"),
    (22, "PR_SET_SECCOMP"),
    (23, "PR_CAPBSET_READ"),
    (24, "PR_CAPBSET_DROP"),
    (27, "PR_GET_SECUREBITS"),
    (28, "PR_SET_SECUREBITS"),
    (29, "PR_SET_TIMERSLACK"),
    (35, "PR_SET_MM"),
    (36, "PR_SET_CHILD_SUBREAPER"),
    (38, "PR_SET_NO_NEW_PRIVS"),
    (39, "PR_GET_NO_NEW_PRIVS"),
    (41, "PR_SET_THP_DISABLE"),
    (47, "PR_CAP_AMBIENT"),
    (53, "PR_SET_SPECULATION_CTRL"),
    (62, "PR_SCHED_CORE"),
    (65, "PR_SET_MDWE"),
    (0x5356_4d41, "PR_SET_VMA"),
];

const OPEN: [(u64, &str); 14] = [
    (0o20200000, "O_TMPFILE"),
    (0o4010000, "O_SYNC"),
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o400, "O_NOCTTY"),
    (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"),
    (0o4000, "O_NONBLOCK"),
    (0o40000, "O_DIRECT"),
    (0o100000, "O_LARGEFILE"),
    (0o200000, "O_DIRECTORY"),
    (0o400000, "O_NOFOLLOW"),
    (0o2000000, "O_CLOEXEC"),
    (0o10000000, "O_PATH"),
];

const MOUNT: [(u64, &str); 13] = [
    (1, "MS_RDONLY"),
    (2, "MS_NOSUID"),
    (4, "MS_NODEV"),
    (8, "MS_NOEXEC"),
    (32, "MS_REMOUNT"),
    (1024, "MS_NOATIME"),
    (4096, "MS_BIND"),
    (8192, "MS_MOVE"),
    (16384, "MS_REC"),
    (1 << 17, "MS_UNBINDABLE"),
    (1 << 18, "MS_PRIVATE"),
    (1 << 19, "MS_SLAVE"),
    (1 << 20, "MS_SHARED"),
];

const BPF: [(u32, &str); 8] = [
    (0, "BPF_MAP_CREATE"),
    (1, "BPF_MAP_LOOKUP_ELEM"),
    (2, "BPF_MAP_UPDATE_ELEM"),
    (5, "BPF_PROG_LOAD"),
    (6, "BPF_OBJ_PIN"),
    (7, "BPF_OBJ_GET"),
    (8, "BPF_PROG_ATTACH"),
    (18, "BPF_BTF_LOAD"),
];

const PTRACE: [(u32, &str); 7] = [
    (0, "PTRACE_TRACEME"),
    (1, "PTRACE_PEEKTEXT"),
    (2, "PTRACE_PEEKDATA"),
    (4, "PTRACE_POKETEXT"),
    (5, "PTRACE_POKEDATA"),
    (16, "PTRACE_ATTACH"),
    (0x4206, "PTRACE_SEIZE"),
];

const KEYCTL: [(u32, &str); 7] = [
    (0, "KEYCTL_GET_KEYRING_ID"),
    (1, "KEYCTL_JOIN_SESSION_KEYRING"),
    (2, "KEYCTL_UPDATE"),
    (3, "KEYCTL_REVOKE"),
    (8, "KEYCTL_LINK"),
    (10, "KEYCTL_SEARCH"),
    (11, "KEYCTL_READ"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, args: &[u64]) -> String {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        call(name, all, |address| (address == 1).then(|| "/a\u{1b}[2J\u{202e}\n\"b\"".to_owned()))
    }

    #[test]
    fn calls_are_said_as_their_manual_pages_write_them() {
        for (name, args, expect) in [
            ("socket", &[38, 5 | 0o2000000, 0][..], "socket(AF_ALG, SOCK_SEQPACKET|SOCK_CLOEXEC, 0)"),
            ("socket", &[1 << 32 | 1, 1, 0], "socket(AF_UNIX (bits above 32 are set), SOCK_STREAM, 0)"),
            ("socket", &[77, 11, 3], "socket(77, 11, 3)"),
            ("unshare", &[0x1002_0000], "unshare(CLONE_NEWNS|CLONE_NEWUSER)"),
            ("clone", &[0x1000_0011], "clone(CLONE_NEWUSER|SIGCHLD)"),
            ("ioctl", &[0, 0x5412], "ioctl(0, TIOCSTI)"),
            ("ioctl", &[0, 0xffff_ffff_8004_5430], "ioctl(0, TIOCGPTN)"),
            ("ioctl", &[5, 0xabcd], "ioctl(5, 0xabcd)"),
            ("mount", &[0, 2, 0, 4096 | 16384], "mount(NULL, 0x2, NULL, MS_BIND|MS_REC)"),
            ("openat", &[-100i64 as u64, 2, 0o101, 0o4755], "openat(AT_FDCWD, 0x2, O_WRONLY|O_CREAT, 0o4755)"),
            ("mknod", &[2, 0o20600, 0x103], "mknod(0x2, 0o20600, 1:3)"),
            ("personality", &[0x0004_0000], "personality(ADDR_NO_RANDOMIZE)"),
            ("keyctl", &[0], "keyctl(KEYCTL_GET_KEYRING_ID)"),
            ("frobnicate", &[1], "frobnicate(...)"),
        ] {
            assert_eq!(said(name, args), expect);
        }
    }

    #[test]
    fn text_of_a_workload_cannot_steer_a_terminal() {
        assert_eq!(said("unlink", &[1]), r#"unlink("/a\u{1b}[2J\u{202e}\n\"b\"")"#);
        let long = quoted(&"\u{7}".repeat(1000));
        assert!(long.len() < 1500 && long.ends_with("...\"") && !long.contains('\u{7}'), "{long}");
    }
}
