//! Decide: a plan in words.
//!
//! Every line comes from the plan itself, so what `explain` prints is what a launch would do, on a host with these facts.
//! The text is for a reader who wants to learn what a launch is: the ladder in its chapters, and below each step why it
//! is done and which attack it answers. The JSON is for programs; both have the same numbers and the same words.

use super::{Actor, HostPath, Plan, Source, Step};
use crate::host::Host;
use crate::policy::Finding;
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write;

/// Lines are broken before this column; a word that is longer than a line stays whole.
const WIDTH: usize = 100;
/// Where the subject of a step starts.
const STEP: usize = 24;
/// Where the words below a step start.
const REASON: usize = STEP + 11;
/// Where the words of a finding start.
const FINDING: usize = 30;

/// The plan as text: facts, findings, then the ladder, numbered.
pub fn text(plan: &Plan, host: &Host) -> String {
    let mut out = format!("container {} under policy {}\n", plan.id, plan.policy);
    let _ = writeln!(out, "\nFACTS assumed of this host");
    for (name, value) in host.facts() {
        lines(&mut out, &format!("  {name}"), 21, &value);
    }
    match plan.findings.len() {
        0 => out.push_str("\nFINDINGS: none; the container gets what config.json says\n"),
        n => {
            let _ = writeln!(out, "\nFINDINGS: {n}, what is decided beyond config.json; [its key in the policy]");
        }
    }
    for finding in &plan.findings {
        let (what, why) = finding_words(finding);
        lines(&mut out, &format!("  {}", finding.field), FINDING, &what);
        lines(&mut out, "", FINDING, &why);
    }
    let _ = writeln!(out, "\nPLAN: {} steps, in this order", plan.steps.len());
    let mut chapter = "";
    for (i, step) in plan.steps.iter().enumerate() {
        let here = chapter_of(&plan.steps, i);
        if here != chapter {
            let _ = writeln!(out, "\n  {here}");
            chapter = here;
        }
        lines(&mut out, &format!("{:>4} {}", i + 1, name(step)), STEP, &subject(plan, step));
        let (why, against) = reason(&plan.steps, i);
        // Labels of one width, so that an eye can run down one kind.
        let margin = " ".repeat(STEP);
        lines(&mut out, &format!("{margin}  why"), REASON, why);
        if against != "-" {
            lines(&mut out, &format!("{margin}  against"), REASON, against);
        }
        if let Some(other) = fallback(plan, step) {
            lines(&mut out, &format!("{margin}  else"), REASON, &other);
        }
    }
    out
}

/// A step in words.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its number, from 1.
    pub number: usize,
    /// Who does it.
    pub actor: Actor,
    /// Where in the launch.
    pub chapter: &'static str,
    /// What.
    pub name: &'static str,
    /// With what.
    pub subject: String,
    /// Why.
    pub why: &'static str,
    /// Against which attack, where it is against one.
    pub against: Option<&'static str>,
}

/// Every step in words.
pub fn rows(plan: &Plan) -> Vec<Row> {
    let row = |(i, step): (usize, &Step)| {
        let (why, against) = reason(&plan.steps, i);
        Row {
            number: i + 1,
            actor: step.actor(),
            chapter: chapter_of(&plan.steps, i),
            name: name(step),
            subject: subject(plan, step),
            why,
            against: Some(against).filter(|a| *a != "-"),
        }
    };
    plan.steps.iter().enumerate().map(row).collect()
}

