//! How the cost of a launch grows with what a bundle asks for: 1, 10, 100, 1,000 of each.
//!
//!     cargo bench --bench growth                           a table
//!     cargo bench --bench growth -- --svg docs/growth.svg  and the plot of it
//!
//! Every size has its turn within each round. An item costs what lies between two sizes, so what every launch costs is
//! not in it. Fails where an item among 1,000 costs more than three times an item among 100: that is no line.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod place;

use place::*;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

const SIZES: [usize; 4] = [1, 10, 100, 1000];

/// A thing that a bundle can have many of.
struct Kind {
    name: &'static str,
    /// Puts so many into the config.
    put: fn(&mut Value, &Path, usize),
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| arguments.iter().skip_while(|a| *a != flag).nth(1).cloned();
    let rounds: usize = after("--rounds").map_or(15, |n| n.parse().expect("--rounds N"));
    if !nix::unistd::geteuid().is_root() {
        eprintln!("the bench needs root: it makes cgroups");
        std::process::exit(1);
    }
    if std::env::var_os("BENCH_INSIDE").is_none() {
        std::process::exit(go_inside(&arguments));
    }
    let scratch = tempfile::Builder::new().prefix("stockade-growth-").tempdir().unwrap();
    open_to_all(scratch.path());
    let meter = compile("meter", scratch.path());
    let stockade = std::env::var("STOCKADE").unwrap_or_else(|_| env!("CARGO_BIN_EXE_stockade").to_owned());
    let rootfs = scratch.path().join("rootfs");
    make_rootfs(&rootfs);
    for n in 0..1000 {
        std::fs::create_dir_all(rootfs.join(format!("m/{n}"))).unwrap();
        std::fs::create_dir_all(rootfs.join("f")).unwrap();
        std::fs::write(rootfs.join(format!("f/{n}")), "x").unwrap();
    }
    println!("load: {}, rounds: {rounds}", first_words("/proc/loadavg", 3));
    let mut lines = Vec::new();
    for kind in KINDS {
        let sizes: Vec<usize> =
            SIZES.into_iter().map(|n| if kind.name == "sysctls" { n.min(net_sysctls().len()) } else { n }).collect();
        let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); sizes.len()];
        for (i, n) in sizes.iter().enumerate() {
            let bundle = scratch.path().join(format!("{}-{i}", kind.name.replace(' ', "-")));
            std::fs::create_dir(&bundle).unwrap();
            let mut config = base(&rootfs);
            (kind.put)(&mut config, &rootfs, *n);
            std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        }
        for round in 0..rounds {
            for i in 0..sizes.len() {
                let i = (i + round) % sizes.len();
                let bundle = scratch.path().join(format!("{}-{i}", kind.name.replace(' ', "-")));
                let words = [&stockade, "--policy", "oci", "run", "--bundle", &bundle.display().to_string(), "grow-{}"]
                    .map(str::to_owned);
                let cost = measure(&meter, &words, &round.to_string())
                    .unwrap_or_else(|e| panic!("{} {}: {e}", kind.name, sizes[i]));
                costs[i].push(cost);
            }
        }
        let least: Vec<(f64, f64)> = costs
            .iter()
            .map(|c| (sorted(c, |c| c.cpu)[0] as f64 / 1000.0, sorted(c, |c| c.peak)[0] as f64 / 1024.0))
            .collect();
        lines.push((kind.name, sizes, least));
    }
    let bent = table(&lines);
    if let Some(path) = after("--svg") {
        std::fs::write(&path, plot(&lines)).unwrap();
    }
    println!("\nload at the end: {}", first_words("/proc/loadavg", 3));
    if !bent.is_empty() {
        println!("grows faster than a line: {}", bent.join(", "));
        std::process::exit(1);
    }
}

