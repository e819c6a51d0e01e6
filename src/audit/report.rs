//! Decide: an audit as text, as JSON and as SARIF 2.1.0.
//!
//! All of it is made of a bundle's text in part, so a table has no control characters, and values that look like secrets
//! were never put into a finding.

use super::place;
use super::rows::ROWS;
use super::{Finding, Fix, Report, Severity, Status};
use crate::error::printable;
use serde_json::{Value, json};

impl Severity {
    /// As tables have it.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Info => "INFO",
            Severity::Low => "LOW",
            Severity::Medium => "MEDIUM",
            Severity::High => "HIGH",
            Severity::Critical => "CRITICAL",
        }
    }

    /// On the scale of CVSS, as readers of SARIF sort by it.
    fn score(self) -> &'static str {
        match self {
            Severity::Info => "0.0",
            Severity::Low => "3.0",
            Severity::Medium => "5.5",
            Severity::High => "8.0",
            Severity::Critical => "9.5",
        }
    }

    fn level(self) -> &'static str {
        match self {
            Severity::Info => "none",
            Severity::Low => "note",
            Severity::Medium => "warning",
            Severity::High | Severity::Critical => "error",
        }
    }
}

impl Status {
    /// As tables have it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Fail => "FAIL",
            Status::Warn => "WARN",
            Status::Info => "INFO",
            Status::Pass => "PASS",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Status::Fail => "fail",
            Status::Warn => "review",
            Status::Info => "informational",
            Status::Pass => "pass",
        }
    }
}

/// A value as a report shows it: a whole seccomp profile is a name.
fn shown(fix: &Fix) -> Value {
    match &fix.value {
        Some(Value::Object(_)) if fix.pointer == "/linux/seccomp" => {
            json!("the default profile of stockade, profiles/seccomp/default.json")
        }
        Some(value) => value.clone(),
        None => Value::Null,
    }
}

impl Fix {
    /// As tables have it, not much longer than a line.
    pub fn line(&self) -> String {
        cut(&match (&self.value, self.pointer.strip_suffix("/-")) {
            (None, _) => format!("remove {}", self.pointer),
            (Some(_), Some(list)) => format!("{list} += {}", shown(self)),
            (Some(_), None) => format!("{} = {}", self.pointer, shown(self)),
        })
    }
}

