//! What must hold for every plan, whatever the config, the policy and the host.
//!
//! Configs are the examples with random fields set, removed or replaced by nonsense; `check` is the list of promises.
//! A plan is looked at as the JSON that it serialises to, so a kind of step that does not exist yet is covered by name.

use super::fixtures::*;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use std::path::Path;
use stockade::namespaces::{Facts, Maps, Named, Seen};
use stockade::policy::{Above, Profile};

const SYS_ADMIN: u64 = 1 << 21;
/// Steps that change what is mounted, by their names in JSON. `landlock` is the name that design.md gives the step to come.
const MOUNTING: [&str; 9] =
    ["detach", "attachRootfs", "filesystem", "bind", "devices", "console", "setAttr", "mask", "readonlyPaths"];
/// Steps that put something new into the tree.
const PLACING: [&str; 5] = ["attachRootfs", "filesystem", "bind", "devices", "console"];
const CAPS: [&str; 8] = [
    "CAP_CHOWN",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_ADMIN",
    "CAP_SYS_PTRACE",
    "CAP_MKNOD",
    "CAP_SETUID",
];
const NAMESPACES: [&str; 8] = ["user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time"];

// ---- what is generated

/// One change of a config: a JSON pointer and what stands there; null takes the field away.
type Edit = (&'static str, Value);

fn at(path: &'static str, values: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Edit> {
    values.prop_map(move |v| (path, v)).boxed()
}

fn one_of(values: impl Into<Vec<Value>>) -> BoxedStrategy<Value> {
    select(values.into()).boxed()
}

fn some_of(names: &'static [&'static str]) -> BoxedStrategy<Value> {
    subsequence(names, 0..=names.len()).prop_map(|n| json!(n)).boxed()
}

fn namespaces() -> BoxedStrategy<Value> {
    (subsequence(&NAMESPACES, 0..=8), any::<[u8; 8]>())
        .prop_map(|(names, dice)| {
            names
                .iter()
                .zip(dice)
                .map(|(n, dice)| {
                    if dice < 40 {
                        json!({ "type": n, "path": format!("/proc/1/ns/{n}") })
                    } else {
                        json!({ "type": n })
                    }
                })
                .collect()
        })
        .boxed()
}

fn capabilities() -> BoxedStrategy<Value> {
    let set = || subsequence(&CAPS, 0..=CAPS.len());
    (set(), set(), set(), set(), any::<bool>())
        .prop_map(|(bounding, permitted, inheritable, ambient, half)| {
            let effective = if half { &permitted[..permitted.len() / 2] } else { &permitted[..] };
            json!({ "bounding": bounding, "permitted": permitted, "effective": effective,
                    "inheritable": inheritable, "ambient": ambient })
        })
        .boxed()
}

fn mount() -> BoxedStrategy<Value> {
    let target = select(vec![
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/shm/x",
        "/sys",
        "/sys/fs/cgroup",
        "/tmp",
        "/data",
        "/a/../b/./c",
        "/../../etc/x",
        "data",
        "/proc/self",
        "/proc/cpuinfo",
        "/",
        "/run",
    ]);
    let kind = select(vec![
        ("proc", "proc"),
        ("tmpfs", "tmpfs"),
        ("devpts", "devpts"),
        ("sysfs", "sysfs"),
        ("cgroup", "cgroup"),
        ("mqueue", "mqueue"),
        ("bind", "/etc"),
        ("bind", "volume"),
        ("bind", "/bundle/rootfs/etc"),
        ("none", "/srv"),
        ("overlay", "overlay"),
        ("bind", ""),
    ]);
    const OPTIONS: [&str; 22] = [
        "ro",
        "rw",
        "rro",
        "nosuid",
        "suid",
        "rsuid",
        "nodev",
        "dev",
        "noexec",
        "exec",
        "bind",
        "rbind",
        "idmap",
        "private",
        "rslave",
        "rshared",
        "mode=755",
        "gid=5",
        "uid=70000",
        "relatime",
        "noatime",
        "size=1m",
    ];
    (target, kind, subsequence(&OPTIONS, 0..6))
        .prop_map(|(target, (fstype, source), options)| {
            json!({ "destination": target, "type": fstype, "source": source, "options": options })
        })
        .boxed()
}

fn hooks() -> BoxedStrategy<Value> {
    const MOMENTS: [&str; 6] =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    subsequence(&MOMENTS, 0..=6)
        .prop_map(|m| m.iter().map(|m| (m.to_string(), json!([{ "path": "/bin/hook", "args": ["hook"] }]))).collect())
        .boxed()
}

