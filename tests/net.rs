//! `sandbox --net pasta`: what is outside is reached, the host's loopback is not, and nothing of it outlives the sandbox.
//!
//! All traffic is in network namespaces that a test makes: a "host", in which stockade runs, and an "outside", which is its
//! gateway. What did not get through is read from the listeners' own notes: a datagram may arrive without an answer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;
use caller::*;
use common::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Listens: `tcp|udp ADDRESS PORT NAME`... Notes each arrival, and answers with the name.
const LISTEN: &str = r#"
import selectors, socket, sys
poll = selectors.DefaultSelector()
words = sys.argv[1:]
for kind, address, port, name in zip(*[iter(words)] * 4):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, int(port)))
    if kind == "tcp": s.listen()
    poll.register(s, selectors.EVENT_READ, (kind, name))
print("ready", flush=True)
while True:
    for key, _ in poll.select():
        kind, name = key.data
        print("arrived", name, kind, flush=True)
        if kind == "tcp":
            c, _ = key.fileobj.accept()
            c.sendall(name.encode())
            c.close()
        else:
            _, peer = key.fileobj.recvfrom(100)
            key.fileobj.sendto(name.encode(), peer)
"#;

/// Asks: `tcp|udp|tcp@DEVICE|udp@DEVICE ADDRESS PORT SECONDS`... One line each: what was asked, and the answer or `-`.
const ASK: &str = r#"
import socket, sys
for kind, address, port, wait in zip(*[iter(sys.argv[1:])] * 4):
    proto, _, device = kind.partition("@")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM)
    s.settimeout(float(wait))
    try:
        if device: s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        s.connect((address, int(port)))
        if proto == "udp": s.send(b"?")
        answer = s.recv(100).decode() or "closed"
    except OSError:
        answer = "-"
    print(kind, address, port, answer, flush=True)
"#;

/// A resolver that knows every name as 192.0.2.77.
const RESOLVE: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.53", 53))
print("ready", flush=True)
while True:
    q, peer = s.recvfrom(512)
    a = q[:2] + b"\x81\x80" + q[4:6] + (b"\0\1" if q[-3:-2] == b"\1" or b"\0\1\0\1" in q else b"\0\0") + b"\0\0\0\0"
    end = q.index(b"\0", 12) + 5
    a += q[12:end]
    if q[end-4:end-2] == b"\0\1": a += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([192, 0, 2, 77])
    s.sendto(a, peer)
"#;

const PYTHON: &str = "/usr/bin/python3";

/// What is listened on: the same port of the host's loopback and of the outside.
const BOTH: &str = "7001";
/// Only the host's loopback has this one.
const LOOPBACK: &str = "7002";

fn sh(script: &str) {
    let out = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(out.status.success(), "{script}: {}", text(&out.stderr));
}

/// A process of a test that ends with the value.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two network namespaces, a cable between them.
struct World {
    name: String,
    files: tempfile::TempDir,
}

