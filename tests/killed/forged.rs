//! The child of a launch, or of an exec, says something else than it means: a tracer changes its words on their way, or
//! ends it in the middle of the talk. The runtime must say so in one line, and leave nothing.

use super::*;
use nix::libc::{SYS_sendmsg, SYS_write};
use std::os::unix::fs::FileExt;
use stockade::sync::Tag;

/// What is said in the place of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// The truth.
    None,
    /// The same with this tag.
    Tag(u8),
    /// The tag, and bytes that mean nothing.
    Rubbish,
    /// The tag, and half of the bytes.
    Half,
    /// A message of no bytes.
    Nothing,
    /// The child is killed before it.
    Death,
}

fn word(memory: &std::fs::File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    memory.read_exact_at(&mut bytes, at).unwrap();
    u64::from_ne_bytes(bytes)
}

/// Whether the system call that `pid` is about to make says `due` on the talk; then the lie takes its place.
fn forge(pid: Pid, due: Tag, lie: Lie) -> bool {
    let Ok(regs) = ptrace::getregs(pid) else { return false };
    let number = regs.orig_rax.cast_signed();
    let socket = || {
        let fd = std::fs::read_link(format!("/proc/{pid}/fd/{}", regs.rdi));
        fd.is_ok_and(|f| f.to_string_lossy().starts_with("socket:"))
    };
    if ![SYS_sendmsg, SYS_write].contains(&number) || !socket() {
        return false;
    }
    let memory = std::fs::OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).unwrap();
    // struct msghdr: the vector at 16, its length at 24; its elements are an address and a length.
    let vector = (number == SYS_sendmsg).then(|| word(&memory, regs.rsi + 16));
    let tag = vector.map_or(regs.rsi, |v| word(&memory, v));
    let mut first = [0];
    if memory.read_exact_at(&mut first, tag).is_err() || first[0] != due as u8 {
        return false;
    }
    let bytes = vector.map(|v| (word(&memory, v + 16), word(&memory, v + 24)));
    match (lie, vector, bytes) {
        (Lie::None, ..) => {}
        (Lie::Tag(byte), ..) => memory.write_all_at(&[byte], tag).unwrap(),
        (Lie::Rubbish, _, Some((at, length))) => memory.write_all_at(&vec![b'x'; length as usize], at).unwrap(),
        (Lie::Half, Some(vector), Some((_, length))) => {
            memory.write_all_at(&(length / 2).to_ne_bytes(), vector + 24).unwrap();
        }
        (Lie::Nothing, Some(vector), _) => {
            memory.write_all_at(&0u64.to_ne_bytes(), vector + 8).unwrap();
            memory.write_all_at(&0u64.to_ne_bytes(), vector + 24).unwrap();
        }
        (Lie::Death, ..) => kill(pid, Signal::SIGKILL).unwrap(),
        _ => panic!("{lie:?} in the place of {due:?} by system call {number}"),
    }
    true
}

/// Which message: the tag, and which of those with it.
type Word = (Tag, usize);

/// Runs a verb whose children say the lie instead of this message: its status, and whether they came to say it.
fn told(bundle: &Bundle, args: &[&str], (due, nth): Word, lie: Lie) -> (Option<i32>, bool) {
    let births = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACEVFORK;
    let traced = Traced::start(bundle, args, births);
    ptrace::cont(traced.pid, None).unwrap();
    let mut said = 0;
    let since = Instant::now();
    let go_on = |pid: Pid, signal: Option<Signal>| {
        // Whoever was killed meanwhile is waited for next.
        let _ = if pid == traced.pid { ptrace::cont(pid, signal) } else { ptrace::syscall(pid, signal) };
    };
    loop {
        // Those of this thread: other tests trace, too.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
        match waitpid(None, Some(flags)).unwrap() {
            WaitStatus::StillAlive => {
                if since.elapsed() > Duration::from_secs(60) {
                    traced.kill();
                    let _ = bundle.verb(&["delete", "--force", args[args.len().min(2) - 1]]);
                    panic!("{lie:?} for {due:?}: hangs");
                }
                std::thread::sleep(Duration::from_micros(50));
            }
            WaitStatus::PtraceSyscall(pid) => {
                let entry = ptrace::syscall_info(pid).is_ok_and(|i| i.op == nix::libc::PTRACE_SYSCALL_INFO_ENTRY);
                if entry && said < nth {
                    let now = if said + 1 == nth { lie } else { Lie::None };
                    said += usize::from(forge(pid, due, now));
                }
                go_on(pid, None);
            }
            WaitStatus::PtraceEvent(pid, ..) => go_on(pid, None),
            WaitStatus::Stopped(pid, signal) => go_on(pid, Some(signal)),
            WaitStatus::Exited(pid, code) if pid == traced.pid => return (Some(code), said == nth),
            WaitStatus::Signaled(pid, ..) if pid == traced.pid => return (None, said == nth),
            _ => {}
        }
    }
}

