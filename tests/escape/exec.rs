//! Who comes in, and with what: the runtime's own binary, descriptors that leak, ids, groups and capabilities.

use crate::common::*;
use crate::harness::*;
use crate::need_root;
use crate::probe;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A container that stays: `sleep`, or what the bundle has.
fn up(case: Case, bundle: Bundle) -> Bundle {
    case.give(bundle.path());
    ok(&bundle.create());
    ok(&bundle.verb(&["start", "box"]));
    bundle
}

fn says(bundle: &Bundle, options: &[&str], script: &str) -> Output {
    bundle.verb(&[&["exec"], options, &["box", "sh", "-c", script]].concat())
}

/// The same command line with another binary, and through a shell that first opens these descriptors.
pub fn leaking(bundle: &Bundle, binary: &Path, opened: &str, args: &[&str]) -> Command {
    let command = bundle.command(args);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let own = runtime();
    let words = words.map(|w| if Path::new(w) == own { binary.as_os_str() } else { w });
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{opened} exec \"$@\""), "bash"]).args(words);
    shell.current_dir(bundle.path()).stdin(Stdio::null()).env_remove("STOCKADE_POLICY");
    shell
}

/// A writable /tmp, where the workload and we tell each other things.
fn with_tmp(bundle: &mut Bundle) {
    let dir = bundle.path().join("tmp");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).unwrap();
    mount(bundle, json!({ "destination": "/tmp", "type": "bind", "source": dir, "options": ["rbind", "rw"] }));
}

/// A copy of the runtime, for attacks that would destroy it: the caller's own, as in an ordinary user's ~/.cargo/bin.
fn own_copy(case: Case, bundle: &Bundle) -> PathBuf {
    let copy = bundle.path().join("stockade");
    assert!(Command::new("cp").arg(runtime()).arg(&copy).status().unwrap().success());
    case.give(&copy);
    copy
}

/// Runs the watcher, or what the bundle has in its place, as PID 1 while `during` happens; what it saw.
pub fn watched(case: Case, mut bundle: Bundle, program: &Path, during: &dyn Fn(&Bundle, &Path)) -> String {
    probe::install(&bundle, program);
    with_tmp(&mut bundle);
    if bundle.config["process"]["args"] == json!([]) {
        bundle.config["process"]["args"] = json!(["probe", "watch", "/tmp/stop"]);
    }
    case.give(bundle.path());
    bundle.write();
    let copy = own_copy(case, &bundle);
    let before = fs::read(&copy).unwrap();
    let (log, err) = (bundle.path().join("log"), bundle.path().join("err"));
    let place = bundle.path().display().to_string();
    // Not in the foreground: a program that runs cannot be written.
    let made = leaking(&bundle, &copy, "", &["create", "--bundle", &place, "box"])
        .stdout(fs::File::create(&log).unwrap())
        .stderr(fs::File::create(&err).unwrap())
        .status()
        .unwrap();
    assert!(made.success(), "{case:?}: {}", fs::read_to_string(&err).unwrap());
    ok(&leaking(&bundle, &copy, "", &["start", "box"]).output().unwrap());
    wait_for("a watcher", || fs::read_to_string(&log).unwrap().contains("watching"));
    during(&bundle, &copy);
    fs::write(bundle.path().join("tmp/stop"), "").unwrap();
    // By the state as it is: another look by the copy would be one more process to hold on to.
    ended(&bundle);
    let said = fs::read_to_string(log).unwrap();
    assert!(fs::read(&copy).unwrap() == before, "{case:?}: the runtime's binary was written: {said}");
    ok(&bundle.delete());
    said
}

#[test]
fn cve_2016_9962_nobody_inside_sees_who_comes() {
    let name = "cve_2016_9962_nobody_inside_sees_who_comes";
    let Ok(program) = probe::program() else { return skip(name, "no C compiler") };
    for case in cases(name) {
        let mut seen = false;
        let said = watched(case, case.bundle(&[]), &program, &|bundle, copy| {
            for _ in 0..40 {
                let out = leaking(bundle, copy, "", &["exec", "box", "true"]).output().unwrap();
                assert!(out.status.success(), "{case:?}: {}", text(&out.stderr));
            }
            // The control: what has arrived is seen.
            ok(&leaking(bundle, copy, "", &["exec", "box", "sleep", "1"]).output().unwrap());
        });
        for line in said.lines() {
            seen |= line == "exe /bin/busybox";
            assert!(!line.starts_with("OWNED") && !line.contains("stockade"), "{case:?}: seen from inside: {line}");
        }
        assert!(seen || case.landlocked(), "{case:?}: the watcher sees nothing: {said}");
    }
}

