//! Security modules: stockade's own AppArmor profile and those that a config names, in force in init and in exec; labels
//! of SELinux, as far as a machine has them. What cannot be seen here is in docs/lsm.md.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;
use caller::*;
use common::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with('Y'))
}

macro_rules! need_apparmor {
    ($name:expr) => {
        need_root!($name);
        if !apparmor() {
            return skip($name, "AppArmor is not in force on this kernel");
        }
    };
}

/// A profile that is loaded as long as the value is there.
struct Loaded(String);

impl Loaded {
    fn load(text: String) -> Loaded {
        let loaded = Loaded(text);
        loaded.parser("--replace");
        loaded
    }

    fn parser(&self, how: &str) {
        use std::io::Write;
        let mut child = Command::new("apparmor_parser")
            .args([how, "--skip-cache", "--abort-on-error"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(self.0.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{how}: {}", self.0);
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.parser("--remove");
    }
}

fn shipped() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/apparmor/stockade-default")).unwrap()
}

const CURRENT: &str = "cat /proc/self/attr/apparmor/current";

/// The findings of `box` about the default profile.
fn findings(bundle: &Bundle) -> Vec<Value> {
    let state = std::fs::read(bundle.root().join("box/state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    state["findings"].as_array().unwrap().iter().filter(|f| f["rule"] == "lsm.apparmorDefault").cloned().collect()
}

fn started(bundle: &Bundle) {
    let out = bundle.create();
    assert!(out.status.success(), "{}", text(&out.stderr));
    ok(&bundle.verb(&["start", "box"]));
}

/// Both in one test: the profile is the machine's, and has one name.
#[test]
fn the_default_profile_is_applied_where_it_is_loaded_and_missed_where_it_is_not() {
    need_apparmor!("the_default_profile_is_applied_where_it_is_loaded_and_missed_where_it_is_not");
    let exec = |bundle: &Bundle, script: &str| text(&bundle.verb(&["exec", "box", "sh", "-c", script]).stdout);
    let silent = || Bundle::silent(&["sleep", "1000"]).policy("strict");

    let bundle = silent();
    started(&bundle);
    assert_eq!(exec(&bundle, CURRENT).trim(), "unconfined");
    let found = findings(&bundle);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0]["why"].as_str().unwrap().contains("apparmor_parser"), "{found:?}");
    ok(&bundle.delete());

    let _loaded = Loaded::load(shipped());
    let bundle = silent();
    started(&bundle);
    let enforced = "stockade-default (enforce)";
    let current = format!("/proc/{}/attr/apparmor/current", bundle.pid());
    wait_for("the execve", || std::fs::read_to_string(&current).is_ok_and(|t| t.trim() == enforced));
    assert_eq!(exec(&bundle, CURRENT).trim(), enforced);
    assert!(findings(&bundle).is_empty());
    // It stops nothing that a container does every day: processes, signals among them, files, a network.
    let daily = "sleep 1000 & kill $! && touch /tmp/x /dev/shm/x; ls / >/dev/null && ping -c 1 127.0.0.1 >/dev/null 2>&1; \
        cat /proc/meminfo /proc/self/status >/dev/null && ls -R /proc/self/net /sys/class/net >/dev/null && echo fine";
    assert_eq!(exec(&bundle, daily).trim(), "fine");
    // The runtime's signals reach it.
    ok(&bundle.verb(&["kill", "box", "KILL"]));
    wait_for("the end", || bundle.state()["status"] == "stopped");
    ok(&bundle.delete());

    // For one whom nothing else would stop: host root, without masks, and with the right to mount.
    let attempts = "for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/vm/swappiness \
        /proc/sys/fs/suid_dumpable /sys/kernel/mm/ksm/run; do (: >>$f) 2>/dev/null && echo \"$f\"; done; \
        cat /proc/interrupts >/dev/null 2>&1 && echo interrupts; mount -t tmpfs none /mnt 2>/dev/null && echo mount; \
        (: >>/proc/sys/kernel/msgmax) && (: >>/proc/sys/kernel/shmmax) && (: >>/proc/sys/net/ipv4/ip_forward) && echo own; true";
    let privileged = |default: Value| {
        let policy = json!({ "extends": "oci", "lsm": { "apparmorDefault": default } });
        let mut bundle = Bundle::usual(&["sh", "-c", attempts]).operator(policy);
        bundle.config["linux"]["maskedPaths"] = json!([]);
        bundle.config["linux"]["readonlyPaths"] = json!([]);
        bundle.config["mounts"][5]["options"] = json!(["nosuid", "noexec", "nodev"]);
        let caps = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_NET_ADMIN", "CAP_SYS_RESOURCE"]);
        bundle.config["process"]["capabilities"] = json!({ "bounding": caps, "permitted": caps, "effective": caps });
        ok(&bundle.run())
    };
    assert_eq!(privileged(json!("stockade-default")), "own\n");
    let free = privileged(Value::Null);
    for thing in ["core_pattern", "modprobe", "swappiness", "suid_dumpable", "ksm", "interrupts", "mount", "own"] {
        assert!(free.contains(thing), "the control: {thing} in {free}");
    }

    // A word of the config counts more, also the word unconfined, where the policy lets it.
    let mut bundle = Bundle::usual(&["sh", "-c", CURRENT]).policy("oci");
    assert_eq!(ok(&bundle.run()).trim(), "unconfined", "oci gives what the config says");
    bundle = Bundle::shell(CURRENT).operator(json!({ "extends": "strict", "lsm": { "unconfined": "allow" } }));
    bundle.config["process"]["apparmorProfile"] = json!("unconfined");
    assert_eq!(ok(&bundle.run()).trim(), "unconfined");
    bundle = Bundle::shell(CURRENT).policy("strict");
    bundle.config["process"]["apparmorProfile"] = json!("unconfined");
    assert_eq!(ok(&bundle.run()).trim(), enforced, "tightened");
}

#[test]
fn a_profile_forbids_a_directory_to_init_and_exec() {
    need_apparmor!("a_profile_forbids_a_directory_to_init_and_exec");
    let name = format!("stockade-nginx-{}", std::process::id());
    let profile = |flags: &str| {
        // An explicit `deny` is denied in complain mode, too; what no rule allows is only logged then.
        let rules = match flags.contains("complain") {
            true => "signal,",
            false => {
                "network, capability, file, umount, signal, ptrace, unix, deny /etc/nginx/** wl, \
                 deny /usr/share/nginx/html/secret r,"
            }
        };
        format!("profile {name} flags=({flags}) {{ {rules} }}\n")
    };
    let script = "echo x 2>/dev/null >/etc/nginx/nginx.conf || echo denied; echo x >/etc/other && echo written; \
        cat /etc/nginx/nginx.conf; cat /usr/share/nginx/html/secret 2>&1 | grep -o 'Permission denied'";
    for policy in ["oci", "strict"] {
        for (flags, confined) in [("attach_disconnected", true), ("attach_disconnected, complain", false)] {
            let _loaded = Loaded::load(profile(flags));
            let mut bundle = match policy {
                "oci" => Bundle::usual(&["sleep", "1000"]).policy("oci"),
                _ => Bundle::silent(&["sleep", "1000"]).policy("strict"),
            };
            for dir in ["etc/nginx", "usr/share/nginx/html"] {
                std::fs::create_dir_all(bundle.rootfs().join(dir)).unwrap();
            }
            std::fs::write(bundle.rootfs().join("etc/nginx/nginx.conf"), "").unwrap();
            std::fs::write(bundle.rootfs().join("usr/share/nginx/html/secret"), "").unwrap();
            // Writable, so that the profile alone stands against it; a tmpfs under strict, whose root owns no rootfs.
            if policy == "strict" {
                bundle.config["mounts"] =
                    json!([{ "destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }]);
            }
            bundle.config["process"]["apparmorProfile"] = json!(name);
            let expected = if confined { "denied\nwritten\nPermission denied\n" } else { "written\nx\n" };
            started(&bundle);
            assert_eq!(
                text(&bundle.verb(&["exec", "box", "sh", "-c", script]).stdout),
                expected,
                "exec, {policy}, {flags}"
            );
            ok(&bundle.delete());
            std::fs::write(bundle.rootfs().join("etc/nginx/nginx.conf"), "").unwrap();
            bundle.config["process"]["args"] = json!(["sh", "-c", format!("{script}; true")]);
            assert_eq!(ok(&bundle.run()), expected, "init, {policy}, {flags}");
        }
    }
}

#[test]
fn the_default_profile_is_written_for_the_runtimes_own_names() {
    let text = shipped();
    assert_eq!(text.matches("profile stockade-default ").count(), 1);
    for policy in ["strict", "engine"] {
        let policy = stockade::policy::Policy::load(policy).unwrap();
        assert_eq!(policy.lsm.apparmor_default.as_deref(), Some("stockade-default"), "{}", policy.name);
    }
    // No file of the distribution is included: it loads wherever there is a parser.
    assert!(!text.lines().any(|l| l.trim_start().trim_start_matches('#').starts_with("include")), "{text}");
    // Where there is a parser but no AppArmor, it is at least well-formed.
    if let Ok(out) = Command::new("apparmor_parser")
        .args(["--skip-kernel-load", "--skip-cache", "--debug"])
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("profiles/apparmor/stockade-default"))
        .output()
    {
        assert!(out.status.success(), "{}", common::text(&out.stderr));
    }
}

// --- where others restrict stockade: what such a host says, simulated ---------------------------------------------------

/// Leading words that run a command as an ordinary user whose clone3 is EPERM: what a host says that keeps user
/// namespaces from ordinary users (Ubuntu by AppArmor, older Debian by a sysctl, containers by a filter).
fn without_clone3(user: &Caller) -> Vec<String> {
    let script = "import ctypes, os, struct, sys\n\
        code = [(0x20, 0, 0, 0), (0x15, 0, 1, 435), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000)]\n\
        text = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *i) for i in code))\n\
        prog = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', len(code), ctypes.addressof(text)))\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, prog, 0, 0) == 0\n\
        os.execvp(sys.argv[1], sys.argv[1:])";
    let mut words = user.runner.clone();
    words.extend(["python3", "-c", script].map(str::to_owned));
    words
}

#[test]
fn a_host_without_user_namespaces_for_ordinary_users_is_named_as_such() {
    need_root!("a_host_without_user_namespaces_for_ordinary_users_is_named_as_such");
    let mut user = Caller::single();
    let plain = user.runner.clone();
    user.runner = without_clone3(&user);
    let err = failed(&user.stockade(&["sandbox", "--", "true"]));
    assert!(err.starts_with("stockade: clone3: user mount") || err.contains("clone3: user"), "{err}");
    assert!(err.contains("(EPERM)") && err.contains("kernel.apparmor_restrict_unprivileged_userns"), "{err}");
    assert_eq!(user.left(), [""; 0]);
    // A limit of 0 in a namespace around us says ENOSPC.
    let zero = "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all \"$@\"";
    // By its path: what stands behind the word unshare is cleared away with the caller.
    let around = ["/usr/bin/unshare", "-U", "--map-current-user", "--keep-caps", "sh", "-c", zero, "sh"];
    user.runner = [&plain[..], &around.map(str::to_owned)[..]].concat();
    let err = failed(&user.stockade(&["sandbox", "--", "true"]));
    assert!(err.contains("clone3: user") && err.contains("(ENOSPC)") && err.contains("max_*_namespaces"), "{err}");
    user.runner = plain;
    ok(&user.stockade(&["sandbox", "--", "true"]));
}

#[test]
fn a_user_namespace_without_rights_is_named_as_such() {
    need_apparmor!("a_user_namespace_without_rights_is_named_as_such");
    let name = format!("stockade-userns-{}", std::process::id());
    // As Ubuntu's profile for what makes a user namespace without leave: it exists, and there is no right in it.
    let _loaded = Loaded::load(format!(
        "profile {name} flags=(attach_disconnected) {{ file, network, unix, signal, ptrace, mount, umount, pivot_root, deny capability, }}\n"
    ));
    let mut user = Caller::single();
    user.runner.extend(["aa-exec", "-p", &name, "--"].map(str::to_owned));
    let err = failed(&user.stockade(&["sandbox", "--", "true"]));
    assert!(err.contains("kernel.apparmor_restrict_unprivileged_userns"), "{err}");
    assert_eq!(user.left(), [""; 0]);
}

#[test]
fn a_masked_proc_around_stockade_is_named_as_such() {
    need_root!("a_masked_proc_around_stockade_is_named_as_such");
    let nested = |masked: Value| {
        let mut outer = Bundle::usual(&[]).policy("oci");
        let inner = outer.rootfs().join("inner");
        make_rootfs(&inner.join("rootfs"));
        let config = Bundle::shell("echo from within").config.clone();
        std::fs::write(inner.join("config.json"), config.to_string()).unwrap();
        assert!(Command::new("cp").arg(runtime()).arg(outer.rootfs().join("bin/stockade")).status().unwrap().success());
        outer.config["process"]["args"] =
            json!(["/bin/stockade", "--root", "/tmp/state", "run", "--bundle", "/inner", "nested"]);
        let caps = [
            "CAP_SYS_ADMIN",
            "CAP_SETUID",
            "CAP_SETGID",
            "CAP_SETPCAP",
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FOWNER",
            "CAP_KILL",
            "CAP_SYS_RESOURCE",
            "CAP_MKNOD",
            "CAP_NET_ADMIN",
            "CAP_SETFCAP",
        ];
        outer.config["process"]["capabilities"] = json!({ "bounding": caps, "permitted": caps, "effective": caps });
        outer.config["linux"]["maskedPaths"] = masked;
        outer.config["linux"]["readonlyPaths"] = json!([]);
        outer.run()
    };
    assert_eq!(ok(&nested(json!([]))), "from within\n", "the control");
    let err = failed(&nested(json!(["/proc/keys", "/proc/timer_list"])));
    assert!(err.contains("proc on /proc") && err.contains("(EPERM)"), "{err}");
    assert!(err.contains("masked here (stockade runs in a container itself)"), "{err}");
}
