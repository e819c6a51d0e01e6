//! While a workload runs, the runtime that waits for it sleeps.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Bundle, is_root, skip, wait_for};
use std::time::{Duration, Instant};

/// State letter, and nanoseconds on a CPU so far.
fn look(pid: u32) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let state = stat.rsplit_once(") ")?.1.chars().next()?;
    let spent = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    Some((state, spent.split(' ').next()?.parse().ok()?))
}

#[test]
fn a_foreground_run_sleeps_while_its_workload_does() {
    if !is_root() {
        return skip("a_foreground_run_sleeps_while_its_workload_does", "needs root");
    }
    if look(std::process::id()).is_none() {
        return skip("a_foreground_run_sleeps_while_its_workload_does", "this kernel has no /proc/PID/schedstat");
    }
    let bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    bundle.write();
    let path = bundle.path().display().to_string();
    let mut run = bundle.command(&["run", "--bundle", &path, "box"]).spawn().unwrap();
    let pid = run.id();
    wait_for("the workload", || {
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).is_ok_and(|children| {
            children.split_whitespace().any(|c| {
                std::fs::read_to_string(format!("/proc/{c}/cmdline")).is_ok_and(|line| line.starts_with("sleep\0"))
            })
        })
    });
    // A window in which it never runs and never wants to. Who spins has none, however busy the machine is.
    wait_for("a window of rest", || {
        let (begin, end) = (look(pid).unwrap(), Instant::now() + Duration::from_millis(200));
        while Instant::now() < end {
            match look(pid) {
                Some(now) if now.0 == 'S' && now.1 == begin.1 => {}
                _ => return false,
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    });
    assert!(bundle.delete().status.success());
    wait_for("its end", || run.try_wait().unwrap().is_some());
}
