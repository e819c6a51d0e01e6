//! Do: the denials of a foreground run, for who watches from outside (`events`).
//!
//! Only the runtime that answers the filter knows what it denied. It leaves each kind once in the container's directory and
//! how often each came at the end; whoever watches follows the file while it grows, and it goes with the container. The
//! workload makes up kinds as it likes, so the file is bounded and says where it stopped.

use super::monitor::line;
use crate::state::Entry;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// The kinds take at most so many bytes; the end repeats a part of each, and is no longer than they are.
const MOST_BYTES: usize = 256 << 10;

/// What a follower reads at most: all that a ledger writes, and room for its two other lines.
const MOST_READ: u64 = 4 * MOST_BYTES as u64;

/// A kind in the ledger.
#[derive(Debug)]
struct Told {
    call: Value,
    errno: Value,
}

/// Where the runtime writes down what it denied.
#[derive(Debug)]
pub struct Ledger {
    /// None: it cannot be written any more.
    file: Option<File>,
    id: String,
    bytes: usize,
    told: Vec<Told>,
    full: bool,
}

impl Ledger {
    /// Into a file that is new.
    pub fn new(file: File, id: &str) -> Ledger {
        Ledger { file: Some(file), id: id.to_owned(), bytes: 0, told: Vec::new(), full: false }
    }

    /// The next kind, in the order of the caller's; not, once one did not fit.
    pub fn kind(&mut self, data: Value) {
        if self.full {
            return;
        }
        let told = Told { call: data["call"].clone(), errno: data["errno"].clone() };
        let text = line("denial", &self.id, data);
        if self.bytes + text.len() > MOST_BYTES {
            return self.full();
        }
        self.write(&text);
        self.told.push(told);
    }

    /// What comes now is only counted.
    pub fn full(&mut self) {
        if !std::mem::replace(&mut self.full, true) {
            let more =
                json!({ "kinds": self.told.len(), "why": "more than is told one by one: the end counts the rest" });
            self.write(&line("denialsUntold", &self.id, more));
        }
    }

    /// The end: how many calls of each kind, how many in all, and how the workload ended.
    pub fn end(&mut self, counts: impl Iterator<Item = u64>, calls: u64, status: Option<i32>) {
        let kinds = self.told.iter().zip(counts);
        let (mut list, mut known) = (Vec::new(), 0);
        for (kind, count) in kinds {
            known += count;
            list.push(json!({ "call": kind.call, "errno": kind.errno, "count": count }));
        }
        let more = json!({ "calls": calls, "kinds": list, "untold": calls - known, "status": status });
        self.write(&line("denials", &self.id, more));
    }

    /// A line is there whole or not at all.
    fn write(&mut self, text: &str) {
        let Some(mut file) = self.file.take() else { return };
        match file.write_all(format!("{text}\n").as_bytes()) {
            Ok(()) => {
                self.bytes += text.len() + 1;
                self.file = Some(file);
            }
            Err(e) => {
                let _ = file.set_len(self.bytes as u64);
                crate::log::warning(&format!("denials of {} are told to `events` no more: {e}", self.id));
            }
        }
    }
}

/// Reads a ledger while it grows.
#[derive(Debug)]
pub struct Follower {
    file: File,
    at: u64,
    /// A line that is not whole yet.
    part: Vec<u8>,
    /// The end has been read.
    pub ended: bool,
}

impl Follower {
    /// Of a container whose denials somebody tells. `fresh`: what is there already is news.
    pub fn of(entry: &Entry, fresh: bool) -> Option<Follower> {
        let file = entry.open_denials()?;
        let at = if fresh { 0 } else { file.metadata().ok()?.len() };
        Some(Follower { file, at, part: Vec::new(), ended: false })
    }

    /// The lines that came since.
    pub fn lines(&mut self) -> Vec<String> {
        let mut buffer = vec![0; 64 << 10];
        while self.at < MOST_READ {
            let Ok(n) = self.file.read_at(&mut buffer, self.at) else { break };
            if n == 0 {
                break;
            }
            self.at += n as u64;
            self.part.extend_from_slice(&buffer[..n]);
        }
        let Some(end) = self.part.iter().rposition(|b| *b == b'\n') else { return Vec::new() };
        let rest = self.part.split_off(end + 1);
        let whole = std::mem::replace(&mut self.part, rest);
        let lines: Vec<String> = String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect();
        self.ended |= lines.last().is_some_and(|l| kind_of(l).as_deref() == Some("denials"));
        lines
    }
}

fn kind_of(line: &str) -> Option<String> {
    Some(serde_json::from_str::<Value>(line).ok()?["type"].as_str()?.to_owned())
}

/// A line of the ledger as `events ID` has its lines: what is told in `data`.
pub fn as_event(line: &str) -> Option<String> {
    let mut data: Map<String, Value> = serde_json::from_str(line).ok()?;
    let (kind, id) = (data.remove("type")?, data.remove("id")?);
    Some(format!("{{\"type\":{kind},\"id\":{id},\"data\":{}}}", Value::Object(data)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(call: &str) -> Value {
        json!({ "call": call, "errno": "EPERM", "rule": "defaultAction" })
    }

    #[test]
    fn a_ledger_is_bounded_and_says_where_it_stopped() {
        let file = tempfile::tempfile().unwrap();
        let mut ledger = Ledger::new(file.try_clone().unwrap(), "box");
        let long = "x".repeat(5000);
        for _ in 0..1000 {
            ledger.kind(kind(&long));
        }
        ledger.kind(kind("short"));
        ledger.end((0..1001).map(|_| 2), 3000, Some(0));
        let mut follower = Follower { file, at: 0, part: Vec::new(), ended: false };
        let lines: Vec<Value> = follower.lines().iter().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert!(follower.ended && follower.at < MOST_READ, "{}", follower.at);
        let (kinds, rest) = lines.split_at(lines.len() - 2);
        assert!((40..60).contains(&kinds.len()) && kinds.iter().all(|l| l["type"] == "denial" && l["id"] == "box"));
        assert_eq!((&rest[0]["type"], &rest[0]["kinds"]), (&json!("denialsUntold"), &json!(kinds.len())));
        assert_eq!((&rest[1]["type"], &rest[1]["untold"]), (&json!("denials"), &json!(3000 - 2 * kinds.len())));
        assert_eq!(rest[1]["kinds"].as_array().unwrap().len(), kinds.len());
    }

    #[test]
    fn a_line_that_is_not_whole_is_waited_for() {
        let mut file = tempfile::tempfile().unwrap();
        let mut follower = Follower { file: file.try_clone().unwrap(), at: 0, part: Vec::new(), ended: false };
        file.write_all(b"{\"type\":\"denial\"}\n{\"type\":").unwrap();
        assert_eq!(follower.lines(), ["{\"type\":\"denial\"}"]);
        assert!(follower.lines().is_empty() && !follower.ended);
        file.write_all(b"\"denials\"}\n").unwrap();
        assert_eq!((follower.lines(), follower.ended), (vec!["{\"type\":\"denials\"}".to_owned()], true));
    }

    #[test]
    fn an_event_has_its_data_apart() {
        let text = line("denial", "box", kind("mount()"));
        let event: Value = serde_json::from_str(&as_event(&text).unwrap()).unwrap();
        assert_eq!(
            (&event["type"], &event["id"], &event["data"]["call"]),
            (&json!("denial"), &json!("box"), &json!("mount()"))
        );
        assert_eq!(as_event("[]"), None);
    }
}
