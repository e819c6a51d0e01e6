//! What a program needs beyond what strict gives to a bundle that is silent. With all of it the program does its work; with
//! any one thing left out it fails, in its own words. docs/programs.md is the table of it.

use super::*;

/// One thing that a program needs.
struct Need {
    /// As docs/programs.md says it.
    what: &'static str,
    give: fn(&mut Value),
    /// What is given in its place for the proof; mostly nothing.
    instead: fn(&mut Value),
    /// What the program says without it.
    without: &'static str,
}

impl Need {
    const fn new(what: &'static str, give: fn(&mut Value), without: &'static str) -> Need {
        Need { what, give, instead: |_| (), without }
    }
}

struct Program {
    /// The test's name, too.
    name: &'static str,
    does: &'static str,
    /// `debian` or `more`.
    tree: &'static str,
    script: &'static str,
    says: &'static str,
    needs: &'static [Need],
}

fn mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

fn tmpfs(config: &mut Value, at: &str, options: &[&str]) {
    mount(config, json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": options }));
}

/// A directory of the bundle's, which every user can write to.
fn data(config: &mut Value) {
    mount(config, json!({ "destination": "/srv", "type": "none", "source": "data", "options": ["bind", "rw"] }));
}

fn capability(config: &mut Value, name: &str) {
    for set in ["bounding", "effective", "permitted"] {
        let set = &mut config["process"]["capabilities"][set];
        if !set.is_array() {
            *set = json!([]);
        }
        set.as_array_mut().unwrap().push(json!(name));
    }
}

const TMP: fn(&mut Value) = |c| tmpfs(c, "/tmp", &["mode=1777"]);

const PROGRAMS: [Program; 8] = [
    Program {
        name: "python3",
        does: "threads, processes, a pool of them over /dev/shm, a database",
        tree: "debian",
        script: r#"python3 - <<'END'
import concurrent.futures, multiprocessing, sqlite3, subprocess
with concurrent.futures.ThreadPoolExecutor(8) as pool: print(sum(pool.map(lambda n: n * n, range(100))))
with multiprocessing.Pool(3) as pool: print(sum(pool.map(abs, range(-9, 1))))
print(subprocess.run(["sh", "-c", "echo $((6*7))"], capture_output=True, text=True).stdout.strip())
db = sqlite3.connect("/srv/db"); db.execute("create table t(n)"); db.execute("insert into t values(43)"); db.commit()
print(db.execute("select n from t").fetchone()[0])
END"#,
        says: "328350\n45\n42\n43\n",
        needs: &[Need::new("a writable directory for the database", data, "unable to open database file")],
    },
    Program {
        name: "node",
        does: "compiled JavaScript, worker threads, a process, an HTTP server and its client",
        tree: "more",
        script: r#"node - <<'END'
const fs = require('fs'), http = require('http'), { Worker } = require('worker_threads');
const square = n => new Promise((done, failed) => {
    const worker = new Worker(`require('worker_threads').parentPort.postMessage(${n} ** 2)`, { eval: true });
    worker.on('message', done); worker.on('error', failed);
});
(async () => {
    console.log((await Promise.all([1, 2, 3].map(square))).join(' '));
    console.log(require('child_process').execFileSync('/bin/sh', ['-c', 'echo $((6*7))']).toString().trim());
    let sum = 0;
    for (let i = 0; i < 1e6; i++) sum = (sum + i * i) % 1000003;
    fs.writeFileSync('/tmp/sum', `${sum > 0}`);
    const server = http.createServer((asked, answer) => answer.end(fs.readFileSync('/tmp/sum')));
    server.listen(8080, '127.0.0.1', () => http.get('http://127.0.0.1:8080/', answer => {
        answer.setEncoding('utf8').on('data', text => console.log(text)).on('end', () => server.close());
    }));
})();
END"#,
        says: "1 4 9\n42\ntrue\n",
        needs: &[Need::new("a writable /tmp for its files", TMP, "EROFS: read-only file system, open '/tmp/sum'")],
    },
    Program {
        name: "java",
        does: "a key pair into a store (keytool: compiled code, threads, random numbers)",
        tree: "more",
        script: "keytool -genkeypair -alias a -keyalg EC -storepass changeit -dname CN=x -keystore /tmp/keys; \
            keytool -list -storepass changeit -keystore /tmp/keys | grep -c PrivateKeyEntry",
        says: "1\n",
        needs: &[Need::new("a writable /tmp for the store", TMP, "/tmp/keys (Read-only file system)")],
    },
    Program {
        name: "gcc",
        does: "a program, built and run",
        tree: "debian",
        script: r#"cat >/tmp/a.c <<'END'
#include <stdio.h>
int main(void) { return puts("hello") < 0; }
END
gcc -O2 /tmp/a.c -o /srv/a && /srv/a"#,
        says: "hello\n",
        needs: &[
            Need::new("a writable /tmp", TMP, "cannot create /tmp/a.c: Read-only file system"),
            Need {
                what: "a bind where what it built may run: every tmpfs of strict is noexec, whatever its options say",
                give: data,
                instead: |c| tmpfs(c, "/srv", &["exec"]),
                without: "/srv/a: Permission denied",
            },
        ],
    },
    Program {
        name: "git",
        does: "init, commit, clone, fsck, log",
        tree: "debian",
        script: "export HOME=/tmp; git config --global user.name N; git config --global user.email n@example.org; \
            git init -q /srv/r; cd /srv/r; echo 1 >f; git add f; git commit -qm first; git clone -q . ../s; cd ../s; \
            git fsck; git log --format=%s",
        says: "first\n",
        needs: &[
            Need::new("a writable HOME for its settings", TMP, "could not lock config file /tmp/.gitconfig"),
            Need::new("a writable directory for the repository", data, "cannot mkdir /srv/r: Read-only file system"),
        ],
    },
    Program {
        name: "nginx",
        does: "Debian's own configuration: port 80, workers as www-data",
        tree: "debian",
        script: r#"nginx -e /dev/stderr -g 'daemon off;' 2>/dev/shm/err & server=$!; n=0
until python3 - 2>/dev/null <<'END'
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1/", timeout=5).read().decode().split("<h1>")[1].split("</h1>")[0])
END
do
    n=$((n+1))
    if [ $n -gt 300 ] || grep -qs emerg /dev/shm/err /var/log/nginx/error.log || ! kill -0 $server; then
        cat /dev/shm/err /var/log/nginx/error.log >&2
        exit 1
    fi
    sleep .1
done
stat -c %u /proc/$(cut -d' ' -f1 /proc/$server/task/$server/children); kill -QUIT $server; wait $server"#,
        says: "Welcome to nginx!\n33\n",
        needs: &[
            Need::new("a writable /run for its pid", |c| tmpfs(c, "/run", &[]), "open() \"/run/nginx.pid\" failed (30"),
            Need::new(
                "a writable /var/log/nginx",
                |c| tmpfs(c, "/var/log/nginx", &[]),
                "open() \"/var/log/nginx/error.log\" failed (",
            ),
            Need::new(
                "a writable /var/lib/nginx for bodies of requests",
                |c| tmpfs(c, "/var/lib/nginx", &[]),
                "mkdir() \"/var/lib/nginx/body\" failed (30: Read-only file system)",
            ),
            Need::new(
                "CAP_CHOWN, to give that to www-data",
                |c| capability(c, "CAP_CHOWN"),
                "chown(\"/var/lib/nginx/body\", 33) failed (1: Operation not permitted)",
            ),
            Need::new(
                "CAP_NET_BIND_SERVICE for port 80",
                |c| capability(c, "CAP_NET_BIND_SERVICE"),
                "bind() to 0.0.0.0:80 failed (13: Permission denied)",
            ),
            Need::new(
                "CAP_SETGID to become www-data",
                |c| capability(c, "CAP_SETGID"),
                "setgid(33) failed (1: Operation not permitted)",
            ),
            Need::new(
                "CAP_SETUID to become www-data",
                |c| capability(c, "CAP_SETUID"),
                "setuid(33) failed (1: Operation not permitted)",
            ),
        ],
    },
    Program {
        name: "redis",
        does: "SET, SAVE, and GET from the dump by a second server",
        tree: "debian",
        script: r#"serve() {
    redis-server --dir /srv >/dev/shm/log 2>&1 & n=0
    until redis-cli ping 2>/dev/null | grep -q PONG; do n=$((n+1)); [ $n -lt 300 ] || { cat /dev/shm/log; exit 1; }; sleep .1; done
}
serve; redis-cli set key value; [ "$(redis-cli save)" = OK ] || { cat /dev/shm/log; exit 1; }
redis-cli shutdown nosave; wait; serve; redis-cli get key; redis-cli shutdown nosave; wait"#,
        says: "OK\nvalue\n",
        needs: &[Need::new(
            "a writable directory for the dump",
            data,
            "(in server root dir /srv) for saving: Read-only file system",
        )],
    },
    Program {
        name: "postgres",
        does: "initdb, a server, a table and a query",
        tree: "more",
        script: r#"PATH=$PATH:/usr/lib/postgresql/15/bin; export PGDATA=/var/lib/postgresql/data PGHOST=/tmp
initdb -N -A trust >/tmp/log
pg_ctl -o '-c listen_addresses= -k /tmp' -l /tmp/log -w -t 300 start >/tmp/ctl || { cat /tmp/log; exit 1; }
psql -d postgres -qAtc 'create table t(n int)' -c 'insert into t select generate_series(1, 1000)' -c 'select sum(n) from t'
pg_ctl -m fast -w -t 300 stop >/tmp/ctl; id -u"#,
        says: "500500\n100\n",
        needs: &[
            Need::new("a writable /tmp for its socket", TMP, "cannot create /tmp/log: Read-only file system"),
            Need::new(
                "a data directory of its own: mode 0700, its uid and gid",
                |c| tmpfs(c, "/var/lib/postgresql", &["mode=700", "uid=100", "gid=102"]),
                "could not create directory \"/var/lib/postgresql/data\": Read-only file system",
            ),
            Need::new(
                "a user other than 0 (process.user)",
                |c| c["process"]["user"] = json!({ "uid": 100, "gid": 102 }),
                "cannot be run as root",
            ),
        ],
    },
];

