//! Do: what a container uses, in the JSON that runc's `events` has and its readers parse.
//!
//! Every number is a file of cgroup v2. What a kernel or a delegation lacks is left out of the object, never invented.

use crate::cgroup::Group;
use serde_json::{Map, Value, json};

/// A flat keyed file such as memory.stat.
pub(super) fn keyed(group: &Group, file: &str) -> Map<String, Value> {
    let text = group.get(file).unwrap_or_default();
    text.lines()
        .filter_map(|l| {
            let (key, value) = l.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse::<u64>().ok()?.into()))
        })
        .collect()
}

pub(super) fn number(map: &Map<String, Value>, key: &str) -> u64 {
    map.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// A file with one number; `max` is the largest.
fn single(group: &Group, file: &str) -> Option<u64> {
    match group.get(file).ok()?.trim() {
        "max" => Some(u64::MAX),
        text => text.parse().ok(),
    }
}

/// Pressure stall information: accounting/psi.
pub(super) fn pressure(group: &Group, file: &str) -> Option<Value> {
    let text = group.get(file).ok().filter(|t| !t.trim().is_empty())?;
    let mut all = Map::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let kind = words.next()?;
        let mut values = Map::new();
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let value =
                if key == "total" { json!(value.parse::<u64>().ok()?) } else { json!(value.parse::<f64>().ok()?) };
            values.insert(key.to_owned(), value);
        }
        all.insert(kind.to_owned(), values.into());
    }
    Some(all.into())
}

/// The statistics of a cgroup.
pub fn collect(group: &Group) -> Value {
    let mut data = json!({
        "cpu": cpu(group),
        "cpuset": {},
        "memory": memory(group),
        "pids": {},
        "blkio": io(group),
        "hugetlb": hugetlb(group),
        "intel_rdt": {},
        "network_interfaces": null,
    });
    if let Some(current) = single(group, "pids.current") {
        // No limit is 0 to runc's readers.
        let limit = single(group, "pids.max").filter(|n| *n != u64::MAX).unwrap_or(0);
        data["pids"] = json!({ "current": current, "limit": limit });
    }
    data
}

fn with_pressure(mut value: Value, psi: Option<Value>) -> Value {
    if let Some(psi) = psi {
        value["psi"] = psi;
    }
    value
}

fn cpu(group: &Group) -> Value {
    let stat = keyed(group, "cpu.stat");
    let value = json!({
        // The kernel counts microseconds, runc's readers expect nanoseconds.
        "usage": {
            "total": number(&stat, "usage_usec") * 1000,
            "kernel": number(&stat, "system_usec") * 1000,
            "user": number(&stat, "user_usec") * 1000,
        },
        "throttling": {
            "periods": number(&stat, "nr_periods"),
            "throttledPeriods": number(&stat, "nr_throttled"),
            "throttledTime": number(&stat, "throttled_usec") * 1000,
        },
    });
    with_pressure(value, pressure(group, "cpu.pressure"))
}

fn memory(group: &Group) -> Value {
    let raw = keyed(group, "memory.stat");
    let events = keyed(group, "memory.events");
    let entry = |limit: u64, usage: u64, max: u64, failcnt: u64| json!({ "limit": limit, "usage": usage, "max": max, "failcnt": failcnt });
    let limit = single(group, "memory.max").unwrap_or(0);
    let usage = single(group, "memory.current").unwrap_or(0);
    let swap_limit = single(group, "memory.swap.max").unwrap_or(0);
    let swap = single(group, "memory.swap.current").unwrap_or(0);
    let value = json!({
        "cache": number(&raw, "file"),
        "usage": entry(limit, usage, single(group, "memory.peak").unwrap_or(0), number(&events, "max")),
        // Memory and swap together, as cgroup v1 counted and readers expect.
        "swap": entry(limit.saturating_add(swap_limit), usage + swap, 0, 0),
        "kernel": entry(0, number(&raw, "kernel"), 0, 0),
        "kernelTCP": entry(0, number(&raw, "sock"), 0, 0),
        "raw": raw,
    });
    with_pressure(value, pressure(group, "memory.pressure"))
}

fn io(group: &Group) -> Value {
    let text = group.get("io.stat").unwrap_or_default();
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|d| d.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse::<u64>(), minor.parse::<u64>()) else { continue };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let Ok(value) = value.parse::<u64>() else { continue };
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "dbytes" => (&mut bytes, "Discard"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                "dios" => (&mut operations, "Discard"),
                _ => continue,
            };
            list.push(json!({ "major": major, "minor": minor, "op": op, "value": value }));
        }
    }
    let value = json!({ "ioServiceBytesRecursive": bytes, "ioServicedRecursive": operations });
    with_pressure(value, pressure(group, "io.pressure"))
}

fn hugetlb(group: &Group) -> Value {
    let mut all = Map::new();
    for name in group.files() {
        let Some(size) = name.strip_prefix("hugetlb.").and_then(|n| n.strip_suffix(".current")) else { continue };
        if size.contains('.') {
            continue;
        }
        let failures = number(&keyed(group, &format!("hugetlb.{size}.events")), "max");
        all.insert(size.to_owned(), json!({ "usage": single(group, &name).unwrap_or(0), "failcnt": failures }));
    }
    all.into()
}
