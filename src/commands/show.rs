//! `state`, `list`, `explain`: what can be seen without changing anything.

use crate::bundle::Bundle;
use crate::cli::{Explain, Global, List};
use crate::error::{Error, Result};
use crate::log::print;
use crate::plan::{self, Options};
use crate::policy::Policy;
use crate::state::{self, Store};

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::new("output", "JSON", e.to_string()))
}

/// `stockade state`.
pub fn state(global: &Global, id: &str) -> Result<i32> {
    let entry = Store::open(global.root.as_deref())?.entry(id)?;
    let (state, status) = entry.require()?;
    print(&(json(&state.to_oci(status))? + "\n")).map(|()| 0)
}

/// `stockade list`.
pub fn list(global: &Global, args: &List) -> Result<i32> {
    let store = Store::open(global.root.as_deref())?;
    let ids = match store.ids() {
        Ok(ids) => ids,
        // A default place that nobody has used yet is an empty list; a place that was named must be there.
        Err(e) if global.root.is_none() && e.errno() == Some(nix::errno::Errno::ENOENT) => Vec::new(),
        Err(e) => return Err(e),
    };
    if args.quiet {
        return print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>()).map(|()| 0);
    }
    let mut known = Vec::new();
    for id in &ids {
        // One that is deleted meanwhile, or not finished, is not there.
        if let Ok((state, status)) = store.entry(id).and_then(|e| e.require()) {
            known.push((state, status));
        }
    }
    if args.format == "json" {
        let all: Vec<_> = known.iter().map(|(s, status)| s.to_oci(*status)).collect();
        let line = serde_json::to_string(&all).map_err(|e| Error::new("output", "JSON", e.to_string()))?;
        return print(&(line + "\n")).map(|()| 0);
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from)];
    for (s, status) in &known {
        let pid = if *status == state::Status::Stopped { 0 } else { s.init.pid };
        rows.push([
            s.id.clone(),
            pid.to_string(),
            status.word().to_owned(),
            s.bundle.display().to_string(),
            s.created.clone(),
            s.owner.clone(),
        ]);
    }
    let width = |n: usize| rows.iter().map(|r| r[n].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    print(&rows.iter().map(line).collect::<String>()).map(|()| 0)
}

/// `stockade explain`.
pub fn explain(global: &Global, args: &Explain) -> Result<i32> {
    let bundle = Bundle::load_as(&args.bundle, &args.config)?;
    let policy = Policy::choose(global.policy.as_deref())?;
    explained(global, &bundle, &policy, Options { id: args.id.clone(), ..Options::default() }, args.json)
}

/// Plans without doing and prints it.
pub fn explained(global: &Global, bundle: &Bundle, policy: &Policy, own: Options, as_json: bool) -> Result<i32> {
    let id = own.id.as_str();
    state::check_id(id)?;
    let mut host = global.host()?;
    host.look_at(bundle);
    if plan::wants_ids(bundle, policy, &host) {
        host.ids.block = state::likely_ids(id)?;
    }
    let named = plan::named_ids(bundle, policy, &host);
    if !named.is_empty() {
        let own = Store::open(global.root.as_deref())?.path().join(id);
        host.ids.held = state::claims::overlaps(&own, &named);
    }
    let plan = plan::plan(bundle, policy, &host, &own)?;
    let text = match as_json {
        true => json(&plan::explain::json(&plan, &host))? + "\n",
        false => plan::explain::text(&plan, &host),
    };
    print(&text).map(|()| 0)
}
