//! The escape corpus: one test for each published way out of a container, or of harm done through a runtime, that a
//! runtime can answer. The list is `escape/rows.rs`; the table of docs/escape.md is printed from it.
//!
//! Every attack is tried under each policy, by root and by an ordinary user. After it the host must be what it was, a
//! canary directory and the kernel's settings included, and the launch refused or the workload confined. Its control is
//! the same bundle without the attack, which must work.
//!
//! `RUNTIME=/usr/sbin/runc cargo test --test escape` points it at another runtime, to show that it fires.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "escape/exec.rs"]
mod exec;
#[path = "escape/harness.rs"]
mod harness;
#[path = "escape/host.rs"]
mod host;
#[path = "escape/kernel.rs"]
mod kernel;
#[path = "escape/own.rs"]
mod own;
#[path = "escape/parser.rs"]
mod parser;
#[path = "probe/mod.rs"]
mod probe;
#[path = "escape/races.rs"]
mod races;
#[path = "escape/review.rs"]
mod review;
#[path = "escape/rootfs.rs"]
mod rootfs;
#[path = "escape/rows.rs"]
mod rows;
#[path = "escape/trace.rs"]
mod trace;
#[path = "escape/wishes.rs"]
mod wishes;
