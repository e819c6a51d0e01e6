//! `doctor`: what this host can enforce.

use crate::cli::{Doctor, Global};
use crate::doctor;
use crate::error::{Context, Error, Result};
use crate::log::print;
use crate::observe::machine;
use crate::state;

/// `stockade doctor`.
pub fn doctor(global: &Global, args: &Doctor) -> Result<i32> {
    let dir = args.dir.canonicalize().at("doctor", args.dir.display().to_string())?;
    if !dir.is_dir() {
        return Err(Error::new("doctor", dir.display().to_string(), "is not a directory")
            .hint("name the one in which bundles are"));
    }
    let mut host = global.host()?;
    if host.privileged() {
        // What the next container would get, by way of an example.
        host.ids.block = state::likely_ids("doctor")?;
    }
    let machine = machine::look(host, &dir)?;
    let rows = doctor::judge(&machine)?;
    let text = match args.json {
        true => {
            let value = doctor::json(&machine, &rows);
            serde_json::to_string_pretty(&value).map_err(|e| Error::new("output", "JSON", e.to_string()))? + "\n"
        }
        false => doctor::text(&rows),
    };
    print(&text)?;
    Ok(doctor::verdict(&rows).status())
}