fn maps() -> BoxedStrategy<Value> {
    let line = |inside: u32, outside: u32, size: u32| json!({ "containerID": inside, "hostID": outside, "size": size });
    one_of([
        json!([line(0, 0, 1)]),
        json!([line(0, 0, 65_536)]),
        json!([line(0, 1000, 1)]),
        json!([line(0, 700_000, 65_536)]),
        json!([line(0, 1000, 1), line(1, 100_000, 65_536)]),
        json!([line(5, 0, 1), line(0, 700_000, 5)]),
        json!([line(0, u32::MAX - 10, 10)]),
        json!([line(1000, 1000, 1)]),
        json!([]),
        json!(null),
    ])
}

fn profile() -> BoxedStrategy<Value> {
    let rules = |names: &[&str], action: &str| json!({ "names": names, "action": action });
    let own = ["execve", "write", "exit_group", "capset", "prctl"];
    one_of([
        json!(null),
        json!({ "defaultAction": "SCMP_ACT_ALLOW" }),
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rules(&["mount", "keyctl", "no_such_call"], "SCMP_ACT_ERRNO")] }),
        json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rules(&own, "SCMP_ACT_ALLOW")] }),
        json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rules(&own[..3], "SCMP_ACT_ALLOW")] }),
        json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rules(&["read"], "SCMP_ACT_ALLOW")] }),
        json!({ "defaultAction": "SCMP_ACT_NOTIFY" }),
    ])
}

