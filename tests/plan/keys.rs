//! The policies for engines, key by key, as policy.rs has those of `strict`: every key that holds something back is in the
//! table, and loosened by an operator's file that changes it alone. And that nobody else loosens a key of any policy:
//! whatever a config says in annotations, its environment or fields of its own making, what comes out is the same.

use super::engines::{host, sent, with_mount};
use super::fixtures::*;
use super::policy::{Rule, attempt, beside, has, keys, lines, merge, refused, rules, wrong};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const ENGINES: [&str; 2] = ["engine", "engine-build"];

/// Keys whose value `oci` has, too, and which hold something back all the same.
const ALSO_OF_OCI: [&str; 2] = ["limits.withoutController", "sessionKeyring"];

/// A config that an engine sends, changed.
fn changed(name: &str, change: impl Fn(&mut Value)) -> Value {
    let mut config = sent(name);
    change(&mut config);
    config
}

fn engine_rules() -> Vec<Rule> {
    let docker = || sent("docker");
    let every_device =
        changed("docker", |c| c["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]));
    let unlimited = changed("docker", |c| drop(c["linux"]["resources"].as_object_mut().unwrap().remove("memory")));
    let uncounted = changed("docker", |c| drop(c["linux"]["resources"].as_object_mut().unwrap().remove("pids")));
    let unnamed = changed("docker", |c| drop(c["process"].as_object_mut().unwrap().remove("apparmorProfile")));
    let ext4 = json!({ "destination": "/x", "type": "ext4", "source": "/dev/sdz" });
    vec![
        Rule {
            key: "privileged",
            config: sent("docker-privileged"),
            host,
            held: |r| refused(r, &["process.capabilities", "nothing masked", "policy key privileged"]),
            loosened: json!({ "privileged": "tighten" }),
            then: |r| has(r, &["finding privileged process.capabilities"]),
        },
        Rule {
            key: "capabilities.ceiling",
            config: docker(),
            host,
            held: |r| has(r, &["finding capabilities", "NET_RAW"]) && !has(r, &["bounding set", "NET_RAW"]),
            loosened: json!({ "capabilities": { "ceiling": ["NET_RAW"] } }),
            then: |r| has(r, &["bounding set: keep NET_RAW"]),
        },
        Rule {
            key: "capabilities.above",
            config: docker(),
            host,
            held: |r| has(r, &["finding capabilities", "AUDIT_WRITE"]) && !has(r, &["bounding set", "AUDIT_WRITE"]),
            loosened: json!({ "capabilities": { "above": "allow" } }),
            then: |r| has(r, &["bounding set", "NET_RAW", "AUDIT_WRITE"]) && !has(r, &["finding capabilities"]),
        },
        Rule {
            key: "noNewPrivileges.silent",
            config: docker(),
            host,
            held: |r| has(r, &["no_new_privs: set"]) && has(r, &["finding noNewPrivileges", "silent -> true"]),
            loosened: json!({ "noNewPrivileges": { "silent": false } }),
            then: |r| r.is_ok() && !has(r, &["no_new_privs"]),
        },
        Rule {
            key: "noNewPrivileges.explicitFalse",
            config: sent("crio"),
            host,
            held: |r| has(r, &["no_new_privs: set"]) && has(r, &["finding noNewPrivileges", "false -> true"]),
            loosened: json!({ "noNewPrivileges": { "explicitFalse": "allow" } }),
            then: |r| r.is_ok() && !has(r, &["no_new_privs"]),
        },
        Rule {
            key: "seccomp.silent",
            config: sent("docker-host"),
            host,
            held: |r| has(r, &["seccomp: default"]) || has(r, &["seccomp: build"]),
            loosened: json!({ "seccomp": { "silent": "none" } }),
            then: |r| r.is_ok() && !has(r, &["seccomp: "]),
        },
        Rule {
            key: "seccomp.floor",
            config: docker(),
            host,
            held: |r| {
                has(r, &["seccomp: linux.seccomp"]) && (has(r, &["seccomp: default"]) || has(r, &["seccomp: build"]))
            },
            loosened: json!({ "seccomp": { "floor": "none" } }),
            then: |r| {
                has(r, &["seccomp: linux.seccomp"]) && !has(r, &["seccomp: default"]) && !has(r, &["seccomp: build"])
            },
        },
        Rule {
            key: "mounts.nosuid",
            config: with_mount("/srv", &["rbind", "ro"]),
            host,
            held: |r| has(r, &["open_tree: /srv and below", "(rro,rnosuid)"]),
            loosened: json!({ "mounts": { "nosuid": false } }),
            then: |r| has(r, &["open_tree: /srv and below", "(rro)"]),
        },
        Rule {
            key: "mounts.recursiveReadonly",
            config: with_mount("/srv", &["rbind", "ro"]),
            host,
            held: |r| has(r, &["open_tree: /srv and below", "(rro,rnosuid)"]),
            loosened: json!({ "mounts": { "recursiveReadonly": false } }),
            then: |r| has(r, &["open_tree: /srv and below", "(ro,rnosuid)"]),
        },
        Rule {
            key: "mounts.types",
            config: changed("docker", |c| c["mounts"].as_array_mut().unwrap().push(ext4.clone())),
            host,
            held: |r| refused(r, &["mounts[11].type", "ext4", "policy key mounts.types"]),
            loosened: json!({ "mounts": { "types": null } }),
            then: |r| has(r, &["mount: ext4 on /x"]),
        },
        Rule {
            key: "mounts.kernelFiles",
            config: with_mount("/proc/sys", &["rbind", "rw"]),
            host,
            held: |r| has(r, &["open_tree: /proc/sys ", "(rro,"]),
            loosened: json!({ "mounts": { "kernelFiles": "allow" } }),
            then: |r| has(r, &["open_tree: /proc/sys "]) && !has(r, &["open_tree: /proc/sys ", "rro"]),
        },
        Rule {
            key: "hostPaths.sensitive",
            config: with_mount("/etc", &["rbind", "rw"]),
            host,
            held: |r| has(r, &["finding hostPaths.sensitiveWritable mounts[11].source /etc, writable"]),
            loosened: json!({ "hostPaths": { "sensitive": ["/boot"] } }),
            then: |r| has(r, &["open_tree: /etc "]) && !has(r, &["finding hostPaths.sensitiveWritable"]),
        },
        Rule {
            key: "daemonSockets",
            config: with_mount("/run/docker.sock", &["rbind", "ro"]),
            host,
            held: |r| refused(r, &["mounts[11].source", "/run/docker.sock", "policy key daemonSockets"]),
            loosened: json!({ "daemonSockets": "allow" }),
            then: |r| has(r, &["open_tree: /run/docker.sock"]),
        },
        Rule {
            key: "maskedPaths",
            config: docker(),
            host,
            held: |r| has(r, &["mask: ", "/proc/interrupts"]) && has(r, &["finding maskedPaths"]),
            loosened: json!({ "maskedPaths": ["/proc/keys"] }),
            then: |r| has(r, &["mask: ", "/proc/keys"]) && !has(r, &["mask: ", "/proc/interrupts"]),
        },
        Rule {
            key: "readonlyPaths",
            config: changed("docker", |c| c["linux"]["readonlyPaths"] = json!([])),
            host,
            held: |r| has(r, &["read-only paths", "/proc/sys /proc/sysrq-trigger"]),
            loosened: json!({ "readonlyPaths": [] }),
            then: |r| r.is_ok() && !has(r, &["read-only paths"]),
        },
        Rule {
            key: "allDevices",
            config: every_device,
            host,
            held: |r| !has(r, &["device program", "allow a *:*"]) && has(r, &["finding allDevices"]),
            loosened: json!({ "allDevices": "allow" }),
            then: |r| has(r, &["device program", "allow a *:* rwm"]) && !has(r, &["finding allDevices"]),
        },
        Rule {
            key: "unruledDevices",
            config: changed("podman", |c| drop(c["linux"]["resources"].as_object_mut().unwrap().remove("pids"))),
            host: || Host { cgroup: Cgroup { disabled: true, ..Cgroup::default() }, ..host() },
            held: |r| has(r, &["finding unruledDevices", "nodev on every mount"]),
            loosened: json!({ "unruledDevices": "allow" }),
            then: |r| has(r, &["finding unruledDevices", "no rule holds"]),
        },
        Rule {
            key: "unlimited",
            config: sent("docker-host"),
            host,
            held: |r| {
                has(r, &["finding unlimited linux.resources.pids.limit"]) && has(r, &["limits: ", "pids.max=4096"])
            },
            loosened: json!({ "unlimited": "allow" }),
            then: |r| has(r, &["limits: ", "pids.max=max"]),
        },
        Rule {
            key: "limits.pids",
            config: uncounted,
            host,
            held: |r| has(r, &["limits: ", "pids.max=4096"]) && has(r, &["finding limits linux.resources.pids.limit"]),
            loosened: json!({ "limits": { "pids": 77 } }),
            then: |r| has(r, &["limits: ", "pids.max=77"]),
        },
        Rule {
            key: "limits.expected",
            config: unlimited,
            host,
            held: |r| has(r, &["finding limits.expected linux.resources.memory.limit silent -> no limit"]),
            loosened: json!({ "limits": { "expected": [] } }),
            then: |r| r.is_ok() && !has(r, &["finding limits.expected"]),
        },
        Rule {
            key: "limits.withoutController",
            config: sent("podman"),
            host: || Host { namespaces: host().namespaces, ..hybrid() },
            held: |r| refused(r, &["linux.resources.pids.limit", "pids.max=2048", "limits.withoutController"]),
            loosened: json!({ "limits": { "withoutController": "finding" } }),
            then: |r| has(r, &["finding limits.withoutController", "pids.max=2048 -> no limit"]),
        },
        Rule {
            key: "lsm.apparmorDefault",
            config: unnamed,
            host,
            held: |r| has(r, &["label: AppArmor stockade-default"]),
            loosened: json!({ "lsm": { "apparmorDefault": null } }),
            then: |r| r.is_ok() && !has(r, &["label: AppArmor"]),
        },
        Rule {
            key: "lsm.unconfined",
            config: changed("docker", |c| c["process"]["apparmorProfile"] = json!("unconfined")),
            host,
            held: |r| has(r, &["finding lsm.unconfined"]) && !has(r, &["label: AppArmor unconfined"]),
            loosened: json!({ "lsm": { "unconfined": "allow" } }),
            then: |r| has(r, &["label: AppArmor unconfined"]),
        },
        Rule {
            key: "foreignAnnotations",
            config: sent("crio"),
            host,
            held: |r| has(r, &["finding foreignAnnotations annotations io.kubernetes.cri-o.", "not obeyed"]),
            loosened: json!({ "foreignAnnotations": "allow" }),
            then: |r| r.is_ok() && !has(r, &["foreignAnnotations"]),
        },
        Rule {
            key: "sessionKeyring",
            config: docker(),
            host,
            held: |r| has(r, &["session: setsid, new session keyring"]),
            loosened: json!({ "sessionKeyring": false }),
            then: |r| lines(r).contains(&"session: setsid".to_owned()),
        },
        Rule {
            key: "userNamespacesInside",
            config: docker(),
            host,
            held: |r| has(r, &["finding userNamespacesInside"]),
            loosened: json!({ "userNamespacesInside": "allow" }),
            then: |r| r.is_ok() && !has(r, &["userNamespacesInside"]),
        },
    ]
}

/// A shipped policy, whole, by its keys.
fn whole(name: &str) -> Value {
    let mut all = json!({});
    let mut chain = vec![name.to_owned()];
    while let Some(next) = chain.pop() {
        let text: Value = serde_json::from_str(stockade::policy::shipped_text(&next).unwrap()).unwrap();
        let mut base = text["extends"].as_str().map_or(json!({}), whole);
        merge(&mut base, &text);
        merge(&mut all, &base);
    }
    all
}

fn at<'a>(policy: &'a Value, key: &str) -> &'a Value {
    key.split('.').fold(policy, |v, k| v.get(k).unwrap_or(&Value::Null))
}

