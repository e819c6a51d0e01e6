//! The runtime's own binary, which no workload may ever write.

use crate::common::*;
use crate::exec::{leaking, watched};
use crate::harness::*;
use crate::probe;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What a workload does that wants to be the runtime: its program is the link to whoever executes it.
fn own_binary_cases(name: &str, program: &Path, words: &[&str], make: &dyn Fn(&Bundle)) {
    for case in cases(name) {
        let said = watched(case, case.bundle(&[]), program, &|bundle, copy| {
            // Under strict the root is read-only to the workload; the image may have had it from the beginning.
            make(bundle);
            for _ in 0..20 {
                let words = [&["exec", "box"], words].concat();
                let out = leaking(bundle, copy, "", &words).output().unwrap();
                assert!(!text(&out.stderr).contains("panicked"), "{case:?}: {}", text(&out.stderr));
            }
        });
        assert!(!said.contains("OWNED"), "{case:?}: {said}");
    }
}

#[test]
fn cve_2019_5736_own_binary() {
    let name = "cve_2019_5736_own_binary";
    let Ok(program) = probe::program() else { return skip(name, "no C compiler") };
    // The control: a program of the host that is handed in is caught, and written where its owner is in the container.
    // Under strict Landlock executes nothing of the host.
    for case in cases(name).into_iter().filter(|c| c.policy != "strict") {
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
    own_binary_cases(name, &program, &["/proc/self/exe", "features"], &|_| {});
}

#[test]
fn cve_2019_5736_own_binary_by_an_interpreter_line() {
    let name = "cve_2019_5736_own_binary_by_an_interpreter_line";
    let Ok(program) = probe::program() else { return skip(name, "no C compiler") };
    own_binary_cases(name, &program, &["/bin/entry"], &|bundle| {
        let entry = bundle.rootfs().join("bin/entry");
        fs::write(&entry, "#!/proc/self/exe\n").unwrap();
        fs::set_permissions(entry, fs::Permissions::from_mode(0o755)).unwrap();
    });
}
