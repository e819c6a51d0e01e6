//! Doors of the kernel that bugs stood behind, which a filter or a missing namespace shuts.
//!
//! The control is the same call under `oci` with a config that names no filter: there it must not give that answer. A
//! kernel that lacks the door altogether is said, and counts for nothing.

use crate::common::*;
use crate::harness::*;
use crate::probe;
use nix::libc;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// A policy that shuts the doors, or the one that is their control.
fn shut() -> Vec<Case> {
    let all = if foreign() { by_root() } else { cases("the doors of the kernel") };
    all.into_iter().filter(|c| foreign() || c.policy != "oci").collect()
}

/// What the calls of a container gave: a result, an errno as a negative number, or the signal plus 1000.
fn calls(case: Case, program: &Path, rows: &[&str], capabilities: &[&str]) -> BTreeMap<String, i64> {
    let mut bundle = case.bundle(&[&["probe", "calls"], rows].concat());
    for set in ["bounding", "permitted", "effective"] {
        if !capabilities.is_empty() {
            bundle.config["process"]["capabilities"][set] = json!(capabilities);
        }
    }
    probe::install(&bundle, program);
    case.give(bundle.path());
    let said = ok(&bundle.run());
    let outcomes: BTreeMap<String, i64> = said
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let number: i64 = words[2].parse().unwrap();
            (words[0].to_owned(), if words[1] == "signal" { 1000 + number } else { number })
        })
        .collect();
    assert_eq!(outcomes.len(), rows.len(), "{said}");
    outcomes
}

const fn no(errno: i32) -> i64 {
    -(errno as i64)
}
const KILLED: i64 = 1000 + libc::SIGSYS as i64;

/// Each row: a call of the probe, `LABEL NUMBER ARG...`, and the answer of a door that is shut.
fn doors(test: &str, rows: &[(&str, i64)]) {
    let Ok(program) = probe::program() else { return skip(test, "no C compiler") };
    if !cfg!(target_arch = "x86_64") {
        return skip(test, "the numbers of system calls are those of x86_64");
    }
    let words: Vec<&str> = rows.iter().map(|(row, _)| *row).collect();
    let label = |row: &str| row.split(' ').next().unwrap().to_owned();
    // With what it takes to mount, where neither a filter nor a policy is in the way.
    let free =
        calls(Case { policy: "oci", uid: nix::unistd::geteuid().as_raw() }, &program, &words, &["CAP_SYS_ADMIN"]);
    let (mut open, mut lacking) = (0, Vec::new());
    for (row, answer) in rows {
        if free[&label(row)] == *answer { lacking.push(label(row)) } else { open += 1 }
    }
    if open == 0 {
        return skip(test, "this kernel has none of these doors, or shuts them to everybody");
    }
    if !lacking.is_empty() {
        skip(&format!("{test}, {}", lacking.join(" ")), "the same without a filter here");
    }
    for case in shut() {
        let got = calls(case, &program, &words, &[]);
        for (row, answer) in rows {
            assert_eq!(got[&label(row)], *answer, "{test}, {row}, {case:?}; without a filter {}", free[&label(row)]);
        }
    }
}

#[test]
fn cve_2022_0492_no_user_namespace_inside() {
    let rows = [
        ("unshare-user 272 0x10000000", no(libc::EPERM)),
        ("unshare-user-and-cgroup 272 0x12000000", no(libc::EPERM)),
        ("unshare-user-high 272 0x110000000", no(libc::EPERM)),
        ("clone-user 56 0x10000011 0 0 0 0", no(libc::EPERM)),
        ("clone3 435 buf 88", no(libc::ENOSYS)),
        ("setns-user 308 open=/proc/self/ns/user 0x10000000", no(libc::EPERM)),
        ("mount-cgroup 165 str=cgroup str=/mnt str=cgroup 0 str=rdma", no(libc::EPERM)),
        ("mount-cgroup2 165 str=cgroup str=/mnt str=cgroup2 0 0", no(libc::EPERM)),
    ];
    doors("cve_2022_0492_no_user_namespace_inside", &rows);
}

#[test]
fn cve_2022_0185_no_new_file_systems() {
    let rows = [
        ("fsopen 430 str=tmpfs 0", no(libc::EPERM)),
        ("fsopen-overlay 430 str=overlay 0", no(libc::EPERM)),
        ("fsconfig-string 431 -1 1 str=a str=b 0", no(libc::EPERM)),
        ("fsmount 432 -1 0 0", no(libc::EPERM)),
        ("mount-overlay 165 str=overlay str=/mnt str=overlay 0 str=lowerdir=/home:/tmp", no(libc::EPERM)),
        ("netfilter 41 16 3 12", no(libc::EAFNOSUPPORT)),
        ("xfrm 41 16 3 6", no(libc::EAFNOSUPPORT)),
    ];
    doors("cve_2022_0185_no_new_file_systems", &rows);
}

