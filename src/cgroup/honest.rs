//! Do: writes limits and says what became of them.
//!
//! A limit that was written is not yet a limit that holds: the kernel rounds and clips, and what an ancestor allows is
//! all that there is. Both are read back, and every difference is a finding.

use super::Group;
use crate::error::Result;
use crate::host::read_small;
use crate::policy::Finding;
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::path::Path;

fn finding(file: &str, asked: &str, given: String, why: String) -> Finding {
    Finding { rule: "host".into(), field: file.into(), asked: asked.into(), given, why }
}

/// Writes one limit. What comes back is what differs from it.
pub fn set(group: &Group, mount: &Path, file: &str, value: &str) -> Result<Vec<Finding>> {
    let kept = group.set(file, value)?;
    let mut found = Vec::new();
    if !is_kept(value, &kept) {
        found.push(finding(file, value, kept.clone(), "what the kernel made of it".into()));
    }
    found.extend(above(mount, &group.path, file, &kept));
    // The kernel keeps the list as a wish and takes what the ancestors have of it.
    if let "cpuset.cpus" | "cpuset.mems" = file {
        let effective = group.get(&format!("{file}.effective")).unwrap_or_default();
        if !effective.trim().is_empty() && numbers(&effective) != numbers(&kept) {
            found.push(finding(
                file,
                value,
                effective.trim().to_owned(),
                "an ancestor, or the machine, has no more".into(),
            ));
        }
    }
    Ok(found)
}

/// Writes a weight of block I/O. There is a file for each scheduler that takes weights, io.cost and BFQ, whichever the
/// kernel has: both are told, because each disk has its own scheduler. At least one must take it.
pub fn set_io_weight(group: &Group, weight: &str, bfq: &str) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let mut taken = false;
    let mut last = None;
    for (file, value) in [("io.bfq.weight", bfq), ("io.weight", weight)] {
        match group.set(file, value) {
            Ok(kept) => {
                taken = true;
                if !is_kept(value, &kept) {
                    found.push(finding(file, value, kept, "what the kernel made of it".into()));
                }
            }
            // No such scheduler in this kernel, or not on this disk.
            Err(e) if matches!(e.errno(), Some(Errno::ENOENT | Errno::EOPNOTSUPP)) => last = Some(e),
            Err(e) => return Err(e),
        }
    }
    match last.filter(|_| !taken) {
        Some(e) => Err(e.hint("weights need the io controller and a disk under BFQ (modprobe bfq) or io.cost")),
        None => Ok(found),
    }
}

/// The lowest limit of an ancestor below ours.
fn above(mount: &Path, path: &str, file: &str, ours: &str) -> Option<Finding> {
    if !matches!(file, "memory.max" | "memory.swap.max" | "pids.max" | "cpu.max") {
        return None;
    }
    let mut lowest = (amount(ours)?, String::new(), String::new());
    let mut path = path;
    while let Some((parent, _)) = path.rsplit_once('/') {
        path = parent;
        // The root of the hierarchy has no limits; one that we may not read says nothing.
        let Ok(text) = read_small(mount.join(parent.trim_start_matches('/')).join(file), 4096) else { continue };
        if let Some(n) = amount(&text).filter(|n| *n < lowest.0) {
            lowest = (n, text.trim().to_owned(), parent.to_owned());
        }
    }
    let (_, given, by) = lowest;
    (!by.is_empty()).then(|| finding(file, ours, given, format!("{by} has less, for all that is in it together")))
}

/// A limit as a number that can be compared: of bytes, of processes, of CPUs.
fn amount(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let first = match words.next()? {
        "max" => return Some(f64::INFINITY),
        word => word.parse::<f64>().ok()?,
    };
    match words.next() {
        Some(period) => Some(first / period.parse::<f64>().ok()?),
        None => Some(first),
    }
}

/// `0-3,7` as a set.
fn numbers(list: &str) -> BTreeSet<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        (last < 65_536).then_some(first..=last)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

/// Whether what a file shows after a write is what was written: a line of it has all our words. The kernel rounds
/// memory down to pages, and shows no line for a device without a throttle.
pub fn is_kept(asked: &str, kept: &str) -> bool {
    let same = |asked: &str, kept: &str| match (asked.parse::<u64>(), kept.parse::<u64>()) {
        (Ok(a), Ok(k)) => k <= a && a - k < 65_536 && (a == k || k % 4096 == 0),
        _ => asked == kept || asked.ends_with("=max"),
    };
    let words: Vec<&str> = asked.split_whitespace().collect();
    words.iter().skip(1).all(|w| w.ends_with("=max")) && words.len() > 1
        || kept.lines().any(|line| words.iter().all(|w| line.split_whitespace().any(|k| same(w, k))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_when_the_file_says_so() {
        for (asked, kept) in [
            ("512", "512"),
            ("max", "max"),
            ("1000000", "999424"),
            ("50000", "50000 100000"),
            ("default 100", "default 100\n8:0 5"),
            ("8:0 rbps=1048576", "8:0 rbps=1048576 wbps=max riops=max wiops=max"),
            ("8:0 wiops=max", ""),
        ] {
            assert!(is_kept(asked, kept), "{asked} -> {kept}");
        }
        for (asked, kept) in
            [("512", "511"), ("0-3", "0-1"), ("1000", "max"), ("8:0 rbps=2", "8:16 rbps=2"), ("100", "")]
        {
            assert!(!is_kept(asked, kept), "{asked} -> {kept}");
        }
    }

    #[test]
    fn limits_are_compared_by_what_they_allow() {
        assert_eq!(amount("50000 100000"), Some(0.5));
        assert_eq!(amount("max 100000"), Some(f64::INFINITY));
        assert_eq!(amount("4096\n"), Some(4096.0));
        assert_eq!(amount(""), None);
        assert_eq!(numbers("0-2,5"), numbers("0,1,2,5"));
        assert_ne!(numbers("0-2"), numbers("0-1"));
    }

    #[test]
    fn the_lowest_ancestor_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        for (at, value) in [("a", "100"), ("a/b", "50"), ("a/b/c", "70")] {
            std::fs::write(dir.path().join(at).join("pids.max"), value).unwrap();
        }
        let f = above(dir.path(), "/a/b/c", "pids.max", "70").unwrap();
        assert_eq!((f.asked.as_str(), f.given.as_str()), ("70", "50"));
        assert!(f.why.starts_with("/a/b has less"), "{}", f.why);
        assert!(above(dir.path(), "/a/b/c", "pids.max", "50").is_none());
        assert!(above(dir.path(), "/a/b/c", "pids.max", "max").is_some());
        assert!(above(dir.path(), "/a/b/c", "memory.low", "70").is_none());
    }
}
