//! Decide: where the secrets of the caller go.

use super::mounts::{labelled, normal};
use super::{Draft, Step};
use crate::error::{Error, Result};
use std::path::Path;

/// Where they are in the container.
pub const PLACE: &str = "/run/secrets";

/// The step, if there are any.
pub fn decide(draft: &mut Draft) -> Result<Option<Step>> {
    let files = draft.options.secrets.clone();
    if files.is_empty() {
        return Ok(None);
    }
    let mounts = draft.bundle.spec.mounts().clone().unwrap_or_default();
    if let Some(i) = mounts.iter().position(|m| normal(m.destination()).starts_with(Path::new(PLACE))) {
        let field = format!("mounts[{i}].destination");
        let shown = mounts[i].destination().display().to_string();
        return Err(Error::new("config.json", field, format!("{shown}: --secret puts its files there"))
            .hint("leave out the mount, or --secret"));
    }
    if files.iter().any(|f| f.swappable) {
        let given = "the runtime's copy of it may be swapped until the container is built";
        draft.find("host", "--secret", "memory that is not swapped", given, "RLIMIT_MEMLOCK of the caller is too low");
    }
    let user = draft.bundle.process();
    let options = labelled(draft, "ramfs", Vec::new());
    Ok(Some(Step::Secrets { files, uid: user.user().uid(), gid: user.user().gid(), options }))
}
