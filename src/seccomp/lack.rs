//! Calls that every filter lets through and the kernel then refuses for want of a capability: which they are, and when.
//!
//! Only what the registers and the credentials of the thread decide is told: it waits in the call, so both are what the
//! kernel will look at. What depends on a path, a descriptor or memory (chown, a bind to a low port, kill) is not.

use super::change::Call;
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArgBuilder, LinuxSeccompOperator as Op, LinuxSyscallBuilder,
};

const SETGID: (u32, &str) = (6, "CAP_SETGID");
const SETUID: (u32, &str) = (7, "CAP_SETUID");
const NET_RAW: (u32, &str) = (13, "CAP_NET_RAW");
const SYS_CHROOT: (u32, &str) = (18, "CAP_SYS_CHROOT");
const SYS_ADMIN: (u32, &str) = (21, "CAP_SYS_ADMIN");

/// What is asked about whatever its arguments are; of sockets it is the raw ones.
const NAMES: [&str; 13] = [
    "setgroups",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "chroot",
    "mount",
    "umount2",
    "pivot_root",
    "sethostname",
    "setdomainname",
];
const SOCKET: &str = "socket";
const KIND_OF_SOCKET: u64 = 0xf;
const RAW: u64 = 3;

/// Whether a call is one of these.
pub fn may(call: &Call) -> bool {
    call.name().is_some_and(|n| NAMES.contains(&n) || (n == SOCKET && call.args[1] & KIND_OF_SOCKET == RAW))
}

/// The profile with these asked about where it lets them through: of all entries that match the strictest counts, and a
/// question is stricter than a yes, and than the default, whose errno is asked about already. None: it has other answers,
/// which a question would take the place of.
pub fn asking(profile: &LinuxSeccomp) -> Option<LinuxSeccomp> {
    let mut list = super::entries(profile).to_vec();
    let looser = |a: Action| matches!(a, Action::ScmpActTrace | Action::ScmpActLog | Action::ScmpActNotify);
    let default = matches!(profile.default_action(), Action::ScmpActAllow | Action::ScmpActErrno);
    if !default || list.iter().any(|e| looser(e.action())) {
        return None;
    }
    let names = NAMES.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let raw = LinuxSeccompArgBuilder::default().index(1usize).value(KIND_OF_SOCKET).value_two(RAW);
    let raw = raw.op(Op::ScmpCmpMaskedEq).build().ok()?;
    let ask = || LinuxSyscallBuilder::default().action(Action::ScmpActNotify);
    list.push(ask().names(names).build().ok()?);
    list.push(ask().names(vec![SOCKET.to_owned()]).args(vec![raw]).build().ok()?);
    let mut asks = profile.clone();
    asks.set_syscalls(Some(list));
    Some(asks)
}

/// Ids of a thread: the real, the effective and the saved one, and the maps of its user namespace.
#[derive(Debug, Default)]
pub struct Ids {
    /// As it sees them itself.
    pub now: [u32; 3],
    /// First id inside, and how many.
    pub mapped: Vec<(u32, u32)>,
}

/// A thread that waits in a call.
#[derive(Debug, Default)]
pub struct Holder {
    /// Its effective capabilities.
    pub caps: u64,
    /// Its users.
    pub uids: Ids,
    /// Its groups.
    pub gids: Ids,
}

impl Ids {
    /// Whether it may take these without a capability; -1 leaves one as it is.
    fn free(&self, wanted: &[u64], among: &[u32]) -> bool {
        wanted.iter().all(|id| *id as u32 == u32::MAX || among.contains(&(*id as u32)))
    }

    /// An id that is not mapped is EINVAL, whoever asks.
    fn valid(&self, wanted: &[u64]) -> bool {
        let inside = |id: u32| self.mapped.iter().any(|(first, count)| id >= *first && id - first < *count);
        wanted.iter().all(|id| *id as u32 == u32::MAX || inside(*id as u32))
    }
}

/// The capability for want of which the kernel refuses this call, with EPERM at the latest; none: it may well succeed.
pub fn lacks(call: &Call, holder: &Holder) -> Option<&'static str> {
    let [a, b, c, ..] = call.args;
    let (uids, gids) = (&holder.uids, &holder.gids);
    // Any of several, the two that the call of one sets, and the ids that the second of setreuid may be.
    let one = |ids: &Ids| !ids.valid(&[a]) || ids.free(&[a], &[ids.now[0], ids.now[2]]);
    let two = |ids: &Ids| !ids.valid(&[a, b]) || (ids.free(&[a], &ids.now[..2]) && ids.free(&[b], &ids.now));
    let three = |ids: &Ids| !ids.valid(&[a, b, c]) || ids.free(&[a, b, c], &ids.now);
    // Other numberings have other widths of ids.
    let (needed, (bit, cap)) = match call.name().filter(|_| call.is_native() && may(call))? {
        "setgroups" => (true, SETGID),
        "setuid" => (!one(uids), SETUID),
        "setgid" => (!one(gids), SETGID),
        "setreuid" => (!two(uids), SETUID),
        "setregid" => (!two(gids), SETGID),
        "setresuid" => (!three(uids), SETUID),
        "setresgid" => (!three(gids), SETGID),
        "chroot" => (true, SYS_CHROOT),
        // Of other families a raw socket may be anybody's.
        SOCKET => (matches!(a as u32, 2 | 10), NET_RAW),
        _ => (true, SYS_ADMIN),
    };
    (needed && holder.caps & 1 << bit == 0).then_some(cap)
}

