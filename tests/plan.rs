//! Decide, as a whole: the plans of the example bundles as text, and what must hold for every plan.
//!
//! No test here but the last needs root: a plan is a value, and the hosts are values too. The texts are in tests/golden;
//! `UPDATE_GOLDEN=1 cargo test --test plan` writes them anew, and the difference is what a reviewer reads.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "plan/engines.rs"]
mod engines;
#[path = "plan/fixtures.rs"]
mod fixtures;
#[path = "plan/keys.rs"]
mod keys;
#[path = "plan/locks.rs"]
mod locks;
#[path = "plan/policy.rs"]
mod policy;
#[path = "plan/properties.rs"]
mod properties;
#[path = "plan/restore.rs"]
mod restore;

use common::{Bundle as Box_, failed, make_rootfs, ok, skip};
use fixtures::*;
use serde_json::Value;
use std::process::{Command, Stdio};
use stockade::plan::explain;

/// What `explain` prints, or the error that stands in its place.
fn explained(bundle: &str, policy: &str, host: &Host) -> String {
    explained_config(&example(bundle), policy, host)
}

fn explained_config(config: &Value, policy: &str, host: &Host) -> String {
    let policy = Policy::load(policy).unwrap();
    let text = match plan_of(&bundle_of(config), &policy, host) {
        Ok(plan) => explain::text(&plan, host),
        Err(e) => format!("refused: {e}\n"),
    };
    // The length of a filter is the profile's matter, not the plan's.
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    let count = |i: usize| words.get(i + 1).is_some_and(|next| next.starts_with("instructions"));
    words.iter().enumerate().map(|(i, w)| if count(i) { "N " } else { w }).collect()
}

#[test]
fn explain_of_the_examples_is_as_written() {
    if !cfg!(target_arch = "x86_64") {
        return skip("explain_of_the_examples_is_as_written", "system calls in the texts are those of x86_64");
    }
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let dir = root().join("tests/golden");
    let (mut written, mut wrong) = (Vec::new(), Vec::new());
    for (host_name, host) in hosts() {
        for bundle in EXAMPLES {
            // The whole table on the host that most have; elsewhere the three bundles that differ most.
            if host_name != "v2" && !["silent", "docker", "limited"].contains(&bundle) {
                continue;
            }
            for policy in ["strict", "oci"] {
                let name = format!("{bundle}.{policy}.{host_name}.txt");
                let path = dir.join(&name);
                let now = explained(bundle, policy, &host);
                if update {
                    std::fs::write(&path, &now).unwrap();
                }
                let golden = std::fs::read_to_string(&path).unwrap_or_default();
                if now != golden {
                    let line = now.lines().zip(golden.lines()).position(|(a, b)| a != b).unwrap_or(0);
                    let at = |t: &str| t.lines().nth(line).unwrap_or("(the end)").to_owned();
                    wrong.push(format!("{name}:{}\n  written: {}\n  now:     {}", line + 1, at(&golden), at(&now)));
                }
                written.push(name);
            }
        }
    }
    for engine in engines::SENT {
        let name = format!("{engine}.engine.v2.txt");
        let now = engines::explained(engine);
        if update {
            std::fs::write(dir.join(&name), &now).unwrap();
        }
        if now != std::fs::read_to_string(dir.join(&name)).unwrap_or_default() {
            wrong.push(format!("{name}: {now}"));
        }
        written.push(name);
    }
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 accepts the change\n{}", wrong.join("\n"));
    let mut there: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    written.sort();
    there.sort();
    assert_eq!(there, written, "a golden text that no test makes");
}

