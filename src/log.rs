//! Where errors and debug lines go.
//!
//! An error is one line on stderr. With `--log FILE` it is also exactly one record there (containerd reads the last,
//! Podman parses the whole file), in runc's fields. Findings never go to stderr: engines read it as failure.

use crate::error::Error;
use std::convert::Infallible;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
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

/// Where `--log` leads: a file, or in crun's forms one of the host's loggers, under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `FILE` or `file:FILE`
    File(PathBuf),
    /// `syslog:ID`
    Syslog(String),
    /// `journald:ID`
    Journald(String),
}

impl std::str::FromStr for Target {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Target, Infallible> {
        Ok(match text.split_once(':') {
            Some(("file", path)) => Target::File(path.into()),
            Some(("syslog", id)) => Target::Syslog(id.to_owned()),
            Some(("journald", id)) => Target::Journald(id.to_owned()),
            _ => Target::File(text.into()),
        })
    }
}

/// How much is said; crun's form of `--debug`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Failures
    Error,
    /// The same: findings are no log lines
    Warning,
    /// Each step, too
    Debug,
}

#[derive(Debug, Default)]
struct Sink {
    target: Option<Target>,
    format: Format,
    debug: bool,
}

static SINK: OnceLock<Sink> = OnceLock::new();

/// Says once, at the start, where lines go.
pub fn init(target: Option<Target>, format: Format, debug: bool) {
    let _ = SINK.set(Sink { target, format, debug });
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

impl Target {
    fn write(&self, level: &str, msg: &str, line: &str) -> std::io::Result<()> {
        // syslog(3): LOG_ERR and LOG_DEBUG, of the facility LOG_USER.
        let priority = if level == "error" { 3 } else { 7 };
        match self {
            Target::File(path) => {
                // In one write: two runtimes may share the file.
                let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
                file.write_all(format!("{line}\n").as_bytes())
            }
            Target::Syslog(id) => send("/dev/log", &format!("<{}>{id}: {msg}", 8 | priority)),
            Target::Journald(id) => send(
                "/run/systemd/journal/socket",
                &format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER={id}\nMESSAGE={}\n", msg.replace('\n', " ")),
            ),
        }
    }
}

fn send(socket: &str, message: &str) -> std::io::Result<()> {
    UnixDatagram::unbound()?.send_to(message.as_bytes(), socket).map(drop)
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::File(path) => write!(f, "{}", path.display()),
            Target::Syslog(id) => write!(f, "syslog:{id}"),
            Target::Journald(id) => write!(f, "journald:{id}"),
        }
    }
}

/// What a verb answers, on stdout. A reader that has seen enough (`stockade list | head -n 1`) is no failure, and a full
/// disk is no panic.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("stdout", "", &e)),
        _ => Ok(()),
    }
}

fn complain(line: &str) {
    // In one write, and nobody is left to be told when it fails.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The one line about a failure.
pub fn error(e: &Error) {
    let msg = e.to_string();
    complain(&format!("stockade: {msg}"));
    let Some(sink) = SINK.get() else { return };
    let Some(target) = &sink.target else { return };
    if target.write("error", &msg, &record("error", &msg, Some(e), sink.format)).is_err() {
        complain(&format!("stockade: --log {target}: could not be written"));
    }
}

/// What was asked to be said on stderr, because stdout is the workload's.
pub fn say(text: &str) {
    complain(text);
}

/// One line about what a verb did, on stderr: for the reader, and no matter of a log.
pub fn note(msg: &str) {
    complain(&format!("stockade: {}", crate::error::printable(msg)));
}

/// One line about something that failed and stopped nothing: into the log where there is one, else on stderr.
pub fn warning(msg: &str) {
    let sink = SINK.get();
    let line = record("warning", msg, None, sink.map(|s| s.format).unwrap_or_default());
    match sink.and_then(|s| s.target.as_ref()) {
        Some(target) => {
            let _ = target.write("warning", msg, &line);
        }
        None => complain(&format!("stockade: warning: {msg}")),
    }
}

/// A line for `--debug`: into the log where there is one, else on stderr.
pub fn debug(msg: &str) {
    let Some(sink) = SINK.get().filter(|s| s.debug) else { return };
    let line = record("debug", msg, None, sink.format);
    match &sink.target {
        Some(target) => {
            let _ = target.write("debug", msg, &line);
        }
        None => complain(&line),
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
