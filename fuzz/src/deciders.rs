//! What must hold of the device program, the words of mount options and the id maps.
//!
//! Each has a plain reading here, written from the specification and the man pages and not from the code.

use super::checks::{host, one_line, policy};
use oci_spec::runtime::LinuxDeviceCgroup;
use serde_json::Value;
use stockade::bundle::{self, Bundle};
use stockade::cgroup::device::{self, Access, Kind};
use stockade::host::{self as facts, Range};
use stockade::plan::ids::{BLOCK, Ids};
use stockade::plan::options::{self, Asked};
use stockade::plan::{self, IdMap, Options, Step};
use stockade::state::blocks::{Facts, blocks};

// ---------------------------------------------------------------- devices

/// `linux.resources.devices` as JSON: what comes through is a program that the kernel takes and that answers as the list
/// reads.
pub fn devices(data: &[u8]) {
    let Ok(list) = serde_json::from_slice::<Vec<LinuxDeviceCgroup>>(data) else { return };
    let rules = match device::from_oci(&list) {
        Ok(rules) => rules,
        Err(e) => return one_line(&e),
    };
    let code = match device::program(&rules) {
        Ok(code) => code,
        Err(e) => return one_line(&e),
    };
    verified(&code);
    let mut majors: Vec<u32> = vec![0, 1, 5, 136, 4095];
    let mut minors: Vec<u32> = vec![0, 3, 1_048_575];
    for rule in list.iter().rev().take(24) {
        let near = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok()).map(|n| [n.saturating_sub(1), n, n + 1]);
        majors.extend(near(rule.major()).into_iter().flatten());
        minors.extend(near(rule.minor()).into_iter().flatten());
    }
    for numbers in [&mut majors, &mut minors] {
        numbers.sort_unstable();
        numbers.dedup();
    }
    // The reading looks at every rule for every question, and the fuzzer must be fast.
    let all = majors.len() * minors.len() * 16;
    let questions = (400_000 / (1 + list.len())).clamp(256, 4000);
    for n in (0..all).step_by(all / questions + 1) {
        let (bits, rest) = ((n % 8) as u32, n / 8);
        let (block, rest) = (rest % 2 == 1, rest / 2);
        let (major, minor) = (majors[rest % majors.len()], minors[rest / majors.len()]);
        let want = read(&list, block, major, minor, bits);
        let asked = format!("{} {major}:{minor}, access {bits}", if block { "b" } else { "c" });
        assert_eq!(run(&code, if block { 1 } else { 2 }, major, minor, bits), want, "the program: {asked}");
        let access = [Access::MKNOD, Access::READ, Access::WRITE]
            .into_iter()
            .enumerate()
            .filter(|(i, _)| bits & 1 << i != 0)
            .fold(Access::NONE, |set, (_, one)| set | one);
        let kind = if block { Kind::Block } else { Kind::Char };
        assert_eq!(device::allows(&rules, kind, major, minor, access), want, "the reading: {asked}");
    }
    for family in [0, 3, 0xffff] {
        assert!(!run(&code, family, 1, 3, 2), "a family that nobody knows is let through");
    }
}

/// The list as the specification reads: the last entry that speaks of a device and a letter decides, silence denies.
fn read(list: &[LinuxDeviceCgroup], block: bool, major: u32, minor: u32, bits: u32) -> bool {
    let letter = |letter: char| {
        let mut granted = false;
        for entry in list {
            let kind = entry.typ();
            let kind = kind.as_ref().map_or("a", |t| t.as_str());
            let of_kind = kind == "a" || kind == if block { "b" } else { "c" };
            let is = |wanted: Option<i64>, n: u32| matches!(wanted, None | Some(-1)) || wanted == Some(i64::from(n));
            let letters = entry.access().as_deref().filter(|a| !a.is_empty()).unwrap_or("rwm");
            if of_kind && is(entry.major(), major) && is(entry.minor(), minor) && letters.contains(letter) {
                granted = entry.allow();
            }
        }
        granted
    };
    let wanted: Vec<char> =
        [('m', 1), ('r', 2), ('w', 4)].into_iter().filter(|(_, b)| bits & b != 0).map(|x| x.0).collect();
    if wanted.is_empty() { "mrw".chars().any(letter) } else { wanted.into_iter().all(letter) }
}

