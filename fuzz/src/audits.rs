//! What must hold of an audit, whatever it is that is audited.

use super::checks::policy;
use serde_json::Value;
use std::path::Path;
use stockade::audit::config::{Subject, judge};
use stockade::audit::{Facts, Finding, Report, Status, fix, ruler};
use stockade::bundle;

/// A config.json, or what calls itself one: every row has its answer, in words that can be printed; what `--fix` makes of
/// it is answered the same again, and fails less.
pub fn audited(data: &[u8]) {
    let Ok(config) = serde_json::from_slice::<Value>(data) else { return };
    if !config.is_object() {
        return;
    }
    let ruler = ruler::ruler(policy("strict")).expect("a ruler");
    let facts = Facts { apparmor: data.len().is_multiple_of(2), ..Facts::default() };
    let ask = |config: &Value| -> Vec<Finding> {
        let read = bundle::parse(config.to_string().as_bytes()).map(|(_, unknown)| unknown);
        judge(&Subject::new(config, &read, Path::new("/bundle"), &facts, &ruler))
    };
    let findings = ask(&config);
    let failing = |findings: &[Finding]| findings.iter().filter(|f| f.status == Status::Fail).count();
    let before = failing(&findings);
    let report = Report { target: "/bundle".into(), policy: "strict".into(), findings };
    let shown = report.table();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "the table has control characters");
    let text = String::from_utf8_lossy(data);
    for value in [report.json(), report.sarif(Some(("/bundle/config.json", &text)))] {
        assert!(value.is_object() || value.is_array());
    }

    let fixed = fix::harden(&config, ask);
    let after = failing(&fixed.findings);
    assert!(after <= before, "{before} rows failed, and {after} after the fixes");
    assert!(fixed.changed.is_empty() || fixed.config != config, "changes that change nothing: {:?}", fixed.changed);
    assert_eq!(ask(&fixed.config), fixed.findings, "the findings are of another config");
    let again = fix::harden(&fixed.config, ask);
    assert_eq!(again.config, fixed.config, "mended once more it is another: {:?}", again.changed);
}
