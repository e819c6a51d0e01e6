//! Decide: who the container is on the host.
//!
//! The config's own maps are taken as they are, up to the policy's ceiling. Where a user namespace is new and the config
//! has no maps, they are invented: a block of 65,536 ids of the container's own for root, the subordinate ranges of an
//! ordinary user, or a single id where there are none.

use super::{Draft, IdMap, Ns};
use crate::error::{Error, Result};
use crate::namespaces::Seen;
use crate::policy::Above;
use oci_spec::runtime::LinuxIdMapping;
use std::path::PathBuf;

/// How many ids a container of root gets.
pub const BLOCK: u32 = 65_536;

/// The decision about ids.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    /// uid_map; empty without a new user namespace.
    pub uids: Vec<IdMap>,
    /// gid_map.
    pub gids: Vec<IdMap>,
    /// Whether setgroups(2) works inside.
    pub setgroups: bool,
    /// Whether newuidmap and newgidmap must write the maps.
    pub helpers: bool,
    /// Whether the policy invented the maps, so that the files of the rootfs belong to nobody inside.
    pub invented: bool,
    /// The ids inside as which the child builds the container; none: it keeps its own.
    pub builder: Option<(u32, u32)>,
}

fn outside(maps: &[IdMap], id: u32) -> Option<u32> {
    let map = maps.iter().find(|m| id >= m.inside && id - m.inside < m.count)?;
    map.outside.checked_add(id - map.inside)
}

impl Ids {
    /// The host's uid of one inside; none where it has none.
    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        if self.uids.is_empty() { Some(uid) } else { outside(&self.uids, uid) }
    }

    /// The host's gid of one inside, where a map of gids has one.
    pub fn mapped_gid(&self, gid: u32) -> Option<u32> {
        outside(&self.gids, gid)
    }

    /// Whether an id inside has an id outside.
    pub fn maps_gid(&self, gid: u32) -> bool {
        self.gids.is_empty() || inside(&self.gids, gid)
    }
}

fn inside(maps: &[IdMap], id: u32) -> bool {
    maps.iter().any(|m| id >= m.inside && id - m.inside < m.count)
}

/// The lines of a map as the config has them.
pub fn from_oci(maps: &[LinuxIdMapping]) -> Vec<IdMap> {
    maps.iter().map(|m| IdMap { inside: m.container_id(), outside: m.host_id(), count: m.size() }).collect()
}

/// Decides the maps and checks the process's ids against them.
pub fn decide(draft: &mut Draft) -> Result<Ids> {
    let spec = &draft.bundle.spec;
    let linux = spec.linux().as_ref();
    let uid_maps = linux.and_then(|l| l.uid_mappings().clone()).unwrap_or_default();
    let gid_maps = linux.and_then(|l| l.gid_mappings().clone()).unwrap_or_default();
    let (uid_maps, gid_maps) = (from_oci(&uid_maps), from_oci(&gid_maps));
    let joined = draft.ns.joined(Ns::User).map(|j| j.path.clone());
    if !draft.ns.is_own(Ns::User) {
        if !uid_maps.is_empty() || !gid_maps.is_empty() {
            return Err(Error::new("config.json", "linux.uidMappings", "maps without a new user namespace")
                .hint("add {\"type\": \"user\"} to linux.namespaces"));
        }
        // Only the caller's groups must go.
        return Ok(Ids { setgroups: true, builder: Some((0, 0)), ..Ids::default() });
    }
    let user = draft.bundle.process().user().clone();
    let mut ids = match (uid_maps.is_empty(), gid_maps.is_empty()) {
        (uids, gids) if joined.is_some() && uids == gids => {
            found(draft, joined.unwrap_or_default(), uid_maps, gid_maps)?
        }
        (true, true) => invent(draft, user.uid(), user.gid())?,
        (false, false) => given(draft, uid_maps, gid_maps)?,
        (true, false) => return Err(Error::new("config.json", "linux.uidMappings", "missing beside gidMappings")),
        (false, true) => return Err(Error::new("config.json", "linux.gidMappings", "missing beside uidMappings")),
    };
    for (field, maps, id) in [("process.user.uid", &ids.uids, user.uid()), ("process.user.gid", &ids.gids, user.gid())]
    {
        if !inside(maps, id) {
            return Err(Error::new("config.json", field, format!("{id} has no id outside: it is not in the map")));
        }
    }
    let extra = user.additional_gids().clone().unwrap_or_default();
    // Before the map is asked: with a single id the remedy is ranges, not another number.
    if !ids.setgroups {
        no_setgroups(draft, !extra.is_empty())?;
    }
    for (i, gid) in extra.iter().enumerate() {
        if !inside(&ids.gids, *gid) {
            return Err(Error::new(
                "config.json",
                format!("process.user.additionalGids[{i}]"),
                format!("{gid} has no id outside: it is not in the map"),
            ));
        }
    }
    // Root inside builds the container; where there is no root inside, the one id that there is.
    let pick = |maps: &[IdMap], own: u32| if inside(maps, 0) { 0 } else { own };
    ids.builder = Some((pick(&ids.uids, user.uid()), pick(&ids.gids, user.gid())));
    Ok(ids)
}

