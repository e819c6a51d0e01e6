//! Real programs in real root file systems: Debian's Python, gcc, git, nginx and redis, and busybox; run by root and by an
//! ordinary user, under `strict` and under `oci`. What strict's defaults would break shows here; what each program needs
//! beyond them, in `needs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;
#[path = "programs/needs.rs"]
mod needs;
use caller::*;
use common::*;
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Debian's root file system, made once and only read: the VM's own, or one beside the cached tar.
fn debian() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| {
        let ready = Path::new("/mnt/rootfs/debian");
        if ready.join("usr/bin/gcc").exists() { ready.to_owned() } else { made("debian", &["make", "debian"]) }
    })
}

/// The one with Node, PostgreSQL and Java, which the VM does not have.
fn more() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| made("more", &["more"]))
}

/// A root file system by a command of tests/rootfs.
fn made(name: &str, command: &[&str]) -> PathBuf {
    let cache = std::env::var_os("STOCKADE_TEST_CACHE")
        .map_or_else(|| PathBuf::from("/var/cache/stockade-tests"), PathBuf::from);
    let make = format!("{HERE}/tests/rootfs/{}", command[0]);
    let mut hash = DefaultHasher::new();
    for file in [&make, &format!("{HERE}/tests/vm/lib")] {
        std::fs::read(file).unwrap().hash(&mut hash);
    }
    let tree = cache.join(format!("{name}-{:016x}.tree", hash.finish()));
    // Whole or absent, whoever else makes it at the same time.
    let script = r#"[ -d "$0" ] && exit; mkdir -p "${0%/*}"; exec 9>"$0.lock"; flock 9; [ -d "$0" ] && exit
        rm -rf "$0.new" && "$@" "$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0""#;
    let mut bash = std::process::Command::new("bash");
    let status = bash.args(["-c", script]).arg(&tree).arg(&make).args(&command[1..]).status().unwrap();
    assert!(status.success(), "tests/rootfs/{} failed", command.join(" "));
    tree
}

/// A silent bundle on Debian's root file system: /tmp and a writable directory of the caller's at /work, both as strict
/// leaves them.
fn silent(caller: &Caller, script: &str) -> Value {
    let work = caller.path().join("work");
    if !work.exists() {
        caller.own_dir("work");
        // Root's containers have ids of their own, which own nothing here; a finding of strict says so.
        std::fs::set_permissions(&work, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    let tmp =
        json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777", "size=256m"] });
    let run = json!({ "destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=16m"] });
    // A directory that the root file system has anyway.
    let work = json!({ "destination": "/mnt", "type": "none", "source": work, "options": ["bind", "rw"] });
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh", "-ec", script],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "LC_ALL=C"],
            "cwd": "/tmp"
        },
        "root": { "path": debian() },
        "mounts": [tmp, run, work]
    })
}

/// What an engine sends, for `oci`: the same with the usual mounts, namespaces and masks, and an ordinary user's map.
fn usual(caller: &Caller, script: &str) -> Value {
    let mut config = silent(caller, script);
    let own = config["mounts"].as_array().unwrap().clone();
    let made = caller.path().join("spec");
    if !made.exists() {
        std::fs::create_dir(&made).unwrap();
        std::os::unix::fs::chown(&made, Some(caller.uid), Some(caller.uid)).unwrap();
        let mut args = vec!["spec", "--bundle", made.to_str().unwrap()];
        if !caller.is_root() {
            args.push("--rootless");
        }
        ok(&caller.stockade(&args));
    }
    let spec: Value = serde_json::from_slice(&std::fs::read(made.join("config.json")).unwrap()).unwrap();
    let mounts = spec["mounts"].as_array().unwrap();
    // Without a network namespace redis and nginx of two tests would meet on the host's ports.
    config["linux"] = spec["linux"].clone();
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    if !namespaces.iter().any(|n| n["type"] == "network") {
        namespaces.push(json!({ "type": "network" }));
    }
    config["mounts"] = mounts.iter().chain(&own).cloned().collect();
    config["root"]["readonly"] = json!(true);
    config
}

