//! One error for the whole house.
//!
//! A launch fails at a step, on a subject, usually with an errno. `Error` carries exactly these, and a hint where we
//! know one. It prints as one line; the words of the errno are the kernel's own in lower case, because engines match
//! them ("no such file or directory", "permission denied").

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What failed: the step, what it was done to, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Error {
    /// The step or the field: `mount`, `config.json`, `linux.seccomp`.
    pub step: String,
    /// What the step was done to, as the user wrote it. Empty where there is nothing to name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// What was wrong, in words. Empty when the errno says it all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The errno that the kernel gave, if one was involved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// What the user can do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A step that failed for a reason of our own finding: bad input, a refusal.
    pub fn new(step: impl Into<String>, subject: impl Into<String>, why: impl Into<String>) -> Self {
        Error { step: step.into(), subject: subject.into(), why: why.into(), errno: None, hint: String::new() }
    }

    /// A step that the kernel refused.
    pub fn os(step: impl Into<String>, subject: impl Into<String>, errno: Errno) -> Self {
        Error {
            step: step.into(),
            subject: subject.into(),
            why: String::new(),
            errno: Some(errno as i32),
            hint: String::new(),
        }
    }

    /// A step of `std::io` that failed.
    pub fn io(step: impl Into<String>, subject: impl Into<String>, e: &std::io::Error) -> Self {
        match e.raw_os_error() {
            Some(n) => Self::os(step, subject, Errno::from_raw(n)),
            None => Self::new(step, subject, e.to_string()),
        }
    }

    /// The same error with a remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The same error with a reason in words beside the errno.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// The errno, if one was involved.
    pub fn errno(&self) -> Option<Errno> {
        self.errno.map(Errno::from_raw)
    }
}

/// `no such file or directory (ENOENT)`: the kernel's words, lower case, and the errno by name.
pub fn errno_text(e: Errno) -> String {
    let words = e.desc();
    let mut chars = words.chars();
    let lower: String = match chars.next() {
        // "I/O error" and "RPC ..." keep their capitals.
        Some(first) if chars.as_str().starts_with(|c: char| c.is_lowercase()) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => words.to_owned(),
    };
    format!("{lower} ({e:?})")
}

/// Text of a bundle as it may be shown: control characters escaped, because it must stay one line and must not give
/// orders to the reader's terminal, and cut where it stops being of use.
pub fn printable(text: &str) -> String {
    const MOST: usize = 1000;
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= MOST {
            out.push_str(&format!("... ({} bytes)", text.len()));
            break;
        }
        // U+202A..E and U+2066..9 turn the direction of what follows, and so its order on the screen.
        if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.step))?;
        if !self.subject.is_empty() {
            write!(f, ": {}", printable(&self.subject))?;
        }
        if !self.why.is_empty() {
            write!(f, ": {}", printable(&self.why))?;
        }
        if let Some(e) = self.errno() {
            write!(f, ": {}", errno_text(e))?;
        }
        if !self.hint.is_empty() {
            write!(f, "; hint: {}", printable(&self.hint))?;
        }
        Ok(())
    }
}

/// Gives a failing system call its step and subject.
pub trait Context<T> {
    /// `res.at("mount", "/proc")?`
    fn at(self, step: &str, subject: impl AsRef<str>) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, Errno> {
    fn at(self, step: &str, subject: impl AsRef<str>) -> Result<T> {
        self.map_err(|e| Error::os(step, subject.as_ref(), e))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn at(self, step: &str, subject: impl AsRef<str>) -> Result<T> {
        self.map_err(|e| Error::io(step, subject.as_ref(), &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_step_subject_errno_and_hint() {
        let e = Error::os("exec", "/bin/nope", Errno::ENOENT).hint("look at process.args");
        assert_eq!(e.to_string(), "exec: /bin/nope: no such file or directory (ENOENT); hint: look at process.args");
    }

    #[test]
    fn text_of_a_bundle_stays_one_line_of_bounded_length_and_gives_no_orders() {
        let e = Error::new("config.json", "a\nb\u{1b}[2J\u{202e}", "x".repeat(100_000)).to_string();
        assert!(e.starts_with("config.json: a\\nb\\u{1b}[2J\\u{202e}: xxx") && e.len() < 1100, "{e}");
        assert!(e.ends_with("... (100000 bytes)"), "{e}");
        assert_eq!(printable("größe 漢字 \"q\" \\"), "größe 漢字 \"q\" \\");
    }

    #[test]
    fn engines_find_their_words() {
        assert!(Error::os("exec", "/x", Errno::EACCES).to_string().contains("permission denied"));
        assert!(Error::os("mount", "/x", Errno::EPERM).to_string().contains("operation not permitted"));
        assert!(errno_text(Errno::EIO).contains("(EIO)"));
    }
}
