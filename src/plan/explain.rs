//! Decide: a plan in words.
//!
//! Every line comes from the plan itself, so what `explain` prints is what a launch would do, on a host with these facts.

use super::{Actor, Plan};
use crate::host::Host;
use serde_json::{Value, json};
use std::fmt::Write;

/// The plan as text: facts, findings, then the ladder, numbered.
pub fn text(plan: &Plan, host: &Host) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "container {} under policy {}", plan.id, plan.policy);
    let _ = writeln!(out, "\nfacts of this host");
    for (name, value) in host.facts() {
        let _ = writeln!(out, "  {name:<17} {value}");
    }
    let _ = writeln!(out, "\nfindings: what is decided beyond config.json");
    if plan.findings.is_empty() {
        let _ = writeln!(out, "  none");
    }
    for finding in &plan.findings {
        let _ = writeln!(out, "  {finding}");
    }
    let _ = writeln!(out, "\nplan");
    for (i, step) in plan.steps.iter().enumerate() {
        let (why, against) = step.why();
        let who = match step.actor() {
            Actor::Parent => "parent",
            Actor::Child => "child ",
        };
        let _ = write!(out, "{:>3} {who} {:<17} {}", i + 1, step.name(), step.subject());
        let _ = write!(out, "\n{:28}why: {why}", "");
        if against != "-" {
            let _ = write!(out, "; against: {against}");
        }
        out.push('\n');
    }
    out
}

/// The plan as JSON, with the words beside the data.
pub fn json(plan: &Plan, host: &Host) -> Value {
    let steps: Vec<Value> = plan
        .steps
        .iter()
        .enumerate()
        .map(|(i, step)| {
            let (why, against) = step.why();
            json!({
                "number": i + 1,
                "actor": step.actor(),
                "name": step.name(),
                "subject": step.subject(),
                "why": why,
                "against": if against == "-" { Value::Null } else { against.into() },
                "step": step,
            })
        })
        .collect();
    json!({
        "id": plan.id,
        "policy": plan.policy,
        "host": host,
        "findings": plan.findings,
        "plan": steps,
    })
}