/// The plan as JSON, with the words beside the data.
pub fn json(plan: &Plan, host: &Host) -> Value {
    let steps: Vec<Value> = rows(plan)
        .iter()
        .zip(&plan.steps)
        .map(|(row, step)| {
            let mut value = json!(row);
            value["step"] = json!(step);
            value
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

/// A label, then words from a column on, broken into lines that start there, too.
pub fn lines(out: &mut String, label: &str, column: usize, words: &str) {
    wrapped(out, WIDTH, label, column, words);
}

/// A label, then words from a column on, broken before `width` into lines that start there, too.
pub fn wrapped(out: &mut String, width: usize, label: &str, column: usize, words: &str) {
    let (label, words) = (plain(label), plain(words));
    let mut line = format!("{label:<column$}");
    if label.chars().count() >= column {
        // The label is too long to stand beside its words.
        let _ = writeln!(out, "{label}");
        line = " ".repeat(column);
    }
    let mut used = line.chars().count();
    let mut first = true;
    for word in words.split(' ') {
        let length = word.chars().count();
        if !first && used + 1 + length > width {
            let _ = writeln!(out, "{}", line.trim_end());
            line = " ".repeat(column);
            used = column;
            first = true;
        }
        if !first {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += length;
        first = false;
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

/// A bundle must not write lines of its own into its explanation, nor turn the terminal against the reader.
fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let harmful = |c: char| c.is_control() || turns(c) || matches!(c, '\u{2028}' | '\u{2029}');
    text.chars().flat_map(|c| if harmful(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// `silent -> true`, and why.
fn finding_words(finding: &Finding) -> (String, String) {
    (format!("{} -> {}", finding.asked, finding.given), format!("{} [{}]", finding.why, finding.rule))
}

/// The chapters of a launch, by the marks that every plan has: the clone, the go, the pivot, the gate.
fn chapter_of(steps: &[Step], at: usize) -> &'static str {
    let after = |mark: fn(&Step) -> bool| steps[..at].iter().any(mark);
    if after(|s| matches!(s, Step::Gate)) {
        "the container's process, when `start` opens the gate"
    } else if after(|s| matches!(s, Step::Pivot { .. })) {
        "the container's process, inside: names, limits, and away with every right that was not asked for"
    } else if after(|s| matches!(s, Step::Go)) {
        "the container's process, still with the host's tree in reach: what the container will see"
    } else if steps[at].actor() == Actor::Child {
        "the container's process, newborn"
    } else if after(|s| matches!(s, Step::Clone { .. })) {
        "the runtime, on the host: what only it can give"
    } else {
        "the runtime, on the host: before there is a process"
    }
}

/// The step's name; errors call the search for the program by what it is for.
pub fn name(step: &Step) -> &'static str {
    match step {
        Step::FindProgram { .. } => "find program",
        Step::AttachRootfs { .. } => "root",
        other => other.name(),
    }
}

/// The step's subject, with the path of each prepared mount beside the number of its slot.
fn subject(plan: &Plan, step: &Step) -> String {
    let (slot, plain) = match step {
        Step::Bind { source: Source::Slot(slot), .. } | Step::AttachRootfs { source: Source::Slot(slot), .. } => {
            (*slot, step.subject())
        }
        other => return other.subject(),
    };
    match plan.steps.iter().find_map(|s| source_of(s, slot)) {
        Some(host) => plain.replacen(&format!("slot {slot}"), &format!("slot {slot}, {},", host.path.display()), 1),
        None => plain,
    }
    .trim_end_matches(',')
    .to_owned()
}

/// The host's path behind a slot, if this step fills it.
pub(super) fn source_of(step: &Step, wanted: usize) -> Option<&HostPath> {
    match step {
        Step::CloneSource { slot, path, .. } | Step::Idmap { slot, path, .. } if *slot == wanted => Some(path),
        Step::Overlay { slot: Some(slot), layers, .. } if *slot == wanted => layers.lower.first(),
        Step::Try { step, .. } => source_of(step, wanted),
        _ => None,
    }
}

/// The second way of a `Try`, and what it costs.
fn fallback(plan: &Plan, step: &Step) -> Option<String> {
    let Step::Try { on, or, finding, .. } = step else { return None };
    let on: Vec<String> = on.iter().map(|e| format!("{e:?}")).collect();
    let (what, why) = finding_words(finding);
    Some(format!(
        "on {}, not supported here: {} {}; then a finding: {}: {what}: {why}",
        on.join(" or "),
        name(or),
        subject(plan, or),
        finding.field
    ))
}

/// Why a step is done, where it is done. Without no_new_privs capabilities are set twice, each time for a reason.
fn reason(steps: &[Step], at: usize) -> (&'static str, &'static str) {
    let filter = |steps: &[Step]| steps.iter().any(|s| matches!(s, Step::Seccomp { .. }));
    let caps = |steps: &[Step]| steps.iter().any(|s| matches!(s, Step::Capabilities { .. }));
    match &steps[at] {
        Step::Capabilities { .. } if filter(&steps[..at]) => {
            ("SYS_ADMIN was carried only to install the filter", "a workload that keeps SYS_ADMIN")
        }
        Step::Capabilities { .. } if caps(&steps[at + 1..]) => (
            "the workload's, and SYS_ADMIN: without no_new_privs a filter needs it",
            "inheritable sets (CVE-2022-29162)",
        ),
        step => step.why(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_before_the_edge_and_keep_their_column() {
        let mut out = String::new();
        lines(&mut out, "  label", 10, &"word ".repeat(40));
        assert!(out.lines().all(|l| l.chars().count() <= WIDTH), "{out}");
        assert!(out.lines().skip(1).all(|l| l.starts_with("          word")), "{out}");
        assert_eq!(out.matches("word").count(), 40);
    }

    #[test]
    fn a_bundle_cannot_write_a_line_of_its_own() {
        let mut out = String::new();
        lines(&mut out, "  a\nb", 10, "sh\n  40 exec  harmless \u{1b}[2J\u{202e}");
        assert_eq!(out, "  a\\nb    sh\\n  40 exec  harmless \\u{1b}[2J\\u{202e}\n");
    }

    #[test]
    fn a_long_label_or_word_is_never_cut() {
        let mut out = String::new();
        let long = "x".repeat(200);
        lines(&mut out, "  a label of its own", 10, &format!("a {long} b"));
        assert_eq!(out, format!("  a label of its own\n          a\n          {long}\n          b\n"));
    }
}