/// Runs a script on Debian for every caller under both policies and gives its output to a check.
fn everywhere(test: &str, script: &str, check: impl Fn(&str)) {
    for caller in Caller::all(test) {
        for policy in ["strict", "oci"] {
            let config = if policy == "strict" { silent(&caller, script) } else { usual(&caller, script) };
            let out = go(&caller, policy, &config);
            eprintln!("uid {} under {policy}", caller.uid);
            check(&ok(&out));
            assert_eq!(caller.left(), [""; 0]);
        }
    }
}

fn go(caller: &Caller, policy: &str, config: &Value) -> Output {
    verb(caller, policy, config, &["run", "box"])
}

/// A verb with that bundle.
fn verb(caller: &Caller, policy: &str, config: &Value, words: &[&str]) -> Output {
    let bundle = caller.path().join(policy);
    if !bundle.exists() {
        std::fs::create_dir(&bundle).unwrap();
    }
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let bundle = bundle.display().to_string();
    // One Debian serves all bundles, from outside of them.
    let file = caller.strict_with_host_paths();
    let policy = if policy == "strict" { file.as_str() } else { policy };
    caller.stockade(&[&["--policy", policy], words, &["--bundle", &bundle]].concat())
}

const PYTHON: &str = r#"exec python3 - <<'END'
import concurrent.futures, hashlib, multiprocessing, os, socket, sqlite3, ssl, subprocess, tempfile, threading
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(sum(pool.map(lambda n: n * n, range(100))))
print(subprocess.run(["sh", "-c", "echo $((6*7)) | tr 4 5"], capture_output=True, text=True).stdout.strip())
def square(n): return n * n
with multiprocessing.get_context("fork").Pool(3) as pool:
    print(sum(pool.map(square, range(10))))
print(len(ssl.create_default_context().get_ca_certs()) > 50)
with tempfile.TemporaryFile() as f:
    f.write(os.urandom(1 << 20)); f.seek(0); print(len(hashlib.sha256(f.read()).hexdigest()))
db = sqlite3.connect("/tmp/db"); db.execute("create table t(n)"); db.execute("insert into t values(42)"); db.commit()
print(db.execute("select n from t").fetchone()[0])
server = socket.create_server(("127.0.0.1", 0))
def serve():
    with server.accept()[0] as s: s.sendall(s.recv(100).upper())
thread = threading.Thread(target=serve); thread.start()
with socket.create_connection(server.getsockname()) as s:
    s.sendall(b"hello"); print(s.recv(100).decode())
thread.join()
END"#;

#[test]
fn python_with_threads_subprocesses_and_ssl() {
    need_root!("python_with_threads_subprocesses_and_ssl");
    everywhere("python_with_threads_subprocesses_and_ssl", PYTHON, |out| {
        assert_eq!(out, "328350\n52\n285\nTrue\n64\n42\nHELLO\n")
    });
}

const GIT: &str = "git init -q r && cd r && git config user.name N && git config user.email n@example.org && \
        echo 1 >f && git add f && git commit -qm first && echo 2 >>f && git commit -qam second && \
        git clone -q . ../s && cd ../s && git log --format=%s && git fsck && git gc -q && git show HEAD~:f";

#[test]
fn git_commits() {
    need_root!("git_commits");
    everywhere("git_commits", GIT, |out| assert_eq!(out, "second\nfirst\n1\n"));
}

#[test]
fn gcc_builds_a_program_that_runs() {
    need_root!("gcc_builds_a_program_that_runs");
    let script = r#"cat >a.c <<'END'
#include <stdio.h>
#include <pthread.h>
static void *work(void *p) { *(int *)p *= 7; return 0; }
int main(void) {
    int n = 6; pthread_t t;
    if (pthread_create(&t, 0, work, &n) || pthread_join(t, 0)) return 1;
    return printf("%d\n", n) < 0;
}
END
gcc -O2 -Wall -Werror -pthread a.c -o /mnt/a && /mnt/a && rm /mnt/a"#;
    everywhere("gcc_builds_a_program_that_runs", script, |out| assert_eq!(out, "42\n"));
}