impl World {
    /// None, loudly, where it cannot be.
    fn new(test: &str) -> Option<World> {
        if !is_root() {
            skip(test, "needs root");
            return None;
        }
        if !Path::new("/usr/bin/pasta").exists() || !Path::new(PYTHON).exists() {
            skip(test, "pasta or /usr/bin/python3 is missing: apt-get install passt python3");
            return None;
        }
        if !Path::new("/dev/net/tun").exists() {
            skip(test, "there is no /dev/net/tun: modprobe tun");
            return None;
        }
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("sn{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let world = World { name: name.clone(), files: scratch() };
        for (file, script) in [("listen.py", LISTEN), ("ask.py", ASK), ("resolve.py", RESOLVE)] {
            std::fs::write(world.files.path().join(file), script).unwrap();
        }
        sh(&format!(
            "h={name}h o={name}o
            ip netns add $h; ip netns add $o
            ip -n $h link add v0 type veth peer name v1 netns $o
            for n in $h $o; do ip -n $n link set lo up; done
            ip -n $h link set v0 up; ip -n $o link set v1 up
            ip -n $h addr add 192.0.2.1/24 dev v0; ip -n $o addr add 192.0.2.2/24 dev v1
            ip -n $h route add default via 192.0.2.2
            if ip -n $h -6 addr add 2001:db8::1/64 dev v0 nodad; then
                ip -n $o -6 addr add 2001:db8::2/64 dev v1 nodad; ip -n $h -6 route add default via 2001:db8::2
            fi"
        ));
        Some(world)
    }

    fn ipv6(&self) -> bool {
        self.at("h", &["ip", "-6", "route"]).output().is_ok_and(|o| text(&o.stdout).contains("default"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// The words that lead into one of the two.
    fn into(&self, side: &str) -> Vec<String> {
        ["nsenter".to_owned(), format!("--net=/run/netns/{}{side}", self.name), "--".to_owned()].to_vec()
    }

    fn at(&self, side: &str, words: &[&str]) -> Command {
        let all: Vec<String> = self.into(side).into_iter().chain(words.iter().map(ToString::to_string)).collect();
        let mut command = Command::new(&all[0]);
        command.args(&all[1..]).stdin(Stdio::null());
        command
    }

    /// A script of Python in the background, and where its notes are.
    fn background(&self, side: &str, script: &str, args: &str, notes: &str) -> (Helper, PathBuf) {
        let notes = self.file(notes);
        let script = self.file(script).display().to_string();
        let words: Vec<&str> = [PYTHON, &script].into_iter().chain(args.split_whitespace()).collect();
        let child = self.at(side, &words).stdout(std::fs::File::create(&notes).unwrap()).spawn().unwrap();
        let helper = Helper(child);
        wait_for("a listener", || std::fs::read_to_string(&notes).unwrap().contains("ready"));
        (helper, notes)
    }

    /// Who listens outside and on the host's loopback, and the notes of the latter.
    fn listeners(&self) -> (Helper, Helper, PathBuf) {
        let outside = |a: &str| format!("tcp {a} {BOTH} outside udp {a} {BOTH} outside ");
        let inside =
            |a: &str| ["tcp", "udp"].map(|k| format!("{k} {a} {BOTH} loopback {k} {a} {LOOPBACK} loopback ")).concat();
        let six = self.ipv6();
        let out = outside("192.0.2.2") + &if six { outside("2001:db8::2") } else { String::new() };
        let lo = inside("127.0.0.1") + &if six { inside("::1") } else { String::new() };
        let (a, _) = self.background("o", "listen.py", &out, "outside");
        let (b, notes) = self.background("h", "listen.py", &lo, "loopback");
        (a, b, notes)
    }

    /// Asks from one of the two sides.
    fn ask(&self, side: &str, what: &str) -> String {
        let script = self.file("ask.py").display().to_string();
        let words: Vec<&str> = [PYTHON, &script].into_iter().chain(what.split_whitespace()).collect();
        ok(&self.at(side, &words).output().unwrap())
    }

    /// The caller, on this "host".
    fn host(&self, mut caller: Caller) -> Caller {
        caller.runner = [self.into("h"), caller.runner.clone()].concat();
        caller
    }

    fn callers(&self, test: &str) -> Vec<Caller> {
        Caller::all(test).into_iter().map(|c| self.host(c)).collect()
    }

    /// `sandbox --net pasta OPTIONS -- ask WHAT`.
    fn sandboxed(&self, caller: &Caller, options: &[&str], what: &str) -> Output {
        let script = self.file("ask.py").display().to_string();
        let words = ["sandbox", "--net", "pasta", "--ro", &script];
        let run = ["--", PYTHON, &script];
        let what: Vec<&str> = what.split_whitespace().collect();
        caller.stockade(&[&words, options, &run, &what].concat())
    }

    /// The processes on the "host", and those in any network namespace that is not one of the machine's or of this world.
    fn processes(&self) -> Vec<(i32, String)> {
        let host = std::fs::metadata(format!("/run/netns/{}h", self.name)).unwrap().ino();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            if std::fs::metadata(entry.path().join("ns/net")).is_ok_and(|m| m.ino() == host) {
                found.push((pid, proc_status(pid, "Name").unwrap_or_default()));
            }
        }
        found
    }

    /// pasta, once it is there.
    fn pasta(&self) -> i32 {
        let mut pid = None;
        wait_for("pasta", || {
            pid = self.processes().into_iter().find(|(_, n)| n.starts_with("passt") || n == "pasta").map(|(p, _)| p);
            pid.is_some()
        });
        pid.unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for side in ["h", "o"] {
            let _ = Command::new("ip").args(["netns", "del", &format!("{}{side}", self.name)]).status();
        }
    }
}

/// The other processes of the pid namespace that a process is init of or lives below: by their namespace's inode.
fn in_pid_namespace(inode: u64) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|p| std::fs::metadata(format!("/proc/{p}/ns/pid")).is_ok_and(|m| m.ino() == inode)).collect()
}

/// A sandbox whose command reads lines: it says `up` first.
fn started(caller: &Caller, words: &[&str]) -> (Helper, BufReader<std::process::ChildStdout>) {
    let mut child =
        caller.command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    if first != "up\n" {
        let mut err = String::new();
        let _ = child.stderr.take().unwrap().read_to_string(&mut err);
        panic!("{first}{err}");
    }
    (Helper(child), lines)
}

#[test]
fn what_is_outside_is_reached_and_the_hosts_loopback_is_not() {
    const NAME: &str = "what_is_outside_is_reached_and_the_hosts_loopback_is_not";
    let Some(world) = World::new(NAME) else { return };
    let (_outside, _loopback, notes) = world.listeners();
    let six = world.ipv6();
    for caller in world.callers(NAME) {
        let mut what = String::new();
        let mut expected = String::new();
        let mut ask = |kind: &str, address: &str, port: &str, answer: &str| {
            // Who must not answer is waited for but shortly: that nobody was asked is in the notes.
            let wait = if answer == "-" { 1 } else { 30 };
            what += &format!("{kind} {address} {port} {wait} ");
            expected += &format!("{kind} {address} {port} {answer}\n");
        };
        for kind in ["tcp", "udp"] {
            ask(kind, "192.0.2.2", BOTH, "outside");
            // Its own loopback, the gateway, the host's address, which is also its own; and past its routes by name of the
            // device, for which no right is needed.
            for address in ["127.0.0.1", "127.0.0.2", "192.0.2.2", "192.0.2.1"] {
                ask(kind, address, LOOPBACK, "-");
            }
            ask(&format!("{kind}@eth0"), "127.0.0.1", LOOPBACK, "-");
            ask(&format!("{kind}@eth0"), "127.0.0.1", BOTH, "-");
            if six {
                ask(kind, "2001:db8::2", BOTH, "outside");
                for address in ["::1", "2001:db8::2", "2001:db8::1", "::ffff:127.0.0.1"] {
                    ask(kind, address, LOOPBACK, "-");
                }
                ask(&format!("{kind}@eth0"), "::1", LOOPBACK, "-");
                ask(&format!("{kind}@eth0"), "::ffff:127.0.0.1", LOOPBACK, "-");
            }
        }
        // Whatever came before has been sent on by now.
        ask("udp", "192.0.2.2", BOTH, "outside");
        let out = world.sandboxed(&caller, &[], &what);
        assert_eq!(ok(&out), expected, "uid {}: {}", caller.uid, text(&out.stderr));
        assert_eq!(text(&out.stderr), "");
        assert_eq!(std::fs::read_to_string(&notes).unwrap(), "ready\n", "uid {}", caller.uid);
        assert_eq!(caller.left(), [""; 0], "left behind");
    }
    // They do listen.
    assert_eq!(
        world.ask("h", &format!("tcp 127.0.0.1 {LOOPBACK} 30 udp 127.0.0.1 {BOTH} 30")),
        format!("tcp 127.0.0.1 {LOOPBACK} loopback\nudp 127.0.0.1 {BOTH} loopback\n")
    );
}

/// Each way that is closed is one that is open without the words, or the test above shows nothing.
#[test]
fn without_the_words_pasta_leads_to_the_hosts_loopback() {
    const NAME: &str = "without_the_words_pasta_leads_to_the_hosts_loopback";
    let Some(world) = World::new(NAME) else { return };
    let (_outside, _loopback, notes) = world.listeners();
    let script = world.file("ask.py").display().to_string();
    let pasta = |words: &str, what: &str| {
        let all = format!(
            "setpriv --reuid {SINGLE} --regid {SINGLE} --clear-groups pasta --config-net -I eth0 {words} {PYTHON} {script} {what}"
        );
        text(&world.at("h", &all.split_whitespace().collect::<Vec<_>>()).current_dir("/").output().unwrap().stdout)
    };
    let closed = "--no-map-gw -t none -u none -T none -U none";
    let answered = |lines: &str| lines.lines().any(|l| l.ends_with(" loopback"));
    let gateway = format!("tcp 192.0.2.2 {LOOPBACK} 2");
    assert!(answered(&pasta("-t none -u none -T none -U none", &gateway)), "the gateway");
    assert!(!answered(&pasta(closed, &gateway)), "--no-map-gw");
    let own = format!("tcp 127.0.0.1 {LOOPBACK} 2");
    assert!(answered(&pasta(&format!("--no-map-gw -t none -u none -U none -T {LOOPBACK}"), &own)), "a spliced port");
    assert!(!answered(&pasta(closed, &own)), "-T none");
    // A datagram is noted, and its answer lost.
    let before = std::fs::read_to_string(&notes).unwrap();
    pasta(closed, &format!("udp@eth0 127.0.0.1 {LOOPBACK} 1 udp 192.0.2.2 {BOTH} 30"));
    if std::fs::read_to_string(&notes).unwrap() == before {
        skip(&format!("{NAME}, past the routes"), "this version of pasta takes no loopback address from the device");
    }
}

#[test]
fn a_published_port_is_the_workloads_on_loopback_and_nowhere_else() {
    const NAME: &str = "a_published_port_is_the_workloads_on_loopback_and_nowhere_else";
    let Some(world) = World::new(NAME) else { return };
    for caller in world.callers(NAME) {
        let script = world.file("listen.py").display().to_string();
        let run = format!(
            "echo up; exec {PYTHON} {script} tcp 0.0.0.0 8000 inside udp 0.0.0.0 18081 inside tcp 0.0.0.0 8002 inside"
        );
        let published = ["--publish", "18080:8000", "--publish", "127.0.0.1:18081:18081/udp"];
        let words =
            [&["sandbox", "--net", "pasta", "--ro", &script], &published[..], &["--", "sh", "-c", &run]].concat();
        let (sandbox, mut lines) = started(&caller, &words);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        for (side, what, answer) in [
            ("h", "tcp 127.0.0.1 18080 30", "inside"),
            ("h", "udp 127.0.0.1 18081 30", "inside"),
            ("h", "tcp 192.0.2.1 18080 1", "-"),
            ("h", "udp 192.0.2.1 18081 1", "-"),
            ("o", "tcp 192.0.2.1 18080 1", "-"),
            ("o", "udp 192.0.2.1 18081 1", "-"),
            // The port of the other protocol, and one that nobody named.
            ("h", "udp 127.0.0.1 18080 1", "-"),
            ("h", "tcp 127.0.0.1 8002 1", "-"),
            ("h", "tcp 127.0.0.1 8000 1", "-"),
        ] {
            let said = world.ask(side, what);
            assert!(said.ends_with(&format!(" {answer}\n")), "uid {}, {side} {what}: {said}", caller.uid);
        }
        let taken = caller.stockade(&["sandbox", "--net", "pasta", "--publish", "18080:80", "--", "true"]);
        let said = failed(&taken);
        assert!(said.contains("--publish: 127.0.0.1:18080:80/tcp: address already in use (EADDRINUSE)"), "{said}");
        assert!(said.contains("a program of the host has this port"), "{said}");
        drop(sandbox);
        lines.read_to_string(&mut line).unwrap();
        // An answer may be lost on its way back: who was let in says the server itself.
        assert_eq!(line, "ready\narrived inside tcp\narrived inside udp\n", "uid {}", caller.uid);
        wait_for("the end of pasta", || world.processes().is_empty());
        for id in caller.left() {
            silent(&caller.stockade(&["delete", "--force", &id]));
        }
    }
}

#[test]
fn names_are_looked_up_by_the_hosts_resolver() {
    const NAME: &str = "names_are_looked_up_by_the_hosts_resolver";
    let Some(world) = World::new(NAME) else { return };
    if !Path::new("/etc/resolv.conf").exists() {
        return skip(NAME, "there is no /etc/resolv.conf to bind over");
    }
    // A resolver of the host's loopback, as systemd-resolved is: it is all that can be asked there.
    let (_resolver, _) = world.background("h", "resolve.py", "", "resolver");
    let conf = world.file("resolv.conf");
    std::fs::write(&conf, "nameserver 127.0.0.53\nsearch secret.example\n").unwrap();
    let mut caller = world.host(Caller::root());
    let bind =
        format!("exec unshare -m sh -c 'mount --bind {} /etc/resolv.conf && exec \"$@\"' sh \"$@\"", conf.display());
    caller.runner.extend(["sh", "-c", &bind, "sh"].map(str::to_owned));
    let script =
        "import socket; print(socket.gethostbyname('name.test')); print(open('/etc/resolv.conf').read(), end='')";
    let out = caller.stockade(&["sandbox", "--net", "pasta", "--", PYTHON, "-c", script]);
    assert_eq!(ok(&out), "192.0.2.77\nnameserver 169.254.1.1\n");
}

#[test]
fn nothing_outlives_it_whoever_is_killed() {
    const NAME: &str = "nothing_outlives_it_whoever_is_killed";
    let Some(world) = World::new(NAME) else { return };
    for caller in world.callers(NAME) {
        for killed in ["the command ends", "stockade", "pasta"] {
            let (mut sandbox, mut lines) = started(
                &caller,
                &["sandbox", "--net", "pasta", "--", "sh", "-c", "echo up; read -r line; ip -brief link; echo over"],
            );
            let pasta = world.pasta();
            let keepers = std::fs::metadata(format!("/proc/{pasta}/ns/pid")).unwrap().ino();
            // With pasta's own words on who it is: not the caller's root, no rights but in the container's namespaces.
            let uid = proc_status(pasta, "Uid").unwrap().split_whitespace().next().unwrap().parse::<u32>().unwrap();
            assert!(if caller.is_root() { uid >= 100_000 } else { uid == caller.uid }, "{uid}");
            let user = |pid: &str| std::fs::metadata(format!("/proc/{pid}/ns/user")).unwrap().ino();
            assert_ne!(user(&pasta.to_string()), user("self"));
            let fds = std::fs::read_dir(format!("/proc/{pasta}/fd")).unwrap().flatten();
            let files: Vec<PathBuf> = fds.filter_map(|f| std::fs::read_link(f.path()).ok()).collect();
            let theirs = |f: &PathBuf| f.starts_with(caller.path()) || f.to_string_lossy().contains("cgroup");
            assert!(!files.iter().any(theirs), "{files:?}");
            match killed {
                "stockade" => {
                    // The child of ours may be a wrapper: unshare of the ranged caller. It executes, so it is the same.
                    sandbox.0.kill().unwrap();
                    sandbox.0.wait().unwrap();
                }
                "pasta" => {
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pasta), nix::sys::signal::Signal::SIGKILL)
                        .unwrap();
                    wait_for("the end of pasta", || !Path::new(&format!("/proc/{pasta}/ns/pid")).exists());
                    sandbox.0.stdin.take().unwrap().write_all(b"\n").unwrap();
                }
                _ => sandbox.0.stdin.take().unwrap().write_all(b"\n").unwrap(),
            }
            let mut rest = String::new();
            lines.read_to_string(&mut rest).unwrap();
            if killed != "stockade" {
                assert!(rest.ends_with("over\n"), "{killed}: {rest}");
                // The device goes with pasta, and lo stays.
                assert_eq!(rest.contains("eth0"), killed != "pasta", "{killed}: {rest}");
                assert!(sandbox.0.wait().unwrap().success());
                let mut err = String::new();
                sandbox.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
                assert_eq!(err.contains("pasta ended before the command did"), killed == "pasta", "{killed}: {err}");
            }
            wait_for("the end of all", || world.processes().is_empty() && in_pid_namespace(keepers).is_empty());
            for id in caller.left() {
                assert_eq!(killed, "stockade");
                silent(&caller.stockade(&["delete", "--force", &id]));
            }
        }
    }
}