#[cfg(test)]
mod tests {
    use super::super::syscalls::{Abi, Syscall};
    use super::super::{Program, Verdict, compile_asking, default_profile, emulate, verdict};
    use super::*;

    fn call(name: &str, args: &[u64]) -> Call {
        let nr = Syscall::named(name).unwrap().number(Abi::NATIVE).unwrap();
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        Call { arch: Abi::NATIVE.audit(), nr, args: all }
    }

    fn holder(caps: u64) -> Holder {
        let ids = || Ids { now: [5, 6, 7], mapped: vec![(0, 10), (100, 1)] };
        Holder { caps, uids: ids(), gids: ids() }
    }

    #[test]
    fn a_capability_is_missed_where_the_kernel_asks_for_it() {
        const NONE: u64 = u64::MAX;
        let missed = [
            ("setgroups", &[0, 0][..], "CAP_SETGID"),
            ("setuid", &[6], "CAP_SETUID"),
            ("setgid", &[100], "CAP_SETGID"),
            ("setreuid", &[7, 5], "CAP_SETUID"),
            ("setregid", &[NONE, 8], "CAP_SETGID"),
            ("setresuid", &[5, 6, 8], "CAP_SETUID"),
            ("setresgid", &[0, NONE, NONE], "CAP_SETGID"),
            ("chroot", &[1], "CAP_SYS_CHROOT"),
            ("mount", &[1], "CAP_SYS_ADMIN"),
            ("sethostname", &[1, 1], "CAP_SYS_ADMIN"),
            ("socket", &[2, 3, 1], "CAP_NET_RAW"),
            ("socket", &[10, 3 | 0o2000000, 58], "CAP_NET_RAW"),
        ];
        for (name, args, cap) in missed {
            assert_eq!(lacks(&call(name, args), &holder(0)), Some(cap), "{name} {args:?}");
            assert_eq!(lacks(&call(name, args), &holder(u64::MAX)), None, "{name} {args:?}");
        }
        let free = [
            ("setuid", &[5][..]),
            ("setuid", &[7]),
            // Not mapped: EINVAL, with a capability, too.
            ("setuid", &[50]),
            ("setgid", &[1 << 32 | 5]),
            ("setreuid", &[6, 7]),
            ("setreuid", &[NONE, NONE]),
            ("setresuid", &[7, 6, 5]),
            ("socket", &[2, 1, 0]),
            ("socket", &[1, 3, 0]),
            ("getpid", &[]),
            ("chown", &[1, 0, 0]),
        ];
        for (name, args) in free {
            assert_eq!(lacks(&call(name, args), &holder(0)), None, "{name} {args:?}");
        }
    }

    /// What is asked about is what was permitted, and nothing that was denied is let through by it.
    #[test]
    fn a_question_takes_the_place_of_a_yes_alone() {
        let allow = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["setuid"],"action":"SCMP_ACT_ERRNO"}]}"#;
        for plain in [default_profile().unwrap(), serde_json::from_str(allow).unwrap()] {
            let asks = compile_asking(&[&asking(&plain).unwrap()]).unwrap();
            let bare = compile_asking(&[&plain]).unwrap();
            for nr in 0..500 {
                for args in [[0; 6], [2, 3, 1, 0, 0, 0], [38, 3, 0, 0, 0, 0]] {
                    let call = Call { arch: Abi::NATIVE.audit(), nr, args };
                    let seen = emulate::Call { nr, arch: call.arch, args };
                    let run = |p: &Program| Verdict::from_ret(emulate::run(&p.insns, &seen).0);
                    let (before, after) = (run(&bare), run(&asks));
                    let asked =
                        before == Verdict::Notify || (verdict(&plain, call.arch, nr, args).permits() && may(&call));
                    assert_eq!(after, if asked { Verdict::Notify } else { before }, "{:?} {args:?}", call.name());
                }
            }
        }
        for (from, to) in [("ERRNO", "LOG"), ("ERRNO", "TRACE"), ("ALLOW", "KILL"), ("ALLOW", "TRAP"), ("ALLOW", "LOG")]
        {
            let text = allow.replace(&format!("SCMP_ACT_{from}"), &format!("SCMP_ACT_{to}"));
            assert_eq!(asking(&serde_json::from_str(&text).unwrap()), None, "{text}");
        }
    }
}
