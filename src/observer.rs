//! Do: who looks on at a launch, for those who asked: `--timing` sums up how long each step took, `--narrate` tells it at once.
//!
//! Parent and child stamp what they do. The child's notes go along before it is ready and again before the filter, after
//! which it may send nothing; where the launch is narrated it sends each note at once and waits, so that /proc/PID is as the
//! step left it. While nobody asked, a step costs one look at a variable.

use crate::error::{Error, Result};
use crate::narrate::{self, Tale};
use crate::plan::explain::name;
use crate::plan::{Plan, Step};
use crate::sync::Message;
use crate::timing::{Part, Times, Who};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the child tells of a step: its number in the plan, when since its birth, and how long, in nanoseconds.
pub type Told = (u32, u64, u64);

struct Observer {
    since: Instant,
    /// When the child came to be; its own clock begins there, because a time namespace may have another.
    born: Duration,
    /// The child's notes that are not sent yet.
    told: Vec<Told>,
    times: Option<Times>,
    tale: Option<Tale>,
}

static ASKED: AtomicBool = AtomicBool::new(false);
static NARRATED: AtomicBool = AtomicBool::new(false);
static LOOKING: Mutex<Option<Observer>> = Mutex::new(None);

fn with<T>(f: impl FnOnce(&mut Observer) -> T) -> Option<T> {
    // One thread, which holds it nowhere across a clone.
    LOOKING.lock().ok()?.as_mut().map(f)
}

/// Begins to look on, if anybody asked.
pub fn ask(timing: bool, narrate: Option<narrate::Form>) {
    if !timing && narrate.is_none() {
        return;
    }
    let (times, tale) = (timing.then(Times::default), narrate.map(Tale::new));
    NARRATED.store(tale.is_some(), Ordering::Relaxed);
    if let Ok(mut held) = LOOKING.lock() {
        *held = Some(Observer { since: Instant::now(), born: Duration::ZERO, told: Vec::new(), times, tale });
        ASKED.store(true, Ordering::Relaxed);
    }
}

/// Now, if anybody asked.
pub fn now() -> Option<Instant> {
    ASKED.load(Ordering::Relaxed).then(Instant::now)
}

/// Whether each step is told at once.
pub fn narrates() -> bool {
    NARRATED.load(Ordering::Relaxed)
}

/// What the numbers of the steps mean.
pub fn begin(plan: &Plan) {
    with(|o| {
        if let Some(times) = &mut o.times {
            times.begin(plan);
        }
        if let Some(tale) = &mut o.tale {
            tale.begin(plan);
        }
    });
}

/// The runtime has done something that is no step of the plan.
pub fn phase(name: &str, began: Option<Instant>) {
    let Some(began) = began else { return };
    let took = began.elapsed();
    with(|o| o.part(Who::Runtime, name, String::new(), began, took));
}

/// The parent has done a step; the child's pid, once there is one.
pub fn parent(number: usize, step: &Step, began: Option<Instant>, pid: Option<i32>) {
    let Some(began) = began else { return };
    let took = began.elapsed();
    with(|o| {
        if matches!(step.first(), Step::Clone { .. } | Step::Enter { .. }) {
            o.born = o.since.elapsed();
        }
        o.part(Who::Parent, name(step), step.subject(), began, took);
        let at = o.since.elapsed();
        if let Some(tale) = &mut o.tale {
            tale.parent(number, (at, took), pid);
        }
    });
}

/// We are the child, and its clock begins.
pub fn born() {
    if let Some(now) = now() {
        with(|o| o.since = now);
    }
}

/// The child has done the step of this number.
pub fn child(number: usize, began: Instant) {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let took = nanos(began.elapsed());
    with(|o| {
        let at = nanos(began.saturating_duration_since(o.since));
        o.told.push((u32::try_from(number).unwrap_or(u32::MAX), at, took));
    });
}

/// What the child has to tell since it told last, as messages: whether it waits, and its notes.
pub fn messages(waits: bool) -> Vec<Vec<u8>> {
    let told = with(|o| std::mem::take(&mut o.told)).unwrap_or_default();
    told.chunks(1000).map(|some| serde_json::to_vec(&(waits, some)).unwrap_or_default()).collect()
}

/// What the child has told; true: it waits to go on. It tells nothing where nobody asked: somebody else would speak.
pub fn hear(message: &Message, pid: i32) -> Result<bool> {
    if !ASKED.load(Ordering::Relaxed) {
        return Err(Error::new("sync", "Steps", "came where nobody looks on"));
    }
    let (waits, told): (bool, Vec<Told>) = message.read()?;
    with(|o| {
        if let Some(times) = &mut o.times {
            times.child(&told, o.born);
        }
        let at = o.since.elapsed();
        if let Some(tale) = &mut o.tale {
            tale.child(&told, at, pid, waits);
        }
    });
    Ok(waits)
}

/// The child has come past a step of the plan, without waiting for us.
pub fn passed(plan: &Plan, pid: i32, mark: fn(&Step) -> bool) {
    with(|o| {
        let at = o.since.elapsed();
        if let Some(tale) = &mut o.tale {
            tale.passed(plan, at, pid, mark);
        }
    });
}

/// What was noted for `--timing`, and how long it took in all.
pub fn times() -> Option<(Vec<Part>, Duration)> {
    with(|o| Some((o.times.take()?.parts, o.since.elapsed()))).flatten()
}

impl Observer {
    fn part(&mut self, who: Who, step: &str, subject: String, began: Instant, took: Duration) {
        let at = began.saturating_duration_since(self.since);
        if let Some(times) = &mut self.times {
            times.parts.push(Part { who, step: step.to_owned(), subject, at, took });
        }
    }
}
