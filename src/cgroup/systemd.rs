//! A scope of systemd as the cgroup of a container (`--systemd-cgroup`): its name, its place and its properties, as values.
//!
//! Where systemd owns the cgroup tree, a runtime asks it for a transient scope over D-Bus. A scope needs a live process,
//! so the child is cloned first and waits; systemd moves it; then limits are written, also as properties of the unit, so
//! that systemd does not undo them. `dbus` is the client that asks; a build without the feature `systemd` has none, and
//! every request is a refusal. Specification: org.freedesktop.systemd1(5), systemd.resource-control(5).

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The scope of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The slice that it lies in: `system.slice`.
    pub slice: String,
    /// Its unit: `stockade-box.scope`.
    pub unit: String,
    /// Whether the user's own manager is asked, and not the system's.
    pub user: bool,
}

/// A value of a unit's property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `t`
    Number(u64),
    /// `s`
    Text(String),
    /// `as`
    Names(Vec<String>),
    /// `au`
    Pids(Vec<u32>),
    /// `ay`, a bit mask of CPUs or memory nodes
    Mask(Vec<u8>),
}

impl Scope {
    /// From `slice:prefix:name`. An empty slice is the manager's usual one.
    pub fn parse(path: &str, id: &str, user: bool) -> Result<Scope> {
        let usual = if user { "user.slice" } else { "system.slice" };
        let mut parts = path.split(':');
        let (slice, prefix, name) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(""), None, ..) => (usual, "stockade", id),
            (Some(slice), Some(prefix), Some(name), None) => {
                (if slice.is_empty() { usual } else { slice }, prefix, name)
            }
            _ => {
                return Err(Error::new(
                    "config.json",
                    "linux.cgroupsPath",
                    format!("{path:?} is not of the form slice:prefix:name"),
                )
                .hint("with --systemd-cgroup it names a unit, such as system.slice:stockade:box"));
            }
        };
        let plain = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:@\\".contains(&b));
        let wrong = |what: &str, given: &str| {
            Err(Error::new("config.json", "linux.cgroupsPath", format!("{given:?} is not the name of a {what}")))
        };
        if !slice.ends_with(".slice")
            || slice.starts_with('-')
            || slice.contains("--")
            || slice.contains("-.")
            || !plain(slice)
        {
            return wrong("slice", slice);
        }
        if name.is_empty() || !plain(name) || !plain(prefix) || name.ends_with(".slice") {
            return wrong("unit", name);
        }
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        if unit.len() > 255 {
            return wrong("unit", &unit);
        }
        Ok(Scope { slice: slice.to_owned(), unit, user })
    }

    /// Where its cgroup is below the manager's own: `a-b.slice` lies in `a.slice`.
    pub fn path(&self) -> String {
        let name = self.slice.trim_end_matches(".slice");
        let mut path = String::new();
        if name != "-" && !name.is_empty() {
            let mut so_far = String::new();
            for part in name.split('-') {
                if !so_far.is_empty() {
                    so_far.push('-');
                }
                so_far.push_str(part);
                path.push_str(&format!("/{so_far}.slice"));
            }
        }
        format!("{path}/{}", self.unit)
    }
}

/// Limits as properties of a unit, by the name of their file.
pub fn properties(values: &[(String, String)]) -> Vec<(String, Value)> {
    let number = |text: &str| if text == "max" { Some(u64::MAX) } else { text.parse::<u64>().ok() };
    let mut all = Vec::new();
    for (file, value) in values {
        let name = match file.as_str() {
            "memory.max" => "MemoryMax",
            "memory.high" => "MemoryHigh",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            "memory.swap.max" => "MemorySwapMax",
            "pids.max" => "TasksMax",
            "cpu.weight" => "CPUWeight",
            "cpu.idle" if value == "1" => {
                // A weight of 0 is systemd's word for idle (252 and newer).
                all.push(("CPUWeight".to_owned(), Value::Number(0)));
                continue;
            }
            "cpu.max" => {
                let mut words = value.split_whitespace();
                let period = words.next_back().filter(|_| value.contains(' ')).and_then(number).unwrap_or(100_000);
                let quota = value.split_whitespace().next().and_then(number).unwrap_or(u64::MAX);
                let per_second = if quota == u64::MAX {
                    u64::MAX
                } else {
                    // systemd rounds to 10 ms in a second; round up, so that it never takes more than was asked.
                    (quota.saturating_mul(1_000_000) / period.max(1)).div_ceil(10_000) * 10_000
                };
                all.push(("CPUQuotaPerSecUSec".to_owned(), Value::Number(per_second)));
                all.push(("CPUQuotaPeriodUSec".to_owned(), Value::Number(period)));
                continue;
            }
            "cpuset.cpus" | "cpuset.mems" => {
                let name = if file == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
                if let Some(mask) = mask(value) {
                    all.push((name.to_owned(), Value::Mask(mask)));
                }
                continue;
            }
            "io.weight" => match value.strip_prefix("default ").and_then(number) {
                Some(weight) => {
                    all.push(("IOWeight".to_owned(), Value::Number(weight)));
                    continue;
                }
                None => continue,
            },
            _ => continue,
        };
        if let Some(n) = number(value) {
            all.push((name.to_owned(), Value::Number(n)));
        }
    }
    all
}