#[test]
fn cve_2016_8659_at_the_gate_nothing_can_be_read() {
    let name = "cve_2016_8659_at_the_gate_nothing_can_be_read";
    let look = "for f in exe root cwd; do readlink /proc/1/$f && echo SEEN; done; for f in /proc/1/fd/*; do \
        readlink $f && echo SEEN; done; cat /proc/1/environ && echo SEEN; cat /proc/1/maps && echo SEEN; echo inside";
    for case in cases(name) {
        let mut bundle = case.bundle(&["sleep", "1000"]);
        bundle.config["process"]["env"] = json!(["PATH=/bin", "SECRET=canary-of-the-environment"]);
        case.give(bundle.path());
        ok(&bundle.create());
        let early = says(&bundle, &[], &format!("{{ {look}; }} 2>/dev/null"));
        // An ordinary user cannot come in before the start.
        if let Stopped::Confined(said) = stopped(name, case, &early) {
            assert_eq!(said, INSIDE, "{case:?}");
        }
        // The control: the workload itself can be looked at by its like.
        ok(&bundle.verb(&["start", "box"]));
        let visible = || {
            let said = ok(&says(&bundle, &[], &format!("{{ {look}; }} 2>/dev/null")));
            said.contains("/bin/busybox") && said.contains("canary-of-the-environment")
        };
        if !case.landlocked() {
            wait_for("the workload", visible);
        }
        ok(&bundle.delete());
    }
}

#[test]
fn cve_2024_21626_leaked_descriptors() {
    let name = "cve_2024_21626_leaked_descriptors";
    for case in cases(name) {
        let canary = case.canary();
        let open = format!("exec 3<{0} 7</ 9<{0} 63<{0};", canary.at(""));
        let own = runtime();
        let run = |bundle: &Bundle| {
            case.give(bundle.path());
            bundle.write();
            let place = bundle.path().display().to_string();
            leaking(bundle, &own, &open, &["run", "--bundle", &place, "box"]).output().unwrap()
        };
        // The control, and what is open in it: only the three, and the one that lists.
        let script =
            "cd /proc/self/fd; for n in *; do [ -d /proc/self/fd/$n/dir ] && echo canary-at-$n; done; echo inside";
        let mut bundle = case.shell(script);
        assert_eq!(ok(&run(&bundle)), INSIDE, "{case:?}");
        for n in (3..14).chain([63, 64]) {
            for (cwd, program) in [
                (format!("/proc/self/fd/{n}"), "/bin/busybox".to_owned()),
                (format!("/proc/self/fd/{n}/dir"), "/bin/busybox".to_owned()),
                (format!("/proc/thread-self/fd/{n}/../../.."), "/bin/busybox".to_owned()),
                ("/".to_owned(), format!("/proc/self/fd/{n}/bin/cat")),
            ] {
                bundle.config["process"]["cwd"] = json!(cwd);
                bundle.config["process"]["args"] = json!([program, "ls", "-a", "."]);
                let out = run(&bundle);
                stopped(&format!("{name}, {cwd}, {program}"), case, &out);
                assert!(!out.status.success(), "{cwd}, {program}, {case:?}: {}", text(&out.stdout));
            }
        }
        // The same coming later, also where the image links to it.
        let bundle = case.bundle(&["sleep", "1000"]);
        for n in 3..14 {
            link(&bundle, &format!("/home/{n}"), &format!("/proc/self/fd/{n}"));
        }
        let bundle = up(case, bundle);
        let into = |words: &[&str]| leaking(&bundle, &own, &open, &[&["exec"], words].concat()).output().unwrap();
        assert_eq!(ok(&into(&["box", "sh", "-c", script])), INSIDE, "{case:?}");
        for n in 3..14 {
            for cwd in [format!("/proc/self/fd/{n}"), format!("/home/{n}"), format!("/home/{n}/dir")] {
                let out = into(&["--cwd", &cwd, "box", "ls", "-a", "."]);
                stopped(&format!("{name}, exec in {cwd}"), case, &out);
                assert!(!out.status.success(), "exec in {cwd}, {case:?}: {}", text(&out.stdout));
            }
        }
        ok(&bundle.delete());
        canary.unchanged(name);
    }
}

