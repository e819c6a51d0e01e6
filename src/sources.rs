//! Read: what the paths of the host lead to that a bundle binds.
//!
//! A policy speaks of places, and a bundle names them through links, or by a directory above. Where a source leads to,
//! and whether the socket of a daemon lies at or below it, is asked of the file system here, so that the planner can
//! decide. No tree is walked: the places where daemons put their sockets are known, and are compared with the source.

use crate::bundle::Bundle;
use crate::mountinfo::{self, Mount};
use serde::Serialize;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where daemons that are root on the host listen, by their own defaults. Who may talk to one has the host.
pub const SOCKETS: [&str; 18] = [
    "/run/buildkit/buildkitd.sock",
    "/run/containerd/containerd.sock",
    "/run/containerd/containerd.sock.ttrpc",
    "/run/containerd/s",
    "/run/cri-dockerd.sock",
    "/run/crio/crio.sock",
    "/run/dbus/system_bus_socket",
    "/run/docker.sock",
    "/run/docker/containerd/containerd.sock",
    "/run/docker/plugins",
    "/run/dockershim.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/libpod",
    "/run/nri/nri.sock",
    "/run/podman/podman.sock",
    "/run/systemd/private",
    "/var/run/docker.sock",
    "/var/lib/docker/containerd/containerd.sock",
];

/// The same below /run/user/UID: a daemon of an ordinary user is that user.
const OF_USERS: [&str; 6] = [
    "buildkit/buildkitd.sock",
    "bus",
    "docker.sock",
    "docker/containerd/containerd.sock",
    "podman/podman.sock",
    "systemd/private",
];

/// What such a socket is called where an operator moved it.
const NAMES: [&str; 9] = [
    "buildkitd.sock",
    "containerd.sock",
    "containerd.sock.ttrpc",
    "cri-dockerd.sock",
    "crio.sock",
    "docker.sock",
    "dockershim.sock",
    "podman.sock",
    "system_bus_socket",
];

/// More users than this have no session here at once.
const MAX_USERS: usize = 4096;

/// A source on the host.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The path, absolute, as the bundle has it.
    pub path: PathBuf,
    /// Where it leads to.
    pub real: PathBuf,
    /// Whether a raw disk is there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub block: bool,
    /// Whether 9p serves it. statfs(2) does not tell: there it answers what the server's file system is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nine_p: bool,
    /// The socket of a daemon that can be reached there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

/// Looks at every path of the host that the bundle binds, at its rootfs, and at the directory that an overlay writes to.
///
/// `sockets`: whether anybody asks which daemons can be reached there; a policy that allows them all does not.
pub fn look(bundle: &Bundle, sockets: bool) -> Vec<Source> {
    let mut paths = Vec::new();
    for mount in bundle.spec.mounts().iter().flatten() {
        let options = mount.options().as_deref().unwrap_or_default();
        let bind = mount.typ().as_deref() == Some("bind") || options.iter().any(|o| o == "bind" || o == "rbind");
        paths.extend(mount.source().iter().filter(|_| bind).map(|source| bundle.dir.join(source)));
        paths.extend(options.iter().filter_map(|o| Some(bundle.dir.join(o.strip_prefix("upperdir=")?))));
    }
    // The rootfs is canonical since it was read.
    look_for(&bundle.dir, vec![(bundle.rootfs.clone(), bundle.rootfs.clone())], paths, sockets)
}

/// Looks at paths; what lies in `dir` is the bundle's own.
pub fn look_at(dir: &Path, paths: Vec<PathBuf>) -> Vec<Source> {
    look_for(dir, Vec::new(), paths, true)
}

/// `found`: paths with where they lead to.
fn look_for(dir: &Path, mut found: Vec<(PathBuf, PathBuf)>, paths: Vec<PathBuf>, sockets: bool) -> Vec<Source> {
    for path in paths {
        // One that is not there is an error of the step that needs it.
        if let Ok(real) = path.canonicalize()
            && !found.iter().any(|(p, _)| *p == path)
        {
            found.push((path, real));
        }
    }
    // What lies in the bundle is nobody's daemon: then nothing of the host needs to be looked at.
    let outside = sockets && found.iter().any(|(_, real)| !real.starts_with(dir));
    let known = if outside { known() } else { Vec::new() };
    let inside = |real: &Path| real != dir && real.starts_with(dir);
    let mut mounts = None;
    let source = |(path, real): (PathBuf, PathBuf)| {
        let there = std::fs::metadata(&real).ok();
        let block = there.as_ref().is_some_and(|m| m.file_type().is_block_device());
        let id = there.as_ref().filter(|m| m.file_type().is_socket()).map(|m| (m.dev(), m.ino()));
        let socket = if !sockets || inside(&real) { None } else { socket(&real, id, &known) };
        let nine_p = there.is_some_and(|m| nine_p(m.dev(), &mut mounts));
        Source { path, real, block, nine_p, socket }
    };
    found.into_iter().map(source).collect()
}

