//! Decide: properties of the scope that annotations ask for (`org.systemd.property.NAME`).
//!
//! An annotation is the bundle's, and often a stranger's: an engine hands on those of a pod. A unit has properties that
//! run programs on the host as root (CVE-2024-3154), so only those in this table exist at all, each with one type, and the
//! policy says which of them a bundle may set. Values are GVariant text, as runc and crun read them:
//! `true`, `uint64 5000000`, `'inactive-or-failed'`, `['a.service', 'b.service']`.

use super::Draft;
use crate::cgroup::systemd::Value;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// What such an annotation begins with.
pub const PREFIX: &str = "org.systemd.property.";

/// The properties that can be set at all. None of them runs a program, names a file or widens a limit.
pub const KNOWN: [(&str, Kind); 8] = [
    ("After", Kind::Units),
    ("Before", Kind::Units),
    ("CollectMode", Kind::Text),
    ("DefaultDependencies", Kind::Bool),
    ("RuntimeMaxUSec", Kind::Number),
    ("SendSIGHUP", Kind::Bool),
    ("SendSIGKILL", Kind::Bool),
    ("TimeoutStopUSec", Kind::Number),
];

/// What a property takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`
    Bool,
    /// Microseconds
    Number,
    /// A word
    Text,
    /// Names of units
    Units,
}

/// The properties that the annotations ask for.
pub fn properties(draft: &mut Draft) -> Result<Vec<(String, Value)>> {
    let all: BTreeMap<String, String> =
        draft.bundle.spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut properties = Vec::new();
    for (key, text) in &all {
        let Some(asked) = key.strip_prefix(PREFIX) else { continue };
        let field = format!("annotations.{key}");
        if draft.host.cgroup.systemd.is_none() {
            draft.find("host", &field, text, "nothing", "the cgroup is no unit of systemd: --systemd-cgroup makes one");
            continue;
        }
        // systemd's files say seconds where its bus says microseconds; engines write either.
        let (name, factor) = match asked.strip_suffix("Sec").filter(|n| !n.ends_with('U')) {
            Some(stem) => (format!("{stem}USec"), 1_000_000),
            None => (asked.to_owned(), 1),
        };
        let known = KNOWN.iter().find(|(n, _)| *n == name);
        let Some((_, kind)) = known.filter(|_| draft.policy.unit_properties.contains(&name)) else {
            if known.is_some() {
                return Err(draft.refuse(&field, text, "a property of a unit of the host", "unitProperties"));
            }
            let names: Vec<&str> = KNOWN.iter().map(|(n, _)| *n).collect();
            return Err(Error::new("config.json", field, format!("{asked} is not a property that a bundle may set"))
                .hint(format!("a unit's properties run programs on the host; there are {}", names.join(", "))));
        };
        let value = parse(*kind, text.trim(), factor).ok_or_else(|| {
            Error::new("config.json", field, format!("{text:?} is not a value of {name}")).hint(match kind {
                Kind::Bool => "true or false",
                Kind::Number => "a number such as uint64 5000000",
                Kind::Text => "a word in quotes such as 'inactive-or-failed'",
                Kind::Units => "names in quotes such as ['a.service']",
            })
        })?;
        properties.push((name, value));
    }
    Ok(properties)
}

fn parse(kind: Kind, text: &str, factor: u64) -> Option<Value> {
    match kind {
        Kind::Bool => text.parse().ok().map(Value::Bool),
        Kind::Number => {
            let number = text.rsplit_once(' ').map_or(Some(text), |(kind, n)| {
                ["uint64", "int64", "uint32", "int32"].contains(&kind.trim()).then_some(n)
            })?;
            number.parse::<u64>().ok()?.checked_mul(factor).map(Value::Number)
        }
        Kind::Text => quoted(text).map(Value::Text),
        Kind::Units => {
            let inner = text.strip_prefix('[')?.strip_suffix(']')?.trim();
            let names = inner.split(',').map(str::trim).filter(|n| !n.is_empty());
            names.map(quoted).collect::<Option<Vec<_>>>().map(Value::Names)
        }
    }
}

/// A word in quotes, of the letters that a unit's name has.
fn quoted(text: &str) -> Option<String> {
    let inner = text
        .strip_prefix('\'')
        .and_then(|t| t.strip_suffix('\''))
        .or_else(|| text.strip_prefix('"').and_then(|t| t.strip_suffix('"')))?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:@".contains(&b);
    (!inner.is_empty() && inner.len() < 256 && inner.bytes().all(plain)).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_of_the_type_that_the_property_has() {
        let n = |text: &str, factor| parse(Kind::Number, text, factor);
        assert_eq!(n("uint64 5", 1), Some(Value::Number(5)));
        assert_eq!(n("7", 1_000_000), Some(Value::Number(7_000_000)));
        assert_eq!(parse(Kind::Bool, "true", 1), Some(Value::Bool(true)));
        assert_eq!(parse(Kind::Text, "'inactive-or-failed'", 1), Some(Value::Text("inactive-or-failed".into())));
        assert_eq!(
            parse(Kind::Units, "['crio.service', \"b.slice\"]", 1),
            Some(Value::Names(vec!["crio.service".into(), "b.slice".into()]))
        );
        for (kind, text) in [
            (Kind::Number, "-1"),
            (Kind::Number, "byte 1"),
            (Kind::Number, "18446744073709551616"),
            (Kind::Bool, "'true'"),
            (Kind::Text, "bare"),
            (Kind::Text, "'a' 'b'"),
            (Kind::Text, "'a\nb'"),
            (Kind::Units, "'a.service'"),
            (Kind::Units, "[a.service]"),
        ] {
            assert_eq!(parse(kind, text, 1), None, "{text}");
        }
        assert_eq!(n("18446744073709551615", 1_000_000), None);
    }
}