/// docs/ladder.svg is drawn from a plan by docs/ladder.py, so it must not tell of another launch than today's.
#[test]
fn the_picture_of_the_ladder_is_that_of_the_plan() {
    if !cfg!(target_arch = "x86_64") {
        return skip("the_picture_of_the_ladder_is_that_of_the_plan", "device numbers in the text are those of x86_64");
    }
    let host = v2();
    let policy = Policy::load("strict").unwrap();
    let plan = plan_of(&bundle_of(&example("silent")), &policy, &host).unwrap();
    let explained = explain::json(&plan, &host);
    let mut python = Command::new("python3")
        .arg(root().join("docs/ladder.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), explained.to_string().as_bytes()).unwrap();
    let out = python.wait_with_output().unwrap();
    assert!(out.status.success(), "docs/ladder.py failed");
    let drawn = String::from_utf8(out.stdout).unwrap();
    for step in explained["plan"].as_array().unwrap() {
        let name = format!(">{}</text>", step["name"].as_str().unwrap());
        assert!(drawn.contains(&name), "not in the picture: {name}");
    }
    let path = root().join("docs/ladder.svg");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &drawn).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let line = drawn.lines().zip(kept.lines()).find(|(a, b)| a != b);
    assert!(drawn == kept, "UPDATE_GOLDEN=1 cargo test --test plan draws docs/ladder.svg again: {line:?}");
}

#[test]
fn goldens_are_readable_on_a_terminal_of_100_columns() {
    for (_, host) in hosts() {
        for bundle in EXAMPLES {
            for policy in ["strict", "oci"] {
                let text = explained(bundle, policy, &host);
                let long = text.lines().find(|l| l.chars().count() > 100 && l.trim().contains(' '));
                assert!(text.starts_with("refused") || long.is_none(), "{bundle} {policy}: {long:?}");
            }
        }
    }
}

/// A step or a finding as the text has it, with its broken lines made whole again.
#[derive(Debug, Default, PartialEq)]
struct Said {
    number: usize,
    name: String,
    subject: String,
    why: String,
    against: String,
}

fn steps_in(text: &str) -> Vec<Said> {
    let mut steps: Vec<Said> = Vec::new();
    let mut part = "";
    for line in text.split("\nPLAN:").nth(1).unwrap().lines().skip(1) {
        let (label, words) = line.split_at_checked(24).unwrap_or((line, ""));
        let number = label.get(..4).and_then(|n| n.trim().parse().ok());
        if let Some(number) = number {
            steps.push(Said {
                number,
                name: label[5..].trim().into(),
                subject: words.trim().into(),
                ..Said::default()
            });
            part = "subject";
            continue;
        }
        if line.is_empty() || !label.trim().is_empty() {
            continue;
        }
        let Some(step) = steps.last_mut() else { continue };
        let mut rest = words.trim();
        for mark in ["why", "against", "else"] {
            if let Some(after) = words.strip_prefix(&format!("  {mark:<9}")) {
                (part, rest) = (mark, after.trim());
            }
        }
        let field = match part {
            "subject" => &mut step.subject,
            "why" => &mut step.why,
            "against" => &mut step.against,
            _ => continue,
        };
        *field = format!("{field} {rest}").trim().to_owned();
    }
    steps
}

#[test]
fn the_json_has_the_same_numbers_and_words_as_the_text() {
    let mut compared = 0;
    for (host_name, host) in hosts() {
        for bundle in EXAMPLES {
            for policy in ["strict", "oci"] {
                let at = format!("{bundle} {policy} {host_name}");
                let Ok(plan) = plan_of(&bundle_of(&example(bundle)), &Policy::load(policy).unwrap(), &host) else {
                    continue;
                };
                let (text, json) = (explain::text(&plan, &host), explain::json(&plan, &host));
                let said = steps_in(&text);
                let steps = json["plan"].as_array().unwrap();
                assert_eq!(said.len(), steps.len(), "{at}");
                assert!(text.contains(&format!("\nPLAN: {} steps", steps.len())), "{at}");
                let squeeze = |v: &Value| v.as_str().unwrap_or("").split_whitespace().collect::<Vec<_>>().join(" ");
                for (i, (said, step)) in said.iter().zip(steps).enumerate() {
                    assert_eq!((said.number, step["number"].as_u64()), (i + 1, Some(i as u64 + 1)), "{at}");
                    for (field, word) in [
                        ("name", &said.name),
                        ("subject", &said.subject),
                        ("why", &said.why),
                        ("against", &said.against),
                    ] {
                        assert_eq!(
                            word.split_whitespace().collect::<Vec<_>>().join(" "),
                            squeeze(&step[field]),
                            "{at}: step {}, {field}",
                            i + 1
                        );
                    }
                    compared += 1;
                }
                let findings = json["findings"].as_array().unwrap();
                match findings.len() {
                    0 => assert!(text.contains("\nFINDINGS: none"), "{at}"),
                    n => assert!(text.contains(&format!("\nFINDINGS: {n},")), "{at}"),
                }
                for finding in findings {
                    let rule = format!("[{}]", finding["rule"].as_str().unwrap());
                    assert!(
                        text.contains(finding["field"].as_str().unwrap()) && text.contains(&rule),
                        "{at}: {finding}"
                    );
                }
                assert_eq!(json["policy"], policy);
                assert_eq!(json["host"]["kernel"], host.kernel);
            }
        }
    }
    assert!(compared > 500, "only {compared} steps were compared");
}

#[test]
fn a_bundle_cannot_write_into_its_explanation() {
    let mut config = example("silent");
    config["process"]["args"] = serde_json::json!(["sh", "-c", "x\n  41 exec             harmless\u{1b}[2J\u{202e}"]);
    let plan = plan_of(&bundle_of(&config), &Policy::load("strict").unwrap(), &v2()).unwrap();
    let text = explain::text(&plan, &v2());
    assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text}");
    assert_eq!(steps_in(&text).len(), plan.steps.len(), "{text}");
}

