//! What is decided about the runtime's own binary and about Landlock.

use super::fixtures::*;
use serde_json::{Value, json};
use stockade::namespaces::{Facts, Maps, Named, Seen};
use stockade::plan::Step;
use stockade::plan::landlock::access;
use stockade::plan::own;

fn with(more: Value) -> Bundle {
    let mut config = example("silent");
    config["linux"] = more;
    bundle_of(&config)
}

fn copies(bundle: &Bundle, policy: &str, host: &Host) -> bool {
    let policy = Policy::load(policy).unwrap();
    let plan = plan_of(bundle, &policy, host).unwrap();
    let first = matches!(plan.steps.first(), Some(Step::OwnBinary { .. }));
    // What is decided before there is a plan is what the plan says.
    assert_eq!(first, own::exposed(bundle, &policy, host).is_some());
    first
}

#[test]
fn the_binary_is_copied_where_an_id_of_the_container_could_write_it() {
    let binary = |uid, mode, host: Host| Host { binary: Binary::File { uid, mode }, ..host };
    let silent = bundle_of(&example("silent"));
    // Root's container has ids of its own.
    assert!(!copies(&silent, "strict", &binary(0, 0o755, v2())));
    assert!(!copies(&silent, "strict", &binary(1000, 0o700, v2())));
    for (uid, mode) in [(0, 0o775), (0, 0o757), (0, 0o722), (1_048_576, 0o755), (1_048_576 + 65_535, 0o500)] {
        assert!(copies(&silent, "strict", &binary(uid, mode, v2())), "{uid} {mode:o}");
    }
    // An ordinary user is root inside, and so are its subordinate ids.
    for host in [rootless(), single()] {
        assert!(!copies(&silent, "strict", &binary(0, 0o755, Host { groups: vec![1000], ..host.clone() })));
        assert!(copies(&silent, "strict", &binary(1000, 0o755, Host { groups: vec![1000], ..host })));
    }
    assert!(copies(&silent, "strict", &binary(100_000, 0o755, rootless())));
    // Without a user namespace.
    let shared = with(json!({ "namespaces": [{ "type": "pid" }, { "type": "mount" }] }));
    assert!(copies(&shared, "oci", &v2()) && !copies(&shared, "strict", &v2()));
    // Maps of the bundle's own.
    let mapped = |first: u32| {
        let map = json!([{ "containerID": 0, "hostID": first, "size": 65_536 }]);
        let namespaces = json!([{ "type": "user" }, { "type": "mount" }]);
        with(json!({ "uidMappings": map, "gidMappings": map, "namespaces": namespaces }))
    };
    assert!(copies(&mapped(0), "oci", &v2()) && !copies(&mapped(700_000), "oci", &v2()));
    // A user namespace of others: by its maps, and where these cannot be read, by nothing.
    let joined = with(json!({ "namespaces": [{ "type": "user", "path": "/run/u" }, { "type": "mount" }] }));
    let seen = |first: u32, ours: bool| {
        let maps = Maps { uids: vec![(0, first, 1)], gids: vec![(0, first, 1)], setgroups: true };
        let facts = Facts { flag: 0x1000_0000, inode: 1, ours, maps: Some(maps), ..Facts::default() };
        Host { namespaces: vec![Named { path: "/run/u".into(), seen: Seen::Namespace(facts) }], ..v2() }
    };
    let exposed = |host: &Host| own::exposed(&joined, &Policy::load("oci").unwrap(), host).is_some();
    assert!(exposed(&seen(0, false)) && !exposed(&seen(700_000, false)) && exposed(&seen(700_000, true)));
    assert!(exposed(&v2()));
    // What cannot be looked at, and what is a copy already.
    for binary in [Binary::Unknown, Binary::Sealed] {
        assert!(copies(&silent, "strict", &Host { binary, ..v2() }));
    }
}

#[test]
fn an_exec_is_judged_by_the_map_that_was_recorded() {
    let strict = Policy::load("strict").unwrap();
    let silent = plan_of(&bundle_of(&example("silent")), &strict, &v2()).unwrap();
    assert_eq!(own::exposed_to_map(&silent.confinement.uids, &v2()), None);
    let owner = Host { binary: Binary::File { uid: 1_048_576, mode: 0o755 }, ..v2() };
    assert!(own::exposed_to_map(&silent.confinement.uids, &owner).is_some());
    assert!(own::exposed_to_map(&[], &v2()).is_some());
}

