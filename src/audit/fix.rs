//! Decide: `audit --fix`: the config with every fix of every FAIL in it.
//!
//! A fix can bring up another (a mount that is added has options of its own), and two of one round can want the same
//! field, so the result is judged again until nothing changes.

use super::{Finding, Fix, Status};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Rounds after which it ends, whatever is left: each row settles in one or two.
const ROUNDS: usize = 8;

/// What came of it.
#[derive(Debug, Clone)]
pub struct Fixed {
    /// The config.
    pub config: Value,
    /// What was changed, a line each.
    pub changed: Vec<String>,
    /// The answers about the result.
    pub findings: Vec<Finding>,
}

/// Applies fixes until there are none; `judge` audits a config.
pub fn harden(config: &Value, mut judge: impl FnMut(&Value) -> Vec<Finding>) -> Fixed {
    let mut fixed = Fixed { config: config.clone(), changed: Vec::new(), findings: judge(config) };
    for _ in 0..ROUNDS {
        let before = fixed.config.clone();
        let failing = fixed.findings.iter().filter(|f| f.status == Status::Fail);
        let mut fixes: Vec<Fix> = Vec::new();
        // A hostile config has as many as its 16 MiB hold.
        let mut known = HashSet::new();
        for finding in failing {
            for fix in &finding.fixes {
                if known.insert((&fix.pointer, fix.value.as_ref().map(Value::to_string))) {
                    let advice =
                        if finding.advice.is_empty() { String::new() } else { format!(" ({})", finding.advice) };
                    fixed.changed.push(format!("{}: {}{advice}", finding.id, fix.line()));
                    fixes.push(fix.clone());
                }
            }
        }
        apply(&mut fixed.config, fixes);
        fixed.findings = judge(&fixed.config);
        if fixed.config == before {
            break;
        }
    }
    fixed
}

/// Sets first, the outer before the inner; removals last, from the end of each list, so that no place moves.
pub fn apply(config: &mut Value, fixes: Vec<Fix>) {
    let (mut sets, mut gone): (Vec<Fix>, Vec<Fix>) = fixes.into_iter().partition(|f| f.value.is_some());
    sets.sort_by_key(|f| f.pointer.matches('/').count());
    for fix in sets {
        set(config, &fix.pointer, fix.value.unwrap_or_default());
    }
    let place = |f: &Fix| -> Vec<(usize, String)> {
        f.pointer.split('/').map(|p| (p.parse().unwrap_or(0), p.to_owned())).collect()
    };
    gone.sort_by_cached_key(|f| std::cmp::Reverse(place(f)));
    gone.dedup();
    for fix in gone {
        remove(config, &fix.pointer);
    }
}

fn words(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|w| w.replace("~1", "/").replace("~0", "~")).collect()
}

fn set(config: &mut Value, pointer: &str, value: Value) {
    let words = words(pointer);
    let Some((last, parents)) = words.split_last() else { return };
    let mut here = config;
    for (n, word) in parents.iter().enumerate() {
        let list_next = n + 1 == parents.len() && last == "-";
        let next = match here {
            Value::Array(items) => word.parse::<usize>().ok().and_then(|i| items.get_mut(i)),
            Value::Object(map) => Some(map.entry(word.clone()).or_insert(Value::Null)),
            _ => None,
        };
        let Some(next) = next else { return };
        if next.is_null() {
            *next = if list_next { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
        }
        here = next;
    }
    match here {
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            if let Some(item) = last.parse::<usize>().ok().and_then(|i| items.get_mut(i)) {
                *item = value;
            }
        }
        Value::Object(map) => {
            map.insert(last.clone(), value);
        }
        _ => {}
    }
}

fn remove(config: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    let last = last.replace("~1", "/").replace("~0", "~");
    match config.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.remove(&last);
        }
        Some(Value::Array(items)) => {
            if let Some(i) = last.parse::<usize>().ok().filter(|i| *i < items.len()) {
                items.remove(i);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fix(pointer: &str, value: Option<Value>) -> Fix {
        Fix { pointer: pointer.into(), value }
    }

    #[test]
    fn what_is_removed_is_what_was_meant_and_parents_are_made() {
        let mut config = json!({ "a": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "x/y": 1, "n": null });
        let fixes = ["/a/1", "/a/10", "/a/9", "/a/1", "/x~1y", "/nowhere/1"].map(|p| fix(p, None));
        apply(&mut config, fixes.to_vec());
        assert_eq!(config["a"], json!([0, 2, 3, 4, 5, 6, 7, 8]));
        apply(
            &mut config,
            vec![
                fix("/n/-", Some(json!(1))),
                fix("/b/c/d", Some(json!(2))),
                fix("/a/0", Some(json!(7))),
                fix("/a/1/x", Some(json!(0))),
                fix("/b/c", Some(json!({ "e": 3 }))),
            ],
        );
        assert_eq!(config["n"], json!([1]));
        assert_eq!(config["b"], json!({ "c": { "d": 2, "e": 3 } }));
        assert_eq!(config["a"][0], 7);
        assert!(config.get("x/y").is_none());
    }
}
