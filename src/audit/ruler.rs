//! Decide: a policy as a measure.

use crate::error::Result;
use crate::policy::{Above, Policy};

/// The policy, and where it has no word of its own (`oci` has no ceiling at all), `strict`.
pub fn ruler(policy: &Policy) -> Result<Policy> {
    let strict = Policy::load("strict")?;
    let mut ruler = policy.clone();
    ruler.capabilities.ceiling = ruler.capabilities.ceiling.or(strict.capabilities.ceiling);
    ruler.limits.memory = ruler.limits.memory.or(strict.limits.memory);
    ruler.limits.pids = ruler.limits.pids.or(strict.limits.pids);
    ruler.limits.cpus = ruler.limits.cpus.or(strict.limits.cpus);
    ruler.mounts.types = ruler.mounts.types.or(strict.mounts.types);
    ruler.lsm.apparmor_default = ruler.lsm.apparmor_default.or(strict.lsm.apparmor_default);
    for (own, floor) in [
        (&mut ruler.masked_paths, strict.masked_paths),
        (&mut ruler.readonly_paths, strict.readonly_paths),
        (&mut ruler.host_paths.sensitive, strict.host_paths.sensitive),
    ] {
        if own.is_empty() {
            *own = floor;
        }
    }
    if policy.foreign_annotations == Above::Allow {
        ruler.unit_properties.retain(|p| strict.unit_properties.contains(p));
    }
    for (name, values) in strict.rlimits {
        ruler.rlimits.entry(name).or_insert(values);
    }
    Ok(ruler)
}

/// How far a place of the host is what the policy calls sensitive.
pub fn sensitive<'r>(ruler: &'r Policy, real: &std::path::Path) -> Option<(&'r str, bool)> {
    use crate::plan::reach::is_sensitive;
    let found = ruler.host_paths.sensitive.iter().filter(|p| is_sensitive(p, real));
    // A file of /etc is less than /etc: true where it is the directory, or holds it.
    let whole = |pattern: &str| is_sensitive(pattern.strip_suffix("/**").unwrap_or(pattern), real);
    found.map(|p| (p.as_str(), whole(p))).max_by_key(|(_, whole)| *whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_policy_without_ceilings_is_measured_by_strict() {
        let ruler = ruler(&Policy::load("oci").unwrap()).unwrap();
        let strict = Policy::load("strict").unwrap();
        assert_eq!(ruler.capabilities.ceiling, strict.capabilities.ceiling);
        assert_eq!((ruler.masked_paths, ruler.rlimits), (strict.masked_paths, strict.rlimits));
        assert_eq!(ruler.limits.pids, strict.limits.pids);
    }

    #[test]
    fn a_file_of_a_sensitive_directory_is_less_than_the_directory() {
        let strict = Policy::load("strict").unwrap();
        let look = |p: &str| sensitive(&strict, Path::new(p)).map(|(_, whole)| whole);
        assert_eq!(look("/etc"), Some(true));
        assert_eq!(look("/"), Some(true));
        assert_eq!(look("/etc/localtime"), Some(false));
        assert_eq!(look("/srv/x/.ssh"), Some(true));
        assert_eq!(look("/srv/data"), None);
    }
}
