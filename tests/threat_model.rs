//! The pages about security tell the truth: each test that they name is there, and no claim is without one.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// What is in backticks and looks like `file::name` of a test.
fn named(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).filter(|w| w.contains("::") && !w.contains([' ', '('])).collect()
}

#[test]
fn every_test_that_is_named_is_there() {
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    for page in ["docs/threat-model.md", "docs/lsm.md", "SECURITY.md"] {
        for test in named(&read(page)) {
            let Some((file, name)) = test.split_once("::") else { continue };
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(format!("{file}.rs"));
            let text = files.entry(path.clone()).or_insert_with(|| std::fs::read_to_string(&path).unwrap_or_default());
            let declared = text.lines().zip(text.lines().skip(1)).any(|(above, line)| {
                above.trim_start().starts_with("#[") && line.trim_start().starts_with(&format!("fn {name}("))
            });
            if !declared {
                wrong.push(format!("{page}: no such test: {test}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_claim_has_a_test() {
    let page = read("docs/threat-model.md");
    let claims = page.split("## What is defended\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<&str> = claims.lines().filter(|l| l.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 20, "{}", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.split('|').collect();
        assert!(cells.len() == 5 && !named(cells[3]).is_empty() && !cells[2].trim().is_empty(), "{row}");
    }
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    for page in ["docs/threat-model.md", "docs/lsm.md", "SECURITY.md"] {
        let text = read(page);
        let dir = Path::new(page).parent().unwrap();
        for target in text.split("](").skip(1).filter_map(|t| t.split(')').next()).filter(|t| !t.contains("://")) {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir).join(target);
            assert!(path.exists(), "{page}: {target}");
        }
    }
}
