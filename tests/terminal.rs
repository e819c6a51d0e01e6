//! Terminals: the relay of a foreground run, the sockets for terminals and pidfds, and the terminal itself.
//! Which combinations of `terminal`, detached and --console-socket there are is in tests/lifecycle.rs.

#![allow(clippy::unwrap_used)]

mod common;
use common::*;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::termios::{LocalFlags, OutputFlags, tcgetattr};
use nix::unistd::Pid;
use serde_json::json;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

/// A bundle with a terminal, whose program is a shell script.
fn terminal(policy: &str, script: &str) -> Bundle {
    let mut bundle = Bundle::usual(&["sh", "-c", script]).policy(policy);
    bundle.config["process"]["terminal"] = true.into();
    bundle.write();
    bundle
}

/// `stockade run` on a terminal of its own, as a person has it.
struct Person {
    child: Child,
    master: Option<OwnedFd>,
    slave: OwnedFd,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Person {
    fn new(bundle: &Bundle, rows: u16, columns: u16) -> Person {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        for fd in [&pty.master, &pty.slave] {
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).unwrap();
        }
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = bundle.command(&["run", "box"]);
        let words: Vec<_> =
            std::iter::once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned).collect();
        command = std::process::Command::new("setsid");
        command.arg("--ctty").args(words).current_dir(bundle.path()).env_remove("STOCKADE_POLICY");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (mut ear, sink) = (File::from(pty.master.try_clone().unwrap()), heard.clone());
        std::thread::spawn(move || {
            let mut buffer = [0u8; 4096];
            while let Ok(n) = ear.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..n]);
                if n == 0 {
                    break;
                }
            }
        });
        Person { child, master: Some(pty.master), slave: pty.slave, heard }
    }

    fn hears(&self, word: &str) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !text(&self.heard.lock().unwrap()).contains(word) {
            assert!(std::time::Instant::now() < end, "{word:?} in {:?}", text(&self.heard.lock().unwrap()));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn types(&self, words: &str) {
        File::from(self.master.as_ref().unwrap().try_clone().unwrap()).write_all(words.as_bytes()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    fn ends(&mut self) -> Option<i32> {
        let mut status = None;
        wait_for("the end of the run", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

#[test]
fn a_person_types_sees_and_resizes() {
    need_root!("a_person_types_sees_and_resizes");
    for policy in ["strict", "oci"] {
        let script = "stty size; trap 'stty size' WINCH; tty; while read -r x; do echo got-$x; done; echo bye; exit 3";
        let bundle = terminal(policy, script);
        let mut person = Person::new(&bundle, 31, 77);
        person.hears("31 77");
        person.hears("/dev/");
        // Raw outside, cooked inside: the container's terminal does what ours did.
        wait_for("raw mode", || {
            let ended = person.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", text(&person.heard.lock().unwrap()));
            let now = tcgetattr(&person.slave).unwrap();
            !now.local_flags.intersects(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG)
                && !now.output_flags.contains(OutputFlags::OPOST)
        });
        person.types("one\r");
        person.hears("got-one");
        stockade::sys::set_window_size(person.master.as_ref().unwrap().as_fd(), 50, 132).unwrap();
        person.types("two\r");
        person.hears("50 132");
        person.types("\u{4}");
        assert_eq!(person.ends(), Some(3));
        person.hears("bye");
    }
}

#[test]
fn the_terminal_is_as_before_after_every_end() {
    need_root!("the_terminal_is_as_before_after_every_end");
    type End = fn(&Bundle, &Person);
    let ends: [(&str, End, i32); 5] = [
        ("exit 0", |_, p| p.types("\r"), 0),
        ("kill -9 $$", |_, p| p.types("exit 9\r"), 9),
        ("signal", |_, p| p.signal(Signal::SIGTERM), 33),
        ("interrupt key", |_, p| p.types("\u{3}"), 44),
        ("kill", |b, _| drop(ok(&b.verb(&["kill", "box", "KILL"]))), 137),
    ];
    for (name, end, code) in ends {
        let script = "trap 'exit 33' TERM; trap 'exit 44' INT; echo ready; read -r x; $x";
        let bundle = terminal("oci", script);
        let mut person = Person::new(&bundle, 24, 80);
        let before = tcgetattr(&person.slave).unwrap();
        person.hears("ready");
        wait_for("raw mode", || !tcgetattr(&person.slave).unwrap().local_flags.contains(LocalFlags::ICANON));
        end(&bundle, &person);
        assert_eq!(person.ends(), Some(code), "{name}: {}", text(&person.heard.lock().unwrap()));
        assert!(tcgetattr(&person.slave).unwrap() == before, "{name}");
    }
    // A program that is no program, and a hook that fails once all is up: an error, on a terminal as it was.
    for moment in ["exec", "poststart"] {
        let mut bundle = terminal("oci", "sleep 1000");
        if moment == "exec" {
            bundle.config["process"]["args"] = json!(["/etc/passwd"]);
        } else {
            bundle.config["hooks"]["poststart"] = json!([{ "path": "/bin/false" }]);
        }
        bundle.write();
        let mut person = Person::new(&bundle, 24, 80);
        let before = tcgetattr(&person.slave).unwrap();
        assert_eq!(person.ends(), Some(1), "{moment}");
        person.hears("stockade: ");
        assert!(tcgetattr(&person.slave).unwrap() == before, "{moment}");
    }
}

#[test]
fn a_terminal_that_hangs_up_is_one_that_hangs_up_inside() {
    need_root!("a_terminal_that_hangs_up_is_one_that_hangs_up_inside");
    let bundle = terminal("oci", "trap 'echo > /hup; exit 5' HUP; echo ready; while :; do sleep 0.05; done");
    let mut person = Person::new(&bundle, 24, 80);
    person.hears("ready");
    // The window is closed: all masters go. The ear's copy ends with the last slave; ours are dropped here.
    let size = Winsize { ws_row: 1, ws_col: 1, ws_xpixel: 0, ws_ypixel: 0 };
    let other = openpty(&size, None).unwrap();
    person.signal(Signal::SIGHUP);
    person.master = None;
    assert_eq!(person.ends(), Some(5));
    drop(other);
    assert!(bundle.rootfs().join("hup").exists());

    // Nobody reads any more: `stockade run | head -c 1`.
    let bundle = terminal("oci", "trap 'echo > /hup' HUP; while :; do echo a line || exit 6; done");
    let mut child = bundle.command(&["run", "box"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0u8; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let mut status = None;
    wait_for("the end of the run", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let mut said = String::new();
    child.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.unwrap().code(), Some(6), "{said}");
    assert!(bundle.rootfs().join("hup").exists());
}

#[test]
fn a_hundred_megabytes_pass_whole_and_nothing_is_held_back() {
    need_root!("a_hundred_megabytes_pass_whole_and_nothing_is_held_back");
    // Lines with numbers, so that a loss and a doubling would both show.
    let script = "stty -opost -echo; yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 104857600; echo end";
    let bundle = terminal("oci", script);
    let mut child = bundle.command(&["run", "box"]).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let pid = child.id().cast_signed();
    let mut out = child.stdout.take().unwrap();
    let (mut total, mut wrong, mut tail) = (0usize, 0usize, Vec::new());
    let line = b"0123456789012345678901234567890123456789012345678901234567890123456789\n";
    let mut buffer = vec![0u8; 65_536];
    let mut peak = 0;
    loop {
        let n = out.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        for (i, byte) in buffer[..n].iter().enumerate() {
            let at = total + i;
            if at < 104_857_600 {
                wrong += usize::from(*byte != line[at % line.len()]);
            } else {
                tail.push(*byte);
            }
        }
        total += n;
        let used = proc_status(pid, "VmHWM").and_then(|v| v.split(' ').next()?.parse::<u64>().ok());
        peak = used.unwrap_or(peak).max(peak);
    }
    assert!(child.wait().unwrap().success());
    assert_eq!((total, wrong, text(&tail).as_str()), (104_857_604, 0, "end\n"));
    assert!(peak > 0 && peak < 64 << 10, "{peak} KiB");
}

/// A reader that does not read: signals still arrive, and the run can be ended.
#[test]
fn a_reader_that_stopped_keeps_no_signal_from_the_workload() {
    need_root!("a_reader_that_stopped_keeps_no_signal_from_the_workload");
    let script = "trap 'echo > /usr1' USR1; trap 'exit 8' TERM; while :; do cat /bin/busybox; done & while :; do sleep 0.02; done";
    let bundle = terminal("oci", script);
    let mut child = bundle.command(&["run", "box"]).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0u8; 100_000]).unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    // Full are the pipe to us, the relay and the terminal: then nothing is read any more.
    let (mut last, mut same) = (String::new(), 0);
    wait_for("everything to be full", || {
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
        let read = io.lines().find(|l| l.starts_with("rchar")).unwrap().to_owned();
        same = if read == last { same + 1 } else { 0 };
        last = read;
        same == 40
    });
    kill(pid, Signal::SIGUSR1).unwrap();
    wait_for("the signal", || bundle.rootfs().join("usr1").exists());
    // The first ends the workload, another the wait for somebody who takes its last words.
    let mut status = None;
    wait_for("the end of the run", || {
        kill(pid, Signal::SIGTERM).unwrap();
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(8));
}

#[test]
fn a_terminal_without_one_outside() {
    need_root!("a_terminal_without_one_outside");
    // The end of stdin is the end-of-file character, also in the middle of a line.
    for (input, output) in [("line\n", "line\r\nline\r\n"), ("line", "lineline"), ("", "")] {
        let bundle = terminal("oci", "test -t 0 && cat");
        let mut command = bundle.command(&["run", "box"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert_eq!(ok(&out), output, "{input:?}");
    }
    // Descriptors of the caller are as before: to make them non-blocking would make them so for everybody.
    let bundle = terminal("oci", "echo done");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = bundle.command(&["run", "box"]).stdout(writer.try_clone().unwrap()).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let flags = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & nix::libc::O_NONBLOCK, 0);
    drop(writer);
    assert_eq!(std::io::read_to_string(reader).unwrap(), "done\r\n");
}

/// Reads a terminal until nobody has its other end.
fn read_all(master: OwnedFd) -> String {
    let (mut terminal, mut heard, mut buffer) = (File::from(master), Vec::new(), [0u8; 1024]);
    while let Ok(n) = terminal.read(&mut buffer) {
        heard.extend_from_slice(&buffer[..n]);
        if n == 0 {
            break;
        }
    }
    text(&heard)
}

#[test]
fn a_socket_with_a_long_path_and_a_terminal_of_the_size_that_was_asked() {
    need_root!("a_socket_with_a_long_path_and_a_terminal_of_the_size_that_was_asked");
    for policy in ["strict", "oci"] {
        let script = "stty size; ls -ln /dev/console; ls /dev/pts; echo x > /dev/tty";
        let mut bundle = terminal(policy, script);
        bundle.config["process"]["consoleSize"] = json!({ "height": 41, "width": 99 });
        bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        bundle.write();
        let deep = bundle.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let dir = File::open(&deep).unwrap();
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/sock", dir.as_raw_fd())).unwrap();
        let path = deep.join("sock").display().to_string();
        assert!(path.len() > 108);
        ok(&bundle.verb(&["create", "--console-socket", &path, "box"]));
        let (master, name) = receive(&listener);
        assert!(!name.is_empty());
        ok(&bundle.verb(&["start", "box"]));
        let heard = read_all(master);
        assert!(heard.contains("41 99"), "{policy}: {heard}");
        // Its user's and the group tty's: another group could write there.
        let line = heard.lines().find(|l| l.contains("/dev/console")).unwrap();
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((&fields[0][..10], fields[2], fields[3]), ("crw--w----", "1000", "5"), "{policy}: {line}");
        assert!(heard.contains("x\r\n"), "{policy}: {heard}");
        ok(&bundle.delete());
    }
    let mut bundle = terminal("oci", "true");
    bundle.config["process"]["consoleSize"] = json!({ "height": 24, "width": 65536 });
    let err = failed(&bundle.run());
    assert!(err.contains("process.consoleSize.width") && err.contains("65536"), "{err}");
}

#[test]
fn the_pidfd_socket_gets_the_process() {
    need_root!("the_pidfd_socket_gets_the_process");
    let bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    bundle.write();
    let socket = bundle.path().join("pidfd");
    let listener = UnixListener::bind(&socket).unwrap();
    let path = socket.display().to_string();
    for words in [&["create"][..], &["run", "--detach"]] {
        let words = [words, &["--pidfd-socket", &path, "box"]].concat();
        let status = bundle.command(&words).stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "{words:?}");
        let (pidfd, _) = receive(&listener);
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
        let pid: i32 = info.lines().find_map(|l| l.strip_prefix("Pid:")).unwrap().trim().parse().unwrap();
        assert_eq!(pid, bundle.pid(), "{words:?}");
        stockade::sys::pidfd_send_signal(pidfd.as_fd(), nix::libc::SIGKILL).unwrap();
        wait_for("stopped", || bundle.state()["status"] == "stopped");
        ok(&bundle.delete());
    }
    // A foreground run has one, too.
    let mut run = bundle.command(&["run", "--pidfd-socket", &path, "box"]).stdout(Stdio::null()).spawn().unwrap();
    let (pidfd, _) = receive(&listener);
    // Executed, and not only on its way: before that its death is a failure of the launch.
    wait_for("the workload", || {
        bundle.verb(&["state", "box"]).status.success()
            && proc_status(bundle.pid(), "Name").is_some_and(|name| name == "sleep")
    });
    stockade::sys::pidfd_send_signal(pidfd.as_fd(), nix::libc::SIGKILL).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(137));
}

#[test]
fn sockets_that_nobody_serves_are_errors() {
    need_root!("sockets_that_nobody_serves_are_errors");
    let with_terminal = terminal("oci", "true");
    let plain = Bundle::usual(&["true"]).policy("oci");
    plain.write();
    for (bundle, flag) in [(&with_terminal, "--console-socket"), (&plain, "--pidfd-socket")] {
        let file = bundle.path().join("file");
        std::fs::write(&file, "").unwrap();
        let dead = bundle.path().join("dead");
        drop(UnixListener::bind(&dead).unwrap());
        let packets = bundle.path().join("packets");
        let _seqpacket = std::os::unix::net::UnixDatagram::bind(&packets).unwrap();
        // One that accepts nobody, with a full queue.
        let full = bundle.path().join("full");
        let stream = || socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let (busy, waiting) = (stream(), stream());
        let address = UnixAddr::new(&full).unwrap();
        bind(busy.as_raw_fd(), &address).unwrap();
        listen(&busy, Backlog::new(0).unwrap()).unwrap();
        connect(waiting.as_raw_fd(), &address).unwrap();
        for (path, word) in [
            (&file, "is not a socket"),
            (&bundle.path().join("missing"), "ENOENT"),
            (&dead, "ECONNREFUSED"),
            (&packets, "EPROTOTYPE"),
            (&full, "nobody accepted"),
        ] {
            let path = path.display().to_string();
            let err = failed(&bundle.verb(&["create", flag, &path, "--pid-file", "pid", "box"]));
            assert!(err.contains(flag) && err.contains(&path) && err.contains(word), "{err}");
            assert!(!bundle.path().join("pid").exists());
            assert!(!bundle.root().join("box").exists());
        }
    }
}

/// The devpts is the container's, and what an image has in its place is not opened.
#[test]
fn a_terminal_is_made_on_a_devpts_only() {
    need_root!("a_terminal_is_made_on_a_devpts_only");
    let mut bundle = terminal("oci", "true");
    bundle.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/dev/pts");
    let err = failed(&bundle.run());
    assert!(err.contains("/dev/pts"), "{err}");
    // A FIFO would block who opens it, a device would act.
    bundle.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/dev");
    let pts = bundle.rootfs().join("dev/pts");
    std::fs::create_dir(&pts).unwrap();
    nix::unistd::mkfifo(&pts.join("ptmx"), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    let err = failed(&bundle.run());
    assert!(err.contains("is not on a devpts"), "{err}");
    // Mounted over the ptmx of a true devpts.
    let mut bundle = terminal("oci", "true");
    std::fs::write(bundle.path().join("trap"), "untouched").unwrap();
    let source = bundle.path().join("trap").display().to_string();
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "destination": "/dev/pts/ptmx", "type": "bind", "source": source, "options": ["bind"] }));
    let err = failed(&bundle.run());
    assert!(err.contains("/dev/pts/ptmx"), "{err}");
    assert_eq!(std::fs::read_to_string(Path::new(&source)).unwrap(), "untouched");
}
