//! What the benches share: a mount namespace of their own, programs, a rootfs, and the meter.

#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What one measured run cost: microseconds, microseconds, KiB.
#[derive(Clone, Copy)]
pub struct Cost {
    pub wall: u64,
    pub cpu: u64,
    pub peak: u64,
}

/// Runs this program again in a mount namespace of its own where cgroup v2 is at /sys/fs/cgroup.
pub fn go_inside(arguments: &[String]) -> i32 {
    let script = r#"
        if ! [ -e /sys/fs/cgroup/cgroup.controllers ]; then
            mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup || exit 1
        fi
        # States on a tmpfs, as systemd has /run: a disk would cost all of them more than the launch.
        mount -t tmpfs -o mode=755 tmpfs /run || exit 1
        exec "$@""#;
    let status = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", script, "sh"])
        .args(arguments)
        .env("BENCH_INSIDE", "1")
        .status()
        .expect("unshare(1)");
    status.code().unwrap_or(1)
}

pub fn compile(name: &str, to: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(name).with_extension("c");
    let out = to.join(name);
    let status = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&out).arg(source).status().expect("cc");
    assert!(status.success(), "cc failed");
    out
}

pub fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

pub fn make_rootfs(rootfs: &Path) {
    for name in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        std::fs::create_dir_all(rootfs.join(name)).unwrap();
    }
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    std::fs::copy(busybox.expect("busybox-static"), rootfs.join("bin/true")).unwrap();
    std::fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    std::fs::write(rootfs.join("etc/group"), "root:x:0:\n").unwrap();
}

pub fn which(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/usr/local/bin"].iter().map(|d| Path::new(d).join(name)).find(|p| p.exists())
}

pub fn filled(words: &[String], id: &str) -> Vec<String> {
    words.iter().map(|w| w.replace("{}", id)).collect()
}

pub fn measure(meter: &Path, words: &[String], id: &str) -> Result<Cost, String> {
    let out =
        Command::new(meter).args(filled(words, id)).stdin(Stdio::null()).output().map_err(|e| format!("meter: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let numbers: Vec<u64> =
        text.lines().last().unwrap_or("").split_whitespace().filter_map(|n| n.parse().ok()).collect();
    match (out.status.success(), &numbers[..]) {
        (true, [wall, cpu, peak]) => Ok(Cost { wall: *wall, cpu: *cpu, peak: *peak }),
        _ => Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()),
    }
}

pub fn sorted(costs: &[Cost], of: impl Fn(&Cost) -> u64) -> Vec<u64> {
    let mut all: Vec<u64> = costs.iter().map(of).collect();
    all.sort_unstable();
    all
}

pub fn middle(sorted: &[u64]) -> u64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

pub fn first_words(path: &str, n: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().take(n).collect::<Vec<_>>().join(" ")
}