/// The maps of a user namespace that is joined. Where the config has some, too, they must say the same.
fn found(draft: &mut Draft, path: PathBuf, uids: Vec<IdMap>, gids: Vec<IdMap>) -> Result<Ids> {
    let field = "linux.namespaces";
    let facts = draft.host.namespaces.iter().find(|n| n.path == path).map(|n| &n.seen);
    let Some(maps) = facts.and_then(|seen| match seen {
        Seen::Namespace(facts) => facts.maps.clone(),
        Seen::Nothing(_) => None,
    }) else {
        let why = "the maps of this user namespace cannot be read";
        return Err(Error::new("config.json", field, format!("{}: {why}", path.display()))
            .hint("an ordinary user can enter only a user namespace that is its own"));
    };
    let lines = |list: &[(u32, u32, u32)]| -> Vec<IdMap> {
        list.iter()
            .map(|(inside, outside, count)| IdMap { inside: *inside, outside: *outside, count: *count })
            .collect()
    };
    let there = Ids { uids: lines(&maps.uids), gids: lines(&maps.gids), setgroups: maps.setgroups, ..Ids::default() };
    let same = |a: &[IdMap], b: &[IdMap]| a.len() == b.len() && a.iter().all(|m| b.contains(m));
    let agrees = same(&uids, &there.uids) && same(&gids, &there.gids);
    if !uids.is_empty() && !agrees {
        let why = format!("not the maps of the user namespace {}, which is joined", path.display());
        return Err(Error::new("config.json", "linux.uidMappings", why).hint("leave them out: it has its own"));
    }
    host_root(draft, &there.uids, field)?;
    host_root(draft, &there.gids, field)?;
    Ok(there)
}

/// The line of a map that has ids of the host's own users.
pub fn of_host_users(maps: &[IdMap]) -> Option<&IdMap> {
    maps.iter().find(|m| m.outside < BLOCK)
}

/// Ids of the host's own users in a map.
fn host_root(draft: &Draft, maps: &[IdMap], field: &str) -> Result<()> {
    let host = draft.host;
    // To an ordinary user the kernel grants 0 only as its own id, and then it is root, if with few capabilities.
    let root = host.privileged() || (host.uid == 0 && host.initial_userns);
    let refused = root && draft.policy.host_root_mapped != Above::Allow;
    match of_host_users(maps).filter(|_| refused) {
        None => Ok(()),
        Some(map) => Err(draft.refuse(
            field,
            &format!("host id {} as {} inside", map.outside, map.inside),
            "root or another user of the host would be an id of the container (65536 and above are free for it)",
            "hostRootMapped",
        )),
    }
}

fn given(draft: &mut Draft, uids: Vec<IdMap>, gids: Vec<IdMap>) -> Result<Ids> {
    let host = draft.host;
    host_root(draft, &uids, "linux.uidMappings")?;
    host_root(draft, &gids, "linux.gidMappings")?;
    for (field, maps) in [("linux.uidMappings", &uids), ("linux.gidMappings", &gids)] {
        let Some(map) = maps.iter().find(|m| host.ids.held.iter().any(|h| h.overlaps(&m.outside_range()))) else {
            continue;
        };
        let asked = format!("host ids {}..{}", map.outside, u64::from(map.outside) + u64::from(map.count));
        let why = "another container has some of them: each could signal and trace the other, were it to escape, and \
            owns the other's files";
        if draft.policy.held_ids == Above::Refuse {
            return Err(draft.refuse(field, &asked, why, "heldIds"));
        }
        draft.find("heldIds", field, &asked, "shared with another container", why);
    }
    let own = |maps: &[IdMap], id: u32| maps.len() == 1 && maps[0].count == 1 && maps[0].outside == id;
    let simple = own(&uids, host.uid) && own(&gids, host.gid);
    Ok(Ids {
        setgroups: host.privileged() || !simple,
        helpers: !host.privileged() && !simple,
        uids,
        gids,
        ..Ids::default()
    })
}

