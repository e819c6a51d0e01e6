//! Decide: which blocks of host ids a container can get, and in what order they are tried. Pure.

use super::fnv1a;
use crate::host::Range;
use crate::plan::ids::BLOCK;

/// Where blocks lie when /etc/subuid has no line for stockade: above what useradd gives, below 2^31.
const BLOCKS: Range = Range { start: 524_288, count: 1_878_982_656 - 524_288 };

/// What /etc/subuid, /etc/subgid, passwd and group say.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The uids that are stockade's to give; none: [`BLOCKS`].
    pub uids: Vec<Range>,
    /// The gids; none: the same.
    pub gids: Vec<Range>,
    /// What others have.
    pub taken: Vec<Range>,
}

/// Blocks in the order of trying: from a place that the id's hash gives, round the whole space.
///
/// A line of /etc/subuid that reaches below 65,536 gives what is above: those are the host's own users, and root.
pub fn blocks(id: &str, facts: Facts) -> impl Iterator<Item = Range> + use<> {
    let Facts { uids, gids, taken } = facts;
    let spaces: Vec<(u64, u64)> = if uids.is_empty() { vec![BLOCKS] } else { uids }
        .iter()
        .map(|s| (u64::from(s.start.max(BLOCK)), u64::from(s.start) + u64::from(s.count)))
        .map(|(start, end)| (start, end.saturating_sub(start) / u64::from(BLOCK)))
        .collect();
    let total: u64 = spaces.iter().map(|(_, blocks)| blocks).sum();
    let first = fnv1a(id) % total.max(1);
    // The same numbers serve as uids and gids, so a block must be granted as both.
    let as_group = move |b: &Range| {
        let end = |r: &Range| u64::from(r.start) + u64::from(r.count);
        gids.is_empty() || gids.iter().any(|g| g.start <= b.start && end(b) <= end(g))
    };
    (0..total)
        .filter_map(move |i| {
            let mut n = (first + i) % total;
            for (start, blocks) in &spaces {
                if n < *blocks {
                    // The last id of all means "leave it" to setresuid(2): no block reaches it.
                    let start = u32::try_from(start + n * u64::from(BLOCK)).ok()?;
                    return start.checked_add(BLOCK).map(|_| Range { start, count: BLOCK });
                }
                n -= blocks;
            }
            None
        })
        .filter(move |b| as_group(b) && !taken.iter().any(|t| t.overlaps(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uids: &[(u32, u32)], gids: &[(u32, u32)], taken: &[(u32, u32)]) -> Vec<u32> {
        let ranges =
            |list: &[(u32, u32)]| list.iter().map(|(start, count)| Range { start: *start, count: *count }).collect();
        let facts = Facts { uids: ranges(uids), gids: ranges(gids), taken: ranges(taken) };
        let mut starts: Vec<u32> = blocks("x", facts).map(|b| b.start).collect();
        starts.sort_unstable();
        starts
    }

    #[test]
    fn only_whole_blocks_that_are_stockade_s_as_both_and_nobody_else_s() {
        assert_eq!(of(&[(100_000, 65_535)], &[], &[]), [0; 0]);
        assert_eq!(of(&[(100_000, 131_072)], &[], &[]), [100_000, 165_536]);
        assert_eq!(of(&[(100_000, 131_072)], &[(165_536, 65_536)], &[]), [165_536]);
        assert_eq!(of(&[(100_000, 131_072)], &[], &[(165_535, 1)]), [165_536]);
        // The host's own ids are none to give, whatever the file says, and the last id of all is none.
        assert_eq!(of(&[(0, 196_608)], &[], &[]), [65_536, 131_072]);
        assert_eq!(of(&[(u32::MAX - 131_071, 131_072)], &[], &[]), [u32::MAX - 131_071]);
    }
}
