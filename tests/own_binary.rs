//! The runtime's own binary: nothing that runs in a container can write it, however it gets hold of it (CVE-2019-5736),
//! and a process that joins a container brings nothing of the host along (CVE-2016-9962).
#![allow(clippy::unwrap_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;

use caller::SINGLE;
use common::*;
use serde_json::json;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Takes hold of whoever is executed from something with this word in its path, lets it end, and writes its file.
const ATTACK: &str = r#"
    word=$(cat /word)
    hunt() {
        while :; do
            for p in /proc/[0-9]*; do
                case $(readlink $p/exe 2>/dev/null) in *"$word"*) echo ${p#/proc/}; return;; esac
            done
        done
    }
    p=$(hunt)
    (exec 8<>/proc/$p/exe) 2>/dev/null && echo "written while it runs" >>/out
    exec 9</proc/$p/exe && echo held >>/out
    cat /fifo >/dev/null
    while [ -d /proc/$p ]; do sleep 0.02; done
    for try in 1 2 3 4 5 6 7 8 9 10; do
        printf pwned 2>/dev/null 1<>/proc/self/fd/9 && { echo written >>/out; break; }
        sleep 0.05
    done 2>/dev/null
    echo done >>/out
    sleep 1000"#;

/// A runtime of the test's own, so that an attack that works harms nobody else.
fn own_runtime(dir: &Path, owner: u32, mode: u32) -> PathBuf {
    let binary = dir.join("stockade");
    assert!(Command::new("cp").arg(runtime()).arg(&binary).status().unwrap().success());
    chown(&binary, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(mode)).unwrap();
    binary
}

/// The same command line by that runtime.
fn by(binary: &Path, bundle: &Bundle, words: &[&str]) -> Command {
    let typed = bundle.command(words);
    let all = std::iter::once(typed.get_program()).chain(typed.get_args());
    let all: Vec<_> = all.map(|w| if w == runtime().as_os_str() { binary.as_os_str() } else { w }).collect();
    let mut command = Command::new(all[0]);
    command.args(&all[1..]).current_dir(bundle.path()).stdin(Stdio::null()).env_remove("STOCKADE_POLICY");
    command
}

fn digest(path: &Path) -> String {
    ok(&Command::new("sha256sum").arg(path).output().unwrap()).split(' ').next().unwrap().to_owned()
}

/// Creates and starts `box`, whose output goes nowhere.
fn started(binary: &Path, bundle: &Bundle) {
    bundle.write();
    let dir = bundle.path().display().to_string();
    for words in [&["create", "--bundle", &dir, "box"][..], &["start", "box"]] {
        let err = bundle.path().join("err");
        let mut command = by(binary, bundle, words);
        command.stdout(Stdio::null()).stderr(fs::File::create(&err).unwrap());
        assert!(command.status().unwrap().success(), "{}", fs::read_to_string(&err).unwrap());
    }
}

