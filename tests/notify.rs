//! seccomp notification: the agent gets the listener and the state, and decides; and what stands in its way is told.

#![allow(clippy::unwrap_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;
use caller::Caller;
use common::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// An agent: takes each message with its descriptor, writes it to a file as a line with the name of the descriptor, and
/// answers mkdir with ENOMEDIUM, which no kernel gives there, and everything else with "go on".
const AGENT: &str = r#"
import array, ctypes, fcntl, json, os, socket, struct, sys, threading
path, log = sys.argv[1], sys.argv[2]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
os.chmod(path, 0o666)
server.listen()
RECV, SEND = 0xC0502100, 0xC0182101
def answer(fd):
    while True:
        ask = bytearray(80)
        try:
            fcntl.ioctl(fd, RECV, ask)
        except OSError as e:
            if e.errno == 4: continue
            return
        ident, pid, flags, nr = struct.unpack_from("=QIIi", ask)
        refuse = nr in (83, 258, 34)
        reply = struct.pack("=QqiI", ident, 0, -123 if refuse else 0, 0 if refuse else 1)
        try:
            fcntl.ioctl(fd, SEND, bytearray(reply))
        except OSError:
            pass
while True:
    stream, _ = server.accept()
    data, rights, _, _ = stream.recvmsg(65536, socket.CMSG_SPACE(64))
    fds = array.array("i")
    for level, kind, bytes_ in rights:
        fds.frombytes(bytes_)
    while True:
        more = stream.recv(65536)
        if not more: break
        data += more
    names = [os.readlink("/proc/self/fd/%d" % fd) for fd in fds]
    with open(log, "a") as f:
        f.write(json.dumps({"message": json.loads(data), "descriptors": names}) + "\n")
    threading.Thread(target=answer, args=(fds[0],), daemon=True).start()
"#;

struct Agent {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Agent {
    fn new(dir: &Path) -> Agent {
        let (socket, log) = (dir.join("agent"), dir.join("agent.log"));
        let child = Command::new("python3").args(["-c", AGENT]).arg(&socket).arg(&log).spawn().unwrap();
        wait_for("the agent", || socket.exists());
        // The socket is there before it listens.
        wait_for("the agent to listen", || {
            std::fs::read_to_string("/proc/net/unix")
                .unwrap()
                .lines()
                .any(|l| l.ends_with(&socket.display().to_string()) && l.split_whitespace().nth(3) == Some("00010000"))
        });
        Agent { child, socket, log }
    }

    fn path(&self) -> String {
        self.socket.display().to_string()
    }

    /// What it was told so far.
    fn told(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything is allowed, and about mkdir the agent is asked.
fn asking(path: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "listenerMetadata": "of the test",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }]
    })
}

const SCRIPT: &str = "mkdir /tmp/made 2>&1; test -d /tmp/made || echo refused; echo done";

/// What the script says when the agent has answered.
fn answered(out: &str) {
    assert!(out.contains("No medium found") && out.contains("refused\ndone\n"), "{out}");
}

fn with(policy: &str, profile: Value) -> Bundle {
    let mut bundle = Bundle::usual(&["sh", "-c", SCRIPT]).policy(policy);
    bundle.config["linux"]["seccomp"] = profile;
    bundle
}

fn refused(bundle: &Bundle, words: &[&str]) {
    let err = failed(&bundle.create());
    assert!(words.iter().all(|w| err.contains(w)), "{words:?}: {err}");
    assert!(!bundle.root().join("box").exists());
}

#[test]
fn the_agent_decides_in_either_tail() {
    need_root!("the_agent_decides_in_either_tail");
    for no_new_privs in [true, false] {
        let mut bundle = with("oci", json!({}));
        let agent = Agent::new(bundle.path());
        bundle.config["linux"]["seccomp"] = asking(&agent.path());
        bundle.config["process"]["noNewPrivileges"] = no_new_privs.into();
        bundle.config["annotations"] = json!({ "org.example": "yes" });
        answered(&ok(&bundle.run()));
        let told = agent.told();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0]["descriptors"], json!(["anon_inode:seccomp notify"]));
        let message = &told[0]["message"];
        assert_eq!((&message["fds"], &message["metadata"]), (&json!(["seccompFd"]), &json!("of the test")));
        assert!(message["ociVersion"].is_string() && message["pid"].as_i64().unwrap() > 0, "{message}");
        let state = &message["state"];
        assert_eq!(
            (&state["id"], &state["pid"], &state["status"]),
            (&json!("box"), &message["pid"], &json!("creating"))
        );
        assert_eq!(state["bundle"], bundle.path().display().to_string());
        assert_eq!(state["annotations"], json!({ "org.example": "yes" }));

        // Within create, and the process waits: nothing of it is asked about until it is started.
        let log = bundle.path().join("out");
        bundle.write();
        let out = std::fs::File::create(&log).unwrap();
        let status = bundle.command(&["create", "box"]).stdout(out).stderr(Stdio::inherit()).status().unwrap();
        assert!(status.success());
        wait_for("the agent to be told", || agent.told().len() == 2);
        assert_eq!(agent.told()[1]["message"]["pid"], bundle.pid());
        ok(&bundle.verb(&["start", "box"]));
        wait_for("the workload", || std::fs::read_to_string(&log).unwrap().contains("done"));
        answered(&std::fs::read_to_string(&log).unwrap());
        ok(&bundle.delete());
    }
}

