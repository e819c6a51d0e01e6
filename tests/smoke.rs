//! The first thing to look at when everything fails: one bundle, each policy, the whole life.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
use common::*;

#[test]
fn a_silent_bundle_runs_under_strict() {
    need_root!("a_silent_bundle_runs_under_strict");
    assert_eq!(ok(&Bundle::shell("echo $((6*7)); exit 0").run()), "42\n");
}

#[test]
fn the_exit_status_is_the_workloads() {
    need_root!("the_exit_status_is_the_workloads");
    assert_eq!(Bundle::shell("exit 7").run().status.code(), Some(7));
    // PID 1 gets SIGKILL from outside only; a child's death by signal is 128+n in its shell.
    assert_eq!(Bundle::shell("sh -c 'kill -TERM $$'; exit $?").run().status.code(), Some(143));
}

#[test]
fn create_start_kill_delete() {
    need_root!("create_start_kill_delete");
    let bundle = Bundle::usual(&["sleep", "1000"]).policy("oci");
    ok(&bundle.create());
    assert_eq!(bundle.state()["status"], "created");
    ok(&bundle.verb(&["start", "box"]));
    assert_eq!(bundle.state()["status"], "running");
    assert!(failed(&bundle.verb(&["start", "box"])).contains("running"));
    assert!(failed(&bundle.verb(&["delete", "box"])).contains("running"));
    ok(&bundle.verb(&["kill", "box", "KILL"]));
    wait_for("stopped", || bundle.state()["status"] == "stopped");
    assert!(failed(&bundle.verb(&["kill", "box"])).contains("container not running"));
    ok(&bundle.verb(&["delete", "box"]));
    assert!(failed(&bundle.verb(&["state", "box"])).contains("does not exist"));
    ok(&bundle.verb(&["delete", "--force", "box"]));
}