#[test]
fn what_was_built_on_strict_s_tmpfs_does_not_run() {
    need_root!("what_was_built_on_strict_s_tmpfs_does_not_run");
    let caller = Caller::root();
    let script = "cp /bin/true /tmp/t; /tmp/t && echo ran || echo denied";
    assert_eq!(ok(&go(&caller, "strict", &silent(&caller, script))), "denied\n");
    assert_eq!(ok(&go(&caller, "oci", &usual(&caller, script))), "ran\n");
}

/// PING until it answers, then what a client does; the server ends with the container.
const REDIS: &str = "redis-server --save '' --dir /tmp --port 6379 --bind 127.0.0.1 >/tmp/log 2>&1 & \
    n=0; until redis-cli ping 2>/dev/null | grep -q PONG; do n=$((n+1)); [ $n -lt 600 ] || { cat /tmp/log; exit 1; }; sleep .1; done; \
    redis-cli set key value; redis-cli get key; redis-cli incr n; redis-cli save; ls /tmp/dump.rdb; \
    redis-cli bgsave >/dev/null; until redis-cli info persistence | grep -q rdb_bgsave_in_progress:0; do sleep .1; done; \
    redis-cli info persistence | grep -o last_bgsave_status:ok; redis-cli shutdown nosave; wait";

#[test]
fn redis_serves_its_loopback() {
    need_root!("redis_serves_its_loopback");
    everywhere("redis_serves_its_loopback", REDIS, |out| {
        assert_eq!(out, "OK\nvalue\n1\nOK\n/tmp/dump.rdb\nlast_bgsave_status:ok\n");
    });
}

/// One page, fetched by a client of five lines; nginx ends on QUIT.
const NGINX: &str = r#"mkdir -p /tmp/www && echo 'a page' >/tmp/www/index.html
cat >/tmp/nginx.conf <<'END'
worker_processes 2; pid /tmp/nginx.pid; error_log /tmp/error.log;
events { worker_connections 64; }
http {
    access_log off; sendfile on;
    client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
    server { listen 127.0.0.1:8080; root /tmp/www; }
}
END
nginx -e /tmp/error.log -c /tmp/nginx.conf -g "daemon off;$MORE" & server=$!
python3 - <<'END' || { cat /tmp/error.log; exit 1; }
import time, urllib.request
for n in range(600):
    try: print(urllib.request.urlopen("http://127.0.0.1:8080/").read().decode(), end=""); break
    except OSError: time.sleep(.1)
else: raise SystemExit("no answer")
END
WHO=$(stat -c %u /proc/$(cat /proc/$server/task/$server/children | cut -d' ' -f1))
kill -QUIT $server; wait $server; echo $WHO; grep -v -e notice -e initgroups /tmp/error.log || true"#;