#[test]
fn a_process_more_has_a_listener_of_its_own() {
    need_root!("a_process_more_has_a_listener_of_its_own");
    let mut bundle = with("oci", json!({}));
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    let agent = Agent::new(bundle.path());
    bundle.config["linux"]["seccomp"] = asking(&agent.path());
    bundle.config["process"]["noNewPrivileges"] = true.into();
    ok(&bundle.create());
    ok(&bundle.verb(&["start", "box"]));
    answered(&ok(&bundle.verb(&["exec", "box", "sh", "-c", SCRIPT])));
    let told = agent.told();
    assert_eq!(told.len(), 2);
    let (init, exec) = (&told[0]["message"], &told[1]["message"]);
    assert_ne!(init["pid"], exec["pid"]);
    // The state is the container's, the pid that of the process.
    assert_eq!((&exec["state"]["pid"], &exec["state"]["status"]), (&init["pid"], &json!("running")));
}

#[test]
fn under_strict_the_socket_is_a_path_of_the_host() {
    need_root!("under_strict_the_socket_is_a_path_of_the_host");
    // In the bundle's own directory it is the bundle's own; beyond it, the operator's to allow.
    let mut bundle = with("strict", json!({}));
    let agent = Agent::new(bundle.path());
    bundle.config["linux"]["seccomp"] = asking(&agent.path());
    answered(&ok(&bundle.run()));
    assert_eq!(agent.told().len(), 1);
    let outside = scratch();
    let other = Agent::new(outside.path());
    bundle.config["linux"]["seccomp"] = asking(&other.path());
    refused(&bundle, &["linux.seccomp.listenerPath", "hostPaths"]);
    // A link does not lead out, either.
    let link = bundle.path().join("link");
    std::os::unix::fs::symlink(other.path(), &link).unwrap();
    bundle.config["linux"]["seccomp"] = asking(&link.display().to_string());
    refused(&bundle, &["linux.seccomp.listenerPath", "a link leads out"]);
    assert!(other.told().is_empty());
    let config = bundle.config.clone();
    let mut bundle =
        with("oci", json!({})).operator(json!({ "extends": "strict", "hostPaths": { "beyond": "allow" } }));
    bundle.global.drain(..2);
    bundle.config = config;
    bundle.config["linux"]["seccomp"] = asking(&other.path());
    answered(&ok(&bundle.run()));
}

#[test]
fn what_cannot_work_is_refused() {
    need_root!("what_cannot_work_is_refused");
    let path = "/run/no/such/agent";
    let change = |edit: &dyn Fn(&mut Value)| {
        let mut profile = asking(path);
        edit(&mut profile);
        with("oci", profile)
    };
    refused(
        &change(&|p| drop(p.as_object_mut().unwrap().remove("listenerPath"))),
        &["listenerMetadata", "listenerPath"],
    );
    refused(
        &change(&|p| p.as_object_mut().unwrap().retain(|k, _| !k.starts_with("listener"))),
        &["SCMP_ACT_NOTIFY without listenerPath"],
    );
    refused(&change(&|p| p["listenerPath"] = "agent".into()), &["listenerPath", "not an absolute path"]);
    // By it a failure is told.
    let write = ["linux.seccomp", "SCMP_ACT_NOTIFY cannot be used for the write syscall"];
    refused(&change(&|p| p["syscalls"][0]["names"] = json!(["write"])), &write);
    refused(&change(&|p| p["defaultAction"] = "SCMP_ACT_NOTIFY".into()), &write);
    // Nobody there, and somebody who does not accept.
    let mut bundle = change(&|_| ());
    refused(&bundle, &["linux.seccomp.listenerPath", path, "ENOENT"]);
    let dead = bundle.path().join("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    bundle.config["linux"]["seccomp"] = asking(&dead.display().to_string());
    refused(&bundle, &["linux.seccomp.listenerPath", "ECONNREFUSED"]);
    let out = bundle.run();
    assert!(failed(&out).contains("ECONNREFUSED"));
}

/// The agent may be asked about the execve itself, and about what the workload does at once.
#[test]
fn the_execve_may_be_asked_about() {
    need_root!("the_execve_may_be_asked_about");
    let mut bundle = with("oci", json!({}));
    let agent = Agent::new(bundle.path());
    let mut profile = asking(&agent.path());
    profile["syscalls"][0]["names"] = json!(["execve", "mkdir", "mkdirat", "brk"]);
    profile["flags"] =
        json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]);
    bundle.config["linux"]["seccomp"] = profile.clone();
    answered(&ok(&bundle.run()));
    // Linux 5.19.
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    bundle.config["linux"]["seccomp"] = profile;
    answered(&ok(&bundle.run()));
    // A listener that nobody needs is not looked for.
    let bundle = with("oci", json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/no/such/agent" }));
    assert!(ok(&bundle.run()).ends_with("done\n"));
}

#[test]
fn an_ordinary_users_agent() {
    need_root!("an_ordinary_users_agent");
    for caller in [Caller::ranged(), Ok(Caller::single())] {
        let caller = match caller {
            Ok(caller) => caller,
            Err(why) => {
                skip("an_ordinary_users_agent: ranged", why);
                continue;
            }
        };
        let agent = Agent::new(caller.path());
        let mut config = Bundle::usual(&["sh", "-c", SCRIPT]).config.clone();
        config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/sys/fs/cgroup");
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        config["linux"]["seccomp"] = asking(&agent.path());
        config["process"]["noNewPrivileges"] = true.into();
        answered(&ok(&caller.run(&["--policy", "oci"], &config)));
        assert_eq!(agent.told().len(), 1);
    }
}
