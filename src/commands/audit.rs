//! `audit`: a bundle or a running container against the rules of a policy.

use crate::audit::{Facts, Finding, Report, Status, config, fix, live, ruler};
use crate::bundle;
use crate::cli::{Audit, AuditFormat, Global};
use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::log::print;
use crate::observe::{facts, rootfs};
use crate::policy::Policy;
use crate::state::{Status as Life, Store, check_id};
use serde_json::Value;
use std::path::Path;

/// The status of an audit in which something fails at the threshold or above.
const FOUND: i32 = 2;

/// `stockade audit`.
pub fn audit(global: &Global, args: &Audit) -> Result<i32> {
    let policy = Policy::choose(args.policy.as_deref().or(global.policy.as_deref()))?;
    let ruler = ruler::ruler(&policy)?;
    let path = Path::new(&args.target);
    let named = path.join(bundle::CONFIG);
    // What has a slash or a dot is a path; a plain word is a container's id where there is one.
    let plain = check_id(&args.target).is_ok();
    let entry = if plain { Store::open(global.root.as_deref()).and_then(|s| s.entry(&args.target)).ok() } else { None };
    match entry {
        Some(entry) => container(&entry, args, &policy, &ruler),
        None if plain && !named.exists() => {
            Err(Error::new("audit", args.target.as_str(), "no container of that id, and no bundle")
                .hint("a bundle is a directory with a config.json; `stockade list` shows the containers of --root"))
        }
        None => of_bundle(path, args, &policy, &ruler),
    }
}

fn of_bundle(path: &Path, args: &Audit, policy: &Policy, ruler: &Policy) -> Result<i32> {
    let dir = path.canonicalize().at("audit", path.display().to_string())?;
    let bytes = bundle::read_config(&dir)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let config: Value =
        serde_json::from_slice(&bytes).map_err(|e| Error::new("config.json", "", format!("is not JSON: {e}")))?;
    if !config.is_object() {
        return Err(Error::new("config.json", "", "is not a JSON object"));
    }
    let host = Host::read()?;
    let root = config.pointer("/root/path").and_then(Value::as_str).filter(|p| !p.is_empty());
    let walk = root.and_then(|root| rootfs::walk(&dir.join(root), args.deep, rootfs::BOUND).ok());
    let judge = |config: &Value| -> Vec<Finding> {
        let facts: Facts = facts::of_config(config, &dir, &host, walk.clone());
        let read = bundle::parse(config.to_string().as_bytes()).map(|(_, unknown)| unknown);
        config::judge(&config::Subject::new(config, &read, &dir, &facts, ruler))
    };
    if args.fix {
        return mend(&config, args, judge);
    }
    let report = Report { target: path.display().to_string(), policy: policy.name.clone(), findings: judge(&config) };
    let place = path.join(bundle::CONFIG).display().to_string();
    say(&report, args, Some((&place, &text)))
}

fn container(entry: &crate::state::Entry, args: &Audit, policy: &Policy, ruler: &Policy) -> Result<i32> {
    let (state, status) = entry.require()?;
    if !matches!(status, Life::Running | Life::Paused | Life::Created) {
        return Err(Error::new("audit", state.id.as_str(), format!("the container is {}", status.word()))
            .hint("audit its bundle instead, or start it"));
    }
    if args.fix {
        return Err(Error::new("audit", state.id.as_str(), "--fix mends a config.json, and this is a container")
            .hint(format!("stockade audit --fix {}", state.bundle.display())));
    }
    let seen = facts::of_container(entry, &state, &Host::read()?, ruler)?;
    // What was read is of the container only if its init is the same still.
    if !state.init.alive() {
        return Err(Error::new("audit", state.id.as_str(), "the container ended meanwhile"));
    }
    let report = Report { target: state.id.clone(), policy: policy.name.clone(), findings: live::judge(&seen, ruler) };
    say(&report, args, None)
}

fn json(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::new("output", "JSON", e.to_string()))
}

fn say(report: &Report, args: &Audit, config: Option<(&str, &str)>) -> Result<i32> {
    let text = match args.format {
        AuditFormat::Table => report.table(),
        AuditFormat::Json => json(&report.json())? + "\n",
        AuditFormat::Sarif => json(&report.sarif(config))? + "\n",
    };
    print(&text)?;
    Ok(if report.failed(args.threshold).is_empty() { 0 } else { FOUND })
}

fn mend(config: &Value, args: &Audit, judge: impl FnMut(&Value) -> Vec<Finding>) -> Result<i32> {
    let fixed = fix::harden(config, judge);
    for line in &fixed.changed {
        crate::log::note(&format!("changed: {line}"));
    }
    let failing = fixed.findings.iter().filter(|f| f.status == Status::Fail);
    for f in failing.clone() {
        let advice = if f.advice.is_empty() { String::new() } else { format!(" ({})", f.advice) };
        crate::log::note(&format!("left: {} {}: {}{advice}", f.severity.word(), f.id, f.seen));
    }
    print(&(json(&fixed.config)? + "\n"))?;
    Ok(if failing.filter(|f| f.severity >= args.threshold).count() == 0 { 0 } else { FOUND })
}