/// `0-3,7` as a bit mask, the first byte lowest.
fn mask(list: &str) -> Option<Vec<u8>> {
    let mut mask = Vec::new();
    for part in list.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last > 8191 || first > last {
            return None;
        }
        for n in first..=last {
            if mask.len() <= n / 8 {
                mask.resize(n / 8 + 1, 0u8);
            }
            mask[n / 8] |= 1 << (n % 8);
        }
    }
    Some(mask)
}

/// Whether this build can ask systemd, and what to say where it cannot.
pub fn available() -> Result<()> {
    if cfg!(feature = "systemd") {
        return Ok(());
    }
    Err(Error::new("--systemd-cgroup", "", "this stockade was built without the feature systemd")
        .hint("use the cgroupfs driver, or a build with --features systemd"))
}

#[cfg(not(feature = "systemd"))]
impl Scope {
    /// Refused in this build.
    pub fn start(&self, _pid: i32, _launch: &str, _properties: &[(String, Value)]) -> Result<()> {
        available()
    }

    /// Refused in this build.
    pub fn set(&self, _properties: &[(String, Value)]) -> Result<()> {
        available()
    }

    /// Refused in this build.
    pub fn attach(&self, _pid: i32, _below: &str) -> Result<()> {
        available()
    }

    /// Refused in this build: a scope of another build is still systemd's to stop.
    pub fn stop(&self, _launch: &str) -> Result<()> {
        available()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_by_their_three_parts() {
        let scope = Scope::parse("system.slice:docker:abc", "x", false).unwrap();
        assert_eq!(
            (scope.unit.as_str(), scope.path().as_str()),
            ("docker-abc.scope", "/system.slice/docker-abc.scope")
        );
        let scope = Scope::parse("kubepods-burstable-pod1.slice:cri:c", "x", false).unwrap();
        assert_eq!(scope.path(), "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-c.scope");
        assert_eq!(Scope::parse("", "box", false).unwrap().path(), "/system.slice/stockade-box.scope");
        assert_eq!(Scope::parse("::box", "x", true).unwrap().path(), "/user.slice/box.scope");
        assert_eq!(Scope::parse("-.slice::box", "x", true).map(|s| s.path()).ok(), None);
        for bad in
            ["/a/b", "a:b", "a:b:c", "a.slice:b:", "a.slice:b:c/d", "../x.slice:b:c", "a.slice:b:c:d", "a--b.slice:x:y"]
        {
            assert!(Scope::parse(bad, "x", false).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_build_without_the_client_refuses_by_name() {
        if cfg!(feature = "systemd") {
            assert!(available().is_ok());
            return;
        }
        let scope = Scope::parse("", "x", false).unwrap();
        for e in [available(), scope.start(1, "", &[]), scope.set(&[]), scope.attach(1, ""), scope.stop("")] {
            let e = e.unwrap_err().to_string();
            assert!(e.contains("--systemd-cgroup") && e.contains("without the feature systemd"), "{e}");
        }
    }

    #[test]
    fn limits_become_properties() {
        let values = [
            ("memory.max", "1000"),
            ("memory.swap.max", "max"),
            ("pids.max", "7"),
            ("cpu.max", "50000 100000"),
            ("cpu.weight", "100"),
            ("cpuset.cpus", "0-1,9"),
            ("hugetlb.2MB.max", "1"),
        ]
        .map(|(f, v)| (f.to_owned(), v.to_owned()));
        let n = |name: &str, n: u64| (name.to_owned(), Value::Number(n));
        let expected = vec![
            n("MemoryMax", 1000),
            n("MemorySwapMax", u64::MAX),
            n("TasksMax", 7),
            n("CPUQuotaPerSecUSec", 500_000),
            n("CPUQuotaPeriodUSec", 100_000),
            n("CPUWeight", 100),
            ("AllowedCPUs".to_owned(), Value::Mask(vec![3, 2])),
        ];
        assert_eq!(properties(&values), expected);
    }
}