impl Report {
    fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|f| f.status == status).count()
    }

    fn summary(&self) -> Vec<(&'static str, usize)> {
        let failed =
            |severity| self.findings.iter().filter(|f| f.status == Status::Fail && f.severity == severity).count();
        use Severity::{Critical, High, Info, Low, Medium};
        let mut all: Vec<(&'static str, usize)> =
            [Critical, High, Medium, Low, Info].map(|s| (s.word(), failed(s))).to_vec();
        all.extend([Status::Fail, Status::Warn, Status::Info, Status::Pass].map(|s| (s.word(), self.count(s))));
        // INFO is a status, and a severity that nothing fails at.
        all.remove(4);
        all
    }

    /// For people: what fails first, the worst first.
    pub fn table(&self) -> String {
        let mut sorted: Vec<&Finding> = self.findings.iter().collect();
        sorted.sort_by_key(|f| {
            (f.status, std::cmp::Reverse(if f.status == Status::Fail { f.severity } else { Severity::Info }))
        });
        let mut text = format!("{}, by the policy {}\n\n", printable(&self.target), printable(&self.policy));
        for f in sorted {
            // The severity says how bad a "no" is; to a "yes" it says nothing.
            let severity = if f.status == Status::Fail { f.severity.word() } else { "" };
            text += &format!("{:<4}  {severity:<8}  {:<8}  {}\n", f.status.word(), f.id, f.title);
            let mut more =
                |word: &str, line: &str| text += &format!("{:>30}{}\n", format!("{word}: "), printable(line));
            more("seen", &f.seen);
            if f.status == Status::Fail {
                f.fixes.iter().for_each(|fix| more("fix", &fix.line()));
                if !f.advice.is_empty() {
                    more("do", &f.advice);
                }
            }
        }
        let counts: Vec<String> = self.summary().iter().map(|(word, n)| format!("{n} {word}")).collect();
        let (severities, statuses) = counts.split_at(4);
        text + &format!("\n{}; failed: {}\n", statuses.join(", "), severities.join(", "))
    }

    /// For programs: stable and sorted.
    pub fn json(&self) -> Value {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|f| {
                let fixes: Vec<Value> = f
                    .fixes
                    .iter()
                    .map(|x| {
                        let op = match &x.value {
                            None => "remove",
                            Some(_) if x.pointer.ends_with("/-") => "add",
                            Some(_) => "set",
                        };
                        json!({ "op": op, "pointer": x.pointer, "value": shown(x) })
                    })
                    .collect();
                json!({ "id": f.id, "title": f.title, "severity": f.severity.word(), "status": f.status.word(),
                    "seen": f.seen, "at": f.at, "fixes": fixes, "advice": f.advice, "source": f.source })
            })
            .collect();
        let summary: serde_json::Map<String, Value> =
            self.summary().into_iter().map(|(word, n)| (word.to_lowercase(), n.into())).collect();
        json!({ "target": self.target, "policy": self.policy, "summary": summary, "findings": findings })
    }

    /// SARIF 2.1.0, for code scanning. `config`: the path and the text of the config.json; none for a container.
    pub fn sarif(&self, config: Option<(&str, &str)>) -> Value {
        let pointers = self.findings.iter().flat_map(|f| f.at.iter().map(String::as_str));
        let lines = config.map(|(_, text)| place::lines(text, pointers)).unwrap_or_default();
        let rules: Vec<Value> = ROWS
            .iter()
            .map(|row| {
                json!({
                    "id": row.id,
                    "shortDescription": { "text": row.title },
                    "fullDescription": { "text": format!("{} ({})", row.title, row.source()) },
                    "help": { "text": format!("{}: {}", row.id, row.title) },
                    "helpUri": row.help(),
                    "defaultConfiguration": { "level": row.severity.level() },
                    "properties": { "security-severity": row.severity.score(), "tags": ["security", "container"] }
                })
            })
            .collect();
        let location = |f: &Finding| -> Vec<Value> {
            let named = |name: &str| json!([{ "fullyQualifiedName": name, "kind": "member" }]);
            let Some((path, _)) = config else { return vec![json!({ "logicalLocations": named(&self.target) })] };
            // A result has one place; the others would each be shown as a result of their own.
            let pointer = f.at.first().map_or("", String::as_str);
            vec![json!({
                "physicalLocation": {
                    "artifactLocation": { "uri": uri(path) },
                    "region": { "startLine": place::line_of(&lines, pointer) }
                },
                "logicalLocations": named(if pointer.is_empty() { "/" } else { pointer })
            })]
        };
        let results: Vec<Value> = self
            .findings
            .iter()
            .enumerate()
            .map(|(i, f)| {
                let fixes: Vec<String> = f.fixes.iter().map(Fix::line).collect();
                let mut text = format!("{}: {}", f.title, f.seen);
                if f.status == Status::Fail && !fixes.is_empty() {
                    text += &format!(". Fix: {}", fixes.join("; "));
                }
                if f.status == Status::Fail && !f.advice.is_empty() {
                    text += &format!(". {}", f.advice);
                }
                // By the standard, only what fails has a level.
                let level = if f.status == Status::Fail { f.severity.level() } else { "none" };
                json!({
                    "ruleId": f.id,
                    "ruleIndex": i,
                    "kind": f.status.kind(),
                    "level": level,
                    "message": { "text": printable(&text) },
                    "locations": location(f),
                    "properties": { "security-severity": f.severity.score() }
                })
            })
            .collect();
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "stockade",
                    "version": env!("CARGO_PKG_VERSION"),
                    "informationUri": env!("CARGO_PKG_REPOSITORY"),
                    "rules": rules
                } },
                "columnKind": "unicodeCodePoints",
                "results": results
            }]
        })
    }
}

fn cut(line: &str) -> String {
    const MOST: usize = 160;
    if line.len() <= MOST { line.to_owned() } else { format!("{}...", &line[..line.floor_char_boundary(MOST)]) }
}

/// A path as a URI reference.
fn uri(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let escaped: String =
        path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
    // Two slashes at the beginning would be a host.
    if path.starts_with('/') { format!("file:///{}", escaped.trim_start_matches('/')) } else { escaped }
}
