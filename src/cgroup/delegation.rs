//! Decide: what stands between a cgroup and a controller that it lacks, and what an operator does about it. Pure.
//!
//! A controller reaches a cgroup only if every directory above it gives it on. The first that does not have it names the
//! place to change, and who rules there: a unit of systemd, or nobody but root.

use std::path::Path;

/// That the controller stops here.
pub fn lack(controller: &str, dir: &str) -> String {
    let dir = if dir.is_empty() { "/" } else { dir };
    format!("the {controller} controller is not delegated: {dir} is the first cgroup on the way without it")
}

/// What gives the controller to `dir`, the first cgroup without it.
pub fn remedy(mount: &Path, dir: &str, controller: &str) -> String {
    let names: Vec<&str> = dir.split('/').filter(|n| !n.is_empty()).collect();
    let Some((last, above)) = names.split_last() else {
        return format!("the kernel offers no {controller} controller: see cgroup_disable= on its command line");
    };
    let drop_in = |unit: &str| {
        format!(
            "as root: write the two lines [Service] and Delegate=cpu cpuset io memory pids to \
             /etc/systemd/system/{unit}.d/delegate.conf, then systemctl daemon-reload and start {unit} anew \
             (a user's manager: log out everywhere and in again)"
        )
    };
    match names.iter().position(|n| n.starts_with("user@") && n.ends_with(".service")) {
        Some(n) if n + 1 < names.len() => {
            return "let the user's manager make a cgroup with it: systemd-run --user --scope -p Delegate=yes -- stockade ..., or --systemd-cgroup".into();
        }
        Some(_) => return drop_in("user@.service"),
        None => {}
    }
    // What a session of a user lies in: the manager of the user is where delegation is to be had.
    if names.first() == Some(&"user.slice") && (last.starts_with("user-") || last.starts_with("session-")) {
        return drop_in("user@.service");
    }
    if let Some(unit) = names.iter().find(|n| n.ends_with(".service")) {
        return drop_in(unit);
    }
    let parent = above.iter().fold(mount.to_path_buf(), |path, name| path.join(name));
    format!("as root: echo +{controller} >{}/cgroup.subtree_control", parent.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_is_for_the_place_that_lacks_the_controller() {
        let mount = Path::new("/sys/fs/cgroup");
        for (dir, words) in [
            (
                "/user.slice/user-1000.slice/user@1000.service",
                &[
                    "/etc/systemd/system/user@.service.d/delegate.conf",
                    "[Service]",
                    "Delegate=cpu cpuset io memory pids",
                ][..],
            ),
            ("/user.slice/user-1000.slice", &["user@.service.d/delegate.conf"]),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/a.scope", &["systemd-run --user --scope"]),
            ("/system.slice/ci.service/x", &["/etc/systemd/system/ci.service.d/delegate.conf"]),
            ("/a/b", &["echo +memory >/sys/fs/cgroup/a/cgroup.subtree_control"]),
            ("/a", &["echo +memory >/sys/fs/cgroup/cgroup.subtree_control"]),
            ("/", &["cgroup_disable="]),
        ] {
            let said = remedy(mount, dir, "memory");
            assert!(words.iter().all(|w| said.contains(w)), "{dir}: {said}");
            assert_eq!(said.lines().count(), 1);
        }
        assert!(lack("cpu", "").contains("the cpu controller") && lack("cpu", "/a").contains("/a is the first"));
    }
}