#[test]
fn nginx_serves_a_page() {
    need_root!("nginx_serves_a_page");
    // As uid 0 without any capability its workers stay what it is (and it says that initgroups failed).
    for caller in Caller::all("nginx_serves_a_page") {
        for policy in ["strict", "oci"] {
            // Non-root where there is another id.
            let uids: &[u32] =
                if caller.uid == SINGLE || (policy == "oci" && !caller.is_root()) { &[0] } else { &[0, 33] };
            for uid in uids {
                let script = format!("MORE='{}'; {NGINX}", if *uid == 0 { "user root root;" } else { "" });
                let mut config = if policy == "strict" { silent(&caller, &script) } else { usual(&caller, &script) };
                config["process"]["user"] = json!({ "uid": uid, "gid": uid });
                eprintln!("uid {} under {policy} as {uid}", caller.uid);
                let out = ok(&go(&caller, policy, &config));
                assert_eq!(out, format!("a page\n{uid}\n"));
            }
        }
    }
    // With the capabilities that strict's ceiling has for such daemons it drops its rights by itself.
    let caller = Caller::root();
    let mut config = silent(&caller, &format!("MORE='user www-data;'; {NGINX}"));
    let caps = json!(["CAP_CHOWN", "CAP_SETGID", "CAP_SETUID", "CAP_KILL"]);
    config["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
    assert_eq!(ok(&go(&caller, "strict", &config)), "a page\n33\n");
}

/// `seccomp record`: the profile of a program lets it do the same, under either policy, and nothing else.
#[test]
fn recorded_profiles_are_enough_and_no_more() {
    need_root!("recorded_profiles_are_enough_and_no_more");
    let nginx = format!("MORE='user root root;'; {NGINX}");
    // Without this it depends on who is faster whether the workers are killed.
    let python = PYTHON.replace("range(10))))\n", "range(10)))); pool.close(); pool.join()\n");
    assert_ne!(python, PYTHON);
    for caller in Caller::all("recorded_profiles_are_enough_and_no_more") {
        let out = caller.own_dir("profiles");
        for (name, script, expect) in [
            ("python3", python.as_str(), "328350\n52\n285\nTrue\n64\n42\nHELLO\n"),
            ("git", GIT, "second\nfirst\n1\n"),
            ("redis", REDIS, "OK\nvalue\n1\nOK\n/tmp/dump.rdb\nlast_bgsave_status:ok\n"),
            ("nginx", &nginx, "a page\n0\n"),
        ] {
            eprintln!("{name} as {}", caller.uid);
            // Whether the shell sleeps in its last wait depends on the program being gone by then: here it does once.
            let script = &format!("sleep .1 & wait $!\n{script}");
            let config = silent(&caller, script);
            let file = out.join(format!("{name}.json")).display().to_string();
            let record = ["seccomp", "record", "--output", &file];
            assert_eq!(ok(&verb(&caller, "strict", &config, &record)), expect);
            // Who is faster, the server or its client, differs from run to run.
            assert_eq!(ok(&verb(&caller, "strict", &config, &[&record[..], &["--merge", &file]].concat())), expect);
            assert_eq!(ok(&verb(&caller, "strict", &config, &[&record[..], &["--merge", &file]].concat())), expect);
            let checked = verb(&caller, "strict", &config, &["seccomp", "check", &file]);
            assert_eq!(ok(&checked), expect, "{}", text(&checked.stderr));
            let profile: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            for policy in ["strict", "oci"] {
                let more = format!("({script}) && ! chroot / true 2>&1");
                let script = if name == "python3" { script } else { &more };
                let mut config = if policy == "strict" { silent(&caller, script) } else { usual(&caller, script) };
                config["linux"]["seccomp"] = profile.clone();
                // Without it the runtime has calls of its own to make behind the filter.
                config["process"]["noNewPrivileges"] = true.into();
                let out = verb(&caller, policy, &config, &["run", "--denials=json", "box"]);
                let said = ok(&out);
                let rest = said.strip_prefix(expect).unwrap_or_else(|| panic!("{name} under {policy}: {said}"));
                if name != "python3" {
                    assert!(rest.contains("Operation not permitted"), "{name} under {policy}: {rest}");
                    let told = text(&out.stderr);
                    let chroot = told.lines().find(|l| l.contains(r#""syscall":"chroot""#)).expect("a denial");
                    assert!(chroot.contains(r#""profile":"linux.seccomp""#), "{chroot}");
                }
            }
            for call in ["ptrace", "mount", "chroot", "swapon", "init_module", "acct"] {
                let asked = caller.stockade(&["seccomp", "test", &file, call]);
                assert_eq!(asked.status.code(), Some(2), "{name}: {}", text(&asked.stdout));
            }
        }
        assert_eq!(caller.left(), [""; 0]);
    }
}

#[test]
fn redis_as_a_user_of_the_container() {
    need_root!("redis_as_a_user_of_the_container");
    let caller = Caller::root();
    let script = format!("id -u; {REDIS}");
    for policy in ["strict", "oci"] {
        let mut config = if policy == "strict" { silent(&caller, &script) } else { usual(&caller, &script) };
        config["process"]["user"] = json!({ "uid": 999, "gid": 999 });
        let out = ok(&go(&caller, policy, &config));
        assert!(out.starts_with("999\nOK\nvalue\n1\n"), "{out}");
    }
}

#[test]
fn pipelines_of_shells() {
    need_root!("pipelines_of_shells");
    let script = "seq 1 100000 | grep 7 | sort -rn | head -n 2 | tr '\\n' ' '; mkfifo p; (seq 5 >p &); wc -l <p; \
        (trap 'echo trapped' TERM; kill -TERM $(exec sh -c 'echo $PPID'); sleep 0; exit 0); find /usr/bin -name 'pytho*' -type f | xargs -n 1 basename | sort | head -n 1; \
        yes | head -c 3000000 | wc -c; awk 'BEGIN { while ((\"echo a b\" | getline l) > 0) print l }'; (exit 3) || echo $?";
    everywhere("pipelines_of_shells", script, |out| {
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(&lines[..2], ["99997 99987 5", "trapped"], "{out}");
        assert!(lines[2].starts_with("python3"), "{out}");
        assert_eq!(&lines[3..], ["3000000", "a b", "3"], "{out}");
    });
    // busybox, whose root file system is a single static binary.
    let script = "seq 1 100 | grep 7 | sort -rn | head -n 2; echo x | sed s/x/y/ | md5sum | cut -c1-8; for i in 1 2; do echo $i; done | wc -l";
    for caller in Caller::all("pipelines_of_shells") {
        for policy in ["strict", "oci"] {
            let mut config = if policy == "strict" { silent(&caller, script) } else { usual(&caller, script) };
            let rootfs = caller.path().join("busybox");
            if !rootfs.exists() {
                make_rootfs(&rootfs);
            }
            config["root"]["path"] = json!(rootfs);
            assert_eq!(ok(&go(&caller, policy, &config)), "97\n87\n00952005\n2\n");
        }
    }
}

// --- root file systems that cannot be idmapped ------------------------------------------------------------------------

/// A command line in a mount namespace of its own where `script` made the root file system at $1.
fn in_private_mounts(caller: &mut Caller, script: &str, at: &Path) {
    let script = format!("d=$1; shift; ({script}) || exit 99; exec \"$@\"");
    let words = ["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh", &at.display().to_string()];
    caller.runner = words.map(str::to_owned).to_vec();
}

fn finding(config: &Value, caller: &Caller, what: &str) -> bool {
    let bundle = caller.path().join("created");
    std::fs::create_dir_all(&bundle).unwrap();
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let status = caller
        .command(&[
            "--policy",
            &caller.strict_with_host_paths(),
            "create",
            "--bundle",
            &bundle.display().to_string(),
            "box",
        ])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let state = std::fs::read_to_string(caller.states().join("box/state.json")).unwrap();
    ok(&caller.stockade(&["delete", "--force", "box"]));
    state.contains(what)
}

/// On a file system that cannot be idmapped the tree is used as it is where everybody may reach it, with a finding, and
/// is refused with the remedy where only its owner may.
fn used_as_it_is(caller: &Caller, rootfs: &Path, secret: &Path) {
    let mut config = silent(caller, "stat -c %u /bin; echo ran");
    config["mounts"] = json!([]);
    config["process"]["cwd"] = json!("/");
    config["root"]["path"] = json!(rootfs);
    // Its files belong to nobody inside.
    assert_eq!(ok(&go(caller, "strict", &config)), "65534\nran\n");
    assert!(finding(&config, caller, "owners unmapped"), "no finding");
    config["root"]["path"] = json!(secret);
    let err = failed(&go(caller, "strict", &config));
    assert!(err.contains("EACCES") && err.contains("hint: ") && err.contains("owner is not mapped"), "{err}");
    assert_eq!(caller.left(), [""; 0]);
}

#[test]
fn an_overlay_is_used_as_it_is_with_a_finding() {
    need_root!("an_overlay_is_used_as_it_is_with_a_finding");
    let mut caller = Caller::root();
    let (open, secret) = (caller.path().join("open"), caller.path().join("secret"));
    for (dir, mode) in [(&open, 0o755), (&secret, 0o700)] {
        make_rootfs(&dir.join("lower"));
        std::fs::create_dir_all(dir.join("upper")).unwrap();
        std::fs::create_dir_all(dir.join("work")).unwrap();
        std::fs::create_dir_all(dir.join("root")).unwrap();
        let mode: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(dir.join("lower"), mode.clone()).unwrap();
        std::fs::set_permissions(dir.join("upper"), mode).unwrap();
    }
    let mount = "for t in open secret; do mount -t overlay -o lowerdir=$d/$t/lower,upperdir=$d/$t/upper,workdir=$d/$t/work overlay $d/$t/root; done";
    let at = caller.path().to_owned();
    in_private_mounts(&mut caller, mount, &at);
    if !caller.program(&["true"]).status().unwrap().success() {
        return skip("an_overlay_is_used_as_it_is_with_a_finding", "overlayfs cannot be mounted");
    }
    used_as_it_is(&caller, &open.join("root"), &secret.join("root"));
    // The control: the same trees without the overlay are idmapped, secret or not.
    let mut config = silent(&caller, "stat -c %u /bin");
    config["mounts"] = json!([]);
    config["process"]["cwd"] = json!("/");
    for dir in [&open, &secret] {
        config["root"]["path"] = json!(dir.join("lower"));
        assert_eq!(ok(&go(&caller, "strict", &config)), "0\n");
        assert!(!finding(&config, &caller, "owners unmapped"));
    }
}

#[test]
fn nine_p_is_used_as_it_is_with_a_finding() {
    let name = "nine_p_is_used_as_it_is_with_a_finding";
    need_root!(name);
    // tests/vm/run --share gives the machine a writable one.
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let shared =
        mounts.lines().map(|l| l.split(' ').collect::<Vec<_>>()).find(|f| f[2] == "9p" && f[3].starts_with("rw"));
    let Some(shared) = shared else { return skip(name, "no writable 9p here: it needs tests/vm/run --share") };
    let dir = tempfile::tempdir_in(shared[1]).unwrap();
    for (tree, mode) in [("open", 0o755), ("secret", 0o700)] {
        make_rootfs(&dir.path().join(tree));
        for path in [dir.path(), &dir.path().join("open"), &dir.path().join(tree)] {
            let mode = if path.ends_with(tree) { mode } else { 0o755 };
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
    }
    used_as_it_is(&Caller::root(), &dir.path().join("open"), &dir.path().join("secret"));
}

#[test]
fn debian_on_the_machine_s_ext4() {
    let name = "debian_on_the_machine_s_ext4";
    need_root!(name);
    if !Path::new("/mnt/rootfs/debian").exists() {
        return skip(name, "the other tests show it here; this one is for the test machine");
    }
    let script = "stat -c %u /bin; python3 -c 'import ssl, threading; print(6*7)'; git init -q r && cd r && \
        git -c user.name=N -c user.email=e commit -q --allow-empty -m m && git log --format=%s; \
        echo 'int main(){return 42;}' >a.c && gcc a.c -o /mnt/a && { /mnt/a || echo $?; }; rm /mnt/a";
    for caller in Caller::all(name) {
        for policy in ["strict", "oci"] {
            let config = if policy == "strict" { silent(&caller, script) } else { usual(&caller, script) };
            let out = ok(&go(&caller, policy, &config));
            // Idmapped under strict by root; as it is for an ordinary user, whose map has no root of the host.
            let owner = if caller.is_root() { "0" } else { "65534" };
            assert_eq!(out, format!("{owner}\n42\nm\n42\n"), "uid {} under {policy}", caller.uid);
        }
    }
}