#[test]
fn cve_2026_31431_no_kernel_crypto() {
    let rows = [
        ("socket-alg 41 38 5 0", no(libc::EAFNOSUPPORT)),
        ("socket-alg-high 41 0x100000026 5 0", no(libc::EAFNOSUPPORT)),
        ("socket-alg-all-high 41 0xffffffff00000026 5 0", no(libc::EAFNOSUPPORT)),
        ("socketpair-alg 53 38 5 0 buf", no(libc::EAFNOSUPPORT)),
        ("socket-alg-i386 i386:359 38 5 0", KILLED),
        ("socketcall i386:102 1 buf", KILLED),
        ("socket-alg-x32 x32:41 38 5 0", KILLED),
    ];
    doors("cve_2026_31431_no_kernel_crypto", &rows);
}

#[test]
fn cve_2026_43500_no_rxrpc_and_no_keys() {
    let rows = [
        ("socket-rxrpc 41 33 2 0", no(libc::EAFNOSUPPORT)),
        ("socket-rxrpc-high 41 0x100000021 2 0", no(libc::EAFNOSUPPORT)),
        ("add_key 248 str=user str=canary str=x 1 -3", no(libc::EPERM)),
        ("add_key-rxrpc 248 str=rxrpc str=canary buf 16 -3", no(libc::EPERM)),
        ("request_key 249 str=user str=canary 0 0", no(libc::EPERM)),
        ("keyctl-session 250 0 -3 1", no(libc::EPERM)),
        ("keyctl-join 250 1 0", no(libc::EPERM)),
    ];
    doors("cve_2026_43500_no_rxrpc_and_no_keys", &rows);
}

#[test]
fn cve_2020_14386_no_raw_packets() {
    let rows = [
        ("packet 41 17 3 0", no(libc::EAFNOSUPPORT)),
        ("packet-dgram 41 17 2 0x300", no(libc::EAFNOSUPPORT)),
        ("packet-high 41 0x100000011 3 0", no(libc::EAFNOSUPPORT)),
        ("packet-i386 i386:359 17 3 0", KILLED),
    ];
    doors("cve_2020_14386_no_raw_packets", &rows);
}

#[test]
fn cve_2022_29582_no_io_uring() {
    let rows = [
        ("setup 425 1 buf", no(libc::ENOSYS)),
        ("enter 426 -1 0 0 0 0 0", no(libc::ENOSYS)),
        ("register 427 -1 0 0 0", no(libc::ENOSYS)),
        ("setup-i386 i386:425 1 buf", KILLED),
    ];
    doors("cve_2022_29582_no_io_uring", &rows);
}

#[test]
fn cve_2025_21756_no_vsock() {
    let rows = [
        ("vsock 41 40 1 0", no(libc::EAFNOSUPPORT)),
        ("vsock-high 41 0x100000028 1 0", no(libc::EAFNOSUPPORT)),
        ("vsock-dgram 41 40 2 0", no(libc::EAFNOSUPPORT)),
        ("vsock-i386 i386:359 40 1 0", KILLED),
    ];
    doors("cve_2025_21756_no_vsock", &rows);
}

#[test]
fn cve_2023_52447_no_tls_in_the_kernel() {
    let rows = [
        ("ulp 54 -1 6 31 str=tls 4", no(libc::ENOPROTOOPT)),
        ("ulp-level-high 54 -1 0x100000006 31 str=tls 4", no(libc::ENOPROTOOPT)),
        ("ulp-name-high 54 -1 6 0x10000001f str=tls 4", no(libc::ENOPROTOOPT)),
    ];
    doors("cve_2023_52447_no_tls_in_the_kernel", &rows);
}

#[test]
fn cve_2017_5226_nothing_is_typed_into_the_callers_terminal() {
    // The filter answers before anybody looks what the descriptor is.
    let rows = [
        ("tiocsti 16 0 0x5412 str=x", no(libc::EPERM)),
        ("tiocsti-high 16 0 0x100005412 str=x", no(libc::EPERM)),
        ("tiocsti-all-high 16 0 0xffffffff00005412 str=x", no(libc::EPERM)),
        ("tioclinux 16 0 0x541c str=x", no(libc::EPERM)),
        ("tioclinux-high 16 0 0x10000541c str=x", no(libc::EPERM)),
        ("tiocsti-i386 i386:54 0 0x5412 buf", KILLED),
    ];
    doors("cve_2017_5226_nothing_is_typed_into_the_callers_terminal", &rows);
}

#[test]
fn the_second_door_of_32_bits() {
    let rows = [
        ("getpid i386:20", KILLED),
        ("socketcall-socket i386:102 1 buf", KILLED),
        ("unshare i386:310 0x10000000", KILLED),
        ("getpid-x32 x32:39", KILLED),
    ];
    doors("the_second_door_of_32_bits", &rows);
}
