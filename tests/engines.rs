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

/// A client's script in a view of its own, which must do at least so many operations.
#[derive(Clone, Copy)]
struct Script<'a> {
    client: &'a str,
    /// What it cannot do without.
    tools: &'a [&'a str],
    /// As an ordinary user.
    user: bool,
    least: usize,
}

const PODMAN: Script = Script { client: "podman", tools: &["podman", "conmon", "script"], user: false, least: 35 };
const DOCKER: Script = Script { client: "docker", tools: &["dockerd", "docker", "iptables"], user: false, least: 0 };
const CTR: Script = Script { client: "containerd", tools: &["containerd", "ctr", "umoci"], user: false, least: 0 };
const CRI: Script = Script { client: "cri", ..CTR };
const BUILDAH: Script = Script { client: "buildah", tools: &["buildah", "umoci", "skopeo"], user: false, least: 0 };

impl Script<'_> {
    /// Those operations whose names have one of the words, by a policy.
    fn run(&self, test: &str, policy: &str, words: &[&str]) {
        need_root!(test);
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        for tool in self.tools.iter().chain(&["busybox", "ip"]) {
            if Command::new(tool).arg("--version").output().is_err() {
                skip(test, &format!("{tool} is not installed"));
                return;
            }
        }
        let out = Command::new("timeout")
            .args(["--kill-after=10", "400"])
            .arg(format!("{HERE}/tests/engines/view"))
            .args(self.user.then_some("--user"))
            .arg(format!("{HERE}/tests/engines/{}", self.client))
            .args(words)
            .env("RUNTIME", env!("CARGO_BIN_EXE_stockade"))
            .env("POLICY", policy)
            // What there is on every host; a driver of overlays for an ordinary user is not.
            .env("STORAGE", if self.user { "vfs" } else { "overlay" })
            .output()
            .unwrap();
        let said = text(&out.stdout);
        assert!(out.status.success(), "{said}{}", text(&out.stderr));
        // What is counted was done: an empty script would succeed, too.
        let done: Vec<&str> = said.lines().filter_map(|l| l.strip_prefix("ok ")).map(str::trim_start).collect();
        assert!(done.len() >= self.least, "{said}");
        for word in words.iter().filter(|w| !w.starts_with("--")) {
            assert!(done.iter().any(|d| d.contains(word)), "{word}: {said}");
        }
    }
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
    Script { user: true, least: 12, ..PODMAN }.run("podman_of_an_ordinary_user", "oci", &words);
}

#[test]
fn a_core_of_podman_under_oci() {
    PODMAN.run("a_core_of_podman_under_oci", "oci", &["--core"]);
}

#[test]
fn a_core_of_podman_under_engine() {
    PODMAN.run("a_core_of_podman_under_engine", "engine", &["--core"]);
}

#[test]
fn docker_its_bridge_and_its_ids() {
    let words = [
        "run: output",
        "a missing command",
        "the bridge and a published port",
        "run -d, ps, logs",
        "exec: output",
        "userns-remap: run",
        "userns-remap: exec",
        "nothing is left",
    ];
    DOCKER.run("docker_its_bridge_and_its_ids", "oci", &words);
}

#[test]
fn docker_and_its_swarm_under_engine() {
    let words = [
        "run: --privileged",
        "a published port",
        "swarm: init",
        "swarm: a service",
        "swarm: a killed task",
        "swarm: remove",
        "nothing is left",
    ];
    DOCKER.run("docker_and_its_swarm_under_engine", "engine", &words);
}

#[test]
fn containerd_by_ctr() {
    let words = [
        "run: output",
        "a missing command",
        "run: --with-ns",
        "run -d, tasks, exec, ps",
        "pause, resume",
        "kill, delete",
        "nothing is left",
    ];
    for policy in ["oci", "engine"] {
        CTR.run("containerd_by_ctr", policy, &words);
    }
}

#[test]
fn containerd_as_the_kubelet_asks_it() {
    // Debian's libraries, and no Python that comes first in PATH.
    if !Path::new("/usr/lib/cni/bridge").exists()
        || !Command::new("/usr/bin/python3")
            .args(["-c", "import grpc, google.protobuf"])
            .output()
            .is_ok_and(|out| out.status.success())
    {
        skip("containerd_as_the_kubelet_asks_it", "CNI's bridge or Python's gRPC is not installed");
        return;
    }
    let words = [
        "RunPodSandbox: a pod",
        "CreateContainer",
        "ExecSync: output",
        "share network, IPC",
        "StopContainer: it hears",
        "privileged",
        "StopPodSandbox",
        "nothing is left",
    ];
    CRI.run("containerd_as_the_kubelet_asks_it", "engine", &words);
}

#[test]
fn buildah_and_umoci() {
    let words = [
        "run: output",
        "a missing command",
        "build: RUN",
        "build: a step that fails",
        "umoci: a layout",
        "umoci: unpack, run",
        "umoci: create, start",
        "nothing is left",
    ];
    for policy in ["oci", "engine"] {
        BUILDAH.run("buildah_and_umoci", policy, &words);
    }
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
fn clients_understand_their_examples() {
    need_root!("clients_understand_their_examples");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("containers.conf");
    // Podman says what it found only where it is.
    std::fs::write(&file, example("containers.conf").replace(INSTALLED, env!("CARGO_BIN_EXE_stockade"))).unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let podman = [
        "podman",
        "--root",
        &at("root"),
        "--runroot",
        &at("run"),
        "--tmpdir",
        &at("tmp"),
        "info",
        "--format",
        "{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}",
    ];
    let containerd =
        ["containerd", "--config", &format!("{HERE}/examples/engines/containerd-v2.toml"), "config", "dump"];
    let json = dir.path().join("daemon.json");
    std::fs::write(&json, example("daemon.json").replace(INSTALLED, env!("CARGO_BIN_EXE_stockade"))).unwrap();
    // It ends with the view.
    let script = "cd \"$0\" && dockerd --config-file \"$0/daemon.json\" --data-root \"$0/data\" --exec-root \"$0/exec\" \\
        --pidfile \"$0/pid\" --host \"unix://$0/sock\" >log 2>&1 & daemon=$!; \\
        until docker --host \"unix://$0/sock\" info 2>\"$0/err\"; do kill -0 $daemon || { cat \"$0/log\"; exit 1; }; sleep 0.2; done; \\
        kill $daemon; wait";
    let docker_dir = dir.path().display().to_string();
    let docker = ["bash", "-c", script, &docker_dir];
    for (client, wanted) in [
        (&docker[..], "Default Runtime: stockade\n".to_owned()),
        (&podman[..], format!("stockade {}", env!("CARGO_BIN_EXE_stockade"))),
        (&containerd[..], format!("BinaryName = \"{INSTALLED}\"")),
    ] {
        let name = if client[0] == "bash" { "dockerd" } else { client[0] };
        if Command::new(name).arg("--version").output().is_err() {
            skip("clients_understand_their_examples", &format!("{name} is not installed"));
            continue;
        }
        let out = Command::new("timeout")
            .args(["--kill-after=10", "120"])
            .arg(format!("{HERE}/tests/engines/view"))
            .args(client)
            .env("CONTAINERS_CONF", &file)
            .output()
            .unwrap();
        assert!(out.status.success() && text(&out.stdout).contains(&wanted), "{client:?}: {out:?}");
    }
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