#[test]
fn exec_of_a_program_of_the_host_by_a_descriptor() {
    let name = "exec_of_a_program_of_the_host_by_a_descriptor";
    for case in cases(name) {
        let bundle = up(case, case.bundle(&["sleep", "1000"]));
        let host = bundle.path().join("host-program");
        assert!(Command::new("cp").arg(busybox()).arg(&host).status().unwrap().success());
        let open = format!("exec 3<{0} 5<{0};", host.display());
        let own = runtime();
        for n in 3..12 {
            let program = format!("/proc/self/fd/{n}");
            let out =
                leaking(&bundle, &own, &open, &["exec", "box", &program, "echo", "of the host"]).output().unwrap();
            stopped(name, case, &out);
            assert!(!out.status.success(), "{n}, {case:?}");
        }
        // The control: the descriptor does lead to the program, where it is handed on; by that name it has no applet.
        let words = ["exec", "--preserve-fds", "1", "box", "/proc/self/fd/3", "echo", "ran"];
        let out = leaking(&bundle, &own, &open, &words).output().unwrap();
        let given = if case.landlocked() { "permission denied" } else { "3: applet not found" };
        assert!(text(&out.stderr).contains(given), "{case:?}: {}", text(&out.stderr));
    }
}

/// Who the image says that these numbers are.
const PASSWD: &str = "root:x:0:0::/root:/bin/sh\n1:x:0:0::/:/bin/sh\n1000:x:0:0::/:/bin/sh\n-1:x:0:0::/:\n\
    4294967295:x:0:0::/:\n4294967296:x:0:0::/:\n0x10:x:0:0::/:\n+5:x:0:0::/:\nminus:x:-1:-1::/:\nbig:x:4294967296:0::/:\n\
    wrap:x:4294967295:4294967295::/:\n2147483648:x:0:0::/:\nhuge:x:99999999999999999999:0::/:\nempty:x:::/:\nx:x: 0:0::/:\n";

/// Its uid by the kernel, not by id(1), which would read that passwd.
const UID: &str = "sed -n 's/^Uid:.\\([0-9]*\\).*/\\1/p' /proc/self/status";

#[test]
fn cve_2016_3697_a_number_that_is_a_name_in_the_image() {
    let name = "cve_2016_3697_a_number_that_is_a_name_in_the_image";
    for case in cases(name) {
        let with = |uid: u32| {
            let mut bundle = case.shell(UID);
            fs::write(bundle.rootfs().join("etc/passwd"), PASSWD).unwrap();
            bundle.config["process"]["user"]["uid"] = json!(uid);
            case.give(bundle.path());
            bundle.run()
        };
        assert_eq!(ok(&with(0)), "0\n", "{case:?}: the control");
        for uid in [1, 1000] {
            let out = with(uid);
            if let Stopped::Confined(said) = stopped(name, case, &out) {
                assert_eq!(said, format!("{uid}\n"), "{case:?}");
            }
        }
    }
}

#[test]
fn cve_2026_30892_exec_as_a_user_by_its_number() {
    let name = "cve_2026_30892_exec_as_a_user_by_its_number";
    for case in cases(name) {
        let bundle = case.bundle(&["sleep", "1000"]);
        fs::write(bundle.rootfs().join("etc/passwd"), PASSWD).unwrap();
        fs::write(bundle.rootfs().join("etc/group"), "root:x:0:\n-1:x:0:\n4294967295:x:0:\nminus:x:-1:\n").unwrap();
        let bundle = up(case, bundle);
        assert_eq!(ok(&says(&bundle, &["-u", "0"], UID)), "0\n", "the control");
        for user in ["1", "1:1", "1000", "2147483647"] {
            if let Stopped::Confined(said) = stopped(name, case, &says(&bundle, &["-u", user], UID)) {
                assert_eq!(Some(said.trim_end()), user.split(':').next(), "{case:?}");
            }
        }
        // What looks like a number and is none is nobody, whatever the image says of a user of that name; nor is anybody
        // whose entry has no good number.
        let wrong = [
            "4294967295",
            "4294967296",
            "2147483648",
            "-1",
            "+5",
            "minus",
            "big",
            "wrap",
            "huge",
            "empty",
            "1 ",
            " 1",
            "",
        ];
        for user in wrong {
            let out = says(&bundle, &[&format!("--user={user}")], UID);
            let stop = stopped(name, case, &out);
            assert!(matches!(stop, Stopped::Refused(_)), "{user:?}, {case:?}: {stop:?}");
            let out = says(&bundle, &[&format!("--user=0:{user}")], UID);
            let stop = stopped(name, case, &out);
            assert!(matches!(stop, Stopped::Refused(_)), "0:{user:?}, {case:?}: {stop:?}");
        }
        ok(&bundle.delete());
    }
}