/// Whether a device number is that of a 9p mount. `mounts` is read when the first source asks that is on no disk.
fn nine_p(dev: u64, mounts: &mut Option<Vec<Mount>>) -> bool {
    let (major, minor) = (nix::sys::stat::major(dev), nix::sys::stat::minor(dev));
    // What cannot be read names none: then the rules of Landlock deny too much there, not too little.
    let mut read = || mountinfo::of("self").unwrap_or_default();
    let device = format!("{major}:{minor}");
    major == 0 && mounts.get_or_insert_with(&mut read).iter().any(|m| m.device == device && m.fstype == "9p")
}

/// A socket, by the path without links and by its file.
type Known = (PathBuf, (u64, u64));

/// The sockets of daemons that are there.
fn known() -> Vec<Known> {
    // Few of them are there: one look at /run tells which cannot be.
    let run: Option<HashSet<OsString>> =
        std::fs::read_dir("/run").ok().map(|list| list.flatten().map(|entry| entry.file_name()).collect());
    let may_be = |path: &str| match (path.strip_prefix("/run/"), &run) {
        (Some(rest), Some(run)) => run.contains(OsStr::new(rest.split('/').next().unwrap_or_default())),
        _ => true,
    };
    let mut paths: Vec<PathBuf> = SOCKETS.iter().filter(|path| may_be(path)).map(PathBuf::from).collect();
    let users = may_be("/run/user").then(|| std::fs::read_dir("/run/user").ok()).flatten();
    for user in users.into_iter().flatten().flatten().take(MAX_USERS) {
        paths.extend(OF_USERS.iter().map(|name| user.path().join(name)));
    }
    let there = |path: PathBuf| {
        let file = std::fs::metadata(&path).ok()?;
        let real = path.canonicalize().ok()?;
        Some((real, (file.dev(), file.ino())))
    };
    paths.into_iter().filter_map(there).collect()
}

/// The socket that whoever has `real` can talk to.
fn socket(real: &Path, id: Option<(u64, u64)>, known: &[Known]) -> Option<PathBuf> {
    // A second name for the file, by a hard link or a bind, is the same socket.
    let listed =
        known.iter().find(|(path, file)| path.starts_with(real) || real.starts_with(path) || id == Some(*file));
    if let Some((path, _)) = listed {
        return Some(path.clone());
    }
    let called = |path: &Path| path.file_name().is_some_and(|name| NAMES.iter().any(|n| *n == name));
    if id.is_some() {
        return called(real).then(|| real.to_owned());
    }
    let is_socket = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|m| m.file_type().is_socket());
    NAMES.iter().map(|name| real.join(name)).find(is_socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_is_found_under_any_name_and_in_any_directory_above() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        let path = dir.join("a/b/api");
        let _listener = UnixListener::bind(&path).unwrap();
        std::fs::hard_link(&path, dir.join("other")).unwrap();
        let id = |p: &Path| std::fs::metadata(p).map(|m| (m.dev(), m.ino())).unwrap();
        let known = [(path.clone(), id(&path))];
        for place in [path.clone(), dir.join("a/b"), dir.join("a"), "/".into()] {
            assert_eq!(socket(&place, None, &known), Some(path.clone()), "{}", place.display());
        }
        assert_eq!(socket(&dir.join("other"), Some(id(&dir.join("other"))), &known), Some(path));
        // A name is compared by its parts.
        assert_eq!(socket(&dir.join("a/b/ap"), None, &known), None);
        assert_eq!(socket(&dir.join("b"), None, &known), None);
    }

    #[test]
    fn a_socket_that_was_moved_is_known_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        std::fs::write(&path, "").unwrap();
        assert_eq!(socket(dir.path(), None, &[]), None, "a file is no socket");
        std::fs::remove_file(&path).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(socket(dir.path(), None, &[]), Some(path.clone()));
        assert_eq!(socket(&path, Some((0, 0)), &[]), Some(path));
        assert_eq!(socket(&dir.path().join("mine.sock"), Some((0, 0)), &[]), None);
    }
}