/// (code, destination, source, jump, constant) of a `struct bpf_insn`.
fn parts(insn: u64) -> (u8, usize, usize, i16, u32) {
    let [code, regs, j0, j1, c0, c1, c2, c3] = insn.to_ne_bytes();
    let (low, high) = (usize::from(regs & 15), usize::from(regs >> 4));
    let (to, from) = if cfg!(target_endian = "big") { (high, low) } else { (low, high) };
    (code, to, from, i16::from_ne_bytes([j0, j1]), u32::from_ne_bytes([c0, c1, c2, c3]))
}

/// What the kernel's verifier asks (kernel/bpf/verifier.c, check_cfg and do_check), in short: jumps forward and inside,
/// nothing unreachable, no end but an exit, no register read before it is written, the context only loaded from, and 0
/// or 1 as the answer.
fn verified(code: &[u64]) {
    const CONTEXT: u16 = 1 << 1;
    assert!(code.len() < 1_000_000, "{} instructions", code.len());
    // Which registers are written on every way to an instruction; none: no way leads there.
    let mut written: Vec<Option<u16>> = vec![None; code.len() + 1];
    written[0] = Some(CONTEXT);
    for (at, insn) in code.iter().enumerate() {
        let (op, to, from, jump, constant) = parts(*insn);
        let known = written[at].unwrap_or_else(|| panic!("{at}: unreachable"));
        let is_known =
            |register: usize| assert!(known & 1 << register != 0, "{at}: register {register} is not written");
        assert!(to != 1, "{at}: the context is written to");
        let mut go = |target: usize, known: u16| {
            assert!(target < code.len(), "{at}: leaves the program");
            written[target] = Some(written[target].map_or(known, |before| before & known));
        };
        match op {
            0x61 => {
                assert!(from == 1 && matches!(jump, 0 | 4 | 8), "{at}: loads {jump} of register {from}");
                go(at + 1, known | 1 << to);
            }
            0x54 | 0x74 => {
                is_known(to);
                assert!(op == 0x54 || constant < 32, "{at}: shifts by {constant}");
                go(at + 1, known);
            }
            0xb4 => {
                assert!(to == 0 && constant < 2, "{at}: register {to} is set to {constant}");
                go(at + 1, known | 1 << to);
            }
            0x56 | 0x46 => {
                is_known(to);
                assert!(jump >= 0, "{at}: jumps back");
                go(at + 1, known);
                go(at + 1 + jump as usize, known);
            }
            0x95 => is_known(0),
            other => panic!("{at}: instruction {other:#x}"),
        }
    }
    assert!(code.last().is_some_and(|insn| parts(*insn).0 == 0x95), "the program ends without an exit");
}

/// Runs a verified program on a `struct bpf_cgroup_dev_ctx`. It ends, because jumps only go forward.
fn run(code: &[u64], family: u32, major: u32, minor: u32, access: u32) -> bool {
    let context = [access << 16 | family, major, minor];
    let (mut registers, mut at) = ([0u32; 16], 0);
    loop {
        let (op, to, _, jump, constant) = parts(code[at]);
        at += 1;
        match op {
            0x61 => registers[to] = context[jump as usize / 4],
            0x54 => registers[to] &= constant,
            0x74 => registers[to] >>= constant,
            0xb4 => registers[to] = constant,
            0x56 if registers[to] != constant => at += jump as usize,
            0x46 if registers[to] & constant != 0 => at += jump as usize,
            0x56 | 0x46 => {}
            _ => return registers[0] == 1,
        }
    }
}

// ---------------------------------------------------------------- mount options

/// The pairs of mount(8), and their bits in mount_setattr(2).
const PAIRS: [(&str, &str, u64); 6] = [
    ("ro", "rw", 0x1),
    ("nosuid", "suid", 0x2),
    ("nodev", "dev", 0x4),
    ("noexec", "exec", 0x8),
    ("nodiratime", "diratime", 0x80),
    ("nosymfollow", "symfollow", 0x20_0000),
];
/// The modes of access times; the kernel's default, relatime, is 0.
const TIMES: [(&str, u64); 5] =
    [("noatime", 0x10), ("strictatime", 0x20), ("relatime", 0), ("atime", 0), ("nostrictatime", 0)];
