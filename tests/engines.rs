//! A core of what `tests/engines` does with Podman, within CI's time; and that the examples of engine configuration parse and
//! name what they shall.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
use common::*;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Each looks for what it left behind, and would find the other's.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs the script of Podman, which must do at least so many operations.
fn podman(test: &str, policy: &str, user: bool, words: &[&str], least: usize) {
    need_root!(test);
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for tool in ["podman", "conmon", "busybox", "script"] {
        if Command::new(tool).arg("--version").output().is_err() {
            skip(test, &format!("{tool} is not installed"));
            return;
        }
    }
    let out = Command::new("timeout")
        .args(["--kill-after=10", "400"])
        .arg(format!("{HERE}/tests/engines/view"))
        .args(user.then_some("--user"))
        .arg(format!("{HERE}/tests/engines/podman"))
        .args(words)
        .env("RUNTIME", env!("CARGO_BIN_EXE_stockade"))
        .env("POLICY", policy)
        // What there is on every host; a driver of overlays for an ordinary user is not.
        .env("STORAGE", if user { "vfs" } else { "overlay" })
        .output()
        .unwrap();
    let said = text(&out.stdout);
    assert!(out.status.success(), "{said}{}", text(&out.stderr));
    // What is counted was done: an empty script would succeed, too.
    assert!(said.lines().filter(|l| l.starts_with("ok ")).count() >= least, "{said}");
}

fn core(test: &str, policy: &str) {
    podman(test, policy, false, &["--core"], 35);
}

#[test]
fn podman_of_an_ordinary_user() {
    // What differs from root's: whose ids, which namespaces, and where states are.
    let words = [
        "run: output",
        "(pid uts",
        "userns",
        "run: --uidmap",
        "run -d, ps",
        "logs",
        "exec: output",
        "rename",
        "rm --force of",
        "nothing",
    ];
    podman("podman_of_an_ordinary_user", "oci", true, &words, 12);
}

#[test]
fn a_core_of_podman_under_oci() {
    core("a_core_of_podman_under_oci", "oci");
}

#[test]
fn a_core_of_podman_under_engine() {
    core("a_core_of_podman_under_engine", "engine");
}

fn example(name: &str) -> String {
    std::fs::read_to_string(Path::new(HERE).join("examples/engines").join(name)).unwrap()
}

/// TOML as JSON, by Python.
fn toml(name: &str) -> Value {
    let program = "import json,sys,tomllib; print(json.dumps(tomllib.loads(sys.stdin.read())))";
    let mut child = Command::new("python3")
        .args(["-c", program])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), example(name).as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{name} is not TOML");
    serde_json::from_slice(&out.stdout).unwrap()
}

const INSTALLED: &str = "/usr/local/bin/stockade";

#[test]
fn the_examples_parse_and_name_what_is_installed() {
    let ours: Value = serde_json::from_str(&example("config.json")).unwrap();
    let policies = ["engine", "engine-build", "oci"];
    assert!(policies.contains(&ours["policy"].as_str().unwrap()));

    let docker: Value = serde_json::from_str(&example("daemon.json")).unwrap();
    let default = docker["default-runtime"].as_str().unwrap();
    assert!(docker["runtimes"].get(default).is_some(), "the default runtime is none of the list");
    for (name, runtime) in docker["runtimes"].as_object().unwrap() {
        assert_eq!(runtime["path"], INSTALLED, "{name}");
        let args: Vec<&str> = runtime["runtimeArgs"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        assert!(args.len() == 2 && args[0] == "--policy" && policies.contains(&args[1]), "{name}: {args:?}");
    }

    let podman = toml("containers.conf");
    let name = podman["engine"]["runtime"].as_str().unwrap();
    assert_eq!(podman["engine"]["runtimes"][name][0], INSTALLED);
    for list in ["runtime_supports_json", "runtime_supports_nocgroup"] {
        assert!(podman["engine"][list].as_array().unwrap().iter().any(|n| n == name), "{list}");
    }

    let handler = "stockade";
    for (file, version, plugin) in [
        ("containerd-v2.toml", 2, "io.containerd.grpc.v1.cri"),
        ("containerd-v3.toml", 3, "io.containerd.cri.v1.runtime"),
    ] {
        let config = toml(file);
        assert_eq!(config["version"], version, "{file}");
        let runtime = &config["plugins"][plugin]["containerd"]["runtimes"][handler];
        assert_eq!(runtime["runtime_type"], "io.containerd.runc.v2", "{file}");
        assert_eq!(runtime["options"]["BinaryName"], INSTALLED, "{file}");
    }
    let crio = &toml("crio.conf")["crio"]["runtime"]["runtimes"][handler];
    assert_eq!((crio["runtime_path"].as_str(), crio["runtime_type"].as_str()), (Some(INSTALLED), Some("oci")));

    // No parser of YAML here: the lines that must agree.
    let class = example("runtimeclass.yaml");
    for line in ["apiVersion: node.k8s.io/v1", "kind: RuntimeClass", &format!("handler: {handler}"), "  name: stockade"]
    {
        assert!(class.lines().any(|l| l == line), "{line}");
    }
    assert!(example("pod.yaml").lines().any(|l| l == "  runtimeClassName: stockade"));
}

#[test]
fn each_example_says_in_three_lines_how_to_install_it() {
    let table = example("README.md");
    for entry in std::fs::read_dir(Path::new(HERE).join("examples/engines")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "README.md" {
            continue;
        }
        assert!(table.contains(&format!("[{name}]({name})")), "README.md does not name {name}");
        // JSON has no comments; the table says it.
        let steps =
            example(&name).lines().filter(|l| ["# 1. ", "# 2. ", "# 3. "].iter().any(|s| l.starts_with(s))).count();
        assert_eq!(steps, if name.ends_with(".json") { 0 } else { 3 }, "{name}");
    }
}