/// Runs a program with all that it needs but one.
fn run(caller: &Caller, program: &Program, without: Option<usize>) -> Output {
    let bundle = caller.path().join(without.map_or("all".into(), |n| format!("without-{n}")));
    std::fs::create_dir_all(bundle.join("data")).unwrap();
    std::fs::set_permissions(bundle.join("data"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh", "-ec", program.script],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"],
            "cwd": "/"
        },
        "root": { "path": if program.tree == "more" { more() } else { debian() } },
        "mounts": []
    });
    for (n, need) in program.needs.iter().enumerate() {
        if without == Some(n) { (need.instead)(&mut config) } else { (need.give)(&mut config) }
    }
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    // The one thing that it needs for the tests' sake: the tree is everybody's and lies in no bundle.
    let policy = caller.strict_with_host_paths();
    caller.stockade(&["--policy", &policy, "run", "--bundle", &bundle.display().to_string(), "box"])
}

fn judge(name: &str) {
    let test = format!("needs::{name}");
    need_root!(&test);
    let program = PROGRAMS.iter().find(|p| p.name == name).expect("a program of that name");
    if program.tree == "more" && Path::new("/mnt/rootfs").is_dir() {
        return skip(&test, "the test machine has no root file system with it");
    }
    let caller = Caller::root();
    assert_eq!(ok(&run(&caller, program, None)), program.says);
    for (n, need) in program.needs.iter().enumerate() {
        let out = run(&caller, program, Some(n));
        let said = [out.stdout, out.stderr].map(|s| String::from_utf8_lossy(&s).into_owned()).concat();
        assert!(!out.status.success() && said.contains(need.without), "without {}: {said}", need.what);
    }
    assert_eq!(caller.left(), [""; 0]);
}

macro_rules! tests {
    ($($name:ident)*) => {
        const TESTS: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                judge(stringify!($name));
            }
        )*
    };
}

tests! { python3 node java gcc git nginx redis postgres }

#[test]
fn the_table_says_what_the_tests_show() {
    assert_eq!(TESTS, PROGRAMS.map(|p| p.name), "a program without a test, or a test without one");
    let mut table =
        String::from("| program | what it does here | what it needs | what it says without it |\n|---|---|---|---|\n");
    for program in &PROGRAMS {
        for (n, need) in program.needs.iter().enumerate() {
            let (name, does) = if n == 0 { (program.name, program.does) } else { ("", "") };
            table.push_str(&format!("| {name} | {does} | {} | `{}` |\n", need.what, need.without));
        }
    }
    let text = std::fs::read_to_string(format!("{HERE}/docs/programs.md")).unwrap();
    assert!(text.contains(&table), "docs/programs.md must have this:\n{table}");
}
