//! From the bundle's device rules to the eBPF program that the kernel asks at each open or mknod of a device node.
//!
//! Stands in the launch between "write limits" and clone3: the plan holds a list of [`Rule`]s (the bundle's own, then
//! [`defaults`]), [`program`] turns it into instructions, and `sys` loads and attaches them to the container's cgroup
//! before any process is in it. Pure: no call to the kernel, so the whole decision is tested without root.
//!
//! A list is read as written, the later rule winning over the earlier one, for each of r, w and m alone. See [`allows`].

use crate::error::{Error, Result};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::{BitOr, Not};

/// More live rules than this are refused. Engines send a few dozen; `--device /dev` sends some hundreds.
pub const MAX_RULES: usize = 2048;

/// More decisions than this are refused: rules such as `c *:5` multiply with every major number named elsewhere.
pub const MAX_DECISIONS: usize = 16_384;

/// The largest numbers that a device can have: `dev_t` is 12 + 20 bits wide inside the kernel.
const MAX_MAJOR: i64 = (1 << 12) - 1;
const MAX_MINOR: i64 = (1 << 20) - 1;

/// Which of the two families of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// Either family: `a`.
    #[serde(rename = "a")]
    All,
    /// Character devices: `c`.
    #[serde(rename = "c")]
    Char,
    /// Block devices: `b`.
    #[serde(rename = "b")]
    Block,
}

/// A set of r, w and m, with the kernel's own bits (`BPF_DEVCG_ACC_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// Nothing.
    pub const NONE: Access = Access(0);
    /// `m`: make a node with mknod(2).
    pub const MKNOD: Access = Access(1);
    /// `r`: open for reading.
    pub const READ: Access = Access(2);
    /// `w`: open for writing.
    pub const WRITE: Access = Access(4);
    /// `rwm`.
    pub const ALL: Access = Access(7);

    /// Each of the three, with its letter, in the order in which the kernel prints them.
    const EACH: [(char, Access); 3] = [('r', Access::READ), ('w', Access::WRITE), ('m', Access::MKNOD)];

    /// Whether every access of `other` is in this set.
    pub fn contains(self, other: Access) -> bool {
        self.0 & other.0 == other.0
    }

    /// What both sets have.
    fn and(self, other: Access) -> Access {
        Access(self.0 & other.0)
    }

    /// Letters to a set; `None` for a letter that is not r, w or m.
    fn parse(letters: &str) -> Option<Access> {
        letters.chars().try_fold(Access::NONE, |set, letter| {
            Access::EACH.iter().find(|(known, _)| *known == letter).map(|(_, access)| set | *access)
        })
    }
}

impl BitOr for Access {
    type Output = Access;
    fn bitor(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }
}

impl Not for Access {
    type Output = Access;
    fn not(self) -> Access {
        Access(!self.0 & Access::ALL.0)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Access::EACH
            .iter()
            .filter(|(_, access)| self.contains(*access))
            .try_for_each(|(letter, _)| write!(f, "{letter}"))
    }
}

impl Serialize for Access {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One line of the list: allow or deny these accesses to these devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Whether the accesses are granted or taken away.
    pub allow: bool,
    /// Which family of devices.
    pub kind: Kind,
    /// The major number. `None` means every one.
    pub major: Option<u32>,
    /// The minor number. `None` means every one.
    pub minor: Option<u32>,
    /// Which accesses the rule speaks of. On the others it says nothing.
    pub access: Access,
}

impl Rule {
    /// A rule that allows.
    fn allow(kind: Kind, major: Option<u32>, minor: Option<u32>, access: Access) -> Rule {
        Rule { allow: true, kind, major, minor, access }
    }

    /// Whether it speaks of every access to every device, so that nothing before it matters.
    fn is_last_word(&self) -> bool {
        self.kind == Kind::All && self.major.is_none() && self.minor.is_none() && self.access == Access::ALL
    }