#[test]
fn every_key_of_the_policies_for_engines_does_what_it_says_and_can_be_loosened() {
    let all: Vec<String> = ENGINES.iter().flat_map(|p| engine_rules().into_iter().flat_map(|r| wrong(p, &r))).collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// What a policy gives no further than `oci` does has nothing to loosen; everything else is in the table, or is a verb's
/// rule, below.
#[test]
fn every_key_with_which_an_engine_is_held_back_is_in_the_table() {
    let oci = whole("oci");
    for name in ENGINES {
        let policy = whole(name);
        let mut all = BTreeSet::new();
        keys(&policy, "", &mut all);
        let held: BTreeSet<String> = all
            .into_iter()
            .filter(|k| !["name", "about", "extends", "restore", "noPivot"].contains(&k.as_str()))
            .filter(|k| at(&policy, k) != at(&oci, k) || ALSO_OF_OCI.contains(&k.as_str()))
            .collect();
        assert_eq!(held, engine_rules().iter().map(|r| r.key.to_owned()).collect(), "{name}");
        assert!(held.len() > 20, "{name}: {held:?}");
    }
}

/// The two keys that no config meets: a flag's and a verb's.
#[test]
fn a_flag_and_a_verb_are_the_operators_to_allow() {
    for name in ["strict", "engine", "engine-build"] {
        let loosened = |key: &str, value: &str| {
            Policy::from_json(&json!({ "extends": name, key: value }).to_string(), "operator.json").unwrap()
        };
        let chroot = |policy: &Policy| {
            let options = Options { id: "box".into(), no_pivot: true, ..Options::default() };
            let config = if name == "strict" { example("usual") } else { sent("docker") };
            plan::plan(&bundle_of(&config), policy, &host(), &options).map_err(|e| e.to_string())
        };
        let shipped = Policy::load(name).unwrap();
        assert!(refused(&chroot(&shipped), &["--no-pivot", "policy key noPivot"]), "{name}");
        assert!(has(&chroot(&loosened("noPivot", "allow")), &["finding noPivot --no-pivot"]), "{name}");
        let restored = |policy: &Policy| plan::restore::allowed(policy).map_err(|e| e.to_string());
        assert!(restored(&shipped).is_err_and(|e| e.contains("policy key restore")), "{name}");
        assert!(restored(&loosened("restore", "tighten")).is_err() && restored(&loosened("restore", "allow")).is_ok());
    }
}

/// Says it in every place where a config can say something of its own: that this key be as `change` has it.
fn whispered(config: &Value, key: &str, change: &Value, fields: bool) -> Value {
    let mut config = config.clone();
    let value = at(change, key).clone();
    let words = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut said = json!({
        "policy": "oci", "stockade.policy": "oci", "STOCKADE_POLICY": "oci", "io.kubernetes.cri.privileged": "true",
        "io.podman.annotations.privileged": "TRUE", "io.podman.annotations.seccomp": "unconfined"
    });
    for prefix in
        ["", "stockade.", "stockade/", "policy.", "io.stockade.", "io.github.stockade.policy.", "dev.stockade.strict."]
    {
        said[format!("{prefix}{key}")] = words.clone().into();
    }
    match config.get_mut("annotations").and_then(Value::as_object_mut) {
        Some(annotations) => annotations.extend(said.as_object().unwrap().clone()),
        None => config["annotations"] = said,
    }
    let env = &mut config["process"]["env"];
    let mut list = env.as_array().cloned().unwrap_or_default();
    list.extend([
        "STOCKADE_POLICY=oci".into(),
        format!("STOCKADE_{key}={words}").into(),
        format!("{key}={words}").into(),
    ]);
    *env = list.into();
    if fields {
        for place in ["", "/process", "/linux", "/root"] {
            if let Some(object) = config.pointer_mut(place).and_then(Value::as_object_mut) {
                // What the specification has there means what it says.
                let mine = [("policy", json!("oci")), ("stockade", change.clone()), ("x-policy", change.clone())];
                object.extend(mine.map(|(k, v)| (k.to_owned(), v)));
            }
        }
    }
    config
}

#[test]
fn no_annotation_no_variable_and_no_field_loosens_any_key() {
    let tables = [("strict", rules()), ("engine", engine_rules()), ("engine-build", engine_rules())];
    let (mut seen, mut refusals) = (0, 0);
    for (name, rules) in tables {
        for rule in rules {
            // Fields that nobody knows are refused by `strict`: an operator has allowed them here.
            for fields in [false, true] {
                if fields && rule.key == "unknownFields" {
                    continue;
                }
                let mut file = json!({ "extends": name });
                merge(&mut file, &beside(rule.key));
                if fields {
                    file["unknownFields"] = "allow".into();
                }
                let policy = Policy::from_json(&file.to_string(), "operator.json").unwrap();
                let plain = attempt(&rule.config, &policy, (rule.host)());
                let same = attempt(&whispered(&rule.config, rule.key, &rule.loosened, fields), &policy, (rule.host)());
                let what = format!("{name}: {}, fields {fields}", rule.key);
                assert!((rule.held)(&same), "{what}: is not held any more: {same:?}");
                match (&plain, &same) {
                    (Err(plain), Err(same)) => assert_eq!(plain, same, "{what}"),
                    (Ok(_), Ok(_)) => {
                        let of = |r| -> Vec<String> {
                            let all = lines(r).into_iter();
                            // The workload has its own environment, and of fields that nobody knows it is said.
                            all.filter(|l| !l.starts_with("execve") && !l.starts_with("finding unknownFields"))
                                .collect()
                        };
                        assert_eq!(of(&plain), of(&same), "{what}");
                    }
                    _ => panic!("{what}: {plain:?}, then {same:?}"),
                }
                seen += 1;
                refusals += usize::from(same.is_err());
            }
        }
    }
    assert!(seen > 200 && refusals > 60, "{seen} looks, {refusals} refusals");
}
