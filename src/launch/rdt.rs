//! Do: a class of Intel's Resource Director Technology for the container, by the file system resctrl.
//!
//! A class that the config names by `closID` belongs to whoever manages classes: it is made where it is missing, and
//! stays. What is named after the container goes with it; the intent record lists exactly that.

use crate::error::{Context, Error, Result};
use crate::plan::Rdt;
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkdir;
use std::path::{Path, PathBuf};

const STEP: &str = "resctrl";

/// The directories that go with the container, the innermost first.
pub fn own(rdt: &Rdt, id: &str) -> Vec<PathBuf> {
    let class = rdt.mount.join(&rdt.class);
    let mut own = Vec::new();
    if rdt.monitor {
        own.push(class.join("mon_groups").join(id));
    }
    if !rdt.named {
        own.push(class);
    }
    own
}

/// Refuses what is there already and would be taken for the container's: removing it would take it from others.
pub fn check_unused(rdt: &Rdt, id: &str) -> Result<()> {
    match own(rdt, id).into_iter().find(|dir| dir.exists()) {
        Some(dir) => Err(Error::os(STEP, dir.display().to_string(), Errno::EEXIST)
            .hint("something else uses this name; choose another id for the container")),
        None => Ok(()),
    }
}

/// Puts a process into its class, which is made where that is due.
pub fn enter(rdt: &Rdt, id: &str, pid: i32) -> Result<()> {
    let class = rdt.mount.join(&rdt.class);
    let shown = class.display().to_string();
    let there = class.is_dir();
    if !there && rdt.named && rdt.schemata.is_empty() {
        return Err(Error::new(STEP, shown, "there is no such class, and no schemata to make one from")
            .hint("make it below /sys/fs/resctrl, or add linux.intelRdt.schemata"));
    }
    if there {
        compare(&class, rdt)?;
    } else {
        mkdir(&class, Mode::from_bits_truncate(0o755)).at(STEP, &shown).map_err(|e| match e.errno() {
            Some(Errno::ENOSPC) => e.hint("the processor has no class left: rmdir one below /sys/fs/resctrl"),
            _ => e,
        })?;
        if let Err(e) = fill(&class, rdt) {
            let _ = std::fs::remove_dir(&class);
            return Err(e);
        }
    }
    let join = |dir: &Path| {
        let tasks = dir.join("tasks");
        std::fs::write(&tasks, pid.to_string()).at(STEP, tasks.display().to_string())
    };
    join(&class)?;
    if rdt.monitor {
        let group = class.join("mon_groups").join(id);
        mkdir(&group, Mode::from_bits_truncate(0o755)).at(STEP, group.display().to_string()).map_err(|e| {
            match e.errno() {
                Some(Errno::ENOENT | Errno::EPERM) => e.hint("the processor cannot monitor, or not by this kernel"),
                Some(Errno::ENOSPC) => e.hint("the processor has no monitoring id left"),
                _ => e,
            }
        })?;
        join(&group)?;
    }
    Ok(())
}

/// A line at a time, as resctrl wants it: a wrong one is then named.
fn fill(class: &Path, rdt: &Rdt) -> Result<()> {
    for line in &rdt.schemata {
        let file = class.join("schemata");
        std::fs::write(&file, format!("{line}\n")).at(STEP, format!("{} {line:?}", file.display())).map_err(|e| {
            let said = crate::host::read_small(rdt.mount.join("info/last_cmd_status"), 4096).unwrap_or_default();
            match said.trim() {
                "" | "ok" => e,
                said => e.hint(format!("the kernel says: {said}")),
            }
        })?;
    }
    Ok(())
}

/// What the config asks of a class that is there must be so: it is shared, and not ours to change.
fn compare(class: &Path, rdt: &Rdt) -> Result<()> {
    let file = class.join("schemata");
    let shown = file.display().to_string();
    let text = if rdt.schemata.is_empty() { String::new() } else { crate::host::read_small(&file, 1 << 16)? };
    let have: Vec<_> = text.lines().filter_map(parse).collect();
    for line in &rdt.schemata {
        let Some((resource, parts)) = parse(line) else { continue };
        let same = have.iter().any(|(r, h)| *r == resource && parts.iter().all(|part| h.contains(part)));
        if !same {
            return Err(Error::new(STEP, shown, format!("the class is there and has not {line:?}"))
                .hint("name another closID, or ask for what that class has"));
        }
    }
    Ok(())
}