fn landlock(level: &str, abi: u32, more: &Value) -> Result<(Vec<String>, Option<u64>), String> {
    let policy = operator(json!({ "landlock": { "level": level, "tcpConnect": [443] }, "hooks": "allow" }));
    let mut config = example("silent");
    if !more.is_null() {
        config["hooks"] = more.clone();
    }
    let plan = plan_of(&bundle_of(&config), &policy, &Host { landlock: abi, ..v2() }).map_err(|e| e.to_string())?;
    let said = plan.findings.iter().filter(|f| f.rule == "landlock").map(|f| format!("{}: {}", f.given, f.why));
    let handled = plan.steps.iter().find_map(|s| match s {
        Step::Landlock { landlock } => Some(landlock.handled),
        _ => None,
    });
    assert_eq!(plan.confinement.landlock.as_ref().map(|l| l.handled), handled, "exec gets what init has");
    Ok((said.collect(), handled))
}

#[test]
fn the_words_of_landlock_say_what_is_done_where_the_kernel_lacks_it() {
    let none = Value::Null;
    let old = access::ALL & !access::IOCTL_DEV & !access::TRUNCATE;
    // All of it: nobody has anything to say.
    for level in ["besteffort", "soft", "hard"] {
        assert_eq!(landlock(level, 6, &none), Ok((vec![], Some(access::ALL))), "{level}");
    }
    assert_eq!(landlock("off", 6, &none), Ok((vec![], None)));
    assert_eq!(landlock("off", 0, &none), Ok((vec![], None)));
    // A part of it.
    let (said, handled) = landlock("besteffort", 2, &none).unwrap();
    assert_eq!(handled, Some(old));
    assert!(said.len() == 1 && ["truncate", "ioctl", "TCP", "ABI 2"].iter().all(|w| said[0].contains(w)), "{said:?}");
    assert_eq!(landlock("soft", 2, &none), Ok((vec![], Some(old))));
    let refused = landlock("hard", 4, &none).unwrap_err();
    assert!(["landlock.level", "ioctl(2)", "ABI 4", "hint"].iter().all(|w| refused.contains(w)), "{refused}");
    assert!(!refused.contains("TCP") && !refused.contains("truncate"), "{refused}");
    // None: and one without renames would break programs.
    for abi in [0, 1] {
        for level in ["besteffort", "soft"] {
            let (said, handled) = landlock(level, abi, &none).unwrap();
            assert!(handled.is_none() && said.len() == 1 && said[0].contains("this kernel"), "{said:?}");
        }
        assert!(landlock("hard", abi, &none).unwrap_err().contains("this kernel"));
    }
    // What hooks mount is in no plan; those that run later mount nothing.
    let hook = json!([{ "path": "/bin/true" }]);
    for name in ["prestart", "createRuntime", "createContainer"] {
        let (said, handled) = landlock("soft", 6, &json!({ name: hook })).unwrap();
        assert!(handled.is_none() && said[0].contains("hooks"), "{said:?}");
        assert!(landlock("hard", 6, &json!({ name: hook })).unwrap_err().contains("hooks"));
    }
    assert_eq!(landlock("hard", 6, &json!({ "startContainer": hook })), Ok((vec![], Some(access::ALL))));
}

#[test]
fn the_domain_comes_after_the_last_mount_and_before_the_ids_change() {
    for policy in [operator(json!({})), operator(json!({ "noNewPrivileges": { "silent": false } }))] {
        let plan = plan_of(&bundle_of(&example("silent")), &policy, &v2()).unwrap();
        let at = |wanted: fn(&Step) -> bool| plan.steps.iter().position(wanted).unwrap();
        let domain = at(|s| matches!(s, Step::Landlock { .. }));
        assert!(at(|s| matches!(s, Step::Pivot { .. })) < domain);
        assert!(at(|s| matches!(s, Step::CloseFds { .. })) < domain);
        // Whatever mounts, mounts before.
        let last = plan.steps.iter().rposition(|s| matches!(s, Step::Filesystem { .. } | Step::SetAttr { .. }));
        assert!(last.unwrap() < domain);
        assert!(domain < at(|s| matches!(s, Step::Bounding { .. })) && domain < at(|s| matches!(s, Step::Ids { .. })));
    }
}

#[test]
fn processes_from_images_go_without_and_that_is_said() {
    let plan_under = |level: &str| {
        let policy = operator(json!({ "landlock": { "level": level }, "restore": "allow" }));
        let plan = plan_of(&bundle_of(&example("silent")), &policy, &v2()).unwrap();
        plan::restore::without_landlock(&plan, &policy)
    };
    assert!(plan_under("off").unwrap().is_none());
    assert!(plan_under("soft").unwrap().unwrap().why.contains("criu"));
    assert!(plan_under("hard").unwrap_err().to_string().contains("criu"));
}