#[test]
fn cve_2024_40635_ids_that_wrap() {
    let name = "cve_2024_40635_ids_that_wrap";
    for case in cases(name) {
        let with = |field: &str, value: Value| {
            let mut bundle = case.shell(UID);
            bundle.config["process"]["user"][field] = value;
            case.give(bundle.path());
            bundle.run()
        };
        assert_eq!(ok(&with("gid", json!(0))), "0\n", "{case:?}: the control");
        let numbers = [
            json!(2_147_483_648_u64),
            json!(4_294_967_295_u64),
            json!(4_294_967_296_u64),
            json!(-1),
            json!(1e10),
            json!("0"),
        ];
        for value in numbers {
            for field in ["uid", "gid"] {
                let stop = stopped(name, case, &with(field, value.clone()));
                let Stopped::Refused(err) = stop else { panic!("{field} {value}, {case:?}: {stop:?}") };
                assert!(foreign() || err.contains(field), "{field} {value}, {case:?}: {err}");
            }
            let stop = stopped(name, case, &with("additionalGids", json!([value])));
            assert!(matches!(stop, Stopped::Refused(_)), "additionalGids {value}, {case:?}: {stop:?}");
        }
    }
}

const RIGHTS: &str = "sed -n '/^Cap/p;/^NoNew/p;/^Seccomp/p' /proc/self/status";

fn field<'a>(said: &'a str, name: &str) -> &'a str {
    said.lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("{name}: {said}"))
        .trim()
}

const NONE: &str = "0000000000000000";

#[test]
fn cve_2016_8867_another_user_than_root_has_no_capabilities() {
    let name = "cve_2016_8867_another_user_than_root_has_no_capabilities";
    for case in cases(name) {
        let mut bundle = case.shell(RIGHTS);
        bundle.config["process"]["capabilities"] = json!({ "bounding": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"] });
        case.give(bundle.path());
        // The control: root has them.
        assert_ne!(field(&ok(&bundle.run()), "CapEff"), NONE, "{case:?}");
        bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        let Stopped::Confined(said) = stopped(name, case, &bundle.run()) else { continue };
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(field(&said, set), NONE, "{set}, {case:?}");
        }
    }
}

#[test]
fn cve_2022_29162_nothing_is_inherited() {
    let name = "cve_2022_29162_nothing_is_inherited";
    need_root!(name);
    for case in by_root() {
        let sets = json!({ "bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"] });
        let made = |inheritable: bool| {
            let mut bundle = case.bundle(&["/capable/sed", "-n", "/^Cap/p", "/proc/self/status"]);
            let file = bundle.rootfs().join("capable/sed");
            fs::create_dir(file.parent().unwrap()).unwrap();
            assert!(Command::new("cp").arg(busybox()).arg(&file).status().unwrap().success());
            bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
            bundle.config["process"]["capabilities"] = sets.clone();
            if inheritable {
                bundle.config["process"]["capabilities"]["inheritable"] = json!(["CAP_CHOWN"]);
            }
            // Only who inherits the capability gets it of this file.
            let set = Command::new("setcap").arg("cap_chown=ei").arg(&file).status();
            set.is_ok_and(|s| s.success()).then_some(bundle)
        };
        let Some(bundle) = made(false) else {
            return skip(name, "setcap is missing, or the file system has no xattrs");
        };
        let said = ok(&bundle.run());
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(field(&said, set), NONE, "{set}, {case:?}");
        }
        // The control: where the config asks for it, oci does exactly that, and the file gives it.
        if case.policy == "oci" {
            assert_eq!(field(&ok(&made(true).unwrap().run()), "CapPrm"), "0000000000000001");
        }
        // Coming later, with a capability by name.
        let mut bundle = made(false).unwrap();
        bundle.config["process"]["args"] = json!(["sleep", "1000"]);
        let bundle = up(case, bundle);
        for options in [&[][..], &["--cap", "CAP_CHOWN"], &["--cap", "CAP_CHOWN", "-u", "5"]] {
            let words = [&["exec"], options, &["box", "/capable/sed", "-n", "/^Cap/p", "/proc/self/status"]].concat();
            assert_eq!(field(&ok(&bundle.verb(&words)), "CapInh"), NONE, "{options:?}, {case:?}");
        }
        ok(&bundle.delete());
    }
}