/// `L3:0=00ff;1=ff` as (resource, (cache, value)): the kernel writes blanks and zeros of its own in front.
fn parse(line: &str) -> Option<(String, Vec<(String, String)>)> {
    let (resource, parts) = line.split_once(':')?;
    let plain = |text: &str| {
        let lower = text.trim().to_ascii_lowercase();
        match lower.trim_start_matches("0x").trim_start_matches('0') {
            "" => "0".to_owned(),
            rest => rest.to_owned(),
        }
    };
    let parts = parts.split(';').filter_map(|p| p.split_once('=')).map(|(cache, value)| (plain(cache), plain(value)));
    Some((resource.trim().to_owned(), parts.collect()))
}

/// Removes what was made for a container.
pub fn remove(own: &[PathBuf]) -> Result<()> {
    for dir in own {
        match std::fs::remove_dir(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(STEP, dir.display().to_string(), &e));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that stands for /sys/fs/resctrl: no machine of ours has the hardware.
    fn fake() -> (tempfile::TempDir, Rdt) {
        let dir = tempfile::tempdir().unwrap();
        let rdt = Rdt {
            mount: dir.path().to_owned(),
            class: "gold".into(),
            named: true,
            schemata: vec!["L3:0=ff;1=0f".into()],
            monitor: false,
        };
        (dir, rdt)
    }

    #[test]
    fn a_class_is_made_once_and_compared_from_then_on() {
        let (dir, rdt) = fake();
        enter(&rdt, "box", 7).unwrap();
        let read = |file: &str| std::fs::read_to_string(dir.path().join("gold").join(file)).unwrap();
        assert_eq!((read("tasks"), read("schemata")), ("7".to_owned(), "L3:0=ff;1=0f\n".to_owned()));
        std::fs::write(dir.path().join("gold/schemata"), "    MB:0=100;1=100\n    L3:0=000ff;1=0000f\n").unwrap();
        enter(&rdt, "other", 8).unwrap();
        assert_eq!(read("tasks"), "8");
        let less = Rdt { schemata: vec!["MB:0=100".into(), "L3:1=f0".into()], ..rdt };
        let e = enter(&less, "third", 9).unwrap_err().to_string();
        assert!(e.contains("gold/schemata") && e.contains("L3:1=f0"), "{e}");
        assert_eq!(read("tasks"), "8");
        assert!(own(&less, "box").is_empty(), "a class by name stays");
    }

    #[test]
    fn a_class_that_is_only_named_must_be_there() {
        let (dir, rdt) = fake();
        let named = Rdt { schemata: Vec::new(), ..rdt };
        assert!(enter(&named, "box", 7).unwrap_err().to_string().contains("no such class"));
        assert!(!dir.path().join("gold").exists());
        std::fs::create_dir(dir.path().join("gold")).unwrap();
        enter(&named, "box", 7).unwrap();
    }

    #[test]
    fn what_is_the_containers_goes_with_it() {
        let (dir, rdt) = fake();
        let rdt = Rdt { named: false, class: "box".into(), schemata: Vec::new(), monitor: true, ..rdt };
        check_unused(&rdt, "box").unwrap();
        // Without monitoring in the kernel there is no mon_groups.
        assert!(enter(&rdt, "box", 7).unwrap_err().to_string().contains("(ENOENT)"));
        std::fs::create_dir(dir.path().join("box/mon_groups")).unwrap();
        assert!(check_unused(&rdt, "box").unwrap_err().to_string().contains("(EEXIST)"));
        enter(&rdt, "box", 7).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("box/mon_groups/box/tasks")).unwrap(), "7");
        // In resctrl these files go with their directory.
        std::fs::remove_file(dir.path().join("box/mon_groups/box/tasks")).unwrap();
        std::fs::remove_file(dir.path().join("box/tasks")).unwrap();
        let own = own(&rdt, "box");
        assert!(remove(&own).is_err(), "mon_groups is in the way here, and that is told");
        std::fs::remove_dir(dir.path().join("box/mon_groups")).unwrap();
        remove(&own).unwrap();
        assert!(!dir.path().join("box").exists());
        remove(&own).unwrap();
    }
}
