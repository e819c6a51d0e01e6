//! Where errors and debug lines go.
//!
//! An error is one line on stderr. With `--log FILE` it is also exactly one record there (containerd reads the last,
//! Podman parses the whole file), in runc's fields. Findings never go to stderr: engines read it as failure.

use crate::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The form of records in the log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// logfmt: time= level= msg=
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Default)]
struct Sink {
    file: Option<PathBuf>,
    format: Format,
    debug: bool,
}

static SINK: OnceLock<Sink> = OnceLock::new();

/// Says once, at the start, where lines go.
pub fn init(file: Option<PathBuf>, format: Format, debug: bool) {
    let _ = SINK.set(Sink { file, format, debug });
}

fn record(level: &str, msg: &str, error: Option<&Error>, format: Format) -> String {
    let time = crate::state::now();
    match format {
        Format::Json => {
            let mut value = serde_json::json!({ "level": level, "msg": msg, "time": time });
            if let Some(e) = error {
                value["step"] = e.step.clone().into();
                if !e.subject.is_empty() {
                    value["subject"] = e.subject.clone().into();
                }
                if let Some(n) = e.errno() {
                    value["errno"] = format!("{n:?}").into();
                }
                if !e.hint.is_empty() {
                    value["hint"] = e.hint.clone().into();
                }
            }
            value.to_string()
        }
        Format::Text => format!("time={time:?} level={level} msg={msg:?}"),
    }
}

fn append(path: &PathBuf, line: &str) -> bool {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut f| writeln!(f, "{line}")).is_ok()
}

/// The one line about a failure.
pub fn error(e: &Error) {
    let sink = SINK.get();
    let msg = e.to_string();
    eprintln!("stockade: {msg}");
    if let Some((file, format)) = sink.and_then(|s| s.file.as_ref().map(|f| (f, s.format)))
        && !append(file, &record("error", &msg, Some(e), format))
    {
        eprintln!("stockade: --log {}: could not be written", file.display());
    }
}

/// A line for `--debug`: into the log file where there is one, else on stderr.
pub fn debug(msg: &str) {
    let Some(sink) = SINK.get().filter(|s| s.debug) else { return };
    match &sink.file {
        Some(file) => {
            append(file, &record("debug", msg, None, sink.format));
        }
        None => eprintln!("{}", record("debug", msg, None, sink.format)),
    }
}

/// Whether debug lines are wanted, before building one that costs something.
pub fn is_debug() -> bool {
    SINK.get().is_some_and(|s| s.debug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_record_has_the_fields_that_engines_read() {
        let e = Error::new("exec", "/x", "no").hint("look");
        let v: serde_json::Value =
            serde_json::from_str(&record("error", &e.to_string(), Some(&e), Format::Json)).unwrap();
        assert_eq!(v["level"], "error");
        assert_eq!(v["msg"], "exec: /x: no; hint: look");
        assert!(v["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(v["step"], "exec");
    }

    #[test]
    fn a_text_record_stays_one_line() {
        assert!(!record("error", "a\nb", None, Format::Text).contains('\n'));
    }
}