const SHARING: [(&str, u64); 4] =
    [("unbindable", 1 << 17), ("private", 1 << 18), ("slave", 1 << 19), ("shared", 1 << 20)];
/// What the file system itself switches, and the word that takes it back.
const SUPERBLOCK: [(&str, &str); 4] =
    [("sync", "async"), ("dirsync", ""), ("lazytime", "nolazytime"), ("mand", "nomand")];
/// What says how the mount is made.
const MAKING: [&str; 6] = ["bind", "rbind", "idmap", "ridmap", "tmpcopyup", "remount"];
/// What changes nothing.
const IDLE: [&str; 7] = ["iversion", "noiversion", "silent", "loud", "defaults", "norelatime", "rnorelatime"];
const REFUSED: [&str; 1] = ["move"];

/// The options of a mount, one a line.
pub fn options(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let asked = match Asked::read(0, &words) {
        Ok(asked) => asked,
        Err(e) => {
            one_line(&e);
            let at = words.iter().position(|w| REFUSED.contains(&w.as_str()));
            let at = at.unwrap_or_else(|| panic!("refused for nothing: {e}"));
            return assert!(e.to_string().contains(&format!("mounts[0].options[{at}]")), "{e}");
        }
    };
    assert!(!words.iter().any(|w| REFUSED.contains(&w.as_str())), "a word for a change is let through");
    // The last of the words that speak of something counts.
    let last = |known: &dyn Fn(&str) -> bool| words.iter().rposition(|w| known(w));
    let (set, clear) = asked.attr.top();
    for (on, off, bit) in PAIRS {
        let (below_on, below_off) = (format!("r{on}"), format!("r{off}"));
        let plain = last(&|w| w == on || w == off).map(|at| words[at] == on);
        let below = last(&|w| w == below_on || w == below_off).map(|at| words[at] == below_on);
        let want = |is: bool, state: Option<bool>| state == Some(is);
        let top = below.or(plain);
        assert_eq!((set & bit != 0, clear & bit != 0), (want(true, top), want(false, top)), "{on}: {words:?}");
        let seen = (asked.attr.set_below & bit != 0, asked.attr.clear_below & bit != 0);
        assert_eq!(seen, (want(true, below), want(false, below)), "r{on}: {words:?}");
    }
    let time = |word: &str| TIMES.iter().find(|(w, _)| *w == word).map(|(_, mode)| *mode);
    let plain = words.iter().filter_map(|w| time(w)).next_back();
    let below = words.iter().filter_map(|w| w.strip_prefix('r').and_then(time)).next_back();
    assert_eq!(set & 0x70, below.or(plain).unwrap_or(0), "access times: {words:?}");
    // mount_setattr(2): to change the mode, the whole mask is cleared.
    assert_eq!(clear & 0x70, if below.or(plain).is_some() { 0x70 } else { 0 }, "access times: {words:?}");
    assert_eq!(asked.attr.set_below & 0x70, below.unwrap_or(0), "access times below: {words:?}");
    assert_eq!((set | clear) & !(0x70 | PAIRS.iter().map(|p| p.2).sum::<u64>()), 0, "an unknown flag");

    let sharing = |word: &str| SHARING.iter().find(|(w, _)| *w == word).map(|(_, flag)| *flag);
    let spoken = |w: &str| sharing(w).map(|f| (f, false)).or_else(|| Some((sharing(w.strip_prefix('r')?)?, true)));
    let at = last(&|w| spoken(w).is_some());
    assert_eq!(
        (asked.attr.propagation, asked.attr.propagation_below),
        at.and_then(|at| spoken(&words[at])).unwrap_or_default()
    );
    let connected = at.filter(|at| asked.attr.propagation >= 1 << 19 && *at < words.len());
    assert_eq!(asked.connected, connected.map(|at| (at, words[at].clone())), "{words:?}");

    let has = |word: &str| words.iter().any(|w| w == word);
    assert_eq!(asked.bind, has("bind") || has("rbind"));
    assert_eq!(asked.recursive, has("rbind"));
    assert_eq!((asked.idmap, asked.idmap_below), (has("idmap") || has("ridmap"), has("ridmap")));
    assert_eq!(asked.copy_up, has("tmpcopyup"));
    assert_eq!(asked.remount, has("remount"));

    // What is none of these is the file system's, whole and in its order; nothing is dropped but what is taken back.
    let ours = |w: &str| {
        let pair = |w: &str| PAIRS.iter().any(|(on, off, _)| w == *on || w == *off);
        let plain = |w: &str| pair(w) || time(w).is_some() || sharing(w).is_some();
        w.is_empty()
            || plain(w)
            || w.strip_prefix('r').is_some_and(plain)
            || MAKING.contains(&w)
            || IDLE.contains(&w)
            || SUPERBLOCK.iter().any(|(_, off)| !off.is_empty() && w == *off)
    };
    let taken_back = |at: usize, w: &str| {
        let key = w.strip_suffix('=').unwrap_or(w);
        SUPERBLOCK.iter().any(|(on, off)| key == *on && !off.is_empty() && words[at..].iter().any(|later| later == off))
    };
    let rest: Vec<(String, String)> = words
        .iter()
        .enumerate()
        .filter(|(at, w)| !ours(w) && !taken_back(*at, w))
        .map(|(_, w)| w.split_once('=').map_or((w.clone(), String::new()), |(k, v)| (k.to_owned(), v.to_owned())))
        .collect();
    assert_eq!(asked.data, rest, "{words:?}");
    assert!(options::all().iter().all(|w| ours(w) || SUPERBLOCK.iter().any(|(on, _)| w == on)), "a word of nobody");

    // Said twice is said once.
    let twice = Asked::read(0, &[words.clone(), words.clone()].concat()).expect("the same words");
    assert_eq!((twice.attr, twice.bind, twice.recursive), (asked.attr, asked.bind, asked.recursive));
    // As explain says it, it reads the same again.
    let said = asked.attr.words();
    if !said.is_empty() {
        let again = Asked::read(0, &said.split(',').map(str::to_owned).collect::<Vec<_>>()).expect("our own words");
        assert_eq!(again.attr.top(), asked.attr.top(), "{said}: {words:?}");
    }
}