/// A container that attacks whoever comes in, and what came of it when this came in.
fn attacked(binary: &Path, bundle: &Bundle, word: &str, command: &[&str]) -> String {
    let rootfs = bundle.rootfs();
    fs::write(rootfs.join("word"), word).unwrap();
    // The program of the control, which waits, too.
    fs::create_dir_all(rootfs.join("control")).unwrap();
    assert!(Command::new("cp").arg(busybox()).arg(rootfs.join("control/sh")).status().unwrap().success());
    // Whose the binary is.
    let owner = Some(fs::metadata(binary).unwrap().uid());
    chown(rootfs.join("control/sh"), owner, owner).unwrap();
    fs::write(rootfs.join("evil"), "#!/proc/self/exe --log=/fifo\n").unwrap();
    fs::set_permissions(rootfs.join("evil"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Command::new("mkfifo").args(["-m", "666"]).arg(rootfs.join("fifo")).status().unwrap().success());
    let _ = fs::remove_file(rootfs.join("out"));
    started(binary, bundle);
    // The command may be cut short by what the container does; only the container's word counts.
    let out = by(binary, bundle, &[&["exec", "box"], command].concat()).output().unwrap();
    eprintln!("{command:?}: {}{}", text(&out.stdout), text(&out.stderr));
    let out = rootfs.join("out");
    let mut said = String::new();
    wait_for(&format!("the attack on {command:?}"), || {
        said = fs::read_to_string(&out).unwrap_or_default();
        said.ends_with("done\n")
    });
    ok(&by(binary, bundle, &["delete", "--force", "box"]).output().unwrap());
    for file in [out, rootfs.join("fifo"), rootfs.join("evil")] {
        fs::remove_file(file).unwrap();
    }
    said
}

/// What holds of a container that has the power to write the binary.
fn holds(binary: &Path, bundle: &Bundle) {
    let before = digest(binary);
    for command in [&["/proc/self/exe", "--log", "/fifo", "state", "none"][..], &["/evil"]] {
        let said = attacked(binary, bundle, "stockade", command);
        assert_eq!(said, "held\ndone\n", "{command:?}");
        assert_eq!(digest(binary), before, "{command:?}");
    }
    // Control: a file that is not protected falls to the same attack.
    let control = bundle.rootfs().join("control/sh");
    let said = attacked(binary, bundle, "control", &["/control/sh", "-c", "echo x >/fifo"]);
    assert_eq!(said, "held\nwritten\ndone\n");
    assert_eq!(&fs::read(&control).unwrap()[..5], b"pwned");
    assert_eq!(digest(binary), before);
}

#[test]
fn root_of_the_host_inside_cannot_write_the_runtime() {
    need_root!("root_of_the_host_inside_cannot_write_the_runtime");
    let mut bundle = Bundle::usual(&["sh", "-c", ATTACK]).policy("oci");
    let all: Vec<String> = ["DAC_OVERRIDE", "SYS_PTRACE", "SYS_ADMIN", "FOWNER"].map(|c| format!("CAP_{c}")).into();
    bundle.config["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    let binary = own_runtime(bundle.path(), 0, 0o755);
    holds(&binary, &bundle);
}

#[test]
fn an_ordinary_users_container_cannot_write_the_users_own_runtime() {
    need_root!("an_ordinary_users_container_cannot_write_the_users_own_runtime");
    let mut bundle = Bundle::usual(&["sh", "-c", ATTACK]).policy("oci");
    let user = SINGLE.to_string();
    let run = bundle.path().join("run");
    fs::create_dir(&run).unwrap();
    let words = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "--inh-caps=-all", "env"];
    bundle.runner = words.map(str::to_owned).to_vec();
    bundle.runner.push(format!("XDG_RUNTIME_DIR={}", run.display()));
    let map = json!([{ "containerID": 0, "hostID": SINGLE, "size": 1 }]);
    let linux = &mut bundle.config["linux"];
    linux["uidMappings"] = map.clone();
    linux["gidMappings"] = map;
    linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    // The one id has no group 5 for terminals.
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|o| o != "gid=5");
        }
    }
    let chowned = Command::new("chown").arg("-R").arg(format!("{user}:{user}")).arg(bundle.path()).status();
    assert!(chowned.unwrap().success());
    let binary = own_runtime(bundle.path(), SINGLE, 0o755);
    holds(&binary, &bundle);
}

/// Where the foreground runtime of a run is executed from.
fn executed_from(binary: &Path, bundle: &Bundle) -> PathBuf {
    bundle.write();
    let dir = bundle.path().display().to_string();
    let mut run = by(binary, bundle, &["run", "--bundle", &dir, "box"]).stdout(Stdio::null()).spawn().unwrap();
    let state = || by(binary, bundle, &["state", "box"]).stderr(Stdio::null()).output().unwrap();
    wait_for("a container that runs", || text(&state().stdout).contains("\"running\""));
    let exe = fs::read_link(format!("/proc/{}/exe", run.id())).unwrap();
    ok(&by(binary, bundle, &["kill", "box", "KILL"]).output().unwrap());
    run.wait().unwrap();
    exe
}