fn invent(draft: &mut Draft, uid: u32, gid: u32) -> Result<Ids> {
    let host = draft.host;
    let field = "linux.uidMappings";
    if host.privileged() {
        let Some(block) = host.ids.block else {
            return Err(Error::new("id maps", draft.options.id.as_str(), "no block of host ids was reserved for it"));
        };
        let map = vec![IdMap { inside: 0, outside: block.start, count: block.count }];
        let given = format!("0..{} as {}..{}", block.count, block.start, block.start + block.count);
        draft.find(
            "namespaces.silent",
            field,
            "silent",
            &given,
            "no other container and no user of the host has these ids",
        );
        return Ok(Ids { uids: map.clone(), gids: map, setgroups: true, invented: true, ..Ids::default() });
    }
    if host.uid == 0 && host.initial_userns && draft.policy.host_root_mapped != Above::Allow {
        return Err(draft.refuse(
            field,
            "silent",
            "root without CAP_SYS_ADMIN and CAP_SETUID can map no id but its own, which is root of the host",
            "hostRootMapped",
        ));
    }
    if !host.ids.sub_uids.is_empty() && !host.ids.sub_gids.is_empty() {
        let lines = |own: u32, ranges: &[crate::host::Range]| {
            let mut maps = vec![IdMap { inside: 0, outside: own, count: 1 }];
            let mut next = 1u32;
            for range in ranges {
                // 2^31 bounds every sum below; a uid map has room for no more.
                let count = range.count.min((1 << 31) - next);
                // user_namespaces(7): a map has 340 lines, and no id twice.
                let free = maps.len() < 340 && !maps.iter().any(|m| m.outside_range().overlaps(range));
                if count > 0 && free {
                    maps.push(IdMap { inside: next, outside: range.start, count });
                    next += count;
                }
            }
            maps
        };
        draft.find(
            "namespaces.silent",
            field,
            "silent",
            &format!("0 as {}, then the subordinate ids", host.uid),
            "an ordinary user's containers run as that user and its subordinate ids",
        );
        return Ok(Ids {
            uids: lines(host.uid, &host.ids.sub_uids),
            gids: lines(host.gid, &host.ids.sub_gids),
            setgroups: true,
            helpers: true,
            invented: true,
            ..Ids::default()
        });
    }
    draft.find(
        "namespaces.silent",
        field,
        "silent",
        &format!("{uid} as {}, alone", host.uid),
        "this user has no subordinate ids (or newuidmap is missing): one id is all there is",
    );
    Ok(Ids {
        uids: vec![IdMap { inside: uid, outside: host.uid, count: 1 }],
        gids: vec![IdMap { inside: gid, outside: host.gid, count: 1 }],
        invented: true,
        ..Ids::default()
    })
}

/// With a single id the kernel denies setgroups (user_namespaces(7)), so the caller's groups stay in effect.
fn no_setgroups(draft: &mut Draft, asked_groups: bool) -> Result<()> {
    let remedy = "give the user subordinate ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, and install uidmap";
    if asked_groups {
        return Err(Error::new(
            "config.json",
            "process.user.additionalGids",
            "a user namespace with a single id cannot set groups",
        )
        .hint(remedy));
    }
    let extra: Vec<String> =
        draft.host.groups.iter().filter(|g| **g != draft.host.gid).map(ToString::to_string).collect();
    if extra.is_empty() {
        return Ok(());
    }
    let groups = extra.join(" ");
    if draft.policy.caller_groups != Above::Allow {
        let mut e = draft.refuse(
            "process.user",
            &format!("the caller's groups {groups}"),
            "a user namespace with a single id keeps them in effect",
            "callerGroups",
        );
        e.hint = format!("{remedy}; {}", e.hint);
        return Err(e);
    }
    draft.find(
        "callerGroups",
        "process.user",
        "silent",
        &format!("the caller's groups {groups} stay in effect"),
        remedy,
    );
    Ok(())
}