#[test]
fn without_pasta_the_workload_is_confined_as_before() {
    const NAME: &str = "without_pasta_the_workload_is_confined_as_before";
    let Some(world) = World::new(NAME) else { return };
    let (_outside, _loopback, notes) = world.listeners();
    let caller = world.host(Caller::single());
    let ask = world.file("ask.py").display().to_string();
    let look = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status";
    let run = format!(
        "echo up; {look}; read -r line; {look}; {PYTHON} {ask} tcp 192.0.2.2 {BOTH} 2 udp 127.0.0.1 {LOOPBACK} 1"
    );
    let (mut sandbox, mut lines) =
        started(&caller, &["sandbox", "--net", "pasta", "--ro", &ask, "--", "sh", "-c", &run]);
    let pasta = world.pasta();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pasta), nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_for("the end of pasta", || !Path::new(&format!("/proc/{pasta}/ns/pid")).exists());
    sandbox.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let status = "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
    assert_eq!(rest, format!("{status}{status}tcp 192.0.2.2 {BOTH} -\nudp 127.0.0.1 {LOOPBACK} -\n"));
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "ready\n");
}

#[test]
fn explain_says_who_makes_the_network_and_with_what_words() {
    const NAME: &str = "explain_says_who_makes_the_network_and_with_what_words";
    let Some(world) = World::new(NAME) else { return };
    let caller = world.host(Caller::single());
    let plan = |options: &[&str]| ok(&caller.stockade(&[&["sandbox", "--explain"], options, &["--", "true"]].concat()));
    let out = plan(&["--net", "pasta", "--publish", "8080:80"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "/pasta --config-net",
        "--no-map-gw --tcp-ns none --udp-ns none",
        "--tcp-ports 127.0.0.1/8080:80 --udp-ports none",
        "outbound network in user space; published: 127.0.0.1:8080:80/tcp",
    ] {
        assert!(out.contains(words), "{words} in {out}");
    }
    assert!(!plan(&[]).contains("pasta"), "without the flag there is none");
    assert_eq!(world.processes(), []);
    assert_eq!(caller.left(), [""; 0]);
}

#[test]
fn what_cannot_be_is_one_clear_line() {
    const NAME: &str = "what_cannot_be_is_one_clear_line";
    let Some(world) = World::new(NAME) else { return };
    for caller in [world.host(Caller::root()), world.host(Caller::single())] {
        let bundle = caller.own_dir("bundle").display().to_string();
        for (options, why) in [
            (&["--publish", "8080:80"][..], "add --net pasta"),
            (&["--net", "pasta", "--publish", "80:8080"], "host ports below 1024 are for the privileged"),
            (&["--net", "pasta", "--publish", "0.0.0.0:8080:80"], "only the host's loopback is published on"),
            (&["--net", "pasta", "--publish", "8080"], "two ports are needed"),
            (&["--net", "pasta", "--publish", "5353:53/udp"], "the same number on both sides"),
            (&["--net", "pasta", "--publish", "8080:80", "--publish", "8080:81"], "published already"),
            (&["--net", "pasta", "--emit-bundle", &bundle], "a bundle has no words for it"),
        ] {
            let said = failed(&caller.stockade(&[&["sandbox"], options, &["--", "true"]].concat()));
            assert!(said.contains(why), "{options:?}: {said}");
            assert_eq!(caller.left(), [""; 0]);
        }
        assert!(std::fs::read_dir(&bundle).unwrap().next().is_none(), "nothing is half made");
        let mut lacking = caller;
        lacking.runner.extend(["/usr/bin/env".to_owned(), format!("PATH={bundle}")]);
        let out = lacking.stockade(&["sandbox", "--net", "pasta", "--", "true"]);
        let said = failed(&out);
        assert!(
            said.contains("the program pasta is not installed") && said.contains("install the package passt"),
            "{said}"
        );
    }
    // No default route: pasta's own words, in one line of ours.
    sh(&format!("ip -n {0}h route del default; ip -n {0}h -6 route del default || true", world.name));
    let caller = world.host(Caller::root());
    let said = failed(&caller.stockade(&["sandbox", "--net", "pasta", "--", "true"]));
    assert!(said.contains("network: ") && said.contains("exit status") && said.contains("default route"), "{said}");
    assert!(!said.contains("syslog"), "{said}");
    assert_eq!(caller.left(), [""; 0]);
    wait_for("the end of pasta", || world.processes().is_empty());
}
