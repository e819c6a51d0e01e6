//! How the fuzz targets change their inputs; what they check is in `checks`.
//!
//! A byte-wise mutation of JSON is nearly always broken JSON, which says nothing about what comes after the parser. So
//! half of the mutations are made on the parsed value: a leaf becomes an awkward one, an element is doubled or dropped,
//! a part of the document moves elsewhere. The other half are libFuzzer's own.

mod audits;
mod checks;
mod deciders;
mod readers;

pub use audits::audited;
pub use checks::{compiled, one_line, parsed, planned};
pub use deciders::{devices, maps, options};
pub use readers::{accounts, records};
use serde_json::{Value, json};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }
}

/// Mutates the JSON that begins at `skip`; what is no JSON, and every second time, is left to libFuzzer.
pub fn mutate(data: &mut [u8], skip: usize, size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice(u64::from(seed) << 1 | 1);
    dice.roll(2);
    let value = data.get(skip..size).and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    let Some(mut value) = value.filter(|_| dice.roll(2) == 0) else {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    };
    if skip > 0 && dice.roll(4) == 0 {
        data[0] = dice.roll(256) as u8;
    }
    for _ in 0..=dice.roll(3) {
        change(&mut value, &mut dice);
    }
    let text = value.to_string().into_bytes();
    if skip + text.len() > max_size {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    data[skip..skip + text.len()].copy_from_slice(&text);
    skip + text.len()
}

/// Mutates one of the JSON documents between which NULs stand.
pub fn mutate_one(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice(u64::from(seed) << 1 | 1);
    dice.roll(2);
    let mut parts: Vec<Vec<u8>> = data[..size].split(|b| *b == 0).map(<[u8]>::to_vec).collect();
    let at = dice.roll(parts.len());
    let Some(mut value) = serde_json::from_slice::<Value>(&parts[at]).ok().filter(|_| dice.roll(3) > 0) else {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    };
    for _ in 0..=dice.roll(3) {
        change(&mut value, &mut dice);
    }
    parts[at] = value.to_string().into_bytes();
    let bytes = parts.join(&0);
    if bytes.len() > max_size {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    data[..bytes.len()].copy_from_slice(&bytes);
    bytes.len()
}

/// Mutates a text of records: one is dropped, doubled or moved, gets a word of these in front or after, or is replaced by
/// one; every third time is libFuzzer's.
pub fn mutate_records(data: &mut [u8], size: usize, max_size: usize, seed: u32, between: u8, words: &[&str]) -> usize {
    let mut dice = Dice(u64::from(seed) << 1 | 1);
    dice.roll(2);
    let mut records: Vec<Vec<u8>> = data[..size].split(|b| *b == between).map(<[u8]>::to_vec).collect();
    for _ in 0..=dice.roll(3) {
        let (at, word) = (dice.roll(records.len()), words[dice.roll(words.len())].as_bytes());
        match dice.roll(6) {
            0 if records.len() > 1 => drop(records.remove(at)),
            1 => {
                let one = records[at].clone();
                records.insert(dice.roll(records.len() + 1), one);
            }
            2 => records.insert(dice.roll(records.len() + 1), word.to_vec()),
            3 => records[at] = word.to_vec(),
            4 => records[at].splice(0..0, word.iter().copied()).for_each(drop),
            _ => records[at].extend(word),
        }
    }
    let bytes = records.join(&between);
    if dice.roll(3) == 0 || bytes.len() > max_size {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    data[..bytes.len()].copy_from_slice(&bytes);
    bytes.len()
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

/// The n-th value in the document, counted from the top.
fn nth<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|v| nth(v, n)),
        Value::Object(map) => map.values_mut().find_map(|v| nth(v, n)),
        _ => None,
    }
}

fn change(root: &mut Value, dice: &mut Dice) {
    let total = count(root);
    let donor = nth(root, &mut dice.roll(total)).cloned().unwrap_or(Value::Null);
    let Some(place) = nth(root, &mut dice.roll(total)) else { return };
    match (place, dice.roll(4)) {
        (Value::Array(items), 0) if !items.is_empty() => {
            let one = items[dice.roll(items.len())].clone();
            items.insert(dice.roll(items.len() + 1), one);
        }
        (Value::Array(items), 1) if !items.is_empty() => {
            items.remove(dice.roll(items.len()));
        }
        (Value::Array(items), 2) => items.push(donor),
        (Value::Object(map), 0) if !map.is_empty() => {
            let key = map.keys().nth(dice.roll(map.len())).cloned().unwrap_or_default();
            map.remove(&key);
        }
        (Value::Object(map), 1) => {
            map.insert(KEYS[dice.roll(KEYS.len())].into(), leaf(dice));
        }
        (Value::Object(map), 2) => {
            map.insert(KEYS[dice.roll(KEYS.len())].into(), donor);
        }
        (Value::Array(_) | Value::Object(_), _) => {}
        (place, 0) => *place = donor,
        (place, _) => *place = leaf(dice),
    }
}

const KEYS: [&str; 51] = [
    "allow",
    "major",
    "minor",
    "access",
    "uid",
    "gid",
    "additionalGids",
    "containerID",
    "hostID",
    "size",
    "choice",
    "process",
    "root",
    "hostname",
    "domainname",
    "mounts",
    "hooks",
    "linux",
    "annotations",
    "namespaces",
    "uidMappings",
    "gidMappings",
    "devices",
    "sysctl",
    "resources",
    "cgroupsPath",
    "rootfsPropagation",
    "seccomp",
    "maskedPaths",
    "readonlyPaths",
    "capabilities",
    "noNewPrivileges",
    "rlimits",
    "terminal",
    "consoleSize",
    "oomScoreAdj",
    "user",
    "readonly",
    "path",
    "type",
    "options",
    "source",
    "args",
    "errnoRet",
    "defaultErrnoRet",
    "architectures",
    "flags",
    "memory",
    "cpu",
    "unified",
    "moon",
];

fn leaf(dice: &mut Dice) -> Value {
    const WORDS: [&str; 64] = [
        "a",
        "b",
        "c",
        "rwm",
        "rm",
        "stockade:65536:131072\nuser:100000:65536\nheld:200000:65536\nother:70000:1",
        "",
        "/",
        "..",
        "/..",
        "/proc",
        "/proc/self/fd",
        "/dev",
        "/dev/pts",
        "/sys",
        "/tmp",
        "/a/../b",
        "a\nb",
        "bind",
        "rbind",
        "ro",
        "rro",
        "idmap",
        "rshared",
        "slave",
        "gid=5",
        "uid=4294967295",
        "size=1",
        "tmpfs",
        "proc",
        "sysfs",
        "devpts",
        "cgroup",
        "mqueue",
        "overlay",
        "user",
        "pid",
        "network",
        "mount",
        "time",
        "CAP_SYS_ADMIN",
        "CAP_KILL",
        "RLIMIT_NOFILE",
        "net.ipv4.ping_group_range",
        "net.core.somaxconn",
        "0 2147483647",
        "max",
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_NOTIFY",
        "SCMP_CMP_MASKED_EQ",
        "SCMP_CMP_NE",
        "SCMP_CMP_GE",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X32",
        "execve",
        "socketcall",
        "clone",
        "\u{1b}[2J",
        "prctl",
        "write",
        "PATH=/bin",
    ];
    const NUMBERS: [u64; 16] =
        [0, 1, 2, 5, 6, 63, 64, 1000, 4095, 4096, 65_535, 65_536, i32::MAX as u64, u32::MAX as u64, 1 << 32, u64::MAX];
    match dice.roll(8) {
        0 => json!(dice.roll(2) == 0),
        1 => Value::Null,
        2 => json!(-(NUMBERS[dice.roll(13)] as i64)),
        3 | 4 => json!(NUMBERS[dice.roll(NUMBERS.len())]),
        _ => json!(WORDS[dice.roll(WORDS.len())]),
    }
}