// ---------------------------------------------------------------- id maps

/// The host's files and a config, as JSON: `{choice, subuid, subgid, config}`.
pub fn maps(data: &[u8]) {
    let Ok(input) = serde_json::from_slice::<Value>(data) else { return };
    let text = |key: &str| input.get(key).and_then(Value::as_str).unwrap_or_default();
    let of = |key: &str, owner: &str| facts::ranges_in(text(key), |o| o == owner);
    let choice = input.get("choice").and_then(Value::as_u64).unwrap_or_default() as u8;
    for range in of("subuid", "user") {
        assert!(range.count > 0 && end(range) <= 1 << 32, "a range that wraps: {range:?}");
    }

    let found = Facts { uids: of("subuid", "stockade"), gids: of("subgid", "stockade"), taken: of("subuid", "other") };
    let given: Vec<Range> = blocks("box", found.clone()).take(40).collect();
    for block in &given {
        assert!(block.count == BLOCK && block.start >= BLOCK && end(*block) < 1 << 32, "a block: {block:?}");
        let granted = |ranges: &[Range]| {
            ranges.is_empty() || ranges.iter().any(|r| r.start <= block.start && end(*block) <= end(*r))
        };
        assert!(granted(&found.uids) && granted(&found.gids), "a block that is not stockade's: {block:?}");
        assert!(!found.taken.iter().any(|t| t.overlaps(block)), "a block of somebody else: {block:?}");
    }

    let mut host = host(choice);
    if host.privileged() {
        host.ids.block = given.first().copied();
        host.ids.held = of("subuid", "held");
    } else {
        (host.ids.sub_uids, host.ids.sub_gids) = (of("subuid", "user"), of("subgid", "user"));
    }
    let config = input.get("config").cloned().unwrap_or_default();
    let Ok((spec, unknown)) = bundle::parse(config.to_string().as_bytes()) else { return };
    let asked = |gids: bool| -> Vec<IdMap> {
        let linux = spec.linux().as_ref();
        let maps = linux.and_then(|l| if gids { l.gid_mappings().clone() } else { l.uid_mappings().clone() });
        let line = |m: &oci_spec::runtime::LinuxIdMapping| IdMap {
            inside: m.container_id(),
            outside: m.host_id(),
            count: m.size(),
        };
        maps.iter().flatten().map(line).collect()
    };
    let wishes = [asked(false), asked(true)];
    let strict = choice & 128 == 0;
    let bundle = Bundle { dir: "/bundle".into(), rootfs: "/bundle/rootfs".into(), spec, unknown };
    let plan = match plan::plan(
        &bundle,
        policy(if strict { "strict" } else { "oci" }),
        &host,
        &Options { id: "box".into(), ..Options::default() },
    ) {
        Ok(plan) => plan,
        Err(e) => return one_line(&e),
    };
    if strict {
        assert!(!plan.uid_map.is_empty() && !plan.gid_map.is_empty(), "no map under strict");
    }
    assert_eq!(plan.uid_map.is_empty(), plan.gid_map.is_empty(), "one map without the other");
    for ((maps, wish), (own, ranges)) in [&plan.uid_map, &plan.gid_map]
        .into_iter()
        .zip(&wishes)
        .zip([(host.uid, &host.ids.sub_uids), (host.gid, &host.ids.sub_gids)])
    {
        sane(maps);
        if !wish.is_empty() {
            assert_eq!(maps, wish, "not the maps that the config has");
        } else if host.privileged() {
            let block = |m: &IdMap| Some(Range { start: m.outside, count: m.count }) == host.ids.block && m.inside == 0;
            assert!(maps.iter().all(block), "ids that were not reserved: {maps:?}");
        } else {
            let theirs = |m: &IdMap| {
                (m.outside == own && m.count == 1)
                    || ranges.iter().any(|r| r.start <= m.outside && end(m.outside_range()) <= end(*r))
            };
            assert!(maps.iter().all(theirs), "ids of somebody else: {maps:?}");
        }
        if strict && host.privileged() {
            assert!(maps.iter().all(|m| m.outside >= BLOCK), "an id of the host's own users: {maps:?}");
            assert!(
                !maps.iter().any(|m| host.ids.held.iter().any(|h| h.overlaps(&m.outside_range()))),
                "ids of another"
            );
        }
    }
    if plan.uid_map.is_empty() {
        return;
    }
    let reach = |maps: &[IdMap], id: u32| {
        maps.iter().any(|m| m.inside <= id && u64::from(id) < u64::from(m.inside) + u64::from(m.count))
    };
    for step in &plan.steps {
        if let Step::Ids { uid, gid, groups, .. } = step {
            assert!(reach(&plan.uid_map, *uid) && reach(&plan.gid_map, *gid), "{uid}:{gid} is nobody outside");
            assert!(groups.iter().all(|g| reach(&plan.gid_map, *g)), "a group that is nobody's outside");
        }
    }
    let ids = Ids { uids: plan.uid_map.clone(), gids: plan.gid_map.clone(), ..Ids::default() };
    let near = |n: u32| [n.saturating_sub(1), n, n.saturating_add(1)];
    let edges = ids.uids.iter().flat_map(|m| [near(m.inside), near(m.inside.saturating_add(m.count))].concat());
    for id in edges.chain([0, 65_534, u32::MAX]).collect::<Vec<_>>() {
        let line = ids
            .uids
            .iter()
            .find(|m| u64::from(m.inside) <= u64::from(id) && u64::from(id) < u64::from(m.inside) + u64::from(m.count));
        assert_eq!(ids.host_uid(id), line.map(|m| m.outside + (id - m.inside)), "uid {id} of {:?}", ids.uids);
        assert_eq!(ids.maps_gid(id), reach(&ids.gids, id), "gid {id} of {:?}", ids.gids);
    }
}

fn end(range: Range) -> u64 {
    u64::from(range.start) + u64::from(range.count)
}

/// What user_namespaces(7) asks of a map: at most 340 lines, no empty one, none that wraps, no id twice on either side.
fn sane(maps: &[IdMap]) {
    assert!(maps.len() <= 340, "{} lines", maps.len());
    for (i, a) in maps.iter().enumerate() {
        let inside = |m: &IdMap| Range { start: m.inside, count: m.count };
        assert!(a.count > 0 && end(inside(a)) <= 1 << 32 && end(a.outside_range()) <= 1 << 32, "{a:?}");
        for b in &maps[..i] {
            assert!(!inside(a).overlaps(&inside(b)) && !a.outside_range().overlaps(&b.outside_range()), "{a:?} {b:?}");
        }
    }
}