    fn covers_kind(&self, kind: Kind) -> bool {
        self.kind == Kind::All || self.kind == kind
    }
}

/// The kernel's notation, as in `devices.list`: `c 1:3 rwm`, `b 8:* r`. It does not say whether the rule allows.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::All => 'a',
            Kind::Char => 'c',
            Kind::Block => 'b',
        };
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write!(f, "{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

/// Reads `linux.resources.devices`. What is absent (or -1) means "every one", `access` included.
///
/// Numbers that no device can have are refused: a deny rule for one would be silently without effect.
pub fn from_oci(devices: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let wrong = |i: usize, field: &str, why: String| {
        Error::new("config.json", format!("linux.resources.devices[{i}].{field}"), why)
    };
    let number = |i: usize, field: &str, given: Option<i64>, max: i64| match given {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n)
            .ok()
            .filter(|_| n <= max)
            .map(Some)
            .ok_or_else(|| wrong(i, field, format!("{n} is not a device number: 0 to {max}, or -1 for every one"))),
    };
    let rule = |(i, device): (usize, &LinuxDeviceCgroup)| {
        let kind = match device.typ() {
            None | Some(LinuxDeviceType::A) => Kind::All,
            Some(LinuxDeviceType::C) => Kind::Char,
            Some(LinuxDeviceType::B) => Kind::Block,
            Some(other) => return Err(wrong(i, "type", format!("{:?} is not one of a, b, c", other.as_str()))),
        };
        let access = match device.access().as_deref() {
            None | Some("") => Access::ALL,
            Some(letters) => Access::parse(letters)
                .ok_or_else(|| wrong(i, "access", format!("{letters:?} has letters other than r, w and m")))?,
        };
        let major = number(i, "major", device.major(), MAX_MAJOR)?;
        let minor = number(i, "minor", device.minor(), MAX_MINOR)?;
        Ok(Rule { allow: device.allow(), kind, major, minor, access })
    };
    devices.iter().enumerate().map(rule).collect()
}

/// The devices that the runtime specification promises to every container; they go after the bundle's own rules.
///
/// Not here, though older runtimes allow it: `c 5:1`, the console of the host. The container's /dev/console is a pty
/// (136), and a node for 5:1, once made, would write to the machine's own screen. Nor `c 10:200` (tun): who needs it
/// names it.
pub fn defaults() -> Vec<Rule> {
    let pseudo_terminals = (136, None);
    [
        (1, Some(3)), // null
        (1, Some(5)), // zero
        (1, Some(7)), // full
        (1, Some(8)), // random
        (1, Some(9)), // urandom
        (5, Some(0)), // tty
        (5, Some(2)), // ptmx
        pseudo_terminals,
    ]
    .into_iter()
    .map(|(major, minor)| Rule::allow(Kind::Char, Some(major), minor, Access::ALL))
    .collect()
}

/// mknod of any device, without the right to open it: what runc and crun grant to every container.
///
/// Image builds unpack nodes and need it. It is apart from [`defaults`] because a node left behind on a shared volume
/// can be opened by whoever is not under this program; so only a policy that trusts the bundle adds it.
pub fn mknod_any() -> Vec<Rule> {
    [Kind::Char, Kind::Block].into_iter().map(|kind| Rule::allow(kind, None, None, Access::MKNOD)).collect()
}

