//! Read: where oci-spec says other than the specification.
//!
//! It fails the whole parse on a capability that it does not know, where the specification wants a warning, and it has
//! some names otherwise. Only a config that it could not read, or read in part, comes here.

use oci_spec::runtime::Capability;
use serde_json::Value;

/// Names of the specification, and those of oci-spec.
const FLAGS: [(&str, &str); 2] =
    [("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];
const RDT: [(&str, &str); 2] = [("enableCMT", "enableCmt"), ("enableMBM", "enableMbm")];

/// A config in words that oci-spec takes.
pub struct Mended {
    /// It, as JSON.
    pub text: Vec<u8>,
    /// The capabilities that were left out, as (field, name).
    pub capabilities: Vec<(String, String)>,
}

/// The same in oci-spec's words, `process` being the JSON pointer of the process in it; none where there is nothing to mend.
pub fn mend(bytes: &[u8], process: &str) -> Option<Mended> {
    let mut config: Value = serde_json::from_slice(bytes).ok()?;
    let mut lost = Vec::new();
    let mut mended = false;
    for (set, list) in
        config.pointer_mut(&format!("{process}/capabilities")).and_then(Value::as_object_mut).into_iter().flatten()
    {
        let Some(list) = list.as_array_mut() else { continue };
        list.retain(|name| match name {
            Value::String(text) if crate::json::from_value::<Capability>(name).is_err() => {
                lost.push((format!("process.capabilities.{set}"), text.clone()));
                false
            }
            // What is no string is an error of its own.
            _ => true,
        });
    }
    for flag in
        config.pointer_mut(&format!("{process}/scheduler/flags")).and_then(Value::as_array_mut).into_iter().flatten()
    {
        if let Some((_, ours)) = FLAGS.iter().find(|(theirs, _)| flag.as_str() == Some(theirs)) {
            *flag = (*ours).into();
            mended = true;
        }
    }
    // Everybody takes a process without a user for root's.
    if let Some(process) = config.pointer_mut(process).and_then(Value::as_object_mut)
        && !process.contains_key("user")
    {
        process.insert("user".into(), serde_json::json!({ "uid": 0, "gid": 0 }));
        mended = true;
    }
    if let Some(rdt) = config.pointer_mut("/linux/intelRdt").and_then(Value::as_object_mut) {
        for (theirs, ours) in RDT {
            if let Some(value) = rdt.remove(theirs) {
                rdt.insert(ours.into(), value);
                mended = true;
            }
        }
    }
    (mended || !lost.is_empty()).then(|| Mended { text: config.to_string().into_bytes(), capabilities: lost })
}

#[cfg(test)]
mod tests {
    use crate::bundle::parse;

    fn config(process: &str, linux: &str) -> String {
        format!(
            r#"{{"ociVersion":"1.0.2","process":{{"cwd":"/","args":["x"],"user":{{}}{process}}},"linux":{{{linux}}}}}"#
        )
    }

    #[test]
    fn a_process_without_a_user_is_roots() {
        let text = r#"{"ociVersion":"1.0.2","process":{"cwd":"/","args":["x"]}}"#;
        let (spec, _) = parse(text.as_bytes()).unwrap();
        let user = spec.process().as_ref().unwrap().user().clone();
        assert_eq!((user.uid(), user.gid()), (0, 0));
    }

    #[test]
    fn an_unknown_capability_is_noted_and_the_others_stay() {
        let text = config(r#","capabilities":{"bounding":["CAP_MOON","CAP_KILL"],"ambient":["X"]}"#, "");
        let (spec, unknown) = parse(text.as_bytes()).unwrap();
        let lost = [("ambient", "X"), ("bounding", "CAP_MOON")]
            .map(|(s, n)| (format!("process.capabilities.{s}"), n.to_owned()));
        assert_eq!(unknown.capabilities, lost);
        let caps = spec.process().as_ref().unwrap().capabilities().clone().unwrap();
        assert_eq!(caps.bounding().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn an_error_behind_what_is_mended_still_names_its_field_and_no_line() {
        let text = config(r#","capabilities":{"bounding":["CAP_MOON",7]}"#, "");
        let e = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(e.contains("process.capabilities.bounding[0]") && !e.contains(" line "), "{e}");
    }

    #[test]
    fn the_specifications_names_are_taken() {
        let text = config(
            r#","scheduler":{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_DL_OVERRUN"]}"#,
            r#""intelRdt":{"enableCMT":true}"#,
        );
        let (spec, unknown) = parse(text.as_bytes()).unwrap();
        assert!(unknown.fields.is_empty(), "{unknown:?}");
        let scheduler = spec.process().as_ref().unwrap().scheduler().clone().unwrap();
        assert_eq!(scheduler.flags().as_ref().unwrap().len(), 2);
        // Where nothing is misnamed, a wrong name is still an error.
        assert!(parse(text.replace("RESET_ON_FORK", "X").as_bytes()).is_err());
    }
}