fn edit() -> BoxedStrategy<Edit> {
    let flag = || one_of([json!(null), json!(true), json!(false)]);
    let id = || one_of([json!(0), json!(1), json!(1000), json!(65_535), json!(65_536), json!(2_147_483_647u32)]);
    let device =
        |path: &str, major: i64, minor: i64| json!({ "path": path, "type": "c", "major": major, "minor": minor });
    prop_oneof![
        at("/process/noNewPrivileges", flag()),
        at("/process/noNewPrivileges", Just(json!(false))),
        at("/linux/seccomp", profile()),
        at("/process/capabilities", prop_oneof![Just(Value::Null), capabilities()]),
        at("/process/user/uid", id()),
        at("/process/user/gid", id()),
        at("/process/user/additionalGids", one_of([json!(null), json!([0, 10, 10]), json!([65_536])])),
        at("/process/user/umask", one_of([json!(null), json!(18)])),
        at("/process/terminal", flag()),
        at("/process/oomScoreAdj", one_of([json!(null), json!(-500), json!(1000)])),
        at(
            "/process/rlimits",
            one_of([json!(null), json!([]), json!([{ "type": "RLIMIT_NOFILE", "soft": 9, "hard": 9 }])])
        ),
        at("/root/readonly", flag()),
        at("/hostname", one_of([json!(null), json!("web"), json!("")])),
        at("/domainname", one_of([json!(null), json!("example.org")])),
        at("/hooks", hooks()),
        at("/moon", one_of([json!(null), json!({ "a": 1 })])),
        at("/mounts", one_of([json!(null), json!([])])),
        at("/mounts", prop::collection::vec(mount(), 0..5).prop_map(Value::from)),
        at("/mounts/-", mount()),
        at("/mounts/-", mount()),
        at(
            "/mounts/-",
            Just(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"] }))
        ),
        at("/linux/namespaces", namespaces()),
        at(
            "/linux/namespaces",
            some_of(&NAMESPACES).prop_map(|n| { n.as_array().unwrap().iter().map(|n| json!({ "type": n })).collect() })
        ),
        at("/linux/uidMappings", maps()),
        at("/linux/gidMappings", maps()),
        at("/linux/seccomp", profile()),
        at(
            "/linux/rootfsPropagation",
            one_of([json!(null), json!("rslave"), json!("shared"), json!("private"), json!("x")])
        ),
        at("/linux/maskedPaths", one_of([json!(null), json!([]), json!(["/proc/kcore", "/x"])])),
        at("/linux/readonlyPaths", one_of([json!(null), json!([]), json!(["/proc/sys"])])),
        at(
            "/linux/devices",
            one_of([
                json!(null),
                json!([device("/dev/null", 1, 3)]),
                json!([device("/dev/fuse", 10, 229)]),
                json!([device("/dev/a/../null", 1, 5)])
            ])
        ),
        at(
            "/linux/sysctl",
            one_of([
                json!(null),
                json!({ "net.ipv4.ping_group_range": "0 2147483647" }),
                json!({ "net.ipv4.ping_group_range": "0 many" }),
                json!({ "net.ipv4.ping_group_range": "4294967296" }),
                json!({ "kernel.core_pattern": "x" }),
                json!({ "kernel/shmmax": "1" })
            ])
        ),
        at("/linux/cgroupsPath", one_of([json!(null), json!("/a/b"), json!("c"), json!("/"), json!("")])),
        at(
            "/linux/resources/memory",
            one_of([json!(null), json!({ "limit": 67_108_864 }), json!({ "limit": -1, "swap": -1 })])
        ),
        at(
            "/linux/resources/cpu",
            one_of([json!(null), json!({ "quota": 50_000, "period": 100_000 }), json!({ "cpus": "0-1" })])
        ),
        at("/linux/resources/blockIO", one_of([json!(null), json!({ "weight": 500 }), json!({ "weight": 5 })])),
        at(
            "/linux/resources/pids",
            one_of([json!(null), json!({ "limit": 7 }), json!({ "limit": -1 }), json!({ "limit": 0 })])
        ),
        at(
            "/linux/resources/devices",
            one_of([
                json!(null),
                json!([{ "allow": false, "access": "rwm" }]),
                json!([{ "allow": true, "access": "rwm" }])
            ])
        ),
        at("/process/apparmorProfile", one_of([json!(null), json!("unconfined")])),
    ]
    .boxed()
}

fn set(config: &mut Value, path: &str, value: Value) {
    let mut here = config;
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    for (i, part) in parts.iter().enumerate() {
        let last = i + 1 == parts.len();
        if *part == "-" {
            match here {
                Value::Array(list) => list.push(value),
                other => *other = json!([value]),
            }
            return;
        }
        if !here.is_object() {
            *here = json!({});
        }
        let map = here.as_object_mut().unwrap();
        if last {
            if value.is_null() {
                map.remove(*part);
            } else {
                map.insert((*part).to_owned(), value);
            }
            return;
        }
        here = map.entry(*part).or_insert(Value::Null);
    }
}

fn config() -> impl Strategy<Value = Value> {
    (select(EXAMPLES.to_vec()), prop::collection::vec(edit(), 0..7)).prop_map(|(base, edits)| {
        let mut config = example(base);
        for (path, value) in edits {
            set(&mut config, path, value);
        }
        config
    })
}

/// `strict`, `oci`, or an operator's change of one.
fn policy() -> impl Strategy<Value = Policy> {
    let change = select(vec![
        json!({}),
        json!({}),
        json!({ "namespaces": { "joined": "allow" } }),
        json!({ "namespaces": { "silent": ["mount", "pid"] } }),
        json!({ "capabilities": { "above": "refuse" } }),
        json!({ "capabilities": { "above": "allow" } }),
        json!({ "noNewPrivileges": { "explicitFalse": "allow" } }),
        json!({ "noNewPrivileges": { "silent": false } }),
        json!({ "seccomp": { "floor": "none" } }),
        json!({ "seccomp": { "silent": "none" } }),
        json!({ "readonlyRoot": { "silent": false, "explicitFalse": "tighten" } }),
        json!({ "hooks": "allow", "devices": "allow", "propagation": "allow", "unknownFields": "allow" }),
        json!({ "hooks": "allow", "userNamespacesInside": "allow" }),
        json!({ "hostRootMapped": "allow", "callerGroups": "allow", "unknownFields": "allow" }),
        json!({ "limits": { "pids": null, "memory": null, "cpus": 0.25 }, "rlimits": { "RLIMIT_NPROC": [9, 9] } }),
        json!({ "mounts": { "fillStandard": false, "nodev": false } }),
    ]);
    (select(vec!["strict", "strict", "oci"]), change).prop_map(|(base, mut change)| {
        if change == json!({}) {
            return Policy::load(base).unwrap();
        }
        change["extends"] = base.into();
        change["name"] = format!("{base}, changed").into();
        Policy::from_json(&change.to_string(), "operator.json").unwrap()
    })
}

fn host() -> impl Strategy<Value = Host> {
    let nested = Host { initial_userns: false, ids: v2().ids, ..v2() };
    let old = Host { kernel: "5.4.0".into(), ..v2() };
    let bare = Host { cgroup: Default::default(), ..v2() };
    let grouped = Host { groups: vec![1000, 27], ..single() };
    // What is at the paths that the configs name: owned by the user namespace there, or by the host's.
    let named = |owner: u64| {
        let maps = Maps { uids: vec![(0, 700_000, 65_536)], gids: vec![(0, 700_000, 65_536)], setgroups: true };
        let all = plan::Ns::ALL.into_iter().map(|ns| {
            let user = ns == plan::Ns::User;
            let facts = Facts {
                flag: ns.flag(),
                inode: 10 + ns.flag(),
                ours: owner == 0 && !user,
                owners: if user { vec![1] } else { vec![owner, 1] },
                maps: user.then(|| maps.clone()),
            };
            Named { path: format!("/proc/1/ns/{}", ns.name()).into(), seen: Seen::Namespace(facts) }
        });
        all.collect::<Vec<_>>()
    };
    let inside = Host { namespaces: named(10 + plan::Ns::User.flag()), ..v2() };
    let pod = Host { namespaces: inside.namespaces.clone(), ..rootless() };
    let foreign = Host { namespaces: named(1), ..v2() };
    let ours = Host { namespaces: named(0), ..v2() };
    let lacking = Host { caps: v2().caps & !(1 << 13), ..v2() };
    select(vec![
        v2(),
        v2(),
        hybrid(),
        rootless(),
        rootless(),
        single(),
        nested,
        old,
        bare,
        grouped,
        lacking,
        inside,
        pod,
        foreign,
        ours,
    ])
}

// ---- what must hold

fn kind(step: &Value) -> &str {
    step["kind"].as_str().unwrap_or_else(|| panic!("a step without a kind: {step}"))
}

/// A step and those inside a `Try`.
fn flat(step: &Value) -> Vec<&Value> {
    match kind(step) {
        "try" => [flat(&step["step"]), flat(&step["or"])].concat(),
        _ => vec![step],
    }
}

fn bits(step: &Value, set: &str) -> u64 {
    step["caps"][set].as_u64().unwrap_or_else(|| panic!("{set} in {step}"))
}

/// A path as the container sees it: absolute, plain, and nothing that was resolved on the host.
fn in_container(path: &str) -> bool {
    Path::new(path).is_absolute()
        && !path.split('/').skip(1).any(|part| part == ".." || part == "." || (part.is_empty() && path != "/"))
        && !path.starts_with("/bundle/rootfs")
}

/// All promises, on one plan.
pub fn check(config: &Value, policy: &Policy, host: &Host, plan: &Plan) {
    let json = serde_json::to_value(plan).unwrap();
    let steps = json["steps"].as_array().unwrap();
    let kinds: Vec<&str> = steps.iter().map(kind).collect();
    let find = |k: &str| kinds.iter().position(|x| *x == k);
    let the = |k: &str| {
        assert_eq!(kinds.iter().filter(|x| **x == k).count(), 1, "{k} once: {kinds:?}");
        find(k).unwrap()
    };
    words(plan);
    tail(&kinds, steps);
    // The ladder's rungs, each once and in order.
    let rungs = ["record", "clone", "dieWithParent", "go", "awaitGo", "newSession", "pivot", "closeFds", "exec"];
    let places: Vec<usize> = rungs.iter().map(|r| the(r)).collect();
    assert!(places.is_sorted(), "{rungs:?} at {places:?}");
    let copied = usize::from(find("ownBinary") == Some(0));
    assert_eq!(find("ownBinary").is_some(), copied == 1, "the copy of the binary before all else");
    assert_eq!((places[0], places[8]), (copied, kinds.len() - 1), "record first, exec last");

    // Nothing is mounted after the pivot, nor after Landlock.
    for mark in ["pivot", "landlock"] {
        if let Some(mark) = find(mark) {
            assert!(!kinds[mark..].iter().any(|k| MOUNTING.contains(k)), "a mount after: {kinds:?}");
        }
    }
    // A mask before a mount could be covered by it.
    for cover in ["mask", "readonlyPaths"] {
        if let Some(cover) = find(cover) {
            assert!(!kinds[cover..].iter().any(|k| PLACING.contains(k)), "a mount after a mask: {kinds:?}");
        }
    }
    // Limits and devices are there before the process is.
    for before in ["makeCgroup", "limits", "deviceProgram", "join", "cloneSource"] {
        assert!(kinds.iter().rposition(|k| *k == before).is_none_or(|p| p < places[1]), "{before} after clone");
    }
    assert_eq!(steps[places[1]]["intoCgroup"], find("makeCgroup").is_some());
    assert_eq!(json["cgroup"].is_string(), find("makeCgroup").is_some());

    // Maps: written once for a new user namespace, before go, never onto root of the host.
    let new: Vec<&str> =
        steps[places[1]]["namespaces"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    // Or one that somebody else made, where the policy lets a bundle name it.
    let joined =
        find("join").is_some_and(|at| steps[at]["namespaces"].as_array().unwrap().iter().any(|j| j["ns"] == "mount"));
    assert!(new.contains(&"mount") || (joined && policy.namespaces.joined == Above::Allow), "no mount namespace");
    assert_eq!(find("mapIds").is_some(), new.contains(&"user"));
    if let Some(map) = find("mapIds") {
        assert!(places[1] < map && map < places[3], "maps between clone and go");
        assert_eq!((&steps[map]["uids"], &steps[map]["gids"]), (&json["uidMap"], &json["gidMap"]));
        if host.privileged() && policy.host_root_mapped != Above::Allow {
            let ids = [&plan.uid_map, &plan.gid_map];
            assert!(!ids.iter().any(|m| m.iter().any(|m| m.outside == 0)), "host id 0 in {ids:?}");
        }
    }
    // max_user_namespaces is the host's, unless this launch made the user namespace; and capabilities are still there.
    let inside = policy.user_namespaces_inside != Above::Allow;
    assert_eq!(find("noUserNamespaces").is_some(), inside && new.contains(&"user"));
    assert!(
        find("noUserNamespaces").is_none_or(|p| p < find("capabilities").unwrap() && p > find("becomeRoot").unwrap())
    );
    assert!(!inside || new.contains(&"user") || plan.findings.iter().any(|f| f.rule == "userNamespacesInside"));

    for step in steps {
        for one in flat(step) {
            let paths: Vec<&str> = ["target", "path"]
                .iter()
                .filter(|f| **f == "target" || kind(one) == "chdir")
                .filter_map(|f| one[*f].as_str())
                .chain(one["paths"].as_array().into_iter().flatten().filter_map(Value::as_str))
                .chain(one["nodes"].as_array().into_iter().flatten().filter_map(|n| n["path"].as_str()))
                .collect();
            for path in paths {
                assert!(in_container(path), "{} holds {path}", kind(one));
            }
        }
        if kind(step) == "try" {
            let on = step["on"].as_array().unwrap();
            assert!(!on.is_empty() && !on.iter().any(|e| *e == "EPERM" || *e == "EACCES"), "a Try on {on:?}");
            for field in ["rule", "field", "asked", "given", "why"] {
                assert!(!step["finding"][field].as_str().unwrap().is_empty(), "a Try without a finding: {step}");
            }
        }
    }
    asked_capabilities(config, steps);
    silences(config, policy, host, plan, &kinds, steps);
}

/// What the workload ends with was asked for: nothing is given on top, and nothing carried up to the filter stays.
fn asked_capabilities(config: &Value, steps: &[Value]) {
    let last = steps.iter().rfind(|s| kind(s) == "capabilities").unwrap();
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        let asked = config.pointer(&format!("/process/capabilities/{set}")).and_then(Value::as_array);
        let asked = asked.into_iter().flatten().filter_map(|n| n.as_str()?.parse::<caps::Capability>().ok());
        let asked = asked.fold(0, |all, cap| all | 1u64 << cap.index());
        assert_eq!(bits(last, set) & !asked, 0, "{set} holds more than was asked");
    }
}

/// Every step says what it is and why, in lines that stay lines.
fn words(plan: &Plan) {
    for step in &plan.steps {
        let (why, against) = step.why();
        for (what, words) in [("name", step.name()), ("subject", &step.subject()), ("why", why), ("against", against)] {
            assert!(!words.trim().is_empty(), "no {what}: {step:?}");
        }
        assert_ne!(why, "-", "no reason: {step:?}");
    }
    for finding in &plan.findings {
        for words in [&finding.rule, &finding.field, &finding.asked, &finding.given, &finding.why] {
            assert!(!words.is_empty(), "{finding:?}");
        }
    }
}

/// Exactly one of the legal tails.
fn tail(kinds: &[&str], steps: &[Value]) {
    let from = kinds.iter().position(|k| *k == "closeFds").unwrap();
    let tail = &kinds[from..];
    let nnp = tail.contains(&"noNewPrivs");
    let filters = tail.iter().filter(|k| **k == "seccomp").count();
    let carried = !nnp && filters > 0;
    let mut legal = vec!["closeFds"];
    if tail.contains(&"landlock") {
        legal.push("landlock");
    }
    legal.extend(["bounding", "ids", "capabilities"]);
    if nnp {
        legal.push("noNewPrivs");
    }
    if tail.contains(&"umask") {
        legal.push("umask");
    }
    legal.extend(["chdir", "findProgram", "ready"]);
    let stub = tail.contains(&"stub");
    let gate = if tail.contains(&"containerHooks") { vec!["gate", "containerHooks"] } else { vec!["gate"] };
    let mut filtered = vec!["seccomp"; filters];
    if carried {
        filtered.push("capabilities");
    }
    // The stub has the rights of the workload: what takes more comes before it.
    let rest = match (stub, carried) {
        (true, true) => [filtered, vec!["stub"], gate],
        (true, false) => [vec!["stub"], gate, filtered],
        (false, _) => [gate, filtered, vec![]],
    };
    legal.extend(rest.concat());
    legal.push("exec");
    assert_eq!(tail, legal, "none of the legal tails");
    assert!(!(stub && (tail.contains(&"containerHooks") || kinds[0] == "ownBinary")), "{tail:?}");
    for once in ["noNewPrivs", "bounding", "ids", "ready", "gate", "seccomp"] {
        assert!(!kinds[..from].contains(&once), "{once} before the tail");
    }
    let sets: Vec<&Value> = steps.iter().filter(|s| kind(s) == "capabilities").collect();
    let (first, last) = (sets[0], sets[sets.len() - 1]);
    if carried {
        for set in ["permitted", "effective"] {
            assert_ne!(bits(first, set) & SYS_ADMIN, 0, "without SYS_ADMIN the filter is refused");
            assert_eq!(bits(first, set), bits(last, set) | SYS_ADMIN, "only SYS_ADMIN is carried");
        }
    }
    for set in ["bounding", "inheritable", "ambient"] {
        assert_eq!(bits(first, set), bits(last, set));
    }
    assert_eq!(bits(last, "effective") & !bits(last, "permitted"), 0);
    assert_eq!(bits(last, "ambient") & !(bits(last, "permitted") & bits(last, "inheritable")), 0);
    let bounding = steps.iter().find(|s| kind(s) == "bounding").unwrap();
    assert_eq!(bounding["keep"].as_u64().unwrap(), bits(last, "bounding"));
}

/// What a policy fills is filled, and said.
fn silences(config: &Value, policy: &Policy, host: &Host, plan: &Plan, kinds: &[&str], steps: &[Value]) {
    let said = |rule: &str, field: &str| plan.findings.iter().any(|f| f.rule == rule && f.field == field);
    let expect = |rule: &str, field: &str| assert!(said(rule, field), "{field} was silent, and no finding of {rule}");
    let silent = |path: &str| config.pointer(path).is_none_or(Value::is_null);
    let the = |k: &str| steps.iter().find(|s| kind(s) == k);

    let listed: Vec<&str> = config
        .pointer("/linux/namespaces")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|n| n["type"].as_str())
        .collect();
    let own = |n: &str| {
        listed.contains(&n)
            || plan
                .steps
                .iter()
                .any(|s| matches!(s, plan::Step::Clone { namespaces, .. } if namespaces.iter().any(|x| x.name() == n)))
    };
    for name in policy.namespaces.silent.iter().filter(|n| !listed.contains(&n.as_str())) {
        let filled =
            plan.findings.iter().any(|f| f.field == "linux.namespaces" && f.given.split(' ').any(|w| w == name));
        assert!(filled && (own(name) || (name == "time" && host.kernel_version() < (5, 6))), "{name} was silent");
    }
    if silent("/process/capabilities") {
        expect("capabilities", "process.capabilities");
        assert!(!kinds.contains(&"noNewPrivs") || bits(the("capabilities").unwrap(), "permitted") == 0);
    }
    if policy.no_new_privileges.silent && config.pointer("/process/noNewPrivileges") != Some(&json!(true)) {
        let tightened = silent("/process/noNewPrivileges") || policy.no_new_privileges.explicit_false == Above::Tighten;
        assert_eq!(kinds.contains(&"noNewPrivs"), tightened);
        assert!(!tightened || said("noNewPrivileges", "process.noNewPrivileges"));
    }
    let filters = kinds.iter().filter(|k| **k == "seccomp").count();
    if silent("/linux/seccomp") {
        assert_eq!(filters, usize::from(policy.seccomp.silent == Profile::Default));
        assert!(filters == 0 || said("seccomp", "linux.seccomp"));
    } else {
        assert_eq!(filters, 1 + usize::from(policy.seccomp.floor == Profile::Default));
        assert!(filters == 1 || said("seccomp", "linux.seccomp"));
    }
    let frozen =
        steps.iter().any(|s| kind(s) == "setAttr" && s["target"] == "/" && s["attr"]["set"].as_u64().unwrap() & 1 != 0);
    match config.pointer("/root/readonly").and_then(Value::as_bool) {
        None => {
            assert_eq!(frozen, policy.readonly_root.silent);
            assert!(!frozen || said("readonlyRoot", "root.readonly"));
        }
        Some(false) => assert_eq!(frozen, policy.readonly_root.explicit_false == Above::Tighten),
        Some(true) => assert!(frozen),
    }
    for (key, step, floor) in
        [("maskedPaths", "mask", &policy.masked_paths), ("readonlyPaths", "readonlyPaths", &policy.readonly_paths)]
    {
        let asked = config.pointer(&format!("/linux/{key}")).cloned().unwrap_or(json!([]));
        let asked: Vec<&str> = asked.as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
        let given = the(step).map(|s| s["paths"].clone()).unwrap_or(json!([]));
        let given: Vec<&str> = given.as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
        assert!(
            floor.iter().map(String::as_str).chain(asked.iter().copied()).all(|p| given.contains(&p)),
            "{key}: {given:?}"
        );
        if floor.iter().any(|p| !asked.contains(&p.as_str())) {
            expect(key, &format!("linux.{key}"));
        }
    }
    let mounts = config.pointer("/mounts").and_then(Value::as_array).cloned().unwrap_or_default();
    if policy.mounts.fill_standard {
        for place in ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"] {
            let there = mounts
                .iter()
                .any(|m| plan::mounts::normal(Path::new(m["destination"].as_str().unwrap())) == Path::new(place));
            let filled =
                plan.findings.iter().any(|f| f.rule == "mounts.fillStandard" && f.given.split(' ').any(|w| w == place));
            assert_ne!(there, filled, "{place}");
        }
    }
    // A flag that the policy wants on every mount is on every mount, or on the slot that it comes from.
    for step in steps.iter().flat_map(flat) {
        let flags =
            |step: &Value| step["attr"]["set"].as_u64().unwrap_or(0) | step["attr"]["set_below"].as_u64().unwrap_or(0);
        let from_slot = step["source"]["slot"].is_u64();
        if matches!(kind(step), "filesystem" | "bind" | "cloneSource" | "idmap") && !from_slot {
            assert!(!policy.mounts.nosuid || flags(step) & plan::attr::NOSUID != 0, "not nosuid: {step}");
            let devices = step["fstype"] == "devpts" || (step["fstype"] == "tmpfs" && step["target"] == "/dev");
            assert!(!policy.mounts.nodev || devices || flags(step) & plan::attr::NODEV != 0, "not nodev: {step}");
            assert!(
                step["attr"]["set_below"].as_u64().unwrap() & step["attr"]["clear_below"].as_u64().unwrap() & 0xf == 0,
                "{step}"
            );
        }
    }
    for name in policy.rlimits.keys() {
        let asked = config
            .pointer("/process/rlimits")
            .and_then(Value::as_array)
            .is_some_and(|l| l.iter().any(|r| r["type"] == **name));
        let found = plan.findings.iter().any(|f| f.rule == "rlimits" && f.given.starts_with(name.as_str()));
        assert_ne!(asked, found, "{name}");
        assert!(the("rlimits").is_some_and(|s| s["values"].to_string().contains(name.as_str())));
    }
    for (limit, file) in [(policy.limits.pids.is_some(), "pids.max"), (policy.limits.memory.is_some(), "memory.max")] {
        let value = match file {
            "pids.max" => config.pointer("/linux/resources/pids/limit"),
            _ => config.pointer("/linux/resources/memory/limit"),
        };
        if limit && value.is_none_or(|v| *v == 0) {
            let found =
                plan.findings.iter().filter(|f| f.rule == "limits" && f.given.contains(&format!("{file}="))).count();
            let written = the("limits").is_some_and(|s| s["values"].to_string().contains(file));
            assert_eq!(found, 1, "{file} was silent: said once, whether it holds or is lost");
            assert_eq!(
                written,
                !plan
                    .findings
                    .iter()
                    .any(|f| f.rule == "limits" && f.given.starts_with("no ") && f.given.contains(file))
            );
        }
    }
    if policy.name == "strict" {
        assert!(
            kinds.contains(&"noNewPrivs")
                && filters > 0
                && !kinds.iter().any(|k| matches!(*k, "hooks" | "containerHooks" | "join"))
        );
        let caps = steps.iter().rfind(|s| kind(s) == "capabilities").unwrap();
        for name in ["CAP_SYS_ADMIN", "CAP_NET_RAW", "CAP_MKNOD", "CAP_SYS_PTRACE"] {
            let bit = 1u64 << name.parse::<caps::Capability>().unwrap().index();
            for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
                assert_eq!(bits(caps, set) & bit, 0, "{name} in {set}");
            }
        }
    }
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_plan_keeps_every_promise(config in config(), policy in policy(), host in host(), preserve in 0u32..3) {
        let Ok(bundle) = try_bundle(&config) else { return Ok(()) };
        let options = Options { id: "box".into(), preserve_fds: preserve, ..Options::default() };
        match plan::plan(&bundle, &policy, &host, &options) {
            Ok(plan) => check(&config, &policy, &host, &plan),
            Err(e) => prop_assert!(!e.step.is_empty() && !e.to_string().contains('\n'), "{e:?}"),
        }
    }

    /// Valid JSON in any place: an error or a plan, never a panic.
    #[test]
    fn no_config_makes_the_planner_panic(
        config in config(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), nonsense()), 1..5),
        policy in policy(),
        host in host(),
    ) {
        let mut config = config;
        for (index, value) in hits {
            let places = places(&config);
            let place = &places[index.index(places.len())];
            if let Some(here) = config.pointer_mut(place) {
                *here = value;
            }
        }
        let Ok(bundle) = try_bundle(&config) else { return Ok(()) };
        let Ok(plan) = plan_of(&bundle, &policy, &host) else { return Ok(()) };
        let text = plan::explain::text(&plan, &host);
        prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        prop_assert!(plan::explain::json(&plan, &host).is_object());
    }
}