/// The plain reading of a list: may a process access this device (`kind` is [`Kind::Char`] or [`Kind::Block`])?
///
/// Each of r, w and m is decided alone, by the last rule that speaks of it for this device; if none does, it is denied,
/// so an empty list denies everything. A request is granted when all its accesses are. A request for no access at all,
/// which is how access(2) with F_OK arrives, is granted when some access would be.
///
/// An `a` rule is honoured as written, numbers and letters included. cgroup v1 drops both and resets the whole list,
/// which turns `{"allow": true, "major": 10}` into "allow every device". cgroup v1 also ignores a deny that would cut
/// a hole into an allowed wildcard; here it cuts the hole.
pub fn allows(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: Access) -> bool {
    let granted = |wanted: Access| {
        let speaks = |rule: &&Rule| {
            rule.access.contains(wanted)
                && rule.covers_kind(kind)
                && rule.major.is_none_or(|n| n == major)
                && rule.minor.is_none_or(|n| n == minor)
        };
        rules.iter().rev().find(speaks).is_some_and(|rule| rule.allow)
    };
    let mut each = Access::EACH.iter().map(|(_, one)| *one);
    if access == Access::NONE { each.any(granted) } else { each.filter(|one| access.contains(*one)).all(granted) }
}

/// Compiles the list to a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, one `struct bpf_insn` an element.
///
/// What the list grants to a device is known here, so nothing of the list's order is left in the program: it finds the
/// kind, the major, the minor, and ends there. Every match ends the program at once, so the verifier walks each
/// instruction about once and its limits are far away, on every kernel; and no jump leaves its own group.
///
/// ```text
/// for each kind, for each major that a rule names, then for any other major:
///     for each minor that a rule names and that is not treated like the rest: verdict
///     any other minor: verdict
/// any other kind: deny
/// ```
pub fn program(rules: &[Rule]) -> Result<Vec<u64>> {
    let rules = live(rules);
    if rules.len() > MAX_RULES {
        return Err(too_many(format!("{} rules, and {MAX_RULES} are the most", rules.len())));
    }
    let mut code = vec![
        insn(LOAD, TYPE, CONTEXT, 0, 0),
        insn(LOAD, ACCESS, CONTEXT, 0, 0),
        insn(AND, TYPE, 0, 0, 0xffff),
        insn(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        insn(LOAD, MAJOR, CONTEXT, 4, 0),
        insn(LOAD, MINOR, CONTEXT, 8, 0),
    ];
    let mut decisions = 0;
    for kind in [Kind::Char, Kind::Block] {
        let of_kind: Vec<&Rule> = rules.iter().filter(|rule| rule.covers_kind(kind)).collect();
        for major in named(&of_kind, |rule| rule.major).into_iter().map(Some).chain([None]) {
            let here: Vec<&Rule> =
                of_kind.iter().copied().filter(|rule| rule.major.is_none() || rule.major == major).collect();
            let minors = named(&here, |rule| rule.minor);
            decisions += minors.len() + 1;
            if decisions > MAX_DECISIONS {
                return Err(too_many(format!("the rules multiply to more than {MAX_DECISIONS} devices")));
            }
            let rest = verdict(granted(&here, None));
            let mut group = Vec::new();
            for minor in minors {
                let this = verdict(granted(&here, Some(minor)));
                if this != rest {
                    group.push(unless(MINOR, minor, this.len())?);
                    group.extend(this);
                }
            }
            group.extend(rest);
            if let Some(major) = major {
                group.insert(0, unless(MAJOR, major, group.len())?);
            }
            code.push(unless(TYPE, kind_bits(kind), group.len())?);
            code.extend(group);
        }
    }
    code.extend(verdict(Access::NONE));
    Ok(code)
}

/// The rules that can still matter: those after the last one that speaks of everything, and that one if it allows.
fn live(rules: &[Rule]) -> &[Rule] {
    match rules.iter().rposition(Rule::is_last_word) {
        Some(at) => rules.get(at + usize::from(!rules.get(at).is_some_and(|rule| rule.allow))..).unwrap_or_default(),
        None => rules,
    }
}

/// The numbers that these rules name.
fn named(rules: &[&Rule], number: impl Fn(&Rule) -> Option<u32>) -> BTreeSet<u32> {
    rules.iter().filter_map(|rule| number(rule)).collect()
}

/// What these rules, in order, leave granted to one minor, or (`None`) to a minor that none of them names.
fn granted(rules: &[&Rule], minor: Option<u32>) -> Access {
    rules
        .iter()
        .filter(|rule| rule.minor.is_none() || rule.minor == minor)
        .fold(Access::NONE, |so_far, rule| if rule.allow { so_far | rule.access } else { so_far.and(!rule.access) })
}

fn too_many(why: String) -> Error {
    Error::new("device program", "linux.resources.devices", why)
        .hint("use a wildcard (major or minor -1) for a family of devices")
}

// The instructions, as in linux/bpf.h. Comparisons are the 32-bit ones: the 64-bit ones sign-extend their constant, so
// that a number above 2^31 would never match.

const LOAD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const SET: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const JUMP_IF_NOT: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K
const JUMP_IF_ANY: u8 = 0x46; // BPF_JMP32 | BPF_JSET | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

const RESULT: u8 = 0;
const CONTEXT: u8 = 1; // struct bpf_cgroup_dev_ctx { u32 access << 16 | type; u32 major; u32 minor; }
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// One `struct bpf_insn` in its layout in memory: code, registers (destination in the low half), offset, constant.
fn insn(code: u8, to: u8, from: u8, jump: i16, constant: u32) -> u64 {
    let [j0, j1] = jump.to_ne_bytes();
    let [c0, c1, c2, c3] = constant.to_ne_bytes();
    let registers = if cfg!(target_endian = "big") { to << 4 | from } else { from << 4 | to };
    u64::from_ne_bytes([code, registers, j0, j1, c0, c1, c2, c3])
}

/// "Jump over the next `over` instructions unless the register holds this number."
fn unless(register: u8, number: u32, over: usize) -> Result<u64> {
    let over = i16::try_from(over).map_err(|_| too_many(format!("a jump over {over} instructions is too long")))?;
    Ok(insn(JUMP_IF_NOT, register, 0, over, number))
}

/// Ends the program: 1 if every requested access is granted, else 0.
fn verdict(granted: Access) -> Vec<u64> {
    let end = |result| [insn(SET, RESULT, 0, 0, result), insn(EXIT, 0, 0, 0, 0)];
    match granted {
        Access::ALL => end(1).to_vec(),
        Access::NONE => end(0).to_vec(),
        some => {
            let others = !u32::from(some.0);
            let [grant, exit] = end(1);
            // A refusal is prepared first, so that one jump decides.
            vec![insn(SET, RESULT, 0, 0, 0), insn(JUMP_IF_ANY, ACCESS, 0, 1, others), grant, exit]
        }
    }
}

fn kind_bits(kind: Kind) -> u32 {
    match kind {
        Kind::Block => 1, // BPF_DEVCG_DEV_BLOCK
        Kind::Char => 2,  // BPF_DEVCG_DEV_CHAR
        Kind::All => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs a program as the kernel would; panics on whatever the verifier would refuse. The numbers are written out
    /// again here, from linux/bpf.h: a wrong constant above must not be read back with the same mistake.
    fn run(code: &[u64], kind: Kind, major: u32, minor: u32, access: Access) -> bool {
        let family = match kind {
            Kind::Block => 1,
            Kind::Char => 2,
            Kind::All => 3, // what no kernel sends
        };
        let context = [u32::from(access.0) << 16 | family, major, minor];
        let mut registers: [Option<u32>; 6] = [None; 6];
        registers[1] = Some(0); // the context
        let mut at = 0;
        for _ in 0..=code.len() {
            let [op, regs, j0, j1, c0, c1, c2, c3] = code[at].to_ne_bytes();
            let (to, from) = ((regs & 15) as usize, (regs >> 4) as usize);
            let jump = i16::from_ne_bytes([j0, j1]);
            let constant = u32::from_ne_bytes([c0, c1, c2, c3]);
            at += 1;
            let value = |register: usize| registers[register].expect("read of a register that was never written");
            match op {
                0x61 => {
                    assert_eq!((from, jump % 4), (1, 0));
                    registers[to] = Some(context[jump as usize / 4]);
                }
                0x54 => registers[to] = Some(value(to) & constant),
                0x74 => registers[to] = Some(value(to) >> constant),
                0xb4 => registers[to] = Some(constant),
                0x56 | 0x46 => {
                    assert!(jump >= 0, "a jump backwards");
                    let taken = if op == 0x56 { value(to) != constant } else { value(to) & constant != 0 };
                    at += if taken { jump as usize } else { 0 };
                }
                0x95 => match value(0) {
                    verdict @ (0 | 1) => return verdict == 1,
                    other => panic!("the program returned {other}"),
                },
                other => panic!("instruction {other:#x} is not in our subset"),
            }
        }
        panic!("the program did not end")
    }

    fn oci(json: &str) -> Result<Vec<Rule>> {
        from_oci(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap())
    }

    fn show(rules: &[Rule]) -> Vec<String> {
        rules.iter().map(|r| format!("{}{r}", if r.allow { '+' } else { '-' })).collect()
    }

    /// `+c 1:3 rw`, `-a *:* rwm`
    fn rule(text: &str) -> Rule {
        let (sign, rest) = text.split_at(1);
        let (kind, rest) = rest.split_at(1);
        let (numbers, access) = rest.trim_start().split_once(' ').unwrap();
        let (major, minor) = numbers.split_once(':').unwrap();
        let kind = match kind {
            "a" => Kind::All,
            "c" => Kind::Char,
            _ => Kind::Block,
        };
        let access = Access::parse(access).unwrap();
        Rule { allow: sign == "+", kind, major: major.parse().ok(), minor: minor.parse().ok(), access }
    }

    fn rules(texts: &[&str]) -> Vec<Rule> {
        texts.iter().map(|text| rule(text)).collect()
    }

    /// Asks the reading and the program, which must agree.
    fn ask(rules: &[Rule], request: &str) -> bool {
        let asked = rule(&format!("+{request}"));
        let (major, minor) = (asked.major.unwrap(), asked.minor.unwrap());
        let read = allows(rules, asked.kind, major, minor, asked.access);
        assert_eq!(run(&program(rules).unwrap(), asked.kind, major, minor, asked.access), read, "{request}");
        read
    }

    #[test]
    fn silence_denies() {
        for request in ["c 1:3 r", "b 8:0 m", "c 0:0 rwm", "c 1:3 "] {
            assert!(!ask(&[], request));
        }
    }

    #[test]
    fn the_last_rule_wins_for_each_letter_alone() {
        let list = rules(&["+c 1:* rwm", "-c 1:1 w", "-a *:* m", "+c 1:5 m"]);
        assert!(ask(&list, "c 1:1 r") && !ask(&list, "c 1:1 w") && !ask(&list, "c 1:1 rw") && !ask(&list, "c 1:1 m"));
        assert!(ask(&list, "c 1:2 rw") && !ask(&list, "c 1:2 m") && ask(&list, "c 1:5 rwm"));
        // Granted by two rules together: whoever may read and may write may do both.
        assert!(ask(&rules(&["+c 7:1 r", "+c 7:* w"]), "c 7:1 rw"));
    }

    #[test]
    fn a_rule_for_all_is_read_as_written() {
        // cgroup v1, and with it runc, would allow every device here.
        let list = rules(&["-a *:* rwm", "+a 10:229 rw"]);
        assert!(ask(&list, "c 10:229 rw") && ask(&list, "b 10:229 r"));
        assert!(!ask(&list, "c 10:229 m") && !ask(&list, "b 8:0 r") && !ask(&list, "c 1:1 r"));
        // And a hole in a wildcard is a hole.
        let list = rules(&["+a *:* rwm", "-b 8:0 rwm"]);
        assert!(!ask(&list, "b 8:0 r") && ask(&list, "b 8:1 r") && ask(&list, "c 8:0 rw"));
        // The last word silences what came before.
        assert!(!ask(&rules(&["+c 1:3 rwm", "-a *:* rwm"]), "c 1:3 r"));
        assert!(ask(&rules(&["-c 1:3 rwm", "+a *:* rwm"]), "c 1:3 r"));
    }

    #[test]
    fn a_request_for_nothing_needs_some_grant() {
        let list = rules(&["+c 1:3 rw", "+c *:* m", "-c 1:1 rwm"]);
        assert!(ask(&list, "c 1:3 ") && ask(&list, "c 9:9 ") && !ask(&list, "c 1:1 ") && !ask(&list, "b 1:3 "));
    }

    #[test]
    fn what_docker_sends() {
        let mut list = oci(r#"[{"allow":false,"access":"rwm"},
                {"allow":true,"type":"c","major":1,"minor":5,"access":"rwm"},
                {"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]"#)
        .unwrap();
        assert_eq!(show(&list), ["-a *:* rwm", "+c 1:5 rwm", "+c 10:229 rw"]);
        list.extend(defaults());
        for request in ["c 1:3 rw", "c 1:5 rw", "c 10:229 rw", "c 136:77 rw", "c 5:0 rw", "c 5:2 rw", "c 1:9 m"] {
            assert!(ask(&list, request), "{request}");
        }
        for request in ["c 1:1 r", "c 1:11 r", "c 5:1 w", "c 10:200 rw", "b 8:0 r", "b 8:0 m", "b 1:3 r", "c 10:229 m"]
        {
            assert!(!ask(&list, request), "{request}");
        }
        list.extend(mknod_any());
        assert!(
            ask(&list, "b 8:0 m") && ask(&list, "c 10:229 rwm") && !ask(&list, "b 8:0 r") && !ask(&list, "c 1:1 r")
        );
    }

    #[test]
    fn privileged_is_a_few_instructions() {
        let list = [oci(r#"[{"allow":true,"access":"rwm"}]"#).unwrap(), defaults(), mknod_any()].concat();
        assert!(ask(&list, "b 8:0 rw") && ask(&list, "c 1:1 rwm"));
        let code = program(&list[..1]).unwrap();
        assert_eq!(code.len(), 14);
        assert!(!run(&code, Kind::All, 1, 3, Access::READ), "a family of devices that nobody knows is denied");
    }

    #[test]
    fn absent_and_minus_one_mean_every_one() {
        let list = oci(r#"[{"allow":true},{"allow":false,"type":"b","major":-1,"minor":-1,"access":""},
                           {"allow":true,"type":"a","major":4095,"minor":1048575,"access":"mwr"}]"#);
        assert_eq!(show(&list.unwrap()), ["+a *:* rwm", "-b *:* rwm", "+a 4095:1048575 rwm"]);
    }

    #[test]
    fn errors_name_the_field() {
        for (json, said) in [
            (r#"{"allow":true,"major":-2}"#, "linux.resources.devices[1].major: -2 is not"),
            (r#"{"allow":true,"major":4096}"#, "linux.resources.devices[1].major: 4096 is not"),
            (r#"{"allow":true,"minor":4294967295}"#, "linux.resources.devices[1].minor: 4294967295 is not"),
            (r#"{"allow":true,"type":"p"}"#, "linux.resources.devices[1].type: \"p\" is not one of a, b, c"),
            (r#"{"allow":true,"type":"u"}"#, "linux.resources.devices[1].type: \"u\" is not one of a, b, c"),
            (r#"{"allow":true,"access":"rx"}"#, "linux.resources.devices[1].access: \"rx\" has letters other than"),
        ] {
            let error = oci(&format!(r#"[{{"allow":false}},{json}]"#)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.json: {said}")), "{error}");
        }
    }

    #[test]
    fn serialised_as_people_write_it() {
        let json = serde_json::to_string(&rule("-c 1:* rm")).unwrap();
        assert_eq!(json, r#"{"allow":false,"kind":"c","major":1,"minor":null,"access":"rm"}"#);
    }

    #[test]
    fn too_much_is_an_error_and_not_a_hang() {
        let exact = |major, minor| Rule::allow(Kind::All, major, minor, Access::READ);
        // The most that is accepted: one long group, in which the jumps are the longest, and a group for each rule.
        for shape in [|n| (Some(1), Some(n)), |n| (Some(n), Some(1))] {
            let mut list: Vec<Rule> = (0..MAX_RULES as u32).map(shape).map(|(a, b)| exact(a, b)).collect();
            let code = program(&list).unwrap();
            assert!(code.len() < 100_000);
            let (major, minor) = shape(MAX_RULES as u32 - 1);
            assert!(run(&code, Kind::Block, major.unwrap(), minor.unwrap(), Access::READ));
            assert!(!run(&code, Kind::Block, major.unwrap(), minor.unwrap(), Access::WRITE));
            assert!(!run(&code, Kind::Char, 9999, 9999, Access::READ));
            list.insert(0, exact(None, None));
            assert!(program(&list).unwrap_err().to_string().contains("rules, and"));
            // Dead rules are not counted.
            list.push(rule("-a *:* rwm"));
            assert_eq!(program(&list).unwrap(), program(&[]).unwrap());
        }
        let product: Vec<Rule> = (0..1000).flat_map(|n| [exact(Some(n), None), exact(None, Some(n))]).collect();
        assert!(program(&product).unwrap_err().to_string().contains("multiply"));
    }

    fn numbers() -> impl Strategy<Value = u32> {
        // Few, so that rules and requests meet; with the ones that a signed comparison would get wrong.
        prop_oneof![0..4u32, Just(136), Just(0x7fff_ffff), Just(0x8000_0000), Just(u32::MAX)]
    }

    fn accesses() -> impl Strategy<Value = Access> {
        prop_oneof![(0..8u8).prop_map(Access), Just(Access::ALL)]
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let kinds = prop_oneof![Just(Kind::All), Just(Kind::Char), Just(Kind::Block)];
        let number = || prop_oneof![1 => Just(None), 3 => numbers().prop_map(Some)];
        (any::<bool>(), kinds, number(), number(), accesses()).prop_map(|(allow, kind, major, minor, access)| Rule {
            allow,
            kind,
            major,
            minor,
            access,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        /// One list, and every device and access that its numbers can tell apart.
        #[test]
        fn the_program_is_the_plain_reading(list in prop::collection::vec(any_rule(), 0..12)) {
            let code = program(&list).unwrap();
            let numbers = [0, 1, 2, 3, 99, 136, 0x7fff_ffff, 0x8000_0000, u32::MAX];
            for kind in [Kind::Char, Kind::Block] {
                for (major, minor) in numbers.iter().flat_map(|a| numbers.map(|b| (*a, b))) {
                    for access in (0..8).map(Access) {
                        let read = allows(&list, kind, major, minor, access);
                        let ran = run(&code, kind, major, minor, access);
                        prop_assert_eq!(ran, read, "{:?} {}:{} {} of {:?}", kind, major, minor, access, show(&list));
                    }
                }
            }
        }

        /// No allow rule, no grant; and a deny rule at the end never grants anything.
        #[test]
        fn deny_rules_only_take_away(mut list in prop::collection::vec(any_rule(), 0..8), last in any_rule(),
                                     major in numbers(), minor in numbers(), access in accesses()) {
            let before = allows(&list, Kind::Char, major, minor, access);
            list.push(Rule { allow: false, ..last });
            prop_assert!(before || !allows(&list, Kind::Char, major, minor, access));
            let denies: Vec<Rule> = list.into_iter().map(|r| Rule { allow: false, ..r }).collect();
            prop_assert!(!allows(&denies, Kind::Char, major, minor, access));
        }
    }
}
