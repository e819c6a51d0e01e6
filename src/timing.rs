//! Do: how long a launch took, step by step (`--timing`): what the observer noted, as a table or as JSON.

use crate::observer::{self, Told};
use crate::plan::Plan;
use crate::plan::explain::name;
use serde::Serialize;
use std::time::Duration;

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table
    Table,
    /// One JSON object
    Json,
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// The runtime, beside the steps of the plan.
    Runtime,
    /// The parent's side of the plan.
    Parent,
    /// The child's side.
    Child,
}

/// Something that was done.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// By whom.
    pub who: Who,
    /// The name of the step.
    pub step: String,
    /// With what.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// When, since the verb began.
    #[serde(rename = "atMicros", serialize_with = "micros")]
    pub at: Duration,
    /// How long.
    #[serde(rename = "micros", serialize_with = "micros")]
    pub took: Duration,
}

fn micros<S: serde::Serializer>(time: &Duration, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_nanos() as f64 / 1000.0)
}

/// What was done, for the report.
#[derive(Debug, Default)]
pub struct Times {
    /// All of it.
    pub parts: Vec<Part>,
    /// Name and subject of every step, for what the child tells.
    steps: Vec<(&'static str, String)>,
}

impl Times {
    /// What the numbers of the child's steps mean.
    pub fn begin(&mut self, plan: &Plan) {
        self.steps = plan.steps.iter().map(|s| (name(s), s.subject())).collect();
    }

    /// What the child has told, who was born at this time.
    pub fn child(&mut self, told: &[Told], born: Duration) {
        for (number, at, took) in told {
            let Some((step, subject)) = self.steps.get(*number as usize) else { continue };
            let (at, took) = (born + Duration::from_nanos(*at), Duration::from_nanos(*took));
            self.parts.push(Part { who: Who::Child, step: (*step).to_owned(), subject: subject.clone(), at, took });
        }
    }
}

/// Says on stderr what was noted: stdout is the workload's.
pub fn report(format: Option<Format>) {
    let Some(format) = format else { return };
    let Some((parts, total)) = observer::times() else { return };
    let text = match format {
        Format::Json => {
            let total = total.as_nanos() as f64 / 1000.0;
            format!("{}\n", serde_json::json!({ "totalMicros": total, "parts": parts }))
        }
        Format::Table => table(parts, total),
    };
    crate::log::say(text.trim_end());
}

/// Longer ones are cut: what they mount is in `explain`.
const SUBJECT: usize = 60;

fn table(mut parts: Vec<Part>, total: Duration) -> String {
    parts.sort_by_key(|p| p.at);
    let ms = |time: Duration| time.as_nanos() as f64 / 1e6;
    let mut text = format!("{:>9}  {:>9}  {:<7}  STEP\n", "AT (ms)", "TOOK (ms)", "WHO");
    for part in parts {
        let who = match part.who {
            Who::Runtime => "runtime",
            Who::Parent => "parent",
            Who::Child => "child",
        };
        let subject = crate::error::printable(&part.subject);
        let subject = match subject.char_indices().nth(SUBJECT) {
            Some((cut, _)) => format!("{}...", &subject[..cut]),
            None => subject,
        };
        let step = format!("{}  {subject}", part.step);
        text += &format!("{:>9.3}  {:>9.3}  {who:<7}  {}\n", ms(part.at), ms(part.took), step.trim_end());
    }
    text + &format!("{:>9.3}  {:>9}  total\n", ms(total), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_time_and_cuts_what_is_long() {
        let part = |who, step: &str, subject: &str, at| Part {
            who,
            step: step.into(),
            subject: subject.into(),
            at: Duration::from_micros(at),
            took: Duration::from_micros(7),
        };
        let parts = vec![part(Who::Child, "mask", &"ä".repeat(100), 2000), part(Who::Parent, "clone3", "", 10)];
        let text = table(parts, Duration::from_millis(3));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "    0.010      0.007  parent   clone3");
        assert_eq!(lines[2], format!("    2.000      0.007  child    mask  {}...", "ä".repeat(60)));
        assert!(lines[3].contains("3.000") && lines[3].ends_with("total"));
    }
}
