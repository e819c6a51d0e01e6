//! Decide: `audit`, the rules of the policies as questions to a bundle or to a container that runs.
//!
//! Every row of [`rows::ROWS`] is answered, by [`config`] from config.json and by [`live`] from what the kernel says of a
//! container. Where a row asks what a policy decides, the answer comes from the policy's own data and from the planner's
//! own functions. Pure: what must be looked up on the machine comes in as [`Facts`], taken by `observe`. What a runtime
//! cannot know is INFO, and never PASS.

pub mod config;
pub mod fix;
pub mod live;
pub mod place;
pub mod report;
pub mod rows;
pub mod ruler;
pub mod secrets;

use crate::namespaces::Named;
use crate::sources::Source;
use rows::Row;
use serde::Serialize;
use serde_json::Value;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    /// Good to know
    Info,
    /// A little more than needed
    Low,
    /// A layer is missing
    Medium,
    /// One bug away from the host
    High,
    /// The host is open
    Critical,
}

/// The answer to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// It does not hold.
    Fail,
    /// It holds as far as can be told, and somebody should look.
    Warn,
    /// Nobody here can tell.
    Info,
    /// It holds.
    Pass,
}

/// A change of config.json.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fix {
    /// Where: a JSON pointer (RFC 6901); `-` at its end is a new entry of a list.
    pub pointer: String,
    /// The new value; none: it is removed.
    pub value: Option<Value>,
}

/// What one row found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The row.
    pub id: &'static str,
    /// What would hold.
    pub title: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The answer.
    pub status: Status,
    /// What was seen.
    pub seen: String,
    /// The fields that it is about, as JSON pointers.
    pub at: Vec<String>,
    /// What mends it in config.json.
    pub fixes: Vec<Fix>,
    /// What to do, in words.
    pub advice: String,
    /// Who asks.
    pub source: String,
}

/// A whole audit.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What was audited.
    pub target: String,
    /// The policy that was the measure.
    pub policy: String,
    /// A finding a row, in the order of the rows.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The findings that fail at this severity or above.
    pub fn failed(&self, threshold: Severity) -> Vec<&Finding> {
        self.findings.iter().filter(|f| f.status == Status::Fail && f.severity >= threshold).collect()
    }
}

/// What must be looked up on the machine to judge a config.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// AppArmor is in force.
    pub apparmor: bool,
    /// SELinux is in force.
    pub selinux: bool,
    /// Controllers that the machine keeps on cgroup v1.
    pub cgroup_v1: Vec<String>,
    /// The namespaces that the config names by path.
    pub namespaces: Vec<Named>,
    /// The paths of the host that it shows: sources of binds, and the root file system.
    pub sources: Vec<Source>,
    /// Hooks that others than root can write to: the pointer, and why.
    pub open_hooks: Vec<(String, String)>,
    /// What is in the rootfs; none: nobody looked.
    pub walk: Option<Walk>,
}

/// What a walk through a rootfs found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walk {
    /// How many entries were seen.
    pub entries: usize,
    /// Files with the setuid or setgid bit.
    pub setuid: Vec<String>,
    /// Files with capabilities.
    pub capable: Vec<String>,
    /// Shells, compilers and the like.
    pub tools: Vec<String>,
    /// Why it ended before the end.
    pub cut: Option<String>,
}

/// The answer of one rule, before it has a row.
#[derive(Debug, Clone)]
pub struct Seen {
    status: Status,
    severity: Option<Severity>,
    seen: String,
    at: Vec<String>,
    fixes: Vec<Fix>,
    advice: String,
}

impl Seen {
    fn new(status: Status, seen: impl Into<String>) -> Seen {
        Seen { status, severity: None, seen: seen.into(), at: Vec::new(), fixes: Vec::new(), advice: String::new() }
    }

    fn pass(seen: impl Into<String>) -> Seen {
        Seen::new(Status::Pass, seen)
    }

    fn info(seen: impl Into<String>) -> Seen {
        Seen::new(Status::Info, seen)
    }

    fn warn(seen: impl Into<String>) -> Seen {
        Seen::new(Status::Warn, seen)
    }

    fn fail(seen: impl Into<String>) -> Seen {
        Seen::new(Status::Fail, seen)
    }

    /// FAIL with all of it, or PASS where there is nothing.
    fn unless(wrong: &[String], good: &str) -> Seen {
        if wrong.is_empty() { Seen::pass(good) } else { Seen::fail(shorten(wrong)) }
    }

    fn at(mut self, pointer: impl Into<String>) -> Seen {
        self.at.push(pointer.into());
        self
    }

    fn set(mut self, pointer: impl Into<String>, value: Value) -> Seen {
        self.fixes.push(Fix { pointer: pointer.into(), value: Some(value) });
        self
    }

    fn remove(mut self, pointer: impl Into<String>) -> Seen {
        self.fixes.push(Fix { pointer: pointer.into(), value: None });
        self
    }

    fn severity(mut self, severity: Severity) -> Seen {
        self.severity = Some(severity);
        self
    }

    fn advice(mut self, advice: impl Into<String>) -> Seen {
        self.advice = advice.into();
        self
    }

    /// The worst of several rules, and what all of them say.
    fn all(parts: Vec<(&str, Seen)>) -> Seen {
        let worst = parts.iter().map(|(_, s)| s.status).min().unwrap_or(Status::Info);
        let mut whole = Seen::new(worst, "");
        let mut said = Vec::new();
        for (name, part) in parts {
            // What is not wrong has nothing to add where something is.
            if part.status == worst || worst >= Status::Info {
                said.push(format!("{name}: {}", part.seen));
                whole.severity = whole.severity.max(part.severity);
                whole.at.extend(part.at);
                whole.fixes.extend(part.fixes);
                if whole.advice.is_empty() {
                    whole.advice = part.advice;
                }
            }
        }
        whole.seen = said.join("; ");
        whole
    }

    fn of(self, row: &Row) -> Finding {
        let Seen { status, severity, seen, mut at, fixes, advice } = self;
        at.dedup();
        Finding {
            id: row.id,
            title: row.title,
            severity: severity.unwrap_or(row.severity),
            status,
            seen,
            at,
            fixes,
            advice,
            source: row.source(),
        }
    }
}

/// The first of many, and how many more there are: a hostile bundle has 65,536.
fn shorten(all: &[String]) -> String {
    const MOST: usize = 8;
    let shown = all.iter().take(MOST).cloned().collect::<Vec<_>>().join("; ");
    if all.len() > MOST { format!("{shown}; and {} more", all.len() - MOST) } else { shown }
}
