//! What is decided about the runtime's own binary and about Landlock.

use super::fixtures::*;
use serde_json::{Value, json};
use stockade::namespaces::{Facts, Maps, Named, Seen};
use stockade::plan::Step;
use stockade::plan::landlock::access;
use stockade::plan::own::{self, Guard};

fn with(more: Value) -> Bundle {
    let mut config = example("silent");
    config["linux"] = more;
    bundle_of(&config)
}

/// The guard of a launch. What is decided before there is a plan is what the plan says, and what the bundle alone says is
/// what the host confirms.
fn guard(bundle: &Bundle, policy: &str, host: &Host) -> Guard {
    let policy = Policy::load(policy).unwrap();
    let guard = own::guard(bundle, &policy, host, false);
    let plan = plan_of(bundle, &policy, host).unwrap();
    let (copy, stub) = match &guard {
        Guard::Nothing => (None, None),
        Guard::Stub(why) => (None, Some(why.clone())),
        Guard::Copy(why) => (Some(why.clone()), None),
    };
    let first = plan.steps.first().and_then(|s| if let Step::OwnBinary { why } = s { Some(why.clone()) } else { None });
    assert_eq!(first, copy);
    assert_eq!(plan.steps.iter().find_map(|s| if let Step::Stub { why } = s { Some(why.clone()) } else { None }), stub);
    assert_eq!(plan.has_stub(), stub.is_some());
    if own::copied_surely(bundle, &policy, false).is_some() {
        assert!(matches!(guard, Guard::Copy(_)), "{guard:?}");
    }
    guard
}

fn copies(bundle: &Bundle, policy: &str, host: &Host) -> bool {
    guard(bundle, policy, host) != Guard::Nothing
}

/// The steps from Ready on, by name.
fn last_steps(bundle: &Bundle, policy: &str) -> Vec<&'static str> {
    let plan = plan_of(bundle, &Policy::load(policy).unwrap(), &v2()).unwrap();
    let ready = plan.steps.iter().position(|s| matches!(s, Step::Ready)).unwrap();
    plan.steps[ready..].iter().map(Step::name).collect()
}

#[test]
fn the_stub_stands_in_wherever_it_can_do_what_is_left_to_do() {
    let namespaces = json!([{ "type": "pid" }, { "type": "mount" }, { "type": "network", "path": "/run/netns/a" }]);
    let base = || {
        let mut config = example("silent");
        config["linux"] = json!({ "namespaces": namespaces });
        config
    };
    let facts = Facts { flag: 0x4000_0000, inode: 1, ..Facts::default() };
    let host = Host { namespaces: vec![Named { path: "/run/netns/a".into(), seen: Seen::Namespace(facts) }], ..v2() };
    let asked = |change: &dyn Fn(&mut Value), policy: &str, host: &Host| {
        let mut config = base();
        change(&mut config);
        guard(&bundle_of(&config), policy, host)
    };
    let copied_for = |change: &dyn Fn(&mut Value), why: &str| match asked(change, "oci", &host) {
        Guard::Copy(said) => assert!(said.contains(why), "{said}"),
        other => panic!("{other:?} where {why}"),
    };
    assert!(matches!(asked(&|_| {}, "oci", &host), Guard::Stub(_)));
    copied_for(&|c| c["linux"]["namespaces"] = json!([{ "type": "mount" }]), "pid namespace");
    copied_for(&|c| c["linux"]["rootfsPropagation"] = json!("rshared"), "spread");
    let shared = json!([{ "destination": "/a", "source": "/a", "type": "bind", "options": ["rbind", "rshared"] }]);
    copied_for(&|c| c["mounts"] = shared.clone(), "spread");
    copied_for(&|c| c["hooks"] = json!({ "startContainer": [{ "path": "/bin/true" }] }), "startContainer");
    // Other hooks run before, or on the host.
    let hooks = json!({ "createRuntime": [{ "path": "/bin/true" }], "createContainer": [{ "path": "/bin/true" }] });
    assert!(matches!(asked(&|c| c["hooks"] = hooks.clone(), "oci", &host), Guard::Stub(_)));
    // A label is for the next execve.
    let apparmor = Host { apparmor: true, ..host.clone() };
    assert!(matches!(asked(&|_| {}, "oci", &apparmor), Guard::Stub(_)));
    let label = |c: &mut Value| c["process"]["apparmorProfile"] = json!("p");
    assert!(matches!(asked(&label, "oci", &apparmor), Guard::Copy(_)));

    // With no_new_privs the stub installs the filters; without it they are there before the stub, which they must let do
    // its part.
    let filter = |more: &[&str], nnp: bool| {
        let mut names = vec!["execve", "exit_group", "write", "capset", "prctl"];
        names.extend(more);
        let mut config = example("silent");
        config["process"]["noNewPrivileges"] = json!(nnp);
        let rule = json!({ "names": names, "action": "SCMP_ACT_ALLOW" });
        let seccomp = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule] });
        let namespaces = json!([{ "type": "pid" }, { "type": "mount" }]);
        config["linux"] = json!({ "namespaces": namespaces, "seccomp": seccomp });
        bundle_of(&config)
    };
    assert!(matches!(guard(&filter(&[], true), "oci", &v2()), Guard::Stub(_)));
    assert_eq!(last_steps(&filter(&[], true), "oci"), ["ready", "stub", "gate", "seccomp", "exec"]);
    let all = ["read", "fcntl", "execveat"];
    assert!(matches!(guard(&filter(&all, false), "oci", &v2()), Guard::Stub(_)));
    assert_eq!(last_steps(&filter(&all, false), "oci"), ["ready", "seccomp", "capabilities", "stub", "gate", "exec"]);
    for without in all {
        let rest: Vec<_> = all.into_iter().filter(|n| *n != without).collect();
        assert!(matches!(guard(&filter(&rest, false), "oci", &v2()), Guard::Copy(_)), "{without}");
        let copied = Host { binary: Binary::Sealed, ..v2() };
        let plan = plan_of(&filter(&rest, false), &Policy::load("oci").unwrap(), &copied).unwrap();
        assert!(matches!(plan.steps[0], Step::OwnBinary { .. }) && !plan.has_stub());
    }
}

#[test]
fn the_binary_is_guarded_where_an_id_of_the_container_could_write_it() {
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
    let oci = Policy::load("oci").unwrap();
    let exposed = |host: &Host| own::guard(&joined, &oci, host, false) != Guard::Nothing;
    assert!(exposed(&seen(0, false)) && !exposed(&seen(700_000, false)) && exposed(&seen(700_000, true)));
    assert!(exposed(&v2()));
    // What cannot be looked at, and what is a copy already.
    assert!(matches!(
        guard(&silent, "strict", &Host { binary: Binary::Unknown, apparmor: false, ..v2() }),
        Guard::Stub(_)
    ));
    assert!(matches!(guard(&silent, "strict", &Host { binary: Binary::Sealed, ..v2() }), Guard::Copy(_)));
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
