//! Do: the host ids that bundles name themselves.
//!
//! Blocks that are invented lie in files named after their first id; the ranges of a bundle's own maps lie beside them, in
//! a file a container. So a later container is given no block that overlaps them, and a policy can refuse a map that
//! reaches the ids of another container. Like the blocks, a claim whose container is gone is void.

use super::{Entry, flock, fnv1a, ids_dir, ids_place};
use crate::error::{Context, Result};
use crate::host::{Range, read_small};
use nix::errno::Errno;
use nix::fcntl::{FlockArg, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::path::Path;

/// A map has at most 340 lines, and there are two: user_namespaces(7).
const MOST_BYTES: u64 = 32_768;

fn name(holder: &Path) -> String {
    format!("map-{:016x}", fnv1a(&holder.to_string_lossy()))
}

/// The claim in a file: who holds it and what.
fn read(file: &str) -> Option<(String, Vec<Range>)> {
    let text = read_small(ids_place().join(file), MOST_BYTES).ok()?;
    let (holder, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let ranges = match file.parse() {
        Ok(start) => vec![Range { start, count: crate::plan::ids::BLOCK }],
        Err(_) => rest
            .lines()
            .filter_map(|l| {
                let (start, count) = l.split_once(' ')?;
                Some(Range { start: start.parse().ok()?, count: count.parse().ok()? })
            })
            .collect(),
    };
    Some((holder.to_owned(), ranges))
}

/// What containers other than this one hold: blocks, and with `maps` alone only what bundles named.
fn of_others(own: &Path, maps_alone: bool) -> Vec<Range> {
    std::fs::read_dir(ids_place())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|file| file.starts_with("map-") || (!maps_alone && file.parse::<u32>().is_ok()))
        .filter_map(|file| read(&file))
        .filter(|(holder, _)| Path::new(holder) != own && Path::new(holder).exists())
        .flat_map(|(_, ranges)| ranges)
        .collect()
}

/// The ranges that bundles of other containers named. The lock is the caller's.
pub(super) fn named(own: &Path) -> Vec<Range> {
    of_others(own, true)
}

/// The first ids of all blocks that were given, those of containers that are gone, too.
pub(super) fn starts() -> Vec<u32> {
    let files = std::fs::read_dir(ids_place()).into_iter().flatten().flatten();
    files.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// Whether a block of another container reaches into this one without being it: /etc/subuid has two lines that overlap,
/// or said something else when that one was given.
pub(super) fn crossed(own: &Path, starts: &[u32], block: &Range) -> bool {
    neighbours(starts, block)
        .filter_map(|start| read(&start.to_string()))
        .any(|(holder, _)| Path::new(&holder) != own && Path::new(&holder).exists())
}

fn neighbours(starts: &[u32], block: &Range) -> impl Iterator<Item = u32> {
    starts.iter().copied().filter(|start| *start != block.start && start.abs_diff(block.start) < block.count)
}

/// Which ranges of others overlap these, without a claim: for `explain`.
pub fn overlaps(own: &Path, wanted: &[Range]) -> Vec<Range> {
    let mut held = of_others(own, false);
    held.retain(|h| wanted.iter().any(|w| w.overlaps(h)));
    held
}

/// Claims the ranges that a bundle names; what of them others hold already is for the policy to judge.
pub fn claim(entry: &Entry, wanted: &[Range]) -> Result<Vec<Range>> {
    let dir = ids_dir()?;
    flock(&dir, FlockArg::LockExclusive).at("ids", ids_place().display().to_string())?;
    let held = overlaps(&entry.dir, wanted);
    let mut text = entry.dir.display().to_string();
    for range in wanted {
        text.push_str(&format!("\n{} {}", range.start, range.count));
    }
    let name = name(&entry.dir);
    let flags = OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(&dir, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR).at("ids", &name)?;
    std::io::Write::write_all(&mut std::fs::File::from(file), text.as_bytes()).at("ids", &name)?;
    Ok(held)
}

/// Gives back what the container claimed, if anything.
pub(super) fn release(holder: &Path) {
    let name = name(holder);
    if read(&name).is_none_or(|(by, _)| Path::new(&by) != holder) {
        return;
    }
    if let Ok(dir) = ids_dir() {
        match unlinkat(&dir, name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(e) => crate::log::debug(&format!("ids: {name}: {e}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ids::BLOCK;

    #[test]
    fn a_block_is_crossed_by_those_that_begin_within_its_length() {
        let block = Range { start: 200_000, count: BLOCK };
        let starts = [134_464, 134_465, 199_999, 200_000, 200_001, 265_535, 265_536];
        let crossing: Vec<u32> = neighbours(&starts, &block).collect();
        assert_eq!(crossing, [134_465, 199_999, 200_001, 265_535]);
        for start in starts {
            let other = Range { start, count: BLOCK };
            assert_eq!(other.overlaps(&block), start == block.start || crossing.contains(&start), "{start}");
        }
    }
}
