//! The runtime's own binary, which no workload may ever write.

use crate::common::*;
use crate::exec::{leaking, watched};
use crate::harness::*;
use crate::probe;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What a workload does that wants to be the runtime: its program is the link to whoever executes it. The log is a FIFO,
/// so the runtime that comes in stands still until the watcher has seen it.
fn own_binary_cases(name: &str, program: &Path, entry: &str, make: &dyn Fn(&Bundle)) {
    // Under strict Landlock executes nothing of the host.
    for case in cases(name) {
        let said = watched(case, case.bundle(&[]), program, &|bundle, copy| {
            // Under strict the root is read-only to the workload; the image may have had it from the beginning.
            make(bundle);
            let fifo = bundle.path().join("tmp/fifo");
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
            case.give(&fifo);
            let mut coming = leaking(bundle, copy, "", &["exec", "box", entry, "--log", "/tmp/fifo", "state", "none"])
                .spawn()
                .unwrap();
            let log = || fs::read_to_string(bundle.path().join("log")).unwrap();
            if case.landlocked() {
                assert!(!coming.wait().unwrap().success(), "{case:?}: executed");
                return;
            }
            wait_for("a hold on the runtime", || log().contains("HELD"));
            // It may be written when nobody executes it any more.
            coming.kill().unwrap();
            coming.wait().unwrap();
            end_inside(bundle, copy, "stockade");
            std::thread::sleep(std::time::Duration::from_millis(300));
        });
        assert!(!said.contains("OWNED"), "{case:?}: {said}");
    }
}

/// Kills what executes a program of this name inside.
fn end_inside(bundle: &Bundle, copy: &Path, program: &str) {
    let script = format!(
        "for p in /proc/[0-9]*; do readlink $p/exe | grep -q {program} && test ${{p#/proc/}} != $$ && kill -9 ${{p#/proc/}}; done; true"
    );
    ok(&leaking(bundle, copy, "", &["exec", "box", "sh", "-c", &script]).output().unwrap());
}

#[test]
fn cve_2019_5736_own_binary() {
    let name = "cve_2019_5736_own_binary";
    let Ok(program) = probe::program() else { return skip(name, "no C compiler") };
    // The control: a program of the host that is handed in is caught, and written where its owner is in the container.
    // Under strict Landlock executes nothing of the host.
    for case in cases(name).into_iter().filter(|c| !c.landlocked()) {
        let said = watched(case, case.bundle(&[]), &program, &|bundle, copy| {
            let victim = bundle.path().join("victim");
            assert!(Command::new("cp").args([&program, &victim]).status().unwrap().success());
            case.give(&victim);
            let open = format!("exec 3<{};", victim.display());
            let words = ["exec", "--preserve-fds", "1", "box", "/proc/self/fd/3", "sleep"];
            let mut coming = leaking(bundle, copy, &open, &words).spawn().unwrap();
            let log = || fs::read_to_string(bundle.path().join("log")).unwrap();
            wait_for("a hold on the program", || log().contains("HELD"));
            let own = [
                "exec",
                "box",
                "sh",
                "-c",
                "for p in /proc/[0-9]*; do readlink $p/exe | grep -q victim && kill -9 ${p#/proc/}; done; true",
            ];
            ok(&leaking(bundle, copy, "", &own).output().unwrap());
            coming.wait().unwrap();
            wait_for("a program of the host that is written", || log().contains("OWNED"));
        });
        assert!(said.contains("HELD"), "{case:?}");
    }
    own_binary_cases(name, &program, "/proc/self/exe", &|_| {});
}

#[test]
fn cve_2019_5736_own_binary_by_an_interpreter_line() {
    let name = "cve_2019_5736_own_binary_by_an_interpreter_line";
    let Ok(program) = probe::program() else { return skip(name, "no C compiler") };
    own_binary_cases(name, &program, "/bin/entry", &|bundle| {
        let entry = bundle.rootfs().join("bin/entry");
        fs::write(&entry, "#!/proc/self/exe --log=/tmp/fifo\n").unwrap();
        fs::set_permissions(entry, fs::Permissions::from_mode(0o755)).unwrap();
    });
}