/// What waits for `start`: the file that it is executed from, and its size.
fn waits_as(binary: &Path, bundle: &Bundle) -> (PathBuf, u64) {
    bundle.write();
    let dir = bundle.path().display().to_string();
    let mut create = by(binary, bundle, &["create", "--bundle", &dir, "box"]);
    assert!(create.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let exe = format!("/proc/{}/exe", bundle.pid());
    let found = (fs::read_link(&exe).unwrap(), fs::metadata(&exe).unwrap().len());
    ok(&by(binary, bundle, &["delete", "--force", "box"]).output().unwrap());
    found
}

#[test]
fn the_stub_and_the_copy_are_made_where_they_are_needed_and_nowhere_else() {
    need_root!("the_stub_and_the_copy_are_made_where_they_are_needed_and_nowhere_else");
    let strict = || Bundle::silent(&["sleep", "1000"]);
    let oci = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
        change(&mut bundle.config);
        bundle
    };
    let memory = Path::new("/memfd:stockade (deleted)");
    let (nothing, stub, copy) = ((false, false), (false, true), (true, true));
    let hook = json!({ "startContainer": [{ "path": "/bin/true" }] });
    let host = json!([{ "type": "mount" }, { "type": "ipc" }]);
    for (bundle, owner, mode, guard) in [
        (strict(), 0, 0o755, nothing),
        (strict(), 1000, 0o755, nothing),
        (strict(), 0, 0o775, stub),
        (strict(), 0, 0o757, stub),
        (strict(), 700_000, 0o755, stub),
        (oci(&|_| {}), 0, 0o755, stub),
        (oci(&|c| c["hooks"] = hook.clone()), 0, 0o755, copy),
        (oci(&|c| c["linux"]["rootfsPropagation"] = json!("shared")), 0, 0o755, copy),
        // Where a label is for the workload, the copy is what is left; this machine may have AppArmor.
        (oci(&|c| c["linux"]["namespaces"] = host.clone()), 0, 0o755, copy),
    ] {
        let labelled = guard == stub
            && bundle.global.iter().all(|w| w != "oci")
            && Path::new("/sys/kernel/security/apparmor").exists();
        let guard = if labelled { copy } else { guard };
        let binary = own_runtime(bundle.path(), owner, mode);
        let (exe, size) = waits_as(&binary, &bundle);
        assert_eq!(exe, if guard.1 { memory } else { &binary }, "owner {owner}, mode {mode:o}, {:?}", bundle.config);
        // A page of code and table, or all of the runtime.
        assert_eq!(size > 16 << 10, guard != stub, "{size}: {:?}", bundle.config);
        let exe = executed_from(&binary, &bundle);
        assert_eq!(exe, if guard.0 { memory } else { &binary }, "owner {owner}, mode {mode:o}, {:?}", bundle.config);
    }
}

#[test]
fn whoever_comes_in_before_the_start_finds_the_stub() {
    need_root!("whoever_comes_in_before_the_start_finds_the_stub");
    let mut bundle = Bundle::usual(&["sh", "-c", "echo started; ls /proc/self/fd | wc -w"]).policy("oci");
    let all = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN", "CAP_KILL"];
    bundle.config["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    bundle.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_FSIZE", "soft": 0, "hard": 0 }]);
    let binary = own_runtime(bundle.path(), 0, 0o755);
    let before = digest(&binary);
    ok(&bundle.create());
    let inside = |script: &str| {
        let mut exec = by(&binary, &bundle, &["exec", "--cap", "CAP_SYS_PTRACE", "box", "sh", "-c", script]);
        text(&exec.output().unwrap().stdout)
    };
    // Its file is memory that nobody can write, and what it has open is the talk with the runtime.
    assert_eq!(inside("readlink /proc/1/exe; cat /proc/1/comm"), "/memfd:stockade (deleted)\nstockade\n");
    assert_eq!(inside("printf x 1<>/proc/1/exe && echo written"), "");
    let open = inside("for f in /proc/1/fd/*; do readlink $f; done");
    assert!(open.lines().count() >= 4, "{open}");
    for link in open.lines().skip(3) {
        assert!(link.starts_with("socket:") || link.ends_with("/gate") || link.ends_with("/failure"), "{open}");
    }
    // It has the rights of the workload already, and has mapped nothing of the host's.
    let maps = inside("cat /proc/1/maps");
    let files: Vec<_> =
        maps.lines().filter_map(|l| l.split_whitespace().nth(5)).filter(|f| f.starts_with('/')).collect();
    assert!(!files.is_empty() && files.iter().all(|f| f.starts_with("/memfd:stockade")), "{maps}");
    let bounds = inside("grep CapBnd /proc/1/status; grep CapBnd /proc/self/status");
    let bounds: Vec<_> = bounds.lines().collect();
    assert!(bounds.len() == 2 && bounds[0] == bounds[1], "{bounds:?}");
    ok(&bundle.verb(&["start", "box"]));
    assert_eq!(digest(&binary), before);
    bundle.delete();
}