#[test]
fn exec_keeps_no_new_privs_and_the_filter() {
    let name = "exec_keeps_no_new_privs_and_the_filter";
    for case in cases(name) {
        let mut bundle = case.bundle(&["sleep", "1000"]);
        bundle.config["process"]["noNewPrivileges"] = json!(true);
        bundle.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdirat", "mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }] });
        let bundle = up(case, bundle);
        let file = bundle.path().join("process.json");
        let mut process = bundle.config["process"].clone();
        process["args"] = json!(["sh", "-c", format!("{RIGHTS}; mkdir /tmp/x 2>&1")]);
        process["noNewPrivileges"] = json!(false);
        fs::write(&file, process.to_string()).unwrap();
        let script = format!("{RIGHTS}; mkdir /tmp/x 2>&1");
        let init = proc_status(bundle.pid(), "Seccomp_filters").unwrap();
        let outputs = [
            says(&bundle, &[], &script),
            says(&bundle, &["-u", "0:0"], &script),
            says(&bundle, &["--cap", "CAP_CHOWN"], &script),
            bundle.verb(&["exec", "--process", &file.display().to_string(), "box"]),
        ];
        let mut ran = 0;
        for out in outputs {
            let (said, err) = (text(&out.stdout), text(&out.stderr));
            if said.is_empty() {
                // Refused by the policy that the container was made with.
                assert_eq!(err.trim_end().lines().count(), 1, "{case:?}: {err}");
                continue;
            }
            ran += 1;
            assert_eq!((field(&said, "NoNewPrivs"), field(&said, "Seccomp")), ("1", "2"), "{case:?}");
            assert_eq!(field(&said, "Seccomp_filters"), init, "{case:?}");
            assert!(said.contains("not supported"), "{case:?}: the filter of the config: {said}");
        }
        assert!(ran >= 2, "{case:?}: the control");
        ok(&bundle.delete());
    }
}

#[test]
fn cve_2022_36109_groups_of_the_caller() {
    let name = "cve_2022_36109_groups_of_the_caller";
    need_root!(name);
    for case in by_root() {
        let script = "sed -n 's/^Groups:[ \t]*//p' /proc/self/status | tr -d '\\n' | sed 's/ *$//'";
        let with = |bundle: &mut Bundle| bundle.runner.extend(["setpriv", "--groups", "4242,27"].map(str::to_owned));
        let mut bundle = case.shell(script);
        with(&mut bundle);
        assert_eq!(ok(&bundle.run()), "", "{case:?}");
        // The control: those that are asked for are there, and no others.
        bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 7, "additionalGids": [8, 9] });
        assert_eq!(ok(&bundle.run()).replace(' ', ","), "8,9", "{case:?}");
        let mut bundle = case.bundle(&["sleep", "1000"]);
        with(&mut bundle);
        let bundle = up(case, bundle);
        assert_eq!(ok(&says(&bundle, &[], script)), "", "exec, {case:?}");
        assert_eq!(ok(&says(&bundle, &["-u", "1000:1000"], script)).replace("1000", ""), "", "exec -u, {case:?}");
        ok(&bundle.delete());
    }
}

#[test]
fn cve_2015_1331_attaching_by_a_proc_of_the_container() {
    let name = "cve_2015_1331_attaching_by_a_proc_of_the_container";
    for case in cases(name) {
        let canary = case.canary();
        // What the container sees at /proc is the image's own, with the files that whoever comes in would write.
        let mut bundle = case.bundle(&["sleep", "1000"]);
        unmount(&mut bundle, &["/proc"]);
        if case.policy == "strict" {
            let volume = bundle.path().join("volume");
            fs::create_dir(&volume).unwrap();
            mount(
                &mut bundle,
                json!({ "destination": "/proc", "type": "bind", "source": volume, "options": ["rbind"] }),
            );
        }
        let fake = match case.policy {
            "strict" => bundle.path().join("volume"),
            _ => bundle.rootfs().join("proc"),
        };
        for file in ["self/attr/exec", "self/attr/apparmor/exec", "self/oom_score_adj", "1/attr/exec", "self/uid_map"] {
            fs::create_dir_all(fake.join(file).parent().unwrap()).unwrap();
            fs::write(fake.join(file), "").unwrap();
        }
        case.give(bundle.path());
        let out = bundle.create();
        if let Stopped::Refused(_) = stopped(name, case, &out) {
            continue;
        }
        ok(&bundle.verb(&["start", "box"]));
        let out = says(&bundle, &[], "echo inside");
        stopped(name, case, &out);
        let labelled = bundle.verb(&["exec", "--apparmor", "stockade-nobody", "box", "true"]);
        assert!(!labelled.status.success(), "{case:?}: a label that does not exist is in force");
        for file in ["self/attr/exec", "self/attr/apparmor/exec", "self/oom_score_adj", "1/attr/exec", "self/uid_map"] {
            assert_eq!(fs::read_to_string(fake.join(file)).unwrap(), "", "{file}, {case:?}");
        }
        ok(&bundle.delete());
        canary.unchanged(name);
    }
}
