//! Do: how long a launch takes, step by step, for who asked (`--timing`).
//!
//! Parent and child each note what they did; the child sends its notes along before it is ready, because after the
//! filter it may not. While nobody asked, a step costs one look at a variable.

use crate::plan::explain::name;
use crate::plan::{Plan, Step};
use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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

/// What the child tells of a step: its number in the plan, when since its birth, and how long, in nanoseconds.
pub type Told = (u32, u64, u64);

struct Watch {
    since: Instant,
    /// When the child came to be; its own clock begins there, because a time namespace may have another.
    born: Duration,
    parts: Vec<Part>,
    told: Vec<Told>,
    /// Name and subject of every step, for what the child tells.
    steps: Vec<(&'static str, String)>,
}

static ASKED: AtomicBool = AtomicBool::new(false);
static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

fn with<T>(f: impl FnOnce(&mut Watch) -> T) -> Option<T> {
    // One thread, which holds it nowhere across a clone.
    WATCH.lock().ok()?.as_mut().map(f)
}

/// Begins to watch.
pub fn ask() {
    let watch =
        Watch { since: Instant::now(), born: Duration::ZERO, parts: Vec::new(), told: Vec::new(), steps: Vec::new() };
    if let Ok(mut held) = WATCH.lock() {
        *held = Some(watch);
        ASKED.store(true, Ordering::Relaxed);
    }
}

/// Now, if anybody asked.
pub fn now() -> Option<Instant> {
    ASKED.load(Ordering::Relaxed).then(Instant::now)
}

fn note(who: Who, step: &str, subject: impl FnOnce() -> String, began: Option<Instant>) {
    let Some(began) = began else { return };
    let took = began.elapsed();
    with(|w| {
        let at = began.saturating_duration_since(w.since);
        w.parts.push(Part { who, step: step.to_owned(), subject: subject(), at, took });
    });
}

/// What the numbers of the child's steps mean.
pub fn of(plan: &Plan) {
    with(|w| w.steps = plan.steps.iter().map(|s| (name(s), s.subject())).collect());
}

/// The runtime has done something that is no step of the plan.
pub fn phase(name: &str, began: Option<Instant>) {
    note(Who::Runtime, name, String::new, began);
}

/// The parent has done a step.
pub fn parent(step: &Step, began: Option<Instant>) {
    note(Who::Parent, name(step), || step.subject(), began);
    if matches!(step.first(), Step::Clone { .. } | Step::Enter { .. }) && began.is_some() {
        with(|w| w.born = w.since.elapsed());
    }
}

/// We are the child, and its clock begins.
pub fn born() {
    if let Some(now) = now() {
        with(|w| (w.since, w.parts) = (now, Vec::new()));
    }
}

/// The child has done the step of this number.
pub fn child(number: usize, began: Option<Instant>) {
    let Some(began) = began else { return };
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let took = nanos(began.elapsed());
    with(|w| {
        let at = nanos(began.saturating_duration_since(w.since));
        w.told.push((u32::try_from(number).unwrap_or(u32::MAX), at, took));
    });
}

/// What the child has to tell since it told last.
pub fn told() -> Vec<Told> {
    with(|w| std::mem::take(&mut w.told)).unwrap_or_default()
}

/// What the child has told.
pub fn hear(payload: &[u8]) {
    let told: Vec<Told> = serde_json::from_slice(payload).unwrap_or_default();
    with(|w| {
        for (number, at, took) in told {
            let Some((step, subject)) = w.steps.get(number as usize) else { continue };
            let (at, took) = (w.born + Duration::from_nanos(at), Duration::from_nanos(took));
            w.parts.push(Part { who: Who::Child, step: (*step).to_owned(), subject: subject.clone(), at, took });
        }
    });
}

/// Says on stderr what was noted: stdout is the workload's.
pub fn report(format: Option<Format>) {
    let Some(format) = format else { return };
    let Some((parts, total)) = with(|w| (std::mem::take(&mut w.parts), w.since.elapsed())) else { return };
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