fn nonsense() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        select(vec![0i64, 1, -1, 4096, 65_536, i64::from(u32::MAX), i64::MAX, i64::MIN]).prop_map(Value::from),
        select(vec![
            "",
            "/",
            "..",
            "/../..",
            "a\nb",
            "\u{1b}[2J",
            "rshared",
            "CAP_MOON",
            "0 4294967295",
            "é/ü",
            "-",
            "/proc",
            "*"
        ])
        .prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-z]{1,6}", inner, 0..3).prop_map(|m| m.into_iter().collect()),
        ]
    })
    .boxed()
}

/// The JSON pointers of every value in a config.
fn places(value: &Value) -> Vec<String> {
    fn walk(value: &Value, here: &str, all: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                map.iter()
                    .for_each(|(k, v)| walk(v, &format!("{here}/{}", k.replace('~', "~0").replace('/', "~1")), all));
            }
            Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| walk(v, &format!("{here}/{i}"), all)),
            _ => {}
        }
        all.push(here.to_owned());
    }
    let mut all = Vec::new();
    walk(value, "", &mut all);
    all
}

/// The rarer of the two tails, made on purpose.
#[test]
fn without_no_new_privs_sys_admin_is_carried_up_to_the_filter_and_no_further() {
    let policy = Policy::load("oci").unwrap();
    for own in [json!(["CAP_KILL"]), json!(["CAP_SYS_ADMIN"]), json!([])] {
        let mut config = example("usual");
        set(&mut config, "/process/noNewPrivileges", json!(false));
        set(&mut config, "/process/capabilities", json!({ "bounding": own, "permitted": own, "effective": own }));
        set(&mut config, "/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW" }));
        let plan = plan_of(&bundle_of(&config), &policy, &v2()).unwrap();
        let sets = plan.steps.iter().filter(|s| matches!(s, plan::Step::Capabilities { .. })).count();
        assert_eq!(sets, 2, "once with SYS_ADMIN for the filter, once without");
        check(&config, &policy, &v2(), &plan);
    }
}