#[test]
fn a_workload_that_is_the_runtimes_own_file_is_the_stub() {
    need_root!("a_workload_that_is_the_runtimes_own_file_is_the_stub");
    // It runs through its table once more, finds nobody to talk to, and ends.
    for args in [&["/proc/self/exe", "--version"][..], &["/script"]] {
        let bundle = Bundle::usual(args).policy("oci");
        let script = bundle.rootfs().join("script");
        fs::write(&script, "#!/proc/self/exe --version\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let out = bundle.run();
        assert_eq!((out.status.code(), text(&out.stdout)), (Some(126), String::new()), "{}", text(&out.stderr));
    }
    // Control: where it is a copy, it is all of the runtime.
    let mut bundle = Bundle::usual(&["/proc/self/exe", "--version"]).policy("oci");
    bundle.config["hooks"] = json!({ "startContainer": [{ "path": "/bin/true" }] });
    let out = bundle.run();
    assert!(ok(&out).contains("stockade: "), "{}", text(&out.stdout));
}

#[test]
fn what_the_caller_left_open_survives_the_copy() {
    let name = "what_the_caller_left_open_survives_the_copy";
    need_root!(name);
    let bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    started(&runtime(), &bundle);
    // A process file that can be read only once, and a descriptor for the workload.
    let process = json!({ "args": ["cat"], "cwd": "/", "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 } });
    let shell = |script: &str, words: &[&str]| -> Output {
        let typed = bundle.command(words);
        let mut command = Command::new("bash");
        command.args(["-c", script, "bash"]).arg(typed.get_program()).args(typed.get_args());
        command.env("PROCESS", process.to_string()).stdin(Stdio::null()).output().unwrap()
    };
    let out = shell(r#"echo typed | "$@" --process <(printf %s "$PROCESS") box"#, &["exec"]);
    assert_eq!(ok(&out), "typed\n");
    let out = shell(r#"exec "$@" 3< <(echo handed)"#, &["exec", "--preserve-fds", "1", "box", "sh", "-c", "cat <&3"]);
    assert_eq!(ok(&out), "handed\n");
    // And what is not named for it does not reach the workload.
    let out = shell(r#"exec "$@" 7</etc/hostname"#, &["exec", "box", "sh", "-c", "ls /proc/self/fd | wc -w"]);
    assert_eq!(ok(&out), "4\n", "0, 1, 2, and the listing itself");
}

/// A process on its way into a container, held for as long as the caller's socket for its terminal has no room.
fn joining(bundle: &Bundle, then: impl FnOnce(i32)) {
    let path = bundle.path().join("console");
    let _listener = UnixListener::bind(&path).unwrap();
    let mut waiting = Vec::new();
    // Until the queue of the listener is full: the runtime's connect(2) waits then.
    loop {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let client = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        match connect(client.as_raw_fd(), &UnixAddr::new(&path).unwrap()) {
            Ok(()) => waiting.push(client),
            Err(nix::errno::Errno::EAGAIN) => break,
            Err(e) => panic!("{e}"),
        }
    }
    let socket = path.display().to_string();
    let words = ["exec", "--tty", "--detach", "--console-socket", &socket, "box", "sleep", "1000"];
    let mut caller = bundle.command(&words).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let init = bundle.pid();
    let inside = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = inside(init).unwrap();
    let mut found = None;
    wait_for("the process", || {
        let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        found = pids.into_iter().find(|p| {
            let there = |link: &str| fs::read_link(format!("/proc/{p}/{link}")).unwrap_or_default();
            inside(*p).as_ref() == Some(&own)
                && there("exe").display().to_string().contains("stockade")
                // Its terminal is there: all that comes before the commit is done, or nearly.
                && there("fd/0").starts_with("/dev/pts")
        });
        found.is_some()
    });
    then(found.unwrap());
    drop(waiting);
    caller.kill().unwrap();
    caller.wait().unwrap();
}

#[test]
fn a_process_that_joins_has_nothing_of_the_host_with_it() {
    let name = "a_process_that_joins_has_nothing_of_the_host_with_it";
    need_root!(name);
    // In the user namespace of the host, with all that it takes to look.
    let mut bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    let all = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN", "CAP_KILL"];
    bundle.config["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    started(&runtime(), &bundle);
    joining(&bundle, |pid| {
        let links = |of: &str| ok(&Command::new("ls").args(["-l", of]).output().unwrap());
        let inner = proc_status(pid, "NSpid").unwrap().split_whitespace().last().unwrap().to_owned();
        // As the container sees it, not the host.
        let seen = |script: &str| {
            let script = script.replace("PID", &inner);
            ok(&Command::new("nsenter")
                .args(["-t", &bundle.pid().to_string(), "-m", "-p", "-r", "/bin/sh", "-c", &script])
                .output()
                .unwrap())
        };
        let fds = seen("for f in /proc/PID/fd/*; do readlink $f; done");
        let shown = links(&format!("/proc/{pid}/fd"));
        for link in fds.lines() {
            let harmless = ["socket:", "anon_inode:", "/dev/pts/"];
            assert!(harmless.iter().any(|h| link.starts_with(h)), "{link}: {shown}");
        }
        assert!(fds.lines().count() >= 4, "{shown}");
        // Its root and its directory are the container's, and it is executed from a file that nobody can write.
        let places = seen("for l in root cwd exe; do readlink /proc/PID/$l; done");
        assert_eq!(places, "/\n/\n/memfd:stockade (deleted)\n");
        let write = seen("printf x 1<>/proc/PID/exe && echo written; true");
        assert_eq!(write, "");
    });
}

#[test]
fn a_process_that_joins_cannot_be_looked_at_from_a_user_namespace() {
    let name = "a_process_that_joins_cannot_be_looked_at_from_a_user_namespace";
    need_root!(name);
    let all = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN"];
    let script = r#"while :; do for p in /proc/[0-9]*; do
            read -r name 2>/dev/null <$p/comm
            case $name in stockade*) ls -l $p/fd/ >/seen/fds 2>&1; readlink $p/exe >/seen/exe; (exec 9<$p/mem) 2>/dev/null && echo open >/seen/mem; echo >/seen/done; sleep 1000;; esac
        done; done"#;
    let mut bundle = Bundle::silent(&["sh", "-c", script]);
    bundle.config["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    let seen = bundle.path().join("seen");
    fs::create_dir(&seen).unwrap();
    fs::create_dir(bundle.rootfs().join("seen")).unwrap();
    fs::set_permissions(&seen, fs::Permissions::from_mode(0o777)).unwrap();
    bundle.config["mounts"] =
        json!([{ "destination": "/seen", "type": "none", "source": "seen", "options": ["bind", "rw"] }]);
    let bundle = bundle.operator(json!({ "extends": "strict", "capabilities": { "above": "allow" } }));
    started(&runtime(), &bundle);
    joining(&bundle, |pid| {
        assert_ne!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), u32::MAX);
        wait_for("the look", || seen.join("done").exists());
        let read = |name: &str| fs::read_to_string(seen.join(name)).unwrap_or_default();
        assert_eq!((read("exe"), read("mem")), (String::new(), String::new()));
        assert!(read("fds").contains("ermission denied"), "{}", read("fds"));
        // Control: who looks from the host sees it all.
        assert!(fs::read_link(format!("/proc/{pid}/exe")).is_ok());
    });
}
