//! A container made again from images: what a policy says to it, what stands in for the parts of the host, and what must
//! be true of the result.

use super::fixtures::*;
use serde_json::json;
use std::path::{Path, PathBuf};
use stockade::plan::Ns;
use stockade::plan::restore::{self, Images, Stand};

fn images(external: &[&str]) -> Images {
    Images {
        version: restore::VERSION,
        external: external.iter().map(PathBuf::from).collect(),
        streams: [None, None, None],
        terminal: false,
        network: false,
        ids: None,
    }
}

fn plan(more: serde_json::Value, policy: &Policy) -> Plan {
    let mut config = example("usual");
    for (key, value) in more.as_object().unwrap() {
        config[key.as_str()] = value.clone();
    }
    plan_of(&bundle_of(&config), policy, &v2()).unwrap()
}

#[test]
fn images_are_restored_only_where_an_operator_vouches_for_them() {
    let error = restore::allowed(&Policy::load("strict").unwrap()).unwrap_err().to_string();
    assert!(error.starts_with("policy strict: restore: ") && error.contains("policy key restore"), "{error}");
    assert!(restore::allowed(&operator(json!({ "restore": "tighten" }))).is_err());
    assert!(restore::allowed(&operator(json!({ "restore": "allow" }))).is_ok());
    assert!(restore::allowed(&Policy::load("oci").unwrap()).is_ok());
}

#[test]
fn each_part_of_the_host_comes_from_the_plan_and_none_from_the_images() {
    let strict = operator(json!({ "hostPaths": { "beyond": "allow" } }));
    let mounts = json!([
        { "destination": "/data", "type": "none", "source": "/srv/data", "options": ["rbind"] },
        { "destination": "/data/deep", "type": "none", "source": "/srv/deep", "options": ["bind"] },
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" }
    ]);
    let plan = plan(json!({ "mounts": mounts }), &strict);
    let slot = |target: &str| {
        let find = |s: &plan::Step| match s {
            plan::Step::Bind { source: plan::Source::Slot(n), target: t, .. } if t == Path::new(target) => Some(*n),
            _ => None,
        };
        plan.steps.iter().find_map(find).unwrap()
    };
    let stand = |target: &str| restore::stands(&plan, &images(&[target])).map(|list| list[0].1.clone());
    assert_eq!(stand("/data").unwrap(), Stand::Slot(slot("/data"), "".into()));
    // A mount below a recursive bind, and the bind that lies nearest.
    assert_eq!(stand("/data/below/it").unwrap(), Stand::Slot(slot("/data"), "below/it".into()));
    assert_eq!(stand("/data/deep").unwrap(), Stand::Slot(slot("/data/deep"), "".into()));
    assert_eq!(stand("/dev/null").unwrap(), Stand::Host("/dev/null".into()));
    assert_eq!(stand("/sys/fs/cgroup").unwrap(), Stand::Cgroup);
    assert_eq!(stand("/proc/kcore").unwrap(), Stand::Host("/dev/null".into()));
    let glob = "/sys/devices/system/cpu/cpu3/thermal_throttle";
    assert_eq!(stand(glob).unwrap(), Stand::Host("/dev/null".into()));
    for no in ["/etc/shadow", "/data2", "/dev/sda", "/sys/devices/system/cpu/cpu3/x/thermal_throttle"] {
        assert!(stand(no).unwrap_err().to_string().contains("config.json none"), "{no}");
    }
}

#[test]
fn namespaces_of_others_must_be_the_same_kind_of_thing_on_both_sides() {
    let oci = Policy::load("oci").unwrap();
    let with = |kind: &str| {
        let namespaces =
            json!([{ "type": "mount" }, { "type": "pid" }, { "type": "uts" }, { "type": kind, "path": "/run/ns/x" }]);
        plan(json!({ "linux": { "namespaces": namespaces } }), &oci)
    };
    let network = Images { network: true, ..images(&[]) };
    assert!(restore::stands(&with("network"), &network).is_ok());
    assert_eq!(restore::network(&with("network")), Some(&PathBuf::from("/run/ns/x")));
    assert!(restore::stands(&with("network"), &images(&[])).unwrap_err().to_string().contains("has its own"));
    assert!(restore::stands(&plan(json!({}), &oci), &network).unwrap_err().to_string().contains("names none"));
    assert!(restore::stands(&with("ipc"), &images(&[])).unwrap_err().to_string().contains("ipc"));
    let newer = Images { version: restore::VERSION + 1, ..images(&[]) };
    assert!(restore::stands(&plan(json!({}), &oci), &newer).unwrap_err().to_string().contains("version"));
}

#[test]
fn what_must_hold_afterwards_is_what_the_plan_promises() {
    let strict = Policy::load("strict").unwrap();
    let plan = plan(json!({}), &strict);
    let expected = restore::expected(&plan);
    assert!(expected.no_new_privs && expected.filters == 1);
    assert_eq!(expected.namespaces.len(), Ns::ALL.len());
    assert_eq!(expected.uid_map.len(), 1);
    assert_eq!(expected.caps, plan.confinement.caps);
    let words = |target: &str| -> Vec<&str> {
        let of = |(t, w): &(PathBuf, Vec<&'static str>)| (t == Path::new(target)).then(|| w.clone());
        expected.mounts.iter().filter_map(of).flatten().collect()
    };
    assert!(words("/").contains(&"ro") && words("/").contains(&"nosuid") && words("/").contains(&"nodev"));
    assert!(words("/proc").contains(&"noexec") && words("/sys").contains(&"ro"));
    assert!(expected.masked.contains(&"/proc/kcore".to_owned()));
    let oci = restore::expected(&self::plan(json!({}), &Policy::load("oci").unwrap()));
    assert!(oci.uid_map.is_empty() && oci.filters == 0);
}