/// Every lie about a message that is not the truth.
fn lies(due: Tag, bytes: bool) -> Vec<Lie> {
    let tags = (0..=14).chain([255]).filter(|t| *t != due as u8).map(Lie::Tag);
    let about_bytes = [Lie::Rubbish, Lie::Half, Lie::Nothing].into_iter().filter(|_| bytes);
    tags.chain(about_bytes).chain([Lie::Death]).collect()
}

/// Each lie in the place of `due`: one line, and nothing left but what was there before.
fn each_lie(scene: &Scene, args: &[&str], due: Word, bytes: bool, left: &dyn Fn(&str)) {
    for lie in lies(due.0, bytes) {
        let when = format!("{} {}: {lie:?} where {due:?} is due", scene.bundle.global.join(" "), args[0]);
        let (status, said) = told(&scene.bundle, args, due, lie);
        let err = std::fs::read_to_string(scene.bundle.path().join("traced.err")).unwrap();
        assert!(said, "{when}: it was not said: {err}");
        assert!(status.is_some_and(|s| s != 0), "{when}: {status:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{when}: {err}");
        let known = ["sync: ", "ended without a word", "is unreadable"];
        assert!(known.iter().any(|k| err.contains(k)), "{when}: {err}");
        assert!(!err.contains("panicked") && !err.contains("xxxxxxxx"), "{when}: {err}");
        left(&when);
    }
}

fn launches(policy: &str, verb: &'static str, due: Tag, bytes: bool, change: &dyn Fn(&mut Value)) {
    let mut scene = Scene::new(policy, &format!("forged-{policy}-{verb}-{due:?}"));
    change(&mut scene.bundle.config);
    scene.bundle.write();
    let words = scene.launch(verb);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    each_lie(&scene, &words, (due, 1), bytes, &|when| scene.clean(when));
    // The control: the tracer alone changes nothing.
    scene.quick(true);
    let words = scene.launch("run");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(told(&scene.bundle, &words, (due, 1), Lie::None), (Some(0), true));
    scene.clean("the truth");
}

#[test]
fn a_child_that_does_not_say_that_it_is_ready() {
    need_root!("a_child_that_does_not_say_that_it_is_ready");
    launches("strict", "run", Tag::Ready, true, &|_| {});
    launches("oci", "create", Tag::Ready, true, &|_| {});
}

#[test]
fn a_stub_that_says_something_else() {
    need_root!("a_stub_that_says_something_else");
    for verb in ["run", "create"] {
        launches("oci", verb, Tag::Settled, false, &|_| {});
        launches("oci", verb, Tag::Committed, false, &|_| {});
    }
}

#[test]
fn a_child_that_forges_the_rest_of_the_talk() {
    need_root!("a_child_that_forges_the_rest_of_the_talk");
    launches("strict", "create", Tag::Committed, false, &|_| {});
    launches("oci", "run", Tag::Built, false, &|config| {
        config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/true" }] });
    });
}

#[test]
fn an_exec_whose_child_forges_the_talk() {
    need_root!("an_exec_whose_child_forges_the_talk");
    for policy in ["strict", "oci"] {
        let scene = Scene::new(policy, &format!("forged-{policy}-exec"));
        // The container would hold a pipe of ours.
        let mut run = scene.bundle.command(&["run", "--detach", "--bundle", ".", &scene.id]);
        assert!(run.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
        let words = ["exec", &scene.id, "echo", "entered"];
        let inside = || processes("echo\0entered");
        // Where the bridge is the child until it emerges it says so first, and then whom it has brought.
        let talk: &[(Word, bool)] = match policy {
            "oci" => &[((Tag::Entered, 1), false), ((Tag::Entered, 2), true)],
            _ => &[((Tag::Entered, 1), true)],
        };
        for &(due, bytes) in talk.iter().chain(&[((Tag::Ready, 1), true), ((Tag::Committed, 1), false)]) {
            each_lie(&scene, &words, due, bytes, &|when| {
                wait_for(&format!("{when}: the end of the child"), || inside().is_empty());
            });
            assert_eq!(told(&scene.bundle, &words, due, Lie::None), (Some(0), true), "{due:?}");
        }
        scene.clear("after the talks");
    }
}
