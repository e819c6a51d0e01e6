//! The smallest change that lets a call through: what `--denials` proposes, and how `seccomp record` builds a profile.
//!
//! Of all entries that match a call the strictest counts, so an entry that denies it must let go of it first; a default
//! is answered with an entry that allows. Where an argument says what a call is (the family of a socket, the request of an
//! ioctl), only this value is allowed, by exact equality in 64 bits: the kernel cuts some of these to 32.

use super::{By, Verdict, entries, judge, syscalls};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator as Op,
    LinuxSyscall, LinuxSyscallBuilder,
};
use serde::Serialize;

/// The flags of clone(2) that make namespaces, but for NEWTIME, whose bit belongs to the signal there.
const NAMESPACES: u64 = 0x7e02_0000;

/// A call as a filter sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// AUDIT_ARCH_*.
    pub arch: u32,
    /// The number.
    pub nr: u32,
    /// The arguments.
    pub args: [u64; 6],
}

impl Call {
    /// Whether it is made in the native numbering.
    pub fn is_native(&self) -> bool {
        use syscalls::{Abi, X32_BIT};
        self.arch == Abi::NATIVE.audit() && (Abi::NATIVE != Abi::X86_64 || self.nr & X32_BIT == 0)
    }

    /// Its name; none: nobody knows this number.
    pub fn name(&self) -> Option<&'static str> {
        use syscalls::{Abi, X32_BIT};
        let abi = [Abi::NATIVE, Abi::I386].into_iter().find(|abi| abi.audit() == self.arch)?;
        match abi {
            Abi::X86_64 if self.nr & X32_BIT != 0 => syscalls::name(Abi::X32, self.nr & !X32_BIT),
            abi => syscalls::name(abi, self.nr),
        }
    }
}

/// What is to be edited in a profile.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Take this name out of these entries of `syscalls`, by their places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<usize>,
    /// The name.
    pub name: String,
    /// Append this entry to `syscalls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<LinuxSyscall>,
}

/// The change that lets this call through; none: the profile permits it, or nothing could (another architecture, a number
/// without a name).
pub fn permit(profile: &LinuxSeccomp, call: &Call) -> Option<Change> {
    let name = call.name()?.to_owned();
    let mut change = Change { remove: Vec::new(), name, add: None };
    // Each turn takes an entry away or ends; the one more adds.
    for _ in 0..entries(profile).len() + 2 {
        match judge(&change.applied(profile), call.arch, call.nr, call.args) {
            (verdict, _) if verdict.permits() => {
                let nothing = change.remove.is_empty() && change.add.is_none();
                return (!nothing).then_some(change);
            }
            (_, By::Entry(place)) => change.remove.push(place),
            (_, By::Default | By::Newer) => change.add = Some(allowing(&change.name, call.args)?),
            (_, By::Architecture) => return None,
        }
    }
    None
}

impl Change {
    /// The profile with this change. An entry that loses its last name stays, as one that matches nothing: places stay.
    pub fn applied(&self, profile: &LinuxSeccomp) -> LinuxSeccomp {
        let mut changed = profile.clone();
        let mut list = entries(profile).to_vec();
        for &place in &self.remove {
            if let Some(entry) = list.get_mut(place) {
                let names = entry.names().iter().filter(|n| !self.releases(n)).cloned().collect();
                entry.set_names(names);
            }
        }
        list.extend(self.add.clone());
        changed.set_syscalls(Some(list));
        changed
    }

    /// Whether an entry with this name is about the call: on i386 `socketcall` carries others.
    fn releases(&self, name: &str) -> bool {
        name == self.name || syscalls::carried(name).is_some_and(|(carrier, ..)| carrier == self.name)
    }

    /// The same in words, with the snippet of JSON.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        for place in &self.remove {
            words.push(format!("take {} out of syscalls[{place}]", self.name));
        }
        if let Some(add) = &self.add {
            let json = serde_json::to_string(add).unwrap_or_default();
            words.push(format!("add to syscalls {json}"));
        }
        words.join("; ")
    }
}

/// An entry that allows a call with these arguments.
pub fn allowing(name: &str, args: [u64; 6]) -> Option<LinuxSyscall> {
    let entry = LinuxSyscallBuilder::default().names(vec![name.to_owned()]).action(Action::ScmpActAllow);
    let conditions = narrowed(name, args);
    if conditions.is_empty() { entry.build().ok() } else { entry.args(conditions).build().ok() }
}

/// The conditions by which a call is what it is; none: the name says it all.
pub fn narrowed(name: &str, args: [u64; 6]) -> Vec<LinuxSeccompArg> {
    let equal = |index: usize| condition(index, args[index], None, Op::ScmpCmpEq);
    let masked = |index: usize| condition(index, NAMESPACES, Some(args[index] & NAMESPACES), Op::ScmpCmpMaskedEq);
    let all = match name {
        // Of netlink each protocol is a subsystem of its own.
        "socket" | "socketpair" if args[0] == 16 => vec![equal(0), equal(2)],
        "socket" | "socketpair" | "prctl" | "personality" | "keyctl" | "bpf" | "ptrace" | "unshare" => vec![equal(0)],
        "ioctl" => vec![equal(1)],
        "setsockopt" => vec![equal(1), equal(2)],
        "clone" => vec![masked(0)],
        _ => vec![],
    };
    all.into_iter().flatten().collect()
}

fn condition(index: usize, value: u64, two: Option<u64>, op: Op) -> Option<LinuxSeccompArg> {
    let arg = LinuxSeccompArgBuilder::default().index(index).value(value).op(op);
    match two {
        Some(two) => arg.value_two(two),
        None => arg,
    }
    .build()
    .ok()
}

/// The stricter of what several profiles say, which one it was, and what in it decided. Of equally strict ones the last.
pub fn strictest<'a, T>(
    profiles: &'a [(T, LinuxSeccomp)],
    call: &Call,
) -> Option<(&'a (T, LinuxSeccomp), Verdict, By)> {
    let judged = profiles.iter().map(|p| (p, judge(&p.1, call.arch, call.nr, call.args)));
    judged
        .reduce(|first, second| if first.1.0.rank() < second.1.0.rank() { first } else { second })
        .map(|(profile, (verdict, by))| (profile, verdict, by))
}