type Line = (&'static str, Vec<usize>, Vec<(f64, f64)>);

/// Prints it, and returns what is no line.
fn table(lines: &[Line]) -> Vec<String> {
    println!("\nuser and system time in ms, least of all rounds; us for one more item; peak memory in MiB\n");
    println!(
        "| {:<13} | {:>7} | {:>7} | {:>7} | {:>7} | 10 to 100 | 100 to 1,000 | peak of 1 | of 1,000 |",
        "", 1, 10, 100, "1,000"
    );
    println!(
        "|{}|{}",
        "-".repeat(15),
        [9, 9, 9, 9, 11, 14, 11, 10].map(|n| format!("{}:|", "-".repeat(n - 1))).concat()
    );
    let mut bent = Vec::new();
    for (name, sizes, least) in lines {
        let slope = |a: usize, b: usize| 1000.0 * (least[b].0 - least[a].0) / (sizes[b] - sizes[a]) as f64;
        let (early, late) = (slope(1, 2), slope(2, 3));
        let name = if sizes[3] == 1000 { (*name).to_owned() } else { format!("{name} ({})", sizes[3]) };
        println!(
            "| {name:<13} | {:>7.2} | {:>7.2} | {:>7.2} | {:>7.2} | {early:>9.2} | {late:>12.2} | {:>9.1} | {:>8.1} |",
            least[0].0, least[1].0, least[2].0, least[3].0, least[0].1, least[3].1
        );
        // What costs next to nothing is lost in the noise.
        if late > 2.0 && late > 3.0 * early {
            bent.push(name);
        }
    }
    bent
}

/// Both axes are logarithmic, so a line with a constant below it bends up to the slope of 1 and never above.
fn plot(lines: &[Line]) -> String {
    const COLOURS: [&str; 6] = ["#1b6ca8", "#c8553d", "#3a7d44", "#8e5572", "#b8860b", "#4a4e69"];
    let most = lines.iter().flat_map(|(_, _, l)| l).map(|c| c.0).fold(1.0, f64::max).log10().ceil();
    let x = |n: usize| 60.0 + (n as f64).log10() / 3.0 * 420.0;
    let y = |ms: f64| 300.0 - ms.max(1.0).log10() / most * 260.0;
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 660 350\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"660\" height=\"350\" fill=\"white\"/>\n",
    );
    for n in SIZES {
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.0}\" x2=\"{0:.0}\" y1=\"40\" y2=\"300\" stroke=\"#ddd\"/><text x=\"{0:.0}\" y=\"318\" text-anchor=\"middle\">{n}</text>",
            x(n)
        );
    }
    let mut ms = 1.0;
    while ms <= 10f64.powf(most) {
        let _ = writeln!(
            svg,
            "<line x1=\"60\" x2=\"480\" y1=\"{0:.0}\" y2=\"{0:.0}\" stroke=\"#ddd\"/><text x=\"54\" y=\"{1:.0}\" text-anchor=\"end\">{ms}</text>",
            y(ms),
            y(ms) + 4.0
        );
        ms *= 10.0;
    }
    svg.push_str("<text x=\"270\" y=\"338\" text-anchor=\"middle\">items</text><text x=\"60\" y=\"28\">ms of user and system time of one run</text>\n");
    for (i, (name, sizes, least)) in lines.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let points: Vec<String> = sizes.iter().zip(least).map(|(n, c)| format!("{:.1},{:.1}", x(*n), y(c.0))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
        let place = 60 + 20 * i;
        let _ = writeln!(
            svg,
            "<rect x=\"500\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/><text x=\"520\" y=\"{place}\">{name}</text>",
            place - 6
        );
    }
    svg + "</svg>\n"
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "mounts",
        put: |config, _, n| {
            for i in 0..n {
                push(
                    config,
                    "/mounts",
                    json!({ "destination": format!("/m/{i}"), "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=4k"] }),
                );
            }
        },
    },
    Kind {
        name: "masked paths",
        put: |config, _, n| (0..n).for_each(|i| push(config, "/linux/maskedPaths", json!(format!("/f/{i}")))),
    },
    Kind {
        name: "sysctls",
        put: |config, _, n| {
            let some = net_sysctls().into_iter().take(n);
            config["linux"]["sysctl"] =
                some.map(|(key, value)| (key, Value::String(value))).collect::<serde_json::Map<_, _>>().into();
        },
    },
    Kind {
        name: "devices",
        put: |config, _, n| {
            for i in 0..n {
                push(
                    config,
                    "/linux/devices",
                    json!({ "path": format!("/dev/d{i}"), "type": "c", "major": 1, "minor": 3, "fileMode": 438 }),
                );
            }
        },
    },
    Kind {
        name: "seccomp rules",
        put: |config, _, n| {
            let rule = |i: usize| json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": 0x10_0000 + i, "op": "SCMP_CMP_EQ" }] });
            config["linux"]["seccomp"] =
                json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": (0..n).map(rule).collect::<Vec<_>>() });
        },
    },
    Kind {
        name: "environment",
        put: |config, _, n| (0..n).for_each(|i| push(config, "/process/env", json!(format!("NAME_{i}=value of {i}")))),
    },
];

fn push(config: &mut Value, pointer: &str, item: Value) {
    config.pointer_mut(pointer).unwrap().as_array_mut().unwrap().push(item);
}

fn base(rootfs: &Path) -> Value {
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|t| json!({ "type": t }));
    json!({
        "ociVersion": "1.0.2",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/bin/true"], "env": ["PATH=/bin"], "cwd": "/", "noNewPrivileges": true },
        "root": { "path": rootfs },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }
        ],
        "linux": { "namespaces": namespaces, "maskedPaths": [], "devices": [] }
    })
}

/// The settings of a new network namespace that can be written, each with what it has.
fn net_sysctls() -> Vec<(String, String)> {
    let script = "cd /proc/sys && for f in $(find net -type f -perm -200 | sort); do v=$(cat $f 2>/dev/null | head -n 1) && [ \"$v\" ] && (echo \"$v\" >$f) 2>/dev/null && echo \"$f=$v\"; done";
    let out = Command::new("unshare").args(["-n", "sh", "-c", script]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().filter_map(|l| l.split_once('=')).map(|(f, v)| (f.replace('/', "."), v.to_owned())).collect()
}