/// The generator is worth something only if it makes plans, of all kinds.
#[test]
fn the_generator_reaches_every_kind_of_step() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    let (mut plans, mut refused) = (0, 0);
    for _ in 0..1500 {
        let (config, policy, host) = (config(), policy(), host()).new_tree(&mut runner).unwrap().current();
        let Ok(bundle) = try_bundle(&config) else { continue };
        match plan_of(&bundle, &policy, &host) {
            Ok(plan) => {
                plans += 1;
                let json = serde_json::to_value(&plan).unwrap();
                seen.extend(json["steps"].as_array().unwrap().iter().flat_map(flat).map(|s| kind(s).to_owned()));
            }
            Err(_) => refused += 1,
        }
    }
    assert!(plans > 300 && refused > 100, "{plans} plans, {refused} refusals");
    for kind in [
        "record",
        "cloneSource",
        "makeCgroup",
        "limits",
        "ioWeights",
        "deviceProgram",
        "delegate",
        "join",
        "clone",
        "mapIds",
        "oomScoreAdj",
        "raiseRlimits",
        "idmap",
        "hooks",
        "go",
        "dieWithParent",
        "awaitGo",
        "newSession",
        "becomeRoot",
        "detach",
        "attachRootfs",
        "filesystem",
        "bind",
        "devices",
        "console",
        "setAttr",
        "mask",
        "readonlyPaths",
        "containerHooks",
        "pivot",
        "hostname",
        "domainname",
        "loopback",
        "sysctls",
        "noUserNamespaces",
        "rlimits",
        "umask",
        "closeFds",
        "bounding",
        "ids",
        "capabilities",
        "noNewPrivs",
        "chdir",
        "findProgram",
        "ready",
        "gate",
        "seccomp",
        "exec",
    ] {
        assert!(seen.contains(kind), "{kind} never appears in {plans} plans");
    }
}