#[test]
fn the_example_usual_is_what_spec_writes() {
    let dir = common::scratch();
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(["spec", "--bundle", &dir.path().display().to_string()])
        .output()
        .unwrap();
    ok(&out);
    let text = std::fs::read(dir.path().join("config.json")).unwrap();
    let mut written: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(written["process"]["terminal"], true);
    written["process"]["terminal"] = false.into();
    assert_eq!(written, example("usual"), "examples/bundles/usual is no longer what `stockade spec` writes");
}

/// The examples that a busybox can serve, run for real under both policies.
#[test]
fn the_examples_run() {
    need_root!("the_examples_run");
    for (bundle, policy, expected) in [
        ("silent", "strict", "CapBnd:\t0000000000000000"),
        ("usual", "strict", ""),
        ("usual", "oci", ""),
        ("docker", "strict", "CapBnd:\t00000000000405fb"),
        ("docker", "oci", "CapBnd:\t00000000a80425fb"),
        ("hardened", "strict", "uid=1000"),
        ("hardened", "oci", "uid=1000"),
    ] {
        let mut bundle_ = Box_::silent(&[]).policy(policy);
        bundle_.config = example(bundle);
        make_rootfs(&bundle_.rootfs());
        if bundle == "docker" {
            // A name of its own: other tests may run the same example.
            let cgroup = format!("/{}", bundle_.path().file_name().unwrap().to_string_lossy());
            bundle_.config["linux"]["cgroupsPath"] = cgroup.into();
        }
        let out = ok(&bundle_.run());
        assert!(out.contains(expected), "{bundle} under {policy}: {out}");
    }
    let mut bundle = Box_::silent(&[]).policy("oci");
    bundle.config = example("silent");
    assert!(failed(&bundle.run()).contains("no mount namespace"));
    if !common::controllers(&["memory", "cpu", "pids"]) {
        skip("the_examples_run: limited", "no memory, cpu and pids controllers on cgroup v2");
        let mut bundle = Box_::silent(&[]).policy("strict");
        bundle.config = example("limited");
        assert!(failed(&bundle.run()).contains("cannot be enforced"));
        return;
    }
    for policy in ["strict", "oci"] {
        let mut bundle = Box_::silent(&[]).policy(policy);
        bundle.config = example("limited");
        bundle.config["linux"]["cgroupsPath"] = bundle.path().file_name().unwrap().to_string_lossy().into();
        assert_eq!(ok(&bundle.run()), "67108864\n50000 100000\n32\n", "limited under {policy}");
    }
}
